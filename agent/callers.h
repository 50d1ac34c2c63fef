/* Who is connected to the Workload API, and what they wait for: shared by callers.c, callers_answer.c, callers_say.c,
 * provider.c. */
#ifndef AGENT_CALLERS_H
#define AGENT_CALLERS_H
#include "agent/daemon.h"
#include <stdatomic.h>

#define WAIT_MS 10000          /* for an agent that is starting or cut off, before Unavailable is said */
#define WAIT_ENTRY_MS 3000     /* for a newer list of entries, before it is said that there is none */
#define WAIT_IN_QUEUE_MS 60000 /* for an authority that answers, but others first */

/* Those who left and are being attested still count: each holds two descriptors, and connecting is quicker than
 * attesting. */
#define CALLERS_MAX 4096
#define CALLERS_PER_UID 1024
#define DESCRIPTORS_KEPT 64 /* for the authority, files and hooks: callers get none of the last ones */

enum call_kind { CALL_WATCH, CALL_JWT };
struct call { /* one open RPC */
    struct call *next;
    struct wl_call *wl;
    enum call_kind kind;
    bool answered;     /* a watch that was told something already */
    unsigned round;
    int64_t since_ms;  /* monotonic */
    /* CALL_JWT */
    char **audience, *spiffe_id; /* owned; spiffe_id "" for all */
    size_t audience_count;
};
enum caller_state { CALLER_UNKNOWN, CALLER_KNOWN, CALLER_LOST };
struct caller {
    struct caller *next, *prev;
    struct agent *agent;
    struct peer *peer;           /* owned; the attestation's while it runs */
    enum caller_state state;
    struct err why;              /* LOST */
    struct peer_selectors selectors;
    struct identity **matched;   /* owned list, in the order of identities_order; each is wanted by this caller */
    size_t matched_count;
    struct call *calls;          /* owned */
    bool attesting, said;        /* said: the log has that there is nothing for it */
    atomic_bool gone;            /* disconnected while something still held it */
    unsigned held, round;
};
struct caller *caller_new(struct agent *a, int fd);
void caller_gone(struct caller *c);
/* Lets go of the identities and looks again at which are its. True: they are others now. */
bool caller_match(struct caller *c);
/* Tells all who wait, and with all those too who were told before. */
void caller_tell(struct caller *c, bool all);
/* callers_answer.c. What is answered for good is cancelled from within: k may be gone after each of these, and other
 * calls of c with it. */
void answer_watch(struct caller *c, struct call *k);
void answer_jwt(struct caller *c, struct call *k);
void waiting_fail(struct caller *c, struct call *k, enum wl_status status, const char *why);
void waiting_free(struct call *k); /* of one that is in nobody's list any more */
/* To the log, once for a connection and not more than once a second: who has no identity, and what it was known by. */
void caller_say_none(struct caller *c);

#endif
