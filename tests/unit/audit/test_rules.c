/* A monitor's rules: what of an entry alerts, and what a list may look like. */
#include "audit/rules.h"
#include "unit/audit/house.h"

static struct audit_rules rules;
static char said[16][32];
static size_t count;

static void on_alert(void *arg, const struct audit_entry *t, const struct err *why)
{
    assert_true(count < 16);
    snprintf(said[count++], sizeof said[0], "%s", why->rule);
}

static void judge(struct bytes raw)
{
    static struct audit_entry t;
    count = 0;
    audit_entry_decode(&t, 7, raw);
    audit_rules_judge(&rules, &t, on_alert, NULL);
}

static void alerts(struct bytes raw, const char *rule)
{
    judge(raw);
    if (count != (rule ? 1u : 0u) || (rule && strcmp(said[0], rule) != 0))
        fail_msg("%zu alerts, the first %s, instead of %s", count, count ? said[0] : "none", rule ? rule : "none");
}

static struct bytes cert(struct buf *b, const char *id, const char *attestor, uint8_t key)
{
    cert_entry(b, &(struct cert_want){.id = id, .attestor = attestor, .from = START, .to = START + 300, .key = key});
    return view(b);
}

static int reset(void **state)
{
    audit_rules_free(&rules);
    return 0;
}

static void patterns(void **state)
{
    static const struct {
        const char *id;
        bool inside;
    } ids[] = {{"spiffe://example.org/web", false},   {"spiffe://example.org/web/1", true}, {"spiffe://example.org/web/1/2", true},
               {"spiffe://example.org/website", false}, {"spiffe://example.org/db", true},    {"spiffe://example.org/db/1", false},
               {"spiffe://example.org/d", false},       {"spiffe://other.test/web/1", false}, {NULL, false}};
    struct err e;
    struct buf b;
    buf_init(&b, 8192);
    alerts(cert(&b, "spiffe://example.org/x", "join_token", 1), NULL); /* nothing is asked for */
    assert_ok(audit_rules_allow(&rules, "spiffe://example.org/web/*", &e), e);
    assert_ok(audit_rules_allow(&rules, "spiffe://example.org/db", &e), e);
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++)
        alerts(cert(&b, ids[i].id, "join_token", 1), ids[i].inside ? NULL : "outside-pattern");
    static const char *const bad[] = {"", "*", "/*", "example.org/web", "spiffe://example.org/*/x", "spiffe://example.org/web*",
                                      "spiffe://example.org//*", "spiffe://EXAMPLE.org/web"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(audit_rules_allow(&rules, bad[i], &e), -1);
        assert_rule(e, "pattern");
        assert_int_equal(e.code, ERR_USAGE);
    }
    assert_ok(audit_rules_allow(&rules, "spiffe://other.test/*", &e), e);
    alerts(cert(&b, "spiffe://other.test/web/1", "join_token", 1), NULL);
    buf_free(&b);
}

static void keys(void **state)
{
    char text[400], hex[65];
    uint8_t key[32];
    struct err e;
    struct buf b;
    buf_init(&b, 8192);
    memset(key, 0x22, sizeof key);
    hex_encode(hex, key, 32);
    snprintf(text, sizeof text, "# keys\n\n  %s  # web\r\n%.63s", hex, hex);
    assert_int_equal(audit_rules_keys(&rules, text, strlen(text), &e), -1);
    assert_rule(e, "known-keys");
    assert_non_null(strstr(e.msg, "line 4"));
    reset(NULL);
    snprintf(text, sizeof text, "# keys\n\n  %s  # web\r\n", hex);
    assert_ok(audit_rules_keys(&rules, text, strlen(text), &e), e);
    assert_int_equal(rules.keys_count, 1);
    alerts(cert(&b, "spiffe://example.org/web", "join_token", 0x22), NULL);
    alerts(cert(&b, "spiffe://example.org/web", "join_token", 0x23), "unknown-key");
    assert_int_equal(audit_rules_keys(&rules, text, strlen(text), &e), -1); /* once */
    reset(NULL);
    assert_ok(audit_rules_keys(&rules, "", 0, &e), e); /* an empty list knows none */
    alerts(cert(&b, "spiffe://example.org/web", "join_token", 0x22), "unknown-key");
    buf_free(&b);
}

