/* The public library, by its header alone; certificates and keys are made with the room's means. */
#include "tests/unit/tlog/proven.h"
#include <mayfly/tlog.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <pthread.h>
#include <time.h>

static struct proven_cert p;
static struct test_log w1, w2;
static struct mayfly_tlog_policy *policy; /* the log, two witnesses, none needed */
static char log_line[600], witness_lines[1200];

static void key_line(char *dst, size_t cap, const char *before, const struct tlog_vkey *k)
{
    struct buf b;
    buf_init(&b, 512);
    tlog_vkey_write(k, &b);
    snprintf(dst + strlen(dst), cap - strlen(dst), "%s %s\n", before, buf_cstr(&b));
    buf_free(&b);
}

static struct mayfly_tlog_policy *policy_of(const char *a, const char *b, const char *c)
{
    char text[2500];
    struct mayfly_tlog_error error = MAYFLY_TLOG_ERROR_INIT;
    struct mayfly_tlog_policy *made = mayfly_tlog_policy_new();
    snprintf(text, sizeof text, "%s%s%s", a, b, c);
    assert_non_null(made);
    if (mayfly_tlog_policy_parse(made, text, strlen(text), &error) != MAYFLY_TLOG_OK)
        fail_msg("%s", error.message);
    assert_string_equal(error.rule, "");
    assert_string_equal(error.message, "");
    return made;
}

static int setup(void **state)
{
    proven_make_in(&p, 300, (uint64_t)7 << 48 | (300 + PROVEN_INDEX));
    test_witness(&w1, "one.example");
    test_witness(&w2, "two.example");
    key_line(log_line, sizeof log_line, "log", &p.k.vkey);
    key_line(witness_lines, sizeof witness_lines, "witness one", &w1.vkey);
    key_line(witness_lines, sizeof witness_lines, "witness two", &w2.vkey);
    policy = policy_of(log_line, witness_lines, "quorum none\n");
    return 0;
}

static int teardown(void **state)
{
    mayfly_tlog_policy_free(policy);
    mayfly_tlog_policy_free(NULL);
    proven_free(&p);
    test_key_free(&w1);
    test_key_free(&w2);
    return 0;
}

static void cosigned(uint64_t t1, uint64_t t2)
{
    struct buf lines;
    buf_init(&lines, TLOG_NOTE_MAX);
    if (t1)
        sig_line(&lines, &w1, t1, view(&p.text));
    if (t2)
        sig_line(&lines, &w2, t2, view(&p.text));
    proven_staple(&p, view(&lines));
    buf_free(&lines);
}

static void refused(const struct mayfly_tlog_policy *with, const void *cert, size_t len, int code,
                    const char *rule)
{
    struct mayfly_tlog_result r = MAYFLY_TLOG_RESULT_INIT;
    r.index = 99;
    strcpy(r.origin, "stale");
    assert_int_equal(mayfly_tlog_verify(with, cert, len, &r), code);
    assert_string_equal(r.rule, rule);
    assert_true(strlen(r.message) > 20);
    assert_int_equal(r.size, sizeof r);
    assert_int_equal(r.index, 0);
    assert_string_equal(r.origin, "");
}

static void proven(void **state)
{
    struct mayfly_tlog_result r = MAYFLY_TLOG_RESULT_INIT;
    uint64_t now = (uint64_t)time(NULL);
    cosigned(now - 30, now - 90);
    if (mayfly_tlog_verify(policy, p.cert.p, p.cert.len, &r) != MAYFLY_TLOG_OK)
        fail_msg("[%s] %s", r.rule, r.message);
    assert_int_equal(r.size, sizeof r);
    assert_int_equal(r.index, 306);
    assert_int_equal(r.tree_size, 310);
    assert_int_equal(r.log_number, 7);
    assert_int_equal(r.witnesses, 2);
    assert_int_equal(r.cosigned_time, now - 90);
    assert_string_equal(r.origin, PROVEN_ORIGIN);
    assert_string_equal(r.attestor, "join_token");
    assert_string_equal(r.entry_id, "web-1");
    assert_int_equal(r.entry_revision, 3);
    assert_string_equal(r.requester, "spiffe://example.org/host/a");
    assert_string_equal(r.rule, "");
    assert_string_equal(r.message, "");
    cosigned(0, 0);
    assert_int_equal(mayfly_tlog_verify(policy, p.cert.p, p.cert.len, &r), MAYFLY_TLOG_OK);
    assert_int_equal(r.witnesses, 0);
    assert_int_equal(r.cosigned_time, 0);
}

