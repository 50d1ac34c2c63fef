/* Who makes room when too many handshakes are unfinished.
 *
 * Whoever only connects, or sends a few bytes, pays nothing for a place. So it is the first to lose it, after a tenth of
 * a second (a ClientHello comes with the connection, however far away its sender is); who was answered has a second
 * (its next word is a round trip away). An address that has more than half of the places has half of the time: what it
 * sends stands before others in the kernel's queue, who must be reached before they give up.
 * Nobody is given up whose bytes came and were not looked at: it is us who are slow then.
 *
 * The places are each thread's own, an even part of `max_handshakes`: a thread can only give up its own handshakes, and
 * others would take every place that it has lost. */
#include "base/clock.h"
#include "proxy/internal.h"

void admission_enter(struct conn *c)
{
    c->place = address_slot(&c->src.sa);
    c->door->handshaking++;
    if (c->place >= 0)
        c->door->crowd->n[c->place]++;
}

void admission_leave(struct conn *c)
{
    c->door->handshaking--;
    if (c->place >= 0)
        c->door->crowd->n[c->place]--;
}

/* They add up to max_handshakes: were there more, whoever fills its part first would leave others without any. */
static unsigned places(const struct door *d)
{
    unsigned threads = d->w->p->threads, all = d->l->conf->max_handshakes;
    unsigned n = all / threads + (d->w->number < all % threads);
    return n ? n : 1;
}

/* Only in front of a server: beside a client all come from this host. */
static bool greedy(const struct conn *c)
{
    return c->l->conf->mode == PROXY_SERVER && c->place >= 0 && c->door->crowd->n[c->place] > places(c->door) / 2;
}

/* The least goes first. */
static int rank(const struct conn *c)
{
    return c->peer ? 3 : !c->answered ? 0 : greedy(c) ? 1 : 2;
}

static int64_t patience(const struct conn *c)
{
    const struct proxy *p = c->w->p;
    if (c->peer) /* judged: it waits for our upstream */
        return atomic_load(&p->patience);
    return atomic_load(c->answered ? &p->patience : &p->patience_silent) >> greedy(c);
}

static bool unread(const struct conn *c)
{
    bool outer = c->l->conf->mode == PROXY_SERVER || c->state == CONN_TLS;
    char byte;
    return (c->state == CONN_HEADER || c->state == CONN_TLS) &&
           recv(outer ? c->tls.fd : c->plain.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

static struct conn *slowest(const struct door *d)
{
    int64_t now = clock_mono_ms();
    struct conn *found = NULL;
    for (struct conn *c = d->w->handshakes.first; c && !(found && rank(found) == 0); c = c->next)
        if (c->door == d && (!found || rank(c) < rank(found)) && now - c->since >= patience(c) && !unread(c))
            found = c;
    return found;
}

bool admission_room(struct door *d, struct conn **victim)
{
    *victim = NULL;
    if (d->handshaking < places(d))
        return true;
    *victim = slowest(d);
    return *victim;
}
