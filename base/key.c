#include "base/key.h"
#include "base/der.h"
#include "base/key_spki.h"
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define PEM_MAX 16384

struct key {
    enum key_type type;
    EVP_PKEY *pkey;       /* owned */
    EVP_PKEY_CTX *verify; /* owned; set up for key_verify and only ever copied. NULL for Ed25519 */
    key_sign_cb *signer;  /* of key_from_signer */
    void *signer_arg;
    size_t spki_len;
    uint8_t spki[];
};

/* What each call would otherwise fetch anew. Made once, before any thread or jail, and then only
 * read. The templates are EC keys with a curve and no point: copying one and setting its point
 * costs 7 us, OpenSSL's decoder 180, EVP_PKEY_fromdata 24. */
static struct {
    EVP_MD *sha256, *sha384;
    EVP_PKEY *p256, *p384;
    pthread_key_t kept; /* each thread's struct key for key_once */
    bool ok;
} parts;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static EVP_PKEY *template_new(const char *group)
{
    EVP_PKEY *pkey = NULL;
    char name[16];
    snprintf(name, sizeof name, "%s", group);
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, name, 0),
        OSSL_PARAM_construct_end(),
    };
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
    if (ctx && EVP_PKEY_fromdata_init(ctx) == 1)
        EVP_PKEY_fromdata(ctx, &pkey, EVP_PKEY_KEY_PARAMETERS, params);
    EVP_PKEY_CTX_free(ctx);
    return pkey;
}

static void kept_free(void *k)
{
    key_free(k);
}

static void parts_make(void)
{
    parts.sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    parts.sha384 = EVP_MD_fetch(NULL, "SHA384", NULL);
    parts.p256 = template_new("P-256");
    parts.p384 = template_new("P-384");
    parts.ok = parts.sha256 && parts.sha384 && parts.p256 && parts.p384 &&
               pthread_key_create(&parts.kept, kept_free) == 0;
}

int key_setup(struct err *e)
{
    pthread_once(&once, parts_make);
    if (!parts.ok)
        return err_set(e, ERR_INTERNAL, "crypto",
                       "OpenSSL offers no SHA-2 or no EC: is its default provider disabled?");
    return 0;
}

/* The reason OpenSSL gave last; leaves its queue empty, so that no later call reads it as its own. */
static int crypto_failed(struct err *e, const char *what)
{
    char text[160] = "out of memory";
    unsigned long code = ERR_peek_last_error();
    if (code)
        ERR_error_string_n(code, text, sizeof text);
    ERR_clear_error();
    return err_set(e, ERR_INTERNAL, "crypto", "%s: %s", what, text);
}

/* ---- making keys ---- */

/* Sets up the context that key_verify copies: 1.5 us here, 0.1 us there. */
static EVP_PKEY_CTX *verify_ctx(EVP_PKEY *pkey, enum key_type type)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, pkey, NULL);
    if (ctx && EVP_PKEY_verify_init(ctx) == 1 &&
        (type != KEY_RSA || (EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PADDING) == 1 &&
                             EVP_PKEY_CTX_set_signature_md(ctx, parts.sha256) == 1)))
        return ctx;
    EVP_PKEY_CTX_free(ctx);
    return NULL;
}

/* Takes over pkey, also on failure. */
static struct key *key_wrap(EVP_PKEY *pkey, enum key_type type, const uint8_t *spki, size_t len,
                            struct err *e)
{
    struct key *k = calloc(1, sizeof *k + len);
    if (!k) {
        EVP_PKEY_free(pkey);
        err_set(e, ERR_INTERNAL, "memory", "out of memory for a key");
        return NULL;
    }
    k->type = type;
    k->pkey = pkey;
    k->spki_len = len;
    memcpy(k->spki, spki, len);
    if (type != KEY_ED25519 && !(k->verify = verify_ctx(pkey, type))) {
        crypto_failed(e, "cannot prepare a key for verification");
        key_free(k);
        return NULL;
    }
    return k;
}

static EVP_PKEY *ec_public(const struct spki *s, struct err *e)
{
    EVP_PKEY *pkey = EVP_PKEY_dup(s->type == KEY_P256 ? parts.p256 : parts.p384);
    if (!pkey) {
        crypto_failed(e, "cannot make an EC key");
        return NULL;
    }
    /* Setting the point checks that it lies on the curve; both curves have cofactor 1. */
    if (EVP_PKEY_set1_encoded_public_key(pkey, s->point.p, s->point.len) != 1) {
        ERR_clear_error();
        EVP_PKEY_free(pkey);
        err_set(e, ERR_BAD_KEY, "key-point", "EC point is not on its curve");
        return NULL;
    }
    return pkey;
}