static void unproven(void **state)
{
    struct test_log other = {0};
    struct test_cert form;
    struct buf cert;
    char line[600] = "";
    cosigned(0, 0);
    buf_init(&cert, TLOG_ENTRY_MAX);
    form = p.form; /* the proof is of another leaf */
    form.not_after++;
    cert_make(&cert, &form);
    refused(policy, cert.p, cert.len, MAYFLY_TLOG_UNPROVEN, "inclusion");
    form = p.form; /* and of another entry than the serial names */
    form.serial++;
    buf_reset(&cert);
    cert_make(&cert, &form);
    refused(policy, cert.p, cert.len, MAYFLY_TLOG_UNPROVEN, "proof-serial");
    form = p.form;
    form.stapled = (struct bytes){NULL, 0};
    buf_reset(&cert);
    cert_make(&cert, &form);
    refused(policy, cert.p, cert.len, MAYFLY_TLOG_UNPROVEN, "proof-missing");
    form.stapled = (struct bytes){(const uint8_t *)"rubbish", 7};
    buf_reset(&cert);
    cert_make(&cert, &form);
    refused(policy, cert.p, cert.len, MAYFLY_TLOG_UNPROVEN, "proof-format");
    test_key(&other, "log.example.org/other"); /* of another log */
    key_line(line, sizeof line, "log", &other.vkey);
    struct mayfly_tlog_policy *strict = policy_of(line, "", "quorum none\n");
    refused(strict, p.cert.p, p.cert.len, MAYFLY_TLOG_UNPROVEN, "checkpoint-origin");
    mayfly_tlog_policy_free(strict);
    test_key_free(&other);
    test_key(&other, PROVEN_ORIGIN); /* of one that only has its name */
    line[0] = 0;
    key_line(line, sizeof line, "log", &other.vkey);
    strict = policy_of(line, "", "quorum none\n");
    refused(strict, p.cert.p, p.cert.len, MAYFLY_TLOG_UNPROVEN, "checkpoint-signature");
    mayfly_tlog_policy_free(strict);
    test_key_free(&other);
    buf_free(&cert);
}

static void quorum(void **state)
{
    struct mayfly_tlog_result r = MAYFLY_TLOG_RESULT_INIT;
    struct mayfly_tlog_policy *strict =
        policy_of(log_line, witness_lines, "quorum 2\nmax-age 1h\n");
    uint64_t now = (uint64_t)time(NULL);
    cosigned(now, 0);
    refused(strict, p.cert.p, p.cert.len, MAYFLY_TLOG_UNPROVEN, "quorum");
    cosigned(now, now - 7200); /* stale */
    refused(strict, p.cert.p, p.cert.len, MAYFLY_TLOG_UNPROVEN, "quorum");
    cosigned(now, now + 86400 * 365); /* far in the future */
    refused(strict, p.cert.p, p.cert.len, MAYFLY_TLOG_UNPROVEN, "quorum");
    cosigned(now, now);
    assert_int_equal(mayfly_tlog_verify(strict, p.cert.p, p.cert.len, &r), MAYFLY_TLOG_OK);
    assert_int_equal(r.witnesses, 2);
    mayfly_tlog_policy_free(strict);
}

/* A proof beside the certificate stands in for the stapled one, also for its failings. */
static void proof_beside(void **state)
{
    struct mayfly_tlog_result r = MAYFLY_TLOG_RESULT_INIT;
    struct mayfly_tlog_policy *strict = policy_of(log_line, witness_lines, "quorum 2\n");
    uint64_t now = (uint64_t)time(NULL);
    struct buf later;
    buf_init(&later, TLOG_PROOF_MAX);
    cosigned(now, now);
    buf_put(&later, p.proof.p, p.proof.len);
    cosigned(0, 0);
    refused(strict, p.cert.p, p.cert.len, MAYFLY_TLOG_UNPROVEN, "quorum");
    assert_int_equal(
        mayfly_tlog_verify_proof(strict, p.cert.p, p.cert.len, later.p, later.len, &r),
        MAYFLY_TLOG_OK);
    assert_int_equal(r.witnesses, 2);
    assert_int_equal(
        mayfly_tlog_verify_proof(policy, p.cert.p, p.cert.len, later.p, later.len - 1, &r),
        MAYFLY_TLOG_UNPROVEN);
    assert_int_equal(mayfly_tlog_verify_proof(policy, p.cert.p, p.cert.len, "", 0, &r),
                     MAYFLY_TLOG_MISUSE);
    assert_int_equal(mayfly_tlog_verify_proof(policy, p.cert.p, p.cert.len, NULL, 5, &r),
                     MAYFLY_TLOG_MISUSE);
    mayfly_tlog_policy_free(strict);
    buf_free(&later);
}

