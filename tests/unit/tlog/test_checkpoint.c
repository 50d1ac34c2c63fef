/* Verifier keys and checkpoints: both directions, and what is refused. */
#include "tests/unit/tlog/support.h"

static struct test_log ours, witness;

static int setup(void **state)
{
    test_key(&ours, "log.example.org/one");
    test_key(&witness, "witness.example.net");
    return 0;
}

static int teardown(void **state)
{
    tlog_vkey_free(&ours.vkey);
    tlog_vkey_free(&witness.vkey);
    EVP_PKEY_free(ours.key);
    EVP_PKEY_free(witness.key);
    return 0;
}

/* The key in the Go checksum database's client, known to everyone. */
static void vkey_known(void **state)
{
    static const char text[] =
        "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8";
    struct tlog_vkey k;
    struct buf b;
    struct err e;
    assert_ok(tlog_vkey_parse(&k, text, strlen(text), &e), e);
    assert_string_equal(k.name, "sum.golang.org");
    assert_memory_equal(k.id, "\x03\x3d\xe0\xae", 4);
    buf_init(&b, 1000);
    tlog_vkey_write(&k, &b);
    assert_string_equal(buf_cstr(&b), text);
    buf_free(&b);
    tlog_vkey_free(&k);
}

static void vkey_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "+",
        "sum.golang.org",
        "sum.golang.org+033de0ae",
        "sum.golang.org+033de0ae+",
        "+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8",
        "sum.golang.orh+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8",
        "sum.golang.org+133de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8",
        "sum.golang.org+033de0ae+Bc4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8",
        "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn",
        "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8=",
        "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8\n",
        "sum.golang.org+033de0a+ Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8",
        "sum golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8",
    };
    struct tlog_vkey k;
    struct err e;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (tlog_vkey_parse(&k, bad[i], strlen(bad[i]), &e) == 0)
            fail_msg("accepted: %s", bad[i]);
        assert_rule(e, "vkey-format");
        assert_null(k.evp);
    }
    char name[300];
    uint8_t pub[32] = {1};
    memset(name, 'a', sizeof name);
    name[256] = 0;
    assert_int_equal(tlog_vkey_make(&k, name, pub, &e), -1);
    assert_int_equal(tlog_vkey_make(&k, "", pub, &e), -1);
    assert_int_equal(tlog_vkey_make(&k, "a+b", pub, &e), -1);
    assert_int_equal(tlog_vkey_make(&k, "a b", pub, &e), -1);
    assert_int_equal(tlog_vkey_make(&k, "a\nb", pub, &e), -1);
}

/* A note whose body is `body`, signed by `by` in the name of `as`. */
static void note_make(struct buf *out, const char *body, struct test_log *by,
                      const struct tlog_vkey *as)
{
    uint8_t blob[68];
    struct err e;
    memcpy(blob, as->id, 4);
    test_sign(by, (const uint8_t *)body, strlen(body), blob + 4, &e);
    buf_str(out, body);
    buf_fmt(out, "\n\xe2\x80\x94 %s ", as->name);
    buf_b64(out, blob, sizeof blob);
    buf_str(out, "\n");
}

#define ROOT "1111111111111111111111111111111111111111110="
static const char body_ok[] = "log.example.org/one\n123456789012\n" ROOT "\n";

static int open_note(const struct buf *b, struct tlog_checkpoint *c, struct err *e)
{
    return tlog_checkpoint_open(c, b->p, b->len, &ours.vkey, e);
}

static void round_trip(void **state)
{
    struct tlog_checkpoint c = {.origin = "log.example.org/one", .size = 123456789012}, d;
    struct buf body, note, by_hand;
    struct err e;
    uint8_t sig[64];
    assert_int_equal(b64_decode(c.root.b, 32, ROOT, 44), 32);
    buf_init(&body, 1000);
    buf_init(&note, 1000);
    buf_init(&by_hand, 1000);
    tlog_checkpoint_body(&c, &body);
    assert_string_equal(buf_cstr(&body), body_ok);
    test_sign(&ours, body.p, body.len, sig, &e);
    tlog_checkpoint_note(&c, &ours.vkey, sig, &note);
    note_make(&by_hand, body_ok, &ours, &ours.vkey);
    assert_true(bytes_eq(view(&note), by_hand.p, by_hand.len));
    assert_ok(open_note(&note, &d, &e), e);
    assert_int_equal(d.size, c.size);
    assert_string_equal(d.origin, c.origin);
    assert_memory_equal(&d.root, &c.root, 32);
    for (size_t i = 0; i < note.len; i++) { /* no bit is without meaning */
        note.p[i] ^= 1;
        assert_int_equal(open_note(&note, &d, &e), -1);
        note.p[i] ^= 1;
        assert_int_equal(tlog_checkpoint_open(&d, note.p, i, &ours.vkey, &e), -1);
    }
    buf_free(&body);
    buf_free(&note);
    buf_free(&by_hand);
}

