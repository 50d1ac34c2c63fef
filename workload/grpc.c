#include "workload/grpc.h"
#include "workload/limits.h"
#include "base/secmem.h"
#include <string.h>

void grpc_in_init(struct grpc_in *in, size_t max)
{
    *in = (struct grpc_in){0};
    buf_init(&in->msg, max);
}

/* Requests may carry tokens, so what held one is wiped. */
void grpc_in_next(struct grpc_in *in)
{
    size_t max = in->msg.max;
    if (in->msg.p)
        secret_wipe(in->msg.p, in->msg.len);
    buf_free(&in->msg);
    grpc_in_init(in, max);
}

void grpc_in_free(struct grpc_in *in)
{
    grpc_in_next(in);
}

bool grpc_in_empty(const struct grpc_in *in)
{
    return in->prefix_len == 0;
}

enum grpc_fed grpc_in_feed(struct grpc_in *in, const uint8_t **p, size_t *len)
{
    while (in->prefix_len < GRPC_PREFIX) {
        if (*len == 0)
            return GRPC_MORE;
        in->prefix[in->prefix_len++] = *(*p)++;
        --*len;
        if (in->prefix_len < GRPC_PREFIX)
            continue;
        struct cur c = cur_of(in->prefix + 1, GRPC_PREFIX - 1);
        cur_u32(&c, &in->want);
        if (in->want > in->msg.max)
            return GRPC_TOO_LARGE;
        if (in->prefix[0] != 0)
            return GRPC_COMPRESSED;
    }
    size_t n = in->want - in->msg.len;
    if (n > *len)
        n = *len;
    if (n > 0)
        buf_put(&in->msg, *p, n);
    if (in->msg.failed)
        return GRPC_MEMORY;
    *p += n;
    *len -= n;
    return in->msg.len == in->want ? GRPC_MESSAGE : GRPC_MORE;
}

void grpc_prefix(uint8_t dst[GRPC_PREFIX], size_t len)
{
    dst[0] = 0;
    for (int i = 0; i < 4; i++)
        dst[1 + i] = (uint8_t)(len >> (24 - 8 * i));
}

int64_t grpc_timeout_ms(const uint8_t *p, size_t len)
{
    int64_t v = 0;
    if (len < 2 || len > 9)
        return -1;
    for (size_t i = 0; i + 1 < len; i++) {
        if (p[i] < '0' || p[i] > '9')
            return -1;
        v = v * 10 + (p[i] - '0');
    }
    switch (p[len - 1]) {
    case 'H': v *= 3600000; break;
    case 'M': v *= 60000; break;
    case 'S': v *= 1000; break;
    case 'm': break;
    case 'u': v /= 1000; break;
    case 'n': v /= 1000000; break;
    default: return -1;
    }
    return v > 0 ? v : 1;
}

void grpc_escape(struct buf *out, const char *message)
{
    size_t n = strnlen(message, LIMIT_STATUS_MESSAGE);
    for (size_t i = 0; i < n; i++) {
        uint8_t c = (uint8_t)message[i];
        if (c >= 0x20 && c <= 0x7e && c != '%')
            buf_u8(out, c);
        else
            buf_fmt(out, "%%%02X", c);
    }
}

void grpc_unescape(char *dst, size_t cap, const uint8_t *p, size_t len)
{
    size_t n = 0;
    for (size_t i = 0; i < len && n + 1 < cap; i++) {
        uint8_t byte;
        if (p[i] == '%' && len - i >= 3 && hex_decode(&byte, 1, (const char *)p + i + 1, 2) == 1) {
            i += 2;
            dst[n++] = byte ? (char)byte : '?';
        } else {
            dst[n++] = (char)p[i];
        }
    }
    dst[n] = 0;
}
