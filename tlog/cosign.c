/* Cosignatures (C2SP tlog-cosignature v1). */
#include "tlog/cosign.h"
#include <string.h>

void tlog_cosign_text(uint64_t time, struct bytes text, struct buf *out)
{
    buf_fmt(out, "cosignature/v1\ntime %llu\n", (unsigned long long)time);
    buf_put(out, text.p, text.len);
}

void tlog_cosign_line(const struct tlog_vkey *witness, const struct tlog_cosignature *s,
                      struct buf *out)
{
    uint8_t blob[TLOG_COSIGNATURE];
    for (unsigned i = 0; i < 8; i++)
        blob[i] = (uint8_t)(s->time >> (56 - 8 * i));
    memcpy(blob + 8, s->sig, 64);
    tlog_note_sig_write(witness, blob, sizeof blob, out);
}

static int cosign_fail(struct err *e, enum err_code code, const struct tlog_vkey *w,
                       const char *why)
{
    return err_set(e, code, "cosignature", "the cosignature by %s %s", w->name, why);
}

/* 1 the line is the witness's, 0 it is another's, -1 it is the witness's but no cosignature. */
static int sig_read(struct tlog_cosignature *s, const struct tlog_note_sig *line,
                    const struct tlog_vkey *w, struct err *e)
{
    uint8_t blob[TLOG_COSIGNATURE];
    bool whole;
    if (w->type != TLOG_KEY_WITNESS || !tlog_note_sig_is(line, w, blob, sizeof blob, &whole))
        return 0;
    if (!whole)
        return cosign_fail(e, ERR_MALFORMED, w, "is not base64 of key id, time and signature");
    struct cur c = cur_of(blob, sizeof blob);
    cur_u64(&c, &s->time);
    cur_copy(&c, s->sig, sizeof s->sig);
    return 1;
}

int tlog_cosign_parse(struct tlog_cosignature *s, const struct tlog_vkey *witness,
                      struct bytes line, struct err *e)
{
    struct tlog_note_sig sig;
    struct err ignored;
    memset(s, 0, sizeof *s);
    if (tlog_note_sig_parse(&sig, line, &ignored) < 0)
        return cosign_fail(e, ERR_MALFORMED, witness, "does not read \"\xe2\x80\x94 name base64\"");
    int found = sig_read(s, &sig, witness, e);
    if (found == 0)
        return cosign_fail(e, ERR_UNAUTHORIZED, witness, "is missing: the line is another key's");
    return found < 0 ? -1 : 0;
}

int tlog_cosign_verify(const struct tlog_cosignature *s, const struct tlog_vkey *witness,
                       struct bytes text, struct err *e)
{
    struct buf b;
    buf_init(&b, TLOG_NOTE_MAX + 64);
    tlog_cosign_text(s->time, text, &b);
    bool failed = b.failed, good = !failed && tlog_vkey_verify(witness, s->sig, b.p, b.len);
    buf_free(&b);
    if (failed)
        return err_set(e, ERR_INTERNAL, "memory", "out of memory for a cosignature");
    return good ? 0
                : cosign_fail(e, ERR_UNAUTHORIZED, witness, "is wrong: it was altered or forged");
}

/* A witness may have cosigned twice. The newest by its own word is verified and counts; verifying
 * the others would tell nothing more, and let a long note cost a hundred verifications. */
int tlog_cosign_find(const struct tlog_note *n, const struct tlog_vkey *witness, uint64_t *time,
                     struct err *e)
{
    struct tlog_cosignature s, newest = {0};
    int any = 0;
    for (size_t i = 0; i < n->sig_count; i++) {
        int found = sig_read(&s, &n->sigs[i], witness, e);
        if (found < 0)
            return -1;
        if (found > 0 && (!any || s.time > newest.time))
            newest = s;
        any |= found;
    }
    *time = newest.time;
    return any && tlog_cosign_verify(&newest, witness, n->text, e) < 0 ? -1 : any;
}
