#include "ca/door.h"
#include "base/clock.h"
#include "base/log.h"
#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

struct caller {
    int fd;
    atomic_uint holders;
    atomic_bool broken;
    bool speaking; /* door_wait saw input */
    struct ipc_reader *reader;
};

struct door {
    int listen_fd, wake_fd, stop_fd; /* not owned */
    uid_t peer_uid;
    struct caller *callers[DOOR_CALLERS_MAX];
    size_t count;
};

void caller_hold(struct caller *c)
{
    atomic_fetch_add_explicit(&c->holders, 1, memory_order_relaxed);
}

void caller_let_go(struct caller *c)
{
    if (atomic_fetch_sub_explicit(&c->holders, 1, memory_order_acq_rel) != 1)
        return;
    close(c->fd);
    ipc_reader_free(c->reader);
    free(c);
}

static void hang_up(struct caller *c)
{
    atomic_store(&c->broken, true);
    shutdown(c->fd, SHUT_RDWR); /* the corridor sees the end of input, and lets go */
}

/* As ipc_send, but gives up on a caller that does not read: a signing thread that waits for one
 * caller would wait for all of them. */
static int send_within(int fd, const struct buf *frame, struct err *e)
{
    int64_t until = clock_mono_ms() + DOOR_ANSWER_MS;
    for (bool sent;;) {
        if (ipc_try_send(fd, frame, &sent, e) < 0)
            return -1;
        if (sent)
            return 0;
        int64_t left = until - clock_mono_ms();
        struct pollfd p = {.fd = fd, .events = POLLOUT};
        if (left <= 0)
            return err_set(e, ERR_IO, "signer-deaf", "the caller did not read for %d ms", DOOR_ANSWER_MS);
        poll(&p, 1, (int)left);
    }
}

void caller_answer(struct caller *c, const struct buf *frame)
{
    struct err e = {0};
    if (atomic_load(&c->broken) || send_within(c->fd, frame, &e) == 0)
        return;
    if (e.code != ERR_UNAVAILABLE)
        log_err(LOG_WARN, "cannot answer; hanging up", &e);
    hang_up(c);
}

struct door *door_new(int listen_fd, int wake_fd, int stop_fd, uid_t peer_uid, struct err *e)
{
    struct door *d = calloc(1, sizeof *d);
    if (!d) {
        err_set(e, ERR_INTERNAL, "memory", "out of memory for the signer's door");
        return NULL;
    }
    *d = (struct door){
        .listen_fd = listen_fd, .wake_fd = wake_fd, .stop_fd = stop_fd, .peer_uid = peer_uid};
    return d;
}

void door_tell(struct door *d, const struct buf *frame)
{
    for (size_t i = 0; i < d->count; i++)
        caller_answer(d->callers[i], frame);
}

void door_hang_up(struct door *d)
{
    for (size_t i = 0; i < d->count; i++)
        hang_up(d->callers[i]);
}

void door_free(struct door *d)
{
    if (!d)
        return;
    door_hang_up(d);
    for (size_t i = 0; i < d->count; i++)
        caller_let_go(d->callers[i]);
    free(d);
}

static int let_in(struct door *d, int fd, struct err *e)
{
    uid_t uid;
    gid_t gid;
    pid_t pid;
    if (ipc_peer(fd, &uid, &gid, &pid, e) < 0)
        return -1;
    if (uid != 0 && uid != d->peer_uid)
        return err_set(e, ERR_UNAUTHORIZED, "signer-peer", "user %u may not ask this signer",
                       (unsigned)uid);
    if (d->count == DOOR_CALLERS_MAX)
        return err_set(e, ERR_RATE, "signer-callers", "%d are connected already", DOOR_CALLERS_MAX);
    struct caller *c = calloc(1, sizeof *c);
    if (!c || !(c->reader = ipc_reader_new(e))) {
        free(c);
        return err_set(e, ERR_INTERNAL, "memory", "out of memory for a connection");
    }
    c->fd = fd;
    atomic_init(&c->holders, 1);
    atomic_init(&c->broken, false);
    d->callers[d->count++] = c;
    return 0;
}

static void accept_one(struct door *d)
{
    struct err e = {0};
    int fd = accept4(d->listen_fd, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0)
        return; /* it went away again */
    if (let_in(d, fd, &e) < 0) {
        log_err(LOG_WARN, "connection refused", &e);
        close(fd);
    }
}

int door_wait(struct door *d, struct door_event *ev, struct err *e)
{
    struct pollfd p[3 + DOOR_CALLERS_MAX] = {{.fd = d->wake_fd, .events = POLLIN},
                                             {.fd = d->stop_fd, .events = POLLIN},
                                             {.fd = d->listen_fd, .events = POLLIN}};
    size_t n = d->count;
    for (size_t i = 0; i < n; i++)
        p[3 + i] = (struct pollfd){.fd = d->callers[i]->fd, .events = POLLIN};
    if (poll(p, 3 + n, -1) < 0 && errno != EINTR)
        return err_errno(e, "signer-poll", "cannot wait for requests");
    ev->wake = p[0].revents != 0;
    ev->stop = p[1].revents != 0;
    for (size_t i = 0; i < n; i++)
        d->callers[i]->speaking = p[3 + i].revents != 0;
    if (p[2].revents)
        accept_one(d);
    return 0;
}

/* True while the caller may have more to say. */
static bool receive_some(struct caller *c, size_t *room, door_frame_cb *cb, void *arg, bool *gone)
{
    struct bytes frames[IPC_BATCH];
    struct err e = {0};
    int n = ipc_recv(c->reader, c->fd, 0, frames, &e);
    for (int i = 0; i < n; i++) {
        struct ipc_frame f;
        --*room;
        if (ipc_frame_parse(&f, frames[i].p, frames[i].len, &e) < 0 || cb(arg, c, &f, &e) < 0) {
            n = -1;
            break;
        }
    }
    if (n == -1)
        log_err(LOG_WARN, "hanging up", &e);
    *gone = n < 0;
    return n == IPC_BATCH;
}

void door_receive(struct door *d, size_t *room, door_frame_cb *cb, void *arg)
{
    for (size_t i = 0; i < d->count;) {
        struct caller *c = d->callers[i];
        bool gone = false;
        if (c->speaking)
            while (*room >= IPC_BATCH && receive_some(c, room, cb, arg, &gone))
                ;
        if (!gone) {
            i++;
            continue;
        }
        hang_up(c);
        d->callers[i] = d->callers[--d->count];
        caller_let_go(c);
    }
}
