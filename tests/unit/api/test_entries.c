/* What an agent is told of the entries behind it, over HTTP. */
#include "api/internal.h"
#include "tests/unit/api/client.h"

#define AGENT "spiffe://test.example/host/one"

static struct world *w;
static struct client *c;

static long ask_entries(const char *have, const char *after)
{
    char json[4096];
    snprintf(json, sizeof json, "{\"agent\":\"" AGENT "\",\"have\":\"%s\",\"after\":\"%s\"}", have, after);
    return post(c, "/acme/agent-entries", json);
}

static void attest(void)
{
    struct buf evidence, order;
    char nonce[64];
    entry_make(w, "{\"spiffe_id\":\"" AGENT "\"}");
    account(c);
    buf_init(&evidence, 8192);
    buf_init(&order, 16384);
    snprintf(nonce, sizeof nonce, "%s", fresh(c));
    evidence_make(c, &evidence, AGENT, nonce);
    order_payload(&order, AGENT, &evidence);
    assert_int_equal(post(c, "/acme/new-order", buf_cstr(&order)), 201);
    assert_string_equal(member(c, "status"), "valid");
    buf_free(&evidence);
    buf_free(&order);
}

static void behind(int i, const char *more)
{
    char json[40000];
    snprintf(json, sizeof json, "{\"spiffe_id\":\"spiffe://test.example/w/%03d\",\"parent\":\"" AGENT "\",\"selectors\":[\"unix:uid:%d\"%s]}", i, i,
             more);
    entry_make(w, json);
}

static const json_t *entries(void)
{
    return json_object_get(c->doc, "entries");
}

static const char *text_of(const json_t *x, const char *name)
{
    const char *s = json_string_value(json_object_get(x, name));
    assert_non_null(s);
    return s;
}

static void test_answer(void **state)
{
    char version[64], url[1024];
    assert_int_equal(ask_entries("", ""), 200);
    assert_int_equal(json_array_size(entries()), 0);
    entry_make(w, "{\"spiffe_id\":\"spiffe://test.example/shop\",\"parent\":\"" AGENT "\",\"selectors\":[\"unix:uid:1\",\"a:\\\"b\\\"\"],"
                  "\"dns\":[\"shop.test.example\"],\"ttl\":77,\"hint\":\"a \\\"b\\\"\"}");
    behind(3, "");
    entry_make(w, "{\"spiffe_id\":\"spiffe://test.example/other\"}");
    assert_int_equal(ask_entries("", ""), 200);
    assert_string_equal(answer_header(c, "Content-Type"), "application/json");
    assert_true(json_is_false(json_object_get(c->doc, "more")));
    assert_null(json_object_get(c->doc, "unchanged"));
    assert_int_equal(json_array_size(entries()), 2);
    const json_t *x = json_array_get(entries(), 0);
    assert_string_equal(text_of(x, "spiffe_id"), "spiffe://test.example/shop");
    assert_int_equal(strlen(text_of(x, "id")), RA_ID_LEN);
    assert_string_equal(text_of(x, "hint"), "a \"b\"");
    assert_string_equal(text_of(json_array_get(entries(), 1), "hint"), "");
    assert_int_equal(json_integer_value(json_object_get(x, "ttl")), 77);
    assert_int_equal(json_integer_value(json_object_get(x, "revision")), 1);
    const json_t *next = json_array_get(entries(), 1); /* made later, too */
    assert_true(json_integer_value(json_object_get(x, "number")) > 0);
    assert_true(json_integer_value(json_object_get(next, "number")) > json_integer_value(json_object_get(x, "number")));
    assert_string_equal(json_string_value(json_array_get(json_object_get(x, "selectors"), 1)), "a:\"b\"");
    assert_string_equal(json_string_value(json_array_get(json_object_get(x, "dns"), 0)), "shop.test.example");
    assert_int_equal(json_integer_value(json_object_get(json_array_get(entries(), 1), "ttl")), 300);
    snprintf(version, sizeof version, "%s", member(c, "version"));
    assert_int_equal(ask_entries(version, ""), 200);
    assert_true(json_is_true(json_object_get(c->doc, "unchanged")));
    assert_string_equal(member(c, "version"), version);
    assert_int_equal(json_integer_value(json_object_get(c->doc, "revoked")), 0);
    assert_null(entries());
    assert_int_equal(ask_entries(version, "spiffe://test.example/shop"), 200); /* a page is asked for */
    assert_int_equal(json_array_size(entries()), 1);
    behind(4, "");
    assert_int_equal(ask_entries(version, ""), 200);
    assert_int_equal(json_array_size(entries()), 3);
    assert_string_not_equal(member(c, "version"), version);
    assert_int_equal(get(c, "/acme/directory"), 200);
    full_url(c, "/acme/agent-entries", url);
    assert_string_equal(member(c, "agentEntries"), url);
}

