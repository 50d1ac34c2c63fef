/* Marks of one transaction: collected row by row, put in the order of the table, and written many
 * to a statement, so that each page is touched once. */
#include "audit/internal.h"
#include <stdlib.h>
#include <string.h>

static int row_append(struct audit_marks *m, const struct audit_mark *row, struct err *e)
{
    if (m->n == m->cap) {
        size_t cap = m->cap ? 2 * m->cap : 4096;
        struct audit_mark *v = realloc(m->v, cap * sizeof *v);
        if (!v)
            return err_set(e, ERR_INTERNAL, "memory", "out of memory for the audit index");
        m->v = v;
        m->cap = cap;
    }
    m->v[m->n++] = *row;
    return 0;
}

/* Words that most entries have are kept open until their block ends: they fill a row at once. */
int audit_marks_add(struct audit_marks *m, int64_t word, uint64_t index, struct err *e)
{
    struct audit_mark *open = &m->open[(uint64_t)word % AUDIT_MARKS_OPEN];
    uint32_t block = (uint32_t)(index / AUDIT_BLOCK), bit = 1u << index % AUDIT_BLOCK;
    if (open->mask && open->word == word && open->block == block) {
        open->mask |= bit;
        return 0;
    }
    if (open->mask && row_append(m, open, e) < 0)
        return -1;
    *open = (struct audit_mark){word, block, bit};
    return 0;
}

static int close_open(struct audit_marks *m, struct err *e)
{
    for (size_t i = 0; i < AUDIT_MARKS_OPEN; i++) {
        if (m->open[i].mask && row_append(m, &m->open[i], e) < 0)
            return -1;
        m->open[i].mask = 0;
    }
    return 0;
}

void audit_marks_clear(struct audit_marks *m)
{
    m->n = 0;
    memset(m->open, 0, sizeof m->open);
}

static int by_row(const void *a, const void *b)
{
    const struct audit_mark *x = a, *y = b;
    if (x->word != y->word)
        return x->word < y->word ? -1 : 1;
    return x->block < y->block ? -1 : x->block > y->block;
}

/* A row may have been closed and opened again. */
static size_t merge_equal(struct audit_mark *v, size_t n)
{
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        if (kept > 0 && by_row(&v[kept - 1], &v[i]) == 0)
            v[kept - 1].mask |= v[i].mask;
        else
            v[kept++] = v[i];
    }
    return kept;
}

static int rows_write(struct audit_index *x, enum audit_sql q, const struct audit_mark *v, size_t n, struct err *e)
{
    sqlite3_stmt *s = x->sql[q];
    for (size_t i = 0; i < n; i++) {
        sqlite3_bind_int64(s, (int)(3 * i + 1), v[i].word);
        sqlite3_bind_int64(s, (int)(3 * i + 2), v[i].block);
        sqlite3_bind_int64(s, (int)(3 * i + 3), v[i].mask);
    }
    return audit_file_run(x, q, "write", e);
}

/* Only the block in which the last transaction ended can have rows already; they come first. */
int audit_marks_write(struct audit_index *x, const atomic_bool *stop, struct err *e)
{
    struct audit_marks *m = &x->marks;
    if (close_open(m, e) < 0)
        return -1;
    if (m->n > 0)
        qsort(m->v, m->n, sizeof *m->v, by_row);
    size_t n = merge_equal(m->v, m->n), fresh = 0;
    uint64_t old = x->state.size / AUDIT_BLOCK;
    for (size_t i = 0; i < n; i++) {
        if (m->v[i].block > old)
            m->v[fresh++] = m->v[i];
        else if (rows_write(x, Q_MARK_MERGE, &m->v[i], 1, e) < 0)
            return -1;
    }
    size_t i = 0;
    for (; i + AUDIT_ROWS <= fresh; i += AUDIT_ROWS) {
        if (stop && atomic_load(stop))
            return 1;
        if (rows_write(x, Q_MARK_ADD_MANY, &m->v[i], AUDIT_ROWS, e) < 0)
            return -1;
    }
    for (; i < fresh; i++)
        if (rows_write(x, Q_MARK_MERGE, &m->v[i], 1, e) < 0)
            return -1;
    audit_marks_clear(m);
    return 0;
}
