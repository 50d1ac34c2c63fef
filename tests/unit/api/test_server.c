/* The server over loopback TLS: what it shows, and orders from their first step to a certificate. */
#include "tests/unit/api/client.h"
#include <sys/stat.h>

#define WEB "spiffe://test.example/web"

static struct world *w;

static int group_setup(void **state)
{
    w = world_new(3600);
    entry_make(w, "{\"spiffe_id\":\"" WEB "\",\"dns\":[\"web.test.example\"],\"ttl\":120}");
    return 0;
}

static int group_teardown(void **state)
{
    world_free(w);
    return 0;
}

static void test_public(void **state)
{
    struct client *c = client_new(w);
    assert_int_equal(get(c, "/acme/directory"), 200);
    char url[1024];
    full_url(c, "/acme/new-order", url);
    assert_string_equal(member(c, "newOrder"), url);
    json_t *ours = json_object_get(json_object_get(c->doc, "meta"), "mayfly");
    assert_true(json_is_true(json_object_get(ours, "oneRoundTrip")));
    assert_int_equal(json_array_size(json_object_get(ours, "evidence")), attest_media_types_count);
    assert_string_equal(answer_header(c, "Link"), "");
    /* By another of its names, the directory speaks with that name. */
    snprintf(url, sizeof url, "https://127.0.0.1:%u/acme/directory", w->port);
    assert_int_equal(get(c, url), 200);
    snprintf(url, sizeof url, "https://127.0.0.1:%u/acme/new-nonce", w->port);
    assert_string_equal(member(c, "newNonce"), url);

    assert_int_equal(ask(c, "HEAD", "/acme/new-nonce", NULL, 0, NULL, false), 200);
    assert_int_equal(strlen(answer_header(c, "Replay-Nonce")), 16);
    assert_string_equal(answer_header(c, "Cache-Control"), "no-store");
    assert_int_equal(get(c, "/acme/new-nonce"), 204);
    assert_int_equal(strlen(answer_header(c, "Replay-Nonce")), 16);
    assert_int_equal(c->body.len, 0);

    assert_int_equal(get(c, "/healthz"), 200);
    assert_int_equal(get(c, "/readyz"), 200);
    assert_int_equal(get(c, "/spiffe/bundle"), 200);
    assert_int_equal(json_array_size(json_object_get(c->doc, "keys")), 1);
    assert_int_equal(ask(c, "HEAD", "/spiffe/bundle", NULL, 0, NULL, false), 200);
    assert_int_equal(c->body.len, 0);
    assert_true(atoi(answer_header(c, "Content-Length")) > 100);
    assert_int_equal(get(c, "/acme/issuer"), 200);
    const unsigned char *p = c->body.p;
    X509 *x = d2i_X509(NULL, &p, (long)c->body.len);
    assert_int_equal(X509_cmp(x, w->issuing), 0);
    X509_free(x);
    client_free(c);
}

static void test_absent(void **state)
{
    struct client *c = client_new(w);
    static const char *const lost[] = {"/", "/acme/", "/nothing", "/acme/order/short", "/admin/v1/status", "/log/", "/spiffe/"};
    for (size_t i = 0; i < sizeof lost / sizeof *lost; i++) {
        assert_int_equal(get(c, lost[i]), 404);
        assert_string_equal(member(c, "rule"), "path");
    }
    static const char *const post_only[] = {"/acme/new-order", "/acme/new-account", "/acme/order/AAAAAAAAAAAAAAAAAAAAAA",
                                            "/acme/certificate/AAAAAAAAAAAAAAAAAAAAAA"};
    for (size_t i = 0; i < sizeof post_only / sizeof *post_only; i++) {
        assert_int_equal(get(c, post_only[i]), 405);
        assert_string_equal(answer_header(c, "Allow"), "POST");
        assert_non_null(strstr(member(c, "detail"), "POST-as-GET"));
    }
    ask(c, "POST", "/acme/new-nonce", "{}", 2, "application/jose+json", false);
    assert_problem(c, 405, "malformed");
    ask(c, "POST", "/acme/nothing", "{}", 2, "application/jose+json", false);
    assert_problem(c, 404, "malformed");
    assert_int_equal(ask(c, "DELETE", "/healthz", NULL, 0, NULL, false), 405);
    client_free(c);
}

