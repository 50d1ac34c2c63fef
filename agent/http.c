/* The one connection: libcurl over OpenSSL, kept alive between requests. Whom it trusts is decided
 * in trust.c, from inside the handshake, before anything is sent. No redirects, no proxies, no
 * TLS session resumption (a resumed session would skip that decision), and nothing from the user's
 * environment: neither proxies nor roots, nor a file to log the session's keys to. */
#include "agent/internal.h"
#include "base/clock.h"
#include <curl/curl.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CONNECT_MS 10000

struct http {
    CURL *curl;
    struct curl_slist *headers;
    struct agent_trust *trust;       /* not owned */
    const struct url_server *server; /* not owned */
    struct err refused;              /* why the server's chain was refused; ERR_NONE: it was not */
    struct http_answer *answer;      /* of the request being made */
    size_t headers_len;
    bool too_large;
    _Atomic int64_t stop_ms;         /* monotonic: what is under way then is given up; 0: nothing is */
    char curl_error[CURL_ERROR_SIZE];
};

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void setup(void)
{
    unsetenv("SSLKEYLOGFILE"); /* libcurl has no other switch for it */
    curl_global_init(CURL_GLOBAL_SSL);
}

void http_answer_init_max(struct http_answer *a, size_t max)
{
    memset(a, 0, sizeof *a);
    buf_init(&a->body, max);
}

void http_answer_init(struct http_answer *a)
{
    http_answer_init_max(a, ANSWER_MAX);
}

void http_answer_free(struct http_answer *a)
{
    buf_free(&a->body);
}

/* OpenSSL's callback in place of its own verification: 1 accepts. */
static int on_chain(X509_STORE_CTX *ctx, void *arg)
{
    struct http *h = arg;
    if (agent_trust_server(h->trust, X509_STORE_CTX_get0_cert(ctx),
                           X509_STORE_CTX_get0_untrusted(ctx), h->server->host, clock_wall(),
                           &h->refused) < 0) {
        X509_STORE_CTX_set_error(ctx, X509_V_ERR_APPLICATION_VERIFICATION);
        return 0;
    }
    X509_STORE_CTX_set_error(ctx, X509_V_OK);
    return 1;
}

static CURLcode on_ssl_ctx(CURL *curl, void *ssl_ctx, void *arg)
{
    SSL_CTX_set_cert_verify_callback(ssl_ctx, on_chain, arg);
    return CURLE_OK;
}

static size_t on_body(char *p, size_t size, size_t n, void *arg)
{
    struct http *h = arg;
    buf_put(&h->answer->body, p, size * n);
    if (h->answer->body.failed)
        h->too_large = true;
    return h->too_large ? 0 : size * n;
}

static bool header_is(struct bytes *line, const char *name)
{
    size_t n = strlen(name);
    if (line->len <= n || strncasecmp((const char *)line->p, name, n) != 0 || line->p[n] != ':')
        return false;
    line->p += n + 1;
    line->len -= n + 1;
    while (line->len && (line->p[0] == ' ' || line->p[0] == '\t'))
        line->p++, line->len--;
    while (line->len && (line->p[line->len - 1] <= ' '))
        line->len--;
    return true;
}

/* RFC 8555 §6.5.1: a nonce with any other character than base64url's is ignored. */
static void take_nonce(char dst[NONCE_MAX + 1], struct bytes v)
{
    if (v.len == 0 || v.len > NONCE_MAX)
        return;
    for (size_t i = 0; i < v.len; i++) {
        uint8_t c = v.p[i];
        bool letter = ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || (c >= '0' && c <= '9') ||
                      c == '-' || c == '_';
        if (!letter)
            return;
    }
    memcpy(dst, v.p, v.len);
    dst[v.len] = 0;
}

