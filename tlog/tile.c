/* Tile files: hash tiles (32 bytes a hash) and entry bundles (u16 length ‖ entry). */
#include "base/fileio.h"
#include "tlog/internal.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TILE_MODE 0644
#define DIR_MODE 0755

int tlog_io_err(struct err *e, const char *what, const char *path)
{
    if (errno == ENOSPC || errno == EDQUOT)
        return err_errno(e, "log-disk",
                         "%s %s: the disk is full; make room and start again, nothing is lost",
                         what, path);
    return err_errno(e, "log-io", "%s %s", what, path);
}

static unsigned width_of(const char *name)
{
    char *end;
    unsigned long w = strtoul(name, &end, 10);
    return name[0] >= '1' && name[0] <= '9' && !*end && w < TLOG_TILE ? (unsigned)w : 0;
}

/* The narrowest partial tile of at least `width` in the folder of `path` (…/N.p/W), or 0. */
static unsigned wider_partial(const char *path, unsigned width)
{
    char dir[TLOG_PATH_CAP];
    unsigned best = 0;
    snprintf(dir, sizeof dir, "%s", path);
    *strrchr(dir, '/') = 0;
    DIR *d = opendir(dir);
    if (!d)
        return 0;
    for (struct dirent *f; (f = readdir(d));) {
        unsigned w = width_of(f->d_name);
        if (w >= width && (best == 0 || w < best))
            best = w;
    }
    closedir(d);
    return best;
}

/* A full tile that `mayfly log archive` has moved. 1: read; 0: it is in none of them; -1 with e. */
static int archive_read(struct buf *b, const struct tlog_place *at, int level, uint64_t n, size_t max,
                        struct err *e)
{
    char path[TLOG_PATH_CAP];
    for (char *const *dir = at->archive; dir && *dir; dir++) {
        if (tlog_tile_path(path, *dir, level, n, TLOG_TILE, e) < 0)
            return -1;
        if (file_read(b, path, max, e) == 0)
            return 1;
        if (e->code == ERR_TOO_LARGE || (e->code != ERR_NOT_FOUND && tlog_archive_here(*dir)))
            return -1;
    }
    return 0;
}

/* Index of the first full tile of a level that is not below a full tile of the next. */
static uint64_t edge_begin(uint64_t size, unsigned level)
{
    return tlog_edge_index(size, level + 1) << 8;
}

static void fetched_keep(const struct buf *b, const struct tlog_place *at, int level, uint64_t n)
{
    struct err ignored;
    if (level != TLOG_ENTRIES && n >= edge_begin(at->size, (unsigned)level))
        tlog_tile_write(at->dir, level, n, TLOG_TILE, b->p, b->len, &ignored);
}

static int edge_fetch(const struct tlog_place *at, int level, uint64_t before, struct err *e)
{
    unsigned l = level == TLOG_ENTRIES ? 0 : (unsigned)level, width = tlog_edge_width(at->size, l);
    uint64_t n = tlog_edge_index(at->size, l);
    char path[TLOG_PATH_CAP];
    struct buf b;
    if (n != tlog_edge_index(before, l))
        tlog_tile_prune(at->dir, level, tlog_edge_index(before, l), 0, 0);
    if (width == 0)
        return 0;
    if (tlog_tile_path(path, at->dir, level, n, width, e) < 0 || access(path, F_OK) == 0)
        return access(path, F_OK) == 0 ? 0 : -1;
    buf_init(&b, TLOG_BUNDLE_MAX + 1);
    int rc = tlog_tile_path(path, "", level, n, width, e);
    if (rc == 0 && (rc = at->fetch(at->arg, path + 1, TLOG_BUNDLE_MAX, &b, e)) < 0 && e->code == ERR_NOT_FOUND)
        err_set(e, ERR_NOT_READY, "log-moved", "the log went on from %llu entries while it was read",
                (unsigned long long)at->size);
    tlog_tile_prune(at->dir, level, n, 0, 0);
    if (rc == 0)
        rc = tlog_tile_write(at->dir, level, n, width, b.p, b.len, e);
    buf_free(&b);
    return rc;
}

