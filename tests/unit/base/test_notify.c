#include "base/notify.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

/* In a folder, and without a file: both kinds of names that systemd gives. */
static void heard(const char *name)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    char in[64] = "";
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    memcpy(a.sun_path, name, strlen(name));
    if (name[0] == '@')
        a.sun_path[0] = 0;
    assert_int_equal(bind(fd, (void *)&a, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name))), 0);
    setenv("NOTIFY_SOCKET", name, 1);
    notify_say("READY=1");
    assert_int_equal(recv(fd, in, sizeof in, MSG_DONTWAIT), 7);
    assert_string_equal(in, "READY=1");
    unsetenv("NOTIFY_SOCKET");
    notify_say("STOPPING=1");
    setenv("NOTIFY_SOCKET", "not/a/socket", 1);
    notify_say("STOPPING=1");
    assert_int_equal(recv(fd, in, sizeof in, MSG_DONTWAIT), -1);
    close(fd);
}

static void says(void **state)
{
    char dir[] = "/tmp/mayfly-notify-test.XXXXXX", path[64];
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/s", dir);
    heard(path);
    unlink(path);
    rmdir(dir);
    snprintf(path, sizeof path, "@mayfly-notify-test.%ld", (long)getpid());
    heard(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(says)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
