/* The add-checkpoint request (C2SP tlog-witness), and what a witness answers to it. */
#include "tlog/witness.h"
#include "base/clock.h"
#include "tlog/witness_state.h"
#include <string.h>

/* --- the request, both directions ---------------------------------------------------------------- */

void tlog_add_write(const struct tlog_add *a, struct buf *out)
{
    buf_fmt(out, "old %llu\n", (unsigned long long)a->old);
    for (size_t i = 0; i < a->count; i++) {
        buf_b64(out, a->proof[i].b, TLOG_HASH);
        buf_str(out, "\n");
    }
    buf_str(out, "\n");
    buf_put(out, a->note.p, a->note.len);
}

static int add_fail(struct err *e, const char *why)
{
    return err_set(e, ERR_MALFORMED, "add-checkpoint",
                   "not an add-checkpoint request (C2SP tlog-witness): %s", why);
}

static int hashes_parse(struct tlog_add *a, struct cur *in, struct err *e)
{
    for (struct bytes line;;) {
        if (cur_line(in, &line) < 0)
            return add_fail(e, "no empty line before the checkpoint");
        if (line.len == 0)
            return 0;
        if (a->count == TLOG_ADD_HASHES)
            return add_fail(e, "more than 63 hashes");
        if (line.len != 44 ||
            b64_decode(a->proof[a->count++].b, TLOG_HASH, (const char *)line.p, 44) != TLOG_HASH)
            return add_fail(e, "a line of the proof is no base64 hash");
    }
}

int tlog_add_parse(struct tlog_add *a, const void *body, size_t len, struct err *e)
{
    struct cur in = cur_of(body, len);
    struct bytes line, word;
    memset(a, 0, sizeof *a);
    if (len > TLOG_ADD_MAX)
        return err_set(e, ERR_TOO_LARGE, "add-checkpoint", "a request has at most %d bytes",
                       TLOG_ADD_MAX);
    if (cur_line(&in, &line) < 0)
        return add_fail(e, "no line");
    struct cur c = cur_of(line.p, line.len);
    if (cur_take(&c, 4, &word) < 0 || !bytes_eq(word, "old ", 4) ||
        !tlog_decimal((struct bytes){c.p, cur_left(&c)}, &a->old))
        return add_fail(e, "the first line does not read \"old N\"");
    if (hashes_parse(a, &in, e) < 0)
        return -1;
    a->note = (struct bytes){in.p, cur_left(&in)};
    return a->note.len > 0 ? 0 : add_fail(e, "no checkpoint");
}

int tlog_add_cosignature(struct tlog_cosignature *s, const struct tlog_vkey *witness,
                         struct bytes text, struct bytes body, struct err *e)
{
    struct cur in = cur_of(body.p, body.len);
    for (struct bytes line; cur_line(&in, &line) == 0;) {
        struct tlog_note_sig any;
        if (tlog_note_sig_parse(&any, line, e) == 0 &&
            memcmp(any.id, witness->id, sizeof any.id) == 0 && bytes_eq_str(any.name, witness->name))
            return tlog_cosign_parse(s, witness, line, e) < 0
                       ? -1
                       : tlog_cosign_verify(s, witness, text, e);
    }
    return err_set(e, ERR_MALFORMED, "cosignature", "the answer holds no cosignature by %s",
                   witness->name);
}

int tlog_add_size(uint64_t *size, struct bytes body, struct err *e)
{
    struct cur in = cur_of(body.p, body.len);
    struct bytes line;
    if (cur_line(&in, &line) < 0 || !cur_done(&in) || !tlog_decimal(line, size))
        return err_set(e, ERR_MALFORMED, "add-checkpoint",
                       "the answer is 409 without the size that the witness has");
    return 0;
}

/* --- what is answered ---------------------------------------------------------------------------- */

/* The words of e as the body. */
static int refuse(struct tlog_witness_answer *a, unsigned status, const struct err *e)
{
    a->status = status;
    buf_reset(&a->body);
    buf_fmt(&a->body, "%s\n", e->msg);
    return -1;
}

/* "text/x.tlog.size": from where the next proof must start. */
static int conflict(struct tlog_witness_answer *a, uint64_t size)
{
    a->status = 409;
    a->size = true;
    buf_reset(&a->body);
    buf_fmt(&a->body, "%llu\n", (unsigned long long)size);
    return -1;
}