static EVP_PKEY *rsa_public(const struct spki *s, struct err *e)
{
    EVP_PKEY *pkey = NULL;
    OSSL_PARAM *params = NULL;
    BIGNUM *n = BN_bin2bn(s->n.p, (int)s->n.len, NULL), *x = BN_bin2bn(s->e.p, (int)s->e.len, NULL);
    OSSL_PARAM_BLD *bld = OSSL_PARAM_BLD_new();
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
    if (n && x && bld && ctx && OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_N, n) &&
        OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_E, x) &&
        (params = OSSL_PARAM_BLD_to_param(bld)) && EVP_PKEY_fromdata_init(ctx) == 1)
        EVP_PKEY_fromdata(ctx, &pkey, EVP_PKEY_PUBLIC_KEY, params);
    if (!pkey)
        crypto_failed(e, "cannot make an RSA key");
    EVP_PKEY_CTX_free(ctx);
    OSSL_PARAM_free(params);
    OSSL_PARAM_BLD_free(bld);
    BN_free(n);
    BN_free(x);
    return pkey;
}

struct key *key_from_spki(const uint8_t *der, size_t len, struct err *e)
{
    struct spki s;
    EVP_PKEY *pkey;
    if (key_setup(e) < 0 || spki_read(&s, der, len, e) < 0)
        return NULL;
    if (s.type == KEY_RSA)
        pkey = rsa_public(&s, e);
    else if (s.type == KEY_ED25519) {
        pkey = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, s.point.p, s.point.len);
        if (!pkey)
            crypto_failed(e, "cannot make an Ed25519 key");
    } else
        pkey = ec_public(&s, e);
    return pkey ? key_wrap(pkey, s.type, der, len, e) : NULL;
}

struct key *key_once(const uint8_t *der, size_t len, struct err *e)
{
    struct spki s;
    if (key_setup(e) < 0 || spki_read(&s, der, len, e) < 0)
        return NULL;
    if (s.type != KEY_P256)
        return key_from_spki(der, len, e);
    struct key *k = pthread_getspecific(parts.kept);
    if (!k) {
        k = key_from_spki(der, len, e);
        if (k && pthread_setspecific(parts.kept, k) != 0) {
            key_free(k);
            err_set(e, ERR_INTERNAL, "memory", "out of memory for a key");
            return NULL;
        }
        return k;
    }
    /* Sets the point in place, where the prepared context sees it. Of one off the curve OpenSSL may
     * keep what it read, so that key is not used again. A P-256 SubjectPublicKeyInfo has one length. */
    if (len != k->spki_len || EVP_PKEY_set1_encoded_public_key(k->pkey, s.point.p, s.point.len) != 1) {
        ERR_clear_error();
        pthread_setspecific(parts.kept, NULL);
        key_free(k);
        err_set(e, ERR_BAD_KEY, "key-point", "EC point is not on its curve");
        return NULL;
    }
    memcpy(k->spki, der, len);
    return k;
}

void key_once_done(struct key *k)
{
    if (k && k->type != KEY_P256)
        key_free(k);
}

struct key *key_from_evp(EVP_PKEY *pkey, struct err *e)
{
    struct spki s;
    struct key *k = NULL;
    uint8_t *der = NULL;
    if (key_setup(e) < 0)
        return NULL;
    int len = i2d_PUBKEY(pkey, &der);
    if (len <= 0) {
        ERR_clear_error();
        err_set(e, ERR_BAD_KEY, "key-type", "key has no SubjectPublicKeyInfo");
    } else if (spki_read(&s, der, (size_t)len, e) == 0) {
        EVP_PKEY_up_ref(pkey);
        k = key_wrap(pkey, s.type, der, (size_t)len, e);
    }
    OPENSSL_free(der);
    return k;
}

struct key *key_generate(enum key_type type, struct err *e)
{
    EVP_PKEY *pkey = NULL;
    if (key_setup(e) < 0)
        return NULL;
    if (type == KEY_P256)
        pkey = EVP_EC_gen("P-256");
    else if (type == KEY_P384)
        pkey = EVP_EC_gen("P-384");
    else if (type == KEY_RSA)
        pkey = EVP_RSA_gen(RSA_MIN_BITS);
    else if (type == KEY_ED25519)
        pkey = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    if (!pkey) {
        crypto_failed(e, "cannot generate a key");
        return NULL;
    }
    struct key *k = key_from_evp(pkey, e);
    EVP_PKEY_free(pkey);
    return k;
}

