/* One entry from the published files, with its inclusion proof. */
#include "tlog/internal.h"
#include <stdlib.h>
#include <string.h>

/* A proof needs at most two tiles a level: the one on the entry's path, the one at the edge. */
struct reader {
    const char *dir;
    uint64_t size;
    struct reader_tile {
        bool have;
        uint64_t n;
        struct tlog_hash h[TLOG_TILE];
    } tile[TLOG_TILE_LEVELS][2];
};

/* Complete node i of level l: inside one tile of the 256-ary level l / 8. */
static int node_read(struct reader *r, unsigned l, uint64_t i, struct tlog_hash *out, struct err *e)
{
    unsigned level = l / 8, down = l % 8;
    uint64_t first = i << down, n = first >> 8;
    bool edge = n == tlog_edge_index(r->size, level);
    struct reader_tile *t = &r->tile[level][edge];
    if (!t->have || t->n != n) {
        unsigned width = edge ? tlog_edge_width(r->size, level) : TLOG_TILE;
        if (tlog_tile_read(t->h, r->dir, level, n, width, e) < 0)
            return -1;
        t->have = true;
        t->n = n;
    }
    tlog_tile_root(&t->h[first & 0xff], (size_t)1 << down, out);
    return 0;
}

/* The same walk as merkle_batch_proof, over files. */
static int proof_read(struct reader *r, uint64_t index, struct tlog_hash path[TLOG_LEVELS],
                      size_t *n, struct err *e)
{
    struct tlog_hash right = {{0}}, left;
    bool behind = false; /* something stands behind the level's last complete node: `right` */
    *n = 0;
    for (unsigned l = 0; l < TLOG_LEVELS && (r->size - 1) >> l; l++) {
        uint64_t count = r->size >> l, sibling = index >> l ^ 1;
        if (sibling < count && node_read(r, l, sibling, &path[(*n)++], e) < 0)
            return -1;
        if (sibling == count && behind)
            path[(*n)++] = right;
        if (!(count & 1))
            continue;
        if (node_read(r, l, count - 1, &left, e) < 0)
            return -1;
        if (behind)
            merkle_node(&right, &left, &right);
        else
            right = left;
        behind = true;
    }
    return 0;
}

static int entry_read(struct reader *r, uint64_t index, struct buf *entry, struct tlog_hash *leaf,
                      struct err *e)
{
    struct bytes entries[TLOG_TILE];
    struct buf b;
    uint64_t n = index / TLOG_TILE;
    unsigned at = (unsigned)(index % TLOG_TILE), width = TLOG_TILE;
    if (n == r->size / TLOG_TILE)
        width = tlog_edge_width(r->size, 0);
    buf_init(&b, TLOG_BUNDLE_MAX + 1);
    int ret = tlog_bundle_read(&b, entries, r->dir, n, width, e);
    if (ret == 0) {
        buf_put(entry, entries[at].p, entries[at].len);
        merkle_leaf(leaf, entries[at].p, entries[at].len);
        if (entry->failed)
            ret = err_set(e, ERR_TOO_LARGE, "log-memory", "no room for entry %llu",
                          (unsigned long long)index);
    }
    buf_free(&b);
    return ret;
}

int tlog_read_entry(const char *dir, const struct tlog_vkey *k, uint64_t index, struct buf *entry,
                    struct tlog_hash path[TLOG_LEVELS], size_t *path_len, struct buf *note,
                    struct err *e)
{
    struct tlog_checkpoint c;
    struct tlog_hash leaf;
    if (tlog_published_read(dir, k, note, &c, e) < 0)
        return -1;
    if (index >= c.size)
        return err_set(
            e, ERR_NOT_FOUND, "log-index",
            "the published log has %llu entries, so there is no entry %llu (a new one is "
            "published within a second)",
            (unsigned long long)c.size, (unsigned long long)index);
    struct reader *r = calloc(1, sizeof *r);
    if (!r)
        return err_set(e, ERR_INTERNAL, "log-memory", "out of memory");
    r->dir = dir;
    r->size = c.size;
    int ret = entry_read(r, index, entry, &leaf, e);
    if (ret == 0)
        ret = proof_read(r, index, path, path_len, e);
    free(r);
    if (ret == 0 &&
        merkle_verify_inclusion(index, c.size, &leaf, path, *path_len, &c.root, e) < 0) {
        e->code = ERR_CORRUPT; /* not the asker's fault: our files do not fit together */
        ret = err_wrap(e, "the published files are damaged; run a full verification");
    }
    return ret;
}
