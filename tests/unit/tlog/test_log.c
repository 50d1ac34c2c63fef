/* The writer: making, opening, appending; and every kind of damage at start-up. */
#include "tests/unit/tlog/support.h"
#include "tlog/record.h"
#include <sys/mount.h>

/* 16 KiB entries: a journal segment holds about 255 of them. */
#define BIG 16000

static void create_open(void **state)
{
    struct test_log t;
    struct tlog *log, *second;
    struct tlog_status s;
    struct tlog_hash root;
    struct err e;
    test_begin(&t);
    assert_int_equal(tlog_open(&log, &t.o, &e), -1); /* nothing is made silently */
    assert_rule(e, "log-missing");
    assert_int_not_equal(access(t.dir, F_OK), 0);
    assert_ok(tlog_create(&t.o, &e), e);
    assert_int_equal(verify_ok(&t), 1);
    assert_int_equal(tlog_create(&t.o, &e), -1);
    assert_int_equal(e.code, ERR_EXISTS);
    log = open_ok(&t);
    tlog_status(log, &s);
    assert_int_equal(s.size, 1);
    assert_int_equal(s.published_size, 1);
    merkle_leaf(&root, "\0\0\0\0", 4);
    assert_memory_equal(&root, &s.root, sizeof root);
    assert_int_equal(tlog_open(&second, &t.o, &e), -1);
    assert_rule(e, "log-locked");
    assert_int_equal(e.code, ERR_EXISTS);
    assert_int_equal(tlog_create(&t.o, &e), -1);
    assert_rule(e, "log-locked");
    tlog_close(log);
    test_end(&t);
}

static void create_refused(void **state)
{
    static const char *const names[] = {"head", "journal", "checkpoint", "tile"};
    struct test_log t;
    struct err e;
    test_begin(&t);
    for (size_t i = 0; i < 4; i++) {
        shell("mkdir -p %s/%s", t.dir, names[i]);
        assert_int_equal(tlog_create(&t.o, &e), -1);
        assert_rule(e, "log-exists");
        shell("rmdir %s/%s && [ -z \"$(ls -A %s)\" ]", t.dir, names[i], t.dir);
    }
    t.sign_fail = true;
    assert_int_equal(tlog_create(&t.o, &e), -1);
    assert_rule(e, "test-sign");
    test_end(&t);
}

/* Every entry of every batch has a proof that verifies, and the log survives closing. */
static void append_proofs(void **state)
{
    struct test_log t;
    struct tlog *log;
    struct tlog_proof p;
    struct tlog_checkpoint c;
    struct tlog_hash leaf;
    struct buf entry[5], proof;
    struct bytes v[5];
    struct err e;
    uint64_t first, next = 1;
    test_begin(&t);
    assert_ok(tlog_create(&t.o, &e), e);
    buf_init(&proof, TLOG_PROOF_MAX);
    for (size_t i = 0; i < 5; i++)
        buf_init(&entry[i], TLOG_ENTRY_MAX);
    for (int round = 0; round < 3; round++) {
        log = open_ok(&t);
        for (size_t n = 1; n <= 5; n++) {
            for (size_t i = 0; i < n; i++) {
                entry_make(&entry[i], next + i, 20);
                v[i] = view(&entry[i]);
            }
            assert_ok(tlog_append(log, v, n, &first, &e), e);
            assert_int_equal(first, next);
            for (size_t i = 0; i < n; i++) {
                buf_reset(&proof);
                tlog_batch_proof(log, i, (struct bytes){(const uint8_t *)"x", 1}, &proof);
                assert_ok(tlog_proof_parse(&p, proof.p, proof.len, &e), e);
                assert_int_equal(p.index, first + i);
                merkle_leaf(&leaf, v[i].p, v[i].len);
                assert_ok(tlog_proof_verify(&p, &leaf, &t.vkey, &c, &e), e);
                assert_int_equal(c.size, first + n);
            }
            buf_reset(&proof);
            tlog_batch_proof(log, n, (struct bytes){NULL, 0}, &proof);
            assert_true(proof.failed);
            next += n;
        }
        tlog_close(log);
        assert_int_equal(verify_ok(&t), next);
    }
    assert_int_equal(t.signs, 1 + 15);
    for (size_t i = 0; i < 5; i++)
        buf_free(&entry[i]);
    buf_free(&proof);
    test_end(&t);
}

