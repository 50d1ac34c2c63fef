/* Entries from the published files, with their inclusion proofs. */
#include "tlog/internal.h"
#include "tlog/reader.h"
#include <stdlib.h>
#include <string.h>

/* A hash tile with the complete nodes inside it: the levels one behind the other, leaves first. */
#define NODES (2 * TLOG_TILE - 2)
#define LEVEL_AT(down) ((size_t)2 * TLOG_TILE - (((size_t)2 * TLOG_TILE) >> (down)))

/* A proof needs at most two tiles a level: the one on the entry's path, the one at the edge. */
struct tlog_reader {
    struct tlog_place at;
    struct tlog_checkpoint head;
    struct buf note;
    struct reader_tile {
        bool have;
        uint64_t n;
        struct tlog_hash h[NODES];
    } tile[TLOG_TILE_LEVELS][2];
    bool have_bundle;
    uint64_t bundle_n;
    struct buf bundle;
    struct bytes entries[TLOG_TILE];
};

int tlog_reader_open_at(struct tlog_reader **out, const struct tlog_place *at, const struct tlog_vkey *k, struct err *e)
{
    *out = NULL;
    struct tlog_reader *r = calloc(1, sizeof *r);
    if (!r)
        return err_set(e, ERR_INTERNAL, "log-memory", "out of memory");
    r->at = *at;
    buf_init(&r->note, TLOG_NOTE_MAX + 1);
    buf_init(&r->bundle, TLOG_BUNDLE_MAX + 1);
    if (tlog_published_read(at->dir, k, &r->note, &r->head, e) < 0) {
        tlog_reader_close(r);
        return -1;
    }
    *out = r;
    return 0;
}

int tlog_reader_open(struct tlog_reader **out, const char *dir, const struct tlog_vkey *k, struct err *e)
{
    return tlog_reader_open_at(out, &(struct tlog_place){.dir = dir}, k, e);
}

void tlog_reader_close(struct tlog_reader *r)
{
    if (!r)
        return;
    buf_free(&r->note);
    buf_free(&r->bundle);
    free(r);
}

const struct tlog_checkpoint *tlog_reader_head(const struct tlog_reader *r)
{
    return &r->head;
}

struct bytes tlog_reader_note(const struct tlog_reader *r)
{
    return (struct bytes){r->note.p, r->note.len};
}

/* --- proofs ------------------------------------------------------------------------------------- */

static int tile_load(struct tlog_reader *r, struct reader_tile *t, unsigned level, uint64_t n, bool edge,
                     struct err *e)
{
    unsigned width = edge ? tlog_edge_width(r->head.size, level) : TLOG_TILE;
    t->have = false;
    if (tlog_tile_read(t->h, &r->at, level, n, width, e) < 0)
        return -1;
    for (unsigned down = 1; down < 8; down++) {
        const struct tlog_hash *below = &t->h[LEVEL_AT(down - 1)];
        for (size_t i = 0; i < width >> down; i++)
            merkle_node(&t->h[LEVEL_AT(down) + i], &below[2 * i], &below[2 * i + 1]);
    }
    t->have = true;
    t->n = n;
    return 0;
}

/* Complete node i of level l: inside one tile of the 256-ary level l / 8. */
static int node_read(struct tlog_reader *r, unsigned l, uint64_t i, struct tlog_hash *out, struct err *e)
{
    unsigned level = l / 8, down = l % 8;
    uint64_t n = i >> (8 - down);
    bool edge = n == tlog_edge_index(r->head.size, level);
    struct reader_tile *t = &r->tile[level][edge];
    if ((!t->have || t->n != n) && tile_load(r, t, level, n, edge, e) < 0)
        return -1;
    *out = t->h[LEVEL_AT(down) + (i & ((TLOG_TILE >> down) - 1))];
    return 0;
}

