/* The durable log: one writer (the signer), files that anyone may read.
 *
 * Folder:
 *   head          the compare-and-swap: the newest signed checkpoint, in a file of its own
 *   journal/      entries since the last full tile, checksummed; what is durable first
 *   checkpoint    published head (C2SP), at most a second behind
 *   tile/…        published tiles and entry bundles (C2SP tlog-tiles), full and partial
 *
 * Order of an append: journal write → fdatasync → checkpoint signed → head compare-and-swap →
 * durable → answer. What a crash leaves: a journal longer than the head (entries that nobody was
 * told of: adopted at the next start, never signed later), or tiles behind the head (published at
 * the next start). Never a head beyond the journal: that is data loss (a restored backup, a lost
 * disk) and tlog_open refuses, saying which is newer.
 *
 * Signs through a callback; never sees the HSM. Any failure of tlog_append is final: the caller
 * exits and start-up recovers (start-up is recovery).
 */
#ifndef TLOG_LOG_H
#define TLOG_LOG_H
#include "tlog/cosign.h"
#include "tlog/entry.h"

/* Signs msg with the log's Ed25519 key. */
typedef int tlog_sign_cb(void *arg, const uint8_t *msg, size_t len, uint8_t sig[64], struct err *e);

struct tlog_options {
    const char *dir;
    char *const *archive; /* where old full tiles may be (tlog/place.h), NULL at the end; or NULL */
    const struct tlog_vkey *vkey; /* not owned; outlives the log */
    tlog_sign_cb *sign;
    void *sign_arg;
    bool full_check;              /* read back every tile and entry bundle, not only the right edge */
    unsigned publish_ms;          /* at most this long behind the head; 0: 1000 */
    int published_fd;             /* an eventfd that is written to when another head is published; 0: none */
    void (*progress)(void *arg, uint64_t done, uint64_t total); /* of the full check; may be NULL */
    void *progress_arg;
};
#define TLOG_BATCH_MAX 256

struct tlog;
/* Makes the folder's files: entry 0 (null_entry) and the first checkpoint. Refuses when any of its
 * files exists (ERR_EXISTS). */
int tlog_create(const struct tlog_options *o, struct err *e);
/* Opens, recovers, verifies; starts the publisher thread. ERR_CORRUPT with rules "log-truncated",
 * "log-bitflip", "log-rollback", "log-head", "log-missing", each saying what was found and what to
 * do; a refused folder is left as it was found. Takes an exclusive lock on the folder (rule "log-locked", ERR_EXISTS). */
int tlog_open(struct tlog **out, const struct tlog_options *o, struct err *e);
void tlog_close(struct tlog *t); /* publishes what is left, stops the thread */

/* One batch: n entries (1..TLOG_BATCH_MAX), durable and under a signed head when it returns 0.
 * *first gets the index of entries[0]. Fault points: "tlog-journal", "tlog-synced", "tlog-signed",
 * "tlog-head". One thread at a time. Rules "log-disk" (disk full), "log-io", "log-head" (the
 * compare failed), "log-publish" (publishing stands still), "log-dead" (after any of these); an
 * entry whose envelope is malformed ("entry-format") is refused before anything is written. */
int tlog_append(struct tlog *t, const struct bytes *entries, size_t n, uint64_t *first, struct err *e);
/* tlog-proof text for entry k of the newest batch, under the newest head. Valid until the next
 * tlog_append; same thread. extra = that entry's extension list. */
void tlog_batch_proof(const struct tlog *t, size_t k, struct bytes extra, struct buf *out);
/* Adds a cosignature to the head that these proofs carry. Same thread; the caller has verified it. */
void tlog_batch_cosigned(struct tlog *t, const struct tlog_vkey *witness, const struct tlog_cosignature *s);
/* Has the newest head published at once and not when the interval is over. Returns before it is.
 * Thread safe. */
void tlog_publish_now(struct tlog *t);

/* Has the published checkpoint published again with this cosignature besides, in place of an earlier
 * one by the same witness. c: what was cosigned (its origin is not looked at). A later checkpoint
 * starts without cosignatures, and so does a start. The witness's key outlives the log. 0: verified
 * and handed to the publisher. Rules "cosign-stale" (ERR_NOT_READY: c is not what is published now),
 * "cosignature", "log-publish". Thread safe. */
#define TLOG_COSIGNERS 16
int tlog_cosign(struct tlog *t, const struct tlog_checkpoint *c, const struct tlog_vkey *witness,
                const struct tlog_cosignature *s, struct err *e);

struct tlog_status {
    uint64_t size, published_size;
    struct tlog_hash root;
};
void tlog_status(struct tlog *t, struct tlog_status *s); /* thread safe */
/* not_before of the newest certificate entry found by tlog_open, or the time of a record that is
 * newer (*record), so that a clock stepping back over a restart is noticed; 0 when unknown. The newest, not the greatest: where an operator accepted
 * that the clock had run ahead, the entries since then say so to every later start. */
int64_t tlog_newest_time(const struct tlog *t, bool *record);

/* Read side, without the writer: for api/ (serving), mayfly log (verifying). */
/* Maps "checkpoint", "tile/0/x001/234", "tile/entries/000.p/7" to a file below dir, strictly by
 * the tlog-tiles grammar (no "..", no empty tile, widths 1..255). -1 when it is no log path;
 * *immutable: may be cached for ever. */
int tlog_path_resolve(char *dst, size_t cap, const char *dir, const char *path, bool *immutable,
                      struct err *e);
struct tlog_verify_report {
    uint64_t size, entries_checked;
    struct tlog_checkpoint checkpoint;
};
/* Replays the published log in dir: checkpoint signature, every bundle against its leaf hashes,
 * every tile, the root; each tbs_cert entry's form. Rules "log-missing", "log-bitflip",
 * "entry-format", "log-root" (files agree, but not with the signed root), "checkpoint-*". A log that
 * is being written may be verified too. */
int tlog_verify_dir(const char *dir, const struct tlog_vkey *k, struct tlog_verify_report *r,
                    void (*progress)(void *arg, uint64_t done, uint64_t total), void *arg, struct err *e);
/* One entry's bytes from the published bundles, with an inclusion proof under the published
 * checkpoint. entry and note are appended to. ERR_NOT_FOUND when index >= published size. */
int tlog_read_entry(const char *dir, const struct tlog_vkey *k, uint64_t index, struct buf *entry,
                    struct tlog_hash path[TLOG_LEVELS], size_t *path_len, struct buf *note, struct err *e);
#endif
