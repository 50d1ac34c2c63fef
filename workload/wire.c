#include "workload/wire.h"

/* RFC-less format: protobuf.dev/programming-guides/encoding. A number takes ten bytes at most, the tenth 0 or 1;
 * tags and lengths are of 32 bits, so five, in all the readers of the field: one that took more would read
 * what the others refuse.
 */
enum { BYTES_OF_32 = 5, BYTES_OF_64 = 10 };

static int varint(struct cur *c, unsigned most, uint64_t *v)
{
    *v = 0;
    for (unsigned shift = 0; shift < 7 * most; shift += 7) {
        uint8_t b;
        if (cur_u8(c, &b) < 0)
            return -1;
        if (shift == 63 && b > 1)
            break;
        *v |= (uint64_t)(b & 0x7f) << shift;
        if (!(b & 0x80))
            return 0;
    }
    c->failed = true;
    return -1;
}

static int little_endian(struct cur *c, size_t n, uint64_t *v)
{
    struct bytes b;
    if (cur_take(c, n, &b) < 0)
        return -1;
    *v = 0;
    while (n-- > 0)
        *v = *v << 8 | b.p[n];
    return 0;
}

bool wire_next(struct cur *c, struct wire_field *f)
{
    uint64_t tag, len;
    *f = (struct wire_field){0};
    if (c->failed || cur_left(c) == 0 || varint(c, BYTES_OF_32, &tag) < 0)
        return false;
    f->number = (uint32_t)(tag >> 3);
    if (tag >> 3 == 0 || tag >> 3 > 536870911) {
        c->failed = true;
        return false;
    }
    switch (tag & 7) {
    case WIRE_VARINT:
        f->type = WIRE_VARINT;
        return varint(c, BYTES_OF_64, &f->value) == 0;
    case WIRE_FIXED64:
        f->type = WIRE_FIXED64;
        return little_endian(c, 8, &f->value) == 0;
    case WIRE_FIXED32:
        f->type = WIRE_FIXED32;
        return little_endian(c, 4, &f->value) == 0;
    case WIRE_BYTES:
        f->type = WIRE_BYTES;
        if (varint(c, BYTES_OF_32, &len) < 0)
            return false;
        if (len > cur_left(c)) {
            c->failed = true;
            return false;
        }
        return cur_take(c, (size_t)len, &f->bytes) == 0;
    default: /* groups went out of use before this was written */
        c->failed = true;
        return false;
    }
}

/* Length of the well-formed sequence at p (Unicode table 3-7), or 0. */
static size_t utf8_at(const uint8_t *p, size_t left)
{
    uint8_t a = p[0];
    size_t n = a < 0x80                  ? 1
               : a >= 0xc2 && a <= 0xdf  ? 2
               : (a & 0xf0) == 0xe0      ? 3
               : a >= 0xf0 && a <= 0xf4  ? 4
                                         : 0;
    if (n == 0 || n > left || a == 0)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    if ((a == 0xe0 && p[1] < 0xa0) || (a == 0xed && p[1] > 0x9f) || (a == 0xf0 && p[1] < 0x90) ||
        (a == 0xf4 && p[1] > 0x8f))
        return 0;
    return n;
}

bool wire_is_text(const struct wire_field *f)
{
    if (f->type != WIRE_BYTES)
        return false;
    for (size_t i = 0, n; i < f->bytes.len; i += n)
        if ((n = utf8_at(f->bytes.p + i, f->bytes.len - i)) == 0)
            return false;
    return true;
}

bool wire_good(const void *p, size_t len)
{
    struct cur c = cur_of(p, len);
    struct wire_field f;
    while (wire_next(&c, &f))
        ;
    return cur_done(&c);
}

void wire_put(struct buf *b, unsigned number, const void *p, size_t len)
{
    buf_u8(b, (uint8_t)(number << 3 | WIRE_BYTES));
    for (size_t v = len;; v >>= 7) {
        buf_u8(b, (uint8_t)((v & 0x7f) | (v > 0x7f ? 0x80 : 0)));
        if (v <= 0x7f)
            break;
    }
    buf_put(b, p, len);
}
