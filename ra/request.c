/* What clients ask about orders: new, get, finalize. */
#include "base/clock.h"
#include "ra/csr.h"
#include "ra/internal.h"
#include <stdlib.h>
#include <string.h>

static void refuse(struct ra *ra, const struct ra_session *s, const char *spiffe_id, ra_order_cb *cb, void *arg,
                   const struct err *e)
{
    audit_refused(ra, spiffe_id, s, 0, false, e);
    cb(arg, NULL, e);
}

/* --- identifiers ------------------------------------------------------------------------------------------------------------------ */

static int add_dns(struct names *n, const char *value, struct err *e)
{
    if (dns_name_check(value, strlen(value), e) < 0)
        return -1;
    for (size_t i = 0; i < n->dns_count; i++)
        if (strcmp(n->dns[i], value) == 0)
            return err_set(e, ERR_MALFORMED, "identifiers", "the DNS name %s stands twice", value);
    if (n->dns_count == CA_DNS_MAX)
        return err_set(e, ERR_MALFORMED, "identifiers", "more than %d DNS names", CA_DNS_MAX);
    n->dns[n->dns_count++] = value;
    return 0;
}

static int read_names(const struct ra *ra, const struct ra_order_request *r, struct names *n, struct err *e)
{
    struct spiffe_id id;
    memset(n, 0, sizeof *n);
    for (size_t i = 0; i < r->identifiers_count; i++) {
        const struct ra_identifier *x = &r->identifiers[i];
        if (strcmp(x->type, "dns") == 0) {
            if (add_dns(n, x->value, e) < 0)
                return -1;
        } else if (strcmp(x->type, "uri") != 0) {
            return err_set(e, ERR_UNSUPPORTED_ID, "identifier-type",
                           "identifiers here are one \"uri\" (the SPIFFE ID), and \"dns\" names beside it");
        } else if (n->uri) {
            return err_set(e, ERR_REJECTED_ID, "identifiers", "an order is for exactly one SPIFFE ID");
        } else {
            n->uri = x->value;
        }
    }
    if (!n->uri)
        return err_set(e, ERR_REJECTED_ID, "identifiers",
                       "an order needs the SPIFFE ID: an identifier of type \"uri\"");
    return spiffe_parse_workload(&id, n->uri, strlen(n->uri), ra->config->trust_domain, e);
}

static int check_names(struct ra *ra, const struct names *n, struct err *e)
{
    const struct entry *x = registry_by_spiffe_id(&ra->entries, n->uri);
    if (decide_entry(x ? &x->x : NULL, n->uri, ra->authority, e) < 0)
        return -1;
    return decide_dns(&x->x, n->dns, n->dns_count, e);
}

/* --- an order of RFC 8555: it waits for the challenge, or to be finalized ----------------------------------------------------------- */

/* Under the lock. The authorization that the order waits for: the session's, or a new one. */
static int order_attach(struct ra *ra, struct order *o, struct authz *live, struct authz **spare, int64_t now,
                        struct err *e)
{
    struct authz *a = live ? live : authz_pending(o->session, o->uri, now);
    if (!a) {
        if (authz_room(ra, o->session, now, e) < 0)
            return -1;
        a = *spare;
        *spare = NULL;
        authz_add(ra, a);
    }
    if (o->status == RA_PENDING)
        a->expires = now + RA_ORDER_LIFETIME;
    memcpy(o->authz, a->id, sizeof o->authz);
    return 0;
}

static void order_plain(struct ra *ra, struct ra_session *s, const struct names *n, ra_order_cb *cb, void *arg)
{
    struct err e = {0};
    int rc = -1;
    struct order *o = order_make(ra, s, n, &e);
    struct authz *spare = o ? authz_new(s, n->uri, &e) : NULL;
    if (spare) {
        int64_t now = clock_wall();
        pthread_mutex_lock(&ra->lock);
        struct authz *live = authz_live(ra, s, n->uri, now);
        o->status = live ? RA_READY : RA_PENDING;
        rc = order_add(ra, o, now, &e);
        if (rc == 0) {
            o->refs++; /* for the answer */
            rc = order_attach(ra, o, live, &spare, now, &e);
            if (rc < 0)
                order_drop(ra, o);
        }
        pthread_mutex_unlock(&ra->lock);
    }
    authz_free(spare);
    if (rc == 0) {
        order_answer(o, cb, arg);
        return;
    }
    if (o)
        order_unref(o);
    refuse(ra, s, n->uri, cb, arg, &e);
}

