#include "workload/client.h"
#include "workload/wire.h"
#include "base/clock.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define RX_SIZE 4096       /* one locked page */
#define STEADY_MS 10000    /* a connection that served this long was a good one */

static int set_endpoint(struct wl_client *c, const char *endpoint, struct err *e)
{
    const char *path = endpoint;
    if (strncmp(path, "unix:", 5) == 0)
        path += strncmp(path, "unix://", 7) == 0 ? 7 : 5;
    c->addr.sun_family = AF_UNIX;
    if (path[0] != '/')
        return err_set(e, ERR_CONFIG, "endpoint",
                       "the Workload API's endpoint \"%s\" is no absolute path and no unix:///path", endpoint);
    if (strlen(path) >= sizeof c->addr.sun_path)
        return err_set(e, ERR_CONFIG, "endpoint", "the path of the Workload API's socket is too long: %s",
                       path);
    memcpy(c->addr.sun_path, path, strlen(path) + 1);
    return 0;
}

void client_break(struct wl_client *c, enum wl_status why, const struct err *e)
{
    if (c->broken)
        return; /* the first reason is the reason */
    c->broken = true;
    c->why = why;
    c->err = *e;
}

/* From 100 ms doubling to 3 s, or to 30 s when we were answered and refused, each cut by up to half at random, so that a
 * host's programs do not come back at once when its agent does. Counted apart: a refusal after a long absence is the
 * first one. */
static void retry_later(struct wl_client *c, enum wl_status why)
{
    bool away = why == WL_UNAVAILABLE;
    unsigned *n = away ? &c->failures : &c->refusals;
    uint64_t ms = away ? CLIENT_BACKOFF_MAX_MS : CLIENT_REFUSED_MAX_MS, r = 0;
    if (*n < 9 && (uint64_t)CLIENT_BACKOFF_MIN_MS << *n < ms)
        ms = (uint64_t)CLIENT_BACKOFF_MIN_MS << *n;
    if (getrandom(&r, sizeof r, GRND_NONBLOCK) == (ssize_t)sizeof r)
        ms -= r % (ms / 2);
    struct timeval tv = {.tv_sec = (time_t)(ms / 1000), .tv_usec = (suseconds_t)(ms % 1000 * 1000)};
    *n += *n < 16;
    evtimer_add(&c->retry, &tv);
}

static void disconnect(struct wl_client *c)
{
    if (c->fd >= 0) {
        event_del(&c->in);
        event_del(&c->out);
        close(c->fd);
        c->fd = -1;
    }
    nghttp2_session_del(c->h2);
    c->h2 = NULL;
    c->blocked = false;
    if (c->up_since && clock_mono_ms() - c->up_since >= STEADY_MS)
        c->failures = c->refusals = 0;
    c->up_since = 0;
}

/* The connection is no more: calls are told, the rest is dropped, and later it is tried again. What a
 * callback asks for meanwhile waits for the next connection. */
static void give_up(struct wl_client *c)
{
    struct err e = c->err;
    enum wl_status why = c->why;
    disconnect(c);
    c->broken = false;
    for (struct stream *s = c->streams, *next; s; s = next) {
        next = s->next;
        if (s->kind != STREAM_CALL)
            stream_free(s);
    }
    unsigned n = c->calls;
    while (n-- > 0 && c->streams) {
        struct stream *oldest = c->streams;
        while (oldest->next)
            oldest = oldest->next;
        stream_answer(oldest, why, &e);
    }
    if (!c->doomed)
        c->ops.trouble(c->ops.arg, why, &e);
    retry_later(c, why);
}

static void destroy(struct wl_client *c)
{
    disconnect(c);
    while (c->streams)
        stream_free(c->streams);
    if (event_initialized(&c->retry))
        event_del(&c->retry);
    wl_state_unref(c->x509);
    wl_bundles_unref(c->jwks);
    nghttp2_session_callbacks_del(c->callbacks);
    nghttp2_option_del(c->option);
    secret_free(&c->rx);
    free(c);
}

