/* seccomp: which system calls a role may make. An allow list: what is not named kills the process,
 * so exec, ptrace, mount, bpf, keyctl, io_uring, userfaultfd and all that is invented later are out
 * by default. Names that the running libseccomp does not know are skipped (they can not be called
 * by a libc that does not know them either). */
#include "base/sandbox_parts.h"
#include <errno.h>
#include <sched.h>
#include <seccomp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* clang-format off */
static const char *const common[] = {
    /* files: the log, SoftHSM2's objects with their locks, SQLite with its WAL */
    "read", "write", "readv", "writev", "pread64", "pwrite64", "preadv", "pwritev", "preadv2",
    "pwritev2", "open", "openat", "close", "close_range", "lseek", "stat", "fstat", "lstat",
    "newfstatat", "statx", "statfs", "fstatfs", "access", "faccessat", "faccessat2", "readlink",
    "readlinkat", "getdents", "getdents64", "fcntl", "fadvise64", "umask", "getcwd", "dup", "dup2", "dup3", "pipe",
    "pipe2",
    /* memory */
    "brk", "mmap", "munmap", "mremap", "mprotect", "madvise", "msync", "mlock", "mlock2",
    "munlock", "membarrier",
    /* threads; clone is filtered below */
    "set_robust_list", "get_robust_list", "rseq", "set_tid_address", "arch_prctl", "futex",
    "gettid", "getpid", "getppid", "exit", "exit_group", "sched_yield", "sched_getaffinity",
    "sched_setaffinity", "sched_getparam", "sched_getscheduler", "sched_get_priority_max",
    "sched_get_priority_min", "restart_syscall",
    /* who and how much */
    "getuid", "geteuid", "getgid", "getegid", "getresuid", "getresgid", "getgroups", "getpgrp",
    "getpriority", "getrusage", "getrlimit", "times", "sysinfo", "uname", "getrandom", "getcpu",
    /* signals; kill and tgkill are filtered below */
    "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "rt_sigtimedwait", "rt_sigsuspend",
    "rt_sigpending", "sigaltstack", "signalfd4", "pause",
    /* time */
    "clock_gettime", "clock_getres", "gettimeofday", "time", "nanosleep", "clock_nanosleep",
    "timer_create", "timer_settime", "timer_gettime", "timer_getoverrun", "timer_delete",
    "timerfd_create", "timerfd_settime", "timerfd_gettime", "setitimer", "alarm",
    /* waiting, and sockets that exist; new sockets are filtered below */
    "poll", "ppoll", "select", "pselect6", "epoll_create", "epoll_create1", "epoll_ctl",
    "epoll_wait", "epoll_pwait", "epoll_pwait2", "eventfd2", "sendmsg", "recvmsg", "sendmmsg",
    "recvmmsg", "sendto", "recvfrom", "shutdown", "getsockname", "getpeername", "getsockopt",
    "setsockopt", "bind", "connect", "sendfile",
};
/* files that change: all but the proxy, which only reads */
static const char *const writing[] = {
    "flock", "fsync", "fdatasync", "syncfs", "sync_file_range", "truncate", "ftruncate", "fallocate",
    "mkdir", "mkdirat", "rmdir", "unlink", "unlinkat", "rename", "renameat", "renameat2", "link",
    "linkat", "chmod", "fchmod", "fchmodat", "fchown", "utimensat",
};
/* being asked: all but the notary, which asks */
static const char *const serving[] = {"accept", "accept4", "listen"};
/* clang-format on */

static int allow(scmp_filter_ctx ctx, const char *name, unsigned argc,
                 const struct scmp_arg_cmp *argv)
{
    int nr = seccomp_syscall_resolve_name(name);
    if (nr == __NR_SCMP_ERROR)
        return 0;
    /* An action for a call that this architecture lacks: nothing to allow. */
    int r = seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, nr, argc, argv);
    return r == -EDOM ? 0 : r;
}

/* Arguments that the kernel takes as int are compared as such: the upper half is the caller's. */
static int allow_int(scmp_filter_ctx ctx, const char *name, unsigned arg, uint32_t value)
{
    const struct scmp_arg_cmp is = SCMP_CMP64(arg, SCMP_CMP_MASKED_EQ, 0xffffffff, value);
    return allow(ctx, name, 1, &is);
}

