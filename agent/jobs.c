/* What the authority thread does: one task, one answer. Nothing that comes is used before it was verified here. */
#include "agent/daemon.h"
#include "agent/jwt_validate.h"
#include "base/clock.h"
#include "base/crl_name.h"
#include "base/log.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SVID_MS 15000
#define ASK_MS 10000

/* --- SVIDs ----------------------------------------------------------------------------------------------------------- */

static struct wl_svid *svid_make(const struct job *j, const struct acme_identity *got, const struct agent_verified *v,
                                 struct err *e)
{
    struct buf der;
    struct bytes list[CHAIN_CERTS_MAX];
    size_t n;
    struct wl_svid *s = calloc(1, sizeof *s);
    buf_init(&der, CHAIN_PEM_MAX);
    if (!s) {
        err_set(e, ERR_INTERNAL, "memory", "out of memory for an SVID");
        return NULL;
    }
    atomic_init(&s->refs, 1);
    s->spiffe_id = strdup(j->spiffe_id);
    s->hint = strdup(j->hint ? j->hint : "");
    s->not_before = v->not_before;
    s->not_after = v->not_after;
    int rc = s->spiffe_id && s->hint ? 0 : err_set(e, ERR_INTERNAL, "memory", "out of memory for an SVID");
    if (rc == 0)
        rc = x509_chain_der(&got->chain_pem, &der, list, &n, e);
    if (rc == 0)
        rc = key_to_pkcs8_secret(got->key, &s->key, e);
    if (rc == 0) {
        uint8_t *exact = realloc(der.p, der.len);
        s->chain = exact ? exact : der.p;
        s->chain_len = der.len;
        return s;
    }
    buf_free(&der);
    wl_svid_unref(s);
    return NULL;
}

/* Without a place for its key an SVID would be issued in vain, again and again. */
static int has_place(struct err *e)
{
    struct secret s;
    if (secret_new(&s, 1, e) < 0)
        return -1;
    secret_free(&s);
    return 0;
}

static int do_svid(struct job *j, struct err *e)
{
    struct self *s = &j->agent->self;
    struct acme_identity got;
    struct agent_verified v;
    struct self_vouch vouch = {s, (const char *const *)j->selectors, j->selectors_count};
    struct acme_ask ask = {.spiffe_id = j->spiffe_id,
                           .dns = (const char *const *)j->dns,
                           .dns_count = j->dns_count,
                           .replaces = *j->cert_id ? j->cert_id : NULL,
                           .evidence = self_vouch,
                           .arg = &vouch,
                           .deadline_ms = j->deadline_ms ? j->deadline_ms : SVID_MS};
    if (has_place(e) < 0 || acme_obtain_as(s->client, &ask, &got, e) < 0)
        return -1;
    int rc = agent_verify(&v, &s->trust, &got, j->spiffe_id, clock_wall(), e);
    if (rc == 0)
        strcpy(j->cert_id, v.cert_id);
    if (rc == 0 && !(j->svid = svid_make(j, &got, &v, e)))
        rc = -1;
    j->not_before = v.not_before;
    j->not_after = v.not_after;
    acme_identity_free(&got);
    return rc;
}

static int do_self(struct job *j, struct err *e)
{
    struct agent_verified v;
    char replaces[CERT_ID_MAX + 1];
    strcpy(replaces, j->cert_id);
    if (self_renew(&j->agent->self, replaces, &v, j->cert_id, e) < 0)
        return -1;
    j->not_before = v.not_before;
    j->not_after = v.not_after;
    return 0;
}

/* Of the one it was asked for, for each audience, by a key of this bundle. */
static int jwt_check_by(const struct job *j, const struct buf *bundle, struct err *e)
{
    struct wl_bundle b = {.trust_domain = j->agent->self.config->trust_domain, .jwks = *bundle};
    for (size_t i = 0; i < j->audience_count; i++) {
        struct jwt_claims c;
        if (jwt_validate(&c, j->jwt.svid, strlen(j->jwt.svid), &b, j->audience[i], clock_wall(), e) < 0)
            return -1;
        buf_free(&c.payload);
        if (strcmp(c.spiffe_id, j->spiffe_id) != 0)
            return err_set(e, ERR_CORRUPT, "jwt-sub", "the JWT-SVID is refused: it is another identity's");
    }
    return 0;
}

