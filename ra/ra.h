/* The registration authority: entries, join tokens, accounts (sessions), authorizations, orders,
 * the decision, and the store.
 *
 * All live state is in memory, loaded from SQLite at start; what must survive (entries, tokens,
 * accounts, valid authorizations) is written by one store thread that puts every write that waits
 * into one transaction (WAL, synchronous=FULL) and only then makes it visible and calls back.
 * Reads never touch SQLite; a warm order touches it not at all. Orders and pending challenges are
 * bounded memory: they live minutes, and a client that loses one opens another (DECISIONS.md).
 *
 * Threads: every function may be called from any thread. Callbacks run on the caller's thread
 * (when the answer is there at once), the store thread or the ca_client's thread, exactly once,
 * and must not block. No room above is ever called except through these callbacks.
 *
 * Decision rule (ra/decide.c): an identifier is authorized for a session when evidence was
 * verified and an entry for that SPIFFE ID exists whose parent is the authority and which the
 * evidence matches: every selector of the entry (at least one) is among the evidence's selectors,
 * or the evidence proves the ID itself (a join token made for that very ID; an SVID of that ID).
 * An entry whose parent is an agent is authorized by that agent's word alone, on every selector of the entry (at least
 * one); an agent's word counts for nothing else, and no longer than the SVID that it vouched with, its entry, and
 * until one of them is revoked.
 * What was shown or made for an entry ends with it: an entry that is deleted and created again is
 * another, and authorizations, join tokens and SVIDs of the first get nothing from it.
 */
#ifndef RA_RA_H
#define RA_RA_H
#include "attest/attest.h"
#include "base/config.h"
#include "ca/client.h"
#include "tlog/record.h"

#define RA_IDENTIFIERS_MAX 17 /* one uri, and DNS names */
#define RA_ID_LEN 22          /* base64url of 16 random bytes: accounts, orders, authorizations, entries, tokens */

struct ra;
int ra_open(struct ra **out, const struct config *c, struct ca_client *ca, struct err *e);
/* Finishes the writes that wait and ends the store thread; later ones are refused (ERR_UNAVAILABLE,
 * rule "stopping"). After it ra/ asks the signer nothing by itself, so: api_stop, ra_stop,
 * ca_client_free (whose pending callbacks still end here), ra_close. */
void ra_stop(struct ra *ra);
void ra_close(struct ra *ra); /* after ca_client_free; calls ra_stop when that was not done */

/* --- sessions: ACME accounts ------------------------------------------------------------------ */
struct ra_session;                                       /* reference counted */
struct ra_session *ra_session_find(struct ra *ra, const char *id);           /* NULL: none; takes a reference */
/* As ra_session_find; counts as use, too: the caller has verified a signature by this key. */
struct ra_session *ra_session_find_key(struct ra *ra, const char thumbprint[44]);
void ra_session_release(struct ra_session *s);
/* A signature by its key was verified: it is in use, and lives on from now. */
void ra_session_touch(struct ra_session *s);
const struct key *ra_session_key(const struct ra_session *s);  /* borrowed */
const char *ra_session_id(const struct ra_session *s);
const char *ra_session_thumbprint(const struct ra_session *s);
bool ra_session_deactivated(const struct ra_session *s);
bool ra_session_revoked(const struct ra_session *s); /* deactivated, and by a revocation */
/* Whether it has a living authorization for the ID. */
bool ra_session_authorized(struct ra *ra, struct ra_session *s, const char *spiffe_id);
typedef void ra_session_cb(void *arg, struct ra_session *s, bool created, const struct err *e); /* s borrowed */
/* Takes key on success (0), not on -1. An existing account with this key is answered as such. */
int ra_session_new(struct ra *ra, struct key *key, const char thumbprint[44], ra_session_cb *cb,
                   void *arg, struct err *e);
int ra_session_deactivate(struct ra *ra, struct ra_session *s, ra_session_cb *cb, void *arg, struct err *e);

/* --- orders and authorizations ----------------------------------------------------------------- */
enum ra_status { RA_PENDING, RA_READY, RA_PROCESSING, RA_VALID, RA_INVALID, RA_DEACTIVATED, RA_EXPIRED };
const char *ra_status_name(enum ra_status s); /* as RFC 8555 §7.1.6 writes it */

