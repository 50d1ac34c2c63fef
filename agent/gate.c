/* Whether the authority may be asked now: an outage is one gate for all, with one probe at a time, and every answer says
 * something of it. */
#include "agent/daemon.h"
#include "base/clock.h"
#include <string.h>

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
        a->gate_failures++;
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
