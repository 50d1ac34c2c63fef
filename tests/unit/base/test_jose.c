#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include "base/jose.h"
#include "unit/base/wycheproof.h"
#include <string.h>

#define URL "https://localhost:8443/acme/new-order"
#define ES256_JWK                                                                                  \
    "{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"04N0xi21hshyvBp7I167sbE_bXqyqkAPfefdklMO7wY\","      \
    "\"y\":\"UI8exy-C06a7DUnjIdENkxeFtHM4-l_41LqEw9nVgmw\"}"

static void flattened(struct buf *b, const char *header, const char *payload, const char *sig)
{
    buf_init(b, 2 * JWS_MAX);
    buf_str(b, "{\"protected\":\"");
    buf_b64url(b, header, strlen(header));
    buf_str(b, "\",\"payload\":\"");
    buf_str(b, payload);
    buf_str(b, "\",\"signature\":\"");
    buf_str(b, sig);
    buf_str(b, "\"}");
    assert_non_null(buf_cstr(b));
}

static void refused_body(const char *body, size_t len, enum err_code code, const char *rule)
{
    struct jws j;
    struct err e;
    if (jws_parse(&j, body, len, &e) == 0)
        fail_msg("accepted: %s", body);
    if (e.code != code || strcmp(e.rule, rule) != 0)
        fail_msg("%s: %s, %s; expected %s for %s", err_code_name(e.code), e.rule, e.msg, rule, body);
    jws_free(&j); /* safe after a refusal */
}

static void refused_header(const char *header, enum err_code code, const char *rule)
{
    struct buf b;
    flattened(&b, header, "Zm9v", "AAAA");
    refused_body((const char *)b.p, b.len, code, rule);
    buf_free(&b);
}

static void test_round_trip(void **state)
{
    static const enum key_type kinds[] = {KEY_P256, KEY_P384, KEY_RSA, KEY_ED25519};
    static const char *const algs[] = {"ES256", "ES384", "RS256", "EdDSA"};
    struct err e;
    for (size_t i = 0; i < 4; i++) {
        struct key *k = key_generate(kinds[i], &e), *other = key_generate(kinds[(i + 1) % 4], &e);
        struct buf b;
        struct jws j;
        char thumb[44];
        buf_init(&b, JWS_MAX);
        assert_int_equal(jws_sign(&b, k, NULL, "bm9uY2U", URL, "{\"a\":1}", 7, &e), 0);
        assert_int_equal(jws_parse(&j, (const char *)b.p, b.len, &e), 0);
        assert_string_equal(j.alg, algs[i]);
        assert_null(j.kid);
        assert_string_equal(j.url, URL);
        assert_string_equal(j.nonce, "bm9uY2U");
        assert_true(bytes_eq((struct bytes){j.payload.p, j.payload.len}, "{\"a\":1}", 7));
        assert_false(j.payload_empty);
        assert_int_equal(jwk_thumbprint(thumb, k, &e), 0);
        assert_string_equal(j.thumbprint, thumb);
        assert_int_equal(strlen(thumb), 43);
        assert_int_equal(jws_verify(&j, j.jwk, &e), 0);
        assert_int_equal(jws_verify(&j, k, &e), 0);
        assert_int_equal(jws_verify(&j, other, &e), -1);
        assert_string_equal(e.rule, "jws-alg");
        assert_int_equal(e.code, ERR_BAD_SIG_ALG);
        j.signing_input[j.signing_len - 1] ^= 1;
        assert_int_equal(jws_verify(&j, k, &e), -1);
        assert_string_equal(e.rule, "signature");
        jws_free(&j);

        buf_reset(&b);
        assert_int_equal(jws_sign(&b, k, "https://x/acct/\"1\"", NULL, URL, NULL, 0, &e), 0);
        assert_int_equal(jws_parse(&j, (const char *)b.p, b.len, &e), 0);
        assert_string_equal(j.kid, "https://x/acct/\"1\"");
        assert_null(j.jwk);
        assert_null(j.nonce);
        assert_true(j.payload_empty);
        assert_int_equal(j.payload.len, 0);
        assert_int_equal(jws_verify(&j, k, &e), 0);
        jws_free(&j);
        buf_free(&b);
        key_free(k);
        key_free(other);
    }
}