static size_t on_header(char *p, size_t size, size_t n, void *arg)
{
    struct http *h = arg;
    struct bytes line = {(const uint8_t *)p, size * n};
    h->headers_len += line.len;
    if (h->headers_len > ANSWER_HEADERS_MAX) {
        h->too_large = true;
        return 0;
    }
    if (line.len >= 5 &&
        memcmp(line.p, "HTTP/", 5) == 0) /* what a 1xx answer said does not count */
        h->answer->nonce[0] = h->answer->location[0] = h->answer->etag[0] = 0;
    else if (header_is(&line, "Replay-Nonce"))
        take_nonce(h->answer->nonce, line);
    else if (header_is(&line, "Location") && line.len <= URL_MAX && !memchr(line.p, 0, line.len)) {
        memcpy(h->answer->location, line.p, line.len);
        h->answer->location[line.len] = 0;
    } else if (header_is(&line, "ETag") && line.len <= ETAG_MAX && !memchr(line.p, 0, line.len)) {
        memcpy(h->answer->etag, line.p, line.len);
        h->answer->etag[line.len] = 0;
    }
    return size * n;
}

void http_stop(struct http *h, int64_t at_ms)
{
    h->stop_ms = at_ms;
}

static bool stopped(struct http *h)
{
    return h->stop_ms != 0 && clock_mono_ms() >= h->stop_ms;
}

/* libcurl asks once a second at least. Not 0: give up. */
static int on_progress(void *arg, curl_off_t down_all, curl_off_t down, curl_off_t up_all, curl_off_t up)
{
    return stopped(arg);
}

bool http_sleep(struct http *h, unsigned ms)
{
    int64_t until = clock_mono_ms() + ms;
    for (int64_t left; (left = until - clock_mono_ms()) > 0 && !stopped(h);) {
        struct timespec t = {0, (long)(left < 100 ? left : 100) * 1000000};
        clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL);
    }
    return !stopped(h);
}

#define SET(option, value) (curl_easy_setopt(h->curl, option, value) == CURLE_OK)

static bool set_always(struct http *h)
{
    return SET(CURLOPT_PROTOCOLS_STR, "https") && SET(CURLOPT_FOLLOWLOCATION, 0L) &&
           SET(CURLOPT_PROXY, "") && SET(CURLOPT_NOPROXY, "*") && SET(CURLOPT_NOSIGNAL, 1L) &&
           SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1) &&
           SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2) &&
           SET(CURLOPT_SSL_VERIFYPEER, 1L) && SET(CURLOPT_SSL_VERIFYHOST, 2L) &&
           SET(CURLOPT_SSL_SESSIONID_CACHE, 0L) &&
           /* without these two libcurl would read the system's roots, in every handshake */
           SET(CURLOPT_CAINFO, NULL) && SET(CURLOPT_CAPATH, NULL) &&
           SET(CURLOPT_SSL_CTX_FUNCTION, on_ssl_ctx) && SET(CURLOPT_SSL_CTX_DATA, h) &&
           SET(CURLOPT_HTTPHEADER, h->headers) &&
           SET(CURLOPT_USERAGENT, "mayfly-agent/" MAYFLY_VERSION) &&
           SET(CURLOPT_WRITEFUNCTION, on_body) && SET(CURLOPT_WRITEDATA, h) &&
           SET(CURLOPT_NOPROGRESS, 0L) && SET(CURLOPT_XFERINFOFUNCTION, on_progress) && SET(CURLOPT_XFERINFODATA, h) &&
           SET(CURLOPT_HEADERFUNCTION, on_header) && SET(CURLOPT_HEADERDATA, h) &&
           SET(CURLOPT_ERRORBUFFER, h->curl_error);
}

struct http *http_new(const struct url_server *s, struct agent_trust *trust, struct err *e)
{
    pthread_once(&once, setup);
    struct http *h = calloc(1, sizeof *h);
    if (h) {
        h->server = s;
        h->trust = trust;
        h->curl = curl_easy_init();
        h->headers = curl_slist_append(NULL, "Content-Type: application/jose+json");
        if (h->curl && h->headers && curl_slist_append(h->headers, "Expect:") && set_always(h))
            return h;
    }
    http_free(h);
    err_set(e, ERR_INTERNAL, "curl", "libcurl could not be set up (is it built on OpenSSL?)");
    return NULL;
}

void http_free(struct http *h)
{
    if (!h)
        return;
    curl_easy_cleanup(h->curl);
    curl_slist_free_all(h->headers);
    free(h);
}

