/* The agent's library: the ACME client, verification, and files, used by `mayfly-agent fetch` and by the daemon
 * (daemon.h). Never links ra/ or ca/; of hsm/ it uses the token that may hold its own two keys.
 */
#ifndef AGENT_AGENT_H
#define AGENT_AGENT_H
#include "attest/attest.h"
#include "tlog/proof.h"

/* --- trust: what the agent believes before it speaks ------------------------------------------- */
struct agent_trust {            /* either a pinned hash or certificates */
    bool pinned;
    uint8_t anchor_sha256[32];  /* of the root certificate, from the join token */
    struct buf roots_pem;       /* from --trust-bundle (PEM, or a SPIFFE bundle JSON), or learnt by the pin */
};
int agent_trust_from_file(struct agent_trust *t, const char *path, struct err *e);
void agent_trust_free(struct agent_trust *t);

/* --- the ACME client (one session key, one connection kept alive) ------------------------------- */
struct acme_client;
struct acme_client *acme_client_new(const char *server_url, struct agent_trust *trust, struct err *e);
/* From any thread: what is under way may take so long, and nothing begins after that. */
void acme_client_stop(struct acme_client *c, unsigned ms);
void acme_client_free(struct acme_client *c);
struct acme_identity { /* what an order brings back */
    struct key *key;          /* owned: the workload's private key */
    struct buf chain_pem;     /* leaf, issuing */
};
void acme_identity_free(struct acme_identity *i);
/* Evidence for a freshness token: fills out with the CMW record; called when the server asks. */
typedef int acme_evidence_cb(void *arg, const uint8_t digest[32], struct buf *out, struct err *e);
/* newAccount if none yet, then the one-round-trip order (with in-band evidence unless this session
 * is authorized already), falling back to RFC 8555's steps when the server does not know it.
 * dns may be NULL. Retries badNonce (thrice), and 429, 502, 503 and 504 until deadline_ms. */
int acme_obtain(struct acme_client *c, const char *spiffe_id, const char *const *dns, size_t dns_count,
                acme_evidence_cb *evidence, void *arg, unsigned deadline_ms, struct acme_identity *out,
                struct err *e);

/* As acme_obtain, for who keeps many identities: with a key of the caller's (the result's is then NULL: agent_verify
 * wants it put there), and the certificate that this one replaces (RFC 9773 section 5). */
struct acme_ask {
    const char *spiffe_id;
    const char *const *dns;
    size_t dns_count;
    struct key *key;        /* not owned; NULL: one is made in memory */
    const char *replaces;   /* NULL: nothing */
    acme_evidence_cb *evidence;
    void *arg;
    unsigned deadline_ms;
};
int acme_obtain_as(struct acme_client *c, const struct acme_ask *ask, struct acme_identity *out, struct err *e);
/* A session whose key was kept: key is owned from here on. The client forgets what it had. */
int acme_client_key(struct acme_client *c, struct key *key, struct err *e);

/* --- verification: before anything is written ---------------------------------------------------- */
struct agent_verified {
    char spiffe_id[2049];
    int64_t not_before, not_after;
    char cert_id[129]; /* as RFC 9773 section 4.1 names it; "" when it has no such name */
    struct tlog_proven proven;
    char log_origin[TLOG_ORIGIN_MAX + 1];
};
/* Chain to the trusted roots, the leaf's key is ours, exactly the SPIFFE ID asked for, X509-SVID
 * rules (key usage, CA false), and the stapled log proof under the issuing certificate's binding. */
int agent_verify(struct agent_verified *v, const struct agent_trust *trust, const struct acme_identity *i,
                 const char *spiffe_id, int64_t now, struct err *e);

/* --- files ----------------------------------------------------------------------------------------- */
/* svid.pem, svid.key (0600), bundle.pem, each by rename, the set in the order bundle, key, svid.
 * Waits for another agent in the same folder until the deadline (clock_mono_ms), then refuses:
 * ERR_UNAVAILABLE, rule "out-lock". */
int agent_write_files(const char *dir, const struct acme_identity *i, const struct agent_trust *trust,
                      int64_t deadline, struct err *e);

struct agent_fetch {
    const char *server, *token, *trust_bundle, *spiffe_id, *out_dir; /* token NULL: x509pop with the files in out_dir */
    const char *const *dns;
    size_t dns_count;
    unsigned deadline_ms;
};
/* Nobody is asked before it is known whom to trust, what to prove with, and that out_dir can be
 * written: a join token is good once. */
int agent_fetch(const struct agent_fetch *f, struct agent_verified *v, struct err *e);

#endif
