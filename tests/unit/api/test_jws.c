/* Every way a signed request can be wrong: a clear answer, a fresh nonce, and nothing changed. */
#include "tests/unit/api/client.h"

static struct world *w;

static int group_setup(void **state)
{
    w = world_new(3600);
    return 0;
}

static int group_teardown(void **state)
{
    world_free(w);
    return 0;
}

/* Sends body to newOrder as it is. */
static long raw(struct client *c, const struct buf *b)
{
    return ask(c, "POST", "/acme/new-order", b->p, b->len, "application/jose+json", false);
}

static const char payload[] = "{\"identifiers\":[{\"type\":\"uri\",\"value\":\"spiffe://test.example/web\"}]}";

/* header: with %s for nonce and %s for url, in this order. */
static long crafted(struct client *c, const char *alg_and_key)
{
    char header[2048], url[1024];
    struct buf b;
    buf_init(&b, 8192);
    full_url(c, "/acme/new-order", url);
    snprintf(header, sizeof header, "{%s,\"nonce\":\"%s\",\"url\":\"%s\"}", alg_and_key, fresh(c), url);
    c->nonce[0] = 0;
    jws_raw(&b, c->key, header, payload);
    long status = raw(c, &b);
    buf_free(&b);
    return status;
}

static void test_algorithms(void **state)
{
    struct client *c = client_new(w);
    char head[600];
    account(c);
    static const char *const bad[] = {"none", "HS256", "HS512", "ES256K", "PS256", "", "RS1"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(head, sizeof head, "\"alg\":\"%s\",\"kid\":\"%s\"", bad[i], c->kid);
        crafted(c, head);
        assert_problem(c, 400, "badSignatureAlgorithm");
        assert_int_equal(json_array_size(json_object_get(c->doc, "algorithms")), 4);
    }
    snprintf(head, sizeof head, "\"alg\":\"ES384\",\"kid\":\"%s\"", c->kid); /* not this key's */
    crafted(c, head);
    assert_problem(c, 400, "badSignatureAlgorithm");
    /* "none" as it is meant: with an empty signature */
    struct buf b;
    buf_init(&b, 8192);
    snprintf(head, sizeof head, "{\"alg\":\"none\",\"kid\":\"%s\",\"nonce\":\"%s\",\"url\":\"%s/acme/new-order\"}", c->kid, fresh(c),
             w->config->external_url);
    buf_str(&b, "{\"protected\":\"");
    buf_b64url(&b, head, strlen(head));
    buf_str(&b, "\",\"payload\":\"\",\"signature\":\"\"}");
    raw(c, &b);
    assert_problem(c, 400, "badSignatureAlgorithm");
    buf_free(&b);
    client_free(c);
}

static void test_keys(void **state)
{
    struct client *c = client_new(w);
    struct err e = {0};
    struct buf jwk;
    char head[1200];
    buf_init(&jwk, 1024);
    must(jwk_write(&jwk, c->key, &e), &e);
    account(c);
    snprintf(head, sizeof head, "\"alg\":\"ES256\",\"kid\":\"%s\",\"jwk\":%s", c->kid, buf_cstr(&jwk));
    crafted(c, head);
    assert_problem(c, 400, "malformed");
    assert_string_equal(member(c, "rule"), "jws-key");
    crafted(c, "\"alg\":\"ES256\"");
    assert_problem(c, 400, "malformed");
    snprintf(head, sizeof head, "\"alg\":\"ES256\",\"jwk\":%s", buf_cstr(&jwk)); /* newOrder is for accounts */
    crafted(c, head);
    assert_problem(c, 400, "malformed");
    assert_string_equal(member(c, "rule"), "jws-key");
    post(c, "/acme/new-account", "{}"); /* and newAccount for keys */
    assert_problem(c, 400, "malformed");
    assert_string_equal(member(c, "rule"), "jws-key");
    static const char *const kids[] = {"AAAAAAAAAAAAAAAAAAAAAA", "https://elsewhere.example/acme/account/AAAAAAAAAAAAAAAAAAAAAA", "1"};
    for (size_t i = 0; i < sizeof kids / sizeof *kids; i++) {
        snprintf(head, sizeof head, "\"alg\":\"ES256\",\"kid\":\"%s\"", kids[i]);
        crafted(c, head);
        assert_problem(c, 400, "accountDoesNotExist");
    }
    snprintf(head, sizeof head, "\"alg\":\"ES256\",\"kid\":\"%s\",\"crit\":[\"b64\"],\"b64\":false", c->kid);
    crafted(c, head);
    assert_problem(c, 400, "malformed");
    buf_free(&jwk);
    client_free(c);
}

