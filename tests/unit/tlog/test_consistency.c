/* Consistency proofs from published tiles: from every earlier size, to sizes at and around the edges
 * of tiles; and a cosigned checkpoint. */
#include "tests/unit/tlog/proven.h"
#include "tlog/reader.h"

static struct test_log t;
static struct tlog *log_;

static void published(void)
{
    tlog_close(log_);
    log_ = open_ok(&t);
}

static void root_of(struct merkle_frontier *f, uint64_t size, struct tlog_hash *root)
{
    static struct buf b;
    if (!b.max)
        buf_init(&b, 1000);
    while (f->size < size) {
        struct tlog_hash leaf;
        if (f->size == 0) { /* entry 0 is the null entry */
            merkle_leaf(&leaf, "\0\0\0\0", 4);
        } else {
            entry_make(&b, f->size, 40);
            merkle_leaf(&leaf, b.p, b.len);
        }
        merkle_frontier_push(f, &leaf);
    }
    merkle_frontier_root(f, root);
}

static void every_pair(void **state)
{
    static const uint64_t sizes[] = {1, 2, 3, 255, 256, 257, 300, 511, 512, 513, 700, 65536, 65537, 66000};
    struct err e;
    assert_ok(tlog_create(&t.o, &e), e);
    log_ = open_ok(&t);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        uint64_t size = sizes[i], step = size > 1000 ? 611 : 1;
        struct tlog_status s;
        struct tlog_reader *r;
        tlog_status(log_, &s);
        if (size > s.size)
            append_many(log_, size - s.size, 256, 40);
        published();
        assert_ok(tlog_reader_open(&r, t.dir, &t.vkey, &e), e);
        const struct tlog_checkpoint *head = tlog_reader_head(r);
        assert_int_equal(head->size, size);
        struct merkle_frontier f = {0};
        for (uint64_t old = 0; old <= size; old += old < 600 || old > size - 300 ? 1 : step) {
            struct tlog_hash proof[TLOG_LEVELS], root;
            size_t n;
            root_of(&f, old, &root);
            assert_ok(tlog_reader_consistency(r, old, proof, &n, &e), e);
            if (merkle_verify_consistency(old, size, &root, &head->root, proof, n, &e) < 0)
                fail_msg("%llu to %llu: %s", (unsigned long long)old, (unsigned long long)size, e.msg);
        }
        struct tlog_hash proof[TLOG_LEVELS];
        size_t n;
        assert_int_equal(tlog_reader_consistency(r, size + 1, proof, &n, &e), -1);
        assert_rule(e, "log-index");
        tlog_reader_close(r);
    }
}

/* --- the published checkpoint, cosigned ---------------------------------------------------------- */

static struct test_log w1, w2;

static void head_read(struct tlog_checkpoint *c, struct buf *note, uint64_t times[2])
{
    struct tlog_note n;
    struct err e;
    char path[160];
    snprintf(path, sizeof path, "%s/checkpoint", t.dir);
    buf_reset(note);
    assert_ok(file_read(note, path, TLOG_NOTE_MAX, &e), e);
    assert_ok(tlog_checkpoint_open(c, note->p, note->len, &t.vkey, &e), e); /* the log's own is never lost */
    assert_ok(tlog_note_parse(&n, note->p, note->len, &e), e);
    times[0] = times[1] = 0;
    assert_true(tlog_cosign_find(&n, &w1.vkey, &times[0], &e) >= 0);
    assert_true(tlog_cosign_find(&n, &w2.vkey, &times[1], &e) >= 0);
}

static int cosign(struct test_log *by, uint64_t time, const struct tlog_checkpoint *c, struct err *e)
{
    struct tlog_cosignature s = {.time = time};
    struct buf text, msg;
    buf_init(&text, 1000);
    buf_init(&msg, 1000);
    tlog_checkpoint_body(c, &text);
    tlog_cosign_text(time, view(&text), &msg);
    assert_ok(test_sign(by, msg.p, msg.len, s.sig, e), *e);
    buf_free(&text);
    buf_free(&msg);
    if (time == 666)
        s.sig[3] ^= 1;
    return tlog_cosign(log_, c, &by->vkey, &s, e);
}

/* Waits for the publisher, which has nothing else to do. */
static void shown(uint64_t first, uint64_t second)
{
    struct tlog_checkpoint c;
    struct buf note;
    uint64_t times[2] = {0, 0};
    buf_init(&note, TLOG_NOTE_MAX);
    for (int i = 0; i < 3000; i++) {
        head_read(&c, &note, times);
        if (times[0] == first && times[1] == second)
            break;
        usleep(10000);
    }
    assert_int_equal(times[0], first);
    assert_int_equal(times[1], second);
    buf_free(&note);
}

static void cosigned(void **state)
{
    struct tlog_checkpoint c, other;
    struct buf note;
    struct err e;
    uint64_t times[2];
    buf_init(&note, TLOG_NOTE_MAX);
    test_witness(&w1, "witness.example.net/1");
    test_witness(&w2, "witness.example.net/2");
    assert_ok(tlog_create(&t.o, &e), e);
    log_ = open_ok(&t);
    head_read(&c, &note, times);
    assert_int_equal(c.size, 1);
    assert_ok(cosign(&w1, 100, &c, &e), e);
    shown(100, 0);
    assert_ok(cosign(&w2, 200, &c, &e), e);
    shown(100, 200);
    assert_ok(cosign(&w1, 300, &c, &e), e);
    assert_ok(cosign(&w1, 300, &c, &e), e);
    shown(300, 200);
    assert_int_equal(cosign(&w1, 666, &c, &e), -1);
    assert_rule(e, "cosignature");
    other = c;
    other.size = 11;
    assert_int_equal(cosign(&w1, 400, &other, &e), -1);
    assert_rule(e, "cosign-stale");
    other = c;
    other.root.b[0] ^= 1; /* cosigned indeed, but not what is published: no fork is spread from here */
    assert_int_equal(cosign(&w1, 400, &other, &e), -1);
    assert_rule(e, "cosign-stale");
    shown(300, 200);
    append_many(log_, 10, 5, 40);
    published(); /* a later one starts without */
    head_read(&other, &note, times);
    assert_int_equal(other.size, 11);
    assert_true(times[0] == 0 && times[1] == 0);
    assert_int_equal(cosign(&w1, 500, &c, &e), -1);
    assert_rule(e, "cosign-stale");
    assert_ok(cosign(&w1, 500, &other, &e), e);
    tlog_close(log_); /* what was handed over is written before the end */
    log_ = NULL;
    head_read(&other, &note, times);
    assert_int_equal(times[0], 500);
    struct tlog_verify_report report;
    assert_ok(tlog_verify_dir(t.dir, &t.vkey, &report, NULL, NULL, &e), e);
    test_key_free(&w1);
    test_key_free(&w2);
    buf_free(&note);
}

static int setup(void **state)
{
    test_begin(&t);
    return 0;
}

static int teardown(void **state)
{
    tlog_close(log_);
    log_ = NULL;
    test_end(&t);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(every_pair, setup, teardown),
                                       cmocka_unit_test_setup_teardown(cosigned, setup, teardown)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
