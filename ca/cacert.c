#include "ca/cacert.h"
#include "base/fileio.h"
#include "base/key.h"
#include "base/oid.h"
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <string.h>

#define DAY 86400
#define NAME_MAX_BYTES 64 /* ub-common-name, ub-organization-name (RFC 5280, appendix A.1) */
#define EXT(w, oid, critical, mark) tbs_extension(w, oid, OID_LEN(oid), critical, mark)

/* --- reading -------------------------------------------------------------------------------------- */

static bool read_key_id(struct cacert *c, struct cur *extensions)
{
    while (cur_left(extensions)) {
        struct cur in, id;
        struct bytes oid, value;
        if (der_enter(extensions, DER_SEQUENCE, &in) < 0 || der_get(&in, DER_OID, &oid) < 0)
            return false;
        der_optional(&in, DER_BOOLEAN, &value);
        if (der_get(&in, DER_OCTET_STRING, &value) < 0 || !cur_done(&in))
            return false;
        if (!bytes_eq(oid, OID_EXT_SKI, OID_LEN(OID_EXT_SKI)))
            continue;
        id = cur_of(value.p, value.len);
        return der_get(&id, DER_OCTET_STRING, &c->key_id) == 0 && cur_done(&id) &&
               c->key_id.len == KEY_ID_LEN;
    }
    return false;
}

static bool read_fields(struct cacert *c)
{
    struct cur all = cur_of(c->der, c->len), cert, tbs, times, ext, list;
    struct bytes skip, body;
    uint8_t tag;
    if (der_enter(&all, DER_SEQUENCE, &cert) < 0 || !cur_done(&all) ||
        der_any(&cert, &tag, &body, &c->tbs) < 0 || tag != DER_SEQUENCE)
        return false;
    der_get(&cert, DER_SEQUENCE, &skip);
    der_bits(&cert, &c->signature);
    tbs = cur_of(body.p, body.len);
    der_get(&tbs, DER_CTX_CONS, &skip);
    der_u64(&tbs, &c->serial);
    der_get(&tbs, DER_SEQUENCE, &skip);
    der_get(&tbs, DER_SEQUENCE, &skip);
    der_enter(&tbs, DER_SEQUENCE, &times);
    der_time(&times, &c->not_before);
    der_time(&times, &c->not_after);
    if (!cur_done(&cert) || !cur_done(&times) ||
        der_any(&tbs, &tag, &skip, &c->subject) < 0 || tag != DER_SEQUENCE ||
        der_any(&tbs, &tag, &skip, &c->spki) < 0 || tag != DER_SEQUENCE ||
        der_enter(&tbs, DER_CTX_CONS | 3, &ext) < 0 || der_enter(&ext, DER_SEQUENCE, &list) < 0)
        return false;
    return read_key_id(c, &list);
}

int cacert_parse(struct cacert *c, const uint8_t *der, size_t len, const char *what, struct err *e)
{
    memset(c, 0, sizeof *c);
    if (len <= sizeof c->der) {
        memcpy(c->der, der, len);
        c->len = len;
        if (read_fields(c))
            return 0;
    }
    return err_set(e, ERR_CORRUPT, "ca-cert",
                   "%s is not a CA certificate that this authority made; restore it from a backup",
                   what);
}

/* What a reader of the first certificate alone would pass over. */
static bool nothing_left(BIO *in)
{
    char *rest;
    long n = BIO_get_mem_data(in, &rest);
    for (long i = 0; i < n; i++)
        if (!strchr(" \t\r\n", rest[i]) || !rest[i])
            return false;
    return true;
}

int cacert_load(struct cacert *c, const char *dir, const char *file, struct err *e)
{
    char path[4096];
    struct buf pem;
    int n = snprintf(path, sizeof path, "%s/%s", dir, file);
    if (n < 0 || (size_t)n >= sizeof path)
        return err_set(e, ERR_CONFIG, "ca-cert", "the path of %s is too long", file);
    buf_init(&pem, 65536);
    if (file_read(&pem, path, 65536, e) < 0) {
        buf_free(&pem);
        return e->code == ERR_NOT_FOUND
                   ? err_wrap(e, "there is no certificate; did `mayfly init` end well?")
                   : -1;
    }
    BIO *in = BIO_new_mem_buf(pem.p, (int)pem.len);
    char *name = NULL, *header = NULL;
    unsigned char *der = NULL;
    long len = 0;
    int r = -1;
    bool one = in && PEM_read_bio(in, &name, &header, &der, &len) == 1 && strcmp(name, PEM_STRING_X509) == 0;
    if (one && nothing_left(in))
        r = cacert_parse(c, der, (size_t)len, path, e);
    else if (one)
        err_set(e, ERR_CORRUPT, "ca-cert",
                "%s holds more than one certificate; leave the one that this authority made", path);
    else
        err_set(e, ERR_CORRUPT, "ca-cert", "%s holds no PEM certificate; restore it from a backup", path);
    OPENSSL_free(name);
    OPENSSL_free(header);
    OPENSSL_free(der);
    BIO_free(in);
    buf_free(&pem);
    return r;
}

int cacert_verify(const struct cacert *c, const struct cacert *issuer, const char *what, struct err *e)
{
    struct key *k = key_from_spki(issuer->spki.p, issuer->spki.len, e);
    if (!k)
        return err_wrap(e, "the issuer of the %s certificate", what);
    int r = key_verify(k, true, c->signature.p, c->signature.len, c->tbs.p, c->tbs.len, e);
    key_free(k);
    if (r == 0)
        return 0;
    return err_set(e, ERR_CORRUPT, "ca-chain",
                   "the %s certificate is not signed by the root certificate beside it; restore "
                   "both from one backup",
                   what);
}

