/* Through the corridor: what is issued, signed and refused, and that the log has it. */
#include "unit/ca/corridor.h"
#include <time.h>

static int setup_rate(void **state)
{
    open_house("  rate: 5\n");
    return 0;
}

static void log_verifies(uint64_t at_least)
{
    struct err e = {0};
    struct tlog_verify_report r;
    assert_ok(tlog_verify_dir(house.config->log.dir, &vkey, &r, NULL, NULL, &e), &e);
    assert_true(r.size >= at_least);
}

/* --- certificates --------------------------------------------------------------------------------------- */

static void many(void **state)
{
    struct ca_snapshot s;
    load_begin(40);
    uint64_t top = load_end();
    assert_true(top >= ASKERS * 40 + 2);
    assert_int_equal(house_stop(&house), 0);
    load_free(true);
    log_verifies(top + 1);

    house_start(&house); /* goes on where it was */
    load_begin(5);
    uint64_t next = load_end();
    assert_true(next >= top + ASKERS * 5);
    ca_client_snapshot(client, &s);
    assert_true(s.known);
    assert_true(strstr(s.token, "mayfly") != NULL);
    assert_int_equal(s.root_len, i2d_X509(root, NULL));
    assert_int_equal(house_stop(&house), 0);
    load_free(true);
    log_verifies(next + 1);
}

static void refusals(void **state)
{
    struct key *k = test_key(KEY_P256);
    struct ca_issue m = test_request(k);
    static struct answer a;
    m.lifetime = 3601;
    ask(&a, &m);
    assert_int_equal(a.len, 0);
    assert_int_equal(a.asked.e.code, ERR_DENIED);
    assert_string_equal(a.asked.e.rule, "lifetime");
    m = test_request(k);
    m.spiffe_id = text("spiffe://example.org/mayfly/server");
    ask(&a, &m);
    assert_string_equal(a.asked.e.rule, "reserved");
    m.profile = CA_PROFILE_SERVER;
    m.dns[0] = text("127.0.0.1");
    m.dns[1] = text("localhost");
    ask(&a, &m);
    assert_true(a.len > 0);
    verify(&a, &m);
    uint64_t index = a.index;
    m = test_request(k);
    m.dns[0] = text("example.com");
    ask(&a, &m);
    assert_string_equal(a.asked.e.rule, "dns-permitted");
    ask(&a, &(struct ca_issue){.profile = CA_PROFILE_WORKLOAD}); /* all empty */
    assert_string_equal(a.asked.e.rule, "spiffe-id");
    m = test_request(k);
    ask(&a, &m);
    assert_int_equal(a.index, index + 1); /* what is refused leaves nothing in the log */
    key_free(k);
}

/* The longest names that a request can hold: refused whole, or issued whole. */
static void long_names(void **state)
{
    static char id[2049], dns[CA_DNS_MAX][254];
    struct key *k = test_key(KEY_RSA);
    struct ca_issue m = test_request(k);
    static struct answer a;
    size_t n = (size_t)snprintf(id, sizeof id, "spiffe://example.org/");
    memset(id + n, 'a', sizeof id - 1 - n);
    for (size_t i = 0; i < CA_DNS_MAX; i++) {
        snprintf(dns[i], sizeof dns[i], "%0*zu.%061d.%061d.%061d.example.org", 50, i, 0, 0, 0);
        m.dns[i] = text(dns[i]);
    }
    m.spiffe_id = m.requester = text(id);
    m.dns_count = CA_DNS_MAX;
    ask(&a, &m);
    assert_int_equal(a.len, 0);
    assert_string_equal(a.asked.e.rule, "cert-size");
    m.dns_count = 2;
    ask(&a, &m);
    if (!a.len)
        print_message("[%s] %s\n", a.asked.e.rule, a.asked.e.msg);
    assert_true(a.len > 0);
    verify(&a, &m);
    key_free(k);
}

