/* The ACME flow against an authority that lives in this file, behind the client's transport: it
 * opens every JWS as a server would, and misbehaves on demand. */
#include "base/clock.h"
#include "base/jose.h"
#include "unit/agent/pki.h"

#define HOST "https://ca.test:443"

enum { MAX_CALLS = 200 };
struct authority {
    struct pki pki;
    struct key *account;
    char thumbprint[44], chain[16384];
    /* how it behaves */
    bool plain; /* knows no one-round-trip order */
    unsigned bad_nonces, unavailable, retry_after, forget, processing;
    const char *foreign; /* member answered with a foreign URL */
    const char *refuse_authz, *order_problem;
    bool no_location, invalid_authz, junk;
    const char *bad_chain; /* answered in place of the chain */
    /* what it saw */
    unsigned nonce_calls, accounts, orders, challenges, finalizes, calls;
    unsigned waits, waited_ms;
    bool in_band, csr_seen;
    char replaces[64];
    char nonces[MAX_CALLS][32];
    unsigned nonce_next, nonce_used[MAX_CALLS];
    bool authorized, ready, valid;
};

static void fresh_nonce(struct authority *s, struct http_answer *a)
{
    assert_true(s->nonce_next < MAX_CALLS);
    snprintf(s->nonces[s->nonce_next], 32, "nonce-%u", s->nonce_next);
    strcpy(a->nonce, s->nonces[s->nonce_next++]);
}

static void say_problem(struct http_answer *a, unsigned status, const char *type)
{
    a->status = status;
    buf_fmt(&a->body,
            "{\"type\":\"urn:ietf:params:acme:error:%s\",\"detail\":\"as the test "
            "wants\",\"rule\":\"%s\"}",
            type, strcmp(type, "unauthorized") == 0 ? "as-told" : "test");
}

/* A nonce of ours, used for the first time (RFC 8555 section 6.5). */
static void check_nonce(struct authority *s, const char *nonce)
{
    for (unsigned i = 0; i < s->nonce_next; i++)
        if (strcmp(s->nonces[i], nonce) == 0) {
            assert_int_equal(s->nonce_used[i]++, 0);
            return;
        }
    fail_msg("nonce %s is not ours", nonce);
}

static void check_evidence(struct authority *s, const json_t *cmw, const char *token)
{
    uint8_t digest[32];
    char hex[HEX_LEN(32) + 1];
    attest_key_authorization(digest, token, s->thumbprint);
    hex_encode(hex, digest, 32);
    assert_int_equal(json_array_size(cmw), 2);
    assert_string_equal(json_string_value(json_array_get(cmw, 0)), "test/digest");
    assert_string_equal(json_string_value(json_array_get(cmw, 1)), hex);
}

static void check_csr(struct authority *s, const json_t *doc)
{
    uint8_t der[8192];
    const char *text = json_maybe_str(doc, "csr");
    assert_non_null(text);
    long n = b64url_decode(der, sizeof der, text, strlen(text));
    assert_true(n > 0);
    const uint8_t *at = der;
    X509_REQ *req = d2i_X509_REQ(NULL, &at, n);
    assert_non_null(req);
    assert_int_equal(X509_REQ_verify(req, X509_REQ_get0_pubkey(req)), 1);
    struct pki_spec leaf = pki_leaf_spec(&s->pki, X509_REQ_get0_pubkey(req));
    struct acme_identity i;
    pki_identity(&i, leaf, &s->pki.log, s->pki.issuing);
    snprintf(s->chain, sizeof s->chain, "%s", buf_cstr(&i.chain_pem));
    acme_identity_free(&i);
    X509_REQ_free(req);
    s->csr_seen = true;
}

static void say_order(struct authority *s, struct http_answer *a, unsigned status, bool with_chain)
{
    const char *word = s->valid        ? s->processing ? (s->processing--, "processing") : "valid"
                       : s->authorized ? "ready"
                                       : "pending";
    a->status = status;
    if (!s->no_location)
        strcpy(a->location, s->foreign && strcmp(s->foreign, "order") == 0
                                ? "https://evil.test/order"
                                : HOST "/order/1");
    buf_fmt(&a->body,
            "{\"status\":\"%s\",\"authorizations\":[\"%s/authz/1\"],\"finalize\":\"%s/finalize/"
            "1\",\"certificate\":\"%s/cert/1\"",
            word, s->foreign && strcmp(s->foreign, "authz") == 0 ? "https://evil.test" : HOST,
            s->foreign && strcmp(s->foreign, "finalize") == 0 ? "https://evil.test" : HOST, HOST);
    if (with_chain) {
        buf_str(&a->body, ",\"certificateChain\":");
        jw_str(&a->body, s->chain);
    }
    buf_str(&a->body, "}");
}

