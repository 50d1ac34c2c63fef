/* Certificates and the entries they stand for: the body of a tbs_cert_entry from a certificate,
 * and the fields of both. One way only: who rebuilds the body from a certificate must come to the
 * same bytes, so everything is copied as it stands, and only what the entry lacks is left out:
 * serial, signature algorithm, the key (hashed), the stapled proof.
 */
#include "base/der.h"
#include "base/oid.h"
#include "tlog/internal.h"
#include "tlog/proof.h"
#include <string.h>

#define EXTENSIONS_MAX 64
#define DER_UID1 (DER_CTX | 1)
#define DER_UID2 (DER_CTX | 2)
#define DER_VERSION (DER_CTX_CONS | 0)
#define DER_EXTENSIONS (DER_CTX_CONS | 3)

struct tbs_parts { /* views; what body and certificate share, whole elements */
    struct bytes version, issuer, validity, subject, uid1, uid2;
    struct bytes extensions; /* contents of the SEQUENCE; empty when absent */
};

static int cert_fail(struct err *e, const char *why)
{
    return err_set(e, ERR_MALFORMED, "cert-format",
                   "not a certificate this log can stand for (RFC 5280 section 4.1): %s", why);
}

static struct bytes element(struct cur *c, uint8_t tag)
{
    uint8_t t;
    struct bytes contents, whole;
    if (der_any(c, &t, &contents, &whole) < 0 || t != tag) {
        c->failed = true;
        return (struct bytes){NULL, 0};
    }
    return whole;
}

static void version_read(struct cur *c, struct tbs_parts *t)
{
    t->version = element(c, DER_VERSION);
    if (!bytes_eq(t->version, "\xa0\x03\x02\x01\x02", 5)) /* v3 */
        c->failed = true;
}

static void validity_read(struct cur *c, struct tbs_parts *t, struct tlog_cert_fields *f)
{
    struct bytes contents;
    t->validity = element(c, DER_SEQUENCE);
    struct cur in = cur_of(t->validity.p, t->validity.len), times;
    if (c->failed || der_get(&in, DER_SEQUENCE, &contents) < 0)
        return;
    times = cur_of(contents.p, contents.len);
    der_time(&times, &f->not_before);
    der_time(&times, &f->not_after);
    if (!cur_done(&times))
        c->failed = true;
}

static void names_read(struct cur *c, struct tbs_parts *t, struct tlog_cert_fields *f)
{
    f->issuer = t->issuer = element(c, DER_SEQUENCE);
    validity_read(c, t, f);
    f->subject = t->subject = element(c, DER_SEQUENCE);
}

/* What follows the key: unique identifiers, extensions, end. */
static void tail_read(struct cur *c, struct tbs_parts *t)
{
    if (der_peek(c, DER_UID1))
        t->uid1 = element(c, DER_UID1);
    if (der_peek(c, DER_UID2))
        t->uid2 = element(c, DER_UID2);
    struct cur explicit_tag;
    if (der_peek(c, DER_EXTENSIONS)) {
        der_enter(c, DER_EXTENSIONS, &explicit_tag);
        der_get(&explicit_tag, DER_SEQUENCE, &t->extensions);
        if (!cur_done(&explicit_tag) || t->extensions.len == 0)
            c->failed = true;
    }
    if (!cur_done(c))
        c->failed = true;
}

struct extension {
    struct bytes oid, value, whole; /* value: contents of the OCTET STRING */
    bool critical;
};

static int extension_next(struct cur *c, struct extension *x)
{
    struct cur in;
    const uint8_t *start = c->p;
    x->critical = false;
    if (der_enter(c, DER_SEQUENCE, &in) < 0)
        return -1;
    x->whole = (struct bytes){start, (size_t)(c->p - start)};
    der_get(&in, DER_OID, &x->oid);
    if (der_peek(&in, DER_BOOLEAN) && (der_bool(&in, &x->critical) < 0 || !x->critical))
        return -1; /* X.690 section 11.5: a default value is not written */
    der_get(&in, DER_OCTET_STRING, &x->value);
    return cur_done(&in) ? 0 : -1;
}

/* Last byte first: there the identifiers of extensions differ. */
static bool oid_eq(struct bytes a, const void *oid, size_t len)
{
    const uint8_t *b = oid;
    return a.len == len && (len == 0 || (a.p[len - 1] == b[len - 1] && memcmp(a.p, b, len) == 0));
}

/* Every extension well-formed, none twice (RFC 5280 section 4.2). `want` gets the one of that
 * identifier (oid empty when there is none); `others` the length of all the rest; `basic` the
 * basicConstraints' value, empty when there are none. */
