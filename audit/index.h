/* Index: which entries of a log have to do with a name, a key, an agent, … in a SQLite file of its
 * own. A cache that needs no trust: it says where to look, and whoever looks reads the entry from
 * the log, with its proof. It may be deleted at any time; it is made again from the log.
 *
 * What it holds, a log entry: one mark for each word that the entry has. A word is a thing to search
 * by (audit_word: "the agent spiffe://…"), kept as 48 bits of a salted hash, so that a long name
 * costs no more than a short one; entries 16 k to 16 k + 15 share a row per word, with a bit each.
 * Two words may fall together (about never), so a mark means "look here", not "it is so".
 * Besides: counts per hour and lifetimes per day for statistics, and a clock (see clock.c).
 *
 * Thrown away and made again, with a log line that says why: a file that is damaged, that another
 * version wrote, that belongs to another log, that knows an end which the log does not have
 * (logged as an error: a log never shrinks, and never changes). A file that is no index of ours is
 * never touched: a database of another program is refused, other content is moved to PATH.damaged.
 *
 * One thread at a time, of each handle. One process writes; any number read.
 */
#ifndef AUDIT_INDEX_H
#define AUDIT_INDEX_H
#include "tlog/reader.h"
#include <stdatomic.h>

struct audit_index;
struct audit_index_options { /* not owned; outlive the index */
    const char *path, *log_dir;
    const struct tlog_vkey *vkey;
    bool read_only; /* nothing is made, mended or thrown away */
    bool live;      /* read-only beside one that writes, in the same process */
    char *const *archive; /* where old tiles may be (tlog/place.h), or NULL */
};
/* Rules "audit-foreign" (ERR_CONFIG), "audit-disk", "audit-io". Read-only: ERR_NOT_FOUND ("audit-none")
 * when there is no such file, ERR_UNAVAILABLE ("audit-stale") when it would have to be made again. */
int audit_index_open(struct audit_index **out, const struct audit_index_options *o, struct err *e);
void audit_index_close(struct audit_index *x);
/* How many entries it knows; of a read-only one, now. */
int audit_index_size(struct audit_index *x, uint64_t *size, struct err *e);
/* False: somebody deleted, replaced or overwrote the file below us; open it again. */
bool audit_index_in_place(const struct audit_index *x);

struct audit_run { /* all may be NULL */
    void (*progress)(void *arg, uint64_t done, uint64_t total);
    void (*rest)(void *arg, int64_t worked_us); /* after a transaction, when there is more to do */
    void *arg;
    const atomic_bool *stop; /* ends soon after it is set, with what is done so far */
};
/* Reads what was published since. Cheap when that is nothing. Fails with what the log's files
 * fail with ("log-missing", "checkpoint-*", …), or "audit-disk", "audit-io". */
int audit_index_catch_up(struct audit_index *x, const struct audit_run *run, struct err *e);

/* --- statistics (stats.c) ------------------------------------------------------------------------ */
#define AUDIT_HOURS 48
#define AUDIT_DAYS 90
#define AUDIT_LIFETIMES 9
struct audit_count {
    int64_t start; /* Unix seconds */
    uint64_t issued, refused, revoked; /* a refusal counts as many as it stands for */
};
struct audit_stats { /* oldest first; the last hour and day are those of `now` */
    uint64_t indexed;
    struct audit_count hours[AUDIT_HOURS], days[AUDIT_DAYS];
    struct {
        uint32_t up_to; /* seconds, included; 0: longer than all before */
        uint64_t count;
    } lifetimes[AUDIT_LIFETIMES]; /* of what was issued in those days */
};
int audit_index_stats(struct audit_index *x, int64_t now, struct audit_stats *s, struct err *e);
#endif
