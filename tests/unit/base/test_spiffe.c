#include "base/spiffe.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void test_good(void **state)
{
    static const struct {
        const char *id, *td, *path;
    } cases[] = {
        {"spiffe://example.org", "example.org", ""},
        {"spiffe://example.org/a", "example.org", "/a"},
        {"spiffe://example.org/ns/prod/sa/Api_v2.1-x", "example.org", "/ns/prod/sa/Api_v2.1-x"},
        {"spiffe://a/...", "a", "/..."},
        {"spiffe://a/.hidden/..b", "a", "/.hidden/..b"},
        {"spiffe://under_score-1.x/0", "under_score-1.x", "/0"},
        {"spiffe://1.2.3.4/x", "1.2.3.4", "/x"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err e = {0};
        struct spiffe_id id;
        assert_int_equal(spiffe_parse(&id, cases[i].id, strlen(cases[i].id), &e), 0);
        assert_true(bytes_eq_str(id.trust_domain, cases[i].td));
        assert_true(bytes_eq_str(id.path, cases[i].path));
    }
}

/* Every way in which the standard lets an ID be wrong, with a word of the reason given. */
static const struct {
    const char *id, *reason;
} malformed[] = {
    {"", "empty"},
    /* section 2: scheme */
    {"example.org/a", "begin with"},
    {"spiffe", "begin with"},
    {"spiffe:", "begin with"},
    {"spiffe:/", "begin with"},
    {"spiffe:example.org/a", "begin with"},
    {"spiffe:/example.org/a", "begin with"},
    {"//example.org/a", "begin with"},
    {"://example.org/a", "begin with"},
    {"https://example.org/a", "begin with"},
    {"SPIFFE://example.org/a", "begin with"},
    {"Spiffe://example.org/a", "begin with"},
    {" spiffe://example.org/a", "begin with"},
    {"spiffes://example.org/a", "begin with"},
    /* section 2.1: trust domain */
    {"spiffe://", "domain is empty"},
    {"spiffe:///", "domain is empty"},
    {"spiffe:///path", "domain is empty"},
    {"spiffe://user@example.org/a", "user information"},
    {"spiffe://user:pass@example.org/a", "port"},
    {"spiffe://@example.org/a", "user information"},
    {"spiffe://example.org:443/a", "port"},
    {"spiffe://example.org:/a", "port"},
    {"spiffe://Example.org/a", "upper-case"},
    {"spiffe://EXAMPLE.ORG", "upper-case"},
    {"spiffe://exa mple.org/a", "0x20"},
    {"spiffe://ex%61mple.org/a", "percent-encoding"},
    {"spiffe://ex\xc3\xa4mple.org/a", "0xc3"},
    {"spiffe://[::1]/a", "0x5b"},
    {"spiffe://example.org?", "query"},
    {"spiffe://example.org?x=y", "query"},
    {"spiffe://example.org#", "fragment"},
    {"spiffe://example.org\\a", "0x5c"},
    {"spiffe://exam~ple.org/a", "0x7e"},
    {"spiffe://exam*ple.org/a", "0x2a"},
    /* section 2.2: path */
    {"spiffe://example.org/", "ends with a slash"},
    {"spiffe://example.org/a/", "ends with a slash"},
    {"spiffe://example.org/a//", "empty segment"},
    {"spiffe://example.org//", "empty segment"},
    {"spiffe://example.org//a", "empty segment"},
    {"spiffe://example.org/a//b", "empty segment"},
    {"spiffe://example.org/.", "\".\" or \"..\""},
    {"spiffe://example.org/..", "\".\" or \"..\""},
    {"spiffe://example.org/./a", "\".\" or \"..\""},
    {"spiffe://example.org/../a", "\".\" or \"..\""},
    {"spiffe://example.org/a/./b", "\".\" or \"..\""},
    {"spiffe://example.org/a/../b", "\".\" or \"..\""},
    {"spiffe://example.org/a/..", "\".\" or \"..\""},
    {"spiffe://example.org/a?x=y", "query"},
    {"spiffe://example.org/a?", "query"},
    {"spiffe://example.org/a#b", "fragment"},
    {"spiffe://example.org/a#", "fragment"},
    {"spiffe://example.org/%2e%2e/b", "percent-encoding"},
    {"spiffe://example.org/a%2Fb", "percent-encoding"},
    {"spiffe://example.org/a b", "0x20"},
    {"spiffe://example.org/a\n", "0x0a"},
    {"spiffe://example.org/a:b", "0x3a"},
    {"spiffe://example.org/a@b", "0x40"},
    {"spiffe://example.org/a,b", "0x2c"},
    {"spiffe://example.org/a;b", "0x3b"},
    {"spiffe://example.org/a=b", "0x3d"},
    {"spiffe://example.org/~a", "0x7e"},
    {"spiffe://example.org/a*", "0x2a"},
    {"spiffe://example.org/\xe2\x82\xac", "0xe2"},
    {"spiffe://example.org/a\\b", "0x5c"},
};

static void test_malformed(void **state)
{
    for (size_t i = 0; i < sizeof malformed / sizeof *malformed; i++) {
        struct err e = {0};
        struct spiffe_id id;
        if (spiffe_parse(&id, malformed[i].id, strlen(malformed[i].id), &e) == 0)
            fail_msg("accepted: %s", malformed[i].id);
        assert_int_equal(e.code, ERR_MALFORMED);
        assert_string_equal(e.rule, "spiffe-id");
        if (!strstr(e.msg, malformed[i].reason))
            fail_msg("%s: said \"%s\", not \"%s\"", malformed[i].id, e.msg, malformed[i].reason);
        assert_int_equal(id.trust_domain.len, 0);
    }
}

/* The two alphabets, over every byte. */
static void test_every_byte(void **state)
{
    for (int b = 0; b < 256; b++) {
        struct err e = {0};
        struct spiffe_id id;
        char s[32];
        bool td = b && strchr("abcdefghijklmnopqrstuvwxyz0123456789._-", b);
        bool seg = td || (b >= 'A' && b <= 'Z');
        int n = snprintf(s, sizeof s, "spiffe://t_d/aXb");
        s[14] = (char)b;
        assert_int_equal(spiffe_parse(&id, s, (size_t)n, &e), seg || b == '/' ? 0 : -1);
        s[14] = 'x';
        s[10] = (char)b;
        assert_int_equal(spiffe_parse(&id, s, (size_t)n, &e), td || b == '/' ? 0 : -1);
    }
}

static void test_lengths(void **state)
{
    struct err e = {0};
    struct spiffe_id id;
    char s[2100];
    memset(s, 'a', sizeof s);
    memcpy(s, "spiffe://td/", 12);
    assert_int_equal(spiffe_parse(&id, s, 2048, &e), 0);
    assert_int_equal(spiffe_parse(&id, s, 2049, &e), -1);
    memcpy(s, "spiffe://", 9);
    memset(s + 9, 'a', 300);
    assert_int_equal(spiffe_parse(&id, s, 9 + 255, &e), 0);
    assert_int_equal(spiffe_parse(&id, s, 9 + 256, &e), -1);
    assert_int_equal(spiffe_check_trust_domain(s + 9, 255, &e), 0);
    assert_int_equal(spiffe_check_trust_domain(s + 9, 256, &e), -1);
    assert_int_equal(spiffe_check_trust_domain("", 0, &e), -1);
    assert_int_equal(spiffe_check_trust_domain("a/b", 3, &e), -1);
    /* a NUL inside is a byte like any other: refused */
    assert_int_equal(spiffe_parse(&id, "spiffe://td/a\0b", 15, &e), -1);
    assert_int_equal(spiffe_parse(&id, "spiffe://t\0d/a", 14, &e), -1);
}

static void test_workload(void **state)
{
    struct err e = {0};
    struct spiffe_id id;
#define WORKLOAD(s) spiffe_parse_workload(&id, s, strlen(s), "example.org", &e)
    assert_int_equal(WORKLOAD("spiffe://example.org/web"), 0);
    assert_int_equal(WORKLOAD("spiffe://example.com/web"), -1);
    assert_int_equal(e.code, ERR_REJECTED_ID);
    assert_string_equal(e.rule, "trust-domain");
    assert_int_equal(WORKLOAD("spiffe://example.org.evil/web"), -1);
    assert_int_equal(WORKLOAD("spiffe://example.or/web"), -1);
    assert_int_equal(WORKLOAD("spiffe://example.org"), -1);
    assert_int_equal(e.code, ERR_REJECTED_ID);
    assert_string_equal(e.rule, "spiffe-path");
    assert_int_equal(WORKLOAD("spiffe://example.org/web/"), -1);
    assert_int_equal(e.code, ERR_MALFORMED);
}

static void test_dns_names(void **state)
{
    static const char *const good[] = {
        "localhost",     "a.b",   "example.org",           "x1.example.org",
        "*.example.org", "1a.b2", "xn--bcher-kva.example", "3.example",
        "a-b.c"};
    static const char *const bad[] = {"",      ".",     "a.",    ".a",      "a..b",
                                      "A.b",   "-a.b",  "a-.b",  "a.b-",    "*",
                                      "*.",    "**.a",  "a.*.b", "*a.b",    "*.*.a",
                                      "a_b.c", "a b",   "a\n",   "1.2.3.4", "123",
                                      "a.1",   "[::1]", "::1",   "a/b",     "b\xc3\xbcx.example",
                                      "a@b",   "a:1"};
    struct err e = {0};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        if (dns_name_check(good[i], strlen(good[i]), &e) < 0)
            fail_msg("refused %s: %s", good[i], e.msg);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (dns_name_check(bad[i], strlen(bad[i]), &e) == 0)
            fail_msg("accepted: %s", bad[i]);
        assert_int_equal(e.code, ERR_MALFORMED);
        assert_string_equal(e.rule, "dns-name");
    }
    char s[300];
    for (size_t i = 0; i < sizeof s; i++)
        s[i] = i % 64 == 63 ? '.' : 'a';
    assert_int_equal(dns_name_check(s, 253, &e), 0);
    assert_int_equal(dns_name_check(s, 254, &e), -1);
    memset(s, 'a', sizeof s);
    assert_int_equal(dns_name_check(s, 63, &e), 0);
    assert_int_equal(dns_name_check(s, 64, &e), -1);
    assert_int_equal(dns_name_check("a\0b", 3, &e), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),       cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_every_byte), cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_workload),   cmocka_unit_test(test_dns_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