static void flush(struct wl_client *c)
{
    struct err e;
    c->blocked = false;
    if (nghttp2_session_send(c->h2) != 0) {
        err_set(&e, ERR_UNAVAILABLE, "workload-gone", "the Workload API's server hung up");
        client_break(c, WL_UNAVAILABLE, &e);
    } else if (!nghttp2_session_want_read(c->h2) && !nghttp2_session_want_write(c->h2)) {
        err_set(&e, ERR_UNAVAILABLE, "workload-http",
                "the Workload API's server ended the connection, or what answers there does not speak HTTP/2");
        client_break(c, WL_UNAVAILABLE, &e);
    } else if (c->blocked && c->fd >= 0) {
        event_add(&c->out, NULL);
    }
}

void client_settle(struct wl_client *c)
{
    c->busy = true;
    if (c->h2 && !c->broken && !c->doomed)
        flush(c);
    if (c->broken && !c->doomed)
        give_up(c);
    c->busy = false;
    if (c->doomed)
        destroy(c);
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    struct wl_client *c = arg;
    struct err e;
    c->busy = true;
    ssize_t n = recv((int)fd, c->rx.p, c->rx.cap, MSG_DONTWAIT);
    if (n > 0) {
        client_feed(c, c->rx.p, (size_t)n);
        secret_wipe(c->rx.p, (size_t)n);
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        err_set(&e, ERR_UNAVAILABLE, "workload-gone", "the Workload API's server hung up");
        client_break(c, WL_UNAVAILABLE, &e);
    }
    client_settle(c);
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
    client_settle(arg);
}

static int open_socket(struct wl_client *c, struct err *e)
{
    c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (c->fd < 0)
        return err_errno(e, "workload-connect", "cannot make a socket");
    event_assign(&c->in, c->base, c->fd, EV_READ | EV_PERSIST, on_readable, c);
    event_assign(&c->out, c->base, c->fd, EV_WRITE, on_writable, c);
    if (connect(c->fd, (struct sockaddr *)&c->addr, sizeof c->addr) < 0) {
        err_errno(e, "workload-connect",
                  "cannot connect to the Workload API at %s (is mayfly-agent running?)",
                  c->addr.sun_path);
        e->code = ERR_UNAVAILABLE;
        return -1;
    }
    return event_add(&c->in, NULL) < 0 ? err_set(e, ERR_INTERNAL, "event", "cannot watch a socket") : 0;
}

/* Everything anew: the connection, its streams, and the calls that wait. */
static int connect_now(struct wl_client *c, struct err *e)
{
    if (open_socket(c, e) < 0 || client_session(c, e) < 0)
        return -1;
    struct stream *waiting = c->streams, *s = stream_new(c, STREAM_X509);
    if (!s)
        return err_set(e, ERR_INTERNAL, "memory", "out of memory for the Workload API's client");
    if (stream_submit(s, e) < 0)
        return -1;
    if (c->jwt && (!(s = stream_new(c, STREAM_JWKS)) || stream_submit(s, e) < 0))
        return err_set(e, ERR_INTERNAL, "memory", "out of memory for the Workload API's client");
    for (s = waiting; s; s = s->next)
        if (stream_submit(s, e) < 0)
            return -1;
    return 0;
}

static void on_retry(evutil_socket_t fd, short what, void *arg)
{
    struct wl_client *c = arg;
    struct err e;
    if (c->h2)
        return;
    c->busy = true;
    if (connect_now(c, &e) < 0)
        client_break(c, WL_UNAVAILABLE, &e);
    client_settle(c);
}

struct wl_client *wl_client_new(struct event_base *base, const char *endpoint, bool jwt,
                                const struct wl_client_ops *ops,
                                struct err *e)
{
    struct wl_client *c = calloc(1, sizeof *c);
    if (!c) {
        err_set(e, ERR_INTERNAL, "memory", "out of memory for the Workload API's client");
        return NULL;
    }
    c->base = base;
    c->ops = *ops;
    c->jwt = jwt;
    c->fd = -1;
    if (set_endpoint(c, endpoint, e) < 0 || secret_new(&c->rx, RX_SIZE, e) < 0 ||
        client_callbacks(c, e) < 0) {
        destroy(c);
        return NULL;
    }
    evtimer_assign(&c->retry, base, on_retry, c);
    event_active(&c->retry, EV_TIMEOUT, 1);
    return c;
}

void wl_client_free(struct wl_client *c)
{
    if (!c)
        return;
    c->doomed = true;
    if (!c->busy)
        destroy(c);
}

/* --- what came -------------------------------------------------------------------------------------- */

