/* What clients ask, decoded. Each answers WL_OK, or a status and why: gRPC's own code list has INTERNAL for
 * what is no message of its type at all, and INVALID_ARGUMENT is what the standard wants for the rest.
 */
#ifndef WORKLOAD_REQUEST_H
#define WORKLOAD_REQUEST_H
#include "workload/limits.h"
#include "workload/workload.h"

struct request_jwt { /* JWTSVIDRequest, ValidateJWTSVIDRequest (one audience, and the token as svid) */
    char *text; /* owned: what the others point to */
    const char *audience[LIMIT_AUDIENCES];
    size_t n;
    const char *spiffe_id, *svid; /* "" when not said */
};
enum wl_status request_empty(struct bytes msg, const char **why);
enum wl_status request_jwt(struct request_jwt *r, struct bytes msg, const char **why);
enum wl_status request_validate(struct request_jwt *r, struct bytes msg, const char **why);
void request_jwt_free(struct request_jwt *r); /* wipes: a token is worth stealing */

struct names { /* of resources: one block, so that two lists are compared as bytes */
    size_t n, len;
    char text[]; /* n strings, each with its NUL */
};
struct request_sds {
    struct names *names; /* owned, never NULL after WL_OK */
    struct bytes nonce;  /* view into the message */
    bool refused;        /* error_detail is there: a NACK */
    struct bytes error;  /* its message */
};
enum wl_status request_sds(struct request_sds *r, struct bytes msg, const char **why);
bool names_equal(const struct names *a, const struct names *b);
const char *names_next(const struct names *n, const char *at); /* from NULL to NULL */

#endif
