/* What every thread of ours needs: a start that leaves signals to the main thread, and waits on the monotonic
 * clock, which nobody sets back. Does not end, join or name threads.
 */
#ifndef BASE_THREAD_H
#define BASE_THREAD_H
#include "base/err.h"
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* All signals blocked in it. what: "the store thread", for the error ("thread", ERR_INTERNAL). */
int thread_start(pthread_t *t, void *(*run)(void *arg), void *arg, const char *what, struct err *e);
void cond_init_mono(pthread_cond_t *c);
/* Of a cond_init_mono one, its lock held. False: clock_mono_ms() has reached until_ms (INT64_MAX: never).
 * True may also mean nothing, as with any condition variable. */
bool cond_wait_until(pthread_cond_t *c, pthread_mutex_t *lock, int64_t until_ms);
#endif