static void append_refused(void **state)
{
    struct test_log t;
    struct tlog *log;
    struct tlog_status s;
    struct bytes v[TLOG_BATCH_MAX + 1];
    struct err e;
    uint64_t first;
    test_begin(&t);
    assert_ok(tlog_create(&t.o, &e), e);
    log = open_ok(&t);
    for (size_t i = 0; i <= TLOG_BATCH_MAX; i++)
        v[i] = (struct bytes){(const uint8_t *)"\0\0\xff\x80", 4};
    assert_int_equal(tlog_append(log, v, 0, &first, &e), -1);
    assert_int_equal(tlog_append(log, v, TLOG_BATCH_MAX + 1, &first, &e), -1);
    v[1].len = 3;
    assert_int_equal(tlog_append(log, v, 2, &first, &e), -1);
    assert_rule(e, "entry-format");
    append_many(log, 3, 3, 10); /* these were the caller's mistakes: the log goes on */
    t.sign_fail = true;
    assert_int_equal(tlog_append(log, v, 1, &first, &e), -1);
    assert_rule(e, "test-sign");
    t.sign_fail = false;
    assert_int_equal(tlog_append(log, v, 1, &first, &e), -1); /* final */
    assert_rule(e, "log-dead");
    tlog_close(log);
    log = open_ok(&t); /* adopted: it was in the journal */
    tlog_status(log, &s);
    assert_int_equal(s.size, 5);
    tlog_close(log);
    assert_int_equal(verify_ok(&t), 5);
    test_end(&t);
}

/* A log of n entries, closed. */
static void filled(struct test_log *t, uint64_t n, size_t size)
{
    struct err e;
    test_begin(t);
    assert_ok(tlog_create(&t->o, &e), e);
    struct tlog *log = open_ok(t);
    append_many(log, n, TLOG_BATCH_MAX, size);
    tlog_close(log);
}

static void missing_files(void **state)
{
    struct test_log t;
    filled(&t, 300, 100);
    shell("cp -a %s %s/copy", t.dir, t.base);
    static const char *const names[] = {"head", "checkpoint", "journal", "journal/*"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        shell("rm -r %s/%s", t.dir, names[i]);
        open_refused(&t, "log-missing");
        shell("rm -rf %s && cp -a %s/copy %s", t.dir, t.base, t.dir);
    }
    tlog_close(open_ok(&t));
    test_end(&t);
}

static void missing_tiles(void **state)
{
    struct test_log t;
    filled(&t, 1100, BIG); /* the journal begins behind several full tiles */
    assert_false(exists(&t, "journal/00000000000000000000"));
    shell("mv %s/tile/0/001 %s/", t.dir, t.base);
    open_refused(&t, "log-missing");
    shell("mv %s/001 %s/tile/0/", t.base, t.dir);
    shell("rm %s/tile/entries/001", t.dir);
    t.o.full_check = true;
    open_refused(&t, "log-missing");
    t.o.full_check = false;
    tlog_close(open_ok(&t)); /* the edge alone does not need the bundle */
    test_end(&t);
}

static void partial_tiles_come_back(void **state)
{
    struct test_log t;
    filled(&t, 299, 100);
    shell("rm -r %s/tile", t.dir); /* all of it is still in the journal */
    tlog_close(open_ok(&t));
    assert_int_equal(verify_ok(&t), 300);
    test_end(&t);
}

