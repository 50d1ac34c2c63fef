/* Secret memory: locked against swap, kept out of core dumps and forks, wiped when freed.
 * Pages come from mmap with guard pages. For PINs, private keys, token plaintexts; not for bulk.
 */
#ifndef BASE_SECMEM_H
#define BASE_SECMEM_H
#include "base/err.h"
#include <stddef.h>
#include <stdint.h>

struct secret {
    uint8_t *p; /* owned */
    size_t len, cap;
};
int secret_new(struct secret *s, size_t cap, struct err *e);
void secret_free(struct secret *s); /* wipes; safe on zeroed object */
/* Whole contents of a descriptor or file, one trailing newline removed, 1 to cap bytes (rule
 * "secret-size"). Makes `s`: on success the caller frees it, on failure it is zeroed. A file
 * readable or writable by others than its owner (mode & 077, group read by root-group allowed) is
 * refused: rule "secret-mode". */
int secret_read_fd(struct secret *s, int fd, size_t cap, struct err *e);
int secret_read_file(struct secret *s, const char *path, size_t cap, struct err *e);
void secret_wipe(void *p, size_t n); /* not optimized away */

#endif
