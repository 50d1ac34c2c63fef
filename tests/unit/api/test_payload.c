#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "api/admin_json.h"
#include "api/payload.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define URI "{\"type\":\"uri\",\"value\":\"spiffe://test.example/web\"}"

typedef int parse_fn(struct payload_order *, const void *, size_t, struct err *);

static void refuse(parse_fn *parse, const char *json, enum err_code code)
{
    struct payload_order p = {0};
    struct err e = {0};
    if (parse(&p, json, strlen(json), &e) != -1 || e.code != code)
        fail_msg("%s: code %d (%s), not %d", json, e.code, e.msg, code);
    assert_true(*e.rule && *e.msg);
    payload_order_free(&p);
}

static void test_order(void **state)
{
    static const char json[] =
        "{\"identifiers\":[{\"type\":\"remote-attestation\",\"value\":\"x\"}," URI
        ",{\"type\":\"dns\",\"value\":\"web.test.example\"}],\"csr\":\"MAA\",\"evidence\":[\"a/b\",\"AA\"],\"other\":1}";
    struct payload_order p = {0};
    struct err e = {0};
    for (int i = 0; i < 2; i++) { /* memory is reused */
        assert_int_equal(payload_order_parse(&p, json, sizeof json - 1, &e), 0);
        assert_int_equal(p.identifiers_count, 2);
        assert_string_equal(p.identifiers[0].type, "uri");
        assert_string_equal(p.identifiers[0].value, "spiffe://test.example/web");
        assert_string_equal(p.identifiers[1].value, "web.test.example");
        assert_int_equal(p.csr.len, 2);
        assert_string_equal(json_string_value(json_array_get(p.evidence, 0)), "a/b");
        payload_order_reset(&p);
        assert_int_equal(p.csr.len, 0);
    }
    static const char plain[] = "{\"identifiers\":[" URI "]}";
    assert_int_equal(payload_order_parse(&p, plain, sizeof plain - 1, &e), 0);
    assert_int_equal(p.csr.len, 0);
    assert_null(p.evidence);
    payload_order_free(&p);
}

