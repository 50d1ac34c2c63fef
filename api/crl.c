#include "api/crl.h"
#include "api/internal.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TICK_MS 250
#define RETRY_MS 1000
#define WAIT_MS 5000                     /* a request waits no longer for a list */
#define LAG_S 5                          /* a revocation may be missing so long; then no list is made without it */
#define SAY_MS 5000
#define UNDER_WAY_MAX 8                  /* CRLs that the signer has at a time */
#define LISTS (2 * CRL_SHARDS_MAX - 1)

struct waiting { /* a request */
    struct waiting *next;
    struct request *r;
    int64_t until; /* monotonic ms */
};
struct crl_list {
    struct crl_name name;
    uint8_t *der; /* owned; NULL: none was made yet */
    size_t len;
    uint64_t number;
    int64_t made_at, next_update, again_at; /* wall seconds; made_at: of none yet, when the keeper started */
    bool asked;    /* since it was made */
    bool names;    /* somebody */
    bool dirty;    /* it would name others now */
    bool was_dirty; /* when the signer was asked */
    bool under_way;
    int64_t retry_at; /* monotonic ms: the signer is not asked before */
    struct waiting *waiting;
};
struct crl_keeper {
    struct crl_options o;
    atomic_uint refs; /* the server's, and one for each question to the signer */
    pthread_t thread;
    struct crl_found found; /* of the thread */
    int64_t after;          /* of the thread: id of the last revocation that was looked up */
    char find_rule[32];     /* of the thread: what finding complained of last */
    bool crowded;           /* of the thread: it was said that a list is too small */
    bool said;              /* of the thread: that none is made, as somebody may be missing */
    int64_t current_ms;     /* of the thread: monotonic, when current was last true */
    size_t turn;            /* of the thread: the list that comes first in the next pass */
    int64_t started;        /* wall seconds */
    atomic_bool failing;    /* the signer made none last */
    atomic_bool stop;
    pthread_mutex_t lock;   /* guards all below */
    pthread_cond_t wake;
    bool current;           /* what is found is all that a list made now must name */
    unsigned under_way;
    struct crl_list *lists[LISTS]; /* owned; by place_of */
};

static void keeper_unref(struct crl_keeper *k)
{
    if (atomic_fetch_sub(&k->refs, 1) > 1)
        return;
    for (size_t i = 0; i < LISTS; i++) {
        if (k->lists[i])
            free(k->lists[i]->der);
        free(k->lists[i]);
    }
    crl_found_free(&k->found);
    pthread_cond_destroy(&k->wake);
    pthread_mutex_destroy(&k->lock);
    free(k);
}

/* --- lists; under the lock --------------------------------------------------------------------------------- */

static struct crl_list *list_of(struct crl_keeper *k, struct crl_name n)
{
    struct crl_list **at = &k->lists[n.shards - 1 + n.shard];
    if (!*at && (*at = calloc(1, sizeof **at)))
        **at = (struct crl_list){.name = n, .made_at = k->started};
    return *at;
}

static bool is_good(const struct crl_list *l, int64_t now)
{
    return l->der && l->next_update > now;
}

/* No two of a name are made in one second, nor in the one in which a keeper before this one ended: so the time
 * of making tells them apart. */
static bool is_due(const struct crl_list *l, int64_t now, int64_t mono)
{
    if (l->under_way || l->retry_at > mono || l->made_at == now)
        return false;
    return l->dirty || l->waiting || (l->der && (l->asked || l->names) && l->again_at <= now);
}

/* Puts before *taken the requests that were to wait until then or less (a server that stops: all) and that nobody
 * else has answered yet; those answered are let go of. */
static void take_waiting(struct crl_list *l, int64_t until, struct waiting **taken)
{
    struct waiting **at = &l->waiting, *w;
    while ((w = *at)) {
        if (w->until > until && !atomic_load(&w->r->server->stopping)) {
            at = &w->next;
            continue;
        }
        *at = w->next;
        if (request_claim(w->r)) {
            w->next = *taken;
            *taken = w;
        } else {
            free(w);
        }
    }
}

/* The same of all lists that the signer has not been asked for. */
static void take_idle(struct crl_keeper *k, int64_t until, struct waiting **taken)
{
    for (size_t i = 0; i < LISTS; i++)
        if (k->lists[i] && !k->lists[i]->under_way)
            take_waiting(k->lists[i], until, taken);
}

/* Why there is none is the operator's to read. Lock not held. */
static void settle_all(struct waiting *w, bool failed)
{
    struct err e = {0};
    err_set(&e, ERR_UNAVAILABLE, "crl-none", "no CRL can be made just now (the daemon's log says why); try again");
    while (w) {
        struct waiting *next = w->next;
        if (failed)
            request_fail(w->r, &e);
        request_settle(w->r);
        free(w);
        w = next;
    }
}

