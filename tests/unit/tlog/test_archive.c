/* Old tiles moved away: what goes and what stays, nothing lost wherever it is killed, and readers that
 * do not notice. */
#include "tests/unit/tlog/support.h"
#include "tlog/archive.h"
#include "tlog/audit.h"
#include "tlog/reader.h"
#include <signal.h>

#define ENTRIES 120000 /* of 100 bytes: over a full tile of level 1, and three segments of the journal */

struct house {
    struct test_log t;
    char to[96], whole[96]; /* the archive; a copy of the log before anything was moved */
    char *list[2];
    struct tlog_place at;
};

static void begin(struct house *h, uint64_t n, size_t size)
{
    struct err e;
    test_begin(&h->t);
    snprintf(h->to, sizeof h->to, "%s/archive", h->t.base);
    snprintf(h->whole, sizeof h->whole, "%s/whole", h->t.base);
    h->list[0] = h->to;
    h->list[1] = NULL;
    h->at = (struct tlog_place){.dir = h->t.dir, .archive = h->list};
    assert_ok(tlog_create(&h->t.o, &e), e);
    struct tlog *log = open_ok(&h->t);
    append_many(log, n, TLOG_BATCH_MAX, size);
    tlog_close(log);
    shell("cp -a %s %s && mkdir %s", h->t.dir, h->whole, h->to);
}

static int archive(struct house *h, uint64_t before, bool dry_run, struct tlog_archive_report *r, struct err *e)
{
    const struct tlog_archive_options o = {
        .at = &h->at, .vkey = &h->t.vkey, .to = h->to, .before = before, .dry_run = dry_run};
    return tlog_archive(&o, r, e);
}

static void archive_refused(struct house *h, const char *rule)
{
    struct tlog_archive_report r;
    struct err e;
    assert_int_equal(archive(h, UINT64_MAX, false, &r, &e), -1);
    assert_rule(e, rule);
}

static int audit(struct house *h, const struct tlog_place *at, struct err *e)
{
    struct tlog_audit_report r;
    const struct tlog_audit_options o = {.at = at, .vkey = &h->t.vkey, .threads = 2};
    return tlog_audit(&o, &r, e);
}

/* Log and archive together are what the log was; nothing is in both. */
static void together(struct house *h)
{
    shell("cd %s && rm -rf ../sum && cp -a %s/tile ../sum && cp -a tile/. ../sum/ && cd .. && rm -f archive/tile/.tmp* && "
          "find whole/tile -type f | sed 's,^whole/tile,,' | sort >want && find sum -type f | sed 's,^sum,,' | sort >got && "
          "cmp want got && diff -r whole/tile sum >/dev/null",
          h->t.dir, h->to);
    shell("cd %s && (cd log && find tile -type f) | sort >in_log && (cd archive && find tile -type f) | sort >in_archive && "
          "test -z \"$(comm -12 in_log in_archive)\" && ! grep -q '[.]p/' in_archive && "
          "! grep -Eq 'tile/[1-9]' in_archive", h->t.base);
}

