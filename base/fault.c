#include "base/fault.h"

#ifdef MAYFLY_FAULTS
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* The passes counted so far, for the request file seen last; a new file counts from zero. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    ino_t ino;
    struct timespec made;
    unsigned long passes;
} seen;

struct request {
    char name[64], action[16];
    unsigned long skip;
};

static int request_read(const char *path, struct request *q, struct stat *st)
{
    FILE *f = fopen(path, "re");
    if (!f)
        return -1;
    q->skip = 0;
    int n = fscanf(f, "%63s %15s %lu", q->name, q->action, &q->skip);
    int ok = n >= 2 && fstat(fileno(f), st) == 0;
    fclose(f);
    return ok ? 0 : -1;
}

/* Whether it is this pass that the fault falls on. Whoever removes the file is the one to fire, so
 * among processes and threads only one does. */
static int request_due(const char *path, const struct request *q, const struct stat *st)
{
    int due = 0;
    pthread_mutex_lock(&lock);
    if (seen.ino != st->st_ino || seen.made.tv_sec != st->st_mtim.tv_sec ||
        seen.made.tv_nsec != st->st_mtim.tv_nsec) {
        seen.ino = st->st_ino;
        seen.made = st->st_mtim;
        seen.passes = 0;
    }
    if (seen.passes++ >= q->skip) {
        due = unlink(path) == 0;
        if (!due && errno != ENOENT)
            fprintf(stderr, "fault %s does not fire: cannot remove %s: %s\n", q->name, path,
                    strerror(errno));
    }
    pthread_mutex_unlock(&lock);
    return due;
}

int fault_at(const char *name)
{
    const char *path = getenv("MAYFLY_FAULT_FILE");
    struct request q;
    struct stat st;
    if (!path || request_read(path, &q, &st) < 0 || strcmp(q.name, name) != 0)
        return 0;
    int saved = errno;
    if (!request_due(path, &q, &st)) {
        errno = saved;
        return 0;
    }
    if (strcmp(q.action, "kill") == 0)
        kill(getpid(), SIGKILL);
    if (strcmp(q.action, "exit") == 0)
        _exit(97);
    if (strcmp(q.action, "hang") == 0)
        for (;;)
            nanosleep(&(struct timespec){.tv_sec = 3600}, NULL);
    errno = saved;
    return strcmp(q.action, "fail") == 0;
}
#else
/* ISO C wants a declaration in every translation unit. */
typedef int fault_points_are_compiled_out;
#endif
