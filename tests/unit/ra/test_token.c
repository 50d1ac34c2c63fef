#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "tests/unit/ra/fixture.h"
#include <openssl/sha.h>

static struct fx x;

static void refused(struct ra_token_request r, const char *rule)
{
    struct wait w;
    wait_init(&w);
    ra_token_create(x.ra, &r, on_token, &w);
    EXPECT(&w, rule);
}

static void test_requests(void **state)
{
    static const char *const bad[] = {"nothing"}, *const good[] = {"k8s:ns:a"};
    const char *many[RA_SELECTORS_MAX + 1];
    for (size_t i = 0; i < RA_SELECTORS_MAX + 1; i++)
        many[i] = "a:b";
    refused((struct ra_token_request){0}, "token-empty");
    refused((struct ra_token_request){.spiffe_id = DB}, "token-entry");
    refused((struct ra_token_request){.spiffe_id = "spiffe://other.org/web"}, "trust-domain");
    refused((struct ra_token_request){.spiffe_id = "web"}, "spiffe-id");
    refused((struct ra_token_request){.spiffe_id = WEB, .selectors = bad, .selectors_count = 1}, "selector");
    refused((struct ra_token_request){.spiffe_id = WEB, .selectors = many, .selectors_count = RA_SELECTORS_MAX + 1}, "selector");
    refused((struct ra_token_request){.selectors = good, .selectors_count = 1, .lifetime = RA_TOKEN_LIFETIME_MAX + 1}, "lifetime");
    refused((struct ra_token_request){.selectors = good, .selectors_count = 1}, NULL);
}

/* The text carries the trust anchor; the store does not carry the secret. */
static void test_text_and_rest(void **state)
{
    struct wait w;
    struct err e = {0};
    uint8_t secret[32], anchor[32], want[32];
    char command[256], b64[64], hex[80];
    wait_init(&w);
    struct ra_token_request r = {.spiffe_id = WEB, .lifetime = 60};
    int64_t now = clock_wall();
    ra_token_create(x.ra, &r, on_token, &w);
    EXPECT(&w, NULL);
    assert_true(w.t.expires >= now + 60 && w.t.expires <= now + 70);
    assert_int_equal(join_token_parse(w.t.text, strlen(w.t.text), secret, anchor, &e), 0);
    SHA256(x.pki.root_der.p, x.pki.root_der.len, want);
    assert_memory_equal(anchor, want, 32);
    b64url_encode(b64, secret, 30);
    hex_encode(hex, secret, 32);
    snprintf(command, sizeof command, "grep -rqaF -e '%s' -e '%s' %s/store", b64, hex, x.dir);
    assert_int_not_equal(system(command), 0);
    /* raw bytes, too */
    struct buf file;
    buf_init(&file, 1 << 24);
    char path[128];
    snprintf(path, sizeof path, "%s/store/mayfly.db-wal", x.dir);
    assert_int_equal(file_read(&file, path, 1 << 24, &e), 0);
    SHA256(secret, 32, want);
    assert_null(memmem(file.p, file.len, secret, 32));
    assert_non_null(memmem(file.p, file.len, want, 32));
    buf_free(&file);
}

/* --- fifty spend one token at once ---------------------------------------------------------------------------- */

#define SPENDERS 50
static pthread_barrier_t barrier;
static uint8_t shared_secret[32];

struct spender {
    pthread_t thread;
    bool by_challenge;
    bool won;
    char rule[32];
};

