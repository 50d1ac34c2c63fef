/* Audit: replays a published log, or what is new since a head that the auditor kept, and judges
 * every entry. Trusts nothing but the log's verifier key.
 *
 * What must hold, else tlog_audit fails (one thing is damaged or forged, and what follows means
 * nothing): the checkpoint's signature; every bundle against its leaf hashes, every tile against
 * those below it, the root ("log-missing", "log-bitflip", "log-root", "checkpoint-*"). With a kept
 * head: that its tree is the beginning of this one. The two roots are computed from the same tiles,
 * the older on the way to the newer, which is what a consistency proof shows ("log-fork",
 * "log-rollback": the log is older than that head).
 *
 * What is found in entries is told of, each one, in order, and the replay goes on:
 *   entry-format    the envelope, its extensions, a certificate entry's body (FORMAT.md); a null
 *   cert-format     entry that is not entry 0
 *   record-format
 *   entry-lifetime  a certificate that is valid longer than the most, or ends before it begins
 *   entry-revision  a certificate under an older revision of its registration entry, more than
 *                   TLOG_AUDIT_SLACK after the log had one under a newer revision: somebody was
 *                   served by a rule that had been replaced
 *   entry-time      an entry's time lies more than TLOG_AUDIT_SLACK before that of an earlier
 *                   entry: the signer's clock was set back, or a certificate was backdated. Where a
 *                   record of the authority says that the clock had run ahead and its operator
 *                   accepted the present one, the step is no finding, but counted (clocks)
 * The slack is there because of the backdate (a record's time is the signer's clock, a
 * certificate's not_before is TLOG_AUDIT_BACKDATE before it) and because of orders that were
 * decided just before an update and logged just after.
 *
 * Certificates of the authority (CA) are not judged by lifetime and time, but listed: who reads the
 * report must know each. With a kept head, revisions are compared among the new entries only; times
 * also with `latest`, as an audit before reported it, and with known entries that are read anyway.
 *
 * Not done here: serials. An entry has none; serial = (log number << 48) | index is checked where a
 * certificate is (tlog/proof.h). Nor whether a record is true.
 * Memory grows with the number of registration entries, not with the log.
 */
#ifndef TLOG_AUDIT_H
#define TLOG_AUDIT_H
#include "tlog/checkpoint.h"
#include "tlog/place.h"

/* ca/profile.h's PROFILE_BACKDATE, written down again on purpose: who audits does not ask the
 * signer's code what is right. */
#define TLOG_AUDIT_BACKDATE 10
#define TLOG_AUDIT_SLACK TLOG_AUDIT_BACKDATE
#define TLOG_AUDIT_LIFETIME 3600
#define TLOG_AUDIT_LISTED 32

struct tlog_audit_options {
    const char *dir;
    const struct tlog_place *at; /* instead of dir, where the log is in more than its folder */
    const struct tlog_vkey *vkey;
    struct bytes head;     /* signed note to audit under; empty: the published checkpoint */
    struct bytes from;     /* signed note that the auditor kept; empty: the whole log */
    int64_t latest;        /* with `from`: of the audit before; 0: not known */
    unsigned max_lifetime; /* of a certificate, seconds without the backdate; 0: not judged */
    unsigned threads;      /* 0: the calling one alone */
    /* Each finding, index ascending; why->rule is one of the above. Both on any thread, one call at
     * a time; may be NULL. */
    void (*finding)(void *arg, uint64_t index, const struct err *why);
    /* Each new entry, after what was found in it. That it stands under the signed head is known only
     * when tlog_audit has returned 0. May be NULL. */
    int (*entry)(void *arg, uint64_t index, struct bytes entry, struct err *e);
    void (*progress)(void *arg, uint64_t done, uint64_t total);
    void *arg;
};

enum tlog_audit_kind {
    TLOG_AUDIT_NULL,
    TLOG_AUDIT_CERT,
    TLOG_AUDIT_CA,
    TLOG_AUDIT_REVOCATION,
    TLOG_AUDIT_REFUSAL,
    TLOG_AUDIT_CHANGE,
    TLOG_AUDIT_AUTHORITY,
    TLOG_AUDIT_JWT,
    TLOG_AUDIT_UNKNOWN, /* of a type that this version does not know: hashed like any other */
    TLOG_AUDIT_BAD,     /* its form is a finding */
    TLOG_AUDIT_KINDS
};
struct tlog_audit_report {
    struct tlog_checkpoint checkpoint, from; /* from.size 0: the whole log */
    uint64_t checked;                        /* checkpoint.size - from.size */
    uint64_t count[TLOG_AUDIT_KINDS];
    uint64_t registrations; /* registration entries that certificates name */
    uint64_t findings;
    int64_t first_time, last_time; /* of certificates and records; 0: there are none */
    int64_t latest; /* the time that the next entry is compared with; 0: there was none */
    uint64_t ca[TLOG_AUDIT_LISTED]; /* indexes of the first CA certificates */
    uint64_t clocks;                        /* accepted steps back of the signer's clock, */
    uint64_t clock[TLOG_AUDIT_LISTED];      /* and the first records that say so */
};
/* 0: all was read and agrees with the signed head; what the entries say is in r->findings. */
int tlog_audit(const struct tlog_audit_options *o, struct tlog_audit_report *r, struct err *e);
/* "certificate", "revocation", … for JSON. */
const char *tlog_audit_kind_name(enum tlog_audit_kind k);
#endif
