#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "tests/unit/attest/pki.h"

#define AGENT "spiffe://example.org/agent"
#define LABEL "mayfly agent evidence v1\n"

static const uint8_t salt[16] = "0123456789abcde";
static const uint8_t digest[32] = "a digest of thirty-two bytes, ok";
static const uint8_t other[32] = "another digest, thirty-two bytes";
static struct pki pki, foreign;
static struct key *agent_key, *other_key;
static struct buf leaf;
static const char *const selectors[] = {"unix:uid:1000", "unix:path:/usr/bin/web \"one\""};

static struct bytes view(const struct buf *b)
{
    return (struct bytes){b->p, b->len};
}

static long sign_with(void *arg, uint8_t *sig, size_t cap, const void *msg, size_t len, struct err *e)
{
    return key_sign(arg, true, sig, cap, msg, len, e);
}

static long sign_raw(void *arg, uint8_t *sig, size_t cap, const void *msg, size_t len, struct err *e)
{
    return key_sign(arg, false, sig, cap, msg, len, e);
}

static long sign_not(void *arg, uint8_t *sig, size_t cap, const void *msg, size_t len, struct err *e)
{
    return err_set(e, ERR_HSM, "token-away", "no");
}

static int collect(struct buf *out, const char *const *list, size_t n, attest_sign_cb *sign, struct key *k, struct err *e)
{
    struct bytes chain[] = {view(&leaf), view(&pki.issuing_der)};
    buf_init(out, 65536);
    *e = (struct err){0};
    return attest_agent_collect(out, chain, 2, sign, k, list, n, digest, e);
}

static int verify_json(json_t *cmw, const uint8_t d[32], int64_t now, struct attest_result *r, struct err *e)
{
    struct attest_anchor anchor = {view(&pki.root_der), view(&pki.issuing_der)};
    *e = (struct err){0};
    assert_non_null(cmw);
    int rc = attest_verify(r, cmw, d, &anchor, "example.org", now, salt, e);
    json_decref(cmw);
    return rc;
}

static int verify(const struct buf *out, const uint8_t d[32], int64_t now, struct attest_result *r, struct err *e)
{
    return verify_json(json_parse(out->p, out->len, 65536, e), d, now, r, e);
}

static void good(const char *const *list, size_t n, struct key *k)
{
    struct buf out;
    struct err e;
    struct attest_result r;
    assert_int_equal(collect(&out, list, n, sign_with, k, &e), 0);
    assert_int_equal(verify(&out, digest, PKI_NOW, &r, &e), 0);
    assert_int_equal(r.kind, ATTEST_AGENT);
    assert_string_equal(r.spiffe_id, AGENT);
    assert_int_equal(r.selectors_count, n);
    for (size_t i = 0; i < n; i++)
        assert_string_equal(r.selectors[i], list[i]);
    assert_int_equal(r.not_after, PKI_NOW + 300);
    assert_true(*r.serial);
    attest_result_free(&r);
    /* another session or nonce; after the SVID has ended */
    assert_int_equal(verify(&out, other, PKI_NOW, &r, &e), -1);
    assert_string_equal(e.rule, "agent-signature");
    assert_int_equal(r.selectors_count, 0);
    assert_int_equal(verify(&out, digest, PKI_NOW + 301, &r, &e), -1);
    assert_string_equal(e.rule, "x509pop-expired");
    buf_free(&out);
}

static void test_good(void **state)
{
    char text[ATTEST_SELECTORS_MAX][16];
    const char *many[ATTEST_SELECTORS_MAX];
    good(selectors, 1, agent_key);
    good(selectors, 2, agent_key);
    for (size_t i = 0; i < ATTEST_SELECTORS_MAX; i++) {
        snprintf(text[i], sizeof text[i], "unix:gid:%zu", i);
        many[i] = text[i];
    }
    good(many, ATTEST_SELECTORS_MAX, agent_key);
}

static void test_every_key_type(void **state)
{
    struct err e = {0};
    struct buf kept = leaf;
    for (enum key_type t = KEY_P256; t <= KEY_ED25519; t++) {
        struct key *k = key_generate(t, &e);
        struct pki_leaf l = pki_svid("critical,URI:" AGENT);
        pki_leaf_der(&leaf, &pki, k, &l);
        good(selectors, 2, k);
        buf_free(&leaf);
        key_free(k);
    }
    leaf = kept;
}

