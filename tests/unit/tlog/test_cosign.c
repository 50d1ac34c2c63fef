/* Cosignatures, and the keys that make them. */
#include "tests/unit/tlog/proven.h"

#define BODY "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
/* Made with Python and the openssl command from the secret key of RFC 8032 section 7.1, test 1. */
static const char known_key[] =
    "witness.example.com/w1+7e6f4aaa+BNdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea";
static const char known_line[] =
    "\xe2\x80\x94 witness.example.com/w1 fm9KqgAAAABkGFDL+TPmh4BYuAjsYRoqMJCWb/gWJaeRF/kmm5tlCr9sJ57"
    "DLErur7K0yDXc2ArN+TIuotuB/HbuL3AJsp3bv/aNCQ==";
static const struct bytes body = {(const uint8_t *)BODY, sizeof BODY - 1};

static struct bytes text_of(const char *s)
{
    return (struct bytes){(const uint8_t *)s, strlen(s)};
}

static void known(void **state)
{
    struct tlog_vkey w;
    struct tlog_cosignature s;
    struct buf b;
    struct err e;
    buf_init(&b, 1000);
    assert_ok(tlog_vkey_parse_witness(&w, known_key, strlen(known_key), &e), e);
    assert_int_equal(w.type, TLOG_KEY_WITNESS);
    tlog_vkey_write(&w, &b);
    assert_string_equal(buf_cstr(&b), known_key);
    assert_ok(tlog_cosign_parse(&s, &w, text_of(known_line), &e), e);
    assert_int_equal(s.time, 1679315147);
    assert_ok(tlog_cosign_verify(&s, &w, body, &e), e);
    buf_reset(&b);
    tlog_cosign_line(&w, &s, &b);
    buf_cstr(&b);
    assert_int_equal(b.len, sizeof known_line); /* and its newline */
    assert_memory_equal(b.p, known_line, sizeof known_line - 1);
    buf_reset(&b);
    tlog_cosign_text(7, text_of("x\n"), &b);
    assert_string_equal(buf_cstr(&b), "cosignature/v1\ntime 7\nx\n");
    buf_free(&b);
    tlog_vkey_free(&w);
}

/* Time, text and signature all bear on it. */
static void altered(void **state)
{
    struct tlog_vkey w;
    struct tlog_cosignature s;
    struct err e;
    assert_ok(tlog_vkey_parse_witness(&w, known_key, strlen(known_key), &e), e);
    assert_ok(tlog_cosign_parse(&s, &w, text_of(known_line), &e), e);
    s.time++;
    assert_int_equal(tlog_cosign_verify(&s, &w, body, &e), -1);
    assert_rule(e, "cosignature");
    s.time--;
    s.sig[5] ^= 1;
    assert_int_equal(tlog_cosign_verify(&s, &w, body, &e), -1);
    s.sig[5] ^= 1;
    assert_int_equal(tlog_cosign_verify(&s, &w, (struct bytes){body.p, body.len - 1}, &e), -1);
    assert_ok(tlog_cosign_verify(&s, &w, body, &e), e);
    tlog_vkey_free(&w);
}

