/* The server's own life: its certificate renewed under traffic, stopping while requests wait,
 * clients that go away, and the admin socket. */
#include "tests/unit/api/client.h"

#define WEB "spiffe://test.example/web"

static int setup(void **state)
{
    *state = world_new(3600);
    return 0;
}

static int setup_short(void **state)
{
    *state = world_new(3);
    return 0;
}

static int teardown(void **state)
{
    world_free(*state);
    return 0;
}

/* --- the certificate ---------------------------------------------------------------------------------- */

/* Connects anew and takes the serial of the certificate that is shown. */
static void shown_serial(struct client *c, char dst[128])
{
    struct curl_certinfo *info = NULL;
    char url[256];
    struct curl_blob roots = {c->w->root_pem, strlen(c->w->root_pem), CURL_BLOB_NOCOPY};
    curl_easy_reset(c->curl);
    snprintf(url, sizeof url, "https://127.0.0.1:%u/healthz", c->w->port);
    curl_easy_setopt(c->curl, CURLOPT_URL, url);
    curl_easy_setopt(c->curl, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(c->curl, CURLOPT_CAINFO_BLOB, &roots);
    curl_easy_setopt(c->curl, CURLOPT_CERTINFO, 1L);
    curl_easy_setopt(c->curl, CURLOPT_FRESH_CONNECT, 1L);
    curl_easy_setopt(c->curl, CURLOPT_FORBID_REUSE, 1L);
    curl_easy_setopt(c->curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(c->curl, CURLOPT_WRITEDATA, c);
    buf_reset(&c->body);
    CURLcode cc = curl_easy_perform(c->curl);
    if (cc != CURLE_OK)
        fail_msg("a handshake failed: %s", curl_easy_strerror(cc));
    curl_easy_getinfo(c->curl, CURLINFO_CERTINFO, &info);
    assert_int_equal(info->num_of_certs, 3); /* leaf, issuing, root */
    for (struct curl_slist *l = info->certinfo[0]; l; l = l->next)
        if (strncmp(l->data, "Serial Number:", 14) == 0)
            snprintf(dst, 128, "%s", l->data);
}

static void test_renewal(void **state)
{
    struct world *w = *state;
    struct client *c = client_new(w), *warm = client_new(w);
    char first[128] = "", now[128] = "";
    assert_int_equal(get(warm, "/healthz"), 200);
    shown_serial(c, first);
    assert_true(*first);
    atomic_store(&w->server_life, 3600);
    int64_t until = clock_mono_ms() + 60000;
    do
        shown_serial(c, now);
    while (strcmp(first, now) == 0 && clock_mono_ms() < until);
    assert_string_not_equal(first, now);
    assert_int_equal(get(warm, "/healthz"), 200); /* on the connection made under the old one */
    long connects = 0;
    curl_easy_getinfo(warm->curl, CURLINFO_NUM_CONNECTS, &connects);
    assert_int_equal(connects, 0);
    client_free(warm);
    client_free(c);
}

/* --- stopping ---------------------------------------------------------------------------------------- */

struct waiter {
    struct client *c;
    struct buf payload;
    long status;
};

static void *waiter_run(void *arg)
{
    struct waiter *x = arg;
    x->status = post(x->c, "/acme/new-order", buf_cstr(&x->payload));
    return NULL;
}

static void session_open(struct client *c)
{
    struct buf evidence, payload;
    buf_init(&evidence, 8192);
    buf_init(&payload, 32768);
    account(c);
    evidence_make(c, &evidence, WEB, fresh(c));
    order_payload(&payload, WEB, &evidence);
    assert_int_equal(post(c, "/acme/new-order", buf_cstr(&payload)), 201);
    buf_free(&evidence);
    buf_free(&payload);
}

static void heard_wait(struct world *w, unsigned want)
{
    while (atomic_load(&w->heard) < want)
        usleep(1000);
}

static void test_stop_while_waiting(void **state)
{
    struct world *w = *state;
    entry_make(w, "{\"spiffe_id\":\"" WEB "\"}");
    struct waiter x[4];
    pthread_t t[4];
    for (int i = 0; i < 4; i++) {
        x[i].c = client_new(w);
        session_open(x[i].c);
        buf_init(&x[i].payload, 32768);
        order_payload(&x[i].payload, WEB, NULL);
    }
    unsigned before = atomic_load(&w->heard);
    atomic_store(&w->mute, true);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&t[i], NULL, waiter_run, &x[i]), 0);
    heard_wait(w, before + 4);
    api_stop(w->api, 50);
    w->api = NULL;
    for (int i = 0; i < 4; i++) {
        pthread_join(t[i], NULL);
        assert_int_equal(x[i].status, 503);
        assert_string_equal(member(x[i].c, "rule"), "stopping");
        assert_true(*answer_header(x[i].c, "Retry-After"));
        assert_string_equal(answer_header(x[i].c, "Connection"), "close");
        client_free(x[i].c);
        buf_free(&x[i].payload);
    }
    /* teardown: ca_client_free calls back for what was abandoned */
}

