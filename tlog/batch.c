/* A batch of leaves on a frontier, and the proofs of its leaves.
 *
 * Level l keeps the complete nodes from old_size >> l on; when that index is odd, one more to the
 * left: the frontier's, its sibling. Each level is made of pairs of the one below, so nothing is
 * hashed twice. right[l] is the root of what stands behind the last complete node of level l, the
 * right-edge subtree that is not complete. A proof is then a walk: at each level the sibling is a
 * kept node, or the right edge, or there is none.
 */
#include "tlog/merkle.h"
#include <stdlib.h>

struct batch_level {
    uint64_t first; /* index of h[0] within the level */
    size_t n;
    struct tlog_hash *h;
};
struct merkle_batch {
    size_t max;
    uint64_t old_size, size;
    struct batch_level level[TLOG_LEVELS];
    struct tlog_hash right[TLOG_LEVELS + 1];
    struct tlog_hash store[]; /* level l has max / 2^l + 2 places */
};

struct merkle_batch *merkle_batch_new(size_t max_leaves)
{
    if (max_leaves == 0 || max_leaves > SIZE_MAX / TLOG_HASH / 4 - 2 * TLOG_LEVELS)
        return NULL;
    size_t places = 2 * max_leaves + 2 * TLOG_LEVELS;
    struct merkle_batch *b = calloc(1, sizeof *b + places * sizeof b->store[0]);
    if (!b)
        return NULL;
    b->max = max_leaves;
    struct tlog_hash *next = b->store;
    for (unsigned l = 0; l < TLOG_LEVELS; l++) {
        b->level[l].h = next;
        next += (l < 8 * sizeof max_leaves ? max_leaves >> l : 0) + 2;
    }
    return b;
}

void merkle_batch_free(struct merkle_batch *b)
{
    free(b);
}

/* The level's nodes that were there before: only the frontier's, and only when a right sibling
 * may come. */
static void level_begin(struct batch_level *v, const struct merkle_frontier *f, unsigned l)
{
    v->first = f->size >> l;
    v->n = 0;
    if (v->first & 1) {
        v->first--;
        v->h[v->n++] = f->at[l];
    }
}

/* Both levels' new nodes are children and parents from the same place on: below->first is even. */
static void level_build(const struct batch_level *below, struct batch_level *v)
{
    for (size_t i = 0; i + 1 < below->n; i += 2)
        merkle_node(&v->h[v->n++], &below->h[i], &below->h[i + 1]);
}

static bool right_exists(uint64_t size, unsigned l)
{
    return (size & (((uint64_t)1 << l) - 1)) != 0;
}

static const struct tlog_hash *node(const struct merkle_batch *b, unsigned l, uint64_t i)
{
    return &b->level[l].h[i - b->level[l].first];
}

void merkle_batch_append(struct merkle_batch *b, struct merkle_frontier *f,
                         const struct tlog_hash *leaves, size_t n)
{
    if (n > b->max)
        abort(); /* the caller's bug; nothing sane can follow */
    b->old_size = f->size;
    b->size = f->size + n;
    for (unsigned l = 0; l < TLOG_LEVELS; l++) {
        struct batch_level *v = &b->level[l];
        level_begin(v, f, l);
        if (l > 0)
            level_build(&b->level[l - 1], v);
        for (size_t i = 0; l == 0 && i < n; i++)
            v->h[v->n++] = leaves[i];
    }
    f->size = b->size;
    for (unsigned l = 0; l < TLOG_LEVELS; l++) {
        bool last_left = b->size >> l & 1; /* the last complete node is a left child */
        if (last_left)
            f->at[l] = *node(b, l, (b->size >> l) - 1);
        if (!last_left)
            b->right[l + 1] = b->right[l];
        else if (right_exists(b->size, l))
            merkle_node(&b->right[l + 1], &f->at[l], &b->right[l]);
        else
            b->right[l + 1] = f->at[l];
    }
}

void merkle_batch_root(const struct merkle_batch *b, struct tlog_hash *root)
{
    if (b->size == 0)
        merkle_empty(root);
    else
        *root = b->right[TLOG_LEVELS];
}

size_t merkle_batch_proof(const struct merkle_batch *b, size_t k,
                          struct tlog_hash proof[TLOG_LEVELS])
{
    uint64_t m = b->old_size + k;
    size_t n = 0;
    for (unsigned l = 0; l < TLOG_LEVELS && (b->size - 1) >> l; l++) {
        uint64_t sibling = m >> l ^ 1;
        if (sibling < b->size >> l)
            proof[n++] = *node(b, l, sibling);
        else if (sibling == b->size >> l && right_exists(b->size, l))
            proof[n++] = b->right[l];
    }
    return n;
}
