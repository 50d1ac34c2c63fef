/* Confinement: open what you need, jail, then read the first byte of input.
 * sandbox_drop changes user (when root); sandbox_enter sets no_new_privs, non-dumpable, Landlock
 * (where the kernel has it) and seccomp (allow list for the role; violation kills the process).
 * Both log what was applied; a kernel without Landlock is a warning, seccomp failing is an error.
 */
#ifndef BASE_SANDBOX_H
#define BASE_SANDBOX_H
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum sandbox_role { SANDBOX_SIGNER, SANDBOX_FRONTEND, SANDBOX_NOTARY, SANDBOX_WITNESS, SANDBOX_PROXY };

struct sandbox_path {
    const char *path; /* file or folder beneath which access is allowed */
    bool write;
    bool optional;    /* absent is fine */
};
#define SANDBOX_PATHS_MAX 32
/* Adds folders that may be absent, read-only, behind the paths that are there (as many as fit); how
 * many there are then. `more` ends in NULL. */
size_t sandbox_add(struct sandbox_path paths[SANDBOX_PATHS_MAX], char *const *more);
/* All ids, no supplementary groups but gid. Not root: 0 when these are the ids already. The kernel
 * forgets PR_SET_PDEATHSIG here. */
int sandbox_drop(uid_t uid, gid_t gid, struct err *e);
/* Every role: files below `paths` (and what libc reads: its libraries, time zones, /proc/self,
 * /dev/null), no new process, AF_UNIX. All but the signer: TCP and UDP besides, though the notary
 * answers nobody: it neither listens nor accepts; and the proxy
 * makes, changes and removes no file. To be called before the
 * process has a second thread (else rule "sandbox-threads"), after PR_SET_PDEATHSIG (prctl is
 * closed afterwards) and after the last fork. Builds with a sanitizer get no_new_privs only. */
int sandbox_enter(enum sandbox_role role, const struct sandbox_path *paths, size_t n, struct err *e);

#endif
