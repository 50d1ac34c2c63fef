/* What shows who asks for an order, and the entry that decides what it is worth. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "tests/unit/ra/orders.h"
#include "ca/profile.h"

static void test_evidence_in_band(void **state)
{
    uint8_t secret[32], unknown[32] = "no such token, thirty-two bytes";
    struct ra_session *s = make_session(&x), *other = make_session(&x);
    struct bytes csr = csr_for(WEB);
    struct ra_stats before, after;
    make_token(&x, WEB, NULL, 0, secret);
    json_t *good = token_evidence(s, secret, "nonce"), *bad = token_evidence(s, unknown, "nonce");
    json_t *junk = json_pack("[ss]", ATTEST_MEDIA_JOIN_TOKEN, "AAAA");
    ra_stats(x.ra, &before);
    refused_new(s, (struct ask){.uri = WEB, .csr = &csr, .evidence = bad}, "token-unknown");
    refused_new(s, (struct ask){.uri = WEB, .csr = &csr, .evidence = junk}, "evidence-format");
    refused_new(s, (struct ask){.uri = WEB, .csr = &csr, .evidence = good, .freshness = "stale"}, "evidence-binding");
    refused_new(other, (struct ask){.uri = WEB, .csr = &csr, .evidence = good}, "evidence-binding");
    /* the request is checked whole before the token is spent */
    struct bytes wrong = csr_for(DB);
    refused_new(s, (struct ask){.uri = WEB, .csr = &wrong, .evidence = good}, "csr-uri");
    /* a token of another identity proves nothing, and survives */
    csr = csr_for(DB);
    refused_new(s, (struct ask){.uri = DB, .csr = &csr, .evidence = good}, "evidence-id");
    /* the account's own key for the certificate; an account that has all the orders it may have */
    uint8_t der[4096];
    struct bytes own = {der, csr_build(der, sizeof der, key_evp(ra_session_key(s)), &(struct csr_spec){.san = "URI:" WEB})};
    refused_new(s, (struct ask){.uri = WEB, .csr = &own, .evidence = good}, "csr-key");
    csr = csr_for(WEB);
    pthread_mutex_lock(&x.ra->lock);
    s->open_count += RA_ORDERS_SESSION_MAX;
    pthread_mutex_unlock(&x.ra->lock);
    refused_new(s, (struct ask){.uri = WEB, .csr = &csr, .evidence = good}, "orders-session");
    pthread_mutex_lock(&x.ra->lock);
    s->open_count -= RA_ORDERS_SESSION_MAX;
    pthread_mutex_unlock(&x.ra->lock);
    struct ra_identifier id = {"uri", WEB};
    struct wait w;
    struct ra_order_request r = {.identifiers = &id, .identifiers_count = 1, .evidence = good};
    wait_init(&w);
    ra_order_new(x.ra, s, &r, on_order, &w); /* no freshness at all */
    EXPECT(&w, "evidence-freshness");
    ra_stats(x.ra, &after);
    assert_int_equal(before.authorizations, after.authorizations);
    assert_int_equal(before.orders, after.orders);
    /* it was not spent by any of these */
    csr = csr_for(WEB);
    order_new(&x, s, &(struct ask){.uri = WEB, .csr = &csr, .evidence = good}, &w);
    EXPECT(&w, NULL);
    wait_free(&w);
    json_t *again = token_evidence(other, secret, "nonce");
    csr = csr_for(WEB);
    refused_new(other, (struct ask){.uri = WEB, .csr = &csr, .evidence = again}, "token-spent");
    /* evidence without csr: authorized, and the order is ready */
    make_token(&x, NULL, "k8s:ns:a", 0, secret);
    json_t *selectors = token_evidence(other, secret, "nonce");
    order_new(&x, other, &(struct ask){.uri = DB, .evidence = selectors}, &w);
    EXPECT(&w, NULL);
    assert_int_equal(w.o.status, RA_READY);
    json_decref(good);
    json_decref(bad);
    json_decref(junk);
    json_decref(again);
    json_decref(selectors);
    ra_session_release(s);
    ra_session_release(other);
}

