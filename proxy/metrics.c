/* Prometheus text. Peers have lines of their own up to a number, so that nobody can fill memory with names; all who
 * come later are "other". */
#include "base/clock.h"
#include "proxy/internal.h"
#include <stdlib.h>
#include <string.h>

static const char *const fails[FAIL_REASONS] = {
    [FAIL_TLS] = "tls", [FAIL_NO_CERTIFICATE] = "no_certificate", [FAIL_CHAIN] = "chain", [FAIL_EXPIRED] = "expired",
    [FAIL_REVOKED] = "revoked", [FAIL_CRL] = "crl_missing", [FAIL_UNLOGGED] = "unlogged", [FAIL_FOREIGN] = "foreign",
    [FAIL_SVID] = "svid",
    [FAIL_DENIED] = "denied", [FAIL_TIMEOUT] = "timeout", [FAIL_EVICTED] = "evicted", [FAIL_LIMIT] = "limit",
    [FAIL_OWN_EXPIRED] = "own_expired", [FAIL_NO_IDENTITY] = "no_identity", [FAIL_PROXY_HEADER] = "proxy_header",
    [FAIL_UPSTREAM] = "upstream", [FAIL_CLOSED] = "closed",
};
static const char *const ends[END_REASONS] = {
    [END_DONE] = "done", [END_ABORTED] = "aborted", [END_TRUNCATED] = "truncated", [END_AGE] = "age", [END_IDLE] = "idle",
    [END_REVOKED] = "revoked", [END_DRAINED] = "drained",
};

const char *fail_name(enum fail_reason r)
{
    return fails[r];
}

int metrics_init(struct metrics *m, unsigned peers, struct err *e)
{
    pthread_mutex_init(&m->lock, NULL);
    m->max = peers;
    m->peers = calloc((size_t)peers + 1, sizeof *m->peers);
    return m->peers ? 0 : err_set(e, ERR_INTERNAL, "memory", "out of memory");
}

void metrics_free(struct metrics *m)
{
    for (unsigned i = 0; m->peers && i < m->n; i++)
        free(m->peers[i].id);
    free(m->peers);
    pthread_mutex_destroy(&m->lock);
}

struct peer_metrics *metrics_peer(struct metrics *m, const char *id)
{
    unsigned n = atomic_load(&m->n), i;
    for (i = 0; i < n; i++) /* entries never change once they are counted */
        if (strcmp(m->peers[i].id, id) == 0)
            return &m->peers[i];
    struct peer_metrics *found = &m->peers[m->max];
    pthread_mutex_lock(&m->lock);
    n = atomic_load(&m->n);
    for (; i < n && strcmp(m->peers[i].id, id) != 0; i++)
        ;
    if (i < n) {
        found = &m->peers[i];
    } else if (n < m->max && (m->peers[n].id = strdup(id))) {
        found = &m->peers[n];
        atomic_store(&m->n, n + 1);
    }
    pthread_mutex_unlock(&m->lock);
    return found;
}

/* --- text ---------------------------------------------------------------------------------------------------- */

