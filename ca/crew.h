/* The signing threads, the queue before them, and the fixed pool of jobs.
 *
 * A job goes from crew_take to crew_submit (or crew_return), through the queue, to the work
 * callback on one of the threads, and back into the pool. The pool is last in, first out, so that
 * a quiet signer touches few jobs. Nothing is allocated after crew_new.
 *
 * When the callback fails, that is the end: its error is kept, nothing more is worked on, wake_fd
 * (an eventfd) is written, and crew_wait answers -1. */
#ifndef CA_CREW_H
#define CA_CREW_H
#include "base/err.h"
#include <stddef.h>

struct crew;
struct job;

/* A thread takes its share of what is queued, up to this many jobs: so that under load locks are
 * taken and callers woken once for several certificates. A lone job is taken alone. */
#define CREW_SHARE_MAX 8

/* worker: 0..threads-1; calls with the same number never overlap. */
typedef int crew_work_cb(void *arg, unsigned worker, struct job *j, struct err *e);
/* After the last job of a share: gives out what the work has brought. */
typedef int crew_flush_cb(void *arg, unsigned worker, struct err *e);
struct crew_options {
    unsigned threads;
    size_t jobs;
    crew_work_cb *work;
    crew_flush_cb *flush;
    void *arg;
    int wake_fd;
};
struct crew *crew_new(const struct crew_options *o, struct err *e);
/* Stops: drops what is queued, waits for what is being worked on. */
void crew_free(struct crew *c);

/* Corridor thread. crew_take: NULL when all are out. */
struct job *crew_take(struct crew *c);
void crew_return(struct crew *c, struct job *j);
void crew_submit(struct crew *c, struct job *const *jobs, size_t n);
/* Waits until the queue is empty: what was submitted is at most threads * CREW_SHARE_MAX jobs from
 * done. 0; -1 with e when a thread failed. */
int crew_wait_taken(struct crew *c, struct err *e);
/* Waits until at most `backlog` submitted jobs are unfinished: 0; 1 when timeout_ms (-1: none) went
 * by first; -1 with e when a thread failed. */
int crew_wait(struct crew *c, size_t backlog, int timeout_ms, struct err *e);
#endif
