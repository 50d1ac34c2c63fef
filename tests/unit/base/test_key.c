#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include "base/key.h"
#include "unit/base/wycheproof.h"
#include <openssl/x509.h>
#include <pthread.h>
#include <string.h>

static const enum key_type kinds[] = {KEY_P256, KEY_P384, KEY_RSA, KEY_ED25519};
#define KINDS (sizeof kinds / sizeof kinds[0])

static struct key *from_spki(const uint8_t *p, size_t n, struct err *e)
{
    uint8_t *exact = malloc(n ? n : 1);
    memcpy(exact, p, n);
    err_clear(e);
    struct key *k = key_from_spki(exact, n, e);
    free(exact);
    return k;
}

static void refused_spki(const uint8_t *p, size_t n, const char *rule)
{
    struct err e;
    assert_null(from_spki(p, n, &e));
    assert_int_equal(e.code, ERR_BAD_KEY);
    assert_string_equal(e.rule, rule);
}

static void test_sign_verify(void **state)
{
    struct err e;
    for (size_t i = 0; i < KINDS; i++) {
        struct key *k = key_generate(kinds[i], &e);
        assert_non_null(k);
        assert_int_equal(key_kind(k), kinds[i]);
        struct bytes spki = key_spki(k);
        struct key *pub = from_spki(spki.p, spki.len, &e), *other = key_generate(kinds[i], &e);
        assert_non_null(pub);
        assert_true(bytes_eq(key_spki(pub), spki.p, spki.len));
        for (int der = 0; der < 2; der++) {
            uint8_t sig[512];
            long n = key_sign(k, der, sig, sizeof sig, "message", 7, &e);
            assert_true(n > 0);
            if (kinds[i] == KEY_P256 && !der)
                assert_int_equal(n, 64);
            if (kinds[i] == KEY_P384 && !der)
                assert_int_equal(n, 96);
            for (int again = 0; again < 3; again++)
                assert_int_equal(key_verify(pub, der, sig, (size_t)n, "message", 7, &e), 0);
            assert_int_equal(key_verify(pub, der, sig, (size_t)n, "messagE", 7, &e), -1);
            assert_int_equal(e.code, ERR_UNAUTHORIZED);
            assert_string_equal(e.rule, "signature");
            assert_int_equal(key_verify(other, der, sig, (size_t)n, "message", 7, &e), -1);
            assert_int_equal(key_verify(pub, der, sig, (size_t)n - 1, "message", 7, &e), -1);
            assert_int_equal(key_verify(pub, der, sig, 0, "message", 7, &e), -1);
            sig[n - 1] ^= 1;
            assert_int_equal(key_verify(pub, der, sig, (size_t)n, "message", 7, &e), -1);
            n = key_sign(k, der, sig, sizeof sig, NULL, 0, &e);
            assert_int_equal(key_verify(pub, der, sig, (size_t)n, NULL, 0, &e), 0);
            assert_true(key_sign(k, der, sig, 8, "m", 1, &e) < 0);
        }
        uint8_t sig[512];
        assert_true(key_sign(pub, false, sig, sizeof sig, "m", 1, &e) < 0);
        key_free(k);
        key_free(pub);
        key_free(other);
    }
}

static void test_pem(void **state)
{
    struct err e;
    for (size_t i = 0; i < KINDS; i++) {
        struct key *k = key_generate(kinds[i], &e);
        struct buf pem;
        buf_init(&pem, 8192);
        assert_int_equal(key_to_pkcs8_pem(k, &pem, &e), 0);
        struct key *back = key_from_pkcs8_pem((const char *)pem.p, pem.len, &e);
        assert_non_null(back);
        assert_true(bytes_eq(key_spki(back), key_spki(k).p, key_spki(k).len));
        uint8_t sig[512];
        long n = key_sign(back, false, sig, sizeof sig, "m", 1, &e);
        assert_int_equal(key_verify(k, false, sig, (size_t)n, "m", 1, &e), 0);
        assert_null(key_from_pkcs8_pem((const char *)pem.p, pem.len / 2, &e));
        assert_int_equal(e.code, ERR_BAD_KEY);
        struct key *pub = from_spki(key_spki(k).p, key_spki(k).len, &e);
        buf_reset(&pem);
        assert_int_equal(key_to_pkcs8_pem(pub, &pem, &e), -1);
        buf_free(&pem);
        key_free(pub);
        key_free(k);
        key_free(back);
    }
    assert_null(key_from_pkcs8_pem("", 0, &e));
    static const char locked[] = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    assert_null(key_from_pkcs8_pem(locked, sizeof locked - 1, &e));
    assert_string_equal(e.rule, "key-pem");
}

