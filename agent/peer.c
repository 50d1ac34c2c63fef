/* One process on the other end of a Unix socket, held.
 *
 * Which process: the kernel notes it when connect(2) is called (SO_PEERCRED, SO_PEERPIDFD), whoever writes to the
 * socket afterwards. A child that inherited the socket speaks in its parent's name.
 *
 * Held how: with SO_PEERPIDFD the kernel keeps that very process; its number can not be another's while it lives, so
 * /proc/PID, opened and then the pidfd found alive, is its folder. Without (before Linux 6.5) the folder is
 * opened by number, and a process that ended between connect and peer_open may have been followed by one of the
 * same number and owner: an owner that differs is noticed, the same owner's is not. From then on the folder's
 * handle holds the process: reading through it fails when it has ended.
 *
 * The same program: exec(2) keeps process, number and start time. What changes is the file behind /proc/PID/exe,
 * so its device and inode, noted at peer_open, are compared. Not noticed: exec of the same file (another script
 * under one interpreter), and an exec between connect and peer_open: a program of the same user may
 * connect, hand the socket to a child and become another program. So unix:path and unix:sha256
 * say what a user's process runs, and tell programs of one user apart only when they are not out to deceive.
 *
 * The same owner: effective uid and gid, now and at connect.
 */
#include "agent/peer.h"
#include "attest/attest.h"
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <poll.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif
#define NSS_MAX (1u << 20) /* bytes of one user's or group's record */

struct peer {
    struct ucred cred;
    int dir;   /* /proc/PID */
    int pidfd; /* -1: the kernel has none */
    uint64_t start;
    struct proc_exe exe; /* as it was opened */
};

/* --- holding -------------------------------------------------------------------------------------- */

static int gone(const struct peer *p, struct err *e)
{
    return err_set(e, ERR_NOT_FOUND, "peer-gone", "process %d has ended", (int)p->cred.pid);
}

/* A pidfd is readable when its process ended; also when it was not yet waited for. */
static bool pidfd_ended(const struct peer *p)
{
    struct pollfd q = {.fd = p->pidfd, .events = POLLIN};
    return p->pidfd >= 0 && poll(&q, 1, 0) != 0;
}

/* Absent is what an older kernel says (ENOPROTOOPT). Anything else means that there is no process any more, but for
 * our own want of a descriptor. */
static int pidfd_take(struct peer *p, int fd, struct err *e)
{
    socklen_t len = sizeof p->pidfd;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &p->pidfd, &len) == 0)
        return 0;
    p->pidfd = -1;
    if (errno == EMFILE || errno == ENFILE || errno == ENOMEM)
        return err_errno(e, "peer-proc", "cannot hold process %d", (int)p->cred.pid);
    return errno == ENOPROTOOPT ? 0 : gone(p, e);
}

static int cred_take(struct peer *p, int fd, struct err *e)
{
    socklen_t len = sizeof p->cred;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &p->cred, &len) < 0 || len != sizeof p->cred)
        return err_errno(e, "peer-foreign", "no credentials of the peer: not a Unix socket?");
    if (p->cred.pid <= 0)
        return err_set(e, ERR_UNAUTHORIZED, "peer-foreign",
                       "the peer's process is not in this PID namespace: run the agent where it sees its workloads "
                       "(the host's PID namespace)");
    return 0;
}

static bool same_exe(const struct proc_exe *a, const struct proc_exe *b)
{
    return a->known == b->known && a->dev_major == b->dev_major && a->dev_minor == b->dev_minor && a->ino == b->ino;
}

static int changed(const struct peer *p, const char *what, struct err *e)
{
    return err_set(e, ERR_UNAUTHORIZED, "peer-changed", "process %d %s since it connected", (int)p->cred.pid, what);
}

/* The process as it is now, if it is the one that connected. */
static int check(const struct peer *p, struct proc_now *now, struct err *e)
{
    if (proc_read(now, p->dir, e) < 0)
        return e->code == ERR_NOT_FOUND ? gone(p, e) : -1;
    if (pidfd_ended(p))
        return gone(p, e);
    if (now->stat.start != p->start) /* can not be, the handle being the process's: no other is believed */
        return gone(p, e);
    if (now->status.uid != p->cred.uid || now->status.gid != p->cred.gid)
        return changed(p, "changed its user or group", e);
    if (!same_exe(&now->exe, &p->exe))
        return changed(p, "became another program", e);
    return 0;
}

static int hold(struct peer *p, struct err *e)
{
    struct proc_now now;
    p->dir = proc_open(p->cred.pid, e);
    if (p->dir < 0)
        return -1;
    if (proc_read(&now, p->dir, e) < 0)
        return e->code == ERR_NOT_FOUND ? gone(p, e) : -1;
    p->start = now.stat.start;
    p->exe = now.exe;
    return check(p, &now, e);
}

struct peer *peer_open_how(int fd, bool pidfd, struct err *e)
{
    struct peer *p = calloc(1, sizeof *p);
    if (!p) {
        err_set(e, ERR_INTERNAL, "memory", "out of memory");
        return NULL;
    }
    p->dir = p->pidfd = -1;
    if (cred_take(p, fd, e) < 0 || (pidfd && pidfd_take(p, fd, e) < 0) || hold(p, e) < 0) {
        peer_free(p);
        return NULL;
    }
    return p;
}

struct peer *peer_open(int fd, struct err *e)
{
    return peer_open_how(fd, true, e);
}

void peer_free(struct peer *p)
{
    if (!p)
        return;
    if (p->dir >= 0)
        close(p->dir);
    if (p->pidfd >= 0)
        close(p->pidfd);
    free(p);
}

