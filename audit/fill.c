/* Catching up: published bundles into marks, a transaction for some thousand entries. */
#include "audit/internal.h"
#include "base/clock.h"
#include "base/log.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCH_ENTRIES 262144 /* a transaction; fewer when little is new */
#define BATCH_MARKS (1u << 21)
#define KEEP_MARKS 16384
#define FAR_BEHIND 65536 /* entries: from here on the large page cache is worth its memory */

static bool stopped(const struct audit_run *run)
{
    return run->stop && atomic_load(run->stop);
}

/* Memory that only a long way to catch up needs. */
static void let_go(struct audit_index *x)
{
    if (x->marks.cap <= KEEP_MARKS)
        return;
    free(x->marks.v);
    x->marks.v = NULL;
    x->marks.cap = 0;
    sqlite3_db_release_memory(x->db);
}

/* --- one transaction ------------------------------------------------------------------------------------- */

/* next: the state after the entries so far; x->state stays what is committed. */
static int entry_add(struct audit_index *x, struct audit_state *next, struct bytes raw, struct err *e)
{
    static _Thread_local struct audit_entry t; /* large, and cleared only in part */
    int64_t words[AUDIT_WORDS_MAX];
    audit_entry_decode(&t, next->size, raw);
    size_t n = audit_words(words, x->salt, &t);
    for (size_t i = 0; i < n; i++)
        if (audit_marks_add(&x->marks, words[i], next->size, e) < 0)
            return -1;
    if (t.time > next->high)
        next->high = t.time;
    if (t.time >= 0 && next->high - t.time > next->lag)
        next->lag = next->high - t.time;
    next->size++;
    return audit_stats_count(x, &t, e);
}

static int clock_add(struct audit_index *x, const struct audit_state *next, struct err *e)
{
    sqlite3_bind_int64(x->sql[Q_CLOCK_ADD], 1, next->high);
    sqlite3_bind_int64(x->sql[Q_CLOCK_ADD], 2, (int64_t)((next->size - 1) / AUDIT_BUNDLE * AUDIT_BUNDLE));
    return audit_file_run(x, Q_CLOCK_ADD, "write", e);
}

/* What the bundle that holds entry next->size adds. */
static int bundle_add(struct audit_index *x, struct audit_state *next, struct tlog_reader *r, struct err *e)
{
    const struct bytes *entries;
    struct tlog_hash leaf;
    unsigned width;
    uint64_t n = next->size / AUDIT_BUNDLE;
    if (tlog_reader_bundle(r, n, &entries, &width, e) < 0)
        return -1;
    for (unsigned i = (unsigned)(next->size % AUDIT_BUNDLE); i < width; i++)
        if (entry_add(x, next, entries[i], e) < 0)
            return -1;
    merkle_leaf(&leaf, entries[width - 1].p, entries[width - 1].len);
    memcpy(next->leaf, leaf.b, sizeof next->leaf);
    return clock_add(x, next, e);
}

static int state_write(struct audit_index *x, const struct audit_state *next, struct err *e)
{
    sqlite3_stmt *q = x->sql[Q_STATE_SET];
    sqlite3_bind_int64(q, 1, (int64_t)next->size);
    sqlite3_bind_blob(q, 2, next->leaf, sizeof next->leaf, SQLITE_STATIC);
    sqlite3_bind_int64(q, 3, next->high);
    sqlite3_bind_int64(q, 4, next->lag);
    return audit_file_run(x, Q_STATE_SET, "write", e);
}

static int batch_fill(struct audit_index *x, struct audit_state *next, struct tlog_reader *r, const struct audit_run *run,
                      struct err *e)
{
    uint64_t size = tlog_reader_head(r)->size;
    uint64_t end = size - next->size > BATCH_ENTRIES ? next->size + BATCH_ENTRIES : size;
    while (next->size < end && x->marks.n < BATCH_MARKS && !stopped(run)) {
        if (bundle_add(x, next, r, e) < 0)
            return -1;
        if (run->progress)
            run->progress(run->arg, next->size, size);
    }
    return 0;
}

static int batch_add(struct audit_index *x, struct tlog_reader *r, const struct audit_run *run, struct err *e)
{
    struct audit_state next = x->state;
    int ret = -1;
    audit_marks_clear(&x->marks);
    x->tallies_count = 0;
    if (audit_file_cache(x, tlog_reader_head(r)->size - next.size > FAR_BEHIND, e) < 0 ||
        audit_file_run(x, Q_BEGIN, "begin", e) < 0)
        return -1;
    if (batch_fill(x, &next, r, run, e) == 0)
        ret = audit_marks_write(x, run->stop, e);
    if (ret == 0 && (audit_stats_write(x, e) < 0 || state_write(x, &next, e) < 0 ||
                     audit_file_run(x, Q_COMMIT, "write", e) < 0))
        ret = -1;
    if (ret == 0)
        x->state = next;
    else
        audit_file_rollback(x);
    return ret < 0 ? -1 : 0;
}

