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
#define UNDER_WAY_MAX 8                  /* CRLs that the signer has at a time */
#define LISTS (2 * CRL_SHARDS_MAX - 1)

struct waiting { /* a request */
    struct waiting *next;
    struct request *r;
};
struct crl_list {
    struct crl_name name;
    uint8_t *der; /* owned; NULL: none was made yet */
    size_t len;
    uint64_t number;
    int64_t this_update, next_update, again_at; /* wall seconds */
    bool asked;    /* since it was made */
    bool names;    /* somebody */
    bool dirty;    /* it would name others now */
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
    atomic_bool failing;    /* the signer made none last */
    atomic_bool stop;
    pthread_mutex_t lock;   /* guards all below */
    pthread_cond_t wake;
    bool whole;             /* all that stood at the start is in found */
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
        (*at)->name = n;
    return *at;
}

static bool is_good(const struct crl_list *l, int64_t now)
{
    return l->der && l->next_update > now;
}

static bool is_due(const struct crl_list *l, int64_t now, int64_t mono)
{
    if (l->under_way || l->retry_at > mono)
        return false;
    return l->dirty || l->waiting || (l->der && (l->asked || l->names) && l->again_at <= now);
}

/* Requests that nobody else has answered yet; the others are let go of. */
static struct waiting *take_waiting(struct crl_list *l)
{
    struct waiting *mine = NULL, *next;
    for (struct waiting *w = l->waiting; w; w = next) {
        next = w->next;
        if (request_claim(w->r)) {
            w->next = mine;
            mine = w;
        } else {
            free(w);
        }
    }
    l->waiting = NULL;
    return mine;
}

/* Why the signer made none is the operator's to read. */
static void settle_all(struct waiting *w, const struct err *why)
{
    struct err e = {0};
    err_set(&e, ERR_UNAVAILABLE, "crl-none", "no CRL can be made just now (the daemon's log says why); try again");
    while (w) {
        struct waiting *next = w->next;
        if (why)
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

/* RFC 9110 section 13.2.2: a tag decides before a date. */
static bool is_fresh(const struct request *r, const struct crl_list *l)
{
    const char *tag = MHD_lookup_connection_value(r->connection, MHD_HEADER_KIND, "If-None-Match");
    const char *since = MHD_lookup_connection_value(r->connection, MHD_HEADER_KIND, "If-Modified-Since");
    struct tm tm = {0};
    if (tag)
        return request_has(r, r->validators[1]);
    const char *end = since ? strptime(since, "%a, %d %b %Y %H:%M:%S GMT", &tm) : NULL;
    return end && !*end && timegm(&tm) >= l->this_update;
}

static void list_answer(struct request *r, const struct crl_list *l, int64_t now)
{
    int64_t age = l->again_at > now ? l->again_at - now : 1;
    if (age > l->next_update - now)
        age = l->next_update - now;
    snprintf(r->validators[0], sizeof r->validators[0], "public, max-age=%lld", (long long)age);
    snprintf(r->validators[1], sizeof r->validators[1], "\"%llu\"", (unsigned long long)l->number);
    http_date(r->validators[2], l->this_update);
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
    if (atomic_load(&k->stop) || !k->whole)
        return err_set(e, ERR_UNAVAILABLE, "crl-not-ready",
                       "this server is finding out which certificates were revoked, and makes CRLs then; try again in "
                       "some seconds");
    if (!(w = malloc(sizeof *w)))
        return err_set(e, ERR_INTERNAL, "memory", "out of memory for a request");
    request_ask(r);
    *w = (struct waiting){l->waiting, r};
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
    l->this_update = s->this_update;
    l->next_update = s->next_update;
    l->again_at = now + (s->next_update - now) / 2;
    l->names = names;
    l->asked = l->waiting != NULL;
}

static void refused(struct crl_list *l)
{
    l->dirty = true;
    l->retry_at = clock_mono_ms() + RETRY_MS;
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
    if (der)
        install(a->l, s, der, a->names);
    else
        refused(a->l);
    struct waiting *w = take_waiting(a->l);
    for (struct waiting *x = w; der && x; x = x->next)
        list_answer(x->r, a->l, clock_wall());
    pthread_cond_signal(&k->wake);
    pthread_mutex_unlock(&k->lock);
    const struct err *why = der ? NULL : s ? &none : e;
    say(k, why);
    settle_all(w, why);
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
    refused(l);
    struct waiting *w = take_waiting(l);
    pthread_mutex_unlock(&k->lock);
    say(k, e);
    settle_all(w, e);
    pthread_mutex_lock(&k->lock);
}

/* Lock held on entry and return, not between. */
static void ask_due(struct crl_keeper *k)
{
    for (size_t i = 0; i < LISTS && k->under_way < UNDER_WAY_MAX && !atomic_load(&k->stop); i++) {
        struct crl_list *l = k->lists[i];
        struct err e = {0};
        if (!l || !is_due(l, clock_wall(), clock_mono_ms()))
            continue;
        l->under_way = true;
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

static void find(struct crl_keeper *k)
{
    struct err e = {0};
    int rc = crl_find(&k->found, &k->o, &k->after, got_more, k, &k->stop, &e);
    if (rc < 0 && strcmp(k->find_rule, e.rule) != 0)
        log_err(LOG_WARN, "what was revoked cannot be looked up for the CRLs; trying on", &e);
    memcpy(k->find_rule, e.rule, sizeof k->find_rule);
    pthread_mutex_lock(&k->lock);
    k->whole |= rc == 0;
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
        if (k->whole)
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
    struct err e = {0};
    if (!k)
        return;
    pthread_mutex_lock(&k->lock);
    atomic_store(&k->stop, true);
    pthread_cond_signal(&k->wake);
    pthread_mutex_unlock(&k->lock);
    pthread_join(k->thread, NULL);
    err_set(&e, ERR_UNAVAILABLE, "stopping", "this server is stopping; try again");
    for (size_t i = 0; i < LISTS; i++) {
        pthread_mutex_lock(&k->lock);
        struct waiting *w = k->lists[i] ? take_waiting(k->lists[i]) : NULL;
        pthread_mutex_unlock(&k->lock);
        settle_all(w, &e); /* none: the server has answered all before it stopped */
    }
    keeper_unref(k);
}
