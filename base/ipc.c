#include "base/ipc.h"
#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

struct ipc_reader {
    struct mmsghdr msgs[IPC_BATCH];
    struct iovec iovs[IPC_BATCH];
    int closed_fd; /* its end was met behind frames already handed out; -1: none */
    uint8_t data[IPC_BATCH][IPC_FRAME_MAX];
};

void ipc_frame_begin(struct buf *b, uint8_t type, uint64_t id)
{
    buf_reset(b);
    buf_u8(b, IPC_VERSION);
    buf_u8(b, type);
    buf_u64(b, id);
}

int ipc_frame_parse(struct ipc_frame *f, const void *p, size_t len, struct err *e)
{
    struct cur c = cur_of(p, len);
    uint8_t version = 0;
    if (len > IPC_FRAME_MAX)
        return err_set(e, ERR_TOO_LARGE, "ipc-frame", "frame of %zu bytes; at most %d", len, IPC_FRAME_MAX);
    cur_u8(&c, &version);
    cur_u8(&c, &f->type);
    cur_u64(&c, &f->id);
    if (c.failed)
        return err_set(e, ERR_MALFORMED, "ipc-frame", "frame of %zu bytes is shorter than its header", len);
    if (version != IPC_VERSION)
        return err_set(e, ERR_MALFORMED, "ipc-frame",
                       "frame of version %u, this program speaks %d: are both processes of one build?",
                       version, IPC_VERSION);
    return cur_take(&c, cur_left(&c), &f->body);
}

struct ipc_reader *ipc_reader_new(struct err *e)
{
    struct ipc_reader *r = calloc(1, sizeof *r);
    if (!r) {
        err_set(e, ERR_INTERNAL, "memory", "out of memory for an IPC reader");
        return NULL;
    }
    r->closed_fd = -1;
    for (int i = 0; i < IPC_BATCH; i++) {
        r->iovs[i] = (struct iovec){r->data[i], IPC_FRAME_MAX};
        r->msgs[i].msg_hdr.msg_iov = &r->iovs[i];
        r->msgs[i].msg_hdr.msg_iovlen = 1;
    }
    return r;
}

void ipc_reader_free(struct ipc_reader *r)
{
    free(r);
}

/* What waits now: count, 0 when nothing, -1, or -2 when the peer closed. No room is offered for
 * control messages, so descriptors that a peer attaches are closed by the kernel. */
static int take_waiting(struct ipc_reader *r, int fd, struct bytes out[IPC_BATCH], struct err *e)
{
    int n = recvmmsg(fd, r->msgs, IPC_BATCH, MSG_DONTWAIT, NULL);
    if (n < 0) {
        if (errno == EAGAIN || errno == EINTR)
            return 0;
        if (errno == ECONNRESET)
            return -2;
        return err_errno(e, "ipc-recv", "cannot receive");
    }
    for (int i = 0; i < n; i++) {
        if (r->msgs[i].msg_len == 0) {
            /* The end, or an empty datagram, which no peer of ours sends: the end, too. */
            if (i == 0)
                return -2;
            r->closed_fd = fd;
            return i;
        }
        if (r->msgs[i].msg_hdr.msg_flags & MSG_TRUNC)
            return err_set(e, ERR_TOO_LARGE, "ipc-frame", "peer sent a frame of over %d bytes", IPC_FRAME_MAX);
        out[i] = (struct bytes){r->data[i], r->msgs[i].msg_len};
    }
    return n;
}

int ipc_recv(struct ipc_reader *r, int fd, int timeout_ms, struct bytes out[IPC_BATCH], struct err *e)
{
    if (r->closed_fd == fd) {
        r->closed_fd = -1;
        return -2;
    }
    int n = take_waiting(r, fd, out, e);
    if (n != 0 || timeout_ms == 0)
        return n;
    struct pollfd p = {.fd = fd, .events = POLLIN};
    int ready = poll(&p, 1, timeout_ms);
    if (ready < 0 && errno != EINTR)
        return err_errno(e, "ipc-recv", "cannot wait for frames");
    return ready > 0 ? take_waiting(r, fd, out, e) : 0;
}

