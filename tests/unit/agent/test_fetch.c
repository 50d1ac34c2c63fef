/* agent_fetch from end to end: over TLS, against an authority that verifies the evidence as the
 * real one does, into a folder. Nothing may be written unless everything was good. */
#include "base/fileio.h"
#include "base/jose.h"
#include "unit/agent/tls_server.h"
#include <ftw.h>
#include <openssl/pem.h>
#include <sys/stat.h>

struct authority {
    struct server *tls;
    char dir[64], token[JOIN_TOKEN_TEXT + 1];
    struct key *account;
    char thumbprint[44];
    unsigned nonce;
    /* how it behaves */
    bool spent, unproven, wrong_id;
    bool crls, crls_down;
    EVP_PKEY *crl_key; /* NULL: the issuing one */
    /* what it saw */
    struct attest_result result;
    struct err evidence_error;
    unsigned orders;
    struct buf root_der, issuing_der;
};

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    return remove(path);
}

static void answer(struct authority *s, struct buf *out, const char *status, const char *location,
                   struct bytes body)
{
    buf_fmt(out, "HTTP/1.1 %s\r\nReplay-Nonce: n%u\r\nContent-Length: %zu\r\n", status, s->nonce++,
            body.len);
    if (location)
        buf_fmt(out, "Location: %s%s\r\n", s->tls->url, location);
    buf_str(out, "\r\n");
    buf_put(out, body.p, body.len);
}

static void answer_text(struct authority *s, struct buf *out, const char *status, const char *text)
{
    answer(s, out, status, NULL, (struct bytes){(const uint8_t *)text, strlen(text)});
}

/* Signs what was asked for, with the CSR's key, valid now. */
static void issue(struct authority *s, const json_t *doc, struct buf *body)
{
    uint8_t der[8192];
    const char *text = json_maybe_str(doc, "csr");
    long n = b64url_decode(der, sizeof der, text, strlen(text));
    const uint8_t *at = der;
    X509_REQ *req = d2i_X509_REQ(NULL, &at, n);
    struct pki *p = &s->tls->pki;
    struct pki_spec leaf = pki_leaf_spec(p, X509_REQ_get0_pubkey(req));
    leaf.crl = s->crls ? "URI:https://ca.test/crl/2-1.crl" : NULL;
    leaf.not_before = clock_wall() - 10;
    leaf.not_after = clock_wall() + 300;
    if (s->wrong_id)
        leaf.san = "critical,URI:spiffe://example.org/other";
    struct acme_identity i;
    pki_identity(&i, leaf, s->unproven ? NULL : &p->log, p->issuing);
    buf_str(body, "{\"status\":\"valid\",\"certificateChain\":");
    jw_strn(body, (const char *)i.chain_pem.p, i.chain_pem.len);
    buf_str(body, "}");
    acme_identity_free(&i);
    X509_REQ_free(req);
}

static void on_order(struct authority *s, const struct jws *j, struct buf *out)
{
    uint8_t digest[32];
    static const uint8_t salt[16];
    struct err e = {0};
    struct buf body;
    buf_init(&body, 65536);
    json_t *doc = json_parse(j->payload.p, j->payload.len, 65536, &e);
    struct attest_anchor anchor = {{s->root_der.p, s->root_der.len},
                                   {s->issuing_der.p, s->issuing_der.len}};
    attest_key_authorization(digest, j->nonce, s->thumbprint);
    attest_result_free(&s->result);
    s->orders++;
    bool good = attest_verify(&s->result, json_object_get(doc, "evidence"), digest, &anchor,
                              "example.org", clock_wall(), salt, &s->evidence_error) == 0;
    if (good && s->spent && s->result.kind == ATTEST_JOIN_TOKEN)
        good = err_set(&s->evidence_error, ERR_BAD_EVIDENCE, "token-spent", "spent") == 0;
    if (good) {
        issue(s, doc, &body);
        answer(s, out, "201 Created", "/order/1", (struct bytes){body.p, body.len});
    } else {
        buf_fmt(&body,
                "{\"type\":\"urn:ietf:params:acme:error:badAttestationStatement\",\"detail\":"
                "\"no\",\"rule\":\"%s\"}",
                s->evidence_error.rule);
        answer(s, out, "400 Bad Request", NULL, (struct bytes){body.p, body.len});
    }
    json_decref(doc);
    buf_free(&body);
}

