#include "base/sandbox.h"
#include "base/log.h"
#include "base/sandbox_parts.h"
#include <dirent.h>
#include <errno.h>
#include <grp.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

static int already(uid_t uid, gid_t gid, struct err *e)
{
    if (geteuid() == uid && getuid() == uid && getegid() == gid && getgid() == gid)
        return 0;
    return err_set(e, ERR_CONFIG, "sandbox-user",
                   "cannot become user %u, group %u: not started as root. Start as root, or leave "
                   "the users out of the configuration",
                   (unsigned)uid, (unsigned)gid);
}

int sandbox_drop(uid_t uid, gid_t gid, struct err *e)
{
    if (geteuid() != 0)
        return already(uid, gid, e);
    if (uid == 0)
        return err_set(e, ERR_CONFIG, "sandbox-user", "the user to become may not be root");
    /* Ambient capabilities would survive; kernels without them answer EINVAL. */
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 && errno != EINVAL)
        return err_errno(e, "sandbox-user", "cannot clear ambient capabilities");
    if (prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0) < 0)
        return err_errno(e, "sandbox-user", "cannot give capabilities up");
    /* Groups first: once the user is changed nothing else may be. */
    if (setgroups(1, &gid) < 0)
        return err_errno(e, "sandbox-user", "cannot set the groups to %u", (unsigned)gid);
    if (setresgid(gid, gid, gid) < 0)
        return err_errno(e, "sandbox-user", "cannot become group %u", (unsigned)gid);
    if (setresuid(uid, uid, uid) < 0)
        return err_errno(e, "sandbox-user", "cannot become user %u", (unsigned)uid);
    if (setuid(0) == 0 || seteuid(0) == 0)
        return err_set(e, ERR_INTERNAL, "sandbox-user", "root came back after it was given up");
    return 0;
}

/* Landlock confines the calling thread only; a thread made before would stay free. */
static int demand_single_thread(struct err *e)
{
    int count = 0;
    DIR *tasks = opendir("/proc/self/task");
    if (!tasks) {
        log_warn("cannot count threads before confinement: /proc is not there", NULL);
        return 0;
    }
    for (struct dirent *d; (d = readdir(tasks));)
        count += d->d_name[0] != '.';
    closedir(tasks);
    if (count > 1)
        return err_set(e, ERR_INTERNAL, "sandbox-threads",
                       "%d threads exist already: confine the process before starting threads",
                       count);
    return 0;
}

static int forbid_gains(struct err *e)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return err_errno(e, "sandbox", "cannot set no_new_privs");
    return 0;
}

#ifdef MAYFLY_SANITIZED
/* Sanitizers trace themselves, map what they like and start a symbolizer: under them only
 * no_new_privs can hold. Never shipped. */
int sandbox_enter(enum sandbox_role role, const struct sandbox_path *paths, size_t n, struct err *e)
{
    (void)role;
    (void)paths;
    (void)n;
    (void)demand_single_thread;
    if (forbid_gains(e) < 0)
        return -1;
    log_warn("sanitized build: confinement is no_new_privs alone", NULL);
    return 0;
}
#else
int sandbox_enter(enum sandbox_role role, const struct sandbox_path *paths, size_t n, struct err *e)
{
    if (demand_single_thread(e) < 0 || forbid_gains(e) < 0)
        return -1;
    /* Nobody of the same user may attach to the process or read its memory. */
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
        return err_errno(e, "sandbox", "cannot make the process undumpable");
    int abi = sandbox_landlock(role, paths, n, e);
    if (abi < 0)
        return -1;
    if (abi == 0)
        log_warn("this kernel has no Landlock: files are guarded by their permissions alone", NULL);
    if (sandbox_seccomp(role, e) < 0)
        return -1;
    static const char *const names[] = {"signer", "frontend", "notary", "witness", "proxy"};
    log_info("confined", "role", names[role], "seccomp", "allow list", "landlock",
             abi ? log_num(abi) : "none", NULL);
    return 0;
}
#endif

size_t sandbox_add(struct sandbox_path paths[SANDBOX_PATHS_MAX], char *const *more)
{
    size_t n = 0;
    while (n < SANDBOX_PATHS_MAX && paths[n].path)
        n++;
    for (; *more && n < SANDBOX_PATHS_MAX; more++)
        paths[n++] = (struct sandbox_path){*more, false, true};
    return n;
}
