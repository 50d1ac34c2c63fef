/* What the daemon's files share (`mayfly-agent serve`). Nothing outside agent/, cmd/agent_serve.c and tests includes it.
 *
 * Two kinds of threads, and a line between them. The loop's thread owns everything that is decided: identities, who is
 * calling, what is due. It never blocks. Threads do what blocks: the authority thread speaks ACME and verifies what
 * comes (self.c, jobs.c), a pool reads /proc (callers.c), one writes files and four run their hooks (outputs.c). They get
 * a copy of what they need as a task, and hand it back answered, on the loop; nobody else's memory is touched, so nothing
 * here is locked but the queues.
 *
 *   serve.c      the coordinator, as numbered steps
 *   task.c       queues of tasks, threads, and the way back to the loop
 *   notify.c     systemd's descriptor store;  keep.c  the agent's own keys across a re-execution
 *   handover.c   what else goes across one of our own, SIGHUP's;  handover_take.c  what of that still serves
 *   self.c       the agent's own identity: keys, evidence, trust;  jobs.c  what the authority thread does
 *   identity.c   what this agent may hand out, by entry;  timing.c  when to renew;  engine.c  renewing
 *   gate.c       whether the authority may be asked now
 *   entries.c    the list of entries, polled;  bundle.c  roots, JWT keys and CRLs
 *   callers.c    who is connected, attested;  callers_answer.c  what each is told;  provider.c  answers for workload/
 *   jwt.c        JWT-SVIDs and their cache
 *   outputs.c    sets of files;  outputs_watch.c  whether they stand;  health.c  /live /ready /metrics
 */
#ifndef AGENT_DAEMON_H
#define AGENT_DAEMON_H
#include "agent/agent.h"
#include "agent/attestor.h"
#include "agent/config.h"
#include "agent/wire.h"
#include "base/log.h"
#include "base/thread.h"
#include "workload/workload.h"

struct event;
struct event_base;
struct evhttp;
struct evconnlistener;

#define EVIDENCE_SELECTORS_MAX ATTEST_SELECTORS_MAX

/* --- task.c ------------------------------------------------------------------------------------------------------- */
/* The first member of what is done elsewhere. */
struct task {
    struct task *next;
    unsigned priority;                 /* less is sooner, though what waits longest is never passed by for good */
    uint64_t number;                   /* in order of coming; the queue's */
    void (*work)(struct task *t);      /* on a thread of the queue */
    void (*done)(struct task *t);      /* on the loop, which frees it there; also for what was never worked */
    bool worked;
};
struct post; /* the way back to the loop */
struct post *post_new(struct event_base *base, struct err *e);
void post_free(struct post *p); /* after the queues: runs what has come back */
struct queue;
struct queue *queue_new(struct post *p, unsigned threads, const char *what, struct err *e);
void queue_put(struct queue *q, struct task *t); /* behind those of its priority; from the loop */
size_t queue_waiting(struct queue *q);
/* Lets the threads end the task they are at, and hands back the rest unworked. */
void queue_stop(struct queue *q);
void queue_free(struct queue *q);

/* --- timing.c: all pure -------------------------------------------------------------------------------------------- */
/* Wall milliseconds. dice: 32 random bits. */
int64_t renew_at(int64_t from_ms, int64_t until_ms, uint32_t dice);                       /* about half-life */
int64_t renew_in_window(const struct ari *w, uint32_t dice);                              /* RFC 9773 section 4.2 */
int64_t renew_backoff_ms(unsigned failures, int64_t left_ms, uint32_t dice);
int64_t ari_poll_ms(int64_t from_ms, int64_t until_ms, unsigned retry_after, uint32_t dice);
bool renew_overdue(int64_t from_ms, int64_t until_ms, int64_t now_ms);                    /* past two thirds */
int64_t clock_wall_ms(void);
uint32_t dice_throw(void);

