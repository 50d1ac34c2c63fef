#include "tests/bench/http.h"
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

void bench_connect(struct bench_conn *c, SSL_CTX *ctx, const char *host, const char *port)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_family = AF_INET}, *ai;
    if (getaddrinfo(host, port, &hints, &ai) != 0)
        abort();
    int one = 1;
    c->fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0 || connect(c->fd, ai->ai_addr, ai->ai_addrlen) < 0) {
        perror("bench: connect");
        exit(1);
    }
    freeaddrinfo(ai);
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    c->ssl = SSL_new(ctx);
    SSL_set_fd(c->ssl, c->fd);
    SSL_set1_host(c->ssl, host);
    /* The macro casts const away. */
    SSL_ctrl(c->ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name, (void *)(uintptr_t)host);
    if (SSL_connect(c->ssl) != 1) {
        fprintf(stderr, "bench: TLS handshake failed: %s\n", X509_verify_cert_error_string(SSL_get_verify_result(c->ssl)));
        exit(1);
    }
    if (!c->out.max) {
        buf_init(&c->out, 1 << 17);
        buf_init(&c->in, 1 << 17);
    }
}

void bench_close(struct bench_conn *c)
{
    SSL_shutdown(c->ssl);
    SSL_free(c->ssl);
    close(c->fd);
}

void bench_request(struct bench_conn *c, const char *method, const char *path, const char *host,
                   const struct buf *body)
{
    buf_reset(&c->out);
    buf_reset(&c->in);
    c->sent = 0;
    c->status = 0;
    c->body_at = 0;
    buf_fmt(&c->out, "%s %s HTTP/1.1\r\nHost: %s\r\n", method, path, host);
    if (body)
        buf_fmt(&c->out, "Content-Type: application/jose+json\r\nContent-Length: %zu\r\n", body->len);
    buf_str(&c->out, "\r\n");
    if (body)
        buf_put(&c->out, body->p, body->len);
}

static void header_copy(const char *head, const char *name, char *dst, size_t cap)
{
    size_t n = strlen(name);
    for (const char *line = head; line; line = strstr(line, "\r\n"), line = line ? line + 2 : NULL) {
        if (strncasecmp(line, name, n) != 0 || line[n] != ':')
            continue;
        const char *v = line + n + 1;
        v += strspn(v, " ");
        snprintf(dst, cap, "%.*s", (int)strcspn(v, "\r"), v);
        return;
    }
}

static bool answer_complete(struct bench_conn *c)
{
    if (!c->body_at) {
        const char *text = buf_cstr(&c->in);
        const char *end = strstr(text, "\r\n\r\n");
        if (!end)
            return false;
        char length[32] = "0";
        c->status = atoi(text + 9);
        c->body_at = (size_t)(end + 4 - text);
        header_copy(text, "Content-Length", length, sizeof length);
        header_copy(text, "Replay-Nonce", c->nonce, sizeof c->nonce);
        header_copy(text, "Location", c->location, sizeof c->location);
        c->body_len = c->status == 204 || strncmp((char *)c->out.p, "HEAD", 4) == 0 ? 0 : strtoul(length, NULL, 10);
    }
    return c->in.len >= c->body_at + c->body_len;
}

int bench_step(struct bench_conn *c, unsigned *want)
{
    while (c->sent < c->out.len) {
        int n = SSL_write(c->ssl, c->out.p + c->sent, (int)(c->out.len - c->sent));
        if (n <= 0) {
            int why = SSL_get_error(c->ssl, n);
            *want = why == SSL_ERROR_WANT_READ ? EPOLLIN : EPOLLOUT;
            return why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE ? 0 : -1;
        }
        c->sent += (size_t)n;
    }
    for (;;) {
        char chunk[16384];
        int n = SSL_read(c->ssl, chunk, sizeof chunk);
        if (n <= 0) {
            int why = SSL_get_error(c->ssl, n);
            *want = why == SSL_ERROR_WANT_WRITE ? EPOLLOUT : EPOLLIN;
            return why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE ? 0 : -1;
        }
        buf_put(&c->in, chunk, (size_t)n);
        if (answer_complete(c))
            return 1;
    }
}

void bench_exchange(struct bench_conn *c, const char *method, const char *path, const char *host,
                    const struct buf *body)
{
    unsigned want;
    int rc;
    bench_request(c, method, path, host, body);
    while ((rc = bench_step(c, &want)) == 0) {
        struct pollfd p = {c->fd, want == EPOLLIN ? POLLIN : POLLOUT, 0};
        poll(&p, 1, 30000);
    }
    if (rc < 0) {
        fprintf(stderr, "bench: connection broken during %s %s\n", method, path);
        exit(1);
    }
}
