/* An agent's word on a workload beside it: what the kernel told the agent of it, as selectors, signed with the
 * key of the agent's own SVID.
 * Evidence: {"chain": [b64url(DER leaf), b64url(DER issuing), …], "selectors": ["type:value", …],
 *            "sig": b64url(signature of the leaf's key over
 *                   "mayfly agent evidence v1\n" ‖ digest ‖ for each selector: u16 length, big-endian ‖ bytes)},
 * the signature as JOSE writes it (ECDSA: fixed-width r‖s). The SVID is judged in svid.c, the signature last.
 * What is proven is that this agent says so. Which entries that counts for is ra/'s to decide. */
#include "attest/kinds.h"
#include "base/der.h"
#include <stdlib.h>
#include <string.h>

#define LABEL "mayfly agent evidence v1\n"
#define MSG_MAX (sizeof LABEL - 1 + 32 + ATTEST_SELECTORS_MAX * (2 + ATTEST_AGENT_SELECTOR_LEN))

/* --- selectors ------------------------------------------------------------------------------------ */

/* As entries have them (ra/entry.c): nothing else could match one. */
static bool selector_good(const char *s, size_t len)
{
    const char *colon = memchr(s, ':', len);
    bool printable = true;
    for (size_t i = 0; i < len; i++)
        printable = printable && s[i] >= 0x20 && s[i] < 0x7f;
    return printable && len <= ATTEST_AGENT_SELECTOR_LEN && colon && colon > s && colon + 1 < s + len;
}

static int refuse_selectors(struct err *e)
{
    return err_set(e, ERR_BAD_EVIDENCE, "agent-selectors",
                   "an agent's evidence has 1 to %d selectors, type:value in printable ASCII, each at most %d bytes",
                   ATTEST_SELECTORS_MAX, ATTEST_AGENT_SELECTOR_LEN);
}

static int read_selectors(struct attest_result *r, const json_t *obj, struct err *e)
{
    const json_t *list = json_object_get(obj, "selectors");
    size_t n = json_array_size(list);
    if (n == 0 || n > ATTEST_SELECTORS_MAX)
        return refuse_selectors(e);
    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_array_get(list, i);
        if (!json_is_string(v) || !selector_good(json_string_value(v), json_string_length(v)))
            return refuse_selectors(e);
        r->selectors[i] = strdup(json_string_value(v));
        if (!r->selectors[i])
            return err_set(e, ERR_INTERNAL, "memory", "out of memory for a selector");
        r->selectors_count++;
    }
    return 0;
}

/* --- the signature --------------------------------------------------------------------------------- */

static int message(struct buf *msg, const uint8_t digest[32], const char *const *selectors, size_t n, struct err *e)
{
    buf_init(msg, MSG_MAX);
    buf_put(msg, LABEL, sizeof LABEL - 1);
    buf_put(msg, digest, 32);
    for (size_t i = 0; i < n; i++) {
        size_t len = strlen(selectors[i]);
        buf_u16(msg, (uint16_t)len);
        buf_put(msg, selectors[i], len);
    }
    return msg->failed ? err_set(e, ERR_INTERNAL, "memory", "out of memory for evidence") : 0;
}

static int check_signature(const struct attest_result *r, const struct shown *p, const uint8_t *sig, size_t sig_len,
                           const uint8_t digest[32], struct err *e)
{
    struct buf msg;
    struct err why = {0};
    int rc = message(&msg, digest, (const char *const *)r->selectors, r->selectors_count, e);
    if (rc == 0 && key_verify(p->key, false, sig, sig_len, msg.p, msg.len, &why) < 0)
        rc = err_set(e, ERR_BAD_EVIDENCE, "agent-signature",
                     "the signature is not by the key of the agent's SVID over this session, its fresh value and these "
                     "selectors");
    buf_free(&msg);
    return rc;
}

