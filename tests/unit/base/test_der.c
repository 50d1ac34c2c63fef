#include "base/der.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define IN(s) cur_of(s, sizeof(s) - 1)

static void test_elements(void **state)
{
    struct cur c = IN("\x30\x06\x02\x01\x05\x0c\x01z"), in;
    uint8_t tag;
    struct bytes v, whole;
    assert_true(der_peek(&c, DER_SEQUENCE));
    assert_false(der_optional(&c, DER_SET, &v));
    assert_int_equal(der_enter(&c, DER_SEQUENCE, &in), 0);
    assert_true(cur_done(&c));
    uint64_t five;
    assert_int_equal(der_u64(&in, &five), 0);
    assert_int_equal(five, 5);
    assert_int_equal(der_any(&in, &tag, &v, &whole), 0);
    assert_int_equal(tag, DER_UTF8);
    assert_true(bytes_eq_str(v, "z"));
    assert_true(bytes_eq(whole, "\x0c\x01z", 3));
    assert_true(cur_done(&in));
    assert_false(der_peek(&in, DER_UTF8));
}

static void test_bad_headers(void **state)
{
    static const struct {
        const char *name, *der;
        size_t len;
    } cases[] = {
        {"empty", "", 0},
        {"tag only", "\x02", 1},
        {"contents missing", "\x02\x02\x01", 3},
        {"indefinite", "\x30\x80\x00\x00", 4},
        {"long form of a short length", "\x04\x81\x01x", 4},
        {"two bytes for one", "\x04\x82\x00\x80", 4},
        {"three-byte length", "\x04\x83\x01\x00\x00", 5},
        {"reserved length", "\x04\xff", 2},
        {"high tag number", "\x1f\x21\x00", 3},
        {"length cut", "\x04\x82\x01", 3},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct cur c = cur_of(cases[i].der, cases[i].len);
        uint8_t tag;
        struct bytes v, whole;
        if (der_any(&c, &tag, &v, &whole) == 0)
            fail_msg("accepted: %s", cases[i].name);
        assert_true(c.failed);
        assert_int_equal(v.len, 0);
    }
}

static void test_wrong_tag(void **state)
{
    struct cur c = IN("\x04\x01x"), in;
    struct bytes v;
    assert_int_equal(der_get(&c, DER_INTEGER, &v), -1);
    assert_true(c.failed);
    c = IN("\x04\x01x");
    assert_int_equal(der_enter(&c, DER_SEQUENCE, &in), -1);
    assert_false(cur_done(&in));
    c = IN("\x04\x05x"); /* the optional element is there, and broken */
    assert_false(der_optional(&c, DER_OCTET_STRING, &v));
    assert_true(c.failed);
}

static void test_integers(void **state)
{
    static const struct {
        const char *der;
        size_t len;
        int ok;
        uint64_t v;
    } cases[] = {
        {"\x02\x01\x00", 3, 1, 0},
        {"\x02\x01\x7f", 3, 1, 127},
        {"\x02\x02\x00\x80", 4, 1, 128},
        {"\x02\x09\x00\xff\xff\xff\xff\xff\xff\xff\xff", 11, 1, UINT64_MAX},
        {"\x02\x00", 2, 0, 0},         /* no contents */
        {"\x02\x01\x80", 3, 0, 0},     /* negative */
        {"\x02\x02\x00\x7f", 4, 0, 0}, /* not minimal */
        {"\x02\x02\x00\x00", 4, 0, 0},
        {"\x02\x09\x01\x00\x00\x00\x00\x00\x00\x00\x00", 11, 0, 0}, /* over 64 bits */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct cur c = cur_of(cases[i].der, cases[i].len);
        uint64_t v;
        assert_int_equal(der_u64(&c, &v), cases[i].ok ? 0 : -1);
        assert_true(v == cases[i].v);
        assert_int_equal(cur_done(&c), cases[i].ok);
    }
}

