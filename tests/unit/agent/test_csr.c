/* What csr.c writes, OpenSSL reads. */
#include "unit/agent/pki.h"

static X509_REQ *written(enum key_type kind, const char *const *dns, size_t n)
{
    struct err e;
    struct buf der;
    struct key *k = key_generate(kind, &e);
    buf_init(&der, 65536);
    assert_done(csr_write(&der, k, PKI_ID, dns, n, &e));
    const uint8_t *at = der.p;
    X509_REQ *req = d2i_X509_REQ(NULL, &at, (long)der.len);
    assert_non_null(req);
    assert_ptr_equal(at, der.p + der.len);
    assert_int_equal(X509_REQ_verify(req, key_evp(k)), 1);
    assert_int_equal(EVP_PKEY_eq(X509_REQ_get0_pubkey(req), key_evp(k)), 1);
    buf_free(&der);
    key_free(k);
    return req;
}

static void check_san(X509_REQ *req, const char *const *dns, size_t n)
{
    STACK_OF(X509_EXTENSION) *list = X509_REQ_get_extensions(req);
    assert_int_equal(sk_X509_EXTENSION_num(list), 1);
    int critical = -1;
    GENERAL_NAMES *names = X509V3_get_d2i(list, NID_subject_alt_name, &critical, NULL);
    assert_int_equal(critical, 1);
    assert_int_equal(sk_GENERAL_NAME_num(names), (int)n + 1);
    const GENERAL_NAME *g = sk_GENERAL_NAME_value(names, 0);
    assert_int_equal(g->type, GEN_URI);
    assert_string_equal(ASN1_STRING_get0_data(g->d.uniformResourceIdentifier), PKI_ID);
    for (size_t i = 0; i < n; i++) {
        g = sk_GENERAL_NAME_value(names, (int)i + 1);
        assert_int_equal(g->type, GEN_DNS);
        assert_string_equal(ASN1_STRING_get0_data(g->d.dNSName), dns[i]);
    }
    GENERAL_NAMES_free(names);
    sk_X509_EXTENSION_pop_free(list, X509_EXTENSION_free);
}

static void test_written(void **state)
{
    const char *dns[] = {"web.example.org", "*.web.example.org"};
    for (int kind = KEY_P256; kind <= KEY_P384; kind++) {
        X509_REQ *req = written((enum key_type)kind, dns, 2);
        assert_int_equal(X509_REQ_get_version(req), 0);
        assert_int_equal(X509_NAME_entry_count(X509_REQ_get_subject_name(req)), 0);
        assert_int_equal(X509_REQ_get_attr_count(req), 1);
        check_san(req, dns, 2);
        X509_REQ_free(req);
    }
    X509_REQ *req = written(KEY_P256, NULL, 0);
    check_san(req, NULL, 0);
    X509_REQ_free(req);
}

/* 16 names of 253 bytes: lengths that need two bytes. */
static void test_long_names(void **state)
{
    char name[254];
    const char *dns[16];
    for (int i = 0; i < 253; i++)
        name[i] = i % 50 == 49 ? '.' : 'a';
    name[253] = 0;
    for (int i = 0; i < 16; i++)
        dns[i] = name;
    X509_REQ *req = written(KEY_P256, dns, 16);
    check_san(req, dns, 16);
    X509_REQ_free(req);
}

static void test_refused(void **state)
{
    struct err e;
    struct buf der;
    struct key *k = key_generate(KEY_P256, &e), *ed = key_generate(KEY_ED25519, &e);
    buf_init(&der, 65536);
    static const char *const bad_ids[] = {"",
                                          "https://example.org/web",
                                          "spiffe://Example.org/web",
                                          "spiffe://example.org/a//b",
                                          "spiffe://example.org/web?x",
                                          "spiffe://example.org",
                                          "spiffe://example.org/web/"};
    for (size_t i = 0; i < sizeof bad_ids / sizeof *bad_ids; i++)
        assert_refused(csr_write(&der, k, bad_ids[i], NULL, 0, &e), ERR_MALFORMED, "spiffe-id");
    static const char *const bad_names[] = {"", "web example", "WEB.example.org",
                                            "web.example.org.", "a.*.b"};
    for (size_t i = 0; i < sizeof bad_names / sizeof *bad_names; i++)
        assert_refused(csr_write(&der, k, PKI_ID, &bad_names[i], 1, &e), ERR_MALFORMED, "dns-name");
    assert_refused(csr_write(&der, ed, PKI_ID, NULL, 0, &e), ERR_BAD_KEY, "key-type");
    assert_int_equal(der.len, 0);
    struct buf small;
    buf_init(&small, 100);
    assert_refused(csr_write(&small, k, PKI_ID, NULL, 0, &e), ERR_TOO_LARGE, "csr-size");
    buf_free(&small);
    buf_free(&der);
    key_free(k);
    key_free(ed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_written),
                                       cmocka_unit_test(test_long_names),
                                       cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