/* The same walk as merkle_batch_proof, over files. */
static int proof_read(struct tlog_reader *r, uint64_t index, struct tlog_hash path[TLOG_LEVELS],
                      size_t *n, struct err *e)
{
    struct tlog_hash right = {{0}}, left;
    bool behind = false; /* something stands behind the level's last complete node: `right` */
    *n = 0;
    for (unsigned l = 0; l < TLOG_LEVELS && (r->head.size - 1) >> l; l++) {
        uint64_t count = r->head.size >> l, sibling = index >> l ^ 1;
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

/* Root of the leaves [from, to), which a walk from the whole tree down has come to: from is a multiple
 * of the largest power of two that is not above their count. */
static int range_root(struct tlog_reader *r, uint64_t from, uint64_t to, struct tlog_hash *out, struct err *e)
{
    unsigned l = 63u - (unsigned)__builtin_clzll(to - from);
    uint64_t half = (uint64_t)1 << l;
    struct tlog_hash left;
    if (to - from == half)
        return node_read(r, l, from >> l, out, e);
    if (node_read(r, l, from >> l, &left, e) < 0 || range_root(r, from + half, to, out, e) < 0)
        return -1;
    merkle_node(out, &left, out);
    return 0;
}

/* RFC 6962 section 2.1.2's SUBPROOF, for the leaves [from, to) of which those before `old` were there;
 * its hashes come deepest first. `whole`: so far all went left, so the old tree is not named. */
static int sub_proof(struct tlog_reader *r, uint64_t from, uint64_t to, uint64_t old, bool whole,
                     struct tlog_hash *proof, size_t *count, struct err *e)
{
    if (old == to)
        return whole ? 0 : range_root(r, from, to, &proof[(*count)++], e);
    uint64_t middle = from + ((uint64_t)1 << (63u - (unsigned)__builtin_clzll(to - from - 1)));
    if (old <= middle)
        return sub_proof(r, from, middle, old, whole, proof, count, e) < 0
                   ? -1
                   : range_root(r, middle, to, &proof[(*count)++], e);
    return sub_proof(r, middle, to, old, false, proof, count, e) < 0
               ? -1
               : range_root(r, from, middle, &proof[(*count)++], e);
}

int tlog_reader_consistency(struct tlog_reader *r, uint64_t old, struct tlog_hash proof[TLOG_LEVELS],
                            size_t *count, struct err *e)
{
    *count = 0;
    if (old > r->head.size)
        return err_set(e, ERR_NOT_FOUND, "log-index", "the published log has %llu entries, fewer than %llu",
                       (unsigned long long)r->head.size, (unsigned long long)old);
    return old == 0 || old == r->head.size ? 0 : sub_proof(r, 0, r->head.size, old, true, proof, count, e);
}

/* --- entries ------------------------------------------------------------------------------------ */

static unsigned bundle_width(const struct tlog_reader *r, uint64_t n)
{
    return n == r->head.size / TLOG_TILE ? tlog_edge_width(r->head.size, 0) : TLOG_TILE;
}

int tlog_reader_bundle(struct tlog_reader *r, uint64_t n, const struct bytes **entries, unsigned *width,
                       struct err *e)
{
    *entries = r->entries;
    *width = bundle_width(r, n);
    if (n > r->head.size / TLOG_TILE || *width == 0)
        return err_set(e, ERR_NOT_FOUND, "log-index", "the published log has %llu entries, so there is no bundle %llu",
                       (unsigned long long)r->head.size, (unsigned long long)n);
    if (r->have_bundle && r->bundle_n == n)
        return 0;
    r->have_bundle = false;
    buf_reset(&r->bundle);
    if (tlog_bundle_read(&r->bundle, r->entries, &r->at, n, *width, e) < 0)
        return -1;
    r->have_bundle = true;
    r->bundle_n = n;
    return 0;
}

int tlog_reader_entry(struct tlog_reader *r, uint64_t index, struct bytes *entry,
                      struct tlog_hash path[TLOG_LEVELS], size_t *path_len, struct err *e)
{
    const struct bytes *entries;
    struct tlog_hash leaf;
    unsigned width;
    if (index >= r->head.size)
        return err_set(
            e, ERR_NOT_FOUND, "log-index",
            "the published log has %llu entries, so there is no entry %llu (a new one is "
            "published within a second)",
            (unsigned long long)r->head.size, (unsigned long long)index);
    if (tlog_reader_bundle(r, index / TLOG_TILE, &entries, &width, e) < 0 ||
        proof_read(r, index, path, path_len, e) < 0)
        return -1;
    *entry = entries[index % TLOG_TILE];
    merkle_leaf(&leaf, entry->p, entry->len);
    if (merkle_verify_inclusion(index, r->head.size, &leaf, path, *path_len, &r->head.root, e) < 0) {
        e->code = ERR_CORRUPT; /* not the asker's fault: our files do not fit together */
        return err_wrap(e, "the published files are damaged; run a full verification");
    }
    return 0;
}

int tlog_read_entry(const char *dir, const struct tlog_vkey *k, uint64_t index, struct buf *entry,
                    struct tlog_hash path[TLOG_LEVELS], size_t *path_len, struct buf *note,
                    struct err *e)
{
    struct tlog_reader *r;
    struct bytes found = {NULL, 0}, head;
    if (tlog_reader_open(&r, dir, k, e) < 0)
        return -1;
    head = tlog_reader_note(r);
    buf_put(note, head.p, head.len);
    int ret = tlog_reader_entry(r, index, &found, path, path_len, e);
    if (ret == 0) {
        buf_put(entry, found.p, found.len);
        if (entry->failed)
            ret = err_set(e, ERR_TOO_LARGE, "log-memory", "no room for entry %llu",
                          (unsigned long long)index);
    }
    tlog_reader_close(r);
    return ret;
}
