/* The coordinator: from an order to a certificate, in numbered steps. Here a certificate gets its
 * lifetime (step 5); the signer only refuses what is over the maximum. */
#include "base/clock.h"
#include "ra/csr.h"
#include "ra/internal.h"
#include <stdlib.h>
#include <string.h>

struct grant { /* what the decision rests on; copied under the lock */
    char entry_id[RA_ID_LEN + 1];
    uint64_t revision;
    unsigned ttl;
    enum attest_kind kind;
    uint8_t evidence[32], session[32];
    char requester[SPIFFE_ID_MAX + 1]; /* "": the evidence proves no identity */
};

/* 1. The order: taken for processing, so that of two finalizations one goes on. */
static int take_order(struct ra *ra, struct order *o, int64_t now, struct err *e)
{
    if (!o->one_shot) /* made ready by the very request */
        order_refresh(ra, o, now);
    if (o->status != RA_READY)
        return err_set(e, ERR_NOT_READY, "order-status", "the order is %s; only one that is ready can be finalized",
                       ra_status_name(o->status));
    o->status = RA_PROCESSING;
    return 0;
}

/* 2. and 3. The authorization lives, and the entry is still there, allows these names, and is still
 * matched by the evidence that was shown. */
static int take_grant(struct ra *ra, struct order *o, struct grant *g, int64_t now, struct err *e)
{
    const struct authz *a = authz_live(ra, o->session, o->uri, now); /* decides again */
    const struct entry *x = registry_by_spiffe_id(&ra->entries, o->uri);
    if (!a || !x)
        return err_set(e, ERR_UNAUTHORIZED, "authorization", "this session is not authorized (any more); attest again");
    if (decide_dns(&x->x, o->dns, o->dns_count, e) < 0)
        return -1;
    memcpy(o->authz, a->id, sizeof o->authz); /* orders of one round trip learn it here */
    memcpy(g->entry_id, x->x.id, sizeof g->entry_id);
    g->revision = x->x.revision;
    g->ttl = x->x.ttl;
    g->kind = a->kind;
    memcpy(g->evidence, a->evidence, sizeof g->evidence);
    memcpy(g->session, o->session->thumbprint_raw, sizeof g->session);
    snprintf(g->requester, sizeof g->requester, "%s", a->requester ? a->requester : "");
    return 0;
}

/* 4. The request asks for the order's names, with a key of its own (RFC 8555 section 11.1). It was
 * read, and its signature verified, by the caller. */
int issue_check_csr(const struct ra_session *s, const struct csr *csr, const char *uri, const char *const *dns,
                    size_t dns_count, struct err *e)
{
    struct bytes own = key_spki(s->key);
    if (bytes_eq(own, csr->spki.p, csr->spki.len))
        return err_set(e, ERR_BAD_CSR, "csr-key", "the certificate's key must be another than the account's");
    return revoked_key(s->ra, csr->spki_sha256, e) < 0 ? -1 : csr_match(csr, uri, dns, dns_count, e);
}

/* 5. The lifetime: the entry's, else the default; a maximum lowered since clips it. */
unsigned issue_lifetime(const struct config *c, unsigned ttl)
{
    if (!ttl)
        ttl = c->ca.default_lifetime;
    return ttl < c->ca.max_lifetime ? ttl : c->ca.max_lifetime;
}

static void issued(void *arg, const struct ca_issued *r, const struct err *e);

/* 6. One message to the signer. */
static int ask_signer(struct ra *ra, struct order *o, const struct grant *g, const struct csr *csr, struct err *e)
{
    const char *kind = attest_kind_name(g->kind);
    struct ca_issue m = {.profile = CA_PROFILE_WORKLOAD,
                         .lifetime = issue_lifetime(ra->config, g->ttl),
                         .spiffe_id = {(const uint8_t *)o->uri, strlen(o->uri)},
                         .dns_count = (uint8_t)o->dns_count,
                         .spki = csr->spki,
                         .attestor = {(const uint8_t *)kind, strlen(kind)},
                         .evidence = {g->evidence, sizeof g->evidence},
                         .entry_id = {(const uint8_t *)g->entry_id, RA_ID_LEN},
                         .entry_revision = g->revision,
                         .requester = {(const uint8_t *)g->requester, strlen(g->requester)},
                         .session = {g->session, sizeof g->session}};
    for (size_t i = 0; i < o->dns_count; i++)
        m.dns[i] = (struct bytes){(const uint8_t *)o->dns[i], strlen(o->dns[i])};
    return ca_client_issue(ra->ca, &m, issued, o, e);
}

