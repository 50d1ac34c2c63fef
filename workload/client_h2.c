#include "workload/client.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- streams ---------------------------------------------------------------------------------------- */

struct stream *stream_new(struct wl_client *c, enum stream_kind kind)
{
    struct stream *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->c = c;
    s->kind = kind;
    s->status = -1;
    buf_init(&s->out, LIMIT_MESSAGE);
    if (kind == STREAM_CALL)
        c->calls++;
    else
        buf_put(&s->out, "\0\0\0\0", GRPC_PREFIX); /* an empty message */
    s->prev = &c->streams;
    if ((s->next = c->streams))
        s->next->prev = &s->next;
    c->streams = s;
    return s;
}

void stream_free(struct stream *s)
{
    if (s->kind == STREAM_CALL) {
        s->c->calls--;
        if (event_initialized(&s->timer))
            event_del(&s->timer);
    }
    *s->prev = s->next;
    if (s->next)
        s->next->prev = s->prev;
    buf_free(&s->out);
    secret_free(&s->msg);
    jwt_list_free(&s->answer);
    free(s);
}

void stream_answer(struct stream *s, enum wl_status status, const struct err *e)
{
    struct wl_client *c = s->c;
    struct jwt_list answer = s->answer;
    wl_client_jwt_cb *cb = s->cb;
    void *arg = s->arg;
    s->answer = (struct jwt_list){0};
    stream_free(s); /* first: the callback may ask again */
    if (!c->doomed)
        cb(arg, answer.list, status == WL_OK ? answer.n : 0, status, e);
    jwt_list_free(&answer);
}

static ssize_t on_request_read(nghttp2_session *h2, int32_t stream, uint8_t *p, size_t length,
                               uint32_t *flags,
                               nghttp2_data_source *source, void *arg)
{
    struct stream *s = nghttp2_session_get_stream_user_data(h2, stream);
    if (!s)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    size_t n = s->out.len - s->out_off;
    if (n > length)
        n = length;
    memcpy(p, s->out.p + s->out_off, n);
    if ((s->out_off += n) == s->out.len)
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    return (ssize_t)n;
}

#define NV(n, v) {(uint8_t *)(n), (uint8_t *)(v), sizeof(n) - 1, sizeof(v) - 1, NGHTTP2_NV_FLAG_NONE}

int stream_submit(struct stream *s, struct err *e)
{
    static char method[] = ":method", post[] = "POST", scheme[] = ":scheme", http[] = "http", path[] = ":path",
                authority[] = ":authority", localhost[] = "localhost", te[] = "te", trailers[] = "trailers",
                type[] = "content-type", grpc[] = "application/grpc", agent[] = "user-agent",
                version[] = "mayfly/" MAYFLY_VERSION, meta[] = "workload.spiffe.io", yes[] = "true";
    static char x509[] = "/SpiffeWorkloadAPI/FetchX509SVID", jwks[] = "/SpiffeWorkloadAPI/FetchJWTBundles",
                jwt[] = "/SpiffeWorkloadAPI/FetchJWTSVID";
    nghttp2_nv nv[] = {NV(method, post), NV(scheme, http),  NV(path, x509),     NV(authority, localhost),
                       NV(type, grpc),
                       NV(te, trailers), NV(agent, version), NV(meta, yes)};
    if (s->kind == STREAM_JWKS)
        nv[2] = (nghttp2_nv)NV(path, jwks);
    if (s->kind == STREAM_CALL)
        nv[2] = (nghttp2_nv)NV(path, jwt);
    nghttp2_data_provider body = {.read_callback = on_request_read};
    int32_t id = nghttp2_submit_request(s->c->h2, NULL, nv, sizeof nv / sizeof *nv, &body, s);
    if (id < 0)
        return err_set(e, ERR_UNAVAILABLE, "workload-http", "cannot ask the Workload API: %s",
                       nghttp2_strerror(id));
    s->id = id;
    return 0;
}

/* --- answers ---------------------------------------------------------------------------------------- */

static void refuse(struct stream *s, const char *what)
{
    struct err e;
    err_set(&e, ERR_MALFORMED, "workload-answer", "the Workload API's answer is refused: %s", what);
    client_break(s->c, WL_INTERNAL, &e);
}

