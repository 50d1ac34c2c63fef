/* What ends connections, and what does not: age, silence, draining. */
#include "tests/unit/proxy/rig.h"

/* --- age and silence ------------------------------------------------------------------------------------ */

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

/* --- draining ------------------------------------------------------------------------------------------- */

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
        cmocka_unit_test(age), cmocka_unit_test(half_closed_silence), cmocka_unit_test(never_fetched),
        cmocka_unit_test(drain), cmocka_unit_test(revoked_draining), cmocka_unit_test(drain_queue),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
