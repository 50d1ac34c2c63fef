/* X509-SVID: what a certificate must look like to be one, whoever signed it. Path, time and revocation are others'.
 * The agent asks before it keeps a certificate, the proxy before it believes a peer.
 * Refusals: ERR_UNAUTHORIZED, rules "svid-uri", "svid-san", "svid-extensions", "svid-ca", "svid-usage", "svid-issuing".
 */
#ifndef BASE_SVID_H
#define BASE_SVID_H
#include "base/spiffe.h"
#include <openssl/x509v3.h>

/* The one URI name, a workload's SPIFFE ID, is copied into dst (SPIFFE_ID_MAX + 1 bytes) and parsed into id. */
int svid_id(char *dst, struct spiffe_id *id, X509 *leaf, struct err *e);
/* A leaf: no CA, key usage, extended key usage (X509-SVID §4). */
int svid_leaf(X509 *leaf, struct err *e);
/* It may sign certificates, and its own SPIFFE ID, if any, is the leaf's trust domain (X509-SVID §3.2, §4.3). */
int svid_issuing(X509 *issuing, const struct spiffe_id *leaf, struct err *e);
#endif