static void line_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "\xe2\x80\x94 ",
        "- witness.example.com/w1 fm9Kqg==",
        "\xe2\x80\x94 witness.example.com/w1",
        "\xe2\x80\x94 witness.example.com/w1 ",
        "\xe2\x80\x94 witness.example.com/w1 fm9K",
        "\xe2\x80\x94 witness.example.com/w1 fm9Kqg==",
        "\xe2\x80\x94 witness.example.com/w1 fm9KqgAAAABkGFDL",
        "\xe2\x80\x94 witness.example.com/w2 fm9KqgAAAABkGFDL+TPmh4BYuAjsYRoqMJCWb/gWJaeRF/kmm5tlCr9s"
        "J57DLErur7K0yDXc2ArN+TIuotuB/HbuL3AJsp3bv/aNCQ==", /* another name */
        "\xe2\x80\x94 witness.example.com/w1 fm9KqwAAAABkGFDL+TPmh4BYuAjsYRoqMJCWb/gWJaeRF/kmm5tlCr9s"
        "J57DLErur7K0yDXc2ArN+TIuotuB/HbuL3AJsp3bv/aNCQ==", /* another key id */
        "\xe2\x80\x94 witness.example.com/w1 fm9KqgAAAABkGFDL+TPmh4BYuAjsYRoqMJCWb/gWJaeRF/kmm5tlCr9s"
        "J57DLErur7K0yDXc2ArN+TIuotuB/HbuL3AJsp3bv/aNCQ==\n",
        "\xe2\x80\x94 witness.example.com/w1 fm9KqgAAAABkGFDL+TPmh4BYuAjsYRoqMJCWb/gWJaeRF/kmm5tlCr9s"
        "J57DLErur7K0yDXc2ArN+TIuotuB/HbuL3AJsp3bv/aNCQAA",
    };
    struct tlog_vkey w;
    struct tlog_cosignature s;
    struct err e;
    assert_ok(tlog_vkey_parse_witness(&w, known_key, strlen(known_key), &e), e);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (tlog_cosign_parse(&s, &w, text_of(bad[i]), &e) == 0)
            fail_msg("accepted: %s", bad[i]);
        assert_rule(e, "cosignature");
    }
    tlog_vkey_free(&w);
}

/* Each reader takes its own type only: a log's word is not a witness's. */
static void types_apart(void **state)
{
    static const char log_key[] =
        "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8";
    struct tlog_vkey k;
    struct err e;
    assert_int_equal(tlog_vkey_parse_witness(&k, log_key, strlen(log_key), &e), -1);
    assert_rule(e, "vkey-format");
    assert_int_equal(tlog_vkey_parse(&k, known_key, strlen(known_key), &e), -1);
    assert_rule(e, "vkey-format");
    assert_null(k.evp);
    /* nor is a line of a cosignature's form, by a log's key */
    struct tlog_cosignature s = {.time = 1};
    struct buf line;
    buf_init(&line, 1000);
    assert_ok(tlog_vkey_parse(&k, log_key, strlen(log_key), &e), e);
    tlog_cosign_line(&k, &s, &line);
    assert_int_equal(tlog_cosign_parse(&s, &k, (struct bytes){line.p, line.len - 1}, &e), -1);
    assert_rule(e, "cosignature");
    buf_free(&line);
    tlog_vkey_free(&k);
}

/* All encodings of the eight points of small order, and a log or witness with such a key. */
static void small_order(void **state)
{
    static const char *const hex[] = {
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    };
    for (size_t i = 0; i < 2 * sizeof hex / sizeof hex[0]; i++) {
        struct tlog_vkey k;
        struct err e;
        uint8_t pub[32];
        assert_int_equal(hex_decode(pub, sizeof pub, hex[i / 2], 64), 32);
        pub[31] = (uint8_t)(pub[31] | (i % 2 ? 0x80 : 0));
        assert_int_equal(tlog_vkey_make(&k, "log.example.org", pub, &e), -1);
        assert_int_equal(e.code, ERR_BAD_KEY);
        assert_int_equal(tlog_vkey_make_witness(&k, "w.example.org", pub, &e), -1);
        assert_null(k.evp);
    }
    /* written down as a verifier key, with the id that belongs to it */
    static const char text[] = "log.example.org+74926e07+AQEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    struct tlog_vkey k;
    struct err e;
    assert_int_equal(tlog_vkey_parse(&k, text, strlen(text), &e), -1);
    assert_int_equal(e.code, ERR_BAD_KEY);
    assert_non_null(strstr(e.msg, "small order"));
}

/* --- in a note ----------------------------------------------------------------------------------- */

static struct proven_cert p;
static struct test_log w1, w2;

