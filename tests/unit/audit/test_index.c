/* The index's file is a cache: whatever happens to it, it is made again, and nothing that is not
 * ours is touched. */
#include "unit/audit/house.h"
#include "base/log.h"

static uint64_t fill(struct house *h)
{
    struct audit_index *x = index_ok(h, false);
    struct err e;
    uint64_t size;
    assert_ok(audit_index_catch_up(x, NULL, &e), e);
    assert_ok(audit_index_size(x, &size, &e), e);
    assert_true(same(h, x, "prefix=spiffe://example.org/web") > 0);
    audit_index_close(x);
    return size;
}

static void begin(struct house *h)
{
    house_begin(h);
    house_varied(h, 1, 700);
    assert_int_equal(fill(h), 701);
}

static void put(const char *path, const char *what)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(what, f);
    fclose(f);
}

static void garble(struct house *h, long from)
{
    FILE *f = fopen(h->index, "r+");
    assert_non_null(f);
    fseek(f, 0, SEEK_END);
    long end = ftell(f);
    fseek(f, from, SEEK_SET);
    for (long i = from; i < end; i++)
        fputc((int)(i * 37 % 251), f);
    fclose(f);
}

static void deleted(void **state)
{
    struct house h;
    begin(&h);
    struct audit_index *x = index_ok(&h, false);
    assert_true(audit_index_in_place(x));
    unlink(h.index);
    assert_false(audit_index_in_place(x));
    audit_index_close(x);
    assert_int_equal(fill(&h), 701);
    house_end(&h);
}

static void damaged(void **state)
{
    struct house h;
    char aside[160];
    begin(&h);
    garble(&h, 4096); /* pages */
    assert_int_equal(fill(&h), 701);
    garble(&h, 100); /* the list of tables */
    assert_int_equal(fill(&h), 701);
    shell("truncate -s 5000 %s", h.index);
    assert_int_equal(fill(&h), 701);
    shell("truncate -s 50 %s", h.index); /* less than a header: nobody can say whose it was */
    assert_int_equal(fill(&h), 701);
    snprintf(aside, sizeof aside, "%s.damaged", h.index);
    assert_int_equal(access(aside, F_OK), 0);
    put(h.index, "");
    assert_int_equal(fill(&h), 701);
    house_end(&h);
}

/* Damage that shows only while it is read: the search says so, and the next look mends it. */
static void damaged_while_open(void **state)
{
    struct house h;
    struct err e;
    begin(&h);
    struct audit_index *x = index_ok(&h, false);
    assert_int_equal(sqlite3_exec(x->db, "ALTER TABLE marks RENAME TO gone", NULL, NULL, NULL), SQLITE_OK);
    house_varied(&h, 701, 5);
    assert_ok(audit_index_catch_up(x, NULL, &e), e);
    assert_true(same(&h, x, "outcome=issued") > 0);
    audit_index_close(x);
    house_end(&h);
}

