/* http.c against a TLS server in a thread: who is trusted, and that nothing else is followed,
 * swallowed or sent. */
#include "unit/agent/tls_server.h"

static int setup(void **state)
{
    *state = server_new();
    return 0;
}

static int teardown(void **state)
{
    server_free(*state);
    return 0;
}

struct visit {
    struct url_server at;
    struct agent_trust trust;
    struct http *h;
    struct http_answer a;
};

static void visit_begin(struct visit *v, struct server *s)
{
    struct err e;
    memset(v, 0, sizeof *v);
    v->trust.pinned = true;
    x509_sha256(v->trust.anchor_sha256, s->pki.root);
    assert_done(url_server(&v->at, s->url, &e));
    v->h = http_new(&v->at, &v->trust, &e);
    assert_non_null(v->h);
    http_answer_init(&v->a);
}

static void visit_end(struct visit *v)
{
    http_answer_free(&v->a);
    http_free(v->h);
    agent_trust_free(&v->trust);
}

static int visit(struct visit *v, const char *method, const char *body, struct err *e)
{
    struct http_request q = {.method = method,
                             .url = v->at.directory,
                             .body = {(const uint8_t *)body, body ? strlen(body) : 0},
                             .deadline = clock_mono_ms() + 20000};
    memset(e, 0, sizeof *e);
    return http_send(v->h, &q, &v->a, e);
}

/* SSLKEYLOGFILE is in the environment from main on: libcurl reads it when it is set up, once. */
static char keylog[64];

static void test_no_key_log(void **state)
{
    struct server *s = *state;
    struct visit v;
    struct err e;
    server_start(s);
    visit_begin(&v, s);
    assert_done(visit(&v, "GET", NULL, &e));
    visit_end(&v);
    server_stop(s);
    assert_int_not_equal(access(keylog, F_OK), 0);
}

static void test_pinned(void **state)
{
    struct server *s = *state;
    struct visit v;
    struct err e;
    setenv("https_proxy", "http://127.0.0.1:1", 1); /* the environment has no say */
    setenv("ALL_PROXY", "http://127.0.0.1:1", 1);
    server_start(s);
    visit_begin(&v, s);
    assert_done(visit(&v, "GET", NULL, &e));
    assert_int_equal(v.a.status, 200);
    assert_int_equal(v.a.retry_after, 7);
    assert_string_equal(v.a.nonce, "abc-_9");
    assert_string_equal(v.a.location, "https://x/y");
    assert_true(bytes_eq_str((struct bytes){v.a.body.p, v.a.body.len}, "ok"));
    assert_true(v.trust.roots_pem.len > 0); /* learnt */
    assert_done(visit(&v, "POST", "{\"x\":1}", &e));
    assert_done(visit(&v, "GET", NULL, &e));
    visit_end(&v);
    server_stop(s);
    assert_int_equal(s->connections, 1); /* kept alive */
    assert_int_equal(s->requests, 3);
    unsetenv("https_proxy");
    unsetenv("ALL_PROXY");
}

static void test_post(void **state)
{
    struct server *s = *state;
    struct visit v;
    struct err e;
    server_start(s);
    visit_begin(&v, s);
    assert_done(visit(&v, "POST", "{\"x\":1}", &e));
    visit_end(&v);
    server_stop(s);
    assert_int_equal(strncmp(s->last, "POST /acme/directory HTTP/1.1\r\n", 31), 0);
    assert_non_null(strstr(s->last, "Content-Type: application/jose+json\r\n"));
    assert_null(strstr(s->last, "Expect"));
    assert_non_null(strstr(s->last, "\r\n\r\n{\"x\":1}"));
}

static void test_wrong_pin(void **state)
{
    struct server *s = *state;
    struct visit v;
    struct err e;
    server_start(s);
    visit_begin(&v, s);
    v.trust.anchor_sha256[31] ^= 1;
    assert_refused(visit(&v, "POST", "secret", &e), ERR_CORRUPT, "trust-pin");
    assert_int_equal(v.trust.roots_pem.len, 0);
    visit_end(&v);
    server_stop(s);
    assert_int_equal(s->requests, 0); /* nothing was sent */
}

static void test_other_bundle(void **state)
{
    struct server *s = *state;
    struct visit v;
    struct err e;
    struct pki other;
    pki_new(&other);
    server_start(s);
    visit_begin(&v, s);
    v.trust.pinned = false;
    buf_init(&v.trust.roots_pem, 65536);
    assert_done(x509_to_pem(&v.trust.roots_pem, other.root, &e));
    assert_refused(visit(&v, "GET", NULL, &e), ERR_CORRUPT, "chain");
    visit_end(&v);
    visit_begin(&v, s);
    v.trust.pinned = false; /* no pin, no bundle: the system's roots are not asked either */
    assert_refused(visit(&v, "GET", NULL, &e), ERR_CONFIG, "trust-none");
    visit_end(&v);
    server_stop(s);
    assert_int_equal(s->requests, 0);
    pki_free(&other);
}

static void test_host_name(void **state)
{
    struct server *s = *state;
    struct visit v;
    struct err e;
    char *ip = strstr(s->url, "127.0.0.1"), port[16];
    snprintf(port, sizeof port, "%s", strrchr(s->url, ':'));
    sprintf(ip, "localhost%s", port); /* its certificate has the address only */
    server_start(s);
    visit_begin(&v, s);
    assert_refused(visit(&v, "GET", NULL, &e), ERR_CORRUPT, "chain-host");
    visit_end(&v);
    server_stop(s);
    assert_int_equal(s->requests, 0);
}

