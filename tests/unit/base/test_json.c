#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include "base/json.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static json_t *parse_n(const char *s, size_t n, struct err *e)
{
    char *exact = malloc(n ? n : 1); /* so that a read past the end is seen */
    if (n)
        memcpy(exact, s, n);
    err_clear(e);
    json_t *v = json_parse(exact, n, 1000, e);
    free(exact);
    return v;
}

static json_t *parse(const char *s)
{
    struct err e;
    json_t *v = parse_n(s, strlen(s), &e);
    if (!v)
        fail_msg("%s refused: %s", s, e.msg);
    return v;
}

static void refused_n(const char *s, size_t n, const char *rule)
{
    struct err e;
    json_t *v = parse_n(s, n, &e);
    if (v)
        fail_msg("accepted: %s", s);
    assert_int_equal(e.code, ERR_MALFORMED);
    assert_string_equal(e.rule, rule);
    assert_true(e.msg[0]);
}

static void refused(const char *s)
{
    refused_n(s, strlen(s), "json-syntax");
}

static void test_values(void **state)
{
    struct err e;
    json_t *v = parse(" {\"s\":\"a b\",\"i\":-12,\"z\":0,\"r\":1.5e2,\"t\":true,\"f\":false,\"n\":null,"
                      "\"a\":[1,[2,{}],[]],\"\":{}} \n");
    assert_string_equal(json_want_str(v, "s", &e), "a b");
    assert_int_equal(json_integer_value(json_object_get(v, "i")), -12);
    assert_true(json_is_integer(json_object_get(v, "z")));
    assert_true(fabs(json_real_value(json_object_get(v, "r")) - 150.0) < 1e-9);
    assert_true(json_is_true(json_object_get(v, "t")));
    assert_true(json_is_false(json_object_get(v, "f")));
    assert_true(json_is_null(json_object_get(v, "n")));
    assert_int_equal(json_array_size(json_object_get(v, "a")), 3);
    assert_int_equal(json_object_size(v), 9);
    assert_null(json_maybe_str(v, "i"));
    assert_null(json_maybe_str(v, "absent"));
    assert_null(json_want_str(v, "i", &e));
    assert_int_equal(e.code, ERR_MALFORMED);
    assert_string_equal(e.rule, "json-member");
    json_decref(v);
    v = parse("[9223372036854775807,-9223372036854775808]");
    assert_true(json_integer_value(json_array_get(v, 0)) == INT64_MAX);
    json_decref(v);
}

static void test_strings(void **state)
{
    json_t *v = parse("[\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\\u00e9\\u20ac\\ud83d\\ude00\",\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"]");
    assert_string_equal(json_string_value(json_array_get(v, 0)),
                        "\"\\/\b\f\n\r\tA\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80");
    assert_string_equal(json_string_value(json_array_get(v, 1)), "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80");
    json_decref(v);
    v = parse("{\"\\u0061b\":\"0123456789abcdef\x7f\"}");
    assert_string_equal(json_string_value(json_object_get(v, "ab")), "0123456789abcdef\x7f");
    json_decref(v);
}

static void test_bad_strings(void **state)
{
    static const char *const bad[] = {
        "[\"a", "[\"a\\", "[\"\\\"", "[\"\\x\"]", "[\"\\u12\"]", "[\"\\u12g4\"]", "[\"\\u0000\"]",
        "[\"\\ud800\"]", "[\"\\ud800x\"]", "[\"\\ud800\\n\"]", "[\"\\ud800\\u0041\"]", "[\"\\udc00\"]",
        "[\"\xc0\x80\"]", "[\"\xe0\x80\x80\"]", "[\"\xed\xa0\x80\"]", "[\"\xf4\x90\x80\x80\"]",
        "[\"\xf5\x80\x80\x80\"]", "[\"\x80\"]", "[\"\xc3\"]", "[\"\xe2\x82\"]", "[\"tab\there\"]",
        "[\"1234567\n12345678\"]", "['a']", "[\"\xff\"]", "[\"\\u123", "[\"\\ud800\\u12",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        refused(bad[i]);
    refused_n("[\"a\0b\"]", 7, "json-syntax");
    refused_n("{\"a\0\":1}", 8, "json-syntax");
}

static void test_bad_syntax(void **state)
{
    static const char *const bad[] = {
        "", " ", "1", "\"a\"", "null", "{", "[", "}", "[1", "[1,", "[1,]", "[,1]", "[1 2]", "{\"a\"}",
        "{\"a\":}", "{\"a\":1,}", "{a:1}", "{1:1}", "{\"a\" 1}", "{\"a\":1 \"b\":2}", "[1]]", "[1}",
        "{} {}", "[] x", "[01]", "[-]", "[+1]", "[.5]", "[1.]", "[1e]", "[1e+]", "[0x10]", "[nul]",
        "[truex]", "[NaN]", "[Infinity]", "[9223372036854775808]", "[1e999]", "[1]//", "\xef\xbb\xbf[]",
        "{\"a\":1,\"a\":1}", "{\"a\":1,\"\\u0061\":2}", "[{\"x\":{\"k\":1,\"j\":2,\"k\":3}}]",
        "[0.00000000000000000000000000000000000000000000000000000000000000000001]",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        refused(bad[i]);
    refused_n("[]\0", 3, "json-syntax");
    refused_n("[5.2\0]", 6, "json-syntax"); /* jansson's own reader takes this */
    refused_n(NULL, 0, "json-syntax");
}

static void test_limits(void **state)
{
    char text[1100];
    memset(text, '[', 100);
    memset(text + JSON_DEPTH_MAX, ']', JSON_DEPTH_MAX);
    text[2 * JSON_DEPTH_MAX] = 0;
    json_decref(parse(text));
    memset(text + JSON_DEPTH_MAX, '[', 1);
    refused_n(text, 2 * JSON_DEPTH_MAX, "json-depth");
    memset(text, '[', 1000);
    refused_n(text, 1000, "json-depth");
    refused_n(text, 1001, "json-size");
    /* depth counts what is open, not what was */
    json_decref(parse("[[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[]]"));
}

static void written(const char *in, size_t n, const char *want)
{
    struct buf b;
    buf_init(&b, 1000);
    jw_strn(&b, in, n);
    assert_string_equal(buf_cstr(&b), want);
    buf_free(&b);
}

static void test_write(void **state)
{
    written("plain", 5, "\"plain\"");
    written("", 0, "\"\"");
    written("a\"b\\c\n\x01\x7f", 8, "\"a\\\"b\\\\c\\u000a\\u0001\\u007f\"");
    written("\xc3\xa9\xe2\x82\xac", 5, "\"\xc3\xa9\xe2\x82\xac\"");
    written("x\xffy\xc3", 4, "\"x\\ufffdy\\ufffd\"");
    written("a\0b", 3, "\"a\\ufffdb\""); /* which can be read back, and a NUL could not */
    struct buf b;
    buf_init(&b, 4);
    jw_str(&b, "too long");
    assert_true(b.failed);
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),     cmocka_unit_test(test_strings),
        cmocka_unit_test(test_bad_strings), cmocka_unit_test(test_bad_syntax),
        cmocka_unit_test(test_limits),     cmocka_unit_test(test_write),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
