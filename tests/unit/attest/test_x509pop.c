#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "tests/unit/attest/pki.h"
#include <stdlib.h>
#include <string.h>

static const uint8_t salt[16] = "0123456789abcde";
static const uint8_t digest[32] = "a digest of thirty-two bytes, ok";
static const uint8_t other[32] = "another digest, thirty-two bytes";
static struct pki pki, foreign;
static struct key *leaf_key, *other_key;

static struct bytes view(const struct buf *b)
{
    return (struct bytes){b->p, b->len};
}

static int verify_at(const struct buf *cmw_text, const uint8_t d[32], int64_t now, struct attest_result *r, struct err *e)
{
    memset(e, 0, sizeof *e);
    json_t *cmw = json_parse(cmw_text->p, cmw_text->len, 65536, e);
    assert_non_null(cmw);
    struct attest_anchor anchor = {view(&pki.root_der), view(&pki.issuing_der)};
    int rc = attest_verify(r, cmw, d, &anchor, "example.org", now, salt, e);
    json_decref(cmw);
    return rc;
}

/* The same chain, shown in TLS, which checks the holder's key: all other rules are the same. */
static void judge_shown(const struct bytes *chain, size_t n, int64_t now, const char *rule)
{
    struct err e = {0};
    struct attest_result r;
    struct attest_anchor anchor = {view(&pki.root_der), view(&pki.issuing_der)};
    int rc = attest_svid(&r, chain, n, &anchor, "example.org", now, &e);
    if (rule && strcmp(rule, "x509pop-signature") != 0) {
        assert_int_equal(rc, -1);
        assert_string_equal(e.rule, rule);
        assert_string_equal(r.spiffe_id, "");
        return;
    }
    assert_int_equal(rc, 0);
    assert_string_equal(r.spiffe_id, "spiffe://example.org/web");
    assert_int_equal(r.not_after, PKI_NOW + 300);
    assert_int_equal(r.selectors_count, 0);
    assert_true(*r.serial);
    attest_result_free(&r);
}

/* Collects with chain and key, and holds the verdict against rule (NULL: accepted). */
static void judge(const struct bytes *chain, size_t n, const struct key *k, const uint8_t d[32], int64_t now,
                  const char *rule)
{
    struct buf out;
    struct err e = {0};
    struct attest_result r;
    buf_init(&out, 65536);
    assert_int_equal(attest_x509pop_collect(&out, chain, n, k, digest, &e), 0);
    int rc = verify_at(&out, d, now, &r, &e);
    if (rule) {
        assert_int_equal(rc, -1);
        assert_string_equal(e.rule, rule);
        assert_int_equal(e.code, ERR_BAD_EVIDENCE);
        assert_string_equal(r.spiffe_id, "");
    } else {
        if (rc < 0)
            print_error("%s: %s\n", e.rule, e.msg);
        assert_int_equal(rc, 0);
        assert_int_equal(r.kind, ATTEST_X509POP);
        assert_string_equal(r.spiffe_id, "spiffe://example.org/web");
        assert_int_equal(r.selectors_count, 1);
        assert_string_equal(r.selectors[0], "x509pop:spiffe_id:spiffe://example.org/web");
        assert_int_equal(r.not_after, PKI_NOW + 300);
        attest_result_free(&r);
    }
    buf_free(&out);
    judge_shown(chain, n, now, rule);
}

static void judge_leaf(struct pki_leaf l, const char *rule)
{
    struct buf leaf;
    pki_leaf_der(&leaf, &pki, leaf_key, &l);
    struct bytes chain[] = {view(&leaf), view(&pki.issuing_der)};
    judge(chain, 2, leaf_key, digest, PKI_NOW, rule);
    buf_free(&leaf);
}

static struct pki_leaf good(void)
{
    return pki_svid("critical,URI:spiffe://example.org/web,DNS:web.example.org");
}

static void test_good(void **state)
{
    judge_leaf(good(), NULL);
}

static void test_every_key_type(void **state)
{
    struct err e = {0};
    for (enum key_type t = KEY_P256; t <= KEY_ED25519; t++) {
        struct key *k = key_generate(t, &e);
        struct pki_leaf l = good();
        struct buf leaf;
        pki_leaf_der(&leaf, &pki, k, &l);
        struct bytes chain[] = {view(&leaf), view(&pki.issuing_der), view(&pki.root_der)};
        judge(chain, 3, k, digest, PKI_NOW, NULL);
        buf_free(&leaf);
        key_free(k);
    }
}

