/* The whole: makes everything, confines itself, serves, drains, ends. The first worker runs on the thread that called;
 * it also hears the agent, signals, and /metrics. */
#include "base/clock.h"
#include "base/notify.h"
#include "base/sandbox.h"
#include "proxy/internal.h"
#include "proxy/trust_parts.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define CHECK_S 1 /* how often our own certificate's end is looked at, and whether there is trouble left to tell */

struct creds *proxy_creds(struct proxy *p)
{
    pthread_mutex_lock(&p->lock);
    struct creds *c = p->creds;
    if (c)
        atomic_fetch_add(&c->refs, 1);
    pthread_mutex_unlock(&p->lock);
    return c;
}

static void wake_all(struct proxy *p)
{
    for (unsigned i = 0; i < p->threads; i++)
        worker_wake(&p->workers[i]);
}

/* --- identity comes ------------------------------------------------------------------------------------------------ */

/* Until when all listeners can serve; says which can not, and is silent with the next states, which may be many. */
static void listeners_look(struct proxy *p, const struct creds *c)
{
    int64_t expires = 0; /* none of them can */
    bool missing = false, news = !p->creds || p->trouble.code != ERR_NONE;
    for (size_t i = 0; i < p->n; i++) {
        const struct cred *own = creds_find(c, p->listeners[i].conf->id);
        if (!own && (news || creds_find(p->creds, p->listeners[i].conf->id)))
            log_warn("the agent gives no such identity: this listener refuses everybody", "listener", p->listeners[i].conf->name,
                     "id", p->listeners[i].conf->id, NULL);
        if (own && (own->not_after < expires || expires == 0))
            expires = own->not_after;
        missing |= !own;
    }
    atomic_store(&p->missing, missing);
    atomic_store(&p->m.expires, expires);
}

/* What listeners use, and of that what is new; all of it, when there was trouble before. */
static void identities_tell(const struct proxy *p, const struct creds *c, size_t given)
{
    char until[21];
    for (size_t i = 0; i < c->n; i++) {
        const struct cred *own = &c->list[i], *had = p->creds ? creds_find(p->creds, own->id) : NULL;
        if (had && p->trouble.code == ERR_NONE &&
            X509_cmp(SSL_CTX_get0_certificate(had->ctx), SSL_CTX_get0_certificate(own->ctx)) == 0)
            continue;
        clock_rfc3339(until, own->not_after);
        log_info("identity", "id", own->id, "until", until, "identities", log_num((long long)given), NULL);
    }
}

/* New handshakes use what came; established connections go on as they are. */
static void on_state(void *arg, struct wl_state *s)
{
    struct proxy *p = arg;
    struct err e = {0};
    struct creds *c = creds_new(s, p->conf, clock_wall(), &e), *old;
    if (!c) {
        atomic_fetch_add(&p->m.troubles, 1);
        p->trouble = p->told = e;
        log_err(LOG_ERROR, "what the agent gave cannot be used; the last good identity is kept", &e);
        return;
    }
    identities_tell(p, c, s->n);
    listeners_look(p, c);
    atomic_fetch_add(&p->m.rotations, 1);
    atomic_store(&p->expired_said, false);
    err_clear(&p->trouble);
    err_clear(&p->told);
    pthread_mutex_lock(&p->lock);
    old = p->creds;
    p->creds = c;
    pthread_mutex_unlock(&p->lock);
    creds_unref(old);
    for (unsigned i = 0; i < p->threads; i++)
        atomic_store(&p->workers[i].want_review, true);
    wake_all(p);
}

/* What differs for whoever reads it: the agent has one rule for all that it answers. */
static bool same_trouble(const struct err *a, const struct err *b)
{
    return a->code == b->code && strcmp(a->rule, b->rule) == 0 && strcmp(a->msg, b->msg) == 0;
}

static bool may_tell(struct proxy *p)
{
    int64_t now = clock_mono_ms();
    while (p->tellings < TELLINGS && now - p->telling_ms >= p->tell_again_ms) {
        p->tellings++;
        p->telling_ms += p->tell_again_ms;
    }
    if (p->tellings == 0)
        return false;
    if (p->tellings-- == TELLINGS)
        p->telling_ms = now;
    return true;
}

/* Once for each trouble, not with each attempt; two that take turns do not fill the log. What was not told when it came
 * is told later (on_check), if it is still what troubles us. */
