/* From newOrder to the chain: one round trip where the authority knows it, else RFC 8555's steps
 * (§7.4, §7.5). One loop over the order's state; every step is done at most once. */
#include "agent/internal.h"
#include <stdlib.h>
#include <string.h>

struct new_order { /* what the payload is made of */
    struct acme_client *c;
    const struct acme_want *w;
    bool with_evidence;
};

int acme_evidence(struct acme_client *c, acme_evidence_cb *evidence, void *arg, const char *token, struct buf *out,
                  struct err *e)
{
    uint8_t digest[32];
    if (!evidence)
        return err_set(e, ERR_BAD_EVIDENCE, "evidence-none",
                       "the authority asks for evidence, and there is none to give: a join token is some (--token-file)");
    if (attest_key_authorization(digest, token, c->thumbprint) < 0)
        return err_set(e, ERR_INTERNAL, "memory", "out of memory for evidence");
    return evidence(arg, digest, out, e);
}

static int append_evidence(struct acme_client *c, const struct acme_want *w, const char *token,
                           struct buf *out, struct err *e)
{
    return acme_evidence(c, w->evidence, w->arg, token, out, e);
}

/* In-band evidence covers the key authorization made of this very request's nonce. */
static int order_payload(void *arg, const char *nonce, struct buf *out, struct err *e)
{
    struct new_order *n = arg;
    buf_str(out, "{\"identifiers\":[{\"type\":\"uri\",\"value\":");
    jw_str(out, n->w->spiffe_id);
    for (size_t i = 0; i < n->w->dns_count; i++) {
        buf_str(out, "},{\"type\":\"dns\",\"value\":");
        jw_str(out, n->w->dns[i]);
    }
    buf_str(out, "}],\"csr\":\"");
    buf_b64url(out, n->w->csr.p, n->w->csr.len);
    buf_str(out, "\"");
    if (n->w->replaces) {
        buf_str(out, ",\"replaces\":");
        jw_str(out, n->w->replaces);
    }
    if (n->with_evidence) {
        buf_str(out, ",\"evidence\":");
        if (append_evidence(n->c, n->w, nonce, out, e) < 0)
            return -1;
    }
    buf_str(out, "}");
    return 0;
}

/* --- authorization (RFC 8555 §7.5) --------------------------------------------------------------- */

struct challenge {
    struct acme_client *c;
    const struct acme_want *w;
    const char *token;
};

static int challenge_payload(void *arg, const char *nonce, struct buf *out, struct err *e)
{
    struct challenge *h = arg;
    return append_evidence(h->c, h->w, h->token, out, e);
}

static int authz_get(struct acme_client *c, const char *url, struct acme_authz *a, unsigned *retry,
                     struct err *e)
{
    struct http_answer answer;
    http_answer_init(&answer);
    acme_authz_free(a);
    int rc = acme_post_text(c, url, "", &answer, e);
    if (rc == 0)
        rc = acme_authz_parse(a, (struct bytes){answer.body.p, answer.body.len}, e);
    *retry = answer.retry_after;
    http_answer_free(&answer);
    return rc;
}

static int challenge_answer(struct acme_client *c, const struct acme_want *w,
                            const struct acme_authz *a, struct err *e)
{
    struct http_answer answer;
    struct challenge h = {c, w, a->token};
    if (!a->url)
        return err_set(
            e, ERR_UNSUPPORTED_ID, "challenge",
            "the authority offers no remote-attest-01 challenge: is this a Mayfly authority?");
    http_answer_init(&answer);
    int rc = acme_post(c, a->url, challenge_payload, &h, &answer, e);
    http_answer_free(&answer);
    return rc;
}

static int authz_run(struct acme_client *c, const struct acme_want *w, const char *url,
                     struct err *e)
{
    struct acme_authz a = {0};
    bool answered = false;
    unsigned retry;
    int rc = authz_get(c, url, &a, &retry, e);
    for (unsigned attempt = 0; rc == 0 && a.status != ACME_VALID;) {
        if (a.status == ACME_INVALID) {
            *e = a.error;
            rc = -1;
            break;
        }
        if (a.status == ACME_PENDING && !answered) {
            rc = challenge_answer(c, w, &a, e);
            answered = true;
        } else {
            rc = acme_wait(c, retry, attempt++, e);
        }
        if (rc == 0)
            rc = authz_get(c, url, &a, &retry, e);
    }
    acme_authz_free(&a);
    return rc;
}

static int authorize(struct acme_client *c, const struct acme_want *w, const struct acme_order *o,
                     struct err *e)
{
    if (o->authz_count == 0)
        return err_set(e, ERR_INTERNAL, "acme-answer",
                       "the order is pending but names no authorization: is this an ACME server?");
    for (size_t i = 0; i < o->authz_count; i++)
        if (authz_run(c, w, o->authz[i], e) < 0)
            return -1;
    return 0;
}

