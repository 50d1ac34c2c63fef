/* Policies: the file, and checkpoints against it. */
#include "tests/unit/tlog/proven.h"
#include "tlog/policy.h"

#define NOW 1800000000
#define WITNESSES 5

static struct proven_cert p;
static struct test_log other_log, w[WITNESSES];
static char log_key[512], other_key[512], key[WITNESSES][512];

static void key_text(char dst[512], const struct tlog_vkey *k)
{
    struct buf b;
    buf_init(&b, 512);
    tlog_vkey_write(k, &b);
    snprintf(dst, 512, "%s", buf_cstr(&b));
    buf_free(&b);
}

static int setup(void **state)
{
    proven_make(&p, PROVEN_INDEX, 7);
    key_text(log_key, &p.k.vkey);
    test_key(&other_log, "log.example.org/other");
    key_text(other_key, &other_log.vkey);
    for (size_t i = 0; i < WITNESSES; i++) {
        test_witness(&w[i], "witness.example.net"); /* one name, five keys: the id tells them apart */
        key_text(key[i], &w[i].vkey);
    }
    return 0;
}

static int teardown(void **state)
{
    proven_free(&p);
    test_key_free(&other_log);
    for (size_t i = 0; i < WITNESSES; i++)
        test_key_free(&w[i]);
    return 0;
}

/* A policy's text: "%l" the log's key, "%o" another log's, "%0" to "%4" a witness's. */
static void expand(struct buf *out, const char *text)
{
    for (; *text; text++) {
        if (*text != '%')
            buf_u8(out, (uint8_t)*text);
        else if (*++text == 'l' || *text == 'o')
            buf_str(out, *text == 'l' ? log_key : other_key);
        else
            buf_str(out, key[*text - '0']);
    }
}

static int parse(struct tlog_policy **policy, const char *text, struct err *e)
{
    struct buf b;
    buf_init(&b, 2 * TLOG_POLICY_MAX);
    expand(&b, text);
    *policy = tlog_policy_new();
    assert_non_null(*policy);
    int rc = tlog_policy_parse(*policy, (const char *)b.p, b.len, e);
    buf_free(&b);
    return rc;
}

/* --- the file ------------------------------------------------------------------------------------ */

static void accepted_texts(void **state)
{
    static const char *const good[] = {
        "quorum none\n",
        "log %l\nquorum none\n",
        "# a comment\n\n \t # another, \xc3\xa4 \n\tlog\t %l  \nquorum none\n\n",
        "log %l https://log.example.org/\nlog %o\nquorum none\n",
        "witness north %0 https://w.example.net/\nquorum north\n",
        "quorum 2\nwitness a %0\nwitness b %1\n", /* a number counts all that the file has */
        "witness a %0\nwitness b %1\nquorum 1\nmax-age 90s\n",
        "witness \xc3\xa4 %0\ngroup g any \xc3\xa4\nquorum g\n",
        "witness a %0\nwitness b %1\ngroup g 2 a b\nwitness c %2\ngroup all all g c\nquorum all\n",
        "max-age 1s\nquorum none\n",
        "max-age 3660d\nquorum none\n",
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        struct tlog_policy *policy;
        struct err e;
        if (parse(&policy, good[i], &e) < 0)
            fail_msg("refused: %s: %s", good[i], e.msg);
        tlog_policy_free(policy);
    }
}

