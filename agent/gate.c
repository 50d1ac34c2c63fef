/* Whether the authority may be asked now: an outage is one gate for all, with one probe at a time, and every answer says
 * something of it. */
#include "agent/daemon.h"
#include "base/clock.h"
#include <string.h>

#define REMIND_MS (5 * 60 * 1000)

/* Not that it refused: that it could not answer. A server that is not trusted any more is as good as none. */
bool gate_outage(const struct err *e)
{
    static const char *const rules[] = {"server-unreachable", "server-timeout", "deadline", "trust-pin", "chain",
                                        "chain-time", "chain-host"};
    if (e->code == ERR_UNAVAILABLE)
        return true;
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if (strcmp(e->rule, rules[i]) == 0)
            return strstr(e->msg, "the certificate for") == NULL; /* that one is about an SVID */
    return false;
}

bool gate_open(struct agent *a)
{
    return !a->stopping && (a->gate_failures == 0 || (!a->gate_probe && clock_mono_ms() >= a->gate_mono_ms));
}

void gate_put(struct agent *a, struct job *j)
{
    a->gate_probe = a->gate_failures > 0;
    j->put_ms = clock_mono_ms();
    queue_put(a->authority, &j->task);
}

void gate_reached(struct agent *a, const struct job *j)
{
    bool failed = j->err.code != ERR_NONE, outage = failed && gate_outage(&j->err);
    bool was_gated = a->gate_failures > 0;
    if (a->stopping)
        return; /* what was given up says nothing of the authority */
    if (failed)
        engine_count(a, &j->err);
    bool svid_revoked = failed && j->kind != JOB_SELF && strcmp(j->err.rule, "svid-revoked") == 0;
    if (j->anew || (svid_revoked && !a->own.stale)) { /* once, also where another own SVID does not come */
        a->own.stale = true; /* the new session shows what the agent is: the list of entries hangs on that */
        engine_advice(a);
    }
    if (outage && j->kind == JOB_ARI)
        return; /* 503 says here that the certificate is not in the published log yet */
    if (outage && a->gate_probe == false && was_gated && clock_mono_ms() < a->gate_mono_ms)
        return; /* put before the gate closed */
    a->gate_probe = false;
    if (outage) {
        a->outage = j->err;
        if (a->gate_failures++ == 0) {
            a->outage_since = clock_wall();
            a->outage_told_ms = clock_mono_ms();
        }
        a->gate_mono_ms = clock_mono_ms() + renew_backoff_ms(a->gate_failures, 0, dice_throw());
        if (a->reachable || !was_gated)
            log_err(LOG_WARN, "the authority can not be reached; what is valid is served on", &j->err);
        a->reachable = false;
        return;
    }
    if (!a->reachable && was_gated)
        log_info("the authority answers again", NULL);
    a->reachable = a->answered = true;
    a->gate_failures = 0;
    if (was_gated) {
        engine_run(a);
        entries_poll(a);
    }
}

/* Of what is held, the first that is over. */
static const struct identity *first_to_end(const struct agent *a)
{
    const struct identity *first = NULL;
    for (size_t k = 0; k < a->identities.n; k++) {
        const struct identity *i = a->identities.list[k];
        if (i->svid && (!first || i->until_ms < first->until_ms))
            first = i;
    }
    return first;
}

/* Whoever looks at the log in the third hour of it is to see what goes on, and how long that may still be so. */
void gate_tick(struct agent *a)
{
    char since[21], own[21], end[21] = "none";
    int64_t now = clock_mono_ms();
    if (a->gate_failures == 0 || now - a->outage_told_ms < REMIND_MS)
        return;
    const struct identity *first = first_to_end(a);
    clock_rfc3339(since, a->outage_since);
    clock_rfc3339(own, a->own.until_ms / 1000);
    if (first)
        clock_rfc3339(end, first->until_ms / 1000);
    log_warn("the authority still can not be reached; what is valid is served on", "since", since, "why", a->outage.msg,
             "the agent's own SVID ends", a->own.until_ms ? own : "none", "the next SVID to end", end, "id",
             first ? first->spiffe_id : "", NULL);
    a->outage_told_ms = now;
}
