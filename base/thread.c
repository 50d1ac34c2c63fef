#include "base/thread.h"
#include <errno.h>
#include <signal.h>
#include <string.h>

int thread_start(pthread_t *t, void *(*run)(void *arg), void *arg, const char *what, struct err *e)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int rc = pthread_create(t, NULL, run, arg);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return rc == 0 ? 0 : err_set(e, ERR_INTERNAL, "thread", "cannot start %s: %s", what, strerror(rc));
}

void cond_init_mono(pthread_cond_t *c)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(c, &attr);
    pthread_condattr_destroy(&attr);
}

bool cond_wait_until(pthread_cond_t *c, pthread_mutex_t *lock, int64_t until_ms)
{
    const struct timespec t = {.tv_sec = until_ms / 1000, .tv_nsec = until_ms % 1000 * 1000000L};
    if (until_ms == INT64_MAX)
        return pthread_cond_wait(c, lock) == 0;
    return pthread_cond_timedwait(c, lock, &t) != ETIMEDOUT;
}
