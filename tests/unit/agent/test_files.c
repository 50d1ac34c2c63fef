/* The folder: modes, links, leftovers, and what a crash between two renames leaves. */
#include "base/clock.h"
#include "base/fileio.h"
#include "unit/agent/pki.h"
#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct fixture {
    struct pki pki;
    struct agent_trust trust;
    char dir[64], path[256];
};

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    return remove(path);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    pki_new(&f->pki);
    pki_trust(&f->trust, f->pki.root);
    strcpy(f->dir, "/tmp/mayfly-files-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    nftw(f->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    pki_free(&f->pki);
    agent_trust_free(&f->trust);
    free(f);
    return 0;
}

static const char *in(struct fixture *f, const char *name)
{
    snprintf(f->path, sizeof f->path, "%s/%s", f->dir, name);
    return f->path;
}

static void new_identity(struct fixture *f, struct acme_identity *i)
{
    EVP_PKEY *key = pki_key();
    pki_identity(i, pki_leaf_spec(&f->pki, key), &f->pki.log, f->pki.issuing);
    EVP_PKEY_free(key);
}

static mode_t mode_of(struct fixture *f, const char *name)
{
    struct stat st;
    assert_int_equal(lstat(in(f, name), &st), 0);
    assert_true(S_ISREG(st.st_mode));
    return st.st_mode & 07777;
}

static int64_t soon(void)
{
    return clock_mono_ms() + 20000;
}

/* Without the lock file, which stays. */
static int count_files(const char *dir)
{
    int n = 0;
    DIR *d = opendir(dir);
    for (struct dirent *x; (x = readdir(d));)
        n += strcmp(x->d_name, ".") != 0 && strcmp(x->d_name, "..") != 0 &&
             strcmp(x->d_name, ".mayfly.lock") != 0;
    closedir(d);
    return n;
}

static bool same_spki(const struct key *a, const struct key *b)
{
    return bytes_eq(key_spki(a), key_spki(b).p, key_spki(b).len);
}

