/* Archive: moves old tiles of a log to another folder, which may be on another file system, beside a
 * signer that goes on (`mayfly log archive`).
 *
 * Moved are files that never change and that no start of the signer reads: full entry bundles, and full
 * tiles of level 0 below a full tile of level 1, so 65,536 entries at a time. They keep their names. What
 * stays in the log's folder: head, journal, checkpoint, every partial tile, the tiles of level 1 and up
 * (an eighth of a byte an entry), the tiles of level 0 at the right edge, and whatever the journal's
 * entries are still written to (the publisher writes and syncs those, and a start writes them anew).
 *
 * A file is verified under the signed head before it is copied, the copy is made durable and read back,
 * and only then the original goes: a kill at any point leaves one of the two, often both, and the next
 * run goes on. Copies that are there already are compared, and made again where they differ.
 *
 * The folder remembers whose it is, in a file `vkey`. One archiver a log: a lock on its folder `tile`.
 * Not done here: telling readers (tlog/place.h) where the files are now.
 */
#ifndef TLOG_ARCHIVE_H
#define TLOG_ARCHIVE_H
#include "tlog/checkpoint.h"
#include "tlog/place.h"

struct tlog_archive_options {
    const struct tlog_place *at; /* the log, and where tiles of it are already, `to` among them */
    const struct tlog_vkey *vkey;
    const char *to;
    uint64_t before; /* only entries below this index */
    bool dry_run;    /* says what would be moved */
    void (*progress)(void *arg, uint64_t done, uint64_t total); /* entries; may be NULL */
    void *arg;
};
struct tlog_archive_report {
    uint64_t size;          /* of the published log */
    uint64_t entries_below; /* bundles of entries below this index are moved now, here or before */
    uint64_t hashes_below;  /* and the tiles of level 0 of entries below this one */
    uint64_t bundles, tiles, bytes; /* moved now */
};
/* Rules "archive-foreign" (ERR_EXISTS: the folder is another log's, or another thing's),
 * "archive-locked", "archive-copy" (the copy does not read back), "log-missing", "log-bitflip",
 * "inclusion", "log-disk", "log-io". Fault points: "archive-copied", "archive-synced",
 * "archive-removing". */
int tlog_archive(const struct tlog_archive_options *o, struct tlog_archive_report *r, struct err *e);
#endif
