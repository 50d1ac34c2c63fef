/* Queries: what is read, what is refused, and cursors that are not to be made up. */
#include "unit/audit/house.h"

static struct audit_filter f;

static void ok(const char *query)
{
    struct err e;
    if (audit_query_parse(&f, query, strlen(query), &e) < 0)
        fail_msg("'%s': [%s] %s", query, e.rule, e.msg);
}

static void refused(const char *query, const char *rule, const char *word)
{
    struct err e;
    if (audit_query_parse(&f, query, strlen(query), &e) == 0)
        fail_msg("'%s' is read", query);
    assert_rule(e, rule);
    assert_int_equal(e.code, ERR_MALFORMED);
    if (!strstr(e.msg, word))
        fail_msg("'%s' is refused without '%s': %s", query, word, e.msg);
}

static void values(void **state)
{
    ok("");
    assert_int_equal(f.limit, 100);
    assert_int_equal(f.outcome, AUDIT_OTHER);
    assert_false(f.oldest || f.resumed || f.by_key);
    ok("spiffe_id=spiffe%3A%2f%2Fexample.org%2Fweb&order=oldest&limit=1000&format=csv&outcome=revoked");
    assert_string_equal(f.spiffe_id, "spiffe://example.org/web");
    assert_true(f.oldest);
    assert_int_equal(f.limit, 1000);
    assert_int_equal(f.format, AUDIT_CSV);
    assert_int_equal(f.outcome, AUDIT_REVOKED);
    ok("entry=a+b&rule=x%3d%26y");
    assert_string_equal(f.entry, "a+b");
    assert_string_equal(f.rule, "x=&y");
    ok("serial=00:01:0000:0000:0A:ff");
    assert_string_equal(f.serial, "1000000000aff");
    assert_true(f.serial_index == 0xaff);
    ok("serial=1000000000007");
    assert_int_equal(f.serial_index, 7);
    ok("key=AB00000000000000000000000000000000000000000000000000000000000000");
    assert_int_equal(f.key[0], 0xab);
}

static void times(void **state)
{
    static const struct {
        const char *text;
        int64_t t;
    } good[] = {{"0", 0}, {"1767225600", 1767225600}, {"2026-01-01T00:00:00Z", 1767225600}, {"2026-01-01t00:00:00z", 1767225600},
                {"2026-01-01T01:30:00+01:30", 1767225600}, {"2025-12-31T22:00:00.123-02:00", 1767225600},
                {"2024-02-29T00:00:00Z", 1709164800}, {"1969-12-31T23:59:59Z", -1}};
    static const char *const bad[] = {"-1", "1e9", "2026-01-01", "2026-01-01T00:00:00", "2026-13-01T00:00:00Z", "2025-02-29T00:00:00Z",
                                      "2026-01-01T24:00:00Z", "2026-01-01T00:00:60Z", "2026-01-01T00:00:00Z ", "2026-01-01T00:00:00+24:00",
                                      "2026-01-01T00:00:00.Z", "now", "99999999999999999999", "2026-1-1T00:00:00Z"};
    char query[128];
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        snprintf(query, sizeof query, "from=%s", good[i].text);
        ok(query);
        assert_int_equal(f.from, good[i].t);
        assert_true(f.to == INT64_MAX);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(query, sizeof query, "to=%s", bad[i]);
        refused(query, "audit-filter", "Unix seconds");
    }
    refused("from=2&to=1", "audit-filter", "later");
}

static void refusals(void **state)
{
    refused("colour=red", "audit-filter", "there are: spiffe_id, prefix, serial, key, agent, attestor, entry, outcome, rule, from, to, "
                                          "order, limit, cursor, format");
    refused("limit=1&limit=1", "audit-filter", "twice");
    refused("limit=1&l%69mit=2", "audit-filter", "twice");
    refused("limit=", "audit-filter", "empty");
    refused("limit", "audit-query", "=");
    refused("&", "audit-query", "=");
    refused("limit=1&", "audit-query", "ends");
    refused("limit=0", "audit-filter", "1 to 1000");
    refused("limit=1001", "audit-filter", "1 to 1000");
    refused("limit=+5", "audit-filter", "1 to 1000");
    refused("limit=99999999999", "audit-filter", "1 to 1000");
    refused("order=sideways", "audit-filter", "newest");
    refused("outcome=other", "audit-filter", "issued");
    refused("format=xml", "audit-filter", "jsonl");
    refused("serial=xyz", "audit-filter", "hex");
    refused("serial=12345678901234567", "audit-filter", "hex");
    refused("serial=0000", "audit-filter", "not 0");
    refused("serial=:1", "audit-filter", "hex");
    refused("key=ab", "audit-filter", "64");
    refused("prefix=web", "audit-filter", "spiffe://");
    refused("prefix=spiffe://example.org/web/", "audit-filter", "slash");
    refused("rule=%", "audit-query", "two hex");
    refused("rule=%1", "audit-query", "two hex");
    refused("rule=%g1", "audit-query", "two hex");
    refused("rule=a%00b", "audit-filter", "control");
    refused("ru%00le=a", "audit-query", "NUL");
    refused("rule=a%0ab", "audit-filter", "control");
    refused("rule=0123456789012345678901234567890123456789012345678901234567890123", "audit-filter", "at most 63");
}