static void *stop_run(void *arg)
{
    struct world *w = arg;
    api_stop(w->api, 60000);
    w->api = NULL;
    return NULL;
}

/* Stopping waits for what is being answered. */
static void test_drain(void **state)
{
    struct world *w = *state;
    entry_make(w, "{\"spiffe_id\":\"" WEB "\"}");
    struct waiter x = {.c = client_new(w)};
    pthread_t asking, stopping;
    session_open(x.c);
    buf_init(&x.payload, 32768);
    order_payload(&x.payload, WEB, NULL);
    unsigned before = atomic_load(&w->heard);
    atomic_store(&w->hold, true);
    assert_int_equal(pthread_create(&asking, NULL, waiter_run, &x), 0);
    heard_wait(w, before + 1);
    assert_int_equal(pthread_create(&stopping, NULL, stop_run, w), 0);
    usleep(20000); /* mostly, the stop has begun; if not, the outcome is the same */
    atomic_store(&w->hold, false);
    pthread_join(asking, NULL);
    pthread_join(stopping, NULL);
    assert_int_equal(x.status, 201);
    assert_string_equal(member(x.c, "status"), "valid");
    client_free(x.c);
    buf_free(&x.payload);
}

/* A client that leaves while its order waits: the server goes on, and answers the next. */
static void test_gone(void **state)
{
    struct world *w = *state;
    entry_make(w, "{\"spiffe_id\":\"" WEB "\"}");
    struct client *c = client_new(w);
    struct buf payload, jws;
    struct err e = {0};
    char url[1024];
    session_open(c);
    buf_init(&payload, 32768);
    buf_init(&jws, 65536);
    order_payload(&payload, WEB, NULL);
    full_url(c, "/acme/new-order", url);
    must(jws_sign(&jws, c->key, c->kid, fresh(c), url, (char *)payload.p, payload.len, &e), &e);
    unsigned before = atomic_load(&w->heard);
    atomic_store(&w->mute, true);
    CURL *curl = curl_easy_init();
    CURLM *multi = curl_multi_init();
    struct curl_slist *h = curl_slist_append(NULL, "Content-Type: application/jose+json");
    snprintf(url, sizeof url, "https://127.0.0.1:%u/acme/new-order", w->port);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 0L);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, h);
    curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, (long)jws.len);
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, jws.p);
    curl_multi_add_handle(multi, curl);
    int running = 1;
    while (atomic_load(&w->heard) == before && running) {
        curl_multi_perform(multi, &running);
        curl_multi_wait(multi, NULL, 0, 10, NULL);
    }
    assert_true(running);
    curl_multi_remove_handle(multi, curl);
    curl_easy_cleanup(curl);
    curl_multi_cleanup(multi); /* the connection is cut */
    curl_slist_free_all(h);
    atomic_store(&w->mute, false);
    c->nonce[0] = 0;
    assert_int_equal(post(c, "/acme/new-order", buf_cstr(&payload)), 201);
    assert_string_equal(member(c, "status"), "valid");
    buf_free(&payload);
    buf_free(&jws);
    client_free(c);
}

