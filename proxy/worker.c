/* A thread: its loop, its listeners, its limits. Others speak to it through flags and an eventfd alone.
 *
 * Handshake floods: a handshake that waits for its peer costs memory and no thread, `max_handshakes` of them at once.
 * When all places are taken, a slow one makes room (admission.c); if there is none, nobody new is accepted for a moment,
 * and the kernel's queue keeps them. */
#include "base/clock.h"
#include "base/thread.h"
#include "proxy/internal.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define ACCEPT_BURST 64
#define QUEUE_BURSTS 64   /* of what waits when draining begins: as many as the kernel's queue holds */
#define RETRY_MS 20       /* until a paused listener is tried again */
#define REFUSALS_LOGGED 10 /* each second and worker; the others are counted and told of */
#define TIDY_S 2

/* --- connections of one address ---------------------------------------------------------------------------------- */

/* An IPv6 host has a whole /64. */
int address_slot(const struct sockaddr *sa)
{
    if (sa->sa_family != AF_INET && sa->sa_family != AF_INET6)
        return -1;
    const uint8_t *p = (const uint8_t *)sa;
    size_t from = sa->sa_family == AF_INET ? 4 : 8, n = sa->sa_family == AF_INET ? 4 : 8;
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < n; i++)
        h = (h ^ p[from + i]) * 16777619u;
    return (int)((h ^ h >> 15) % ADDRESS_SLOTS);
}

struct address_count *address_count_new(void)
{
    return calloc(1, sizeof(struct address_count));
}

bool address_count_add(struct listener *l, const struct sockaddr *sa)
{
    pthread_mutex_lock(&l->lock);
    unsigned *n = &l->per_address->n[address_slot(sa)];
    bool room = *n < l->conf->max_per_address;
    *n += room;
    pthread_mutex_unlock(&l->lock);
    return room;
}

void address_count_drop(struct listener *l, const struct sockaddr *sa)
{
    pthread_mutex_lock(&l->lock);
    l->per_address->n[address_slot(sa)]--;
    pthread_mutex_unlock(&l->lock);
}

/* --- listeners --------------------------------------------------------------------------------------------------- */

static void door_pause(struct door *d)
{
    const struct timeval t = {0, RETRY_MS * 1000};
    if (d->paused)
        return;
    d->paused = true;
    event_del(&d->ev);
    event_add(&d->retry, &t);
}

static void on_retry(int fd, short what, void *arg)
{
    struct door *d = arg;
    d->paused = false;
    event_add(&d->ev, NULL);
}

/* Whether there may be more. */
static bool accept_burst(struct door *d)
{
    for (int i = 0; i < ACCEPT_BURST; i++) {
        union pp2_addr from;
        struct conn *victim = NULL;
        struct err why;
        socklen_t n = sizeof from;
        memset(&from, 0, sizeof from); /* all of it: an unnamed Unix socket's path goes into PROXY headers */
        if (atomic_load(&d->l->connections) >= d->l->conf->max_connections || !admission_room(d, &victim)) {
            door_pause(d);
            return false;
        }
        int c = accept4(d->fd, &from.sa, &n, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (c < 0 && (errno == EINTR || errno == ECONNABORTED))
            continue;
        if (c < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)) {
            if (worker_may_log(d->w))
                log_warn("cannot accept: out of descriptors or memory; raise LimitNOFILE or lower max_connections", "listener",
                         d->l->conf->name, NULL);
            door_pause(d);
            return false;
        }
        if (c < 0)
            return false;
        if (victim) { /* not before: perhaps nobody was waiting */
            err_set(&why, ERR_RATE, "evicted", "too many handshakes at once; this was too slow");
            conn_fail(victim, FAIL_EVICTED, &why);
        }
        conn_accept(d, c, &from);
    }
    return true;
}

static void on_accept(int fd, short what, void *arg)
{
    accept_burst(arg);
}

int worker_open(struct worker *w, struct door *d, struct listener *l, int fd, struct err *e)
{
    *d = (struct door){.l = l, .w = w, .fd = fd, .crowd = address_count_new()};
    if (!d->crowd)
        return err_set(e, ERR_INTERNAL, "memory", "out of memory");
    if (event_assign(&d->ev, w->base, fd, EV_READ | EV_PERSIST, on_accept, d) < 0 ||
        event_assign(&d->retry, w->base, -1, 0, on_retry, d) < 0)
        return err_set(e, ERR_INTERNAL, "event", "cannot watch a listener");
    return 0;
}

static void doors_open(struct worker *w)
{
    for (size_t i = 0; i < w->doors_count; i++)
        if (w->doors[i].fd >= 0 && !w->doors[i].paused)
            event_add(&w->doors[i].ev, NULL);
}

/* Whoever waits in the kernel's queue has connected already, and would be reset. */
static void doors_empty(struct worker *w)
{
    for (size_t i = 0; i < w->doors_count; i++) {
        struct door *d = &w->doors[i];
        for (int n = 0; d->fd >= 0 && !d->paused && n < QUEUE_BURSTS && accept_burst(d); n++)
            ;
    }
}

static void doors_close(struct worker *w)
{
    for (size_t i = 0; i < w->doors_count; i++) {
        struct door *d = &w->doors[i];
        if (d->fd < 0)
            continue;
        event_del(&d->ev);
        event_del(&d->retry);
        close(d->fd);
        d->fd = -1;
    }
}

/* --- what others want ------------------------------------------------------------------------------------------- */

