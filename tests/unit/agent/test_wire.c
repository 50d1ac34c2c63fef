/* What the authority answers beyond RFC 8555. */
#include "agent/wire.h"
#include "unit/agent/pki.h"

static struct bytes view(const char *s)
{
    return (struct bytes){(const uint8_t *)s, strlen(s)};
}

static void test_entries(void **state)
{
    struct err e;
    struct entry_list l;
    assert_int_equal(entry_list_parse(&l, view("{\"version\":\"v1\",\"entries\":[{\"id\":\"e1\",\"spiffe_id\":"
                                               "\"spiffe://example.org/web\",\"selectors\":[\"unix:uid:0\"],\"dns\":"
                                               "[\"web.example.org\"],\"ttl\":300,\"revision\":3,\"hint\":\"internal\",\"number\":7},"
                                               "{\"id\":\"e2\",\"spiffe_id\":\"spiffe://example.org/zz\",\"ttl\":1,"
                                               "\"revision\":1,\"later\":[]}],\"more\":true}"), &e), 0);
    assert_string_equal(l.version, "v1");
    assert_true(l.more && !l.unchanged);
    assert_int_equal(l.n, 2);
    assert_int_equal(l.list[0].number, 7);
    assert_int_equal(l.list[1].number, 0); /* an authority that does not say; what it says beyond is its own affair */
    assert_string_equal(l.list[0].spiffe_id, "spiffe://example.org/web");
    assert_string_equal(l.list[0].selectors[0], "unix:uid:0");
    assert_string_equal(l.list[0].dns[0], "web.example.org");
    assert_string_equal(l.list[0].hint, "internal");
    assert_int_equal(l.list[0].ttl, 300);
    entry_list_free(&l);
    assert_int_equal(l.revoked, 0);
    assert_int_equal(entry_list_parse(&l, view("{\"version\":\"v1\",\"unchanged\":true,\"revoked\":9}"), &e), 0);
    assert_true(l.unchanged);
    assert_int_equal(l.revoked, 9);
    entry_list_free(&l);
    static const char *const bad[] = {
        "[]", "{}", "{\"version\":\"\",\"entries\":[]}", "{\"version\":\"v\"}", "{\"version\":\"v\",\"entries\":{}}",
        "{\"version\":\"v\",\"entries\":[],\"more\":true}", /* would be asked for ever */
        "{\"version\":\"v\",\"entries\":[{}]}",
        "{\"version\":\"v\",\"entries\":[{\"id\":\"e\",\"spiffe_id\":\"spiffe://x\",\"ttl\":1,\"revision\":1}]}",
        "{\"version\":\"v\",\"entries\":[{\"id\":\"e\",\"spiffe_id\":\"spiffe://x/a\",\"ttl\":0,\"revision\":1}]}",
        "{\"version\":\"v\",\"entries\":[{\"id\":\"e\",\"spiffe_id\":\"spiffe://x/a\",\"ttl\":1,\"revision\":1,"
        "\"selectors\":[1]}]}",
        "{\"version\":\"v\",\"entries\":[{\"id\":\"e\",\"spiffe_id\":\"spiffe://x/a\",\"ttl\":1,\"revision\":1,"
        "\"selectors\":\"unix:uid:0\"}]}",
        "{\"version\":\"v\",\"entries\":[{\"id\":\"e\",\"spiffe_id\":\"spiffe://x/a\",\"ttl\":1,\"revision\":1,"
        "\"number\":-1}]}",
        "{\"version\":\"v\",\"entries\":[{\"id\":\"e\",\"spiffe_id\":\"spiffe://x/a\",\"ttl\":1,\"revision\":1,"
        "\"number\":\"1\"}]}",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (entry_list_parse(&l, view(bad[i]), &e) == 0)
            fail_msg("accepted %s", bad[i]);
        assert_string_equal(e.rule, "acme-answer");
        assert_null(l.list);
    }
}

static void test_jwt(void **state)
{
    struct err e;
    struct jwt_answer j;
    const char *good = "{\"spiffe_id\":\"spiffe://x/a\",\"svid\":\"a.b.c\",\"issued\":10,\"expires\":20,\"index\":4}";
    assert_int_equal(jwt_answer_parse(&j, "spiffe://x/a", view(good), &e), 0);
    assert_string_equal(j.svid, "a.b.c");
    assert_int_equal(j.issued, 10);
    assert_int_equal(j.expires, 20);
    free(j.svid);
    assert_int_equal(jwt_answer_parse(&j, "spiffe://x/b", view(good), &e), -1); /* another's */
    assert_int_equal(jwt_answer_parse(&j, "spiffe://x/a",
                                      view("{\"spiffe_id\":\"spiffe://x/a\",\"svid\":\"a\",\"issued\":20,\"expires\":20}"),
                                      &e), -1);
}

