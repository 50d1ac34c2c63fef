/* Reader: entries of a published log and their inclusion proofs, many under one checkpoint, as
 * search and export need them. The checkpoint is read and its signature verified when the reader is
 * opened; what is published later is not seen. Tiles and the bundle read last are kept, so that
 * neighbours cost one file each. Works on a log that is being written.
 * Not thread safe. Does not judge entries: bytes in, bytes out.
 */
#ifndef TLOG_READER_H
#define TLOG_READER_H
#include "tlog/checkpoint.h"
#include "tlog/place.h"

struct tlog_reader;
/* dir is not owned and outlives the reader. Rules "log-missing", "checkpoint-*". */
int tlog_reader_open(struct tlog_reader **out, const char *dir, const struct tlog_vkey *k, struct err *e);
/* The same where a log is in more than its folder; *at is copied. */
int tlog_reader_open_at(struct tlog_reader **out, const struct tlog_place *at, const struct tlog_vkey *k, struct err *e);
void tlog_reader_close(struct tlog_reader *r);
const struct tlog_checkpoint *tlog_reader_head(const struct tlog_reader *r);
struct bytes tlog_reader_note(const struct tlog_reader *r); /* the signed checkpoint, verbatim */

/* Entries [256 n, 256 n + *width) as they stand in the file, unproven. Views until the next call. */
int tlog_reader_bundle(struct tlog_reader *r, uint64_t n, const struct bytes **entries, unsigned *width,
                       struct err *e);
/* One entry and the proof that it stands in the checkpoint's tree, verified here. The entry is a
 * view until the next call. ERR_NOT_FOUND ("log-index") when index >= the checkpoint's size;
 * ERR_CORRUPT ("log-missing", "log-bitflip", "inclusion") when files do not fit together. */
int tlog_reader_entry(struct tlog_reader *r, uint64_t index, struct bytes *entry,
                      struct tlog_hash path[TLOG_LEVELS], size_t *path_len, struct err *e);
/* The proof that the checkpoint's tree begins with the tree of its first `old` entries (RFC 6962
 * section 2.1.2), as witnesses ask for it; none when old is 0 or the checkpoint's size. Not verified
 * here: the old root is not known here. ERR_NOT_FOUND ("log-index") when old is larger. */
int tlog_reader_consistency(struct tlog_reader *r, uint64_t old, struct tlog_hash proof[TLOG_LEVELS],
                            size_t *count, struct err *e);
#endif
