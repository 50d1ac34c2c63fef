#include "base/bytes.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void test_cursor_reads(void **state)
{
    const uint8_t in[] = {1, 2, 3, 7, 8, 9, 10, 0, 0, 0, 0, 0, 0, 0, 11, 'x'};
    struct cur c = cur_of(in, sizeof in);
    uint8_t a;
    uint16_t b;
    uint32_t f;
    uint64_t g;
    struct bytes rest;
    assert_int_equal(cur_u8(&c, &a), 0);
    assert_int_equal(cur_u16(&c, &b), 0);
    assert_int_equal(cur_u32(&c, &f), 0);
    assert_int_equal(cur_u64(&c, &g), 0);
    assert_int_equal(a, 1);
    assert_int_equal(b, 0x0203);
    assert_int_equal(f, 0x0708090a);
    assert_int_equal(g, 11);
    assert_int_equal(cur_left(&c), 1);
    assert_false(cur_done(&c));
    assert_int_equal(cur_take(&c, 1, &rest), 0);
    assert_true(bytes_eq_str(rest, "x"));
    assert_true(cur_done(&c));
}

static void test_cursor_stays_failed(void **state)
{
    const uint8_t in[] = {0, 9, 'a', 'b'};
    struct cur c = cur_of(in, sizeof in);
    struct bytes v;
    uint8_t x = 77;
    assert_int_equal(cur_vec16(&c, &v), -1);
    assert_int_equal(v.len, 0);
    assert_int_equal(cur_u8(&c, &x), -1);
    assert_int_equal(x, 0);
    assert_int_equal(cur_left(&c), 0);
    assert_int_equal(cur_take(&c, 0, &v), -1);
    assert_int_equal(cur_line(&c, &v), -1);
    assert_false(cur_done(&c));
    c = cur_of(NULL, 0);
    assert_true(cur_done(&c));
    assert_int_equal(cur_take(&c, SIZE_MAX, &v), -1);
}

static void test_cursor_vectors(void **state)
{
    const uint8_t in[] = {1, 'a', 0, 2, 'b', 'c', 'l', '\n', '\n'};
    struct cur c = cur_of(in, sizeof in);
    struct bytes v;
    assert_int_equal(cur_vec8(&c, &v), 0);
    assert_true(bytes_eq_str(v, "a"));
    assert_int_equal(cur_vec16(&c, &v), 0);
    assert_true(bytes_eq_str(v, "bc"));
    assert_int_equal(cur_line(&c, &v), 0);
    assert_true(bytes_eq_str(v, "l"));
    assert_int_equal(cur_line(&c, &v), 0);
    assert_int_equal(v.len, 0);
    assert_int_equal(cur_line(&c, &v), -1);
}

static void test_buffer_writes(void **state)
{
    struct buf b;
    buf_init(&b, 100000);
    buf_u8(&b, 1);
    buf_u16(&b, 0x0203);
    buf_u32(&b, 0x0708090a);
    buf_u64(&b, 11);
    buf_vec8(&b, "ab", 2);
    buf_vec16(&b, "cd", 2);
    assert_false(b.failed);
    assert_memory_equal(b.p, "\1\2\3\7\10\11\12\0\0\0\0\0\0\0\13\2ab\0\2cd", b.len);
    assert_int_equal(b.len, 22);
    buf_reset(&b);
    for (int i = 0; i < 5000; i++)
        buf_fmt(&b, "%05d,", i);
    assert_int_equal(b.len, 30000);
    assert_memory_equal(buf_cstr(&b) + 29994, "04999,", 7);
    buf_reset(&b);
    char big[3000];
    memset(big, 'z', sizeof big - 1);
    big[sizeof big - 1] = 0;
    buf_fmt(&b, "<%s>", big); /* longer than what is free at first */
    assert_int_equal(b.len, 3001);
    assert_int_equal(b.p[3000], '>');
    buf_free(&b);
}

static void test_buffer_limits(void **state)
{
    struct buf b;
    buf_init(&b, 8);
    buf_str(&b, "12345678");
    assert_false(b.failed);
    assert_string_equal(buf_cstr(&b), "12345678"); /* the NUL is not counted */
    buf_u8(&b, 0);
    assert_true(b.failed);
    assert_null(buf_cstr(&b));
    assert_int_equal(b.len, 8);
    buf_reset(&b);
    buf_str(&b, "");
    assert_string_equal(buf_cstr(&b), "");
    buf_fmt(&b, "%s", "123456789");
    assert_true(b.failed);
    buf_free(&b);

    static const uint8_t big[65536];
    buf_init(&b, 1 << 20);
    buf_vec8(&b, big, 255);
    buf_vec16(&b, big, 65535);
    assert_false(b.failed);
    buf_vec8(&b, big, 256);
    assert_true(b.failed);
    buf_reset(&b);
    buf_vec16(&b, big, 65536);
    assert_true(b.failed);
    buf_reset(&b);
    buf_b64(&b, big, SIZE_MAX); /* refused before anything is read */
    assert_true(b.failed);
    buf_free(&b);
}

/* RFC 4648 section 10 */
static const struct {
    const char *plain, *std, *url;
} rfc4648[] = {
    {"", "", ""},
    {"f", "Zg==", "Zg"},
    {"fo", "Zm8=", "Zm8"},
    {"foo", "Zm9v", "Zm9v"},
    {"foob", "Zm9vYg==", "Zm9vYg"},
    {"fooba", "Zm9vYmE=", "Zm9vYmE"},
    {"foobar", "Zm9vYmFy", "Zm9vYmFy"},
    {"\xfb\xff\xfe", "+//+", "-__-"},
};

