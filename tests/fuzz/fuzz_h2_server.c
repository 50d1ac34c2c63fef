/* A whole connection of a client, fed to the server without a socket: HTTP/2, gRPC, requests. The provider
 * answers at once. First byte: how writes fall short, and whether the rest comes at once or in pieces;
 * whether the preface is given.
 */
#include "workload/internal.h"
#include "base/secmem.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static struct wl_server *server;
static struct wl_state *some, *nobody;
static size_t budget, piece;
static unsigned asked, cancelled;

static ssize_t on_write(int fd, const struct iovec *v, int n)
{
    size_t total = 0;
    for (int i = 0; i < n; i++)
        total += v[i].iov_len;
    if (total > piece)
        total = piece;
    if (total > budget)
        total = budget;
    if (total == 0) {
        errno = EAGAIN;
        return -1;
    }
    budget -= total;
    return (ssize_t)total;
}

static void *on_connect(void *arg, int fd)
{
    return &server;
}
static void on_disconnect(void *arg, void *caller)
{
    if (asked != cancelled)
        abort(); /* each call is cancelled exactly once */
}
static void on_watch(void *arg, void *caller, struct wl_call *c)
{
    asked++;
    wl_call_state(c, asked % 8 == 7 ? nobody : some);
}
static void on_jwt(void *arg, void *caller, struct wl_call *c, const char *const *audience, size_t n,
                   const char *id)
{
    char text[] = "a.b.c", name[] = "spiffe://test.example/web";
    struct wl_jwt j = {name, text, NULL};
    asked++;
    if (n == 0 || !audience[0][0])
        abort();
    wl_call_jwt(c, &j, 1);
}
static void on_validate(void *arg, void *caller, struct wl_call *c, const char *audience, const char *svid)
{
    asked++;
    if (!*audience || !*svid)
        abort();
    wl_call_claims(c, "spiffe://test.example/web", svid, strlen(svid)); /* hostile JSON besides */
}
static void on_cancel(void *arg, void *caller, struct wl_call *c)
{
    cancelled++;
}

static struct wl_state *make_state(size_t n)
{
    static const uint8_t der[] = {0x30, 3, 2, 1, 5};
    struct wl_state *s = calloc(1, sizeof *s);
    struct err e;
    s->refs = 1;
    s->svids = calloc(n + 1, sizeof *s->svids);
    for (; s->n < n; s->n++) {
        struct wl_svid *v = s->svids[s->n] = calloc(1, sizeof *v);
        v->refs = 1;
        v->spiffe_id = strdup("spiffe://test.example/web");
        v->hint = strdup("");
        v->chain = malloc(v->chain_len = sizeof der);
        memcpy(v->chain, der, sizeof der);
        if (secret_new(&v->key, sizeof der, &e) < 0)
            abort();
        memcpy(v->key.p, der, v->key.len = sizeof der);
    }
    s->bundles = calloc(1, sizeof *s->bundles);
    s->bundles->refs = 1;
    s->bundles->n = 1;
    s->bundles->list = calloc(1, sizeof *s->bundles->list);
    s->bundles->list[0].trust_domain = strdup("test.example");
    buf_init(&s->bundles->list[0].x509, 64);
    buf_put(&s->bundles->list[0].x509, der, sizeof der);
    buf_init(&s->bundles->list[0].jwks, 64);
    buf_str(&s->bundles->list[0].jwks, "{}");
    return s;
}

static void setup(void)
{
    static const struct wl_provider p = {NULL, on_connect, on_disconnect, on_watch, on_jwt, on_validate,
                                         on_cancel};
    struct err e;
    some = make_state(1);
    nobody = make_state(0);
    server = server_make(event_base_new(), &p, NULL, &e);
    if (!server)
        abort();
    server->write = on_write;
}

/* False: the connection is gone. */
static bool turn(struct conn *c, const uint8_t *p, size_t n)
{
    budget = piece == SIZE_MAX ? SIZE_MAX : 64;
    conn_feed(c, p, n);
    if (!conn_settle(c))
        return false;
    if (c->memory > LIMIT_SESSION_MEMORY || server->scratch.used || server->scratch.owner)
        abort();
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const uint8_t hello[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
    if (!server)
        setup();
    if (len == 0)
        return 0;
    piece = data[0] & 1 ? 1 + (size_t)(data[0] >> 3) : SIZE_MAX;
    /* Of large inputs in larger pieces: an answer may be made again in each turn, and 512 are enough. */
    size_t step = data[0] & 2 ? 1 + (size_t)(data[0] >> 2) + len / 512 : SIZE_MAX;
    struct conn *c = conn_new(server, -1, 0);
    if (!c)
        abort();
    bool lives = !(data[0] & 4) || turn(c, hello, sizeof hello - 1);
    for (size_t at = 1, n; lives && at < len; at += n) {
        n = len - at < step ? len - at : step;
        lives = turn(c, data + at, n);
    }
    if (lives)
        conn_free(c);
    struct wl_stats stats;
    wl_server_stats(server, &stats);
    if (asked != cancelled || stats.open_calls || stats.open_connections || server->users)
        abort();
    if (some->refs != 1 || nobody->refs != 1)
        abort(); /* a state that somebody holds for good is a key that never goes */
    event_base_loop(server->base, EVLOOP_NONBLOCK);
    return 0;
}
