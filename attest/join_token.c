/* Join tokens: a secret of 32 bytes that proves its holder once.
 * Evidence: {"secret": b64url, "binding": b64url(HMAC-SHA256(secret, "mayfly join token v1" ‖ digest))}.
 * The binding ties the secret to this session: who sees the evidence of one session (and not the
 * TLS secrets of another) can not present it in a second. Whether the token exists, lives and is
 * unspent is ra/'s to say. */
#include "attest/kinds.h"
#include "base/secmem.h"
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>

#define SECRET_LEN 32
#define PREFIX "mjt1_"
static const char label[] = "mayfly join token v1";

static int bind(uint8_t out[32], const uint8_t secret[SECRET_LEN], const uint8_t digest[32], struct err *e)
{
    uint8_t msg[sizeof label - 1 + 32];
    unsigned n = 0;
    memcpy(msg, label, sizeof label - 1);
    memcpy(msg + sizeof label - 1, digest, 32);
    if (!HMAC(EVP_sha256(), secret, SECRET_LEN, msg, sizeof msg, out, &n) || n != 32)
        return err_set(e, ERR_INTERNAL, "crypto", "cannot compute HMAC-SHA256");
    return 0;
}

static int check(struct attest_result *r, const json_t *obj, const uint8_t digest[32],
                 uint8_t secret[SECRET_LEN], struct err *e)
{
    uint8_t given[32], want[32];
    long s = attest_member(obj, "secret", secret, SECRET_LEN, e);
    long b = s < 0 ? -1 : attest_member(obj, "binding", given, sizeof given, e);
    if (s < 0 || b < 0)
        return -1;
    if (s != SECRET_LEN || b != sizeof given)
        return err_set(e, ERR_BAD_EVIDENCE, "evidence-format",
                       "a join token's secret and its binding have 32 bytes each");
    if (bind(want, secret, digest, e) < 0)
        return -1;
    if (!bytes_ct_eq(given, want, sizeof want))
        return err_set(e, ERR_BAD_EVIDENCE, "evidence-binding",
                       "the join token is not bound to this session and its fresh value; evidence is "
                       "made anew for each request");
    if (EVP_Digest(secret, SECRET_LEN, r->token_hash, NULL, EVP_sha256(), NULL) != 1)
        return err_set(e, ERR_INTERNAL, "crypto", "cannot hash");
    return 0;
}

int join_token_verify(struct attest_result *r, const struct attest_input *in, struct err *e)
{
    uint8_t secret[SECRET_LEN] = {0};
    json_t *obj = attest_object(in->evidence, 2, e);
    if (!obj)
        return -1;
    int rc = check(r, obj, in->digest, secret, e);
    secret_wipe(secret, sizeof secret);
    attest_text_wipe(json_object_get(obj, "secret"));
    json_decref(obj);
    return rc;
}

int attest_join_token_collect(struct buf *out, const uint8_t secret[32], const uint8_t digest[32],
                              struct err *e)
{
    uint8_t binding[32];
    struct buf evidence;
    if (bind(binding, secret, digest, e) < 0)
        return -1;
    buf_init(&evidence, 256);
    buf_str(&evidence, "{\"secret\":\"");
    buf_b64url(&evidence, secret, SECRET_LEN);
    buf_str(&evidence, "\",\"binding\":\"");
    buf_b64url(&evidence, binding, sizeof binding);
    buf_str(&evidence, "\"}");
    int rc = attest_cmw_write(out, ATTEST_MEDIA_JOIN_TOKEN, &evidence, e);
    if (evidence.p)
        secret_wipe(evidence.p, evidence.cap);
    buf_free(&evidence);
    return rc;
}

/* --- the text that people pass on ---------------------------------------------------------------- */

void join_token_write(char dst[JOIN_TOKEN_TEXT + 1], const uint8_t secret[32], const uint8_t anchor[32])
{
    uint8_t both[64];
    memcpy(both, secret, 32);
    memcpy(both + 32, anchor, 32);
    memcpy(dst, PREFIX, sizeof PREFIX - 1);
    b64url_encode(dst + sizeof PREFIX - 1, both, sizeof both);
    secret_wipe(both, sizeof both);
}

int join_token_parse(const char *s, size_t len, uint8_t secret[32], uint8_t anchor[32], struct err *e)
{
    uint8_t both[64];
    const size_t prefix = sizeof PREFIX - 1;
    if (len != JOIN_TOKEN_TEXT || memcmp(s, PREFIX, prefix) != 0 ||
        b64url_decode(both, sizeof both, s + prefix, len - prefix) != sizeof both)
        return err_set(e, ERR_MALFORMED, "join-token",
                       "not a join token: it is %zu characters and begins with " PREFIX
                       "; copy it whole from `mayfly token create`",
                       (size_t)JOIN_TOKEN_TEXT);
    memcpy(secret, both, 32);
    memcpy(anchor, both + 32, 32);
    secret_wipe(both, sizeof both);
    return 0;
}
