/* Checkpoints: C2SP tlog-checkpoint and signed-note, both directions, and verifier keys.
 * Parsing is strict and bounded: at most TLOG_NOTE_MAX bytes and TLOG_NOTE_SIGS signature lines.
 */
#ifndef TLOG_CHECKPOINT_H
#define TLOG_CHECKPOINT_H
#include "base/key.h"
#include "tlog/merkle.h"

#define TLOG_NOTE_MAX 65536
#define TLOG_NOTE_SIGS 100
#define TLOG_ORIGIN_MAX 255

struct tlog_vkey { /* a verifier key: name+hex8(keyID)+base64(01 ‖ public key) */
    char name[TLOG_ORIGIN_MAX + 1];
    uint8_t id[4];
    uint8_t pub[32]; /* Ed25519 */
    EVP_PKEY *evp;   /* owned */
};
int tlog_vkey_make(struct tlog_vkey *k, const char *name, const uint8_t pub[32], struct err *e);
int tlog_vkey_parse(struct tlog_vkey *k, const char *s, size_t len, struct err *e);
void tlog_vkey_write(const struct tlog_vkey *k, struct buf *out);
void tlog_vkey_free(struct tlog_vkey *k);

struct tlog_checkpoint {
    char origin[TLOG_ORIGIN_MAX + 1];
    uint64_t size;
    struct tlog_hash root;
};
/* The signed text (three lines, newline after each). */
void tlog_checkpoint_body(const struct tlog_checkpoint *c, struct buf *out);
/* Body, blank line, one signature line. */
void tlog_checkpoint_note(const struct tlog_checkpoint *c, const struct tlog_vkey *k,
                          const uint8_t sig[64], struct buf *out);
/* Parses and verifies: origin must be k->name and k's signature must be there and good; signatures
 * of unknown keys are ignored. Rules "checkpoint-format", "checkpoint-origin", "checkpoint-signature". */
int tlog_checkpoint_open(struct tlog_checkpoint *c, const void *note, size_t len,
                         const struct tlog_vkey *k, struct err *e);
#endif
