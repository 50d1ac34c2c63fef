/* Inside ra/: the objects, who guards them, and what the files offer each other.
 *
 * ra->lock guards everything in memory: the maps, the lists, and every field that is not marked
 * otherwise. It is held for lookups and copies, never over I/O, cryptography, the signer or a
 * callback. Objects are freed under it, or when they are in no map and no list any more.
 * The store belongs to the store thread alone (after ra_open).
 */
#ifndef RA_INTERNAL_H
#define RA_INTERNAL_H
#include "base/spiffe.h"
#include "ra/decide.h"
#include "ra/map.h"
#include "ra/ra.h"
#include "ra/tell.h"
#include <pthread.h>
#include <stdatomic.h>

/* --- limits, in one place ------------------------------------------------------------------------- */
#define RA_SESSIONS_MAX 131072       /* accounts; more: ERR_RATE, rule "sessions" */
#define RA_ORDERS_PENDING_MAX 16384  /* not yet authorized; ERR_RATE, rule "orders" */
#define RA_ORDERS_SESSION_MAX 256    /* open, of one session; ERR_RATE, rule "orders-session"; */
#define RA_ORDERS_STRANGER_MAX 64    /* of one that has proven nothing yet */
#define RA_ORDERS_FINISHED 2048      /* of each kind, kept to be read again; then the oldest goes, */
#define RA_ORDER_KEPT 60             /* but a plain one with its certificate not before so many seconds, */
#define RA_ORDERS_SERVED_SESSION 256 /* unless its session has more of them */
#define RA_ORDER_LIFETIME 600        /* seconds, while open */
#define RA_AUTHZ_SESSION_MAX 4096    /* of one session, which may be an agent's; ERR_RATE, rule "authorizations"; */
#define RA_AUTHZ_OPEN_MAX 256        /* of these not valid */
#define RA_OPS_MAX 8192              /* writes that wait; ERR_UNAVAILABLE, rule "store-queue" */
#define RA_SELECTORS_MAX ATTEST_SELECTORS_MAX
#define RA_SELECTOR_LEN 1024
#define RA_TOKEN_LIFETIME_MAX (30u * 86400)
#define RA_TOKEN_GRACE 600           /* an expired token is known this long, to be called so */
#define RA_SWEEP_MS 10000
#define RA_REVOCATIONS_MAX 65536     /* that stand; ERR_RATE, rule "revocations"; */
#define RA_REVOCATIONS_CLIENTS 49152 /* asked for by ACME clients: so that nobody takes the operator's room */
#define RA_SVID_BACKDATE 10          /* ca/profile.h's PROFILE_BACKDATE: an SVID's notBefore is so long before its issuance */

struct strings { /* owned */
    char **v;
    size_t n;
};
int strings_copy(struct strings *to, char *const *v, size_t n); /* -1: out of memory, to is empty */
void strings_free(struct strings *s);

/* --- objects --------------------------------------------------------------------------------------- */

struct entry { /* immutable once made; an update makes another */
    atomic_uint refs;
    struct ra_entry x;
    struct map_node by_id;
};
struct registry { /* entries: in order of SPIFFE ID, by id, and by parent */
    struct entry **sorted; /* owned; each holds a reference */
    size_t n, cap;
    struct map by_id;
    struct map families;   /* family.c */
    uint64_t changes, run; /* how many there were; a random number */
    uint64_t number;       /* the highest that was given to an entry */
};

struct token { /* immutable but for `spent` and `revoked` */
    struct map_node node; /* by hash */
    uint8_t hash[32];     /* SHA-256 of the secret: the secret is nowhere */
    char *spiffe_id;      /* owned; NULL: gives selectors only */
    char entry[RA_ID_LEN + 1]; /* the entry of spiffe_id that it was made for; "" without one */
    struct strings selectors;
    int64_t created, expires;
    bool spent;
    bool revoked;         /* and so spent */
};

