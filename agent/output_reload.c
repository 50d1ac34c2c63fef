/* The program is told that its files changed: a command, a signal.
 *
 * The command is a process group of its own and is killed, with its group, when its time is over. What it leaves
 * running when it ends by itself stays (a hook may start a daemon), but what that writes is no longer read.
 * What it says goes to our log, OUTPUT_MAX bytes of it.
 *
 * The signal: between reading a pid file and kill(2) the process may end and its number be another's, so a
 * pidfd is taken first and everything is asked of that. A pid file says whom to signal, so its owner must be one who may
 * signal that process anyway: root, we, or the process's own user.
 */
#include "agent/output_set.h"
#include "agent/walk.h"
#include "base/clock.h"
#include "base/log.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define OUTPUT_MAX 4096 /* bytes of a hook's words */
#define READS_MAX 64    /* of them in a row, before the clock is looked at */
#define LINES_MAX 16
#define PID_FILE_MAX 512
#define PID_MAX 4194304 /* of any Linux */
#define ENV_MAX 512
#define TIMEOUT_DEFAULT_MS 10000

extern char **environ;

/* --- the hook ------------------------------------------------------------------------------------- */

struct hook {
    pid_t pid;
    int pidfd, out;
    char said[OUTPUT_MAX];
    size_t len;
};

static bool env_is(const char *entry, const char *name)
{
    size_t n = strlen(name);
    return strncmp(entry, name, n) == 0 && entry[n] == '=';
}

/* Ours replace what is there of their names. env: room for ENV_MAX + 3. */
static void env_make(const char **env, const char *id, const char *dir)
{
    size_t n = 0;
    for (char **x = environ; *x && n < ENV_MAX; x++)
        if (!env_is(*x, "MAYFLY_SPIFFE_ID") && !env_is(*x, "MAYFLY_SVID_DIR"))
            env[n++] = *x;
    env[n++] = id;
    env[n++] = dir;
    env[n] = NULL;
}

/* Signals as a program expects them, a group of its own, nothing of ours open but what it may write to (libraries
 * open descriptors too, and not all of those close on exec). */
