/* Hooks that fail, hang, talk too much; pid files that lie. */
#include "base/clock.h"
#include "base/log.h"
#include "unit/agent/output_set.h"
#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

static struct output_config config(const char *reload)
{
    struct output_config c = a_config(scratch);
    c.reload = reload;
    c.reload_timeout_ms = 20000;
    return c;
}

static int reload(const struct output_config *c, struct err *e)
{
    return output_reload(c, "spiffe://example.org/web", e);
}

static void hook_runs(void **state)
{
    char command[512], got[512];
    struct err e;
    setenv("MAYFLY_SVID_DIR", "not this one", 1);
    snprintf(command, sizeof command, "echo $MAYFLY_SPIFFE_ID $MAYFLY_SVID_DIR $HOME >%s/said; echo $$ >>%s/said; "
             "cut -d' ' -f5 /proc/self/stat >>%s/said", scratch, scratch, scratch);
    setenv("HOME", "/home/x", 1);
    struct output_config c = config(command);
    assert_int_equal(reload(&c, &e), 0);
    unsetenv("MAYFLY_SVID_DIR");
    int fd = open(scratch_path("said"), O_RDONLY);
    ssize_t n = read(fd, got, sizeof got - 1);
    close(fd);
    got[n] = 0;
    char want[256], line[256];
    int shell, group;
    snprintf(want, sizeof want, "spiffe://example.org/web %s /home/x", scratch);
    assert_int_equal(sscanf(got, "%255[^\n]\n%d\n%d\n", line, &shell, &group), 3);
    assert_string_equal(line, want);
    assert_int_equal(shell, group); /* a group of its own */
    assert_int_not_equal(group, getpgrp());
}

static void hook_fails(void **state)
{
    struct err e;
    struct output_config c = config("exit 3");
    assert_int_equal(reload(&c, &e), -1);
    assert_string_equal(e.rule, "reload");
    assert_non_null(strstr(e.msg, "status 3"));
    c = config("kill -9 $$");
    assert_int_equal(reload(&c, &e), -1);
    assert_non_null(strstr(e.msg, "signal 9"));
    c = config("/nowhere/at/all 2>/dev/null");
    assert_int_equal(reload(&c, &e), -1);
    assert_non_null(strstr(e.msg, "127"));
}

static void hook_hangs(void **state)
{
    char command[256], text[32];
    struct err e;
    snprintf(command, sizeof command, "sleep 1000 & echo $! >%s/pid; trap '' TERM; wait", scratch);
    struct output_config c = config(command);
    c.reload_timeout_ms = 500;
    int64_t start = clock_mono_ms();
    assert_int_equal(reload(&c, &e), -1);
    assert_true(clock_mono_ms() - start >= 500);
    assert_non_null(strstr(e.msg, "killed"));
    int fd = open(scratch_path("pid"), O_RDONLY);
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    assert_true(n > 0);
    text[n] = 0;
    pid_t below = (pid_t)atoi(text); /* what it started is gone too, or waits to be waited for by init */
    for (int i = 0; i < 1000; i++) {
        char path[64], stat[256] = "";
        snprintf(path, sizeof path, "/proc/%d/stat", (int)below);
        fd = open(path, O_RDONLY);
        if (fd >= 0) {
            ssize_t k = read(fd, stat, sizeof stat - 1);
            stat[k > 0 ? k : 0] = 0;
            close(fd);
        }
        if (!*stat || strstr(stat, ") Z "))
            return;
        usleep(10000);
    }
    fail_msg("process %d goes on", (int)below);
}

static void hook_talks(void **state)
{
    struct err e;
    struct output_config c = config("head -c 3000000 /dev/zero | tr '\\0' 'a'; echo; echo done >&2");
    assert_int_equal(reload(&c, &e), 0); /* nobody stops it for what it says */
}

/* What a hook leaves running is not waited for. */
static void hook_starts_a_daemon(void **state)
{
    char command[256], text[32];
    struct err e;
    snprintf(command, sizeof command, "sleep 1000 & echo $! >%s/pid", scratch);
    struct output_config c = config(command);
    assert_int_equal(reload(&c, &e), 0);
    int fd = open(scratch_path("pid"), O_RDONLY);
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    assert_true(n > 0);
    text[n] = 0;
    assert_int_equal(kill((pid_t)atoi(text), SIGKILL), 0); /* it was there */
}

static void hook_that_never_stops_talking(void **state)
{
    struct err e;
    struct output_config c = config("for i in 1 2 3 4 5 6 7 8; do cat /dev/zero & done; wait");
    c.reload_timeout_ms = 300;
    assert_int_equal(reload(&c, &e), -1);
    assert_non_null(strstr(e.msg, "killed"));
}

static void hook_inherits_nothing(void **state)
{
    struct err e;
    int fd = open("/dev/null", O_RDONLY); /* as a library opens one: without O_CLOEXEC */
    assert_true(fd > 2);
    int high = fcntl(fd, F_DUPFD, 100);
    struct output_config c = config("cd /proc/$$/fd && for f in *; do case $f in 0|1|2) ;; *) "
                                    "[ \"$(readlink $f)\" != /dev/null ] || exit 1 ;; esac; done");
    int rc = reload(&c, &e);
    close(fd);
    close(high);
    assert_int_equal(rc, 0);
}

