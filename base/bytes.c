#include "base/bytes.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct cur cur_of(const void *p, size_t len)
{
    /* A NULL view of length 0 is legal; arithmetic on NULL is not. */
    const uint8_t *start = p ? p : (const uint8_t *)"";
    return (struct cur){start, start + (p ? len : 0), !p && len};
}

size_t cur_left(const struct cur *c)
{
    return c->failed ? 0 : (size_t)(c->end - c->p);
}

static const uint8_t *cur_next(struct cur *c, size_t n)
{
    if (c->failed || (size_t)(c->end - c->p) < n) {
        c->failed = true;
        return NULL;
    }
    const uint8_t *p = c->p;
    c->p += n;
    return p;
}

static int cur_uint(struct cur *c, size_t n, uint64_t *v)
{
    const uint8_t *p = cur_next(c, n);
    if (!p) {
        *v = 0;
        return -1;
    }
    uint64_t x = 0;
    for (size_t i = 0; i < n; i++)
        x = x << 8 | p[i];
    *v = x;
    return 0;
}

int cur_u8(struct cur *c, uint8_t *v)
{
    uint64_t x;
    int r = cur_uint(c, 1, &x);
    *v = (uint8_t)x;
    return r;
}

int cur_u16(struct cur *c, uint16_t *v)
{
    uint64_t x;
    int r = cur_uint(c, 2, &x);
    *v = (uint16_t)x;
    return r;
}

int cur_u32(struct cur *c, uint32_t *v)
{
    uint64_t x;
    int r = cur_uint(c, 4, &x);
    *v = (uint32_t)x;
    return r;
}

int cur_u64(struct cur *c, uint64_t *v)
{
    return cur_uint(c, 8, v);
}

int cur_take(struct cur *c, size_t n, struct bytes *out)
{
    const uint8_t *p = cur_next(c, n);
    *out = p ? (struct bytes){p, n} : (struct bytes){(const uint8_t *)"", 0};
    return p ? 0 : -1;
}

int cur_copy(struct cur *c, void *dst, size_t n)
{
    const uint8_t *p = cur_next(c, n);
    if (!p)
        return -1;
    if (n)
        memcpy(dst, p, n);
    return 0;
}

static int cur_vec(struct cur *c, size_t width, struct bytes *out)
{
    uint64_t n;
    *out = (struct bytes){(const uint8_t *)"", 0};
    if (cur_uint(c, width, &n) < 0)
        return -1;
    return cur_take(c, (size_t)n, out);
}

int cur_vec8(struct cur *c, struct bytes *out)
{
    return cur_vec(c, 1, out);
}

int cur_vec16(struct cur *c, struct bytes *out)
{
    return cur_vec(c, 2, out);
}

int cur_line(struct cur *c, struct bytes *out)
{
    *out = (struct bytes){(const uint8_t *)"", 0};
    const uint8_t *nl = c->failed ? NULL : memchr(c->p, '\n', (size_t)(c->end - c->p));
    if (!nl) {
        c->failed = true;
        return -1;
    }
    *out = (struct bytes){c->p, (size_t)(nl - c->p)};
    c->p = nl + 1;
    return 0;
}

bool cur_done(const struct cur *c)
{
    return !c->failed && c->p == c->end;
}

void buf_init(struct buf *b, size_t max)
{
    *b = (struct buf){.max = max};
}

void buf_reset(struct buf *b)
{
    b->len = 0;
    b->failed = false;
}

void buf_free(struct buf *b)
{
    free(b->p);
    *b = (struct buf){.max = b->max};
}

/* Room for n more bytes and one NUL beyond them; NULL when that breaks the limit. The NUL has its
 * place always, so buf_cstr never fails for want of one byte. */
static uint8_t *buf_room(struct buf *b, size_t n)
{
    if (b->failed || b->len > b->max || n > b->max - b->len) {
        b->failed = true;
        return NULL;
    }
    size_t need = b->len + n + 1;
    if (need > b->cap) {
        size_t cap = b->cap ? b->cap : 256;
        while (cap < need)
            cap = cap > SIZE_MAX / 2 ? need : cap * 2;
        /* Not realloc: what was written may be secret, and must not stay behind in the heap. */
        uint8_t *p = malloc(cap);
        if (!p) {
            b->failed = true;
            return NULL;
        }
        if (b->p) {
            memcpy(p, b->p, b->len);
            explicit_bzero(b->p, b->cap);
            free(b->p);
        }
        b->p = p;
        b->cap = cap;
    }
    return b->p + b->len;
}

