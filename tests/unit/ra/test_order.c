#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "tests/unit/ra/fixture.h"
#include "base/crl_name.h"
#include "ca/profile.h"
#include <openssl/pem.h>
#include <openssl/sha.h>

static struct fx x;

static unsigned asked(void)
{
    return atomic_load(&x.signer.asked);
}

/* A session that is authorized for WEB by a join token, in one round trip. */
static struct ra_session *authorized(void)
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

static void refused_new(struct ra_session *s, struct ask a, const char *rule)
{
    struct wait w;
    unsigned before = asked();
    order_new(&x, s, &a, &w);
    EXPECT(&w, rule);
    assert_int_equal(asked(), before);
}

static void test_one_round_trip(void **state)
{
    uint8_t secret[32], raw[32];
    struct wait w;
    struct ra_session *s = make_session(&x);
    struct bytes csr = csr_for(WEB ",DNS:web.example.org");
    make_token(&x, WEB, NULL, 0, secret);
    json_t *cmw = token_evidence(s, secret, "fresh");
    order_new(&x, s, &(struct ask){.uri = WEB, .dns = "web.example.org", .csr = &csr, .evidence = cmw, .freshness = "fresh"}, &w);
    EXPECT(&w, NULL);
    assert_int_equal(w.o.status, RA_VALID);
    assert_int_equal(w.identifiers, 2);
    assert_string_equal(w.uri, WEB);
    assert_int_equal(strlen(w.order_authz), RA_ID_LEN);
    assert_true(w.o.index >= 100);
    /* what the signer was told */
    assert_string_equal(x.signer.last_id, WEB);
    assert_string_equal(x.signer.last_attestor, "join_token");
    assert_string_equal(x.signer.last_requester, WEB); /* the token's */
    assert_string_equal(x.signer.last_dns, "web.example.org");
    assert_int_equal(x.signer.last.lifetime, 300);
    assert_int_equal(x.signer.last.entry_revision, 1);
    assert_int_equal(x.signer.last.profile, CA_PROFILE_WORKLOAD);
    assert_int_equal(strlen(x.signer.last_entry), RA_ID_LEN);
    assert_int_equal(b64url_decode(raw, 32, ra_session_thumbprint(s), 43), 32);
    assert_memory_equal(x.signer.last_session, raw, 32);
    uint8_t none[32] = {0};
    assert_memory_not_equal(x.signer.last_evidence, none, 32);
    /* the chain: two certificates as OpenSSL reads PEM */
    BIO *bio = BIO_new_mem_buf(w.chain, -1);
    X509 *leaf = PEM_read_bio_X509(bio, NULL, NULL, NULL), *issuing = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    assert_non_null(leaf);
    assert_non_null(issuing);
    assert_int_equal(X509_cmp(issuing, x.pki.issuing), 0);
    assert_null(PEM_read_bio_X509(bio, NULL, NULL, NULL));
    X509_free(leaf);
    X509_free(issuing);
    BIO_free(bio);
    /* it can be read again, by its owner alone */
    char id[RA_ID_LEN + 1], *chain = w.chain;
    memcpy(id, w.o.id, sizeof id);
    w.chain = NULL;
    wait_init(&w);
    ra_order_get(x.ra, s, id, on_order, &w);
    EXPECT(&w, NULL);
    assert_string_equal(w.chain, chain);
    wait_free(&w);
    struct ra_session *thief = make_session(&x);
    ra_order_get(x.ra, thief, id, on_order, &w);
    EXPECT(&w, "order");
    ra_session_release(thief);
    free(chain);
    /* warm: no evidence any more */
    csr = csr_for(WEB);
    order_new(&x, s, &(struct ask){.uri = WEB, .csr = &csr}, &w);
    EXPECT(&w, NULL);
    assert_int_equal(w.o.status, RA_VALID);
    wait_free(&w);
    /* and evidence that is not needed is not looked at: the spent token does no harm */
    csr = csr_for(WEB);
    order_new(&x, s, &(struct ask){.uri = WEB, .csr = &csr, .evidence = cmw, .freshness = "fresh"}, &w);
    EXPECT(&w, NULL);
    wait_free(&w);
    json_decref(cmw);
    ra_session_release(s);
}

