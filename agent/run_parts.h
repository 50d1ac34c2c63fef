/* What the files of `run` share. Nothing outside agent/ and its tests includes this.
 *
 *   run.c         the coordinator: identity, program, rotation, end
 *   run_state.c   what the agent gives, as a set to be written
 *   run_folder.c  the folder in memory, and what former runs left
 *   run_child.c   the program: started, signalled, waited for
 */
#ifndef AGENT_RUN_PARTS_H
#define AGENT_RUN_PARTS_H
#include "agent/output.h"
#include "agent/run.h"
#include "workload/workload.h"
#include <sys/signalfd.h>

/* --- run_state.c ------------------------------------------------------------------------------------ */
/* The SVID asked for, borrowed from s; NULL: not among them, and e says which are. Rule "run-identity". */
struct wl_svid *run_pick(const struct wl_state *s, const char *spiffe_id, struct err *e);
struct run_set { /* a set as output_write wants it */
    struct buf chain, bundle; /* PEM */
    struct output_set set;
};
/* Borrows svid and jwt. The roots are those of the SVID's own trust domain. Rule "run-identity". */
int run_set_make(struct run_set *x, const struct wl_state *s, const struct wl_svid *svid, struct bytes jwt,
                 struct err *e);
void run_set_free(struct run_set *x);
/* Whether the program would find other files. */
bool run_changed(const struct wl_state *old, const struct wl_state *now, const char *spiffe_id);
/* Milliseconds until a JWT is to be asked for again: half of its life from now on, 1 s to 1 h. The JWT comes from
 * our agent; its signature is not looked at. */
unsigned run_jwt_half(const char *jwt, size_t len, int64_t now);

/* --- run_folder.c ------------------------------------------------------------------------------------ */
struct run_folder {
    char path[512];
    int fd;      /* locked: a folder that nobody holds was left by a run that was killed */
    bool made;   /* by us: removed at the end */
};
/* dir NULL: below the first of $RUNTIME_DIRECTORY, $XDG_RUNTIME_DIR, /run, /dev/shm that is memory and that we may
 * write; removes what killed runs of this user left there. Rule "run-folder". */
int run_folder_open(struct run_folder *f, const char *dir, struct err *e);
void run_folder_close(struct run_folder *f); /* with the set in it */

/* --- run_child.c ------------------------------------------------------------------------------------- */
void run_environment(const char *dir, bool jwt, const char *endpoint);
/* Rule "run-exec"; *status 127 (not found), 126. */
pid_t run_spawn(char *const *argv, int *status, struct err *e);
/* The signals that run takes from a signalfd, for sigprocmask. */
void run_signals(sigset_t *s);
/* Whether the program is to get it from us: not what the terminal sent, as the whole process group got that, nor what
 * the program itself sent to its group. Pure. */
bool run_forwards(const struct signalfd_siginfo *s, pid_t program);
int run_exit_status(int wait_status); /* as shells say it */
/* The program stopped at its terminal (^Z): so do we, for the shell to see it. */
void run_stop_too(int stop_signal);

#endif
