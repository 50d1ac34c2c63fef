/* `mayfly-agent run`: a program, started with its identity ready and told when it changes.
 *
 * The identity comes from the Workload API and lies in a folder in memory that is only ours (agent/output.h) for as
 * long as the program runs. The program finds it by its environment:
 *   MAYFLY_SVID_DIR MAYFLY_SVID MAYFLY_KEY MAYFLY_BUNDLE (MAYFLY_JWT) SPIFFE_ENDPOINT_SOCKET
 * It shares our terminal, process group and standard files; signals to us are passed on to it, and its end is ours.
 *
 * The agent away, or an identity no longer given: the program goes on with what it has, and one line says so.
 * Not done here: who we are (the agent asks the kernel: it sees mayfly-agent's own executable, the program's user,
 * control group and container), starting again a program that ended by itself.
 */
#ifndef AGENT_RUN_H
#define AGENT_RUN_H
#include "base/err.h"
#include <stddef.h>

#define RUN_AUDIENCES_MAX 16

enum run_rotate { RUN_NOTHING, RUN_RESTART, RUN_SIGNAL };
struct run_config { /* strings not owned */
    const char *endpoint;        /* of the Workload API: unix:///path */
    const char *spiffe_id;       /* NULL: the first that the agent gives */
    const char *dir;             /* NULL: a folder of our own in memory */
    const char *audience[RUN_AUDIENCES_MAX]; /* of a JWT-SVID; none: no JWT */
    size_t audience_count;
    enum run_rotate rotate;
    int signal;                  /* with RUN_SIGNAL */
    unsigned timeout_ms;         /* until the first identity */
    unsigned grace_ms;           /* between SIGTERM and SIGKILL at a restart */
    char *const *argv;           /* the program and its arguments, NULL at the end */
};
/* Until the program ended; *status is what to exit with: its own, or 128 + signal. -1: it was not started, or not
 * again; *status is then 126 or 127 if the command is what failed (rule "run-exec"), else 0.
 * Rules "run-timeout", "run-folder", "run-exec". Called once, from a process with one thread. */
int run(const struct run_config *c, int *status, struct err *e);

#endif
