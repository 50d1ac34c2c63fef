/* The proxy whole, in a thread, with an identity from here: its two sides spoken by the test. */
#include "base/clock.h"
#include "proxy/internal.h"
#include "tests/proxykit/kit.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
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

/* --- a source that the test feeds, on the loop, as a source is to -------------------------------------------------- */

static void source_end(struct source *s)
{
    struct rig *r = (struct rig *)((char *)s - offsetof(struct rig, source));
    event_del(&r->given);
}
static void on_given(int fd, short what, void *arg)
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
static void give(struct rig *r, struct wl_state *s)
{
    assert_int_equal(write(r->pipe[1], &s, sizeof s), sizeof s);
}
static void give_and_wait(struct rig *r, struct wl_state *s)
{
    unsigned before = atomic_load(&r->taken);
    give(r, s);
    for (int i = 0; i < LONG_MS && atomic_load(&r->taken) == before; i++)
        usleep(1000);
    assert_int_equal(atomic_load(&r->taken), before + 1);
}
static struct source *source_make(void *arg, struct event_base *base, const struct source_ops *ops, struct err *e)
{
    struct rig *r = arg;
    r->ops = *ops;
    r->source.stop = source_end;
    event_assign(&r->given, base, r->pipe[0], EV_READ | EV_PERSIST, on_given, r);
    event_add(&r->given, NULL);
    return &r->source;
}

static void *serve(void *arg)
{
    struct err e = {0};
    proxy_serve(arg, &e);
    return NULL;
}

static int unix_socket(const char *path, bool listening)
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

static unsigned threads = 1;
static struct rig *rig_new(enum proxy_mode mode, void (*more)(struct proxy_listener_conf *l))
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
    r->conf.threads = threads;
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

static void rig_end(struct rig *r)
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

/* --- the test's ends -------------------------------------------------------------------------------------------- */

static SSL *tls_over(struct rig *r, const struct kit_id *as, int version, int fd)
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

static SSL *tls_client(struct rig *r, const struct kit_id *as, int version)
{
    return tls_over(r, as, version, unix_socket(r->in, false));
}

/* To a listener on TCP, from an address of 127.0.0.0/8. */
static int tcp_from(struct rig *r, const char *from)
{
    struct sockaddr_storage where;
    struct sockaddr_in a = {.sin_family = AF_INET};
    socklen_t n = sizeof where;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(getsockname(r->p->workers[0].doors[0].fd, (void *)&where, &n), 0);
    assert_int_equal(inet_pton(AF_INET, from, &a.sin_addr), 1);
    assert_int_equal(bind(fd, (void *)&a, sizeof a), 0);
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    a.sin_port = ((struct sockaddr_in *)(void *)&where)->sin_port; /* at the same place in both families */
    assert_int_equal(connect(fd, (void *)&a, sizeof a), 0);
    return fd;
}

static SSL *tls_server(struct rig *r, const struct kit_id *as)
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

static void tls_close(SSL *s)
{
    close(SSL_get_fd(s));
    SSL_free(s);
}

static bool readable(int fd, int ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, ms) == 1;
}

static void tls_expect(SSL *s, const char *text)
{
    char in[256];
    size_t n = 0, want = strlen(text);
    int k;
    while (n < want && (k = SSL_read(s, in + n, (int)(want - n))) > 0)
        n += (size_t)k;
    assert_int_equal(n, want);
    assert_memory_equal(in, text, want);
}

static void plain_expect(int fd, const char *text)
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

static uint64_t failed(struct rig *r, enum fail_reason why)
{
    for (int i = 0; i < LONG_MS / 10 && !atomic_load(&r->p->listeners[0].m.failed[why]); i++)
        usleep(10000);
    return atomic_load(&r->p->listeners[0].m.failed[why]);
}
static uint64_t ended(struct rig *r, enum end_reason how)
{
    for (int i = 0; i < LONG_MS / 10 && !atomic_load(&r->p->listeners[0].m.ended[how]); i++)
        usleep(10000);
    return atomic_load(&r->p->listeners[0].m.ended[how]);
}

/* --- half-close, both ways, both versions --------------------------------------------------------------------------- */

static void half_close_from_tls(void **state)
{
    static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
    for (int i = 0; i < 2; i++) {
        struct rig *r = rig_new(PROXY_SERVER, NULL);
        char byte;
        SSL *s = tls_client(r, &r->web, versions[i]);
        assert_non_null(s);
        int up = accept(r->upstream, NULL, NULL);
        assert_int_equal(SSL_write(s, "hello", 5), 5);
        plain_expect(up, "hello");
        assert_int_equal(SSL_shutdown(s), 0);
        assert_int_equal(recv(up, &byte, 1, 0), 0); /* close_notify became FIN */
        assert_int_equal(send(up, "answer after the end", 20, 0), 20);
        tls_expect(s, "answer after the end");
        close(up);
        assert_int_equal(SSL_read(s, &byte, 1), 0);
        assert_int_equal(SSL_get_shutdown(s) & SSL_RECEIVED_SHUTDOWN, SSL_RECEIVED_SHUTDOWN);
        assert_int_equal(ended(r, END_DONE), 1);
        tls_close(s);
        rig_end(r);
    }
}