static void rate(void **state)
{
    struct key *k = test_key(KEY_P256);
    struct ca_issue m = test_request(k);
    unsigned good = 0, over = 0;
    struct answer *burst = calloc(64, sizeof *burst);
    assert_non_null(burst);
    for (size_t i = 0; i < 64; i++)
        ask_begin(&burst[i], &m);
    for (size_t i = 0; i < 64; i++) {
        ask_end(&burst[i]);
        if (burst[i].len) {
            good++;
            continue;
        }
        assert_int_equal(burst[i].asked.e.code, ERR_RATE);
        assert_string_equal(burst[i].asked.e.rule, "rate");
        over++;
    }
    free(burst);
    assert_true(good >= 5);
    assert_true(over > 0);
    key_free(k);
}

/* --- CRLs ----------------------------------------------------------------------------------------------- */

struct crl_answer {
    struct asked asked;
    uint64_t number;
    X509_CRL *crl;
};

static void on_crl(void *arg, const struct ca_crl_signed *r, const struct err *e)
{
    struct crl_answer *a = arg;
    if (r) {
        const uint8_t *p = r->crl.p;
        a->number = r->number;
        a->crl = d2i_X509_CRL(NULL, &p, (long)r->crl.len);
    }
    asked_settle(&a->asked, e);
}

static void ask_crl(struct crl_answer *a, const uint64_t *serials, size_t n)
{
    struct err e = {0};
    struct buf b;
    memset(a, 0, sizeof *a);
    asked_begin(&a->asked);
    buf_init(&b, IPC_FRAME_MAX);
    for (size_t i = 0; i < n; i++)
        ca_crl_put(&b, &(struct ca_crl_revoked){serials[i], 1700000000, 1});
    const struct ca_crl m = {.shards = 1, .count = (uint16_t)n, .revoked = {b.p, b.len}};
    assert_ok(ca_client_crl(client, &m, on_crl, a, &e), &e);
    asked_wait(&a->asked);
    buf_free(&b);
}

/* Signed by the issuing key after it was logged: the number is the record's index, and so ascends, over a
 * restart and a kill between the log and the signature, too. */
static void crls(void **state)
{
    static struct answer cert;
    struct crl_answer a;
    struct key *k = test_key(KEY_P256);
    struct ca_issue m = test_request(k);
    struct tlog_verify_report report;
    struct err e = {0};
    m.lifetime = 1200;
    ask(&cert, &m);
    const uint64_t serial = UINT64_C(1) << 48 | cert.index;
    const uint8_t *p = cert.cert;
    X509 *x = d2i_X509(NULL, &p, (long)cert.len);
    uint64_t last = cert.index;
    for (int i = 0; i < 4; i++) {
        if (i == 2) {
            assert_int_equal(house_stop(&house), 0);
            house_start(&house);
        } else if (i == 3) {
            house_file(house.fault, "crl-signed kill 0\n"); /* and the client asks the next one again */
        }
        ask_crl(&a, &serial, 1);
        assert_non_null(a.crl);
        assert_true(a.number > last + (i == 3));
        last = a.number;
        X509_REVOKED *r;
        assert_int_equal(X509_CRL_verify(a.crl, X509_get0_pubkey(issuing)), 1);
        assert_int_equal(X509_CRL_get0_by_cert(a.crl, &r, x), 1);
        X509_CRL_free(a.crl);
    }
    const uint64_t beyond = (UINT64_C(1) << 48) + last + 1;
    ask_crl(&a, &beyond, 1);
    assert_null(a.crl);
    assert_string_equal(a.asked.e.rule, "crl-serial");
    assert_int_equal(house_stop(&house), 0);
    assert_ok(tlog_verify_dir(house.config->log.dir, &vkey, &report, NULL, NULL, &e), &e);
    house_start(&house);
    X509_free(x);
    key_free(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(many), T(refusals), T(long_names), cmocka_unit_test_setup_teardown(rate, setup_rate, teardown), T(crls),
    };
    if (need_softhsm())
        return 77;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
