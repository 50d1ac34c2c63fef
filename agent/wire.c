/* Parsers of wire.h. */
#include "agent/wire.h"
#include "base/clock.h"
#include "base/crl_name.h"
#include "base/spiffe.h"
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int bad(struct err *e, const char *what, const char *why)
{
    return err_set(e, ERR_INTERNAL, "acme-answer", "the authority's %s is not as agreed (%s): are agent and authority "
                   "of one age?", what, why);
}

static json_t *object(struct bytes body, size_t max, const char *what, struct err *e)
{
    json_t *doc = json_parse(body.p, body.len, max, e);
    if (json_is_object(doc))
        return doc;
    bad(e, what, doc ? "no JSON object" : "no JSON");
    json_decref(doc);
    return NULL;
}

/* A string member of 1 to max bytes, without NUL (json.h refuses them). NULL otherwise. */
static const char *text_member(const json_t *doc, const char *key, size_t max)
{
    const json_t *v = json_object_get(doc, key);
    return json_is_string(v) && json_string_length(v) >= 1 && json_string_length(v) <= max ? json_string_value(v) : NULL;
}

/* --- entries ------------------------------------------------------------------------------------------------------ */

void texts_free(char **list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(list[i]);
    free(list);
}

void entry_free(struct entry *x)
{
    free(x->id);
    free(x->spiffe_id);
    free(x->hint);
    texts_free(x->selectors, x->selectors_count);
    texts_free(x->dns, x->dns_count);
    memset(x, 0, sizeof *x);
}

void entry_list_free(struct entry_list *l)
{
    for (size_t i = 0; i < l->n; i++)
        entry_free(&l->list[i]);
    free(l->list);
    memset(l, 0, sizeof *l);
}

static int text_list(char ***dst, size_t *n, const json_t *v, size_t max, size_t text_max)
{
    size_t i;
    const json_t *item;
    if (!v)
        return 0;
    if (!json_is_array(v) || json_array_size(v) > max || !(*dst = calloc(json_array_size(v) + 1, sizeof **dst)))
        return -1;
    json_array_foreach(v, i, item)
    {
        if (!json_is_string(item) || json_string_length(item) == 0 || json_string_length(item) > text_max ||
            !((*dst)[*n] = strdup(json_string_value(item))))
            return -1;
        (*n)++;
    }
    return 0;
}

static int entry_read(struct entry *x, const json_t *v, struct err *e)
{
    struct spiffe_id id;
    const char *name = text_member(v, "id", ENTRY_ID_MAX), *spiffe = text_member(v, "spiffe_id", SPIFFE_ID_MAX),
               *hint = json_maybe_str(v, "hint");
    const json_t *ttl = json_object_get(v, "ttl"), *revision = json_object_get(v, "revision"),
                 *number = json_object_get(v, "number");
    if (!name || !spiffe || spiffe_parse(&id, spiffe, strlen(spiffe), e) < 0 || id.path.len == 0)
        return bad(e, "list of entries", "id or spiffe_id");
    if (!json_is_integer(ttl) || json_integer_value(ttl) < 1 || json_integer_value(ttl) > 86400 * 366 ||
        !json_is_integer(revision) || (hint && strlen(hint) > HINT_MAX))
        return bad(e, "list of entries", "ttl, revision or hint");
    if (number && (!json_is_integer(number) || json_integer_value(number) < 0))
        return bad(e, "list of entries", "number");
    x->id = strdup(name);
    x->spiffe_id = strdup(spiffe);
    x->hint = strdup(hint ? hint : "");
    x->ttl = (unsigned)json_integer_value(ttl);
    x->revision = json_integer_value(revision);
    x->number = json_integer_value(number); /* not there: 0 */
    if (!x->id || !x->spiffe_id || !x->hint ||
        text_list(&x->selectors, &x->selectors_count, json_object_get(v, "selectors"), ENTRY_SELECTORS_MAX,
                  ATTEST_SELECTOR_LEN) < 0 ||
        text_list(&x->dns, &x->dns_count, json_object_get(v, "dns"), ENTRY_DNS_MAX, 253) < 0)
        return bad(e, "list of entries", "selectors or dns");
    return 0;
}

