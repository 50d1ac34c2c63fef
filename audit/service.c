#include "audit/service.h"
#include "audit/internal.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define LOOK_MS 1000
#define KEY_MS 50 /* the signer comes up just now */

struct audit {
    struct audit_options o;
    pthread_t indexer, answerer;
    atomic_bool stop;
    atomic_bool suspect; /* a reader found the file damaged */
    atomic_bool keyed;   /* vkey is there, and stays */
    struct tlog_vkey vkey;
    struct audit_index *writer, *reader; /* of one thread each */
    char look_rule[32], ask_rule[32];    /* what each thread complained of last */
    pthread_mutex_t lock;
    pthread_cond_t asked, stopping;
    struct audit_question *head, **tail; /* the queue */
    unsigned waiting;                    /* of those that are not first */
};

/* --- the indexing thread ------------------------------------------------------------------------------ */

static void wait_ms(struct audit *a, int64_t ms)
{
    const int64_t until = clock_mono_ms() + ms;
    pthread_mutex_lock(&a->lock);
    while (!atomic_load(&a->stop) && cond_wait_until(&a->stopping, &a->lock, until))
        ;
    pthread_mutex_unlock(&a->lock);
}

static void rest(void *arg, int64_t worked_us)
{
    wait_ms(arg, worked_us / 1000);
}

static bool key_known(struct audit *a, struct err *e)
{
    char text[1024];
    if (!atomic_load(&a->keyed) && a->o.vkey(a->o.arg, text, sizeof text))
        atomic_store(&a->keyed, tlog_vkey_parse(&a->vkey, text, strlen(text), e) == 0);
    return atomic_load(&a->keyed);
}

static int index_look(struct audit *a, struct err *e)
{
    const struct audit_index_options o = {a->o.index, a->o.log_dir, &a->vkey, .read_only = false, .archive = a->o.archive};
    const struct audit_run run = {.rest = rest, .arg = a, .stop = &a->stop};
    if (a->writer && !audit_index_in_place(a->writer)) {
        log_warn("the audit index was deleted or overwritten; it is made again", "file", a->o.index, NULL);
        audit_index_close(a->writer);
        a->writer = NULL;
    }
    if (!a->writer && audit_index_open(&a->writer, &o, e) < 0)
        return -1;
    if (atomic_exchange(&a->suspect, false))
        a->writer->damaged = true;
    return audit_index_catch_up(a->writer, &run, e);
}

/* A trouble that lasts is told of once. */
static void complain(char last_rule[32], enum log_level level, const char *what, const struct err *e)
{
    if (strcmp(last_rule, e->rule) == 0)
        return;
    memcpy(last_rule, e->rule, sizeof e->rule);
    log_err(level, what, e);
}

static void *index_thread(void *arg)
{
    struct audit *a = arg;
    while (!atomic_load(&a->stop)) {
        struct err e = {0};
        if (key_known(a, &e) && index_look(a, &e) == 0)
            a->look_rule[0] = 0;
        else if (e.code)
            complain(a->look_rule, LOG_ERROR, "the audit index cannot be kept up", &e);
        wait_ms(a, atomic_load(&a->keyed) ? LOOK_MS : KEY_MS);
    }
    return NULL;
}

/* --- the answering thread ------------------------------------------------------------------------------ */

static int not_there(struct err *e)
{
    return err_set(e, ERR_UNAVAILABLE, "audit-index",
                   "the audit index is being made or mended just now; try again in some seconds. 'mayfly log search' on the "
                   "authority's host does not need it");
}

static int reader_open(struct audit *a, struct err *e)
{
    const struct audit_index_options o = {a->o.index, a->o.log_dir, &a->vkey, .read_only = true, .live = true, .archive = a->o.archive};
    if (a->reader && !audit_index_in_place(a->reader)) {
        audit_index_close(a->reader);
        a->reader = NULL;
    }
    if (!atomic_load(&a->keyed))
        return not_there(e);
    return a->reader || audit_index_open(&a->reader, &o, e) == 0 ? 0 : -1;
}

struct page {
    struct audit_writer w;
    struct buf *out;
};

static int entry_found(void *arg, const struct audit_found *f, struct err *e)
{
    struct page *p = arg;
    audit_write_entry(&p->w, f);
    return p->out->len > AUDIT_ANSWER_MAX / 2;
}

static int answer_entries(struct audit *a, struct audit_question *q, struct err *e)
{
    struct tlog_reader *r;
    struct page p = {{.out = &q->out, .format = q->filter.format, .log_number = a->o.log_number}, &q->out};
    uint64_t indexed;
    const struct tlog_place at = {.dir = a->o.log_dir, .archive = a->o.archive};
    if (audit_index_size(a->reader, &indexed, e) < 0 || tlog_reader_open_at(&r, &at, &a->vkey, e) < 0)
        return -1;
    uint64_t published = tlog_reader_head(r)->size;
    q->covered = indexed < published ? indexed : published;
    if (!q->each)
        audit_write_begin(&p.w, r, indexed);
    int ret = audit_search(a->reader, r, &q->filter, AUDIT_WITHIN_MS, q->each ? q->each : entry_found,
                           q->each ? q->each_arg : &p, q->next, e);
    tlog_reader_close(r);
    if (ret == 0 && !q->each)
        audit_write_end(&p.w, q->next);
    return ret;
}

