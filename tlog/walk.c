/* One pass over the published files: every bundle against its leaf hashes, every tile against the
 * ones below, each entry's form. Memory does not grow with the log.
 *
 * Threads: each takes the next bundle that nobody has, reads and hashes it (bundle_read), waits for
 * its turn, and adds it to the tree (bundle_take). The lock guards the numbers of the next bundle
 * and of the one whose turn it is; files are read without it, and whoever has the turn has the tree
 * to himself. Since turns come in order, the first failure that is told of is the one that stands
 * first in the log, whatever the number of threads. */
#include "base/fileio.h"
#include "tlog/internal.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define THREADS_MAX 256

struct walk {
    const struct tlog_walk_options *o;
    struct tlog_edge edge; /* of whoever has the turn */
    uint64_t begin, end;   /* entries to read: [begin, size); bundles up to end */
    pthread_mutex_t lock;
    pthread_cond_t turned;
    uint64_t next, turn; /* bundles */
    bool failed;
    struct err why;
};

struct reader { /* what a thread has to itself */
    struct walk *w;
    pthread_t thread;
    struct tlog_hash tile[TLOG_TILE], root;
    struct bytes entries[TLOG_TILE];
    struct buf bundle;
    void *notes;
};

/* --- an entry ----------------------------------------------------------------------------------- */

static int body_open(struct tlog_entry_parts *p, struct err *e)
{
    if (p->t.type == TLOG_ENTRY_TBS_CERT)
        return tlog_entry_cert_fields(&p->cert, p->t.body, e);
    if (!tlog_record_is(p->t.type))
        return 0; /* of a later version, or null */
    if (p->t.extensions.len > 0)
        return err_set(e, ERR_MALFORMED, "record-format", "a record carries no extensions");
    return tlog_record_parse(&p->record, p->t.type, p->t.body, e);
}

int tlog_entry_open(struct tlog_entry_parts *p, uint64_t index, struct bytes entry, struct err *e)
{
    if (tlog_entry_parse(&p->t, entry.p, entry.len, e) < 0 ||
        tlog_entry_extensions(&p->x, p->t.extensions, e) < 0 || body_open(p, e) < 0)
        return -1;
    if ((index == 0) != (p->t.type == TLOG_ENTRY_NULL))
        return err_set(e, ERR_MALFORMED, "entry-format",
                       index == 0 ? "entry 0 is not the null entry"
                                  : "a null entry, which entry 0 alone is");
    return 0;
}

static int forms_check(uint64_t first, const struct bytes *entries, unsigned n, struct err *e)
{
    struct tlog_entry_parts p;
    for (unsigned i = 0; i < n; i++)
        if (tlog_entry_open(&p, first + i, entries[i], e) < 0) {
            e->code = ERR_CORRUPT;
            return err_wrap(e, "entry %llu", (unsigned long long)(first + i));
        }
    return 0;
}

/* --- a bundle ----------------------------------------------------------------------------------- */

static int tile_differs(struct err *e, const struct walk *w, unsigned level, uint64_t n,
                        unsigned width, const char *what)
{
    char path[TLOG_PATH_CAP];
    if (tlog_tile_path(path, w->o->at->dir, (int)level, n, width, e) < 0)
        return -1;
    return err_set(e, ERR_CORRUPT, "log-bitflip",
                   "%s does not agree with %s: one of them is damaged; restore both from a copy of "
                   "the log",
                   path, what);
}

