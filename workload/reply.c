/* What a call gets: the provider's answers on their way to the client. */
#include "workload/encode.h"
#include "workload/internal.h"
#include "workload/sds.h"
#include "base/clock.h"
#include "base/log.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *wl_call_data(const struct wl_call *c)
{
    return c->data;
}

void wl_call_set_data(struct wl_call *c, void *data)
{
    c->data = data;
}

/* --- the message under way -------------------------------------------------------------------------- */

static int encode(struct wl_call *k, struct err *e)
{
    struct scratch *s = &k->c->s->scratch;
    struct sds_arg arg;
    char version[24], nonce[24];
    switch (k->method->kind) {
    case M_X509:
        return scratch_make(s, encode_x509, k->state, e);
    case M_X509_BUNDLES:
        return scratch_make(s, encode_x509_bundles, k->state->bundles, e);
    case M_JWT_BUNDLES:
        return scratch_make(s, encode_jwt_bundles, k->state->bundles, e);
    default:
        snprintf(version, sizeof version, "%llu", (unsigned long long)k->out_version);
        snprintf(nonce, sizeof nonce, "%llu", (unsigned long long)k->nonce);
        arg = (struct sds_arg){k->state, k->names, version, nonce};
        return scratch_make(s, sds_encode, &arg, e);
    }
}

int reply_bytes(struct wl_call *k, struct bytes *out)
{
    struct scratch *s = &k->c->s->scratch;
    struct err e;
    if (k->answer.len) {
        *out = (struct bytes){k->answer.p, k->answer.len};
        return 0;
    }
    if (s->owner != k) {
        if (encode(k, &e) < 0) {
            log_err(LOG_ERROR, "cannot make an answer of the Workload API", &e);
            return -1;
        }
        s->owner = k;
    }
    *out = s->out;
    return k->out_len == 0 || out->len == k->out_len ? 0 : -1;
}

static void take_newer(struct wl_call *k)
{
    if (k->state_next) {
        wl_state_unref(k->state);
        k->state = k->state_next;
        k->state_next = NULL;
    }
    if (k->names_next) {
        free(k->names);
        k->names = k->names_next;
        k->names_next = NULL;
        call_keeps(k);
    }
}

/* Puts the newest there is under way. False: there is nothing to send. */
static bool begin(struct wl_call *k)
{
    struct bytes msg;
    if (!k->answer.len) {
        if (!k->want || (!k->state && !k->state_next))
            return false;
        take_newer(k);
        k->want = false;
        k->nonce++;
        k->out_version = k->version;
        if (k->c->s->scratch.owner == k)
            k->c->s->scratch.owner = NULL;
    }
    if (reply_bytes(k, &msg) < 0) {
        reply_finish(k, WL_INTERNAL, "the answer could not be made");
        return false;
    }
    k->out_len = msg.len;
    k->out_off = 0;
    return true;
}

static void drop_answer(struct wl_call *k)
{
    if (k->answer.p)
        secret_wipe(k->answer.p, k->answer.len);
    buf_free(&k->answer);
    buf_init(&k->answer, LIMIT_RESPONSE);
    call_keeps(k);
}

/* What was sent is dropped; of streams the state stays, to be compared with the next. */
void reply_sent(struct wl_call *k, size_t n)
{
    if ((k->out_off += n) < k->out_len)
        return;
    k->out_len = k->out_off = 0;
    if (k->c->s->scratch.owner == k)
        k->c->s->scratch.owner = NULL;
    if (k->answer.len)
        drop_answer(k);
    if (!k->want)
        take_newer(k);
    if (k->method->kind == M_SDS_ONCE || (k->method->kind == M_SDS && k->half_closed && !k->want))
        reply_finish(k, WL_OK, NULL);
}

/* --- HTTP/2 ----------------------------------------------------------------------------------------- */

#define NV(n, v, l) {(uint8_t *)(n), (uint8_t *)(v), sizeof(n) - 1, (l), NGHTTP2_NV_FLAG_NONE} /* n: an array */

static char name_status[] = ":status", name_type[] = "content-type", type_grpc[] = "application/grpc";
static char name_grpc_status[] = "grpc-status", name_message[] = "grpc-message";

