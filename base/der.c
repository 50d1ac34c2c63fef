#include "base/der.h"
#include <stdio.h>
#include <string.h>

#define DER_LENGTH_MAX 65535

static int fail(struct cur *c)
{
    c->failed = true;
    return -1;
}

int der_any(struct cur *c, uint8_t *tag, struct bytes *contents, struct bytes *whole)
{
    const uint8_t *start = c->p;
    uint8_t t, first;
    uint32_t len;
    *tag = 0;
    *contents = (struct bytes){(const uint8_t *)"", 0};
    if (whole)
        *whole = *contents;
    if (cur_u8(c, &t) < 0 || cur_u8(c, &first) < 0)
        return -1;
    if ((t & 0x1f) == 0x1f) /* high tag number form: no structure of ours has one */
        return fail(c);
    if (first < 0x80) {
        len = first;
    } else if (first == 0x81) {
        uint8_t v;
        if (cur_u8(c, &v) < 0 || v < 0x80)
            return fail(c);
        len = v;
    } else if (first == 0x82) {
        uint16_t v;
        if (cur_u16(c, &v) < 0 || v < 0x100)
            return fail(c);
        len = v;
    } else { /* indefinite (X.690 section 10.1), or longer than anything we accept */
        return fail(c);
    }
    if (cur_take(c, len, contents) < 0)
        return -1;
    *tag = t;
    if (whole)
        *whole = (struct bytes){start, (size_t)(c->p - start)};
    return 0;
}

int der_get(struct cur *c, uint8_t tag, struct bytes *contents)
{
    uint8_t t;
    if (der_any(c, &t, contents, NULL) < 0)
        return -1;
    if (t != tag) {
        *contents = (struct bytes){(const uint8_t *)"", 0};
        return fail(c);
    }
    return 0;
}

int der_enter(struct cur *c, uint8_t tag, struct cur *in)
{
    struct bytes b;
    if (der_get(c, tag, &b) < 0) {
        *in = cur_of(NULL, 0);
        in->failed = true;
        return -1;
    }
    *in = cur_of(b.p, b.len);
    return 0;
}

bool der_peek(const struct cur *c, uint8_t tag)
{
    return cur_left(c) > 0 && *c->p == tag;
}

bool der_optional(struct cur *c, uint8_t tag, struct bytes *contents)
{
    *contents = (struct bytes){(const uint8_t *)"", 0};
    if (!der_peek(c, tag))
        return false;
    /* Present but malformed: the cursor fails, and the parser's one test at the end sees it. */
    return der_get(c, tag, contents) == 0;
}

int der_uint(struct cur *c, struct bytes *magnitude)
{
    struct bytes b;
    *magnitude = (struct bytes){(const uint8_t *)"", 0};
    if (der_get(c, DER_INTEGER, &b) < 0)
        return -1;
    if (b.len == 0 || b.p[0] & 0x80)
        return fail(c);
    if (b.len > 1 && b.p[0] == 0) {
        if (!(b.p[1] & 0x80)) /* X.690 section 8.3.2: the shortest form only */
            return fail(c);
        b.p++;
        b.len--;
    }
    *magnitude = b;
    return 0;
}

int der_u64(struct cur *c, uint64_t *v)
{
    struct bytes b;
    *v = 0;
    if (der_uint(c, &b) < 0)
        return -1;
    if (b.len > 8)
        return fail(c);
    uint64_t x = 0;
    for (size_t i = 0; i < b.len; i++)
        x = x << 8 | b.p[i];
    *v = x;
    return 0;
}

int der_bool(struct cur *c, bool *v)
{
    struct bytes b;
    *v = false;
    if (der_get(c, DER_BOOLEAN, &b) < 0)
        return -1;
    if (b.len != 1 || (b.p[0] != 0 && b.p[0] != 0xff))
        return fail(c);
    *v = b.p[0] != 0;
    return 0;
}