struct voucher { /* the SVID that an agent vouched with, beside its ID */
    char entry[RA_ID_LEN + 1]; /* the agent's entry */
    char serial[41];
    uint8_t key[32];
};
struct authz {
    struct map_node node;      /* by id */
    struct map_node pair;      /* by session and SPIFFE ID: of alike ones one is in the map, */
    struct authz *alike;       /* and the others are behind it */
    struct authz *prev, *next; /* of the session's list */
    struct ra_session *session;/* not owned: the session outlives its list */
    char id[RA_ID_LEN + 1];
    enum ra_status status, challenge;
    char challenge_token[B64URL_LEN(32) + 1];
    int64_t expires, validated;
    struct err *error;         /* owned; NULL: none */
    bool ending;               /* its deactivation is being stored: no challenge completes it any more */
    /* what was proven; immutable once valid */
    enum attest_kind kind;
    bool proves;               /* the evidence proves spiffe_id itself */
    char entry[RA_ID_LEN + 1]; /* the entry that was decided on */
    struct strings selectors;
    uint8_t salt[16], evidence[32];
    uint64_t line;             /* of those that took each other's place while they were valid: one number */
    char *requester;           /* owned: SPIFFE ID that the evidence proves; NULL: none */
    struct voucher *voucher;   /* owned; of an agent's evidence alone, whose ID is the requester */
    const char *spiffe_id;     /* into name */
    char name[];               /* what pair is by: the session's id, RA_ID_LEN bytes, and the SPIFFE ID */
};

struct order;
struct ra_session {
    struct map_node by_id, by_thumbprint;
    struct ra *ra;             /* not owned */
    atomic_uint refs;          /* the maps hold one together */
    char id[RA_ID_LEN + 1];    /* id, thumbprint, key: immutable */
    char thumbprint[44];
    uint8_t thumbprint_raw[32];
    struct key *key;           /* owned */
    atomic_bool deactivated;   /* written under the lock */
    atomic_bool revoked;       /* the same: deactivated by a revocation */
    bool doomed;               /* the sweep is deleting it: not found any more */
    bool attested;             /* it had an authorization once: no stranger any more */
    int64_t created;
    _Atomic int64_t used;      /* when a signature by its key was last verified */
    struct authz *authz;       /* owned list */
    size_t authz_count, authz_valid;
    struct order *open;        /* list of its open orders */
    size_t open_count;
    struct order *served, *served_last; /* list of its plain orders that are kept with their certificate, oldest first */
    size_t served_count;
};

struct order {
    struct map_node node;      /* by id */
    struct order_list *list;   /* of ra's, that it is in; NULL: none */
    struct order *prev, *next; /* of that list */
    struct order *s_prev, *s_next; /* of the session's list, while open or served */
    unsigned refs;             /* the map holds one */
    struct ra_session *session;/* holds a reference while open; then NULL */
    struct ra_session *keeper; /* the same while served; else NULL */
    char owner[RA_ID_LEN + 1]; /* the session's id */
    char id[RA_ID_LEN + 1], authz[RA_ID_LEN + 1];
    enum ra_status status;
    int64_t expires, finished;
    struct err *error;         /* owned */
    char *chain;               /* owned; set once, before the status says valid */
    size_t chain_len;
    uint64_t index;
    /* of the issuance under way */
    struct ra *ra;             /* not owned */
    ra_order_cb *cb;
    void *arg;
    bool one_shot;             /* by newOrder: a failure leaves no order behind */
    bool revoked;              /* its authorization was, since the signer has it */
    char entry_id[RA_ID_LEN + 1];
    uint64_t entry_revision;
    enum attest_kind kind;
    uint8_t key_sha256[32];    /* of the key that is certified */
    /* immutable */
    size_t dns_count;
    const char *dns[CA_DNS_MAX]; /* into text */
    char uri[];                /* the SPIFFE ID, then the DNS names, each with its NUL */
};
struct order_list {
    struct order *head, *tail; /* oldest first */
    size_t count;
};

