/* PROXY protocol version 2 (haproxy.org, proxy-protocol.txt section 2.2), both directions: who the peer is, in front
 * of the first byte.
 *
 * Written: command PROXY, addresses, then TLVs: PP2_TYPE_ALPN, PP2_TYPE_AUTHORITY (the SNI), PP2_TYPE_SSL with
 * version, CN (the SPIFFE ID: an SVID's subject is empty), cipher; 0xE0 (custom range), the SPIFFE ID
 * alone; PP2_TYPE_CRC32C. Read: the same from a load balancer in front of us; unknown TLVs are skipped, a wrong
 * CRC32C is refused, LOCAL is understood.
 */
#ifndef PROXY_PP2_H
#define PROXY_PP2_H
#include "base/bytes.h"
#include "base/err.h"
#include <sys/socket.h>
#include <sys/un.h>

#define PP2_HEAD 16        /* bytes that say how long the rest is */
#define PP2_READ_MAX 4096  /* of a header that we read, PP2_HEAD included; the format allows 64 KiB */
#define PP2_TYPE_SPIFFE_ID 0xe0

union pp2_addr {
    struct sockaddr sa;
    struct sockaddr_storage storage;
    struct sockaddr_un un;
};
struct pp2 {
    bool local;              /* LOCAL: the balancer speaks for itself, there are no addresses */
    union pp2_addr src, dst; /* ss_family AF_UNSPEC: not said */
    /* TLVs; empty ones are left out. When read, views into what was given to pp2_read. */
    struct bytes alpn, authority, spiffe_id, tls_version, cipher;
    bool tls, verified;      /* PP2_TYPE_SSL: client over TLS, with a certificate that verified */
};
/* Appends the header. */
void pp2_write(struct buf *out, const struct pp2 *p);
/* How many bytes the whole header has, from its first PP2_HEAD; -1: rule "proxy-header". */
long pp2_length(const uint8_t head[PP2_HEAD], struct err *e);
/* Exactly one header. Rule "proxy-header". */
int pp2_read(struct pp2 *p, const void *header, size_t len, struct err *e);
uint32_t pp2_crc32c(const void *p, size_t len);
#endif
