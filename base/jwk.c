/* JSON Web Keys (RFC 7517, RFC 7518 §6, RFC 8037) of jose.h. */
#include "base/der.h"
#include "base/jose.h"
#include "base/oid.h"
#include <openssl/sha.h>
#include <string.h>

#define JWK_MEMBER_MAX 512 /* bytes of a decoded member: RSA modulus of 4096 bits */
#define JWK_SPKI_MAX 640
#define JWK_CANON_MAX 800

struct member {
    uint8_t p[JWK_MEMBER_MAX];
    size_t len;
};

static int jwk_member(struct member *m, const json_t *jwk, const char *name, struct err *e)
{
    const json_t *v = json_object_get(jwk, name);
    long n = v && json_is_string(v)
                 ? b64url_decode(m->p, sizeof m->p, json_string_value(v), json_string_length(v))
                 : -1;
    if (n <= 0)
        return err_set(e, ERR_BAD_KEY, "jwk", "jwk member \"%s\" is missing, not base64url or too long",
                       name);
    m->len = (size_t)n;
    return 0;
}

/* RFC 7517 §4.2-4.4: a key made for something else is not used to verify. */
static int jwk_check_purpose(const json_t *jwk, struct err *e)
{
    const json_t *use = json_object_get(jwk, "use"), *ops = json_object_get(jwk, "key_ops"), *op;
    const char *s = json_string_value(use);
    if (use && (!s || strcmp(s, "sig") != 0))
        return err_set(e, ERR_BAD_KEY, "jwk", "jwk \"use\" is not \"sig\" (RFC 7517 §4.2)");
    if (!ops)
        return 0;
    size_t i;
    json_array_foreach(ops, i, op)
        if (json_is_string(op) && strcmp(json_string_value(op), "verify") == 0)
            return 0;
    return err_set(e, ERR_BAD_KEY, "jwk", "jwk \"key_ops\" lacks \"verify\" (RFC 7517 §4.3)");
}

static int jwk_check_public(const json_t *jwk, struct err *e)
{
    static const char *const secret[] = {"d", "p", "q", "dp", "dq", "qi", "oth", "k"};
    for (size_t i = 0; i < sizeof secret / sizeof secret[0]; i++)
        if (json_object_get(jwk, secret[i]))
            return err_set(e, ERR_BAD_KEY, "jwk-private",
                           "jwk holds secret member \"%s\": consider this key disclosed, make another",
                           secret[i]);
    return 0;
}

/* Each writes the SubjectPublicKeyInfo, so that key_from_spki stays the one door for keys. */
static int spki_from_ec(struct derw *w, const json_t *jwk, enum key_type type, struct err *e)
{
    struct member x, y;
    size_t width = type == KEY_P256 ? 32 : 48;
    if (jwk_member(&x, jwk, "x", e) < 0 || jwk_member(&y, jwk, "y", e) < 0)
        return -1;
    if (x.len != width || y.len != width)
        return err_set(e, ERR_BAD_KEY, "key-point",
                       "jwk coordinate is not %zu bytes (RFC 7518 §6.2.1.2)", width);
    size_t all = derw_mark(w);
    derw_raw(w, y.p, width);
    derw_raw(w, x.p, width);
    derw_raw(w, "\0\x04", 2); /* no unused bits; uncompressed */
    derw_wrap(w, DER_BIT_STRING, all);
    size_t alg = derw_mark(w);
    if (type == KEY_P256)
        derw_oid(w, OID_P256, OID_LEN(OID_P256));
    else
        derw_oid(w, OID_P384, OID_LEN(OID_P384));
    derw_oid(w, OID_EC_PUBLIC_KEY, OID_LEN(OID_EC_PUBLIC_KEY));
    derw_wrap(w, DER_SEQUENCE, alg);
    derw_wrap(w, DER_SEQUENCE, all);
    return 0;
}

static int spki_from_rsa(struct derw *w, const json_t *jwk, struct err *e)
{
    struct member n, x;
    if (jwk_member(&n, jwk, "n", e) < 0 || jwk_member(&x, jwk, "e", e) < 0)
        return -1;
    if (n.p[0] == 0 || x.p[0] == 0)
        return err_set(e, ERR_BAD_KEY, "jwk", "jwk integer has leading zeros (RFC 7518 §2)");
    size_t all = derw_mark(w);
    derw_uint(w, x.p, x.len);
    derw_uint(w, n.p, n.len);
    derw_wrap(w, DER_SEQUENCE, all);
    derw_raw(w, "", 1);
    derw_wrap(w, DER_BIT_STRING, all);
    size_t alg = derw_mark(w);
    derw_tlv(w, DER_NULL, "", 0);
    derw_oid(w, OID_RSA, OID_LEN(OID_RSA));
    derw_wrap(w, DER_SEQUENCE, alg);
    derw_wrap(w, DER_SEQUENCE, all);
    return 0;
}

