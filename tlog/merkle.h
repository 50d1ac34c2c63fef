/* RFC 6962 / RFC 9162 Merkle tree: hashes, proofs, verification. Pure computation.
 * A hash is SHA-256, 32 bytes. Sizes and indexes are uint64.
 */
#ifndef TLOG_MERKLE_H
#define TLOG_MERKLE_H
#include "base/bytes.h"
#include "base/err.h"

#define TLOG_HASH 32
#define TLOG_LEVELS 64

struct tlog_hash {
    uint8_t b[TLOG_HASH];
};
void merkle_leaf(struct tlog_hash *out, const void *entry, size_t len); /* SHA-256(00 ‖ entry) */
void merkle_node(struct tlog_hash *out, const struct tlog_hash *l, const struct tlog_hash *r);
void merkle_empty(struct tlog_hash *out);

/* Compact range [0,size): the roots of the complete subtrees, one per bit set in size. */
struct merkle_frontier {
    uint64_t size;
    struct tlog_hash at[TLOG_LEVELS]; /* at[l] is meaningful when bit l of size is set */
};
void merkle_frontier_root(const struct merkle_frontier *f, struct tlog_hash *root);
void merkle_frontier_push(struct merkle_frontier *f, const struct tlog_hash *leaf); /* one leaf */

/* A batch of leaves appended to a frontier, keeping the nodes that proofs of the new leaves need.
 * merkle_batch_append hashes nothing twice; merkle_batch_proof is a walk over kept nodes. */
struct merkle_batch;
struct merkle_batch *merkle_batch_new(size_t max_leaves); /* NULL: out of memory */
void merkle_batch_free(struct merkle_batch *b);
/* Computes f' = f + leaves; b keeps the nodes. f is advanced. n <= max_leaves. */
void merkle_batch_append(struct merkle_batch *b, struct merkle_frontier *f,
                         const struct tlog_hash *leaves, size_t n);
/* Root of the new size, already computed. */
void merkle_batch_root(const struct merkle_batch *b, struct tlog_hash *root);
/* Inclusion proof of leaf k (0-based in the batch) in the tree of the new size. Returns the count
 * of hashes (<= TLOG_LEVELS), leaf's sibling first. */
size_t merkle_batch_proof(const struct merkle_batch *b, size_t k, struct tlog_hash proof[TLOG_LEVELS]);

/* Verification (RFC 9162 §2.1.3.2, §2.1.4.2): 0, or -1 with ERR_UNAUTHORIZED, rule "inclusion" or
 * "consistency". */
int merkle_verify_inclusion(uint64_t index, uint64_t size, const struct tlog_hash *leaf,
                            const struct tlog_hash *proof, size_t n, const struct tlog_hash *root,
                            struct err *e);
int merkle_verify_consistency(uint64_t size1, uint64_t size2, const struct tlog_hash *root1,
                              const struct tlog_hash *root2, const struct tlog_hash *proof, size_t n,
                              struct err *e);
#endif
