/* Evidence becomes an authorization: verified, decided, the token spent and the authorization stored
 * in one transaction, and only then visible. */
#include "base/clock.h"
#include "ra/store.h"
#include <stdlib.h>
#include <string.h>

struct vouch_op {
    struct op op;
    struct ra *ra;
    struct ra_session *s; /* a reference */
    struct authz *fresh;  /* owned until memory has it */
    bool answers;         /* a challenge: fresh has the id of the authorization that is there */
    bool spends;
    uint8_t token_hash[32];
    struct svid svid;     /* that was shown; serial "": none */
    vouch_cb *cb;
    void *arg;
};

/* fresh NULL: not even begun. The agent is said as soon as it is proven. */
static void refused(struct vouch_op *o, const char *spiffe_id, const struct err *e)
{
    const struct authz *a = o->fresh;
    bool vouched = a && a->kind == ATTEST_AGENT && a->requester;
    audit_refused_agent(o->ra, spiffe_id, o->s, a ? a->kind : 0, vouched ? a->requester : "", false, e);
}

static void op_free(struct vouch_op *o)
{
    authz_free(o->fresh);
    ra_session_release(o->s);
    free(o);
}

/* An authorization given up while its challenge was verified stays given up, and costs no token. */
static int check_pending(struct vouch_op *o, struct err *e)
{
    pthread_mutex_lock(&o->ra->lock);
    const struct authz *a = authz_find(o->ra, o->s, o->fresh->id);
    bool waits = a && a->status == RA_PENDING && !a->ending;
    pthread_mutex_unlock(&o->ra->lock);
    return waits ? 0
                 : err_set(e, ERR_UNAUTHORIZED, "authorization-deactivated",
                           "the authorization was deactivated meanwhile; make a new order");
}

static int vouch_write(struct op *op, struct store *s, struct err *e)
{
    struct vouch_op *o = (struct vouch_op *)(void *)op;
    if (o->answers && check_pending(o, e) < 0)
        return -1;
    if (*o->svid.serial && revoked_svid(o->ra, &o->svid, e) < 0) /* since it was verified */
        return -1;
    if (o->spends && store_token_spend(s, o->token_hash, o->fresh->validated, e) < 0)
        return -1;
    return store_authz_put(s, o->fresh, e);
}

static void vouch_done(struct op *op, struct ra *ra, const struct err *e)
{
    struct vouch_op *o = (struct vouch_op *)(void *)op;
    struct err why = {0};
    if (!e) {
        pthread_mutex_lock(&ra->lock);
        struct map_node *n = o->spends ? map_find(&ra->tokens, o->token_hash, sizeof o->token_hash) : NULL;
        if (n)
            MAP_OBJECT(n, struct token, node)->spent = true;
        if (atomic_load(&o->s->deactivated)) {
            /* Its row went with the account's, or goes with the sweep; nothing finds it. */
            session_refuse(o->s, &why);
            e = &why;
        } else {
            authz_install(ra, o->fresh);
            o->fresh = NULL;
        }
        pthread_mutex_unlock(&ra->lock);
    }
    if (e)
        refused(o, o->fresh->spiffe_id, e);
    o->cb(o->arg, e);
    op_free(o);
}

/* --- the steps ----------------------------------------------------------------------------------------------------------- */

/* f NULL: the part that needs no evidence. Else a gets the entry decided on; and of an agent's word no more than
 * that entry asked for, so that what is kept of it, for each session it makes, is as large as operators made it. */
static int check_entry(struct ra *ra, const char *spiffe_id, const struct facts *f, struct authz *a, struct err *e)
{
    pthread_mutex_lock(&ra->lock);
    const struct entry *x = registry_by_spiffe_id(&ra->entries, spiffe_id);
    int rc = f ? decide(x ? &x->x : NULL, spiffe_id, ra->authority, f, e)
               : decide_entry(x ? &x->x : NULL, spiffe_id, ra->authority, e);
    if (rc == 0 && f)
        memcpy(a->entry, x->x.id, sizeof a->entry);
    if (rc == 0 && f && f->agent && strings_copy(&a->selectors, x->x.selectors, x->x.selectors_count) < 0)
        rc = no_memory(e);
    pthread_mutex_unlock(&ra->lock);
    return rc;
}

/* An SVID proves its ID as long as the entry that it was issued for stands, and it was not revoked. */
int svid_read(struct ra *ra, const struct attest_result *r, struct svid *svid, char entry[RA_ID_LEN + 1],
              struct err *e)
{
    memcpy(svid->spiffe_id, r->spiffe_id, sizeof svid->spiffe_id);
    memcpy(svid->serial, r->serial, sizeof svid->serial);
    memcpy(svid->key, r->key_sha256, sizeof svid->key);
    if (revoked_svid(ra, svid, e) < 0)
        return -1;
    pthread_mutex_lock(&ra->lock);
    const struct entry *x = registry_by_spiffe_id(&ra->entries, r->spiffe_id);
    bool stands = x && r->not_before + RA_SVID_BACKDATE >= x->x.created;
    if (stands)
        memcpy(entry, x->x.id, RA_ID_LEN + 1);
    pthread_mutex_unlock(&ra->lock);
    return stands ? 0
                  : err_set(e, ERR_BAD_EVIDENCE, "x509pop-entry",
                            "the entry that the presented SVID of %.200s was issued for is not there any more; use a "
                            "join token (mayfly token create)",
                            r->spiffe_id);
}