static void test_ec_refusals(void **state)
{
    struct err e;
    struct key *k = key_generate(KEY_P256, &e);
    struct bytes spki = key_spki(k);
    uint8_t bad[120];
    assert_int_equal(spki.len, 91);
    for (size_t n = 0; n < spki.len; n++) /* every truncation */
        assert_null(from_spki(spki.p, n, &e));
    memcpy(bad, spki.p, spki.len);
    bad[91] = 0;
    refused_spki(bad, 92, "key-type"); /* trailing byte */
    bad[90] ^= 1;
    refused_spki(bad, 91, "key-point"); /* off the curve */
    memset(bad + 27, 0xff, 64);
    refused_spki(bad, 91, "key-point"); /* coordinates over p */
    memset(bad + 27, 0, 64);
    refused_spki(bad, 91, "key-point");
    memcpy(bad, spki.p, spki.len);
    bad[26] = 0x06 | (bad[90] & 1); /* hybrid form */
    refused_spki(bad, 91, "key-point");
    memcpy(bad, spki.p, spki.len);
    bad[22] = 0x06; /* last byte of the curve's name */
    refused_spki(bad, 91, "key-type");
    memcpy(bad, spki.p, spki.len);
    bad[25] = 1; /* unused bits */
    refused_spki(bad, 91, "key-type");
    key_free(k);
    /* compressed point, infinity */
    static const uint8_t infinity[] = {0x30, 0x19, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48,
                                       0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48,
                                       0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x02, 0x00, 0x00};
    refused_spki(infinity, sizeof infinity, "key-point");
}

static void evp_refused(EVP_PKEY *p, const char *rule)
{
    struct err e;
    uint8_t *der = NULL;
    assert_non_null(p);
    assert_null(key_from_evp(p, &e));
    assert_int_equal(e.code, ERR_BAD_KEY);
    assert_string_equal(e.rule, rule);
    int n = i2d_PUBKEY(p, &der);
    refused_spki(der, (size_t)n, rule);
    OPENSSL_free(der);
    EVP_PKEY_free(p);
}

static void test_other_kinds(void **state)
{
    evp_refused(EVP_RSA_gen(1024), "key-size");
    evp_refused(EVP_EC_gen("P-521"), "key-type");
    evp_refused(EVP_EC_gen("secp256k1"), "key-type");
    evp_refused(EVP_PKEY_Q_keygen(NULL, NULL, "ED448"), "key-type");
    evp_refused(EVP_PKEY_Q_keygen(NULL, NULL, "X25519"), "key-type");
}

static void test_rsa_refusals(void **state)
{
    struct err e;
    struct key *k = key_generate(KEY_RSA, &e);
    struct bytes spki = key_spki(k);
    uint8_t bad[400];
    assert_int_equal(spki.len, 294);
    memcpy(bad, spki.p, spki.len);
    bad[293] = 3; /* exponent 65539: odd, in range */
    struct key *other = from_spki(bad, 294, &e);
    assert_non_null(other);
    key_free(other);
    bad[293] = 0; /* even */
    refused_spki(bad, 294, "key-size");
    bad[293] = 1;
    bad[291] = 0; /* exponent not minimal */
    refused_spki(bad, 294, "key-type");
    memcpy(bad, spki.p, spki.len);
    bad[288] ^= 1; /* even modulus */
    refused_spki(bad, 294, "key-size");
    for (size_t n = 0; n < spki.len; n++)
        assert_null(from_spki(spki.p, n, &e));
    key_free(k);
}

static void test_ed25519_refusals(void **state)
{
    uint8_t spki[44] = {0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00};
    refused_spki(spki, 44, "key-point"); /* y = 0: order 4 */
    spki[12] = 1;
    refused_spki(spki, 44, "key-point"); /* the neutral element */
    spki[43] = 0x80;
    refused_spki(spki, 44, "key-point");
    memset(spki + 12, 0xff, 32);
    refused_spki(spki, 44, "key-point"); /* not canonical */
    spki[12] = 0xec;
    refused_spki(spki, 44, "key-point"); /* -1: order 2 */
    refused_spki(spki, 43, "key-type");
}

/* One key, many threads: run under ThreadSanitizer this shows that verification only reads it. */
struct shared {
    struct key *k;
    uint8_t sig[512];
    size_t len;
    int failures;
};

static void *hammer(void *arg)
{
    struct shared *s = arg;
    struct err e;
    for (int i = 0; i < 200; i++) {
        if (key_verify(s->k, false, s->sig, s->len, "m", 1, &e) < 0)
            __atomic_fetch_add(&s->failures, 1, __ATOMIC_RELAXED);
        struct key *own = key_from_spki(key_spki(s->k).p, key_spki(s->k).len, &e);
        if (!own || key_verify(own, false, s->sig, s->len, "n", 1, &e) == 0)
            __atomic_fetch_add(&s->failures, 1, __ATOMIC_RELAXED);
        key_free(own);
    }
    return NULL;
}

