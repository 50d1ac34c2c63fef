/* What the authority says, parsed: directory, order, authorization, problem document (RFC 8555
 * §7.1, RFC 7807). Everything here comes from outside: strings are bounded, states are a fixed
 * list, and text meant for people loses its control characters before a terminal sees it. */
#include "agent/internal.h"
#include <stdio.h>
#include <string.h>

static int answer_fail(struct err *e, const char *what, const char *why)
{
    return err_set(e, ERR_INTERNAL, "acme-answer",
                   "the server's %s is not what RFC 8555 says (%s): is this an ACME server?", what,
                   why);
}

static json_t *answer_json(struct bytes body, const char *what, struct err *e)
{
    json_t *doc = json_parse(body.p, body.len, ANSWER_MAX, e);
    if (doc && json_is_object(doc))
        return doc;
    answer_fail(e, what, doc ? "no JSON object" : e->msg);
    json_decref(doc);
    return NULL;
}

/* A member that is a URL: NULL when absent, and *bad when it is no string or too long. */
static const char *url_member(const json_t *doc, const char *key, bool *bad)
{
    const json_t *v = json_object_get(doc, key);
    if (!v)
        return NULL;
    if (!json_is_string(v) || json_string_length(v) == 0 || json_string_length(v) > URL_MAX) {
        *bad = true;
        return NULL;
    }
    return json_string_value(v);
}

/* --- directory (RFC 8555 §7.1.1) ----------------------------------------------------------------- */

static bool take_url(char dst[URL_MAX + 1], const json_t *doc, const char *key)
{
    bool bad = false;
    const char *url = url_member(doc, key, &bad);
    if (!url)
        return false;
    strcpy(dst, url);
    return true;
}

int acme_directory_parse(struct acme_directory *d, struct bytes body, struct err *e)
{
    memset(d, 0, sizeof *d);
    json_t *doc = answer_json(body, "directory", e);
    if (!doc)
        return -1;
    bool whole = take_url(d->new_nonce, doc, "newNonce") &&
                 take_url(d->new_account, doc, "newAccount") &&
                 take_url(d->new_order, doc, "newOrder");
    take_url(d->renewal_info, doc, "renewalInfo");
    take_url(d->new_jwt, doc, "newJwtSvid");
    take_url(d->entries, doc, "agentEntries");
    json_decref(doc);
    return whole ? 0 : answer_fail(e, "directory", "newNonce, newAccount or newOrder is missing");
}

/* --- problem documents (RFC 7807, RFC 8555 §6.7) ------------------------------------------------- */

#define ACME_ERROR "urn:ietf:params:acme:error:"

static const struct problem_kind {
    const char *type; /* without ACME_ERROR */
    enum err_code code;
    const char *next; /* what to do */
} problem_kinds[] = {
    {"accountDoesNotExist", ERR_NO_ACCOUNT, "the session is forgotten: start again"},
    {"badAttestationStatement", ERR_BAD_EVIDENCE, "get a new join token (mayfly token create)"},
    {"badCSR", ERR_BAD_CSR, "ask for the names the entry has (mayfly entry show)"},
    {"badNonce", ERR_BAD_NONCE, "try again"},
    {"badPublicKey", ERR_BAD_KEY, ""},
    {"badSignatureAlgorithm", ERR_BAD_SIG_ALG, "agent and authority are of different ages: update"},
    {"orderNotReady", ERR_NOT_READY, "try again"},
    {"rateLimited", ERR_RATE, "try again later"},
    {"rejectedIdentifier", ERR_REJECTED_ID,
     "register it (mayfly entry create), or check --id and --dns"},
    {"serverInternal", ERR_UNAVAILABLE, "look into the authority's log"},
    {"unauthorized", ERR_UNAUTHORIZED,
     "check that the ID is registered for this evidence (mayfly entry show), or get a new join "
     "token"},
    {"unsupportedIdentifier", ERR_UNSUPPORTED_ID, "is this a Mayfly authority?"},
};

static const struct problem_kind *problem_kind(const char *type)
{
    size_t n = strlen(ACME_ERROR);
    if (!type || strncmp(type, ACME_ERROR, n) != 0)
        return NULL;
    for (size_t i = 0; i < sizeof problem_kinds / sizeof *problem_kinds; i++)
        if (strcmp(type + n, problem_kinds[i].type) == 0)
            return &problem_kinds[i];
    return NULL;
}

