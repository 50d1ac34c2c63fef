/* The right edge of the tiled tree. */
#include "tlog/internal.h"
#include <string.h>

unsigned tlog_edge_width(uint64_t size, unsigned level)
{
    return (unsigned)(size >> 8 * level & 0xff);
}

uint64_t tlog_edge_index(uint64_t size, unsigned level)
{
    return level + 1 < TLOG_TILE_LEVELS ? size >> 8 * (level + 1) : 0;
}

/* RFC 9162 section 2.1.1 splits at the largest power of two below n; pairing neighbours level by
 * level, an odd last one passing up, comes to the same tree. */
void tlog_fold(struct tlog_hash *nodes, size_t n, struct tlog_hash *root)
{
    while (n > 1) {
        size_t half = 0;
        for (size_t i = 0; i + 1 < n; i += 2)
            merkle_node(&nodes[half++], &nodes[i], &nodes[i + 1]);
        if (n & 1)
            nodes[half++] = nodes[n - 1];
        n = half;
    }
    *root = nodes[0];
}

void tlog_tile_root(const struct tlog_hash *tile, size_t width, struct tlog_hash *root)
{
    struct tlog_hash nodes[TLOG_TILE];
    memcpy(nodes, tile, width * sizeof nodes[0]);
    tlog_fold(nodes, width, root);
}

/* From `level` on, each tile that has just become full is told of and becomes a node above. */
static int carry(struct tlog_edge *g, unsigned level, tlog_tile_cb *full, void *arg, struct err *e)
{
    for (unsigned l = level; l + 1 < TLOG_TILE_LEVELS && tlog_edge_width(g->size, l) == 0; l++) {
        uint64_t n = tlog_edge_index(g->size, l) - 1;
        if (full(arg, l, n, g->tile[l], e) < 0)
            return -1;
        tlog_tile_root(g->tile[l], TLOG_TILE, &g->tile[l + 1][n & 0xff]);
    }
    return 0;
}

int tlog_edge_push(struct tlog_edge *g, const struct tlog_hash *leaf, tlog_tile_cb *full, void *arg,
                   struct err *e)
{
    g->tile[0][tlog_edge_width(g->size, 0)] = *leaf;
    g->size++;
    return carry(g, 0, full, arg, e);
}

int tlog_edge_push_tile(struct tlog_edge *g, const struct tlog_hash *root, tlog_tile_cb *full,
                        void *arg, struct err *e)
{
    g->tile[1][tlog_edge_width(g->size, 1)] = *root;
    g->size += TLOG_TILE;
    return carry(g, 1, full, arg, e);
}

void tlog_edge_root(const struct tlog_edge *g, struct tlog_hash *root)
{
    struct tlog_hash nodes[TLOG_TILE];
    size_t n = 0; /* 1 once there is a subtree from the levels below */
    for (unsigned l = 0; l < TLOG_TILE_LEVELS; l++) {
        unsigned w = tlog_edge_width(g->size, l);
        if (w == 0)
            continue;
        memcpy(nodes, g->tile[l], w * sizeof nodes[0]);
        if (n > 0)
            nodes[w] = *root;
        tlog_fold(nodes, w + n, root);
        n = 1;
    }
    if (n == 0)
        merkle_empty(root);
}

void tlog_edge_frontier(const struct tlog_edge *g, struct merkle_frontier *f)
{
    memset(f, 0, sizeof *f);
    f->size = g->size;
    for (unsigned l = 0; l < TLOG_TILE_LEVELS; l++) {
        unsigned w = tlog_edge_width(g->size, l), at = 0;
        for (unsigned bit = 8; bit-- > 0;) {
            if (!(w >> bit & 1))
                continue;
            tlog_tile_root(&g->tile[l][at], (size_t)1 << bit, &f->at[8 * l + bit]);
            at += 1u << bit;
        }
    }
}

/* Only full tiles are read: they are durable before the journal lets go of their entries, partial
 * ones need not be. Each node of level l is the root of a full tile of level l - 1. */
int tlog_edge_load(struct tlog_edge *g, const struct tlog_place *at, uint64_t size, struct err *e)
{
    struct tlog_hash tile[TLOG_TILE];
    memset(g, 0, sizeof *g);
    for (unsigned l = 1; l < TLOG_TILE_LEVELS; l++) {
        uint64_t base = tlog_edge_index(size, l) << 8;
        for (unsigned i = 0; i < tlog_edge_width(size, l); i++) {
            if (tlog_tile_read(tile, at, l - 1, base + i, TLOG_TILE, e) < 0)
                return -1;
            tlog_tile_root(tile, TLOG_TILE, &g->tile[l][i]);
        }
    }
    g->size = size;
    return 0;
}
