#include "attest/attest.h"
#include "attest/kinds.h"
#include "base/secmem.h"
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

static const struct kind {
    enum attest_kind kind;
    const char *name, *media;
    int (*verify)(struct attest_result *r, const struct attest_input *in, struct err *e);
} kinds[] = {
    {ATTEST_JOIN_TOKEN, "join_token", ATTEST_MEDIA_JOIN_TOKEN, join_token_verify},
    {ATTEST_X509POP, "x509pop", ATTEST_MEDIA_X509POP, x509pop_verify},
    {ATTEST_AGENT, "agent", ATTEST_MEDIA_AGENT, agent_evidence_verify},
};
#define KINDS (sizeof kinds / sizeof *kinds)

const char *const attest_media_types[] = {ATTEST_MEDIA_JOIN_TOKEN, ATTEST_MEDIA_X509POP, ATTEST_MEDIA_AGENT};
const size_t attest_media_types_count = sizeof attest_media_types / sizeof *attest_media_types;
_Static_assert(sizeof attest_media_types / sizeof *attest_media_types == KINDS,
               "every kind is advertised");

const char *attest_kind_name(enum attest_kind k)
{
    for (size_t i = 0; i < KINDS; i++)
        if (kinds[i].kind == k)
            return kinds[i].name;
    return "unknown";
}

static const struct kind *kind_by_media(const json_t *media)
{
    for (size_t i = 0; i < KINDS; i++)
        if (strlen(kinds[i].media) == json_string_length(media) &&
            strcmp(kinds[i].media, json_string_value(media)) == 0)
            return &kinds[i];
    return NULL;
}

/* SHA-256 of the parts, one after the other; zero when it can not be computed. */
static int hash_parts(uint8_t out[32], const struct bytes *parts, size_t n)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = ctx && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) == 1;
    for (size_t i = 0; ok && i < n; i++)
        ok = EVP_DigestUpdate(ctx, parts[i].p, parts[i].len) == 1;
    ok = ok && EVP_DigestFinal_ex(ctx, out, NULL) == 1;
    EVP_MD_CTX_free(ctx);
    if (!ok)
        memset(out, 0, 32);
    return ok ? 0 : -1;
}

static int salted_hash(uint8_t out[32], const uint8_t salt[16], struct bytes evidence, struct err *e)
{
    const struct bytes parts[] = {{salt, 16}, evidence};
    return hash_parts(out, parts, 2) == 0 ? 0 : err_set(e, ERR_INTERNAL, "crypto", "cannot hash the evidence");
}

/* draft-ietf-rats-msg-wrap section 3.1, the JSON record without its optional third element. */
static const struct kind *record_open(const json_t *cmw, const char **text, size_t *len, struct err *e)
{
    const json_t *media = json_array_get(cmw, 0), *value = json_array_get(cmw, 1);
    if (!json_is_array(cmw) || json_array_size(cmw) != 2 || !json_is_string(media) ||
        !json_is_string(value)) {
        err_set(e, ERR_BAD_EVIDENCE, "evidence-format",
                "evidence must be a CMW record: [\"media/type\", \"base64url\"]");
        return NULL;
    }
    const struct kind *k = kind_by_media(media);
    if (!k) {
        err_set(e, ERR_BAD_EVIDENCE, "evidence-kind",
                "this authority does not understand this kind of evidence; it takes %s, %s and %s",
                attest_media_types[0], attest_media_types[1], attest_media_types[2]);
        return NULL;
    }
    *text = json_string_value(value);
    *len = json_string_length(value);
    if (*len > B64URL_LEN(ATTEST_EVIDENCE_MAX)) {
        err_set(e, ERR_BAD_EVIDENCE, "evidence-size", "evidence over %d bytes", ATTEST_EVIDENCE_MAX);
        return NULL;
    }
    return k;
}

