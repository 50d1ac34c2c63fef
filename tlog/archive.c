/* Moving old tiles to another folder: a round of files at a time, copied, synced, read back, and only
 * then removed. */
#include "tlog/archive.h"
#include "base/fault.h"
#include "base/fileio.h"
#include "tlog/internal.h"
#include "tlog/reader.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define ROUND TLOG_TILE /* bundles copied before they are synced together */
#define TILE_MODE 0644
#define DIR_MODE 0755

struct moved { /* a file of this round */
    int level;
    uint64_t n;
};
struct archive {
    const struct tlog_archive_options *o;
    struct tlog_archive_report *r;
    struct tlog_reader *reader;
    uint64_t bundles, tiles; /* whose turn it may be: [0, bundles), [0, tiles) */
    struct buf file, copy;
    struct moved round[2 * ROUND];
    size_t count;
};

static int fault(const char *name, int asked, struct err *e)
{
    return asked ? err_set(e, ERR_INTERNAL, "fault", "fault point %s", name) : 0;
}

/* --- what may go ---------------------------------------------------------------------------------- */

/* Where the journal begins: tiles from there on are still written and synced. It only moves up. */
static int journal_begin(const char *dir, uint64_t *first, struct err *e)
{
    char path[TLOG_PATH_CAP];
    if (snprintf(path, sizeof path, "%s/journal", dir) >= (int)sizeof path)
        return err_set(e, ERR_CONFIG, "log-path", "the log folder's path is too long");
    DIR *d = opendir(path);
    if (!d && errno == ENOENT)
        return err_set(e, ERR_CORRUPT, "log-missing",
                       "%s is missing: is this an authority's log? A mirror is not archived, only copied", path);
    if (!d)
        return tlog_io_err(e, "cannot open", path);
    *first = UINT64_MAX;
    for (struct dirent *f; (f = readdir(d));) {
        uint64_t n;
        if (tlog_segment_name(f->d_name, &n) && n < *first)
            *first = n;
    }
    int synced = fsync(dirfd(d)); /* what is gone from the journal must not be back after a loss of power */
    closedir(d);
    if (synced < 0)
        return tlog_io_err(e, "cannot sync", path);
    return *first != UINT64_MAX ? 0
                                : err_set(e, ERR_CORRUPT, "log-missing", "%s has no segment: the journal is lost", path);
}

static int limits_set(struct archive *a, struct err *e)
{
    uint64_t size = tlog_reader_head(a->reader)->size, first;
    if (journal_begin(a->o->at->dir, &first, e) < 0)
        return -1;
    if (first > size)
        first = size;
    if (first > a->o->before)
        first = a->o->before;
    a->bundles = first / TLOG_TILE;
    a->tiles = a->bundles / TLOG_TILE * TLOG_TILE;
    a->r->size = size;
    a->r->entries_below = a->bundles * TLOG_TILE;
    a->r->hashes_below = a->tiles * TLOG_TILE;
    return 0;
}

/* --- whose folder --------------------------------------------------------------------------------- */

static int foreign(const struct archive *a, const char *why, struct err *e)
{
    return err_set(e, ERR_EXISTS, "archive-foreign",
                   "%.200s %s: tiles of two logs have the same names. Name an empty folder, or this log's archive", a->o->to,
                   why);
}

/* Empty but for what file systems put into every root. */
static bool empty(const char *dir)
{
    DIR *d = opendir(dir);
    bool none = true;
    for (struct dirent *f; d && (f = readdir(d));)
        none = none && (f->d_name[0] == '.' || strcmp(f->d_name, "lost+found") == 0);
    if (d)
        closedir(d);
    return none;
}

static int folder_claim(struct archive *a, struct err *e)
{
    char path[TLOG_PATH_CAP];
    struct buf own;
    if (snprintf(path, sizeof path, "%s/" TLOG_ARCHIVE_VKEY, a->o->to) >= TLOG_DIR_MAX)
        return err_set(e, ERR_CONFIG, "log-path", "the archive folder's path is too long");
    buf_init(&own, 1024);
    tlog_vkey_write(a->o->vkey, &own);
    buf_u8(&own, '\n');
    int rc = file_read(&a->copy, path, 1024, e);
    if (rc == 0 && !bytes_eq((struct bytes){own.p, own.len}, a->copy.p, a->copy.len))
        rc = foreign(a, "is another log's archive (its file vkey says so)", e);
    else if (rc < 0 && e->code == ERR_TOO_LARGE)
        rc = foreign(a, "holds something else", e);
    else if (rc < 0 && e->code == ERR_NOT_FOUND && !empty(a->o->to))
        rc = foreign(a, "is neither empty nor an archive", e);
    else if (rc < 0 && e->code == ERR_NOT_FOUND && !a->o->dry_run && !tlog_archive_here(a->o->to))
        rc = err_set(e, ERR_NOT_FOUND, "archive-folder", "%.300s is no folder that can be read: make it, or mount it, first", a->o->to);
    else if (rc < 0 && e->code == ERR_NOT_FOUND && !a->o->dry_run)
        rc = file_write_atomic(path, own.p, own.len, TILE_MODE, true, e);
    else if (rc < 0 && e->code == ERR_NOT_FOUND)
        rc = 0;
    buf_free(&own);
    return rc;
}