int entry_list_parse(struct entry_list *l, struct bytes body, struct err *e)
{
    size_t i;
    const json_t *item;
    memset(l, 0, sizeof *l);
    json_t *doc = object(body, ANSWER_BIG_MAX, "list of entries", e);
    if (!doc)
        return -1;
    const char *version = text_member(doc, "version", VERSION_TEXT_MAX);
    const json_t *list = json_object_get(doc, "entries");
    int rc = 0;
    if (version)
        strcpy(l->version, version);
    l->unchanged = json_is_true(json_object_get(doc, "unchanged"));
    l->more = json_is_true(json_object_get(doc, "more"));
    l->revoked = json_integer_value(json_object_get(doc, "revoked")); /* not there: 0 */
    if (!version || (!l->unchanged && !json_is_array(list)) || json_array_size(list) > ENTRIES_PAGE_MAX ||
        (l->more && json_array_size(list) == 0))
        rc = bad(e, "list of entries", "version, entries or their number");
    else if (!(l->list = calloc(json_array_size(list) + 1, sizeof *l->list)))
        rc = err_set(e, ERR_INTERNAL, "memory", "out of memory");
    json_array_foreach(list, i, item)
    {
        if (rc < 0)
            break;
        l->n++;
        rc = entry_read(&l->list[i], item, e);
    }
    json_decref(doc);
    if (rc < 0)
        entry_list_free(l);
    return rc;
}

/* --- JWT-SVIDs ------------------------------------------------------------------------------------------------------ */

int jwt_answer_parse(struct jwt_answer *j, const char *spiffe_id, struct bytes body, struct err *e)
{
    memset(j, 0, sizeof *j);
    json_t *doc = object(body, ANSWER_MAX, "JWT-SVID", e);
    if (!doc)
        return -1;
    const char *id = text_member(doc, "spiffe_id", SPIFFE_ID_MAX), *svid = text_member(doc, "svid", JWT_MAX);
    const json_t *issued = json_object_get(doc, "issued"), *expires = json_object_get(doc, "expires");
    int rc = 0;
    if (!id || strcmp(id, spiffe_id) != 0 || !svid || !json_is_integer(issued) || !json_is_integer(expires))
        rc = bad(e, "JWT-SVID", "spiffe_id, svid, issued or expires");
    else if (!(j->svid = strdup(svid)))
        rc = err_set(e, ERR_INTERNAL, "memory", "out of memory");
    else {
        j->issued = json_integer_value(issued);
        j->expires = json_integer_value(expires);
        if (j->issued < 0 || j->expires <= j->issued || j->expires - j->issued > 86400 * 366) {
            free(j->svid);
            j->svid = NULL;
            rc = bad(e, "JWT-SVID", "its times");
        }
    }
    json_decref(doc);
    return rc;
}

/* --- renewal advice (RFC 9773 section 4.2) ----------------------------------------------------------------------------- */

/* RFC 3339: date "T" time, a fraction that is dropped, "Z" or an offset. */
static int64_t time_read(const char *s)
{
    struct tm tm = {0};
    if (!s || strlen(s) > 40)
        return -1;
    const char *p = strptime(s, "%Y-%m-%dT%H:%M:%S", &tm);
    if (!p || tm.tm_year < 70 || tm.tm_year > 8000)
        return -1;
    if (*p == '.')
        p += 1 + strspn(p + 1, "0123456789");
    int64_t t = (int64_t)timegm(&tm);
    if (strcmp(p, "Z") == 0 || strcmp(p, "z") == 0)
        return t;
    bool digits = strlen(p) == 6 && (*p == '+' || *p == '-') && p[3] == ':';
    for (int i = 1; digits && i < 6; i++)
        digits = i == 3 || (p[i] >= '0' && p[i] <= '9');
    if (!digits)
        return -1;
    int64_t offset = ((p[1] - '0') * 10 + (p[2] - '0')) * 3600 + ((p[4] - '0') * 10 + (p[5] - '0')) * 60;
    return *p == '+' ? t - offset : t + offset;
}

