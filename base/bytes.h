/* Bounded bytes: `cur` reads, `buf` writes. No room indexes raw memory of outside origin; it reads
 * through a cursor, which can not run past its end, and refuses what is left over.
 *
 * cur: a view; owns nothing. Each getter returns 0, or -1 and leaves the cursor failed: a failed
 * cursor stays failed, so a parser may read several fields and test once (`cur_done`).
 * Integers are big-endian.
 * buf: a growable writer with a hard limit. A write over the limit, or out of memory, sets
 * `failed` and later writes do nothing; test once at the end. Memory is reused by buf_reset.
 */
#ifndef BASE_BYTES_H
#define BASE_BYTES_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bytes { /* borrowed view */
    const uint8_t *p;
    size_t len;
};

struct cur {
    const uint8_t *p, *end;
    bool failed;
};

struct cur cur_of(const void *p, size_t len);
size_t cur_left(const struct cur *c);
int cur_u8(struct cur *c, uint8_t *v);
int cur_u16(struct cur *c, uint16_t *v);
int cur_u32(struct cur *c, uint32_t *v);
int cur_u64(struct cur *c, uint64_t *v);
int cur_take(struct cur *c, size_t n, struct bytes *out);        /* n bytes, not copied */
int cur_copy(struct cur *c, void *dst, size_t n);
int cur_vec8(struct cur *c, struct bytes *out);                  /* u8 length ‖ bytes */
int cur_vec16(struct cur *c, struct bytes *out);                 /* u16 length ‖ bytes */
int cur_line(struct cur *c, struct bytes *out);      /* up to and excluding '\n', which must be there */
bool cur_done(const struct cur *c);                  /* not failed and nothing left */

struct buf {
    uint8_t *p; /* owned; NULL while empty */
    size_t len, cap, max;
    bool failed;
};

void buf_init(struct buf *b, size_t max);
void buf_reset(struct buf *b); /* empties, keeps memory, clears failed */
void buf_free(struct buf *b);
void buf_put(struct buf *b, const void *p, size_t n);
void buf_str(struct buf *b, const char *s);
void buf_fmt(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void buf_u8(struct buf *b, uint8_t v);
void buf_u16(struct buf *b, uint16_t v);
void buf_u32(struct buf *b, uint32_t v);
void buf_u64(struct buf *b, uint64_t v);
void buf_vec8(struct buf *b, const void *p, size_t n);  /* fails over 255 */
void buf_vec16(struct buf *b, const void *p, size_t n); /* fails over 65535 */
void buf_b64(struct buf *b, const void *p, size_t n);    /* standard base64, padded */
void buf_b64url(struct buf *b, const void *p, size_t n); /* base64url, no padding */
void buf_hex(struct buf *b, const void *p, size_t n);
/* Terminates with NUL (not counted in len) and returns the string, or NULL if failed. */
const char *buf_cstr(struct buf *b);

bool bytes_eq(struct bytes a, const void *p, size_t n);
bool bytes_eq_str(struct bytes a, const char *s);
/* Constant time in the contents (lengths are public). */
bool bytes_ct_eq(const void *a, const void *b, size_t n);

/* Decoders: strict (no white space, exact padding rules, no non-zero trailing bits). Return the
 * number of bytes written, or -1. */
long b64_decode(void *dst, size_t cap, const char *src, size_t len);    /* padded */
long b64url_decode(void *dst, size_t cap, const char *src, size_t len); /* unpadded */
long hex_decode(void *dst, size_t cap, const char *src, size_t len);    /* lower or upper case */
/* Encoders into fixed memory; dst must hold the result and a NUL. Return characters written. */
size_t b64_encode(char *dst, const void *src, size_t len); /* padded */
size_t b64url_encode(char *dst, const void *src, size_t len);
size_t hex_encode(char *dst, const void *src, size_t len);
#define B64_LEN(n) (((n) + 2) / 3 * 4)
#define B64URL_LEN(n) (((n) * 4 + 2) / 3)
#define HEX_LEN(n) ((n) * 2)

#endif
