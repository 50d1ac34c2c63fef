#include "proxy/pp2.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct bytes text(const char *s)
{
    return (struct bytes){(const uint8_t *)s, strlen(s)};
}

static struct pp2 sample(sa_family_t f)
{
    struct pp2 p = {.tls = true, .verified = true, .spiffe_id = text("spiffe://example.org/web"), .tls_version = text("TLSv1.3"),
                    .cipher = text("TLS_AES_128_GCM_SHA256"), .alpn = text("h2"), .authority = text("db.example.org")};
    if (f == AF_INET) {
        struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(4711), .sin_addr.s_addr = htonl(0x0a000001)};
        memcpy(&p.src, &a, sizeof a);
        a.sin_port = htons(8443);
        memcpy(&p.dst, &a, sizeof a);
    } else if (f == AF_INET6) {
        struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_port = htons(4711), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
        memcpy(&p.src, &a, sizeof a);
        memcpy(&p.dst, &a, sizeof a);
    } else if (f == AF_UNIX) {
        p.src.un.sun_family = p.dst.un.sun_family = AF_UNIX;
        strcpy(p.dst.un.sun_path, "/run/x.sock");
    }
    return p;
}

/* HAProxy's own example of the bytes, for TCP over IPv4 (proxy-protocol.txt section 2.2). */
static void bytes_of_the_format(void **s)
{
    static const uint8_t head[] = {0x0d, 0x0a, 0x0d, 0x0a, 0, 0x0d, 0x0a, 'Q', 'U', 'I', 'T', 0x0a, 0x21, 0x11, 0, 12,
                                   10, 0, 0, 1, 10, 0, 0, 2, 0x12, 0x67, 0x20, 0xfb};
    struct pp2 p;
    struct err e = {0};
    assert_int_equal(pp2_length(head, &e), sizeof head);
    assert_int_equal(pp2_read(&p, head, sizeof head, &e), 0);
    const struct sockaddr_in *a = (const void *)&p.src, *b = (const void *)&p.dst;
    assert_int_equal(ntohl(a->sin_addr.s_addr), 0x0a000001);
    assert_int_equal(ntohl(b->sin_addr.s_addr), 0x0a000002);
    assert_int_equal(ntohs(a->sin_port), 4711);
    assert_int_equal(ntohs(b->sin_port), 8443);
    assert_false(p.local || p.tls);
}

static void crc(void **s)
{
    assert_int_equal(pp2_crc32c("123456789", 9), 0xe3069283); /* RFC 3720's check value */
    assert_int_equal(pp2_crc32c("", 0), 0);
}

static void both_directions(void **s)
{
    static const sa_family_t families[] = {AF_INET, AF_INET6, AF_UNIX, AF_UNSPEC};
    for (size_t i = 0; i < 4; i++) {
        struct pp2 p = sample(families[i]), q;
        struct buf b;
        struct err e = {0};
        buf_init(&b, 65536);
        pp2_write(&b, &p);
        assert_false(b.failed);
        assert_int_equal(pp2_length(b.p, &e), b.len);
        assert_int_equal(pp2_read(&q, b.p, b.len, &e), 0);
        assert_int_equal(q.src.sa.sa_family, families[i]);
        assert_memory_equal(&q.src, &p.src, sizeof(struct sockaddr_in6));
        assert_memory_equal(&q.dst, &p.dst, sizeof(struct sockaddr_in6));
        assert_true(q.tls && q.verified);
        assert_true(bytes_eq_str(q.spiffe_id, "spiffe://example.org/web"));
        assert_true(bytes_eq_str(q.tls_version, "TLSv1.3"));
        assert_true(bytes_eq_str(q.alpn, "h2"));
        assert_true(bytes_eq_str(q.authority, "db.example.org"));
        buf_free(&b);
    }
}

static void refuses(const uint8_t *p, size_t n)
{
    struct pp2 q;
    struct err e = {0};
    assert_int_equal(pp2_read(&q, p, n, &e), -1);
    assert_string_equal(e.rule, "proxy-header");
}

static void damaged(void **s)
{
    struct pp2 p = sample(AF_INET);
    struct buf b;
    buf_init(&b, 65536);
    pp2_write(&b, &p);
    for (size_t n = 0; n < b.len; n++)
        refuses(b.p, n);
    for (size_t i = 0; i < b.len; i++) { /* every byte is covered, by the signature or by the CRC */
        if (i == b.len - 7) /* but the CRC's own type: then there is none, which is allowed */
            continue;
        b.p[i] ^= 0x10;
        refuses(b.p, b.len);
        b.p[i] ^= 0x10;
    }
    buf_u8(&b, 0);
    refuses(b.p, b.len);
    buf_free(&b);
}

static void limits(void **s)
{
    uint8_t h[PP2_HEAD] = {0x0d, 0x0a, 0x0d, 0x0a, 0, 0x0d, 0x0a, 'Q', 'U', 'I', 'T', 0x0a, 0x21, 0x11, 0xff, 0xff};
    struct err e = {0};
    assert_int_equal(pp2_length(h, &e), -1);
    h[14] = 0x0f;
    h[15] = 0xf0;
    assert_int_equal(pp2_length(h, &e), PP2_READ_MAX);
    h[15] = 0xf1;
    assert_int_equal(pp2_length(h, &e), -1);
    h[12] = 0x11; /* version 1's nibble */
    h[14] = h[15] = 0;
    assert_int_equal(pp2_length(h, &e), -1);
    h[12] = 0x22;
    assert_int_equal(pp2_length(h, &e), -1);
    h[12] = 0x20; /* LOCAL */
    struct pp2 p;
    assert_int_equal(pp2_read(&p, h, PP2_HEAD, &e), 0);
    assert_true(p.local);
    h[12] = 0x21;
    h[13] = 0x12; /* datagrams */
    refuses(h, PP2_HEAD);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(bytes_of_the_format), cmocka_unit_test(crc),
                                       cmocka_unit_test(both_directions), cmocka_unit_test(damaged), cmocka_unit_test(limits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