/* --- serving ------------------------------------------------------------------------------------------------- */

static void http_date(char dst[48], int64_t at)
{
    struct tm tm;
    time_t t = (time_t)at;
    gmtime_r(&t, &tm);
    strftime(dst, 48, "%a, %d %b %Y %H:%M:%S GMT", &tm); /* RFC 9110 section 5.6.7; the locale is "C" */
}

/* RFC 9110 section 13.2.2: a tag decides before a date. A date is one of ours or says nothing: a clock that was set
 * back makes later lists with earlier dates. */
static bool is_fresh(const struct request *r, const struct crl_list *l)
{
    const char *tag = MHD_lookup_connection_value(r->connection, MHD_HEADER_KIND, "If-None-Match");
    const char *since = MHD_lookup_connection_value(r->connection, MHD_HEADER_KIND, "If-Modified-Since");
    struct tm tm = {0};
    if (tag)
        return request_has(r, r->validators[1]);
    const char *end = since ? strptime(since, "%a, %d %b %Y %H:%M:%S GMT", &tm) : NULL;
    return end && !*end && timegm(&tm) == l->made_at;
}

static void list_answer(struct request *r, const struct crl_list *l, int64_t now)
{
    int64_t age = l->again_at > now ? l->again_at - now : 1;
    if (age > l->next_update - now)
        age = l->next_update - now;
    snprintf(r->validators[0], sizeof r->validators[0], "public, max-age=%lld", (long long)age);
    snprintf(r->validators[1], sizeof r->validators[1], "\"%llu\"", (unsigned long long)l->number);
    http_date(r->validators[2], l->made_at);
    r->cache = r->validators[0];
    r->etag = r->validators[1];
    r->modified = r->validators[2];
    r->status = 304;
    if (is_fresh(r, l))
        return;
    r->status = 200;
    r->content_type = "application/pkix-crl";
    buf_put(&r->out, l->der, l->len);
}

static int wait_for(struct crl_keeper *k, struct crl_list *l, struct request *r, struct err *e)
{
    struct waiting *w = NULL;
    if (!k->current || atomic_load(&k->stop) || atomic_load(&r->server->stopping))
        return err_set(e, ERR_UNAVAILABLE, "crl-not-ready",
                       "this server is finding out which certificates were revoked, and makes CRLs then; try again in "
                       "some seconds");
    if (!(w = malloc(sizeof *w)))
        return err_set(e, ERR_INTERNAL, "memory", "out of memory for a request");
    request_ask(r);
    *w = (struct waiting){l->waiting, r, clock_mono_ms() + WAIT_MS};
    l->waiting = w;
    pthread_cond_signal(&k->wake);
    return 0;
}

static int serve(struct crl_keeper *k, struct crl_name n, struct request *r, struct err *e)
{
    int64_t now = clock_wall();
    int rc = 0;
    pthread_mutex_lock(&k->lock);
    struct crl_list *l = list_of(k, n);
    if (!l) {
        rc = err_set(e, ERR_INTERNAL, "memory", "out of memory for a CRL");
    } else {
        l->asked = true;
        if (is_good(l, now))
            list_answer(r, l, now);
        else
            rc = wait_for(k, l, r, e);
    }
    pthread_mutex_unlock(&k->lock);
    return rc;
}

void public_crl(struct request *r)
{
    struct err e = {0};
    struct crl_name n;
    r->cors = true;
    int rc = crl_name_parse(&n, r->arg, strlen(r->arg))
                 ? serve(r->server->crl, n, r, &e)
                 : err_set(&e, ERR_NOT_FOUND, "crl",
                           "no CRL is named %.40s: a certificate says its own, as /crl/16-3.crl, in cRLDistributionPoints; "
                           "one that says noRevAvail has none",
                           r->arg);
    if (rc < 0)
        request_fail(r, &e);
}

/* --- asking the signer --------------------------------------------------------------------------------------- */

struct asked {
    struct crl_keeper *k; /* holds a reference */
    struct crl_list *l;   /* the keeper's */
    bool names;
};

static void install(struct crl_list *l, const struct ca_crl_signed *s, uint8_t *der, bool names)
{
    int64_t now = clock_wall();
    free(l->der);
    l->der = der;
    l->len = s->crl.len;
    l->number = s->number;
    l->made_at = now;
    l->next_update = s->next_update;
    l->again_at = now + (s->next_update - now) / 2;
    l->names = names;
    l->asked = l->waiting != NULL;
}

/* Who waits for another list that the signer has not been asked for need not wait until it is that one's turn
 * to fail. */
