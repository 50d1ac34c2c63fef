/* The renewal engine: what is due is asked for, what comes is put in place, what fails is tried again, later and
 * later; what expired is dropped. Runs on the loop, over all identities at once: there are hundreds, and looking is
 * cheap. The authority thread answers one task after the other, newly wanted ones before renewals. */
#include "agent/daemon.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/notify.h"
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

#define JUMP_MS 2000
#define LEAST_LIFE_MS 1000 /* two renewals of one identity are further apart */

/* Questions for renewal advice, of all identities together: hundreds would ask without end, each for itself. When one
 * is told to renew before its time (revoked, or the issuing key is another), the others ask sooner for a while; and so
 * do all when the next poll of the entries finds that something was revoked, or that the session is over. */
#define ADVICE_EVERY_MS 125
#define ADVICE_HURRY_EVERY_MS 31
#define ADVICE_HURRY_MS 30000
#define ADVICE_REST_MS 60000 /* between two hurries that advice caused */

/* --- what failed ------------------------------------------------------------------------------------------------------- */

void engine_count(struct agent *a, const struct err *e)
{
    struct reason *r = a->reasons;
    for (size_t i = 0; i + 1 < REASONS_MAX && r->n > 0 && strcmp(r->rule, e->rule) != 0; i++)
        r++;
    if (r->n == 0)
        memcpy(r->rule, r == &a->reasons[REASONS_MAX - 1] ? "other" : e->rule,
               r == &a->reasons[REASONS_MAX - 1] ? sizeof "other" : sizeof r->rule);
    r->n++;
}

enum log_level engine_seldom(int64_t *told_mono_ms, enum log_level level)
{
    int64_t now = clock_mono_ms();
    if (*told_mono_ms && now - *told_mono_ms < 1000)
        return LOG_DEBUG;
    *told_mono_ms = now;
    return level;
}

/* --- what comes back ------------------------------------------------------------------------------------------------------ */

void engine_changed(struct agent *a, struct identity *i)
{
    callers_changed(a, i, false);
    outputs_changed(a, i);
}

static void plan(struct identity *i, int64_t wall_ms)
{
    i->renew_wall_ms = wall_ms;
    i->renew_mono_ms = clock_mono_ms() + (wall_ms - clock_wall_ms());
}

static void schedule(struct identity *i, int64_t from_s, int64_t until_s)
{
    int64_t now = clock_wall_ms();
    i->from_ms = from_s * 1000 > now ? from_s * 1000 : now;
    i->until_ms = until_s * 1000;
    plan(i, renew_at(i->from_ms, i->until_ms, dice_throw()));
    i->ari_mono_ms = *i->cert_id ? clock_mono_ms() + ari_poll_ms(i->from_ms, i->until_ms, 0, dice_throw()) : INT64_MAX;
    i->failures = 0;
    i->retry_mono_ms = clock_mono_ms() + LEAST_LIFE_MS;
    i->stale = false;
    err_clear(&i->last);
}

static void failed(struct agent *a, struct identity *i, const struct err *e)
{
    int64_t left = i->until_ms - clock_wall_ms();
    i->last = *e;
    i->failures++;
    if (!gate_outage(e)) /* an outage has a wait of its own, for all */
        i->retry_mono_ms = clock_mono_ms() + renew_backoff_ms(i->failures, left > 0 ? left : 0, dice_throw());
    bool said = gate_outage(e) || strcmp(e->rule, CUT_OFF_RULE) == 0; /* elsewhere, and louder */
    log_event(said ? LOG_DEBUG : LOG_WARN, "no SVID", "id", i->spiffe_id, "why", e->msg, "rule", e->rule,
              "valid for", log_num(left > 0 ? left / 1000 : 0), NULL);
}

static void self_came(struct agent *a, const struct job *j)
{
    bool back = a->announced && a->own.until_ms <= clock_wall_ms();
    strcpy(a->own.cert_id, j->cert_id);
    schedule(&a->own, j->not_before, j->not_after);
    log_info("the agent's own SVID", "id", a->own.spiffe_id, "seconds", log_num(j->not_after - clock_wall()), "took_ms",
             log_num(j->took_ms), NULL);
    if (!a->announced)
        notify_say("READY=1");
    a->announced = true;
    if (back)
        engine_advice(a); /* it may have been revoked, and with it all that it vouched for */
    entries_poll(a);
    bundle_poll(a);
}

/* Whatever its SVID's end would have been: nothing is asked for with it any more. What the workloads have is served on
 * until it expires. */