/* With JWT keys, when both are there; the first state need not wait for them. */
static void tell(struct wl_client *c)
{
    struct err e;
    if (!c->x509)
        return;
    if (!c->jwks) {
        c->ops.state(c->ops.arg, c->x509);
        return;
    }
    struct wl_state *both = calloc(1, sizeof *both);
    struct wl_svid **svids = both ? calloc(c->x509->n, sizeof *svids) : NULL;
    if (!svids) {
        free(both);
        return;
    }
    both->refs = 1;
    both->svids = svids;
    for (; both->n < c->x509->n; both->n++)
        svids[both->n] = wl_svid_ref(c->x509->svids[both->n]);
    if ((both->bundles = parse_join(c->x509->bundles, c->jwks, &e)))
        c->ops.state(c->ops.arg, both);
    else
        client_break(c, WL_INTERNAL, &e);
    wl_state_unref(both);
}

void client_state(struct wl_client *c, struct wl_state *x509, struct wl_bundles *jwks)
{
    if (!c->up_since)
        c->up_since = clock_mono_ms();
    if (jwks) {
        wl_bundles_unref(c->jwks);
        c->jwks = jwks;
    } else {
        wl_state_unref(c->x509);
        c->x509 = x509;
    }
    if (!c->doomed)
        tell(c);
    if (!c->jwt) { /* its keys are the user's to keep */
        wl_state_unref(c->x509);
        c->x509 = NULL;
    }
}

/* --- calls ------------------------------------------------------------------------------------------ */

static void on_call_timeout(evutil_socket_t fd, short what, void *arg)
{
    struct stream *s = arg;
    struct wl_client *c = s->c;
    struct err e;
    err_set(&e, ERR_UNAVAILABLE, "workload-deadline", "the Workload API gave no answer within %d s",
            CLIENT_CALL_S);
    c->busy = true;
    if (s->id && c->h2) {
        nghttp2_session_set_stream_user_data(c->h2, s->id, NULL);
        nghttp2_submit_rst_stream(c->h2, NGHTTP2_FLAG_NONE, s->id, NGHTTP2_CANCEL);
    }
    stream_answer(s, WL_DEADLINE_EXCEEDED, &e);
    client_settle(c);
}

static int make_request(struct buf *out, const char *const *audience, size_t n, const char *spiffe_id)
{
    uint8_t prefix[GRPC_PREFIX] = {0};
    buf_put(out, prefix, sizeof prefix);
    for (size_t i = 0; i < n; i++)
        wire_put(out, 1, audience[i], strlen(audience[i]));
    if (spiffe_id && *spiffe_id)
        wire_put(out, 2, spiffe_id, strlen(spiffe_id));
    if (out->failed)
        return -1;
    grpc_prefix(out->p, out->len - GRPC_PREFIX);
    return 0;
}

int wl_client_jwt(struct wl_client *c, const char *const *audience, size_t n, const char *spiffe_id,
                  wl_client_jwt_cb *cb, void *arg, struct err *e)
{
    struct timeval limit = {.tv_sec = CLIENT_CALL_S};
    if (n == 0 || n > LIMIT_AUDIENCES)
        return err_set(e, ERR_USAGE, "audience", "a JWT-SVID is for 1 to %d audiences", LIMIT_AUDIENCES);
    if (c->calls >= LIMIT_JWTS)
        return err_set(e, ERR_RATE, "workload-calls", "%d calls of the Workload API wait already",
                       LIMIT_JWTS);
    struct stream *s = stream_new(c, STREAM_CALL);
    if (!s)
        return err_set(e, ERR_INTERNAL, "memory", "out of memory for a call of the Workload API");
    s->cb = cb;
    s->arg = arg;
    if (make_request(&s->out, audience, n, spiffe_id) < 0) {
        stream_free(s);
        return err_set(e, ERR_TOO_LARGE, "audience", "the audiences are too long for one request");
    }
    evtimer_assign(&s->timer, c->base, on_call_timeout, s);
    evtimer_add(&s->timer, &limit);
    if (c->h2 && !c->broken) {
        if (stream_submit(s, e) < 0) {
            stream_free(s);
            return -1;
        }
        if (!c->busy)
            event_active(&c->out, EV_WRITE, 1);
    } else if (!c->busy) {
        event_active(&c->retry, EV_TIMEOUT, 1); /* somebody waits: no time for backoff */
    }
    return 0;
}