static void on_order(struct authority *s, const struct jws *j, const json_t *doc,
                     struct http_answer *a)
{
    s->orders++;
    s->valid = false;
    const json_t *first = json_array_get(json_object_get(doc, "identifiers"), 0);
    assert_string_equal(json_maybe_str(first, "type"), "uri");
    assert_string_equal(json_maybe_str(first, "value"), PKI_ID);
    if (s->order_problem) {
        say_problem(a, 403, s->order_problem);
        return;
    }
    const char *replaces = json_maybe_str(doc, "replaces");
    snprintf(s->replaces, sizeof s->replaces, "%s", replaces ? replaces : "");
    const json_t *evidence = json_object_get(doc, "evidence");
    s->in_band = evidence != NULL;
    if (evidence && !s->plain) {
        check_evidence(s, evidence, j->nonce);
        s->authorized = true;
    }
    if (s->plain || !s->authorized) {
        say_order(s, a, 201, false);
        return;
    }
    check_csr(s, doc);
    s->valid = true;
    say_order(s, a, 201, true);
}

static void on_authz(struct authority *s, struct http_answer *a)
{
    a->status = 200;
    buf_fmt(&a->body,
            "{\"status\":\"%s\",\"challenges\":[{\"type\":\"remote-attest-01\",\"url\":\"" HOST
            "/chal/1\",\"token\":\"tok\"%s}]}",
            s->invalid_authz && s->challenges ? "invalid"
            : s->authorized                   ? "valid"
                                              : "pending",
            s->invalid_authz && s->challenges ? ",\"error\":{\"type\":\"urn:ietf:params:acme:error:"
                                                "unauthorized\",\"rule\":\"as-told\"}"
                                              : "");
}

static void on_post(struct authority *s, const char *path, const struct jws *j, const json_t *doc,
                    struct http_answer *a)
{
    a->status = 200;
    if (strcmp(path, "/new-account") == 0) {
        assert_non_null(j->jwk);
        key_free(s->account);
        s->account = key_from_evp(key_evp(j->jwk), &(struct err){0});
        strcpy(s->thumbprint, j->thumbprint);
        s->accounts++;
        a->status = 201;
        strcpy(a->location, s->foreign && strcmp(s->foreign, "account") == 0 ? "https://evil.test/a"
                                                                             : HOST "/account/1");
    } else if (strcmp(path, "/new-order") == 0)
        on_order(s, j, doc, a);
    else if (strcmp(path, "/order/1") == 0)
        say_order(s, a, 200, false);
    else if (strcmp(path, "/authz/1") == 0)
        on_authz(s, a);
    else if (strcmp(path, "/chal/1") == 0) {
        check_evidence(s, doc, "tok");
        s->challenges++;
        if (s->refuse_authz)
            say_problem(a, 403, s->refuse_authz);
        else
            s->authorized = !s->invalid_authz;
    } else if (strcmp(path, "/finalize/1") == 0) {
        assert_true(s->authorized);
        check_csr(s, doc);
        s->finalizes++;
        s->valid = true;
        say_order(s, a, 200, false);
    } else if (strcmp(path, "/cert/1") == 0)
        buf_fmt(&a->body, "%s%s%s", s->junk ? "junk\n" : "", s->bad_chain ? s->bad_chain : s->chain,
                s->junk ? "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\njunk\n"
                        : "");
    else
        fail_msg("asked for %s", path);
}

