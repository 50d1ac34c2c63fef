#include "workload/internal.h"
#include "workload/sds.h"
#include "workload/wire.h"
#include "base/clock.h"
#include <stdlib.h>
#include <string.h>

#define SPIFFE "/SpiffeWorkloadAPI/"
#define ENVOY "/envoy.service.secret.v3.SecretDiscoveryService/"
static const struct method methods[] = { /* DeltaSecrets is not offered, like all that is not here */
    {SPIFFE "FetchX509SVID", M_X509, true},
    {SPIFFE "FetchX509Bundles", M_X509_BUNDLES, true},
    {SPIFFE "FetchJWTSVID", M_JWT, true},
    {SPIFFE "FetchJWTBundles", M_JWT_BUNDLES, true},
    {SPIFFE "ValidateJWTSVID", M_VALIDATE, true},
    {ENVOY "StreamSecrets", M_SDS, false},
    {ENVOY "FetchSecrets", M_SDS_ONCE, false},
};

struct wl_call *call_new(struct conn *c, int32_t stream)
{
    struct wl_call *k = calloc(1, sizeof *k);
    if (!k)
        return NULL;
    k->c = c;
    k->stream = stream;
    k->deadline = NEVER;
    k->request_deadline = clock_mono_ms() + LIMIT_REQUEST_S * 1000;
    grpc_in_init(&k->in, c->s->l.message_bytes);
    buf_init(&k->answer, LIMIT_RESPONSE);
    k->prev = &c->calls;
    if ((k->next = c->calls))
        k->next->prev = &k->next;
    c->calls = k;
    c->s->stats.open_calls++;
    return k;
}

void call_release(struct wl_call *k)
{
    struct wl_provider *p = &k->c->s->p;
    if (!k->asked || k->released)
        return;
    k->released = true;
    p->cancel(p->arg, k->c->caller, k);
}

void call_keeps(struct wl_call *k)
{
    size_t now = k->waits + k->answer.len + (k->names ? k->names->len : 0) + (k->names_next ? k->names_next->len : 0);
    k->c->user->kept_bytes += now - k->kept;
    k->kept = now;
}

bool call_room(struct wl_call *k, size_t more)
{
    if (k->c->user->kept_bytes + more <= LIMIT_KEPT_PER_UID)
        return true;
    reply_finish(k, WL_RESOURCE_EXHAUSTED, "too much is kept for calls of this user");
    return false;
}

/* Gives what the request held back: to the stream's window while it lives, else to the connection's alone. */
static void give_back(struct wl_call *k, bool stream_lives)
{
    size_t n = k->held;
    k->held = 0;
    k->c->user->request_bytes -= n;
    if (n)
        conn_consume(k->c, stream_lives ? k->stream : 0, n);
}

void call_free(struct wl_call *k)
{
    struct conn *c = k->c;
    k->done = true;
    call_release(k);
    give_back(k, false);
    grpc_in_free(&k->in);
    wl_state_unref(k->state);
    wl_state_unref(k->state_next);
    free(k->names);
    free(k->names_next);
    if (k->answer.p)
        secret_wipe(k->answer.p, k->answer.len);
    buf_free(&k->answer);
    free(k->message);
    c->user->kept_bytes -= k->kept;
    if (c->s->scratch.owner == k)
        c->s->scratch.owner = NULL;
    *k->prev = k->next;
    if (k->next)
        k->next->prev = k->prev;
    c->idle_since = clock_mono_ms();
    c->s->stats.open_calls--;
    free(k);
}

/* --- headers ---------------------------------------------------------------------------------------- */

static const struct method *method_of(struct bytes path)
{
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
        if (bytes_eq_str(path, methods[i].path))
            return &methods[i];
    return NULL;
}

/* "application/grpc", "+proto", or parameters. Others (grpc-web, +json) are other protocols. */
static bool is_grpc(struct bytes type)
{
    static const char name[] = "application/grpc";
    size_t n = sizeof name - 1;
    if (type.len < n || memcmp(type.p, name, n) != 0)
        return false;
    struct bytes rest = {type.p + n, type.len - n};
    return rest.len == 0 || rest.p[0] == ';' || bytes_eq_str(rest, "+proto");
}

