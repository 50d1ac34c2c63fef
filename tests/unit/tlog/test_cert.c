/* From a certificate to its entry, and back to the proof. */
#include "tests/unit/tlog/proven.h"

static void init3(struct buf *a, struct buf *b, struct buf *c)
{
    buf_init(a, TLOG_ENTRY_MAX);
    buf_init(b, TLOG_ENTRY_MAX);
    buf_init(c, TLOG_ENTRY_MAX);
}

static void free3(struct buf *a, struct buf *b, struct buf *c)
{
    buf_free(a);
    buf_free(b);
    buf_free(c);
}

/* With and without the stapled proof, wherever it stands, the body is the same. */
static void staple_left_out(void **state)
{
    struct buf cert, want, body;
    struct tlog_cert_fields f;
    struct bytes stapled;
    struct err e;
    init3(&cert, &want, &body);
    cert_make(&cert, &proven_form);
    assert_ok(tlog_cert_body(&want, &f, &stapled, cert.p, cert.len, &e), e);
    assert_int_equal(stapled.len, 0);
    for (int first = 0; first < 2; first++) {
        struct test_cert c = proven_form;
        c.stapled = (struct bytes){(const uint8_t *)"proof text", 10};
        c.stapled_first = first;
        buf_reset(&cert);
        buf_reset(&body);
        cert_make(&cert, &c);
        assert_ok(tlog_cert_body(&body, &f, &stapled, cert.p, cert.len, &e), e);
        assert_true(bytes_eq_str(stapled, "proof text"));
        assert_true(bytes_eq(view(&body), want.p, want.len));
    }
    free3(&cert, &want, &body);
}

static void fields(void **state)
{
    struct buf cert, body, again;
    struct tlog_cert_fields f, g;
    struct bytes stapled;
    struct err e;
    uint8_t hash[32];
    unsigned char *spki = NULL;
    init3(&cert, &body, &again);
    cert_make(&cert, &proven_form);
    assert_ok(tlog_cert_body(&body, &f, &stapled, cert.p, cert.len, &e), e);
    assert_int_equal(f.not_before, proven_form.not_before);
    assert_int_equal(f.not_after, proven_form.not_after);
    assert_true(bytes_eq(f.serial, "\x07\0\0\0\0\0\x2a", 7));
    assert_ok(tlog_entry_cert_fields(&g, view(&body), &e), e);
    assert_int_equal(g.not_before, f.not_before);
    assert_int_equal(g.not_after, f.not_after);
    assert_true(bytes_eq(g.issuer, f.issuer.p, f.issuer.len));
    assert_true(bytes_eq(g.subject, f.subject.p, f.subject.len));
    assert_true(bytes_eq(g.spki_algorithm, f.spki_algorithm.p, f.spki_algorithm.len));
    assert_true(bytes_eq(g.extensions, f.extensions.p, f.extensions.len));
    assert_memory_equal(g.spki_hash, f.spki_hash, 32);
    assert_int_equal(g.serial.len, 0);
    tlog_cert_body_write(&again, &g);
    assert_true(bytes_eq(view(&again), body.p, body.len));
    /* an independent reader of the same certificate */
    const unsigned char *p = cert.p;
    X509 *x = d2i_X509(NULL, &p, (long)cert.len);
    assert_non_null(x);
    int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(x), &spki);
    assert_true(len > 0);
    tlog_sha256(hash, spki, (size_t)len);
    assert_memory_equal(hash, f.spki_hash, 32);
    OPENSSL_free(spki);
    X509_free(x);
    free3(&cert, &body, &again);
}

/* Times on both sides of 2050 are copied as they are written. */
static void late_and_bare(void **state)
{
    struct buf cert, body, again;
    struct tlog_cert_fields f;
    struct bytes stapled;
    struct err e;
    struct test_cert c = proven_form;
    init3(&cert, &body, &again);
    c.not_after = 4102444800; /* 2100 */
    c.no_other_extensions = true;
    c.unique_ids = true;
    cert_make(&cert, &c);
    assert_ok(tlog_cert_body(&body, &f, &stapled, cert.p, cert.len, &e), e);
    assert_ok(tlog_entry_cert_fields(&f, view(&body), &e), e);
    assert_int_equal(f.not_after, 4102444800);
    assert_int_equal(f.extensions.len, 0);
    /* the proof alone: the extensions element goes with it */
    c.stapled = (struct bytes){(const uint8_t *)"p", 1};
    buf_reset(&cert);
    cert_make(&cert, &c);
    assert_ok(tlog_cert_body(&again, &f, &stapled, cert.p, cert.len, &e), e);
    assert_true(bytes_eq(view(&again), body.p, body.len));
    free3(&cert, &body, &again);
}

