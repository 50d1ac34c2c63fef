/* Names of sets: everything is relative to the open folder and no link is followed.
 *
 *   DIR/svid.key -> ..data/svid.key     DIR/..data -> ..set-7     DIR/..set-7/svid.key
 *
 * One rename(2), of ..data, makes set 7 what readers see. A crash leaves, besides a whole set in place: an unfinished
 * or replaced ..set-<n>, ..data.new, and .NAME.link; the next writer takes them away. The set that was replaced stays
 * until then too: whoever resolved ..data just before the swap reads the rest of the old set from it.
 */
#include "agent/output_set.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DATA "..data"
#define DATA_NEW "..data.new"
#define SET "..set-"
#define SWEEP_MAX 4096 /* names looked at: the folder may be /tmp */
#define CREATE_TRIES 64

const char *const output_names[] = {"bundle.pem", "svid.key", "svid.pem", "svid-combined.pem", "svid.jwt", "crl.pem"};

static void set_name(char dst[32], unsigned n)
{
    snprintf(dst, 32, SET "%u", n);
}

/* "..set-7": as we write it, nine digits at most. 0: no such name. */
static unsigned set_number(const char *name)
{
    char again[32];
    if (strncmp(name, SET, strlen(SET)) != 0 || strlen(name) > strlen(SET) + 9)
        return 0;
    unsigned long n = strtoul(name + strlen(SET), NULL, 10);
    set_name(again, (unsigned)n);
    return strcmp(name, again) == 0 ? (unsigned)n : 0;
}

unsigned set_current(int dir)
{
    char to[64];
    ssize_t n = readlinkat(dir, DATA, to, sizeof to - 1);
    if (n <= 0)
        return 0;
    to[n] = 0;
    return set_number(to);
}

static int folder_at(int dir, const char *name)
{
    return openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

int set_create(int dir, unsigned current, unsigned *n, struct err *e)
{
    char name[32];
    struct stat st;
    int fd, made = -1;
    *n = current;
    for (int i = 0; i < CREATE_TRIES && made < 0; i++) {
        *n = *n % 999999999 + 1;
        set_name(name, *n);
        made = mkdirat(dir, name, 0700);
        if (made < 0 && errno != EEXIST)
            break;
    }
    if (made < 0)
        return err_errno(e, errno == ENOSPC || errno == EDQUOT ? "out-space" : "out-write", "cannot make %s", name);
    fd = folder_at(dir, name);
    /* Whoever owns the folder might have put another in its place meanwhile. */
    if (fd >= 0 && fstat(fd, &st) == 0 && st.st_uid == geteuid() && (st.st_mode & 077) == 0)
        return fd;
    if (fd >= 0)
        close(fd);
    set_remove(dir, *n);
    return err_set(e, ERR_IO, "out-dir", "%s is not as it was just made: does somebody else write this folder?", name);
}

/* f for each name but "." and "..". */
static void each_name(int dir, void (*f)(int dir, const char *name, unsigned keep), unsigned keep)
{
    int fd = folder_at(dir, ".");
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d) {
        if (fd >= 0)
            close(fd);
        return;
    }
    for (int i = 0; i < SWEEP_MAX; i++) {
        struct dirent *x = readdir(d);
        if (!x)
            break;
        if (strcmp(x->d_name, ".") != 0 && strcmp(x->d_name, "..") != 0)
            f(dir, x->d_name, keep);
    }
    closedir(d);
}

static void remove_file(int dir, const char *name, unsigned ignored)
{
    unlinkat(dir, name, 0);
}

void set_remove(int dir, unsigned n)
{
    char name[32];
    set_name(name, n);
    int fd = folder_at(dir, name);
    if (fd < 0)
        return;
    each_name(fd, remove_file, 0);
    close(fd);
    unlinkat(dir, name, AT_REMOVEDIR);
}

static void sweep_one(int dir, const char *name, unsigned keep)
{
    unsigned n = set_number(name);
    if (n && n != keep)
        set_remove(dir, n);
}

void set_sweep(int dir, unsigned keep)
{
    unlinkat(dir, DATA_NEW, 0);
    links_drop(dir);
    each_name(dir, sweep_one, keep);
}

/* --- links ---------------------------------------------------------------------------------------- */

static void link_temp(char dst[64], const char *name)
{
    snprintf(dst, 64, ".%s.link", name);
}

static void link_target(char dst[64], const char *name)
{
    snprintf(dst, 64, DATA "/%s", name);
}