int attest_verify(struct attest_result *r, const json_t *cmw, const uint8_t digest[32],
                  const struct attest_anchor *anchor, const char *trust_domain, int64_t now,
                  const uint8_t salt[16], struct err *e)
{
    const char *text;
    size_t len;
    memset(r, 0, sizeof *r);
    const struct kind *k = record_open(cmw, &text, &len, e);
    if (!k)
        return -1;
    uint8_t *raw = malloc(len + 1);
    if (!raw)
        return err_set(e, ERR_INTERNAL, "memory", "out of memory for evidence");
    long n = b64url_decode(raw, len + 1, text, len);
    int rc = -1;
    if (n < 0) {
        err_set(e, ERR_BAD_EVIDENCE, "evidence-format", "the evidence is not unpadded base64url");
    } else {
        struct attest_input in = {{raw, (size_t)n}, digest, anchor, trust_domain, now};
        r->kind = k->kind;
        rc = salted_hash(r->evidence_sha256, salt, in.evidence, e);
        if (rc == 0)
            rc = k->verify(r, &in, e);
    }
    secret_wipe(raw, len + 1); /* a join token's secret stands in it */
    free(raw);
    if (rc < 0)
        attest_result_free(r);
    return rc;
}

void attest_result_free(struct attest_result *r)
{
    for (size_t i = 0; i < r->selectors_count; i++)
        free(r->selectors[i]);
    memset(r, 0, sizeof *r);
}

void attest_evidence_wipe(const json_t *cmw)
{
    attest_text_wipe(json_array_get(cmw, 1));
}

int attest_key_authorization(uint8_t digest[32], const char *token, const char *thumbprint)
{
    const struct bytes parts[] = {{(const uint8_t *)token, strlen(token)},
                                  {(const uint8_t *)".", 1},
                                  {(const uint8_t *)thumbprint, strlen(thumbprint)}};
    return hash_parts(digest, parts, 3);
}

/* --- what the kinds share ------------------------------------------------------------------------ */

int attest_cmw_write(struct buf *out, const char *media, const struct buf *evidence, struct err *e)
{
    if (evidence->failed || evidence->len > ATTEST_EVIDENCE_MAX)
        return err_set(e, ERR_TOO_LARGE, "evidence-size", "evidence over %d bytes", ATTEST_EVIDENCE_MAX);
    buf_str(out, "[");
    jw_str(out, media);
    buf_str(out, ",\"");
    buf_b64url(out, evidence->p, evidence->len);
    buf_str(out, "\"]");
    if (out->failed)
        return err_set(e, ERR_TOO_LARGE, "evidence-size", "the evidence does not fit the request");
    return 0;
}

json_t *attest_object(struct bytes evidence, size_t n, struct err *e)
{
    struct err why = {0};
    json_t *obj = json_parse(evidence.p, evidence.len, ATTEST_EVIDENCE_MAX, &why);
    if (!obj) {
        err_set(e, ERR_BAD_EVIDENCE, "evidence-format", "the evidence is no JSON object: %s", why.msg);
        return NULL;
    }
    if (!json_is_object(obj) || json_object_size(obj) != n) {
        json_decref(obj);
        err_set(e, ERR_BAD_EVIDENCE, "evidence-format",
                "this kind of evidence is a JSON object with %zu members", n);
        return NULL;
    }
    return obj;
}

long attest_member(const json_t *obj, const char *name, uint8_t *dst, size_t cap, struct err *e)
{
    const json_t *v = json_object_get(obj, name);
    long n = json_is_string(v) ? b64url_decode(dst, cap, json_string_value(v), json_string_length(v)) : -1;
    if (n < 0)
        err_set(e, ERR_BAD_EVIDENCE, "evidence-format",
                "the evidence's \"%s\" is missing, not base64url, or too long", name);
    return n;
}

void attest_text_wipe(const json_t *v)
{
    char *text = NULL;
    if (json_is_string(v))
        memcpy(&text, &(const char *){json_string_value(v)}, sizeof text);
    if (text)
        secret_wipe(text, json_string_length(v));
}
