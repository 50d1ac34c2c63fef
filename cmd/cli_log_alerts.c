#include "cmd/cli_log_alerts.h"
#include "base/clock.h"
#include "base/json.h"
#include "cmd/cli_log_fetch.h"
#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LINES_MAX (64u << 20)
#define LINE_MAX_BYTES (128u << 10) /* above five names cut, each byte as \u00XX, a message and the rest */
#define BODY_MAX (8u << 20)
#define BODY_FULL (512u << 10)
#define URL_MAX 2048
#define CONNECT_MS 5000L
#define WHOLE_MS 10000L
#define BACKOFF_MAX 60

/* --- the list ------------------------------------------------------------------------------------- */

void alerts_init(struct alerts *a)
{
    memset(a, 0, sizeof *a);
    buf_init(&a->lines, LINES_MAX);
    buf_init(&a->people, LINES_MAX);
}

void alerts_reset(struct alerts *a)
{
    buf_reset(&a->lines);
    buf_reset(&a->people);
    a->count = a->posted = a->posted_bytes = a->printed = 0;
    a->left_out = a->left_out_last = 0;
    a->failed = false;
}

void alerts_free(struct alerts *a)
{
    buf_free(&a->lines);
    buf_free(&a->people);
}

/* A log may hold names of any length, and of bytes that take six each here. */
static void text(struct buf *b, const char *name, struct bytes v)
{
    size_t n = v.len > ALERTS_SHOWN ? ALERTS_SHOWN : v.len;
    if (v.len == 0)
        return;
    while (n < v.len && n > ALERTS_SHOWN - 4 && (v.p[n] & 0xc0) == 0x80)
        n--; /* not within a character */
    buf_fmt(b, ",\"%s\":", name);
    jw_strn(b, (const char *)v.p, n);
    if (n == v.len)
        return;
    b->len -= !b->failed; /* the quote behind it */
    buf_fmt(b, "... (cut: %zu bytes)\"", v.len);
}

static void entry_write(struct buf *b, const struct audit_entry *t)
{
    char hex[65];
    buf_fmt(b, ",\"index\":%llu,\"outcome\":\"%s\"", (unsigned long long)t->index, audit_kind_name(t->kind));
    if (t->time >= 0)
        buf_fmt(b, ",\"entry_time\":%lld", (long long)t->time);
    text(b, "spiffe_id", t->spiffe_id);
    text(b, "agent", t->agent);
    text(b, "attestor", t->attestor);
    text(b, "entry_id", t->entry_id);
    text(b, "refused_for", t->rule);
    if (t->key.len == 32) {
        hex_encode(hex, t->key.p, 32);
        buf_fmt(b, ",\"key\":\"%s\"", hex);
    }
}

static void add(struct alerts *a, const struct err *why, const struct audit_entry *t)
{
    struct buf *b = &a->lines;
    char now[21];
    clock_rfc3339(now, clock_wall());
    buf_fmt(b, "{\"time\":\"%s\",\"rule\":", now);
    jw_str(b, why->rule);
    buf_str(b, ",\"message\":");
    jw_str(b, why->msg);
    buf_str(b, ",\"log\":");
    jw_str(b, a->origin);
    if (t)
        entry_write(b, t);
    buf_str(b, "}\n");
    if (t)
        buf_fmt(&a->people, "ALERT [%s] entry %llu: %s\n", why->rule, (unsigned long long)t->index, why->msg);
    else
        buf_fmt(&a->people, "ALERT [%s] %s\n", why->rule, why->msg);
    a->count++;
    a->failed = a->failed || b->failed || a->people.failed;
}

/* With as much again for the one that says what was left out. */
static bool room_left(const struct buf *b)
{
    return b->len <= LINES_MAX - 2 * LINE_MAX_BYTES;
}

void alerts_add(struct alerts *a, const struct err *why, const struct audit_entry *t)
{
    if (a->count < ALERTS_MAX && a->left_out == 0 && room_left(&a->lines) && room_left(&a->people)) {
        add(a, why, t);
        return;
    }
    a->left_out++;
    a->left_out_last = t ? t->index : a->left_out_last;
}

void alerts_end(struct alerts *a)
{
    struct err why;
    if (a->left_out == 0)
        return;
    err_set(&why, ERR_CORRUPT, "more-alerts",
            "and %llu more alerts, up to entry %llu, which are too many to name: see 'mayfly log export'",
            (unsigned long long)a->left_out, (unsigned long long)a->left_out_last);
    a->left_out = 0;
    add(a, &why, NULL);
}

/* write(2), which tells how far it came: of what stdio could not write nobody knows. A signal ends it. */
int alerts_print(struct alerts *a, bool json, struct err *e)
{
    const struct buf *b = json ? &a->lines : &a->people;
    while (a->printed < b->len) {
        ssize_t n = write(STDOUT_FILENO, b->p + a->printed, b->len - a->printed);
        if (n < 0)
            return err_errno(e, errno == EPIPE ? "output-gone" : "output", "cannot write the alerts to standard output");
        a->printed += (size_t)n;
    }
    return 0;
}

/* --- the webhook ---------------------------------------------------------------------------------- */

struct webhook {
    CURL *curl;
    char url[URL_MAX];
    struct curl_slist *headers;
    unsigned tries;
    const volatile sig_atomic_t *stop; /* not owned */
    struct buf body;
};

