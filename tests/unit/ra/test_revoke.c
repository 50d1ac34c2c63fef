/* Revocations: what ends by each way of naming, what is still possible, and what a restart keeps. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "tests/unit/ra/fixture.h"
#include "ra/store.h"
#include "ca/profile.h"

#define AGENT "spiffe://example.org/agent"
#define BELOW "spiffe://example.org/web/one"
#define BESIDE "spiffe://example.org/web2"
#define OLD 7        /* log indexes, before and */
#define YOUNG 500000 /* after every record that the signer of the fixture takes */

static struct fx x;

/* --- revoking ------------------------------------------------------------------------------------------------ */

struct revoked {
    struct wait w;
    struct ra_revocation r;
    char value[2049], actor[129], comment[513];
};

static void on_revoked(void *arg, const struct ra_revocation *r, const struct err *e)
{
    struct revoked *v = arg;
    pthread_mutex_lock(&v->w.lock);
    assert_true(!r == !!e);
    if (r) {
        v->r = *r;
        snprintf(v->value, sizeof v->value, "%s", r->value);
        snprintf(v->actor, sizeof v->actor, "%s", r->actor);
        snprintf(v->comment, sizeof v->comment, "%s", r->comment);
    }
    wait_wake(&v->w, e);
}

static void revoke_with(const struct ra_revoke *want, const char *rule, struct revoked *v)
{
    wait_init(&v->w);
    ra_revoke(x.ra, want, on_revoked, v);
    EXPECT(&v->w, rule);
}

static void revoke_it(enum tlog_revoked_by by, const char *value, uint64_t sessions, uint64_t tokens)
{
    struct revoked v;
    revoke_with(&(struct ra_revoke){.by = by, .value = value, .reason = 1, .actor = "uid:7", .comment = "lost"}, NULL, &v);
    assert_string_equal(v.value, value);
    assert_string_equal(v.actor, "uid:7");
    assert_string_equal(v.comment, "lost");
    assert_int_equal(v.r.ended.sessions, sessions);
    assert_int_equal(v.r.ended.authorizations, sessions);
    assert_int_equal(v.r.ended.tokens, tokens);
}

static bool newest(void *arg, const struct ra_revocation *r)
{
    *(struct ra_revocation *)arg = *r;
    return true;
}

/* Until the log has all; answers the newest one's index. */
static uint64_t all_logged(void)
{
    struct ra_revocation last = {0};
    struct err e = {0};
    bool more;
    do {
        nanosleep(&(struct timespec){0, 1000000}, NULL);
        assert_int_equal(ra_revocation_each(x.ra, 0, SIZE_MAX, newest, &last, &more, &e), 0);
    } while (last.id && !last.logged);
    return last.index;
}

/* --- asking for certificates ----------------------------------------------------------------------------------- */

static void ask_for(struct ra_session *s, const char *id, const json_t *evidence, const char *rule)
{
    struct wait w;
    struct bytes csr = csr_for(id);
    order_new(&x, s, &(struct ask){.uri = id, .csr = &csr, .evidence = evidence}, &w);
    EXPECT(&w, rule);
    if (!rule)
        assert_int_equal(w.o.status, RA_VALID);
    wait_free(&w);
}

static struct ra_session *authorized(const char *id)
{
    uint8_t secret[32];
    struct ra_session *s = make_session(&x);
    make_token(&x, id, NULL, 0, secret);
    json_t *cmw = token_evidence(s, secret, "nonce");
    ask_for(s, id, cmw, NULL);
    json_decref(cmw);
    return s;
}

static json_t *svid(const struct ra_session *s, const char *id, uint64_t index, uint8_t key_sha256[32])
{
    struct err e = {0};
    struct buf leaf, out;
    uint8_t digest[32];
    char san[2200];
    struct key *k = key_generate(KEY_P256, &e);
    snprintf(san, sizeof san, "critical,URI:%s", id);
    struct pki_leaf l = pki_svid(san);
    l.serial = UINT64_C(1) << 48 | index;
    l.not_before = clock_wall() - PROFILE_BACKDATE + 5; /* of the entry, whenever it was made */
    pki_leaf_der(&leaf, &x.pki, k, &l);
    struct bytes chain[] = {{leaf.p, leaf.len}, {x.pki.issuing_der.p, x.pki.issuing_der.len}}, spki = key_spki(k);
    if (key_sha256)
        EVP_Digest(spki.p, spki.len, key_sha256, NULL, EVP_sha256(), NULL);
    buf_init(&out, 65536);
    assert_int_equal(attest_key_authorization(digest, "nonce", ra_session_thumbprint(s)), 0);
    assert_int_equal(attest_x509pop_collect(&out, chain, 2, k, digest, &e), 0);
    json_t *cmw = json_parse(out.p, out.len, 65536, &e);
    buf_free(&out);
    buf_free(&leaf);
    key_free(k);
    return cmw;
}

