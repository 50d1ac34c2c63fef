/* One witness: what it is asked (C2SP tlog-witness, add-checkpoint), and what is made of its answer.
 * It is believed in one thing only, a cosignature that verifies. */
#include "base/clock.h"
#include "base/log.h"
#include "cmd/mayflyd_notary.h"
#include "tlog/policy.h"
#include <stdio.h>
#include <string.h>

#define ANSWER_MAX 16384
#define CONFLICTS_MAX 3
#define BACKOFF_MIN_MS 500
#define BACKOFF_MAX_MS 2000 /* a quorum may be waiting for it to come back */

static size_t on_body(char *p, size_t size, size_t n, void *arg)
{
    struct buf *b = arg;
    buf_put(b, p, size * n);
    return b->failed ? 0 : size * n;
}

#define SET(option, value) (curl_easy_setopt(w->curl, option, value) == CURLE_OK)

static bool curl_set(struct asked *w, unsigned timeout_ms)
{
    static struct curl_slist type = {(char *)(uintptr_t)"Content-Type: text/plain", NULL};
    static struct curl_slist headers = {(char *)(uintptr_t)"Expect:", &type};
    return SET(CURLOPT_URL, w->url) && SET(CURLOPT_PROTOCOLS_STR, "http,https") &&
           SET(CURLOPT_FOLLOWLOCATION, 0L) && SET(CURLOPT_PROXY, "") && SET(CURLOPT_NOPROXY, "*") &&
           SET(CURLOPT_NOSIGNAL, 1L) && SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1) &&
           SET(CURLOPT_TIMEOUT_MS, (long)timeout_ms) && SET(CURLOPT_CONNECTTIMEOUT_MS, (long)timeout_ms) &&
           SET(CURLOPT_HTTPHEADER, &headers) && SET(CURLOPT_USERAGENT, "mayflyd/" MAYFLY_VERSION) &&
           SET(CURLOPT_WRITEFUNCTION, on_body) && SET(CURLOPT_WRITEDATA, &w->answer) &&
           SET(CURLOPT_PRIVATE, w);
}

int asked_init(struct asked *w, const struct config_witness *config, const struct tlog_vkey *key,
               unsigned timeout_ms, struct err *e)
{
    memset(w, 0, sizeof *w);
    w->config = config;
    w->key = key;
    buf_init(&w->request, TLOG_ADD_MAX);
    buf_init(&w->answer, ANSWER_MAX);
    buf_init(&w->text, TLOG_NOTE_MAX);
    snprintf(w->url, sizeof w->url, "%.1030s/add-checkpoint", config->url);
    w->curl = curl_easy_init();
    if (w->curl && curl_set(w, timeout_ms))
        return 0;
    return err_set(e, ERR_INTERNAL, "curl", "libcurl could not be set up for %s", key->name);
}

void asked_free(struct asked *w)
{
    curl_easy_cleanup(w->curl);
    buf_free(&w->request);
    buf_free(&w->answer);
    buf_free(&w->text);
}

/* --- asking -------------------------------------------------------------------------------------- */

int asked_ask(struct asked *w, CURLM *multi, struct tlog_reader *log, struct err *e)
{
    struct tlog_add q = {.note = tlog_reader_note(log)};
    struct tlog_hash proof[TLOG_LEVELS];
    struct tlog_note n;
    if (tlog_note_parse(&n, q.note.p, q.note.len, e) < 0)
        return -1;
    /* A witness that has more than there is says again how much. */
    q.old = w->size <= n.checkpoint.size ? w->size : 0;
    if (tlog_reader_consistency(log, q.old, proof, &q.count, e) < 0)
        return -1;
    memcpy(q.proof, proof, q.count * sizeof proof[0]);
    w->old = q.old;
    w->offered = n.checkpoint;
    buf_reset(&w->text);
    buf_put(&w->text, n.text.p, n.text.len);
    buf_reset(&w->request);
    tlog_add_write(&q, &w->request);
    buf_reset(&w->answer);
    if (w->request.failed || w->text.failed ||
        !SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)w->request.len) ||
        !SET(CURLOPT_POSTFIELDS, (const char *)w->request.p) ||
        curl_multi_add_handle(multi, w->curl) != CURLM_OK)
        return err_set(e, ERR_INTERNAL, "curl", "cannot make a request to %s", w->url);
    w->busy = true;
    return 0;
}

