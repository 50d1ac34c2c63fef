/* Checkpoints (C2SP tlog-checkpoint) in signed notes (C2SP signed-note), both directions.
 *
 *   origin \n size \n base64(root) \n [other lines \n] \n
 *   — name base64(keyID ‖ signature) \n ...
 */
#include "tlog/internal.h"
#include <string.h>

#define DASH "\xe2\x80\x94 " /* em dash, space */
#define DASH_LEN 4
#define BLOB_MAX                                                                                   \
    1024 /* decoded signature blob; post-quantum keys of others are ignored by length */

void tlog_checkpoint_body(const struct tlog_checkpoint *c, struct buf *out)
{
    buf_fmt(out, "%s\n%llu\n", c->origin, (unsigned long long)c->size);
    buf_b64(out, c->root.b, TLOG_HASH);
    buf_str(out, "\n");
}

void tlog_checkpoint_note(const struct tlog_checkpoint *c, const struct tlog_vkey *k,
                          const uint8_t sig[64], struct buf *out)
{
    uint8_t blob[4 + 64];
    memcpy(blob, k->id, 4);
    memcpy(blob + 4, sig, 64);
    tlog_checkpoint_body(c, out);
    buf_fmt(out, "\n" DASH "%s ", k->name);
    buf_b64(out, blob, sizeof blob);
    buf_str(out, "\n");
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

struct note_sig {
    struct bytes name;
    uint8_t blob[BLOB_MAX];
    long len;
};

static int sig_parse(struct note_sig *s, struct bytes line)
{
    struct cur c = cur_of(line.p, line.len);
    struct bytes dash;
    if (cur_take(&c, DASH_LEN, &dash) < 0 || !bytes_eq(dash, DASH, DASH_LEN))
        return -1;
    const uint8_t *space = memchr(c.p, ' ', cur_left(&c));
    if (!space || space == c.p)
        return -1;
    s->name = (struct bytes){c.p, (size_t)(space - c.p)};
    if (memchr(s->name.p, '+', s->name.len))
        return -1;
    s->len =
        b64_decode(s->blob, sizeof s->blob, (const char *)space + 1, (size_t)(c.end - space - 1));
    return 0;
}

static bool sig_verify(const struct note_sig *s, const struct tlog_vkey *k, struct bytes text)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = ctx && s->len == 4 + 64 && EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, k->evp) == 1 &&
              EVP_DigestVerify(ctx, s->blob + 4, 64, text.p, text.len) == 1;
    EVP_MD_CTX_free(ctx);
    return ok;
}

/* Other keys' lines are ignored; k's first must verify (a second one says nothing more). */
static int sigs_check(struct cur *in, const struct tlog_vkey *k, struct bytes text, struct err *e)
{
    bool found = false;
    struct note_sig s;
    size_t n = 0;
    do {
        struct bytes line;
        if (++n > TLOG_NOTE_SIGS)
            return format_fail(e, "more than 100 signature lines");
        if (cur_line(in, &line) < 0 || sig_parse(&s, line) < 0)
            return format_fail(e, "a signature line does not read \"\xe2\x80\x94 name base64\"");
        bool ours =
            !found && bytes_eq_str(s.name, k->name) && s.len >= 4 && memcmp(s.blob, k->id, 4) == 0;
        if (ours && !sig_verify(&s, k, text))
            return err_set(e, ERR_UNAUTHORIZED, "checkpoint-signature",
                           "the checkpoint's signature by %s is wrong: it was altered or forged",
                           k->name);
        found |= ours;
    } while (!cur_done(in));
    if (!found)
        return err_set(e, ERR_UNAUTHORIZED, "checkpoint-signature",
                       "the checkpoint has no signature of the key that was asked for (%s): it is "
                       "another log's, or the log's key was replaced",
                       k->name);
    return 0;
}

int tlog_checkpoint_open(struct tlog_checkpoint *c, const void *note, size_t len,
                         const struct tlog_vkey *k, struct err *e)
{
    memset(c, 0, sizeof *c);
    if (len > TLOG_NOTE_MAX)
        return err_set(e, ERR_TOO_LARGE, "checkpoint-format", "a checkpoint has at most %d bytes",
                       TLOG_NOTE_MAX);
    const uint8_t *p = note;
    for (size_t i = 0; i < len; i++)
        if ((p[i] < 0x20 && p[i] != '\n') || p[i] == 0x7f)
            return format_fail(e, "a control character");
    struct cur in = cur_of(p, len);
    if (body_parse(c, &in, e) < 0)
        return -1;
    if (strcmp(c->origin, k->name) != 0)
        return err_set(e, ERR_UNAUTHORIZED, "checkpoint-origin",
                       "the checkpoint's origin is not %s: it is another log's", k->name);
    struct bytes text = {p, (size_t)(in.p - p) - 1};
    return sigs_check(&in, k, text, e);
}
