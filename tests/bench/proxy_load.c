/* Load for tests/bench/proxy, and what it runs against.
 *   proxy_load echo PORT                        echoes, epoll
 *   proxy_load sink PORT                        swallows; answers the number of bytes at the end of each connection
 *   proxy_load latency PORT TLS RATE CONNS SECONDS   round trips of 128 bytes on a schedule: p50, p99 in microseconds
 *   proxy_load connect PORT TLS CONCURRENT SECONDS   connection, full handshake, one round trip, end: number a second
 *   proxy_load bulk PORT SECONDS                plain bytes to a sink: bytes a second
 *   proxy_load hold PORT TLS CONNS SECONDS      opens them, one round trip each, keeps them
 * TLS: a folder with svid.pem and svid.key, or "plain". Results are key=value on one line. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SIZE 128

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static int tcp(int port, int listening)
{
    const int on = 1;
    const struct linger now = {1, 0};
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (!listening) /* thousands of connections a second would use the ports up */
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    if ((listening ? bind(fd, (void *)&a, sizeof a) || listen(fd, 4096) : connect(fd, (void *)&a, sizeof a)) != 0)
        die(listening ? "listen" : "connect");
    return fd;
}

static SSL_CTX *ctx_new(const char *dir)
{
    char path[4096];
    if (strcmp(dir, "plain") == 0)
        return NULL;
    SSL_CTX *c = SSL_CTX_new(TLS_client_method());
    snprintf(path, sizeof path, "%s/svid.pem", dir);
    if (SSL_CTX_use_certificate_chain_file(c, path) != 1)
        die(path);
    snprintf(path, sizeof path, "%s/svid.key", dir);
    if (SSL_CTX_use_PrivateKey_file(c, path, SSL_FILETYPE_PEM) != 1)
        die(path);
    SSL_CTX_set_options(c, SSL_OP_NO_TICKET);
    SSL_CTX_set_ciphersuites(c, "TLS_AES_128_GCM_SHA256");
    SSL_CTX_set1_groups_list(c, (char[]){"X25519"});
    SSL_CTX_set_verify(c, SSL_VERIFY_NONE, NULL); /* the other side is what is measured */
    return c;
}

struct link { /* to what is measured */
    int fd;
    SSL *ssl;
    int64_t sent; /* when the request that is out was sent; 0: none */
    int got, steps;
    char in[SIZE];
};

static void link_open(struct link *l, int port, SSL_CTX *c)
{
    memset(l, 0, sizeof *l);
    l->fd = tcp(port, 0);
    if (c) {
        l->ssl = SSL_new(c);
        SSL_set_fd(l->ssl, l->fd);
        SSL_set_connect_state(l->ssl);
    }
}

static int link_write(struct link *l, const void *p, int n)
{
    return l->ssl ? SSL_write(l->ssl, p, n) : (int)send(l->fd, p, (size_t)n, MSG_NOSIGNAL);
}
static int link_read(struct link *l, void *p, int n)
{
    return l->ssl ? SSL_read(l->ssl, p, n) : (int)recv(l->fd, p, (size_t)n, 0);
}

/* --- what it runs against ------------------------------------------------------------------------------------ */

static void serve(int port, int echo)
{
    static char buf[262144];
    static uint64_t count[65536];
    int l = tcp(port, 1), ep = epoll_create1(0);
    struct epoll_event v = {.events = EPOLLIN, .data.fd = l}, got[64];
    epoll_ctl(ep, EPOLL_CTL_ADD, l, &v);
    for (;;) {
        int n = epoll_wait(ep, got, 64, -1);
        for (int i = 0; i < n; i++) {
            int fd = got[i].data.fd;
            if (fd == l) {
                const int on = 1;
                int c = accept(l, NULL, NULL);
                if (c < 0 || c >= 65536)
                    continue;
                setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
                count[c] = 0;
                v.data.fd = c;
                epoll_ctl(ep, EPOLL_CTL_ADD, c, &v);
                continue;
            }
            ssize_t r = recv(fd, buf, sizeof buf, 0);
            if (r > 0) {
                count[fd] += (uint64_t)r;
                if (echo && send(fd, buf, (size_t)r, MSG_NOSIGNAL) == r)
                    continue;
                if (!echo)
                    continue;
            }
            if (!echo && r == 0)
                (void)!send(fd, &count[fd], 8, MSG_NOSIGNAL);
            close(fd);
        }
    }
}