/* --- its answer ---------------------------------------------------------------------------------- */

static bool news(struct asked *w, const char *what)
{
    if (strcmp(w->said, what) == 0)
        return false;
    snprintf(w->said, sizeof w->said, "%s", what);
    return true;
}

void asked_failed(struct asked *w, const struct err *e)
{
    w->backoff_ms = w->backoff_ms ? w->backoff_ms * 2 : BACKOFF_MIN_MS;
    if (w->backoff_ms > BACKOFF_MAX_MS)
        w->backoff_ms = BACKOFF_MAX_MS;
    w->next_try = clock_mono_ms() + w->backoff_ms;
    /* What a witness holds against the log itself is more than trouble with a witness. */
    if (news(w, e->rule))
        log_event(e->code == ERR_CORRUPT ? LOG_ERROR : LOG_WARN, "a witness does not cosign", "witness", w->key->name, "url", w->config->url, "rule",
                 e->rule, "why", e->msg, NULL);
}

static int take_cosignature(struct asked *w, struct err *e)
{
    if (tlog_add_cosignature(&w->cosignature, w->key, (struct bytes){w->text.p, w->text.len},
                             (struct bytes){w->answer.p, w->answer.len}, e) < 0)
        return -1;
    if (w->cosignature.time > (uint64_t)clock_wall() + TLOG_POLICY_AHEAD)
        return err_set(e, ERR_MALFORMED, "cosignature-time", "its clock is ahead of ours by over %d s",
                       TLOG_POLICY_AHEAD);
    return 0;
}

static int take_conflict(struct asked *w, struct err *e)
{
    uint64_t has;
    if (tlog_add_size(&has, (struct bytes){w->answer.p, w->answer.len}, e) < 0)
        return -1;
    w->size = has;
    if (has > w->offered.size)
        return err_set(e, ERR_CORRUPT, "witness-ahead",
                       "it has seen %llu entries of this log, and %llu are published: was the log "
                       "restored from an older copy?",
                       (unsigned long long)has, (unsigned long long)w->offered.size);
    if (has == w->old && has == w->offered.size)
        return err_set(e, ERR_CORRUPT, "witness-fork",
                       "it has seen another root of this log for size %llu: has its key signed two "
                       "histories?",
                       (unsigned long long)has);
    if (has == w->old || ++w->conflicts > CONFLICTS_MAX)
        return err_set(e, ERR_MALFORMED, "witness-answer",
                       "it answers 409 to the very size that it says it has");
    return 0;
}

static int take_other(const struct asked *w, long status, struct err *e)
{
    size_t n = 0;
    while (n < w->answer.len && n < 200 && w->answer.p[n] != '\n')
        n++;
    return err_set(e, ERR_DENIED, "witness-refused", "it answers %ld: %.*s", status, (int)n,
                   n ? (const char *)w->answer.p : "");
}

static void cosigned(struct asked *w)
{
    w->have = true;
    w->cosigned = w->offered;
    w->size = w->offered.size;
    w->handed_at = 0;
    w->conflicts = w->backoff_ms = 0;
    w->next_try = 0;
    if (news(w, "cosigns"))
        log_info("a witness cosigns", "witness", w->key->name, "url", w->config->url, "size",
                 log_num((long long)w->size), NULL);
}

void asked_answered(struct asked *w, CURLcode how)
{
    struct err e = {0};
    long status = 0;
    w->busy = false;
    curl_easy_getinfo(w->curl, CURLINFO_RESPONSE_CODE, &status);
    int rc;
    if (how != CURLE_OK)
        rc = err_set(&e, ERR_UNAVAILABLE, "witness-unreachable", "%s", curl_easy_strerror(how));
    else if (status == 200)
        rc = take_cosignature(w, &e);
    else if (status == 409)
        rc = take_conflict(w, &e);
    else
        rc = take_other(w, status, &e);
    if (rc < 0)
        asked_failed(w, &e);
    else if (status == 200)
        cosigned(w);
}
