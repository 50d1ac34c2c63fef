/* Real processes on the other end of a real socket: they exec, exit, change their user, and are followed by
 * others of the same number. Each test runs with the kernel's pidfd and as on a kernel that has none. */
#include "agent/peer.h"
#include "unit/base/scratch.h"
#include "base/thread.h"
#include <errno.h>
#include <grp.h>
#include <openssl/evp.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

/* --- a child that connects, and does as told: one letter at a time --------------------------------- */

struct child {
    pid_t pid;
    int tell, heard; /* pipes to it and from it */
    int fd;          /* our end of its connection */
};

static int listener(struct sockaddr_un *a)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    *a = (struct sockaddr_un){.sun_family = AF_UNIX};
    snprintf(a->sun_path, sizeof a->sun_path, "%s/s", scratch);
    unlink(a->sun_path);
    assert_int_equal(bind(fd, (void *)a, sizeof *a), 0);
    assert_int_equal(chmod(a->sun_path, 0777), 0);
    assert_int_equal(listen(fd, 4), 0);
    return fd;
}

static void child_act(char c)
{
    if (c == 'q')
        _exit(0);
    if (c == 'x')
        execl("/bin/sleep", "sleep", "1000", (char *)NULL);
    if (c == 'u' && setresuid(12345, 12345, 12345) < 0)
        _exit(1);
    if (c == 'g' && setresgid(12345, 12345, 12345) < 0)
        _exit(1);
    if (c == 'y')
        execl(scratch_path("gone"), "sleep", "1000", (char *)NULL);
    if (c == 'n')
        execl(scratch_path("new\nline"), "sleep", "1000", (char *)NULL);
}

static void child_run(const struct sockaddr_un *a, int in, int out)
{
    char c;
    int fd = socket(AF_UNIX, SOCK_STREAM, 0); /* not closed by exec */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (connect(fd, (const void *)a, sizeof *a) < 0)
        _exit(1);
    for (ssize_t n; (n = read(in, &c, 1)) == 1;) {
        child_act(c);
        if (write(out, &c, 1) != 1)
            _exit(1);
    }
    _exit(0);
}

static struct child child_start(void)
{
    struct sockaddr_un a;
    struct child k;
    int listening = listener(&a), in[2], out[2];
    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    k.pid = fork();
    if (k.pid == 0) {
        close(in[1]);
        child_run(&a, in[0], out[1]);
    }
    close(in[0]);
    close(out[1]);
    k.tell = in[1];
    k.heard = out[0];
    k.fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
    assert_true(k.fd >= 0);
    close(listening);
    return k;
}

static void child_do(struct child *k, char c)
{
    char back;
    assert_int_equal(write(k->tell, &c, 1), 1);
    assert_int_equal(read(k->heard, &back, 1), strchr("xynq", c) ? 0 : 1); /* exec and exit close the pipe */
}

static void child_end(struct child *k)
{
    kill(k->pid, SIGKILL);
    while (waitpid(k->pid, NULL, 0) < 0 && errno == EINTR)
        ;
    close(k->tell);
    close(k->heard);
    close(k->fd);
}

static const bool both_ways[] = {true, false};
#define WAYS(w) for (const bool *w = both_ways; w < both_ways + 2; w++)

static bool __attribute__((format(printf, 2, 3))) has(const struct peer_selectors *s, const char *fmt, ...)
{
    char text[4200];
    char *want = text;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return peer_selectors_match(s, &want, 1);
}

static bool has_kind(const struct peer_selectors *s, const char *start)
{
    for (size_t i = 0; i < s->n; i++)
        if (strncmp(s->list[i], start, strlen(start)) == 0)
            return true;
    return false;
}

/* --- what is told ------------------------------------------------------------------------------------ */

static void file_sha256(char hex[65], const char *path)
{
    uint8_t digest[32], chunk[65536];
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    int fd = open(path, O_RDONLY);
    EVP_DigestInit_ex(ctx, EVP_sha256(), NULL);
    for (ssize_t n; (n = read(fd, chunk, sizeof chunk)) > 0;)
        EVP_DigestUpdate(ctx, chunk, (size_t)n);
    EVP_DigestFinal_ex(ctx, digest, NULL);
    EVP_MD_CTX_free(ctx);
    close(fd);
    hex_encode(hex, digest, 32);
}

