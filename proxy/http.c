/* /live, /ready and /metrics, for the machine itself: plain HTTP/1.1, one answer a connection. A request is at most one
 * buffer, and has a few seconds. */
#include "proxy/internal.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ASKERS_MAX 32
#define REQUEST_MAX 4096
#define ANSWER_MAX (4 << 20)
#define PATIENCE_S 5
#define RETRY_MS 100 /* when there are no descriptors: the listener stays readable, and asking at once would spin */

struct asker {
    struct http *h;
    struct asker *next, **at;
    int fd;
    struct event rd, wr, timer;
    char in[REQUEST_MAX + 1];
    size_t len, sent;
    struct buf out;
};
struct http {
    struct proxy *p;
    struct event_base *base;
    int fd;
    struct event ev, retry;
    struct asker *first;
    unsigned n;
};

static void asker_free(struct asker *a)
{
    event_del(&a->rd);
    event_del(&a->wr);
    event_del(&a->timer);
    close(a->fd);
    buf_free(&a->out);
    *a->at = a->next;
    if (a->next)
        a->next->at = a->at;
    a->h->n--;
    free(a);
}

static void answer(struct asker *a, const char *status, const char *type, const struct buf *body)
{
    buf_fmt(&a->out, "HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n",
            status, type, body->len);
    buf_put(&a->out, body->p, body->len);
}

static bool asks(const struct asker *a, const char *path)
{
    size_t n = strlen(path);
    return strncmp(a->in, "GET ", 4) == 0 && strncmp(a->in + 4, path, n) == 0 && (a->in[4 + n] == ' ' || a->in[4 + n] == '?');
}

static void respond(struct asker *a)
{
    struct buf body;
    const char *why = NULL, *text = "text/plain; charset=utf-8";
    buf_init(&body, ANSWER_MAX);
    buf_init(&a->out, ANSWER_MAX + 512);
    if (asks(a, "/metrics")) {
        metrics_print(&body, a->h->p);
        if (body.failed) { /* half of it would look like all of it */
            buf_reset(&body);
            buf_str(&body, "more metrics than one answer holds; lower metrics_peers\n");
            answer(a, "500 Internal Server Error", text, &body);
        } else {
            answer(a, "200 OK", "text/plain; version=0.0.4; charset=utf-8", &body);
        }
    } else if (asks(a, "/live")) {
        buf_str(&body, "live\n");
        answer(a, "200 OK", text, &body);
    } else if (asks(a, "/ready")) {
        bool ready = proxy_ready(a->h->p, &why);
        buf_fmt(&body, "%s\n", ready ? "ready" : why);
        answer(a, ready ? "200 OK" : "503 Service Unavailable", text, &body);
    } else {
        buf_str(&body, "GET /live, /ready or /metrics\n");
        answer(a, "404 Not Found", text, &body);
    }
    buf_free(&body);
}

static void on_write(int fd, short what, void *arg)
{
    struct asker *a = arg;
    ssize_t n = send(fd, a->out.p + a->sent, a->out.len - a->sent, MSG_NOSIGNAL);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    a->sent += n > 0 ? (size_t)n : 0;
    if (n <= 0 || a->sent == a->out.len)
        asker_free(a);
}

static void on_read(int fd, short what, void *arg)
{
    struct asker *a = arg;
    ssize_t n = recv(fd, a->in + a->len, REQUEST_MAX - a->len, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    a->len += n > 0 ? (size_t)n : 0;
    a->in[a->len] = 0;
    if (strstr(a->in, "\r\n\r\n")) {
        event_del(&a->rd);
        respond(a);
        if (a->out.failed)
            asker_free(a);
        else
            event_add(&a->wr, NULL);
    } else if (n <= 0 || a->len == REQUEST_MAX) {
        asker_free(a);
    }
}

static void on_timer(int fd, short what, void *arg)
{
    asker_free(arg);
}

static void on_accept(int fd, short what, void *arg)
{
    const struct timeval t = {PATIENCE_S, 0};
    struct http *h = arg;
    int c = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    struct asker *a = c >= 0 && h->n < ASKERS_MAX ? calloc(1, sizeof *a) : NULL;
    if (c < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)) {
        const struct timeval later = {0, RETRY_MS * 1000};
        event_del(&h->ev);
        event_add(&h->retry, &later);
    }
    if (!a) {
        if (c >= 0)
            close(c);
        return;
    }
    a->h = h;
    a->fd = c;
    a->next = h->first;
    a->at = &h->first;
    if (h->first)
        h->first->at = &a->next;
    h->first = a;
    h->n++;
    event_assign(&a->rd, h->base, c, EV_READ | EV_PERSIST, on_read, a);
    event_assign(&a->wr, h->base, c, EV_WRITE | EV_PERSIST, on_write, a);
    event_assign(&a->timer, h->base, -1, 0, on_timer, a);
    event_add(&a->rd, NULL);
    event_add(&a->timer, &t);
}

static void on_retry(int fd, short what, void *arg)
{
    struct http *h = arg;
    event_add(&h->ev, NULL);
}

struct http *http_new(struct proxy *p, struct event_base *base, const char *listen, struct err *e)
{
    struct address where;
    if (address_parse(&where, listen, e) < 0)
        return NULL;
    struct http *h = calloc(1, sizeof *h);
    if (!h) {
        err_set(e, ERR_INTERNAL, "memory", "out of memory");
        return NULL;
    }
    h->p = p;
    h->base = base;
    h->fd = address_listen(&where, false, 0660, e);
    if (h->fd >= 0) {
        event_assign(&h->ev, base, h->fd, EV_READ | EV_PERSIST, on_accept, h);
        event_assign(&h->retry, base, -1, 0, on_retry, h);
        event_add(&h->ev, NULL);
        return h;
    }
    free(h);
    return NULL;
}

void http_free(struct http *h)
{
    if (!h)
        return;
    while (h->first)
        asker_free(h->first);
    event_del(&h->ev);
    event_del(&h->retry);
    close(h->fd);
    free(h);
}
