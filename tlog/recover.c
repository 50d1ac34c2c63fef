/* Start-up is recovery: one path, always taken.
 *
 *   1  head, its signature; the published checkpoint, its signature
 *   2  frontier from the full tiles below the journal
 *   3  journal replayed onto it; the roots must be those that head and checkpoint signed
 *   4  what is longer or shorter than it may be: refuse, or adopt (at most one batch)
 *   5  first writes: the journal's torn end cleared, a head signed over what was adopted
 *   6  the journal's entries written to tiles again, checkpoint published
 * Nothing is written before 5, so a refused folder is left as it was found.
 */
#include "base/log.h"
#include "tlog/internal.h"
#include "tlog/record.h"
#include <stdlib.h>
#include <string.h>

struct replay {
    struct tlog *t;
    struct tlog_checkpoint published;
    uint64_t base;                    /* leaves below are in full tiles */
    struct tlog_hash tile[TLOG_TILE]; /* the last of these */
    struct tlog_hash head_root, published_root;
};

typedef unsigned long long ull;

static struct tlog_place place_of(const struct tlog *t)
{
    return (struct tlog_place){.dir = t->dir, .archive = t->o.archive};
}

static void time_note(struct tlog *t, struct bytes entry)
{
    struct tlog_entry x;
    struct tlog_cert_fields f;
    struct tlog_record_info r;
    struct err ignored;
    if (tlog_entry_parse(&x, entry.p, entry.len, &ignored) < 0)
        return;
    if (x.type == TLOG_ENTRY_TBS_CERT && tlog_entry_cert_fields(&f, x.body, &ignored) == 0) {
        t->newest_time = f.not_before;
        t->newest_is_record = false;
    } else if (tlog_record_is(x.type) && tlog_record_parse(&r, x.type, x.body, &ignored) == 0) {
        t->newest_time = r.time;
        t->newest_is_record = true;
    }
}

static void roots_note(struct replay *r)
{
    const struct merkle_frontier *f = &r->t->frontier;
    if (f->size == r->t->head.at.size)
        merkle_frontier_root(f, &r->head_root);
    if (f->size == r->published.size)
        merkle_frontier_root(f, &r->published_root);
}

static int replay_one(void *arg, const struct tlog_record *rec, struct err *e)
{
    struct replay *r = arg;
    time_note(r->t, rec->entry);
    if (rec->index >= r->base) {
        merkle_frontier_push(&r->t->frontier, &rec->leaf);
        roots_note(r);
        return 0;
    }
    if (memcmp(&r->tile[rec->index % TLOG_TILE], &rec->leaf, TLOG_HASH) != 0)
        return err_set(
            e, ERR_CORRUPT, "log-bitflip",
            "entry %llu is not the same in the journal and in tile/0 number %llu: restore "
            "that tile from a copy of the log",
            (ull)rec->index, (ull)(rec->index / TLOG_TILE));
    return 0;
}

static int published_check(struct replay *r, struct err *e)
{
    struct tlog *t = r->t;
    struct buf note;
    buf_init(&note, TLOG_NOTE_MAX);
    int ret = tlog_published_read(t->dir, t->o.vkey, &note, &r->published, e);
    buf_free(&note);
    if (ret < 0 && e->code != ERR_CORRUPT && e->code != ERR_IO) {
        struct err why = *e;
        return err_set(e, ERR_CORRUPT, "log-bitflip",
                       "%.200s/checkpoint is damaged: restore it from a copy (an older one will "
                       "do). %.200s",
                       t->dir, why.msg);
    }
    if (ret < 0)
        return -1;
    if (r->published.size > t->head.at.size)
        return err_set(e, ERR_CORRUPT, "log-rollback",
                       "head says %llu entries, but the published checkpoint says %llu and is "
                       "newer: head was restored from an older copy. Restore the newest head; "
                       "never delete it",
                       (ull)t->head.at.size, (ull)r->published.size);
    return 0;
}

/* Step 2. A segment is let go only when full tiles cover it, so they reach at least the next
 * multiple of 256 from where the journal begins. */
static int base_load(struct replay *r, struct err *e)
{
    struct tlog *t = r->t;
    struct tlog_edge *edge = tlog_publisher_edge(t->publisher);
    uint64_t begin = t->journal.first[0];
    const struct tlog_place at = place_of(t);
    r->base = (begin + TLOG_TILE - 1) & ~(uint64_t)(TLOG_TILE - 1);
    if (r->base > t->head.at.size)
        return err_set(e, ERR_CORRUPT, "log-rollback",
                       "head says %llu entries, but the journal begins at %llu and is newer: head "
                       "was restored from an older copy. Restore the newest head; never delete it",
                       (ull)t->head.at.size, (ull)begin);
    if (tlog_edge_load(edge, &at, r->base, e) < 0)
        return -1;
    if (r->base > begin &&
        tlog_tile_read(r->tile, &at, 0, r->base / TLOG_TILE - 1, TLOG_TILE, e) < 0)
        return -1;
    tlog_edge_frontier(edge, &t->frontier);
    return 0;
}

static int shorter(const struct tlog *t, enum tlog_tail tail, struct err *e)
{
    ull have = t->journal.next, head = t->head.at.size;
    if (tail == TLOG_TAIL_SHORT)
        return err_set(e, ERR_CORRUPT, "log-truncated",
                       "the journal is cut off after %llu entries, but head, which is newer, says "
                       "%llu: certificates may exist for the others. Restore the journal from the "
                       "newest copy of the log; never delete head",
                       have, head);
    if (tail == TLOG_TAIL_TORN)
        return err_set(e, ERR_CORRUPT, "log-bitflip",
                       "the journal is damaged at entry %llu; head says %llu entries. Restore the "
                       "journal from the newest copy of the log; never delete head",
                       have, head);
    return err_set(
        e, ERR_CORRUPT, "log-rollback",
        "the journal ends after %llu entries, but head, which is newer, says %llu: the "
        "journal was restored from an older copy. Restore the newer one; never delete head",
        have, head);
}

