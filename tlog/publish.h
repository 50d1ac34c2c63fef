/* The publisher: files for the world, behind the head by at most the publishing interval.
 *
 * The appending thread hands over whole durable batches through `pending`; the publisher swaps that
 * buffer for its own empty one, so the lock is held for a copy, never for a write. It writes full
 * tiles as they fill, and once per interval the partial ones and then the checkpoint, which
 * therefore never speaks of a tile that is not there. Tiles are not fsynced one by one: the
 * journal keeps their entries until tlog_tile_sync has made them durable, and start-up writes the
 * journal's part again.
 * Where a quorum is waited for, the head just appended is asked to be published now: that takes the
 * place of the interval, once.
 * A cosignature of the published checkpoint is added to it by writing that file anew: here too, so
 * that the appending thread never waits for it. The next checkpoint starts without.
 * When writing fails (disk full) it tries again each interval. `pending` is bounded: past its limit
 * an append waits, and in the end fails. What cannot be tried again ends the thread, and the next
 * append fails at once: start-up recovers.
 * Private to publish.c (the thread, handing over) and publish_files.c (what it writes). */
#ifndef TLOG_PUBLISH_H
#define TLOG_PUBLISH_H
#include "tlog/internal.h"

struct cosigned {
    const struct tlog_vkey *witness; /* not owned */
    struct tlog_cosignature s;
};
struct cosigned_list {
    size_t n;
    struct cosigned by[TLOG_COSIGNERS];
};

struct tlog_publisher {
    char dir[TLOG_DIR_MAX];
    unsigned interval_ms;
    int published_fd; /* not owned; 0: none */
    pthread_t thread;
    bool running;

    pthread_mutex_t lock; /* guards from here … */
    pthread_cond_t work, room;
    struct buf pending; /* u32 length ‖ leaf hash ‖ entry, whole batches */
    struct buf pending_note;
    uint64_t pending_size; /* tree size of pending_note */
    uint64_t published;
    struct tlog_checkpoint head; /* the published one */
    struct cosigned_list handed; /* cosignatures of it that are still to be added */
    bool now; /* what is pending is published without waiting for the interval */
    bool idle, stop, dead; /* dead: the thread ended by itself, for `failure` */
    struct err failure;           /* of the last try; code 0: none */
    struct tlog_journal *journal; /* not owned; its segment list … to here */

    struct tlog_edge edge; /* the rest is the publisher's own */
    struct buf taken, note, bundle;
    struct buf shown;              /* the published note, and */
    struct cosigned_list cosigned; /* what was added to it */
    bool cosigned_anew;            /* since it was written */
    uint64_t last_size, synced; /* size last published; leaves whose full tiles are durable */
    int64_t due;
    bool sync_failed; /* an fsync failed: what it lost is unknown, so the journal stays */
    bool trim_failed; /* a segment could not be removed; said once */
};

/* publish.c */
/* False when it is time to stop. Called with the lock held. */
bool tlog_publisher_wait(struct tlog_publisher *p, pthread_cond_t *c, int64_t mono_ms);
/* Says it once per trouble, not once per try. Called with the lock held. */
void tlog_publisher_failed(struct tlog_publisher *p, const struct err *e);
/* Replaces the witness's earlier one; false when nothing changes, or there is no place. */
bool tlog_cosigned_put(struct cosigned_list *l, const struct cosigned *c);

/* publish_files.c */
/* Partial tiles, then the checkpoint that needs them; and what was published before is forgotten. */
int tlog_publisher_write(struct tlog_publisher *p, struct err *e);
int tlog_publisher_write_cosigned(struct tlog_publisher *p, struct err *e);
/* Lets go of journal segments that full, durable tiles cover. */
void tlog_publisher_trim(struct tlog_publisher *p);
#endif
