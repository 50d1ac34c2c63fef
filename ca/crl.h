/* CRLs: what the frontend may have signed beside certificates (RFC 5280 section 5).
 *
 * The frontend says which list, and whom it names; all else is the signer's: issuer, times, number,
 * scope. A CRL takes the corridor's way: it is logged first, by a record that binds all of it but its
 * number, and the record's index becomes the number. So numbers ascend for ever, over restarts and
 * without a counter of their own, and a CRL that stands in no log was not signed here.
 * A frontend that was taken can leave out whom it likes, as it can give certificates to whom it likes:
 * the log's revocations and CRLs show it. It can name no certificate of another log, or none of any.
 *
 * TBSCertList: version 2, ecdsa-with-SHA256, issuer, thisUpdate, nextUpdate, revoked certificates in
 * order of serial (each with its reason, unless unspecified), and the extensions authorityKeyIdentifier,
 * issuingDistributionPoint (critical: the list's URL, onlyContainsUserCerts), cRLNumber.
 */
#ifndef CA_CRL_H
#define CA_CRL_H
#include "base/config.h"
#include "ca/lint.h"
#include "ca/tbs.h"

#define CRLS_A_SECOND 100
#define CRL_EVERY_US (1000000 / CRLS_A_SECOND)

struct crl_draft { /* one on its way; owned by its job */
    struct ca_crl request; /* views into the job's frame */
    int64_t this_update, next_update;
    /* What is logged: the elements of TBSCertList before crlExtensions, then the Extension elements but
     * for cRLNumber, as they stand in it. */
    struct bytes fields, extensions; /* views into body, one behind the other */
    uint8_t digest[DIGEST_SHA256];   /* of both */
    struct bytes tbs;                /* view into tbs_array */
    uint8_t body[CA_CRL_MAX], tbs_array[CA_CRL_MAX];
};
/* Step 2: reads a CA_CRL's body. NULL with e: "ca-msg", "memory". */
struct crl_draft *crl_draft_new(struct bytes body, struct err *e);
/* Step 3: the serials are of certificates that this log has given numbers to. Rules "crl-serial", "crl-reason". */
int crl_check(const struct crl_draft *d, uint16_t log_number, uint64_t log_size, struct err *e);
/* Steps 4 and 5: times and body, and the log entry that binds them. */
int crl_entry(struct crl_draft *d, struct buf *log_entry, const struct tbs_template *t, struct digest *digest,
              int64_t now, int64_t issuer_not_after, struct err *e);
/* Step 7. */
int crl_build(struct crl_draft *d, uint64_t index, struct err *e);
/* Step 8: reads it back with a strict reader that shares nothing with the builder, as lint.h does with
 * certificates. Rules "lint-crl". */
int crl_lint(const struct lint_policy *p, struct digest *digest, const struct crl_draft *d, uint64_t index,
             int64_t now, struct err *e);
#endif
