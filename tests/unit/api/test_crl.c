/* CRLs as they are served, with a signer that echoes what it is asked to sign. What they name:
 * integration/test_crl.sh and test_crl_found.c. */
#include "api/crl.h"
#include "api/internal.h"
#include "tests/unit/api/client.h"

static struct world *w;
static struct client *c;

static int setup(void **state)
{
    w = world_new(3600);
    atomic_store(&w->crl_life, 3600);
    c = client_new(w);
    return 0;
}

static int teardown(void **state)
{
    client_free(c);
    world_free(w);
    return 0;
}

/* As soon as the keeper has looked at what stands: then the first list is made on demand. */
static void get_first(const char *path)
{
    for (int i = 0; get(c, path) == 503 && i < 200; i++)
        usleep(20000);
    assert_int_equal(c->status, 200);
}

static void made_once(void **state)
{
    char etag[64], number[64];
    get_first("/crl/16-3.crl");
    assert_int_equal(c->body.len, 6); /* shards, shard, nobody */
    assert_memory_equal(c->body.p, "\0\20\0\3\0\0", 6);
    assert_string_equal(answer_header(c, "Content-Type"), "application/pkix-crl");
    assert_string_equal(answer_header(c, "Access-Control-Allow-Origin"), "*");
    snprintf(etag, sizeof etag, "%s", answer_header(c, "ETag"));
    snprintf(number, sizeof number, "\"%u\"", 100 + atomic_load(&w->crls) - 1);
    assert_string_equal(etag, number);
    long age = strtol(answer_header(c, "Cache-Control") + strlen("public, max-age="), NULL, 10);
    assert_true(age > 1700 && age <= 1800);
    for (int i = 0; i < 20; i++)
        assert_int_equal(get(c, "/crl/16-3.crl"), 200);
    assert_string_equal(answer_header(c, "ETag"), etag);
    assert_int_equal(atomic_load(&w->crls), 1);
    assert_int_equal(ask(c, "HEAD", "/crl/16-3.crl", NULL, 0, NULL, false), 200);
    assert_int_equal(get(c, "/crl/1024-1023.crl"), 200);
    assert_int_equal(atomic_load(&w->crls), 2);
}

static void unknown(void **state)
{
    static const char *const names[] = {"/crl/16-16.crl", "/crl/3-1.crl", "/crl/x", "/crl/16-3", "/crl/016-3.crl", "/crl/2048-1.crl"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        assert_int_equal(get(c, names[i]), 404);
    assert_int_equal(atomic_load(&w->crls), 0);
    assert_int_equal(ask(c, "POST", "/crl/16-3.crl", "x", 1, "text/plain", false), 405);
}

/* A signer that makes none: what there is goes on being served until it lapses, and not longer. */
static void signer_refuses(void **state)
{
    atomic_store(&w->crl_life, 2);
    get_first("/crl/1-0.crl");
    atomic_store(&w->crl_life, 0);
    assert_int_equal(get(c, "/crl/2-0.crl"), 503);
    assert_non_null(strstr((const char *)c->body.p, "crl-none"));
    for (int i = 0; get(c, "/crl/1-0.crl") == 200 && i < 1000; i++)
        usleep(20000);
    assert_int_equal(c->status, 503);
    atomic_store(&w->crl_life, 3600);
    for (int i = 0; get(c, "/crl/1-0.crl") != 200 && i < 200; i++)
        usleep(20000);
    assert_int_equal(c->status, 200);
}

/* It is made again at half of its life, for who asks, and before it lapses. */
static void made_again(void **state)
{
    atomic_store(&w->crl_life, 4);
    get_first("/crl/1-0.crl");
    for (int i = 0; atomic_load(&w->crls) < 3 && i < 1000; i++) {
        assert_int_equal(get(c, "/crl/1-0.crl"), 200);
        usleep(20000);
    }
    assert_true(atomic_load(&w->crls) >= 3);
}

/* With something revoked, and nowhere to look up what it names, a start makes none: better none than one with
 * somebody missing. */
static void not_whole(void **state)
{
    static const char body[] = "{\"by\":\"spiffe_id\",\"value\":\"spiffe://test.example/web\"}";
    const struct crl_options o = {.config = w->config, .ra = w->ra};
    struct err e = {0};
    get_first("/crl/1-0.crl");
    assert_int_equal(ask(c, "POST", "/admin/v1/revocations", body, sizeof body - 1, "application/json", true), 201);
    assert_int_equal(get(c, "/crl/1-0.crl"), 200);
    int64_t after = 0;
    atomic_bool stop = false;
    struct crl_found found;
    crl_found_init(&found);
    while (crl_find(&found, &o, &after, NULL, NULL, &stop, &e) == 0) /* until the revocation's record is told */
        usleep(20000);
    assert_string_equal(e.rule, "audit-index");
    assert_int_equal(after, 0);
    struct crl_keeper *old = w->api->crl;
    must(crl_start(&w->api->crl, &o, &e), &e);
    crl_stop(old);
    unsigned made = atomic_load(&w->crls);
    for (int i = 0; i < 20; i++)
        assert_int_equal(get(c, "/crl/1-0.crl"), 503);
    assert_non_null(strstr((const char *)c->body.p, "crl-not-ready"));
    assert_int_equal(atomic_load(&w->crls), made);
    crl_found_free(&found);
}

/* Stopping while somebody waits for a list that does not come. */
static void stopped_while_waiting(void **state)
{
    get_first("/crl/1-0.crl");
    atomic_store(&w->mute, true);
    CURL *other = curl_easy_init();
    CURLM *multi = curl_multi_init();
    char url[64];
    int running = 1;
    snprintf(url, sizeof url, "https://127.0.0.1:%u/crl/2-1.crl", w->port);
    curl_easy_setopt(other, CURLOPT_URL, url);
    curl_easy_setopt(other, CURLOPT_SSL_VERIFYPEER, 0L);
    curl_easy_setopt(other, CURLOPT_SSL_VERIFYHOST, 0L);
    curl_easy_setopt(other, CURLOPT_NOBODY, 1L);
    curl_multi_add_handle(multi, other);
    for (int i = 0; i < 50 && running; i++) {
        curl_multi_perform(multi, &running);
        curl_multi_poll(multi, NULL, 0, 10, NULL);
    }
    assert_int_equal(running, 1); /* it waits */
    teardown(NULL);
    setup(NULL);
    curl_multi_remove_handle(multi, other);
    curl_multi_cleanup(multi);
    curl_easy_cleanup(other);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {T(made_once), T(unknown), T(signer_refuses), T(made_again), T(not_whole),
                                       T(stopped_while_waiting)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
