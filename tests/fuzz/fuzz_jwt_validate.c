/* JWT-SVIDs that a workload asks about: any bytes. Nothing that the bundle's key did not sign is accepted. */
#include "agent/jwt_validate.h"
#include <stdlib.h>
#include <string.h>

/* RFC 7515 appendix A.3.1's key, whose token is in the corpus; that is no SVID either. */
static const char jwks[] =
    "{\"keys\":[{\"use\":\"jwt-svid\",\"kty\":\"EC\",\"kid\":\"k\",\"crv\":\"P-256\",\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\","
    "\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\"}]}";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct err e = {0};
    struct jwt_claims c;
    struct wl_bundle b = {.trust_domain = (char[]){"example.org"}};
    buf_init(&b.jwks, 4096);
    buf_str(&b.jwks, jwks);
    if (jwt_validate(&c, (const char *)data, len, &b, "a", 1900000000, &e) == 0 || e.code != ERR_UNAUTHORIZED || c.payload.p)
        abort();
    buf_free(&b.jwks);
    return 0;
}
