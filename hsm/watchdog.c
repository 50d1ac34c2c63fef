/* The watchdog. A PKCS#11 call cannot be cancelled, so one that does not come back ends the
 * process: whoever waits for a signature gets an end rather than silence, and the parent starts
 * the signer again. A crash here leaves what any crash leaves; start-up is recovery. */
#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include "hsm/internal.h"
#include <stdlib.h>
#include <unistd.h>

#define LOOK_EVERY_MS 250
#define IDLE_LOOKS 8 /* then sleep until a call begins */

static bool dog_look(struct hsm_watchdog *d)
{
    int64_t now = clock_mono_ms();
    bool any = false;
    for (unsigned i = 0; i < d->n; i++) {
        int64_t deadline = atomic_load(&d->calls[i].deadline);
        if (deadline == 0)
            continue;
        any = true;
        if (now <= deadline)
            continue;
        const char *what = atomic_load(&d->calls[i].what);
        log_error("a PKCS#11 call hangs; ending the process so that it can start again", "rule",
                  "hsm-hung", "call", what ? what : "?", "over_deadline_ms", log_num(now - deadline),
                  NULL);
        _exit(HSM_EXIT_HUNG);
    }
    return any;
}

/* Sleeps until a call begins. `asleep` is set before the last look and a call's deadline before
 * its begin looks at `asleep` (both sequentially consistent): one of the two sees the other. */
static void dog_sleep(struct hsm_watchdog *d)
{
    atomic_store(&d->asleep, true);
    if (!dog_look(d))
        while (!d->stop && atomic_load(&d->asleep))
            pthread_cond_wait(&d->cond, &d->lock);
    atomic_store(&d->asleep, false);
}

static void *dog_main(void *arg)
{
    struct hsm_watchdog *d = arg;
    unsigned idle = 0;
    pthread_mutex_lock(&d->lock);
    while (!d->stop) {
        idle = dog_look(d) ? 0 : idle + 1;
        if (idle > IDLE_LOOKS) {
            dog_sleep(d);
            idle = 0;
            continue;
        }
        cond_wait_until(&d->cond, &d->lock, clock_mono_ms() + LOOK_EVERY_MS);
    }
    pthread_mutex_unlock(&d->lock);
    return NULL;
}

int hsm_watchdog_start(struct hsm_watchdog *d, unsigned calls, struct err *e)
{
    d->calls = aligned_alloc(_Alignof(struct hsm_call), calls * sizeof(*d->calls));
    if (!d->calls)
        return err_set(e, ERR_INTERNAL, "memory", "out of memory for the watchdog");
    memset(d->calls, 0, calls * sizeof(*d->calls));
    d->n = calls;
    pthread_mutex_init(&d->lock, NULL);
    cond_init_mono(&d->cond);
    if (thread_start(&d->thread, dog_main, d, "the watchdog's thread", e) < 0) {
        pthread_cond_destroy(&d->cond);
        pthread_mutex_destroy(&d->lock);
        free(d->calls);
        d->calls = NULL;
        return -1;
    }
    d->started = true;
    return 0;
}

void hsm_watchdog_stop(struct hsm_watchdog *d)
{
    if (!d->started)
        return;
    pthread_mutex_lock(&d->lock);
    d->stop = true;
    pthread_cond_signal(&d->cond);
    pthread_mutex_unlock(&d->lock);
    pthread_join(d->thread, NULL);
    pthread_cond_destroy(&d->cond);
    pthread_mutex_destroy(&d->lock);
    free(d->calls);
    memset(d, 0, sizeof(*d));
}

void hsm_call_begin(struct hsm_watchdog *d, struct hsm_call *c, const char *what, unsigned ms)
{
    atomic_store_explicit(&c->what, what, memory_order_relaxed);
    atomic_store(&c->deadline, clock_mono_ms() + ms);
    if (!atomic_load(&d->asleep))
        return;
    pthread_mutex_lock(&d->lock);
    atomic_store(&d->asleep, false);
    pthread_cond_signal(&d->cond);
    pthread_mutex_unlock(&d->lock);
}

void hsm_call_end(struct hsm_call *c)
{
    atomic_store_explicit(&c->deadline, 0, memory_order_release);
}
