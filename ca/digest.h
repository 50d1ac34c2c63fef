/* SHA-256 on the hot path: the algorithm fetched once, the context reused. OpenSSL 3's one-shot
 * SHA256() fetches again on every call, which costs more than hashing a key does.
 * One object per thread. */
#ifndef CA_DIGEST_H
#define CA_DIGEST_H
#include "base/err.h"
#include <openssl/evp.h>
#include <stddef.h>
#include <stdint.h>

#define DIGEST_SHA256 32
#define KEY_ID_LEN 20

struct digest {
    EVP_MD *md;
    EVP_MD_CTX *ctx;
};
int digest_init(struct digest *d, struct err *e);
void digest_free(struct digest *d); /* safe on zeroed object */
int digest_sha256(struct digest *d, const void *p, size_t len, uint8_t out[DIGEST_SHA256]);
/* RFC 7093 section 2, method 1: the leftmost 160 bits of SHA-256 of the public key's bits. */
int digest_key_id(struct digest *d, const void *bits, size_t len, uint8_t out[KEY_ID_LEN]);
#endif