/* --- keep.c -------------------------------------------------------------------------------------------------------- */
struct kept { /* what the agent is by: its own keys and chain */
    char *id;                  /* owned; NULL: nothing was kept */
    struct secret session, svid; /* PKCS#8 */
    struct buf chain_pem;
};
void kept_free(struct kept *k);
struct keep { /* a sealed memfd, its pages locked by the mapping */
    int fd; /* -1: none */
    void *map;
    size_t len;
};
int keep_write(struct keep *m, const struct kept *k, struct err *e);
/* Takes over fd; what comes out is in k and still in m. Refuses what is not sealed: rule "keep". */
int keep_read(struct keep *m, struct kept *k, int fd, struct err *e);
void keep_close(struct keep *m);

/* --- notify.c ------------------------------------------------------------------------------------------------------ */
#define FD_NAME_KEEP "mayfly-keep"
#define FD_NAME_API "mayfly-api"
#define FD_NAME_HTTP "mayfly-http"
#define FD_NAME_HANDOVER "mayfly-handover"
struct inherited {
    int keep, api, http, handover; /* -1: none */
};
void notify_inherit(struct inherited *in); /* LISTEN_FDS and its like, taken and unset; once, before any thread */
void notify_keep(int fd);                  /* in place of what the store holds by FD_NAME_KEEP */
/* Executes this program anew with these open. Returns only on failure. */
void notify_execute(const char *exe, char *const argv[], const struct inherited *out, struct err *e);

/* --- self.c: on the authority thread once it runs -------------------------------------------------------------------- */
struct crl_slot { /* of one shard */
    char etag[ETAG_MAX + 1];
    struct buf der; /* "" when there is none */
};
struct self {
    const struct agent_config *config;
    struct agent_trust trust;
    struct acme_client *client;
    struct hsm *hsm;            /* pkcs11 */
    struct key *key;            /* of the SVID; NULL before the first (memory) */
    struct buf chain_pem;       /* "" before the first */
    int64_t not_before, not_after;
    struct secret token;        /* 32 bytes; empty: none that may still be good */
    uint8_t token_seen[32];     /* SHA-256 of the text last taken, so that a spent one is not tried again */
    struct keep keep;
    char refusal[220];          /* the authority's word that ended what proved the agent; "" */
    bool doubted;               /* another session did not help: only self_renew begins one until it knows why */
    bool roots_written;         /* to state_dir, since the start */
    struct buf bundle;          /* the bundle's document as last seen; "" when none */
    struct crl_slot *crls;      /* owned: one a shard, as last seen */
    unsigned crls_count;
    int64_t outage_ms;          /* monotonic: when the authority was last not to be reached, and why */
    struct err outage;
};
/* Trust, keys, what was kept, token: fails when there is nothing to begin with. keep_fd: -1, or taken over. token:
 * text, or NULL. */
int self_open(struct self *s, const struct agent_config *c, int keep_fd, const char *token, struct err *e);
/* Of the SVID that it holds, for the engine. */
int self_cert_id(const struct self *s, char cert_id[CERT_ID_MAX + 1]);
#define CUT_OFF_RULE "token-needed" /* nothing proves the agent any more but a new join token */
/* Obtains, verifies, writes down. Rule CUT_OFF_RULE when only a new join token can help. */
int self_renew(struct self *s, const char *replaces, struct agent_verified *v, char cert_id[CERT_ID_MAX + 1],
               struct err *e);
bool self_alive(const struct self *s);
/* The authority ended the session for good (revoked, deactivated): another key, another account. */
bool self_session_over(const struct err *e);
int self_session_anew(struct self *s, const struct err *why, struct err *e);
int self_trust(struct self *s, const struct bundle_doc *doc, struct bytes text, struct err *e); /* adopts roots */
/* Evidence for a workload: acme_evidence_cb over a self_vouch. */
struct self_vouch {
    struct self *self;
    const char *const *selectors;
    size_t n;
};
int self_vouch(void *arg, const uint8_t digest[32], struct buf *out, struct err *e);
int self_keep(struct self *s, struct err *e); /* writes keep, tells systemd; nothing to do with pkcs11 */
void self_close(struct self *s);

/* In jobs.c: */
void self_crls_free(struct self *s);
/* The bundle of this document, with the CRLs that are there. */
struct wl_bundles *self_bundles(struct self *s, const struct bundle_doc *doc, struct err *e);