int ipc_try_send(int fd, const struct buf *frame, bool *sent, struct err *e)
{
    *sent = false;
    if (frame->failed || frame->len < IPC_HEADER || frame->len > IPC_FRAME_MAX)
        return err_set(e, ERR_INTERNAL, "ipc-frame", "frame of %zu bytes does not fit %d", frame->len,
                       IPC_FRAME_MAX);
    ssize_t n;
    do
        n = send(fd, frame->p, frame->len, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    *sent = n >= 0;
    if (*sent || errno == EAGAIN)
        return 0;
    if (errno == EPIPE || errno == ECONNRESET || errno == ENOTCONN || errno == ECONNREFUSED)
        return err_set(e, ERR_UNAVAILABLE, "ipc-peer", "the other process is gone");
    return err_errno(e, "ipc-send", "cannot send");
}

int ipc_send(int fd, const struct buf *frame, struct err *e)
{
    for (bool sent;;) {
        if (ipc_try_send(fd, frame, &sent, e) < 0)
            return -1;
        if (sent)
            return 0;
        struct pollfd p = {.fd = fd, .events = POLLOUT};
        poll(&p, 1, -1);
    }
}

static int socket_at(const char *path, struct sockaddr_un *a, struct err *e)
{
    size_t len = strlen(path);
    memset(a, 0, sizeof *a);
    a->sun_family = AF_UNIX;
    if (len == 0 || len >= sizeof a->sun_path)
        return err_set(e, ERR_CONFIG, "ipc-path", "socket path %s is longer than %zu bytes: use a shorter folder",
                       path, sizeof a->sun_path - 1);
    memcpy(a->sun_path, path, len);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    return fd < 0 ? err_errno(e, "ipc-socket", "cannot make a socket") : fd;
}

/* Removes what a killed process left behind; never a live socket, never another kind of file. */
static int clear_stale(const char *path, const struct sockaddr_un *a, struct err *e)
{
    struct stat st;
    if (lstat(path, &st) < 0)
        return errno == ENOENT ? 0 : err_errno(e, "ipc-listen", "cannot look at %s", path);
    if (!S_ISSOCK(st.st_mode))
        return err_set(e, ERR_EXISTS, "ipc-listen", "%s is there and not a socket: move it away", path);
    int probe = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (probe < 0)
        return err_errno(e, "ipc-listen", "cannot make a socket");
    int rc = connect(probe, (const struct sockaddr *)a, sizeof *a);
    int why = errno;
    close(probe);
    if (rc == 0 || why != ECONNREFUSED)
        return err_set(e, ERR_EXISTS, "ipc-listen",
                       "%s is in use: is another instance running in this folder?", path);
    if (unlink(path) < 0 && errno != ENOENT)
        return err_errno(e, "ipc-listen", "cannot remove the stale socket %s", path);
    return 0;
}

int ipc_listen(const char *path, mode_t mode, struct err *e)
{
    struct sockaddr_un a;
    int fd = socket_at(path, &a, e);
    if (fd < 0)
        return -1;
    if (clear_stale(path, &a, e) < 0)
        goto refused;
    /* The mode is set before the file is there, so that it is never wider than asked; bind takes
     * the umask off it, so it is set once more. */
    if (fchmod(fd, mode) < 0 || bind(fd, (const struct sockaddr *)&a, sizeof a) < 0 ||
        chmod(path, mode) < 0 || listen(fd, SOMAXCONN) < 0) {
        err_errno(e, "ipc-listen", "cannot listen on %s", path);
        goto refused;
    }
    return fd;
refused:
    close(fd);
    return -1;
}

int ipc_connect(const char *path, struct err *e)
{
    struct sockaddr_un a;
    int fd = socket_at(path, &a, e);
    if (fd < 0)
        return -1;
    while (connect(fd, (const struct sockaddr *)&a, sizeof a) < 0) {
        if (errno == EINTR)
            continue;
        if (errno == ENOENT || errno == ECONNREFUSED)
            err_set(e, ERR_UNAVAILABLE, "ipc-connect", "nobody listens on %s: is mayflyd running?", path);
        else
            err_errno(e, "ipc-connect", "cannot connect to %s", path);
        close(fd);
        return -1;
    }
    return fd;
}

int ipc_peer(int fd, uid_t *uid, gid_t *gid, pid_t *pid, struct err *e)
{
    struct ucred cred;
    socklen_t len = sizeof cred;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0 || len != sizeof cred)
        return err_errno(e, "ipc-peer", "cannot learn who is on the other side");
    *uid = cred.uid;
    *gid = cred.gid;
    *pid = cred.pid;
    return 0;
}
