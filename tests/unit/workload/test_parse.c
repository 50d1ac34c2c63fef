/* What the server encodes, the client reads; and what it refuses. */
#include "unit/workload/fake.h"
#include "workload/encode.h"
#include "workload/limits.h"
#include "workload/parse.h"
#include "workload/wire.h"
#include "workload/pb.h"
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct fake_ca ca, other;
static struct wl_bundles *bundles;
static struct wl_svid *web, *db;

static int setup(void **state)
{
    ca = fake_ca_new("spiffe://test.example", 1);
    other = fake_ca_new("spiffe://other.example", 2);
    bundles = fake_bundles(&ca, "test.example", "{\"keys\":[1]}", &other, "other.example");
    web = fake_svid(&ca, "spiffe://test.example/web", "w", 3);
    db = fake_svid(&ca, "spiffe://test.example/db", "", 4);
    return 0;
}

static int teardown(void **state)
{
    wl_svid_unref(web);
    wl_svid_unref(db);
    wl_bundles_unref(bundles);
    fake_ca_free(&ca);
    fake_ca_free(&other);
    return 0;
}

static void test_x509(void **state)
{
    struct wl_svid *v[2] = {wl_svid_ref(web), wl_svid_ref(db)};
    struct wl_state *st = fake_state(v, 2, wl_bundles_ref(bundles));
    struct scratch s = {0};
    struct err e;
    assert_int_equal(scratch_make(&s, encode_x509, st, &e), 0);
    struct bytes msg = {s.out.p + 5, s.out.len - 5};
    struct wl_state *got = parse_x509(msg, &e);
    if (!got)
        fail_msg("%s", e.msg);
    assert_int_equal(got->n, 2);
    for (size_t i = 0; i < 2; i++) {
        assert_string_equal(got->svids[i]->spiffe_id, v[i]->spiffe_id);
        assert_string_equal(got->svids[i]->hint, v[i]->hint);
        assert_int_equal(got->svids[i]->key.len, v[i]->key.len);
        assert_memory_equal(got->svids[i]->key.p, v[i]->key.p, v[i]->key.len);
        assert_int_equal(got->svids[i]->chain_len, v[i]->chain_len);
        assert_int_equal(got->svids[i]->not_after - got->svids[i]->not_before, 3660);
    }
    assert_int_equal(got->bundles->n, 2);
    assert_string_equal(got->bundles->list[0].trust_domain, "test.example");
    assert_string_equal(got->bundles->list[1].trust_domain, "other.example");
    assert_int_equal(got->bundles->list[1].x509.len, bundles->list[1].x509.len);
    assert_int_equal(got->bundles->crls_count, 1);
    /* cut anywhere, it is refused or holds less; never read past its end */
    for (size_t n = 0; n < msg.len; n++) {
        uint8_t *cut = malloc(n + 1);
        memcpy(cut, msg.p, n);
        struct wl_state *part = parse_x509((struct bytes){cut, n}, &e);
        if (part)
            assert_true(part->n <= 2 && part->bundles->n <= 2);
        wl_state_unref(part);
        free(cut);
    }
    wl_state_unref(got);
    scratch_free(&s);
    wl_state_unref(st);
}

/* One SVID made of these parts; a NULL leaves its field out. */
static void refused(const char *rule, const char *id, const struct wl_svid *chain, const struct wl_svid *key,
                    const struct buf *roots)
{
    X509SVID v = X509_SVID__INIT, *list[] = {&v};
    X509SVIDResponse m = X509_SVIDRESPONSE__INIT;
    struct err e = {0};
    union {
        const char *in;
        char *out;
    } name = {.in = id};
    if (id)
        v.spiffe_id = name.out;
    if (chain)
        v.x509_svid = (ProtobufCBinaryData){.len = chain->chain_len, .data = chain->chain};
    if (key)
        v.x509_svid_key = (ProtobufCBinaryData){.len = key->key.len, .data = key->key.p};
    if (roots)
        v.bundle = (ProtobufCBinaryData){.len = roots->len, .data = roots->p};
    m.n_svids = 1;
    m.svids = list;
    static uint8_t packed[100000];
    size_t n = x509_svidresponse__pack(&m, packed);
    struct wl_state *st = parse_x509((struct bytes){packed, n}, &e);
    assert_true(!st == (rule != NULL));
    wl_state_unref(st);
    if (rule)
        assert_string_equal(e.rule, rule);
}