static void try_svid(const char *id, uint64_t index, const char *rule)
{
    struct ra_session *s = make_session(&x);
    json_t *cmw = svid(s, id, index, NULL);
    ask_for(s, id, cmw, rule);
    json_decref(cmw);
    ra_session_release(s);
}

static void try_token(const char *id, const uint8_t secret[32], const char *rule)
{
    struct ra_session *s = make_session(&x);
    json_t *cmw = token_evidence(s, secret, "nonce");
    ask_for(s, id, cmw, rule);
    json_decref(cmw);
    ra_session_release(s);
}

static void restart(struct ra_session **a, struct ra_session **b)
{
    char ids[2][RA_ID_LEN + 1];
    memcpy(ids[0], ra_session_id(*a), sizeof ids[0]);
    memcpy(ids[1], ra_session_id(*b), sizeof ids[1]);
    ra_session_release(*a);
    ra_session_release(*b);
    fx_reopen(&x);
    assert_non_null(*a = ra_session_find(x.ra, ids[0]));
    assert_non_null(*b = ra_session_find(x.ra, ids[1]));
}

/* --- each way of naming ------------------------------------------------------------------------------------------- */

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
        ask_for(s, id, NULL, "session-revoked");
        ask_for(o, other, NULL, NULL);
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
    ask_for(s, "spiffe://example.org/hosted", cmw, NULL);
    json_decref(cmw);
    revoke_it(TLOG_BY_AGENT, AGENT, 1, 0);
    for (int i = 0; i < 2; i++) {
        ask_for(s, "spiffe://example.org/hosted", NULL, "session-revoked");
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
        ask_for(s, WEB, NULL, "session-revoked");
        ask_for(o, WEB, NULL, NULL);
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

/* --- keys ------------------------------------------------------------------------------------------------------------- */

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
        ask_for(s, WEB, NULL, NULL);
        revoke_with(&(struct ra_revoke){.by = TLOG_BY_KEY, .value = hex}, "already-revoked", &v);
        if (i == 0)
            restart(&s, &o);
    }
    ask_for(o, WEB, cmw, NULL);
    json_decref(cmw);
    EVP_PKEY_free(k);
    ra_session_release(s);
    ra_session_release(o);
}

/* --- what is under way, and what fails ---------------------------------------------------------------------------------- */

/* A certificate that the signer still makes is given to nobody. */
static void test_under_way(void **state)
{
    struct wait w;
    struct revoked v;
    struct ra_session *s = authorized(WEB);
    struct bytes csr = csr_for(WEB);
    unsigned before = atomic_load(&x.signer.asked);
    pthread_mutex_lock(&x.signer.lock); /* it answers nobody */
    order_new(&x, s, &(struct ask){.uri = WEB, .csr = &csr}, &w);
    revoke_with(&(struct ra_revoke){.by = TLOG_BY_ID, .value = WEB}, NULL, &v);
    assert_false(v.r.logged);
    pthread_mutex_unlock(&x.signer.lock);
    EXPECT(&w, "session-revoked");
    assert_int_equal(atomic_load(&x.signer.asked), before + 1);
    ra_session_release(s);
}