static void test_names(void **state)
{
    judge_leaf(pki_svid(NULL), "x509pop-id");
    judge_leaf(pki_svid("DNS:web.example.org"), "x509pop-id");
    judge_leaf(pki_svid("URI:spiffe://example.org/web,URI:spiffe://example.org/db"), "x509pop-id");
    judge_leaf(pki_svid("URI:spiffe://other.org/web"), "x509pop-id");
    judge_leaf(pki_svid("URI:spiffe://example.org"), "x509pop-id");
    judge_leaf(pki_svid("URI:https://example.org/web"), "x509pop-id");
    judge_leaf(pki_svid("URI:spiffe://example.org/mayfly/server"), "x509pop-id");
    judge_leaf(pki_svid("URI:spiffe://example.org/mayfly"), "x509pop-id");
}

static void test_usage(void **state)
{
    struct pki_leaf l = good();
    l.basic = "critical,CA:TRUE";
    judge_leaf(l, "x509pop-usage");
    l = good();
    l.usage = NULL;
    judge_leaf(l, "x509pop-usage");
    l = good();
    l.usage = "critical,keyEncipherment";
    judge_leaf(l, "x509pop-usage");
    l = good();
    l.usage = "critical,digitalSignature,keyCertSign";
    judge_leaf(l, "x509pop-usage");
    l = good();
    l.eku = NULL;
    judge_leaf(l, "x509pop-usage");
    l = good();
    l.eku = "serverAuth";
    judge_leaf(l, "x509pop-usage");
}

static void test_time(void **state)
{
    struct buf leaf;
    struct pki_leaf l = good();
    pki_leaf_der(&leaf, &pki, leaf_key, &l);
    struct bytes chain[] = {view(&leaf), view(&pki.issuing_der)};
    judge(chain, 2, leaf_key, digest, PKI_NOW + 301, "x509pop-expired");
    judge(chain, 2, leaf_key, digest, PKI_NOW - 11, "x509pop-not-yet");
    buf_free(&leaf);
}

static void test_chain(void **state)
{
    struct buf leaf, self, sub, deep;
    struct pki_leaf l = good(), ca = {.usage = "critical,keyCertSign", .basic = "critical,CA:TRUE",
                                      .not_before = PKI_NOW - 10, .not_after = PKI_NOW + 300};
    /* another root, also with names equal to ours */
    pki_leaf_der(&leaf, &foreign, leaf_key, &l);
    struct bytes alien[] = {view(&leaf), view(&foreign.issuing_der), view(&foreign.root_der)};
    judge(alien, 3, leaf_key, digest, PKI_NOW, "x509pop-chain");
    struct bytes mixed[] = {view(&leaf), view(&pki.issuing_der)};
    judge(mixed, 2, leaf_key, digest, PKI_NOW, "x509pop-chain");
    /* self-signed */
    X509 *x = pki_make("self", leaf_key, NULL, leaf_key, &l);
    pki_der(&self, x);
    struct bytes alone[] = {view(&self)};
    judge(alone, 1, leaf_key, digest, PKI_NOW, "x509pop-usage");
    X509_free(x);
    /* a leaf that signs another leaf */
    X509 *parent = pki_make("parent", other_key, pki.issuing, pki.issuing_key, &l);
    X509 *child = pki_make(NULL, leaf_key, parent, other_key, &l);
    pki_der(&sub, parent);
    pki_der(&deep, child);
    struct bytes below[] = {view(&deep), view(&sub), view(&pki.issuing_der)};
    judge(below, 3, leaf_key, digest, PKI_NOW, "x509pop-chain");
    X509_free(parent);
    X509_free(child);
    buf_free(&sub);
    buf_free(&deep);
    buf_free(&self);
    buf_free(&leaf);
    /* too deep: root, issuing and four more */
    static const char *const names[4] = {"a", "b", "c", NULL};
    X509 *above = pki.issuing, *made[4];
    const struct key *by = pki.issuing_key;
    for (int i = 0; i < 4; i++) {
        made[i] = pki_make(names[i], i == 3 ? leaf_key : other_key, above, by, i == 3 ? &l : &ca);
        above = made[i];
        by = other_key;
    }
    struct buf d[4];
    struct bytes deepest[4];
    for (int i = 0; i < 4; i++) {
        pki_der(&d[i], made[3 - i]);
        deepest[i] = view(&d[i]);
    }
    judge(deepest, 4, leaf_key, digest, PKI_NOW, "x509pop-chain");
    for (int i = 0; i < 4; i++) {
        buf_free(&d[i]);
        X509_free(made[i]);
    }
}

/* The signer checked is the signer used: another's key over our certificate is refused, wherever the
 * other's certificate stands in the chain. */
