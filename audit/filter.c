#include "audit/filter.h"
#include "base/spiffe.h"
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CURSOR_VERSION 1
#define INDEX_MASK ((UINT64_C(1) << 48) - 1)

enum form { F_TEXT, F_PREFIX, F_SERIAL, F_KEY, F_OUTCOME, F_TIME, F_ORDER, F_LIMIT, F_CURSOR, F_FORMAT };
static const struct field {
    const char *name;
    enum form form;
    size_t at, cap;
} fields[] = {
#define TEXT(name, form, member)                                                                   \
    {name, form, offsetof(struct audit_filter, member), sizeof((struct audit_filter *)0)->member}
    TEXT("spiffe_id", F_TEXT, spiffe_id),
    TEXT("prefix", F_PREFIX, prefix),
    {"serial", F_SERIAL, 0, 0},
    {"key", F_KEY, 0, 0},
    TEXT("agent", F_TEXT, agent),
    TEXT("attestor", F_TEXT, attestor),
    TEXT("entry", F_TEXT, entry),
    {"outcome", F_OUTCOME, 0, 0},
    TEXT("rule", F_TEXT, rule),
    {"from", F_TIME, offsetof(struct audit_filter, from), 0},
    {"to", F_TIME, offsetof(struct audit_filter, to), 0},
    {"order", F_ORDER, 0, 0},
    {"limit", F_LIMIT, 0, 0},
    {"cursor", F_CURSOR, 0, 0},
    {"format", F_FORMAT, 0, 0},
};
#define FIELDS (sizeof fields / sizeof *fields)

static int refuse(struct err *e, const char *name, const char *why)
{
    return err_set(e, ERR_MALFORMED, "audit-filter", "%s %s", name, why);
}

void audit_filter_init(struct audit_filter *f)
{
    memset(f, 0, sizeof *f);
    f->from = INT64_MIN;
    f->to = INT64_MAX;
    f->limit = AUDIT_LIMIT;
}

/* --- the kinds of values --------------------------------------------------------------------------- */

static int text_set(char *dst, const struct field *d, const char *v, size_t len, struct err *e)
{
    if (len >= d->cap)
        return err_set(e, ERR_MALFORMED, "audit-filter", "%s has at most %zu bytes", d->name, d->cap - 1);
    memcpy(dst, v, len);
    dst[len] = 0;
    return 0;
}

static int prefix_set(char *dst, const struct field *d, const char *v, size_t len, struct err *e)
{
    struct spiffe_id id;
    if (spiffe_parse(&id, v, len, e) < 0) {
        struct err why = *e;
        return err_set(e, ERR_MALFORMED, "audit-filter", "prefix is a SPIFFE ID, and finds it and every ID below it: %.300s",
                       why.msg);
    }
    return text_set(dst, d, v, len, e);
}

/* As OpenSSL prints them, too: upper case, colons, zeros before. */
static int serial_set(struct audit_filter *f, const char *v, size_t len, struct err *e)
{
    size_t n = 0;
    uint64_t value = 0;
    for (size_t i = 0; i < len; i++) {
        char c = v[i];
        int digit = c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
        if (c == ':' && i > 0)
            continue;
        if (digit < 0 || n == 16)
            return refuse(e, "serial", "is a certificate's serial number in hex, of at most 16 digits in this log");
        if (n > 0 || digit > 0)
            f->serial[n++] = "0123456789abcdef"[digit];
        value = value << 4 | (unsigned)digit;
    }
    f->serial[n] = 0;
    f->serial_index = value & INDEX_MASK;
    return n > 0 ? 0 : refuse(e, "serial", "is a certificate's serial number in hex, and not 0");
}

static int key_set(struct audit_filter *f, const char *v, size_t len, struct err *e)
{
    f->by_key = len == HEX_LEN(32) && hex_decode(f->key, sizeof f->key, v, len) == 32;
    return f->by_key ? 0 : refuse(e, "key", "is the SHA-256 of a SubjectPublicKeyInfo, 64 hex digits");
}

static bool digits(const char **s, unsigned n, int *v)
{
    *v = 0;
    for (; n > 0; n--, (*s)++) {
        if (**s < '0' || **s > '9')
            return false;
        *v = *v * 10 + (**s - '0');
    }
    return true;
}