static void moved_and_read(void **state)
{
    struct house h;
    struct tlog_archive_report r, again;
    struct tlog_reader *reader;
    struct tlog_hash path[TLOG_LEVELS];
    struct bytes entry;
    struct buf want;
    struct err e;
    size_t n;
    begin(&h, ENTRIES, 100);
    assert_ok(archive(&h, UINT64_MAX, true, &r, &e), e);
    assert_true(r.bundles > 256 && r.tiles == 256 && r.hashes_below == 65536);
    shell("test -z \"$(ls -A %s)\"", h.to); /* a dry run writes nothing */
    assert_ok(archive(&h, UINT64_MAX, false, &again, &e), e);
    assert_true(again.bundles == r.bundles && again.tiles == r.tiles && again.bytes == r.bytes);
    together(&h);
    assert_ok(archive(&h, UINT64_MAX, false, &again, &e), e); /* nothing is left to move */
    assert_true(again.bundles == 0 && again.tiles == 0 && again.entries_below == r.entries_below);

    assert_ok(audit(&h, &h.at, &e), e);
    assert_int_equal(audit(&h, &(struct tlog_place){.dir = h.t.dir}, &e), -1);
    assert_rule(e, "log-missing");
    assert_ok(tlog_reader_open_at(&reader, &h.at, &h.t.vkey, &e), e);
    buf_init(&want, TLOG_ENTRY_MAX);
    for (uint64_t i = 1; i < ENTRIES; i += 4999) {
        entry_make(&want, i, 100);
        assert_ok(tlog_reader_entry(reader, i, &entry, path, &n, &e), e);
        assert_true(bytes_eq(entry, want.p, want.len));
    }
    tlog_reader_close(reader);

    /* The writer starts without the archive, and goes on; only a full check reads it. */
    struct tlog *log = open_ok(&h.t);
    append_many(log, 1000, TLOG_BATCH_MAX, 100);
    tlog_close(log);
    h.t.o.full_check = true;
    open_refused(&h.t, "log-missing");
    h.t.o.archive = h.list;
    log = open_ok(&h.t);
    tlog_close(log);
    assert_ok(audit(&h, &h.at, &e), e);

    /* An archive that is not there is told from one that lacks a file. */
    shell("mv %s %s.away", h.to, h.to);
    assert_int_equal(audit(&h, &h.at, &e), -1);
    assert_rule(e, "log-archive");
    assert_int_equal(e.code, ERR_UNAVAILABLE);
    log = open_ok(&h.t); /* with a full check: of what is there */
    tlog_close(log);
    shell("mkdir %s", h.to); /* as an unmounted disk leaves it */
    assert_int_equal(audit(&h, &h.at, &e), -1);
    assert_rule(e, "log-archive");
    log = open_ok(&h.t);
    tlog_close(log);
    shell("rmdir %s", h.to);
    shell("mv %s.away %s && rm %s/tile/entries/007", h.to, h.to, h.to);
    assert_int_equal(audit(&h, &h.at, &e), -1);
    assert_rule(e, "log-missing");
    assert_int_equal(e.code, ERR_CORRUPT);
    archive_refused(&h, "log-missing");
    buf_free(&want);
    test_end(&h.t);
}

static void up_to(void **state)
{
    struct house h;
    struct tlog_archive_report r;
    struct err e;
    begin(&h, 9000, 2000);
    assert_ok(archive(&h, 1500, false, &r, &e), e);
    assert_true(r.bundles == 5 && r.tiles == 0 && r.entries_below == 1280);
    together(&h);
    assert_true(exists(&h.t, "tile/entries/005") && !exists(&h.t, "tile/entries/004") && exists(&h.t, "tile/0/004"));
    assert_ok(archive(&h, UINT64_MAX, false, &r, &e), e);
    /* What the journal still holds stays: a start writes and syncs it again. */
    uint64_t first = 0;
    shell("ls %s/journal | sort | head -1 | sed 's/^0*//' >%s/first", h.t.dir, h.t.base);
    char path[128];
    snprintf(path, sizeof path, "%s/first", h.t.base);
    struct buf text;
    buf_init(&text, 64);
    assert_ok(file_read(&text, path, 64, &e), e);
    first = strtoull(buf_cstr(&text), NULL, 10);
    assert_true(first > 2000 && r.entries_below == first / 256 * 256);
    together(&h);
    buf_free(&text);
    test_end(&h.t);
}

static void not_ours(void **state)
{
    struct house h, other;
    struct tlog_archive_report r;
    struct err e;
    begin(&h, 9000, 2000);
    shell("echo mine >%s/file", h.to);
    archive_refused(&h, "archive-foreign");
    shell("rm %s/file", h.to);
    assert_ok(archive(&h, UINT64_MAX, false, &r, &e), e);
    begin(&other, 9000, 2000); /* of another key */
    memcpy(other.to, h.to, sizeof other.to);
    archive_refused(&other, "archive-foreign");
    test_end(&other.t);
    shell("rm -r %s/journal", h.t.dir); /* a mirror */
    archive_refused(&h, "log-missing");
    test_end(&h.t);
}

/* Nothing damaged is moved, and a damaged copy does not count as one. */
static void damage(void **state)
{
    struct house h;
    struct tlog_archive_report r;
    struct err e;
    begin(&h, 9000, 2000);
    flip(h.t.dir, "tile/entries/003", 9000); /* its fifth entry */
    archive_refused(&h, "log-bitflip");
    assert_true(exists(&h.t, "tile/entries/003"));
    shell("cp %s/tile/entries/003 %s/tile/entries/", h.whole, h.t.dir);
    flip(h.t.dir, "tile/0/004", 1000);
    archive_refused(&h, "inclusion");
    assert_true(exists(&h.t, "tile/entries/004"));
    shell("cp %s/tile/0/004 %s/tile/0/", h.whole, h.t.dir);
    shell("mkdir -p %s/tile/entries && head -c 5000 %s/tile/entries/002 >%s/tile/entries/002", h.to, h.whole, h.to);
    assert_ok(archive(&h, UINT64_MAX, false, &r, &e), e);
    together(&h);
    assert_ok(audit(&h, &h.at, &e), e);
    test_end(&h.t);
}

