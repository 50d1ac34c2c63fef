/* The text form of proofs. */
#include "tests/unit/tlog/support.h"

static void round_trip(void **state)
{
    static uint8_t extra[4096];
    struct tlog_hash path[TLOG_LEVELS];
    struct tlog_proof p;
    struct buf b;
    struct err e;
    size_t extras[] = {0, 1, 2, 3, 300, sizeof extra};
    memset(path, 0x5a, sizeof path);
    for (size_t i = 0; i < sizeof extra; i++)
        extra[i] = (uint8_t)i;
    buf_init(&b, TLOG_PROOF_MAX);
    for (size_t n = 0; n <= TLOG_LEVELS; n += 16)
        for (size_t i = 0; i < sizeof extras / sizeof extras[0]; i++) {
            buf_reset(&b);
            tlog_proof_write(&b, (struct bytes){extra, extras[i]}, 12345 * n, path, n, "note\n", 5);
            assert_ok(tlog_proof_parse(&p, b.p, b.len, &e), e);
            assert_int_equal(p.index, 12345 * n);
            assert_int_equal(p.path_len, n);
            assert_memory_equal(p.path, path, n * sizeof path[0]);
            assert_int_equal(p.extra_len, extras[i]);
            assert_memory_equal(p.extra, extra, extras[i]);
            assert_true(bytes_eq_str(p.checkpoint, "note\n"));
        }
    buf_free(&b);
}

static void text(void **state)
{
    struct buf b;
    struct tlog_hash h = {{0}};
    buf_init(&b, TLOG_PROOF_MAX);
    tlog_proof_write(&b, (struct bytes){(const uint8_t *)"\x01", 1}, 7, &h, 1, "the note\n", 9);
    assert_string_equal(buf_cstr(&b), "c2sp.org/tlog-proof@v1\nextra AQ==\nindex 7\n"
                                      "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\nthe note\n");
    buf_free(&b);
}

#define M "c2sp.org/tlog-proof@v1\n"
#define H "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"

static void refused(void **state)
{
    static const char *const bad[] = {
        "",
        M,
        "c2sp.org/tlog-proof@v2\nindex 1\n\nx\n",
        " " M "index 1\n\nx\n",
        M "index 1\n\n",
        M "index 1\n",
        M "index 1\n" H,
        M "index 1\n" H "\n",
        M "index\n\nx\n",
        M "index \n\nx\n",
        M "index 01\n\nx\n",
        M "index -1\n\nx\n",
        M "index 1 \n\nx\n",
        M "index 1\r\n\r\nx\n",
        M "index 18446744073709551616\n\nx\n",
        M "Index 1\n\nx\n",
        M "\nindex 1\n\nx\n",
        M "extra \nindex 1\n\nx\n",
        M "extra AQ\nindex 1\n\nx\n",
        M "extra AR==\nindex 1\n\nx\n",
        M "extra AQ==\nextra AQ==\nindex 1\n\nx\n",
        M "index 1\nextra AQ==\n\nx\n",
        M "index 1\nAAAA\n\nx\n",
        M "index 1\n AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\nx\n",
        M "index 1\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB=\n\nx\n",
    };
    struct tlog_proof p;
    struct err e;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (tlog_proof_parse(&p, bad[i], strlen(bad[i]), &e) == 0)
            fail_msg("accepted: %s", bad[i]);
        assert_rule(e, "proof-format");
    }
    assert_int_equal(tlog_proof_parse(&p, M "index 1\n\nx\n", strlen(M "index 1\n\nx\n"), &e), 0);
}

static void too_much(void **state)
{
    struct tlog_proof p;
    struct buf b;
    struct err e;
    static uint8_t extra[4097];
    buf_init(&b, 1 << 20);
    buf_str(&b, M "index 1\n");
    for (int i = 0; i <= TLOG_LEVELS; i++)
        buf_str(&b, H);
    buf_str(&b, "\nx\n");
    assert_int_equal(tlog_proof_parse(&p, b.p, b.len, &e), -1);
    assert_rule(e, "proof-format");
    buf_reset(&b);
    tlog_proof_write(&b, (struct bytes){extra, sizeof extra}, 1, NULL, 0, "x\n", 2);
    assert_int_equal(tlog_proof_parse(&p, b.p, b.len, &e), -1);
    buf_reset(&b);
    tlog_proof_write(&b, (struct bytes){NULL, 0}, 1, NULL, 0, extra, sizeof extra);
    while (b.len <= TLOG_PROOF_MAX)
        buf_put(&b, extra, sizeof extra);
    assert_int_equal(tlog_proof_parse(&p, b.p, b.len, &e), -1);
    assert_int_equal(e.code, ERR_TOO_LARGE);
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip),
        cmocka_unit_test(text),
        cmocka_unit_test(refused),
        cmocka_unit_test(too_much),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
