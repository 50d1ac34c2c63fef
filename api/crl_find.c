/* From a revocation to the certificates that it names, through the audit service: what it hands out it has
 * read from the log and proven. */
#include "api/crl.h"
#include "audit/service.h"
#include "base/clock.h"
#include "base/der.h"
#include "base/log.h"
#include "base/oid.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define PAGE 500

struct revoked { /* a revocation, copied */
    int64_t id, time;
    enum tlog_revoked_by by;
    uint8_t reason;
    bool client, logged;
    uint64_t index;
    char value[TLOG_NAME_MAX + 1];
};
struct find {
    const struct crl_options *o;
    struct crl_found *found;
    const struct revoked *r;
    int64_t now;
    uint64_t last; /* entry of the page that came last */
    void (*each)(void *arg, struct crl_name n);
    void *arg;
    const atomic_bool *stop;
    struct audit_question q;
    pthread_mutex_t lock; /* guards the two below */
    pthread_cond_t wake;
    bool done;
    struct err err; /* code ERR_NONE: answered */
};

/* --- what a certificate names ----------------------------------------------------------------------------- */

/* cRLDistributionPoints as ca/tbs.c writes it: one point, one URI. */
static bool point_read(struct crl_name *n, struct bytes value)
{
    struct cur in = cur_of(value.p, value.len), points, point, name, full;
    struct bytes url;
    return der_enter(&in, DER_SEQUENCE, &points) == 0 && der_enter(&points, DER_SEQUENCE, &point) == 0 &&
           der_enter(&point, DER_CTX_CONS, &name) == 0 && der_enter(&name, DER_CTX_CONS, &full) == 0 &&
           der_get(&full, 0x86, &url) == 0 && crl_url_parse(n, (const char *)url.p, url.len);
}

static bool names_crl(struct crl_name *n, struct bytes extensions)
{
    struct cur c = cur_of(extensions.p, extensions.len), in;
    struct bytes oid, value;
    while (cur_left(&c)) {
        if (der_enter(&c, DER_SEQUENCE, &in) < 0 || der_get(&in, DER_OID, &oid) < 0)
            return false;
        if (!bytes_eq(oid, OID_EXT_CDP, OID_LEN(OID_EXT_CDP)))
            continue;
        return der_get(&in, DER_OCTET_STRING, &value) == 0 && cur_done(&in) && point_read(n, value);
    }
    return false;
}

/* On the audit service's thread, while ours waits. */
static int entry_found(void *arg, const struct audit_found *x, struct err *e)
{
    struct find *f = arg;
    const struct audit_entry *t = x->entry;
    struct crl_cert c = {.serial = (uint64_t)f->o->config->log.number << 48 | t->index, .time = f->r->time,
                         .not_after = t->not_after, .reason = f->r->reason, .client = f->r->client};
    f->last = t->index;
    if (f->q.covered <= f->r->index)
        return 1; /* not all are there yet: all in one CRL, when they are */
    if (t->kind != AUDIT_ISSUED || t->index >= f->r->index || t->not_after + CRL_KEPT_AFTER <= f->now ||
        !names_crl(&c.name, t->cert.extensions))
        return 0;
    if (crl_found_add(f->found, &c, e) < 0)
        return -1;
    f->each(f->arg, c.name);
    return 0;
}

/* --- asking -------------------------------------------------------------------------------------------- */

static void answered(struct audit_question *q, const struct err *e)
{
    struct find *f = q->arg;
    pthread_mutex_lock(&f->lock);
    if (e)
        f->err = *e;
    f->done = true;
    pthread_cond_signal(&f->wake);
    pthread_mutex_unlock(&f->lock);
}

static int page(struct find *f, struct err *e)
{
    f->done = false;
    err_clear(&f->err);
    f->q.first = true;
    f->q.done = answered;
    f->q.arg = f->q.each_arg = f;
    f->q.each = entry_found;
    if (audit_ask(f->o->audit, &f->q, e) < 0)
        return -1;
    pthread_mutex_lock(&f->lock);
    while (!f->done)
        pthread_cond_wait(&f->wake, &f->lock);
    pthread_mutex_unlock(&f->lock);
    if (f->err.code == ERR_NONE)
        return 0;
    *e = f->err;
    return -1;
}