int der_bits(struct cur *c, struct bytes *bits)
{
    struct bytes b;
    *bits = (struct bytes){(const uint8_t *)"", 0};
    if (der_get(c, DER_BIT_STRING, &b) < 0)
        return -1;
    if (b.len == 0 || b.p[0] != 0)
        return fail(c);
    *bits = (struct bytes){b.p + 1, b.len - 1};
    return 0;
}

/* Days since 1970-01-01 of a proleptic Gregorian date, and back. Months are counted from March, so
 * that the leap day is the last of its year. */
static int64_t days_from_civil(int64_t y, int m, int d)
{
    y -= m <= 2;
    int64_t era = (y >= 0 ? y : y - 399) / 400, yoe = y - era * 400;
    int64_t doy = (153 * (m > 2 ? m - 3 : m + 9) + 2) / 5 + d - 1;
    return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

static void civil_from_days(int64_t days, int64_t *year, int *month, int *day)
{
    int64_t z = days + 719468, era = (z >= 0 ? z : z - 146096) / 146097, doe = z - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;
    *day = (int)(doy - (153 * mp + 2) / 5 + 1);
    *month = (int)(mp < 10 ? mp + 3 : mp - 9);
    *year = yoe + era * 400 + (*month <= 2);
}

static int month_days(int64_t y, int m)
{
    static const uint8_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = y % 4 == 0 && (y % 100 != 0 || y % 400 == 0);
    return m == 2 && leap ? 29 : days[m - 1];
}

int der_time(struct cur *c, int64_t *unix_seconds)
{
    uint8_t tag;
    struct bytes b;
    int f[7]; /* century, year, month, day, hour, minute, second: two digits each */
    *unix_seconds = 0;
    if (der_any(c, &tag, &b, NULL) < 0)
        return -1;
    size_t first = tag == DER_GENTIME ? 0 : 1;
    if ((tag != DER_GENTIME && tag != DER_UTCTIME) || b.len != (7 - first) * 2 + 1 ||
        b.p[b.len - 1] != 'Z') /* RFC 5280 section 4.1.2.5: seconds present, no fraction, Z */
        return fail(c);
    f[0] = 19;
    for (size_t i = first; i < 7; i++) {
        uint8_t hi = b.p[2 * (i - first)], lo = b.p[2 * (i - first) + 1];
        if (hi < '0' || hi > '9' || lo < '0' || lo > '9')
            return fail(c);
        f[i] = (hi - '0') * 10 + lo - '0';
    }
    if (first == 1 && f[1] < 50)
        f[0] = 20;
    int64_t year = f[0] * 100 + f[1];
    if (f[2] < 1 || f[2] > 12 || f[3] < 1 || f[3] > month_days(year, f[2]) || f[4] > 23 ||
        f[5] > 59 || f[6] > 59)
        return fail(c);
    *unix_seconds = days_from_civil(year, f[2], f[3]) * 86400 + f[4] * 3600 + f[5] * 60 + f[6];
    return 0;
}

void derw_init(struct derw *w, uint8_t *array, size_t cap)
{
    *w = (struct derw){.start = array, .p = array + cap, .end = array + cap};
}

size_t derw_mark(const struct derw *w)
{
    return (size_t)(w->end - w->p);
}

static uint8_t *derw_room(struct derw *w, size_t n)
{
    if (w->failed || (size_t)(w->p - w->start) < n) {
        w->failed = true;
        return NULL;
    }
    return w->p -= n;
}

void derw_raw(struct derw *w, const void *p, size_t n)
{
    uint8_t *dst = derw_room(w, n);
    if (dst && n)
        memcpy(dst, p, n);
}

static void derw_byte(struct derw *w, uint8_t v)
{
    uint8_t *dst = derw_room(w, 1);
    if (dst)
        *dst = v;
}

void derw_wrap(struct derw *w, uint8_t tag, size_t mark)
{
    size_t len = derw_mark(w) - mark;
    if (w->failed || derw_mark(w) < mark || len > DER_LENGTH_MAX) {
        w->failed = true;
        return;
    }
    if (len < 0x80) {
        derw_byte(w, (uint8_t)len);
    } else {
        derw_byte(w, (uint8_t)len);
        if (len > 0xff)
            derw_byte(w, (uint8_t)(len >> 8));
        derw_byte(w, len > 0xff ? 0x82 : 0x81);
    }
    derw_byte(w, tag);
}

void derw_tlv(struct derw *w, uint8_t tag, const void *p, size_t n)
{
    size_t mark = derw_mark(w);
    derw_raw(w, p, n);
    derw_wrap(w, tag, mark);
}

void derw_uint(struct derw *w, const void *magnitude, size_t n)
{
    const uint8_t *p = magnitude;
    size_t mark = derw_mark(w);
    while (n > 0 && *p == 0) {
        p++;
        n--;
    }
    derw_raw(w, p, n);
    if (n == 0 || *p & 0x80) /* zero itself, or a sign byte */
        derw_byte(w, 0);
    derw_wrap(w, DER_INTEGER, mark);
}

void derw_u64(struct derw *w, uint64_t v)
{
    uint8_t be[8];
    for (int i = 0; i < 8; i++)
        be[i] = (uint8_t)(v >> (56 - 8 * i));
    derw_uint(w, be, sizeof be);
}

void derw_bool(struct derw *w, bool v)
{
    uint8_t b = v ? 0xff : 0;
    derw_tlv(w, DER_BOOLEAN, &b, 1);
}

void derw_time(struct derw *w, int64_t unix_seconds)
{
    int64_t days = unix_seconds / 86400, rest = unix_seconds % 86400, year;
    int month, day;
    if (rest < 0) {
        rest += 86400;
        days--;
    }
    if (days < -719162 || days > 2932896) { /* years 1 to 9999 */
        w->failed = true;
        return;
    }
    civil_from_days(days, &year, &month, &day);
    char text[32];
    int n = snprintf(text, sizeof text, "%04d%02d%02d%02d%02d%02dZ", (int)year, month, day,
                     (int)(rest / 3600), (int)(rest / 60 % 60), (int)(rest % 60));
    if (year >= 1950 && year < 2050)
        derw_tlv(w, DER_UTCTIME, text + 2, (size_t)n - 2);
    else
        derw_tlv(w, DER_GENTIME, text, (size_t)n);
}

void derw_oid(struct derw *w, const void *contents, size_t n)
{
    derw_tlv(w, DER_OID, contents, n);
}

struct bytes derw_bytes(const struct derw *w)
{
    if (w->failed)
        return (struct bytes){w->end, 0};
    return (struct bytes){w->p, (size_t)(w->end - w->p)};
}

long der_ecdsa_from_rs(uint8_t *dst, size_t cap, const uint8_t *rs, size_t n)
{
    uint8_t out[2 * 66 + 16]; /* up to P-521 */
    struct derw w;
    if (n == 0 || n > 66)
        return -1;
    derw_init(&w, out, sizeof out);
    derw_uint(&w, rs + n, n);
    derw_uint(&w, rs, n);
    derw_wrap(&w, DER_SEQUENCE, 0);
    struct bytes b = derw_bytes(&w);
    if (w.failed || b.len > cap)
        return -1;
    memcpy(dst, b.p, b.len);
    return (long)b.len;
}

int der_ecdsa_to_rs(uint8_t *rs, size_t n, const uint8_t *der, size_t len)
{
    struct cur c = cur_of(der, len), in;
    struct bytes r, s;
    if (der_enter(&c, DER_SEQUENCE, &in) < 0 || !cur_done(&c) || der_uint(&in, &r) < 0 ||
        der_uint(&in, &s) < 0 || !cur_done(&in) || r.len > n || s.len > n)
        return -1;
    memset(rs, 0, 2 * n);
    memcpy(rs + n - r.len, r.p, r.len);
    memcpy(rs + 2 * n - s.len, s.p, s.len);
    return 0;
}
