/* The only code that speaks PKCS#11.
 *
 * hsm_open loads the module with libp11 (module, token, enumeration; single-threaded, once), then
 * opens its own bounded session pool on the same module and logs in; neither login nor signing goes
 * through libp11 (it copies the PIN, and its pool can hang). The PIN is tried exactly once; a refused PIN is
 * remembered in no way and the caller exits. Nothing here forks.
 *
 * A watchdog thread ends the process (_exit HSM_EXIT_HUNG, after a log line) when a call takes
 * longer than call_timeout_ms. Any answer that means the token or session is gone (CKR_DEVICE_*,
 * CKR_TOKEN_NOT_PRESENT, CKR_SESSION_*, CKR_OBJECT_HANDLE_INVALID, CKR_USER_NOT_LOGGED_IN, …) is
 * ERR_HSM with rule "hsm-lost": the caller is crash-only and exits.
 *
 * Not done here: what is signed (ca/), the log (tlog/). Keys never leave the token.
 */
#ifndef HSM_HSM_H
#define HSM_HSM_H
#include "base/bytes.h"
#include "base/err.h"
#include "base/secmem.h"
#include <stdbool.h>

#define HSM_EXIT_HUNG 75
#define HSM_SESSIONS_MAX 64

/* First the authority's keys, then the two that an agent may keep in a token of its own; neither ever
 * needs, makes or reports the other's. */
enum hsm_key_role {
    HSM_KEY_ROOT,
    HSM_KEY_ISSUING,
    HSM_KEY_LOG,
    HSM_KEY_JWT,
    HSM_AUTHORITY_KEYS, /* how many */
    HSM_KEY_AGENT_SESSION = HSM_AUTHORITY_KEYS,
    HSM_KEY_AGENT_SVID,
    HSM_KEYS
};
/* CKA_LABEL of each: "mayfly-root" (P-384), "mayfly-issuing" (P-256), "mayfly-log" (Ed25519), "mayfly-jwt",
 * "mayfly-agent-session", "mayfly-agent-svid" (P-256 all three). */
extern const char *const hsm_key_label[HSM_KEYS];

struct hsm_options {
    const char *uri;    /* RFC 7512: token=, serial=, manufacturer=, slot-id=, module-path= */
    const char *module; /* path; module-path in the URI wins; NULL allowed then */
    struct secret *pin; /* not owned; wiped by the caller after hsm_open */
    unsigned sessions;  /* size of the pool = how many threads sign at once; 1..HSM_SESSIONS_MAX */
    unsigned call_timeout_ms;
};
struct hsm;
int hsm_open(struct hsm **out, const struct hsm_options *o, struct err *e);
void hsm_close(struct hsm *h); /* stops the watchdog, closes sessions, C_Finalize */

/* Finds the keys, checks each one's attributes (true: TOKEN PRIVATE SENSITIVE ALWAYS_SENSITIVE
 * NEVER_EXTRACTABLE LOCAL SIGN; false: EXTRACTABLE DECRYPT UNWRAP DERIVE), curve and type, finds
 * its public half, and lets each sign once and verifies that. Refusals name key and attribute:
 * rule "hsm-attribute", "hsm-key-missing" (ERR_NOT_FOUND), "hsm-key-duplicate", "hsm-key-type".
 * `need` is a bit mask of 1u << role. */
int hsm_load_keys(struct hsm *h, unsigned need, struct err *e);
/* After hsm_load_keys. ECDSA roles: uncompressed point; log: 32 bytes. Owned by h. */
struct bytes hsm_public(const struct hsm *h, enum hsm_key_role role);
struct bytes hsm_spki(const struct hsm *h, enum hsm_key_role role); /* DER SubjectPublicKeyInfo */

/* Signs. ECDSA roles: msg is the digest (32 or 48 bytes), sig is r‖s fixed width (64 or 96).
 * Log: msg is the message, sig is 64 bytes. *sig_len in: capacity, out: length. Takes a session of
 * the pool, waiting at most call_timeout_ms for one (rule "hsm-busy"). Thread safe. */
int hsm_sign(struct hsm *h, enum hsm_key_role role, const uint8_t *msg, size_t len, uint8_t *sig,
             size_t *sig_len, struct err *e);
uint64_t hsm_sign_count_of(const struct hsm *h, enum hsm_key_role role);
uint64_t hsm_sign_count(const struct hsm *h); /* C_Sign calls that succeeded, this process */

/* Key ceremony: generates the pair in the token with C_GenerateKeyPair and the attributes above.
 * Refuses (ERR_EXISTS) when a key with that label exists. */
int hsm_generate(struct hsm *h, enum hsm_key_role role, struct err *e);
bool hsm_has_key(struct hsm *h, enum hsm_key_role role);

/* Makes a SoftHSM2 token: writes conf (0600) naming tokendir, initializes a token with this label
 * and PIN (C_InitToken / C_InitPIN in the calling process; SO PIN random and forgotten). conf and
 * tokendir must not exist yet. Sets SOFTHSM2_CONF of the calling process. */
int hsm_softhsm_create(const char *module, const char *conf, const char *tokendir, const char *label,
                       const struct secret *pin, struct err *e);

/* One line a key of the authority's and attribute for `mayfly hsm check`. cb is called for each; value
 * "true", "false", "absent"; ok says whether the demand is met. HSM_KEY_JWT may be absent: authorities older
 * than it go on, and the signer makes it. */
typedef void hsm_report_cb(void *arg, const char *key, const char *attribute, const char *value, bool ok);
int hsm_report(struct hsm *h, hsm_report_cb *cb, void *arg, struct err *e);
const char *hsm_token_name(const struct hsm *h); /* "label (manufacturer model serial)" */

#endif