/* Possession of an SVID of WEB, issued when. */
static json_t *svid_evidence(const struct ra_session *s, int64_t when)
{
    struct err e = {0};
    struct buf leaf, out;
    uint8_t digest[32];
    struct key *k = key_generate(KEY_P256, &e);
    struct pki_leaf l = pki_svid("critical,URI:" WEB);
    l.not_before = when - PROFILE_BACKDATE;
    l.not_after = when + 300;
    pki_leaf_der(&leaf, &x.pki, k, &l);
    struct bytes chain[] = {{leaf.p, leaf.len}, {x.pki.issuing_der.p, x.pki.issuing_der.len}};
    buf_init(&out, 65536);
    assert_int_equal(attest_key_authorization(digest, "nonce", ra_session_thumbprint(s)), 0);
    assert_int_equal(attest_x509pop_collect(&out, chain, 2, k, digest, &e), 0);
    json_t *cmw = json_parse(out.p, out.len, 65536, &e);
    buf_free(&out);
    buf_free(&leaf);
    key_free(k);
    return cmw;
}

/* An entry that an agent's SVID vouches for: the log says which agent asked, also after a restart. */
static void test_requester(void **state)
{
    struct wait w;
    struct ra_session *s = make_session(&x);
    char id[RA_ID_LEN + 1];
    memcpy(id, ra_session_id(s), sizeof id);
    make_entry(&x, "spiffe://example.org/hosted", "x509pop:spiffe_id:" WEB, NULL);
    json_t *cmw = svid_evidence(s, clock_wall());
    struct bytes csr = csr_for("spiffe://example.org/hosted");
    order_new(&x, s, &(struct ask){.uri = "spiffe://example.org/hosted", .csr = &csr, .evidence = cmw}, &w);
    EXPECT(&w, NULL);
    assert_string_equal(x.signer.last_id, "spiffe://example.org/hosted");
    assert_string_equal(x.signer.last_requester, WEB);
    wait_free(&w);
    json_decref(cmw);
    ra_session_release(s);
    fx_reopen(&x);
    *x.signer.last_requester = 0;
    s = ra_session_find(x.ra, id);
    assert_non_null(s);
    csr = csr_for("spiffe://example.org/hosted");
    order_new(&x, s, &(struct ask){.uri = "spiffe://example.org/hosted", .csr = &csr}, &w); /* a renewal */
    EXPECT(&w, NULL);
    assert_string_equal(x.signer.last_requester, WEB);
    wait_free(&w);
    ra_session_release(s);
    /* a token that names nobody: nobody is named */
    uint8_t secret[32];
    s = make_session(&x);
    make_entry(&x, "spiffe://example.org/selected", "k8s:ns:a", NULL);
    make_token(&x, NULL, "k8s:ns:a", 0, secret);
    cmw = token_evidence(s, secret, "fresh");
    csr = csr_for("spiffe://example.org/selected");
    order_new(&x, s, &(struct ask){.uri = "spiffe://example.org/selected", .csr = &csr, .evidence = cmw, .freshness = "fresh"}, &w);
    EXPECT(&w, NULL);
    assert_string_equal(x.signer.last_requester, "");
    wait_free(&w);
    json_decref(cmw);
    ra_session_release(s);
}