static void head(struct buf *b, const char *name, const char *type, const char *help)
{
    buf_fmt(b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* Names of listeners are the operator's; quotes and the like are left out of them. */
static void label(struct buf *b, const char *name, const char *value)
{
    buf_fmt(b, "%s=\"", name);
    for (const char *s = value; *s; s++)
        if ((unsigned char)*s >= ' ' && *s != '"' && *s != '\\' && *s != 0x7f)
            buf_u8(b, (uint8_t)*s);
    buf_str(b, "\"");
}

static void line(struct buf *b, const char *metric, const struct listener *l, const char *key, const char *value,
                 unsigned long long v)
{
    buf_fmt(b, "%s{", metric);
    label(b, "listener", l->conf->name);
    if (key) {
        buf_str(b, ",");
        label(b, key, value);
    }
    buf_fmt(b, "} %llu\n", v);
}

static void print_listeners(struct buf *b, struct proxy *p)
{
    head(b, "mayfly_proxy_accepted_total", "counter", "Connections accepted.");
    for (size_t i = 0; i < p->n; i++)
        line(b, "mayfly_proxy_accepted_total", &p->listeners[i], NULL, NULL, atomic_load(&p->listeners[i].m.accepted));
    head(b, "mayfly_proxy_handshakes_total", "counter", "TLS handshakes done, the peer judged and allowed.");
    for (size_t i = 0; i < p->n; i++)
        line(b, "mayfly_proxy_handshakes_total", &p->listeners[i], NULL, NULL, atomic_load(&p->listeners[i].m.handshakes));
    head(b, "mayfly_proxy_failed_total", "counter", "Connections that did not come to relaying, by reason.");
    for (size_t i = 0; i < p->n; i++)
        for (int r = 0; r < FAIL_REASONS; r++)
            line(b, "mayfly_proxy_failed_total", &p->listeners[i], "reason", fails[r],
                 atomic_load(&p->listeners[i].m.failed[r]));
    head(b, "mayfly_proxy_ended_total", "counter", "Relayed connections that ended, by how.");
    for (size_t i = 0; i < p->n; i++)
        for (int r = 0; r < END_REASONS; r++)
            line(b, "mayfly_proxy_ended_total", &p->listeners[i], "how", ends[r], atomic_load(&p->listeners[i].m.ended[r]));
    head(b, "mayfly_proxy_open_connections", "gauge", "Connections now.");
    for (size_t i = 0; i < p->n; i++)
        line(b, "mayfly_proxy_open_connections", &p->listeners[i], NULL, NULL, atomic_load(&p->listeners[i].m.open));
    head(b, "mayfly_proxy_open_handshakes", "gauge", "Of these, in their handshake.");
    for (size_t i = 0; i < p->n; i++)
        line(b, "mayfly_proxy_open_handshakes", &p->listeners[i], NULL, NULL, atomic_load(&p->listeners[i].m.handshaking));
}

static void peer_line(struct buf *b, const char *metric, const char *id, unsigned long long v)
{
    buf_fmt(b, "%s{", metric);
    label(b, "peer", id); /* a SPIFFE ID has no character that would need an escape */
    buf_fmt(b, "} %llu\n", v);
}

static void print_peers(struct buf *b, struct metrics *m)
{
    unsigned n = atomic_load(&m->n);
    struct peer_metrics *other = &m->peers[m->max];
    head(b, "mayfly_proxy_peer_connections_total", "counter", "Connections by the peer's SPIFFE ID.");
    for (unsigned i = 0; i < n; i++)
        peer_line(b, "mayfly_proxy_peer_connections_total", m->peers[i].id, atomic_load(&m->peers[i].connections));
    peer_line(b, "mayfly_proxy_peer_connections_total", "other", atomic_load(&other->connections));
    head(b, "mayfly_proxy_peer_open_connections", "gauge", "Of these, open now.");
    for (unsigned i = 0; i < n; i++)
        peer_line(b, "mayfly_proxy_peer_open_connections", m->peers[i].id, atomic_load(&m->peers[i].open));
    peer_line(b, "mayfly_proxy_peer_open_connections", "other", atomic_load(&other->open));
    head(b, "mayfly_proxy_peer_received_bytes_total", "counter", "Plaintext that came from the peer.");
    for (unsigned i = 0; i < n; i++)
        peer_line(b, "mayfly_proxy_peer_received_bytes_total", m->peers[i].id, atomic_load(&m->peers[i].in));
    peer_line(b, "mayfly_proxy_peer_received_bytes_total", "other", atomic_load(&other->in));
    head(b, "mayfly_proxy_peer_sent_bytes_total", "counter", "Plaintext that went to the peer.");
    for (unsigned i = 0; i < n; i++)
        peer_line(b, "mayfly_proxy_peer_sent_bytes_total", m->peers[i].id, atomic_load(&m->peers[i].out));
    peer_line(b, "mayfly_proxy_peer_sent_bytes_total", "other", atomic_load(&other->out));
}

void metrics_print(struct buf *b, struct proxy *p)
{
    long long expires = (long long)atomic_load(&p->m.expires);
    const char *why;
    head(b, "mayfly_proxy_ready", "gauge", "1: new connections are served.");
    buf_fmt(b, "mayfly_proxy_ready %d\n", proxy_ready(p, &why));
    head(b, "mayfly_proxy_certificate_expires_seconds", "gauge", "Until one of our certificates in use runs out; negative: it has.");
    if (expires)
        buf_fmt(b, "mayfly_proxy_certificate_expires_seconds %lld\n", expires - (long long)clock_wall());
    head(b, "mayfly_proxy_rotations_total", "counter", "Identities taken over from the agent.");
    buf_fmt(b, "mayfly_proxy_rotations_total %llu\n", atomic_load(&p->m.rotations));
    head(b, "mayfly_proxy_source_failures_total", "counter", "Troubles with the agent, and identities that could not be used.");
    buf_fmt(b, "mayfly_proxy_source_failures_total %llu\n", atomic_load(&p->m.troubles));
    print_listeners(b, p);
    print_peers(b, &p->m);
}