static void cut_off(struct agent *a, const struct err *why)
{
    log_err(LOG_ERROR, "the agent is cut off", why);
    a->own.from_ms = a->own.until_ms = 0;
    a->own.cert_id[0] = 0;
    a->own.renew_wall_ms = a->own.ari_mono_ms = INT64_MAX;
}

static void count_svid(struct agent *a, const struct job *j)
{
    struct counters *c = &a->counters;
    bool ok = j->err.code == ERR_NONE;
    *(j->renewal ? ok ? &c->renewals_ok : &c->renewals_failed : ok ? &c->new_ok : &c->new_failed) += 1;
}

static void on_self(struct task *t)
{
    struct job *j = (struct job *)t;
    struct agent *a = j->agent;
    a->own.busy = false;
    if (t->worked) {
        a->own.tried = true;
        bool ok = j->err.code == ERR_NONE;
        count_svid(a, j);
        if (ok)
            self_came(a, j);
        else
            failed(a, &a->own, &j->err);
        if (!ok && strcmp(j->err.rule, CUT_OFF_RULE) == 0)
            cut_off(a, &j->err);
        gate_reached(a, j);
        engine_run(a);
    }
    job_free(j);
}

static void svid_came(struct agent *a, struct identity *i, struct job *j)
{
    wl_svid_unref(i->svid);
    i->svid = j->svid;
    j->svid = NULL;
    strcpy(i->cert_id, j->cert_id);
    schedule(i, j->not_before, j->not_after);
    i->stale = !identity_as_asked(i, j); /* the entry changed while the order was under way */
    log_debug("SVID", "id", i->spiffe_id, "took_ms", log_num(j->took_ms), "asked_mono_ms", log_num(j->asked_ms), NULL);
    engine_changed(a, i);
}

static void on_svid(struct task *t)
{
    struct job *j = (struct job *)t;
    struct agent *a = j->agent;
    struct identity *i = t->worked ? identity_find(&a->identities, j->entry_id) : NULL;
    bool ok = j->err.code == ERR_NONE;
    if (t->worked)
        count_svid(a, j);
    if (i) { /* else its entry was deleted meanwhile: what came is nobody's */
        i->busy = false;
        i->tried = true;
        if (ok) {
            svid_came(a, i, j);
        } else {
            failed(a, i, &j->err);
            callers_changed(a, i, true);
        }
    }
    if (t->worked) {
        gate_reached(a, j);
        if (!ok && strcmp(j->err.rule, "agent-svid") == 0)
            a->own.stale = true;
        engine_run(a);
    }
    job_free(j);
}

static struct identity *asked_about(struct agent *a, const struct job *j)
{
    struct identity *i = j->entry_id ? identity_find(&a->identities, j->entry_id) : &a->own;
    return i && strcmp(i->cert_id, j->cert_id) == 0 ? i : NULL; /* it may have been renewed meanwhile */
}

/* Something that this agent has was revoked, or all is to be renewed: the authority knows what, and advises it. */
void engine_advice(struct agent *a)
{
    int64_t now = clock_mono_ms();
    a->advice_hurry_ms = now + ADVICE_HURRY_MS;
    a->advice_rest_ms = a->advice_hurry_ms + ADVICE_REST_MS;
    for (size_t k = 0; k <= a->identities.n; k++) {
        struct identity *i = k == 0 ? &a->own : a->identities.list[k - 1];
        if (i->ari_mono_ms != INT64_MAX)
            i->ari_mono_ms = now;
    }
}

/* One was called before its time: perhaps all are. */
static void advice_hurry(struct agent *a)
{
    if (clock_mono_ms() >= a->advice_rest_ms)
        engine_advice(a);
}

/* The advice of RFC 9773 section 4.2: a point of the window; a window that is over means now. */
static void on_ari(struct task *t)
{
    struct job *j = (struct job *)t;
    struct agent *a = j->agent;
    struct identity *any = t->worked ? (j->entry_id ? identity_find(&a->identities, j->entry_id) : &a->own) : NULL;
    if (any)
        any->ari_busy = false;
    struct identity *i = t->worked ? asked_about(a, j) : NULL;
    if (i) {
        bool ok = j->err.code == ERR_NONE;
        i->ari_mono_ms = clock_mono_ms() + ari_poll_ms(i->from_ms, i->until_ms, j->ari.retry_after, dice_throw());
        if (ok && (i->renew_wall_ms < j->ari.start * 1000 || i->renew_wall_ms > j->ari.end * 1000)) {
            int64_t at = renew_in_window(&j->ari, dice_throw());
            if (i->renew_wall_ms > j->ari.end * 1000 && j->ari.start * 1000 <= clock_wall_ms())
                advice_hurry(a);
            plan(i, at < i->until_ms ? at : renew_at(i->from_ms, i->until_ms, dice_throw())); /* never into expiry */
            log_debug("renewal advice", "id", i->spiffe_id, "in_ms", log_num(i->renew_wall_ms - clock_wall_ms()), NULL);
            engine_run(a);
        } else if (!ok) {
            log_debug("no renewal advice", "id", i->spiffe_id, "why", j->err.msg, NULL);
        }
    }
    if (t->worked)
        gate_reached(a, j);
    job_free(j);
}