static size_t trailers(struct wl_call *k, nghttp2_nv nv[2], char code[4], struct buf *escaped)
{
    int n = snprintf(code, 4, "%u", (unsigned)k->status & 31);
    nv[0] = (nghttp2_nv)NV(name_grpc_status, code, (size_t)n);
    if (!k->message || !*k->message)
        return 1;
    grpc_escape(escaped, k->message);
    nv[1] = (nghttp2_nv)NV(name_message, escaped->p, escaped->len);
    return escaped->failed ? 1 : 2;
}

static ssize_t on_read(nghttp2_session *h2, int32_t stream, uint8_t *p, size_t length, uint32_t *flags,
                       nghttp2_data_source *source, void *arg)
{
    struct wl_call *k = source->ptr;
    if (k->out_len || begin(k)) {
        size_t left = k->out_len - k->out_off;
        *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
        return (ssize_t)(left < length ? left : length);
    }
    if (!k->done)
        return NGHTTP2_ERR_DEFERRED;
    nghttp2_nv nv[2];
    char code[4];
    struct buf escaped;
    buf_init(&escaped, 4 * LIMIT_STATUS_MESSAGE);
    int r = nghttp2_submit_trailer(h2, stream, nv, trailers(k, nv, code, &escaped));
    buf_free(&escaped);
    *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
    return r == 0 ? 0 : NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

/* There is something to send: the first time as headers with the body to come, later out of its sleep. */
static void wake(struct wl_call *k)
{
    char ok[] = "200";
    nghttp2_nv nv[] = {NV(name_status, ok, 3), NV(name_type, type_grpc, sizeof type_grpc - 1)};
    nghttp2_data_provider body = {.source.ptr = k, .read_callback = on_read};
    if (k->responded)
        nghttp2_session_resume_data(k->c->h2, k->stream);
    else if (nghttp2_submit_response(k->c->h2, k->stream, nv, 2, &body) != 0)
        nghttp2_submit_rst_stream(k->c->h2, NGHTTP2_FLAG_NONE, k->stream, NGHTTP2_INTERNAL_ERROR);
    k->responded = true;
    conn_kick(k->c);
}

/* "Trailers-Only": headers that are the end. */
static void only_trailers(struct wl_call *k, unsigned http_status, bool grpc)
{
    char text[8];
    snprintf(text, sizeof text, "%03u", http_status % 1000);
    nghttp2_nv nv[4] = {NV(name_status, text, 3), NV(name_type, type_grpc, sizeof type_grpc - 1)};
    char code[4];
    struct buf escaped;
    buf_init(&escaped, 4 * LIMIT_STATUS_MESSAGE);
    size_t n = grpc ? 2 + trailers(k, nv + 2, code, &escaped) : 1;
    if (nghttp2_submit_response(k->c->h2, k->stream, nv, n, NULL) != 0)
        nghttp2_submit_rst_stream(k->c->h2, NGHTTP2_FLAG_NONE, k->stream, NGHTTP2_INTERNAL_ERROR);
    buf_free(&escaped);
    k->responded = true;
    conn_kick(k->c);
}

static bool finish(struct wl_call *k, enum wl_status status, const char *message)
{
    if (k->done)
        return false;
    k->done = true;
    k->status = status;
    k->message = message ? strndup(message, LIMIT_STATUS_MESSAGE) : NULL;
    k->waits = 0;
    call_keeps(k);
    k->c->idle_since = clock_mono_ms();
    if (!k->asked)
        k->c->s->stats.refused++;
    if (status != WL_OK)
        k->want = false; /* what is under way is finished, what waits is not begun */
    return true;
}

void reply_finish(struct wl_call *k, enum wl_status status, const char *message)
{
    if (!finish(k, status, message))
        return;
    if (k->responded || k->answer.len)
        wake(k);
    else
        only_trailers(k, 200, true);
}

void reply_http(struct wl_call *k, unsigned http_status)
{
    if (finish(k, WL_UNKNOWN, NULL))
        only_trailers(k, http_status, false);
}

/* --- answers of the provider ------------------------------------------------------------------------ */

void wl_call_fail(struct wl_call *c, enum wl_status status, const char *message)
{
    reply_finish(c, status == WL_OK ? WL_UNKNOWN : status, message);
}

static const struct wl_state *newest_state(const struct wl_call *k)
{
    return k->state_next ? k->state_next : k->state;
}

static const struct names *newest_names(const struct wl_call *k)
{
    return k->names_next ? k->names_next : k->names;
}

/* False: the call has ended, for the names stand for nothing. */
static bool sds_names_good(struct wl_call *k, const struct wl_state *st)
{
    const char *unknown = sds_unknown(st, newest_names(k));
    char why[LIMIT_STATUS_MESSAGE];
    if (!unknown)
        return true;
    if (st->n == 0) {
        reply_finish(k, WL_PERMISSION_DENIED, "no identity issued");
    } else {
        snprintf(why, sizeof why, "no secret of this name: \"%s\"", unknown);
        reply_finish(k, WL_INVALID_ARGUMENT, why);
    }
    return false;
}

/* Whether s has news for this call; false also when the call has ended with it. */
static bool is_news(struct wl_call *k, const struct wl_state *s)
{
    const struct wl_state *old = newest_state(k);
    switch (k->method->kind) {
    case M_X509:
        if (s->n == 0)
            reply_finish(k, WL_PERMISSION_DENIED, "no identity issued");
        return true;
    case M_X509_BUNDLES:
    case M_JWT_BUNDLES:
        if (!s->bundles)
            reply_finish(k, WL_UNAVAILABLE, "no bundle is known yet");
        return !old || old->bundles != s->bundles;
    default:
        if (!sds_names_good(k, s) || (old && sds_same(newest_names(k), old, s)))
            return false;
        k->version++;
        return true;
    }
}

void wl_call_state(struct wl_call *c, struct wl_state *s)
{
    if (c->done || c->method->kind == M_JWT || c->method->kind == M_VALIDATE || newest_state(c) == s)
        return;
    bool news = is_news(c, s);
    if (c->done)
        return;
    wl_state_unref(c->state_next);
    c->state_next = wl_state_ref(s);
    c->want |= news;
    if (c->want)
        wake(c);
    else if (!c->out_len)
        take_newer(c); /* the old state's keys are not to outlive it here */
}

/* Of a request: names, nonce, and what became of the last answer. */
void reply_sds(struct wl_call *k, struct request_sds *r)
{
    char nonce[24], error[200];
    snprintf(nonce, sizeof nonce, "%llu", (unsigned long long)k->nonce);
    if (k->nonce &&
        !bytes_eq_str(r->nonce, nonce)) { /* stale: the client has yet to see what was sent since */
        free(r->names);
        return;
    }
    if (r->refused && k->refused != k->nonce) { /* once: a client may say so without end */
        k->refused = k->nonce;
        grpc_unescape(error, sizeof error, r->error.p, r->error.len);
        log_warn("an SDS client refuses what it got", "error", error, NULL);
    }
    const struct names *old = newest_names(k);
    if (old && names_equal(old, r->names)) {
        free(r->names);
        return;
    }
    if (!call_room(k, r->names->len)) {
        free(r->names);
        return;
    }
    free(k->names_next);
    k->names_next = r->names;
    call_keeps(k);
    k->want = true; /* also of the first request: nothing was named before */
    const struct wl_state *st = newest_state(k);
    if (st && sds_names_good(k, st))
        wake(k);
}

static void answer(struct wl_call *k, scratch_encoder *enc, const void *arg)
{
    struct scratch *s = &k->c->s->scratch;
    struct err e;
    if (scratch_make(s, enc, arg, &e) == 0 && call_room(k, s->out.len))
        buf_put(&k->answer, s->out.p, s->out.len);
    scratch_wipe(s);
    if (k->answer.len && !k->answer.failed) {
        reply_finish(k, WL_OK, NULL);
        return;
    }
    drop_answer(k);
    reply_finish(k, WL_INTERNAL, "the answer could not be made");
}

void wl_call_jwt(struct wl_call *c, const struct wl_jwt *list, size_t n)
{
    if (c->done || c->method->kind != M_JWT)
        return;
    if (n == 0)
        reply_finish(c, WL_PERMISSION_DENIED, "no identity issued");
    else
        answer(c, encode_jwt, &(struct encode_jwt_arg){list, n});
}

void wl_call_claims(struct wl_call *c, const char *spiffe_id, const char *claims, size_t len)
{
    struct err e;
    if (c->done || c->method->kind != M_VALIDATE)
        return;
    struct encode_claims_arg *arg = encode_claims_new(spiffe_id, claims, len, &e);
    if (!arg) {
        reply_finish(c, WL_INTERNAL, "the token's claims are not in the form they should have");
        return;
    }
    answer(c, encode_claims, arg);
    encode_claims_free(arg);
}
