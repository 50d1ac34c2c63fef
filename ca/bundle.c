/* One root, as a JWK with use "x509-svid" and exactly one certificate in x5c (SPIFFE Trust Domain
 * and Bundle, section 4.2). Our own member "mayfly_log" names the log; readers ignore what they do
 * not know (RFC 7517 section 5). */
#include "ca/bundle.h"
#include "base/jose.h"
#include <openssl/x509.h>
#include <string.h>

#define REFRESH_HINT 300

static struct key *root_key(struct bytes root, struct err *e)
{
    const unsigned char *p = root.p;
    X509 *x = d2i_X509(NULL, &p, (long)root.len);
    if (!x || p != root.p + root.len) {
        X509_free(x);
        err_set(e, ERR_CORRUPT, "bundle-root", "the root certificate is not one DER certificate");
        return NULL;
    }
    struct key *k = key_from_evp(X509_get0_pubkey(x), e);
    X509_free(x);
    return k;
}

int bundle_write(struct buf *out, struct bytes root, struct bytes vkey, uint64_t sequence,
                 struct err *e)
{
    struct key *k = root_key(root, e);
    if (!k)
        return -1;
    struct buf jwk;
    buf_init(&jwk, 4096);
    int r = jwk_write(&jwk, k, e);
    key_free(k);
    if (r < 0 || jwk.len < 2) {
        buf_free(&jwk);
        return r < 0 ? -1 : err_set(e, ERR_INTERNAL, "bundle-root", "empty JWK for the root key");
    }
    buf_str(out, "{\"keys\":[");
    buf_put(out, jwk.p, jwk.len - 1); /* without its closing brace: two members follow */
    buf_str(out, ",\"use\":\"x509-svid\",\"x5c\":[\"");
    buf_b64(out, root.p, root.len);
    buf_fmt(out, "\"]}],\"spiffe_sequence\":%llu,\"spiffe_refresh_hint\":%d,\"mayfly_log\":",
            (unsigned long long)sequence, REFRESH_HINT);
    jw_strn(out, (const char *)vkey.p, vkey.len);
    buf_str(out, "}\n");
    buf_free(&jwk);
    if (out->failed)
        return err_set(e, ERR_TOO_LARGE, "bundle-size", "the bundle does not fit its buffer");
    return 0;
}