static void test_signatures(void **state)
{
    struct client *a = client_new(w), *b = client_new(w);
    char kid[256], url[1024];
    struct err e = {0};
    struct buf jws;
    account(a);
    account(b);
    snprintf(kid, sizeof kid, "%s", b->kid);
    snprintf(b->kid, sizeof b->kid, "%s", a->kid); /* b's key, a's name */
    post(b, "/acme/new-order", payload);
    assert_problem(b, 401, "unauthorized");
    assert_string_equal(member(b, "rule"), "signature");
    snprintf(b->kid, sizeof b->kid, "%s", kid);
    buf_init(&jws, 8192);
    full_url(a, "/acme/new-order", url);
    must(jws_sign(&jws, a->key, a->kid, fresh(a), url, payload, sizeof payload - 1, &e), &e);
    uint8_t *last = jws.p + jws.len - 10; /* within the signature */
    *last = *last == 'A' ? 'B' : 'A';
    raw(a, &jws);
    assert_problem(a, 401, "unauthorized");
    buf_free(&jws);
    assert_int_equal(strlen(a->nonce), 16);
    post(a, a->kid, NULL);
    assert_int_equal(a->status, 200);
    post(a, kid, NULL); /* another's account, by its own key */
    assert_problem(a, 403, "unauthorized");
    client_free(a);
    client_free(b);
}

static void test_url(void **state)
{
    static const char *const wrong[] = {"/acme/new-account", "/acme/new-order/", "/acme/new-order?x=1", ""};
    struct client *c = client_new(w);
    struct err e = {0};
    struct buf b;
    char url[1024];
    account(c);
    buf_init(&b, 8192);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        full_url(c, "/acme/new-order", url);
        snprintf(url + strlen(w->config->external_url), sizeof url - 100, "%s", wrong[i]);
        buf_reset(&b);
        must(jws_sign(&b, c->key, c->kid, fresh(c), url, payload, sizeof payload - 1, &e), &e);
        raw(c, &b);
        assert_problem(c, 401, "unauthorized");
        assert_string_equal(member(c, "rule"), "jws-url");
    }
    buf_reset(&b);
    must(jws_sign(&b, c->key, c->kid, fresh(c), "https://evil.example/acme/new-order", payload, sizeof payload - 1, &e), &e);
    raw(c, &b);
    assert_problem(c, 401, "unauthorized");
    buf_reset(&b); /* a query that was not signed */
    full_url(c, "/acme/new-order", url);
    must(jws_sign(&b, c->key, c->kid, fresh(c), url, payload, sizeof payload - 1, &e), &e);
    ask(c, "POST", "/acme/new-order?x=1", b.p, b.len, "application/jose+json", false);
    assert_problem(c, 401, "unauthorized");
    buf_free(&b);
    client_free(c);
}

static void test_nonces(void **state)
{
    struct client *c = client_new(w);
    struct err e = {0};
    struct buf b;
    char url[1024];
    account(c);
    buf_init(&b, 8192);
    full_url(c, "/acme/new-order", url);
    static const char *const bad[] = {"AAAAAAAAAAAAAAAA", "x", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", NULL};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        buf_reset(&b);
        must(jws_sign(&b, c->key, c->kid, bad[i], url, payload, sizeof payload - 1, &e), &e);
        raw(c, &b);
        assert_problem(c, 400, "badNonce");
    }
    buf_reset(&b);
    must(jws_sign(&b, c->key, c->kid, fresh(c), c->kid, NULL, 0, &e), &e);
    assert_int_equal(ask(c, "POST", c->kid, b.p, b.len, "application/jose+json", false), 200);
    ask(c, "POST", c->kid, b.p, b.len, "application/jose+json", false); /* the very same, again */
    assert_problem(c, 400, "badNonce");
    assert_int_equal(post(c, c->kid, NULL), 200); /* with the nonce of the refusal */
    buf_free(&b);
    client_free(c);
}

