/* The journal's edges: what start-up makes durable again, how many segments there may be, and how
 * they go. */
#include "tests/unit/tlog/support.h"

static void segment_name(struct test_log *t, uint64_t first, char dst[200])
{
    snprintf(dst, 200, "%s/journal/%020llu", t->dir, (unsigned long long)first);
}

/* A failed fdatasync leaves pages that are read back as if they were on disk. What start-up adopts
 * it therefore writes again. Seen here by holes in the file: they read as the zeros that the entry
 * has there, and are filled only by writing. */
static void adopted_is_written_again(void **state)
{
    static const uint8_t entry[65000] = {0, 0, 0xff, 0x80};
    struct test_log t;
    struct stat before, after;
    struct err e;
    char path[200];
    uint64_t first;
    test_begin(&t);
    assert_ok(tlog_create(&t.o, &e), e);
    struct tlog *log = open_ok(&t);
    assert_ok(tlog_append(log, &(struct bytes){entry, sizeof entry}, 1, &first, &e), e);
    tlog_close(log);
    segment_name(&t, 0, path);
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 8192, 49152) < 0)
        skip();
    assert_int_equal(fstat(fd, &before), 0);
    tlog_close(open_ok(&t));
    assert_int_equal(fsync(fd), 0);
    assert_int_equal(fstat(fd, &after), 0);
    close(fd);
    assert_true(after.st_blocks >= before.st_blocks + 49152 / 512);
    assert_int_equal(verify_ok(&t), 2);
    test_end(&t);
}

/* The limit is met before the file is made, which the next start would have to list. */
static void full_journal_begins_no_segment(void **state)
{
    static const uint8_t entry[4] = {0, 0, 0xff, 0x80};
    static struct tlog_journal j;
    struct test_log t;
    struct tlog_hash leaf = {{0}};
    struct err e;
    bool rolled;
    test_begin(&t);
    shell("mkdir %s", t.dir);
    tlog_journal_init(&j);
    assert_ok(tlog_journal_create(&j, t.dir, &e), e);
    j.next = 1;
    j.pos = j.size;
    assert_int_equal(
        tlog_journal_write(&j, &(struct bytes){entry, 4}, &leaf, 1, false, &rolled, &e), -1);
    assert_rule(e, "log-publish");
    shell("[ $(ls %s/journal | wc -l) = 1 ]", t.dir);
    assert_ok(tlog_journal_write(&j, &(struct bytes){entry, 4}, &leaf, 1, true, &rolled, &e), e);
    assert_true(rolled);
    shell("[ $(ls %s/journal | wc -l) = 2 ]", t.dir);
    tlog_journal_close(&j);
    test_end(&t);
}

static void more_segments_are_listed_than_made(void **state)
{
    static struct tlog_journal j;
    struct test_log t;
    struct err e;
    char path[200];
    test_begin(&t);
    shell("mkdir -p %s/journal", t.dir);
    for (unsigned i = 0; i < TLOG_SEGMENTS_MAX + 1; i++) {
        segment_name(&t, 1000 - i, path);
        assert_int_equal(close(open(path, O_WRONLY | O_CREAT, 0600)), 0);
    }
    tlog_journal_init(&j);
    assert_ok(tlog_journal_list(&j, t.dir, &e), e);
    assert_int_equal(j.segments, TLOG_SEGMENTS_MAX + 1);
    assert_int_equal(j.first[0], 1000 - TLOG_SEGMENTS_MAX);
    tlog_journal_close(&j);
    test_end(&t);
}

/* A process that never published leaves segments that the tiles cover. They go when the log is
 * opened: a journal at its limit could not take the append that would have published. */
static void start_lets_go_of_segments(void **state)
{
    struct test_log t;
    struct err e;
    int status;
    test_begin(&t);
    assert_ok(tlog_create(&t.o, &e), e);
    pid_t pid = fork();
    if (pid == 0) {
        append_many(open_ok(&t), 1500, 100, 16000);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    shell("[ $(ls %s/journal | wc -l) -gt 3 ]", t.dir);
    struct tlog *log = open_ok(&t);
    shell("[ $(ls %s/journal | wc -l) -le 2 ]", t.dir);
    tlog_close(log);
    assert_int_equal(verify_ok(&t), 1501);
    test_end(&t);
}

/* A segment that cannot be removed keeps those behind it: with a gap the journal is refused. */
static void segment_that_stays_keeps_the_rest(void **state)
{
    struct test_log t;
    struct err e;
    char path[200];
    test_begin(&t);
    t.o.publish_ms = 1;
    assert_ok(tlog_create(&t.o, &e), e);
    struct tlog *log = open_ok(&t);
    segment_name(&t, 0, path);
    shell("mv %s %s/kept && mkdir %s", path, t.base, path); /* no file: unlink fails */
    append_many(log, 1500, 100, 16000);
    tlog_close(log);
    shell("rmdir %s && mv %s/kept %s", path, t.base, path);
    shell("[ $(ls %s/journal | wc -l) -gt 3 ]", t.dir);
    tlog_close(open_ok(&t));
    assert_int_equal(verify_ok(&t), 1501);
    shell("[ $(ls %s/journal | wc -l) -le 2 ]", t.dir);
    test_end(&t);
}

static int hand(struct tlog_publisher *p, size_t len, struct err *e)
{
    static const uint8_t zeros[70000];
    struct tlog_hash leaf = {{0}};
    return tlog_publisher_hand(p, &(struct bytes){zeros, len}, &leaf, 1, 1, "x", 1, e);
}

/* A publisher whose thread ended fails the next append at once, not after its queue is full. */
static void dead_publisher_fails_appends(void **state)
{
    static struct tlog_journal j;
    struct test_log t;
    struct err e;
    test_begin(&t);
    struct tlog_publisher *p = tlog_publisher_new(&t.o, &e);
    tlog_journal_init(&j);
    assert_non_null(p);
    assert_ok(tlog_publisher_start(p, &j, &e), e);
    assert_ok(hand(p, 70000, &e), e); /* no bundle takes it, now or later */
    while (hand(p, 4, &e) == 0)
        usleep(1000);
    assert_rule(e, "log-publish");
    assert_non_null(strstr(e.msg, "publishing has ended"));
    tlog_publisher_stop(p);
    tlog_publisher_free(p);
    tlog_journal_close(&j);
    test_end(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(adopted_is_written_again),
        cmocka_unit_test(full_journal_begins_no_segment),
        cmocka_unit_test(more_segments_are_listed_than_made),
        cmocka_unit_test(start_lets_go_of_segments),
        cmocka_unit_test(segment_that_stays_keeps_the_rest),
        cmocka_unit_test(dead_publisher_fails_appends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
