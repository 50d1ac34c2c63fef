/* A CRL from the request to the signed list: OpenSSL reads what is built, lint lets pass that and nothing
 * that differs in a bit, and what may not be signed is refused. */
#include "base/crl_name.h"
#include "ca/crl.h"
#include "tlog/record.h"
#include "unit/ca/leaf.h"

#define NUMBER 4711
#define SERIAL(i) TBS_SERIAL(1, i)

static struct {
    struct config policy;
    struct tbs_template template;
    struct lint_policy lint;
    struct digest digest;
    struct crl_draft *draft;
    struct buf request, entry;
} x;

static void free_all(void)
{
    free(x.draft);
    buf_free(&x.request);
    buf_free(&x.entry);
    digest_free(&x.digest);
}

static struct crl_draft *draft_of(const struct ca_crl *m, struct err *e)
{
    buf_init(&x.request, IPC_FRAME_MAX);
    ca_crl_write(&x.request, 1, m);
    assert_false(x.request.failed);
    return crl_draft_new((struct bytes){x.request.p + IPC_HEADER, x.request.len - IPC_HEADER}, e);
}

static void policy_make(void)
{
    struct err e = {0};
    const struct bytes name = {leaf_issuer, sizeof leaf_issuer - 1}, id = {leaf_issuer_id, 20};
    memset(&x, 0, sizeof x);
    x.policy = test_policy();
    buf_init(&x.entry, 65536);
    assert_ok(digest_init(&x.digest, &e), &e);
    assert_ok(tbs_template_init(&x.template, &x.policy, name, id, &e), &e);
    x.lint = (struct lint_policy){.config = &x.policy, .issuer_name = name, .issuer_key_id = id,
                                  .issuer_not_after = LEAF_NOW + 86400};
}

/* n certificates, with every reason there is in turn. */
static struct ca_crl revoke(struct buf *b, size_t n)
{
    static const uint8_t reasons[] = {1, 0, 2, 3, 4, 5, 6, 9, 10};
    buf_init(b, IPC_FRAME_MAX);
    for (size_t i = 0; i < n; i++)
        ca_crl_put(b, &(struct ca_crl_revoked){SERIAL(3 + 2 * i), LEAF_NOW - 100 + (int64_t)i % 200, reasons[i % sizeof reasons]});
    return (struct ca_crl){.shards = 16, .shard = 3, .count = (uint16_t)n, .revoked = {b->p, b->len}};
}

static int lint(struct err *e)
{
    memset(e, 0, sizeof *e);
    return crl_lint(&x.lint, &x.digest, x.draft, NUMBER, LEAF_NOW, e);
}

static void make(size_t n)
{
    struct err e = {0};
    struct buf b;
    struct ca_crl m = revoke(&b, n);
    policy_make();
    x.draft = draft_of(&m, &e);
    assert_non_null(x.draft);
    assert_ok(crl_check(x.draft, 1, 1u << 20, &e), &e);
    assert_ok(crl_entry(x.draft, &x.entry, &x.template, &x.digest, LEAF_NOW, LEAF_NOW + 86400, &e), &e);
    assert_ok(crl_build(x.draft, NUMBER, &e), &e);
    assert_ok(lint(&e), &e);
    buf_free(&b);
}

/* --- as OpenSSL reads it -------------------------------------------------------------------------------- */

static X509_CRL *signed_crl(const struct key *issuer)
{
    static uint8_t array[CA_CRL_MAX];
    struct err e = {0};
    uint8_t sig[512];
    long n = key_sign(issuer, true, sig, sizeof sig, x.draft->tbs.p, x.draft->tbs.len, &e);
    assert_true(n > 0);
    struct bytes der = tbs_certificate(array, sizeof array, x.draft->tbs, tbs_ecdsa_sha256, (struct bytes){sig, (size_t)n});
    const uint8_t *p = der.p;
    X509_CRL *crl = d2i_X509_CRL(NULL, &p, (long)der.len);
    assert_non_null(crl);
    assert_ptr_equal(p, der.p + der.len);
    return crl;
}