struct revocation { /* immutable but for what the log says */
    struct map_node node;  /* by what it names: of alike ones the newest */
    struct map_node by_key;
    int64_t id, time;
    bool has_key, has_session;
    uint8_t key[32];       /* that no certificate is given for */
    uint8_t session[32];   /* of a serial: the thumbprint of the session that ends */
    uint8_t reason;
    bool client;           /* an ACME client asked */
    bool logged;
    uint64_t index;
    char actor[TLOG_ACTOR_MAX + 1], comment[TLOG_COMMENT_MAX + 1];
    char name[];           /* enum tlog_revoked_by as one byte, then the value and its NUL */
};
struct revocations {
    struct revocation **list; /* owned; ids ascend */
    size_t n, cap, clients;
    struct map by_name, by_key;
};
struct obtained { /* by an agent, for a workload: of a certificate that is revoked by its serial; "": by nobody */
    char agent[SPIFFE_ID_MAX + 1], spiffe_id[SPIFFE_ID_MAX + 1];
};
struct svid { /* that is shown as evidence */
    char spiffe_id[SPIFFE_ID_MAX + 1], serial[41];
    uint8_t key[32];
};

/* --- the store thread -------------------------------------------------------------------------------- */

struct store;
/* One write that waits. write: inside the transaction, on the store thread; -1 undoes this op alone.
 * done: after the commit (e NULL) or failure, in the order of asking; makes it visible in memory,
 * calls back, and frees the op. Exactly one done for every op that was taken. */
struct op {
    struct op *next;
    int (*write)(struct op *op, struct store *s, struct err *e);
    void (*done)(struct op *op, struct ra *ra, const struct err *e);
    struct err err;
};
int writer_start(struct ra *ra, struct err *e);
void writer_stop(struct ra *ra); /* finishes what waits */
/* 0: taken. -1: ERR_UNAVAILABLE ("stopping", "store-queue"); the op is still the caller's. */
int writer_push(struct ra *ra, struct op *op, struct err *e);
void writer_sweep(struct ra *ra); /* a whole round of the sweep now; for tests */
/* One bounded step, on the store thread; true: the round is not finished. */
bool sweep_step(struct ra *ra);

struct ra {
    const struct config *config; /* not owned */
    struct ca_client *ca;        /* not owned */
    char authority[SPIFFE_ID_MAX + 1];
    struct store *store;         /* owned; of the store thread */
    struct teller *teller;       /* owned */

    pthread_mutex_t lock;        /* guards all below, see above */
    struct registry entries;
    struct map tokens, sessions, thumbprints, authz, pairs, orders;
    struct revocations revocations;
    struct order_list open;
    size_t pending;              /* of the open ones */
    struct order_list served;    /* finished: plain, with a certificate; */
    struct order_list failed;    /* plain, without; */
    struct order_list at_once;   /* of one round trip: the chain was in the answer */
    uint64_t valid_authz, lines;
    struct { /* the issuing certificate's PEM, as of the DER beside it */
        uint8_t der[4096];
        size_t der_len;
        char pem[8192];
        size_t pem_len;
    } issuing;
    struct { /* the bundle document, as of the root and key beside it */
        struct buf text;
        uint8_t root[4096];
        size_t root_len;
        char vkey[512];
        uint8_t jwt_key[CA_JWT_KEY_MAX];
        size_t jwt_key_len;
        int64_t jwt_since;
    } bundle;
    atomic_uint_fast64_t issued, jwts, refused, store_bytes;
    struct { /* told.c */
        pthread_mutex_t lock;    /* guards known */
        struct map known;
        int64_t index;           /* as the store was opened with it */
    } told;

