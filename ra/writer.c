/* The store thread. All writes that wait become one transaction with one flush; each is undone
 * alone when it is refused, all together when the store fails. Only after the commit are they made
 * visible in memory and answered: what a client was told survives a crash. A crash before the commit
 * leaves nothing; one between commit and answer leaves a change that nobody was told of, which is a
 * token spent or an account that expires by itself. */
#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include "ra/store.h"
#include <string.h>

#define BATCH_MAX 512 /* ops of one transaction */

/* --- one batch ------------------------------------------------------------------------------------------- */

/* -1: the store failed, with its word in e, and the whole batch goes. A refusal of this op alone is in
 * op->err. */
static int write_one(struct ra *ra, struct op *op, struct err *e)
{
    if (store_mark(ra->store, e) < 0)
        return -1;
    int rc = op->write(op, ra->store, &op->err);
    if (store_failed(ra->store)) { /* there may be no savepoint left */
        *e = op->err;
        return -1;
    }
    if (rc == 0)
        err_clear(&op->err);
    return store_release(ra->store, rc == 0, e);
}

static int write_batch(struct ra *ra, struct op *list, struct err *e)
{
    if (store_begin(ra->store, e) < 0)
        return -1;
    for (struct op *op = list; op; op = op->next)
        if (write_one(ra, op, e) < 0)
            return -1;
    return store_commit(ra->store, e);
}

static void run_batch(struct ra *ra, struct op *list)
{
    struct err e = {0};
    bool ok = write_batch(ra, list, &e) == 0;
    if (!ok)
        store_rollback(ra->store);
    if (ok == ra->writer.failing) { /* told when it changes, not with every batch */
        if (ok)
            log_info("the registration store takes changes again", NULL);
        else
            log_err(LOG_ERROR, "the registration store takes no changes", &e);
        ra->writer.failing = !ok;
    }
    atomic_store(&ra->store_bytes, store_bytes(ra->store));
    for (struct op *op = list, *next; op; op = next) {
        next = op->next;
        const struct err refused = op->err;
        if (!ok)
            op->done(op, ra, &e);
        else
            op->done(op, ra, refused.code != ERR_NONE ? &refused : NULL);
    }
}

/* --- the queue ---------------------------------------------------------------------------------------------- */

static struct op *take_batch(struct ra *ra)
{
    struct op *list = ra->writer.head, *last = NULL;
    size_t n = 0;
    for (struct op *op = list; op && n < BATCH_MAX; op = op->next, n++)
        last = op;
    if (!last)
        return NULL;
    ra->writer.head = last->next;
    if (!last->next)
        ra->writer.tail = NULL;
    last->next = NULL;
    ra->writer.count -= n;
    return list;
}

static void wait_until(struct ra *ra, int64_t mono_ms)
{
    cond_wait_until(&ra->writer.wake, &ra->writer.lock, mono_ms);
}

static void *writer_run(void *arg)
{
    struct ra *ra = arg;
    int64_t next_sweep = clock_mono_ms() + RA_SWEEP_MS;
    bool sweeping = false;
    uint64_t wanted = 0;
    pthread_mutex_lock(&ra->writer.lock);
    for (;;) {
        bool asked = ra->writer.sweeps_wanted > ra->writer.sweeps_done;
        if (!ra->writer.head && !ra->writer.stop && !sweeping && !asked && clock_mono_ms() < next_sweep) {
            wait_until(ra, next_sweep);
            continue;
        }
        struct op *list = take_batch(ra);
        if (!list && ra->writer.stop)
            break;
        if (!sweeping && (asked || clock_mono_ms() >= next_sweep)) {
            wanted = ra->writer.sweeps_wanted;
            ra->writer.at_sessions = ra->writer.at_tokens = 0;
            sweeping = true;
        }
        pthread_mutex_unlock(&ra->writer.lock);
        if (list)
            run_batch(ra, list);
        bool finished = sweeping && !sweep_step(ra);
        pthread_mutex_lock(&ra->writer.lock);
        if (finished) {
            sweeping = false;
            next_sweep = clock_mono_ms() + RA_SWEEP_MS;
            ra->writer.sweeps_done = wanted;
            pthread_cond_broadcast(&ra->writer.swept);
        }
    }
    /* Nobody waits for a sweep that will not come. */
    ra->writer.sweeps_done = ra->writer.sweeps_wanted;
    pthread_cond_broadcast(&ra->writer.swept);
    pthread_mutex_unlock(&ra->writer.lock);
    return NULL;
}

int writer_push(struct ra *ra, struct op *op, struct err *e)
{
    int rc = 0;
    op->next = NULL;
    err_clear(&op->err);
    pthread_mutex_lock(&ra->writer.lock);
    if (ra->writer.stop || !ra->writer.running) {
        rc = err_set(e, ERR_UNAVAILABLE, "stopping", "this server is stopping; try again in a moment");
    } else if (ra->writer.count >= RA_OPS_MAX) {
        rc = err_set(e, ERR_UNAVAILABLE, "store-queue", "%d changes wait for the disk already; try again later",
                     RA_OPS_MAX);
    } else {
        if (ra->writer.tail)
            ra->writer.tail->next = op;
        else
            ra->writer.head = op;
        ra->writer.tail = op;
        ra->writer.count++;
        pthread_cond_signal(&ra->writer.wake);
    }
    pthread_mutex_unlock(&ra->writer.lock);
    return rc;
}

void writer_sweep(struct ra *ra)
{
    pthread_mutex_lock(&ra->writer.lock);
    uint64_t mine = ++ra->writer.sweeps_wanted;
    pthread_cond_signal(&ra->writer.wake);
    while (ra->writer.running && !ra->writer.stop && ra->writer.sweeps_done < mine)
        pthread_cond_wait(&ra->writer.swept, &ra->writer.lock);
    pthread_mutex_unlock(&ra->writer.lock);
}

int writer_start(struct ra *ra, struct err *e)
{
    if (thread_start(&ra->writer.thread, writer_run, ra, "the store's thread", e) < 0)
        return -1;
    pthread_mutex_lock(&ra->writer.lock);
    ra->writer.running = true;
    pthread_mutex_unlock(&ra->writer.lock);
    return 0;
}

void writer_stop(struct ra *ra)
{
    pthread_mutex_lock(&ra->writer.lock);
    bool running = ra->writer.running && !ra->writer.stop;
    ra->writer.stop = true;
    pthread_cond_broadcast(&ra->writer.wake);
    pthread_cond_broadcast(&ra->writer.swept);
    pthread_mutex_unlock(&ra->writer.lock);
    if (running)
        pthread_join(ra->writer.thread, NULL);
}