static int answer_stats(struct audit *a, struct audit_question *q, struct err *e)
{
    struct audit_stats s;
    if (audit_index_stats(a->reader, clock_wall(), &s, e) < 0)
        return -1;
    audit_write_stats(&q->out, &s);
    return 0;
}

/* What is wrong with the index is the operator's to read, and the asker's to wait for. */
static void index_trouble(struct audit *a, struct err *e)
{
    if (e->code == ERR_CORRUPT || e->code == ERR_INTERNAL || strcmp(e->rule, "audit-slow") == 0 ||
        strcmp(e->rule, "audit-index") == 0)
        return;
    complain(a->ask_rule, LOG_WARN, "a question to the audit index failed", e);
    if (strcmp(e->rule, "audit-damaged") == 0)
        atomic_store(&a->suspect, true);
    audit_index_close(a->reader);
    a->reader = NULL;
    not_there(e);
}

static void answer(struct audit *a, struct audit_question *q)
{
    struct err e = {0};
    int ret = reader_open(a, &e);
    if (ret == 0)
        ret = q->stats ? answer_stats(a, q, &e) : answer_entries(a, q, &e);
    if (ret == 0 && q->out.failed)
        ret = err_set(&e, ERR_INTERNAL, "memory", "out of memory for an answer");
    if (ret < 0)
        index_trouble(a, &e);
    else
        a->ask_rule[0] = 0;
    q->done(q, ret < 0 ? &e : NULL);
}

static struct audit_question *queue_take(struct audit *a)
{
    pthread_mutex_lock(&a->lock);
    while (!a->head && !atomic_load(&a->stop))
        pthread_cond_wait(&a->asked, &a->lock);
    struct audit_question *q = a->head;
    if (q) {
        a->head = q->behind;
        if (!a->head)
            a->tail = &a->head;
        a->waiting -= !q->first;
    }
    pthread_mutex_unlock(&a->lock);
    return q;
}

static void *answer_thread(void *arg)
{
    struct audit *a = arg;
    for (struct audit_question *q; (q = queue_take(a));) {
        struct err e = {0};
        if (atomic_load(&a->stop)) {
            err_set(&e, ERR_UNAVAILABLE, "stopping", "this server is stopping; try again");
            q->done(q, &e);
        } else {
            answer(a, q);
        }
    }
    return NULL;
}

int audit_ask(struct audit *a, struct audit_question *q, struct err *e)
{
    int ret = 0;
    pthread_mutex_lock(&a->lock);
    if (!q->first && a->waiting >= AUDIT_QUEUE_MAX) {
        ret = err_set(e, ERR_RATE, "audit-busy", "%d questions to the audit index wait already; try again", AUDIT_QUEUE_MAX);
    } else if (q->first) {
        q->behind = a->head;
        a->head = q;
        if (!q->behind)
            a->tail = &q->behind;
    } else {
        q->behind = NULL;
        *a->tail = q;
        a->tail = &q->behind;
        a->waiting++;
    }
    pthread_cond_signal(&a->asked);
    pthread_mutex_unlock(&a->lock);
    return ret;
}

/* --- start, stop --------------------------------------------------------------------------------------- */

int audit_start(struct audit **out, const struct audit_options *o, struct err *e)
{
    struct audit *a = calloc(1, sizeof *a);
    if (!a)
        return err_set(e, ERR_INTERNAL, "memory", "out of memory for the audit service");
    a->o = *o;
    a->tail = &a->head;
    pthread_mutex_init(&a->lock, NULL);
    pthread_cond_init(&a->asked, NULL);
    cond_init_mono(&a->stopping);
    if (thread_start(&a->answerer, answer_thread, a, "the thread that searches the log", e) < 0) {
        free(a);
        return -1;
    }
    if (thread_start(&a->indexer, index_thread, a, "the thread that indexes the log", e) < 0) {
        a->indexer = a->answerer;
        audit_stop(a);
        return -1;
    }
    *out = a;
    return 0;
}

void audit_stop(struct audit *a)
{
    if (!a)
        return;
    pthread_mutex_lock(&a->lock);
    atomic_store(&a->stop, true);
    pthread_cond_broadcast(&a->asked);
    pthread_cond_broadcast(&a->stopping);
    pthread_mutex_unlock(&a->lock);
    pthread_join(a->answerer, NULL);
    if (!pthread_equal(a->indexer, a->answerer))
        pthread_join(a->indexer, NULL);
    audit_index_close(a->writer);
    audit_index_close(a->reader);
    if (atomic_load(&a->keyed))
        tlog_vkey_free(&a->vkey);
    pthread_mutex_destroy(&a->lock);
    pthread_cond_destroy(&a->asked);
    pthread_cond_destroy(&a->stopping);
    free(a);
}
