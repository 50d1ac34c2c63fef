#include "workload/limits.h"
#include "workload/parse.h"
#include "base/der.h"
#include "base/oid.h"
#include "base/spiffe.h"
#include <string.h>

struct leaf { /* views into the certificate */
    int64_t not_before, not_after;
    struct bytes algorithm; /* of its key: AlgorithmIdentifier, whole */
    struct bytes point;     /* the key itself */
    struct bytes uri;
};

int parse_check_certs(struct bytes der, size_t max, struct err *e)
{
    struct cur c = cur_of(der.p, der.len);
    struct bytes contents;
    size_t n = 0;
    while (cur_left(&c) && der_get(&c, DER_SEQUENCE, &contents) == 0)
        n++;
    if (!cur_done(&c) || n == 0 || n > max)
        return err_set(e, ERR_MALFORMED, "workload-answer",
                       "no list of 1 to %zu certificates where one should be", max);
    return 0;
}

/* subjectAltName with exactly one URI, RFC 5280 §4.2.1.6 and the X509-SVID standard §2. */
static int read_san(struct bytes value, struct leaf *l)
{
    struct cur c = cur_of(value.p, value.len), names;
    struct bytes name;
    uint8_t tag;
    if (der_enter(&c, DER_SEQUENCE, &names) < 0 || !cur_done(&c))
        return -1;
    while (cur_left(&names)) {
        if (der_any(&names, &tag, &name, NULL) < 0)
            return -1;
        if (tag != (DER_CTX | 6))
            continue;
        if (l->uri.p)
            return -1;
        l->uri = name;
    }
    return cur_done(&names) && l->uri.p ? 0 : -1;
}

static int read_extensions(struct cur *tbs, struct leaf *l)
{
    struct cur outer, list, ext;
    struct bytes oid, critical, value;
    if (der_enter(tbs, DER_CTX_CONS | 3, &outer) < 0 || der_enter(&outer, DER_SEQUENCE, &list) < 0 ||
        !cur_done(&outer))
        return -1;
    while (cur_left(&list)) {
        if (der_enter(&list, DER_SEQUENCE, &ext) < 0 || der_get(&ext, DER_OID, &oid) < 0)
            return -1;
        der_optional(&ext, DER_BOOLEAN, &critical);
        if (der_get(&ext, DER_OCTET_STRING, &value) < 0 || !cur_done(&ext))
            return -1;
        if (bytes_eq(oid, OID_EXT_SAN, OID_LEN(OID_EXT_SAN)) && read_san(value, l) < 0)
            return -1;
    }
    return l->uri.p ? 0 : -1;
}

static int read_spki(struct cur *tbs, struct leaf *l)
{
    struct cur spki;
    struct bytes contents;
    uint8_t tag;
    if (der_enter(tbs, DER_SEQUENCE, &spki) < 0 || der_any(&spki, &tag, &contents, &l->algorithm) < 0 ||
        tag != DER_SEQUENCE || der_bits(&spki, &l->point) < 0)
        return -1;
    return cur_done(&spki) ? 0 : -1;
}

static int read_leaf(struct cur *chain, struct leaf *l)
{
    struct cur cert, tbs, validity;
    struct bytes skip;
    *l = (struct leaf){0};
    if (der_enter(chain, DER_SEQUENCE, &cert) < 0 || der_enter(&cert, DER_SEQUENCE, &tbs) < 0)
        return -1;
    if (der_get(&tbs, DER_CTX_CONS | 0, &skip) < 0 || der_uint(&tbs, &skip) < 0 ||
        der_get(&tbs, DER_SEQUENCE, &skip) < 0 ||
        der_get(&tbs, DER_SEQUENCE, &skip) < 0 || der_enter(&tbs, DER_SEQUENCE, &validity) < 0 ||
        der_time(&validity, &l->not_before) < 0 || der_time(&validity, &l->not_after) < 0 ||
        !cur_done(&validity) ||
        der_get(&tbs, DER_SEQUENCE, &skip) < 0 || read_spki(&tbs, l) < 0)
        return -1;
    der_optional(&tbs, DER_CTX | 1, &skip);
    der_optional(&tbs, DER_CTX | 2, &skip);
    return read_extensions(&tbs, l) < 0 || !cur_done(&tbs) ? -1 : 0;
}

