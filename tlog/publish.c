/* The publisher: files for the world, behind the head by at most the publishing interval.
 *
 * The appending thread hands over whole durable batches through `pending`; the publisher swaps that
 * buffer for its own empty one, so the lock is held for a copy, never for a write. It writes full
 * tiles as they fill, and once per interval the partial ones and then the checkpoint, which
 * therefore never speaks of a tile that is not there. Tiles are not fsynced one by one: the
 * journal keeps their entries until tlog_tile_sync has made them durable, and start-up writes the
 * journal's part again.
 * A cosignature of the published checkpoint is added to it by writing that file anew: here too, so
 * that the appending thread never waits for it. The next checkpoint starts without.
 * When writing fails (disk full) it tries again each interval. `pending` is bounded: past its limit
 * an append waits, and in the end fails. What cannot be tried again ends the thread, and the next
 * append fails at once: start-up recovers.
 */
#include "base/clock.h"
#include "base/fileio.h"
#include "base/log.h"
#include "tlog/internal.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DRAIN_BYTES ((size_t)256 << 10) /* pending that is worth waking for */
#define PENDING_BYTES ((size_t)8 << 20) /* an append waits above this */
#define PENDING_MAX (PENDING_BYTES + TLOG_BATCH_MAX * (TLOG_ENTRY_MAX + 64))
#define WAIT_MS 10000 /* how long it waits */

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

static void cond_init_mono(pthread_cond_t *c)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(c, &attr);
    pthread_condattr_destroy(&attr);
}

struct tlog_publisher *tlog_publisher_new(const struct tlog_options *o, struct err *e)
{
    struct tlog_publisher *p = calloc(1, sizeof *p);
    if (!p) {
        err_set(e, ERR_INTERNAL, "log-memory", "out of memory");
        return NULL;
    }
    snprintf(p->dir, sizeof p->dir, "%s", o->dir);
    p->interval_ms = o->publish_ms ? o->publish_ms : 1000;
    pthread_mutex_init(&p->lock, NULL);
    cond_init_mono(&p->work);
    cond_init_mono(&p->room);
    buf_init(&p->pending, PENDING_MAX);
    buf_init(&p->taken, PENDING_MAX);
    buf_init(&p->pending_note, TLOG_NOTE_MAX);
    buf_init(&p->note, TLOG_NOTE_MAX);
    buf_init(&p->shown, TLOG_NOTE_MAX);
    buf_init(&p->bundle, TLOG_BUNDLE_MAX);
    return p;
}

