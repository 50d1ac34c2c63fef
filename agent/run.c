/* The coordinator of `mayfly-agent run`, on one thread and one event loop:
 *
 *   1 a folder in memory; signals taken by descriptor
 *   2 the agent gives a state (on_state), and a JWT where wanted (on_jwt)
 *   3 the set is written (renew); the first time the program is started
 *   4 each later state that differs: written again, the program told or started again
 *   5 the program ends: its status is ours; the folder is removed
 *
 * Writing a set blocks the loop. It is written to memory, and there is nobody else to serve.
 */
#include "agent/run_parts.h"
#include "base/clock.h"
#include "base/log.h"
#include <errno.h>
#include <event2/event.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define JWT_RETRY_MS 2000
#define JWT_MAX 65536
#define WRITE_RETRY_MS 2000

struct running {
    const struct run_config *c;
    struct event_base *base;
    struct wl_client *client;
    struct event *signals, *first, *grace, *jwt_again, *write_again;
    int signal_fd;
    struct run_folder folder;
    struct wl_state *state;   /* as last heard, if it has our SVID; owned reference */
    struct wl_state *written; /* as it lies in the folder; owned reference */
    struct secret jwt;
    bool jwt_asked;
    pid_t program;            /* 0: not running */
    bool started, restarting; /* restarting: told to end, to be started again */
    bool told_to_end;         /* by a signal that we passed on: not started again */
    bool away;                /* a line about the agent was logged */
    struct err trouble;       /* why there is no identity yet */
    bool failed;
    int status;
    struct err *e;
};

static void finish(struct running *r)
{
    event_base_loopbreak(r->base);
}

static void fail(struct running *r)
{
    r->failed = true;
    finish(r);
}

static void after(struct event *ev, unsigned ms)
{
    const struct timeval t = {.tv_sec = ms / 1000, .tv_usec = (suseconds_t)(ms % 1000) * 1000};
    event_add(ev, &t);
}

/* --- the program ---------------------------------------------------------------------------------------- */

static void start(struct running *r)
{
    pid_t pid = run_spawn(r->c->argv, &r->status, r->e);
    if (pid < 0) {
        fail(r);
        return;
    }
    r->program = pid;
    r->started = true;
    r->restarting = false;
}

static void tell_program(struct running *r)
{
    if (r->program == 0 || r->restarting || r->c->rotate == RUN_NOTHING)
        return;
    if (r->c->rotate == RUN_SIGNAL) {
        kill(r->program, r->c->signal);
        return;
    }
    log_info("new identity: starting the program again", "program", r->c->argv[0], NULL);
    r->restarting = true;
    kill(r->program, SIGTERM);
    kill(r->program, SIGCONT); /* a stopped one could not end */
    after(r->grace, r->c->grace_ms);
}

static void on_grace(evutil_socket_t fd, short what, void *arg)
{
    struct running *r = arg;
    if (r->program > 0 && r->restarting) {
        log_warn("the program did not end in time and is killed", "program", r->c->argv[0], NULL);
        kill(r->program, SIGKILL);
    }
}

static void program_ended(struct running *r, int w)
{
    r->program = 0;
    event_del(r->grace);
    if (r->restarting && !r->told_to_end) {
        start(r);
        return;
    }
    r->status = run_exit_status(w);
    finish(r);
}

/* All that may be waited for: as a container's first process we are also the parent of whoever lost his own. */
static void reap(struct running *r)
{
    int w;
    pid_t pid;
    while ((pid = waitpid(-1, &w, WNOHANG | WUNTRACED)) > 0) {
        if (pid != r->program)
            continue;
        if (WIFSTOPPED(w))
            run_stop_too(WSTOPSIG(w));
        else
            program_ended(r, w);
    }
}

static bool ends(int signo)
{
    return signo == SIGTERM || signo == SIGINT || signo == SIGHUP || signo == SIGQUIT;
}

static void on_signal(evutil_socket_t fd, short what, void *arg)
{
    struct running *r = arg;
    struct signalfd_siginfo s;
    while (read(r->signal_fd, &s, sizeof s) == sizeof s) {
        int signo = (int)s.ssi_signo;
        if (signo == SIGCHLD) {
            reap(r);
            continue;
        }
        if (!r->started && ends(signo)) { /* still waiting for an identity; later the status is the program's */
            r->status = 128 + signo;
            finish(r);
            return;
        }
        r->told_to_end = r->told_to_end || signo == SIGTERM || signo == SIGINT || signo == SIGQUIT;
        if (r->program > 0 && (run_forwards(&s, r->program) || signo == SIGCONT))
            kill(r->program, signo);
    }
}

/* --- the identity --------------------------------------------------------------------------------------- */

