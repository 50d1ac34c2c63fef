#include "base/fileio.h"
#include "unit/base/scratch.h"
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>

static int entries(const char *path)
{
    int n = 0;
    DIR *d = opendir(path);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));)
        n += strcmp(e->d_name, ".") && strcmp(e->d_name, "..");
    closedir(d);
    return n;
}

static void test_read(void **state)
{
    struct err e = {0};
    struct buf b;
    buf_init(&b, 1 << 20);
    const char *path = scratch_path("f");
    scratch_write(path, "hello", 0600);
    buf_str(&b, "old");
    assert_int_equal(file_read(&b, path, 5, &e), 0);
    assert_string_equal(buf_cstr(&b), "hello");
    assert_int_equal(file_read(&b, path, 4, &e), -1);
    assert_int_equal(e.code, ERR_TOO_LARGE);
    scratch_write(path, "", 0600);
    assert_int_equal(file_read(&b, path, 4, &e), 0);
    assert_int_equal(b.len, 0);
    assert_int_equal(file_read(&b, scratch_path("none"), 4, &e), -1);
    assert_int_equal(e.code, ERR_NOT_FOUND);
    assert_int_equal(file_read(&b, scratch, 4, &e), -1);
    assert_int_equal(e.code, ERR_IO);
    buf_free(&b);
    buf_init(&b, 3); /* the buffer's own limit holds too */
    scratch_write(path, "hello", 0600);
    assert_int_equal(file_read(&b, path, 100, &e), -1);
    assert_int_equal(e.code, ERR_TOO_LARGE);
    buf_free(&b);
    unlink(path);
}

static void test_write_atomic(void **state)
{
    struct err e = {0};
    struct buf b;
    struct stat st;
    buf_init(&b, 1 << 20);
    const char *dir = scratch_path("w"), *path = scratch_path("w/out");
    assert_int_equal(file_mkdirs(dir, 0700, &e), 0);
    umask(077); /* the mode asked for counts, not the mask */
    assert_int_equal(file_write_atomic(path, "one", 3, 0644, true, &e), 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0644);
    assert_int_equal(file_write_atomic(path, "two!", 4, 0600, false, &e), 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(file_read(&b, path, 10, &e), 0);
    assert_string_equal(buf_cstr(&b), "two!");
    assert_int_equal(entries(dir), 1);

    assert_int_equal(file_write_atomic(scratch_path("absent/out"), "x", 1, 0600, true, &e), -1);
    assert_int_equal(e.code, ERR_IO);
    assert_int_equal(file_write_atomic(scratch_path("w/"), "x", 1, 0600, true, &e), -1);
    /* over a folder: refused, and no temporary file left */
    assert_int_equal(file_mkdirs(scratch_path("w/sub"), 0700, &e), 0);
    assert_int_equal(file_write_atomic(scratch_path("w/sub"), "x", 1, 0600, true, &e), -1);
    assert_int_equal(entries(dir), 2);
    buf_free(&b);
}

/* A file that can not be written whole leaves the old one as it was. */
static void test_full_disk(void **state)
{
    struct err e = {0};
    struct buf b;
    struct rlimit old;
    static char big[100000];
    const char *path = scratch_path("full");
    buf_init(&b, 1 << 20);
    assert_int_equal(file_write_atomic(path, "old", 3, 0600, true, &e), 0);
    int before = entries(scratch);
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old);
    setrlimit(RLIMIT_FSIZE, &(struct rlimit){4096, old.rlim_max});
    int r = file_write_atomic(path, big, sizeof big, 0600, true, &e);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_int_equal(r, -1);
    assert_non_null(strstr(e.msg, "File too large"));
    assert_int_equal(entries(scratch), before);
    assert_int_equal(file_read(&b, path, 10, &e), 0);
    assert_string_equal(buf_cstr(&b), "old");
    buf_free(&b);
}

static void test_write_all(void **state)
{
    int p[2];
    assert_int_equal(pipe(p), 0);
    assert_int_equal(file_write_all(p[1], "abc", 3), 0);
    assert_int_equal(file_write_all(p[1], NULL, 0), 0);
    close(p[0]);
    signal(SIGPIPE, SIG_IGN);
    assert_int_equal(file_write_all(p[1], "abc", 3), -1);
    assert_int_equal(errno, EPIPE);
    close(p[1]);
}

static void test_folders(void **state)
{
    struct err e = {0};
    struct stat st;
    umask(022);
    assert_int_equal(file_mkdirs(scratch_path("a/b//c/"), 0700, &e), 0);
    assert_int_equal(stat(scratch_path("a/b/c"), &st), 0);
    assert_true(S_ISDIR(st.st_mode));
    assert_int_equal(st.st_mode & 0777, 0700);
    assert_int_equal(file_mkdirs(scratch_path("a/b/c"), 0700, &e), 0);
    assert_int_equal(file_mkdirs("/", 0700, &e), 0);
    assert_int_equal(file_mkdirs("", 0700, &e), -1);
    scratch_write(scratch_path("a/file"), "", 0600);
    assert_int_equal(file_mkdirs(scratch_path("a/file"), 0700, &e), -1);
    assert_int_equal(file_mkdirs(scratch_path("a/file/x"), 0700, &e), -1);
    if (access("/sys/kernel", F_OK) == 0) { /* where it is mounted, nobody may: why, and not that it is missing */
        assert_int_equal(file_mkdirs("/sys/mayfly-test", 0700, &e), -1);
        assert_null(strstr(e.msg, strerror(ENOENT)));
    }
    assert_int_equal(file_sync_dir(scratch_path("a"), &e), 0);
    assert_int_equal(file_sync_dir(scratch_path("a/file"), &e), -1);
    assert_int_equal(file_sync_dir(scratch_path("none"), &e), -1);
    assert_string_equal(e.rule, "file-sync");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read),      cmocka_unit_test(test_write_atomic),
        cmocka_unit_test(test_full_disk), cmocka_unit_test(test_write_all),
        cmocka_unit_test(test_folders),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