int issue(struct ra *ra, struct order *o, const struct csr *csr, ra_order_cb *cb, void *arg, struct err *e)
{
    struct grant g;
    int64_t now = clock_wall();
    pthread_mutex_lock(&ra->lock);
    int rc = take_order(ra, o, now, e);
    bool taken = rc == 0;
    if (rc == 0)
        rc = take_grant(ra, o, &g, now, e);
    if (rc == 0) {
        o->cb = cb;
        o->arg = arg;
        memcpy(o->entry_id, g.entry_id, sizeof o->entry_id);
        o->entry_revision = g.revision;
        o->kind = g.kind;
        o->revoked = false;
        memcpy(o->key_sha256, csr->spki_sha256, sizeof o->key_sha256);
    }
    pthread_mutex_unlock(&ra->lock);
    if (rc == 0)
        /* the session stays while the order is in process */
        rc = issue_check_csr(o->session, csr, o->uri, o->dns, o->dns_count, e);
    if (rc == 0)
        rc = ask_signer(ra, o, &g, csr, e);
    if (rc < 0 && taken) {
        pthread_mutex_lock(&ra->lock);
        o->status = RA_READY;
        pthread_mutex_unlock(&ra->lock);
    }
    return rc;
}

/* --- the signer's answer, on the ca_client's thread --------------------------------------------------------------------- */

/* What may be better the next time. */
static bool is_passing(const struct err *e)
{
    return e->code == ERR_UNAVAILABLE || e->code == ERR_RATE || e->code == ERR_HSM || e->code == ERR_INTERNAL ||
           e->code == ERR_IO;
}

static void issue_failed(struct ra *ra, struct order *o, bool by_signer, const struct err *e)
{
    ra_order_cb *cb = o->cb;
    void *arg = o->arg;
    audit_refused(ra, o->uri, o->session, o->kind, by_signer, e);
    pthread_mutex_lock(&ra->lock);
    if (o->one_shot) {
        order_drop(ra, o);
    } else if (is_passing(e)) {
        o->status = RA_READY;
    } else {
        order_finish(ra, o, RA_INVALID, e);
    }
    pthread_mutex_unlock(&ra->lock);
    cb(arg, NULL, e);
    order_unref(o);
}

/* What was revoked while the signer was at work is given to nobody; nor what an agent vouched for that was revoked,
 * in whatever session. */
static int check_revoked(struct ra *ra, const struct order *o, struct err *e)
{
    const struct authz *a = authz_find(ra, o->session, o->authz);
    if (a && authz_revoked(ra, a))
        return err_set(e, ERR_UNAUTHORIZED, "svid-revoked", "the SVID of the agent that vouched was revoked meanwhile");
    if (o->revoked)
        return err_set(e, ERR_UNAUTHORIZED, "authorization-revoked",
                       "the authorization was revoked meanwhile; attest again");
    return atomic_load(&o->session->revoked) ? session_refuse(o->session, e) : revocations_key(&ra->revocations, o->key_sha256, e);
}

/* 7. The chain in PEM, and the order is valid. */
static void issued(void *arg, const struct ca_issued *r, const struct err *e)
{
    struct order *o = arg;
    struct ra *ra = o->ra;
    struct err why = {0};
    size_t len = 0;
    char *chain = e ? NULL : chain_make(ra, r->cert, &len, &why);
    if (!chain) {
        issue_failed(ra, o, true, e ? e : &why);
        return;
    }
    pthread_mutex_lock(&ra->lock);
    int rc = check_revoked(ra, o, &why);
    if (rc == 0) {
        o->chain = chain;
        o->chain_len = len;
        o->index = r->index;
        o->expires = r->not_after;
        order_finish(ra, o, RA_VALID, NULL);
    }
    pthread_mutex_unlock(&ra->lock);
    if (rc < 0) {
        free(chain);
        issue_failed(ra, o, false, &why);
        return;
    }
    atomic_fetch_add(&ra->issued, 1);
    audit_issued(ra, o);
    order_answer(o, o->cb, o->arg);
}