static bool one_of(const char **s, const char *set)
{
    return **s && strchr(set, **s) && (*s)++;
}

/* RFC 3339 §5.6. A fraction of a second is passed over. */
static bool rfc3339(const char *s, int64_t *t)
{
    struct tm tm = {0};
    int sign = 0, hours = 0, minutes = 0, year, month;
    if (!digits(&s, 4, &year) || !one_of(&s, "-") || !digits(&s, 2, &month) || !one_of(&s, "-") ||
        !digits(&s, 2, &tm.tm_mday) || !one_of(&s, "Tt ") || !digits(&s, 2, &tm.tm_hour) || !one_of(&s, ":") ||
        !digits(&s, 2, &tm.tm_min) || !one_of(&s, ":") || !digits(&s, 2, &tm.tm_sec))
        return false;
    if (*s == '.' && s[1] >= '0' && s[1] <= '9')
        s += 1 + strspn(s + 1, "0123456789");
    if (*s == '+' || *s == '-') {
        sign = *s++ == '+' ? -1 : 1;
        if (!digits(&s, 2, &hours) || !one_of(&s, ":") || !digits(&s, 2, &minutes))
            return false;
    } else if (!one_of(&s, "Zz")) {
        return false;
    }
    tm.tm_year = year - 1900;
    tm.tm_mon = month - 1;
    struct tm asked = tm;
    *t = (int64_t)timegm(&tm) + sign * (hours * 3600 + minutes * 60);
    return !*s && hours < 24 && minutes < 60 && tm.tm_mday == asked.tm_mday && tm.tm_mon == asked.tm_mon &&
           tm.tm_hour == asked.tm_hour && tm.tm_min == asked.tm_min && tm.tm_sec == asked.tm_sec;
}

static int time_set(int64_t *t, const char *name, const char *v, size_t len, struct err *e)
{
    char s[48];
    if (len < sizeof s) {
        memcpy(s, v, len);
        s[len] = 0;
        if (len > 0 && len <= 12 && strspn(s, "0123456789") == len) {
            *t = strtoll(s, NULL, 10);
            return 0;
        }
        if (strlen(s) == len && rfc3339(s, t))
            return 0;
    }
    return refuse(e, name, "is a point in time, as 2026-01-31T12:00:00Z or in Unix seconds");
}

static int order_set(struct audit_filter *f, const char *v, struct err *e)
{
    f->oldest = strcmp(v, "oldest") == 0;
    return f->oldest || strcmp(v, "newest") == 0 ? 0 : refuse(e, "order", "is newest or oldest");
}

static int limit_set(struct audit_filter *f, const char *v, struct err *e)
{
    size_t n = strlen(v);
    unsigned long limit = n > 0 && n <= 4 && strspn(v, "0123456789") == n ? strtoul(v, NULL, 10) : 0;
    f->limit = (unsigned)limit;
    return limit >= 1 && limit <= AUDIT_LIMIT_MAX ? 0 : refuse(e, "limit", "is a number from 1 to 1000");
}

static int outcome_set(struct audit_filter *f, const char *v, struct err *e)
{
    f->outcome = audit_kind_of(v);
    return f->outcome != AUDIT_OTHER ? 0
                                     : refuse(e, "outcome", "is one of: issued, refused, revoked, changed, authority, null, jwt");
}

static int format_set(struct audit_filter *f, const char *v, struct err *e)
{
    static const char *const names[] = {[AUDIT_JSON] = "json", [AUDIT_JSONL] = "jsonl", [AUDIT_CSV] = "csv"};
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(v, names[i]) == 0) {
            f->format = (enum audit_format)i;
            return 0;
        }
    return refuse(e, "format", "is one of: json, jsonl, csv");
}

/* --- cursors ------------------------------------------------------------------------------------------ */
/* u8 version ‖ u8 order ‖ u48 entry shown last ‖ 8 bytes of the question's hash. Whoever makes one up
 * gets entries that he could have asked for. */

