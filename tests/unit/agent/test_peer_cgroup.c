/* Units and containers by control group: what engines write, and what a user may write below his own group. */
#include "agent/peer.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define ID "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define OTHER "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210"
#define POD "pod5f4e3d2c_1111_2222_3333_444455556666"

static struct peer_cgroup c;

static void parse(const char *text)
{
    peer_cgroup_parse(&c, text, strlen(text));
}

struct expect {
    const char *path, *unit, *container;
};

static void is(const char *path, const char *unit, const char *container)
{
    char text[PEER_CGROUP_PATH + 16];
    snprintf(text, sizeof text, "0::%s\n", path);
    parse(text);
    if (strcmp(c.path, path) != 0 || strcmp(c.unit, unit) != 0 || strcmp(c.container, container) != 0)
        fail_msg("%s: path '%s' unit '%s' container '%s'", path, c.path, c.unit, c.container);
}

static void units(void **state)
{
    is("/system.slice/nginx.service", "nginx.service", "");
    is("/system.slice/system-getty.slice/getty@tty1.service", "getty@tty1.service", "");
    is("/user.slice/user-1000.slice/session-3.scope", "session-3.scope", "");
    is("/init.scope", "init.scope", "");
    is("/", "", "");
    is("/system.slice", "", "");
    is("/system.slice/_cpu.service", "cpu.service", "");
    is("/system.slice/nginx.service (deleted)", "", "");
    is("/../../system.slice/web.service", "web.service", "");
}

/* Names below a group that was handed over are somebody else's. */
static void units_below_units(void **state)
{
    is("/user.slice/user-1000.slice/user@1000.service/app.slice/nginx.service", "user@1000.service", "");
    is("/system.slice/postgresql@15-main.service/system.slice/nginx.service", "postgresql@15-main.service", "");
    is("/system.slice/docker-" ID ".scope/system.slice/nginx.service", "docker-" ID ".scope", ID);
    is("/docker/" ID "/nginx.service", "", ID);
}

static void containers(void **state)
{
    is("/docker/" ID, "", ID);
    is("/system.slice/docker-" ID ".scope", "docker-" ID ".scope", ID);
    is("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-" POD ".slice/cri-containerd-" ID ".scope",
       "cri-containerd-" ID ".scope", ID);
    is("/kubepods.slice/kubepods-besteffort.slice/x.slice/crio-" ID ".scope", "crio-" ID ".scope", ID);
    is("/kubepods/burstable/" POD "/" ID, "", ID);
    is("/kubepods/" POD "/crio-" ID, "", ID);
    is("/system.slice/containerd.service/kubepods-burstable-" POD ".slice:cri-containerd:" ID, "containerd.service", ID);
    is("/machine.slice/libpod-" ID ".scope/container", "libpod-" ID ".scope", ID);
    is("/libpod_parent/libpod-" ID, "", ID);
}

static void no_containers(void **state)
{
    is("/" ID, "", "");
    is("/system.slice/" ID, "", "");
    is("/machine.slice/libpod-conmon-" ID ".scope", "libpod-conmon-" ID ".scope", "");
    is("/docker/" ID "0", "", "");
    is("/docker/0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef", "", "");
    is("/docker/0123456789abcdeg0123456789abcdef0123456789abcdef0123456789abcdef", "", "");
    is("/docker/0123", "", "");
    is("/system.slice/docker-.scope", "docker-.scope", "");
}

static void containers_forged(void **state)
{
    /* a user's own group: any name is to be had for mkdir */
    is("/user.slice/user-1000.slice/user@1000.service/docker-" ID ".scope", "user@1000.service", "");
    is("/user.slice/user-1000.slice/user@1000.service/kubepods/" ID, "user@1000.service", "");
    /* a container inside a container: the host's word is the outer one */
    is("/docker/" ID "/docker/" OTHER, "", ID);
    is("/system.slice/docker-" ID ".scope/kubepods/besteffort/" POD "/" OTHER, "docker-" ID ".scope", ID);
}

static void version_1(void **state)
{
    parse("12:pids:/docker/" ID "\n11:memory:/docker/" ID "\n1:name=systemd:/docker/" ID "\n0::/\n");
    assert_string_equal(c.container, ID);
    assert_string_equal(c.path, "/docker/" ID);
    parse("4:memory:/elsewhere\n1:name=systemd:/system.slice/web.service\n0::/\n");
    assert_string_equal(c.unit, "web.service");
    parse("4:memory:/elsewhere\n1:name=systemd:/system.slice/web.service\n0::/system.slice/other.service\n");
    assert_string_equal(c.unit, "other.service");
    parse("9:name=systemd:/\n4:memory:/a/b\n0::/\n");
    assert_string_equal(c.path, "/a/b");
    parse("9:name=systemd:/\n0::/\n");
    assert_string_equal(c.path, "/");
    parse("2:cpu,cpuacct:/with:colon\n");
    assert_string_equal(c.path, "/with:colon");
}

static void damaged(void **state)
{
    static const char *const none[] = {"", "\n", "0::", "0::\n", "0:\n", "0::/cut-off", "0::relative\n", "::\n", ":::\n"};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        parse(none[i]);
        assert_string_equal(c.path, "");
        assert_string_equal(c.unit, "");
        assert_string_equal(c.container, "");
    }
    char text[PEER_CGROUP_PATH + 100];
    memset(text, 'a', sizeof text);
    memcpy(text, "0::/", 4);
    text[sizeof text - 1] = '\n';
    peer_cgroup_parse(&c, text, sizeof text); /* too long a path */
    assert_string_equal(c.path, "");
    peer_cgroup_parse(&c, "0::/a\0b\n", 8);
    assert_string_equal(c.path, "");
    memset(text, 'a', sizeof text);
    memcpy(text, "0::/", 4);
    memcpy(text + 300, ".service\n", 9); /* longer than a unit's name may be */
    peer_cgroup_parse(&c, text, 309);
    assert_string_equal(c.unit, "");
    assert_int_equal(strlen(c.path), 305);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(units),         cmocka_unit_test(units_below_units), cmocka_unit_test(containers),
        cmocka_unit_test(no_containers), cmocka_unit_test(containers_forged), cmocka_unit_test(version_1),
        cmocka_unit_test(damaged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