static void test_rfc8555(void **state)
{
    uint8_t secret[32];
    struct wait w;
    char order[RA_ID_LEN + 1], authz[RA_ID_LEN + 1];
    struct ra_session *s = make_session(&x);
    struct bytes csr = csr_for(WEB);
    make_token(&x, WEB, NULL, 0, secret);
    /* newOrder; a csr without authorization and evidence changes nothing */
    order_new(&x, s, &(struct ask){.uri = WEB, .csr = &csr}, &w);
    EXPECT(&w, NULL);
    assert_int_equal(w.o.status, RA_PENDING);
    assert_null(w.chain);
    memcpy(order, w.o.id, sizeof order);
    memcpy(authz, w.order_authz, sizeof authz);
    /* too early */
    wait_init(&w);
    ra_order_finalize(x.ra, s, order, csr, on_order, &w);
    EXPECT(&w, "order-status");
    assert_int_equal(w.e.code, ERR_NOT_READY);
    /* authorization, challenge */
    wait_init(&w);
    ra_authz_get(x.ra, s, authz, on_authz, &w);
    EXPECT(&w, NULL);
    assert_int_equal(w.a.status, RA_PENDING);
    assert_int_equal(w.a.challenge_status, RA_PENDING);
    assert_string_equal(w.a.identifier.type, "uri");
    assert_string_equal(w.a.identifier.value, WEB);
    assert_int_equal(strlen(w.a.challenge_token), 43);
    json_t *cmw = token_evidence(s, secret, w.a.challenge_token);
    char token[44];
    memcpy(token, w.a.challenge_token, sizeof token);
    struct ra_session *thief = make_session(&x);
    wait_init(&w);
    ra_challenge_answer(x.ra, thief, authz, cmw, on_authz, &w);
    EXPECT(&w, "authorization");
    wait_init(&w);
    ra_challenge_answer(x.ra, s, authz, cmw, on_authz, &w);
    EXPECT(&w, NULL);
    assert_int_equal(w.a.status, RA_VALID);
    assert_int_equal(w.a.challenge_status, RA_VALID);
    assert_string_equal(w.a.id, authz);
    assert_string_equal(w.a.challenge_token, token);
    assert_true(w.a.validated > 0 && w.a.expires == w.a.validated + 3600);
    /* the order is ready; finalize; certificate */
    wait_init(&w);
    ra_order_get(x.ra, s, order, on_order, &w);
    EXPECT(&w, NULL);
    assert_int_equal(w.o.status, RA_READY);
    assert_string_equal(w.order_authz, authz);
    struct bytes other = csr_for(DB);
    wait_init(&w);
    ra_order_finalize(x.ra, s, order, other, on_order, &w);
    EXPECT(&w, "csr-uri");
    csr = csr_for(WEB);
    wait_init(&w);
    ra_order_finalize(x.ra, thief, order, csr, on_order, &w);
    EXPECT(&w, "order");
    wait_init(&w);
    ra_order_finalize(x.ra, s, order, csr, on_order, &w); /* a bad CSR left it ready */
    EXPECT(&w, NULL);
    assert_int_equal(w.o.status, RA_VALID);
    assert_non_null(w.chain);
    wait_free(&w);
    ra_order_finalize(x.ra, s, order, csr, on_order, &w);
    EXPECT(&w, "order-status");
    /* a new order of an authorized session is ready at once */
    order_new(&x, s, &(struct ask){.uri = WEB}, &w);
    EXPECT(&w, NULL);
    assert_int_equal(w.o.status, RA_READY);
    json_decref(cmw);
    ra_session_release(thief);
    ra_session_release(s);
}