static void half_close_from_plain(void **state)
{
    struct rig *r = rig_new(PROXY_SERVER, NULL);
    char byte;
    SSL *s = tls_client(r, &r->web, 0);
    int up = accept(r->upstream, NULL, NULL);
    assert_int_equal(send(up, "bye", 3, 0), 3);
    shutdown(up, SHUT_WR);
    tls_expect(s, "bye");
    assert_int_equal(SSL_read(s, &byte, 1), 0); /* FIN became close_notify */
    assert_int_equal(SSL_get_error(s, 0), SSL_ERROR_ZERO_RETURN);
    assert_int_equal(SSL_write(s, "still here", 10), 10);
    plain_expect(up, "still here");
    SSL_shutdown(s);
    assert_int_equal(recv(up, &byte, 1, 0), 0);
    assert_int_equal(ended(r, END_DONE), 1);
    close(up);
    tls_close(s);
    rig_end(r);
}

/* Cut off without close_notify: nobody may take it for an end. */
static void truncated(void **state)
{
    struct rig *r = rig_new(PROXY_SERVER, NULL);
    SSL *s = tls_client(r, &r->web, 0);
    int up = accept(r->upstream, NULL, NULL);
    assert_int_equal(SSL_write(s, "half", 4), 4);
    plain_expect(up, "half");
    tls_close(s);
    assert_int_equal(ended(r, END_TRUNCATED), 1);
    assert_int_equal(atomic_load(&r->p->listeners[0].m.ended[END_DONE]), 0);
    close(up);
    rig_end(r);
}

/* Keys are replaced while data goes on, each time so many records were sent. */
static void saw_message(int sent, int version, int type, const void *p, size_t n, SSL *s, void *arg)
{
    if (!sent && type == SSL3_RT_HANDSHAKE && n > 0 && *(const uint8_t *)p == SSL3_MT_KEY_UPDATE)
        ++*(unsigned *)arg;
}

static void renews_keys(void **state)
{
    struct rig *r = rig_new(PROXY_SERVER, NULL);
    unsigned updates = 0;
    atomic_store(&r->p->key_records, 3);
    SSL *s = tls_client(r, &r->web, TLS1_3_VERSION);
    assert_non_null(s);
    int up = accept(r->upstream, NULL, NULL);
    SSL_set_msg_callback(s, saw_message);
    SSL_set_msg_callback_arg(s, &updates);
    for (int i = 0; i < 10; i++) { /* a record each, since each is waited for */
        assert_int_equal(send(up, "row", 3, 0), 3);
        tls_expect(s, "row");
    }
    assert_int_equal(updates, 3);
    assert_int_equal(SSL_write(s, "and back", 8), 8);
    plain_expect(up, "and back");
    close(up);
    tls_close(s);
    rig_end(r);
}

/* --- client mode ------------------------------------------------------------------------------------------------------ */

static void client_mode(void **state)
{
    struct rig *r = rig_new(PROXY_CLIENT, NULL);
    char byte;
    int in = unix_socket(r->in, false);
    SSL *s = tls_server(r, &r->db); /* which sends tickets: they are swallowed */
    assert_non_null(s);
    assert_int_equal(send(in, "query", 5, 0), 5);
    tls_expect(s, "query");
    assert_int_equal(SSL_write(s, "rows", 4), 4);
    plain_expect(in, "rows");
    assert_int_equal(SSL_key_update(s, SSL_KEY_UPDATE_REQUESTED), 1);
    assert_int_equal(SSL_write(s, "more", 4), 4);
    plain_expect(in, "more");
    for (int i = 0; i < 30; i++) { /* many in one piece, data between and behind them */
        assert_int_equal(SSL_key_update(s, i % 2 ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED), 1);
        assert_int_equal(SSL_write(s, "k", 1), 1);
    }
    plain_expect(in, "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkk");
    assert_int_equal(send(in, "again", 5, 0), 5);
    tls_expect(s, "again");
    shutdown(in, SHUT_WR);
    assert_int_equal(SSL_read(s, &byte, 1), 0);
    assert_int_equal(SSL_write(s, "last", 4), 4);
    SSL_shutdown(s);
    plain_expect(in, "last");
    assert_int_equal(recv(in, &byte, 1, 0), 0);
    assert_int_equal(ended(r, END_DONE), 1);
    close(in);
    tls_close(s);
    rig_end(r);
}

static void wrong_server(void **state)
{
    struct rig *r = rig_new(PROXY_CLIENT, NULL);
    char byte;
    int in = unix_socket(r->in, false);
    assert_int_equal(send(in, "secret", 6, 0), 6);
    SSL *s = tls_server(r, &r->web); /* somebody, but not whom we want */
    assert_int_equal(recv(in, &byte, 1, 0) <= 0, 1);
    assert_int_equal(failed(r, FAIL_DENIED), 1);
    if (s) {
        assert_true(SSL_read(s, &byte, 1) <= 0);
        tls_close(s);
    }
    close(in);
    rig_end(r);
}

/* --- refusals -------------------------------------------------------------------------------------------------------- */

/* A refused peer, whatever it tries: it reads nothing, the upstream never hears of it. */
static void refused(const struct kit_leaf *l, bool other_authority, enum fail_reason why)
{
    struct rig *r = rig_new(PROXY_SERVER, NULL);
    struct kit evil;
    struct kit_id i;
    char byte;
    if (other_authority)
        kit_new(&evil, "example.org");
    struct kit *k = other_authority ? &evil : &r->k;
    if (l)
        kit_make(&i, k, l);
    SSL_CTX *c = kit_ctx(k, l ? &i : NULL);
    SSL_CTX_set_verify(c, SSL_VERIFY_NONE, NULL);
    SSL *s = SSL_new(c);
    SSL_CTX_free(c);
    SSL_set_fd(s, unix_socket(r->in, false));
    if (SSL_connect(s) == 1) {
        SSL_write(s, "attack", 6);
        assert_true(SSL_read(s, &byte, 1) <= 0);
    }
    assert_int_equal(failed(r, why), 1);
    assert_false(readable(r->upstream, 50));
    assert_int_equal(atomic_load(&r->p->listeners[0].m.handshakes), 0);
    tls_close(s);
    if (l)
        kit_id_free(&i);
    if (other_authority)
        kit_free(&evil);
    rig_end(r);
}

