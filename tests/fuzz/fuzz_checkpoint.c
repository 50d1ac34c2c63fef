/* A checkpoint and a verifier key from outside. */
#include "tlog/checkpoint.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct tlog_vkey k;
    static const char golang[] =
        "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8";
    struct tlog_vkey other;
    struct tlog_checkpoint c;
    struct err e;
    if (!k.evp && tlog_vkey_parse(&k, golang, strlen(golang), &e) < 0)
        abort();
    tlog_checkpoint_open(&c, data, len, &k, &e);
    if (tlog_vkey_parse(&other, (const char *)data, len, &e) == 0) {
        struct buf b;
        buf_init(&b, 1024);
        tlog_vkey_write(&other, &b);
        if (b.failed || b.len != len)
            abort();
        buf_free(&b);
        tlog_vkey_free(&other);
    }
    return 0;
}