/* --- administration ------------------------------------------------------------------------------------ */

static void test_admin(void **state)
{
    struct world *w = *state;
    struct client *c = client_new(w);
    char path[256];
    assert_int_equal(admin(c, "GET", "/admin/v1/status", NULL), 200);
    assert_true(json_is_true(json_object_get(c->doc, "ready")));
    assert_string_equal(member(c, "trust_domain"), "test.example");
    assert_int_equal(json_integer_value(json_object_get(c->doc, "log_size")), 3);
    assert_int_equal(admin(c, "POST", "/admin/v1/entries", "{\"spiffe_id\":\"" WEB "\",\"dns\":[\"web.test.example\"],\"selectors\":[\"x:y\"]}"), 201);
    snprintf(path, sizeof path, "/admin/v1/entries/%s", member(c, "id"));
    assert_int_equal(json_integer_value(json_object_get(c->doc, "revision")), 1);
    assert_int_equal(admin(c, "POST", "/admin/v1/entries", "{\"spiffe_id\":\"" WEB "\"}"), 409);
    assert_true(*member(c, "rule") && *member(c, "detail"));
    assert_int_equal(admin(c, "GET", path, NULL), 200);
    assert_string_equal(member(c, "spiffe_id"), WEB);
    assert_int_equal(admin(c, "GET", "/admin/v1/entries/spiffe%3A%2F%2Ftest.example%2Fweb", NULL), 200);
    assert_int_equal(admin(c, "PUT", path, "{\"spiffe_id\":\"" WEB "\",\"ttl\":60,\"revision\":1}"), 200);
    assert_int_equal(json_integer_value(json_object_get(c->doc, "revision")), 2);
    assert_int_equal(admin(c, "PUT", path, "{\"spiffe_id\":\"" WEB "\",\"revision\":1}"), 409);
    assert_int_equal(admin(c, "PUT", "/admin/v1/entries/spiffe%3A%2F%2Ftest.example%2Fweb", "{\"spiffe_id\":\"" WEB "\"}"), 400);
    assert_int_equal(admin(c, "POST", "/admin/v1/entries", "{\"spiffe_id\":\"spiffe://test.example/api\"}"), 201);
    assert_int_equal(admin(c, "GET", "/admin/v1/entries", NULL), 200);
    assert_int_equal(json_array_size(json_object_get(c->doc, "entries")), 2);
    assert_int_equal(admin(c, "GET", "/admin/v1/entries?limit=1&after=spiffe%3A%2F%2Ftest.example%2Fapi", NULL), 200);
    json_t *page = json_object_get(c->doc, "entries");
    assert_int_equal(json_array_size(page), 1);
    assert_string_equal(json_string_value(json_object_get(json_array_get(page, 0), "spiffe_id")), WEB);
    static const char *const limits[] = {"0", "1001", "x", "-1", ""};
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        char url[64];
        snprintf(url, sizeof url, "/admin/v1/entries?limit=%s", limits[i]);
        assert_int_equal(admin(c, "GET", url, NULL), 400);
    }
    assert_int_equal(admin(c, "POST", "/admin/v1/tokens", "{\"spiffe_id\":\"" WEB "\",\"lifetime\":60}"), 201);
    assert_int_equal(strlen(member(c, "token")), JOIN_TOKEN_TEXT);
    assert_string_equal(answer_header(c, "Cache-Control"), "no-store");
    assert_int_equal(admin(c, "DELETE", path, NULL), 200);
    assert_string_equal(member(c, "spiffe_id"), WEB);
    assert_int_equal(admin(c, "GET", path, NULL), 404);
    assert_int_equal(admin(c, "DELETE", path, NULL), 404);
    client_free(c);
}

