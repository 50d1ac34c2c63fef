/* The renewal engine with its threads and the loop, against an authority in this file: first SVIDs, renewal, refusal,
 * outage, deletion under way. The wall clock is the test's, so that certificates of 2030 are valid. */
#include "agent/daemon.h"
#include "agent/output.h"
#include "base/clock.h"
#include "unit/agent/script.h"
#include "unit/base/scratch.h"
#include "unit/agent/jwt_token.h"
#include <event2/event.h>
#include <pthread.h>
#include <stdatomic.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
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
static void set_clock(int64_t beyond)
{
    FILE *f = fopen(clock_file, "w");
    assert_non_null(f);
    fprintf(f, "%lld\n", (long long)(PKI_NOW + beyond - (int64_t)time(NULL)));
    fclose(f);
}

static int group_setup(void **state)
{
    close(mkstemp(clock_file));
    set_clock(0);
    setenv("MAYFLY_CLOCK_OFFSET_FILE", clock_file, 1);
    return 0;
}

static int group_teardown(void **state)
{
    unlink(clock_file);
    return 0;
}

static void issue(struct fixture *f, const json_t *doc, const char *id, struct http_answer *a)
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

static int answer(struct script *s, const char *path, const json_t *doc, const char *nonce, struct http_answer *a, struct err *e)
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

static int setup(void **state)
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