static void test_order_refused(void **state)
{
    static const struct {
        const char *json;
        enum err_code code;
    } cases[] = {
        {"", ERR_MALFORMED},
        {"[]", ERR_MALFORMED},
        {"{}", ERR_MALFORMED},
        {"{\"identifiers\":{}}", ERR_MALFORMED},
        {"{\"identifiers\":[]}", ERR_MALFORMED},
        {"{\"identifiers\":[1]}", ERR_MALFORMED},
        {"{\"identifiers\":[{\"type\":\"uri\"}]}", ERR_MALFORMED},
        {"{\"identifiers\":[{\"type\":\"uri\",\"value\":7}]}", ERR_MALFORMED},
        {"{\"identifiers\":[{\"type\":\"ip\",\"value\":\"127.0.0.1\"}]}", ERR_UNSUPPORTED_ID},
        {"{\"identifiers\":[{\"type\":\"remote-attestation\",\"value\":\"x\"}]}", ERR_REJECTED_ID},
        {"{\"identifiers\":[" URI "],\"notAfter\":\"2030-01-01T00:00:00Z\"}", ERR_MALFORMED},
        {"{\"identifiers\":[" URI "],\"csr\":\"MAA=\"}", ERR_BAD_CSR},
        {"{\"identifiers\":[" URI "],\"csr\":\"\"}", ERR_BAD_CSR},
        {"{\"identifiers\":[" URI "],\"csr\":4}", ERR_MALFORMED},
        {"{\"identifiers\":[" URI "],\"csr\":\"MAA\",\"evidence\":{}}", ERR_MALFORMED},
        {"{\"identifiers\":[" URI "],\"csr\":\"MAA\",\"evidence\":[\"a\"]}", ERR_MALFORMED},
        {"{\"identifiers\":[" URI "],\"evidence\":[\"a\",\"b\"]}", ERR_MALFORMED},
        {"{\"identifiers\":[" URI "],\"identifiers\":[" URI "]}", ERR_MALFORMED},
        {"{\"identifiers\":[" URI "]} ,", ERR_MALFORMED},
        {"{\"identifiers\":[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]}", ERR_MALFORMED},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        refuse(payload_order_parse, cases[i].json, cases[i].code);
}

static void test_order_bounds(void **state)
{
    struct buf b;
    buf_init(&b, 65536);
    buf_str(&b, "{\"identifiers\":[{\"type\":\"uri\",\"value\":\"");
    for (int i = 0; i < 2049; i++)
        buf_u8(&b, 'a');
    buf_str(&b, "\"}]}");
    refuse(payload_order_parse, buf_cstr(&b), ERR_MALFORMED);
    buf_reset(&b);
    buf_str(&b, "{\"identifiers\":[");
    for (int i = 0; i <= RA_IDENTIFIERS_MAX; i++)
        buf_str(&b, i ? "," URI : URI);
    buf_str(&b, "]}");
    refuse(payload_order_parse, buf_cstr(&b), ERR_MALFORMED);
    buf_reset(&b);
    buf_str(&b, "{\"csr\":\"");
    for (int i = 0; i < PAYLOAD_CSR_MAX / 3 * 4 + 8; i++)
        buf_u8(&b, 'A');
    buf_str(&b, "\"}");
    refuse(payload_finalize_parse, buf_cstr(&b), ERR_BAD_CSR);
    buf_free(&b);
}

static void test_others(void **state)
{
    struct payload_order p = {0};
    struct payload_account a = {0};
    struct err e = {0};
    refuse(payload_finalize_parse, "{}", ERR_MALFORMED);
    refuse(payload_evidence_parse, "{}", ERR_MALFORMED);
    refuse(payload_evidence_parse, "[\"a\",\"b\",\"c\"]", ERR_MALFORMED);
    refuse(payload_evidence_parse, "{\"evidence\":[\"a\",\"b\"]}", ERR_MALFORMED);
    assert_int_equal(payload_evidence_parse(&p, "[\"a\",\"b\"]", 9, &e), 0);
    payload_order_free(&p);
    assert_int_equal(payload_authz_parse("{\"status\":\"deactivated\"}", 24, &e), 0);
    assert_int_equal(payload_authz_parse("{\"status\":\"valid\"}", 18, &e), -1);
    assert_int_equal(payload_authz_parse("{}", 2, &e), -1);
    assert_int_equal(payload_account_parse(&a, "{\"onlyReturnExisting\":true}", 27, &e), 0);
    assert_true(a.only_return_existing && !a.deactivate);
    assert_int_equal(payload_account_parse(&a, "{\"onlyReturnExisting\":1}", 24, &e), -1);
}

/* RFC 8555 §7.3.2: of an account's status only deactivation is taken, all else ignored. */
static void test_account_status(void **state)
{
    static const char *const ignored[] = {"{\"status\":\"valid\"}", "{\"status\":\"revoked\"}", "{\"status\":1}", "{}"};
    struct payload_account a = {0};
    struct err e = {0};
    for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++) {
        assert_int_equal(payload_account_parse(&a, ignored[i], strlen(ignored[i]), &e), 0);
        assert_false(a.deactivate);
    }
    assert_int_equal(payload_account_parse(&a, "{\"status\":\"deactivated\"}", 24, &e), 0);
    assert_true(a.deactivate);
}

/* A join token does not stay in memory that is given back: neither of a request that was understood,
 * nor of one that was refused. */
