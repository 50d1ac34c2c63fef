/* One table from err_code (and a few rules) to HTTP status and ACME error type (RFC 8555 §6.7). */
#ifndef API_PROBLEM_H
#define API_PROBLEM_H
#include "base/json.h"

struct problem {
    unsigned status;
    const char *type;     /* what follows urn:ietf:params:acme:error: */
    bool internal;        /* the details are the operator's, not the client's */
    unsigned retry_after; /* seconds; 0: no use in trying again */
};
struct problem problem_of(const struct err *e);
/* RFC 7807 document, with `rule` as a member of ours. acme: with the ACME type and without the
 * details of internal errors; otherwise for the operator, with everything. */
void problem_write(struct buf *out, const struct err *e, bool acme);

#endif
