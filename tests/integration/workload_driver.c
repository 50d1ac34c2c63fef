/* An agent without an authority: the Workload API's server, the kernel's attestation of who connects, and SVIDs of an
 * issuer that lives in this process. For `mayfly-agent run` before the real one, and for what a test must decide.
 *
 *   workload_driver SOCKET SELECTOR SPIFFE-ID...
 *
 * Who has the selector gets the identities; who has not, PermissionDenied. Commands on standard input: "rotate",
 * answered by the first identity's new serial; "revoke": nobody has one any more.
 */
#include "agent/attestor.h"
#include "base/clock.h"
#include "base/log.h"
#include "tests/integration/issuer.h"
#include "workload/workload.h"
#include <event2/event.h>
#include <signal.h>
#include <unistd.h>

#define IDS_MAX 8
#define CALLS_MAX 64

static struct {
    struct event_base *base;
    struct authority authority;
    char *selector;
    char **ids;
    size_t n;
    struct wl_state *state;
    struct watcher {
        struct wl_call *call; /* NULL: free */
        bool allowed;
    } watchers[CALLS_MAX];
} agent;

static struct wl_svid *svid(const char *id, char serial[64])
{
    struct issued i;
    struct wl_svid *s = calloc(1, sizeof *s);
    issue(&i, &agent.authority, id);
    s->refs = 1;
    s->spiffe_id = strdup(id);
    s->hint = strdup("");
    s->chain = i.chain.p;
    s->chain_len = i.chain.len;
    s->key = i.key;
    s->not_after = clock_wall() + 3600;
    memcpy(serial, i.serial, 64);
    return s;
}

static void rotate(bool none)
{
    char serial[64] = "none", other[64];
    struct wl_state *s = calloc(1, sizeof *s);
    s->refs = 1;
    s->svids = calloc(IDS_MAX, sizeof *s->svids);
    for (size_t i = 0; i < agent.n && !none; i++)
        s->svids[s->n++] = svid(agent.ids[i], i == 0 ? serial : other);
    s->bundles = calloc(1, sizeof *s->bundles);
    s->bundles->refs = 1;
    s->bundles->n = 1;
    s->bundles->list = calloc(1, sizeof *s->bundles->list);
    s->bundles->list[0].trust_domain = strdup("example.org");
    buf_init(&s->bundles->list[0].x509, 65536);
    buf_put(&s->bundles->list[0].x509, agent.authority.roots.p, agent.authority.roots.len);
    buf_init(&s->bundles->list[0].jwks, 100);
    buf_str(&s->bundles->list[0].jwks, "{\"keys\":[]}");
    wl_state_unref(agent.state);
    agent.state = s;
    for (size_t i = 0; i < CALLS_MAX; i++)
        if (agent.watchers[i].call && agent.watchers[i].allowed)
            wl_call_state(agent.watchers[i].call, s);
    printf("%s\n", serial);
    fflush(stdout);
}

/* --- the provider --------------------------------------------------------------------------------------- */

static void *on_connect(void *arg, int fd)
{
    struct err e;
    struct peer *p = peer_open(fd, &e);
    if (!p)
        log_err(LOG_WARN, "a peer was refused", &e);
    return p;
}

static void on_disconnect(void *arg, void *caller)
{
    peer_free(caller);
}

static bool allowed(struct peer *p)
{
    struct peer_selectors s;
    struct err e;
    if (peer_attest(p, &s, &e) < 0) {
        log_err(LOG_WARN, "a peer was not attested", &e);
        return false;
    }
    bool yes = peer_selectors_match(&s, &agent.selector, 1);
    peer_selectors_free(&s);
    return yes && peer_alive(p);
}

static void on_watch(void *arg, void *caller, struct wl_call *c)
{
    size_t i = 0;
    while (i < CALLS_MAX && agent.watchers[i].call)
        i++;
    if (i == CALLS_MAX) {
        wl_call_fail(c, WL_RESOURCE_EXHAUSTED, "too many calls for a driver");
        return;
    }
    agent.watchers[i] = (struct watcher){c, allowed(caller)};
    if (agent.watchers[i].allowed)
        wl_call_state(c, agent.state);
    else
        wl_call_fail(c, WL_PERMISSION_DENIED, "no identity issued");
}

/* A JWT of the right shape; nobody here looks at its signature. */
static void on_jwt(void *arg, void *caller, struct wl_call *c, const char *const *audience, size_t n, const char *id)
{
    char payload[600], svid_text[1024], hint[] = "";
    int len = snprintf(payload, sizeof payload, "{\"sub\":\"%s\",\"aud\":[\"%s\"],\"exp\":%lld}", id, audience[0],
                       (long long)clock_wall() + 300);
    size_t at = (size_t)sprintf(svid_text, "eyJhbGciOiJFUzI1NiJ9.");
    at += b64url_encode(svid_text + at, payload, (size_t)len);
    sprintf(svid_text + at, ".c2ln");
    struct wl_jwt j = {agent.ids[0], svid_text, hint};
    wl_call_jwt(c, &j, 1);
}

static void on_validate(void *arg, void *caller, struct wl_call *c, const char *audience, const char *text)
{
    wl_call_fail(c, WL_UNIMPLEMENTED, "not of a driver");
}

static void on_cancel(void *arg, void *caller, struct wl_call *c)
{
    for (size_t i = 0; i < CALLS_MAX; i++)
        if (agent.watchers[i].call == c)
            agent.watchers[i].call = NULL;
}

static void on_word(evutil_socket_t fd, short what, void *arg)
{
    static char words[256];
    ssize_t n = read(0, words, sizeof words - 1);
    if (n <= 0) {
        event_base_loopbreak(agent.base);
        return;
    }
    words[n] = 0;
    rotate(strstr(words, "revoke") != NULL);
}

int main(int argc, char **argv)
{
    const struct wl_provider provider = {NULL,   on_connect,  on_disconnect, on_watch,
                                         on_jwt, on_validate, on_cancel};
    struct err e;
    if (argc < 4 || argc - 3 > IDS_MAX)
        die("usage: workload_driver SOCKET SELECTOR SPIFFE-ID...");
    signal(SIGPIPE, SIG_IGN);
    log_setup("workload_driver", LOG_WARN, LOG_TEXT);
    agent.selector = argv[2];
    agent.ids = argv + 3;
    agent.n = (size_t)argc - 3;
    authority_make(&agent.authority);
    agent.base = event_base_new();
    int fd = wl_socket_listen(argv[1], 0666, &e);
    struct wl_server *s = fd < 0 ? NULL : wl_server_new(agent.base, fd, &provider, NULL, &e);
    if (!s)
        die(e.msg);
    struct event *words = event_new(agent.base, 0, EV_READ | EV_PERSIST, on_word, NULL);
    event_add(words, NULL);
    rotate(false);
    event_base_dispatch(agent.base);
    wl_server_free(s);
    event_free(words);
    event_base_free(agent.base);
    return 0;
}