pid_t peer_pid(const struct peer *p)
{
    return p->cred.pid;
}

uid_t peer_uid(const struct peer *p)
{
    return p->cred.uid;
}

bool peer_has_pidfd(const struct peer *p)
{
    return p->pidfd >= 0;
}

bool peer_alive(struct peer *p)
{
    struct proc_now now;
    struct err e;
    return check(p, &now, &e) == 0;
}

/* --- telling -------------------------------------------------------------------------------------- */

/* A value that could not stand in an entry (empty, too long, other than printable ASCII) makes no selector; it is
 * never cut or mended into one that could. */
static void tell(struct peer_selectors *s, const char *type, const char *value)
{
    size_t type_len = strlen(type), len = strlen(value);
    if (s->n == PEER_SELECTORS_MAX || len == 0 || type_len + len >= ATTEST_SELECTOR_LEN)
        return;
    for (size_t i = 0; i < len; i++)
        if (value[i] < 0x20 || value[i] > 0x7e)
            return;
    char *text = malloc(type_len + len + 1);
    if (!text)
        return;
    memcpy(text, type, type_len);
    memcpy(text + type_len, value, len + 1);
    s->list[s->n++] = text;
}

static void tell_number(struct peer_selectors *s, const char *type, unsigned long v)
{
    char text[24];
    snprintf(text, sizeof text, "%lu", v);
    tell(s, type, text);
}

static void tell_user(struct peer_selectors *s, uid_t uid)
{
    struct passwd pw, *found = NULL;
    char *mem = malloc(NSS_MAX);
    if (mem && getpwuid_r(uid, &pw, mem, NSS_MAX, &found) == 0 && found)
        tell(s, "unix:user:", pw.pw_name);
    free(mem);
}

static void tell_group(struct peer_selectors *s, const char *type, gid_t gid)
{
    struct group gr, *found = NULL;
    char *mem = malloc(NSS_MAX);
    if (mem && getgrgid_r(gid, &gr, mem, NSS_MAX, &found) == 0 && found)
        tell(s, type, gr.gr_name);
    free(mem);
}

/* The path as this agent sees it: a process with mounts of its own can have any file at any path of its own, so
 * only a path at which the agent finds that very file is told. (A deleted file has none.) */
static void tell_path(struct peer_selectors *s, int dir, const struct proc_exe *exe)
{
    char path[PATH_MAX];
    struct statx st;
    ssize_t n = readlinkat(dir, "exe", path, sizeof path - 1);
    if (n <= 0 || (size_t)n == sizeof path - 1 || path[0] != '/' || !exe->known)
        return;
    path[n] = 0;
    if (statx(AT_FDCWD, path, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT | AT_SYMLINK_NOFOLLOW, STATX_INO, &st) == 0 &&
        st.stx_ino == exe->ino && st.stx_dev_major == exe->dev_major && st.stx_dev_minor == exe->dev_minor)
        tell(s, "unix:path:", path);
}

static void tell_hash(struct peer_selectors *s, int dir, const struct proc_exe *exe)
{
    uint8_t digest[32];
    char hex[HEX_LEN(32) + 1];
    if (peer_hash(digest, dir, exe) < 0)
        return;
    hex_encode(hex, digest, 32);
    tell(s, "unix:sha256:", hex);
}

static void tell_cgroup(struct peer_selectors *s, int dir)
{
    char *text = malloc(PEER_CGROUP_MAX);
    struct peer_cgroup *c = malloc(sizeof *c);
    long len = text && c ? proc_file(dir, "cgroup", text, PEER_CGROUP_MAX) : -1;
    if (len > 0) {
        peer_cgroup_parse(c, text, (size_t)len);
        tell(s, "systemd:unit:", c->unit);
        tell(s, "cgroup:path:", c->path);
        tell(s, "container:id:", c->container);
    }
    free(text);
    free(c);
}

/* What there is one of first: a list of groups that is too long loses groups. */
static void tell_all(struct peer_selectors *s, int dir, const struct proc_now *now)
{
    const struct proc_status *id = &now->status;
    tell_number(s, "unix:uid:", id->uid);
    tell_user(s, id->uid);
    tell_number(s, "unix:gid:", id->gid);
    tell_group(s, "unix:group:", id->gid);
    tell_path(s, dir, &now->exe);
    tell_hash(s, dir, &now->exe);
    tell_cgroup(s, dir);
    for (size_t i = 0; i < id->groups_count; i++) {
        tell_number(s, "unix:supplementary_gid:", id->groups[i]);
        tell_group(s, "unix:supplementary_group:", id->groups[i]);
    }
}

int peer_attest(struct peer *p, struct peer_selectors *out, struct err *e)
{
    struct proc_now now;
    out->n = 0;
    if (check(p, &now, e) < 0)
        return -1;
    tell_all(out, p->dir, &now);
    if (check(p, &now, e) < 0) {
        peer_selectors_free(out);
        return -1;
    }
    return 0;
}

void peer_selectors_free(struct peer_selectors *s)
{
    for (size_t i = 0; i < s->n; i++)
        free(s->list[i]);
    s->n = 0;
}

static bool has(const struct peer_selectors *s, const char *want)
{
    for (size_t i = 0; i < s->n; i++)
        if (strcmp(s->list[i], want) == 0)
            return true;
    return false;
}

bool peer_selectors_match(const struct peer_selectors *s, char *const *want, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!has(s, want[i]))
            return false;
    return n > 0;
}