/* Levels above 0 follow from what has been read; their files must say the same. */
static int tile_compare(struct walk *w, unsigned level, uint64_t n, const struct tlog_hash *tile,
                        unsigned width, struct err *e)
{
    struct tlog_hash file[TLOG_TILE];
    if (tlog_tile_read(file, w->o->at, level, n, width, e) < 0)
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

static unsigned width_of(const struct walk *w, uint64_t n)
{
    return n < w->o->size / TLOG_TILE ? TLOG_TILE : tlog_edge_width(w->o->size, 0);
}

static int bundle_read(struct reader *r, uint64_t n, struct err *e)
{
    const struct tlog_walk_options *o = r->w->o;
    unsigned width = width_of(r->w, n);
    if (tlog_tile_read(r->tile, o->at, 0, n, width, e) < 0 ||
        tlog_bundle_read(&r->bundle, r->entries, o->at, n, width, e) < 0)
        return -1;
    for (unsigned i = 0; i < width; i++) {
        struct tlog_hash leaf;
        merkle_leaf(&leaf, r->entries[i].p, r->entries[i].len);
        if (memcmp(&leaf, &r->tile[i], sizeof leaf) != 0)
            return tile_differs(e, r->w, 0, n, width, "its entry bundle");
    }
    tlog_tile_root(r->tile, width, &r->root);
    return o->read ? o->read(o->arg, r->notes, n * TLOG_TILE, r->entries, width, e)
                   : forms_check(n * TLOG_TILE, r->entries, width, e);
}

/* A rewritten history shows where the known part ends. */
static int known_compare(const struct walk *w, struct err *e)
{
    const struct tlog_checkpoint *from = w->o->from;
    struct tlog_hash root;
    if (!from || from->size != w->edge.size)
        return 0;
    tlog_edge_root(&w->edge, &root);
    if (memcmp(&root, &from->root, sizeof root) == 0)
        return 0;
    return err_set(e, ERR_CORRUPT, "log-fork",
                   "the log's first %llu entries are not the ones under the head that was kept: "
                   "history was rewritten, and the log's key signed both. Keep this copy and that "
                   "head: together they are the proof",
                   (unsigned long long)from->size);
}

static int bundle_push(struct reader *r, uint64_t n, unsigned width, struct err *e)
{
    struct walk *w = r->w;
    bool known_ends = w->o->from && w->o->from->size > n * TLOG_TILE; /* in this bundle */
    if (width == TLOG_TILE && !known_ends)
        return tlog_edge_push_tile(&w->edge, &r->root, full_compare, w, e);
    for (unsigned i = 0; i < width; i++)
        if (tlog_edge_push(&w->edge, &r->tile[i], full_compare, w, e) < 0 ||
            known_compare(w, e) < 0)
            return -1;
    return 0;
}

static int bundle_take(struct reader *r, uint64_t n, struct err *e)
{
    struct walk *w = r->w;
    const struct tlog_walk_options *o = w->o;
    unsigned width = width_of(w, n);
    if (bundle_push(r, n, width, e) < 0)
        return -1;
    if (o->take && o->take(o->arg, r->notes, n * TLOG_TILE, r->entries, width, e) < 0)
        return -1;
    if (o->progress)
        o->progress(o->arg, w->edge.size - w->begin, o->size - w->begin);
    return 0;
}

/* --- the pass ----------------------------------------------------------------------------------- */

/* Waits for the turn of bundle n; false: it will not come. */
static bool turn_wait(struct walk *w, uint64_t n)
{
    pthread_mutex_lock(&w->lock);
    while (w->turn != n && !w->failed)
        pthread_cond_wait(&w->turned, &w->lock);
    bool mine = !w->failed;
    pthread_mutex_unlock(&w->lock);
    return mine;
}

static void turn_pass(struct walk *w, int ret, const struct err *e)
{
    pthread_mutex_lock(&w->lock);
    w->turn++;
    if (ret < 0) {
        w->failed = true;
        w->why = *e;
    }
    pthread_cond_broadcast(&w->turned);
    pthread_mutex_unlock(&w->lock);
}

static bool bundle_next(struct walk *w, uint64_t *n)
{
    pthread_mutex_lock(&w->lock);
    bool some = w->next < w->end && !w->failed;
    if (some)
        *n = w->next++;
    pthread_mutex_unlock(&w->lock);
    return some;
}

static void *reader_run(void *arg)
{
    struct reader *r = arg;
    struct err e;
    for (uint64_t n; bundle_next(r->w, &n);) {
        int ret = bundle_read(r, n, &e);
        if (!turn_wait(r->w, n))
            break;
        if (ret == 0)
            ret = bundle_take(r, n, &e);
        turn_pass(r->w, ret, &e);
    }
    return NULL;
}

/* The calling thread reads too, so a thread that can not be had is not missed. */
static int readers_run(struct walk *w, struct reader *r, unsigned n, struct err *e)
{
    unsigned started = 1;
    while (started < n && pthread_create(&r[started].thread, NULL, reader_run, &r[started]) == 0)
        started++;
    reader_run(&r[0]);
    for (unsigned i = 1; i < started; i++)
        pthread_join(r[i].thread, NULL);
    if (w->failed)
        *e = w->why;
    return w->failed ? -1 : 0;
}

static int bundles_walk(struct walk *w, struct err *e)
{
    uint64_t bundles = w->end - w->next;
    unsigned n = w->o->threads < 1 ? 1 : w->o->threads < THREADS_MAX ? w->o->threads : THREADS_MAX;
    if (n > bundles)
        n = bundles > 0 ? (unsigned)bundles : 1;
    struct reader *r = calloc(n, sizeof *r);
    bool room = r != NULL;
    for (unsigned i = 0; room && i < n; i++) {
        r[i].w = w;
        buf_init(&r[i].bundle, TLOG_BUNDLE_MAX + 1);
        r[i].notes = malloc(w->o->notes + 1);
        room = r[i].notes != NULL;
    }
    int ret = room ? readers_run(w, r, n, e)
                   : err_set(e, ERR_INTERNAL, "log-memory", "out of memory");
    for (unsigned i = 0; r && i < n; i++) {
        buf_free(&r[i].bundle);
        free(r[i].notes);
    }
    free(r);
    return ret;
}

/* Partial tiles above level 0. At a size that is not published (start-up's check) they need not
 * exist; of the known part, wider or full ones do. */
static int edge_compare(struct walk *w, uint64_t size, struct err *e)
{
    for (unsigned l = 1; l < TLOG_TILE_LEVELS; l++) {
        unsigned width = tlog_edge_width(size, l);
        if (width > 0 &&
            tile_compare(w, l, tlog_edge_index(size, l), w->edge.tile[l], width, e) < 0)
            return -1;
    }
    return 0;
}

/* What is known stands on whole bundles, and on the entries below from->size in the one that is
 * read first. */
static int known_load(struct walk *w, struct err *e)
{
    if (tlog_edge_load(&w->edge, w->o->at, w->begin, e) < 0 || edge_compare(w, w->begin, e) < 0)
        return -1;
    return known_compare(w, e);
}

int tlog_walk(const struct tlog_walk_options *o, struct tlog_hash *root, struct err *e)
{
    struct walk *w = calloc(1, sizeof *w);
    if (!w)
        return err_set(e, ERR_INTERNAL, "log-memory", "out of memory");
    w->o = o;
    w->begin = o->from ? o->from->size / TLOG_TILE * TLOG_TILE : 0;
    w->next = w->turn = w->begin / TLOG_TILE;
    w->end = o->size / TLOG_TILE + (o->size % TLOG_TILE > 0);
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->turned, NULL);
    int ret = o->from ? known_load(w, e) : 0;
    if (ret == 0)
        ret = bundles_walk(w, e);
    if (ret == 0 && o->edge_too)
        ret = edge_compare(w, o->size, e);
    if (ret == 0)
        tlog_edge_root(&w->edge, root);
    pthread_cond_destroy(&w->turned);
    pthread_mutex_destroy(&w->lock);
    free(w);
    return ret;
}

int tlog_walk_signed(const struct tlog_walk_options *o, const struct tlog_checkpoint *c,
                     struct err *e)
{
    struct tlog_hash root;
    if (tlog_walk(o, &root, e) < 0)
        return -1;
    if (memcmp(&root, &c->root, sizeof root) != 0)
        return err_set(e, ERR_CORRUPT, "log-root",
                       "the tiles agree with each other, but their root is not the one that the "
                       "checkpoint of size %llu signs: the log was rewritten; keep this copy as "
                       "evidence",
                       (unsigned long long)c->size);
    return 0;
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
    struct buf note;
    memset(r, 0, sizeof *r);
    buf_init(&note, TLOG_NOTE_MAX);
    int ret = tlog_published_read(dir, k, &note, &r->checkpoint, e);
    buf_free(&note);
    if (ret < 0)
        return -1;
    const struct tlog_place at = {.dir = dir};
    struct tlog_walk_options o = {
        .at = &at, .size = r->checkpoint.size, .edge_too = true, .progress = progress, .arg = arg};
    if (tlog_walk_signed(&o, &r->checkpoint, e) < 0)
        return -1;
    r->size = r->entries_checked = r->checkpoint.size;
    return 0;
}
