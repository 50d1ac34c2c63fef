/* The proxy whole, in a thread, with an identity from here: its two sides spoken by the test. */
#ifndef TESTS_PROXY_RIG_H
#define TESTS_PROXY_RIG_H
#include "base/clock.h"
#include "proxy/internal.h"
#include "tests/proxykit/kit.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define ID(x) "spiffe://example.org/" x
#define LONG_MS 60000 /* no test waits so long unless it fails */

struct rig {
    struct kit k;
    struct kit_id ours, web, db;
    struct proxy_conf conf;
    struct proxy *p;
    pthread_t thread;
    int upstream; /* listening, for server mode: plain; for client mode: TLS */
    char dir[64], up[96], in[96];
    struct source_ops ops;
    struct source source;
    struct event given;  /* of the proxy's loop: a state came through the pipe */
    int pipe[2];
    atomic_uint taken;   /* states that the loop has passed on */
};

/* --- a source that the test feeds, on the loop, as a source is to --------------------------------------- */

static inline void source_end(struct source *s)
{
    struct rig *r = (struct rig *)((char *)s - offsetof(struct rig, source));
    event_del(&r->given);
}
static inline void on_given(int fd, short what, void *arg)
{
    struct rig *r = arg;
    struct wl_state *s;
    if (read(fd, &s, sizeof s) != sizeof s)
        return;
    r->ops.state(r->ops.arg, s);
    wl_state_unref(s);
    atomic_fetch_add(&r->taken, 1);
}
/* Takes the reference. */
static inline void give(struct rig *r, struct wl_state *s)
{
    assert_int_equal(write(r->pipe[1], &s, sizeof s), sizeof s);
}
static inline void give_and_wait(struct rig *r, struct wl_state *s)
{
    unsigned before = atomic_load(&r->taken);
    give(r, s);
    for (int i = 0; i < LONG_MS && atomic_load(&r->taken) == before; i++)
        usleep(1000);
    assert_int_equal(atomic_load(&r->taken), before + 1);
}
static inline struct source *source_make(void *arg, struct event_base *base, const struct source_ops *ops, struct err *e)
{
    struct rig *r = arg;
    r->ops = *ops;
    r->source.stop = source_end;
    event_assign(&r->given, base, r->pipe[0], EV_READ | EV_PERSIST, on_given, r);
    event_add(&r->given, NULL);
    return &r->source;
}

static inline void *serve(void *arg)
{
    struct err e = {0};
    proxy_serve(arg, &e);
    return NULL;
}

static inline int unix_socket(const char *path, bool listening)
{
    struct sockaddr_un u = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(u.sun_path, sizeof u.sun_path, "%s", path);
    for (int i = 0; i < 200; i++) {
        if ((listening ? bind(fd, (void *)&u, sizeof u) || listen(fd, 100) : connect(fd, (void *)&u, sizeof u)) == 0)
            return fd;
        usleep(10000);
    }
    fail_msg("%s: %s", path, strerror(errno));
    return -1;
}

static unsigned rig_threads = 1;
static inline struct rig *rig_new(enum proxy_mode mode, void (*more)(struct proxy_listener_conf *l))
{
    struct err e = {0};
    struct rig *r = calloc(1, sizeof *r);
    struct proxy_listener_conf l;
    signal(SIGPIPE, SIG_IGN);
    kit_new(&r->k, "example.org");
    kit_make(&r->ours, &r->k, &(struct kit_leaf){.id = ID("ours")});
    kit_make(&r->web, &r->k, &(struct kit_leaf){.id = ID("web")});
    kit_make(&r->db, &r->k, &(struct kit_leaf){.id = ID("db")});
    strcpy(r->dir, "/tmp/mayfly-proxy-test.XXXXXX");
    assert_non_null(mkdtemp(r->dir));
    snprintf(r->up, sizeof r->up, "%s/up", r->dir);
    snprintf(r->in, sizeof r->in, "%s/in", r->dir);
    r->upstream = unix_socket(r->up, true);
    proxy_conf_defaults(&r->conf);
    proxy_listener_defaults(&l);
    r->conf.threads = rig_threads;
    l.mode = mode;
    l.listen = malloc(128);
    l.to = malloc(128);
    snprintf(l.listen, 128, "unix:%s", r->in);
    snprintf(l.to, 128, "unix:%s", r->up);
    assert_int_equal(proxy_rules_add(&l.allow, mode == PROXY_SERVER ? ID("web") : ID("db"), &e), 0);
    l.require_log_proof = true;
    if (more)
        more(&l);
    assert_int_equal(proxy_conf_add(&r->conf, &l, &e), 0);
    assert_int_equal(proxy_conf_check(&r->conf, &e), 0);
    assert_int_equal(pipe2(r->pipe, O_CLOEXEC), 0);
    give(r, kit_state(&r->k, &r->ours));
    r->p = proxy_new(&r->conf, source_make, r, &e);
    if (!r->p)
        fail_msg("%s", e.msg);
    assert_int_equal(pthread_create(&r->thread, NULL, serve, r->p), 0);
    for (int i = 0; i < LONG_MS && !atomic_load(&r->taken); i++)
        usleep(1000);
    assert_int_equal(atomic_load(&r->taken), 1);
    return r;
}

