/* When a certificate should be renewed: its window, and everything that pulls it forward. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "tests/unit/ra/agent.h"

#define AGENT "spiffe://example.org/host/one"
#define SHOP "spiffe://example.org/shop/till" /* behind AGENT */
#define OLD 7        /* log indexes, before and */
#define YOUNG 500000 /* after every record that the signer of the fixture takes */

static struct fx x;
static const uint8_t key[32] = {1, 2, 3};

static struct ra_certificate cert(uint64_t index, int64_t issued, int64_t life)
{
    return (struct ra_certificate){.serial = UINT64_C(1) << 48 | index, .not_before = issued - PROFILE_BACKDATE,
                                   .not_after = issued + life, .spiffe_id = SHOP, .entry = "an entry's id", .agent = AGENT,
                                   .key = key, .current = true};
}

static struct ra_renewal renewal(const struct ra_certificate *c, int64_t now)
{
    struct ra_renewal r;
    ra_renewal(x.ra, c, now, &r);
    assert_true(r.end > r.start);
    return r;
}

static void test_window(void **state)
{
    static const struct {
        int64_t life, start, end;
        unsigned again;
    } rows[] = {{300, 135, 180, 30}, {3600, 1620, 2160, 300}, {60, 27, 36, 6}, {10, 4, 6, 5}, {1, 0, 1, 5}, {86400, 38880, 51840, 300}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct ra_certificate c = cert(OLD, 1000000, rows[i].life);
        struct ra_renewal r = renewal(&c, 1000000);
        assert_false(r.pulled);
        assert_int_equal(r.start, 1000000 + rows[i].start);
        assert_int_equal(r.end, 1000000 + rows[i].end);
        assert_int_equal(r.again, rows[i].again);
        struct ra_renewal later = renewal(&c, 1000200); /* it stays where it is */
        assert_int_equal(later.start, r.start);
    }
}

/* Of an earlier issuing key. */
static void test_rotated(void **state)
{
    static const struct {
        int64_t life, spread;
    } rows[] = {{300, 30}, {3600, 60}, {20, 5}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct ra_certificate c = cert(OLD, 1000000, rows[i].life);
        c.current = false;
        struct ra_renewal r = renewal(&c, 1000007);
        assert_true(r.pulled);
        assert_int_equal(r.start, 1000007);
        assert_int_equal(r.end, 1000007 + rows[i].spread);
    }
}

/* --- revocations ------------------------------------------------------------------------------------------------------ */

static bool newest(void *arg, const struct ra_revocation *r)
{
    *(struct ra_revocation *)arg = *r;
    return true;
}

static bool pulled(uint64_t index, const char *id, const char *entry, const char *agent)
{
    struct ra_certificate c = cert(index, clock_wall(), 300);
    c.spiffe_id = id;
    c.entry = entry;
    c.agent = agent;
    return renewal(&c, clock_wall()).pulled;
}

/* Also after a restart; what is logged later is not meant by names that outlive a certificate. */
static void judge(enum tlog_revoked_by by, const char *value, bool later_too)
{
    struct ra_revocation last = {0};
    struct err e = {0};
    bool more;
    assert_false(pulled(OLD, SHOP, "e1", AGENT));
    take_back(&x, by, value);
    for (int i = 0; i < 2; i++) {
        assert_true(pulled(OLD, SHOP, "e1", AGENT));
        do {
            nanosleep(&(struct timespec){0, 1000000}, NULL);
            assert_int_equal(ra_revocation_each(x.ra, 0, SIZE_MAX, newest, &last, &more, &e), 0);
        } while (!last.logged);
        assert_true(pulled(OLD, SHOP, "e1", AGENT));
        assert_int_equal(pulled(YOUNG, SHOP, "e1", AGENT), later_too);
        if (i == 0)
            fx_reopen(&x);
    }
}

static void test_serial(void **state)
{
    judge(TLOG_BY_SERIAL, "1000000000007", false);
    assert_false(pulled(OLD + 1, SHOP, "e1", AGENT));
}

static void test_key(void **state)
{
    char hex[65];
    hex_encode(hex, key, sizeof key);
    judge(TLOG_BY_KEY, hex, true);
}

static void test_id(void **state)
{
    judge(TLOG_BY_ID, SHOP, false);
    assert_false(pulled(OLD, SHOP "2", "e1", AGENT));
}

static void test_prefix(void **state)
{
    judge(TLOG_BY_PREFIX, "spiffe://example.org/shop", false);
    assert_false(pulled(OLD, "spiffe://example.org/shopping", "e1", AGENT));
}

static void test_entry(void **state)
{
    struct wait w;
    wait_init(&w);
    ra_entry_get(x.ra, SHOP, on_entry, &w);
    EXPECT(&w, NULL);
    char entry[RA_ID_LEN + 1];
    memcpy(entry, w.entry_id, sizeof entry);
    assert_false(pulled(OLD, SHOP, entry, AGENT));
    take_back(&x, TLOG_BY_ENTRY, entry);
    assert_true(pulled(OLD, SHOP, entry, AGENT));
    assert_false(pulled(OLD, SHOP, "another", AGENT)); /* of an entry before this one */
}

/* The agent that asked, the agent itself, and the parent of today. */
static void test_agent(void **state)
{
    judge(TLOG_BY_AGENT, AGENT, false);
    assert_true(pulled(OLD, AGENT, "e1", ""));
    assert_true(pulled(OLD, SHOP, "e1", ""));
    assert_true(pulled(OLD, WEB, "e1", AGENT));
    assert_false(pulled(OLD, WEB, "e1", AGENT "2"));
}

static int setup(void **state)
{
    static const char *const sel[] = {"unix:uid:1"};
    fx_new(&x, "");
    make_entry(&x, AGENT, NULL, NULL);
    make_entry(&x, WEB, NULL, NULL);
    make_behind(&x, SHOP, AGENT, sel, 1);
    return 0;
}

static int teardown(void **state)
{
    fx_free(&x);
    return 0;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {TEST(test_window), TEST(test_rotated), TEST(test_serial), TEST(test_key),
                                       TEST(test_id),     TEST(test_prefix),  TEST(test_entry),  TEST(test_agent)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
