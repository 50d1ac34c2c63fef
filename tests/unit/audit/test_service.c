/* The service beside a daemon: waits for the log's key, answers, mends its file, stops at any time. */
#include "unit/audit/house.h"
#include "audit/service.h"
#include <pthread.h>
#include <semaphore.h>

struct desk { /* who asks */
    struct house h;
    struct audit *a;
    atomic_bool keyed;
    char vkey[512];
};

static bool key(void *arg, char *dst, size_t cap)
{
    struct desk *d = arg;
    snprintf(dst, cap, "%s", d->vkey);
    return atomic_load(&d->keyed);
}

struct asked {
    struct audit_question q;
    sem_t done;
    int answers;
    struct err e; /* code ERR_NONE: answered */
};

static void done(struct audit_question *q, const struct err *e)
{
    struct asked *a = q->arg;
    a->answers++;
    if (e)
        a->e = *e;
    sem_post(&a->done);
}

static void ask(struct desk *d, struct asked *a, const char *query)
{
    struct err e;
    memset(a, 0, sizeof *a);
    sem_init(&a->done, 0, 0);
    buf_init(&a->q.out, AUDIT_ANSWER_MAX);
    a->q.done = done;
    a->q.arg = a;
    a->q.stats = query == NULL;
    assert_ok(audit_query_parse(&a->q.filter, query ? query : "", query ? strlen(query) : 0, &e), e);
    assert_ok(audit_ask(d->a, &a->q, &e), e);
}

static void wait_for(struct asked *a)
{
    while (sem_wait(&a->done) < 0)
        ;
    assert_int_equal(a->answers, 1);
    sem_destroy(&a->done);
}

/* Until the answer has this text: the indexing thread is at it. */
static void until(struct desk *d, const char *query, const char *text)
{
    static struct asked a;
    for (;;) {
        ask(d, &a, query);
        wait_for(&a);
        bool there = a.e.code == ERR_NONE && strstr(buf_cstr(&a.q.out), text);
        buf_free(&a.q.out);
        if (there)
            return;
        usleep(20000);
    }
}

static void open_desk(struct desk *d)
{
    struct buf text;
    struct err e;
    memset(d, 0, sizeof *d);
    house_begin(&d->h);
    house_varied(&d->h, 1, 300);
    buf_init(&text, 512);
    tlog_vkey_write(&d->h.t.vkey, &text);
    snprintf(d->vkey, sizeof d->vkey, "%s", buf_cstr(&text));
    buf_free(&text);
    const struct audit_options o = {.index = d->h.index, .log_dir = d->h.t.dir, .vkey = key, .arg = d, .log_number = 1};
    assert_ok(audit_start(&d->a, &o, &e), e);
}

static void answers(void **state)
{
    static struct desk d;
    static struct asked a;
    open_desk(&d);
    ask(&d, &a, "");
    wait_for(&a);
    assert_rule(a.e, "audit-index"); /* nobody knows the key yet */
    assert_int_equal(a.e.code, ERR_UNAVAILABLE);
    buf_free(&a.q.out);
    atomic_store(&d.keyed, true);
    until(&d, NULL, "\"indexed\":301");
    until(&d, "limit=1", "\"index\":300,");
    house_varied(&d.h, 301, 10);
    until(&d, "limit=1", "\"index\":310,");
    unlink(d.h.index);
    until(&d, "limit=1&format=csv", "\n310,");
    shell("printf garbage >%s", d.h.index);
    until(&d, "limit=1&format=jsonl", "\"index\":310,");
    audit_stop(d.a);
    house_end(&d.h);
}

/* Whoever waits when it stops is told so, once. */
static void stops(void **state)
{
    static struct desk d;
    static struct asked a[20];
    open_desk(&d);
    atomic_store(&d.keyed, true);
    for (int i = 0; i < 20; i++)
        ask(&d, &a[i], i % 2 ? "limit=1000" : NULL);
    audit_stop(d.a);
    for (int i = 0; i < 20; i++) {
        wait_for(&a[i]);
        buf_free(&a[i].q.out);
    }
    house_end(&d.h);
}

static struct {
    sem_t in, go;
} gate;

static void hold(struct audit_question *q, const struct err *e)
{
    sem_post(&gate.in);
    while (sem_wait(&gate.go) < 0)
        ;
    done(q, e);
}

/* So many may wait; operators go before them. */
static void queue(void **state)
{
    static struct desk d;
    static struct asked holder, waiting[AUDIT_QUEUE_MAX], one_more, operator;
    struct err e;
    open_desk(&d);
    sem_init(&gate.in, 0, 0);
    sem_init(&gate.go, 0, 0);
    memset(&holder, 0, sizeof holder);
    sem_init(&holder.done, 0, 0);
    buf_init(&holder.q.out, 1000);
    holder.q.done = hold;
    holder.q.arg = &holder;
    audit_filter_init(&holder.q.filter);
    assert_ok(audit_ask(d.a, &holder.q, &e), e);
    while (sem_wait(&gate.in) < 0) /* the answering thread is busy */
        ;
    for (int i = 0; i < AUDIT_QUEUE_MAX; i++)
        ask(&d, &waiting[i], "");
    memset(&one_more, 0, sizeof one_more);
    assert_int_equal(audit_ask(d.a, &one_more.q, &e), -1);
    assert_rule(e, "audit-busy");
    assert_int_equal(e.code, ERR_RATE);
    memset(&operator, 0, sizeof operator);
    sem_init(&operator.done, 0, 0);
    buf_init(&operator.q.out, 1000);
    operator.q.first = true;
    operator.q.done = hold;
    operator.q.arg = &operator;
    audit_filter_init(&operator.q.filter);
    assert_ok(audit_ask(d.a, &operator.q, &e), e);
    sem_post(&gate.go);
    wait_for(&holder);
    while (sem_wait(&gate.in) < 0) /* it is the operator's turn: the others still wait */
        ;
    assert_int_equal(waiting[0].answers, 0);
    sem_post(&gate.go);
    wait_for(&operator);
    for (int i = 0; i < AUDIT_QUEUE_MAX; i++) {
        wait_for(&waiting[i]);
        buf_free(&waiting[i].q.out);
    }
    buf_free(&holder.q.out);
    buf_free(&operator.q.out);
    audit_stop(d.a);
    house_end(&d.h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(answers), cmocka_unit_test(stops), cmocka_unit_test(queue)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
