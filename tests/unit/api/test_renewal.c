/* RFC 9773 as it is served: from a name to the log's entry to a window; and orders that say what they replace. */
#include "api/internal.h"
#include "api/renewal.h"
#include "tests/unit/api/client.h"
#include "tlog/log.h"

#define WEB "spiffe://test.example/web"
#define DB "spiffe://test.example/db"
#define LIFE 300
#define FILL 600 /* entries, so that there is more than one bundle */

static struct world *w;
static struct client *c;
static struct tlog *t;
static struct tlog_vkey vkey;
static char ski[128], other_ski[128]; /* base64url */
static uint64_t web_index, old_index;
static uint8_t web_key[32];

/* --- a log ------------------------------------------------------------------------------------------ */

static int sign(void *arg, const uint8_t *msg, size_t len, uint8_t sig[64], struct err *e)
{
    size_t n = 64;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    assert_int_equal(EVP_DigestSignInit(ctx, NULL, NULL, NULL, w->log_key), 1);
    assert_int_equal(EVP_DigestSign(ctx, sig, &n, msg, len), 1);
    EVP_MD_CTX_free(ctx);
    return 0;
}

static void log_open(void)
{
    struct err e = {0};
    char path[128];
    snprintf(path, sizeof path, "%s/log/tile", w->dir);
    rmdir(path);
    tlog_vkey_free(&vkey);
    must(tlog_vkey_parse(&vkey, w->vkey, strlen(w->vkey), &e), &e);
    const struct tlog_options o = {.dir = w->config->log.dir, .vkey = &vkey, .sign = sign, .publish_ms = 20};
    must(tlog_create(&o, &e), &e);
    must(tlog_open(&t, &o, &e), &e);
}

static uint64_t append(const struct buf *entry, size_t n)
{
    struct err e = {0};
    struct bytes list[TLOG_BATCH_MAX];
    uint64_t first;
    for (size_t i = 0; i < n; i++)
        list[i] = (struct bytes){entry->p, entry->len};
    must(tlog_append(t, list, n, &first, &e), &e);
    return first;
}

static void published(void)
{
    struct tlog_status s;
    do {
        usleep(2000);
        tlog_status(t, &s);
    } while (s.published_size < s.size);
}

/* What the log has of a certificate. */
static void entry_of(struct buf *out, const char *id, EVP_PKEY *issuing_key, uint8_t key[32])
{
    struct err e = {0};
    struct buf body, ext;
    struct tlog_cert_fields f;
    struct bytes stapled;
    char san[256];
    EVP_PKEY *k = EVP_EC_gen("P-256");
    X509 *issuer = certificate(issuing_key, "issuer", NULL, issuing_key, true, NULL, 86400);
    snprintf(san, sizeof san, "URI:%s", id);
    X509 *x = certificate(k, NULL, issuer, issuing_key, false, san, LIFE);
    extension(x, issuer, NID_authority_key_identifier, "keyid:always");
    assert_true(X509_sign(x, issuing_key, EVP_sha256()) > 0);
    struct bytes der = der_of(x);
    buf_init(&body, TLOG_ENTRY_MAX);
    must(tlog_cert_body(&body, &f, &stapled, der.p, der.len, &e), &e);
    memcpy(key, f.spki_hash, 32);
    const struct tlog_ext_info info = {.attestor = {(const uint8_t *)"agent", 5}, .entry_id = {(const uint8_t *)"e1", 2},
                                       .entry_revision = 1, .requester = {(const uint8_t *)DB, strlen(DB)}};
    buf_init(&ext, 4096);
    tlog_ext_write(&info, &ext);
    buf_init(out, TLOG_ENTRY_MAX);
    tlog_entry_write(&(struct tlog_entry){TLOG_ENTRY_TBS_CERT, {ext.p, ext.len}, {body.p, body.len}}, out);
    if (!ext.len || out->failed)
        fail();
    der_free(der);
    buf_free(&body);
    buf_free(&ext);
    X509_free(x);
    X509_free(issuer);
    EVP_PKEY_free(k);
}

