/* C2SP tlog-proof: an inclusion proof that is verified offline. Both directions.
 * `extra` carries the log entry's extension list, so that the entry can be rebuilt; it needs no
 * trust, because the leaf hash covers it.
 */
#ifndef TLOG_PROOF_H
#define TLOG_PROOF_H
#include "tlog/checkpoint.h"
#include "tlog/entry.h"

#define TLOG_PROOF_MAX 16384
struct tlog_proof {
    uint8_t extra[4096];
    size_t extra_len;
    uint64_t index;
    struct tlog_hash path[TLOG_LEVELS];
    size_t path_len;
    struct bytes checkpoint; /* view: the signed note, verbatim */
};
void tlog_proof_write(struct buf *out, struct bytes extra, uint64_t index,
                      const struct tlog_hash *path, size_t path_len, const void *note, size_t note_len);
int tlog_proof_parse(struct tlog_proof *p, const void *text, size_t len, struct err *e); /* rule "proof-format" */
/* Verifies that the leaf stands at p->index in the tree that k signed. cp receives the checkpoint. */
int tlog_proof_verify(const struct tlog_proof *p, const struct tlog_hash *leaf,
                      const struct tlog_vkey *k, struct tlog_checkpoint *cp, struct err *e);

/* What a certificate claims of its place in a log: the leaf that it stands for, rebuilt from it and
 * the proof's extra, and the proof. The serial says the same index: (log number << 48) | index.
 * Nothing of it is verified against a log yet (tlog_proof_verify, or tlog_policy_prove). `proof`
 * empty: the stapled one. Rules "cert-format" (it is no certificate), "proof-missing",
 * "proof-format", "proof-serial". */
struct tlog_claim {
    struct tlog_proof proof;
    struct tlog_hash leaf;
    uint16_t log_number;
};
int tlog_cert_claim(struct tlog_claim *c, const uint8_t *cert, size_t len, struct bytes proof,
                    struct err *e);
/* Is this certificate proven logged by k? Offline. Does not verify the certificate's own signature
 * or chain: the caller does. Rules of tlog_cert_claim, "inclusion", "checkpoint-*". info (may be
 * NULL) receives what was proven. */
struct tlog_proven {
    uint64_t index;
    uint16_t log_number;
    struct tlog_checkpoint checkpoint;
};
int tlog_cert_verify(const uint8_t *cert, size_t len, const struct tlog_vkey *k,
                     struct tlog_proven *info, struct err *e);
/* A certificate as files hold it: DER as it stands, or the first CERTIFICATE block of PEM text,
 * decoded into `room`. Views into `in` or `room`. Not parsed further. Rule "cert-format". */
#define TLOG_CERT_FILE_MAX 262144
int tlog_cert_from_file(struct bytes *der, struct buf *room, const void *in, size_t len,
                        struct err *e);

/* Log binding: the extension in the issuing certificate that names the log (UTF8String vkey), so
 * that who trusts the root knows which log must prove its leaves. rule "binding-missing". */
int tlog_binding_from_cert(struct tlog_vkey *k, const uint8_t *cert, size_t len, struct err *e);
#endif