static int teardown(void **state)
{
    struct fixture *f = *state;
    struct agent *a = &f->a;
    a->stopping = true;
    queue_free(a->authority);
    queue_free(a->attestors);
    queue_free(a->writer);
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

static struct identity *add(struct fixture *f, const char *name)
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

static void turn(struct fixture *f, unsigned ms)
{
    struct timeval t = {0, (suseconds_t)ms * 1000};
    event_base_loopexit(f->a.base, &t);
    event_base_dispatch(f->a.base);
}

static void test_first_and_renewal(void **state)
{
    struct fixture *f = *state;
    struct identity *i = add(f, "web"), *idle = add(f, "idle");
    engine_run(&f->a);
    turn(f, 50);
    assert_int_equal(f->orders, 0); /* nobody wants one */
    engine_want(&f->a, i);
    engine_run(&f->a);
    TURN_UNTIL(f, i->svid);
    assert_null(idle->svid);
    assert_string_equal(i->svid->spiffe_id, "spiffe://example.org/web");
    assert_int_equal(i->svid->key.len, 138);
    assert_true(i->svid->chain_len > 500);
    assert_ptr_equal(identity_svid(i, PKI_NOW), i->svid);
    assert_null(identity_svid(i, i->svid->not_after)); /* never an expired one */
    /* About half of what is left from now: 240 s. */
    int64_t in = i->renew_wall_ms - clock_wall_ms();
    assert_true(in > 240 * 440 && in < 240 * 560);
    /* The clock is set forward to where it is due. */
    struct wl_svid *first = wl_svid_ref(i->svid);
    i->renew_wall_ms = clock_wall_ms() - 1;
    engine_run(&f->a);
    TURN_UNTIL(f, i->svid != first);
    assert_int_equal(f->orders, 2);
    assert_int_equal(f->a.counters.renewals_ok, 1);
    assert_int_equal(f->a.counters.new_ok, 1);
    wl_svid_unref(first);
    /* Nobody wants it any more: kept until it would be renewed, then dropped and not asked for. */
    engine_unwant(&f->a, i);
    engine_run(&f->a);
    assert_non_null(i->svid);
    i->renew_wall_ms = clock_wall_ms() - 1;
    engine_run(&f->a);
    assert_null(i->svid);
    turn(f, 50);
    assert_int_equal(f->orders, 2);
}

static void test_refused(void **state)
{
    struct fixture *f = *state;
    struct identity *i = add(f, "web");
    f->refuse = true;
    engine_want(&f->a, i);
    engine_run(&f->a);
    TURN_UNTIL(f, i->failures >= 2);
    assert_true(i->tried);
    assert_int_equal(i->last.code, ERR_REJECTED_ID);
    assert_true(f->a.reachable); /* it answered */
    assert_int_equal(f->a.gate_failures, 0);
    char metrics[] = "as-told";
    assert_string_equal(f->a.reasons[0].rule, metrics);
    f->refuse = false;
    TURN_UNTIL(f, i->svid);
    assert_int_equal(i->failures, 0);
}

static void test_outage(void **state)
{
    struct fixture *f = *state;
    struct identity *all[20];
    char name[16];
    for (int k = 0; k < 20; k++) {
        snprintf(name, sizeof name, "w%02d", k);
        all[k] = add(f, name);
        engine_want(&f->a, all[k]);
    }
    struct identity *old = add(f, "old");
    engine_want(&f->a, old);
    engine_run(&f->a);
    TURN_UNTIL(f, old->svid && all[19]->svid);
    f->down = true;
    for (int k = 0; k < 20; k++)
        all[k]->renew_wall_ms = clock_wall_ms() - 1;
    engine_run(&f->a);
    TURN_UNTIL(f, f->a.gate_failures >= 3);
    assert_false(f->a.reachable);
    assert_true(f->tries <= 5); /* one finds out for all, and probes one at a time */
    assert_non_null(all[0]->svid); /* what is valid is kept */
    /* One expires meanwhile. */
    old->until_ms = clock_wall_ms() - 1;
    engine_run(&f->a);
    assert_null(old->svid);
    f->down = false;
    unsigned before = f->orders;
    TURN_UNTIL(f, f->orders >= before + 21 && old->svid);
    assert_true(f->a.reachable);
    assert_int_equal(f->a.gate_failures, 0);
}

/* Its entry goes while its order is under way: what comes is nobody's. */
static void test_deleted(void **state)
{
    struct fixture *f = *state;
    struct identity *i = add(f, "web");
    struct entry_list none = {.version = "v2"};
    f->hold_ms = 200;
    engine_want(&f->a, i);
    engine_run(&f->a);
    TURN_UNTIL(f, f->orders == 1);
    entries_apply(&f->a, &none);
    assert_int_equal(f->a.identities.n, 0);
    TURN_UNTIL(f, f->a.counters.new_ok == 1);
    assert_int_equal(f->a.identities.n, 0);
}

/* An entry with other DNS names is another certificate, at once; the old one is served until then. */
static void test_changed(void **state)
{
    struct fixture *f = *state;
    struct identity *i = add(f, "web");
    engine_want(&f->a, i);
    engine_run(&f->a);
    TURN_UNTIL(f, i->svid);
    struct wl_svid *first = wl_svid_ref(i->svid);
    char *selectors[] = {(char *)(uintptr_t) "unix:uid:1"}, *dns[] = {(char *)(uintptr_t) "web.example.org"};
    struct entry x = {.id = i->entry_id, .spiffe_id = i->spiffe_id, .hint = (char *)(uintptr_t) "", .selectors = selectors,
                      .selectors_count = 1, .dns = dns, .dns_count = 1, .ttl = 300, .revision = 2};
    struct entry_list l = {.version = "v2", .list = &x, .n = 1};
    entries_apply(&f->a, &l);
    assert_ptr_equal(i->svid, first);
    TURN_UNTIL(f, i->svid != first);
    assert_int_equal(i->revision, 2);
    assert_false(i->stale);
    wl_svid_unref(first);
    /* Deleted and made again is another entry. */
    x.id = (char *)(uintptr_t) "another";
    char id[] = "spiffe://example.org/web";
    x.spiffe_id = id;
    entries_apply(&f->a, &l);
    assert_int_equal(f->a.identities.n, 1);
    assert_null(f->a.identities.list[0]->svid);
    assert_string_equal(f->a.identities.list[0]->entry_id, "another");
}

/* So does one that changes while the order is under way: what comes is of the entry as it was. */
static void test_changed_under_way(void **state)
{
    struct fixture *f = *state;
    struct identity *i = add(f, "web");
    char *selectors[] = {(char *)(uintptr_t) "unix:uid:1"}, *dns[] = {(char *)(uintptr_t) "web.example.org"};
    struct entry x = {.id = i->entry_id, .spiffe_id = i->spiffe_id, .hint = (char *)(uintptr_t) "", .selectors = selectors,
                      .selectors_count = 1, .dns = dns, .dns_count = 1, .ttl = 300, .revision = 2};
    struct entry_list l = {.version = "v2", .list = &x, .n = 1};
    f->hold_ms = 200;
    engine_want(&f->a, i);
    engine_run(&f->a);
    TURN_UNTIL(f, f->orders == 1);
    entries_apply(&f->a, &l);
    TURN_UNTIL(f, f->a.counters.new_ok == 1);
    assert_true(i->stale);
    TURN_UNTIL(f, f->a.counters.renewals_ok == 1);
    assert_int_equal(f->orders, 2);
    assert_false(i->stale);
}

/* The clock is set forward: what is due by it is renewed at once, what is over is served no more. Set back, it delays
 * nothing. */
static void test_clock_set(void **state)
{
    struct fixture *f = *state;
    struct identity *i = add(f, "web");
    engine_want(&f->a, i);
    engine_run(&f->a);
    TURN_UNTIL(f, i->svid);
    int64_t due = i->renew_mono_ms;
    set_clock(-7200);
    engine_tick(&f->a);
    assert_int_equal(i->renew_mono_ms, due);
    assert_true(i->renew_wall_ms - clock_wall_ms() > 7000000); /* by the wall it would be hours away */
    set_clock(200);
    engine_tick(&f->a);
    TURN_UNTIL(f, f->a.counters.renewals_ok == 1);
    f->down = true;
    set_clock(250);
    engine_tick(&f->a);
    assert_null(i->svid);
    set_clock(0);
}

/* The agent's own SVID and one of a workload, by what it vouched for. */
static struct identity *with_svids(struct fixture *f)
{
    struct err e;
    struct identity *i = add(f, "web");
    assert_int_equal(identity_evidence(i, NULL, 0, &e), 0);
    id_set_clear(&f->a.self.client->authorized);
    f->a.own.until_ms = 0;
    engine_want(&f->a, i);
    engine_run(&f->a);
    TURN_UNTIL(f, f->a.own.until_ms > 0 && i->svid);
    assert_true(self_alive(&f->a.self));
    TURN_UNTIL(f, !f->a.own.busy && !f->a.bundle_busy && !f->a.entries_busy);
    return i;
}

/* The session of all was ended, and the agent's SVID stands: the renewal that finds out is none the worse. */
static void test_session_revoked(void **state)
{
    struct fixture *f = *state;
    struct identity *i = with_svids(f);
    struct wl_svid *first = wl_svid_ref(i->svid);
    uint64_t own = f->a.counters.renewals_ok;
    assert_int_equal(f->s.accounts, 1);
    f->revoked = 1;
    f->advices = 0;
    assert_int_equal(f->a.advice_hurry_ms, 0);
    i->retry_mono_ms = f->a.own.retry_mono_ms = 0;
    i->renew_wall_ms = clock_wall_ms() - 1;
    engine_run(&f->a);
    TURN_UNTIL(f, i->svid != first);
    wl_svid_unref(first);
    assert_int_equal(f->a.counters.renewals_failed, 0);
    assert_int_equal(f->s.accounts, 2);
    /* The new session shows what the agent is, and everything is looked at for what was revoked, in a hurry. */
    assert_true(f->a.advice_hurry_ms > 0);
    TURN_UNTIL(f, f->a.counters.renewals_ok >= own + 2);
    TURN_UNTIL(f, f->advices >= 1);
    assert_int_equal(f->a.own.failures, 0);
    assert_int_equal(f->s.accounts, 2);
}

/* The SVID that the agent vouches with was, and the session was not: another SVID comes of it, and no other session. */
static void test_svid_revoked(void **state)
{
    struct fixture *f = *state;
    struct identity *i = with_svids(f);
    struct wl_svid *first = wl_svid_ref(i->svid);
    uint64_t own = f->a.counters.renewals_ok;
    f->svid_revoked = true;
    id_set_remove(&f->a.self.client->authorized, i->spiffe_id);
    i->retry_mono_ms = f->a.own.retry_mono_ms = 0;
    i->renew_wall_ms = clock_wall_ms() - 1;
    engine_run(&f->a);
    TURN_UNTIL(f, f->a.counters.renewals_ok == own + 1);
    assert_ptr_equal(i->svid, first);
    assert_true(self_alive(&f->a.self));
    f->svid_revoked = false;
    TURN_UNTIL(f, i->svid != first);
    wl_svid_unref(first);
    assert_int_equal(f->s.accounts, 1);
}

/* Each order is refused so until another SVID of its own comes: one hurry of questions, not one for each. */
static void test_hurries_once(void **state)
{
    struct fixture *f = *state;
    struct job j = {.agent = &f->a, .kind = JOB_SVID};
    with_svids(f);
    assert_false(f->a.own.stale);
    assert_int_equal(f->a.advice_hurry_ms, 0);
    err_set(&j.err, ERR_UNAUTHORIZED, "svid-revoked", "as told");
    engine_reached(&f->a, &j);
    assert_true(f->a.own.stale);
    assert_true(f->a.advice_hurry_ms > 0);
    f->a.advice_hurry_ms = 0;
    engine_reached(&f->a, &j);
    assert_int_equal(f->a.advice_hurry_ms, 0);
}

/* The agent itself: no session helps. What the workloads have is served on, nothing is asked for, until it is back. */
static void test_agent_revoked(void **state)
{
    struct fixture *f = *state;
    struct identity *i = with_svids(f);
    struct wl_svid *first = wl_svid_ref(i->svid);
    char why[400], path[80];
    f->revoked = 1;
    f->svid_revoked = true;
    i->retry_mono_ms = f->a.own.retry_mono_ms = 0;
    i->renew_wall_ms = clock_wall_ms() - 1;
    engine_run(&f->a);
    TURN_UNTIL(f, f->a.own.until_ms == 0);
    assert_string_equal(f->a.own.last.rule, "token-needed");
    assert_false(self_alive(&f->a.self));
    snprintf(path, sizeof path, "%s/svid.pem", f->state);
    assert_int_equal(access(path, F_OK), -1);
    assert_false(health_ready(&f->a, why, sizeof why));
    assert_non_null(strstr(why, "mayfly token create"));
    assert_ptr_equal(i->svid, first);
    unsigned orders = f->orders, sessions = f->s.accounts;
    assert_true(sessions <= 4);
    i->retry_mono_ms = 0;
    engine_run(&f->a);
    turn(f, 100);
    assert_int_equal(f->orders, orders);
    /* As if by a new token. */
    f->svid_revoked = false;
    f->advices = 0;
    TURN_UNTIL(f, f->a.own.until_ms > 0 && i->svid != first);
    assert_true(f->s.accounts <= sessions + 1);
    assert_true(self_alive(&f->a.self));
    wl_svid_unref(first);
}

/* A hook that failed is run again: its server would else serve the old certificate until that is over. */
static void test_reload_again(void **state)
{
    struct fixture *f = *state;
    struct agent *a = &f->a;
    struct err e;
    char dir[300], command[700], why[1024], name[64];
    uint8_t *der = NULL;
    assert_int_equal(scratch_make(state), 0);
    snprintf(dir, sizeof dir, "%s/out", scratch);
    snprintf(command, sizeof command, "echo x >>%s/runs; test -e %s/well", scratch, scratch);
    snprintf(name, sizeof name, "unix:uid:%u", (unsigned)geteuid());
    struct agent_files file = {.id = (char *)(uintptr_t) "spiffe://example.org/web", .dir = dir, .uid = (uid_t)-1,
                               .gid = (gid_t)-1, .mode = 0600, .reload = command, .reload_timeout = 10};
    f->config.files = &file;
    f->config.files_count = 1;
    int n = i2d_X509(f->pki.root, &der);
    assert_true(n > 0);
    a->bundles = calloc(1, sizeof *a->bundles);
    a->bundles->refs = 1;
    a->bundles->list = calloc(1, sizeof *a->bundles->list);
    a->bundles->n = 1;
    a->bundles->list->trust_domain = strdup("example.org");
    buf_init(&a->bundles->list->x509, 65536);
    buf_put(&a->bundles->list->x509, der, (size_t)n);
    OPENSSL_free(der);
    struct identity *i = add(f, "web");
    free(i->selectors[0]);
    i->selectors[0] = strdup(name);
    assert_int_equal(outputs_start(a, &e), 0);
    outputs_entries(a);
    engine_run(a);
    TURN_UNTIL(f, a->counters.reload_failed > 0);
    assert_int_equal(a->counters.reloads, 1);
    assert_false(outputs_ready(a, why, sizeof why));
    assert_int_equal(outputs_written(a), 1);
    scratch_write(scratch_path("well"), "", 0600);
    TURN_UNTIL(f, a->counters.reloads > 1);
    assert_int_equal(a->counters.reload_failed, 1);
    assert_true(outputs_ready(a, why, sizeof why));
    queue_stop(a->writer);
    outputs_stop(a);
    wl_bundles_unref(a->bundles);
    void *ignored = NULL;
    scratch_remove(&ignored);
    *state = f;
}

/* A key that is not known has the bundle asked for, now and then only: anybody can name one. */
static void test_unknown_keys(void **state)
{
    struct fixture *f = *state;
    int64_t began = clock_mono_ms();
    for (int i = 0; i < 20; i++) {
        bundle_hurry(&f->a);
        turn(f, 10);
    }
    if (clock_mono_ms() - began < 4000)
        assert_int_equal(f->bundles, 1);
}

/* Who finds nothing has the list asked for at once, but all of them together no more than once a second. */
static void test_hurry(void **state)
{
    struct fixture *f = *state;
    struct agent *a = &f->a;
    int64_t began = clock_mono_ms();
    assert_true(entries_hurry(a, began));
    TURN_UNTIL(f, f->lists == 1 && !a->entries_busy);
    assert_false(entries_hurry(a, began)); /* this one is new enough */
    for (int i = 0; i < 20; i++) {
        int64_t now = clock_mono_ms();
        if (now > a->entries_of_ms)
            assert_true(entries_hurry(a, now)); /* another is to come */
        turn(f, 10);
    }
    int64_t passed = clock_mono_ms() - began;
    assert_in_range(f->lists, 1, (uintmax_t)passed / 1000 + 1);
    TURN_UNTIL(f, f->lists >= 2); /* and it came */
    assert_true(clock_mono_ms() - began >= 1000);
    f->down = true; /* nothing to wait for */
    entries_hurry(a, clock_mono_ms());
    TURN_UNTIL(f, a->gate_failures > 0);
    assert_false(entries_hurry(a, clock_mono_ms()));
}

/* Many ask for advice by turns, so many a second; when one is called before its time, all ask at once. */
static void test_advice(void **state)
{
    struct fixture *f = *state;
    struct agent *a = &f->a;
    struct identity *all[60];
    char name[16];
    for (int k = 0; k < 60; k++) {
        snprintf(name, sizeof name, "w%02d", k);
        all[k] = add(f, name);
        engine_want(a, all[k]);
    }
    engine_run(a);
    TURN_UNTIL(f, a->counters.new_ok == 60);
    int64_t began = clock_mono_ms();
    for (int k = 0; k < 60; k++)
        all[k]->ari_mono_ms = began;
    engine_run(a);
    TURN_UNTIL(f, f->advices >= 12);
    assert_true(f->advices <= 10 + (unsigned)(clock_mono_ms() - began) / 125);
    TURN_UNTIL(f, f->advices >= 16 && !all[0]->ari_busy && !all[59]->ari_busy); /* none is asked twice before the others */
    unsigned asked = 0;
    for (int k = 0; k < 60; k++)
        asked += all[k]->ari_mono_ms > began;
    assert_true(asked + 9 >= f->advices);
    assert_int_equal(f->orders, 60);
    /* One is revoked. */
    for (int k = 1; k < 60; k++)
        all[k]->ari_mono_ms = clock_mono_ms() + 3600000;
    all[0]->ari_mono_ms = 0;
    f->pulled = true;
    engine_run(a);
    TURN_UNTIL(f, a->counters.renewals_ok >= 60);
    f->pulled = false;
    assert_int_equal(all[59]->ari_mono_ms < clock_mono_ms() + 3000000, 1);
}

/* Something was revoked, the list of entries says: all ask for advice, in a hurry. Each time, and not when the authority
 * has begun to count anew. */
static void test_taken_back(void **state)
{
    struct fixture *f = *state;
    struct agent *a = &f->a;
    struct identity *i = with_svids(f);
    f->pulled = false;
    for (int k = 0; k < 4; k++) {
        f->taken_back = k == 0 ? 0 : k == 1 ? 7 : k == 2 ? 3 : 4;
        i->ari_mono_ms = a->own.ari_mono_ms = clock_mono_ms() + 3600000;
        a->advice_hurry_ms = 0;
        f->advices = 0;
        unsigned lists = f->lists;
        entries_poll(a);
        TURN_UNTIL(f, f->lists > lists && !a->entries_busy);
        assert_int_equal(a->advice_hurry_ms > 0, k % 2);
        if (k % 2)
            TURN_UNTIL(f, f->advices >= 2);
    }
}

/* What somebody can cause without end is one line a second. */
static void test_seldom(void **state)
{
    int64_t told = 0;
    assert_int_equal(engine_seldom(&told, LOG_WARN), LOG_WARN);
    int64_t first = told;
    while (engine_seldom(&told, LOG_WARN) == LOG_DEBUG) {
        assert_int_equal(told, first);
        usleep(5000);
    }
    assert_true(told - first >= 1000);
}

/* No advice yet is no outage: what was asked for meanwhile is asked for all the same. */
static void test_advice_too_early(void **state)
{
    struct fixture *f = *state;
    struct agent *a = &f->a;
    struct identity *i = add(f, "web"), *later = add(f, "later");
    engine_want(a, i);
    engine_run(a);
    TURN_UNTIL(f, i->svid);
    f->young = 1;
    i->ari_mono_ms = 0;
    engine_run(a);
    TURN_UNTIL(f, f->advices == 1);
    engine_want(a, later);
    engine_run(a);
    assert_int_equal(queue_waiting(a->authority), 1);
    f->young = 2;
    TURN_UNTIL(f, later->tried);
    assert_non_null(later->svid);
    assert_int_equal(a->counters.new_failed, 0);
    assert_int_equal(a->gate_failures, 0);
}

/* What the authority gives as a JWT-SVID is looked at before anybody gets it. */
static void test_jwt_checked(void **state)
{
    static const char head[] = "{\"alg\":\"ES256\",\"kid\":\"k\",\"typ\":\"JWT\"}",
                      format[] = "{\"sub\":\"spiffe://example.org/%s\",\"aud\":[\"db\"%s],\"exp\":%lld}";
    static const struct {
        const char *sub, *more, *rule; /* rule NULL: good */
        bool old;
    } cases[] = {{"web", ",\"cache\"", NULL, false}, {"other", ",\"cache\"", "jwt-sub", false},
                 {"web", "", "jwt-aud", false},      {"web", ",\"cache\"", "jwt-kid", true}};
    struct fixture *f = *state;
    struct err e;
    struct buf jwks, token;
    char claims[200], *audience[] = {(char *)(uintptr_t) "db", (char *)(uintptr_t) "cache"};
    struct identity *i = add(f, "web");
    EVP_PKEY *k = pki_key();
    buf_init(&jwks, 65536);
    buf_str(&jwks, "{\"keys\":[");
    jwt_ec_key(&jwks, k, "k", "P-256", 32);
    buf_str(&jwks, "]}");
    assert_non_null(buf_cstr(&jwks));
    for (size_t n = 0; n < sizeof cases / sizeof *cases; n++) {
        struct buf *bundle = &f->a.self.bundle;
        buf_init(bundle, 65536);
        buf_str(bundle, cases[n].old ? "{\"keys\":[]}" : (const char *)jwks.p);
        snprintf(claims, sizeof claims, format, cases[n].sub, cases[n].more, PKI_NOW + 300LL);
        jwt_sign(&token, k, "ES256", head, claims);
        f->jwt = buf_cstr(&token);
        jwt_cache_free(i);
        uint64_t before = f->a.counters.jwt_ok + f->a.counters.jwt_failed;
        assert_int_equal(jwt_fetch(&f->a, i, audience, 2, &e), 0);
        TURN_UNTIL(f, f->a.counters.jwt_ok + f->a.counters.jwt_failed > before);
        struct jwt_found found = jwt_find(i, audience, 2, PKI_NOW);
        if (cases[n].rule) {
            assert_null(found.svid);
            assert_string_equal(found.why->rule, cases[n].rule);
        } else {
            assert_string_equal(found.svid, f->jwt);
        }
        buf_free(&token);
        buf_free(bundle);
    }
    /* Signed by a key that only a newer bundle has. */
    unsigned asked = f->bundles;
    f->bundle = (const char *)jwks.p;
    jwt_cache_free(i);
    buf_init(&f->a.self.bundle, 65536);
    buf_str(&f->a.self.bundle, "{\"keys\":[]}");
    snprintf(claims, sizeof claims, format, "web", ",\"cache\"", PKI_NOW + 300LL);
    jwt_sign(&token, k, "ES256", head, claims);
    f->jwt = buf_cstr(&token);
    assert_int_equal(jwt_fetch(&f->a, i, audience, 2, &e), 0);
    TURN_UNTIL(f, f->a.counters.jwt_ok == 2);
    assert_string_equal(jwt_find(i, audience, 2, PKI_NOW).svid, f->jwt);
    TURN_UNTIL(f, f->bundles >= asked + 2); /* the loop asks for it, too */
    TURN_UNTIL(f, !f->a.bundle_busy);
    buf_free(&f->a.self.bundle);
    buf_free(&token);
    buf_free(&jwks);
    EVP_PKEY_free(k);
}

/* A token that is kept is fresh for a while by a clock that is ahead, and grows old by the one that nobody sets. */
static void test_jwt_ages(void **state)
{
    static const char head[] = "{\"alg\":\"ES256\",\"kid\":\"k\",\"typ\":\"JWT\"}";
    struct fixture *f = *state;
    struct err e;
    struct buf token, *bundle = &f->a.self.bundle;
    char claims[200], *audience[] = {(char *)(uintptr_t) "db"};
    struct identity *i = add(f, "web");
    EVP_PKEY *k = pki_key();
    buf_init(bundle, 65536);
    buf_str(bundle, "{\"keys\":[");
    jwt_ec_key(bundle, k, "k", "P-256", 32);
    buf_str(bundle, "]}");
    snprintf(claims, sizeof claims, "{\"sub\":\"spiffe://example.org/web\",\"aud\":[\"db\"],\"exp\":%lld}", PKI_NOW + 300LL);
    jwt_sign(&token, k, "ES256", head, claims);
    f->jwt = buf_cstr(&token);
    set_clock(200); /* ahead: what is left of it by this clock has a half, too */
    assert_int_equal(jwt_fetch(&f->a, i, audience, 1, &e), 0);
    TURN_UNTIL(f, f->a.counters.jwt_ok == 1);
    bool fresh = jwt_find(i, audience, 1, clock_wall()).fresh;
    set_clock(0);
    assert_true(fresh);
    f->jwt_life = 2;
    assert_int_equal(jwt_fetch(&f->a, i, audience, 1, &e), 0);
    TURN_UNTIL(f, f->a.counters.jwt_ok == 2);
    const int64_t back = PKI_NOW - 3600; /* what the wall clock says from now on */
    TURN_UNTIL(f, !jwt_find(i, audience, 1, back).fresh);
    TURN_UNTIL(f, !jwt_find(i, audience, 1, back).svid);
    buf_free(bundle);
    buf_free(&token);
    EVP_PKEY_free(k);
}

/* Distinct audiences of one identity do not fill the queue for all: so many are under way, the rest waits. */
static void test_many_audiences(void **state)
{
    struct fixture *f = *state;
    struct err e;
    struct identity *i = add(f, "web"), *other = add(f, "other");
    char text[32], *audience[] = {text};
    int put = 0;
    f->hold_ms = 300;
    engine_want(&f->a, other); /* what is under way first */
    engine_run(&f->a);
    TURN_UNTIL(f, f->orders == 1);
    for (; put < 100; put++) {
        snprintf(text, sizeof text, "audience-%d", put);
        if (jwt_fetch(&f->a, i, audience, 1, &e) < 0)
            break;
    }
    assert_int_equal(e.code, ERR_RATE);
    assert_in_range(put, 8, 32);
    assert_in_range(queue_waiting(f->a.authority), 8, 32);
    assert_int_equal(jwt_fetch(&f->a, other, audience, 1, &e), 0); /* another's is not held up */
    TURN_UNTIL(f, f->a.counters.jwt_failed == (unsigned)put + 1);
    assert_int_equal(jwt_fetch(&f->a, i, audience, 1, &e), 0);
    TURN_UNTIL(f, f->a.counters.jwt_failed == (unsigned)put + 2);
}

static int health_connect(const char *path)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    snprintf(at.sun_path, sizeof at.sun_path, "%s", path);
    assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(write(fd, "GET /live HTTP/1.0\r\n\r\n", 22), 22);
    return fd;
}

