/* One line a decision, for operators and their log store. Never evidence, secrets or selectors.
 * Refusals cost the asker nothing, so their lines are counted: at most REFUSED_MAX a second, and how
 * many were left out is told with the next. */
#include "base/clock.h"
#include "ra/internal.h"
#include <string.h>

#define REFUSED_MAX 20

void audit_issued(struct ra *ra, const struct order *o)
{
    (void)ra;
    /* At debug: the transparency log is the record, and a line each would cost a system call. */
    log_debug("issued", "spiffe_id", o->uri, "index", log_num((long long)o->index), "attestor",
             attest_kind_name(o->kind), "entry", o->entry_id, "revision", log_num((long long)o->entry_revision),
             "session", o->owner, NULL);
}

/* Whether this one is written; how many were not, since the last that was. */
static bool may_write(struct ra *ra, unsigned *hidden)
{
    int64_t now = clock_mono_ms() / 1000;
    pthread_mutex_lock(&ra->audit.lock);
    if (ra->audit.second != now) {
        ra->audit.second = now;
        ra->audit.count = 0;
    }
    bool may = ra->audit.count < REFUSED_MAX;
    *hidden = may ? ra->audit.hidden : 0;
    if (may) {
        ra->audit.count++;
        ra->audit.hidden = 0;
    } else {
        ra->audit.hidden++;
    }
    pthread_mutex_unlock(&ra->audit.lock);
    return may;
}

void audit_refused(struct ra *ra, const char *spiffe_id, const struct ra_session *s, const struct err *e)
{
    unsigned hidden;
    char id[512];
    atomic_fetch_add(&ra->refused, 1);
    if (!may_write(ra, &hidden))
        return;
    snprintf(id, sizeof id, "%s", spiffe_id ? spiffe_id : ""); /* of outside origin: log.c escapes it */
    log_info("refused", "spiffe_id", id, "code", err_code_name(e->code), "rule", e->rule, "reason", e->msg, "session",
             s ? s->id : "", "hidden_before", log_num(hidden), NULL);
}
