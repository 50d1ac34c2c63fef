/* Output folders: a set changes as one, whoever kills the writer and wherever the disk ends. */
#include "agent/pem.h"
#include "agent/walk.h"
#include "base/fault.h"
#include "base/log.h"
#include "unit/agent/output_set.h"
#include <dirent.h>
#include <errno.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mount.h>
#include <sys/wait.h>

static char dir[128];

static int setup(void **state)
{
    if (scratch_make(state) < 0)
        return -1;
    snprintf(dir, sizeof dir, "%s/out", scratch);
    return 0;
}

static const char *in(const char *name)
{
    static char path[8][300];
    static unsigned next;
    char *p = path[next++ % 8];
    snprintf(p, sizeof path[0], "%s/%s", dir, name);
    return p;
}

static int write_set(const struct output_config *c, int n, struct err *e)
{
    struct a_set x;
    a_set_make(&x, n);
    int rc = output_write(c, &x.set, e);
    secret_free(&x.key);
    return rc;
}

static void must_write(const struct output_config *c, int n)
{
    struct err e;
    if (write_set(c, n, &e) < 0)
        fail_msg("%s: %s", e.rule, e.msg);
}

static size_t slurp(const char *path, char *dst, size_t cap)
{
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    ssize_t n = read(fd, dst, cap - 1);
    assert_true(n >= 0);
    dst[n] = 0;
    close(fd);
    return (size_t)n;
}

static void is_set(int n)
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
static int count(const char *path, const char *start)
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

static mode_t mode_of(const char *path)
{
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return st.st_mode & 07777;
}

static void refused(const struct output_config *c, const char *rule)
{
    struct err e;
    assert_int_equal(write_set(c, 99, &e), -1);
    if (strcmp(e.rule, rule) != 0)
        fail_msg("rule %s, not %s: %s", e.rule, rule, e.msg);
}

/* --- PEM --------------------------------------------------------------------------------------------- */

static void pem_is_as_openssl_writes_it(void **state)
{
    static const size_t lengths[] = {1, 47, 48, 49, 95, 96, 121, 1200};
    uint8_t der[1200];
    for (size_t i = 0; i < sizeof der; i++)
        der[i] = (uint8_t)(i * 7);
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        char mine[PEM_ROOM(1200)], *theirs;
        size_t n = pem_write(mine, "PRIVATE KEY", der, lengths[i]);
        assert_true(n < PEM_ROOM(lengths[i]));
        BIO *b = BIO_new(BIO_s_mem());
        assert_true(PEM_write_bio(b, "PRIVATE KEY", "", der, (long)lengths[i]) > 0);
        long len = BIO_get_mem_data(b, &theirs);
        assert_int_equal(len, n);
        assert_memory_equal(mine, theirs, n);
        BIO_free(b);
    }
}

static void pem_of_chains(void **state)
{
    static const uint8_t two[] = {0x30, 1, 5, 0x30, 2, 6, 7};
    struct buf b;
    struct err e;
    buf_init(&b, 4096);
    assert_int_equal(pem_certificates(&b, two, sizeof two, &e), 0);
    assert_string_equal(buf_cstr(&b), "-----BEGIN CERTIFICATE-----\nMAEF\n-----END CERTIFICATE-----\n"
                                      "-----BEGIN CERTIFICATE-----\nMAIGBw==\n-----END CERTIFICATE-----\n");
    assert_int_equal(pem_certificates(&b, two, sizeof two - 1, &e), -1);
    assert_int_equal(pem_certificates(&b, "\x04\x01\x05", 3, &e), -1);
    assert_string_equal(e.rule, "pem-der");
    buf_free(&b);
}

/* --- sets -------------------------------------------------------------------------------------------- */

static void writes_and_swaps(void **state)
{
    struct output_config c = a_config(dir);
    umask(077); /* what the umask takes away is given all the same */
    for (int n = 1; n <= 5; n++) {
        must_write(&c, n);
        is_set(n);
    }
    umask(022);
    assert_int_equal(mode_of(dir), 0755);
    assert_int_equal(mode_of(in("..data")), 0755);
    assert_int_equal(mode_of(in("svid.key")), 0600);
    assert_int_equal(mode_of(in("svid.pem")), 0644);
    assert_int_equal(mode_of(in("bundle.pem")), 0644);
    assert_int_equal(count(dir, "..set-"), 2); /* this one, and the last for who is reading it */
    assert_int_equal(count(dir, ""), 3 + 1 + 2 + 1); /* links, ..data, sets, lock */
    assert_int_equal(access(in("svid-combined.pem"), F_OK), -1);
    assert_int_equal(access(in("svid.jwt"), F_OK), -1);
}