int tlog_place_edge(const struct tlog_place *at, uint64_t before, struct err *e)
{
    for (int level = TLOG_ENTRIES; level < TLOG_TILE_LEVELS; level++)
        if (edge_fetch(at, level, before, e) < 0)
            return -1;
    return 0;
}

void tlog_place_forget(const struct tlog_place *at, uint64_t size)
{
    char path[TLOG_PATH_CAP];
    struct err ignored;
    for (int level = TLOG_ENTRIES; level < TLOG_TILE_LEVELS; level++)
        tlog_tile_prune(at->dir, level, tlog_edge_index(size, level == TLOG_ENTRIES ? 0 : (unsigned)level), 0, 0);
    for (unsigned level = 0; level + 1 < TLOG_TILE_LEVELS; level++)
        for (uint64_t n = edge_begin(size, level), end = n + TLOG_TILE; n < end; n++)
            if (tlog_tile_path(path, at->dir, (int)level, n, TLOG_TILE, &ignored) == 0)
                unlink(path);
}

/* From where the log is published: as wide as it is there. 1: read; 0: it is not there; -1 with e. */
static int fetched_read(struct buf *b, const struct tlog_place *at, int level, uint64_t n, size_t max,
                        struct err *e)
{
    char path[TLOG_PATH_CAP];
    unsigned l = level == TLOG_ENTRIES ? 0 : (unsigned)level;
    unsigned width = n < tlog_edge_index(at->size, l) ? TLOG_TILE : tlog_edge_width(at->size, l);
    if (!at->fetch || width == 0)
        return 0;
    for (;; width = TLOG_TILE) {
        if (tlog_tile_path(path, "", level, n, width, e) < 0)
            return -1;
        if (at->fetch(at->arg, path + 1, max, b, e) == 0) {
            if (width == TLOG_TILE)
                fetched_keep(b, at, level, n);
            return 1;
        }
        if (e->code != ERR_NOT_FOUND)
            return -1;
        if (width == TLOG_TILE) /* else it may have become full meanwhile, and the partial one gone */
            return 0;
    }
}