/* --- jobs.c ---------------------------------------------------------------------------------------------------------- */
enum job_kind { JOB_SELF, JOB_SVID, JOB_JWT, JOB_ENTRIES, JOB_ARI, JOB_BUNDLE };
/* Priorities: what somebody waits for comes before what can wait. */
enum { FIRST_SELF, FIRST_NEW, FIRST_JWT, FIRST_ENTRIES, FIRST_BUNDLE, FIRST_RENEWAL, FIRST_ADVICE };
struct agent;
struct job {
    struct task task;
    struct agent *agent;
    enum job_kind kind;
    bool renewal;
    /* asked; all owned */
    char *entry_id, *spiffe_id, *hint;
    char **dns, **selectors, **audience;
    size_t dns_count, selectors_count, audience_count;
    char have[VERSION_TEXT_MAX + 1];
    char cert_id[CERT_ID_MAX + 1]; /* the certificate that is replaced or asked about; then the new one's */
    unsigned deadline_ms;
    /* answered */
    struct err err;            /* ERR_NONE: well */
    bool anew;                 /* by a session that began with it: the one before was ended */
    int64_t not_before, not_after;
    struct wl_svid *svid;      /* owned */
    struct jwt_answer jwt;     /* owned */
    bool bundle_old;           /* the bundle here has not the key that signed it */
    struct entry_list entries; /* owned */
    struct ari ari;
    struct wl_bundles *bundles; /* owned; NULL: as before */
    unsigned refresh_hint;
    int64_t put_ms, asked_ms, took_ms; /* put, begun (monotonic); how long it took */
};
struct job *job_new(struct agent *a, enum job_kind kind, unsigned priority, struct err *e);
void job_free(struct job *j);
int strings_copy(char ***dst, size_t *n, char *const *src, size_t count); /* -1: out of memory */

/* --- identity.c -------------------------------------------------------------------------------------------------------- */
struct jwt_cached;
struct identity { /* one entry of this agent's, on the loop */
    char *entry_id, *spiffe_id, *hint;
    char **selectors, **dns;
    size_t selectors_count, dns_count;
    int64_t revision, number;  /* number: the entry's, see identities_order */
    bool is_self;              /* the agent's own: no entry, and handed to nobody */
    bool gone;                 /* found no more while a list was applied */
    unsigned wanted;           /* callers and outputs that want it now */
    char **evidence;           /* selectors of who wanted it last, needed ones first */
    size_t evidence_count;
    /* what is there */
    struct wl_svid *svid;      /* NULL: none. Never expired when given out: identity_svid */
    char cert_id[CERT_ID_MAX + 1];
    int64_t from_ms, until_ms; /* wall: lifetime as the engine counts it */
    /* what is to be done; wall times are kept, for clocks that jump */
    int64_t renew_wall_ms;     /* INT64_MAX: nothing */
    int64_t renew_mono_ms;     /* the same as it was planned: a clock that was set back delays nothing */
    int64_t retry_mono_ms;     /* not before, after a failure */
    int64_t ari_mono_ms;
    bool busy, ari_busy, stale; /* stale: the entry changed, another is wanted at once */
    unsigned failures;
    struct err last;           /* why there is none or no newer one; ERR_NONE: well */
    bool tried;                /* an attempt came back since it was wanted */
    struct jwt_cached *jwts;   /* owned */
};
struct identities { /* in the order of SPIFFE IDs, to be searched; who is given several has them in another */
    struct identity **list;    /* owned */
    size_t n, cap;
};
struct identity *identity_find(const struct identities *s, const char *entry_id); /* linear; jobs come back seldom */
struct identity *identity_of(const struct identities *s, const char *spiffe_id);
struct identity *identity_add(struct identities *s, const struct entry *x, struct err *e);
int identity_update(struct identity *i, const struct entry *x, bool *changed, struct err *e);
bool identity_as_asked(const struct identity *i, const struct job *j); /* what j asked for is what its entry still says */
void identities_drop_gone(struct identities *s);
/* As a workload is given them, the first being its default: by the age of their entries, oldest first, so that an entry
 * which is added takes nobody's default away; among those of an authority that does not tell it, by SPIFFE ID. */