static void wanted_and_no_longer(void **state)
{
    struct output_config c = a_config(dir);
    struct a_set x;
    struct err e;
    char got[1024], key[1024];
    c.combined = true;
    c.mode = 0640;
    a_set_make(&x, 1);
    a_set_jwt(&x);
    assert_int_equal(output_write(&c, &x.set, &e), 0);
    is_set(1);
    slurp(in("svid.jwt"), got, sizeof got);
    assert_string_equal(got, "jwt 1\n");
    assert_int_equal(mode_of(in("svid.jwt")), 0640);
    assert_int_equal(mode_of(in("svid.key")), 0640);
    assert_int_equal(mode_of(in("svid.pem")), 0644);
    size_t n = slurp(in("svid-combined.pem"), got, sizeof got);
    slurp(in("svid.key"), key, sizeof key);
    assert_int_equal(n, strlen("chain 1\n") + strlen(key));
    assert_memory_equal(got, "chain 1\n", 8);
    assert_string_equal(got + 8, key);
    c.combined = false;
    x.set.jwt = (struct bytes){NULL, 0};
    assert_int_equal(output_write(&c, &x.set, &e), 0);
    struct stat st;
    assert_int_equal(lstat(in("svid-combined.pem"), &st), -1);
    assert_int_equal(lstat(in("svid.jwt"), &st), -1);
    secret_free(&x.key);
}

static void owner_is_given(void **state)
{
    struct output_config c = a_config(dir);
    struct stat st;
    if (geteuid() != 0) {
        c.uid = 0;
        refused(&c, "out-owner");
        assert_int_equal(count(dir, "..set-"), 0);
        return;
    }
    c.uid = 12345;
    c.gid = 23456;
    must_write(&c, 1);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(stat(in(output_names[i]), &st), 0);
        assert_int_equal(st.st_uid, 12345);
        assert_int_equal(st.st_gid, 23456);
    }
    assert_int_equal(stat(in("..data"), &st), 0);
    assert_int_equal(st.st_uid, 0); /* whoever reads the files does not choose what is in the folder */
}

static void replaces_files_of_fetch(void **state)
{
    struct output_config c = a_config(dir);
    struct stat st;
    mkdir(dir, 0755);
    scratch_write(in("svid.pem"), "old", 0644);
    scratch_write(in("svid.key"), "old", 0600);
    scratch_write(in("mine"), "stays", 0600);
    assert_int_equal(symlink("/etc/passwd", in("bundle.pem")), 0);
    must_write(&c, 1);
    is_set(1);
    assert_int_equal(lstat(in("svid.key"), &st), 0);
    assert_true(S_ISLNK(st.st_mode));
    assert_int_equal(stat("/etc/passwd", &st), 0);
    assert_true(st.st_size > 20);
    char got[16];
    slurp(in("mine"), got, sizeof got);
    assert_string_equal(got, "stays");
}

static void a_folder_in_the_way(void **state)
{
    struct output_config c = a_config(dir);
    must_write(&c, 1);
    c.combined = true;
    assert_int_equal(mkdir(in("svid-combined.pem"), 0755), 0);
    refused(&c, "out-dir");
    is_set(1);
    assert_int_equal(count(dir, "..set-"), 1);
    assert_int_equal(count(dir, ".svid"), 0);
}

static void removes(void **state)
{
    struct output_config c = a_config(dir);
    struct err e;
    must_write(&c, 1);
    must_write(&c, 2);
    scratch_write(in("mine"), "stays", 0600);
    assert_int_equal(output_remove(dir, &e), 0);
    assert_int_equal(count(dir, ""), 1);
    assert_int_equal(access(in("mine"), F_OK), 0);
    assert_int_equal(output_remove(scratch_path("never was"), &e), 0);
}

static void tries(void **state)
{
    struct output_config c = a_config(dir);
    struct err e;
    assert_int_equal(output_try(&c, &e), 0);
    assert_int_equal(count(dir, ""), 1); /* the lock */
    c.dir = "/dev/null/x";
    assert_int_equal(output_try(&c, &e), -1);
    if (geteuid() != 0) {
        c.dir = dir;
        c.uid = 0;
        assert_int_equal(output_try(&c, &e), -1);
        assert_string_equal(e.rule, "out-owner");
    }
}

/* --- attacks ----------------------------------------------------------------------------------------- */

static void folders_of_others(void **state)
{
    struct output_config c = a_config(dir);
    mkdir(dir, 0755);
    chmod(dir, 0777);
    refused(&c, "out-dir");
    chmod(dir, 01777); /* sticky: nobody takes ours away */
    must_write(&c, 1);
    if (geteuid() != 0)
        return;
    chmod(dir, 0755);
    assert_int_equal(chown(dir, 12345, 12345), 0);
    refused(&c, "out-dir");
    c.uid = 12345; /* the files are his */
    must_write(&c, 2);
    is_set(2);
}

