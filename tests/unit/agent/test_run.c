/* `run` with real programs, and an agent that is played by this file: its wl_client says what the test writes into a
 * pipe. 1-9: the state of that version; d: another identity; n: none; p: permission denied; u: unavailable; j: answers the next JWT.
 * run() is called in a child, as it takes signals and the environment. */
#include "base/clock.h"
#include "base/log.h"
#include "unit/agent/run_state.h"
#include <errno.h>
#include <event2/event.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* --- the agent, played ---------------------------------------------------------------------------------- */

static int script[2];   /* pipe */
static char endpoint[128];

struct wl_client {
    struct wl_client_ops ops;
    struct event *heard, *jwt;
    wl_client_jwt_cb *cb;
    void *cb_arg;
};

static void play(struct wl_client *c, char word)
{
    struct err e = {.code = ERR_UNAVAILABLE, .rule = "workload-connect", .msg = "cannot connect: No such file or directory"};
    if (word == 'p')
        c->ops.trouble(c->ops.arg, WL_PERMISSION_DENIED, &e);
    else if (word == 'u')
        c->ops.trouble(c->ops.arg, WL_UNAVAILABLE, &e);
    else {
        struct wl_state *s = word == 'n'   ? a_state(NULL, NULL, 1)
                             : word == 'd' ? a_state(ID_DB, NULL, 5)
                                           : a_state(ID_WEB, ID_DB, (uint8_t)(word - '0'));
        c->ops.state(c->ops.arg, s);
        wl_state_unref(s);
    }
}

static void on_word(evutil_socket_t fd, short what, void *arg)
{
    char word;
    if (read(script[0], &word, 1) == 1)
        play(arg, word);
}

static void on_jwt_due(evutil_socket_t fd, short what, void *arg)
{
    struct wl_client *c = arg;
    char id[] = ID_WEB, svid[] = "aGVhZA.eyJleHAiOjQwMDAwMDAwMDB9.c2ln", hint[] = "";
    struct wl_jwt j = {id, svid, hint};
    struct err e = {0};
    c->cb(c->cb_arg, &j, 1, WL_OK, &e);
}

struct wl_client *wl_client_new(struct event_base *base, const char *where, bool jwt, const struct wl_client_ops *ops,
                                struct err *e)
{
    struct wl_client *c = calloc(1, sizeof *c);
    assert_string_equal(where, endpoint);
    c->ops = *ops;
    c->heard = event_new(base, script[0], EV_READ | EV_PERSIST, on_word, c);
    c->jwt = event_new(base, -1, 0, on_jwt_due, c);
    event_add(c->heard, NULL);
    return c;
}

void wl_client_free(struct wl_client *c)
{
    event_free(c->heard);
    event_free(c->jwt);
    free(c);
}

int wl_client_jwt(struct wl_client *c, const char *const *audience, size_t n, const char *spiffe_id,
                  wl_client_jwt_cb *cb, void *arg, struct err *e)
{
    static const struct timeval soon = {0, 1000};
    assert_int_equal(n, 1);
    assert_string_equal(audience[0], "aud");
    c->cb = cb;
    c->cb_arg = arg;
    event_add(c->jwt, &soon);
    return 0;
}

/* --- runs -------------------------------------------------------------------------------------------------- */

static char out[128], dir[128]; /* what the program said; its files */

static int setup(void **state)
{
    if (scratch_make(state) < 0 || pipe2(script, O_CLOEXEC) < 0)
        return -1;
    snprintf(out, sizeof out, "%s/out", scratch);
    snprintf(dir, sizeof dir, "%s/dir", scratch);
    snprintf(endpoint, sizeof endpoint, "unix://%s/agent.sock", scratch);
    setenv("OUT", out, 1);
    return 0;
}

static int teardown(void **state)
{
    close(script[0]);
    close(script[1]);
    return scratch_remove(state);
}

static struct run_config config(char **argv, const char *shell)
{
    static char sh[] = "/bin/sh", c[] = "-c", text[2048];
    snprintf(text, sizeof text, "%s", shell);
    argv[0] = sh;
    argv[1] = c;
    argv[2] = text;
    argv[3] = NULL;
    return (struct run_config){
        .endpoint = endpoint, .dir = dir, .timeout_ms = 20000, .grace_ms = 20000, .argv = argv};
}

