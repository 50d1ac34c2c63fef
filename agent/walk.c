/* Every name is opened relative to the folder before it and never followed by the kernel, so nothing that is
 * renamed meanwhile makes a difference. */
#include "agent/walk.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINKS_MAX 32

struct walk {
    char rest[PATH_MAX]; /* what is still to be walked */
    int at;              /* the folder it is relative to */
    int links;
};

static void close_quietly(int fd)
{
    int why = errno;
    if (fd >= 0)
        close(fd);
    errno = why;
}

static int move_to(struct walk *w, int fd)
{
    close_quietly(w->at);
    w->at = fd;
    return fd;
}

/* A folder of our own; not what somebody put in its place meanwhile. */
static int make_folder(int at, const char *name)
{
    struct stat st;
    if (mkdirat(at, name, 0755) < 0)
        return errno == EEXIST ? 0 : -1;
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int rc = fd < 0 || fstat(fd, &st) < 0 ? -1 : st.st_uid != geteuid() ? 0 : fchmod(fd, 0755);
    close_quietly(fd);
    return rc;
}

/* What the link says stands before the rest. */
static int follow(struct walk *w, int link, const struct stat *st, const char *rest)
{
    char whole[PATH_MAX];
    if ((st->st_uid != 0 && st->st_uid != geteuid()) || ++w->links > LINKS_MAX) {
        errno = ELOOP;
        return -1;
    }
    ssize_t n = readlinkat(link, "", whole, sizeof whole);
    if (n <= 0)
        return -1;
    if ((size_t)n + 1 + strlen(rest) >= sizeof whole) {
        errno = ENAMETOOLONG;
        return -1;
    }
    whole[n] = '/';
    strcpy(whole + n + 1, rest);
    if (!*rest)
        whole[n] = 0;
    strcpy(w->rest, whole);
    return *whole == '/' ? move_to(w, open("/", O_PATH | O_DIRECTORY | O_CLOEXEC)) : 0;
}

/* The first name of the rest. 1: *out is the path's end, opened; 0: go on; -1. */
static int step(struct walk *w, int flags, bool make, int *out)
{
    char name[NAME_MAX + 1];
    struct stat st;
    const char *p = w->rest + strspn(w->rest, "/");
    size_t len = strcspn(p, "/");
    const char *rest = p + len + strspn(p + len, "/");
    bool last = !*rest;
    if (len > NAME_MAX) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(name, len ? p : ".", len ? len : 1);
    name[len ? len : 1] = 0;
    int fd = openat(w->at, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT && make && make_folder(w->at, name) == 0)
        fd = openat(w->at, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return -1;
    if (fstat(fd, &st) == 0 && S_ISLNK(st.st_mode) && !(last && (flags & O_NOFOLLOW))) {
        int rc = follow(w, fd, &st, rest);
        close_quietly(fd);
        return rc < 0 ? -1 : 0;
    }
    if (last) {
        close(fd);
        if (S_ISLNK(st.st_mode))
            errno = ELOOP;
        else
            *out = openat(w->at, name, flags | O_NOFOLLOW | O_CLOEXEC);
        return S_ISLNK(st.st_mode) || *out < 0 ? -1 : 1;
    }
    memmove(w->rest, rest, strlen(rest) + 1);
    return move_to(w, fd) < 0 ? -1 : 0;
}

int walk_open(const char *path, int flags, bool make)
{
    struct walk w = {.links = 0};
    int out = -1, rc = 0;
    size_t n = strlen(path);
    if (n == 0 || n >= sizeof w.rest) {
        errno = n ? ENAMETOOLONG : ENOENT;
        return -1;
    }
    memcpy(w.rest, path, n + 1);
    w.at = open(*path == '/' ? "/" : ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (w.at < 0)
        return -1;
    while (rc == 0)
        rc = step(&w, flags, make, &out);
    close_quietly(w.at);
    return rc < 0 ? -1 : out;
}