/* Steps 3 and 4. */
static int journal_check(struct replay *r, struct err *e)
{
    struct tlog *t = r->t;
    enum tlog_tail tail = TLOG_TAIL_CLEAN;
    roots_note(r);
    if (tlog_journal_replay(&t->journal, replay_one, r, &tail, e) < 0)
        return -1;
    if (t->journal.next < t->head.at.size)
        return shorter(t, tail, e);
    if (t->journal.next - t->head.at.size > TLOG_BATCH_MAX)
        return err_set(e, ERR_CORRUPT, "log-rollback",
                       "head says %llu entries, but the journal, which is newer, has %llu, more "
                       "than one batch beyond: head was restored from an older copy. Restore the "
                       "newest head; never delete it",
                       (ull)t->head.at.size, (ull)t->journal.next);
    if (memcmp(&r->head_root, &t->head.at.root, TLOG_HASH) != 0)
        return err_set(
            e, ERR_CORRUPT, "log-bitflip",
            "tiles and journal have %llu entries as head says, but not the root that it "
            "signs: a tile below entry %llu is damaged. Run \"mayfly log verify\" to find "
            "it, and restore it from a copy of the log",
            (ull)t->head.at.size, (ull)r->base);
    if (r->published.size >= r->base &&
        memcmp(&r->published_root, &r->published.root, TLOG_HASH) != 0)
        return err_set(e, ERR_CORRUPT, "log-rollback",
                       "the published checkpoint of size %llu is signed but is of another history "
                       "than head and journal: two logs were run with one key. Keep both copies",
                       (ull)r->published.size);
    return 0;
}

static int tiles_check(const struct replay *r, struct err *e)
{
    struct tlog *t = r->t;
    struct tlog_hash walked, edge;
    const struct tlog_place at = place_of(t);
    struct tlog_walk_options o = {
        .at = &at, .size = r->base, .progress = t->o.progress, .arg = t->o.progress_arg};
    if (!t->o.full_check || r->base == 0)
        return 0;
    if (tlog_walk(&o, &walked, e) < 0) {
        if (strcmp(e->rule, "log-archive") != 0)
            return -1;
        log_err(LOG_WARN, "the log was not checked to its end", e); /* no start needs what was moved there */
        err_clear(e);
        return 0;
    }
    tlog_edge_root(tlog_publisher_edge(t->publisher), &edge);
    if (memcmp(&walked, &edge, sizeof edge) != 0)
        return err_set(e, ERR_CORRUPT, "log-bitflip",
                       "tiles changed while they were being checked");
    return 0;
}

/* Step 5. Entries that nobody was told of: under a head now, never signed. They and the head may
 * have reached only the page cache, so the journal is made durable before a head covers it, and the
 * head before a checkpoint is published. */
static int adopt(struct tlog *t, struct err *e)
{
    struct bytes note = tlog_head_note(&t->head);
    buf_reset(&t->note);
    buf_put(&t->note, note.p, note.len);
    if (tlog_journal_resume(&t->journal, e) < 0)
        return -1;
    struct tlog_checkpoint c = t->head.at;
    c.size = t->frontier.size;
    merkle_frontier_root(&t->frontier, &c.root);
    if (c.size == t->head.at.size)
        return tlog_head_settle(&t->head, e);
    if (tlog_note_sign(&t->o, &c, &t->note, e) < 0)
        return -1;
    return tlog_head_swap(&t->head, &c, t->note.p, t->note.len, e);
}

static int feed_one(void *arg, const struct tlog_record *rec, struct err *e)
{
    struct replay *r = arg;
    return rec->index < r->base ? 0 : tlog_publisher_feed(r->t->publisher, rec, e);
}

/* Step 6. */
static int republish(struct replay *r, struct err *e)
{
    struct tlog *t = r->t;
    enum tlog_tail tail;
    if (tlog_journal_replay(&t->journal, feed_one, r, &tail, e) < 0)
        return -1;
    tlog_journal_forget(&t->journal);
    return tlog_publisher_catch_up(t->publisher, r->base, t->head.at.size, t->note.p, t->note.len,
                                   e);
}

/* The journal always holds the newest entries, except right after a new segment was begun. */
static void time_from_tiles(const struct replay *r)
{
    const struct tlog_place at = place_of(r->t);
    struct bytes entries[TLOG_TILE];
    struct err ignored;
    struct buf b;
    if (r->t->newest_time != 0 || r->base == 0)
        return;
    buf_init(&b, TLOG_BUNDLE_MAX + 1);
    if (tlog_bundle_read(&b, entries, &at, r->base / TLOG_TILE - 1, TLOG_TILE, &ignored) == 0)
        for (unsigned i = 0; i < TLOG_TILE; i++)
            time_note(r->t, entries[i]);
    buf_free(&b);
}

int tlog_recover(struct tlog *t, struct err *e)
{
    struct replay *r = calloc(1, sizeof *r);
    if (!r)
        return err_set(e, ERR_INTERNAL, "log-memory", "out of memory");
    r->t = t;
    int ret = -1;
    if (tlog_head_open(&t->head, t->dir, t->o.vkey, e) == 0 && published_check(r, e) == 0 &&
        tlog_journal_list(&t->journal, t->dir, e) == 0 && base_load(r, e) == 0 &&
        journal_check(r, e) == 0 && tiles_check(r, e) == 0 && adopt(t, e) == 0 &&
        republish(r, e) == 0) {
        time_from_tiles(r);
        ret = 0;
    }
    free(r);
    return ret;
}
