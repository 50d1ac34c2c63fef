#include "ra/csr.h"
#include "base/der.h"
#include "base/oid.h"
#include "base/spiffe.h"
#include <openssl/err.h>
#include <openssl/sha.h>
#include <string.h>

#define OID_IS(b, oid) bytes_eq(b, oid, OID_LEN(oid))

/* GeneralName's tags (RFC 5280 section 4.2.1.6) */
enum { SAN_EMAIL = DER_CTX | 1, SAN_DNS = DER_CTX | 2, SAN_URI = DER_CTX | 6, SAN_IP = DER_CTX | 7 };
/* BIT STRING KeyUsage: keyCertSign is bit 5, cRLSign bit 6 of the first byte */
#define KU_CA_BITS 0x06

struct reader {
    struct csr *csr;
    struct bytes info;               /* CertificationRequestInfo, whole: what is signed */
    struct bytes algorithm, signature;
    struct bytes cn[CSR_CN_MAX];     /* common names of the subject */
    size_t cn_count;
    bool extensions, san, basic, usage; /* seen: none may come twice */
    struct err *e;
};

static int refuse(struct reader *r, const char *rule, const char *why)
{
    return err_set(r->e, ERR_BAD_CSR, rule, "certificate request refused: %s", why);
}

static int refuse_syntax(struct reader *r, const char *what)
{
    return err_set(r->e, ERR_BAD_CSR, "csr-syntax",
                   "certificate request refused: %s is not DER as RFC 2986 has it", what);
}

/* --- names ---------------------------------------------------------------------------------------- */

static int add_uri(struct reader *r, struct bytes v)
{
    struct spiffe_id id;
    struct err why = {0};
    if (r->csr->uri.len)
        return refuse(r, "csr-uri", "it asks for more than one URI name; an SVID has exactly one, its SPIFFE ID");
    if (spiffe_parse(&id, (const char *)v.p, v.len, &why) < 0)
        return refuse(r, "csr-uri", why.msg);
    r->csr->uri = v;
    return 0;
}

static int add_dns(struct reader *r, struct bytes v)
{
    struct err why = {0};
    if (dns_name_check((const char *)v.p, v.len, &why) < 0)
        return refuse(r, "csr-dns", why.msg);
    for (size_t i = 0; i < r->csr->dns_count; i++)
        if (bytes_eq(v, r->csr->dns[i].p, r->csr->dns[i].len))
            return refuse(r, "csr-dns", "a DNS name stands twice");
    if (r->csr->dns_count == CA_DNS_MAX)
        return refuse(r, "csr-dns", "it asks for more than 16 DNS names");
    r->csr->dns[r->csr->dns_count++] = v;
    return 0;
}

static int read_san(struct reader *r, struct bytes value)
{
    struct cur c = cur_of(value.p, value.len), names;
    if (r->san)
        return refuse_syntax(r, "a second subjectAltName");
    r->san = true;
    if (der_enter(&c, DER_SEQUENCE, &names) < 0 || !cur_done(&c))
        return refuse_syntax(r, "subjectAltName");
    while (cur_left(&names) > 0) {
        uint8_t tag;
        struct bytes v;
        if (der_any(&names, &tag, &v, NULL) < 0)
            return refuse_syntax(r, "subjectAltName");
        int rc;
        switch (tag) {
        case SAN_URI: rc = add_uri(r, v); break;
        case SAN_DNS: rc = add_dns(r, v); break;
        case SAN_IP: rc = refuse(r, "csr-san-ip", "it asks for an IP address; a workload has names only"); break;
        case SAN_EMAIL: rc = refuse(r, "csr-san-email", "it asks for an e-mail address"); break;
        default: rc = refuse(r, "csr-san-other", "it asks for a name that is neither a URI nor a DNS name");
        }
        if (rc < 0)
            return -1;
    }
    return 0;
}

/* Name: SEQUENCE OF SET OF SEQUENCE {OID, value}. Only the common name is of interest: it must not
 * be a name in disguise. The rest is never copied anywhere. */