static void tells(void **state)
{
    char self[512], hex[65];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    assert_true(n > 0);
    self[n] = 0;
    file_sha256(hex, self);
    const struct passwd *pw = getpwuid(geteuid());
    WAYS(w)
    {
        struct child k = child_start();
        struct peer_selectors s;
        struct err e;
        struct peer *p = peer_open_how(k.fd, *w, &e);
        assert_non_null(p);
        assert_int_equal(peer_pid(p), k.pid);
        assert_int_equal(peer_uid(p), geteuid());
        assert_int_equal(peer_attest(p, &s, &e), 0);
        assert_true(has(&s, "unix:uid:%u", geteuid()));
        assert_true(has(&s, "unix:gid:%u", getegid()));
        assert_true(!pw || has(&s, "unix:user:%s", pw->pw_name));
        assert_true(has(&s, "unix:path:%s", self));
        assert_true(has(&s, "unix:sha256:%s", hex));
        assert_true(has_kind(&s, "cgroup:path:/"));
        assert_true(peer_alive(p));
        peer_selectors_free(&s);
        assert_int_equal(s.n, 0);
        peer_free(p);
        child_end(&k);
    }
}

static void ourselves(void **state)
{
    int pair[2];
    struct err e;
    struct peer_selectors s;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    struct peer *p = peer_open(pair[0], &e);
    assert_non_null(p);
    assert_int_equal(peer_pid(p), getpid());
    gid_t groups[PEER_GROUPS_MAX];
    int n = getgroups(PEER_GROUPS_MAX, groups);
    assert_int_equal(peer_attest(p, &s, &e), 0);
    for (int i = 0; i < n && s.n + 2 < PEER_SELECTORS_MAX; i++)
        assert_true(has(&s, "unix:supplementary_gid:%u", groups[i]));
    peer_selectors_free(&s);
    peer_free(p);
    close(pair[0]);
    close(pair[1]);
    p = peer_open(0, &e);
    assert_null(p);
    assert_string_equal(e.rule, "peer-foreign");
}

/* This kernel has it, or it has not: the probe must come to the same. */
static void probes_pidfd(void **state)
{
    struct child k = child_start();
    struct err e;
    int raw = -1;
    socklen_t len = sizeof raw;
    bool kernel = getsockopt(k.fd, SOL_SOCKET, 77 /* SO_PEERPIDFD */, &raw, &len) == 0;
    struct peer *with = peer_open(k.fd, &e), *without = peer_open_how(k.fd, false, &e);
    assert_non_null(with);
    assert_non_null(without);
    assert_int_equal(peer_has_pidfd(with), kernel);
    assert_false(peer_has_pidfd(without));
    close(raw);
    peer_free(with);
    peer_free(without);
    child_end(&k);
}

/* --- what happens between connect and answer ----------------------------------------------------------- */

static void exits_before_open(void **state)
{
    WAYS(w)
    {
        struct child k = child_start();
        struct err e;
        child_do(&k, 'q');
        siginfo_t si; /* has exited for certain, and is a zombie still */
        assert_int_equal(waitid(P_PID, (id_t)k.pid, &si, WEXITED | WNOWAIT), 0);
        assert_null(peer_open_how(k.fd, *w, &e));
        assert_string_equal(e.rule, "peer-gone");
        assert_int_equal(waitpid(k.pid, NULL, 0), k.pid);
        assert_null(peer_open_how(k.fd, *w, &e)); /* and waited for */
        assert_string_equal(e.rule, "peer-gone");
        child_end(&k);
    }
}