/* A key that the bundle here has not may be newer: then the loop wants that bundle, too. */
static int jwt_check(struct job *j, struct err *e)
{
    struct self *s = &j->agent->self;
    struct err newer;
    struct buf text;
    int rc = jwt_check_by(j, &s->bundle, e);
    if (rc < 0 && strcmp(e->rule, "jwt-kid") == 0) {
        buf_init(&text, ANSWER_BIG_MAX);
        if (acme_bundle(s->client, ASK_MS, &text, &newer) == 0)
            rc = jwt_check_by(j, &text, e);
        buf_free(&text);
        j->bundle_old = rc == 0;
    }
    if (rc == 0)
        return 0;
    e->code = ERR_CORRUPT; /* not the caller's fault */
    free(j->jwt.svid);
    j->jwt.svid = NULL;
    return err_wrap(e, "what the authority gave");
}

static int do_jwt(struct job *j, struct err *e)
{
    struct self *s = &j->agent->self;
    struct self_vouch vouch = {s, (const char *const *)j->selectors, j->selectors_count};
    struct jwt_want w = {.spiffe_id = j->spiffe_id,
                         .audience = (const char *const *)j->audience,
                         .audience_count = j->audience_count,
                         .evidence = self_vouch,
                         .arg = &vouch,
                         .deadline_ms = ASK_MS};
    return acme_jwt(s->client, &w, &j->jwt, e) < 0 ? -1 : jwt_check(j, e);
}

/* --- bundle and CRLs --------------------------------------------------------------------------------------------------- */

void self_crls_free(struct self *s)
{
    for (unsigned i = 0; i < s->crls_count; i++)
        buf_free(&s->crls[i].der);
    free(s->crls);
    s->crls = NULL;
    s->crls_count = 0;
}

static int crl_slots(struct self *s, unsigned n, bool *changed, struct err *e)
{
    if (s->crls_count == n)
        return 0;
    self_crls_free(s);
    *changed = true;
    if (n == 0)
        return 0;
    if (!(s->crls = calloc(n, sizeof *s->crls)))
        return err_set(e, ERR_INTERNAL, "memory", "out of memory for CRLs");
    s->crls_count = n;
    for (unsigned i = 0; i < n; i++)
        buf_init(&s->crls[i].der, CRL_BYTES_MAX);
    return 0;
}

static int crl_fetch(struct self *s, unsigned shard, bool *changed, struct err *e)
{
    struct crl_slot *slot = &s->crls[shard];
    struct crl_ask q = {.shards = s->crls_count, .shard = shard, .etag = slot->etag};
    struct http_answer a;
    int rc = crl_get(s->client, &q, &a, e);
    if (rc > 0) {
        *changed = true;
        buf_free(&slot->der);
        slot->der = a.body;
        strcpy(slot->etag, a.etag);
        buf_init(&a.body, 0);
    }
    http_answer_free(&a);
    return rc < 0 ? -1 : 0;
}

struct wl_bundles *self_bundles(struct self *s, const struct bundle_doc *doc, struct err *e)
{
    size_t n = 0;
    struct buf *crls = calloc(s->crls_count + 1, sizeof *crls);
    if (!crls) {
        err_set(e, ERR_INTERNAL, "memory", "out of memory for CRLs");
        return NULL;
    }
    for (unsigned i = 0; i < s->crls_count; i++)
        if (s->crls[i].der.len > 0) {
            buf_init(&crls[n], CRL_BYTES_MAX);
            buf_put(&crls[n], s->crls[i].der.p, s->crls[i].der.len);
            n++;
        }
    return bundle_make(s->config->trust_domain, doc, crls, n, e);
}

