#include "base/json.h"
#include <errno.h>
#include <locale.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/* The tree is jansson's, the reader is ours: jansson's own reads byte by byte through a stream
 * (25 us for a 1.5 kB JWS, of which every certificate needs three), this one in whole strings
 * (1 us). fuzz_json holds it to jansson's verdict on every input. */

struct reader {
    const uint8_t *start, *p, *end;
    unsigned depth;
    struct err *e;
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static locale_t c_locale; /* so that a number does not change its meaning with the user's language */

static void setup(void)
{
    size_t seed = 0;
    if (getrandom(&seed, sizeof seed, 0) != sizeof seed || seed == 0)
        seed = (size_t)&seed;
    /* From getrandom: jansson would open /dev/urandom, which a confined process may not have. */
    json_object_seed(seed);
    c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
}

static int fail(struct reader *r, const char *rule, const char *what)
{
    return err_set(r->e, ERR_MALFORMED, rule, "JSON: %s at byte %zu", what,
                   (size_t)(r->p - r->start));
}

static int fail_memory(struct reader *r)
{
    return err_set(r->e, ERR_INTERNAL, "memory", "out of memory while reading JSON");
}

static void skip_space(struct reader *r)
{
    while (r->p < r->end && (*r->p == ' ' || *r->p == '\n' || *r->p == '\r' || *r->p == '\t'))
        r->p++;
}

/* Length of the well-formed UTF-8 sequence at p (Unicode table 3-7), or 0. */
static size_t utf8_sequence(const uint8_t *p, const uint8_t *end)
{
    size_t n, left = (size_t)(end - p);
    uint8_t lo = 0x80, hi = 0xbf;
    if (p[0] < 0x80)
        return 1;
    if (p[0] >= 0xc2 && p[0] <= 0xdf)
        n = 2;
    else if (p[0] >= 0xe0 && p[0] <= 0xef)
        n = 3;
    else if (p[0] >= 0xf0 && p[0] <= 0xf4)
        n = 4;
    else
        return 0;
    if (left < n)
        return 0;
    if (p[0] == 0xe0)
        lo = 0xa0;
    else if (p[0] == 0xed)
        hi = 0x9f;
    else if (p[0] == 0xf0)
        lo = 0x90;
    else if (p[0] == 0xf4)
        hi = 0x8f;
    if (p[1] < lo || p[1] > hi)
        return 0;
    for (size_t i = 2; i < n; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    return n;
}

static int hex4(struct reader *r, uint32_t *v)
{
    if (r->end - r->p < 4)
        return fail(r, "json-syntax", "short \\u escape");
    *v = 0;
    for (int i = 0; i < 4; i++) {
        uint8_t c = r->p[i];
        uint32_t d;
        if (c >= '0' && c <= '9')
            d = c - '0';
        else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
            d = (uint32_t)(c | 0x20) - 'a' + 10;
        else
            return fail(r, "json-syntax", "bad \\u escape");
        *v = *v << 4 | d;
    }
    r->p += 4;
    return 0;
}

static size_t utf8_put(uint8_t *dst, uint32_t v)
{
    if (v < 0x80) {
        dst[0] = (uint8_t)v;
        return 1;
    }
    if (v < 0x800) {
        dst[0] = (uint8_t)(0xc0 | v >> 6);
        dst[1] = (uint8_t)(0x80 | (v & 0x3f));
        return 2;
    }
    if (v < 0x10000) {
        dst[0] = (uint8_t)(0xe0 | v >> 12);
        dst[1] = (uint8_t)(0x80 | (v >> 6 & 0x3f));
        dst[2] = (uint8_t)(0x80 | (v & 0x3f));
        return 3;
    }
    dst[0] = (uint8_t)(0xf0 | v >> 18);
    dst[1] = (uint8_t)(0x80 | (v >> 12 & 0x3f));
    dst[2] = (uint8_t)(0x80 | (v >> 6 & 0x3f));
    dst[3] = (uint8_t)(0x80 | (v & 0x3f));
    return 4;
}

/* After "\u". Surrogates must come in pairs; U+0000 is refused, because the tree's strings are
 * read as C strings. */
static int read_unicode(struct reader *r, uint8_t *dst, size_t *n)
{
    uint32_t v, low;
    if (hex4(r, &v) < 0)
        return -1;
    if (v == 0)
        return fail(r, "json-syntax", "NUL in a string");
    if (v >= 0xdc00 && v <= 0xdfff)
        return fail(r, "json-syntax", "unpaired surrogate");
    if (v >= 0xd800 && v <= 0xdbff) {
        if (r->end - r->p < 2 || r->p[0] != '\\' || r->p[1] != 'u')
            return fail(r, "json-syntax", "unpaired surrogate");
        r->p += 2;
        if (hex4(r, &low) < 0)
            return -1;
        if (low < 0xdc00 || low > 0xdfff)
            return fail(r, "json-syntax", "unpaired surrogate");
        v = 0x10000 + ((v - 0xd800) << 10) + (low - 0xdc00);
    }
    *n = utf8_put(dst, v);
    return 0;
}

/* After the backslash. */
static int read_escape(struct reader *r, uint8_t *dst, size_t *n)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    if (r->p >= r->end)
        return fail(r, "json-syntax", "string without its end");
    uint8_t c = *r->p++;
    if (c == 'u')
        return read_unicode(r, dst, n);
    const char *at = c ? strchr(from, c) : NULL;
    if (!at)
        return fail(r, "json-syntax", "unknown escape");
    dst[0] = (uint8_t)to[at - from];
    *n = 1;
    return 0;
}

/* The rest of a string that is not plain ASCII. What is written is never longer than what is
 * read, so a scratch as long as the raw text suffices. */
static int read_string_slow(struct reader *r, struct bytes *out, uint8_t **scratch)
{
    size_t n = 0, len = 0;
    uint8_t *dst = malloc((size_t)(r->end - r->p) + 1);
    if (!dst)
        return fail_memory(r);
    *scratch = dst;
    while (r->p < r->end && *r->p != '"') {
        if (*r->p < 0x20)
            return fail(r, "json-syntax", "control character in a string");
        if (*r->p == '\\') {
            r->p++;
            if (read_escape(r, dst + len, &n) < 0)
                return -1;
        } else {
            n = utf8_sequence(r->p, r->end);
            if (n == 0)
                return fail(r, "json-syntax", "bad UTF-8");
            memcpy(dst + len, r->p, n);
            r->p += n;
        }
        len += n;
    }
    if (r->p >= r->end)
        return fail(r, "json-syntax", "string without its end");
    r->p++;
    *out = (struct bytes){dst, len};
    return 0;
}

/* Whether the text may hold anything but printable ASCII without backslash; eight bytes a time.
 * May say yes where it is no (a borrow into the next byte), which costs time only. */
static bool maybe_odd(const uint8_t *p, const uint8_t *q)
{
    const uint64_t ones = 0x0101010101010101, tops = 0x80 * ones;
    uint64_t odd = 0, w;
    for (; q - p >= 8; p += 8) {
        memcpy(&w, p, sizeof w);
        uint64_t slash = w ^ '\\' * ones;
        odd |= w | (w - 0x20 * ones) | (slash - ones);
        if (odd & tops)
            return true;
    }
    for (; p < q; p++)
        if (*p < 0x20 || *p >= 0x80 || *p == '\\')
            return true;
    return false;
}

/* At the opening quote. `out` views the input, or *scratch (owned by the caller) when the text had
 * to be rewritten. */
static int read_string(struct reader *r, struct bytes *out, uint8_t **scratch)
{
    *scratch = NULL;
    if (r->p >= r->end || *r->p != '"')
        return fail(r, "json-syntax", "string expected");
    r->p++;
    const uint8_t *q = memchr(r->p, '"', (size_t)(r->end - r->p));
    if (!q)
        return fail(r, "json-syntax", "string without its end");
    if (maybe_odd(r->p, q))
        return read_string_slow(r, out, scratch);
    *out = (struct bytes){r->p, (size_t)(q - r->p)};
    r->p = q + 1;
    return 0;
}

static const uint8_t *digits(const uint8_t *p, const uint8_t *end)
{
    while (p < end && *p >= '0' && *p <= '9')
        p++;
    return p;
}

/* Where the number at p ends (RFC 8259 §6), or NULL. */
static const uint8_t *number_end(const uint8_t *p, const uint8_t *end, bool *real)
{
    const uint8_t *q;
    *real = false;
    if (p < end && *p == '-')
        p++;
    q = digits(p, end);
    if (q == p || (*p == '0' && q > p + 1))
        return NULL;
    p = q;
    if (p < end && *p == '.') {
        *real = true;
        q = digits(++p, end);
        if (q == p)
            return NULL;
        p = q;
    }
    if (p < end && (*p | 0x20) == 'e') {
        *real = true;
        p++;
        if (p < end && (*p == '+' || *p == '-'))
            p++;
        q = digits(p, end);
        if (q == p)
            return NULL;
        p = q;
    }
    return p;
}

static json_t *read_number(struct reader *r)
{
    char text[64];
    bool real;
    const uint8_t *q = number_end(r->p, r->end, &real);
    if (!q || (size_t)(q - r->p) >= sizeof text) {
        fail(r, "json-syntax", q ? "number too long" : "bad value");
        return NULL;
    }
    memcpy(text, r->p, (size_t)(q - r->p));
    text[q - r->p] = 0;
    errno = 0;
    json_t *v = NULL;
    if (real) {
        double d = strtod_l(text, NULL, c_locale);
        if (d - d == 0) /* not infinite */
            v = json_real(d);
    } else {
        long long n = strtoll(text, NULL, 10);
        if (errno != ERANGE)
            v = json_integer(n);
    }
    if (!v) {
        fail(r, "json-syntax", "number out of range");
        return NULL;
    }
    r->p = q;
    return v;
}

static json_t *read_value(struct reader *r);

/* One "key": value into obj. */
static int read_member(struct reader *r, json_t *obj)
{
    struct bytes key;
    uint8_t *scratch;
    json_t *value = NULL;
    int rc = read_string(r, &key, &scratch);
    if (rc == 0) {
        const char *k = (const char *)key.p;
        skip_space(r);
        if (json_object_getn(obj, k, key.len))
            rc = fail(r, "json-syntax", "a member stands twice");
        else if (r->p >= r->end || *r->p != ':')
            rc = fail(r, "json-syntax", "':' expected");
        else {
            r->p++;
            value = read_value(r);
            rc = value ? 0 : -1;
            if (value && json_object_setn_new_nocheck(obj, k, key.len, value) < 0)
                rc = fail_memory(r);
        }
    }
    free(scratch);
    return rc;
}

static int read_element(struct reader *r, json_t *array)
{
    json_t *value = read_value(r);
    if (!value)
        return -1;
    return json_array_append_new(array, value) < 0 ? fail_memory(r) : 0;
}

/* At the opening bracket of an object or array. */
static json_t *read_group(struct reader *r)
{
    bool object = *r->p == '{';
    uint8_t close = object ? '}' : ']';
    if (r->depth >= JSON_DEPTH_MAX) {
        fail(r, "json-depth", "nested too deep");
        return NULL;
    }
    json_t *group = object ? json_object() : json_array();
    if (!group) {
        fail_memory(r);
        return NULL;
    }
    r->p++;
    r->depth++;
    skip_space(r);
    bool done = r->p < r->end && *r->p == close;
    while (!done) {
        skip_space(r);
        if ((object ? read_member(r, group) : read_element(r, group)) < 0)
            goto refused;
        skip_space(r);
        if (r->p >= r->end || (*r->p != ',' && *r->p != close)) {
            fail(r, "json-syntax", "',' or closing bracket expected");
            goto refused;
        }
        done = *r->p == close;
        if (!done)
            r->p++;
    }
    r->p++;
    r->depth--;
    return group;
refused:
    json_decref(group);
    return NULL;
}

static bool take_word(struct reader *r, const char *word)
{
    size_t n = strlen(word);
    if ((size_t)(r->end - r->p) < n || memcmp(r->p, word, n) != 0)
        return false;
    r->p += n;
    return true;
}

static json_t *read_value(struct reader *r)
{
    skip_space(r);
    if (r->p < r->end && (*r->p == '{' || *r->p == '['))
        return read_group(r);
    if (r->p < r->end && *r->p == '"') {
        struct bytes s;
        uint8_t *scratch;
        json_t *v = NULL;
        if (read_string(r, &s, &scratch) == 0) {
            v = json_stringn_nocheck((const char *)s.p, s.len);
            if (!v)
                fail_memory(r);
        }
        free(scratch);
        return v;
    }
    if (take_word(r, "true"))
        return json_true();
    if (take_word(r, "false"))
        return json_false();
    if (take_word(r, "null"))
        return json_null();
    return read_number(r);
}

json_t *json_parse(const void *p, size_t len, size_t max, struct err *e)
{
    if (len > max) {
        err_set(e, ERR_MALFORMED, "json-size", "JSON of %zu bytes; at most %zu are read", len, max);
        return NULL;
    }
    pthread_once(&once, setup);
    const uint8_t *start = len ? p : (const uint8_t *)"";
    struct reader r = {start, start, start + len, 0, e};
    skip_space(&r);
    if (r.p >= r.end || (*r.p != '{' && *r.p != '[')) {
        fail(&r, "json-syntax", "object or array expected");
        return NULL;
    }
    json_t *v = read_group(&r);
    if (!v)
        return NULL;
    skip_space(&r);
    if (r.p != r.end) {
        fail(&r, "json-syntax", "bytes left over");
        json_decref(v);
        return NULL;
    }
    return v;
}

const char *json_want_str(const json_t *obj, const char *key, struct err *e)
{
    const char *s = json_maybe_str(obj, key);
    if (!s)
        err_set(e, ERR_MALFORMED, "json-member", "member \"%s\" is missing or not a string", key);
    return s;
}

const char *json_maybe_str(const json_t *obj, const char *key)
{
    return json_string_value(json_object_get(obj, key));
}

void jw_strn(struct buf *b, const char *s, size_t n)
{
    const uint8_t *p = (const uint8_t *)s, *end = p + n, *plain = p;
    buf_u8(b, '"');
    while (p < end) {
        size_t seq = utf8_sequence(p, end);
        if (seq > 0 && *p >= 0x20 && *p != '"' && *p != '\\' && *p != 0x7f) {
            p += seq;
            continue;
        }
        buf_put(b, plain, (size_t)(p - plain));
        /* Not UTF-8, or a NUL, which our own reader refuses: neither must make our output unreadable. */
        if (seq == 0 || *p == 0)
            buf_str(b, "\\ufffd");
        else if (*p == '"' || *p == '\\')
            buf_put(b, (uint8_t[]){'\\', *p}, 2);
        else
            buf_fmt(b, "\\u%04x", *p);
        plain = ++p;
    }
    buf_put(b, plain, (size_t)(p - plain));
    buf_u8(b, '"');
}

void jw_str(struct buf *b, const char *s)
{
    jw_strn(b, s, strlen(s));
}

void jw_strings(struct buf *b, const char *name, char *const *v, size_t n)
{
    buf_fmt(b, ",\"%s\":[", name);
    for (size_t i = 0; i < n; i++) {
        buf_str(b, i ? "," : "");
        jw_str(b, v[i]);
    }
    buf_u8(b, ']');
}
