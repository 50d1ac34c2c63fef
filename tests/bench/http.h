/* The load generator's own thin HTTPS client: OpenSSL on a socket, so that what it costs is known
 * and small. One request at a time on a connection; blocking for set-up, non-blocking for load. */
#ifndef BENCH_HTTP_H
#define BENCH_HTTP_H
#include "base/bytes.h"
#include <openssl/ssl.h>
#include <stdbool.h>

struct bench_conn {
    int fd;
    SSL *ssl;
    char nonce[64], location[512];
    struct buf out; /* request being sent */
    size_t sent;
    struct buf in;  /* answer being received */
    int status;     /* of the answer, once complete */
    size_t body_at, body_len;
};
/* Connects and shakes hands, blocking. Exits with a word on failure: a bench has no plan B. */
void bench_connect(struct bench_conn *c, SSL_CTX *ctx, const char *host, const char *port);
void bench_close(struct bench_conn *c);
void bench_request(struct bench_conn *c, const char *method, const char *path, const char *host,
                   const struct buf *body); /* fills c->out */
/* Moves the exchange on. 1: answer complete, 0: would block (*want: EPOLLIN or EPOLLOUT), -1: broken. */
int bench_step(struct bench_conn *c, unsigned *want);
void bench_exchange(struct bench_conn *c, const char *method, const char *path, const char *host,
                    const struct buf *body); /* blocking, whole */
#endif
