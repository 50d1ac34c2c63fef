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
    bool spends;
    uint8_t token_hash[32];
    vouch_cb *cb;
    void *arg;
};

static void op_free(struct vouch_op *o)
{
    authz_free(o->fresh);
    ra_session_release(o->s);
    free(o);
}

static int vouch_write(struct op *op, struct store *s, struct err *e)
{
    struct vouch_op *o = (struct vouch_op *)(void *)op;
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
            err_set(&why, ERR_UNAUTHORIZED, "account-deactivated", "the account was deactivated meanwhile");
            e = &why;
        } else {
            authz_install(ra, o->fresh);
            o->fresh = NULL;
        }
        pthread_mutex_unlock(&ra->lock);
    }
    if (e)
        audit_refused(ra, o->fresh->spiffe_id, o->s, e);
    o->cb(o->arg, e);
    op_free(o);
}

/* --- the steps ----------------------------------------------------------------------------------------------------------- */

static int check_entry(struct ra *ra, const char *spiffe_id, const struct facts *f, struct err *e)
{
    pthread_mutex_lock(&ra->lock);
    const struct entry *x = registry_by_spiffe_id(&ra->entries, spiffe_id);
    int rc = f ? decide(x ? &x->x : NULL, spiffe_id, ra->authority, f, e)
               : decide_entry(x ? &x->x : NULL, spiffe_id, ra->authority, e);
    pthread_mutex_unlock(&ra->lock);
    return rc;
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
    attest_key_authorization(digest, freshness, o->s->thumbprint);
    int rc = attest_verify(r, evidence, digest, &anchor, o->ra->config->trust_domain, o->fresh->validated,
                           o->fresh->salt, e);
    free(s);
    return rc;
}

/* What is remembered of the evidence: enough to decide again when the entry changes. */
static int keep_facts(struct authz *a, const struct attest_result *r, struct err *e)
{
    a->kind = r->kind;
    a->proves = strcmp(r->spiffe_id, a->spiffe_id) == 0;
    memcpy(a->evidence, r->evidence_sha256, sizeof a->evidence);
    return strings_copy(&a->selectors, r->selectors, r->selectors_count) < 0 ? no_memory(e) : 0;
}

static int vouch_check(struct vouch_op *o, const char *spiffe_id, const json_t *evidence, const char *freshness,
                       struct err *e)
{
    struct attest_result r;
    /* 1. an entry that this session may obtain at all; before evidence costs anything */
    if (check_entry(o->ra, spiffe_id, NULL, e) < 0)
        return -1;
    /* 2. the evidence itself, bound to this session and its fresh value */
    if (random_fill(o->fresh->salt, sizeof o->fresh->salt, e) < 0 ||
        check_evidence(o, &r, evidence, freshness, e) < 0)
        return -1;
    /* 3. a join token: what it gives, if it lives */
    o->spends = r.kind == ATTEST_JOIN_TOKEN;
    memcpy(o->token_hash, r.token_hash, sizeof o->token_hash);
    int rc = o->spends ? token_read(o->ra, &r, o->fresh->validated, e) : 0;
    /* 4. the decision */
    struct facts f = {r.spiffe_id, r.selectors, r.selectors_count};
    if (rc == 0)
        rc = check_entry(o->ra, spiffe_id, &f, e);
    if (rc == 0)
        rc = keep_facts(o->fresh, &r, e);
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
    *o = (struct vouch_op){.op = {.write = vouch_write, .done = vouch_done},
                           .ra = ra, .s = session_ref(s), .cb = cb, .arg = arg};
    if (vouch_begin(o, spiffe_id, id, &e) == 0 && vouch_check(o, spiffe_id, evidence, freshness, &e) == 0 &&
        /* 5. token and authorization, in one transaction */
        writer_push(ra, &o->op, &e) == 0)
        return;
    audit_refused(ra, spiffe_id, s, &e);
    op_free(o);
    cb(arg, &e);
}
