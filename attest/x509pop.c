/* Proof of possession of an SVID of this authority.
 * Evidence: {"chain": [b64url(DER leaf), b64url(DER issuing), …],
 *            "signature": b64url(signature of the leaf's key over "mayfly x509pop v1" ‖ digest)},
 * the signature as JOSE writes it (ECDSA: fixed-width r‖s). The SVID is judged in svid.c, the signature last. */
#include "attest/kinds.h"
#include <stdlib.h>
#include <string.h>

#define LABEL "mayfly x509pop v1"
#define MSG_LEN (sizeof LABEL - 1 + 32)

static void message(uint8_t msg[MSG_LEN], const uint8_t digest[32])
{
    memcpy(msg, LABEL, sizeof LABEL - 1);
    memcpy(msg + sizeof LABEL - 1, digest, 32);
}

static int check_signature(const struct shown *p, const uint8_t *sig, size_t sig_len, const uint8_t digest[32],
                           struct err *e)
{
    uint8_t msg[MSG_LEN];
    struct err why = {0};
    message(msg, digest);
    if (key_verify(p->key, false, sig, sig_len, msg, sizeof msg, &why) < 0)
        return err_set(e, ERR_BAD_EVIDENCE, "x509pop-signature",
                       "the signature is not by the certificate's key over this session and its fresh value");
    return 0;
}

static int add_selector(struct attest_result *r, struct err *e)
{
    char text[ATTEST_SELECTOR_LEN];
    snprintf(text, sizeof text, "x509pop:spiffe_id:%s", r->spiffe_id);
    r->selectors[0] = strdup(text);
    if (!r->selectors[0])
        return err_set(e, ERR_INTERNAL, "memory", "out of memory for a selector");
    r->selectors_count = 1;
    return 0;
}

int x509pop_verify(struct attest_result *r, const struct attest_input *in, struct err *e)
{
    struct shown p = {.n = 0};
    uint8_t sig[ATTEST_SIG_MAX];
    json_t *obj = attest_object(in->evidence, 2, e);
    if (!obj)
        return -1;
    int rc = shown_read(&p, obj, e);
    long len = rc == 0 ? attest_member(obj, "signature", sig, sizeof sig, e) : -1;
    json_decref(obj);
    if (len < 0)
        rc = -1;
    if (rc == 0)
        rc = shown_judge(r, &p, in->anchor, in->trust_domain, in->now, e);
    if (rc == 0)
        rc = check_signature(&p, sig, (size_t)len, in->digest, e);
    if (rc == 0)
        rc = add_selector(r, e);
    shown_free(&p);
    return rc;
}

int attest_x509pop_collect(struct buf *out, const struct bytes *chain, size_t n, const struct key *k,
                           const uint8_t digest[32], struct err *e)
{
    uint8_t msg[MSG_LEN], sig[ATTEST_SIG_MAX];
    struct buf evidence;
    message(msg, digest);
    long len = key_sign(k, false, sig, sizeof sig, msg, sizeof msg, e);
    if (len < 0)
        return -1;
    buf_init(&evidence, ATTEST_EVIDENCE_MAX);
    buf_str(&evidence, "{");
    int rc = shown_write(&evidence, chain, n, e);
    buf_str(&evidence, ",\"signature\":\"");
    buf_b64url(&evidence, sig, (size_t)len);
    buf_str(&evidence, "\"}");
    if (rc == 0)
        rc = attest_cmw_write(out, ATTEST_MEDIA_X509POP, &evidence, e);
    buf_free(&evidence);
    return rc;
}
