#include "proxy/pp2.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>

static const uint8_t magic[12] = {0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a};
enum { CMD_LOCAL = 0x20, CMD_PROXY = 0x21 };
enum { FAM_UNSPEC = 0x00, FAM_TCP4 = 0x11, FAM_TCP6 = 0x21, FAM_UNIX = 0x31 };
enum { TYPE_ALPN = 0x01, TYPE_AUTHORITY = 0x02, TYPE_CRC32C = 0x03, TYPE_SSL = 0x20 };
enum { SSL_VERSION = 0x21, SSL_CN = 0x22, SSL_CIPHER = 0x23 };
enum { CLIENT_SSL = 1, CLIENT_CERT_CONN = 2, CLIENT_CERT_SESS = 4 };
#define UNIX_LEN 108

static int refuse(struct err *e, const char *why)
{
    return err_set(e, ERR_MALFORMED, "proxy-header",
                   "no PROXY protocol version 2 header: %s. Does the load balancer in front send version 2?", why);
}

/* Castagnoli, reflected; half a byte at a time: headers are short. */
uint32_t pp2_crc32c(const void *p, size_t len)
{
    static const uint32_t table[16] = {0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3,
                                       0x61c69362, 0x7198540d, 0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
                                       0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75};
    uint32_t c = 0xffffffff;
    for (const uint8_t *s = p, *end = s + len; s < end; s++) {
        c = table[(c ^ *s) & 15] ^ c >> 4;
        c = table[(c ^ (unsigned)*s >> 4) & 15] ^ c >> 4;
    }
    return ~c;
}

/* --- writing ---------------------------------------------------------------------------------------------- */

static void put_unix(struct buf *out, const struct sockaddr_un *u)
{
    char path[UNIX_LEN] = {0};
    memcpy(path, u->sun_path, sizeof path);
    buf_put(out, path, sizeof path);
}

/* Families of both ends agree, or nothing is said. */
static uint8_t put_addresses(struct buf *out, const struct pp2 *p)
{
    sa_family_t f = p->src.sa.sa_family;
    if (p->local || f != p->dst.sa.sa_family)
        return FAM_UNSPEC;
    if (f == AF_INET) {
        const struct sockaddr_in *s = (const void *)&p->src, *d = (const void *)&p->dst;
        buf_put(out, &s->sin_addr, 4);
        buf_put(out, &d->sin_addr, 4);
        buf_put(out, &s->sin_port, 2);
        buf_put(out, &d->sin_port, 2);
        return FAM_TCP4;
    }
    if (f == AF_INET6) {
        const struct sockaddr_in6 *s = (const void *)&p->src, *d = (const void *)&p->dst;
        buf_put(out, &s->sin6_addr, 16);
        buf_put(out, &d->sin6_addr, 16);
        buf_put(out, &s->sin6_port, 2);
        buf_put(out, &d->sin6_port, 2);
        return FAM_TCP6;
    }
    if (f == AF_UNIX) {
        put_unix(out, &p->src.un);
        put_unix(out, &p->dst.un);
        return FAM_UNIX;
    }
    return FAM_UNSPEC;
}

static void put_tlv(struct buf *out, uint8_t type, struct bytes value)
{
    if (!value.len)
        return;
    buf_u8(out, type);
    buf_vec16(out, value.p, value.len);
}

static void put_ssl(struct buf *out, const struct pp2 *p)
{
    if (!p->tls)
        return;
    size_t at = out->len;
    buf_u8(out, TYPE_SSL);
    buf_u16(out, 0);
    buf_u8(out, p->verified ? CLIENT_SSL | CLIENT_CERT_CONN | CLIENT_CERT_SESS : CLIENT_SSL);
    buf_u32(out, p->verified ? 0 : 1);
    put_tlv(out, SSL_VERSION, p->tls_version);
    put_tlv(out, SSL_CN, p->spiffe_id);
    put_tlv(out, SSL_CIPHER, p->cipher);
    if (out->failed)
        return;
    size_t n = out->len - at - 3;
    out->p[at + 1] = (uint8_t)(n >> 8);
    out->p[at + 2] = (uint8_t)n;
}

void pp2_write(struct buf *out, const struct pp2 *p)
{
    size_t start = out->len;
    buf_put(out, magic, sizeof magic);
    buf_u8(out, p->local ? CMD_LOCAL : CMD_PROXY);
    buf_u8(out, 0); /* family and length: below */
    buf_u16(out, 0);
    uint8_t family = put_addresses(out, p);
    put_tlv(out, TYPE_ALPN, p->alpn);
    put_tlv(out, TYPE_AUTHORITY, p->authority);
    put_ssl(out, p);
    put_tlv(out, PP2_TYPE_SPIFFE_ID, p->spiffe_id);
    buf_u8(out, TYPE_CRC32C);
    buf_u16(out, 4);
    buf_u32(out, 0);
    if (out->failed)
        return;
    uint8_t *h = out->p + start;
    size_t n = out->len - start;
    if (n - PP2_HEAD > UINT16_MAX) {
        out->failed = true;
        return;
    }
    h[13] = family;
    h[14] = (uint8_t)((n - PP2_HEAD) >> 8);
    h[15] = (uint8_t)(n - PP2_HEAD);
    uint32_t crc = htonl(pp2_crc32c(h, n)); /* over the header with zeros in its place */
    memcpy(h + n - 4, &crc, 4);
}

/* --- reading ---------------------------------------------------------------------------------------------- */

