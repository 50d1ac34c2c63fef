/* The signer, as seen from the other process.
 *
 * Pending requests stand in a fixed table of slots, linked in the order they were asked; since
 * every deadline is the same distance away, that is also the order in which they expire. An answer
 * finds its slot by the low bits of its id. Requests are sent in that order too, so the list is a
 * run of sent ones followed by a run of unsent ones (`unsent` is its first).
 *
 * One lock covers everything but the callbacks. Sending happens under it, so it must never block.
 * What was sent and not yet answered is kept below the socket's own queue (`room_for`), and the
 * rest waits here. That count is an estimate: a request that expired still lies in the queue of a
 * signer that does not read. So a full queue is no error either: the thread tries again.
 *
 * What the signer says is in client_answer.c. */
#include "ca/client_parts.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define SLOT_BITS 13
_Static_assert(1 << SLOT_BITS == CA_CLIENT_PENDING_MAX, "a slot's number stands in its id");
#define NONE UINT16_MAX

#define INFO_EVERY_MS 1000
#define ANSWERING_MS 7000   /* without an answer for this long, the signer is not ready; it may wait 6 s for witnesses */
#define BACKOFF_MIN_MS 10
#define BACKOFF_MAX_MS 500
#define FRAME_OVERHEAD 1024 /* what the kernel charges a queued frame beside twice its length */

static size_t frame_cost(const struct slot *s)
{
    return 2 * s->frame.len + FRAME_OVERHEAD;
}

/* --- the list; lock held ------------------------------------------------------------------------ */

static void list_append(struct ca_client *c, uint16_t i)
{
    c->slots[i].next = NONE;
    c->slots[i].prev = c->tail;
    if (c->tail != NONE)
        c->slots[c->tail].next = i;
    else
        c->head = i;
    c->tail = i;
    if (c->unsent == NONE)
        c->unsent = i;
}

static bool was_sent(const struct ca_client *c, const struct slot *s)
{
    /* ids ascend along the list, and the sent ones stand before `unsent` */
    return c->unsent == NONE || s->id >> SLOT_BITS < c->slots[c->unsent].id >> SLOT_BITS;
}

static void list_remove(struct ca_client *c, uint16_t i)
{
    struct slot *s = &c->slots[i];
    if (was_sent(c, s))
        c->in_flight -= frame_cost(s);
    if (c->unsent == i)
        c->unsent = s->next;
    if (s->prev != NONE)
        c->slots[s->prev].next = s->next;
    else
        c->head = s->next;
    if (s->next != NONE)
        c->slots[s->next].prev = s->prev;
    else
        c->tail = s->prev;
    s->id = 0;
    s->next = c->free_slot;
    c->free_slot = i;
}

static bool room_for(const struct ca_client *c, const struct slot *s)
{
    return c->in_flight == 0 || c->in_flight + frame_cost(s) <= c->queue_max;
}

/* Sends what may be sent. A broken connection is noticed by the thread, which sends all again; what
 * a full queue did not take is sent when the thread next looks, or an answer comes. */
static void send_waiting(struct ca_client *c)
{
    while (c->fd >= 0 && c->unsent != NONE && room_for(c, &c->slots[c->unsent])) {
        struct slot *s = &c->slots[c->unsent];
        struct err e = {0};
        bool sent;
        if (ipc_try_send(c->fd, &s->frame, &sent, &e) < 0)
            shutdown(c->fd, SHUT_RDWR);
        if (!sent)
            return;
        c->in_flight += frame_cost(s);
        c->unsent = s->next;
    }
}

struct question { /* one of the four */
    const struct ca_issue *issue;
    const struct ca_record *record;
    const struct ca_crl *crl;
    const struct ca_jwt *jwt;
};

static void question_write(struct buf *frame, uint64_t id, const struct question *q)
{
    if (q->issue)
        ca_issue_write(frame, id, q->issue);
    else if (q->record)
        ca_record_write(frame, id, q->record);
    else if (q->jwt)
        ca_jwt_write(frame, id, q->jwt);
    else
        ca_crl_write(frame, id, q->crl);
}

static int ask(struct ca_client *c, const struct question *q, const struct slot *call, struct err *e)
{
    int r = 0;
    pthread_mutex_lock(&c->lock);
    uint16_t i = c->free_slot;
    if (c->stop) {
        r = err_set(e, ERR_UNAVAILABLE, "signer-away", "this server is stopping");
        goto out;
    }
    if (i == NONE) {
        r = err_set(e, ERR_UNAVAILABLE, "signer-queue",
                    "%d requests wait for the signer already; try again later",
                    CA_CLIENT_PENDING_MAX);
        goto out;
    }
    struct slot *s = &c->slots[i];
    uint64_t id = (c->last_id + 1) << SLOT_BITS | i;
    question_write(&s->frame, id, q);
    if (s->frame.failed) {
        r = err_set(e, ERR_TOO_LARGE, "ca-msg", "a field of the request to the signer is over its bound");
        goto out;
    }
    c->last_id++;
    c->free_slot = s->next;
    s->id = id;
    s->issue = call->issue;
    s->record = call->record;
    s->crl = call->crl;
    s->jwt = call->jwt;
    s->arg = call->arg;
    s->deadline = clock_mono_ms() + c->deadline_ms;
    list_append(c, i);
    send_waiting(c);
out:
    pthread_mutex_unlock(&c->lock);
    return r;
}

