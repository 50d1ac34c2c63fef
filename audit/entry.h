/* A log entry as an auditor asks for it: one struct for certificates and records, so that search,
 * JSON and CSV need not know types. Decoding trusts nothing: an entry that is none of the known
 * forms (tlog/FORMAT.md) is AUDIT_OTHER with its bytes and no fields.
 * Does not judge whether an entry should be there: tlog/audit does.
 */
#ifndef AUDIT_ENTRY_H
#define AUDIT_ENTRY_H
#include "tlog/entry.h"
#include "tlog/record.h"

enum audit_kind {
    AUDIT_OTHER, /* types of later versions, malformed ones */
    AUDIT_ISSUED,
    AUDIT_REFUSED,
    AUDIT_REVOKED,
    AUDIT_CHANGED,
    AUDIT_AUTHORITY,
    AUDIT_NULL, /* entry 0 of every log */
    AUDIT_JWT,  /* a JWT-SVID was given */
    AUDIT_KINDS
};
#define AUDIT_NAMES_MAX 64 /* subject alternative names shown */

struct audit_entry { /* bytes are views into the entry; what it lacks is empty */
    uint64_t index;
    enum audit_kind kind;
    uint16_t type;
    struct bytes raw;
    int64_t time, not_after; /* a certificate's not_before, a JWT's iat and exp; -1: none */
    struct bytes spiffe_id, agent, attestor, entry_id, rule;
    uint64_t revision;
    struct bytes key_hex;    /* of a revocation by key */
    struct bytes serial_hex; /* of a revocation by serial, of a change of the authority */
    struct bytes key;        /* SHA-256 of the SubjectPublicKeyInfo: certified, revoked, or to sign JWTs with */
    struct bytes names[AUDIT_NAMES_MAX];
    size_t names_count;
    /* As the log has it: valid by kind. */
    struct tlog_ext_info ext;
    struct tlog_cert_fields cert;
    struct tlog_record_info record;
};
/* Views into raw, and into *t itself (key). Never fails. */
void audit_entry_decode(struct audit_entry *t, uint64_t index, struct bytes raw);
static inline bool audit_kind_is_record(enum audit_kind k)
{
    return (k > AUDIT_ISSUED && k <= AUDIT_AUTHORITY) || k == AUDIT_JWT;
}
/* "issued", "refused", "revoked", "changed", "authority", "null", "jwt", "other". */
const char *audit_kind_name(enum audit_kind k);
/* AUDIT_OTHER: no such outcome. */
enum audit_kind audit_kind_of(const char *name);
#endif
