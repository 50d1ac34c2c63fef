/* Revocation over HTTP: revokeCert of ACME, and the operator's. */
#include "tests/unit/api/client.h"
#include <openssl/pem.h>

#define WEB "spiffe://test.example/web"
#define OTHER "spiffe://test.example/other"

static struct world *w;

static int setup(void **state)
{
    w = world_new(3600);
    entry_make(w, "{\"spiffe_id\":\"" WEB "\"}");
    entry_make(w, "{\"spiffe_id\":\"" OTHER "\"}");
    return 0;
}

static int teardown(void **state)
{
    world_free(w);
    return 0;
}

/* --- certificates ---------------------------------------------------------------------------------- */

struct issued {
    struct key *key;
    struct bytes der; /* owned */
};

static void csr_by(struct buf *der, EVP_PKEY *k, const char *id)
{
    char san[200];
    snprintf(san, sizeof san, "URI:%s", id);
    X509_REQ *req = X509_REQ_new();
    STACK_OF(X509_EXTENSION) *exts = sk_X509_EXTENSION_new_null();
    sk_X509_EXTENSION_push(exts, X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, san));
    X509_REQ_set_pubkey(req, k);
    X509_REQ_add_extensions(req, exts);
    X509_REQ_sign(req, k, EVP_sha256());
    uint8_t *p = NULL;
    int n = i2d_X509_REQ(req, &p);
    buf_put(der, p, (size_t)n);
    OPENSSL_free(p);
    sk_X509_EXTENSION_pop_free(exts, X509_EXTENSION_free);
    X509_REQ_free(req);
}

/* One round trip, with this key; evidence the first time. */
static long order(struct client *c, const char *id, struct key *k, bool prove)
{
    struct buf csr, evidence, payload;
    buf_init(&csr, 8192);
    buf_init(&evidence, 8192);
    buf_init(&payload, 1 << 16);
    csr_by(&csr, key_evp(k), id);
    buf_fmt(&payload, "{\"identifiers\":[{\"type\":\"uri\",\"value\":\"%s\"}],\"csr\":\"", id);
    buf_b64url(&payload, csr.p, csr.len);
    buf_str(&payload, "\"");
    if (prove) {
        evidence_make(c, &evidence, id, fresh(c));
        buf_str(&payload, ",\"evidence\":");
        buf_put(&payload, evidence.p, evidence.len);
    }
    buf_str(&payload, "}");
    post(c, "/acme/new-order", buf_cstr(&payload));
    buf_free(&csr);
    buf_free(&evidence);
    buf_free(&payload);
    return c->status;
}

static struct issued obtain(struct client *c, const char *id, bool prove)
{
    struct err e = {0};
    struct issued i = {.key = key_generate(KEY_P256, &e)};
    assert_int_equal(order(c, id, i.key, prove), 201);
    const char *chain = member(c, "certificateChain");
    BIO *bio = BIO_new_mem_buf(chain, (int)strlen(chain));
    X509 *x = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    assert_non_null(x);
    i.der = der_of(x);
    X509_free(x);
    BIO_free(bio);
    return i;
}

static void issued_free(struct issued *i)
{
    key_free(i->key);
    der_free(i->der);
}

static long revoke_cert(struct client *c, struct bytes der, const char *more)
{
    struct buf b;
    buf_init(&b, 1 << 16);
    buf_str(&b, "{\"certificate\":\"");
    buf_b64url(&b, der.p, der.len);
    buf_fmt(&b, "\"%s}", more);
    post(c, "/acme/revoke-cert", buf_cstr(&b));
    buf_free(&b);
    return c->status;
}

/* Signed by the certificate's own key, with its jwk. */
static long revoke_by_key(struct issued *i, const char *more, struct client **by)
{
    *by = client_new(w);
    key_free((*by)->key);
    struct err e = {0};
    (*by)->key = key_from_evp(key_evp(i->key), &e);
    return revoke_cert(*by, i->der, more);
}

/* --- revokeCert ------------------------------------------------------------------------------------- */

static void test_directory(void **state)
{
    struct client *c = client_new(w);
    char url[1024];
    full_url(c, "/acme/revoke-cert", url);
    assert_int_equal(get(c, "/acme/directory"), 200);
    assert_string_equal(member(c, "revokeCert"), url);
    assert_string_equal(member(c, "keyChange"), "");
    client_free(c);
}

