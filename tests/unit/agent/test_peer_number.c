/* Peers whose number is another's: used again, or of another PID namespace. In namespaces of our own, where the next
 * number can be set. */
#include "unit/agent/peer_child.h"
#include <sched.h>
#include <sys/mount.h>

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(number_used_again), cmocka_unit_test(outside_our_namespace),
        cmocka_unit_test(foreign_proc),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
