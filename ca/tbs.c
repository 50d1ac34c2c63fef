/* Written back to front (base/der.h): in each function the last field stands first. */
#include "ca/tbs.h"
#include "base/crl_name.h"
#include "base/oid.h"
#include <string.h>

#define VIEW(literal) {(const uint8_t *)(literal), sizeof(literal) - 1}
const struct bytes tbs_ecdsa_sha256 = VIEW("\x30\x0a\x06\x08" OID_ECDSA_SHA256);
const struct bytes tbs_ecdsa_sha384 = VIEW("\x30\x0a\x06\x08" OID_ECDSA_SHA384);

/* GeneralName choices (RFC 5280, section 4.2.1.6) */
enum { GN_DNS = 0x82, GN_URI = 0x86, GN_IP = 0x87 };

#define EXT(w, oid, critical, mark) tbs_extension(w, oid, OID_LEN(oid), critical, mark)

void tbs_extension(struct derw *w, const char *oid, size_t oid_len, bool critical, size_t mark)
{
    derw_wrap(w, DER_OCTET_STRING, mark);
    if (critical)
        derw_bool(w, true);
    derw_oid(w, oid, oid_len);
    derw_wrap(w, DER_SEQUENCE, mark);
}

/* --- leaf ---------------------------------------------------------------------------------------- */

static void write_fixed(struct derw *w)
{
    size_t m = derw_mark(w);
    derw_tlv(w, DER_SEQUENCE, NULL, 0); /* cA DEFAULT FALSE is left out in DER */
    EXT(w, OID_EXT_BASIC, true, m);

    m = derw_mark(w);
    derw_oid(w, OID_EKU_CLIENT, OID_LEN(OID_EKU_CLIENT));
    derw_oid(w, OID_EKU_SERVER, OID_LEN(OID_EKU_SERVER));
    derw_wrap(w, DER_SEQUENCE, m);
    EXT(w, OID_EXT_EKU, false, m);

    m = derw_mark(w);
    derw_tlv(w, DER_BIT_STRING, "\x07\x80", 2); /* digitalSignature alone, for RSA too */
    EXT(w, OID_EXT_KEY_USAGE, true, m);
}

int tbs_template_init(struct tbs_template *t, const struct config *config, struct bytes issuer_name,
                      struct bytes issuer_key_id, struct err *e)
{
    struct derw w;
    t->config = config;
    t->issuer = issuer_name;
    derw_init(&w, t->aki_array, sizeof t->aki_array);
    derw_tlv(&w, DER_CTX, issuer_key_id.p, issuer_key_id.len);
    derw_wrap(&w, DER_SEQUENCE, 0);
    EXT(&w, OID_EXT_AKI, false, 0);
    t->aki = derw_bytes(&w);
    bool failed = w.failed;
    derw_init(&w, t->fixed_array, sizeof t->fixed_array);
    write_fixed(&w);
    t->fixed = derw_bytes(&w);
    failed |= w.failed;
    derw_init(&w, t->no_rev_avail_array, sizeof t->no_rev_avail_array);
    derw_tlv(&w, DER_NULL, NULL, 0);
    EXT(&w, OID_EXT_NO_REV_AVAIL, false, 0); /* RFC 9608 */
    t->no_rev_avail = derw_bytes(&w);
    if (failed || w.failed)
        return err_set(e, ERR_CORRUPT, "issuing-cert",
                       "the issuing certificate's key identifier is too long");
    return 0;
}

void tbs_point_name(struct derw *w, const char *url, size_t len)
{
    size_t m = derw_mark(w);
    derw_tlv(w, GN_URI, url, len);
    derw_wrap(w, DER_CTX_CONS, m); /* fullName */
    derw_wrap(w, DER_CTX_CONS, m); /* distributionPoint */
}

/* RFC 5280, section 4.2.1.13: one point, one name. */
static void write_revocation(struct derw *w, const struct tbs_template *t, const struct profile_leaf *leaf,
                             const uint8_t spki_hash[DIGEST_SHA256])
{
    char url[CRL_URL_MAX];
    if (leaf->lifetime <= t->config->crl.short_limit) {
        derw_raw(w, t->no_rev_avail.p, t->no_rev_avail.len);
        return;
    }
    size_t m = derw_mark(w), n = crl_url_write(url, t->config->external_url, crl_name_of(t->config->crl.shards, spki_hash));
    tbs_point_name(w, url, n);
    derw_wrap(w, DER_SEQUENCE, m);
    derw_wrap(w, DER_SEQUENCE, m);
    EXT(w, OID_EXT_CDP, false, m);
}

