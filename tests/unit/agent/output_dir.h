/* For tests of output folders: one in a folder of the test's own, sets written to it, and what is found there then. */
#ifndef UNIT_AGENT_OUTPUT_DIR_H
#define UNIT_AGENT_OUTPUT_DIR_H
#include "agent/pem.h"
#include "unit/agent/output_set.h"
#include <dirent.h>

static char dir[128];

static inline int setup(void **state)
{
    if (scratch_make(state) < 0)
        return -1;
    snprintf(dir, sizeof dir, "%s/out", scratch);
    return 0;
}
#define IN_DIR(f) cmocka_unit_test_setup_teardown(f, setup, scratch_remove)

static inline const char *in(const char *name)
{
    static char path[8][300];
    static unsigned next;
    char *p = path[next++ % 8];
    snprintf(p, sizeof path[0], "%s/%s", dir, name);
    return p;
}

static inline int write_set(const struct output_config *c, int n, struct err *e)
{
    struct a_set x;
    a_set_make(&x, n);
    int rc = output_write(c, &x.set, e);
    secret_free(&x.key);
    return rc;
}

static inline int write_stamped(const struct output_config *c, int n, struct output_stamp *stamp)
{
    struct a_set x;
    struct err e;
    a_set_make(&x, n);
    x.set.stamp = stamp;
    int rc = output_write(c, &x.set, &e);
    secret_free(&x.key);
    return rc;
}

static inline void must_write(const struct output_config *c, int n)
{
    struct err e;
    if (write_set(c, n, &e) < 0)
        fail_msg("%s: %s", e.rule, e.msg);
}

static inline size_t slurp(const char *path, char *dst, size_t cap)
{
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    ssize_t n = read(fd, dst, cap - 1);
    assert_true(n >= 0);
    dst[n] = 0;
    close(fd);
    return (size_t)n;
}

static inline void is_set(int n)
{
    char want[64], got[1024], pem[PEM_ROOM(121)];
    uint8_t key[121];
    snprintf(want, sizeof want, "chain %d\n", n);
    slurp(in("svid.pem"), got, sizeof got);
    assert_string_equal(got, want);
    snprintf(want, sizeof want, "bundle %d\n", n);
    slurp(in("bundle.pem"), got, sizeof got);
    assert_string_equal(got, want);
    memset(key, n, sizeof key);
    pem[pem_write(pem, "PRIVATE KEY", key, sizeof key)] = 0;
    slurp(in("svid.key"), got, sizeof got);
    assert_string_equal(got, pem);
}

/* Names in a folder, but for "." and "..", the lock and the links. */
static inline int count(const char *path, const char *start)
{
    DIR *d = opendir(path);
    int n = 0;
    assert_non_null(d);
    for (struct dirent *x; (x = readdir(d));)
        n += strncmp(x->d_name, start, strlen(start)) == 0 && strcmp(x->d_name, ".") != 0 &&
             strcmp(x->d_name, "..") != 0;
    closedir(d);
    return n;
}

static inline void refused(const struct output_config *c, const char *rule)
{
    struct err e;
    assert_int_equal(write_set(c, 99, &e), -1);
    if (strcmp(e.rule, rule) != 0)
        fail_msg("rule %s, not %s: %s", e.rule, rule, e.msg);
}

#endif
