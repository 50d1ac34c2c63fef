#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "ra/decide.h"
#include <string.h>

#define SERVER "spiffe://example.org/mayfly/server"
#define WEB "spiffe://example.org/web"

static char server[] = SERVER, agent[] = "spiffe://example.org/agent", web[] = WEB, a[] = "k8s:ns:a", b[] = "k8s:sa:b",
            c[] = "unix:uid:1";

struct row {
    const char *what;
    bool entry;
    char *parent;
    char *wants[3];  /* the entry's selectors */
    char *shows[3];  /* the evidence's */
    const char *proves;
    const char *rule; /* NULL: allowed */
    const char *vouches; /* the agent whose word it is */
};
static const struct row rows[] = {
    {"no entry", false, NULL, {0}, {0}, WEB, "entry", NULL},
    {"an agent's entry, even when the ID is proven", true, agent, {0}, {0}, WEB, "parent", NULL},
    {"the ID is proven", true, server, {0}, {0}, WEB, NULL, NULL},
    {"the ID is proven, selectors or not", true, server, {a}, {0}, WEB, NULL, NULL},
    {"another ID is proven", true, server, {0}, {0}, "spiffe://example.org/db", "evidence-id", NULL},
    {"an ID that begins so", true, server, {0}, {0}, WEB "2", "evidence-id", NULL},
    {"an ID that is the beginning", true, server, {0}, {0}, "spiffe://example.org/we", "evidence-id", NULL},
    {"nothing shown", true, server, {a}, {0}, NULL, "selectors", NULL},
    {"nothing asked, nothing shown", true, server, {0}, {0}, NULL, "selectors", NULL},
    {"nothing asked, much shown", true, server, {0}, {a, b}, NULL, "selectors", NULL},
    {"all shown", true, server, {a, b}, {b, a}, NULL, NULL, NULL},
    {"more than all shown", true, server, {a}, {c, b, a}, NULL, NULL, NULL},
    {"one is missing", true, server, {a, b, c}, {a, b}, NULL, "selectors", NULL},
    {"another ID is proven, but the selectors match", true, server, {a}, {a}, "spiffe://example.org/db", NULL, NULL},
    {"another ID is proven, a selector is missing", true, server, {a, b}, {a}, "spiffe://example.org/db", "evidence-id", NULL},
    {"an empty proof proves nothing", true, server, {0}, {0}, "", "selectors", NULL},
    {"an agent's entry, its selectors shown by others", true, agent, {a}, {a}, NULL, "parent", NULL},
    {"an agent's entry, by the proof of its ID", true, agent, {a}, {a}, WEB, "parent", NULL},
    {"an agent's entry, by the agent's SVID alone", true, agent, {a}, {a}, "spiffe://example.org/agent", "parent", NULL},
    {"the agent's word", true, agent, {a}, {b, a}, NULL, NULL, "spiffe://example.org/agent"},
    {"the agent's word on some of it", true, agent, {a, b}, {a}, NULL, "selectors", "spiffe://example.org/agent"},
    {"the agent's word on nothing", true, agent, {0}, {a}, NULL, "parent", "spiffe://example.org/agent"},
    {"another agent's word", true, agent, {a}, {a}, NULL, "parent", "spiffe://example.org/agent2"},
    {"one above it", true, agent, {a}, {a}, NULL, "parent", "spiffe://example.org"},
    {"an agent's word, and the authority's entry", true, server, {a}, {a}, NULL, "agent-parent", "spiffe://example.org/agent"},
    {"its word on itself", true, server, {0}, {a}, WEB, "agent-parent", WEB},
    {"no agent proves an ID", true, agent, {a}, {b}, WEB, "selectors", "spiffe://example.org/agent"},
};

static size_t count(char *const *v)
{
    size_t n = 0;
    while (n < 3 && v[n])
        n++;
    return n;
}

static void test_table(void **state)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct row *r = &rows[i];
        char *wants[3], *shows[3];
        memcpy(wants, r->wants, sizeof wants);
        memcpy(shows, r->shows, sizeof shows);
        struct ra_entry x = {.spiffe_id = web, .parent = r->parent, .selectors = wants, .selectors_count = count(wants)};
        struct facts f = {.proven_id = r->proves, .agent = r->vouches, .selectors = shows, .selectors_count = count(shows)};
        struct err e = {0};
        int rc = decide(r->entry ? &x : NULL, WEB, SERVER, &f, &e);
        if (rc != (r->rule ? -1 : 0) || strcmp(e.rule, r->rule ? r->rule : "") != 0)
            fail_msg("%s: %d, rule \"%s\"", r->what, rc, e.rule);
        /* no selector's value is told to who asks */
        assert_null(strstr(e.msg, "k8s:"));
    }
}

/* An entry created again is another: what was shown for the first gives nothing, whatever it is. */
static void test_entry_other(void **state)
{
    char *sels[] = {a};
    struct ra_entry x = {.id = "first", .spiffe_id = web, .parent = server, .selectors = sels, .selectors_count = 1};
    struct facts f = {.proven_id = WEB, .entry_id = "first", .selectors = sels, .selectors_count = 1};
    struct err e = {0};
    assert_int_equal(decide(&x, WEB, SERVER, &f, &e), 0);
    memcpy(x.id, "second", 7);
    assert_int_equal(decide(&x, WEB, SERVER, &f, &e), -1);
    assert_string_equal(e.rule, "entry-other");
    assert_int_equal(e.code, ERR_UNAUTHORIZED);
    f.entry_id = "";
    assert_int_equal(decide(&x, WEB, SERVER, &f, &e), -1);
    f.entry_id = NULL;
    assert_int_equal(decide(&x, WEB, SERVER, &f, &e), 0);
}

static void test_dns(void **state)
{
    char one[] = "a.example.org", two[] = "b.example.org", *dns[] = {one, two};
    struct ra_entry x = {.dns = dns, .dns_count = 2};
    static const char *const ask[] = {"b.example.org", "a.example.org", "c.example.org"};
    struct err e = {0};
    assert_int_equal(decide_dns(&x, NULL, 0, &e), 0);
    assert_int_equal(decide_dns(&x, ask, 2, &e), 0);
    assert_int_equal(decide_dns(&x, ask, 3, &e), -1);
    assert_string_equal(e.rule, "dns");
    assert_int_equal(e.code, ERR_REJECTED_ID);
    x.dns_count = 0;
    assert_int_equal(decide_dns(&x, ask, 1, &e), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_table), cmocka_unit_test(test_entry_other), cmocka_unit_test(test_dns)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
