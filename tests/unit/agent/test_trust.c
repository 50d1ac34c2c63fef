/* Whom the agent believes: bundles in both forms, pins, and a server's chain. */
#include "agent/pem.h"
#include "base/fileio.h"
#include "unit/agent/pki.h"
#include <unistd.h>

struct fixture {
    struct pki pki;
    EVP_PKEY *key;
    X509 *server;
    struct agent_trust trust;
    uint8_t anchor[32];
};

static X509 *server_cert(struct fixture *f, const char *san, const char *eku)
{
    struct pki_spec s = pki_leaf_spec(&f->pki, f->key);
    s.san = san;
    s.eku = eku;
    return pki_cert(&s);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    pki_new(&f->pki);
    f->key = pki_key();
    f->server = server_cert(
        f, "critical,URI:spiffe://example.org/mayfly/server,DNS:localhost,IP:127.0.0.1,IP:::1",
        "serverAuth,clientAuth");
    buf_init(&f->trust.roots_pem, BUNDLE_MAX);
    x509_sha256(f->anchor, f->pki.root);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    X509_free(f->server);
    EVP_PKEY_free(f->key);
    pki_free(&f->pki);
    agent_trust_free(&f->trust);
    free(f);
    return 0;
}

static int parse(struct fixture *f, const char *text, struct err *e)
{
    return agent_trust_parse(&f->trust, text, strlen(text), "test", e);
}

static void put_pem(struct buf *b, X509 *x)
{
    struct err e;
    assert_done(x509_to_pem(b, x, &e));
}

static void put_key(struct buf *b, const char *use, X509 *x)
{
    struct err e;
    struct buf der;
    buf_init(&der, 65536);
    assert_done(x509_to_der(&der, x, &e));
    buf_fmt(b, "{\"use\":\"%s\",\"kty\":\"EC\",\"x5c\":[\"", use);
    buf_b64(b, der.p, der.len);
    buf_str(b, "\"]}");
    buf_free(&der);
}

