/* The last look at a JWT-SVID before it is signed. What this lets pass is signed, so whatever it does not know
 * it refuses. A refusal means a bug or damaged memory, never a bad request. */
#include "base/json.h"
#include "base/spiffe.h"
#include "ca/jwt.h"
#include "tlog/record.h"
#include <stdio.h>
#include <string.h>

static int refuse(struct err *e, const char *rule, const char *what)
{
    return err_set(e, ERR_INTERNAL, rule, "a JWT-SVID was built wrong, and is not signed: %s. Report this as a bug", what);
}

/* One base64url part, as a JSON object of that many members. */
static json_t *part_read(const uint8_t *p, size_t n, uint8_t *room, size_t cap, size_t members)
{
    struct err ignored = {0};
    long len = b64url_decode(room, cap, (const char *)p, n);
    json_t *doc = len > 0 ? json_parse(room, (size_t)len, cap, &ignored) : NULL;
    if (json_is_object(doc) && json_object_size(doc) == members)
        return doc;
    json_decref(doc);
    return NULL;
}

static bool is_text(const json_t *doc, const char *name, struct bytes want)
{
    const json_t *v = json_object_get(doc, name);
    return json_is_string(v) && bytes_eq(want, json_string_value(v), json_string_length(v));
}

static bool is_word(const json_t *doc, const char *name, const char *want)
{
    return is_text(doc, name, (struct bytes){(const uint8_t *)want, strlen(want)});
}

static bool is_number(const json_t *doc, const char *name, int64_t want)
{
    const json_t *v = json_object_get(doc, name);
    return json_is_integer(v) && json_integer_value(v) == want;
}

/* u8 length, text; one for each element of the array, and none left. */
static bool is_audiences(const json_t *aud, struct bytes want)
{
    const uint8_t *p = want.p, *end = want.p + want.len;
    const json_t *v;
    size_t i;
    if (json_array_size(aud) == 0)
        return false;
    json_array_foreach(aud, i, v)
    {
        size_t n = json_string_length(v);
        if (!json_is_string(v) || n == 0 || p == end || *p != n || (size_t)(end - p - 1) < n ||
            memcmp(p + 1, json_string_value(v), n) != 0)
            return false;
        p += 1 + n;
    }
    return p == end;
}

static bool is_header(const json_t *doc, const struct jwt_policy *p)
{
    return is_word(doc, "alg", "ES256") && is_word(doc, "typ", "JWT") && strlen(p->kid) == 43 && is_word(doc, "kid", p->kid);
}

/* Never under the authority's own path, whatever was asked for. */
static bool is_subject(const json_t *doc, const struct jwt_policy *p, struct bytes want)
{
    static const char reserved[] = "/mayfly";
    struct spiffe_id id;
    struct err ignored = {0};
    size_t n = sizeof reserved - 1;
    if (!is_text(doc, "sub", want) ||
        spiffe_parse_workload(&id, (const char *)want.p, want.len, p->config->trust_domain, &ignored) < 0)
        return false;
    return id.path.len < n || memcmp(id.path.p, reserved, n) != 0 || (id.path.len > n && id.path.p[n] != '/');
}

static int check_claims(const json_t *doc, const struct jwt_policy *p, const struct jwt_expect *x, struct err *e)
{
    const struct ca_jwt *m = x->request;
    char jti[48];
    snprintf(jti, sizeof jti, "%u-%llu", (unsigned)p->config->log.number, (unsigned long long)x->index);
    if (!is_subject(doc, p, m->spiffe_id))
        return refuse(e, "lint-jwt", "sub is not the SPIFFE ID asked for, or not permitted");
    if (!is_audiences(json_object_get(doc, "aud"), m->audiences))
        return refuse(e, "lint-jwt", "aud is not the audiences asked for");
    if (m->lifetime < 1 || m->lifetime > p->config->ca.max_lifetime || !is_number(doc, "iat", x->now) ||
        !is_number(doc, "exp", x->now + m->lifetime))
        return refuse(e, "lint-jwt", "its times");
    if (!is_word(doc, "jti", jti))
        return refuse(e, "lint-jwt", "jti does not name its log entry");
    return 0;
}

/* Signed is what was logged. */
static int check_logged(const json_t *doc, const struct jwt_policy *p, const struct jwt_expect *x, struct err *e)
{
    struct tlog_entry t;
    struct tlog_record_info r;
    struct err ignored = {0};
    if (tlog_entry_parse(&t, x->log_entry.p, x->log_entry.len, &ignored) < 0 || t.type != TLOG_ENTRY_JWT ||
        t.extensions.len > 0 || tlog_record_parse(&r, t.type, t.body, &ignored) < 0)
        return refuse(e, "lint-log", "its log entry is malformed");
    if (r.code != TLOG_JWT_SVID || !is_text(doc, "sub", r.spiffe_id) ||
        !is_audiences(json_object_get(doc, "aud"), r.audiences) || !is_number(doc, "iat", r.time) ||
        !is_number(doc, "exp", r.expires) || !bytes_eq_str(r.kid, p->kid))
        return refuse(e, "lint-log", "it differs from its log entry");
    return 0;
}

int jwt_lint(const struct jwt_policy *p, const struct jwt_expect *x, struct bytes input, uint8_t *room, size_t cap,
             struct err *e)
{
    const uint8_t *dot = memchr(input.p, '.', input.len);
    if (!dot || input.len > CA_JWT_BYTES)
        return refuse(e, "lint-jwt", "it is not two parts");
    const size_t n = (size_t)(dot - input.p);
    json_t *header = part_read(input.p, n, room, cap, 3);
    bool good = header && is_header(header, p);
    json_decref(header);
    if (!good)
        return refuse(e, "lint-jwt", "its header");
    json_t *claims = part_read(dot + 1, input.len - n - 1, room, cap, 5);
    int r = claims ? check_claims(claims, p, x, e) : refuse(e, "lint-jwt", "its claims are no JSON object of five");
    if (r == 0)
        r = check_logged(claims, p, x, e);
    json_decref(claims);
    return r;
}