static void ski_of(char out[128], EVP_PKEY *k)
{
    X509 *x = certificate(k, "x", NULL, k, true, NULL, 100);
    const ASN1_OCTET_STRING *id = X509_get0_subject_key_id(x);
    b64url_encode(out, ASN1_STRING_get0_data(id), (size_t)ASN1_STRING_length(id));
    X509_free(x);
}

static void name_of(char out[256], const char *aki, uint64_t serial)
{
    uint8_t raw[9] = {0};
    char text[16];
    size_t skip = 0;
    for (int i = 0; i < 8; i++)
        raw[1 + i] = (uint8_t)(serial >> (56 - 8 * i));
    while (skip < 8 && raw[skip] == 0 && !(raw[skip + 1] & 0x80))
        skip++;
    b64url_encode(text, raw + skip, sizeof raw - skip);
    snprintf(out, 256, "%s.%s", aki, text);
}

#define SERIAL(index) ((uint64_t)w->config->log.number << 48 | (index))

/* --- asking --------------------------------------------------------------------------------------------- */

static long ask_for(const char *aki, uint64_t serial)
{
    char path[512], name[256];
    name_of(name, aki, serial);
    snprintf(path, sizeof path, "/acme/renewal-info/%s", name);
    return get(c, path);
}

static int64_t time_of(const char *name)
{
    struct tm tm = {0};
    const char *text = json_string_value(json_object_get(json_object_get(c->doc, "suggestedWindow"), name));
    assert_non_null(text);
    const char *end = strptime(text, "%Y-%m-%dT%H:%M:%SZ", &tm);
    assert_true(end && !*end);
    return timegm(&tm);
}

static void test_window(void **state)
{
    int64_t now = clock_wall();
    assert_int_equal(ask_for(ski, SERIAL(web_index)), 200);
    assert_string_equal(answer_header(c, "Content-Type"), "application/json");
    assert_string_equal(answer_header(c, "Retry-After"), "30");
    assert_string_equal(answer_header(c, "Cache-Control"), "no-store");
    assert_int_equal(time_of("end") - time_of("start"), LIFE * 15 / 100);
    assert_in_range(time_of("start"), now, now + LIFE * 45 / 100);
    for (int i = 0; i < 50; i++) /* on one connection, from the bundle read last */
        assert_int_equal(ask_for(ski, SERIAL(i % 2 ? web_index : old_index)), i % 2 ? 200 : 404);
    assert_int_equal(get(c, "/acme/directory"), 200);
    char url[1024];
    full_url(c, "/acme/renewal-info", url);
    assert_string_equal(member(c, "renewalInfo"), url);
}

/* Of an issuing key that is not in use any more: now. */
static void test_rotated(void **state)
{
    int64_t before = clock_wall();
    assert_int_equal(ask_for(other_ski, SERIAL(old_index)), 200);
    assert_in_range(time_of("start"), before, clock_wall());
    assert_int_equal(time_of("end") - time_of("start"), LIFE / 10);
    assert_string_equal(answer_header(c, "Retry-After"), "30");
}

static void revoke_by(const char *by, const char *value)
{
    struct client *o = client_new(w);
    char json[512];
    snprintf(json, sizeof json, "{\"by\":\"%s\",\"value\":\"%s\"}", by, value);
    assert_int_equal(admin(o, "POST", "/admin/v1/revocations", json), 201);
    client_free(o);
}

static void test_revoked(void **state)
{
    char text[65];
    int64_t before = clock_wall();
    snprintf(text, sizeof text, "%llx", (unsigned long long)SERIAL(web_index + 1));
    revoke_by("serial", text);
    assert_int_equal(ask_for(ski, SERIAL(web_index)), 200);
    assert_true(time_of("start") > before + LIFE / 10);
    snprintf(text, sizeof text, "%llx", (unsigned long long)SERIAL(web_index));
    revoke_by("serial", text);
    assert_int_equal(ask_for(ski, SERIAL(web_index)), 200);
    assert_in_range(time_of("start"), before, clock_wall());
    assert_int_equal(time_of("end") - time_of("start"), LIFE / 10);
}

