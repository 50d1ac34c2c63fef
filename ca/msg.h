/* What the signer may be asked, and what it answers: the fixed table. Both directions of each
 * message stand in msg.c. Transport is base/ipc. Every field is bounded; parsing is strict.
 *
 *   type            body
 *   CA_ISSUE        request below                      → CA_ISSUED or CA_REFUSED
 *   CA_INFO         empty                              → CA_INFO_REPLY
 *   CA_RECORD       u16 type ‖ vec16 body of the entry      → CA_RECORDED or CA_REFUSED
 *   CA_RECORDED     u64 index
 *   CA_COSIGN       a witness's cosignature, below     → CA_COSIGNED (empty) or CA_REFUSED
 *   CA_HEAD         empty; unasked, to the notary: another head of the log is published
 *   CA_CRL          which list, and whom it names, below → CA_CRL_SIGNED or CA_REFUSED
 *   CA_JWT          request below                      → CA_JWT_SIGNED or CA_REFUSED
 *   CA_REFUSED      u8 err_code ‖ vec8 rule ‖ vec16 message
 *
 * CA_COSIGN and CA_HEAD are spoken at the notary's door alone (quorum.h), the others at the corridor's.
 * Parsed structs hold views into the frame; written ones borrow from the caller.
 */
#ifndef CA_MSG_H
#define CA_MSG_H
#include "base/ipc.h"

enum { CA_ISSUE = 1, CA_ISSUED, CA_REFUSED, CA_INFO, CA_INFO_REPLY, CA_RECORD, CA_RECORDED,
       CA_COSIGN, CA_COSIGNED, CA_CRL, CA_CRL_SIGNED, CA_HEAD, CA_JWT, CA_JWT_SIGNED };
enum ca_profile_id {
    CA_PROFILE_WORKLOAD = 1, /* X509-SVID of a registered workload or agent */
    CA_PROFILE_SERVER = 2    /* this authority's own TLS server: spiffe://td/mayfly/server */
};
#define CA_DNS_MAX 16
#define CA_SPKI_MAX 600
#define CA_ENTRY_ID_MAX 64
#define CA_CERT_MAX 12288
#define CA_RECORD_MAX 8192 /* of a record's body */

struct ca_issue {
    uint8_t profile;
    uint32_t lifetime;            /* seconds */
    struct bytes spiffe_id;
    struct bytes dns[CA_DNS_MAX]; /* server profile: DNS names or IP addresses */
    uint8_t dns_count;
    struct bytes spki;            /* DER SubjectPublicKeyInfo */
    /* for the log entry */
    struct bytes attestor;        /* evidence kind; at most 32 bytes */
    struct bytes evidence;        /* empty, or SHA-256(salt ‖ evidence): 32 bytes */
    struct bytes entry_id;        /* at most CA_ENTRY_ID_MAX */
    uint64_t entry_revision;
    struct bytes requester;       /* SPIFFE ID of the asking agent; may be empty */
    struct bytes session;         /* empty, or SHA-256 thumbprint of the session key: 32 bytes */
};
struct ca_issued {
    uint64_t index;               /* in the log; serial = (log number << 48) | index */
    int64_t not_before, not_after;
    struct bytes cert;            /* DER */
};
struct ca_record { /* tlog/record.h; the signer sets its time */
    uint16_t type;
    struct bytes body;
};
/* A CRL: u16 shards ‖ u16 shard ‖ u16 count ‖ count times (u64 serial ‖ u64 time ‖ u8 reason), serials
 * ascending. As many as the signed list has room for in one frame, at 42 bytes each at most. */