static bool link_is_ours(int dir, const char *name)
{
    char want[64], to[64];
    ssize_t n = readlinkat(dir, name, to, sizeof to);
    link_target(want, name);
    return n == (ssize_t)strlen(want) && memcmp(to, want, (size_t)n) == 0;
}

static int link_make(int dir, const char *to, const char *name, struct err *e)
{
    unlinkat(dir, name, 0);
    if (symlinkat(to, dir, name) == 0)
        return 0;
    return err_errno(e, errno == ENOSPC || errno == EDQUOT ? "out-space" : "out-write", "cannot make the link %s",
                     name);
}

int links_prepare(int dir, unsigned want, struct err *e)
{
    char temp[64], to[64];
    struct stat st;
    for (int i = 0; i < OUTPUT_NAMES; i++) {
        if (!(want & 1u << i) || link_is_ours(dir, output_names[i]))
            continue;
        if (fstatat(dir, output_names[i], &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode))
            return err_set(e, ERR_EXISTS, "out-dir", "%s is a folder: move it away", output_names[i]);
        link_temp(temp, output_names[i]);
        link_target(to, output_names[i]);
        if (link_make(dir, to, temp, e) < 0)
            return -1;
    }
    return 0;
}

void links_drop(int dir)
{
    char temp[64];
    for (int i = 0; i < OUTPUT_NAMES; i++) {
        link_temp(temp, output_names[i]);
        unlinkat(dir, temp, 0);
    }
}

/* A plain file of that name (of `mayfly-agent fetch`) is replaced by the link, each by one rename: until all
 * are, a reader may find a file of the old kind beside one of the new. This is so the first time only. */
static int link_place(int dir, const char *name, struct err *e)
{
    char temp[64];
    link_temp(temp, name);
    if (link_is_ours(dir, name) || renameat(dir, temp, dir, name) == 0)
        return 0;
    return err_errno(e, "out-write", "cannot put %s in place", name);
}

int set_swap(int dir, unsigned n, unsigned want, struct err *e)
{
    char name[32];
    int rc = 0;
    set_name(name, n);
    if (link_make(dir, name, DATA_NEW, e) < 0)
        return -1;
    if (renameat(dir, DATA_NEW, dir, DATA) < 0) {
        err_errno(e, "out-write", "cannot put the new set in place");
        unlinkat(dir, DATA_NEW, 0);
        return -1;
    }
    for (int i = 0; i < OUTPUT_NAMES && rc == 0; i++) {
        if (want & 1u << i)
            rc = link_place(dir, output_names[i], e);
        else if (link_is_ours(dir, output_names[i]))
            unlinkat(dir, output_names[i], 0);
    }
    return rc == 0 && fsync(dir) < 0 ? err_errno(e, "out-write", "cannot sync the folder") : rc;
}

/* What says that there is none, against what keeps us from looking. */
static int not_there(void)
{
    return errno == ENOENT || errno == ENOTDIR || errno == ELOOP || errno == EINVAL ? 0 : -1;
}

static int files_stand(int dir, int set, unsigned names)
{
    struct stat st;
    for (int i = 0; i < OUTPUT_NAMES; i++) {
        if (!(names & 1u << i))
            continue;
        errno = EINVAL; /* a link to elsewhere */
        if (!link_is_ours(dir, output_names[i]) || fstatat(set, output_names[i], &st, AT_SYMLINK_NOFOLLOW) < 0)
            return not_there();
        if (!S_ISREG(st.st_mode))
            return 0;
    }
    return 1;
}

int set_stands(int dir, const struct output_stamp *was)
{
    char name[32];
    struct stat st;
    errno = EINVAL;
    if (set_current(dir) != was->number)
        return not_there();
    set_name(name, was->number);
    int fd = folder_at(dir, name), rc = 0;
    if (fd < 0)
        return not_there();
    if (fstat(fd, &st) < 0)
        rc = -1;
    else if (st.st_dev == was->dev && st.st_ino == was->ino)
        rc = files_stand(dir, fd, was->names);
    close(fd);
    return rc;
}

void names_remove(int dir)
{
    for (int i = 0; i < OUTPUT_NAMES; i++)
        if (link_is_ours(dir, output_names[i]))
            unlinkat(dir, output_names[i], 0);
    if (set_current(dir))
        unlinkat(dir, DATA, 0);
    set_sweep(dir, 0);
    unlinkat(dir, FOLDER_LOCK, 0);
}
