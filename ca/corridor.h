/* Private to the corridor: issue.c (the steps in their order, 1, 2, 6 and 7), check.c (3 to 5) and
 * finish.c (8 and 9, on the signing threads). What each thread may touch stands in the struct. */
#ifndef CA_CORRIDOR_H
#define CA_CORRIDOR_H
#include "base/clock.h"
#include "base/fault.h"
#include "ca/crew.h"
#include "ca/issue.h"
#include "ca/job.h"
#include "ca/jwt.h"
#include "ca/lint.h"
#include "ca/notices.h"
#include <stdatomic.h>

struct station { /* what one signing thread keeps */
    struct digest digest;
    struct { /* answers of its share that are still to be given */
        struct buf frame;
        struct caller *caller; /* held */
    } out[CREW_SHARE_MAX];
    unsigned n;
    uint8_t cert[CA_CERT_MAX], claims[CA_JWT_BYTES];
};

struct corridor {
    const struct issue_options *o;
    struct jwt_policy jwt;
    struct tbs_template template;
    struct lint_policy lint;
    struct door *door;
    struct crew *crew;
    struct station *stations;
    int wake_fd;
    int64_t started;
    uint64_t jwt_signed_before;
    uint64_t first_index, signed_before; /* the log's size, and the issuing key's signatures (self-tests), at the start */
    atomic_ullong issued, refused;
    uint64_t abandoned, jwt_abandoned; /* logged, and never to be signed: no quorum */

    /* the rest is the corridor thread's own */
    struct clock_guard clock;
    int64_t ahead; /* to when it had run, where the operator accepts that it is back; else 0 */
    struct notices notices;
    struct digest digest;
    struct buf answer, proof;
    uint8_t body[JOB_BODY_MAX];
    struct job *batch[TLOG_BATCH_MAX];
    size_t n;
    uint64_t batch_first;    /* index of what was appended last */
    struct err unwitnessed; /* why that is not signed; code ERR_NONE: it is */
    struct {
        int64_t at; /* monotonic us */
        double tokens;
    } rate;
    int64_t record_due, crl_due; /* monotonic us at which the records and CRLs so far are paid for */
    struct {
        int64_t second;
        unsigned lines, hidden;
    } said;
    int64_t warned;
};

static inline int corridor_fault(const char *name, int asked, struct err *e)
{
    return asked ? err_set(e, ERR_INTERNAL, "fault", "fault point %s", name) : 0;
}
#define STEP(name) corridor_fault(name, FAULT(name), e)

/* --- check.c -------------------------------------------------------------------------------------- */
/* A step's judgement of one job. */
typedef int check_cb(struct corridor *c, struct job *j, struct err *e);
/* Keeps the jobs of the batch that pass; refuses the others. */
void check_sift(struct corridor *c, check_cb *pass);
/* Ends a job of the corridor thread with a refusal. */
void check_refuse(struct corridor *c, struct job *j, const struct err *why);
void check_drop_crl(struct job *j); /* what a CRL's job owns */
check_cb check_profile, check_clock, check_entry; /* steps 3, 4, 5 */

/* --- finish.c --------------------------------------------------------------------------------------- */
crew_work_cb finish_work;     /* steps 8 and 9 of one job; arg: the corridor */
crew_flush_cb finish_answer;  /* the answers of a share; lets the callers go */
#endif
