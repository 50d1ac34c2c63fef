#include "workload/internal.h"
#include "base/clock.h"
#include "base/log.h"
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static ssize_t socket_write(int fd, const struct iovec *v, int n)
{
    union {
        const struct iovec *in;
        struct iovec *out;
    } u = {.in = v};
    struct msghdr m = {.msg_iov = u.out, .msg_iovlen = (size_t)n};
    return sendmsg(fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void fill_limits(struct wl_limits *l)
{
    if (!l->connections)
        l->connections = LIMIT_CONNECTIONS;
    if (!l->connections_per_uid)
        l->connections_per_uid = LIMIT_CONNECTIONS_PER_UID;
    if (!l->streams_per_connection)
        l->streams_per_connection = LIMIT_STREAMS;
    if (!l->message_bytes)
        l->message_bytes = LIMIT_MESSAGE;
    if (!l->idle_seconds)
        l->idle_seconds = LIMIT_IDLE_S;
}

struct wl_server *server_make(struct event_base *base, const struct wl_provider *p, const struct wl_limits *l,
                              struct err *e)
{
    struct wl_server *s = calloc(1, sizeof *s);
    if (!s) {
        err_set(e, ERR_INTERNAL, "memory", "out of memory for the Workload API's server");
        return NULL;
    }
    s->fd = -1;
    s->base = base;
    s->p = *p;
    s->write = socket_write;
    if (l)
        s->l = *l;
    fill_limits(&s->l);
    if (conn_callbacks(&s->callbacks, &s->option, e) < 0) {
        wl_server_free(s);
        return NULL;
    }
    return s;
}

static uid_t peer_of(int fd)
{
    struct ucred u;
    socklen_t n = sizeof u;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &u, &n) == 0 && n == sizeof u ? u.uid : (uid_t)-1;
}

static void on_retry(evutil_socket_t fd, short what, void *arg)
{
    struct wl_server *s = arg;
    event_add(&s->acceptor, NULL);
}

/* Out of descriptors or memory: the listener stays readable, so looking at once again would only burn time.
 * */
static void pause_accepting(struct wl_server *s)
{
    struct timeval tenth = {.tv_usec = 100000};
    log_warn("cannot accept a client of the Workload API; trying again soon", "errno", log_num(errno), NULL);
    event_del(&s->acceptor);
    event_add(&s->retry, &tenth);
}

static void on_accept(evutil_socket_t listener, short what, void *arg)
{
    struct wl_server *s = arg;
    for (int i = 0; i < LIMIT_ACCEPTS; i++) {
        int fd = accept4((int)listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            conn_new(s, fd, peer_of(fd));
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            pause_accepting(s);
            return;
        } else if (errno == EAGAIN) {
            return;
        }
    }
}

struct wl_server *wl_server_new(struct event_base *base, int listen_fd, const struct wl_provider *p,
                                const struct wl_limits *l, struct err *e)
{
    struct wl_server *s = server_make(base, p, l, e);
    if (!s) {
        close(listen_fd);
        return NULL;
    }
    s->fd = listen_fd;
    evtimer_assign(&s->retry, base, on_retry, s);
    if (evutil_make_socket_nonblocking(listen_fd) == 0 &&
        event_assign(&s->acceptor, base, listen_fd, EV_READ | EV_PERSIST, on_accept, s) == 0 &&
        event_add(&s->acceptor, NULL) == 0)
        return s;
    err_set(e, ERR_INTERNAL, "event", "cannot watch the Workload API's socket");
    wl_server_free(s);
    return NULL;
}

void wl_server_stats(const struct wl_server *s, struct wl_stats *out)
{
    *out = s->stats;
}

void wl_server_free(struct wl_server *s)
{
    if (!s)
        return;
    if (s->fd >= 0) {
        if (event_initialized(&s->acceptor))
            event_del(&s->acceptor);
        event_del(&s->retry);
        close(s->fd);
    }
    while (s->conns) {
        conn_goodbye(s->conns);
        conn_free(s->conns);
    }
    while (s->users) {
        struct user *u = s->users;
        s->users = u->next;
        free(u);
    }
    scratch_free(&s->scratch);
    nghttp2_session_callbacks_del(s->callbacks);
    nghttp2_option_del(s->option);
    free(s);
}
