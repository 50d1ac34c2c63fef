/* How many orders there may be, how long they and authorizations are kept, and how both end. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "tests/unit/ra/orders.h"

/* --- given up ------------------------------------------------------------------------------------------- */

static void test_deactivation(void **state)
{
    struct wait w;
    struct err e = {0};
    char order[RA_ID_LEN + 1], authz[RA_ID_LEN + 1];
    struct ra_session *s = authorized();
    struct bytes csr = csr_for(WEB);
    order_new(&x, s, &(struct ask){.uri = WEB}, &w);
    EXPECT(&w, NULL);
    assert_int_equal(w.o.status, RA_READY);
    memcpy(order, w.o.id, sizeof order);
    memcpy(authz, w.order_authz, sizeof authz);
    wait_init(&w);
    ra_authz_deactivate(x.ra, s, authz, on_authz, &w);
    EXPECT(&w, NULL);
    assert_int_equal(w.a.status, RA_DEACTIVATED);
    wait_init(&w);
    ra_order_finalize(x.ra, s, order, csr, on_order, &w);
    EXPECT(&w, "order-status");
    wait_init(&w);
    ra_authz_deactivate(x.ra, s, "nonsense", on_authz, &w);
    EXPECT(&w, "authorization");
    /* the next order needs evidence again */
    order_new(&x, s, &(struct ask){.uri = WEB, .csr = &csr}, &w);
    EXPECT(&w, NULL);
    assert_int_equal(w.o.status, RA_PENDING);
    memcpy(order, w.o.id, sizeof order);
    /* the account */
    wait_init(&w);
    assert_int_equal(ra_session_deactivate(x.ra, s, on_session, &w, &e), 0);
    EXPECT(&w, NULL);
    assert_true(ra_session_deactivated(w.s));
    wait_free(&w);
    ra_order_get(x.ra, s, order, on_order, &w);
    EXPECT(&w, NULL);
    assert_int_equal(w.o.status, RA_INVALID);
    refused_new(s, (struct ask){.uri = WEB}, "account-deactivated");
    ra_session_release(s);
}

/* An authorization given up while its challenge is verified stays given up; the token is not spent. */
static void test_deactivated_meanwhile(void **state)
{
    struct held h;
    struct wait w, given_up, answered;
    uint8_t secret[32];
    char authz[RA_ID_LEN + 1];
    struct ra_session *s = make_session(&x), *other = make_session(&x);
    struct bytes csr = csr_for(WEB);
    make_token(&x, WEB, NULL, 0, secret);
    order_new(&x, s, &(struct ask){.uri = WEB}, &w);
    EXPECT(&w, NULL);
    memcpy(authz, w.order_authz, sizeof authz);
    wait_init(&w);
    ra_authz_get(x.ra, s, authz, on_authz, &w);
    EXPECT(&w, NULL);
    json_t *cmw = token_evidence(s, secret, w.a.challenge_token);
    wait_init(&given_up);
    wait_init(&answered);
    store_hold(&x, &h);
    ra_authz_deactivate(x.ra, s, authz, on_authz, &given_up);
    ra_challenge_answer(x.ra, s, authz, cmw, on_authz, &answered);
    store_let_go(&h);
    EXPECT(&given_up, NULL);
    assert_int_equal(given_up.a.status, RA_DEACTIVATED);
    EXPECT(&answered, NULL);
    assert_int_equal(answered.a.status, RA_DEACTIVATED);
    order_new(&x, s, &(struct ask){.uri = WEB, .csr = &csr}, &w);
    EXPECT(&w, NULL);
    assert_int_equal(w.o.status, RA_PENDING);
    json_decref(cmw);
    cmw = token_evidence(other, secret, "nonce");
    order_new(&x, other, &(struct ask){.uri = WEB, .csr = &csr, .evidence = cmw}, &w);
    EXPECT(&w, NULL);
    wait_free(&w);
    json_decref(cmw);
    ra_session_release(s);
    ra_session_release(other);
}

/* --- how many ------------------------------------------------------------------------------------------- */