static void question_hash(uint8_t hash[8], const struct audit_filter *f)
{
    struct buf b;
    struct tlog_hash h;
    buf_init(&b, 16384);
    const char *const texts[] = {f->spiffe_id, f->prefix, f->agent, f->attestor, f->entry, f->rule, f->serial};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        buf_vec16(&b, texts[i], strlen(texts[i]));
    buf_vec8(&b, f->key, f->by_key ? sizeof f->key : 0);
    buf_u8(&b, (uint8_t)f->outcome);
    buf_u64(&b, (uint64_t)f->from);
    buf_u64(&b, (uint64_t)f->to);
    merkle_leaf(&h, b.p, b.len); /* SHA-256 */
    memcpy(hash, h.b, 8);
    buf_free(&b);
}

void audit_cursor_write(char dst[AUDIT_CURSOR_LEN + 1], const struct audit_filter *f, uint64_t after)
{
    uint8_t c[16] = {CURSOR_VERSION, f->oldest};
    for (int i = 0; i < 6; i++)
        c[2 + i] = (uint8_t)(after >> (40 - 8 * i));
    question_hash(c + 8, f);
    b64url_encode(dst, c, sizeof c);
}

static int cursor_set(struct audit_filter *f, const char *v, size_t len, struct err *e)
{
    uint8_t c[16];
    if (len != AUDIT_CURSOR_LEN || b64url_decode(c, sizeof c, v, len) != sizeof c || c[0] != CURSOR_VERSION || c[1] > 1)
        return err_set(e, ERR_MALFORMED, "audit-cursor", "cursor is none that an answer gave as \"next\"; leave it out to begin again");
    f->resumed = true;
    f->after = 0;
    for (int i = 0; i < 6; i++)
        f->after = f->after << 8 | c[2 + i];
    memcpy(f->question, c + 8, sizeof f->question);
    f->question[0] ^= c[1]; /* the order belongs to the question */
    return 0;
}

int audit_filter_check(const struct audit_filter *f, struct err *e)
{
    uint8_t hash[8];
    if (f->from > f->to)
        return refuse(e, "from", "is later than to");
    if (!f->resumed)
        return 0;
    question_hash(hash, f);
    hash[0] ^= f->oldest;
    if (memcmp(hash, f->question, sizeof hash) != 0)
        return err_set(e, ERR_MALFORMED, "audit-cursor",
                       "cursor belongs to another question: give the same filters and order as before, or leave it out");
    return 0;
}

/* --- names --------------------------------------------------------------------------------------------- */

static int unknown(const char *name, struct err *e)
{
    char list[200] = "";
    for (size_t i = 0; i < FIELDS; i++) {
        size_t n = strlen(list);
        snprintf(list + n, sizeof list - n, "%s%s", i ? ", " : "", fields[i].name);
    }
    return err_set(e, ERR_MALFORMED, "audit-filter", "there is no filter \"%.40s\"; there are: %s", name, list);
}

static int value_set(struct audit_filter *f, const struct field *d, const char *v, size_t len, struct err *e)
{
    switch (d->form) {
    case F_TEXT: return text_set((char *)f + d->at, d, v, len, e);
    case F_PREFIX: return prefix_set((char *)f + d->at, d, v, len, e);
    case F_SERIAL: return serial_set(f, v, len, e);
    case F_KEY: return key_set(f, v, len, e);
    case F_OUTCOME: return outcome_set(f, v, e);
    case F_TIME: return time_set((int64_t *)(void *)((char *)f + d->at), d->name, v, len, e);
    case F_ORDER: return order_set(f, v, e);
    case F_LIMIT: return limit_set(f, v, e);
    case F_CURSOR: return cursor_set(f, v, len, e);
    case F_FORMAT: return format_set(f, v, e);
    }
    return -1;
}

int audit_filter_set(struct audit_filter *f, const char *name, const char *value, size_t len, struct err *e)
{
    size_t i = 0;
    while (i < FIELDS && strcmp(fields[i].name, name) != 0)
        i++;
    if (i == FIELDS)
        return unknown(name, e);
    if (f->seen & 1u << i)
        return refuse(e, name, "is given twice");
    f->seen |= 1u << i;
    if (len == 0)
        return refuse(e, name, "is empty");
    for (size_t k = 0; k < len; k++)
        if ((unsigned char)value[k] < 0x20 || value[k] == 0x7f)
            return refuse(e, name, "has a control character");
    if (value[len] != 0)
        return err_set(e, ERR_INTERNAL, "audit-filter", "a value without its end");
    return value_set(f, &fields[i], value, len, e);
}