    struct { /* its own lock: never taken together with the other */
        pthread_mutex_t lock;
        pthread_cond_t wake, swept;
        pthread_t thread;
        bool running, stop;
        struct op *head, *tail;
        size_t count;
        uint64_t sweeps_wanted, sweeps_done;
        size_t at_sessions, at_tokens; /* of the store thread: where the sweep goes on */
        bool failing;                  /* of the store thread: the last transaction did not go through */
    } writer;
    struct { /* rate of refusals in the log */
        pthread_mutex_t lock;
        int64_t second;
        unsigned count, hidden;
    } audit;
};

/* --- ra.c ------------------------------------------------------------------------------------------- */
int id_make(char id[RA_ID_LEN + 1], struct err *e);
int random_fill(void *p, size_t n, struct err *e);
int no_memory(struct err *e);

/* --- registry.c: all under the lock, but for entry_* and *_check ------------------------------- */
int registry_init(struct registry *r);
void registry_free(struct registry *r);
struct entry *registry_find(const struct registry *r, const char *id_or_spiffe_id); /* borrowed */
struct entry *registry_by_spiffe_id(const struct registry *r, const char *spiffe_id);
int registry_put(struct registry *r, struct entry *x); /* takes the reference; replaces by SPIFFE ID; -1: out of memory */
void registry_remove(struct registry *r, struct entry *x);
/* Of n in the order of SPIFFE IDs, the first that does not come before this one; n: none. */
size_t entries_place(struct entry *const *sorted, size_t n, const char *spiffe_id);
struct entry *entry_new(const struct ra_entry *like, struct err *e);
struct entry *entry_ref(struct entry *x);
void entry_unref(struct entry *x);
int selector_check(const char *s, struct err *e);             /* entry.c: rule "selector" */
int selectors_check(char *const *v, size_t n, struct err *e);
int hint_check(const char *hint, struct err *e);              /* entry.c: rule "hint"; NULL is none */

/* --- family.c: under the lock, but for init; of registry.c alone ---------------------------------------- */
int families_init(struct registry *r);
void families_free(struct registry *r);
int family_put(struct registry *r, struct entry *x); /* replaces one of its SPIFFE ID and parent; -1: out of memory */
void family_remove(struct registry *r, const struct entry *x);
void family_revoked(struct registry *r, const char *parent, int64_t revocation); /* tells the agent to ask for advice */

/* --- token.c ------------------------------------------------------------------------------------------ */
void token_free(struct token *t);
/* Adds what the token gives (its ID, its selectors) to a verified join_token result. Refuses
 * "token-unknown", "token-revoked", "token-expired", "token-spent", "token-entry" (ERR_BAD_EVIDENCE). entry: the one of
 * the ID, or "". Takes the lock. */
int token_read(struct ra *ra, struct attest_result *r, char entry[RA_ID_LEN + 1], int64_t now, struct err *e);

/* --- session.c ---------------------------------------------------------------------------------------- */
struct ra_session *session_ref(struct ra_session *s);
struct ra_session *session_make(struct ra *ra, struct key *key, const char thumbprint[44], struct err *e);
void session_add(struct ra *ra, struct ra_session *s);     /* under the lock; takes the reference */
void session_remove(struct ra *ra, struct ra_session *s);  /* under the lock; with its authorizations; drops the maps' reference */

/* Ends it: nothing of it lives on but its name. Under the lock. Answers how many authorizations went. */
size_t session_end(struct ra *ra, struct ra_session *s, bool revoked);
int session_refuse(const struct ra_session *s, struct err *e); /* a deactivated one, by its rule */