/* As many orders of strangers as there may be: who is authorized renews as ever. */
static void test_crowd(void **state)
{
    struct wait w;
    struct ra_session *s = authorized(), *stranger = make_session(&x);
    struct bytes csr = csr_for(WEB);
    pthread_mutex_lock(&x.ra->lock);
    size_t pending = x.ra->pending;
    x.ra->pending = RA_ORDERS_PENDING_MAX;
    pthread_mutex_unlock(&x.ra->lock);
    refused_new(stranger, (struct ask){.uri = WEB}, "orders");
    order_new(&x, s, &(struct ask){.uri = WEB, .csr = &csr}, &w);
    EXPECT(&w, NULL);
    assert_int_equal(w.o.status, RA_VALID);
    wait_free(&w);
    order_new(&x, s, &(struct ask){.uri = WEB}, &w);
    EXPECT(&w, NULL);
    assert_int_equal(w.o.status, RA_READY);
    pthread_mutex_lock(&x.ra->lock);
    x.ra->pending = pending;
    pthread_mutex_unlock(&x.ra->lock);
    order_new(&x, stranger, &(struct ask){.uri = WEB}, &w);
    EXPECT(&w, NULL);
    pthread_mutex_lock(&x.ra->lock);
    assert_int_equal(x.ra->pending, pending + 1);
    pthread_mutex_unlock(&x.ra->lock);
    ra_session_release(s);
    ra_session_release(stranger);
}

static void test_limits(void **state)
{
    struct wait w;
    struct ra_session *s = make_session(&x);
    char first[RA_ID_LEN + 1] = "", authz[RA_ID_LEN + 1] = "";
    for (int i = 0; i < RA_ORDERS_STRANGER_MAX; i++) {
        order_new(&x, s, &(struct ask){.uri = WEB}, &w);
        EXPECT(&w, NULL);
        if (i == 0) {
            memcpy(first, w.o.id, sizeof first);
            memcpy(authz, w.order_authz, sizeof authz);
        }
        assert_string_equal(w.order_authz, authz); /* all wait for one authorization */
    }
    refused_new(s, (struct ask){.uri = WEB}, "orders-session");
    if (fx_clock(&x, RA_ORDER_LIFETIME + 1)) {
        wait_init(&w);
        ra_order_get(x.ra, s, first, on_order, &w);
        EXPECT(&w, NULL);
        assert_int_equal(w.o.status, RA_INVALID);
        assert_string_equal(w.o.error.rule, "order-expired");
        order_new(&x, s, &(struct ask){.uri = WEB}, &w); /* the expired ones made room */
        EXPECT(&w, NULL);
        assert_string_not_equal(w.order_authz, authz);
        fx_clock(&x, 0);
    }
    ra_session_release(s);
}

/* --- how long ------------------------------------------------------------------------------------------- */

/* An order step by step, with its certificate. */
static void plain_order(struct ra_session *s, struct bytes csr, char id[RA_ID_LEN + 1])
{
    struct wait w;
    order_new(&x, s, &(struct ask){.uri = WEB}, &w);
    EXPECT(&w, NULL);
    memcpy(id, w.o.id, RA_ID_LEN + 1);
    wait_init(&w);
    ra_order_finalize(x.ra, s, id, csr, on_order, &w);
    EXPECT(&w, NULL);
    wait_free(&w);
}

/* The ring of finished orders: the oldest goes, and memory with it. Orders of one round trip do not
 * take the place of others, whose certificate is yet to be fetched. */
