/* Cosignatures: C2SP tlog-cosignature v1 (Ed25519, key type 04), both directions. A witness that
 * cosigns a checkpoint says: at this time, this was the largest tree that I have seen of this log,
 * and it is consistent with every smaller one that I have seen.
 *
 *   line    — name base64(keyID ‖ u64 time ‖ 64 bytes of signature)
 *   signed  cosignature/v1 \n time T \n the note's body
 *
 * Not done here: who counts as a witness, how many are needed, how old a cosignature may be
 * (tlog/policy.h); asking a witness.
 */
#ifndef TLOG_COSIGN_H
#define TLOG_COSIGN_H
#include "tlog/checkpoint.h"

#define TLOG_COSIGNATURE 72 /* bytes: time, signature */

struct tlog_cosignature {
    uint64_t time; /* seconds since 1970 */
    uint8_t sig[64];
};
/* What a witness signs over a note's body (`text`: with its last newline). */
void tlog_cosign_text(uint64_t time, struct bytes text, struct buf *out);
void tlog_cosign_line(const struct tlog_vkey *witness, const struct tlog_cosignature *s,
                      struct buf *out);
/* One signature line without its newline, as a witness answers. It must be this witness's. Not
 * verified. Rule "cosignature". */
int tlog_cosign_parse(struct tlog_cosignature *s, const struct tlog_vkey *witness,
                      struct bytes line, struct err *e);
/* rule "cosignature" */
int tlog_cosign_verify(const struct tlog_cosignature *s, const struct tlog_vkey *witness,
                       struct bytes text, struct err *e);
/* The witness's cosignature of this note, of several the newest: 1 and its time, 0 there is none, -1
 * it is wrong (C2SP signed-note: the note is then not to be believed). */
int tlog_cosign_find(const struct tlog_note *n, const struct tlog_vkey *witness, uint64_t *time,
                     struct err *e);
#endif
