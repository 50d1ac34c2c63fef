/* JWT-SVIDs: what may be asked for, what is built of it, and what the last look lets pass. */
#include "unit/ca/request.h"

#include "base/json.h"
#include "base/spiffe.h"
#include "ca/jwt.h"
#include "ca/profile.h"
#include "tlog/record.h"

#define NOW INT64_C(1795456800)
#define KID "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"

static struct config config;
static struct jwt_policy policy;
static struct buf entry, scratch;
static uint8_t array[CA_JWT_BYTES], room[CA_JWT_BYTES];

static int setup(void **state)
{
    config = test_policy();
    policy = (struct jwt_policy){.config = &config, .kid = KID};
    buf_init(&entry, IPC_FRAME_MAX);
    buf_init(&scratch, 16384);
    return 0;
}

static int teardown(void **state)
{
    buf_free(&entry);
    buf_free(&scratch);
    return 0;
}

static struct bytes built(const struct ca_jwt *m, uint64_t index)
{
    struct err e = {0};
    assert_ok(jwt_entry(&entry, &policy, m, NOW, &e), &e);
    struct bytes input = jwt_build(array, sizeof array, &scratch, &policy, m, NOW, index);
    assert_true(input.len > 0);
    return input;
}

static struct jwt_expect expect_of(const struct ca_jwt *m, uint64_t index)
{
    return (struct jwt_expect){.request = m, .index = index, .now = NOW, .log_entry = {entry.p, entry.len}};
}

static void decoded(char dst[CA_JWT_BYTES], struct bytes part)
{
    long n = b64url_decode(dst, CA_JWT_BYTES - 1, (const char *)part.p, part.len);
    assert_true(n > 0);
    dst[n] = 0;
}

/* The two texts, byte by byte, as tlog/FORMAT.md says them. */
static void texts(void **state)
{
    static char header[CA_JWT_BYTES], claims[CA_JWT_BYTES];
    const struct ca_jwt m = test_jwt();
    struct bytes input = built(&m, 12345);
    const uint8_t *dot = memchr(input.p, '.', input.len);
    size_t n = (size_t)(dot - input.p);
    decoded(header, (struct bytes){input.p, n});
    decoded(claims, (struct bytes){dot + 1, input.len - n - 1});
    assert_string_equal(header, "{\"alg\":\"ES256\",\"kid\":\"" KID "\",\"typ\":\"JWT\"}");
    assert_string_equal(claims, "{\"aud\":[\"payroll\",\"say \\\"hi\\\" \\\\!\"],\"exp\":1795457100,\"iat\":1795456800,"
                                "\"jti\":\"1-12345\",\"sub\":\"spiffe://example.org/web/1\"}");
    struct err e = {0};
    struct jwt_expect x = expect_of(&m, 12345);
    assert_ok(jwt_lint(&policy, &x, input, room, sizeof room, &e), &e);
}

static void logged(void **state)
{
    struct err e = {0};
    struct tlog_entry t;
    struct tlog_record_info r;
    const struct ca_jwt m = test_jwt();
    built(&m, 1);
    assert_ok(tlog_entry_parse(&t, entry.p, entry.len, &e), &e);
    assert_int_equal(t.type, TLOG_ENTRY_JWT);
    assert_ok(tlog_record_parse(&r, t.type, t.body, &e), &e);
    assert_true(r.time == NOW && r.expires == NOW + 300 && r.code == TLOG_JWT_SVID && r.revision == 7);
    assert_true(bytes_eq_str(r.kid, KID) && bytes_eq(r.spiffe_id, m.spiffe_id.p, m.spiffe_id.len));
    assert_true(bytes_eq(r.audiences, m.audiences.p, m.audiences.len) && bytes_eq(r.evidence, test_digest, 32));
    assert_true(bytes_eq(r.requester, m.requester.p, m.requester.len) && bytes_eq(r.session, test_digest, 32));
}

