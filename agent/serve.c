/* The daemon, as numbered steps. What it starts decides nothing of its own here; see daemon.h. */
#include "agent/handover.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/notify.h"
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#define SECURE_HEAP (256 * 1024)
#define ATTEST_THREADS 2
#define HOOK_THREADS 4 /* one that hangs delays no more than its own */
#define LAST_ANSWER_MS 2000 /* in the end: a join token that is being spent should not be lost, nor anybody wait long */

/* --- 1: memory and rights ------------------------------------------------------------------------------------------------- */

/* Each SVID's key takes a locked page; what the unit or the shell allows is taken whole. */
static int prepare_process(struct err *e)
{
    struct rlimit core = {0, 0}, lock;
    if (getrlimit(RLIMIT_MEMLOCK, &lock) == 0 && lock.rlim_cur < lock.rlim_max) {
        lock.rlim_cur = lock.rlim_max;
        setrlimit(RLIMIT_MEMLOCK, &lock);
    }
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    setrlimit(RLIMIT_CORE, &core);
    if (prctl(PR_SET_DUMPABLE, 0) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return err_errno(e, "confine", "cannot forbid core dumps, or new rights");
    signal(SIGPIPE, SIG_IGN);
    return key_secure_heap(SECURE_HEAP, e);
}

/* --- signals ------------------------------------------------------------------------------------------------------------------ */

static void on_end(evutil_socket_t sig, short what, void *arg)
{
    struct agent *a = arg;
    log_info("stopping", NULL);
    notify_say("STOPPING=1");
    a->ended = true;
    event_base_loopbreak(a->base);
}

/* A configuration that is refused changes nothing. */
static void on_reload(evutil_socket_t sig, short what, void *arg)
{
    struct agent *a = arg;
    a->reload = true;
    event_base_loopbreak(a->base);
}

/* Nobody listens while the threads end, which a hook can make long, nor until the program that is executed does: a
 * SIGHUP of that time would end us. Blocked it waits, for that program too, and what changed meanwhile is read. */
static void hold_hangup(bool hold)
{
    sigset_t s;
    sigemptyset(&s);
    sigaddset(&s, SIGHUP);
    pthread_sigmask(hold ? SIG_BLOCK : SIG_UNBLOCK, &s, NULL);
}

struct signals {
    struct event *term, *interrupt, *hangup;
};

static int signals_start(struct signals *s, struct agent *a, struct err *e)
{
    s->term = evsignal_new(a->base, SIGTERM, on_end, a);
    s->interrupt = evsignal_new(a->base, SIGINT, on_end, a);
    s->hangup = evsignal_new(a->base, SIGHUP, on_reload, a);
    if (!s->term || !s->interrupt || !s->hangup || evsignal_add(s->term, NULL) < 0 ||
        evsignal_add(s->interrupt, NULL) < 0 || evsignal_add(s->hangup, NULL) < 0)
        return err_set(e, ERR_INTERNAL, "event", "cannot wait for signals");
    hold_hangup(false);
    return 0;
}

static void signals_stop(struct signals *s)
{
    hold_hangup(true);
    struct event *const all[] = {s->term, s->interrupt, s->hangup};
    for (size_t i = 0; i < 3; i++)
        if (all[i])
            event_free(all[i]);
}

/* --- the parts --------------------------------------------------------------------------------------------------------------- */

static int start_parts(struct agent *a, struct err *e)
{
    if (!(a->post = post_new(a->base, e)) || !(a->authority = queue_new(a->post, 1, "the authority thread", e)) ||
        !(a->attestors = queue_new(a->post, ATTEST_THREADS, "an attesting thread", e)) ||
        !(a->writer = queue_new(a->post, 1, "the writing thread", e)) ||
        !(a->hooks = queue_new(a->post, HOOK_THREADS, "a thread for hooks", e)))
        return -1;
    if (entries_start(a, e) < 0 || bundle_start(a, e) < 0 || outputs_start(a, e) < 0 || health_start(a, e) < 0)
        return -1;
    if (a->api_fd < 0)
        a->api_fd = wl_socket_listen(a->config->socket_path, a->config->socket_mode, e);
    int fd = a->api_fd >= 0 ? fcntl(a->api_fd, F_DUPFD_CLOEXEC, 3) : -1; /* the server owns its own; this one is handed on */
    if (a->api_fd < 0)
        return -1;
    if (fd < 0)
        return err_errno(e, "socket", "cannot duplicate the socket");
    struct wl_provider p = provider_calls;
    p.arg = a;
    a->server = wl_server_new(a->base, fd, &p, NULL, e);
    return a->server ? 0 : -1;
}

static void stop_parts(struct agent *a)
{
    a->stopping = true;
    health_stop(a);
    wl_server_free(a->server);
    a->server = NULL;
    if (a->self.client)
        acme_client_stop(a->self.client, LAST_ANSWER_MS);
    queue_free(a->attestors);
    queue_free(a->authority);
    queue_free(a->writer);
    queue_free(a->hooks);
    post_free(a->post);
    outputs_stop(a);
    struct event *const events[] = {a->tick, a->timer, a->entries_timer, a->bundle_timer};
    for (size_t i = 0; i < sizeof events / sizeof *events; i++)
        if (events[i])
            event_free(events[i]);
}

static void drop_state(struct agent *a)
{
    identities_free(&a->identities);
    wl_bundles_unref(a->bundles);
    a->bundles = NULL;
}

/* The program anew, by its own path, which may hold another version: its descriptors are all it takes along. */
static int execute(struct agent *a, int handover, const struct agent_serve *o, struct err *e)
{
    union { /* execv changes nothing in it */
        const char *const *in;
        char *const *out;
    } argv = {.in = o->again};
    struct inherited out = {a->self.keep.fd, a->api_fd, a->http_fd, handover};
    notify_execute(o->again[0], argv.out, &out, e);
    return -1;
}

static bool config_good(const struct agent_serve *o)
{
    struct err e;
    struct agent_config *c = o->load(o->arg, &e);
    if (!c) {
        log_err(LOG_ERROR, "SIGHUP: the configuration is refused; the old one stays", &e);
        return false;
    }
    agent_config_free(c);
    return true;
}

/* Sockets of another path or address than now configured are not handed on. */
static void drop_other_sockets(struct agent *a, const struct agent_serve *o)
{
    struct err e;
    struct agent_config *c = o->load(o->arg, &e);
    if (!c)
        return;
    if (strcmp(c->socket_path, a->config->socket_path) != 0 || c->socket_mode != a->config->socket_mode) {
        unlink(a->config->socket_path);
        close(a->api_fd);
        a->api_fd = -1;
    }
    const char *was = a->config->http_path ? a->config->http_path : a->config->http_host ? a->config->http_host : "";
    const char *is = c->http_path ? c->http_path : c->http_host ? c->http_host : "";
    if (a->http_fd >= 0 && (strcmp(was, is) != 0 || c->http_port != a->config->http_port)) {
        close(a->http_fd);
        a->http_fd = -1;
    }
    agent_config_free(c);
}

/* Without what can not be handed over it is as a start is: all of it is obtained anew. */
static int reload(struct agent *a, struct handover *m, const struct agent_serve *o, struct err *e)
{
    struct err why;
    log_info("reloading", NULL);
    notify_say("RELOADING=1");
    drop_other_sockets(a, o);
    if (a->entries_known && handover_write(m, a, &why) < 0)
        log_err(LOG_WARN, "SVIDs can not be handed over; they are obtained anew", &why);
    drop_state(a);
    return execute(a, m->fd, o, e);
}

static int broken(struct err *e)
{
    return err_set(e, ERR_INTERNAL, "event", "the event loop failed");
}

static int loop(struct agent *a, const struct agent_serve *o, struct err *e)
{
    for (;;) {
        if (!a->reload && event_base_dispatch(a->base) < 0)
            return broken(e);
        if (a->ended || !a->reload)
            break;
        a->reload = false;
        bool good = config_good(o);
        /* A SIGTERM that came beside it, or since, is not to be lost: who breaks the loop is the last it calls. */
        if (event_base_loop(a->base, EVLOOP_NONBLOCK) < 0)
            return broken(e);
        a->reload = a->reload || good;
        if (good || a->ended)
            break;
    }
    a->reload = a->reload && !a->ended;
    return 0;
}

static int serve(struct agent *a, struct inherited *in, const struct agent_serve *o, struct err *e)
{
    struct signals signals = {0};
    struct handover over = {.fd = -1};
    struct handed handed = {0};
    struct err why;
    int keep = in->keep, http_fd = -1;
    if (in->handover >= 0 && handover_read(&handed, in->handover, &why) < 0)
        log_err(LOG_WARN, "what was handed over is of no use", &why);
    in->keep = in->handover = -1;
    a->own.spiffe_id = a->config->id;
    a->api_fd = in->api;
    a->http_fd = in->http;
    /* 3. what the agent is: trust, keys, a token */
    int rc = self_open(&a->self, a->config, keep, o->token, e);
    if (rc == 0)
        handover_take(a, &handed);
    handed_free(&handed);
    /* 4. the loop, the threads, the sockets */
    if (rc == 0 && !(a->base = event_base_new()))
        rc = err_set(e, ERR_INTERNAL, "event", "cannot make an event loop");
    if (rc == 0)
        rc = start_parts(a, e);
    if (rc == 0)
        rc = signals_start(&signals, a, e);
    if (rc == 0) {
        log_info("serving", "id", a->config->id, "socket", a->config->socket_path, "authority", a->config->server, NULL);
        /* 5. its own SVID, then everybody else's, until told to end */
        bool alive = self_alive(&a->self); /* from here on self is the authority thread's */
        engine_start(a);
        if (a->entries_known)
            outputs_entries(a);
        if (alive) {
            entries_poll(a);
            bundle_poll(a);
        }
        rc = loop(a, o, e);
    }
    /* 6. the way down; a reload keeps the sockets, the agent's own keys and what still serves */
    if (a->reload && a->http_fd >= 0)
        http_fd = fcntl(a->http_fd, F_DUPFD_CLOEXEC, 3); /* evhttp closes the other */
    signals_stop(&signals);
    stop_parts(a);
    a->http_fd = http_fd;
    if (rc == 0 && a->reload) {
        rc = reload(a, &over, o, e);
    } else if (a->api_fd >= 0) {
        unlink(a->config->socket_path);
    }
    handover_close(&over);
    drop_state(a);
    free(a->own.evidence);
    self_close(&a->self);
    if (a->base)
        event_base_free(a->base);
    return rc;
}

int agent_serve(const struct agent_serve *o, struct err *e)
{
    struct inherited in;
    struct agent a = {.http_fd = -1, .api_fd = -1};
    /* 1. memory and rights */
    hold_hangup(true);
    notify_inherit(&in);
    if (prepare_process(e) < 0)
        return -1;
    /* 2. configuration */
    struct agent_config *c = o->load(o->arg, e);
    if (!c)
        return -1;
    log_setup("mayfly-agent", c->log_level, c->log_format);
    a.config = c;
    int rc = serve(&a, &in, o, e);
    agent_config_free(c);
    return rc;
}
