/* Tokens made by OpenSSL itself, each algorithm, and each way to be refused. */
#include "agent/jwt_validate.h"
#include <openssl/ec.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h> /* needs the ones above */
#include "unit/agent/jwt_token.h"

#define NOW 1900000000
#define CLAIMS "{\"sub\":\"spiffe://example.org/web\",\"aud\":[\"db\",\"cache\"],\"exp\":1900000100,\"iat\":1900000000}"

static EVP_PKEY *keys[4]; /* P-256, P-384, P-521, RSA */
static const char *const curves[] = {"P-256", "P-384", "P-521"};

static void jwks(struct wl_bundle *b)
{
    static const int width[] = {32, 48, 66};
    char kid[8];
    memset(b, 0, sizeof *b);
    b->trust_domain = strdup("example.org");
    buf_init(&b->x509, 16);
    buf_init(&b->jwks, 65536);
    buf_str(&b->jwks, "{\"keys\":[");
    for (int i = 0; i < 3; i++) {
        snprintf(kid, sizeof kid, "k%d", i);
        jwt_ec_key(&b->jwks, keys[i], kid, curves[i], width[i]);
        buf_str(&b->jwks, ",");
    }
    buf_str(&b->jwks, "{\"use\":\"jwt-svid\",\"kty\":\"RSA\",\"kid\":\"k3\",\"n\":\"");
    jwt_b64_bn(&b->jwks, keys[3], OSSL_PKEY_PARAM_RSA_N, 0);
    buf_str(&b->jwks, "\",\"e\":\"");
    jwt_b64_bn(&b->jwks, keys[3], OSSL_PKEY_PARAM_RSA_E, 0);
    buf_str(&b->jwks, "\"}]}");
}

static struct wl_bundle bundle;

static void judged(const struct buf *t, const char *audience, const char *rule)
{
    struct err e = {0};
    struct jwt_claims c;
    int rc = jwt_validate(&c, (const char *)t->p, t->len, &bundle, audience, NOW, &e);
    if (!rule && rc < 0)
        fail_msg("refused: %s", e.msg);
    if (rule && (rc == 0 || strcmp(e.rule, rule) != 0))
        fail_msg("%s, expected %s", rc == 0 ? "accepted" : e.msg, rule);
    if (rc == 0) {
        assert_string_equal(c.spiffe_id, "spiffe://example.org/web");
        buf_free(&c.payload);
    }
}

static void token(const char *header, const char *claims, const char *rule)
{
    struct buf t;
    jwt_sign(&t, keys[0], "ES256", header, claims);
    judged(&t, "db", rule);
    buf_free(&t);
}

static void test_algorithms(void **state)
{
    static const struct {
        const char *alg;
        int key;
    } all[] = {{"ES256", 0}, {"ES384", 1}, {"ES512", 2}, {"RS256", 3}, {"RS384", 3},
               {"RS512", 3}, {"PS256", 3}, {"PS384", 3}, {"PS512", 3}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        char header[80];
        struct buf t;
        snprintf(header, sizeof header, "{\"alg\":\"%s\",\"kid\":\"k%d\",\"typ\":\"JWT\"}", all[i].alg, all[i].key);
        jwt_sign(&t, keys[all[i].key], all[i].alg, header, CLAIMS);
        judged(&t, "db", NULL);
        judged(&t, "other", "jwt-aud");
        t.p[t.len - 5] = t.p[t.len - 5] == 'A' ? 'B' : 'A';
        judged(&t, "db", "jwt-signature");
        buf_free(&t);
    }
}

static void test_header(void **state)
{
    token("{\"alg\":\"ES256\",\"kid\":\"k0\"}", CLAIMS, NULL);
    token("{\"alg\":\"ES256\",\"kid\":\"k0\",\"typ\":\"JOSE\"}", CLAIMS, NULL);
    token("{\"alg\":\"ES256\",\"kid\":\"k0\",\"typ\":\"at+jwt\"}", CLAIMS, "jwt-typ");
    token("{\"alg\":\"ES256\",\"kid\":\"k0\",\"typ\":1}", CLAIMS, "jwt-typ");
    token("{\"alg\":\"none\",\"kid\":\"k0\"}", CLAIMS, "jwt-alg");
    token("{\"alg\":\"HS256\",\"kid\":\"k0\"}", CLAIMS, "jwt-alg");
    token("{\"alg\":\"EdDSA\",\"kid\":\"k0\"}", CLAIMS, "jwt-alg");
    token("{\"alg\":\"ES256\"}", CLAIMS, "jwt-kid");
    token("{\"alg\":\"ES256\",\"kid\":\"nobody\"}", CLAIMS, "jwt-kid");
    token("{\"alg\":\"ES384\",\"kid\":\"k0\"}", CLAIMS, "jwt-kid"); /* not for that key */
    token("{\"alg\":\"RS256\",\"kid\":\"k0\"}", CLAIMS, "jwt-kid");
    token("{\"alg\":\"ES256\",\"kid\":\"k0\",\"crit\":[\"exp\"]}", CLAIMS, "jwt-syntax");
    token("[]", CLAIMS, "jwt-syntax");
}

