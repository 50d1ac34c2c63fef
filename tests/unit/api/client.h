/* A client for the tests: libcurl, and JWS of every make, good and bad. */
#ifndef TESTS_UNIT_API_CLIENT_H
#define TESTS_UNIT_API_CLIENT_H
#include "base/jose.h"
#include "tests/unit/api/fixture.h"
#include <curl/curl.h>
#include <openssl/x509.h>
#include <strings.h>

struct client {
    struct world *w;
    CURL *curl;
    struct key *key;
    char thumbprint[44];
    char kid[256];
    char nonce[64]; /* of the last answer */
    /* the last answer */
    long status;
    struct buf body;
    char headers[4096];
    json_t *doc; /* the body, where it is JSON */
};

static inline size_t on_body(char *p, size_t size, size_t n, void *arg)
{
    struct client *c = arg;
    buf_put(&c->body, p, size * n);
    return size * n;
}

static inline size_t on_header(char *p, size_t size, size_t n, void *arg)
{
    struct client *c = arg;
    size_t have = strlen(c->headers);
    if (n > 5 && strncmp(p, "HTTP/", 5) == 0)
        have = 0;
    snprintf(c->headers + have, sizeof c->headers - have, "%.*s", (int)(size * n), p);
    return size * n;
}

/* The value of a header of the last answer, in memory good until the next call; "" when absent. */
static inline const char *answer_header(const struct client *c, const char *name)
{
    static _Thread_local char value[1024];
    size_t len = strlen(name);
    *value = 0;
    for (const char *line = c->headers; line && *line; line = strchr(line, '\n'), line = line ? line + 1 : NULL)
        if (strncasecmp(line, name, len) == 0 && line[len] == ':')
            snprintf(value, sizeof value, "%.*s", (int)strcspn(line + len + 2, "\r\n"), line + len + 2);
    return value;
}

static inline struct client *client_new(struct world *w)
{
    struct client *c = calloc(1, sizeof *c);
    struct err e = {0};
    c->w = w;
    c->curl = curl_easy_init();
    c->key = key_generate(KEY_P256, &e);
    must(c->key ? jwk_thumbprint(c->thumbprint, c->key, &e) : -1, &e);
    buf_init(&c->body, 1 << 20);
    return c;
}

static inline void client_free(struct client *c)
{
    curl_easy_cleanup(c->curl);
    key_free(c->key);
    json_decref(c->doc);
    buf_free(&c->body);
    free(c);
}