static void put_file(const char *name, const char *text)
{
    char path[256];
    struct err e = {0};
    snprintf(path, sizeof path, "%s/%s", w->config->log.dir, name);
    must(file_write_atomic(path, text, strlen(text), 0644, false, &e), &e);
}

static void test_log(void **state)
{
    struct client *c = client_new(w);
    char from[300], to[300];
    struct stat st;
    assert_int_equal(get(c, "/log/checkpoint"), 404);
    put_file("checkpoint", "test.example/log1\n3\nAAAA\n");
    put_file("head", "secret head");
    snprintf(from, sizeof from, "%s/tile/0", w->config->log.dir);
    assert_true(stat(from, &st) < 0 && mkdir(from, 0755) == 0);
    put_file("tile/0/000", "0123456789");
    assert_int_equal(get(c, "/log/checkpoint"), 200);
    assert_non_null(strstr(answer_header(c, "Content-Type"), "text/plain"));
    assert_string_equal(answer_header(c, "Cache-Control"), "public, max-age=1");
    assert_memory_equal(c->body.p, "test.example/log1\n", 18);
    assert_int_equal(get(c, "/log/tile/0/000"), 200);
    assert_int_equal(c->body.len, 10);
    assert_non_null(strstr(answer_header(c, "Cache-Control"), "immutable"));
    assert_int_equal(ask(c, "HEAD", "/log/tile/0/000", NULL, 0, NULL, false), 200);
    snprintf(from, sizeof from, "%s/mayfly.yaml", w->dir);
    snprintf(to, sizeof to, "%s/tile/0/001", w->config->log.dir);
    assert_int_equal(symlink(from, to), 0);
    static const char *const lost[] = {"/log/head", "/log/tile/0/001", "/log/tile/0/002", "/log/../mayfly.yaml", "/log/%2e%2e/mayfly.yaml",
                                       "/log/tile/0", "/log/tile/0/000.p/0", "/log//checkpoint", "/log/tile/0/../0/000"};
    for (size_t i = 0; i < sizeof lost / sizeof *lost; i++)
        if (get(c, lost[i]) != 404)
            fail_msg("%s: %ld", lost[i], c->status);
    client_free(c);
}

static void test_accounts(void **state)
{
    struct client *c = client_new(w);
    char kid[256];
    post(c, "/acme/new-account", "{\"onlyReturnExisting\":true}");
    assert_problem(c, 400, "accountDoesNotExist");
    post(c, "/acme/new-account", "{\"contact\":[\"tel:1\"]}");
    assert_problem(c, 400, "unsupportedContact");
    post(c, "/acme/new-account", "{\"contact\":[\"mailto:x\"]}");
    assert_problem(c, 400, "invalidContact");
    account(c);
    assert_string_equal(member(c, "status"), "valid");
    snprintf(kid, sizeof kid, "%s", c->kid);
    c->kid[0] = 0;
    assert_int_equal(post(c, "/acme/new-account", "{\"onlyReturnExisting\":true}"), 200);
    assert_string_equal(answer_header(c, "Location"), kid);
    assert_int_equal(post(c, "/acme/new-account", "{}"), 200);
    snprintf(c->kid, sizeof c->kid, "%s", kid);
    assert_int_equal(post(c, kid, NULL), 200);
    assert_int_equal(post(c, kid, "{\"contact\":[\"mailto:a@b.example\"]}"), 200);
    assert_int_equal(post(c, kid, "{\"status\":\"valid\",\"orders\":\"x\"}"), 200);
    assert_string_equal(member(c, "status"), "valid");
    /* its open orders */
    char orders[300], order[300];
    snprintf(orders, sizeof orders, "%s", member(c, "orders"));
    assert_int_equal(post(c, orders, NULL), 200);
    assert_int_equal(json_array_size(json_object_get(c->doc, "orders")), 0);
    assert_int_equal(post(c, "/acme/new-order", "{\"identifiers\":[{\"type\":\"uri\",\"value\":\"" WEB "\"}]}"), 201);
    snprintf(order, sizeof order, "%s", answer_header(c, "Location"));
    assert_int_equal(post(c, orders, NULL), 200);
    assert_int_equal(json_array_size(json_object_get(c->doc, "orders")), 1);
    assert_string_equal(json_string_value(json_array_get(json_object_get(c->doc, "orders"), 0)), order);
    post(c, orders, "{}");
    assert_problem(c, 400, "malformed");
    post(c, "/acme/orders/AAAAAAAAAAAAAAAAAAAAAA", NULL);
    assert_problem(c, 403, "unauthorized");
    assert_int_equal(post(c, kid, "{\"status\":\"deactivated\"}"), 200);
    assert_string_equal(member(c, "status"), "deactivated");
    post(c, kid, NULL);
    assert_problem(c, 401, "unauthorized");
    c->kid[0] = 0;
    post(c, "/acme/new-account", "{}");
    assert_problem(c, 401, "unauthorized");
    client_free(c);
}

