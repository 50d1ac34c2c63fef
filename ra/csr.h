/* Certificate requests (PKCS#10, RFC 2986), read strictly over base/der.
 * A certificate is never copied from a request: the signer builds it from the order. So a request is
 * read for three things: the key, the proof that its holder signed, and the names it asks for, which
 * must be the order's. Refused is what asks for another name than the order's (a common name that is no
 * DNS name of the request among them), to be an authority, or for a critical extension that is not
 * issued. Ignored is what changes nothing in the certificate: the rest of the subject, key usages other
 * than an authority's, other extensions that are not critical, and other attributes.
 *
 * ERR_BAD_CSR with the rules "csr-size", "csr-syntax", "csr-key", "csr-signature", "csr-uri",
 * "csr-dns", "csr-san-ip", "csr-san-email", "csr-san-other", "csr-cn", "csr-ca", "csr-critical".
 */
#ifndef RA_CSR_H
#define RA_CSR_H
#include "base/key.h"
#include "ca/msg.h"

#define CSR_MAX 8192
#define CSR_CN_MAX 4

struct csr { /* views into the request */
    struct bytes spki;            /* DER */
    uint8_t spki_sha256[32];
    struct bytes uri;
    struct bytes dns[CA_DNS_MAX]; /* each a DNS name, none twice */
    size_t dns_count;
};
/* Everything but the comparison with an order; the signature is verified. */
int csr_read(struct csr *csr, const uint8_t *der, size_t len, struct err *e);
/* The names are exactly these: the URI byte by byte, the DNS names as a set. */
int csr_match(const struct csr *csr, const char *uri, const char *const *dns, size_t dns_count,
              struct err *e);

#endif
