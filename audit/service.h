/* Service: the index kept up beside a running daemon, and questions answered from it, on two threads
 * of its own, so that who serves requests waits for neither.
 *
 * The indexing thread looks every second for what was published, and rests as long as it worked
 * while it has much to catch up with. It mends what others do to the file: deleted, replaced,
 * damaged, it is made again. The other thread answers questions in order, those of operators first.
 * Locks: `lock` guards the queue and the wish to stop; nobody reads a file while holding it.
 */
#ifndef AUDIT_SERVICE_H
#define AUDIT_SERVICE_H
#include "audit/search.h"
#include "audit/write.h"

#define AUDIT_QUEUE_MAX 32        /* questions that wait; operators' ones not counted */
#define AUDIT_WITHIN_MS 2000      /* a question that takes longer is given up */
#define AUDIT_ANSWER_MAX (6u << 20) /* a page that grows over half of this ends there */

struct audit;
struct audit_options {
    const char *index, *log_dir; /* not owned; outlive the service */
    /* The log's verifier key, as soon as it is known; asked every second until then. */
    bool (*vkey)(void *arg, char *dst, size_t cap);
    void *arg;
    uint16_t log_number;
    char *const *archive; /* where old tiles may be (tlog/place.h), or NULL */
};
int audit_start(struct audit **out, const struct audit_options *o, struct err *e);
void audit_stop(struct audit *a); /* questions that wait are refused; none may come any more */

struct audit_question { /* the asker's, until done was called */
    bool stats, first;  /* statistics instead of entries; before those that wait */
    struct audit_filter filter;
    audit_found_cb *each; /* NULL, or who takes the entries instead of out, on a thread of the service; */
    void *each_arg;
    uint64_t covered;     /* at least all entries below this one were looked at */
    struct buf out;     /* the answer, in filter.format */
    char next[AUDIT_CURSOR_LEN + 1];
    /* Once, on a thread of the service. e NULL: answered. ERR_UNAVAILABLE: the index is not there
     * now ("audit-index"), or it took too long ("audit-slow"). */
    void (*done)(struct audit_question *q, const struct err *e);
    void *arg;
    struct audit_question *behind; /* the service's */
};
/* -1: too many wait (ERR_RATE, "audit-busy"), and done will not be called. */
int audit_ask(struct audit *a, struct audit_question *q, struct err *e);
#endif