void buf_put(struct buf *b, const void *p, size_t n)
{
    uint8_t *dst = buf_room(b, n);
    if (!dst || !n)
        return;
    memcpy(dst, p, n);
    b->len += n;
}

void buf_str(struct buf *b, const char *s)
{
    buf_put(b, s, strlen(s));
}

void buf_fmt(struct buf *b, const char *fmt, ...)
{
    uint8_t *dst = buf_room(b, 0);
    if (!dst)
        return;
    size_t free_bytes = b->cap - b->len;
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf((char *)dst, free_bytes, fmt, ap);
    va_end(ap);
    if (n < 0) {
        b->failed = true;
        return;
    }
    dst = buf_room(b, (size_t)n);
    if (!dst)
        return;
    if ((size_t)n >= free_bytes) {
        va_start(ap, fmt);
        vsnprintf((char *)dst, (size_t)n + 1, fmt, ap);
        va_end(ap);
    }
    b->len += (size_t)n;
}

static void buf_uint(struct buf *b, size_t width, uint64_t v)
{
    uint8_t *dst = buf_room(b, width);
    if (!dst)
        return;
    for (size_t i = 0; i < width; i++)
        dst[i] = (uint8_t)(v >> (8 * (width - 1 - i)));
    b->len += width;
}

void buf_u8(struct buf *b, uint8_t v)
{
    buf_uint(b, 1, v);
}

void buf_u16(struct buf *b, uint16_t v)
{
    buf_uint(b, 2, v);
}

void buf_u32(struct buf *b, uint32_t v)
{
    buf_uint(b, 4, v);
}

void buf_u64(struct buf *b, uint64_t v)
{
    buf_uint(b, 8, v);
}

static void buf_vec(struct buf *b, size_t width, const void *p, size_t n, size_t most)
{
    if (n > most) {
        b->failed = true;
        return;
    }
    buf_uint(b, width, n);
    buf_put(b, p, n);
}

void buf_vec8(struct buf *b, const void *p, size_t n)
{
    buf_vec(b, 1, p, n, 0xff);
}

void buf_vec16(struct buf *b, const void *p, size_t n)
{
    buf_vec(b, 2, p, n, 0xffff);
}

const char *buf_cstr(struct buf *b)
{
    uint8_t *end = buf_room(b, 0);
    if (!end)
        return NULL;
    *end = 0;
    return (const char *)b->p;
}

bool bytes_eq(struct bytes a, const void *p, size_t n)
{
    return a.len == n && (n == 0 || memcmp(a.p, p, n) == 0);
}

bool bytes_eq_str(struct bytes a, const char *s)
{
    return bytes_eq(a, s, strlen(s));
}

bool bytes_ct_eq(const void *a, const void *b, size_t n)
{
    const volatile uint8_t *x = a, *y = b;
    uint8_t diff = 0;
    for (size_t i = 0; i < n; i++)
        diff |= x[i] ^ y[i];
    return diff == 0;
}

void buf_b64(struct buf *b, const void *p, size_t n)
{
    if (n > SIZE_MAX / 8) {
        b->failed = true;
        return;
    }
    uint8_t *dst = buf_room(b, B64_LEN(n));
    if (dst)
        b->len += b64_encode((char *)dst, p, n);
}

void buf_b64url(struct buf *b, const void *p, size_t n)
{
    if (n > SIZE_MAX / 8) {
        b->failed = true;
        return;
    }
    uint8_t *dst = buf_room(b, B64URL_LEN(n));
    if (dst)
        b->len += b64url_encode((char *)dst, p, n);
}

void buf_hex(struct buf *b, const void *p, size_t n)
{
    if (n > SIZE_MAX / 8) {
        b->failed = true;
        return;
    }
    uint8_t *dst = buf_room(b, HEX_LEN(n));
    if (dst)
        b->len += hex_encode((char *)dst, p, n);
}
