#include "unit/ca/request.h"

static struct bytes body_of(const struct buf *b)
{
    struct ipc_frame f;
    struct err e = {0};
    assert_false(b->failed);
    assert_ok(ipc_frame_parse(&f, b->p, b->len, &e), &e);
    assert_int_equal(f.id, 42);
    return f.body;
}

static void eq(struct bytes a, struct bytes b)
{
    assert_int_equal(a.len, b.len);
    if (a.len)
        assert_memory_equal(a.p, b.p, a.len);
}

/* Every shorter and every longer body is refused; `parse` is one of the parsers below. */
static void refuses_other_lengths(struct bytes body, int (*parse)(struct bytes, struct err *))
{
    uint8_t *copy = malloc(body.len + 1);
    struct err e = {0};
    for (size_t n = 0; n < body.len; n++) {
        uint8_t *exact = malloc(n ? n : 1);
        memcpy(exact, body.p, n);
        assert_int_equal(parse((struct bytes){exact, n}, &e), -1);
        assert_string_equal(e.rule, "ca-msg");
        free(exact);
    }
    memcpy(copy, body.p, body.len);
    copy[body.len] = 0;
    assert_int_equal(parse((struct bytes){copy, body.len + 1}, &e), -1);
    free(copy);
}

static int parse_issue(struct bytes b, struct err *e)
{
    struct ca_issue m;
    return ca_issue_parse(&m, b, e);
}
static int parse_issued(struct bytes b, struct err *e)
{
    struct ca_issued m;
    return ca_issued_parse(&m, b, e);
}
static int parse_refused(struct bytes b, struct err *e)
{
    struct err m;
    return ca_refused_parse(&m, b, e);
}
static int parse_info(struct bytes b, struct err *e)
{
    struct ca_info m;
    return ca_info_parse(&m, b, e);
}

static void issue_round_trip(void **state)
{
    struct key *k = test_key(KEY_P256);
    struct ca_issue m = test_request(k), r;
    struct err e = {0};
    struct buf b;
    buf_init(&b, IPC_FRAME_MAX);
    ca_issue_write(&b, 42, &m);
    struct bytes body = body_of(&b);
    assert_ok(ca_issue_parse(&r, body, &e), &e);
    assert_int_equal(r.profile, m.profile);
    assert_int_equal(r.lifetime, 300);
    assert_int_equal(r.dns_count, 2);
    eq(r.spiffe_id, m.spiffe_id);
    eq(r.dns[0], m.dns[0]);
    eq(r.dns[1], m.dns[1]);
    eq(r.spki, m.spki);
    eq(r.attestor, m.attestor);
    eq(r.evidence, m.evidence);
    eq(r.entry_id, m.entry_id);
    assert_int_equal(r.entry_revision, 7);
    eq(r.requester, m.requester);
    eq(r.session, m.session);
    refuses_other_lengths(body, parse_issue);
    buf_free(&b);
    key_free(k);
}

static void issue_bounds(void **state)
{
    static const uint8_t zeros[3000];
    struct key *k = test_key(KEY_P256);
    struct buf b;
    buf_init(&b, IPC_FRAME_MAX);
    struct ca_issue bad[9];
    for (size_t i = 0; i < 9; i++)
        bad[i] = test_request(k);
    bad[0].dns_count = CA_DNS_MAX + 1;
    bad[1].spiffe_id = (struct bytes){zeros, 2049};
    bad[2].spki = (struct bytes){zeros, CA_SPKI_MAX + 1};
    bad[3].attestor = (struct bytes){zeros, 33};
    bad[4].evidence = (struct bytes){zeros, 31};
    bad[5].entry_id = (struct bytes){zeros, CA_ENTRY_ID_MAX + 1};
    bad[6].requester = (struct bytes){zeros, 2049};
    bad[7].session = (struct bytes){zeros, 33};
    bad[8].dns[1] = (struct bytes){zeros, 256};
    for (size_t i = 0; i < 9; i++) {
        ca_issue_write(&b, 42, &bad[i]);
        assert_true(b.failed);
    }
    struct ca_issue empty = {0}, r;
    struct err e = {0};
    ca_issue_write(&b, 42, &empty); /* empty fields are a matter of the profile */
    assert_ok(ca_issue_parse(&r, body_of(&b), &e), &e);
    /* 17 names, well-formed as bytes: the count alone is refused */
    uint8_t many[5 + 2 + 1 + 17 + 40] = {0};
    many[7] = 17;
    assert_int_equal(ca_issue_parse(&r, (struct bytes){many, sizeof many}, &e), -1);
    buf_free(&b);
    key_free(k);
}

