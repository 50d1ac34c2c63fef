#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "tests/unit/ra/fixture.h"

static struct fx x;

static void test_find(void **state)
{
    struct err e = {0};
    struct wait w;
    char id[RA_ID_LEN + 1], thumbprint[44];
    struct ra_session *s = make_session(&x);
    memcpy(id, ra_session_id(s), sizeof id);
    memcpy(thumbprint, ra_session_thumbprint(s), sizeof thumbprint);
    assert_int_equal(strlen(id), RA_ID_LEN);
    assert_false(ra_session_deactivated(s));
    struct ra_session *again = ra_session_find(x.ra, id);
    assert_ptr_equal(again, s);
    ra_session_release(again);
    again = ra_session_find_key(x.ra, thumbprint);
    assert_ptr_equal(again, s);
    assert_null(ra_session_find(x.ra, "nobody"));
    assert_null(ra_session_find(x.ra, ""));
    assert_null(ra_session_find_key(x.ra, "0123456789012345678901234567890123456789012"));
    /* the same key again is the same account */
    struct bytes spki = key_spki(ra_session_key(s));
    wait_init(&w);
    assert_int_equal(ra_session_new(x.ra, key_from_spki(spki.p, spki.len, &e), thumbprint, on_session, &w, &e), 0);
    EXPECT(&w, NULL);
    assert_false(w.created);
    assert_ptr_equal(w.s, s);
    wait_free(&w);
    ra_session_release(again);
    ra_session_release(s);
    /* and after a restart */
    fx_reopen(&x);
    s = ra_session_find_key(x.ra, thumbprint);
    assert_non_null(s);
    assert_string_equal(ra_session_id(s), id);
    ra_session_release(s);
}

/* One key many times at once: one account. */
static void test_race(void **state)
{
    struct err e = {0};
    struct wait w[20];
    struct ra_stats before, after;
    char thumbprint[44];
    unsigned created = 0;
    struct key *k = key_generate(KEY_P256, &e);
    struct bytes spki = key_spki(k);
    jwk_thumbprint(thumbprint, k, &e);
    ra_stats(x.ra, &before);
    for (size_t i = 0; i < 20; i++) {
        wait_init(&w[i]);
        assert_int_equal(ra_session_new(x.ra, key_from_spki(spki.p, spki.len, &e), thumbprint, on_session, &w[i], &e), 0);
    }
    for (size_t i = 0; i < 20; i++) {
        EXPECT(&w[i], NULL);
        created += w[i].created;
        assert_ptr_equal(w[i].s, w[0].s);
    }
    for (size_t i = 0; i < 20; i++)
        wait_free(&w[i]);
    assert_int_equal(created, 1);
    ra_stats(x.ra, &after);
    assert_int_equal(after.sessions, before.sessions + 1);
    key_free(k);
}

static void test_deactivate(void **state)
{
    struct err e = {0};
    struct wait w;
    char id[RA_ID_LEN + 1];
    struct ra_session *s = make_session(&x);
    memcpy(id, ra_session_id(s), sizeof id);
    wait_init(&w);
    assert_int_equal(ra_session_deactivate(x.ra, s, on_session, &w, &e), 0);
    EXPECT(&w, NULL);
    assert_true(ra_session_deactivated(s));
    wait_free(&w);
    ra_session_release(s);
    fx_reopen(&x);
    s = ra_session_find(x.ra, id);
    assert_non_null(s);
    assert_true(ra_session_deactivated(s));
    ra_session_release(s);
}

/* Accounts that proved nothing go when they are not used; use is a verified signature, which to look
 * for an account is not. */
static void test_strangers(void **state)
{
    struct ra_session *used = make_session(&x), *stranger = make_session(&x), *proven = make_session(&x), *found;
    pthread_mutex_lock(&x.ra->lock);
    proven->attested = true;
    pthread_mutex_unlock(&x.ra->lock);
    writer_sweep(x.ra);
    if (fx_clock(&x, RA_ORDER_LIFETIME + 1)) {
        found = ra_session_find(x.ra, ra_session_id(stranger));
        assert_ptr_equal(found, stranger);
        ra_session_release(found);
        ra_session_touch(used);
        writer_sweep(x.ra);
        assert_null(ra_session_find(x.ra, ra_session_id(stranger)));
        found = ra_session_find(x.ra, ra_session_id(used));
        assert_non_null(found);
        ra_session_release(found);
        found = ra_session_find(x.ra, ra_session_id(proven));
        assert_non_null(found);
        ra_session_release(found);
        fx_clock(&x, 0);
    }
    ra_session_release(used);
    ra_session_release(stranger);
    ra_session_release(proven);
}

static void test_stopping(void **state)
{
    struct err e = {0};
    struct wait w;
    char thumbprint[44];
    struct key *k = key_generate(KEY_P256, &e);
    jwk_thumbprint(thumbprint, k, &e);
    ra_stop(x.ra);
    wait_init(&w);
    assert_int_equal(ra_session_new(x.ra, k, thumbprint, on_session, &w, &e), -1);
    assert_string_equal(e.rule, "stopping");
    assert_int_equal(w.calls, 0);
    key_free(k); /* still the caller's */
    fx_reopen(&x);
}

static int setup(void **state)
{
    fx_new(&x, "");
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
        cmocka_unit_test(test_find),
        cmocka_unit_test(test_race),
        cmocka_unit_test(test_deactivate),
        cmocka_unit_test(test_strangers),
        cmocka_unit_test(test_stopping),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