static void trouble_tell(struct proxy *p)
{
    struct err said = p->trouble;
    if (said.code == ERR_NONE || same_trouble(&said, &p->told) || !may_tell(p))
        return;
    p->told = said;
    if (said.code == ERR_UNAUTHORIZED && strcmp(said.rule, "workload-status") == 0) /* not a folder's, whose SVID is none */
        err_set(&said, p->told.code, "workload-status",
                "%.300s; register an entry with selectors that this process has: the agent's log names them", p->told.msg);
    log_err(LOG_WARN, p->creds ? "no news from the agent; the last identity is kept" : "no identity from the agent yet", &said);
}

static void on_trouble(void *arg, const struct err *e)
{
    struct proxy *p = arg;
    atomic_fetch_add(&p->m.troubles, 1);
    p->trouble = *e;
    trouble_tell(p);
}

bool proxy_ready(struct proxy *p, const char **why)
{
    int64_t expires = atomic_load(&p->m.expires);
    *why = atomic_load(&p->draining)   ? "draining"
           : atomic_load(&p->missing)  ? "the agent gives no identity for one of the listeners"
           : expires == 0              ? "no identity from the agent yet"
           : clock_wall() > expires    ? "our certificate has expired"
                                       : NULL;
    return !*why;
}

static void on_check(int fd, short what, void *arg)
{
    struct proxy *p = arg;
    int64_t expires = atomic_load(&p->m.expires);
    char at[21];
    trouble_tell(p);
    if (!expires || clock_wall() <= expires || atomic_exchange(&p->expired_said, true))
        return;
    clock_rfc3339(at, expires);
    log_error("our certificate has expired and no new one came: new connections are refused until the agent gives one",
              "expired", at, "trouble", p->trouble.msg, NULL);
}

/* --- draining ------------------------------------------------------------------------------------------------------- */

static void stop_all(struct proxy *p)
{
    for (unsigned i = 0; i < p->threads; i++)
        atomic_store(&p->workers[i].want_stop, true);
    wake_all(p);
}

static void on_drain_over(int fd, short what, void *arg)
{
    struct proxy *p = arg;
    log_warn("draining took too long: the connections that are left are closed", "drain_timeout",
             log_num(p->conf->drain_timeout), NULL);
    stop_all(p);
}

static void drain(struct proxy *p)
{
    for (unsigned i = 0; i < p->threads; i++)
        atomic_store(&p->workers[i].want_drain, true);
    wake_all(p);
}

void proxy_stop(struct proxy *p)
{
    if (!atomic_exchange(&p->draining, true))
        drain(p);
    else
        stop_all(p);
}

static void on_signal(int sig, short what, void *arg)
{
    struct proxy *p = arg;
    const struct timeval t = {p->conf->drain_timeout, 0};
    bool again = atomic_load(&p->draining);
    log_info(again ? "told again: ending at once" : "draining", "signal", sig == SIGTERM ? "TERM" : "INT", NULL);
    notify_say("STOPPING=1");
    proxy_stop(p);
    if (!again && event_add(p->drain_timer, &t) < 0)
        stop_all(p);
}

/* Who reloads other proxies sends this. It would end us, and every connection with us. */
static void on_hangup(int sig, short what, void *arg)
{
    struct proxy *p = arg;
    log_info("nothing is reloaded: identities renew by themselves, and a changed configuration needs a restart (SIGTERM drains)",
             "signal", "HUP", NULL);
    if (p->source->look)
        p->source->look(p->source);
}

/* --- making --------------------------------------------------------------------------------------------------------- */

static unsigned threads_of(const struct proxy_conf *c)
{
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    if (c->threads)
        return c->threads;
    return n <= 2 ? 1 : n / 2 > PROXY_THREADS_MAX ? PROXY_THREADS_MAX : (unsigned)(n / 2);
}

static int listener_make(struct proxy *p, struct listener *l, const struct proxy_listener_conf *conf, struct err *e)
{
    l->conf = conf;
    pthread_mutex_init(&l->lock, NULL);
    if (address_parse(&l->to, conf->to, e) < 0 || (l->target = resolver_add(p->resolver, &l->to, e)) < 0)
        return -1;
    if (conf->sni)
        snprintf(l->sni, sizeof l->sni, "%s", conf->sni);
    else if (!address_is_unix(&l->to) && l->to.host[strspn(l->to.host, "0123456789.")] && !strchr(l->to.host, ':'))
        snprintf(l->sni, sizeof l->sni, "%s", l->to.host); /* a name, no address */
    if (conf->max_per_address && !(l->per_address = address_count_new()))
        return err_set(e, ERR_INTERNAL, "memory", "out of memory");
    return 0;
}