/* A message is whole. It is read where it lies, then wiped. */
static void take_message(struct stream *s)
{
    struct wl_client *c = s->c;
    struct bytes msg = {s->msg.p, s->msg.len};
    struct err e;
    int r = 0;
    if (s->kind == STREAM_CALL) {
        r = s->whole ? err_set(&e, ERR_MALFORMED, "workload-answer", "the Workload API answers twice")
                     : parse_jwt(&s->answer, msg, &e);
        s->whole = true;
    } else if (s->kind == STREAM_X509) {
        struct wl_state *st = parse_x509(msg, &e);
        if (st)
            client_state(c, st, NULL);
        r = st ? 0 : -1;
    } else {
        struct wl_bundles *b = parse_jwt_bundles(msg, &e);
        if (b)
            client_state(c, NULL, b);
        r = b ? 0 : -1;
    }
    secret_free(&s->msg);
    s->prefix_len = 0;
    if (r < 0)
        client_break(c, WL_INTERNAL, &e);
}

/* The prefix is whole: room for the message, in locked memory. */
static int begin_message(struct stream *s)
{
    struct cur in = cur_of(s->prefix + 1, GRPC_PREFIX - 1);
    uint32_t want = 0;
    struct err e;
    cur_u32(&in, &want);
    if (s->prefix[0] != 0 || want > LIMIT_CLIENT_MESSAGE) {
        refuse(s, s->prefix[0] ? "it is compressed" : "it is too large");
        return -1;
    }
    if (want && secret_new(&s->msg, want, &e) < 0) {
        client_break(s->c, WL_RESOURCE_EXHAUSTED, &e);
        return -1;
    }
    return 0;
}

static int on_data(nghttp2_session *h2, uint8_t flags, int32_t stream, const uint8_t *p, size_t n, void *arg)
{
    struct stream *s = nghttp2_session_get_stream_user_data(h2, stream);
    if (s && (!s->http_ok || !s->grpc_ok))
        refuse(s, "it is no gRPC");
    while (s && n > 0 && !s->c->broken && !s->c->doomed) {
        if (s->prefix_len < GRPC_PREFIX) {
            s->prefix[s->prefix_len++] = *p++;
            n--;
            if (s->prefix_len < GRPC_PREFIX)
                continue;
            if (begin_message(s) < 0)
                break;
        }
        size_t part = s->msg.cap - s->msg.len;
        if (part > n)
            part = n;
        if (part > 0)
            memcpy(s->msg.p + s->msg.len, p, part);
        s->msg.len += part;
        p += part;
        n -= part;
        if (s->msg.len == s->msg.cap)
            take_message(s);
    }
    return 0;
}

static int on_header(nghttp2_session *h2, const nghttp2_frame *f, const uint8_t *name, size_t name_len,
                     const uint8_t *value, size_t value_len, uint8_t flags, void *arg)
{
    struct stream *s = nghttp2_session_get_stream_user_data(h2, f->hd.stream_id);
    struct bytes n = {name, name_len}, v = {value, value_len};
    if (!s)
        return 0;
    if (bytes_eq_str(n, ":status"))
        s->http_ok = bytes_eq_str(v, "200");
    else if (bytes_eq_str(n, "content-type"))
        s->grpc_ok = v.len >= 16 && memcmp(v.p, "application/grpc", 16) == 0;
    else if (bytes_eq_str(n, "grpc-message"))
        grpc_unescape(s->message, sizeof s->message, value, value_len);
    else if (bytes_eq_str(n, "grpc-status"))
        s->status = v.len == 1 && v.p[0] >= '0' && v.p[0] <= '9'   ? v.p[0] - '0'
                    : v.len == 2 && v.p[0] == '1' && v.p[1] >= '0' && v.p[1] <= '6' ? 10 + v.p[1] - '0'
                                                                                    : WL_UNKNOWN;
    return 0;
}

