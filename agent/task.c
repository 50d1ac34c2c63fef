/* Queues of tasks with threads of their own, and the way back to the loop: an eventfd that the loop reads. */
#include "agent/daemon.h"
#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define QUEUE_THREADS_MAX 8
#define OLDEST_EVERY 4 /* of so many taken one is the oldest: nobody fills a queue so that another's task never comes */

struct list {
    struct task *first, *last;
};

static void append(struct list *l, struct task *t)
{
    t->next = NULL;
    if (l->last)
        l->last->next = t;
    else
        l->first = t;
    l->last = t;
}

/* --- back to the loop --------------------------------------------------------------------------------------------- */

struct post {
    pthread_mutex_t lock; /* guards back */
    struct list back;
    int fd;
    struct event *event;
};

static void run_back(struct post *p)
{
    pthread_mutex_lock(&p->lock);
    struct task *t = p->back.first;
    p->back = (struct list){NULL, NULL};
    pthread_mutex_unlock(&p->lock);
    while (t) {
        struct task *next = t->next;
        t->done(t);
        t = next;
    }
}

static void on_back(evutil_socket_t fd, short what, void *arg)
{
    uint64_t n;
    while (read(fd, &n, sizeof n) < 0 && errno == EINTR)
        ;
    run_back(arg);
}

struct post *post_new(struct event_base *base, struct err *e)
{
    struct post *p = calloc(1, sizeof *p);
    if (!p) {
        err_set(e, ERR_INTERNAL, "memory", "out of memory");
        return NULL;
    }
    pthread_mutex_init(&p->lock, NULL);
    p->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (p->fd >= 0)
        p->event = event_new(base, p->fd, EV_READ | EV_PERSIST, on_back, p);
    if (!p->event || event_add(p->event, NULL) < 0) {
        err_errno(e, "event", "cannot make an eventfd");
        post_free(p);
        return NULL;
    }
    return p;
}

static void post_put(struct post *p, struct task *t)
{
    const uint64_t one = 1;
    pthread_mutex_lock(&p->lock);
    append(&p->back, t);
    pthread_mutex_unlock(&p->lock);
    while (write(p->fd, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

void post_free(struct post *p)
{
    if (!p)
        return;
    run_back(p);
    if (p->event)
        event_free(p->event);
    if (p->fd >= 0)
        close(p->fd);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

/* --- queues ---------------------------------------------------------------------------------------------------------- */

struct queue {
    pthread_mutex_t lock; /* guards all below but threads */
    pthread_cond_t cond;
    struct task *first;   /* by priority, in order of coming */
    size_t waiting;
    uint64_t put, taken;  /* so many since it was made */
    bool stop;
    struct post *post; /* not owned */
    pthread_t threads[QUEUE_THREADS_MAX];
    unsigned threads_count;
};

static struct task **next_one(struct queue *q)
{
    struct task **at = &q->first;
    if (++q->taken % OLDEST_EVERY == 0)
        for (struct task **x = at; *x; x = &(*x)->next)
            if ((*x)->number < (*at)->number)
                at = x;
    return at;
}

static struct task *take(struct queue *q)
{
    struct task *t = NULL;
    pthread_mutex_lock(&q->lock);
    while (!q->first && !q->stop)
        pthread_cond_wait(&q->cond, &q->lock);
    if (!q->stop) {
        struct task **at = next_one(q);
        t = *at;
        *at = t->next;
        q->waiting--;
    }
    pthread_mutex_unlock(&q->lock);
    return t;
}

static void *run(void *arg)
{
    struct queue *q = arg;
    for (struct task *t; (t = take(q));) {
        t->work(t);
        t->worked = true;
        post_put(q->post, t);
    }
    return NULL;
}

struct queue *queue_new(struct post *p, unsigned threads, const char *what, struct err *e)
{
    struct queue *q = calloc(1, sizeof *q);
    if (!q) {
        err_set(e, ERR_INTERNAL, "memory", "out of memory");
        return NULL;
    }
    pthread_mutex_init(&q->lock, NULL);
    cond_init_mono(&q->cond);
    q->post = p;
    for (; q->threads_count < threads && q->threads_count < QUEUE_THREADS_MAX; q->threads_count++)
        if (thread_start(&q->threads[q->threads_count], run, q, what, e) < 0) {
            queue_free(q);
            return NULL;
        }
    return q;
}

void queue_put(struct queue *q, struct task *t)
{
    pthread_mutex_lock(&q->lock);
    struct task **at = &q->first;
    while (*at && (*at)->priority <= t->priority)
        at = &(*at)->next;
    t->next = *at;
    t->number = q->put++;
    *at = t;
    q->waiting++;
    pthread_cond_signal(&q->cond);
    pthread_mutex_unlock(&q->lock);
}

size_t queue_waiting(struct queue *q)
{
    pthread_mutex_lock(&q->lock);
    size_t n = q->waiting;
    pthread_mutex_unlock(&q->lock);
    return n;
}

void queue_stop(struct queue *q)
{
    pthread_mutex_lock(&q->lock);
    q->stop = true;
    pthread_cond_broadcast(&q->cond);
    pthread_mutex_unlock(&q->lock);
    for (; q->threads_count > 0; q->threads_count--)
        pthread_join(q->threads[q->threads_count - 1], NULL);
    for (struct task *t = q->first, *next; t; t = next) {
        next = t->next;
        post_put(q->post, t);
    }
    q->first = NULL;
    q->waiting = 0;
}

void queue_free(struct queue *q)
{
    if (!q)
        return;
    queue_stop(q);
    pthread_cond_destroy(&q->cond);
    pthread_mutex_destroy(&q->lock);
    free(q);
}