/* Without descriptors left nobody is accepted, and nothing spins; when there are some again, it goes on. */
static void test_health_descriptors(void **state)
{
    struct fixture *f = *state;
    struct err e;
    struct rlimit was, few;
    char path[] = "/tmp/mayfly-health.XXXXXX", said[256] = "";
    close(mkstemp(path));
    unlink(path);
    f->config.http_path = path;
    f->a.http_fd = -1;
    assert_int_equal(health_start(&f->a, &e), 0);
    int fd = health_connect(path), next = dup(fd);
    close(next);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
    few = was;
    few.rlim_cur = (rlim_t)next;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    struct timespec from, until;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &from);
    int64_t began = clock_mono_ms();
    while (clock_mono_ms() - began < 1000)
        turn(f, 100);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &until);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &was), 0);
    int64_t used = (until.tv_sec - from.tv_sec) * 1000 + (until.tv_nsec - from.tv_nsec) / 1000000;
    assert_true(used < 500); /* a loop that spins has nearly all of it */
    fcntl(fd, F_SETFL, O_NONBLOCK);
    TURN_UNTIL(f, read(fd, said, sizeof said - 1) > 0);
    assert_non_null(strstr(said, "200 OK"));
    close(fd);
    health_stop(&f->a);
    unlink(path);
}