static void exits_after_open(void **state)
{
    WAYS(w)
    {
        struct child k = child_start();
        struct peer_selectors s;
        struct err e;
        struct peer *p = peer_open_how(k.fd, *w, &e);
        assert_non_null(p);
        child_do(&k, 'q');
        siginfo_t si;
        assert_int_equal(waitid(P_PID, (id_t)k.pid, &si, WEXITED | WNOWAIT), 0);
        assert_false(peer_alive(p));
        assert_int_equal(waitpid(k.pid, NULL, 0), k.pid);
        assert_false(peer_alive(p));
        assert_int_equal(peer_attest(p, &s, &e), -1);
        assert_string_equal(e.rule, "peer-gone");
        assert_int_equal(s.n, 0);
        peer_free(p);
        child_end(&k);
    }
}

static void becomes_another_program(void **state)
{
    WAYS(w)
    {
        struct child k = child_start();
        struct peer_selectors s;
        struct err e;
        struct peer *p = peer_open_how(k.fd, *w, &e);
        assert_non_null(p);
        assert_int_equal(peer_attest(p, &s, &e), 0);
        peer_selectors_free(&s);
        child_do(&k, 'x');
        assert_false(peer_alive(p));
        assert_int_equal(peer_attest(p, &s, &e), -1);
        assert_string_equal(e.rule, "peer-changed");
        peer_free(p);
        child_end(&k);
    }
}

static void changes_owner(void **state)
{
    if (geteuid() != 0)
        skip();
    for (const char *how = "ug"; *how; how++)
        WAYS(w)
        {
            struct child k = child_start();
            struct peer_selectors s;
            struct err e;
            struct peer *p = peer_open_how(k.fd, *w, &e);
            assert_non_null(p);
            child_do(&k, *how);
            assert_false(peer_alive(p));
            assert_int_equal(peer_attest(p, &s, &e), -1);
            assert_string_equal(e.rule, "peer-changed");
            struct peer *late = peer_open_how(k.fd, *w, &e); /* as it is now it is not who connected either */
            assert_null(late);
            assert_string_equal(e.rule, "peer-changed");
            peer_free(p);
            child_end(&k);
        }
}

