/* A client of HTTP/2 made of nghttp2, wired to a connection of the server without any socket: what one says
 * the other is fed. The way back has a budget, so that writes fall short wherever a test wants.
 */
#ifndef UNIT_WORKLOAD_H2_H
#define UNIT_WORKLOAD_H2_H
#include "unit/workload/fake.h"
#include "workload/internal.h"
#include "workload/pb.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

struct answer { /* of a stream */
    char http[4], message[600];
    int status; /* -1: none yet */
    struct buf data;
    bool ended, reset;
};
struct ask {
    const char *path, *type, *te, *meta, *timeout, *method;
    const uint8_t *body;
    size_t len;
    bool open; /* not ended */
};
#define STREAMS 256
static struct h2 {
    struct event_base *base;
    struct wl_server *s;
    struct conn *c; /* NULL: gone */
    nghttp2_session *h2;
    struct answer a[STREAMS];
    struct buf wire;    /* what the server wrote and the client has yet to see */
    size_t budget, piece; /* bytes the server may still write; at most that many at once */
    struct { const uint8_t *p; size_t n; bool open; } body[STREAMS];
    /* provider */
    unsigned connects, disconnects, asked, cancelled;
    struct wl_call *last;
    bool refuse;
} t;

static ssize_t h2_write(int fd, const struct iovec *v, int n)
{
    size_t done = 0;
    for (int i = 0; i < n; i++)
        for (size_t j = 0; j < v[i].iov_len && t.budget > 0 && done < t.piece; j++, done++, t.budget--)
            buf_u8(&t.wire, ((const uint8_t *)v[i].iov_base)[j]);
    if (done == 0) {
        errno = EAGAIN;
        return -1;
    }
    return (ssize_t)done;
}

/* --- the provider: remembers, and lets the test answer ---------------------------------------------- */
static void *h2_connect(void *arg, int fd)
{
    t.connects += !t.refuse;
    return t.refuse ? NULL : &t;
}
static void h2_disconnect(void *arg, void *caller)
{
    assert_int_equal(t.asked, t.cancelled);
    t.disconnects++;
}
static void h2_watch(void *arg, void *caller, struct wl_call *c)
{
    assert_ptr_equal(caller, &t);
    t.asked++;
    t.last = c;
}
static void h2_jwt(void *arg, void *caller, struct wl_call *c, const char *const *audience, size_t n,
                   const char *id)
{
    t.asked++;
    t.last = c;
}
static void h2_validate(void *arg, void *caller, struct wl_call *c, const char *audience, const char *svid)
{
    t.asked++;
    t.last = c;
}
static void h2_cancel(void *arg, void *caller, struct wl_call *c)
{
    t.cancelled++;
    if (t.last == c)
        t.last = NULL;
}
static const struct wl_provider h2_provider = {NULL, h2_connect, h2_disconnect, h2_watch, h2_jwt, h2_validate,
                                               h2_cancel};

/* --- the client ------------------------------------------------------------------------------------- */
static int h2_on_header(nghttp2_session *h2, const nghttp2_frame *f, const uint8_t *n, size_t nl,
                        const uint8_t *v,
                        size_t vl, uint8_t flags, void *arg)
{
    struct answer *a = &t.a[f->hd.stream_id % STREAMS];
    if (nl == 7 && memcmp(n, ":status", 7) == 0)
        snprintf(a->http, sizeof a->http, "%.*s", (int)vl, (const char *)v);
    if (nl == 11 && memcmp(n, "grpc-status", 11) == 0)
        a->status = atoi((const char *)v);
    if (nl == 12 && memcmp(n, "grpc-message", 12) == 0)
        grpc_unescape(a->message, sizeof a->message, v, vl);
    return 0;
}
static int h2_on_data(nghttp2_session *h2, uint8_t flags, int32_t id, const uint8_t *p, size_t n, void *arg)
{
    buf_put(&t.a[id % STREAMS].data, p, n);
    return 0;
}
static int h2_on_close(nghttp2_session *h2, int32_t id, uint32_t error, void *arg)
{
    t.a[id % STREAMS].ended = true;
    t.a[id % STREAMS].reset = error != 0;
    return 0;
}
static ssize_t h2_read(nghttp2_session *h2, int32_t id, uint8_t *p, size_t length, uint32_t *flags,
                       nghttp2_data_source *source, void *arg)
{
    size_t n = t.body[id % STREAMS].n;
    if (n == 0 && t.body[id % STREAMS].open)
        return NGHTTP2_ERR_DEFERRED;
    if (n > length)
        n = length;
    if (n)
        memcpy(p, t.body[id % STREAMS].p, n);
    t.body[id % STREAMS].p += n;
    t.body[id % STREAMS].n -= n;
    if (t.body[id % STREAMS].n == 0 && !t.body[id % STREAMS].open)
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    return (ssize_t)n;
}