static void test_headers(void **state)
{
#define REST ",\"nonce\":\"bm9uY2U\",\"url\":\"" URL "\""
    refused_header("{\"alg\":\"none\",\"kid\":\"a\"" REST "}", ERR_BAD_SIG_ALG, "jws-alg");
    refused_header("{\"alg\":\"HS256\",\"kid\":\"a\"" REST "}", ERR_BAD_SIG_ALG, "jws-alg");
    refused_header("{\"alg\":\"es256\",\"kid\":\"a\"" REST "}", ERR_BAD_SIG_ALG, "jws-alg");
    refused_header("{\"alg\":\"PS256\",\"kid\":\"a\"" REST "}", ERR_BAD_SIG_ALG, "jws-alg");
    refused_header("{\"alg\":\"\",\"kid\":\"a\"" REST "}", ERR_BAD_SIG_ALG, "jws-alg");
    refused_header("{\"kid\":\"a\"" REST "}", ERR_MALFORMED, "json-member");
    refused_header("{\"alg\":1,\"kid\":\"a\"" REST "}", ERR_MALFORMED, "json-member");
    refused_header("{\"alg\":\"ES256\"" REST "}", ERR_MALFORMED, "jws-key");
    refused_header("{\"alg\":\"ES256\",\"kid\":\"a\",\"jwk\":" ES256_JWK REST "}", ERR_MALFORMED, "jws-key");
    refused_header("{\"alg\":\"ES256\",\"kid\":1" REST "}", ERR_MALFORMED, "jws-key");
    refused_header("{\"alg\":\"ES256\",\"kid\":\"\"" REST "}", ERR_MALFORMED, "jws-key");
    refused_header("{\"alg\":\"ES256\",\"jwk\":\"x\"" REST "}", ERR_BAD_KEY, "jwk");
    refused_header("{\"alg\":\"ES256\",\"kid\":\"a\",\"crit\":[\"exp\"]" REST "}", ERR_MALFORMED, "jws-crit");
    refused_header("{\"alg\":\"ES256\",\"kid\":\"a\",\"crit\":[]" REST "}", ERR_MALFORMED, "jws-crit");
    refused_header("{\"alg\":\"ES256\",\"kid\":\"a\",\"b64\":false" REST "}", ERR_MALFORMED, "jws-crit");
    refused_header("{\"alg\":\"ES256\",\"kid\":\"a\",\"nonce\":\"bm9uY2U\"}", ERR_MALFORMED, "jws-header");
    refused_header("{\"alg\":\"ES256\",\"kid\":\"a\",\"url\":\"\"}", ERR_MALFORMED, "jws-header");
    refused_header("{\"alg\":\"ES256\",\"kid\":\"a\",\"url\":[]}", ERR_MALFORMED, "jws-header");
    refused_header("{\"alg\":\"ES256\",\"kid\":\"a\",\"url\":\"u\",\"nonce\":\"a+b\"}", ERR_MALFORMED, "jws-header");
    refused_header("{\"alg\":\"ES256\",\"kid\":\"a\",\"url\":\"u\",\"nonce\":\"\"}", ERR_MALFORMED, "jws-header");
    refused_header("{\"alg\":\"ES256\",\"kid\":\"a\",\"url\":\"u\",\"nonce\":7}", ERR_MALFORMED, "jws-header");
    refused_header("[]", ERR_MALFORMED, "jws-header");
    refused_header("{\"alg\":\"ES256\",\"alg\":\"none\"" REST "}", ERR_MALFORMED, "json-syntax");
    refused_header("{\"alg\":\"ES256\"", ERR_MALFORMED, "json-syntax");
}

static void refused_text(const char *body, const char *rule)
{
    refused_body(body, strlen(body), ERR_MALFORMED, rule);
}

static void test_syntax(void **state)
{
    struct buf b, big;
    flattened(&b, "{\"alg\":\"ES256\",\"kid\":\"a\"" REST "}", "Zm9v", "AAAA");
    struct jws j;
    struct err e;
    assert_int_equal(jws_parse(&j, (const char *)b.p, b.len, &e), 0);
    jws_free(&j);
    for (size_t n = 0; n < b.len; n++) /* every truncation */
        refused_body((const char *)b.p, n, ERR_MALFORMED, "json-syntax");
    buf_str(&b, "x");
    refused_body((const char *)b.p, b.len, ERR_MALFORMED, "json-syntax");
    buf_free(&b);
    refused_text("[]", "jws-syntax");
    refused_text("{}", "jws-syntax");
    refused_text("{\"payload\":\"\",\"signatures\":[]}", "jws-syntax");
    refused_text("{\"protected\":\"e30\",\"payload\":\"\",\"signature\":\"AA\",\"header\":{}}", "jws-header");
    refused_text("{\"protected\":\"e30\",\"payload\":null,\"signature\":\"AA\"}", "jws-syntax");
    refused_text("{\"protected\":\"\",\"payload\":\"\",\"signature\":\"AA\"}", "jws-syntax");
    refused_text("{\"protected\":\"e30=\",\"payload\":\"\",\"signature\":\"AA\"}", "jws-syntax");
    refused_text("{\"protected\":\"e30\",\"payload\":\"\",\"signature\":\"A\"}", "jws-syntax");
    refused_text("{\"protected\":\"e30\",\"protected\":\"e30\",\"payload\":\"\",\"signature\":\"AA\"}", "json-syntax");
    flattened(&b, "{\"alg\":\"ES256\",\"kid\":\"a\"" REST "}", "Zm9v", "");
    refused_body((const char *)b.p, b.len, ERR_MALFORMED, "jws-syntax");
    buf_free(&b);
    flattened(&b, "{\"alg\":\"ES256\",\"kid\":\"a\"" REST "}", "Zm9+", "AAAA");
    refused_body((const char *)b.p, b.len, ERR_MALFORMED, "jws-syntax");
    buf_free(&b);
    buf_init(&big, 2 * JWS_MAX);
    for (int i = 0; i < 1000; i++)
        buf_str(&big, "AAAA");
    flattened(&b, "{\"alg\":\"ES256\",\"kid\":\"a\"" REST "}", "", buf_cstr(&big));
    refused_body((const char *)b.p, b.len, ERR_MALFORMED, "jws-syntax"); /* signature of 3000 bytes */
    buf_free(&b);
    for (int i = 0; i < 16000; i++)
        buf_str(&big, "AAAA");
    flattened(&b, "{\"alg\":\"ES256\",\"kid\":\"a\"" REST "}", buf_cstr(&big), "AAAA");
    refused_body((const char *)b.p, b.len, ERR_MALFORMED, "json-size");
    buf_free(&b);
    buf_free(&big);
}

