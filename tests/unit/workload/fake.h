/* What a provider hands out, made up here: an authority of one's own with OpenSSL, in memory. For the unit
 * tests and for integration/workload_fake.c. Ends the program when something fails: then the test says
 * nothing.
 */
#ifndef UNIT_WORKLOAD_FAKE_H
#define UNIT_WORKLOAD_FAKE_H
#include "workload/workload.h"
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define FAKE_CHECK(x)                                                                              \
    do {                                                                                           \
        if (!(x)) {                                                                                \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x);                                \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

struct fake_ca {
    EVP_PKEY *key;
    X509 *cert;
};

static void fake_extension(X509 *x, int nid, const char *value)
{
    X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
    FAKE_CHECK(ext && X509_add_ext(x, ext, -1) == 1);
    X509_EXTENSION_free(ext);
}

static X509 *fake_cert(EVP_PKEY *key, const struct fake_ca *by, const char *uri, bool ca, long serial)
{
    X509 *x = X509_new();
    char san[2200];
    FAKE_CHECK(x && X509_set_version(x, 2) == 1 && ASN1_INTEGER_set(X509_get_serialNumber(x), serial) == 1);
    FAKE_CHECK(X509_gmtime_adj(X509_getm_notBefore(x), -60) && X509_gmtime_adj(X509_getm_notAfter(x), 3600));
    FAKE_CHECK(X509_set_pubkey(x, key) == 1);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "O", MBSTRING_ASC, (const unsigned char *)"fake", -1,
                               -1, 0);
    X509_set_issuer_name(x, by ? X509_get_subject_name(by->cert) : X509_get_subject_name(x));
    snprintf(san, sizeof san, "URI:%s", uri);
    fake_extension(x, NID_basic_constraints, ca ? "critical,CA:TRUE" : "critical,CA:FALSE");
    fake_extension(x, NID_key_usage, ca ? "critical,keyCertSign,cRLSign" : "critical,digitalSignature");
    fake_extension(x, NID_subject_alt_name, san);
    FAKE_CHECK(X509_sign(x, by ? by->key : key, EVP_sha256()) > 0);
    return x;
}

static struct fake_ca fake_ca_new(const char *uri, long serial)
{
    struct fake_ca ca = {.key = EVP_EC_gen("P-256")};
    FAKE_CHECK(ca.key);
    ca.cert = fake_cert(ca.key, NULL, uri, true, serial);
    return ca;
}

static void fake_ca_free(struct fake_ca *ca)
{
    EVP_PKEY_free(ca->key);
    X509_free(ca->cert);
}

static void fake_put_cert(struct buf *b, X509 *x)
{
    uint8_t *der = NULL;
    int n = i2d_X509(x, &der);
    FAKE_CHECK(n > 0);
    buf_put(b, der, (size_t)n);
    FAKE_CHECK(!b->failed);
    OPENSSL_free(der);
}

static struct wl_svid *fake_svid(const struct fake_ca *ca, const char *id, const char *hint, long serial)
{
    struct wl_svid *s = calloc(1, sizeof *s);
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x = fake_cert(key, ca, id, false, serial);
    struct buf chain;
    struct err e;
    buf_init(&chain, 65536);
    fake_put_cert(&chain, x);
    s->refs = 1;
    s->spiffe_id = strdup(id);
    s->hint = strdup(hint);
    s->chain = malloc(chain.len);
    memcpy(s->chain, chain.p, chain.len);
    s->chain_len = chain.len;
    s->not_before = time(NULL) - 60;
    s->not_after = time(NULL) + 3600;
    PKCS8_PRIV_KEY_INFO *p8 = EVP_PKEY2PKCS8(key);
    uint8_t *der = NULL;
    int n = i2d_PKCS8_PRIV_KEY_INFO(p8, &der);
    FAKE_CHECK(n > 0 && secret_new(&s->key, (size_t)n, &e) == 0);
    memcpy(s->key.p, der, (size_t)n);
    s->key.len = (size_t)n;
    OPENSSL_clear_free(der, (size_t)n);
    PKCS8_PRIV_KEY_INFO_free(p8);
    EVP_PKEY_free(key);
    X509_free(x);
    buf_free(&chain);
    return s;
}

/* Ours (from ca), then a federated one for each further name. jwks: of ours. */
static struct wl_bundles *fake_bundles(const struct fake_ca *ca, const char *td, const char *jwks,
                                       const struct fake_ca *other, const char *other_td)
{
    struct wl_bundles *b = calloc(1, sizeof *b);
    b->refs = 1;
    b->n = other ? 2 : 1;
    b->list = calloc(b->n, sizeof *b->list);
    for (size_t i = 0; i < b->n; i++) {
        b->list[i].trust_domain = strdup(i ? other_td : td);
        buf_init(&b->list[i].x509, 65536);
        buf_init(&b->list[i].jwks, 65536);
        fake_put_cert(&b->list[i].x509, i ? other->cert : ca->cert);
        buf_str(&b->list[i].jwks, i ? "{\"keys\":[]}" : jwks);
    }
    b->crls_count = 1;
    b->crls = calloc(1, sizeof *b->crls);
    buf_init(&b->crls[0], 64);
    buf_put(&b->crls[0], "\x30\x03\x02\x01\x05", 5);
    return b;
}

/* Takes the references. */
static struct wl_state *fake_state(struct wl_svid **svids, size_t n, struct wl_bundles *b)
{
    struct wl_state *s = calloc(1, sizeof *s);
    s->refs = 1;
    s->svids = calloc(n + 1, sizeof *s->svids);
    for (size_t i = 0; i < n; i++)
        s->svids[i] = svids[i];
    s->n = n;
    s->bundles = b;
    return s;
}

#endif