/* RFC 8555 section 7.5.1: a failed challenge makes the authorization and its order invalid. */
static void test_failed_challenge(void **state)
{
    uint8_t secret[32];
    struct wait w;
    char order[RA_ID_LEN + 1], authz[RA_ID_LEN + 1];
    struct ra_session *s = make_session(&x);
    make_token(&x, WEB, NULL, 0, secret);
    order_new(&x, s, &(struct ask){.uri = WEB}, &w);
    EXPECT(&w, NULL);
    memcpy(order, w.o.id, sizeof order);
    memcpy(authz, w.order_authz, sizeof authz);
    json_t *cmw = token_evidence(s, secret, "another token");
    wait_init(&w);
    ra_challenge_answer(x.ra, s, authz, cmw, on_authz, &w);
    EXPECT(&w, NULL);
    assert_int_equal(w.a.status, RA_INVALID);
    assert_int_equal(w.a.challenge_status, RA_INVALID);
    assert_string_equal(w.a.error.rule, "evidence-binding");
    wait_init(&w);
    ra_order_get(x.ra, s, order, on_order, &w);
    EXPECT(&w, NULL);
    assert_int_equal(w.o.status, RA_INVALID);
    assert_string_equal(w.o.error.rule, "evidence-binding");
    /* answering once more shows how it stands; a new order gets a new authorization */
    wait_init(&w);
    ra_challenge_answer(x.ra, s, authz, cmw, on_authz, &w);
    EXPECT(&w, NULL);
    assert_int_equal(w.a.status, RA_INVALID);
    order_new(&x, s, &(struct ask){.uri = WEB}, &w);
    EXPECT(&w, NULL);
    assert_string_not_equal(w.order_authz, authz);
    json_decref(cmw);
    ra_session_release(s);
}

static void test_identifiers(void **state)
{
    struct ra_session *s = make_session(&x);
    struct wait w;
    struct ra_identifier ids[2];
    memset(ids, 0, sizeof ids);
    refused_new(s, (struct ask){.uri = "spiffe://example.org/nobody"}, "entry");
    refused_new(s, (struct ask){.uri = "spiffe://other.org/web"}, "trust-domain");
    refused_new(s, (struct ask){.uri = "spiffe://example.org/a/./b"}, "spiffe-id");
    refused_new(s, (struct ask){.uri = "spiffe://example.org/mayfly/server"}, "entry");
    refused_new(s, (struct ask){.uri = WEB, .dns = "other.example.org"}, "dns");
    refused_new(s, (struct ask){.uri = WEB, .dns = "WEB.example.org"}, "dns-name");
    refused_new(s, (struct ask){.uri = "spiffe://example.org/child"}, "parent");
    struct ra_order_request r = {.identifiers = ids, .identifiers_count = 0};
    wait_init(&w);
    ra_order_new(x.ra, s, &r, on_order, &w);
    EXPECT(&w, "identifiers");
    r.identifiers_count = 2;
    strcpy(ids[0].type, "uri");
    strcpy(ids[1].type, "uri");
    strcpy(ids[0].value, WEB);
    strcpy(ids[1].value, WEB);
    wait_init(&w);
    ra_order_new(x.ra, s, &r, on_order, &w);
    EXPECT(&w, "identifiers");
    strcpy(ids[1].type, "ip");
    wait_init(&w);
    ra_order_new(x.ra, s, &r, on_order, &w);
    EXPECT(&w, "identifier-type");
    strcpy(ids[0].type, "dns");
    strcpy(ids[1].type, "dns");
    strcpy(ids[0].value, "web.example.org");
    strcpy(ids[1].value, "web.example.org");
    wait_init(&w);
    ra_order_new(x.ra, s, &r, on_order, &w);
    EXPECT(&w, "identifiers");
    ra_session_release(s);
}

