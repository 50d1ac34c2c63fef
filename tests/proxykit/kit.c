#include "tests/proxykit/kit.h"
#include "base/fileio.h"
#include "base/oid.h"
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

static void need(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "proxykit: %s\n", what);
    abort();
}
#define NEED(x) need(x, #x)

static void ext(X509 *x, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    if (!value)
        return;
    X509V3_set_ctx(&ctx, issuer ? issuer : x, x, NULL, NULL, 0);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    NEED(e && X509_add_ext(x, e, -1) == 1);
    X509_EXTENSION_free(e);
}

static void raw_ext(X509 *x, const char *oid, size_t oid_len, const void *p, size_t n)
{
    uint8_t der[64] = {0x06, (uint8_t)oid_len};
    const uint8_t *at = der;
    memcpy(der + 2, oid, oid_len);
    ASN1_OBJECT *object = d2i_ASN1_OBJECT(NULL, &at, (long)oid_len + 2);
    ASN1_OCTET_STRING *value = ASN1_OCTET_STRING_new();
    NEED(object && value && ASN1_OCTET_STRING_set(value, p, (int)n) == 1);
    X509_EXTENSION *e = X509_EXTENSION_create_by_OBJ(NULL, object, 0, value);
    NEED(e && X509_add_ext(x, e, -1) == 1);
    X509_EXTENSION_free(e);
    ASN1_OCTET_STRING_free(value);
    ASN1_OBJECT_free(object);
}

static void binding(X509 *x, const struct tlog_vkey *log)
{
    struct buf text, der;
    buf_init(&text, 1024);
    buf_init(&der, 1024);
    tlog_vkey_write(log, &text);
    buf_u8(&der, 0x0c);
    NEED(text.len < 256);
    if (text.len > 127)
        buf_u8(&der, 0x81);
    buf_u8(&der, (uint8_t)text.len);
    buf_put(&der, text.p, text.len);
    raw_ext(x, OID_LOG_BINDING, OID_LEN(OID_LOG_BINDING), der.p, der.len);
    buf_free(&text);
    buf_free(&der);
}

static X509 *begin(const char *cn, X509 *issuer, EVP_PKEY *key, uint64_t serial, time_t now, int64_t from, int64_t until)
{
    X509 *x = X509_new();
    X509_NAME *name = X509_NAME_new();
    NEED(x && name);
    X509_set_version(x, X509_VERSION_3);
    ASN1_INTEGER_set_uint64(X509_get_serialNumber(x), serial);
    ASN1_TIME_set(X509_getm_notBefore(x), now + from);
    ASN1_TIME_set(X509_getm_notAfter(x), now + until);
    if (cn)
        X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)cn, -1, -1, 0);
    X509_set_subject_name(x, name);
    X509_set_issuer_name(x, issuer ? X509_get_subject_name(issuer) : name);
    X509_set_pubkey(x, key);
    X509_NAME_free(name);
    return x;
}

static void finish(X509 *x, EVP_PKEY *key, const EVP_MD *md)
{
    NEED(X509_sign(x, key, md) > 0);
    X509_check_ca(x); /* reads its extensions now, so that threads which share it find them */
}

void kit_issuing(struct kit *k)
{
    char san[128];
    X509_free(k->issuing);
    EVP_PKEY_free(k->issuing_key);
    k->issuing_key = EVP_EC_gen("P-256");
    X509 *x = begin("issuing", k->root, k->issuing_key, ++k->serial, time(NULL), -3600, 86400);
    snprintf(san, sizeof san, "URI:spiffe://%s", k->td);
    ext(x, k->root, NID_basic_constraints, "critical,CA:TRUE,pathlen:0");
    ext(x, k->root, NID_key_usage, k->as.usage ? k->as.usage : "critical,keyCertSign,cRLSign");
    ext(x, k->root, NID_name_constraints, k->as.names);
    ext(x, k->root, NID_policy_constraints, k->as.policy);
    ext(x, k->root, NID_subject_key_identifier, "hash");
    ext(x, k->root, NID_authority_key_identifier, "keyid");
    ext(x, k->root, NID_subject_alt_name, k->as.san ? k->as.san : san);
    binding(x, &k->log);
    finish(x, k->root_key, EVP_sha384());
    k->issuing = x;
}

void kit_new(struct kit *k, const char *td)
{
    kit_new_as(k, td, &(struct kit_authority){0});
}

