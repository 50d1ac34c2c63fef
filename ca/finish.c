/* Steps 8 and 9, on the signing threads: a last look at what was made, the token's signature, the answer. */
#include "ca/corridor.h"
#include "base/log.h"
#include <string.h>

/* --- 8 lint, 9 sign: on a signing thread --------------------------------------------------------------------- */

/* tbs becomes the signed object, in the array. */
static int sign(struct corridor *c, struct station *s, const struct job *j, struct bytes tbs, uint8_t *array, size_t cap,
                struct bytes *whole, struct err *e)
{
    uint8_t hash[DIGEST_SHA256], rs[64], der[80];
    size_t len = sizeof rs;
    if (digest_sha256(&s->digest, tbs.p, tbs.len, hash) < 0)
        return err_set(e, ERR_INTERNAL, "digest", "SHA-256 failed; is memory exhausted?");
    if (hsm_sign(c->o->hsm, HSM_KEY_ISSUING, hash, sizeof hash, rs, &len, e) < 0)
        return -1;
    long n = len == sizeof rs ? der_ecdsa_from_rs(der, sizeof der, rs, 32) : -1;
    if (n < 0)
        return err_set(e, ERR_HSM, "hsm-signature", "the token's signature has %zu bytes", len);
    *whole = tbs_certificate(array, cap, tbs, tbs_ecdsa_sha256, (struct bytes){der, (size_t)n});
    if (whole->len == 0)
        return err_set(e, ERR_INTERNAL, "cert-size", "what entry %llu stands for does not fit its array",
                       (unsigned long long)j->index);
    return 0;
}

/* Gives the answers of a share, and lets the callers go. */
int finish_answer(void *arg, unsigned worker, struct err *e)
{
    struct station *s = &((struct corridor *)arg)->stations[worker];
    int r = 0;
    for (unsigned i = 0; i < s->n; i++) {
        caller_answer(s->out[i].caller, &s->out[i].frame);
        caller_let_go(s->out[i].caller);
        if (r == 0)
            r = STEP("issue-answered");
    }
    s->n = 0;
    return r;
}

static int finish(struct corridor *c, struct station *s, struct job *j, struct buf *frame, struct err *e)
{
    struct bytes cert;
    const struct lint_expect expect = {
        .request = &j->request, .index = j->index, .now = j->now, .log_body = j->log_body};
    if (lint_leaf(&c->lint, &s->digest, &expect, j->tbs, e) < 0) { /* 8 */
        /* Refused before the process ends: asked again, it would end the next one too. */
        ca_refused_write(frame, j->id, e);
        caller_answer(j->caller, frame);
        return -1;
    }
    if (sign(c, s, j, j->tbs, s->cert, sizeof s->cert, &cert, e) < 0 || STEP("issue-signed") < 0) /* 9 */
        return -1;
    const struct ca_issued m = {.index = j->index,
                                .not_before = j->parts.not_before,
                                .not_after = j->parts.not_after,
                                .cert = cert};
    ca_issued_write(frame, j->id, &m);
    atomic_fetch_add(&c->issued, 1);
    return 0;
}

/* The body's array has done its part when the TBSCertList is linted, and holds the signed list. */
static int finish_crl(struct corridor *c, struct station *s, struct job *j, struct buf *frame, struct err *e)
{
    struct crl_draft *d = j->crl;
    struct bytes whole;
    if (crl_lint(&c->lint, &s->digest, d, j->index, j->now, e) < 0) {
        ca_refused_write(frame, j->id, e);
        caller_answer(j->caller, frame);
        return -1;
    }
    if (sign(c, s, j, d->tbs, d->body, sizeof d->body, &whole, e) < 0 || STEP("crl-signed") < 0)
        return -1;
    const struct ca_crl_signed m = {.number = j->index, .this_update = d->this_update, .next_update = d->next_update,
                                    .crl = whole};
    ca_crl_signed_write(frame, j->id, &m);
    check_drop_crl(j);
    return 0;
}

/* The compact form: what was signed, a dot, r and s. */
static int finish_jwt(struct corridor *c, struct station *s, struct job *j, struct buf *frame, struct err *e)
{
    uint8_t hash[DIGEST_SHA256], rs[64];
    size_t len = sizeof rs, n = j->tbs.len;
    const struct jwt_expect expect = {.request = &j->jwt, .index = j->index, .now = j->now,
                                      .log_entry = {j->log_entry.p, j->log_entry.len}};
    if (jwt_lint(&c->jwt, &expect, j->tbs, s->claims, sizeof s->claims, e) < 0) { /* 8 */
        ca_refused_write(frame, j->id, e);
        caller_answer(j->caller, frame);
        return -1;
    }
    if (digest_sha256(&s->digest, j->tbs.p, n, hash) < 0)
        return err_set(e, ERR_INTERNAL, "digest", "SHA-256 failed; is memory exhausted?");
    if (hsm_sign(c->o->hsm, HSM_KEY_JWT, hash, sizeof hash, rs, &len, e) < 0 || STEP("jwt-signed") < 0) /* 9 */
        return -1;
    if (len != sizeof rs || n + 1 + B64URL_LEN(sizeof rs) + 1 > sizeof s->cert)
        return err_set(e, ERR_HSM, "hsm-signature", "the token's signature has %zu bytes", len);
    memcpy(s->cert, j->tbs.p, n);
    s->cert[n++] = '.';
    n += b64url_encode((char *)s->cert + n, rs, len);
    const struct ca_jwt_signed m = {.index = j->index, .issued = j->now, .expires = j->now + j->jwt.lifetime,
                                    .jwt = {s->cert, n}};
    ca_jwt_signed_write(frame, j->id, &m);
    return 0;
}

static int finish_any(struct corridor *c, struct station *s, struct job *j, struct buf *frame, struct err *e)
{
    if (j->is_jwt)
        return finish_jwt(c, s, j, frame, e);
    return j->crl ? finish_crl(c, s, j, frame, e) : finish(c, s, j, frame, e);
}

int finish_work(void *arg, unsigned worker, struct job *j, struct err *e)
{
    struct corridor *c = arg;
    struct station *s = &c->stations[worker];
    struct buf *frame = &s->out[s->n].frame;
    if (finish_any(c, s, j, frame, e) < 0) {
        caller_let_go(j->caller);
        return -1;
    }
    s->out[s->n++].caller = j->caller;
    return 0;
}