static bool set_request(struct http *h, const struct http_request *q, int64_t left)
{
    bool post = strcmp(q->method, "POST") == 0, head = strcmp(q->method, "HEAD") == 0;
    if (!(SET(CURLOPT_URL, q->url) && SET(CURLOPT_TIMEOUT_MS, (long)left) &&
          SET(CURLOPT_CONNECTTIMEOUT_MS, (long)(left < CONNECT_MS ? left : CONNECT_MS))))
        return false;
    if (post)
        return SET(CURLOPT_NOBODY, 0L) && SET(CURLOPT_POST, 1L) &&
               SET(CURLOPT_POSTFIELDS, (const char *)q->body.p) &&
               SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)q->body.len);
    return SET(CURLOPT_HTTPGET, 1L) && SET(CURLOPT_NOBODY, head ? 1L : 0L);
}

/* RFC 9110 section 13.1.2. The list of headers is this request's own. */
static bool set_condition(struct http *h, const struct http_request *q, struct curl_slist **list)
{
    char header[ETAG_MAX + 32];
    if (!q->if_none_match || !*q->if_none_match)
        return true;
    snprintf(header, sizeof header, "If-None-Match: %s", q->if_none_match);
    *list = curl_slist_append(NULL, header);
    return *list && SET(CURLOPT_HTTPHEADER, *list);
}

static int send_failed(struct http *h, CURLcode cc, struct err *e)
{
    const char *why = h->curl_error[0] ? h->curl_error : curl_easy_strerror(cc);
    if (h->refused.code != ERR_NONE) {
        *e = h->refused;
        return err_wrap(e, "the server at %s is not trusted", h->server->origin);
    }
    if (h->too_large)
        return err_set(e, ERR_CORRUPT, "answer-size",
                       "the server at %s answers with more bytes than are taken", h->server->origin);
    if (cc == CURLE_ABORTED_BY_CALLBACK)
        return err_set(e, ERR_UNAVAILABLE, "server-unreachable", "the program ends before %s answered", h->server->origin);
    if (cc == CURLE_PEER_FAILED_VERIFICATION)
        return err_set(e, ERR_CORRUPT, "chain-host", "the server at %s is not trusted: %s",
                       h->server->origin, why);
    if (cc == CURLE_OPERATION_TIMEDOUT)
        return err_set(
            e, ERR_UNAVAILABLE, "server-timeout",
            "the server at %s did not answer in time (%s): try again, or give a longer --timeout",
            h->server->origin, why);
    return err_set(e, ERR_UNAVAILABLE, "server-unreachable",
                   "the server at %s can not be reached: %s", h->server->origin, why);
}

int http_send(struct http *h, const struct http_request *q, struct http_answer *a, struct err *e)
{
    int64_t left = q->deadline - clock_mono_ms();
    long status = 0;
    curl_off_t retry = 0;
    if (left <= 0)
        return err_set(e, ERR_UNAVAILABLE, "deadline",
                       "the time given is used up: try again, or give a longer --timeout");
    buf_reset(&a->body);
    a->status = a->retry_after = 0;
    a->nonce[0] = a->location[0] = a->etag[0] = 0;
    h->answer = a;
    h->headers_len = 0;
    h->too_large = false;
    h->curl_error[0] = 0;
    err_clear(&h->refused);
    struct curl_slist *conditional = NULL;
    CURLcode cc = CURLE_ABORTED_BY_CALLBACK;
    if (!stopped(h))
        cc = set_request(h, q, left) && set_condition(h, q, &conditional) ? curl_easy_perform(h->curl) : CURLE_FAILED_INIT;
    if (conditional) {
        curl_easy_setopt(h->curl, CURLOPT_HTTPHEADER, h->headers);
        curl_slist_free_all(conditional);
    }
    h->answer = NULL;
    if (cc != CURLE_OK)
        return send_failed(h, cc, e);
    curl_easy_getinfo(h->curl, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(h->curl, CURLINFO_RETRY_AFTER, &retry);
    a->status = (unsigned)status;
    a->retry_after = retry < 0 ? 0 : retry > 86400 ? 86400 : (unsigned)retry;
    return 0;
}