void cacert_pem(struct buf *out, struct bytes der)
{
    struct buf b64;
    buf_init(&b64, 65536);
    buf_b64(&b64, der.p, der.len);
    out->failed |= b64.failed;
    buf_str(out, "-----BEGIN CERTIFICATE-----\n");
    for (size_t i = 0; i < b64.len; i += 64) { /* RFC 7468 section 2 */
        buf_put(out, b64.p + i, b64.len - i < 64 ? b64.len - i : 64);
        buf_str(out, "\n");
    }
    buf_str(out, "-----END CERTIFICATE-----\n");
    buf_free(&b64);
}

/* --- building ------------------------------------------------------------------------------------- */

static void write_attribute(struct derw *w, const char *oid, size_t oid_len, const char *value)
{
    size_t m = derw_mark(w);
    derw_tlv(w, DER_UTF8, value, strlen(value));
    derw_oid(w, oid, oid_len);
    derw_wrap(w, DER_SEQUENCE, m);
    derw_wrap(w, DER_SET, m);
}

static struct bytes write_name(uint8_t *array, size_t cap, const struct cacert_want *want)
{
    char cn[64 + SPIFFE_TD_MAX];
    struct derw w;
    snprintf(cn, sizeof cn, "Mayfly %s CA %s", want->root ? "Root" : "Issuing", want->trust_domain);
    if (strlen(cn) > NAME_MAX_BYTES)
        snprintf(cn, sizeof cn, "Mayfly %s CA", want->root ? "Root" : "Issuing");
    derw_init(&w, array, cap);
    write_attribute(&w, OID_CN, OID_LEN(OID_CN), cn);
    if (strlen(want->trust_domain) <= NAME_MAX_BYTES)
        write_attribute(&w, OID_O, OID_LEN(OID_O), want->trust_domain);
    derw_wrap(&w, DER_SEQUENCE, 0);
    return derw_bytes(&w);
}

static struct bytes write_extensions(uint8_t *array, size_t cap, const struct cacert_want *want,
                                     const uint8_t key_id[KEY_ID_LEN])
{
    struct derw w;
    size_t m;
    derw_init(&w, array, cap);
    if (!want->root) {
        derw_tlv(&w, DER_UTF8, want->vkey.p, want->vkey.len);
        EXT(&w, OID_LOG_BINDING, false, 0);
    }
    m = derw_mark(&w);
    char id[sizeof "spiffe://" + SPIFFE_TD_MAX];
    snprintf(id, sizeof id, "spiffe://%s", want->trust_domain);
    derw_tlv(&w, 0x86, id, strlen(id));
    derw_wrap(&w, DER_SEQUENCE, m);
    EXT(&w, OID_EXT_SAN, false, m);

    m = derw_mark(&w);
    if (!want->root)
        derw_u64(&w, 0); /* pathLenConstraint */
    derw_bool(&w, true);
    derw_wrap(&w, DER_SEQUENCE, m);
    EXT(&w, OID_EXT_BASIC, true, m);

    m = derw_mark(&w);
    derw_tlv(&w, DER_BIT_STRING, "\x01\x06", 2); /* keyCertSign, cRLSign */
    EXT(&w, OID_EXT_KEY_USAGE, true, m);

    m = derw_mark(&w);
    derw_tlv(&w, DER_OCTET_STRING, key_id, KEY_ID_LEN);
    EXT(&w, OID_EXT_SKI, false, m);
    if (!want->root) {
        m = derw_mark(&w);
        derw_tlv(&w, DER_CTX, want->issuer->key_id.p, want->issuer->key_id.len);
        derw_wrap(&w, DER_SEQUENCE, m);
        EXT(&w, OID_EXT_AKI, false, m);
    }
    return derw_bytes(&w);
}

int cacert_draft(struct cacert_draft *d, const struct cacert_want *want, struct err *e)
{
    struct cur c = cur_of(want->spki.p, want->spki.len), in;
    struct bytes bits, algorithm, skip;
    uint8_t tag, key_id[KEY_ID_LEN];
    struct tbs_parts *p = &d->parts;
    if (der_enter(&c, DER_SEQUENCE, &in) < 0 || !cur_done(&c) || der_any(&in, &tag, &skip, &algorithm) < 0 ||
        der_bits(&in, &bits) < 0 || !cur_done(&in))
        return err_set(e, ERR_HSM, "hsm-key", "the token's public key is not a SubjectPublicKeyInfo");
    struct digest digest;
    if (digest_init(&digest, e) < 0)
        return -1;
    int r = digest_key_id(&digest, bits.p, bits.len, key_id);
    if (r == 0)
        r = digest_sha256(&digest, want->spki.p, want->spki.len, p->spki_hash);
    digest_free(&digest);
    p->signature_algorithm = tbs_ecdsa_sha384; /* the root signs both, and its key is P-384 */
    p->subject = write_name(d->subject, sizeof d->subject, want);
    p->issuer = want->root ? p->subject : want->issuer->subject;
    p->not_before = want->now - PROFILE_BACKDATE;
    p->not_after = want->now + (int64_t)DAY * (want->root ? CACERT_ROOT_DAYS : CACERT_ISSUING_DAYS);
    if (!want->root && p->not_after > want->issuer->not_after)
        p->not_after = want->issuer->not_after;
    p->spki = want->spki;
    p->spki_algorithm = algorithm;
    p->extensions = write_extensions(d->extensions, sizeof d->extensions, want, key_id);
    if (r < 0 || p->subject.len == 0 || p->extensions.len == 0)
        return err_set(e, ERR_INTERNAL, "ca-cert", "the CA certificate does not fit its arrays");
    return 0;
}