static void check_point(X509_CRL *crl)
{
    int critical = 0;
    ISSUING_DIST_POINT *p = X509_CRL_get_ext_d2i(crl, NID_issuing_distribution_point, &critical, NULL);
    assert_non_null(p);
    assert_int_equal(critical, 1);
    assert_true(p->onlyuser > 0 && p->onlyCA == 0 && p->onlyattr == 0 && p->indirectCRL == 0 && !p->onlysomereasons);
    assert_int_equal(p->distpoint->type, 0);
    const GENERAL_NAME *url = sk_GENERAL_NAME_value(p->distpoint->name.fullname, 0);
    assert_int_equal(url->type, GEN_URI);
    assert_string_equal(ASN1_STRING_get0_data(url->d.ia5), "https://ca.example.org:8443/crl/16-3.crl");
    ISSUING_DIST_POINT_free(p);
}

static int64_t seconds(const ASN1_TIME *t)
{
    struct tm tm;
    assert_int_equal(ASN1_TIME_to_tm(t, &tm), 1);
    return (int64_t)timegm(&tm);
}

static void check_revoked(X509_CRL *crl, uint64_t serial, int64_t time, long reason)
{
    X509_REVOKED *r;
    ASN1_INTEGER *s = ASN1_INTEGER_new();
    ASN1_INTEGER_set_uint64(s, serial);
    assert_int_equal(X509_CRL_get0_by_serial(crl, &r, s), 1);
    assert_int_equal(seconds(X509_REVOKED_get0_revocationDate(r)), time);
    ASN1_ENUMERATED *why = X509_REVOKED_get_ext_d2i(r, NID_crl_reason, NULL, NULL);
    assert_int_equal(why ? ASN1_ENUMERATED_get(why) : 0, reason);
    ASN1_ENUMERATED_free(why);
    ASN1_INTEGER_free(s);
}

static void openssl_reads(void **state)
{
    struct key *issuer = test_key(KEY_P256);
    make(200);
    X509_CRL *crl = signed_crl(issuer);
    assert_int_equal(X509_CRL_get_version(crl), X509_CRL_VERSION_2);
    assert_int_equal(X509_CRL_verify(crl, key_evp(issuer)), 1);
    assert_int_equal(seconds(X509_CRL_get0_lastUpdate(crl)), LEAF_NOW - 10);
    assert_int_equal(seconds(X509_CRL_get0_nextUpdate(crl)), LEAF_NOW + 3600);
    ASN1_INTEGER *number = X509_CRL_get_ext_d2i(crl, NID_crl_number, NULL, NULL);
    assert_int_equal(ASN1_INTEGER_get(number), NUMBER);
    ASN1_INTEGER_free(number);
    AUTHORITY_KEYID *id = X509_CRL_get_ext_d2i(crl, NID_authority_key_identifier, NULL, NULL);
    assert_memory_equal(ASN1_STRING_get0_data(id->keyid), leaf_issuer_id, 20);
    AUTHORITY_KEYID_free(id);
    check_point(crl);
    assert_int_equal(sk_X509_REVOKED_num(X509_CRL_get_REVOKED(crl)), 200);
    check_revoked(crl, SERIAL(3), LEAF_NOW - 100, 1);
    check_revoked(crl, SERIAL(5), LEAF_NOW - 99, 0);
    check_revoked(crl, SERIAL(3 + 2 * 199), LEAF_NOW - 10, 0); /* said to be later than now: clamped */
    X509_CRL_free(crl);
    free_all();
    make(0);
    crl = signed_crl(issuer);
    assert_null(X509_CRL_get_REVOKED(crl));
    X509_CRL_free(crl);
    free_all();
    key_free(issuer);
}

/* What stands in the log binds all but the number, and the rule of FORMAT.md comes to the same digest. */
static void logged(void **state)
{
    struct tlog_entry t;
    struct tlog_record_info r;
    struct err e = {0};
    uint8_t hash[32];
    make(5);
    assert_ok(tlog_entry_parse(&t, x.entry.p, x.entry.len, &e), &e);
    assert_ok(tlog_record_parse(&r, t.type, t.body, &e), &e);
    assert_int_equal(r.code, TLOG_NEW_CRL);
    assert_true(bytes_eq_str(r.value, "16-3"));
    assert_int_equal(r.time, LEAF_NOW);
    struct bytes tbs = x.draft->tbs;
    struct cur c = cur_of(tbs.p, tbs.len), in, outer, list;
    struct bytes skip, all;
    uint8_t tag;
    uint8_t joined[4096];
    size_t n = 0;
    der_enter(&c, DER_SEQUENCE, &in);
    while (!der_peek(&in, 0xa0) && der_any(&in, &tag, &skip, &all) == 0) {
        memcpy(joined + n, all.p, all.len);
        n += all.len;
    }
    der_enter(&in, 0xa0, &outer);
    der_enter(&outer, DER_SEQUENCE, &list);
    for (int i = 0; i < 2; i++, n += all.len) {
        assert_int_equal(der_any(&list, &tag, &skip, &all), 0);
        memcpy(joined + n, all.p, all.len);
    }
    assert_int_equal(digest_sha256(&x.digest, joined, n, hash), 0);
    assert_true(bytes_eq(r.digest, hash, sizeof hash));
    free_all();
}

