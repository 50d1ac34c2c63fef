/* The CRLs of the trust domain, by the numbers that the bundle gives: one a shard (base/crl_name.h). */
#include "agent/pem.h"
#include "agent/wire.h"
#include "base/clock.h"
#include <openssl/err.h>
#include <stdio.h>

bool crl_whole(const struct buf *b, X509 *issuing)
{
    const uint8_t *p = b->p;
    X509_CRL *crl = b->len ? d2i_X509_CRL(NULL, &p, (long)b->len) : NULL;
    bool ok = crl && p == b->p + b->len;
    if (ok && issuing)
        ok = X509_NAME_cmp(X509_CRL_get_issuer(crl), X509_get_subject_name(issuing)) == 0 &&
             X509_CRL_verify(crl, X509_get0_pubkey(issuing)) == 1;
    X509_CRL_free(crl);
    ERR_clear_error();
    return ok;
}

int crl_get(struct acme_client *c, const struct crl_ask *q, struct http_answer *a, struct err *e)
{
    char url[ORIGIN_MAX + 64];
    snprintf(url, sizeof url, "%s/crl/%u-%u.crl", c->server.origin, q->shards, q->shard);
    http_answer_init_max(a, CRL_BYTES_MAX);
    struct http_request r = {.method = "GET", .url = url, .deadline = c->deadline, .if_none_match = q->etag};
    if (c->transport.send(c->transport.arg, &r, a, e) < 0)
        return -1;
    if (a->status == 304 || a->status == 404)
        return 0;
    if (a->status != 200)
        return acme_problem(a, e);
    if (crl_whole(&a->body, q->issuing))
        return 1;
    return err_set(e, ERR_CORRUPT, "crl", "%s is no CRL%s", url, q->issuing ? " of the authority that issued the certificate" : "");
}

static int put(struct buf *pem, const struct buf *crl, struct err *e)
{
    size_t left_out = pem_crls(pem, crl, 1);
    return left_out || pem->failed ? err_set(e, ERR_TOO_LARGE, "crl", "the CRLs do not fit into one file") : 0;
}

int crls_get(struct acme_client *c, X509 *issuing, unsigned ms, struct buf *pem, struct err *e)
{
    struct buf text;
    struct bundle_doc doc;
    struct http_answer a;
    buf_init(&text, ANSWER_BIG_MAX);
    int rc = acme_bundle(c, ms, &text, e);
    if (rc == 0)
        rc = bundle_doc_parse(&doc, (struct bytes){text.p, text.len}, e);
    unsigned shards = rc == 0 && *doc.crl_base ? doc.crl_shards : 0;
    if (rc == 0)
        bundle_doc_free(&doc);
    for (unsigned i = 0; rc == 0 && i < shards; i++) {
        struct crl_ask q = {.shards = shards, .shard = i, .issuing = issuing};
        rc = crl_get(c, &q, &a, e);
        if (rc > 0)
            rc = put(pem, &a.body, e);
        http_answer_free(&a);
    }
    buf_free(&text);
    return rc;
}