/* Leaf for this ID, issued by the issuing certificate. */
static void check_chain(const char *pem, size_t len, const char *id)
{
    BIO *bio = BIO_new_mem_buf(pem, (int)len);
    X509 *leaf = PEM_read_bio_X509(bio, NULL, NULL, NULL), *issuing = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    assert_non_null(leaf);
    assert_int_equal(X509_cmp(issuing, w->issuing), 0);
    assert_int_equal(X509_verify(leaf, X509_get0_pubkey(issuing)), 1);
    GENERAL_NAMES *names = X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);
    const GENERAL_NAME *first = sk_GENERAL_NAME_value(names, 0);
    assert_int_equal(first->type, GEN_URI);
    assert_string_equal(ASN1_STRING_get0_data(first->d.uniformResourceIdentifier), id);
    GENERAL_NAMES_free(names);
    X509_free(leaf);
    X509_free(issuing);
    BIO_free(bio);
}

static void keep(char dst[512], const char *value)
{
    assert_true(value && *value);
    snprintf(dst, 512, "%s", value);
}

static void test_rfc8555(void **state)
{
    struct client *c = client_new(w);
    struct buf b;
    char order[512], authz[512], challenge[512], finalize[512], url[512];
    account(c);
    assert_int_equal(post(c, "/acme/new-order", "{\"identifiers\":[{\"type\":\"uri\",\"value\":\"" WEB "\"}]}"), 201);
    assert_string_equal(member(c, "status"), "pending");
    keep(order, answer_header(c, "Location"));
    keep(finalize, member(c, "finalize"));
    keep(authz, json_string_value(json_array_get(json_object_get(c->doc, "authorizations"), 0)));
    assert_int_equal(json_array_size(json_object_get(c->doc, "identifiers")), 1);

    assert_int_equal(post(c, authz, NULL), 200);
    assert_string_equal(member(c, "status"), "pending");
    json_t *ch = json_array_get(json_object_get(c->doc, "challenges"), 0);
    assert_string_equal(json_string_value(json_object_get(ch, "type")), "remote-attest-01");
    assert_string_equal(json_string_value(json_object_get(ch, "token")), json_string_value(json_object_get(ch, "freshness_nonce")));
    keep(challenge, json_string_value(json_object_get(ch, "url")));
    keep(url, json_string_value(json_object_get(ch, "token")));

    buf_init(&b, 65536);
    buf_str(&b, "{\"csr\":\"");
    struct buf csr;
    buf_init(&csr, 8192);
    csr_make(&csr, "URI:" WEB);
    buf_b64url(&b, csr.p, csr.len);
    buf_str(&b, "\"}");
    buf_free(&csr);
    post(c, finalize, buf_cstr(&b));
    assert_problem(c, 403, "orderNotReady");

    post(c, challenge, "{}");
    assert_problem(c, 400, "malformed");
    assert_non_null(strstr(member(c, "detail"), "JSON record form"));
    struct buf evidence;
    buf_init(&evidence, 8192);
    evidence_make(c, &evidence, WEB, url);
    assert_int_equal(post(c, challenge, buf_cstr(&evidence)), 200);
    buf_free(&evidence);
    assert_string_equal(member(c, "status"), "valid");
    assert_true(*member(c, "validated"));
    assert_non_null(strstr(c->headers, "rel=\"up\""));
    assert_int_equal(post(c, challenge, NULL), 200);
    assert_int_equal(post(c, order, NULL), 200);
    assert_string_equal(member(c, "status"), "ready");
    assert_string_equal(answer_header(c, "Location"), order);

    if (post(c, finalize, buf_cstr(&b)) != 200)
        fail_msg("finalize: %.*s", (int)c->body.len, (const char *)c->body.p);
    buf_free(&b);
    assert_string_equal(answer_header(c, "Location"), order);
    while (strcmp(member(c, "status"), "processing") == 0) {
        assert_true(*answer_header(c, "Retry-After"));
        post(c, order, NULL);
    }
    assert_string_equal(member(c, "status"), "valid");
    assert_null(json_object_get(c->doc, "certificateChain"));
    keep(url, member(c, "certificate"));
    assert_int_equal(post(c, url, NULL), 200);
    assert_string_equal(answer_header(c, "Content-Type"), "application/pem-certificate-chain");
    assert_non_null(strstr(c->headers, "/acme/issuer>;rel=\"up\""));
    check_chain((char *)c->body.p, c->body.len, WEB);

    struct client *other = client_new(w); /* none of this is for another account */
    account(other);
    assert_true(post(other, order, NULL) >= 403);
    assert_true(post(other, authz, NULL) >= 403);
    assert_true(post(other, url, NULL) >= 403);
    client_free(other);
    client_free(c);
}