static void h2_client(void)
{
    nghttp2_session_callbacks *cb;
    nghttp2_session_callbacks_new(&cb);
    nghttp2_session_callbacks_set_on_header_callback(cb, h2_on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, h2_on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(cb, h2_on_close);
    assert_int_equal(nghttp2_session_client_new(&t.h2, cb, NULL), 0);
    nghttp2_session_callbacks_del(cb);
    nghttp2_settings_entry push = {NGHTTP2_SETTINGS_ENABLE_PUSH, 0};
    assert_int_equal(nghttp2_submit_settings(t.h2, 0, &push, 1), 0);
}

static void h2_open(const struct wl_limits *l)
{
    struct err e;
    memset(&t, 0, sizeof t);
    t.base = event_base_new();
    t.budget = t.piece = SIZE_MAX;
    buf_init(&t.wire, 64 << 20);
    for (int i = 0; i < STREAMS; i++) {
        buf_init(&t.a[i].data, 64 << 20);
        t.a[i].status = -1;
    }
    t.s = server_make(t.base, &h2_provider, l, &e);
    assert_non_null(t.s);
    t.s->write = h2_write;
    t.c = conn_new(t.s, -1, 1000);
    assert_non_null(t.c);
    h2_client();
}

/* Both sides talk until neither has anything to say. False: the connection is gone. */
static bool h2_pump(void)
{
    for (bool more = true; more && t.c;) {
        const uint8_t *p;
        more = false;
        for (ssize_t n; t.c && (n = nghttp2_session_mem_send(t.h2, &p)) > 0; more = true)
            conn_feed(t.c, p, (size_t)n);
        if (t.c && !conn_settle(t.c))
            t.c = NULL;
        if (t.wire.len) {
            assert_int_equal(nghttp2_session_mem_recv(t.h2, t.wire.p, t.wire.len), t.wire.len);
            buf_reset(&t.wire);
            more = true;
        }
    }
    return t.c != NULL;
}

static void h2_close(void)
{
    wl_server_free(t.s);
    assert_int_equal(t.connects, t.disconnects);
    assert_int_equal(t.asked, t.cancelled);
    nghttp2_session_del(t.h2);
    for (int i = 0; i < STREAMS; i++)
        buf_free(&t.a[i].data);
    buf_free(&t.wire);
    event_base_free(t.base);
}

#define H2_NV(n, v) {(uint8_t *)(n), (uint8_t *)(v), strlen(n), strlen(v), 0}
static int32_t h2_ask(struct ask q)
{
    char name[8][32] = {":method", ":path", ":scheme", ":authority", "content-type", "te",
                        "workload.spiffe.io", "grpc-timeout"};
    char value[8][256];
    const char *v[8] = {q.method ? q.method : "POST", q.path, "http", "localhost",
                        q.type ? q.type : "application/grpc",
                        q.te ? q.te : "trailers", q.meta ? q.meta : "true", q.timeout ? q.timeout : ""};
    nghttp2_nv nv[8];
    size_t n = 0;
    for (int i = 0; i < 8; i++) {
        snprintf(value[i], sizeof value[i], "%s", v[i]);
        if (v[i][0])
            nv[n++] = (nghttp2_nv)H2_NV(name[i], value[i]);
    }
    static const uint8_t empty[GRPC_PREFIX];
    nghttp2_data_provider body = {.read_callback = h2_read};
    int32_t id = nghttp2_submit_request(t.h2, NULL, nv, n, &body, NULL);
    assert_true(id > 0 && id < STREAMS);
    t.body[id].p = q.body ? q.body : empty;
    t.body[id].n = q.body || q.len ? q.len : sizeof empty;
    t.body[id].open = q.open;
    h2_pump();
    return id;
}
static inline void h2_more(int32_t id, const void *p, size_t n, bool end)
{
    t.body[id].p = p;
    t.body[id].n = n;
    t.body[id].open = !end;
    nghttp2_session_resume_data(t.h2, id);
    h2_pump();
}

/* How many whole messages a stream got; the last one in *out. */
static size_t h2_messages(int32_t id, struct bytes *out)
{
    struct cur c = cur_of(t.a[id].data.p, t.a[id].data.len);
    size_t n = 0;
    *out = (struct bytes){0};
    while (cur_left(&c)) {
        uint8_t flag;
        uint32_t len;
        if (cur_u8(&c, &flag) < 0 || cur_u32(&c, &len) < 0 || cur_take(&c, len, out) < 0)
            break;
        assert_int_equal(flag, 0);
        n++;
    }
    return n;
}

#define API "/SpiffeWorkloadAPI/"
#define SDS "/envoy.service.secret.v3.SecretDiscoveryService/"
#endif
