/* Where messages are made: locked memory, one message at a time, for all streams of a server.
 *
 * A stream that waits to send holds no bytes, only a reference to what it will send; the message is made here
 * when its socket and its flow-control window have room, and made again when they had room for a part only.
 * So private keys are never in the heap, slow readers cost nothing, and 500 streams share these pages.
 *
 * An encoder takes all it needs (arrays, protobuf-c's structs, PEM, the message) from the scratch. When that
 * is full, it is made larger and the encoder runs again, from nothing.
 */
#ifndef WORKLOAD_SCRATCH_H
#define WORKLOAD_SCRATCH_H
#include "base/bytes.h"
#include "base/secmem.h"

struct scratch {
    struct secret mem;
    size_t used;
    bool full;        /* something did not fit */
    struct bytes out; /* the message with its gRPC prefix, in mem */
    const void *owner; /* whose message out is; NULL: nobody's */
};
/* 0 when s->out is made; -1: the scratch was full (s->full), or the input is no good. */
typedef int scratch_encoder(struct scratch *s, const void *arg);
/* Rules "response-size", "response", "secret-memory". */
int scratch_make(struct scratch *s, scratch_encoder *encode, const void *arg, struct err *e);
void scratch_wipe(struct scratch *s); /* after each turn; memory is kept up to LIMIT_SCRATCH_KEPT */
void scratch_free(struct scratch *s);

void *scratch_take(struct scratch *s, size_t n); /* zeroed, aligned; NULL: full */
struct ProtobufCMessage;
/* Packs m as the result, with prefix. */
int scratch_pack(struct scratch *s, const struct ProtobufCMessage *m);

#endif