static void test_revoked_key(void **state)
{
    char text[65];
    hex_encode(text, web_key, sizeof web_key);
    revoke_by("key", text);
    assert_int_equal(ask_for(ski, SERIAL(web_index)), 200);
    assert_int_equal(time_of("end") - time_of("start"), LIFE / 10);
}

static void test_unknown(void **state)
{
    static const char *const bad[] = {"x", ".", "AAAA.", ".AAAA", "AAAA.!", "AAAA.AA", "AAAA.AAAA", "AAAA=.AQ", "AAAA.AQ/", "AAAA.gA"};
    char path[4096], longer[3000];
    assert_int_equal(ask_for(ski, SERIAL(web_index) + (UINT64_C(1) << 48)), 404); /* of another log */
    assert_string_equal(member(c, "rule"), "renewal-unknown");
    assert_int_equal(ask_for(other_ski, SERIAL(web_index)), 404); /* of another issuer */
    assert_int_equal(ask_for(ski, SERIAL(0)), 404);
    assert_int_equal(ask_for(ski, SERIAL(5)), 404); /* no certificate */
    assert_int_equal(ask_for(ski, SERIAL((UINT64_C(1) << 48) - 1)), 404);
    assert_int_equal(ask_for(ski, 1), 404);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(path, sizeof path, "/acme/renewal-info/%s", bad[i]);
        get(c, path);
        if (strcmp(bad[i], "AAAA.AAAA") != 0 && strcmp(bad[i], "AAAA.AA") != 0)
            assert_string_equal(member(c, "rule"), "renewal-id");
        assert_int_equal(c->status, strcmp(bad[i], "AAAA.AA") == 0 ? 404 : 400);
    }
    memset(longer, 'A', sizeof longer - 1);
    longer[sizeof longer - 1] = 0;
    snprintf(path, sizeof path, "/acme/renewal-info/%s.AQ", longer);
    assert_int_equal(get(c, path), 400);
    assert_int_equal(get(c, "/acme/renewal-info/"), 404);
    assert_int_equal(ask(c, "POST", "/acme/renewal-info/AAAA.AQ", "x", 1, "text/plain", false), 405);
}

/* Logged, and not published yet; then it is. */
static void test_not_yet(void **state)
{
    struct buf entry;
    struct tlog_status s;
    uint8_t key[32];
    tlog_status(t, &s);
    assert_int_equal(ask_for(ski, SERIAL(web_index)), 200);
    assert_int_equal(ask_for(ski, SERIAL(s.size)), 503);
    assert_string_equal(member(c, "rule"), "renewal-not-yet");
    assert_string_equal(answer_header(c, "Retry-After"), "1");
    entry_of(&entry, WEB, w->issuing_key, key);
    assert_int_equal(append(&entry, 1), s.size);
    published();
    assert_int_equal(ask_for(ski, SERIAL(s.size)), 200);
    buf_free(&entry);
}

/* A file that is gone: said so, and no more; when it is back, all is well. */
static void test_log_trouble(void **state)
{
    char path[256], away[260];
    assert_int_equal(ask_for(ski, SERIAL(web_index)), 200);
    snprintf(path, sizeof path, "%s/log/tile/entries/000", w->dir);
    snprintf(away, sizeof away, "%s.not", path);
    assert_int_equal(rename(path, away), 0);
    assert_int_equal(ask_for(ski, SERIAL(5)), 500);
    assert_int_equal(ask_for(ski, SERIAL(web_index)), 200);
    assert_int_equal(rename(away, path), 0);
    assert_int_equal(ask_for(ski, SERIAL(5)), 404);
    snprintf(path, sizeof path, "%s/log/checkpoint", w->dir);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(ask_for(ski, SERIAL(1u << 15)), 503);
}

static char clock_file[] = "/tmp/mayfly-renewal-clock.XXXXXX";

static bool clock_shift(int64_t seconds)
{
    struct err e = {0};
    char text[32];
    int n = snprintf(text, sizeof text, "%lld\n", (long long)seconds);
    must(file_write_atomic(clock_file, text, (size_t)n, 0600, false, &e), &e);
    return clock_wall() > time(NULL) + seconds / 2;
}

