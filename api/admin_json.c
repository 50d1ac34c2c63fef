#include "api/admin_json.h"
#include "base/jose.h"
#include <stdlib.h>
#include <string.h>

#include <strings.h>

#define TTL_MAX (10u * 365 * 86400)

static json_t *strict_object(const void *json, size_t len, const char *const *members, struct err *e)
{
    const char *key;
    json_t *v, *doc = json_parse(json, len, JWS_MAX, e);
    if (!doc)
        return NULL;
    if (!json_is_object(doc))
        err_set(e, ERR_MALFORMED, "json-member", "a JSON object is expected");
    else
        err_clear(e);
    json_object_foreach(doc, key, v)
    {
        const char *const *m = members;
        while (*m && strcmp(*m, key) != 0)
            m++;
        if (!*m)
            err_set(e, ERR_MALFORMED, "json-member", "member \"%.64s\" is not known here", key);
    }
    if (e->code == ERR_NONE)
        return doc;
    json_decref(doc);
    return NULL;
}

/* Absent or null: NULL. Borrowed from doc. */
static int optional_str(const char **out, const json_t *doc, const char *name, struct err *e)
{
    const json_t *v = json_object_get(doc, name);
    *out = json_string_value(v);
    if (v && !json_is_null(v) && (!*out || !**out))
        return err_set(e, ERR_MALFORMED, "json-member", "\"%s\" is not a string, or empty", name);
    return 0;
}

/* As optional_str, but it may be empty. */
static int optional_text(const char **out, const json_t *doc, const char *name, struct err *e)
{
    const json_t *v = json_object_get(doc, name);
    *out = json_string_value(v);
    return v && !*out ? err_set(e, ERR_MALFORMED, "json-member", "\"%s\" is not a string", name) : 0;
}

static int optional_number(uint64_t *out, const json_t *doc, const char *name, uint64_t max, struct err *e)
{
    const json_t *v = json_object_get(doc, name);
    json_int_t n = json_integer_value(v);
    if (v && (!json_is_integer(v) || n < 0 || (uint64_t)n > max))
        return err_set(e, ERR_MALFORMED, "json-member", "\"%s\" is not a whole number from 0 to %llu", name,
                       (unsigned long long)max);
    *out = (uint64_t)n;
    return 0;
}

static int optional_bool(bool *out, const json_t *doc, const char *name, struct err *e)
{
    const json_t *v = json_object_get(doc, name);
    *out = json_is_true(v);
    return v && !json_is_boolean(v) ? err_set(e, ERR_MALFORMED, "json-member", "\"%s\" is not true or false", name) : 0;
}

/* Array of strings into list; they stay doc's. */
static int string_list(const char **list, size_t max, size_t *count, const json_t *doc, const char *name, struct err *e)
{
    const json_t *v = json_object_get(doc, name), *s;
    size_t i;
    *count = 0;
    if (!v)
        return 0;
    if (!json_is_array(v) || json_array_size(v) > max)
        return err_set(e, ERR_MALFORMED, "json-member", "\"%s\" is not an array of at most %zu strings", name, max);
    json_array_foreach(v, i, s)
    {
        list[i] = json_string_value(s);
        if (!list[i] || !*list[i])
            return err_set(e, ERR_MALFORMED, "json-member", "\"%s\" holds what is not a string, or empty", name);
    }
    *count = i;
    return 0;
}

/* ra_entry's strings are not const because their owner may free them; here the owner is doc. */
static char *borrowed(const char *s)
{
    union {
        const char *in;
        char *out;
    } u = {s};
    return u.out;
}

static int borrowed_list(char ***out, size_t *count, size_t max, const json_t *doc, const char *name, struct err *e)
{
    const char *list[ATTEST_SELECTORS_MAX];
    if (string_list(list, max, count, doc, name, e) < 0)
        return -1;
    *out = calloc(*count ? *count : 1, sizeof **out);
    if (!*out)
        return err_set(e, ERR_INTERNAL, "memory", "out of memory for an entry");
    for (size_t i = 0; i < *count; i++)
        (*out)[i] = borrowed(list[i]);
    return 0;
}
_Static_assert(CA_DNS_MAX <= ATTEST_SELECTORS_MAX, "one list serves both");

