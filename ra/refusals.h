/* Refusals on their way to the log: told once each kind, then counted, so that a million of them in
 * a minute are a few records and not one is lost from the count.
 *
 * Two refusals are alike when stage, rule, SPIFFE ID, attestor and requester are the same. The first
 * of a kind is due at once; those that follow within REFUSALS_WINDOW_MS become one record with
 * their number. At most REFUSALS_KINDS kinds are told apart at a time; what goes beyond is counted
 * in one record of rule "many-refusals". At most REFUSALS_A_SECOND records leave a second.
 * Plain memory, no thread, no lock: the caller has one (tell.c). What stood here when the process
 * ended at once is lost; the audit is of what was refused, and nothing was given.
 */
#ifndef RA_REFUSALS_H
#define RA_REFUSALS_H
#include "tlog/record.h"

#define REFUSALS_KINDS 64
#define REFUSALS_WINDOW_MS 10000
#define REFUSALS_A_SECOND 10

struct refusal { /* texts cleaned and terminated */
    uint8_t stage;
    char rule[TLOG_RULE_MAX + 1], why[TLOG_WHY_MAX + 1], spiffe_id[TLOG_NAME_MAX + 1];
    char attestor[33], requester[TLOG_NAME_MAX + 1];
    uint8_t session[32];
    bool has_session; /* and all that were counted share it */
    uint32_t count;
};
struct refusals;
struct refusals *refusals_new(void); /* NULL: out of memory */
void refusals_free(struct refusals *t);
/* r->count of them, at least one. now: monotonic ms. */
void refusals_add(struct refusals *t, const struct refusal *r, int64_t now);
/* The next that is due; false: none now. all: those, too, whose while is not over (at the end). */
bool refusals_take(struct refusals *t, int64_t now, bool all, struct refusal *out);
/* Monotonic ms at which something will be due; INT64_MAX: nothing waits. */
int64_t refusals_due(const struct refusals *t, int64_t now);
#endif