static void first_order(struct client *c)
{
    struct buf evidence, payload;
    buf_init(&evidence, 8192);
    buf_init(&payload, 32768);
    account(c);
    evidence_make(c, &evidence, WEB, fresh(c));
    order_payload(&payload, WEB, &evidence);
    if (post(c, "/acme/new-order", buf_cstr(&payload)) != 201)
        fail_msg("%.*s", (int)c->body.len, (const char *)c->body.p);
    buf_free(&evidence);
    buf_free(&payload);
}

static void test_one_round_trip(void **state)
{
    struct client *c = client_new(w);
    struct buf payload;
    first_order(c);
    assert_string_equal(member(c, "status"), "valid");
    check_chain(member(c, "certificateChain"), strlen(member(c, "certificateChain")), WEB);
    assert_true(*answer_header(c, "Location"));
    buf_init(&payload, 32768);
    order_payload(&payload, WEB, NULL);
    for (int i = 0; i < 20; i++) { /* warm: authorized already, one connection, one request each */
        assert_int_equal(post(c, "/acme/new-order", buf_cstr(&payload)), 201);
        assert_string_equal(member(c, "status"), "valid");
        check_chain(member(c, "certificateChain"), strlen(member(c, "certificateChain")), WEB);
        assert_int_equal(strlen(answer_header(c, "Replay-Nonce")), 16);
    }
    char url[512];
    keep(url, member(c, "certificate"));
    assert_int_equal(post(c, url, NULL), 200);
    check_chain((char *)c->body.p, c->body.len, WEB);
    buf_reset(&payload);
    order_payload(&payload, "spiffe://test.example/other", NULL);
    post(c, "/acme/new-order", buf_cstr(&payload)); /* a plain order, or a refusal: no certificate */
    assert_string_equal(member(c, "certificateChain"), "");
    buf_free(&payload);
    client_free(c);
}

#define THREADS 6
#define ROUNDS 25

static void *warm_run(void *arg)
{
    struct client *c = arg;
    struct buf payload;
    buf_init(&payload, 32768);
    order_payload(&payload, WEB, NULL);
    for (int i = 0; i < ROUNDS; i++)
        if (post(c, "/acme/new-order", buf_cstr(&payload)) != 201 || strcmp(member(c, "status"), "valid") != 0)
            abort();
    buf_free(&payload);
    return NULL;
}

static void test_many(void **state)
{
    struct client *c[THREADS];
    pthread_t t[THREADS];
    for (int i = 0; i < THREADS; i++)
        first_order(c[i] = client_new(w));
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&t[i], NULL, warm_run, c[i]), 0);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(t[i], NULL);
        client_free(c[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_public),  cmocka_unit_test(test_absent),         cmocka_unit_test(test_log),
        cmocka_unit_test(test_accounts), cmocka_unit_test(test_rfc8555), cmocka_unit_test(test_one_round_trip),
        cmocka_unit_test(test_many),
    };
    curl_global_init(CURL_GLOBAL_DEFAULT);
    int rc = cmocka_run_group_tests(tests, group_setup, group_teardown);
    curl_global_cleanup();
    return rc;
}