static int log_lock(const struct archive *a, int *fd, struct err *e)
{
    char path[TLOG_PATH_CAP];
    if (snprintf(path, sizeof path, "%s/tile", a->o->at->dir) >= TLOG_PATH_CAP)
        return err_set(e, ERR_CONFIG, "log-path", "the log folder's path is too long");
    *fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*fd < 0)
        return tlog_io_err(e, "cannot open", path);
    if (flock(*fd, LOCK_EX | LOCK_NB) == 0)
        return 0;
    return err_set(e, ERR_EXISTS, "archive-locked", "another 'mayfly log archive' is at work on %.200s", a->o->at->dir);
}

/* --- a file --------------------------------------------------------------------------------------- */

static bool here(const struct archive *a, int level, uint64_t n)
{
    char path[TLOG_PATH_CAP];
    struct err ignored;
    return tlog_tile_path(path, a->o->at->dir, level, n, TLOG_TILE, &ignored) == 0 && access(path, F_OK) == 0;
}

/* Moved before, to one of the archives. */
static int there(const struct archive *a, int level, uint64_t n, struct err *e)
{
    char path[TLOG_PATH_CAP];
    for (char *const *dir = a->o->at->archive; dir && *dir; dir++) {
        if (tlog_tile_path(path, *dir, level, n, TLOG_TILE, e) < 0)
            return -1;
        if (access(path, F_OK) == 0)
            return 0;
    }
    if (tlog_tile_path(path, a->o->at->dir, level, n, TLOG_TILE, e) < 0)
        return -1;
    return err_set(e, ERR_CORRUPT, "log-missing",
                   "%s is missing, from the archives too: restore it from a copy of the log, or mount the archive that "
                   "has it",
                   path);
}

/* The 256 hashes of a tile under the signed head: the inclusion of its first entry names all others. */
static int verify(struct archive *a, uint64_t n, struct err *e)
{
    struct tlog_hash tile[TLOG_TILE], path[TLOG_LEVELS], leaf;
    const struct bytes *entries;
    struct bytes first;
    unsigned width;
    size_t len;
    if (tlog_reader_entry(a->reader, n * TLOG_TILE, &first, path, &len, e) < 0 ||
        tlog_reader_bundle(a->reader, n, &entries, &width, e) < 0 ||
        tlog_tile_read(tile, a->o->at, 0, n, TLOG_TILE, e) < 0)
        return -1;
    for (unsigned i = 0; i < TLOG_TILE; i++) {
        merkle_leaf(&leaf, entries[i].p, entries[i].len);
        if (memcmp(&leaf, &tile[i], sizeof leaf) != 0)
            return err_set(e, ERR_CORRUPT, "log-bitflip",
                           "entry %llu does not have the hash that tile/0 says: restore both from a copy of the log; "
                           "nothing damaged is moved",
                           (unsigned long long)(n * TLOG_TILE + i));
    }
    return 0;
}

static int read_at(struct buf *b, const char *dir, const struct moved *m, struct err *e)
{
    char path[TLOG_PATH_CAP];
    return tlog_tile_path(path, dir, m->level, m->n, TLOG_TILE, e) < 0 ? -1 : file_read(b, path, TLOG_BUNDLE_MAX, e);
}

static bool same(const struct archive *a)
{
    return bytes_eq((struct bytes){a->file.p, a->file.len}, a->copy.p, a->copy.len);
}

static int copy(struct archive *a, int level, uint64_t n, struct err *e)
{
    const struct moved m = {level, n};
    struct err none;
    if (read_at(&a->file, a->o->at->dir, &m, e) < 0)
        return -1;
    a->r->bytes += a->file.len;
    *(level == TLOG_ENTRIES ? &a->r->bundles : &a->r->tiles) += 1;
    if (a->o->dry_run)
        return 0;
    if ((read_at(&a->copy, a->o->to, &m, &none) < 0 || !same(a)) &&
        tlog_tile_write(a->o->to, level, n, TLOG_TILE, a->file.p, a->file.len, e) < 0)
        return -1;
    a->round[a->count++] = m;
    return fault("archive-copied", FAULT("archive-copied"), e);
}

/* --- a round -------------------------------------------------------------------------------------- */

/* The file and its folders up to the archive's. Then out of the page cache, as far as the kernel
 * follows, so that what is read back is what the disk has. */