void tlog_publisher_free(struct tlog_publisher *p)
{
    if (!p)
        return;
    buf_free(&p->pending);
    buf_free(&p->taken);
    buf_free(&p->pending_note);
    buf_free(&p->note);
    buf_free(&p->shown);
    buf_free(&p->bundle);
    pthread_cond_destroy(&p->work);
    pthread_cond_destroy(&p->room);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

struct tlog_edge *tlog_publisher_edge(struct tlog_publisher *p)
{
    return &p->edge;
}

/* False when it is time to stop. Called with the lock held. */
static bool wait_until(struct tlog_publisher *p, pthread_cond_t *c, int64_t mono_ms)
{
    struct timespec t = {.tv_sec = mono_ms / 1000, .tv_nsec = mono_ms % 1000 * 1000000};
    if (!p->stop)
        pthread_cond_timedwait(c, &p->lock, &t);
    return !p->stop;
}

/* Says it once per trouble, not once per try. */
static void failure_note(struct tlog_publisher *p, const struct err *e)
{
    if (p->failure.code == ERR_NONE)
        log_err(LOG_WARN, "publishing the log is delayed", e);
    p->failure = *e;
}

static void failure_clear(struct tlog_publisher *p)
{
    if (p->failure.code != ERR_NONE)
        log_info("publishing the log goes on", NULL);
    err_clear(&p->failure);
}

static int tile_try(struct tlog_publisher *p, unsigned level, uint64_t n,
                    const struct tlog_hash *tile, struct err *e)
{
    if (level == 0 &&
        tlog_tile_write(p->dir, TLOG_ENTRIES, n, TLOG_TILE, p->bundle.p, p->bundle.len, e) < 0)
        return -1;
    return tlog_tile_write(p->dir, (int)level, n, TLOG_TILE, tile, TLOG_TILE * TLOG_HASH, e);
}

/* A full tile must be on disk before the edge moves past it, so here the thread insists. */
static int tile_full(void *arg, unsigned level, uint64_t n, const struct tlog_hash *tile,
                     struct err *e)
{
    struct tlog_publisher *p = arg;
    bool go_on = true;
    while (tile_try(p, level, n, tile, e) < 0) {
        if (!p->running)
            return -1;
        pthread_mutex_lock(&p->lock);
        failure_note(p, e);
        int64_t until = clock_mono_ms() + p->interval_ms;
        while (go_on && clock_mono_ms() < until)
            go_on = wait_until(p, &p->work, until);
        pthread_mutex_unlock(&p->lock);
        if (!go_on)
            return -1;
    }
    if (level == 0)
        buf_reset(&p->bundle);
    return 0;
}

int tlog_publisher_feed(struct tlog_publisher *p, const struct tlog_record *r, struct err *e)
{
    buf_vec16(&p->bundle, r->entry.p, r->entry.len);
    if (p->bundle.failed)
        return err_set(e, ERR_INTERNAL, "log-memory", "out of memory for an entry bundle");
    return tlog_edge_push(&p->edge, &r->leaf, tile_full, p, e);
}

static int checkpoint_write(const struct tlog_publisher *p, const struct buf *note, struct err *e)
{
    char path[TLOG_PATH_CAP];
    if (snprintf(path, sizeof path, "%s/checkpoint", p->dir) >= TLOG_PATH_CAP)
        return err_set(e, ERR_CONFIG, "log-path", "the log folder's path is too long");
    if (file_write_atomic(path, note->p, note->len, 0644, true, e) < 0)
        return tlog_io_err(e, "cannot write", path);
    return 0;
}

/* Partial tiles of the edge's size, then the checkpoint that needs them. */
static int edge_write(struct tlog_publisher *p, struct err *e)
{
    const struct tlog_edge *g = &p->edge;
    unsigned w = tlog_edge_width(g->size, 0);
    if (w > 0 && tlog_tile_write(p->dir, TLOG_ENTRIES, tlog_edge_index(g->size, 0), w, p->bundle.p,
                                 p->bundle.len, e) < 0)
        return -1;
    for (unsigned l = 0; l < TLOG_TILE_LEVELS; l++) {
        w = tlog_edge_width(g->size, l);
        if (w > 0 && tlog_tile_write(p->dir, (int)l, tlog_edge_index(g->size, l), w, g->tile[l],
                                     w * sizeof g->tile[l][0], e) < 0)
            return -1;
    }
    return checkpoint_write(p, &p->note, e);
}

static void edge_sweep(struct tlog_publisher *p, uint64_t from)
{
    for (int level = TLOG_ENTRIES; level < TLOG_TILE_LEVELS; level++) {
        unsigned l = level == TLOG_ENTRIES ? 0 : (unsigned)level;
        tlog_tile_sweep(p->dir, level, tlog_edge_index(from, l), tlog_edge_index(p->edge.size, l));
    }
}

/* Partial tiles go when the full one is there. Of those still growing the one before stays too,
 * for readers who have just read the checkpoint before. */
static void edge_prune(struct tlog_publisher *p, uint64_t from)
{
    uint64_t size = p->edge.size;
    for (int level = TLOG_ENTRIES; level < TLOG_TILE_LEVELS; level++) {
        unsigned l = level == TLOG_ENTRIES ? 0 : (unsigned)level;
        uint64_t n = tlog_edge_index(from, l), last = tlog_edge_index(size, l);
        unsigned before = n == last ? tlog_edge_width(p->last_size, l) : 0;
        for (; n < last; n++)
            tlog_tile_prune(p->dir, level, n, 0, 0);
        if (tlog_edge_width(size, l) > 0)
            tlog_tile_prune(p->dir, level, last, tlog_edge_width(size, l), before);
    }
}

/* Lets go of journal segments that full, durable tiles cover, oldest first: one that stays keeps
 * those after it, since a journal with a gap is refused at the next start. The list is shared, so it
 * is looked at under the lock; files are synced and removed outside it. */
static void journal_trim(struct tlog_publisher *p)
{
    uint64_t covered = p->edge.size & ~(uint64_t)(TLOG_TILE - 1);
    struct err e;
    for (;;) {
        uint64_t first = 0;
        bool some = false;
        pthread_mutex_lock(&p->lock);
        struct tlog_journal *j = p->journal;
        if (j && !p->sync_failed && j->segments > 1 && j->first[1] <= covered) {
            first = j->first[0];
            some = true;
        }
        pthread_mutex_unlock(&p->lock);
        if (!some)
            return;
        if (p->synced < covered && tlog_tile_sync(p->dir, p->synced, covered, &e) < 0) {
            log_err(LOG_ERROR, "the log's tiles could not be made durable; the journal grows", &e);
            p->sync_failed = true;
            return;
        }
        p->synced = covered;
        if (tlog_journal_unlink(j, first, &e) < 0) {
            if (!p->trim_failed)
                log_err(LOG_WARN, "the journal cannot be shortened; it grows", &e);
            p->trim_failed = true;
            return;
        }
        p->trim_failed = false;
        pthread_mutex_lock(&p->lock);
        memmove(j->first, j->first + 1, --j->segments * sizeof j->first[0]);
        pthread_mutex_unlock(&p->lock);
    }
}

/* Replaces the witness's earlier one; false when nothing changes, or there is no place. */
static bool cosigned_put(struct cosigned_list *l, const struct cosigned *c)
{
    size_t i = 0;
    while (i < l->n && l->by[i].witness != c->witness)
        i++;
    if (i == TLOG_COSIGNERS || (i < l->n && l->by[i].s.time == c->s.time))
        return false;
    l->by[i] = *c;
    l->n += i == l->n;
    return true;
}

/* The published checkpoint again, with the cosignatures. What could not be written is handed over
 * once more by whoever misses it. */
static int cosigned_write(struct tlog_publisher *p, struct err *e)
{
    struct buf note;
    buf_init(&note, TLOG_NOTE_MAX);
    buf_put(&note, p->shown.p, p->shown.len);
    for (size_t i = 0; i < p->cosigned.n; i++)
        tlog_cosign_line(p->cosigned.by[i].witness, &p->cosigned.by[i].s, &note);
    int rc = note.failed ? err_set(e, ERR_INTERNAL, "log-memory", "out of memory for cosignatures")
                         : checkpoint_write(p, &note, e);
    buf_free(&note);
    p->cosigned_anew = false;
    if (rc < 0)
        p->cosigned.n = 0;
    return rc;
}

static int publish(struct tlog_publisher *p, struct err *e)
{
    struct tlog_note n;
    if (tlog_note_parse(&n, p->note.p, p->note.len, e) < 0 || edge_write(p, e) < 0)
        return -1;
    edge_prune(p, p->last_size);
    p->last_size = p->edge.size;
    buf_reset(&p->shown);
    buf_put(&p->shown, p->note.p, p->note.len);
    p->cosigned.n = 0;
    p->cosigned_anew = false;
    pthread_mutex_lock(&p->lock);
    p->published = p->edge.size;
    p->head = n.checkpoint;
    p->handed.n = 0;
    failure_clear(p);
    pthread_mutex_unlock(&p->lock);
    journal_trim(p);
    return 0;
}

int tlog_publisher_catch_up(struct tlog_publisher *p, uint64_t from, uint64_t size,
                            const void *note, size_t len, struct err *e)
{
    if (p->edge.size != size)
        return err_set(e, ERR_INTERNAL, "log-publish", "publisher is at %llu, the head at %llu",
                       (unsigned long long)p->edge.size, (unsigned long long)size);
    buf_reset(&p->note);
    buf_put(&p->note, note, len);
    p->pending_size = size;
    p->synced = p->last_size = from;
    edge_sweep(p, from);
    return publish(p, e);
}

static int drain(struct tlog_publisher *p, struct err *e)
{
    struct cur c = cur_of(p->taken.p, p->taken.len);
    while (cur_left(&c) > 0) {
        struct tlog_record r = {.index = p->edge.size};
        uint32_t len;
        if (cur_u32(&c, &len) < 0 || cur_copy(&c, &r.leaf, sizeof r.leaf) < 0 ||
            cur_take(&c, len, &r.entry) < 0)
            return err_set(e, ERR_INTERNAL, "log-publish", "a batch was handed over malformed");
        if (tlog_publisher_feed(p, &r, e) < 0)
            return -1;
    }
    buf_reset(&p->taken);
    if (p->taken.cap > 4 * DRAIN_BYTES) /* grown while writing was slow: not kept */
        buf_free(&p->taken);
    return 0;
}

/* Sleeps until there is enough to take, or something unpublished is due, or it is time to stop. */
static void wait_for_work(struct tlog_publisher *p)
{
    while (!p->stop && p->pending.len < DRAIN_BYTES && p->handed.n == 0) {
        bool behind = p->pending_size > p->published;
        if (behind && clock_mono_ms() >= p->due)
            break;
        p->idle = !behind;
        if (behind)
            wait_until(p, &p->work, p->due);
        else
            pthread_cond_wait(&p->work, &p->lock);
        p->idle = false;
    }
}

/* Batches and the note that covers them, together: a checkpoint is written over exactly its size.
 */
static bool take(struct tlog_publisher *p)
{
    struct buf empty = p->taken;
    p->taken = p->pending;
    p->pending = empty;
    if (p->taken.len > 0) {
        struct buf old = p->note;
        p->note = p->pending_note;
        p->pending_note = old;
    }
    for (size_t i = 0; i < p->handed.n; i++)
        p->cosigned_anew |= cosigned_put(&p->cosigned, &p->handed.by[i]);
    p->handed.n = 0;
    pthread_cond_broadcast(&p->room);
    return p->stop;
}

/* Not a failure of a moment, which would have been tried again. */
static void die(struct tlog_publisher *p, const struct err *e)
{
    pthread_mutex_lock(&p->lock);
    if (!p->stop) {
        log_err(LOG_ERROR, "publishing the log has ended", e);
        p->failure = *e;
        p->dead = true;
        pthread_cond_broadcast(&p->room);
    }
    pthread_mutex_unlock(&p->lock);
}

static void *publisher_main(void *arg)
{
    struct tlog_publisher *p = arg;
    struct err e;
    for (bool last = false; !last;) {
        pthread_mutex_lock(&p->lock);
        wait_for_work(p);
        last = take(p);
        pthread_mutex_unlock(&p->lock);
        if (drain(p, &e) < 0) {
            die(p, &e);
            break;
        }
        bool due = p->edge.size != p->last_size && (last || clock_mono_ms() >= p->due);
        if (!due && !p->cosigned_anew)
            continue;
        if (due)
            p->due = clock_mono_ms() + p->interval_ms;
        if ((due ? publish(p, &e) : cosigned_write(p, &e)) < 0) {
            pthread_mutex_lock(&p->lock);
            failure_note(p, &e);
            pthread_mutex_unlock(&p->lock);
        }
    }
    return NULL;
}

int tlog_publisher_start(struct tlog_publisher *p, struct tlog_journal *j, struct err *e)
{
    p->journal = j;
    journal_trim(p); /* before an append needs room for a segment */
    p->running = true;
    int rc = pthread_create(&p->thread, NULL, publisher_main, p);
    if (rc != 0) {
        p->running = false;
        errno = rc;
        return err_errno(e, "log-publish", "cannot start the publisher thread");
    }
    return 0;
}

void tlog_publisher_stop(struct tlog_publisher *p)
{
    if (!p->running)
        return;
    pthread_mutex_lock(&p->lock);
    p->stop = true;
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->lock);
    pthread_join(p->thread, NULL);
    p->running = false;
}