static void test_evidence_wiped(void **state)
{
    static const struct {
        parse_fn *parse;
        const char *json;
        int rc;
    } cases[] = {
        {payload_order_parse, "{\"identifiers\":[" URI "],\"csr\":\"MAA\",\"evidence\":[\"a/b\",\"c2VjcmV0\"]}", 0},
        {payload_order_parse, "{\"identifiers\":[],\"csr\":\"MAA\",\"evidence\":[\"a/b\",\"c2VjcmV0\"]}", -1},
        {payload_evidence_parse, "[\"a/b\",\"c2VjcmV0\"]", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        static const char zeros[8];
        struct payload_order p = {0};
        struct err e = {0};
        assert_int_equal(cases[i].parse(&p, cases[i].json, strlen(cases[i].json), &e), cases[i].rc);
        json_t *secret = json_incref(json_array_get(p.evidence, 1));
        assert_string_equal(json_string_value(secret), "c2VjcmV0");
        payload_order_free(&p);
        assert_memory_equal(json_string_value(secret), zeros, 8);
        json_decref(secret);
    }
}

static void test_contacts(void **state)
{
    static const struct {
        const char *json, *rule; /* NULL: fine */
    } cases[] = {
        {"{\"contact\":[]}", NULL},
        {"{\"contact\":[\"mailto:a@b.example\"]}", NULL},
        {"{\"contact\":[\"tel:123\"]}", "contact-unsupported"},
        {"{\"contact\":[\"mailto:\"]}", "contact-invalid"},
        {"{\"contact\":[\"mailto:a\"]}", "contact-invalid"},
        {"{\"contact\":[\"mailto:@b\"]}", "contact-invalid"},
        {"{\"contact\":[\"mailto:a@b,c@d\"]}", "contact-invalid"},
        {"{\"contact\":[\"mailto:a@b?subject=x\"]}", "contact-invalid"},
        {"{\"contact\":[1]}", "contact-invalid"},
        {"{\"contact\":\"mailto:a@b\"}", "contact-invalid"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct payload_account a = {0};
        struct err e = {0};
        int rc = payload_account_parse(&a, cases[i].json, strlen(cases[i].json), &e);
        assert_int_equal(rc, cases[i].rule ? -1 : 0);
        assert_string_equal(e.rule, cases[i].rule ? cases[i].rule : "");
    }
}

static void test_admin_entry(void **state)
{
    static const char json[] = "{\"spiffe_id\":\"spiffe://a/b\",\"selectors\":[\"x:y\"],\"dns\":[\"b.a\"],\"ttl\":60,\"revision\":2,"
                               "\"hint\":\"internal\"}",
                      plain[] = "{\"spiffe_id\":\"a\",\"hint\":\"\"}";
    static const char *const bad[] = {
        "{\"spiffe_id\":\"a\",\"hint\":1}", "{\"spiffe_id\":\"a\",\"hint\":null}",
        "", "[]", "{}", "{\"spiffe_id\":1}", "{\"spiffe_id\":\"\"}", "{\"spiffe_id\":\"a\",\"ttl\":-1}",
        "{\"spiffe_id\":\"a\",\"ttl\":1.5}", "{\"spiffe_id\":\"a\",\"ttl\":\"5m\"}", "{\"spiffe_id\":\"a\",\"ttl\":99999999999}",
        "{\"spiffe_id\":\"a\",\"selectors\":\"x\"}", "{\"spiffe_id\":\"a\",\"selectors\":[1]}",
        "{\"spiffe_id\":\"a\",\"selectors\":[\"\"]}", "{\"spiffe_id\":\"a\",\"selector\":[\"x:y\"]}",
        "{\"spiffe_id\":\"a\",\"dns\":[\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\",\"9\",\"a\",\"b\",\"c\",\"d\",\"e\",\"f\",\"g\",\"h\"]}"};
    struct admin_entry a = {0};
    struct err e = {0};
    assert_int_equal(admin_entry_parse(&a, json, sizeof json - 1, &e), 0);
    assert_string_equal(a.entry.spiffe_id, "spiffe://a/b");
    assert_null(a.entry.parent);
    assert_int_equal(a.entry.ttl, 60);
    assert_int_equal(a.entry.revision, 2);
    assert_string_equal(a.entry.selectors[0], "x:y");
    assert_string_equal(a.entry.dns[0], "b.a");
    struct buf b;
    buf_init(&b, 65536);
    admin_entry_write(&b, &a.entry);
    json_t *doc = json_parse(b.p, b.len, 65536, &e);
    assert_non_null(doc);
    assert_int_equal(json_integer_value(json_object_get(doc, "ttl")), 60);
    assert_string_equal(json_string_value(json_array_get(json_object_get(doc, "dns"), 0)), "b.a");
    assert_string_equal(json_string_value(json_object_get(doc, "hint")), "internal");
    json_decref(doc);
    buf_free(&b);
    admin_entry_free(&a);
    assert_int_equal(admin_entry_parse(&a, plain, sizeof plain - 1, &e), 0); /* as `mayfly entry update` sends what it read */
    assert_string_equal(a.entry.hint, "");
    admin_entry_free(&a);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        e = (struct err){0};
        if (admin_entry_parse(&a, bad[i], strlen(bad[i]), &e) != -1 || e.code != ERR_MALFORMED)
            fail_msg("%s: %s", bad[i], e.msg);
        admin_entry_free(&a);
    }
}

static void test_admin_token(void **state)
{
    static const char json[] = "{\"spiffe_id\":\"spiffe://a/b\",\"selectors\":[\"x:y\"],\"lifetime\":60}";
    static const char *const bad[] = {"", "{}", "{\"lifetime\":5}", "{\"spiffe_id\":\"a\",\"ttl\":5}", "{\"selectors\":[]}",
                                      "{\"spiffe_id\":\"a\",\"lifetime\":true}"};
    struct admin_token t = {0};
    struct err e = {0};
    assert_int_equal(admin_token_parse(&t, json, sizeof json - 1, &e), 0);
    assert_string_equal(t.request.spiffe_id, "spiffe://a/b");
    assert_string_equal(t.request.selectors[0], "x:y");
    assert_int_equal(t.request.lifetime, 60);
    admin_token_free(&t);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        e = (struct err){0};
        assert_int_equal(admin_token_parse(&t, bad[i], strlen(bad[i]), &e), -1);
        assert_int_equal(e.code, ERR_MALFORMED);
        admin_token_free(&t);
    }
}

