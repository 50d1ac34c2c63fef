/* What an agent vouches for: who gets it, and everything that ends it. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "tests/unit/ra/agent.h"

#define AGENT "spiffe://example.org/host/one"
#define AGENT2 "spiffe://example.org/host/two"
#define SHOP "spiffe://example.org/shop" /* behind AGENT */
#define OLD 7 /* log index of AGENT's SVID, before every record that the signer of the fixture takes */
#define MANY 1100

static struct fx x;
static struct agent one, two;
static const char *const both[] = {"unix:uid:1000", "systemd:unit:shop.service"};

static void say(struct ra_session *s, const struct agent *a, const char *id, const char *const *selectors, size_t n,
                const char *rule)
{
    json_t *cmw = agent_says(&x, a, s, "nonce", selectors, n);
    order_expect(&x, s, id, cmw, rule);
    json_decref(cmw);
}

/* A session that has nothing but what AGENT vouched for. */
static struct ra_session *vouched(void)
{
    struct ra_session *s = make_session(&x);
    say(s, &one, SHOP, both, 2, NULL);
    assert_true(ra_session_authorized(x.ra, s, SHOP));
    return s;
}

static void restart(struct ra_session **s)
{
    char id[RA_ID_LEN + 1];
    memcpy(id, ra_session_id(*s), sizeof id);
    ra_session_release(*s);
    fx_reopen(&x);
    assert_non_null(*s = ra_session_find(x.ra, id));
}

/* Until the log was told of a refusal by this rule; it names AGENT. */
static void wait_refusal(const char *rule)
{
    struct tlog_record_info r;
    struct err e = {0};
    for (bool found = false; !found; nanosleep(&(struct timespec){0, 1000000}, NULL)) {
        pthread_mutex_lock(&x.signer.lock);
        for (unsigned i = 0; i < 16 && i < x.signer.recorded && !found; i++) {
            if (x.signer.records[i].type != TLOG_ENTRY_REFUSAL)
                continue;
            struct bytes body = {x.signer.records[i].body, x.signer.records[i].len};
            assert_int_equal(tlog_record_parse(&r, TLOG_ENTRY_REFUSAL, body, &e), 0);
            found = bytes_eq_str(r.rule, rule);
        }
        if (found) {
            assert_true(bytes_eq_str(r.requester, AGENT));
            assert_true(bytes_eq_str(r.attestor, "agent"));
            assert_true(bytes_eq_str(r.spiffe_id, SHOP));
        }
        pthread_mutex_unlock(&x.signer.lock);
    }
}

/* --- who gets it -------------------------------------------------------------------------------------------------- */

static void test_one_round_trip(void **state)
{
    struct ra_session *s = vouched();
    for (int i = 0; i < 2; i++) {
        assert_string_equal(x.signer.last_id, SHOP);
        assert_string_equal(x.signer.last_attestor, "agent");
        assert_string_equal(x.signer.last_requester, AGENT);
        if (i == 0)
            restart(&s);
        *x.signer.last_requester = *x.signer.last_attestor = 0;
        order_expect(&x, s, SHOP, NULL, NULL); /* a renewal, and one after a restart */
    }
    assert_false(ra_session_authorized(x.ra, s, AGENT));
    ra_session_release(s);
}

/* RFC 8555's way: order, challenge, finalize. */
static void test_challenge(void **state)
{
    struct wait w;
    char order[RA_ID_LEN + 1], authz[RA_ID_LEN + 1];
    struct ra_session *s = make_session(&x);
    order_new(&x, s, &(struct ask){.uri = SHOP}, &w);
    EXPECT(&w, NULL);
    assert_int_equal(w.o.status, RA_PENDING);
    memcpy(order, w.o.id, sizeof order);
    memcpy(authz, w.order_authz, sizeof authz);
    wait_init(&w);
    ra_authz_get(x.ra, s, authz, on_authz, &w);
    EXPECT(&w, NULL);
    json_t *cmw = agent_says(&x, &one, s, w.a.challenge_token, both, 2);
    wait_init(&w);
    ra_challenge_answer(x.ra, s, authz, cmw, on_authz, &w);
    EXPECT(&w, NULL);
    assert_int_equal(w.a.status, RA_VALID);
    json_decref(cmw);
    struct bytes csr = csr_for(SHOP);
    wait_init(&w);
    ra_order_finalize(x.ra, s, order, csr, on_order, &w);
    EXPECT(&w, NULL);
    assert_int_equal(w.o.status, RA_VALID);
    wait_free(&w);
    ra_session_release(s);
}