static void test_base64_vectors(void **state)
{
    struct buf b;
    buf_init(&b, 1000);
    for (size_t i = 0; i < sizeof rfc4648 / sizeof *rfc4648; i++) {
        size_t n = strlen(rfc4648[i].plain);
        char out[16];
        buf_reset(&b);
        buf_b64(&b, rfc4648[i].plain, n);
        assert_string_equal(buf_cstr(&b), rfc4648[i].std);
        buf_reset(&b);
        buf_b64url(&b, rfc4648[i].plain, n);
        assert_string_equal(buf_cstr(&b), rfc4648[i].url);
        assert_int_equal(B64_LEN(n), strlen(rfc4648[i].std));
        assert_int_equal(B64URL_LEN(n), strlen(rfc4648[i].url));
        assert_int_equal(b64_decode(out, sizeof out, rfc4648[i].std, strlen(rfc4648[i].std)), n);
        assert_memory_equal(out, rfc4648[i].plain, n);
        assert_int_equal(b64url_decode(out, n, rfc4648[i].url, strlen(rfc4648[i].url)), n);
        assert_memory_equal(out, rfc4648[i].plain, n);
    }
    buf_free(&b);
}

static void test_base64_refuses(void **state)
{
    static const char *const bad_url[] = {"A",       "AAAAA",   "AA==", "A+AA", "A/AA",
                                          "AA A",    "AA\nA",   "AAA=", "Zh",   "Zm9",
                                          "\xffZZZ", "AAA\x80", "A=",   "Zg=",  "Z*"};
    static const char *const bad_std[] = {
        "A",    "AA",   "AAA",  "A===",     "====",  "=",     "AA=A",
        "-_AA", "Zh==", "Zm9=", "AA==AAAA", "AAA\n", "Zg==\n"};
    char out[16];
    for (size_t i = 0; i < sizeof bad_url / sizeof *bad_url; i++)
        assert_int_equal(b64url_decode(out, sizeof out, bad_url[i], strlen(bad_url[i])), -1);
    for (size_t i = 0; i < sizeof bad_std / sizeof *bad_std; i++)
        assert_int_equal(b64_decode(out, sizeof out, bad_std[i], strlen(bad_std[i])), -1);
    assert_int_equal(b64url_decode(out, 2, "Zm9v", 4), -1); /* does not fit */
    assert_int_equal(b64url_decode(out, 3, "Zm9v", 4), 3);
    assert_int_equal(b64url_decode(out, sizeof out, "Zm\0v", 4), -1);
}

static void test_codecs_round_trip(void **state)
{
    uint8_t in[300], back[300];
    char text[700];
    for (size_t i = 0; i < sizeof in; i++)
        in[i] = (uint8_t)(i * 167 + i / 256);
    for (size_t n = 0; n <= sizeof in; n++) {
        size_t m = b64url_encode(text, in, n);
        assert_int_equal(m, B64URL_LEN(n));
        assert_int_equal(strlen(text), m);
        assert_int_equal(b64url_decode(back, n, text, m), n);
        assert_memory_equal(in, back, n);
        m = b64_encode(text, in, n);
        assert_int_equal(b64_decode(back, n, text, m), n);
        assert_memory_equal(in, back, n);
        m = hex_encode(text, in, n);
        assert_int_equal(m, HEX_LEN(n));
        assert_int_equal(hex_decode(back, n, text, m), n);
        assert_memory_equal(in, back, n);
    }
}

static void test_hex(void **state)
{
    uint8_t out[4];
    assert_int_equal(hex_decode(out, 4, "00fFAb", 6), 3);
    assert_memory_equal(out, "\x00\xff\xab", 3);
    assert_int_equal(hex_decode(out, 4, "0", 1), -1);
    assert_int_equal(hex_decode(out, 4, "0g", 2), -1);
    assert_int_equal(hex_decode(out, 4,
                                "\xff"
                                "0",
                                2),
                     -1);
    assert_int_equal(hex_decode(out, 1, "0011", 4), -1);
    struct buf b;
    buf_init(&b, 4);
    buf_hex(&b, "\x01\xfe", 2);
    assert_string_equal(buf_cstr(&b), "01fe");
    buf_free(&b);
}

static void test_equal(void **state)
{
    struct bytes none = {NULL, 0}, ab = {(const uint8_t *)"ab", 2};
    assert_true(bytes_eq(none, NULL, 0));
    assert_true(bytes_eq(ab, "ab", 2));
    assert_false(bytes_eq(ab, "abc", 3));
    assert_false(bytes_eq_str(ab, "ax"));
    assert_true(bytes_ct_eq("abc", "abc", 3));
    assert_false(bytes_ct_eq("abc", "abd", 3));
    assert_true(bytes_ct_eq(NULL, NULL, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cursor_reads),
        cmocka_unit_test(test_cursor_stays_failed),
        cmocka_unit_test(test_cursor_vectors),
        cmocka_unit_test(test_buffer_writes),
        cmocka_unit_test(test_buffer_limits),
        cmocka_unit_test(test_base64_vectors),
        cmocka_unit_test(test_base64_refuses),
        cmocka_unit_test(test_codecs_round_trip),
        cmocka_unit_test(test_hex),
        cmocka_unit_test(test_equal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