static void journal_damage(void **state)
{
    struct test_log t;
    char seg[] = "journal/00000000000000000000";
    filled(&t, 300, 100);
    shell("cp -a %s %s/copy", t.dir, t.base);
    flip(t.dir, seg, 0); /* header */
    open_refused(&t, "log-bitflip");
    flip(t.dir, seg, 0);
    for (off_t at = 32; at < 32 + 3 * 130; at += 7) { /* length, index, entry, check */
        flip(t.dir, seg, at);
        open_refused(&t, "log-bitflip");
        flip(t.dir, seg, at);
    }
    shell("truncate -s 20000 %s/%s", t.dir, seg);
    open_refused(&t, "log-truncated");
    shell("truncate -s 20 %s/%s", t.dir, seg);
    open_refused(&t, "log-truncated");
    shell("truncate -s 0 %s/%s", t.dir, seg);
    open_refused(&t, "log-truncated");
    shell("rm -rf %s && cp -a %s/copy %s", t.dir, t.base, t.dir);
    shell("truncate -s 1000000 %s/%s", t.dir, seg); /* only zeros are lost: nothing is */
    struct tlog *log = open_ok(&t);
    append_many(log, 1000, 256, 1500); /* and the file's room is used up at its end */
    tlog_close(log);
    assert_int_equal(verify_ok(&t), 1301);
    tlog_close(open_ok(&t));
    test_end(&t);
}

static void segments_damage(void **state)
{
    struct test_log t;
    filled(&t, 200, 20000); /* 4.0 MB */
    struct tlog *log = open_ok(&t);
    append_many(log, 50, 50, 20000);
    tlog_close(log);
    shell("[ $(ls %s/journal | wc -l) -eq 2 ]", t.dir);
    flip(t.dir, "journal/00000000000000000000", 2000000);
    open_refused(&t, "log-bitflip");
    flip(t.dir, "journal/00000000000000000000", 2000000);
    shell("cd %s/journal && mv \"$(ls | tail -1)\" ../../last", t.dir);
    open_refused(&t, "log-rollback");
    shell("mv %s/last %s/journal/00000000000000000250", t.base, t.dir);
    open_refused(&t, "log-missing");
    test_end(&t);
}

static void older_copies(void **state)
{
    struct test_log t;
    filled(&t, 50, 100);
    shell("cp -a %s %s/old", t.dir, t.base);
    struct tlog *log = open_ok(&t);
    append_many(log, 30, 10, 100);
    tlog_close(log);
    shell("cp -a %s %s/new", t.dir, t.base);
    shell("rm -r %s/journal && cp -a %s/old/journal %s/", t.dir, t.base, t.dir);
    open_refused(&t, "log-rollback"); /* journal older than head */
    shell("rm -r %s && cp -a %s/old %s && cp %s/new/head %s/", t.dir, t.base, t.dir, t.base, t.dir);
    open_refused(&t, "log-rollback"); /* everything older than head */
    shell("rm -r %s && cp -a %s/new %s && cp %s/old/head %s/", t.dir, t.base, t.dir, t.base, t.dir);
    open_refused(&t, "log-rollback"); /* head older than the published checkpoint */
    shell("rm -r %s && cp -a %s/new %s && cp %s/old/checkpoint %s/", t.dir, t.base, t.dir, t.base,
          t.dir);
    tlog_close(open_ok(&t)); /* an older checkpoint loses nothing */
    assert_int_equal(verify_ok(&t), 81);
    log = open_ok(&t);
    append_many(log, 600, 200, 100);
    tlog_close(log);
    shell("cp %s/old/head %s/old/checkpoint %s/", t.base, t.base, t.dir);
    open_refused(&t, "log-rollback"); /* head older than the journal by more than a batch */
    test_end(&t);
}

static void head_behind_tiles(void **state)
{
    struct test_log t;
    filled(&t, 10, BIG);
    shell("cp %s/head %s/checkpoint %s/", t.dir, t.dir, t.base);
    struct tlog *log = open_ok(&t);
    append_many(log, 1100, 256, BIG);
    tlog_close(log);
    shell("cp %s/head %s/checkpoint %s/", t.base, t.base, t.dir);
    open_refused(&t, "log-rollback");
    test_end(&t);
}