static void test_who(void **state)
{
    struct agent shop;
    const char *more[] = {"unix:gid:5", both[1], "unix:user:shop", both[0]};
    struct ra_session *s = make_session(&x), *other = make_session(&x);
    agent_new(&x, &shop, SHOP, OLD + 3, 300);
    say(s, &two, SHOP, both, 2, "parent");
    say(s, &one, SHOP, both, 1, "selectors");
    wait_refusal("selectors");
    say(s, &one, WEB, both, 2, "agent-parent");
    say(s, &one, AGENT, both, 2, "agent-parent");
    say(s, &shop, SHOP, both, 2, "parent"); /* its own SVID does not pass the agent by */
    json_t *cmw = agent_says(&x, &one, other, "nonce", both, 2);
    order_expect(&x, s, SHOP, cmw, "agent-signature"); /* said to another session */
    json_decref(cmw);
    assert_false(ra_session_authorized(x.ra, s, SHOP));
    say(s, &one, SHOP, more, 4, NULL);
    /* a token for it does not, and is not spent */
    uint8_t secret[32];
    make_token(&x, SHOP, NULL, 0, secret);
    cmw = token_evidence(other, secret, "nonce");
    order_expect(&x, other, SHOP, cmw, "parent");
    order_expect(&x, other, SHOP, cmw, "parent");
    json_decref(cmw);
    agent_free(&shop);
    ra_session_release(s);
    ra_session_release(other);
}

/* It ends with the SVID that vouched, though the session would live longer. */
static void test_expires(void **state)
{
    struct wait w;
    struct ra_session *s = vouched();
    order_new(&x, s, &(struct ask){.uri = SHOP}, &w);
    EXPECT(&w, NULL);
    char authz[RA_ID_LEN + 1];
    memcpy(authz, w.order_authz, sizeof authz);
    wait_init(&w);
    ra_authz_get(x.ra, s, authz, on_authz, &w);
    EXPECT(&w, NULL);
    assert_in_range(w.a.expires, clock_wall() + 290, clock_wall() + 300);
    if (fx_clock(&x, 301))
        assert_false(ra_session_authorized(x.ra, s, SHOP));
    fx_clock(&x, 0);
    ra_session_release(s);
}

/* --- what ends it ---------------------------------------------------------------------------------------------------- */

static void ends(struct ra_session *s)
{
    assert_false(ra_session_authorized(x.ra, s, SHOP));
    restart(&s);
    assert_false(ra_session_authorized(x.ra, s, SHOP));
    ra_session_release(s);
}

static void update(const char *parent, const char *selector)
{
    struct wait w;
    char id[] = SHOP, parent_copy[256], sel[256], *list[] = {sel};
    snprintf(parent_copy, sizeof parent_copy, "%s", parent);
    snprintf(sel, sizeof sel, "%s", selector);
    const struct ra_entry e = {.spiffe_id = id, .parent = parent_copy, .selectors = list, .selectors_count = 1};
    wait_init(&w);
    ra_entry_update(x.ra, &e, on_entry, &w);
    EXPECT(&w, NULL);
}

static void test_entry_changes(void **state)
{
    struct ra_session *s = vouched();
    update(AGENT, both[0]); /* still matched */
    assert_true(ra_session_authorized(x.ra, s, SHOP));
    update(AGENT, "unix:uid:1001");
    ends(s);
    update(AGENT, both[0]);
    s = vouched();
    update(AGENT2, both[0]);
    ends(s);
    s = make_session(&x);
    say(s, &two, SHOP, both, 1, NULL);
    update(x.ra->authority, both[0]);
    ends(s);
    update(AGENT, both[0]);
    s = vouched();
    delete_entry(&x, SHOP);
    make_behind(&x, SHOP, AGENT, both, 2);
    ends(s);
    ra_session_release(vouched());
}

/* Of all that an agent says, what the entry asked for is kept, and not what the agent makes of it. */
static void test_kept(void **state)
{
    char long_one[1025] = "agent:";
    const char *says[] = {both[1], long_one, "unix:gid:5", both[0]};
    struct ra_session *s = make_session(&x);
    memset(long_one + 6, 'x', sizeof long_one - 7);
    say(s, &one, SHOP, says, 4, NULL);
    for (int i = 0; i < 2; i++) {
        pthread_mutex_lock(&x.ra->lock);
        assert_int_equal(s->authz->selectors.n, 2);
        assert_string_equal(s->authz->selectors.v[0], both[0]);
        assert_string_equal(s->authz->selectors.v[1], both[1]);
        pthread_mutex_unlock(&x.ra->lock);
        restart(&s);
    }
    update(AGENT, says[2]); /* asked for since: to be said again, by the next order */
    assert_false(ra_session_authorized(x.ra, s, SHOP));
    say(s, &one, SHOP, says, 4, NULL);
    assert_true(ra_session_authorized(x.ra, s, SHOP));
    ra_session_release(s);
}

