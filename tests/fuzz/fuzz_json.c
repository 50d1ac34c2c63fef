/* Our JSON reader against jansson's own: what we accept, jansson accepts as the same tree; what
 * only jansson accepts is over a limit of ours, or has a NUL byte behind a number, which jansson
 * 2.14 lets pass. What jw_strn writes can be read back. */
#include "base/json.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX 65536

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check_writer(const uint8_t *data, size_t len)
{
    struct err e;
    struct buf b;
    buf_init(&b, 8 * MAX);
    buf_u8(&b, '[');
    jw_strn(&b, (const char *)data, len);
    buf_u8(&b, ']');
    json_t *v = json_parse(b.p, b.len, 8 * MAX, &e);
    if (!v)
        abort();
    json_decref(v);
    buf_free(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct err e;
    if (len == 0 || len > MAX)
        return 0;
    json_t *ours = json_parse(data, len, MAX, &e);
    json_t *theirs = json_loadb((const char *)data, len, JSON_REJECT_DUPLICATES, NULL);
    if (ours && (!theirs || !json_equal(ours, theirs)))
        abort();
    if (theirs && !ours && strcmp(e.rule, "json-depth") != 0 && !strstr(e.msg, "number too long") &&
        !memchr(data, 0, len))
        abort();
    json_decref(ours);
    json_decref(theirs);
    check_writer(data, len);
    return 0;
}
