/* The web page's files as they are served. What the page does: integration/test_ui.sh. */
#include "api/ui.h"
#include "tests/unit/api/client.h"

static struct world *w;

static int group_setup(void **state)
{
    w = world_new(3600);
    return 0;
}

static int group_teardown(void **state)
{
    world_free(w);
    return 0;
}

static void page_headers_check(const struct client *c)
{
    assert_string_equal(answer_header(c, "Content-Security-Policy"),
                        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
                        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'");
    assert_string_equal(answer_header(c, "X-Content-Type-Options"), "nosniff");
    assert_string_equal(answer_header(c, "Referrer-Policy"), "no-referrer");
    assert_string_equal(answer_header(c, "Cache-Control"), "no-cache");
}

static void test_files(void **state)
{
    struct client *c = client_new(w);
    char path[64];
    size_t n = 0;
    for (const struct ui_file *f = ui_files; f->name; f++, n++) {
        snprintf(path, sizeof path, "/ui/%s", f->name);
        assert_int_equal(get(c, path), 200);
        page_headers_check(c);
        assert_string_equal(answer_header(c, "ETag"), f->etag);
        assert_int_equal(c->body.len, f->len);
        assert_memory_equal(c->body.p, f->p, f->len);
        assert_string_not_equal(answer_header(c, "Content-Type"), "application/octet-stream");
        assert_int_equal(ask(c, "HEAD", path, NULL, 0, NULL, false), 200);
        assert_int_equal(atoi(answer_header(c, "Content-Length")), f->len);
    }
    assert_true(n > 5);
    assert_int_equal(get(c, "/ui/"), 200);
    assert_string_equal(answer_header(c, "Content-Type"), "text/html; charset=utf-8");
    page_headers_check(c);
    assert_int_equal(get(c, "/ui/app.js"), 200);
    assert_string_equal(answer_header(c, "Content-Type"), "text/javascript; charset=utf-8");
    client_free(c);
}

static void test_elsewhere(void **state)
{
    struct client *c = client_new(w);
    static const char *const lost[] = {"/ui/nothing", "/ui//", "/ui/../mayfly.yaml", "/ui/index.html/", "/ui/%2e%2e/x", "/ui/INDEX.HTML"};
    for (size_t i = 0; i < sizeof lost / sizeof *lost; i++)
        assert_int_equal(get(c, lost[i]), 404);
    assert_int_equal(get(c, "/ui"), 308);
    assert_string_equal(answer_header(c, "Location"), "/ui/");
    assert_int_equal(ask(c, "POST", "/ui/", "x", 1, "text/plain", false), 405);
    assert_int_equal(get(c, "/healthz"), 200);
    assert_string_equal(answer_header(c, "Content-Security-Policy"), ""); /* nor what came before on the connection */
    assert_string_equal(answer_header(c, "ETag"), "");
    client_free(c);
}

/* GET with If-None-Match: the status. */
static long get_unless(struct client *c, const char *where, const char *tags)
{
    char text[512], url[512];
    struct curl_blob roots = {w->root_pem, strlen(w->root_pem), CURL_BLOB_NOCOPY};
    snprintf(url, sizeof url, "https://127.0.0.1:%u%s", w->port, where);
    snprintf(text, sizeof text, "If-None-Match: %s", tags);
    struct curl_slist *headers = curl_slist_append(NULL, text);
    buf_reset(&c->body);
    c->headers[0] = 0;
    curl_easy_reset(c->curl);
    curl_easy_setopt(c->curl, CURLOPT_URL, url);
    curl_easy_setopt(c->curl, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(c->curl, CURLOPT_CAINFO_BLOB, &roots);
    curl_easy_setopt(c->curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(c->curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(c->curl, CURLOPT_WRITEDATA, c);
    curl_easy_setopt(c->curl, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(c->curl, CURLOPT_HEADERDATA, c);
    assert_int_equal(curl_easy_perform(c->curl), CURLE_OK);
    curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &c->status);
    curl_slist_free_all(headers);
    return c->status;
}

static void test_unchanged(void **state)
{
    struct client *c = client_new(w);
    char list[256];
    const char *etag = ui_files[0].etag;
    char path[64];
    snprintf(path, sizeof path, "/ui/%s", ui_files[0].name);
    assert_int_equal(get_unless(c, path, etag), 304);
    assert_int_equal(c->body.len, 0);
    assert_string_equal(answer_header(c, "ETag"), etag);
    page_headers_check(c);
    snprintf(list, sizeof list, "\"other\", W/%s", etag);
    assert_int_equal(get_unless(c, path, list), 304);
    assert_int_equal(get_unless(c, path, "*"), 304);
    assert_int_equal(get_unless(c, path, "\"other\""), 200);
    assert_int_equal(get_unless(c, path, ui_files[1].etag), 200);
    client_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_elsewhere),
        cmocka_unit_test(test_unchanged),
    };
    curl_global_init(CURL_GLOBAL_DEFAULT);
    int rc = cmocka_run_group_tests(tests, group_setup, group_teardown);
    curl_global_cleanup();
    return rc;
}
