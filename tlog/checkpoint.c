/* Checkpoints (C2SP tlog-checkpoint) in signed notes (C2SP signed-note), both directions.
 *
 *   origin \n size \n base64(root) \n [other lines \n] \n
 *   — name base64(keyID ‖ signature) \n ...
 */
#include "tlog/internal.h"
#include <string.h>

#define DASH "\xe2\x80\x94 " /* em dash, space */
#define DASH_LEN 4
#define SIG_MAX 128 /* of keys that we know; those of others may be of any length */

void tlog_checkpoint_body(const struct tlog_checkpoint *c, struct buf *out)
{
    buf_fmt(out, "%s\n%llu\n", c->origin, (unsigned long long)c->size);
    buf_b64(out, c->root.b, TLOG_HASH);
    buf_str(out, "\n");
}

void tlog_note_sig_write(const struct tlog_vkey *k, const uint8_t *sig, size_t len,
                         struct buf *out)
{
    uint8_t blob[4 + SIG_MAX];
    if (len > SIG_MAX) {
        out->failed = true;
        return;
    }
    memcpy(blob, k->id, 4);
    memcpy(blob + 4, sig, len);
    buf_fmt(out, DASH "%s ", k->name);
    buf_b64(out, blob, 4 + len);
    buf_str(out, "\n");
}

void tlog_checkpoint_note(const struct tlog_checkpoint *c, const struct tlog_vkey *k,
                          const uint8_t sig[64], struct buf *out)
{
    tlog_checkpoint_body(c, out);
    buf_str(out, "\n");
    tlog_note_sig_write(k, sig, 64, out);
}

static int format_fail(struct err *e, const char *why)
{
    return err_set(e, ERR_MALFORMED, "checkpoint-format",
                   "not a checkpoint (C2SP tlog-checkpoint): %s", why);
}

bool tlog_decimal(struct bytes s, uint64_t *v)
{
    if (s.len == 0 || s.len > 20 || (s.len > 1 && s.p[0] == '0'))
        return false;
    *v = 0;
    for (size_t i = 0; i < s.len; i++) {
        unsigned d = (unsigned)s.p[i] - '0';
        if (d > 9 || *v > (UINT64_MAX - d) / 10)
            return false;
        *v = *v * 10 + d;
    }
    return true;
}

static int body_parse(struct tlog_checkpoint *c, struct cur *in, struct err *e)
{
    struct bytes origin, size, root, more;
    if (cur_line(in, &origin) < 0 || cur_line(in, &size) < 0 || cur_line(in, &root) < 0)
        return format_fail(e, "fewer than three lines");
    if (origin.len == 0 || origin.len > TLOG_ORIGIN_MAX)
        return format_fail(e, "the origin line is empty or too long");
    memcpy(c->origin, origin.p, origin.len);
    if (!tlog_decimal(size, &c->size))
        return format_fail(e, "the second line is no tree size");
    if (root.len != 44 || b64_decode(c->root.b, TLOG_HASH, (const char *)root.p, 44) != TLOG_HASH)
        return format_fail(e, "the third line is no base64 root hash");
    do { /* extension lines, up to the blank one: signed, but nothing to us */
        if (cur_line(in, &more) < 0)
            return format_fail(e, "no blank line before the signatures");
    } while (more.len > 0);
    return 0;
}

/* The id is in the first 8 characters; a blob too short for one is nobody's that we know, and its
 * id is left zero with a name that matches nothing. */