/* All pages of one search. 1: the index has not come to the revocation's record yet. */
static int search(struct find *f, const char *filter, struct err *e)
{
    struct audit_filter *q = &f->q.filter;
    audit_filter_init(q);
    if (audit_filter_set(q, filter, f->r->value, strlen(f->r->value), e) < 0) {
        log_err(LOG_WARN, "a revocation names nothing that can be searched for", e);
        return 0;
    }
    q->outcome = AUDIT_ISSUED;
    q->from = f->now - RA_REVOCATION_KEPT; /* what is older has ended for good */
    q->oldest = true;
    q->limit = PAGE;
    do {
        if (page(f, e) < 0)
            return -1;
        if (f->q.covered <= f->r->index || atomic_load(f->stop))
            return 1;
        q->resumed = true;
        q->after = f->last;
    } while (*f->q.next);
    return 0;
}

static int find_one(struct find *f, struct err *e)
{
    static const char *const filters[] = {
        [TLOG_BY_SERIAL] = "serial", [TLOG_BY_ID] = "spiffe_id", [TLOG_BY_PREFIX] = "prefix",
        [TLOG_BY_ENTRY] = "entry",   [TLOG_BY_AGENT] = "agent",  [TLOG_BY_KEY] = "key",
    };
    int rc = search(f, filters[f->r->by], e);
    return rc == 0 && f->r->by == TLOG_BY_AGENT ? search(f, "spiffe_id", e) : rc; /* and its own */
}

/* --- revocations in their order ------------------------------------------------------------------------------ */

static bool copy(void *arg, const struct ra_revocation *v)
{
    struct revoked *r = arg;
    *r = (struct revoked){.id = v->id, .time = v->time, .by = v->by, .reason = v->reason, .logged = v->logged,
                          .index = v->index, .client = strncmp(v->actor, "acme:", 5) == 0};
    snprintf(r->value, sizeof r->value, "%s", v->value);
    return false;
}

static int find_all(struct find *f, struct revoked *r, int64_t *after, int64_t *oldest, struct err *e)
{
    for (bool more = true; more;) {
        r->id = 0;
        if (ra_revocation_each(f->o->ra, *after, 1, copy, r, &more, e) < 0)
            return -1;
        if (r->id == 0 || !r->logged) /* no CRL can be signed either before the signer is back */
            return 0;
        int rc = 0;
        *oldest = r->time;
        if (r->time + RA_REVOCATION_KEPT > f->now)
            rc = f->o->audit ? find_one(f, e) : err_set(e, ERR_UNAVAILABLE, "audit-index", "this server keeps no index");
        if (rc != 0)
            return rc;
        *after = r->id;
    }
    return 0;
}

int crl_find(struct crl_found *found, const struct crl_options *o, int64_t *after, int64_t *oldest,
             void (*each)(void *arg, struct crl_name n), void *arg, const atomic_bool *stop, struct err *e)
{
    struct find *f = calloc(1, sizeof *f);
    struct revoked *r = calloc(1, sizeof *r);
    int rc = -1;
    if (f && r) {
        *f = (struct find){.o = o, .found = found, .r = r, .now = clock_wall(), .each = each, .arg = arg, .stop = stop};
        pthread_mutex_init(&f->lock, NULL);
        pthread_cond_init(&f->wake, NULL);
        buf_init(&f->q.out, 4096);
        rc = find_all(f, r, after, oldest, e);
        buf_free(&f->q.out);
        pthread_cond_destroy(&f->wake);
        pthread_mutex_destroy(&f->lock);
    } else {
        err_set(e, ERR_INTERNAL, "memory", "out of memory for a search");
    }
    free(f);
    free(r);
    return rc;
}