/* Another user's process whose /proc we may not look into: no path, no digest, but an owner. */
static void another_users(void **state)
{
    if (geteuid() != 0)
        skip();
    pid_t pid = fork();
    if (pid == 0) {
        /* the child of this child stays root and is the peer; its parent looks at it as somebody */
        struct child k = child_start();
        struct peer_selectors s;
        struct err e;
        if (setgroups(0, NULL) < 0 || setresgid(12345, 12345, 12345) < 0 || setresuid(12345, 12345, 12345) < 0)
            _exit(2);
        struct peer *p = peer_open(k.fd, &e);
        if (!p || peer_attest(p, &s, &e) < 0)
            _exit(3);
        bool good = has(&s, "unix:uid:0") && !has_kind(&s, "unix:path:") && !has_kind(&s, "unix:sha256:");
        _exit(good ? 0 : 4);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

/* --- numbers used again: in a PID namespace of our own, where the next number can be set ------------------ */

static int next_pid(pid_t pid)
{
    char text[16];
    int fd = open("/proc/sys/kernel/ns_last_pid", O_WRONLY), n = snprintf(text, sizeof text, "%d", (int)pid - 1);
    bool good = fd >= 0 && write(fd, text, (size_t)n) == n;
    close(fd);
    return good ? 0 : -1;
}

static void namespace_init(void)
{
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 || mount("proc", "/proc", "proc", 0, NULL) < 0)
        _exit(77);
    WAYS(w)
    {
        struct child first = child_start(), other;
        struct peer_selectors s;
        struct err e;
        struct peer *held = peer_open_how(first.fd, *w, &e);
        if (!held)
            _exit(2);
        kill(first.pid, SIGKILL);
        if (waitpid(first.pid, NULL, 0) != first.pid || next_pid(first.pid) < 0)
            _exit(77);
        other = child_start(); /* a listener of its own: first.fd is still there */
        if (other.pid != first.pid)
            _exit(77);
        if (peer_alive(held) || peer_attest(held, &s, &e) == 0 || strcmp(e.rule, "peer-gone") != 0)
            _exit(3);
        peer_free(held);
        /* connected, ended, followed, and only then opened: what the pidfd alone can tell */
        struct peer *late = peer_open_how(first.fd, *w, &e);
        if (*w && (late || strcmp(e.rule, "peer-gone") != 0))
            _exit(4);
        peer_free(late);
        child_do(&other, 'u');
        if (peer_open_how(first.fd, *w, &e) != NULL) /* an owner that differs is noticed without it */
            _exit(5);
        child_end(&other);
    }
    _exit(0);
}

static void number_used_again(void **state)
{
    int status;
    pid_t outer = fork();
    if (outer == 0) {
        if (unshare(CLONE_NEWPID | CLONE_NEWNS) < 0)
            _exit(77);
        pid_t inner = fork();
        if (inner == 0)
            namespace_init();
        if (waitpid(inner, &status, 0) != inner || !WIFEXITED(status))
            _exit(1);
        _exit(WEXITSTATUS(status));
    }
    assert_int_equal(waitpid(outer, &status, 0), outer);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77)
        skip();
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* A peer outside our PID namespace has number 0 here. */
static void outside_our_namespace(void **state)
{
    int status, pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0); /* the peer: this process */
    pid_t outer = fork();
    if (outer == 0) {
        if (unshare(CLONE_NEWPID) < 0)
            _exit(77);
        pid_t inner = fork();
        if (inner == 0) {
            struct err e;
            struct peer *p = peer_open(pair[0], &e);
            _exit(!p && strcmp(e.rule, "peer-foreign") == 0 ? 0 : 2);
        }
        if (waitpid(inner, &status, 0) != inner || !WIFEXITED(status))
            _exit(1);
        _exit(WEXITSTATUS(status));
    }
    assert_int_equal(waitpid(outer, &status, 0), outer);
    close(pair[0]);
    close(pair[1]);
    if (WEXITSTATUS(status) == 77)
        skip();
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* In a namespace with the parent's /proc the numbers mean others. */
static void foreign_proc(void **state)
{
    int status;
    pid_t outer = fork();
    if (outer == 0) {
        if (unshare(CLONE_NEWPID) < 0)
            _exit(77);
        pid_t inner = fork();
        if (inner == 0) {
            struct err e;
            int pair[2];
            if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0)
                _exit(3);
            struct peer *p = peer_open(pair[0], &e); /* we: number 1 here, and init is number 1 in that /proc */
            _exit(!p && strcmp(e.rule, "peer-proc") == 0 ? 0 : 2);
        }
        if (waitpid(inner, &status, 0) != inner || !WIFEXITED(status))
            _exit(1);
        _exit(WEXITSTATUS(status));
    }
    assert_int_equal(waitpid(outer, &status, 0), outer);
    if (WEXITSTATUS(status) == 77)
        skip();
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* --- digests and paths ----------------------------------------------------------------------------------- */

static pid_t start_program(const char *path)
{
    int go[2];
    char c;
    assert_int_equal(pipe2(go, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execl(path, "sleep", "1000", (char *)NULL);
        _exit(127);
    }
    close(go[1]);
    assert_int_equal(read(go[0], &c, 1), 0); /* closed by exec */
    close(go[0]);
    return pid;
}

static int hash_of(pid_t pid, uint8_t digest[32])
{
    struct proc_now n;
    struct err e;
    int dir = proc_open(pid, &e), rc = -1;
    if (dir >= 0 && proc_read(&n, dir, &e) == 0)
        rc = peer_hash(digest, dir, &n.exe);
    close(dir);
    return rc;
}

static void stop_program(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static void copy_file(const char *from, const char *to)
{
    char chunk[65536];
    int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0755);
    assert_true(in >= 0 && out >= 0);
    for (ssize_t n; (n = read(in, chunk, sizeof chunk)) > 0;)
        assert_int_equal(write(out, chunk, (size_t)n), n);
    close(in);
    close(out);
}

static void digests_are_kept(void **state)
{
    uint8_t a[32], b[32];
    pid_t pid = start_program("/bin/sleep");
    peer_hash_forget();
    unsigned long before = peer_hash_reads();
    assert_int_equal(hash_of(pid, a), 0);
    assert_int_equal(hash_of(pid, b), 0);
    assert_memory_equal(a, b, 32);
    assert_int_equal(peer_hash_reads() - before, 1);
    peer_hash_forget();
    assert_int_equal(hash_of(pid, b), 0);
    assert_int_equal(peer_hash_reads() - before, 2);
    stop_program(pid);
}

/* A file so young that the clock might not tell its next version apart. */
static void young_files_are_not_kept(void **state)
{
    uint8_t a[32], b[32];
    const char *path = scratch_path("young");
    copy_file("/bin/sleep", path);
    pid_t pid = start_program(path);
    unsigned long before = peer_hash_reads();
    assert_int_equal(hash_of(pid, a), 0);
    assert_int_equal(hash_of(pid, b), 0);
    assert_memory_equal(a, b, 32);
    assert_true(peer_hash_reads() - before == 2);
    stop_program(pid);
}

/* More files than are remembered: the least recently used is read again. (Any folder with an "exe" in it will do;
 * the wait makes the files old enough to be kept.) */
static void forgets_the_oldest(void **state)
{
    enum { N = PEER_DIGESTS + 1 };
    static int dirs[N];
    struct proc_exe exe[N];
    uint8_t digest[32];
    for (int i = 0; i < N; i++) {
        char name[64];
        struct statx st;
        snprintf(name, sizeof name, "many-%d", i);
        assert_int_equal(mkdir(scratch_path(name), 0755), 0);
        dirs[i] = open(scratch_path(name), O_RDONLY | O_DIRECTORY);
        int fd = openat(dirs[i], "exe", O_WRONLY | O_CREAT, 0755);
        assert_int_equal(write(fd, &i, sizeof i), sizeof i);
        assert_int_equal(statx(fd, "", AT_EMPTY_PATH, STATX_INO, &st), 0);
        exe[i] = (struct proc_exe){true, st.stx_dev_major, st.stx_dev_minor, st.stx_ino};
        close(fd);
    }
    sleep(4);
    peer_hash_forget();
    unsigned long before = peer_hash_reads();
    for (int i = 0; i < PEER_DIGESTS; i++)
        assert_int_equal(peer_hash(digest, dirs[i], &exe[i]), 0);
    assert_int_equal(peer_hash(digest, dirs[0], &exe[0]), 0); /* used: 1 is the oldest now */
    assert_int_equal(peer_hash_reads() - before, PEER_DIGESTS);
    assert_int_equal(peer_hash(digest, dirs[N - 1], &exe[N - 1]), 0);
    assert_int_equal(peer_hash(digest, dirs[0], &exe[0]), 0);
    assert_int_equal(peer_hash(digest, dirs[2], &exe[2]), 0);
    assert_int_equal(peer_hash_reads() - before, PEER_DIGESTS + 1);
    assert_int_equal(peer_hash(digest, dirs[1], &exe[1]), 0);
    assert_int_equal(peer_hash_reads() - before, PEER_DIGESTS + 2);
    struct proc_exe other = exe[3];
    other.ino++; /* another file than the one that was seen to run */
    assert_int_equal(peer_hash(digest, dirs[3], &other), -1);
    /* written over, with its old size and mtime: ctime tells */
    struct timespec times[2];
    struct stat st;
    int fd = openat(dirs[0], "exe", O_WRONLY), five = 555;
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(write(fd, &five, sizeof five), sizeof five);
    times[0] = st.st_atim;
    times[1] = st.st_mtim;
    assert_int_equal(futimens(fd, times), 0);
    close(fd);
    uint8_t after[32];
    assert_int_equal(peer_hash(digest, dirs[0], &exe[0]), 0);
    assert_int_equal(peer_hash(after, dirs[2], &exe[2]), 0);
    assert_true(peer_hash_reads() - before >= PEER_DIGESTS + 3);
    for (int i = 0; i < N; i++)
        close(dirs[i]);
}

struct asker {
    pthread_t thread;
    pid_t pid;
    uint8_t digest[32];
    int rc;
};

static void *ask(void *arg)
{
    struct asker *a = arg;
    a->rc = hash_of(a->pid, a->digest);
    return NULL;
}

static void threads_read_once(void **state)
{
    enum { N = 16 };
    struct asker askers[N];
    struct err e;
    pid_t pid = start_program("/bin/sleep");
    peer_hash_forget();
    unsigned long before = peer_hash_reads();
    for (int i = 0; i < N; i++) {
        askers[i].pid = pid;
        assert_int_equal(thread_start(&askers[i].thread, ask, &askers[i], "an asker", &e), 0);
    }
    for (int i = 0; i < N; i++) {
        pthread_join(askers[i].thread, NULL);
        assert_int_equal(askers[i].rc, 0);
        assert_memory_equal(askers[i].digest, askers[0].digest, 32);
    }
    assert_int_equal(peer_hash_reads() - before, 1);
    stop_program(pid);
}

static void larger_than_the_limit(void **state)
{
    uint8_t digest[32];
    const char *path = scratch_path("large");
    copy_file("/bin/sleep", path);
    if (truncate(path, PEER_EXE_MAX + 1) < 0)
        skip();
    pid_t pid = start_program(path);
    unsigned long before = peer_hash_reads();
    assert_int_equal(hash_of(pid, digest), -1);
    assert_int_equal(peer_hash_reads(), before);
    stop_program(pid);
}

/* /proc/PID/exe says "/path (deleted)", and a file of that very name may be there: no path is told. */
static void deleted_program(void **state)
{
    const char *path = scratch_path("gone");
    char hex[65];
    struct peer_selectors s;
    struct err e;
    copy_file("/bin/sleep", path);
    file_sha256(hex, path);
    struct child k = child_start();
    child_do(&k, 'y');
    struct peer *p = peer_open(k.fd, &e);
    assert_non_null(p);
    assert_int_equal(peer_attest(p, &s, &e), 0);
    assert_true(has(&s, "unix:path:%s", path));
    peer_selectors_free(&s);
    unlink(path);
    copy_file("/bin/true", scratch_path("gone (deleted)"));
    assert_int_equal(peer_attest(p, &s, &e), 0);
    assert_false(has_kind(&s, "unix:path:"));
    assert_true(has(&s, "unix:sha256:%s", hex)); /* the bytes that run are there still */
    peer_selectors_free(&s);
    peer_free(p);
    child_end(&k);
}

/* A name that could not stand in an entry is not mended into one that could. */
static void path_with_control_characters(void **state)
{
    struct peer_selectors s;
    struct err e;
    copy_file("/bin/sleep", scratch_path("new\nline"));
    struct child k = child_start();
    child_do(&k, 'n');
    struct peer *p = peer_open(k.fd, &e);
    assert_non_null(p);
    assert_int_equal(peer_attest(p, &s, &e), 0);
    assert_false(has_kind(&s, "unix:path:"));
    assert_true(has_kind(&s, "unix:sha256:"));
    peer_selectors_free(&s);
    peer_free(p);
    child_end(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tells),
        cmocka_unit_test(ourselves),
        cmocka_unit_test(probes_pidfd),
        cmocka_unit_test(exits_before_open),
        cmocka_unit_test(exits_after_open),
        cmocka_unit_test(becomes_another_program),
        cmocka_unit_test(changes_owner),
        cmocka_unit_test(another_users),
        cmocka_unit_test(number_used_again),
        cmocka_unit_test(outside_our_namespace),
        cmocka_unit_test(foreign_proc),
        cmocka_unit_test(digests_are_kept),
        cmocka_unit_test(young_files_are_not_kept),
        cmocka_unit_test(forgets_the_oldest),
        cmocka_unit_test(threads_read_once),
        cmocka_unit_test(larger_than_the_limit),
        cmocka_unit_test(deleted_program),
        cmocka_unit_test(path_with_control_characters),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
