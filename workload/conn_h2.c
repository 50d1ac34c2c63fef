/* What nghttp2 calls. Nothing here is answered with bytes at once: see internal.h. */
#include "workload/internal.h"
#include "base/log.h"
#include <errno.h>
#include <string.h>

static ssize_t on_send(nghttp2_session *h2, const uint8_t *p, size_t n, int flags, void *arg)
{
    struct conn *c = arg;
    union {
        const uint8_t *in;
        void *out;
    } u = {.in = p};
    struct iovec v = {u.out, n};
    ssize_t r;
    do
        r = c->s->write(c->fd, &v, 1);
    while (r < 0 && errno == EINTR);
    if (r >= 0)
        return r;
    if (errno != EAGAIN) {
        conn_break(c, strerror(errno));
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    }
    c->blocked = true;
    return NGHTTP2_ERR_WOULDBLOCK;
}

/* A DATA frame, straight from the scratch: nghttp2 never has its payload. A frame that was written in part is
 * finished before anything else, for nghttp2 comes back with the same one (but see on_stream_close). */
static int on_send_data(nghttp2_session *h2, nghttp2_frame *frame, const uint8_t *head, size_t length,
                        nghttp2_data_source *source, void *arg)
{
    struct conn *c = arg;
    struct wl_call *k = source->ptr;
    struct bytes msg;
    if (reply_bytes(k, &msg) < 0 || length > msg.len - k->out_off) {
        conn_break(c, "an answer could not be made again");
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    }
    union {
        const uint8_t *in;
        uint8_t *out;
    } h = {.in = head}, b = {.in = msg.p + k->out_off};
    while (c->part_sent < 9 + length) {
        size_t of_head = c->part_sent < 9 ? c->part_sent : 9, of_body = c->part_sent - of_head;
        struct iovec v[2] = {{h.out + of_head, 9 - of_head}, {b.out + of_body, length - of_body}};
        ssize_t n = c->s->write(c->fd, v, 2);
        if (n > 0) {
            c->part_stream = k->stream;
            c->part_sent += (size_t)n;
        } else if (n < 0 && errno == EAGAIN) {
            c->blocked = true;
            return NGHTTP2_ERR_WOULDBLOCK;
        } else if (n == 0 || errno != EINTR) {
            conn_break(c, n == 0 ? "nothing could be written" : strerror(errno));
            return NGHTTP2_ERR_CALLBACK_FAILURE;
        }
    }
    c->part_sent = 0;
    reply_sent(k, length);
    return 0;
}

static struct wl_call *call_at(nghttp2_session *h2, int32_t stream)
{
    return stream > 0 ? nghttp2_session_get_stream_user_data(h2, stream) : NULL;
}

static bool is_request(const nghttp2_frame *f)
{
    return f->hd.type == NGHTTP2_HEADERS && f->headers.cat == NGHTTP2_HCAT_REQUEST;
}