/* --- query strings -------------------------------------------------------------------------------------- */

static int percent_decode(char *dst, size_t cap, size_t *n, const char *s, size_t len, struct err *e)
{
    *n = 0;
    for (size_t i = 0; i < len; i++) {
        if (*n + 1 >= cap)
            return err_set(e, ERR_MALFORMED, "audit-query", "a name or value of the query is longer than any filter takes");
        if (s[i] != '%') {
            dst[(*n)++] = s[i];
        } else {
            if (len - i < 3 || hex_decode(dst + *n, 1, s + i + 1, 2) != 1)
                return err_set(e, ERR_MALFORMED, "audit-query", "a percent sign in the query is not followed by two hex digits");
            (*n)++;
            i += 2;
        }
    }
    dst[*n] = 0;
    return 0;
}

static int pair_set(struct audit_filter *f, const char *pair, size_t len, struct err *e)
{
    char name[64], value[TLOG_NAME_MAX + 64];
    size_t name_len, value_len;
    const char *equals = memchr(pair, '=', len);
    if (!equals)
        return err_set(e, ERR_MALFORMED, "audit-query", "a part of the query has no \"=\": it is name=value&name=value…");
    if (percent_decode(name, sizeof name, &name_len, pair, (size_t)(equals - pair), e) < 0 ||
        percent_decode(value, sizeof value, &value_len, equals + 1, len - (size_t)(equals + 1 - pair), e) < 0)
        return -1;
    if (strlen(name) != name_len)
        return err_set(e, ERR_MALFORMED, "audit-query", "a name of the query has a NUL");
    return audit_filter_set(f, name, value, value_len, e);
}

int audit_query_parse(struct audit_filter *f, const char *query, size_t len, struct err *e)
{
    audit_filter_init(f);
    if (len > AUDIT_QUERY_MAX)
        return err_set(e, ERR_MALFORMED, "audit-query", "a query has at most %d bytes", AUDIT_QUERY_MAX);
    for (size_t at = 0; at < len;) {
        const char *end = memchr(query + at, '&', len - at);
        size_t n = end ? (size_t)(end - query) - at : len - at;
        if (pair_set(f, query + at, n, e) < 0)
            return -1;
        at += n + 1;
        if (end && at == len)
            return err_set(e, ERR_MALFORMED, "audit-query", "the query ends with \"&\"");
    }
    return audit_filter_check(f, e);
}

/* --- matching --------------------------------------------------------------------------------------------- */

static bool text_matches(const char *asked, struct bytes has)
{
    return !*asked || bytes_eq_str(has, asked);
}

static bool below(const char *prefix, struct bytes id)
{
    size_t n = strlen(prefix);
    return id.len >= n && memcmp(id.p, prefix, n) == 0 && (id.len == n || id.p[n] == '/');
}

static bool serial_matches(const struct audit_filter *f, const struct audit_entry *t)
{
    return (t->kind == AUDIT_ISSUED && t->index == f->serial_index) || bytes_eq_str(t->serial_hex, f->serial);
}

bool audit_filter_matches(const struct audit_filter *f, const struct audit_entry *t)
{
    if (!text_matches(f->spiffe_id, t->spiffe_id) || !text_matches(f->agent, t->agent) ||
        !text_matches(f->attestor, t->attestor) || !text_matches(f->entry, t->entry_id) || !text_matches(f->rule, t->rule))
        return false;
    if ((*f->prefix && !below(f->prefix, t->spiffe_id)) || (*f->serial && !serial_matches(f, t)) ||
        (f->by_key && !bytes_eq(t->key, f->key, sizeof f->key)) || (f->outcome != AUDIT_OTHER && t->kind != f->outcome))
        return false;
    bool timed = f->from != INT64_MIN || f->to != INT64_MAX;
    return !timed || (t->time >= 0 && t->time >= f->from && t->time <= f->to);
}
