/* SubjectPublicKeyInfo read strictly, with our own reader: what comes out is one of the accepted
 * types, of an accepted size. Whether an EC point lies on its curve is for who makes the key of it
 * (key.c). For the key files and for who only passes keys on (ca/profile.c). Rules: "key-type", "key-size", "key-point", "key-weak".
 */
#ifndef BASE_KEY_SPKI_H
#define BASE_KEY_SPKI_H
#include "base/key.h"

#define RSA_MIN_BITS 2048
#define RSA_MAX_BITS 4096

struct spki { /* views into the DER */
    enum key_type type;
    struct bytes point; /* EC: 04 x y. Ed25519: the 32 bytes */
    struct bytes n, e;  /* RSA */
    struct bytes algorithm; /* AlgorithmIdentifier, the whole element */
    struct bytes bits;      /* what the BIT STRING holds */
};
int spki_read(struct spki *s, const uint8_t *der, size_t len, struct err *e);
#endif
