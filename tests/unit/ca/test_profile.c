#include "base/der.h"
#include "base/oid.h"
#include "ca/profile.h"
#include "unit/ca/request.h"
#include <openssl/bn.h>

static struct config policy;
static struct key *p256, *p384, *rsa, *ed;

static int setup(void **state)
{
    policy = test_policy();
    p256 = test_key(KEY_P256);
    p384 = test_key(KEY_P384);
    rsa = test_key(KEY_RSA);
    ed = test_key(KEY_ED25519);
    return 0;
}

static int teardown(void **state)
{
    key_free(p256);
    key_free(p384);
    key_free(rsa);
    key_free(ed);
    return 0;
}

static void passes(const struct ca_issue *m)
{
    struct profile_leaf leaf;
    struct err e = {0};
    assert_ok(profile_check(&leaf, &policy, m, &e), &e);
}

static void refused(const struct ca_issue *m, const char *rule)
{
    struct profile_leaf leaf;
    struct err e = {0};
    assert_int_equal(profile_check(&leaf, &policy, m, &e), -1);
    assert_string_equal(e.rule, rule);
    assert_true(e.msg[0]);
    assert_true(e.code != ERR_NONE && e.code != ERR_INTERNAL);
}

static void workload(void **state)
{
    struct ca_issue m = test_request(p256);
    struct profile_leaf leaf;
    struct err e = {0};
    assert_ok(profile_check(&leaf, &policy, &m, &e), &e);
    assert_int_equal(leaf.names_count, 2);
    assert_int_equal(leaf.names[0].address_len, 0);
    assert_int_equal(leaf.lifetime, 300);
    assert_int_equal(leaf.spki_bits.len, 65);
    m.dns_count = 0;
    m.attestor.len = m.evidence.len = m.entry_id.len = m.requester.len = m.session.len = 0;
    passes(&m);
}

static void keys(void **state)
{
    struct ca_issue m = test_request(p384);
    passes(&m);
    m.spki = key_spki(rsa);
    passes(&m);
    m.spki = key_spki(ed);
    passes(&m);

    uint8_t der[1024];
    memcpy(der, key_spki(p256).p, key_spki(p256).len);
    m.spki = (struct bytes){der, key_spki(p256).len};
    passes(&m);
    der[m.spki.len - 65] = 0x02; /* a compressed point's mark on an uncompressed one */
    refused(&m, "key-point");
    der[m.spki.len - 65] = 0x04;
    der[22]++; /* another curve: the last byte of the OID */
    refused(&m, "key-type");
    der[22]--;
    passes(&m);
    m.spki.len--;
    refused(&m, "key-type");
    m.spki.len += 2; /* a byte after it */
    refused(&m, "key-type");
    m.spki.len = 0;
    refused(&m, "key-type");
}

static struct bytes rsa_spki_of(uint8_t *array, size_t cap, const uint8_t *n, size_t len,
                                uint64_t exponent)
{
    struct derw w;
    derw_init(&w, array, cap);
    derw_u64(&w, exponent);
    derw_uint(&w, n, len);
    derw_wrap(&w, DER_SEQUENCE, 0);
    derw_raw(&w, "", 1);
    derw_wrap(&w, DER_BIT_STRING, 0);
    size_t m = derw_mark(&w);
    derw_tlv(&w, DER_NULL, NULL, 0);
    derw_oid(&w, OID_RSA, OID_LEN(OID_RSA));
    derw_wrap(&w, DER_SEQUENCE, m);
    derw_wrap(&w, DER_SEQUENCE, 0);
    return derw_bytes(&w);
}

/* SPKI of an RSA key with this modulus length and these last and exponent values. */
static struct bytes rsa_spki(uint8_t *array, size_t cap, size_t bits, uint8_t last, uint64_t exponent)
{
    uint8_t n[640] = {0};
    n[0] = (uint8_t)(0x80 >> ((8 - bits % 8) % 8));
    size_t len = (bits + 7) / 8;
    n[len - 1] |= last;
    return rsa_spki_of(array, cap, n, len, exponent);
}