static void refused_texts(void **state)
{
    static const struct {
        const char *text, *line, *why;
    } bad[] = {
        {"", "", "no quorum"},
        {"log %l\n", "", "no quorum"},
        {"log %l\nquorum none", "line 2:", "no newline"},
        {"quorum none\nlog\n", "line 2:", "verifier key"},
        {"log %0\nquorum none\n", "line 1:", "not supported"},
        {"log %l a b\nquorum none\n", "line 1:", "too many"},
        {"log %l\nlog %o\nlog %l\nquorum none\n", "line 3:", "twice"},
        {"witness a %l\nquorum a\n", "line 1:", "no witness's"},
        {"witness a\nquorum a\n", "line 1:", "verifier key"},
        {"witness\nquorum none\n", "line 1:", "name is missing"},
        {"witness a %0 u v\nquorum a\n", "line 1:", "too many"},
        {"witness a %0\nwitness a %1\nquorum a\n", "line 2:", "taken"},
        {"witness a %0\nwitness b %0\nquorum a\n", "line 2:", "twice"},
        {"witness none %0\nquorum none\n", "line 1:", "neither"},
        {"witness 12 %0\nquorum 12\n", "line 1:", "digits"},
        {"witness a %0\ngroup a any a\nquorum a\n", "line 2:", "taken"},
        {"witness a %0\ngroup g any b\nquorum a\n", "line 2:", "no earlier"},
        {"witness a %0\ngroup g any g\nquorum a\n", "line 2:", "no earlier"},
        {"witness a %0\ngroup g any none\nquorum a\n", "line 2:", "no earlier"},
        {"witness a %0\ngroup g any a a\nquorum a\n", "line 2:", "count twice"},
        {"witness a %0\ngroup g any a\ngroup h any a\nquorum a\n", "line 3:", "count twice"},
        {"witness a %0\ngroup g any\nquorum a\n", "line 2:", "group reads"},
        {"witness a %0\ngroup g 0 a\nquorum a\n", "line 2:", "from 1"},
        {"witness a %0\ngroup g 2 a\nquorum a\n", "line 2:", "from 1"},
        {"witness a %0\ngroup g 01 a\nquorum a\n", "line 2:", "from 1"},
        {"witness a %0\ngroup g most a\nquorum a\n", "line 2:", "from 1"},
        {"witness a %0\nquorum 0\n", "line 2:", "none"},
        {"witness a %0\nquorum 2\n", "line 2:", "more witnesses"},
        {"witness a %0\nquorum 18446744073709551617\n", "line 2:", "from 1"},
        {"quorum b\nwitness b %0\n", "line 1:", "no earlier"},
        {"quorum\n", "line 1:", "no earlier"},
        {"quorum none none\n", "line 1:", "too many"},
        {"quorum none\nquorum none\n", "line 2:", "second quorum"},
        {"quorum none\nmax-age\n", "line 2:", "max-age reads"},
        {"quorum none\nmax-age 5\n", "line 2:", "max-age reads"},
        {"quorum none\nmax-age h\n", "line 2:", "max-age reads"},
        {"quorum none\nmax-age 0h\n", "line 2:", "max-age reads"},
        {"quorum none\nmax-age 3661d\n", "line 2:", "max-age reads"},
        {"quorum none\nmax-age 213503982334602d\n", "line 2:", "max-age reads"},
        {"quorum none\nmax-age 1h\nmax-age 1h\n", "line 3:", "second max-age"},
        {"quorum none\nmax-age 1h 1m\n", "line 2:", "too many"},
        {"quorum none\r\n", "line 1:", "Windows"},
        {"quorum none\n# \x7f\n", "line 2:", "control"},
        {"Quorum none\n", "line 1:", "begins with none of"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct tlog_policy *policy;
        struct err e;
        if (parse(&policy, bad[i].text, &e) == 0)
            fail_msg("accepted: %s", bad[i].text);
        if (!strstr(e.msg, bad[i].line) || !strstr(e.msg, bad[i].why))
            fail_msg("%s: says \"%s\"", bad[i].text, e.msg);
        assert_int_equal(e.code, ERR_CONFIG);
        tlog_policy_free(policy);
    }
}

/* As many as the limits say, and one more. */
static void limits(void **state)
{
    struct tlog_policy *policy;
    struct test_log k = {0};
    struct buf b;
    struct err e;
    char text[512];
    buf_init(&b, 2 * TLOG_POLICY_MAX);
    for (int i = 0; i <= TLOG_POLICY_MEMBERS; i++) {
        test_witness(&k, "w.example.net");
        key_text(text, &k.vkey);
        test_key_free(&k);
        if (i == TLOG_POLICY_MEMBERS) {
            buf_str(&b, "quorum 96\n");
            policy = tlog_policy_new();
            assert_ok(tlog_policy_parse(policy, (const char *)b.p, b.len, &e), e);
            tlog_policy_free(policy);
        }
        buf_fmt(&b, "witness w%d %s\n", i, text);
    }
    policy = tlog_policy_new();
    assert_int_equal(tlog_policy_parse(policy, (const char *)b.p, b.len, &e), -1);
    assert_non_null(strstr(e.msg, "line 98"));
    tlog_policy_free(policy);
    buf_reset(&b);
    while (b.len <= TLOG_POLICY_MAX)
        buf_str(&b, "# comment\n");
    policy = tlog_policy_new();
    assert_int_equal(tlog_policy_parse(policy, (const char *)b.p, b.len, &e), -1);
    tlog_policy_free(policy);
    policy = tlog_policy_new();
    for (int i = 0; i <= TLOG_POLICY_LOGS; i++) {
        test_key(&k, "log.example.org");
        int rc = tlog_policy_add_log(policy, &k.vkey, &e);
        assert_int_equal(rc, i < TLOG_POLICY_LOGS ? 0 : -1);
        assert_null(k.vkey.evp); /* taken over either way */
        test_key_free(&k);
    }
    tlog_policy_free(policy);
    buf_free(&b);
}

/* --- checkpoints --------------------------------------------------------------------------------- */

struct cosigned { /* by whom, when, in this order; time 0 ends */
    int by;
    uint64_t time;
};

static int judge_note(const char *text, const struct buf *lines, struct tlog_accepted *a,
                      struct err *e)
{
    struct tlog_policy *policy;
    struct tlog_claim claim;
    assert_ok(parse(&policy, text, e), *e);
    proven_staple(&p, view(lines));
    assert_ok(tlog_cert_claim(&claim, p.cert.p, p.cert.len, (struct bytes){NULL, 0}, e), *e);
    int rc = tlog_policy_prove(policy, NOW, &claim, a, e);
    tlog_policy_free(policy);
    return rc;
}

static int judge(const char *text, const struct cosigned *c, struct tlog_accepted *a,
                 struct err *e)
{
    struct buf lines;
    buf_init(&lines, TLOG_NOTE_MAX);
    for (; c && c->time; c++)
        sig_line(&lines, &w[c->by], c->time, view(&p.text));
    int rc = judge_note(text, &lines, a, e);
    buf_free(&lines);
    return rc;
}

#define THREE "log %l\nwitness a %0\nwitness b %1\nwitness c %2\n"

static void logs(void **state)
{
    struct tlog_accepted a;
    struct err e;
    assert_ok(judge("log %l\nquorum none\n", NULL, &a, &e), e);
    assert_string_equal(a.checkpoint.origin, PROVEN_ORIGIN);
    assert_int_equal(a.checkpoint.size, 10);
    assert_int_equal(a.witnesses, 0);
    assert_int_equal(a.oldest, 0);
    assert_ok(judge("log %o\nlog %l\nquorum none\n", NULL, &a, &e), e);
    assert_int_equal(judge("log %o\nquorum none\n", NULL, &a, &e), -1);
    assert_rule(e, "checkpoint-origin");
    assert_int_equal(judge("quorum none\n", NULL, &a, &e), -1);
    assert_rule(e, "policy");
}

/* Two keys of one log, as while a key is replaced: either will do, and an unsigned one none. */
static void key_replaced(void **state)
{
    struct test_log next = {0};
    struct tlog_policy *policy = tlog_policy_new();
    struct tlog_accepted a;
    struct tlog_claim claim;
    struct err e;
    proven_staple(&p, (struct bytes){NULL, 0});
    assert_ok(tlog_cert_claim(&claim, p.cert.p, p.cert.len, (struct bytes){NULL, 0}, &e), e);
    test_key(&next, PROVEN_ORIGIN);
    assert_ok(tlog_policy_add_log(policy, &next.vkey, &e), e);
    assert_int_equal(tlog_policy_prove(policy, NOW, &claim, &a, &e), -1);
    assert_rule(e, "checkpoint-signature");
    struct tlog_vkey old;
    assert_ok(tlog_vkey_parse(&old, log_key, strlen(log_key), &e), e);
    assert_ok(tlog_policy_add_log(policy, &old, &e), e);
    assert_ok(tlog_policy_prove(policy, NOW, &claim, &a, &e), e);
    tlog_policy_free(policy);
    test_key_free(&next);
}

static void count(void **state)
{
    struct tlog_accepted a;
    struct err e;
    const struct cosigned two[] = {{1, NOW - 50}, {0, NOW - 70}, {0, 0}};
    assert_ok(judge(THREE "quorum 2\n", two, &a, &e), e);
    assert_int_equal(a.witnesses, 2);
    assert_int_equal(a.oldest, NOW - 70);
    assert_int_equal(judge(THREE "quorum 3\n", two, &a, &e), -1);
    assert_rule(e, "quorum");
    assert_non_null(strstr(e.msg, "cosigned by 2 of the 3"));
    assert_int_equal(a.witnesses, 0);
    assert_ok(judge(THREE "quorum a\n", two, &a, &e), e);
    assert_int_equal(judge(THREE "quorum c\n", two, &a, &e), -1);
    assert_rule(e, "quorum");
    assert_int_equal(judge(THREE "quorum 1\n", NULL, &a, &e), -1);
    assert_rule(e, "quorum");
}

static void groups(void **state)
{
#define NESTED                                                                                     \
    "log %l\nwitness a %0\nwitness b %1\nwitness c %2\ngroup x 2 a b c\nwitness d %3\n"            \
    "witness e %4\ngroup y any d e\ngroup both all x y\nquorum both\n"
    struct tlog_accepted a;
    struct err e;
    const struct cosigned good[] = {{0, NOW}, {2, NOW}, {4, NOW}, {0, 0}};
    const struct cosigned one_side[] = {{0, NOW}, {1, NOW}, {2, NOW}, {0, 0}};
    const struct cosigned too_few[] = {{0, NOW}, {3, NOW}, {4, NOW}, {0, 0}};
    assert_ok(judge(NESTED, good, &a, &e), e);
    assert_int_equal(a.witnesses, 3);
    assert_int_equal(judge(NESTED, one_side, &a, &e), -1);
    assert_rule(e, "quorum");
    assert_int_equal(judge(NESTED, too_few, &a, &e), -1);
    assert_rule(e, "quorum");
}

/* A witness is one voice, however often it signed; strangers are none. */
static void duplicates_and_strangers(void **state)
{
    struct tlog_accepted a;
    struct err e;
    const struct cosigned twice[] = {{0, NOW - 9}, {0, NOW - 9}, {0, NOW - 3}, {0, 0}};
    const struct cosigned stranger[] = {{4, NOW}, {0, NOW - 1}, {3, NOW}, {0, 0}};
    assert_int_equal(judge(THREE "quorum 2\n", twice, &a, &e), -1);
    assert_rule(e, "quorum");
    assert_ok(judge(THREE "quorum 1\n", twice, &a, &e), e);
    assert_int_equal(a.witnesses, 1);
    assert_int_equal(a.oldest, NOW - 3);
    assert_int_equal(judge(THREE "quorum 2\n", stranger, &a, &e), -1);
    assert_ok(judge(THREE "quorum 1\n", stranger, &a, &e), e);
    assert_int_equal(a.witnesses, 1);
}

static void times(void **state)
{
    struct tlog_accepted a;
    struct err e;
    const struct cosigned late[] = {{0, NOW - 3601}, {1, NOW - 3600}, {0, 0}};
    const struct cosigned ahead[] = {{0, NOW + 301}, {1, NOW + 300}, {0, 0}};
    const struct cosigned far[] = {{0, UINT64_MAX}, {1, INT64_MAX}, {2, (uint64_t)INT64_MAX + 1}, {0, 0}};
    const struct cosigned first[] = {{0, 1}, {0, 0}};
    assert_ok(judge(THREE "quorum 1\nmax-age 1h\n", late, &a, &e), e);
    assert_int_equal(a.witnesses, 1);
    assert_int_equal(a.oldest, NOW - 3600);
    assert_int_equal(judge(THREE "quorum 2\nmax-age 1h\n", late, &a, &e), -1);
    assert_rule(e, "quorum");
    assert_non_null(strstr(e.msg, "1 too old"));
    assert_ok(judge(THREE "quorum 2\n", late, &a, &e), e);
    assert_ok(judge(THREE "quorum 1\n", first, &a, &e), e);
    assert_ok(judge(THREE "quorum 1\nmax-age 1h\n", ahead, &a, &e), e);
    assert_int_equal(a.witnesses, 1);
    assert_int_equal(judge(THREE "quorum 1\n", far, &a, &e), -1);
    assert_rule(e, "quorum");
    assert_non_null(strstr(e.msg, "3 from the future"));
}

/* What says it is by a trusted key must be. */
static void forged(void **state)
{
    struct tlog_accepted a;
    struct buf lines;
    struct err e;
    buf_init(&lines, TLOG_NOTE_MAX);
    sig_line(&lines, &w[0], NOW, view(&p.text));
    sig_line(&lines, &w[1], NOW, (struct bytes){p.text.p, p.text.len - 1});
    assert_int_equal(judge_note(THREE "quorum 1\n", &lines, &a, &e), -1);
    assert_rule(e, "cosignature");
    assert_ok(judge_note("log %l\nwitness a %0\nquorum 1\n", &lines, &a, &e), e);
    buf_free(&lines);
}

static void hundred_lines(void **state)
{
    struct tlog_accepted a;
    struct buf lines;
    struct err e;
    buf_init(&lines, TLOG_NOTE_MAX);
    for (int i = 0; i < 98; i++)
        buf_fmt(&lines, "\xe2\x80\x94 stranger.example/%d AAAAAAAA\n", i);
    sig_line(&lines, &w[2], NOW, view(&p.text));
    assert_ok(judge_note(THREE "quorum 1\n", &lines, &a, &e), e);
    assert_int_equal(a.witnesses, 1);
    buf_str(&lines, "\xe2\x80\x94 stranger.example/99 AAAAAAAA\n");
    assert_int_equal(judge_note(THREE "quorum 1\n", &lines, &a, &e), -1);
    assert_rule(e, "checkpoint-format");
    buf_free(&lines);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepted_texts), cmocka_unit_test(refused_texts),
        cmocka_unit_test(limits),         cmocka_unit_test(logs),
        cmocka_unit_test(key_replaced),   cmocka_unit_test(count),
        cmocka_unit_test(groups),         cmocka_unit_test(duplicates_and_strangers),
        cmocka_unit_test(times),          cmocka_unit_test(forged),
        cmocka_unit_test(hundred_lines),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