long pp2_length(const uint8_t head[PP2_HEAD], struct err *e)
{
    if (memcmp(head, magic, sizeof magic) != 0)
        return refuse(e, "it does not begin with the signature");
    if (head[12] != CMD_LOCAL && head[12] != CMD_PROXY)
        return refuse(e, "its version is not 2, or its command is unknown");
    long n = PP2_HEAD + ((long)head[14] << 8 | head[15]);
    return n > PP2_READ_MAX ? refuse(e, "it is longer than 4096 bytes") : n;
}

static void take4(struct pp2 *p, struct cur *c)
{
    struct sockaddr_in s = {.sin_family = AF_INET}, d = s;
    cur_copy(c, &s.sin_addr, 4);
    cur_copy(c, &d.sin_addr, 4);
    cur_copy(c, &s.sin_port, 2);
    cur_copy(c, &d.sin_port, 2);
    memcpy(&p->src, &s, sizeof s);
    memcpy(&p->dst, &d, sizeof d);
}

static void take6(struct pp2 *p, struct cur *c)
{
    struct sockaddr_in6 s = {.sin6_family = AF_INET6}, d = s;
    cur_copy(c, &s.sin6_addr, 16);
    cur_copy(c, &d.sin6_addr, 16);
    cur_copy(c, &s.sin6_port, 2);
    cur_copy(c, &d.sin6_port, 2);
    memcpy(&p->src, &s, sizeof s);
    memcpy(&p->dst, &d, sizeof d);
}

static void take_unix(struct pp2 *p, struct cur *c)
{
    struct sockaddr_un s = {.sun_family = AF_UNIX}, d = s;
    cur_copy(c, s.sun_path, UNIX_LEN);
    cur_copy(c, d.sun_path, UNIX_LEN);
    memcpy(&p->src, &s, sizeof s);
    memcpy(&p->dst, &d, sizeof d);
}

static int take_addresses(struct pp2 *p, uint8_t family, struct cur *c, struct err *e)
{
    if (family == FAM_TCP4)
        take4(p, c);
    else if (family == FAM_TCP6)
        take6(p, c);
    else if (family == FAM_UNIX)
        take_unix(p, c);
    else if (family != FAM_UNSPEC)
        return refuse(e, "its address family is unknown, or it is of datagrams");
    return c->failed ? refuse(e, "its addresses are cut short") : 0;
}

static int take_ssl(struct pp2 *p, struct bytes value, struct err *e)
{
    struct cur c = cur_of(value.p, value.len);
    uint8_t client, type;
    uint32_t verify;
    struct bytes sub;
    if (cur_u8(&c, &client) < 0 || cur_u32(&c, &verify) < 0)
        return refuse(e, "its SSL part is cut short");
    p->tls = client & CLIENT_SSL;
    p->verified = p->tls && (client & (CLIENT_CERT_CONN | CLIENT_CERT_SESS)) && verify == 0;
    while (cur_left(&c) > 0) {
        if (cur_u8(&c, &type) < 0 || cur_vec16(&c, &sub) < 0)
            return refuse(e, "its SSL part is cut short");
        if (type == SSL_VERSION)
            p->tls_version = sub;
        else if (type == SSL_CIPHER)
            p->cipher = sub;
    }
    return 0;
}

/* The CRC is over the header with the CRC itself zero. */
static bool crc_good(const uint8_t *header, size_t len, struct bytes value)
{
    uint8_t copy[PP2_READ_MAX];
    uint32_t said;
    if (value.len != 4 || len > sizeof copy)
        return false;
    memcpy(copy, header, len);
    memset(copy + (value.p - header), 0, 4);
    memcpy(&said, value.p, 4);
    return ntohl(said) == pp2_crc32c(copy, len);
}

static int take_tlvs(struct pp2 *p, const uint8_t *header, size_t len, struct cur *c, struct err *e)
{
    bool crc = false;
    while (cur_left(c) > 0) {
        uint8_t type;
        struct bytes value;
        if (cur_u8(c, &type) < 0 || cur_vec16(c, &value) < 0)
            return refuse(e, "a TLV is cut short");
        if (type == TYPE_ALPN) {
            p->alpn = value;
        } else if (type == TYPE_AUTHORITY) {
            p->authority = value;
        } else if (type == PP2_TYPE_SPIFFE_ID) {
            p->spiffe_id = value;
        } else if (type == TYPE_SSL) {
            if (take_ssl(p, value, e) < 0)
                return -1;
        } else if (type == TYPE_CRC32C) {
            if (crc || !crc_good(header, len, value))
                return refuse(e, "its CRC32C is wrong");
            crc = true;
        }
    }
    return 0;
}

int pp2_read(struct pp2 *p, const void *header, size_t len, struct err *e)
{
    const uint8_t *h = header;
    memset(p, 0, sizeof *p);
    if (len < PP2_HEAD)
        return refuse(e, "it is cut short");
    long n = pp2_length(h, e);
    if (n < 0)
        return -1;
    if ((size_t)n != len)
        return refuse(e, "it is not as long as it says");
    p->local = h[12] == CMD_LOCAL;
    struct cur c = cur_of(h + PP2_HEAD, len - PP2_HEAD);
    if (p->local) /* section 2.2: the receiver skips the address block */
        return 0;
    if (take_addresses(p, h[13], &c, e) < 0)
        return -1;
    return take_tlvs(p, h, len, &c, e);
}
