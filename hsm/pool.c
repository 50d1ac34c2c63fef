/* The session pool: as many read-only sessions as threads sign at once, opened at start-up and
 * never opened again (a session that fails is the end of the process). Login belongs to the
 * application (PKCS#11 v3.0 §5.6), so one C_Login on any of them logs in all, and it holds as long
 * as one is open. */
#include "hsm/internal.h"
#include "base/clock.h"
#include "base/thread.h"
#include <stdlib.h>

static void pool_init(struct hsm_pool *p)
{
    pthread_mutex_init(&p->lock, NULL);
    cond_init_mono(&p->cond);
    p->ready = true;
}

int hsm_pool_open(struct hsm *h, unsigned sessions, struct err *e)
{
    struct hsm_pool *p = &h->pool;
    p->all = calloc(sessions, sizeof(*p->all));
    if (!p->all)
        return err_set(e, ERR_INTERNAL, "memory", "out of memory for %u sessions", sessions);
    pool_init(p);
    for (unsigned i = 0; i < sessions; i++) {
        struct hsm_session *s = &p->all[i];
        hsm_slow_begin(h, "C_OpenSession");
        CK_RV rv = h->module.f->C_OpenSession(h->slot, CKF_SERIAL_SESSION, NULL, NULL, &s->handle);
        hsm_slow_end(h);
        if (rv != CKR_OK) {
            hsm_fail(e, "hsm-sessions", rv, "opening a session");
            if (rv == CKR_SESSION_COUNT)
                err_wrap(e, "the token gives no more than %u sessions and %u are asked for; "
                            "lower the number of signing threads or close what else uses it", i, sessions);
            return -1;
        }
        s->call = &h->dog.calls[1 + i];
        s->next = p->free;
        p->free = s;
        p->n++;
    }
    return 0;
}

void hsm_pool_close(struct hsm *h)
{
    struct hsm_pool *p = &h->pool;
    if (!p->ready)
        return;
    hsm_slow_begin(h, "C_CloseSession");
    for (unsigned i = 0; i < p->n; i++)
        h->module.f->C_CloseSession(p->all[i].handle);
    hsm_slow_end(h);
    pthread_cond_destroy(&p->cond);
    pthread_mutex_destroy(&p->lock);
    free(p->all);
    memset(p, 0, sizeof(*p));
}

struct hsm_session *hsm_pool_take(struct hsm *h, struct err *e)
{
    struct hsm_pool *p = &h->pool;
    pthread_mutex_lock(&p->lock);
    if (!p->free) {
        const int64_t until = clock_mono_ms() + h->call_timeout_ms;
        p->waiters++;
        while (!p->free && cond_wait_until(&p->cond, &p->lock, until))
            ;
        p->waiters--;
    }
    struct hsm_session *s = p->free;
    if (s)
        p->free = s->next;
    pthread_mutex_unlock(&p->lock);
    if (!s)
        err_set(e, ERR_UNAVAILABLE, "hsm-busy",
                "all %u sessions of the token were busy for %u ms; try again later", p->n,
                h->call_timeout_ms);
    return s;
}

void hsm_pool_give(struct hsm *h, struct hsm_session *s)
{
    struct hsm_pool *p = &h->pool;
    pthread_mutex_lock(&p->lock);
    s->next = p->free;
    p->free = s;
    bool wake = p->waiters > 0;
    pthread_mutex_unlock(&p->lock);
    if (wake)
        pthread_cond_signal(&p->cond);
}
