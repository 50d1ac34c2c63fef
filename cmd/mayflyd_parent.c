/* The parent: reads the configuration, binds the sockets, starts and restarts the signer, the frontend
 * and, where witnesses are configured, the notary, and holds no secret. Children are fork + exec of this same program, so neither inherits
 * the other's memory and PKCS#11 modules never see a fork. The sockets stay open here, so that
 * connections wait in their queues while a child is away. */
#include "base/clock.h"
#include "base/log.h"
#include "cmd/mayflyd.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define BACKOFF_MIN_MS 100
#define BACKOFF_MAX_MS 2000
#define STEADY_MS 5000 /* a child that lived this long starts with no backoff again */
#define STOP_MS 10000  /* a child that does not drain within this is killed */

enum { CHILD_SIGNER, CHILD_FRONTEND, CHILD_NOTARY, CHILDREN };

struct child {
    const char *role;
    pid_t pid;           /* 0: not running */
    int64_t started, next_start;
    unsigned backoff_ms;
    int ready;           /* eventfd: the child writes to it when it serves */
    bool served;         /* one of its starts came so far: what ends for good later ends no daemon */
    bool spare;          /* the daemon goes on without it */
    bool held;           /* ended in a way that another start can not mend; SIGHUP tries again */
};
struct parent {
    const char *config_path;
    struct config *config; /* owned */
    struct user_ids user[CHILDREN]; /* (uid_t)-1: stay who you are */
    struct mayflyd_sockets sockets;
    struct child child[CHILDREN];
    bool accept_clock_back; /* said to the signer until one has served */
    bool accept_older_store; /* said to the frontend until one has served */
    bool follow; /* the frontend is restarted when the signer serves */
    pid_t pid;
    int signals; /* signalfd */
};

/* --- children --------------------------------------------------------------------------------- */

static void exec_failed(const char *role, const char *what)
{
    log_error("cannot start a process", "role", role, "what", what, "why", strerror(errno), NULL);
    _exit(EXIT_CRASH);
}

