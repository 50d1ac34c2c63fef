/* Output folders: a set is whole wherever the disk ends, wherever the writer dies, and for who reads meanwhile. */
#include "base/log.h"
#include "unit/agent/output_dir.h"
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mount.h>
#include <sys/wait.h>

/* --- where the disk ends -------------------------------------------------------------------------------- */

/* Each size of a full disk leaves the old set or gives the new one, and nothing behind. */
static void full_disk(void **state)
{
    struct err e;
    int good = 0, bad = 0;
    if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        skip();
    mkdir(dir, 0755);
    if (mount("tmpfs", dir, "tmpfs", 0, "size=128k,nr_inodes=200,mode=0755") < 0)
        skip();
    struct output_config c = a_config(dir);
    c.combined = true;
    must_write(&c, 1);
    for (int left = 0; left <= 10; left++) {
        int fill = open(in("fill"), O_WRONLY | O_CREAT | O_TRUNC, 0600);
        char page[4096] = {1};
        while (write(fill, page, sizeof page) == sizeof page)
            ;
        struct stat st;
        fstat(fill, &st);
        assert_int_equal(ftruncate(fill, st.st_size - left * 4096), 0);
        close(fill);
        if (write_set(&c, 2, &e) == 0) {
            is_set(2);
            good++;
            unlink(in("fill"));
            must_write(&c, 1);
        } else {
            bad++;
            assert_string_equal(e.rule, "out-space");
            is_set(1);
            assert_int_equal(count(dir, "..set-"), 1);
            assert_int_equal(count(dir, "..data.new"), 0);
        }
    }
    assert_true(good > 0 && bad > 0);
    assert_int_equal(output_try(&c, &e), 0);
    umount2(dir, MNT_DETACH);
}

static void read_only_folder(void **state)
{
    struct output_config c = a_config(dir);
    must_write(&c, 1);
    if (geteuid() != 0) {
        assert_int_equal(chmod(dir, 0555), 0);
        refused(&c, "out-write");
        is_set(1);
        assert_int_equal(chmod(dir, 0755), 0);
        return;
    }
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount(dir, dir, NULL, MS_BIND, NULL) < 0 || mount(NULL, dir, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL) < 0)
        skip();
    struct err e;
    assert_int_equal(write_set(&c, 2, &e), -1);
    assert_true(strstr(e.msg, "Read-only") != NULL);
    is_set(1);
    assert_int_equal(output_try(&c, &e), -1);
    umount2(dir, MNT_DETACH);
    must_write(&c, 3);
    is_set(3);
}

/* --- where the writer dies ------------------------------------------------------------------------------ */

#ifdef MAYFLY_FAULTS
static void killed(void **state)
{
    static const char *const points[] = {"output-staged kill\n", "output-linked kill\n"};
    struct output_config c = a_config(dir);
    const char *fault = scratch_path("fault");
    for (size_t i = 0; i < 2; i++) {
        must_write(&c, 1);
        int before = count(dir, "..set-");
        pid_t pid = fork();
        if (pid == 0) {
            scratch_write(fault, points[i], 0600);
            setenv("MAYFLY_FAULT_FILE", fault, 1);
            c.combined = true;
            must_write(&c, 2);
            _exit(0);
        }
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status));
        is_set(1);
        assert_true(count(dir, "..set-") >= 2 && before >= 1);
        must_write(&c, 3);
        is_set(3);
        assert_int_equal(count(dir, "..set-"), 2);
        assert_int_equal(count(dir, ".svid"), 0);
    }
}

static void failing_steps(void **state)
{
    static const char *const points[] = {"output-staged fail\n", "output-linked fail\n"};
    struct output_config c = a_config(dir);
    must_write(&c, 1);
    c.combined = true;
    setenv("MAYFLY_FAULT_FILE", scratch_path("fault"), 1);
    for (size_t i = 0; i < 2; i++) {
        scratch_write(scratch_path("fault"), points[i], 0600);
        refused(&c, "fault");
        is_set(1);
        assert_int_equal(count(dir, "..set-"), 1);
        assert_int_equal(count(dir, ".svid"), 0);
    }
    unsetenv("MAYFLY_FAULT_FILE");
}
#endif

/* Killed anywhere: the set is always whole. */
static void killed_anywhere(void **state)
{
    struct output_config c = a_config(dir);
    char got[256];
    must_write(&c, 1);
    for (int i = 0; i < 20; i++) {
        pid_t pid = fork();
        if (pid == 0)
            for (int n = 1;; n = n % 100 + 1)
                must_write(&c, n);
        usleep(3000);
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        slurp(in("svid.pem"), got, sizeof got);
        is_set(atoi(got + 6));
    }
    must_write(&c, 42);
    is_set(42);
    assert_int_equal(count(dir, "..set-"), 2);
}

/* --- who reads meanwhile -------------------------------------------------------------------------------- */

struct reader {
    pthread_t thread;
    atomic_bool stop;
    atomic_ulong sets, mixed;
};

/* As a careful program reads: ..data is resolved once, and all files are read from there. */
static void *read_on(void *arg)
{
    struct reader *r = arg;
    char chain[64], bundle[64];
    while (!atomic_load(&r->stop)) {
        int set = open(in("..data"), O_RDONLY | O_DIRECTORY);
        int one = openat(set, "svid.pem", O_RDONLY), two = openat(set, "bundle.pem", O_RDONLY);
        ssize_t n = read(one, chain, sizeof chain - 1), m = read(two, bundle, sizeof bundle - 1);
        chain[n > 0 ? n : 0] = bundle[m > 0 ? m : 0] = 0;
        if (n > 0 && m > 0) { /* else two swaps came between */
            r->mixed += atoi(chain + 6) != atoi(bundle + 7);
            r->sets++;
        }
        close(one);
        close(two);
        close(set);
    }
    return NULL;
}

static void readers_see_whole_sets(void **state)
{
    struct output_config c = a_config(dir);
    struct reader r = {0};
    must_write(&c, 1);
    assert_int_equal(pthread_create(&r.thread, NULL, read_on, &r), 0);
    for (int n = 2; n < 200 || r.sets < 200; n++)
        must_write(&c, n % 100);
    atomic_store(&r.stop, true);
    pthread_join(r.thread, NULL);
    assert_int_equal(r.mixed, 0);
}

int main(void)
{
    log_setup("test", LOG_ERROR, LOG_TEXT);
    const struct CMUnitTest tests[] = {
        IN_DIR(full_disk),
        IN_DIR(read_only_folder),
#ifdef MAYFLY_FAULTS
        IN_DIR(killed),
        IN_DIR(failing_steps),
#endif
        IN_DIR(killed_anywhere),
        IN_DIR(readers_see_whole_sets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
