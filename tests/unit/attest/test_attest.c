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

static int verify_text(const char *text, struct attest_result *r, struct err *e)
{
    memset(e, 0, sizeof *e);
    json_t *cmw = json_loads(text, JSON_DECODE_ANY, NULL);
    assert_non_null(cmw);
    int rc = attest_verify(r, cmw, digest, NULL, "example.org", 1000, salt, e);
    json_decref(cmw);
    return rc;
}

static void refused(const char *text, const char *rule)
{
    struct attest_result r;
    struct err e;
    assert_int_equal(verify_text(text, &r, &e), -1);
    assert_string_equal(e.rule, rule);
    assert_int_equal(e.code, ERR_BAD_EVIDENCE);
    assert_int_equal(r.selectors_count, 0);
}

static void test_records(void **state)
{
    refused("{}", "evidence-format");
    refused("[]", "evidence-format");
    refused("[\"" ATTEST_MEDIA_JOIN_TOKEN "\"]", "evidence-format");
    refused("[\"" ATTEST_MEDIA_JOIN_TOKEN "\",\"e30\",1]", "evidence-format");
    refused("[1,\"e30\"]", "evidence-format");
    refused("[\"" ATTEST_MEDIA_JOIN_TOKEN "\",7]", "evidence-format");
    refused("[\"application/x\",\"e30\"]", "evidence-kind");
    refused("[\"\",\"e30\"]", "evidence-kind");
    refused("[\"" ATTEST_MEDIA_JOIN_TOKEN "x\",\"e30\"]", "evidence-kind");
    refused("[\"" ATTEST_MEDIA_JOIN_TOKEN "\",\"e30=\"]", "evidence-format");
    refused("[\"" ATTEST_MEDIA_JOIN_TOKEN "\",\"e3\\n0\"]", "evidence-format");
    refused("[\"" ATTEST_MEDIA_JOIN_TOKEN "\",\"\"]", "evidence-format");
    refused("[\"" ATTEST_MEDIA_JOIN_TOKEN "\",\"e30\"]", "evidence-format");
    refused("[\"" ATTEST_MEDIA_X509POP "\",\"e30\"]", "evidence-format");
    refused("[\"" ATTEST_MEDIA_X509POP "\",\"W10\"]", "evidence-format"); /* an array */
}

static void test_oversize(void **state)
{
    size_t n = B64URL_LEN(ATTEST_EVIDENCE_MAX) + 4;
    char *text = malloc(n + 128);
    int at = sprintf(text, "[\"" ATTEST_MEDIA_JOIN_TOKEN "\",\"");
    memset(text + at, 'A', n);
    strcpy(text + at + n, "\"]");
    refused(text, "evidence-size");
    free(text);
}

static void test_names(void **state)
{
    assert_string_equal(attest_kind_name(ATTEST_JOIN_TOKEN), "join_token");
    assert_string_equal(attest_kind_name(ATTEST_X509POP), "x509pop");
    assert_string_equal(attest_kind_name((enum attest_kind)77), "unknown");
    assert_string_equal(attest_kind_name(ATTEST_AGENT), "agent");
    assert_int_equal(attest_media_types_count, 3);
    assert_string_equal(attest_media_types[2], ATTEST_MEDIA_AGENT);
}

static void test_key_authorization(void **state)
{
    uint8_t got[32], want[32];
    assert_int_equal(attest_key_authorization(got, "token", "thumb"), 0);
    SHA256((const uint8_t *)"token.thumb", 11, want);
    assert_memory_equal(got, want, 32);
    /* However long it is: never a digest that others have, too. */
    char longer[2007];
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = 0;
    memcpy(longer + 2000, ".thumb", 7);
    SHA256((const uint8_t *)longer, 2006, want);
    longer[2000] = 0;
    assert_int_equal(attest_key_authorization(got, longer, "thumb"), 0);
    assert_memory_equal(got, want, 32);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_records),
        cmocka_unit_test(test_oversize),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_key_authorization),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