/* What ended long ago is not looked for, nor what is before it: no file is read. */
static void test_long_ago(void **state)
{
    char path[256], away[260];
    if (!clock_shift(w->config->ca.max_lifetime + 2 * 86400))
        return; /* this build's clock stands */
    assert_int_equal(ask_for(ski, SERIAL(web_index)), 404);
    assert_string_equal(member(c, "rule"), "renewal-unknown");
    snprintf(path, sizeof path, "%s/log/tile/entries", w->dir);
    snprintf(away, sizeof away, "%s.not", path);
    assert_int_equal(rename(path, away), 0);
    assert_int_equal(ask_for(ski, SERIAL(5)), 404);
    assert_int_equal(rename(away, path), 0);
    clock_shift(0);
    assert_int_equal(ask_for(ski, SERIAL(web_index)), 200);
}

/* --- orders ------------------------------------------------------------------------------------------------- */

static void order_replacing(const char *id, const char *replaces)
{
    char json[1024];
    snprintf(json, sizeof json, "{\"identifiers\":[{\"type\":\"uri\",\"value\":\"%s\"}],\"replaces\":%s}", id, replaces);
    post(c, "/acme/new-order", json);
}

static void test_replaces(void **state)
{
    char name[256], text[300];
    account(c);
    entry_make(w, "{\"spiffe_id\":\"" WEB "\"}");
    entry_make(w, "{\"spiffe_id\":\"" DB "\"}");
    name_of(name, ski, SERIAL(web_index));
    snprintf(text, sizeof text, "\"%s\"", name);
    order_replacing(WEB, text);
    assert_int_equal(c->status, 201);
    order_replacing(WEB, text); /* nobody keeps account of what was replaced */
    assert_int_equal(c->status, 201);
    order_replacing(DB, text);
    assert_problem(c, 403, "unauthorized");
    assert_string_equal(member(c, "rule"), "replaces");
    /* what is not there holds up nobody */
    name_of(name, ski, SERIAL(1u << 20));
    snprintf(text, sizeof text, "\"%s\"", name);
    order_replacing(DB, text);
    assert_int_equal(c->status, 201);
    order_replacing(DB, "\"aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE\"");
    assert_int_equal(c->status, 201);
    order_replacing(DB, "\"no name\"");
    assert_problem(c, 400, "malformed");
    assert_string_equal(member(c, "rule"), "renewal-id");
    order_replacing(DB, "7");
    assert_problem(c, 400, "malformed");
}

/* --- the fixture ---------------------------------------------------------------------------------------------- */

static int setup(void **state)
{
    struct buf entry, other;
    uint8_t key[32];
    w = world_new(3600);
    c = client_new(w);
    EVP_PKEY *old = EVP_EC_gen("P-256");
    ski_of(ski, w->issuing_key);
    ski_of(other_ski, old);
    log_open();
    buf_init(&other, 4096);
    tlog_entry_write(&(struct tlog_entry){0x7777, {NULL, 0}, {(const uint8_t *)"x", 1}}, &other); /* of a later version */
    for (size_t left = FILL, n; left > 0; left -= n)
        append(&other, n = left < TLOG_BATCH_MAX ? left : TLOG_BATCH_MAX);
    entry_of(&entry, WEB, w->issuing_key, web_key);
    web_index = append(&entry, 1);
    buf_free(&entry);
    entry_of(&entry, WEB, old, key);
    old_index = append(&entry, 1);
    buf_free(&entry);
    buf_free(&other);
    EVP_PKEY_free(old);
    published();
    return 0;
}

static int teardown(void **state)
{
    tlog_close(t);
    client_free(c);
    world_free(w);
    return 0;
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {T(test_window), T(test_rotated), T(test_revoked),     T(test_revoked_key),
                                       T(test_unknown), T(test_not_yet), T(test_log_trouble), T(test_replaces),
                                       T(test_long_ago)};
    int fd = mkstemp(clock_file);
    if (fd < 0 || setenv("MAYFLY_CLOCK_OFFSET_FILE", clock_file, 1) < 0)
        return 1;
    close(fd);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    tlog_vkey_free(&vkey);
    unlink(clock_file);
    return failed;
}