int agent_evidence_verify(struct attest_result *r, const struct attest_input *in, struct err *e)
{
    struct shown p = {.n = 0};
    uint8_t sig[ATTEST_SIG_MAX];
    json_t *obj = attest_object(in->evidence, 3, e);
    if (!obj)
        return -1;
    int rc = shown_read(&p, obj, e);
    if (rc == 0)
        rc = read_selectors(r, obj, e);
    long len = rc == 0 ? attest_member(obj, "sig", sig, sizeof sig, e) : -1;
    json_decref(obj);
    if (len < 0)
        rc = -1;
    if (rc == 0)
        rc = shown_judge(r, &p, in->anchor, in->trust_domain, in->now, e);
    if (rc == 0)
        rc = check_signature(r, &p, sig, (size_t)len, in->digest, e);
    shown_free(&p);
    return rc;
}

/* --- collecting -------------------------------------------------------------------------------------- */

/* From DER to JOSE's form; verified on the way, so that a wrong key is told where it is. */
static long sign_it(const struct key *k, attest_sign_cb *sign, void *arg, uint8_t sig[ATTEST_SIG_MAX],
                    const struct buf *msg, struct err *e)
{
    uint8_t made[ATTEST_SIG_MAX];
    struct err why = {0};
    size_t width = key_kind(k) == KEY_P256 ? 32 : key_kind(k) == KEY_P384 ? 48 : 0;
    long n = sign(arg, made, sizeof made, msg->p, msg->len, e);
    if (n < 0)
        return -1;
    if ((size_t)n > sizeof made || key_verify(k, true, made, (size_t)n, msg->p, msg->len, &why) < 0)
        return err_set(e, ERR_BAD_EVIDENCE, "agent-signature", "what the agent's key signed does not verify with its SVID");
    if (!width) {
        memcpy(sig, made, (size_t)n);
        return n;
    }
    return der_ecdsa_to_rs(sig, width, made, (size_t)n) < 0
               ? err_set(e, ERR_INTERNAL, "crypto", "a signature that verified is not DER")
               : (long)(2 * width);
}

static void write_evidence(struct buf *b, const char *const *selectors, size_t n, const uint8_t *sig, size_t sig_len)
{
    buf_str(b, ",\"selectors\":[");
    for (size_t i = 0; i < n; i++) {
        buf_str(b, i ? "," : "");
        jw_str(b, selectors[i]);
    }
    buf_str(b, "],\"sig\":\"");
    buf_b64url(b, sig, sig_len);
    buf_str(b, "\"}");
}

int attest_agent_collect(struct buf *out, const struct bytes *chain, size_t n, attest_sign_cb *sign, void *arg,
                         const char *const *selectors, size_t selectors_count, const uint8_t digest[32], struct err *e)
{
    uint8_t sig[ATTEST_SIG_MAX];
    struct shown p = {.n = 0};
    struct buf msg, evidence;
    bool good = selectors_count > 0 && selectors_count <= ATTEST_SELECTORS_MAX;
    for (size_t i = 0; good && i < selectors_count; i++)
        good = selector_good(selectors[i], strlen(selectors[i]));
    if (!good)
        return refuse_selectors(e);
    buf_init(&msg, 0);
    buf_init(&evidence, ATTEST_EVIDENCE_MAX);
    buf_str(&evidence, "{");
    long len = -1;
    if (shown_take(&p, chain, n, e) == 0 && shown_write(&evidence, chain, n, e) == 0 &&
        message(&msg, digest, selectors, selectors_count, e) == 0)
        len = sign_it(p.key, sign, arg, sig, &msg, e);
    if (len >= 0)
        write_evidence(&evidence, selectors, selectors_count, sig, (size_t)len);
    int rc = len < 0 ? -1 : attest_cmw_write(out, ATTEST_MEDIA_AGENT, &evidence, e);
    buf_free(&evidence);
    buf_free(&msg);
    shown_free(&p);
    return rc;
}
