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

static long get_with(const char *path, const char *line)
{
    char url[64];
    struct curl_slist *headers = curl_slist_append(NULL, line);
    snprintf(url, sizeof url, "https://127.0.0.1:%u%s", w->port, path);
    c->headers[0] = 0;
    buf_reset(&c->body);
    curl_easy_reset(c->curl);
    curl_easy_setopt(c->curl, CURLOPT_URL, url);
    curl_easy_setopt(c->curl, CURLOPT_SSL_VERIFYPEER, 0L);
    curl_easy_setopt(c->curl, CURLOPT_NOPROXY, "*");
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

/* As soon as the keeper has looked at what stands: then the first list is made on demand. */
static void get_first(const char *path)
{
    for (int i = 0; get(c, path) == 503 && i < 3000; i++)
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
    for (int i = 0; get(c, "/crl/1-0.crl") != 200 && i < 3000; i++)
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

static char clock_file[] = "/tmp/mayfly-crl-clock.XXXXXX";

static bool clock_shift(int64_t seconds)
{
    struct err e = {0};
    char text[32];
    int n = snprintf(text, sizeof text, "%lld\n", (long long)seconds);
    must(file_write_atomic(clock_file, text, (size_t)n, 0600, false, &e), &e);
    return clock_wall() > time(NULL) + seconds / 2;
}

static void revoke_one(void)
{
    static const char body[] = "{\"by\":\"spiffe_id\",\"value\":\"spiffe://test.example/web\"}";
    assert_int_equal(ask(c, "POST", "/admin/v1/revocations", body, sizeof body - 1, "application/json", true), 201);
}

/* With something revoked, and nowhere to look up what it names, a start makes none: better none than one with
 * somebody missing. */
static void not_whole(void **state)
{
    const struct crl_options o = {.config = w->config, .ra = w->ra};
    struct err e = {0};
    int64_t began = clock_wall();
    get_first("/crl/1-0.crl");
    revoke_one();
    assert_int_equal(get(c, "/crl/1-0.crl"), 200);
    int64_t after = 0, oldest = 0;
    atomic_bool stop = false;
    struct crl_found found;
    crl_found_init(&found);
    while (crl_find(&found, &o, &after, &oldest, NULL, NULL, &stop, &e) == 0) /* until the revocation's record is told */
        usleep(20000);
    assert_string_equal(e.rule, "audit-index");
    assert_int_equal(after, 0);
    assert_true(oldest >= began && oldest <= clock_wall());
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

/* And where it was whole once: what is revoked later and cannot be looked up ends the making of lists. Those there
 * are lapse: a new nextUpdate would hide who is missing. */
static void no_longer_whole(void **state)
{
    atomic_store(&w->crl_life, 2);
    get_first("/crl/1-0.crl");
    revoke_one();
    for (int i = 0; get(c, "/crl/1-0.crl") == 200 && i < 1000; i++)
        usleep(20000);
    assert_int_equal(c->status, 503);
    assert_int_equal(get(c, "/crl/2-0.crl"), 503);
    assert_non_null(strstr((const char *)c->body.p, "crl-not-ready"));
    assert_string_equal(answer_header(c, "Retry-After"), "1");
    if (!clock_shift(RA_REVOCATION_KEPT + 60))
        return; /* this build's clock stands */
    for (int i = 0; get(c, "/crl/2-0.crl") != 200 && i < 1000; i++) /* all that was revoked has ended */
        usleep(20000);
    assert_int_equal(c->status, 200);
    clock_shift(0);
}

/* No list is taken for another by the time when it was made, which is no earlier than it was asked for. */
static void told_apart(void **state)
{
    struct tm tm = {0};
    char etag[64], since[64], line[96];
    int64_t began = clock_wall();
    atomic_store(&w->crl_life, 3); /* so that a busy machine serves it before it has lapsed */
    get_first("/crl/1-0.crl");
    snprintf(since, sizeof since, "%s", answer_header(c, "Last-Modified"));
    assert_non_null(strptime(since, "%a, %d %b %Y %H:%M:%S GMT", &tm));
    assert_true(timegm(&tm) >= began && timegm(&tm) <= clock_wall());
    for (int i = 0; i < 50 || (atomic_load(&w->crls) == 1 && i < 600); i++) {
        snprintf(etag, sizeof etag, "%s", answer_header(c, "ETag"));
        snprintf(line, sizeof line, "If-Modified-Since: %s", answer_header(c, "Last-Modified"));
        usleep(50000);
        long status = get_with("/crl/1-0.crl", line);
        assert_true(status == 200 || status == 304);
        assert_true(status == 200 || strcmp(answer_header(c, "ETag"), etag) == 0);
        assert_int_equal(get(c, "/crl/1-0.crl"), 200);
    }
    assert_true(atomic_load(&w->crls) > 1);
    atomic_store(&w->crl_life, 3600);
    while (get(c, "/crl/1-0.crl") != 200 || strtol(answer_header(c, "Cache-Control") + strlen("public, max-age="), NULL, 10) < 60)
        usleep(20000);
    snprintf(line, sizeof line, "If-Modified-Since: %s", answer_header(c, "Last-Modified"));
    assert_int_equal(get_with("/crl/1-0.crl", line), 304);
    assert_int_equal(get_with("/crl/1-0.crl", "If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT"), 200);
}

/* --- several that wait ------------------------------------------------------------------------------------------ */

#define WAITERS_MAX 24
struct waiters {
    CURLM *multi;
    CURL *curl[WAITERS_MAX];
    unsigned number[WAITERS_MAX]; /* of the list, from its ETag */
    size_t n;
    int running;
};

static size_t on_number(char *p, size_t size, size_t n, void *arg)
{
    char line[128];
    snprintf(line, sizeof line, "%.*s", (int)(size * n), p);
    if (strncasecmp(line, "ETag: \"", 7) == 0)
        *(unsigned *)arg = (unsigned)strtoul(line + 7, NULL, 10);
    return size * n;
}

static void waiters_ask(struct waiters *x, unsigned shards, unsigned shard)
{
    char url[64];
    CURL *curl = x->curl[x->n] = curl_easy_init();
    snprintf(url, sizeof url, "https://127.0.0.1:%u/crl/%u-%u.crl", w->port, shards, shard);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 0L);
    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 0L);
    curl_easy_setopt(curl, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, 20L); /* less than the signer is given */
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_number);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, &x->number[x->n++]);
    curl_multi_add_handle(x->multi, curl);
}