static void issued_round_trip(void **state)
{
    static const uint8_t cert[CA_CERT_MAX + 1] = {0x30};
    struct ca_issued m = {.index = UINT64_C(1) << 47, .not_before = 5, .not_after = 10, .cert = {cert, 700}}, r;
    struct err e = {0};
    struct buf b;
    buf_init(&b, IPC_FRAME_MAX);
    ca_issued_write(&b, 42, &m);
    struct bytes body = body_of(&b);
    assert_ok(ca_issued_parse(&r, body, &e), &e);
    assert_int_equal(r.index, m.index);
    assert_int_equal(r.not_before, 5);
    assert_int_equal(r.not_after, 10);
    eq(r.cert, m.cert);
    refuses_other_lengths(body, parse_issued);
    m.not_before = 11; /* ends before it begins */
    ca_issued_write(&b, 42, &m);
    assert_int_equal(ca_issued_parse(&r, body_of(&b), &e), -1);
    m.not_before = -1;
    ca_issued_write(&b, 42, &m);
    assert_int_equal(ca_issued_parse(&r, body_of(&b), &e), -1);
    m.not_before = 1;
    m.cert.len = CA_CERT_MAX + 1;
    ca_issued_write(&b, 42, &m);
    assert_true(b.failed);
    m.cert.len = CA_CERT_MAX;
    ca_issued_write(&b, 42, &m);
    assert_ok(ca_issued_parse(&r, body_of(&b), &e), &e);
    buf_free(&b);
}

static void refused_round_trip(void **state)
{
    struct err m = {0}, r, e = {0};
    struct buf b;
    err_set(&m, ERR_DENIED, "lifetime", "too long: %d", 7200);
    buf_init(&b, IPC_FRAME_MAX);
    ca_refused_write(&b, 42, &m);
    struct bytes body = body_of(&b);
    assert_ok(ca_refused_parse(&r, body, &e), &e);
    assert_int_equal(r.code, ERR_DENIED);
    assert_string_equal(r.rule, "lifetime");
    assert_string_equal(r.msg, "too long: 7200");
    refuses_other_lengths(body, parse_refused);
    memset(m.rule, 'r', sizeof m.rule - 1); /* as long as they get */
    memset(m.msg, 'm', sizeof m.msg - 1);
    ca_refused_write(&b, 42, &m);
    assert_ok(ca_refused_parse(&r, body_of(&b), &e), &e);
    assert_memory_equal(&r, &m, sizeof r);

    static const uint8_t none[] = {ERR_NONE, 0, 0, 0}, high[] = {ERR_CODES, 0, 0, 0}, nul[] = {1, 1, 0, 0, 0};
    assert_int_equal(ca_refused_parse(&r, (struct bytes){none, 4}, &e), -1);
    assert_int_equal(ca_refused_parse(&r, (struct bytes){high, 4}, &e), -1);
    assert_int_equal(ca_refused_parse(&r, (struct bytes){nul, 5}, &e), -1);
    uint8_t wide[1 + 1 + 32 + 2] = {1, 32};
    memset(wide + 2, 'x', 32);
    assert_int_equal(ca_refused_parse(&r, (struct bytes){wide, sizeof wide}, &e), -1);
    buf_free(&b);
}

static void info_round_trip(void **state)
{
    static const uint8_t cert[4097] = {0x30, 1, 2};
    struct ca_info m = {.root = {cert, 600}, .issuing = {cert, 4096}, .vkey = text("log+00000000+AAAA"),
                        .log_size = 9, .issued = 8, .refused = 7, .signatures = 6, .started = 5, .token = text("t"),
                        .abandoned = 4, .quorum = 2, .witnesses = 3, .cosigned = 1, .unwitnessed = true,
                        .jwt_key = {cert, 91}, .jwt_since = 11, .jwt_signatures = 12, .jwt_abandoned = 13}, r;
    struct err e = {0};
    struct buf b;
    buf_init(&b, IPC_FRAME_MAX);
    ca_info_write(&b, 42, &m);
    struct bytes body = body_of(&b);
    assert_ok(ca_info_parse(&r, body, &e), &e);
    eq(r.root, m.root);
    eq(r.issuing, m.issuing);
    eq(r.vkey, m.vkey);
    eq(r.token, m.token);
    assert_true(r.log_size == 9 && r.issued == 8 && r.refused == 7 && r.signatures == 6 && r.started == 5);
    assert_true(r.abandoned == 4 && r.quorum == 2 && r.witnesses == 3 && r.cosigned == 1 && r.unwitnessed);
    eq(r.jwt_key, m.jwt_key);
    assert_true(r.jwt_since == 11 && r.jwt_signatures == 12 && r.jwt_abandoned == 13);
    refuses_other_lengths(body, parse_info);
    m.jwt_key.len = CA_JWT_KEY_MAX + 1;
    ca_info_write(&b, 42, &m);
    assert_true(b.failed);
    m.jwt_key.len = 0;
    m.quorum = 4; /* of three */
    ca_info_write(&b, 42, &m);
    assert_true(b.failed);
    m.quorum = 2;
    m.issuing.len = 4097;
    ca_info_write(&b, 42, &m);
    assert_true(b.failed);
    m.issuing.len = 1;
    m.vkey = (struct bytes){(const uint8_t *)"a\0b", 3};
    ca_info_write(&b, 42, &m);
    assert_true(b.failed);
    buf_free(&b);
}

