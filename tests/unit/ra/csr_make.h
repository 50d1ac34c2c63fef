/* Certificate requests for tests, good and bad, made with OpenSSL. */
#ifndef TESTS_RA_CSR_MAKE_H
#define TESTS_RA_CSR_MAKE_H
#include "base/bytes.h"
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

struct csr_spec {
    const char *san;            /* as OpenSSL's configuration writes it; NULL: no extension */
    const char *cn, *basic, *usage, *eku;
    const char *raw_critical;   /* OID of an extension nobody knows, critical */
    const EVP_MD *md;           /* NULL: SHA-256; for Ed25519 always none */
    EVP_PKEY *signer;           /* NULL: the key itself */
};

static inline void csr_ext(STACK_OF(X509_EXTENSION) *list, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, NULL, NULL, NULL, NULL, 0);
    X509_EXTENSION *ext = value ? X509V3_EXT_conf_nid(NULL, &ctx, nid, value) : NULL;
    if (value && (!ext || sk_X509_EXTENSION_push(list, ext) <= 0))
        abort();
}

static inline size_t csr_build(uint8_t *out, size_t cap, EVP_PKEY *key, const struct csr_spec *s)
{
    X509_REQ *req = X509_REQ_new();
    STACK_OF(X509_EXTENSION) *list = sk_X509_EXTENSION_new_null();
    X509_REQ_set_version(req, 0);
    if (s->cn)
        X509_NAME_add_entry_by_txt(X509_REQ_get_subject_name(req), "CN", MBSTRING_ASC, (const unsigned char *)s->cn, -1, -1, 0);
    X509_REQ_set_pubkey(req, key);
    csr_ext(list, NID_subject_alt_name, s->san);
    csr_ext(list, NID_basic_constraints, s->basic);
    csr_ext(list, NID_key_usage, s->usage);
    csr_ext(list, NID_ext_key_usage, s->eku);
    if (s->raw_critical) {
        ASN1_OCTET_STRING *v = ASN1_OCTET_STRING_new();
        ASN1_OCTET_STRING_set(v, (const unsigned char *)"\x05\x00", 2);
        ASN1_OBJECT *oid = OBJ_txt2obj(s->raw_critical, 1);
        sk_X509_EXTENSION_push(list, X509_EXTENSION_create_by_OBJ(NULL, oid, 1, v));
        ASN1_OBJECT_free(oid);
        ASN1_OCTET_STRING_free(v);
    }
    if (sk_X509_EXTENSION_num(list) > 0)
        X509_REQ_add_extensions(req, list);
    EVP_PKEY *by = s->signer ? s->signer : key;
    const EVP_MD *md = EVP_PKEY_get_base_id(by) == EVP_PKEY_ED25519 ? NULL : s->md ? s->md : EVP_sha256();
    if (X509_REQ_sign(req, by, md) <= 0)
        abort();
    unsigned char *der = NULL;
    int n = i2d_X509_REQ(req, &der);
    if (n <= 0 || (size_t)n > cap)
        abort();
    memcpy(out, der, (size_t)n);
    OPENSSL_free(der);
    sk_X509_EXTENSION_pop_free(list, X509_EXTENSION_free);
    X509_REQ_free(req);
    return (size_t)n;
}

#endif