static void test_bool_and_bits(void **state)
{
    bool v;
    struct bytes bits;
    struct cur c = IN("\x01\x01\xff\x01\x01\x00");
    assert_int_equal(der_bool(&c, &v), 0);
    assert_true(v);
    assert_int_equal(der_bool(&c, &v), 0);
    assert_false(v);
    c = IN("\x01\x01\x01");
    assert_int_equal(der_bool(&c, &v), -1);
    c = IN("\x01\x02\xff\xff");
    assert_int_equal(der_bool(&c, &v), -1);
    c = IN("\x03\x03\x00"
           "ab");
    assert_int_equal(der_bits(&c, &bits), 0);
    assert_true(bytes_eq_str(bits, "ab"));
    c = IN("\x03\x02\x01"
           "a");
    assert_int_equal(der_bits(&c, &bits), -1);
    c = IN("\x03\x00");
    assert_int_equal(der_bits(&c, &bits), -1);
}

static int parse_time(const char *text, int64_t *t)
{
    uint8_t der[64] = {strlen(text) == 13 ? DER_UTCTIME : DER_GENTIME, (uint8_t)strlen(text)};
    memcpy(der + 2, text, strlen(text));
    struct cur c = cur_of(der, strlen(text) + 2);
    return der_time(&c, t);
}

static void test_times(void **state)
{
    static const struct {
        const char *text;
        int64_t t;
    } good[] = {
        {"700101000000Z", 0},
        {"491231235959Z", 2524607999},
        {"500101000000Z", -631152000},
        {"20500101000000Z", 2524608000},
        {"20240229120000Z", 1709208000},
        {"20000229000000Z", 951782400},
        {"99991231235959Z", 253402300799},
    };
    static const char *const bad[] = {
        "7001010000Z",
        "700101000000",
        "700101000000+0000",
        "701301000000Z",
        "700001000000Z",
        "700100000000Z",
        "700132000000Z",
        "230229000000Z",
        "21000229000000Z",
        "700101240000Z",
        "700101006000Z",
        "700101000060Z",
        "20240101000000.5Z",
        "7 0101000000Z",
        "-70101000000Z",
        "2024010100000Z",
        "",
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        int64_t t = 1;
        assert_int_equal(parse_time(good[i].text, &t), 0);
        assert_true(t == good[i].t);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        int64_t t;
        if (parse_time(bad[i], &t) == 0)
            fail_msg("accepted: %s", bad[i]);
    }
}

static void test_write_times(void **state)
{
    static const int64_t seconds[] = {0,          1,          951782400,  1709208000,   2524607999,
                                      2524608000, -631152000, -631152001, 253402300799, 4107542400};
    for (size_t i = 0; i < sizeof seconds / sizeof *seconds; i++) {
        uint8_t out[32];
        struct derw w;
        int64_t back;
        derw_init(&w, out, sizeof out);
        derw_time(&w, seconds[i]);
        struct bytes b = derw_bytes(&w);
        /* RFC 5280 section 4.1.2.5 */
        bool utc = seconds[i] < 2524608000 && seconds[i] >= -631152000;
        assert_int_equal(b.p[0], utc ? DER_UTCTIME : DER_GENTIME);
        struct cur c = cur_of(b.p, b.len);
        assert_int_equal(der_time(&c, &back), 0);
        assert_true(back == seconds[i]);
    }
    uint8_t out[32];
    struct derw w;
    derw_init(&w, out, sizeof out);
    derw_time(&w, 253402300800); /* the year 10000 */
    assert_true(w.failed);
    derw_init(&w, out, sizeof out);
    derw_time(&w, INT64_MIN);
    assert_true(w.failed);
}