#ifdef MAYFLY_FAULTS
static void killed(void **state)
{
    static const char *const points[] = {"archive-copied", "archive-synced", "archive-removing"};
    struct house h;
    struct tlog_archive_report r;
    struct err e;
    begin(&h, 9000, 2000);
    for (unsigned i = 0; i < 9; i++) {
        char fault[160];
        int status;
        snprintf(fault, sizeof fault, "%s/fault", h.t.base);
        shell("echo '%s kill %u' >%s", points[i % 3], i % 3 == 1 ? 0 : i / 3, fault);
        pid_t pid = fork();
        if (pid == 0) {
            setenv("MAYFLY_FAULT_FILE", fault, 1);
            _exit(archive(&h, 1280 + 512 * i, false, &r, &e) < 0 ? 3 : 4);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        assert_ok(audit(&h, &h.at, &e), e);
    }
    assert_ok(archive(&h, UINT64_MAX, false, &r, &e), e);
    together(&h);
    assert_ok(audit(&h, &h.at, &e), e);
    test_end(&h.t);
}
#else
static void killed(void **state)
{
    skip();
}
#endif

/* --- a log elsewhere ------------------------------------------------------------------------------ */

struct elsewhere {
    char dir[96];
    unsigned asked;
    bool away;
};

static int fetch(void *arg, const char *name, size_t max, struct buf *b, struct err *e)
{
    struct elsewhere *x = arg;
    char path[256];
    bool immutable;
    assert_ok(tlog_path_resolve(path, sizeof path, x->dir, name, &immutable, e), *e);
    x->asked++;
    return x->away ? err_set(e, ERR_UNAVAILABLE, "test", "away") : file_read(b, path, max, e);
}

static void fetched(void **state)
{
    struct house h;
    struct elsewhere x = {.asked = 0};
    struct tlog_audit_report r;
    struct buf head, kept;
    struct err e;
    char path[160], cache[96];
    begin(&h, 3000, 100);
    memcpy(x.dir, h.t.dir, sizeof x.dir);
    snprintf(cache, sizeof cache, "%s/cache", h.t.base);
    snprintf(path, sizeof path, "%s/checkpoint", h.t.dir);
    buf_init(&head, TLOG_NOTE_MAX);
    buf_init(&kept, TLOG_NOTE_MAX);
    assert_ok(file_read(&head, path, TLOG_NOTE_MAX, &e), e);
    struct tlog_place at = {.dir = cache, .fetch = fetch, .arg = &x, .size = 3001};
    assert_ok(tlog_place_edge(&at, 0, &e), e);
    struct tlog *log = open_ok(&h.t); /* goes on: the partial tiles that were fetched are gone there */
    append_many(log, 2000, TLOG_BATCH_MAX, 100);
    tlog_close(log);
    struct tlog_audit_options o = {.at = &at, .vkey = &h.t.vkey, .head = view(&head)};
    assert_ok(tlog_audit(&o, &r, &e), e);
    assert_int_equal(r.checked, 3001);
    at.size = 3002; /* never published */
    assert_int_equal(tlog_place_edge(&at, 3001, &e), -1);
    assert_rule(e, "log-moved");

    buf_put(&kept, head.p, head.len); /* only what is new is asked for */
    assert_ok(file_read(&head, path, TLOG_NOTE_MAX, &e), e);
    at.size = 5001;
    assert_ok(tlog_place_edge(&at, 3001, &e), e);
    x.asked = 0;
    o.from = view(&kept);
    o.head = view(&head);
    assert_ok(tlog_audit(&o, &r, &e), e);
    assert_int_equal(r.checked, 2000);
    assert_true(x.asked > 0 && x.asked <= 2 * 9); /* bundles 11 to 19; tiles 0 to 10 were kept */
    tlog_place_forget(&at, 5001);
    shell("test -z \"$(find %s -type f)\"", cache);
    x.away = true;
    assert_int_equal(tlog_audit(&o, &r, &e), -1);
    assert_int_equal(e.code, ERR_UNAVAILABLE);
    buf_free(&head);
    buf_free(&kept);
    test_end(&h.t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(moved_and_read), cmocka_unit_test(up_to), cmocka_unit_test(not_ours),
                                       cmocka_unit_test(damage), cmocka_unit_test(killed), cmocka_unit_test(fetched)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
