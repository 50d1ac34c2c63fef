#include "api/internal.h"
#include "base/log.h"
#include "base/secmem.h"
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#define KEEP_BYTES 16384 /* of a buffer, from one request to the next on a connection */
#define OUT_MAX (8u << 20)
#define CORK_BYTES 12288 /* an answer up to this goes out in one TLS record, headers and all */

/* --- life --------------------------------------------------------------------------------------- */

static struct request *request_new(struct api_server *s)
{
    struct request *r = calloc(1, sizeof *r);
    if (!r)
        return NULL;
    r->server = s;
    r->fd = -1;
    atomic_init(&r->refs, 1);
    buf_init(&r->body, API_BODY_MAX);
    buf_init(&r->out, OUT_MAX);
    buf_init(&r->location, 1024);
    buf_init(&r->up, 1024);
    return r;
}

static void buf_recycle(struct buf *b)
{
    if (b->cap > KEEP_BYTES)
        buf_free(b);
    else
        buf_reset(b);
}

/* A request of ACME may carry evidence, and that a join token: refused or not, no copy of ours stays.
 * The one in order.doc goes with payload_order_reset. */
static void evidence_wipe(struct request *r)
{
    if (r->body.p)
        secret_wipe(r->body.p, r->received < r->body.cap ? r->received : r->body.cap);
    if (r->jws.payload.p)
        secret_wipe(r->jws.payload.p, r->jws.payload.len);
    if (r->jws.signing_input)
        secret_wipe(r->jws.signing_input, r->jws.signing_len);
}

/* As new, but for its memory. */
static void request_reset(struct request *r)
{
    if (r->secret && r->out.p)
        secret_wipe(r->out.p, r->out.len);
    if (r->acme_post)
        evidence_wipe(r);
    jws_free(&r->jws);
    ra_session_release(r->session);
    payload_order_reset(&r->order);
    if (r->fd >= 0)
        close(r->fd);
    r->session = NULL;
    r->route = NULL;
    r->path = r->arg = r->content_type = r->cache = r->encoding = r->vary = NULL;
    r->etag = r->modified = NULL;
    free(r->next_page);
    r->next_page = NULL;
    r->cors = r->page = false;
    r->admin = r->acme_post = r->dispatched = r->queued = false;
    r->nonce_wanted = r->index_link = r->secret = false;
    r->corked = NULL;
    r->received = 0;
    r->status = r->retry_after = 0;
    r->allow[0] = 0;
    r->fd = -1;
    buf_recycle(&r->body);
    buf_recycle(&r->out);
    buf_reset(&r->location);
    buf_reset(&r->up);
    atomic_store(&r->claimed, false);
    atomic_store(&r->state, ASK_NONE);
}

static void request_unref(struct request *r)
{
    if (!r || atomic_fetch_sub(&r->refs, 1) > 1)
        return;
    request_reset(r);
    payload_order_free(&r->order);
    buf_free(&r->body);
    buf_free(&r->out);
    buf_free(&r->location);
    buf_free(&r->up);
    free(r);
}

static gnutls_session_t session_of(struct MHD_Connection *c)
{
    const union MHD_ConnectionInfo *i = MHD_get_connection_info(c, MHD_CONNECTION_INFO_GNUTLS_SESSION);
    return i ? i->tls_session : NULL;
}

void connection_changed(void *closure, struct MHD_Connection *c, void **context,
                        enum MHD_ConnectionNotificationCode what)
{
    const struct api_door *door = closure;
    struct api_conn *conn = *context;
    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        conn = calloc(1, sizeof *conn); /* NULL: request_handle closes the connection */
        if (conn) {
            conn->door = door;
            conn->generation = door->admin ? NULL : tls_hold(door->server->tls);
            conn->tls = door->admin ? NULL : session_of(c);
            if (door->server->config->audit_access == CONFIG_AUDIT_MTLS)
                tls_ask_certificate(conn->tls);
        }
        *context = conn;
    } else if (conn) {
        tls_release(door->server->tls, conn->generation);
        request_unref(conn->request);
        free(conn->query);
        free(conn);
        *context = NULL;
    }
}

/* The connection's request object, unless a call of ra/ still refers to it. */
static struct request *request_begin(struct api_conn *conn)
{
    struct request *r = conn->request;
    if (r && atomic_load(&r->refs) > 1) {
        request_unref(r);
        r = conn->request = NULL;
    }
    if (!r)
        r = conn->request = request_new(conn->door->server);
    return r;
}