static void test_redirect(void **state)
{
    struct server *s = *state;
    struct visit v;
    struct err e;
    s->answer = "HTTP/1.1 302 Found\r\nLocation: https://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n";
    server_start(s);
    visit_begin(&v, s);
    assert_done(visit(&v, "GET", NULL, &e));
    assert_int_equal(v.a.status, 302);
    assert_refused(acme_problem(&v.a, &e), ERR_CORRUPT, "redirect");
    visit_end(&v);
    server_stop(s);
    assert_int_equal(s->requests, 1);
}

static void test_too_large(void **state)
{
    struct server *s = *state;
    struct visit v;
    struct err e;
    s->answer = NULL;
    server_start(s);
    visit_begin(&v, s);
    assert_refused(visit(&v, "GET", NULL, &e), ERR_CORRUPT, "answer-size");
    assert_true(v.a.body.len <= ANSWER_MAX);
    visit_end(&v);
    server_stop(s);
}

static void test_headers_too_large(void **state)
{
    struct server *s = *state;
    struct visit v;
    struct err e;
    struct buf b;
    buf_init(&b, 1 << 20);
    buf_str(&b, "HTTP/1.1 200 OK\r\n");
    for (int i = 0; i < 2000; i++)
        buf_fmt(&b, "X-Filler-%d: aaaaaaaaaaaaaaaaaaaa\r\n", i);
    buf_str(&b, "Content-Length: 0\r\n\r\n");
    s->answer = buf_cstr(&b);
    server_start(s);
    visit_begin(&v, s);
    assert_refused(visit(&v, "GET", NULL, &e), ERR_CORRUPT, "answer-size");
    visit_end(&v);
    server_stop(s);
    buf_free(&b);
}

/* A nonce with other characters is ignored (RFC 8555 section 6.5.1); so is what a 1xx answer says.
 */
static void test_odd_headers(void **state)
{
    struct server *s = *state;
    struct visit v;
    struct err e;
    s->answer =
        "HTTP/1.1 103 Early Hints\r\nReplay-Nonce: early\r\nLocation: https://early/\r\n\r\n"
        "HTTP/1.1 200 OK\r\nReplay-Nonce: a b\r\nContent-Length: 0\r\n\r\n";
    server_start(s);
    visit_begin(&v, s);
    assert_done(visit(&v, "GET", NULL, &e));
    assert_string_equal(v.a.nonce, "");
    assert_string_equal(v.a.location, "");
    visit_end(&v);
    server_stop(s);
}

static void test_old_tls(void **state)
{
    struct server *s = *state;
    struct visit v;
    struct err e;
    SSL_CTX_set_security_level(s->ctx, 0);
    SSL_CTX_set_min_proto_version(s->ctx, TLS1_VERSION);
    SSL_CTX_set_max_proto_version(s->ctx, TLS1_1_VERSION);
    server_start(s);
    visit_begin(&v, s);
    assert_refused(visit(&v, "GET", NULL, &e), ERR_UNAVAILABLE, "server-unreachable");
    visit_end(&v);
    server_stop(s);
    assert_int_equal(s->requests, 0);
}

static void test_nobody_there(void **state)
{
    struct server *s = *state;
    struct visit v;
    struct err e;
    close(s->listener);
    visit_begin(&v, s);
    assert_refused(visit(&v, "GET", NULL, &e), ERR_UNAVAILABLE, "server-unreachable");
    struct http_request late = {.method = "GET", .url = v.at.directory, .deadline = clock_mono_ms() - 1};
    assert_refused(http_send(v.h, &late, &v.a, &e), ERR_UNAVAILABLE, "deadline");
    visit_end(&v);
    s->listener = socket(AF_INET, SOCK_STREAM, 0); /* for teardown */
}

/* A server that says nothing does not hold up the end of the program. */
static void test_stop(void **state)
{
    struct server *s = *state;
    struct visit v;
    struct err e;
    visit_begin(&v, s); /* it listens, and nobody accepts */
    int64_t began = clock_mono_ms();
    http_stop(v.h, began + 100);
    assert_refused(visit(&v, "GET", NULL, &e), ERR_UNAVAILABLE, "server-unreachable");
    assert_true(clock_mono_ms() - began >= 100 && clock_mono_ms() - began < 15000); /* its deadline is 20 s away */
    assert_refused(visit(&v, "GET", NULL, &e), ERR_UNAVAILABLE, "server-unreachable");
    assert_false(http_sleep(v.h, 20000));
    assert_true(clock_mono_ms() - began < 15000);
    visit_end(&v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_no_key_log, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pinned, setup, teardown),
        cmocka_unit_test_setup_teardown(test_post, setup, teardown),
        cmocka_unit_test_setup_teardown(test_wrong_pin, setup, teardown),
        cmocka_unit_test_setup_teardown(test_other_bundle, setup, teardown),
        cmocka_unit_test_setup_teardown(test_host_name, setup, teardown),
        cmocka_unit_test_setup_teardown(test_redirect, setup, teardown),
        cmocka_unit_test_setup_teardown(test_too_large, setup, teardown),
        cmocka_unit_test_setup_teardown(test_headers_too_large, setup, teardown),
        cmocka_unit_test_setup_teardown(test_odd_headers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_old_tls, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nobody_there, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stop, setup, teardown),
    };
    snprintf(keylog, sizeof keylog, "/tmp/mayfly-keylog-%d", (int)getpid());
    setenv("SSLKEYLOGFILE", keylog, 1);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(keylog);
    return failed;
}