int tlog_note_sig_parse(struct tlog_note_sig *s, struct bytes line, struct err *e)
{
    static const char bad[] = "a signature line does not read \"\xe2\x80\x94 name base64\"";
    struct cur c = cur_of(line.p, line.len);
    struct bytes dash;
    uint8_t head[6];
    memset(s, 0, sizeof *s);
    if (cur_take(&c, DASH_LEN, &dash) < 0 || !bytes_eq(dash, DASH, DASH_LEN))
        return format_fail(e, bad);
    const uint8_t *space = cur_left(&c) ? memchr(c.p, ' ', cur_left(&c)) : NULL;
    if (!space || space == c.p)
        return format_fail(e, bad);
    struct bytes name = {c.p, (size_t)(space - c.p)};
    if (memchr(name.p, '+', name.len))
        return format_fail(e, bad);
    s->blob64 = (struct bytes){space + 1, (size_t)(c.end - space - 1)};
    if (s->blob64.len >= 8 && b64_decode(head, sizeof head, (const char *)s->blob64.p, 8) >= 4) {
        memcpy(s->id, head, 4);
        s->name = name;
    }
    return 0;
}

bool tlog_note_sig_is(const struct tlog_note_sig *s, const struct tlog_vkey *k, uint8_t *sig,
                      size_t len, bool *whole)
{
    uint8_t blob[4 + SIG_MAX];
    if (memcmp(s->id, k->id, 4) != 0 || !bytes_eq_str(s->name, k->name))
        return false;
    *whole = len <= SIG_MAX && b64_decode(blob, sizeof blob, (const char *)s->blob64.p,
                                          s->blob64.len) == 4 + (long)len;
    if (*whole)
        memcpy(sig, blob + 4, len);
    return true;
}

int tlog_note_parse(struct tlog_note *n, const void *note, size_t len, struct err *e)
{
    memset(n, 0, sizeof *n);
    if (len > TLOG_NOTE_MAX)
        return err_set(e, ERR_TOO_LARGE, "checkpoint-format", "a checkpoint has at most %d bytes",
                       TLOG_NOTE_MAX);
    const uint8_t *p = note;
    for (size_t i = 0; i < len; i++)
        if ((p[i] < 0x20 && p[i] != '\n') || p[i] == 0x7f)
            return format_fail(e, "a control character");
    struct cur in = cur_of(p, len);
    if (body_parse(&n->checkpoint, &in, e) < 0)
        return -1;
    n->text = (struct bytes){p, (size_t)(in.p - p) - 1};
    do {
        struct bytes line;
        if (n->sig_count == TLOG_NOTE_SIGS)
            return format_fail(e, "more than 100 signature lines");
        if (cur_line(&in, &line) < 0)
            return format_fail(e, "no signature line, or the last one is cut short");
        if (tlog_note_sig_parse(&n->sigs[n->sig_count++], line, e) < 0)
            return -1;
    } while (!cur_done(&in));
    return 0;
}

int tlog_note_verify(const struct tlog_note *n, const struct tlog_vkey *k, struct err *e)
{
    uint8_t sig[64];
    bool whole;
    for (size_t i = 0; i < n->sig_count; i++) {
        if (!tlog_note_sig_is(&n->sigs[i], k, sig, sizeof sig, &whole))
            continue;
        if (whole && tlog_vkey_verify(k, sig, n->text.p, n->text.len))
            return 1;
        return err_set(e, ERR_UNAUTHORIZED, "checkpoint-signature",
                       "the checkpoint's signature by %s is wrong: it was altered or forged",
                       k->name);
    }
    return 0;
}

int tlog_checkpoint_open(struct tlog_checkpoint *c, const void *note, size_t len,
                         const struct tlog_vkey *k, struct err *e)
{
    struct tlog_note n;
    memset(c, 0, sizeof *c);
    if (tlog_note_parse(&n, note, len, e) < 0)
        return -1;
    *c = n.checkpoint;
    if (strcmp(c->origin, k->name) != 0)
        return err_set(e, ERR_UNAUTHORIZED, "checkpoint-origin",
                       "the checkpoint's origin is not %s: it is another log's", k->name);
    int found = tlog_note_verify(&n, k, e);
    if (found == 0)
        return err_set(e, ERR_UNAUTHORIZED, "checkpoint-signature",
                       "the checkpoint has no signature of the key that was asked for (%s): it is "
                       "another log's, or the log's key was replaced",
                       k->name);
    return found < 0 ? -1 : 0;
}