bool tlog_archive_here(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

bool tlog_archive_claimed(const char *dir)
{
    char path[TLOG_PATH_CAP];
    int fd = snprintf(path, sizeof path, "%s/" TLOG_ARCHIVE_VKEY, dir) < (int)sizeof path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

static const char *archive_away(const struct tlog_place *at)
{
    for (char *const *dir = at->archive; dir && *dir; dir++)
        if (!tlog_archive_claimed(*dir))
            return *dir;
    return NULL;
}

static int tile_missing(const struct tlog_place *at, const char *path, bool full, struct err *e)
{
    const char *away = full ? archive_away(at) : NULL;
    if (at->fetch)
        return err_set(e, ERR_CORRUPT, "log-missing", "%s is not there either where the log is published",
                       path + strlen(at->dir) + 1);
    if (away)
        return err_set(e, ERR_UNAVAILABLE, "log-archive",
                       "%.160s is not there, and the archive %.160s (log.archive), to which it may have been "
                       "moved, is empty or cannot be read: mount it, or let this user read it",
                       path, away);
    return err_set(e, ERR_CORRUPT, "log-missing",
                   "%s is missing%s: restore it from a copy of the log (tiles never change, so any "
                   "copy that has it will do)",
                   path, full && at->archive && *at->archive ? ", from its archives too" : "");
}

/* A reader of a running log may find that its partial tile has been replaced by a wider one: the
 * first `width` items are the same. */
static bool wider_read(struct buf *b, const struct tlog_place *at, int level, uint64_t n, unsigned width,
                       const char *path, size_t max)
{
    char alt[TLOG_PATH_CAP];
    struct err other;
    unsigned wider;
    for (int attempt = 0; attempt < 3; attempt++) {
        if (tlog_tile_path(alt, at->dir, level, n, TLOG_TILE, &other) == 0 &&
            file_read(b, alt, max, &other) == 0)
            return true;
        if ((wider = wider_partial(path, width)) > 0 &&
            tlog_tile_path(alt, at->dir, level, n, wider, &other) == 0 &&
            file_read(b, alt, max, &other) == 0)
            return true;
    }
    return false;
}

static int tile_file_read(struct buf *b, const struct tlog_place *at, int level, uint64_t n,
                          unsigned width, size_t max, struct err *e)
{
    char path[TLOG_PATH_CAP];
    if (tlog_tile_path(path, at->dir, level, n, width, e) < 0)
        return -1;
    int found = file_read(b, path, max, e) == 0 ? 1 : e->code == ERR_NOT_FOUND ? 0 : -1;
    if (found == 0 && width < TLOG_TILE)
        found = wider_read(b, at, level, n, width, path, max);
    if (found == 0)
        found = archive_read(b, at, level, n, max, e);
    if (found == 0)
        found = fetched_read(b, at, level, n, max, e);
    if (found < 0 && e->code == ERR_TOO_LARGE)
        return err_set(e, ERR_CORRUPT, "log-bitflip", "%s is larger than any tile", path);
    if (found == 0)
        return tile_missing(at, path, width == TLOG_TILE, e);
    return found < 0 ? -1 : 0;
}

static int tile_damaged(struct err *e, const char *dir, int level, uint64_t n, unsigned width,
                        const char *why)
{
    char path[TLOG_PATH_CAP];
    struct err ignored;
    if (tlog_tile_path(path, dir, level, n, width, &ignored) < 0)
        path[0] = 0;
    return err_set(e, ERR_CORRUPT, "log-bitflip",
                   "%s is damaged (%s): restore it from a copy of the log", path, why);
}

int tlog_tile_read(struct tlog_hash *tile, const struct tlog_place *at, unsigned level, uint64_t n,
                   unsigned width, struct err *e)
{
    struct buf b;
    buf_init(&b, TLOG_TILE * TLOG_HASH + 1);
    int ret = tile_file_read(&b, at, (int)level, n, width, TLOG_TILE * TLOG_HASH, e);
    if (ret == 0 && (b.len < (size_t)width * TLOG_HASH || b.len % TLOG_HASH))
        ret = tile_damaged(e, at->dir, (int)level, n, width, "wrong size");
    if (ret == 0)
        memcpy(tile, b.p, (size_t)width * TLOG_HASH);
    buf_free(&b);
    return ret;
}

int tlog_bundle_parse(struct bytes p, struct bytes *entries, unsigned width, const char **why)
{
    struct cur c = cur_of(p.p, p.len);
    unsigned i = 0;
    for (struct bytes more; cur_left(&c) > 0; i++) {
        *why = "entries run past its end";
        if (cur_vec16(&c, &more) < 0 || i == TLOG_TILE)
            return -1;
        if (i < width)
            entries[i] = more;
    }
    *why = "fewer entries than its name says";
    return i < width ? -1 : 0;
}

int tlog_bundle_read(struct buf *b, struct bytes *entries, const struct tlog_place *at, uint64_t n,
                     unsigned width, struct err *e)
{
    const char *why;
    if (tile_file_read(b, at, TLOG_ENTRIES, n, width, TLOG_BUNDLE_MAX, e) < 0)
        return -1;
    if (tlog_bundle_parse((struct bytes){b->p, b->len}, entries, width, &why) < 0)
        return tile_damaged(e, at->dir, TLOG_ENTRIES, n, width, why);
    return 0;
}

/* Not fsynced: until tlog_tile_sync has been, the journal has it all. */
int tlog_tile_write(const char *dir, int level, uint64_t n, unsigned width, const void *p,
                    size_t len, struct err *e)
{
    char path[TLOG_PATH_CAP], folder[TLOG_PATH_CAP];
    if (tlog_tile_path(path, dir, level, n, width, e) < 0)
        return -1;
    memcpy(folder, path, sizeof folder);
    *strrchr(folder, '/') = 0;
    if (access(folder, F_OK) < 0 && file_mkdirs(folder, DIR_MODE, e) < 0)
        return tlog_io_err(e, "cannot make", folder);
    if (file_write_atomic(path, p, len, TILE_MODE, false, e) < 0)
        return tlog_io_err(e, "cannot write", path);
    return 0;
}

/* Also what a killed process left half-written (names with a dot): only the publisher writes here,
 * and it is not writing now. */
void tlog_tile_prune(const char *dir, int level, uint64_t n, unsigned keep1, unsigned keep2)
{
    char folder[TLOG_PATH_CAP];
    struct err ignored;
    if (tlog_tile_path(folder, dir, level, n, 1, &ignored) < 0)
        return;
    *strrchr(folder, '/') = 0;
    DIR *d = opendir(folder);
    if (!d)
        return;
    size_t left = 0;
    for (struct dirent *f; (f = readdir(d));) {
        unsigned w = width_of(f->d_name);
        bool ours = w > 0 || strstr(f->d_name, ".tmp-");
        if (!ours)
            continue;
        if ((w > 0 && (w == keep1 || w == keep2)) || unlinkat(dirfd(d), f->d_name, 0) < 0)
            left++;
    }
    closedir(d);
    if (left == 0)
        rmdir(folder);
}

/* Only full tiles of a thousand share a folder (tlog-tiles), so this opens few. */
void tlog_tile_sweep(const char *dir, int level, uint64_t from, uint64_t to)
{
    char folder[TLOG_PATH_CAP], last[TLOG_PATH_CAP] = "";
    struct err ignored;
    for (uint64_t n = from; n <= to; n++) {
        if (tlog_tile_path(folder, dir, level, n, TLOG_TILE, &ignored) < 0)
            return;
        *strrchr(folder, '/') = 0;
        if (strcmp(folder, last) == 0)
            continue;
        memcpy(last, folder, sizeof last);
        DIR *d = opendir(folder);
        for (struct dirent *f; d && (f = readdir(d));)
            if (f->d_name[0] == '.' && strstr(f->d_name, ".tmp-"))
                unlinkat(dirfd(d), f->d_name, 0);
        if (d)
            closedir(d);
    }
}

static int sync_file(const char *path, struct err *e)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return tlog_io_err(e, "cannot open", path);
    int ret = fsync(fd) < 0 ? tlog_io_err(e, "cannot sync", path) : 0;
    close(fd);
    return ret;
}

/* The file, and its folders up to the log's, unless they are the ones synced last. */
static int sync_tile(const char *dir, int level, uint64_t n, char last[TLOG_PATH_CAP],
                     struct err *e)
{
    char path[TLOG_PATH_CAP];
    if (tlog_tile_path(path, dir, level, n, TLOG_TILE, e) < 0 || sync_file(path, e) < 0)
        return -1;
    *strrchr(path, '/') = 0;
    if (strcmp(path, last) == 0)
        return 0;
    memcpy(last, path, TLOG_PATH_CAP);
    for (size_t root = strlen(dir); strlen(path) > root; *strrchr(path, '/') = 0)
        if (file_sync_dir(path, e) < 0)
            return -1;
    return file_sync_dir(dir, e);
}

/* All files are written by now, so a folder is synced when the walk first comes to it. */
int tlog_tile_sync(const char *dir, uint64_t from, uint64_t to, struct err *e)
{
    for (int level = TLOG_ENTRIES; level < TLOG_TILE_LEVELS; level++) {
        char last[TLOG_PATH_CAP] = "";
        unsigned shift = level == TLOG_ENTRIES ? 8 : 8 * ((unsigned)level + 1);
        uint64_t a = shift < 64 ? from >> shift : 0, b = shift < 64 ? to >> shift : 0;
        for (uint64_t n = a; n < b; n++)
            if (sync_tile(dir, level, n, last, e) < 0)
                return -1;
    }
    return 0;
}
