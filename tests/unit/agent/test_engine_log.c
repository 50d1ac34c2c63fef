/* What the log says of an outage that lasts: again after a while, and when the agent's own SVID is over. */
#include "unit/agent/engine_fixture.h"
#include <fcntl.h>
#include <sys/mman.h>

/* What goes to standard error between the two stays here. */
struct ear {
    int fd, real;
    char text[65536];
};

static void listen_to(struct ear *l)
{
    l->fd = memfd_create("log", MFD_CLOEXEC);
    l->real = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    assert_true(l->fd >= 0 && l->real >= 0 && dup2(l->fd, STDERR_FILENO) == STDERR_FILENO);
}

static const char *heard(struct ear *l)
{
    dup2(l->real, STDERR_FILENO);
    ssize_t n = pread(l->fd, l->text, sizeof l->text - 1, 0);
    l->text[n > 0 ? n : 0] = 0;
    close(l->fd);
    close(l->real);
    return l->text;
}

static unsigned times(const char *text, const char *words)
{
    unsigned n = 0;
    for (; (text = strstr(text, words)); text++)
        n++;
    return n;
}

static void outage(struct fixture *f, struct identity *i)
{
    engine_want(&f->a, i);
    engine_run(&f->a);
    TURN_UNTIL(f, i->svid);
    f->down = true;
    i->renew_wall_ms = clock_wall_ms() - 1;
    i->retry_mono_ms = 0;
    engine_run(&f->a);
    TURN_UNTIL(f, f->a.gate_failures > 0);
}

static void test_reminder(void **state)
{
    struct fixture *f = *state;
    struct identity *web = add(f, "web"), *db = add(f, "db");
    static struct ear l;
    char end[21];
    engine_want(&f->a, db);
    engine_run(&f->a);
    TURN_UNTIL(f, db->svid);
    db->until_ms += 1000;
    outage(f, web);
    clock_rfc3339(end, web->until_ms / 1000);

    listen_to(&l);
    f->a.outage_told_ms = clock_mono_ms() - 10000;
    gate_tick(&f->a); /* told not long ago */
    assert_int_equal(times(heard(&l), "still can not be reached"), 0);

    listen_to(&l);
    f->a.outage_told_ms = clock_mono_ms() - 5 * 60 * 1000;
    gate_tick(&f->a);
    gate_tick(&f->a);
    const char *text = heard(&l);
    assert_int_equal(times(text, "still can not be reached"), 1);
    assert_int_equal(times(text, "\"level\":\"warn\""), 1);
    assert_non_null(strstr(text, "down, as the test wants"));
    assert_non_null(strstr(text, "\"since\":\"2030-03-17T"));
    assert_non_null(strstr(text, end));
    assert_non_null(strstr(text, "\"id\":\"spiffe://example.org/web\"")); /* the first that ends */

    f->down = false;
    TURN_UNTIL(f, f->a.gate_failures == 0);
    listen_to(&l);
    f->a.outage_told_ms = clock_mono_ms() - 5 * 60 * 1000;
    gate_tick(&f->a);
    assert_int_equal(times(heard(&l), "still can not be reached"), 0);
}

static void test_own_over(void **state)
{
    struct fixture *f = *state;
    struct agent *a = &f->a;
    static struct ear l;
    outage(f, add(f, "web"));
    a->own.renew_wall_ms = INT64_MAX;
    listen_to(&l);
    a->own.until_ms = clock_wall_ms() - 1;
    engine_run(a);
    engine_run(a);
    const char *text = heard(&l);
    assert_int_equal(times(text, "own SVID expired unrenewed"), 1);
    assert_non_null(strstr(text, "\"level\":\"error\""));
    assert_non_null(strstr(text, "down, as the test wants"));
    /* Another one, that ends in its turn. */
    listen_to(&l);
    a->own.until_ms = clock_wall_ms() + 3600000;
    engine_run(a);
    assert_int_equal(times(heard(&l), "expired unrenewed"), 0);
    listen_to(&l);
    a->own.until_ms = clock_wall_ms() - 1;
    engine_run(a);
    assert_int_equal(times(heard(&l), "expired unrenewed"), 1);
    /* One that is cut off was told of already. */
    listen_to(&l);
    a->own.until_ms = clock_wall_ms() + 3600000;
    engine_run(a);
    a->own.until_ms = 0;
    engine_run(a);
    assert_int_equal(times(heard(&l), "expired unrenewed"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_reminder, setup, teardown),
        cmocka_unit_test_setup_teardown(test_own_over, setup, teardown),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
