/* A connection's steps.
 *
 *   server mode: [PROXY header] → TLS, judged → connect to the upstream → [PROXY header] → relay
 *   client mode: [PROXY header] → connect to the server → TLS, judged → relay
 *
 * Nothing is read from the plain side before the peer was judged, nothing reaches an upstream from a peer that was
 * refused. Every step has a deadline. */
#include "base/clock.h"
#include "proxy/internal.h"
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* --- lists ----------------------------------------------------------------------------------------------------- */

static void conn_list_add(struct conn_list *l, struct conn *c)
{
    c->next = NULL;
    c->prev = l->last;
    if (l->last)
        l->last->next = c;
    else
        l->first = c;
    l->last = c;
    l->n++;
}

static void conn_list_remove(struct conn_list *l, struct conn *c)
{
    if (c->prev)
        c->prev->next = c->next;
    else
        l->first = c->next;
    if (c->next)
        c->next->prev = c->prev;
    else
        l->last = c->prev;
    l->n--;
}

/* --- ends ------------------------------------------------------------------------------------------------------ */

void conn_side_close(struct side *s, bool reset)
{
    const struct linger now = {.l_onoff = 1};
    if (s->fd < 0)
        return;
    event_del(&s->rd);
    event_del(&s->wr);
    if (reset)
        setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close(s->fd);
    s->fd = -1;
    side_free(s);
}

static void handshake_over(struct conn *c)
{
    if (!c->handshaking)
        return;
    c->handshaking = false;
    admission_leave(c);
    conn_list_remove(&c->w->handshakes, c);
    conn_list_add(&c->w->conns, c);
    atomic_fetch_sub(&c->l->m.handshaking, 1);
    creds_unref(c->creds);
    c->creds = NULL;
    free(c->targets);
    c->targets = NULL;
    free(c->header);
    c->header = NULL;
    c->w->handshakes_done++;
}

static void conn_free(struct conn *c, bool reset)
{
    struct worker *w = c->w;
    handshake_over(c);
    conn_list_remove(&w->conns, c);
    event_del(&c->timer);
    conn_side_close(&c->plain, reset);
    conn_side_close(&c->tls, reset);
    if (w->current == c)
        w->current = NULL;
    SSL_free(c->ssl);
    peer_unref(c->peer);
    if (c->pm)
        atomic_fetch_sub(&c->pm->open, 1);
    if (c->counted_address)
        address_count_drop(c->l, &c->src.sa);
    atomic_fetch_sub(&c->l->m.open, 1);
    atomic_fetch_sub(&c->l->connections, 1);
    free(c->early);
    free(c->claimed);
    worker_slot_free(w, c);
    free(c);
}

/* Whoever connects and goes without a word looks whether somebody listens, as balancers do every few seconds: no news. */
static bool only_looked(const struct conn *c, enum fail_reason r)
{
    return r == FAIL_CLOSED && !c->heard && (c->state == CONN_HEADER || c->l->conf->mode == PROXY_SERVER);
}

void conn_fail(struct conn *c, enum fail_reason r, const struct err *why)
{
    char from[80];
    bool quiet = only_looked(c, r);
    atomic_fetch_add(&c->l->m.failed[r], 1);
    if (quiet || worker_may_log(c->w)) {
        address_text(from, sizeof from, &c->src.sa);
        const char *id = c->peer ? c->peer->id : c->claimed;
        log_event(quiet ? LOG_DEBUG : LOG_WARN, c->why.code != ERR_NONE ? "peer refused" : "connection failed",
                  "listener", c->l->conf->name, "from", from, "why", fail_name(r), "rule", why->rule, "error", why->msg,
                  id ? c->peer ? "peer" : "claims" : NULL, id, NULL);
    }
    conn_free(c, false);
}

void conn_end(struct conn *c, enum end_reason r)
{
    atomic_fetch_add(&c->l->m.ended[r], 1);
    conn_free(c, r != END_DONE);
}

/* --- relaying --------------------------------------------------------------------------------------------------- */