/* What the order allows and what the CSR asks: nothing in between. */
static void test_csr_against_order(void **state)
{
    struct ra_session *s = authorized();
    struct wait w;
    struct bytes csr = csr_for(DB);
    refused_new(s, (struct ask){.uri = WEB, .csr = &csr}, "csr-uri");
    csr = csr_for(WEB ",DNS:web.example.org");
    refused_new(s, (struct ask){.uri = WEB, .csr = &csr}, "csr-dns");
    csr = csr_for(WEB);
    refused_new(s, (struct ask){.uri = WEB, .dns = "web.example.org", .csr = &csr}, "csr-dns");
    csr = csr_for(WEB ",IP:10.0.0.1");
    refused_new(s, (struct ask){.uri = WEB, .csr = &csr}, "csr-san-ip");
    /* the account's key is no certificate's key (RFC 8555 section 11.1) */
    uint8_t der[4096];
    struct bytes own = {der, csr_build(der, sizeof der, key_evp(ra_session_key(s)), &(struct csr_spec){.san = "URI:" WEB})};
    refused_new(s, (struct ask){.uri = WEB, .csr = &own}, "csr-key");
    /* another ID needs evidence of its own: the order waits */
    csr = csr_for(DB);
    order_new(&x, s, &(struct ask){.uri = DB, .csr = &csr}, &w);
    EXPECT(&w, NULL);
    assert_int_equal(w.o.status, RA_PENDING);
    ra_session_release(s);
}

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

static void signer_refuses(enum err_code code, const char *rule)
{
    pthread_mutex_lock(&x.signer.lock);
    memset(&x.signer.refuse, 0, sizeof x.signer.refuse);
    if (code != ERR_NONE)
        err_set(&x.signer.refuse, code, rule, "as the test wants");
    pthread_mutex_unlock(&x.signer.lock);
}

static void test_signer_refuses(void **state)
{
    struct wait w;
    char order[RA_ID_LEN + 1];
    struct ra_stats before, after;
    struct ra_session *s = authorized();
    ra_stats(x.ra, &before);
    struct bytes csr = csr_for(WEB);
    signer_refuses(ERR_UNAVAILABLE, "clock-back");
    order_new(&x, s, &(struct ask){.uri = WEB, .csr = &csr}, &w);
    EXPECT(&w, "clock-back");
    ra_stats(x.ra, &after);
    assert_int_equal(before.orders, after.orders); /* nothing is left of it */
    assert_int_equal(after.refused, before.refused + 1);
    assert_int_equal(after.issued, before.issued);
    /* finalize: passing trouble leaves the order ready, a refusal for good ends it */
    order_new(&x, s, &(struct ask){.uri = WEB}, &w);
    EXPECT(&w, NULL);
    memcpy(order, w.o.id, sizeof order);
    for (int i = 0; i < 2; i++) {
        if (i)
            signer_refuses(ERR_DENIED, "dns-permitted");
        wait_init(&w);
        ra_order_finalize(x.ra, s, order, csr, on_order, &w);
        EXPECT(&w, i ? "dns-permitted" : "clock-back");
        wait_init(&w);
        ra_order_get(x.ra, s, order, on_order, &w);
        EXPECT(&w, NULL);
        assert_int_equal(w.o.status, i ? RA_INVALID : RA_READY);
    }
    assert_string_equal(w.o.error.rule, "dns-permitted");
    signer_refuses(ERR_NONE, "");
    ra_session_release(s);
}

/* Two finalizations of one order: one goes on. A signer that is mute: the deadline ends the wait. */
static void test_signer_mute(void **state)
{
    struct wait w, w2;
    char order[RA_ID_LEN + 1];
    struct ra_session *s = authorized();
    struct bytes csr = csr_for(WEB);
    order_new(&x, s, &(struct ask){.uri = WEB}, &w);
    EXPECT(&w, NULL);
    memcpy(order, w.o.id, sizeof order);
    pthread_mutex_lock(&x.signer.lock);
    x.signer.mute = true;
    pthread_mutex_unlock(&x.signer.lock);
    wait_init(&w);
    wait_init(&w2);
    ra_order_finalize(x.ra, s, order, csr, on_order, &w);
    ra_order_finalize(x.ra, s, order, csr, on_order, &w2);
    EXPECT(&w2, "order-status");
    wait_init(&w2);
    ra_order_get(x.ra, s, order, on_order, &w2);
    EXPECT(&w2, NULL);
    assert_int_equal(w2.o.status, RA_PROCESSING);
    EXPECT(&w, "signer-away");
    pthread_mutex_lock(&x.signer.lock);
    x.signer.mute = false;
    pthread_mutex_unlock(&x.signer.lock);
    wait_init(&w);
    ra_order_finalize(x.ra, s, order, csr, on_order, &w);
    EXPECT(&w, NULL);
    wait_free(&w);
    ra_session_release(s);
}

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

