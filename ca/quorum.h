/* The witnesses' quorum: what the notary brings of their cosignatures, and the wait for enough of them.
 *
 * A cosignature is verified against its witness's key and against the head that the log has published,
 * before it counts and before it is published with that head. The notary is believed in nothing; it
 * speaks at a door of its own, where nothing else may be said than CA_COSIGN.
 *
 * With a quorum of k a certificate is made only under a head that k witnesses have cosigned, and
 * their cosignatures stand in its proof. The corridor has the head published at once and waits for
 * them, each time at most `timeout_ms`. When they do not come, that batch is refused and the breaker is
 * open: what is asked from then on is refused before it is logged, so that the log does not grow, until k
 * witnesses have cosigned the head that is published then, and after that one certificate at a time is
 * tried until one has its quorum in time. Now and then a request is made to wait while the breaker is open, so
 * that the log stands still for the witnesses; so is the first of all, since it is open at the start, too.
 *
 * One lock guards what is counted; it is held for no verification and no message. */
#ifndef CA_QUORUM_H
#define CA_QUORUM_H
#include "ca/witnesses.h"
#include "tlog/log.h"
#include <stdbool.h>
#include <sys/types.h>

struct quorum;
struct quorum_options { /* nothing owned; all outlives the quorum, the witnesses the log besides */
    const struct witnesses *witnesses;
    struct tlog *log;
    unsigned needed; /* k; 0: nobody waits, and cosignatures are only published */
    unsigned timeout_ms;
};
struct quorum *quorum_new(const struct quorum_options *o, struct err *e);
/* The notary's door, at a thread of its own. published_fd: the log's, whose word is passed on. */
int quorum_listen(struct quorum *q, int listen_fd, int published_fd, uid_t peer_uid, struct err *e);
void quorum_free(struct quorum *q); /* ends the thread */

/* A CA_COSIGN's body. Each witness counts once for a head. Rules "ca-msg", "witness",
 * "cosignature", "cosignature-time", "cosign-stale". Thread safe. */
int quorum_take(struct quorum *q, struct bytes body, struct err *e);

/* The corridor's, as a batch begins. */
void quorum_batch(struct quorum *q);
/* The corridor's. Before a certificate is logged: rule "witness-quorum" (ERR_UNAVAILABLE) while the
 * breaker is open. */
int quorum_admit(struct quorum *q, struct err *e);
/* After tlog_append: has the new head published, waits, and puts k cosignatures into the batch's
 * proofs. Rule "witness-quorum": too few came in time, and the breaker is open. */
int quorum_await(struct quorum *q, struct err *e);
/* What the cosignatures add to a certificate at most, in bytes. */
size_t quorum_proof_max(const struct quorum *q);

struct quorum_status {
    unsigned needed, witnesses;
    unsigned cosigned; /* how many cosigned the published head */
    bool open;         /* the breaker: no certificate is made */
};
void quorum_status(struct quorum *q, struct quorum_status *s); /* thread safe */
#endif