static void on_bundle(struct authority *s, struct buf *out)
{
    struct buf b;
    buf_init(&b, 65536);
    buf_str(&b, "{\"keys\":[{\"use\":\"x509-svid\",\"kty\":\"EC\",\"x5c\":[\"");
    buf_b64(&b, s->root_der.p, s->root_der.len);
    buf_str(&b, "\"]}]");
    if (s->crls)
        buf_str(&b, ",\"mayfly_crl\":{\"base\":\"https://ca.test/crl/\",\"shards\":2}");
    buf_str(&b, "}");
    answer(s, out, "200 OK", NULL, (struct bytes){b.p, b.len});
    buf_free(&b);
}

static void on_crl(struct authority *s, struct buf *out)
{
    uint8_t *der = NULL;
    X509_CRL *x = X509_CRL_new();
    ASN1_TIME *t = ASN1_TIME_set(NULL, (time_t)clock_wall());
    X509_CRL_set_version(x, 1);
    X509_CRL_set_issuer_name(x, X509_get_subject_name(s->tls->pki.issuing));
    X509_CRL_set1_lastUpdate(x, t);
    X509_CRL_set1_nextUpdate(x, t);
    X509_CRL_sign(x, s->crl_key ? s->crl_key : s->tls->pki.issuing_key, EVP_sha256());
    int n = i2d_X509_CRL(x, &der);
    answer(s, out, "200 OK", NULL, (struct bytes){der, n > 0 ? (size_t)n : 0});
    OPENSSL_free(der);
    ASN1_TIME_free(t);
    X509_CRL_free(x);
}

static void on_post(struct authority *s, const char *path, struct buf *out)
{
    struct err e = {0};
    struct jws j = {0};
    const char *body = strstr(s->tls->last, "\r\n\r\n") + 4;
    if (jws_parse(&j, body, strlen(body), &e) < 0 ||
        jws_verify(&j, j.jwk ? j.jwk : s->account, &e) < 0)
        answer_text(s, out, "400 Bad Request",
                    "{\"type\":\"urn:ietf:params:acme:error:malformed\"}");
    else if (strcmp(path, "/a") == 0) {
        key_free(s->account);
        s->account = key_from_evp(key_evp(j.jwk), &e);
        memcpy(s->thumbprint, j.thumbprint, sizeof s->thumbprint);
        answer(s, out, "201 Created", "/account/1", (struct bytes){(const uint8_t *)"{}", 2});
    } else
        on_order(s, &j, out);
    jws_free(&j);
}

static void handle(struct server *tls, struct buf *out)
{
    struct authority *s = tls->handle_arg;
    char method[8], path[128];
    if (sscanf(tls->last, "%7s %127s", method, path) != 2)
        return;
    if (strcmp(path, "/acme/directory") == 0) {
        struct buf b;
        buf_init(&b, 4096);
        buf_fmt(&b, "{\"newNonce\":\"%s/n\",\"newAccount\":\"%s/a\",\"newOrder\":\"%s/o\"}",
                tls->url, tls->url, tls->url);
        answer(s, out, "200 OK", NULL, (struct bytes){b.p, b.len});
        buf_free(&b);
    } else if (strcmp(path, "/spiffe/bundle") == 0)
        on_bundle(s, out);
    else if (strcmp(path, "/crl/2-1.crl") == 0 && !s->crls_down)
        on_crl(s, out);
    else if (strncmp(path, "/crl/", 5) == 0)
        answer_text(s, out, s->crls_down ? "500 Internal Server Error" : "404 Not Found",
                    "{\"type\":\"urn:ietf:params:acme:error:serverInternal\"}");
    else if (strcmp(method, "POST") == 0)
        on_post(s, path, out);
    else
        answer(s, out, "200 OK", NULL, (struct bytes){NULL, 0});
}

static int setup(void **state)
{
    struct err e;
    uint8_t secret[32] = {1, 2, 3}, anchor[32];
    struct authority *s = calloc(1, sizeof *s);
    s->tls = server_new();
    s->tls->handle = handle;
    s->tls->handle_arg = s;
    x509_sha256(anchor, s->tls->pki.root);
    join_token_write(s->token, secret, anchor);
    buf_init(&s->root_der, 65536);
    buf_init(&s->issuing_der, 65536);
    assert_done(x509_to_der(&s->root_der, s->tls->pki.root, &e));
    assert_done(x509_to_der(&s->issuing_der, s->tls->pki.issuing, &e));
    strcpy(s->dir, "/tmp/mayfly-fetch-XXXXXX");
    assert_non_null(mkdtemp(s->dir));
    server_start(s->tls);
    *state = s;
    return 0;
}

