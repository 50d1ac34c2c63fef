#include "workload/internal.h"
#include "base/clock.h"
#include "base/log.h"
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* --- nghttp2's memory, bounded for each connection -------------------------------------------------- */

static void *mem_realloc(void *p, size_t n, void *arg)
{
    struct conn *c = arg;
    size_t before = p ? malloc_usable_size(p) : 0;
    if (c->memory - before + n > LIMIT_SESSION_MEMORY ||
        c->user->memory - before + n > LIMIT_SESSIONS_PER_UID)
        return NULL;
    void *q = realloc(p, n);
    if (q) {
        size_t after = malloc_usable_size(q);
        c->memory += after - before;
        c->user->memory += after - before;
    }
    return q;
}

static void *mem_malloc(size_t n, void *arg)
{
    return mem_realloc(NULL, n ? n : 1, arg);
}

static void *mem_calloc(size_t n, size_t size, void *arg)
{
    if (size && n > LIMIT_SESSION_MEMORY / size)
        return NULL;
    void *p = mem_malloc(n * size, arg);
    if (p)
        memset(p, 0, n * size);
    return p;
}

static void mem_free(void *p, void *arg)
{
    struct conn *c = arg;
    size_t n = p ? malloc_usable_size(p) : 0;
    c->memory -= n;
    c->user->memory -= n;
    free(p);
}

/* --- life ------------------------------------------------------------------------------------------- */

static struct user *user_of(struct wl_server *s, uid_t uid)
{
    struct user *u = s->users;
    while (u && u->uid != uid)
        u = u->next;
    if (!u && (u = calloc(1, sizeof *u))) {
        u->uid = uid;
        u->next = s->users;
        s->users = u;
    }
    return u;
}

static void user_left(struct wl_server *s, struct user *gone)
{
    if (--gone->connections > 0)
        return;
    struct user **at = &s->users;
    while (*at != gone)
        at = &(*at)->next;
    *at = gone->next;
    free(gone);
}

static struct user *admit(struct wl_server *s, uid_t uid)
{
    if (s->stats.open_connections >= s->l.connections)
        return NULL;
    struct user *u = user_of(s, uid);
    if (!u || u->connections >= s->l.connections_per_uid)
        return NULL;
    u->connections++;
    return u;
}

static int submit_settings(struct conn *c)
{
    /* Twice a message: half of a window may be used up before it is given back. */
    uint32_t window = 2 * c->s->l.message_bytes + 32768;
    nghttp2_settings_entry v[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, c->s->l.streams_per_connection},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, window},
        {NGHTTP2_SETTINGS_HEADER_TABLE_SIZE, 0}, /* nothing remembered between requests: 4 kB saved */
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, LIMIT_HEADERS},
    };
    if (nghttp2_submit_settings(c->h2, NGHTTP2_FLAG_NONE, v, sizeof v / sizeof *v) != 0)
        return -1;
    return nghttp2_session_set_local_window_size(c->h2, NGHTTP2_FLAG_NONE, 0, (int32_t)window) == 0 ? 0 : -1;
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    struct conn *c = arg;
    ssize_t n = recv((int)fd, c->s->in, sizeof c->s->in, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0)
        conn_break(c, "the client hung up");
    else
        conn_feed(c, c->s->in, (size_t)n);
    if (n > 0)
        secret_wipe(c->s->in, (size_t)n); /* a token may have been in it */
    conn_settle(c);
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
    conn_settle(arg);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct conn *c = arg;
    c->timer_at = NEVER;
    conn_settle(c);
}

static int conn_start(struct conn *c)
{
    nghttp2_mem mem = {c, mem_malloc, mem_free, mem_calloc, mem_realloc};
    event_assign(&c->in, c->s->base, c->fd, EV_READ | EV_PERSIST, on_readable, c);
    event_assign(&c->out, c->s->base, c->fd, EV_WRITE, on_writable, c);
    evtimer_assign(&c->timer, c->s->base, on_timer, c);
    if (nghttp2_session_server_new3(&c->h2, c->s->callbacks, c, c->s->option, &mem) != 0 ||
        submit_settings(c) < 0)
        return -1;
    if (c->fd >= 0 && event_add(&c->in, NULL) < 0)
        return -1;
    if (!(c->caller = c->s->p.connect(c->s->p.arg, c->fd)))
        return -1;
    conn_kick(c);
    return 0;
}

struct conn *conn_new(struct wl_server *s, int fd, uid_t uid)
{
    struct user *u = admit(s, uid);
    struct conn *c = u ? calloc(1, sizeof *c) : NULL;
    if (!c) {
        s->stats.refused++;
        if (u)
            user_left(s, u);
        if (fd >= 0)
            close(fd);
        return NULL;
    }
    c->s = s;
    c->fd = fd;
    c->user = u;
    c->born = c->idle_since = c->chatter_at = clock_mono_ms();
    c->chatter = LIMIT_CHATTER_BURST;
    c->timer_at = NEVER;
    c->preface_left = CONN_PREFACE;
    c->prev = &s->conns;
    if ((c->next = s->conns))
        c->next->prev = &c->next;
    s->conns = c;
    s->stats.open_connections++;
    if (conn_start(c) < 0) {
        s->stats.refused++;
        conn_free(c);
        return NULL;
    }
    s->stats.connections++;
    return c;
}

