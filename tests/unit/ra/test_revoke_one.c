/* A revocation of one workload behind an agent: it reaches that one, in the agent's session, and no other; and whoever
 * speaks for itself, or is the agent, ends with the session. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "tests/unit/ra/agent.h"

#define AGENT "spiffe://example.org/host/one"
#define AGENT2 "spiffe://example.org/host/two"
#define SHOP "spiffe://example.org/shop" /* both behind AGENT */
#define CART "spiffe://example.org/shop/cart"
#define MAIL "spiffe://example.org/mail"
#define OLD 7 /* log index of the agents' SVIDs, before every record that the signer of the fixture takes */

static struct fx x;
static struct agent one, two;
static const char *const says[] = {"unix:uid:1000"};

/* --- asking ------------------------------------------------------------------------------------------------------ */

static void say(struct ra_session *s, const struct agent *a, const char *id)
{
    json_t *cmw = agent_says(&x, a, s, "nonce", says, 1);
    order_expect(&x, s, id, cmw, NULL);
    json_decref(cmw);
}

/* An order that is not finalized, so without the signer. */
static void say_only(struct ra_session *s, const char *id)
{
    struct wait w;
    json_t *cmw = agent_says(&x, &one, s, "nonce", says, 1);
    order_new(&x, s, &(struct ask){.uri = id, .evidence = cmw}, &w);
    EXPECT(&w, NULL);
    wait_free(&w);
    json_decref(cmw);
}

static void by_token(struct ra_session *s, const char *id)
{
    uint8_t secret[32];
    make_token(&x, id, NULL, 0, secret);
    json_t *cmw = token_evidence(s, secret, "nonce");
    order_expect(&x, s, id, cmw, NULL);
    json_decref(cmw);
}

/* The session of an agent that runs three workloads. */
static struct ra_session *of_agent(void)
{
    struct ra_session *s = make_session(&x);
    by_token(s, AGENT);
    say(s, &one, SHOP);
    say(s, &one, CART);
    say(s, &one, MAIL);
    return s;
}

static bool has(struct ra_session *s, const char *id)
{
    return ra_session_authorized(x.ra, s, id);
}

static void restart(struct ra_session **s)
{
    char id[RA_ID_LEN + 1];
    memcpy(id, ra_session_id(*s), sizeof id);
    ra_session_release(*s);
    fx_reopen(&x);
    assert_non_null(*s = ra_session_find(x.ra, id));
}

/* --- revoking ----------------------------------------------------------------------------------------------------- */

struct revoked {
    struct wait w;
    uint64_t sessions, authorizations;
};

static void on_revoked(void *arg, const struct ra_revocation *r, const struct err *e)
{
    struct revoked *v = arg;
    pthread_mutex_lock(&v->w.lock);
    if (r) {
        v->sessions = r->ended.sessions;
        v->authorizations = r->ended.authorizations;
    }
    wait_wake(&v->w, e);
}

static void revoke_with(const struct ra_revoke *want, uint64_t sessions, uint64_t authorizations)
{
    struct revoked v;
    wait_init(&v.w);
    ra_revoke(x.ra, want, on_revoked, &v);
    EXPECT(&v.w, NULL);
    assert_int_equal(v.sessions, sessions);
    assert_int_equal(v.authorizations, authorizations);
}

static void revoke_by(enum tlog_revoked_by by, const char *value, uint64_t sessions, uint64_t authorizations)
{
    revoke_with(&(struct ra_revoke){.by = by, .value = value, .reason = 1}, sessions, authorizations);
}

/* A certificate of SHOP that the session got by this agent's word (NULL: by other evidence). */
static void revoke_serial(const struct ra_session *s, const char *serial, const char *agent, const char *id,
                          uint64_t sessions, uint64_t authorizations)
{
    revoke_with(&(struct ra_revoke){.by = TLOG_BY_SERIAL, .value = serial, .reason = 1, .session = s->thumbprint_raw,
                               .agent = agent, .spiffe_id = id}, sessions, authorizations);
}

static void entry_id(const char *spiffe_id, char id[RA_ID_LEN + 1])
{
    struct wait w;
    wait_init(&w);
    ra_entry_get(x.ra, spiffe_id, on_entry, &w);
    EXPECT(&w, NULL);
    memcpy(id, w.entry_id, RA_ID_LEN + 1);
}

/* --- what the agent hears of it ----------------------------------------------------------------------------------- */

static bool none(void *arg, const struct ra_entry *e, unsigned ttl)
{
    return true;
}

/* With the list of its entries, which itself has not changed by that. */
static int64_t hears(struct ra_session *s, const char *agent, char version[40])
{
    struct err e = {0};
    struct ra_agent_entries q = {.agent = agent};
    if (ra_agent_entries(x.ra, s, &q, none, NULL, &e) < 0)
        fail_msg("%s: %s", e.rule, e.msg);
    if (*version)
        assert_string_equal(q.version, version);
    memcpy(version, q.version, 40);
    return q.revoked;
}

