/* A relying party's policy: whose word makes a checkpoint, and so a proof of logging, be believed.
 *
 *   log VKEY [URL]                    a log; the checkpoint's origin is the key's name
 *   witness NAME VKEY [URL]           a witness (key type 04)
 *   group NAME all|any|K MEMBER...    cosigned when that many of its members are; members are
 *                                     witnesses and groups of earlier lines, each in one group only
 *   quorum none|NAME|K                once: nobody, this witness or group, any K of all witnesses
 *   max-age N[s|m|h|d]                cosignatures older than this do not count
 *
 * Lines end in a newline, words are separated by spaces and tabs, # begins a comment line. It is
 * the format of C2SP tlog-policy, read as strictly as that says, with two words of our own:
 * `quorum K` (so a name is not digits alone) and `max-age`.
 *
 * A policy is made by one thread; then it does not change, and any number of threads may use it.
 * Not done here: fetching anything. URLs are read over.
 */
#ifndef TLOG_POLICY_H
#define TLOG_POLICY_H
#include "tlog/cosign.h"
#include "tlog/proof.h"

#define TLOG_POLICY_MAX 65536 /* bytes */
#define TLOG_POLICY_LOGS 32
#define TLOG_POLICY_MEMBERS 96  /* witnesses and groups together */
#define TLOG_POLICY_AHEAD 300   /* seconds a witness's clock may be ahead of ours */
#define TLOG_POLICY_AGE_MAX (10 * 366 * 86400)

struct tlog_policy;
/* No log, no witness, quorum none. NULL: out of memory. */
struct tlog_policy *tlog_policy_new(void);
void tlog_policy_free(struct tlog_policy *p);
/* Into a new policy; one that failed is only good for being freed. ERR_CONFIG, rules "policy" and
 * "vkey-format"; the message names the line. */
int tlog_policy_parse(struct tlog_policy *p, const char *text, size_t len, struct err *e);
/* One more log, as a `log` line does. Takes k over, also when it fails. */
int tlog_policy_add_log(struct tlog_policy *p, struct tlog_vkey *k, struct err *e);

struct tlog_accepted {
    struct tlog_checkpoint checkpoint;
    unsigned witnesses; /* of the policy that cosigned it in time, each once */
    int64_t oldest;     /* time of the oldest of these cosignatures; 0: none */
};
/* A signed note against the policy: signed by one of its logs, cosigned by its quorum. A line that
 * says it is by a key of the policy must be good; lines of other keys are ignored. Rules
 * "checkpoint-format", "checkpoint-origin", "checkpoint-signature", "cosignature", "quorum",
 * "policy" (it names no log). */
int tlog_policy_open(const struct tlog_policy *p, int64_t now, const void *note, size_t len,
                     struct tlog_accepted *a, struct err *e);
/* The same for a certificate's claim, with the inclusion ("inclusion"). */
int tlog_policy_prove(const struct tlog_policy *p, int64_t now, const struct tlog_claim *c,
                      struct tlog_accepted *a, struct err *e);
#endif