static void links_are_not_followed(void **state)
{
    struct output_config c = a_config(dir);
    const char *elsewhere = scratch_path("elsewhere");
    mkdir(elsewhere, 0755);
    mkdir(dir, 0755);
    assert_int_equal(symlink(elsewhere, in("..data")), 0);
    assert_int_equal(symlink(elsewhere, in("..set-1")), 0);
    assert_int_equal(symlink("/etc/passwd", in("..data.new")), 0);
    assert_int_equal(symlink("/etc/passwd", in(".svid.key.link")), 0);
    must_write(&c, 1);
    is_set(1);
    assert_int_equal(count(elsewhere, ""), 0);
    assert_int_equal(symlink(elsewhere, scratch_path("link")), 0);
    c.dir = scratch_path("link");
    refused(&c, "out-dir");
    c.dir = dir;
    unlink(in(".mayfly.lock"));
    assert_int_equal(symlink("/etc/passwd", in(".mayfly.lock")), 0);
    refused(&c, "out-lock");
    is_set(1);
}

/* Who owns a folder on the way may put a link there: it leads nowhere, and nothing is made or opened behind it. */
static void links_of_others_on_the_way(void **state)
{
    struct output_config c = a_config(dir);
    struct stat st;
    char below[300];
    if (geteuid() != 0)
        skip();
    mkdir(scratch_path("real"), 0700);
    assert_int_equal(symlink(scratch_path("real"), scratch_path("way")), 0);
    snprintf(below, sizeof below, "%s/way/made/out", scratch);
    c.dir = below;
    must_write(&c, 1); /* root's own link */
    assert_int_equal(mode_of(scratch_path("real/made/out")), 0755);
    assert_int_equal(lchown(scratch_path("way"), 12345, 12345), 0);
    refused(&c, "out-dir");
    snprintf(below, sizeof below, "%s/way/other", scratch);
    refused(&c, "out-dir");
    assert_int_equal(lstat(scratch_path("real/other"), &st), -1);
    assert_int_equal(mode_of(scratch_path("real")), 0700);
}

static void walks(void **state)
{
    char text[300];
    mkdir(dir, 0700);
    scratch_write(in("file"), "x", 0600);
    assert_int_equal(symlink("out/./file", scratch_path("relative")), 0);
    snprintf(text, sizeof text, "//%s//out/../relative", scratch);
    int fd = walk_open(text, O_RDONLY, false);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(walk_open(text, O_RDONLY | O_NOFOLLOW, false), -1);
    assert_int_equal(errno, ELOOP);
    assert_int_equal(symlink("round", scratch_path("round")), 0);
    assert_int_equal(walk_open(scratch_path("round"), O_RDONLY, false), -1);
    assert_int_equal(errno, ELOOP);
    assert_int_equal(walk_open(in("file/x"), O_RDONLY, false), -1);
    assert_int_equal(errno, ENOTDIR);
    assert_int_equal(walk_open(in("none/x"), O_RDONLY, false), -1);
    assert_int_equal(errno, ENOENT);
    assert_int_equal(walk_open("", O_RDONLY, false), -1);
    for (int i = 0; i < 2; i++) { /* with and without a slash at the end */
        snprintf(text, sizeof text, "%s%s", i ? "/" : scratch, i ? "" : "/out/");
        fd = walk_open(text, O_RDONLY | O_DIRECTORY, false);
        assert_true(fd >= 0);
        close(fd);
    }
}

/* A name that is nearly ours is nobody's we may touch. */
static void sweeps_its_own_only(void **state)
{
    static const char *const others[] = {"..set-", "..set-x", "..set-01", "..set-1x", "..set-9999999999", "..set--1"};
    struct output_config c = a_config(dir);
    mkdir(dir, 0755);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        assert_int_equal(mkdir(in(others[i]), 0755), 0);
    for (int n = 7; n < 10; n++) {
        char name[32];
        snprintf(name, sizeof name, "..set-%d", n);
        assert_int_equal(mkdir(in(name), 0755), 0);
        snprintf(name, sizeof name, "..set-%d/svid.key", n);
        scratch_write(in(name), "left", 0600);
    }
    must_write(&c, 1);
    is_set(1);
    assert_int_equal(count(dir, "..set-"), 1 + (int)(sizeof others / sizeof *others));
}

/* --- where the disk ends ------------------------------------------------------------------------------ */

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

/* --- where the writer dies ---------------------------------------------------------------------------- */

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

/* --- who reads meanwhile ------------------------------------------------------------------------------- */

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
        cmocka_unit_test(pem_is_as_openssl_writes_it),
        cmocka_unit_test(pem_of_chains),
#define T(f) cmocka_unit_test_setup_teardown(f, setup, scratch_remove)
        T(writes_and_swaps),
        T(wanted_and_no_longer),
        T(owner_is_given),
        T(replaces_files_of_fetch),
        T(a_folder_in_the_way),
        T(removes),
        T(tries),
        T(folders_of_others),
        T(links_are_not_followed),
        T(links_of_others_on_the_way),
        T(walks),
        T(sweeps_its_own_only),
        T(full_disk),
        T(read_only_folder),
#ifdef MAYFLY_FAULTS
        T(killed),
        T(failing_steps),
#endif
        T(killed_anywhere),
        T(readers_see_whole_sets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
