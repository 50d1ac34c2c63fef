/* The publisher's thread, and what is handed to it. See publish.h. */
#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include "tlog/publish.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DRAIN_BYTES ((size_t)256 << 10) /* pending that is worth waking for */
#define PENDING_BYTES ((size_t)8 << 20) /* an append waits above this */
#define PENDING_MAX (PENDING_BYTES + TLOG_BATCH_MAX * (TLOG_ENTRY_MAX + 64))
#define WAIT_MS 10000 /* how long it waits */

struct tlog_publisher *tlog_publisher_new(const struct tlog_options *o, struct err *e)
{
    struct tlog_publisher *p = calloc(1, sizeof *p);
    if (!p) {
        err_set(e, ERR_INTERNAL, "log-memory", "out of memory");
        return NULL;
    }
    snprintf(p->dir, sizeof p->dir, "%s", o->dir);
    p->interval_ms = o->publish_ms ? o->publish_ms : 1000;
    p->published_fd = o->published_fd;
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

bool tlog_publisher_wait(struct tlog_publisher *p, pthread_cond_t *c, int64_t mono_ms)
{
    if (!p->stop)
        cond_wait_until(c, &p->lock, mono_ms);
    return !p->stop;
}

void tlog_publisher_failed(struct tlog_publisher *p, const struct err *e)
{
    if (p->failure.code == ERR_NONE)
        log_err(LOG_WARN, "publishing the log is delayed", e);
    p->failure = *e;
}

bool tlog_cosigned_put(struct cosigned_list *l, const struct cosigned *c)
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
        if (behind && (p->now || clock_mono_ms() >= p->due))
            break;
        p->idle = !behind;
        if (behind)
            tlog_publisher_wait(p, &p->work, p->due);
        else
            pthread_cond_wait(&p->work, &p->lock);
        p->idle = false;
    }
}

/* Batches and the note that covers them, together: a checkpoint is written over exactly its size.
 */
static bool take(struct tlog_publisher *p)
{
    if (p->now)
        p->due = 0;
    p->now = false;
    struct buf empty = p->taken;
    p->taken = p->pending;
    p->pending = empty;
    if (p->taken.len > 0) {
        struct buf old = p->note;
        p->note = p->pending_note;
        p->pending_note = old;
    }
    for (size_t i = 0; i < p->handed.n; i++)
        p->cosigned_anew |= tlog_cosigned_put(&p->cosigned, &p->handed.by[i]);
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
        if ((due ? tlog_publisher_write(p, &e) : tlog_publisher_write_cosigned(p, &e)) < 0) {
            pthread_mutex_lock(&p->lock);
            tlog_publisher_failed(p, &e);
            pthread_mutex_unlock(&p->lock);
        }
    }
    return NULL;
}

int tlog_publisher_start(struct tlog_publisher *p, struct tlog_journal *j, struct err *e)
{
    p->journal = j;
    tlog_publisher_trim(p); /* before an append needs room for a segment */
    p->running = thread_start(&p->thread, publisher_main, p, "the publisher's thread", e) == 0;
    return p->running ? 0 : -1;
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
        if (tlog_publisher_wait(p, &p->room, until) && clock_mono_ms() < until)
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
        tlog_cosigned_put(&p->handed, &(struct cosigned){witness, *s});
    p->idle = false;
    pthread_cond_signal(&p->work);
    pthread_mutex_unlock(&p->lock);
    return ret;
}

void tlog_publisher_now(struct tlog_publisher *p)
{
    pthread_mutex_lock(&p->lock);
    p->now = p->pending_size > p->published;
    p->idle = false;
    pthread_cond_signal(&p->work);
    pthread_mutex_unlock(&p->lock);
}

uint64_t tlog_publisher_size(struct tlog_publisher *p)
{
    pthread_mutex_lock(&p->lock);
    uint64_t size = p->published;
    pthread_mutex_unlock(&p->lock);
    return size;
}