static void too_long(void **state)
{
    static char query[AUDIT_QUERY_MAX + 8];
    memset(query, 'a', sizeof query - 1);
    memcpy(query, "spiffe_id=", 10);
    refused(query, "audit-query", "at most");
    query[5000] = 0;
    refused(query, "audit-query", "longer");
    query[10 + TLOG_NAME_MAX + 1] = 0;
    refused(query, "audit-filter", "at most 2048");
    query[10 + TLOG_NAME_MAX] = 0;
    ok(query);
}

static void cursors(void **state)
{
    char cursor[AUDIT_CURSOR_LEN + 1], query[256];
    ok("rule=x&from=5");
    audit_cursor_write(cursor, &f, UINT64_C(0x123456789abc));
    assert_int_equal(strlen(cursor), AUDIT_CURSOR_LEN);
    snprintf(query, sizeof query, "cursor=%s&limit=7&rule=x&from=5&format=csv", cursor); /* another page size is the same question */
    ok(query);
    assert_true(f.resumed && f.after == UINT64_C(0x123456789abc));
    const char *const others[] = {"rule=y&from=5", "rule=x&from=6", "rule=x&from=5&order=oldest", "rule=x", "rule=x&from=5&outcome=issued", "entry=x&from=5"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        snprintf(query, sizeof query, "%s&cursor=%s", others[i], cursor);
        refused(query, "audit-cursor", "another question");
    }
    cursor[3] = '*';
    snprintf(query, sizeof query, "rule=x&from=5&cursor=%s", cursor);
    refused(query, "audit-cursor", "none that an answer gave");
    refused("cursor=AAAAAAAAAAAAAAAAAAAAAA", "audit-cursor", "none that");   /* version 0 */
    refused("cursor=AQIAAAAAAAAAAAAAAAAAAA", "audit-cursor", "none that");   /* no such order */
    refused("cursor=AQAAAAAAAAAAAAAAAAAAAB", "audit-cursor", "none that");   /* bits after the end */
    refused("cursor=AQ", "audit-cursor", "none that");
    refused("cursor=AQAAAAAAAAAAAAAAAAAAAA==", "audit-cursor", "none that");
    refused("cursor=AQAAAAAAAAAAAAAAAAAAAA", "audit-cursor", "another");     /* well formed, made up */
}

/* A cursor beyond the log, or before its first entry, is the end. */
static void cursor_at_the_ends(void **state)
{
    struct house h;
    struct err e;
    static struct found_list l;
    char cursor[AUDIT_CURSOR_LEN + 1], query[128];
    house_begin(&h);
    house_varied(&h, 1, 20);
    struct audit_index *x = index_ok(&h, false);
    assert_ok(audit_index_catch_up(x, NULL, &e), e);
    ok("");
    audit_cursor_write(cursor, &f, 0);
    snprintf(query, sizeof query, "cursor=%s", cursor);
    ok(query);
    struct tlog_reader *r = reader_ok(&h);
    char next[AUDIT_CURSOR_LEN + 1];
    assert_ok(audit_search(x, r, &f, 0, found_note, &l, next, &e), e);
    assert_int_equal(l.n, 0);
    ok("order=oldest");
    audit_cursor_write(cursor, &f, UINT64_C(0xffffffffffff));
    snprintf(query, sizeof query, "order=oldest&cursor=%s", cursor);
    ok(query);
    assert_ok(audit_search(x, r, &f, 0, found_note, &l, next, &e), e);
    assert_int_equal(l.n, 0);
    tlog_reader_close(r);
    audit_index_close(x);
    house_end(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values), cmocka_unit_test(times), cmocka_unit_test(refusals),
        cmocka_unit_test(too_long), cmocka_unit_test(cursors), cmocka_unit_test(cursor_at_the_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