struct ra_identifier {
    char type[24];        /* "uri" or "dns" */
    char value[2049];
};
struct ra_authz_view { /* snapshot; strings inside */
    char id[RA_ID_LEN + 1];
    enum ra_status status;
    struct ra_identifier identifier;
    char challenge_token[44];
    enum ra_status challenge_status;
    int64_t expires, validated; /* wall seconds; validated 0: not yet */
    struct err error;           /* code ERR_NONE: none */
};
struct ra_order_view {
    char id[RA_ID_LEN + 1];
    enum ra_status status;
    int64_t expires;
    const struct ra_identifier *identifiers; /* borrowed for the call */
    size_t identifiers_count;
    const char (*authz)[RA_ID_LEN + 1];      /* borrowed for the call */
    size_t authz_count;
    const char *chain_pem;                   /* leaf and issuing; NULL unless valid */
    size_t chain_len;
    uint64_t index;                          /* log index, when valid */
    struct err error;
};
typedef void ra_order_cb(void *arg, const struct ra_order_view *o, const struct err *e);
typedef void ra_authz_cb(void *arg, const struct ra_authz_view *a, const struct err *e);

struct ra_order_request {
    const struct ra_identifier *identifiers;
    size_t identifiers_count;
    struct bytes csr;        /* DER; empty: a plain RFC 8555 order */
    const json_t *evidence;  /* CMW record or NULL; used for identifiers not yet authorized */
    const char *freshness;   /* what in-band evidence's key authorization is made of: the JWS nonce */
};
/* Identifiers: exactly one `uri` (the SPIFFE ID); DNS names beside it only as the entry allows.
 * With csr and everything authorized: the callback comes with the order already valid. */
void ra_order_new(struct ra *ra, struct ra_session *s, const struct ra_order_request *r,
                  ra_order_cb *cb, void *arg);
void ra_order_get(struct ra *ra, struct ra_session *s, const char *id, ra_order_cb *cb, void *arg);
void ra_order_finalize(struct ra *ra, struct ra_session *s, const char *id, struct bytes csr,
                       ra_order_cb *cb, void *arg);
/* Calls each with the id of every open order of the account, before it returns. */
void ra_order_each(struct ra *ra, struct ra_session *s, void (*each)(void *arg, const char *id), void *arg);
void ra_authz_get(struct ra *ra, struct ra_session *s, const char *id, ra_authz_cb *cb, void *arg);
void ra_authz_deactivate(struct ra *ra, struct ra_session *s, const char *id, ra_authz_cb *cb, void *arg);
/* Answers the authorization's remote-attest-01 challenge with evidence (CMW record). */
void ra_challenge_answer(struct ra *ra, struct ra_session *s, const char *authz_id,
                         const json_t *evidence, ra_authz_cb *cb, void *arg);

/* --- JWT-SVIDs (jwt.c) --------------------------------------------------------------------------- */
struct ra_jwt_request {
    const char *spiffe_id;
    const char *const *audiences;
    size_t audiences_count;
    unsigned ttl;            /* seconds; 0: the default. Clipped to what the entry and the authority allow */
    const json_t *evidence;  /* CMW record or NULL; used when the ID is not yet authorized */
    const char *freshness;   /* as of an order */
};
/* As an order of one round trip, for a token: the session has a living authorization for the ID, or the
 * evidence gives it one. Logged before it is signed. Rules: "audience", "jwt-off", "authorization", and those of
 * orders and evidence. */
void ra_jwt_new(struct ra *ra, struct ra_session *s, const struct ra_jwt_request *r, ca_jwt_cb *cb, void *arg);

/* --- administration ------------------------------------------------------------------------------ */
#define RA_HINT_MAX 64 /* bytes of printable ASCII */
struct ra_entry { /* strings owned by whoever made it */
    char id[RA_ID_LEN + 1];
    char *spiffe_id, *parent;   /* parent: SPIFFE ID; the authority's own is spiffe://td/mayfly/server */
    char **selectors;
    size_t selectors_count;     /* at most 32 */
    char **dns;
    size_t dns_count;           /* at most CA_DNS_MAX */
    unsigned ttl;               /* seconds; 0: the default lifetime */
    bool auditor;               /* its SVIDs may search the log (ra_auditor) */
    char *hint;                 /* tells a workload that has several what this one is for; NULL or "": none */
    uint64_t revision;          /* 1, then +1 each update */
    int64_t created, updated;
    uint64_t number;            /* ascends in the order of creation, whatever the clock did; an update keeps it */
    const char *actor;          /* of a change asked for: who asks, for the log: "uid:0"; NULL: "local" */
};
typedef void ra_entry_cb(void *arg, const struct ra_entry *x, const struct err *e);
/* id, number and revision of `want` are ignored on create; on update revision must be the current one or 0.
 * An update names the entry by id, else by SPIFFE ID, which it can not change; parent NULL keeps the
 * parent; lists, ttl, auditor and hint are taken as they are. delete answers the entry that went. `want` and all it
 * points to may end with the call. */
