/* tlog_verify_dir finds damage in every kind of file; tlog_read_entry never hands out a wrong
 * entry; paths of the world are strict. */
#include "tests/unit/tlog/support.h"

static void filled(struct test_log *t, uint64_t n)
{
    struct err e;
    test_begin(t);
    assert_ok(tlog_create(&t->o, &e), e);
    struct tlog *log = open_ok(t);
    append_many(log, n, TLOG_BATCH_MAX, 30);
    tlog_close(log);
    assert_int_equal(verify_ok(t), n + 1);
}

static void verify_bad(struct test_log *t, const char *rule)
{
    struct tlog_verify_report r;
    struct err e;
    assert_int_equal(tlog_verify_dir(t->dir, &t->vkey, &r, NULL, NULL, &e), -1);
    if (rule)
        assert_rule(e, rule);
}

static void flips(void **state)
{
    static const char *const files[] = {
        "tile/0/000",       "tile/0/001",       "tile/0/002.p/89",      "tile/1/000.p/2",
        "tile/entries/000", "tile/entries/001", "tile/entries/002.p/89"};
    static const off_t at[] = {0, 1, 31, 32, 40, 63, -1, -20, -32};
    struct test_log t;
    filled(&t, 600);
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        for (size_t k = 0; k < sizeof at / sizeof at[0]; k++) {
            flip(t.dir, files[i], at[k]);
            verify_bad(&t, "log-bitflip");
            flip(t.dir, files[i], at[k]);
        }
    for (off_t k = 0; k < 100; k++) {
        flip(t.dir, "checkpoint", k);
        verify_bad(&t, NULL);
        flip(t.dir, "checkpoint", k);
    }
    assert_int_equal(verify_ok(&t), 601);
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        shell("mv %s/%s %s/away", t.dir, files[i], t.base);
        verify_bad(&t, "log-missing");
        shell("head -c -1 %s/away > %s/%s", t.base, t.dir, files[i]);
        verify_bad(&t, "log-bitflip");
        shell("cp %s/away %s/%s && echo >> %s/%s", t.base, t.dir, files[i], t.dir, files[i]);
        verify_bad(&t, "log-bitflip");
        shell("mv %s/away %s/%s", t.base, t.dir, files[i]);
    }
    shell("rm %s/checkpoint", t.dir);
    verify_bad(&t, "log-missing");
    test_end(&t);
}

/* Another history under the same key: every file agrees but the checkpoint. */
static void rewritten(void **state)
{
    struct test_log t;
    struct err e;
    filled(&t, 600);
    shell("mv %s %s/first", t.dir, t.base);
    assert_ok(tlog_create(&t.o, &e), e);
    struct tlog *log = open_ok(&t);
    append_many(log, 600, 256, 40);
    tlog_close(log);
    shell("cp %s/first/checkpoint %s/", t.base, t.dir);
    verify_bad(&t, "log-root");
    open_refused(&t, "log-rollback");
    test_end(&t);
}

/* An entry whose form is wrong can be in a log of somebody else's making. */
static void entry_forms(void **state)
{
    static const struct bytes body[] = {
        {(const uint8_t *)"\0\0\0\1rubbish", 11},     /* no TBSCertificateLogEntry */
        {(const uint8_t *)"\0\5\xff\1\0\1\n\0\0", 9}, /* unreadable extension */
    };
    for (size_t i = 0; i < 2; i++) {
        struct test_log t;
        struct err e;
        uint64_t first;
        filled(&t, 5);
        struct tlog *log = open_ok(&t);
        assert_ok(tlog_append(log, &body[i], 1, &first, &e), e);
        tlog_close(log);
        verify_bad(&t, "entry-format");
        test_end(&t);
    }
}

struct seen {
    uint64_t calls, done, total;
};

static void progress(void *arg, uint64_t done, uint64_t total)
{
    struct seen *s = arg;
    assert_true(done > s->done && done <= total);
    s->done = done;
    s->total = total;
    s->calls++;
}

static void progress_told(void **state)
{
    struct test_log t;
    struct tlog_verify_report r;
    struct seen s = {0, 0, 0};
    struct err e;
    filled(&t, 600);
    assert_ok(tlog_verify_dir(t.dir, &t.vkey, &r, progress, &s, &e), e);
    assert_int_equal(s.done, 601);
    assert_int_equal(s.total, 601);
    assert_int_equal(s.calls, 3);
    assert_int_equal(r.entries_checked, 601);
    assert_int_equal(r.checkpoint.size, 601);
    test_end(&t);
}

static int read_one(struct test_log *t, uint64_t i, struct buf *got, struct err *e)
{
    struct tlog_hash path[TLOG_LEVELS];
    struct buf note;
    size_t n;
    buf_init(&note, TLOG_NOTE_MAX);
    buf_reset(got);
    int ret = tlog_read_entry(t->dir, &t->vkey, i, got, path, &n, &note, e);
    buf_free(&note);
    return ret;
}

static void read_damaged(void **state)
{
    struct test_log t;
    struct buf got;
    struct err e;
    filled(&t, 600);
    buf_init(&got, TLOG_ENTRY_MAX);
    assert_ok(read_one(&t, 300, &got, &e), e);
    flip(t.dir, "tile/entries/001", 44 * 38 + 10);
    assert_int_equal(read_one(&t, 300, &got, &e), -1);
    assert_int_equal(e.code, ERR_CORRUPT);
    flip(t.dir, "tile/entries/001", 44 * 38 + 10);
    flip(t.dir, "tile/0/000", 5);
    assert_int_equal(read_one(&t, 300, &got, &e), 0); /* its proof uses tile 1's word for tile 0 */
    assert_int_equal(read_one(&t, 3, &got, &e), -1);
    assert_int_equal(e.code, ERR_CORRUPT);
    flip(t.dir, "tile/0/000", 5);
    flip(t.dir, "checkpoint", 25);
    assert_int_equal(read_one(&t, 300, &got, &e), -1);
    buf_free(&got);
    test_end(&t);
}