/* More entries than one page holds, by number or by bytes: each page says where the next begins. */
static void test_admin_pages(void **state)
{
    enum { MANY = 40 }; /* of 32 kB */
    struct world *w = *state;
    struct client *c = client_new(w);
    struct buf json;
    char path[300] = "/admin/v1/entries", last[100] = "";
    size_t seen = 0, pages = 0;
    buf_init(&json, 65536);
    for (int i = 0; i < MANY; i++) {
        buf_reset(&json);
        buf_fmt(&json, "{\"spiffe_id\":\"" WEB "%02d\",\"selectors\":[", i);
        for (int k = 0; k < 32; k++)
            buf_fmt(&json, "%s\"x:%01000d\"", k ? "," : "", k);
        buf_str(&json, "]}");
        entry_make(w, buf_cstr(&json));
    }
    for (bool more = true; more; pages++) {
        assert_int_equal(admin(c, "GET", path, NULL), 200);
        json_t *list = json_object_get(c->doc, "entries"), *x;
        size_t i;
        json_array_foreach(list, i, x)
        {
            const char *id = json_string_value(json_object_get(x, "spiffe_id"));
            assert_true(strcmp(id, last) > 0);
            snprintf(last, sizeof last, "%s", id);
        }
        seen += json_array_size(list);
        more = *member(c, "next") != 0;
        if (more)
            assert_string_equal(member(c, "next"), last);
        snprintf(path, sizeof path, "/admin/v1/entries?after=%s", member(c, "next"));
    }
    assert_int_equal(seen, MANY);
    assert_true(pages > 1);
    assert_int_equal(admin(c, "GET", "/admin/v1/entries?limit=3", NULL), 200);
    assert_int_equal(json_array_size(json_object_get(c->doc, "entries")), 3);
    assert_string_equal(member(c, "next"), WEB "02");
    buf_free(&json);
    client_free(c);
}

static void test_admin_refused(void **state)
{
    struct client *c = client_new(*state);
    static const char *const bad[] = {"", "{", "[]", "{}", "{\"spiffe_id\":\"" WEB "\",\"colour\":\"red\"}",
                                      "{\"spiffe_id\":\"http://x/y\"}", "{\"spiffe_id\":\"spiffe://other.example/web\"}",
                                      "{\"spiffe_id\":\"" WEB "\",\"dns\":[\"Web\"]}", "{\"spiffe_id\":\"" WEB "\"}x"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        long status = admin(c, "POST", "/admin/v1/entries", bad[i]);
        if (status < 400 || status > 403)
            fail_msg("%s: %ld", bad[i], status);
        assert_string_equal(answer_header(c, "Content-Type"), "application/problem+json");
        assert_true(*member(c, "rule") && *member(c, "detail"));
    }
    assert_int_equal(admin(c, "PATCH", "/admin/v1/entries", "{}"), 405);
    assert_int_equal(admin(c, "GET", "/admin/v1/tokens", NULL), 405);
    assert_int_equal(admin(c, "GET", "/acme/directory", NULL), 404);
    assert_int_equal(admin(c, "GET", "/admin/v1/entries", NULL), 200);
    assert_int_equal(json_array_size(json_object_get(c->doc, "entries")), 0);
    client_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_admin, setup, teardown),
        cmocka_unit_test_setup_teardown(test_admin_pages, setup, teardown),
        cmocka_unit_test_setup_teardown(test_admin_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_drain, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stop_while_waiting, setup, teardown),
        cmocka_unit_test_setup_teardown(test_gone, setup, teardown),
        cmocka_unit_test_setup_teardown(test_renewal, setup_short, teardown),
    };
    curl_global_init(CURL_GLOBAL_DEFAULT);
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    curl_global_cleanup();
    return rc;
}
