/* The parts of `run`: which identity, which signals, which folder, which end. */
#include "base/fileio.h"
#include "unit/agent/run_state.h"
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/wait.h>

/* --- what the agent gives ------------------------------------------------------------------------------ */

static void picks(void **state)
{
    struct err e;
    struct wl_state *s = a_state(ID_WEB, ID_DB, 1), *none = a_state(NULL, NULL, 1);
    assert_string_equal(run_pick(s, NULL, &e)->spiffe_id, ID_WEB);
    assert_string_equal(run_pick(s, ID_DB, &e)->spiffe_id, ID_DB);
    assert_null(run_pick(s, "spiffe://example.org/x", &e));
    assert_string_equal(e.rule, "run-identity");
    assert_non_null(strstr(e.msg, ID_WEB));
    assert_non_null(strstr(e.msg, ID_DB));
    assert_null(run_pick(none, NULL, &e));
    assert_null(run_pick(none, ID_WEB, &e));
    wl_state_unref(s);
    wl_state_unref(none);
}

static void makes_sets(void **state)
{
    struct err e;
    struct run_set x;
    struct wl_state *s = a_state(ID_WEB, NULL, 1);
    assert_int_equal(run_set_make(&x, s, s->svids[0], (struct bytes){(const uint8_t *)"j", 1}, &e), 0);
    assert_string_equal(buf_cstr(&x.bundle), "-----BEGIN CERTIFICATE-----\nMAEH\n-----END CERTIFICATE-----\n");
    assert_int_equal(strncmp(buf_cstr(&x.chain), "-----BEGIN CERTIFICATE-----\nMAEB\n", 33), 0);
    assert_ptr_equal(x.set.key_der, &s->svids[0]->key);
    assert_int_equal(x.set.jwt.len, 1);
    run_set_free(&x);
    s->svids[0]->chain_len--; /* cut off */
    assert_int_equal(run_set_make(&x, s, s->svids[0], (struct bytes){NULL, 0}, &e), -1);
    s->svids[0]->chain_len++;
    free(s->bundles->list[1].trust_domain);
    s->bundles->list[1].trust_domain = strdup("example.com"); /* a bundle of another domain is not taken instead */
    assert_int_equal(run_set_make(&x, s, s->svids[0], (struct bytes){NULL, 0}, &e), -1);
    assert_string_equal(e.rule, "run-identity");
    wl_state_unref(s);
}

static void sees_changes(void **state)
{
    struct wl_state *a = a_state(ID_WEB, ID_DB, 1), *same = a_state(ID_WEB, ID_DB, 1), *later = a_state(ID_WEB, ID_DB, 2),
                    *swapped = a_state(ID_DB, ID_WEB, 1), *roots = a_state(ID_WEB, ID_DB, 1);
    roots->bundles->list[1].x509.p[2] = 8;
    assert_true(run_changed(NULL, a, NULL));
    assert_false(run_changed(a, same, NULL));
    assert_true(run_changed(a, later, NULL));
    assert_true(run_changed(a, swapped, NULL));
    assert_true(run_changed(a, roots, NULL));
    assert_false(run_changed(a, same, ID_DB));
    wl_state_unref(a);
    wl_state_unref(same);
    wl_state_unref(later);
    wl_state_unref(swapped);
    wl_state_unref(roots);
}

static unsigned half_of(const char *payload, int64_t now)
{
    char jwt[4096];
    size_t n = (size_t)sprintf(jwt, "aa.");
    n += b64url_encode(jwt + n, payload, strlen(payload));
    n += (size_t)sprintf(jwt + n, ".sig");
    return run_jwt_half(jwt, n, now);
}

static void halves_jwts(void **state)
{
    assert_int_equal(half_of("{\"exp\":1300}", 1000), 150000);
    assert_int_equal(half_of("{\"exp\":1000}", 1000), 1000);
    assert_int_equal(half_of("{\"exp\":1}", 1000), 1000);
    assert_int_equal(half_of("{\"exp\":9000000000000000000}", 1000), 3600000);
    assert_int_equal(half_of("{\"exp\":\"x\"}", 1000), 1000);
    assert_int_equal(half_of("[]", 1000), 1000);
    assert_int_equal(run_jwt_half("", 0, 1000), 1000);
    assert_int_equal(run_jwt_half("no dots", 7, 1000), 1000);
    assert_int_equal(run_jwt_half("a.%.", 4, 1000), 1000);
}

/* --- signals and ends ----------------------------------------------------------------------------------- */

static bool forwards(int signo, int code, pid_t from)
{
    struct signalfd_siginfo s = {.ssi_signo = (uint32_t)signo, .ssi_code = code, .ssi_pid = (uint32_t)from};
    return run_forwards(&s, 50);
}

static void forwards_once(void **state)
{
    assert_true(forwards(SIGTERM, SI_USER, 1));
    assert_true(forwards(SIGHUP, SI_QUEUE, 49));
    assert_true(forwards(SIGUSR1, SI_TKILL, 0));
    assert_false(forwards(SIGINT, SI_KERNEL, 0)); /* ^C: the program has it already */
    assert_false(forwards(SIGTSTP, SI_KERNEL, 0));
    assert_false(forwards(SIGTERM, SI_USER, 50)); /* the program's kill(0) */
    assert_false(forwards(SIGCHLD, SI_USER, 1));
}

static int end_of(const char *script)
{
    char *argv[] = {(char[]){"sh"}, (char[]){"-c"}, NULL, NULL};
    char text[256];
    struct err e;
    int status = 0, w;
    snprintf(text, sizeof text, "%s", script);
    argv[2] = text;
    pid_t pid = run_spawn(argv, &status, &e);
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &w, 0), pid);
    return run_exit_status(w);
}

