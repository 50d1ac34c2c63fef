#include "cmd/cli_log_fetch.h"
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define URL_MAX 2048
#define CONNECT_MS 10000L
#define WHOLE_MS 60000L
#define SLOW_BYTES 1000L /* a second, for so long: */
#define SLOW_SECONDS 15L

struct log_fetch {
    CURL *curl;
    char url[URL_MAX];
    struct buf *into; /* of the request under way; not owned */
    size_t max;
    bool large;
    const volatile sig_atomic_t *stop; /* not owned */
};

static size_t on_body(char *p, size_t size, size_t n, void *arg)
{
    struct log_fetch *f = arg;
    size_t more = size * n;
    f->large = more > f->max - f->into->len;
    if (f->large)
        return 0;
    buf_put(f->into, p, more);
    return f->into->failed ? 0 : more;
}

static int on_progress(void *arg, curl_off_t dt, curl_off_t dn, curl_off_t ut, curl_off_t un)
{
    const struct log_fetch *f = arg;
    return *f->stop != 0;
}

#define SET(option, value) (curl_easy_setopt(f->curl, option, value) == CURLE_OK)

static bool curl_set(struct log_fetch *f, const char *cacert)
{
    return SET(CURLOPT_PROTOCOLS_STR, "http,https") && SET(CURLOPT_FOLLOWLOCATION, 0L) && SET(CURLOPT_NOSIGNAL, 1L) &&
           SET(CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS) && SET(CURLOPT_TIMEOUT_MS, WHOLE_MS) &&
           SET(CURLOPT_LOW_SPEED_LIMIT, SLOW_BYTES) && SET(CURLOPT_LOW_SPEED_TIME, SLOW_SECONDS) &&
           SET(CURLOPT_ACCEPT_ENCODING, "gzip") && SET(CURLOPT_USERAGENT, "mayfly/" MAYFLY_VERSION) &&
           SET(CURLOPT_WRITEFUNCTION, on_body) && SET(CURLOPT_WRITEDATA, f) && SET(CURLOPT_NOPROGRESS, 0L) &&
           SET(CURLOPT_XFERINFOFUNCTION, on_progress) && SET(CURLOPT_XFERINFODATA, f) &&
           (!cacert || (SET(CURLOPT_CAINFO, cacert) && SET(CURLOPT_CAPATH, NULL)));
}

bool log_fetch_url_good(const char *url)
{
    if (strncmp(url, "https://", 8) != 0 && strncmp(url, "http://", 7) != 0)
        return false;
    CURLU *u = curl_url();
    bool good = u && curl_url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK;
    curl_url_cleanup(u);
    return good;
}

int log_fetch_open(struct log_fetch **out, const char *url, const char *cacert, const volatile sig_atomic_t *stop,
                   struct err *e)
{
    *out = NULL;
    size_t n = strlen(url);
    while (n > 0 && url[n - 1] == '/')
        n--;
    if (!log_fetch_url_good(url) || n > URL_MAX - 256)
        return err_set(e, ERR_USAGE, "log-url", "--url: https://HOST… (or http://HOST…), what /checkpoint is below, not \"%.200s\"", url);
    struct log_fetch *f = calloc(1, sizeof *f);
    if (f)
        f->stop = stop;
    if (!f || !(f->curl = curl_easy_init()) || !curl_set(f, cacert)) {
        log_fetch_close(f);
        return err_set(e, ERR_INTERNAL, "curl", "libcurl could not be set up");
    }
    memcpy(f->url, url, n);
    *out = f;
    return 0;
}

void log_fetch_close(struct log_fetch *f)
{
    if (f)
        curl_easy_cleanup(f->curl);
    free(f);
}

int log_fetch_get(void *arg, const char *path, size_t max, struct buf *b, struct err *e)
{
    struct log_fetch *f = arg;
    char url[URL_MAX];
    long status = 0;
    buf_reset(b);
    f->into = b;
    f->max = max;
    f->large = false;
    if (snprintf(url, sizeof url, "%s/%s", f->url, path) >= (int)sizeof url || !SET(CURLOPT_URL, url))
        return err_set(e, ERR_INTERNAL, "curl", "cannot make a request for %.100s", path);
    CURLcode how = curl_easy_perform(f->curl);
    curl_easy_getinfo(f->curl, CURLINFO_RESPONSE_CODE, &status);
    if (f->large)
        return err_set(e, ERR_TOO_LARGE, "log-fetch", "%.300s has more than %zu bytes", url, max);
    if (how != CURLE_OK)
        return err_set(e, ERR_UNAVAILABLE, "log-fetch", "%.300s: %s", url, curl_easy_strerror(how));
    if (status == 404 || status == 410)
        return err_set(e, ERR_NOT_FOUND, "log-fetch", "%.300s: there is none (%ld)", url, status);
    return status == 200 ? 0 : err_set(e, ERR_UNAVAILABLE, "log-fetch", "%.300s answers %ld", url, status);
}