static void review_list(struct conn_list *l, struct trust *now)
{
    for (struct conn *c = l->first, *next; c; c = next) {
        next = c->next;
        if (!c->l->conf->close_revoked || !c->peer || !trust_revoked(now, c->peer))
            continue;
        log_warn("connection closed: its peer was revoked", "listener", c->l->conf->name, "peer", c->peer->id, NULL);
        conn_end(c, END_REVOKED);
    }
}

/* Also of those who were judged and wait for their upstream. */
static void review(struct worker *w)
{
    struct creds *now = proxy_creds(w->p);
    if (!now)
        return;
    review_list(&w->conns, now->trust);
    review_list(&w->handshakes, now->trust);
    creds_unref(now);
}

static bool revoked_matter(const struct proxy *p)
{
    for (size_t i = 0; i < p->n; i++)
        if (p->listeners[i].conf->close_revoked)
            return true;
    return false;
}

static void end_all(struct worker *w)
{
    while (w->handshakes.first)
        conn_end(w->handshakes.first, END_DRAINED);
    while (w->conns.first)
        conn_end(w->conns.first, END_DRAINED);
}

/* The first worker goes last: it hears the drain timer and a second signal. */
static void end_if_idle(struct worker *w)
{
    struct proxy *p = w->p;
    if (!w->draining || w->conns.first || w->handshakes.first)
        return;
    for (unsigned i = 1; w->number == 0 && i < p->threads; i++)
        if (p->workers[i].started && !atomic_load(&p->workers[i].done))
            return;
    event_base_loopbreak(w->base);
}

static void on_wake(int fd, short what, void *arg)
{
    struct worker *w = arg;
    uint64_t n;
    while (read(fd, &n, sizeof n) > 0)
        ;
    if (atomic_exchange(&w->want_review, false)) { /* while draining too, which may take long: closed doors stay closed */
        doors_open(w);
        if (revoked_matter(w->p))
            review(w);
    }
    if (atomic_exchange(&w->want_drain, false)) {
        doors_empty(w);
        w->draining = true;
        doors_close(w);
    }
    if (atomic_exchange(&w->want_stop, false)) {
        w->draining = true;
        doors_close(w);
        end_all(w);
    }
    end_if_idle(w);
}

void worker_wake(struct worker *w)
{
    const uint64_t one = 1;
    while (write(w->wake_fd, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

void worker_slot_free(struct worker *w, struct conn *c)
{
    struct door *d = c->door;
    if (d->paused && d->fd >= 0) { /* a place is free: do not wait for the retry */
        event_del(&d->retry);
        d->paused = false;
        event_add(&d->ev, NULL);
    }
    end_if_idle(w);
}

bool worker_may_log(struct worker *w)
{
    int64_t now = clock_mono_ms() / 1000;
    if (now != w->log_second) {
        if (w->log_silent)
            log_warn("more refusals than are logged", "silent", log_num(w->log_silent), NULL);
        w->log_second = now;
        w->log_count = w->log_silent = 0;
    }
    if (w->log_count++ < REFUSALS_LOGGED)
        return true;
    w->log_silent++;
    return false;
}

/* When handshakes have ceased for a while, what they needed of the libraries' code is given back. */
static void on_tidy(int fd, short what, void *arg)
{
    struct worker *w = arg;
    if (w->handshakes_done == w->tidied || w->handshakes.n)
        return;
    if (w->number == 0 && w->p->threads == 1)
        memory_give_back();
    w->tidied = w->handshakes_done;
}

/* --- a worker --------------------------------------------------------------------------------------------------- */

static struct event_base *base_new(void)
{
    struct event_config *c = event_config_new();
    if (!c)
        return NULL;
    event_config_set_flag(c, EVENT_BASE_FLAG_NOLOCK);
    struct event_base *b = event_base_new_with_config(c);
    event_config_free(c);
    return b;
}

int worker_init(struct worker *w, struct proxy *p, unsigned number, struct err *e)
{
    const struct timeval tidy = {TIDY_S, 0};
    w->p = p;
    w->number = number;
    w->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    w->base = base_new();
    w->verdicts = verdicts_new();
    w->in = malloc(SCRATCH_IN);
    w->plain = malloc(SCRATCH_PLAIN);
    w->out = malloc(SCRATCH_OUT);
    if (w->wake_fd < 0 || !w->base || !w->verdicts || !w->in || !w->plain || !w->out ||
        event_assign(&w->wake, w->base, w->wake_fd, EV_READ | EV_PERSIST, on_wake, w) < 0 || event_add(&w->wake, NULL) < 0 ||
        event_assign(&w->tidy, w->base, -1, EV_PERSIST, on_tidy, w) < 0 || event_add(&w->tidy, &tidy) < 0)
        return err_set(e, ERR_INTERNAL, "event", "cannot make an event loop: out of memory or descriptors");
    return 0;
}

static void *run(void *arg)
{
    struct worker *w = arg;
    event_base_dispatch(w->base);
    end_all(w);
    atomic_store(&w->done, true);
    worker_wake(&w->p->workers[0]);
    return NULL;
}

int worker_start(struct worker *w, struct err *e)
{
    if (thread_start(&w->thread, run, w, "a worker", e) < 0)
        return -1;
    w->started = true;
    return 0;
}

void worker_free(struct worker *w)
{
    if (w->base) {
        end_all(w);
        doors_close(w);
        event_del(&w->wake);
        event_del(&w->tidy);
        event_base_free(w->base);
    }
    for (size_t i = 0; i < w->doors_count; i++)
        free(w->doors[i].crowd);
    if (w->wake_fd >= 0)
        close(w->wake_fd);
    verdicts_free(w->verdicts);
    free(w->in);
    free(w->plain);
    free(w->out);
}
