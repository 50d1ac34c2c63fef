/* C2SP tlog-proof, both directions, and what it proves about a certificate. */
#include "tlog/internal.h"
#include <string.h>

#define PROOF_MAGIC "c2sp.org/tlog-proof@v1"

void tlog_proof_write(struct buf *out, struct bytes extra, uint64_t index,
                      const struct tlog_hash *path, size_t path_len, const void *note,
                      size_t note_len)
{
    buf_str(out, PROOF_MAGIC "\n");
    if (extra.len > 0) {
        buf_str(out, "extra ");
        buf_b64(out, extra.p, extra.len);
        buf_str(out, "\n");
    }
    buf_fmt(out, "index %llu\n", (unsigned long long)index);
    for (size_t i = 0; i < path_len; i++) {
        buf_b64(out, path[i].b, TLOG_HASH);
        buf_str(out, "\n");
    }
    buf_str(out, "\n");
    buf_put(out, note, note_len);
}

static int format_fail(struct err *e, const char *why)
{
    return err_set(e, ERR_MALFORMED, "proof-format", "not a log proof (C2SP tlog-proof): %s", why);
}

/* The line's text after `word`; NULL view when the line does not begin so. */
static bool after(struct bytes line, const char *word, struct bytes *rest)
{
    size_t n = strlen(word);
    if (line.len <= n || memcmp(line.p, word, n) != 0)
        return false;
    *rest = (struct bytes){line.p + n, line.len - n};
    return true;
}

int tlog_proof_parse(struct tlog_proof *p, const void *text, size_t len, struct err *e)
{
    memset(p, 0, sizeof *p);
    if (len > TLOG_PROOF_MAX)
        return err_set(e, ERR_TOO_LARGE, "proof-format", "a log proof has at most %d bytes",
                       TLOG_PROOF_MAX);
    struct cur c = cur_of(text, len);
    struct bytes line = {0}, rest;
    if (cur_line(&c, &line) < 0 || !bytes_eq_str(line, PROOF_MAGIC))
        return format_fail(e, "the first line is not " PROOF_MAGIC);
    cur_line(&c, &line);
    if (!c.failed && after(line, "extra ", &rest)) {
        long n = b64_decode(p->extra, sizeof p->extra, (const char *)rest.p, rest.len);
        if (n < 0)
            return format_fail(e, "the extra line is no base64, or too long");
        p->extra_len = (size_t)n;
        cur_line(&c, &line);
    }
    if (c.failed || !after(line, "index ", &rest) || !tlog_decimal(rest, &p->index))
        return format_fail(e, "no index line");
    while (cur_line(&c, &line) == 0 && line.len > 0) {
        if (p->path_len == TLOG_LEVELS)
            return format_fail(e, "more than 64 hashes");
        if (line.len != 44 || b64_decode(p->path[p->path_len].b, TLOG_HASH, (const char *)line.p,
                                         line.len) != TLOG_HASH)
            return format_fail(e, "a hash line is not base64 of 32 bytes");
        p->path_len++;
    }
    if (c.failed)
        return format_fail(e, "no blank line after the hashes");
    if (cur_left(&c) == 0)
        return format_fail(e, "no checkpoint");
    cur_take(&c, cur_left(&c), &p->checkpoint);
    return 0;
}

int tlog_proof_verify(const struct tlog_proof *p, const struct tlog_hash *leaf,
                      const struct tlog_vkey *k, struct tlog_checkpoint *cp, struct err *e)
{
    if (tlog_checkpoint_open(cp, p->checkpoint.p, p->checkpoint.len, k, e) < 0)
        return -1;
    return merkle_verify_inclusion(p->index, cp->size, leaf, p->path, p->path_len, &cp->root, e);
}

/* Serial = (log number << 48) | index, log number 1..65535. */
static int serial_check(struct bytes serial, uint64_t index, uint16_t *log_number, struct err *e)
{
    uint64_t v = 0;
    for (size_t i = 0; i < serial.len && i < 8; i++)
        v = v << 8 | serial.p[i];
    *log_number = (uint16_t)(v >> 48);
    if (serial.len > 8 || *log_number == 0)
        return err_set(e, ERR_UNAUTHORIZED, "proof-serial",
                       "the certificate's serial number names no log entry, so this log did not "
                       "give it out");
    if ((v & 0xffffffffffff) != index)
        return err_set(e, ERR_UNAUTHORIZED, "proof-serial",
                       "the certificate's serial number names entry %llu, but its proof is of "
                       "entry %llu: mis-issuance, report it",
                       (unsigned long long)(v & 0xffffffffffff), (unsigned long long)index);
    return 0;
}

/* The leaf that the certificate and the proof's extension list stand for. */
static int cert_leaf(struct tlog_hash *leaf, const struct tlog_proof *p, struct bytes body,
                     struct err *e)
{
    struct buf entry;
    struct tlog_entry t = {
        .type = TLOG_ENTRY_TBS_CERT, .extensions = {p->extra, p->extra_len}, .body = body};
    buf_init(&entry, TLOG_ENTRY_MAX);
    tlog_entry_write(&t, &entry);
    int ret = entry.failed ? err_set(e, ERR_TOO_LARGE, "proof-format",
                                     "the certificate's log entry does not fit")
                           : tlog_entry_parse(&t, entry.p, entry.len, e);
    if (ret == 0)
        merkle_leaf(leaf, entry.p, entry.len);
    buf_free(&entry);
    return ret;
}

int tlog_cert_claim(struct tlog_claim *c, const uint8_t *cert, size_t len, struct bytes proof,
                    struct err *e)
{
    struct tlog_cert_fields f;
    struct bytes stapled;
    struct buf body;
    buf_init(&body, TLOG_ENTRY_MAX);
    int ret = tlog_cert_body(&body, &f, &stapled, cert, len, e);
    if (ret == 0 && proof.len == 0)
        proof = stapled;
    if (ret == 0 && proof.len == 0)
        ret = err_set(e, ERR_UNAUTHORIZED, "proof-missing",
                      "the certificate has no stapled log proof, so nothing shows that it was "
                      "logged");
    if (ret == 0 && (tlog_proof_parse(&c->proof, proof.p, proof.len, e) < 0 ||
                     serial_check(f.serial, c->proof.index, &c->log_number, e) < 0 ||
                     cert_leaf(&c->leaf, &c->proof, (struct bytes){body.p, body.len}, e) < 0))
        ret = -1;
    buf_free(&body);
    return ret;
}

int tlog_cert_verify(const uint8_t *cert, size_t len, const struct tlog_vkey *k,
                     struct tlog_proven *info, struct err *e)
{
    struct tlog_claim c;
    struct tlog_checkpoint cp;
    if (tlog_cert_claim(&c, cert, len, (struct bytes){NULL, 0}, e) < 0 ||
        tlog_proof_verify(&c.proof, &c.leaf, k, &cp, e) < 0)
        return -1;
    if (info)
        *info = (struct tlog_proven){c.proof.index, c.log_number, cp};
    return 0;
}
