#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "attest/attest.h"
#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>

static const uint8_t salt[16] = "0123456789abcde";
static const uint8_t digest[32] = "a digest of thirty-two bytes, ok";
static const uint8_t other[32] = "another digest, thirty-two bytes";
static const uint8_t secret[32] = "this secret has thirty-two bytes";

static int verify(const char *cmw_text, size_t len, const uint8_t d[32], struct attest_result *r, struct err *e)
{
    memset(e, 0, sizeof *e);
    json_t *cmw = json_parse(cmw_text, len, 65536, e);
    assert_non_null(cmw);
    int rc = attest_verify(r, cmw, d, NULL, "example.org", 1000, salt, e);
    json_decref(cmw);
    return rc;
}

static void test_both_sides(void **state)
{
    struct buf out;
    struct err e = {0};
    struct attest_result r;
    uint8_t want[32];
    buf_init(&out, 8192);
    assert_int_equal(attest_join_token_collect(&out, secret, digest, &e), 0);
    assert_int_equal(verify((const char *)out.p, out.len, digest, &r, &e), 0);
    assert_int_equal(r.kind, ATTEST_JOIN_TOKEN);
    SHA256(secret, 32, want);
    assert_memory_equal(r.token_hash, want, 32);
    assert_string_equal(r.spiffe_id, "");
    assert_int_equal(r.selectors_count, 0);
    /* The digest is over the salt and exactly the decoded evidence. */
    const char *b64 = strchr((const char *)out.p, ',') + 2;
    uint8_t salted[16 + 512];
    memcpy(salted, salt, 16);
    long n = b64url_decode(salted + 16, 512, b64, strcspn(b64, "\""));
    assert_true(n > 0);
    SHA256(salted, 16 + (size_t)n, want);
    assert_memory_equal(r.evidence_sha256, want, 32);
    attest_result_free(&r);
    /* Bound to this session and its fresh value. */
    assert_int_equal(verify((const char *)out.p, out.len, other, &r, &e), -1);
    assert_string_equal(e.rule, "evidence-binding");
    buf_free(&out);
}

static void refused(const char *json, const char *rule)
{
    struct buf out;
    struct err e;
    struct attest_result r;
    buf_init(&out, 65536);
    buf_str(&out, "[\"" ATTEST_MEDIA_JOIN_TOKEN "\",\"");
    buf_b64url(&out, json, strlen(json));
    buf_str(&out, "\"]");
    assert_int_equal(verify((const char *)out.p, out.len, digest, &r, &e), -1);
    assert_string_equal(e.rule, rule);
    buf_free(&out);
}

#define S43 "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
static void test_bad(void **state)
{
    refused("{\"secret\":\"" S43 "\",\"binding\":\"" S43 "\"}", "evidence-binding");
    refused("{\"secret\":\"" S43 "\"}", "evidence-format");
    refused("{\"secret\":\"" S43 "\",\"binding\":\"" S43 "\",\"x\":1}", "evidence-format");
    refused("{\"secret\":\"" S43 "\",\"binding\":1}", "evidence-format");
    refused("{\"secret\":\"AAAA\",\"binding\":\"" S43 "\"}", "evidence-format");
    refused("{\"secret\":\"" S43 "AAAA\",\"binding\":\"" S43 "\"}", "evidence-format");
    refused("{\"secret\":\"" S43 "\",\"binding\":\"\"}", "evidence-format");
    refused("{\"secret\":\"" S43 "\",\"secret\":\"" S43 "\",\"binding\":\"" S43 "\"}", "evidence-format");
    refused("{\"secret\":\"" S43 "\",\"binding\":\"" S43 "\"} ", "evidence-binding"); /* white space is JSON's */
    refused("{\"secret\":\"" S43 "\",\"binding\":\"" S43 "\"}x", "evidence-format");
}

static void test_text(void **state)
{
    char text[JOIN_TOKEN_TEXT + 1];
    uint8_t s[32], a[32];
    struct err e = {0};
    join_token_write(text, secret, other);
    assert_int_equal(strlen(text), JOIN_TOKEN_TEXT);
    assert_memory_equal(text, "mjt1_", 5);
    assert_int_equal(join_token_parse(text, strlen(text), s, a, &e), 0);
    assert_memory_equal(s, secret, 32);
    assert_memory_equal(a, other, 32);
    assert_int_equal(join_token_parse(text, strlen(text) - 1, s, a, &e), -1);
    assert_string_equal(e.rule, "join-token");
    assert_null(strstr(e.msg, text + 5)); /* a secret is never repeated */
    text[0] = 'M';
    assert_int_equal(join_token_parse(text, strlen(text), s, a, &e), -1);
    text[0] = 'm';
    text[20] = '+';
    assert_int_equal(join_token_parse(text, strlen(text), s, a, &e), -1);
    text[20] = 'A';
    text[JOIN_TOKEN_TEXT - 1] = '_'; /* trailing bits that are not zero */
    assert_int_equal(join_token_parse(text, strlen(text), s, a, &e), -1);
    assert_int_equal(join_token_parse("", 0, s, a, &e), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_both_sides),
        cmocka_unit_test(test_bad),
        cmocka_unit_test(test_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
