#include "ra/tell.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define RETRY_MS 1000
#define STOP_MS 500
#define REFUSALS_UNDER_WAY 16

struct waiting { /* a deed */
    struct waiting *next;
    int64_t id;
    uint16_t type;
    size_t len;
    uint8_t body[];
};

struct teller {
    struct ca_client *ca; /* not owned */
    teller_told_cb *told;
    void *told_arg;
    pthread_t thread;
    bool started;
    pthread_mutex_t lock; /* guards all below; never held over a call of the client */
    pthread_cond_t wake;
    bool stop;
    struct refusals *refusals; /* owned */
    unsigned under_way;        /* refusals that the client has */
    struct waiting *first, *last;
    uint64_t count;
    bool asked;       /* the client has the first deed */
    bool released;    /* deeds may be told */
    int64_t retry_at; /* nothing is asked before */
};

/* --- refusals ------------------------------------------------------------------------------------- */

struct sent {
    struct teller *t;
    struct refusal r;
};

static struct bytes view(const char *s)
{
    return (struct bytes){(const uint8_t *)s, strlen(s)};
}

static void refusal_told(void *arg, uint64_t index, const struct err *e)
{
    struct sent *s = arg;
    struct teller *t = s->t;
    pthread_mutex_lock(&t->lock);
    t->under_way--;
    if (e) { /* counted on, and told later */
        refusals_add(t->refusals, &s->r, clock_mono_ms());
        t->retry_at = clock_mono_ms() + RETRY_MS;
    }
    pthread_cond_signal(&t->wake);
    pthread_mutex_unlock(&t->lock);
    free(s);
}

static int refusal_body(const struct refusal *r, struct buf *body, struct err *e)
{
    const struct tlog_record_info info = {.type = TLOG_ENTRY_REFUSAL,
                                          .time = clock_wall(),
                                          .code = r->stage,
                                          .rule = view(r->rule),
                                          .why = view(r->why),
                                          .spiffe_id = view(r->spiffe_id),
                                          .attestor = view(r->attestor),
                                          .requester = view(r->requester),
                                          .session = {r->session, r->has_session ? sizeof r->session : 0},
                                          .count = r->count};
    return tlog_record_write(&info, body, e);
}

/* Without the lock; under_way was counted up. */
static void refusal_send(struct teller *t, const struct refusal *r)
{
    struct err e = {0};
    struct buf body;
    struct sent *s = malloc(sizeof *s);
    bool sent = false;
    buf_init(&body, TLOG_RECORD_MAX);
    if (s && refusal_body(r, &body, &e) == 0) {
        const struct ca_record m = {TLOG_ENTRY_REFUSAL, {body.p, body.len}};
        *s = (struct sent){t, *r};
        sent = ca_client_record(t->ca, &m, refusal_told, s, &e) == 0;
    }
    buf_free(&body);
    if (sent)
        return;
    free(s);
    if (e.code == ERR_MALFORMED) /* never: every text was cleaned */
        log_err(LOG_ERROR, "a refusal cannot be recorded", &e);
    pthread_mutex_lock(&t->lock);
    t->under_way--;
    if (e.code != ERR_MALFORMED)
        refusals_add(t->refusals, r, clock_mono_ms());
    t->retry_at = clock_mono_ms() + RETRY_MS;
    pthread_mutex_unlock(&t->lock);
}

void teller_refusal(struct teller *t, const struct refusal *r)
{
    pthread_mutex_lock(&t->lock);
    refusals_add(t->refusals, r, clock_mono_ms());
    pthread_cond_signal(&t->wake);
    pthread_mutex_unlock(&t->lock);
}

/* --- deeds ----------------------------------------------------------------------------------------- */

static void deed_told(void *arg, uint64_t index, const struct err *e)
{
    struct teller *t = arg;
    struct waiting *done = NULL;
    pthread_mutex_lock(&t->lock);
    t->asked = false;
    if (e) {
        t->retry_at = clock_mono_ms() + RETRY_MS;
    } else {
        done = t->first;
        t->first = done->next;
        if (!t->first)
            t->last = NULL;
        t->count--;
    }
    pthread_cond_signal(&t->wake);
    pthread_mutex_unlock(&t->lock);
    if (e && e->code != ERR_UNAVAILABLE && e->code != ERR_RATE)
        log_err(LOG_ERROR, "a change cannot be recorded in the log; trying on", e);
    if (done)
        t->told(t->told_arg, done->id, index);
    free(done);
}

/* Without the lock; w stays the first until deed_told. */
static void deed_send(struct teller *t, const struct waiting *w)
{
    struct err e = {0};
    const struct ca_record m = {w->type, {w->body, w->len}};
    if (ca_client_record(t->ca, &m, deed_told, t, &e) == 0)
        return;
    pthread_mutex_lock(&t->lock);
    t->asked = false;
    t->retry_at = clock_mono_ms() + RETRY_MS;
    pthread_mutex_unlock(&t->lock);
}