static void test_heard(void **state)
{
    char v1[40] = "", v2[40] = "";
    struct ra_session *s = of_agent(), *other = make_session(&x);
    by_token(other, AGENT2);
    assert_int_equal(hears(s, AGENT, v1), 0);
    revoke_by(TLOG_BY_ID, SHOP, 0, 1);
    int64_t first = hears(s, AGENT, v1), second;
    assert_true(first > 0);
    assert_int_equal(hears(s, AGENT, v1), first);
    revoke_serial(s, "1000000000098", AGENT, CART, 0, 1);
    assert_true((second = hears(s, AGENT, v1)) > first);
    revoke_serial(s, "1000000000099", AGENT, CART, 0, 0); /* there is no authorization to end, but a certificate */
    assert_true(hears(s, AGENT, v1) > second);
    assert_int_equal(hears(other, AGENT2, v2), 0); /* not its own */
    ra_session_release(other);
    ra_session_release(s);
}

/* A certificate may outlive the authorization that it was obtained by, which ends with the agent's SVID: the agent hears
 * of it all the same. */
static void test_heard_over(void **state)
{
    char v[40] = "", id[RA_ID_LEN + 1];
    struct ra_session *s = make_session(&x);
    by_token(s, AGENT);
    entry_id(CART, id);
    revoke_by(TLOG_BY_ID, MAIL, 0, 0);
    int64_t first = hears(s, AGENT, v), second, third;
    assert_true(first > 0);
    revoke_by(TLOG_BY_PREFIX, SHOP, 0, 0);
    assert_true((second = hears(s, AGENT, v)) > first);
    revoke_by(TLOG_BY_ENTRY, id, 0, 0);
    assert_true((third = hears(s, AGENT, v)) > second);
    revoke_by(TLOG_BY_PREFIX, "spiffe://example.org/sho", 0, 0); /* SHOP is not below it */
    revoke_by(TLOG_BY_ID, "spiffe://example.org/sh", 0, 0);
    assert_int_equal(hears(s, AGENT, v), third);
    const struct ra_revoke gone = {.by = TLOG_BY_SERIAL, .value = "1000000000097", .reason = 1, .agent = AGENT,
                                   .spiffe_id = SHOP};
    revoke_with(&gone, 0, 0); /* its session is not known any more */
    assert_true(hears(s, AGENT, v) > third);
    ra_session_release(s);
}

/* --- what it reaches ----------------------------------------------------------------------------------------------- */

/* SHOP is over, over a restart, too; until the agent says it again. The others go on without. */
static void spared(struct ra_session *s, bool cart)
{
    for (int i = 0; i < 2; i++) {
        assert_false(ra_session_deactivated(s));
        assert_false(has(s, SHOP));
        assert_int_equal(has(s, CART), cart);
        assert_true(has(s, MAIL));
        assert_true(has(s, AGENT));
        order_expect(&x, s, MAIL, NULL, NULL);
        order_expect(&x, s, AGENT, NULL, NULL);
        if (i == 0)
            restart(&s);
    }
    say(s, &one, SHOP);
    assert_true(has(s, SHOP));
    ra_session_release(s);
}

static void test_id(void **state)
{
    struct ra_session *s = of_agent(), *again = of_agent();
    revoke_by(TLOG_BY_ID, SHOP, 0, 2);
    assert_false(has(again, SHOP));
    assert_true(has(again, MAIL));
    ra_session_release(again);
    spared(s, true);
}

static void test_prefix(void **state)
{
    struct ra_session *s = of_agent();
    revoke_by(TLOG_BY_PREFIX, SHOP, 0, 2);
    spared(s, false);
}

static void test_entry(void **state)
{
    char id[RA_ID_LEN + 1];
    struct ra_session *s = of_agent();
    entry_id(SHOP, id);
    revoke_by(TLOG_BY_ENTRY, id, 0, 1);
    spared(s, true);
}

static void test_serial(void **state)
{
    struct ra_session *s = of_agent(), *again = of_agent();
    revoke_serial(s, "1000000000099", AGENT, SHOP, 0, 1);
    assert_true(has(again, SHOP)); /* another session's certificate was not meant */
    ra_session_release(again);
    spared(s, true);
}

/* Of a certificate whose authorization is over already: there is nothing to end. */
static void test_serial_over(void **state)
{
    struct wait w;
    struct ra_session *s = of_agent();
    wait_init(&w);
    ra_authz_deactivate(x.ra, s, authz_valid(x.ra, s, SHOP)->id, on_authz, &w);
    EXPECT(&w, NULL);
    revoke_serial(s, "1000000000099", AGENT, SHOP, 0, 0);
    spared(s, true);
}

