/* One pass over the published files: every bundle against its leaf hashes, every tile against the
 * ones below, each entry's form. Memory does not grow with the log. */
#include "base/fileio.h"
#include "tlog/internal.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct walk {
    const struct tlog_walk_options *o;
    struct tlog_edge edge;
    struct tlog_hash tile[TLOG_TILE];
    struct bytes entries[TLOG_TILE];
    struct buf bundle;
};

static int entry_check(uint64_t index, struct bytes entry, struct err *e)
{
    struct tlog_entry t;
    struct tlog_ext_info x;
    struct tlog_cert_fields f;
    if (tlog_entry_parse(&t, entry.p, entry.len, e) < 0 ||
        tlog_entry_extensions(&x, t.extensions, e) < 0 ||
        (t.type == TLOG_ENTRY_TBS_CERT && tlog_entry_cert_fields(&f, t.body, e) < 0) ||
        (index == 0 && t.type != TLOG_ENTRY_NULL &&
         err_set(e, ERR_MALFORMED, "entry-format", "entry 0 is not the null entry"))) {
        e->code = ERR_CORRUPT;
        return err_wrap(e, "entry %llu", (unsigned long long)index);
    }
    return 0;
}

static int tile_differs(struct err *e, const struct walk *w, unsigned level, uint64_t n,
                        unsigned width, const char *what)
{
    char path[TLOG_PATH_CAP];
    if (tlog_tile_path(path, w->o->dir, (int)level, n, width, e) < 0)
        return -1;
    return err_set(e, ERR_CORRUPT, "log-bitflip",
                   "%s does not agree with %s: one of them is damaged; restore both from a copy of "
                   "the log",
                   path, what);
}

/* Levels above 0 follow from what has been read; their files must say the same. */
static int tile_compare(void *arg, unsigned level, uint64_t n, const struct tlog_hash *tile,
                        unsigned width, struct err *e)
{
    struct walk *w = arg;
    struct tlog_hash file[TLOG_TILE];
    if (tlog_tile_read(file, w->o->dir, level, n, width, e) < 0)
        return -1;
    if (memcmp(file, tile, width * sizeof *file) != 0)
        return tile_differs(e, w, level, n, width, "the tiles below it");
    return 0;
}

static int full_compare(void *arg, unsigned level, uint64_t n, const struct tlog_hash *tile,
                        struct err *e)
{
    return level == 0 ? 0 : tile_compare(arg, level, n, tile, TLOG_TILE, e);
}

static int bundle_walk(struct walk *w, uint64_t n, unsigned width, struct err *e)
{
    if (tlog_tile_read(w->tile, w->o->dir, 0, n, width, e) < 0 ||
        tlog_bundle_read(&w->bundle, w->entries, w->o->dir, n, width, e) < 0)
        return -1;
    for (unsigned i = 0; i < width; i++) {
        struct tlog_hash leaf;
        merkle_leaf(&leaf, w->entries[i].p, w->entries[i].len);
        if (memcmp(&leaf, &w->tile[i], sizeof leaf) != 0)
            return tile_differs(e, w, 0, n, width, "its entry bundle");
        if (entry_check(n * TLOG_TILE + i, w->entries[i], e) < 0 ||
            tlog_edge_push(&w->edge, &leaf, full_compare, w, e) < 0)
            return -1;
    }
    if (w->o->progress)
        w->o->progress(w->o->arg, w->edge.size, w->o->size);
    return 0;
}

static int walk_all(struct walk *w, struct err *e)
{
    uint64_t full = w->o->size / TLOG_TILE;
    for (uint64_t n = 0; n < full; n++)
        if (bundle_walk(w, n, TLOG_TILE, e) < 0)
            return -1;
    unsigned rest = tlog_edge_width(w->o->size, 0);
    if (rest > 0 && bundle_walk(w, full, rest, e) < 0)
        return -1;
    /* At a size that is a multiple of 256 and is not published (start-up's check), partial tiles of
     * the levels above need not exist: o->edge_too is false then. */
    for (unsigned l = 1; w->o->edge_too && l < TLOG_TILE_LEVELS; l++) {
        unsigned width = tlog_edge_width(w->o->size, l);
        if (width > 0 &&
            tile_compare(w, l, tlog_edge_index(w->o->size, l), w->edge.tile[l], width, e) < 0)
            return -1;
    }
    return 0;
}

int tlog_walk(const struct tlog_walk_options *o, struct tlog_hash *root, struct err *e)
{
    struct walk *w = calloc(1, sizeof *w);
    if (!w)
        return err_set(e, ERR_INTERNAL, "log-memory", "out of memory");
    w->o = o;
    buf_init(&w->bundle, TLOG_BUNDLE_MAX + 1);
    int ret = walk_all(w, e);
    if (ret == 0)
        tlog_edge_root(&w->edge, root);
    buf_free(&w->bundle);
    free(w);
    return ret;
}

int tlog_published_read(const char *dir, const struct tlog_vkey *k, struct buf *note,
                        struct tlog_checkpoint *c, struct err *e)
{
    char path[TLOG_PATH_CAP];
    if (snprintf(path, sizeof path, "%s/checkpoint", dir) >= TLOG_PATH_CAP)
        return err_set(e, ERR_CONFIG, "log-path", "the log folder's path is too long");
    struct buf file;
    buf_init(&file, TLOG_NOTE_MAX + 1);
    int ret = file_read(&file, path, TLOG_NOTE_MAX, e);
    if (ret < 0 && e->code == ERR_NOT_FOUND)
        err_set(e, ERR_CORRUPT, "log-missing",
                "%s is missing: is this a log's folder? If so, restore the file from a copy (an "
                "older one will do)",
                path);
    if (ret == 0)
        ret = tlog_checkpoint_open(c, file.p, file.len, k, e);
    if (ret == 0)
        buf_put(note, file.p, file.len);
    buf_free(&file);
    return ret;
}

int tlog_verify_dir(const char *dir, const struct tlog_vkey *k, struct tlog_verify_report *r,
                    void (*progress)(void *arg, uint64_t done, uint64_t total), void *arg,
                    struct err *e)
{
    struct tlog_hash root;
    struct buf note;
    memset(r, 0, sizeof *r);
    buf_init(&note, TLOG_NOTE_MAX);
    int ret = tlog_published_read(dir, k, &note, &r->checkpoint, e);
    buf_free(&note);
    if (ret < 0)
        return -1;
    struct tlog_walk_options o = {
        .dir = dir, .size = r->checkpoint.size, .edge_too = true, .progress = progress, .arg = arg};
    if (tlog_walk(&o, &root, e) < 0)
        return -1;
    if (memcmp(&root, &r->checkpoint.root, sizeof root) != 0)
        return err_set(e, ERR_CORRUPT, "log-root",
                       "the tiles agree with each other, but their root is not the one that the "
                       "checkpoint of size %llu signs: the log was rewritten; keep this copy as "
                       "evidence",
                       (unsigned long long)r->checkpoint.size);
    r->size = r->entries_checked = r->checkpoint.size;
    return 0;
}