static void test_jwk(void **state)
{
    static const struct {
        const char *jwk, *rule;
    } bad[] = {
        {"{}", "key-type"},
        {"{\"kty\":\"oct\",\"k\":\"AAAA\"}", "jwk-private"},
        {"{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"04N0xi21hshyvBp7I167sbE_bXqyqkAPfefdklMO7wY\"}", "jwk"},
        {"{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":1,\"y\":2}", "jwk"},
        {"{\"kty\":\"EC\",\"crv\":\"P-521\",\"x\":\"AA\",\"y\":\"AA\"}", "key-type"},
        {"{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"AA\",\"y\":\"AA\"}", "key-point"},
        {"{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"04N0xi21hshyvBp7I167sbE_bXqyqkAPfefdklMO7wY\","
         "\"y\":\"UI8exy-C06a7DUnjIdENkxeFtHM4-l_41LqEw9nVgmw\",\"d\":\"AA\"}", "jwk-private"},
        {"{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"04N0xi21hshyvBp7I167sbE_bXqyqkAPfefdklMO7wY\","
         "\"y\":\"UI8exy-C06a7DUnjIdENkxeFtHM4-l_41LqEw9nVgmA\"}", "key-point"},
        {"{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"AA\"}", "key-point"},
        {"{\"kty\":\"OKP\",\"crv\":\"X25519\",\"x\":\"AA\"}", "key-type"},
        {"{\"kty\":\"RSA\",\"n\":\"AQ\",\"e\":\"AQAB\"}", "key-size"},
        {"{\"kty\":\"RSA\",\"n\":\"AAEB\",\"e\":\"AQAB\"}", "jwk"},
    };
    struct err e;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        json_t *v = json_parse(bad[i].jwk, strlen(bad[i].jwk), 1000, &e);
        assert_non_null(v);
        assert_null(jwk_parse(v, &e));
        assert_int_equal(e.code, ERR_BAD_KEY);
        assert_string_equal(e.rule, bad[i].rule);
        json_decref(v);
    }
}

/* RFC 7638 §3.1 and RFC 8037 A.3: published thumbprints. */
static void test_thumbprints(void **state)
{
    static const struct {
        const char *jwk, *thumb;
    } known[] = {
        {"{\"kty\":\"RSA\",\"n\":\""
         "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1"
         "L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4"
         "QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbO"
         "pbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csF"
         "Cur-kEgU8awapJzKnqDKgw"
         "\",\"e\":\"AQAB\",\"alg\":\"RS256\",\"kid\":\"2011-04-29\"}",
         "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"},
        {"{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}",
         "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"},
    };
    struct err e;
    char thumb[44];
    for (size_t i = 0; i < 2; i++) {
        json_t *v = json_parse(known[i].jwk, strlen(known[i].jwk), 1000, &e);
        struct key *k = jwk_parse(v, &e);
        assert_non_null(k);
        assert_int_equal(jwk_thumbprint(thumb, k, &e), 0);
        assert_string_equal(thumb, known[i].thumb);
        key_free(k);
        json_decref(v);
    }
}

/* ---- Wycheproof: compact serialization, cut up here ---- */

/* Parses and verifies the parts as jws_parse would, but for RFC 8555's own demands on the header
 * (url, jwk or kid), which these vectors do not know. True when accepted. */
