/* Who is let in: peers refused, handshakes that come to nothing, PROXY headers, limits for each address. */
#include "tests/unit/proxy/hear.h"
#include "tests/unit/proxy/rig.h"
#include <arpa/inet.h>
#include <netinet/in.h>

/* --- refusals ------------------------------------------------------------------------------------------- */

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
    refused(&(struct kit_leaf){.id = ID("web"), .crl = "URI:https://x/crl/1-0.crl"}, false, FAIL_CRL); /* nobody revoked it */
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

/* --- PROXY headers -------------------------------------------------------------------------------------- */

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

/* --- who only looks whether somebody listens ------------------------------------------------------------ */

/* Sends this and goes; what the log says of it. */
static void look_in(struct rig *r, const void *p, size_t n, enum fail_reason why, char *said, size_t cap)
{
    atomic_ullong *count = &r->p->listeners[0].m.failed[why];
    unsigned long long before = atomic_load(count);
    hear();
    int fd = unix_socket(r->in, false);
    if (n)
        assert_int_equal(send(fd, p, n, MSG_NOSIGNAL), n);
    close(fd);
    for (int i = 0; i < LONG_MS / 10 && atomic_load(count) == before; i++)
        usleep(10000);
    until_open(r, 0); /* the line is written before it is over */
    heard_end(said, cap);
    assert_int_equal(atomic_load(count), before + 1);
}

static void accept_proxy(struct proxy_listener_conf *l)
{
    l->accept_proxy = true;
}
static void health_check(void **state)
{
    char said[4096];
    struct buf b;
    struct pp2 local = {.local = true};
    log_setup("test", LOG_INFO, LOG_TEXT);
    struct rig *r = rig_new(PROXY_SERVER, NULL);
    look_in(r, NULL, 0, FAIL_CLOSED, said, sizeof said);
    assert_string_equal(said, "");
    look_in(r, "\x16", 1, FAIL_CLOSED, said, sizeof said); /* began, and gave up */
    assert_non_null(strstr(said, "closed the connection"));
    rig_end(r);
    r = rig_new(PROXY_SERVER, accept_proxy);
    look_in(r, NULL, 0, FAIL_CLOSED, said, sizeof said);
    assert_string_equal(said, "");
    buf_init(&b, 4096);
    pp2_write(&b, &local);
    look_in(r, b.p, b.len, FAIL_CLOSED, said, sizeof said); /* a balancer's own */
    assert_string_equal(said, "");
    look_in(r, b.p, b.len - 1, FAIL_PROXY_HEADER, said, sizeof said);
    assert_non_null(strstr(said, "within its PROXY header"));
    buf_free(&b);
    rig_end(r);
    log_setup("test", LOG_ERROR, LOG_TEXT);
}

/* --- limits for each address ---------------------------------------------------------------------------- */