static struct wl_bundles *bundles(const struct fixture *f)
{
    struct err e;
    struct bundle_doc doc = {0};
    struct buf *none = calloc(1, sizeof *none);
    buf_init(&doc.roots_der, BUNDLE_MAX);
    assert_int_equal(x509_to_der(&doc.roots_der, f->pki.root, &e), 0);
    struct wl_bundles *b = bundle_make("example.org", &doc, none, 0, &e);
    assert_non_null(b);
    buf_free(&doc.roots_der);
    return b;
}

/* An SVID that comes back when the threads are told to end is written by nobody: the writer may be gone. */
static void test_files_at_the_end(void **state)
{
    struct fixture *f = *state;
    struct agent *a = &f->a;
    struct err e;
    char dir[] = "/tmp/mayfly-files.XXXXXX", path[64], id[] = "spiffe://example.org/files", selector[64];
    assert_non_null(mkdtemp(dir));
    snprintf(selector, sizeof selector, "files:dir:%s", dir);
    struct agent_files files = {.id = id, .dir = dir, .uid = (uid_t)-1, .gid = (gid_t)-1, .mode = 0600, .reload_timeout = 10};
    char *selectors[] = {selector};
    struct entry x = {.id = id, .spiffe_id = id, .hint = (char *)(uintptr_t) "", .selectors = selectors, .selectors_count = 1,
                      .ttl = 300, .revision = 1};
    f->config.files = &files;
    f->config.files_count = 1;
    a->bundles = bundles(f);
    assert_int_equal(outputs_start(a, &e), 0);
    assert_non_null(identity_add(&a->identities, &x, &e));
    id_set_add(&a->self.client->authorized, id);
    f->hold_ms = 200;
    outputs_entries(a);
    engine_run(a);
    TURN_UNTIL(f, f->orders == 1);
    a->stopping = true;
    queue_free(a->authority);
    a->authority = NULL;
    TURN_UNTIL(f, a->counters.new_ok == 1);
    turn(f, 100);
    queue_free(a->writer); /* what was put would be worked before, or come back */
    a->writer = NULL;
    post_free(a->post);
    a->post = NULL;
    snprintf(path, sizeof path, "%s/svid.pem", dir);
    assert_int_equal(access(path, F_OK), -1);
    outputs_stop(a);
    wl_bundles_unref(a->bundles);
    assert_int_equal(output_remove(dir, &e), 0);
    rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_first_and_renewal, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_outage, setup, teardown),
        cmocka_unit_test_setup_teardown(test_deleted, setup, teardown),
        cmocka_unit_test_setup_teardown(test_changed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_changed_under_way, setup, teardown),
        cmocka_unit_test_setup_teardown(test_clock_set, setup, teardown),
        cmocka_unit_test_setup_teardown(test_session_revoked, setup, teardown),
        cmocka_unit_test_setup_teardown(test_svid_revoked, setup, teardown),
        cmocka_unit_test_setup_teardown(test_hurries_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_agent_revoked, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reload_again, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unknown_keys, setup, teardown),
        cmocka_unit_test_setup_teardown(test_hurry, setup, teardown),
        cmocka_unit_test_setup_teardown(test_advice, setup, teardown),
        cmocka_unit_test_setup_teardown(test_taken_back, setup, teardown),
        cmocka_unit_test(test_seldom),
        cmocka_unit_test_setup_teardown(test_advice_too_early, setup, teardown),
        cmocka_unit_test_setup_teardown(test_jwt_checked, setup, teardown),
        cmocka_unit_test_setup_teardown(test_jwt_ages, setup, teardown),
        cmocka_unit_test_setup_teardown(test_many_audiences, setup, teardown),
        cmocka_unit_test_setup_teardown(test_health_descriptors, setup, teardown),
        cmocka_unit_test_setup_teardown(test_files_at_the_end, setup, teardown),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
