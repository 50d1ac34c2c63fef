#include "base/clock.h"
#include "base/fileio.h"
#include "base/log.h"
#include "base/secmem.h"
#include "cmd/cli_log_witness.h"
#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATH "/add-checkpoint"
#define THREADS 4u
#define CONNECTIONS 256u
#define CONNECTION_BYTES 8192u
#define IDLE_SECONDS 30u
#define PEM_MAX 65536
#define LINES_A_SECOND 10 /* of the log, about refusals */

struct witness_http {
    struct tlog_witness *witness;
    int fd;
    char *cert, *key; /* owned; the key wiped */
    struct MHD_Daemon *daemon;
    pthread_mutex_t lock; /* guards the two below */
    int64_t second;
    unsigned lines;
};

/* --- one request --------------------------------------------------------------------------------- */

static enum MHD_Result answer(struct MHD_Connection *c, unsigned status, const char *type, const void *p, size_t len)
{
    /* The memory is not written to: it is copied at once. */
    struct MHD_Response *r = MHD_create_response_from_buffer(len, (void *)(uintptr_t)p, MHD_RESPMEM_MUST_COPY);
    if (!r)
        return MHD_NO;
    MHD_add_response_header(r, "Content-Type", type);
    if (status == 405)
        MHD_add_response_header(r, "Allow", "POST");
    enum MHD_Result ok = MHD_queue_response(c, status, r);
    MHD_destroy_response(r);
    return ok;
}

static enum MHD_Result answer_text(struct MHD_Connection *c, unsigned status, const char *text)
{
    return answer(c, status, "text/plain; charset=utf-8", text, strlen(text));
}

static void say_refused(struct witness_http *h, unsigned status, const struct err *e)
{
    int64_t second = clock_mono_ms() / 1000;
    pthread_mutex_lock(&h->lock);
    if (second != h->second)
        h->lines = 0;
    h->second = second;
    bool quiet = h->lines++ >= LINES_A_SECOND;
    pthread_mutex_unlock(&h->lock);
    if (!quiet)
        log_event(status >= 500 ? LOG_ERROR : status == 422 ? LOG_WARN : LOG_INFO, "not cosigned", "status",
                  log_num(status), "rule", e->rule, "why", e->msg, NULL);
}

static enum MHD_Result answer_add(struct witness_http *h, struct MHD_Connection *c, const struct buf *body)
{
    struct tlog_witness_answer a = {0};
    struct err e = {0};
    buf_init(&a.body, 4096);
    if (tlog_witness_add(h->witness, body->p, body->len, &a, &e) < 0)
        say_refused(h, a.status, &e);
    enum MHD_Result ok = answer(c, a.status, a.size ? "text/x.tlog.size" : "text/plain; charset=utf-8", a.body.p,
                                a.body.len);
    buf_free(&a.body);
    return ok;
}

/* Refused by its head alone; 0: go on. */
static unsigned head_check(struct MHD_Connection *c, const char *url, const char *method)
{
    const char *length = MHD_lookup_connection_value(c, MHD_HEADER_KIND, "Content-Length");
    if (strcmp(url, PATH) != 0)
        return 404;
    if (strcmp(method, "POST") != 0)
        return 405;
    return length && strtoull(length, NULL, 10) > TLOG_ADD_MAX ? 413 : 0;
}

/* Called with the head, then with each piece of the body, then with none. */
static enum MHD_Result on_request(void *arg, struct MHD_Connection *c, const char *url, const char *method,
                                  const char *version, const char *data, size_t *size, void **request)
{
    struct buf *body = *request;
    (void)version;
    if (!body) {
        unsigned status = head_check(c, url, method);
        if (status)
            return answer_text(c, status, status == 404   ? "a witness has " PATH " and nothing else\n"
                                          : status == 405 ? "POST a checkpoint (C2SP tlog-witness)\n"
                                                          : "the request is too large\n");
        if (!(body = malloc(sizeof *body)))
            return MHD_NO;
        buf_init(body, TLOG_ADD_MAX);
        *request = body;
        return MHD_YES;
    }
    if (*size == 0)
        return answer_add(arg, c, body);
    buf_put(body, data, *size);
    *size = 0;
    return body->failed ? MHD_NO : MHD_YES; /* more than any request has, its length not told */
}

static void on_completed(void *arg, struct MHD_Connection *c, void **request, enum MHD_RequestTerminationCode how)
{
    struct buf *body = *request;
    (void)arg;
    (void)c;
    (void)how;
    if (body)
        buf_free(body);
    free(body);
    *request = NULL;
}

/* --- start and end ------------------------------------------------------------------------------- */

static bool is_loopback(const struct sockaddr_storage *a)
{
    if (a->ss_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)a)->sin_addr.s_addr) >> 24 == 127;
    return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)a)->sin6_addr);
}