static void test_parent_goes(void **state)
{
    struct ra_session *s = vouched();
    delete_entry(&x, AGENT);
    assert_false(ra_session_authorized(x.ra, s, SHOP));
    say(s, &one, SHOP, both, 2, "x509pop-entry");
    make_entry(&x, AGENT, NULL, NULL); /* another of that name did not vouch */
    ends(s);
}

/* Until it gets through: once the log has the revocation, an SVID that is logged later is good. */
static void proven_anew(void)
{
    struct wait w;
    struct agent again;
    bool good = false;
    agent_new(&x, &again, AGENT, 500000, 300);
    while (!good) {
        struct ra_session *s = make_session(&x);
        json_t *cmw = agent_says(&x, &again, s, "nonce", both, 2);
        struct bytes csr = csr_for(SHOP);
        order_new(&x, s, &(struct ask){.uri = SHOP, .csr = &csr, .evidence = cmw}, &w);
        wait_for(&w);
        good = w.e.code == ERR_NONE;
        assert_true(good || strcmp(w.e.rule, "svid-revoked") == 0);
        json_decref(cmw);
        wait_free(&w);
        ra_session_release(s);
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    }
    agent_free(&again);
}

/* The agent's SVID vouched in a session that is not its own; whatever names that SVID ends it. */
static void by_way(enum tlog_revoked_by by, const char *value)
{
    struct ra_session *s = vouched(), *fresh = make_session(&x), *two_s = make_session(&x);
    make_behind(&x, WEB "/behind", AGENT2, both, 1);
    say(two_s, &two, WEB "/behind", both, 1, NULL);
    take_back(&x, by, value);
    say(fresh, &one, SHOP, both, 2, "svid-revoked");
    assert_int_equal(ra_session_revoked(s), by == TLOG_BY_AGENT);
    assert_int_equal(ra_session_authorized(x.ra, two_s, WEB "/behind"), by != TLOG_BY_PREFIX);
    ra_session_release(fresh);
    ra_session_release(two_s);
    ends(s);
    proven_anew();
}

static void test_revoked_serial(void **state)
{
    by_way(TLOG_BY_SERIAL, one.serial);
}

static void test_revoked_key(void **state)
{
    by_way(TLOG_BY_KEY, one.key_hex);
}

static void test_revoked_id(void **state)
{
    by_way(TLOG_BY_ID, AGENT);
}

static void test_revoked_prefix(void **state)
{
    by_way(TLOG_BY_PREFIX, "spiffe://example.org/host");
}

static void test_revoked_entry(void **state)
{
    struct wait w;
    wait_init(&w);
    ra_entry_get(x.ra, AGENT, on_entry, &w);
    EXPECT(&w, NULL);
    by_way(TLOG_BY_ENTRY, w.entry_id);
}

static void test_revoked_agent(void **state)
{
    by_way(TLOG_BY_AGENT, AGENT);
}

/* Revoked while the signer is at work: given to nobody. */
static void test_under_way(void **state)
{
    struct wait w;
    struct ra_session *s = vouched();
    struct bytes csr = csr_for(SHOP);
    unsigned before = atomic_load(&x.signer.asked);
    pthread_mutex_lock(&x.signer.lock);
    order_new(&x, s, &(struct ask){.uri = SHOP, .csr = &csr}, &w);
    take_back(&x, TLOG_BY_SERIAL, one.serial);
    pthread_mutex_unlock(&x.signer.lock);
    EXPECT(&w, "svid-revoked");
    assert_int_equal(atomic_load(&x.signer.asked), before + 1);
    ra_session_release(s);
}

/* --- many --------------------------------------------------------------------------------------------------------------- */

static void many_name(char id[64], int i)
{
    snprintf(id, 64, "spiffe://example.org/many/%d", i);
}

/* One session of an agent with all its workloads; and what finds one of them does not look at the others. */
static void test_many(void **state)
{
    char id[64];
    struct ra_stats st;
    struct ra_session *s = make_session(&x);
    for (int i = 0; i < MANY; i++) {
        many_name(id, i);
        make_behind(&x, id, AGENT, both, 1);
        say(s, &one, id, both, 1, NULL);
    }
    ra_stats(x.ra, &st);
    assert_int_equal(st.authorizations, MANY);
    assert_int_equal(st.orders, 0);
    restart(&s);
    for (int i = 0; i < MANY; i += 100) {
        many_name(id, i);
        assert_true(ra_session_authorized(x.ra, s, id));
        order_expect(&x, s, id, NULL, NULL);
    }
    pthread_mutex_lock(&x.ra->lock);
    assert_int_equal(s->authz_count, MANY);
    assert_int_equal(s->authz_valid, MANY);
    assert_int_equal(x.ra->pairs.count, MANY);
    pthread_mutex_unlock(&x.ra->lock);
    take_back(&x, TLOG_BY_AGENT, AGENT);
    ra_stats(x.ra, &st);
    assert_int_equal(st.authorizations, 0);
    assert_int_equal(x.ra->pairs.count, 0);
    ra_session_release(s);
}