/* Told where it is made. */
static void test_collect_refuses(void **state)
{
    static char longer[ATTEST_AGENT_SELECTOR_LEN + 2] = "a:";
    const char *bad[][1] = {{"unix"}, {":x"}, {"unix:"}, {"unix:\n"}, {"unix:\xc3\xa9"}, {longer}, {""}};
    const char *many[ATTEST_SELECTORS_MAX + 1];
    struct buf out;
    struct err e;
    memset(longer + 2, 'x', sizeof longer - 3);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(collect(&out, bad[i], 1, sign_with, agent_key, &e), -1);
        assert_string_equal(e.rule, "agent-selectors");
    }
    for (size_t i = 0; i <= ATTEST_SELECTORS_MAX; i++)
        many[i] = "a:b";
    assert_int_equal(collect(&out, many, ATTEST_SELECTORS_MAX + 1, sign_with, agent_key, &e), -1);
    assert_string_equal(e.rule, "agent-selectors");
    assert_int_equal(collect(&out, many, 0, sign_with, agent_key, &e), -1);
    assert_string_equal(e.rule, "agent-selectors");
    assert_int_equal(collect(&out, selectors, 1, sign_with, other_key, &e), -1);
    assert_string_equal(e.rule, "agent-signature");
    assert_int_equal(collect(&out, selectors, 1, sign_raw, agent_key, &e), -1);
    assert_string_equal(e.rule, "agent-signature");
    assert_int_equal(collect(&out, selectors, 1, sign_not, agent_key, &e), -1);
    assert_string_equal(e.rule, "token-away");
    longer[ATTEST_AGENT_SELECTOR_LEN] = 0;
    good(bad[5], 1, agent_key);
}

/* --- evidence as others make it ---------------------------------------------------------------------- */

static json_t *evidence_of(json_t *chain, json_t *list, const struct key *k, const char *label)
{
    struct buf msg, text, inner;
    struct err e = {0};
    uint8_t sig[512];
    char b64[1024];
    size_t i;
    json_t *v;
    buf_init(&msg, 1 << 20);
    buf_str(&msg, label);
    buf_put(&msg, digest, 32);
    json_array_foreach(list, i, v)
    {
        buf_u16(&msg, (uint16_t)json_string_length(v));
        buf_put(&msg, json_string_value(v) ? json_string_value(v) : "", json_string_length(v));
    }
    long n = key_sign(k, false, sig, sizeof sig, msg.p, msg.len, &e);
    assert_true(n > 0);
    b64url_encode(b64, sig, (size_t)n);
    json_t *obj = json_pack("{s:o,s:o,s:s}", "chain", chain, "selectors", list, "sig", b64);
    char *dump = json_dumps(obj, JSON_COMPACT);
    buf_init(&inner, 1 << 20);
    buf_str(&inner, dump);
    buf_init(&text, 1 << 20);
    buf_b64url(&text, inner.p, inner.len);
    json_t *cmw = json_pack("[s,s]", ATTEST_MEDIA_AGENT, buf_cstr(&text));
    free(dump);
    json_decref(obj);
    buf_free(&msg);
    buf_free(&inner);
    buf_free(&text);
    return cmw;
}

static json_t *chain_of(const struct buf *a, const struct buf *b)
{
    json_t *list = json_array();
    const struct buf *both[] = {a, b};
    for (size_t i = 0; i < 2; i++) {
        char *text = malloc(B64URL_LEN(both[i]->len) + 1);
        b64url_encode(text, both[i]->p, both[i]->len);
        json_array_append_new(list, json_string(text));
        free(text);
    }
    return list;
}

static void judge(json_t *cmw, const char *rule)
{
    struct attest_result r;
    struct err e;
    int rc = verify_json(cmw, digest, PKI_NOW, &r, &e);
    if (!rule) {
        assert_int_equal(rc, 0);
        attest_result_free(&r);
        return;
    }
    assert_int_equal(rc, -1);
    assert_string_equal(e.rule, rule);
    assert_int_equal(e.code, ERR_BAD_EVIDENCE);
    assert_int_equal(r.selectors_count, 0);
    assert_string_equal(r.spiffe_id, "");
}

