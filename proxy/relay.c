/* Bytes between the two sides of a connection. Each turn is one recv, one pass through OpenSSL over all of it, and one
 * send. What cannot be sent is kept, and until it is gone nothing more is read from the other side: a connection holds
 * at most one turn's bytes in each direction, and memory only while somebody is slow.
 *
 * Ends: FIN and close_notify are each other's translation, one direction at a time. A TLS side that ends without
 * close_notify was cut off: the plain side is reset, so that nobody takes half an answer for a whole one. */
#include "proxy/internal.h"
#include <errno.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>

/* --- scratch ------------------------------------------------------------------------------------------------- */

void scratch_claim(struct conn *c)
{
    struct worker *w = c->w;
    w->current = c;
    w->in_off = w->in_len = w->out_len = 0;
    w->out_full = false;
}

long scratch_recv(struct conn *c)
{
    struct worker *w = c->w;
    ssize_t n;
    do
        n = recv(c->tls.fd, w->in, SCRATCH_IN, 0);
    while (n < 0 && errno == EINTR);
    w->in_off = 0;
    w->in_len = n > 0 ? (size_t)n : 0;
    return (long)n;
}

/* Out of memory drops the bytes, and the connection with them: the record layer sees the hole. */
void scratch_keep(struct conn *c)
{
    struct worker *w = c->w;
    size_t have = c->early_len;
    if (w->current != c || w->in_len == 0)
        return;
    uint8_t *p = malloc(have + w->in_len);
    if (p) {
        if (have)
            memcpy(p, c->early + c->early_off, have);
        memcpy(p + have, w->in + w->in_off, w->in_len);
        free(c->early);
        c->early = p;
        c->early_off = 0;
        c->early_len = have + w->in_len;
    }
    w->in_len = 0;
}

int scratch_flush(struct conn *c)
{
    struct worker *w = c->w;
    if (w->current != c || w->out_full)
        return -1;
    size_t n = w->out_len;
    w->out_len = 0;
    return n ? side_send(c, &c->tls, w->out, n) : 0;
}

/* --- sides ---------------------------------------------------------------------------------------------------- */

void side_read(struct side *s, bool on)
{
    if (s->reading == on)
        return;
    s->reading = on;
    if (on)
        event_add(&s->rd, NULL);
    else
        event_del(&s->rd);
}

static void side_want_write(struct side *s, bool on)
{
    if (s->writing == on)
        return;
    s->writing = on;
    if (on)
        event_add(&s->wr, NULL);
    else
        event_del(&s->wr);
}

void side_free(struct side *s)
{
    free(s->pend);
    s->pend = NULL;
    s->pend_len = s->pend_cap = s->pend_off = 0;
}

static int side_keep(struct side *s, const uint8_t *p, size_t n)
{
    if (s->pend_off + s->pend_len + n > s->pend_cap) {
        size_t cap = s->pend_len + n;
        uint8_t *q = cap <= HEARING_MAX ? malloc(cap) : NULL;
        if (!q)
            return -1;
        if (s->pend_len)
            memcpy(q, s->pend + s->pend_off, s->pend_len);
        free(s->pend);
        s->pend = q;
        s->pend_off = 0;
        s->pend_cap = cap;
    }
    memcpy(s->pend + s->pend_off + s->pend_len, p, n);
    s->pend_len += n;
    side_want_write(s, true);
    return 0;
}

/* Bytes sent, -1 when the side is broken. */
static long try_send(const struct side *s, const uint8_t *p, size_t n)
{
    size_t done = 0;
    while (done < n) {
        ssize_t r = send(s->fd, p + done, n - done, MSG_NOSIGNAL);
        if (r >= 0)
            done += (size_t)r;
        else if (errno == EAGAIN)
            break;
        else if (errno != EINTR)
            return -1;
    }
    return (long)done;
}

int side_send(struct conn *c, struct side *s, const uint8_t *p, size_t n)
{
    if (s->pend_len == 0) {
        long done = try_send(s, p, n);
        if (done < 0)
            return -1;
        p += done;
        n -= (size_t)done;
    }
    return n ? side_keep(s, p, n) : 0;
}

int side_flush(struct conn *c, struct side *s)
{
    long done = try_send(s, s->pend + s->pend_off, s->pend_len);
    if (done < 0)
        return -1;
    s->pend_off += (size_t)done;
    s->pend_len -= (size_t)done;
    if (s->pend_len == 0) {
        side_free(s);
        side_want_write(s, false);
    }
    return 0;
}

/* --- turns ------------------------------------------------------------------------------------------------------ */

static void side_finish(struct side *s)
{
    if (!s->finish || s->finished || s->pend_len)
        return;
    shutdown(s->fd, SHUT_WR);
    s->finished = true;
}

