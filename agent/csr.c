/* PKCS#10 writer (RFC 2986): an empty subject, the key, and one extension request, the subject
 * alternative names. Written with base/der rather than OpenSSL: it is small, and it is exactly what
 * the authority asks for, byte by byte. */
#include "agent/internal.h"
#include "base/der.h"
#include "base/oid.h"
#include "base/spiffe.h"
#include <string.h>

#define CSR_MAX 16384
#define SAN_DNS (DER_CTX | 2) /* RFC 5280 §4.2.1.6 */
#define SAN_URI (DER_CTX | 6)

static void write_algorithm(struct derw *w, enum key_type kind)
{
    size_t mark = derw_mark(w);
    if (kind == KEY_P384)
        derw_oid(w, OID_ECDSA_SHA384, OID_LEN(OID_ECDSA_SHA384));
    else
        derw_oid(w, OID_ECDSA_SHA256, OID_LEN(OID_ECDSA_SHA256));
    derw_wrap(w, DER_SEQUENCE, mark);
}

/* Extension: critical, because the subject is empty (RFC 5280 §4.2.1.6). */
static void write_san(struct derw *w, const char *spiffe_id, const char *const *dns,
                      size_t dns_count)
{
    size_t extension = derw_mark(w);
    for (size_t i = dns_count; i > 0; i--)
        derw_tlv(w, SAN_DNS, dns[i - 1], strlen(dns[i - 1]));
    derw_tlv(w, SAN_URI, spiffe_id, strlen(spiffe_id));
    derw_wrap(w, DER_SEQUENCE, extension);
    derw_wrap(w, DER_OCTET_STRING, extension);
    derw_bool(w, true);
    derw_oid(w, OID_EXT_SAN, OID_LEN(OID_EXT_SAN));
    derw_wrap(w, DER_SEQUENCE, extension);
}

/* attributes [0]: SET OF one extensionRequest (RFC 2985 §5.4.2). */
static void write_attributes(struct derw *w, const char *spiffe_id, const char *const *dns,
                             size_t dns_count)
{
    size_t mark = derw_mark(w);
    write_san(w, spiffe_id, dns, dns_count);
    derw_wrap(w, DER_SEQUENCE, mark); /* Extensions */
    derw_wrap(w, DER_SET, mark);
    derw_oid(w, OID_CSR_EXT_REQUEST, OID_LEN(OID_CSR_EXT_REQUEST));
    derw_wrap(w, DER_SEQUENCE, mark); /* Attribute */
    derw_wrap(w, DER_CTX_CONS | 0, mark);
}

static int check_names(const char *spiffe_id, const char *const *dns, size_t dns_count,
                       struct err *e)
{
    struct spiffe_id id;
    if (spiffe_parse(&id, spiffe_id, strlen(spiffe_id), e) < 0)
        return -1;
    if (id.path.len == 0)
        return err_set(e, ERR_MALFORMED, "spiffe-id",
                       "'%s' names a whole trust domain: a workload's ID has a path, e.g. %s/web",
                       spiffe_id, spiffe_id);
    for (size_t i = 0; i < dns_count; i++)
        if (dns_name_check(dns[i], strlen(dns[i]), e) < 0)
            return -1;
    return 0;
}

int csr_write(struct buf *out, const struct key *k, const char *spiffe_id, const char *const *dns,
              size_t dns_count, struct err *e)
{
    uint8_t info[CSR_MAX], whole[CSR_MAX + 1024], sig[512];
    struct derw w;
    struct bytes spki = key_spki(k);
    if (check_names(spiffe_id, dns, dns_count, e) < 0)
        return -1;
    if (key_kind(k) != KEY_P256 && key_kind(k) != KEY_P384)
        return err_set(e, ERR_BAD_KEY, "key-type",
                       "certificate requests are written for P-256 and P-384 keys");
    derw_init(&w, info, sizeof info);
    write_attributes(&w, spiffe_id, dns, dns_count);
    derw_raw(&w, spki.p, spki.len);
    derw_tlv(&w, DER_SEQUENCE, "", 0); /* subject: empty Name */
    derw_u64(&w, 0);                   /* version 1 */
    derw_wrap(&w, DER_SEQUENCE, 0);
    struct bytes body = derw_bytes(&w);
    if (w.failed)
        return err_set(e, ERR_TOO_LARGE, "csr-size",
                       "the certificate request does not fit in %d bytes: fewer DNS names",
                       CSR_MAX);
    long n = key_sign(k, true, sig, sizeof sig, body.p, body.len, e);
    if (n < 0)
        return -1;
    derw_init(&w, whole, sizeof whole);
    derw_raw(&w, sig, (size_t)n);
    derw_raw(&w, "", 1); /* BIT STRING: no unused bits */
    derw_wrap(&w, DER_BIT_STRING, 0);
    write_algorithm(&w, key_kind(k));
    derw_raw(&w, body.p, body.len);
    derw_wrap(&w, DER_SEQUENCE, 0);
    struct bytes csr = derw_bytes(&w);
    buf_put(out, csr.p, csr.len);
    if (w.failed || out->failed)
        return err_set(e, ERR_TOO_LARGE, "csr-size", "the certificate request does not fit");
    return 0;
}
