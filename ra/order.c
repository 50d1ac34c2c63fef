/* Orders in memory: open ones until they expire, finished ones for a while, to be read again: each
 * kind by itself, so that failures cost nobody a certificate, and busy renewals nobody an order. */
#include "base/clock.h"
#include "ra/internal.h"
#include <stdlib.h>
#include <string.h>

#define TRIM_MAX 64 /* orders a call */

/* --- lists ------------------------------------------------------------------------------------------------------------------ */

static void list_append(struct order_list *l, struct order *o)
{
    o->list = l;
    o->prev = l->tail;
    o->next = NULL;
    if (l->tail)
        l->tail->next = o;
    else
        l->head = o;
    l->tail = o;
    l->count++;
}

static void list_remove(struct order *o)
{
    struct order_list *l = o->list;
    if (o->prev)
        o->prev->next = o->next;
    else
        l->head = o->next;
    if (o->next)
        o->next->prev = o->prev;
    else
        l->tail = o->prev;
    o->prev = o->next = NULL;
    o->list = NULL;
    l->count--;
}

static void session_link(struct ra_session *s, struct order *o)
{
    o->s_prev = NULL;
    o->s_next = s->open;
    if (s->open)
        s->open->s_prev = o;
    s->open = o;
    s->open_count++;
}

/* Leaves the open list and the session; the session may go with it. */
static void close_open(struct ra *ra, struct order *o)
{
    struct ra_session *s = o->session;
    list_remove(o);
    ra->pending -= o->status == RA_PENDING;
    if (o->s_prev)
        o->s_prev->s_next = o->s_next;
    else
        s->open = o->s_next;
    if (o->s_next)
        o->s_next->s_prev = o->s_prev;
    s->open_count--;
    o->s_prev = o->s_next = NULL;
    o->session = NULL;
    ra_session_release(s);
}

/* Kept with its certificate: of one session a few, the oldest first. */
static void served_link(struct ra_session *s, struct order *o)
{
    o->keeper = session_ref(s);
    o->s_prev = s->served_last;
    o->s_next = NULL;
    if (s->served_last)
        s->served_last->s_next = o;
    else
        s->served = o;
    s->served_last = o;
    s->served_count++;
}

static void served_unlink(struct order *o)
{
    struct ra_session *s = o->keeper;
    if (!s)
        return;
    if (o->s_prev)
        o->s_prev->s_next = o->s_next;
    else
        s->served = o->s_next;
    if (o->s_next)
        o->s_next->s_prev = o->s_prev;
    else
        s->served_last = o->s_prev;
    o->s_prev = o->s_next = NULL;
    o->keeper = NULL;
    s->served_count--;
    ra_session_release(s);
}

/* --- the object ---------------------------------------------------------------------------------------------------------------- */

struct order *order_make(struct ra *ra, struct ra_session *s, const struct names *n, struct err *e)
{
    size_t lens[CA_DNS_MAX + 1], total = lens[CA_DNS_MAX] = strlen(n->uri) + 1;
    for (size_t i = 0; i < n->dns_count; i++)
        total += lens[i] = strlen(n->dns[i]) + 1;
    struct order *o = calloc(1, sizeof *o + total);
    if (!o) {
        no_memory(e);
        return NULL;
    }
    if (id_make(o->id, e) < 0) {
        free(o);
        return NULL;
    }
    char *p = o->uri;
    memcpy(p, n->uri, lens[CA_DNS_MAX]);
    p += lens[CA_DNS_MAX];
    for (size_t i = 0; i < n->dns_count; i++) {
        memcpy(p, n->dns[i], lens[i]);
        o->dns[i] = p;
        p += lens[i];
    }
    o->dns_count = n->dns_count;
    o->refs = 1;
    o->ra = ra;
    o->session = session_ref(s);
    memcpy(o->owner, s->id, sizeof o->owner);
    o->status = RA_PENDING;
    return o;
}

static void order_free(struct order *o)
{
    ra_session_release(o->session);
    free(o->error);
    free(o->chain);
    free(o);
}

/* Under the lock, for references that are not the caller's last word: see order_unref. */
static void unref_locked(struct order *o)
{
    if (--o->refs == 0)
        order_free(o);
}

void order_unref(struct order *o)
{
    struct ra *ra = o->ra;
    pthread_mutex_lock(&ra->lock);
    unref_locked(o);
    pthread_mutex_unlock(&ra->lock);
}

/* What everybody shares is bounded for those alone who have proven nothing yet: no crowd of strangers
 * stops a renewal. */
int order_room(const struct ra *ra, const struct ra_session *s, bool pending, struct err *e)
{
    if (s->doomed || atomic_load(&s->deactivated))
        return session_refuse(s, e);
    if (pending && ra->pending >= RA_ORDERS_PENDING_MAX)
        return err_set(e, ERR_RATE, "orders", "%d orders wait for their authorization; try again later",
                       RA_ORDERS_PENDING_MAX);
    const size_t max = s->attested ? RA_ORDERS_SESSION_MAX : RA_ORDERS_STRANGER_MAX;
    if (s->open_count >= max)
        return err_set(e, ERR_RATE, "orders-session",
                       "%zu orders of this account are open; finish them, or wait until they expire", s->open_count);
    return 0;
}

int order_add(struct ra *ra, struct order *o, int64_t now, struct err *e)
{
    orders_trim(ra, now);
    if (order_room(ra, o->session, o->status == RA_PENDING, e) < 0)
        return -1;
    o->expires = now + RA_ORDER_LIFETIME;
    list_append(&ra->open, o);
    ra->pending += o->status == RA_PENDING;
    session_link(o->session, o);
    map_add(&ra->orders, &o->node, o->id, RA_ID_LEN);
    return 0;
}

