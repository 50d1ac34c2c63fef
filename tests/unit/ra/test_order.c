/* Orders from the first question to the certificate, in one round trip and step by step; what the signer says to them; and
 * what the authority itself has of it. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "tests/unit/ra/orders.h"
#include "base/crl_name.h"
#include <openssl/pem.h>

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_round_trip), cmocka_unit_test(test_rfc8555),
        cmocka_unit_test(test_failed_challenge), cmocka_unit_test(test_identifiers),
        cmocka_unit_test(test_csr_against_order), cmocka_unit_test(test_signer_refuses),
        cmocka_unit_test(test_signer_mute), cmocka_unit_test(test_authority),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