static void write_san(struct derw *w, const struct profile_leaf *leaf)
{
    size_t m = derw_mark(w);
    for (size_t i = leaf->names_count; i > 0; i--) {
        const struct profile_name *n = &leaf->names[i - 1];
        if (n->address_len)
            derw_tlv(w, GN_IP, n->address, n->address_len);
        else
            derw_tlv(w, GN_DNS, n->text.p, n->text.len);
    }
    derw_tlv(w, GN_URI, leaf->uri.p, leaf->uri.len);
    derw_wrap(w, DER_SEQUENCE, m);
    EXT(w, OID_EXT_SAN, true, m); /* critical: the subject is empty (RFC 5280, section 4.2.1.6) */
}

int tbs_leaf(struct tbs_parts *p, uint8_t *array, size_t cap, const struct tbs_template *t,
             struct digest *d, const struct profile_leaf *leaf, struct err *e)
{
    static const struct bytes no_subject = VIEW("\x30\x00");
    uint8_t key_id[KEY_ID_LEN];
    if (digest_key_id(d, leaf->spki_bits.p, leaf->spki_bits.len, key_id) < 0 ||
        digest_sha256(d, leaf->spki.p, leaf->spki.len, p->spki_hash) < 0)
        return err_set(e, ERR_INTERNAL, "digest", "SHA-256 failed; is memory exhausted?");
    struct derw w;
    derw_init(&w, array, cap);
    write_san(&w, leaf);
    write_revocation(&w, t, leaf, p->spki_hash);
    derw_raw(&w, t->fixed.p, t->fixed.len);
    size_t m = derw_mark(&w);
    derw_tlv(&w, DER_OCTET_STRING, key_id, sizeof key_id);
    EXT(&w, OID_EXT_SKI, false, m);
    derw_raw(&w, t->aki.p, t->aki.len);
    if (w.failed)
        return err_set(e, ERR_TOO_LARGE, "cert-size", "the names do not fit a certificate of ours");
    p->signature_algorithm = tbs_ecdsa_sha256;
    p->issuer = t->issuer;
    p->subject = no_subject;
    p->not_before = leaf->not_before;
    p->not_after = leaf->not_after;
    p->spki = leaf->spki;
    p->spki_algorithm = leaf->spki_algorithm;
    p->extensions = derw_bytes(&w);
    return 0;
}

/* --- log entry, TBSCertificate, Certificate -------------------------------------------------------- */

static void write_version(struct derw *w)
{
    static const uint8_t v3[] = {DER_CTX_CONS, 3, DER_INTEGER, 1, 2};
    derw_raw(w, v3, sizeof v3);
}

/* issuer, validity, subject */
static void write_names(struct derw *w, const struct tbs_parts *p)
{
    derw_raw(w, p->subject.p, p->subject.len);
    size_t m = derw_mark(w);
    derw_time(w, p->not_after);
    derw_time(w, p->not_before);
    derw_wrap(w, DER_SEQUENCE, m);
    derw_raw(w, p->issuer.p, p->issuer.len);
}

struct bytes tbs_log_body(uint8_t *array, size_t cap, const struct tbs_parts *p)
{
    struct derw w;
    derw_init(&w, array, cap);
    derw_raw(&w, p->extensions.p, p->extensions.len);
    derw_wrap(&w, DER_SEQUENCE, 0);
    derw_wrap(&w, DER_CTX_CONS | 3, 0);
    derw_tlv(&w, DER_OCTET_STRING, p->spki_hash, sizeof p->spki_hash);
    derw_raw(&w, p->spki_algorithm.p, p->spki_algorithm.len);
    write_names(&w, p);
    write_version(&w);
    return derw_bytes(&w);
}

struct bytes tbs_build(uint8_t *array, size_t cap, const struct tbs_parts *p, uint64_t serial,
                       struct bytes proof)
{
    struct derw w;
    derw_init(&w, array, cap);
    if (proof.len) {
        derw_raw(&w, proof.p, proof.len);
        EXT(&w, OID_STAPLED_PROOF, false, 0);
    }
    derw_raw(&w, p->extensions.p, p->extensions.len);
    derw_wrap(&w, DER_SEQUENCE, 0);
    derw_wrap(&w, DER_CTX_CONS | 3, 0);
    derw_raw(&w, p->spki.p, p->spki.len);
    write_names(&w, p);
    derw_raw(&w, p->signature_algorithm.p, p->signature_algorithm.len);
    derw_u64(&w, serial);
    write_version(&w);
    derw_wrap(&w, DER_SEQUENCE, 0);
    return derw_bytes(&w);
}

struct bytes tbs_certificate(uint8_t *array, size_t cap, struct bytes tbs,
                             struct bytes signature_algorithm, struct bytes signature)
{
    struct derw w;
    derw_init(&w, array, cap);
    derw_raw(&w, signature.p, signature.len);
    derw_raw(&w, "", 1); /* no unused bits */
    derw_wrap(&w, DER_BIT_STRING, 0);
    derw_raw(&w, signature_algorithm.p, signature_algorithm.len);
    derw_raw(&w, tbs.p, tbs.len);
    derw_wrap(&w, DER_SEQUENCE, 0);
    return derw_bytes(&w);
}
