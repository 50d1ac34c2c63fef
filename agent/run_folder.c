/* The folder of one run, in memory: <base>/mayfly-run-XXXXXX, of mode 0700, held by a lock for as long as we live. A
 * run that is killed leaves its folder; the next one of the same user finds that nobody holds it, and removes it.
 * (A tmpfs may be swapped out, as the memory of any program may; it is no disk.)
 */
#include "agent/run_parts.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define NAME "mayfly-run-"
#define SWEEP_MAX 4096 /* names looked at in /run */
#define TMPFS 0x01021994
#define RAMFS 0x858458f6

static int hold(const char *path)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0 && (fstat(fd, &st) < 0 || st.st_uid != geteuid() || flock(fd, LOCK_EX | LOCK_NB) < 0)) {
        close(fd);
        return -1;
    }
    return fd;
}

static void take_away(const char *path)
{
    struct err ignored;
    output_remove(path, &ignored);
    rmdir(path);
}

/* A folder that was made and is not locked yet is empty: taken away from its maker, who then tries again. */
static void sweep(const char *base)
{
    char path[512];
    DIR *d = opendir(base);
    for (int i = 0; d && i < SWEEP_MAX; i++) {
        struct dirent *x = readdir(d);
        if (!x)
            break;
        if (strncmp(x->d_name, NAME, strlen(NAME)) != 0 ||
            (size_t)snprintf(path, sizeof path, "%s/%s", base, x->d_name) >= sizeof path)
            continue;
        int fd = hold(path);
        if (fd >= 0) {
            take_away(path);
            close(fd);
        }
    }
    if (d)
        closedir(d);
}

static bool in_memory(const char *base)
{
    struct statfs fs;
    return statfs(base, &fs) == 0 && ((unsigned long)fs.f_type == TMPFS || (unsigned long)fs.f_type == RAMFS);
}

static bool make_in(struct run_folder *f, const char *base)
{
    struct stat held, there;
    if (!base || base[0] != '/' || strlen(base) > 400 || !in_memory(base))
        return false;
    sweep(base);
    for (int i = 0; i < 8; i++) {
        snprintf(f->path, sizeof f->path, "%s/" NAME "XXXXXX", base);
        if (!mkdtemp(f->path))
            return false;
        f->fd = hold(f->path);
        if (f->fd >= 0 && fstat(f->fd, &held) == 0 && lstat(f->path, &there) == 0 && held.st_ino == there.st_ino)
            return f->made = true;
        if (f->fd >= 0)
            close(f->fd);
    }
    f->fd = -1;
    return false;
}

/* systemd separates several by colons. */
static const char *first_of(char dst[401], const char *list)
{
    size_t n = list ? strcspn(list, ":") : 0;
    if (n == 0 || n > 400)
        return NULL;
    memcpy(dst, list, n);
    dst[n] = 0;
    return dst;
}

int run_folder_open(struct run_folder *f, const char *dir, struct err *e)
{
    char given[401];
    *f = (struct run_folder){.fd = -1};
    if (dir) {
        struct stat st;
        if (dir[0] != '/') /* the program may go to another folder, and is told this name */
            return err_set(e, ERR_USAGE, "run-folder", "--dir: '%.200s' does not start with /", dir);
        if ((size_t)snprintf(f->path, sizeof f->path, "%s", dir) >= sizeof f->path)
            return err_set(e, ERR_USAGE, "run-folder", "--dir: the folder's name is too long");
        f->made = lstat(dir, &st) < 0 && errno == ENOENT;
        return 0;
    }
    if (make_in(f, first_of(given, getenv("RUNTIME_DIRECTORY"))) || make_in(f, getenv("XDG_RUNTIME_DIR")) ||
        make_in(f, "/run") || make_in(f, "/dev/shm"))
        return 0;
    return err_set(e, ERR_IO, "run-folder",
                   "no memory file system for the private key: none of $XDG_RUNTIME_DIR, /run and /dev/shm is a tmpfs "
                   "that this user may write; mount one, or name a folder with --dir");
}

void run_folder_close(struct run_folder *f)
{
    struct err ignored;
    if (*f->path)
        output_remove(f->path, &ignored);
    if (f->made)
        rmdir(f->path);
    if (f->fd >= 0)
        close(f->fd);
}