/* A TCP port has a socket for each worker, and the kernel spreads connections. A Unix socket is shared, by a descriptor
 * for each: were it one, whoever closes it first would give its number to connections while the others still watch it. */
static int listener_open(struct proxy *p, struct listener *l, struct err *e)
{
    struct address a;
    int fd = -1;
    if (address_parse(&a, l->conf->listen, e) < 0)
        return -1;
    bool shared = address_is_unix(&a);
    for (unsigned i = 0; i < p->threads; i++) {
        struct worker *w = &p->workers[i];
        if (i > 0 && shared)
            fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        else if ((fd = address_listen(&a, p->threads > 1, l->conf->mode_bits, e)) < 0)
            return err_wrap(e, "listener %s", l->conf->name);
        if (fd < 0)
            return err_errno(e, "listen", "listener %s", l->conf->name);
        if (worker_open(w, &w->doors[w->doors_count++], l, fd, e) < 0)
            return -1;
    }
    return 0;
}

static int make_workers(struct proxy *p, struct err *e)
{
    p->threads = threads_of(p->conf);
    p->workers = calloc(p->threads, sizeof *p->workers);
    if (!p->workers)
        return err_set(e, ERR_INTERNAL, "memory", "out of memory");
    for (unsigned i = 0; i < p->threads; i++)
        p->workers[i].wake_fd = -1;
    for (unsigned i = 0; i < p->threads; i++)
        if (worker_init(&p->workers[i], p, i, e) < 0)
            return -1;
    return 0;
}

static int make_events(struct proxy *p, struct err *e)
{
    const struct timeval check = {CHECK_S, 0};
    struct event_base *base = p->workers[0].base;
    p->term = evsignal_new(base, SIGTERM, on_signal, p);
    p->intr = evsignal_new(base, SIGINT, on_signal, p);
    p->hup = evsignal_new(base, SIGHUP, on_hangup, p);
    p->drain_timer = event_new(base, -1, 0, on_drain_over, p);
    p->check = event_new(base, -1, EV_PERSIST, on_check, p);
    if (!p->term || !p->intr || !p->hup || !p->drain_timer || !p->check || event_add(p->check, &check) < 0)
        return err_set(e, ERR_INTERNAL, "event", "out of memory");
    return 0;
}

static struct source *source_of(void *arg, struct event_base *base, const struct source_ops *ops, struct err *e)
{
    const struct proxy_conf *c = arg;
    const char *env = getenv("SPIFFE_ENDPOINT_SOCKET");
    if (c->identity)
        return source_folder(base, c->identity, ops, e);
    return source_workload(base, c->socket ? c->socket : env && *env ? env : PROXY_SOCKET_DEFAULT, ops, e);
}

struct proxy *proxy_new(const struct proxy_conf *c, proxy_source_cb *make_source, void *arg, struct err *e)
{
    struct proxy *p = calloc(1, sizeof *p);
    if (!p) {
        err_set(e, ERR_INTERNAL, "memory", "out of memory");
        return NULL;
    }
    p->conf = c;
    atomic_init(&p->key_records, KEY_RECORDS);
    p->tellings = TELLINGS;
    p->tell_again_ms = TELL_AGAIN_MS;
    atomic_init(&p->patience, PATIENCE_MS);
    atomic_init(&p->patience_silent, PATIENCE_SILENT_MS);
    pthread_mutex_init(&p->lock, NULL);
    const struct source_ops ops = {.arg = p, .state = on_state, .trouble = on_trouble};
    int rc = handshake_setup(e) < 0 || metrics_init(&p->m, c->metrics_peers, e) < 0 || !(p->resolver = resolver_new(e)) ||
                     make_workers(p, e) < 0
                 ? -1
                 : 0;
    if (rc == 0 && !(p->listeners = calloc(c->n, sizeof *p->listeners)))
        rc = err_set(e, ERR_INTERNAL, "memory", "out of memory");
    for (size_t i = 0; rc == 0 && i < c->n; i++) {
        p->n++;
        rc = listener_make(p, &p->listeners[i], &c->listeners[i], e);
    }
    for (size_t i = 0; rc == 0 && i < p->n; i++)
        rc = listener_open(p, &p->listeners[i], e);
    if (rc == 0)
        rc = make_events(p, e);
    if (rc == 0 && c->http && *c->http && !(p->http = http_new(p, p->workers[0].base, c->http, e)))
        rc = -1;
    if (rc == 0) {
        p->source = make_source ? make_source(arg, p->workers[0].base, &ops, e) : source_of((void *)(uintptr_t)c, p->workers[0].base, &ops, e);
        rc = p->source ? 0 : -1;
    }
    if (rc == 0)
        return p;
    proxy_free(p);
    return NULL;
}

