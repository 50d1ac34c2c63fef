#include "base/log.h"
#include "base/sandbox.h"
#include "unit/base/scratch.h"
#include <arpa/inet.h>
#include <errno.h>
#include <grp.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>

/* Each case runs in a child, which enters the sandbox and does one thing; what it answers is its
 * exit code, and a forbidden call its death by SIGSYS. */
typedef int (*deed)(void);

#define SETUP_FAILED 99

static int run(int (*setup)(void), deed d)
{
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        log_setup("test", LOG_ERROR, LOG_TEXT);
        if (setup() < 0)
            _exit(SETUP_FAILED);
        _exit(d());
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void must_exit(int status, int code)
{
    if (!WIFEXITED(status))
        fail_msg("died of signal %d", WTERMSIG(status));
    assert_int_equal(WEXITSTATUS(status), code);
}

static char readable[128], writable[128], outside[128];

static int enter(enum sandbox_role role)
{
    const struct sandbox_path paths[] = {
        {readable, false, false},
        {writable, true, false},
        {"/nonexistent/optional", false, true},
    };
    struct err e = {0};
    if (sandbox_enter(role, paths, sizeof paths / sizeof *paths, &e) == 0)
        return 0;
    fprintf(stderr, "%s\n", e.msg);
    return -1;
}

static int as_signer(void)
{
    return enter(SANDBOX_SIGNER);
}

static int as_frontend(void)
{
    return enter(SANDBOX_FRONTEND);
}

static int as_notary(void)
{
    return enter(SANDBOX_NOTARY);
}

static int as_witness(void)
{
    return enter(SANDBOX_WITNESS);
}

static int make_folders(void **state)
{
    if (scratch_make(state) < 0)
        return -1;
    strcpy(readable, scratch_path("r"));
    strcpy(writable, scratch_path("w"));
    strcpy(outside, scratch_path("o"));
    if (mkdir(readable, 0700) < 0 || mkdir(writable, 0700) < 0 || mkdir(outside, 0700) < 0)
        return -1;
    scratch_write(scratch_path("r/f"), "r", 0600);
    scratch_write(scratch_path("w/f"), "w", 0600);
    scratch_write(scratch_path("o/f"), "o", 0600);
    return 0;
}

/* What kills. */
static int do_execve(void)
{
    char arg[] = "/bin/true", *argv[] = {arg, NULL}, *envp[] = {NULL};
    return execve(arg, argv, envp);
}
static int do_execveat(void)
{
    return (int)syscall(SYS_execveat, AT_FDCWD, "/bin/true", NULL, NULL, 0);
}
static int do_fork(void)
{
    return fork() == 0 ? 1 : 0;
}
static int do_raw_fork(void)
{
    return (int)syscall(SYS_fork);
}
static int do_namespace(void)
{
    return (int)syscall(SYS_clone, 0x10000 | 0x10000000 | SIGCHLD, NULL, NULL, NULL, NULL);
}
static int do_unshare(void)
{
    return (int)syscall(SYS_unshare, 0x10000000);
}
static int do_ptrace(void)
{
    return (int)ptrace(PTRACE_TRACEME, 0, NULL, NULL);
}
static int do_vm_read(void)
{
    char b = 0;
    struct iovec v = {&b, 1};
    return (int)process_vm_readv(getpid(), &v, 1, &v, 1, 0);
}
static int do_vm_write(void)
{
    char b = 0;
    struct iovec v = {&b, 1};
    return (int)process_vm_writev(getpid(), &v, 1, &v, 1, 0);
}
static int do_mount(void)
{
    return mount("none", "/mnt", "tmpfs", 0, NULL);
}
static int do_bpf(void)
{
    return (int)syscall(SYS_bpf, 0, NULL, 0);
}
static int do_keyctl(void)
{
    return (int)syscall(SYS_keyctl, 0, 0, 0, 0, 0);
}
static int do_add_key(void)
{
    return (int)syscall(SYS_add_key, "user", "x", "x", 1, -1);
}
static int do_io_uring(void)
{
    return (int)syscall(SYS_io_uring_setup, 1, NULL);
}
static int do_userfaultfd(void)
{
    return (int)syscall(SYS_userfaultfd, 0);
}
static int do_perf(void)
{
    return (int)syscall(SYS_perf_event_open, NULL, 0, -1, -1, 0);
}
static int do_setuid(void)
{
    return (int)syscall(SYS_setuid, 0);
}
static int do_chroot(void)
{
    return chroot("/");
}
static int do_symlink(void)
{
    return symlink("a", "b");
}
static int do_memfd(void)
{
    return (int)syscall(SYS_memfd_create, "x", 0);
}
static int do_seccomp(void)
{
    return (int)syscall(SYS_seccomp, 0, 0, NULL);
}
static int do_dumpable(void)
{
    return prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
}
static int do_kill_parent(void)
{
    return kill(getppid(), 0);
}
static int do_limit_of_parent(void)
{
    struct rlimit r;
    return prlimit(getppid(), RLIMIT_NOFILE, NULL, &r);
}
static int do_tiocsti(void)
{
    char c = 'x';
    return ioctl(0, TIOCSTI, &c);
}
static int do_inet(void)
{
    return socket(AF_INET, SOCK_STREAM, 0) >= 0 ? 0 : 1;
}
static int do_inet6(void)
{
    return socket(AF_INET6, SOCK_DGRAM, 0) >= 0 ? 0 : 1;
}
static int do_netlink_route(void)
{
    return socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0) >= 0 ? 0 : 1;
}
static int do_netlink_audit(void)
{
    return socket(AF_NETLINK, SOCK_RAW, 9) >= 0 ? 0 : 1;
}
static int do_packet(void)
{
    return socket(AF_PACKET, SOCK_RAW, 0) >= 0 ? 0 : 1;
}
static int do_vsock(void)
{
    return socket(AF_VSOCK, SOCK_STREAM, 0) >= 0 ? 0 : 1;
}
/* the upper half of an int argument is not looked at by the kernel, nor by the filter */
static int do_inet_disguised(void)
{
    return (int)syscall(SYS_socket, 0x100000000L | AF_INET, SOCK_STREAM, 0);
}

