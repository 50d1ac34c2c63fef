/* Sets of files in the engine: when one is as it should be, and what makes it be written anew. */
#include "unit/agent/engine_fixture.h"
#include "unit/agent/jwt_token.h"
#include "agent/outputs_parts.h"

#define ID "spiffe://example.org/web"

struct set { /* one set of files, of ID */
    char dir[300], selector[64], reload[400];
    struct agent_files files;
};

/* crl NULL: none. What it says is not looked at here. */
static struct wl_bundles *bundles(const struct fixture *f, const char *crl)
{
    struct err e;
    struct bundle_doc doc = {0};
    struct buf *crls = calloc(1, sizeof *crls);
    buf_init(crls, 1000);
    if (crl)
        buf_str(crls, crl);
    buf_init(&doc.roots_der, BUNDLE_MAX);
    assert_int_equal(x509_to_der(&doc.roots_der, f->pki.root, &e), 0);
    struct wl_bundles *b = bundle_make("example.org", &doc, crls, crl != NULL, &e);
    assert_non_null(b);
    buf_free(&doc.roots_der);
    return b;
}

static struct identity *set_start(struct fixture *f, struct set *s)
{
    struct err e;
    void *none = NULL;
    assert_int_equal(scratch_make(&none), 0);
    snprintf(s->dir, sizeof s->dir, "%s/out", scratch);
    snprintf(s->reload, sizeof s->reload, "echo x >>%s/told; while [ -e %s/wait ]; do sleep 0.05; done", scratch, scratch);
    snprintf(s->selector, sizeof s->selector, "files:dir:%.50s", s->dir);
    s->files.id = (char *)(uintptr_t)ID;
    s->files.dir = s->dir;
    s->files.uid = (uid_t)-1;
    s->files.gid = (gid_t)-1;
    s->files.mode = 0600;
    s->files.reload = s->reload;
    s->files.reload_timeout = 60;
    f->config.files = &s->files;
    f->config.files_count = 1;
    f->a.bundles = bundles(f, NULL);
    struct identity *i = add(f, "web");
    free(i->selectors[0]);
    i->selectors[0] = strdup(s->selector);
    assert_int_equal(outputs_start(&f->a, &e), 0);
    outputs_entries(&f->a);
    engine_run(&f->a);
    return i;
}

/* Who is under way comes back first: it is of a set. */
static void set_stop(struct fixture *f)
{
    struct agent *a = &f->a;
    void *none = NULL;
    a->stopping = true;
    struct queue **const all[] = {&a->authority, &a->attestors, &a->writer, &a->hooks};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        queue_free(*all[i]);
        *all[i] = NULL;
    }
    post_free(a->post);
    a->post = NULL;
    outputs_stop(a);
    wl_bundles_unref(a->bundles);
    a->bundles = NULL;
    scratch_remove(&none);
    set_clock(0);
}

static bool ready(struct fixture *f)
{
    char why[1024];
    return outputs_ready(&f->a, why, sizeof why);
}

static void not_ready(struct fixture *f, const char *want)
{
    char why[1024] = "ready";
    bool is = outputs_ready(&f->a, why, sizeof why);
    if (is || !strstr(why, want))
        fail_msg("'%s' is not in '%s'", want, why);
}

/* --- JWT-SVIDs ------------------------------------------------------------------------------------------- */

static void sign(struct buf *token, EVP_PKEY *k, int64_t exp)
{
    char claims[200];
    snprintf(claims, sizeof claims, "{\"sub\":\"" ID "\",\"aud\":[\"db\"],\"exp\":%lld}", (long long)exp);
    jwt_sign(token, k, "ES256", "{\"alg\":\"ES256\",\"kid\":\"k\",\"typ\":\"JWT\"}", claims);
    assert_non_null(buf_cstr(token));
}