/* A page ends by its size, too; all come, each once. */
static void test_large(void **state)
{
    static char more[32000];
    char after[128] = "";
    int got = 0, pages = 0;
    for (int i = 0, at = 0; i < 10; i++)
        at += snprintf(more + at, sizeof more - (size_t)at, ",\"%d:%0*d\"", i, 1000, i);
    for (int i = 0; i < 20; i++)
        behind(i, more);
    for (bool left = true; left; pages++) {
        assert_int_equal(ask_entries("", after), 200);
        assert_true(c->body.len < 65536);
        size_t n = json_array_size(entries());
        assert_true(n > 0);
        for (size_t i = 0; i < n; i++) {
            char id[128];
            snprintf(id, sizeof id, "spiffe://test.example/w/%03d", got++);
            assert_string_equal(text_of(json_array_get(entries(), i), "spiffe_id"), id);
            snprintf(after, sizeof after, "%s", id);
        }
        left = json_is_true(json_object_get(c->doc, "more"));
    }
    assert_int_equal(got, 20);
    assert_int_equal(pages, 4);
}

static void test_refused(void **state)
{
    static const char *const bad[] = {"[]", "{}", "{\"agent\":1}", "{\"agent\":\"\"}", "{\"agent\":\"x\",\"have\":1}",
                                      "{\"agent\":\"x\",\"after\":[]}", "{\"agent\":\"x\\u0000\"}"};
    struct client *stranger = client_new(w);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        post(c, "/acme/agent-entries", bad[i]);
        assert_problem(c, 400, "malformed");
    }
    post(c, "/acme/agent-entries", "{\"agent\":\"spiffe://test.example/host/two\"}");
    assert_problem(c, 403, "unauthorized");
    assert_string_equal(member(c, "rule"), "agent-session");
    account(stranger);
    post(stranger, "/acme/agent-entries", "{\"agent\":\"" AGENT "\"}");
    assert_problem(stranger, 403, "unauthorized");
    assert_int_equal(get(c, "/acme/agent-entries"), 405);
    client_free(stranger);
}

static long sign(void *arg, uint8_t *sig, size_t cap, const void *msg, size_t len, struct err *e)
{
    return key_sign(arg, true, sig, cap, msg, len, e);
}

/* The agent's word on what it is told of, in the same session: a certificate in one round trip. */
static void test_vouches(void **state)
{
    struct err e = {0};
    struct buf evidence, order;
    uint8_t digest[32];
    char nonce[64];
    struct key *k = key_generate(KEY_P256, &e);
    behind(1, "");
    assert_int_equal(ask_entries("", ""), 200);
    const json_t *x = json_array_get(entries(), 0);
    char id[128], selector[64];
    snprintf(id, sizeof id, "%s", text_of(x, "spiffe_id"));
    snprintf(selector, sizeof selector, "%s", json_string_value(json_array_get(json_object_get(x, "selectors"), 0)));
    X509 *svid = certificate(key_evp(k), NULL, w->issuing, w->issuing_key, false, "URI:" AGENT, 300);
    extension(svid, w->issuing, NID_ext_key_usage, "serverAuth,clientAuth");
    assert_true(X509_sign(svid, w->issuing_key, EVP_sha256()) > 0);
    const struct bytes chain[] = {der_of(svid), der_of(w->issuing)};
    const char *const says[] = {"unix:gid:7", selector};
    for (size_t n = 1; n <= 2; n++) { /* with the selector missing, and with it */
        buf_init(&evidence, 65536);
        buf_init(&order, 65536);
        snprintf(nonce, sizeof nonce, "%s", fresh(c));
        attest_key_authorization(digest, nonce, c->thumbprint);
        must(attest_agent_collect(&evidence, chain, 2, sign, k, says, n, digest, &e), &e);
        order_payload(&order, id, &evidence);
        post(c, "/acme/new-order", buf_cstr(&order));
        if (n == 1) {
            assert_problem(c, 403, "unauthorized");
            assert_string_equal(member(c, "rule"), "selectors");
        } else {
            assert_int_equal(c->status, 201);
            assert_string_equal(member(c, "status"), "valid");
            assert_true(*member(c, "certificateChain"));
        }
        buf_free(&evidence);
        buf_free(&order);
    }
    der_free(chain[0]);
    der_free(chain[1]);
    X509_free(svid);
    key_free(k);
}

static int setup(void **state)
{
    w = world_new(3600);
    c = client_new(w);
    attest();
    return 0;
}

static int teardown(void **state)
{
    client_free(c);
    world_free(w);
    return 0;
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {T(test_answer), T(test_large), T(test_refused), T(test_vouches)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
