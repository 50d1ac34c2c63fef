/* Digests of the programs that peers run: kept, forgotten, and read once for all who ask. */
#include "agent/peer.h"
#include "base/thread.h"
#include "unit/base/scratch.h"
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

static pid_t start_program(const char *path)
{
    int go[2];
    char c;
    assert_int_equal(pipe2(go, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execl(path, "sleep", "1000", (char *)NULL);
        _exit(127);
    }
    close(go[1]);
    assert_int_equal(read(go[0], &c, 1), 0); /* closed by exec */
    close(go[0]);
    return pid;
}

static int hash_of(pid_t pid, uint8_t digest[32])
{
    struct proc_now n;
    struct err e;
    int dir = proc_open(pid, &e), rc = -1;
    if (dir >= 0 && proc_read(&n, dir, &e) == 0)
        rc = peer_hash(digest, dir, &n.exe);
    close(dir);
    return rc;
}

static void stop_program(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static void digests_are_kept(void **state)
{
    uint8_t a[32], b[32];
    pid_t pid = start_program("/bin/sleep");
    peer_hash_forget();
    unsigned long before = peer_hash_reads();
    assert_int_equal(hash_of(pid, a), 0);
    assert_int_equal(hash_of(pid, b), 0);
    assert_memory_equal(a, b, 32);
    assert_int_equal(peer_hash_reads() - before, 1);
    peer_hash_forget();
    assert_int_equal(hash_of(pid, b), 0);
    assert_int_equal(peer_hash_reads() - before, 2);
    stop_program(pid);
}

/* A file so young that the clock might not tell its next version apart. */
static void young_files_are_not_kept(void **state)
{
    uint8_t a[32], b[32];
    const char *path = scratch_path("young");
    scratch_copy("/bin/sleep", path);
    pid_t pid = start_program(path);
    unsigned long before = peer_hash_reads();
    assert_int_equal(hash_of(pid, a), 0);
    assert_int_equal(hash_of(pid, b), 0);
    assert_memory_equal(a, b, 32);
    assert_true(peer_hash_reads() - before == 2);
    stop_program(pid);
}

/* More files than are remembered: the least recently used is read again. (Any folder with an "exe" in it will do;
 * the wait makes the files old enough to be kept.) */
static void forgets_the_oldest(void **state)
{
    enum { N = PEER_DIGESTS + 1 };
    static int dirs[N];
    struct proc_exe exe[N];
    uint8_t digest[32];
    for (int i = 0; i < N; i++) {
        char name[64];
        struct statx st;
        snprintf(name, sizeof name, "many-%d", i);
        assert_int_equal(mkdir(scratch_path(name), 0755), 0);
        dirs[i] = open(scratch_path(name), O_RDONLY | O_DIRECTORY);
        int fd = openat(dirs[i], "exe", O_WRONLY | O_CREAT, 0755);
        assert_int_equal(write(fd, &i, sizeof i), sizeof i);
        assert_int_equal(statx(fd, "", AT_EMPTY_PATH, STATX_INO, &st), 0);
        exe[i] = (struct proc_exe){true, st.stx_dev_major, st.stx_dev_minor, st.stx_ino};
        close(fd);
    }
    sleep(4);
    peer_hash_forget();
    unsigned long before = peer_hash_reads();
    for (int i = 0; i < PEER_DIGESTS; i++)
        assert_int_equal(peer_hash(digest, dirs[i], &exe[i]), 0);
    assert_int_equal(peer_hash(digest, dirs[0], &exe[0]), 0); /* used: 1 is the oldest now */
    assert_int_equal(peer_hash_reads() - before, PEER_DIGESTS);
    assert_int_equal(peer_hash(digest, dirs[N - 1], &exe[N - 1]), 0);
    assert_int_equal(peer_hash(digest, dirs[0], &exe[0]), 0);
    assert_int_equal(peer_hash(digest, dirs[2], &exe[2]), 0);
    assert_int_equal(peer_hash_reads() - before, PEER_DIGESTS + 1);
    assert_int_equal(peer_hash(digest, dirs[1], &exe[1]), 0);
    assert_int_equal(peer_hash_reads() - before, PEER_DIGESTS + 2);
    struct proc_exe other = exe[3];
    other.ino++; /* another file than the one that was seen to run */
    assert_int_equal(peer_hash(digest, dirs[3], &other), -1);
    /* written over, with its old size and mtime: ctime tells */
    struct timespec times[2];
    struct stat st;
    int fd = openat(dirs[0], "exe", O_WRONLY), five = 555;
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(write(fd, &five, sizeof five), sizeof five);
    times[0] = st.st_atim;
    times[1] = st.st_mtim;
    assert_int_equal(futimens(fd, times), 0);
    close(fd);
    uint8_t after[32];
    assert_int_equal(peer_hash(digest, dirs[0], &exe[0]), 0);
    assert_int_equal(peer_hash(after, dirs[2], &exe[2]), 0);
    assert_true(peer_hash_reads() - before >= PEER_DIGESTS + 3);
    for (int i = 0; i < N; i++)
        close(dirs[i]);
}

struct asker {
    pthread_t thread;
    pid_t pid;
    uint8_t digest[32];
    int rc;
};

static void *ask(void *arg)
{
    struct asker *a = arg;
    a->rc = hash_of(a->pid, a->digest);
    return NULL;
}

static void threads_read_once(void **state)
{
    enum { N = 16 };
    struct asker askers[N];
    struct err e;
    pid_t pid = start_program("/bin/sleep");
    peer_hash_forget();
    unsigned long before = peer_hash_reads();
    for (int i = 0; i < N; i++) {
        askers[i].pid = pid;
        assert_int_equal(thread_start(&askers[i].thread, ask, &askers[i], "an asker", &e), 0);
    }
    for (int i = 0; i < N; i++) {
        pthread_join(askers[i].thread, NULL);
        assert_int_equal(askers[i].rc, 0);
        assert_memory_equal(askers[i].digest, askers[0].digest, 32);
    }
    assert_int_equal(peer_hash_reads() - before, 1);
    stop_program(pid);
}

static void larger_than_the_limit(void **state)
{
    uint8_t digest[32];
    const char *path = scratch_path("large");
    scratch_copy("/bin/sleep", path);
    if (truncate(path, PEER_EXE_MAX + 1) < 0)
        skip();
    pid_t pid = start_program(path);
    unsigned long before = peer_hash_reads();
    assert_int_equal(hash_of(pid, digest), -1);
    assert_int_equal(peer_hash_reads(), before);
    stop_program(pid);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(digests_are_kept), cmocka_unit_test(young_files_are_not_kept),
        cmocka_unit_test(forgets_the_oldest), cmocka_unit_test(threads_read_once),
        cmocka_unit_test(larger_than_the_limit),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
