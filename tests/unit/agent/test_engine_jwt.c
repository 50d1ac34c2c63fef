/* JWT-SVIDs in the engine: what is taken of the authority, how long it is kept, and how many. */
#include "unit/agent/engine_fixture.h"
#include "unit/agent/jwt_token.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_jwt_checked, setup, teardown),
        cmocka_unit_test_setup_teardown(test_jwt_ages, setup, teardown),
        cmocka_unit_test_setup_teardown(test_many_audiences, setup, teardown),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
