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
#define SAY_MS 30000

struct store_age {
    struct store_age_options o;
    pthread_t thread;
    int64_t accounted; /* all changes up to this entry are the store's */
    uint64_t size;     /* of the log when the signer was there */
    uint64_t newest;   /* change in the log beyond these */
    uint64_t lost;     /* the newest that the store does not know; 0: none */
    char what[400];    /* that one, in words */
    uint64_t last;     /* entry of the page that came last */
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
    const struct audit_entry *t = x->entry;
    struct tlog_entry envelope;
    s->last = t->index;
    if (s->q.covered < s->size || (int64_t)t->index <= s->accounted)
        return 1;
    if (t->index > s->newest)
        s->newest = t->index;
    if (t->index <= s->lost || (tlog_entry_parse(&envelope, t->raw.p, t->raw.len, e) == 0 &&
                                ra_told_knows(s->o.ra, envelope.type, envelope.body)))
        return 0;
    s->lost = t->index;
    describe(s, t);
    return 1; /* the newest of its kind */
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
static int page(struct store_age *s)
{
    struct err e;
    s->q.first = true;
    s->q.each = change_found;
    s->q.done = answered;
    s->q.arg = s->q.each_arg = s;
    s->done = false;
    if (audit_ask(s->o.audit, &s->q, &e) < 0)
        return -1;
    pthread_mutex_lock(&s->lock);
    while (!s->done)
        pthread_cond_wait(&s->wake, &s->lock);
    pthread_mutex_unlock(&s->lock);
    return s->err.code == ERR_NONE && s->q.covered >= s->size ? 0 : -1;
}

static int search(struct store_age *s, enum audit_kind outcome)
{
    s->q = (struct audit_question){0};
    audit_filter_init(&s->q.filter);
    s->q.filter.outcome = outcome;
    s->q.filter.limit = AUDIT_LIMIT_MAX;
    do {
        if (page(s) < 0)
            return -1;
        s->q.filter.resumed = true;
        s->q.filter.after = s->last;
    } while (*s->q.next && (int64_t)s->last > s->accounted && s->last != s->lost);
    return 0;
}

/* --- the verdict ------------------------------------------------------------------------------------------ */

static void judge_older(struct store_age *s)
{
    struct err e;
    if (s->o.accept) {
        log_warn("a registration store older than the log, accepted by the operator", "newest", s->what, NULL);
        ra_told_settle(s->o.ra, s->newest);
        return;
    }
    err_set(&e, ERR_CORRUPT, "store-older",
            "the registration store is older than the log: entry %llu of the log is %s, which the store does not know; "
            "it was %s. Restore the newest one. If there is none, start mayflyd once with "
            "--accept-older-store: what was changed since is lost then, so do again what 'mayfly log search --outcome "
            "revoked' and '--outcome changed' show",
            (unsigned long long)s->lost, s->what, s->accounted ? "restored from an older copy" : "deleted and made anew, or restored");
    s->o.older(s->o.arg, &e);
}

static void judge_newer(struct store_age *s)
{
    log_error("the log is older than the registration store: it was restored from an older copy, or another was put "
              "in its place", "store_knows_of_entry", log_num(s->accounted), "log_size", log_num((long long)s->size), NULL);
    ra_told_settle(s->o.ra, 0);
}

/* False: it cannot be said yet. */
static bool judge(struct store_age *s)
{
    struct ca_snapshot signer;
    ra_signer(s->o.ra, &signer);
    if (!signer.known)
        return false;
    s->size = s->size ? s->size : signer.log_size;
    s->accounted = ra_told_index(s->o.ra);
    s->newest = s->lost = 0;
    if (s->accounted >= (int64_t)s->size) {
        judge_newer(s);
        return true;
    }
    if (search(s, AUDIT_REVOKED) < 0 || search(s, AUDIT_CHANGED) < 0)
        return false;
    if (s->accounted < 0) {
        log_warn("the registration store is from before it kept account of what the log was told: taken as it is", NULL);
        ra_told_settle(s->o.ra, s->newest);
    } else if (s->lost) {
        judge_older(s);
    } else {
        ra_told_settle(s->o.ra, 0);
    }
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
    int64_t say_at = clock_mono_ms() + SAY_MS;
    while (!judge(s) && !wait_for(s, &s->stop, AGAIN_MS))
        if (clock_mono_ms() > say_at) {
            log_warn("the log is told of no change before the audit index has all of it, or the signer is there", NULL);
            say_at = INT64_MAX;
        }
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
