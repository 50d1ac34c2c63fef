/* The parent: reads the configuration, binds the sockets, starts and restarts the signer and the
 * frontend, and holds no secret. Children are fork + exec of this same program, so neither inherits
 * the other's memory and PKCS#11 modules never see a fork. The sockets stay open here, so that
 * connections wait in their queues while a child is away. */
#include "base/clock.h"
#include "base/fileio.h"
#include "base/ipc.h"
#include "base/log.h"
#include "cmd/mayflyd.h"
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <netdb.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define BACKOFF_MIN_MS 100
#define BACKOFF_MAX_MS 2000
#define STEADY_MS 5000  /* a child that lived this long starts with no backoff again */
#define START_MS 60000 /* what ends for good within this of the first start ends the daemon */
#define STOP_MS 10000   /* a child that does not drain within this is killed */

enum { CHILD_SIGNER, CHILD_FRONTEND, CHILDREN };

struct child {
    const char *role;
    pid_t pid;           /* 0: not running */
    int64_t started, next_start;
    unsigned backoff_ms;
    bool held;           /* ended in a way that another start can not mend; SIGHUP tries again */
    bool ran;            /* was started before */
};
struct parent {
    const char *config_path;
    struct config *config; /* owned */
    struct mayflyd_user user[CHILDREN];
    int signer_listen, public_listen, admin_listen, lock;
    struct child child[CHILDREN];
};

/* --- users ------------------------------------------------------------------------------------ */

static int resolve_user(const char *name, struct mayflyd_user *u, struct err *e)
{
    *u = (struct mayflyd_user){(uid_t)-1, (gid_t)-1};
    if (geteuid() != 0)
        return 0;
    if (!*name)
        return err_set(e, ERR_CONFIG, "run-user",
                       "started as root, but run.signer_user and run.frontend_user are not both set: "
                       "name two users (or uid:gid pairs) for the processes to run as");
    char *end;
    unsigned long uid = strtoul(name, &end, 10);
    if (*end == ':' && end != name) {
        u->uid = (uid_t)uid;
        u->gid = (gid_t)strtoul(end + 1, &end, 10);
        if (*end == 0 && u->uid != 0)
            return 0;
    }
    struct passwd *pw = getpwnam(name);
    if (!pw || pw->pw_uid == 0)
        return err_set(e, ERR_CONFIG, "run-user", "user \"%s\" %s", name,
                       pw ? "is root: name one without privileges" : "does not exist");
    u->uid = pw->pw_uid;
    u->gid = pw->pw_gid;
    return 0;
}

/* --- sockets ---------------------------------------------------------------------------------- */

static int bind_public(const struct config *c, struct err *e)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_PASSIVE | AI_NUMERICHOST | AI_NUMERICSERV}, *ai;
    char port[8];
    snprintf(port, sizeof port, "%u", c->listen_port);
    int rc = getaddrinfo(c->listen_host, port, &hints, &ai);
    if (rc != 0)
        return err_set(e, ERR_CONFIG, "listen", "listen: %s: %s", c->listen_host, gai_strerror(rc));
    int one = 1;
    int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0 ||
        bind(fd, ai->ai_addr, ai->ai_addrlen) < 0 || listen(fd, 1024) < 0) {
        err_errno(e, "listen", "cannot listen on %s:%s (is another daemon running there?)",
                  c->listen_host, port);
        e->code = ERR_CONFIG;
        if (fd >= 0)
            close(fd);
        fd = -1;
    }
    freeaddrinfo(ai);
    return fd;
}

static int bind_admin(const char *path, struct err *e)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof sa.sun_path)
        return err_set(e, ERR_CONFIG, "run-dir", "%s: path too long for a Unix socket; set run.dir", path);
    strcpy(sa.sun_path, path);
    unlink(path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    mode_t old = umask(0177);
    int rc = fd < 0 ? -1 : bind(fd, (struct sockaddr *)&sa, sizeof sa);
    umask(old);
    if (rc < 0 || listen(fd, 64) < 0) {
        err_errno(e, "admin-socket", "cannot listen on %s", path);
        if (fd >= 0)
            close(fd);
        return -1;
    }
    return fd;
}

