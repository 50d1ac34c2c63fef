/* A frame from a process that may be taken; what parses is written back the same. */
#include "base/ipc.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct ipc_frame f;
    struct err e;
    struct buf b;
    if (ipc_frame_parse(&f, data, len, &e) < 0)
        return 0;
    buf_init(&b, IPC_FRAME_MAX);
    ipc_frame_begin(&b, f.type, f.id);
    buf_put(&b, f.body.p, f.body.len);
    if (b.failed || b.len != len || memcmp(b.p, data, len) != 0)
        abort();
    buf_free(&b);
    return 0;
}