static int settle(struct archive *a, const struct moved *m, char last[TLOG_PATH_CAP], struct err *e)
{
    char path[TLOG_PATH_CAP];
    if (tlog_tile_path(path, a->o->to, m->level, m->n, TLOG_TILE, e) < 0)
        return -1;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return tlog_io_err(e, "cannot open", path);
    int rc = fsync(fd) < 0 ? tlog_io_err(e, "cannot sync", path) : 0;
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    close(fd);
    *strrchr(path, '/') = 0;
    if (rc < 0 || strcmp(path, last) == 0)
        return rc;
    memcpy(last, path, sizeof path);
    for (size_t root = strlen(a->o->to); rc == 0 && strlen(path) > root; *strrchr(path, '/') = 0)
        rc = file_sync_dir(path, e);
    return rc < 0 ? -1 : file_sync_dir(a->o->to, e);
}

static int compare(struct archive *a, const struct moved *m, struct err *e)
{
    if (read_at(&a->file, a->o->at->dir, m, e) < 0 || read_at(&a->copy, a->o->to, m, e) < 0)
        return -1;
    if (same(a))
        return 0;
    return err_set(e, ERR_CORRUPT, "archive-copy",
                   "%.200s does not give back what was written to it (level %d, number %llu): its disk is not to be "
                   "trusted. Nothing of this round was removed from the log",
                   a->o->to, m->level, (unsigned long long)m->n);
}

static int original_remove(struct archive *a, const struct moved *m, struct err *e)
{
    char path[TLOG_PATH_CAP];
    if (tlog_tile_path(path, a->o->at->dir, m->level, m->n, TLOG_TILE, e) < 0)
        return -1;
    if (unlink(path) < 0 && errno != ENOENT)
        return tlog_io_err(e, "cannot remove", path);
    return fault("archive-removing", FAULT("archive-removing"), e);
}

/* Folders stay, empty or not: the publisher may be about to write into one. */
static int round_end(struct archive *a, struct err *e)
{
    char last[TLOG_PATH_CAP] = "";
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < a->count; i++)
        rc = settle(a, &a->round[i], last, e);
    if (rc == 0)
        rc = fault("archive-synced", FAULT("archive-synced"), e);
    for (size_t i = 0; rc == 0 && i < a->count; i++)
        rc = compare(a, &a->round[i], e);
    for (size_t i = 0; rc == 0 && i < a->count; i++)
        rc = original_remove(a, &a->round[i], e);
    a->count = 0;
    return rc;
}

static int walk(struct archive *a, struct err *e)
{
    for (uint64_t n = 0; n < a->bundles; n++) {
        bool bundle = here(a, TLOG_ENTRIES, n), tile = n < a->tiles && here(a, 0, n);
        if ((!bundle && there(a, TLOG_ENTRIES, n, e) < 0) || (n < a->tiles && !tile && there(a, 0, n, e) < 0))
            return -1;
        if ((bundle || tile) && verify(a, n, e) < 0)
            return -1;
        if ((bundle && copy(a, TLOG_ENTRIES, n, e) < 0) || (tile && copy(a, 0, n, e) < 0))
            return -1;
        if (a->count + 2 > sizeof a->round / sizeof *a->round && round_end(a, e) < 0)
            return -1;
        if (a->o->progress && ((bundle || tile) || n + 1 == a->bundles))
            a->o->progress(a->o->arg, (n + 1) * TLOG_TILE, a->bundles * TLOG_TILE);
    }
    return round_end(a, e);
}

/* What a killed run left half-written beside the copies. */
static void sweep(const struct archive *a)
{
    if (a->bundles > 0)
        tlog_tile_sweep(a->o->to, TLOG_ENTRIES, 0, a->bundles - 1);
    if (a->tiles > 0)
        tlog_tile_sweep(a->o->to, 0, 0, a->tiles - 1);
}

int tlog_archive(const struct tlog_archive_options *o, struct tlog_archive_report *r, struct err *e)
{
    int fd = -1, rc = -1;
    struct archive *a = calloc(1, sizeof *a);
    memset(r, 0, sizeof *r);
    if (!a)
        return err_set(e, ERR_INTERNAL, "log-memory", "out of memory");
    a->o = o;
    a->r = r;
    buf_init(&a->file, TLOG_BUNDLE_MAX + 1);
    buf_init(&a->copy, TLOG_BUNDLE_MAX + 1);
    if (tlog_reader_open_at(&a->reader, o->at, o->vkey, e) == 0 && log_lock(a, &fd, e) == 0 &&
        folder_claim(a, e) == 0 && limits_set(a, e) == 0) {
        if (!o->dry_run)
            sweep(a);
        rc = walk(a, e);
    }
    tlog_reader_close(a->reader);
    if (fd >= 0)
        close(fd);
    buf_free(&a->file);
    buf_free(&a->copy);
    free(a);
    return rc;
}
