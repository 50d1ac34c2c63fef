/* JWT-SVIDs of others, checked (JWT-SVID sections 2 to 5): signature by a key of the bundle, algorithms RS, PS and ES
 * with 256, 384 and 512; typ absent, JWT or JOSE; sub a SPIFFE ID of the bundle's trust domain; aud; exp.
 * Hostile bytes: bounded, strict base64url, strict JSON. Rules "jwt-syntax", "jwt-alg", "jwt-typ", "jwt-kid",
 * "jwt-signature", "jwt-sub", "jwt-aud", "jwt-exp"; all ERR_UNAUTHORIZED.
 */
#ifndef AGENT_JWT_VALIDATE_H
#define AGENT_JWT_VALIDATE_H
#include "workload/workload.h"

struct jwt_claims {
    char spiffe_id[2049];
    struct buf payload; /* the JSON object as it was signed; the caller frees it */
};
int jwt_validate(struct jwt_claims *out, const char *svid, size_t len, const struct wl_bundle *bundle,
                 const char *audience, int64_t now, struct err *e);

#endif