static int spki_from_okp(struct derw *w, const json_t *jwk, struct err *e)
{
    struct member x;
    if (jwk_member(&x, jwk, "x", e) < 0)
        return -1;
    size_t all = derw_mark(w);
    derw_raw(w, x.p, x.len);
    derw_raw(w, "", 1);
    derw_wrap(w, DER_BIT_STRING, all);
    size_t alg = derw_mark(w);
    derw_oid(w, OID_ED25519, OID_LEN(OID_ED25519));
    derw_wrap(w, DER_SEQUENCE, alg);
    derw_wrap(w, DER_SEQUENCE, all);
    return 0;
}

static int spki_from_jwk(struct derw *w, const json_t *jwk, struct err *e)
{
    const char *kty = json_maybe_str(jwk, "kty"), *crv = json_maybe_str(jwk, "crv");
    if (kty && strcmp(kty, "RSA") == 0)
        return spki_from_rsa(w, jwk, e);
    if (kty && crv && strcmp(kty, "EC") == 0 && strcmp(crv, "P-256") == 0)
        return spki_from_ec(w, jwk, KEY_P256, e);
    if (kty && crv && strcmp(kty, "EC") == 0 && strcmp(crv, "P-384") == 0)
        return spki_from_ec(w, jwk, KEY_P384, e);
    if (kty && crv && strcmp(kty, "OKP") == 0 && strcmp(crv, "Ed25519") == 0)
        return spki_from_okp(w, jwk, e);
    return err_set(e, ERR_BAD_KEY, "key-type",
                   "jwk type not accepted; use EC P-256 or P-384, OKP Ed25519, or RSA");
}

struct key *jwk_parse(const json_t *jwk, struct err *e)
{
    uint8_t array[JWK_SPKI_MAX];
    struct derw w;
    derw_init(&w, array, sizeof array);
    if (!json_is_object(jwk)) {
        err_set(e, ERR_BAD_KEY, "jwk", "jwk is not an object");
        return NULL;
    }
    if (jwk_check_public(jwk, e) < 0 || jwk_check_purpose(jwk, e) < 0 || spki_from_jwk(&w, jwk, e) < 0)
        return NULL;
    if (w.failed) {
        err_set(e, ERR_BAD_KEY, "key-size", "jwk is larger than any accepted key");
        return NULL;
    }
    struct bytes spki = derw_bytes(&w);
    struct key *k = key_from_spki(spki.p, spki.len, e);
    const json_t *alg = json_object_get(jwk, "alg");
    if (k && alg && (!json_is_string(alg) || strcmp(json_string_value(alg), jws_alg(k)) != 0)) {
        err_set(e, ERR_BAD_KEY, "jwk", "jwk \"alg\" is not %s, which its type asks for (RFC 7517 §4.4)",
                jws_alg(k));
        key_free(k);
        return NULL;
    }
    return k;
}

/* Members in lexicographic order, no white space (RFC 7638 §3.2). */
int jwk_write(struct buf *out, const struct key *k, struct err *e)
{
    struct bytes spki = key_spki(k), bits, n, x;
    struct cur c = cur_of(spki.p, spki.len), in, alg, rsa;
    if (der_enter(&c, DER_SEQUENCE, &in) < 0 || der_enter(&in, DER_SEQUENCE, &alg) < 0 ||
        der_bits(&in, &bits) < 0)
        return err_set(e, ERR_INTERNAL, "jwk", "key holds no SubjectPublicKeyInfo");
    switch (key_kind(k)) {
    case KEY_P256:
    case KEY_P384: {
        size_t width = (bits.len - 1) / 2;
        buf_str(out, width == 32 ? "{\"crv\":\"P-256\",\"kty\":\"EC\",\"x\":\""
                                 : "{\"crv\":\"P-384\",\"kty\":\"EC\",\"x\":\"");
        buf_b64url(out, bits.p + 1, width);
        buf_str(out, "\",\"y\":\"");
        buf_b64url(out, bits.p + 1 + width, width);
        break;
    }
    case KEY_ED25519:
        buf_str(out, "{\"crv\":\"Ed25519\",\"kty\":\"OKP\",\"x\":\"");
        buf_b64url(out, bits.p, bits.len);
        break;
    case KEY_RSA:
        c = cur_of(bits.p, bits.len);
        if (der_enter(&c, DER_SEQUENCE, &rsa) < 0 || der_uint(&rsa, &n) < 0 || der_uint(&rsa, &x) < 0)
            return err_set(e, ERR_INTERNAL, "jwk", "RSA key holds no integers");
        buf_str(out, "{\"e\":\"");
        buf_b64url(out, x.p, x.len);
        buf_str(out, "\",\"kty\":\"RSA\",\"n\":\"");
        buf_b64url(out, n.p, n.len);
        break;
    }
    buf_str(out, "\"}");
    return out->failed ? err_set(e, ERR_INTERNAL, "memory", "no room for a jwk") : 0;
}

int jwk_thumbprint(char out[44], const struct key *k, struct err *e)
{
    uint8_t hash[SHA256_DIGEST_LENGTH];
    struct buf canon;
    buf_init(&canon, JWK_CANON_MAX);
    int rc = jwk_write(&canon, k, e);
    if (rc == 0) {
        SHA256(canon.p, canon.len, hash);
        b64url_encode(out, hash, sizeof hash);
    }
    buf_free(&canon);
    return rc;
}
