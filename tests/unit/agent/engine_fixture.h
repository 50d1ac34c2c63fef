/* The renewal engine with its threads and the loop, against an authority in this file. The wall clock is the test's, so
 * that certificates of 2030 are valid. */
#ifndef UNIT_AGENT_ENGINE_FIXTURE_H
#define UNIT_AGENT_ENGINE_FIXTURE_H
#include "agent/daemon.h"
#include "base/clock.h"
#include "unit/agent/script.h"
#include "unit/base/scratch.h"
#include <event2/event.h>
#include <stdatomic.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

struct fixture {
    struct script s;
    struct pki pki;
    struct agent a;
    struct agent_config config;
    /* how it behaves; read on the authority thread */
    atomic_bool down, refuse, pulled;
    atomic_bool svid_revoked;  /* of the agent itself */
    atomic_uint revoked;       /* sessions so far that were ended */
    atomic_uint young;         /* certificates are not in the published log: 1 says nothing, 2 says so */
    atomic_int taken_back;     /* what the list of entries says of revocations */
    atomic_uint hold_ms;
    atomic_uint orders, bundles, lists, advices, tries; /* tries: requests while down */
    char state[64];
    char replaces[CERT_ID_MAX + 1];
    const char *jwt, *bundle; /* NULL: refused */
    int64_t jwt_life;         /* 0: five minutes */
};

static char clock_file[] = "/tmp/mayfly-clock.XXXXXX";

/* The wall clock, so many seconds beyond PKI_NOW. */
static inline void set_clock(int64_t beyond)
{
    FILE *f = fopen(clock_file, "w");
    assert_non_null(f);
    fprintf(f, "%lld\n", (long long)(PKI_NOW + beyond - (int64_t)time(NULL)));
    fclose(f);
}

static inline int group_setup(void **state)
{
    close(mkstemp(clock_file));
    set_clock(0);
    setenv("MAYFLY_CLOCK_OFFSET_FILE", clock_file, 1);
    return 0;
}

static inline int group_teardown(void **state)
{
    unlink(clock_file);
    return 0;
}

static inline void issue(struct fixture *f, const json_t *doc, const char *id, struct http_answer *a)
{
    uint8_t der[8192];
    char san[300];
    const char *text = json_maybe_str(doc, "csr");
    long n = b64url_decode(der, sizeof der, text, strlen(text));
    const uint8_t *at = der;
    X509_REQ *req = d2i_X509_REQ(NULL, &at, n);
    assert_non_null(req);
    struct pki_spec leaf = pki_leaf_spec(&f->pki, X509_REQ_get0_pubkey(req));
    snprintf(san, sizeof san, "critical,URI:%s", id);
    leaf.san = san;
    struct acme_identity i;
    pki_identity(&i, leaf, &f->pki.log, f->pki.issuing);
    buf_str(&a->body, "{\"status\":\"valid\",\"authorizations\":[],\"finalize\":\"" SCRIPT_HOST "/f\",\"certificateChain\":");
    jw_str(&a->body, buf_cstr(&i.chain_pem));
    buf_str(&a->body, "}");
    acme_identity_free(&i);
    X509_REQ_free(req);
}

static inline int answer(struct script *s, const char *path, const json_t *doc, const char *nonce, struct http_answer *a, struct err *e)
{
    struct fixture *f = s->arg;
    if (f->down) {
        f->tries++;
        return err_set(e, ERR_UNAVAILABLE, "server-unreachable", "down, as the test wants");
    }
    if (strncmp(path, "/ari/", 5) == 0) {
        f->advices++;
        if (f->young) {
            for (int n = 0; f->young == 1 && n < 30000; n++) /* until the test has put something behind it */
                usleep(1000);
            script_problem(a, 503, "serverInternal", "renewal-unpublished");
        } else if (f->pulled)
            buf_str(&a->body, "{\"suggestedWindow\":{\"start\":\"2030-03-17T17:00:00Z\",\"end\":\"2030-03-17T17:01:00Z\"}}");
        else
            script_problem(a, 404, "malformed", "renewal");
        return 0;
    }
    if (strcmp(path, "/spiffe/bundle") == 0) {
        f->bundles++;
        if (f->bundle)
            buf_str(&a->body, f->bundle);
        else
            script_problem(a, 404, "malformed", "as-told");
        return 0;
    }
    if (s->accounts <= f->revoked) {
        script_problem(a, 401, "unauthorized", "session-revoked");
        return 0;
    }
    if (f->svid_revoked && json_object_get(doc, "evidence")) {
        script_problem(a, 401, "unauthorized", "svid-revoked");
        return 0;
    }
    if (strcmp(path, "/entries") == 0) {
        f->lists++;
        buf_fmt(&a->body, "{\"version\":\"v1\",\"unchanged\":true,\"revoked\":%d}", f->taken_back);
        return 0;
    }
    if (strcmp(path, "/jwt") == 0) {
        if (f->jwt)
            buf_fmt(&a->body, "{\"spiffe_id\":\"%s\",\"svid\":\"%s\",\"issued\":%lld,\"expires\":%lld}",
                    json_maybe_str(doc, "spiffe_id"), f->jwt, PKI_NOW + 0LL, PKI_NOW + (f->jwt_life ? f->jwt_life : 300LL));
        else
            script_problem(a, 403, "rejectedIdentifier", "as-told");
        return 0;
    }
    assert_string_equal(path, "/order");
    f->orders++;
    if (f->hold_ms)
        usleep(f->hold_ms * 1000);
    const char *id = json_maybe_str(json_array_get(json_object_get(doc, "identifiers"), 0), "value"),
               *replaces = json_maybe_str(doc, "replaces");
    snprintf(f->replaces, sizeof f->replaces, "%s", replaces ? replaces : "");
    if (f->refuse)
        script_problem(a, 403, "rejectedIdentifier", "as-told");
    else
        issue(f, doc, id, a);
    return 0;
}

