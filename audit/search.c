#include "audit/search.h"
#include "audit/internal.h"
#include "base/clock.h"
#include <string.h>

#define GROUPS_MAX 9 /* filters that are words */
#define STEPS 4      /* rows read on before a statement leaps instead */
#define PROGRESS 1000 /* SQLite's steps between looks at the clock */
#define FULL ((1u << AUDIT_BLOCK) - 1)

/* The marks of one word from some block on, or the one entry that a serial names. */
struct term {
    sqlite3_stmt *q; /* owned; NULL: one entry */
    int64_t word;
    int64_t block;   /* of the row at hand */
    uint32_t mask;
    bool started, ended;
};
struct group { /* a filter: entries that have one of its words */
    struct term term[2];
    size_t n;
};
struct search {
    struct audit_index *x;
    struct tlog_reader *r;
    const struct audit_filter *f;
    struct group group[GROUPS_MAX];
    size_t groups;
    uint64_t first, end; /* entries to look at: [first, end) */
    int64_t deadline;    /* monotonic ms; 0: none */
    struct audit_entry entry;
    struct tlog_hash path[TLOG_LEVELS];
};

/* --- time ------------------------------------------------------------------------------------------------ */

static int is_late(void *arg)
{
    const struct search *s = arg;
    return s->deadline && clock_mono_ms() > s->deadline;
}

static int too_slow(struct err *e)
{
    return err_set(e, ERR_UNAVAILABLE, "audit-slow",
                   "the search took too long: filters that hardly ever meet, or times far apart. Ask with from and to nearer "
                   "each other, for fewer entries, or on the host itself: 'mayfly log search'");
}

/* --- words -------------------------------------------------------------------------------------------------- */

static int term_row(struct search *s, struct term *t, struct err *e)
{
    int rc = sqlite3_step(t->q);
    if (rc == SQLITE_ROW) {
        t->block = sqlite3_column_int64(t->q, 0);
        t->mask = (uint32_t)sqlite3_column_int64(t->q, 1) & FULL;
        return 0;
    }
    t->ended = true;
    if (rc == SQLITE_INTERRUPT)
        return too_slow(e);
    return rc == SQLITE_DONE ? 0 : audit_file_error(s->x, "read", e);
}

/* Whether block a comes before b in the search's order. */
static bool before(const struct search *s, int64_t a, int64_t b)
{
    return s->f->oldest ? a < b : a > b;
}

/* Goes on to the first row at `block` or after it. */
static int term_seek(struct search *s, struct term *t, int64_t block, struct err *e)
{
    if (!t->q) {
        t->ended = before(s, t->block, block);
        return 0;
    }
    for (int i = 0; t->started && !t->ended && before(s, t->block, block) && i < STEPS; i++)
        if (term_row(s, t, e) < 0)
            return -1;
    if (t->started && (t->ended || !before(s, t->block, block)))
        return 0;
    sqlite3_reset(t->q);
    sqlite3_bind_int64(t->q, 1, t->word);
    sqlite3_bind_int64(t->q, 2, block);
    t->started = true;
    return term_row(s, t, e);
}

static int word_add(struct search *s, struct group *g, enum audit_what what, struct bytes text, struct err *e)
{
    struct term *t = &g->term[g->n++];
    enum audit_sql q = s->f->oldest ? Q_NEWER : Q_OLDER;
    t->word = audit_word(s->x->salt, what, text);
    return sqlite3_prepare_v2(s->x->db, audit_sql[q], -1, &t->q, NULL) == SQLITE_OK ? 0 : audit_file_error(s->x, "search", e);
}

static struct bytes view(const char *s)
{
    return (struct bytes){(const uint8_t *)s, strlen(s)};
}

static int prefix_add(struct search *s, struct err *e)
{
    struct group *g = &s->group[s->groups++];
    struct bytes id = view(s->f->prefix);
    return word_add(s, g, AUDIT_W_ID, id, e) < 0 || word_add(s, g, AUDIT_W_BELOW, audit_id_cut(id), e) < 0 ? -1 : 0;
}

static int serial_add(struct search *s, struct err *e)
{
    struct group *g = &s->group[s->groups++];
    uint64_t index = s->f->serial_index;
    g->term[g->n++] = (struct term){.block = (int64_t)(index / AUDIT_BLOCK), .mask = 1u << index % AUDIT_BLOCK};
    return word_add(s, g, AUDIT_W_SERIAL, view(s->f->serial), e);
}

static int groups_make(struct search *s, struct err *e)
{
    const struct audit_filter *f = s->f;
    const uint8_t outcome = (uint8_t)f->outcome;
    const struct {
        enum audit_what what;
        struct bytes text;
    } words[] = {
        {AUDIT_W_ID, view(f->spiffe_id)}, {AUDIT_W_KEY, {f->key, f->by_key ? sizeof f->key : 0}},
        {AUDIT_W_AGENT, view(f->agent)},  {AUDIT_W_ATTESTOR, view(f->attestor)},
        {AUDIT_W_ENTRY, view(f->entry)},  {AUDIT_W_RULE, view(f->rule)},
        {AUDIT_W_KIND, {&outcome, f->outcome != AUDIT_OTHER}},
    };
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (words[i].text.len > 0 && word_add(s, &s->group[s->groups++], words[i].what, words[i].text, e) < 0)
            return -1;
    if (*f->prefix && prefix_add(s, e) < 0)
        return -1;
    return *f->serial ? serial_add(s, e) : 0;
}

static void groups_free(struct search *s)
{
    for (size_t i = 0; i < s->groups; i++)
        for (size_t k = 0; k < s->group[i].n; k++)
            sqlite3_finalize(s->group[i].term[k].q);
}

