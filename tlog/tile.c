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

/* A reader of a running log may find that its partial tile has been replaced by a wider one: the
 * first `width` items are the same. */
static int tile_file_read(struct buf *b, const char *dir, int level, uint64_t n, unsigned width,
                          size_t max, struct err *e)
{
    char path[TLOG_PATH_CAP];
    struct err other;
    unsigned wider;
    if (tlog_tile_path(path, dir, level, n, width, e) < 0)
        return -1;
    if (file_read(b, path, max, e) == 0)
        return 0;
    if (e->code == ERR_TOO_LARGE)
        return err_set(e, ERR_CORRUPT, "log-bitflip", "%s is larger than any tile", path);
    if (e->code != ERR_NOT_FOUND)
        return -1;
    for (int attempt = 0; width < TLOG_TILE && attempt < 3; attempt++) {
        char alt[TLOG_PATH_CAP];
        if (tlog_tile_path(alt, dir, level, n, TLOG_TILE, e) == 0 &&
            file_read(b, alt, max, &other) == 0)
            return 0;
        if ((wider = wider_partial(path, width)) > 0 &&
            tlog_tile_path(alt, dir, level, n, wider, e) == 0 &&
            file_read(b, alt, max, &other) == 0)
            return 0;
    }
    return err_set(e, ERR_CORRUPT, "log-missing",
                   "%s is missing: restore it from a copy of the log (tiles never change, so any "
                   "copy that has it will do)",
                   path);
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

int tlog_tile_read(struct tlog_hash *tile, const char *dir, unsigned level, uint64_t n,
                   unsigned width, struct err *e)
{
    struct buf b;
    buf_init(&b, TLOG_TILE * TLOG_HASH + 1);
    int ret = tile_file_read(&b, dir, (int)level, n, width, TLOG_TILE * TLOG_HASH, e);
    if (ret == 0 && (b.len < (size_t)width * TLOG_HASH || b.len % TLOG_HASH))
        ret = tile_damaged(e, dir, (int)level, n, width, "wrong size");
    if (ret == 0)
        memcpy(tile, b.p, (size_t)width * TLOG_HASH);
    buf_free(&b);
    return ret;
}

int tlog_bundle_read(struct buf *b, struct bytes *entries, const char *dir, uint64_t n,
                     unsigned width, struct err *e)
{
    if (tile_file_read(b, dir, TLOG_ENTRIES, n, width, TLOG_BUNDLE_MAX, e) < 0)
        return -1;
    struct cur c = cur_of(b->p, b->len);
    unsigned i = 0;
    for (struct bytes more; cur_left(&c) > 0; i++) {
        if (cur_vec16(&c, &more) < 0 || i == TLOG_TILE)
            return tile_damaged(e, dir, TLOG_ENTRIES, n, width, "entries run past its end");
        if (i < width)
            entries[i] = more;
    }
    if (i < width)
        return tile_damaged(e, dir, TLOG_ENTRIES, n, width, "fewer entries than its name says");
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
