#include "base/der.h"
#include "base/oid.h"
#include "ca/crl.h"
#include <stdio.h>
#include <string.h>

#define BACKDATE_MAX 10 /* seconds before now; written down here again on purpose */

static int refuse(struct err *e, const char *what)
{
    return err_set(e, ERR_INTERNAL, "lint-crl", "the CRL read back before signing is wrong: %s; it was not signed", what);
}

static int whole(struct cur *c, struct bytes *element)
{
    uint8_t tag;
    struct bytes contents;
    return der_any(c, &tag, &contents, element) < 0 || tag != DER_SEQUENCE ? -1 : 0;
}

/* --- fields ------------------------------------------------------------------------------------------ */

/* One revoked certificate, and none but the next that was asked for. */
static bool revoked_good(struct cur *list, struct cur *asked, int64_t this_update)
{
    struct ca_crl_revoked want;
    struct cur in, exts, ext, value;
    struct bytes oid, octets, reason;
    uint64_t serial;
    int64_t time;
    if (!ca_crl_next(asked, &want) || der_enter(list, DER_SEQUENCE, &in) < 0 || der_u64(&in, &serial) < 0 ||
        serial != want.serial || der_time(&in, &time) < 0 ||
        time != (want.time < this_update ? want.time : this_update))
        return false;
    if (want.reason == 0)
        return cur_done(&in);
    if (der_enter(&in, DER_SEQUENCE, &exts) < 0 || !cur_done(&in) || der_enter(&exts, DER_SEQUENCE, &ext) < 0 ||
        !cur_done(&exts) || der_get(&ext, DER_OID, &oid) < 0 || der_get(&ext, DER_OCTET_STRING, &octets) < 0 ||
        !cur_done(&ext) || !bytes_eq(oid, OID_EXT_REASON, OID_LEN(OID_EXT_REASON)))
        return false;
    value = cur_of(octets.p, octets.len);
    return der_get(&value, 0x0a, &reason) == 0 && cur_done(&value) && bytes_eq(reason, &want.reason, 1);
}

static int check_revoked(struct cur *in, const struct crl_draft *d, struct err *e)
{
    struct cur asked = cur_of(d->request.revoked.p, d->request.revoked.len), list;
    if (d->request.count == 0)
        return der_peek(in, DER_SEQUENCE) ? refuse(e, "it names somebody, and nobody was asked for") : 0;
    if (der_enter(in, DER_SEQUENCE, &list) < 0)
        return refuse(e, "it names nobody");
    while (cur_left(&list))
        if (!revoked_good(&list, &asked, d->this_update))
            return refuse(e, "it names others than it was asked to");
    return cur_left(&asked) || !cur_done(&list) ? refuse(e, "it leaves somebody out") : 0;
}

static int check_fields(struct cur *in, const struct lint_policy *p, const struct crl_draft *d, int64_t now, struct err *e)
{
    static const char algorithm[] = "\x30\x0a\x06\x08" OID_ECDSA_SHA256;
    struct bytes element;
    uint64_t version;
    int64_t from, to, end = now + p->config->crl.lifetime;
    if (der_u64(in, &version) < 0 || version != 1 || whole(in, &element) < 0 ||
        !bytes_eq(element, algorithm, sizeof algorithm - 1))
        return refuse(e, "version or algorithm");
    if (whole(in, &element) < 0 || !bytes_eq(element, p->issuer_name.p, p->issuer_name.len))
        return refuse(e, "the issuer is not the issuing certificate's subject");
    if (der_time(in, &from) < 0 || der_time(in, &to) < 0 || from > now || from < now - BACKDATE_MAX ||
        to != (end < p->issuer_not_after ? end : p->issuer_not_after) || to <= now)
        return refuse(e, "its times are not now and crl.lifetime");
    return check_revoked(in, d, e);
}

/* --- extensions -------------------------------------------------------------------------------------- */

static bool next_extension(struct cur *c, const char *oid, size_t oid_len, bool critical, struct cur *value)
{
    struct cur in;
    struct bytes id, octets;
    bool is_critical = false;
    if (der_enter(c, DER_SEQUENCE, &in) < 0 || der_get(&in, DER_OID, &id) < 0)
        return false;
    if (der_peek(&in, DER_BOOLEAN) && (der_bool(&in, &is_critical) < 0 || !is_critical))
        return false;
    if (der_get(&in, DER_OCTET_STRING, &octets) < 0 || !cur_done(&in))
        return false;
    *value = cur_of(octets.p, octets.len);
    return is_critical == critical && bytes_eq(id, oid, oid_len);
}
#define NEXT(c, oid, critical, value) next_extension(c, oid, OID_LEN(oid), critical, value)

