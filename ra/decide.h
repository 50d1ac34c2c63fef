/* The decision: may evidence that was verified be called this name? Pure: no clock, no store. */
#ifndef RA_DECIDE_H
#define RA_DECIDE_H
#include "ra/ra.h"

struct facts { /* what evidence shows; all borrowed */
    const char *proven_id; /* the ID that it proves itself; NULL or "": none */
    const char *agent;     /* who says so: the ID of an agent, whose word the selectors are; NULL: nobody's word is needed */
    const char *entry_id;  /* the entry that it was shown for, or made for; NULL: any */
    char *const *selectors;
    size_t selectors_count;
};
/* x: the entry for spiffe_id, or NULL. An agent's word counts for entries whose parent it is, and nothing else
 * counts for them; for the authority's own entries it counts nothing. 0: yes. -1 with the rules
 * "entry" (none for this ID), "parent" (an agent's, and this is not its word), "agent-parent" (an agent's word,
 * and the parent is the authority), "entry-other" (the evidence
 * was for an entry that was deleted since: created again it is another), "evidence-id" (the evidence
 * proves another ID and the entry's selectors do not match either), "selectors". */
int decide(const struct ra_entry *x, const char *spiffe_id, const char *authority, const struct facts *f,
           struct err *e);
/* The part that needs no evidence: rules "entry", "parent" (an agent's, and it asks for nothing to vouch for). */
int decide_entry(const struct ra_entry *x, const char *spiffe_id, const char *authority, struct err *e);
/* Each DNS name must stand in the entry: ERR_REJECTED_ID, rule "dns". */
int decide_dns(const struct ra_entry *x, const char *const *dns, size_t dns_count, struct err *e);

#endif
