/* Revoked certificates that name a CRL, in memory. Bounded; of one thread. */
#ifndef API_CRL_FOUND_H
#define API_CRL_FOUND_H
#include "base/bytes.h"
#include "base/crl_name.h"
#include "base/err.h"

/* Seconds that a certificate stays listed after it has ended. More than half of the longest crl.lifetime
 * (base/config_rules.c), so that a list is made meanwhile; and no more than RA_REVOCATION_KEPT leaves of it. */
#define CRL_KEPT_AFTER 3600
#define CRL_FOUND_MAX (1u << 20)  /* 40 MB */

struct crl_cert {
    uint64_t serial;
    int64_t time, not_after; /* when it was revoked; when it ends */
    struct crl_name name;
    uint8_t reason;
    bool client;             /* an ACME client asked; operators' come first where there is no room for all */
};
struct crl_found {
    struct crl_cert *list; /* owned */
    size_t n, cap, tidy_at;
};
void crl_found_init(struct crl_found *f);
void crl_found_free(struct crl_found *f);
/* rules "memory", "crl-found" (full). */
int crl_found_add(struct crl_found *f, const struct crl_cert *c, struct err *e);
/* What one list names, in the form and order that the signer wants (ca/msg.h), each once, as the first
 * revocation of it says, and as an operator's when one of them is. Answers how many; *left_out: how many there
 * was no room for. -1: no memory. */
long crl_found_select(struct crl_found *f, struct crl_name n, int64_t now, struct buf *revoked, size_t *left_out,
                      struct err *e);
#endif