static bool key_good(struct cur value, const struct lint_policy *p)
{
    struct cur in;
    struct bytes id;
    return der_enter(&value, DER_SEQUENCE, &in) == 0 && cur_done(&value) && der_get(&in, 0x80, &id) == 0 &&
           cur_done(&in) && bytes_eq(id, p->issuer_key_id.p, p->issuer_key_id.len);
}

static bool point_good(struct cur value, const struct lint_policy *p, const struct ca_crl *m)
{
    char want[1200];
    struct cur in, name, full;
    struct bytes url, users;
    snprintf(want, sizeof want, "%s/crl/%u-%u.crl", p->config->external_url, m->shards, m->shard);
    return der_enter(&value, DER_SEQUENCE, &in) == 0 && cur_done(&value) && der_enter(&in, 0xa0, &name) == 0 &&
           der_enter(&name, 0xa0, &full) == 0 && cur_done(&name) && der_get(&full, 0x86, &url) == 0 &&
           cur_done(&full) && bytes_eq_str(url, want) && der_get(&in, 0x81, &users) == 0 && cur_done(&in) &&
           bytes_eq(users, "\xff", 1);
}

/* Up to where the number begins, what was logged ends: *logged gets that length. */
static int check_extensions(struct cur *in, const struct lint_policy *p, const struct crl_draft *d, uint64_t index,
                            struct bytes *logged, struct err *e)
{
    struct cur outer, list, value;
    uint64_t number;
    if (der_enter(in, DER_CTX_CONS, &outer) < 0 || der_enter(&outer, DER_SEQUENCE, &list) < 0 || !cur_done(&outer))
        return refuse(e, "its extensions are missing");
    logged->p = list.p;
    if (!NEXT(&list, OID_EXT_AKI, false, &value) || !key_good(value, p))
        return refuse(e, "authorityKeyIdentifier");
    if (!NEXT(&list, OID_EXT_IDP, true, &value) || !point_good(value, p, &d->request))
        return refuse(e, "issuingDistributionPoint");
    logged->len = (size_t)(list.p - logged->p);
    if (!NEXT(&list, OID_EXT_CRL_NUMBER, false, &value) || der_u64(&value, &number) < 0 || !cur_done(&value) ||
        number != index || !cur_done(&list))
        return refuse(e, "cRLNumber is not its record's index");
    return 0;
}

/* What is signed is what was logged. The two parts lie apart here, so each is held against the body whose
 * digest the log has; and that body against its digest. */
static int check_logged(struct digest *digest, const struct crl_draft *d, struct bytes fields, struct bytes extensions,
                        struct err *e)
{
    uint8_t hash[DIGEST_SHA256];
    if (digest_sha256(digest, d->fields.p, d->fields.len + d->extensions.len, hash) < 0 ||
        memcmp(hash, d->digest, sizeof hash) != 0 || d->fields.p + d->fields.len != d->extensions.p ||
        !bytes_eq(fields, d->fields.p, d->fields.len) || !bytes_eq(extensions, d->extensions.p, d->extensions.len))
        return refuse(e, "it differs from its record in the log");
    return 0;
}

int crl_lint(const struct lint_policy *p, struct digest *digest, const struct crl_draft *d, uint64_t index,
             int64_t now, struct err *e)
{
    struct cur c = cur_of(d->tbs.p, d->tbs.len), in;
    struct bytes fields, extensions = {NULL, 0};
    if (der_enter(&c, DER_SEQUENCE, &in) < 0 || !cur_done(&c))
        return refuse(e, "it is no sequence");
    fields.p = in.p;
    if (check_fields(&in, p, d, now, e) < 0)
        return -1;
    fields.len = (size_t)(in.p - fields.p);
    if (check_extensions(&in, p, d, index, &extensions, e) < 0)
        return -1;
    return cur_done(&in) ? check_logged(digest, d, fields, extensions, e) : refuse(e, "bytes are left over");
}
