/* JWT-SVIDs (SPIFFE JWT-SVID; RFC 7519): what stands in one, and in the log before it is signed.
 *
 * The asker says whom the token is for and to whom it may be shown; all else is the signer's: the times, the
 * identifier, the key, and the texts themselves, so nobody composes what it signs. A token takes the
 * corridor's way: its record (tlog/FORMAT.md, type 0xff05) is durable under a signed head first, and the
 * record's index becomes its `jti`. The record says all that stands in the token, which has one form, so a token
 * that stands in no log was not signed here.
 *
 *   header  {"alg":"ES256","kid":"…","typ":"JWT"}
 *   claims  {"aud":["…"],"exp":…,"iat":…,"jti":"<log number>-<index>","sub":"spiffe://…"}
 *
 * Not done here: which SPIFFE IDs and lifetimes there are (profile.c), and who may have one (ra/).
 */
#ifndef CA_JWT_H
#define CA_JWT_H
#include "base/config.h"
#include "ca/msg.h"

struct jwt_policy {
    const struct config *config;
    const char *kid;   /* RFC 7638 thumbprint of the key; "": there is none */
    struct bytes spki; /* of the key */
};
/* Step 5: the log entry that says all of it. Rule "record-format". */
int jwt_entry(struct buf *log_entry, const struct jwt_policy *p, const struct ca_jwt *m, int64_t now, struct err *e);
/* Step 7: what is signed, base64url(header) "." base64url(claims), in the array; empty when it did not fit.
 * scratch: any buffer. */
struct bytes jwt_build(uint8_t *array, size_t cap, struct buf *scratch, const struct jwt_policy *p, const struct ca_jwt *m,
                       int64_t now, uint64_t index);
struct jwt_expect {
    const struct ca_jwt *request;
    uint64_t index; /* that the log gave */
    int64_t now;
    struct bytes log_entry; /* as it was logged */
};
/* Step 8: reads it back with a reader that shares nothing with the builder, against the request, the policy and
 * the entry that is already durable, as lint.h does with certificates. room: for the decoded claims. Rules
 * "lint-jwt", "lint-log". */
int jwt_lint(const struct jwt_policy *p, const struct jwt_expect *x, struct bytes input, uint8_t *room, size_t cap,
             struct err *e);
#endif