int ari_parse(struct ari *a, struct bytes body, struct err *e)
{
    memset(a, 0, sizeof *a);
    json_t *doc = object(body, ANSWER_MAX, "renewal advice", e);
    if (!doc)
        return -1;
    const json_t *w = json_object_get(doc, "suggestedWindow");
    a->start = time_read(json_maybe_str(w, "start"));
    a->end = time_read(json_maybe_str(w, "end"));
    json_decref(doc);
    return a->start >= 0 && a->end >= a->start ? 0 : bad(e, "renewal advice", "suggestedWindow");
}

/* --- the bundle (SPIFFE Trust Domain and Bundle, section 4) ---------------------------------------------------------- */

void bundle_doc_free(struct bundle_doc *b)
{
    buf_free(&b->roots_der);
    buf_free(&b->roots_pem);
    buf_free(&b->jwks);
    memset(b, 0, sizeof *b);
}

static int read_roots(struct bundle_doc *b, struct bytes body, struct err *e)
{
    struct agent_trust t = {0};
    STACK_OF(X509) *roots = NULL;
    int rc = agent_trust_parse(&t, body.p, body.len, "of the authority", e);
    if (rc == 0)
        rc = agent_trust_roots(&t, &roots, e);
    for (int i = 0; rc == 0 && i < sk_X509_num(roots); i++)
        rc = x509_to_der(&b->roots_der, sk_X509_value(roots, i), e);
    if (rc == 0) {
        buf_put(&b->roots_pem, t.roots_pem.p, t.roots_pem.len);
        rc = b->roots_pem.failed ? err_set(e, ERR_INTERNAL, "memory", "out of memory") : 0;
    }
    sk_X509_pop_free(roots, X509_free);
    agent_trust_free(&t);
    return rc;
}

static int read_jwt_keys(struct bundle_doc *b, const json_t *keys, struct err *e)
{
    size_t i, n = 0;
    const json_t *k;
    buf_str(&b->jwks, "{\"keys\":[");
    json_array_foreach(keys, i, k)
    {
        const char *use = json_maybe_str(k, "use");
        if (!use || strcmp(use, "jwt-svid") != 0)
            continue;
        char *text = ++n <= 32 ? json_dumps(k, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
        if (!text)
            return bad(e, "bundle", "its JWT keys");
        buf_str(&b->jwks, n > 1 ? "," : "");
        buf_str(&b->jwks, text);
        free(text);
    }
    buf_str(&b->jwks, "]}");
    return b->jwks.failed ? bad(e, "bundle", "its JWT keys are too large") : 0;
}

static int read_crls(struct bundle_doc *b, const json_t *crl, struct err *e)
{
    if (!crl)
        return 0;
    const char *base = text_member(crl, "base", CRL_BASE_MAX);
    const json_t *shards = json_object_get(crl, "shards");
    json_int_t n = json_integer_value(shards);
    size_t len = base ? strlen(base) : 0;
    if (!base || len < 14 || strncmp(base, "https://", 8) != 0 || strcmp(base + len - 5, "/crl/") != 0 ||
        !json_is_integer(shards) || n < 1 || n > CRL_SHARDS_MAX || !crl_name_good((struct crl_name){(unsigned)n, 0}))
        return bad(e, "bundle", "mayfly_crl");
    strcpy(b->crl_base, base);
    b->crl_shards = (unsigned)n;
    return 0;
}

int bundle_doc_parse(struct bundle_doc *b, struct bytes body, struct err *e)
{
    memset(b, 0, sizeof *b);
    buf_init(&b->roots_der, BUNDLE_MAX);
    buf_init(&b->roots_pem, BUNDLE_MAX);
    buf_init(&b->jwks, ANSWER_MAX);
    json_t *doc = object(body, ANSWER_BIG_MAX, "bundle", e);
    int rc = doc ? 0 : -1;
    const json_t *hint = json_object_get(doc, "spiffe_refresh_hint");
    if (rc == 0 && json_is_integer(hint) && json_integer_value(hint) > 0 && json_integer_value(hint) < 86400 * 366)
        b->refresh_hint = (unsigned)json_integer_value(hint);
    if (rc == 0)
        rc = read_roots(b, body, e);
    if (rc == 0)
        rc = read_jwt_keys(b, json_object_get(doc, "keys"), e);
    if (rc == 0)
        rc = read_crls(b, json_object_get(doc, "mayfly_crl"), e);
    json_decref(doc);
    if (rc < 0)
        bundle_doc_free(b);
    return rc;
}