static int teardown(void **state)
{
    struct authority *s = *state;
    server_stop(s->tls);
    nftw(s->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    key_free(s->account);
    attest_result_free(&s->result);
    buf_free(&s->root_der);
    buf_free(&s->issuing_der);
    server_free(s->tls);
    free(s);
    return 0;
}

static int fetch(struct authority *s, const char *token, const char *bundle, struct err *e)
{
    struct agent_verified v;
    struct agent_fetch f = {.server = s->tls->url,
                            .token = token,
                            .trust_bundle = bundle,
                            .spiffe_id = PKI_ID,
                            .out_dir = s->dir,
                            .deadline_ms = 20000};
    memset(e, 0, sizeof *e);
    int rc = agent_fetch(&f, &v, e);
    if (rc == 0)
        assert_string_equal(v.spiffe_id, PKI_ID);
    return rc;
}

static bool exists(struct authority *s, const char *name)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", s->dir, name);
    return access(path, F_OK) == 0;
}

/* First with the token, then with what the token brought. */
static void test_token_then_svid(void **state)
{
    struct authority *s = *state;
    struct err e;
    struct buf bundle, root;
    char path[128];
    assert_done(fetch(s, s->token, NULL, &e));
    assert_int_equal(s->result.kind, ATTEST_JOIN_TOKEN);
    assert_true(exists(s, "svid.pem") && exists(s, "svid.key"));
    snprintf(path, sizeof path, "%s/bundle.pem", s->dir); /* the root that was learnt */
    buf_init(&bundle, 65536);
    buf_init(&root, 65536);
    assert_done(file_read(&bundle, path, 65536, &e));
    assert_done(x509_to_pem(&root, s->tls->pki.root, &e));
    assert_true(bytes_eq((struct bytes){bundle.p, bundle.len}, root.p, root.len));
    buf_free(&bundle);
    buf_free(&root);
    assert_done(fetch(s, NULL, NULL, &e));
    assert_int_equal(s->result.kind, ATTEST_X509POP);
    assert_string_equal(s->result.spiffe_id, PKI_ID);
    assert_done(fetch(s, NULL, path, &e)); /* and with the bundle named */
    assert_done(fetch(s, s->token, path, &e));
}

/* CRLs come too, when the certificate names one; nothing that is wrong with them spoils what was obtained, or the ones of before. */
static void test_crls(void **state)
{
    struct authority *s = *state;
    struct err e;
    struct buf first, now;
    char path[128];
    snprintf(path, sizeof path, "%s/crl.pem", s->dir);
    assert_done(fetch(s, s->token, NULL, &e));
    assert_false(exists(s, "crl.pem"));
    s->crls = true;
    assert_done(fetch(s, NULL, NULL, &e));
    buf_init(&first, 65536);
    buf_init(&now, 65536);
    assert_done(file_read(&first, path, 65536, &e));
    BIO *b = BIO_new_mem_buf(first.p, (int)first.len);
    X509_CRL *x = PEM_read_bio_X509_CRL(b, NULL, NULL, NULL);
    assert_non_null(x);
    assert_int_equal(X509_CRL_verify(x, s->tls->pki.issuing_key), 1);
    assert_null(PEM_read_bio_X509_CRL(b, NULL, NULL, NULL)); /* the other shard has none */
    X509_CRL_free(x);
    BIO_free(b);
    s->crl_key = pki_key(); /* another's signature */
    for (int i = 0; i < 2; i++) {
        unsigned before = s->orders;
        assert_done(fetch(s, NULL, NULL, &e));
        assert_int_equal(s->orders, before + 1);
        buf_reset(&now);
        assert_done(file_read(&now, path, 65536, &e));
        assert_true(bytes_eq((struct bytes){now.p, now.len}, first.p, first.len));
        s->crls_down = true;
    }
    assert_false(exists(s, ".crl.pem.new"));
    s->crls = false;
    assert_done(fetch(s, NULL, NULL, &e));
    assert_false(exists(s, "crl.pem"));
    EVP_PKEY_free(s->crl_key);
    buf_free(&first);
    buf_free(&now);
}

static void test_spent(void **state)
{
    struct authority *s = *state;
    struct err e;
    s->spent = true;
    assert_refused(fetch(s, s->token, NULL, &e), ERR_BAD_EVIDENCE, "token-spent");
    assert_null(strstr(e.msg, "without --token")); /* there is nothing to go on with */
    assert_false(exists(s, "svid.key"));
    s->spent = false;
    assert_done(fetch(s, s->token, NULL, &e));
    s->spent = true;
    assert_refused(fetch(s, s->token, NULL, &e), ERR_BAD_EVIDENCE, "token-spent");
    assert_non_null(strstr(e.msg, "without --token"));
    assert_done(fetch(s, NULL, NULL, &e));
}

