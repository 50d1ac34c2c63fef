/* JSON Web Keys: what parses is written in canonical form, and that parses to the same key. */
#include "base/jose.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct err e;
    json_t *v = json_parse(data, len, 8192, &e);
    struct key *k = v ? jwk_parse(v, &e) : NULL;
    json_decref(v);
    if (!k)
        return 0;
    struct buf b;
    char thumb[44], again[44];
    buf_init(&b, 8192);
    if (jwk_write(&b, k, &e) < 0 || jwk_thumbprint(thumb, k, &e) < 0)
        abort();
    v = json_parse(b.p, b.len, 8192, &e);
    struct key *back = v ? jwk_parse(v, &e) : NULL;
    if (!back || !bytes_eq(key_spki(back), key_spki(k).p, key_spki(k).len) ||
        jwk_thumbprint(again, back, &e) < 0 || strcmp(thumb, again) != 0)
        abort();
    json_decref(v);
    key_free(back);
    key_free(k);
    buf_free(&b);
    return 0;
}