void kit_new_as(struct kit *k, const char *td, const struct kit_authority *as)
{
    struct err e;
    uint8_t pub[32];
    size_t n = sizeof pub;
    char origin[80];
    memset(k, 0, sizeof *k);
    k->as = *as;
    snprintf(k->td, sizeof k->td, "%s", td);
    snprintf(origin, sizeof origin, "%s/log1", td);
    k->log_key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    k->root_key = EVP_EC_gen("P-384");
    NEED(k->log_key && k->root_key && EVP_PKEY_get_raw_public_key(k->log_key, pub, &n) == 1);
    NEED(tlog_vkey_make(&k->log, origin, pub, &e) == 0);
    X509 *x = begin("root", NULL, k->root_key, ++k->serial, time(NULL), -3600, 864000);
    ext(x, NULL, NID_basic_constraints, "critical,CA:TRUE");
    ext(x, NULL, NID_key_usage, "critical,keyCertSign,cRLSign");
    ext(x, NULL, NID_name_constraints, as->root_names);
    ext(x, NULL, NID_subject_key_identifier, "hash");
    finish(x, k->root_key, EVP_sha384());
    k->root = x;
    kit_issuing(k);
}

void kit_free(struct kit *k)
{
    EVP_PKEY_free(k->root_key);
    EVP_PKEY_free(k->issuing_key);
    EVP_PKEY_free(k->log_key);
    X509_free(k->root);
    X509_free(k->issuing);
    tlog_vkey_free(&k->log);
    memset(k, 0, sizeof *k);
}

void kit_id_free(struct kit_id *i)
{
    X509_free(i->leaf);
    EVP_PKEY_free(i->key);
    memset(i, 0, sizeof *i);
}

static X509 *leaf_make(struct kit *k, const struct kit_leaf *l, EVP_PKEY *key, uint64_t serial, time_t now,
                       struct bytes proof)
{
    char san[2200];
    bool times = l->from || l->until;
    X509 *x = begin(l->cn, k->issuing, key, serial, now, times ? l->from : -60, times ? l->until : 3600);
    if (l->san)
        snprintf(san, sizeof san, "%s", l->san);
    else
        snprintf(san, sizeof san, "critical,URI:%s", l->id);
    ext(x, k->issuing, NID_basic_constraints, l->ca ? "critical,CA:TRUE" : "critical,CA:FALSE");
    ext(x, k->issuing, NID_key_usage, l->usage ? l->usage : "critical,digitalSignature");
    ext(x, k->issuing, NID_ext_key_usage, l->eku ? l->eku : "serverAuth,clientAuth");
    ext(x, k->issuing, NID_subject_key_identifier, "hash");
    ext(x, k->issuing, NID_authority_key_identifier, "keyid");
    ext(x, k->issuing, NID_subject_alt_name, san);
    ext(x, k->issuing, NID_crl_distribution_points, l->crl);
    if (proof.len)
        raw_ext(x, OID_STAPLED_PROOF, OID_LEN(OID_STAPLED_PROOF), proof.p, proof.len);
    finish(x, k->issuing_key, EVP_sha256());
    return x;
}

static void note(struct kit *k, uint64_t size, const struct tlog_hash *root, bool bad, struct buf *out)
{
    struct tlog_checkpoint c = {.size = size, .root = *root};
    struct buf body;
    uint8_t sig[64];
    size_t n = sizeof sig;
    snprintf(c.origin, sizeof c.origin, "%s", k->log.name);
    buf_init(&body, 4096);
    tlog_checkpoint_body(&c, &body);
    EVP_MD_CTX *m = EVP_MD_CTX_new();
    NEED(m && EVP_DigestSignInit(m, NULL, NULL, NULL, k->log_key) == 1 && EVP_DigestSign(m, sig, &n, body.p, body.len) == 1);
    EVP_MD_CTX_free(m);
    if (bad)
        sig[0] ^= 1;
    tlog_checkpoint_note(&c, &k->log, sig, out);
    buf_free(&body);
}