int ca_client_issue(struct ca_client *c, const struct ca_issue *m, ca_issue_cb *cb, void *arg,
                    struct err *e)
{
    return ask(c, &(struct question){.issue = m}, &(struct slot){.issue = cb, .arg = arg}, e);
}

int ca_client_record(struct ca_client *c, const struct ca_record *m, ca_record_cb *cb, void *arg,
                     struct err *e)
{
    return ask(c, &(struct question){.record = m}, &(struct slot){.record = cb, .arg = arg}, e);
}

int ca_client_crl(struct ca_client *c, const struct ca_crl *m, ca_crl_cb *cb, void *arg, struct err *e)
{
    return ask(c, &(struct question){.crl = m}, &(struct slot){.crl = cb, .arg = arg}, e);
}

int ca_client_jwt(struct ca_client *c, const struct ca_jwt *m, ca_jwt_cb *cb, void *arg, struct err *e)
{
    return ask(c, &(struct question){.jwt = m}, &(struct slot){.jwt = cb, .arg = arg}, e);
}

void client_call_fail(const struct slot *call, const struct err *why)
{
    if (call->issue)
        call->issue(call->arg, NULL, why);
    else if (call->crl)
        call->crl(call->arg, NULL, why);
    else if (call->jwt)
        call->jwt(call->arg, NULL, why);
    else
        call->record(call->arg, 0, why);
}

/* --- the thread --------------------------------------------------------------------------------- */

static void expire(struct ca_client *c, bool all)
{
    int64_t now = clock_mono_ms();
    for (;;) {
        pthread_mutex_lock(&c->lock);
        uint16_t i = c->head;
        if (i == NONE || (!all && c->slots[i].deadline > now)) {
            send_waiting(c);
            pthread_mutex_unlock(&c->lock);
            return;
        }
        const struct slot call = c->slots[i];
        list_remove(c, i);
        pthread_mutex_unlock(&c->lock);
        struct err e = {0};
        err_set(&e, ERR_UNAVAILABLE, "signer-away", "%s",
                all ? "this server is stopping" : "the signer did not answer in time; try again later");
        client_call_fail(&call, &e);
    }
}

bool client_call_take(struct ca_client *c, const struct ipc_frame *f, struct slot *call)
{
    uint16_t i = f->id & (CA_CLIENT_PENDING_MAX - 1);
    pthread_mutex_lock(&c->lock);
    bool there = f->id != INFO_ID && c->slots[i].id == f->id;
    if (there) {
        *call = c->slots[i];
        list_remove(c, i);
        send_waiting(c);
    }
    pthread_mutex_unlock(&c->lock);
    return there;
}

/* Every request that was not answered is sent again: the signer may have died before reading it,
 * or after logging it; the log may then hold it twice, the caller still gets one answer. */
static void connected(struct ca_client *c, int fd)
{
    int size = 0;
    socklen_t len = sizeof size;
    if (getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, &len) < 0 || size < 0)
        size = 0;
    pthread_mutex_lock(&c->lock);
    c->fd = fd;
    c->in_flight = 0;
    c->queue_max = (size_t)size / 4 * 3;
    c->unsent = c->head;
    c->answered_at = 0;
    send_waiting(c);
    pthread_mutex_unlock(&c->lock);
}

static void disconnected(struct ca_client *c)
{
    pthread_mutex_lock(&c->lock);
    close(c->fd);
    c->fd = -1;
    ipc_reader_free(c->reader);
    c->reader = NULL;
    c->in_flight = 0;
    c->unsent = c->head;
    c->answered_at = 0;
    pthread_mutex_unlock(&c->lock);
}

static bool stopping(struct ca_client *c)
{
    pthread_mutex_lock(&c->lock);
    bool stop = c->stop;
    pthread_mutex_unlock(&c->lock);
    return stop;
}

/* How long nothing is due: the next question after the signer's health, or the next deadline. A
 * request that comes while the thread sleeps expires after deadline_ms at the earliest. */
static int quiet_ms(struct ca_client *c, int64_t until)
{
    int64_t now = clock_mono_ms(), end = until;
    pthread_mutex_lock(&c->lock);
    if (c->head != NONE && c->slots[c->head].deadline < end)
        end = c->slots[c->head].deadline;
    pthread_mutex_unlock(&c->lock);
    int64_t wait = end > now ? end - now : 0;
    return (int)(wait < (int64_t)c->deadline_ms ? wait : (int64_t)c->deadline_ms);
}

