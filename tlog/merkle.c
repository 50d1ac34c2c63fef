/* The tree's frontier, and verification of proofs (RFC 9162 §2.1.3.2, §2.1.4.2). */
#include "tlog/merkle.h"
#include <string.h>

void merkle_frontier_push(struct merkle_frontier *f, const struct tlog_hash *leaf)
{
    struct tlog_hash h = *leaf;
    unsigned l = 0;
    for (; f->size >> l & 1; l++)
        merkle_node(&h, &f->at[l], &h);
    f->at[l] = h;
    f->size++;
}

void merkle_frontier_root(const struct merkle_frontier *f, struct tlog_hash *root)
{
    bool some = false;
    for (unsigned l = 0; l < TLOG_LEVELS; l++) {
        if (!(f->size >> l & 1))
            continue;
        if (some)
            merkle_node(root, &f->at[l], root);
        else
            *root = f->at[l];
        some = true;
    }
    if (!some)
        merkle_empty(root);
}

static bool hash_eq(const struct tlog_hash *a, const struct tlog_hash *b)
{
    return memcmp(a->b, b->b, TLOG_HASH) == 0;
}

static int inclusion_fail(struct err *e, uint64_t index, uint64_t size, const char *why)
{
    return err_set(e, ERR_UNAUTHORIZED, "inclusion",
                   "inclusion proof of entry %llu in a tree of %llu does not verify: %s",
                   (unsigned long long)index, (unsigned long long)size, why);
}

int merkle_verify_inclusion(uint64_t index, uint64_t size, const struct tlog_hash *leaf,
                            const struct tlog_hash *proof, size_t n, const struct tlog_hash *root,
                            struct err *e)
{
    if (index >= size)
        return inclusion_fail(e, index, size, "the index is not in the tree");
    uint64_t fn = index, sn = size - 1;
    struct tlog_hash r = *leaf;
    for (size_t i = 0; i < n; i++) {
        if (sn == 0)
            return inclusion_fail(e, index, size, "too many hashes");
        if ((fn & 1) || fn == sn) {
            merkle_node(&r, &proof[i], &r);
            while (!(fn & 1) && fn != 0) {
                fn >>= 1;
                sn >>= 1;
            }
        } else {
            merkle_node(&r, &r, &proof[i]);
        }
        fn >>= 1;
        sn >>= 1;
    }
    if (sn != 0)
        return inclusion_fail(e, index, size, "too few hashes");
    if (!hash_eq(&r, root))
        return inclusion_fail(e, index, size, "it leads to another root");
    return 0;
}

static int consistency_fail(struct err *e, uint64_t a, uint64_t b, const char *why)
{
    return err_set(e, ERR_UNAUTHORIZED, "consistency",
                   "consistency proof from %llu to %llu does not verify: %s", (unsigned long long)a,
                   (unsigned long long)b, why);
}

/* 0 < size1 < size2. */
static int consistency_walk(uint64_t size1, uint64_t size2, const struct tlog_hash *root1,
                            const struct tlog_hash *root2, const struct tlog_hash *proof, size_t n,
                            struct err *e)
{
    /* When size1 is a power of two its root is the first hash, and is not sent. */
    bool given = (size1 & (size1 - 1)) == 0;
    if (n == 0)
        return consistency_fail(e, size1, size2, "it is empty");
    uint64_t fn = size1 - 1, sn = size2 - 1;
    while (fn & 1) {
        fn >>= 1;
        sn >>= 1;
    }
    struct tlog_hash fr = given ? *root1 : proof[0], sr = fr;
    for (size_t i = given ? 0 : 1; i < n; i++) {
        if (sn == 0)
            return consistency_fail(e, size1, size2, "too many hashes");
        if ((fn & 1) || fn == sn) {
            merkle_node(&fr, &proof[i], &fr);
            merkle_node(&sr, &proof[i], &sr);
            while (!(fn & 1) && fn != 0) {
                fn >>= 1;
                sn >>= 1;
            }
        } else {
            merkle_node(&sr, &sr, &proof[i]);
        }
        fn >>= 1;
        sn >>= 1;
    }
    if (sn != 0)
        return consistency_fail(e, size1, size2, "too few hashes");
    if (!hash_eq(&fr, root1))
        return consistency_fail(e, size1, size2, "it leads to another first root");
    if (!hash_eq(&sr, root2))
        return consistency_fail(e, size1, size2, "it leads to another second root");
    return 0;
}

int merkle_verify_consistency(uint64_t size1, uint64_t size2, const struct tlog_hash *root1,
                              const struct tlog_hash *root2, const struct tlog_hash *proof,
                              size_t n, struct err *e)
{
    if (size1 > size2)
        return consistency_fail(e, size1, size2, "the first tree is larger");
    if (size1 > 0 && size1 < size2)
        return consistency_walk(size1, size2, root1, root2, proof, n, e);
    if (n != 0)
        return consistency_fail(e, size1, size2, "hashes where none are needed");
    struct tlog_hash want = *root2;
    if (size1 == 0)
        merkle_empty(&want); /* the empty tree is consistent with every tree */
    if (!hash_eq(root1, &want) || (size2 == 0 && !hash_eq(root2, &want)))
        return consistency_fail(e, size1, size2, "the roots differ");
    return 0;
}
