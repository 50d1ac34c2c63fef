/* /proc/PID, read through one handle. The handle belongs to the process, not to the number: reading through it
 * fails (ESRCH) when the process is gone, also when another has its number by then. */
#include "agent/peer.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Digits and nothing else up to `stop`; *p is moved behind it. */
static int number(const char **p, const char *end, uint64_t max, uint64_t *v)
{
    const char *s = *p;
    uint64_t n = 0;
    while (s < end && *s >= '0' && *s <= '9') {
        unsigned digit = (unsigned)(*s++ - '0');
        if (n > (max - digit) / 10)
            return -1;
        n = n * 10 + digit;
    }
    if (s == *p)
        return -1;
    *p = s;
    *v = n;
    return 0;
}

/* proc(5): (1) pid (2) (comm) (3) state … (22) starttime, single blanks between. */
int proc_stat_parse(struct proc_stat *s, const char *text, size_t len)
{
    const char *end = text + len, *p = memrchr(text, ')', len);
    if (!p || end - p < 4 || p[1] != ' ' || p[3] != ' ')
        return -1;
    s->state = p[2];
    p += 3; /* the blank before field 4 */
    for (int field = 4; field <= 22; field++) {
        p = memchr(p, ' ', (size_t)(end - p));
        if (!p)
            return -1;
        p++;
    }
    if (number(&p, end, UINT64_MAX, &s->start) < 0 || p >= end || (*p != ' ' && *p != '\n'))
        return -1;
    return s->state >= 'A' && s->state <= 'z' ? 0 : -1;
}

/* The values of the line that starts with `name`; the kernel escapes newlines in the process's own name. */
static const char *line_of(const char *text, const char *end, const char *name, const char **line_end)
{
    size_t n = strlen(name);
    for (const char *p = text; p < end;) {
        const char *nl = memchr(p, '\n', (size_t)(end - p));
        if ((size_t)(end - p) > n && memcmp(p, name, n) == 0) {
            *line_end = nl ? nl : end;
            return p + n;
        }
        if (!nl)
            break;
        p = nl + 1;
    }
    return NULL;
}

static int id_next(const char **p, const char *end, uint32_t *id)
{
    uint64_t v;
    while (*p < end && (**p == '\t' || **p == ' '))
        ++*p;
    if (number(p, end, UINT32_MAX, &v) < 0 || *p == end)
        return -1; /* at the very end: perhaps cut off */
    if (**p != '\t' && **p != ' ' && **p != '\n')
        return -1;
    *id = (uint32_t)v;
    return 0;
}

/* "Uid: real effective saved filesystem": the second is what SO_PEERCRED told. */
static int effective(const char *text, const char *end, const char *name, uint32_t *id)
{
    const char *stop, *p = line_of(text, end, name, &stop);
    uint32_t ignored;
    if (!p || stop == end) /* cut off */
        return -1;
    return id_next(&p, stop + 1, &ignored) < 0 || id_next(&p, stop + 1, id) < 0 ? -1 : 0;
}

int proc_status_parse(struct proc_status *s, const char *text, size_t len)
{
    const char *end = text + len, *stop;
    s->groups_count = 0;
    if (effective(text, end, "Uid:", &s->uid) < 0 || effective(text, end, "Gid:", &s->gid) < 0)
        return -1;
    const char *p = line_of(text, end, "Groups:", &stop);
    if (!p)
        return 0;
    stop += stop < end; /* with its newline */
    while (s->groups_count < PEER_GROUPS_MAX && id_next(&p, stop, &s->groups[s->groups_count]) == 0)
        s->groups_count++;
    return 0;
}

/* A /proc of another PID namespace (a host's, mounted into a container) has other processes under the
 * numbers that SO_PEERCRED tells us. */
static bool proc_is_ours(void)
{
    char self[24], want[24];
    ssize_t n = readlink("/proc/self", self, sizeof self - 1);
    if (n <= 0)
        return false;
    self[n] = 0;
    snprintf(want, sizeof want, "%d", (int)getpid());
    return strcmp(self, want) == 0;
}

int proc_open(pid_t pid, struct err *e)
{
    char path[32];
    if (!proc_is_ours())
        return err_set(e, ERR_CONFIG, "peer-proc",
                       "/proc is not the one of this process's PID namespace: mount a proc file system at /proc");
    snprintf(path, sizeof path, "/proc/%d", (int)pid);
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd >= 0)
        return fd;
    if (errno == ENOENT || errno == ESRCH)
        return err_set(e, ERR_NOT_FOUND, "peer-gone", "process %d has ended", (int)pid);
    return err_errno(e, "peer-proc", "cannot open %s (is /proc mounted with hidepid?)", path);
}

long proc_file(int dir, const char *name, char *dst, size_t max)
{
    size_t len = 0;
    int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return -1;
    while (len < max) {
        ssize_t n = read(fd, dst + len, max - len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            int why = errno;
            close(fd);
            errno = why;
            return -1;
        }
        if (n == 0)
            break;
        len += (size_t)n;
    }
    close(fd);
    return (long)len;
}

/* AT_STATX_DONT_SYNC: nobody is asked who could let us wait, as a user's own file system could. */
static void exe_read(struct proc_exe *x, int dir)
{
    struct statx st;
    *x = (struct proc_exe){0};
    if (statx(dir, "exe", AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, STATX_INO | STATX_TYPE, &st) < 0 ||
        !(st.stx_mask & STATX_INO))
        return;
    *x = (struct proc_exe){true, st.stx_dev_major, st.stx_dev_minor, st.stx_ino};
}

int proc_read(struct proc_now *n, int dir, struct err *e)
{
    char text[PEER_STATUS_MAX];
    long len = proc_file(dir, "stat", text, PEER_STAT_MAX);
    if (len < 0)
        return err_set(e, ERR_NOT_FOUND, "peer-gone", "the process has ended");
    if (proc_stat_parse(&n->stat, text, (size_t)len) < 0)
        return err_set(e, ERR_INTERNAL, "peer-proc", "/proc/PID/stat is of an unknown form");
    if (strchr("ZXx", n->stat.state))
        return err_set(e, ERR_NOT_FOUND, "peer-gone", "the process has ended");
    len = proc_file(dir, "status", text, sizeof text);
    if (len < 0)
        return err_set(e, ERR_NOT_FOUND, "peer-gone", "the process has ended");
    if (proc_status_parse(&n->status, text, (size_t)len) < 0)
        return err_set(e, ERR_INTERNAL, "peer-proc", "/proc/PID/status is of an unknown form");
    exe_read(&n->exe, dir);
    return 0;
}
