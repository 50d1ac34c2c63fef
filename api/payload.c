#include "api/payload.h"
#include "base/jose.h"
#include <stdlib.h>
#include <string.h>

#define CONTACTS_MAX 10
#define KEEP_IDENTIFIERS 3 /* of an order's memory, for the connection's next order */

static json_t *object_parse(const void *json, size_t len, struct err *e)
{
    json_t *doc = json_parse(json, len, JWS_MAX, e);
    if (!doc) {
        err_wrap(e, "payload");
        return NULL;
    }
    if (!json_is_object(doc)) {
        json_decref(doc);
        err_set(e, ERR_MALFORMED, "payload", "the payload must be a JSON object");
        return NULL;
    }
    return doc;
}

/* --- accounts (§7.3) ------------------------------------------------------------------------- */

/* Contacts are not kept, but a wrong one is told (§7.3: the client must learn it). */
static int contact_check(const json_t *doc, struct err *e)
{
    const json_t *list = json_object_get(doc, "contact"), *v;
    size_t i;
    if (!list)
        return 0;
    if (!json_is_array(list) || json_array_size(list) > CONTACTS_MAX)
        return err_set(e, ERR_MALFORMED, "contact-invalid",
                       "\"contact\" must be an array of at most %d URLs", CONTACTS_MAX);
    json_array_foreach(list, i, v)
    {
        const char *s = json_string_value(v);
        if (!s)
            return err_set(e, ERR_MALFORMED, "contact-invalid", "a contact is not a string");
        if (strncmp(s, "mailto:", 7) != 0)
            return err_set(e, ERR_MALFORMED, "contact-unsupported",
                           "contact \"%.64s\" is no mailto: URL; no other kind is known here", s);
        const char *at = strchr(s + 7, '@');
        if (!at || at == s + 7 || !at[1] || s[7 + strcspn(s + 7, "?, ")])
            return err_set(e, ERR_MALFORMED, "contact-invalid",
                           "contact \"%.64s\" is not one plain address", s);
    }
    return 0;
}

static int flag_parse(bool *out, const json_t *doc, const char *name, struct err *e)
{
    const json_t *v = json_object_get(doc, name);
    if (v && !json_is_boolean(v))
        return err_set(e, ERR_MALFORMED, "payload", "\"%s\" is not true or false", name);
    *out = json_is_true(v);
    return 0;
}

static bool is_deactivated(const json_t *doc)
{
    const char *s = json_string_value(json_object_get(doc, "status"));
    return s && strcmp(s, "deactivated") == 0;
}

int payload_account_parse(struct payload_account *p, const void *json, size_t len, struct err *e)
{
    bool agreed;
    json_t *doc = object_parse(json, len, e);
    if (!doc)
        return -1;
    int rc = flag_parse(&agreed, doc, "termsOfServiceAgreed", e) < 0 ||
                     flag_parse(&p->only_return_existing, doc, "onlyReturnExisting", e) < 0 || contact_check(doc, e) < 0
                 ? -1
                 : 0;
    p->deactivate = is_deactivated(doc); /* another status, as a client that sends all back has it: §7.3.2, ignored */
    json_decref(doc);
    return rc;
}

int payload_authz_parse(const void *json, size_t len, struct err *e)
{
    json_t *doc = object_parse(json, len, e);
    if (!doc)
        return -1;
    bool deactivate = is_deactivated(doc);
    json_decref(doc);
    if (!deactivate)
        return err_set(e, ERR_MALFORMED, "payload",
                       "an authorization is read with an empty payload (POST-as-GET), or given up "
                       "with {\"status\":\"deactivated\"}");
    return 0;
}

/* --- orders (§7.4) --------------------------------------------------------------------------- */

static int identifier_parse(struct ra_identifier *to, const json_t *v, struct err *e)
{
    const char *type = json_want_str(v, "type", e);
    const char *value = type ? json_want_str(v, "value", e) : NULL;
    if (!value)
        return err_wrap(e, "identifier");
    if (strcmp(type, "uri") != 0 && strcmp(type, "dns") != 0 && strcmp(type, "remote-attestation") != 0)
        return err_set(e, ERR_UNSUPPORTED_ID, "identifier-type",
                       "identifier type \"%.32s\" is not known here; \"uri\" and \"dns\" are", type);
    size_t n = json_string_length(json_object_get(v, "value"));
    if (n >= sizeof to->value)
        return err_set(e, ERR_MALFORMED, "identifier", "identifier of %zu bytes; at most %zu", n,
                       sizeof to->value - 1);
    memcpy(to->type, type, strlen(type) + 1);
    memcpy(to->value, value, n + 1);
    return 0;
}

/* A remote-attestation identifier asks for what happens here anyway, so it is understood and adds
 * nothing; it does not say which identity is wanted. */