static int read_subject(struct reader *r, struct cur *info)
{
    struct cur name, rdn, pair;
    if (der_enter(info, DER_SEQUENCE, &name) < 0)
        return refuse_syntax(r, "the subject");
    while (cur_left(&name) > 0) {
        if (der_enter(&name, DER_SET, &rdn) < 0 || cur_left(&rdn) == 0)
            return refuse_syntax(r, "the subject");
        while (cur_left(&rdn) > 0) {
            struct bytes oid, value;
            uint8_t tag;
            if (der_enter(&rdn, DER_SEQUENCE, &pair) < 0 || der_get(&pair, DER_OID, &oid) < 0 ||
                der_any(&pair, &tag, &value, NULL) < 0 || !cur_done(&pair))
                return refuse_syntax(r, "the subject");
            if (!OID_IS(oid, OID_CN))
                continue;
            if (tag != DER_UTF8 && tag != DER_PRINTABLE && tag != DER_IA5)
                return refuse(r, "csr-cn", "the common name is not a UTF8String, PrintableString or IA5String");
            if (r->cn_count == CSR_CN_MAX)
                return refuse(r, "csr-cn", "it has too many common names");
            r->cn[r->cn_count++] = value;
        }
    }
    return 0;
}

static int check_common_names(struct reader *r)
{
    for (size_t i = 0; i < r->cn_count; i++) {
        bool known = false;
        for (size_t k = 0; k < r->csr->dns_count; k++)
            known = known || bytes_eq(r->cn[i], r->csr->dns[k].p, r->csr->dns[k].len);
        if (!known)
            return refuse(r, "csr-cn", "the common name is not among its DNS names; leave the subject empty");
    }
    return 0;
}

/* --- extensions asked for ------------------------------------------------------------------------- */

/* BasicConstraints (RFC 5280 section 4.2.1.9) */
static int read_basic(struct reader *r, struct bytes value)
{
    struct cur c = cur_of(value.p, value.len), in;
    bool ca = false;
    if (r->basic || der_enter(&c, DER_SEQUENCE, &in) < 0 || !cur_done(&c))
        return refuse_syntax(r, "basicConstraints");
    r->basic = true;
    if (der_peek(&in, DER_BOOLEAN) && der_bool(&in, &ca) < 0)
        return refuse_syntax(r, "basicConstraints");
    if (ca || cur_left(&in) > 0) /* a path length is an authority's, too */
        return refuse(r, "csr-ca", "it asks to be an authority (basicConstraints); workloads never are");
    return 0;
}

static int read_usage(struct reader *r, struct bytes value)
{
    struct cur c = cur_of(value.p, value.len);
    struct bytes bits;
    if (r->usage || der_get(&c, DER_BIT_STRING, &bits) < 0 || !cur_done(&c) || bits.len < 1 || bits.p[0] > 7)
        return refuse_syntax(r, "keyUsage");
    r->usage = true;
    if (bits.len > 1 && bits.p[1] & KU_CA_BITS)
        return refuse(r, "csr-ca", "it asks for keyCertSign or cRLSign; workloads never get them");
    return 0;
}

static bool is_tls_usage(struct bytes value)
{
    struct cur c = cur_of(value.p, value.len), in;
    struct bytes oid;
    if (der_enter(&c, DER_SEQUENCE, &in) < 0 || !cur_done(&c))
        return false;
    while (cur_left(&in) > 0)
        if (der_get(&in, DER_OID, &oid) < 0 || (!OID_IS(oid, OID_EKU_SERVER) && !OID_IS(oid, OID_EKU_CLIENT)))
            return false;
    return true;
}

