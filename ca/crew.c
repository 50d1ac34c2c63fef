#include "ca/crew.h"
#include "base/clock.h"
#include "base/thread.h"
#include "ca/job.h"
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

struct hand { /* one thread */
    struct crew *crew;
    unsigned number;
    pthread_t thread;
};

struct crew {
    struct crew_options o;
    struct job *jobs;    /* all of them; owned */
    struct hand *hands;
    unsigned running;

    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t work;  /* hands wait here */
    pthread_cond_t less;  /* the corridor waits here for the backlog to fall */
    struct job *pool;
    struct job *first, *last; /* queue */
    size_t queued;            /* in the queue */
    size_t unfinished;        /* queued or being worked on */
    size_t want;              /* backlog that the corridor waits for */
    bool stop;
    struct err failure; /* code ERR_NONE: none */
};

void job_init(struct job *j)
{
    buf_init(&j->log_ext, 4096);
    buf_init(&j->log_entry, IPC_FRAME_MAX);
}

void job_free(struct job *j)
{
    free(j->crl);
    buf_free(&j->log_ext);
    buf_free(&j->log_entry);
}

/* A thread's share of the queue, linked by next; NULL when it is time to stop. */
static struct job *next_share(struct crew *c)
{
    pthread_mutex_lock(&c->lock);
    while (!c->stop && !c->first)
        pthread_cond_wait(&c->work, &c->lock);
    struct job *share = c->stop ? NULL : c->first;
    if (share) {
        size_t n = c->queued / c->o.threads;
        n = n < 1 ? 1 : n > CREW_SHARE_MAX ? CREW_SHARE_MAX : n;
        struct job *end = share;
        for (size_t i = 1; i < n; i++)
            end = end->next;
        c->first = end->next;
        if (!c->first)
            c->last = NULL;
        c->queued -= n;
        end->next = NULL;
        if (c->queued == 0)
            pthread_cond_signal(&c->less);
    }
    pthread_mutex_unlock(&c->lock);
    return share;
}

static void finished(struct crew *c, struct job *share)
{
    pthread_mutex_lock(&c->lock);
    while (share) {
        struct job *j = share;
        share = j->next;
        j->next = c->pool;
        c->pool = j;
        c->unfinished--;
    }
    if (c->unfinished <= c->want)
        pthread_cond_signal(&c->less);
    pthread_mutex_unlock(&c->lock);
}

