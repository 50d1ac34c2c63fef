/* The yardstick of tests/bench/proxy: a bare TCP relay, one thread, epoll, recv and send. proxy_relay PORT TO-PORT */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

struct end {
    int fd;
    struct end *other;
    int closing;
};
static char buf[65536];
static int ep;

static int tcp(int port, int listening)
{
    const int on = 1;
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if ((listening ? bind(fd, (void *)&a, sizeof a) || listen(fd, 1024) : connect(fd, (void *)&a, sizeof a)) != 0) {
        perror("proxy_relay");
        exit(1);
    }
    return fd;
}

static void watch(struct end *e)
{
    struct epoll_event v = {.events = EPOLLIN, .data.ptr = e};
    epoll_ctl(ep, EPOLL_CTL_ADD, e->fd, &v);
}

static void pair(int a, int to)
{
    const int on = 1;
    struct end *x = calloc(2, sizeof *x);
    setsockopt(a, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    x[0] = (struct end){.fd = a, .other = &x[1]};
    x[1] = (struct end){.fd = tcp(to, 0), .other = &x[0]};
    watch(&x[0]);
    watch(&x[1]);
}

/* Blocking sends: it is a yardstick, not a program. Its memory is not freed. */
static void move(struct end *e)
{
    ssize_t n = recv(e->fd, buf, sizeof buf, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN)
        return;
    for (ssize_t done = 0; n > 0 && done < n;) {
        ssize_t r = send(e->other->fd, buf + done, (size_t)(n - done), MSG_NOSIGNAL);
        if (r < 0) {
            n = 0;
            break;
        }
        done += r;
    }
    if (n > 0)
        return;
    epoll_ctl(ep, EPOLL_CTL_DEL, e->fd, NULL);
    shutdown(e->other->fd, SHUT_WR);
    e->closing = 1;
    if (e->other->closing) {
        close(e->fd);
        close(e->other->fd);
    }
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    int l = tcp(atoi(argv[1]), 1), to = atoi(argv[2]);
    struct end listener = {.fd = l};
    ep = epoll_create1(EPOLL_CLOEXEC);
    watch(&listener);
    for (;;) {
        struct epoll_event v[64];
        int n = epoll_wait(ep, v, 64, -1);
        for (int i = 0; i < n; i++) {
            if (v[i].data.ptr == &listener)
                pair(accept(l, NULL, NULL), to);
            else
                move(v[i].data.ptr);
        }
    }
}