/* --- authz.c: memory; under the lock unless it says otherwise ------------------------------------------ */
/* In no list yet; no lock needed. The session has its id. */
struct authz *authz_new(struct ra_session *s, const char *spiffe_id, struct err *e);
struct voucher *voucher_new(const char entry[RA_ID_LEN + 1], const char *serial, const uint8_t key[32]); /* no lock needed */
void authz_free(struct authz *a);
void authz_add(struct ra *ra, struct authz *a);
void authz_remove(struct ra *ra, struct authz *a); /* and frees it */
/* Valid, and the entry is there and still matched by what was shown; and an agent that vouched is still there. */
struct authz *authz_live(const struct ra *ra, const struct ra_session *s, const char *spiffe_id, int64_t now);
struct authz *authz_pending(const struct ra_session *s, const char *spiffe_id, int64_t now);
struct authz *authz_find(struct ra *ra, const struct ra_session *s, const char *id);
int authz_room(struct ra *ra, struct ra_session *s, int64_t now, struct err *e);
void authz_install(struct ra *ra, struct authz *fresh); /* valid: replaces the pair's others */
void authz_fail(struct ra *ra, struct authz *a, enum ra_status status, const struct err *why); /* and its open orders */
void authz_facts(const struct authz *a, struct facts *f);
/* Whether a valid one of the session, living or not, was given for proof of its own: no agent vouched. */
bool authz_own(const struct ra *ra, const struct ra_session *s, const char *spiffe_id);
struct authz *authz_valid(const struct ra *ra, const struct ra_session *s, const char *spiffe_id); /* living or not */
/* A revocation ends this one alone: it goes, and its orders; what the signer makes for it now is given to nobody. */
void authz_revoke(struct ra *ra, struct authz *a);
/* The SVID that an agent vouched with was revoked. False where no agent did. */
bool authz_revoked(const struct ra *ra, const struct authz *a);

/* --- vouch.c: evidence becomes an authorization --------------------------------------------------------- */
typedef void vouch_cb(void *arg, const struct err *e); /* e NULL: the authorization lives */
/* cb exactly once, on this thread or the store thread. id: of the pending authorization that this
 * answers, or NULL. Evidence is not kept beyond the call. */
void vouch(struct ra *ra, struct ra_session *s, const char *spiffe_id, const char *id,
           const json_t *evidence, const char *freshness, vouch_cb *cb, void *arg);
/* Whether an SVID that attest/ found to be ours still counts: rules "svid-revoked", "x509pop-entry". entry: the id of
 * the one that it was issued for. Takes the lock. */
int svid_read(struct ra *ra, const struct attest_result *r, struct svid *svid, char entry[RA_ID_LEN + 1],
              struct err *e);

/* --- order.c: memory; under the lock ---------------------------------------------------------------------- */
struct names { /* of a request; borrowed */
    const char *uri;
    const char *dns[CA_DNS_MAX];
    size_t dns_count;
};
struct order *order_make(struct ra *ra, struct ra_session *s, const struct names *n, struct err *e); /* no lock needed */
/* Whether the session may have one more: pending, or authorized already. */
int order_room(const struct ra *ra, const struct ra_session *s, bool pending, struct err *e);
int order_add(struct ra *ra, struct order *o, int64_t now, struct err *e); /* its status stands; -1: no room; o is still the caller's */
void order_finish(struct ra *ra, struct order *o, enum ra_status status, const struct err *why);
void order_drop(struct ra *ra, struct order *o);           /* out of memory's lists */
void order_refresh(struct ra *ra, struct order *o, int64_t now);
void orders_trim(struct ra *ra, int64_t now);              /* expired ones, and served ones over their number; bounded */
struct order *order_find(struct ra *ra, const struct ra_session *s, const char *id); /* takes a reference */
void order_unref(struct order *o);
void order_answer(struct order *o, ra_order_cb *cb, void *arg); /* takes the lock; consumes the caller's reference */

/* --- issue.c: the coordinator -------------------------------------------------------------------------------- */
struct csr;
/* o: the caller's reference is consumed when 0; then cb comes exactly once. -1: the order is as it was. */
int issue(struct ra *ra, struct order *o, const struct csr *csr, ra_order_cb *cb, void *arg, struct err *e);
/* Of a certificate for an entry with this ttl. */
unsigned issue_lifetime(const struct config *c, unsigned ttl);
/* The request asks for these names, with a key of its own. No lock needed. */
int issue_check_csr(const struct ra_session *s, const struct csr *csr, const char *uri, const char *const *dns,
                    size_t dns_count, struct err *e);