static int allow_common(scmp_filter_ctx ctx, enum sandbox_role role)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < sizeof common / sizeof *common; i++)
        r = allow(ctx, common[i], 0, NULL);
    for (size_t i = 0; r == 0 && role != SANDBOX_PROXY && i < sizeof writing / sizeof *writing; i++)
        r = allow(ctx, writing[i], 0, NULL);
    for (size_t i = 0; r == 0 && role != SANDBOX_NOTARY && i < sizeof serving / sizeof *serving; i++)
        r = allow(ctx, serving[i], 0, NULL);
    return r;
}

/* New threads, no new processes and no new namespaces. The flags of clone3 lie in memory where no
 * filter sees them, so it is said to be missing and glibc falls back to clone. */
static int allow_threads(scmp_filter_ctx ctx)
{
    const uint64_t spaces = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC |
                            CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET;
    const struct scmp_arg_cmp thread =
        SCMP_CMP64(0, SCMP_CMP_MASKED_EQ, spaces | CLONE_THREAD, CLONE_THREAD);
    int r = allow(ctx, "clone", 1, &thread);
    if (r == 0)
        r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
    return r;
}

/* To itself only: abort, pthread_cancel, and SIGKILL of a fault point. */
static int allow_own_signals(scmp_filter_ctx ctx)
{
    uint32_t self = (uint32_t)getpid();
    int r = allow_int(ctx, "kill", 0, self);
    return r == 0 ? allow_int(ctx, "tgkill", 0, self) : r;
}

static int allow_own_settings(scmp_filter_ctx ctx)
{
    static const uint32_t settings[] = {PR_SET_NAME, PR_GET_NAME, PR_GET_DUMPABLE, PR_SET_VMA};
    static const uint32_t requests[] = {TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO};
    int r = allow_int(ctx, "prlimit64", 0, 0);
    if (r == 0)
        r = allow_int(ctx, "prlimit64", 0, (uint32_t)getpid());
    for (size_t i = 0; r == 0 && i < sizeof settings / sizeof *settings; i++)
        r = allow_int(ctx, "prctl", 0, settings[i]);
    for (size_t i = 0; r == 0 && i < sizeof requests / sizeof *requests; i++)
        r = allow_int(ctx, "ioctl", 1, requests[i]);
    return r;
}

/* The signer speaks over Unix sockets alone. The others have TCP and UDP besides (names are
 * resolved over UDP), and ask netlink which addresses the host has, as getaddrinfo does. */
static int allow_sockets(scmp_filter_ctx ctx, enum sandbox_role role)
{
    const struct scmp_arg_cmp routes[] = {SCMP_CMP64(0, SCMP_CMP_MASKED_EQ, 0xffffffff, AF_NETLINK),
                                          SCMP_CMP64(2, SCMP_CMP_MASKED_EQ, 0xffffffff, 0)};
    int r = allow_int(ctx, "socket", 0, AF_UNIX);
    if (r == 0)
        r = allow_int(ctx, "socketpair", 0, AF_UNIX);
    if (role == SANDBOX_SIGNER)
        return r;
    if (r == 0)
        r = allow_int(ctx, "socket", 0, AF_INET);
    if (r == 0)
        r = allow_int(ctx, "socket", 0, AF_INET6);
    return r == 0 ? allow(ctx, "socket", 2, routes) : r;
}

static int set_attributes(scmp_filter_ctx ctx)
{
    int r = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
    if (r == 0)
        r = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_NNP, 1);
    if (r == 0)
        r = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_TSYNC, 1);
    if (r == 0) /* a binary tree instead of a list: the filter runs on every call */
        r = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    return r;
}

int sandbox_seccomp(enum sandbox_role role, struct err *e)
{
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_KILL_PROCESS);
    if (!ctx)
        return err_set(e, ERR_INTERNAL, "sandbox-seccomp", "cannot make a seccomp filter");
    int r = set_attributes(ctx);
    if (r == 0)
        r = allow_common(ctx, role);
    if (r == 0)
        r = allow_threads(ctx);
    if (r == 0)
        r = allow_own_signals(ctx);
    if (r == 0)
        r = allow_own_settings(ctx);
    if (r == 0)
        r = allow_sockets(ctx, role);
    if (r == 0)
        r = seccomp_load(ctx);
    seccomp_release(ctx);
    if (r == 0)
        return 0;
    errno = -r;
    err_errno(e, "sandbox-seccomp",
              "cannot apply the seccomp filter; the kernel needs "
              "CONFIG_SECCOMP_FILTER");
    return -1;
}
