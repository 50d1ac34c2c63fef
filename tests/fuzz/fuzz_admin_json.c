/* The documents of the admin socket. The first byte picks the parser. What is accepted is written
 * back and must be JSON again. */
#include "api/admin_json.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void entry(const uint8_t *json, size_t len)
{
    struct admin_entry a = {0};
    struct err e = {0};
    if (admin_entry_parse(&a, json, len, &e) == 0) {
        struct buf b;
        buf_init(&b, 1 << 20);
        admin_entry_write(&b, &a.entry);
        json_t *doc = json_parse(b.p, b.len, 1 << 20, &e);
        if (!doc || b.failed)
            abort();
        json_decref(doc);
        buf_free(&b);
    } else if (e.code == ERR_NONE) {
        abort();
    }
    admin_entry_free(&a);
}

static void revocation(const uint8_t *json, size_t len)
{
    struct admin_revocation a = {0};
    struct err e = {0};
    if (admin_revocation_parse(&a, json, len, &e) == 0) {
        struct buf b;
        const struct ra_revocation x = {.by = a.want.by, .value = a.want.value, .actor = "uid:0",
                                        .comment = a.want.comment ? a.want.comment : "", .reason = a.want.reason};
        buf_init(&b, 1 << 20);
        admin_revocation_write(&b, &x, true);
        json_t *doc = json_parse(b.p, b.len, 1 << 20, &e);
        if (!doc || b.failed)
            abort();
        json_decref(doc);
        buf_free(&b);
    } else if (e.code == ERR_NONE) {
        abort();
    }
    admin_revocation_free(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct err e = {0};
    if (len == 0)
        return 0;
    if (data[0] % 3 == 0) {
        entry(data + 1, len - 1);
        return 0;
    }
    if (data[0] % 3 == 2) {
        revocation(data + 1, len - 1);
        return 0;
    }
    struct admin_token t = {0};
    if (admin_token_parse(&t, data + 1, len - 1, &e) < 0 && e.code == ERR_NONE)
        abort();
    admin_token_free(&t);
    return 0;
}