/* An order that was ready is over; one for another ID is not. */
static void test_ready(void **state)
{
    struct wait w, other;
    struct ra_session *s = of_agent();
    order_new(&x, s, &(struct ask){.uri = SHOP}, &w);
    EXPECT(&w, NULL);
    order_new(&x, s, &(struct ask){.uri = MAIL}, &other);
    EXPECT(&other, NULL);
    assert_int_equal(w.o.status, RA_READY);
    char ids[2][RA_ID_LEN + 1];
    memcpy(ids[0], w.o.id, sizeof ids[0]);
    memcpy(ids[1], other.o.id, sizeof ids[1]);
    revoke_by(TLOG_BY_ID, SHOP, 0, 1);
    say_only(s, SHOP);
    wait_init(&w);
    ra_order_get(x.ra, s, ids[0], on_order, &w);
    EXPECT(&w, NULL);
    assert_int_equal(w.o.status, RA_INVALID);
    assert_string_equal(w.o.error.rule, "authorization-revoked");
    wait_init(&other);
    ra_order_get(x.ra, s, ids[1], on_order, &other);
    EXPECT(&other, NULL);
    assert_int_equal(other.o.status, RA_READY);
    ra_session_release(s);
}

/* What the signer makes meanwhile is given to nobody, not even when the agent has said it again; the others' is. */
static void under_way(bool serial, bool again)
{
    struct wait w, other;
    struct ra_session *s = of_agent();
    pthread_mutex_lock(&x.signer.lock); /* it answers nobody */
    struct bytes csr = csr_for(SHOP);
    order_new(&x, s, &(struct ask){.uri = SHOP, .csr = &csr}, &w);
    csr = csr_for(MAIL);
    order_new(&x, s, &(struct ask){.uri = MAIL, .csr = &csr}, &other);
    if (serial)
        revoke_serial(s, again ? "1000000000098" : "1000000000099", AGENT, SHOP, 0, 1);
    else
        revoke_by(TLOG_BY_ID, SHOP, 0, 1);
    if (again)
        say_only(s, SHOP);
    pthread_mutex_unlock(&x.signer.lock);
    EXPECT(&w, "authorization-revoked");
    EXPECT(&other, NULL);
    wait_free(&other);
    ra_session_release(s);
}

static void test_under_way(void **state)
{
    for (int i = 0; i < 4; i++)
        under_way(i & 1, i & 2);
}

/* The signer fails, and by what was shown since it is asked again: that is another authorization's. */
static void test_asked_again(void **state)
{
    struct wait w;
    char id[RA_ID_LEN + 1];
    struct ra_session *s = of_agent();
    struct bytes csr = csr_for(SHOP);
    order_new(&x, s, &(struct ask){.uri = SHOP}, &w);
    EXPECT(&w, NULL);
    memcpy(id, w.o.id, sizeof id);
    pthread_mutex_lock(&x.signer.lock);
    wait_init(&w);
    ra_order_finalize(x.ra, s, id, csr, on_order, &w);
    revoke_by(TLOG_BY_ID, SHOP, 0, 1);
    say_only(s, SHOP);
    err_set(&x.signer.refuse, ERR_RATE, "rate", "not now");
    pthread_mutex_unlock(&x.signer.lock);
    EXPECT(&w, "rate");
    pthread_mutex_lock(&x.signer.lock);
    err_clear(&x.signer.refuse);
    pthread_mutex_unlock(&x.signer.lock);
    wait_init(&w);
    ra_order_finalize(x.ra, s, id, csr, on_order, &w);
    EXPECT(&w, NULL);
    assert_int_equal(w.o.status, RA_VALID);
    wait_free(&w);
    ra_session_release(s);
}

static void on_jwt(void *arg, const struct ca_jwt_signed *r, const struct err *e)
{
    struct wait *w = arg;
    pthread_mutex_lock(&w->lock);
    wait_wake(w, e);
}

static void jwt_begin(struct ra_session *s, const char *id, struct wait *w)
{
    static const char *const audience[] = {"payroll"};
    const struct ra_jwt_request r = {.spiffe_id = id, .audiences = audience, .audiences_count = 1};
    wait_init(w);
    ra_jwt_new(x.ra, s, &r, on_jwt, w);
}

static void test_jwt_under_way(void **state)
{
    struct wait w, other;
    for (int again = 0; again < 3; again++) {
        struct ra_session *s = of_agent();
        pthread_mutex_lock(&x.signer.lock);
        jwt_begin(s, SHOP, &w);
        jwt_begin(s, MAIL, &other);
        if (again < 2)
            revoke_by(TLOG_BY_ID, SHOP, 0, 1);
        if (again > 0)
            say_only(s, SHOP);
        pthread_mutex_unlock(&x.signer.lock);
        EXPECT(&w, again < 2 ? "authorization" : NULL);
        EXPECT(&other, NULL);
        ra_session_release(s);
    }
}