static int extensions_scan(struct bytes list, const char *oid, size_t oid_len,
                           struct extension *want, size_t *others, struct bytes *basic,
                           struct err *e)
{
    struct bytes seen[EXTENSIONS_MAX];
    size_t n = 0;
    struct cur c = cur_of(list.p, list.len);
    struct extension x;
    memset(want, 0, sizeof *want);
    *others = 0;
    *basic = (struct bytes){NULL, 0};
    while (cur_left(&c) > 0) {
        if (extension_next(&c, &x) < 0)
            return cert_fail(e, "a malformed extension");
        if (n == EXTENSIONS_MAX)
            return cert_fail(e, "more than 64 extensions");
        for (size_t i = 0; i < n; i++)
            if (oid_eq(seen[i], x.oid.p, x.oid.len))
                return cert_fail(e, "an extension twice");
        seen[n++] = x.oid;
        if (oid_eq(x.oid, OID_EXT_BASIC, OID_LEN(OID_EXT_BASIC)))
            *basic = x.value;
        if (oid_eq(x.oid, oid, oid_len))
            *want = x;
        else
            *others += x.whole.len;
    }
    return 0;
}

/* BasicConstraints (RFC 5280 section 4.2.1.9). */
static int ca_read(bool *ca, struct bytes basic, struct err *e)
{
    struct cur c = cur_of(basic.p, basic.len), in;
    uint64_t path_length;
    *ca = false;
    if (basic.len == 0)
        return 0;
    der_enter(&c, DER_SEQUENCE, &in);
    if (der_peek(&in, DER_BOOLEAN))
        der_bool(&in, ca);
    if (der_peek(&in, DER_INTEGER))
        der_u64(&in, &path_length);
    return cur_done(&in) && cur_done(&c) ? 0 : cert_fail(e, "malformed basicConstraints");
}

/* TBSCertificate up to its end; the certificate's outer signature is form-checked only. */
static int cert_read(struct tbs_parts *t, struct tlog_cert_fields *f, const uint8_t *cert,
                     size_t len, struct err *e)
{
    struct cur c = cur_of(cert, len), outer, tbs, spki;
    struct bytes sig;
    memset(t, 0, sizeof *t);
    memset(f, 0, sizeof *f);
    der_enter(&c, DER_SEQUENCE, &outer);
    if (!cur_done(&c))
        return cert_fail(e, "the outer SEQUENCE is damaged, or bytes follow it");
    der_enter(&outer, DER_SEQUENCE, &tbs);
    struct bytes alg = element(&outer, DER_SEQUENCE);
    der_bits(&outer, &sig);
    if (!cur_done(&outer))
        return cert_fail(e, "it is not TBSCertificate, algorithm, signature");
    version_read(&tbs, t);
    der_uint(&tbs, &f->serial);
    struct bytes inner = element(&tbs, DER_SEQUENCE);
    names_read(&tbs, t, f);
    struct bytes key = element(&tbs, DER_SEQUENCE);
    tail_read(&tbs, t);
    if (tbs.failed)
        return cert_fail(e, "the TBSCertificate is no strict DER of version 3");
    if (!bytes_eq(inner, alg.p, alg.len)) /* RFC 5280 section 4.1.1.2 */
        return cert_fail(e, "the inner and outer signature algorithms differ");
    struct cur k = cur_of(key.p, key.len);
    der_enter(&k, DER_SEQUENCE, &spki);
    f->spki_algorithm = element(&spki, DER_SEQUENCE);
    der_bits(&spki, &sig);
    if (!cur_done(&spki))
        return cert_fail(e, "the subject public key is malformed");
    tlog_sha256(f->spki_hash, key.p, key.len);
    f->extensions = t->extensions;
    return 0;
}

static void header_write(struct buf *out, uint8_t tag, size_t len)
{
    buf_u8(out, tag);
    if (len < 0x80) {
        buf_u8(out, (uint8_t)len);
    } else if (len < 0x100) {
        buf_u8(out, 0x81);
        buf_u8(out, (uint8_t)len);
    } else if (len < 0x10000) {
        buf_u8(out, 0x82);
        buf_u16(out, (uint16_t)len);
    } else {
        out->failed = true; /* base/der reads no longer ones either */
    }
}

static size_t header_size(size_t len)
{
    return len < 0x80 ? 2 : len < 0x100 ? 3 : 4;
}

/* Extensions but the one that is left out; the element goes when nothing remains (SIZE 1..MAX). */
static void extensions_write(struct buf *body, struct bytes list, struct bytes without, size_t len)
{
    if (len == 0)
        return;
    header_write(body, DER_EXTENSIONS, header_size(len) + len);
    header_write(body, DER_SEQUENCE, len);
    if (without.len == 0) {
        buf_put(body, list.p, list.len);
        return;
    }
    size_t before = (size_t)(without.p - list.p);
    buf_put(body, list.p, before);
    buf_put(body, without.p + without.len, list.len - before - without.len);
}

