/* The two layers behind sandbox_enter; nobody else calls them.
 * Landlock says which files, seccomp which system calls. Both bind the calling thread and what it
 * starts, so sandbox_enter demands that no other thread exists.
 */
#ifndef BASE_SANDBOX_PARTS_H
#define BASE_SANDBOX_PARTS_H
#include "base/sandbox.h"

/* Returns the Landlock ABI applied, 0 when the kernel has none, or -1. Needs no_new_privs. */
int sandbox_landlock(enum sandbox_role role, const struct sandbox_path *paths, size_t n,
                     struct err *e);
int sandbox_seccomp(enum sandbox_role role, struct err *e);

#endif
