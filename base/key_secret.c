/* Private keys in locked memory, in both directions (key.h). A P-256 key in PKCS#8 (RFC 5958, RFC 5915) has one form:
 * the head below, the private value, a short tail, the point. So nothing needs to be parsed. */
#include "base/key.h"
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/param_build.h>
#include <string.h>

static const uint8_t head[] = {
    0x30, 0x81, 0x87, 0x02, 0x01, 0x00,                               /* PrivateKeyInfo, version 0 */
    0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, /* id-ecPublicKey */
    0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07,       /* P-256 */
    0x04, 0x6d, 0x30, 0x6b, 0x02, 0x01, 0x01, 0x04, 0x20,             /* ECPrivateKey, version 1 */
};
static const uint8_t tail[] = {0xa1, 0x44, 0x03, 0x42, 0x00}; /* [1] the public key, a BIT STRING */
#define VALUE 32
#define POINT 65
#define WHOLE (sizeof head + VALUE + sizeof tail + POINT)

int key_secure_heap(size_t bytes, struct err *e)
{
    if (CRYPTO_secure_malloc_initialized())
        return 0;
    int rc = CRYPTO_secure_malloc_init(bytes, 16);
    if (rc == 1)
        return 0;
    ERR_clear_error();
    return err_set(e, ERR_INTERNAL, "secret-memory",
                   "cannot lock %zu bytes for private keys; raise the memlock limit (ulimit -l, or LimitMEMLOCK= in "
                   "the unit)",
                   bytes);
}

static int refuse(struct err *e, const char *why)
{
    ERR_clear_error();
    return err_set(e, ERR_BAD_KEY, "key-der", "%s", why);
}

int key_to_pkcs8_secret(const struct key *k, struct secret *out, struct err *e)
{
    BIGNUM *d = BN_secure_new();
    struct bytes spki = key_spki(k);
    int rc = -1;
    memset(out, 0, sizeof *out);
    if (key_kind(k) != KEY_P256 || spki.len < POINT) {
        refuse(e, "only P-256 keys are kept in secret memory");
    } else if (!d || EVP_PKEY_get_bn_param(key_evp(k), OSSL_PKEY_PARAM_PRIV_KEY, &d) != 1) {
        refuse(e, "the key has no private half here");
    } else if (secret_new(out, WHOLE, e) == 0) {
        memcpy(out->p, head, sizeof head);
        if (BN_bn2binpad(d, out->p + sizeof head, VALUE) == VALUE) {
            memcpy(out->p + sizeof head + VALUE, tail, sizeof tail);
            memcpy(out->p + sizeof head + VALUE + sizeof tail, spki.p + spki.len - POINT, POINT);
            out->len = WHOLE;
            rc = 0;
        } else {
            refuse(e, "the private value does not fit its curve");
            secret_free(out);
        }
    }
    BN_clear_free(d);
    return rc;
}

static EVP_PKEY *from_parts(const uint8_t *value, const uint8_t *point)
{
    EVP_PKEY *pkey = NULL;
    OSSL_PARAM *params = NULL;
    BIGNUM *d = BN_secure_new();
    OSSL_PARAM_BLD *bld = OSSL_PARAM_BLD_new();
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
    /* a value in secure memory makes the list of parameters lie there too */
    if (d && bld && ctx && BN_bin2bn(value, VALUE, d) &&
        OSSL_PARAM_BLD_push_utf8_string(bld, OSSL_PKEY_PARAM_GROUP_NAME, "P-256", 0) &&
        OSSL_PARAM_BLD_push_BN_pad(bld, OSSL_PKEY_PARAM_PRIV_KEY, d, VALUE) &&
        OSSL_PARAM_BLD_push_octet_string(bld, OSSL_PKEY_PARAM_PUB_KEY, point, POINT) &&
        (params = OSSL_PARAM_BLD_to_param(bld)) && EVP_PKEY_fromdata_init(ctx) == 1)
        EVP_PKEY_fromdata(ctx, &pkey, EVP_PKEY_KEYPAIR, params);
    EVP_PKEY_CTX_free(ctx);
    OSSL_PARAM_free(params);
    OSSL_PARAM_BLD_free(bld);
    BN_clear_free(d);
    return pkey;
}

struct key *key_from_pkcs8_secret(const struct secret *s, struct err *e)
{
    struct key *k = NULL;
    if (s->len != WHOLE || memcmp(s->p, head, sizeof head) != 0 ||
        memcmp(s->p + sizeof head + VALUE, tail, sizeof tail) != 0) {
        refuse(e, "this is no P-256 key as it is written here");
        return NULL;
    }
    EVP_PKEY *pkey = from_parts(s->p + sizeof head, s->p + WHOLE - POINT);
    EVP_PKEY_CTX *check = pkey ? EVP_PKEY_CTX_new_from_pkey(NULL, pkey, NULL) : NULL;
    if (check && EVP_PKEY_pairwise_check(check) == 1)
        k = key_from_evp(pkey, e);
    else
        refuse(e, "the key's halves do not match");
    EVP_PKEY_CTX_free(check);
    EVP_PKEY_free(pkey);
    return k;
}