/* `where`: a path, or a whole URL. admin: over the Unix socket. Returns the status. */
static inline long ask(struct client *c, const char *method, const char *where, const void *body, size_t len,
                       const char *content_type, bool admin)
{
    char url[2600], text[512], path[4096];
    struct err e = {0};
    struct curl_blob roots = {c->w->root_pem, strlen(c->w->root_pem), CURL_BLOB_NOCOPY};
    snprintf(url, sizeof url, *where == '/' ? "%s%s" : "%.0s%s", admin ? "http://mayfly" : c->w->config->external_url, where);
    snprintf(text, sizeof text, "localhost:%u:127.0.0.1", c->w->port);
    struct curl_slist *resolve = curl_slist_append(NULL, text), *headers = NULL;
    snprintf(text, sizeof text, "Content-Type:%s%s", content_type ? " " : "", content_type ? content_type : "");
    headers = curl_slist_append(curl_slist_append(NULL, text), "Expect:");
    buf_reset(&c->body);
    c->headers[0] = 0;
    curl_easy_reset(c->curl);
    curl_easy_setopt(c->curl, CURLOPT_URL, url);
    curl_easy_setopt(c->curl, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(c->curl, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(c->curl, CURLOPT_RESOLVE, resolve);
    curl_easy_setopt(c->curl, CURLOPT_CAINFO_BLOB, &roots);
    curl_easy_setopt(c->curl, CURLOPT_CAPATH, NULL);
    curl_easy_setopt(c->curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(c->curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(c->curl, CURLOPT_WRITEDATA, c);
    curl_easy_setopt(c->curl, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(c->curl, CURLOPT_HEADERDATA, c);
    curl_easy_setopt(c->curl, CURLOPT_TIMEOUT, 60L);
    curl_easy_setopt(c->curl, CURLOPT_NOSIGNAL, 1L);
    if (admin) {
        config_admin_socket(c->w->config, path, sizeof path);
        curl_easy_setopt(c->curl, CURLOPT_UNIX_SOCKET_PATH, path);
    }
    if (body) {
        curl_easy_setopt(c->curl, CURLOPT_POSTFIELDSIZE, (long)len);
        curl_easy_setopt(c->curl, CURLOPT_POSTFIELDS, body);
    }
    if (strcmp(method, "HEAD") == 0)
        curl_easy_setopt(c->curl, CURLOPT_NOBODY, 1L);
    else
        curl_easy_setopt(c->curl, CURLOPT_CUSTOMREQUEST, method);
    CURLcode cc = curl_easy_perform(c->curl);
    curl_slist_free_all(headers);
    curl_slist_free_all(resolve);
    if (cc != CURLE_OK)
        fail_msg("%s %s: %s", method, url, curl_easy_strerror(cc));
    curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &c->status);
    const char *nonce = answer_header(c, "Replay-Nonce");
    if (*nonce)
        snprintf(c->nonce, sizeof c->nonce, "%s", nonce);
    json_decref(c->doc);
    c->doc = c->body.len ? json_parse(c->body.p, c->body.len, 1 << 20, &e) : NULL;
    return c->status;
}

static inline long get(struct client *c, const char *where)
{
    return ask(c, "GET", where, NULL, 0, NULL, false);
}

static inline long admin(struct client *c, const char *method, const char *where, const char *json)
{
    return ask(c, method, where, json, json ? strlen(json) : 0, "application/json", true);
}

static inline const char *member(const struct client *c, const char *name)
{
    const char *s = c->doc ? json_string_value(json_object_get(c->doc, name)) : NULL;
    return s ? s : "";
}

/* The last answer was this problem, and carries what every POST answer under /acme must. */
#define assert_problem(c, want_status, want_type)                                                   \
    do {                                                                                            \
        if ((c)->status != (want_status))                                                           \
            fail_msg("status %ld, not %d: %.*s", (c)->status, want_status, (int)(c)->body.len, (const char *)(c)->body.p); \
        assert_string_equal(answer_header(c, "Content-Type"), "application/problem+json");           \
        assert_string_equal(member(c, "type"), "urn:ietf:params:acme:error:" want_type);            \
        assert_true(*member(c, "detail") && *member(c, "rule"));                                    \
        assert_int_equal(strlen(answer_header(c, "Replay-Nonce")), 16);                             \
        assert_non_null(strstr(answer_header(c, "Link"), "/acme/directory>;rel=\"index\""));        \
    } while (0)

static inline const char *fresh(struct client *c)
{
    if (!*c->nonce)
        ask(c, "HEAD", "/acme/new-nonce", NULL, 0, NULL, false);
    return c->nonce;
}

static inline void full_url(const struct client *c, const char *where, char url[1024])
{
    snprintf(url, 1024, "%s%s", *where == '/' ? c->w->config->external_url : "", where);
}

/* A signed request as it should be: by kid when the client has one. payload NULL: POST-as-GET. */
static inline long post(struct client *c, const char *where, const char *payload)
{
    struct buf b;
    struct err e = {0};
    char url[1024];
    full_url(c, where, url);
    buf_init(&b, 1 << 17);
    must(jws_sign(&b, c->key, *c->kid ? c->kid : NULL, fresh(c), url, payload, payload ? strlen(payload) : 0, &e), &e);
    c->nonce[0] = 0;
    long status = ask(c, "POST", where, b.p, b.len, "application/jose+json", false);
    buf_free(&b);
    return status;
}

/* A JWS around any header at all, signed by k. */
static inline void jws_raw(struct buf *out, const struct key *k, const char *header, const char *payload)
{
    struct buf input;
    struct err e = {0};
    uint8_t sig[512];
    buf_init(&input, 1 << 17);
    buf_b64url(&input, header, strlen(header));
    size_t dot = input.len;
    buf_u8(&input, '.');
    buf_b64url(&input, payload, strlen(payload));
    long n = key_sign(k, false, sig, sizeof sig, input.p, input.len, &e);
    must((int)n, &e);
    buf_fmt(out, "{\"protected\":\"%.*s\",\"payload\":\"%s\",\"signature\":\"", (int)dot, (char *)input.p,
            buf_cstr(&input) + dot + 1);
    buf_b64url(out, sig, (size_t)n);
    buf_str(out, "\"}");
    buf_free(&input);
}

static inline void account(struct client *c)
{
    assert_int_equal(post(c, "/acme/new-account", "{\"termsOfServiceAgreed\":true}"), 201);
    snprintf(c->kid, sizeof c->kid, "%s", answer_header(c, "Location"));
    assert_true(*c->kid);
}

/* --- what orders are made of ------------------------------------------------------------------------ */

static inline void csr_make(struct buf *der, const char *san)
{
    struct err e = {0};
    struct key *k = key_generate(KEY_P256, &e);
    X509_REQ *req = X509_REQ_new();
    STACK_OF(X509_EXTENSION) *exts = sk_X509_EXTENSION_new_null();
    sk_X509_EXTENSION_push(exts, X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, san));
    X509_REQ_set_pubkey(req, key_evp(k));
    X509_REQ_add_extensions(req, exts);
    X509_REQ_sign(req, key_evp(k), EVP_sha256());
    uint8_t *p = NULL;
    int n = i2d_X509_REQ(req, &p);
    assert_true(n > 0);
    buf_put(der, p, (size_t)n);
    OPENSSL_free(p);
    sk_X509_EXTENSION_pop_free(exts, X509_EXTENSION_free);
    X509_REQ_free(req);
    key_free(k);
}

/* A join token of the admin API, as evidence for this freshness. */
static inline void evidence_make(struct client *c, struct buf *out, const char *spiffe_id, const char *freshness)
{
    char json[2200];
    uint8_t secret[32], anchor[32], digest[32];
    struct err e = {0};
    struct client *operator = client_new(c->w);
    snprintf(json, sizeof json, "{\"spiffe_id\":\"%s\"}", spiffe_id);
    assert_int_equal(admin(operator, "POST", "/admin/v1/tokens", json), 201);
    must(join_token_parse(member(operator, "token"), strlen(member(operator, "token")), secret, anchor, &e), &e);
    client_free(operator);
    attest_key_authorization(digest, freshness, c->thumbprint);
    must(attest_join_token_collect(out, secret, digest, &e), &e);
}

static inline void entry_make(struct world *w, const char *json)
{
    struct client *operator = client_new(w);
    if (admin(operator, "POST", "/admin/v1/entries", json) != 201)
        fail_msg("entry: %.*s", (int)operator->body.len, (const char *)operator->body.p);
    client_free(operator);
}

/* The payload of a one-round-trip order; evidence NULL: none. */
static inline void order_payload(struct buf *out, const char *spiffe_id, const struct buf *evidence)
{
    struct buf csr;
    char san[2200];
    buf_init(&csr, 8192);
    snprintf(san, sizeof san, "URI:%s", spiffe_id);
    csr_make(&csr, san);
    buf_fmt(out, "{\"identifiers\":[{\"type\":\"uri\",\"value\":\"%s\"}],\"csr\":\"", spiffe_id);
    buf_b64url(out, csr.p, csr.len);
    buf_str(out, "\"");
    if (evidence) {
        buf_str(out, ",\"evidence\":");
        buf_put(out, evidence->p, evidence->len);
    }
    buf_str(out, "}");
    buf_free(&csr);
}
#endif