/* A set whose token is past renewal is not as it should be, though its certificate is good; and it says since when. */
static void test_jwt_late(void **state)
{
    static char db[] = "db", *audience[] = {db};
    struct fixture *f = *state;
    struct agent *a = &f->a;
    struct set s = {.files = {.audience = audience, .audience_count = 1}};
    struct buf first, second;
    EVP_PKEY *k = pki_key();
    buf_init(&a->self.bundle, 65536);
    buf_str(&a->self.bundle, "{\"keys\":[");
    jwt_ec_key(&a->self.bundle, k, "k", "P-256", 32);
    buf_str(&a->self.bundle, "]}");
    sign(&first, k, PKI_NOW + 300);
    sign(&second, k, PKI_NOW + 1200);
    f->jwt = (const char *)first.p;
    struct identity *other = add(f, "other"), *i = set_start(f, &s); /* the second begins what threads do */
    TURN_UNTIL(f, ready(f));
    assert_false(outputs_overdue(a, i));
    f->jwt = NULL; /* from now on refused; nothing of it is under way */
    set_clock(170); /* past half of its life, when it should have been renewed; an SVID would not be late either */
    TURN_UNTIL(f, a->counters.jwt_failed > 0);
    assert_true(ready(f));
    assert_false(outputs_overdue(a, i));
    set_clock(215);
    not_ready(f, "its JWT-SVID is past renewal, due since 2030-03-17T17:49:");
    not_ready(f, ": the authority refuses");
    assert_true(outputs_overdue(a, i));
    assert_false(outputs_overdue(a, other));
    set_clock(301);
    not_ready(f, "its JWT-SVID expired at 2030-03-17T17:51:40Z: ");
    assert_true(outputs_overdue(a, i));
    set_clock(215);
    TURN_UNTIL(f, !jwt_find(i, audience, 1, PKI_NOW + 215).busy);
    f->jwt = (const char *)second.p;
    f->jwt_life = 1200;
    jwt_cache_free(i); /* no rest after the failure */
    TURN_UNTIL(f, ready(f));
    assert_false(outputs_overdue(a, i));
    set_stop(f);
    buf_free(&a->self.bundle);
    buf_free(&first);
    buf_free(&second);
    EVP_PKEY_free(k);
}

/* --- sets that are taken away ----------------------------------------------------------------------------- */

/* How often the program was told. */
static int told(void)
{
    struct stat st;
    return stat(scratch_path("told"), &st) < 0 ? 0 : (int)st.st_size / 2;
}