static void head_damage(void **state)
{
    struct test_log t;
    struct tlog_status s;
    filled(&t, 50, 100);
    struct tlog *log = open_ok(&t);
    append_many(log, 5, 5, 100);
    tlog_close(log);
    shell("cp -a %s %s/copy", t.dir, t.base);
    flip(t.dir, "head", 30);
    flip(t.dir, "head", TLOG_HEAD_SLOT + 30);
    open_refused(&t, "log-head");
    flip(t.dir, "head", 30);
    flip(t.dir, "head", TLOG_HEAD_SLOT + 30);
    shell("truncate -s 4096 %s/head", t.dir);
    open_refused(&t, "log-head");
    shell("truncate -s 0 %s/head", t.dir);
    open_refused(&t, "log-head");
    /* one slot torn, the published checkpoint not yet there: the older slot and the journal */
    for (int slot = 0; slot < 2; slot++) {
        shell("rm -r %s && cp -a %s/copy %s", t.dir, t.base, t.dir);
        shell("rm %s/checkpoint", t.dir);
        open_refused(&t, "log-missing");
        shell("rm -r %s && cp -a %s/copy %s", t.dir, t.base, t.dir);
        flip(t.dir, "head", slot * TLOG_HEAD_SLOT + 30);
        struct err e;
        int ret = tlog_open(&log, &t.o, &e);
        if (ret < 0) { /* the newest slot: the checkpoint tells that head went back */
            assert_rule(e, "log-rollback");
            continue;
        }
        tlog_status(log, &s);
        assert_int_equal(s.size, 56);
        append_many(log, 3, 1, 100);
        tlog_close(log);
        assert_int_equal(verify_ok(&t), 59);
    }
    test_end(&t);
}

/* A head whose write was torn before anything was published under it. */
static void head_torn(void **state)
{
    struct test_log t;
    struct tlog_status s;
    filled(&t, 50, 100);
    shell("cp %s/checkpoint %s/", t.dir, t.base);
    struct tlog *log = open_ok(&t);
    append_many(log, 5, 5, 100);
    tlog_close(log);
    shell("cp %s/checkpoint %s/", t.base, t.dir);
    /* head was made with sequence 1 in slot 0; the third write is in slot 0 again */
    flip(t.dir, "head", 30);
    int signs = t.signs;
    log = open_ok(&t);
    assert_int_equal(t.signs, signs + 1);
    tlog_status(log, &s);
    assert_int_equal(s.size, 56);
    tlog_close(log);
    assert_int_equal(verify_ok(&t), 56);
    test_end(&t);
}

static void checkpoint_damage(void **state)
{
    struct test_log t;
    filled(&t, 50, 100);
    flip(t.dir, "checkpoint", 5);
    open_refused(&t, "log-bitflip");
    flip(t.dir, "checkpoint", 5);
    flip(t.dir, "checkpoint", -5);
    open_refused(&t, "log-bitflip");
    shell(": > %s/checkpoint", t.dir);
    open_refused(&t, "log-bitflip");
    test_end(&t);
}

static void tile_damage(void **state)
{
    struct test_log t;
    filled(&t, 1100, BIG);
    shell("[ -f %s/tile/0/002 ]", t.dir);
    flip(t.dir, "tile/0/001", 77); /* below the journal: the edge's root shows it */
    open_refused(&t, "log-bitflip");
    flip(t.dir, "tile/0/001", 77);
    shell("truncate -s 8000 %s/tile/0/001", t.dir);
    open_refused(&t, "log-bitflip");
    shell("truncate -s 9000 %s/tile/0/001", t.dir);
    open_refused(&t, "log-bitflip");
    test_end(&t);
}

static void bundle_damage(void **state)
{
    struct test_log t;
    filled(&t, 1100, BIG);
    flip(t.dir, "tile/entries/001", 100000); /* only the full check reads it */
    tlog_close(open_ok(&t));
    t.o.full_check = true;
    open_refused(&t, "log-bitflip");
    flip(t.dir, "tile/entries/001", 100000);
    shell("truncate -s 100000 %s/tile/entries/001", t.dir);
    open_refused(&t, "log-bitflip");
    test_end(&t);
}