static void test_revoke(void **state)
{
    static struct payload_revoke p;
    static const char *const bad[] = {"", "[]", "{}", "{\"certificate\":1}", "{\"certificate\":\"\"}", "{\"certificate\":\"A\"}",
                                      "{\"certificate\":\"MAA=\"}"};
    static const char *const no_reason[] = {"7", "8", "11", "-1", "\"1\"", "1.0", "null", "true", "[]"};
    struct err e = {0};
    char json[200];
    static const char good[] = "{\"certificate\":\"MAA\",\"more\":1}";
    assert_int_equal(payload_revoke_parse(&p, good, sizeof good - 1, &e), 0);
    assert_int_equal(p.cert_len, 2);
    assert_int_equal(p.reason, 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(payload_revoke_parse(&p, bad[i], strlen(bad[i]), &e), -1);
        assert_int_equal(e.code, ERR_MALFORMED);
    }
    for (size_t i = 0; i < sizeof no_reason / sizeof *no_reason; i++) {
        int n = snprintf(json, sizeof json, "{\"certificate\":\"MAA\",\"reason\":%s}", no_reason[i]);
        assert_int_equal(payload_revoke_parse(&p, json, (size_t)n, &e), -1);
        assert_string_equal(e.rule, "revocation-reason");
    }
    char *large = malloc(2 * PAYLOAD_CERT_MAX);
    int n = snprintf(large, 100, "{\"certificate\":\"");
    memset(large + n, 'A', B64URL_LEN(PAYLOAD_CERT_MAX + 3));
    n += B64URL_LEN(PAYLOAD_CERT_MAX + 3);
    n += snprintf(large + n, 10, "\"}");
    assert_int_equal(payload_revoke_parse(&p, large, (size_t)n, &e), -1);
    free(large);
}

static void revocation_is(const char *json, enum tlog_revoked_by by, const char *value, unsigned reason)
{
    struct admin_revocation a = {0};
    struct err e = {0};
    if (admin_revocation_parse(&a, json, strlen(json), &e) < 0)
        fail_msg("%s: %s", json, e.msg);
    assert_int_equal(a.want.by, by);
    assert_string_equal(a.want.value, value);
    assert_int_equal(a.want.reason, reason);
    admin_revocation_free(&a);
}

