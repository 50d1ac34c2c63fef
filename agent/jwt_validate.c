#include "agent/jwt_validate.h"
#include "base/der.h"
#include "base/json.h"
#include "base/spiffe.h"
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/rsa.h>
#include <string.h>

#define TOKEN_MAX 65536
#define HEADER_MAX 4096
#define SIG_MAX 512
#define CLOCK_SLACK 5 /* seconds that clocks may differ */

static int refuse(struct err *e, const char *rule, const char *why)
{
    ERR_clear_error();
    return err_set(e, ERR_UNAUTHORIZED, rule, "the JWT-SVID is refused: %s", why);
}

/* --- algorithms (RFC 7518 section 3.1) ------------------------------------------------------------------------------------ */

static const struct algorithm {
    const char *name, *md, *curve; /* curve NULL: RSA */
    size_t width;                  /* EC: bytes of r and of s */
    bool pss;
} algorithms[] = {
    {"ES256", "SHA256", "P-256", 32, false}, {"ES384", "SHA384", "P-384", 48, false},
    {"ES512", "SHA512", "P-521", 66, false}, {"RS256", "SHA256", NULL, 0, false},
    {"RS384", "SHA384", NULL, 0, false},     {"RS512", "SHA512", NULL, 0, false},
    {"PS256", "SHA256", NULL, 0, true},      {"PS384", "SHA384", NULL, 0, true},
    {"PS512", "SHA512", NULL, 0, true},
};

static const struct algorithm *algorithm_of(const char *name)
{
    for (size_t i = 0; name && i < sizeof algorithms / sizeof *algorithms; i++)
        if (strcmp(algorithms[i].name, name) == 0)
            return &algorithms[i];
    return NULL;
}

/* --- keys (RFC 7518 section 6) ------------------------------------------------------------------------------------------------ */

static long member(const json_t *jwk, const char *name, uint8_t *dst, size_t cap)
{
    const json_t *v = json_object_get(jwk, name);
    return json_is_string(v) ? b64url_decode(dst, cap, json_string_value(v), json_string_length(v)) : -1;
}

static EVP_PKEY *from_params(const char *type, OSSL_PARAM_BLD *bld)
{
    EVP_PKEY *key = NULL;
    OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(bld);
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
    if (params && ctx && EVP_PKEY_fromdata_init(ctx) == 1)
        EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_PUBLIC_KEY, params);
    EVP_PKEY_CTX_free(ctx);
    OSSL_PARAM_free(params);
    return key;
}

static EVP_PKEY *ec_key(const json_t *jwk, const struct algorithm *a)
{
    uint8_t point[1 + 2 * 66] = {4};
    const char *curve = json_maybe_str(jwk, "crv");
    EVP_PKEY *key = NULL;
    if (!curve || strcmp(curve, a->curve) != 0 || member(jwk, "x", point + 1, a->width) != (long)a->width ||
        member(jwk, "y", point + 1 + a->width, a->width) != (long)a->width)
        return NULL;
    OSSL_PARAM_BLD *bld = OSSL_PARAM_BLD_new();
    if (bld && OSSL_PARAM_BLD_push_utf8_string(bld, OSSL_PKEY_PARAM_GROUP_NAME, a->curve, 0) &&
        OSSL_PARAM_BLD_push_octet_string(bld, OSSL_PKEY_PARAM_PUB_KEY, point, 1 + 2 * a->width))
        key = from_params("EC", bld); /* a point off the curve is refused */
    OSSL_PARAM_BLD_free(bld);
    return key;
}

static EVP_PKEY *rsa_key(const json_t *jwk)
{
    uint8_t n[SIG_MAX], x[8];
    long n_len = member(jwk, "n", n, sizeof n), x_len = member(jwk, "e", x, sizeof x);
    EVP_PKEY *key = NULL;
    if (n_len < 256 || x_len < 1) /* 2048 bits at least */
        return NULL;
    BIGNUM *bn = BN_bin2bn(n, (int)n_len, NULL), *be = BN_bin2bn(x, (int)x_len, NULL);
    OSSL_PARAM_BLD *bld = OSSL_PARAM_BLD_new();
    if (bn && be && bld && BN_num_bits(bn) >= 2048 && BN_is_odd(be) && BN_num_bits(be) >= 2 &&
        OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_N, bn) && OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_E, be))
        key = from_params("RSA", bld);
    OSSL_PARAM_BLD_free(bld);
    BN_free(bn);
    BN_free(be);
    return key;
}