static void of_another_version(void **state)
{
    struct house h;
    begin(&h);
    sqlite3 *db;
    assert_int_equal(sqlite3_open(h.index, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "PRAGMA user_version=77; PRAGMA wal_checkpoint(TRUNCATE)", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    assert_int_equal(fill(&h), 701);
    house_end(&h);
}

static void of_another_log(void **state)
{
    struct house h, other;
    begin(&h);
    house_begin(&other);
    house_varied(&other, 1, 300);
    shell("mkdir -p %s/cache; cp %s %s", other.t.base, h.index, other.index);
    assert_int_equal(fill(&other), 301);
    house_end(&other);
    house_end(&h);
}

/* What the log says goes to a file, to be read. */
static void with_log(struct house *h, const char *word, const char *level)
{
    char path[160], line[4096];
    bool said = false;
    snprintf(path, sizeof path, "%s/stderr", h->t.base);
    int saved = dup(2), fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0600);
    dup2(fd, 2);
    uint64_t size = fill(h);
    dup2(saved, 2);
    close(fd);
    close(saved);
    FILE *f = fopen(path, "r");
    while (fgets(line, sizeof line, f))
        said = said || (strstr(line, word) && strstr(line, level));
    fclose(f);
    assert_true(said);
    assert_true(size > 0);
}

static void log_went_back(void **state)
{
    struct house h;
    house_begin(&h);
    house_varied(&h, 1, 300);
    shell("cp -a %s %s/older", h.t.dir, h.t.base);
    house_varied(&h, 301, 400);
    assert_int_equal(fill(&h), 701);
    shell("rm -rf %s; cp -a %s/older %s", h.t.dir, h.t.base, h.t.dir);
    log_setup("test", LOG_INFO, LOG_JSON);
    with_log(&h, "A log never shrinks", "error");
    house_end(&h);
}

/* Restored from before, and grown past where it was: the same size says nothing. */
static void log_was_rewritten(void **state)
{
    struct house h;
    house_begin(&h);
    house_varied(&h, 1, 300);
    shell("cp -a %s %s/older", h.t.dir, h.t.base);
    house_varied(&h, 301, 400);
    assert_int_equal(fill(&h), 701);
    shell("rm -rf %s; cp -a %s/older %s", h.t.dir, h.t.base, h.t.dir);
    house_varied(&h, 9000, 600);
    log_setup("test", LOG_INFO, LOG_JSON);
    with_log(&h, "A log never changes", "error");
    assert_int_equal(fill(&h), 901);
    house_end(&h);
}

/* Another program's database stays as it is; other content is set aside. */
static void not_ours(void **state)
{
    struct house h;
    struct audit_index *x;
    struct err e;
    sqlite3 *db;
    char aside[160];
    house_begin(&h);
    house_varied(&h, 1, 50);
    const struct audit_index_options o = {h.index, h.t.dir, &h.t.vkey, .read_only = false};
    shell("mkdir -p %s/cache", h.t.base);
    assert_int_equal(sqlite3_open(h.index, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "CREATE TABLE letters (a); INSERT INTO letters VALUES ('dear')", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    shell("cp %s %s.copy", h.index, h.index);
    assert_int_equal(audit_index_open(&x, &o, &e), -1);
    assert_rule(e, "audit-foreign");
    shell("cmp %s %s.copy", h.index, h.index);
    put(h.index, "a letter to my aunt, which is long enough to be taken for a header of a database, if one is careless");
    assert_int_equal(fill(&h), 51);
    snprintf(aside, sizeof aside, "grep -q aunt %s.damaged", h.index);
    assert_int_equal(system(aside), 0);
    house_end(&h);
}

static void read_only(void **state)
{
    struct house h;
    struct audit_index *x;
    struct err e;
    house_begin(&h);
    house_varied(&h, 1, 50);
    const struct audit_index_options o = {h.index, h.t.dir, &h.t.vkey, .read_only = true};
    assert_int_equal(audit_index_open(&x, &o, &e), -1);
    assert_rule(e, "audit-none");
    assert_int_equal(access(h.index, F_OK), -1); /* nothing was made */
    fill(&h);
    shell("ls %s/cache >%s/before", h.t.base, h.t.base);
    x = index_ok(&h, true);
    audit_index_close(x);
    shell("ls %s/cache | cmp - %s/before", h.t.base, h.t.base);
    garble(&h, 0);
    assert_int_equal(audit_index_open(&x, &o, &e), -1);
    assert_rule(e, "audit-stale");
    house_end(&h);
}

/* One that reads sees what another writes meanwhile. */
static void two_at_a_time(void **state)
{
    struct house h;
    struct err e;
    uint64_t size;
    begin(&h);
    struct audit_index *w = index_ok(&h, false), *r = index_ok(&h, true);
    house_varied(&h, 701, 100);
    assert_ok(audit_index_catch_up(w, NULL, &e), e);
    assert_ok(audit_index_size(r, &size, &e), e);
    assert_int_equal(size, 801);
    assert_true(same(&h, r, "outcome=issued") > 0);
    audit_index_close(r);
    audit_index_close(w);
    house_end(&h);
}

struct told {
    unsigned calls;
    uint64_t done, total;
};

static void told(void *arg, uint64_t done, uint64_t total)
{
    struct told *t = arg;
    t->calls++;
    t->done = done;
    t->total = total;
}

static void progress_and_stop(void **state)
{
    struct house h;
    struct told t = {0};
    struct err e;
    uint64_t size;
    atomic_bool stop = true;
    house_begin(&h);
    house_varied(&h, 1, 700);
    struct audit_index *x = index_ok(&h, false);
    struct audit_run run = {.progress = told, .arg = &t, .stop = &stop};
    assert_ok(audit_index_catch_up(x, &run, &e), e);
    assert_ok(audit_index_size(x, &size, &e), e);
    assert_int_equal(size, 0);
    stop = false;
    assert_ok(audit_index_catch_up(x, &run, &e), e);
    assert_int_equal(t.done, 701);
    assert_int_equal(t.total, 701);
    assert_int_equal(t.calls, 3);
    assert_ok(audit_index_catch_up(x, &run, &e), e); /* nothing is new */
    assert_int_equal(t.calls, 3);
    audit_index_close(x);
    house_end(&h);
}

/* A log whose files are damaged is the log's trouble: the index stays, and says what is wrong. */
static void damaged_log(void **state)
{
    struct house h;
    struct err e;
    begin(&h);
    struct audit_index *x = index_ok(&h, false);
    house_varied(&h, 701, 600);
    char path[160];
    snprintf(path, sizeof path, "%s/tile/entries/003", h.t.dir);
    assert_int_equal(truncate(path, 100), 0);
    assert_int_equal(audit_index_catch_up(x, NULL, &e), -1);
    assert_int_equal(e.code, ERR_CORRUPT);
    uint64_t size;
    assert_ok(audit_index_size(x, &size, &e), e);
    assert_int_equal(size, 701);
    audit_index_close(x);
    house_end(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(deleted), cmocka_unit_test(damaged), cmocka_unit_test(damaged_while_open),
        cmocka_unit_test(of_another_version), cmocka_unit_test(of_another_log), cmocka_unit_test(log_went_back),
        cmocka_unit_test(log_was_rewritten), cmocka_unit_test(not_ours), cmocka_unit_test(read_only),
        cmocka_unit_test(two_at_a_time), cmocka_unit_test(progress_and_stop), cmocka_unit_test(damaged_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