static void body_write(struct buf *body, const struct tbs_parts *t,
                       const struct tlog_cert_fields *f, struct bytes without, size_t ext_len)
{
    buf_put(body, t->version.p, t->version.len);
    buf_put(body, t->issuer.p, t->issuer.len);
    buf_put(body, t->validity.p, t->validity.len);
    buf_put(body, t->subject.p, t->subject.len);
    buf_put(body, f->spki_algorithm.p, f->spki_algorithm.len);
    header_write(body, DER_OCTET_STRING, TLOG_HASH);
    buf_put(body, f->spki_hash, TLOG_HASH);
    buf_put(body, t->uid1.p, t->uid1.len);
    buf_put(body, t->uid2.p, t->uid2.len);
    extensions_write(body, t->extensions, without, ext_len);
}

int tlog_cert_body(struct buf *body, struct tlog_cert_fields *f, struct bytes *stapled,
                   const uint8_t *cert, size_t len, struct err *e)
{
    struct tbs_parts t;
    struct extension proof;
    struct bytes basic;
    size_t others;
    *stapled = (struct bytes){NULL, 0};
    if (cert_read(&t, f, cert, len, e) < 0 ||
        extensions_scan(t.extensions, OID_STAPLED_PROOF, OID_LEN(OID_STAPLED_PROOF), &proof,
                        &others, &basic, e) < 0 ||
        ca_read(&f->ca, basic, e) < 0) /* an entry of it would not be read back */
        return -1;
    if (proof.critical)
        return cert_fail(e, "the stapled proof is marked critical");
    body_write(body, &t, f, proof.whole, others);
    if (body->failed)
        return err_set(e, ERR_TOO_LARGE, "cert-format",
                       "the certificate's log entry does not fit (out of memory or over %d bytes)",
                       TLOG_ENTRY_MAX);
    *stapled = proof.value;
    return 0;
}

void tlog_cert_body_write(struct buf *body, const struct tlog_cert_fields *f)
{
    uint8_t times[64];
    struct derw w;
    derw_init(&w, times, sizeof times);
    derw_time(&w, f->not_after);
    derw_time(&w, f->not_before);
    derw_wrap(&w, DER_SEQUENCE, 0);
    struct tbs_parts t = {.version = {(const uint8_t *)"\xa0\x03\x02\x01\x02", 5},
                          .issuer = f->issuer,
                          .validity = derw_bytes(&w),
                          .subject = f->subject,
                          .extensions = f->extensions};
    body_write(body, &t, f, (struct bytes){NULL, 0}, f->extensions.len);
    if (w.failed)
        body->failed = true;
}

int tlog_entry_cert_fields(struct tlog_cert_fields *f, struct bytes body, struct err *e)
{
    struct tbs_parts t;
    struct extension none;
    struct bytes hash, basic;
    size_t others;
    memset(f, 0, sizeof *f);
    memset(&t, 0, sizeof t);
    struct cur c = cur_of(body.p, body.len);
    version_read(&c, &t);
    names_read(&c, &t, f);
    f->spki_algorithm = element(&c, DER_SEQUENCE);
    der_get(&c, DER_OCTET_STRING, &hash);
    tail_read(&c, &t);
    if (c.failed || hash.len != TLOG_HASH)
        return err_set(e, ERR_MALFORMED, "entry-format",
                       "the entry's body is no TBSCertificateLogEntry");
    memcpy(f->spki_hash, hash.p, TLOG_HASH);
    f->extensions = t.extensions;
    if (extensions_scan(f->extensions, OID_STAPLED_PROOF, OID_LEN(OID_STAPLED_PROOF), &none,
                        &others, &basic, e) < 0 ||
        ca_read(&f->ca, basic, e) < 0)
        return -1;
    if (none.whole.len > 0)
        return err_set(e, ERR_MALFORMED, "entry-format",
                       "the entry's body has a stapled proof, which no entry has");
    return 0;
}

int tlog_binding_from_cert(struct tlog_vkey *k, const uint8_t *cert, size_t len, struct err *e)
{
    struct tbs_parts t;
    struct tlog_cert_fields f;
    struct extension x;
    size_t others;
    struct bytes text, basic;
    memset(k, 0, sizeof *k);
    if (cert_read(&t, &f, cert, len, e) < 0 ||
        extensions_scan(t.extensions, OID_LOG_BINDING, OID_LEN(OID_LOG_BINDING), &x, &others,
                        &basic, e) < 0)
        return -1;
    if (x.whole.len == 0)
        return err_set(e, ERR_UNAUTHORIZED, "binding-missing",
                       "the issuing certificate names no log (log binding extension), so nothing "
                       "says which log must prove its leaves; ask the authority for its "
                       "certificate, or give the log's verifier key yourself");
    struct cur c = cur_of(x.value.p, x.value.len);
    if (der_get(&c, DER_UTF8, &text) < 0 || !cur_done(&c))
        return cert_fail(e, "the log binding is no UTF8String");
    return tlog_vkey_parse(k, (const char *)text.p, text.len, e);
}
