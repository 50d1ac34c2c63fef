/* What is built, seen through OpenSSL's eyes and through the log's. */
#include "base/crl_name.h"
#include "tlog/entry.h"
#include "unit/ca/leaf.h"

static struct leaf leaf;

/* Signed with a key in memory, whole. */
static struct bytes certify(struct leaf *l, const struct key *issuer, uint8_t *array, size_t cap)
{
    struct err e = {0};
    uint8_t sig[512];
    long n = key_sign(issuer, true, sig, sizeof sig, l->tbs.p, l->tbs.len, &e);
    assert_true(n > 0);
    return tbs_certificate(array, cap, l->tbs, tbs_ecdsa_sha256, (struct bytes){sig, (size_t)n});
}

static int ext_critical(X509 *x, const char *dotted)
{
    ASN1_OBJECT *o = OBJ_txt2obj(dotted, 1);
    int at = X509_get_ext_by_OBJ(x, o, -1);
    ASN1_OBJECT_free(o);
    return at < 0 ? -1 : X509_EXTENSION_get_critical(X509_get_ext(x, at));
}

static void check_names(X509 *x)
{
    int critical = 0;
    GENERAL_NAMES *san = X509_get_ext_d2i(x, NID_subject_alt_name, &critical, NULL);
    assert_non_null(san);
    assert_int_equal(critical, 1);
    assert_int_equal(sk_GENERAL_NAME_num(san), 3);
    const GENERAL_NAME *uri = sk_GENERAL_NAME_value(san, 0), *dns = sk_GENERAL_NAME_value(san, 1);
    assert_int_equal(uri->type, GEN_URI);
    assert_memory_equal(ASN1_STRING_get0_data(uri->d.ia5), "spiffe://example.org/web/1", 26);
    assert_int_equal(dns->type, GEN_DNS);
    assert_memory_equal(ASN1_STRING_get0_data(dns->d.ia5), "web.example.org", 15);
    GENERAL_NAMES_free(san);
}

static void openssl_reads(void **state)
{
    const enum key_type types[] = {KEY_P256, KEY_P384, KEY_RSA, KEY_ED25519};
    struct key *issuer = test_key(KEY_P256);
    for (size_t i = 0; i < 4; i++) {
        struct key *k = test_key(types[i]);
        struct ca_issue m = test_request(k);
        leaf_make(&leaf, &m);
        uint8_t array[CA_CERT_MAX];
        struct bytes cert = certify(&leaf, issuer, array, sizeof array);
        const uint8_t *p = cert.p;
        X509 *x = d2i_X509(NULL, &p, (long)cert.len);
        assert_non_null(x);
        assert_ptr_equal(p, cert.p + cert.len);
        assert_int_equal(X509_get_version(x), X509_VERSION_3);
        assert_int_equal(X509_verify(x, key_evp(issuer)), 1);
        assert_int_equal(X509_NAME_entry_count(X509_get_subject_name(x)), 0);
        assert_int_equal(X509_get_key_usage(x), KU_DIGITAL_SIGNATURE);
        assert_int_equal(X509_get_extended_key_usage(x), XKU_SSL_SERVER | XKU_SSL_CLIENT);
        assert_int_equal(X509_check_ca(x), 0);
        assert_int_equal(X509_get_ext_count(x), 8);
        assert_int_equal(ext_critical(x, "2.5.29.15"), 1);
        assert_int_equal(ext_critical(x, "2.5.29.19"), 1);
        assert_int_equal(ext_critical(x, "2.5.29.37"), 0);
        assert_int_equal(ext_critical(x, "2.5.29.56"), 0);
        assert_int_equal(ASN1_STRING_length(X509_get0_authority_key_id(x)), 20);
        assert_memory_equal(ASN1_STRING_get0_data(X509_get0_authority_key_id(x)), leaf_issuer_id, 20);
        uint64_t serial;
        assert_int_equal(ASN1_INTEGER_get_uint64(&serial, X509_get0_serialNumber(x)), 1);
        assert_true(serial == (UINT64_C(1) << 48 | LEAF_INDEX));
        time_t at = LEAF_NOW - 10;
        assert_int_equal(X509_cmp_time(X509_get0_notBefore(x), &at), -1); /* equal counts as before */
        at--;
        assert_int_equal(X509_cmp_time(X509_get0_notBefore(x), &at), 1);
        at = LEAF_NOW + 299;
        assert_int_equal(X509_cmp_time(X509_get0_notAfter(x), &at), 1);
        check_names(x);
        X509_free(x);
        leaf_free(&leaf);
        key_free(k);
    }
    key_free(issuer);
}

/* The log's own reader comes to the same entry body from the certificate alone. */
static void log_rebuilds(void **state)
{
    struct key *issuer = test_key(KEY_P256), *k = test_key(KEY_P256);
    struct ca_issue m = test_request(k);
    uint8_t array[CA_CERT_MAX];
    struct buf body;
    struct tlog_cert_fields f;
    struct bytes stapled;
    struct err e = {0};
    leaf_make(&leaf, &m);
    struct bytes cert = certify(&leaf, issuer, array, sizeof array);
    buf_init(&body, 65536);
    assert_ok(tlog_cert_body(&body, &f, &stapled, cert.p, cert.len, &e), &e);
    assert_int_equal(body.len, leaf.log_body.len);
    assert_memory_equal(body.p, leaf.log_body.p, body.len);
    assert_true(bytes_eq_str(stapled, LEAF_PROOF));
    assert_int_equal(f.not_before, LEAF_NOW - 10);
    assert_int_equal(f.not_after, LEAF_NOW + 300);
    assert_ok(tlog_entry_cert_fields(&f, leaf.log_body, &e), &e);
    buf_free(&body);
    leaf_free(&leaf);
    key_free(issuer);
    key_free(k);
}