static size_t on_answer(char *p, size_t size, size_t n, void *arg)
{
    return size * n; /* nobody reads it */
}

static int on_progress(void *arg, curl_off_t dt, curl_off_t dn, curl_off_t ut, curl_off_t un)
{
    const struct webhook *w = arg;
    return *w->stop != 0;
}

#define SET(option, value) (curl_easy_setopt(w->curl, option, value) == CURLE_OK)

static bool curl_set(struct webhook *w)
{
    struct curl_slist *one = curl_slist_append(NULL, "Content-Type: application/json");
    w->headers = one ? curl_slist_append(one, "Expect:") : NULL;
    if (!w->headers)
        curl_slist_free_all(one);
    return w->headers && SET(CURLOPT_URL, w->url) && SET(CURLOPT_PROTOCOLS_STR, "http,https") &&
           SET(CURLOPT_FOLLOWLOCATION, 0L) && SET(CURLOPT_NOSIGNAL, 1L) && SET(CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS) &&
           SET(CURLOPT_TIMEOUT_MS, WHOLE_MS) && SET(CURLOPT_HTTPHEADER, w->headers) &&
           SET(CURLOPT_USERAGENT, "mayfly/" MAYFLY_VERSION) && SET(CURLOPT_WRITEFUNCTION, on_answer) &&
           SET(CURLOPT_NOPROGRESS, 0L) && SET(CURLOPT_XFERINFOFUNCTION, on_progress) && SET(CURLOPT_XFERINFODATA, w);
}

int webhook_open(struct webhook **out, const char *url, unsigned tries, const volatile sig_atomic_t *stop, struct err *e)
{
    *out = NULL;
    if (!log_fetch_url_good(url) || strlen(url) >= URL_MAX)
        return err_set(e, ERR_USAGE, "webhook", "--webhook: https://HOST… (or http://HOST…), not \"%.200s\"", url);
    struct webhook *w = calloc(1, sizeof *w);
    if (!w)
        return err_set(e, ERR_INTERNAL, "memory", "out of memory");
    strcpy(w->url, url);
    w->tries = tries;
    w->stop = stop;
    buf_init(&w->body, BODY_MAX);
    if (!(w->curl = curl_easy_init()) || !curl_set(w)) {
        webhook_close(w);
        return err_set(e, ERR_INTERNAL, "curl", "libcurl could not be set up");
    }
    *out = w;
    return 0;
}

void webhook_close(struct webhook *w)
{
    if (!w)
        return;
    curl_easy_cleanup(w->curl);
    curl_slist_free_all(w->headers);
    buf_free(&w->body);
    free(w);
}

static int post_once(struct webhook *w, struct err *e)
{
    long status = 0;
    if (!SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)w->body.len) || !SET(CURLOPT_POSTFIELDS, (const char *)w->body.p))
        return err_set(e, ERR_INTERNAL, "curl", "cannot make a request to the webhook");
    CURLcode how = curl_easy_perform(w->curl);
    curl_easy_getinfo(w->curl, CURLINFO_RESPONSE_CODE, &status);
    if (how != CURLE_OK)
        return err_set(e, ERR_UNAVAILABLE, "webhook", "alerts did not reach the webhook: %s", curl_easy_strerror(how));
    return status >= 200 && status < 300 ? 0
                                         : err_set(e, ERR_UNAVAILABLE, "webhook", "the webhook answers %ld to the alerts", status);
}

static int post(struct webhook *w, struct err *e)
{
    unsigned wait = 1;
    for (unsigned i = 1; post_once(w, e) < 0; i++) {
        if (i >= w->tries || e->code != ERR_UNAVAILABLE)
            return -1;
        for (unsigned s = 0; s < wait && !*w->stop; s++)
            sleep(1); /* a signal ends it */
        if (*w->stop)
            return -1;
        wait = 2 * wait < BACKOFF_MAX ? 2 * wait : BACKOFF_MAX;
    }
    return 0;
}

/* The next so many lines from `at` as a body; their bytes, and how many. */
static size_t body_make(const struct alerts *a, struct webhook *w, size_t *count)
{
    size_t at = a->posted_bytes;
    buf_reset(&w->body);
    buf_str(&w->body, "{\"log\":");
    jw_str(&w->body, a->origin);
    buf_str(&w->body, ",\"alerts\":[");
    for (*count = 0; at < a->lines.len && *count < ALERTS_POSTED && (*count == 0 || w->body.len < BODY_FULL); ++*count) {
        const uint8_t *line = a->lines.p + at, *end = memchr(line, '\n', a->lines.len - at);
        if (!end)
            break; /* none is: lines are whole */
        buf_str(&w->body, *count > 0 ? "," : "");
        buf_put(&w->body, line, (size_t)(end - line));
        at += (size_t)(end - line) + 1;
    }
    buf_str(&w->body, "]}");
    return at - a->posted_bytes;
}

int alerts_post(struct alerts *a, struct webhook *w, struct err *e)
{
    while (a->posted < a->count) {
        size_t count, bytes = body_make(a, w, &count);
        if (w->body.failed || count == 0)
            return err_set(e, ERR_INTERNAL, "memory", "out of memory for a batch of alerts");
        if (post(w, e) < 0)
            return -1;
        a->posted += count;
        a->posted_bytes += bytes;
    }
    return 0;
}