/* Until the connection is lost or the client stopped. Returns whether the signer answered. */
static bool converse(struct ca_client *c, int fd)
{
    struct bytes frames[IPC_BATCH];
    struct err e = {0};
    int64_t ask_at = 0, asked_at = 0;
    bool answered = false;
    while (!stopping(c)) {
        int64_t now = clock_mono_ms();
        if (now >= ask_at) {
            /* One question at a time, so that a hung signer's queue does not fill with them; the
             * quarter of the queue that requests leave free is room for it. Where that is taken
             * too, the signer has not read for long: asked later, and not ready meanwhile. */
            if (c->answered_at >= asked_at) {
                bool sent;
                ipc_frame_begin(&c->info_frame, CA_INFO, INFO_ID);
                if (ipc_try_send(fd, &c->info_frame, &sent, &e) < 0)
                    return answered;
                if (sent)
                    asked_at = now;
            }
            ask_at = now + INFO_EVERY_MS;
        }
        int n = ipc_recv(c->reader, fd, quiet_ms(c, ask_at), frames, &e);
        if (n == -1)
            log_err(LOG_WARN, "lost the signer", &e);
        if (n < 0)
            return answered;
        for (int i = 0; i < n; i++) {
            if (client_answer(c, frames[i], &e) < 0) {
                log_err(LOG_WARN, "the signer's answer makes no sense; connecting again", &e);
                return answered;
            }
            answered = true;
        }
        expire(c, false);
    }
    return answered;
}

static void backoff(struct ca_client *c, unsigned ms)
{
    int64_t until = clock_mono_ms() + quiet_ms(c, clock_mono_ms() + ms);
    pthread_mutex_lock(&c->lock);
    if (!c->stop)
        cond_wait_until(&c->wake, &c->lock, until);
    pthread_mutex_unlock(&c->lock);
}

static void *client_thread(void *arg)
{
    struct ca_client *c = arg;
    unsigned wait = 0;
    while (!stopping(c)) {
        struct err e = {0};
        int fd = ipc_connect(c->path, &e);
        if (fd >= 0 && !(c->reader = ipc_reader_new(&e))) {
            log_err(LOG_WARN, "cannot read from the signer", &e);
            close(fd);
        } else if (fd >= 0) {
            connected(c, fd);
            if (converse(c, fd))
                wait = 0;
            disconnected(c);
        }
        expire(c, false);
        if (wait)
            backoff(c, wait);
        wait = wait ? wait * 2 : BACKOFF_MIN_MS;
        if (wait > BACKOFF_MAX_MS)
            wait = BACKOFF_MAX_MS;
    }
    return NULL;
}

/* --- life --------------------------------------------------------------------------------------- */

static void free_memory(struct ca_client *c)
{
    for (size_t i = 0; c->slots && i < CA_CLIENT_PENDING_MAX; i++)
        buf_free(&c->slots[i].frame);
    free(c->slots);
    buf_free(&c->info_frame);
    free(c->path);
    free(c);
}

struct ca_client *ca_client_new(const char *socket_path, unsigned deadline_ms, struct err *e)
{
    struct ca_client *c = calloc(1, sizeof *c);
    if (!c)
        goto memory;
    c->path = strdup(socket_path);
    c->slots = calloc(CA_CLIENT_PENDING_MAX, sizeof *c->slots);
    if (!c->path || !c->slots)
        goto memory;
    c->deadline_ms = deadline_ms;
    c->fd = -1;
    c->head = c->tail = c->unsent = NONE;
    buf_init(&c->info_frame, IPC_FRAME_MAX);
    for (uint16_t i = 0; i < CA_CLIENT_PENDING_MAX; i++) {
        buf_init(&c->slots[i].frame, IPC_FRAME_MAX);
        c->slots[i].next = i + 1 < CA_CLIENT_PENDING_MAX ? (uint16_t)(i + 1) : NONE;
    }
    cond_init_mono(&c->wake);
    pthread_mutex_init(&c->lock, NULL);
    if (thread_start(&c->thread, client_thread, c, "the thread that asks the signer", e) == 0)
        return c;
    pthread_cond_destroy(&c->wake);
    pthread_mutex_destroy(&c->lock);
    free_memory(c);
    return NULL;
memory:
    err_set(e, ERR_INTERNAL, "memory", "out of memory for the signer's client");
    if (c)
        free_memory(c);
    return NULL;
}

void ca_client_free(struct ca_client *c)
{
    if (!c)
        return;
    pthread_mutex_lock(&c->lock);
    c->stop = true;
    if (c->fd >= 0)
        shutdown(c->fd, SHUT_RDWR); /* wakes the thread where it receives */
    pthread_cond_signal(&c->wake);
    pthread_mutex_unlock(&c->lock);
    pthread_join(c->thread, NULL);
    expire(c, true);
    pthread_cond_destroy(&c->wake);
    pthread_mutex_destroy(&c->lock);
    free_memory(c);
}

void ca_client_snapshot(struct ca_client *c, struct ca_snapshot *s)
{
    pthread_mutex_lock(&c->lock);
    *s = c->snapshot;
    s->ready = c->fd >= 0 && c->answered_at && clock_mono_ms() - c->answered_at < ANSWERING_MS;
    pthread_mutex_unlock(&c->lock);
}