int proxy_serve(struct proxy *p, struct err *e)
{
    if (resolver_start(p->resolver, e) < 0)
        return -1;
    for (unsigned i = 1; i < p->threads; i++)
        if (worker_start(&p->workers[i], e) < 0) {
            stop_all(p);
            return -1;
        }
    event_base_dispatch(p->workers[0].base);
    return 0;
}

static void join_all(struct proxy *p)
{
    for (unsigned i = 1; p->workers && i < p->threads; i++)
        if (p->workers[i].started)
            pthread_join(p->workers[i].thread, NULL);
}

void proxy_free(struct proxy *p)
{
    if (!p)
        return;
    join_all(p);
    if (p->source)
        p->source->stop(p->source);
    http_free(p->http);
    struct event *const events[] = {p->term, p->intr, p->hup, p->drain_timer, p->check};
    for (size_t i = 0; i < sizeof events / sizeof *events; i++)
        if (events[i])
            event_free(events[i]);
    for (unsigned i = 0; p->workers && i < p->threads; i++)
        worker_free(&p->workers[i]);
    resolver_free(p->resolver);
    for (size_t i = 0; i < p->n; i++) {
        free(p->listeners[i].per_address);
        pthread_mutex_destroy(&p->listeners[i].lock);
    }
    creds_unref(p->creds);
    metrics_free(&p->m);
    free(p->listeners);
    free(p->workers);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

/* --- running -------------------------------------------------------------------------------------------------------- */

/* As many descriptors as the system lets us have: two for each connection. */
static void raise_descriptors(void)
{
    struct rlimit l;
    if (getrlimit(RLIMIT_NOFILE, &l) < 0 || l.rlim_cur >= l.rlim_max)
        return;
    l.rlim_cur = l.rlim_max;
    setrlimit(RLIMIT_NOFILE, &l);
}

/* Who resolves names reads /etc/hosts, /etc/resolv.conf and others for as long as it runs. They are replaced by renaming,
 * and Landlock allows files, not names: the folders must be open, or the first change of the network ends resolving.
 * Where all addresses are literal or Unix sockets, nothing of that is. */
static int confine(const struct proxy *p, struct err *e)
{
    const char *identity = p->conf->identity;
    const struct sandbox_path paths[] = {
        {identity ? identity : "/dev/null", false, true},
        {"/etc", false, true},
        {"/run/systemd/resolve", false, true},
        {"/run/NetworkManager", false, true},
        {"/run/resolvconf", false, true},
    };
    return sandbox_enter(SANDBOX_PROXY, paths, resolver_names(p->resolver) ? sizeof paths / sizeof *paths : 1, e);
}

int proxy_run(const struct proxy_conf *c, struct err *e)
{
    raise_descriptors();
    signal(SIGPIPE, SIG_IGN);
    struct proxy *p = proxy_new(c, NULL, NULL, e);
    if (!p)
        return -1;
    int rc = confine(p, e);
    event_add(p->term, NULL);
    event_add(p->intr, NULL);
    event_add(p->hup, NULL);
    for (size_t i = 0; rc == 0 && i < p->n; i++)
        log_info(c->listeners[i].mode == PROXY_SERVER ? "server" : "client", "listen", c->listeners[i].listen, "to",
                 c->listeners[i].to, "threads", log_num(p->threads), NULL);
    if (rc == 0) {
        notify_say("READY=1"); /* whoever connects waits in the kernel's queue until there is an identity */
        rc = proxy_serve(p, e);
    }
    proxy_free(p);
    if (rc == 0)
        log_info("ended", NULL);
    return rc;
}
