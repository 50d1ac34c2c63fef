/* Certificates for tests, made with OpenSSL: a root, an issuing certificate and leaves, each with
 * the one thing wrong that a test asks for. */
#ifndef TESTS_ATTEST_PKI_H
#define TESTS_ATTEST_PKI_H
#include "attest/attest.h"
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PKI_NOW INT64_C(1800000000)
static int64_t pki_now = PKI_NOW; /* a test that lives in the present sets it */

struct pki_leaf {
    const char *san;        /* as OpenSSL's configuration writes it; NULL: none */
    const char *usage, *eku, *basic; /* NULL: none */
    int64_t not_before, not_after;
    uint64_t serial;        /* 0: the next one */
};
struct pki {
    struct key *root_key, *issuing_key;
    X509 *root, *issuing;
    struct buf root_der, issuing_der;
};

static inline void pki_ext(X509 *x, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, issuer, x, NULL, NULL, 0);
    X509_EXTENSION *ext = value ? X509V3_EXT_conf_nid(NULL, &ctx, nid, value) : NULL;
    if (value && (!ext || X509_add_ext(x, ext, -1) != 1))
        abort();
    X509_EXTENSION_free(ext);
}

static inline X509 *pki_make(const char *cn, const struct key *k, X509 *issuer, const struct key *by,
                             const struct pki_leaf *p)
{
    static long serial = 1;
    X509 *x = X509_new();
    X509_NAME *name = X509_NAME_new();
    if (cn)
        X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)cn, -1, -1, 0);
    X509_set_version(x, 2);
    ASN1_INTEGER_set_uint64(X509_get_serialNumber(x), p->serial ? p->serial : (uint64_t)serial++);
    X509_set_subject_name(x, name);
    X509_set_issuer_name(x, issuer ? X509_get_subject_name(issuer) : name);
    ASN1_TIME_set(X509_getm_notBefore(x), (time_t)p->not_before);
    ASN1_TIME_set(X509_getm_notAfter(x), (time_t)p->not_after);
    X509_set_pubkey(x, key_evp(k));
    pki_ext(x, issuer ? issuer : x, NID_basic_constraints, p->basic);
    pki_ext(x, issuer ? issuer : x, NID_key_usage, p->usage);
    pki_ext(x, issuer ? issuer : x, NID_ext_key_usage, p->eku);
    pki_ext(x, issuer ? issuer : x, NID_subject_alt_name, p->san);
    if (X509_sign(x, key_evp(by), EVP_sha256()) == 0)
        abort();
    X509_NAME_free(name);
    return x;
}

static inline void pki_der(struct buf *out, X509 *x)
{
    unsigned char *der = NULL;
    int n = i2d_X509(x, &der);
    buf_init(out, 65536);
    buf_put(out, der, (size_t)n);
    OPENSSL_free(der);
}

static inline void pki_new(struct pki *p, const char *name)
{
    struct err e = {0};
    struct pki_leaf ca = {.usage = "critical,keyCertSign,cRLSign", .basic = "critical,CA:TRUE",
                          .not_before = pki_now - 864000, .not_after = pki_now + 864000000};
    p->root_key = key_generate(KEY_P384, &e);
    p->issuing_key = key_generate(KEY_P256, &e);
    p->root = pki_make(name, p->root_key, NULL, p->root_key, &ca);
    p->issuing = pki_make("issuing", p->issuing_key, p->root, p->root_key, &ca);
    pki_der(&p->root_der, p->root);
    pki_der(&p->issuing_der, p->issuing);
}

static inline struct pki_leaf pki_svid(const char *san)
{
    return (struct pki_leaf){.san = san, .usage = "critical,digitalSignature", .eku = "serverAuth,clientAuth",
                             .basic = "critical,CA:FALSE", .not_before = pki_now - 10, .not_after = pki_now + 300};
}

static inline void pki_leaf_der(struct buf *out, const struct pki *p, const struct key *k, const struct pki_leaf *l)
{
    X509 *x = pki_make(NULL, k, p->issuing, p->issuing_key, l);
    pki_der(out, x);
    X509_free(x);
}

static inline void pki_free(struct pki *p)
{
    key_free(p->root_key);
    key_free(p->issuing_key);
    X509_free(p->root);
    X509_free(p->issuing);
    buf_free(&p->root_der);
    buf_free(&p->issuing_der);
}

#endif
