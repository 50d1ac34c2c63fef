/* What a Workload API answers, read as hostile: sizes and counts bounded (limits.h), IDs and DER checked,
 * keys held against their certificates as far as that needs no arithmetic. The message is in locked memory
 * and stays there; private keys go from it into locked memory of their own.
 * Not done here: signatures, expiry, chains to roots: whoever uses an SVID verifies it.
 * Rules: "workload-answer", "svid-id", "svid-chain", "svid-key", "bundle", "secret-memory", "memory".
 */
#ifndef WORKLOAD_PARSE_H
#define WORKLOAD_PARSE_H
#include "base/err.h"
#include "workload/workload.h"

/* X509SVIDResponse. At least one SVID; bundles [0] is of the first one's trust domain. */
struct wl_state *parse_x509(struct bytes msg, struct err *e);
/* JWTBundlesResponse: x509 is empty in each. */
struct wl_bundles *parse_jwt_bundles(struct bytes msg, struct err *e);
/* A new set: all of x509's, with jwt's keys where there are some; then those of jwt alone. */
struct wl_bundles *parse_join(const struct wl_bundles *x509, const struct wl_bundles *jwt, struct err *e);
struct jwt_list { /* JWTSVIDResponse */
    struct wl_jwt *list; /* owned, with its strings */
    size_t n;
};
int parse_jwt(struct jwt_list *out, struct bytes msg, struct err *e);
void jwt_list_free(struct jwt_list *l); /* wipes the tokens */

/* parse_cert.c. Chain of certificates, leaf first, for this ID; its key. Fills the times. */
int parse_check_svid(struct wl_svid *s, struct err *e);
/* 1 to max certificates, nothing else. */
int parse_check_certs(struct bytes der, size_t max, struct err *e);

#endif
