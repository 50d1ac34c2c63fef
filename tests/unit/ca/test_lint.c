/* Lint lets pass what is right, and nothing that differs in a single byte. */
#include "unit/ca/leaf.h"

static struct leaf leaf;
static struct key *key, *other;

static int setup(void **state)
{
    key = test_key(KEY_P256);
    other = test_key(KEY_P256);
    return 0;
}

static int teardown(void **state)
{
    key_free(key);
    key_free(other);
    return 0;
}

static int lint(struct err *e)
{
    memset(e, 0, sizeof *e);
    return lint_leaf(&leaf.lint, &leaf.digest, &leaf.expect, leaf.tbs, e);
}

static void expect_ok(void)
{
    struct err e;
    assert_ok(lint(&e), &e);
}

static void expect_rule(const char *rule)
{
    struct err e;
    assert_int_equal(lint(&e), -1);
    assert_string_equal(e.rule, rule);
    assert_int_equal(e.code, ERR_INTERNAL);
}

static void fresh(void)
{
    struct ca_issue m = test_request(key);
    leaf_free(&leaf);
    leaf_make(&leaf, &m);
    expect_ok();
}

static void rebuild(uint64_t serial, const char *proof)
{
    leaf.tbs = tbs_build(leaf.tbs_array, sizeof leaf.tbs_array, &leaf.parts, serial, text(proof));
    assert_true(leaf.tbs.len > 0);
}

static void passes(void **state)
{
    fresh();
    struct ca_issue m = test_request(key);
    m.profile = CA_PROFILE_SERVER;
    m.spiffe_id = text("spiffe://example.org/mayfly/server");
    m.dns[0] = text("::1");
    m.dns[1] = text("localhost");
    m.dns[2] = text("127.0.0.1");
    m.dns_count = 3;
    leaf_free(&leaf);
    leaf_make(&leaf, &m);
    expect_ok();
}

/* Each byte, each bit of it: only inside the proof's path and checkpoint may one pass. */
static void every_bit(void **state)
{
    fresh();
    uint8_t *p = leaf.tbs_array + (leaf.tbs.p - leaf.tbs_array);
    const char *free_part = LEAF_PROOF;
    size_t after_index = (size_t)(strstr(free_part, "index 77\n") + 9 - free_part);
    size_t open_from = leaf.tbs.len - strlen(LEAF_PROOF) + after_index;
    size_t extra_from = leaf.tbs.len - strlen(LEAF_PROOF) + 23 + 6, extra_to = extra_from + 4;
    struct err e;
    for (size_t i = 0; i < open_from; i++) {
        if (i >= extra_from && i < extra_to)
            continue; /* the extra's own text: the leaf hash covers it */
        for (int bit = 0; bit < 8; bit++) {
            p[i] ^= (uint8_t)(1 << bit);
            if (lint(&e) == 0) {
                print_message("byte %zu bit %d passed\n", i, bit);
                fail();
            }
            p[i] ^= (uint8_t)(1 << bit);
        }
    }
    expect_ok();
}

static void every_length(void **state)
{
    fresh();
    struct bytes good = leaf.tbs;
    struct err e;
    for (size_t n = 0; n < good.len; n++) {
        uint8_t *exact = malloc(n ? n : 1);
        memcpy(exact, good.p, n);
        leaf.tbs = (struct bytes){exact, n};
        assert_int_equal(lint(&e), -1);
        free(exact);
    }
    uint8_t *longer = malloc(good.len + 1);
    memcpy(longer, good.p, good.len);
    longer[good.len] = 0;
    leaf.tbs = (struct bytes){longer, good.len + 1};
    expect_rule("lint-form");
    free(longer);
}

