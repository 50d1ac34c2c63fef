#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "tests/unit/ra/fixture.h"
#include "ra/store.h"
#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>

static struct fx x;

static void authorize(struct ra_session *s)
{
    uint8_t secret[32];
    struct wait w;
    struct bytes csr = csr_for(WEB);
    make_token(&x, WEB, NULL, 0, secret);
    json_t *cmw = token_evidence(s, secret, "nonce");
    order_new(&x, s, &(struct ask){.uri = WEB, .csr = &csr, .evidence = cmw}, &w);
    EXPECT(&w, NULL);
    wait_free(&w);
    json_decref(cmw);
}

/* Sessions and authorizations survive; a warm order goes on without evidence. */
static void test_persistence(void **state)
{
    struct wait w;
    struct ra_stats n;
    char id[RA_ID_LEN + 1], evidence[32];
    struct ra_session *s = make_session(&x);
    memcpy(id, ra_session_id(s), sizeof id);
    authorize(s);
    memcpy(evidence, x.signer.last_evidence, sizeof evidence);
    ra_session_release(s);
    fx_reopen(&x);
    ra_stats(x.ra, &n);
    assert_int_equal(n.entries, 1);
    assert_int_equal(n.sessions, 1);
    assert_int_equal(n.authorizations, 1);
    assert_int_equal(n.tokens, 1);
    assert_true(n.store_bytes > 0);
    s = ra_session_find(x.ra, id);
    struct bytes csr = csr_for(WEB);
    order_new(&x, s, &(struct ask){.uri = WEB, .csr = &csr}, &w);
    EXPECT(&w, NULL);
    assert_int_equal(w.o.status, RA_VALID);
    assert_memory_equal(evidence, x.signer.last_evidence, sizeof evidence);
    wait_free(&w);
    /* attesting again replaces: the store has one row for the pair */
    wait_init(&w);
    char authz[RA_ID_LEN + 1];
    order_new(&x, s, &(struct ask){.uri = WEB}, &w);
    EXPECT(&w, NULL);
    memcpy(authz, w.order_authz, sizeof authz);
    wait_init(&w);
    ra_authz_deactivate(x.ra, s, authz, on_authz, &w);
    EXPECT(&w, NULL);
    authorize(s);
    ra_stats(x.ra, &n);
    assert_int_equal(n.authorizations, 1);
    ra_session_release(s);
    fx_reopen(&x);
    ra_stats(x.ra, &n);
    assert_int_equal(n.authorizations, 1);
    struct stat st;
    assert_int_equal(stat(x.config->store_path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
}

static uint64_t rows(const char *table)
{
    sqlite3 *db;
    sqlite3_stmt *q;
    char sql[128];
    assert_int_equal(sqlite3_open_v2(x.config->store_path, &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
    snprintf(sql, sizeof sql, "SELECT count(*) FROM %s", table);
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &q, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(q), SQLITE_ROW);
    uint64_t n = (uint64_t)sqlite3_column_int64(q, 0);
    sqlite3_finalize(q);
    sqlite3_close(db);
    return n;
}

/* What no longer lives goes from memory and store; what lives stays; the file shrinks. */
static void test_sweep(void **state)
{
    struct ra_stats n;
    enum { MANY = 700 };
    struct ra_session *kept = make_session(&x);
    for (int i = 0; i < MANY; i++) {
        uint8_t secret[32];
        ra_session_release(make_session(&x));
        make_token(&x, WEB, NULL, 60, secret);
    }
    ra_stats(x.ra, &n);
    assert_true(n.sessions > MANY && n.tokens >= MANY);
    uint64_t bytes = n.store_bytes;
    writer_sweep(x.ra);
    ra_stats(x.ra, &n);
    assert_true(n.sessions > MANY); /* all live */
    if (!fx_clock(&x, 3700))
        skip();
    authorize(kept); /* lives on by its authorization, and by being used */
    struct ra_session *used = ra_session_find(x.ra, ra_session_id(kept));
    assert_non_null(used);
    ra_session_release(used);
    writer_sweep(x.ra);
    ra_stats(x.ra, &n);
    assert_int_equal(n.sessions, 1);
    assert_int_equal(n.authorizations, 1);
    assert_int_equal(n.entries, 1);
    assert_int_equal(n.tokens, 3); /* the one just spent, and two within their grace */
    assert_int_equal(rows("sessions"), 1);
    assert_int_equal(rows("authorizations"), 1);
    assert_int_equal(rows("tokens"), 3);
    for (int i = 0; i < 8; i++)
        writer_sweep(x.ra);
    ra_stats(x.ra, &n);
    assert_true(n.store_bytes < bytes);
    /* an account with nothing left goes, too; who still holds it may */
    char id[RA_ID_LEN + 1];
    memcpy(id, ra_session_id(kept), sizeof id);
    fx_clock(&x, 3700 * 2 + 10);
    writer_sweep(x.ra);
    assert_null(ra_session_find(x.ra, id));
    assert_int_equal(rows("sessions"), 0);
    assert_int_equal(rows("authorizations"), 0);
    struct wait w;
    order_new(&x, kept, &(struct ask){.uri = WEB}, &w);
    EXPECT(&w, "account-deactivated");
    fx_clock(&x, 0);
    ra_session_release(kept);
}

/* A full disk: an error with a word, nothing changed, and it goes on when there is room again. */
struct limit_op {
    struct op op;
    unsigned pages;
    struct wait *w;
};

static int limit_write(struct op *op, struct store *s, struct err *e)
{
    store_limit_pages(s, ((struct limit_op *)(void *)op)->pages);
    return 0;
}

static void limit_done(struct op *op, struct ra *ra, const struct err *e)
{
    struct limit_op *o = (struct limit_op *)(void *)op;
    pthread_mutex_lock(&o->w->lock);
    wait_wake(o->w, NULL);
}

static void limit_pages(unsigned pages)
{
    struct err e = {0};
    struct wait w;
    wait_init(&w);
    struct limit_op o = {.op = {.write = limit_write, .done = limit_done}, .pages = pages, .w = &w};
    assert_int_equal(writer_push(x.ra, &o.op, &e), 0);
    wait_for(&w);
}

static void test_disk_full(void **state)
{
    struct wait w[40], warm;
    struct ra_stats before, after;
    uint8_t secret[32];
    char ids[40][64], sel[RA_SELECTORS_MAX][1000], *sels[RA_SELECTORS_MAX];
    struct ra_session *s = make_session(&x), *other = make_session(&x);
    for (int i = 0; i < RA_SELECTORS_MAX; i++) { /* 32 kB an entry: more than the free pages the file may have */
        memset(sel[i], 'x', sizeof sel[i] - 1);
        sel[i][1] = ':';
        sel[i][2] = (char)('A' + i);
        sel[i][sizeof sel[i] - 1] = 0;
        sels[i] = sel[i];
    }
    authorize(s);
    make_token(&x, WEB, NULL, 0, secret);
    ra_stats(x.ra, &before);
    limit_pages(1); /* SQLite takes the size it has as the least limit: no page more */
    bool full = false;
    unsigned good = 0;
    for (int i = 0; i < 40; i++) {
        wait_init(&w[i]);
        snprintf(ids[i], sizeof ids[i], "spiffe://example.org/full/%d", i);
        struct ra_entry e = {.spiffe_id = ids[i], .selectors = sels, .selectors_count = RA_SELECTORS_MAX};
        ra_entry_create(x.ra, &e, on_entry, &w[i]);
    }
    for (int i = 0; i < 40; i++) {
        wait_for(&w[i]);
        full = full || w[i].e.code != ERR_NONE;
        good += w[i].e.code == ERR_NONE;
        if (w[i].e.code != ERR_NONE) {
            assert_int_equal(w[i].e.code, ERR_UNAVAILABLE);
            assert_string_equal(w[i].e.rule, "store-disk");
        }
    }
    assert_true(full);
    ra_stats(x.ra, &after);
    assert_int_equal(after.entries, before.entries + good);
    assert_int_equal(rows("entries"), after.entries);
    /* a warm order needs no disk of ours */
    struct bytes csr = csr_for(WEB);
    order_new(&x, s, &(struct ask){.uri = WEB, .csr = &csr}, &warm);
    EXPECT(&warm, NULL);
    wait_free(&warm);
    limit_pages(0);
    /* the process went on: the same again succeeds, and the token is unspent */
    wait_init(&warm);
    struct ra_entry e = {.spiffe_id = ids[39], .selectors = sels, .selectors_count = RA_SELECTORS_MAX};
    if (w[39].e.code != ERR_NONE) {
        ra_entry_create(x.ra, &e, on_entry, &warm);
        EXPECT(&warm, NULL);
    }
    json_t *cmw = token_evidence(other, secret, "nonce");
    order_new(&x, other, &(struct ask){.uri = WEB, .csr = &csr, .evidence = cmw}, &warm);
    EXPECT(&warm, NULL);
    wait_free(&warm);
    json_decref(cmw);
    ra_session_release(s);
    ra_session_release(other);
    fx_reopen(&x);
}

/* An op that refuses, and takes its savepoint with it, so that undoing it fails. */
static int wild_write(struct op *op, struct store *s, struct err *e)
{
    struct err ignored = {0};
    store_release(s, true, &ignored);
    return err_set(e, ERR_BAD_EVIDENCE, "token-spent", "its own refusal");
}

/* When the store fails, all of the batch hear the store's word, and nobody another's refusal. */
static void test_batch_error(void **state)
{
    struct held h;
    struct wait w, wild;
    struct err e = {0};
    char id[] = "spiffe://example.org/batch";
    struct ra_entry entry = entry_of(id);
    wait_init(&w);
    wait_init(&wild);
    struct limit_op o = {.op = {.write = wild_write, .done = limit_done}, .w = &wild};
    store_hold(&x, &h);
    ra_entry_create(x.ra, &entry, on_entry, &w);
    assert_int_equal(writer_push(x.ra, &o.op, &e), 0);
    store_let_go(&h);
    wait_for(&wild);
    EXPECT(&w, "store-io");
    assert_int_equal(w.e.code, ERR_UNAVAILABLE);
    wait_init(&w);
    ra_entry_create(x.ra, &entry, on_entry, &w); /* nothing of it stayed, and the store goes on */
    EXPECT(&w, NULL);
    wait_init(&w);
    ra_entry_delete(x.ra, id, "uid:7", on_entry, &w);
    EXPECT(&w, NULL);
}

/* --- files that are refused ------------------------------------------------------------------------------------------ */

static void refuses_to_open(const char *rule)
{
    struct err e = {0};
    struct ra *ra = NULL;
    assert_int_equal(ra_open(&ra, x.config, x.ca, &e), -1);
    assert_string_equal(e.rule, rule);
    assert_non_null(strstr(e.msg, "store"));
}

static void sql(const char *text)
{
    sqlite3 *db;
    assert_int_equal(sqlite3_open(x.config->store_path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, text, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

static void shell(const char *command) /* with the store's path as $S */
{
    setenv("S", x.config->store_path, 1);
    assert_int_equal(system(command), 0);
}

static void overwrite(off_t at, const char *bytes, size_t n)
{
    int fd = open(x.config->store_path, O_WRONLY);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, bytes, n, at), n);
    close(fd);
}

static uint64_t number_of(const char *spiffe_id)
{
    struct wait w;
    wait_init(&w);
    ra_entry_get(x.ra, spiffe_id, on_entry, &w);
    EXPECT(&w, NULL);
    return w.number;
}

/* A store of an earlier version gets what it lacks, and keeps what it has. */
static void test_versions_before(void **state)
{
    struct err e = {0};
    struct ra_stats n;
    struct ra_session *holder = make_session(&x);
    authorize(holder);
    ra_session_release(holder);
    make_entry(&x, "spiffe://example.org/z", NULL, NULL);
    make_entry(&x, "spiffe://example.org/b", NULL, NULL);
    make_entry(&x, "spiffe://example.org/a", NULL, NULL);
    ra_stop(x.ra);
    ca_client_free(x.ca);
    ra_close(x.ra);
    sql("UPDATE entries SET created = 3000; UPDATE entries SET created = 2000 WHERE spiffe_id IN"
        " ('spiffe://example.org/a', 'spiffe://example.org/b');"
        "UPDATE entries SET created = 1000 WHERE spiffe_id = 'spiffe://example.org/z'");
    sql("DROP TABLE told; DROP TABLE revocations; ALTER TABLE entries DROP COLUMN auditor; ALTER TABLE entries DROP COLUMN number;"
        "ALTER TABLE entries DROP COLUMN hint;"
        "ALTER TABLE authorizations DROP COLUMN requester; ALTER TABLE authorizations DROP COLUMN agent_entry;"
        "ALTER TABLE authorizations DROP COLUMN agent_serial; ALTER TABLE authorizations DROP COLUMN agent_key;"
        "PRAGMA user_version=2");
    fx_open_ca(&x);
    assert_int_equal(ra_open(&x.ra, x.config, x.ca, &e), 0);
    assert_int_equal(rows("revocations"), 0);
    ra_stats(x.ra, &n);
    assert_int_equal(rows("entries"), n.entries);
    assert_true(n.authorizations > 0);
    assert_int_equal(rows("authorizations"), n.authorizations);
    /* by when they were made, as far as that is known; what is new comes behind */
    assert_int_equal(number_of("spiffe://example.org/z"), 1);
    assert_int_equal(number_of("spiffe://example.org/a"), 2);
    assert_int_equal(number_of("spiffe://example.org/b"), 3);
    assert_in_range(number_of(WEB), 4, n.entries);
    make_entry(&x, "spiffe://example.org/0", NULL, NULL);
    assert_int_equal(number_of("spiffe://example.org/0"), n.entries + 1);
}

/* From each of them, to a store that takes entries as ever. */
static void test_each_version_before(void **state)
{
    static const char *const added[STORE_VERSION + 1] = {
        [3] = "DROP TABLE revocations",
        [4] = "ALTER TABLE entries DROP COLUMN auditor; ALTER TABLE authorizations DROP COLUMN requester",
        [5] = "DROP TABLE told",
        [6] = "ALTER TABLE authorizations DROP COLUMN agent_entry; ALTER TABLE authorizations DROP COLUMN agent_serial;"
              "ALTER TABLE authorizations DROP COLUMN agent_key",
        [7] = "ALTER TABLE entries DROP COLUMN number",
        [8] = "ALTER TABLE entries DROP COLUMN hint"};
    char version[32], id[64];
    for (int v = STORE_VERSION - 1; v >= 2; v--) {
        ra_stop(x.ra);
        ca_client_free(x.ca);
        ra_close(x.ra);
        for (int i = STORE_VERSION; i > v; i--)
            sql(added[i]);
        snprintf(version, sizeof version, "PRAGMA user_version=%d", v);
        sql(version);
        fx_open_ca(&x);
        fx_open_ra(&x);
        snprintf(id, sizeof id, "spiffe://example.org/v%d", v);
        make_entry(&x, id, NULL, NULL);
        fx_reopen(&x);
        struct ra_stats n;
        ra_stats(x.ra, &n);
        assert_int_equal(rows("entries"), n.entries);
        /* the newest; of those that were numbered just now, their number */
        assert_in_range(number_of(id), n.entries, v < 7 ? n.entries : UINT32_MAX);
    }
}

static void test_refused_files(void **state)
{
    ra_stop(x.ra);
    ca_client_free(x.ca);
    ra_close(x.ra); /* checkpoints: all is in the one file */
    fx_open_ca(&x);
    shell("cp \"$S\" \"$S.good\"");
    char later[48];
    snprintf(later, sizeof later, "PRAGMA user_version=%d", STORE_VERSION + 1);
    sql(later);
    refuses_to_open("store-version");
    sql("PRAGMA user_version=1");
    refuses_to_open("store-version");
    shell("rm -f \"$S-wal\" \"$S-shm\"; cp \"$S.good\" \"$S\"");
    sql("PRAGMA application_id=1");
    refuses_to_open("store-foreign");
    shell("rm -f \"$S-wal\" \"$S-shm\"; cp \"$S.good\" \"$S\"");
    overwrite(0, "this is no database at all......", 32);
    refuses_to_open("store-corrupt");
    shell("rm -f \"$S-wal\" \"$S-shm\"; cp \"$S.good\" \"$S\"");
    overwrite(4096, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 16);
    overwrite(8192, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 16);
    refuses_to_open("store-corrupt");
    shell("rm -f \"$S-wal\" \"$S-shm\"; cp \"$S.good\" \"$S\"");
    shell("truncate -s 6000 \"$S\"");
    refuses_to_open("store-corrupt");
    /* rows that SQLite finds nothing wrong with */
    shell("rm -f \"$S-wal\" \"$S-shm\"; cp \"$S.good\" \"$S\"");
    sql("UPDATE entries SET spiffe_id = 'spiffe://other.org/web' WHERE spiffe_id = '" WEB "'");
    refuses_to_open("store-row");
    shell("rm -f \"$S-wal\" \"$S-shm\"; cp \"$S.good\" \"$S\"");
    sql("UPDATE entries SET revision = 0");
    refuses_to_open("store-row");
    shell("rm -f \"$S-wal\" \"$S-shm\"; cp \"$S.good\" \"$S\"");
    sql("UPDATE entries SET number = 0");
    refuses_to_open("store-row");
    shell("rm -f \"$S-wal\" \"$S-shm\"; cp \"$S.good\" \"$S\"");
    sql("UPDATE entries SET hint = char(10)");
    refuses_to_open("store-row");
    shell("rm -f \"$S-wal\" \"$S-shm\"; cp \"$S.good\" \"$S\"");
    sql("INSERT INTO tokens VALUES (x'00', NULL, '', '', 1, 2, 0)");
    refuses_to_open("store-row");
    shell("rm -f \"$S-wal\" \"$S-shm\"; cp \"$S.good\" \"$S\"");
    sql("INSERT INTO tokens VALUES (zeroblob(32), NULL, '', 'no end', 1, 2, 0)");
    refuses_to_open("store-row");
    shell("rm -f \"$S-wal\" \"$S-shm\"; cp \"$S.good\" \"$S\"");
    sql("INSERT INTO tokens VALUES (zeroblob(32), '" WEB "', '', '', 1, 2, 0)");
    refuses_to_open("store-row");
    shell("rm -f \"$S-wal\" \"$S-shm\"; cp \"$S.good\" \"$S\"");
    sql("INSERT INTO sessions VALUES ('0123456789012345678901', 'x', x'3000', 1, 0)");
    refuses_to_open("store-row");
    shell("rm -f \"$S-wal\" \"$S-shm\"; cp \"$S.good\" \"$S\"");
    sql("INSERT INTO authorizations VALUES ('0123456789012345678901', 'nobody', '" WEB "', '0123456789012345678901', 1, 1, '', zeroblob(16),"
        " zeroblob(32), 1, 2, '', '', '', NULL)");
    refuses_to_open("store-row");
    shell("rm -f \"$S-wal\" \"$S-shm\"; mv \"$S.good\" \"$S\"");
    fx_open_ra(&x);
}

static void test_no_place(void **state)
{
    struct err e = {0};
    struct ra *ra = NULL;
    char *path = x.config->store_path, away[] = "/proc/nowhere/mayfly.db";
    x.config->store_path = away;
    assert_int_equal(ra_open(&ra, x.config, x.ca, &e), -1);
    x.config->store_path = path;
    assert_int_equal(e.code, ERR_IO);
}

static int setup(void **state)
{
    fx_new(&x, "");
    make_entry(&x, WEB, NULL, NULL);
    return 0;
}

static int teardown(void **state)
{
    fx_free(&x);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_persistence), cmocka_unit_test(test_sweep),    cmocka_unit_test(test_disk_full),
        cmocka_unit_test(test_batch_error),
        cmocka_unit_test(test_versions_before),
        cmocka_unit_test(test_each_version_before), cmocka_unit_test(test_refused_files), cmocka_unit_test(test_no_place),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
