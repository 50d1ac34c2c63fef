#include "ca/digest.h"
#include <string.h>

int digest_init(struct digest *d, struct err *e)
{
    d->md = EVP_MD_fetch(NULL, "SHA256", NULL);
    d->ctx = EVP_MD_CTX_new();
    if (d->md && d->ctx)
        return 0;
    digest_free(d);
    return err_set(e, ERR_INTERNAL, "digest", "OpenSSL offers no SHA-256; check its configuration");
}

void digest_free(struct digest *d)
{
    EVP_MD_CTX_free(d->ctx);
    EVP_MD_free(d->md);
    d->ctx = NULL;
    d->md = NULL;
}

int digest_sha256(struct digest *d, const void *p, size_t len, uint8_t out[DIGEST_SHA256])
{
    unsigned n = 0;
    if (EVP_DigestInit_ex2(d->ctx, d->md, NULL) != 1 || EVP_DigestUpdate(d->ctx, p, len) != 1 ||
        EVP_DigestFinal_ex(d->ctx, out, &n) != 1 || n != DIGEST_SHA256)
        return -1;
    return 0;
}

int digest_key_id(struct digest *d, const void *bits, size_t len, uint8_t out[KEY_ID_LEN])
{
    uint8_t hash[DIGEST_SHA256];
    if (digest_sha256(d, bits, len, hash) < 0)
        return -1;
    memcpy(out, hash, KEY_ID_LEN);
    return 0;
}
