#include "workload/scratch.h"
#include "workload/grpc.h"
#include "workload/limits.h"
#include <protobuf-c/protobuf-c.h>
#include <string.h>

#define FIRST_SIZE 16368 /* with secmem's rounding four pages */

void *scratch_take(struct scratch *s, size_t n)
{
    n = (n + 15) / 16 * 16;
    if (s->full || n > s->mem.cap - s->used) {
        s->full = true;
        return NULL;
    }
    void *p = s->mem.p + s->used;
    s->used += n;
    memset(p, 0, n);
    return p;
}

int scratch_pack(struct scratch *s, const struct ProtobufCMessage *m)
{
    if (s->full)
        return -1;
    size_t n = protobuf_c_message_get_packed_size(m);
    uint8_t *p = scratch_take(s, GRPC_PREFIX + n);
    if (!p)
        return -1;
    grpc_prefix(p, n);
    protobuf_c_message_pack(m, p + GRPC_PREFIX);
    s->out = (struct bytes){p, GRPC_PREFIX + n};
    return 0;
}

void scratch_wipe(struct scratch *s)
{
    if (s->mem.p)
        secret_wipe(s->mem.p, s->used);
    s->used = 0;
    s->full = false;
    s->out = (struct bytes){0};
    s->owner = NULL;
    if (s->mem.cap > LIMIT_SCRATCH_KEPT)
        secret_free(&s->mem);
}

void scratch_free(struct scratch *s)
{
    scratch_wipe(s);
    secret_free(&s->mem);
}

int scratch_make(struct scratch *s, scratch_encoder *encode, const void *arg, struct err *e)
{
    size_t cap = s->mem.cap ? s->mem.cap : FIRST_SIZE;
    for (;;) {
        size_t have = s->mem.cap;
        if (have)
            secret_wipe(s->mem.p, s->used);
        s->used = 0;
        s->full = false;
        s->out = (struct bytes){0};
        s->owner = NULL;
        if (have < cap) {
            secret_free(&s->mem);
            if (secret_new(&s->mem, cap, e) < 0)
                return -1;
        }
        if (encode(s, arg) == 0)
            return 0;
        if (!s->full)
            return err_set(e, ERR_INTERNAL, "response",
                           "what was to be sent is not in the form it should have");
        if (cap >= LIMIT_RESPONSE)
            return err_set(e, ERR_TOO_LARGE, "response-size", "the answer does not fit into %u bytes",
                           (unsigned)LIMIT_RESPONSE);
        cap = cap * 2 > LIMIT_RESPONSE ? LIMIT_RESPONSE : cap * 2;
    }
}
