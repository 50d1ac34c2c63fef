/* A log entry from outside: parsed, its extensions and certificate body read, written again. */
#include "tlog/entry.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct tlog_entry t;
    struct tlog_ext_info x;
    struct tlog_cert_fields f;
    struct err e;
    if (tlog_entry_parse(&t, data, len, &e) < 0)
        return 0;
    tlog_entry_extensions(&x, t.extensions, &e);
    if (t.type == TLOG_ENTRY_TBS_CERT)
        tlog_entry_cert_fields(&f, t.body, &e);
    struct buf b;
    buf_init(&b, TLOG_ENTRY_MAX);
    tlog_entry_write(&t, &b);
    if (b.failed || b.len != len || memcmp(b.p, data, len) != 0)
        abort(); /* an entry has one form */
    buf_free(&b);
    return 0;
}