#define CA_CRL_REVOKED_MAX 1400
#define CA_CRL_MAX 63488 /* DER */
struct ca_crl {
    uint16_t shards, shard;
    uint16_t count;
    struct bytes revoked; /* count of them, as above */
};
struct ca_crl_revoked {
    uint64_t serial;
    int64_t time;
    uint8_t reason; /* RFC 5280 section 5.3.1 */
};
struct ca_crl_signed {
    uint64_t number; /* index of its record in the log */
    int64_t this_update, next_update;
    struct bytes crl; /* DER */
};
#define CA_AUDIENCES_BYTES 3072 /* as TLOG_AUDIENCES_BYTES */
#define CA_JWT_BYTES 12288      /* of a whole token */
struct ca_jwt { /* a JWT-SVID; the signer sets its times, identifier and key */
    uint32_t lifetime;        /* seconds */
    struct bytes spiffe_id;
    struct bytes audiences;   /* vec8 each, as a record has them (tlog/record.h) */
    /* for the log entry, as in struct ca_issue */
    struct bytes attestor, evidence, entry_id;
    uint64_t entry_revision;
    struct bytes requester, session;
};
struct ca_jwt_signed {
    uint64_t index; /* in the log */
    int64_t issued, expires;
    struct bytes jwt; /* compact JWS */
};
#define CA_ROOT_LEN 32
#define CA_KEY_ID_LEN 4
#define CA_COSIGNATURE_LEN 64
struct ca_cosign { /* of the checkpoint that is published now (tlog/cosign.h) */
    uint64_t size;
    struct bytes root;
    struct bytes key_id; /* of the witness's key */
    uint64_t time;
    struct bytes sig;
};
struct ca_info {
    struct bytes root, issuing;   /* DER certificates */
    struct bytes vkey;            /* text of the log's verifier key */
    uint64_t log_size, issued, refused, signatures; /* the last three: of this signer process */
    uint64_t first_index;         /* size of the log when this process began to issue, */
    uint64_t issuing_signatures;  /* and what its issuing key has signed since: mayfly log reconcile */
    int64_t started;              /* wall seconds */
    struct bytes token;           /* name of the token */
    uint64_t abandoned;           /* certificates logged since first_index and never to be signed: their
                                   * head found no quorum */
    uint8_t quorum, witnesses;    /* how many must cosign a head (0: nobody), and of how many */
    uint8_t cosigned;             /* how many have cosigned the published one */
    bool unwitnessed;             /* no certificate is issued until the quorum is there */
    struct bytes jwt_key;         /* SubjectPublicKeyInfo of the key of JWT-SVIDs; empty: there are none */
    int64_t jwt_since;            /* when the log was told of it; 0: it was not yet */
    uint64_t jwt_signatures;      /* by it since first_index, */
    uint64_t jwt_abandoned;       /* and as abandoned, of JWT-SVIDs */
};
#define CA_JWT_KEY_MAX 128
void ca_issue_write(struct buf *b, uint64_t id, const struct ca_issue *m);
int ca_issue_parse(struct ca_issue *m, struct bytes body, struct err *e);
void ca_issued_write(struct buf *b, uint64_t id, const struct ca_issued *m);
int ca_issued_parse(struct ca_issued *m, struct bytes body, struct err *e);
void ca_refused_write(struct buf *b, uint64_t id, const struct err *why);
int ca_refused_parse(struct err *why, struct bytes body, struct err *e); /* fills *why */
void ca_record_write(struct buf *b, uint64_t id, const struct ca_record *m);
int ca_record_parse(struct ca_record *m, struct bytes body, struct err *e);
void ca_recorded_write(struct buf *b, uint64_t id, uint64_t index);
int ca_recorded_parse(uint64_t *index, struct bytes body, struct err *e);
void ca_cosign_write(struct buf *b, uint64_t id, const struct ca_cosign *m);
int ca_cosign_parse(struct ca_cosign *m, struct bytes body, struct err *e);
void ca_crl_write(struct buf *b, uint64_t id, const struct ca_crl *m);
int ca_crl_parse(struct ca_crl *m, struct bytes body, struct err *e);
/* The elements of ca_crl.revoked. put: appends one; next: false when none is left. */
void ca_crl_put(struct buf *revoked, const struct ca_crl_revoked *r);
bool ca_crl_next(struct cur *revoked, struct ca_crl_revoked *r);
void ca_crl_signed_write(struct buf *b, uint64_t id, const struct ca_crl_signed *m);
int ca_crl_signed_parse(struct ca_crl_signed *m, struct bytes body, struct err *e);
void ca_jwt_write(struct buf *b, uint64_t id, const struct ca_jwt *m);
int ca_jwt_parse(struct ca_jwt *m, struct bytes body, struct err *e);
void ca_jwt_signed_write(struct buf *b, uint64_t id, const struct ca_jwt_signed *m);
int ca_jwt_signed_parse(struct ca_jwt_signed *m, struct bytes body, struct err *e);
void ca_info_write(struct buf *b, uint64_t id, const struct ca_info *m);
int ca_info_parse(struct ca_info *m, struct bytes body, struct err *e);

#endif