/* The session that got it, which goes on; twice is once too often. */
static void test_by_account(void **state)
{
    struct client *c = client_new(w), *operator = client_new(w);
    account(c);
    struct issued i = obtain(c, WEB, true);
    assert_int_equal(revoke_cert(c, i.der, ",\"reason\":4"), 200);
    assert_int_equal(c->body.len, 0);
    revoke_cert(c, i.der, "");
    assert_problem(c, 400, "alreadyRevoked");
    assert_int_equal(order(c, WEB, i.key, false), 201); /* superseded: no harm to the key */
    struct issued j = obtain(c, WEB, false);
    assert_int_equal(revoke_cert(c, j.der, ",\"reason\":1"), 200);
    order(c, WEB, j.key, false);
    assert_problem(c, 400, "badCSR");
    assert_string_equal(member(c, "rule"), "csr-key-revoked");
    assert_int_equal(admin(operator, "GET", "/admin/v1/revocations", NULL), 200);
    const json_t *list = json_object_get(operator->doc, "revocations"), *first = json_array_get(list, 0);
    assert_int_equal(json_array_size(list), 2);
    assert_string_equal(json_string_value(json_object_get(first, "by")), "serial");
    assert_string_equal(json_string_value(json_object_get(first, "reason")), "superseded");
    assert_memory_equal(json_string_value(json_object_get(first, "actor")), "acme:", 5);
    assert_string_equal(json_string_value(json_object_get(first, "actor")) + 5, c->thumbprint);
    issued_free(&i);
    issued_free(&j);
    client_free(c);
    client_free(operator);
}

/* The certificate's own key: the session behind it is taken for lost. */
static void test_by_key(void **state)
{
    struct client *c = client_new(w), *by;
    account(c);
    struct issued i = obtain(c, WEB, true);
    assert_int_equal(revoke_by_key(&i, ",\"reason\":1", &by), 200);
    client_free(by);
    revoke_by_key(&i, "", &by);
    assert_problem(by, 400, "alreadyRevoked");
    client_free(by);
    order(c, WEB, i.key, false);
    assert_problem(c, 401, "unauthorized");
    assert_string_equal(member(c, "rule"), "session-revoked");
    c->kid[0] = 0; /* a new account with the old key */
    post(c, "/acme/new-account", "{}");
    assert_problem(c, 401, "unauthorized");
    issued_free(&i);
    client_free(c);
}

/* Another account: only when it is authorized for the certificate's ID. */
static void test_by_another(void **state)
{
    struct client *c = client_new(w), *same = client_new(w), *other = client_new(w), *by;
    account(c);
    account(same);
    account(other);
    struct issued i = obtain(c, WEB, true), j = obtain(same, WEB, true), k = obtain(other, OTHER, true);
    revoke_cert(other, i.der, "");
    assert_problem(other, 403, "unauthorized");
    assert_string_equal(member(other, "rule"), "revoke-asker");
    struct issued mixed = {.key = k.key, .der = i.der};
    revoke_by_key(&mixed, "", &by);
    assert_problem(by, 403, "unauthorized");
    client_free(by);
    assert_int_equal(revoke_cert(same, i.der, ""), 200);
    assert_int_equal(order(c, WEB, i.key, false), 201); /* whoever else may revoke ends no session of it */
    issued_free(&i);
    issued_free(&j);
    issued_free(&k);
    client_free(c);
    client_free(same);
    client_free(other);
}

static void test_bad(void **state)
{
    struct client *c = client_new(w);
    account(c);
    struct issued i = obtain(c, WEB, true);
    static const char *const reasons[] = {",\"reason\":7", ",\"reason\":8", ",\"reason\":11", ",\"reason\":-1",
                                          ",\"reason\":\"1\"", ",\"reason\":1.5", ",\"reason\":null"};
    for (size_t n = 0; n < sizeof reasons / sizeof *reasons; n++) {
        revoke_cert(c, i.der, reasons[n]);
        assert_problem(c, 400, "badRevocationReason");
    }
    static const char *const payloads[] = {"{}", "[]", "{\"certificate\":1}", "{\"certificate\":\"\"}", "{\"certificate\":\"AA=\"}",
                                           "{\"certificate\":\"AAAA\"}"};
    for (size_t n = 0; n < sizeof payloads / sizeof *payloads; n++) {
        post(c, "/acme/revoke-cert", payloads[n]);
        assert_problem(c, 400, "malformed");
    }
    uint8_t *longer = malloc(i.der.len + 1);
    memcpy(longer, i.der.p, i.der.len);
    longer[i.der.len] = 0;
    revoke_cert(c, (struct bytes){longer, i.der.len + 1}, "");
    assert_problem(c, 400, "malformed");
    longer[i.der.len - 1] ^= 1; /* its signature */
    revoke_cert(c, (struct bytes){longer, i.der.len}, "");
    assert_problem(c, 404, "malformed");
    free(longer);
    X509 *own = certificate(key_evp(i.key), "x", NULL, key_evp(i.key), false, NULL, 100);
    struct bytes foreign = der_of(own);
    revoke_cert(c, foreign, "");
    assert_problem(c, 404, "malformed");
    assert_string_equal(member(c, "rule"), "cert-foreign");
    der_free(foreign);
    X509_free(own);
    own = certificate(key_evp(i.key), NULL, w->issuing, w->issuing_key, false, "URI:" WEB, -5);
    foreign = der_of(own);
    revoke_cert(c, foreign, "");
    assert_problem(c, 400, "malformed");
    assert_string_equal(member(c, "rule"), "cert-expired");
    der_free(foreign);
    X509_free(own);
    assert_int_equal(get(c, "/acme/revoke-cert"), 405);
    issued_free(&i);
    client_free(c);
}

