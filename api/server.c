#include "api/server.h"
#include "api/crl.h"
#include "api/internal.h"
#include "api/renewal.h"
#include "api/store_age.h"
#include "base/clock.h"
#include "base/log.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define IDLE_SECONDS 120u        /* a connection that says nothing for so long is closed */
#define CONNECTION_BYTES 16384u  /* of memory each, for headers both ways */
#define ADMIN_BYTES 32768u
#define ADMIN_CONNECTIONS 64u
#define BACKLOG 1024u
#define SETTLE_MS 2000u /* for the word on the store; an index that is made again takes longer */

/* --- names ----------------------------------------------------------------------------------------- */

static int base_add(struct api_server *s, const char *name, unsigned port, struct err *e)
{
    char url[512];
    bool v6 = strchr(name, ':') != NULL;
    int n = port ? snprintf(url, sizeof url, v6 ? "https://[%s]:%u" : "https://%s:%u", name, port)
                 : snprintf(url, sizeof url, "%s", name);
    /* URLs are written into JSON as they are. */
    if (n < 0 || (size_t)n >= sizeof url || strpbrk(url, "\"\\<> \t\r\n"))
        return err_set(e, ERR_CONFIG, "external-url", "\"%.100s\" can not stand in a URL; see external_url and names", name);
    if (strncmp(url, "https://", 8) != 0)
        return err_set(e, ERR_CONFIG, "external-url", "external_url must begin with https://, and is \"%.100s\"", name);
    struct base *b = &s->bases[s->bases_count];
    b->url = strdup(url);
    b->len = (size_t)n;
    if (!b->url)
        return err_set(e, ERR_INTERNAL, "memory", "out of memory for names");
    s->bases_count++;
    return 0;
}

/* external_url first; then each configured name with the port we listen on. */
static int bases_make(struct api_server *s, struct err *e)
{
    const struct config *c = s->config;
    s->bases = calloc(1 + c->names_count, sizeof *s->bases);
    if (!s->bases)
        return err_set(e, ERR_INTERNAL, "memory", "out of memory for names");
    if (base_add(s, c->external_url, 0, e) < 0)
        return -1;
    for (size_t i = 0; i < c->names_count; i++)
        if (base_add(s, c->names[i], c->listen_port, e) < 0)
            return -1;
    return 0;
}

/* --- daemons --------------------------------------------------------------------------------------- */

/* What MHD complains of is mostly what clients do (broken handshakes, connections dropped). */
__attribute__((format(printf, 2, 0))) static void mhd_says(void *unused, const char *form, va_list args)
{
    char text[512];
    int n = vsnprintf(text, sizeof text, form, args);
    while (n > 0 && (size_t)n < sizeof text && text[n - 1] == '\n')
        text[--n] = 0;
    log_debug("http", "what", text, NULL);
}

static struct MHD_Daemon *daemon_start(unsigned flags, const struct MHD_OptionItem *options, struct api_door *door)
{
    return MHD_start_daemon(flags | MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 0,
                            NULL, NULL, request_handle, door,
                            MHD_OPTION_EXTERNAL_LOGGER, mhd_says, (void *)NULL,
                            MHD_OPTION_NOTIFY_COMPLETED, request_completed, (void *)door,
                            MHD_OPTION_NOTIFY_CONNECTION, connection_changed, (void *)door,
                            MHD_OPTION_URI_LOG_CALLBACK, audit_uri_seen, (void *)NULL,
                            MHD_OPTION_CONNECTION_TIMEOUT, IDLE_SECONDS,
                            MHD_OPTION_STRICT_FOR_CLIENT, 1,
                            MHD_OPTION_ARRAY, options, MHD_OPTION_END);
}

static int admin_start(struct api_server *s, struct err *e)
{
    const struct MHD_OptionItem options[] = {
        {MHD_OPTION_LISTEN_SOCKET, s->admin_fd, NULL},
        {MHD_OPTION_CONNECTION_LIMIT, ADMIN_CONNECTIONS, NULL},
        {MHD_OPTION_CONNECTION_MEMORY_LIMIT, ADMIN_BYTES, NULL},
        {MHD_OPTION_END, 0, NULL},
    };
    s->admin_daemon = daemon_start(0, options, &s->admin_door);
    return s->admin_daemon ? 0 : err_errno(e, "http-start", "cannot serve the admin socket");
}

static unsigned pool_size(const struct config *c)
{
    long n = c->frontend_threads ? (long)c->frontend_threads : sysconf(_SC_NPROCESSORS_ONLN);
    /* Each thread has its own share of the connections, and at least one. */
    n = n < 1 ? 1 : n > 64 ? 64 : n;
    return n > (long)c->max_connections ? c->max_connections : (unsigned)n;
}