void ra_entry_create(struct ra *ra, const struct ra_entry *want, ra_entry_cb *cb, void *arg);
void ra_entry_update(struct ra *ra, const struct ra_entry *want, ra_entry_cb *cb, void *arg);
void ra_entry_delete(struct ra *ra, const char *id_or_spiffe_id, const char *actor, ra_entry_cb *cb, void *arg);
void ra_entry_get(struct ra *ra, const char *id_or_spiffe_id, ra_entry_cb *cb, void *arg);
/* Calls each for entries in order of SPIFFE ID, from after `after` on (may be NULL), at most `limit`,
 * until it answers false: enough. *more: some are left. -1: out of memory. */
int ra_entry_each(struct ra *ra, const char *after, size_t limit,
                  bool (*each)(void *arg, const struct ra_entry *x), void *arg, bool *more, struct err *e);

/* What is behind an agent, for a session that is authorized for the agent's ID (else ERR_UNAUTHORIZED, rule
 * "agent-session"). */
#define RA_AGENT_PAGE 256 /* entries, at most */
struct ra_agent_entries {
    const char *agent; /* its SPIFFE ID */
    const char *have;  /* a version that is known; "" or NULL: none */
    const char *after; /* a page of those after this SPIFFE ID; "" or NULL: the first */
    /* answered: */
    char version[40];  /* another one whenever an entry of this agent has changed, come or gone */
    int64_t revoked;   /* rises when something is revoked that this agent may have for a workload; 0: not in this run */
    bool unchanged;    /* it is `have`, and no entry is called */
    bool more;         /* some are left */
};
/* Calls each in order of SPIFFE ID, from after `after` on, with its lifetime (the default filled in), until it
 * answers false: this one did not fit, and comes with the next page. version is there before the first. */
int ra_agent_entries(struct ra *ra, struct ra_session *s, struct ra_agent_entries *q,
                     bool (*each)(void *arg, const struct ra_entry *x, unsigned ttl), void *arg, struct err *e);

/* Whether this chain (DER, leaf first; the holder's key was proven by TLS) is a living SVID of ours, in the
 * log, not revoked, of an entry that is an auditor's now. ERR_UNAUTHORIZED, rules "audit-certificate" (none,
 * or it does not count) and "audit-permission"; ERR_UNAVAILABLE while the signer was never there. */
int ra_auditor(struct ra *ra, const struct bytes *chain, size_t n, struct err *e);

struct ra_token_request {
    const char *spiffe_id;     /* may be NULL: a token that only gives selectors */
    const char *const *selectors;
    size_t selectors_count;
    unsigned lifetime;         /* seconds; 0: the configured default */
};
struct ra_token_view {
    char text[JOIN_TOKEN_TEXT + 1]; /* shown once */
    int64_t expires;
};
typedef void ra_token_cb(void *arg, const struct ra_token_view *t, const struct err *e);
void ra_token_create(struct ra *ra, const struct ra_token_request *r, ra_token_cb *cb, void *arg);

/* --- revocation ------------------------------------------------------------------------------------
 * From the moment the callback comes, nothing of what is named is renewed: the sessions that it stands
 * for have ended (their accounts are "revoked"), and certificates that they still had on the way are
 * given to nobody (of an agent's own session, where none but workloads are named that the agent vouched
 * for, these authorizations alone end, and what was on the way by them); SVIDs logged before the
 * revocation's record are no evidence any more; unspent join tokens made for it are void. All but a key
 * can be proven anew: with a join token made later, or other evidence. It and its row of the outbox are
 * written in one transaction.
 *
 *   serial   the certificate, its session and its key   id, agent  see below
 *   id       the SPIFFE ID                              prefix     the SPIFFE ID and all below it
 *   entry    the registration entry, by its id          key        no certificate for it, ever again
 *   agent    the SPIFFE ID of the agent: itself, what its SVID vouched for, and entries whose parent it is
 *
 * Keys are kept for ever; the rest RA_REVOCATION_KEPT seconds, when everything that it could name has
 * long expired. */