static void refusals(void **state)
{
    refused(NULL, false, FAIL_NO_CERTIFICATE);
    refused(&(struct kit_leaf){.id = ID("web")}, true, FAIL_CHAIN);
    refused(&(struct kit_leaf){.id = ID("webb")}, false, FAIL_DENIED);
    refused(&(struct kit_leaf){.id = ID("web/x")}, false, FAIL_DENIED);
    refused(&(struct kit_leaf){.id = ID("web"), .unlogged = true}, false, FAIL_UNLOGGED);
    refused(&(struct kit_leaf){.id = ID("web"), .from = -100, .until = -1}, false, FAIL_EXPIRED);
    refused(&(struct kit_leaf){.id = "spiffe://other.org/web"}, false, FAIL_FOREIGN);
    refused(&(struct kit_leaf){.id = ID("web"), .eku = "serverAuth"}, false, FAIL_SVID);
    refused(&(struct kit_leaf){.id = ID("web"), .crl = "URI:https://x/crl/1-0.crl"}, false, FAIL_REVOKED);
}

static void garbage(void **state)
{
    struct rig *r = rig_new(PROXY_SERVER, NULL);
    char in[100];
    int fd = unix_socket(r->in, false);
    assert_int_equal(send(fd, "GET / HTTP/1.1\r\n\r\n", 18, 0), 18);
    while (recv(fd, in, sizeof in, 0) > 0)
        ;
    close(fd);
    assert_int_equal(failed(r, FAIL_TLS), 1);
    fd = unix_socket(r->in, false);
    close(fd);
    assert_int_equal(failed(r, FAIL_CLOSED), 1);
    rig_end(r);
}

static void short_timeout(struct proxy_listener_conf *l)
{
    l->handshake_timeout = 50;
}
static void slow_handshake(void **state)
{
    struct rig *r = rig_new(PROXY_SERVER, short_timeout);
    char byte;
    int fd = unix_socket(r->in, false);
    assert_int_equal(recv(fd, &byte, 1, 0), 0);
    assert_int_equal(failed(r, FAIL_TIMEOUT), 1);
    close(fd);
    rig_end(r);
}

/* Whoever keeps handshakes open makes room for who finishes them. */
static void few_handshakes(struct proxy_listener_conf *l)
{
    l->max_handshakes = 4;
}
static void flood(void **state)
{
    struct rig *r = rig_new(PROXY_SERVER, few_handshakes);
    int idle[4];
    for (int i = 0; i < 4; i++)
        idle[i] = unix_socket(r->in, false);
    SSL *s = tls_client(r, &r->web, 0);
    assert_non_null(s);
    assert_true(failed(r, FAIL_EVICTED) >= 1);
    for (int i = 0; i < 4; i++)
        close(idle[i]);
    tls_close(s);
    rig_end(r);
}

static void no_upstream(void **state)
{
    struct rig *r = rig_new(PROXY_SERVER, NULL);
    char byte;
    unlink(r->up);
    SSL *s = tls_client(r, &r->web, 0);
    assert_non_null(s);
    assert_true(SSL_read(s, &byte, 1) <= 0);
    assert_int_equal(failed(r, FAIL_UPSTREAM), 1);
    tls_close(s);
    rig_end(r);
}

/* An upstream that is slow to accept: its queue is waited for, as a client without a proxy would. */
static void full_queue(void **state)
{
    struct rig *r = rig_new(PROXY_SERVER, NULL);
    SSL *s[4];
    char in[4];
    assert_int_equal(listen(r->upstream, 0), 0);
    for (int i = 0; i < 4; i++) {
        s[i] = tls_client(r, &r->web, TLS1_2_VERSION);
        assert_non_null(s[i]);
        assert_int_equal(SSL_write(s[i], "ping", 4), 4);
    }
    usleep(50000);
    for (int i = 0; i < 4; i++) {
        int up = readable(r->upstream, LONG_MS) ? accept(r->upstream, NULL, NULL) : -1;
        assert_int_not_equal(up, -1);
        assert_int_equal(recv(up, in, 4, MSG_WAITALL), 4);
        assert_int_equal(send(up, in, 4, 0), 4);
        close(up);
    }
    for (int i = 0; i < 4; i++) {
        tls_expect(s[i], "ping");
        tls_close(s[i]);
    }
    assert_int_equal(atomic_load(&r->p->listeners[0].m.failed[FAIL_UPSTREAM]), 0);
    rig_end(r);
}

static void impatient_upstream(struct proxy_listener_conf *l)
{
    l->connect_timeout = 100;
}
static void full_for_ever(void **state)
{
    struct rig *r = rig_new(PROXY_SERVER, impatient_upstream);
    SSL *s[3];
    assert_int_equal(listen(r->upstream, 0), 0);
    for (int i = 0; i < 3; i++)
        s[i] = tls_client(r, &r->web, TLS1_2_VERSION);
    assert_true(failed(r, FAIL_UPSTREAM) >= 1);
    for (int i = 0; i < 3; i++)
        tls_close(s[i]);
    rig_end(r);
}

/* --- backpressure, bulk ---------------------------------------------------------------------------------------------- */

struct pump {
    SSL *s;
    size_t n;
};
static void *pump_write(void *arg)
{
    struct pump *p = arg;
    static uint8_t block[65536];
    for (size_t i = 0; i < sizeof block; i++)
        block[i] = (uint8_t)(i * 7);
    for (size_t done = 0; done < p->n; done += sizeof block)
        if (SSL_write(p->s, block, sizeof block) != sizeof block)
            return NULL;
    SSL_shutdown(p->s);
    return p;
}