/* --- what is due ------------------------------------------------------------------------------------------------------------ */

static int fill(struct job *j, const struct identity *i)
{
    j->entry_id = strdup(i->entry_id);
    j->spiffe_id = strdup(i->spiffe_id);
    j->hint = strdup(i->hint);
    return j->entry_id && j->spiffe_id && j->hint && strings_copy(&j->dns, &j->dns_count, i->dns, i->dns_count) == 0 &&
                   strings_copy(&j->selectors, &j->selectors_count, i->evidence, i->evidence_count) == 0
               ? 0
               : -1;
}

static bool ask(struct agent *a, struct identity *i)
{
    struct err e;
    struct job *j = job_new(a, i->is_self ? JOB_SELF : JOB_SVID, i->is_self ? FIRST_SELF : i->svid ? FIRST_RENEWAL : FIRST_NEW, &e);
    if (!j)
        return false;
    if (!i->is_self && fill(j, i) < 0) {
        job_free(j);
        return false;
    }
    strcpy(j->cert_id, i->cert_id);
    j->renewal = i->is_self ? i->until_ms > 0 : i->svid != NULL; /* after a start, or cut off, its own is new */
    j->task.done = i->is_self ? on_self : on_svid;
    i->busy = true;
    gate_put(a, j);
    return true;
}

static void ask_advice(struct agent *a, struct identity *i)
{
    struct err e;
    struct job *j = job_new(a, JOB_ARI, FIRST_ADVICE, &e);
    if (!j || (!i->is_self && !(j->entry_id = strdup(i->entry_id)))) {
        if (j)
            job_free(j);
        return;
    }
    strcpy(j->cert_id, i->cert_id);
    j->task.done = on_ari;
    i->ari_busy = true;
    gate_put(a, j);
}

/* When another SVID is to be asked for, on the monotonic clock. The plan is kept in wall time too and looked at anew
 * each time, so that a clock that was set forward changes it at once. */
static int64_t due_at(const struct identity *i, int64_t mono, int64_t wall)
{
    bool has = i->is_self ? i->until_ms > wall : i->svid != NULL;
    int64_t at;
    if (i->busy || (!i->is_self && i->wanted == 0))
        return INT64_MAX;
    if (!has || i->stale)
        at = mono;
    else if (i->renew_wall_ms == INT64_MAX)
        return INT64_MAX;
    else
        at = mono + (i->renew_wall_ms - wall) < i->renew_mono_ms ? mono + (i->renew_wall_ms - wall) : i->renew_mono_ms;
    return at < i->retry_mono_ms ? i->retry_mono_ms : at;
}

/* What nobody wants is kept until it would be renewed; or, while that could not be, until it is over: who comes again
 * (after a re-execution, everybody) would get nothing in its place. */
static void let_go(const struct agent *a, struct identity *i, int64_t wall)
{
    if (a->answered && a->gate_failures == 0 && !i->is_self && i->svid && i->wanted == 0 && !i->busy && i->renew_wall_ms <= wall)
        identity_drop_svid(i);
}

/* Once: from here on nothing is renewed. (One that is cut off has none that could end, and was told.) */
static void own_expired(struct agent *a, int64_t wall)
{
    bool over = a->own.until_ms > 0 && wall >= a->own.until_ms;
    const struct err *why = a->gate_failures > 0 ? &a->outage : &a->own.last;
    if (over && !a->own_over)
        log_error("the agent's own SVID expired unrenewed: no SVID is renewed until it has another", "id",
                  a->own.spiffe_id, "why", why->code ? why->msg : "no answer yet", NULL);
    a->own_over = over;
}

static bool expired(struct agent *a, struct identity *i, int64_t wall)
{
    if (i->is_self)
        own_expired(a, wall);
    if (i->is_self || !i->svid || wall < i->until_ms)
        return false;
    log_warn("an SVID expired and is served no more", "id", i->spiffe_id, NULL);
    identity_drop_svid(i);
    return true;
}

