/* Callers: attested once when they connect, looked at again before each answer, told of what changes.
 *
 * A process that executed another program or ended gets nothing any more: its calls end with PermissionDenied. */
#include "agent/callers.h"
#include "base/clock.h"
#include "base/log.h"
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

/* --- attestation ----------------------------------------------------------------------------------------------------------- */

struct attestation {
    struct task task;
    struct caller *caller; /* it lives until this is back */
    struct peer_selectors selectors;
    struct err err;
    bool ok;
    int64_t us;
};

/* Its identities are not its any more; they may go before it does. */
static void release(struct caller *c)
{
    for (size_t i = 0; i < c->matched_count; i++)
        engine_unwant(c->agent, c->matched[i]);
    free(c->matched);
    c->matched = NULL;
    c->matched_count = 0;
}

static void caller_free(struct caller *c)
{
    struct agent *a = c->agent;
    if (c->prev)
        c->prev->next = c->next;
    else
        a->callers = c->next;
    if (c->next)
        c->next->prev = c->prev;
    a->callers_count--;
    for (struct call *k = c->calls, *next; k; k = next) {
        next = k->next;
        waiting_free(k);
    }
    release(c);
    peer_selectors_free(&c->selectors);
    peer_free(c->peer);
    free(c);
}

static void let_go(struct caller *c)
{
    if (--c->held == 0 && c->gone && !c->attesting)
        caller_free(c);
}

void caller_gone(struct caller *c)
{
    c->gone = true;
    release(c);
    if (c->held == 0 && !c->attesting)
        caller_free(c);
}

static void attest(struct task *t)
{
    struct attestation *x = (struct attestation *)t;
    int64_t began = clock_mono_us();
    x->ok = !x->caller->gone && peer_attest(x->caller->peer, &x->selectors, &x->err) == 0;
    x->us = clock_mono_us() - began;
}

static void count(struct agent *a, const struct attestation *x)
{
    *(x->ok ? &a->counters.attested : &a->counters.attest_failed) += 1;
    a->counters.attest_us_sum += x->us;
    if (x->us > a->counters.attest_us_max)
        a->counters.attest_us_max = x->us;
}

static void attested(struct task *t)
{
    struct attestation *x = (struct attestation *)t;
    struct caller *c = x->caller;
    struct agent *a = c->agent;
    c->attesting = false;
    if (c->gone || !t->worked) {
        peer_selectors_free(&x->selectors);
        if (c->gone && c->held == 0)
            caller_free(c);
        free(x);
        return;
    }
    count(a, x);
    c->held++;
    if (x->ok) {
        c->selectors = x->selectors;
        c->state = CALLER_KNOWN;
        caller_match(c);
        engine_run(a);
    } else {
        engine_count(a, &x->err);
        log_event(engine_seldom(&a->caller_told_ms, LOG_INFO), "a caller could not be attested", "pid",
                  log_num(peer_pid(c->peer)), "why", x->err.msg, NULL);
        c->state = CALLER_LOST;
        c->why = x->err;
    }
    free(x);
    caller_tell(c, true);
    let_go(c);
}

/* How many of this user wait to be attested. -1: there are too many of him, or of all. */
static int turn_of(const struct agent *a, uid_t uid)
{
    unsigned his = 0;
    int waiting = 0;
    for (const struct caller *c = a->callers; c; c = c->next)
        if (peer_uid(c->peer) == uid) {
            his++;
            waiting += c->attesting;
        }
    return a->callers_count >= CALLERS_MAX || his >= CALLERS_PER_UID ? -1 : waiting;
}

/* accept(2) gives the lowest that is free: where that is high, nearly all are taken. */
static bool descriptors_short(int fd)
{
    struct rlimit l;
    return getrlimit(RLIMIT_NOFILE, &l) == 0 && (rlim_t)fd + DESCRIPTORS_KEPT > l.rlim_cur;
}

static struct peer *take_peer(const struct agent *a, int fd, int *turn, struct err *e)
{
    if (descriptors_short(fd)) {
        err_set(e, ERR_RATE, "peer-limit", "descriptors run short: raise LimitNOFILE= (ulimit -n)");
        return NULL;
    }
    struct peer *p = peer_open(fd, e);
    if (!p)
        return NULL;
    if ((*turn = turn_of(a, peer_uid(p))) >= 0)
        return p;
    err_set(e, ERR_RATE, "peer-limit", "user %u has too many connections, or all users together have",
            (unsigned)peer_uid(p));
    peer_free(p);
    return NULL;
}

