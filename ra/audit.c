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
             "session", o->owner, "mono_us", log_num(clock_mono_us()), NULL);
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

/* The log's record of it; NULL-safe texts, cleaned, since they come from outside. Trouble of ours
 * is no refusal: whoever asked may ask again. */
static void tell_log(struct ra *ra, const char *spiffe_id, const struct ra_session *s, enum attest_kind kind,
                     const char *agent, bool by_signer, const struct err *e)
{
    const char *attestor = kind ? attest_kind_name(kind) : "";
    struct refusal r = {.count = 1, .has_session = s != NULL};
    switch (e->code) {
    case ERR_UNAVAILABLE: case ERR_RATE: case ERR_INTERNAL: case ERR_IO: case ERR_HSM: case ERR_CORRUPT: case ERR_CONFIG:
        return;
    case ERR_BAD_EVIDENCE:
        r.stage = TLOG_AT_ATTESTATION;
        break;
    case ERR_REJECTED_ID: case ERR_UNAUTHORIZED:
        r.stage = TLOG_AT_REGISTRATION;
        break;
    default:
        r.stage = TLOG_AT_POLICY;
    }
    if (by_signer)
        r.stage = TLOG_AT_SIGNER;
    if (!spiffe_id)
        spiffe_id = "";
    tlog_text_clean(r.rule, sizeof r.rule, e->rule, strlen(e->rule));
    tlog_text_clean(r.why, sizeof r.why, e->msg, strlen(e->msg));
    tlog_text_clean(r.spiffe_id, sizeof r.spiffe_id, spiffe_id, strlen(spiffe_id));
    tlog_text_clean(r.attestor, sizeof r.attestor, attestor, strlen(attestor));
    tlog_text_clean(r.requester, sizeof r.requester, agent, strlen(agent));
    if (s)
        memcpy(r.session, s->thumbprint_raw, sizeof r.session);
    if (*r.rule && *r.why)
        teller_refusal(ra->teller, &r);
}

void audit_refused(struct ra *ra, const char *spiffe_id, const struct ra_session *s, enum attest_kind kind,
                   bool by_signer, const struct err *e)
{
    audit_refused_agent(ra, spiffe_id, s, kind, "", by_signer, e);
}

void audit_refused_agent(struct ra *ra, const char *spiffe_id, const struct ra_session *s, enum attest_kind kind,
                         const char *agent, bool by_signer, const struct err *e)
{
    unsigned hidden;
    char id[512];
    atomic_fetch_add(&ra->refused, 1);
    tell_log(ra, spiffe_id, s, kind, agent, by_signer, e);
    if (!may_write(ra, &hidden))
        return;
    snprintf(id, sizeof id, "%s", spiffe_id ? spiffe_id : ""); /* of outside origin: log.c escapes it */
    log_info("refused", "spiffe_id", id, "code", err_code_name(e->code), "rule", e->rule, "reason", e->msg, "session",
             s ? s->id : "", "agent", agent, "hidden_before", log_num(hidden), NULL);
}
