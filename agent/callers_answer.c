/* What a caller's call is answered with: its identities, once what it wants is settled, or why there are none. */
#include "agent/callers.h"
#include "base/clock.h"
#include <stdlib.h>
#include <string.h>

/* --- answers ------------------------------------------------------------------------------------------------------------------ */

void waiting_free(struct call *k)
{
    texts_free(k->audience, k->audience_count);
    free(k->spiffe_id);
    free(k);
}

void waiting_fail(struct caller *c, struct call *k, enum wl_status status, const char *why)
{
    c->agent->counters.denied += status == WL_PERMISSION_DENIED;
    wl_call_fail(k->wl, status, why);
}

static enum wl_status status_of(const struct err *e)
{
    switch (e->code) {
    case ERR_UNAUTHORIZED:
    case ERR_REJECTED_ID:
    case ERR_BAD_EVIDENCE:
    case ERR_DENIED:
        return WL_PERMISSION_DENIED;
    case ERR_INTERNAL:
        return WL_INTERNAL;
    default:
        return WL_UNAVAILABLE;
    }
}

static struct wl_state *state_make(struct caller *c, int64_t now)
{
    struct wl_state *s = calloc(1, sizeof *s);
    if (!s || !(s->svids = calloc(c->matched_count + 1, sizeof *s->svids))) {
        free(s);
        return NULL;
    }
    atomic_init(&s->refs, 1);
    s->bundles = wl_bundles_ref(c->agent->bundles);
    for (size_t i = 0; i < c->matched_count; i++) {
        struct wl_svid *v = identity_svid(c->matched[i], now);
        if (v)
            s->svids[s->n++] = wl_svid_ref(v);
    }
    return s;
}

/* All of what it may have is there, or was tried in vain. */
static bool settled(const struct caller *c, int64_t now, size_t *there, const struct err **why)
{
    bool all = true;
    *there = 0;
    *why = NULL;
    for (size_t i = 0; i < c->matched_count; i++) {
        const struct identity *x = c->matched[i];
        if (identity_svid(x, now))
            (*there)++;
        else if (x->tried && x->last.code != ERR_NONE)
            *why = &x->last;
        else
            all = false;
    }
    return all;
}

/* While the authority answers, a queue of others' orders may be before this one's. */
static bool waited_long(const struct agent *a, const struct call *k)
{
    return clock_mono_ms() - k->since_ms > (a->reachable && a->entries_known ? WAIT_IN_QUEUE_MS : WAIT_MS);
}

/* What is lacking before anybody can be told what is its. */
static const char *lacking(const struct agent *a)
{
    if (!a->entries_known && a->own.until_ms <= clock_wall_ms())
        return "the agent has no identity of its own yet";
    if (a->gate_failures > 0)
        return a->entries_known ? "the agent has no bundle yet: its authority does not answer"
                                : "the agent has not learned its entries yet: its authority does not answer";
    return a->entries_known ? "the agent has no bundle yet" : "the agent has not learned its entries yet";
}

/* Nothing (that it asked for) for it in the list: perhaps in one that is newer than the question. */
static void answer_none(struct caller *c, struct call *k)
{
    if (clock_mono_ms() - k->since_ms < WAIT_ENTRY_MS && entries_hurry(c->agent, k->since_ms))
        return;
    if (c->matched_count == 0)
        caller_say_none(c);
    waiting_fail(c, k, WL_PERMISSION_DENIED,
                 c->matched_count == 0 ? "no identity issued" : "the SPIFFE ID asked for is none of the caller's");
}

void answer_watch(struct caller *c, struct call *k)
{
    struct agent *a = c->agent;
    const struct err *why;
    size_t there;
    int64_t now = clock_wall();
    bool late = waited_long(a, k) && !k->answered;
    if (!a->entries_known || !a->bundles) {
        if (late)
            waiting_fail(c, k, WL_UNAVAILABLE, lacking(a));
        return;
    }
    if (c->matched_count == 0) {
        answer_none(c, k);
        return;
    }
    bool waits = !settled(c, now, &there, &why) && !late;
    if (waits && !(k->answered && there == 0)) /* but who had an SVID that is over hears of it at once */
        return;
    if (there == 0) {
        waiting_fail(c, k, why ? status_of(why) : WL_UNAVAILABLE,
                  why           ? why->msg
                  : k->answered ? "the SVID is over, and no other has come yet"
                                : "the SVID is not there yet");
        return;
    }
    struct wl_state *s = state_make(c, now);
    if (!s) {
        waiting_fail(c, k, WL_INTERNAL, "out of memory");
        return;
    }
    k->answered = true;
    a->counters.pushes++;
    wl_call_state(k->wl, s);
    wl_state_unref(s);
}

/* --- JWT-SVIDs ------------------------------------------------------------------------------------------------------------------ */

static bool asked_for(const struct call *k, const struct identity *i)
{
    return !*k->spiffe_id || strcmp(k->spiffe_id, i->spiffe_id) == 0;
}

/* Every token that is asked for is here, fresh or at least valid when no fresh one can be had. */
static bool gather(struct caller *c, struct call *k, struct wl_jwt *list, size_t *n, const struct err **why, struct err *e)
{
    bool all = true;
    int64_t now = clock_wall();
    for (size_t m = 0; m < c->matched_count; m++) {
        struct identity *i = c->matched[m];
        if (!asked_for(k, i))
            continue;
        struct jwt_found f = jwt_find(i, k->audience, k->audience_count, now);
        bool failed = f.failed_mono_ms >= k->since_ms && f.failed_mono_ms > 0;
        if (!f.fresh && !f.busy && !failed && jwt_fetch(c->agent, i, k->audience, k->audience_count, e) < 0 &&
            e->code != ERR_RATE)
            failed = true, f.why = e;
        if (f.svid && (f.fresh || failed))
            list[(*n)++] = (struct wl_jwt){.spiffe_id = i->spiffe_id, .svid = (char *)(uintptr_t)f.svid, .hint = i->hint};
        else if (failed)
            *why = f.why;
        else
            all = false;
    }
    return all;
}

void answer_jwt(struct caller *c, struct call *k)
{
    struct agent *a = c->agent;
    const struct err *why = NULL;
    struct err e = {0};
    size_t n = 0, asked = 0;
    bool late = waited_long(a, k);
    for (size_t m = 0; m < c->matched_count; m++)
        asked += asked_for(k, c->matched[m]);
    if (!a->entries_known) {
        if (late)
            waiting_fail(c, k, WL_UNAVAILABLE, lacking(a));
        return;
    }
    if (asked == 0) {
        answer_none(c, k);
        return;
    }
    struct wl_jwt *list = calloc(asked, sizeof *list);
    bool all = list && gather(c, k, list, &n, &why, &e);
    if (!list)
        waiting_fail(c, k, WL_INTERNAL, "out of memory");
    else if (why)
        waiting_fail(c, k, status_of(why), why->msg);
    else if (all)
        wl_call_jwt(k->wl, list, n);
    else if (late)
        waiting_fail(c, k, WL_UNAVAILABLE, "the authority does not answer");
    free(list);
}
