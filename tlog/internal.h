/* Private to tlog/: what its files share.
 *
 * Edge: the unfinished right-hand side of the tiled tree, one tile of at most 255 hashes a level.
 * Feeding it leaves yields every tile once, when it is full: the publisher writes them, the
 * verifier compares them.
 */
#ifndef TLOG_INTERNAL_H
#define TLOG_INTERNAL_H
#include "tlog/log.h"
#include "tlog/place.h"
#include "tlog/proof.h"
#include "tlog/record.h"
#include <limits.h>
#include <pthread.h>
#include <sys/types.h>

#define TLOG_TILE 256      /* hashes in a full tile, entries in a full bundle */
#define TLOG_TILE_LEVELS 8 /* 256^8 leaves are more than 2^64 - 1 */
#define TLOG_DIR_MAX 3072  /* of the log's folder; a tile path adds less than 100 bytes */
#define TLOG_PATH_CAP 4096
#define TLOG_BUNDLE_MAX (TLOG_TILE * (2 + TLOG_ENTRY_MAX))
#define TLOG_ENTRIES (-1) /* as a tile's level: the entry bundles */

/* hash.c: SHA-256 that neither fails nor allocates. */
void tlog_sha256(uint8_t out[TLOG_HASH], const void *p, size_t len);

/* checkpoint.c: decimal without sign or leading zeros, as the C2SP formats demand. */
bool tlog_decimal(struct bytes s, uint64_t *v);

/* edge.c */
struct tlog_edge {
    uint64_t size;
    struct tlog_hash tile[TLOG_TILE_LEVELS][TLOG_TILE];
};
/* A full tile; -1 stops the walk. */
typedef int tlog_tile_cb(void *arg, unsigned level, uint64_t n, const struct tlog_hash *tile,
                         struct err *e);
int tlog_edge_push(struct tlog_edge *g, const struct tlog_hash *leaf, tlog_tile_cb *full, void *arg,
                   struct err *e);
/* 256 leaves at once, by the root of their tile, which `full` is not told of. g->size is a multiple
 * of 256. */
int tlog_edge_push_tile(struct tlog_edge *g, const struct tlog_hash *root, tlog_tile_cb *full,
                        void *arg, struct err *e);
unsigned tlog_edge_width(uint64_t size, unsigned level); /* floor(size / 256^level) mod 256 */
uint64_t tlog_edge_index(uint64_t size, unsigned level); /* of the level's rightmost tile */
/* Root of the subtree whose children are n nodes (the last may be a smaller subtree). Overwrites.
 */
void tlog_fold(struct tlog_hash *nodes, size_t n, struct tlog_hash *root);
void tlog_tile_root(const struct tlog_hash *tile, size_t width, struct tlog_hash *root);
void tlog_edge_root(const struct tlog_edge *g, struct tlog_hash *root);
void tlog_edge_frontier(const struct tlog_edge *g, struct merkle_frontier *f);
/* The edge at `size` (a multiple of 256) from the full tiles there. */
int tlog_edge_load(struct tlog_edge *g, const struct tlog_place *at, uint64_t size, struct err *e);

/* tile.c: paths and files. level TLOG_ENTRIES or 0..7; width 256: the full tile. */
int tlog_tile_path(char dst[TLOG_PATH_CAP], const char *dir, int level, uint64_t n, unsigned width,
                   struct err *e);
/* Reads the tile of that width, or the first `width` of a wider one that has replaced it. Rules
 * "log-missing", "log-bitflip"; "log-archive" (ERR_UNAVAILABLE) when it may have been moved to an archive
 * that is not there. */
int tlog_tile_read(struct tlog_hash *tile, const struct tlog_place *at, unsigned level, uint64_t n,
                   unsigned width, struct err *e);
/* Entry bundle: the first `width` entries as views into b. Nothing may be left over. */
int tlog_bundle_read(struct buf *b, struct bytes *entries, const struct tlog_place *at, uint64_t n,
                     unsigned width, struct err *e);
/* The same from memory. *why: what is wrong with it. */
int tlog_bundle_parse(struct bytes p, struct bytes *entries, unsigned width, const char **why);
int tlog_tile_write(const char *dir, int level, uint64_t n, unsigned width, const void *p,
                    size_t len, struct err *e);
/* Removes partial tiles of (level, n) but those of width keep1 and keep2; best effort. */
void tlog_tile_prune(const char *dir, int level, uint64_t n, unsigned keep1, unsigned keep2);
/* Removes what a killed process left half-written beside the full tiles [from, to] of a level. */
void tlog_tile_sweep(const char *dir, int level, uint64_t from, uint64_t to);
/* fsyncs full tiles and bundles of the leaves [from, to), both multiples of 256, and their folders.
 */
int tlog_tile_sync(const char *dir, uint64_t from, uint64_t to, struct err *e);

