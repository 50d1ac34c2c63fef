/* A search finds what looking at every entry finds: every filter alone and with others, in both
 * orders, page by page, in an index made at once and in one made bit by bit. */
#include "unit/audit/house.h"

static const char *const alone[] = {
    "", "spiffe_id=spiffe://example.org/web", "prefix=spiffe://example.org/web", "prefix=spiffe://example.org/web/1",
    "prefix=spiffe://example.org", "prefix=spiffe://other.test", "prefix=spiffe://example.org/nothing",
    "prefix=spiffe://example.org/a/b/c", "prefix=spiffe://example.org/a/b/c/d/e/f/g/h/i/j/k/l/m/n",
    "prefix=spiffe://example.org/a/b/c/d/e/f/g/h/i/j/k/l/m/n/o", "prefix=spiffe://example.org/a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p/q",
    "prefix=spiffe://example.org/a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p/q/r",
    "serial=1000000000011", "serial=10000000000ff", "serial=10:00:00:00:00:00:05", "serial=1ffffffffffff",
    "key=0505050505050505050505050505050505050505050505050505050505050505", "agent=spiffe://example.org/agent/1",
    "agent=spiffe://example.org/web", "attestor=x509pop", "attestor=none", "entry=e2", "outcome=issued", "outcome=refused",
    "outcome=revoked", "outcome=changed", "outcome=authority", "rule=selectors", "rule=no-entry", "from=1767230000", "to=1767230000",
    "from=1767230000&to=1767230400", "from=2026-01-01T01:00:00Z&to=2026-01-01T03:00:00%2B01:00", "from=1", "to=1",
    "from=1867230000", "to=1867230000",
};
static const char *const together[] = {
    "outcome=refused&attestor=agent", "prefix=spiffe://example.org/web&agent=spiffe://example.org/agent/1&entry=e1",
    "outcome=issued&key=0606060606060606060606060606060606060606060606060606060606060606&entry=e3",
    "spiffe_id=spiffe://example.org/db&prefix=spiffe://example.org/web", "serial=1000000000011&outcome=revoked",
    "serial=1000000000011&outcome=issued", "from=1767228000&to=1767233000&prefix=spiffe://example.org/web/1",
    "outcome=authority&from=1767228000", "rule=no-entry&attestor=join_token&agent=spiffe://example.org/web",
    "prefix=spiffe://example.org/a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p/q/r&outcome=issued",
};

static size_t all_same(struct house *h, struct audit_index *x)
{
    size_t found = 0;
    char query[4096];
    for (size_t i = 0; i < sizeof alone / sizeof *alone + sizeof together / sizeof *together; i++) {
        const char *q = i < sizeof alone / sizeof *alone ? alone[i] : together[i - sizeof alone / sizeof *alone];
        found += same(h, x, q);
        snprintf(query, sizeof query, "%s%sorder=oldest&limit=%d", q, *q ? "&" : "", i % 3 ? 1000 : 7);
        found += same(h, x, query);
        snprintf(query, sizeof query, "%s%slimit=%d", q, *q ? "&" : "", i % 2 ? 13 : 1000);
        found += same(h, x, query);
    }
    return found;
}

static void at_once(void **state)
{
    struct house h;
    struct err e;
    house_begin(&h);
    house_varied(&h, 1, 3000);
    struct audit_index *x = index_ok(&h, false);
    assert_ok(audit_index_catch_up(x, NULL, &e), e);
    assert_true(all_same(&h, x) > 10000);
    assert_true(same(&h, x, "rule=no-entry&attestor=join_token") > 0);
    audit_index_close(x);
    x = index_ok(&h, true); /* as another process reads it */
    assert_true(same(&h, x, "entry=e2") > 0);
    audit_index_close(x);
    house_end(&h);
}

/* Transactions that end within blocks and bundles, and at their ends. */
static void bit_by_bit(void **state)
{
    static const unsigned steps[] = {1, 3, 11, 1, 16, 17, 206, 1, 1, 255, 256, 257, 31, 500};
    struct house h;
    struct err e;
    uint64_t size;
    unsigned n = 1;
    house_begin(&h);
    struct audit_index *x = index_ok(&h, false);
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        house_varied(&h, n, steps[i]);
        n += steps[i];
        assert_ok(audit_index_catch_up(x, NULL, &e), e);
        assert_ok(audit_index_size(x, &size, &e), e);
        assert_int_equal(size, n);
        same(&h, x, "outcome=issued");
        same(&h, x, "prefix=spiffe://example.org/web&order=oldest");
        same(&h, x, "from=1767226000");
        if (i % 3 == 0) { /* a daemon that was started again */
            audit_index_close(x);
            x = index_ok(&h, false);
        }
    }
    all_same(&h, x);
    audit_index_close(x);
    house_end(&h);
}

