/* Published files at every boundary, and the read side. */
#include "tests/unit/tlog/support.h"

static void grow_to(struct test_log *t, uint64_t size, size_t batch)
{
    struct tlog *log = open_ok(t);
    struct tlog_status s;
    tlog_status(log, &s);
    assert_true(s.size <= size);
    append_many(log, size - s.size, batch, 14);
    tlog_close(log);
    assert_int_equal(verify_ok(t), size);
}

static void one_read(struct test_log *t, uint64_t i, uint64_t size)
{
    struct tlog_hash path[TLOG_LEVELS];
    struct buf got, note, want;
    struct err e;
    size_t n;
    buf_init(&got, TLOG_ENTRY_MAX);
    buf_init(&want, TLOG_ENTRY_MAX);
    buf_init(&note, TLOG_NOTE_MAX);
    int ret = tlog_read_entry(t->dir, &t->vkey, i, &got, path, &n, &note, &e);
    if (i >= size) {
        assert_int_equal(ret, -1);
        assert_int_equal(e.code, ERR_NOT_FOUND);
    } else {
        struct tlog_checkpoint c;
        struct tlog_hash leaf;
        assert_ok(ret, e);
        entry_make(&want, i, 14);
        if (i > 0)
            assert_true(bytes_eq(view(&got), want.p, want.len));
        assert_ok(tlog_checkpoint_open(&c, note.p, note.len, &t->vkey, &e), e);
        merkle_leaf(&leaf, got.p, got.len);
        assert_ok(merkle_verify_inclusion(i, c.size, &leaf, path, n, &c.root, &e), e);
    }
    buf_free(&got);
    buf_free(&want);
    buf_free(&note);
}

static void reads(struct test_log *t, uint64_t size)
{
    uint64_t picks[] = {0,        1,        254, 255, 256,   257,   size / 2, size - 2,
                        size - 1, size + 0, 511, 512, 65535, 65536, 65537,    UINT64_MAX};
    for (size_t i = 0; i < sizeof picks / sizeof picks[0]; i++)
        one_read(t, picks[i], size);
}

static void files_are(struct test_log *t, const char *const *there, const char *const *gone)
{
    for (; *there; there++)
        if (!exists(t, *there))
            fail_msg("%s is not there", *there);
    for (; *gone; gone++)
        if (exists(t, *gone))
            fail_msg("%s is there", *gone);
}
#define LIST(...) ((const char *const[]){__VA_ARGS__, NULL})

static void boundaries_256(void **state)
{
    struct test_log t;
    struct err e;
    test_begin(&t);
    assert_ok(tlog_create(&t.o, &e), e);
    files_are(&t, LIST("tile/0/000.p/1", "tile/entries/000.p/1"), LIST("tile/0/000", "tile/1"));
    grow_to(&t, 254, 100);
    grow_to(&t, 255, 1);
    files_are(&t, LIST("tile/0/000.p/255", "tile/entries/000.p/255"),
              LIST("tile/0/000", "tile/0/000.p/1"));
    reads(&t, 255);
    grow_to(&t, 256, 1);
    files_are(&t, LIST("tile/0/000", "tile/entries/000", "tile/1/000.p/1"),
              LIST("tile/0/000.p", "tile/entries/000.p", "tile/0/001.p", "tile/entries/001.p"));
    reads(&t, 256);
    grow_to(&t, 257, 1);
    files_are(&t, LIST("tile/0/001.p/1", "tile/entries/001.p/1", "tile/1/000.p/1"),
              LIST("tile/0/001", "tile/0/000.p"));
    reads(&t, 257);
    grow_to(&t, 511, 256);
    grow_to(&t, 512, 1);
    grow_to(&t, 513, 1);
    reads(&t, 513);
    test_end(&t);
}