static void refused(struct crl_keeper *k, struct crl_list *l, struct waiting **w)
{
    l->dirty |= l->was_dirty;
    l->retry_at = clock_mono_ms() + RETRY_MS;
    take_idle(k, INT64_MAX, w); /* l is one of them */
}

/* Told when it changes, not with every list. Lock not held. */
static void say(struct crl_keeper *k, const struct err *e)
{
    bool was = atomic_exchange(&k->failing, e != NULL);
    if (e && !was)
        log_err(LOG_WARN, "no CRL can be made now; those there are served until they lapse", e);
    if (!e && was)
        log_info("CRLs are made again", NULL);
}

/* On the client's thread. */
static void signed_or_not(void *arg, const struct ca_crl_signed *s, const struct err *e)
{
    struct asked *a = arg;
    struct crl_keeper *k = a->k;
    struct err none = {0};
    uint8_t *der = s ? malloc(s->crl.len) : NULL;
    if (der)
        memcpy(der, s->crl.p, s->crl.len);
    else if (s)
        err_set(&none, ERR_INTERNAL, "memory", "out of memory for a CRL");
    pthread_mutex_lock(&k->lock);
    a->l->under_way = false;
    k->under_way--;
    struct waiting *w = NULL;
    if (der) {
        install(a->l, s, der, a->names);
        take_waiting(a->l, INT64_MAX, &w);
    } else {
        refused(k, a->l, &w);
    }
    for (struct waiting *x = w; der && x; x = x->next)
        list_answer(x->r, a->l, clock_wall());
    pthread_cond_signal(&k->wake);
    pthread_mutex_unlock(&k->lock);
    const struct err *why = der ? NULL : s ? &none : e;
    say(k, why);
    settle_all(w, why != NULL);
    free(a);
    keeper_unref(k);
}

/* Without the lock; l is marked as under way. */
static int list_ask(struct crl_keeper *k, struct crl_list *l, struct err *e)
{
    struct asked *a = malloc(sizeof *a);
    struct buf revoked;
    size_t left_out = 0;
    int rc = -1;
    buf_init(&revoked, IPC_FRAME_MAX);
    long n = a ? crl_found_select(&k->found, l->name, clock_wall(), &revoked, &left_out, e)
               : err_set(e, ERR_INTERNAL, "memory", "out of memory for a CRL");
    if (left_out > 0 && !k->crowded)
        log_error("a CRL has no room for all that were revoked: raise crl.shards, and until the certificates of now have "
                  "ended, trust no list of this authority to be complete", "list", log_num(l->name.shard), "left_out",
                  log_num((long long)left_out), NULL);
    k->crowded = left_out > 0;
    if (n >= 0) {
        const struct ca_crl m = {.shards = (uint16_t)l->name.shards, .shard = (uint16_t)l->name.shard,
                                 .count = (uint16_t)n, .revoked = {revoked.p, revoked.len}};
        *a = (struct asked){k, l, n > 0};
        atomic_fetch_add(&k->refs, 1);
        rc = ra_crl(k->o.ra, &m, signed_or_not, a, e);
        if (rc < 0)
            atomic_fetch_sub(&k->refs, 1); /* ours is left */
    }
    buf_free(&revoked);
    if (rc < 0)
        free(a);
    return rc;
}

/* Lock held on return. */
static void list_failed(struct crl_keeper *k, struct crl_list *l, const struct err *e)
{
    pthread_mutex_lock(&k->lock);
    l->under_way = false;
    k->under_way--;
    struct waiting *w = NULL;
    refused(k, l, &w);
    pthread_mutex_unlock(&k->lock);
    say(k, e);
    settle_all(w, true);
    pthread_mutex_lock(&k->lock);
}

/* On from where the last pass ended for want of room, so that each list has its turn. Lock held on entry and
 * return, not between. */
static void ask_due(struct crl_keeper *k)
{
    for (size_t i = 0; i < LISTS && k->under_way < UNDER_WAY_MAX && !atomic_load(&k->stop); i++) {
        struct crl_list *l = k->lists[k->turn];
        struct err e = {0};
        k->turn = (k->turn + 1) % LISTS;
        if (!l || !is_due(l, clock_wall(), clock_mono_ms()))
            continue;
        l->under_way = true;
        l->was_dirty = l->dirty;
        l->dirty = false;
        k->under_way++;
        pthread_mutex_unlock(&k->lock);
        int rc = list_ask(k, l, &e);
        if (rc < 0)
            list_failed(k, l, &e);
        else
            pthread_mutex_lock(&k->lock);
    }
}

/* Who has waited long enough, for the signer too; and who would wait for lists that are not made. Lock held on
 * entry and return, not between. */
