#include "proxy/proxy.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static bool allows(const char *rule, const char *id)
{
    struct proxy_rules r = {0};
    struct err e = {0};
    assert_int_equal(proxy_rules_add(&r, rule, &e), 0);
    bool yes = proxy_rules_match(&r, id) != NULL;
    proxy_rules_free(&r);
    return yes;
}

static void exact(void **s)
{
    assert_true(allows("spiffe://td/a", "spiffe://td/a"));
    assert_true(allows("id:spiffe://td/a", "spiffe://td/a"));
    assert_false(allows("spiffe://td/a", "spiffe://td/ab"));
    assert_false(allows("spiffe://td/a", "spiffe://td/a/b"));
    assert_false(allows("spiffe://td/a", "spiffe://td/A"));
    assert_false(allows("spiffe://td/a", "spiffe://td2/a"));
}

static void prefix(void **s)
{
    static const char *const forms[] = {"spiffe://td/a/*", "prefix:spiffe://td/a", "prefix:spiffe://td/a/",
                                        "prefix:spiffe://td/a/*"};
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        assert_true(allows(forms[i], "spiffe://td/a/b"));
        assert_true(allows(forms[i], "spiffe://td/a/b/c"));
        assert_false(allows(forms[i], "spiffe://td/a"));
        assert_false(allows(forms[i], "spiffe://td/ab"));
        assert_false(allows(forms[i], "spiffe://td/ab/c"));
        assert_false(allows(forms[i], "spiffe://td.evil/a/b"));
    }
}

static void domain(void **s)
{
    static const char *const forms[] = {"spiffe://td", "domain:td", "domain:spiffe://td", "spiffe://td/*", "prefix:spiffe://td"};
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        assert_true(allows(forms[i], "spiffe://td/a"));
        assert_true(allows(forms[i], "spiffe://td/a/b"));
        assert_false(allows(forms[i], "spiffe://td2/a"));
        assert_false(allows(forms[i], "spiffe://t/a"));
        assert_false(allows(forms[i], "spiffe://td.org/a"));
        assert_false(allows(forms[i], "spiffe://td"));
    }
}

static void several(void **s)
{
    struct proxy_rules r = {0};
    struct err e = {0};
    assert_null(proxy_rules_match(&r, "spiffe://td/a"));
    assert_int_equal(proxy_rules_add(&r, "spiffe://td/a", &e), 0);
    assert_int_equal(proxy_rules_add(&r, "spiffe://td/b/*", &e), 0);
    assert_string_equal(proxy_rules_match(&r, "spiffe://td/b/c")->text, "spiffe://td/b");
    assert_null(proxy_rules_match(&r, "spiffe://td/c"));
    proxy_rules_free(&r);
}

static void refused(void **s)
{
    static const char *const bad[] = {"", "*", "td/a", "http://td/a", "spiffe://", "spiffe:///a", "spiffe://td/", "spiffe://td//a",
                                      "spiffe://td/a*", "spiffe://td/*/a", "spiffe://*/a", "spiffe://TD/a", "spiffe://td/../a",
                                      "domain:td/a", "domain:", "prefix:", "prefix:td", "id:spiffe://td", "id:spiffe://td/a/*", "spiffe://td/a/**", "spiffe://td/a?b"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct proxy_rules r = {0};
        struct err e = {0};
        if (proxy_rules_add(&r, bad[i], &e) == 0)
            fail_msg("'%s' was taken", bad[i]);
        assert_string_equal(e.rule, "allow");
        assert_int_equal(e.code, ERR_CONFIG);
        proxy_rules_free(&r);
    }
    char longest[4000];
    struct proxy_rules r = {0};
    struct err e = {0};
    memset(longest, 'a', sizeof longest);
    memcpy(longest, "spiffe://td/", 12);
    longest[sizeof longest - 1] = 0;
    assert_int_equal(proxy_rules_add(&r, longest, &e), -1);
    proxy_rules_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(exact), cmocka_unit_test(prefix), cmocka_unit_test(domain),
                                       cmocka_unit_test(several), cmocka_unit_test(refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