static void server_addresses(void **state)
{
    struct key *issuer = test_key(KEY_P256), *k = test_key(KEY_P256);
    struct ca_issue m = test_request(k);
    uint8_t array[CA_CERT_MAX];
    m.profile = CA_PROFILE_SERVER;
    m.spiffe_id = text("spiffe://example.org/mayfly/server");
    m.dns[0] = text("::1");
    m.dns[1] = text("localhost");
    m.dns[2] = text("127.0.0.1");
    m.dns_count = 3;
    leaf_make(&leaf, &m);
    struct bytes cert = certify(&leaf, issuer, array, sizeof array);
    const uint8_t *p = cert.p;
    X509 *x = d2i_X509(NULL, &p, (long)cert.len);
    assert_non_null(x);
    assert_int_equal(X509_check_host(x, "localhost", 0, 0, NULL), 1);
    assert_int_equal(X509_check_ip_asc(x, "127.0.0.1", 0), 1);
    assert_int_equal(X509_check_ip_asc(x, "::1", 0), 1);
    assert_int_equal(X509_check_ip_asc(x, "127.0.0.2", 0), 0);
    X509_free(x);
    leaf_free(&leaf);
    key_free(issuer);
    key_free(k);
}

/* Up to the short limit noRevAvail, over it the CRL of its key: one of both, never the other. */
static void revocation(void **state)
{
    static const uint32_t lifetimes[] = {1, 600, 601, 3600};
    struct key *issuer = test_key(KEY_P256), *k = test_key(KEY_P256);
    for (size_t i = 0; i < 4; i++) {
        struct ca_issue m = test_request(k);
        uint8_t array[CA_CERT_MAX];
        char want[CRL_URL_MAX];
        m.lifetime = lifetimes[i];
        leaf_make(&leaf, &m);
        struct bytes cert = certify(&leaf, issuer, array, sizeof array);
        const uint8_t *p = cert.p;
        X509 *x = d2i_X509(NULL, &p, (long)cert.len);
        assert_non_null(x);
        assert_int_equal(X509_get_ext_count(x), 8);
        CRL_DIST_POINTS *points = X509_get_ext_d2i(x, NID_crl_distribution_points, NULL, NULL);
        assert_int_equal(ext_critical(x, "2.5.29.56"), i < 2 ? 0 : -1);
        assert_int_equal(ext_critical(x, "2.5.29.31"), i < 2 ? -1 : 0);
        if (i >= 2) {
            assert_int_equal(sk_DIST_POINT_num(points), 1);
            const DIST_POINT *d = sk_DIST_POINT_value(points, 0);
            assert_true(!d->reasons && !d->CRLissuer && d->distpoint->type == 0);
            const GENERAL_NAME *url = sk_GENERAL_NAME_value(d->distpoint->name.fullname, 0);
            snprintf(want, sizeof want, "%s/crl/16-%u.crl", test_url, leaf.parts.spki_hash[0] >> 4);
            assert_int_equal(url->type, GEN_URI);
            assert_string_equal(ASN1_STRING_get0_data(url->d.ia5), want);
        }
        CRL_DIST_POINTS_free(points);
        X509_free(x);
        leaf_free(&leaf);
    }
    key_free(issuer);
    key_free(k);
}

static void small_arrays_fail(void **state)
{
    struct key *k = test_key(KEY_P256);
    struct ca_issue m = test_request(k);
    struct err e = {0};
    uint8_t small[256];
    leaf_make(&leaf, &m);
    struct tbs_parts parts;
    assert_int_equal(tbs_leaf(&parts, small, 64, &leaf.template, &leaf.digest, &leaf.profile, &e), -1);
    assert_int_equal(tbs_log_body(small, sizeof small, &leaf.parts).len, 0);
    assert_int_equal(tbs_build(small, sizeof small, &leaf.parts, 1, text(LEAF_PROOF)).len, 0);
    assert_int_equal(tbs_certificate(small, sizeof small, leaf.tbs, tbs_ecdsa_sha256, text("sig")).len, 0);
    leaf_free(&leaf);
    key_free(k);
}

static void largest_serial(void **state)
{
    struct key *k = test_key(KEY_P256);
    struct ca_issue m = test_request(k);
    leaf_make(&leaf, &m);
    leaf.tbs = tbs_build(leaf.tbs_array, sizeof leaf.tbs_array, &leaf.parts, TBS_SERIAL(65535, TBS_INDEX_MAX), text(LEAF_PROOF));
    /* SEQUENCE header (4), version (5), INTEGER of nine bytes: a zero keeps it positive */
    assert_memory_equal(leaf.tbs.p + 9, "\x02\x09\x00\xff\xff\xff\xff\xff\xff\xff\xff", 11);
    leaf_free(&leaf);
    key_free(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(openssl_reads),     cmocka_unit_test(log_rebuilds),
        cmocka_unit_test(server_addresses),  cmocka_unit_test(small_arrays_fail),
        cmocka_unit_test(largest_serial),    cmocka_unit_test(revocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
