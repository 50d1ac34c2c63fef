/* A query of the audit search, decoded and parsed; then a cursor for it, which must be taken back;
 * then, as an entry of the log, decoded and written in every format. */
#include "audit/write.h"
#include "base/json.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void cursor_returns(const struct audit_filter *f)
{
    static struct audit_filter back;
    struct err e;
    char cursor[AUDIT_CURSOR_LEN + 1];
    back = *f;
    back.seen = 0;
    audit_cursor_write(cursor, f, 12345);
    if (audit_filter_set(&back, "cursor", cursor, strlen(cursor), &e) < 0 || audit_filter_check(&back, &e) < 0 ||
        back.after != 12345)
        abort();
}

static void entry(const uint8_t *data, size_t size)
{
    static struct audit_entry t;
    struct buf out;
    struct err e;
    audit_entry_decode(&t, size, (struct bytes){data, size});
    for (int format = AUDIT_JSON; format <= AUDIT_CSV; format++) {
        struct audit_writer w = {.out = &out, .format = (enum audit_format)format, .log_number = 1};
        buf_init(&out, 1 << 22);
        audit_write_entry(&w, &(struct audit_found){&t, NULL, 0});
        if (!buf_cstr(&out))
            abort();
        json_t *doc = format == AUDIT_CSV ? NULL : json_parse(out.p, out.len, out.len, &e);
        if (format != AUDIT_CSV && !doc)
            abort();
        json_decref(doc);
        buf_free(&out);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct audit_filter f;
    struct err e;
    char *query = malloc(size + 1);
    if (!query)
        return 0;
    memcpy(query, data, size);
    query[size] = 0;
    if (audit_query_parse(&f, query, size, &e) == 0) {
        if (f.limit < 1 || f.limit > AUDIT_LIMIT_MAX || f.from > f.to)
            abort();
        cursor_returns(&f);
    }
    free(query);
    entry(data, size < 65535 ? size : 65535);
    return 0;
}