static void test_ring(void **state)
{
    struct wait w;
    struct ra_session *s = authorized(), *slow = authorized();
    char first[RA_ID_LEN + 1] = "", kept[RA_ID_LEN + 1];
    struct bytes csr = csr_for(WEB);
    plain_order(slow, csr, kept);
    for (int i = 0; i < RA_ORDERS_FINISHED + 1; i++) {
        order_new(&x, s, &(struct ask){.uri = WEB, .csr = &csr}, &w);
        EXPECT(&w, NULL);
        if (i == 0)
            memcpy(first, w.o.id, sizeof first);
        wait_free(&w);
    }
    ra_order_get(x.ra, s, first, on_order, &w);
    EXPECT(&w, "order");
    struct ra_stats n;
    ra_stats(x.ra, &n);
    pthread_mutex_lock(&x.ra->lock);
    assert_int_equal(x.ra->at_once.count, RA_ORDERS_FINISHED);
    pthread_mutex_unlock(&x.ra->lock);
    wait_init(&w);
    ra_order_get(x.ra, slow, kept, on_order, &w);
    EXPECT(&w, NULL);
    assert_non_null(w.chain);
    wait_free(&w);
    ra_session_release(s);
    ra_session_release(slow);
}

/* Orders with their certificate: of one session a few, of all together many, but each for a while. */
static void test_served(void **state)
{
    struct wait w;
    char first[RA_ID_LEN + 1], next[RA_ID_LEN + 1], ids[RA_ORDERS_SERVED_SESSION][RA_ID_LEN + 1];
    struct ra_session *s = authorized(), *busy = authorized();
    struct bytes csr = csr_for(WEB);
    plain_order(s, csr, next);
    plain_order(busy, csr, first);
    for (size_t i = 0; i < RA_ORDERS_SERVED_SESSION; i++)
        plain_order(busy, csr, ids[i]);
    wait_init(&w);
    ra_order_get(x.ra, busy, first, on_order, &w);
    EXPECT(&w, "order");
    for (size_t i = 0; i < RA_ORDERS_SERVED_SESSION; i++) {
        wait_init(&w);
        ra_order_get(x.ra, busy, ids[i], on_order, &w);
        EXPECT(&w, NULL);
        wait_free(&w);
    }
    /* more than there is room for: those that are old enough go, and only those */
    pthread_mutex_lock(&x.ra->lock);
    const struct order *oldest = x.ra->served.head;
    size_t count = x.ra->served.count;
    x.ra->served.count += RA_ORDERS_FINISHED;
    orders_trim(x.ra, oldest->finished + RA_ORDER_KEPT - 1);
    assert_int_equal(x.ra->served.count, count + RA_ORDERS_FINISHED);
    orders_trim(x.ra, oldest->finished + RA_ORDER_KEPT);
    x.ra->served.count -= RA_ORDERS_FINISHED;
    assert_true(x.ra->served.count < count);
    pthread_mutex_unlock(&x.ra->lock);
    ra_session_release(s);
    ra_session_release(busy);
}

static void collect(void *arg, const char *id)
{
    strcat(strcat(arg, id), " ");
}

static void test_open_orders(void **state)
{
    struct wait w;
    char all[256] = "", want[256];
    struct ra_session *s = authorized();
    ra_order_each(x.ra, s, collect, all);
    assert_string_equal(all, "");
    order_new(&x, s, &(struct ask){.uri = WEB}, &w);
    EXPECT(&w, NULL);
    snprintf(want, sizeof want, "%s ", w.o.id);
    ra_order_each(x.ra, s, collect, all);
    assert_string_equal(all, want);
    ra_session_release(s);
}

/* Authorizations end with the session's lifetime; what they were based on has to be shown again. */
static void test_expiry(void **state)
{
    struct wait w;
    struct ra_session *s = authorized();
    struct bytes csr = csr_for(WEB);
    if (fx_clock(&x, 3601)) {
        order_new(&x, s, &(struct ask){.uri = WEB, .csr = &csr}, &w);
        EXPECT(&w, NULL);
        assert_int_equal(w.o.status, RA_PENDING);
    }
    fx_clock(&x, 0);
    ra_session_release(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_deactivation), cmocka_unit_test(test_limits),
        cmocka_unit_test(test_deactivated_meanwhile), cmocka_unit_test(test_crowd),
        cmocka_unit_test(test_ring), cmocka_unit_test(test_served), cmocka_unit_test(test_open_orders),
        cmocka_unit_test(test_expiry),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