/* Of this kid, for this algorithm. */
static EVP_PKEY *key_for(const json_t *jwks, const char *kid, const struct algorithm *a)
{
    size_t i;
    const json_t *k;
    json_array_foreach(json_object_get(jwks, "keys"), i, k)
    {
        const char *id = json_maybe_str(k, "kid"), *kty = json_maybe_str(k, "kty"), *alg = json_maybe_str(k, "alg"),
                   *use = json_maybe_str(k, "use");
        if (!id || strcmp(id, kid) != 0 || !kty || strcmp(kty, a->curve ? "EC" : "RSA") != 0 ||
            (use && strcmp(use, "jwt-svid") != 0) || (alg && strcmp(alg, a->name) != 0))
            continue;
        return a->curve ? ec_key(k, a) : rsa_key(k);
    }
    return NULL;
}

static bool signature_good(EVP_PKEY *key, const struct algorithm *a, const void *msg, size_t len, const uint8_t *sig,
                           size_t sig_len)
{
    uint8_t der[2 * 66 + 16];
    EVP_PKEY_CTX *settings = NULL;
    if (a->curve) {
        long n = sig_len == 2 * a->width ? der_ecdsa_from_rs(der, sizeof der, sig, a->width) : -1;
        if (n < 0)
            return false;
        sig = der;
        sig_len = (size_t)n;
    }
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = ctx && EVP_DigestVerifyInit_ex(ctx, &settings, a->md, NULL, NULL, key, NULL) == 1;
    if (ok && !a->curve)
        ok = EVP_PKEY_CTX_set_rsa_padding(settings, a->pss ? RSA_PKCS1_PSS_PADDING : RSA_PKCS1_PADDING) == 1 &&
             (!a->pss || EVP_PKEY_CTX_set_rsa_pss_saltlen(settings, RSA_PSS_SALTLEN_DIGEST) == 1);
    ok = ok && EVP_DigestVerify(ctx, sig, sig_len, msg, len) == 1;
    EVP_MD_CTX_free(ctx);
    ERR_clear_error();
    return ok;
}

/* --- the token ---------------------------------------------------------------------------------------------------------------- */

struct parts {
    const char *at[3];
    size_t len[3];
};

static int split(struct parts *p, const char *s, size_t len, struct err *e)
{
    size_t begin = 0;
    int n = 0;
    if (len > TOKEN_MAX)
        return refuse(e, "jwt-syntax", "it is longer than 64 KiB");
    for (size_t i = 0; i <= len; i++) {
        if (i < len && s[i] != '.')
            continue;
        if (n == 3 || i == begin)
            return refuse(e, "jwt-syntax", "it is not three parts");
        p->at[n] = s + begin;
        p->len[n++] = i - begin;
        begin = i + 1;
    }
    return n == 3 ? 0 : refuse(e, "jwt-syntax", "it is not three parts");
}

static json_t *decode(struct buf *out, const char *s, size_t len, size_t max, struct err *e)
{
    struct err why;
    uint8_t room[HEADER_MAX];
    buf_init(out, max);
    for (size_t at = 0; at < len; at += 4096) { /* in pieces of whole groups */
        size_t n = len - at < 4096 ? len - at : 4096;
        long got = b64url_decode(room, sizeof room, s + at, n);
        if (got < 0) {
            buf_free(out);
            refuse(e, "jwt-syntax", "a part is not base64url");
            return NULL;
        }
        buf_put(out, room, (size_t)got);
    }
    json_t *doc = out->failed ? NULL : json_parse(out->p, out->len, max, &why);
    if (json_is_object(doc))
        return doc;
    json_decref(doc);
    buf_free(out);
    refuse(e, "jwt-syntax", "a part is no JSON object, or too large");
    return NULL;
}

static int check_header(const json_t *h, const struct algorithm **a, const char **kid, struct err *e)
{
    const char *typ = json_maybe_str(h, "typ");
    *a = algorithm_of(json_maybe_str(h, "alg"));
    *kid = json_maybe_str(h, "kid");
    if (!*a)
        return refuse(e, "jwt-alg", "its alg is none of RS, PS and ES with 256, 384 and 512 (JWT-SVID section 2.1)");
    if (json_object_get(h, "typ") && (!typ || (strcmp(typ, "JWT") != 0 && strcmp(typ, "JOSE") != 0)))
        return refuse(e, "jwt-typ", "its typ is neither JWT nor JOSE (JWT-SVID section 2.3)");
    if (json_object_get(h, "crit") || json_object_get(h, "b64"))
        return refuse(e, "jwt-syntax", "its header demands what is not understood here");
    return *kid ? 0 : refuse(e, "jwt-kid", "it does not name its key");
}