/* --- revocations.c: memory; under the lock ------------------------------------------------------------------- */
int revocations_init(struct revocations *all);
void revocations_free(struct revocations *all);
struct revocation *revocation_new(const struct ra_revoke *want, struct err *e); /* no lock needed */
static inline enum tlog_revoked_by revocation_by(const struct revocation *r)
{
    return (enum tlog_revoked_by)r->name[0];
}
static inline const char *revocation_value(const struct revocation *r)
{
    return r->name + 1;
}
/* Takes it, whose id is above all others. -1: out of memory. */
int revocations_add(struct revocations *all, struct revocation *r);
void revocations_remove(struct revocations *all, struct revocation *r); /* and frees it */
struct revocation *revocations_find(const struct revocations *all, enum tlog_revoked_by by, const char *value);
struct revocation *revocations_from(const struct revocations *all, int64_t id); /* the first of this or a later id */
struct revocation *revocations_by_id(const struct revocations *all, int64_t id);
bool revocation_is_over(const struct revocation *r, int64_t now);
int revocations_key(const struct revocations *all, const uint8_t key[32], struct err *e); /* rule "csr-key-revoked" */
/* What it stands for. names_id: by ID, by prefix, or by agent, whose entries' IDs are named, too. */
bool revocation_names_id(const struct ra *ra, const struct revocation *r, const char *spiffe_id);
bool revocation_ends_authz(const struct ra *ra, const struct revocation *r, const struct authz *a);
/* Whether that is all that ends of its session: an agent vouched for it in a session of the agent's own. */
bool revocation_spares_session(const struct ra *ra, const struct revocation *r, const struct authz *a);
bool revocation_ends_token(const struct ra *ra, const struct revocation *r, const struct token *t);

/* --- revoked.c: these take the lock, but for svid_revoked ------------------------------------------------------- */
bool svid_revoked(const struct ra *ra, const char *spiffe_id, const char *serial, const uint8_t key[32]);
bool certificate_revoked(struct ra *ra, const struct ra_certificate *c); /* by any kind that names it */
int revoked_key(struct ra *ra, const uint8_t key[32], struct err *e);        /* rule "csr-key-revoked" */
int revoked_svid(struct ra *ra, const struct svid *v, struct err *e);        /* rule "svid-revoked" */
/* revoke.c */
void revocation_told(struct ra *ra, int64_t id, uint64_t index);

/* --- chain.c ---------------------------------------------------------------------------------------------------- */
/* Leaf and issuing certificate as PEM; malloc'ed. */
char *chain_make(struct ra *ra, struct bytes leaf, size_t *len, struct err *e);

/* --- deed.c: what the log is told of changes ------------------------------------------------------------------------- */
/* The body of a change's record; the caller frees it. */
int deed_entry(struct buf *body, const struct ra_entry *x, enum tlog_changed what, const char *actor, struct err *e);

/* --- told.c: what the store can account for in the log -------------------------------------------------------- */

int told_init(struct ra *ra);
void told_free(struct ra *ra);
int told_waiting(struct ra *ra, const struct deed *d, struct err *e); /* a row that the outbox has at the start */
teller_told_cb told_in_log; /* arg: ra. Takes it out of the outbox */

/* --- audit.c ------------------------------------------------------------------------------------------------------ */
void audit_issued(struct ra *ra, const struct order *o);
/* s, kind: NULL and 0 where there is none. by_signer: the signer refused what this authority asked. */
void audit_refused(struct ra *ra, const char *spiffe_id, const struct ra_session *s, enum attest_kind kind,
                   bool by_signer, const struct err *e);
/* The same of what an agent vouched for; "": none did. */
void audit_refused_agent(struct ra *ra, const char *spiffe_id, const struct ra_session *s, enum attest_kind kind,
                         const char *agent, bool by_signer, const struct err *e);

#endif