/* A reader with yesterday's checkpoint: its partial tiles have been replaced by wider or full ones.
 */
static void read_behind(void **state)
{
    struct test_log t;
    struct buf got;
    struct err e;
    filled(&t, 600);
    shell("cp %s/checkpoint %s/", t.dir, t.base);
    buf_init(&got, TLOG_ENTRY_MAX);
    for (uint64_t more = 1; more <= 256; more *= 4) {
        struct tlog *log = open_ok(&t);
        append_many(log, more, 256, 30);
        tlog_close(log);
        shell("mv %s/checkpoint %s/now && cp %s/checkpoint %s/", t.dir, t.base, t.base, t.dir);
        assert_int_equal(verify_ok(&t), 601);
        assert_ok(read_one(&t, 600, &got, &e), e);
        shell("mv %s/now %s/checkpoint", t.base, t.dir);
    }
    buf_free(&got);
    test_end(&t);
}

static void paths_good(void **state)
{
    static const struct {
        const char *path;
        bool immutable;
    } good[] = {
        {"checkpoint", false},
        {"tile/0/000", true},
        {"tile/0/000.p/1", false},
        {"tile/0/255.p/255", false},
        {"tile/0/x001/234", true},
        {"tile/0/x001/x234/067", true},
        {"tile/63/000", true},
        {"tile/entries/000", true},
        {"tile/entries/x123/456.p/7", false},
    };
    char dst[256], want[256];
    struct err e;
    bool immutable;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_ok(tlog_path_resolve(dst, sizeof dst, "/srv/log", good[i].path, &immutable, &e), e);
        snprintf(want, sizeof want, "/srv/log/%s", good[i].path);
        assert_string_equal(dst, want);
        assert_int_equal(immutable, good[i].immutable);
    }
    assert_int_equal(tlog_path_resolve(dst, 12, "/srv/log", "checkpoint", &immutable, &e), -1);
}

static void paths_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "/",
        ".",
        "..",
        "head",
        "journal/00000000000000000000",
        "checkpoint/",
        "/checkpoint",
        "checkpoint\n",
        "./checkpoint",
        "tile",
        "tile/",
        "tile/0",
        "tile/0/",
        "tile/00/000",
        "tile/64/000",
        "tile/-1/000",
        "tile/+1/000",
        "tile/ 0/000",
        "tile/0/0",
        "tile/0/00",
        "tile/0/0000",
        "tile/0/000/",
        "tile/0/000.p",
        "tile/0/000.p/",
        "tile/0/000.p/0",
        "tile/0/000.p/00",
        "tile/0/000.p/01",
        "tile/0/000.p/256",
        "tile/0/000.p/1000",
        "tile/0/000.p/1/",
        "tile/0/000.p/-1",
        "tile/0/000.p/1.p/1",
        "tile/0/x000/001",
        "tile/0/001/002",
        "tile/0/x001",
        "tile/0/x001/",
        "tile/0/x001/x002",
        "tile/0/x01/002",
        "tile/0/x0001/002",
        "tile/0/x001/../../../head",
        "tile/0/../../head",
        "tile/../head",
        "tile/entries",
        "tile/entries/",
        "tile/entries/00",
        "tile/entries/000.q/1",
        "tile/Entries/000",
        "tile/data/000",
        "tile//000",
        "tile/0//000",
        "tile/0/x001//002",
        "tile/0/x001/x001/x001/x001/x001/x001/x001/001",
        "tile/0/%30%30%30",
        "tile/0/000?x=1",
        "tile/0/000.p/1?",
        "tile/0/X001/002",
        "tile/0/000.P/1",
        "tile\\0\\000",
        "tile/entries/../../head",
        "../tile/0/000",
        "tile/0/000\n",
        "tile/0/\xd9\xa0\xd9\xa0\xd9\xa0",
    };
    char dst[256];
    struct err e;
    bool immutable;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (tlog_path_resolve(dst, sizeof dst, "/srv/log", bad[i], &immutable, &e) == 0)
            fail_msg("accepted: %s", bad[i]);
        assert_rule(e, "log-path");
    }
}

/* What the writer names, the reader finds. */
static void paths_agree(void **state)
{
    static const uint64_t n[] = {0, 1, 999, 1000, 1234067, 999999, 1000000, (uint64_t)1 << 55};
    static const int level[] = {TLOG_ENTRIES, 0, 1, 7};
    char path[TLOG_PATH_CAP], dst[TLOG_PATH_CAP];
    struct err e;
    bool immutable;
    for (size_t i = 0; i < sizeof n / sizeof n[0]; i++)
        for (size_t l = 0; l < 4; l++)
            for (unsigned w = 1; w <= 256; w += 85) {
                assert_ok(tlog_tile_path(path, "d", level[l], n[i], w, &e), e);
                assert_ok(tlog_path_resolve(dst, sizeof dst, "d", path + 2, &immutable, &e), e);
                assert_string_equal(dst, path);
                assert_int_equal(immutable, w == 256);
            }
    assert_ok(tlog_tile_path(path, "d", 0, 1234067, 256, &e), e);
    assert_string_equal(path, "d/tile/0/x001/x234/067");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flips),        cmocka_unit_test(rewritten),
        cmocka_unit_test(entry_forms),  cmocka_unit_test(progress_told),
        cmocka_unit_test(read_damaged), cmocka_unit_test(read_behind),
        cmocka_unit_test(paths_good),   cmocka_unit_test(paths_refused),
        cmocka_unit_test(paths_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