static void backpressure(void **state)
{
    struct rig *r = rig_new(PROXY_SERVER, NULL);
    struct pump p = {.s = tls_client(r, &r->web, 0), .n = 64 << 20};
    pthread_t t;
    int up = accept(r->upstream, NULL, NULL);
    assert_int_equal(pthread_create(&t, NULL, pump_write, &p), 0);
    usleep(300000); /* nobody reads: the proxy must not go on taking */
    struct peer_metrics *m = metrics_peer(&r->p->m, ID("web"));
    assert_true(atomic_load(&m->in) < 8 << 20);
    static uint8_t in[65536];
    size_t got = 0;
    ssize_t k;
    while ((k = recv(up, in, sizeof in, 0)) > 0) {
        for (ssize_t i = 0; i < k; i++)
            if (in[i] != (uint8_t)((got + (size_t)i) % 65536 * 7))
                fail_msg("byte %zu is wrong", got + (size_t)i);
        got += (size_t)k;
    }
    assert_int_equal(k, 0);
    assert_int_equal(got, p.n);
    assert_int_equal(atomic_load(&m->in), p.n);
    void *done;
    pthread_join(t, &done);
    assert_ptr_equal(done, &p);
    close(up);
    assert_int_equal(ended(r, END_DONE), 1);
    tls_close(p.s);
    rig_end(r);
}

/* --- PROXY headers --------------------------------------------------------------------------------------------------- */

static void send_proxy(struct proxy_listener_conf *l)
{
    struct err e;
    l->send_proxy = true;
    l->accept_proxy = true;
    proxy_alpn_parse(l, "h2,http/1.1", &e);
}

static void proxy_headers(void **state)
{
    struct rig *r = rig_new(PROXY_SERVER, send_proxy);
    struct buf b;
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(4711), .sin_addr.s_addr = htonl(0xc0000201)};
    struct pp2 p = {0}, q;
    struct err e = {0};
    uint8_t head[PP2_READ_MAX];
    buf_init(&b, 4096);
    memcpy(&p.src, &a, sizeof a);
    memcpy(&p.dst, &a, sizeof a);
    pp2_write(&b, &p);
    int fd = unix_socket(r->in, false);
    for (size_t i = 0; i < b.len; i++) { /* byte by byte */
        assert_int_equal(send(fd, b.p + i, 1, 0), 1);
        if (i % 8 == 0)
            usleep(1000);
    }
    SSL_CTX *c = kit_ctx(&r->k, &r->web);
    SSL *s = SSL_new(c);
    SSL_CTX_free(c);
    SSL_set_fd(s, fd);
    SSL_set_alpn_protos(s, (const uint8_t *)"\x08http/1.1", 9);
    SSL_set_tlsext_host_name(s, (char[]){"db.example.org"});
    assert_int_equal(SSL_connect(s), 1);
    assert_int_equal(SSL_write(s, "payload", 7), 7);
    int up = accept(r->upstream, NULL, NULL);
    assert_int_equal(recv(up, head, PP2_HEAD, MSG_WAITALL), PP2_HEAD);
    long n = pp2_length(head, &e);
    assert_true(n > PP2_HEAD);
    assert_int_equal(recv(up, head + PP2_HEAD, (size_t)n - PP2_HEAD, MSG_WAITALL), n - PP2_HEAD);
    assert_int_equal(pp2_read(&q, head, (size_t)n, &e), 0);
    assert_memory_equal(&q.src, &a, sizeof a);
    assert_true(bytes_eq_str(q.spiffe_id, ID("web")));
    assert_true(bytes_eq_str(q.authority, "db.example.org"));
    assert_true(bytes_eq_str(q.alpn, "http/1.1"));
    assert_true(bytes_eq_str(q.tls_version, "TLSv1.3"));
    assert_true(q.tls && q.verified);
    plain_expect(up, "payload");
    close(up);
    tls_close(s);
    fd = unix_socket(r->in, false); /* without the header */
    assert_int_equal(send(fd, "\x16\x03\x01 no header here", 18, 0), 18);
    assert_int_equal(failed(r, FAIL_PROXY_HEADER), 1);
    close(fd);
    buf_free(&b);
    rig_end(r);
}

static void header_send(int fd, const char *from)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(4711)};
    struct pp2 p = {0};
    struct buf b;
    assert_int_equal(inet_pton(AF_INET, from, &a.sin_addr), 1);
    memcpy(&p.src, &a, sizeof a);
    memcpy(&p.dst, &a, sizeof a);
    buf_init(&b, 4096);
    pp2_write(&b, &p);
    assert_int_equal(send(fd, b.p, b.len, MSG_NOSIGNAL), b.len);
    buf_free(&b);
}