/* One daemon a directory: the lock lives as long as the parent. */
static int lock_run_dir(const struct config *c, struct err *e)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/mayflyd.lock", c->run_dir);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return err_errno(e, "run-dir", "cannot open %s", path);
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        close(fd);
        return err_set(e, ERR_EXISTS, "running", "another mayflyd runs this authority (%s is locked)", path);
    }
    return fd;
}

static int open_sockets(struct parent *p, struct err *e)
{
    const struct config *c = p->config;
    char path[4096];
    if (file_mkdirs(c->run_dir, 0755, e) < 0 || (p->lock = lock_run_dir(c, e)) < 0)
        return -1;
    if ((p->public_listen = bind_public(c, e)) < 0)
        return -1;
    config_signer_socket(c, path, sizeof path);
    if ((p->signer_listen = ipc_listen(path, 0600, e)) < 0)
        return -1;
    /* Connecting needs write permission; the signer looks at the peer's uid besides. */
    if (geteuid() == 0 && chown(path, p->user[CHILD_FRONTEND].uid, (gid_t)-1) < 0)
        return err_errno(e, "run-dir", "cannot hand %s to the frontend's user", path);
    config_admin_socket(c, path, sizeof path);
    p->admin_listen = bind_admin(path, e);
    return p->admin_listen < 0 ? -1 : 0;
}

/* --- children --------------------------------------------------------------------------------- */

/* In the child: descriptor `from` becomes `to`, open across exec. */
static void pass_fd(int from, int to)
{
    if (dup2(from, to) < 0)
        _exit(EXIT_CRASH);
}

/* A child finds the standard three, what is passed to it, and (the signer) the PIN's descriptor. */
static void close_others(const int *passed, size_t n)
{
    for (int fd = 3; fd < 1024; fd++) {
        bool keep = false;
        for (size_t i = 0; i < n; i++)
            keep |= passed[i] == fd;
        if (!keep)
            close(fd);
    }
}

static void exec_child(struct parent *p, int which)
{
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (which == CHILD_SIGNER) {
        int pin_fd = p->config->token.pin_fd;
        pass_fd(p->signer_listen, FD_SIGNER_LISTEN);
        close_others((const int[]){FD_SIGNER_LISTEN, pin_fd}, 2);
        if (pin_fd >= 0)
            fcntl(pin_fd, F_SETFD, 0);
    } else {
        pass_fd(p->public_listen, FD_PUBLIC_LISTEN);
        pass_fd(p->admin_listen, FD_ADMIN_LISTEN);
        close_others((const int[]){FD_PUBLIC_LISTEN, FD_ADMIN_LISTEN}, 2);
    }
    /* Children get a small environment: the signer what its credential needs, both what the
     * sanitizers and the fault points of test builds read. */
    static const char *const keep[] = {"PATH", "LANG", "LC_ALL", "TZ", "ASAN_OPTIONS", "TSAN_OPTIONS",
                                       "UBSAN_OPTIONS", "LSAN_OPTIONS", "LLVM_PROFILE_FILE",
#ifdef MAYFLY_FAULTS
                                       "MAYFLY_FAULT_FILE", "MAYFLY_CLOCK_OFFSET_FILE",
#endif
                                       "CREDENTIALS_DIRECTORY"};
    char *env[16];
    size_t n = 0;
    for (size_t i = 0; i < sizeof keep / sizeof *keep; i++) {
        const char *v = getenv(keep[i]);
        if (!v || (which != CHILD_SIGNER && strcmp(keep[i], "CREDENTIALS_DIRECTORY") == 0))
            continue;
        if (asprintf(&env[n], "%s=%s", keep[i], v) > 0)
            n++;
    }
    env[n] = NULL;
    char self[64], peer[64];
    const struct mayflyd_user *u = &p->user[which];
    uid_t peer_uid = which == CHILD_FRONTEND || u->uid == (uid_t)-1 ? geteuid()
                                                                      : p->user[CHILD_FRONTEND].uid;
    snprintf(self, sizeof self, "%lu:%lu", (unsigned long)u->uid, (unsigned long)u->gid);
    snprintf(peer, sizeof peer, "%lu:%lu", (unsigned long)peer_uid, (unsigned long)getegid());
    const char *first = p->child[which].ran ? NULL : "--first-start";
    char *argv[] = {(char *)(uintptr_t)"mayflyd", (char *)(uintptr_t)"--role",
                    (char *)(uintptr_t)p->child[which].role, (char *)(uintptr_t)"--config",
                    (char *)(uintptr_t)p->config_path, (char *)(uintptr_t)"--self", self,
                    (char *)(uintptr_t)"--peer", peer, (char *)(uintptr_t)first, NULL};
    execve("/proc/self/exe", argv, env);
    _exit(EXIT_CRASH);
}

