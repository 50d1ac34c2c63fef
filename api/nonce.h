/* Anti-replay nonces (RFC 8555 §6.5): each is good once.
 * A fixed table of slots, each one 64-bit number: a nonce names its slot and holds the number that
 * must be there. Making one overwrites the oldest slot, so the newest NONCE_SLOTS are good; using
 * one swaps the number for 0, so exactly one of several users wins. No locks; the memory never
 * grows. What a client loses when its nonce is overwritten is one retry (badNonce).
 */
#ifndef API_NONCE_H
#define API_NONCE_H
#include "base/err.h"

#define NONCE_SLOTS (1u << 17)
#define NONCE_LEN 16 /* base64url(u32 slot ‖ u64 random) */

struct nonce_table;
struct nonce_table *nonce_table_new(struct err *e);
void nonce_table_free(struct nonce_table *t);
void nonce_make(struct nonce_table *t, char out[NONCE_LEN + 1]);
/* ERR_BAD_NONCE, rule "nonce", when it was not given out by this table, is used, or too old. */
int nonce_use(struct nonce_table *t, const char *nonce, struct err *e);

#endif