/* journal.c */
#define TLOG_SEGMENT_SIZE ((size_t)4 << 20)
#define TLOG_SEGMENTS_MAX 256     /* an append begins no further one */
#define TLOG_SEGMENTS_LISTED 1024 /* start-up takes more: what is there must be read */
struct tlog_journal {
    char dir[TLOG_PATH_CAP];
    int fd;                            /* last segment; owned */
    uint64_t next;                     /* index of the next record */
    uint64_t pos, size;                /* of the last segment: first free byte, file size */
    struct buf batch;                  /* one batch's records */
    struct buf last;                   /* the last segment's bytes, as a replay read them */
    uint64_t first[TLOG_SEGMENTS_LISTED]; /* first index of each segment, ascending */
    size_t segments;
};
struct tlog_record {
    uint64_t index;
    struct bytes entry;
    struct tlog_hash leaf;
};
typedef int tlog_record_cb(void *arg, const struct tlog_record *r, struct err *e);
enum tlog_tail { TLOG_TAIL_CLEAN, TLOG_TAIL_TORN, TLOG_TAIL_SHORT };
/* Parses one segment's bytes: records from `first` on, until the zeros or the first bad record.
 * *next gets the index after the last good record, *pos its end. Fails only when the segment's
 * header is bad or cb fails. */
int tlog_segment_parse(const uint8_t *p, size_t len, uint64_t first, tlog_record_cb *cb, void *arg,
                       uint64_t *next, size_t *pos, enum tlog_tail *tail, struct err *e);
/* A segment's file name: its first index. */
bool tlog_segment_name(const char *s, uint64_t *first);
void tlog_journal_init(struct tlog_journal *j);
int tlog_journal_create(struct tlog_journal *j, const char *log_dir, struct err *e);
/* Lists the segments; reads nothing yet. */
int tlog_journal_list(struct tlog_journal *j, const char *log_dir, struct err *e);
/* Every record in order; sets next, pos, size and *tail (of the last segment). Keeps the last
 * segment's bytes until tlog_journal_forget. */
int tlog_journal_replay(struct tlog_journal *j, tlog_record_cb *cb, void *arg, enum tlog_tail *tail,
                        struct err *e);
void tlog_journal_forget(struct tlog_journal *j);
/* After a replay: opens for appending, makes what was replayed durable, and clears what a torn
 * write left behind the last record. */
int tlog_journal_resume(struct tlog_journal *j, struct err *e);
/* Writes the records of one batch; durable only after tlog_journal_sync. may_roll: there may be
 * one segment more. *rolled: a new one was begun, whose first index the caller enters with
 * tlog_journal_note under its lock. */
int tlog_journal_write(struct tlog_journal *j, const struct bytes *entries,
                       const struct tlog_hash *leaves, size_t n, bool may_roll, bool *rolled,
                       struct err *e);
int tlog_journal_sync(struct tlog_journal *j, struct err *e);
int tlog_journal_note(struct tlog_journal *j, uint64_t first, struct err *e);
/* Removes the segment that begins at `first`; one that is gone already is fine. */
int tlog_journal_unlink(const struct tlog_journal *j, uint64_t first, struct err *e);
void tlog_journal_close(struct tlog_journal *j);

/* head.c: the compare-and-swap. */
#define TLOG_HEAD_SLOT 4096
struct tlog_head {
    char path[TLOG_PATH_CAP];
    int fd;                           /* owned */
    uint8_t disk[2 * TLOG_HEAD_SLOT]; /* what this process last read or wrote */
    unsigned newest;                  /* slot */
    uint64_t seq;
    struct tlog_checkpoint at;
};
int tlog_head_create(const char *dir, const void *note, size_t len, struct err *e);
int tlog_head_open(struct tlog_head *h, const char *dir, const struct tlog_vkey *k, struct err *e);
int tlog_head_swap(struct tlog_head *h, const struct tlog_checkpoint *c, const void *note,
                   size_t len, struct err *e);
/* Writes the newest slot again, durably: what was read may have been the page cache alone. */
int tlog_head_settle(const struct tlog_head *h, struct err *e);
/* The newest slot's signed note. */
struct bytes tlog_head_note(const struct tlog_head *h);
void tlog_head_close(struct tlog_head *h);

/* walk.c: one pass over published files: every bundle against its leaf hashes, every tile against the
 * ones below. Threads read and hash bundles, each its own; what must see entries in order follows,
 * one bundle after the other. */
struct tlog_walk_options {
    const struct tlog_place *at;
    uint64_t size;
    bool edge_too; /* also the partial tiles above level 0 */
    void (*progress)(void *arg, uint64_t done, uint64_t total);
    void *arg; /* of all callbacks */