static void read_timeout(struct wl_call *k, struct bytes value)
{
    int64_t ms = grpc_timeout_ms(value.p, value.len);
    if (ms < 0)
        k->bad_timeout = true;
    else
        k->deadline = clock_mono_ms() + ms;
}

int call_header(struct wl_call *k, struct bytes name, struct bytes value)
{
    k->header_bytes += name.len + value.len + 32; /* RFC 9113 §6.5.2 */
    if (k->header_bytes > 4 * LIMIT_HEADERS)
        return -1; /* reset: no answer is worth more of this */
    if (bytes_eq_str(name, ":path"))
        k->method = method_of(value);
    else if (bytes_eq_str(name, ":method"))
        k->post = bytes_eq_str(value, "POST");
    else if (bytes_eq_str(name, "content-type"))
        k->grpc = is_grpc(value);
    else if (bytes_eq_str(name, "te"))
        k->te = bytes_eq_str(value, "trailers");
    else if (bytes_eq_str(name, "grpc-timeout"))
        read_timeout(k, value);
    else if (bytes_eq_str(name, "workload.spiffe.io"))
        k->metadata = k->metadata == 0 && bytes_eq_str(value, "true") ? 1 : 2;
    return 0;
}

void call_headers_done(struct wl_call *k)
{
    if (!k->post)
        reply_http(k, 405);
    else if (!k->grpc)
        reply_http(k, 415); /* PROTOCOL-HTTP2.md, Requests: content-type */
    else if (k->header_bytes > LIMIT_HEADERS)
        reply_finish(k, WL_RESOURCE_EXHAUSTED, "the request's metadata is too large");
    else if (!k->te)
        reply_finish(k, WL_INVALID_ARGUMENT, "the header te: trailers is missing");
    else if (!k->method)
        reply_finish(k, WL_UNIMPLEMENTED, "no such method here");
    else if (k->method->metadata && k->metadata != 1)
        reply_finish(k, WL_INVALID_ARGUMENT, "the metadata workload.spiffe.io: true is missing");
    else if (k->bad_timeout)
        reply_finish(k, WL_INVALID_ARGUMENT, "grpc-timeout is no timeout");
}

/* --- requests --------------------------------------------------------------------------------------- */

static void ask_watch(struct wl_call *k)
{
    struct wl_provider *p = &k->c->s->p;
    k->asked = k->want = true;
    p->watch(p->arg, k->c->caller, k);
}

static void ask_jwt(struct wl_call *k, struct bytes msg)
{
    struct wl_provider *p = &k->c->s->p;
    struct request_jwt r;
    const char *why = NULL;
    bool validate = k->method->kind == M_VALIDATE;
    enum wl_status status = validate ? request_validate(&r, msg, &why) : request_jwt(&r, msg, &why);
    if (status != WL_OK) {
        reply_finish(k, status, why);
        return;
    }
    if (!call_room(k, msg.len)) {
        request_jwt_free(&r);
        return;
    }
    k->asked = true;
    k->waits = msg.len;
    call_keeps(k);
    if (validate)
        p->validate(p->arg, k->c->caller, k, r.audience[0], r.svid);
    else
        p->jwt(p->arg, k->c->caller, k, r.audience, r.n, r.spiffe_id);
    request_jwt_free(&r);
}

static void sds_message(struct wl_call *k, struct bytes msg)
{
    struct request_sds r;
    const char *why = NULL;
    enum wl_status status = request_sds(&r, msg, &why);
    if (status != WL_OK)
        reply_finish(k, status, why);
    else
        reply_sds(k, &r);
    if (!k->done && !k->asked)
        ask_watch(k);
}