static void test_claims(void **state)
{
    const char *h = "{\"alg\":\"ES256\",\"kid\":\"k0\"}";
    token(h, "{\"sub\":\"spiffe://example.org/web\",\"aud\":\"db\",\"exp\":1900000100}", NULL);
    token(h, "{\"sub\":\"spiffe://other.org/web\",\"aud\":\"db\",\"exp\":1900000100}", "jwt-sub");
    token(h, "{\"sub\":\"spiffe://example.org\",\"aud\":\"db\",\"exp\":1900000100}", "jwt-sub");
    token(h, "{\"sub\":\"web\",\"aud\":\"db\",\"exp\":1900000100}", "jwt-sub");
    token(h, "{\"aud\":\"db\",\"exp\":1900000100}", "jwt-sub");
    token(h, "{\"sub\":\"spiffe://example.org/web\",\"exp\":1900000100}", "jwt-aud");
    token(h, "{\"sub\":\"spiffe://example.org/web\",\"aud\":[1,\"d\"],\"exp\":1900000100}", "jwt-aud");
    token(h, "{\"sub\":\"spiffe://example.org/web\",\"aud\":\"db\"}", "jwt-exp");
    token(h, "{\"sub\":\"spiffe://example.org/web\",\"aud\":\"db\",\"exp\":\"1900000100\"}", "jwt-exp");
    token(h, "{\"sub\":\"spiffe://example.org/web\",\"aud\":\"db\",\"exp\":1899999996}", NULL); /* clocks differ a little */
    token(h, "{\"sub\":\"spiffe://example.org/web\",\"aud\":\"db\",\"exp\":1899999995}", "jwt-exp");
    token(h, "{\"sub\":\"spiffe://example.org/web\",\"aud\":\"db\",\"exp\":1900000100,\"nbf\":1900000060}", "jwt-exp");
}

static void test_form(void **state)
{
    static const char *const bad[] = {"", ".", "..", "a.b", "a.b.c.d", "a..c", "!.b.c", "e30.e30.AA", "e30.e30."};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct buf t;
        struct err e = {0};
        struct jwt_claims c;
        buf_init(&t, 64);
        assert_int_equal(jwt_validate(&c, bad[i], strlen(bad[i]), &bundle, "db", NOW, &e), -1);
        assert_int_equal(e.code, ERR_UNAUTHORIZED);
        buf_free(&t);
    }
    struct buf t;
    jwt_sign(&t, keys[0], "ES256", "{\"alg\":\"ES256\",\"kid\":\"k0\"}", CLAIMS);
    judged(&t, "", "jwt-aud");
    struct wl_bundle none = bundle;
    buf_init(&none.jwks, 16);
    struct err e;
    struct jwt_claims c;
    assert_int_equal(jwt_validate(&c, (const char *)t.p, t.len, &none, "db", NOW, &e), -1);
    assert_string_equal(e.rule, "jwt-kid");
    buf_free(&t);
}

static int setup(void **state)
{
    for (int i = 0; i < 3; i++)
        keys[i] = EVP_EC_gen(curves[i]);
    keys[3] = EVP_RSA_gen(2048);
    jwks(&bundle);
    return 0;
}

static int teardown(void **state)
{
    for (int i = 0; i < 4; i++)
        EVP_PKEY_free(keys[i]);
    free(bundle.trust_domain);
    buf_free(&bundle.x509);
    buf_free(&bundle.jwks);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_algorithms),
        cmocka_unit_test(test_header),
        cmocka_unit_test(test_claims),
        cmocka_unit_test(test_form),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