/* The beginning of a name is no prefix of it unless a path segment ends there. */
static void segments(void **state)
{
    static struct found_list l;
    static const char *const ids[] = {"spiffe://example.org/web", "spiffe://example.org/web/1", "spiffe://example.org/webserver",
                                      "spiffe://example.org/web.old", "spiffe://example.orgs/web"};
    struct house h;
    struct buf b[5];
    struct bytes v[5];
    struct err e;
    house_begin(&h);
    for (int i = 0; i < 5; i++) {
        buf_init(&b[i], 4096);
        cert_entry(&b[i], &(struct cert_want){.id = ids[i], .from = START, .to = START + 60});
        v[i] = view(&b[i]);
    }
    house_append(&h, v, 5);
    struct audit_index *x = index_ok(&h, false);
    assert_ok(audit_index_catch_up(x, NULL, &e), e);
    search_all(&h, x, "prefix=spiffe://example.org/web&order=oldest", &l);
    assert_int_equal(l.n, 2);
    assert_int_equal(l.index[0], 1);
    assert_int_equal(l.index[1], 2);
    search_all(&h, x, "prefix=spiffe://example.org", &l);
    assert_int_equal(l.n, 4);
    audit_index_close(x);
    for (int i = 0; i < 5; i++)
        buf_free(&b[i]);
    house_end(&h);
}

/* What looks like SQL is a name like any other. */
static void sql_is_text(void **state)
{
    static struct found_list l;
    static const char name[] = "x'; DROP TABLE marks; --";
    struct house h;
    struct buf b;
    struct err e;
    struct bytes v;
    house_begin(&h);
    buf_init(&b, 4096);
    record_entry(&b, &(struct tlog_record_info){.type = TLOG_ENTRY_REFUSAL, .time = START, .code = 1, .rule = TEXT("\" OR 1=1"),
                                                .why = TEXT("no"), .spiffe_id = TEXT(name), .count = 1});
    v = view(&b);
    house_append(&h, &v, 1);
    struct audit_index *x = index_ok(&h, false);
    assert_ok(audit_index_catch_up(x, NULL, &e), e);
    search_all(&h, x, "spiffe_id=x'; DROP TABLE marks; --", &l);
    assert_int_equal(l.n, 1);
    search_all(&h, x, "rule=%22%20OR%201%3D1", &l);
    assert_int_equal(l.n, 1);
    search_all(&h, x, "rule=' OR 1=1 --", &l);
    assert_int_equal(l.n, 0);
    search_all(&h, x, "", &l);
    assert_int_equal(l.n, 2);
    audit_index_close(x);
    buf_free(&b);
    house_end(&h);
}

/* Each statement that a filter leads to goes through a key. */
static void no_scan(void **state)
{
    static const enum audit_sql reading[] = {Q_STATE, Q_OLDER, Q_NEWER, Q_CLOCK_FIRST, Q_TALLY_READ, Q_MARK_MERGE};
    struct house h;
    house_begin(&h);
    struct audit_index *x = index_ok(&h, false);
    for (size_t i = 0; i < sizeof reading / sizeof *reading; i++) {
        char sql[1024];
        sqlite3_stmt *q;
        snprintf(sql, sizeof sql, "EXPLAIN QUERY PLAN %s", audit_sql[reading[i]]);
        assert_int_equal(sqlite3_prepare_v2(x->db, sql, -1, &q, NULL), SQLITE_OK);
        while (sqlite3_step(q) == SQLITE_ROW) {
            const char *plan = (const char *)sqlite3_column_text(q, 3);
            if (strstr(plan, "SCAN") || strstr(plan, "TEMP B-TREE"))
                fail_msg("%s: %s", audit_sql[reading[i]], plan);
        }
        sqlite3_finalize(q);
    }
    audit_index_close(x);
    house_end(&h);
}

static void count_kinds(const struct audit_stats *s, uint64_t n[3])
{
    memset(n, 0, 3 * sizeof *n);
    for (int i = 0; i < AUDIT_DAYS; i++) {
        n[0] += s->days[i].issued;
        n[1] += s->days[i].refused;
        n[2] += s->days[i].revoked;
    }
}

static void statistics(void **state)
{
    struct house h;
    struct audit_stats s;
    struct err e;
    uint64_t n[3], lifetimes = 0;
    house_begin(&h);
    house_varied(&h, 1, 1000);
    house_varied(&h, 1001, 1000); /* a second transaction adds to the same hours */
    struct audit_index *x = index_ok(&h, false);
    assert_ok(audit_index_catch_up(x, NULL, &e), e);
    assert_ok(audit_index_stats(x, START + 5 * 3600, &s, &e), e);
    count_kinds(&s, n);
    assert_int_equal(s.indexed, 2001);
    assert_int_equal(n[0], same(&h, x, "outcome=issued&limit=1000"));
    assert_true(n[1] > same(&h, x, "outcome=refused&limit=1000")); /* each stands for one or more */
    assert_int_equal(n[2], same(&h, x, "outcome=revoked&limit=1000"));
    for (int i = 0; i < AUDIT_LIFETIMES; i++)
        lifetimes += s.lifetimes[i].count;
    assert_int_equal(lifetimes, n[0]);
    assert_true(s.hours[AUDIT_HOURS - 4].issued > 100 && s.hours[AUDIT_HOURS - 10].issued == 0);
    assert_ok(audit_index_stats(x, START + 200 * 86400, &s, &e), e);
    count_kinds(&s, n);
    assert_int_equal(n[0], 0);
    audit_index_close(x);
    house_end(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(at_once), cmocka_unit_test(bit_by_bit), cmocka_unit_test(segments),
        cmocka_unit_test(sql_is_text), cmocka_unit_test(no_scan), cmocka_unit_test(statistics),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
