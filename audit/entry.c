#include "audit/entry.h"
#include "base/der.h"
#include "base/oid.h"
#include <string.h>

#define NAME_URI 0x86 /* GeneralName, RFC 5280 §4.2.1.6 */
#define NAME_DNS 0x82

static const char *const kinds[AUDIT_KINDS] = {"other", "issued", "refused", "revoked", "changed", "authority", "null", "jwt"};

const char *audit_kind_name(enum audit_kind k)
{
    return k < AUDIT_KINDS ? kinds[k] : kinds[AUDIT_OTHER];
}

enum audit_kind audit_kind_of(const char *name)
{
    for (unsigned k = AUDIT_ISSUED; k < AUDIT_KINDS; k++)
        if (strcmp(name, kinds[k]) == 0)
            return (enum audit_kind)k;
    return AUDIT_OTHER;
}

/* The subjectAltName extension's value in a list of extensions; empty when there is none. */
static struct bytes find_san(struct bytes extensions)
{
    struct cur list = cur_of(extensions.p, extensions.len), ext;
    while (cur_left(&list) && der_enter(&list, DER_SEQUENCE, &ext) == 0) {
        struct bytes oid, value;
        bool critical;
        if (der_get(&ext, DER_OID, &oid) < 0)
            break;
        if (der_peek(&ext, DER_BOOLEAN))
            der_bool(&ext, &critical);
        if (der_get(&ext, DER_OCTET_STRING, &value) == 0 && bytes_eq(oid, OID_EXT_SAN, OID_LEN(OID_EXT_SAN)))
            return value;
    }
    return (struct bytes){NULL, 0};
}

/* The first URI is the SPIFFE ID (X509-SVID §2). */
static void decode_names(struct audit_entry *t)
{
    struct bytes san = find_san(t->cert.extensions), name;
    struct cur c = cur_of(san.p, san.len), names;
    uint8_t tag;
    if (san.len == 0 || der_enter(&c, DER_SEQUENCE, &names) < 0)
        return;
    while (cur_left(&names) && der_any(&names, &tag, &name, NULL) == 0) {
        if ((tag != NAME_URI && tag != NAME_DNS) || t->names_count == AUDIT_NAMES_MAX)
            continue;
        t->names[t->names_count++] = name;
        if (tag == NAME_URI && t->spiffe_id.len == 0)
            t->spiffe_id = name;
    }
}

static int decode_certificate(struct audit_entry *t, struct bytes body)
{
    struct err ignored;
    if (tlog_entry_cert_fields(&t->cert, body, &ignored) < 0)
        return -1;
    t->kind = AUDIT_ISSUED;
    t->time = t->cert.not_before;
    t->not_after = t->cert.not_after;
    t->key = (struct bytes){t->cert.spki_hash, sizeof t->cert.spki_hash};
    t->agent = t->ext.requester;
    t->attestor = t->ext.attestor;
    t->entry_id = t->ext.entry_id;
    t->revision = t->ext.entry_revision;
    decode_names(t);
    return 0;
}

static void decode_revocation(struct audit_entry *t)
{
    const struct tlog_record_info *r = &t->record;
    switch (r->code) {
    case TLOG_BY_SERIAL: t->serial_hex = r->value; break;
    case TLOG_BY_ID:
    case TLOG_BY_PREFIX: t->spiffe_id = r->value; break;
    case TLOG_BY_ENTRY: t->entry_id = r->value; break;
    case TLOG_BY_AGENT: t->agent = r->value; break;
    default:
        t->key_hex = r->value;
        if (hex_decode(t->cert.spki_hash, sizeof t->cert.spki_hash, (const char *)r->value.p, r->value.len) == 32)
            t->key = (struct bytes){t->cert.spki_hash, sizeof t->cert.spki_hash};
    }
}

static int decode_record(struct audit_entry *t, struct bytes body)
{
    static const enum audit_kind kind_of[] = {AUDIT_REVOKED, AUDIT_REFUSED, AUDIT_CHANGED, AUDIT_AUTHORITY, AUDIT_JWT};
    const struct tlog_record_info *r = &t->record;
    struct err ignored;
    if (tlog_record_parse(&t->record, t->type, body, &ignored) < 0)
        return -1;
    t->kind = kind_of[t->type - TLOG_ENTRY_REVOCATION];
    t->time = r->time;
    t->spiffe_id = r->spiffe_id;
    t->agent = r->requester;
    t->attestor = r->attestor;
    t->entry_id = r->entry_id;
    t->revision = r->revision;
    t->rule = r->rule;
    if (t->kind == AUDIT_REVOKED)
        decode_revocation(t);
    if (t->kind == AUDIT_AUTHORITY && (r->code == TLOG_NEW_ROOT || r->code == TLOG_NEW_ISSUING))
        t->serial_hex = r->value;
    if (t->kind == AUDIT_AUTHORITY && r->code == TLOG_NEW_JWT_KEY)
        t->key = r->digest;
    if (t->kind == AUDIT_JWT)
        t->not_after = r->expires;
    return 0;
}

void audit_entry_decode(struct audit_entry *t, uint64_t index, struct bytes raw)
{
    struct tlog_entry x;
    struct err ignored;
    memset(t, 0, offsetof(struct audit_entry, names));
    t->names_count = 0;
    memset(&t->ext, 0, sizeof t->ext);
    t->index = index;
    t->raw = raw;
    t->time = t->not_after = -1;
    if (tlog_entry_parse(&x, raw.p, raw.len, &ignored) < 0)
        return;
    t->type = x.type;
    if (tlog_entry_extensions(&t->ext, x.extensions, &ignored) < 0)
        return;
    if (x.type == TLOG_ENTRY_TBS_CERT)
        decode_certificate(t, x.body);
    else if (tlog_record_is(x.type))
        decode_record(t, x.body);
    else if (x.type == TLOG_ENTRY_NULL && x.body.len == 0 && index == 0)
        t->kind = AUDIT_NULL;
}