static void attestors(void **state)
{
    struct err e;
    struct buf b;
    buf_init(&b, 8192);
    assert_ok(audit_rules_attestors(&rules, "join_token,x509pop", &e), e);
    alerts(cert(&b, "spiffe://example.org/web", "x509pop", 1), NULL);
    alerts(cert(&b, "spiffe://example.org/web", "x509", 1), "attestor");
    alerts(cert(&b, "spiffe://example.org/web", NULL, 1), "attestor");
    static const char *const bad[] = {"", ",", "a,", "a,,b"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(audit_rules_attestors(&rules, bad[i], &e), -1);
        assert_rule(e, "attestors");
    }
    buf_free(&b);
}

/* Each record alerts where it was asked for, and nowhere else. */
static void records(void **state)
{
    static const uint8_t digest[32] = {1};
    const struct bytes id = TEXT("spiffe://example.org/web"), by = TEXT("uid:0");
    const struct tlog_record_info r[] = {
        {.type = TLOG_ENTRY_REFUSAL, .time = START, .code = TLOG_AT_POLICY, .rule = TEXT("no-entry"), .why = TEXT("no"),
         .spiffe_id = id, .count = 3},
        {.type = TLOG_ENTRY_REVOCATION, .time = START, .code = TLOG_BY_ID, .value = id, .reason = 1, .actor = by},
        {.type = TLOG_ENTRY_CHANGE, .time = START, .code = TLOG_CREATED, .entry_id = TEXT("e1"), .revision = 1,
         .spiffe_id = id, .digest = {digest, 32}, .actor = by},
        {.type = TLOG_ENTRY_AUTHORITY, .time = START, .code = TLOG_NEW_CRL, .value = TEXT("1/2"), .digest = {digest, 32}}};
    static const char *const names[] = {"refusal", "revocation", "entry-change", "authority-change"};
    struct err e;
    struct buf b;
    buf_init(&b, 8192);
    for (unsigned i = 0; i < 4; i++) {
        reset(NULL);
        record_entry(&b, &r[i]);
        alerts(view(&b), NULL);
        rules.refusals = i == 0;
        rules.revocations = i == 1;
        rules.changes = i > 1;
        alerts(view(&b), names[i]);
        rules.refusals = i != 0;
        rules.revocations = i != 1;
        rules.changes = i < 2;
        alerts(view(&b), NULL);
    }
    reset(NULL);
    assert_ok(audit_rules_allow(&rules, "spiffe://example.org/db", &e), e);
    record_entry(&b, &r[2]); /* who may be given a certificate later */
    alerts(view(&b), "outside-pattern");
    struct tlog_record_info deleted = r[2];
    deleted.code = TLOG_DELETED;
    record_entry(&b, &deleted);
    alerts(view(&b), NULL);
    buf_free(&b);
}

/* A token is judged as a certificate is; and a new key for them is heard of whatever was asked for. */
static void jwts(void **state)
{
    static const uint8_t digest[32] = {1};
    const struct tlog_record_info token = {.type = TLOG_ENTRY_JWT, .time = START, .code = TLOG_JWT_SVID, .expires = START + 300,
                                           .spiffe_id = TEXT("spiffe://example.org/web"), .audiences = TEXT("\001a"),
                                           .kid = TEXT("k"), .attestor = TEXT("x509pop"), .entry_id = TEXT("e1")},
                                  key = {.type = TLOG_ENTRY_AUTHORITY, .time = START, .code = TLOG_NEW_JWT_KEY,
                                         .value = TEXT("k"), .digest = {digest, 32}};
    char hex[66] = "01";
    struct err e;
    struct buf b;
    buf_init(&b, 8192);
    reset(NULL);
    record_entry(&b, &token);
    alerts(view(&b), NULL);
    assert_ok(audit_rules_allow(&rules, "spiffe://example.org/db", &e), e);
    alerts(view(&b), "outside-pattern");
    reset(NULL);
    assert_ok(audit_rules_allow(&rules, "spiffe://example.org/*", &e), e);
    assert_ok(audit_rules_attestors(&rules, "join_token", &e), e);
    alerts(view(&b), "attestor");
    reset(NULL);
    record_entry(&b, &key);
    alerts(view(&b), "jwt-key");
    memset(hex + 2, '0', 62);
    assert_ok(audit_rules_keys(&rules, hex, 64, &e), e);
    alerts(view(&b), NULL);
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_teardown(patterns, reset), cmocka_unit_test_teardown(keys, reset),
                                       cmocka_unit_test_teardown(attestors, reset), cmocka_unit_test_teardown(records, reset),
                                       cmocka_unit_test_teardown(jwts, reset)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
