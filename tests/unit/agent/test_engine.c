/* The life of SVIDs in the engine: the first, renewal, refusal, outage, deletion under way, and the end. */
#include "unit/agent/engine_fixture.h"
#include "agent/output.h"
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

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

/* --- files ---------------------------------------------------------------------------------------------- */

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
    a->stopping = true;
    queue_free(a->authority);
    queue_free(a->writer);
    queue_free(a->hooks);
    a->authority = a->writer = a->hooks = NULL;
    post_free(a->post); /* what is under way comes back while its set is there */
    a->post = NULL;
    outputs_stop(a);
    wl_bundles_unref(a->bundles);
    void *ignored = NULL;
    scratch_remove(&ignored);
    *state = f;
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
    queue_free(a->hooks);
    a->hooks = NULL;
    post_free(a->post);
    a->post = NULL;
    snprintf(path, sizeof path, "%s/svid.pem", dir);
    assert_int_equal(access(path, F_OK), -1);
    outputs_stop(a);
    wl_bundles_unref(a->bundles);
    assert_int_equal(output_remove(dir, &e), 0);
    rmdir(dir);
}

/* --- health --------------------------------------------------------------------------------------------- */

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
        cmocka_unit_test_setup_teardown(test_reload_again, setup, teardown),
        cmocka_unit_test_setup_teardown(test_health_descriptors, setup, teardown),
        cmocka_unit_test_setup_teardown(test_files_at_the_end, setup, teardown),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
