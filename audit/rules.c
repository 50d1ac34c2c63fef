#include "audit/rules.h"
#include "base/spiffe.h"
#include <stdlib.h>
#include <string.h>

#define SHOWN 160 /* bytes of a name in a message */

void audit_rules_free(struct audit_rules *r)
{
    for (size_t i = 0; i < r->patterns_count; i++)
        free(r->patterns[i]);
    for (size_t i = 0; i < r->attestors_count; i++)
        free(r->attestors[i]);
    free(r->keys);
    memset(r, 0, sizeof *r);
}

/* --- what is allowed ------------------------------------------------------------------------------ */

static int no_memory(struct err *e)
{
    return err_set(e, ERR_INTERNAL, "memory", "out of memory");
}

static bool open_ended(const char *pattern, size_t len)
{
    return len > 2 && memcmp(pattern + len - 2, "/*", 2) == 0;
}

int audit_rules_allow(struct audit_rules *r, const char *pattern, struct err *e)
{
    struct spiffe_id id;
    size_t len = strlen(pattern);
    if (spiffe_parse(&id, pattern, open_ended(pattern, len) ? len - 2 : len, e) < 0)
        return err_set(e, ERR_USAGE, "pattern",
                       "\"%.200s\" is neither a SPIFFE ID nor one with /* behind it, as spiffe://example.org/web/*", pattern);
    if (r->patterns_count == AUDIT_PATTERNS_MAX)
        return err_set(e, ERR_USAGE, "pattern", "more than %d patterns", AUDIT_PATTERNS_MAX);
    if (!(r->patterns[r->patterns_count] = strdup(pattern)))
        return no_memory(e);
    r->patterns_count++;
    return 0;
}

int audit_rules_attestors(struct audit_rules *r, const char *list, struct err *e)
{
    for (const char *p = list;; p++) {
        size_t n = strcspn(p, ",");
        if (n == 0 || n > 32 || r->attestors_count == AUDIT_ATTESTORS_MAX)
            return err_set(e, ERR_USAGE, "attestors",
                           "\"%.100s\" is no list of at most %d kinds of evidence, as join_token,x509pop", list,
                           AUDIT_ATTESTORS_MAX);
        if (!(r->attestors[r->attestors_count] = strndup(p, n)))
            return no_memory(e);
        r->attestors_count++;
        p += n;
        if (!*p)
            return 0;
    }
}

static int key_compare(const void *a, const void *b)
{
    return memcmp(a, b, 32);
}

static size_t lines_of(const char *text, size_t len)
{
    size_t n = 1;
    for (size_t i = 0; i < len; i++)
        n += text[i] == '\n';
    return n;
}

/* Without the blanks around it and the comment behind it. */
static struct bytes line_trim(const char *p, size_t n)
{
    const char *comment = memchr(p, '#', n);
    if (comment)
        n = (size_t)(comment - p);
    for (; n > 0 && (*p == ' ' || *p == '\t'); p++)
        n--;
    while (n > 0 && (p[n - 1] == ' ' || p[n - 1] == '\t' || p[n - 1] == '\r'))
        n--;
    return (struct bytes){(const uint8_t *)p, n};
}

int audit_rules_keys(struct audit_rules *r, const char *text, size_t len, struct err *e)
{
    size_t lines = lines_of(text, len), number = 1;
    if (lines > AUDIT_KEYS_MAX)
        return err_set(e, ERR_TOO_LARGE, "known-keys", "more than %d lines", AUDIT_KEYS_MAX);
    if (r->by_key || !(r->keys = malloc(lines * sizeof *r->keys)))
        return r->by_key ? err_set(e, ERR_USAGE, "known-keys", "one file of known keys") : no_memory(e);
    r->by_key = true;
    for (size_t at = 0; at < len; number++) {
        const char *end = memchr(text + at, '\n', len - at);
        size_t n = end ? (size_t)(end - (text + at)) : len - at;
        struct bytes hex = line_trim(text + at, n);
        at += n + (end != NULL);
        if (hex.len == 0)
            continue;
        if (hex.len != 64 || hex_decode(r->keys[r->keys_count], 32, (const char *)hex.p, 64) != 32)
            return err_set(e, ERR_MALFORMED, "known-keys",
                           "line %zu is no SHA-256 of a SubjectPublicKeyInfo in hex (64 digits)", number);
        r->keys_count++;
    }
    qsort(r->keys, r->keys_count, sizeof *r->keys, key_compare);
    return 0;
}

/* --- judging -------------------------------------------------------------------------------------- */

static bool key_known(const struct audit_rules *r, struct bytes key)
{
    return key.len == 32 && r->keys_count > 0 && bsearch(key.p, r->keys, r->keys_count, sizeof *r->keys, key_compare);
}

static bool allowed(const struct audit_rules *r, struct bytes id)
{
    for (size_t i = 0; i < r->patterns_count; i++) {
        const char *p = r->patterns[i];
        size_t n = strlen(p);
        if (open_ended(p, n) ? id.len > n - 1 && memcmp(id.p, p, n - 1) == 0 : bytes_eq(id, p, n))
            return true;
    }
    return false;
}

