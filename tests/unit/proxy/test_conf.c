#include "proxy/internal.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static int parse(struct proxy_conf *c, const char *yaml, struct err *e)
{
    memset(e, 0, sizeof *e);
    proxy_conf_defaults(c);
    int rc = proxy_conf_parse(c, yaml, strlen(yaml), e);
    return rc < 0 ? rc : proxy_conf_check(c, e);
}

static void whole(void **s)
{
    struct proxy_conf c;
    struct err e;
    assert_int_equal(parse(&c,
                           "socket: unix:///run/a.sock\nhttp: 127.0.0.1:9901\nthreads: 2\ndrain_timeout: 5\n"
                           "metrics_peers: 3\nlogging: {level: warn, format: json}\nlisteners:\n"
                           "- {mode: server, name: web, listen: '*:8443', to: 'unix:/run/app', send_proxy: v2,\n"
                           "   allow: [spiffe://td/a/*, spiffe://td/b], require_log_proof: true, accept_proxy: true,\n"
                           "   trusted_proxies: [10.0.0.0/8, '::1'], alpn: [h2, http/1.1], socket_mode: '0600',\n"
                           "   max_per_address: 7, max_connection_age: 60, handshake_timeout_ms: 500, close_revoked: true}\n"
                           "- mode: client\n  listen: 127.0.0.1:1\n  to: db:5432\n  allow: spiffe://td/db\n  id: spiffe://td/x\n",
                           &e), 0);
    assert_int_equal(c.n, 2);
    assert_int_equal(c.threads, 2);
    assert_int_equal(c.level, LOG_WARN);
    assert_int_equal(c.format, LOG_JSON);
    const struct proxy_listener_conf *l = c.listeners;
    assert_string_equal(l->name, "web");
    assert_true(l->require_log_proof && l->accept_proxy && l->send_proxy && l->close_revoked && !l->crl_optional);
    assert_int_equal(l->allow.n, 2);
    assert_int_equal(l->trusted_count, 2);
    assert_int_equal(l->trusted[0].bits, 8);
    assert_int_equal(l->trusted[1].bits, 128);
    assert_int_equal(l->alpn_len, 12);
    assert_memory_equal(l->alpn, "\x02h2\x08http/1.1", 12);
    assert_int_equal(l->mode_bits, 0600);
    assert_int_equal(l->max_per_address, 7);
    assert_int_equal(l->handshake_timeout, 500);
    assert_int_equal(l[1].mode, PROXY_CLIENT);
    assert_string_equal(l[1].name, "127.0.0.1:1");
    assert_int_equal(l[1].max_handshakes, 256);
    proxy_conf_free(&c);
}