/* Another log's key: nothing of it is believed. */
static void other_key(void **state)
{
    struct test_log t, u;
    filled(&t, 5, 100);
    memset(&u, 0, sizeof u);
    test_key(&u, t.vkey.name);
    t.o.vkey = &u.vkey;
    open_refused(&t, "log-head");
    t.o.vkey = &t.vkey;
    tlog_vkey_free(&u.vkey);
    EVP_PKEY_free(u.key);
    test_end(&t);
}

/* The compare of the compare-and-swap: whoever else wrote, this process stops. */
static void second_writer(void **state)
{
    struct test_log t;
    struct tlog *log;
    struct bytes v = {(const uint8_t *)"\0\0\xff\x80", 4};
    struct err e;
    uint64_t first;
    filled(&t, 5, 100);
    log = open_ok(&t);
    flip(t.dir, "head", 8000);
    assert_int_equal(tlog_append(log, &v, 1, &first, &e), -1);
    assert_rule(e, "log-head");
    flip(t.dir, "head", 8000);
    assert_int_equal(tlog_append(log, &v, 1, &first, &e), -1);
    assert_rule(e, "log-dead");
    tlog_close(log);
    log = open_ok(&t);
    shell("cp %s/head %s/h && mv %s/h %s/head", t.dir, t.dir, t.dir, t.dir); /* another file */
    assert_int_equal(tlog_append(log, &v, 1, &first, &e), -1);
    assert_rule(e, "log-head");
    tlog_close(log);
    test_end(&t);
}

static void torn_tail(void **state)
{
    struct test_log t;
    struct tlog_status s;
    filled(&t, 5, 100);
    char path[256];
    /* rubbish behind the last record: half of a batch that was never acknowledged */
    snprintf(path, sizeof path, "%s/journal/00000000000000000000", t.dir);
    int fd = open(path, O_RDWR);
    for (off_t at = 2000; at < 3000000; at += 100000)
        assert_int_equal(pwrite(fd, "rubbish", 7, at), 7);
    close(fd);
    struct tlog *log = open_ok(&t);
    tlog_status(log, &s);
    assert_int_equal(s.size, 6);
    append_many(log, 5, 5, 100);
    tlog_close(log);
    shell("! grep -q rubbish %s", path);
    tlog_close(open_ok(&t));
    assert_int_equal(verify_ok(&t), 11);
    test_end(&t);
}

static void newest_time(void **state)
{
    struct test_log t;
    struct tlog *log;
    struct buf cert, body, entry;
    struct tlog_cert_fields f;
    struct bytes stapled, v;
    struct test_cert c = {.serial = 1, .not_before = 1767225600, .not_after = 1767225900};
    struct tlog_entry x = {.type = TLOG_ENTRY_TBS_CERT};
    struct err e;
    uint64_t first;
    bool record;
    filled(&t, 5, 100);
    log = open_ok(&t);
    assert_int_equal(tlog_newest_time(log, &record), 0);
    buf_init(&cert, TLOG_ENTRY_MAX);
    buf_init(&body, TLOG_ENTRY_MAX);
    buf_init(&entry, TLOG_ENTRY_MAX);
    cert_make(&cert, &c);
    assert_ok(tlog_cert_body(&body, &f, &stapled, cert.p, cert.len, &e), e);
    x.body = view(&body);
    tlog_entry_write(&x, &entry);
    v = view(&entry);
    assert_ok(tlog_append(log, &v, 1, &first, &e), e);
    append_many(log, 3, 3, 100);
    tlog_close(log);
    log = open_ok(&t);
    assert_int_equal(tlog_newest_time(log, &record), c.not_before);
    /* An earlier one behind it: the clock was set back, and that was accepted. */
    c.not_before -= 1000;
    buf_reset(&cert);
    buf_reset(&body);
    buf_reset(&entry);
    cert_make(&cert, &c);
    assert_ok(tlog_cert_body(&body, &f, &stapled, cert.p, cert.len, &e), e);
    x.body = view(&body);
    tlog_entry_write(&x, &entry);
    v = view(&entry);
    assert_ok(tlog_append(log, &v, 1, &first, &e), e);
    tlog_close(log);
    log = open_ok(&t);
    assert_int_equal(tlog_newest_time(log, &record), c.not_before);
    assert_false(record);
    const struct tlog_record_info r = {.type = TLOG_ENTRY_REFUSAL, .time = c.not_before + 5, .code = 1, .count = 1,
                                       .rule = {(const uint8_t *)"r", 1}, .why = {(const uint8_t *)"w", 1}};
    const struct tlog_entry empty = {.type = TLOG_ENTRY_REFUSAL};
    buf_reset(&entry);
    tlog_entry_write(&empty, &entry);
    assert_ok(tlog_record_write(&r, &entry, &e), e);
    v = view(&entry);
    assert_ok(tlog_append(log, &v, 1, &first, &e), e);
    tlog_close(log);
    log = open_ok(&t);
    assert_int_equal(tlog_newest_time(log, &record), r.time);
    assert_true(record);
    tlog_close(log);
    buf_free(&cert);
    buf_free(&body);
    buf_free(&entry);
    test_end(&t);
}

