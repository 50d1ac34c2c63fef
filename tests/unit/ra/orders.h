/* For tests of orders: one authority with a few entries, a session that is authorized, orders that are refused. */
#ifndef TESTS_RA_ORDERS_H
#define TESTS_RA_ORDERS_H
#include "tests/unit/ra/fixture.h"

static struct fx x;

static inline int setup(void **state)
{
    char child[] = "spiffe://example.org/child", parent[] = "spiffe://example.org/agent";
    struct wait w;
    fx_new(&x, "");
    make_entry(&x, WEB, NULL, "web.example.org");
    make_entry(&x, DB, "k8s:ns:a", NULL);
    struct ra_entry e = {.spiffe_id = child, .parent = parent};
    wait_init(&w);
    ra_entry_create(x.ra, &e, on_entry, &w);
    EXPECT(&w, NULL);
    return 0;
}

static inline int teardown(void **state)
{
    fx_free(&x);
    return 0;
}

static inline unsigned asked(void)
{
    return atomic_load(&x.signer.asked);
}

/* A session that is authorized for WEB by a join token, in one round trip. */
static inline struct ra_session *authorized(void)
{
    uint8_t secret[32];
    struct wait w;
    struct ra_session *s = make_session(&x);
    struct bytes csr = csr_for(WEB);
    make_token(&x, WEB, NULL, 0, secret);
    json_t *cmw = token_evidence(s, secret, "nonce");
    order_new(&x, s, &(struct ask){.uri = WEB, .csr = &csr, .evidence = cmw}, &w);
    EXPECT(&w, NULL);
    assert_int_equal(w.o.status, RA_VALID);
    json_decref(cmw);
    wait_free(&w);
    return s;
}

static inline void refused_new(struct ra_session *s, struct ask a, const char *rule)
{
    struct wait w;
    unsigned before = asked();
    order_new(&x, s, &a, &w);
    EXPECT(&w, rule);
    assert_int_equal(asked(), before);
}

#endif
