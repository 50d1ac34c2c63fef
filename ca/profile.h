/* What this signer may ever sign. Everything that is not allowed here is refused, whoever asks:
 * the frontend decides who gets a name, this room decides which names exist at all.
 *
 * workload: a SPIFFE ID of this trust domain outside /mayfly/, DNS names within ca.permitted_dns.
 * server:   spiffe://<td>/mayfly/server, DNS names and IP addresses from `names`.
 * Both:     lifetime 1..ca.max_lifetime, a key of an accepted kind.
 * JWT-SVID: a SPIFFE ID and a lifetime as a workload's; what else stands in it, its record bounds.
 *
 * Rules: "profile", "spiffe-id", "trust-domain", "reserved", "lifetime", "dns-name",
 * "dns-permitted", "key-type", "key-size", "key-point", "key-weak", "log-fields", "issuer-lifetime".
 */
#ifndef CA_PROFILE_H
#define CA_PROFILE_H
#include "base/config.h"
#include "ca/msg.h"

/* A certificate is valid this much before it is made, for clocks that run behind. */
#define PROFILE_BACKDATE 10

struct profile_name {
    struct bytes text;    /* as asked */
    uint8_t address[16];  /* of an IP name */
    uint8_t address_len;  /* 4 or 16; 0: a DNS name */
};
struct profile_leaf { /* what a request comes to; views into the request */
    struct bytes uri;
    struct profile_name names[CA_DNS_MAX]; /* DNS names first, then addresses */
    size_t names_count;
    struct bytes spki, spki_algorithm; /* whole elements */
    struct bytes spki_bits;            /* the public key itself */
    uint32_t lifetime;
    int64_t not_before, not_after;
};
int profile_check(struct profile_leaf *leaf, const struct config *policy, const struct ca_issue *m,
                  struct err *e);
int profile_check_jwt(const struct config *policy, const struct ca_jwt *m, struct err *e);
/* Where a certificate gets its lifetime: from now - PROFILE_BACKDATE to now + the lifetime asked
 * for, never beyond the issuing certificate. */
int profile_validity(struct profile_leaf *leaf, int64_t now, int64_t issuer_not_after, struct err *e);
#endif