static void on_tcp(struct proxy_listener_conf *l)
{
    strcpy(l->listen, "127.0.0.1:0");
}
static void from_balancers(struct proxy_listener_conf *l)
{
    struct err e;
    on_tcp(l);
    l->send_proxy = l->accept_proxy = true;
    assert_int_equal(proxy_network_parse(&l->trusted[l->trusted_count++], "10.0.0.0/8", &e), 0);
    assert_int_equal(proxy_network_parse(&l->trusted[l->trusted_count++], "::1", &e), 0);
    assert_int_equal(proxy_network_parse(&l->trusted[l->trusted_count++], "127.0.0.0/30", &e), 0);
}
/* A header is believed of who is named, to the last bit of the network, and the address in it is handed on. */
static void trusted_proxies(void **state)
{
    static const char *const others[] = {"127.0.0.4", "127.0.1.1"}, *const named[] = {"127.0.0.1", "127.0.0.3"};
    uint8_t head[PP2_READ_MAX];
    char byte, text[80];
    struct pp2 p;
    struct err e = {0};
    struct rig *r = rig_new(PROXY_SERVER, from_balancers);
    for (int i = 0; i < 2; i++) {
        int fd = tcp_from(r, named[i]);
        header_send(fd, "192.0.2.9");
        SSL *s = tls_over(r, &r->web, 0, fd);
        assert_non_null(s);
        int up = accept(r->upstream, NULL, NULL);
        assert_int_equal(recv(up, head, PP2_HEAD, MSG_WAITALL), PP2_HEAD);
        long n = pp2_length(head, &e);
        assert_int_equal(recv(up, head + PP2_HEAD, (size_t)n - PP2_HEAD, MSG_WAITALL), n - PP2_HEAD);
        assert_int_equal(pp2_read(&p, head, (size_t)n, &e), 0);
        address_text(text, sizeof text, &p.src.sa);
        assert_string_equal(text, "192.0.2.9:4711");
        close(up);
        tls_close(s);
    }
    assert_int_equal(atomic_load(&r->p->listeners[0].m.failed[FAIL_PROXY_HEADER]), 0);
    for (int i = 0; i < 2; i++) {
        int fd = tcp_from(r, others[i]);
        assert_true(recv(fd, &byte, 1, 0) <= 0); /* refused before it said a word */
        close(fd);
        assert_int_equal(failed(r, FAIL_PROXY_HEADER), i + 1);
    }
    rig_end(r);
}

static bool served(struct rig *r, SSL **s, int fd)
{
    *s = tls_over(r, &r->web, TLS1_2_VERSION, fd); /* with 1.2, whoever has shaken hands was judged */
    if (*s)
        close(accept(r->upstream, NULL, NULL));
    return *s;
}
static void until_open(struct rig *r, unsigned n)
{
    for (int i = 0; i < LONG_MS / 10 && atomic_load(&r->p->listeners[0].m.open) != n; i++)
        usleep(10000);
    assert_int_equal(atomic_load(&r->p->listeners[0].m.open), n);
}

static void two_each(struct proxy_listener_conf *l)
{
    on_tcp(l);
    l->max_per_address = 2;
}
static void two_each_of_both(struct proxy_listener_conf *l)
{
    strcpy(l->listen, "[::]:0");
    l->max_per_address = 2;
}
static void per_address(struct rig *r)
{
    int a[2], b;
    for (int i = 0; i < 2; i++)
        a[i] = tcp_from(r, "127.0.0.1");
    until_open(r, 2);
    char byte;
    int over = tcp_from(r, "127.0.0.1");
    assert_true(recv(over, &byte, 1, 0) <= 0);
    assert_int_equal(failed(r, FAIL_LIMIT), 1);
    close(over);
    b = tcp_from(r, "127.0.0.2"); /* another address has places of its own */
    until_open(r, 3);
    close(a[0]);
    until_open(r, 2);
    a[0] = tcp_from(r, "127.0.0.1"); /* the place that became free */
    until_open(r, 3);
    assert_int_equal(atomic_load(&r->p->listeners[0].m.failed[FAIL_LIMIT]), 1);
    close(a[0]);
    close(a[1]);
    close(b);
    until_open(r, 0);
    rig_end(r);
}
static void max_per_address(void **state)
{
    per_address(rig_new(PROXY_SERVER, two_each));
    int six = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in6 any = {.sin6_family = AF_INET6};
    if (six >= 0 && bind(six, (void *)&any, sizeof any) == 0) /* this machine has IPv6 */
        per_address(rig_new(PROXY_SERVER, two_each_of_both));
    close(six);
}

static void two_each_behind(struct proxy_listener_conf *l)
{
    l->accept_proxy = true;
    l->max_per_address = 2;
}
/* Behind a balancer it is the client's address that counts, not the balancer's. */
static void max_per_client(void **state)
{
    struct rig *r = rig_new(PROXY_SERVER, two_each_behind);
    static const char *const from[] = {"192.0.2.1", "192.0.2.1", "192.0.2.2", "192.0.2.2", "192.0.2.1"};
    SSL *s[5];
    for (int i = 0; i < 5; i++) {
        int fd = unix_socket(r->in, false);
        header_send(fd, from[i]);
        assert_int_equal(served(r, &s[i], fd), i < 4);
    }
    assert_int_equal(failed(r, FAIL_LIMIT), 1);
    for (int i = 0; i < 4; i++)
        tls_close(s[i]);
    until_open(r, 0);
    int fd = unix_socket(r->in, false);
    header_send(fd, "192.0.2.1");
    assert_true(served(r, &s[0], fd));
    tls_close(s[0]);
    rig_end(r);
}

/* --- rotation, age, draining ------------------------------------------------------------------------------------------- */