static bool attestor_known(const struct audit_rules *r, struct bytes kind)
{
    for (size_t i = 0; i < r->attestors_count; i++)
        if (bytes_eq_str(kind, r->attestors[i]))
            return true;
    return false;
}

struct judge {
    const struct audit_entry *t;
    audit_alert_cb *alert;
    void *arg;
    char id[SHOWN], other[SHOWN], more[SHOWN];
};

static const char *shown(char dst[SHOWN], struct bytes v)
{
    if (v.len == 0)
        return "(none)";
    tlog_text_clean(dst, SHOWN, (const char *)v.p, v.len);
    return dst;
}

#define SAY(j, rule, ...)                                                                                              \
    do {                                                                                                               \
        struct err why_;                                                                                               \
        err_set(&why_, ERR_CORRUPT, rule, __VA_ARGS__);                                                                \
        (j)->alert((j)->arg, (j)->t, &why_);                                                                           \
    } while (0)

static void certificate_judge(const struct audit_rules *r, struct judge *j)
{
    const struct audit_entry *t = j->t;
    char hex[65];
    hex_encode(hex, t->cert.spki_hash, 32);
    bool known = key_known(r, t->key);
    if (t->cert.ca && !known)
        SAY(j, "ca-certificate", "a certificate of the authority itself, for the key %s", hex);
    if (t->cert.ca)
        return;
    if (r->by_key && !known)
        SAY(j, "unknown-key", "a certificate for %s with the key %s, which is not in the list", shown(j->id, t->spiffe_id), hex);
    if (r->patterns_count > 0 && !allowed(r, t->spiffe_id))
        SAY(j, "outside-pattern", "a certificate for %s, which no pattern allows; asked for by %s", shown(j->id, t->spiffe_id),
            shown(j->other, t->agent));
    if (r->attestors_count > 0 && !attestor_known(r, t->attestor))
        SAY(j, "attestor", "a certificate for %s, given for evidence of kind %s", shown(j->id, t->spiffe_id),
            shown(j->other, t->attestor));
}

static void jwt_judge(const struct audit_rules *r, struct judge *j)
{
    const struct audit_entry *t = j->t;
    if (r->patterns_count > 0 && !allowed(r, t->spiffe_id))
        SAY(j, "outside-pattern", "a JWT-SVID for %s, which no pattern allows; asked for by %s", shown(j->id, t->spiffe_id),
            shown(j->other, t->agent));
    if (r->attestors_count > 0 && !attestor_known(r, t->attestor))
        SAY(j, "attestor", "a JWT-SVID for %s, given for evidence of kind %s", shown(j->id, t->spiffe_id),
            shown(j->other, t->attestor));
}

static void authority_judge(const struct audit_rules *r, struct judge *j)
{
    const struct audit_entry *t = j->t;
    if (t->record.code == TLOG_NEW_JWT_KEY && !key_known(r, t->key))
        SAY(j, "jwt-key", "the authority signs JWT-SVIDs with a new key: kid %s", shown(j->id, t->record.value));
    if (r->changes)
        SAY(j, "authority-change", "the authority has a new %s: %s", tlog_record_code(t->type, t->record.code),
            shown(j->id, t->record.value));
}

static void change_judge(const struct audit_rules *r, struct judge *j)
{
    const struct audit_entry *t = j->t;
    const char *what = tlog_record_code(t->type, t->record.code);
    shown(j->id, t->spiffe_id);
    if (t->record.code != TLOG_DELETED && r->patterns_count > 0 && !allowed(r, t->spiffe_id))
        SAY(j, "outside-pattern", "a registration entry %s for %s, which no pattern allows, by %s", what, j->id,
            shown(j->other, t->record.actor));
    if (r->changes)
        SAY(j, "entry-change", "the registration entry of %s was %s by %s", j->id, what, shown(j->other, t->record.actor));
}

void audit_rules_judge(const struct audit_rules *r, const struct audit_entry *t, audit_alert_cb *alert, void *arg)
{
    struct judge j = {.t = t, .alert = alert, .arg = arg};
    switch (t->kind) {
    case AUDIT_ISSUED: certificate_judge(r, &j); return;
    case AUDIT_CHANGED: change_judge(r, &j); return;
    case AUDIT_REFUSED:
        if (r->refusals)
            SAY(&j, "refusal", "%s was refused %u times (%s): %s", shown(j.id, t->spiffe_id), t->record.count,
                shown(j.other, t->rule), shown(j.more, t->record.why));
        return;
    case AUDIT_REVOKED:
        if (r->revocations)
            SAY(&j, "revocation", "revoked by %s %s, by %s", tlog_record_code(t->type, t->record.code),
                shown(j.id, t->record.value), shown(j.other, t->record.actor));
        return;
    case AUDIT_AUTHORITY: authority_judge(r, &j); return;
    case AUDIT_JWT: jwt_judge(r, &j); return;
    default: return;
    }
}
