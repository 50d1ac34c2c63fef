/* Who is attested when, and how many may wait for it. The callers are this process itself. */
#include "agent/callers.h"
#include "base/clock.h"
#include "base/log.h"
#include "unit/base/scratch.h"
#include <event2/event.h>
#include <semaphore.h>
#include <sys/resource.h>
#include <sys/socket.h>

struct fixture {
    struct agent a;
    sem_t gate;
    unsigned attesting_then; /* when mark_done ran */
    bool marked;
    int pair[2];
};
struct mark { /* a task of the test's between the agent's */
    struct task task;
    struct fixture *f;
};

static void wait_at_gate(struct task *t)
{
    sem_wait(&((struct mark *)t)->f->gate);
}

static void nothing(struct task *t)
{
}

static unsigned attesting(const struct agent *a)
{
    unsigned n = 0;
    for (const struct caller *c = a->callers; c; c = c->next)
        n += c->attesting;
    return n;
}

static void mark_done(struct task *t)
{
    struct fixture *f = ((struct mark *)t)->f;
    f->marked = true;
    f->attesting_then = attesting(&f->a);
}

static int setup(void **state)
{
    struct err e;
    struct rlimit files;
    struct fixture *f = calloc(1, sizeof *f);
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, f->pair), 0);
    assert_int_equal(sem_init(&f->gate, 0, 0), 0);
    f->a.base = event_base_new();
    f->a.post = post_new(f->a.base, &e);
    f->a.attestors = queue_new(f->a.post, 1, "attestor", &e);
    assert_non_null(f->a.attestors);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    queue_free(f->a.attestors);
    post_free(f->a.post);
    event_base_free(f->a.base);
    close(f->pair[0]);
    close(f->pair[1]);
    sem_destroy(&f->gate);
    free(f);
    return 0;
}

/* Half a minute is for slow machines. */
static void turn_until_gone(struct fixture *f)
{
    struct timeval t = {0, 10000};
    for (int i = 0; f->a.callers && i < 3000; i++) {
        event_base_loopexit(f->a.base, &t);
        event_base_dispatch(f->a.base);
    }
    assert_null(f->a.callers);
    assert_int_equal(f->a.callers_count, 0);
}

/* Whoever connects and leaves faster than he is attested holds descriptors: no more than this many. */
static void those_who_left_still_count(void **state)
{
    struct fixture *f = *state;
    struct rlimit files;
    struct mark block = {.task = {.work = wait_at_gate, .done = nothing}, .f = f};
    getrlimit(RLIMIT_NOFILE, &files);
    if (files.rlim_cur < 2 * CALLERS_PER_UID + 100)
        skip();
    queue_put(f->a.attestors, &block.task);
    for (int i = 0; i < CALLERS_PER_UID; i++) {
        struct caller *c = caller_new(&f->a, f->pair[0]);
        assert_non_null(c);
        caller_gone(c);
    }
    assert_null(caller_new(&f->a, f->pair[0]));
    assert_int_equal(f->a.callers_count, CALLERS_PER_UID);
    sem_post(&f->gate);
    turn_until_gone(f);
    assert_int_equal(f->a.counters.attested, 0); /* nobody was there any more to be looked at */
    struct caller *c = caller_new(&f->a, f->pair[0]);
    assert_non_null(c);
    caller_gone(c);
    turn_until_gone(f);
}

/* However low the limit: the agent itself always finds a descriptor. */
static void the_last_descriptors_are_kept(void **state)
{
    struct fixture *f = *state;
    struct rlimit was, low;
    struct mark block = {.task = {.work = wait_at_gate, .done = nothing}, .f = f};
    queue_put(f->a.attestors, &block.task);
    getrlimit(RLIMIT_NOFILE, &was);
    low = was;
    low.rlim_cur = (rlim_t)f->pair[0] + DESCRIPTORS_KEPT;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    struct caller *there = caller_new(&f->a, f->pair[0]);
    low.rlim_cur--;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    struct caller *none = caller_new(&f->a, f->pair[0]);
    setrlimit(RLIMIT_NOFILE, &was);
    assert_non_null(there);
    assert_null(none);
    caller_gone(there);
    sem_post(&f->gate);
    turn_until_gone(f);
}

/* The second of one user's stands behind the first of another's, whenever that comes. */
static void users_take_turns(void **state)
{
    struct fixture *f = *state;
    struct mark block = {.task = {.work = wait_at_gate, .done = nothing}, .f = f};
    struct mark other = {.task = {.work = nothing, .done = mark_done}, .f = f}; /* as a first one: priority 0 */
    struct timeval t = {0, 10000};
    queue_put(f->a.attestors, &block.task);
    for (int i = 0; i < 3; i++) {
        struct caller *c = caller_new(&f->a, f->pair[0]);
        assert_non_null(c);
        caller_gone(c); /* what it would be given is not the matter here */
    }
    queue_put(f->a.attestors, &other.task);
    sem_post(&f->gate);
    for (int i = 0; !f->marked && i < 3000; i++) {
        event_base_loopexit(f->a.base, &t);
        event_base_dispatch(f->a.base);
    }
    assert_true(f->marked);
    assert_int_equal(f->attesting_then, 2);
    turn_until_gone(f);
}

int main(void)
{
    log_setup("test", LOG_ERROR, LOG_TEXT);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(those_who_left_still_count, setup, teardown),
        cmocka_unit_test_setup_teardown(the_last_descriptors_are_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(users_take_turns, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