static void test_bodies(void **state)
{
    struct client *c = client_new(w);
    struct buf b;
    char url[1024];
    struct err e = {0};
    account(c);
    buf_init(&b, 1 << 20);
    full_url(c, "/acme/new-order", url);
    must(jws_sign(&b, c->key, c->kid, fresh(c), url, payload, sizeof payload - 1, &e), &e);
    static const char *const types[] = {"application/json", "application/jose", "text/plain", "application/jose+jsonx", NULL};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        ask(c, "POST", "/acme/new-order", b.p, b.len, types[i], false);
        assert_problem(c, 415, "malformed");
    }
    buf_str(&b, " x"); /* trailing bytes */
    raw(c, &b);
    assert_problem(c, 400, "malformed");
    static const char *const broken[] = {
        "", "{}", "[]", "null", "{\"protected\":1,\"payload\":\"\",\"signature\":\"\"}", "eyJhbGciOiJFUzI1NiJ9.e30.AAAA",
        "{\"protected\":\"e30\",\"protected\":\"e30\",\"payload\":\"\",\"signature\":\"AA\"}",
        "{\"protected\":\"e30\",\"payload\":\"\",\"signature\":\"AA\",\"header\":{}}",
        "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]"};
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        buf_reset(&b);
        buf_str(&b, broken[i]);
        raw(c, &b);
        assert_problem(c, 400, "malformed");
    }
    static const size_t sizes[] = {65537, 100000, 1000000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        buf_reset(&b);
        while (b.len < sizes[i])
            buf_u8(&b, ' ');
        raw(c, &b);
        assert_problem(c, 413, "malformed");
    }
    while (b.len > 65536) /* just fits; then it is merely empty */
        b.len--;
    raw(c, &b);
    assert_problem(c, 400, "malformed");
    buf_free(&b);
    client_free(c);
}

static void test_payloads(void **state)
{
    static const struct {
        const char *payload;
        long status;
        const char *type;
    } cases[] = {
        {"x", 400, "malformed"},
        {"{}", 400, "malformed"},
        {"{\"identifiers\":[{\"type\":\"uri\",\"value\":\"spiffe://test.example/web\"}],\"identifiers\":[]}", 400, "malformed"},
        {"{\"identifiers\":[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]}", 400, "malformed"},
        {"{\"identifiers\":[{\"type\":\"email\",\"value\":\"a@b\"}]}", 400, "unsupportedIdentifier"},
        {"{\"identifiers\":[{\"type\":\"uri\",\"value\":\"spiffe://test.example/web\"}],\"csr\":\"!\"}", 400, "badCSR"},
        {"{\"identifiers\":[{\"type\":\"remote-attestation\",\"value\":\"web\"}]}", 403, "rejectedIdentifier"},
    };
    struct client *c = client_new(w);
    char type[128];
    account(c);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        post(c, "/acme/new-order", cases[i].payload);
        snprintf(type, sizeof type, "urn:ietf:params:acme:error:%s", cases[i].type);
        if (c->status != cases[i].status || strcmp(member(c, "type"), type) != 0)
            fail_msg("%s: %ld %s", cases[i].payload, c->status, member(c, "type"));
        assert_int_equal(strlen(answer_header(c, "Replay-Nonce")), 16);
    }
    client_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_algorithms), cmocka_unit_test(test_keys),   cmocka_unit_test(test_signatures),
        cmocka_unit_test(test_url),        cmocka_unit_test(test_nonces), cmocka_unit_test(test_bodies),
        cmocka_unit_test(test_payloads),
    };
    curl_global_init(CURL_GLOBAL_DEFAULT);
    int rc = cmocka_run_group_tests(tests, group_setup, group_teardown);
    curl_global_cleanup();
    return rc;
}
