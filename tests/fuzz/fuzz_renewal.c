/* The name of a certificate as a renewal asks for it (RFC 9773 section 4.1): what is taken is written the same way
 * again. */
#include "api/renewal.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct renewal_id id;
    struct err e = {0};
    char again[RENEWAL_ID_MAX + 1];
    uint8_t serial[9] = {0};
    int rc = renewal_id_parse(&id, (const char *)data, len, &e);
    if ((rc == 0) != (e.code == ERR_NONE) || (rc == 0 && (id.aki_len == 0 || id.aki_len > sizeof id.aki)))
        abort();
    if (rc < 0 || id.serial == 0)
        return 0;
    for (int i = 0; i < 8; i++)
        serial[1 + i] = (uint8_t)(id.serial >> (56 - 8 * i));
    size_t skip = 0;
    while (skip < 8 && serial[skip] == 0 && !(serial[skip + 1] & 0x80))
        skip++;
    size_t n = b64url_encode(again, id.aki, id.aki_len);
    again[n++] = '.';
    n += b64url_encode(again + n, serial + skip, sizeof serial - skip);
    if (n != len || memcmp(again, data, len) != 0)
        abort();
    return 0;
}
