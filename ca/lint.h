/* Reads a TBSCertificate back, just before it is signed, with a strict reader that shares nothing
 * with the builder: every field against the request, the policy, the issuing certificate and the
 * log entry that is already durable. What this lets pass is signed, so whatever it does not know
 * it refuses. A refusal means a bug or damaged memory, never a bad request: those ended in
 * profile.c. Not done here: verifying the head's signature and the inclusion path in the stapled
 * proof, which cost more than the signature itself; whoever uses the certificate does that.
 *
 * Rules "lint-form", "lint-serial", "lint-issuer", "lint-validity", "lint-key", "lint-san",
 * "lint-extensions", "lint-proof", "lint-log".
 */
#ifndef CA_LINT_H
#define CA_LINT_H
#include "base/config.h"
#include "ca/digest.h"
#include "ca/msg.h"

struct lint_policy {
    const struct config *config;
    struct bytes issuer_name, issuer_key_id;
    int64_t issuer_not_after;
};
struct lint_expect {
    const struct ca_issue *request;
    uint64_t index;        /* that the log gave */
    int64_t now;
    struct bytes log_body; /* tbs_cert_entry body as it was logged */
};
int lint_leaf(const struct lint_policy *p, struct digest *d, const struct lint_expect *x,
              struct bytes tbs, struct err *e);
#endif