static void fail_late(struct crl_keeper *k)
{
    struct waiting *w = NULL;
    int64_t now = clock_mono_ms();
    for (size_t i = 0; i < LISTS; i++)
        if (k->lists[i])
            take_waiting(k->lists[i], now, &w);
    if (!k->current)
        take_idle(k, INT64_MAX, &w);
    if (!w)
        return;
    pthread_mutex_unlock(&k->lock);
    settle_all(w, true);
    pthread_mutex_lock(&k->lock);
}

/* --- the thread ------------------------------------------------------------------------------------------------- */

/* From crl_find, also on the audit service's thread. */
static void got_more(void *arg, struct crl_name n)
{
    struct crl_keeper *k = arg;
    pthread_mutex_lock(&k->lock);
    struct crl_list *l = list_of(k, n);
    if (l)
        l->dirty = true;
    pthread_mutex_unlock(&k->lock);
}

/* All is found, or what waits is young: with somebody revoked every second something always waits for the index.
 * What stood at the start must be there in any case; a keeper before this one may have listed it. */
static bool is_current(const struct crl_keeper *k, int rc, int64_t oldest, int64_t now)
{
    return rc == 0 || (oldest > k->started && oldest <= now && now - oldest < LAG_S);
}

/* Once each way, and not of what is over at once. */
static void say_current(struct crl_keeper *k, bool current)
{
    int64_t now = clock_mono_ms();
    if (current) {
        if (k->said)
            log_info("what was revoked is found again; CRLs are made again", NULL);
        k->said = false;
        k->current_ms = now;
    } else if (!k->said && now - k->current_ms >= SAY_MS) {
        log_warn("no CRL is made while somebody revoked may be missing: the index has not come to the revocations; "
                 "those CRLs there are served until their nextUpdate", NULL);
        k->said = true;
    }
}

static void find(struct crl_keeper *k)
{
    struct err e = {0};
    int64_t oldest = 0;
    int rc = crl_find(&k->found, &k->o, &k->after, &oldest, got_more, k, &k->stop, &e);
    if (rc < 0 && strcmp(k->find_rule, e.rule) != 0)
        log_err(LOG_WARN, "what was revoked cannot be looked up for the CRLs; trying on", &e);
    memcpy(k->find_rule, e.rule, sizeof k->find_rule);
    bool current = is_current(k, rc, oldest, clock_wall());
    say_current(k, current);
    pthread_mutex_lock(&k->lock);
    k->current = current;
    pthread_mutex_unlock(&k->lock);
}

static void tick(struct crl_keeper *k, int64_t ms)
{
    cond_wait_until(&k->wake, &k->lock, ms);
}

static void *keep(void *arg)
{
    struct crl_keeper *k = arg;
    int64_t next = 0;
    pthread_mutex_lock(&k->lock);
    while (!atomic_load(&k->stop)) {
        int64_t now = clock_mono_ms();
        if (now >= next) {
            pthread_mutex_unlock(&k->lock);
            find(k);
            pthread_mutex_lock(&k->lock);
            next = clock_mono_ms() + TICK_MS;
        }
        fail_late(k);
        if (k->current)
            ask_due(k);
        if (!atomic_load(&k->stop))
            tick(k, next);
    }
    pthread_mutex_unlock(&k->lock);
    return NULL;
}

int crl_start(struct crl_keeper **out, const struct crl_options *o, struct err *e)
{
    struct crl_keeper *k = calloc(1, sizeof *k);
    if (!k)
        return err_set(e, ERR_INTERNAL, "memory", "out of memory for CRLs");
    k->o = *o;
    k->started = clock_wall();
    k->current_ms = clock_mono_ms();
    atomic_init(&k->refs, 1);
    crl_found_init(&k->found);
    pthread_mutex_init(&k->lock, NULL);
    cond_init_mono(&k->wake);
    if (thread_start(&k->thread, keep, k, "the thread that keeps CRLs", e) < 0) {
        keeper_unref(k);
        return -1;
    }
    *out = k;
    return 0;
}

void crl_stop(struct crl_keeper *k)
{
    struct waiting *w = NULL;
    if (!k)
        return;
    pthread_mutex_lock(&k->lock);
    atomic_store(&k->stop, true);
    pthread_cond_signal(&k->wake);
    pthread_mutex_unlock(&k->lock);
    pthread_join(k->thread, NULL);
    pthread_mutex_lock(&k->lock);
    for (size_t i = 0; i < LISTS; i++)
        if (k->lists[i])
            take_waiting(k->lists[i], INT64_MAX, &w);
    pthread_mutex_unlock(&k->lock);
    settle_all(w, true); /* none: the server has answered all before it stopped */
    keeper_unref(k);
}