/* Called with the lock held. */
static int room_wait(struct tlog_publisher *p, struct err *e)
{
    int64_t until = clock_mono_ms() + WAIT_MS;
    while (!p->dead && p->pending.len > PENDING_BYTES) {
        if (wait_until(p, &p->room, until) && clock_mono_ms() < until)
            continue;
        return err_set(e, ERR_UNAVAILABLE, "log-publish",
                       "publishing is %zu bytes behind and does not move: %.300s", p->pending.len,
                       p->failure.code ? p->failure.msg : "the disk is too slow");
    }
    if (p->dead)
        return err_set(e, ERR_UNAVAILABLE, "log-publish",
                       "publishing has ended, and starts again with the signer: %.300s",
                       p->failure.msg);
    return 0;
}

int tlog_publisher_hand(struct tlog_publisher *p, const struct bytes *entries,
                        const struct tlog_hash *leaves, size_t n, uint64_t size, const void *note,
                        size_t len, struct err *e)
{
    pthread_mutex_lock(&p->lock);
    int ret = room_wait(p, e);
    for (size_t i = 0; ret == 0 && i < n; i++) {
        buf_u32(&p->pending, (uint32_t)entries[i].len);
        buf_put(&p->pending, &leaves[i], sizeof leaves[i]);
        buf_put(&p->pending, entries[i].p, entries[i].len);
    }
    if (ret == 0) {
        buf_reset(&p->pending_note);
        buf_put(&p->pending_note, note, len);
        p->pending_size = size;
        if (p->pending.failed || p->pending_note.failed)
            ret = err_set(e, ERR_INTERNAL, "log-memory", "out of memory for publishing");
    }
    if (p->idle || p->pending.len >= DRAIN_BYTES) {
        p->idle = false; /* one signal is enough */
        pthread_cond_signal(&p->work);
    }
    pthread_mutex_unlock(&p->lock);
    return ret;
}