/* --- waiting for ra/ ------------------------------------------------------------------------------ */

static bool suspended_add(struct request *r) /* false: the server is closing */
{
    struct api_server *s = r->server;
    pthread_mutex_lock(&s->lock);
    bool ok = !s->closing;
    if (ok) {
        r->next = s->suspended;
        r->link = &s->suspended;
        if (r->next)
            r->next->link = &r->next;
        s->suspended = r;
    }
    pthread_mutex_unlock(&s->lock);
    r->listed = ok;
    return ok;
}

static void suspended_remove(struct request *r)
{
    if (!r->listed)
        return;
    r->listed = false;
    pthread_mutex_lock(&r->server->lock);
    *r->link = r->next;
    if (r->next)
        r->next->link = r->link;
    pthread_mutex_unlock(&r->server->lock);
}

void request_ask(struct request *r)
{
    atomic_store(&r->state, ASK_ASKED);
    atomic_fetch_add(&r->refs, 1);
}

void request_unask(struct request *r)
{
    atomic_fetch_sub(&r->refs, 1);
    atomic_store(&r->state, ASK_NONE);
}

bool request_claim(struct request *r)
{
    if (!atomic_exchange(&r->claimed, true))
        return true;
    request_unref(r);
    return false;
}

/* The answer is complete. After the exchange MHD's thread may finish the request, so nothing of it
 * is touched then; while it is suspended, its connection cannot go away. */
static void request_release(struct request *r)
{
    struct MHD_Connection *c = r->connection;
    if (atomic_exchange(&r->state, ASK_SETTLED) == ASK_SUSPENDED)
        MHD_resume_connection(c);
}

void request_settle(struct request *r)
{
    atomic_fetch_sub(&r->refs, 1); /* never the last: the connection holds one until we release */
    request_release(r);
}

static void request_give_up(struct request *r)
{
    struct err e = {0};
    err_set(&e, ERR_UNAVAILABLE, "stopping", "this server is stopping; try again");
    request_fail(r, &e);
    request_release(r); /* the reference of the call stays until its callback comes */
}

/* On MHD's thread, after ra/ was asked: whether the answer is there. Often it is at once; then
 * nothing is suspended. Else the connection is suspended first and only then said to be, so that
 * it is resumed exactly once, by whoever comes second. */
static bool request_settled(struct request *r)
{
    if (atomic_load(&r->state) == ASK_SETTLED)
        return true;
    if (!suspended_add(r)) {
        if (!atomic_exchange(&r->claimed, true))
            request_give_up(r);
        while (atomic_load(&r->state) != ASK_SETTLED)
            sched_yield(); /* it is being answered on another thread just now */
        return true;
    }
    MHD_suspend_connection(r->connection);
    enum ask_state asked = ASK_ASKED;
    if (!atomic_compare_exchange_strong(&r->state, &asked, ASK_SUSPENDED))
        MHD_resume_connection(r->connection);
    return false;
}

bool requests_abandon(struct api_server *s)
{
    pthread_mutex_lock(&s->lock);
    s->closing = true;
    for (struct request *r = s->suspended; r; r = r->next)
        if (!atomic_exchange(&r->claimed, true))
            request_give_up(r); /* leaves the list when MHD's thread comes to it */
    bool some = s->suspended != NULL;
    pthread_mutex_unlock(&s->lock);
    return some;
}

/* --- answering ------------------------------------------------------------------------------------ */

void request_fail(struct request *r, const struct err *e)
{
    struct problem p = problem_of(e);
    if (p.internal)
        log_err(LOG_ERROR, "a request failed", e);
    buf_reset(&r->out);
    problem_write(&r->out, e, !r->admin);
    r->status = p.status;
    r->content_type = "application/problem+json";
    r->retry_after = p.retry_after;
    r->cache = NULL;
}

void request_json(struct request *r, unsigned status)
{
    r->status = status;
    r->content_type = "application/json";
}

static void header(struct MHD_Response *m, const char *name, const char *value)
{
    if (value)
        MHD_add_response_header(m, name, value);
}

static void link_header(struct MHD_Response *m, const char *base, const char *path, const char *rel)
{
    char text[1280];
    snprintf(text, sizeof text, "<%s%s>;rel=\"%s\"", base, path, rel);
    MHD_add_response_header(m, "Link", text);
}