static void failed(struct crew *c, const struct err *e)
{
    pthread_mutex_lock(&c->lock);
    if (c->failure.code == ERR_NONE)
        c->failure = *e;
    c->stop = true;
    pthread_cond_broadcast(&c->work);
    pthread_cond_signal(&c->less);
    pthread_mutex_unlock(&c->lock);
    const uint64_t one = 1;
    while (write(c->o.wake_fd, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

static void *hand_thread(void *arg)
{
    struct hand *h = arg;
    struct crew *c = h->crew;
    for (struct job *share; (share = next_share(c));) {
        struct err e = {0};
        int r = 0;
        struct job *j = share;
        for (; r == 0 && j; j = j->next)
            r = c->o.work(c->o.arg, h->number, j, &e);
        for (; j; j = j->next) /* behind the one that failed */
            caller_let_go(j->caller);
        if (r == 0)
            r = c->o.flush(c->o.arg, h->number, &e);
        if (r < 0)
            failed(c, &e);
        finished(c, share);
    }
    return NULL;
}

struct job *crew_take(struct crew *c)
{
    pthread_mutex_lock(&c->lock);
    struct job *j = c->pool;
    if (j) {
        c->pool = j->next;
    }
    pthread_mutex_unlock(&c->lock);
    return j;
}

void crew_return(struct crew *c, struct job *j)
{
    pthread_mutex_lock(&c->lock);
    j->next = c->pool;
    c->pool = j;
    pthread_mutex_unlock(&c->lock);
}

void crew_submit(struct crew *c, struct job *const *jobs, size_t n)
{
    if (n == 0)
        return;
    for (size_t i = 0; i < n; i++)
        jobs[i]->next = i + 1 < n ? jobs[i + 1] : NULL;
    pthread_mutex_lock(&c->lock);
    if (c->last)
        c->last->next = jobs[0];
    else
        c->first = jobs[0];
    c->last = jobs[n - 1];
    c->unfinished += n;
    c->queued += n;
    if (n == 1)
        pthread_cond_signal(&c->work);
    else
        pthread_cond_broadcast(&c->work);
    pthread_mutex_unlock(&c->lock);
}

int crew_wait(struct crew *c, size_t backlog, int timeout_ms, struct err *e)
{
    int64_t until = timeout_ms < 0 ? INT64_MAX : clock_mono_ms() + timeout_ms;
    int r = 0;
    pthread_mutex_lock(&c->lock);
    c->want = backlog;
    while (r == 0 && c->unfinished > backlog && c->failure.code == ERR_NONE) {
        if (!cond_wait_until(&c->less, &c->lock, until))
            r = 1;
    }
    if (c->failure.code != ERR_NONE) {
        *e = c->failure;
        r = -1;
    }
    pthread_mutex_unlock(&c->lock);
    return r;
}

int crew_wait_taken(struct crew *c, struct err *e)
{
    pthread_mutex_lock(&c->lock);
    while (c->queued > 0 && c->failure.code == ERR_NONE)
        pthread_cond_wait(&c->less, &c->lock);
    int r = c->failure.code == ERR_NONE ? 0 : -1;
    if (r < 0)
        *e = c->failure;
    pthread_mutex_unlock(&c->lock);
    return r;
}

/* --- life ----------------------------------------------------------------------------------------- */

static void stop_hands(struct crew *c)
{
    pthread_mutex_lock(&c->lock);
    c->stop = true;
    pthread_cond_broadcast(&c->work);
    pthread_mutex_unlock(&c->lock);
    for (unsigned i = 0; i < c->running; i++)
        pthread_join(c->hands[i].thread, NULL);
}

void crew_free(struct crew *c)
{
    if (!c)
        return;
    stop_hands(c);
    for (struct job *j = c->first; j; j = j->next)
        caller_let_go(j->caller);
    for (size_t i = 0; c->jobs && i < c->o.jobs; i++)
        job_free(&c->jobs[i]);
    pthread_cond_destroy(&c->less);
    pthread_cond_destroy(&c->work);
    pthread_mutex_destroy(&c->lock);
    free(c->jobs);
    free(c->hands);
    free(c);
}

static int start_hands(struct crew *c, struct err *e)
{
    for (unsigned i = 0; i < c->o.threads; i++) {
        c->hands[i].crew = c;
        c->hands[i].number = i;
        if (thread_start(&c->hands[i].thread, hand_thread, &c->hands[i], "a signing thread", e) < 0)
            return -1;
        c->running++;
    }
    return 0;
}

struct crew *crew_new(const struct crew_options *o, struct err *e)
{
    struct crew *c = calloc(1, sizeof *c);
    if (!c)
        goto memory;
    c->o = *o;
    pthread_mutex_init(&c->lock, NULL);
    cond_init_mono(&c->work);
    cond_init_mono(&c->less);
    c->jobs = calloc(o->jobs, sizeof *c->jobs);
    c->hands = calloc(o->threads, sizeof *c->hands);
    if (!c->jobs || !c->hands)
        goto memory;
    for (size_t i = 0; i < o->jobs; i++) {
        job_init(&c->jobs[i]);
        crew_return(c, &c->jobs[i]);
    }
    if (start_hands(c, e) == 0)
        return c;
    crew_free(c);
    return NULL;
memory:
    crew_free(c);
    err_set(e, ERR_INTERNAL, "memory", "out of memory for signing");
    return NULL;
}