static int setup(void **state)
{
    proven_make(&p, PROVEN_INDEX, 7);
    test_witness(&w1, "witness.example.net/1");
    test_witness(&w2, "witness.example.net/2");
    return 0;
}

static int teardown(void **state)
{
    proven_free(&p);
    test_key_free(&w1);
    test_key_free(&w2);
    return 0;
}

/* A note of the log's with these lines; what tlog_cosign_find says of w1. */
static int find_in(const struct buf *lines, uint64_t *time, struct err *e)
{
    struct tlog_note n;
    struct buf note;
    buf_init(&note, TLOG_NOTE_MAX);
    buf_put(&note, p.text.p, p.text.len);
    buf_str(&note, "\n");
    sig_line(&note, &p.k, 0, view(&p.text));
    buf_put(&note, lines->p, lines->len);
    int rc = tlog_note_parse(&n, note.p, note.len, e);
    if (rc == 0)
        rc = tlog_cosign_find(&n, &w1.vkey, time, e);
    buf_free(&note);
    return rc;
}

static void find(void **state)
{
    struct buf lines;
    struct err e;
    uint64_t time;
    buf_init(&lines, TLOG_NOTE_MAX);
    assert_int_equal(find_in(&lines, &time, &e), 0);
    sig_line(&lines, &w2, 50, view(&p.text));
    assert_int_equal(find_in(&lines, &time, &e), 0);
    sig_line(&lines, &w1, 100, view(&p.text));
    assert_int_equal(find_in(&lines, &time, &e), 1);
    assert_int_equal(time, 100);
    sig_line(&lines, &w1, 300, view(&p.text)); /* its newest word counts, wherever it stands */
    sig_line(&lines, &w1, 200, view(&p.text));
    assert_int_equal(find_in(&lines, &time, &e), 1);
    assert_int_equal(time, 300);
    sig_line(&lines, &w1, 400, text_of("another head\n"));
    assert_int_equal(find_in(&lines, &time, &e), -1);
    assert_rule(e, "cosignature");
    buf_reset(&lines); /* its name and id, and not a cosignature's size */
    tlog_note_sig_write(&w1.vkey, (const uint8_t *)"short", 5, &lines);
    assert_int_equal(find_in(&lines, &time, &e), -1);
    assert_rule(e, "cosignature");
    buf_free(&lines);
}

/* A signature of the log over the note is none of a witness, even by the same key. */
static void plain_signature(void **state)
{
    struct test_log both = {0};
    struct buf lines;
    struct err e;
    uint64_t time;
    buf_init(&lines, TLOG_NOTE_MAX);
    both.key = w1.key;
    both.vkey = w1.vkey;
    both.vkey.type = TLOG_KEY_LOG;
    sig_line(&lines, &both, 0, view(&p.text));
    assert_int_equal(find_in(&lines, &time, &e), -1);
    assert_rule(e, "cosignature");
    buf_free(&lines);
}

/* 100 signature lines are read, 101 refused, whoever they are by. */
static void hundred(void **state)
{
    struct buf lines;
    struct err e;
    uint64_t time;
    buf_init(&lines, TLOG_NOTE_MAX);
    for (int i = 0; i < 98; i++)
        sig_line(&lines, &w2, (uint64_t)i, view(&p.text));
    sig_line(&lines, &w1, 100, view(&p.text));
    assert_int_equal(find_in(&lines, &time, &e), 1); /* with the log's own, 100 */
    sig_line(&lines, &w1, 101, view(&p.text));
    assert_int_equal(find_in(&lines, &time, &e), -1);
    assert_rule(e, "checkpoint-format");
    buf_free(&lines);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known),       cmocka_unit_test(altered),
        cmocka_unit_test(line_refused), cmocka_unit_test(types_apart),
        cmocka_unit_test(small_order), cmocka_unit_test(find),
        cmocka_unit_test(plain_signature), cmocka_unit_test(hundred),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