/* What the frontend refuses as weak is refused here too, should the frontend be taken. */
static void weak_keys(void **state)
{
    uint8_t array[1024], n[300];
    struct ca_issue m = test_request(ed);
    assert_int_equal(m.spki.len, 44);
    memcpy(array, m.spki.p, 44);
    m.spki.p = array;
    passes(&m);
    memset(array + 12, 0, 32); /* a point of small order */
    refused(&m, "key-point");

    /* A power of 65537 is one modulo every prime: the mark of the flawed generator. */
    BIGNUM *x = BN_new(), *k = BN_new(), *power = BN_new();
    BN_CTX *ctx = BN_CTX_new();
    BN_set_word(x, 65537);
    BN_set_word(k, 140); /* 281 bytes */
    assert_int_equal(BN_exp(power, x, k, ctx), 1);
    int len = BN_bn2bin(power, n);
    m.spki = rsa_spki_of(array, sizeof array, n, (size_t)len, 65537);
    refused(&m, "key-weak");
    BN_free(x);
    BN_free(k);
    BN_free(power);
    BN_CTX_free(ctx);
}

static void rsa_sizes(void **state)
{
    uint8_t array[1024];
    struct ca_issue m = test_request(rsa);
    const struct {
        size_t bits;
        uint8_t last;
        uint64_t exponent;
        const char *rule;
    } cases[] = {{2048, 1, 65537, NULL},      {4096, 1, 65537, NULL},
                 {2047, 1, 65537, "key-size"}, {1024, 1, 65537, "key-size"},
                 {4097, 1, 65537, "key-size"}, {2048, 2, 65537, "key-size"},
                 {2048, 1, 3, "key-size"},     {2048, 1, 65538, "key-size"},
                 {2048, 1, (UINT64_C(1) << 32) + 1, "key-size"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        m.spki = rsa_spki(array, sizeof array, cases[i].bits, cases[i].last, cases[i].exponent);
        assert_true(m.spki.len > 0);
        if (cases[i].rule)
            refused(&m, cases[i].rule);
        else
            passes(&m);
    }
}

static void spiffe_ids(void **state)
{
    static const struct {
        const char *id, *rule;
    } bad[] = {{"", "spiffe-id"},
               {"spiffe://example.org", "spiffe-path"},
               {"spiffe://example.org/", "spiffe-id"},
               {"spiffe://example.org/a/", "spiffe-id"},
               {"spiffe://example.org/a//b", "spiffe-id"},
               {"spiffe://example.org/../b", "spiffe-id"},
               {"spiffe://example.org/%41", "spiffe-id"},
               {"spiffe://example.org:80/a", "spiffe-id"},
               {"spiffe://u@example.org/a", "spiffe-id"},
               {"spiffe://example.org/a?b", "spiffe-id"},
               {"SPIFFE://example.org/a", "spiffe-id"},
               {"https://example.org/a", "spiffe-id"},
               {"spiffe://example.com/a", "trust-domain"},
               {"spiffe://sub.example.org/a", "trust-domain"},
               {"spiffe://example.org/mayfly", "reserved"},
               {"spiffe://example.org/mayfly/server", "reserved"},
               {"spiffe://example.org/mayfly/x/y", "reserved"}};
    struct ca_issue m = test_request(p256);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        m.spiffe_id = text(bad[i].id);
        refused(&m, bad[i].rule);
    }
    m.spiffe_id = text("spiffe://example.org/mayflyx");
    passes(&m);
    m.spiffe_id = text("spiffe://example.org/a/mayfly/b");
    passes(&m);
}

