/* Upstreams: connecting, one address after the other, and telling them who the peer is. */
#include "base/clock.h"
#include "proxy/internal.h"
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>

#define QUEUE_MS 20

struct side *conn_outward(struct conn *c)
{
    return c->l->conf->mode == PROXY_SERVER ? &c->plain : &c->tls;
}

void conn_socket_options(int fd, sa_family_t family)
{
    const int on = 1;
    if (family == AF_UNIX)
        return;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
}

static struct bytes text_of(const char *s)
{
    return (struct bytes){(const uint8_t *)s, s ? strlen(s) : 0};
}

/* Who the peer is, for the upstream. */
static int announce(struct conn *c)
{
    struct buf b;
    const uint8_t *alpn = NULL;
    unsigned alpn_len = 0;
    struct pp2 p = {.src = c->src,
                    .dst = c->dst,
                    .spiffe_id = text_of(c->peer->id),
                    .tls_version = text_of(SSL_get_version(c->ssl)),
                    .cipher = text_of(SSL_get_cipher_name(c->ssl)),
                    .authority = text_of(SSL_get_servername(c->ssl, TLSEXT_NAMETYPE_host_name)),
                    .tls = true,
                    .verified = true};
    SSL_get0_alpn_selected(c->ssl, &alpn, &alpn_len);
    p.alpn = (struct bytes){alpn, alpn_len};
    buf_init(&b, 16384);
    pp2_write(&b, &p);
    int rc = b.failed ? -1 : side_send(c, &c->plain, b.p, b.len);
    buf_free(&b);
    return rc;
}

static void connected(struct conn *c)
{
    struct side *s = conn_outward(c);
    event_del(&s->wr);
    s->writing = false;
    free(c->targets);
    c->targets = NULL;
    if (c->l->conf->mode == PROXY_CLIENT) {
        conn_tls_start(c);
        return;
    }
    if (c->l->conf->send_proxy && announce(c) < 0) {
        struct err e;
        err_set(&e, ERR_IO, "upstream", "the upstream closed at once");
        conn_fail(c, FAIL_UPSTREAM, &e);
        return;
    }
    conn_relay_start(c);
}

/* 1 connected, 0 under way, -1 not this one. */
static int connect_one(struct conn *c, unsigned i)
{
    const union pp2_addr *a = &c->targets->addr[i];
    struct side *s = conn_outward(c);
    int fd = socket(a->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    conn_socket_options(fd, a->sa.sa_family);
    conn_side_open(c, s, fd);
    if (connect(fd, &a->sa, c->targets->len[i]) == 0)
        return 1;
    if (errno == EINPROGRESS) {
        event_add(&s->wr, NULL);
        s->writing = true;
        return 0;
    }
    int why = errno;
    conn_side_close(s, false);
    errno = why;
    return -1;
}

/* A Unix socket whose queue is full says EAGAIN, and not when there is room. The timer asks again. */
static bool queue_full(struct conn *c, int why)
{
    if (why != EAGAIN || c->targets->addr[c->tried - 1].sa.sa_family != AF_UNIX ||
        clock_mono_ms() - c->connecting >= c->l->conf->connect_timeout)
        return false;
    c->tried--;
    conn_deadline(c, QUEUE_MS);
    return true;
}

void connect_next(struct conn *c)
{
    struct err e;
    int why = 0;
    while (c->tried < c->targets->n) {
        int r = connect_one(c, c->tried++);
        if (r > 0)
            connected(c);
        if (r >= 0 || queue_full(c, errno))
            return;
        why = errno;
    }
    resolver_soon(c->w->p->resolver);
    err_set(&e, ERR_UNAVAILABLE, "upstream", "cannot connect to %.200s: %s", c->l->conf->to,
            c->targets->n == 0 ? "the name has no address" : strerror(why ? why : ECONNREFUSED));
    conn_fail(c, FAIL_UPSTREAM, &e);
}

void connect_start(struct conn *c)
{
    struct err e;
    c->state = CONN_CONNECT;
    c->tried = 0;
    c->connecting = clock_mono_ms();
    c->targets = malloc(sizeof *c->targets);
    if (!c->targets) {
        err_set(&e, ERR_INTERNAL, "memory", "out of memory");
        conn_fail(c, FAIL_UPSTREAM, &e);
        return;
    }
    resolver_get(c->w->p->resolver, c->l->target, c->targets);
    conn_deadline(c, c->l->conf->connect_timeout);
    connect_next(c);
}

void connect_ready(struct conn *c)
{
    struct side *s = conn_outward(c);
    int why = 0;
    socklen_t n = sizeof why;
    if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &why, &n) < 0)
        why = errno;
    if (why == 0) {
        connected(c);
        return;
    }
    conn_side_close(s, false);
    connect_next(c);
}
