/* Who may search, and what is said to others. Finding is audit/'s (tests/unit/audit); the whole way is
 * walked by integration/test_audit.sh. */
#include "tests/unit/api/client.h"

static struct world *w;

static int setup(void **state)
{
    w = world_new(3600);
    return 0;
}

static int teardown(void **state)
{
    world_free(w);
    return 0;
}

static void closed_by_default(void **state)
{
    struct client *c = client_new(w);
    static const char *const paths[] = {"/audit/v1/entries?limit=1", "/audit/v1/stats"};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(ask(c, "GET", paths[i], NULL, 0, NULL, false), 403);
        assert_string_equal(json_maybe_str(c->doc, "rule"), "audit-access");
        assert_non_null(strstr(json_maybe_str(c->doc, "detail"), "audit.access: public"));
        assert_string_equal(answer_header(c, "Access-Control-Allow-Origin"), "*");
    }
    assert_int_equal(ask(c, "POST", "/audit/v1/entries", "{}", 2, "application/json", false), 405);
    assert_int_equal(ask(c, "GET", "/audit/v1/other", NULL, 0, NULL, false), 404);
    client_free(c);
}

/* A server without an index says so, and no more. */
static void no_index(void **state)
{
    struct client *c = client_new(w);
    assert_int_equal(ask(c, "GET", "/audit/v1/entries", NULL, 0, NULL, true), 503);
    assert_string_equal(json_maybe_str(c->doc, "rule"), "audit-index");
    assert_string_equal(answer_header(c, "Access-Control-Allow-Origin"), "");
    w->config->audit_access = CONFIG_AUDIT_PUBLIC;
    assert_int_equal(ask(c, "GET", "/audit/v1/stats", NULL, 0, NULL, false), 503);
    w->config->audit_access = CONFIG_AUDIT_LOCAL;
    client_free(c);
}

/* Who shows no certificate is asked for one, in words, and everything else goes on. Who shows one:
 * tests/unit/ra/test_auditor.c, tests/integration/test_access.sh. */
static void by_certificate(void **state)
{
    struct client *c = client_new(w);
    w->config->audit_access = CONFIG_AUDIT_MTLS;
    assert_int_equal(ask(c, "GET", "/audit/v1/entries?limit=1", NULL, 0, NULL, false), 401);
    assert_string_equal(json_maybe_str(c->doc, "rule"), "audit-certificate");
    assert_non_null(strstr(json_maybe_str(c->doc, "detail"), "--cert svid.pem"));
    assert_string_equal(answer_header(c, "Access-Control-Allow-Origin"), "");
    assert_int_equal(ask(c, "GET", "/acme/directory", NULL, 0, NULL, false), 200);
    assert_int_equal(ask(c, "GET", "/audit/v1/entries", NULL, 0, NULL, true), 503); /* the operator, as ever */
    w->config->audit_access = CONFIG_AUDIT_LOCAL;
    client_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(closed_by_default), cmocka_unit_test(no_index),
                                       cmocka_unit_test(by_certificate)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
