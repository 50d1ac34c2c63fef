/* JWT-SVIDs: who gets one, for how long, and what ends it. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "tests/unit/ra/fixture.h"

#define TEAM "spiffe://example.org/team"
#define BELOW TEAM "/one"

static struct fx x;

struct got {
    struct wait w;
    uint64_t index;
    int64_t issued, expires;
    char jwt[32];
};

static void on_jwt(void *arg, const struct ca_jwt_signed *r, const struct err *e)
{
    struct got *g = arg;
    pthread_mutex_lock(&g->w.lock);
    assert_true(!r == !!e);
    if (r) {
        g->index = r->index;
        g->issued = r->issued;
        g->expires = r->expires;
        text_of(g->jwt, sizeof g->jwt, r->jwt);
    }
    wait_wake(&g->w, e);
}

static const char *const payroll[] = {"payroll"};

static void ask_begin(struct got *g, struct ra_session *s, const char *id, unsigned ttl, const json_t *evidence)
{
    const struct ra_jwt_request r = {.spiffe_id = id, .audiences = payroll, .audiences_count = 1, .ttl = ttl,
                                     .evidence = evidence, .freshness = "nonce"};
    memset(g, 0, sizeof *g);
    wait_init(&g->w);
    ra_jwt_new(x.ra, s, &r, on_jwt, g);
}

static void ask_for(struct ra_session *s, const char *id, unsigned ttl, const json_t *evidence, const char *rule)
{
    struct got g;
    unsigned before = atomic_load(&x.signer.asked);
    ask_begin(&g, s, id, ttl, evidence);
    EXPECT(&g.w, rule);
    assert_int_equal(atomic_load(&x.signer.asked), before + !rule);
    if (!rule)
        assert_string_equal(g.jwt, "a.b.c");
}

/* By a join token, in the one round trip. */
static struct ra_session *authorized(const char *id)
{
    uint8_t secret[32];
    struct ra_session *s = make_session(&x);
    make_token(&x, id, NULL, 0, secret);
    json_t *cmw = token_evidence(s, secret, "nonce");
    ask_for(s, id, 0, cmw, NULL);
    json_decref(cmw);
    return s;
}

static void test_granted(void **state)
{
    uint8_t secret[32], raw[32];
    struct got g;
    struct ra_session *s = make_session(&x);
    const char *const two[] = {"payroll", "Grüße"};
    make_token(&x, WEB, NULL, 0, secret);
    ask_for(s, WEB, 0, NULL, "authorization");
    json_t *cmw = token_evidence(s, secret, "nonce"), *stale = token_evidence(s, secret, "another");
    ask_for(s, WEB, 0, stale, "evidence-binding");
    ask_for(s, WEB, 0, cmw, NULL);
    assert_string_equal(x.signer.last_id, WEB);
    assert_string_equal(x.signer.last_attestor, "join_token");
    assert_string_equal(x.signer.last_requester, WEB);
    assert_int_equal(x.signer.last_jwt.lifetime, 300);
    assert_int_equal(x.signer.last_jwt.entry_revision, 1);
    assert_int_equal(b64url_decode(raw, 32, ra_session_thumbprint(s), 43), 32);
    assert_memory_equal(x.signer.last_session, raw, 32);
    assert_int_equal(x.signer.last_jwt.audiences.len, 8);
    assert_memory_equal(x.signer.last_audiences, "\7payroll", 8);
    /* warm: no evidence any more, and what is not needed is not looked at */
    ask_for(s, WEB, 0, NULL, NULL);
    ask_for(s, WEB, 0, cmw, NULL);
    const struct ra_jwt_request r = {.spiffe_id = WEB, .audiences = two, .audiences_count = 2};
    memset(&g, 0, sizeof g);
    wait_init(&g.w);
    ra_jwt_new(x.ra, s, &r, on_jwt, &g);
    EXPECT(&g.w, NULL);
    assert_memory_equal(x.signer.last_audiences, "\7payroll\7Grüße", 16);
    /* and a certificate comes of the same authorization */
    struct wait w;
    struct bytes csr = csr_for(WEB);
    order_new(&x, s, &(struct ask){.uri = WEB, .csr = &csr}, &w);
    EXPECT(&w, NULL);
    wait_free(&w);
    struct ra_stats n;
    ra_stats(x.ra, &n);
    assert_int_equal(n.jwts, 4);
    assert_int_equal(n.issued, 1);
    json_decref(cmw);
    json_decref(stale);
    ra_session_release(s);
}

/* Of this session, for this ID. */
static void test_foreign(void **state)
{
    struct ra_session *s = authorized(WEB), *thief = make_session(&x);
    ask_for(thief, WEB, 0, NULL, "authorization");
    ask_for(s, DB, 0, NULL, "authorization");
    ask_for(s, "spiffe://example.org/nobody", 0, NULL, "authorization");
    ask_for(s, "spiffe://example.com/web", 0, NULL, "trust-domain");
    ask_for(s, "nonsense", 0, NULL, "spiffe-id");
    ra_session_release(s);
    ra_session_release(thief);
}

static void audience_refused(struct ra_session *s, const char *const *list, size_t n)
{
    struct got g;
    const struct ra_jwt_request r = {.spiffe_id = WEB, .audiences = list, .audiences_count = n};
    memset(&g, 0, sizeof g);
    wait_init(&g.w);
    ra_jwt_new(x.ra, s, &r, on_jwt, &g);
    EXPECT(&g.w, "audience");
    assert_int_equal(g.w.e.code, ERR_MALFORMED);
}