/* Evidence that was good when it was verified, and waits for the store behind the revocation. */
static void test_behind(void **state)
{
    struct held h;
    struct wait token, shown;
    struct revoked v;
    uint8_t secret[32];
    struct ra_session *s = make_session(&x), *o = make_session(&x);
    make_token(&x, WEB, NULL, 0, secret);
    json_t *cmw = token_evidence(s, secret, "nonce"), *own = svid(o, WEB, OLD, NULL);
    struct bytes csr = csr_for(WEB);
    store_hold(&x, &h);
    wait_init(&v.w);
    ra_revoke(x.ra, &(struct ra_revoke){.by = TLOG_BY_ID, .value = WEB}, on_revoked, &v);
    order_new(&x, s, &(struct ask){.uri = WEB, .csr = &csr, .evidence = cmw}, &token);
    order_new(&x, o, &(struct ask){.uri = WEB, .csr = &csr, .evidence = own}, &shown);
    store_let_go(&h);
    EXPECT(&v.w, NULL);
    EXPECT(&token, "token-spent");
    EXPECT(&shown, "svid-revoked");
    json_decref(cmw);
    json_decref(own);
    ra_session_release(s);
    ra_session_release(o);
}

/* Evidence that waits before it: the session is there and gone. */
static void test_before(void **state)
{
    struct held h;
    struct wait w;
    struct revoked v;
    uint8_t secret[32];
    struct ra_session *s = make_session(&x), *o = authorized(DB);
    make_token(&x, WEB, NULL, 0, secret);
    json_t *cmw = token_evidence(s, secret, "nonce");
    struct bytes csr = csr_for(WEB);
    store_hold(&x, &h);
    wait_init(&v.w);
    order_new(&x, s, &(struct ask){.uri = WEB, .csr = &csr, .evidence = cmw}, &w);
    ra_revoke(x.ra, &(struct ra_revoke){.by = TLOG_BY_ID, .value = WEB}, on_revoked, &v);
    store_let_go(&h);
    EXPECT(&v.w, NULL);
    assert_int_equal(v.r.ended.sessions, 1);
    wait_for(&w); /* the certificate was in time, or not */
    wait_free(&w);
    for (int i = 0; i < 2; i++) {
        ask_for(s, WEB, NULL, "session-revoked");
        if (i == 0)
            restart(&s, &o);
    }
    json_decref(cmw);
    ra_session_release(s);
    ra_session_release(o);
}

static int wild_write(struct op *op, struct store *s, struct err *e)
{
    struct err ignored = {0};
    store_release(s, true, &ignored); /* its savepoint is gone: the transaction fails as a whole */
    return err_set(e, ERR_BAD_EVIDENCE, "wild", "its own refusal");
}

static void wild_done(struct op *op, struct ra *ra, const struct err *e)
{
}

/* A store that takes nothing: nothing was revoked, and an older revocation of the same still stands. */
static void test_store_fails(void **state)
{
    struct held h;
    struct err e = {0};
    struct revoked v;
    struct op wild = {.write = wild_write, .done = wild_done};
    struct ra_session *s = authorized(WEB);
    revoke_it(TLOG_BY_ID, DB, 0, 0);
    store_hold(&x, &h);
    wait_init(&v.w);
    ra_revoke(x.ra, &(struct ra_revoke){.by = TLOG_BY_ID, .value = WEB}, on_revoked, &v);
    assert_int_equal(writer_push(x.ra, &wild, &e), 0);
    store_let_go(&h);
    EXPECT(&v.w, "store-io");
    ask_for(s, WEB, NULL, NULL);
    try_svid(WEB, OLD, NULL);
    store_hold(&x, &h);
    wait_init(&v.w);
    ra_revoke(x.ra, &(struct ra_revoke){.by = TLOG_BY_ID, .value = DB}, on_revoked, &v);
    assert_int_equal(writer_push(x.ra, &wild, &e), 0);
    store_let_go(&h);
    EXPECT(&v.w, "store-io");
    try_svid(DB, OLD, "svid-revoked");
    ra_session_release(s);
}

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

/* --- the list, the log, the end --------------------------------------------------------------------------------------------- */

struct page {
    char text[4096];
    size_t enough;
    int64_t last;
};

static bool page_each(void *arg, const struct ra_revocation *r)
{
    struct page *p = arg;
    strcat(strcat(p->text, strrchr(r->value, '/')), " ");
    p->last = r->id;
    return --p->enough > 0;
}

static void page(int64_t after, size_t limit, size_t enough, const char *want, bool want_more, int64_t *last)
{
    struct page p = {.enough = enough};
    struct err e = {0};
    bool more;
    assert_int_equal(ra_revocation_each(x.ra, after, limit, page_each, &p, &more, &e), 0);
    assert_string_equal(p.text, want);
    assert_int_equal(more, want_more);
    *last = p.last;
}

