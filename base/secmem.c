#include "base/secmem.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static size_t page_size(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

static size_t round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

/* The mapping of a secret of this capacity: guard page, data pages, guard page. The secret sits at
 * the end of the data, so that an overrun meets the guard within 15 bytes. */
static size_t data_size(size_t cap)
{
    return round_up(cap, page_size());
}

static size_t data_offset(size_t cap)
{
    return data_size(cap) - round_up(cap, 16);
}

int secret_new(struct secret *s, size_t cap, struct err *e)
{
    *s = (struct secret){0};
    if (cap == 0 || cap > 1 << 20)
        return err_set(e, ERR_INTERNAL, "secret-memory", "secret of %zu bytes asked for", cap);
    size_t page = page_size(), data = data_size(cap), total = data + 2 * page;
    uint8_t *base = mmap(NULL, total, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED)
        return err_errno(e, "secret-memory", "cannot map memory for a secret");
    if (mprotect(base + page, data, PROT_READ | PROT_WRITE) < 0) {
        err_errno(e, "secret-memory", "cannot open memory for a secret");
        goto fail;
    }
    if (mlock(base + page, data) < 0) {
        err_errno(e, "secret-memory",
                  "cannot lock a secret against swap; raise the memlock limit (ulimit -l, or "
                  "LimitMEMLOCK= in the unit)");
        goto fail;
    }
    if (madvise(base + page, data, MADV_DONTDUMP) < 0 ||
        madvise(base + page, data, MADV_WIPEONFORK) < 0) {
        err_errno(e, "secret-memory", "cannot keep a secret out of core dumps and forks");
        goto fail;
    }
    s->p = base + page + data_offset(cap);
    s->cap = cap;
    return 0;
fail:
    munmap(base, total);
    return -1;
}

void secret_free(struct secret *s)
{
    if (s->p) {
        size_t page = page_size(), data = data_size(s->cap);
        uint8_t *start = s->p - data_offset(s->cap);
        secret_wipe(start, data);
        munmap(start - page, data + 2 * page);
    }
    *s = (struct secret){0};
}

int secret_read_fd(struct secret *s, int fd, size_t cap, struct err *e)
{
    /* Two bytes more than asked: one for the newline, one to notice that there is too much. */
    struct secret in;
    *s = (struct secret){0};
    if (secret_new(&in, cap + 2, e) < 0)
        return -1;
    while (in.len < in.cap) {
        ssize_t n = read(fd, in.p + in.len, in.cap - in.len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            err_errno(e, "secret-read", "cannot read the secret from descriptor %d", fd);
            secret_free(&in);
            return -1;
        }
        if (n == 0)
            break;
        in.len += (size_t)n;
    }
    if (in.len > 0 && in.p[in.len - 1] == '\n')
        in.p[--in.len] = 0;
    if (in.len > cap || in.len == 0) {
        int empty = in.len == 0;
        secret_free(&in);
        return err_set(e, empty ? ERR_MALFORMED : ERR_TOO_LARGE, "secret-size",
                       empty ? "the secret is empty" : "the secret is longer than %zu bytes", cap);
    }
    *s = in;
    return 0;
}

/* Systemd credentials are 0440 root:root for a service of another user (by ACL, which shows in the
 * group bits), hence the exception for reading by group 0. */
static int check_mode(const struct stat *st, const char *path, struct err *e)
{
    mode_t others = st->st_mode & 077;
    if (others == S_IRGRP && st->st_gid == 0)
        others = 0;
    if (!S_ISREG(st->st_mode))
        return err_set(e, ERR_CONFIG, "secret-mode", "%s is not a regular file", path);
    if (others)
        return err_set(e, ERR_CONFIG, "secret-mode",
                       "%s has mode %03o: a secret must be closed to others; run chmod 600", path,
                       (unsigned)st->st_mode & 0777);
    if (st->st_uid != geteuid() && st->st_uid != 0)
        return err_set(e, ERR_CONFIG, "secret-mode",
                       "%s belongs to user %u, neither to this process (%u) nor to root", path,
                       (unsigned)st->st_uid, (unsigned)geteuid());
    return 0;
}

int secret_read_file(struct secret *s, const char *path, size_t cap, struct err *e)
{
    struct stat st;
    *s = (struct secret){0};
    /* Not blocking, so that a FIFO put in the file's place is refused rather than waited for. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0) {
        int missing = errno == ENOENT;
        err_errno(e, "secret-read", "cannot open %s", path);
        if (missing)
            e->code = ERR_NOT_FOUND;
        return -1;
    }
    int r = fstat(fd, &st) < 0 ? err_errno(e, "secret-read", "cannot examine %s", path)
                               : check_mode(&st, path, e);
    if (r == 0 && (r = secret_read_fd(s, fd, cap, e)) < 0)
        err_wrap(e, "%s", path);
    close(fd);
    return r;
}

void secret_wipe(void *p, size_t n)
{
    if (n)
        explicit_bzero(p, n);
}
