/* What ends by each way of naming, what is still possible, what a restart keeps, and what is no revocation. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "tests/unit/ra/revoke.h"

static void try_token(const char *id, const uint8_t secret[32], const char *rule)
{
    struct ra_session *s = make_session(&x);
    json_t *cmw = token_evidence(s, secret, "nonce");
    order_expect(&x, s, id, cmw, rule);
    json_decref(cmw);
    ra_session_release(s);
}

/* --- each way of naming --------------------------------------------------------------------------------- */

/* One session, one unspent token and the SVIDs of `id` end; `other` does not notice; new evidence counts. */
static void test_one(enum tlog_revoked_by by, const char *value, const char *id, const char *other)
{
    uint8_t gone[32], stays[32], made[32];
    struct ra_session *s = authorized(id), *o = authorized(other);
    make_token(&x, id, NULL, 0, gone);
    make_token(&x, other, NULL, 0, stays);
    try_svid(id, OLD, NULL);
    revoke_it(by, value, 2, 1); /* the SVID's session is one, too */
    for (int i = 0; i < 2; i++) {
        all_logged();
        assert_true(ra_session_revoked(s));
        assert_true(ra_session_deactivated(s));
        assert_false(ra_session_revoked(o));
        order_expect(&x, s, id, NULL, "session-revoked");
        order_expect(&x, o, other, NULL, NULL);
        try_token(id, gone, "token-revoked");
        try_svid(id, OLD, "svid-revoked");
        try_svid(other, OLD, NULL);
        try_svid(id, YOUNG, NULL);
        make_token(&x, id, NULL, 0, made);
        try_token(id, made, NULL);
        if (i == 0)
            restart(&s, &o);
    }
    try_token(other, stays, NULL);
    ra_session_release(s);
    ra_session_release(o);
    revoke_it(TLOG_BY_PREFIX, "spiffe://example.org/nobody", 0, 0);
}

static void test_id(void **state)
{
    test_one(TLOG_BY_ID, WEB, WEB, BELOW);
}

static void test_prefix(void **state)
{
    test_one(TLOG_BY_PREFIX, WEB, BELOW, BESIDE);
    try_svid(WEB, OLD, "svid-revoked");
}

static void test_entry(void **state)
{
    struct wait w;
    wait_init(&w);
    ra_entry_get(x.ra, DB, on_entry, &w);
    EXPECT(&w, NULL);
    test_one(TLOG_BY_ENTRY, w.entry_id, DB, WEB);
}

static void test_agent(void **state)
{
    test_one(TLOG_BY_AGENT, AGENT, AGENT, WEB);
}

/* What an agent's SVID vouched for goes with the agent. */
static void test_agent_shown(void **state)
{
    struct ra_session *s = make_session(&x), *o = authorized(DB);
    json_t *cmw = svid(s, AGENT, OLD, NULL);
    order_expect(&x, s, "spiffe://example.org/hosted", cmw, NULL);
    json_decref(cmw);
    revoke_it(TLOG_BY_AGENT, AGENT, 1, 0);
    for (int i = 0; i < 2; i++) {
        order_expect(&x, s, "spiffe://example.org/hosted", NULL, "session-revoked");
        assert_false(ra_session_revoked(o));
        if (i == 0)
            restart(&s, &o);
    }
    ra_session_release(s);
    ra_session_release(o);
}

static void test_serial(void **state)
{
    char serial[41];
    uint8_t key[32], session[32];
    struct revoked v;
    struct ra_session *s = authorized(WEB), *o = authorized(WEB), *third = make_session(&x);
    json_t *shown = svid(third, WEB, OLD + 2, key);
    snprintf(serial, sizeof serial, "%llx", 1ULL << 48 | OLD);
    memcpy(session, s->thumbprint_raw, sizeof session);
    const struct ra_revoke want = {.by = TLOG_BY_SERIAL, .value = serial, .reason = 4, .session = session, .key = key};
    revoke_with(&want, NULL, &v);
    assert_int_equal(v.r.ended.sessions, 1);
    assert_string_equal(v.actor, "local");
    for (int i = 0; i < 2; i++) {
        revoke_with(&want, "already-revoked", &v);
        order_expect(&x, s, WEB, NULL, "session-revoked");
        order_expect(&x, o, WEB, NULL, NULL);
        if (i == 0)
            restart(&s, &o);
    }
    json_decref(shown);
    try_svid(WEB, OLD, "svid-revoked");
    try_svid(WEB, OLD + 1, NULL);
    ra_session_release(s);
    ra_session_release(o);
    ra_session_release(third);
}

/* --- keys ----------------------------------------------------------------------------------------------- */

static void key_of(const EVP_PKEY *k, char hex[65])
{
    unsigned char *der = NULL;
    uint8_t hash[32];
    int n = i2d_PUBKEY(k, &der);
    EVP_Digest(der, (size_t)n, hash, NULL, EVP_sha256(), NULL);
    OPENSSL_free(der);
    hex_encode(hex, hash, sizeof hash);
}