static void pem_put(struct buf *out, const char *name, const struct buf *der)
{
    char *text;
    BIO *bio = BIO_new(BIO_s_mem());
    assert_true(PEM_write_bio(bio, name, "", der->p, (long)der->len) > 0);
    long n = BIO_get_mem_data(bio, &text);
    buf_put(out, text, (size_t)n);
    BIO_free(bio);
}

static void pem(void **state)
{
    struct mayfly_tlog_result r = MAYFLY_TLOG_RESULT_INIT;
    struct buf text, junk;
    cosigned(0, 0);
    buf_init(&text, TLOG_CERT_FILE_MAX);
    buf_init(&junk, 1000);
    buf_str(&junk, "not looked into");
    buf_str(&text, "subject=CN = workload\n");
    pem_put(&text, "PRIVATE KEY", &junk);
    refused(policy, text.p, text.len, MAYFLY_TLOG_MALFORMED, "cert-format");
    pem_put(&text, "CERTIFICATE", &p.cert);
    size_t one = text.len;
    pem_put(&text, "CERTIFICATE", &junk);
    assert_int_equal(mayfly_tlog_verify(policy, text.p, text.len, &r), MAYFLY_TLOG_OK);
    refused(policy, text.p, one - 5, MAYFLY_TLOG_MALFORMED, "cert-format");
    buf_reset(&text); /* the first one counts */
    pem_put(&text, "CERTIFICATE", &junk);
    pem_put(&text, "CERTIFICATE", &p.cert);
    refused(policy, text.p, text.len, MAYFLY_TLOG_MALFORMED, "cert-format");
    buf_free(&text);
    buf_free(&junk);
}

static void malformed(void **state)
{
    static char big[TLOG_CERT_FILE_MAX + 1];
    cosigned(0, 0);
    refused(policy, "", 0, MAYFLY_TLOG_MALFORMED, "cert-format");
    refused(policy, NULL, 0, MAYFLY_TLOG_MALFORMED, "cert-format");
    refused(policy, "0", 1, MAYFLY_TLOG_MALFORMED, "cert-format");
    refused(policy, "\x30\x82", 2, MAYFLY_TLOG_MALFORMED, "cert-format");
    refused(policy, "hello\n", 6, MAYFLY_TLOG_MALFORMED, "cert-format");
    refused(policy, big, sizeof big, MAYFLY_TLOG_MALFORMED, "cert-format");
    refused(policy, p.cert.p, p.cert.len - 1, MAYFLY_TLOG_MALFORMED, "cert-format");
    struct mayfly_tlog_policy *empty = mayfly_tlog_policy_new();
    refused(empty, p.cert.p, p.cert.len, MAYFLY_TLOG_MALFORMED, "policy");
    mayfly_tlog_policy_free(empty);
}

static void misuse(void **state)
{
    struct mayfly_tlog_result r = MAYFLY_TLOG_RESULT_INIT;
    struct mayfly_tlog_error error = MAYFLY_TLOG_ERROR_INIT;
    assert_int_equal(mayfly_tlog_verify(NULL, "x", 1, &r), MAYFLY_TLOG_MISUSE);
    assert_int_equal(mayfly_tlog_verify(policy, NULL, 1, &r), MAYFLY_TLOG_MISUSE);
    assert_int_equal(mayfly_tlog_verify(policy, "x", 1, NULL), MAYFLY_TLOG_MISUSE);
    r.size = 0;
    assert_int_equal(mayfly_tlog_verify(policy, p.cert.p, p.cert.len, &r), MAYFLY_TLOG_MISUSE);
    assert_int_equal(mayfly_tlog_policy_parse(NULL, "", 0, &error), MAYFLY_TLOG_MISUSE);
    assert_int_equal(mayfly_tlog_policy_parse(policy, NULL, 1, &error), MAYFLY_TLOG_MISUSE);
    assert_int_equal(mayfly_tlog_policy_add_issuer(policy, NULL, 1, &error), MAYFLY_TLOG_MISUSE);
    error.size = 8;
    assert_int_equal(mayfly_tlog_policy_parse(policy, "x", 1, &error), MAYFLY_TLOG_MISUSE);
}