#define RA_REVOCATION_KEPT 7200
struct ra_revoke {           /* copied; texts NUL-terminated */
    enum tlog_revoked_by by;
    const char *value;       /* serial and key: lowercase hex, as tlog/record.h has them */
    uint8_t reason;          /* RFC 5280 section 5.3.1 */
    const char *actor;       /* "uid:0", "acme:…"; NULL: "local" */
    const char *comment;     /* NULL: none */
    /* of a serial, by who may read the log; NULL: not known, or left alone */
    const uint8_t *session;  /* SHA-256 thumbprint of the session key: it ends, but for the case below */
    const uint8_t *key;      /* SHA-256 of the SubjectPublicKeyInfo: refused as long as the revocation stands */
    const char *agent, *spiffe_id; /* the agent whose word got it, and its ID: if the session is that agent's own, it
                                    * goes on without this ID; both, or neither */
};
struct ra_revocation {       /* of a call: snapshot, views end with it */
    int64_t id;              /* ascending */
    enum tlog_revoked_by by;
    const char *value, *actor, *comment;
    uint8_t reason;
    int64_t time;
    bool logged;             /* its record stands in the log, */
    uint64_t index;          /* there */
    struct { uint64_t sessions, authorizations, tokens; } ended; /* of ra_revoke's callback only */
};
typedef void ra_revoke_cb(void *arg, const struct ra_revocation *r, const struct err *e);
/* Rules "revocation-value", "revocation-reason", "entry" (none of that id), "already-revoked" (serial,
 * key), "revocations" (too many stand). */
void ra_revoke(struct ra *ra, const struct ra_revoke *want, ra_revoke_cb *cb, void *arg);
/* Calls each in order of id, from after `after` on, at most `limit`, until it answers false: enough.
 * *more: some are left. -1: out of memory. */
int ra_revocation_each(struct ra *ra, int64_t after, size_t limit,
                       bool (*each)(void *arg, const struct ra_revocation *r), void *arg, bool *more, struct err *e);

/* --- renewal (RFC 9773) --------------------------------------------------------------------------- */
struct ra_certificate { /* as the log has it; nothing owned */
    uint64_t serial;    /* (log number << 48) | index */
    int64_t not_before, not_after;
    const char *spiffe_id, *entry, *agent; /* entry's id; who asked for it; "" when the log names none */
    const uint8_t *key; /* SHA-256 of the SubjectPublicKeyInfo */
    bool current;       /* its issuer's key is the one in use now */
};
struct ra_renewal {
    int64_t start, end; /* the suggested window, wall seconds */
    unsigned again;     /* seconds until it should be asked for again */
    bool pulled;        /* forward: by a revocation that names it, or a rotation */
};
void ra_renewal(struct ra *ra, const struct ra_certificate *c, int64_t now, struct ra_renewal *r);

struct ra_stats {
    uint64_t entries, tokens, sessions, authorizations, orders, issued, jwts, refused, store_bytes;
};
void ra_stats(struct ra *ra, struct ra_stats *s);
/* The authority's trust material, for api/: DER root and issuing, the bundle document. */
int ra_bundle(struct ra *ra, struct buf *out, struct err *e);
void ra_signer(struct ra *ra, struct ca_snapshot *s);
/* Which changes (of entries, revocations) this store can account for in the log: all up to an index (-1: it
 * is from before that was kept), and those that wait
 * to be told and may stand there already. Another one means that the store was restored from an
 * older copy, and has lost what was changed since. Until that is settled the log is told of no change. */
int64_t ra_told_index(struct ra *ra);
bool ra_told_knows(struct ra *ra, uint16_t type, struct bytes body); /* tlog/record.h; its time does not count */
/* The store is the newest; or the operator lives with what was lost up to index (0: nothing was). Once. */
void ra_told_settle(struct ra *ra, uint64_t index);
/* Has a CRL signed (ca/client.h). */
int ra_crl(struct ra *ra, const struct ca_crl *m, ca_crl_cb *cb, void *arg, struct err *e);
/* Asks for this server's own TLS certificate; names are the configured ones. */
int ra_server_cert(struct ra *ra, struct bytes spki, ca_issue_cb *cb, void *arg, struct err *e);

#endif
