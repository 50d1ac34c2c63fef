/* Protobuf's wire format, read. Values are views: nothing is copied, so that a private key in
 * locked memory stays there (protobuf-c's unpack would copy it to the heap), and a string with a NUL or
 * with what is not UTF-8 is refused instead of cut short.
 * Strict: numbers of more than ten bytes, tags and lengths of more than five, field number 0, groups and
 * lengths beyond the end are refused. Unknown fields are the caller's to skip: it gets every field, in order.
 */
#ifndef WORKLOAD_WIRE_H
#define WORKLOAD_WIRE_H
#include "base/bytes.h"

enum wire_type { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };
struct wire_field {
    uint32_t number;
    enum wire_type type;
    uint64_t value;     /* of numbers */
    struct bytes bytes; /* of WIRE_BYTES */
};
/* The next field. False at the end, or when c has failed. */
bool wire_next(struct cur *c, struct wire_field *f);
/* The field is bytes and a proper string: UTF-8 without NUL. */
bool wire_is_text(const struct wire_field *f);
/* All fields are well formed; what they mean is not looked at. */
bool wire_good(const void *p, size_t len);
/* The one thing that is written by hand: a client that needs no protobuf-c. Fields 1 to 15. */
void wire_put(struct buf *b, unsigned number, const void *p, size_t len);

#endif