static inline int setup(void **state)
{
    struct err e;
    struct fixture *f = calloc(1, sizeof *f);
    struct agent *a = &f->a;
    pki_new(&f->pki);
    f->s.arg = f;
    f->s.answer = answer;
    f->config.id = (char *)(uintptr_t) "spiffe://example.org/agent";
    f->config.trust_domain = (char *)(uintptr_t) "example.org";
    a->config = &f->config;
    a->self.config = &f->config;
    a->self.keep.fd = -1;
    a->self.client = script_client(&f->s);
    pki_trust(&a->self.trust, f->pki.root);
    a->base = event_base_new();
    a->post = post_new(a->base, &e);
    a->authority = queue_new(a->post, 1, "authority", &e);
    a->attestors = queue_new(a->post, 1, "attestor", &e);
    a->writer = queue_new(a->post, 1, "writer", &e);
    assert_non_null(a->writer);
    a->hooks = queue_new(a->post, 2, "hooks", &e);
    assert_non_null(a->hooks);
    a->own.spiffe_id = f->config.id;
    a->own.until_ms = clock_wall_ms() + 3600000; /* its own SVID is not the matter here */
    strcpy(f->state, "/tmp/mayfly-state.XXXXXX");
    assert_non_null(mkdtemp(f->state));
    f->config.state_dir = f->state;
    assert_int_equal(entries_start(a, &e), 0);
    assert_int_equal(bundle_start(a, &e), 0);
    a->entries_known = true;
    strcpy(a->version, "v1");
    engine_start(a);
    *state = f;
    return 0;
}

static inline int teardown(void **state)
{
    struct fixture *f = *state;
    struct agent *a = &f->a;
    a->stopping = true;
    queue_free(a->authority);
    queue_free(a->attestors);
    queue_free(a->writer);
    queue_free(a->hooks);
    post_free(a->post);
    identities_free(&a->identities);
    event_free(a->tick);
    event_free(a->timer);
    event_free(a->entries_timer);
    event_free(a->bundle_timer);
    event_base_free(a->base);
    acme_client_free(a->self.client);
    agent_trust_free(&a->self.trust);
    key_free(a->self.key);
    buf_free(&a->self.chain_pem);
    keep_close(&a->self.keep);
    key_free(f->s.account);
    for (size_t i = 0; i < 2; i++) {
        char path[80];
        snprintf(path, sizeof path, "%s/%s", f->state, i ? "svid.pem" : "bundle.pem");
        unlink(path);
    }
    assert_int_equal(rmdir(f->state), 0);
    pki_free(&f->pki);
    free(f);
    return 0;
}

static inline struct identity *add(struct fixture *f, const char *name)
{
    struct err e;
    char id[64], entry[64], *selectors[] = {(char *)(uintptr_t) "unix:uid:1"};
    snprintf(id, sizeof id, "spiffe://example.org/%s", name);
    snprintf(entry, sizeof entry, "entry-%s", name);
    struct entry x = {.id = entry, .spiffe_id = id, .hint = (char *)(uintptr_t) "", .selectors = selectors, .selectors_count = 1,
                      .ttl = 300, .revision = 1};
    struct identity *i = identity_add(&f->a.identities, &x, &e);
    assert_non_null(i);
    id_set_add(&f->a.self.client->authorized, id); /* so that no evidence is asked for */
    return i;
}

/* Turns the loop until it is so; half a minute is for slow machines. */
#define TURN_UNTIL(f, condition)                                                                                                 \
    do {                                                                                                                         \
        int64_t until_ = clock_mono_ms() + 30000;                                                                                \
        while (!(condition)) {                                                                                                   \
            if (clock_mono_ms() > until_)                                                                                        \
                fail_msg("never: %s", #condition);                                                                               \
            turn(f, 20);                                                                                                         \
        }                                                                                                                        \
    } while (0)

static inline void turn(struct fixture *f, unsigned ms)
{
    struct timeval t = {0, (suseconds_t)ms * 1000};
    event_base_loopexit(f->a.base, &t);
    event_base_dispatch(f->a.base);
}

#endif