static void on_jws(struct authority *s, const struct http_request *q, const char *path,
                   struct http_answer *a)
{
    struct err e;
    struct jws j = {0};
    assert_done(jws_parse(&j, (const char *)q->body.p, q->body.len, &e));
    assert_string_equal(j.url, q->url);
    check_nonce(s, j.nonce);
    bool account = strcmp(path, "/new-account") == 0;
    assert_true(account == (j.jwk != NULL));
    if (!account)
        assert_string_equal(j.kid, HOST "/account/1");
    assert_done(jws_verify(&j, account ? j.jwk : s->account, &e));
    fresh_nonce(s, a);
    if (s->bad_nonces > 0) {
        s->bad_nonces--;
        say_problem(a, 400, "badNonce");
    } else if (s->unavailable > 0) {
        s->unavailable--;
        a->retry_after = s->retry_after;
        say_problem(a, 503, "serverInternal");
    } else if (!account && s->forget > 0) {
        s->forget--;
        say_problem(a, 400, "accountDoesNotExist");
    } else {
        json_t *doc = j.payload_empty ? NULL : json_parse(j.payload.p, j.payload.len, 65536, &e);
        on_post(s, path, &j, doc, a);
        json_decref(doc);
    }
    jws_free(&j);
}

static int serve(void *arg, const struct http_request *q, struct http_answer *a, struct err *e)
{
    struct authority *s = arg;
    assert_int_equal(strncmp(q->url, HOST, strlen(HOST)), 0); /* it never goes elsewhere */
    const char *path = q->url + strlen(HOST);
    buf_reset(&a->body);
    a->status = a->retry_after = 0;
    a->nonce[0] = a->location[0] = 0;
    s->calls++;
    if (strcmp(path, "/acme/directory") == 0) {
        a->status = 200;
        buf_fmt(&a->body,
                "{\"newNonce\":\"" HOST "/new-nonce\",\"newAccount\":\"" HOST
                "/new-account\",\"newOrder\":\"%s/new-order\"}",
                s->foreign && strcmp(s->foreign, "directory") == 0 ? "https://evil.test" : HOST);
    } else if (strcmp(path, "/new-nonce") == 0) {
        assert_string_equal(q->method, "HEAD");
        s->nonce_calls++;
        a->status = 200;
        fresh_nonce(s, a);
    } else {
        assert_string_equal(q->method, "POST");
        on_jws(s, q, path, a);
    }
    return 0;
}

static void wait_none(void *arg, unsigned ms)
{
    struct authority *s = arg;
    s->waits++;
    s->waited_ms += ms;
}

static int evidence(void *arg, const uint8_t digest[32], struct buf *out, struct err *e)
{
    char hex[HEX_LEN(32) + 1];
    hex_encode(hex, digest, 32);
    buf_fmt(out, "[\"test/digest\",\"%s\"]", hex);
    return 0;
}

struct fixture {
    struct authority s;
    struct acme_client *c;
    struct acme_identity got;
};

static int setup(void **state)
{
    struct err e;
    struct fixture *f = calloc(1, sizeof *f);
    struct acme_transport t = {serve, wait_none, &f->s};
    pki_new(&f->s.pki);
    f->c = acme_client_over("https://ca.test", &t, &e);
    assert_non_null(f->c);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    acme_client_free(f->c);
    acme_identity_free(&f->got);
    key_free(f->s.account);
    pki_free(&f->s.pki);
    free(f);
    return 0;
}

static int obtain(struct fixture *f, struct err *e)
{
    static const char *const dns[] = {"web.example.org"};
    acme_identity_free(&f->got);
    memset(e, 0, sizeof *e);
    return acme_obtain(f->c, PKI_ID, dns, 1, evidence, NULL, 30000, &f->got, e);
}

/* What came back is an identity that verifies. */
static void check_got(struct fixture *f)
{
    struct err e;
    struct agent_trust trust;
    struct agent_verified v;
    pki_trust(&trust, f->s.pki.root);
    assert_done(agent_verify(&v, &trust, &f->got, PKI_ID, PKI_NOW, &e));
    agent_trust_free(&trust);
}

static void test_one_round_trip(void **state)
{
    struct fixture *f = *state;
    struct err e;
    assert_done(obtain(f, &e));
    check_got(f);
    assert_true(f->s.in_band);
    assert_int_equal(f->s.calls, 4); /* directory, nonce, account, order */
    /* A renewal is one request: nonce and session are there, evidence was shown. The key is new. */
    struct bytes spki = key_spki(f->got.key);
    uint8_t first[200];
    assert_true(spki.len < sizeof first);
    memcpy(first, spki.p, spki.len);
    size_t len = spki.len;
    assert_done(obtain(f, &e));
    check_got(f);
    assert_false(bytes_eq(key_spki(f->got.key), first, len));
    assert_int_equal(f->s.calls, 5);
    assert_false(f->s.in_band);
    assert_int_equal(f->s.nonce_calls, 1);
    assert_int_equal(f->s.accounts, 1);
}

