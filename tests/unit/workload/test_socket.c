#include "unit/base/scratch.h"
#include "workload/workload.h"
#include <errno.h>
#include <sys/socket.h>
#include <sys/un.h>

static char path[200];
static struct err e;

static int dial(void)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof a.sun_path, "%.100s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    int r = connect(fd, (struct sockaddr *)&a, sizeof a);
    close(fd);
    return r;
}

static void test_listen(void **state)
{
    struct stat st;
    mode_t old = umask(077);
    snprintf(path, sizeof path, "%s/a/b/agent.sock", scratch);
    int fd = wl_socket_listen(path, 0666, &e);
    umask(old);
    assert_true(fd >= 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0666);
    assert_int_equal(dial(), 0);
    char dir[200];
    snprintf(dir, sizeof dir, "%s/a/b", scratch);
    assert_int_equal(stat(dir, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0755); /* whatever the umask */
    assert_int_equal(wl_socket_listen(path, 0666, &e), -1);
    assert_int_equal(e.code, ERR_EXISTS);
    assert_string_equal(e.rule, "socket-in-use");
    assert_int_equal(dial(), 0); /* undisturbed */
    close(fd);
    assert_int_equal(dial(), -1);
    fd = wl_socket_listen(path, 0600, &e); /* a stale one is replaced */
    assert_true(fd >= 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(dial(), 0);
    close(fd);
}

static void test_refusals(void **state)
{
    char text[300];
    snprintf(path, sizeof path, "%s/file", scratch);
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    close(fd);
    assert_int_equal(wl_socket_listen(path, 0666, &e), -1);
    assert_string_equal(e.rule, "socket-path");
    assert_int_equal(access(path, F_OK), 0); /* not ours to remove */
    assert_int_equal(wl_socket_listen("agent.sock", 0666, &e), -1);
    assert_string_equal(e.rule, "socket-path");
    memset(text, 'x', sizeof text);
    text[0] = '/';
    text[sizeof text - 1] = 0;
    assert_int_equal(wl_socket_listen(text, 0666, &e), -1);
    assert_string_equal(e.rule, "socket-path");
    snprintf(path, sizeof path, "%s/file/agent.sock", scratch);
    assert_int_equal(wl_socket_listen(path, 0666, &e), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_listen), cmocka_unit_test(test_refusals)};
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