static int parse_cosign(struct bytes body, struct err *e)
{
    struct ca_cosign m;
    return ca_cosign_parse(&m, body, e);
}

static void cosign_round_trip(void **state)
{
    static const uint8_t some[64] = {1, 2, 3};
    const struct ca_cosign m = {.size = UINT64_C(1) << 40, .root = {some, 32}, .key_id = {some + 1, 4},
                                .time = 77, .sig = {some, 64}};
    struct ca_cosign r, bad[] = {m, m, m};
    struct err e = {0};
    struct buf b;
    buf_init(&b, IPC_FRAME_MAX);
    ca_cosign_write(&b, 42, &m);
    struct bytes body = body_of(&b);
    assert_ok(ca_cosign_parse(&r, body, &e), &e);
    assert_true(r.size == m.size && r.time == 77);
    eq(r.root, m.root);
    eq(r.key_id, m.key_id);
    eq(r.sig, m.sig);
    refuses_other_lengths(body, parse_cosign);
    bad[0].root.len = 31;
    bad[1].key_id.len = 5;
    bad[2].sig.len = 63;
    for (size_t i = 0; i < 3; i++) {
        ca_cosign_write(&b, 42, &bad[i]);
        assert_true(b.failed);
    }
    buf_free(&b);
}

static int parse_jwt(struct bytes body, struct err *e)
{
    struct ca_jwt m;
    return ca_jwt_parse(&m, body, e);
}

static void jwt_round_trip(void **state)
{
    static const uint8_t long_one[CA_AUDIENCES_BYTES + 1];
    const struct ca_jwt m = test_jwt();
    struct ca_jwt r, bad[] = {m, m, m, m, m};
    struct err e = {0};
    struct buf b;
    buf_init(&b, IPC_FRAME_MAX);
    ca_jwt_write(&b, 42, &m);
    struct bytes body = body_of(&b);
    assert_ok(ca_jwt_parse(&r, body, &e), &e);
    assert_true(r.lifetime == 300 && r.entry_revision == 7);
    eq(r.spiffe_id, m.spiffe_id);
    eq(r.audiences, m.audiences);
    eq(r.attestor, m.attestor);
    eq(r.evidence, m.evidence);
    eq(r.entry_id, m.entry_id);
    eq(r.requester, m.requester);
    eq(r.session, m.session);
    refuses_other_lengths(body, parse_jwt);
    bad[0].audiences.len = 0;
    bad[1].audiences = (struct bytes){long_one, sizeof long_one};
    bad[2].evidence.len = 31;
    bad[3].spiffe_id = (struct bytes){long_one, 2049};
    bad[4].entry_id = (struct bytes){long_one, CA_ENTRY_ID_MAX + 1};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ca_jwt_write(&b, 42, &bad[i]);
        assert_true(b.failed);
    }
    buf_free(&b);
}

static int parse_jwt_signed(struct bytes body, struct err *e)
{
    struct ca_jwt_signed m;
    return ca_jwt_signed_parse(&m, body, e);
}

static void jwt_signed_round_trip(void **state)
{
    static const uint8_t token[CA_JWT_BYTES + 1] = "a.b.c";
    const struct ca_jwt_signed m = {.index = 9, .issued = 100, .expires = 400, .jwt = {token, CA_JWT_BYTES}};
    struct ca_jwt_signed r, bad[] = {m, m, m};
    struct err e = {0};
    struct buf b;
    buf_init(&b, IPC_FRAME_MAX);
    ca_jwt_signed_write(&b, 42, &m);
    struct bytes body = body_of(&b);
    assert_ok(ca_jwt_signed_parse(&r, body, &e), &e);
    assert_true(r.index == 9 && r.issued == 100 && r.expires == 400);
    eq(r.jwt, m.jwt);
    const struct ca_jwt_signed brief = {.index = 9, .issued = 100, .expires = 400, .jwt = {token, 5}};
    ca_jwt_signed_write(&b, 42, &brief);
    refuses_other_lengths(body_of(&b), parse_jwt_signed);
    bad[0].jwt.len++;
    bad[1].jwt.len = 0;
    bad[2].expires = 100;
    for (size_t i = 0; i < 3; i++) {
        ca_jwt_signed_write(&b, 42, &bad[i]);
        assert_true(b.failed);
    }
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(issue_round_trip),   cmocka_unit_test(issue_bounds),
        cmocka_unit_test(issued_round_trip),  cmocka_unit_test(refused_round_trip),
        cmocka_unit_test(info_round_trip),    cmocka_unit_test(cosign_round_trip),
        cmocka_unit_test(jwt_round_trip),     cmocka_unit_test(jwt_signed_round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