/* RFC 8288; relative to what was asked for. */
static void next_header(struct MHD_Response *m, const char *query)
{
    char *text;
    if (asprintf(&text, "<?%s>;rel=\"next\"", query) < 0)
        return;
    MHD_add_response_header(m, "Link", text);
    MHD_add_response_header(m, "Access-Control-Expose-Headers", "Link");
    free(text);
}

static void page_headers(struct MHD_Response *m)
{
    header(m, "Content-Security-Policy",
           "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
           "base-uri 'none'; form-action 'none'; frame-ancestors 'none'");
    header(m, "X-Content-Type-Options", "nosniff");
    header(m, "Referrer-Policy", "no-referrer");
}

static void headers_write(struct request *r, struct MHD_Response *m)
{
    char text[NONCE_LEN + 1];
    header(m, "Content-Type", r->content_type);
    header(m, "Cache-Control", r->cache);
    header(m, "Content-Encoding", r->encoding);
    header(m, "Vary", r->vary);
    header(m, "Access-Control-Allow-Origin", r->cors ? "*" : NULL);
    header(m, "ETag", r->etag);
    header(m, "Last-Modified", r->modified);
    if (r->page)
        page_headers(m);
    if (r->nonce_wanted) {
        nonce_make(r->server->nonces, text);
        header(m, "Replay-Nonce", text);
    }
    if (r->location.len)
        header(m, "Location", buf_cstr(&r->location));
    if (r->index_link)
        link_header(m, r->base->url, "/acme/directory", "index");
    if (r->up.len)
        link_header(m, "", buf_cstr(&r->up), "up");
    if (r->next_page)
        next_header(m, r->next_page);
    if (*r->allow)
        header(m, "Allow", r->allow);
    if (r->retry_after) {
        snprintf(text, sizeof text, "%u", r->retry_after);
        header(m, "Retry-After", text);
    }
    if (atomic_load_explicit(&r->server->stopping, memory_order_relaxed))
        header(m, "Connection", "close");
}

/* MHD sends headers and body one after the other, each its own TLS record and its own system call.
 * Corked, both become one: GnuTLS collects them until request_completed. */
static void cork(struct request *r)
{
    if (r->tls && r->fd < 0 && r->out.len <= CORK_BYTES) {
        gnutls_record_cork(r->tls);
        r->corked = r->tls;
    }
}

/* The kernel takes so small an answer whole, unless earlier ones still fill its buffer: then this
 * client asks on without reading, and is cut off; MHD must not come to wait for it. MHD keeps
 * TCP_CORK on and pushes by setting TCP_NODELAY again (tcp(7)); it did so before there was a byte. */
static void uncork(struct request *r, struct MHD_Connection *c)
{
    static const int on = 1;
    gnutls_session_t tls = r->corked;
    const union MHD_ConnectionInfo *i = MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD);
    r->corked = NULL;
    if (!tls || !i)
        return;
    if (gnutls_record_uncork(tls, 0) >= 0)
        setsockopt(i->connect_fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    else
        shutdown(i->connect_fd, SHUT_RDWR);
}

/* The body is the request's own memory, which outlives the answer: nothing is copied. */
static enum MHD_Result request_send(struct request *r)
{
    struct MHD_Response *m;
    if (r->out.failed || r->location.failed || r->up.failed || r->status == 0) {
        struct err e = {0};
        err_set(&e, ERR_INTERNAL, "answer", "no memory or no room for the answer to %s", r->path);
        buf_reset(&r->location);
        buf_reset(&r->up);
        request_fail(r, &e);
    }
    if (r->fd >= 0) {
        m = MHD_create_response_from_fd64(r->fd_size, r->fd);
        if (m)
            r->fd = -1; /* MHD closes it */
    } else {
        m = MHD_create_response_from_buffer(r->out.len, r->out.p, MHD_RESPMEM_PERSISTENT);
    }
    if (!m)
        return MHD_NO;
    headers_write(r, m);
    cork(r);
    enum MHD_Result rc = MHD_queue_response(r->connection, r->status, m);
    MHD_destroy_response(m);
    r->queued = true;
    return rc;
}

/* --- asking ----------------------------------------------------------------------------------------- */

static const struct base *base_of_host(const struct api_server *s, struct MHD_Connection *c)
{
    const char *host = MHD_lookup_connection_value(c, MHD_HEADER_KIND, "Host");
    for (size_t i = 0; host && i < s->bases_count; i++)
        if (strcasecmp(s->bases[i].url + strlen("https://"), host) == 0)
            return &s->bases[i];
    return &s->bases[0];
}