static bool has_audience(const json_t *aud, const char *want)
{
    size_t i;
    const json_t *v;
    if (json_is_string(aud))
        return strcmp(json_string_value(aud), want) == 0;
    json_array_foreach(aud, i, v)
        if (json_is_string(v) && strcmp(json_string_value(v), want) == 0)
            return true;
    return false;
}

static int check_claims(struct jwt_claims *out, const json_t *c, const char *trust_domain, const char *audience,
                        int64_t now, struct err *e)
{
    struct spiffe_id id;
    struct err why;
    const char *sub = json_maybe_str(c, "sub");
    const json_t *exp = json_object_get(c, "exp"), *nbf = json_object_get(c, "nbf");
    if (!sub || strlen(sub) >= sizeof out->spiffe_id || spiffe_parse(&id, sub, strlen(sub), &why) < 0)
        return refuse(e, "jwt-sub", "its sub is no SPIFFE ID (JWT-SVID section 3.1)");
    if (!bytes_eq_str(id.trust_domain, trust_domain) || id.path.len == 0)
        return refuse(e, "jwt-sub", "its sub is not of this trust domain");
    if (!*audience || !has_audience(json_object_get(c, "aud"), audience))
        return refuse(e, "jwt-aud", "its aud does not have the audience (JWT-SVID section 3.2)");
    if (!json_is_number(exp) || json_number_value(exp) < 0 || json_number_value(exp) > 1e12)
        return refuse(e, "jwt-exp", "it has no exp (JWT-SVID section 3.3)");
    if ((double)(now - CLOCK_SLACK) >= json_number_value(exp))
        return refuse(e, "jwt-exp", "it expired");
    if (nbf && (!json_is_number(nbf) || json_number_value(nbf) > (double)(now + CLOCK_SLACK)))
        return refuse(e, "jwt-exp", "it is not valid yet");
    strcpy(out->spiffe_id, sub);
    return 0;
}

static int check_signature(const struct parts *p, const char *token, const struct wl_bundle *bundle, const json_t *header,
                           struct err *e)
{
    const struct algorithm *a;
    const char *kid;
    uint8_t sig[SIG_MAX];
    struct err why;
    if (check_header(header, &a, &kid, e) < 0)
        return -1;
    long sig_len = b64url_decode(sig, sizeof sig, p->at[2], p->len[2]);
    if (sig_len <= 0)
        return refuse(e, "jwt-syntax", "its signature is not base64url, or too long");
    json_t *jwks = json_parse(bundle->jwks.p, bundle->jwks.len, bundle->jwks.len, &why);
    EVP_PKEY *key = jwks ? key_for(jwks, kid, a) : NULL;
    int rc = 0;
    if (!key)
        rc = refuse(e, "jwt-kid", "its key is not in the bundle");
    else if (!signature_good(key, a, token, p->len[0] + 1 + p->len[1], sig, (size_t)sig_len))
        rc = refuse(e, "jwt-signature", "its signature does not verify");
    EVP_PKEY_free(key);
    json_decref(jwks);
    return rc;
}

int jwt_validate(struct jwt_claims *out, const char *svid, size_t len, const struct wl_bundle *bundle,
                 const char *audience, int64_t now, struct err *e)
{
    struct parts p;
    struct buf text;
    memset(out, 0, sizeof *out);
    if (split(&p, svid, len, e) < 0)
        return -1;
    json_t *header = decode(&text, p.at[0], p.len[0], HEADER_MAX, e);
    if (!header)
        return -1;
    int rc = check_signature(&p, svid, bundle, header, e);
    buf_free(&text);
    json_decref(header);
    json_t *claims = rc == 0 ? decode(&out->payload, p.at[1], p.len[1], TOKEN_MAX, e) : NULL;
    if (!claims)
        return -1;
    rc = check_claims(out, claims, bundle->trust_domain, audience, now, e);
    json_decref(claims);
    if (rc < 0) {
        buf_free(&out->payload);
        memset(out, 0, sizeof *out);
    }
    return rc;
}