/* A request is whole: of SDS each message, of the others the one and only, at its END_STREAM. */
static void dispatch(struct wl_call *k)
{
    struct bytes msg = {k->in.msg.p, k->in.msg.len};
    const char *why = NULL;
    int more = k->c->chatter + 8; /* an honest request pays for the frames around it */
    k->c->chatter = more < LIMIT_CHATTER_BURST ? more : LIMIT_CHATTER_BURST;
    k->request_deadline = NEVER;
    k->c->s->stats.calls += !k->asked;
    switch (k->method->kind) {
    case M_SDS:
    case M_SDS_ONCE:
        sds_message(k, msg);
        break;
    case M_JWT:
    case M_VALIDATE:
        ask_jwt(k, msg);
        break;
    default:
        if (request_empty(msg, &why) != WL_OK)
            reply_finish(k, WL_INTERNAL, why);
        else
            ask_watch(k);
    }
    grpc_in_next(&k->in);
}

/* One whole message is in k->in. False: no more of them are wanted. */
static bool message_whole(struct wl_call *k)
{
    if (k->method->kind == M_SDS) {
        dispatch(k);
        return !k->done;
    }
    if (!k->whole) {
        k->whole = true;
        return true;
    }
    /* gRPC's status codes: a request of the wrong number of messages is UNIMPLEMENTED. */
    reply_finish(k, WL_UNIMPLEMENTED, "this method takes one message");
    return false;
}

static void refuse_message(struct wl_call *k, enum grpc_fed fed)
{
    if (fed == GRPC_COMPRESSED)
        reply_finish(k, WL_UNIMPLEMENTED, "compressed messages are not taken here");
    else if (fed == GRPC_TOO_LARGE)
        reply_finish(k, WL_RESOURCE_EXHAUSTED, "the request is too large");
    else
        reply_finish(k, WL_RESOURCE_EXHAUSTED, "out of memory");
}

static void take(struct wl_call *k, const uint8_t *p, size_t n)
{
    while (n > 0 && !k->done) {
        if (k->whole) { /* bytes after the only message */
            message_whole(k);
            return;
        }
        enum grpc_fed fed = grpc_in_feed(&k->in, &p, &n);
        if (fed == GRPC_MORE)
            break;
        if (fed != GRPC_MESSAGE)
            refuse_message(k, fed);
        else if (!message_whole(k))
            return;
    }
    if (!k->done && k->method->kind == M_SDS) /* a message that was begun has to come to its end */
        k->request_deadline = grpc_in_empty(&k->in)        ? NEVER
                              : k->request_deadline != NEVER ? k->request_deadline
                                                             : clock_mono_ms() + LIMIT_REQUEST_S * 1000;
}

void call_data(struct wl_call *k, const uint8_t *p, size_t n)
{
    k->held += n;
    k->c->user->request_bytes += n;
    if (!k->done && k->c->user->request_bytes > LIMIT_REQUESTS_PER_UID)
        reply_finish(k, WL_RESOURCE_EXHAUSTED, "too many unfinished requests of this user");
    take(k, p, n);
    if (k->done || grpc_in_empty(&k->in))
        give_back(k, true);
}

void call_end(struct wl_call *k)
{
    k->half_closed = true;
    if (k->done)
        return;
    if (!k->whole && !grpc_in_empty(&k->in))
        reply_finish(k, WL_INTERNAL, "the request ends inside a message");
    else if (k->method->kind == M_SDS && (!k->asked || (!k->want && !k->out_len)))
        reply_finish(k, WL_OK, NULL); /* nobody is left to ask; an answer owed is given first (reply_sent) */
    else if (k->method->kind != M_SDS && !k->whole)
        reply_finish(k, WL_UNIMPLEMENTED, "this method takes one message");
    else if (k->method->kind != M_SDS)
        dispatch(k);
    give_back(k, true);
}

/* --- time ------------------------------------------------------------------------------------------- */

int64_t call_deadline(const struct wl_call *k)
{
    if (k->done)
        return NEVER;
    return k->deadline < k->request_deadline ? k->deadline : k->request_deadline;
}

void call_expire(struct wl_call *k, int64_t now)
{
    if (k->done)
        return;
    if (now >= k->deadline)
        reply_finish(k, WL_DEADLINE_EXCEEDED, "the client's deadline has passed");
    else if (now >= k->request_deadline)
        reply_finish(k, WL_DEADLINE_EXCEEDED, "the request did not come to its end in time");
}