/* A restarted agent comes back with the SVID it has. */
static void test_x509pop(void **state)
{
    struct wait w;
    struct ra_session *s = make_session(&x);
    int64_t now = clock_wall();
    json_t *cmw = svid_evidence(s, now);
    assert_int_equal(RA_SVID_BACKDATE, PROFILE_BACKDATE);
    struct bytes csr = csr_for(DB);
    refused_new(s, (struct ask){.uri = DB, .csr = &csr, .evidence = cmw}, "evidence-id");
    csr = csr_for(WEB);
    order_new(&x, s, &(struct ask){.uri = WEB, .csr = &csr, .evidence = cmw}, &w);
    EXPECT(&w, NULL);
    assert_int_equal(w.o.status, RA_VALID);
    assert_string_equal(x.signer.last_attestor, "x509pop");
    char authz[RA_ID_LEN + 1];
    memcpy(authz, w.order_authz, sizeof authz);
    wait_free(&w);
    /* what it gives lives no longer than the SVID does, however long sessions live */
    ra_authz_get(x.ra, s, authz, on_authz, &w);
    EXPECT(&w, NULL);
    assert_int_equal(w.a.expires, now + 300);
    json_decref(cmw);
    ra_session_release(s);
}

/* --- entries that change -------------------------------------------------------------------------------- */

static void entry_again(const char *id, const char *selector, const char *dns)
{
    struct wait w;
    wait_init(&w);
    ra_entry_delete(x.ra, id, "uid:7", on_entry, &w);
    EXPECT(&w, NULL);
    make_entry(&x, id, selector, dns);
}

/* Deleting an entry ends what was given for it, also when it is created again: authorizations, join
 * tokens and SVIDs of the first get nothing from the second. */
static void test_entry_created_again(void **state)
{
    struct wait w;
    uint8_t secret[32], selectors[32];
    char order[RA_ID_LEN + 1];
    struct ra_session *s = authorized(), *other = make_session(&x);
    make_token(&x, WEB, "k8s:ns:a", 0, secret);
    make_token(&x, NULL, "k8s:ns:a", 0, selectors);
    order_new(&x, s, &(struct ask){.uri = WEB}, &w);
    EXPECT(&w, NULL);
    assert_int_equal(w.o.status, RA_READY);
    memcpy(order, w.o.id, sizeof order);
    entry_again(WEB, NULL, "web.example.org");
    struct bytes csr = csr_for(WEB);
    for (int i = 0; i < 2; i++) { /* before a restart, and after it */
        order_new(&x, s, &(struct ask){.uri = WEB, .csr = &csr}, &w);
        EXPECT(&w, NULL);
        assert_int_equal(w.o.status, RA_PENDING);
        if (i == 0) {
            wait_init(&w);
            ra_order_finalize(x.ra, s, order, csr, on_order, &w);
            EXPECT(&w, "order-status");
        }
        json_t *token = token_evidence(other, secret, "nonce");
        refused_new(other, (struct ask){.uri = WEB, .csr = &csr, .evidence = token}, "token-entry");
        csr = csr_for(DB); /* not even its selectors */
        refused_new(other, (struct ask){.uri = DB, .csr = &csr, .evidence = token}, "token-entry");
        csr = csr_for(WEB);
        json_decref(token);
        char id[RA_ID_LEN + 1], other_id[RA_ID_LEN + 1];
        memcpy(id, ra_session_id(s), sizeof id);
        memcpy(other_id, ra_session_id(other), sizeof other_id);
        ra_session_release(s);
        ra_session_release(other);
        if (i == 0)
            fx_reopen(&x);
        s = ra_session_find(x.ra, id);
        other = ra_session_find(x.ra, other_id);
    }
    wait_init(&w);
    ra_entry_get(x.ra, WEB, on_entry, &w);
    EXPECT(&w, NULL);
    json_t *old = svid_evidence(other, w.created_at - 1), *young = svid_evidence(other, w.created_at);
    refused_new(other, (struct ask){.uri = WEB, .csr = &csr, .evidence = old}, "x509pop-entry");
    order_new(&x, other, &(struct ask){.uri = WEB, .csr = &csr, .evidence = young}, &w);
    EXPECT(&w, NULL);
    assert_int_equal(w.o.status, RA_VALID);
    wait_free(&w);
    /* by selectors, too: the second entry has the same as the first */
    csr = csr_for(DB);
    json_t *cmw = token_evidence(s, selectors, "nonce");
    order_new(&x, s, &(struct ask){.uri = DB, .csr = &csr, .evidence = cmw}, &w);
    EXPECT(&w, NULL);
    assert_int_equal(w.o.status, RA_VALID);
    wait_free(&w);
    entry_again(DB, "k8s:ns:a", NULL);
    order_new(&x, s, &(struct ask){.uri = DB, .csr = &csr}, &w);
    EXPECT(&w, NULL);
    assert_int_equal(w.o.status, RA_PENDING);
    json_decref(old);
    json_decref(young);
    json_decref(cmw);
    ra_session_release(s);
    ra_session_release(other);
}