void identities_order(struct identity **list, size_t n);
void identity_drop_svid(struct identity *i);
void identity_free(struct identity *i);
void identities_free(struct identities *s);
struct wl_svid *identity_svid(const struct identity *i, int64_t now); /* borrowed; NULL when none is valid */
/* Evidence of somebody who has these selectors: the entry's own first, at most EVIDENCE_SELECTORS_MAX. */
int identity_evidence(struct identity *i, char *const *selectors, size_t n, struct err *e);

/* --- the whole ----------------------------------------------------------------------------------------------------------- */
struct caller;
struct output;
struct counters {
    uint64_t renewals_ok, renewals_failed, new_ok, new_failed, jwt_ok, jwt_failed, entries_ok, entries_failed;
    uint64_t attested, attest_failed, pushes, denied, reloads, reload_failed, jwt_validated, jwt_refused;
    int64_t attest_us_sum, attest_us_max;
};
struct reason { /* failures by rule */
    char rule[32];
    uint64_t n;
};
#define REASONS_MAX 32
struct agent {
    const struct agent_config *config;
    struct event_base *base;
    struct post *post;
    struct queue *authority, *attestors, *writer, *hooks;
    struct self self;           /* the authority thread's */
    struct identity own;        /* the agent's own SVID, as the engine sees it */
    struct identities identities;
    struct event *tick, *timer, *entries_timer, *bundle_timer;
    /* authority */
    int64_t gate_mono_ms;       /* nothing but one probe before that: it was not to be reached */
    unsigned gate_failures;
    bool gate_probe;            /* the probe is under way */
    int64_t outage_since;       /* wall s: when the gate closed */
    int64_t outage_told_ms;     /* monotonic: when the log was last told of it */
    struct err outage;          /* why, as last seen */
    bool own_over;              /* the log was told that the agent's own SVID is over */
    bool reachable;
    bool answered;              /* it was reached since the start */
    int64_t none_said_ms;       /* the log was last told of a caller without identity; 0: never */
    int64_t clock_offset_ms;    /* wall minus monotonic, as last seen */
    int64_t advice_paid_ms, advice_hurry_ms, advice_rest_ms; /* monotonic: questions are paid for until; see engine.c */
    size_t advice_turn;
    char version[VERSION_TEXT_MAX + 1];
    bool entries_known, entries_busy, entries_now, bundle_busy;
    int64_t entries_revoked;    /* as of the list */
    int64_t entries_at_ms;      /* monotonic: when the list was last known to be true */
    int64_t entries_put_ms, entries_of_ms; /* when it was last asked for; and when that which is here was */
    int64_t bundle_put_ms;      /* monotonic: when the bundle was last asked for; 0: never */
    struct wl_bundles *bundles; /* NULL before the first */
    unsigned bundles_kept;      /* not 0: those of the agent before this one, without CRLs; and so many more tries for others */
    unsigned refresh_hint;
    /* callers */
    struct caller *callers;     /* all connected */
    size_t callers_count;
    int64_t caller_told_ms, jwt_told_ms; /* engine_seldom's */
    struct wl_server *server;
    struct output *outputs;
    size_t outputs_count;
    struct evhttp *http;
    struct evconnlistener *http_listener; /* the evhttp's */
    int http_fd, api_fd;
    struct counters counters;
    struct reason reasons[REASONS_MAX];
    bool reload, ended, stopping, announced; /* SIGHUP, SIGTERM came */
};

/* --- engine.c -------------------------------------------------------------------------------------------------------------- */
void engine_start(struct agent *a);
void engine_run(struct agent *a);                    /* looks at everything that is due; arms the timer */
void engine_want(struct agent *a, struct identity *i);
void engine_unwant(struct agent *a, struct identity *i);
void engine_advice(struct agent *a);                 /* all ask for renewal advice, in a hurry */
void engine_count(struct agent *a, const struct err *e);   /* what failed, by rule, for the metrics */
/* For lines that a workload can cause without end: level once a second, else debug. The metrics count all. */
enum log_level engine_seldom(int64_t *told_mono_ms, enum log_level level);
void engine_changed(struct agent *a, struct identity *i); /* tells who wants it; NULL: tells all */
/* One second passed. Jumps of the clock, expiry, who waits too long. */
void engine_tick(struct agent *a);