/* --- latency ------------------------------------------------------------------------------------------------- */

static int by_size(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

static void exchange(struct link *l)
{
    char out[SIZE] = "x", in[SIZE];
    int got = 0, r;
    if (l->ssl && SSL_do_handshake(l->ssl) != 1)
        die("handshake");
    if (link_write(l, out, SIZE) != SIZE)
        die("write");
    while (got < SIZE && (r = link_read(l, in, SIZE - got)) > 0)
        got += r;
    if (got < SIZE)
        die("read");
}

static struct link *links_open(int port, SSL_CTX *c, int n, int ep)
{
    struct link *l = calloc((size_t)n, sizeof *l);
    for (int i = 0; i < n; i++) {
        struct epoll_event v = {.events = EPOLLIN, .data.ptr = &l[i]};
        link_open(&l[i], port, c);
        exchange(&l[i]);
        fcntl(l[i].fd, F_SETFL, O_NONBLOCK);
        epoll_ctl(ep, EPOLL_CTL_ADD, l[i].fd, &v);
    }
    return l;
}

static void latency(int port, const char *tls, int rate, int n, int seconds)
{
    int ep = epoll_create1(0), warm = rate / 2;
    struct link *l = links_open(port, ctx_new(tls), n, ep);
    size_t total = (size_t)rate * (size_t)seconds, done = 0, late = 0;
    int64_t *took = calloc(total, sizeof *took), step = 1000000000LL / rate, next = now_ns() + 10000000, end;
    int turn = 0;
    size_t sent = 0;
    end = next + (int64_t)total * step + 2000000000LL;
    prctl(PR_SET_TIMERSLACK, 1);
    while (done < total && now_ns() < end) {
        int64_t now = now_ns();
        while (sent < total && now >= next) {
            struct link *k = &l[turn++ % n];
            char out[SIZE] = "request";
            if (k->sent) { /* still out: the other side cannot follow */
                late++;
                next += step;
                sent++;
                done++;
                continue;
            }
            k->sent = now_ns();
            k->got = 0;
            if (link_write(k, out, SIZE) != SIZE)
                die("write");
            sent++;
            next += step;
        }
        struct epoll_event v[64];
        int64_t wait = sent < total ? next - now_ns() : 100000000;
        struct timespec t = {0, wait > 0 ? wait : 0};
        int m = epoll_pwait2(ep, v, 64, &t, NULL);
        for (int i = 0; i < m; i++) {
            struct link *k = v[i].data.ptr;
            int r = link_read(k, k->in, SIZE - k->got);
            if (r <= 0)
                continue;
            k->got += r;
            if (k->got == SIZE && k->sent) {
                if (done < total)
                    took[done++] = now_ns() - k->sent;
                k->sent = 0;
            }
        }
    }
    size_t from = done > (size_t)warm ? (size_t)warm : 0;
    qsort(took + from, done - from, sizeof *took, by_size);
    size_t m = done - from;
    printf("p50_us=%.1f p90_us=%.1f p99_us=%.1f p999_us=%.1f n=%zu late=%zu\n", took[from + m / 2] / 1e3,
           took[from + m * 9 / 10] / 1e3, took[from + m * 99 / 100] / 1e3, took[from + m * 999 / 1000] / 1e3, m, late);
}

/* --- connections --------------------------------------------------------------------------------------------- */

/* One step; 1: done, 0: more, -1: failed. */
static int connect_step(struct link *k)
{
    char in[16];
    if (k->steps == 0) {
        int r = SSL_do_handshake(k->ssl);
        if (r != 1)
            return SSL_get_error(k->ssl, r) == SSL_ERROR_WANT_READ ? 0 : -1;
        k->steps = 1;
        if (link_write(k, "x\n", 2) != 2)
            return -1;
    }
    int r = SSL_read(k->ssl, in, sizeof in);
    if (r <= 0)
        return SSL_get_error(k->ssl, r) == SSL_ERROR_WANT_READ ? 0 : -1;
    k->got += r;
    return k->got >= 2;
}

static void connect_open(struct link *k, int port, SSL_CTX *c, int ep)
{
    struct epoll_event v = {.events = EPOLLIN, .data.ptr = k};
    link_open(k, port, c);
    fcntl(k->fd, F_SETFL, O_NONBLOCK);
    epoll_ctl(ep, EPOLL_CTL_ADD, k->fd, &v);
    connect_step(k);
}

static void connections(int port, const char *tls, int n, int seconds)
{
    SSL_CTX *c = ctx_new(tls);
    struct link *l = calloc((size_t)n, sizeof *l);
    int ep = epoll_create1(0);
    uint64_t done = 0, failed = 0;
    for (int i = 0; i < n; i++)
        connect_open(&l[i], port, c, ep);
    int64_t start = now_ns(), end = start + seconds * 1000000000LL;
    while (now_ns() < end) {
        struct epoll_event v[64];
        int m = epoll_wait(ep, v, 64, 100);
        for (int i = 0; i < m; i++) {
            struct link *k = v[i].data.ptr;
            int r = connect_step(k);
            if (r == 0)
                continue;
            done += r > 0;
            failed += r < 0;
            SSL_free(k->ssl);
            close(k->fd);
            connect_open(k, port, c, ep);
        }
    }
    printf("per_second=%.1f done=%llu failed=%llu\n", (double)done / ((double)(now_ns() - start) / 1e9), (unsigned long long)done,
           (unsigned long long)failed);
}

static void bulk(int port, int seconds)
{
    static char buf[262144];
    uint64_t total = 0, got = 0;
    int fd = tcp(port, 0);
    int64_t start = now_ns(), end = start + seconds * 1000000000LL;
    while (now_ns() < end)
        for (int i = 0; i < 16; i++) {
            ssize_t r = send(fd, buf, sizeof buf, MSG_NOSIGNAL);
            if (r < 0)
                die("send");
            total += (uint64_t)r;
        }
    shutdown(fd, SHUT_WR);
    if (recv(fd, &got, 8, MSG_WAITALL) != 8 || got != total) {
        fprintf(stderr, "sent %llu, arrived %llu\n", (unsigned long long)total, (unsigned long long)got);
        exit(1);
    }
    printf("bytes=%llu per_second=%.0f\n", (unsigned long long)total, (double)total / ((double)(now_ns() - start) / 1e9));
}

int main(int argc, char **argv)
{
    const char *verb = argc > 2 ? argv[1] : "";
    int port = argc > 2 ? atoi(argv[2]) : 0;
    if (strcmp(verb, "echo") == 0 || strcmp(verb, "sink") == 0)
        serve(port, verb[0] == 'e');
    else if (strcmp(verb, "latency") == 0 && argc == 7)
        latency(port, argv[3], atoi(argv[4]), atoi(argv[5]), atoi(argv[6]));
    else if (strcmp(verb, "connect") == 0 && argc == 6)
        connections(port, argv[3], atoi(argv[4]), atoi(argv[5]));
    else if (strcmp(verb, "bulk") == 0 && argc == 4)
        bulk(port, atoi(argv[3]));
    else if (strcmp(verb, "hold") == 0 && argc == 6) {
        links_open(port, ctx_new(argv[3]), atoi(argv[4]), epoll_create1(0));
        puts("held");
        fflush(stdout);
        sleep((unsigned)atoi(argv[5]));
    } else {
        fputs("usage: see the head of proxy_load.c\n", stderr);
        return 2;
    }
    return 0;
}
