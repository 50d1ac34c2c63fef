/* The client's bytes on their way to nghttp2, frame by frame: each is paid for, and one kind is taken out.
 *
 * That kind is RST_STREAM for a stream that was never opened. gRPC's C core sends it when a call is cancelled
 * before its HEADERS went out; RFC 9113 §5.1 makes it an error of the connection, as nghttp2 has it, and all
 * other streams of that client would go down with it.
 */
#include "workload/internal.h"
#include "base/clock.h"
#include "base/log.h"

/* Frames that ask for work and bring nothing. Each costs one; a connection has a stock, which time and honest
 * requests fill up again. */
static void pay(struct conn *c)
{
    int64_t now = clock_mono_ms(), more = (now - c->chatter_at) * LIMIT_CHATTER_RATE / 1000;
    if (more > 0) {
        c->chatter_at = now;
        c->chatter = more > LIMIT_CHATTER_BURST - c->chatter ? LIMIT_CHATTER_BURST : c->chatter + (int)more;
    }
    if (c->chatter-- > 0)
        return;
    log_debug("a client of the Workload API sends too many frames of no use", "uid",
              log_num((long long)c->user->uid), NULL);
    nghttp2_session_terminate_session(c->h2, NGHTTP2_ENHANCE_YOUR_CALM);
}

static void give(struct conn *c, const uint8_t *p, size_t n)
{
    ssize_t r = nghttp2_session_mem_recv(c->h2, p, n);
    if (r < 0)
        conn_break(c, nghttp2_strerror((int)r));
}

/* A frame's head is whole (RFC 9113 §4.1): u24 length ‖ u8 type ‖ u8 flags ‖ u32 stream. */
static void begin_frame(struct conn *c)
{
    struct cur in = cur_of(c->head, sizeof c->head);
    uint8_t high = 0, type = 0, flags = 0;
    uint16_t low = 0;
    uint32_t stream = 0;
    cur_u8(&in, &high);
    cur_u16(&in, &low);
    cur_u8(&in, &type);
    cur_u8(&in, &flags);
    cur_u32(&in, &stream);
    int32_t id = (int32_t)(stream & INT32_MAX);
    c->payload_left = (unsigned)high << 16 | low;
    c->head_len = 0;
    if (type == NGHTTP2_HEADERS && id > c->newest)
        c->newest = id;
    bool useful = type == NGHTTP2_HEADERS ||
                  (type == NGHTTP2_DATA && (c->payload_left || flags & NGHTTP2_FLAG_END_STREAM));
    if (!useful)
        pay(c);
    c->skip = type == NGHTTP2_RST_STREAM && c->payload_left == 4 && id % 2 == 1 && id > c->newest;
    if (!c->skip)
        give(c, c->head, sizeof c->head);
}

static size_t at_most(size_t want, size_t have)
{
    return want < have ? want : have;
}

void conn_feed(struct conn *c, const uint8_t *p, size_t n)
{
    c->busy = true;
    while (n > 0 && !c->dead) {
        size_t part;
        if (c->preface_left) {
            part = at_most(c->preface_left, n);
            c->preface_left -= (unsigned)part;
            give(c, p, part);
        } else if (c->payload_left) {
            part = at_most(c->payload_left, n);
            c->payload_left -= (unsigned)part;
            if (!c->skip)
                give(c, p, part);
        } else {
            part = at_most(sizeof c->head - c->head_len, n);
            for (size_t i = 0; i < part; i++)
                c->head[c->head_len++] = p[i];
            if (c->head_len == sizeof c->head)
                begin_frame(c);
        }
        p += part;
        n -= part;
    }
    c->busy = false;
}