static const struct {
    const char *name;
    deed d;
    bool frontend_may;
} forbidden[] = {
    {"execve", do_execve, false},
    {"execveat", do_execveat, false},
    {"fork by libc", do_fork, false},
    {"fork", do_raw_fork, false},
    {"clone into a user namespace", do_namespace, false},
    {"unshare", do_unshare, false},
    {"ptrace", do_ptrace, false},
    {"process_vm_readv", do_vm_read, false},
    {"process_vm_writev", do_vm_write, false},
    {"mount", do_mount, false},
    {"bpf", do_bpf, false},
    {"keyctl", do_keyctl, false},
    {"add_key", do_add_key, false},
    {"io_uring_setup", do_io_uring, false},
    {"userfaultfd", do_userfaultfd, false},
    {"perf_event_open", do_perf, false},
    {"setuid", do_setuid, false},
    {"chroot", do_chroot, false},
    {"symlink", do_symlink, false},
    {"memfd_create", do_memfd, false},
    {"seccomp", do_seccomp, false},
    {"prctl(PR_SET_DUMPABLE)", do_dumpable, false},
    {"kill of another", do_kill_parent, false},
    {"prlimit of another", do_limit_of_parent, false},
    {"ioctl(TIOCSTI)", do_tiocsti, false},
    {"socket(AF_INET)", do_inet, true},
    {"socket(AF_INET6)", do_inet6, true},
    {"socket(AF_INET) disguised", do_inet_disguised, true},
    {"socket(AF_NETLINK, route)", do_netlink_route, true},
    {"socket(AF_NETLINK, audit)", do_netlink_audit, false},
    {"socket(AF_PACKET)", do_packet, false},
    {"socket(AF_VSOCK)", do_vsock, false},
};

static void check_forbidden(const char *name, int (*setup)(void), deed d)
{
    int status = run(setup, d);
    if (!WIFSIGNALED(status))
        fail_msg("%s: survived with %d", name, WEXITSTATUS(status));
    if (WTERMSIG(status) != SIGSYS)
        fail_msg("%s: died of signal %d", name, WTERMSIG(status));
}

static void test_forbidden_to_signer(void **state)
{
    for (size_t i = 0; i < sizeof forbidden / sizeof *forbidden; i++)
        check_forbidden(forbidden[i].name, as_signer, forbidden[i].d);
}

static void test_forbidden_to_frontend(void **state)
{
    for (size_t i = 0; i < sizeof forbidden / sizeof *forbidden; i++)
        if (!forbidden[i].frontend_may)
            check_forbidden(forbidden[i].name, as_frontend, forbidden[i].d);
}

static int do_listen(void)
{
    return listen(socket(AF_INET, SOCK_STREAM, 0), 1);
}

static int do_accept(void)
{
    return accept(socket(AF_INET, SOCK_STREAM, 0), NULL, NULL);
}

/* It asks, and is never asked. */
static void test_forbidden_to_notary(void **state)
{
    for (size_t i = 0; i < sizeof forbidden / sizeof *forbidden; i++)
        if (!forbidden[i].frontend_may)
            check_forbidden(forbidden[i].name, as_notary, forbidden[i].d);
    check_forbidden("listen", as_notary, do_listen);
    check_forbidden("accept", as_notary, do_accept);
}

