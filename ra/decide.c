#include "ra/decide.h"
#include <string.h>

int decide_entry(const struct ra_entry *x, const char *spiffe_id, const char *authority, struct err *e)
{
    if (!x)
        return err_set(e, ERR_REJECTED_ID, "entry",
                       "no entry for %.300s; register it with `mayfly entry create --id`", spiffe_id);
    if (strcmp(x->parent, authority) != 0 && x->selectors_count == 0)
        return err_set(e, ERR_REJECTED_ID, "parent",
                       "the entry's parent is the agent %.200s, and it has no selectors that the agent could vouch for; "
                       "add some with `mayfly entry update --selector`",
                       x->parent);
    return 0;
}

/* Whose word counts: no proof of an ID gets past the agent that an operator put before it. */
static int decide_parent(const struct ra_entry *x, const char *spiffe_id, const char *authority, const char *agent,
                         struct err *e)
{
    bool behind = strcmp(x->parent, authority) != 0;
    if (behind && (!agent || strcmp(agent, x->parent) != 0))
        return err_set(e, ERR_REJECTED_ID, "parent",
                       "the entry's parent is the agent %.200s; only that agent may obtain it, with evidence of its own",
                       x->parent);
    if (!behind && agent)
        return err_set(e, ERR_UNAUTHORIZED, "agent-parent",
                       "the entry for %.200s is behind no agent, so an agent's word counts nothing; an operator puts it "
                       "behind one with `mayfly entry update --parent`",
                       spiffe_id);
    return 0;
}

static bool shows(const struct facts *f, const char *selector)
{
    for (size_t i = 0; i < f->selectors_count; i++)
        if (strcmp(f->selectors[i], selector) == 0)
            return true;
    return false;
}

int decide(const struct ra_entry *x, const char *spiffe_id, const char *authority, const struct facts *f,
           struct err *e)
{
    if (decide_entry(x, spiffe_id, authority, e) < 0 || decide_parent(x, spiffe_id, authority, f->agent, e) < 0)
        return -1;
    if (f->entry_id && strcmp(f->entry_id, x->id) != 0)
        return err_set(e, ERR_UNAUTHORIZED, "entry-other",
                       "the evidence was for an entry of %.300s that was deleted since; the one there now asks for "
                       "evidence of its own: attest again, with a join token made for it",
                       spiffe_id);
    bool proves_one = !f->agent && f->proven_id && *f->proven_id;
    if (proves_one && strcmp(f->proven_id, spiffe_id) == 0)
        return 0;
    size_t matched = 0;
    while (matched < x->selectors_count && shows(f, x->selectors[matched]))
        matched++;
    if (x->selectors_count > 0 && matched == x->selectors_count)
        return 0;
    /* Which selector is missing is not told: it is the operator's knowledge, not the asker's. */
    if (proves_one)
        return err_set(e, ERR_UNAUTHORIZED, "evidence-id",
                       "the evidence proves another identity than %.300s", spiffe_id);
    return err_set(e, ERR_UNAUTHORIZED, "selectors",
                   x->selectors_count ? "the evidence does not show every selector of the entry for %.300s"
                                      : "the entry for %.300s has no selectors: only a join token made for it, "
                                        "or an SVID of its own, proves it",
                   spiffe_id);
}

int decide_dns(const struct ra_entry *x, const char *const *dns, size_t dns_count, struct err *e)
{
    for (size_t i = 0; i < dns_count; i++) {
        bool found = false;
        for (size_t k = 0; k < x->dns_count; k++)
            found = found || strcmp(dns[i], x->dns[k]) == 0;
        if (!found)
            return err_set(e, ERR_REJECTED_ID, "dns",
                           "the entry does not allow the DNS name %s; add it with `mayfly entry update --dns`",
                           dns[i]);
    }
    return 0;
}
