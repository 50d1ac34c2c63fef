#include "base/fileio.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

static int read_into(struct buf *b, int fd, const char *path, size_t max, struct err *e)
{
    uint8_t chunk[16384];
    int r = 0;
    for (;;) {
        ssize_t n = read(fd, chunk, sizeof chunk);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            r = err_errno(e, "file-read", "cannot read %s", path);
        if (n <= 0)
            break;
        if ((size_t)n > max - b->len) {
            r = err_set(e, ERR_TOO_LARGE, "file-size", "%s is larger than %zu bytes", path, max);
            break;
        }
        buf_put(b, chunk, (size_t)n);
        if (b->failed) {
            r = err_set(e, ERR_TOO_LARGE, "file-size", "%s does not fit in %zu bytes", path,
                        b->max);
            break;
        }
    }
    explicit_bzero(chunk, sizeof chunk);
    return r;
}

int file_read(struct buf *b, const char *path, size_t max, struct err *e)
{
    buf_reset(b);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0) {
        int missing = errno == ENOENT;
        err_errno(e, "file-read", "cannot open %s", path);
        if (missing)
            e->code = ERR_NOT_FOUND;
        return -1;
    }
    int r = read_into(b, fd, path, max, e);
    close(fd);
    return r;
}

int file_write_all(int fd, const void *p, size_t len)
{
    const uint8_t *s = p;
    while (len > 0) {
        ssize_t n = write(fd, s, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        s += n;
        len -= (size_t)n;
    }
    return 0;
}

static int folder_of(char dir[PATH_MAX], const char **name, const char *path, struct err *e)
{
    const char *slash = strrchr(path, '/');
    size_t n = slash ? (size_t)(slash - path) : 1;
    *name = slash ? slash + 1 : path;
    if (n == 0) /* "/name" */
        n = 1;
    if (n >= PATH_MAX || !**name || strlen(*name) > NAME_MAX - 32)
        return err_set(e, ERR_INTERNAL, "file-path", "not a usable file name: %s", path);
    memcpy(dir, slash ? path : ".", n);
    dir[n] = 0;
    return 0;
}

/* Fills and, when durable, syncs the temporary file. Its permissions are final before the first
 * byte is in it. */
static int fill(int fd, const void *p, size_t len, mode_t mode, bool durable)
{
    if (fchmod(fd, mode) < 0 || file_write_all(fd, p, len) < 0)
        return -1;
    return durable ? fsync(fd) : 0;
}

/* A crash leaves either the old file or the new one, and at most a .tmp- file beside it that nobody
 * reads. */
int file_write_atomic(const char *path, const void *p, size_t len, mode_t mode, bool durable,
                      struct err *e)
{
    char dir[PATH_MAX], tmp[PATH_MAX];
    const char *name;
    uint64_t random;
    if (folder_of(dir, &name, path, e) < 0)
        return -1;
    if (getrandom(&random, sizeof random, 0) != sizeof random)
        return err_errno(e, "file-write", "no random bytes for a temporary name beside %s", path);
    int n = snprintf(tmp, sizeof tmp, "%s/.%s.tmp-%016llx", dir, name, (unsigned long long)random);
    if (n < 0 || (size_t)n >= sizeof tmp)
        return err_set(e, ERR_INTERNAL, "file-path", "path too long: %s", path);
    int fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return err_errno(e, "file-write", "cannot create a file in %s", dir);
    int bad = fill(fd, p, len, mode, durable) < 0, why = errno;
    if (close(fd) < 0 && !bad) {
        bad = 1;
        why = errno;
    }
    if (!bad && rename(tmp, path) < 0) {
        bad = 1;
        why = errno;
    }
    if (bad) {
        unlink(tmp);
        errno = why;
        return err_errno(e, "file-write", "cannot write %s", path);
    }
    return durable ? file_sync_dir(dir, e) : 0;
}

int file_mkdirs(const char *path, mode_t mode, struct err *e)
{
    char p[PATH_MAX];
    struct stat st;
    size_t n = strlen(path);
    if (n == 0 || n >= sizeof p)
        return err_set(e, ERR_INTERNAL, "file-path", "not a usable folder name: %s", path);
    memcpy(p, path, n + 1);
    for (char *s = p + 1;; s++) {
        if (*s != '/' && *s)
            continue;
        char end = *s;
        *s = 0;
        int why = mkdir(p, mode) < 0 ? errno : 0;
        if (why && why != EEXIST && !(stat(p, &st) == 0 && S_ISDIR(st.st_mode))) {
            errno = why; /* stat would only say that it is not there */
            return err_errno(e, "file-mkdir", "cannot make the folder %s", p);
        }
        *s = end;
        if (!end)
            break;
    }
    if (stat(path, &st) < 0)
        return err_errno(e, "file-mkdir", "cannot use the folder %s", path);
    if (!S_ISDIR(st.st_mode)) {
        errno = ENOTDIR;
        return err_errno(e, "file-mkdir", "cannot use %s as a folder", path);
    }
    return 0;
}

int file_sync_dir(const char *path, struct err *e)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, "file-sync", "cannot open the folder %s", path);
    int r = fsync(fd) < 0 ? err_errno(e, "file-sync", "cannot sync the folder %s", path) : 0;
    close(fd);
    return r;
}