int admin_entry_parse(struct admin_entry *a, const void *json, size_t len, struct err *e)
{
    static const char *const members[] = {"spiffe_id", "parent", "selectors", "dns", "ttl", "auditor", "hint", "revision", NULL};
    const char *id, *parent, *hint;
    uint64_t ttl;
    struct ra_entry *x = &a->entry;
    a->doc = strict_object(json, len, members, e);
    if (!a->doc || optional_str(&id, a->doc, "spiffe_id", e) < 0 || optional_str(&parent, a->doc, "parent", e) < 0 ||
        optional_number(&ttl, a->doc, "ttl", TTL_MAX, e) < 0 ||
        optional_number(&x->revision, a->doc, "revision", INT64_MAX, e) < 0 || optional_bool(&x->auditor, a->doc, "auditor", e) < 0 ||
        optional_text(&hint, a->doc, "hint", e) < 0 ||
        borrowed_list(&x->selectors, &x->selectors_count, ATTEST_SELECTORS_MAX, a->doc, "selectors", e) < 0 ||
        borrowed_list(&x->dns, &x->dns_count, CA_DNS_MAX, a->doc, "dns", e) < 0)
        return -1;
    if (!id)
        return err_set(e, ERR_MALFORMED, "json-member", "\"spiffe_id\" is missing: which identity?");
    x->spiffe_id = borrowed(id);
    x->parent = borrowed(parent);
    x->hint = borrowed(hint);
    x->ttl = (unsigned)ttl;
    return 0;
}

void admin_entry_free(struct admin_entry *a)
{
    free(a->entry.selectors);
    free(a->entry.dns);
    json_decref(a->doc);
    *a = (struct admin_entry){0};
}

void admin_entry_write(struct buf *out, const struct ra_entry *x)
{
    buf_str(out, "{\"id\":");
    jw_str(out, x->id);
    buf_str(out, ",\"spiffe_id\":");
    jw_str(out, x->spiffe_id);
    buf_str(out, ",\"parent\":");
    jw_str(out, x->parent ? x->parent : "");
    jw_strings(out, "selectors", x->selectors, x->selectors_count);
    jw_strings(out, "dns", x->dns, x->dns_count);
    buf_str(out, ",\"hint\":");
    jw_str(out, x->hint ? x->hint : "");
    buf_fmt(out, ",\"ttl\":%u,\"auditor\":%s,\"revision\":%llu,\"created\":%lld,\"updated\":%lld}", x->ttl,
            x->auditor ? "true" : "false", (unsigned long long)x->revision, (long long)x->created, (long long)x->updated);
}

int admin_token_parse(struct admin_token *a, const void *json, size_t len, struct err *e)
{
    static const char *const members[] = {"spiffe_id", "selectors", "lifetime", NULL};
    uint64_t lifetime;
    struct ra_token_request *q = &a->request;
    a->doc = strict_object(json, len, members, e);
    if (!a->doc || optional_str(&q->spiffe_id, a->doc, "spiffe_id", e) < 0 ||
        optional_number(&lifetime, a->doc, "lifetime", TTL_MAX, e) < 0 ||
        string_list(a->selectors, ATTEST_SELECTORS_MAX, &q->selectors_count, a->doc, "selectors", e) < 0)
        return -1;
    if (!q->spiffe_id && q->selectors_count == 0)
        return err_set(e, ERR_MALFORMED, "json-member", "\"spiffe_id\" or \"selectors\" is needed: what does the token prove?");
    q->selectors = a->selectors;
    q->lifetime = (unsigned)lifetime;
    return 0;
}

void admin_token_free(struct admin_token *a)
{
    json_decref(a->doc);
    *a = (struct admin_token){0};
}

/* --- revocations ------------------------------------------------------------------------------------- */

static const char *const reasons[] = { /* RFC 5280 §5.3.1 */
    "unspecified", "keyCompromise", "cACompromise", "affiliationChanged", "superseded", "cessationOfOperation",
    "certificateHold", NULL, NULL, "privilegeWithdrawn", "aACompromise",
};
#define REASONS (sizeof reasons / sizeof *reasons)