static struct bytes csr_of(EVP_PKEY *k, uint8_t *der, size_t cap)
{
    return (struct bytes){der, csr_build(der, cap, k, &(struct csr_spec){.san = "URI:" WEB})};
}

/* A revoked key gets no certificate, by no way; the session goes on with another. It stays so. */
static void test_key(void **state)
{
    char hex[65], order[RA_ID_LEN + 1];
    uint8_t der[8192], secret[32];
    struct wait w;
    struct revoked v;
    EVP_PKEY *k = EVP_EC_gen("P-256");
    struct ra_session *s = authorized(WEB), *o = make_session(&x);
    struct bytes csr = csr_of(k, der, sizeof der);
    key_of(k, hex);
    order_new(&x, s, &(struct ask){.uri = WEB, .csr = &csr}, &w);
    EXPECT(&w, NULL);
    wait_free(&w);
    revoke_it(TLOG_BY_KEY, hex, 0, 0);
    make_token(&x, WEB, NULL, 0, secret);
    json_t *cmw = token_evidence(o, secret, "nonce");
    for (int i = 0; i < 2; i++) {
        order_new(&x, s, &(struct ask){.uri = WEB, .csr = &csr}, &w);
        EXPECT(&w, "csr-key-revoked");
        order_new(&x, o, &(struct ask){.uri = WEB, .csr = &csr, .evidence = cmw}, &w); /* costs no token */
        EXPECT(&w, "csr-key-revoked");
        order_new(&x, s, &(struct ask){.uri = WEB}, &w);
        EXPECT(&w, NULL);
        memcpy(order, w.o.id, sizeof order);
        wait_init(&w);
        ra_order_finalize(x.ra, s, order, csr, on_order, &w);
        EXPECT(&w, "csr-key-revoked");
        order_expect(&x, s, WEB, NULL, NULL);
        revoke_with(&(struct ra_revoke){.by = TLOG_BY_KEY, .value = hex}, "already-revoked", &v);
        if (i == 0)
            restart(&s, &o);
    }
    order_expect(&x, o, WEB, cmw, NULL);
    json_decref(cmw);
    EVP_PKEY_free(k);
    ra_session_release(s);
    ra_session_release(o);
}

/* --- none at all ---------------------------------------------------------------------------------------- */

static void test_refused(void **state)
{
    static const struct {
        enum tlog_revoked_by by;
        const char *value, *rule;
        uint8_t reason;
    } bad[] = {
        {TLOG_BY_ID, "spiffe://other.org/web", "trust-domain", 0},
        {TLOG_BY_ID, "web", "spiffe-id", 0},
        {TLOG_BY_PREFIX, "spiffe://example.org", "spiffe-path", 0},
        {TLOG_BY_PREFIX, "spiffe://example.org/web/", "spiffe-id", 0},
        {TLOG_BY_AGENT, "", "spiffe-id", 0},
        {TLOG_BY_AGENT, "spiffe://example.org/mayfly/server", "reserved", 0},
        {TLOG_BY_ENTRY, "nothing", "entry", 0},
        {TLOG_BY_ENTRY, WEB, "entry", 0},
        {TLOG_BY_SERIAL, "", "revocation-value", 0},
        {TLOG_BY_SERIAL, "0a", "revocation-value", 0},
        {TLOG_BY_SERIAL, "1A", "revocation-value", 0},
        {TLOG_BY_SERIAL, "12345678901234567890123456789012345678901", "revocation-value", 0},
        {TLOG_BY_KEY, "ab", "revocation-value", 0},
        {TLOG_BY_KEY, "000000000000000000000000000000000000000000000000000000000000000x", "revocation-value", 0},
        {(enum tlog_revoked_by)0, WEB, "revocation-value", 0},
        {(enum tlog_revoked_by)7, WEB, "revocation-value", 0},
        {TLOG_BY_ID, WEB, "revocation-reason", 7},
        {TLOG_BY_ID, WEB, "revocation-reason", 8},
        {TLOG_BY_ID, WEB, "revocation-reason", 11},
    };
    struct revoked v;
    char comment[600];
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        revoke_with(&(struct ra_revoke){.by = bad[i].by, .value = bad[i].value, .reason = bad[i].reason}, bad[i].rule, &v);
    revoke_with(&(struct ra_revoke){.by = TLOG_BY_ID, .value = WEB, .comment = "a\nb"}, "record-format", &v);
    memset(comment, 'c', sizeof comment);
    comment[599] = 0;
    revoke_with(&(struct ra_revoke){.by = TLOG_BY_ID, .value = WEB, .comment = comment}, "revocation-comment", &v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_id),     TEST(test_prefix), TEST(test_entry), TEST(test_agent), TEST(test_agent_shown),
        TEST(test_serial), TEST(test_key),    TEST(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
