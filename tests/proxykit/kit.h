/* An authority for the proxy's tests and benches: a P-384 root, a P-256 issuing certificate that names a log, leaves with
 * or without a proof, CRLs. Made by OpenSSL, not by the product's certificate writer: two hands, one format. Whatever
 * fails here ends the program. */
#ifndef TESTS_PROXYKIT_H
#define TESTS_PROXYKIT_H
#include "tlog/proof.h"
#include "workload/workload.h"
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

struct kit_authority { /* its certificates' extensions in OpenSSL's words; NULL: none, or as they should be */
    const char *root_names;              /* name constraints of the root */
    const char *names, *policy;          /* name and policy constraints of the issuing certificate */
    const char *san, *usage;             /* of the issuing certificate */
};
struct kit {
    struct kit_authority as;
    char td[64];
    EVP_PKEY *root_key, *issuing_key, *log_key;
    X509 *root, *issuing;
    struct tlog_vkey log;
    uint64_t serial;
};
struct kit_leaf { /* how it is to be; 0 and NULL: a good one */
    const char *id;            /* the URI name */
    const char *san;           /* instead of id: whole extension in OpenSSL's words */
    int64_t from, until;       /* seconds from now; 0, 0: -60, 3600 */
    bool unlogged;
    bool bad_proof;            /* of another log */
    bool ca;
    const char *usage, *eku, *crl, *cn;
    uint64_t serial;
};
struct kit_id {
    X509 *leaf;
    EVP_PKEY *key;
};
void kit_new(struct kit *k, const char *td);
void kit_new_as(struct kit *k, const char *td, const struct kit_authority *as);
void kit_issuing(struct kit *k); /* another issuing certificate: key rotation */
void kit_free(struct kit *k);
void kit_make(struct kit_id *i, struct kit *k, const struct kit_leaf *l);
void kit_id_free(struct kit_id *i);
/* DER CRL of these serials; url NULL: without distribution point. until: seconds from now. */
void kit_crl(struct buf *out, struct kit *k, const char *url, const uint64_t *serials, size_t n, int64_t until);
struct wl_svid *kit_svid(struct kit *k, const struct kit_id *i);
struct wl_bundles *kit_bundles(struct kit *const *kits, size_t n, const struct buf *crls, size_t crls_n);
struct wl_state *kit_state(struct kit *k, const struct kit_id *i);
/* svid.pem, svid.key, bundle.pem in dir, each renamed into place. */
void kit_write(struct kit *k, const struct kit_id *i, const char *dir);
SSL_CTX *kit_ctx(struct kit *k, const struct kit_id *i); /* for the other end, either role; verifies against the root */
#endif