static void start_child(struct parent *p, int which)
{
    struct child *c = &p->child[which];
    pid_t pid = fork();
    if (pid == 0)
        exec_child(p, which);
    int64_t now = clock_mono_ms();
    if (pid < 0) {
        struct err e = {0};
        err_errno(&e, "fork", "cannot start the %s", c->role);
        log_err(LOG_ERROR, "will try again", &e);
        c->next_start = now + BACKOFF_MAX_MS;
        return;
    }
    c->pid = pid;
    c->started = now;
    c->ran = true;
    log_info("started", "role", c->role, "pid", log_num(pid), NULL);
}

static const char *describe_end(int status, char dst[64])
{
    if (WIFSIGNALED(status))
        snprintf(dst, 64, "signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
    else
        snprintf(dst, 64, "exit status %d", WEXITSTATUS(status));
    return dst;
}

/* A child ended without being asked to. Returns an exit code for the whole daemon, or -1 to go on. */
static int child_ended(struct child *c, int status)
{
    char how[64];
    int64_t now = clock_mono_ms();
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_CRASH;
    bool final = code == EXIT_FATAL || code == EXIT_BAD_PIN || code == EXIT_BAD_USE;
    /* At its start, not in service: nothing was served yet that reads could go on for. */
    bool first = c->next_start == 0 && now - c->started < START_MS;
    if (now - c->started >= STEADY_MS)
        c->backoff_ms = 0;
    c->backoff_ms = c->backoff_ms ? c->backoff_ms * 2 : BACKOFF_MIN_MS;
    if (c->backoff_ms > BACKOFF_MAX_MS)
        c->backoff_ms = BACKOFF_MAX_MS;
    c->next_start = now + c->backoff_ms;
    log_warn("a process ended", "role", c->role, "how", describe_end(status, how), "next",
             final ? "none" : "restart", "in_ms", final ? "" : log_num(c->backoff_ms), NULL);
    if (!final)
        return -1;
    if (first)
        return code;
    c->held = true;
    log_error("will not be started again by itself: mend what its last line says, then send SIGHUP",
              "role", c->role, NULL);
    return -1;
}

static void reap(struct parent *p, int *exit_code)
{
    int status;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
        for (int i = 0; i < CHILDREN; i++) {
            if (p->child[i].pid != pid)
                continue;
            p->child[i].pid = 0;
            int code = child_ended(&p->child[i], status);
            if (code >= 0 && *exit_code < 0)
                *exit_code = code;
        }
    }
}

/* SIGTERM, then SIGKILL when it does not drain in time. */
static void stop_child(struct child *c)
{
    if (!c->pid)
        return;
    kill(c->pid, SIGTERM);
    int64_t deadline = clock_mono_ms() + STOP_MS;
    sigset_t chld;
    sigemptyset(&chld);
    sigaddset(&chld, SIGCHLD);
    int status = 0;
    while (waitpid(c->pid, &status, WNOHANG) == 0) {
        int64_t left = deadline - clock_mono_ms();
        if (left <= 0) {
            log_warn("did not stop in time; killed", "role", c->role, NULL);
            kill(c->pid, SIGKILL);
            waitpid(c->pid, &status, 0);
            break;
        }
        struct timespec ts = {left / 1000, left % 1000 * 1000000};
        sigtimedwait(&chld, NULL, &ts);
    }
    c->pid = 0;
}

