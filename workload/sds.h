/* Envoy's SDS v3: which names stand for what, and the answer to them.
 *
 *   a SPIFFE ID    that SVID             default   the first SVID
 *   spiffe://td    that trust domain's bundle      ROOTCA    our bundle
 *   ALL            every bundle, each for its own trust domain (Envoy's SPIFFE validator): as one list of
 *                  roots, a federated domain's root could vouch for our names
 *   (no names)     every SVID and every bundle
 */
#ifndef WORKLOAD_SDS_H
#define WORKLOAD_SDS_H
#include "workload/request.h"
#include "workload/scratch.h"

#define SDS_TYPE_TLS "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3."
#define SDS_TYPE_SECRET SDS_TYPE_TLS "Secret"

/* NULL, or the first name that stands for nothing. */
const char *sds_unknown(const struct wl_state *st, const struct names *names);
/* Whether the names stand for the same data in both. */
bool sds_same(const struct names *names, const struct wl_state *a, const struct wl_state *b);

struct sds_arg { /* all borrowed */
    const struct wl_state *state;
    const struct names *names;
    char *version, *nonce;
};
int sds_encode(struct scratch *s, const void *sds_arg);

#endif
