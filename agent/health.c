/* /live, /ready and /metrics, for this machine alone: libevent's HTTP server with everything bounded, GET only. */
#include "agent/daemon.h"
#include "base/clock.h"
#include "base/log.h"
#include <arpa/inet.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/listener.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define HEADERS_MAX 8192
#define TIMEOUT_S 10
#define LISTENER_FLAGS (LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_CLOSE_ON_FREE)

/* --- how it is ------------------------------------------------------------------------------------------------------------- */

static bool late(const struct identity *i, int64_t wall)
{
    bool has = i->is_self ? i->until_ms > wall : i->svid != NULL;
    return !has || renew_overdue(i->from_ms, i->until_ms, wall);
}

bool health_ready(struct agent *a, char *why, size_t cap)
{
    int64_t wall = clock_wall_ms();
    if (a->own.until_ms <= wall) {
        snprintf(why, cap, "the agent has no SVID of its own%s%.300s", a->own.last.code ? ": " : "",
                 a->own.last.code ? a->own.last.msg : "");
        return false;
    }
    if (late(&a->own, wall)) {
        snprintf(why, cap, "the agent's own SVID is past renewal: %.300s", a->own.last.msg);
        return false;
    }
    if (!a->entries_known || !a->bundles) {
        snprintf(why, cap, "the list of entries or the bundle is not there yet");
        return false;
    }
    for (size_t k = 0; k < a->identities.n; k++) {
        const struct identity *i = a->identities.list[k];
        if (i->wanted == 0 || !i->tried || !late(i, wall))
            continue;
        snprintf(why, cap, "%.200s is %s: %.300s", i->spiffe_id, i->svid ? "past renewal" : "wanted and not there",
                 i->last.code ? i->last.msg : "no answer yet");
        return false;
    }
    return outputs_ready(a, why, cap);
}

/* --- metrics (Prometheus' text format, 0.0.4) ---------------------------------------------------------------------------------- */

static void gauge(struct buf *b, const char *name, const char *help, double v)
{
    buf_fmt(b, "# HELP mayfly_agent_%s %s\n# TYPE mayfly_agent_%s gauge\nmayfly_agent_%s %.15g\n", name, help, name, name, v);
}

static void counter(struct buf *b, const char *name, const char *help, uint64_t v)
{
    buf_fmt(b, "# HELP mayfly_agent_%s %s\n# TYPE mayfly_agent_%s counter\nmayfly_agent_%s %llu\n", name, help, name, name,
            (unsigned long long)v);
}

static void outcomes(struct buf *b, const char *name, const char *help, uint64_t ok, uint64_t failed)
{
    buf_fmt(b, "# HELP mayfly_agent_%s %s\n# TYPE mayfly_agent_%s counter\n", name, help, name);
    buf_fmt(b, "mayfly_agent_%s{outcome=\"ok\"} %llu\nmayfly_agent_%s{outcome=\"failed\"} %llu\n", name,
            (unsigned long long)ok, name, (unsigned long long)failed);
}

static void identities(const struct agent *a, struct buf *b)
{
    int64_t wall = clock_wall_ms(), least = a->own.until_ms - wall;
    size_t held = 0, wanted = 0, overdue = 0;
    for (size_t k = 0; k < a->identities.n; k++) {
        const struct identity *i = a->identities.list[k];
        held += i->svid != NULL;
        wanted += i->wanted > 0;
        overdue += i->wanted > 0 && ((i->tried && late(i, wall)) || outputs_overdue(a, i));
        if (i->svid && i->wanted > 0 && i->until_ms - wall < least)
            least = i->until_ms - wall;
    }
    gauge(b, "entries", "Entries whose parent is this agent.", (double)a->identities.n);
    gauge(b, "identities", "SVIDs held.", (double)held);
    gauge(b, "identities_wanted", "Identities that somebody wants now.", (double)wanted);
    gauge(b, "identities_overdue", "Wanted identities without an SVID, or past renewal; also of a JWT-SVID in files.",
          (double)overdue);
    gauge(b, "own_expiry_seconds", "Until the agent's own SVID expires.",
          a->own.until_ms > wall ? (double)(a->own.until_ms - wall) / 1000 : 0);
    gauge(b, "least_expiry_seconds", "Until the first SVID expires, the agent's own among them.",
          least > 0 ? (double)least / 1000 : 0);
}