static void rotation(void **state)
{
    struct rig *r = rig_new(PROXY_SERVER, NULL);
    SSL *s = tls_client(r, &r->web, 0);
    int up = accept(r->upstream, NULL, NULL);
    for (int i = 0; i < 5; i++) {
        uint64_t before = atomic_load(&r->p->m.rotations);
        kit_id_free(&r->ours);
        kit_make(&r->ours, &r->k, &(struct kit_leaf){.id = ID("ours"), .serial = 100 + (uint64_t)i, .unlogged = true});
        struct wl_state *w = kit_state(&r->k, &r->ours);
        give_and_wait(r, w);
        assert_int_equal(atomic_load(&r->p->m.rotations), before + 1);
        SSL *n = tls_client(r, &r->web, 0);
        assert_non_null(n);
        X509 *x = SSL_get1_peer_certificate(n);
        assert_int_equal(ASN1_INTEGER_get(X509_get0_serialNumber(x)), 100 + i);
        X509_free(x);
        close(accept(r->upstream, NULL, NULL));
        tls_close(n);
        assert_int_equal(SSL_write(s, "on", 2), 2);
        plain_expect(up, "on");
    }
    struct wl_state *bad = kit_state(&r->k, &r->web); /* a failed renewal: key and chain of different ones */
    secret_free(&bad->svids[0]->key);
    struct wl_svid *mixed = kit_svid(&r->k, &r->db);
    bad->svids[0]->key = mixed->key;
    mixed->key = (struct secret){0};
    wl_svid_unref(mixed);
    give_and_wait(r, bad);
    assert_int_equal(atomic_load(&r->p->m.troubles), 1);
    SSL *n = tls_client(r, &r->web, 0); /* the last good one is kept */
    assert_non_null(n);
    tls_close(n);
    tls_close(s);
    close(up);
    rig_end(r);
}

static void own_expired(void **state)
{
    struct rig *r = rig_new(PROXY_SERVER, NULL);
    const char *why;
    SSL *s = tls_client(r, &r->web, 0);
    int up = accept(r->upstream, NULL, NULL);
    kit_id_free(&r->ours);
    kit_make(&r->ours, &r->k, &(struct kit_leaf){.id = ID("ours"), .from = -10, .until = 1});
    struct wl_state *w = kit_state(&r->k, &r->ours);
    give_and_wait(r, w);
    assert_true(proxy_ready(r->p, &why));
    for (int i = 0; i < LONG_MS / 10 && proxy_ready(r->p, &why); i++)
        usleep(10000);
    assert_false(proxy_ready(r->p, &why));
    assert_null(tls_client(r, &r->web, 0));
    assert_int_equal(failed(r, FAIL_OWN_EXPIRED), 1);
    assert_int_equal(SSL_write(s, "established", 11), 11); /* goes on */
    plain_expect(up, "established");
    tls_close(s);
    close(up);
    rig_end(r);
}

static void as_another(struct proxy_listener_conf *l)
{
    l->id = strdup(ID("another"));
}
static void own_missing(void **state)
{
    struct rig *r = rig_new(PROXY_SERVER, as_another);
    const char *why;
    assert_null(tls_client(r, &r->web, 0));
    assert_int_equal(failed(r, FAIL_NO_IDENTITY), 1);
    assert_int_equal(atomic_load(&r->p->m.rotations), 1);
    assert_false(proxy_ready(r->p, &why)); /* the agent gave something, but not what is needed */
    assert_string_equal(why, "the agent gives no identity for one of the listeners");
    rig_end(r);
}

/* Of several identities one has run out: those of the others are taken. */
static void one_expired(void **state)
{
    struct kit k;
    struct kit_id old, new;
    struct err e = {0};
    kit_new(&k, "example.org");
    kit_make(&old, &k, &(struct kit_leaf){.id = ID("old"), .from = -60, .until = -5});
    kit_make(&new, &k, &(struct kit_leaf){.id = ID("new")});
    struct wl_state *w = kit_state(&k, &old);
    assert_null(creds_new(w, clock_wall(), &e));
    assert_string_equal(e.rule, "own-expired");
    w->svids = realloc(w->svids, 2 * sizeof *w->svids);
    assert_non_null(w->svids);
    w->svids[w->n++] = kit_svid(&k, &new);
    struct creds *c = creds_new(w, clock_wall(), &e);
    assert_non_null(c);
    assert_non_null(creds_find(c, ID("new")));
    creds_unref(c);
    wl_state_unref(w);
    kit_id_free(&old);
    kit_id_free(&new);
    kit_free(&k);
}

#define URL "https://ca.example.org/crl/1-0.crl"
static void with_crls(struct rig *r, const uint64_t *revoked, size_t n)
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
static void close_revoked(struct proxy_listener_conf *l)
{
    l->close_revoked = true;
}
static void revoked_later(void **state)
{
    const uint64_t serial = (uint64_t)7 << 48 | 2;
    struct rig *r = rig_new(PROXY_SERVER, close_revoked);
    struct kit_id named;
    char byte;
    kit_make(&named, &r->k, &(struct kit_leaf){.id = ID("web"), .crl = "URI:" URL});
    SSL *other = tls_client(r, &r->web, 0); /* the same serial, but it names no CRL */
    assert_non_null(other);
    int up_other = accept(r->upstream, NULL, NULL);
    with_crls(r, NULL, 0);
    SSL *s = tls_client(r, &named, 0);
    assert_non_null(s);
    int up = accept(r->upstream, NULL, NULL);
    assert_int_equal(SSL_write(s, "fine", 4), 4);
    plain_expect(up, "fine");
    with_crls(r, &serial, 1);
    assert_true(SSL_read(s, &byte, 1) <= 0);
    assert_int_equal(ended(r, END_REVOKED), 1);
    assert_int_equal(SSL_write(other, "still", 5), 5);
    plain_expect(up_other, "still");
    SSL *again = tls_client(r, &named, 0);
    if (again) { /* TLS 1.3: the client learns of it with its first read */
        assert_true(SSL_read(again, &byte, 1) <= 0);
        tls_close(again);
    }
    assert_int_equal(failed(r, FAIL_REVOKED), 1);
    close(up);
    close(up_other);
    tls_close(s);
    tls_close(other);
    kit_id_free(&named);
    rig_end(r);
}