static void keep(struct wl_state **slot, struct wl_state *s)
{
    wl_state_ref(s);
    wl_state_unref(*slot);
    *slot = s;
}

/* The first set that cannot be written ends us: the program would have none. A later one leaves the old, and is tried
 * again: the next identity may come when the old one is over. */
static void write_failed(struct running *r, const struct err *e)
{
    if (!r->started) {
        *r->e = *e;
        fail(r);
        return;
    }
    log_err(LOG_ERROR, "the new identity was not written; the program keeps the old one", e);
    after(r->write_again, WRITE_RETRY_MS);
}

static int write_set(struct running *r, const struct wl_svid *svid, struct err *e)
{
    const struct output_config out = {
        .dir = r->folder.path, .uid = (uid_t)-1, .gid = (gid_t)-1, .mode = 0600, .combined = true};
    struct run_set x;
    if (run_set_make(&x, r->state, svid, (struct bytes){r->jwt.p, r->jwt.len}, e) < 0)
        return -1;
    int rc = output_write(&out, &x.set, e);
    run_set_free(&x);
    return rc;
}

/* All that is wanted is there: written, and the program started or told. Of a new JWT it is not told: it reads one when
 * it needs one. */
static void renew(struct running *r)
{
    struct err e;
    if (!r->state)
        return;
    struct wl_svid *svid = run_pick(r->state, r->c->spiffe_id, &e);
    if (!svid || (r->c->audience_count > 0 && !r->jwt.p))
        return;
    bool rotated = run_changed(r->written, r->state, r->c->spiffe_id);
    if (write_set(r, svid, &e) < 0) {
        write_failed(r, &e);
        return;
    }
    event_del(r->write_again);
    keep(&r->written, r->state);
    if (r->started) {
        if (rotated)
            tell_program(r);
        return;
    }
    event_del(r->first);
    start(r);
}

static void ask_jwt(struct running *r);

static void on_jwt(void *arg, const struct wl_jwt *list, size_t n, enum wl_status status, const struct err *e)
{
    struct running *r = arg;
    struct err why;
    r->jwt_asked = false;
    size_t len = n > 0 ? strlen(list[0].svid) : 0;
    struct secret next = {0};
    if (status != WL_OK || len == 0 || len > JWT_MAX || secret_new(&next, len, &why) < 0) {
        if (e)
            r->trouble = *e;
        after(r->jwt_again, JWT_RETRY_MS);
        return;
    }
    memcpy(next.p, list[0].svid, len);
    next.len = len;
    secret_free(&r->jwt);
    r->jwt = next;
    after(r->jwt_again, run_jwt_half(list[0].svid, len, clock_wall()));
    renew(r);
}

static void ask_jwt(struct running *r)
{
    struct err e;
    struct wl_svid *svid = r->state ? run_pick(r->state, r->c->spiffe_id, &e) : NULL;
    if (!svid || r->jwt_asked || r->c->audience_count == 0)
        return;
    r->jwt_asked = true;
    if (wl_client_jwt(r->client, r->c->audience, r->c->audience_count, svid->spiffe_id, on_jwt, r, &e) < 0) {
        r->jwt_asked = false;
        r->trouble = e;
        after(r->jwt_again, JWT_RETRY_MS);
    }
}

static void on_write_again(evutil_socket_t fd, short what, void *arg)
{
    renew(arg);
}

static void on_jwt_again(evutil_socket_t fd, short what, void *arg)
{
    ask_jwt(arg);
}

static void say_back(struct running *r)
{
    if (r->away && r->started)
        log_info("the agent answers again", "agent", r->c->endpoint, NULL);
    r->away = false;
}

static void on_state(void *arg, struct wl_state *s)
{
    struct running *r = arg;
    struct err e;
    const struct wl_svid *svid = run_pick(s, r->c->spiffe_id, &e);
    if (!svid) {
        r->trouble = e;
        if (!r->away)
            log_err(LOG_WARN, r->started ? "the program goes on with what it has" : "waiting for an identity", &e);
        r->away = true;
        return;
    }
    say_back(r);
    bool rotated = run_changed(r->written, s, r->c->spiffe_id);
    if (r->state && strcmp(run_pick(r->state, r->c->spiffe_id, &e)->spiffe_id, svid->spiffe_id) != 0)
        secret_free(&r->jwt); /* of the identity before */
    keep(&r->state, s);
    if (r->c->audience_count > 0 && !r->jwt.p)
        ask_jwt(r);
    else if (rotated)
        renew(r);
}

/* --- the agent away ------------------------------------------------------------------------------------- */

/* What the system says of it, without the client's words around. */
static const char *reason_of(const struct err *e)
{
    const char *colon = strrchr(e->msg, ':');
    return colon && colon[1] == ' ' ? colon + 2 : e->msg;
}