static void *spend(void *arg)
{
    struct spender *p = arg;
    struct wait w;
    struct ra_session *s = make_session(&x);
    struct bytes csr = csr_for(WEB);
    if (p->by_challenge) {
        char authz[RA_ID_LEN + 1];
        order_new(&x, s, &(struct ask){.uri = WEB}, &w);
        EXPECT(&w, NULL);
        memcpy(authz, w.order_authz, sizeof authz);
        wait_init(&w);
        ra_authz_get(x.ra, s, authz, on_authz, &w);
        wait_for(&w);
        json_t *cmw = token_evidence(s, shared_secret, w.a.challenge_token);
        pthread_barrier_wait(&barrier);
        wait_init(&w);
        ra_challenge_answer(x.ra, s, authz, cmw, on_authz, &w);
        EXPECT(&w, NULL);
        p->won = w.a.status == RA_VALID;
        snprintf(p->rule, sizeof p->rule, "%s", w.a.error.rule);
        json_decref(cmw);
    } else {
        json_t *cmw = token_evidence(s, shared_secret, "nonce");
        pthread_barrier_wait(&barrier);
        order_new(&x, s, &(struct ask){.uri = WEB, .csr = &csr, .evidence = cmw}, &w);
        wait_for(&w);
        p->won = w.e.code == ERR_NONE;
        snprintf(p->rule, sizeof p->rule, "%s", w.e.rule);
        if (!p->won && w.e.code != ERR_BAD_EVIDENCE)
            abort();
        wait_free(&w);
        json_decref(cmw);
    }
    ra_session_release(s);
    return NULL;
}

static void test_race(void **state)
{
    struct spender p[SPENDERS] = {0};
    struct ra_stats before, after;
    unsigned won = 0;
    make_token(&x, WEB, NULL, 0, shared_secret);
    ra_stats(x.ra, &before);
    pthread_barrier_init(&barrier, NULL, SPENDERS);
    for (size_t i = 0; i < SPENDERS; i++) {
        p[i].by_challenge = i % 2;
        assert_int_equal(pthread_create(&p[i].thread, NULL, spend, &p[i]), 0);
    }
    for (size_t i = 0; i < SPENDERS; i++) {
        pthread_join(p[i].thread, NULL);
        won += p[i].won;
        if (!p[i].won)
            assert_string_equal(p[i].rule, "token-spent");
    }
    assert_int_equal(won, 1);
    ra_stats(x.ra, &after);
    assert_int_equal(after.authorizations, before.authorizations + 1);
    pthread_barrier_destroy(&barrier);
}

static void spend_alone(const uint8_t secret[32], const char *rule)
{
    struct wait w;
    struct ra_session *s = make_session(&x);
    struct bytes csr = csr_for(WEB);
    json_t *cmw = token_evidence(s, secret, "nonce");
    order_new(&x, s, &(struct ask){.uri = WEB, .csr = &csr, .evidence = cmw}, &w);
    EXPECT(&w, rule);
    wait_free(&w);
    json_decref(cmw);
    ra_session_release(s);
}

/* Spent stays spent, and unspent unspent, over a restart. */
static void test_restart(void **state)
{
    uint8_t spent[32], unspent[32];
    make_token(&x, WEB, NULL, 0, spent);
    make_token(&x, WEB, NULL, 0, unspent);
    spend_alone(spent, NULL);
    fx_reopen(&x);
    spend_alone(spent, "token-spent");
    spend_alone(unspent, NULL);
    spend_alone(unspent, "token-spent");
}

static void test_expiry(void **state)
{
    uint8_t secret[32];
    make_token(&x, WEB, NULL, 60, secret);
    if (!fx_clock(&x, 61))
        skip();
    spend_alone(secret, "token-expired");
    writer_sweep(x.ra); /* still known by its name */
    spend_alone(secret, "token-expired");
    fx_clock(&x, 61 + RA_TOKEN_GRACE);
    writer_sweep(x.ra);
    spend_alone(secret, "token-unknown");
    fx_clock(&x, 0);
    spend_alone(secret, "token-unknown");
}

static int setup(void **state)
{
    fx_new(&x, "");
    make_entry(&x, WEB, NULL, NULL);
    return 0;
}

static int teardown(void **state)
{
    fx_free(&x);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests), cmocka_unit_test(test_text_and_rest), cmocka_unit_test(test_race),
        cmocka_unit_test(test_restart),  cmocka_unit_test(test_expiry),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
