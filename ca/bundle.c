/* One root, as a JWK with use "x509-svid" and exactly one certificate in x5c (SPIFFE Trust Domain
 * and Bundle, section 4.2), and the key of JWT-SVIDs, with a kid (section 4.2.3). Our own member
 * "mayfly_log" names the log; readers ignore what they do not know (RFC 7517 section 5). */
#include "ca/bundle.h"
#include "base/crl_name.h"
#include "base/jose.h"
#include <openssl/x509.h>
#include <stdio.h>
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

/* The JWK without its closing brace: members follow. */
static int key_write(struct buf *out, const struct key *k, struct err *e)
{
    struct buf jwk;
    buf_init(&jwk, 4096);
    int r = jwk_write(&jwk, k, e);
    if (r == 0 && jwk.len < 2)
        r = err_set(e, ERR_INTERNAL, "bundle-key", "empty JWK");
    if (r == 0)
        buf_put(out, jwk.p, jwk.len - 1);
    buf_free(&jwk);
    return r;
}

static int root_write(struct buf *out, struct bytes root, struct err *e)
{
    struct key *k = root_key(root, e);
    int r = k ? key_write(out, k, e) : -1;
    key_free(k);
    if (r < 0)
        return -1;
    buf_str(out, ",\"use\":\"x509-svid\",\"x5c\":[\"");
    buf_b64(out, root.p, root.len);
    buf_str(out, "\"]}");
    return 0;
}

static int jwt_key_write(struct buf *out, struct bytes spki, struct err *e)
{
    char kid[44];
    struct key *k = key_from_spki(spki.p, spki.len, e);
    buf_u8(out, ',');
    int r = !k || key_write(out, k, e) < 0 || jwk_thumbprint(kid, k, e) < 0 ? -1 : 0;
    if (r == 0)
        buf_fmt(out, ",\"use\":\"jwt-svid\",\"alg\":\"%s\",\"kid\":\"%s\"}", jws_alg(k), kid);
    key_free(k);
    return r;
}

/* Of two bundles the one that came later has the higher number. A JWT key's record is younger than the root;
 * init, which writes a bundle before that record is there, goes one beyond the root alone. */
static int64_t sequence_of(const struct bundle *b)
{
    if (b->jwt_key.len == 0)
        return b->root_from;
    return b->jwt_since > b->root_from ? b->jwt_since : b->root_from + 1;
}

int bundle_write(struct buf *out, const struct bundle *b, struct err *e)
{
    buf_str(out, "{\"keys\":[");
    if (root_write(out, b->root, e) < 0 || (b->jwt_key.len > 0 && jwt_key_write(out, b->jwt_key, e) < 0))
        return -1;
    buf_fmt(out, "],\"spiffe_sequence\":%lld,\"spiffe_refresh_hint\":%d,\"mayfly_log\":", (long long)sequence_of(b),
            REFRESH_HINT);
    jw_strn(out, (const char *)b->vkey.p, b->vkey.len);
    buf_str(out, "}\n");
    if (out->failed)
        return err_set(e, ERR_TOO_LARGE, "bundle-size", "the bundle does not fit its buffer");
    return 0;
}

int bundle_add_crls(struct buf *out, const char *external_url, unsigned shards, struct err *e)
{
    if (out->failed || out->len < 2 || memcmp(out->p + out->len - 2, "}\n", 2) != 0)
        return err_set(e, ERR_INTERNAL, "bundle-size", "there is no bundle to add to");
    char base[CRL_URL_MAX];
    int n = snprintf(base, sizeof base, "%s/crl/", external_url);
    if (n < 0 || (size_t)n >= sizeof base)
        return err_set(e, ERR_CONFIG, "external-url", "external_url is too long");
    out->len -= 2;
    buf_str(out, ",\"mayfly_crl\":{\"base\":");
    jw_str(out, base);
    buf_fmt(out, ",\"shards\":%u}}\n", shards);
    return out->failed ? err_set(e, ERR_TOO_LARGE, "bundle-size", "the bundle does not fit its buffer") : 0;
}