static void test_audiences(void **state)
{
    static char wide[257], full[193];
    struct ra_session *s = authorized(WEB);
    const char *list[17];
    memset(wide, 'a', 256);
    memset(full, 'a', 192);
    audience_refused(s, list, 0);
    for (size_t i = 0; i < 17; i++)
        list[i] = "a";
    audience_refused(s, list, 17);
    static const char *const bad[] = {"", "a\nb", "\xc0\xaf", wide};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        list[1] = bad[i];
        audience_refused(s, list, 2);
    }
    for (size_t i = 0; i < 16; i++)
        list[i] = full; /* a byte each too many */
    audience_refused(s, list, 16);
    ra_session_release(s);
}

static void lifetime_is(struct ra_session *s, unsigned ttl, unsigned want)
{
    struct got g;
    ask_begin(&g, s, WEB, ttl, NULL);
    EXPECT(&g.w, NULL);
    assert_int_equal(g.expires - g.issued, want);
}

static void entry_ttl(unsigned ttl)
{
    struct wait w;
    char id[] = WEB;
    struct ra_entry e = entry_of(id);
    e.ttl = ttl;
    wait_init(&w);
    ra_entry_update(x.ra, &e, on_entry, &w);
    EXPECT(&w, NULL);
}

/* Five minutes, or what is asked for; never longer than the entry's certificates, nor than the maximum. */
static void test_lifetime(void **state)
{
    struct ra_session *s = authorized(WEB);
    lifetime_is(s, 0, 300);
    lifetime_is(s, 60, 60);
    lifetime_is(s, 86400, 300);
    entry_ttl(1800);
    lifetime_is(s, 0, 300);
    lifetime_is(s, 1200, 1200);
    lifetime_is(s, 3600, 1800);
    entry_ttl(120);
    lifetime_is(s, 0, 120);
    ra_session_release(s);
}

static void test_revoked(void **state)
{
    struct ra_session *s = authorized(WEB);
    take_back(&x, TLOG_BY_ID, WEB);
    ask_for(s, WEB, 0, NULL, "session-revoked");
    ra_session_release(s);

    s = authorized(BELOW);
    take_back(&x, TLOG_BY_PREFIX, TEAM);
    ask_for(s, BELOW, 0, NULL, "session-revoked");
    ra_session_release(s);

    s = authorized(DB);
    pthread_mutex_lock(&x.ra->lock);
    char entry[RA_ID_LEN + 1];
    memcpy(entry, registry_by_spiffe_id(&x.ra->entries, DB)->x.id, sizeof entry);
    pthread_mutex_unlock(&x.ra->lock);
    take_back(&x, TLOG_BY_ENTRY, entry);
    ask_for(s, DB, 0, NULL, "session-revoked");
    ra_session_release(s);

    s = authorized(TEAM);
    take_back(&x, TLOG_BY_AGENT, TEAM); /* the token proved itself */
    ask_for(s, TEAM, 0, NULL, "session-revoked");
    ra_session_release(s);

    s = authorized(WEB); /* with evidence made since, again */
    delete_entry(&x, WEB);
    ask_for(s, WEB, 0, NULL, "authorization");
    ra_session_release(s);
}

/* What is revoked while the signer is at work is given to nobody. */
static void test_revoked_meanwhile(void **state)
{
    struct got g;
    struct ra_session *s = authorized(WEB);
    pthread_mutex_lock(&x.signer.lock); /* it answers nobody */
    ask_begin(&g, s, WEB, 0, NULL);
    take_back(&x, TLOG_BY_ID, WEB);
    pthread_mutex_unlock(&x.signer.lock);
    EXPECT(&g.w, "session-revoked");
    assert_string_equal(g.jwt, "");
    ra_session_release(s);
}

static void test_signer_refuses(void **state)
{
    struct got g;
    struct ra_session *s = authorized(WEB);
    pthread_mutex_lock(&x.signer.lock);
    err_set(&x.signer.refuse, ERR_DENIED, "lifetime", "too long");
    pthread_mutex_unlock(&x.signer.lock);
    ask_begin(&g, s, WEB, 0, NULL);
    EXPECT(&g.w, "lifetime");
    ra_session_release(s);
}

/* A token that makes no key: said before a join token is spent. */
static void test_off(void **state)
{
    uint8_t secret[32];
    struct wait w;
    struct ra_session *s = make_session(&x);
    struct bytes csr = csr_for(WEB);
    make_token(&x, WEB, NULL, 0, secret);
    json_t *cmw = token_evidence(s, secret, "nonce");
    ask_for(s, WEB, 0, cmw, "jwt-off");
    order_new(&x, s, &(struct ask){.uri = WEB, .csr = &csr, .evidence = cmw}, &w);
    EXPECT(&w, NULL);
    wait_free(&w);
    json_decref(cmw);
    ra_session_release(s);
}

static int entries(void)
{
    make_entry(&x, WEB, NULL, NULL);
    make_entry(&x, DB, NULL, NULL);
    make_entry(&x, TEAM, NULL, NULL);
    make_entry(&x, BELOW, NULL, NULL);
    return 0;
}

static int setup(void **state)
{
    fx_new(&x, "");
    return entries();
}

static int setup_off(void **state)
{
    fx_new(&x, "#no-jwt\n");
    return entries();
}

static int teardown(void **state)
{
    fx_free(&x);
    return 0;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_granted), TEST(test_foreign),           TEST(test_audiences),      TEST(test_lifetime),
        TEST(test_revoked), TEST(test_revoked_meanwhile), TEST(test_signer_refuses),
        cmocka_unit_test_setup_teardown(test_off, setup_off, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