static int reason_parse(uint8_t *reason, const json_t *doc, struct err *e)
{
    const json_t *v = json_object_get(doc, "reason");
    const char *word = json_string_value(v);
    json_int_t n = json_integer_value(v);
    *reason = 0;
    if (!v)
        return 0;
    for (size_t i = 0; i < REASONS; i++)
        if (reasons[i] && (word ? strcasecmp(word, reasons[i]) == 0 : json_is_integer(v) && n == (json_int_t)i)) {
            *reason = (uint8_t)i;
            return 0;
        }
    return err_set(e, ERR_MALFORMED, "revocation-reason",
                   "no such reason; there are unspecified, keyCompromise, cACompromise, affiliationChanged, superseded, "
                   "cessationOfOperation, certificateHold, privilegeWithdrawn and aACompromise");
}

static int by_parse(enum tlog_revoked_by *by, const char *word, struct err *e)
{
    for (*by = TLOG_BY_SERIAL; *by <= TLOG_BY_KEY; (*by)++)
        if (word && strcmp(word, tlog_record_code(TLOG_ENTRY_REVOCATION, (uint8_t)*by)) == 0)
            return 0;
    return err_set(e, ERR_MALFORMED, "json-member",
                   "\"by\" is one of serial, spiffe_id, prefix, entry, agent and key");
}

/* In place. A lone 0 stays. */
static void hex_plain(char *s, bool number)
{
    char *to = s;
    for (const char *p = s; *p; p++)
        if (*p != ':' && !(number && to == s && *p == '0' && p[1]))
            *to++ = *p >= 'A' && *p <= 'F' ? (char)(*p - 'A' + 'a') : *p;
    *to = 0;
}

int admin_revocation_parse(struct admin_revocation *a, const void *json, size_t len, struct err *e)
{
    static const char *const members[] = {"by", "value", "reason", "comment", NULL};
    const char *by, *value;
    struct ra_revoke *w = &a->want;
    a->doc = strict_object(json, len, members, e);
    if (!a->doc || optional_str(&by, a->doc, "by", e) < 0 || by_parse(&w->by, by, e) < 0 ||
        optional_str(&value, a->doc, "value", e) < 0 || optional_str(&w->comment, a->doc, "comment", e) < 0 ||
        reason_parse(&w->reason, a->doc, e) < 0)
        return -1;
    if (!value)
        return err_set(e, ERR_MALFORMED, "json-member", "\"value\" is missing: what is revoked?");
    if (!(a->value = strdup(value)))
        return err_set(e, ERR_INTERNAL, "memory", "out of memory for a revocation");
    if (w->by == TLOG_BY_SERIAL || w->by == TLOG_BY_KEY)
        hex_plain(a->value, w->by == TLOG_BY_SERIAL);
    w->value = a->value;
    return 0;
}

void admin_revocation_free(struct admin_revocation *a)
{
    free(a->value);
    json_decref(a->doc);
    *a = (struct admin_revocation){0};
}

void admin_revocation_write(struct buf *out, const struct ra_revocation *x, bool ended)
{
    const char *reason = x->reason < REASONS ? reasons[x->reason] : NULL;
    buf_fmt(out, "{\"id\":%lld,\"time\":%lld,\"by\":", (long long)x->id, (long long)x->time);
    jw_str(out, tlog_record_code(TLOG_ENTRY_REVOCATION, (uint8_t)x->by));
    buf_str(out, ",\"value\":");
    jw_str(out, x->value);
    buf_str(out, ",\"reason\":");
    jw_str(out, reason ? reason : "unspecified");
    buf_str(out, ",\"actor\":");
    jw_str(out, x->actor);
    buf_str(out, ",\"comment\":");
    jw_str(out, x->comment);
    if (x->logged)
        buf_fmt(out, ",\"log_index\":%llu", (unsigned long long)x->index);
    else
        buf_str(out, ",\"log_index\":null");
    if (ended)
        buf_fmt(out, ",\"ended\":{\"sessions\":%llu,\"authorizations\":%llu,\"tokens\":%llu}",
                (unsigned long long)x->ended.sessions, (unsigned long long)x->ended.authorizations,
                (unsigned long long)x->ended.tokens);
    buf_u8(out, '}');
}
