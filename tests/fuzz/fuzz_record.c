/* A record entry from outside: read strictly, and written again to the same bytes. */
#include "tlog/record.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct tlog_entry t;
    struct tlog_record_info r;
    struct err e;
    if (tlog_entry_parse(&t, data, len, &e) < 0 || tlog_record_parse(&r, t.type, t.body, &e) < 0)
        return 0;
    struct buf b;
    buf_init(&b, TLOG_RECORD_MAX);
    if (!tlog_record_code(r.type, r.code) || tlog_record_write(&r, &b, &e) < 0 || b.len != t.body.len ||
        memcmp(b.p, t.body.p, b.len) != 0)
        abort(); /* a record has one form */
    buf_free(&b);
    return 0;
}
