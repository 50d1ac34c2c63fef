/* What is found, written for programs: JSON, JSON lines, CSV (RFC 4180).
 *
 * json   {"checkpoint": signed note, "size": of its tree, "indexed": entries searched,
 *         "entries": [entry…], "next": cursor, absent on the last page}
 * jsonl  a line {"checkpoint", "size", "indexed"}, a line an entry, and where more follows a line
 *         {"next"}
 * csv    a header row and a row an entry, for spreadsheets: without the entry's bytes, the proof and
 *         the checkpoint. A cell that a spreadsheet would run gets a ' before it.
 *
 * An entry as JSON has "index", "outcome", "type", its fields as tlog/FORMAT.md has them (times in
 * Unix seconds, digests in hex, what is empty is left out), "entry" (its bytes, base64) and "proof"
 * (base64 hashes from the leaf's sibling up; RFC 9162 §2.1.3.2 under "checkpoint").
 */
#ifndef AUDIT_WRITE_H
#define AUDIT_WRITE_H
#include "audit/search.h"

struct audit_writer {
    struct buf *out;
    enum audit_format format;
    uint16_t log_number; /* for serial numbers; 0: unknown, so they are left out */
    uint64_t written;    /* entries */
};
void audit_write_begin(struct audit_writer *w, const struct tlog_reader *r, uint64_t indexed);
void audit_write_entry(struct audit_writer *w, const struct audit_found *f);
void audit_write_end(struct audit_writer *w, const char *next);
/* {"indexed", "hours": [{"start", "issued", "refused", "revoked"}…], "days": […],
 *  "lifetimes": [{"up_to": seconds or null, "count"}…]} */
void audit_write_stats(struct buf *out, const struct audit_stats *s);
#endif