static int read_extension(struct reader *r, struct cur *list)
{
    struct cur ext;
    struct bytes oid, value;
    bool critical = false;
    if (der_enter(list, DER_SEQUENCE, &ext) < 0 || der_get(&ext, DER_OID, &oid) < 0 ||
        (der_peek(&ext, DER_BOOLEAN) && der_bool(&ext, &critical) < 0) ||
        der_get(&ext, DER_OCTET_STRING, &value) < 0 || !cur_done(&ext))
        return refuse_syntax(r, "an extension");
    if (OID_IS(oid, OID_EXT_SAN))
        return read_san(r, value);
    if (OID_IS(oid, OID_EXT_BASIC))
        return read_basic(r, value);
    if (OID_IS(oid, OID_EXT_KEY_USAGE))
        return read_usage(r, value);
    if (critical && !(OID_IS(oid, OID_EXT_EKU) && is_tls_usage(value)))
        return refuse(r, "csr-critical", "it asks for a critical extension that this authority does not issue");
    return 0;
}

/* attributes [0]: SET OF {type, SET OF value}; RFC 2985 section 5.4.2 for the extension request. */
static int read_attributes(struct reader *r, struct cur *info)
{
    struct cur attributes, attribute, values, list;
    struct bytes oid;
    if (der_enter(info, DER_CTX_CONS | 0, &attributes) < 0)
        return refuse_syntax(r, "the attributes");
    while (cur_left(&attributes) > 0) {
        if (der_enter(&attributes, DER_SEQUENCE, &attribute) < 0 || der_get(&attribute, DER_OID, &oid) < 0 ||
            der_enter(&attribute, DER_SET, &values) < 0 || !cur_done(&attribute))
            return refuse_syntax(r, "an attribute");
        if (!OID_IS(oid, OID_CSR_EXT_REQUEST))
            continue;
        if (r->extensions || der_enter(&values, DER_SEQUENCE, &list) < 0 || !cur_done(&values))
            return refuse_syntax(r, "the extension request");
        r->extensions = true;
        while (cur_left(&list) > 0)
            if (read_extension(r, &list) < 0)
                return -1;
    }
    return 0;
}

/* --- the request itself --------------------------------------------------------------------------- */

static int read_info(struct reader *r, struct bytes contents)
{
    struct cur info = cur_of(contents.p, contents.len);
    uint64_t version;
    uint8_t tag;
    struct bytes ignored;
    if (der_u64(&info, &version) < 0 || version != 0)
        return refuse_syntax(r, "the version");
    if (read_subject(r, &info) < 0)
        return -1;
    if (der_any(&info, &tag, &ignored, &r->csr->spki) < 0 || tag != DER_SEQUENCE)
        return refuse_syntax(r, "the public key");
    if (read_attributes(r, &info) < 0)
        return -1;
    return cur_done(&info) ? 0 : refuse_syntax(r, "what follows the attributes");
}

static int read_request(struct reader *r, const uint8_t *der, size_t len)
{
    struct cur c = cur_of(der, len), in;
    struct bytes info;
    uint8_t tag;
    if (der_enter(&c, DER_SEQUENCE, &in) < 0)
        return refuse_syntax(r, "the request");
    if (!cur_done(&c))
        return refuse(r, "csr-syntax", "bytes follow it");
    if (der_any(&in, &tag, &info, &r->info) < 0 || tag != DER_SEQUENCE ||
        der_get(&in, DER_SEQUENCE, &r->algorithm) < 0 || der_bits(&in, &r->signature) < 0 || !cur_done(&in))
        return refuse_syntax(r, "the request");
    return read_info(r, info);
}

/* The name of the algorithm as the request has it; hash of NULL: none of ours. */
static const EVP_MD *signature_hash(struct bytes algorithm, enum key_type *type, bool *ed25519)
{
    struct cur c = cur_of(algorithm.p, algorithm.len);
    struct bytes oid, null;
    bool ec = false;
    const EVP_MD *md = NULL;
    *ed25519 = false;
    if (der_get(&c, DER_OID, &oid) < 0)
        return NULL;
    if (OID_IS(oid, OID_ED25519) && cur_done(&c)) {
        *ed25519 = true;
        *type = KEY_ED25519;
        return NULL;
    }
    if (OID_IS(oid, OID_ECDSA_SHA256) || OID_IS(oid, OID_RSA_SHA256))
        md = EVP_sha256();
    else if (OID_IS(oid, OID_ECDSA_SHA384) || OID_IS(oid, OID_RSA_SHA384))
        md = EVP_sha384();
    ec = OID_IS(oid, OID_ECDSA_SHA256) || OID_IS(oid, OID_ECDSA_SHA384);
    /* RFC 5758 section 3.2: no parameters for ECDSA; RFC 4055 section 5: NULL for RSA. */
    if (md && !ec && (der_get(&c, DER_NULL, &null) < 0 || null.len != 0))
        return NULL;
    *type = ec ? KEY_P256 : KEY_RSA;
    return cur_done(&c) ? md : NULL;
}

