/* Evidence from outside, as the CMW record's JSON; or, after a byte 'j', 'x' or 'a', as the
 * evidence of a join token, of x509pop or of an agent inside the record, so that the fuzzer need not learn base64; or, after a byte
 * 's', as a chain shown in TLS: certificates, each behind a length of two bytes. Nothing that
 * a fuzzer makes can be bound to the digest or chain to a root that is made anew in each run. */
#include "tests/unit/attest/pki.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static json_t *record(const char *media, const uint8_t *p, size_t len)
{
    struct err e = {0};
    struct buf b;
    buf_init(&b, 1 << 20);
    buf_str(&b, "[\"");
    buf_str(&b, media);
    buf_str(&b, "\",\"");
    buf_b64url(&b, p, len);
    buf_str(&b, "\"]");
    json_t *cmw = b.failed ? NULL : json_parse(b.p, b.len, 1 << 20, &e);
    buf_free(&b);
    return cmw;
}

static void shown(const struct attest_anchor *anchor, const uint8_t *p, size_t len)
{
    struct bytes chain[8];
    struct attest_result r;
    struct err e = {0};
    struct cur c = cur_of(p, len);
    size_t n = 0;
    while (n < 8 && cur_left(&c) && cur_vec16(&c, &chain[n]) == 0)
        n++;
    if (attest_svid(&r, chain, n, anchor, "example.org", PKI_NOW, &e) == 0 || e.code != ERR_BAD_EVIDENCE || *r.spiffe_id)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct pki pki;
    static const uint8_t digest[32] = {1}, salt[16] = {2};
    struct attest_result r;
    struct err e = {0};
    json_t *cmw;
    if (!pki.root)
        pki_new(&pki, "root");
    struct attest_anchor anchor = {{pki.root_der.p, pki.root_der.len}, {pki.issuing_der.p, pki.issuing_der.len}};
    if (len > 0 && data[0] == 's') {
        shown(&anchor, data + 1, len - 1);
        return 0;
    }
    const char *media = len == 0          ? NULL
                        : data[0] == 'j' ? ATTEST_MEDIA_JOIN_TOKEN
                        : data[0] == 'x' ? ATTEST_MEDIA_X509POP
                        : data[0] == 'a' ? ATTEST_MEDIA_AGENT
                                         : NULL;
    if (media)
        cmw = record(media, data + 1, len - 1);
    else
        cmw = json_parse(data, len, 65536, &e);
    if (!cmw)
        return 0;
    if (attest_verify(&r, cmw, digest, &anchor, "example.org", PKI_NOW, salt, &e) == 0)
        abort();
    if (e.code != ERR_BAD_EVIDENCE || !e.rule[0] || r.selectors_count != 0)
        abort();
    json_decref(cmw);
    return 0;
}
