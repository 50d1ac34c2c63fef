/* CRLs as they are served: which certificates they name, when they are made again, and GET /crl/….
 *
 * What a CRL names is reckoned, never stored: the revocations that stand (ra/) and the certificates that
 * the log has of them (audit/) say it, so nothing is to be kept in step, and what a crash leaves is
 * complete. For each revocation, once its record stands in the log and the index has come so far, the
 * certificates before it are looked up that were still good and name a CRL. A start does so for all
 * that stand, and until it has, no CRL is made: better none than one with somebody missing. Nor is one made
 * while a revocation waits to be looked up for longer than seconds (no room on the disk, an index that is made again):
 * a new nextUpdate would say of whom it leaves out that all is well.
 *
 * A list is made when somebody asks for it first, soon after a revocation adds to it, and again at half
 * of its life while somebody asks or it names somebody. While none can be made the old one is served
 * until its nextUpdate; after that, none: who asks is told so (503) within seconds. Every list that a
 * certificate may name can be asked for: the names say all (base/crl_name.h). A certificate stays in its list
 * for CRL_KEPT_AFTER after it has ended, so that at least one CRL made later has it (RFC 5280 section 3.3).
 *
 * Threads: one of its own finds and asks the signer. Its lock guards the lists and who waits for one.
 */
#ifndef API_CRL_H
#define API_CRL_H
#include "api/crl_found.h"
#include "base/config.h"
#include "ra/ra.h"
#include <stdatomic.h>

struct audit;
struct crl_keeper;
struct crl_options { /* nothing owned */
    const struct config *config;
    struct ra *ra;
    struct audit *audit; /* NULL: no CRL is made once something is revoked */
};
int crl_start(struct crl_keeper **out, const struct crl_options *o, struct err *e);
/* After it nobody may ask. Questions to the signer may be answered later, to nobody. */
void crl_stop(struct crl_keeper *k);

/* crl_find.c: of the keeper's thread. Adds what revocations later than *after name, in their order, and
 * sets *after to the last that is done with. each: a list that has got more. 0: all that are logged are
 * done with; 1: some wait (for the index, or since stop is set); -1 with e: so do some, since it does not work.
 * *oldest: not with 0, when the first that waits was made; left as it is when that could not be read. */
int crl_find(struct crl_found *found, const struct crl_options *o, int64_t *after, int64_t *oldest,
             void (*each)(void *arg, struct crl_name n), void *arg, const atomic_bool *stop, struct err *e);
#endif