bool tlog_publisher_may_roll(struct tlog_publisher *p)
{
    pthread_mutex_lock(&p->lock);
    bool may = p->journal->segments < TLOG_SEGMENTS_MAX;
    pthread_mutex_unlock(&p->lock);
    return may;
}

int tlog_publisher_segment(struct tlog_publisher *p, uint64_t first, struct err *e)
{
    pthread_mutex_lock(&p->lock);
    int ret = tlog_journal_note(p->journal, first, e);
    pthread_mutex_unlock(&p->lock);
    return ret;
}

int tlog_publisher_cosign(struct tlog_publisher *p, const struct tlog_checkpoint *c,
                          const struct tlog_vkey *witness, const struct tlog_cosignature *s,
                          struct err *e)
{
    int ret = 0;
    pthread_mutex_lock(&p->lock);
    if (p->dead)
        ret = err_set(e, ERR_UNAVAILABLE, "log-publish", "publishing has ended: %.300s", p->failure.msg);
    else if (c->size != p->head.size || memcmp(&c->root, &p->head.root, sizeof c->root) != 0)
        ret = err_set(e, ERR_NOT_READY, "cosign-stale",
                      "the published checkpoint is of %llu entries, and another than the cosigned one "
                      "of %llu",
                      (unsigned long long)p->head.size, (unsigned long long)c->size);
    else
        cosigned_put(&p->handed, &(struct cosigned){witness, *s});
    p->idle = false;
    pthread_cond_signal(&p->work);
    pthread_mutex_unlock(&p->lock);
    return ret;
}

uint64_t tlog_publisher_size(struct tlog_publisher *p)
{
    pthread_mutex_lock(&p->lock);
    uint64_t size = p->published;
    pthread_mutex_unlock(&p->lock);
    return size;
}