void order_drop(struct ra *ra, struct order *o)
{
    if (o->session)
        close_open(ra, o);
    else
        list_remove(o);
    served_unlink(o);
    map_remove(&ra->orders, &o->node);
    unref_locked(o);
}

/* A ring: the oldest goes. */
static void ring_add(struct ra *ra, struct order_list *l, struct order *o)
{
    list_append(l, o);
    while (l->count > RA_ORDERS_FINISHED)
        order_drop(ra, l->head);
}

void order_finish(struct ra *ra, struct order *o, enum ra_status status, const struct err *why)
{
    struct ra_session *s = o->session;
    if (why && !o->error && (o->error = malloc(sizeof *o->error)))
        *o->error = *why;
    if (status == RA_VALID && !o->one_shot)
        session_ref(s);
    close_open(ra, o);
    o->status = status;
    o->finished = clock_wall();
    if (o->one_shot) {
        ring_add(ra, &ra->at_once, o);
    } else if (status != RA_VALID) {
        ring_add(ra, &ra->failed, o);
    } else {
        list_append(&ra->served, o);
        served_link(s, o);
        ra_session_release(s);
        if (s->served_count > RA_ORDERS_SERVED_SESSION)
            order_drop(ra, s->served);
    }
}

/* All live equally long, so the list is in order of expiry. What the signer has is left alone: its
 * answer comes within seconds. */
static bool trim_open(struct ra *ra, int64_t now)
{
    struct order *o = ra->open.head;
    bool old = o && o->expires <= now && o->status != RA_PROCESSING;
    if (old)
        order_drop(ra, o);
    return old;
}

static bool trim_served(struct ra *ra, int64_t now)
{
    struct order *o = ra->served.head;
    bool old = ra->served.count > RA_ORDERS_FINISHED && o->finished + RA_ORDER_KEPT <= now;
    if (old)
        order_drop(ra, o);
    return old;
}

void orders_trim(struct ra *ra, int64_t now)
{
    for (int i = 0; i < TRIM_MAX && trim_open(ra, now); i++)
        ;
    for (int i = 0; i < TRIM_MAX && trim_served(ra, now); i++)
        ;
}

/* Status follows what the session has shown meanwhile. */
void order_refresh(struct ra *ra, struct order *o, int64_t now)
{
    struct err why = {0};
    if (!o->session || o->status == RA_PROCESSING)
        return;
    const struct authz *a = authz_live(ra, o->session, o->uri, now);
    if (o->expires <= now) {
        err_set(&why, ERR_NOT_READY, "order-expired", "the order has expired; make a new one");
        order_finish(ra, o, RA_INVALID, &why);
    } else if (a) {
        memcpy(o->authz, a->id, sizeof o->authz);
        ra->pending -= o->status == RA_PENDING;
        o->status = RA_READY;
    } else if (o->status == RA_READY) {
        err_set(&why, ERR_UNAUTHORIZED, "authorization-expired",
                "the authorization has ended, or no longer fits the entry; make a new order, and attest again");
        order_finish(ra, o, RA_INVALID, &why);
    }
}

struct order *order_find(struct ra *ra, const struct ra_session *s, const char *id)
{
    struct map_node *n = map_find(&ra->orders, id, strlen(id));
    struct order *o = n ? MAP_OBJECT(n, struct order, node) : NULL;
    if (!o || strcmp(o->owner, s->id) != 0)
        return NULL;
    o->refs++;
    return o;
}

/* --- what others see --------------------------------------------------------------------------------------------------------------- */

/* Identifiers as the view has them: 2 kB each, so most orders, which have one or two, use the stack. */
static struct ra_identifier *identifiers(const struct order *o, struct ra_identifier *few, size_t few_n)
{
    size_t n = 1 + o->dns_count;
    struct ra_identifier *ids = n <= few_n ? few : malloc(n * sizeof *ids);
    for (size_t i = 0; ids && i < n; i++) {
        snprintf(ids[i].type, sizeof ids[i].type, "%s", i ? "dns" : "uri");
        snprintf(ids[i].value, sizeof ids[i].value, "%s", i ? o->dns[i - 1] : o->uri);
    }
    return ids;
}

void order_answer(struct order *o, ra_order_cb *cb, void *arg)
{
    struct ra_identifier few[2], *ids = identifiers(o, few, 2);
    char authz[1][RA_ID_LEN + 1];
    struct ra *ra = o->ra;
    struct err e = {0};
    if (!ids) {
        no_memory(&e);
        cb(arg, NULL, &e);
        order_unref(o);
        return;
    }
    struct ra_order_view v = {.identifiers = ids, .identifiers_count = 1 + o->dns_count,
                              .authz = (const char (*)[RA_ID_LEN + 1])authz, .authz_count = 1};
    memcpy(v.id, o->id, sizeof v.id);
    pthread_mutex_lock(&ra->lock);
    order_refresh(ra, o, clock_wall());
    v.status = o->status;
    v.expires = o->expires;
    memcpy(authz[0], o->authz, sizeof authz[0]);
    if (o->status == RA_VALID) { /* set once before the status was, and kept by our reference */
        v.chain_pem = o->chain;
        v.chain_len = o->chain_len;
        v.index = o->index;
    }
    if (o->error)
        v.error = *o->error;
    pthread_mutex_unlock(&ra->lock);
    cb(arg, &v, NULL);
    if (ids != few)
        free(ids);
    order_unref(o);
}
