/* Inside attest/: what the table calls, one line a kind. */
#ifndef ATTEST_KINDS_H
#define ATTEST_KINDS_H
#include "attest/attest.h"
#include <openssl/x509.h>

#define ATTEST_SIG_MAX 512
#define ATTEST_CHAIN_MAX 4 /* certificates of an SVID that is shown */

struct attest_input {
    struct bytes evidence; /* decoded */
    const uint8_t *digest; /* 32 bytes: SHA-256 of the key authorization */
    const struct attest_anchor *anchor;
    const char *trust_domain;
    int64_t now;
};
/* Each fills what its kind proves; the dispatcher has set kind and evidence_sha256, and frees r when
 * it fails. */
int join_token_verify(struct attest_result *r, const struct attest_input *in, struct err *e);
int x509pop_verify(struct attest_result *r, const struct attest_input *in, struct err *e);
int agent_evidence_verify(struct attest_result *r, const struct attest_input *in, struct err *e);

/* svid.c: an SVID that is shown. Zeroed before, freed after, whatever failed. */
struct shown {
    X509 *certs[ATTEST_CHAIN_MAX]; /* owned; leaf first */
    size_t n;
    struct key *key;               /* owned; the leaf's */
};
/* The evidence's member "chain": form only. */
int shown_read(struct shown *p, const json_t *obj, struct err *e);
int shown_take(struct shown *p, const struct bytes *chain, size_t n, struct err *e); /* the same of DER */
/* All but the holder's key: fills spiffe_id, times, serial and key_sha256. Rules "x509pop-…". */
int shown_judge(struct attest_result *r, const struct shown *p, const struct attest_anchor *anchor,
                const char *trust_domain, int64_t now, struct err *e);
void shown_free(struct shown *p);
/* Collect side: appends "chain":[…]. */
int shown_write(struct buf *out, const struct bytes *chain, size_t n, struct err *e);

/* Appends ["media","b64url(evidence)"]. */
int attest_cmw_write(struct buf *out, const char *media, const struct buf *evidence, struct err *e);
/* The evidence as a JSON object with exactly n members; the caller owns it. */
json_t *attest_object(struct bytes evidence, size_t n, struct err *e);
/* obj's member as base64url: bytes written, or -1. */
long attest_member(const json_t *obj, const char *name, uint8_t *dst, size_t cap, struct err *e);
/* Overwrites v's text when it is a string: jansson keeps a copy of its own. */
void attest_text_wipe(const json_t *v);

#endif
