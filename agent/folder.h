/* A folder that identities are written to: opened and locked as one, files staged in it. For files.c (`fetch`)
 * and output.c (sets). Names are opened relative to the folder and never followed when they are links.
 */
#ifndef AGENT_FOLDER_H
#define AGENT_FOLDER_H
#include "base/bytes.h"
#include "base/err.h"
#include <sys/types.h>

#define FOLDER_LOCK ".mayfly.lock"

struct folder {
    int fd, lock;
};
/* Opens and locks: two writers take turns, and wait no longer than the deadline (clock_mono_ms). The lock is a
 * file of mode 0600 in it that stays: the folder itself can be locked by whoever may read it. flags: added to open's.
 * Rules "out-dir", "out-lock"; on failure nothing is left open. */
int folder_open(struct folder *d, const char *dir, int flags, int64_t deadline, struct err *e);
/* The same of a folder that is open already; fd is taken over, also on failure. */
int folder_lock(struct folder *d, int fd, const char *dir, int64_t deadline, struct err *e);
void folder_close(struct folder *d);

struct folder_file {
    const char *name;
    mode_t mode;
    uid_t uid; /* (uid_t)-1: as we run */
    gid_t gid;
    struct bytes contents;
};
/* Written, closed and durable under a name in the open folder `dir`; a file of that name that a killed agent left
 * is replaced. Owner and mode are final before the first byte. Rules "out-write", "out-space", "out-owner". */
int folder_stage(int dir, const char *as, const struct folder_file *f, struct err *e);
/* As much as a set may need, written and removed. */
int folder_try(int dir, const struct folder_file *f, struct err *e);

#endif
