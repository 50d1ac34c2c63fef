/* What the kernel writes under /proc/PID, parsed: names made to deceive, lines cut off. */
#include "agent/peer.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define TAIL " R 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 95276 20 21\n"

static int stat_of(struct proc_stat *s, const char *text)
{
    return proc_stat_parse(s, text, strlen(text));
}

static void stat_plain(void **state)
{
    struct proc_stat s;
    assert_int_equal(stat_of(&s, "14437 (cat)" TAIL), 0);
    assert_int_equal(s.state, 'R');
    assert_int_equal(s.start, 95276);
    assert_int_equal(stat_of(&s, "1 (a) Z 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 18446744073709551615\n"), 0);
    assert_true(s.start == UINT64_MAX);
    assert_int_equal(s.state, 'Z');
}

static void stat_name_deceives(void **state)
{
    struct proc_stat s;
    assert_int_equal(stat_of(&s, "9 (x) S 1 2 3 4 5 6)" TAIL), 0);
    assert_int_equal(s.start, 95276);
    assert_int_equal(s.state, 'R');
    assert_int_equal(stat_of(&s, "9 (a\nb (c) )" TAIL), 0);
    assert_int_equal(s.start, 95276);
}

static void stat_damaged(void **state)
{
    static const char whole[] = "14437 (cat) R 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 95276 20";
    struct proc_stat s;
    /* until a character stands behind the start time, it may be cut off */
    for (size_t len = 0; len <= strlen(whole) - 3; len++)
        assert_int_equal(proc_stat_parse(&s, whole, len), -1);
    assert_int_equal(proc_stat_parse(&s, whole, strlen(whole) - 2), 0);
    assert_int_equal(stat_of(&s, "1 (a) R 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 18446744073709551616 1\n"), -1);
    assert_int_equal(stat_of(&s, "1 (a) R 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 -5 1\n"), -1);
    assert_int_equal(stat_of(&s, "no parenthesis"), -1);
    assert_int_equal(stat_of(&s, ""), -1);
}

static const char status[] = "Name:\tweb\\nUid:\t0\nUmask:\t0022\nState:\tS (sleeping)\nUid:\t1000\t1001\t1002\t1003\n"
                             "Gid:\t2000\t2001\t2002\t2003\nFDSize:\t64\nGroups:\t4 27 100 \nNSpid:\t7\n";

static void status_plain(void **state)
{
    struct proc_status s;
    assert_int_equal(proc_status_parse(&s, status, strlen(status)), 0);
    assert_int_equal(s.uid, 1001);
    assert_int_equal(s.gid, 2001);
    assert_int_equal(s.groups_count, 3);
    assert_int_equal(s.groups[0], 4);
    assert_int_equal(s.groups[2], 100);
}

static void status_cut(void **state)
{
    struct proc_status s;
    size_t ids = (size_t)(strstr(status, "FDSize") - status), groups = (size_t)(strstr(status, "100 \n") - status);
    for (size_t len = 0; len < ids; len++)
        assert_int_equal(proc_status_parse(&s, status, len), -1);
    assert_int_equal(proc_status_parse(&s, status, ids), 0);
    assert_int_equal(s.groups_count, 0);
    for (size_t len = groups; len <= groups + 3; len++) { /* "1", "10" and "100" at the very end may be more */
        assert_int_equal(proc_status_parse(&s, status, len), 0);
        assert_int_equal(s.groups_count, 2);
    }
}

static void status_many_groups(void **state)
{
    char text[4096];
    struct proc_status s;
    int n = snprintf(text, sizeof text, "Uid:\t1\t1\t1\t1\nGid:\t1\t1\t1\t1\nGroups:\t");
    for (int i = 0; i < 500; i++)
        n += snprintf(text + n, sizeof text - (size_t)n, "%d ", 1000 + i);
    assert_int_equal(proc_status_parse(&s, text, (size_t)n), 0);
    assert_int_equal(s.groups_count, PEER_GROUPS_MAX);
    assert_int_equal(s.groups[PEER_GROUPS_MAX - 1], 1000 + PEER_GROUPS_MAX - 1);
}

static void status_damaged(void **state)
{
    static const char *const bad[] = {"Uid:\t1\nGid:\t1\t1\n", "Uid:\t1\t4294967296\t1\nGid:\t1\t1\t1\n",
                                      "Uid:\t1\tx\t1\nGid:\t1\t1\t1\n", "Gid:\t1\t1\t1\n", " Uid:\t1\t1\t1\nGid:\t1\t1\n"};
    struct proc_status s;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(proc_status_parse(&s, bad[i], strlen(bad[i])), -1);
}

static void ourselves(void **state)
{
    struct proc_now n;
    struct err e;
    int dir = proc_open(getpid(), &e);
    assert_true(dir >= 0);
    assert_int_equal(proc_read(&n, dir, &e), 0);
    assert_int_equal(n.status.uid, geteuid());
    assert_int_equal(n.status.gid, getegid());
    assert_true(n.exe.known);
    close(dir);
    assert_int_equal(proc_open(4194305, &e), -1); /* above any PID */
    assert_string_equal(e.rule, "peer-gone");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stat_plain),   cmocka_unit_test(stat_name_deceives), cmocka_unit_test(stat_damaged),
        cmocka_unit_test(status_plain), cmocka_unit_test(status_cut),         cmocka_unit_test(status_many_groups),
        cmocka_unit_test(status_damaged), cmocka_unit_test(ourselves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