    const struct tlog_checkpoint *from; /* known already: its root is compared, and bundles that hold
                                           only its entries are not read; NULL: from the first on */
    unsigned threads;                   /* 0: the calling one alone */
    /* A bundle's n entries, whose hashes agree; on any thread. NULL: each entry's form is checked.
     * notes: `notes` bytes of the thread's own, to be seen by take. */
    int (*read)(void *arg, void *notes, uint64_t first, const struct bytes *entries, unsigned n,
                struct err *e);
    size_t notes;
    /* The same bundle, when all before it have been taken; never two at a time. May be NULL. */
    int (*take)(void *arg, const void *notes, uint64_t first, const struct bytes *entries,
                unsigned n, struct err *e);
};
int tlog_walk(const struct tlog_walk_options *o, struct tlog_hash *root, struct err *e);
/* And the root is the one that c, of that size, signs. */
int tlog_walk_signed(const struct tlog_walk_options *o, const struct tlog_checkpoint *c,
                     struct err *e);
/* An entry as far as its type is known: envelope, extensions, body. Rules "entry-format",
 * "cert-format", "record-format". */
struct tlog_entry_parts {
    struct tlog_entry t;
    struct tlog_ext_info x;
    union {
        struct tlog_cert_fields cert;
        struct tlog_record_info record;
    };
};
int tlog_entry_open(struct tlog_entry_parts *p, uint64_t index, struct bytes entry, struct err *e);
/* The published checkpoint, appended to note. */
int tlog_published_read(const char *dir, const struct tlog_vkey *k, struct buf *note,
                        struct tlog_checkpoint *c, struct err *e);

/* Signs c through the callback of o; the note replaces out's contents. */
int tlog_note_sign(const struct tlog_options *o, const struct tlog_checkpoint *c, struct buf *out,
                   struct err *e);
/* Names the folder's full disk ("log-disk") apart from other write errors ("log-io"). */
int tlog_io_err(struct err *e, const char *what, const char *path);

/* publish.c and publish_files.c */
struct tlog_publisher;
struct tlog_publisher *tlog_publisher_new(const struct tlog_options *o, struct err *e);
void tlog_publisher_free(struct tlog_publisher *p); /* after stop */
struct tlog_edge *tlog_publisher_edge(struct tlog_publisher *p);
/* Before start, by the recovering thread: one entry straight to tiles. */
int tlog_publisher_feed(struct tlog_publisher *p, const struct tlog_record *r, struct err *e);
/* Before start: partial tiles and the checkpoint; removes what an earlier process left in them and
 * beside the full tiles from `from` on. */
int tlog_publisher_catch_up(struct tlog_publisher *p, uint64_t from, uint64_t size,
                            const void *note, size_t len, struct err *e);
/* Lets go of the segments that are covered already, then starts the thread. */
int tlog_publisher_start(struct tlog_publisher *p, struct tlog_journal *j, struct err *e);
void tlog_publisher_stop(struct tlog_publisher *p); /* publishes what is left, joins */
/* One durable batch, under its signed note. Waits when the publisher is far behind; fails at once
 * when its thread has ended. */
int tlog_publisher_hand(struct tlog_publisher *p, const struct bytes *entries,
                        const struct tlog_hash *leaves, size_t n, uint64_t size, const void *note,
                        size_t len, struct err *e);
/* Whether the journal may have one segment more; and entering it. Both under the publisher's lock,
 * which guards the list. */
bool tlog_publisher_may_roll(struct tlog_publisher *p);
int tlog_publisher_segment(struct tlog_publisher *p, uint64_t first, struct err *e);
uint64_t tlog_publisher_size(struct tlog_publisher *p);
void tlog_publisher_now(struct tlog_publisher *p); /* what is handed over already; does not wait */
/* A verified cosignature of what is published now; else rule "cosign-stale". */
int tlog_publisher_cosign(struct tlog_publisher *p, const struct tlog_checkpoint *c,
                          const struct tlog_vkey *witness, const struct tlog_cosignature *s,
                          struct err *e);

/* recover.c */
struct tlog {
    struct tlog_options o;
    char dir[TLOG_DIR_MAX]; /* copy of o.dir */
    int lock_fd;            /* flock on the folder; owned */
    struct tlog_head head;
    struct tlog_journal journal;
    struct tlog_publisher *publisher; /* owned */
    struct merkle_frontier frontier;
    struct merkle_batch *batch; /* owned */
    uint64_t batch_first;
    size_t batch_n;
    struct tlog_hash leaves[TLOG_BATCH_MAX];
    struct buf note; /* newest signed head */
    int64_t newest_time;
    bool newest_is_record;
    bool dead;                   /* an append failed: state on disk is for start-up to judge */
    pthread_mutex_t status_lock; /* guards status; the rest is the appending thread's */
    struct tlog_checkpoint status;
};
int tlog_recover(struct tlog *t, struct err *e);
#endif
