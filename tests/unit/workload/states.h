/* For tests of the server: an authority, states of its SVIDs, and what a client must have seen of them. */
#ifndef UNIT_WORKLOAD_STATES_H
#define UNIT_WORKLOAD_STATES_H
#include "unit/workload/h2.h"

static struct fake_ca ca;
static struct wl_bundles *bundles;

static inline int setup(void **state)
{
    ca = fake_ca_new("spiffe://test.example", 1);
    bundles = fake_bundles(&ca, "test.example", "{\"keys\":[]}", NULL, NULL);
    return 0;
}

static inline int teardown(void **state)
{
    fake_ca_free(&ca);
    wl_bundles_unref(bundles);
    return 0;
}

static inline struct wl_state *state_of(long serial)
{
    struct wl_svid *v = fake_svid(&ca, "spiffe://test.example/web", "hint", serial);
    return fake_state(&v, 1, wl_bundles_ref(bundles));
}

/* The last message is exactly this state. */
static inline void assert_x509(int32_t id, const struct wl_state *st, size_t count)
{
    struct bytes m;
    assert_int_equal(h2_messages(id, &m), count);
    X509SVIDResponse *r = x509_svidresponse__unpack(NULL, m.len, m.p);
    assert_non_null(r);
    assert_int_equal(r->n_svids, st->n);
    assert_string_equal(r->svids[0]->spiffe_id, st->svids[0]->spiffe_id);
    assert_string_equal(r->svids[0]->hint, st->svids[0]->hint);
    assert_int_equal(r->svids[0]->x509_svid.len, st->svids[0]->chain_len);
    assert_memory_equal(r->svids[0]->x509_svid.data, st->svids[0]->chain, st->svids[0]->chain_len);
    assert_int_equal(r->svids[0]->x509_svid_key.len, st->svids[0]->key.len);
    assert_memory_equal(r->svids[0]->x509_svid_key.data, st->svids[0]->key.p, st->svids[0]->key.len);
    assert_int_equal(r->svids[0]->bundle.len, st->bundles->list[0].x509.len);
    assert_int_equal(r->n_crl, 1);
    x509_svidresponse__free_unpacked(r, NULL);
}

static inline void assert_scratch_clean(void)
{
    assert_int_equal(t.s->scratch.used, 0);
    assert_null(t.s->scratch.owner);
    uint8_t any = 0;
    for (size_t i = 0; i < t.s->scratch.mem.cap; i++)
        any |= t.s->scratch.mem.p[i];
    assert_int_equal(any, 0);
}

#endif