/* SIGHUP: the new configuration must be whole and keep what the open sockets stand for. */
static void reload(struct parent *p)
{
    struct err e = {0};
    struct config *new = config_load(p->config_path, &e);
    if (!new) {
        log_err(LOG_ERROR, "configuration not reloaded; the old one stays", &e);
        return;
    }
    if (strcmp(new->listen_host, p->config->listen_host) != 0 ||
        new->listen_port != p->config->listen_port || strcmp(new->run_dir, p->config->run_dir) != 0)
        log_warn("listen and run.dir change only with a full restart", NULL);
    config_free(p->config);
    p->config = new;
    log_setup("mayflyd", new->log_level, new->log_format);
    log_info("reloading: restarting both processes; connections wait", NULL);
    for (int i = CHILDREN - 1; i >= 0; i--) {
        stop_child(&p->child[i]);
        p->child[i].backoff_ms = 0;
        p->child[i].held = false;
    }
    for (int i = 0; i < CHILDREN; i++)
        start_child(p, i);
}

static int parent_loop(struct parent *p, const sigset_t *signals)
{
    int exit_code = -1;
    while (exit_code < 0) {
        int64_t now = clock_mono_ms(), wait = 3600000;
        for (int i = 0; i < CHILDREN; i++) {
            struct child *c = &p->child[i];
            if (c->pid || c->held)
                continue;
            if (c->next_start <= now)
                start_child(p, i);
            else if (c->next_start - now < wait)
                wait = c->next_start - now;
        }
        struct timespec ts = {wait / 1000, wait % 1000 * 1000000};
        int sig = sigtimedwait(signals, NULL, &ts);
        if (sig == SIGTERM || sig == SIGINT)
            exit_code = EXIT_OK;
        else if (sig == SIGHUP)
            reload(p);
        reap(p, exit_code < 0 ? &exit_code : &(int){0});
    }
    log_info("stopping", NULL);
    for (int i = CHILDREN - 1; i >= 0; i--) /* the frontend first: it drains into the signer */
        stop_child(&p->child[i]);
    return exit_code;
}

static int move_up(int *fd)
{
    int high = fcntl(*fd, F_DUPFD_CLOEXEC, FD_PARENT_MIN);
    if (high < 0)
        return -1;
    close(*fd);
    *fd = high;
    return 0;
}

int parent_run(const char *config_path, struct config *config)
{
    struct parent p = {.config_path = config_path, .config = config,
                       .child = {{.role = "signer"}, {.role = "frontend"}}};
    struct err e = {0};
    log_setup("mayflyd", config->log_level, config->log_format);
    sigset_t signals;
    sigemptyset(&signals);
    for (size_t i = 0; i < 4; i++)
        sigaddset(&signals, (const int[]){SIGTERM, SIGINT, SIGHUP, SIGCHLD}[i]);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    if (resolve_user(config->signer_user, &p.user[CHILD_SIGNER], &e) < 0 ||
        resolve_user(config->frontend_user, &p.user[CHILD_FRONTEND], &e) < 0 ||
        open_sockets(&p, &e) < 0) {
        log_err(LOG_ERROR, "cannot start", &e);
        return mayflyd_exit_code(&e);
    }
    if (move_up(&p.signer_listen) < 0 || move_up(&p.public_listen) < 0 || move_up(&p.admin_listen) < 0)
        return EXIT_CRASH;
    log_info("mayflyd " MAYFLY_VERSION, "trust_domain", config->trust_domain, "url", config->external_url, NULL);
    int code = parent_loop(&p, &signals);
    char path[4096];
    config_signer_socket(p.config, path, sizeof path);
    unlink(path);
    config_admin_socket(p.config, path, sizeof path);
    unlink(path);
    log_info("stopped", NULL);
    config_free(p.config);
    return code;
}
