/* Place: where the files of a log are. A folder; besides, folders that old full tiles were moved to
 * (tlog/archive.h), asked in turn for a full tile that the first does not have; or another host, from
 * which what is missing is fetched. Whoever reads is not to notice which.
 *
 * What is found anywhere is verified by the reader as ever, so neither an archive nor who answers a
 * fetch is trusted.
 */
#ifndef TLOG_PLACE_H
#define TLOG_PLACE_H
#include "base/bytes.h"
#include "base/err.h"

struct tlog_place { /* nothing is owned; all outlives the reader */
    const char *dir;
    char *const *archive; /* NULL at the end; NULL: none */
    /* Puts the file "tile/…" of at most `max` bytes into b. ERR_NOT_FOUND: there is none there. On the
     * thread that reads. NULL: nothing is fetched. */
    int (*fetch)(void *arg, const char *path, size_t max, struct buf *b, struct err *e);
    void *arg;
    uint64_t size; /* with fetch: of the published tree, which tells how wide its partial tiles are */
};
/* Can this process list and read the folder now? What opens it, not access(2): a sandbox forbids by that. */
bool tlog_archive_here(const char *dir);
/* And is it one, that something was moved to: not the empty folder that a disk is mounted on. */
bool tlog_archive_claimed(const char *dir);
#define TLOG_ARCHIVE_VKEY "vkey" /* the file that says so, and of which log */
/* Of what is fetched, the full hash tiles that the next reading needs again are kept in `dir`: those at
 * the right edge of the tree of `size` entries. Removes these. To be called when that edge is left (the
 * tree has grown past a multiple of 65,536), and when a reading failed: one of them may be why. */
void tlog_place_forget(const struct tlog_place *at, uint64_t size);
/* Fetches the partial tiles at the edge of the tree of at->size into `dir`, in place of those of an
 * earlier tree of `before` entries (0: none): a log that goes on soon has others. Right after its checkpoint was fetched. ERR_NOT_READY ("log-moved"):
 * it has others already; fetch the checkpoint again. */
int tlog_place_edge(const struct tlog_place *at, uint64_t before, struct err *e);
#endif
