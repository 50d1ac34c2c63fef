/* What an agent is told of the entries behind it. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "tests/unit/ra/agent.h"

#define AGENT "spiffe://example.org/host/one"
#define AGENT2 "spiffe://example.org/host/two"
#define NAME "spiffe://example.org/w/%04d"

static struct fx x;
static struct ra_session *s;
static const char *const sel[] = {"unix:uid:1"};

struct seen {
    size_t n, fits;
    char first[64], last[64];
    unsigned ttl;
    uint64_t revision;
};

static bool note(void *arg, const struct ra_entry *e, unsigned ttl)
{
    struct seen *v = arg;
    if (v->n == v->fits)
        return false;
    if (v->n++ == 0)
        snprintf(v->first, sizeof v->first, "%s", e->spiffe_id);
    else
        assert_true(strcmp(v->last, e->spiffe_id) < 0);
    snprintf(v->last, sizeof v->last, "%s", e->spiffe_id);
    v->ttl = ttl;
    v->revision = e->revision;
    assert_true(e->selectors_count <= 1);
    return true;
}

/* The answer to one question; version is set. */
static struct seen ask_fits(const char *agent, const char *have, const char *after, size_t fits, char version[40], bool unchanged,
                            bool more)
{
    struct seen v = {.fits = fits};
    struct err e = {0};
    struct ra_agent_entries q = {.agent = agent, .have = have, .after = after};
    if (ra_agent_entries(x.ra, s, &q, note, &v, &e) < 0)
        fail_msg("%s: %s", e.rule, e.msg);
    assert_int_equal(q.unchanged, unchanged);
    assert_int_equal(q.more, more);
    assert_true(*q.version);
    memcpy(version, q.version, sizeof q.version);
    return v;
}

static size_t all(char version[40])
{
    return ask_fits(AGENT, NULL, NULL, SIZE_MAX, version, false, false).n;
}

static void update(const char *id, const char *parent)
{
    struct wait w;
    char id_copy[64], parent_copy[64];
    snprintf(id_copy, sizeof id_copy, "%s", id);
    snprintf(parent_copy, sizeof parent_copy, "%s", parent);
    const struct ra_entry e = {.spiffe_id = id_copy, .parent = parent_copy, .ttl = 77};
    wait_init(&w);
    ra_entry_update(x.ra, &e, on_entry, &w);
    EXPECT(&w, NULL);
}

static void make(int i, const char *parent)
{
    char id[64];
    snprintf(id, sizeof id, NAME, i);
    make_behind(&x, id, parent, sel, 1);
}

/* A session that is authorized for the agent, by a join token. */
static struct ra_session *session_of(const char *agent)
{
    uint8_t secret[32];
    struct wait w;
    struct ra_session *made = make_session(&x);
    struct bytes csr = csr_for(agent);
    make_token(&x, agent, NULL, 0, secret);
    json_t *cmw = token_evidence(made, secret, "nonce");
    order_new(&x, made, &(struct ask){.uri = agent, .csr = &csr, .evidence = cmw}, &w);
    EXPECT(&w, NULL);
    json_decref(cmw);
    wait_free(&w);
    return made;
}

/* Each change of an own entry is another version; nobody else's is. */
static void test_versions(void **state)
{
    char v[8][40], now[40], id[64];
    assert_int_equal(all(v[0]), 0);
    make(5, AGENT2);
    assert_int_equal(all(now), 0);
    assert_string_equal(now, v[0]);
    make(3, AGENT);
    make(1, AGENT);
    assert_int_equal(all(v[1]), 2);
    ask_fits(AGENT, v[1], "", SIZE_MAX, now, true, false);
    ask_fits(AGENT, v[0], "", SIZE_MAX, now, false, false);
    assert_string_equal(now, v[1]);
    snprintf(id, sizeof id, NAME, 3);
    update(id, AGENT);
    struct seen seen = ask_fits(AGENT, v[1], NULL, SIZE_MAX, v[2], false, false);
    assert_int_equal(seen.n, 2);
    assert_string_equal(seen.last, id);
    assert_int_equal(seen.ttl, 77);
    assert_int_equal(seen.revision, 2);
    update(id, AGENT2); /* goes to another agent */
    assert_int_equal(all(v[3]), 1);
    assert_int_equal(ask_fits(AGENT, NULL, NULL, SIZE_MAX, now, false, false).ttl, 300); /* the default, filled in */
    update(id, x.ra->authority);
    assert_int_equal(all(now), 1);
    assert_string_equal(now, v[3]);
    update(id, AGENT);
    assert_int_equal(all(v[4]), 2);
    delete_entry(&x, id);
    assert_int_equal(all(v[5]), 1);
    snprintf(id, sizeof id, NAME, 1);
    delete_entry(&x, id);
    assert_int_equal(all(v[6]), 0);
    assert_string_equal(v[6], v[0]); /* the same nothing */
    make(1, AGENT);
    assert_int_equal(all(v[7]), 1);
    for (int i = 0; i < 8; i++)
        for (int k = 0; k < i; k++)
            assert_true((i == 6 && k == 0) || strcmp(v[i], v[k]) != 0);
}

