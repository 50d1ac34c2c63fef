/* Whom a process runs as when it was started as root: a user's name or "uid:gid" becomes ids. For
 * mayflyd, which becomes them, and `mayfly init`, which hands files over to them. */
#ifndef CMD_USERS_H
#define CMD_USERS_H
#include "base/err.h"
#include <sys/types.h>

struct user_ids {
    uid_t uid;
    gid_t gid;
};
/* Never root, never root's group, never the id that stands for "none" (rule "run-user"). */
int user_resolve(const char *name, struct user_ids *u, struct err *e);
/* All of them, and uids that differ: a shared one could read the other's files. A name "" is (uid_t)-1. */
int user_resolve_all(const char *const *names, struct user_ids *u, size_t n, struct err *e);
/* Whether u may walk through every folder of an absolute path (access lists count). Names the one
 * that is closed. Only as root, and in a process of one thread: a child becomes u and tries. */
int user_reaches(const struct user_ids *u, const char *dir, struct err *e);

#endif