static void cert_refused(const struct test_cert *c)
{
    struct buf cert, body, unused;
    struct tlog_cert_fields f;
    struct bytes stapled;
    struct err e;
    init3(&cert, &body, &unused);
    cert_make(&cert, c);
    assert_int_equal(tlog_cert_body(&body, &f, &stapled, cert.p, cert.len, &e), -1);
    assert_rule(e, "cert-format");
    free3(&cert, &body, &unused);
}

static void refused(void **state)
{
    struct test_cert c = proven_form;
    c.trailing = true;
    cert_refused(&c);
    c = proven_form;
    c.version1 = true;
    cert_refused(&c);
    c = proven_form;
    c.other_inner_alg = true;
    cert_refused(&c);
    c = proven_form;
    c.stapled = (struct bytes){(const uint8_t *)"p", 1};
    c.stapled_twice = true;
    cert_refused(&c);
    c.stapled_twice = false;
    c.stapled_critical = true;
    cert_refused(&c);
}

/* Cut anywhere: refused; any bit changed: refused or another entry, but for serial and signature.
 */
static void damaged(void **state)
{
    struct buf cert, want, body;
    struct tlog_cert_fields f;
    struct bytes stapled;
    struct err e;
    size_t same = 0;
    init3(&cert, &want, &body);
    cert_make(&cert, &proven_form);
    assert_ok(tlog_cert_body(&want, &f, &stapled, cert.p, cert.len, &e), e);
    for (size_t i = 0; i < cert.len; i++) {
        uint8_t *cut = malloc(i ? i : 1);
        memcpy(cut, cert.p, i);
        assert_int_equal(tlog_cert_body(&body, &f, &stapled, cut, i, &e), -1);
        free(cut);
        buf_reset(&body);
        cert.p[i] ^= 1;
        if (tlog_cert_body(&body, &f, &stapled, cert.p, cert.len, &e) == 0)
            same += bytes_eq(view(&body), want.p, want.len);
        cert.p[i] ^= 1;
        buf_reset(&body);
    }
    /* seven bytes of serial; eight of signature; none else (algorithms must match, DER is strict)
     */
    assert_int_equal(same, 7 + 8);
    free3(&cert, &want, &body);
}

static void verify(void **state)
{
    struct proven_cert p;
    struct tlog_proven info;
    struct err e;
    proven_make(&p, 6, 7);
    assert_ok(tlog_cert_verify(p.cert.p, p.cert.len, &p.k.vkey, &info, &e), e);
    assert_int_equal(info.index, 6);
    assert_int_equal(info.log_number, 7);
    assert_int_equal(info.checkpoint.size, 10);
    /* no bit of the certificate can change but in its own signature, which the caller checks */
    size_t passed = 0;
    for (size_t i = 0; i < p.cert.len; i++) {
        p.cert.p[i] ^= 1;
        passed += tlog_cert_verify(p.cert.p, p.cert.len, &p.k.vkey, NULL, &e) == 0;
        p.cert.p[i] ^= 1;
    }
    assert_int_equal(passed, 8 + 1); /* 8 of signature, and the log number's low byte */
    struct test_log other = {0};
    test_key(&other, "log.example.org/cert");
    assert_int_equal(tlog_cert_verify(p.cert.p, p.cert.len, &other.vkey, NULL, &e), -1);
    assert_rule(e, "checkpoint-signature");
    tlog_vkey_free(&other.vkey);
    EVP_PKEY_free(other.key);
    proven_free(&p);
}