static void test_pem(void **state)
{
    struct fixture *f = *state;
    struct err e;
    struct buf b;
    STACK_OF(X509) * list;
    struct pki other;
    pki_new(&other);
    buf_init(&b, 65536);
    buf_str(&b, "our roots, old and new\n");
    put_pem(&b, f->pki.root);
    put_pem(&b, other.root);
    assert_done(parse(f, buf_cstr(&b), &e));
    assert_done(agent_trust_roots(&f->trust, &list, &e));
    assert_int_equal(sk_X509_num(list), 2);
    sk_X509_pop_free(list, X509_free);

    put_pem(&b, f->pki.issuing); /* not self-signed */
    assert_refused(parse(f, buf_cstr(&b), &e), ERR_CONFIG, "trust-bundle");
    assert_int_equal(f->trust.roots_pem.len, 0);
    buf_reset(&b);
    put_pem(&b, f->server);
    assert_refused(parse(f, buf_cstr(&b), &e), ERR_CONFIG, "trust-bundle");
    assert_refused(parse(f, "", &e), ERR_CONFIG, "pem-empty");
    assert_refused(parse(f, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", &e),
                   ERR_CONFIG, "pem-syntax");
    buf_reset(&b);
    for (int i = 0; i <= ROOTS_MAX; i++)
        put_pem(&b, f->pki.root);
    assert_refused(parse(f, buf_cstr(&b), &e), ERR_CONFIG, "pem-count");
    buf_free(&b);
    pki_free(&other);
}

/* A certificate is a whole block: what stands behind it in its base64 would be nobody's. */
static void test_pem_trailing(void **state)
{
    struct fixture *f = *state;
    struct err e;
    unsigned char *der = NULL, longer[4096] = {0};
    char text[8192];
    int n = i2d_X509(f->pki.root, &der);
    assert_true(n > 0 && (size_t)n < sizeof longer);
    memcpy(longer, der, (size_t)n);
    OPENSSL_free(der);
    text[pem_write(text, "CERTIFICATE", longer, (size_t)n)] = 0;
    assert_done(parse(f, text, &e));
    text[pem_write(text, "CERTIFICATE", longer, (size_t)n + 1)] = 0;
    assert_refused(parse(f, text, &e), ERR_CONFIG, "pem-syntax");
}

/* A root whose own signature is wrong is none. */
static void test_forged_root(void **state)
{
    struct fixture *f = *state;
    struct err e;
    struct buf b;
    struct pki_spec s = pki_root_spec(f->pki.root_key, "root");
    s.issuer_key = f->pki.issuing_key;
    X509 *x = pki_cert(&s);
    buf_init(&b, 65536);
    put_pem(&b, x);
    assert_refused(parse(f, buf_cstr(&b), &e), ERR_CONFIG, "trust-bundle");
    buf_free(&b);
    X509_free(x);
}

static void test_json(void **state)
{
    struct fixture *f = *state;
    struct err e;
    struct buf b;
    STACK_OF(X509) * list;
    buf_init(&b, 65536);
    buf_str(&b, " \n{\"spiffe_sequence\":1,\"keys\":[");
    put_key(&b, "x509-svid", f->pki.root);
    buf_str(&b, ",{\"use\":\"jwt-svid\",\"kid\":\"a\"}]}");
    assert_done(parse(f, buf_cstr(&b), &e));
    assert_done(agent_trust_roots(&f->trust, &list, &e));
    assert_int_equal(sk_X509_num(list), 1);
    assert_int_equal(X509_cmp(sk_X509_value(list, 0), f->pki.root), 0);
    sk_X509_pop_free(list, X509_free);

    static const char *const bad[] = {
        "{}",
        "{\"keys\":{}}",
        "{\"keys\":[]}",
        "{\"keys\":[1,null,\"x\"]}",
        "{\"keys\":[{\"use\":\"x509-svid\"}]}",
        "{\"keys\":[{\"use\":\"x509-svid\",\"x5c\":[]}]}",
        "{\"keys\":[{\"use\":\"x509-svid\",\"x5c\":[1]}]}",
        "{\"keys\":[{\"use\":\"x509-svid\",\"x5c\":[\"AAAA\"]}]}",
        "{\"keys\":[{\"use\":\"x509-svid\",\"x5c\":[\"AA\",\"AA\"]}]}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_refused(parse(f, bad[i], &e), ERR_CONFIG, "trust-bundle");
    assert_refused(parse(f, "{\"keys\":[}", &e), ERR_CONFIG, "json-syntax");
    buf_reset(&b);
    buf_str(&b, "{\"keys\":[");
    put_key(&b, "x509-svid", f->server);
    buf_str(&b, "]}");
    assert_refused(parse(f, buf_cstr(&b), &e), ERR_CONFIG, "trust-bundle");
    buf_free(&b);
}

static void test_file(void **state)
{
    struct fixture *f = *state;
    struct err e;
    struct buf b;
    char path[] = "/tmp/mayfly-trust-XXXXXX";
    close(mkstemp(path));
    buf_init(&b, 65536);
    put_pem(&b, f->pki.root);
    assert_done(file_write_atomic(path, b.p, b.len, 0600, false, &e));
    assert_done(agent_trust_from_file(&f->trust, path, &e));
    unlink(path);
    assert_int_equal(agent_trust_from_file(&f->trust, path, &e), -1);
    assert_int_equal(e.code, ERR_NOT_FOUND);
    buf_free(&b);
}

static void test_pin_agrees(void **state)
{
    struct fixture *f = *state;
    struct err e;
    struct buf b;
    uint8_t other[32] = {1};
    buf_init(&b, 65536);
    assert_done(agent_trust_pin(&f->trust, other, &e)); /* no bundle: nothing to disagree with */
    put_pem(&b, f->pki.root);
    assert_done(parse(f, buf_cstr(&b), &e));
    assert_refused(agent_trust_pin(&f->trust, other, &e), ERR_CONFIG, "trust-disagree");
    assert_done(agent_trust_pin(&f->trust, f->anchor, &e));
    buf_free(&b);
}

static STACK_OF(X509) * sent(struct fixture *f, X509 *leaf, bool root)
{
    STACK_OF(X509) *list = sk_X509_new_null();
    sk_X509_push(list, leaf);
    sk_X509_push(list, f->pki.issuing);
    if (root)
        sk_X509_push(list, f->pki.root);
    return list;
}

static void test_server_pinned(void **state)
{
    struct fixture *f = *state;
    struct err e;
    uint8_t other[32] = {1};
    STACK_OF(X509) *with = sent(f, f->server, true), *without = sent(f, f->server, false);
    assert_refused(agent_trust_server(&f->trust, f->server, with, "localhost", PKI_NOW, &e),
                   ERR_CONFIG, "trust-none");
    assert_done(agent_trust_pin(&f->trust, other, &e));
    assert_refused(agent_trust_server(&f->trust, f->server, with, "localhost", PKI_NOW, &e),
                   ERR_CORRUPT, "trust-pin");
    assert_done(agent_trust_pin(&f->trust, f->anchor, &e));
    assert_refused(agent_trust_server(&f->trust, f->server, without, "localhost", PKI_NOW, &e),
                   ERR_CORRUPT, "trust-pin");
    assert_refused(agent_trust_server(&f->trust, f->server, NULL, "localhost", PKI_NOW, &e),
                   ERR_CORRUPT, "trust-pin");
    assert_refused(agent_trust_server(&f->trust, f->server, with, "example.org", PKI_NOW, &e),
                   ERR_CORRUPT, "chain-host");
    assert_int_equal(f->trust.roots_pem.len, 0); /* a refusal teaches nothing */
    assert_done(agent_trust_server(&f->trust, f->server, with, "localhost", PKI_NOW, &e));
    assert_true(f->trust.roots_pem.len > 0);
    /* from now on the root is known, sent or not */
    assert_done(agent_trust_server(&f->trust, f->server, without, "127.0.0.1", PKI_NOW, &e));
    sk_X509_free(with);
    sk_X509_free(without);
}

/* The pinned root is shown, but the leaf is somebody else's. */
static void test_server_foreign_leaf(void **state)
{
    struct fixture *f = *state;
    struct err e;
    struct pki other;
    pki_new(&other);
    struct pki_spec s = pki_leaf_spec(&other, f->key);
    s.san = "critical,DNS:localhost";
    X509 *leaf = pki_cert(&s);
    STACK_OF(X509) *list = sent(f, leaf, true);
    sk_X509_push(list, other.issuing);
    sk_X509_push(list, other.root);
    assert_done(agent_trust_pin(&f->trust, f->anchor, &e));
    assert_refused(agent_trust_server(&f->trust, leaf, list, "localhost", PKI_NOW, &e), ERR_CORRUPT,
                   "chain");
    assert_int_equal(f->trust.roots_pem.len, 0);
    while (sk_X509_num(list) <= CHAIN_CERTS_MAX)
        sk_X509_push(list, f->pki.root);
    assert_refused(agent_trust_server(&f->trust, leaf, list, "localhost", PKI_NOW, &e), ERR_CORRUPT,
                   "chain");
    sk_X509_free(list);
    X509_free(leaf);
    pki_free(&other);
}

static void test_server_bundle(void **state)
{
    struct fixture *f = *state;
    struct err e;
    struct buf b;
    STACK_OF(X509) *list = sent(f, f->server, false);
    buf_init(&b, 65536);
    put_pem(&b, f->pki.root);
    assert_done(parse(f, buf_cstr(&b), &e));
    static const char *const good[] = {"localhost", "127.0.0.1", "::1"}, *const bad[] = {
                                                                             "localhos",
                                                                             "127.0.0.2", "::2",
                                                                             "example.org",
                                                                             "sub.localhost"};
    for (size_t i = 0; i < 3; i++)
        assert_done(agent_trust_server(&f->trust, f->server, list, good[i], PKI_NOW, &e));
    for (size_t i = 0; i < 5; i++)
        assert_refused(agent_trust_server(&f->trust, f->server, list, bad[i], PKI_NOW, &e),
                       ERR_CORRUPT, "chain-host");
    assert_refused(agent_trust_server(&f->trust, f->server, list, "localhost", PKI_NOW + 1000, &e),
                   ERR_CORRUPT, "chain-time");
    X509 *client = server_cert(f, "critical,DNS:localhost", "clientAuth");
    assert_refused(agent_trust_server(&f->trust, client, list, "localhost", PKI_NOW, &e),
                   ERR_CORRUPT, "chain");
    X509_free(client);
    sk_X509_free(list);
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_pem, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pem_trailing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_forged_root, setup, teardown),
        cmocka_unit_test_setup_teardown(test_json, setup, teardown),
        cmocka_unit_test_setup_teardown(test_file, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pin_agrees, setup, teardown),
        cmocka_unit_test_setup_teardown(test_server_pinned, setup, teardown),
        cmocka_unit_test_setup_teardown(test_server_foreign_leaf, setup, teardown),
        cmocka_unit_test_setup_teardown(test_server_bundle, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