/* "127.0.0.1:8081" or "[::1]:8081". */
static int address_parse(struct sockaddr_storage *a, socklen_t *len, const char *s, struct err *e)
{
    char host[INET6_ADDRSTRLEN + 2] = "";
    const char *colon = strrchr(s, ':');
    long port = 0;
    bool six = s[0] == '[';
    memset(a, 0, sizeof *a);
    if (!colon || (size_t)(colon - s) >= sizeof host)
        return err_set(e, ERR_USAGE, "listen", "--listen: use an address and a port, as 127.0.0.1:8081 or [::]:8081");
    memcpy(host, s + six, (size_t)(colon - s) - six);
    if (six && host[0] && host[strlen(host) - 1] == ']')
        host[strlen(host) - 1] = 0;
    if (args_number(colon + 1, 1, 65535, "--listen: the port", &port, e) < 0)
        return -1;
    struct sockaddr_in *v4 = (struct sockaddr_in *)a;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)a;
    int ok = six ? inet_pton(AF_INET6, host, &v6->sin6_addr) : inet_pton(AF_INET, host, &v4->sin_addr);
    if (ok != 1)
        return err_set(e, ERR_USAGE, "listen", "--listen: '%.100s' is no IP address (IPv6 in brackets)", host);
    a->ss_family = six ? AF_INET6 : AF_INET;
    *len = six ? sizeof *v6 : sizeof *v4;
    *(six ? &v6->sin6_port : &v4->sin_port) = htons((uint16_t)port);
    return 0;
}

static int socket_open(struct witness_http *h, const struct witness_http_options *o, struct err *e)
{
    struct sockaddr_storage a;
    socklen_t len = 0;
    int on = 1;
    if (address_parse(&a, &len, o->listen, e) < 0)
        return -1;
    if (!o->tls_cert && !is_loopback(&a))
        return err_set(e, ERR_USAGE, "listen",
                       "--listen: without --tls-cert and --tls-key only on a loopback address (127.0.0.1, [::1]), "
                       "e.g. behind a proxy that speaks HTTPS");
    h->fd = socket(a.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (h->fd < 0 || setsockopt(h->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        bind(h->fd, (struct sockaddr *)&a, len) < 0 || listen(h->fd, 128) < 0)
        return err_errno(e, "listen", "cannot listen on %s", o->listen);
    return 0;
}

static int pem_read(char **dst, const char *path, struct err *e)
{
    struct buf b;
    buf_init(&b, PEM_MAX);
    int rc = file_read(&b, path, PEM_MAX - 1, e);
    if (rc == 0 && !(*dst = buf_cstr(&b) ? strdup(buf_cstr(&b)) : NULL))
        rc = err_set(e, ERR_INTERNAL, "memory", "out of memory for %s", path);
    if (b.p)
        secret_wipe(b.p, b.cap);
    buf_free(&b);
    return rc;
}

int witness_http_open(struct witness_http **out, const struct witness_http_options *o, struct err *e)
{
    struct witness_http *h = calloc(1, sizeof *h);
    if (!h)
        return err_set(e, ERR_INTERNAL, "memory", "out of memory for the server");
    h->witness = o->witness;
    h->fd = -1;
    pthread_mutex_init(&h->lock, NULL);
    if ((o->tls_cert && (pem_read(&h->cert, o->tls_cert, e) < 0 || pem_read(&h->key, o->tls_key, e) < 0)) ||
        socket_open(h, o, e) < 0) {
        witness_http_close(h);
        return -1;
    }
    *out = h;
    return 0;
}

/* What MHD complains of is mostly what clients do. */
__attribute__((format(printf, 2, 0))) static void mhd_says(void *unused, const char *form, va_list args)
{
    char text[512];
    (void)unused;
    vsnprintf(text, sizeof text, form, args);
    text[strcspn(text, "\n")] = 0;
    log_debug("http", "what", text, NULL);
}

int witness_http_start(struct witness_http *h, struct err *e)
{
    static char priorities[] = "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2";
    const struct MHD_OptionItem tls[] = {
        {h->cert ? MHD_OPTION_HTTPS_MEM_CERT : MHD_OPTION_END, 0, h->cert},
        {MHD_OPTION_HTTPS_MEM_KEY, 0, h->key},
        {MHD_OPTION_HTTPS_PRIORITIES, 0, priorities},
        {MHD_OPTION_END, 0, NULL},
    };
    h->daemon = MHD_start_daemon(
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_USE_ERROR_LOG | (h->cert ? MHD_USE_TLS : 0u), 0, NULL, NULL, on_request, h,
        MHD_OPTION_EXTERNAL_LOGGER, mhd_says, (void *)NULL, MHD_OPTION_NOTIFY_COMPLETED, on_completed, (void *)h,
        MHD_OPTION_LISTEN_SOCKET, h->fd, MHD_OPTION_THREAD_POOL_SIZE, THREADS, MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_BYTES, MHD_OPTION_CONNECTION_TIMEOUT, IDLE_SECONDS,
        MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_ARRAY, tls, MHD_OPTION_END);
    if (h->daemon)
        h->fd = -1; /* the daemon's */
    return h->daemon ? 0
                     : err_set(e, ERR_CONFIG, "witness-http", "cannot serve%s",
                               h->cert ? ": does --tls-key belong to --tls-cert, and are both PEM?" : "");
}

void witness_http_close(struct witness_http *h)
{
    if (!h)
        return;
    if (h->daemon)
        MHD_stop_daemon(h->daemon);
    if (h->fd >= 0)
        close(h->fd);
    if (h->key)
        secret_wipe(h->key, strlen(h->key));
    free(h->cert);
    free(h->key);
    pthread_mutex_destroy(&h->lock);
    free(h);
}