/* --- the order that needs one round trip ---------------------------------------------------------------------------------------------- */

/* Everything is authorized: straight to the corridor. */
static void order_at_once(struct ra *ra, struct ra_session *s, const struct names *n, const struct csr *csr,
                          ra_order_cb *cb, void *arg)
{
    struct err e = {0};
    struct order *o = order_make(ra, s, n, &e);
    if (!o) {
        refuse(ra, s, n->uri, cb, arg, &e);
        return;
    }
    o->one_shot = true;
    o->status = RA_READY;
    int64_t now = clock_wall();
    pthread_mutex_lock(&ra->lock);
    int rc = order_add(ra, o, now, &e);
    if (rc == 0)
        o->refs++; /* ours; the map has its own */
    pthread_mutex_unlock(&ra->lock);
    if (rc == 0 && issue(ra, o, csr, cb, arg, &e) == 0)
        return;
    if (rc == 0) {
        pthread_mutex_lock(&ra->lock);
        if (o->session) /* not finished by somebody else meanwhile */
            order_drop(ra, o);
        pthread_mutex_unlock(&ra->lock);
    }
    order_unref(o);
    refuse(ra, s, n->uri, cb, arg, &e);
}

/* newOrder with evidence: what must outlive the call while the store thread spends the token. */
struct waiting {
    struct ra *ra;
    struct ra_session *s; /* a reference */
    ra_order_cb *cb;
    void *arg;
    bool has_csr;
    struct csr csr;       /* views into der */
    struct names names;   /* views into identifiers */
    struct ra_identifier *identifiers; /* owned */
    uint8_t der[];
};

static void waiting_free(struct waiting *w)
{
    ra_session_release(w->s);
    free(w->identifiers);
    free(w);
}

static void vouched(void *arg, const struct err *e)
{
    struct waiting *w = arg;
    if (e)
        w->cb(w->arg, NULL, e); /* vouch has noted it */
    else if (w->has_csr)
        order_at_once(w->ra, w->s, &w->names, &w->csr, w->cb, w->arg);
    else
        order_plain(w->ra, w->s, &w->names, w->cb, w->arg);
    waiting_free(w);
}

/* The request is checked whole before any token is spent. */
static struct waiting *waiting_make(struct ra *ra, struct ra_session *s, const struct ra_order_request *r,
                                    struct err *e)
{
    if (r->csr.len > CSR_MAX) {
        err_set(e, ERR_BAD_CSR, "csr-size", "certificate request of %zu bytes; at most %d", r->csr.len, CSR_MAX);
        return NULL;
    }
    struct waiting *w = calloc(1, sizeof *w + r->csr.len);
    struct ra_identifier *ids = calloc(r->identifiers_count, sizeof *ids);
    if (!w || !ids) {
        free(w);
        free(ids);
        no_memory(e);
        return NULL;
    }
    w->ra = ra;
    w->s = session_ref(s);
    w->identifiers = ids;
    memcpy(ids, r->identifiers, r->identifiers_count * sizeof *ids);
    struct ra_order_request copy = {.identifiers = ids, .identifiers_count = r->identifiers_count};
    int rc = read_names(ra, &copy, &w->names, e);
    w->has_csr = r->csr.len > 0;
    if (rc == 0 && w->has_csr) {
        memcpy(w->der, r->csr.p, r->csr.len);
        rc = csr_read(&w->csr, w->der, r->csr.len, e);
    }
    if (rc == 0 && w->has_csr)
        rc = issue_check_csr(s, &w->csr, w->names.uri, w->names.dns, w->names.dns_count, e);
    if (rc == 0)
        return w;
    waiting_free(w);
    return NULL;
}

