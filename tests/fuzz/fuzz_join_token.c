/* The join token's text: what parses is what would be written. */
#include "attest/attest.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    uint8_t secret[32], anchor[32];
    char text[JOIN_TOKEN_TEXT + 1];
    struct err e = {0};
    if (join_token_parse((const char *)data, len, secret, anchor, &e) < 0)
        return 0;
    join_token_write(text, secret, anchor);
    if (len != JOIN_TOKEN_TEXT || memcmp(text, data, len) != 0)
        abort();
    return 0;
}
