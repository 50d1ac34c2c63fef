#include "api/store_age.h"
#include "audit/service.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define AGAIN_MS 50

struct store_age {
    struct store_age_options o;
    pthread_t thread;
    struct ra_told told;
    uint64_t size;    /* of the log when the signer was there */
    unsigned beyond;  /* changes in the log that stand after told.index */
    uint64_t newest;  /* of these */
    char what[400];   /* that one, in words */
    struct audit_question q;
    pthread_mutex_t lock; /* guards the rest */
    pthread_cond_t wake;
    bool stop, done, settled;
    struct err err;
};

/* --- the changes in the log, newest first ------------------------------------------------------------- */

static void describe(struct store_age *s, const struct audit_entry *t)
{
    const struct tlog_record_info *r = &t->record;
    const bool revoked = t->kind == AUDIT_REVOKED;
    const struct bytes name = revoked ? r->value : r->spiffe_id;
    char when[21];
    clock_rfc3339(when, t->time);
    snprintf(s->what, sizeof s->what, "%s of %.*s at %s", revoked ? "a revocation" : "a change of the entry",
             (int)(name.len > 200 ? 200 : name.len), (const char *)name.p, when);
}

/* On the audit service's thread, while ours waits. */
static int change_found(void *arg, const struct audit_found *x, struct err *e)
{
    struct store_age *s = arg;
    const uint64_t index = x->entry->index;
    (void)e;
    if (s->q.covered < s->size || index <= (uint64_t)s->told.index)
        return 1;
    s->beyond++;
    if (index > s->newest) {
        s->newest = index;
        describe(s, x->entry);
    }
    return s->beyond > s->told.waiting;
}

static void answered(struct audit_question *q, const struct err *e)
{
    struct store_age *s = q->arg;
    pthread_mutex_lock(&s->lock);
    s->err = e ? *e : (struct err){0};
    s->done = true;
    pthread_cond_broadcast(&s->wake);
    pthread_mutex_unlock(&s->lock);
}

/* 0: answered; -1: not now. */
static int ask(struct store_age *s, enum audit_kind outcome)
{
    struct err e;
    s->q = (struct audit_question){.first = true, .each = change_found, .each_arg = s, .done = answered, .arg = s};
    audit_filter_init(&s->q.filter);
    s->q.filter.outcome = outcome;
    s->q.filter.limit = AUDIT_LIMIT_MAX;
    s->done = false;
    if (audit_ask(s->o.audit, &s->q, &e) < 0)
        return -1;
    pthread_mutex_lock(&s->lock);
    while (!s->done)
        pthread_cond_wait(&s->wake, &s->lock);
    pthread_mutex_unlock(&s->lock);
    return s->err.code == ERR_NONE && s->q.covered >= s->size ? 0 : -1;
}

/* --- the verdict ------------------------------------------------------------------------------------------ */

static void judge_older(struct store_age *s)
{
    struct err e;
    err_set(&e, ERR_CORRUPT, "store-older",
            "the registration store is older than the log: entry %llu of the log is %s, which the store does not know; "
            "it was restored from an older copy. Restore the newest one. If there is none, start mayflyd once with "
            "--accept-older-store: what was changed since is lost then, so do again what 'mayfly log search --outcome "
            "revoked' and '--outcome changed' show",
            (unsigned long long)s->newest, s->what);
    if (!s->o.accept) {
        s->o.older(s->o.arg, &e);
        return;
    }
    log_warn("a registration store older than the log, accepted by the operator", "newest", s->what, NULL);
    if (ra_told_accept(s->o.ra, s->newest, &e) < 0)
        log_err(LOG_ERROR, "that it was accepted is not noted", &e);
}

/* Counted newest first, so at the limit s->newest is right. More may have been told since than is
 * reckoned with, never less: told.waiting is read after the question was answered. */
static bool judge(struct store_age *s)
{
    struct ca_snapshot signer;
    ra_signer(s->o.ra, &signer);
    if (!signer.known)
        return false;
    s->size = s->size ? s->size : signer.log_size;
    ra_told(s->o.ra, &s->told);
    s->beyond = 0;
    s->newest = 0;
    if (s->told.index < 0) /* it will be known from the next change on */
        return true;
    if ((uint64_t)s->told.index >= s->size) {
        log_error("the log is older than the registration store: it was restored from an older copy, or another was put "
                  "in its place", "store_knows_of_entry", log_num(s->told.index), "log_size", log_num((long long)s->size), NULL);
        return true;
    }
    if (ask(s, AUDIT_REVOKED) < 0 || ask(s, AUDIT_CHANGED) < 0)
        return false;
    ra_told(s->o.ra, &s->told);
    if (s->beyond > s->told.waiting)
        judge_older(s);
    return true;
}

/* Until the flag is set, or ms are over. */
static bool wait_for(struct store_age *s, const bool *flag, unsigned ms)
{
    const int64_t until = clock_mono_ms() + ms;
    pthread_mutex_lock(&s->lock);
    while (!*flag && cond_wait_until(&s->wake, &s->lock, until))
        ;
    bool set = *flag;
    pthread_mutex_unlock(&s->lock);
    return set;
}

static void *run(void *arg)
{
    struct store_age *s = arg;
    while (!judge(s) && !wait_for(s, &s->stop, AGAIN_MS))
        ;
    pthread_mutex_lock(&s->lock);
    s->settled = true;
    pthread_cond_broadcast(&s->wake);
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

void store_age_settle(struct store_age *s, unsigned ms)
{
    if (s)
        wait_for(s, &s->settled, ms);
}

/* --- life --------------------------------------------------------------------------------------------------- */

int store_age_start(struct store_age **out, const struct store_age_options *o, struct err *e)
{
    struct store_age *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(e, ERR_INTERNAL, "memory", "out of memory");
    s->o = *o;
    pthread_mutex_init(&s->lock, NULL);
    cond_init_mono(&s->wake);
    if (thread_start(&s->thread, run, s, "the thread that holds the store against the log", e) < 0) {
        free(s);
        return -1;
    }
    *out = s;
    return 0;
}

void store_age_stop(struct store_age *s)
{
    if (!s)
        return;
    pthread_mutex_lock(&s->lock);
    s->stop = true;
    pthread_cond_broadcast(&s->wake);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->thread, NULL);
    pthread_cond_destroy(&s->wake);
    pthread_mutex_destroy(&s->lock);
    free(s);
}