static void test_refusals(void **state)
{
    const struct buf *roots = &bundles->list[0].x509;
    struct buf junk = {.p = (uint8_t *)(uintptr_t)"\x30\x01", .len = 2};
    refused(NULL, web->spiffe_id, web, web, roots);
    refused("svid-id", db->spiffe_id, web, web, roots);
    refused("svid-key", web->spiffe_id, web, db, roots); /* another SVID's key */
    refused("workload-answer", NULL, web, web, roots);
    refused("workload-answer", web->spiffe_id, NULL, web, roots);
    refused("workload-answer", web->spiffe_id, web, NULL, roots);
    refused("workload-answer", web->spiffe_id, web, web, NULL);
    refused("workload-answer", web->spiffe_id, web, web, &junk);
    refused("workload-answer", "spiffe://test.example", web, web, roots);
    refused("spiffe-id", "web", web, web, roots);
    struct wl_svid cut = *web;
    cut.chain_len--;
    refused("workload-answer", web->spiffe_id, &cut, web, roots);
    struct err e;
    static uint8_t many[3 * (LIMIT_SVIDS + 2)];
    assert_null(parse_x509((struct bytes){many, 0}, &e));
    for (size_t i = 0; i < sizeof many; i += 3)
        memcpy(many + i, "\x12\x01x", 3); /* CRLs, but no SVID */
    assert_null(parse_x509((struct bytes){many, sizeof many}, &e));
}

/* Chain, key and the rest with any one byte changed: no crash, and never an SVID of another name. */
static void test_bit_flips(void **state)
{
    struct wl_svid *v[1] = {wl_svid_ref(web)};
    struct wl_state *st = fake_state(v, 1, wl_bundles_ref(bundles));
    struct scratch s = {0};
    struct err e;
    assert_int_equal(scratch_make(&s, encode_x509, st, &e), 0);
    for (size_t i = 5; i < s.out.len; i++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            uint8_t *at = s.mem.p + (s.out.p - s.mem.p) + i;
            *at ^= (uint8_t)(1 << bit);
            struct wl_state *got = parse_x509((struct bytes){s.out.p + 5, s.out.len - 5}, &e);
            if (got)
                assert_string_equal(got->svids[0]->spiffe_id, web->spiffe_id);
            else
                assert_true(e.code != ERR_NONE && e.rule[0] && e.msg[0]);
            wl_state_unref(got);
            *at ^= (uint8_t)(1 << bit);
        }
    }
    scratch_free(&s);
    wl_state_unref(st);
}

/* Clients pass over a second SVID with a hint that one before it has: it is sent without. */
static void test_hint_once(void **state)
{
    static const char *const hints[] = {"", "a", "b", "a", "", "b", "c"}, *const sent[] = {"", "a", "b", "", "", "", "c"};
    enum { N = sizeof hints / sizeof *hints };
    char id[] = "spiffe://test.example/web", token[] = "a.b.c";
    struct wl_svid *v[N];
    struct wl_jwt list[N];
    for (size_t i = 0; i < N; i++) {
        v[i] = fake_svid(&ca, id, hints[i], 100 + (long)i);
        list[i] = (struct wl_jwt){id, token, (char *)(uintptr_t)hints[i]};
    }
    struct wl_state *st = fake_state(v, N, wl_bundles_ref(bundles));
    struct scratch s = {0};
    struct jwt_list jwts;
    struct err e;
    assert_int_equal(scratch_make(&s, encode_x509, st, &e), 0);
    struct wl_state *got = parse_x509((struct bytes){s.out.p + 5, s.out.len - 5}, &e);
    assert_non_null(got);
    assert_int_equal(scratch_make(&s, encode_jwt, &(struct encode_jwt_arg){list, N}, &e), 0);
    assert_int_equal(parse_jwt(&jwts, (struct bytes){s.out.p + 5, s.out.len - 5}, &e), 0);
    assert_int_equal(got->n, N);
    assert_int_equal(jwts.n, N);
    for (size_t i = 0; i < N; i++) {
        assert_string_equal(got->svids[i]->hint, sent[i]);
        assert_string_equal(jwts.list[i].hint, sent[i]);
    }
    jwt_list_free(&jwts);
    wl_state_unref(got);
    wl_state_unref(st);
    scratch_free(&s);
}