static int spawn(struct hook *h, const char *command, const char *const *env, int out)
{
    posix_spawnattr_t a;
    posix_spawn_file_actions_t f;
    sigset_t none, all;
    char *argv[] = {(char[]){"sh"}, (char[]){"-c"}, NULL, NULL};
    union {
        const char *in;
        char *out;
    } word = {.in = command};
    union {
        const char *const *in;
        char *const *out;
    } words = {.in = env};
    argv[2] = word.out;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_init(&a);
    posix_spawn_file_actions_init(&f);
    posix_spawnattr_setflags(&a, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    posix_spawnattr_setpgroup(&a, 0);
    posix_spawnattr_setsigmask(&a, &none);
    posix_spawnattr_setsigdefault(&a, &all);
    int rc = posix_spawn_file_actions_addopen(&f, 0, "/dev/null", O_RDONLY, 0);
    if (rc == 0)
        rc = posix_spawn_file_actions_adddup2(&f, out, 1);
    if (rc == 0)
        rc = posix_spawn_file_actions_adddup2(&f, out, 2);
    if (rc == 0)
        rc = posix_spawn_file_actions_addclosefrom_np(&f, 3);
    if (rc == 0)
        rc = posix_spawn(&h->pid, "/bin/sh", &f, &a, argv, words.out);
    posix_spawn_file_actions_destroy(&f);
    posix_spawnattr_destroy(&a);
    return rc;
}

static int hook_start(struct hook *h, const struct output_config *c, const char *spiffe_id, struct err *e)
{
    char id[2100], dir[4200];
    const char *env[ENV_MAX + 3];
    int out[2];
    snprintf(id, sizeof id, "MAYFLY_SPIFFE_ID=%s", spiffe_id);
    snprintf(dir, sizeof dir, "MAYFLY_SVID_DIR=%s", c->dir);
    env_make(env, id, dir);
    if (pipe2(out, O_CLOEXEC | O_NONBLOCK) < 0)
        return err_errno(e, "reload", "no pipe for the reload command");
    fcntl(out[1], F_SETFL, 0); /* the program's end blocks, as programs expect */
    int rc = spawn(h, c->reload, env, out[1]);
    close(out[1]);
    h->out = out[0];
    h->pidfd = rc == 0 ? pidfd_open(h->pid, 0) : -1;
    if (rc == 0)
        return 0;
    close(h->out);
    return err_set(e, ERR_IO, "reload", "cannot run the reload command: %s", strerror(rc));
}

/* Reads what is there; what is over OUTPUT_MAX is read and forgotten, so that the program goes on. */
static bool hook_hear(struct hook *h)
{
    char more[4096];
    for (int i = 0; i < READS_MAX; i++) {
        ssize_t n = read(h->out, more, sizeof more);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0; /* closed: false */
        size_t room = OUTPUT_MAX - h->len;
        memcpy(h->said + h->len, more, (size_t)n < room ? (size_t)n : room);
        h->len += (size_t)n < room ? (size_t)n : room;
    }
    return true; /* there is more, and perhaps no end of it */
}

/* Until it ends; false when the time is over. Without a pidfd (before Linux 5.3, or no descriptors left) it is
 * looked at every 20 ms. */
static bool hook_wait(struct hook *h, int64_t deadline, int *status)
{
    bool open = true;
    for (;;) {
        int64_t left = deadline - clock_mono_ms();
        struct pollfd q[2] = {{.fd = open ? h->out : -1, .events = POLLIN}, {.fd = h->pidfd, .events = POLLIN}};
        if (h->pidfd < 0 && left > 20)
            left = 20;
        poll(q, 2, left > 0 ? (int)left : 0);
        if (open)
            open = hook_hear(h);
        pid_t done = waitpid(h->pid, status, WNOHANG);
        if (done == h->pid || (done < 0 && errno != EINTR)) {
            hook_hear(h);
            return true;
        }
        if (clock_mono_ms() >= deadline)
            return false;
    }
}

/* Words of a command that failed say why. */
static void hook_log(struct hook *h, enum log_level level, const char *dir)
{
    char *p = h->said, *end = h->said + h->len;
    for (int i = 0; p < end && i < LINES_MAX; i++) {
        char *nl = memchr(p, '\n', (size_t)(end - p)), *stop = nl ? nl : end;
        char line[512];
        snprintf(line, sizeof line, "%.*s", (int)(stop - p), p);
        if (*line)
            log_event(level, "reload command says", "dir", dir, "line", line, NULL);
        p = stop + 1;
    }
}

static int hook_verdict(int status, struct err *e)
{
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    if (WIFEXITED(status))
        return err_set(e, ERR_IO, "reload", "the reload command failed with status %d", WEXITSTATUS(status));
    return err_set(e, ERR_IO, "reload", "the reload command was ended by signal %d", WTERMSIG(status));
}

static int hook_run(const struct output_config *c, const char *spiffe_id, struct err *e)
{
    struct hook *h = calloc(1, sizeof *h);
    const unsigned limit = c->reload_timeout_ms ? c->reload_timeout_ms : TIMEOUT_DEFAULT_MS;
    int status = 0, rc = 0;
    if (!h)
        return err_set(e, ERR_INTERNAL, "memory", "out of memory");
    if (hook_start(h, c, spiffe_id, e) < 0) {
        free(h);
        return -1;
    }
    if (hook_wait(h, clock_mono_ms() + limit, &status)) {
        rc = hook_verdict(status, e);
    } else {
        kill(-h->pid, SIGKILL);
        while (waitpid(h->pid, &status, 0) < 0 && errno == EINTR)
            ;
        hook_hear(h);
        rc = err_set(e, ERR_IO, "reload", "the reload command did not end within %u ms and was killed", limit);
    }
    hook_log(h, rc == 0 ? LOG_INFO : LOG_WARN, c->dir);
    close(h->out);
    if (h->pidfd >= 0)
        close(h->pidfd);
    free(h);
    return rc;
}

/* --- the signal ----------------------------------------------------------------------------------- */

/* The first line is a number and nothing else; more lines may follow (PostgreSQL's postmaster.pid). -1: it is none. */
pid_t output_pid_parse(const char *text, size_t len)
{
    const char *nl = memchr(text, '\n', len);
    long v = 0;
    size_t n = nl ? (size_t)(nl - text) : len;
    if (n == 0 || n > 7 || text[0] == '0')
        return -1;
    for (size_t i = 0; i < n; i++) {
        if (text[i] < '0' || text[i] > '9')
            return -1;
        v = v * 10 + (text[i] - '0');
    }
    return v > 1 && v <= PID_MAX ? (pid_t)v : -1; /* init is nobody's server */
}

static int pid_read(const struct output_config *c, pid_t *pid, uid_t *owner, struct err *e)
{
    char text[PID_FILE_MAX];
    struct stat st;
    /* Whoever owns the folder could else have a link there to a pid file of root's. */
    int fd = walk_open(c->pid_file, O_RDONLY | O_NOCTTY | O_NONBLOCK, false);
    if (fd < 0 && errno == ELOOP)
        return err_set(e, ERR_CONFIG, "reload",
                       "%s, or a folder on the way to it, is a symbolic link that belongs to neither root nor the agent",
                       c->pid_file);
    if (fd < 0)
        return err_errno(e, "reload", "cannot open the pid file %s (does the program run?)", c->pid_file);
    ssize_t n = -1;
    bool file = fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
    if (file)
        n = read(fd, text, sizeof text);
    close(fd);
    if (!file || (st.st_mode & S_IWOTH) || st.st_nlink > 1)
        return err_set(e, ERR_CONFIG, "reload",
                       "the pid file %s is no file, or anybody may write it, or it has another name (hard link)",
                       c->pid_file);
    *owner = st.st_uid;
    *pid = n > 0 ? output_pid_parse(text, (size_t)n) : -1;
    return *pid > 0 ? 0
                    : err_set(e, ERR_MALFORMED, "reload", "the first line of %s is no process's number", c->pid_file);
}

static bool may_signal(uid_t owner, pid_t pid)
{
    char path[32];
    struct stat st;
    snprintf(path, sizeof path, "/proc/%d", (int)pid);
    return owner == 0 || owner == geteuid() || (stat(path, &st) == 0 && st.st_uid == owner);
}

static int signal_send(const struct output_config *c, struct err *e)
{
    pid_t pid = -1;
    uid_t owner = (uid_t)-1;
    if (pid_read(c, &pid, &owner, e) < 0)
        return -1;
    int rc = 0, fd = pidfd_open(pid, 0);
    if (fd < 0)
        return err_errno(e, "reload", "no process %d, which %s names", (int)pid, c->pid_file);
    if (pid == getpid() || !may_signal(owner, pid))
        rc = err_set(e, ERR_CONFIG, "reload",
                     "%s belongs to user %u and names process %d, which is not that user's: not signalled",
                     c->pid_file, (unsigned)owner, (int)pid);
    else if (pidfd_send_signal(fd, c->signal, NULL, 0) < 0)
        rc = err_errno(e, "reload", "cannot send signal %d to process %d", c->signal, (int)pid);
    close(fd);
    return rc;
}

/* Both are tried, whatever the first comes to. */
int output_reload(const struct output_config *c, const char *spiffe_id, struct err *e)
{
    struct err second;
    int rc = c->reload && *c->reload ? hook_run(c, spiffe_id, e) : 0;
    if (!c->pid_file || !*c->pid_file || c->signal <= 0)
        return rc;
    if (signal_send(c, rc == 0 ? e : &second) < 0) {
        if (rc < 0)
            log_err(LOG_WARN, "signal after a rotation", &second);
        rc = -1;
    }
    return rc;
}