/* Text of outsiders for a terminal: C0, DEL and C1 controls (U+0080 to U+009F) become spaces. */
static void plain_text(char *dst, size_t cap, const char *src)
{
    size_t n = 0;
    const unsigned char *p = (const unsigned char *)src;
    for (; *p && n + 1 < cap; p++) {
        if (p[0] == 0xc2 && p[1] >= 0x80 && p[1] <= 0x9f)
            p++;
        else if (*p >= 0x20 && *p != 0x7f) {
            dst[n++] = (char)*p;
            continue;
        }
        dst[n++] = ' ';
    }
    if (*p) /* cut: not inside a UTF-8 sequence */
        while (n > 0 && (unsigned char)dst[n - 1] >= 0x80)
            n--;
    dst[n] = 0;
}

static void plain_rule(char *dst, size_t cap, const char *src)
{
    size_t n = 0;
    for (; *src && n + 1 < cap; src++) {
        bool word = (*src >= 'a' && *src <= 'z') || (*src >= '0' && *src <= '9') || *src == '-';
        dst[n++] = word ? *src : '-';
    }
    dst[n] = 0;
}

/* An object of RFC 7807 as an error. status 0: as the object says, else the one of the answer. */
static int problem_read(const json_t *doc, unsigned status, struct err *e)
{
    char detail[280], rule[sizeof e->rule], title[96];
    const char *type = json_maybe_str(doc, "type"), *text = json_maybe_str(doc, "detail"),
               *word = json_maybe_str(doc, "rule");
    const struct problem_kind *k = problem_kind(type);
    const json_t *own = json_object_get(doc, "status");
    if (!status && json_is_integer(own) && json_integer_value(own) > 0 &&
        json_integer_value(own) < 1000)
        status = (unsigned)json_integer_value(own);
    plain_text(title, sizeof title, k ? k->type : type ? type : "no reason named");
    plain_text(detail, sizeof detail, text ? text : "without a word more");
    plain_rule(rule, sizeof rule, word && *word ? word : k ? k->type : "problem");
    enum err_code code = k               ? k->code
                         : status == 429 ? ERR_RATE
                         : status >= 500 ? ERR_UNAVAILABLE
                                         : ERR_DENIED;
    if (status == 503 && code != ERR_RATE)
        code = ERR_UNAVAILABLE;
    /* Our own advice only where the authority gave none. */
    const char *next = k && !strstr(detail, "mayfly ") ? k->next : "";
    err_set(e, code, "problem", "the authority %s (%s): %s%s%s",
            code == ERR_UNAVAILABLE || code == ERR_RATE ? "can not now" : "refuses", title, detail,
            *next ? " — " : "", next);
    memcpy(e->rule, rule, sizeof rule);
    return -1;
}

int acme_problem(const struct http_answer *a, struct err *e)
{
    struct err ignored = {0};
    json_t *doc = a->body.len ? json_parse(a->body.p, a->body.len, ANSWER_MAX, &ignored) : NULL;
    if (doc && json_is_object(doc) && a->status >= 400)
        problem_read(doc, a->status, e);
    else if (a->status >= 300 && a->status < 400)
        err_set(e, ERR_CORRUPT, "redirect",
                "the server answers with a redirect (HTTP %u), which is never followed: give the "
                "authority's own "
                "address with --server",
                a->status);
    else
        err_set(e,
                a->status == 429   ? ERR_RATE
                : a->status >= 500 ? ERR_UNAVAILABLE
                                   : ERR_DENIED,
                "problem",
                "the server answers HTTP %u without a problem document: is --server the "
                "authority's address?",
                a->status);
    json_decref(doc);
    return -1;
}

/* --- orders and authorizations (RFC 8555 §7.1.3, §7.1.4, §7.1.6) --------------------------------- */

