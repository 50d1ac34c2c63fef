/* A certificate authority that lives in a test driver's process: root, issuing, leaves with a SPIFFE ID, shaped as
 * Mayfly's are (CAs with a name, leaves with none and a critical subject alternative name). */
#ifndef TESTS_INTEGRATION_ISSUER_H
#define TESTS_INTEGRATION_ISSUER_H
#include "base/bytes.h"
#include "base/err.h"
#include "base/secmem.h"
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct issuer {
    EVP_PKEY *key;
    X509 *cert;
};

static inline void die(const char *what)
{
    fprintf(stderr, "driver: %s\n", what);
    exit(1);
}

static inline void extend(X509 *x, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, issuer, x, NULL, NULL, 0);
    X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    if (!ext || X509_add_ext(x, ext, -1) != 1)
        die(value);
    X509_EXTENSION_free(ext);
}

static inline X509 *certify(EVP_PKEY *key, const struct issuer *by, const char *name, const char *san, int seconds)
{
    uint8_t number[12];
    X509 *x = X509_new();
    X509 *issuer = by ? by->cert : x;
    RAND_bytes(number, sizeof number);
    number[0] = (number[0] & 0x7f) | 0x40;
    BIGNUM *bn = BN_bin2bn(number, sizeof number, NULL);
    BN_to_ASN1_INTEGER(bn, X509_get_serialNumber(x));
    BN_free(bn);
    X509_set_version(x, X509_VERSION_3);
    X509_gmtime_adj(X509_getm_notBefore(x), -10);
    X509_gmtime_adj(X509_getm_notAfter(x), seconds);
    X509_set_pubkey(x, key);
    if (name)
        X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC, (const uint8_t *)name, -1, -1, 0);
    X509_set_issuer_name(x, X509_get_subject_name(issuer));
    extend(x, issuer, NID_basic_constraints, name ? "critical,CA:TRUE" : "critical,CA:FALSE");
    extend(x, issuer, NID_key_usage, name ? "critical,keyCertSign,cRLSign" : "critical,digitalSignature");
    extend(x, issuer, NID_subject_key_identifier, "hash");
    extend(x, issuer, NID_authority_key_identifier, "keyid:always");
    if (!name) {
        extend(x, issuer, NID_ext_key_usage, "serverAuth,clientAuth");
        extend(x, issuer, NID_subject_alt_name, san);
    }
    if (X509_sign(x, by ? by->key : key, EVP_sha256()) <= 0)
        die("cannot sign");
    return x;
}

static inline void add_der(struct buf *out, X509 *x)
{
    uint8_t *der = NULL;
    int n = i2d_X509(x, &der);
    if (n <= 0)
        die("cannot write a certificate");
    buf_put(out, der, (size_t)n);
    OPENSSL_free(der);
}

struct authority {
    struct issuer root, issuing;
    struct buf roots; /* DER, one after the other */
};

static inline void authority_make(struct authority *a)
{
    a->root.key = EVP_EC_gen("P-256");
    a->root.cert = certify(a->root.key, NULL, "driver root", NULL, 86400);
    a->issuing.key = EVP_EC_gen("P-256");
    a->issuing.cert = certify(a->issuing.key, &a->root, "driver issuing", NULL, 86400);
    buf_init(&a->roots, 65536);
    add_der(&a->roots, a->root.cert);
}

/* One more root in the bundle. */
static inline void authority_next_root(struct authority *a)
{
    X509 *next = certify(a->root.key, NULL, "driver's next root", NULL, 86400);
    add_der(&a->roots, next);
    X509_free(next);
}

struct issued {
    struct buf chain;  /* DER */
    struct secret key; /* PKCS#8 */
    char serial[64];
};

static inline void issue(struct issued *i, const struct authority *a, const char *id)
{
    char san[256];
    struct err e;
    uint8_t *der = NULL;
    snprintf(san, sizeof san, "critical,URI:%s,DNS:localhost", id);
    EVP_PKEY *pkey = EVP_EC_gen("P-256");
    X509 *x = certify(pkey, &a->issuing, NULL, san, 3600);
    buf_init(&i->chain, 65536);
    add_der(&i->chain, x);
    add_der(&i->chain, a->issuing.cert);
    PKCS8_PRIV_KEY_INFO *p8 = EVP_PKEY2PKCS8(pkey);
    int n = i2d_PKCS8_PRIV_KEY_INFO(p8, &der);
    if (n <= 0 || secret_new(&i->key, (size_t)n, &e) < 0)
        die("no key");
    memcpy(i->key.p, der, (size_t)n);
    i->key.len = (size_t)n;
    BIGNUM *bn = ASN1_INTEGER_to_BN(X509_get0_serialNumber(x), NULL);
    char *hex = BN_bn2hex(bn);
    snprintf(i->serial, sizeof i->serial, "%s", hex);
    OPENSSL_free(hex);
    BN_free(bn);
    OPENSSL_clear_free(der, (size_t)n);
    PKCS8_PRIV_KEY_INFO_free(p8);
    EVP_PKEY_free(pkey);
    X509_free(x);
}

#endif