static void describe(const struct running *r, enum wl_status status, const struct err *why, struct err *e)
{
    if (status == WL_PERMISSION_DENIED)
        err_set(e, ERR_UNAUTHORIZED, "run-identity",
                "the agent at %s has no identity for this process (user %u): register an entry with a selector it has, "
                "as unix:uid:%u (mayfly entry create --selector)",
                r->c->endpoint, (unsigned)geteuid(), (unsigned)geteuid());
    else if (strcmp(why->rule, "workload-connect") == 0)
        err_set(e, ERR_UNAVAILABLE, "run-agent", "no agent answers at %s: is 'mayfly-agent serve' running? (%.100s)",
                r->c->endpoint, reason_of(why));
    else
        err_set(e, ERR_UNAVAILABLE, "run-agent", "the agent at %s: %.300s", r->c->endpoint, why->msg);
}

static void on_trouble(void *arg, enum wl_status status, const struct err *why)
{
    struct running *r = arg;
    struct err e;
    char until[21] = "";
    describe(r, status, why, &r->trouble);
    if (r->away)
        return;
    r->away = true;
    if (!r->started) {
        log_err(LOG_WARN, "waiting for an identity", &r->trouble);
        return;
    }
    const struct wl_svid *svid = run_pick(r->written, r->c->spiffe_id, &e);
    if (svid)
        clock_rfc3339(until, svid->not_after);
    log_warn("the agent is away; the program goes on with what it has", "agent", r->c->endpoint, "valid_until", until,
             "reason", r->trouble.msg, NULL);
}

static void on_first(evutil_socket_t fd, short what, void *arg)
{
    struct running *r = arg;
    *r->e = r->trouble;
    if (r->trouble.code == ERR_NONE)
        err_set(r->e, ERR_UNAVAILABLE, "run-timeout", "the agent at %s gave no identity", r->c->endpoint);
    err_wrap(r->e, "after %u s", (r->c->timeout_ms + 999) / 1000);
    fail(r);
}

/* --- the whole -------------------------------------------------------------------------------------------- */

static int set_up(struct running *r)
{
    const struct wl_client_ops ops = {r, on_state, on_trouble};
    sigset_t taken;
    if (run_folder_open(&r->folder, r->c->dir, r->e) < 0)
        return -1;
    run_environment(r->folder.path, r->c->audience_count > 0, r->c->endpoint);
    run_signals(&taken);
    sigprocmask(SIG_BLOCK, &taken, NULL);
    r->signal_fd = signalfd(-1, &taken, SFD_CLOEXEC | SFD_NONBLOCK);
    r->base = event_base_new();
    if (r->signal_fd < 0 || !r->base)
        return err_errno(r->e, "run-loop", "no event loop");
    r->signals = event_new(r->base, r->signal_fd, EV_READ | EV_PERSIST, on_signal, r);
    r->first = event_new(r->base, -1, 0, on_first, r);
    r->grace = event_new(r->base, -1, 0, on_grace, r);
    r->jwt_again = event_new(r->base, -1, 0, on_jwt_again, r);
    r->write_again = event_new(r->base, -1, 0, on_write_again, r);
    if (!r->signals || !r->first || !r->grace || !r->jwt_again || !r->write_again || event_add(r->signals, NULL) < 0)
        return err_set(r->e, ERR_INTERNAL, "memory", "out of memory");
    after(r->first, r->c->timeout_ms);
    r->client = wl_client_new(r->base, r->c->endpoint, false, &ops, r->e);
    return r->client ? 0 : -1;
}

static void event_drop(struct event *ev)
{
    if (ev)
        event_free(ev);
}

/* A program that could not be started again is gone already; one that runs when we fail is told to end. */
static void tear_down(struct running *r)
{
    if (r->program > 0)
        kill(r->program, SIGTERM);
    wl_client_free(r->client);
    event_drop(r->signals);
    event_drop(r->first);
    event_drop(r->grace);
    event_drop(r->jwt_again);
    event_drop(r->write_again);
    if (r->base)
        event_base_free(r->base);
    if (r->signal_fd >= 0)
        close(r->signal_fd);
    wl_state_unref(r->state);
    wl_state_unref(r->written);
    secret_free(&r->jwt);
    run_folder_close(&r->folder);
}

int run(const struct run_config *c, int *status, struct err *e)
{
    struct running r = {.c = c, .signal_fd = -1, .folder = {.fd = -1}, .e = e};
    *status = 0;
    if (set_up(&r) < 0)
        r.failed = true;
    else
        event_base_dispatch(r.base);
    tear_down(&r);
    *status = r.status;
    return r.failed ? -1 : 0;
}