/* What does not verify leaves the folder as it was. */
static void test_unverified(void **state)
{
    struct authority *s = *state;
    struct err e;
    s->unproven = true;
    assert_refused(fetch(s, s->token, NULL, &e), ERR_CORRUPT, "proof-missing");
    s->unproven = false;
    s->wrong_id = true;
    assert_refused(fetch(s, s->token, NULL, &e), ERR_CORRUPT, "svid-id");
    assert_false(exists(s, "svid.pem") || exists(s, "svid.key") || exists(s, "bundle.pem"));
}

static void test_start_refused(void **state)
{
    struct authority *s = *state;
    struct err e;
    struct pki other;
    struct buf pem;
    char path[128], token[JOIN_TOKEN_TEXT + 1];
    uint8_t secret[32] = {0}, anchor[32] = {0};
    assert_refused(fetch(s, NULL, NULL, &e), ERR_NOT_FOUND, "secret-read");
    assert_int_equal(fetch(s, "mjt1_x", NULL, &e), -1);
    join_token_write(token, secret, anchor); /* another authority's */
    assert_refused(fetch(s, token, NULL, &e), ERR_CORRUPT, "trust-pin");
    pki_new(&other);
    buf_init(&pem, 65536);
    assert_done(x509_to_pem(&pem, other.root, &e));
    snprintf(path, sizeof path, "%s/other.pem", s->dir);
    assert_done(file_write_atomic(path, pem.p, pem.len, 0644, false, &e));
    assert_refused(fetch(s, s->token, path, &e), ERR_CONFIG, "trust-disagree");
    assert_int_equal(s->orders, 0); /* no evidence left this process */
    assert_done(fetch(s, s->token, NULL, &e));
    assert_refused(fetch(s, NULL, path, &e), ERR_CORRUPT, "chain");
    assert_int_equal(s->orders, 1);
    buf_free(&pem);
    pki_free(&other);
}

/* A folder that can not be written is found out before the token is shown: the token stays good. */
static void test_out_first(void **state)
{
    struct authority *s = *state;
    struct err e;
    char dir[sizeof s->dir], file[sizeof s->dir + 2];
    strcpy(dir, s->dir);
    snprintf(file, sizeof file, "%s/f", dir);
    assert_done(file_write_atomic(file, "x", 1, 0644, false, &e));
    static const char *const rules[] = {"file-mkdir", "out-lock"};
    for (int i = 0; i < 2; i++) { /* no folder; one that takes no file, not even root's */
        strcpy(s->dir, i ? "/proc/self" : file);
        assert_refused(fetch(s, s->token, NULL, &e), ERR_IO, rules[i]);
        assert_int_equal(s->tls->connections, 0);
    }
    strcpy(s->dir, dir);
    assert_done(fetch(s, s->token, NULL, &e));
    assert_int_equal(s->orders, 1);
}

/* An SVID that has run out proves nothing any more, and is not even shown. */
static void test_svid_expired(void **state)
{
    struct authority *s = *state;
    struct err e;
    struct acme_identity i;
    struct agent_trust trust;
    EVP_PKEY *key = pki_key();
    struct pki_spec old = pki_leaf_spec(&s->tls->pki, key);
    old.not_before = clock_wall() - 100;
    old.not_after = clock_wall() - 1;
    pki_identity(&i, old, NULL, s->tls->pki.issuing);
    pki_trust(&trust, s->tls->pki.root);
    assert_done(agent_write_files(s->dir, &i, &trust, clock_mono_ms() + 20000, &e));
    assert_refused(fetch(s, NULL, NULL, &e), ERR_NOT_FOUND, "svid-expired");
    assert_int_equal(s->tls->connections, 0);
    s->spent = true;
    assert_refused(fetch(s, s->token, NULL, &e), ERR_BAD_EVIDENCE, "token-spent");
    assert_null(strstr(e.msg, "without --token"));
    agent_trust_free(&trust);
    acme_identity_free(&i);
    EVP_PKEY_free(key);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_token_then_svid, setup, teardown),
        cmocka_unit_test_setup_teardown(test_crls, setup, teardown),
        cmocka_unit_test_setup_teardown(test_spent, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unverified, setup, teardown),
        cmocka_unit_test_setup_teardown(test_start_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_out_first, setup, teardown),
        cmocka_unit_test_setup_teardown(test_svid_expired, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