/* What works. Each answers 0, or the number of the step that did not. */
static void *thread_body(void *arg)
{
    pthread_setname_np(pthread_self(), "worker");
    return arg;
}

static int do_threads(void)
{
    pthread_t t;
    void *out = NULL;
    int x;
    /* clone3 is said to be missing, so that clone's flags can be seen */
    if (syscall(SYS_clone3, NULL, 0) != -1 || errno != ENOSYS)
        return 1;
    if (pthread_create(&t, NULL, thread_body, &x) != 0)
        return 2;
    return pthread_join(t, &out) == 0 && out == &x ? 0 : 3;
}

static int do_daily_work(void)
{
    int fd = open(scratch_path("w/new"), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fd < 0 || fcntl(fd, F_SETLK, &lock) < 0 || ftruncate(fd, 65536) < 0)
        return 1;
    char *m = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (m == MAP_FAILED || pwrite(fd, "x", 1, 0) != 1 || fdatasync(fd) < 0 || m[0] != 'x')
        return 2;
    munmap(m, 65536);
    close(fd);
    if (rename(scratch_path("w/new"), scratch_path("w/moved")) < 0 ||
        mkdir(scratch_path("w/d"), 0700) < 0 ||
        rename(scratch_path("w/moved"), scratch_path("w/d/moved")) < 0 ||
        unlink(scratch_path("w/d/moved")) < 0 || rmdir(scratch_path("w/d")) < 0)
        return 3;
    int s[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, s) < 0 || send(s[0], "a", 1, 0) != 1)
        return 4;
    if (raise(SIGCHLD) != 0 || kill(getpid(), 0) < 0)
        return 5;
    return isatty(s[0]) ? 6 : 0;
}

static int do_unix_server(void)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof a.sun_path, "%s", scratch_path("w/sock"));
    int l = socket(AF_UNIX, SOCK_STREAM, 0), c = socket(AF_UNIX, SOCK_STREAM, 0);
    if (bind(l, (struct sockaddr *)&a, sizeof a) < 0 || listen(l, 1) < 0)
        return 1;
    if (connect(c, (struct sockaddr *)&a, sizeof a) < 0 || accept4(l, NULL, NULL, SOCK_CLOEXEC) < 0)
        return 2;
    return unlink(a.sun_path) == 0 ? 0 : 3;
}

static int do_tcp_server(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    int l = socket(AF_INET, SOCK_STREAM, 0), c = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(l, (struct sockaddr *)&a, n) < 0 || listen(l, 1) < 0 ||
        getsockname(l, (struct sockaddr *)&a, &n) < 0)
        return 1;
    return connect(c, (struct sockaddr *)&a, n) == 0 && accept(l, NULL, NULL) >= 0 ? 0 : 2;
}

static int do_abort(void)
{
    abort();
}

