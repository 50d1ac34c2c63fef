/* A small authority for the agent's tests: certificates made by OpenSSL, log proofs made with
 * tlog/. Not the product's own certificate writer on purpose: two hands, one format. */
#ifndef UNIT_AGENT_PKI_H
#define UNIT_AGENT_PKI_H
#include "agent/internal.h"
#include "base/oid.h"
#include <openssl/evp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h> /* needs the ones above */

#define PKI_ID "spiffe://example.org/web"
#define PKI_NOW 1900000000
#define PKI_LOG_NUMBER 7

struct pki_spec { /* of one certificate; NULL or 0: left out */
    EVP_PKEY *key;
    X509 *issuer; /* NULL: self-signed */
    EVP_PKEY *issuer_key;
    const char *cn, *basic, *usage, *eku, *san, *constraints;
    const char *crl;     /* its distribution point, as OpenSSL's configuration has it */
    const char *binding; /* vkey text */
    struct bytes proof;
    uint64_t serial;
    int64_t not_before, not_after;
};

static inline EVP_PKEY *pki_key(void)
{
    EVP_PKEY *k = EVP_EC_gen("P-256");
    assert_non_null(k);
    return k;
}

static inline void pki_ext(X509 *x, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    if (!value)
        return;
    X509V3_set_ctx(&ctx, issuer ? issuer : x, x, NULL, NULL, 0);
    X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    assert_non_null(ext);
    assert_int_equal(X509_add_ext(x, ext, -1), 1);
    X509_EXTENSION_free(ext);
}

static inline void pki_raw_ext(X509 *x, const char *oid, size_t oid_len, const void *p, size_t n)
{
    uint8_t der[64] = {0x06, (uint8_t)oid_len};
    const uint8_t *at = der;
    memcpy(der + 2, oid, oid_len);
    ASN1_OBJECT *object = d2i_ASN1_OBJECT(NULL, &at, (long)oid_len + 2);
    ASN1_OCTET_STRING *value = ASN1_OCTET_STRING_new();
    assert_non_null(object);
    ASN1_OCTET_STRING_set(value, p, (int)n);
    X509_EXTENSION *ext = X509_EXTENSION_create_by_OBJ(NULL, object, 0, value);
    assert_int_equal(X509_add_ext(x, ext, -1), 1);
    X509_EXTENSION_free(ext);
    ASN1_OCTET_STRING_free(value);
    ASN1_OBJECT_free(object);
}

static inline void pki_binding(X509 *x, const char *vkey)
{
    uint8_t der[512] = {0x0c, 0x81, 0};
    size_t n = strlen(vkey), head = n < 128 ? 2 : 3;
    der[head - 1] = (uint8_t)n;
    memcpy(der + head, vkey, n);
    pki_raw_ext(x, OID_LOG_BINDING, OID_LEN(OID_LOG_BINDING), der, head + n);
}

static inline X509 *pki_cert(const struct pki_spec *s)
{
    X509 *x = X509_new();
    X509_NAME *name = X509_NAME_new();
    X509_set_version(x, X509_VERSION_3);
    ASN1_INTEGER_set_uint64(X509_get_serialNumber(x), s->serial ? s->serial : 1);
    ASN1_TIME_set(X509_getm_notBefore(x), (time_t)(s->not_before ? s->not_before : PKI_NOW - 60));
    ASN1_TIME_set(X509_getm_notAfter(x), (time_t)(s->not_after ? s->not_after : PKI_NOW + 240));
    if (s->cn)
        X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)s->cn, -1, -1,
                                   0);
    X509_set_subject_name(x, name);
    X509_set_issuer_name(x, s->issuer ? X509_get_subject_name(s->issuer) : name);
    X509_set_pubkey(x, s->key);
    pki_ext(x, s->issuer, NID_basic_constraints, s->basic);
    pki_ext(x, s->issuer, NID_key_usage, s->usage);
    pki_ext(x, s->issuer, NID_ext_key_usage, s->eku);
    pki_ext(x, s->issuer, NID_subject_key_identifier, "hash");
    pki_ext(x, s->issuer, NID_authority_key_identifier, s->issuer ? "keyid" : NULL);
    pki_ext(x, s->issuer, NID_subject_alt_name, s->san);
    pki_ext(x, s->issuer, NID_name_constraints, s->constraints);
    pki_ext(x, s->issuer, NID_crl_distribution_points, s->crl);
    if (s->binding)
        pki_binding(x, s->binding);
    if (s->proof.len)
        pki_raw_ext(x, OID_STAPLED_PROOF, OID_LEN(OID_STAPLED_PROOF), s->proof.p, s->proof.len);
    assert_true(X509_sign(x, s->issuer_key ? s->issuer_key : s->key, EVP_sha256()) > 0);
    X509_NAME_free(name);
    return x;
}

