/* A request body as the frontend meets it. What parses keeps its promises to api/. */
#include "base/jose.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct jws j;
    struct err e;
    if (jws_parse(&j, (const char *)data, len, &e) < 0) {
        if (e.code == ERR_NONE || !e.rule[0] || !e.msg[0])
            abort();
        return 0;
    }
    if (!j.kid == !j.jwk || !j.url || !*j.url || j.sig_len == 0 || j.sig_len > sizeof j.sig ||
        !memchr(j.signing_input, '.', j.signing_len) || (j.payload_empty && j.payload.len))
        abort();
    if (j.jwk) {
        if (strlen(j.thumbprint) != 43)
            abort();
        (void)jws_verify(&j, j.jwk, &e);
    }
    jws_free(&j);
    return 0;
}
