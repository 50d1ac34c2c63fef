/* For tests of revocations: a few entries, revoking one way or another, and what is still to be had then. */
#ifndef TESTS_RA_REVOKE_H
#define TESTS_RA_REVOKE_H
#include "tests/unit/ra/fixture.h"
#include "ca/profile.h"

#define AGENT "spiffe://example.org/agent"
#define BELOW "spiffe://example.org/web/one"
#define BESIDE "spiffe://example.org/web2"
#define OLD 7        /* log indexes, before and */
#define YOUNG 500000 /* after every record that the signer of the fixture takes */

static struct fx x;

static inline int setup(void **state)
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

static inline int teardown(void **state)
{
    fx_free(&x);
    return 0;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

/* --- revoking ------------------------------------------------------------------------------------------- */

struct revoked {
    struct wait w;
    struct ra_revocation r;
    char value[2049], actor[129], comment[513];
};

static inline void on_revoked(void *arg, const struct ra_revocation *r, const struct err *e)
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

static inline void revoke_with(const struct ra_revoke *want, const char *rule, struct revoked *v)
{
    wait_init(&v->w);
    ra_revoke(x.ra, want, on_revoked, v);
    EXPECT(&v->w, rule);
}

static inline void revoke_it(enum tlog_revoked_by by, const char *value, uint64_t sessions, uint64_t tokens)
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

static inline bool newest(void *arg, const struct ra_revocation *r)
{
    *(struct ra_revocation *)arg = *r;
    return true;
}

/* Until the log has all; answers the newest one's index. */
static inline uint64_t all_logged(void)
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

/* --- asking for certificates ---------------------------------------------------------------------------- */

static inline struct ra_session *authorized(const char *id)
{
    uint8_t secret[32];
    struct ra_session *s = make_session(&x);
    make_token(&x, id, NULL, 0, secret);
    json_t *cmw = token_evidence(s, secret, "nonce");
    order_expect(&x, s, id, cmw, NULL);
    json_decref(cmw);
    return s;
}

static inline json_t *svid(const struct ra_session *s, const char *id, uint64_t index, uint8_t key_sha256[32])
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

static inline void try_svid(const char *id, uint64_t index, const char *rule)
{
    struct ra_session *s = make_session(&x);
    json_t *cmw = svid(s, id, index, NULL);
    order_expect(&x, s, id, cmw, rule);
    json_decref(cmw);
    ra_session_release(s);
}

static inline void restart(struct ra_session **a, struct ra_session **b)
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

#endif
