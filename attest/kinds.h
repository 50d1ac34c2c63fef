/* Inside attest/: what the table calls, one line a kind. */
#ifndef ATTEST_KINDS_H
#define ATTEST_KINDS_H
#include "attest/attest.h"

#define ATTEST_SIG_MAX 512

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

/* Appends ["media","b64url(evidence)"]. */
int attest_cmw_write(struct buf *out, const char *media, const struct buf *evidence, struct err *e);
/* The evidence as a JSON object with exactly n members; the caller owns it. */
json_t *attest_object(struct bytes evidence, size_t n, struct err *e);
/* obj's member as base64url: bytes written, or -1. */
long attest_member(const json_t *obj, const char *name, uint8_t *dst, size_t cap, struct err *e);
/* Overwrites v's text when it is a string: jansson keeps a copy of its own. */
void attest_text_wipe(const json_t *v);

#endif