static void test_jwt(void **state)
{
    char id[] = "spiffe://test.example/web", svid[] = "a.b.c", hint[] = "h", bad[] = "web";
    struct wl_jwt list[] = {{id, svid, hint}, {id, svid, NULL}};
    struct scratch s = {0};
    struct jwt_list got;
    struct err e;
    assert_int_equal(scratch_make(&s, encode_jwt, &(struct encode_jwt_arg){list, 2}, &e), 0);
    assert_int_equal(parse_jwt(&got, (struct bytes){s.out.p + 5, s.out.len - 5}, &e), 0);
    assert_int_equal(got.n, 2);
    assert_string_equal(got.list[0].spiffe_id, id);
    assert_string_equal(got.list[0].hint, "h");
    assert_string_equal(got.list[1].svid, svid);
    assert_string_equal(got.list[1].hint, "");
    jwt_list_free(&got);
    list[1].spiffe_id = bad;
    assert_int_equal(scratch_make(&s, encode_jwt, &(struct encode_jwt_arg){list, 2}, &e), 0);
    assert_int_equal(parse_jwt(&got, (struct bytes){s.out.p + 5, s.out.len - 5}, &e), -1);
    assert_int_equal(parse_jwt(&got, (struct bytes){s.out.p, 0}, &e), -1);
    scratch_free(&s);
}

static void test_jwt_bundles(void **state)
{
    struct scratch s = {0};
    struct err e;
    assert_int_equal(scratch_make(&s, encode_jwt_bundles, bundles, &e), 0);
    struct wl_bundles *jwt = parse_jwt_bundles((struct bytes){s.out.p + 5, s.out.len - 5}, &e);
    assert_non_null(jwt);
    assert_int_equal(jwt->n, 2);
    struct wl_bundles *own = fake_bundles(&ca, "test.example", "", NULL, NULL);
    struct wl_bundles *both = parse_join(own, jwt, &e);
    assert_int_equal(both->n, 2);
    assert_string_equal(both->list[0].trust_domain, "test.example");
    assert_int_equal(both->list[0].x509.len, own->list[0].x509.len);
    assert_true(bytes_eq_str((struct bytes){both->list[0].jwks.p, both->list[0].jwks.len}, "{\"keys\":[1]}"));
    assert_int_equal(both->list[1].x509.len, 0);
    assert_int_equal(both->crls_count, 1);
    wl_bundles_unref(both);
    wl_bundles_unref(own);
    wl_bundles_unref(jwt);
    scratch_free(&s);
    static const char twice[] = "\x0a\x07\x0a\x01" "a" "\x12\x02{}\x0a\x10\x0a\x0a" "spiffe://a" "\x12\x02{}",
                      no_json[] = "\x0a\x06\x0a\x01" "a" "\x12\x01{", no_td[] = "\x0a\x07\x0a\x01" "A" "\x12\x02{}";
    assert_null(parse_jwt_bundles((struct bytes){(const uint8_t *)twice, sizeof twice - 1}, &e));
    assert_null(parse_jwt_bundles((struct bytes){(const uint8_t *)no_json, sizeof no_json - 1}, &e));
    assert_null(parse_jwt_bundles((struct bytes){(const uint8_t *)no_td, sizeof no_td - 1}, &e));
    jwt = parse_jwt_bundles((struct bytes){NULL, 0}, &e);
    assert_int_equal(jwt->n, 0);
    wl_bundles_unref(jwt);
}

/* The scratch grows with what it has to hold, up to its limit, and what was in it is gone. */
static void test_scratch(void **state)
{
    struct wl_bundles *b = calloc(1, sizeof *b);
    struct scratch s = {0};
    struct err e;
    b->refs = 1;
    b->n = 1;
    b->list = calloc(1, sizeof *b->list);
    b->list[0].trust_domain = strdup("test.example");
    buf_init(&b->list[0].x509, 4 << 20);
    for (size_t want = 1000; want < 4 << 20; want *= 3) {
        while (b->list[0].x509.len < want)
            buf_str(&b->list[0].x509, "0123456789abcdef");
        int r = scratch_make(&s, encode_x509_bundles, b, &e);
        assert_true((r == 0) == (want < LIMIT_RESPONSE - 1000));
        if (r < 0)
            assert_string_equal(e.rule, "response-size");
        else
            assert_true(wire_good(s.out.p + 5, s.out.len - 5) && s.out.len > want);
        scratch_wipe(&s);
        assert_true(s.mem.cap <= LIMIT_SCRATCH_KEPT);
        for (size_t i = 0; i < s.mem.cap; i++)
            assert_int_equal(s.mem.p[i], 0);
    }
    scratch_free(&s);
    wl_bundles_unref(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_x509), cmocka_unit_test(test_refusals),    cmocka_unit_test(test_bit_flips),
        cmocka_unit_test(test_jwt),  cmocka_unit_test(test_hint_once), cmocka_unit_test(test_jwt_bundles), cmocka_unit_test(test_scratch),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