static int status_read(enum acme_status *s, const json_t *doc, const char *what, struct err *e)
{
    static const char *const names[] = {"pending", "ready", "processing", "valid", "invalid"};
    const char *word = json_maybe_str(doc, "status");
    for (size_t i = 0; word && i < sizeof names / sizeof *names; i++)
        if (strcmp(word, names[i]) == 0) {
            *s = (enum acme_status)i;
            return 0;
        }
    /* deactivated, expired, revoked: an authorization that will not become valid any more */
    if (word && (strcmp(word, "deactivated") == 0 || strcmp(word, "expired") == 0 ||
                 strcmp(word, "revoked") == 0)) {
        *s = ACME_INVALID;
        return 0;
    }
    return answer_fail(e, what, "no known status");
}

static void error_member(const json_t *doc, const char *what, struct err *e)
{
    const json_t *problem = json_object_get(doc, "error");
    if (json_is_object(problem))
        problem_read(problem, 0, e);
    else
        err_set(e, ERR_UNAUTHORIZED, "order-invalid",
                "the authority made the %s invalid without saying why: look into its log", what);
}

static int authz_urls(struct acme_order *o, struct err *e)
{
    size_t i;
    const json_t *list = json_object_get(o->doc, "authorizations");
    json_t *v;
    if (json_array_size(list) > AUTHZ_MAX)
        return answer_fail(e, "order", "too many authorizations");
    json_array_foreach(list, i, v)
    {
        if (!json_is_string(v) || json_string_length(v) == 0 || json_string_length(v) > URL_MAX)
            return answer_fail(e, "order", "an authorization that is no URL");
        o->authz[o->authz_count++] = json_string_value(v);
    }
    return 0;
}

int acme_order_parse(struct acme_order *o, struct bytes body, struct err *e)
{
    bool bad = false;
    memset(o, 0, sizeof *o);
    o->doc = answer_json(body, "order", e);
    if (!o->doc)
        return -1;
    int rc = status_read(&o->status, o->doc, "order", e);
    if (rc == 0)
        rc = authz_urls(o, e);
    o->finalize = url_member(o->doc, "finalize", &bad);
    o->certificate = url_member(o->doc, "certificate", &bad);
    o->chain = json_maybe_str(o->doc, "certificateChain");
    if (rc == 0 && (bad || (o->chain && strlen(o->chain) > CHAIN_PEM_MAX)))
        rc = answer_fail(e, "order", "finalize, certificate or certificateChain");
    if (rc == 0 && o->status == ACME_INVALID)
        error_member(o->doc, "order", &o->error);
    if (rc < 0)
        acme_order_free(o);
    return rc;
}

void acme_order_free(struct acme_order *o)
{
    json_decref(o->doc);
    memset(o, 0, sizeof *o);
}

/* RFC 8555 §8.1: a token has base64url's characters only. */
static bool token_is_plain(const char *s)
{
    size_t n = strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_");
    return n > 0 && n <= NONCE_MAX && s[n] == 0;
}

static int challenge_read(struct acme_authz *a, const json_t *c, struct err *e)
{
    bool bad = false;
    const char *type = json_maybe_str(c, "type");
    if (!type || strcmp(type, "remote-attest-01") != 0)
        return 0; /* not for us */
    a->url = url_member(c, "url", &bad);
    a->token = json_maybe_str(c, "token");
    if (!a->url || !a->token || !token_is_plain(a->token))
        return answer_fail(e, "challenge", "url or token");
    if (json_is_object(json_object_get(c, "error")))
        error_member(c, "challenge", &a->error);
    return 0;
}

int acme_authz_parse(struct acme_authz *a, struct bytes body, struct err *e)
{
    size_t i;
    json_t *c;
    memset(a, 0, sizeof *a);
    a->doc = answer_json(body, "authorization", e);
    if (!a->doc)
        return -1;
    int rc = status_read(&a->status, a->doc, "authorization", e);
    json_array_foreach(json_object_get(a->doc, "challenges"), i, c)
    {
        if (rc == 0 && !a->url)
            rc = challenge_read(a, c, e);
    }
    if (rc == 0 && a->status == ACME_INVALID && a->error.code == ERR_NONE)
        error_member(a->doc, "authorization", &a->error);
    if (rc < 0)
        acme_authz_free(a);
    return rc;
}

void acme_authz_free(struct acme_authz *a)
{
    json_decref(a->doc);
    memset(a, 0, sizeof *a);
}
