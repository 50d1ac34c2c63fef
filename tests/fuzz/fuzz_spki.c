/* Public keys: what we accept, OpenSSL's decoder accepts whole, and it is kept byte by byte. */
#include "base/key.h"
#include <openssl/err.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct err e;
    struct key *k = key_from_spki(data, len, &e);
    if (!k) {
        if (e.code != ERR_BAD_KEY)
            abort();
        return 0;
    }
    const unsigned char *p = data;
    EVP_PKEY *theirs = d2i_PUBKEY(NULL, &p, (long)len);
    if (!theirs || p != data + len || EVP_PKEY_eq(theirs, key_evp(k)) != 1 ||
        !bytes_eq(key_spki(k), data, len))
        abort();
    EVP_PKEY_free(theirs);
    if (key_verify(k, len & 1, data, len < 64 ? len : 64, data, len, &e) == 0)
        abort();
    key_free(k);
    ERR_clear_error();
    return 0;
}