static void verify_refused(void **state)
{
    struct proven_cert p;
    struct buf cert;
    struct err e;
    proven_make(&p, 5, 7); /* serial names another entry */
    assert_int_equal(tlog_cert_verify(p.cert.p, p.cert.len, &p.k.vkey, NULL, &e), -1);
    assert_rule(e, "proof-serial");
    proven_free(&p);
    proven_make(&p, 6, 0); /* no log number */
    assert_int_equal(tlog_cert_verify(p.cert.p, p.cert.len, &p.k.vkey, NULL, &e), -1);
    assert_rule(e, "proof-serial");
    /* another certificate with this proof */
    struct test_cert c = proven_form;
    c.serial = (uint64_t)7 << 48 | 6;
    c.not_after++;
    c.stapled = view(&p.proof);
    buf_init(&cert, TLOG_ENTRY_MAX);
    cert_make(&cert, &c);
    assert_int_equal(tlog_cert_verify(cert.p, cert.len, &p.k.vkey, NULL, &e), -1);
    assert_rule(e, "inclusion");
    buf_reset(&cert);
    cert_make(&cert, &proven_form);
    assert_int_equal(tlog_cert_verify(cert.p, cert.len, &p.k.vkey, NULL, &e), -1);
    assert_rule(e, "proof-missing");
    c.stapled = (struct bytes){(const uint8_t *)"rubbish", 7};
    buf_reset(&cert);
    cert_make(&cert, &c);
    assert_int_equal(tlog_cert_verify(cert.p, cert.len, &p.k.vkey, NULL, &e), -1);
    assert_rule(e, "proof-format");
    buf_free(&cert);
    proven_free(&p);
}

static void binding(void **state)
{
    struct test_log k = {0};
    struct test_cert c = proven_form;
    struct tlog_vkey v;
    struct buf cert, text;
    struct err e;
    test_key(&k, "log.example.org/bound");
    buf_init(&cert, TLOG_ENTRY_MAX);
    buf_init(&text, 1000);
    tlog_vkey_write(&k.vkey, &text);
    c.binding = buf_cstr(&text);
    cert_make(&cert, &c);
    assert_ok(tlog_binding_from_cert(&v, cert.p, cert.len, &e), e);
    assert_string_equal(v.name, "log.example.org/bound");
    assert_memory_equal(v.pub, k.vkey.pub, 32);
    tlog_vkey_free(&v);
    buf_reset(&cert);
    cert_make(&cert, &proven_form);
    assert_int_equal(tlog_binding_from_cert(&v, cert.p, cert.len, &e), -1);
    assert_rule(e, "binding-missing");
    c.binding = "no vkey";
    buf_reset(&cert);
    cert_make(&cert, &c);
    assert_int_equal(tlog_binding_from_cert(&v, cert.p, cert.len, &e), -1);
    assert_rule(e, "vkey-format");
    assert_int_equal(tlog_binding_from_cert(&v, (const uint8_t *)"\x30\x00", 2, &e), -1);
    assert_rule(e, "cert-format");
    buf_free(&cert);
    buf_free(&text);
    tlog_vkey_free(&k.vkey);
    EVP_PKEY_free(k.key);
}

/* A log entry's body is never one with a proof in it. */
static void entry_fields_refused(void **state)
{
    struct buf cert, body, bad;
    struct tlog_cert_fields f, g;
    struct bytes stapled;
    struct test_cert c = proven_form;
    struct err e;
    init3(&cert, &body, &bad);
    c.stapled = (struct bytes){(const uint8_t *)"p", 1};
    cert_make(&cert, &c);
    assert_ok(tlog_cert_body(&body, &f, &stapled, cert.p, cert.len, &e), e);
    tlog_cert_body_write(&bad, &f); /* f.extensions are the certificate's: with the proof */
    assert_int_equal(tlog_entry_cert_fields(&g, view(&bad), &e), -1);
    assert_rule(e, "entry-format");
    for (size_t i = 0; i < body.len; i++)
        if (tlog_entry_cert_fields(&g, (struct bytes){body.p, i}, &e) == 0)
            assert_int_equal(g.extensions.len, 0); /* cut where the optional part begins */
    buf_u8(&body, 0);
    assert_int_equal(tlog_entry_cert_fields(&g, view(&body), &e), -1);
    free3(&cert, &body, &bad);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(staple_left_out),
        cmocka_unit_test(fields),
        cmocka_unit_test(late_and_bare),
        cmocka_unit_test(refused),
        cmocka_unit_test(damaged),
        cmocka_unit_test(verify),
        cmocka_unit_test(verify_refused),
        cmocka_unit_test(binding),
        cmocka_unit_test(entry_fields_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
