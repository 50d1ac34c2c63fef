/* What goes through a connection, and how its ends are passed on: both modes, bulk, slow upstreams, workers. */
#include "tests/unit/proxy/rig.h"

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

/* --- half-close, both ways, both versions --------------------------------------------------------------- */

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

/* --- client mode ---------------------------------------------------------------------------------------- */

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

/* --- upstreams that are away or slow -------------------------------------------------------------------- */

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

/* --- backpressure, bulk --------------------------------------------------------------------------------- */

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

/* --- several workers ------------------------------------------------------------------------------------ */

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
    rig_threads = 3;
    struct rig *r = rig_new(PROXY_SERVER, NULL);
    struct visitor v[4];
    pthread_t e;
    rig_threads = 1;
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

int main(void)
{
    proxy_memory_setup();
    log_setup("test", LOG_ERROR, LOG_TEXT);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(half_close_from_tls), cmocka_unit_test(half_close_from_plain),
        cmocka_unit_test(truncated), cmocka_unit_test(client_mode), cmocka_unit_test(renews_keys),
        cmocka_unit_test(no_upstream), cmocka_unit_test(full_queue), cmocka_unit_test(full_for_ever),
        cmocka_unit_test(backpressure), cmocka_unit_test(workers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