static int identifiers_parse(struct payload_order *p, struct err *e)
{
    const json_t *list = json_object_get(p->doc, "identifiers"), *v;
    size_t i, n = json_array_size(list);
    if (n == 0)
        return err_set(e, ERR_MALFORMED, "identifiers", "\"identifiers\" is missing, empty, or no array");
    if (n > RA_IDENTIFIERS_MAX + 1)
        return err_set(e, ERR_MALFORMED, "identifiers", "%zu identifiers; at most %d are read", n,
                       RA_IDENTIFIERS_MAX);
    if (n > p->identifiers_cap) {
        free(p->identifiers);
        p->identifiers = malloc(n * sizeof *p->identifiers);
        p->identifiers_cap = p->identifiers ? n : 0;
    }
    if (!p->identifiers)
        return err_set(e, ERR_INTERNAL, "memory", "out of memory for identifiers");
    json_array_foreach(list, i, v)
    {
        struct ra_identifier *to = &p->identifiers[p->identifiers_count];
        if (identifier_parse(to, v, e) < 0)
            return -1;
        if (strcmp(to->type, "remote-attestation") != 0)
            p->identifiers_count++;
    }
    if (p->identifiers_count == 0)
        return err_set(e, ERR_REJECTED_ID, "identifiers",
                       "which identity? Name the SPIFFE ID in an identifier of type \"uri\" beside "
                       "\"remote-attestation\"");
    if (p->identifiers_count > RA_IDENTIFIERS_MAX)
        return err_set(e, ERR_MALFORMED, "identifiers", "%zu identifiers; at most %d are read", n,
                       RA_IDENTIFIERS_MAX);
    return 0;
}

static int csr_parse(struct payload_order *p, struct err *e)
{
    uint8_t der[PAYLOAD_CSR_MAX];
    const json_t *v = json_object_get(p->doc, "csr");
    if (!json_is_string(v))
        return err_set(e, ERR_MALFORMED, "payload", "\"csr\" is missing or not a string");
    long n = b64url_decode(der, sizeof der, json_string_value(v), json_string_length(v));
    if (n <= 0)
        return err_set(e, ERR_BAD_CSR, "csr-encoding",
                       "\"csr\" is not the unpadded base64url of 1 to %d bytes of DER", PAYLOAD_CSR_MAX);
    p->csr.max = PAYLOAD_CSR_MAX;
    buf_reset(&p->csr);
    buf_put(&p->csr, der, (size_t)n);
    return p->csr.failed ? err_set(e, ERR_INTERNAL, "memory", "out of memory for a CSR") : 0;
}

/* RFC 9773 §5: its form; whether it may is for who can look it up. */
static int replaces_parse(struct payload_order *p, struct err *e)
{
    const json_t *v = json_object_get(p->doc, "replaces");
    if (!v)
        return 0;
    if (!json_is_string(v))
        return err_set(e, ERR_MALFORMED, "payload", "\"replaces\" is not a string");
    p->replacing = true;
    return renewal_id_parse(&p->replaces, json_string_value(v), json_string_length(v), e);
}

static int evidence_check(const json_t *v, struct err *e)
{
    if (json_array_size(v) != 2 || !json_is_string(json_array_get(v, 0)) ||
        !json_is_string(json_array_get(v, 1)))
        return err_set(e, ERR_MALFORMED, "evidence-format",
                       "evidence must be a conceptual message wrapper in its JSON record form: "
                       "[\"media/type\",\"base64url(evidence)\"]; an empty {} proves nothing here");
    return 0;
}

int payload_order_parse(struct payload_order *p, const void *json, size_t len, struct err *e)
{
    p->doc = object_parse(json, len, e);
    p->evidence = json_object_get(p->doc, "evidence"); /* first: payload_order_reset wipes it, refused or not */
    if (!p->doc || identifiers_parse(p, e) < 0 || replaces_parse(p, e) < 0)
        return -1;
    if (json_object_get(p->doc, "notBefore") || json_object_get(p->doc, "notAfter"))
        return err_set(e, ERR_MALFORMED, "validity",
                       "notBefore and notAfter are not for the client to choose; leave them out");
    if (json_object_get(p->doc, "csr") && csr_parse(p, e) < 0)
        return -1;
    if (!p->evidence)
        return 0;
    if (p->csr.len == 0)
        return err_set(e, ERR_MALFORMED, "payload", "\"evidence\" in an order needs \"csr\" beside it");
    return evidence_check(p->evidence, e);
}

int payload_finalize_parse(struct payload_order *p, const void *json, size_t len, struct err *e)
{
    p->doc = object_parse(json, len, e);
    return p->doc ? csr_parse(p, e) : -1;
}

int payload_evidence_parse(struct payload_order *p, const void *json, size_t len, struct err *e)
{
    p->doc = json_parse(json, len, JWS_MAX, e);
    if (!p->doc)
        return err_wrap(e, "payload");
    p->evidence = p->doc;
    return evidence_check(p->evidence, e);
}

/* --- an agent's entries ------------------------------------------------------------------------- */