/* After every turn: who is told of an end, who may be read. */
static void settle(struct conn *c)
{
    side_finish(&c->plain);
    side_finish(&c->tls);
    if (c->plain.finished && c->tls.finished) {
        conn_end(c, END_DONE);
        return;
    }
    if (c->tls.ended || c->plain.ended)
        conn_half_closed(c);
    side_read(&c->tls, !c->tls.ended && c->plain.pend_len == 0);
    side_read(&c->plain, !c->plain.ended && c->tls.pend_len == 0);
}

/* Everything that came, decrypted in one piece. *why: what SSL said at the end. Tickets and key updates are passed over
 * on the way (SSL_MODE_AUTO_RETRY): whoever stopped at them would lose what stands behind them in scratch. */
static size_t decrypt(struct conn *c, int *why)
{
    uint8_t *plain = c->w->plain;
    size_t len = 0, n;
    ERR_clear_error();
    while (len < SCRATCH_PLAIN && SSL_read_ex(c->ssl, plain + len, SCRATCH_PLAIN - len, &n) == 1)
        len += n;
    *why = len < SCRATCH_PLAIN ? SSL_get_error(c->ssl, 0) : SSL_ERROR_SSL;
    if (*why == SSL_ERROR_WANT_READ && (c->w->in_len || c->early_len))
        *why = SSL_ERROR_SSL; /* can not be */
    return len;
}

static void from_tls(struct conn *c, bool eof)
{
    int why;
    size_t n = decrypt(c, &why);
    if (n) {
        atomic_fetch_add_explicit(&c->pm->in, n, memory_order_relaxed);
        if (side_send(c, &c->plain, c->w->plain, n) < 0) {
            conn_end(c, END_ABORTED);
            return;
        }
    }
    if (scratch_flush(c) < 0) { /* answers to key updates, alerts */
        conn_end(c, END_ABORTED);
        return;
    }
    if (why == SSL_ERROR_ZERO_RETURN) {
        c->tls.ended = true;
        c->plain.finish = true;
    } else if (eof) {
        conn_end(c, END_TRUNCATED);
        return;
    } else if (why != SSL_ERROR_WANT_READ) {
        conn_end(c, END_ABORTED);
        return;
    }
    settle(c);
}

void relay_tls_readable(struct conn *c)
{
    scratch_claim(c);
    long n = scratch_recv(c);
    if (n < 0) {
        if (errno != EAGAIN)
            conn_end(c, END_ABORTED);
        return;
    }
    from_tls(c, n == 0);
}

/* RFC 8446 section 5.5 wants AES-GCM's keys replaced before 2^24.5 full records, some 388 GB; OpenSSL leaves it to us.
 * What is written next goes behind the update; before TLS 1.3 there is none. */
static void renew_key(struct conn *c, size_t n)
{
    c->records += (uint32_t)((n + SSL3_RT_MAX_PLAIN_LENGTH - 1) / SSL3_RT_MAX_PLAIN_LENGTH);
    if (c->records < atomic_load_explicit(&c->w->p->key_records, memory_order_relaxed))
        return;
    c->records = 0;
    if (SSL_version(c->ssl) >= TLS1_3_VERSION && SSL_key_update(c->ssl, SSL_KEY_UPDATE_NOT_REQUESTED) != 1)
        ERR_clear_error(); /* tried again so many later */
}

void relay_plain_readable(struct conn *c)
{
    uint8_t *plain = c->w->plain;
    size_t done;
    ssize_t n;
    do
        n = recv(c->plain.fd, plain, SCRATCH_IN, 0);
    while (n < 0 && errno == EINTR);
    if (n < 0) {
        if (errno != EAGAIN)
            conn_end(c, END_ABORTED);
        return;
    }
    scratch_claim(c);
    ERR_clear_error();
    if (n == 0) {
        c->plain.ended = true;
        c->tls.finish = true;
        SSL_shutdown(c->ssl);
    } else {
        atomic_fetch_add_explicit(&c->pm->out, (size_t)n, memory_order_relaxed);
        renew_key(c, (size_t)n);
        if (SSL_write_ex(c->ssl, plain, (size_t)n, &done) != 1 || done != (size_t)n) {
            conn_end(c, END_ABORTED);
            return;
        }
    }
    if (scratch_flush(c) < 0)
        conn_end(c, END_ABORTED);
    else
        settle(c);
}

void relay_writable(struct conn *c, struct side *s)
{
    if (side_flush(c, s) < 0)
        conn_end(c, END_ABORTED);
    else
        settle(c);
}

/* What came behind the handshake first. */
void relay_begin(struct conn *c)
{
    scratch_claim(c);
    from_tls(c, false);
}