#define INDEX 2 /* of four entries */
static void prove(struct kit *k, X509 *without, bool bad, struct buf *out)
{
    struct err e;
    struct buf body, entry, text;
    struct tlog_cert_fields fields;
    struct bytes stapled;
    struct tlog_hash leaves[4], root, path[TLOG_LEVELS];
    unsigned char *der = NULL;
    int n = i2d_X509(without, &der);
    buf_init(&body, 65536);
    buf_init(&entry, 65536);
    buf_init(&text, 65536);
    NEED(n > 0 && tlog_cert_body(&body, &fields, &stapled, der, (size_t)n, &e) == 0);
    struct tlog_entry t = {.type = TLOG_ENTRY_TBS_CERT, .body = {body.p, body.len}};
    tlog_entry_write(&t, &entry);
    for (int i = 0; i < 4; i++)
        merkle_leaf(&leaves[i], &i, sizeof i);
    merkle_leaf(&leaves[INDEX], entry.p, entry.len);
    struct merkle_frontier f = {0};
    struct merkle_batch *b = merkle_batch_new(4);
    merkle_batch_append(b, &f, leaves, 4);
    merkle_frontier_root(&f, &root);
    size_t count = merkle_batch_proof(b, INDEX, path);
    note(k, 4, &root, bad, &text);
    tlog_proof_write(out, (struct bytes){NULL, 0}, INDEX, path, count, text.p, text.len);
    merkle_batch_free(b);
    OPENSSL_free(der);
    buf_free(&body);
    buf_free(&entry);
    buf_free(&text);
}

void kit_make(struct kit_id *i, struct kit *k, const struct kit_leaf *l)
{
    struct buf proof;
    time_t now = time(NULL); /* once: the entry and the certificate say the same */
    uint64_t serial = l->serial ? l->serial : (uint64_t)7 << 48 | INDEX;
    buf_init(&proof, 65536);
    i->key = EVP_EC_gen("P-256");
    NEED(i->key != NULL);
    i->leaf = leaf_make(k, l, i->key, serial, now, (struct bytes){NULL, 0});
    if (!l->unlogged) {
        prove(k, i->leaf, l->bad_proof, &proof);
        X509_free(i->leaf);
        i->leaf = leaf_make(k, l, i->key, serial, now, (struct bytes){proof.p, proof.len});
    }
    buf_free(&proof);
}

void kit_crl(struct buf *out, struct kit *k, const char *url, const uint64_t *serials, size_t n, int64_t until)
{
    X509_CRL *c = X509_CRL_new();
    time_t now = time(NULL);
    ASN1_TIME *t = ASN1_TIME_set(NULL, now - 60);
    unsigned char *der = NULL;
    NEED(c && t);
    X509_CRL_set_version(c, 1);
    X509_CRL_set_issuer_name(c, X509_get_subject_name(k->issuing));
    X509_CRL_set1_lastUpdate(c, t);
    for (size_t i = 0; i < n; i++) {
        X509_REVOKED *r = X509_REVOKED_new();
        ASN1_INTEGER *s = ASN1_INTEGER_new();
        ASN1_INTEGER_set_uint64(s, serials[i]);
        NEED(X509_REVOKED_set_serialNumber(r, s) == 1 && X509_REVOKED_set_revocationDate(r, t) == 1 &&
             X509_CRL_add0_revoked(c, r) == 1);
        ASN1_INTEGER_free(s);
    }
    ASN1_TIME_set(t, now + until);
    X509_CRL_set1_nextUpdate(c, t);
    if (url) {
        char value[2200];
        X509V3_CTX ctx;
        CONF *conf = NCONF_new(NULL);
        snprintf(value, sizeof value, "[p]\nfullname=URI:%s\nonlyuser=TRUE\n", url);
        BIO *b = BIO_new_mem_buf(value, -1);
        long line;
        NEED(conf && b && NCONF_load_bio(conf, b, &line) == 1);
        X509V3_set_ctx(&ctx, k->issuing, NULL, NULL, c, 0);
        X509V3_set_nconf(&ctx, conf);
        X509_EXTENSION *e = X509V3_EXT_nconf_nid(conf, &ctx, NID_issuing_distribution_point, "critical,@p");
        NEED(e && X509_CRL_add_ext(c, e, -1) == 1);
        X509_EXTENSION_free(e);
        NCONF_free(conf);
        BIO_free(b);
    }
    X509_CRL_sort(c);
    NEED(X509_CRL_sign(c, k->issuing_key, EVP_sha256()) > 0);
    int len = i2d_X509_CRL(c, &der);
    NEED(len > 0);
    buf_put(out, der, (size_t)len);
    OPENSSL_free(der);
    ASN1_TIME_free(t);
    X509_CRL_free(c);
}

static void put_cert(struct buf *b, X509 *x)
{
    unsigned char *der = NULL;
    int n = i2d_X509(x, &der);
    NEED(n > 0);
    buf_put(b, der, (size_t)n);
    OPENSSL_free(der);
}