static void fields(void **state)
{
    fresh();
    rebuild(TBS_SERIAL(1, LEAF_INDEX + 1), LEAF_PROOF);
    expect_rule("lint-serial");
    rebuild(TBS_SERIAL(2, LEAF_INDEX), LEAF_PROOF);
    expect_rule("lint-serial");
    fresh();
    leaf.parts.signature_algorithm = tbs_ecdsa_sha384;
    rebuild(TBS_SERIAL(1, LEAF_INDEX), LEAF_PROOF);
    expect_rule("lint-form");
    fresh();
    leaf.parts.issuer = text("\x30\x10\x31\x0e\x30\x0c\x06\x03\x55\x04\x03\x0c\x05Other");
    rebuild(TBS_SERIAL(1, LEAF_INDEX), LEAF_PROOF);
    expect_rule("lint-issuer");
    fresh();
    leaf.parts.subject = leaf.parts.issuer;
    rebuild(TBS_SERIAL(1, LEAF_INDEX), LEAF_PROOF);
    expect_rule("lint-form");
    fresh();
    leaf.parts.spki = key_spki(other);
    rebuild(TBS_SERIAL(1, LEAF_INDEX), LEAF_PROOF);
    expect_rule("lint-key");
}

static void times(void **state)
{
    const struct {
        int64_t before, after;
    } bad[] = {{1, 300}, {-11, 300}, {-10, 299}, {-10, 301}, {-10, -1}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        fresh();
        leaf.parts.not_before = LEAF_NOW + bad[i].before;
        leaf.parts.not_after = LEAF_NOW + bad[i].after;
        rebuild(TBS_SERIAL(1, LEAF_INDEX), LEAF_PROOF);
        expect_rule("lint-validity");
    }
    fresh();
    leaf.policy.ca.max_lifetime = 299;
    expect_rule("lint-validity");
    fresh();
    leaf.lint.issuer_not_after = LEAF_NOW + 299;
    expect_rule("lint-validity");
}

/* The request says one thing, the certificate another. */
static void names(void **state)
{
    static const char *const ids[] = {"spiffe://example.org/web/2", "spiffe://example.com/web/1"};
    for (size_t i = 0; i < 2; i++) {
        fresh();
        leaf.request.spiffe_id = text(ids[i]);
        expect_rule("lint-san");
    }
    fresh();
    leaf.request.dns_count = 1; /* one more name in the certificate than asked for */
    expect_rule("lint-san");
    fresh();
    leaf.request.dns[leaf.request.dns_count++] = text("more.example.org");
    expect_rule("lint-san");
    fresh();
    leaf.request.dns[leaf.request.dns_count++] = text("127.0.0.1");
    expect_rule("lint-san");
    fresh();
    leaf.policy.ca.permitted_dns_count = 1; /* svc.test is no longer permitted */
    expect_rule("lint-san");
    fresh();
    leaf.request.profile = CA_PROFILE_SERVER;
    expect_rule("lint-san");
    fresh();
    leaf.request.profile = 9;
    expect_rule("lint-san");
}

/* A builder gone wrong: the reserved path under the workload profile, on both sides. */
static void reserved(void **state)
{
    fresh();
    leaf.request.spiffe_id = leaf.profile.uri = text("spiffe://example.org/mayfly/server");
    struct err e = {0};
    assert_ok(tbs_leaf(&leaf.parts, leaf.extensions, sizeof leaf.extensions, &leaf.template, &leaf.digest,
                       &leaf.profile, &e), &e);
    leaf.expect.log_body = tbs_log_body(leaf.body_array, sizeof leaf.body_array, &leaf.parts);
    rebuild(TBS_SERIAL(1, LEAF_INDEX), LEAF_PROOF);
    expect_rule("lint-san");
}

static void extensions(void **state)
{
    uint8_t fixed[256];
    fresh();
    struct bytes all = leaf.parts.extensions;
    /* one taken away, at either end */
    leaf.parts.extensions = (struct bytes){all.p + leaf.template.aki.len, all.len - leaf.template.aki.len};
    rebuild(TBS_SERIAL(1, LEAF_INDEX), LEAF_PROOF);
    expect_rule("lint-extensions");
    /* one more after the proof */
    leaf.parts.extensions = all;
    struct derw w;
    derw_init(&w, fixed, sizeof fixed);
    derw_tlv(&w, DER_SEQUENCE, NULL, 0);
    tbs_extension(&w, OID_EXT_BASIC, OID_LEN(OID_EXT_BASIC), true, 0);
    struct bytes more = derw_bytes(&w);
    uint8_t joined[8192];
    memcpy(joined, more.p, more.len);
    memcpy(joined + more.len, all.p, all.len);
    leaf.parts.extensions = (struct bytes){joined, more.len + all.len};
    rebuild(TBS_SERIAL(1, LEAF_INDEX), LEAF_PROOF);
    expect_rule("lint-extensions");
    fresh();
    leaf.tbs = tbs_build(leaf.tbs_array, sizeof leaf.tbs_array, &leaf.parts, TBS_SERIAL(1, LEAF_INDEX), (struct bytes){NULL, 0});
    expect_rule("lint-extensions"); /* no proof */
}

