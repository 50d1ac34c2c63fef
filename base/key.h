/* Public keys as they come from outside (SubjectPublicKeyInfo or JWK), and signatures over bytes.
 * Accepted: EC P-256 and P-384 (uncompressed points, on the curve), RSA 2048 to 4096 bits with
 * odd public exponent from 65537 to 2^32, Ed25519. Everything else is ERR_BAD_KEY, rule "key-type"
 * or "key-size" or "key-point", or "key-weak" (RSA keys of a known flawed generator).
 * Private keys here are session and workload keys of agents, made and held in memory; the
 * authority's keys live in hsm/ and never pass here.
 */
#ifndef BASE_KEY_H
#define BASE_KEY_H
#include "base/bytes.h"
#include "base/err.h"
#include "base/secmem.h"
#include <openssl/evp.h>

enum key_type { KEY_P256 = 1, KEY_P384, KEY_RSA, KEY_ED25519 };

struct key;                                 /* opaque; immutable once made, so threads may share it */
/* Fetches algorithms and templates once: call before the jail and the first thread, to learn early
 * what is missing. The others call it themselves. */
int key_setup(struct err *e);
struct key *key_from_spki(const uint8_t *der, size_t len, struct err *e);
/* For a key that is needed for one verification, as each certificate request brings one: a P-256
 * point is set into a key that the calling thread keeps, at a third of the cost of making one. The
 * result is the thread's until key_once_done, which must follow on the same thread; one at a time. */
struct key *key_once(const uint8_t *der, size_t len, struct err *e);
void key_once_done(struct key *k);
struct key *key_from_evp(EVP_PKEY *pkey, struct err *e); /* its own reference: the caller keeps its own */
struct key *key_generate(enum key_type type, struct err *e);     /* RSA: 2048 bits */
/* An EC key whose private half is elsewhere, as in a token: rs gets r‖s over this digest. Thread safe as cb is. */
typedef int key_sign_cb(void *arg, const uint8_t *digest, size_t digest_len, uint8_t *rs, size_t rs_len,
                        struct err *e);
struct key *key_from_signer(const uint8_t *spki, size_t len, key_sign_cb *cb, void *arg, struct err *e);
void key_free(struct key *k);
enum key_type key_kind(const struct key *k);
struct bytes key_spki(const struct key *k); /* DER, owned by k */
EVP_PKEY *key_evp(const struct key *k);     /* borrowed */

/* Verifies sig over msg. ECDSA signatures are DER when `der`, else fixed-width r‖s (JOSE). Hash
 * follows the key: P-256 SHA-256, P-384 SHA-384, RSA PKCS#1 v1.5 with SHA-256. Returns 0, or -1
 * with ERR_UNAUTHORIZED, rule "signature". Thread safe. */
int key_verify(const struct key *k, bool der, const uint8_t *sig, size_t sig_len, const void *msg,
               size_t len, struct err *e);
/* Signs; returns length or -1. sig of at least 512 bytes. Needs the private half. */
long key_sign(const struct key *k, bool der, uint8_t *sig, size_t cap, const void *msg, size_t len,
              struct err *e);
int key_to_pkcs8_pem(const struct key *k, struct buf *out, struct err *e); /* secret: into an empty buf, that the caller wipes */
struct key *key_from_pkcs8_pem(const char *pem, size_t len, struct err *e);

/* PKCS#8 DER (RFC 5958) of a P-256 key, straight from and into locked memory; OpenSSL's own writer and reader
 * leave copies behind. Makes out. Reading takes exactly what is written here. Rule "key-der". */
int key_to_pkcs8_secret(const struct key *k, struct secret *out, struct err *e);
struct key *key_from_pkcs8_secret(const struct secret *s, struct err *e);
/* OpenSSL's secure heap, where private halves lie from then on; once, before the first key. Rule "secret-memory". */
int key_secure_heap(size_t bytes, struct err *e);

#endif