/* Several for one name in one session: pending beside valid, failed ones; each is found, and goes alone. */
static void test_alike(void **state)
{
    struct wait w;
    struct err e = {0}, why = {0};
    struct ra_session *s = make_session(&x);
    struct authz *a[4];
    err_set(&why, ERR_UNAUTHORIZED, "test", "as the test wants");
    pthread_mutex_lock(&x.ra->lock);
    for (size_t i = 0; i < 4; i++) {
        a[i] = authz_new(s, SHOP, &e);
        a[i]->expires = clock_wall() + 100;
        authz_add(x.ra, a[i]);
    }
    assert_int_equal(x.ra->pairs.count, 1);
    for (size_t i = 0; i < 4; i++) {
        assert_non_null(authz_pending(s, SHOP, clock_wall()));
        if (i == 1)
            authz_fail(x.ra, a[i], RA_INVALID, &why);
        else
            authz_remove(x.ra, a[i]); /* the first, one in the middle, the last */
    }
    assert_null(authz_pending(s, SHOP, clock_wall()));
    assert_int_equal(s->authz_count, 1);
    assert_int_equal(x.ra->pairs.count, 1);
    pthread_mutex_unlock(&x.ra->lock);
    say(s, &one, SHOP, both, 2, NULL);
    pthread_mutex_lock(&x.ra->lock);
    assert_int_equal(s->authz_count, 1); /* the valid one took the place of all */
    assert_int_equal(s->authz_valid, 1);
    assert_int_equal(x.ra->pairs.count, 1);
    pthread_mutex_unlock(&x.ra->lock);
    wait_init(&w);
    ra_authz_deactivate(x.ra, s, s->authz->id, on_authz, &w);
    EXPECT(&w, NULL);
    assert_int_equal(s->authz_valid, 0);
    assert_false(ra_session_authorized(x.ra, s, SHOP));
    ra_session_release(s);
}

/* A stranger opens no more than before; a session that has proven something may have more of both. */
static void test_limits(void **state)
{
    struct err e = {0};
    struct ra_session *s = make_session(&x);
    pthread_mutex_lock(&x.ra->lock);
    s->open_count = RA_ORDERS_STRANGER_MAX;
    assert_int_equal(order_room(x.ra, s, true, &e), -1);
    assert_string_equal(e.rule, "orders-session");
    s->open_count = 0;
    for (int i = 0; i < RA_AUTHZ_OPEN_MAX; i++) {
        assert_int_equal(authz_room(x.ra, s, clock_wall(), &e), 0);
        struct authz *a = authz_new(s, SHOP, &e);
        a->expires = clock_wall() + 100;
        authz_add(x.ra, a);
    }
    assert_int_equal(authz_room(x.ra, s, clock_wall(), &e), -1);
    assert_string_equal(e.rule, "authorizations");
    s->authz->expires = 0;
    assert_int_equal(authz_room(x.ra, s, clock_wall(), &e), 0);
    while (s->authz)
        authz_remove(x.ra, s->authz);
    pthread_mutex_unlock(&x.ra->lock);
    say(s, &one, SHOP, both, 2, NULL);
    pthread_mutex_lock(&x.ra->lock);
    s->open_count = RA_ORDERS_STRANGER_MAX;
    assert_int_equal(order_room(x.ra, s, true, &e), 0);
    s->open_count = RA_ORDERS_SESSION_MAX;
    assert_int_equal(order_room(x.ra, s, true, &e), -1);
    s->open_count = 0;
    pthread_mutex_unlock(&x.ra->lock);
    ra_session_release(s);
}

/* --- the fixture ------------------------------------------------------------------------------------------------------------ */

static int setup(void **state)
{
    fx_new(&x, "");
    make_entry(&x, AGENT, NULL, NULL);
    make_entry(&x, AGENT2, NULL, NULL);
    make_entry(&x, WEB, both[0], NULL);
    make_behind(&x, SHOP, AGENT, both, 2);
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
        TEST(test_one_round_trip), TEST(test_challenge), TEST(test_who),       TEST(test_expires), TEST(test_entry_changes),
        TEST(test_parent_goes),    TEST(test_revoked_serial), TEST(test_revoked_key), TEST(test_revoked_id), TEST(test_revoked_prefix),
        TEST(test_revoked_entry), TEST(test_revoked_agent), TEST(test_under_way), TEST(test_many),    TEST(test_alike),
        TEST(test_limits),     TEST(test_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
