#include "base/secmem.h"
#include "unit/base/scratch.h"
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

static void test_memory(void **state)
{
    static const size_t sizes[] = {1, 15, 16, 17, 4096, 4097, 100000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct err e = {0};
        struct secret s;
        assert_int_equal(secret_new(&s, sizes[i], &e), 0);
        assert_int_equal(s.len, 0);
        assert_int_equal(s.cap, sizes[i]);
        assert_int_equal((uintptr_t)s.p % 16, 0);
        memset(s.p, 'x', s.cap);
        secret_free(&s);
        assert_null(s.p);
        secret_free(&s);
    }
    struct secret s = {0};
    struct err e = {0};
    secret_free(&s);
    assert_int_equal(secret_new(&s, 0, &e), -1);
    assert_int_equal(secret_new(&s, SIZE_MAX, &e), -1);
}

/* Runs in a child, because it is to die: reads one byte past the guard's edge. */
static int child_status(const struct secret *s, long offset)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        signal(SIGSEGV, SIG_DFL);
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        volatile uint8_t *p = s->p;
        uint8_t v = p[offset];
        _exit(v == 0 ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void test_guards_and_fork(void **state)
{
    struct err e = {0};
    struct secret s;
    assert_int_equal(secret_new(&s, 32, &e), 0);
    memset(s.p, 's', 32);
    int status = child_status(&s, 0);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0); /* wiped in the child */
    assert_int_equal(s.p[0], 's');
    assert_true(WIFSIGNALED(child_status(&s, 32)));
    assert_true(WIFSIGNALED(child_status(&s, -(4096 - 32) - 1)));
    secret_free(&s);
}

static int read_file(const char *text, mode_t mode, struct secret *s, struct err *e)
{
    const char *path = scratch_path("pin");
    scratch_write(path, text, mode);
    int r = secret_read_file(s, path, 8, e);
    unlink(path);
    return r;
}

static void test_file(void **state)
{
    struct err e = {0};
    struct secret s;
    assert_int_equal(read_file("1234\n", 0600, &s, &e), 0);
    assert_int_equal(s.len, 4);
    assert_memory_equal(s.p, "1234", 4);
    secret_free(&s);
    assert_int_equal(read_file("12345678\n", 0400, &s, &e), 0);
    assert_int_equal(s.len, 8);
    secret_free(&s);
    assert_int_equal(read_file("1\n\n", 0400, &s, &e), 0); /* one newline only */
    assert_memory_equal(s.p, "1\n", 2);
    assert_int_equal(s.len, 2);
    secret_free(&s);
    assert_int_equal(read_file("123456789\n", 0600, &s, &e), -1);
    assert_int_equal(e.code, ERR_TOO_LARGE);
    assert_null(s.p);
    assert_int_equal(read_file("1234567890123", 0600, &s, &e), -1);
    assert_int_equal(read_file("", 0600, &s, &e), -1);
    assert_string_equal(e.rule, "secret-size");
    assert_int_equal(read_file("\n", 0600, &s, &e), -1);
    assert_int_equal(secret_read_file(&s, scratch_path("absent"), 8, &e), -1);
    assert_int_equal(e.code, ERR_NOT_FOUND);
}

static void test_modes(void **state)
{
    static const mode_t bad[] = {0604, 0602, 0601, 0620, 0660, 0644, 0610, 0666};
    struct err e = {0};
    struct secret s;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(read_file("1234", bad[i], &s, &e), -1);
        assert_string_equal(e.rule, "secret-mode");
        assert_null(strstr(e.msg, "1234"));
    }
    /* read by the group: only by group 0, as systemd's credentials are */
    int r = read_file("1234", 0440, &s, &e);
    assert_int_equal(r, getegid() == 0 ? 0 : -1);
    secret_free(&s);
    assert_int_equal(mkfifo(scratch_path("fifo"), 0600), 0);
    assert_int_equal(secret_read_file(&s, scratch_path("fifo"), 8, &e), -1);
    assert_string_equal(e.rule, "secret-mode");
    assert_int_equal(secret_read_file(&s, scratch, 8, &e), -1);
}

static void test_descriptor(void **state)
{
    struct err e = {0};
    struct secret s;
    int p[2];
    assert_int_equal(pipe(p), 0);
    assert_int_equal(write(p[1], "98", 2), 2);
    assert_int_equal(write(p[1], "76\n", 3), 3);
    close(p[1]);
    assert_int_equal(secret_read_fd(&s, p[0], 64, &e), 0);
    assert_int_equal(s.len, 4);
    assert_memory_equal(s.p, "9876", 4);
    secret_free(&s);
    close(p[0]);
    assert_int_equal(secret_read_fd(&s, p[0], 64, &e), -1);
    assert_int_equal(e.code, ERR_IO);
    assert_null(s.p);
}

static void test_wipe(void **state)
{
    char b[] = "secret";
    secret_wipe(b, sizeof b);
    for (size_t i = 0; i < sizeof b; i++)
        assert_int_equal(b[i], 0);
    secret_wipe(NULL, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory),     cmocka_unit_test(test_guards_and_fork),
        cmocka_unit_test(test_file),       cmocka_unit_test(test_modes),
        cmocka_unit_test(test_descriptor), cmocka_unit_test(test_wipe),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