/* --- a log of four entries, in which the leaf is number 2 ---------------------------------------- */

struct pki_log {
    EVP_PKEY *key;
    struct tlog_vkey vkey;
    struct buf text; /* of the vkey */
};

static inline void pki_log_new(struct pki_log *l, const char *origin)
{
    struct err e;
    uint8_t pub[32];
    size_t n = sizeof pub;
    l->key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    assert_int_equal(EVP_PKEY_get_raw_public_key(l->key, pub, &n), 1);
    assert_int_equal(tlog_vkey_make(&l->vkey, origin, pub, &e), 0);
    buf_init(&l->text, 1024);
    tlog_vkey_write(&l->vkey, &l->text);
    assert_non_null(buf_cstr(&l->text));
}

static inline void pki_log_free(struct pki_log *l)
{
    EVP_PKEY_free(l->key);
    tlog_vkey_free(&l->vkey);
    buf_free(&l->text);
}

static inline void pki_note(struct pki_log *l, const struct tlog_hash *root, struct buf *note)
{
    struct tlog_checkpoint c = {.size = 4, .root = *root};
    struct buf body;
    uint8_t sig[64];
    size_t n = sizeof sig;
    snprintf(c.origin, sizeof c.origin, "%s", l->vkey.name);
    buf_init(&body, 4096);
    tlog_checkpoint_body(&c, &body);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    assert_int_equal(EVP_DigestSignInit(ctx, NULL, NULL, NULL, l->key), 1);
    assert_int_equal(EVP_DigestSign(ctx, sig, &n, body.p, body.len), 1);
    EVP_MD_CTX_free(ctx);
    tlog_checkpoint_note(&c, &l->vkey, sig, note);
    buf_free(&body);
}

#define PKI_INDEX 2
/* The stapled proof for the certificate of this spec, appended to out. */
static inline void pki_prove(struct pki_log *l, const struct pki_spec *spec, struct buf *out)
{
    struct err e;
    struct buf der, body, entry, note;
    struct tlog_cert_fields fields;
    struct bytes stapled;
    struct tlog_hash leaves[4], root, path[TLOG_LEVELS];
    X509 *x = pki_cert(spec);
    buf_init(&der, 65536);
    buf_init(&body, 65536);
    buf_init(&entry, 65536);
    buf_init(&note, 65536);
    assert_int_equal(x509_to_der(&der, x, &e), 0);
    assert_int_equal(tlog_cert_body(&body, &fields, &stapled, der.p, der.len, &e), 0);
    struct tlog_entry t = {.type = TLOG_ENTRY_TBS_CERT, .body = {body.p, body.len}};
    tlog_entry_write(&t, &entry);
    for (int i = 0; i < 4; i++)
        merkle_leaf(&leaves[i], &i, sizeof i);
    merkle_leaf(&leaves[PKI_INDEX], entry.p, entry.len);
    struct merkle_frontier f = {0};
    struct merkle_batch *b = merkle_batch_new(4);
    merkle_batch_append(b, &f, leaves, 4);
    merkle_frontier_root(&f, &root);
    size_t n = merkle_batch_proof(b, PKI_INDEX, path);
    pki_note(l, &root, &note);
    tlog_proof_write(out, (struct bytes){NULL, 0}, PKI_INDEX, path, n, note.p, note.len);
    assert_false(out->failed);
    merkle_batch_free(b);
    buf_free(&der);
    buf_free(&body);
    buf_free(&entry);
    buf_free(&note);
    X509_free(x);
}

/* --- a whole authority --------------------------------------------------------------------------- */

struct pki {
    EVP_PKEY *root_key, *issuing_key;
    X509 *root, *issuing;
    struct pki_log log;
};