/* --- the operator's ------------------------------------------------------------------------------------- */

static void test_admin(void **state)
{
    struct client *c = client_new(w), *o = client_new(w);
    account(c);
    struct issued i = obtain(c, WEB, true);
    assert_int_equal(admin(o, "POST", "/admin/v1/revocations",
                           "{\"by\":\"spiffe_id\",\"value\":\"" WEB "\",\"reason\":\"KeyCompromise\",\"comment\":\"x\"}"), 201);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(o->doc, "ended"), "sessions")), 1);
    assert_string_equal(member(o, "reason"), "keyCompromise");
    assert_memory_equal(member(o, "actor"), "uid:", 4);
    order(c, WEB, i.key, false);
    assert_problem(c, 401, "unauthorized");
    static const char *const bad[] = {
        "", "{}", "{\"by\":\"spiffe_id\"}", "{\"by\":\"name\",\"value\":\"x\"}", "{\"value\":\"" WEB "\"}",
        "{\"by\":\"spiffe_id\",\"value\":\"" WEB "\",\"reason\":8}", "{\"by\":\"spiffe_id\",\"value\":\"" WEB "\",\"why\":\"x\"}",
        "{\"by\":\"spiffe_id\",\"value\":\"" WEB "\",\"reason\":\"\"}", "{\"by\":\"key\",\"value\":\"00\"}",
        "{\"by\":\"serial\",\"value\":\"x\"}", "{\"by\":1,\"value\":\"x\"}"};
    for (size_t n = 0; n < sizeof bad / sizeof *bad; n++)
        if (admin(o, "POST", "/admin/v1/revocations", bad[n]) != 400)
            fail_msg("%s: %ld", bad[n], o->status);
    assert_int_equal(admin(o, "POST", "/admin/v1/revocations", "{\"by\":\"entry\",\"value\":\"none\"}"), 404);
    assert_int_equal(admin(o, "POST", "/admin/v1/revocations", "{\"by\":\"serial\",\"value\":\"0002:0000\"}"), 404);
    assert_int_equal(admin(o, "POST", "/admin/v1/revocations", "{\"by\":\"prefix\",\"value\":\"" OTHER "\"}"), 201);
    assert_int_equal(admin(o, "GET", "/admin/v1/revocations?limit=1", NULL), 200);
    assert_int_equal(json_array_size(json_object_get(o->doc, "revocations")), 1);
    char next[100];
    snprintf(next, sizeof next, "/admin/v1/revocations?limit=1000&after=%lld",
             (long long)json_integer_value(json_object_get(o->doc, "next")));
    assert_int_equal(admin(o, "GET", next, NULL), 200);
    assert_int_equal(json_array_size(json_object_get(o->doc, "revocations")), 1);
    assert_null(json_object_get(o->doc, "next"));
    static const char *const pages[] = {"limit=0", "limit=1001", "limit=x", "after=x", "after=-1", "after=99999999999999999999"};
    for (size_t n = 0; n < sizeof pages / sizeof *pages; n++) {
        snprintf(next, sizeof next, "/admin/v1/revocations?%s", pages[n]);
        assert_int_equal(admin(o, "GET", next, NULL), 400);
    }
    issued_free(&i);
    client_free(c);
    client_free(o);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {TEST(test_directory), TEST(test_by_account), TEST(test_by_key),
                                       TEST(test_by_another), TEST(test_bad), TEST(test_admin)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
