/* An agent for the proxy's tests: the Workload API on DIR/server.sock and DIR/client.sock, an authority of its own, and
 * rotations: proxy_agent DIR INTERVAL-MS COUNT. Each rotation is a new key and certificate for both; every fiftieth has
 * a new issuing certificate too. They begin, and go on, while somebody watches both sockets. Writes DIR/rotated when
 * they are over. */
#include "tests/proxykit/kit.h"
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#define CALLS_MAX 64

struct one { /* socket */
    const char *id;
    struct wl_state *state;
    struct wl_server *server;
    struct wl_call *calls[CALLS_MAX];
};
static struct kit kit;
static struct one ones[2] = {{.id = "spiffe://example.org/server"}, {.id = "spiffe://example.org/client"}};
static const char *dir;
static long left, made;

static void *on_connect(void *arg, int fd)
{
    return arg;
}
static void on_disconnect(void *arg, void *caller)
{
}
static void on_watch(void *arg, void *caller, struct wl_call *c)
{
    struct one *o = arg;
    for (int i = 0; i < CALLS_MAX; i++)
        if (!o->calls[i]) {
            o->calls[i] = c;
            wl_call_state(c, o->state);
            return;
        }
    wl_call_fail(c, WL_RESOURCE_EXHAUSTED, "too many");
}
static void on_jwt(void *arg, void *caller, struct wl_call *c, const char *const *audience, size_t n, const char *id)
{
    wl_call_fail(c, WL_UNIMPLEMENTED, "not here");
}
static void on_validate(void *arg, void *caller, struct wl_call *c, const char *audience, const char *svid)
{
    wl_call_fail(c, WL_UNIMPLEMENTED, "not here");
}
static void on_cancel(void *arg, void *caller, struct wl_call *c)
{
    struct one *o = arg;
    for (int i = 0; i < CALLS_MAX; i++)
        if (o->calls[i] == c)
            o->calls[i] = NULL;
}

static void renew(struct one *o)
{
    struct kit_id i;
    kit_make(&i, &kit, &(struct kit_leaf){.id = o->id, .serial = (uint64_t)7 << 48 | 2});
    struct wl_state *s = kit_state(&kit, &i);
    kit_id_free(&i);
    wl_state_unref(o->state);
    o->state = s;
    for (int k = 0; k < CALLS_MAX; k++)
        if (o->calls[k])
            wl_call_state(o->calls[k], s);
}

static bool watched(const struct one *o)
{
    for (int i = 0; i < CALLS_MAX; i++)
        if (o->calls[i])
            return true;
    return false;
}

static void on_tick(int fd, short what, void *arg)
{
    char path[4096];
    if (left <= 0 || !watched(&ones[0]) || !watched(&ones[1]))
        return;
    if (++made % 50 == 0)
        kit_issuing(&kit);
    renew(&ones[0]);
    renew(&ones[1]);
    if (--left > 0)
        return;
    snprintf(path, sizeof path, "%s/rotated", dir);
    FILE *f = fopen(path, "w");
    if (f)
        fclose(f);
}

int main(int argc, char **argv)
{
    struct err e = {0};
    if (argc != 4)
        return 2;
    dir = argv[1];
    left = atol(argv[3]);
    struct event_base *base = event_base_new();
    kit_new(&kit, "example.org");
    for (int i = 0; i < 2; i++) {
        char path[4096];
        const struct wl_provider p = {.arg = &ones[i], .connect = on_connect, .disconnect = on_disconnect, .watch = on_watch,
                                      .jwt = on_jwt, .validate = on_validate, .cancel = on_cancel};
        snprintf(path, sizeof path, "%s/%s.sock", dir, i ? "client" : "server");
        renew(&ones[i]);
        int fd = wl_socket_listen(path, 0600, &e);
        ones[i].server = fd < 0 ? NULL : wl_server_new(base, fd, &p, NULL, &e);
        if (!ones[i].server) {
            fprintf(stderr, "proxy_agent: %s\n", e.msg);
            return 1;
        }
    }
    long ms = atol(argv[2]);
    const struct timeval every = {ms / 1000, ms % 1000 * 1000};
    struct event *tick = event_new(base, -1, EV_PERSIST, on_tick, NULL);
    event_add(tick, &every);
    event_base_dispatch(base);
    return 0;
}
