/* A certificate that is proven logged, with everything that leads there: key, log, entry, proof.
 * And witnesses, whose lines may be added to the proof's checkpoint. */
#ifndef TLOG_TEST_PROVEN_H
#define TLOG_TEST_PROVEN_H
#include "tests/unit/tlog/support.h"
#include "tlog/cosign.h"

#define PROVEN_ORIGIN "log.example.org/cert"
#define PROVEN_INDEX 6
#define PROVEN_BATCH 10

struct proven_cert {
    struct test_log k; /* the log */
    struct test_cert form;
    struct buf cert, body, ext, text, proof; /* text: the checkpoint's, that is signed */
    struct tlog_checkpoint head;
    uint64_t index;
    struct tlog_hash path[TLOG_LEVELS];
    size_t path_len;
};

static const struct test_cert proven_form = {
    .serial = (uint64_t)7 << 48 | 42, .not_before = 1767225600, .not_after = 1767225900};

/* One line of a note, signed over `text` by any key: log's plain, witness's with this time. */
UNUSED static void sig_line(struct buf *out, struct test_log *by, uint64_t time, struct bytes text)
{
    struct tlog_cosignature s = {.time = time};
    struct buf msg;
    struct err e;
    buf_init(&msg, TLOG_NOTE_MAX + 100);
    if (by->vkey.type == TLOG_KEY_WITNESS)
        tlog_cosign_text(time, text, &msg);
    else
        buf_put(&msg, text.p, text.len);
    assert_ok(test_sign(by, msg.p, msg.len, s.sig, &e), e);
    if (by->vkey.type == TLOG_KEY_WITNESS)
        tlog_cosign_line(&by->vkey, &s, out);
    else
        tlog_note_sig_write(&by->vkey, s.sig, sizeof s.sig, out);
    buf_free(&msg);
}

UNUSED static void test_witness(struct test_log *w, const char *name)
{
    struct err e;
    uint8_t pub[32];
    memset(w, 0, sizeof *w);
    test_key(w, name);
    memcpy(pub, w->vkey.pub, sizeof pub);
    tlog_vkey_free(&w->vkey);
    assert_ok(tlog_vkey_make_witness(&w->vkey, name, pub, &e), e);
}

UNUSED static void test_key_free(struct test_log *k)
{
    tlog_vkey_free(&k->vkey);
    EVP_PKEY_free(k->key);
    k->key = NULL;
}

/* The certificate anew, its proof's checkpoint signed by the log and with these lines besides. */
UNUSED static void proven_staple(struct proven_cert *p, struct bytes lines)
{
    struct buf note;
    buf_init(&note, TLOG_NOTE_MAX);
    buf_put(&note, p->text.p, p->text.len);
    buf_str(&note, "\n");
    sig_line(&note, &p->k, 0, view(&p->text));
    buf_put(&note, lines.p, lines.len);
    buf_reset(&p->proof);
    tlog_proof_write(&p->proof, view(&p->ext), p->index, p->path, p->path_len, note.p, note.len);
    p->form.stapled = view(&p->proof);
    buf_reset(&p->cert);
    cert_make(&p->cert, &p->form);
    assert_false(note.failed || p->proof.failed);
    buf_free(&note);
}

/* Entry PROVEN_INDEX of a batch of ten behind `before` others. */
static void proven_log(struct proven_cert *p, uint64_t before, struct bytes entry)
{
    struct merkle_frontier f = {0};
    struct tlog_hash leaf[PROVEN_BATCH];
    merkle_leaf(&leaf[0], "before", 6);
    for (uint64_t i = 0; i < before; i++)
        merkle_frontier_push(&f, &leaf[0]);
    for (uint32_t i = 0; i < PROVEN_BATCH; i++)
        merkle_leaf(&leaf[i], &i, sizeof i);
    merkle_leaf(&leaf[PROVEN_INDEX], entry.p, entry.len);
    struct merkle_batch *b = merkle_batch_new(PROVEN_BATCH);
    assert_non_null(b);
    merkle_batch_append(b, &f, leaf, PROVEN_BATCH);
    merkle_batch_root(b, &p->head.root);
    p->head.size = before + PROVEN_BATCH;
    p->path_len = merkle_batch_proof(b, PROVEN_INDEX, p->path);
    merkle_batch_free(b);
}

/* What the next certificate's entry says. */
UNUSED static struct bytes proven_attestor = {(const uint8_t *)"join_token", 10};

/* `serial`: what the certificate's says, right when it is log number << 48 | index. */
UNUSED static void proven_make_in(struct proven_cert *p, uint64_t before, uint64_t serial)
{
    struct tlog_ext_info x = {.attestor = proven_attestor,
                              .entry_id = {(const uint8_t *)"web-1", 5},
                              .requester = {(const uint8_t *)"spiffe://example.org/host/a", 27},
                              .entry_revision = 3};
    struct tlog_cert_fields fields_of;
    struct tlog_entry t = {.type = TLOG_ENTRY_TBS_CERT};
    struct buf *bufs[] = {&p->cert, &p->body, &p->ext, &p->text, &p->proof}, entry;
    struct bytes stapled;
    struct err e;
    memset(p, 0, sizeof *p);
    for (size_t i = 0; i < sizeof bufs / sizeof bufs[0]; i++)
        buf_init(bufs[i], TLOG_ENTRY_MAX);
    buf_init(&entry, TLOG_ENTRY_MAX);
    test_key(&p->k, PROVEN_ORIGIN);
    p->index = before + PROVEN_INDEX;
    p->form = proven_form;
    p->form.serial = serial;
    cert_make(&p->cert, &p->form);
    assert_ok(tlog_cert_body(&p->body, &fields_of, &stapled, p->cert.p, p->cert.len, &e), e);
    tlog_ext_write(&x, &p->ext);
    t.extensions = view(&p->ext);
    t.body = view(&p->body);
    tlog_entry_write(&t, &entry);
    proven_log(p, before, view(&entry));
    snprintf(p->head.origin, sizeof p->head.origin, "%s", PROVEN_ORIGIN);
    tlog_checkpoint_body(&p->head, &p->text);
    proven_staple(p, (struct bytes){NULL, 0});
    buf_free(&entry);
}

UNUSED static void proven_make(struct proven_cert *p, uint64_t serial_index, uint64_t log_number)
{
    proven_make_in(p, 0, log_number << 48 | serial_index);
}

UNUSED static void proven_free(struct proven_cert *p)
{
    struct buf *bufs[] = {&p->cert, &p->body, &p->ext, &p->text, &p->proof};
    test_key_free(&p->k);
    for (size_t i = 0; i < sizeof bufs / sizeof bufs[0]; i++)
        buf_free(bufs[i]);
}
#endif