static inline struct pki_spec pki_root_spec(EVP_PKEY *key, const char *cn)
{
    return (struct pki_spec){.key = key,
                             .cn = cn,
                             .basic = "critical,CA:TRUE",
                             .usage = "critical,keyCertSign,cRLSign",
                             .not_before = 1,
                             .not_after = PKI_NOW + 100000000};
}

static inline struct pki_spec pki_issuing_spec(struct pki *p)
{
    return (struct pki_spec){.key = p->issuing_key,
                             .issuer = p->root,
                             .issuer_key = p->root_key,
                             .cn = "issuing",
                             .serial = 2,
                             .basic = "critical,CA:TRUE,pathlen:0",
                             .usage = "critical,keyCertSign,cRLSign",
                             .san = "URI:spiffe://example.org",
                             .binding = (const char *)p->log.text.p,
                             .not_before = 1,
                             .not_after = PKI_NOW + 90000000};
}

static inline struct pki_spec pki_leaf_spec(struct pki *p, EVP_PKEY *key)
{
    return (struct pki_spec){.key = key,
                             .issuer = p->issuing,
                             .issuer_key = p->issuing_key,
                             .serial = ((uint64_t)PKI_LOG_NUMBER << 48) | PKI_INDEX,
                             .basic = "critical,CA:FALSE",
                             .usage = "critical,digitalSignature",
                             .eku = "serverAuth,clientAuth",
                             .san = "critical,URI:" PKI_ID ",DNS:web.example.org"};
}

static inline void pki_new(struct pki *p)
{
    pki_log_new(&p->log, "example.org/log1");
    p->root_key = pki_key();
    p->issuing_key = pki_key();
    struct pki_spec root = pki_root_spec(p->root_key, "root");
    p->root = pki_cert(&root);
    struct pki_spec issuing = pki_issuing_spec(p);
    p->issuing = pki_cert(&issuing);
}

static inline void pki_free(struct pki *p)
{
    EVP_PKEY_free(p->root_key);
    EVP_PKEY_free(p->issuing_key);
    X509_free(p->root);
    X509_free(p->issuing);
    pki_log_free(&p->log);
}

static inline void pki_trust(struct agent_trust *t, X509 *root)
{
    struct err e;
    memset(t, 0, sizeof *t);
    buf_init(&t->roots_pem, BUNDLE_MAX);
    assert_int_equal(x509_to_pem(&t->roots_pem, root, &e), 0);
}

/* Leaf (with proof, unless the spec has one already or log is NULL) and issuing certificate. */
static inline void pki_identity(struct acme_identity *i, struct pki_spec spec, struct pki_log *log,
                                X509 *issuing)
{
    struct err e;
    struct buf proof;
    buf_init(&proof, 65536);
    if (log && !spec.proof.len) {
        pki_prove(log, &spec, &proof);
        spec.proof = (struct bytes){proof.p, proof.len};
    }
    X509 *leaf = pki_cert(&spec);
    memset(i, 0, sizeof *i);
    i->key = key_from_evp(spec.key, &e);
    assert_non_null(i->key);
    buf_init(&i->chain_pem, 65536);
    assert_int_equal(x509_to_pem(&i->chain_pem, leaf, &e), 0);
    if (issuing)
        assert_int_equal(x509_to_pem(&i->chain_pem, issuing, &e), 0);
    X509_free(leaf);
    buf_free(&proof);
}

#define assert_refused(call, want_code, want_rule)                                                 \
    do {                                                                                           \
        memset(&e, 0, sizeof e);                                                                   \
        assert_int_equal((call), -1);                                                              \
        if (strcmp(e.rule, want_rule) != 0 || e.code != (want_code))                               \
            print_error("[%s] %s\n", e.rule, e.msg);                                               \
        assert_string_equal(e.rule, want_rule);                                                    \
        assert_int_equal(e.code, want_code);                                                       \
        assert_true(strlen(e.msg) > 10);                                                           \
    } while (0)
#define assert_done(call)                                                                          \
    do {                                                                                           \
        memset(&e, 0, sizeof e);                                                                   \
        if ((call) != 0) {                                                                         \
            print_error("[%s] %s\n", e.rule, e.msg);                                               \
            fail();                                                                                \
        }                                                                                          \
    } while (0)

#endif
