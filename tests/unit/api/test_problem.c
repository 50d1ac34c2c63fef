#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "api/problem.h"
#include <string.h>

/* RFC 8555 §6.7, and draft-ietf-acme-device-attest. */
static const char *const types[] = {
    "accountDoesNotExist", "badAttestationStatement", "badCSR", "badNonce", "badPublicKey", "badSignatureAlgorithm",
    "invalidContact", "malformed", "orderNotReady", "rateLimited", "rejectedIdentifier", "serverInternal",
    "unauthorized", "unsupportedContact", "unsupportedIdentifier"};

static json_t *document(enum err_code code, const char *rule, const char *msg, bool acme)
{
    struct err e = {0}, pe = {0};
    struct buf b;
    buf_init(&b, 4096);
    err_set(&e, code, "x", "%s", msg);
    memset(e.rule, 0, sizeof e.rule);
    memcpy(e.rule, rule, strlen(rule));
    problem_write(&b, &e, acme);
    json_t *doc = json_parse(b.p, b.len, 4096, &pe);
    buf_free(&b);
    assert_non_null(doc);
    return doc;
}

static void test_every_code(void **state)
{
    static const char prefix[] = "urn:ietf:params:acme:error:";
    for (int code = 0; code < ERR_CODES; code++) {
        struct err e = {.code = (enum err_code)code};
        struct problem p = problem_of(&e);
        bool known = false;
        assert_in_range(p.status, 400, 599);
        assert_true(p.status != 503 || p.retry_after > 0);
        assert_true(p.status != 429 || p.retry_after > 0);
        for (size_t i = 0; i < sizeof types / sizeof *types; i++)
            known |= strcmp(types[i], p.type) == 0;
        assert_true(known);
        json_t *doc = document((enum err_code)code, "some-rule", "why \"so\"\n", true);
        const char *type = json_string_value(json_object_get(doc, "type"));
        assert_int_equal(strncmp(type, prefix, sizeof prefix - 1), 0);
        assert_string_equal(type + sizeof prefix - 1, p.type);
        assert_int_equal(json_integer_value(json_object_get(doc, "status")), p.status);
        assert_string_equal(json_string_value(json_object_get(doc, "rule")), "some-rule");
        const char *detail = json_string_value(json_object_get(doc, "detail"));
        assert_true(p.internal == (strcmp(detail, "why \"so\"\n") != 0));
        json_decref(doc);
        doc = document((enum err_code)code, "some-rule", "why", false);
        assert_string_equal(json_string_value(json_object_get(doc, "detail")), "why");
        json_decref(doc);
    }
}

static void test_rules(void **state)
{
    static const struct {
        enum err_code code;
        const char *rule;
        unsigned status;
        const char *type;
    } cases[] = {
        {ERR_MALFORMED, "content-type", 415, "malformed"},
        {ERR_MALFORMED, "method", 405, "malformed"},
        {ERR_UNAUTHORIZED, "jws-url", 401, "unauthorized"},
        {ERR_UNAUTHORIZED, "signature", 401, "unauthorized"},
        {ERR_UNAUTHORIZED, "other", 403, "unauthorized"},
        {ERR_MALFORMED, "contact-unsupported", 400, "unsupportedContact"},
        {ERR_MALFORMED, "contact-invalid", 400, "invalidContact"},
        {ERR_INTERNAL, "signature", 500, "serverInternal"}, /* a rule never hides that it is our fault */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err e = {.code = cases[i].code};
        memcpy(e.rule, cases[i].rule, strlen(cases[i].rule) + 1);
        struct problem p = problem_of(&e);
        assert_int_equal(p.status, cases[i].status);
        assert_string_equal(p.type, cases[i].type);
    }
}

/* Where the store lies is the operator's business: in the log and the admin's answer, not the client's. */
static void test_hidden(void **state)
{
    static const char *const rules[] = {"store-disk", "store-io"};
    static const char msg[] = "cannot write in /srv/mayfly.db";
    for (size_t i = 0; i < 2; i++) {
        json_t *doc = document(ERR_UNAVAILABLE, rules[i], msg, true);
        assert_null(strstr(json_string_value(json_object_get(doc, "detail")), "/srv"));
        assert_int_equal(json_integer_value(json_object_get(doc, "status")), 503);
        json_decref(doc);
        doc = document(ERR_UNAVAILABLE, rules[i], msg, false);
        assert_string_equal(json_string_value(json_object_get(doc, "detail")), msg);
        json_decref(doc);
    }
}

static void test_algorithms(void **state)
{
    json_t *doc = document(ERR_BAD_SIG_ALG, "jws-alg", "no", true);
    assert_int_equal(json_array_size(json_object_get(doc, "algorithms")), 4);
    json_decref(doc);
    doc = document(ERR_MALFORMED, "", "no", true);
    assert_null(json_object_get(doc, "algorithms"));
    assert_null(json_object_get(doc, "rule"));
    json_decref(doc);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_code),
        cmocka_unit_test(test_rules),
        cmocka_unit_test(test_hidden),
        cmocka_unit_test(test_algorithms),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
