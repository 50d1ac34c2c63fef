/* SPIFFE IDs (SPIFFE-ID standard §2). Parsing is validation: what does not parse is refused with
 * the rule. Nothing is normalized; an ID is compared byte by byte.
 */
#ifndef BASE_SPIFFE_H
#define BASE_SPIFFE_H
#include "base/bytes.h"
#include "base/err.h"

#define SPIFFE_ID_MAX 2048
#define SPIFFE_TD_MAX 255

struct spiffe_id {
    struct bytes trust_domain; /* views into the parsed string */
    struct bytes path;         /* with its leading slash; empty for a trust domain ID */
};
/* ERR_MALFORMED, rule "spiffe-id". */
int spiffe_parse(struct spiffe_id *id, const char *s, size_t len, struct err *e);
/* Parses and demands this trust domain (rule "trust-domain") and a path (rule "spiffe-path"), both
 * ERR_REJECTED_ID. */
int spiffe_parse_workload(struct spiffe_id *id, const char *s, size_t len, const char *trust_domain,
                          struct err *e);
int spiffe_check_trust_domain(const char *td, size_t len, struct err *e);
/* A DNS name as it may stand in a certificate: lower-case LDH labels, at most 253 bytes, no
 * trailing dot, optional single leading "*." label. ERR_MALFORMED, rule "dns-name". */
int dns_name_check(const char *s, size_t len, struct err *e);

#endif
