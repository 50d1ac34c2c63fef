/* From times to entries, without a mark for every second: see internal.h. */
#include "audit/internal.h"

/* First entry of the first bundle with high >= t; `none` when there is no such. */
static int clock_first(struct audit_index *x, int64_t t, uint64_t none, uint64_t *first, struct err *e)
{
    sqlite3_stmt *q = x->sql[Q_CLOCK_FIRST];
    sqlite3_bind_int64(q, 1, t);
    int rc = sqlite3_step(q);
    *first = rc == SQLITE_ROW ? (uint64_t)sqlite3_column_int64(q, 0) : none;
    int ret = rc == SQLITE_ROW || rc == SQLITE_DONE ? 0 : audit_file_error(x, "read", e);
    sqlite3_reset(q);
    return ret;
}

int audit_clock_range(struct audit_index *x, int64_t from, int64_t to, uint64_t *first, uint64_t *end, struct err *e)
{
    uint64_t size = x->state.size, last;
    *first = 0;
    *end = size;
    if (from > INT64_MIN && clock_first(x, from, size, first, e) < 0)
        return -1;
    if (to >= INT64_MAX - 1 - x->state.lag)
        return 0;
    if (clock_first(x, to + x->state.lag + 1, size, &last, e) < 0)
        return -1;
    if (last < size && last + AUDIT_BUNDLE < size)
        *end = last + AUDIT_BUNDLE;
    return 0;
}
