/* Log entries: the envelope of draft-ietf-plants-merkle-tree-certs (MTC), with our extensions.
 *
 *   struct { uint16 extension_type; opaque extension_data<0..2^16-1>; } Extension;
 *   struct { Extension extensions<0..2^16-1>; uint16 type; body to the end } LogEntry;
 *
 * type 0 null_entry; type 1 tbs_cert_entry, the contents octets of TBSCertificateLogEntry: the
 * TBSCertificate without serial and signature algorithm, with the SPKI hashed, and without the
 * stapled proof extension. So the entry exists before the certificate, and whoever holds the
 * certificate (and the extensions, which travel in the proof's `extra`) can rebuild it.
 * Parsing is strict: extension types ascending, no duplicates, sizes bounded, nothing left over.
 */
#ifndef TLOG_ENTRY_H
#define TLOG_ENTRY_H
#include "tlog/merkle.h"

#define TLOG_ENTRY_MAX 65535
enum {
    TLOG_ENTRY_NULL = 0,
    TLOG_ENTRY_TBS_CERT = 1,
    /* tlog/record.h, private range */
    TLOG_ENTRY_REVOCATION = 0xff01,
    TLOG_ENTRY_REFUSAL = 0xff02,
    TLOG_ENTRY_CHANGE = 0xff03,
    TLOG_ENTRY_AUTHORITY = 0xff04,
    TLOG_ENTRY_JWT = 0xff05
};
enum { /* extension types, private range */
    TLOG_EXT_ATTESTOR = 0xff01,  /* UTF-8 evidence kind, e.g. "join_token" */
    TLOG_EXT_EVIDENCE = 0xff02,  /* SHA-256(salt ‖ evidence), 32 bytes */
    TLOG_EXT_ENTRY = 0xff03,     /* u64 revision ‖ UTF-8 registration entry id */
    TLOG_EXT_REQUESTER = 0xff04, /* SPIFFE ID of the agent that asked */
    TLOG_EXT_SESSION = 0xff05    /* SHA-256 thumbprint of the session key, 32 bytes */
};
struct tlog_ext_info { /* decoded extensions; absent ones empty */
    struct bytes attestor, evidence, entry_id, requester, session;
    uint64_t entry_revision;
};
struct tlog_entry {
    uint16_t type;
    struct bytes extensions; /* the list, without its length */
    struct bytes body;
};
/* rule "entry-format". Views into p. */
int tlog_entry_parse(struct tlog_entry *t, const void *p, size_t len, struct err *e);
int tlog_entry_extensions(struct tlog_ext_info *x, struct bytes extensions, struct err *e);
void tlog_entry_write(const struct tlog_entry *t, struct buf *out);
/* Writes the extension list (without its length), ascending; empty fields are left out. */
void tlog_ext_write(const struct tlog_ext_info *x, struct buf *out);

struct tlog_cert_fields { /* of a tbs_cert_entry body or of a certificate; views */
    struct bytes issuer;       /* DER Name, whole element */
    struct bytes subject;      /* DER Name, whole element */
    int64_t not_before, not_after;
    struct bytes spki_algorithm; /* whole element */
    uint8_t spki_hash[32];
    struct bytes extensions;   /* contents of the Extensions SEQUENCE */
    struct bytes serial;       /* magnitude; empty in a log entry */
    bool ca;                   /* basicConstraints say so; read of log entries only */
};
int tlog_entry_cert_fields(struct tlog_cert_fields *f, struct bytes body, struct err *e);

/* From a certificate (DER): its serial's magnitude, and the tbs_cert_entry body that it stands
 * for. *stapled gets the stapled proof's bytes (empty when there is none). rule "cert-format". */
int tlog_cert_body(struct buf *body, struct tlog_cert_fields *f, struct bytes *stapled,
                   const uint8_t *cert, size_t len, struct err *e);
/* The same body from its parts: issuer, subject, times, spki_algorithm, spki_hash, and extensions
 * without the stapled proof; serial is not looked at. Times are written as RFC 5280 §4.1.2.5 asks. */
void tlog_cert_body_write(struct buf *body, const struct tlog_cert_fields *f);
#endif
