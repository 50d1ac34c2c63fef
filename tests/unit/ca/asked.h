/* Somebody who asked the signer and waits for the answer. */
#ifndef UNIT_CA_ASKED_H
#define UNIT_CA_ASKED_H
#include "base/err.h"
#include <pthread.h>
#include <stdbool.h>

struct asked {
    pthread_mutex_t lock;
    pthread_cond_t come;
    bool done;
    struct err e; /* ERR_NONE: not refused */
};

static inline void asked_begin(struct asked *a)
{
    *a = (struct asked){.done = false};
    pthread_mutex_init(&a->lock, NULL);
    pthread_cond_init(&a->come, NULL);
}

/* In the callback, when all else of the answer is written down. */
static inline void asked_settle(struct asked *a, const struct err *e)
{
    pthread_mutex_lock(&a->lock);
    if (e)
        a->e = *e;
    a->done = true;
    pthread_cond_signal(&a->come);
    pthread_mutex_unlock(&a->lock);
}

static inline void asked_wait(struct asked *a)
{
    pthread_mutex_lock(&a->lock);
    while (!a->done)
        pthread_cond_wait(&a->come, &a->lock);
    pthread_mutex_unlock(&a->lock);
}

#endif