static void test_verify_refuses(void **state)
{
    json_t *many = json_array();
    char longer[ATTEST_AGENT_SELECTOR_LEN + 2];
#define GOOD chain_of(&leaf, &pki.issuing_der)
    judge(evidence_of(GOOD, json_pack("[s]", "unix:uid:1"), agent_key, LABEL), NULL);
    judge(evidence_of(GOOD, json_pack("[s]", "unix:uid:1"), other_key, LABEL), "agent-signature");
    judge(evidence_of(GOOD, json_pack("[s]", "unix:uid:1"), agent_key, "mayfly x509pop v1"), "agent-signature");
    judge(evidence_of(GOOD, json_array(), agent_key, LABEL), "agent-selectors");
    judge(evidence_of(GOOD, json_pack("[i]", 7), agent_key, LABEL), "agent-selectors");
    judge(evidence_of(GOOD, json_pack("{}"), agent_key, LABEL), "agent-selectors");
    judge(evidence_of(GOOD, json_pack("[s]", "unix:uid:1\nunix:uid:2"), agent_key, LABEL), "agent-selectors");
    for (int i = 0; i <= ATTEST_SELECTORS_MAX; i++)
        json_array_append_new(many, json_string("a:b"));
    judge(evidence_of(GOOD, many, agent_key, LABEL), "agent-selectors");
    memset(longer, 'x', sizeof longer - 1);
    longer[1] = ':';
    longer[sizeof longer - 1] = 0;
    judge(evidence_of(GOOD, json_pack("[s]", longer), agent_key, LABEL), "agent-selectors");
    judge(evidence_of(json_array(), json_pack("[s]", "a:b"), agent_key, LABEL), "evidence-format");
    judge(json_pack("[s,s]", ATTEST_MEDIA_AGENT, "e30"), "evidence-format");
}

/* The boundaries between selectors are signed, too. */
static void test_boundaries(void **state)
{
    struct buf out;
    struct err e;
    struct attest_result r;
    const char *one[] = {"a:b", "c:d"};
    assert_int_equal(collect(&out, one, 2, sign_with, agent_key, &e), 0);
    json_t *cmw = json_parse(out.p, out.len, 65536, &e), *obj;
    const char *text = json_string_value(json_array_get(cmw, 1));
    uint8_t raw[32768];
    long n = b64url_decode(raw, sizeof raw, text, strlen(text));
    obj = json_parse(raw, (size_t)n, 65536, &e);
    json_object_set_new(obj, "selectors", json_pack("[s]", "a:bc:d"));
    char *dump = json_dumps(obj, JSON_COMPACT), *b64 = malloc(B64URL_LEN(strlen(dump)) + 1);
    b64url_encode(b64, (const uint8_t *)dump, strlen(dump));
    json_array_set_new(cmw, 1, json_string(b64));
    free(dump);
    free(b64);
    json_decref(obj);
    assert_int_equal(verify_json(cmw, digest, PKI_NOW, &r, &e), -1);
    assert_string_equal(e.rule, "agent-signature");
    buf_free(&out);
}

/* Another authority's SVID of the same name. */
static void test_foreign(void **state)
{
    struct buf theirs;
    struct pki_leaf l = pki_svid("critical,URI:" AGENT);
    pki_leaf_der(&theirs, &foreign, agent_key, &l);
    judge(evidence_of(chain_of(&theirs, &foreign.issuing_der), json_pack("[s]", "a:b"), agent_key, LABEL), "x509pop-chain");
    buf_free(&theirs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),           cmocka_unit_test(test_every_key_type), cmocka_unit_test(test_collect_refuses),
        cmocka_unit_test(test_verify_refuses), cmocka_unit_test(test_boundaries),     cmocka_unit_test(test_foreign),
    };
    struct err e = {0};
    struct pki_leaf l = pki_svid("critical,URI:" AGENT);
    pki_new(&pki, "root");
    pki_new(&foreign, "root");
    agent_key = key_generate(KEY_P256, &e);
    other_key = key_generate(KEY_P256, &e);
    pki_leaf_der(&leaf, &pki, agent_key, &l);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    buf_free(&leaf);
    key_free(agent_key);
    key_free(other_key);
    pki_free(&pki);
    pki_free(&foreign);
    return failed;
}
