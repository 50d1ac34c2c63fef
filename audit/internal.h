/* Private to audit/: the index file as its parts share it. */
#ifndef AUDIT_INTERNAL_H
#define AUDIT_INTERNAL_H
#include "audit/entry.h"
#include "audit/index.h"
#include <sqlite3.h>
#include <sys/stat.h>

#define AUDIT_BLOCK 16 /* entries that share a row of marks */
#define AUDIT_BUNDLE 256
/* Ancestors of a SPIFFE ID that get marks: below so many segments the entries say whether they match. */
#define AUDIT_DEPTH_MAX 16

/* --- words (words.c) ----------------------------------------------------------------------------- */
enum audit_what { /* part of the file format */
    AUDIT_W_KIND = 1,
    AUDIT_W_ID,
    AUDIT_W_BELOW, /* the entry's SPIFFE ID lies below this one */
    AUDIT_W_KEY,
    AUDIT_W_AGENT,
    AUDIT_W_ATTESTOR,
    AUDIT_W_ENTRY,
    AUDIT_W_RULE,
    AUDIT_W_SERIAL /* that a record names */
};
#define AUDIT_SALT 16
#define AUDIT_WORDS_MAX (AUDIT_DEPTH_MAX + 8)
int64_t audit_word(const uint8_t salt[AUDIT_SALT], enum audit_what what, struct bytes text);
/* The first AUDIT_DEPTH_MAX path segments of an ID that has more; else all of it. */
struct bytes audit_id_cut(struct bytes id);
size_t audit_words(int64_t words[AUDIT_WORDS_MAX], const uint8_t salt[AUDIT_SALT], const struct audit_entry *t);

/* --- marks (marks.c): what one transaction adds ---------------------------------------------------- */
struct audit_mark { /* a row */
    int64_t word;
    uint32_t block, mask;
};
#define AUDIT_MARKS_OPEN 1024
struct audit_marks {
    struct audit_mark *v; /* owned */
    size_t n, cap;
    struct audit_mark open[AUDIT_MARKS_OPEN]; /* mask 0: none */
};
int audit_marks_add(struct audit_marks *m, int64_t word, uint64_t index, struct err *e);
void audit_marks_clear(struct audit_marks *m);

/* --- the file (file.c) ----------------------------------------------------------------------------- */
#define AUDIT_ROWS 64 /* that Q_MARK_ADD_MANY adds */
enum audit_sql {
    Q_BEGIN, Q_COMMIT, Q_STATE, Q_OLDER, Q_NEWER, Q_CLOCK_FIRST, Q_TALLY_READ, /* reading */
    Q_MARK_ADD_MANY, Q_MARK_MERGE, Q_CLOCK_ADD, Q_TALLY_ADD, Q_STATE_SET,      /* writing */
    Q_COUNT
};
extern const char *const audit_sql[Q_COUNT];

struct audit_state { /* what is indexed; changes with each transaction */
    uint64_t size;
    uint8_t leaf[TLOG_HASH]; /* of entry size - 1 */
    int64_t high;            /* greatest time so far */
    int64_t lag;             /* most that an entry's time lies behind the greatest before it */
};
#define AUDIT_TALLIES 64
struct audit_tally { /* what: an audit_kind, `at` an hour; or TALLY_LIFETIME + k, `at` a day */
    int64_t what, at, n;
};
#define TALLY_LIFETIME 16
struct audit_index {
    struct audit_index_options o;
    sqlite3 *db;                  /* owned */
    sqlite3_stmt *sql[Q_COUNT];   /* owned */
    dev_t dev;                    /* of the file */
    ino_t ino;
    uint8_t salt[AUDIT_SALT];
    struct audit_state state;
    bool damaged;                 /* SQLite says so */
    bool cache_far;               /* the large page cache */
    bool compared;                /* the log's last indexed entry is the one indexed */
    struct stat seen;             /* the checkpoint when last caught up */
    struct audit_marks marks;
    struct audit_tally tallies[AUDIT_TALLIES];
    size_t tallies_count;
};
int audit_file_error(struct audit_index *x, const char *what, struct err *e);
/* Makes the file again, empty. */
int audit_file_renew(struct audit_index *x, struct err *e);
/* A statement that answers no row, with its bindings done; reset after. */
int audit_file_run(struct audit_index *x, enum audit_sql q, const char *what, struct err *e);
int audit_file_state(struct audit_index *x, struct err *e); /* reads x->state */
/* A page cache for an index that is far behind its log, or near. */
int audit_file_cache(struct audit_index *x, bool far, struct err *e);
void audit_file_rollback(struct audit_index *x);

/* 1: told to stop, and not done. */
int audit_marks_write(struct audit_index *x, const atomic_bool *stop, struct err *e);
/* --- the clock (clock.c) ---------------------------------------------------------------------------- */
/* Times hardly ever go back along a log. A row (high, first) says: when the bundle that begins at
 * `first` had been indexed, the greatest time so far was `high`. So entries before the first bundle
 * with high >= t are all earlier than t, and entries after the first bundle with high > t + lag are
 * all later than t. */
int audit_clock_range(struct audit_index *x, int64_t from, int64_t to, uint64_t *first, uint64_t *end,
                      struct err *e);
/* --- statistics (stats.c) ----------------------------------------------------------------------------- */
int audit_stats_count(struct audit_index *x, const struct audit_entry *t, struct err *e);
int audit_stats_write(struct audit_index *x, struct err *e);
#endif