/* Is the note signed by a key of this log? A wrong signature by one of them spoils it. */
static int signature_check(const struct tlog_witness *w, const struct tlog_note *n, struct err *e)
{
    bool any = false;
    for (size_t i = 0; i < w->o.log_count; i++) {
        if (strcmp(w->o.logs[i].name, n->checkpoint.origin) != 0)
            continue;
        int found = tlog_note_verify(n, &w->o.logs[i], e);
        if (found < 0)
            return -1;
        any |= found > 0;
    }
    return any ? 0
               : err_set(e, ERR_UNAUTHORIZED, "checkpoint-signature",
                         "the checkpoint has no signature by a key that this witness knows for %.255s",
                         n->checkpoint.origin);
}

static int cosign(const struct tlog_witness *w, const struct tlog_note *n, struct buf *out,
                  struct err *e)
{
    struct tlog_cosignature s = {.time = (uint64_t)clock_wall()};
    struct buf text;
    buf_init(&text, TLOG_NOTE_MAX + 64);
    tlog_cosign_text(s.time, n->text, &text);
    int rc = text.failed ? err_set(e, ERR_INTERNAL, "memory", "out of memory for a cosignature")
                         : w->o.sign(w->o.sign_arg, text.p, text.len, s.sig, e);
    buf_reset(out);
    if (rc == 0)
        tlog_cosign_line(w->o.self, &s, out);
    buf_free(&text);
    return rc == 0 && out->failed ? err_set(e, ERR_INTERNAL, "memory", "out of memory") : rc;
}

/* Two signed heads of one size with different roots: whatever proof came with it. */
static bool is_fork(const struct tlog_checkpoint *a, const struct tlog_checkpoint *b)
{
    return a->size == b->size && a->size > 0 && memcmp(&a->root, &b->root, sizeof a->root) != 0;
}

/* With the log's lock held, from the comparison to the answer. */
static int extend(struct tlog_witness *w, struct witnessed *log, const struct tlog_add *q,
                  const struct tlog_note *n, struct tlog_witness_answer *a, struct err *e)
{
    const struct tlog_checkpoint *new = &n->checkpoint, *head = &log->head;
    if (is_fork(head, new)) {
        witness_fork_keep(w, log, n, q->note);
        err_set(e, ERR_UNAUTHORIZED, "witness-fork",
                "%.200s has signed another root for size %llu before: the log shows different "
                "histories to different people",
                new->origin, (unsigned long long)new->size);
        return conflict(a, head->size);
    }
    if (q->old != head->size) {
        err_set(e, ERR_EXISTS, "witness-old", "the head that this witness has of %.200s is %llu, not %llu",
                new->origin, (unsigned long long)head->size, (unsigned long long)q->old);
        return conflict(a, head->size);
    }
    if (merkle_verify_consistency(head->size, new->size, &head->root, &new->root, q->proof,
                                  q->count, e) < 0)
        return refuse(a, 422, e);
    if (new->size > head->size && witness_head_store(w, log, n, e) < 0)
        return refuse(a, 500, e);
    a->status = 200;
    return cosign(w, n, &a->body, e) < 0 ? refuse(a, 500, e) : 0;
}

int tlog_witness_add(struct tlog_witness *w, const void *body, size_t len,
                     struct tlog_witness_answer *a, struct err *e)
{
    struct tlog_add q;
    struct tlog_note n;
    a->size = false;
    if (tlog_add_parse(&q, body, len, e) < 0 || tlog_note_parse(&n, q.note.p, q.note.len, e) < 0)
        return refuse(a, e->code == ERR_TOO_LARGE ? 413 : 400, e);
    struct witnessed *log = witness_log(w, n.checkpoint.origin);
    if (!log) {
        err_set(e, ERR_NOT_FOUND, "witness-log", "this witness does not witness a log of that name");
        return refuse(a, 404, e);
    }
    if (signature_check(w, &n, e) < 0)
        return refuse(a, 403, e);
    if (q.old > n.checkpoint.size) {
        err_set(e, ERR_MALFORMED, "add-checkpoint", "the old size is larger than the checkpoint's");
        return refuse(a, 400, e);
    }
    pthread_mutex_lock(&log->lock);
    int rc = extend(w, log, &q, &n, a, e);
    pthread_mutex_unlock(&log->lock);
    return rc;
}