/* ECPrivateKey (RFC 5915) may carry its public half: then it is the certificate's. */
static bool ec_fits(struct bytes key, struct bytes point)
{
    struct cur c = cur_of(key.p, key.len), ec, pub;
    struct bytes skip, bits;
    uint64_t version;
    if (der_enter(&c, DER_SEQUENCE, &ec) < 0 || !cur_done(&c) || der_u64(&ec, &version) < 0 || version != 1 ||
        der_get(&ec, DER_OCTET_STRING, &skip) < 0)
        return false;
    der_optional(&ec, DER_CTX_CONS | 0, &skip);
    if (!der_peek(&ec, DER_CTX_CONS | 1))
        return cur_done(&ec);
    return der_enter(&ec, DER_CTX_CONS | 1, &pub) == 0 && der_bits(&pub, &bits) == 0 && cur_done(&pub) &&
           cur_done(&ec) &&
           bytes_eq(bits, point.p, point.len);
}

/* PKCS#8 (RFC 5958): of the certificate's algorithm and curve. */
static bool key_fits(const struct secret *key, const struct leaf *l)
{
    struct cur c = cur_of(key->p, key->len), info;
    struct bytes algorithm, inner, contents;
    uint64_t version;
    uint8_t tag;
    if (der_enter(&c, DER_SEQUENCE, &info) < 0 || !cur_done(&c) || der_u64(&info, &version) < 0 ||
        version > 1 ||
        der_any(&info, &tag, &contents, &algorithm) < 0 || der_get(&info, DER_OCTET_STRING, &inner) < 0)
        return false;
    der_optional(&info, DER_CTX_CONS | 0, &contents);
    der_optional(&info, DER_CTX | 1, &contents);
    if (!cur_done(&info) || !bytes_eq(algorithm, l->algorithm.p, l->algorithm.len))
        return false;
    struct cur a = cur_of(algorithm.p, algorithm.len), in;
    struct bytes oid;
    if (der_enter(&a, DER_SEQUENCE, &in) < 0 || der_get(&in, DER_OID, &oid) < 0)
        return false;
    return !bytes_eq(oid, OID_EC_PUBLIC_KEY, OID_LEN(OID_EC_PUBLIC_KEY)) || ec_fits(inner, l->point);
}

int parse_check_svid(struct wl_svid *s, struct err *e)
{
    struct leaf l;
    struct cur c = cur_of(s->chain, s->chain_len);
    if (parse_check_certs((struct bytes){s->chain, s->chain_len}, LIMIT_CHAIN, e) < 0)
        return -1;
    if (read_leaf(&c, &l) < 0)
        return err_set(e, ERR_MALFORMED, "svid-chain",
                       "the certificate of %.200s is not in the form of an X509-SVID",
                       s->spiffe_id);
    if (!bytes_eq_str(l.uri, s->spiffe_id))
        return err_set(e, ERR_MALFORMED, "svid-id", "the certificate given for %.200s is another's",
                       s->spiffe_id);
    if (l.not_after < l.not_before)
        return err_set(e, ERR_MALFORMED, "svid-chain", "the certificate of %.200s ends before it begins",
                       s->spiffe_id);
    if (!key_fits(&s->key, &l))
        return err_set(e, ERR_MALFORMED, "svid-key",
                       "the private key of %.200s does not belong to its certificate",
                       s->spiffe_id);
    s->not_before = l.not_before;
    s->not_after = l.not_after;
    return 0;
}
