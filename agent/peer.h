/* What the files of the attestor share. Nothing outside agent/ and its tests includes this.
 *
 *   peer.c         one process, held; what is told of it
 *   peer_proc.c    /proc/PID/stat and status, parsed; the process as it is now
 *   peer_cgroup.c  /proc/PID/cgroup, parsed: unit, container
 *   peer_hash.c    SHA-256 of executables, remembered
 */
#ifndef AGENT_PEER_H
#define AGENT_PEER_H
#include "agent/attestor.h"
#include <time.h>

/* --- limits --------------------------------------------------------------------------------------- */
#define PEER_STAT_MAX 2048       /* bytes of /proc/PID/stat: 52 numbers and a name */
#define PEER_STATUS_MAX 16384    /* bytes read of /proc/PID/status; what is beyond is not looked at */
#define PEER_CGROUP_MAX 16384    /* bytes of /proc/PID/cgroup */
#define PEER_CGROUP_PATH 4096    /* a path's bytes */
#define PEER_GROUPS_MAX 64       /* supplementary groups looked at */
#define PEER_EXE_MAX (1LL << 30) /* bytes of an executable that is hashed */
#define PEER_DIGESTS 256         /* executables remembered */

/* --- peer_proc.c ---------------------------------------------------------------------------------- */
struct proc_stat {
    char state;        /* R S D Z T t X x K W P I */
    uint64_t start;    /* clock ticks after boot: never changes while the process lives, not by exec either */
};
/* The name may hold anything, also ") R 1": what follows the last parenthesis counts. Pure. */
int proc_stat_parse(struct proc_stat *s, const char *text, size_t len);

struct proc_status {
    uid_t uid; /* effective */
    gid_t gid;
    gid_t groups[PEER_GROUPS_MAX];
    size_t groups_count;
};
/* text may be cut off anywhere after the Gid line; a number that is cut off is not taken. Pure. */
int proc_status_parse(struct proc_status *s, const char *text, size_t len);

struct proc_exe { /* which file runs; known false: the kernel does not tell us */
    bool known;
    unsigned dev_major, dev_minor;
    uint64_t ino;
};
struct proc_now { /* a process as it is now */
    struct proc_stat stat;
    struct proc_status status;
    struct proc_exe exe;
};
/* The folder of a process in our own /proc, or -1 ("peer-gone", "peer-proc": /proc is not our PID namespace's). */
int proc_open(pid_t pid, struct err *e);
/* Reads through the folder's handle: once the process is gone this fails, whoever has its number. */
int proc_read(struct proc_now *n, int dir, struct err *e);
/* A whole small file of the folder, at most max bytes; what is longer is cut. -1 with errno. */
long proc_file(int dir, const char *name, char *dst, size_t max);

/* --- peer_cgroup.c -------------------------------------------------------------------------------- */
struct peer_cgroup {
    char path[PEER_CGROUP_PATH]; /* "" when there is none to tell */
    char unit[256];              /* "nginx.service"; "" when none */
    char container[65];          /* 64 hex digits; "" when none */
};
/* Of /proc/PID/cgroup, v1 or v2. Pure; never fails: what is not understood gives nothing. */
void peer_cgroup_parse(struct peer_cgroup *c, const char *text, size_t len);

/* --- peer_hash.c ---------------------------------------------------------------------------------- */
/* SHA-256 of the file that the process runs, if it is `exe`. -1: not to be had (too large, changed meanwhile,
 * on a file system that a user's program answers for). Blocks; threads that ask for one file read it once. */
int peer_hash(uint8_t dst[32], int dir, const struct proc_exe *exe);
void peer_hash_forget(void);         /* tests */
unsigned long peer_hash_reads(void); /* files read so far: tests */

/* --- peer.c --------------------------------------------------------------------------------------- */
/* pidfd false: as on a kernel without SO_PEERPIDFD. */
struct peer *peer_open_how(int fd, bool pidfd, struct err *e);
bool peer_has_pidfd(const struct peer *p);

#endif