static void other_signatures(void **state)
{
    struct tlog_checkpoint c;
    struct buf b, lines;
    struct err e;
    buf_init(&b, TLOG_NOTE_MAX);
    buf_init(&lines, TLOG_NOTE_MAX);
    note_make(&b, body_ok, &ours, &ours.vkey);
    size_t plain = b.len;
    /* a cosignature of a witness, an unknown algorithm with a long signature, a second of ours */
    buf_str(&b, "\xe2\x80\x94 witness.example.net AAAAAAAAAAAAAAAAAAAA\n");
    buf_str(&b, "\xe2\x80\x94 pq.example.net ");
    for (int i = 0; i < 1000; i++)
        buf_str(&b, "AAAA");
    buf_str(&b, "\n");
    assert_ok(open_note(&b, &c, &e), e);
    b.len = plain;
    for (int i = 0; i < TLOG_NOTE_SIGS - 1; i++)
        buf_str(&b, "\xe2\x80\x94 witness.example.net AAAAAAAA\n");
    assert_ok(open_note(&b, &c, &e), e);
    buf_str(&b, "\xe2\x80\x94 witness.example.net AAAAAAAA\n");
    assert_int_equal(open_note(&b, &c, &e), -1);
    assert_rule(e, "checkpoint-format");
    b.len = plain;
    buf_str(&b, "\xe2\x80\x94 no-signature\n");
    assert_int_equal(open_note(&b, &c, &e), -1);
    assert_rule(e, "checkpoint-format");
    b.len = plain;
    buf_str(&b, "trailing");
    assert_int_equal(open_note(&b, &c, &e), -1);
    buf_free(&b);
    buf_free(&lines);
}

static void wrong_signer(void **state)
{
    struct tlog_checkpoint c;
    struct buf b;
    struct err e;
    buf_init(&b, TLOG_NOTE_MAX);
    note_make(&b, body_ok, &witness, &witness.vkey); /* by another */
    assert_int_equal(open_note(&b, &c, &e), -1);
    assert_rule(e, "checkpoint-signature");
    buf_reset(&b);
    note_make(&b, body_ok, &witness, &ours.vkey); /* by another, in our name */
    assert_int_equal(open_note(&b, &c, &e), -1);
    assert_rule(e, "checkpoint-signature");
    buf_reset(&b);
    note_make(&b, "log.example.org/two\n5\n" ROOT "\n", &ours, &ours.vkey);
    assert_int_equal(open_note(&b, &c, &e), -1);
    assert_rule(e, "checkpoint-origin");
    buf_reset(&b);
    note_make(&b, "log.example.org/one\n5\n" ROOT "\nextension line\n", &ours, &ours.vkey);
    assert_ok(open_note(&b, &c, &e), e);
    assert_int_equal(c.size, 5);
    buf_free(&b);
}

static void format_refused(void **state)
{
#define ORIGIN "log.example.org/one\n"
    static const char *const bad[] = {
        "",
        "\n",
        ORIGIN,
        ORIGIN "5\n",
        ORIGIN "5\n" ROOT,
        "\n5\n" ROOT "\n",
        ORIGIN "\n" ROOT "\n",
        ORIGIN "05\n" ROOT "\n",
        ORIGIN "+5\n" ROOT "\n",
        ORIGIN "-5\n" ROOT "\n",
        ORIGIN "5 \n" ROOT "\n",
        ORIGIN "0x5\n" ROOT "\n",
        ORIGIN "18446744073709551616\n" ROOT "\n",
        ORIGIN "99999999999999999999\n" ROOT "\n",
        ORIGIN "123456789012345678901\n" ROOT "\n",
        ORIGIN "5\n1111\n",
        ORIGIN "5\n" ROOT "=\n",
        ORIGIN "5\n111111111111111111111111111111111111111111==\n",
        ORIGIN "5\r\n" ROOT "\r\n",
        ORIGIN "5\n" ROOT "\nx\ty\n",
    };
    struct tlog_checkpoint c;
    struct buf b;
    struct err e;
    buf_init(&b, 2 * TLOG_NOTE_MAX);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        buf_reset(&b);
        note_make(&b, bad[i], &ours, &ours.vkey);
        if (open_note(&b, &c, &e) == 0)
            fail_msg("accepted body %zu: %s", i, bad[i]);
        assert_rule(e, "checkpoint-format");
    }
    buf_reset(&b);
    note_make(&b, ORIGIN "18446744073709551615\n" ROOT "\n", &ours, &ours.vkey);
    assert_ok(open_note(&b, &c, &e), e);
    assert_true(c.size == UINT64_MAX);
    while (b.len <= TLOG_NOTE_MAX)
        buf_str(&b, "\xe2\x80\x94 witness.example.net AAAAAAAA\n");
    assert_int_equal(open_note(&b, &c, &e), -1);
    assert_int_equal(e.code, ERR_TOO_LARGE);
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vkey_known),   cmocka_unit_test(vkey_refused),
        cmocka_unit_test(round_trip),   cmocka_unit_test(other_signatures),
        cmocka_unit_test(wrong_signer), cmocka_unit_test(format_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