/* The session's authorization ended: the order is pending, and another carries evidence, at once. */
static void test_renewal_unauthorized(void **state)
{
    struct fixture *f = *state;
    struct err e;
    assert_done(obtain(f, &e));
    f->s.authorized = false;
    assert_done(obtain(f, &e));
    check_got(f);
    assert_true(f->s.in_band);
    assert_int_equal(f->s.orders, 3);
    assert_int_equal(f->s.challenges, 0);
    assert_int_equal(f->s.calls, 6);
    /* An authority that wants a challenge answered gets that too. */
    f->s.authorized = false;
    f->s.plain = true;
    assert_done(obtain(f, &e));
    check_got(f);
    assert_int_equal(f->s.challenges, 1);
    assert_int_equal(f->s.finalizes, 1);
}

/* A key of the caller's, which stays the caller's, and the certificate that is replaced. */
static void test_own_key(void **state)
{
    struct fixture *f = *state;
    struct err e;
    struct key *own = key_generate(KEY_P256, &e);
    struct acme_ask ask = {.spiffe_id = PKI_ID, .key = own, .replaces = "AQ.Ag", .evidence = evidence, .deadline_ms = 30000};
    assert_done(acme_obtain_as(f->c, &ask, &f->got, &e));
    assert_null(f->got.key);
    assert_string_equal(f->s.replaces, "AQ.Ag");
    f->got.key = own;
    check_got(f);
    /* Another session key: another account, and evidence again. */
    assert_int_equal(f->s.accounts, 1);
    assert_done(acme_client_key(f->c, key_generate(KEY_P256, &e), &e));
    f->s.authorized = false;
    assert_done(obtain(f, &e));
    assert_int_equal(f->s.accounts, 2);
    assert_true(f->s.in_band);
    check_got(f);
}

static void test_rfc8555_steps(void **state)
{
    struct fixture *f = *state;
    struct err e;
    f->s.plain = true;
    f->s.processing = 3;
    assert_done(obtain(f, &e));
    check_got(f);
    assert_int_equal(f->s.orders, 1);
    assert_int_equal(f->s.challenges, 1);
    assert_int_equal(f->s.finalizes, 1);
    assert_true(f->s.waits >= 2);
}

static void test_bad_nonce(void **state)
{
    struct fixture *f = *state;
    struct err e;
    f->s.bad_nonces = 3;
    assert_done(obtain(f, &e));
    check_got(f);
    assert_int_equal(f->s.nonce_calls, 1); /* the answers' own nonces were used */
    f->s.bad_nonces = 4;
    assert_refused(obtain(f, &e), ERR_BAD_NONCE, "test");
    assert_null(f->got.key);
    assert_int_equal(f->s.waits, 0);
}

static void test_unavailable(void **state)
{
    struct fixture *f = *state;
    struct err e;
    f->s.unavailable = 2;
    f->s.retry_after = 3;
    assert_done(obtain(f, &e));
    check_got(f);
    assert_int_equal(f->s.waits, 2);
    assert_int_equal(f->s.waited_ms, 6000);
    f->s.unavailable = 1; /* longer than the deadline: not even begun */
    f->s.retry_after = 31;
    assert_refused(obtain(f, &e), ERR_UNAVAILABLE, "test");
    assert_int_equal(f->s.waits, 2);
    f->s.unavailable = 3; /* no Retry-After: backoff that grows */
    f->s.retry_after = 0;
    f->s.waited_ms = 0;
    assert_done(obtain(f, &e));
    assert_int_equal(f->s.waits, 5);
    assert_in_range(f->s.waited_ms, 50 + 100 + 200, 100 + 200 + 400);
}

static void test_account_forgotten(void **state)
{
    struct fixture *f = *state;
    struct err e;
    assert_done(obtain(f, &e));
    f->s.forget = 1;
    f->s.authorized = false;
    assert_done(obtain(f, &e));
    check_got(f);
    assert_int_equal(f->s.accounts, 2);
    assert_true(f->s.in_band); /* the new session shows its evidence again */
    f->s.forget = 2;           /* an authority that forgets at once is not asked for ever */
    assert_refused(obtain(f, &e), ERR_NO_ACCOUNT, "test");
    assert_int_equal(f->s.accounts, 3);
}