static void waiters_move(struct waiters *x)
{
    curl_multi_perform(x->multi, &x->running);
    curl_multi_poll(x->multi, NULL, 0, 10, NULL);
}

/* Until all that were asked for wait. */
static void waiters_arrive(struct waiters *x)
{
    for (size_t n = 0; n < x->n;) {
        waiters_move(x);
        assert_int_equal(x->running, x->n);
        n = 0;
        pthread_mutex_lock(&w->api->lock);
        for (const struct request *r = w->api->suspended; r; r = r->next)
            n++;
        pthread_mutex_unlock(&w->api->lock);
    }
}

/* All are answered, and so. */
static void waiters_answered(struct waiters *x, long status)
{
    do
        waiters_move(x);
    while (x->running);
    for (size_t i = 0; i < x->n; i++) {
        long got = 0;
        curl_off_t retry = 0;
        curl_easy_getinfo(x->curl[i], CURLINFO_RESPONSE_CODE, &got);
        curl_easy_getinfo(x->curl[i], CURLINFO_RETRY_AFTER, &retry);
        assert_int_equal(got, status);
        assert_int_equal(retry, status == 503);
    }
}

static void waiters_free(struct waiters *x)
{
    for (size_t i = 0; i < x->n; i++) {
        curl_multi_remove_handle(x->multi, x->curl[i]);
        curl_easy_cleanup(x->curl[i]);
    }
    curl_multi_cleanup(x->multi);
}

/* Stopping while somebody waits for a list that does not come. */
static void stopped_while_waiting(void **state)
{
    struct waiters x = {.multi = curl_multi_init()};
    get_first("/crl/1-0.crl");
    atomic_store(&w->mute, true);
    waiters_ask(&x, 2, 1);
    waiters_arrive(&x);
    teardown(NULL);
    setup(NULL);
    waiters_free(&x);
}

/* A signer that is away: nobody waits for it as long as it is given, and the server can stop. */
static void signer_away(void **state)
{
    struct waiters x = {.multi = curl_multi_init()};
    get_first("/crl/1-0.crl");
    atomic_store(&w->mute, true);
    for (unsigned i = 0; i < 16; i++)
        waiters_ask(&x, 16, i);
    waiters_answered(&x, 503);
    atomic_store(&w->mute, false);
    waiters_free(&x);
    assert_int_equal(atomic_load(&w->crls_asked), 1 + 8);
}

/* One that makes none says so for all that wait: not each has to be asked for first. */
static void one_refusal_for_all(void **state)
{
    struct waiters x = {.multi = curl_multi_init()};
    get_first("/crl/1-0.crl");
    atomic_store(&w->crl_hold, true);
    atomic_store(&w->crl_life, 0);
    for (unsigned i = 0; i < 16; i++)
        waiters_ask(&x, 16, i);
    waiters_arrive(&x);
    atomic_store(&w->crl_hold, false);
    waiters_answered(&x, 503);
    assert_in_range(atomic_load(&w->crls_asked), 1 + 1, 1 + 8); /* those that were under way */
    waiters_free(&x);
}

/* Each list has its turn: those before the ones that hold all places come after those behind them. */
static void in_turn(void **state)
{
    struct waiters x = {.multi = curl_multi_init()};
    get_first("/crl/1-0.crl");
    atomic_store(&w->crl_hold, true);
    for (unsigned i = 0; i < 4; i++)
        waiters_ask(&x, 4, i);
    for (unsigned i = 0; i < 4; i++)
        waiters_ask(&x, 8, i);
    waiters_arrive(&x);
    waiters_ask(&x, 2, 0);
    waiters_ask(&x, 16, 0);
    waiters_arrive(&x);
    atomic_store(&w->crl_hold, false);
    waiters_answered(&x, 200);
    assert_true(x.number[9] && x.number[9] < x.number[8]);
    waiters_free(&x);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {T(made_once), T(unknown), T(signer_refuses), T(made_again), T(not_whole),
                                       T(no_longer_whole), T(told_apart), T(stopped_while_waiting), T(signer_away),
                                       T(one_refusal_for_all), T(in_turn)};
    int fd = mkstemp(clock_file);
    if (fd < 0 || setenv("MAYFLY_CLOCK_OFFSET_FILE", clock_file, 1) < 0)
        return 1;
    close(fd);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(clock_file);
    return failed;
}
