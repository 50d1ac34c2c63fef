/* C2SP tlog-witness: the add-checkpoint request, both directions, and the witness's side of it.
 *
 *   old N            the size of the head that the witness has of this log (0: none)
 *   base64 hash      of the consistency proof from N, at most 63 lines
 *                    (an empty line)
 *   checkpoint       a signed note
 *
 * A witness keeps one head a log, and cosigns only what extends it. Folder:
 *   vkey             the witness's own verifier key; made with the folder
 *   HASH.head        a log's head as its log signed it; HASH is of the log's origin
 *   fork-HASH-….txt  two heads that contradict each other, both signed by the log: evidence
 *
 * A head is durable before its cosignature leaves; a crash leaves the old head or the new one. A head
 * that cannot be read is refused at the start: a witness that forgets would cosign a fork.
 *
 * Not done here: HTTP, keys (signing is a callback), whom to ask.
 */
#ifndef TLOG_WITNESS_H
#define TLOG_WITNESS_H
#include "tlog/cosign.h"
#include "tlog/log.h"

#define TLOG_ADD_HASHES 63
#define TLOG_ADD_MAX (25 + TLOG_ADD_HASHES * 45 + 1 + TLOG_NOTE_MAX) /* bytes of a request */
#define TLOG_WITNESS_LOGS 64
#define TLOG_WITNESS_FORKS 100 /* pieces of evidence kept of one log */

struct tlog_add {
    uint64_t old;
    struct tlog_hash proof[TLOG_ADD_HASHES];
    size_t count;
    struct bytes note; /* view; not looked at */
};
void tlog_add_write(const struct tlog_add *a, struct buf *out);
/* Rule "add-checkpoint". */
int tlog_add_parse(struct tlog_add *a, const void *body, size_t len, struct err *e);

/* Its answers, for who asks. Of 200: the witness's cosignature of this text, verified; lines of other
 * keys are passed over. Rule "cosignature". */
int tlog_add_cosignature(struct tlog_cosignature *s, const struct tlog_vkey *witness,
                         struct bytes text, struct bytes body, struct err *e);
/* Of 409: the size that it has. Rule "add-checkpoint". */
int tlog_add_size(uint64_t *size, struct bytes body, struct err *e);

struct tlog_witness;
struct tlog_witness_options { /* nothing owned; all outlives the witness */
    const char *dir;
    const struct tlog_vkey *self; /* TLOG_KEY_WITNESS; its private half signs */
    const struct tlog_vkey *logs; /* those witnessed; several keys of one name are one log's */
    size_t log_count;             /* 1..TLOG_WITNESS_LOGS */
    tlog_sign_cb *sign;           /* from any thread */
    void *sign_arg;
};
/* Makes the folder, if it is not there, and what is in it at first. ERR_EXISTS when it is a
 * witness's already. */
int tlog_witness_create(const char *dir, const struct tlog_vkey *self, struct err *e);
/* The verifier key that the folder was made with. */
int tlog_witness_vkey(struct tlog_vkey *self, const char *dir, struct err *e);
/* Reads every head and takes an exclusive lock on the folder. Rules "witness-state" (ERR_CORRUPT,
 * ERR_CONFIG), "witness-locked", "vkey-format". */
int tlog_witness_open(struct tlog_witness **out, const struct tlog_witness_options *o,
                      struct err *e);
void tlog_witness_close(struct tlog_witness *w);

struct tlog_witness_answer {
    unsigned status;  /* of HTTP: 200, 400, 403, 404, 409, 413, 422, 500 */
    bool size;        /* body is text/x.tlog.size, else text/plain */
    struct buf body;  /* the caller's; replaced */
};
/* One request. 0: cosigned. -1: refused or failed, as e says; status and, for people or programs,
 * the body are set too. Safe from any thread: requests of one log wait for each other, over the
 * write, so that two never pass by one old head. */
int tlog_witness_add(struct tlog_witness *w, const void *body, size_t len,
                     struct tlog_witness_answer *a, struct err *e);
#endif