static void on_issue(void *arg, const struct ca_issued *r, const struct err *e)
{
    struct wait *w = arg;
    pthread_mutex_lock(&w->lock);
    w->o.index = r ? r->index : 0;
    wait_wake(w, e);
}

static void test_authority(void **state)
{
    struct wait w;
    struct err e = {0};
    struct buf out;
    struct ca_snapshot s;
    struct key *k = key_generate(KEY_P256, &e);
    wait_init(&w);
    assert_int_equal(ra_server_cert(x.ra, key_spki(k), on_issue, &w, &e), 0);
    EXPECT(&w, NULL);
    assert_int_equal(x.signer.last.profile, CA_PROFILE_SERVER);
    assert_string_equal(x.signer.last_id, "spiffe://example.org/mayfly/server");
    assert_int_equal(x.signer.last.dns_count, 2);
    assert_int_equal(x.signer.last.lifetime, 3600);
    key_free(k);
    ra_signer(x.ra, &s);
    assert_true(s.known);
    unsigned limit = x.config->crl.short_limit;
    for (int i = 0; i < 3; i++) { /* made, then from memory; and where no certificate names a CRL */
        if (i == 2) {
            x.config->crl.short_limit = x.config->ca.max_lifetime;
            fx_reopen(&x);
        }
        buf_init(&out, 65536);
        assert_int_equal(ra_bundle(x.ra, &out, &e), 0);
        json_t *doc = json_parse(out.p, out.len, 65536, &e);
        assert_non_null(doc);
        assert_int_equal(json_integer_value(json_object_get(doc, "spiffe_sequence")), pki_now - 864000 + 1); /* with a JWT key */
        assert_int_equal(json_array_size(json_object_get(doc, "keys")), 2);
        const json_t *crl = json_object_get(doc, "mayfly_crl");
        assert_int_equal(crl != NULL, i < 2);
        if (crl) {
            char name[] = "16-3.crl", url[CRL_URL_MAX];
            struct crl_name n;
            snprintf(url, sizeof url, "%s%s", json_string_value(json_object_get(crl, "base")), name);
            assert_true(crl_url_parse(&n, url, strlen(url)));
            assert_memory_equal(url, x.config->external_url, strlen(x.config->external_url));
            assert_int_equal(json_integer_value(json_object_get(crl, "shards")), x.config->crl.shards);
        }
        json_decref(doc);
        buf_free(&out);
    }
    x.config->crl.short_limit = limit;
    fx_reopen(&x);
}

static int setup(void **state)
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

static int teardown(void **state)
{
    fx_free(&x);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_round_trip),  cmocka_unit_test(test_rfc8555),
        cmocka_unit_test(test_failed_challenge), cmocka_unit_test(test_identifiers),
        cmocka_unit_test(test_csr_against_order), cmocka_unit_test(test_evidence_in_band),
        cmocka_unit_test(test_requester), cmocka_unit_test(test_x509pop),         cmocka_unit_test(test_entry_created_again),
        cmocka_unit_test(test_outgrown),        cmocka_unit_test(test_entry_changes),
        cmocka_unit_test(test_signer_refuses),  cmocka_unit_test(test_signer_mute),
        cmocka_unit_test(test_deactivation),    cmocka_unit_test(test_limits),
        cmocka_unit_test(test_deactivated_meanwhile), cmocka_unit_test(test_crowd),
        cmocka_unit_test(test_ring),            cmocka_unit_test(test_served),
        cmocka_unit_test(test_open_orders),     cmocka_unit_test(test_expiry),
        cmocka_unit_test(test_authority),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
