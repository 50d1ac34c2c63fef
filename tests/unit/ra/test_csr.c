#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "ra/csr.h"
#include "tests/unit/ra/csr_make.h"
#include <stdio.h>

#define ID "spiffe://example.org/web"
#define GOOD "URI:" ID
static EVP_PKEY *p256, *p384, *rsa, *ed;

static void judge(EVP_PKEY *k, struct csr_spec s, const char *rule)
{
    uint8_t der[CSR_MAX + 4096];
    struct csr csr;
    struct err e = {0};
    size_t n = csr_build(der, sizeof der, k, &s);
    int rc = csr_read(&csr, der, n, &e);
    if (rule) {
        assert_int_equal(rc, -1);
        assert_string_equal(e.rule, rule);
        assert_int_equal(e.code, ERR_BAD_CSR);
    } else {
        if (rc < 0)
            print_error("%s: %s\n", e.rule, e.msg);
        assert_int_equal(rc, 0);
        assert_true(bytes_eq_str(csr.uri, ID));
    }
}

static void test_good(void **state)
{
    judge(p256, (struct csr_spec){.san = GOOD}, NULL);
    judge(p384, (struct csr_spec){.san = GOOD, .md = EVP_sha384()}, NULL);
    judge(p384, (struct csr_spec){.san = GOOD}, NULL); /* SHA-256 with P-384, as `openssl req` does */
    judge(p256, (struct csr_spec){.san = GOOD, .md = EVP_sha384()}, NULL);
    judge(rsa, (struct csr_spec){.san = GOOD}, NULL);
    judge(rsa, (struct csr_spec){.san = GOOD, .md = EVP_sha384()}, NULL);
    judge(ed, (struct csr_spec){.san = GOOD}, NULL);
    judge(p256, (struct csr_spec){.san = "critical," GOOD ",DNS:web.example.org,DNS:*.web.example.org"}, NULL);
    judge(p256, (struct csr_spec){.san = GOOD ",DNS:web.example.org", .cn = "web.example.org"}, NULL);
    judge(p256, (struct csr_spec){.san = GOOD, .basic = "CA:FALSE", .usage = "critical,digitalSignature",
                                  .eku = "critical,serverAuth,clientAuth"}, NULL);
    judge(p256, (struct csr_spec){.san = GOOD, .eku = "codeSigning"}, NULL); /* ignored: never given */
}

static void test_names(void **state)
{
    judge(p256, (struct csr_spec){0}, "csr-uri");
    judge(p256, (struct csr_spec){.san = "DNS:web.example.org"}, "csr-uri");
    judge(p256, (struct csr_spec){.san = GOOD ",URI:spiffe://example.org/db"}, "csr-uri");
    judge(p256, (struct csr_spec){.san = GOOD "," GOOD}, "csr-uri");
    judge(p256, (struct csr_spec){.san = "URI:https://example.org/"}, "csr-uri");
    judge(p256, (struct csr_spec){.san = "URI:spiffe://example.org/a/../b"}, "csr-uri");
    judge(p256, (struct csr_spec){.san = GOOD ",IP:127.0.0.1"}, "csr-san-ip");
    judge(p256, (struct csr_spec){.san = "IP:::1," GOOD}, "csr-san-ip");
    judge(p256, (struct csr_spec){.san = GOOD ",email:a@example.org"}, "csr-san-email");
    judge(p256, (struct csr_spec){.san = GOOD ",otherName:1.2.3.4;UTF8:x"}, "csr-san-other");
    judge(p256, (struct csr_spec){.san = GOOD ",RID:1.2.3.4"}, "csr-san-other");
    judge(p256, (struct csr_spec){.san = GOOD ",DNS:WEB.example.org"}, "csr-dns");
    judge(p256, (struct csr_spec){.san = GOOD ",DNS:127.0.0.1"}, "csr-dns");
    judge(p256, (struct csr_spec){.san = GOOD ",DNS:a.example.org,DNS:a.example.org"}, "csr-dns");
    judge(p256, (struct csr_spec){.san = GOOD, .cn = "web.example.org"}, "csr-cn");
    judge(p256, (struct csr_spec){.san = GOOD, .cn = "root"}, "csr-cn");
    judge(p256, (struct csr_spec){.san = GOOD ",DNS:web.example.org", .cn = "db.example.org"}, "csr-cn");
    char many[1024] = GOOD;
    for (int i = 0; i < CA_DNS_MAX + 1; i++)
        sprintf(many + strlen(many), ",DNS:h%d.example.org", i);
    judge(p256, (struct csr_spec){.san = many}, "csr-dns");
}

static void test_asks_too_much(void **state)
{
    judge(p256, (struct csr_spec){.san = GOOD, .basic = "critical,CA:TRUE"}, "csr-ca");
    judge(p256, (struct csr_spec){.san = GOOD, .basic = "CA:TRUE,pathlen:0"}, "csr-ca");
    judge(p256, (struct csr_spec){.san = GOOD, .usage = "digitalSignature,keyCertSign"}, "csr-ca");
    judge(p256, (struct csr_spec){.san = GOOD, .usage = "cRLSign"}, "csr-ca");
    judge(p256, (struct csr_spec){.san = GOOD, .raw_critical = "1.2.3.4.5"}, "csr-critical");
    judge(p256, (struct csr_spec){.san = GOOD, .eku = "critical,codeSigning"}, "csr-critical");
}

static EVP_PKEY *rsa_of(unsigned bits)
{
    return EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)bits);
}