static void boundaries_65536(void **state)
{
    struct test_log t;
    struct err e;
    test_begin(&t);
    assert_ok(tlog_create(&t.o, &e), e);
    grow_to(&t, 65535, TLOG_BATCH_MAX);
    files_are(&t, LIST("tile/0/255.p/255", "tile/1/000.p/255"), LIST("tile/1/000", "tile/2"));
    reads(&t, 65535);
    grow_to(&t, 65536, 1);
    files_are(&t, LIST("tile/0/255", "tile/1/000", "tile/2/000.p/1"),
              LIST("tile/0/255.p", "tile/1/000.p", "tile/0/256.p"));
    reads(&t, 65536);
    grow_to(&t, 65537, 1);
    files_are(&t, LIST("tile/0/256.p/1", "tile/1/000", "tile/2/000.p/1"), LIST("tile/1/001.p"));
    reads(&t, 65537);
    grow_to(&t, 65793, 256);
    files_are(&t, LIST("tile/0/257.p/1", "tile/1/001.p/1", "tile/2/000.p/1"), LIST("tile/0/256.p"));
    t.o.full_check = true;
    tlog_close(open_ok(&t));
    test_end(&t);
}

/* The world's copy follows a running log, consistent whenever it is looked at. */
static void follows(void **state)
{
    struct test_log t;
    struct err e;
    struct tlog_status s;
    uint64_t seen = 0;
    test_begin(&t);
    t.o.publish_ms = 1;
    assert_ok(tlog_create(&t.o, &e), e);
    struct tlog *log = open_ok(&t);
    for (int i = 0; i < 150; i++) {
        append_many(log, 17, 5, 200);
        if (i % 10 == 0) {
            uint64_t size = verify_ok(&t);
            assert_true(size >= seen);
            seen = size;
            tlog_status(log, &s);
            assert_true(s.published_size <= s.size);
        }
    }
    do
        tlog_status(log, &s); /* ends, or ctest's own limit says that it does not */
    while (s.published_size != s.size && usleep(1000) == 0);
    assert_int_equal(verify_ok(&t), 1 + 150 * 17);
    tlog_close(log);
    test_end(&t);
}

/* Old segments go, and only when full tiles cover them. */
static void journal_shrinks(void **state)
{
    struct test_log t;
    struct err e;
    test_begin(&t);
    t.o.publish_ms = 1;
    assert_ok(tlog_create(&t.o, &e), e);
    struct tlog *log = open_ok(&t);
    append_many(log, 5000, 100, 4000);
    tlog_close(log);
    shell("[ $(ls %s/journal | wc -l) -le 2 ]", t.dir);
    assert_int_equal(verify_ok(&t), 5001);
    t.o.full_check = true;
    log = open_ok(&t);
    append_many(log, 10, 10, 4000);
    tlog_close(log);
    assert_int_equal(verify_ok(&t), 5011);
    test_end(&t);
}

/* A batch larger than a segment gets a segment of its own size. */
static void huge_batch(void **state)
{
    struct test_log t;
    struct err e;
    test_begin(&t);
    assert_ok(tlog_create(&t.o, &e), e);
    struct tlog *log = open_ok(&t);
    append_many(log, 512, 256, 65528);
    append_many(log, 3, 1, 50);
    tlog_close(log);
    assert_int_equal(verify_ok(&t), 516);
    tlog_close(open_ok(&t));
    test_end(&t);
}

/* What killed processes left half-written goes. */
static void sweeps(void **state)
{
    struct test_log t;
    struct err e;
    test_begin(&t);
    assert_ok(tlog_create(&t.o, &e), e);
    shell("cd %s && touch .checkpoint.tmp-0123456789abcdef tile/0/000.p/.9.tmp-0123456789abcdef "
          "tile/0/000.p/200 tile/0/.000.tmp-0123456789abcdef "
          "tile/entries/.000.tmp-0123456789abcdef journal/new",
          t.dir);
    tlog_close(open_ok(&t));
    files_are(&t, LIST("tile/0/000.p/1"),
              LIST("tile/0/000.p/200", "tile/0/000.p/.9.tmp-0123456789abcdef",
                   "tile/0/.000.tmp-0123456789abcdef", "tile/entries/.000.tmp-0123456789abcdef", "journal/new",
                   ".checkpoint.tmp-0123456789abcdef"));
    test_end(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(boundaries_256), cmocka_unit_test(boundaries_65536),
        cmocka_unit_test(follows),        cmocka_unit_test(journal_shrinks),
        cmocka_unit_test(huge_batch),     cmocka_unit_test(sweeps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