/* --- what it does not spare ---------------------------------------------------------------------------------------- */

static void ended(struct ra_session *s)
{
    for (int i = 0; i < 2; i++) {
        assert_true(ra_session_revoked(s));
        assert_false(has(s, SHOP));
        assert_false(has(s, MAIL));
        assert_false(has(s, AGENT));
        if (i == 0)
            restart(&s);
    }
    ra_session_release(s);
}

static void test_agent(void **state)
{
    struct ra_session *s = of_agent();
    revoke_by(TLOG_BY_ID, AGENT, 1, 4);
    ended(s);
}

static void test_agent_entry(void **state)
{
    char id[RA_ID_LEN + 1];
    struct ra_session *s = of_agent();
    entry_id(AGENT, id);
    revoke_by(TLOG_BY_ENTRY, id, 1, 4);
    ended(s);
}

static void test_agent_serial(void **state)
{
    struct ra_session *s = of_agent();
    revoke_serial(s, "1000000000099", NULL, NULL, 1, 4);
    ended(s);
    s = of_agent();
    revoke_serial(s, "100000000009a", "", "", 1, 4);
    ended(s);
}

/* It names an agent and a workload of it. */
static void test_agent_prefix(void **state)
{
    struct ra_session *s = of_agent();
    make_behind(&x, AGENT "/shop", AGENT, says, 1);
    say(s, &one, AGENT "/shop");
    revoke_by(TLOG_BY_PREFIX, AGENT "/shop", 0, 1);
    assert_true(has(s, SHOP));
    say(s, &one, AGENT "/shop");
    revoke_by(TLOG_BY_PREFIX, AGENT, 1, 5);
    ended(s);
}

static void test_by_agent(void **state)
{
    struct ra_session *s = of_agent();
    revoke_by(TLOG_BY_AGENT, AGENT, 1, 4);
    ended(s);
}

/* The agent's word in a session that is not known to be the agent's: whose it is, nobody can tell. */
static void test_stranger(void **state)
{
    for (int i = 0; i < 2; i++) {
        struct ra_session *s = make_session(&x);
        say(s, &one, SHOP);
        say(s, &one, MAIL);
        if (i == 0)
            revoke_by(TLOG_BY_ID, SHOP, 1, 2);
        else
            revoke_serial(s, "1000000000099", AGENT, SHOP, 1, 2);
        ended(s);
    }
}

/* Who speaks for itself, though an agent's session it is, too. */
static void test_own(void **state)
{
    for (int i = 0; i < 2; i++) {
        struct ra_session *s = of_agent();
        by_token(s, WEB);
        if (i == 0)
            revoke_by(TLOG_BY_ID, WEB, 1, 5);
        else
            revoke_serial(s, "1000000000099", AGENT, WEB, 1, 5); /* by the agent's word once, and by its own since */
        ended(s);
    }
}

/* Of another agent's word in it. */
static void test_other_agent(void **state)
{
    struct ra_session *s = of_agent();
    make_behind(&x, "spiffe://example.org/beside", AGENT2, says, 1);
    say(s, &two, "spiffe://example.org/beside");
    revoke_by(TLOG_BY_ID, "spiffe://example.org/beside", 1, 5);
    ended(s);
    s = of_agent();
    say(s, &two, "spiffe://example.org/beside");
    revoke_serial(s, "1000000000099", AGENT2, "spiffe://example.org/beside", 1, 5);
    ended(s);
}

/* --- the fixture ------------------------------------------------------------------------------------------------------- */

static int setup(void **state)
{
    fx_new(&x, "");
    make_entry(&x, AGENT, NULL, NULL);
    make_entry(&x, AGENT2, NULL, NULL);
    make_entry(&x, WEB, NULL, NULL);
    make_behind(&x, SHOP, AGENT, says, 1);
    make_behind(&x, CART, AGENT, says, 1);
    make_behind(&x, MAIL, AGENT, says, 1);
    agent_new(&x, &one, AGENT, OLD, 300);
    agent_new(&x, &two, AGENT2, OLD + 1, 300);
    return 0;
}

static int teardown(void **state)
{
    agent_free(&one);
    agent_free(&two);
    fx_free(&x);
    return 0;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_id),    TEST(test_prefix),    TEST(test_entry),        TEST(test_serial),      TEST(test_serial_over),
        TEST(test_ready), TEST(test_under_way), TEST(test_asked_again),  TEST(test_jwt_under_way), TEST(test_agent),
        TEST(test_agent_entry), TEST(test_agent_serial), TEST(test_agent_prefix), TEST(test_by_agent), TEST(test_stranger), TEST(test_own),
        TEST(test_other_agent), TEST(test_heard), TEST(test_heard_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