/* The longest that may be asked for fits everywhere. */
static void longest(void **state)
{
    static char id[SPIFFE_ID_MAX + 1];
    static uint8_t audiences[CA_AUDIENCES_BYTES];
    struct err e = {0};
    struct ca_jwt m = test_jwt();
    memset(id, 'a', sizeof id - 1);
    memcpy(id, "spiffe://example.org/", 21);
    memset(audiences, '"', sizeof audiences); /* each becomes two characters */
    for (int i = 0; i < 16; i++)
        audiences[i * 192] = 191;
    m.spiffe_id = m.requester = text(id);
    m.audiences = (struct bytes){audiences, sizeof audiences};
    assert_ok(profile_check_jwt(&config, &m, &e), &e);
    struct bytes input = built(&m, (UINT64_C(1) << 48) - 1);
    struct jwt_expect x = expect_of(&m, (UINT64_C(1) << 48) - 1);
    assert_true(input.len + 1 + 86 <= CA_JWT_BYTES);
    assert_ok(jwt_lint(&policy, &x, input, room, sizeof room, &e), &e);
    assert_int_equal(jwt_build(array, input.len, &scratch, &policy, &m, NOW, 1).len, 0); /* no room for the signature */
}

static void profile_refuses(const struct ca_jwt *m, const char *rule)
{
    struct err e = {0};
    assert_int_equal(profile_check_jwt(&config, m, &e), -1);
    assert_string_equal(e.rule, rule);
}

static void profile(void **state)
{
    struct err e = {0};
    const struct ca_jwt m = test_jwt();
    struct ca_jwt x = m;
    assert_ok(profile_check_jwt(&config, &m, &e), &e);
    x.lifetime = 3600;
    assert_ok(profile_check_jwt(&config, &x, &e), &e);
    x.lifetime = 3601;
    profile_refuses(&x, "lifetime");
    x.lifetime = 0;
    profile_refuses(&x, "lifetime");
    x = m, x.spiffe_id = text("spiffe://example.com/web");
    profile_refuses(&x, "trust-domain");
    x = m, x.spiffe_id = text("spiffe://example.org/mayfly/server");
    profile_refuses(&x, "reserved");
    x = m, x.spiffe_id = text("spiffe://example.org/mayfly");
    profile_refuses(&x, "reserved");
    x = m, x.spiffe_id = text("spiffe://example.org");
    assert_int_equal(profile_check_jwt(&config, &x, &e), -1);
    x = m, x.attestor = text("a b");
    profile_refuses(&x, "log-fields");
    x = m, x.entry_id = text("a\nb");
    profile_refuses(&x, "log-fields");
    x = m, x.requester = text("spiffe://example.com/agent");
    profile_refuses(&x, "trust-domain");
}

/* What cannot be logged is not signed. */
static void audiences(void **state)
{
    static const char *const bad[] = {"\001", "\002a", "\001a\001", "\002a\n", "\002\xc0\xaf"};
    struct ca_jwt m = test_jwt();
    struct err e = {0};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        m.audiences = text(bad[i]);
        assert_int_equal(jwt_entry(&entry, &policy, &m, NOW, &e), -1);
        assert_int_equal(e.code, ERR_DENIED);
        assert_string_equal(e.rule, "record-format");
    }
    m.audiences = (struct bytes){(const uint8_t *)"\1a\0", 3}; /* an empty one */
    assert_int_equal(jwt_entry(&entry, &policy, &m, NOW, &e), -1);
    m = test_jwt();
    m.entry_id.len = 0;
    assert_int_equal(jwt_entry(&entry, &policy, &m, NOW, &e), -1);
}

/* --- the last look ---------------------------------------------------------------------------------- */

static void lint_of(const struct ca_jwt *m, const struct jwt_expect *x, const char *header, const char *claims, const char *rule)
{
    struct err e = {0};
    char input[4096];
    size_t n = b64url_encode(input, header, strlen(header));
    input[n++] = '.';
    n += b64url_encode(input + n, claims, strlen(claims));
    int r = jwt_lint(&policy, x, (struct bytes){(const uint8_t *)input, n}, room, sizeof room, &e);
    assert_int_equal(r, rule ? -1 : 0);
    if (rule)
        assert_string_equal(e.rule, rule);
}

#define HEADER "{\"alg\":\"ES256\",\"kid\":\"" KID "\",\"typ\":\"JWT\"}"
#define CLAIMS(aud, exp, iat, jti, sub)                                                            \
    "{\"aud\":" aud ",\"exp\":" exp ",\"iat\":" iat ",\"jti\":\"" jti "\",\"sub\":\"" sub "\"}"