static void order_vouched(struct ra *ra, struct ra_session *s, const struct names *n, const struct ra_order_request *r,
                          ra_order_cb *cb, void *arg)
{
    struct err e = {0};
    struct waiting *w = NULL;
    pthread_mutex_lock(&ra->lock);
    int rc = order_room(ra, s, false, &e);
    pthread_mutex_unlock(&ra->lock);
    if (rc == 0 && r->freshness && *r->freshness)
        w = waiting_make(ra, s, r, &e);
    else if (rc == 0)
        err_set(&e, ERR_BAD_EVIDENCE, "evidence-freshness", "evidence in an order is bound to the request's nonce");
    if (!w) {
        refuse(ra, s, n->uri, cb, arg, &e);
        return;
    }
    w->cb = cb;
    w->arg = arg;
    vouch(ra, s, w->names.uri, NULL, r->evidence, r->freshness, vouched, w);
}

void ra_order_new(struct ra *ra, struct ra_session *s, const struct ra_order_request *r, ra_order_cb *cb, void *arg)
{
    struct err e = {0};
    struct names n;
    struct csr csr;
    if (read_names(ra, r, &n, &e) < 0) {
        refuse(ra, s, n.uri, cb, arg, &e);
        return;
    }
    pthread_mutex_lock(&ra->lock);
    int rc = check_names(ra, &n, &e);
    bool live = rc == 0 && authz_live(ra, s, n.uri, clock_wall());
    pthread_mutex_unlock(&ra->lock);
    if (rc < 0)
        refuse(ra, s, n.uri, cb, arg, &e);
    else if (!live && r->evidence)
        order_vouched(ra, s, &n, r, cb, arg);
    else if (!live || r->csr.len == 0)
        order_plain(ra, s, &n, cb, arg);
    else if (csr_read(&csr, r->csr.p, r->csr.len, &e) < 0)
        refuse(ra, s, n.uri, cb, arg, &e);
    else
        order_at_once(ra, s, &n, &csr, cb, arg);
}

/* --- get, finalize ------------------------------------------------------------------------------------------------------------------------ */

static struct order *take(struct ra *ra, const struct ra_session *s, const char *id, struct err *e)
{
    pthread_mutex_lock(&ra->lock);
    struct order *o = order_find(ra, s, id);
    pthread_mutex_unlock(&ra->lock);
    if (!o)
        err_set(e, ERR_NOT_FOUND, "order", "this account has no such order (or no longer); make a new one");
    return o;
}

void ra_order_get(struct ra *ra, struct ra_session *s, const char *id, ra_order_cb *cb, void *arg)
{
    struct err e = {0};
    struct order *o = take(ra, s, id, &e);
    if (o)
        order_answer(o, cb, arg);
    else
        cb(arg, NULL, &e);
}

void ra_order_each(struct ra *ra, struct ra_session *s, void (*each)(void *arg, const char *id), void *arg)
{
    char ids[RA_ORDERS_SESSION_MAX][RA_ID_LEN + 1];
    size_t n = 0;
    pthread_mutex_lock(&ra->lock);
    orders_trim(ra, clock_wall());
    for (const struct order *o = s->open; o && n < RA_ORDERS_SESSION_MAX; o = o->s_next)
        memcpy(ids[n++], o->id, sizeof o->id);
    pthread_mutex_unlock(&ra->lock);
    for (size_t i = 0; i < n; i++)
        each(arg, ids[i]);
}

void ra_order_finalize(struct ra *ra, struct ra_session *s, const char *id, struct bytes der, ra_order_cb *cb, void *arg)
{
    struct err e = {0};
    struct csr csr;
    struct order *o = take(ra, s, id, &e);
    if (!o) {
        cb(arg, NULL, &e);
        return;
    }
    pthread_mutex_lock(&ra->lock);
    order_refresh(ra, o, clock_wall());
    enum ra_status status = o->status;
    pthread_mutex_unlock(&ra->lock);
    /* RFC 8555 section 7.4: only an order that is ready. Not yet a word on the CSR. */
    if (status != RA_READY) {
        err_set(&e, ERR_NOT_READY, "order-status", "the order is %s; only one that is ready can be finalized",
                ra_status_name(status));
    } else if (csr_read(&csr, der.p, der.len, &e) == 0 && issue(ra, o, &csr, cb, arg, &e) == 0) {
        return;
    }
    refuse(ra, s, o->uri, cb, arg, &e);
    order_unref(o);
}
