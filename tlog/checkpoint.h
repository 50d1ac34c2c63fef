/* Checkpoints: C2SP tlog-checkpoint and signed-note, both directions, and verifier keys.
 * Parsing is strict and bounded: at most TLOG_NOTE_MAX bytes and TLOG_NOTE_SIGS signature lines.
 * Not done here: what witnesses sign (tlog/cosign.h), and whom to believe (tlog/policy.h).
 */
#ifndef TLOG_CHECKPOINT_H
#define TLOG_CHECKPOINT_H
#include "base/key.h"
#include "tlog/merkle.h"

#define TLOG_NOTE_MAX 65536
#define TLOG_NOTE_SIGS 100
#define TLOG_ORIGIN_MAX 255

enum tlog_key_type { TLOG_KEY_LOG = 0x01, TLOG_KEY_WITNESS = 0x04 }; /* C2SP signed-note's types */
struct tlog_vkey { /* a verifier key: name+hex8(keyID)+base64(type ‖ public key) */
    char name[TLOG_ORIGIN_MAX + 1];
    enum tlog_key_type type;
    uint8_t id[4];
    uint8_t pub[32]; /* Ed25519; never of small order, where one signature fits many messages */
    EVP_PKEY *evp;   /* owned */
};
/* A log's key, and a witness's; each reads only its own type. Rule "vkey-format". */
int tlog_vkey_make(struct tlog_vkey *k, const char *name, const uint8_t pub[32], struct err *e);
int tlog_vkey_make_witness(struct tlog_vkey *k, const char *name, const uint8_t pub[32],
                           struct err *e);
int tlog_vkey_parse(struct tlog_vkey *k, const char *s, size_t len, struct err *e);
int tlog_vkey_parse_witness(struct tlog_vkey *k, const char *s, size_t len, struct err *e);
/* Is sig the key's plain Ed25519 signature over msg? Thread safe. */
bool tlog_vkey_verify(const struct tlog_vkey *k, const uint8_t sig[64], const void *msg,
                      size_t len);
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

/* The same in two steps, for who looks for several keys' signatures: a note taken apart, nothing
 * of it verified; views into the note. */
struct tlog_note_sig {
    struct bytes name, blob64; /* blob64: base64(keyID ‖ signature), not looked at but for the id */
    uint8_t id[4];
};
struct tlog_note {
    struct bytes text; /* what is signed: the body, with its last newline */
    struct tlog_checkpoint checkpoint;
    struct tlog_note_sig sigs[TLOG_NOTE_SIGS];
    size_t sig_count;
};
int tlog_note_parse(struct tlog_note *n, const void *note, size_t len, struct err *e);
/* One signature line, without its newline. Rule "checkpoint-format". */
int tlog_note_sig_parse(struct tlog_note_sig *s, struct bytes line, struct err *e);
/* Does the line say that it is k's? Only then is the signature decoded; it must be of `len`
 * bytes, which *whole tells. */
bool tlog_note_sig_is(const struct tlog_note_sig *s, const struct tlog_vkey *k, uint8_t *sig,
                      size_t len, bool *whole);
/* Finds k's signature and verifies it. 1 verified, 0 there is none, -1 it is wrong (rule
 * "checkpoint-signature"). A second one says nothing more and is not looked at. */
int tlog_note_verify(const struct tlog_note *n, const struct tlog_vkey *k, struct err *e);
/* Writes a signature line. */
void tlog_note_sig_write(const struct tlog_vkey *k, const uint8_t *sig, size_t len,
                         struct buf *out);
#endif