/* A restart begins with another version, and with what there is. */
static void test_restart(void **state)
{
    char v[40], now[40], id[RA_ID_LEN + 1];
    memcpy(id, ra_session_id(s), sizeof id);
    make(1, AGENT);
    make(2, AGENT2);
    make(3, AGENT);
    assert_int_equal(all(v), 2);
    ra_session_release(s);
    fx_reopen(&x);
    s = ra_session_find(x.ra, id);
    assert_int_equal(ask_fits(AGENT, v, NULL, SIZE_MAX, now, false, false).n, 2);
    assert_string_not_equal(v, now);
}

static void test_pages(void **state)
{
    char v[40], now[40], after[64] = "";
    const int n = 2 * RA_AGENT_PAGE + 10;
    int got = 0, pages = 0;
    for (int i = 0; i < n; i++)
        make(i * 7919 % n, AGENT); /* in no order */
    for (bool more = true; more; pages++) {
        more = got + RA_AGENT_PAGE < n;
        struct seen seen = ask_fits(AGENT, pages ? v : NULL, after, SIZE_MAX, now, false, more);
        assert_int_equal(seen.n, more ? RA_AGENT_PAGE : n - got);
        got += (int)seen.n;
        memcpy(after, seen.last, sizeof after);
        memcpy(v, now, sizeof v);
    }
    assert_int_equal(got, n);
    assert_int_equal(pages, 3);
    /* what does not fit comes with the next */
    struct seen seen = ask_fits(AGENT, NULL, NULL, 10, now, false, true);
    assert_int_equal(seen.n, 10);
    char tenth[64];
    snprintf(tenth, sizeof tenth, NAME, 10);
    seen = ask_fits(AGENT, NULL, seen.last, SIZE_MAX, now, false, true);
    assert_string_equal(seen.first, tenth);
    /* after one that is gone, and after the last */
    delete_entry(&x, tenth);
    seen = ask_fits(AGENT, NULL, tenth, 1, now, false, true);
    snprintf(tenth, sizeof tenth, NAME, 11);
    assert_string_equal(seen.first, tenth);
    assert_int_equal(ask_fits(AGENT, NULL, after, SIZE_MAX, now, false, false).n, 0);
}

static void test_who_may(void **state)
{
    struct err e = {0};
    struct seen v = {.fits = SIZE_MAX};
    struct ra_session *stranger = make_session(&x), *other = session_of(AGENT2);
    struct ra_agent_entries q = {.agent = AGENT};
    make(1, AGENT);
    assert_int_equal(ra_agent_entries(x.ra, stranger, &q, note, &v, &e), -1);
    assert_string_equal(e.rule, "agent-session");
    assert_int_equal(e.code, ERR_UNAUTHORIZED);
    assert_int_equal(ra_agent_entries(x.ra, other, &q, note, &v, &e), -1);
    assert_string_equal(e.rule, "agent-session");
    q.agent = x.ra->authority;
    assert_int_equal(ra_agent_entries(x.ra, s, &q, note, &v, &e), -1);
    delete_entry(&x, AGENT);
    q.agent = AGENT;
    assert_int_equal(ra_agent_entries(x.ra, s, &q, note, &v, &e), -1);
    assert_int_equal(v.n, 0);
    ra_session_release(stranger);
    ra_session_release(other);
}

static int setup(void **state)
{
    fx_new(&x, "");
    make_entry(&x, AGENT, NULL, NULL);
    make_entry(&x, AGENT2, NULL, NULL);
    s = session_of(AGENT);
    return 0;
}

static int teardown(void **state)
{
    ra_session_release(s);
    fx_free(&x);
    return 0;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {TEST(test_versions), TEST(test_restart), TEST(test_pages), TEST(test_who_may)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
