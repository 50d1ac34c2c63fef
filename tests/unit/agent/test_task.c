/* Queues: what is sooner comes first, and what waits longest comes too, however much of the other is put. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include "agent/daemon.h"
#include <event2/event.h>
#include <semaphore.h>
#include <string.h>

#define FIRST 40

struct mark {
    struct task task;
    int name;
};
static struct {
    struct event_base *base;
    struct post *post;
    struct queue *queue;
    sem_t go, begun;
    int order[FIRST + 2];
    unsigned worked, back, unworked;
} f;

static void work(struct task *t)
{
    f.order[f.worked++] = ((struct mark *)t)->name;
}

static void hold(struct task *t)
{
    sem_post(&f.begun);
    sem_wait(&f.go);
}

static void done(struct task *t)
{
    f.back++;
    f.unworked += !t->worked;
}

static void put(struct mark *m, int name, unsigned priority)
{
    *m = (struct mark){.task = {.priority = priority, .work = work, .done = done}, .name = name};
    queue_put(f.queue, &m->task);
}

static int setup(void **state)
{
    struct err e;
    memset(&f, 0, sizeof f);
    sem_init(&f.go, 0, 0);
    sem_init(&f.begun, 0, 0);
    f.base = event_base_new();
    f.post = post_new(f.base, &e);
    f.queue = queue_new(f.post, 1, "test", &e);
    return f.queue ? 0 : -1;
}

static int teardown(void **state)
{
    queue_free(f.queue);
    post_free(f.post);
    event_base_free(f.base);
    sem_destroy(&f.go);
    sem_destroy(&f.begun);
    return 0;
}

static void block(struct mark *m)
{
    *m = (struct mark){.task = {.work = hold, .done = done}};
    queue_put(f.queue, &m->task);
    sem_wait(&f.begun);
}

static void all(unsigned n)
{
    sem_post(&f.go);
    while (f.back < n)
        event_base_loop(f.base, EVLOOP_ONCE);
}

static void test_priority(void **state)
{
    struct mark m[4], first;
    block(&first);
    put(&m[0], 0, 5);
    put(&m[1], 1, 5);
    put(&m[2], 2, 1);
    assert_int_equal(queue_waiting(f.queue), 3);
    all(4);
    assert_int_equal(f.order[0], 2);
    assert_int_equal(f.order[1], 0);
    assert_int_equal(f.order[2], 1);
    assert_int_equal(f.unworked, 0);
}

/* Two of little hurry, then many of great: each comes before most of these. */
static void test_nobody_starves(void **state)
{
    struct mark m[FIRST], low[2], first;
    block(&first);
    put(&low[0], 1000, 5);
    put(&low[1], 1001, 6);
    for (int i = 0; i < FIRST; i++)
        put(&m[i], i, 2);
    all(FIRST + 3);
    int at[2] = {-1, -1};
    for (int i = 0; i < FIRST + 2; i++)
        if (f.order[i] >= 1000)
            at[f.order[i] - 1000] = i;
    assert_in_range(at[0], 0, 4);
    assert_in_range(at[1], at[0] + 1, 8);
}

static void test_end(void **state)
{
    struct mark m[3], first;
    block(&first);
    for (int i = 0; i < 3; i++)
        put(&m[i], i, 1);
    sem_post(&f.go);
    queue_stop(f.queue);
    post_free(f.post); /* each comes back, worked or not */
    f.post = NULL;
    assert_int_equal(f.back, 4);
    assert_int_equal(f.worked + f.unworked, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_priority, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nobody_starves, setup, teardown),
        cmocka_unit_test_setup_teardown(test_end, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