/* A caller built with a later header: what we do not know is zero, what lies behind untouched. */
static void larger_structs(void **state)
{
    struct {
        struct mayfly_tlog_result r;
        uint64_t later, behind;
    } s = {.r = MAYFLY_TLOG_RESULT_INIT, .later = 5, .behind = 6};
    cosigned(0, 0);
    s.r.size = sizeof s.r + sizeof s.later;
    assert_int_equal(mayfly_tlog_verify(policy, p.cert.p, p.cert.len, &s.r), MAYFLY_TLOG_OK);
    assert_int_equal(s.r.size, sizeof s.r + sizeof s.later);
    assert_int_equal(s.r.index, 306);
    assert_int_equal(s.later, 0);
    assert_int_equal(s.behind, 6);
}

/* The layout is a promise: this test changes only together with the soname. */
static void layout(void **state)
{
    assert_int_equal(offsetof(struct mayfly_tlog_result, index), 8);
    assert_int_equal(offsetof(struct mayfly_tlog_result, entry_revision), 40);
    assert_int_equal(offsetof(struct mayfly_tlog_result, origin), 48);
    assert_int_equal(offsetof(struct mayfly_tlog_result, requester), 816);
    assert_int_equal(offsetof(struct mayfly_tlog_result, rule), 3120);
    assert_int_equal(offsetof(struct mayfly_tlog_result, message), 3152);
    assert_int_equal(sizeof(struct mayfly_tlog_result), 3760);
    assert_int_equal(offsetof(struct mayfly_tlog_error, message), 40);
    assert_int_equal(sizeof(struct mayfly_tlog_error), 584);
}

/* A text that does not fit is refused: half a name is another name. */
static void long_text(void **state)
{
    static uint8_t text[256];
    struct proven_cert long_one;
    struct mayfly_tlog_result r = MAYFLY_TLOG_RESULT_INIT;
    struct bytes usual = proven_attestor;
    char line[600] = "";
    memset(text, 'a', sizeof text);
    for (size_t n = sizeof text - 1; n <= sizeof text; n++) {
        proven_attestor = (struct bytes){text, n};
        proven_make(&long_one, PROVEN_INDEX, 7);
        line[0] = 0;
        key_line(line, sizeof line, "log", &long_one.k.vkey);
        struct mayfly_tlog_policy *its = policy_of(line, "", "quorum none\n");
        if (n == sizeof text)
            refused(its, long_one.cert.p, long_one.cert.len, MAYFLY_TLOG_UNPROVEN, "entry-format");
        else
            assert_int_equal(mayfly_tlog_verify(its, long_one.cert.p, long_one.cert.len, &r),
                             MAYFLY_TLOG_OK);
        mayfly_tlog_policy_free(its);
        proven_free(&long_one);
    }
    assert_int_equal(strlen(r.attestor), 255);
    proven_attestor = usual;
}

static void parse_errors(void **state)
{
    struct mayfly_tlog_result r = MAYFLY_TLOG_RESULT_INIT;
    struct mayfly_tlog_error error = MAYFLY_TLOG_ERROR_INIT;
    static const char bad[] = "# nobody\nquorum nobody\n";
    cosigned(0, 0);
    assert_int_equal(mayfly_tlog_policy_parse(policy, bad, strlen(bad), &error),
                     MAYFLY_TLOG_MALFORMED);
    assert_string_equal(error.rule, "policy");
    assert_non_null(strstr(error.message, "line 2"));
    assert_int_equal(mayfly_tlog_policy_parse(policy, bad, strlen(bad), NULL),
                     MAYFLY_TLOG_MALFORMED);
    /* and the policy is the one it was */
    assert_int_equal(mayfly_tlog_verify(policy, p.cert.p, p.cert.len, &r), MAYFLY_TLOG_OK);
}