void conn_deadline(struct conn *c, int64_t ms)
{
    const struct timeval t = {ms / 1000, ms % 1000 * 1000};
    event_add(&c->timer, &t);
}

void conn_relay_start(struct conn *c)
{
    int64_t age = (int64_t)c->l->conf->max_connection_age * 1000;
    handshake_over(c);
    event_del(&c->timer);
    c->state = CONN_RELAY;
    if (age) {
        c->old = clock_mono_ms() + age;
        conn_deadline(c, age);
    }
    relay_begin(c);
}

/* When silence after a half-close, or age, ends it; INT64_MAX: never. */
static int64_t relay_until(const struct conn *c)
{
    int64_t silence = (int64_t)c->l->conf->half_closed_timeout * 1000;
    int64_t until = c->old ? c->old : INT64_MAX;
    return silence && c->moved && c->moved + silence < until ? c->moved + silence : until;
}

/* Whoever said its last word and vanished is not missed by TCP: nothing is read from it any more, and the other side
 * may never have anything to say. The timer is set once, and finds out by itself whether bytes moved meanwhile. */
void conn_half_closed(struct conn *c)
{
    bool first = c->moved == 0;
    int64_t now = clock_mono_ms();
    c->moved = now > 0 ? now : 1;
    if (first && relay_until(c) != INT64_MAX)
        conn_deadline(c, relay_until(c) - now);
}

static void relay_timer(struct conn *c)
{
    int64_t now = clock_mono_ms(), until = relay_until(c);
    if (now < until)
        conn_deadline(c, until - now);
    else
        conn_end(c, c->old && now >= c->old ? END_AGE : END_IDLE);
}

static void judged(struct conn *c)
{
    atomic_fetch_add(&c->l->m.handshakes, 1);
    c->pm = metrics_peer(&c->w->p->m, c->peer->id);
    atomic_fetch_add(&c->pm->connections, 1);
    atomic_fetch_add(&c->pm->open, 1);
}

/* --- TLS -------------------------------------------------------------------------------------------------------- */

static void tls_drive(struct conn *c)
{
    struct err e = {0};
    enum fail_reason r = FAIL_TLS;
    enum handshake_step s = handshake_step(c, &r, &e);
    if (s == STEP_FAILED) {
        conn_fail(c, r, &e);
    } else if (s == STEP_DONE) {
        side_read(&c->tls, false);
        if (!c->peer) { /* can not be: no session is resumed, so every handshake is judged */
            err_set(&e, ERR_INTERNAL, "tls", "a handshake without judgement");
            conn_fail(c, FAIL_TLS, &e);
            return;
        }
        judged(c);
        if (c->l->conf->mode == PROXY_SERVER)
            connect_start(c);
        else
            conn_relay_start(c);
    }
}

void conn_tls_start(struct conn *c)
{
    struct err e = {0};
    c->state = CONN_TLS;
    c->creds = proxy_creds(c->w->p);
    if (!c->creds) {
        err_set(&e, ERR_NOT_READY, "no-identity", "no identity came from the agent yet");
        conn_fail(c, FAIL_NO_IDENTITY, &e);
        return;
    }
    if (handshake_begin(c, &e) < 0) {
        conn_fail(c, strcmp(e.rule, "own-expired") == 0 ? FAIL_OWN_EXPIRED : FAIL_NO_IDENTITY, &e);
        return;
    }
    conn_deadline(c, c->l->conf->handshake_timeout);
    side_read(&c->tls, true);
    if (c->l->conf->mode == PROXY_CLIENT)
        tls_drive(c);
}

/* --- sides --------------------------------------------------------------------------------------------------------- */

static void on_read(int fd, short what, void *arg);
static void on_write(int fd, short what, void *arg);

void conn_side_open(struct conn *c, struct side *s, int fd)
{
    s->fd = fd;
    event_assign(&s->rd, c->w->base, fd, EV_READ | EV_PERSIST, on_read, c);
    event_assign(&s->wr, c->w->base, fd, EV_WRITE | EV_PERSIST, on_write, c);
    s->reading = s->writing = false;
}

/* --- the PROXY header of a balancer in front ------------------------------------------------------------------------- */