static int on_begin_headers(nghttp2_session *h2, const nghttp2_frame *f, void *arg)
{
    struct conn *c = arg;
    if (!is_request(f))
        return 0;
    struct wl_call *k = call_new(c, f->hd.stream_id);
    if (!k || nghttp2_session_set_stream_user_data(h2, f->hd.stream_id, k) != 0) {
        if (k)
            call_free(k);
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    return 0;
}

static int on_header(nghttp2_session *h2, const nghttp2_frame *f, const uint8_t *name, size_t name_len,
                     const uint8_t *value, size_t value_len, uint8_t flags, void *arg)
{
    struct wl_call *k = is_request(f) ? call_at(h2, f->hd.stream_id) : NULL;
    if (k && call_header(k, (struct bytes){name, name_len}, (struct bytes){value, value_len}) < 0)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    return 0;
}

static int on_data(nghttp2_session *h2, uint8_t flags, int32_t stream, const uint8_t *p, size_t n, void *arg)
{
    struct conn *c = arg;
    struct wl_call *k = call_at(h2, stream);
    if (k)
        call_data(k, p, n);
    else
        conn_consume(c, stream, n);
    return 0;
}

static int on_frame(nghttp2_session *h2, const nghttp2_frame *f, void *arg)
{
    struct conn *c = arg;
    struct wl_call *k = call_at(h2, f->hd.stream_id);
    if (f->hd.type == NGHTTP2_SETTINGS && !(f->hd.flags & NGHTTP2_FLAG_ACK))
        c->settled_in = true;
    if (k && is_request(f))
        call_headers_done(k);
    if (k && (f->hd.type == NGHTTP2_HEADERS || f->hd.type == NGHTTP2_DATA) &&
        f->hd.flags & NGHTTP2_FLAG_END_STREAM)
        call_end(k);
    return 0;
}

/* After our last word a client that still has the stream open is told to stop. */
static int on_sent(nghttp2_session *h2, const nghttp2_frame *f, void *arg)
{
    if (f->hd.type == NGHTTP2_HEADERS && f->hd.flags & NGHTTP2_FLAG_END_STREAM &&
        nghttp2_session_get_stream_remote_close(h2, f->hd.stream_id) == 0)
        nghttp2_submit_rst_stream(h2, NGHTTP2_FLAG_NONE, f->hd.stream_id, NGHTTP2_NO_ERROR);
    return 0;
}

/* nghttp2 drops the frame that was under way for a stream that closes. When a part of that frame is written
 * already, the connection's frames are out of step for good, so it ends. (A client that resets a stream while
 * it does not read; it connects anew.) */
static int on_stream_close(nghttp2_session *h2, int32_t stream, uint32_t error, void *arg)
{
    struct conn *c = arg;
    struct wl_call *k = call_at(h2, stream);
    if (c->part_sent && c->part_stream == stream)
        conn_break(c, "a stream was reset within a frame");
    if (k)
        call_free(k);
    return 0;
}

/* For an operator who debugs a client: what nghttp2 found wrong with it. */
static int on_error(nghttp2_session *h2, int code, const char *msg, size_t len, void *arg)
{
    log_debug("HTTP/2 of a client is at fault", "why", nghttp2_strerror(code), "where", msg, NULL);
    return 0;
}

int conn_callbacks(nghttp2_session_callbacks **cb, nghttp2_option **opt, struct err *e)
{
    if (nghttp2_session_callbacks_new(cb) != 0 || nghttp2_option_new(opt) != 0)
        return err_set(e, ERR_INTERNAL, "memory", "out of memory for HTTP/2");
    nghttp2_session_callbacks_set_send_callback(*cb, on_send);
    nghttp2_session_callbacks_set_send_data_callback(*cb, on_send_data);
    nghttp2_session_callbacks_set_on_begin_headers_callback(*cb, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(*cb, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(*cb, on_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(*cb, on_frame);
    nghttp2_session_callbacks_set_on_frame_send_callback(*cb, on_sent);
    nghttp2_session_callbacks_set_on_stream_close_callback(*cb, on_stream_close);
    nghttp2_session_callbacks_set_error_callback2(*cb, on_error);
    nghttp2_option_set_no_auto_window_update(*opt, 1); /* what is held counts against the window */
    nghttp2_option_set_no_closed_streams(*opt, 1);
    nghttp2_option_set_max_deflate_dynamic_table_size(*opt, 0);
    nghttp2_option_set_max_send_header_block_length(*opt, LIMIT_HEADERS);
    nghttp2_option_set_max_outbound_ack(*opt, LIMIT_OUTBOUND_ACKS);
    nghttp2_option_set_max_settings(*opt, LIMIT_SETTINGS);
    nghttp2_option_set_max_continuations(*opt, LIMIT_CONTINUATIONS);
    nghttp2_option_set_stream_reset_rate_limit(*opt, LIMIT_RESETS_BURST, LIMIT_RESETS_RATE);
    return 0;
}
