/* Killed at each step of an append, then opened again: the head is never back, every acknowledged
 * entry is there. */
#include "tests/unit/tlog/support.h"
#include <signal.h>

#ifdef MAYFLY_FAULTS
/* Appends batches of 1 to 7 entries and says after each how many are acknowledged, until killed. */
static void child_run(struct test_log *t, int say)
{
    struct buf b[7];
    struct bytes v[7];
    struct tlog *log;
    struct err e;
    uint64_t first, known;
    if (tlog_open(&log, &t->o, &e) < 0)
        _exit(3);
    struct tlog_status s;
    tlog_status(log, &s);
    known = s.size;
    for (size_t i = 0; i < 7; i++)
        buf_init(&b[i], TLOG_ENTRY_MAX);
    for (size_t round = 0; round < 100; round++) {
        size_t n = round % 7 + 1;
        for (size_t i = 0; i < n; i++) {
            entry_make(&b[i], known + i, 300);
            v[i] = view(&b[i]);
        }
        if (tlog_append(log, v, n, &first, &e) < 0)
            _exit(4);
        known += n;
        if (write(say, &known, sizeof known) != sizeof known)
            _exit(5);
    }
    _exit(6); /* the fault did not fire */
}

/* The number of entries the child acknowledged. */
static uint64_t run_killed(struct test_log *t, const char *point, unsigned skip)
{
    int p[2], status;
    uint64_t known = 0, v;
    char fault[160];
    snprintf(fault, sizeof fault, "%s/fault", t->base);
    shell("echo '%s kill %u' > %s", point, skip, fault);
    assert_int_equal(pipe(p), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        setenv("MAYFLY_FAULT_FILE", fault, 1);
        close(p[0]);
        child_run(t, p[1]);
    }
    close(p[1]);
    while (read(p[0], &v, sizeof v) == sizeof v)
        known = v;
    close(p[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    assert_int_not_equal(access(fault, F_OK), 0);
    return known;
}

/* Entry i as the child made it. */
static void entries_check(struct test_log *t, uint64_t from, uint64_t to)
{
    struct buf want, got, note;
    struct tlog_hash path[TLOG_LEVELS];
    struct err e;
    size_t n;
    buf_init(&want, TLOG_ENTRY_MAX);
    buf_init(&got, TLOG_ENTRY_MAX);
    buf_init(&note, TLOG_NOTE_MAX);
    for (uint64_t i = from; i < to; i++) {
        buf_reset(&got);
        buf_reset(&note);
        entry_make(&want, i, 300);
        assert_ok(tlog_read_entry(t->dir, &t->vkey, i, &got, path, &n, &note, &e), e);
        assert_true(bytes_eq(view(&got), want.p, want.len));
    }
    buf_free(&want);
    buf_free(&got);
    buf_free(&note);
}

static void kill_at(const char *point)
{
    struct test_log t;
    struct tlog_status s;
    struct err e;
    uint64_t head = 1;
    test_begin(&t);
    t.o.publish_ms = 1; /* the publisher is killed at work, too */
    assert_ok(tlog_create(&t.o, &e), e);
    for (unsigned skip = 0; skip < 20; skip += 1 + skip / 3) {
        uint64_t known = run_killed(&t, point, skip);
        if (known == 0)
            known = head;
        struct tlog *log = open_ok(&t);
        tlog_status(log, &s);
        assert_true(s.size >= known && s.size >= head);
        assert_true(s.size <= known + 7); /* at most the batch in hand */
        assert_int_equal(s.published_size, s.size);
        entries_check(&t, head, s.size);
        head = s.size;
        tlog_close(log);
        assert_int_equal(verify_ok(&t), head);
    }
    test_end(&t);
}

static void killed_after_journal(void **state)
{
    kill_at("tlog-journal");
}

static void killed_after_sync(void **state)
{
    kill_at("tlog-synced");
}

static void killed_after_signature(void **state)
{
    kill_at("tlog-signed");
}

static void killed_after_head(void **state)
{
    kill_at("tlog-head");
}

/* The fault "fail": the append says so, the log is dead until opened again. */
static void failed_steps(void **state)
{
    static const char *const points[] = {"tlog-journal", "tlog-synced", "tlog-signed", "tlog-head"};
    struct test_log t;
    struct tlog *log;
    struct tlog_status s;
    struct bytes v = {(const uint8_t *)"\0\0\xff\x80", 4};
    struct err e;
    uint64_t first;
    char fault[160];
    test_begin(&t);
    snprintf(fault, sizeof fault, "%s/fault", t.base);
    setenv("MAYFLY_FAULT_FILE", fault, 1);
    assert_ok(tlog_create(&t.o, &e), e);
    for (size_t i = 0; i < 4; i++) {
        log = open_ok(&t);
        shell("echo '%s fail' > %s", points[i], fault);
        assert_int_equal(tlog_append(log, &v, 1, &first, &e), -1);
        assert_rule(e, "fault");
        assert_int_equal(tlog_append(log, &v, 1, &first, &e), -1);
        assert_rule(e, "log-dead");
        tlog_close(log);
        log = open_ok(&t);
        tlog_status(log, &s);
        assert_int_equal(s.size, 2 + i); /* in the journal each time: adopted */
        tlog_close(log);
    }
    unsetenv("MAYFLY_FAULT_FILE");
    assert_int_equal(verify_ok(&t), 5);
    test_end(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(killed_after_journal),   cmocka_unit_test(killed_after_sync),
        cmocka_unit_test(killed_after_signature), cmocka_unit_test(killed_after_head),
        cmocka_unit_test(failed_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
#else
int main(void)
{
    printf("built without fault points: skipped\n");
    return 77;
}
#endif