/* --- is it this log? ----------------------------------------------------------------------------------------- */

/* The file belongs to this log when the entry indexed last stands where it stood. */
static int compare(struct audit_index *x, struct tlog_reader *r, const char **differs, struct err *e)
{
    const struct bytes *entries;
    struct tlog_hash leaf;
    unsigned width;
    uint64_t size = x->state.size;
    *differs = NULL;
    if (size > tlog_reader_head(r)->size)
        *differs = "the log is shorter than it was: a copy of it from before was put in its place. A log never shrinks; "
                   "see whether certificates are missing from it";
    if (*differs || size == 0)
        return 0;
    if (tlog_reader_bundle(r, (size - 1) / AUDIT_BUNDLE, &entries, &width, e) < 0)
        return -1;
    struct bytes last = entries[(size - 1) % AUDIT_BUNDLE];
    merkle_leaf(&leaf, last.p, last.len);
    if (memcmp(leaf.b, x->state.leaf, sizeof leaf.b) != 0)
        *differs = "the log has another entry where one was seen before. A log never changes; run 'mayfly log verify', and "
                   "keep copies of it";
    return 0;
}

static int compare_or_renew(struct audit_index *x, struct tlog_reader *r, struct err *e)
{
    const char *differs;
    if (compare(x, r, &differs, e) < 0)
        return -1;
    if (differs) {
        char was[24], is[24];
        snprintf(was, sizeof was, "%llu", (unsigned long long)x->state.size);
        snprintf(is, sizeof is, "%llu", (unsigned long long)tlog_reader_head(r)->size);
        log_error("the log went back", "file", x->o.path, "indexed", was, "log", is, "why", differs, NULL);
        if (audit_file_renew(x, e) < 0)
            return -1;
    }
    x->compared = true;
    return 0;
}

/* The published checkpoint is replaced, never written into: the same file says the same. */
static bool is_news(struct audit_index *x, struct stat *st)
{
    char path[4096];
    const struct stat *s = &x->seen;
    snprintf(path, sizeof path, "%s/checkpoint", x->o.log_dir);
    if (stat(path, st) < 0)
        return true; /* the reader says what is amiss */
    return st->st_ino != s->st_ino || st->st_dev != s->st_dev || st->st_size != s->st_size ||
           st->st_mtim.tv_sec != s->st_mtim.tv_sec || st->st_mtim.tv_nsec != s->st_mtim.tv_nsec;
}

static int catch_up(struct audit_index *x, struct tlog_reader *r, const struct audit_run *run, struct err *e)
{
    if (compare_or_renew(x, r, e) < 0)
        return -1;
    while (x->state.size < tlog_reader_head(r)->size && !stopped(run)) {
        int64_t begun = clock_mono_us();
        if (batch_add(x, r, run, e) < 0)
            return -1;
        if (run->rest && x->state.size < tlog_reader_head(r)->size)
            run->rest(run->arg, clock_mono_us() - begun);
    }
    return 0;
}

static int renew_damaged(struct audit_index *x, const char *why, struct err *e)
{
    log_warn("the audit index is made again", "file", x->o.path, "why", why, NULL);
    return audit_file_renew(x, e);
}

int audit_index_catch_up(struct audit_index *x, const struct audit_run *run, struct err *e)
{
    static const struct audit_run alone;
    struct tlog_reader *r;
    struct stat st = {0};
    if (!run)
        run = &alone;
    if (x->damaged && renew_damaged(x, "it is damaged", e) < 0)
        return -1;
    if (x->compared && !is_news(x, &st))
        return 0;
    const struct tlog_place at = {.dir = x->o.log_dir, .archive = x->o.archive};
    if (tlog_reader_open_at(&r, &at, x->o.vkey, e) < 0)
        return -1;
    int ret = catch_up(x, r, run, e);
    if (ret < 0 && x->damaged)
        ret = renew_damaged(x, e->msg, e) < 0 ? -1 : catch_up(x, r, run, e);
    if (ret == 0 && x->state.size == tlog_reader_head(r)->size)
        x->seen = st;
    let_go(x);
    tlog_reader_close(r);
    return ret;
}