/* In the child: descriptor `from` becomes `to`, open across exec. */
static void pass_fd(const char *role, int from, int to)
{
    if (dup2(from, to) < 0)
        exec_failed(role, "dup2");
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

static void pass_fds(const struct parent *p, int which)
{
    const struct child *c = &p->child[which];
    pass_fd(c->role, c->ready, FD_READY);
    if (which == CHILD_SIGNER) {
        int pin_fd = p->config->token.pin_fd;
        pass_fd(c->role, p->sockets.signer_listen, FD_SIGNER_LISTEN);
        pass_fd(c->role, p->sockets.notary_listen, FD_NOTARY_LISTEN);
        close_others((const int[]){FD_READY, FD_SIGNER_LISTEN, FD_NOTARY_LISTEN, pin_fd}, 4);
        if (pin_fd >= 0)
            fcntl(pin_fd, F_SETFD, 0);
    } else if (which == CHILD_NOTARY) {
        close_others((const int[]){FD_READY}, 1);
    } else {
        pass_fd(c->role, p->sockets.public_listen, FD_PUBLIC_LISTEN);
        pass_fd(c->role, p->sockets.admin_listen, FD_ADMIN_LISTEN);
        close_others((const int[]){FD_READY, FD_PUBLIC_LISTEN, FD_ADMIN_LISTEN}, 3);
    }
}

/* A process group of its own: a terminal's Ctrl-C reaches the parent alone, which lets the frontend
 * drain into the signer before it stops that. A terminal that stops background writers does not. */
static void stand_alone(const struct parent *p)
{
    sigset_t none;
    sigemptyset(&none);
    setpgid(0, 0);
    signal(SIGTTOU, SIG_IGN);
    prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0);
    if (getppid() != p->pid) /* it died before the line above */
        _exit(EXIT_CRASH);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static void exec_child(struct parent *p, int which)
{
    stand_alone(p);
    pass_fds(p, which);
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
    char self[64], peer[64], notary[64];
    const struct user_ids *u = &p->user[which];
    uid_t peer_uid = which != CHILD_SIGNER || u->uid == (uid_t)-1 ? geteuid()
                                                                    : p->user[CHILD_FRONTEND].uid;
    snprintf(self, sizeof self, "%lu:%lu", (unsigned long)u->uid, (unsigned long)u->gid);
    snprintf(peer, sizeof peer, "%lu:%lu", (unsigned long)peer_uid, (unsigned long)getegid());
    snprintf(notary, sizeof notary, "%lu:%lu",
             (unsigned long)(u->uid == (uid_t)-1 ? geteuid() : p->user[CHILD_NOTARY].uid), (unsigned long)getegid());
    bool unserved = !p->child[which].served;
    char *last[3] = {NULL};
    size_t k = 0;
    if (unserved)
        last[k++] = (char *)(uintptr_t)"--first-start";
    if (which == CHILD_SIGNER && unserved && p->accept_clock_back)
        last[k] = (char *)(uintptr_t)"--accept-clock-back";
    if (which == CHILD_FRONTEND && unserved && p->accept_older_store)
        last[k] = (char *)(uintptr_t)"--accept-older-store";
    char *argv[] = {(char *)(uintptr_t)"mayflyd", (char *)(uintptr_t)"--role",
                    (char *)(uintptr_t)p->child[which].role, (char *)(uintptr_t)"--config",
                    (char *)(uintptr_t)p->config_path, (char *)(uintptr_t)"--self", self,
                    (char *)(uintptr_t)"--peer", peer, (char *)(uintptr_t)"--notary", notary, last[0], last[1], NULL};
    execve("/proc/self/exe", argv, env);
    exec_failed(p->child[which].role, "execve");
}

/* Whether the child said since its start that it serves. */
static bool take_ready(struct child *c)
{
    uint64_t n;
    bool ready = read(c->ready, &n, sizeof n) == (ssize_t)sizeof n;
    c->served |= ready;
    return ready;
}

static void start_child(struct parent *p, int which)
{
    struct child *c = &p->child[which];
    take_ready(c); /* what an earlier one said is not this one's word */
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
    if (which == CHILD_FRONTEND)
        p->follow = false; /* it read the configuration as it is now */
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
    take_ready(c);
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
    if (!c->served && !c->spare) /* nothing was served yet that reads could go on for */
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

/* As root: it is a process of its own, so it has a user of its own. */
static bool notary_unnamed(const struct config *c, struct err *e)
{
    if (geteuid() != 0 || c->witnesses.count == 0 || *c->notary_user)
        return false;
    err_set(e, ERR_CONFIG, "run-user",
            "witnesses are configured, but run.notary_user is not: name a third user (or uid:gid pair), of nothing else, "
            "for the process that asks them");
    return true;
}

/* SIGHUP: the new configuration must be whole and keep what the open sockets stand for. */
static const char *needs_restart(const struct config *old, const struct config *new)
{
    if (strcmp(new->listen_host, old->listen_host) != 0 || new->listen_port != old->listen_port)
        return "listen";
    if (strcmp(new->run_dir, old->run_dir) != 0)
        return "run.dir";
    if (strcmp(new->signer_user, old->signer_user) != 0)
        return "run.signer_user";
    if (strcmp(new->frontend_user, old->frontend_user) != 0)
        return "run.frontend_user";
    if (strcmp(new->notary_user, old->notary_user) != 0)
        return "run.notary_user";
    return new->token.pin_fd != old->token.pin_fd ? "token.pin.fd" : NULL;
}

static struct config *load_again(const struct parent *p)
{
    struct err e = {0};
    struct config *new = config_load(p->config_path, &e);
    const char *key = new ? needs_restart(p->config, new) : NULL;
    if (key) {
        err_set(&e, ERR_CONFIG, "reload", "%s changed, which needs a full restart of mayflyd", key);
        config_free(new);
        new = NULL;
    }
    if (new && notary_unnamed(new, &e)) {
        config_free(new);
        new = NULL;
    }
    if (!new)
        log_err(LOG_ERROR, "configuration not reloaded; the old one stays", &e);
    return new;
}

static void restart(struct parent *p, int which)
{
    struct child *c = &p->child[which];
    stop_child(c);
    c->backoff_ms = 0;
    c->held = false;
    start_child(p, which);
}

/* The notary has no socket of its own, so nobody waits for it. */
static void reload_notary(struct parent *p)
{
    struct child *c = &p->child[CHILD_NOTARY];
    stop_child(c);
    c->backoff_ms = 0;
    c->next_start = 0;
    c->held = p->config->witnesses.count == 0;
}

/* The signer first. The frontend follows when that serves: a configuration that the signer cannot
 * start with costs no reads. */
static void reload(struct parent *p)
{
    struct config *new = load_again(p);
    if (!new)
        return;
    config_free(p->config);
    p->config = new;
    log_setup("mayflyd", new->log_level, new->log_format);
    log_info("reloading: the signer starts again, then the frontend; connections wait", NULL);
    reload_notary(p);
    restart(p, CHILD_SIGNER);
    if (p->child[CHILD_FRONTEND].pid)
        p->follow = true;
    else
        restart(p, CHILD_FRONTEND);
}

/* --- the loop --------------------------------------------------------------------------------- */

/* Starts whose time has come; returns how long until the next. */
static int64_t start_due(struct parent *p)
{
    int64_t now = clock_mono_ms(), wait = 3600000;
    for (int i = 0; i < CHILDREN; i++) {
        struct child *c = &p->child[i];
        if (!c->pid && !c->held && c->next_start <= now)
            start_child(p, i);
        if (!c->pid && !c->held && c->next_start - now < wait)
            wait = c->next_start - now;
    }
    return wait > 0 ? wait : 0;
}

/* Returns EXIT_OK when asked to stop, or -1. */
static int take_signals(struct parent *p)
{
    struct signalfd_siginfo s;
    while (read(p->signals, &s, sizeof s) == (ssize_t)sizeof s) {
        if (s.ssi_signo == SIGTERM || s.ssi_signo == SIGINT)
            return EXIT_OK;
        if (s.ssi_signo == SIGHUP)
            reload(p);
    }
    return -1;
}

static int parent_loop(struct parent *p)
{
    int exit_code = -1;
    while (exit_code < 0) {
        int64_t wait = start_due(p);
        struct pollfd fds[] = {{.fd = p->signals, .events = POLLIN},
                               {.fd = p->child[CHILD_SIGNER].ready, .events = POLLIN},
                               {.fd = p->child[CHILD_FRONTEND].ready, .events = POLLIN}};
        poll(fds, sizeof fds / sizeof *fds, (int)wait);
        exit_code = take_signals(p);
        if (take_ready(&p->child[CHILD_SIGNER]) && p->follow && exit_code < 0)
            restart(p, CHILD_FRONTEND);
        take_ready(&p->child[CHILD_FRONTEND]);
        reap(p, exit_code < 0 ? &exit_code : &(int){0});
    }
    log_info("stopping", NULL);
    for (int i = CHILDREN - 1; i >= 0; i--) /* the frontend first: it drains into the signer */
        stop_child(&p->child[i]);
    return exit_code;
}

/* --- start ------------------------------------------------------------------------------------ */

static int resolve_users(const struct config *c, struct user_ids user[CHILDREN], struct err *e)
{
    for (int i = 0; i < CHILDREN; i++)
        user[i] = (struct user_ids){(uid_t)-1, (gid_t)-1};
    if (geteuid() != 0)
        return 0;
    if (!*c->signer_user || !*c->frontend_user)
        return err_set(e, ERR_CONFIG, "run-user",
                       "started as root, but run.signer_user and run.frontend_user are not both set: "
                       "name two users (or uid:gid pairs) for the processes to run as");
    if (notary_unnamed(c, e))
        return -1;
    const char *const names[CHILDREN] = {
        [CHILD_SIGNER] = c->signer_user, [CHILD_FRONTEND] = c->frontend_user, [CHILD_NOTARY] = c->notary_user};
    return user_resolve_all(names, user, CHILDREN, e);
}

int parent_check_users(const struct config *c, struct err *e)
{
    struct user_ids user[CHILDREN];
    return resolve_users(c, user, e);
}

/* Before anything is opened here: a descriptor that nobody passed must not become one of ours. */
static int check_pin_fd(const struct config *c, struct err *e)
{
    if (c->token.pin_fd >= 0 && fcntl(c->token.pin_fd, F_GETFD) < 0)
        return err_set(e, ERR_CONFIG, "pin-fd",
                       "token.pin.fd names descriptor %d, which nobody passed: start mayflyd with it open, "
                       "e.g. mayflyd %d<FILE",
                       c->token.pin_fd, c->token.pin_fd);
    return 0;
}

static int open_events(struct parent *p, struct err *e)
{
    sigset_t signals;
    sigemptyset(&signals);
    for (size_t i = 0; i < 4; i++)
        sigaddset(&signals, (const int[]){SIGTERM, SIGINT, SIGHUP, SIGCHLD}[i]);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    if ((p->signals = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK)) < 0)
        return err_errno(e, "signals", "cannot make a signalfd");
    for (int i = 0; i < CHILDREN; i++)
        if ((p->child[i].ready = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0)
            return err_errno(e, "signals", "cannot make an eventfd");
    return sockets_move_up(&p->child[CHILD_SIGNER].ready, e) < 0 ||
                   sockets_move_up(&p->child[CHILD_FRONTEND].ready, e) < 0 ||
                   sockets_move_up(&p->child[CHILD_NOTARY].ready, e) < 0
               ? -1
               : sockets_move_up(&p->signals, e);
}

int parent_run(const struct mayflyd_role_args *a, struct config *config)
{
    struct parent p = {.config_path = a->config_path, .config = config, .pid = getpid(),
                       .accept_clock_back = a->accept_clock_back,
                       .accept_older_store = a->accept_older_store,
                       .child = {{.role = "signer"},
                                 {.role = "frontend"},
                                 {.role = "notary", .spare = true, .held = config->witnesses.count == 0}}};
    struct err e = {0};
    umask(022);
    signal(SIGPIPE, SIG_IGN); /* standard error may be a pipe whose reader goes away */
    signal(SIGCHLD, SIG_DFL); /* ignored, as some starters leave it, nothing could be waited for */
    log_setup("mayflyd", config->log_level, config->log_format);
    if (check_pin_fd(config, &e) < 0 || resolve_users(config, p.user, &e) < 0 || open_events(&p, &e) < 0 ||
        sockets_open(&p.sockets, config, p.user[CHILD_FRONTEND].uid, p.user[CHILD_NOTARY].uid, &e) < 0) {
        log_err(LOG_ERROR, "cannot start", &e);
        config_free(config);
        return mayflyd_exit_code(&e);
    }
    log_info("mayflyd " MAYFLY_VERSION, "trust_domain", config->trust_domain, "url", config->external_url, NULL);
    int code = parent_loop(&p);
    sockets_unlink(p.config);
    log_info("stopped", NULL);
    config_free(p.config);
    return code;
}