#define AUD "[\"payroll\",\"say \\\"hi\\\" \\\\!\"]"
#define EXP "1795457100"
#define IAT "1795456800"
#define SUB "spiffe://example.org/web/1"

static void lint(void **state)
{
    static const char good[] = CLAIMS(AUD, EXP, IAT, "1-9", SUB);
    const struct ca_jwt m = test_jwt();
    built(&m, 9);
    struct jwt_expect x = expect_of(&m, 9);
    lint_of(&m, &x, HEADER, good, NULL);
    static const char *const headers[] = {
        "{\"alg\":\"none\",\"kid\":\"" KID "\",\"typ\":\"JWT\"}", "{\"alg\":\"ES256\",\"kid\":\"x\",\"typ\":\"JWT\"}",
        "{\"alg\":\"ES256\",\"kid\":\"" KID "\"}", "{\"alg\":\"ES256\",\"kid\":\"" KID "\",\"typ\":\"JWT\",\"x5u\":\"\"}", "[]"};
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++)
        lint_of(&m, &x, headers[i], good, "lint-jwt");
    static const char *const claims[] = {
        CLAIMS("[\"payroll\"]", EXP, IAT, "1-9", SUB),
        CLAIMS("[\"payroll\",\"say \\\"hi\\\" \\\\!\",\"more\"]", EXP, IAT, "1-9", SUB),
        CLAIMS("\"payroll\"", EXP, IAT, "1-9", SUB),
        CLAIMS("[]", EXP, IAT, "1-9", SUB),
        CLAIMS("[\"say \\\"hi\\\" \\\\!\",\"payroll\"]", EXP, IAT, "1-9", SUB),
        CLAIMS(AUD, "1795457101", IAT, "1-9", SUB),
        CLAIMS(AUD, EXP, "1795456801", "1-9", SUB),
        CLAIMS(AUD, "1795457100.0", IAT, "1-9", SUB),
        CLAIMS(AUD, EXP, IAT, "1-10", SUB),
        CLAIMS(AUD, EXP, IAT, "2-9", SUB),
        CLAIMS(AUD, EXP, IAT, "1-9", "spiffe://example.org/web/2"),
        CLAIMS(AUD, EXP, IAT, "1-9", SUB "\",\"admin\":\"yes"),
        "{}", "[1,2,3,4,5]"};
    for (size_t i = 0; i < sizeof claims / sizeof *claims; i++)
        lint_of(&m, &x, HEADER, claims[i], "lint-jwt");
}

/* It is the entry's too: of another request's entry, or a damaged one, nothing is signed. */
static void lint_entry(void **state)
{
    static const char good[] = CLAIMS(AUD, EXP, IAT, "1-9", SUB);
    const struct ca_jwt m = test_jwt();
    struct ca_jwt other = m;
    struct jwt_expect x;
    other.spiffe_id = text("spiffe://example.org/web/2");
    built(&other, 9);
    x = expect_of(&m, 9);
    lint_of(&m, &x, HEADER, good, "lint-log");
    other = m, other.audiences = text("\007payroll");
    built(&other, 9);
    x = expect_of(&m, 9);
    lint_of(&m, &x, HEADER, good, "lint-log");
    other = m, other.lifetime = 299;
    built(&other, 9);
    x = expect_of(&m, 9);
    lint_of(&m, &x, HEADER, good, "lint-log");
    built(&m, 9);
    x = expect_of(&m, 9);
    x.log_entry.len--;
    lint_of(&m, &x, HEADER, good, "lint-log");
}

/* The signer's own limits hold whatever the request says. */
static void lint_limits(void **state)
{
    struct ca_jwt m = test_jwt();
    m.spiffe_id = text("spiffe://example.org/mayfly/server");
    built(&m, 9);
    struct jwt_expect x = expect_of(&m, 9);
    lint_of(&m, &x, HEADER, CLAIMS(AUD, EXP, IAT, "1-9", "spiffe://example.org/mayfly/server"), "lint-jwt");
    m = test_jwt();
    config.ca.max_lifetime = 299;
    built(&m, 9);
    x = expect_of(&m, 9);
    lint_of(&m, &x, HEADER, CLAIMS(AUD, EXP, IAT, "1-9", SUB), "lint-jwt");
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {T(texts), T(logged),     T(longest),    T(profile),
                                       T(audiences), T(lint), T(lint_entry), T(lint_limits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