static enum err_code code_of(enum wl_status status)
{
    return status == WL_PERMISSION_DENIED || status == WL_UNAUTHENTICATED ? ERR_UNAUTHORIZED
           : status == WL_INVALID_ARGUMENT                                ? ERR_MALFORMED
           : status == WL_NOT_FOUND                                       ? ERR_NOT_FOUND
                                                                          : ERR_UNAVAILABLE;
}

/* Our two streams have no end but a broken one; what ends them, or a call, is its status. */
static int on_stream_close(nghttp2_session *h2, int32_t stream, uint32_t error, void *arg)
{
    struct wl_client *c = arg;
    struct stream *s = nghttp2_session_get_stream_user_data(h2, stream);
    struct err e = {0};
    if (!s)
        return 0;
    enum wl_status status = s->status < 0 || !s->http_ok ? WL_UNAVAILABLE : (enum wl_status)s->status;
    if (status == WL_OK && !(s->kind == STREAM_CALL && s->whole))
        status = WL_UNAVAILABLE;
    if (status != WL_OK && s->status < 0)
        err_set(&e, ERR_UNAVAILABLE, "workload-status", "the Workload API broke off without a status");
    else if (status != WL_OK)
        err_set(&e, code_of(status), "workload-status", "the Workload API answers with status %u%s%s",
                (unsigned)status,
                s->message[0] ? ": " : ", without saying why", s->message);
    if (c->broken) { /* whatever it says now: its answer was no good */
        status = c->why;
        e = c->err;
    }
    nghttp2_session_set_stream_user_data(h2, stream, NULL);
    if (s->kind == STREAM_CALL) {
        stream_answer(s, status, &e);
        return 0;
    }
    if (s->kind == STREAM_X509 || status != WL_UNIMPLEMENTED) /* JWT need not be on offer */
        client_break(c, status, &e);
    stream_free(s);
    return 0;
}

static ssize_t on_send(nghttp2_session *h2, const uint8_t *p, size_t n, int flags, void *arg)
{
    struct wl_client *c = arg;
    if (c->fd < 0)
        return (ssize_t)n; /* fuzzing */
    ssize_t r = send(c->fd, p, n, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (r >= 0)
        return r;
    if (errno != EAGAIN && errno != EINTR)
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    c->blocked = true;
    return NGHTTP2_ERR_WOULDBLOCK;
}

int client_callbacks(struct wl_client *c, struct err *e)
{
    if (nghttp2_session_callbacks_new(&c->callbacks) != 0 || nghttp2_option_new(&c->option) != 0)
        return err_set(e, ERR_INTERNAL, "memory", "out of memory for HTTP/2");
    nghttp2_session_callbacks_set_send_callback(c->callbacks, on_send);
    nghttp2_session_callbacks_set_on_header_callback(c->callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(c->callbacks, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(c->callbacks, on_stream_close);
    nghttp2_option_set_no_closed_streams(c->option, 1);
    nghttp2_option_set_max_deflate_dynamic_table_size(c->option, 0);
    nghttp2_option_set_max_settings(c->option, LIMIT_SETTINGS);
    nghttp2_option_set_max_outbound_ack(c->option, LIMIT_OUTBOUND_ACKS);
    return 0;
}

int client_session(struct wl_client *c, struct err *e)
{
    nghttp2_settings_entry v[] = {
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
        {NGHTTP2_SETTINGS_HEADER_TABLE_SIZE, 0},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, LIMIT_HEADERS},
    };
    if (nghttp2_session_client_new2(&c->h2, c->callbacks, c, c->option) != 0 ||
        nghttp2_submit_settings(c->h2, NGHTTP2_FLAG_NONE, v, sizeof v / sizeof *v) != 0)
        return err_set(e, ERR_INTERNAL, "memory", "out of memory for HTTP/2");
    return 0;
}

void client_feed(struct wl_client *c, const uint8_t *p, size_t n)
{
    struct err e;
    ssize_t r = nghttp2_session_mem_recv(c->h2, p, n);
    if (r >= 0)
        return;
    err_set(&e, ERR_MALFORMED, "workload-http", "the Workload API's server breaks HTTP/2: %s",
            nghttp2_strerror((int)r));
    client_break(c, WL_UNAVAILABLE, &e);
}