static void set_selector(const char *id, const char *selector)
{
    struct wait w;
    char id_copy[2049], sel[100], *sels[] = {sel};
    snprintf(id_copy, sizeof id_copy, "%s", id);
    snprintf(sel, sizeof sel, "%s", selector);
    struct ra_entry e = entry_of(id_copy);
    e.selectors = sels;
    e.selectors_count = 1;
    wait_init(&w);
    ra_entry_update(x.ra, &e, on_entry, &w);
    EXPECT(&w, NULL);
}

/* An authorization that the entry outgrew stands in nobody's way: fresh evidence takes its place, in
 * one round trip and by the challenge. */
static void test_outgrown(void **state)
{
    struct wait w;
    char authz[RA_ID_LEN + 1];
    uint8_t secret[32];
    struct ra_session *s = make_session(&x);
    struct bytes csr = csr_for(DB);
    make_token(&x, NULL, "k8s:ns:a", 0, secret);
    json_t *cmw = token_evidence(s, secret, "nonce");
    order_new(&x, s, &(struct ask){.uri = DB, .csr = &csr, .evidence = cmw}, &w);
    EXPECT(&w, NULL);
    wait_free(&w);
    json_decref(cmw);
    order_new(&x, s, &(struct ask){.uri = DB}, &w);
    EXPECT(&w, NULL);
    assert_int_equal(w.o.status, RA_READY);
    char ready[RA_ID_LEN + 1];
    memcpy(ready, w.o.id, sizeof ready);

    set_selector(DB, "k8s:ns:b");
    wait_init(&w);
    ra_order_get(x.ra, s, ready, on_order, &w);
    EXPECT(&w, NULL);
    assert_int_equal(w.o.status, RA_INVALID);
    make_token(&x, NULL, "k8s:ns:b", 0, secret);
    cmw = token_evidence(s, secret, "nonce");
    order_new(&x, s, &(struct ask){.uri = DB, .csr = &csr, .evidence = cmw}, &w);
    EXPECT(&w, NULL);
    assert_int_equal(w.o.status, RA_VALID);
    wait_free(&w);
    json_decref(cmw);

    set_selector(DB, "k8s:ns:a");
    order_new(&x, s, &(struct ask){.uri = DB, .csr = &csr}, &w);
    EXPECT(&w, NULL);
    assert_int_equal(w.o.status, RA_PENDING);
    memcpy(authz, w.order_authz, sizeof authz);
    memcpy(ready, w.o.id, sizeof ready);
    wait_init(&w);
    ra_authz_get(x.ra, s, authz, on_authz, &w);
    EXPECT(&w, NULL);
    make_token(&x, NULL, "k8s:ns:a", 0, secret);
    cmw = token_evidence(s, secret, w.a.challenge_token);
    wait_init(&w);
    ra_challenge_answer(x.ra, s, authz, cmw, on_authz, &w);
    EXPECT(&w, NULL);
    assert_int_equal(w.a.status, RA_VALID);
    wait_init(&w);
    ra_order_finalize(x.ra, s, ready, csr, on_order, &w);
    EXPECT(&w, NULL);
    assert_int_equal(w.o.status, RA_VALID);
    wait_free(&w);
    json_decref(cmw);
    ra_session_release(s);
}