static void test_advice(void **state)
{
    struct err e;
    struct ari a;
    const char *good = "{\"suggestedWindow\":{\"start\":\"2026-01-31T12:00:00Z\",\"end\":\"2026-01-31T14:00:00.25+01:00\"}}";
    assert_int_equal(ari_parse(&a, view(good), &e), 0);
    assert_int_equal(a.start, 1769860800);
    assert_int_equal(a.end, a.start + 3600);
    static const char *const bad[] = {
        "{}", "{\"suggestedWindow\":{}}",
        "{\"suggestedWindow\":{\"start\":\"2026-01-31T12:00:00\",\"end\":\"2026-01-31T12:00:00Z\"}}",
        "{\"suggestedWindow\":{\"start\":\"2026-01-31T12:00:01Z\",\"end\":\"2026-01-31T12:00:00Z\"}}",
        "{\"suggestedWindow\":{\"start\":\"2026-01-31T12:00:00+1:00\",\"end\":\"2027-01-31T12:00:00Z\"}}",
        "{\"suggestedWindow\":{\"start\":1,\"end\":2}}",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (ari_parse(&a, view(bad[i]), &e) == 0)
            fail_msg("accepted %s", bad[i]);
}

/* RFC 9773 section 4.1's own example: this key identifier and serial give this name. */
static void test_cert_id(void **state)
{
    static const uint8_t aki[] = {0x69, 0x88, 0x5b, 0x6b, 0x87, 0x46, 0x40, 0x41, 0xe1, 0xb3,
                                  0x7b, 0x84, 0x7b, 0xa0, 0xae, 0x2c, 0xde, 0x01, 0xc8, 0xd4};
    char id[CERT_ID_MAX + 1];
    X509 *x = X509_new();
    AUTHORITY_KEYID *k = AUTHORITY_KEYID_new();
    k->keyid = ASN1_OCTET_STRING_new();
    ASN1_OCTET_STRING_set(k->keyid, aki, sizeof aki);
    assert_int_equal(X509_add1_ext_i2d(x, NID_authority_key_identifier, k, 0, 0), 1);
    ASN1_INTEGER_set_uint64(X509_get_serialNumber(x), 0x87654321u);
    EVP_PKEY *key = pki_key();
    X509_set_version(x, X509_VERSION_3);
    X509_gmtime_adj(X509_getm_notBefore(x), 0);
    X509_gmtime_adj(X509_getm_notAfter(x), 60);
    X509_set_pubkey(x, key);
    assert_true(X509_sign(x, key, EVP_sha256()) > 0);
    EVP_PKEY_free(key);
    assert_int_equal(cert_id_write(id, x), 0);
    assert_string_equal(id, "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE");
    AUTHORITY_KEYID_free(k);
    X509_free(x);
}

static void test_bundle(void **state)
{
    struct err e;
    struct pki p;
    struct bundle_doc b;
    struct buf text, der;
    pki_new(&p);
    buf_init(&text, 65536);
    buf_init(&der, 8192);
    assert_int_equal(x509_to_der(&der, p.root, &e), 0);
    buf_str(&text, "{\"keys\":[{\"use\":\"x509-svid\",\"kty\":\"EC\",\"x5c\":[\"");
    buf_b64(&text, der.p, der.len);
    buf_str(&text, "\"]},{\"use\":\"jwt-svid\",\"kty\":\"EC\",\"kid\":\"k1\"},{\"use\":\"other\"}],"
                   "\"spiffe_refresh_hint\":60,\"mayfly_crl\":{\"base\":\"https://ca.test/crl/\",\"shards\":16}}");
    assert_int_equal(bundle_doc_parse(&b, (struct bytes){text.p, text.len}, &e), 0);
    assert_int_equal(b.roots_der.len, der.len);
    assert_memory_equal(b.roots_der.p, der.p, der.len);
    assert_string_equal(buf_cstr(&b.jwks), "{\"keys\":[{\"kid\":\"k1\",\"kty\":\"EC\",\"use\":\"jwt-svid\"}]}");
    assert_int_equal(b.refresh_hint, 60);
    assert_string_equal(b.crl_base, "https://ca.test/crl/");
    assert_int_equal(b.crl_shards, 16);
    bundle_doc_free(&b);
    assert_int_equal(bundle_doc_parse(&b, view("{\"keys\":[]}"), &e), -1); /* no root */
    char *at = strstr(buf_cstr(&text), "\"shards\":16");
    memcpy(at, "\"shards\":15", 11);
    assert_int_equal(bundle_doc_parse(&b, (struct bytes){text.p, text.len}, &e), -1);
    buf_free(&text);
    buf_free(&der);
    pki_free(&p);
}

static void test_id_set(void **state)
{
    struct id_set s = {0};
    char id[32];
    for (int i = 0; i < 500; i++) {
        snprintf(id, sizeof id, "spiffe://x/%d", (i * 7919) % 500);
        assert_false(id_set_has(&s, id));
        id_set_add(&s, id);
        id_set_add(&s, id);
    }
    assert_int_equal(s.n, 500);
    for (int i = 0; i < 500; i += 2) {
        snprintf(id, sizeof id, "spiffe://x/%d", i);
        id_set_remove(&s, id);
        id_set_remove(&s, id);
    }
    assert_int_equal(s.n, 250);
    assert_true(id_set_has(&s, "spiffe://x/1"));
    assert_false(id_set_has(&s, "spiffe://x/2"));
    id_set_clear(&s);
    assert_false(id_set_has(&s, "spiffe://x/1"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_entries), cmocka_unit_test(test_jwt),    cmocka_unit_test(test_advice),
        cmocka_unit_test(test_cert_id), cmocka_unit_test(test_bundle), cmocka_unit_test(test_id_set),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