void conn_free(struct conn *c)
{
    struct wl_server *s = c->s;
    c->dead = c->busy = true; /* what the provider says meanwhile wakes nobody */
    while (c->calls)
        call_free(c->calls);
    if (c->caller)
        s->p.disconnect(s->p.arg, c->caller);
    event_del(&c->in);
    event_del(&c->out);
    event_del(&c->timer);
    nghttp2_session_del(c->h2);
    if (c->fd >= 0)
        close(c->fd);
    *c->prev = c->next;
    if (c->next)
        c->next->prev = c->prev;
    user_left(s, c->user);
    s->stats.open_connections--;
    free(c);
}

void conn_break(struct conn *c, const char *why)
{
    if (!c->dead)
        log_debug("a connection of the Workload API breaks", "uid", log_num((long long)c->user->uid), "why",
                  why, NULL);
    c->dead = true;
}

/* --- turns ------------------------------------------------------------------------------------------ */

/* A client that does not read gets its turn too: the provider is to be rid of calls that were answered. */
void conn_kick(struct conn *c)
{
    if (!c->busy)
        event_active(c->blocked ? &c->timer : &c->out, c->blocked ? EV_TIMEOUT : EV_WRITE, 1);
}

/* The frame that it could not write whole stays in nghttp2's hands, or, of DATA, is made again. */
static void flush(struct conn *c)
{
    c->blocked = false;
    int r = nghttp2_session_send(c->h2);
    if (r != 0)
        conn_break(c, nghttp2_strerror(r));
    scratch_wipe(&c->s->scratch);
    if (c->blocked && c->fd >= 0)
        event_add(&c->out, NULL);
}

/* Calls that were answered are the provider's no more, whether or not the client fetches the answer. */
static void release_done(struct conn *c)
{
    for (struct wl_call *k = c->calls; k; k = k->next)
        if (k->done)
            call_release(k);
}

static int64_t next_deadline(const struct conn *c)
{
    int64_t at = NEVER;
    if (!c->settled_in)
        at = c->born + LIMIT_PREFACE_S * 1000;
    bool open = false;
    for (const struct wl_call *k = c->calls; k; k = k->next) {
        int64_t d = call_deadline(k);
        open |= !k->done;
        if (d < at)
            at = d;
    }
    int64_t idle = c->idle_since + (int64_t)c->s->l.idle_seconds * 1000;
    return !open && idle < at ? idle : at;
}

static void expire(struct conn *c, int64_t now)
{
    bool open = false;
    for (struct wl_call *k = c->calls; k; k = k->next) {
        call_expire(k, now);
        open |= !k->done;
    }
    if (!c->settled_in && now >= c->born + LIMIT_PREFACE_S * 1000)
        conn_break(c, "no HTTP/2 came in time");
    if (!open && now >= c->idle_since + (int64_t)c->s->l.idle_seconds * 1000) {
        nghttp2_session_terminate_session(c->h2, NGHTTP2_NO_ERROR);
        if (c->blocked)
            conn_break(c, "idle, and does not read");
    }
}

static void arm(struct conn *c, int64_t now)
{
    int64_t at = next_deadline(c);
    if (at == c->timer_at)
        return;
    c->timer_at = at;
    if (at == NEVER) {
        evtimer_del(&c->timer);
        return;
    }
    int64_t ms = at > now ? at - now + 1 : 1;
    struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
    evtimer_add(&c->timer, &tv);
}

bool conn_settle(struct conn *c)
{
    int64_t now = clock_mono_ms();
    c->busy = true;
    if (!c->dead)
        expire(c, now);
    release_done(c); /* before the flush: the provider may have more to say at this */
    if (!c->dead)
        flush(c);
    if (!c->dead && !nghttp2_session_want_read(c->h2) && !nghttp2_session_want_write(c->h2))
        conn_break(c, "HTTP/2 is over: a GOAWAY, from the client or for its errors");
    if (c->dead) {
        conn_free(c);
        return false;
    }
    arm(c, now);
    c->busy = false;
    return true;
}

void conn_goodbye(struct conn *c)
{
    c->busy = true;
    if (!c->dead && nghttp2_session_terminate_session(c->h2, NGHTTP2_NO_ERROR) == 0)
        flush(c);
}

void conn_consume(struct conn *c, int32_t stream, size_t n)
{
    if (stream)
        nghttp2_session_consume(c->h2, stream, n);
    else
        nghttp2_session_consume_connection(c->h2, n);
}