struct caller *caller_new(struct agent *a, int fd)
{
    struct err e;
    int turn = 0;
    struct peer *peer = take_peer(a, fd, &turn, &e);
    struct caller *c = peer ? calloc(1, sizeof *c) : NULL;
    struct attestation *x = c ? calloc(1, sizeof *x) : NULL;
    if (!x) {
        if (!peer) {
            engine_count(a, &e);
            /* Who is over a limit may come again as often as he likes: the metrics count him. */
            log_event(e.code == ERR_RATE ? LOG_DEBUG : engine_seldom(&a->caller_told_ms, LOG_INFO), "a caller is refused",
                      "why", e.msg, NULL);
        }
        peer_free(peer);
        free(c);
        return NULL;
    }
    c->agent = a;
    c->peer = peer;
    c->attesting = true;
    c->next = a->callers;
    if (c->next)
        c->next->prev = c;
    a->callers = c;
    a->callers_count++;
    x->caller = c;
    x->task.work = attest;
    x->task.done = attested;
    /* Users take turns: one whose programs are huge to hash does not keep the others waiting. */
    x->task.priority = (unsigned)turn;
    queue_put(a->attestors, &x->task);
    return c;
}

/* --- what is whose ---------------------------------------------------------------------------------------------------------- */

static bool keep_match(struct caller *c, struct identity *i)
{
    struct err e;
    if (identity_evidence(i, c->selectors.list, c->selectors.n, &e) < 0) {
        log_err(LOG_ERROR, "an identity could not be matched", &e);
        return false;
    }
    c->matched[c->matched_count++] = i;
    engine_want(c->agent, i);
    return true;
}

bool caller_match(struct caller *c)
{
    struct agent *a = c->agent;
    struct identity **old = c->matched;
    size_t old_count = c->matched_count, n = 0;
    for (size_t k = 0; k < a->identities.n; k++) {
        struct identity *i = a->identities.list[k];
        n += !i->gone && peer_selectors_match(&c->selectors, i->selectors, i->selectors_count);
    }
    c->matched = calloc(n + 1, sizeof *c->matched);
    c->matched_count = 0;
    for (size_t k = 0; c->matched && k < a->identities.n; k++) {
        struct identity *i = a->identities.list[k];
        if (!i->gone && peer_selectors_match(&c->selectors, i->selectors, i->selectors_count))
            keep_match(c, i);
    }
    identities_order(c->matched, c->matched_count);
    bool same = c->matched_count == old_count;
    for (size_t k = 0; k < old_count; k++) {
        same = same && c->matched[k] == old[k];
        engine_unwant(a, old[k]); /* behind the new ones, so that what stays was wanted all along */
    }
    free(old);
    return !same;
}

/* --- telling -------------------------------------------------------------------------------------------------------------------- */

/* A call that was answered for good is cancelled from within, and with it others may be: so each round begins at the
 * first that this round has not seen. */
static struct call *unseen(struct caller *c, bool all)
{
    for (struct call *k = c->calls; k; k = k->next)
        if (k->round != c->round && (all || !k->answered)) {
            k->round = c->round;
            return k;
        }
    return NULL;
}

/* Looking at the process costs more than looking here first. */
static bool somebody_waits(const struct caller *c, bool all)
{
    for (const struct call *k = c->calls; k; k = k->next)
        if (all || !k->answered)
            return true;
    return false;
}

void caller_tell(struct caller *c, bool all)
{
    if (c->state == CALLER_UNKNOWN || c->gone || !somebody_waits(c, all))
        return;
    c->held++;
    c->round++;
    if (c->state == CALLER_KNOWN && !peer_alive(c->peer)) {
        c->state = CALLER_LOST;
        err_set(&c->why, ERR_UNAUTHORIZED, "peer-changed", "the process that connected is not the one any more");
        engine_count(c->agent, &c->why);
    }
    for (struct call *k; !c->gone && (k = unseen(c, all));) {
        if (c->state == CALLER_LOST)
            waiting_fail(c, k, WL_PERMISSION_DENIED, c->why.msg);
        else if (k->kind == CALL_WATCH)
            answer_watch(c, k);
        else
            answer_jwt(c, k);
    }
    let_go(c);
}

/* --- changes -------------------------------------------------------------------------------------------------------------------- */

static bool has(const struct caller *c, const struct identity *i)
{
    for (size_t m = 0; m < c->matched_count; m++)
        if (c->matched[m] == i)
            return true;
    return !i;
}

/* The next one is held while this one is told, or it might go meanwhile. With match, who has the same identities as
 * before is told nothing again. */
static void each(struct agent *a, struct identity *i, bool all, bool match)
{
    struct caller *c = a->callers;
    if (c)
        c->held++;
    while (c) {
        bool news = all;
        if (match && c->state == CALLER_KNOWN && !c->gone)
            news = caller_match(c);
        else if (match)
            release(c);
        if (has(c, i))
            caller_tell(c, news);
        struct caller *next = c->next;
        if (next)
            next->held++;
        let_go(c);
        c = next;
    }
}

void callers_changed(struct agent *a, struct identity *i, bool failed)
{
    each(a, i, !failed, false);
}

void callers_entries(struct agent *a)
{
    each(a, NULL, true, true);
}

void callers_jwt(struct agent *a, struct identity *i)
{
    each(a, i, false, false);
}

/* Those who wait too long. */
void callers_tick(struct agent *a)
{
    each(a, NULL, false, false);
}