/* --- refusals --------------------------------------------------------------------------------------------- */

static void serials(void **state)
{
    const struct {
        uint64_t serial;
        uint8_t reason;
        const char *rule; /* NULL: passes */
    } cases[] = {{SERIAL(1), 0, NULL},          {SERIAL(99), 10, NULL},        {SERIAL(0), 0, "crl-serial"},
                 {SERIAL(100), 0, "crl-serial"}, {TBS_SERIAL(2, 5), 0, "crl-serial"}, {5, 0, "crl-serial"},
                 {SERIAL(5), 7, "crl-reason"},   {SERIAL(5), 8, "crl-reason"},  {SERIAL(5), 11, "crl-reason"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err e = {0};
        struct buf b;
        memset(&x, 0, sizeof x);
        buf_init(&b, 4096);
        ca_crl_put(&b, &(struct ca_crl_revoked){cases[i].serial, 1, cases[i].reason});
        const struct ca_crl m = {.shards = 1, .count = 1, .revoked = {b.p, b.len}};
        x.draft = draft_of(&m, &e);
        assert_non_null(x.draft);
        assert_int_equal(crl_check(x.draft, 1, 100, &e), cases[i].rule ? -1 : 0);
        if (cases[i].rule)
            assert_string_equal(e.rule, cases[i].rule);
        buf_free(&b);
        free_all();
    }
}

static void messages(void **state)
{
    struct err e = {0};
    struct buf b, frame;
    struct ca_crl m = revoke(&b, 3), r, bad[] = {m, m, m, m, m};
    buf_init(&frame, IPC_FRAME_MAX);
    ca_crl_write(&frame, 1, &m);
    struct bytes body = {frame.p + IPC_HEADER, frame.len - IPC_HEADER};
    assert_ok(ca_crl_parse(&r, body, &e), &e);
    assert_true(r.shards == 16 && r.shard == 3 && r.count == 3 && bytes_eq(r.revoked, m.revoked.p, m.revoked.len));
    for (size_t n = 0; n < body.len; n++)
        assert_int_equal(ca_crl_parse(&r, (struct bytes){body.p, n}, &e), -1);
    bad[0].shard = 16;
    bad[1].shards = 12;
    bad[2].count = 2;
    bad[3].count = 4;
    b.p[7] = b.p[17 + 7]; /* the second serial again: not ascending */
    for (size_t i = 0; i < 5; i++) {
        ca_crl_write(&frame, 1, &bad[i]);
        assert_true(frame.failed);
    }
    struct ca_crl_signed s = {.number = 7, .this_update = 1, .next_update = 2, .crl = {b.p, 9}}, t;
    ca_crl_signed_write(&frame, 1, &s);
    body = (struct bytes){frame.p + IPC_HEADER, frame.len - IPC_HEADER};
    assert_ok(ca_crl_signed_parse(&t, body, &e), &e);
    assert_true(t.number == 7 && t.this_update == 1 && t.next_update == 2 && t.crl.len == 9);
    for (size_t n = 0; n < body.len; n++)
        assert_int_equal(ca_crl_signed_parse(&t, (struct bytes){body.p, n}, &e), -1);
    s.next_update = 1;
    ca_crl_signed_write(&frame, 1, &s);
    assert_true(frame.failed);
    buf_free(&frame);
    buf_free(&b);
}

static void every_bit(void **state)
{
    struct err e;
    make(3);
    uint8_t *p = x.draft->tbs_array + (x.draft->tbs.p - x.draft->tbs_array);
    for (size_t i = 0; i < x.draft->tbs.len; i++)
        for (int bit = 0; bit < 8; bit++) {
            p[i] ^= (uint8_t)(1 << bit);
            if (lint(&e) == 0)
                fail_msg("byte %zu bit %d passed", i, bit);
            assert_string_equal(e.rule, "lint-crl");
            p[i] ^= (uint8_t)(1 << bit);
        }
    struct bytes good = x.draft->tbs;
    for (size_t n = 0; n < good.len; n++) {
        x.draft->tbs.len = n;
        assert_int_equal(lint(&e), -1);
    }
    x.draft->tbs = good;
    assert_ok(lint(&e), &e);
    x.draft->digest[0] ^= 1;
    assert_int_equal(lint(&e), -1);
    free_all();
}

static void lint_asks(void **state)
{
    struct err e;
    make(3);
    x.draft->request.count = 0;
    assert_int_equal(lint(&e), -1);
    x.draft->request.count = 3;
    x.draft->request.shard = 4;
    assert_int_equal(lint(&e), -1);
    x.draft->request.shard = 3;
    assert_int_equal(crl_lint(&x.lint, &x.digest, x.draft, NUMBER + 1, LEAF_NOW, &e), -1);
    assert_int_equal(crl_lint(&x.lint, &x.digest, x.draft, NUMBER, LEAF_NOW + 1, &e), -1);
    x.policy.crl.lifetime++;
    assert_int_equal(lint(&e), -1);
    x.policy.crl.lifetime--;
    x.lint.issuer_not_after = LEAF_NOW + 100;
    assert_int_equal(lint(&e), -1);
    x.lint.issuer_not_after = LEAF_NOW + 86400;
    assert_ok(lint(&e), &e);
    free_all();
}

/* --- bounds ------------------------------------------------------------------------------------------------- */

static void largest(void **state)
{
    static char url[1025];
    struct err e = {0};
    struct buf b, frame;
    memset(url, 'u', 1024);
    memcpy(url, "https://", 8);
    struct ca_crl m = revoke(&b, CA_CRL_REVOKED_MAX);
    for (size_t i = 0; i < m.count; i++)
        b.p[17 * i + 16] = 1; /* each with a reason */
    policy_make();
    x.policy.external_url = url;
    x.draft = draft_of(&m, &e);
    assert_non_null(x.draft);
    const int64_t late = INT64_C(2600000000); /* GeneralizedTime in nextUpdate */
    assert_ok(crl_entry(x.draft, &x.entry, &x.template, &x.digest, late, INT64_MAX, &e), &e);
    assert_ok(crl_build(x.draft, TBS_INDEX_MAX, &e), &e);
    assert_ok(crl_lint(&(struct lint_policy){.config = &x.policy, .issuer_name = x.lint.issuer_name,
                                             .issuer_key_id = x.lint.issuer_key_id, .issuer_not_after = INT64_MAX},
                       &x.digest, x.draft, TBS_INDEX_MAX, late, &e), &e);
    static uint8_t array[CA_CRL_MAX];
    static const uint8_t sig[72] = {0x30};
    struct ca_crl_signed s = {.number = 1, .this_update = 1, .next_update = 2,
                              .crl = tbs_certificate(array, sizeof array, x.draft->tbs, tbs_ecdsa_sha256, (struct bytes){sig, 72})};
    assert_true(s.crl.len > 0);
    buf_init(&frame, IPC_FRAME_MAX);
    ca_crl_signed_write(&frame, 1, &s);
    assert_false(frame.failed);
    buf_free(&frame);
    buf_free(&b);
    free_all();
}

static void issuer_ends(void **state)
{
    struct err e = {0};
    make(1);
    assert_ok(crl_entry(x.draft, &x.entry, &x.template, &x.digest, LEAF_NOW, LEAF_NOW + 60, &e), &e);
    assert_int_equal(x.draft->next_update, LEAF_NOW + 60);
    assert_int_equal(crl_entry(x.draft, &x.entry, &x.template, &x.digest, LEAF_NOW, LEAF_NOW, &e), -1);
    assert_string_equal(e.rule, "issuer-lifetime");
    free_all();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(openssl_reads), cmocka_unit_test(logged),    cmocka_unit_test(serials),
        cmocka_unit_test(messages),      cmocka_unit_test(every_bit), cmocka_unit_test(lint_asks),
        cmocka_unit_test(largest),       cmocka_unit_test(issuer_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