static void test_write_structure(void **state)
{
    uint8_t out[64];
    struct derw w;
    derw_init(&w, out, sizeof out);
    derw_tlv(&w, DER_UTF8, "hi", 2);
    derw_bool(&w, true);
    derw_u64(&w, 0x80);
    derw_u64(&w, 0);
    derw_uint(&w, "\0\0\x01\x02", 4);
    derw_oid(&w, "\x55\x04\x03", 3);
    derw_wrap(&w, DER_SEQUENCE, 0);
    struct bytes b = derw_bytes(&w);
    static const char want[] =
        "\x30\x17\x06\x03\x55\x04\x03\x02\x02\x01\x02\x02\x01\x00\x02\x02\x00\x80"
        "\x01\x01\xff\x0c\x02hi";
    assert_int_equal(b.len, sizeof want - 1);
    assert_memory_equal(b.p, want, b.len);
}

static void test_write_lengths(void **state)
{
    static uint8_t in[65600], out[65700];
    static const size_t sizes[] = {0, 127, 128, 255, 256, 65535};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct derw w;
        struct bytes v, b;
        derw_init(&w, out, sizeof out);
        derw_tlv(&w, DER_OCTET_STRING, in, sizes[i]);
        b = derw_bytes(&w);
        struct cur c = cur_of(b.p, b.len);
        assert_int_equal(der_get(&c, DER_OCTET_STRING, &v), 0);
        assert_int_equal(v.len, sizes[i]);
        assert_true(cur_done(&c));
    }
    struct derw w;
    derw_init(&w, out, sizeof out);
    derw_tlv(&w, DER_OCTET_STRING, in, 65536); /* over what the reader takes */
    assert_true(w.failed);
    derw_init(&w, out, 4);
    derw_tlv(&w, DER_OCTET_STRING, "abc", 3); /* the header does not fit */
    assert_true(w.failed);
    assert_int_equal(derw_bytes(&w).len, 0);
    derw_init(&w, out, sizeof out);
    derw_wrap(&w, DER_SEQUENCE, 5); /* a mark that was never reached */
    assert_true(w.failed);
}

static void test_ecdsa(void **state)
{
    uint8_t rs[64] = {0}, der[80], back[64];
    rs[0] = 0x80; /* r needs a sign byte */
    rs[63] = 1;   /* s has 31 leading zeros */
    long n = der_ecdsa_from_rs(der, sizeof der, rs, 32);
    assert_int_equal(n, 2 + 2 + 33 + 3);
    assert_int_equal(der_ecdsa_to_rs(back, 32, der, (size_t)n), 0);
    assert_memory_equal(rs, back, 64);
    assert_int_equal(der_ecdsa_to_rs(back, 31, der, (size_t)n), -1);     /* r does not fit */
    assert_int_equal(der_ecdsa_to_rs(back, 32, der, (size_t)n - 1), -1); /* cut */
    assert_int_equal(der_ecdsa_from_rs(der, 10, rs, 32), -1);
    der[n] = 0;
    assert_int_equal(der_ecdsa_to_rs(back, 32, der, (size_t)n + 1), -1); /* trailing byte */
    static const char three[] = "\x30\x09\x02\x01\x01\x02\x01\x01\x02\x01\x01";
    assert_int_equal(der_ecdsa_to_rs(back, 32, (const uint8_t *)three, 11), -1);
    static const char negative[] = "\x30\x06\x02\x01\x81\x02\x01\x01";
    assert_int_equal(der_ecdsa_to_rs(back, 32, (const uint8_t *)negative, 8), -1);
    static const char padded[] = "\x30\x07\x02\x02\x00\x01\x02\x01\x01";
    assert_int_equal(der_ecdsa_to_rs(back, 32, (const uint8_t *)padded, 9), -1);
    assert_int_equal(der_ecdsa_from_rs(der, sizeof der, rs, 67), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_elements),      cmocka_unit_test(test_bad_headers),
        cmocka_unit_test(test_wrong_tag),     cmocka_unit_test(test_integers),
        cmocka_unit_test(test_bool_and_bits), cmocka_unit_test(test_times),
        cmocka_unit_test(test_write_times),   cmocka_unit_test(test_write_structure),
        cmocka_unit_test(test_write_lengths), cmocka_unit_test(test_ecdsa),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
