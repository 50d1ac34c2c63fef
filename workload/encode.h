/* The SPIFFE Workload API's answers, as encoders of a scratch. Each is a function of its argument
 * alone: asked again, it makes the same bytes.
 */
#ifndef WORKLOAD_ENCODE_H
#define WORKLOAD_ENCODE_H
#include "workload/scratch.h"
#include "workload/workload.h"

int encode_x509(struct scratch *s, const void *wl_state);
int encode_x509_bundles(struct scratch *s, const void *wl_bundles);
int encode_jwt_bundles(struct scratch *s, const void *wl_bundles);
struct encode_jwt_arg {
    const struct wl_jwt *list;
    size_t n;
};
int encode_jwt(struct scratch *s, const void *encode_jwt_arg);

/* ValidateJWTSVID's claims, a JSON object as google.protobuf.Struct (encode_claims.c). */
struct encode_claims_arg;
struct encode_claims_arg *encode_claims_new(const char *spiffe_id, const char *json, size_t len,
                                            struct err *e);
void encode_claims_free(struct encode_claims_arg *a);
int encode_claims(struct scratch *s, const void *encode_claims_arg);

char *encode_td_id(struct scratch *s, const char *trust_domain); /* "spiffe://td" */

#endif
