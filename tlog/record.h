/* Record entries: what stands in the log beside certificates, both directions. FORMAT.md is the
 * specification; a stranger can implement from it. All integers big-endian.
 *
 *   TLOG_ENTRY_REVOCATION  u64 time ‖ u8 by ‖ vec16 value ‖ u8 reason ‖ vec8 actor ‖ vec16 comment
 *   TLOG_ENTRY_REFUSAL     u64 time ‖ u8 stage ‖ vec8 rule ‖ vec16 why ‖ vec16 spiffe_id ‖ vec8 attestor
 *                          ‖ vec16 requester ‖ vec8 session ‖ u32 count
 *   TLOG_ENTRY_CHANGE      u64 time ‖ u8 what ‖ vec8 entry_id ‖ u64 revision ‖ vec16 spiffe_id
 *                          ‖ vec16 parent ‖ u32 ttl ‖ 32 bytes digest ‖ vec8 actor [‖ u8 flags, not 0]
 *   TLOG_ENTRY_AUTHORITY   u64 time ‖ u8 what ‖ vec16 value ‖ 32 bytes digest
 *   TLOG_ENTRY_JWT         u64 time ‖ u8 what ‖ u64 expires ‖ vec16 spiffe_id ‖ vec16 audiences ‖ vec8 kid
 *                          ‖ vec8 attestor ‖ vec8 evidence ‖ vec8 entry_id ‖ u64 revision ‖ vec16 requester
 *                          ‖ vec8 session
 *
 * A record says what the authority did; it gives nobody anything, so it needs no certificate and
 * no serial. But for TLOG_ENTRY_JWT: for each there may be one signed token (FORMAT.md). A record carries no
 * extensions. Parsing is strict: texts are printable UTF-8 within the bounds below, codes are known ones, nothing
 * is left over. Rule "record-format".
 * Does not judge whether a record is true or fits the others: tlog/audit.
 */
#ifndef TLOG_RECORD_H
#define TLOG_RECORD_H
#include "tlog/entry.h"

#define TLOG_RECORD_MAX 8192 /* of a body */
#define TLOG_RULE_MAX 63
#define TLOG_WHY_MAX 512
#define TLOG_ACTOR_MAX 128
#define TLOG_COMMENT_MAX 512
#define TLOG_NAME_MAX 2048 /* SPIFFE IDs */
#define TLOG_KID_MAX 64
#define TLOG_AUDIENCES_MAX 16
#define TLOG_AUDIENCE_MAX 255
#define TLOG_AUDIENCES_BYTES 3072 /* of all, each with its length */

enum tlog_revoked_by { /* a revocation's `code` */
    TLOG_BY_SERIAL = 1, /* value: lowercase hex, no leading zeros */
    TLOG_BY_ID,         /* SPIFFE ID */
    TLOG_BY_PREFIX,     /* SPIFFE ID and every ID below it */
    TLOG_BY_ENTRY,      /* registration entry id */
    TLOG_BY_AGENT,      /* SPIFFE ID of the agent that asked */
    TLOG_BY_KEY         /* SHA-256 of the SubjectPublicKeyInfo, lowercase hex */
};
enum tlog_refused_at { /* a refusal's */
    TLOG_AT_ATTESTATION = 1,
    TLOG_AT_REGISTRATION,
    TLOG_AT_POLICY,
    TLOG_AT_SIGNER
};
enum tlog_changed { TLOG_CREATED = 1, TLOG_UPDATED, TLOG_DELETED };            /* a change's */
#define TLOG_FLAG_AUDITOR 0x01 /* of a change: the entry's SVIDs may search the log */
enum tlog_authority {
    TLOG_NEW_ROOT = 1,
    TLOG_NEW_ISSUING,
    TLOG_NEW_CRL,   /* value: <shards>-<shard>; its number is the record's index */
    TLOG_NEW_POLICY, /* what the signer certifies from now on; value: its text (FORMAT.md), or the beginning */
    TLOG_CLOCK_BACK, /* the operator says that the clock had run ahead; value: to when, in decimal Unix seconds */
    TLOG_NEW_JWT_KEY /* that JWT-SVIDs are signed with from now on; value: its kid; digest: of its SubjectPublicKeyInfo */
};
enum tlog_jwt { TLOG_JWT_SVID = 1 };

struct tlog_record_info { /* bytes are views; fields that a type lacks are empty */
    uint16_t type;
    int64_t time;          /* Unix seconds, not negative */
    uint8_t code;          /* by, stage or what */
    struct bytes value;
    uint8_t reason;        /* RFC 5280 §5.3.1, of a revocation */
    struct bytes actor;    /* who did it, e.g. "uid:0" */
    struct bytes comment;
    struct bytes rule, why;
    struct bytes spiffe_id, attestor, requester;
    struct bytes session;  /* empty, or 32 bytes */
    uint32_t count;        /* how many alike a refusal stands for, at least 1 */
    struct bytes entry_id, parent;
    uint64_t revision;
    uint32_t ttl;          /* seconds; 0: the default */
    struct bytes digest;   /* 32 bytes: of the entry's document, of the DER, or of the text of value */
    uint8_t flags;         /* of a change: TLOG_FLAG_… */
    int64_t expires;       /* of a JWT: after time */
    struct bytes audiences; /* vec8 each: tlog_audience_next */
    struct bytes kid;
    struct bytes evidence; /* empty, or 32 bytes: SHA-256(salt ‖ evidence) */
};

bool tlog_record_is(uint16_t type);
int tlog_record_parse(struct tlog_record_info *r, uint16_t type, struct bytes body, struct err *e);
/* The body. Refuses what tlog_record_parse would. */
int tlog_record_write(const struct tlog_record_info *r, struct buf *out, struct err *e);
/* What of src can stand in a text of at most cap - 1 bytes: whole characters, '?' for what is none
 * or cannot be printed. Terminated; returns the length. */
size_t tlog_text_clean(char *dst, size_t cap, const char *src, size_t len);
/* The elements of audiences, by a cursor on it: false when none is left. */
bool tlog_audience_next(struct cur *audiences, struct bytes *audience);
/* "revocation", "refusal", "entry", "authority", "jwt"; NULL: no record. */
const char *tlog_record_kind(uint16_t type);
/* The code's word, e.g. "prefix", "registration", "deleted", "crl". */
const char *tlog_record_code(uint16_t type, uint8_t code);

#endif