/* No longer than a SPIFFE ID, which a version is not either. */
static int text_parse(const char **to, const json_t *doc, const char *name, bool wanted, struct err *e)
{
    const json_t *v = json_object_get(doc, name);
    *to = v ? json_string_value(v) : "";
    if (!*to || (wanted && !**to) || json_string_length(v) > TLOG_NAME_MAX)
        return err_set(e, ERR_MALFORMED, "payload", "\"%s\" is missing, no string, or longer than %d bytes", name,
                       TLOG_NAME_MAX);
    return 0;
}

int payload_agent_parse(struct payload_agent *p, const void *json, size_t len, struct err *e)
{
    p->doc = object_parse(json, len, e);
    return p->doc && text_parse(&p->agent, p->doc, "agent", true, e) == 0 &&
                   text_parse(&p->have, p->doc, "have", false, e) == 0 && text_parse(&p->after, p->doc, "after", false, e) == 0
               ? 0
               : -1;
}

void payload_agent_free(struct payload_agent *p)
{
    json_decref(p->doc);
    p->doc = NULL;
}

/* --- JWT-SVIDs (ours) ------------------------------------------------------------------------- */

static int audiences_parse(struct payload_jwt *j, const json_t *list, struct err *e)
{
    const json_t *v;
    size_t i;
    if (!json_is_array(list) || json_array_size(list) > PAYLOAD_AUDIENCES_MAX)
        return err_set(e, ERR_MALFORMED, "audience", "\"audience\" must be an array of 1 to %d strings",
                       PAYLOAD_AUDIENCES_MAX);
    json_array_foreach(list, i, v)
    {
        if (!json_is_string(v))
            return err_set(e, ERR_MALFORMED, "audience", "an audience is not a string");
        j->audiences[j->audiences_count++] = json_string_value(v);
    }
    return 0;
}

static int ttl_parse(struct payload_jwt *j, const json_t *v, struct err *e)
{
    if (!v)
        return 0;
    if (!json_is_integer(v) || json_integer_value(v) < 1)
        return err_set(e, ERR_MALFORMED, "ttl", "\"ttl\" must be a number of seconds, at least 1");
    j->ttl = json_integer_value(v) < PAYLOAD_TTL_MAX ? (unsigned)json_integer_value(v) : PAYLOAD_TTL_MAX;
    return 0;
}

int payload_jwt_parse(struct payload_order *p, struct payload_jwt *j, const void *json, size_t len, struct err *e)
{
    memset(j, 0, sizeof *j);
    p->doc = object_parse(json, len, e);
    p->evidence = json_object_get(p->doc, "evidence"); /* first: payload_order_reset wipes it, refused or not */
    if (!p->doc)
        return -1;
    j->spiffe_id = json_want_str(p->doc, "spiffe_id", e);
    if (!j->spiffe_id || audiences_parse(j, json_object_get(p->doc, "audience"), e) < 0 ||
        ttl_parse(j, json_object_get(p->doc, "ttl"), e) < 0)
        return -1;
    return p->evidence ? evidence_check(p->evidence, e) : 0;
}

/* --- revocation (§7.6) ------------------------------------------------------------------------ */

int payload_revoke_parse(struct payload_revoke *p, const void *json, size_t len, struct err *e)
{
    json_t *doc = object_parse(json, len, e);
    if (!doc)
        return -1;
    const json_t *cert = json_object_get(doc, "certificate"), *reason = json_object_get(doc, "reason");
    json_int_t code = json_integer_value(reason);
    long n = json_is_string(cert) ? b64url_decode(p->cert, sizeof p->cert, json_string_value(cert), json_string_length(cert)) : -1;
    bool coded = !reason || (json_is_integer(reason) && ((code >= 0 && code <= 6) || code == 9 || code == 10));
    json_decref(doc);
    if (n <= 0)
        return err_set(e, ERR_MALFORMED, "payload",
                       "\"certificate\" is missing, or not the unpadded base64url of 1 to %d bytes of DER", PAYLOAD_CERT_MAX);
    if (!coded)
        return err_set(e, ERR_MALFORMED, "revocation-reason", "\"reason\" is no code of RFC 5280 §5.3.1: 0 to 6, 9 or 10");
    p->cert_len = (size_t)n;
    p->reason = (uint8_t)code;
    return 0;
}

void payload_order_reset(struct payload_order *p)
{
    attest_evidence_wipe(p->evidence);
    json_decref(p->doc);
    p->doc = NULL;
    p->evidence = NULL;
    p->identifiers_count = 0;
    p->replacing = false;
    buf_reset(&p->csr);
    if (p->identifiers_cap > KEEP_IDENTIFIERS) {
        free(p->identifiers);
        p->identifiers = NULL;
        p->identifiers_cap = 0;
    }
}

void payload_order_free(struct payload_order *p)
{
    payload_order_reset(p);
    free(p->identifiers);
    p->identifiers = NULL;
    p->identifiers_cap = 0;
    buf_free(&p->csr);
}