static void hook_has_signals_as_usual(void **state)
{
    sigset_t all, old;
    struct err e;
    signal(SIGPIPE, SIG_IGN);
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &old);
    /* (glibc's posix_spawn leaves its own two, 32 and 33, ignored) */
    struct output_config c = config("grep -E '^Sig(Blk|Ign)' /proc/self/status | "
                                    "grep -vE '0000000(000000000|180000000)$' >&2 && exit 1; exit 0");
    int rc = reload(&c, &e);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    assert_int_equal(rc, 0);
}

/* --- pid files ---------------------------------------------------------------------------------------- */

static void pids(void **state)
{
    static const struct {
        const char *text;
        pid_t pid;
    } rows[] = {{"123\n", 123}, {"123", 123}, {"123\n/var/lib/postgresql\n5432\n", 123}, {"4194304\n", 4194304},
                {"", -1}, {"\n", -1}, {"0\n", -1}, {"1\n", -1}, {"-1\n", -1}, {"+5\n", -1}, {" 5\n", -1}, {"5 \n", -1},
                {"05\n", -1}, {"5x\n", -1}, {"4194305\n", -1}, {"99999999\n", -1}, {"18446744073709551617\n", -1},
                {"5\r\n", -1}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (output_pid_parse(rows[i].text, strlen(rows[i].text)) != rows[i].pid)
            fail_msg("'%s'", rows[i].text);
    assert_int_equal(output_pid_parse("5\0\n", 3), -1);
}

static pid_t waiting_child(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;)
            pause();
    }
    return pid;
}

static struct output_config pid_config(pid_t pid)
{
    char text[32];
    snprintf(text, sizeof text, "%d\n", (int)pid);
    scratch_write(scratch_path("the.pid"), text, 0644);
    struct output_config c = config(NULL);
    c.pid_file = scratch_path("the.pid");
    c.signal = SIGUSR1;
    return c;
}

static void signals(void **state)
{
    struct err e;
    int status;
    pid_t pid = waiting_child();
    struct output_config c = pid_config(pid);
    if (reload(&c, &e) < 0)
        fail_msg("%s", e.msg);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGUSR1);
    assert_int_equal(reload(&c, &e), -1); /* ended */
    assert_string_equal(e.rule, "reload");
    c = pid_config(getpid()); /* never ourselves */
    assert_int_equal(reload(&c, &e), -1);
    unlink(c.pid_file);
    assert_int_equal(reload(&c, &e), -1);
    assert_non_null(strstr(e.msg, "does the program run"));
}

static void signals_after_a_hook_that_failed(void **state)
{
    struct err e;
    int status;
    pid_t pid = waiting_child();
    struct output_config c = pid_config(pid);
    c.reload = "exit 9";
    assert_int_equal(reload(&c, &e), -1);
    assert_non_null(strstr(e.msg, "status 9"));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGUSR1);
}

static void pid_files_of_others(void **state)
{
    struct err e;
    pid_t pid = waiting_child();
    struct output_config c = pid_config(pid);
    chmod(c.pid_file, 0666);
    assert_int_equal(reload(&c, &e), -1);
    assert_non_null(strstr(e.msg, "anybody"));
    c = pid_config(pid);
    if (geteuid() == 0) {
        assert_int_equal(chown(c.pid_file, 12345, 12345), 0); /* who may not signal that process himself */
        assert_int_equal(reload(&c, &e), -1);
        assert_non_null(strstr(e.msg, "not that user's"));
    }
    c = pid_config(pid);
    assert_int_equal(link(c.pid_file, scratch_path("again.pid")), 0);
    assert_int_equal(reload(&c, &e), -1);
    assert_non_null(strstr(e.msg, "another name"));
    unlink(scratch_path("again.pid"));
    if (geteuid() == 0) { /* a link of his to a pid file of root's */
        assert_int_equal(symlink(c.pid_file, scratch_path("link.pid")), 0);
        assert_int_equal(lchown(scratch_path("link.pid"), 12345, 12345), 0);
        c.pid_file = scratch_path("link.pid");
        assert_int_equal(reload(&c, &e), -1);
        assert_non_null(strstr(e.msg, "symbolic link"));
    }
    c.pid_file = scratch;
    assert_int_equal(reload(&c, &e), -1);
    assert_int_equal(kill(pid, 0), 0);
    assert_int_equal(waitpid(pid, NULL, WNOHANG), 0); /* nothing came */
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

int main(void)
{
    log_setup("test", LOG_ERROR, LOG_TEXT);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hook_runs),
        cmocka_unit_test(hook_fails),
        cmocka_unit_test(hook_hangs),
        cmocka_unit_test(hook_talks),
        cmocka_unit_test(hook_starts_a_daemon),
        cmocka_unit_test(hook_that_never_stops_talking),
        cmocka_unit_test(hook_inherits_nothing),
        cmocka_unit_test(hook_has_signals_as_usual),
        cmocka_unit_test(pids),
        cmocka_unit_test(signals),
        cmocka_unit_test(signals_after_a_hook_that_failed),
        cmocka_unit_test(pid_files_of_others),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