struct key *key_from_signer(const uint8_t *spki, size_t len, key_sign_cb *cb, void *arg, struct err *e)
{
    struct key *k = key_from_spki(spki, len, e);
    if (k && k->type != KEY_P256 && k->type != KEY_P384) {
        key_free(k);
        err_set(e, ERR_BAD_KEY, "key-type", "only EC keys may sign elsewhere");
        return NULL;
    }
    if (k) {
        k->signer = cb;
        k->signer_arg = arg;
    }
    return k;
}

void key_free(struct key *k)
{
    if (!k)
        return;
    EVP_PKEY_CTX_free(k->verify);
    EVP_PKEY_free(k->pkey);
    free(k);
}

enum key_type key_kind(const struct key *k)
{
    return k->type;
}

struct bytes key_spki(const struct key *k)
{
    return (struct bytes){k->spki, k->spki_len};
}

EVP_PKEY *key_evp(const struct key *k)
{
    return k->pkey;
}

/* ---- signatures ---- */

#define EC_WIDTH_MAX 48
#define EC_DER_MAX (2 * EC_WIDTH_MAX + 9)

static size_t ec_width(const struct key *k)
{
    return k->type == KEY_P256 ? 32 : k->type == KEY_P384 ? 48 : 0;
}

static int digest(const struct key *k, const void *msg, size_t len, uint8_t out[EVP_MAX_MD_SIZE],
                  unsigned *n, struct err *e)
{
    const EVP_MD *md = k->type == KEY_P384 ? parts.sha384 : parts.sha256;
    if (EVP_Digest(msg, len, out, n, md, NULL) != 1)
        return crypto_failed(e, "cannot hash");
    return 0;
}

static int refuse_signature(struct err *e)
{
    ERR_clear_error();
    return err_set(e, ERR_UNAUTHORIZED, "signature",
                   "signature does not verify: made with another key, or over other bytes");
}

static int verify_ed25519(const struct key *k, const uint8_t *sig, size_t sig_len, const void *msg,
                          size_t len, struct err *e)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    if (!ctx || EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, k->pkey) != 1) {
        EVP_MD_CTX_free(ctx);
        return crypto_failed(e, "cannot verify");
    }
    int ok = EVP_DigestVerify(ctx, sig, sig_len, len ? msg : (const void *)"", len);
    EVP_MD_CTX_free(ctx);
    return ok == 1 ? 0 : refuse_signature(e);
}

int key_verify(const struct key *k, bool der, const uint8_t *sig, size_t sig_len, const void *msg,
               size_t len, struct err *e)
{
    uint8_t hash[EVP_MAX_MD_SIZE], converted[EC_DER_MAX];
    unsigned hash_len;
    size_t width = ec_width(k);
    if (k->type == KEY_ED25519)
        return verify_ed25519(k, sig, sig_len, msg, len, e);
    if (width && !der) {
        if (sig_len != 2 * width)
            return refuse_signature(e);
        long n = der_ecdsa_from_rs(converted, sizeof converted, sig, width);
        if (n < 0)
            return refuse_signature(e);
        sig = converted;
        sig_len = (size_t)n;
    }
    if (digest(k, msg, len, hash, &hash_len, e) < 0)
        return -1;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_dup(k->verify);
    if (!ctx)
        return crypto_failed(e, "cannot verify");
    int ok = EVP_PKEY_verify(ctx, sig, sig_len, hash, hash_len);
    EVP_PKEY_CTX_free(ctx);
    return ok == 1 ? 0 : refuse_signature(e);
}

static long sign_ed25519(const struct key *k, uint8_t *sig, size_t cap, const void *msg, size_t len)
{
    size_t n = cap;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = ctx && EVP_DigestSignInit(ctx, NULL, NULL, NULL, k->pkey) == 1 &&
              EVP_DigestSign(ctx, sig, &n, len ? msg : (const void *)"", len) == 1;
    EVP_MD_CTX_free(ctx);
    return ok ? (long)n : -1;
}

static long sign_digest(const struct key *k, uint8_t *sig, size_t cap, const uint8_t *hash, size_t len)
{
    size_t n = cap;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, k->pkey, NULL);
    bool ok = ctx && EVP_PKEY_sign_init(ctx) == 1 &&
              (k->type != KEY_RSA || (EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PADDING) == 1 &&
                                      EVP_PKEY_CTX_set_signature_md(ctx, parts.sha256) == 1)) &&
              EVP_PKEY_sign(ctx, sig, &n, hash, len) == 1;
    EVP_PKEY_CTX_free(ctx);
    return ok ? (long)n : -1;
}

