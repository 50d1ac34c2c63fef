/* The course of a revocation: what is under way when it comes, a store that fails, the list, the log, the end. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "tests/unit/ra/revoke.h"
#include "ra/store.h"

/* --- what is under way, and what fails ------------------------------------------------------------------ */

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
        order_expect(&x, s, WEB, NULL, "session-revoked");
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
    order_expect(&x, s, WEB, NULL, NULL);
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

/* --- the list, the log, the end ------------------------------------------------------------------------- */

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
    order_expect(&x, s, WEB, NULL, "session-revoked");
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_under_way), TEST(test_behind), TEST(test_before), TEST(test_store_fails),
        TEST(test_list),      TEST(test_log),    TEST(test_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