static void reasons(const struct agent *a, struct buf *b)
{
    buf_str(b, "# HELP mayfly_agent_failures_total What failed, by rule.\n# TYPE mayfly_agent_failures_total counter\n");
    for (size_t i = 0; i < REASONS_MAX && a->reasons[i].n > 0; i++)
        buf_fmt(b, "mayfly_agent_failures_total{rule=\"%s\"} %llu\n", a->reasons[i].rule,
                (unsigned long long)a->reasons[i].n);
}

static void health_metrics(struct agent *a, struct buf *out)
{
    const struct counters *c = &a->counters;
    struct wl_stats w = {0};
    if (a->server)
        wl_server_stats(a->server, &w);
    gauge(out, "authority_reachable", "1: the last request to the authority was answered.", a->reachable);
    gauge(out, "entries_age_seconds", "Since the list of entries was last known to be true.",
          a->entries_known ? (double)(clock_mono_ms() - a->entries_at_ms) / 1000 : -1);
    identities(a, out);
    outcomes(out, "renewals_total", "Renewals of SVIDs.", c->renewals_ok, c->renewals_failed);
    outcomes(out, "issued_total", "First SVIDs of an identity.", c->new_ok, c->new_failed);
    outcomes(out, "jwt_svids_total", "JWT-SVIDs fetched.", c->jwt_ok, c->jwt_failed);
    outcomes(out, "jwt_validated_total", "JWT-SVIDs validated.", c->jwt_validated, c->jwt_refused);
    outcomes(out, "entry_polls_total", "Questions for the list of entries.", c->entries_ok, c->entries_failed);
    outcomes(out, "attestations_total", "Callers attested by the kernel.", c->attested, c->attest_failed);
    counter(out, "attestation_microseconds_total", "Time that attestations took.", (uint64_t)c->attest_us_sum);
    gauge(out, "attestation_microseconds_max", "The longest.", (double)c->attest_us_max);
    outcomes(out, "file_sets_total", "Sets of files written, and hooks of them that failed.", c->reloads - c->reload_failed,
             c->reload_failed);
    gauge(out, "file_sets", "Sets of files that stand.", (double)outputs_written(a));
    counter(out, "pushes_total", "States sent on streams.", c->pushes);
    counter(out, "denied_total", "Calls that ended with PermissionDenied.", c->denied);
    counter(out, "connections_total", "Connections to the Workload API.", w.connections);
    counter(out, "calls_total", "Calls of the Workload API.", w.calls);
    counter(out, "refused_total", "Calls and connections refused for their form or number.", w.refused);
    gauge(out, "connections", "Connections open.", w.open_connections);
    gauge(out, "streams", "Calls open.", w.open_calls);
    gauge(out, "queue", "Tasks waiting for the authority's thread.", (double)queue_waiting(a->authority));
    reasons(a, out);
}

/* --- HTTP ---------------------------------------------------------------------------------------------------------------------- */

static void answer(struct evhttp_request *r, int status, const char *type, const char *text, size_t len)
{
    struct evbuffer *b = evbuffer_new();
    if (b)
        evbuffer_add(b, text, len);
    evhttp_add_header(evhttp_request_get_output_headers(r), "Content-Type", type);
    evhttp_add_header(evhttp_request_get_output_headers(r), "Cache-Control", "no-store");
    evhttp_send_reply(r, status, status == 200 ? "OK" : "Service Unavailable", b);
    if (b)
        evbuffer_free(b);
}

static void on_live(struct evhttp_request *r, void *arg)
{
    answer(r, 200, "text/plain", "ok\n", 3);
}