/* The entry decides at the moment of issuance, not at the moment of attestation. */
static void test_entry_changes(void **state)
{
    struct wait w;
    char id[] = WEB, sel[] = "k8s:ns:zzz", *sels[] = {sel}, dns[] = "web.example.org", *names[] = {dns};
    struct ra_session *s = authorized();
    struct bytes csr = csr_for(WEB);
    struct ra_entry e = entry_of(id);
    e.ttl = 42;
    e.dns = names;
    e.dns_count = 1;
    e.selectors = sels; /* the token proves the ID itself: selectors do not matter */
    e.selectors_count = 1;
    wait_init(&w);
    ra_entry_update(x.ra, &e, on_entry, &w);
    EXPECT(&w, NULL);
    order_new(&x, s, &(struct ask){.uri = WEB, .csr = &csr}, &w);
    EXPECT(&w, NULL);
    assert_int_equal(x.signer.last.lifetime, 42);
    assert_int_equal(x.signer.last.entry_revision, 2);
    wait_free(&w);
    /* a maximum lowered since clips it */
    unsigned max = x.config->ca.max_lifetime;
    x.config->ca.max_lifetime = 30;
    csr = csr_for(WEB);
    order_new(&x, s, &(struct ask){.uri = WEB, .csr = &csr}, &w);
    EXPECT(&w, NULL);
    assert_int_equal(x.signer.last.lifetime, 30);
    wait_free(&w);
    x.config->ca.max_lifetime = max;
    /* a DNS name taken away; parented to an agent; deleted */
    order_new(&x, s, &(struct ask){.uri = WEB, .dns = "web.example.org"}, &w);
    EXPECT(&w, NULL);
    char order[RA_ID_LEN + 1], parent[] = "spiffe://example.org/agent";
    memcpy(order, w.o.id, sizeof order);
    e.dns_count = 0;
    wait_init(&w);
    ra_entry_update(x.ra, &e, on_entry, &w);
    EXPECT(&w, NULL);
    csr = csr_for(WEB ",DNS:web.example.org");
    wait_init(&w);
    ra_order_finalize(x.ra, s, order, csr, on_order, &w);
    EXPECT(&w, "dns");
    e.parent = parent;
    wait_init(&w);
    ra_entry_update(x.ra, &e, on_entry, &w);
    EXPECT(&w, NULL);
    csr = csr_for(WEB);
    unsigned before = asked();
    order_new(&x, s, &(struct ask){.uri = WEB, .csr = &csr}, &w); /* what was shown counts no more: it waits for the agent's */
    EXPECT(&w, NULL);
    assert_int_equal(w.o.status, RA_PENDING);
    assert_int_equal(asked(), before);
    uint8_t secret[32];
    make_token(&x, WEB, NULL, 0, secret);
    json_t *cmw = token_evidence(s, secret, "nonce");
    refused_new(s, (struct ask){.uri = WEB, .csr = &csr, .evidence = cmw}, "parent");
    json_decref(cmw);
    e.selectors_count = 0;
    wait_init(&w);
    ra_entry_update(x.ra, &e, on_entry, &w);
    EXPECT(&w, NULL);
    refused_new(s, (struct ask){.uri = WEB, .csr = &csr}, "parent"); /* and with none to show, nobody waits */
    wait_init(&w);
    ra_entry_delete(x.ra, WEB, "uid:7", on_entry, &w);
    EXPECT(&w, NULL);
    refused_new(s, (struct ask){.uri = WEB, .csr = &csr}, "entry");
    make_entry(&x, WEB, NULL, "web.example.org");
    ra_session_release(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_evidence_in_band), cmocka_unit_test(test_requester),
        cmocka_unit_test(test_x509pop), cmocka_unit_test(test_entry_created_again),
        cmocka_unit_test(test_outgrown), cmocka_unit_test(test_entry_changes),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
