/* Addresses and answers: everything here is written by somebody else. */
#include "unit/agent/pki.h"

static struct bytes text(const char *s)
{
    return (struct bytes){(const uint8_t *)s, strlen(s)};
}

static void test_server_url(void **state)
{
    struct err e;
    struct url_server s;
    static const struct {
        const char *in, *origin, *host, *directory;
    } good[] = {
        {"https://localhost:8443", "https://localhost:8443", "localhost",
         "https://localhost:8443/acme/directory"},
        {"HTTPS://LocalHost", "https://localhost:443", "localhost",
         "https://localhost:443/acme/directory"},
        {"https://[::1]:9/", "https://[::1]:9", "::1", "https://[::1]:9/acme/directory"},
        {"https://127.0.0.1/acme/directory", "https://127.0.0.1:443", "127.0.0.1",
         "https://127.0.0.1:443/acme/directory"},
        {"https://h/x/directory/", "https://h:443", "h", "https://h:443/x/directory"},
        {"https://h/prefix//", "https://h:443", "h", "https://h:443/prefix/acme/directory"},
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_done(url_server(&s, good[i].in, &e));
        assert_string_equal(s.origin, good[i].origin);
        assert_string_equal(s.host, good[i].host);
        assert_string_equal(s.directory, good[i].directory);
    }
    static const char *const bad[] = {"",
                                      "http://h",
                                      "h",
                                      "https://",
                                      "https://u:p@h",
                                      "https://u@h/",
                                      "https://h:99999",
                                      "https://h/?a",
                                      "https://h/#a",
                                      "https://h /",
                                      "https://h\r\nX: y",
                                      "file:///etc/passwd",
                                      "https:h",
                                      "https://h:port",
                                      "https://[fe80::1%25eth0]/",
                                      "https://a%da",
                                      "https://%31/",
                                      "https://0x7f%2e1/",
                                      "https://%61",
                                      "https://a%2fb",
                                      "https://a%00b"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_refused(url_server(&s, bad[i], &e), ERR_MALFORMED, "url");
    char longest[URL_MAX + 2];
    memset(longest, 'a', sizeof longest);
    memcpy(longest, "https://h/", 10);
    longest[URL_MAX + 1] = 0;
    assert_refused(url_server(&s, longest, &e), ERR_MALFORMED, "url");
    longest[URL_MAX] = 0; /* with the directory's path it is too long again */
    assert_refused(url_server(&s, longest, &e), ERR_MALFORMED, "url");
}

static void test_origin(void **state)
{
    struct err e;
    struct url_server s;
    assert_done(url_server(&s, "https://h", &e));
    assert_done(url_same_origin(&s, "https://H:443/x", "order", &e));
    static const char *const bad[] = {"https://h:8443/x", "https://g/x", "https://h.evil/",
                                      "https://evil/h"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_refused(url_same_origin(&s, bad[i], "order", &e), ERR_CORRUPT, "url-origin");
    assert_refused(url_same_origin(&s, "http://h/x", "order", &e), ERR_CORRUPT, "url");
    assert_refused(url_same_origin(&s, "https://h@evil/x", "order", &e), ERR_CORRUPT, "url");
}

static void test_directory(void **state)
{
    struct err e;
    struct acme_directory d;
    assert_done(acme_directory_parse(
        &d, text("{\"newNonce\":\"a\",\"newAccount\":\"b\",\"newOrder\":\"c\",\"meta\":{}}"), &e));
    assert_string_equal(d.new_nonce, "a");
    assert_string_equal(d.new_account, "b");
    assert_string_equal(d.new_order, "c");
    static const char *const bad[] = {
        "",
        "[]",
        "{}",
        "<html>",
        "{\"newNonce\":\"a\",\"newAccount\":\"b\"}",
        "{\"newNonce\":1,\"newAccount\":\"b\",\"newOrder\":\"c\"}",
        "{\"newNonce\":\"\",\"newAccount\":\"b\",\"newOrder\":\"c\"}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_refused(acme_directory_parse(&d, text(bad[i]), &e), ERR_INTERNAL, "acme-answer");
}

static void test_order(void **state)
{
    struct err e;
    struct acme_order o;
    assert_done(acme_order_parse(
        &o, text("{\"status\":\"pending\",\"authorizations\":[\"x\",\"y\"],\"finalize\":\"f\"}"),
        &e));
    assert_int_equal(o.status, ACME_PENDING);
    assert_int_equal(o.authz_count, 2);
    assert_string_equal(o.authz[1], "y");
    assert_string_equal(o.finalize, "f");
    assert_null(o.chain);
    acme_order_free(&o);
    assert_done(acme_order_parse(
        &o, text("{\"status\":\"valid\",\"certificateChain\":\"PEM\",\"certificate\":\"c\"}"), &e));
    assert_int_equal(o.status, ACME_VALID);
    assert_string_equal(o.chain, "PEM");
    acme_order_free(&o);
    assert_done(acme_order_parse(
        &o,
        text("{\"status\":\"invalid\",\"error\":{\"type\":\"urn:ietf:params:acme:error:badCSR\","
             "\"detail\":\"no\",\"rule\":\"csr-san\"}}"),
        &e));
    assert_int_equal(o.error.code, ERR_BAD_CSR);
    assert_string_equal(o.error.rule, "csr-san");
    acme_order_free(&o);
    assert_done(acme_order_parse(&o, text("{\"status\":\"invalid\"}"), &e));
    assert_string_equal(o.error.rule, "order-invalid");
    acme_order_free(&o);
    static const char *const bad[] = {"{}",
                                      "{\"status\":\"new\"}",
                                      "{\"status\":7}",
                                      "{\"status\":\"ready\",\"authorizations\":[1]}",
                                      "{\"status\":\"ready\",\"authorizations\":[\"\"]}",
                                      "{\"status\":\"ready\",\"finalize\":[]}",
                                      "{\"status\":\"ready\"}x",
                                      "{\"status\":\"ready\",\"status\":\"valid\"}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_refused(acme_order_parse(&o, text(bad[i]), &e), ERR_INTERNAL, "acme-answer");
    struct buf b;
    buf_init(&b, 65536);
    buf_str(&b, "{\"status\":\"pending\",\"authorizations\":[\"x\"");
    for (int i = 0; i < AUTHZ_MAX; i++)
        buf_str(&b, ",\"x\"");
    buf_str(&b, "]}");
    assert_refused(acme_order_parse(&o, text(buf_cstr(&b)), &e), ERR_INTERNAL, "acme-answer");
    buf_free(&b);
}

static void test_authz(void **state)
{
    struct err e;
    struct acme_authz a;
    assert_done(acme_authz_parse(&a,
                                 text("{\"status\":\"pending\",\"challenges\":[{\"type\":\"http-"
                                      "01\"},{\"type\":\"remote-attest-01\","
                                      "\"url\":\"u\",\"token\":\"t-_9\"}]}"),
                                 &e));
    assert_string_equal(a.url, "u");
    assert_string_equal(a.token, "t-_9");
    acme_authz_free(&a);
    assert_done(acme_authz_parse(
        &a, text("{\"status\":\"pending\",\"challenges\":[null,1,[],{\"type\":\"dns-01\"}]}"), &e));
    assert_null(a.url);
    acme_authz_free(&a);
    assert_done(acme_authz_parse(
        &a,
        text("{\"status\":\"invalid\",\"challenges\":[{\"type\":\"remote-attest-01\",\"url\":\"u\","
             "\"token\":\"t\","
             "\"error\":{\"type\":\"urn:ietf:params:acme:error:badAttestationStatement\"}}]}"),
        &e));
    assert_int_equal(a.error.code, ERR_BAD_EVIDENCE);
    acme_authz_free(&a);
    assert_done(acme_authz_parse(&a, text("{\"status\":\"expired\"}"), &e));
    assert_int_equal(a.status, ACME_INVALID);
    acme_authz_free(&a);
    static const char *const bad[] = {"{\"status\":\"pending\",\"challenges\":[{\"type\":\"remote-"
                                      "attest-01\",\"url\":\"u\",\"token\":\"a.b\"}]}",
                                      "{\"status\":\"pending\",\"challenges\":[{\"type\":\"remote-"
                                      "attest-01\",\"url\":\"u\",\"token\":\"\"}]}",
                                      "{\"status\":\"pending\",\"challenges\":[{\"type\":\"remote-"
                                      "attest-01\",\"token\":\"t\"}]}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_refused(acme_authz_parse(&a, text(bad[i]), &e), ERR_INTERNAL, "acme-answer");
}

static void problem(unsigned status, const char *body, struct err *e)
{
    struct http_answer a;
    http_answer_init(&a);
    a.status = status;
    buf_str(&a.body, body);
    memset(e, 0, sizeof *e);
    assert_int_equal(acme_problem(&a, e), -1);
    http_answer_free(&a);
}

#define ACME "{\"type\":\"urn:ietf:params:acme:error:"

static void test_problem(void **state)
{
    struct err e;
    problem(403,
            ACME "rejectedIdentifier\",\"detail\":\"no entry for it\",\"rule\":\"entry-none\"}",
            &e);
    assert_int_equal(e.code, ERR_REJECTED_ID);
    assert_string_equal(e.rule, "entry-none");
    assert_non_null(strstr(e.msg, "rejectedIdentifier"));
    assert_non_null(strstr(e.msg, "no entry for it"));
    assert_non_null(strstr(e.msg, "mayfly entry create")); /* what to do next */
    static const struct {
        unsigned status;
        const char *body;
        enum err_code code;
    } cases[] = {
        {400, ACME "badNonce\"}", ERR_BAD_NONCE},
        {400, ACME "accountDoesNotExist\"}", ERR_NO_ACCOUNT},
        {429, ACME "rateLimited\"}", ERR_RATE},
        {503, ACME "serverInternal\"}", ERR_UNAVAILABLE},
        {500, "", ERR_UNAVAILABLE},
        {404, "<html>", ERR_DENIED},
        {429, "", ERR_RATE},
        {400, ACME "malformed\"}", ERR_DENIED},
        {400, "[]", ERR_DENIED},
        {400, "{\"type\":7,\"detail\":[],\"rule\":{}}", ERR_DENIED},
        {302, "", ERR_CORRUPT},
        {403, ACME "unauthorized\"}", ERR_UNAUTHORIZED},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        problem(cases[i].status, cases[i].body, &e);
        assert_int_equal(e.code, cases[i].code);
        assert_true(*e.rule && *e.msg);
    }
}

/* A terminal that shows the error must not obey it. */
static void test_problem_controls(void **state)
{
    struct err e;
    problem(403,
            "{\"type\":\"\\u001b]0;x\\u0007\",\"detail\":\"a\\u001b["
            "2Jb\\r\\nc\\u009bd\\u007f\xc3\xa4\",\"rule\":\"x\\ny UPPER\"}",
            &e);
    for (const unsigned char *p = (const unsigned char *)e.msg; *p; p++)
        assert_true(*p >= 0x20 && *p != 0x7f && !(p[0] == 0xc2 && p[1] < 0xa0));
    assert_non_null(strstr(e.msg, "\xc3\xa4"));
    assert_string_equal(e.rule, "x-y------");
    struct buf b;
    buf_init(&b, 65536);
    buf_str(&b, "{\"type\":\"t\",\"detail\":\"x");
    for (int i = 0; i < 400; i++)
        buf_str(&b, "\xc3\xa4"); /* cut in the middle of none */
    buf_str(&b, "\"}");
    problem(403, buf_cstr(&b), &e);
    struct err ignored;
    buf_reset(&b);
    buf_str(&b, "[");
    jw_str(&b, e.msg);
    buf_str(&b, "]");
    json_t *doc = json_parse(b.p, b.len, 65536, &ignored); /* refuses bad UTF-8 */
    assert_non_null(doc);
    json_decref(doc);
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_server_url),      cmocka_unit_test(test_origin),
        cmocka_unit_test(test_directory),       cmocka_unit_test(test_order),
        cmocka_unit_test(test_authz),           cmocka_unit_test(test_problem),
        cmocka_unit_test(test_problem_controls)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