static int check_evidence(struct vouch_op *o, struct attest_result *r, const json_t *evidence,
                          const char *freshness, struct err *e)
{
    uint8_t digest[32];
    struct ca_snapshot *s = malloc(sizeof *s);
    if (!s)
        return no_memory(e);
    ca_client_snapshot(o->ra->ca, s);
    struct attest_anchor anchor = {{s->root, s->known ? s->root_len : 0}, {s->issuing, s->known ? s->issuing_len : 0}};
    int rc = attest_key_authorization(digest, freshness, o->s->thumbprint) < 0 ? no_memory(e) : 0;
    if (rc == 0)
        rc = attest_verify(r, evidence, digest, &anchor, o->ra->config->trust_domain, o->fresh->validated,
                           o->fresh->salt, e);
    free(s);
    return rc;
}

/* What is remembered of the evidence: enough to decide again when the entry changes (of an agent's: until it asks for
 * more; then the agent says it again). It vouches no longer than it lives itself. */
static int keep_facts(struct authz *a, const struct attest_result *r, const char entry[RA_ID_LEN + 1], struct err *e)
{
    if (r->not_after && r->not_after < a->expires)
        a->expires = r->not_after;
    a->kind = r->kind;
    a->proves = r->kind != ATTEST_AGENT && strcmp(r->spiffe_id, a->spiffe_id) == 0;
    memcpy(a->evidence, r->evidence_sha256, sizeof a->evidence);
    if (*r->spiffe_id && !a->requester && !(a->requester = strdup(r->spiffe_id)))
        return no_memory(e);
    if (r->kind == ATTEST_AGENT) /* its selectors are there: check_entry */
        return (a->voucher = voucher_new(entry, r->serial, r->key_sha256)) ? 0 : no_memory(e);
    return strings_copy(&a->selectors, r->selectors, r->selectors_count) < 0 ? no_memory(e) : 0;
}

static int vouch_check(struct vouch_op *o, const char *spiffe_id, const json_t *evidence, const char *freshness,
                       struct err *e)
{
    struct attest_result r;
    char entry[RA_ID_LEN + 1] = ""; /* of the ID that the evidence proves */
    /* 1. an entry that this session may obtain at all; before evidence costs anything */
    if (check_entry(o->ra, spiffe_id, NULL, NULL, e) < 0)
        return -1;
    /* 2. the evidence itself, bound to this session and its fresh value */
    if (random_fill(o->fresh->salt, sizeof o->fresh->salt, e) < 0 ||
        check_evidence(o, &r, evidence, freshness, e) < 0)
        return -1;
    o->fresh->kind = r.kind; /* a refusal says it, too, and which agent vouched */
    bool vouched = r.kind == ATTEST_AGENT;
    int rc = vouched && !(o->fresh->requester = strdup(r.spiffe_id)) ? no_memory(e) : 0;
    /* 3. what a join token gives, if it lives; whether what was proven still has its entry */
    o->spends = r.kind == ATTEST_JOIN_TOKEN;
    memcpy(o->token_hash, r.token_hash, sizeof o->token_hash);
    if (rc == 0)
        rc = o->spends ? token_read(o->ra, &r, entry, o->fresh->validated, e) : svid_read(o->ra, &r, &o->svid, entry, e);
    /* 4. the decision */
    bool own = !vouched && strcmp(r.spiffe_id, spiffe_id) == 0;
    struct facts f = {.proven_id = vouched ? NULL : r.spiffe_id, .agent = vouched ? r.spiffe_id : NULL,
                      .entry_id = own ? entry : NULL,
                      .selectors = r.selectors, .selectors_count = r.selectors_count};
    if (rc == 0)
        rc = check_entry(o->ra, spiffe_id, &f, o->fresh, e);
    if (rc == 0)
        rc = keep_facts(o->fresh, &r, entry, e);
    attest_result_free(&r);
    return rc;
}

static int vouch_begin(struct vouch_op *o, const char *spiffe_id, const char *id, struct err *e)
{
    o->fresh = authz_new(o->s, spiffe_id, e);
    if (!o->fresh)
        return -1;
    if (id)
        memcpy(o->fresh->id, id, sizeof o->fresh->id);
    o->fresh->status = o->fresh->challenge = RA_VALID;
    o->fresh->validated = clock_wall();
    o->fresh->expires = o->fresh->validated + o->ra->config->session_lifetime;
    pthread_mutex_lock(&o->ra->lock);
    /* Answering keeps the token that the challenge was made with. */
    const struct authz *old = id ? authz_find(o->ra, o->s, id) : NULL;
    if (old)
        memcpy(o->fresh->challenge_token, old->challenge_token, sizeof o->fresh->challenge_token);
    int rc = id ? 0 : authz_room(o->ra, o->s, o->fresh->validated, e);
    pthread_mutex_unlock(&o->ra->lock);
    return rc;
}

void vouch(struct ra *ra, struct ra_session *s, const char *spiffe_id, const char *id, const json_t *evidence,
           const char *freshness, vouch_cb *cb, void *arg)
{
    struct err e = {0};
    struct vouch_op *o = calloc(1, sizeof *o);
    if (!o) {
        no_memory(&e);
        cb(arg, &e);
        return;
    }
    *o = (struct vouch_op){.op = {.write = vouch_write, .done = vouch_done}, .answers = id != NULL,
                           .ra = ra, .s = session_ref(s), .cb = cb, .arg = arg};
    if (vouch_begin(o, spiffe_id, id, &e) == 0 && vouch_check(o, spiffe_id, evidence, freshness, &e) == 0 &&
        /* 5. token and authorization, in one transaction */
        writer_push(ra, &o->op, &e) == 0)
        return;
    refused(o, spiffe_id, &e);
    op_free(o);
    cb(arg, &e);
}