static int do_bundle(struct job *j, struct err *e)
{
    struct self *s = &j->agent->self;
    struct buf text;
    struct bundle_doc doc;
    bool changed = !*j->have; /* have: "1" when the loop has one */
    buf_init(&text, ANSWER_BIG_MAX);
    int rc = acme_bundle(s->client, ASK_MS, &text, e);
    if (rc == 0)
        rc = bundle_doc_parse(&doc, (struct bytes){text.p, text.len}, e);
    if (rc == 0) {
        struct err why;
        changed = changed || !bytes_eq((struct bytes){s->bundle.p, s->bundle.len}, text.p, text.len);
        if (self_trust(s, &doc, (struct bytes){text.p, text.len}, &why) < 0)
            log_err(LOG_WARN, "the bundle could not be kept", &why);
        rc = crl_slots(s, *doc.crl_base ? doc.crl_shards : 0, &changed, e);
        /* What can not be had now stays as it was: an old list says more than none. */
        for (unsigned i = 0; rc == 0 && i < s->crls_count; i++)
            if (crl_fetch(s, i, &changed, &why) < 0) {
                log_err(LOG_WARN, "a CRL could not be fetched", &why);
                break;
            }
        j->refresh_hint = s->crls_count && doc.refresh_hint > 60 ? 60 : doc.refresh_hint;
        if (rc == 0 && changed && !(j->bundles = self_bundles(s, &doc, e)))
            rc = -1;
        bundle_doc_free(&doc);
    }
    buf_free(&text);
    return rc;
}

/* --- the table ------------------------------------------------------------------------------------------------------------ */

static int do_entries(struct job *j, struct err *e)
{
    return acme_entries(j->agent->self.client, j->agent->self.config->id, j->have, ASK_MS, &j->entries, e);
}

static int do_ari(struct job *j, struct err *e)
{
    return acme_renewal_info(j->agent->self.client, j->cert_id, ASK_MS, &j->ari, e);
}

/* The authority may end the session of all, by revoking what it was begun with, though the agent's SVID counts. No
 * workload is to lose a renewal by it: what found out is done again, by another session. (do_self sees to its own.) */
static int perform(struct job *j, struct err *e)
{
    static int (*const table[])(struct job *j, struct err *e) = {
        [JOB_SELF] = do_self, [JOB_SVID] = do_svid,       [JOB_JWT] = do_jwt,
        [JOB_ENTRIES] = do_entries, [JOB_ARI] = do_ari, [JOB_BUNDLE] = do_bundle,
    };
    struct self *s = &j->agent->self;
    struct err why;
    int rc = table[j->kind](j, e);
    if (rc == 0 || j->kind == JOB_SELF || s->doubted || !self_session_over(e) || self_session_anew(s, e, &why) < 0)
        return rc;
    j->anew = true;
    rc = table[j->kind](j, e);
    s->doubted = rc < 0 && self_session_over(e);
    return rc;
}

/* That a question for advice is answered with 503 says only that the certificate is too young to be in the published
 * log: the others' orders are not to fail with it. */
static bool is_outage(const struct job *j)
{
    bool answered = j->kind == JOB_ARI && strncmp(j->err.rule, "server-", 7) != 0;
    return j->err.code != ERR_NONE && !answered && gate_outage(&j->err);
}

static void work(struct task *t)
{
    struct job *j = (struct job *)t;
    struct self *s = &j->agent->self;
    struct err e = {0};
    j->asked_ms = clock_mono_ms();
    /* What was put before an outage was seen would find the same, and each might wait for it to its deadline. */
    if (s->outage_ms >= j->put_ms && s->outage_ms > 0) {
        j->err = s->outage;
        return;
    }
    if (perform(j, &e) < 0)
        j->err = e;
    j->took_ms = clock_mono_ms() - j->asked_ms;
    s->outage_ms = 0;
    if (is_outage(j)) {
        s->outage_ms = clock_mono_ms();
        s->outage = j->err;
    }
}

struct job *job_new(struct agent *a, enum job_kind kind, unsigned priority, struct err *e)
{
    struct job *j = calloc(1, sizeof *j);
    if (!j) {
        err_set(e, ERR_INTERNAL, "memory", "out of memory for a task");
        return NULL;
    }
    j->task.priority = priority;
    j->task.work = work;
    j->agent = a;
    j->kind = kind;
    return j;
}

void job_free(struct job *j)
{
    free(j->entry_id);
    free(j->spiffe_id);
    free(j->hint);
    texts_free(j->dns, j->dns_count);
    texts_free(j->selectors, j->selectors_count);
    texts_free(j->audience, j->audience_count);
    wl_svid_unref(j->svid);
    free(j->jwt.svid);
    entry_list_free(&j->entries);
    wl_bundles_unref(j->bundles);
    free(j);
}
