/* What gRPC adds to HTTP/2: length-prefixed messages, timeouts, escaped status messages
 * (grpc/doc/PROTOCOL-HTTP2.md). Compression is not offered.
 */
#ifndef WORKLOAD_GRPC_H
#define WORKLOAD_GRPC_H
#include "base/bytes.h"

#define GRPC_PREFIX 5 /* u8 compressed ‖ u32 length */

/* Puts messages together from whatever pieces they come in. */
struct grpc_in {
    struct buf msg;  /* what is there of the message; made as bytes come, never on a length's word */
    uint8_t prefix[GRPC_PREFIX];
    unsigned prefix_len;
    uint32_t want;   /* the message's length, once the prefix is whole */
};
enum grpc_fed {
    GRPC_MORE,       /* everything taken, no message whole */
    GRPC_MESSAGE,    /* one is whole in msg; feed the rest after grpc_in_next */
    GRPC_COMPRESSED, /* refused: the flag is set */
    GRPC_TOO_LARGE,  /* refused: over max, said the prefix */
    GRPC_MEMORY,
};
void grpc_in_init(struct grpc_in *in, size_t max);
/* Advances *p and *len past what was taken. */
enum grpc_fed grpc_in_feed(struct grpc_in *in, const uint8_t **p, size_t *len);
void grpc_in_next(struct grpc_in *in);  /* frees the message */
bool grpc_in_empty(const struct grpc_in *in); /* between messages */
void grpc_in_free(struct grpc_in *in);

void grpc_prefix(uint8_t dst[GRPC_PREFIX], size_t len);
/* "5S", "100m" … into milliseconds, at least 1. -1: not of that form. */
int64_t grpc_timeout_ms(const uint8_t *p, size_t len);
/* Percent-encoding of grpc-message: all but printable ASCII, and '%'. Cut at LIMIT_STATUS_MESSAGE. */
void grpc_escape(struct buf *out, const char *message);
/* What is no escape stands as it is. */
void grpc_unescape(char *dst, size_t cap, const uint8_t *p, size_t len);

#endif
