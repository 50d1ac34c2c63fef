/* Private to tlog/witness*.c: what a witness keeps of each log. */
#ifndef TLOG_WITNESS_STATE_H
#define TLOG_WITNESS_STATE_H
#include "tlog/internal.h"
#include "tlog/witness.h"

struct witnessed {
    const char *origin;          /* not owned */
    char hash[HEX_LEN(8) + 1];   /* names its files */
    pthread_mutex_t lock;        /* guards the rest, and its files */
    struct tlog_checkpoint head; /* size 0, the empty tree: none yet */
    struct buf note;             /* the head as the log signed it */
    unsigned forks;              /* pieces of evidence kept */
};
struct tlog_witness {
    struct tlog_witness_options o;
    int lock_fd; /* flock on the folder; owned */
    struct witnessed log[TLOG_WITNESS_LOGS];
    size_t log_count;
};
struct witnessed *witness_log(struct tlog_witness *w, const char *origin); /* NULL: unknown */
/* Makes n the log's head: durable when it returns 0; else the one before stays. Lock held. */
int witness_head_store(struct tlog_witness *w, struct witnessed *log, const struct tlog_note *n,
                       struct err *e);
/* Keeps the head and n, which contradicts it, and says so: once each. Lock held. */
void witness_fork_keep(struct tlog_witness *w, struct witnessed *log, const struct tlog_note *n,
                       struct bytes note);
#endif