static void test_both_work(void **state)
{
    must_exit(run(as_signer, do_threads), 0);
    must_exit(run(as_frontend, do_threads), 0);
    must_exit(run(as_signer, do_daily_work), 0);
    must_exit(run(as_frontend, do_daily_work), 0);
    must_exit(run(as_signer, do_unix_server), 0);
    must_exit(run(as_frontend, do_tcp_server), 0);
    must_exit(run(as_frontend, do_netlink_route), 0);
    must_exit(run(as_notary, do_threads), 0);
    must_exit(run(as_notary, do_inet), 0);
    must_exit(run(as_notary, do_netlink_route), 0);
    must_exit(run(as_witness, do_tcp_server), 0);
    must_exit(run(as_witness, do_daily_work), 0);
    int status = run(as_signer, do_abort); /* a failed assertion is seen as one */
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

static int do_no_new_privs(void)
{
    FILE *f = fopen("/proc/self/status", "re");
    char line[256];
    int nnp = 0, filter = 0;
    while (f && fgets(line, sizeof line, f)) {
        nnp |= strcmp(line, "NoNewPrivs:\t1\n") == 0;
        filter |= strcmp(line, "Seccomp:\t2\n") == 0;
    }
    return f && nnp && filter && prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0 ? 0 : 1;
}

static void test_flags(void **state)
{
    must_exit(run(as_signer, do_no_new_privs), 0);
    must_exit(run(as_frontend, do_no_new_privs), 0);
}

/* Files. */
static bool opens(const char *name, int flags)
{
    int fd = open(scratch_path(name), flags | O_CLOEXEC, 0600);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

static int do_files(void)
{
    if (!opens("r/f", O_RDONLY) || !opens("w/f", O_RDWR) || !opens("w/f", O_RDWR | O_TRUNC) ||
        !opens("w/g", O_RDWR | O_CREAT))
        return 1;
    if (opens("o/f", O_RDONLY) || errno != EACCES)
        return 2;
    if (opens("o/new", O_RDWR | O_CREAT) || errno != EACCES)
        return 3;
    if (opens("r/f", O_RDWR) || errno != EACCES || opens("r/new", O_RDWR | O_CREAT))
        return 4;
    if (opens("r/../o/f", O_RDONLY) || opens("w/../o/f", O_RDONLY))
        return 5;
    if (unlink(scratch_path("r/f")) == 0 || unlink(scratch_path("o/f")) == 0)
        return 6;
    if (rename(scratch_path("w/f"), scratch_path("o/f")) == 0 ||
        rename(scratch_path("r/f"), scratch_path("w/h")) == 0)
        return 7;
    if (open("/etc/passwd", O_RDONLY) >= 0 || open("/proc/1/environ", O_RDONLY) >= 0)
        return 8;
    if (truncate(scratch_path("r/f"), 0) == 0)
        return 9;
    return open("/dev/null", O_RDWR) >= 0 && open("/proc/self/statm", O_RDONLY) >= 0 ? 0 : 10;
}

static bool have_landlock(void)
{
    return syscall(SYS_landlock_create_ruleset, NULL, 0, 1U) > 0;
}

static void test_files(void **state)
{
    if (!have_landlock())
        skip();
    must_exit(run(as_signer, do_files), 0);
    must_exit(run(as_frontend, do_files), 0);
    assert_int_equal(access(scratch_path("r/f"), F_OK), 0);
}

static int as_missing_path(void)
{
    const struct sandbox_path paths[] = {{"/nonexistent/needed", false, false}};
    struct err e = {0};
    if (sandbox_enter(SANDBOX_SIGNER, paths, 1, &e) == 0)
        return 0;
    return strcmp(e.rule, "sandbox-path") == 0 ? -1 : 0;
}

static int do_nothing(void)
{
    return 0;
}

static void test_missing_path(void **state)
{
    if (!have_landlock())
        skip();
    must_exit(run(as_missing_path, do_nothing), SETUP_FAILED);
}

static void *wait_for_ever(void *arg)
{
    for (;;)
        pause();
    return NULL;
}

static int as_threaded(void)
{
    pthread_t t;
    struct err e = {0};
    if (pthread_create(&t, NULL, wait_for_ever, NULL) != 0)
        return 0;
    if (sandbox_enter(SANDBOX_SIGNER, NULL, 0, &e) == 0)
        return 0;
    return strcmp(e.rule, "sandbox-threads") == 0 ? -1 : 0;
}

static void test_threads_before(void **state)
{
    must_exit(run(as_threaded, do_nothing), SETUP_FAILED);
}

/* Dropping root. */
static int drop_to_nobody(void)
{
    struct err e = {0};
    return sandbox_drop(65534, 65534, &e);
}

static int do_nobody(void)
{
    gid_t groups[4];
    uid_t r, ef, s;
    gid_t gr, ge, gs;
    struct err e = {0};
    if (getresuid(&r, &ef, &s) < 0 || r != 65534 || ef != 65534 || s != 65534)
        return 1;
    if (getresgid(&gr, &ge, &gs) < 0 || gr != 65534 || ge != 65534 || gs != 65534)
        return 2;
    if (getgroups(4, groups) != 1 || groups[0] != 65534)
        return 3;
    if (setuid(0) == 0 || setgid(0) == 0 || open(scratch_path("r/f"), O_RDONLY) >= 0)
        return 4;
    if (sandbox_drop(65534, 65534, &e) < 0) /* already there */
        return 5;
    return sandbox_drop(1, 1, &e) == -1 && strcmp(e.rule, "sandbox-user") == 0 ? 0 : 6;
}

static void test_drop(void **state)
{
    struct err e = {0};
    if (geteuid() != 0)
        skip();
    must_exit(run(drop_to_nobody, do_nobody), 0);
    assert_int_equal(sandbox_drop(0, 0, &e), -1);
    assert_string_equal(e.rule, "sandbox-user");
}

int main(void)
{
#ifdef MAYFLY_SANITIZED
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_drop)};
    print_message("sanitized build: confinement is not applied, so not tested\n");
    (void)test_forbidden_to_signer;
    (void)test_forbidden_to_frontend;
    (void)test_forbidden_to_notary;
    (void)test_both_work;
    (void)test_flags;
    (void)test_files;
    (void)test_missing_path;
    (void)test_threads_before;
#else
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forbidden_to_signer),
        cmocka_unit_test(test_forbidden_to_notary),
        cmocka_unit_test(test_forbidden_to_frontend),
        cmocka_unit_test(test_both_work),
        cmocka_unit_test(test_flags),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_missing_path),
        cmocka_unit_test(test_threads_before),
        cmocka_unit_test(test_drop),
    };
#endif
    return cmocka_run_group_tests(tests, make_folders, scratch_remove);
}