static void issuer(void **state)
{
    struct mayfly_tlog_result r = MAYFLY_TLOG_RESULT_INIT;
    struct mayfly_tlog_error error = MAYFLY_TLOG_ERROR_INIT;
    struct mayfly_tlog_policy *made = mayfly_tlog_policy_new();
    struct test_cert form = proven_form;
    struct buf cert;
    cosigned(0, 0);
    buf_init(&cert, TLOG_ENTRY_MAX);
    log_line[strlen(log_line) - 1] = 0;
    form.binding = log_line + strlen("log ");
    cert_make(&cert, &form);
    log_line[strlen(log_line)] = '\n';
    assert_int_equal(mayfly_tlog_policy_add_issuer(made, cert.p, cert.len, &error),
                     MAYFLY_TLOG_OK);
    assert_int_equal(mayfly_tlog_verify(made, p.cert.p, p.cert.len, &r), MAYFLY_TLOG_OK);
    assert_int_equal(mayfly_tlog_policy_add_issuer(made, cert.p, cert.len, &error),
                     MAYFLY_TLOG_MALFORMED); /* it is there */
    assert_string_equal(error.rule, "policy");
    assert_int_equal(mayfly_tlog_policy_add_issuer(made, p.cert.p, p.cert.len, &error),
                     MAYFLY_TLOG_UNPROVEN);
    assert_string_equal(error.rule, "binding-missing");
    assert_int_equal(mayfly_tlog_policy_add_issuer(made, "", 0, NULL), MAYFLY_TLOG_MALFORMED);
    mayfly_tlog_policy_free(made);
    buf_free(&cert);
}

/* The caller's own OpenSSL errors are still there afterwards, and none of ours. */
static void error_queue(void **state)
{
    struct mayfly_tlog_result r = MAYFLY_TLOG_RESULT_INIT;
    ERR_clear_error();
    mayfly_tlog_verify(policy, "rubbish", 7, &r);
    assert_int_equal(ERR_peek_error(), 0);
    ERR_raise(ERR_LIB_USER, 77);
    mayfly_tlog_verify(policy, "rubbish", 7, &r);
    for (size_t i = 0; i < p.form.stapled.len; i++) { /* a wrong signature among the rest */
        p.proof.p[i] ^= 1;
        mayfly_tlog_verify_proof(policy, p.cert.p, p.cert.len, p.proof.p, p.proof.len, &r);
        p.proof.p[i] ^= 1;
    }
    assert_string_equal(r.rule, "checkpoint-format");
    assert_int_equal(ERR_GET_REASON(ERR_get_error()), 77);
    assert_int_equal(ERR_get_error(), 0);
}

static void *verify_many(void *arg)
{
    struct mayfly_tlog_result r = MAYFLY_TLOG_RESULT_INIT;
    size_t good = 0;
    for (int i = 0; i < 200; i++)
        good += mayfly_tlog_verify(policy, p.cert.p, p.cert.len, &r) == MAYFLY_TLOG_OK &&
                r.index == 306;
    *(size_t *)arg = good;
    return NULL;
}

static void threads(void **state)
{
    pthread_t t[4];
    size_t good[4];
    uint64_t now = (uint64_t)time(NULL);
    cosigned(now, now);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&t[i], NULL, verify_many, &good[i]), 0);
    for (size_t i = 0; i < 4; i++) {
        pthread_join(t[i], NULL);
        assert_int_equal(good[i], 200);
    }
}

/* No bit of the certificate can change but in its own signature and the serial's log number, which
 * are the chain's matter. */
static void every_bit(void **state)
{
    struct mayfly_tlog_result r = MAYFLY_TLOG_RESULT_INIT;
    uint64_t now = (uint64_t)time(NULL);
    struct mayfly_tlog_policy *strict = policy_of(log_line, witness_lines, "quorum 2\n");
    size_t passed = 0;
    cosigned(now, now);
    for (size_t i = 0; i < p.cert.len; i++) {
        p.cert.p[i] ^= 1;
        passed += mayfly_tlog_verify(strict, p.cert.p, p.cert.len, &r) == MAYFLY_TLOG_OK;
        p.cert.p[i] ^= 1;
    }
    assert_int_equal(passed, 8 + 1);
    mayfly_tlog_policy_free(strict);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(proven),       cmocka_unit_test(unproven),
        cmocka_unit_test(quorum),       cmocka_unit_test(proof_beside),
        cmocka_unit_test(pem),          cmocka_unit_test(malformed),
        cmocka_unit_test(misuse),       cmocka_unit_test(larger_structs),
        cmocka_unit_test(layout),       cmocka_unit_test(parse_errors),
        cmocka_unit_test(long_text),
        cmocka_unit_test(issuer),       cmocka_unit_test(error_queue),
        cmocka_unit_test(threads),      cmocka_unit_test(every_bit),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