static bool accepts(const char *compact, const struct key *k)
{
    struct jws j;
    struct err e;
    struct buf body;
    bool ok = false;
    const char *dot = strchr(compact, '.'), *dot2 = dot ? strchr(dot + 1, '.') : NULL;
    if (!dot2 || strchr(dot2 + 1, '.'))
        return false;
    memset(&j, 0, sizeof j);
    buf_init(&body, JWS_MAX);
    buf_fmt(&body, "{\"protected\":\"%.*s\",\"payload\":\"%.*s\",\"signature\":\"%s\"}", (int)(dot - compact),
            compact, (int)(dot2 - dot - 1), dot + 1, dot2 + 1);
    if (jws_parse(&j, (const char *)body.p, body.len, &e) == 0)
        fail_msg("accepted without url: %s", compact);
    bool only_url = strcmp(e.rule, "jws-header") == 0 && strstr(e.msg, "\"url\"");
    buf_free(&body);
    if (!only_url || !k)
        return false;
    uint8_t header[1024], payload[4096];
    long n = b64url_decode(header, sizeof header, compact, (size_t)(dot - compact));
    json_t *h = json_parse(header, (size_t)n, sizeof header, &e);
    snprintf(j.alg, sizeof j.alg, "%s", json_maybe_str(h, "alg"));
    json_decref(h);
    long sig_len = b64url_decode(j.sig, sizeof j.sig, dot2 + 1, strlen(dot2 + 1));
    if (sig_len > 0 && b64url_decode(payload, sizeof payload, dot + 1, (size_t)(dot2 - dot - 1)) >= 0) {
        j.sig_len = (size_t)sig_len;
        j.signing_input = strdup(compact);
        j.signing_len = (size_t)(dot2 - compact);
        ok = jws_verify(&j, k, &e) == 0;
    }
    jws_free(&j);
    return ok;
}

/* Algorithm that the compact JWS names, or "". */
static void alg_named(const char *compact, char alg[16])
{
    uint8_t header[1024];
    struct err e;
    alg[0] = 0;
    long n = b64url_decode(header, sizeof header, compact, strcspn(compact, "."));
    json_t *h = n > 0 ? json_parse(header, (size_t)n, sizeof header, &e) : NULL;
    const char *s = h ? json_maybe_str(h, "alg") : NULL;
    if (s)
        snprintf(alg, 16, "%s", s);
    json_decref(h);
}

static bool is_ours(const char *alg)
{
    return !strcmp(alg, "ES256") || !strcmp(alg, "ES384") || !strcmp(alg, "RS256") || !strcmp(alg, "EdDSA");
}

static void run_jws_vectors(const char *name, size_t want_accepted)
{
    json_t *file = wycheproof_load(name), *group, *test;
    size_t i, j, accepted = 0, not_ours = 0, wrong = 0;
    if (!file)
        skip();
    json_array_foreach(json_object_get(file, "testGroups"), i, group) {
        struct err e;
        json_t *jwk = json_object_get(group, "public");
        if (!jwk)
            jwk = json_object_get(group, "private");
        if (json_object_get(jwk, "keys")) /* sets: no set is ever taken from outside; its only key */
            jwk = json_array_size(json_object_get(jwk, "keys")) == 1 ? json_array_get(json_object_get(jwk, "keys"), 0) : NULL;
        struct key *k = jwk_parse(jwk, &e);
        json_array_foreach(json_object_get(group, "tests"), j, test) {
            const char *jws = text_of(test, "jws");
            char alg[16];
            alg_named(jws, alg);
            bool ok = accepts(jws, k), valid = strcmp(text_of(test, "result"), "valid") == 0;
            accepted += ok;
            if (valid && !ok && !is_ours(alg)) {
                not_ours++; /* a valid JWS of HS*, PS*, RS384, ES512: refused on purpose */
            } else if (ok != valid) {
                printf("test %lld (%s, %s): %s, but %s\n", (long long)json_integer_value(json_object_get(test, "tcId")),
                       text_of(test, "comment"), alg, ok ? "accepted" : "refused", text_of(test, "result"));
                wrong++;
            }
        }
        key_free(k);
    }
    printf("%s: %zu accepted, %zu valid ones refused for their algorithm\n", name, accepted, not_ours);
    assert_int_equal(wrong, 0);
    assert_true(accepted >= want_accepted);
    json_decref(file);
}

static void test_vectors_jws(void **state)
{
    run_jws_vectors("json_web_signature_test.json", 5);
}

static void test_vectors_jwk(void **state)
{
    run_jws_vectors("json_web_key_test.json", 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_headers),
        cmocka_unit_test(test_syntax),     cmocka_unit_test(test_jwk),
        cmocka_unit_test(test_thumbprints), cmocka_unit_test(test_vectors_jws),
        cmocka_unit_test(test_vectors_jwk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