static void test_threads(void **state)
{
    struct err e;
    for (size_t i = 0; i < KINDS; i++) {
        struct shared s = {.k = key_generate(kinds[i], &e)};
        s.len = (size_t)key_sign(s.k, false, s.sig, sizeof s.sig, "m", 1, &e);
        pthread_t t[4];
        for (int j = 0; j < 4; j++)
            pthread_create(&t[j], NULL, hammer, &s);
        for (int j = 0; j < 4; j++)
            pthread_join(t[j], NULL);
        assert_int_equal(s.failures, 0);
        key_free(s.k);
    }
}

static void run_vectors(const char *name, bool der)
{
    json_t *file = wycheproof_load(name), *group, *test;
    size_t i, j, run = 0, wrong = 0;
    if (!file)
        skip();
    json_array_foreach(json_object_get(file, "testGroups"), i, group) {
        size_t key_len;
        struct err e;
        uint8_t *key_der = hex_of(group, "publicKeyDer", &key_len);
        struct key *k = from_spki(key_der, key_len, &e);
        if (!k)
            fail_msg("%s: key of group %zu refused: %s", name, i, e.msg);
        json_array_foreach(json_object_get(group, "tests"), j, test) {
            size_t msg_len, sig_len;
            uint8_t *msg = hex_of(test, "msg", &msg_len), *sig = hex_of(test, "sig", &sig_len);
            const char *result = text_of(test, "result");
            bool ok = key_verify(k, der, sig, sig_len, msg, msg_len, &e) == 0;
            if (strcmp(result, "acceptable") != 0 && ok != (strcmp(result, "valid") == 0)) {
                printf("%s test %lld (%s): %s, but is %s\n", name,
                       (long long)json_integer_value(json_object_get(test, "tcId")),
                       text_of(test, "comment"), ok ? "verified" : "refused", result);
                wrong++;
            }
            run++;
            free(msg);
            free(sig);
        }
        key_free(k);
        free(key_der);
    }
    assert_true(run > 100);
    assert_int_equal(wrong, 0);
    json_decref(file);
}

static void test_vectors_p256(void **state)
{
    run_vectors("ecdsa_secp256r1_sha256_test.json", true);
}

static void test_vectors_p256_fixed(void **state)
{
    run_vectors("ecdsa_secp256r1_sha256_p1363_test.json", false);
}

static void test_vectors_p384(void **state)
{
    run_vectors("ecdsa_secp384r1_sha384_test.json", true);
}

static void test_vectors_ed25519(void **state)
{
    run_vectors("ed25519_test.json", false);
}

/* The kept key must be the new one each time, also after a point that was refused. */
static void test_once(void **state)
{
    struct err e = {0};
    struct key *k[2] = {key_generate(KEY_P256, &e), key_generate(KEY_P256, &e)};
    uint8_t sig[2][128], off[91];
    long n[2];
    for (int i = 0; i < 2; i++)
        n[i] = key_sign(k[i], true, sig[i], sizeof sig[i], "text", 4, &e);
    for (int i = 0; i < 6; i++) {
        struct bytes spki = key_spki(k[i % 2]);
        struct key *once = key_once(spki.p, spki.len, &e);
        assert_non_null(once);
        assert_true(bytes_eq(key_spki(once), spki.p, spki.len));
        assert_int_equal(key_verify(once, true, sig[i % 2], (size_t)n[i % 2], "text", 4, &e), 0);
        assert_int_equal(key_verify(once, true, sig[(i + 1) % 2], (size_t)n[(i + 1) % 2], "text", 4, &e), -1);
        key_once_done(once);
        assert_int_equal(spki.len, sizeof off);
        memcpy(off, spki.p, sizeof off);
        off[90] ^= 1;
        assert_null(key_once(off, sizeof off, &e));
        assert_string_equal(e.rule, "key-point");
    }
    struct key *ed = key_generate(KEY_ED25519, &e);
    struct key *once = key_once(key_spki(ed).p, key_spki(ed).len, &e);
    assert_int_equal(key_kind(once), KEY_ED25519);
    key_once_done(once);
    key_free(ed);
    key_free(k[0]);
    key_free(k[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sign_verify),     cmocka_unit_test(test_pem),
        cmocka_unit_test(test_ec_refusals),     cmocka_unit_test(test_other_kinds),
        cmocka_unit_test(test_rsa_refusals),    cmocka_unit_test(test_ed25519_refusals),
        cmocka_unit_test(test_threads), cmocka_unit_test(test_once),         cmocka_unit_test(test_vectors_p256),
        cmocka_unit_test(test_vectors_p256_fixed), cmocka_unit_test(test_vectors_p384),
        cmocka_unit_test(test_vectors_ed25519),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