/* The builder goes by another policy than lint: what the lifetime asks for is demanded, and no other list. */
static void revocation(void **state)
{
    static char other_url[] = "https://elsewhere.example.org";
    struct ca_issue m = test_request(key);
    fresh(); /* 300 seconds */
    leaf.policy.crl.short_limit = 299;
    expect_rule("lint-extensions");
    m.lifetime = 1200;
    leaf_free(&leaf);
    leaf_make(&leaf, &m);
    expect_ok();
    leaf.policy.crl.short_limit = 1200;
    expect_rule("lint-extensions");
    leaf.policy.crl.short_limit = 1199;
    expect_ok();
    leaf.policy.crl.shards = 32;
    expect_rule("lint-extensions");
    leaf.policy.crl.shards = 16;
    leaf.policy.external_url = other_url;
    expect_rule("lint-extensions");
    for (unsigned shards = 1; shards <= 1024; shards *= 2) {
        struct err e = {0};
        fresh();
        leaf.request.lifetime = leaf.profile.lifetime = 1200;
        leaf.policy.crl.shards = shards;
        assert_ok(profile_validity(&leaf.profile, LEAF_NOW, LEAF_NOW + 86400, &e), &e);
        assert_ok(tbs_leaf(&leaf.parts, leaf.extensions, sizeof leaf.extensions, &leaf.template, &leaf.digest,
                           &leaf.profile, &e), &e);
        leaf.expect.log_body = tbs_log_body(leaf.body_array, sizeof leaf.body_array, &leaf.parts);
        rebuild(TBS_SERIAL(1, LEAF_INDEX), LEAF_PROOF);
        expect_ok();
    }
}

static void proofs(void **state)
{
    static const char *const bad[] = {
        "x", "c2sp.org/tlog-proof@v1\n", "c2sp.org/tlog-proof@v1\nextra AAAA\n",
        "c2sp.org/tlog-proof@v1\nextra AAAA\nindex 78\nx\n", "c2sp.org/tlog-proof@v2\nindex 77\nx\n",
        "c2sp.org/tlog-proof@v1\nindex 077\nx\n", "c2sp.org/tlog-proof@v1\nindex 77\n"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        fresh();
        rebuild(TBS_SERIAL(1, LEAF_INDEX), bad[i]);
        expect_rule("lint-proof");
    }
    fresh();
    rebuild(TBS_SERIAL(1, LEAF_INDEX), "c2sp.org/tlog-proof@v1\nindex 77\nx\n");
    expect_ok(); /* extra is optional */
}

/* Signed is only what was logged. */
static void log_entry(void **state)
{
    fresh();
    uint8_t *body = leaf.body_array + (leaf.log_body.p - leaf.body_array);
    struct err e;
    for (size_t i = 0; i < leaf.log_body.len; i++) {
        body[i] ^= 1;
        assert_int_equal(lint(&e), -1);
        assert_string_equal(e.rule, "lint-log");
        body[i] ^= 1;
    }
    leaf.expect.log_body.len--;
    expect_rule("lint-log");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(passes),   cmocka_unit_test(every_bit),  cmocka_unit_test(every_length),
        cmocka_unit_test(fields),   cmocka_unit_test(times),      cmocka_unit_test(names),
        cmocka_unit_test(reserved), cmocka_unit_test(extensions), cmocka_unit_test(proofs),
        cmocka_unit_test(log_entry), cmocka_unit_test(revocation),
    };
    int r = cmocka_run_group_tests(tests, setup, teardown);
    leaf_free(&leaf);
    return r;
}
