/* Counts over time, kept while indexing. */
#include "audit/internal.h"
#include <string.h>

#define HOUR 3600
#define DAY 86400

/* Longest lifetime of each class, in seconds; the last has no end. */
static const uint32_t classes[AUDIT_LIFETIMES] = {60, 300, 600, 900, 1800, 3600, 14400, 86400, 0};

static size_t class_of(int64_t seconds)
{
    size_t k = 0;
    while (k < AUDIT_LIFETIMES - 1 && seconds > classes[k])
        k++;
    return k;
}

static int64_t floor_to(int64_t t, int64_t unit)
{
    return t - t % unit;
}

static int count(struct audit_index *x, int64_t what, int64_t at, int64_t n, struct err *e)
{
    for (size_t i = 0; i < x->tallies_count; i++) {
        struct audit_tally *t = &x->tallies[i];
        if (t->what == what && t->at == at) {
            t->n += n;
            return 0;
        }
    }
    if (x->tallies_count == AUDIT_TALLIES && audit_stats_write(x, e) < 0)
        return -1;
    x->tallies[x->tallies_count++] = (struct audit_tally){what, at, n};
    return 0;
}

int audit_stats_count(struct audit_index *x, const struct audit_entry *t, struct err *e)
{
    if (t->time < 0)
        return 0;
    int64_t n = t->kind == AUDIT_REFUSED ? t->record.count : 1;
    if (count(x, t->kind, floor_to(t->time, HOUR), n, e) < 0)
        return -1;
    if (t->kind != AUDIT_ISSUED)
        return 0;
    return count(x, TALLY_LIFETIME + (int64_t)class_of(t->not_after - t->time), floor_to(t->time, DAY), 1, e);
}

int audit_stats_write(struct audit_index *x, struct err *e)
{
    for (size_t i = 0; i < x->tallies_count; i++) {
        const struct audit_tally *t = &x->tallies[i];
        sqlite3_bind_int64(x->sql[Q_TALLY_ADD], 1, t->what);
        sqlite3_bind_int64(x->sql[Q_TALLY_ADD], 2, t->at);
        sqlite3_bind_int64(x->sql[Q_TALLY_ADD], 3, t->n);
        if (audit_file_run(x, Q_TALLY_ADD, "write", e) < 0)
            return -1;
    }
    x->tallies_count = 0;
    return 0;
}

/* --- reading ----------------------------------------------------------------------------------------- */

typedef void tally_cb(struct audit_stats *s, int64_t what, int64_t at, uint64_t n);

static int tallies_each(struct audit_index *x, int64_t what, int64_t from, tally_cb *each, struct audit_stats *s,
                        struct err *e)
{
    sqlite3_stmt *q = x->sql[Q_TALLY_READ];
    int rc;
    sqlite3_bind_int64(q, 1, what);
    sqlite3_bind_int64(q, 2, from);
    while ((rc = sqlite3_step(q)) == SQLITE_ROW)
        each(s, what, sqlite3_column_int64(q, 0), (uint64_t)sqlite3_column_int64(q, 1));
    int ret = rc == SQLITE_DONE ? 0 : audit_file_error(x, "read", e);
    sqlite3_reset(q);
    return ret;
}

static void add_to(struct audit_count *c, size_t slots, int64_t unit, int64_t what, int64_t at, uint64_t n)
{
    int64_t i = (at - c[0].start) / unit;
    if (at < c[0].start || i >= (int64_t)slots)
        return;
    uint64_t *which[] = {[AUDIT_ISSUED] = &c[i].issued, [AUDIT_REFUSED] = &c[i].refused, [AUDIT_REVOKED] = &c[i].revoked};
    *which[what] += n;
}

static void add_count(struct audit_stats *s, int64_t what, int64_t at, uint64_t n)
{
    add_to(s->hours, AUDIT_HOURS, HOUR, what, at, n);
    add_to(s->days, AUDIT_DAYS, DAY, what, at, n);
}

static void add_lifetime(struct audit_stats *s, int64_t what, int64_t at, uint64_t n)
{
    s->lifetimes[what - TALLY_LIFETIME].count += n;
}

int audit_index_stats(struct audit_index *x, int64_t now, struct audit_stats *s, struct err *e)
{
    memset(s, 0, sizeof *s);
    for (int i = 0; i < AUDIT_HOURS; i++)
        s->hours[i].start = floor_to(now, HOUR) - (AUDIT_HOURS - 1 - i) * HOUR;
    for (int i = 0; i < AUDIT_DAYS; i++)
        s->days[i].start = floor_to(now, DAY) - (int64_t)(AUDIT_DAYS - 1 - i) * DAY;
    for (int i = 0; i < AUDIT_LIFETIMES; i++)
        s->lifetimes[i].up_to = classes[i];
    if (audit_index_size(x, &s->indexed, e) < 0)
        return -1;
    for (int64_t kind = AUDIT_ISSUED; kind <= AUDIT_REVOKED; kind++)
        if (tallies_each(x, kind, s->days[0].start, add_count, s, e) < 0)
            return -1;
    for (int64_t k = 0; k < AUDIT_LIFETIMES; k++)
        if (tallies_each(x, TALLY_LIFETIME + k, s->days[0].start, add_lifetime, s, e) < 0)
            return -1;
    return 0;
}
