/* The list of entries whose parent this agent is: asked for every five seconds, cheap while nothing changed; and at
 * once when somebody finds nothing in it, though no more than once a second. */
#include "agent/daemon.h"
#include "base/clock.h"
#include "base/log.h"
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

#define POLL_MS 5000
#define HURRY_MS 1000

static void again(struct agent *a, int64_t ms)
{
    struct timeval t = {ms / 1000, ms % 1000 * 1000};
    evtimer_add(a->entries_timer, &t);
}

/* Each entry finds its identity, by its own ID: an entry that was deleted and made again is another. */
void entries_apply(struct agent *a, struct entry_list *l)
{
    struct err e;
    size_t gone = 0, added = 0, changes = 0;
    for (size_t i = 0; i < a->identities.n; i++)
        a->identities.list[i]->gone = true;
    for (size_t i = 0; i < l->n; i++) {
        struct entry *x = &l->list[i];
        struct identity *have = identity_of(&a->identities, x->spiffe_id);
        bool changed = false;
        if (have && strcmp(have->entry_id, x->id) == 0) {
            have->gone = false;
            if (identity_update(have, x, &changed, &e) < 0)
                log_err(LOG_ERROR, "an entry could not be taken over", &e);
            changes += changed;
        }
    }
    for (size_t i = 0; i < a->identities.n; i++)
        gone += a->identities.list[i]->gone;
    /* Callers let go of what they have before it goes, and look again at what there is then. */
    for (size_t i = 0; i < l->n; i++) {
        struct entry *x = &l->list[i];
        struct identity *have = identity_of(&a->identities, x->spiffe_id);
        if (have && !have->gone)
            continue;
        added++;
    }
    a->entries_known = true;
    if (gone)
        callers_entries(a), outputs_entries(a);
    identities_drop_gone(&a->identities);
    for (size_t i = 0; added && i < l->n; i++)
        if (!identity_of(&a->identities, l->list[i].spiffe_id) && !identity_add(&a->identities, &l->list[i], &e))
            log_err(LOG_ERROR, "an entry could not be taken over", &e);
    if (added || gone || changes)
        log_info("the list of entries changed", "entries", log_num((long long)a->identities.n), "new",
                 log_num((long long)added), "gone", log_num((long long)gone), "changed", log_num((long long)changes),
                 NULL);
    callers_entries(a);
    outputs_entries(a);
    engine_run(a);
}

static void on_entries(struct task *t)
{
    struct job *j = (struct job *)t;
    struct agent *a = j->agent;
    a->entries_busy = false;
    if (t->worked) {
        gate_reached(a, j);
        bool ok = j->err.code == ERR_NONE;
        *(ok ? &a->counters.entries_ok : &a->counters.entries_failed) += 1;
        if (ok) {
            bool first = !a->entries_known;
            a->entries_at_ms = clock_mono_ms();
            a->entries_of_ms = j->put_ms;
            if (j->entries.revoked > a->entries_revoked && !first) {
                engine_advice(a);
                engine_run(a);
            }
            a->entries_revoked = j->entries.revoked; /* lower after the authority's restart */
            if (!j->entries.unchanged || first) {
                strcpy(a->version, j->entries.version);
                entries_apply(a, &j->entries);
            }
        } else if (strcmp(j->err.rule, "agent-session") == 0) {
            a->own.stale = true; /* the session shows evidence again, and the list is asked for behind it */
            engine_run(a);
        }
        callers_tick(a); /* who waited for a newer list has it, or will not */
        again(a, a->entries_now ? 0 : POLL_MS * 9 / 10 + (int64_t)(dice_throw() % (POLL_MS / 5)));
        a->entries_now = false;
    }
    job_free(j);
}

void entries_poll(struct agent *a)
{
    struct err e;
    if (a->stopping)
        return;
    if (a->entries_busy) {
        a->entries_now = true;
        return;
    }
    struct job *j = gate_open(a) && a->own.until_ms > clock_wall_ms() ? job_new(a, JOB_ENTRIES, FIRST_ENTRIES, &e) : NULL;
    if (!j) {
        again(a, POLL_MS);
        return;
    }
    if (a->entries_known)
        strcpy(j->have, a->version);
    j->task.done = on_entries;
    a->entries_busy = true;
    a->entries_put_ms = clock_mono_ms();
    gate_put(a, j);
}

bool entries_hurry(struct agent *a, int64_t since_ms)
{
    if (a->entries_of_ms >= since_ms || !gate_open(a) || a->own.until_ms <= clock_wall_ms())
        return false;
    int64_t rest = a->entries_put_ms + HURRY_MS - clock_mono_ms();
    if (a->entries_busy)
        return true; /* when that is back, who waits for a newer one comes again */
    if (rest <= 0)
        entries_poll(a);
    else
        again(a, rest);
    return true;
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    entries_poll(arg);
}

int entries_start(struct agent *a, struct err *e)
{
    a->entries_timer = evtimer_new(a->base, on_timer, a);
    return a->entries_timer ? 0 : err_set(e, ERR_INTERNAL, "memory", "out of memory for a timer");
}