static void take_away(const struct set *s)
{
    assert_int_equal(nftw(s->dir, scratch_remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
}

static bool stands(const struct set *s)
{
    char path[320];
    snprintf(path, sizeof path, "%s/svid.pem", s->dir);
    return access(path, R_OK) == 0;
}

/* What somebody took away is written again, and its program told, though no certificate is new; not without end when he
 * does so again and again, but another certificate waits for nothing. */
static void test_taken_away(void **state)
{
    struct fixture *f = *state;
    struct set s = {0};
    struct identity *i = set_start(f, &s);
    TURN_UNTIL(f, ready(f));
    assert_int_equal(told(), 1);
    scratch_write(scratch_path("wait"), "", 0600);
    take_away(&s);
    TURN_UNTIL(f, told() == 2);
    assert_true(stands(&s));
    assert_int_equal(outputs_written(&f->a), 1);
    not_ready(f, "its program is not told yet");
    assert_int_equal(unlink(scratch_path("wait")), 0);
    TURN_UNTIL(f, ready(f));
    int64_t began = clock_mono_ms();
    take_away(&s);
    TURN_UNTIL(f, !ready(f));
    not_ready(f, "gone, or another is in its place");
    assert_int_equal(outputs_written(&f->a), 0);
    TURN_UNTIL(f, ready(f));
    assert_true(clock_mono_ms() - began >= 5000); /* it was the second time */
    assert_true(stands(&s));
    assert_int_equal(told(), 3);
    assert_int_equal(f->orders, 1);
    take_away(&s);
    TURN_UNTIL(f, !ready(f));
    f->a.outputs->again_mono_ms = INT64_MAX;
    i->renew_wall_ms = clock_wall_ms() - 1;
    engine_run(&f->a);
    TURN_UNTIL(f, ready(f));
    assert_true(stands(&s));
    assert_int_equal(told(), 4);
    set_stop(f);
}

/* --- CRLs --------------------------------------------------------------------------------------------------- */

static void adopt(struct fixture *f, const char *crl)
{
    wl_bundles_unref(f->a.bundles);
    f->a.bundles = bundles(f, crl);
    engine_changed(&f->a, NULL);
}

/* What crl.pem says; "" when there is none. */
static const char *crl_there(const struct set *s)
{
    static char text[200];
    char path[320];
    snprintf(path, sizeof path, "%s/crl.pem", s->dir);
    int fd = open(path, O_RDONLY);
    ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
    assert_true(n >= 0);
    text[n] = 0;
    if (fd >= 0)
        close(fd);
    return text;
}

static bool crl_is(const struct set *s, const char *b64)
{
    char want[100] = "";
    if (*b64)
        snprintf(want, sizeof want, "-----BEGIN X509 CRL-----\n%s\n-----END X509 CRL-----\n", b64);
    return strcmp(crl_there(s), want) == 0;
}

/* A set changes with its CRLs, and its program is told; what changes nothing in it writes nothing. */
static void test_crls(void **state)
{
    struct fixture *f = *state;
    struct set s = {0};
    set_start(f, &s);
    TURN_UNTIL(f, told() == 1 && ready(f));
    assert_true(crl_is(&s, ""));
    adopt(f, "abc");
    TURN_UNTIL(f, told() == 2);
    assert_true(crl_is(&s, "YWJj"));
    TURN_UNTIL(f, !f->a.outputs->telling);
    adopt(f, "abc");
    assert_false(f->a.outputs->writing);
    adopt(f, "abd");
    assert_true(f->a.outputs->writing);
    TURN_UNTIL(f, told() == 3);
    assert_true(crl_is(&s, "YWJk"));
    TURN_UNTIL(f, !f->a.outputs->telling);
    adopt(f, NULL);
    TURN_UNTIL(f, told() == 4);
    assert_true(crl_is(&s, ""));
    assert_true(stands(&s));
    assert_int_equal(f->orders, 1);
    set_stop(f);
}

/* What could not be written and is not wanted any more: what stands there is found to be well again. */
static void test_failed_in_vain(void **state)
{
    struct fixture *f = *state;
    struct set s = {0};
    char aside[320];
    set_start(f, &s);
    TURN_UNTIL(f, told() == 1 && ready(f));
    snprintf(aside, sizeof aside, "%s.aside", s.dir);
    assert_int_equal(rename(s.dir, aside), 0);
    scratch_write(s.dir, "no folder", 0600);
    adopt(f, "abc");
    TURN_UNTIL(f, f->a.outputs->write_error.code != ERR_NONE);
    assert_false(ready(f));
    assert_int_equal(unlink(s.dir), 0);
    assert_int_equal(rename(aside, s.dir), 0);
    f->a.outputs->retry_mono_ms = 0;
    adopt(f, NULL);
    TURN_UNTIL(f, ready(f));
    assert_true(crl_is(&s, ""));
    set_stop(f);
}

/* What an agent before this one kept of the bundle has no CRLs: those in the set are not taken away for it. */
static void test_crls_of_before(void **state)
{
    struct fixture *f = *state;
    struct set s = {0};
    f->a.bundles_kept = 2;
    struct identity *i = set_start(f, &s);
    TURN_UNTIL(f, i->svid);
    outputs_tick(&f->a);
    assert_false(f->a.outputs->writing);
    f->down = true;
    bundle_poll(&f->a);
    TURN_UNTIL(f, f->a.bundles_kept == 1); /* nobody answered */
    outputs_tick(&f->a);
    assert_false(f->a.outputs->writing);
    f->down = false;
    bundle_poll(&f->a);
    TURN_UNTIL(f, ready(f)); /* he has none */
    assert_int_equal(f->a.bundles_kept, 0);
    set_stop(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_failed_in_vain, setup, teardown),
        cmocka_unit_test_setup_teardown(test_crls, setup, teardown),
        cmocka_unit_test_setup_teardown(test_crls_of_before, setup, teardown),
        cmocka_unit_test_setup_teardown(test_taken_away, setup, teardown),
        cmocka_unit_test_setup_teardown(test_jwt_late, setup, teardown),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