/* Revoked while its handshake was under way: judged by what is known when its certificate comes. */
static void revoked_meanwhile(void **state)
{
    const uint64_t serial = (uint64_t)7 << 48 | 2;
    struct rig *r = rig_new(PROXY_SERVER, NULL);
    struct kit_id named;
    char byte;
    kit_make(&named, &r->k, &(struct kit_leaf){.id = ID("web"), .crl = "URI:" URL});
    with_crls(r, NULL, 0);
    SSL_CTX *c = kit_ctx(&r->k, &named);
    SSL *s = SSL_new(c);
    SSL_CTX_free(c);
    SSL_set_fd(s, unix_socket(r->in, false));
    for (int i = 0; i < LONG_MS / 10 && !atomic_load(&r->p->listeners[0].m.handshaking); i++)
        usleep(10000);
    assert_int_equal(atomic_load(&r->p->listeners[0].m.handshaking), 1);
    with_crls(r, &serial, 1);
    if (SSL_connect(s) == 1)
        assert_true(SSL_read(s, &byte, 1) <= 0);
    assert_int_equal(failed(r, FAIL_REVOKED), 1);
    assert_int_equal(atomic_load(&r->p->listeners[0].m.handshakes), 0);
    tls_close(s);
    kit_id_free(&named);
    rig_end(r);
}

/* Several workers, one Unix socket; rotations meanwhile. */
struct visitor {
    struct rig *r;
    pthread_t t;
    unsigned done;
};
static void *visit(void *arg)
{
    struct visitor *v = arg;
    char in[4];
    for (int i = 0; i < 15; i++) {
        SSL *s = tls_client(v->r, &v->r->web, 0);
        if (s && SSL_write(s, "ping", 4) == 4 && SSL_read(s, in, 4) == 4 && memcmp(in, "ping", 4) == 0)
            v->done++;
        if (s)
            SSL_shutdown(s);
        if (s)
            tls_close(s);
    }
    return NULL;
}
static void *echo(void *arg)
{
    struct rig *r = arg;
    char in[64];
    for (int i = 0; i < 4 * 15; i++) {
        int up = accept(r->upstream, NULL, NULL);
        ssize_t n;
        while ((n = recv(up, in, sizeof in, 0)) > 0 && send(up, in, (size_t)n, 0) == n)
            ;
        close(up);
    }
    return NULL;
}
static void workers(void **state)
{
    threads = 3;
    struct rig *r = rig_new(PROXY_SERVER, NULL);
    struct visitor v[4];
    pthread_t e;
    threads = 1;
    assert_int_not_equal(r->p->workers[0].doors[0].fd, r->p->workers[1].doors[0].fd); /* each closes its own */
    pthread_create(&e, NULL, echo, r);
    for (int i = 0; i < 4; i++) {
        v[i] = (struct visitor){.r = r};
        pthread_create(&v[i].t, NULL, visit, &v[i]);
    }
    for (int i = 0; i < 20; i++)
        with_crls(r, NULL, 0);
    for (int i = 0; i < 4; i++) {
        pthread_join(v[i].t, NULL);
        assert_int_equal(v[i].done, 15);
    }
    pthread_join(e, NULL);
    struct buf text;
    buf_init(&text, 1 << 20);
    metrics_print(&text, r->p);
    assert_non_null(strstr(buf_cstr(&text), "mayfly_proxy_peer_connections_total{peer=\"" ID("web") "\"} 60\n"));
    buf_free(&text);
    rig_end(r);
}

static void aged(struct proxy_listener_conf *l)
{
    l->max_connection_age = 1;
}
static void age(void **state)
{
    struct rig *r = rig_new(PROXY_SERVER, aged);
    char byte;
    SSL *s = tls_client(r, &r->web, 0);
    int up = accept(r->upstream, NULL, NULL);
    assert_true(SSL_read(s, &byte, 1) <= 0);
    assert_int_equal(ended(r, END_AGE), 1);
    close(up);
    tls_close(s);
    rig_end(r);
}

static void impatient(struct proxy_listener_conf *l)
{
    l->half_closed_timeout = 1;
}
/* Silence ends what is half closed, while bytes that go the other way keep it; what is open may be silent. */
static void half_closed_silence(void **state)
{
    struct rig *r = rig_new(PROXY_SERVER, impatient);
    char byte;
    SSL *open = tls_client(r, &r->web, 0);
    assert_non_null(open);
    int up_open = accept(r->upstream, NULL, NULL);
    SSL *s = tls_client(r, &r->web, 0);
    assert_non_null(s);
    int up = accept(r->upstream, NULL, NULL);
    assert_int_equal(SSL_shutdown(s), 0);
    assert_int_equal(recv(up, &byte, 1, 0), 0);
    int64_t began = clock_mono_ms(), last = began, now = began;
    for (; now - began < 2500; now = clock_mono_ms()) { /* longer than the limit, but never silent for so long */
        bool alive = send(up, "x", 1, MSG_NOSIGNAL) == 1 && SSL_read(s, &byte, 1) == 1;
        if (!alive && clock_mono_ms() - last < 900) /* else this machine is too slow to say anything */
            fail_msg("ended though bytes moved");
        if (!alive)
            break;
        last = now;
        usleep(50000);
    }
    assert_int_equal(ended(r, END_IDLE), 1);
    assert_true(SSL_read(s, &byte, 1) <= 0);
    assert_int_equal(SSL_write(open, "still here", 10), 10);
    plain_expect(up_open, "still here");
    close(up);
    close(up_open);
    tls_close(s);
    tls_close(open);
    rig_end(r);
}

