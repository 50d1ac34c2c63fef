/* SHA-256 through libcrypto's direct functions. They are marked deprecated in favour of EVP, but
 * they neither fail nor allocate, so that hashing a tree has no error path, and a node costs half
 * of what an EVP context reset costs. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "tlog/internal.h"
#include <openssl/sha.h>

void tlog_sha256(uint8_t out[TLOG_HASH], const void *p, size_t len)
{
    SHA256_CTX c;
    SHA256_Init(&c);
    SHA256_Update(&c, p, len);
    SHA256_Final(out, &c);
}

void merkle_leaf(struct tlog_hash *out, const void *entry, size_t len)
{
    SHA256_CTX c;
    SHA256_Init(&c);
    SHA256_Update(&c, "\x00", 1);
    SHA256_Update(&c, entry, len);
    SHA256_Final(out->b, &c);
}

void merkle_node(struct tlog_hash *out, const struct tlog_hash *l, const struct tlog_hash *r)
{
    SHA256_CTX c;
    SHA256_Init(&c);
    SHA256_Update(&c, "\x01", 1);
    SHA256_Update(&c, l->b, TLOG_HASH);
    SHA256_Update(&c, r->b, TLOG_HASH);
    SHA256_Final(out->b, &c);
}

void merkle_empty(struct tlog_hash *out)
{
    tlog_sha256(out->b, "", 0);
}