static void test_signature(void **state)
{
    struct buf mine, theirs;
    struct pki_leaf l = good(), l2 = pki_svid("URI:spiffe://example.org/db");
    pki_leaf_der(&mine, &pki, leaf_key, &l);
    pki_leaf_der(&theirs, &pki, other_key, &l2);
    struct bytes chain[] = {view(&mine), view(&pki.issuing_der), view(&theirs)};
    judge(chain, 2, other_key, digest, PKI_NOW, "x509pop-signature");
    judge(chain, 3, other_key, digest, PKI_NOW, "x509pop-signature");
    judge(chain, 2, leaf_key, other, PKI_NOW, "x509pop-signature"); /* replayed for another session */
    buf_free(&mine);
    buf_free(&theirs);
}

static void refused_json(const char *json, const char *rule)
{
    struct buf out;
    struct err e;
    struct attest_result r;
    buf_init(&out, 65536);
    buf_str(&out, "[\"" ATTEST_MEDIA_X509POP "\",\"");
    buf_b64url(&out, json, strlen(json));
    buf_str(&out, "\"]");
    assert_int_equal(verify_at(&out, digest, PKI_NOW, &r, &e), -1);
    assert_string_equal(e.rule, rule);
    buf_free(&out);
}

static void test_form(void **state)
{
    refused_json("{\"chain\":[],\"signature\":\"AAAA\"}", "evidence-format");
    refused_json("{\"chain\":\"AAAA\",\"signature\":\"AAAA\"}", "evidence-format");
    refused_json("{\"chain\":[\"AAAA\"],\"signature\":\"AAAA\"}", "evidence-format");
    refused_json("{\"chain\":[7],\"signature\":\"AAAA\"}", "evidence-format");
    refused_json("{\"chain\":[\"\"],\"signature\":\"AAAA\"}", "evidence-format");
    refused_json("{\"chain\":[\"A\",\"A\",\"A\",\"A\",\"A\"],\"signature\":\"AAAA\"}", "evidence-format");
    refused_json("{\"signature\":\"AAAA\",\"chains\":[]}", "evidence-format");
    /* a certificate with a byte behind it, and a signature that is not one */
    struct buf leaf, json;
    struct pki_leaf l = good();
    pki_leaf_der(&leaf, &pki, leaf_key, &l);
    buf_put(&leaf, "", 1);
    for (int trailing = 1; trailing >= 0; trailing--) {
        buf_init(&json, 65536);
        buf_str(&json, "{\"chain\":[\"");
        buf_b64url(&json, leaf.p, leaf.len - (trailing ? 0 : 1));
        buf_str(&json, "\"],\"signature\":\"\"}");
        refused_json(buf_cstr(&json), trailing ? "evidence-format" : "x509pop-signature");
        buf_free(&json);
    }
    buf_free(&leaf);
}

static void test_no_anchor(void **state)
{
    struct buf leaf, out;
    struct err e = {0};
    struct attest_result r;
    struct pki_leaf l = good();
    pki_leaf_der(&leaf, &pki, leaf_key, &l);
    struct bytes chain[] = {view(&leaf)};
    buf_init(&out, 65536);
    assert_int_equal(attest_x509pop_collect(&out, chain, 1, leaf_key, digest, &e), 0);
    json_t *cmw = json_parse(out.p, out.len, 65536, &e);
    struct attest_anchor none = {0};
    assert_int_equal(attest_verify(&r, cmw, digest, &none, "example.org", PKI_NOW, salt, &e), -1);
    assert_int_equal(e.code, ERR_UNAVAILABLE);
    json_decref(cmw);
    buf_free(&out);
    buf_init(&out, 65536);
    struct bytes many[5] = {chain[0], chain[0], chain[0], chain[0], chain[0]};
    assert_int_equal(attest_x509pop_collect(&out, many, 5, leaf_key, digest, &e), -1);
    assert_int_equal(attest_x509pop_collect(&out, many, 0, leaf_key, digest, &e), -1);
    buf_free(&out);
    buf_free(&leaf);
}

static int setup(void **state)
{
    struct err e = {0};
    pki_new(&pki, "root");
    pki_new(&foreign, "root");
    leaf_key = key_generate(KEY_P256, &e);
    other_key = key_generate(KEY_P256, &e);
    return leaf_key && other_key ? 0 : -1;
}

static int teardown(void **state)
{
    pki_free(&pki);
    pki_free(&foreign);
    key_free(leaf_key);
    key_free(other_key);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),      cmocka_unit_test(test_every_key_type), cmocka_unit_test(test_names),
        cmocka_unit_test(test_usage),     cmocka_unit_test(test_time),           cmocka_unit_test(test_chain),
        cmocka_unit_test(test_signature), cmocka_unit_test(test_form),           cmocka_unit_test(test_no_anchor),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