static void on_ready(struct evhttp_request *r, void *arg)
{
    char why[900] = "ready", text[960];
    bool ready = health_ready(arg, why, sizeof why);
    int n = snprintf(text, sizeof text, "%s%s\n", ready ? "" : "not ready: ", why);
    answer(r, ready ? 200 : 503, "text/plain", text, (size_t)n);
}

static void on_metrics(struct evhttp_request *r, void *arg)
{
    struct buf b;
    buf_init(&b, 65536);
    health_metrics(arg, &b);
    answer(r, b.failed ? 503 : 200, "text/plain; version=0.0.4", b.failed ? "" : (const char *)b.p, b.failed ? 0 : b.len);
    buf_free(&b);
}

static int listen_unix(const char *path, struct err *e)
{
    return wl_socket_listen(path, 0660, e);
}

static int listen_tcp(const struct agent_config *c, struct err *e)
{
    struct sockaddr_in a4 = {.sin_family = AF_INET, .sin_port = htons(c->http_port)};
    struct sockaddr_in6 a6 = {.sin6_family = AF_INET6, .sin6_port = htons(c->http_port), .sin6_addr = in6addr_loopback};
    bool four = inet_pton(AF_INET, c->http_host, &a4.sin_addr) == 1;
    int on = 1, fd = socket(four ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (fd < 0 || (four ? bind(fd, (struct sockaddr *)&a4, sizeof a4) : bind(fd, (struct sockaddr *)&a6, sizeof a6)) < 0 ||
        listen(fd, 64) < 0) {
        err_errno(e, "http-listen",
                  "cannot listen on %s port %u for /live, /ready and /metrics (--http or http: gives another address, \"\" none)",
                  c->http_host, (unsigned)c->http_port);
        if (fd >= 0)
            close(fd);
        return -1;
    }
    return fd;
}

/* Out of descriptors: the listener stays readable, and looking at once again would only burn time. The tick does. */
static void on_accept_error(struct evconnlistener *listener, void *arg)
{
    evconnlistener_disable(listener);
}

void health_tick(struct agent *a)
{
    if (a->http_listener)
        evconnlistener_enable(a->http_listener);
}

int health_start(struct agent *a, struct err *e)
{
    const struct agent_config *c = a->config;
    if (!c->http_host && !c->http_path) {
        if (a->http_fd >= 0)
            close(a->http_fd);
        a->http_fd = -1;
        return 0;
    }
    if (a->http_fd < 0)
        a->http_fd = c->http_path ? listen_unix(c->http_path, e) : listen_tcp(c, e);
    if (a->http_fd < 0)
        return -1;
    fcntl(a->http_fd, F_SETFL, fcntl(a->http_fd, F_GETFL) | O_NONBLOCK);
    a->http = evhttp_new(a->base);
    /* evhttp makes its own such listener of a socket, with no say in errors */
    a->http_listener = a->http ? evconnlistener_new(a->base, NULL, NULL, LISTENER_FLAGS, 0, a->http_fd) : NULL;
    if (!a->http_listener || !evhttp_bind_listener(a->http, a->http_listener))
        return err_set(e, ERR_INTERNAL, "http-listen", "http: out of memory");
    evconnlistener_set_error_cb(a->http_listener, on_accept_error);
    evhttp_set_allowed_methods(a->http, EVHTTP_REQ_GET);
    evhttp_set_max_headers_size(a->http, HEADERS_MAX);
    evhttp_set_max_body_size(a->http, 0);
    evhttp_set_timeout(a->http, TIMEOUT_S);
    evhttp_set_cb(a->http, "/live", on_live, a);
    evhttp_set_cb(a->http, "/ready", on_ready, a);
    evhttp_set_cb(a->http, "/metrics", on_metrics, a);
    return 0;
}

/* The socket goes with it, unless somebody duplicated it before. */
void health_stop(struct agent *a)
{
    if (a->http)
        evhttp_free(a->http);
    a->http = NULL;
    a->http_listener = NULL;
}