static int public_start(struct api_server *s, struct err *e)
{
    unsigned threads = pool_size(s->config);
    static char plain[] = TLS_PRIORITIES, clients[] = TLS_PRIORITIES_CLIENTS;
    union {
        gnutls_certificate_retrieve_function3 *function;
        void *p;
    } certificate = {tls_certificate};
    const struct MHD_OptionItem options[] = {
        {MHD_OPTION_LISTEN_SOCKET, s->listen_fd, NULL},
        {MHD_OPTION_CONNECTION_LIMIT, (intptr_t)s->config->max_connections, NULL},
        {MHD_OPTION_CONNECTION_MEMORY_LIMIT, CONNECTION_BYTES, NULL},
        {MHD_OPTION_LISTEN_BACKLOG_SIZE, BACKLOG, NULL},
        {MHD_OPTION_HTTPS_PRIORITIES, 0, s->config->audit_access == CONFIG_AUDIT_MTLS ? clients : plain},
        {MHD_OPTION_HTTPS_CERT_CALLBACK2, 0, certificate.p},
        {threads > 1 ? MHD_OPTION_THREAD_POOL_SIZE : MHD_OPTION_END, threads, NULL},
        {MHD_OPTION_END, 0, NULL},
    };
    s->public_daemon = daemon_start(MHD_USE_TLS, options, &s->public_door);
    return s->public_daemon ? 0 : err_errno(e, "http-start", "cannot serve %s", s->config->external_url);
}

/* --- start, stop ------------------------------------------------------------------------------------- */

static struct api_server *server_new(const struct api_options *o, struct err *e)
{
    struct api_server *s = calloc(1, sizeof *s);
    if (!s) {
        err_set(e, ERR_INTERNAL, "memory", "out of memory for the server");
        return NULL;
    }
    s->config = o->config;
    s->ra = o->ra;
    s->audit = o->audit;
    s->admin_uid = o->admin_uid;
    s->listen_fd = o->listen_fd;
    s->admin_fd = o->admin_fd;
    s->public_door = (struct api_door){s, false};
    s->admin_door = (struct api_door){s, true};
    atomic_init(&s->in_flight, 0);
    atomic_init(&s->stopping, false);
    pthread_mutex_init(&s->lock, NULL);
    return s;
}

int api_start(struct api_server **out, const struct api_options *o, struct err *e)
{
    struct api_server *s = server_new(o, e);
    if (!s)
        return -1;
    s->nonces = nonce_table_new(e);
    const struct crl_options crl = {.config = s->config, .ra = s->ra, .audit = s->audit};
    s->renewals = renewals_new(s->config, s->ra, e);
    if (!s->nonces || !s->renewals || bases_make(s, e) < 0 || crl_start(&s->crl, &crl, e) < 0 || admin_start(s, e) < 0 || tls_start(&s->tls, s->ra, e) < 0) {
        api_stop(s, 0);
        return -1;
    }
    store_age_settle(o->age, SETTLE_MS);
    if (public_start(s, e) < 0) {
        api_stop(s, 0);
        return -1;
    }
    log_info("serving", "url", s->config->external_url, NULL);
    *out = s;
    return 0;
}

/* Requests that are being answered, given up to ms to become none. Polling: this happens once in a
 * process's life, and costs the warm path nothing. */
static void drain(struct api_server *s, unsigned ms)
{
    int64_t until = clock_mono_ms() + ms;
    while (atomic_load(&s->in_flight) > 0 && clock_mono_ms() < until)
        usleep(2000);
}


void api_stop(struct api_server *s, unsigned drain_ms)
{
    if (!s)
        return;
    atomic_store(&s->stopping, true);
    if (s->public_daemon)
        MHD_quiesce_daemon(s->public_daemon);
    if (s->admin_daemon)
        MHD_quiesce_daemon(s->admin_daemon);
    drain(s, drain_ms);
    while (requests_abandon(s)) /* MHD must not stop while a connection is suspended */
        usleep(1000);
    if (s->public_daemon)
        MHD_stop_daemon(s->public_daemon);
    if (s->admin_daemon)
        MHD_stop_daemon(s->admin_daemon);
    close(s->listen_fd);
    close(s->admin_fd);
    crl_stop(s->crl);
    renewals_free(s->renewals);
    tls_stop(s->tls);
    for (size_t i = 0; i < s->bases_count; i++)
        free(s->bases[i].url);
    free(s->bases);
    nonce_table_free(s->nonces);
    pthread_mutex_destroy(&s->lock);
    free(s);
}
