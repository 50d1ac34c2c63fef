/* Whether the registration store is older than the log: restored from a copy, it has forgotten entries'
 * changes and revocations that the log still has, and would give certificates to who was revoked.
 *
 * What the store can account for it says itself (ra_told_knows); what the log has the audit service finds. The
 * answer is usually there some milliseconds after the signer is, and the public address waits for it; while
 * the index is being made again from the whole log it comes when that is done, and is not waited for.
 *
 * Does not bring anything back, and sees nothing while there is no audit service. A store from before its
 * account was kept is believed once. A store newer than the log is told of with an error line: then the log
 * lost something, or is another.
 */
#ifndef API_STORE_AGE_H
#define API_STORE_AGE_H
#include "ra/ra.h"

struct audit;
struct store_age;
struct store_age_options { /* nothing owned */
    struct ra *ra;
    struct audit *audit;
    bool accept; /* the operator lives with what was lost: noted, and not asked again */
    /* The store is older: rule "store-older", ERR_CORRUPT. Once, on a thread of its own. */
    void (*older)(void *arg, const struct err *why);
    void *arg;
};
int store_age_start(struct store_age **out, const struct store_age_options *o, struct err *e);
/* Waits until the answer is there, at most ms. */
void store_age_settle(struct store_age *s, unsigned ms);
void store_age_stop(struct store_age *s); /* before the audit service */
#endif
