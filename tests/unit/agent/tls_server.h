/* A TLS server in a thread, with a certificate of the tests' authority for 127.0.0.1. The handler
 * runs in that thread. */
#ifndef UNIT_AGENT_TLS_SERVER_H
#define UNIT_AGENT_TLS_SERVER_H
#include "base/clock.h"
#include "unit/agent/pki.h"
#include <arpa/inet.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

struct server { /* speaks to one connection after another until the listener is shut */
    struct pki pki;
    EVP_PKEY *key;
    X509 *cert;
    SSL_CTX *ctx;
    int listener;
    char url[64];
    pthread_t thread;
    const char *answer;                                /* whole HTTP answer; NULL: endless body */
    void (*handle)(struct server *s, struct buf *out); /* in place of answer, when set */
    void *handle_arg;
    unsigned long connections, requests;
    char last[16384]; /* request */
};

static inline bool read_request(struct server *s, SSL *ssl)
{
    size_t n = 0;
    char *end;
    do {
        int got = SSL_read(ssl, s->last + n, (int)(sizeof s->last - 1 - n));
        if (got <= 0)
            return false;
        n += (size_t)got;
        s->last[n] = 0;
    } while (!(end = strstr(s->last, "\r\n\r\n")));
    const char *length = strstr(s->last, "Content-Length: ");
    size_t body = length ? (size_t)atoi(length + 16) : 0;
    while (n < (size_t)(end - s->last) + 4 + body) {
        int got = SSL_read(ssl, s->last + n, (int)(sizeof s->last - 1 - n));
        if (got <= 0)
            return false;
        n += (size_t)got;
    }
    s->last[n] = 0;
    return true;
}

static inline bool write_answer(struct server *s, SSL *ssl)
{
    static const char head[] = "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n";
    char filler[4096];
    bool good_answer;
    if (s->handle) {
        struct buf b;
        buf_init(&b, 65536);
        s->handle(s, &b);
        good_answer = b.len > 0 && SSL_write(ssl, b.p, (int)b.len) > 0;
        buf_free(&b);
        return good_answer;
    }
    if (s->answer)
        return SSL_write(ssl, s->answer, (int)strlen(s->answer)) > 0;
    memset(filler, 'x', sizeof filler);
    bool good = SSL_write(ssl, head, sizeof head - 1) > 0;
    for (int i = 0; i < 244 && good; i++)
        good = SSL_write(ssl, filler, sizeof filler) > 0;
    return false;
}

static inline void *serve(void *arg)
{
    struct server *s = arg;
    for (;;) {
        int fd = accept(s->listener, NULL, NULL);
        if (fd < 0)
            return NULL;
        s->connections++;
        SSL *ssl = SSL_new(s->ctx);
        SSL_set_fd(ssl, fd);
        if (SSL_accept(ssl) == 1)
            while (read_request(s, ssl)) {
                s->requests++;
                if (!write_answer(s, ssl))
                    break;
            }
        SSL_free(ssl);
        close(fd);
    }
}

static inline void server_listen(struct server *s)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t n = sizeof a;
    s->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(s->listener, (struct sockaddr *)&a, n), 0);
    assert_int_equal(listen(s->listener, 8), 0);
    assert_int_equal(getsockname(s->listener, (struct sockaddr *)&a, &n), 0);
    snprintf(s->url, sizeof s->url, "https://127.0.0.1:%d", ntohs(a.sin_port));
}

static inline struct server *server_new(void)
{
    struct server *s = calloc(1, sizeof *s);
    signal(SIGPIPE, SIG_IGN);
    pki_new(&s->pki);
    s->key = pki_key();
    struct pki_spec spec = pki_leaf_spec(&s->pki, s->key);
    spec.san = "critical,URI:spiffe://example.org/mayfly/server,IP:127.0.0.1";
    spec.not_before = clock_wall() - 60;
    spec.not_after = clock_wall() + 3600;
    s->cert = pki_cert(&spec);
    s->ctx = SSL_CTX_new(TLS_server_method());
    SSL_CTX_use_certificate(s->ctx, s->cert);
    SSL_CTX_use_PrivateKey(s->ctx, s->key);
    SSL_CTX_add1_chain_cert(s->ctx, s->pki.issuing);
    SSL_CTX_add1_chain_cert(s->ctx, s->pki.root);
    s->answer = "HTTP/1.1 200 OK\r\nReplay-Nonce: abc-_9\r\nLocation: https://x/y\r\nRetry-After: "
                "7\r\nContent-Length: 2\r\n\r\nok";
    server_listen(s);
    return s;
}

/* After the server's ways were chosen, so that the thread sees them. */
static inline void server_start(struct server *s)
{
    assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
}

static inline void server_stop(struct server *s)
{
    shutdown(s->listener, SHUT_RDWR);
    pthread_join(s->thread, NULL);
}

static inline void server_free(struct server *s)
{
    close(s->listener);
    SSL_CTX_free(s->ctx);
    X509_free(s->cert);
    EVP_PKEY_free(s->key);
    pki_free(&s->pki);
    free(s);
}

#endif
