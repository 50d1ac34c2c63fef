#include "base/fault.h"
#include "unit/base/scratch.h"
#include <signal.h>
#include <sys/wait.h>

#ifdef MAYFLY_FAULTS
static const char *request(const char *text)
{
    const char *path = scratch_path("fault");
    scratch_write(path, text, 0600);
    setenv("MAYFLY_FAULT_FILE", path, 1);
    return path;
}

static void test_nothing_asked(void **state)
{
    unsetenv("MAYFLY_FAULT_FILE");
    assert_int_equal(FAULT("a"), 0);
    setenv("MAYFLY_FAULT_FILE", "/nonexistent/fault", 1);
    assert_int_equal(FAULT("a"), 0);
    const char *path = request("b fail\n");
    assert_int_equal(FAULT("a"), 0);
    assert_int_equal(access(path, F_OK), 0);
    request("a\n"); /* no action */
    assert_int_equal(FAULT("a"), 0);
    request("a frobnicate\n"); /* unknown action: fires as nothing */
    assert_int_equal(FAULT("a"), 0);
}

static void test_fail_fires_once(void **state)
{
    const char *path = request("a fail\n");
    assert_int_equal(FAULT("a"), 1);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(FAULT("a"), 0);
}

static void test_skip(void **state)
{
    request("a fail 2\n");
    assert_int_equal(FAULT("a"), 0);
    assert_int_equal(FAULT("other"), 0); /* passes of others do not count */
    assert_int_equal(FAULT("a"), 0);
    assert_int_equal(FAULT("a"), 1);
    assert_int_equal(FAULT("a"), 0);
}

static int status_of(const char *text)
{
    request(text);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)FAULT("a");
        _exit(3);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void test_deaths(void **state)
{
    int status = status_of("a kill\n");
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGKILL);
    status = status_of("a exit\n");
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 97);
}

static void test_hang(void **state)
{
    const char *path = request("a hang\n");
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)FAULT("a");
        _exit(3);
    }
    while (access(path, F_OK) == 0) /* removed when it fires: from then on it hangs */
        usleep(1000);
    kill(pid, SIGTERM);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGTERM);
}
#else
static void test_compiled_out(void **state)
{
    assert_int_equal(FAULT("a"), 0);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
#ifdef MAYFLY_FAULTS
        cmocka_unit_test(test_nothing_asked), cmocka_unit_test(test_fail_fires_once),
        cmocka_unit_test(test_skip),          cmocka_unit_test(test_deaths),
        cmocka_unit_test(test_hang),
#else
        cmocka_unit_test(test_compiled_out),
#endif
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