static bool fits(enum key_type algorithm, enum key_type key)
{
    return algorithm == key || (algorithm == KEY_P256 && key == KEY_P384);
}

/* A hash that is not the key's usual one, as `openssl req` makes for P-384. */
static bool verify_with(const struct reader *r, const struct key *k, const EVP_MD *md)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = ctx && EVP_DigestVerifyInit(ctx, NULL, md, NULL, key_evp(k)) == 1 &&
              EVP_DigestVerify(ctx, r->signature.p, r->signature.len, r->info.p, r->info.len) == 1;
    EVP_MD_CTX_free(ctx);
    ERR_clear_error();
    return ok;
}

static int check_signature(struct reader *r)
{
    struct err why = {0};
    enum key_type type = KEY_RSA;
    bool ed25519;
    struct key *k = key_once(r->csr->spki.p, r->csr->spki.len, &why);
    if (!k)
        return refuse(r, "csr-key", why.msg);
    const EVP_MD *md = signature_hash(r->algorithm, &type, &ed25519);
    bool ok = (md || ed25519) && fits(type, key_kind(k));
    if (ok && !ed25519 && EVP_MD_get_type(md) != (key_kind(k) == KEY_P384 ? NID_sha384 : NID_sha256))
        ok = verify_with(r, k, md);
    else if (ok)
        ok = key_verify(k, true, r->signature.p, r->signature.len, r->info.p, r->info.len, &why) == 0;
    key_once_done(k);
    if (!ok)
        return refuse(r, "csr-signature",
                      "it is not signed by its own key with ECDSA or RSA PKCS#1 (SHA-256, SHA-384) or Ed25519");
    return 0;
}

int csr_read(struct csr *csr, const uint8_t *der, size_t len, struct err *e)
{
    struct reader r = {.csr = csr, .e = e};
    memset(csr, 0, sizeof *csr);
    if (len > CSR_MAX)
        return err_set(e, ERR_BAD_CSR, "csr-size", "certificate request of %zu bytes; at most %d", len, CSR_MAX);
    if (read_request(&r, der, len) < 0)
        return -1;
    if (csr->uri.len == 0)
        return refuse(&r, "csr-uri", "it does not ask for the SPIFFE ID: one URI in subjectAltName");
    if (check_common_names(&r) < 0)
        return -1;
    if (csr->spki.len > CA_SPKI_MAX)
        return refuse(&r, "csr-key", "its key is larger than any that is accepted");
    if (!SHA256(csr->spki.p, csr->spki.len, csr->spki_sha256))
        return err_set(e, ERR_INTERNAL, "digest", "SHA-256 failed");
    return check_signature(&r); /* last: it costs the most */
}

int csr_match(const struct csr *csr, const char *uri, const char *const *dns, size_t dns_count,
              struct err *e)
{
    if (!bytes_eq_str(csr->uri, uri))
        return err_set(e, ERR_BAD_CSR, "csr-uri", "the certificate request asks for another SPIFFE ID than the order's");
    size_t found = 0;
    for (size_t i = 0; i < csr->dns_count; i++)
        for (size_t k = 0; k < dns_count; k++)
            found += bytes_eq_str(csr->dns[i], dns[k]);
    /* Neither side has a name twice, so equal counts are equal sets. */
    if (found != csr->dns_count || found != dns_count)
        return err_set(e, ERR_BAD_CSR, "csr-dns",
                       "the certificate request's DNS names are not exactly the order's (%zu there, %zu here)",
                       dns_count, csr->dns_count);
    return 0;
}