static void request_unrouted(struct request *r, const char *method, unsigned allowed)
{
    struct err e = {0};
    if (!allowed) {
        err_set(&e, ERR_NOT_FOUND, "path", "nothing is at %.200s here", r->path);
    } else {
        methods_write(r->allow, allowed);
        err_set(&e, ERR_MALFORMED, "method", "%.16s is not for %.200s; use %s%s", method, r->path, r->allow,
                allowed == M_POST ? ", signed as a JWS; to read, with an empty payload (POST-as-GET, "
                                    "RFC 8555 §6.3)"
                                  : "");
    }
    request_fail(r, &e);
}

static void request_prepare(struct request *r, struct api_conn *conn, struct MHD_Connection *c, const char *url,
                            const char *method)
{
    unsigned allowed;
    struct err e = {0};
    request_reset(r);
    r->connection = c;
    r->path = url;
    r->method = method_of(method);
    r->admin = conn->door->admin;
    r->route = route_find(r->admin ? admin_routes : public_routes, r->method, url, &r->arg, &allowed);
    if (!r->admin && strncmp(url, "/acme/", 6) == 0) {
        r->base = base_of_host(r->server, c);
        r->acme_post = r->nonce_wanted = r->method == M_POST;
        r->index_link = strcmp(url, "/acme/directory") != 0;
    }
    if (r->admin && admin_authorize(r, conn, &e) < 0) {
        r->route = NULL;
        request_fail(r, &e);
    } else if (!r->route) {
        request_unrouted(r, method, allowed);
    }
}

static enum MHD_Result request_take(struct request *r, const char *p, size_t n)
{
    r->received += n;
    if (r->received > API_BODY_SWALLOW)
        return MHD_NO;
    if (r->received <= API_BODY_MAX)
        buf_put(&r->body, p, n);
    else
        buf_reset(&r->body);
    return MHD_YES;
}

static void request_dispatch(struct request *r)
{
    struct err e = {0};
    r->dispatched = true;
    if (!r->route)
        return;
    int rc = 0;
    if (r->received > API_BODY_MAX)
        rc = err_set(&e, ERR_TOO_LARGE, "body-size", "a body of more than %u bytes is not read", API_BODY_MAX);
    else if (r->body.failed)
        rc = err_set(&e, ERR_INTERNAL, "memory", "out of memory for a request");
    else if (r->acme_post)
        rc = acme_authenticate(r, &e);
    if (rc < 0)
        request_fail(r, &e);
    else
        r->route->handler(r);
}

/* MHD calls this once with the headers, then for each piece of the body, then once more at its end
 * (and again when a suspended connection is resumed). */
enum MHD_Result request_handle(void *closure, struct MHD_Connection *c, const char *url, const char *method,
                               const char *version, const char *upload, size_t *upload_len, void **context)
{
    struct request *r = *context;
    if (!r) {
        const union MHD_ConnectionInfo *i = MHD_get_connection_info(c, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
        struct api_conn *conn = i ? i->socket_context : NULL;
        if (!conn || !(r = request_begin(conn)))
            return MHD_NO;
        tls_release(r->server->tls, conn->generation); /* a request: the handshake is over */
        conn->generation = NULL;
        atomic_fetch_add(&r->server->in_flight, 1);
        *context = r;
        request_prepare(r, conn, c, url, method);
        r->tls = conn->tls;
        return MHD_YES;
    }
    if (*upload_len > 0) {
        size_t n = *upload_len;
        *upload_len = 0;
        return request_take(r, upload, n);
    }
    if (r->queued)
        return MHD_YES;
    if (!r->dispatched)
        request_dispatch(r);
    else
        suspended_remove(r);
    if (atomic_load(&r->state) != ASK_NONE && !request_settled(r))
        return MHD_YES;
    return request_send(r);
}

void request_completed(void *closure, struct MHD_Connection *c, void **context,
                       enum MHD_RequestTerminationCode why)
{
    const struct api_door *door = closure;
    struct request *r = *context;
    if (!r)
        return;
    *context = NULL;
    uncork(r, c);
    suspended_remove(r);
    if (atomic_load(&r->refs) == 1)
        request_reset(r); /* what it holds, a session or a token's text, goes now */
    atomic_fetch_sub(&door->server->in_flight, 1);
}