static void test_admin_revocation(void **state)
{
    static const char *const bad[] = {"{\"by\":\"id\",\"value\":\"x\"}", "{\"by\":\"key\"}", "{\"value\":\"x\"}",
                                      "{\"by\":\"key\",\"value\":\"x\",\"reason\":\"removeFromCRL\"}",
                                      "{\"by\":\"key\",\"value\":\"x\",\"reason\":7}", "{\"by\":\"key\",\"value\":\"x\",\"a\":1}",
                                      "{\"by\":\"key\",\"value\":\"x\",\"comment\":\"\"}"};
    revocation_is("{\"by\":\"serial\",\"value\":\"00:01:AB:cd\"}", TLOG_BY_SERIAL, "1abcd", 0);
    revocation_is("{\"by\":\"serial\",\"value\":\"000\",\"reason\":\"superseded\"}", TLOG_BY_SERIAL, "0", 4);
    revocation_is("{\"by\":\"key\",\"value\":\"00:AB\",\"reason\":10}", TLOG_BY_KEY, "00ab", 10);
    revocation_is("{\"by\":\"spiffe_id\",\"value\":\"spiffe://A:1\",\"reason\":\"KEYCOMPROMISE\"}", TLOG_BY_ID, "spiffe://A:1", 1);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct admin_revocation a = {0};
        struct err e = {0};
        assert_int_equal(admin_revocation_parse(&a, bad[i], strlen(bad[i]), &e), -1);
        assert_int_equal(e.code, ERR_MALFORMED);
        admin_revocation_free(&a);
    }
}

static int jwt(struct payload_jwt *j, const char *text, struct err *e)
{
    static struct payload_order p;
    payload_order_free(&p); /* what the case before left, to be looked at */
    return payload_jwt_parse(&p, j, text, strlen(text), e);
}

static void test_jwt(void **state)
{
    static const char *const bad[] = {
        "[]", "{}", "{\"spiffe_id\":1,\"audience\":[\"a\"]}", "{\"audience\":[\"a\"]}", "{\"spiffe_id\":\"s\"}",
        "{\"spiffe_id\":\"s\",\"audience\":\"a\"}", "{\"spiffe_id\":\"s\",\"audience\":[1]}",
        "{\"spiffe_id\":\"s\",\"audience\":[\"a\"],\"ttl\":0}", "{\"spiffe_id\":\"s\",\"audience\":[\"a\"],\"ttl\":-1}",
        "{\"spiffe_id\":\"s\",\"audience\":[\"a\"],\"ttl\":\"1\"}", "{\"spiffe_id\":\"s\",\"audience\":[\"a\"],\"evidence\":{}}",
        "{\"spiffe_id\":\"s\",\"audience\":[\"a\\u0000b\"]}",
        ("{\"spiffe_id\":\"s\",\"audience\":[\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\",\"9\",\"10\",\"11\",\"12\",\"13\","
        "\"14\",\"15\",\"16\",\"17\"]}")};
    struct payload_jwt j;
    struct err e = {0};
    assert_int_equal(jwt(&j, "{\"spiffe_id\":\"s\",\"audience\":[\"a\",\"b\"],\"ttl\":60,\"evidence\":[\"a\",\"b\"]}", &e), 0);
    assert_string_equal(j.spiffe_id, "s");
    assert_int_equal(j.audiences_count, 2);
    assert_string_equal(j.audiences[1], "b");
    assert_int_equal(j.ttl, 60);
    assert_int_equal(jwt(&j, "{\"spiffe_id\":\"s\",\"audience\":[],\"ttl\":9223372036854775807}", &e), 0);
    assert_int_equal(j.audiences_count, 0); /* ra/ says what that means */
    assert_int_equal(j.ttl, PAYLOAD_TTL_MAX);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(jwt(&j, bad[i], &e), -1);
        assert_int_equal(e.code, ERR_MALFORMED);
    }
    jwt(&j, "{}", &e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),  cmocka_unit_test(test_order_refused), cmocka_unit_test(test_order_bounds),
        cmocka_unit_test(test_others), cmocka_unit_test(test_contacts),      cmocka_unit_test(test_admin_entry),
        cmocka_unit_test(test_admin_token),    cmocka_unit_test(test_account_status), cmocka_unit_test(test_evidence_wiped),
        cmocka_unit_test(test_revoke), cmocka_unit_test(test_admin_revocation), cmocka_unit_test(test_jwt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
