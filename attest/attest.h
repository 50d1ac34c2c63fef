/* Evidence in, selectors out. One file per evidence kind, and the table that dispatches.
 *
 * Evidence travels as a RATS conceptual message wrapper in its JSON record form,
 * ["media/type","b64url(evidence)"]. All evidence covers `digest`, the SHA-256 of the key
 * authorization (freshness token ‖ "." ‖ account key thumbprint), so it is bound to the session
 * key and can not be replayed.
 *
 * Not done here: deciding who may have which identity (ra/), spending join tokens durably (ra/
 * does it with what the result names), logging.
 */
#ifndef ATTEST_ATTEST_H
#define ATTEST_ATTEST_H
#include "base/json.h"
#include "base/key.h"

#define ATTEST_SELECTORS_MAX 32
#define ATTEST_SELECTOR_LEN 2200
#define ATTEST_EVIDENCE_MAX 32768
#define ATTEST_MEDIA_JOIN_TOKEN "application/vnd.mayfly.join-token+json"
#define ATTEST_MEDIA_X509POP "application/vnd.mayfly.x509pop+json"
#define ATTEST_MEDIA_AGENT "application/vnd.mayfly.agent+json"
#define ATTEST_AGENT_SELECTOR_LEN 1024 /* as long as an entry's may be */

enum attest_kind { ATTEST_JOIN_TOKEN = 1, ATTEST_X509POP, ATTEST_AGENT }; /* stored by number: add at the end */
const char *attest_kind_name(enum attest_kind k); /* "join_token", "x509pop", "agent" */

struct attest_anchor { /* what x509pop chains to: DER */
    struct bytes root, issuing;
};
struct attest_result {
    enum attest_kind kind;
    uint8_t evidence_sha256[32];  /* SHA-256(salt ‖ evidence) */
    uint8_t token_hash[32];       /* join_token: SHA-256 of the secret, for ra/ to spend */
    char spiffe_id[2049];         /* x509pop: the ID proven; agent: of the agent, who vouches; "" otherwise */
    int64_t not_before, not_after;/* of the evidence itself; 0: no limit */
    char serial[41];              /* x509pop, agent: the SVID's, in lowercase hex without leading zeros; "" otherwise */
    uint8_t key_sha256[32];       /* x509pop, agent: of its SubjectPublicKeyInfo */
    char *selectors[ATTEST_SELECTORS_MAX]; /* owned; join_token's come from the token (ra/), agent's are its word */
    size_t selectors_count;
};
/* The advertised kinds for the challenge's attestClaimsHint and the directory's meta. */
extern const char *const attest_media_types[];
extern const size_t attest_media_types_count;

/* cmw: the JSON record (array of two strings). now: wall seconds. salt: 16 bytes, for the evidence
 * digest. ERR_BAD_EVIDENCE with rules "evidence-format", "evidence-kind", "evidence-binding",
 * "x509pop-chain", "x509pop-expired", "x509pop-signature", "agent-selectors", "agent-signature", … What the
 * rules of x509pop say of an SVID they say of an agent's, too. */
int attest_verify(struct attest_result *r, const json_t *cmw, const uint8_t digest[32],
                  const struct attest_anchor *anchor, const char *trust_domain, int64_t now,
                  const uint8_t salt[16], struct err *e);
void attest_result_free(struct attest_result *r);
/* The judgement of x509pop on an SVID whose holder has proven its key otherwise, in a TLS handshake: usage,
 * names, times, chain to the one root. chain: DER, leaf first, at most four. Fills spiffe_id, times, serial
 * and key_sha256; there is no evidence, so no digest and no selector. Rules as of x509pop. */
int attest_svid(struct attest_result *r, const struct bytes *chain, size_t n, const struct attest_anchor *anchor,
                const char *trust_domain, int64_t now, struct err *e);
/* Overwrites what cmw holds of the evidence, a join token's secret among it, before it is freed. */
void attest_evidence_wipe(const json_t *cmw);

/* Join token text: "mjt1_" ‖ base64url(32 bytes secret ‖ 32 bytes SHA-256 of the root certificate).
 * Carries the trust anchor, so that an agent needs nothing else. */
#define JOIN_TOKEN_TEXT (5 + B64URL_LEN(64))
void join_token_write(char dst[JOIN_TOKEN_TEXT + 1], const uint8_t secret[32], const uint8_t anchor[32]);
int join_token_parse(const char *s, size_t len, uint8_t secret[32], uint8_t anchor[32], struct err *e);

/* Collect side (agents): appends the CMW record's JSON to out. */
int attest_join_token_collect(struct buf *out, const uint8_t secret[32], const uint8_t digest[32],
                              struct err *e);
/* chain: DER, leaf first; k: the leaf's private key. */
int attest_x509pop_collect(struct buf *out, const struct bytes *chain, size_t n, const struct key *k,
                           const uint8_t digest[32], struct err *e);
/* Signs msg: an ECDSA signature is DER (RFC 3279 section 2.2.3), of the hash that goes with the key (base/key.h).
 * sig of at least 512 bytes. Its length, or -1. A callback, because the key may be in a token. */
typedef long attest_sign_cb(void *arg, uint8_t *sig, size_t cap, const void *msg, size_t len, struct err *e);
/* An agent's word on a workload beside it. chain: the agent's SVID, DER, leaf first; sign: with its key. At most
 * ATTEST_SELECTORS_MAX selectors, at least one. Rules "agent-selectors", "agent-signature" (it is not by the key
 * of chain[0]: told here and not by the authority). */
int attest_agent_collect(struct buf *out, const struct bytes *chain, size_t n, attest_sign_cb *sign, void *arg,
                         const char *const *selectors, size_t selectors_count, const uint8_t digest[32], struct err *e);
/* SHA-256(token ‖ "." ‖ thumbprint), however long they are. -1: out of memory; digest is then of no
 * use, and zero. */
int attest_key_authorization(uint8_t digest[32], const char *token, const char *thumbprint);

#endif