static void begin(struct conn *c)
{
    if (c->l->conf->mode == PROXY_SERVER) {
        conn_tls_start(c);
        return;
    }
    c->answered = true; /* who connected has nothing to say before we have */
    connect_start(c);
}

/* 1 whole, 0 more to come, -1 refused. Never a byte more than the header is taken from the socket. */
static int header_take(struct conn *c, int fd, struct err *e)
{
    for (;;) {
        long want = c->header_len < PP2_HEAD ? PP2_HEAD : pp2_length(c->header, e);
        if (want < 0)
            return -1;
        if (c->header_len == (size_t)want && c->header_len >= PP2_HEAD)
            return 1;
        ssize_t n = recv(fd, c->header + c->header_len, (size_t)want - c->header_len, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return 0;
        if (n <= 0 && c->header_len == 0)
            return err_set(e, ERR_IO, "closed", "the connection was closed before its PROXY header");
        if (n <= 0)
            return err_set(e, ERR_MALFORMED, "proxy-header", "the connection ended within its PROXY header");
        c->heard = true;
        c->header_len += (size_t)n;
        if (c->header_len == PP2_HEAD && pp2_length(c->header, e) == PP2_HEAD)
            return 1;
    }
}

/* Its place among the connections of its client's address. -1: there is none, and c is gone. */
static int address_place(struct conn *c)
{
    struct err e;
    sa_family_t f = c->src.sa.sa_family;
    if (c->l->conf->max_per_address == 0 || (f != AF_INET && f != AF_INET6))
        return 0;
    c->counted_address = address_count_add(c->l, &c->src.sa);
    if (c->counted_address)
        return 0;
    err_set(&e, ERR_RATE, "per-address", "more than %u connections from this address", c->l->conf->max_per_address);
    conn_fail(c, FAIL_LIMIT, &e);
    return -1;
}

static void header_read(struct conn *c)
{
    struct err e = {0};
    struct pp2 p;
    struct side *s = c->l->conf->mode == PROXY_SERVER ? &c->tls : &c->plain;
    int r = header_take(c, s->fd, &e);
    if (r == 0)
        return;
    if (r < 0 || pp2_read(&p, c->header, c->header_len, &e) < 0) {
        conn_fail(c, c->heard ? FAIL_PROXY_HEADER : FAIL_CLOSED, &e);
        return;
    }
    if (!p.local && p.src.sa.sa_family != AF_UNSPEC) {
        c->src = p.src;
        c->dst = p.dst;
        address_unmap(&c->src);
        address_unmap(&c->dst);
        admission_leave(c); /* whose it is, is known now */
        admission_enter(c);
    }
    c->heard = false; /* that was the balancer; the client itself has yet to say a word */
    side_read(s, false);
    if (address_place(c) == 0)
        begin(c);
}

/* --- events --------------------------------------------------------------------------------------------------------- */

static void on_read(int fd, short what, void *arg)
{
    struct conn *c = arg;
    if (c->state == CONN_RELAY) {
        if (fd == c->tls.fd)
            relay_tls_readable(c);
        else
            relay_plain_readable(c);
    } else if (c->state == CONN_TLS) {
        tls_drive(c);
    } else if (c->state == CONN_HEADER) {
        header_read(c);
    }
}

static void on_write(int fd, short what, void *arg)
{
    struct conn *c = arg;
    struct side *s = fd == c->tls.fd ? &c->tls : &c->plain;
    struct err e = {0};
    if (c->state == CONN_RELAY) {
        relay_writable(c, s);
    } else if (c->state == CONN_CONNECT && s == conn_outward(c)) {
        connect_ready(c);
    } else if (side_flush(c, s) < 0) { /* a flight of the handshake */
        err_set(&e, ERR_IO, "closed", "the peer reset the connection in its handshake");
        conn_fail(c, FAIL_CLOSED, &e);
    }
}

static void on_timer(int fd, short what, void *arg)
{
    struct conn *c = arg;
    struct err e;
    if (c->state == CONN_RELAY) {
        relay_timer(c);
        return;
    }
    if (c->state == CONN_CONNECT) {
        if (c->tried < c->targets->n) { /* it hangs: the next one; or its queue was full */
            conn_side_close(conn_outward(c), false);
            conn_deadline(c, c->l->conf->connect_timeout);
            connect_next(c);
            return;
        }
        resolver_soon(c->w->p->resolver); /* what the name meant may be gone: that is how it looks */
        err_set(&e, ERR_UNAVAILABLE, "upstream", "connecting to %.200s takes too long", c->l->conf->to);
        conn_fail(c, FAIL_UPSTREAM, &e);
        return;
    }
    err_set(&e, ERR_UNAVAILABLE, "handshake-timeout", "the handshake was not done within %u ms", c->l->conf->handshake_timeout);
    conn_fail(c, FAIL_TIMEOUT, &e);
}

/* --- accepting ------------------------------------------------------------------------------------------------------ */

static bool trusted(const struct proxy_listener_conf *conf, const struct sockaddr *sa)
{
    const uint8_t *addr = sa->sa_family == AF_INET    ? (const void *)&((const struct sockaddr_in *)(const void *)sa)->sin_addr
                          : sa->sa_family == AF_INET6 ? (const void *)&((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr
                                                      : NULL;
    unsigned len = sa->sa_family == AF_INET ? 4 : 16;
    if (conf->trusted_count == 0 || !addr) /* who may open our Unix socket, its mode says */
        return true;
    for (size_t i = 0; i < conf->trusted_count; i++) {
        const struct proxy_network *n = &conf->trusted[i];
        unsigned whole = n->bits / 8, rest = n->bits % 8;
        if (n->len == len && memcmp(n->addr, addr, whole) == 0 &&
            (rest == 0 || ((n->addr[whole] ^ addr[whole]) >> (8 - rest)) == 0))
            return true;
    }
    return false;
}

static void header_start(struct conn *c)
{
    struct err e;
    if (!trusted(c->l->conf, &c->src.sa)) {
        err_set(&e, ERR_UNAUTHORIZED, "proxy-header", "no PROXY header is taken from this address: it is none of the trusted ones");
        conn_fail(c, FAIL_PROXY_HEADER, &e);
        return;
    }
    c->header = malloc(PP2_READ_MAX);
    if (!c->header) {
        err_set(&e, ERR_INTERNAL, "memory", "out of memory");
        conn_fail(c, FAIL_PROXY_HEADER, &e);
        return;
    }
    side_read(c->l->conf->mode == PROXY_SERVER ? &c->tls : &c->plain, true);
}

void conn_accept(struct door *d, int fd, const union pp2_addr *from)
{
    struct listener *l = d->l;
    struct conn *c = calloc(1, sizeof *c);
    socklen_t n = sizeof c->dst;
    if (!c) {
        close(fd);
        atomic_fetch_add(&l->m.failed[FAIL_LIMIT], 1);
        return;
    }
    c->w = d->w;
    c->door = d;
    c->l = l;
    c->tls.fd = c->plain.fd = -1;
    c->src = *from;
    if (getsockname(fd, &c->dst.sa, &n) < 0)
        c->dst.sa.sa_family = AF_UNSPEC;
    address_unmap(&c->src);
    address_unmap(&c->dst);
    c->since = clock_mono_ms();
    c->handshaking = true;
    conn_list_add(&d->w->handshakes, c);
    admission_enter(c);
    atomic_fetch_add(&l->m.accepted, 1);
    atomic_fetch_add(&l->m.open, 1);
    atomic_fetch_add(&l->m.handshaking, 1);
    atomic_fetch_add(&l->connections, 1);
    event_assign(&c->timer, d->w->base, -1, 0, on_timer, c);
    conn_socket_options(fd, from->sa.sa_family);
    conn_side_open(c, l->conf->mode == PROXY_SERVER ? &c->tls : &c->plain, fd);
    c->state = CONN_HEADER;
    conn_deadline(c, l->conf->handshake_timeout);
    if (l->conf->accept_proxy) /* counted by the address that the header names */
        header_start(c);
    else if (address_place(c) == 0)
        begin(c);
}