/* --- the order (RFC 8555 §7.4) ------------------------------------------------------------------- */

struct order_run {
    struct acme_client *c;
    const struct acme_want *w;
    struct acme_order order;
    char url[URL_MAX + 1]; /* "" until a Location was given */
    unsigned retry_after, attempt;
    bool authorized, finalized;
};

static int take_order(struct order_run *r, const struct http_answer *a, struct err *e)
{
    acme_order_free(&r->order);
    if (*a->location)
        strcpy(r->url, a->location);
    r->retry_after = a->retry_after;
    return acme_order_parse(&r->order, (struct bytes){a->body.p, a->body.len}, e);
}

static int order_open(struct order_run *r, struct http_answer *a, struct err *e)
{
    bool known = id_set_has(&r->c->authorized, r->w->spiffe_id);
    struct new_order n = {r->c, r->w, r->w->evidence && !known};
    if (acme_post(r->c, r->c->directory.new_order, order_payload, &n, a, e) < 0 || take_order(r, a, e) < 0)
        return -1;
    if (!known || !r->w->evidence || r->order.status != ACME_PENDING)
        return 0;
    /* What was shown counts no more: the session's hour is over, or more is asked for. Shown again, at once. */
    id_set_remove(&r->c->authorized, r->w->spiffe_id);
    n.with_evidence = true;
    if (acme_post(r->c, r->c->directory.new_order, order_payload, &n, a, e) < 0)
        return -1;
    return take_order(r, a, e);
}

static int order_refresh(struct order_run *r, struct http_answer *a, struct err *e)
{
    if (!*r->url)
        return err_set(e, ERR_INTERNAL, "acme-answer",
                       "the order has no Location to ask again: is this an ACME server?");
    return acme_post_text(r->c, r->url, "", a, e) < 0 ? -1 : take_order(r, a, e);
}

static int finalize_payload(void *arg, const char *nonce, struct buf *out, struct err *e)
{
    const struct acme_want *w = arg;
    buf_str(out, "{\"csr\":\"");
    buf_b64url(out, w->csr.p, w->csr.len);
    buf_str(out, "\"}");
    return 0;
}

static int order_finalize(struct order_run *r, struct http_answer *a, struct err *e)
{
    struct acme_want w = *r->w;
    if (!r->order.finalize)
        return err_set(e, ERR_INTERNAL, "acme-answer",
                       "the order is ready but has no finalize URL: is this an ACME server?");
    return acme_post(r->c, r->order.finalize, finalize_payload, &w, a, e) < 0 ? -1
                                                                              : take_order(r, a, e);
}

static int order_chain(struct order_run *r, struct http_answer *a, struct buf *chain_pem,
                       struct err *e)
{
    if (r->order.chain) {
        buf_str(chain_pem, r->order.chain);
    } else {
        if (!r->order.certificate)
            return err_set(e, ERR_INTERNAL, "acme-answer",
                           "the order is valid but has no certificate: is this an ACME server?");
        if (acme_post_text(r->c, r->order.certificate, "", a, e) < 0)
            return -1;
        buf_put(chain_pem, a->body.p, a->body.len);
    }
    return chain_pem->failed
               ? err_set(e, ERR_CORRUPT, "chain-size",
                         "the authority answered with a certificate chain of more than %d bytes",
                         CHAIN_PEM_MAX)
               : 0;
}

/* One step from the order's present state. 1: the chain is there. */
static int order_step(struct order_run *r, struct http_answer *a, struct buf *chain_pem,
                      struct err *e)
{
    switch (r->order.status) {
    case ACME_VALID:
        return order_chain(r, a, chain_pem, e) < 0 ? -1 : 1;
    case ACME_INVALID:
        *e = r->order.error;
        return -1;
    case ACME_READY:
        if (!r->finalized) {
            r->finalized = true;
            return order_finalize(r, a, e);
        }
        break;
    case ACME_PENDING:
        if (!r->authorized) {
            r->authorized = true;
            return authorize(r->c, r->w, &r->order, e) < 0 ? -1 : order_refresh(r, a, e);
        }
        break;
    case ACME_PROCESSING:
        break;
    }
    return acme_wait(r->c, r->retry_after, r->attempt++, e) < 0 ? -1 : order_refresh(r, a, e);
}

int acme_order_run(struct acme_client *c, const struct acme_want *w, struct buf *chain_pem,
                   struct err *e)
{
    struct order_run r = {.c = c, .w = w};
    struct http_answer a;
    http_answer_init(&a);
    buf_reset(chain_pem);
    int rc = order_open(&r, &a, e);
    while (rc == 0)
        rc = order_step(&r, &a, chain_pem, e);
    if (rc == 1)
        id_set_add(&c->authorized, w->spiffe_id);
    acme_order_free(&r.order);
    http_answer_free(&a);
    return rc == 1 ? 0 : -1;
}