/* A disk of its own that is really full; where mounting is not allowed there is no such test. */
static void disk_full(void **state)
{
    struct test_log t;
    struct tlog *log;
    struct tlog_status s;
    struct buf b;
    struct err e;
    uint64_t first, acknowledged = 1;
    test_begin(&t);
    assert_int_equal(mkdir(t.dir, 0755), 0);
    if (mount("tmpfs", t.dir, "tmpfs", 0, "size=24m") < 0) {
        printf("may not mount a small disk: skipped\n");
        test_end(&t);
        skip();
    }
    t.o.publish_ms = 5;
    assert_ok(tlog_create(&t.o, &e), e);
    log = open_ok(&t);
    buf_init(&b, TLOG_ENTRY_MAX);
    for (;;) {
        entry_make(&b, acknowledged, BIG);
        struct bytes v = view(&b);
        if (tlog_append(log, &v, 1, &first, &e) < 0)
            break;
        acknowledged++;
    }
    assert_true(strcmp(e.rule, "log-disk") == 0 || strcmp(e.rule, "log-publish") == 0);
    tlog_close(log);
    int refused = tlog_open(&log, &t.o, &e);
    if (refused == 0)
        tlog_close(log);
    else
        assert_rule(e, "log-disk");
    assert_int_equal(mount("tmpfs", t.dir, "tmpfs", MS_REMOUNT, "size=100m"), 0);
    log = open_ok(&t);
    tlog_status(log, &s);
    assert_true(s.size == acknowledged || s.size == acknowledged + 1);
    append_many(log, 100, 10, BIG);
    tlog_close(log);
    assert_int_equal(verify_ok(&t), s.size + 100);
    assert_int_equal(umount(t.dir), 0);
    buf_free(&b);
    test_end(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(create_open),
        cmocka_unit_test(create_refused),
        cmocka_unit_test(append_proofs),
        cmocka_unit_test(append_refused),
        cmocka_unit_test(missing_files),
        cmocka_unit_test(missing_tiles),
        cmocka_unit_test(partial_tiles_come_back),
        cmocka_unit_test(journal_damage),
        cmocka_unit_test(segments_damage),
        cmocka_unit_test(older_copies),
        cmocka_unit_test(head_behind_tiles),
        cmocka_unit_test(head_damage),
        cmocka_unit_test(head_torn),
        cmocka_unit_test(checkpoint_damage),
        cmocka_unit_test(tile_damage),
        cmocka_unit_test(bundle_damage),
        cmocka_unit_test(other_key),
        cmocka_unit_test(second_writer),
        cmocka_unit_test(torn_tail),
        cmocka_unit_test(newest_time),
        cmocka_unit_test(disk_full),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