struct wl_svid *kit_svid(struct kit *k, const struct kit_id *i)
{
    struct wl_svid *s = calloc(1, sizeof *s);
    struct buf chain;
    struct err e;
    unsigned char *at;
    NEED(s != NULL);
    atomic_init(&s->refs, 1);
    buf_init(&chain, 65536);
    put_cert(&chain, i->leaf);
    put_cert(&chain, k->issuing);
    s->chain = chain.p;
    s->chain_len = chain.len;
    GENERAL_NAMES *names = X509_get_ext_d2i(i->leaf, NID_subject_alt_name, NULL, NULL);
    for (int n = 0; n < sk_GENERAL_NAME_num(names); n++)
        if (sk_GENERAL_NAME_value(names, n)->type == GEN_URI && !s->spiffe_id)
            s->spiffe_id = strdup((const char *)ASN1_STRING_get0_data(sk_GENERAL_NAME_value(names, n)->d.uniformResourceIdentifier));
    GENERAL_NAMES_free(names);
    s->hint = strdup("");
    PKCS8_PRIV_KEY_INFO *p8 = EVP_PKEY2PKCS8(i->key);
    int n = i2d_PKCS8_PRIV_KEY_INFO(p8, NULL);
    NEED(n > 0 && secret_new(&s->key, (size_t)n, &e) == 0);
    at = s->key.p;
    s->key.len = (size_t)i2d_PKCS8_PRIV_KEY_INFO(p8, &at);
    PKCS8_PRIV_KEY_INFO_free(p8);
    s->not_before = time(NULL) - 60;
    s->not_after = time(NULL) + 3600;
    return s;
}

struct wl_bundles *kit_bundles(struct kit *const *kits, size_t n, const struct buf *crls, size_t crls_n)
{
    struct wl_bundles *b = calloc(1, sizeof *b);
    NEED(b && (b->list = calloc(n, sizeof *b->list)));
    atomic_init(&b->refs, 1);
    b->n = n;
    for (size_t i = 0; i < n; i++) {
        b->list[i].trust_domain = strdup(kits[i]->td);
        buf_init(&b->list[i].x509, 65536);
        put_cert(&b->list[i].x509, kits[i]->root);
    }
    if (crls_n)
        NEED((b->crls = calloc(crls_n, sizeof *b->crls)) != NULL);
    for (size_t i = 0; i < crls_n; i++) {
        buf_init(&b->crls[i], 1 << 20);
        buf_put(&b->crls[i], crls[i].p, crls[i].len);
        b->crls_count++;
    }
    return b;
}

struct wl_state *kit_state(struct kit *k, const struct kit_id *i)
{
    struct wl_state *s = calloc(1, sizeof *s);
    NEED(s && (s->svids = calloc(1, sizeof *s->svids)));
    atomic_init(&s->refs, 1);
    s->svids[0] = kit_svid(k, i);
    s->n = 1;
    s->bundles = kit_bundles((struct kit *const[]){k}, 1, NULL, 0);
    return s;
}

static void put_file(const char *dir, const char *name, BIO *text, mode_t mode)
{
    char path[4096];
    char *p;
    struct err e;
    long n = BIO_get_mem_data(text, &p);
    snprintf(path, sizeof path, "%s/%s", dir, name);
    NEED(file_write_atomic(path, p, (size_t)n, mode, false, &e) == 0);
    BIO_free(text);
}

void kit_write(struct kit *k, const struct kit_id *i, const char *dir)
{
    BIO *svid = BIO_new(BIO_s_mem()), *key = BIO_new(BIO_s_mem()), *bundle = BIO_new(BIO_s_mem());
    NEED(PEM_write_bio_X509(svid, i->leaf) == 1 && PEM_write_bio_X509(svid, k->issuing) == 1 &&
         PEM_write_bio_PKCS8PrivateKey(key, i->key, NULL, NULL, 0, NULL, NULL) == 1 &&
         PEM_write_bio_X509(bundle, k->root) == 1);
    put_file(dir, "bundle.pem", bundle, 0644);
    put_file(dir, "svid.key", key, 0600);
    put_file(dir, "svid.pem", svid, 0644);
}

SSL_CTX *kit_ctx(struct kit *k, const struct kit_id *i)
{
    SSL_CTX *c = SSL_CTX_new(TLS_method());
    NEED(c != NULL);
    if (i)
        NEED(SSL_CTX_use_certificate(c, i->leaf) == 1 && SSL_CTX_use_PrivateKey(c, i->key) == 1 &&
             SSL_CTX_add1_chain_cert(c, k->issuing) == 1);
    NEED(X509_STORE_add_cert(SSL_CTX_get_cert_store(c), k->root) == 1);
    SSL_CTX_set_verify(c, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    return c;
}