/* Nor is what ended on both sides kept for a peer who does not fetch the rest. */
static void never_fetched(void **state)
{
    static uint8_t block[65536];
    struct rig *r = rig_new(PROXY_SERVER, impatient);
    SSL *s = tls_client(r, &r->web, 0);
    assert_non_null(s);
    int up = accept(r->upstream, NULL, NULL);
    const struct timeval t = {0, 300000};
    setsockopt(up, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t);
    while (send(up, block, sizeof block, MSG_NOSIGNAL) > 0) /* until everything on the way is full */
        ;
    SSL_shutdown(s);
    close(up);
    assert_int_equal(ended(r, END_IDLE), 1);
    until_open(r, 0);
    tls_close(s);
    rig_end(r);
}

static void drain(void **state)
{
    struct rig *r = rig_new(PROXY_SERVER, NULL);
    SSL *s = tls_client(r, &r->web, 0);
    const char *why;
    char byte;
    int up = accept(r->upstream, NULL, NULL);
    struct sockaddr_un u = {.sun_family = AF_UNIX};
    proxy_stop(r->p);
    assert_false(proxy_ready(r->p, &why));
    assert_string_equal(why, "draining");
    strcpy(u.sun_path, r->in);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0), i;
    for (i = 0; i < LONG_MS / 10 && connect(fd, (void *)&u, sizeof u) == 0; i++) { /* until nobody listens */
        close(fd);
        fd = socket(AF_UNIX, SOCK_STREAM, 0);
        usleep(10000);
    }
    close(fd);
    assert_true(i < LONG_MS / 10);
    assert_int_equal(SSL_write(s, "in flight", 9), 9);
    plain_expect(up, "in flight");
    close(up);
    assert_int_equal(SSL_read(s, &byte, 1), 0);
    SSL_shutdown(s);
    pthread_join(r->thread, NULL); /* the last connection is over: it ends by itself */
    pthread_create(&r->thread, NULL, serve, r->p); /* for rig_end */
    tls_close(s);
    rig_end(r);
}

/* Whoever has connected when draining begins is served, however many they are. */
static void drain_queue(void **state)
{
    enum { WAITING = 250 }; /* more than a turn of the loop and the turn after it accept */
    unsigned queue = 0;
    FILE *f = fopen("/proc/sys/net/core/somaxconn", "r");
    if (f) {
        (void)!fscanf(f, "%u", &queue);
        fclose(f);
    }
    if (queue < WAITING)
        skip();
    struct rig *r = rig_new(PROXY_SERVER, NULL);
    int fds[WAITING];
    pthread_mutex_lock(&r->p->lock); /* the loop stops at the first handshake */
    for (int i = 0; i < WAITING; i++)
        fds[i] = unix_socket(r->in, false);
    proxy_stop(r->p);
    pthread_mutex_unlock(&r->p->lock);
    for (int i = 0; i < LONG_MS / 10 && atomic_load(&r->p->listeners[0].m.accepted) < WAITING; i++)
        usleep(10000);
    assert_int_equal(atomic_load(&r->p->listeners[0].m.accepted), WAITING);
    for (int i = 0; i < WAITING; i++)
        close(fds[i]);
    pthread_join(r->thread, NULL); /* all are gone */
    pthread_create(&r->thread, NULL, serve, r->p); /* for rig_end */
    rig_end(r);
}

/* Draining may take hours; who is revoked meanwhile does not have them. */
static void revoked_draining(void **state)
{
    const uint64_t serial = (uint64_t)7 << 48 | 2;
    struct rig *r = rig_new(PROXY_SERVER, close_revoked);
    struct kit_id named;
    char byte;
    kit_make(&named, &r->k, &(struct kit_leaf){.id = ID("web"), .crl = "URI:" URL});
    with_crls(r, NULL, 0);
    SSL *s = tls_client(r, &named, 0);
    assert_non_null(s);
    int up = accept(r->upstream, NULL, NULL);
    assert_int_equal(SSL_write(s, "fine", 4), 4);
    plain_expect(up, "fine");
    proxy_stop(r->p);
    with_crls(r, &serial, 1);
    assert_int_equal(ended(r, END_REVOKED), 1);
    assert_true(SSL_read(s, &byte, 1) <= 0);
    pthread_join(r->thread, NULL); /* it was the last */
    pthread_create(&r->thread, NULL, serve, r->p); /* for rig_end */
    close(up);
    tls_close(s);
    kit_id_free(&named);
    rig_end(r);
}

int main(void)
{
    proxy_memory_setup();
    log_setup("test", LOG_ERROR, LOG_TEXT);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(half_close_from_tls), cmocka_unit_test(half_close_from_plain), cmocka_unit_test(truncated),
        cmocka_unit_test(client_mode), cmocka_unit_test(renews_keys), cmocka_unit_test(wrong_server), cmocka_unit_test(refusals), cmocka_unit_test(garbage),
        cmocka_unit_test(slow_handshake), cmocka_unit_test(flood), cmocka_unit_test(no_upstream), cmocka_unit_test(full_queue), cmocka_unit_test(full_for_ever),
        cmocka_unit_test(backpressure), cmocka_unit_test(proxy_headers), cmocka_unit_test(trusted_proxies),
        cmocka_unit_test(max_per_address), cmocka_unit_test(max_per_client), cmocka_unit_test(rotation),
        cmocka_unit_test(own_expired), cmocka_unit_test(own_missing), cmocka_unit_test(one_expired), cmocka_unit_test(revoked_later),
        cmocka_unit_test(revoked_meanwhile), cmocka_unit_test(workers), cmocka_unit_test(age),
        cmocka_unit_test(half_closed_silence), cmocka_unit_test(never_fetched), cmocka_unit_test(drain),
        cmocka_unit_test(revoked_draining), cmocka_unit_test(drain_queue),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