/* Milliseconds (monotonic) at which i wants to be looked at again. */
static int64_t look(struct agent *a, struct identity *i, int64_t mono, int64_t wall)
{
    bool can = gate_open(a) && (i->is_self || a->own.until_ms > wall);
    int64_t due = due_at(i, mono, wall);
    if (due <= mono && can && ask(a, i))
        due = INT64_MAX;
    else if (due <= mono)
        due = mono + 1000; /* the tick comes by, or the gate opens first */
    return due;
}

static bool advice_due(const struct identity *i, int64_t mono)
{
    return (i->is_self || i->wanted > 0) && !i->busy && !i->ari_busy && *i->cert_id && i->ari_mono_ms <= mono;
}

/* The agent's own first, then the others by turns, as far as the budget goes. */
static void seek_advice(struct agent *a, int64_t mono)
{
    int64_t every = mono < a->advice_hurry_ms ? ADVICE_HURRY_EVERY_MS : ADVICE_EVERY_MS;
    if (!a->reachable || !gate_open(a))
        return;
    if (advice_due(&a->own, mono))
        ask_advice(a, &a->own);
    if (a->advice_paid_ms < mono - 1000) /* what was not asked for a second is asked no more */
        a->advice_paid_ms = mono - 1000;
    for (size_t k = 0; k < a->identities.n && a->advice_paid_ms <= mono; k++) {
        struct identity *i = a->identities.list[a->advice_turn++ % a->identities.n];
        if (!advice_due(i, mono))
            continue;
        ask_advice(a, i);
        a->advice_paid_ms += every;
    }
}

static void arm(struct agent *a, int64_t ms)
{
    struct timeval t = {ms / 1000, ms % 1000 * 1000};
    evtimer_add(a->timer, &t);
}

void engine_run(struct agent *a)
{
    int64_t mono = clock_mono_ms(), wall = clock_wall_ms(), next = mono + 1000;
    if (a->stopping)
        return;
    for (size_t k = 0; k <= a->identities.n; k++) {
        struct identity *i = k == 0 ? &a->own : a->identities.list[k - 1];
        if (expired(a, i, wall))
            engine_changed(a, i);
        let_go(a, i, wall);
        int64_t due = look(a, i, mono, wall);
        if (due < next)
            next = due;
        if (!i->is_self && i->svid && mono + (i->until_ms - wall) < next)
            next = mono + (i->until_ms - wall);
    }
    seek_advice(a, mono);
    if (a->gate_failures > 0 && a->gate_mono_ms > mono && a->gate_mono_ms < next)
        next = a->gate_mono_ms;
    arm(a, next > mono ? next - mono : 1);
}

void engine_want(struct agent *a, struct identity *i)
{
    if (i->wanted++ == 0 && !i->svid)
        i->tried = false;
}

void engine_unwant(struct agent *a, struct identity *i)
{
    if (i->wanted > 0)
        i->wanted--;
}

/* --- time ------------------------------------------------------------------------------------------------------------------------ */

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    engine_run(arg);
}

void engine_tick(struct agent *a)
{
    int64_t offset = clock_wall_ms() - clock_mono_ms(), jump = offset - a->clock_offset_ms;
    if (jump > JUMP_MS || jump < -JUMP_MS) {
        log_warn("the clock was set; what is due is reckoned anew", "by ms", log_num(jump), NULL);
        engine_run(a);
    }
    a->clock_offset_ms = offset;
    gate_tick(a);
    callers_tick(a);
    outputs_tick(a);
    health_tick(a);
    if (getenv("WATCHDOG_USEC"))
        notify_say("WATCHDOG=1");
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    engine_tick(arg);
}

/* An SVID that was kept is as old as it is. */
static void resume(struct agent *a)
{
    struct identity *own = &a->own;
    self_cert_id(&a->self, own->cert_id);
    schedule(own, a->self.not_before, a->self.not_after);
    own->from_ms = a->self.not_before * 1000;
    own->retry_mono_ms = 0;
    plan(own, renew_at(own->from_ms, own->until_ms, dice_throw()));
    notify_say("READY=1");
    a->announced = true;
}

void engine_start(struct agent *a)
{
    static const struct timeval second = {1, 0};
    a->own.is_self = true;
    a->own.renew_wall_ms = a->own.ari_mono_ms = INT64_MAX;
    if (self_alive(&a->self))
        resume(a);
    a->reachable = true;
    a->clock_offset_ms = clock_wall_ms() - clock_mono_ms();
    a->timer = evtimer_new(a->base, on_timer, a);
    a->tick = event_new(a->base, -1, EV_PERSIST, on_tick, a);
    if (a->tick)
        event_add(a->tick, &second);
    if (a->timer)
        engine_run(a);
}
