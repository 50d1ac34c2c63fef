/* Search: entries that match a filter, page by page. The index says where to look; each entry is
 * read from the log, its proof verified under the reader's checkpoint, and held against the filter
 * again before it is handed out. So a wrong index can hide entries, but not make any up; who must
 * rule that out makes an index of his own from a log that he verified.
 * How: each filter is one word or two, each word's marks are rows in order, and the rows of all
 * filters are joined block by block, every one leaping to where the sparsest goes on.
 */
#ifndef AUDIT_SEARCH_H
#define AUDIT_SEARCH_H
#include "audit/filter.h"
#include "audit/index.h"

struct audit_found {
    const struct audit_entry *entry;
    const struct tlog_hash *path;
    size_t path_len;
};
/* 0: go on. 1: this was the page's last. -1: stop, with e. */
typedef int audit_found_cb(void *arg, const struct audit_found *f, struct err *e);
/* At most f->limit entries of those that both index and reader have. next gets the cursor of the
 * following page, "" when this was the last. within_ms: longer is given up (ERR_UNAVAILABLE,
 * "audit-slow"); 0: as long as it takes. */
int audit_search(struct audit_index *x, struct tlog_reader *r, const struct audit_filter *f, unsigned within_ms,
                 audit_found_cb *each, void *arg, char next[AUDIT_CURSOR_LEN + 1], struct err *e);
#endif