static void test_list(void **state)
{
    int64_t last, none;
    page(0, 10, 10, "", false, &last);
    revoke_it(TLOG_BY_ID, WEB, 0, 0);
    revoke_it(TLOG_BY_PREFIX, DB, 0, 0);
    revoke_it(TLOG_BY_AGENT, AGENT, 0, 0);
    for (int i = 0; i < 2; i++) {
        page(0, 10, 10, "/web /db /agent ", false, &last);
        page(last, 10, 10, "", false, &none);
        page(0, 2, 10, "/web /db ", true, &last);
        page(last, 2, 10, "/agent ", false, &last);
        page(0, 10, 1, "/web ", true, &last);
        page(0, 3, 3, "/web /db /agent ", false, &last);
        uint64_t index = all_logged();
        fx_reopen(&x);
        assert_int_equal(all_logged(), index);
    }
}

/* The signer is away: it is revoked all the same, and the log is told later, over a restart. */
static void test_log(void **state)
{
    struct ra_session *s = authorized(WEB);
    struct tlog_record_info r;
    struct err e = {0};
    while (teller_waiting(x.ra->teller) > 0) /* the entries' records first */
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    pthread_mutex_lock(&x.signer.lock);
    unsigned before = x.signer.recorded;
    x.signer.no_records = true;
    pthread_mutex_unlock(&x.signer.lock);
    revoke_it(TLOG_BY_ID, WEB, 1, 0);
    ask_for(s, WEB, NULL, "session-revoked");
    try_svid(WEB, YOUNG, "svid-revoked"); /* no one knows yet that it is younger */
    ra_session_release(s);
    fx_reopen(&x);
    pthread_mutex_lock(&x.signer.lock);
    x.signer.no_records = false;
    pthread_mutex_unlock(&x.signer.lock);
    assert_int_equal(all_logged(), 1000 + before + 1);
    pthread_mutex_lock(&x.signer.lock);
    assert_int_equal(tlog_record_parse(&r, x.signer.records[before].type,
                                       (struct bytes){x.signer.records[before].body, x.signer.records[before].len}, &e), 0);
    pthread_mutex_unlock(&x.signer.lock);
    assert_int_equal(r.type, TLOG_ENTRY_REVOCATION);
    assert_int_equal(r.code, TLOG_BY_ID);
    assert_int_equal(r.reason, 1);
    assert_true(bytes_eq_str(r.value, WEB));
    assert_true(bytes_eq_str(r.actor, "uid:7"));
    assert_true(bytes_eq_str(r.comment, "lost"));
}

/* When all that it could name has expired it goes; a key stays. */
static void test_over(void **state)
{
    static const char key[] = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    struct ra_revocation last;
    struct err e = {0};
    bool more;
    revoke_it(TLOG_BY_KEY, key, 0, 0);
    revoke_it(TLOG_BY_ID, WEB, 0, 0);
    all_logged();
    if (!fx_clock(&x, RA_REVOCATION_KEPT + 2)) {
        fx_clock(&x, 0);
        return;
    }
    for (int i = 0; i < 2; i++) {
        writer_sweep(x.ra);
        assert_int_equal(ra_revocation_each(x.ra, 0, 10, newest, &last, &more, &e), 0);
        assert_int_equal(last.by, TLOG_BY_KEY);
        assert_int_equal(x.ra->revocations.n, 1);
        fx_reopen(&x);
    }
    fx_clock(&x, 0);
}

/* --- the fixture ---------------------------------------------------------------------------------------------------------------- */

static int setup(void **state)
{
    fx_new(&x, "");
    make_entry(&x, WEB, NULL, NULL);
    make_entry(&x, BELOW, NULL, NULL);
    make_entry(&x, BESIDE, NULL, NULL);
    make_entry(&x, DB, NULL, NULL);
    make_entry(&x, AGENT, NULL, NULL);
    make_entry(&x, "spiffe://example.org/hosted", "x509pop:spiffe_id:" AGENT, NULL);
    return 0;
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
        TEST(test_id),        TEST(test_prefix), TEST(test_entry),  TEST(test_agent),       TEST(test_agent_shown),
        TEST(test_serial),    TEST(test_key),    TEST(test_under_way), TEST(test_behind),   TEST(test_before),
        TEST(test_store_fails), TEST(test_refused), TEST(test_list), TEST(test_log),        TEST(test_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