static void test_keys(void **state)
{
    EVP_PKEY *small = rsa_of(1024), *k1 = EVP_EC_gen("secp256k1"), *p521 = EVP_EC_gen("P-521");
    EVP_PKEY *huge = rsa_of(4104), *ed448 = EVP_PKEY_Q_keygen(NULL, NULL, "ED448");
    judge(small, (struct csr_spec){.san = GOOD}, "csr-key");
    judge(k1, (struct csr_spec){.san = GOOD}, "csr-key");
    judge(p521, (struct csr_spec){.san = GOOD}, "csr-key");
    judge(huge, (struct csr_spec){.san = GOOD}, "csr-key");
    judge(ed448, (struct csr_spec){.san = GOOD, .signer = p256}, "csr-key");
    EVP_PKEY_free(small);
    EVP_PKEY_free(k1);
    EVP_PKEY_free(p521);
    EVP_PKEY_free(huge);
    EVP_PKEY_free(ed448);
}

static void test_signature(void **state)
{
    EVP_PKEY *other = EVP_EC_gen("P-256");
    uint8_t der[CSR_MAX];
    struct csr csr;
    struct err e = {0};
    judge(p256, (struct csr_spec){.san = GOOD, .signer = other}, "csr-signature");
    judge(p256, (struct csr_spec){.san = GOOD, .signer = rsa}, "csr-signature");
    judge(p256, (struct csr_spec){.san = GOOD, .signer = ed}, "csr-signature");
    judge(ed, (struct csr_spec){.san = GOOD, .signer = p256}, "csr-signature");
    judge(rsa, (struct csr_spec){.san = GOOD, .md = EVP_sha1()}, "csr-signature");
    judge(rsa, (struct csr_spec){.san = GOOD, .md = EVP_sha512()}, "csr-signature");
    /* Every single bit counts: none may be flipped, wherever it stands. */
    size_t n = csr_build(der, sizeof der, p256, &(struct csr_spec){.san = GOOD ",DNS:web.example.org"});
    for (size_t i = 0; i < n; i++) {
        der[i] ^= (uint8_t)(1 << (i % 8));
        assert_int_equal(csr_read(&csr, der, n, &e), -1);
        der[i] ^= (uint8_t)(1 << (i % 8));
    }
    assert_int_equal(csr_read(&csr, der, n, &e), 0);
    EVP_PKEY_free(other);
}

static void test_form(void **state)
{
    uint8_t der[CSR_MAX + 8] = {0};
    struct csr csr;
    struct err e = {0};
    size_t n = csr_build(der, CSR_MAX, p256, &(struct csr_spec){.san = GOOD});
    for (size_t i = 0; i < n; i++) { /* every truncation, in memory of its own */
        uint8_t *cut = malloc(i + 1);
        memcpy(cut, der, i);
        assert_int_equal(csr_read(&csr, cut, i, &e), -1);
        assert_int_equal(e.code, ERR_BAD_CSR);
        free(cut);
    }
    der[n] = 0;
    assert_int_equal(csr_read(&csr, der, n + 1, &e), -1);
    assert_string_equal(e.rule, "csr-syntax");
    assert_int_equal(csr_read(&csr, der, CSR_MAX + 1, &e), -1);
    assert_string_equal(e.rule, "csr-size");
    assert_int_equal(csr_read(&csr, der, 0, &e), -1);
}

static void test_match(void **state)
{
    uint8_t der[CSR_MAX];
    struct csr csr;
    struct err e = {0};
    static const char *const ab[] = {"a.example.org", "b.example.org"}, *const ba[] = {"b.example.org", "a.example.org"};
    static const char *const ac[] = {"a.example.org", "c.example.org"};
    size_t n = csr_build(der, sizeof der, p256, &(struct csr_spec){.san = GOOD ",DNS:a.example.org,DNS:b.example.org"});
    assert_int_equal(csr_read(&csr, der, n, &e), 0);
    assert_int_equal(csr.dns_count, 2);
    assert_int_equal(csr_match(&csr, ID, ab, 2, &e), 0);
    assert_int_equal(csr_match(&csr, ID, ba, 2, &e), 0);
    assert_int_equal(csr_match(&csr, ID, ac, 2, &e), -1);
    assert_string_equal(e.rule, "csr-dns");
    assert_int_equal(csr_match(&csr, ID, ab, 1, &e), -1);
    assert_int_equal(csr_match(&csr, ID, NULL, 0, &e), -1);
    assert_int_equal(csr_match(&csr, "spiffe://example.org/we", ab, 2, &e), -1);
    assert_string_equal(e.rule, "csr-uri");
    assert_int_equal(csr_match(&csr, "spiffe://example.org/web2", ab, 2, &e), -1);
    n = csr_build(der, sizeof der, p256, &(struct csr_spec){.san = GOOD});
    assert_int_equal(csr_read(&csr, der, n, &e), 0);
    assert_int_equal(csr_match(&csr, ID, NULL, 0, &e), 0);
    assert_int_equal(csr_match(&csr, ID, ab, 2, &e), -1);
}

static int setup(void **state)
{
    p256 = EVP_EC_gen("P-256");
    p384 = EVP_EC_gen("P-384");
    rsa = rsa_of(2048);
    ed = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    return p256 && p384 && rsa && ed ? 0 : -1;
}

static int teardown(void **state)
{
    EVP_PKEY_free(p256);
    EVP_PKEY_free(p384);
    EVP_PKEY_free(rsa);
    EVP_PKEY_free(ed);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),      cmocka_unit_test(test_names), cmocka_unit_test(test_asks_too_much),
        cmocka_unit_test(test_keys),      cmocka_unit_test(test_signature), cmocka_unit_test(test_form),
        cmocka_unit_test(test_match),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