static bool served(struct rig *r, SSL **s, int fd)
{
    *s = tls_over(r, &r->web, TLS1_2_VERSION, fd); /* with 1.2, whoever has shaken hands was judged */
    if (*s)
        close(accept(r->upstream, NULL, NULL));
    return *s;
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

/* --- floods of handshakes that come to nothing ---------------------------------------------------------- */

#define NEVER 0x7fffffffu
static void four_on_tcp(struct proxy_listener_conf *l)
{
    on_tcp(l);
    few_handshakes(l);
    l->handshake_timeout = NEVER;
}
static struct rig *crowded(unsigned patience, unsigned silent)
{
    struct rig *r = rig_new(PROXY_SERVER, four_on_tcp);
    atomic_store(&r->p->patience, patience);
    atomic_store(&r->p->patience_silent, silent);
    return r;
}
static void until_handshaking(struct rig *r, unsigned n)
{
    for (int i = 0; i < LONG_MS / 10 && atomic_load(&r->p->listeners[0].m.handshaking) != n; i++)
        usleep(10000);
    assert_int_equal(atomic_load(&r->p->listeners[0].m.handshaking), n);
}
/* Its ClientHello is answered; it is its turn. */
static SSL *half_way(struct rig *r, const char *from)
{
    SSL_CTX *c = kit_ctx(&r->k, &r->web);
    SSL_CTX_set_max_proto_version(c, TLS1_2_VERSION); /* with 1.2, whoever has shaken hands was judged */
    SSL *s = SSL_new(c);
    SSL_CTX_free(c);
    int fd = tcp_from(r, from);
    SSL_set_bio(s, BIO_new(BIO_s_mem()), BIO_new_socket(fd, BIO_NOCLOSE)); /* it cannot hear the answer yet */
    assert_int_equal(SSL_get_error(s, SSL_connect(s)), SSL_ERROR_WANT_READ);
    assert_true(readable(fd, LONG_MS));
    return s;
}
static bool goes_on(struct rig *r, SSL *s)
{
    SSL_set_fd(s, BIO_get_fd(SSL_get_wbio(s), NULL));
    if (SSL_connect(s) != 1)
        return false;
    close(accept(r->upstream, NULL, NULL));
    return true;
}

/* Who says next to nothing makes room, however much older others are: for all addresses, its own too. */
static void cheap_flood(void **state)
{
    struct rig *r = crowded(NEVER, 0);
    struct listener_metrics *m = &r->p->listeners[0].m;
    SSL *first = half_way(r, "127.0.0.1"), *s;
    int cheap[40];
    for (int i = 0; i < 40; i++) {
        cheap[i] = tcp_from(r, "127.0.0.1");
        assert_int_equal(send(cheap[i], "\x16\x03\x01", 3, MSG_NOSIGNAL), 3);
    }
    for (int i = 0; i < LONG_MS / 10 && atomic_load(&m->failed[FAIL_EVICTED]) + atomic_load(&m->failed[FAIL_CLOSED]) < 37; i++)
        usleep(10000);
    assert_int_equal(atomic_load(&m->failed[FAIL_EVICTED]) + atomic_load(&m->failed[FAIL_CLOSED]), 37);
    assert_int_equal(atomic_load(&m->handshaking), 4);
    assert_true(served(r, &s, tcp_from(r, "127.0.0.2")));
    tls_close(s);
    assert_true(served(r, &s, tcp_from(r, "127.0.0.1")));
    tls_close(s);
    assert_true(goes_on(r, first));
    tls_close(first);
    for (int i = 0; i < 40; i++)
        close(cheap[i]);
    rig_end(r);
}

/* Of those who were answered, it is who has more than half of the places that makes room: once, for one that came. */
static void greedy_address(void **state)
{
    struct rig *r = crowded(0, NEVER);
    SSL *old = half_way(r, "127.0.0.2"), *greedy[3], *s;
    for (int i = 0; i < 3; i++)
        greedy[i] = half_way(r, "127.0.0.1");
    assert_true(served(r, &s, tcp_from(r, "127.0.0.3")));
    tls_close(s);
    assert_int_equal(failed(r, FAIL_EVICTED), 1);
    assert_false(goes_on(r, greedy[0])); /* its oldest */
    assert_true(goes_on(r, old));
    assert_true(goes_on(r, greedy[1]));
    assert_int_equal(failed(r, FAIL_EVICTED), 1);
    for (int i = 0; i < 3; i++) {
        close(BIO_get_fd(SSL_get_wbio(greedy[i]), NULL));
        SSL_free(greedy[i]);
    }
    tls_close(old);
    rig_end(r);
}

/* While nobody is slow, who comes waits in the kernel's queue until a place is free. */
static void nobody_slow(void **state)
{
    struct rig *r = crowded(NEVER, NEVER);
    SSL *all[4], *s;
    for (int i = 0; i < 4; i++)
        all[i] = half_way(r, i < 2 ? "127.0.0.1" : "127.0.0.2");
    int fifth = tcp_from(r, "127.0.0.3");
    until_handshaking(r, 4);
    close(BIO_get_fd(SSL_get_wbio(all[0]), NULL));
    SSL_free(all[0]);
    assert_true(served(r, &s, fifth));
    tls_close(s);
    for (int i = 1; i < 4; i++) {
        assert_true(goes_on(r, all[i]));
        tls_close(all[i]);
    }
    assert_int_equal(atomic_load(&r->p->listeners[0].m.failed[FAIL_EVICTED]), 0);
    rig_end(r);
}

/* Threads have all the places together, and none is without, however many the others have taken. */
static void shares(void **state)
{
    static struct worker w[7];
    struct proxy p = {.threads = 7};
    for (unsigned max = 1; max <= 100; max++) {
        struct proxy_listener_conf conf = {.max_handshakes = max};
        struct listener l = {.conf = &conf};
        unsigned all = 0;
        for (unsigned i = 0; i < 7; i++) {
            struct door d = {.l = &l, .w = &w[i]};
            struct conn *victim;
            w[i].p = &p;
            w[i].number = i;
            for (; admission_room(&d, &victim); all++) {
                d.handshaking++;
                atomic_fetch_add(&l.m.handshaking, 1);
            }
            assert_true(d.handshaking > 0);
        }
        assert_int_equal(all, max < 7 ? 7 : max);
    }
}

int main(void)
{
    proxy_memory_setup();
    log_setup("test", LOG_ERROR, LOG_TEXT);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_server), cmocka_unit_test(refusals), cmocka_unit_test(garbage),
        cmocka_unit_test(slow_handshake), cmocka_unit_test(flood), cmocka_unit_test(proxy_headers),
        cmocka_unit_test(trusted_proxies), cmocka_unit_test(max_per_address), cmocka_unit_test(max_per_client),
        cmocka_unit_test(health_check),
        cmocka_unit_test(cheap_flood), cmocka_unit_test(greedy_address), cmocka_unit_test(nobody_slow),
        cmocka_unit_test(shares),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
