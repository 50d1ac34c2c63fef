#include "base/clock.h"
#include "unit/base/scratch.h"
#include <time.h>

static void test_rfc3339(void **state)
{
    static const struct {
        int64_t t;
        const char *text;
    } cases[] = {
        {0, "1970-01-01T00:00:00Z"},
        {-1, "1969-12-31T23:59:59Z"},
        {1769860800, "2026-01-31T12:00:00Z"},
        {951782400, "2000-02-29T00:00:00Z"},
        {253402300799, "9999-12-31T23:59:59Z"},
        {INT64_MAX, "9999-12-31T23:59:59Z"},
        {INT64_MIN, "0001-01-01T00:00:00Z"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char s[21];
        clock_rfc3339(s, cases[i].t);
        assert_string_equal(s, cases[i].text);
    }
}

static void test_clocks(void **state)
{
    unsetenv("MAYFLY_CLOCK_OFFSET_FILE");
    int64_t before = time(NULL), wall = clock_wall();
    assert_true(wall >= before - 1);
    int64_t a = clock_mono_us(), b = clock_mono_us();
    assert_true(a > 0 && b >= a);
    assert_true(clock_mono_ms() >= b / 1000);
}

static void test_guard(void **state)
{
    struct err e = {0};
    int64_t wall = clock_wall(), now = 0;
    struct clock_guard g = {0};
    assert_int_equal(clock_guard_now(&g, &now, &e), 0);
    assert_true(now >= wall && g.last == now);

    g.last = clock_wall() + 3; /* a small step back: time stands still */
    assert_int_equal(clock_guard_now(&g, &now, &e), 0);
    assert_true(now == g.last);

    int64_t last = clock_wall() + 3600;
    g.last = last;
    now = -1;
    assert_int_equal(clock_guard_now(&g, &now, &e), -1);
    assert_int_equal(e.code, ERR_UNAVAILABLE);
    assert_string_equal(e.rule, "clock-back");
    char was[21];
    clock_rfc3339(was, last);
    assert_non_null(strstr(e.msg, was));
    assert_true(now == -1 && g.last == last);
}

#ifdef MAYFLY_FAULTS
static void test_offset_file(void **state)
{
    struct err e = {0};
    struct clock_guard g = {0};
    int64_t now;
    const char *path = scratch_path("offset");
    assert_int_equal(clock_guard_now(&g, &now, &e), 0);
    scratch_write(path, "-86400\n", 0600);
    setenv("MAYFLY_CLOCK_OFFSET_FILE", path, 1);
    assert_true(clock_wall() < time(NULL) - 86000);
    assert_int_equal(clock_guard_now(&g, &now, &e), -1);
    scratch_write(path, "86400", 0600);
    assert_true(clock_wall() > time(NULL) + 86000);
    assert_int_equal(clock_guard_now(&g, &now, &e), 0);
    scratch_write(path, "rubbish", 0600);
    assert_true(clock_wall() < time(NULL) + 60);
    unlink(path);
    assert_true(clock_wall() < time(NULL) + 60);
    unsetenv("MAYFLY_CLOCK_OFFSET_FILE");
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rfc3339),
        cmocka_unit_test(test_clocks),
        cmocka_unit_test(test_guard),
#ifdef MAYFLY_FAULTS
        cmocka_unit_test(test_offset_file),
#endif
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
