/* The token's URI: configuration, but the one text of this room that is parsed. */
#include "hsm/internal.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len > 4096)
        return 0;
    char *text = malloc(len + 1);
    if (!text)
        return 0;
    memcpy(text, data, len);
    text[len] = '\0';
    struct hsm_uri u;
    struct err e = {0};
    if (hsm_uri_parse(&u, text, &e) == 0) {
        struct hsm_token_id t = {.label = "mayfly", .manufacturer = u.manufacturer, .model = NULL,
                                 .serial = "1", .slot_id = 7};
        (void)hsm_uri_match(&u, &t);
        if (strlen(u.token) >= sizeof(u.token) || strlen(u.module_path) >= sizeof(u.module_path))
            abort();
    } else if (e.code != ERR_CONFIG) {
        abort();
    }
    free(text);
    return 0;
}
