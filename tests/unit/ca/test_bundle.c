/* The bundle document: its keys, and a number that rises when one comes. */
#include "unit/ca/request.h"

#include "base/jose.h"
#include "ca/bundle.h"
#include <openssl/x509.h>

static uint8_t *root;
static size_t root_len;
static struct key *jwt;

static int setup(void **state)
{
    struct key *k = test_key(KEY_P384);
    X509 *x = X509_new();
    X509_set_pubkey(x, key_evp(k));
    X509_gmtime_adj(X509_getm_notBefore(x), 0);
    X509_gmtime_adj(X509_getm_notAfter(x), 60);
    X509_sign(x, key_evp(k), EVP_sha384());
    root_len = (size_t)i2d_X509(x, &root);
    X509_free(x);
    key_free(k);
    jwt = test_key(KEY_P256);
    return 0;
}

static int teardown(void **state)
{
    OPENSSL_free(root);
    root = NULL;
    key_free(jwt);
    return 0;
}

static json_t *bundle_of(const struct bundle *b)
{
    struct err e = {0};
    struct buf out;
    buf_init(&out, 65536);
    assert_ok(bundle_write(&out, b, &e), &e);
    json_t *doc = json_parse(out.p, out.len, out.len, &e);
    assert_non_null(doc);
    buf_free(&out);
    return doc;
}

static const char *member(const json_t *doc, size_t i, const char *name)
{
    return json_string_value(json_object_get(json_array_get(json_object_get(doc, "keys"), i), name));
}

static void keys(void **state)
{
    struct err e = {0};
    char kid[44];
    struct bundle b = {.root = {root, root_len}, .root_from = 1000, .vkey = text("log+1")};
    json_t *doc = bundle_of(&b);
    assert_int_equal(json_array_size(json_object_get(doc, "keys")), 1);
    assert_int_equal(json_integer_value(json_object_get(doc, "spiffe_sequence")), 1000);
    json_decref(doc);
    b.jwt_key = key_spki(jwt);
    doc = bundle_of(&b);
    assert_int_equal(json_array_size(json_object_get(doc, "keys")), 2);
    assert_string_equal(member(doc, 0, "use"), "x509-svid");
    assert_null(member(doc, 0, "kid"));
    assert_string_equal(member(doc, 1, "use"), "jwt-svid");
    assert_string_equal(member(doc, 1, "kty"), "EC");
    assert_string_equal(member(doc, 1, "crv"), "P-256");
    assert_string_equal(member(doc, 1, "alg"), "ES256");
    assert_ok(jwk_thumbprint(kid, jwt, &e), &e);
    assert_string_equal(member(doc, 1, "kid"), kid);
    assert_true(strlen(member(doc, 1, "x")) == 43 && strlen(member(doc, 1, "y")) == 43);
    assert_string_equal(json_string_value(json_object_get(doc, "mayfly_log")), "log+1");
    json_decref(doc);
}

static long long sequence(const struct bundle *b)
{
    json_t *doc = bundle_of(b);
    long long n = json_integer_value(json_object_get(doc, "spiffe_sequence"));
    json_decref(doc);
    return n;
}

static void rises(void **state)
{
    struct bundle b = {.root = {root, root_len}, .root_from = 1000, .vkey = text("log+1")};
    long long without = sequence(&b);
    b.jwt_key = key_spki(jwt);
    long long made = sequence(&b);
    b.jwt_since = 1000; /* told in the second of the root's making */
    long long at_once = sequence(&b);
    b.jwt_since = 1400;
    long long told = sequence(&b);
    b.jwt_since = 9000; /* another key */
    assert_true(without < made && made <= at_once && at_once < told && told < sequence(&b));
}

static void bad(void **state)
{
    struct err e = {0};
    struct buf out;
    struct bundle b = {.root = {root, root_len}, .root_from = 1, .vkey = text("log+1"), .jwt_key = text("no key")};
    buf_init(&out, 65536);
    assert_int_equal(bundle_write(&out, &b, &e), -1);
    b.jwt_key.len = 0;
    b.root.len--;
    assert_int_equal(bundle_write(&out, &b, &e), -1);
    assert_string_equal(e.rule, "bundle-root");
    buf_free(&out);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {T(keys), T(rises), T(bad)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