static void test_foreign_urls(void **state)
{
    struct fixture *f = *state;
    struct err e;
    static const char *const places[] = {"directory", "account", "authz", "finalize", "order"};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        f->s.foreign = places[i];
        f->s.plain = true;
        f->s.authorized = strcmp(places[i], "finalize") == 0;
        f->s.valid = false;
        assert_refused(obtain(f, &e), ERR_CORRUPT, "url-origin");
        assert_non_null(strstr(e.msg, "https://evil.test"));
    }
}

static void test_refusals(void **state)
{
    struct fixture *f = *state;
    struct err e;
    f->s.order_problem = "unauthorized";
    assert_refused(obtain(f, &e), ERR_UNAUTHORIZED, "as-told");
    f->s.order_problem = "rejectedIdentifier";
    assert_refused(obtain(f, &e), ERR_REJECTED_ID, "test");
    f->s.order_problem = NULL;
    f->s.plain = true;
    f->s.refuse_authz = "badAttestationStatement";
    assert_refused(obtain(f, &e), ERR_BAD_EVIDENCE, "test");
    f->s.refuse_authz = NULL;
    f->s.invalid_authz = true;
    f->s.challenges = 0;
    assert_refused(obtain(f, &e), ERR_UNAUTHORIZED, "as-told");
    f->s.invalid_authz = false;
    f->s.no_location = true;
    assert_refused(obtain(f, &e), ERR_INTERNAL, "acme-answer");
    assert_null(f->got.key);
    assert_null(f->got.chain_pem.p);
}

/* A challenge that is answered and stays pending is asked about until the time is up, not for ever,
 * and not answered twice. */
static void wait_and_age(void *arg, unsigned ms)
{
    struct fixture *f = arg;
    wait_none(&f->s, ms);
    f->c->deadline -= ms;
}

static int serve_fixture(void *arg, const struct http_request *q, struct http_answer *a,
                         struct err *e)
{
    struct fixture *f = arg;
    int rc = serve(&f->s, q, a, e);
    if (strcmp(q->url, HOST "/chal/1") == 0)
        f->s.authorized = false;
    return rc;
}

static void test_pending_for_ever(void **state)
{
    struct fixture *f = *state;
    struct err e;
    f->c->transport = (struct acme_transport){serve_fixture, wait_and_age, f};
    f->s.plain = true;
    assert_refused(obtain(f, &e), ERR_UNAVAILABLE, "deadline");
    assert_int_equal(f->s.challenges, 1);
    assert_true(f->s.waited_ms < 30000);
}

/* What is kept, and later written, are the certificates and nothing that came along with them. */
static void test_chain_cleaned(void **state)
{
    struct fixture *f = *state;
    struct err e;
    f->s.plain = f->s.junk = true;
    assert_done(obtain(f, &e));
    check_got(f);
    assert_string_equal(buf_cstr(&f->got.chain_pem), f->s.chain);
}

/* No chain is something that does not verify, not a request that was malformed. */
static void test_chain_bad(void **state)
{
    struct fixture *f = *state;
    struct err e;
    char *long_one = calloc(1, CHAIN_PEM_MAX + 2);
    memset(long_one, 'x', CHAIN_PEM_MAX + 1);
    const struct {
        const char *chain, *rule;
    } cases[] = {{"no chain\n", "pem-empty"},
                 {"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "pem-syntax"},
                 {long_one, "chain-size"}};
    f->s.plain = true;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        f->s.bad_chain = cases[i].chain;
        assert_refused(obtain(f, &e), ERR_CORRUPT, cases[i].rule);
        assert_null(f->got.key);
    }
    free(long_one);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_one_round_trip, setup, teardown),
        cmocka_unit_test_setup_teardown(test_renewal_unauthorized, setup, teardown),
        cmocka_unit_test_setup_teardown(test_own_key, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rfc8555_steps, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_nonce, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unavailable, setup, teardown),
        cmocka_unit_test_setup_teardown(test_account_forgotten, setup, teardown),
        cmocka_unit_test_setup_teardown(test_foreign_urls, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refusals, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pending_for_ever, setup, teardown),
        cmocka_unit_test_setup_teardown(test_chain_cleaned, setup, teardown),
        cmocka_unit_test_setup_teardown(test_chain_bad, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
