/* When to renew: pure, with the dice in hand. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include "agent/daemon.h"

#define LIFE 300000

static void test_half_life(void **state)
{
    assert_int_equal(renew_at(1000, 1000 + LIFE, 0), 1000 + LIFE * 45 / 100);
    int64_t last = renew_at(1000, 1000 + LIFE, UINT32_MAX);
    assert_in_range(last, 1000 + LIFE / 2, 1000 + LIFE * 55 / 100);
    /* Spread evenly: the middle of the dice is the middle of the range. */
    assert_in_range(renew_at(0, LIFE, UINT32_MAX / 2), LIFE / 2 - 2, LIFE / 2 + 2);
}

static void test_window(void **state)
{
    struct ari w = {.start = 100, .end = 160};
    assert_int_equal(renew_in_window(&w, 0), 100000);
    assert_in_range(renew_in_window(&w, UINT32_MAX), 159000, 160000);
    assert_in_range(renew_in_window(&w, UINT32_MAX / 2), 129990, 130010);
    w.end = w.start;
    assert_int_equal(renew_in_window(&w, UINT32_MAX), 100000);
}

static void test_backoff(void **state)
{
    for (unsigned n = 1; n < 40; n++) {
        int64_t low = renew_backoff_ms(n, 0, 0), high = renew_backoff_ms(n, 0, UINT32_MAX);
        assert_true(low >= 250 && high <= 30000);
        assert_true(low < high);
        if (n > 1)
            assert_true(high >= renew_backoff_ms(n - 1, 0, UINT32_MAX));
    }
    assert_true(renew_backoff_ms(40, 0, UINT32_MAX) > 25000);
    /* With eight seconds left there must be several tries. */
    assert_true(renew_backoff_ms(20, 8000, UINT32_MAX) <= 2000);
    assert_true(renew_backoff_ms(20, 10, 0) >= 250); /* never a storm */
}

static void test_advice_polls(void **state)
{
    assert_in_range(ari_poll_ms(0, LIFE, 0, 0), LIFE / 8, LIFE / 8);
    assert_true(ari_poll_ms(0, LIFE, 0, UINT32_MAX) <= LIFE / 8 * 11 / 10);
    assert_int_equal(ari_poll_ms(0, LIFE, 20, 0), 20000);
    assert_int_equal(ari_poll_ms(0, LIFE, 1, 0), 10000);       /* at least ten seconds */
    assert_int_equal(ari_poll_ms(0, LIFE, 86400, 0), LIFE / 8); /* at most an eighth of the life */
    assert_int_equal(ari_poll_ms(0, 20000, 0, 0), 10000);
    assert_int_equal(ari_poll_ms(0, INT64_MAX / 4, 0, 0), 6 * 3600 * 1000);
}

static void test_overdue(void **state)
{
    assert_false(renew_overdue(0, LIFE, LIFE * 2 / 3 - 1));
    assert_true(renew_overdue(0, LIFE, LIFE * 2 / 3));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_half_life),    cmocka_unit_test(test_window),  cmocka_unit_test(test_backoff),
        cmocka_unit_test(test_advice_polls), cmocka_unit_test(test_overdue),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