static inline void rig_end(struct rig *r)
{
    proxy_stop(r->p);
    proxy_stop(r->p);
    pthread_join(r->thread, NULL);
    proxy_free(r->p);
    proxy_conf_free(&r->conf);
    close(r->upstream);
    close(r->pipe[0]);
    close(r->pipe[1]);
    unlink(r->up);
    unlink(r->in);
    rmdir(r->dir);
    kit_id_free(&r->ours);
    kit_id_free(&r->web);
    kit_id_free(&r->db);
    kit_free(&r->k);
    free(r);
}

/* --- the test's ends ------------------------------------------------------------------------------------ */

static inline SSL *tls_over(struct rig *r, const struct kit_id *as, int version, int fd)
{
    SSL_CTX *c = kit_ctx(&r->k, as);
    if (version)
        SSL_CTX_set_max_proto_version(c, version);
    SSL *s = SSL_new(c);
    SSL_CTX_free(c);
    SSL_set_fd(s, fd);
    if (SSL_connect(s) != 1) {
        close(SSL_get_fd(s));
        SSL_free(s);
        return NULL;
    }
    return s;
}

static inline SSL *tls_client(struct rig *r, const struct kit_id *as, int version)
{
    return tls_over(r, as, version, unix_socket(r->in, false));
}

static inline SSL *tls_server(struct rig *r, const struct kit_id *as)
{
    SSL_CTX *c = kit_ctx(&r->k, as);
    SSL *s = SSL_new(c);
    SSL_CTX_free(c);
    SSL_set_fd(s, accept(r->upstream, NULL, NULL));
    if (SSL_accept(s) != 1) {
        close(SSL_get_fd(s));
        SSL_free(s);
        return NULL;
    }
    return s;
}

static inline void tls_close(SSL *s)
{
    close(SSL_get_fd(s));
    SSL_free(s);
}

static inline bool readable(int fd, int ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, ms) == 1;
}

static inline void plain_expect(int fd, const char *text)
{
    char in[256];
    size_t n = 0, want = strlen(text);
    ssize_t k;
    while (n < want && (k = recv(fd, in + n, want - n, 0)) > 0)
        n += (size_t)k;
    if (n != want)
        fail_msg("%zu bytes (errno %d) instead of '%s'", n, k < 0 ? errno : 0, text);
    assert_memory_equal(in, text, want);
}

/* --- what the proxy counted ----------------------------------------------------------------------------- */

static inline uint64_t failed(struct rig *r, enum fail_reason why)
{
    for (int i = 0; i < LONG_MS / 10 && !atomic_load(&r->p->listeners[0].m.failed[why]); i++)
        usleep(10000);
    return atomic_load(&r->p->listeners[0].m.failed[why]);
}
static inline uint64_t ended(struct rig *r, enum end_reason how)
{
    for (int i = 0; i < LONG_MS / 10 && !atomic_load(&r->p->listeners[0].m.ended[how]); i++)
        usleep(10000);
    return atomic_load(&r->p->listeners[0].m.ended[how]);
}
static inline void until_open(struct rig *r, unsigned n)
{
    for (int i = 0; i < LONG_MS / 10 && atomic_load(&r->p->listeners[0].m.open) != n; i++)
        usleep(10000);
    assert_int_equal(atomic_load(&r->p->listeners[0].m.open), n);
}

/* --- revocations ---------------------------------------------------------------------------------------- */

#define URL "https://ca.example.org/crl/1-0.crl"
static inline void with_crls(struct rig *r, const uint64_t *revoked, size_t n)
{
    struct buf crl;
    struct wl_state *w = kit_state(&r->k, &r->ours);
    buf_init(&crl, 65536);
    kit_crl(&crl, &r->k, URL, revoked, n, 600);
    wl_bundles_unref(w->bundles);
    w->bundles = kit_bundles((struct kit *const[]){&r->k}, 1, &crl, 1);
    give_and_wait(r, w);
    buf_free(&crl);
}
static inline void close_revoked(struct proxy_listener_conf *l)
{
    l->close_revoked = true;
}

#endif
