/* Whole files: bounded reads, atomic durable writes. */
#ifndef BASE_FILEIO_H
#define BASE_FILEIO_H
#include "base/bytes.h"
#include "base/err.h"
#include <sys/types.h>

/* Reads at most max bytes (more is ERR_TOO_LARGE, missing is ERR_NOT_FOUND) into b. */
int file_read(struct buf *b, const char *path, size_t max, struct err *e);
/* Writes dir/.name.tmp-<random>, fsyncs when durable, renames over path, fsyncs the folder. */
int file_write_atomic(const char *path, const void *p, size_t len, mode_t mode, bool durable,
                      struct err *e);
int file_write_all(int fd, const void *p, size_t len); /* write(2) until done; -1 with errno */
int file_mkdirs(const char *path, mode_t mode, struct err *e);
int file_sync_dir(const char *path, struct err *e);

#endif
