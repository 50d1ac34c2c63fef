/* Refusals are told once, then counted; none is lost from the count. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ra/refusals.h"

static struct refusal make(const char *rule, const char *id, uint8_t session)
{
    struct refusal r = {.stage = TLOG_AT_REGISTRATION, .why = "so it is", .has_session = true};
    snprintf(r.rule, sizeof r.rule, "%s", rule);
    snprintf(r.spiffe_id, sizeof r.spiffe_id, "%s", id);
    memset(r.session, session, sizeof r.session);
    return r;
}

static int setup(void **state)
{
    *state = refusals_new();
    return *state ? 0 : -1;
}

static int teardown(void **state)
{
    refusals_free(*state);
    return 0;
}

static void first_at_once_then_counted(void **state)
{
    struct refusals *t = *state;
    struct refusal r = make("selectors", "spiffe://a/b", 1), out;
    int64_t now = 1000000;
    assert_false(refusals_take(t, now, false, &out));
    assert_int_equal(refusals_due(t, now), INT64_MAX);
    refusals_add(t, &r, now);
    assert_true(refusals_due(t, now) <= now);
    assert_true(refusals_take(t, now, false, &out));
    assert_int_equal(out.count, 1);
    assert_true(out.has_session);
    for (int i = 0; i < 500; i++)
        refusals_add(t, &r, now + i);
    r = make("selectors", "spiffe://a/b", 2); /* alike, from another session */
    refusals_add(t, &r, now + 500);
    assert_false(refusals_take(t, now + 501, false, &out));
    assert_int_equal(refusals_due(t, now + 501), now + REFUSALS_WINDOW_MS);
    assert_true(refusals_take(t, now + REFUSALS_WINDOW_MS, false, &out));
    assert_int_equal(out.count, 501);
    assert_false(out.has_session);
    assert_string_equal(out.rule, "selectors");
    assert_false(refusals_take(t, now + 10 * REFUSALS_WINDOW_MS, false, &out));
    refusals_add(t, &r, now + 10 * REFUSALS_WINDOW_MS); /* long after: at once again */
    assert_true(refusals_take(t, now + 10 * REFUSALS_WINDOW_MS, false, &out));
}

/* One that could not be told goes back with its number. */
static void given_back(void **state)
{
    struct refusals *t = *state;
    struct refusal r = make("selectors", "spiffe://a/b", 1), out;
    for (int i = 0; i < 3; i++)
        refusals_add(t, &r, 0);
    assert_true(refusals_take(t, 0, false, &out));
    assert_int_equal(out.count, 3);
    refusals_add(t, &out, 1);
    refusals_add(t, &r, 2);
    assert_true(refusals_take(t, REFUSALS_WINDOW_MS, false, &out));
    assert_int_equal(out.count, 4);
    out.count = UINT32_MAX;
    refusals_add(t, &out, 3);
    refusals_add(t, &r, 4); /* full, not wrapped */
    assert_true(refusals_take(t, 0, true, &out));
    assert_int_equal(out.count, UINT32_MAX);
}

static void kinds_told_apart(void **state)
{
    struct refusals *t = *state;
    struct refusal out, of[] = {make("a", "spiffe://a/b", 1), make("b", "spiffe://a/b", 1), make("a", "spiffe://a/c", 1)};
    unsigned n = 0;
    for (size_t i = 0; i < 3; i++)
        refusals_add(t, &of[i], 0);
    while (refusals_take(t, 0, true, &out)) {
        assert_int_equal(out.count, 1);
        n++;
    }
    assert_int_equal(n, 3);
}

/* A million in a minute, of as many kinds as there are: a few hundred records, one million counted. */
static void a_flood(void **state)
{
    struct refusals *t = *state;
    struct refusal out;
    uint64_t counted = 0;
    unsigned records = 0;
    for (unsigned i = 0; i < 1000000; i++) {
        char id[64];
        int64_t now = (int64_t)i * 60 / 1000;
        snprintf(id, sizeof id, "spiffe://a/%u", i % 3 ? i : i % 7);
        struct refusal r = make("no-entry", id, 1);
        refusals_add(t, &r, now);
        while (refusals_take(t, now, false, &out)) {
            counted += out.count;
            records++;
        }
    }
    assert_true(records <= 60 * REFUSALS_A_SECOND + 1);
    while (refusals_take(t, 60000, true, &out))
        counted += out.count;
    assert_int_equal(counted, 1000000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(first_at_once_then_counted, setup, teardown),
        cmocka_unit_test_setup_teardown(given_back, setup, teardown),
        cmocka_unit_test_setup_teardown(kinds_told_apart, setup, teardown),
        cmocka_unit_test_setup_teardown(a_flood, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