static void test_written(void **state)
{
    struct fixture *f = *state;
    struct err e;
    struct acme_identity i, back;
    char deep[128];
    mode_t mask = umask(077); /* modes do not depend on it */
    new_identity(f, &i);
    assert_done(agent_write_files(f->dir, &i, &f->trust, soon(), &e));
    assert_int_equal(mode_of(f, "svid.key"), 0600);
    assert_int_equal(mode_of(f, "svid.pem"), 0644);
    assert_int_equal(mode_of(f, "bundle.pem"), 0644);
    assert_int_equal(count_files(f->dir), 3);
    umask(mask);
    assert_done(agent_read_files(f->dir, &back, soon(), &e));
    assert_true(same_spki(i.key, back.key));
    assert_true(bytes_eq((struct bytes){back.chain_pem.p, back.chain_pem.len}, i.chain_pem.p,
                         i.chain_pem.len));
    acme_identity_free(&back);
    snprintf(deep, sizeof deep, "%s/a/b", f->dir);
    assert_done(agent_write_files(deep, &i, &f->trust, soon(), &e));
    struct stat st;
    assert_int_equal(stat(deep, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0755 & ~mask);
    assert_int_equal(count_files(deep), 3);
    acme_identity_free(&i);
}

/* Links in the places of files, and of temporary files, are replaced; their targets are not
 * touched. */
static void test_links(void **state)
{
    struct fixture *f = *state;
    struct err e;
    struct acme_identity i;
    struct buf b;
    char target[128];
    static const char *const names[] = {"svid.key",      "svid.pem",      "bundle.pem",
                                        ".svid.key.new", ".svid.pem.new", ".bundle.pem.new"};
    snprintf(target, sizeof target, "%s/target", f->dir);
    assert_done(file_write_atomic(target, "precious", 8, 0644, false, &e));
    for (size_t n = 0; n < 6; n++)
        assert_int_equal(symlink(target, in(f, names[n])), 0);
    new_identity(f, &i);
    assert_done(agent_write_files(f->dir, &i, &f->trust, soon(), &e));
    assert_int_equal(mode_of(f, "svid.key"), 0600);
    assert_int_equal(mode_of(f, "svid.pem"), 0644);
    assert_int_equal(mode_of(f, "target"), 0644);
    assert_int_equal(count_files(f->dir), 4);
    buf_init(&b, 64);
    assert_done(file_read(&b, target, 64, &e));
    assert_true(bytes_eq_str((struct bytes){b.p, b.len}, "precious"));
    buf_free(&b);
    acme_identity_free(&i);
}

static void test_refused(void **state)
{
    struct fixture *f = *state;
    struct err e;
    struct acme_identity i, other, back;
    new_identity(f, &i);
    new_identity(f, &other);
    assert_refused(agent_read_files(f->dir, &back, soon(), &e), ERR_NOT_FOUND, "secret-read");
    assert_refused(agent_write_files("/dev/null/x", &i, &f->trust, soon(), &e), ERR_IO, "file-mkdir");
    assert_done(agent_write_files(f->dir, &i, &f->trust, soon(), &e));
    /* a folder stands in the way of the certificate: the old key must survive nothing less than
     * that */
    unlink(in(f, "svid.pem"));
    mkdir(in(f, "svid.pem"), 0755);
    assert_refused(agent_write_files(f->dir, &other, &f->trust, soon(), &e), ERR_IO, "out-write");
    rmdir(in(f, "svid.pem"));
    assert_done(agent_read_files(f->dir, &back, soon(), &e)); /* finishes the set */
    assert_true(same_spki(other.key, back.key));
    acme_identity_free(&back);
    /* key and certificate of two identities */
    assert_done(
        file_write_atomic(in(f, "svid.pem"), i.chain_pem.p, i.chain_pem.len, 0644, false, &e));
    assert_refused(agent_read_files(f->dir, &back, soon(), &e), ERR_CORRUPT, "svid-key");
    chmod(in(f, "svid.key"), 0644);
    assert_refused(agent_read_files(f->dir, &back, soon(), &e), ERR_CONFIG, "secret-mode");
    acme_identity_free(&i);
    acme_identity_free(&other);
}

/* Whoever may read the folder may lock it: that is not the lock. */
static void test_folder_locked(void **state)
{
    struct fixture *f = *state;
    struct err e;
    struct acme_identity i, back;
    new_identity(f, &i);
    int stranger = open(f->dir, O_RDONLY | O_DIRECTORY);
    assert_int_equal(flock(stranger, LOCK_EX), 0);
    assert_done(agent_write_files(f->dir, &i, &f->trust, soon(), &e));
    assert_done(agent_read_files(f->dir, &back, soon(), &e));
    acme_identity_free(&back);
    acme_identity_free(&i);
    close(stranger);
}

/* Another agent at work is waited for until the deadline, and the folder is named. */
static void test_taken(void **state)
{
    struct fixture *f = *state;
    struct err e;
    struct acme_identity i, back;
    new_identity(f, &i);
    assert_done(agent_write_files(f->dir, &i, &f->trust, soon(), &e));
    assert_int_equal(mode_of(f, ".mayfly.lock"), 0600);
    int other = open(in(f, ".mayfly.lock"), O_RDWR);
    assert_int_equal(flock(other, LOCK_EX), 0);
    int64_t now = clock_mono_ms();
    assert_refused(agent_write_files(f->dir, &i, &f->trust, now, &e), ERR_UNAVAILABLE, "out-lock");
    assert_non_null(strstr(e.msg, f->dir));
    assert_refused(agent_read_files(f->dir, &back, now, &e), ERR_UNAVAILABLE, "out-lock");
    assert_refused(agent_try_folder(f->dir, now + 50, &e), ERR_UNAVAILABLE, "out-lock");
    close(other);
    assert_done(agent_write_files(f->dir, &i, &f->trust, now, &e)); /* late, but free */
    acme_identity_free(&i);
}

/* Trying a folder out makes it, leaves nothing in it, and spares what a crash left to be finished. */
static void test_tried(void **state)
{
    struct fixture *f = *state;
    struct err e;
    char deep[128];
    snprintf(deep, sizeof deep, "%s/a/b", f->dir);
    assert_done(agent_try_folder(deep, soon(), &e));
    assert_int_equal(count_files(deep), 0);
    assert_done(file_write_atomic(in(f, ".svid.pem.new"), "half", 4, 0644, false, &e));
    assert_done(agent_try_folder(f->dir, soon(), &e));
    assert_int_equal(mode_of(f, ".svid.pem.new"), 0644);
    assert_refused(agent_try_folder("/dev/null/x", soon(), &e), ERR_IO, "file-mkdir");
    assert_refused(agent_try_folder("/proc/self", soon(), &e), ERR_IO, "out-lock");
}

#ifdef MAYFLY_FAULTS
/* Killed after `renames` renames of a second set. */
static void kill_after(struct fixture *f, const struct acme_identity *i, const char *fault)
{
    struct err e;
    char control[128];
    int status;
    snprintf(control, sizeof control, "%s.fault", f->dir);
    assert_done(file_write_atomic(control, fault, strlen(fault), 0600, false, &e));
    pid_t child = fork();
    if (child == 0) {
        setenv("MAYFLY_FAULT_FILE", control, 1);
        agent_write_files(f->dir, i, &f->trust, soon(), &e);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    unlink(control);
}

static void test_killed(void **state)
{
    struct fixture *f = *state;
    struct err e;
    struct acme_identity old, new, back;
    new_identity(f, &old);
    new_identity(f, &new);
    static const char *const faults[] = {"agent-staged kill\n", "agent-renamed kill\n",
                                         "agent-renamed kill 1\n", "agent-renamed kill 2\n"};
    for (int n = 0; n < 4; n++) {
        assert_done(agent_write_files(f->dir, &old, &f->trust, soon(), &e));
        kill_after(f, &new, faults[n]);
        assert_done(agent_read_files(f->dir, &back, soon(), &e));
        assert_true(same_spki(back.key, (n < 2 ? &old : &new)->key));
        acme_identity_free(&back);
    }
    /* the very first set, interrupted: no svid.pem at all */
    unlink(in(f, "svid.pem"));
    unlink(in(f, "svid.key"));
    kill_after(f, &new, "agent-renamed kill 1\n");
    assert_done(agent_read_files(f->dir, &back, soon(), &e));
    acme_identity_free(&back);
    assert_done(agent_write_files(f->dir, &old, &f->trust, soon(), &e));
    assert_int_equal(count_files(f->dir), 3); /* nothing is left over */
    acme_identity_free(&old);
    acme_identity_free(&new);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_written, setup, teardown),
        cmocka_unit_test_setup_teardown(test_links, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_folder_locked, setup, teardown),
        cmocka_unit_test_setup_teardown(test_taken, setup, teardown),
        cmocka_unit_test_setup_teardown(test_tried, setup, teardown),
#ifdef MAYFLY_FAULTS
        cmocka_unit_test_setup_teardown(test_killed, setup, teardown),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