static pid_t start(const struct run_config *c)
{
    setenv("MAYFLY_JWT", "/of/another/run", 1);
    pid_t pid = fork();
    if (pid == 0) {
        struct err e = {0};
        int status, err = open(scratch_path("err"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(err, 2);
        log_setup("run", LOG_INFO, LOG_TEXT);
        int rc = run(c, &status, &e);
        if (rc < 0)
            dprintf(2, "FAILED %s %s\n", e.rule, e.msg);
        _exit(rc < 0 && status == 0 ? 99 : status);
    }
    return pid;
}

static void say(const char *words)
{
    assert_int_equal(write(script[1], words, strlen(words)), strlen(words));
}

static void slurp(const char *path, char *dst, size_t cap)
{
    int fd = open(path, O_RDONLY);
    ssize_t n = fd < 0 ? 0 : read(fd, dst, cap - 1);
    dst[n > 0 ? n : 0] = 0;
    if (fd >= 0)
        close(fd);
}

/* Until the program has said all of these words; a test that fails waits half a minute. */
static void hears(const char *path, const char *words)
{
    char got[8192];
    for (int i = 0; i < 3000; i++) {
        slurp(path, got, sizeof got);
        if (strstr(got, words))
            return;
        usleep(10000);
    }
    fail_msg("not '%s' but '%s'", words, got);
}

static int end_of(pid_t pid)
{
    int w;
    assert_int_equal(waitpid(pid, &w, 0), pid);
    assert_true(WIFEXITED(w));
    return WEXITSTATUS(w);
}

static void starts_with_its_identity(void **state)
{
    char *argv[4];
    struct run_config c = config(argv, "exec >$OUT; echo $MAYFLY_SVID_DIR $MAYFLY_SVID $MAYFLY_KEY $MAYFLY_BUNDLE "
                                       "$SPIFFE_ENDPOINT_SOCKET jwt=$MAYFLY_JWT; sed -n 2p $MAYFLY_SVID $MAYFLY_BUNDLE; "
                                       "stat -L -c %a $MAYFLY_KEY; exit 42");
    pid_t pid = start(&c);
    say("1");
    assert_int_equal(end_of(pid), 42);
    char want[1024], got[2048];
    snprintf(want, sizeof want, "%s %s/svid.pem %s/svid.key %s/bundle.pem %s jwt=\nMAEB\nMAEH\n600\n", dir, dir, dir, dir,
             endpoint);
    slurp(out, got, sizeof got);
    /* sed numbers lines over both files */
    assert_int_equal(strncmp(got, want, (size_t)(strstr(want, "jwt=") - want)), 0);
    assert_non_null(strstr(got, " jwt=\n"));
    assert_non_null(strstr(got, "MAEB\n"));
    assert_non_null(strstr(got, "600\n"));
    assert_int_equal(access(dir, F_OK), -1); /* removed, as it was made */
}

static void another_identity(void **state)
{
    char *argv[4];
    struct run_config c = config(argv, "sed -n 2p $MAYFLY_SVID >$OUT");
    c.spiffe_id = ID_DB;
    pid_t pid = start(&c);
    say("1");
    assert_int_equal(end_of(pid), 0);
    hears(out, "MAFl\n"); /* version 101 */
}

static void jwt_wanted(void **state)
{
    char *argv[4];
    struct run_config c = config(argv, "cat $MAYFLY_JWT >$OUT");
    c.audience[c.audience_count++] = "aud";
    pid_t pid = start(&c);
    say("1");
    assert_int_equal(end_of(pid), 0);
    hears(out, "aGVhZA.eyJleHAiOjQwMDAwMDAwMDB9.c2ln");
}

#define REPORTS "n=0; trap 'n=$((n+1)); echo got $n $(sed -n 2p $MAYFLY_SVID) >>$OUT' HUP; " \
                "trap 'echo term >>$OUT; exit 5' TERM; echo ready $$ >>$OUT; while :; do sleep 0.05; done"

/* Told of each rotation by SIGHUP; the first identity is there. */
static pid_t start_reporting(struct run_config *c)
{
    c->rotate = RUN_SIGNAL;
    c->signal = SIGHUP;
    pid_t pid = start(c);
    say("1");
    hears(out, "ready");
    return pid;
}

static void ends_well(pid_t pid)
{
    kill(pid, SIGTERM);
    assert_int_equal(end_of(pid), 5);
}

static void rotates_silently(void **state)
{
    char *argv[4], path[300];
    struct run_config c = config(argv, REPORTS);
    pid_t pid = start(&c);
    say("1");
    hears(out, "ready");
    say("2");
    snprintf(path, sizeof path, "%s/svid.pem", dir);
    hears(path, "MAEC\n");
    ends_well(pid);
    char got[1024];
    slurp(out, got, sizeof got);
    assert_null(strstr(got, "got"));
    assert_non_null(strstr(got, "term\n"));
}

static void rotates_with_a_signal(void **state)
{
    char *argv[4];
    struct run_config c = config(argv, REPORTS);
    pid_t pid = start_reporting(&c);
    say("2");
    hears(out, "got 1 MAEC\n");
    say("23"); /* the same again is nothing new */
    hears(out, "got 2 MAED\n");
    ends_well(pid);
}

/* A set that cannot be written is tried again: the next identity may be far. */
static void writes_again(void **state)
{
    char *argv[4], path[300];
    struct run_config c = config(argv, REPORTS);
    pid_t pid = start_reporting(&c);
    snprintf(path, sizeof path, "%s/svid.pem", dir);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    say("2");
    hears(scratch_path("err"), "keeps the old one");
    assert_int_equal(rmdir(path), 0);
    hears(out, "got 1 MAEC\n");
    ends_well(pid);
}

/* Another identity wants another JWT first; the program is told when both are there. */
static void told_after_the_jwt(void **state)
{
    char *argv[4];
    struct run_config c = config(argv, REPORTS);
    c.audience[c.audience_count++] = "aud";
    pid_t pid = start_reporting(&c);
    say("d");
    hears(out, "got 1 MAEF\n");
    ends_well(pid);
}

static void rotates_with_a_restart(void **state)
{
    char *argv[4];
    struct run_config c = config(argv, "echo ready $(sed -n 2p $MAYFLY_SVID) >>$OUT; "
                                       "trap 'echo term >>$OUT; exit 5' TERM; while :; do sleep 0.05; done");
    c.rotate = RUN_RESTART;
    pid_t pid = start(&c);
    say("1");
    hears(out, "ready MAEB\n");
    say("2");
    hears(out, "ready MAEB\nterm\nready MAEC\n");
    kill(pid, SIGTERM); /* from outside: the end */
    assert_int_equal(end_of(pid), 5);
    hears(out, "ready MAEB\nterm\nready MAEC\nterm\n");
}

static void restarts_by_force(void **state)
{
    char *argv[4];
    struct run_config c = config(argv, "test -e $OUT.2 && exit 6; trap '' TERM; touch $OUT.2; echo ready >>$OUT; "
                                       "while :; do sleep 0.05; done");
    c.rotate = RUN_RESTART;
    c.grace_ms = 200;
    pid_t pid = start(&c);
    say("1");
    hears(out, "ready\n");
    say("2");
    assert_int_equal(end_of(pid), 6); /* the second of them */
    hears(scratch_path("err"), "is killed");
}

static void passes_signals_on(void **state)
{
    char *argv[4];
    struct run_config c = config(argv, "for s in HUP INT QUIT USR1 USR2; do trap \"echo $s >>$OUT\" $s; done; "
                                       "trap 'exit 3' TERM; echo ready >>$OUT; while :; do sleep 0.05; done");
    static const int list[] = {SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2};
    static const char *const names[] = {"HUP\n", "INT\n", "QUIT\n", "USR1\n", "USR2\n"};
    pid_t pid = start(&c);
    say("1");
    hears(out, "ready");
    for (size_t i = 0; i < 5; i++) {
        kill(pid, list[i]);
        hears(out, names[i]);
    }
    kill(pid, SIGTERM);
    assert_int_equal(end_of(pid), 3);
}

static void ends_as_the_program_ends(void **state)
{
    char *argv[4];
    struct run_config c = config(argv, "kill -KILL $$");
    pid_t pid = start(&c);
    say("1");
    assert_int_equal(end_of(pid), 128 + SIGKILL);
}

static void signalled_before_it_starts(void **state)
{
    char *argv[4];
    struct run_config c = config(argv, "echo started >>$OUT");
    pid_t pid = start(&c);
    say("u");
    hears(scratch_path("err"), "is 'mayfly-agent serve' running?");
    kill(pid, SIGINT);
    assert_int_equal(end_of(pid), 128 + SIGINT);
    assert_int_equal(access(out, F_OK), -1);
    assert_int_equal(access(dir, F_OK), -1);
}

static void no_identity_in_time(void **state)
{
    static const char *const words[] = {"u", "p", "n", "unp"};
    static const char *const said[] = {"run-agent after 1 s: no agent answers at unix://", "no identity for this process (user",
                                       "no identity for this process", "no identity for this process (user"};
    char *argv[4];
    for (size_t i = 0; i < 4; i++) {
        struct run_config c = config(argv, "echo started >>$OUT");
        c.timeout_ms = 300;
        unlink(scratch_path("err"));
        pid_t pid = start(&c);
        say(words[i]);
        assert_int_equal(end_of(pid), 99);
        hears(scratch_path("err"), said[i]);
        assert_int_equal(access(out, F_OK), -1);
    }
}

static void no_such_command(void **state)
{
    char *argv[] = {(char[]){"/nowhere/at/all"}, NULL};
    char *unused[4];
    struct run_config c = config(unused, "");
    c.argv = argv;
    pid_t pid = start(&c);
    say("1");
    assert_int_equal(end_of(pid), 127);
    hears(scratch_path("err"), "no command '/nowhere/at/all'");
}

/* One line when the agent goes, one when it is back; the program does not notice. */
static void agent_away(void **state)
{
    char *argv[4], got[8192];
    struct run_config c = config(argv, REPORTS);
    pid_t pid = start_reporting(&c);
    say("uuupu1");
    hears(scratch_path("err"), "the agent answers again");
    slurp(scratch_path("err"), got, sizeof got);
    char *first = strstr(got, "the agent is away");
    assert_non_null(first);
    assert_non_null(strstr(first, "valid_until=2096-"));
    assert_null(strstr(first + 1, "the agent is away"));
    say("n"); /* taken away from us: the program goes on with what it has */
    hears(scratch_path("err"), "the program goes on with what it has");
    say("2");
    hears(out, "got 1 MAEC");
    ends_well(pid);
}

/* As a container's first process: orphans are waited for. */
static void reaps_orphans(void **state)
{
    char *argv[4];
    struct run_config c =
        config(argv, "echo $PPID >>$OUT; (sh -c 'sleep 0.2' & ) ; sleep 1; "
                     "grep -l '^State:.Z' /proc/[0-9]*/status >>$OUT && exit 9; exit 0");
    pid_t outer = fork();
    if (outer == 0) {
        int w;
        if (unshare(CLONE_NEWPID | CLONE_NEWNS) < 0)
            _exit(77);
        pid_t inner = fork();
        if (inner == 0) {
            struct err e;
            int status;
            if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 || mount("proc", "/proc", "proc", 0, NULL) < 0)
                _exit(77);
            _exit(run(&c, &status, &e) < 0 ? 98 : status);
        }
        say("1");
        if (waitpid(inner, &w, 0) != inner || !WIFEXITED(w))
            _exit(1);
        _exit(WEXITSTATUS(w));
    }
    int code = end_of(outer);
    if (code == 77)
        skip();
    assert_int_equal(code, 0);
    hears(out, "1\n");
}

/* SIGKILL to us: the program is told to end, since nobody would renew its identity. */
static void program_does_not_outlive_us(void **state)
{
    char *argv[4];
    struct run_config c = config(argv, REPORTS);
    pid_t pid = start(&c);
    say("1");
    hears(out, "ready");
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    hears(out, "term");
}

static void quick(void **state)
{
    char *argv[4];
    struct run_config c = config(argv, "exit 0");
    int64_t best = INT64_MAX;
    for (int i = 0; i < 5; i++) {
        int64_t from = clock_mono_us();
        pid_t pid = start(&c);
        say("1");
        assert_int_equal(end_of(pid), 0);
        int64_t took = clock_mono_us() - from;
        best = took < best ? took : best;
    }
    print_message("from start to the program's end: %lld us\n", (long long)best);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(starts_with_its_identity), T(another_identity),
        T(jwt_wanted),               T(rotates_silently),
        T(writes_again),             T(told_after_the_jwt),
        T(rotates_with_a_signal),    T(rotates_with_a_restart),
        T(restarts_by_force),        T(passes_signals_on),
        T(ends_as_the_program_ends), T(signalled_before_it_starts),
        T(no_identity_in_time),      T(no_such_command),
        T(agent_away),               T(reaps_orphans),
        T(program_does_not_outlive_us), T(quick),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
