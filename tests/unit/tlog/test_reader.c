/* A reader: every entry under one checkpoint, proven, also while the log goes on. */
#include "tlog/reader.h"
#include "unit/tlog/support.h"

static void check(struct tlog_reader *r, uint64_t index)
{
    struct tlog_hash path[TLOG_LEVELS], leaf;
    struct bytes entry;
    struct buf want;
    struct err e;
    size_t n;
    assert_ok(tlog_reader_entry(r, index, &entry, path, &n, &e), e);
    buf_init(&want, TLOG_ENTRY_MAX);
    if (index > 0) {
        entry_make(&want, index, 40);
        assert_true(bytes_eq(entry, want.p, want.len));
    }
    buf_free(&want);
    merkle_leaf(&leaf, entry.p, entry.len);
    assert_ok(merkle_verify_inclusion(index, tlog_reader_head(r)->size, &leaf, path, n, &tlog_reader_head(r)->root, &e), e);
}

static void check_all(struct tlog_reader *r)
{
    uint64_t size = tlog_reader_head(r)->size;
    for (uint64_t i = 0; i < size; i++)
        check(r, i);
    for (uint64_t i = size; i-- > 0;)
        check(r, i * 7919 % size);
}

static void grow(struct test_log *t, uint64_t n)
{
    struct tlog *log = open_ok(t);
    append_many(log, n, 100, 40);
    tlog_close(log);
}

static void sizes(void **state)
{
    static const unsigned steps[] = {0, 1, 1, 1, 251, 1, 1, 1, 254, 1, 300, 211, 800};
    struct test_log t;
    struct err e;
    test_begin(&t);
    assert_ok(tlog_create(&t.o, &e), e);
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        struct tlog_reader *r;
        if (steps[i] > 0)
            grow(&t, steps[i]);
        assert_ok(tlog_reader_open(&r, t.dir, &t.vkey, &e), e);
        check_all(r);
        tlog_reader_close(r);
    }
    test_end(&t);
}

/* Partial tiles that it was to read are replaced by wider and full ones. */
static void the_log_goes_on(void **state)
{
    struct test_log t;
    struct tlog_reader *r;
    struct bytes entry;
    struct tlog_hash path[TLOG_LEVELS];
    size_t n;
    struct err e;
    test_begin(&t);
    assert_ok(tlog_create(&t.o, &e), e);
    grow(&t, 300);
    assert_ok(tlog_reader_open(&r, t.dir, &t.vkey, &e), e);
    grow(&t, 100);
    check(r, 300);
    grow(&t, 400);
    check_all(r);
    assert_int_equal(tlog_reader_entry(r, 301, &entry, path, &n, &e), -1);
    assert_rule(e, "log-index");
    assert_int_equal(e.code, ERR_NOT_FOUND);
    tlog_reader_close(r);
    test_end(&t);
}

/* What is damaged is not handed out; what is not, still is. */
static void damage(void **state)
{
    struct test_log t;
    struct tlog_reader *r;
    struct bytes entry;
    const struct bytes *entries;
    struct tlog_hash path[TLOG_LEVELS];
    unsigned width;
    size_t n;
    struct err e;
    test_begin(&t);
    assert_ok(tlog_create(&t.o, &e), e);
    grow(&t, 700);
    flip(t.dir, "tile/entries/001", -3);
    assert_ok(tlog_reader_open(&r, t.dir, &t.vkey, &e), e);
    check(r, 400);
    assert_int_equal(tlog_reader_entry(r, 511, &entry, path, &n, &e), -1);
    assert_int_equal(e.code, ERR_CORRUPT);
    check(r, 510);
    check(r, 600);
    assert_int_equal(tlog_reader_bundle(r, 3, &entries, &width, &e), -1);
    assert_rule(e, "log-index");
    tlog_reader_close(r);
    test_end(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(sizes), cmocka_unit_test(the_log_goes_on), cmocka_unit_test(damage)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