static void dns_names(void **state)
{
    static const struct {
        const char *name, *rule;
    } cases[] = {{"example.org", NULL},
                 {"a.b.example.org", NULL},
                 {"*.example.org", NULL},
                 {"x.svc.test", NULL},
                 {"", "dns-name"},
                 {"EXAMPLE.org", "dns-name"},
                 {"a..example.org", "dns-name"},
                 {"-a.example.org", "dns-name"},
                 {"a_b.example.org", "dns-name"},
                 {"a.example.org.", "dns-name"},
                 {"127.0.0.1", "dns-name"},
                 {"::1", "dns-name"},
                 {"a.*.example.org", "dns-name"},
                 {"example.com", "dns-permitted"},
                 {"notexample.org", "dns-permitted"},
                 {"org", "dns-permitted"},
                 {"localhost", "dns-permitted"}};
    struct ca_issue m = test_request(p256);
    m.dns_count = 1;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        m.dns[0] = text(cases[i].name);
        if (cases[i].rule)
            refused(&m, cases[i].rule);
        else
            passes(&m);
    }
    m.dns[0] = (struct bytes){(const uint8_t *)"a\0.example.org", 14};
    refused(&m, "dns-name");
}

static void lifetimes(void **state)
{
    struct ca_issue m = test_request(p256);
    m.lifetime = 0;
    refused(&m, "lifetime");
    m.lifetime = 3601;
    refused(&m, "lifetime");
    m.lifetime = UINT32_MAX;
    refused(&m, "lifetime");
    m.lifetime = 1;
    passes(&m);
    m.lifetime = 3600;
    passes(&m);

    struct profile_leaf leaf = {.lifetime = 300};
    struct err e = {0};
    assert_ok(profile_validity(&leaf, 1000, 1300, &e), &e);
    assert_int_equal(leaf.not_before, 990);
    assert_int_equal(leaf.not_after, 1300);
    assert_int_equal(profile_validity(&leaf, 1001, 1300, &e), -1);
    assert_string_equal(e.rule, "issuer-lifetime");
}

static void server(void **state)
{
    struct ca_issue m = test_request(p256);
    struct profile_leaf leaf;
    struct err e = {0};
    m.profile = CA_PROFILE_SERVER;
    m.spiffe_id = text("spiffe://example.org/mayfly/server");
    m.dns_count = 3;
    m.dns[0] = text("127.0.0.1");
    m.dns[1] = text("localhost");
    m.dns[2] = text("::1");
    assert_ok(profile_check(&leaf, &policy, &m, &e), &e);
    assert_int_equal(leaf.names_count, 3);
    assert_int_equal(leaf.names[0].address_len, 0); /* DNS names first */
    assert_int_equal(leaf.names[1].address_len, 4);
    assert_int_equal(leaf.names[2].address_len, 16);
    assert_int_equal(leaf.names[2].address[15], 1);
    m.dns[1] = text("example.org"); /* permitted for workloads, not a name of this server */
    refused(&m, "dns-permitted");
    m.dns[1] = text("127.0.0.2");
    refused(&m, "dns-permitted");
    m.dns_count = 1;
    m.spiffe_id = text("spiffe://example.org/mayfly/server2");
    refused(&m, "spiffe-id");
    m.spiffe_id = text("spiffe://example.org/web");
    refused(&m, "spiffe-id");
    m.profile = 0;
    refused(&m, "profile");
    m.profile = 3;
    refused(&m, "profile");
}

static void log_fields(void **state)
{
    struct ca_issue m = test_request(p256);
    m.attestor = text("join token");
    refused(&m, "log-fields");
    m = test_request(p256);
    m.entry_id = text("a/b");
    refused(&m, "log-fields");
    m = test_request(p256);
    m.requester = text("spiffe://example.com/agent");
    refused(&m, "trust-domain");
    m.requester = text("agent");
    refused(&m, "spiffe-id");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(workload),  cmocka_unit_test(keys),      cmocka_unit_test(rsa_sizes), cmocka_unit_test(weak_keys),
        cmocka_unit_test(spiffe_ids), cmocka_unit_test(dns_names), cmocka_unit_test(lifetimes),
        cmocka_unit_test(server),    cmocka_unit_test(log_fields),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