/* The private half is elsewhere. */
static long sign_elsewhere(const struct key *k, bool der, uint8_t *sig, size_t cap, const uint8_t *hash, size_t len,
                           struct err *e)
{
    uint8_t rs[2 * EC_WIDTH_MAX];
    size_t width = ec_width(k);
    if (k->signer(k->signer_arg, hash, len, rs, 2 * width, e) < 0)
        return -1;
    long n = der ? der_ecdsa_from_rs(sig, cap, rs, width) : (long)(2 * width);
    if (n < 0 || (size_t)n > cap)
        return err_set(e, ERR_INTERNAL, "key-sign", "no room for a signature");
    if (!der)
        memcpy(sig, rs, 2 * width);
    return n;
}

long key_sign(const struct key *k, bool der, uint8_t *sig, size_t cap, const void *msg, size_t len,
              struct err *e)
{
    uint8_t hash[EVP_MAX_MD_SIZE], made[RSA_MAX_BITS / 8];
    unsigned hash_len;
    size_t width = ec_width(k);
    long n;
    if (k->type == KEY_ED25519) {
        n = sign_ed25519(k, made, sizeof made, msg, len);
    } else {
        if (digest(k, msg, len, hash, &hash_len, e) < 0)
            return -1;
        if (k->signer)
            return sign_elsewhere(k, der, sig, cap, hash, hash_len, e);
        n = sign_digest(k, made, sizeof made, hash, hash_len);
    }
    if (n < 0)
        return crypto_failed(e, "cannot sign (is the private half there?)");
    size_t need = width && !der ? 2 * width : (size_t)n;
    if (need > cap)
        return err_set(e, ERR_INTERNAL, "key-sign", "signature of %zu bytes, room for %zu", need, cap);
    if (width && !der) {
        if (der_ecdsa_to_rs(sig, width, made, (size_t)n) < 0)
            return err_set(e, ERR_INTERNAL, "key-sign", "OpenSSL made a signature that is not DER");
    } else {
        memcpy(sig, made, need);
    }
    return (long)need;
}

/* ---- private keys at rest (RFC 5958 in PEM) ---- */

int key_to_pkcs8_pem(const struct key *k, struct buf *out, struct err *e)
{
    char *text;
    BIO *bio = BIO_new(BIO_s_secmem()); /* wiped when freed */
    if (!bio || PEM_write_bio_PKCS8PrivateKey(bio, k->pkey, NULL, NULL, 0, NULL, NULL) != 1) {
        BIO_free(bio);
        return crypto_failed(e, "cannot write the private key (is it there?)");
    }
    long n = BIO_get_mem_data(bio, &text);
    buf_put(out, text, (size_t)n);
    BIO_free(bio);
    if (out->failed)
        return err_set(e, ERR_INTERNAL, "memory", "no room for a private key");
    return 0;
}

/* Encrypted keys are refused: never asks a terminal. */
static int no_password(char *dst, int size, int writing, void *arg)
{
    return -1;
}

struct key *key_from_pkcs8_pem(const char *pem, size_t len, struct err *e)
{
    static const char head[] = "-----BEGIN PRIVATE KEY-----";
    if (len > PEM_MAX || len < sizeof head - 1 || memcmp(pem, head, sizeof head - 1) != 0) {
        err_set(e, ERR_BAD_KEY, "key-pem", "private key must be unencrypted PKCS#8 PEM (\"%s\")", head);
        return NULL;
    }
    BIO *bio = BIO_new_mem_buf(pem, (int)len);
    PKCS8_PRIV_KEY_INFO *info =
        bio ? PEM_read_bio_PKCS8_PRIV_KEY_INFO(bio, NULL, no_password, NULL) : NULL;
    EVP_PKEY *pkey = info ? EVP_PKCS82PKEY(info) : NULL;
    EVP_PKEY_CTX *ctx = pkey ? EVP_PKEY_CTX_new_from_pkey(NULL, pkey, NULL) : NULL;
    struct key *k = NULL;
    /* The public half stands in the file too, and could be another's. */
    if (ctx && EVP_PKEY_pairwise_check(ctx) == 1)
        k = key_from_evp(pkey, e);
    else
        err_set(e, ERR_BAD_KEY, "key-pem", "private key is damaged, or its halves do not match");
    ERR_clear_error();
    EVP_PKEY_CTX_free(ctx);
    EVP_PKEY_free(pkey);
    PKCS8_PRIV_KEY_INFO_free(info);
    BIO_free(bio);
    return k;
}