void teller_deed(struct teller *t, const struct deed *d)
{
    struct waiting *w = malloc(sizeof *w + d->body.len);
    if (!w) {
        log_error("out of memory: a change is recorded in the log after the next start only", NULL);
        return;
    }
    *w = (struct waiting){.id = d->id, .type = d->type, .len = d->body.len};
    memcpy(w->body, d->body.p, d->body.len);
    pthread_mutex_lock(&t->lock);
    if (t->last)
        t->last->next = w;
    else
        t->first = w;
    t->last = w;
    t->count++;
    pthread_cond_signal(&t->wake);
    pthread_mutex_unlock(&t->lock);
}

void teller_release(struct teller *t)
{
    pthread_mutex_lock(&t->lock);
    t->released = true;
    pthread_cond_signal(&t->wake);
    pthread_mutex_unlock(&t->lock);
}

uint64_t teller_waiting(struct teller *t)
{
    pthread_mutex_lock(&t->lock);
    uint64_t n = t->count;
    pthread_mutex_unlock(&t->lock);
    return n;
}

/* --- the thread -------------------------------------------------------------------------------------- */

static void wait_until(struct teller *t, int64_t ms)
{
    cond_wait_until(&t->wake, &t->lock, ms);
}

/* One thing to tell, if there is one. Lock held on entry and return. */
static bool tell_one(struct teller *t, int64_t now, bool all)
{
    struct refusal r;
    if (t->retry_at > now && !all)
        return false;
    if (t->released && !t->asked && t->first) {
        const struct waiting *w = t->first;
        t->asked = true;
        pthread_mutex_unlock(&t->lock);
        deed_send(t, w);
        pthread_mutex_lock(&t->lock);
        return true;
    }
    if (t->under_way >= REFUSALS_UNDER_WAY || !refusals_take(t->refusals, now, all, &r))
        return false;
    t->under_way++;
    pthread_mutex_unlock(&t->lock);
    refusal_send(t, &r);
    pthread_mutex_lock(&t->lock);
    return true;
}

/* When there may be something to do without being woken. */
static int64_t next_time(const struct teller *t, int64_t now)
{
    int64_t due = t->under_way < REFUSALS_UNDER_WAY ? refusals_due(t->refusals, now) : INT64_MAX;
    if (t->released && !t->asked && t->first)
        due = now;
    return due == INT64_MAX || due > t->retry_at ? due : t->retry_at;
}

/* What is still to be told, while that succeeds and there is time. */
static void tell_rest(struct teller *t)
{
    int64_t until = clock_mono_ms() + STOP_MS, now;
    t->retry_at = 0;
    while ((now = clock_mono_ms()) < until && t->retry_at == 0) {
        if (tell_one(t, now, true))
            continue;
        if (t->under_way == 0 && !t->asked && (!t->first || !t->released))
            break;
        wait_until(t, until);
    }
}

static void *teller_run(void *arg)
{
    struct teller *t = arg;
    pthread_mutex_lock(&t->lock);
    while (!t->stop) {
        int64_t now = clock_mono_ms();
        if (!tell_one(t, now, false))
            wait_until(t, next_time(t, now));
    }
    tell_rest(t);
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

/* --- life ---------------------------------------------------------------------------------------------- */

struct teller *teller_new(struct ca_client *ca, teller_told_cb *told, void *arg, struct err *e)
{
    struct teller *t = calloc(1, sizeof *t);
    if (t && !(t->refusals = refusals_new())) {
        free(t);
        t = NULL;
    }
    if (!t) {
        err_set(e, ERR_INTERNAL, "memory", "out of memory");
        return NULL;
    }
    t->ca = ca;
    t->told = told;
    t->told_arg = arg;
    pthread_mutex_init(&t->lock, NULL);
    cond_init_mono(&t->wake);
    return t;
}

int teller_start(struct teller *t, struct err *e)
{
    if (thread_start(&t->thread, teller_run, t, "the thread that tells the log", e) < 0)
        return -1;
    t->started = true;
    return 0;
}

void teller_stop(struct teller *t)
{
    if (!t || !t->started)
        return;
    pthread_mutex_lock(&t->lock);
    t->stop = true;
    pthread_cond_signal(&t->wake);
    pthread_mutex_unlock(&t->lock);
    pthread_join(t->thread, NULL);
    t->started = false;
}

void teller_free(struct teller *t)
{
    if (!t)
        return;
    for (struct waiting *w = t->first, *next; w; w = next) {
        next = w->next;
        free(w);
    }
    refusals_free(t->refusals);
    pthread_cond_destroy(&t->wake);
    pthread_mutex_destroy(&t->lock);
    free(t);
}