/* --- joining -------------------------------------------------------------------------------------------------- */

/* The group's first block from *block on, and which entries of it. *ended: there is none. */
static int group_seek(struct search *s, struct group *g, int64_t *block, uint32_t *mask, bool *ended, struct err *e)
{
    const struct term *first = NULL;
    for (size_t i = 0; i < g->n; i++) {
        struct term *t = &g->term[i];
        if (!t->ended && term_seek(s, t, *block, e) < 0)
            return -1;
        if (!t->ended && (!first || before(s, t->block, first->block)))
            first = t;
    }
    *ended = first == NULL;
    if (*ended)
        return 0;
    *block = first->block;
    *mask = 0;
    for (size_t i = 0; i < g->n; i++)
        if (!g->term[i].ended && g->term[i].block == *block)
            *mask |= g->term[i].mask;
    return 0;
}

/* The first block from *block on in which one entry may match all groups. *mask 0: there is none. */
static int block_next(struct search *s, int64_t *block, uint32_t *mask, struct err *e)
{
    int64_t last = s->f->oldest ? (int64_t)((s->end - 1) / AUDIT_BLOCK) : (int64_t)(s->first / AUDIT_BLOCK);
    *mask = 0;
    while (!before(s, last, *block)) {
        int64_t at = *block;
        *mask = FULL;
        for (size_t i = 0; i < s->groups && at == *block; i++) {
            uint32_t some;
            bool ended;
            if (group_seek(s, &s->group[i], &at, &some, &ended, e) < 0)
                return -1;
            *mask &= some;
            if (ended)
                *mask = 0;
            if (ended)
                return 0;
        }
        if (at == *block && *mask)
            return 0;
        *block = at != *block ? at : s->f->oldest ? at + 1 : at - 1;
        *mask = 0;
        if (is_late(s))
            return too_slow(e);
    }
    return 0;
}

/* --- the page -------------------------------------------------------------------------------------------------- */

struct page {
    audit_found_cb *each;
    void *arg;
    unsigned shown;
    uint64_t last;
    bool full, more;
};

static int entry_show(struct search *s, struct page *p, uint64_t index, struct err *e)
{
    struct bytes raw;
    struct audit_found found = {&s->entry, s->path, 0};
    if (tlog_reader_entry(s->r, index, &raw, s->path, &found.path_len, e) < 0)
        return -1;
    audit_entry_decode(&s->entry, index, raw);
    if (!audit_filter_matches(s->f, &s->entry))
        return 0;
    if (p->full) {
        p->more = true;
        return 0;
    }
    int rc = p->each(p->arg, &found, e);
    if (rc < 0)
        return -1;
    p->last = index;
    p->full = ++p->shown == s->f->limit || rc > 0;
    return 0;
}

static int block_show(struct search *s, struct page *p, int64_t block, uint32_t mask, struct err *e)
{
    for (unsigned i = 0; i < AUDIT_BLOCK && !p->more; i++) {
        unsigned bit = s->f->oldest ? i : AUDIT_BLOCK - 1 - i;
        uint64_t index = (uint64_t)block * AUDIT_BLOCK + bit;
        if (!(mask & 1u << bit) || index < s->first || index >= s->end)
            continue;
        if (is_late(s))
            return too_slow(e);
        if (entry_show(s, p, index, e) < 0)
            return -1;
    }
    return 0;
}

static int blocks_show(struct search *s, struct page *p, struct err *e)
{
    int64_t block = (int64_t)((s->f->oldest ? s->first : s->end - 1) / AUDIT_BLOCK);
    uint32_t mask;
    while (!p->more) {
        if (block_next(s, &block, &mask, e) < 0)
            return -1;
        if (!mask)
            return 0;
        if (block_show(s, p, block, mask, e) < 0)
            return -1;
        block += s->f->oldest ? 1 : -1;
    }
    return 0;
}

static int bounds(struct search *s, struct err *e)
{
    uint64_t published = tlog_reader_head(s->r)->size;
    if (audit_clock_range(s->x, s->f->from, s->f->to, &s->first, &s->end, e) < 0)
        return -1;
    if (s->end > published)
        s->end = published;
    if (s->f->resumed && s->f->oldest && s->first <= s->f->after)
        s->first = s->f->after + 1;
    if (s->f->resumed && !s->f->oldest && s->end > s->f->after)
        s->end = s->f->after;
    return 0;
}

int audit_search(struct audit_index *x, struct tlog_reader *r, const struct audit_filter *f, unsigned within_ms,
                 audit_found_cb *each, void *arg, char next[AUDIT_CURSOR_LEN + 1], struct err *e)
{
    static _Thread_local struct search s;
    struct page p = {.each = each, .arg = arg};
    memset(&s, 0, sizeof s);
    s.x = x;
    s.r = r;
    s.f = f;
    s.deadline = within_ms ? clock_mono_ms() + within_ms : 0;
    *next = 0;
    if (within_ms)
        sqlite3_progress_handler(x->db, PROGRESS, is_late, &s);
    /* One transaction, so that all statements see the same index. */
    int ret = audit_file_run(x, Q_BEGIN, "search", e);
    if (ret == 0)
        ret = audit_file_state(x, e) < 0 || bounds(&s, e) < 0 || groups_make(&s, e) < 0 ? -1 : 0;
    if (ret == 0 && s.first < s.end)
        ret = blocks_show(&s, &p, e);
    groups_free(&s);
    sqlite3_progress_handler(x->db, 0, NULL, NULL);
    audit_file_rollback(x);
    if (ret == 0 && p.more)
        audit_cursor_write(next, f, p.last);
    return ret;
}
