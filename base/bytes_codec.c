/* The codecs of bytes.h: base64, base64url and hex. They stand on the way of every request (JWS,
 * JSON, certificates), so they work by table, four characters at a time, and look at validity once
 * a group. Not constant time: secrets do not pass here. */
#include "base/bytes.h"

#define X 0x80 /* not in the alphabet; the bit survives an OR of values below 64 */

static const char std_digits[65] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char url_digits[65] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/* clang-format off */
static const uint8_t std_values[256] = {
    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,
    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,
    X, X, X, X, X, X, X, X, X, X, X, 62, X, X, X, 63,
    52, 53, 54, 55, 56, 57, 58, 59, 60, 61, X, X, X, X, X, X,
    X, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14,
    15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, X, X, X, X, X,
    X, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40,
    41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, X, X, X, X, X,
    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,
    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,
    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,
    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,
    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,
    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,
    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,
    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,
};
static const uint8_t url_values[256] = {
    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,
    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,
    X, X, X, X, X, X, X, X, X, X, X, X, X, 62, X, X,
    52, 53, 54, 55, 56, 57, 58, 59, 60, 61, X, X, X, X, X, X,
    X, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14,
    15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, X, X, X, X, 63,
    X, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40,
    41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, X, X, X, X, X,
    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,
    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,
    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,
    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,
    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,
    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,
    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,
    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,
};
static const uint8_t hex_values[256] = {
    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,
    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,
    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, X, X, X, X, X, X,
    X, 10, 11, 12, 13, 14, 15, X, X, X, X, X, X, X, X, X,
    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,
    X, 10, 11, 12, 13, 14, 15, X, X, X, X, X, X, X, X, X,
    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,
    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,
    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,
    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,
    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,
    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,
    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,
    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,
    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,
};
/* clang-format on */

static long decode64(const uint8_t table[256], uint8_t *dst, size_t cap, const uint8_t *s,
                     size_t len)
{
    size_t tail = len % 4, out = len / 4 * 3 + (tail ? tail - 1 : 0);
    if (tail == 1 || out > cap)
        return -1;
    unsigned bad = 0;
    for (const uint8_t *end = s + (len - tail); s < end; s += 4, dst += 3) {
        unsigned a = table[s[0]], b = table[s[1]], c = table[s[2]], d = table[s[3]];
        bad |= a | b | c | d;
        uint32_t v = a << 18 | b << 12 | c << 6 | d;
        dst[0] = (uint8_t)(v >> 16);
        dst[1] = (uint8_t)(v >> 8);
        dst[2] = (uint8_t)v;
    }
    if (tail) {
        unsigned a = table[s[0]], b = table[s[1]], c = tail == 3 ? table[s[2]] : 0;
        bad |= a | b | c;
        /* RFC 4648 section 3.5: bits that stand for nothing must be zero, or one value would have
         * several spellings. */
        if (tail == 3 ? c & 3 : b & 15)
            return -1;
        dst[0] = (uint8_t)(a << 2 | b >> 4);
        if (tail == 3)
            dst[1] = (uint8_t)(b << 4 | c >> 2);
    }
    return bad & X ? -1 : (long)out;
}

long b64_decode(void *dst, size_t cap, const char *src, size_t len)
{
    if (len % 4)
        return -1;
    if (len && src[len - 1] == '=')
        len -= src[len - 2] == '=' ? 2 : 1;
    return decode64(std_values, dst, cap, (const uint8_t *)src, len);
}

long b64url_decode(void *dst, size_t cap, const char *src, size_t len)
{
    return decode64(url_values, dst, cap, (const uint8_t *)src, len);
}

static size_t encode64(const char digits[65], char *dst, const uint8_t *s, size_t len)
{
    char *d = dst;
    for (; len >= 3; len -= 3, s += 3, d += 4) {
        uint32_t v = (uint32_t)s[0] << 16 | (uint32_t)s[1] << 8 | s[2];
        d[0] = digits[v >> 18];
        d[1] = digits[v >> 12 & 63];
        d[2] = digits[v >> 6 & 63];
        d[3] = digits[v & 63];
    }
    if (len) {
        uint32_t v = (uint32_t)s[0] << 16 | (len == 2 ? (uint32_t)s[1] << 8 : 0);
        *d++ = digits[v >> 18];
        *d++ = digits[v >> 12 & 63];
        if (len == 2)
            *d++ = digits[v >> 6 & 63];
    }
    *d = 0;
    return (size_t)(d - dst);
}

size_t b64url_encode(char *dst, const void *src, size_t len)
{
    return encode64(url_digits, dst, src, len);
}

size_t b64_encode(char *dst, const void *src, size_t len)
{
    size_t n = encode64(std_digits, dst, src, len);
    while (n % 4)
        dst[n++] = '=';
    dst[n] = 0;
    return n;
}

long hex_decode(void *dst, size_t cap, const char *src, size_t len)
{
    if (len % 2 || len / 2 > cap)
        return -1;
    const uint8_t *s = (const uint8_t *)src;
    uint8_t *d = dst;
    unsigned bad = 0;
    for (size_t i = 0; i < len / 2; i++) {
        unsigned hi = hex_values[s[2 * i]], lo = hex_values[s[2 * i + 1]];
        bad |= hi | lo;
        d[i] = (uint8_t)(hi << 4 | lo);
    }
    return bad & X ? -1 : (long)(len / 2);
}

size_t hex_encode(char *dst, const void *src, size_t len)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *s = src;
    for (size_t i = 0; i < len; i++) {
        dst[2 * i] = digits[s[i] >> 4];
        dst[2 * i + 1] = digits[s[i] & 15];
    }
    dst[2 * len] = 0;
    return 2 * len;
}