static void refused(void **s)
{
#define L "listeners:\n- {mode: server, listen: 'a:1', to: 'b:2', allow: spiffe://td/a"
    static const struct {
        const char *yaml, *says;
    } bad[] = {
        {"", "keys"},
        {"[]", "keys"},
        {"listeners: []", "no listeners"},
        {"listeners: 3", "list"},
        {L "}\n---\nthreads: 3", "line 4: a second document"},
        {L "}\n...\n}", "line 4: not YAML"},
        {"x: 1\n" L "}", "line 1: x: unknown key"},
        {L ", y: 1}", "line 2: y: unknown key"},
        {L ", mode: server}", "twice"},
        {L ", require_log_proof: yes}", "true or false"},
        {L ", max_connections: 0}", "number"},
        {L ", max_connections: -1}", "number"},
        {L ", max_connections: 99999999999}", "number"},
        {L ", send_proxy: v1}", "v2"},
        {L ", alpn: ['']}", "protocols"},
        {L ", alpn: [[h2]]}", "texts"},
        {L ", trusted_proxies: [10.0.0.0/33]}", "network"},
        {L ", socket_mode: 9}", "mode"},
        {L ", id: web}", "id"},
        {L "}\nthreads: 1000", "number"},
        {L "}\n- {mode: client, listen: 'a:1', to: 'b:2', allow: spiffe://td/a}", "same place"},
        {"listeners:\n- {mode: server, listen: 'a:1', to: 'b:2'}", "nobody is allowed"},
        {"listeners:\n- {mode: server, listen: 'a:1', to: 'b:2', allow: [spiffe://td/a, td/b]}", "allow"},
        {"listeners:\n- {mode: server, listen: 'a:1', allow: spiffe://td/a}", "to"},
        {"listeners:\n- {mode: server, listen: 'a', to: 'b:2', allow: spiffe://td/a}", "port"},
        {"listeners:\n- {mode: server, listen: 'a:1', to: 'unix:x', allow: spiffe://td/a}", "absolute"},
        {"listeners:\n- {mode: both, listen: 'a:1', to: 'b:1', allow: spiffe://td/a}", "server"},
        {"listeners:\n- {mode: client, listen: 'a:1', to: 'b:1', allow: spiffe://td/a, send_proxy: v2}", "server mode"},
        {"listeners: [{mode", "not YAML"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct proxy_conf c;
        struct err e;
        if (parse(&c, bad[i].yaml, &e) == 0)
            fail_msg("taken: %s", bad[i].yaml);
        if (!strstr(e.msg, bad[i].says))
            fail_msg("'%s' says '%s'", bad[i].yaml, e.msg);
        proxy_conf_free(&c);
    }
}

static void long_sni(void **s)
{
    struct proxy_conf c;
    struct err e;
    char yaml[600], name[257];
    for (int n = 255; n <= 256; n++) {
        memset(name, 'a', sizeof name);
        name[n] = 0;
        snprintf(yaml, sizeof yaml, L ", sni: %s}", name);
        assert_int_equal(parse(&c, yaml, &e), n == 255 ? 0 : -1);
        assert_true(n == 255 || strstr(e.msg, "sni"));
        proxy_conf_free(&c);
    }
}

static void addresses(void **s)
{
    static const char *const good[] = {"127.0.0.1:80", "[::1]:0", "localhost:65535", "*:443", "unix:/a", "unix:///a/b"};
    static const char *const bad[] = {"", ":80", "a", "a:", "a:x", "a:65536", "a:-1", "::1:80", "unix:", "unix:a", "a:080808"};
    struct address a;
    struct err e;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_int_equal(address_parse(&a, good[i], &e), 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (address_parse(&a, bad[i], &e) == 0)
            fail_msg("'%s'", bad[i]);
    assert_int_equal(address_parse(&a, "[fe80::1]:443", &e), 0);
    assert_string_equal(a.host, "fe80::1");
    assert_string_equal(a.port, "443");
}

/* Somebody listens there who does not come to accepting: that is told, not waited for. */
static void busy_socket(void **s)
{
    char dir[] = "/tmp/mayfly-proxy-test.XXXXXX", where[64];
    struct sockaddr_un u = {.sun_family = AF_UNIX};
    struct address a;
    struct err e = {0};
    int waiting[8], n = 0, l = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_non_null(mkdtemp(dir));
    snprintf(u.sun_path, sizeof u.sun_path, "%s/s", dir);
    snprintf(where, sizeof where, "unix:%s", u.sun_path);
    assert_int_equal(bind(l, (void *)&u, sizeof u), 0);
    assert_int_equal(listen(l, 0), 0);
    for (int r = 0; n < 8 && r == 0; n++) {
        waiting[n] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        r = connect(waiting[n], (void *)&u, sizeof u);
    }
    assert_true(n < 8); /* the queue is full */
    assert_int_equal(address_parse(&a, where, &e), 0);
    alarm(30);
    assert_int_equal(address_listen(&a, false, 0600, &e), -1);
    alarm(0);
    assert_string_equal(e.rule, "socket-in-use");
    while (n > 0)
        close(waiting[--n]);
    close(l);
    int mine = address_listen(&a, false, 0600, &e); /* what it left behind is taken over */
    assert_true(mine >= 0);
    close(mine);
    unlink(u.sun_path);
    rmdir(dir);
}

/* An IPv6 socket that takes IPv4 too gives its addresses in IPv6's clothes. */
static void unmapped(void **s)
{
    static const struct {
        const char *in, *out;
    } cases[] = {{"::ffff:10.1.2.3", "10.1.2.3:4711"}, {"2001:db8::1", "[2001:db8::1]:4711"}, {"::1", "[::1]:4711"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        union pp2_addr a = {0};
        struct sockaddr_in6 in = {.sin6_family = AF_INET6, .sin6_port = htons(4711)};
        char text[80];
        assert_int_equal(inet_pton(AF_INET6, cases[i].in, &in.sin6_addr), 1);
        memcpy(&a, &in, sizeof in);
        address_unmap(&a);
        address_text(text, sizeof text, &a.sa);
        assert_string_equal(text, cases[i].out);
    }
}

/* However many peers there are, memory for their metrics is bounded. */
static void peers_bounded(void **s)
{
    struct metrics m = {0};
    struct err e;
    assert_int_equal(metrics_init(&m, 2, &e), 0);
    struct peer_metrics *a = metrics_peer(&m, "spiffe://td/a"), *b = metrics_peer(&m, "spiffe://td/b"),
                        *c = metrics_peer(&m, "spiffe://td/c");
    assert_ptr_not_equal(a, b);
    assert_ptr_equal(metrics_peer(&m, "spiffe://td/a"), a);
    assert_null(c->id);
    assert_ptr_equal(metrics_peer(&m, "spiffe://td/d"), c);
    metrics_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(whole), cmocka_unit_test(refused), cmocka_unit_test(long_sni), cmocka_unit_test(addresses), cmocka_unit_test(busy_socket), cmocka_unit_test(unmapped),
                                       cmocka_unit_test(peers_bounded)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
