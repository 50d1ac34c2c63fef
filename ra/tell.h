/* What the log is told of beside certificates.
 *
 * Refusals are counted in memory and told as refusals.h says; what was not told when the process
 * ends at once is lost. Deeds (changes of entries, revocations) are not: they stand in the store's
 * outbox from the very transaction that does them, are told one after the other in that order, and
 * leave the outbox when they stand in the log. A crash between may have one told twice; none is lost.
 * While the signer is away both wait, and deeds until they are released. One thread; callers are never kept waiting.
 */
#ifndef RA_TELL_H
#define RA_TELL_H
#include "ca/client.h"
#include "ra/refusals.h"

struct teller;
struct deed { /* a row of the outbox */
    int64_t id;        /* ascending */
    uint16_t type;     /* tlog/record.h */
    struct bytes body;
};
/* The deed stands in the log at index: called on the client's thread, which must not block. */
typedef void teller_told_cb(void *arg, int64_t id, uint64_t index);
struct teller *teller_new(struct ca_client *ca, teller_told_cb *told, void *arg, struct err *e);
int teller_start(struct teller *t, struct err *e);
/* Tells what it can within half a second; then asks the client nothing any more. */
void teller_stop(struct teller *t);
void teller_release(struct teller *t); /* deeds are told from now on */
void teller_free(struct teller *t); /* after ca_client_free */

void teller_refusal(struct teller *t, const struct refusal *r);
/* Copied. Out of memory: it stays in the outbox, and is told after the next start. */
void teller_deed(struct teller *t, const struct deed *d);
uint64_t teller_waiting(struct teller *t); /* deeds not yet told */
#endif
