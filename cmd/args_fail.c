/* Errors as the commands say them. Apart from args.c for mayfly-proxy, which writes no JSON. */
#include "base/bytes.h"
#include "base/json.h"
#include "cmd/args.h"
#include <stdio.h>

int args_fail(const char *command, bool json, const struct err *e)
{
    struct buf b;
    if (!json) {
        fprintf(stderr, "%s: %s\n", command, e->msg);
        return args_exit_code(e);
    }
    buf_init(&b, 8192);
    buf_str(&b, "{\"error\":");
    jw_str(&b, err_code_name(e->code));
    buf_str(&b, ",\"rule\":");
    jw_str(&b, e->rule);
    buf_str(&b, ",\"message\":");
    jw_str(&b, e->msg);
    buf_str(&b, "}");
    const char *text = buf_cstr(&b);
    fprintf(stderr, "%s\n", text ? text : "{\"error\":\"internal\"}");
    buf_free(&b);
    return args_exit_code(e);
}
