/* What the publisher writes: tiles, checkpoint, cosignatures; and the journal that it lets go of. */
#include "base/clock.h"
#include "base/fileio.h"
#include "base/log.h"
#include "tlog/publish.h"
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>

static void goes_on(struct tlog_publisher *p)
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
        tlog_publisher_failed(p, e);
        int64_t until = clock_mono_ms() + p->interval_ms;
        while (go_on && clock_mono_ms() < until)
            go_on = tlog_publisher_wait(p, &p->work, until);
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
void tlog_publisher_trim(struct tlog_publisher *p)
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

/* The published checkpoint again, with the cosignatures. What could not be written is handed over
 * once more by whoever misses it. */
int tlog_publisher_write_cosigned(struct tlog_publisher *p, struct err *e)
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

int tlog_publisher_write(struct tlog_publisher *p, struct err *e)
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
    goes_on(p);
    pthread_mutex_unlock(&p->lock);
    if (p->published_fd > 0)
        eventfd_write(p->published_fd, 1);
    tlog_publisher_trim(p);
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
    return tlog_publisher_write(p, e);
}