static void passes_ends_on(void **state)
{
    assert_int_equal(end_of("exit 0"), 0);
    assert_int_equal(end_of("exit 7"), 7);
    assert_int_equal(end_of("exit 255"), 255);
    assert_int_equal(end_of("kill -9 $$"), 128 + SIGKILL);
    assert_int_equal(end_of("kill -TERM $$"), 128 + SIGTERM);
}

static void refuses_commands(void **state)
{
    char *argv[] = {NULL, NULL};
    char name[300];
    struct err e;
    int status = 0;
    argv[0] = strcpy(name, "mayfly-no-such-command");
    assert_int_equal(run_spawn(argv, &status, &e), -1);
    assert_int_equal(status, 127);
    assert_string_equal(e.rule, "run-exec");
    strcpy(name, "/etc/passwd");
    assert_int_equal(run_spawn(argv, &status, &e), -1);
    assert_int_equal(status, 126);
    strcpy(name, "/etc/passwd/x");
    assert_int_equal(run_spawn(argv, &status, &e), -1);
    assert_int_equal(status, 127);
}

static void hands_sockets_over(void **state)
{
    char number[24];
    snprintf(number, sizeof number, "%d", (int)getpid());
    setenv("LISTEN_PID", number, 1);
    assert_int_equal(end_of("test $LISTEN_PID = $$"), 0);
    setenv("LISTEN_PID", "1", 1); /* for another */
    assert_int_equal(end_of("test $LISTEN_PID = 1"), 0);
    unsetenv("LISTEN_PID");
}

/* --- the folder ------------------------------------------------------------------------------------------ */

static int runs_in(const char *base)
{
    DIR *d = opendir(base);
    int n = 0;
    for (struct dirent *x; (x = readdir(d));)
        n += strncmp(x->d_name, "mayfly-run-", 11) == 0;
    closedir(d);
    return n;
}

/* A base of this test's own, in memory. */
static bool base_make(char base[64])
{
    strcpy(base, "/dev/shm/mayfly-test-XXXXXX");
    return mkdtemp(base) != NULL;
}

static void folders_in_memory(void **state)
{
    char base[64];
    struct run_folder one, two;
    struct err e;
    struct stat st;
    if (!base_make(base))
        skip();
    setenv("RUNTIME_DIRECTORY", scratch, 1); /* a disk, mostly: passed over */
    setenv("XDG_RUNTIME_DIR", base, 1);
    assert_int_equal(run_folder_open(&one, NULL, &e), 0);
    assert_int_equal(run_folder_open(&two, NULL, &e), 0); /* does not take the first one's away */
    if (strncmp(one.path, base, strlen(base)) == 0) {
        assert_int_equal(runs_in(base), 2);
        assert_int_equal(stat(one.path, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0700);
    }
    unsetenv("RUNTIME_DIRECTORY");
    run_folder_close(&one);
    run_folder_close(&two);
    assert_int_equal(runs_in(base), 0);
    unsetenv("XDG_RUNTIME_DIR");
    rmdir(base);
}

static void removes_what_killed_runs_left(void **state)
{
    char base[64];
    struct run_folder f;
    struct run_set x;
    struct err e;
    struct wl_state *s = a_state(ID_WEB, NULL, 1);
    if (!base_make(base))
        skip();
    setenv("RUNTIME_DIRECTORY", base, 1);
    pid_t pid = fork();
    if (pid == 0) { /* writes a set and is killed */
        struct err mine;
        if (run_folder_open(&f, NULL, &mine) < 0 ||
            run_set_make(&x, s, s->svids[0], (struct bytes){NULL, 0}, &mine) < 0)
            _exit(1);
        const struct output_config c = {.dir = f.path, .uid = (uid_t)-1, .gid = (gid_t)-1, .mode = 0600};
        if (output_write(&c, &x.set, &mine) < 0)
            _exit(2);
        kill(getpid(), SIGKILL);
    }
    int w;
    assert_int_equal(waitpid(pid, &w, 0), pid);
    if (!WIFSIGNALED(w))
        fail_msg("status %x", w);
    assert_int_equal(runs_in(base), 1);
    assert_int_equal(run_folder_open(&f, NULL, &e), 0);
    assert_int_equal(runs_in(base), 1); /* its own */
    run_folder_close(&f);
    assert_int_equal(runs_in(base), 0);
    unsetenv("RUNTIME_DIRECTORY");
    rmdir(base);
    wl_state_unref(s);
}

static void folders_given(void **state)
{
    struct run_folder f;
    struct err e;
    assert_int_equal(run_folder_open(&f, "relative", &e), -1);
    assert_string_equal(e.rule, "run-folder");
    assert_int_equal(run_folder_open(&f, scratch, &e), 0);
    assert_string_equal(f.path, scratch);
    run_folder_close(&f);
    struct stat st;
    assert_int_equal(stat(scratch, &st), 0); /* it was there before */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(picks),
        cmocka_unit_test(makes_sets),
        cmocka_unit_test(sees_changes),
        cmocka_unit_test(halves_jwts),
        cmocka_unit_test(forwards_once),
        cmocka_unit_test(passes_ends_on),
        cmocka_unit_test(refuses_commands),
        cmocka_unit_test(hands_sockets_over),
        cmocka_unit_test(folders_in_memory),
        cmocka_unit_test(removes_what_killed_runs_left),
        cmocka_unit_test(folders_given),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