/* --- gate.c ------------------------------------------------------------------------------------------------------------------- */
bool gate_outage(const struct err *e);               /* the authority was not to be reached, as against said no */
bool gate_open(struct agent *a);                     /* may it be asked now? */
void gate_put(struct agent *a, struct job *j);       /* to the authority thread, which owns it until it is back */
void gate_reached(struct agent *a, const struct job *j); /* every answer passes here first: outage, reasons */
void gate_tick(struct agent *a);                     /* an outage that lasts is said again */

/* --- entries.c, bundle.c ------------------------------------------------------------------------------------------------------ */
int entries_start(struct agent *a, struct err *e);
void entries_poll(struct agent *a);                  /* now, unless one is under way */
/* For who found nothing: a list that was asked for at since_ms (monotonic) or later is here (false: no other will
 * come), or is asked for as soon as may be. */
bool entries_hurry(struct agent *a, int64_t since_ms);
void entries_apply(struct agent *a, struct entry_list *l);
int bundle_start(struct agent *a, struct err *e);
void bundle_poll(struct agent *a);
void bundle_hurry(struct agent *a); /* for who met a key that is not in it; anybody can say so: now and then only */
/* From a bundle's document and CRLs (their buffers are moved). */
struct wl_bundles *bundle_make(const char *trust_domain, const struct bundle_doc *doc, struct buf *crls, size_t n,
                               struct err *e);

/* --- callers.c, provider.c, jwt.c ------------------------------------------------------------------------------------------------ */
/* i NULL: all. failed: nothing new is there, only who waits is told. */
void callers_changed(struct agent *a, struct identity *i, bool failed);
void callers_entries(struct agent *a);                     /* the list of entries is another one */
void callers_tick(struct agent *a);
void callers_jwt(struct agent *a, struct identity *i);     /* a JWT-SVID of i came, or did not */
extern const struct wl_provider provider_calls;            /* arg is the agent */
/* A token that is kept for this audience. fresh: less than half of its life is over. *svid NULL: none. */
struct jwt_found {
    const char *svid; /* borrowed */
    bool fresh, busy;
    int64_t from, half, expires; /* wall s; from: when it was issued, or came, by a clock that is ahead */
    int64_t failed_mono_ms;  /* the last attempt; 0: it went well */
    const struct err *why;
};
struct jwt_found jwt_find(const struct identity *i, char *const *audience, size_t n, int64_t now);
/* Fetches one. -1: it can not be tried now; ERR_RATE: it can when another of this identity has come. */
int jwt_fetch(struct agent *a, struct identity *i, char *const *audience, size_t n, struct err *e);
void jwt_cache_free(struct identity *i);

/* --- outputs.c, outputs_watch.c, health.c ------------------------------------------------------------------------------------------------------------ */
int outputs_start(struct agent *a, struct err *e);
void outputs_changed(struct agent *a, struct identity *i); /* NULL: all; also for a JWT-SVID */
void outputs_entries(struct agent *a);
void outputs_tick(struct agent *a);
bool outputs_ready(const struct agent *a, char *why, size_t cap);
size_t outputs_written(const struct agent *a);
/* A set of files of i holds a JWT-SVID past renewal, as renew_overdue judges SVIDs. */
bool outputs_overdue(const struct agent *a, const struct identity *i);
void outputs_stop(struct agent *a);
int health_start(struct agent *a, struct err *e);
bool health_ready(struct agent *a, char *why, size_t cap);
void health_tick(struct agent *a);
void health_stop(struct agent *a);

/* --- serve.c ---------------------------------------------------------------------------------------------------------------------------- */
struct agent_serve {
    struct agent_config *(*load)(void *arg, struct err *e); /* anew each time: SIGHUP tries before it acts */
    void *arg;
    const char *token;        /* NULL: none on the command line */
    const char *const *again; /* for SIGHUP: this program, absolute, and its arguments; ends with NULL */
};
int agent_serve(const struct agent_serve *o, struct err *e);

#endif
