/* The corridor from end to end: real token, real log, real signer process, several asking threads.
 * Every certificate is verified by OpenSSL against the root and by the log's own verifier. */
#include "ca/client.h"
#include "unit/ca/asked.h"
#include "unit/ca/house.h"
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <sys/socket.h>
#include <time.h>

#define ASKERS 6
#define DEADLINE_MS 120000

static struct house house;
static struct ca_client *client;
static X509 *root, *issuing;
static X509_STORE *store;
static struct tlog_vkey vkey;

static X509 *load(const char *name)
{
    char path[256];
    snprintf(path, sizeof path, "%s/ca/%s", house.dir, name);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    X509 *x = PEM_read_X509(f, NULL, NULL, NULL);
    assert_non_null(x);
    fclose(f);
    return x;
}

static void open_house(const char *more)
{
    struct err e = {0};
    house_build(&house, more);
    assert_ok(house_child(&house, house_ceremony, &e), &e);
    root = load("root.pem");
    issuing = load("issuing.pem");
    store = X509_STORE_new();
    X509_STORE_add_cert(store, root);
    X509_STORE_set_flags(store, X509_V_FLAG_X509_STRICT | X509_V_FLAG_CHECK_SS_SIGNATURE);
    uint8_t *der = NULL;
    int len = i2d_X509(issuing, &der);
    assert_ok(tlog_binding_from_cert(&vkey, der, (size_t)len, &e), &e);
    OPENSSL_free(der);
    house_keeper(&house);
    house_start(&house);
    client = ca_client_new(house.socket, DEADLINE_MS, &e);
    assert_non_null(client);
}

static int setup(void **state)
{
    open_house("");
    return 0;
}

static int setup_rate(void **state)
{
    open_house("  rate: 5\n");
    return 0;
}

static int teardown(void **state)
{
    ca_client_free(client);
    house_pull_down(&house);
    X509_free(root);
    X509_free(issuing);
    X509_STORE_free(store);
    tlog_vkey_free(&vkey);
    return 0;
}

/* --- asking ------------------------------------------------------------------------------------------- */

struct answer {
    struct asked asked;
    uint64_t index;
    int64_t not_before, not_after;
    uint8_t cert[CA_CERT_MAX];
    size_t len; /* 0: refused */
};

static void on_answer(void *arg, const struct ca_issued *r, const struct err *e)
{
    struct answer *a = arg;
    if (r) {
        a->index = r->index;
        a->not_before = r->not_before;
        a->not_after = r->not_after;
        memcpy(a->cert, r->cert.p, r->cert.len);
        a->len = r->cert.len;
    }
    asked_settle(&a->asked, e);
}

static void ask_begin(struct answer *a, const struct ca_issue *m)
{
    struct err e = {0};
    memset(a, 0, sizeof *a);
    asked_begin(&a->asked);
    assert_ok(ca_client_issue(client, m, on_answer, a, &e), &e);
}

static void ask_end(struct answer *a)
{
    asked_wait(&a->asked);
}

static void ask(struct answer *a, const struct ca_issue *m)
{
    ask_begin(a, m);
    ask_end(a);
}

/* --- verifying ------------------------------------------------------------------------------------------ */

static void verify(const struct answer *a, const struct ca_issue *m)
{
    struct err e = {0};
    const uint8_t *p = a->cert;
    X509 *x = d2i_X509(NULL, &p, (long)a->len);
    assert_non_null(x);
    assert_ptr_equal(p, a->cert + a->len);
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    STACK_OF(X509) *others = sk_X509_new_null();
    sk_X509_push(others, issuing);
    assert_int_equal(X509_STORE_CTX_init(ctx, store, x, others), 1);
    X509_STORE_CTX_set_purpose(ctx, X509_PURPOSE_SSL_SERVER);
    X509_STORE_CTX_set_time(ctx, 0, (time_t)a->not_after - 1);
    if (X509_verify_cert(ctx) != 1) {
        print_message("%s\n", X509_verify_cert_error_string(X509_STORE_CTX_get_error(ctx)));
        fail();
    }
    assert_int_equal(X509_check_purpose(x, X509_PURPOSE_SSL_CLIENT, 0), 1);
    uint8_t *spki = NULL;
    int len = i2d_PUBKEY(X509_get0_pubkey(x), &spki);
    assert_true(bytes_eq(m->spki, spki, (size_t)len));
    OPENSSL_free(spki);
    X509_STORE_CTX_free(ctx);
    sk_X509_free(others);
    X509_free(x);

    struct tlog_proven proven;
    assert_ok(tlog_cert_verify(a->cert, a->len, &vkey, &proven, &e), &e);
    assert_true(proven.index == a->index && proven.log_number == 1);
}

/* With the signer stopped, so that all is published: the entry under that index is the one the
 * certificate and its request stand for. */
static void stands_in_log(const struct answer *a, const struct ca_issue *m)
{
    struct err e = {0};
    struct buf body, entry, note;
    struct tlog_cert_fields f;
    struct bytes stapled;
    struct tlog_hash path[TLOG_LEVELS];
    size_t path_len;
    struct tlog_entry t;
    struct tlog_ext_info x;
    buf_init(&body, 65536);
    buf_init(&entry, 65536);
    buf_init(&note, 65536);
    assert_ok(tlog_cert_body(&body, &f, &stapled, a->cert, a->len, &e), &e);
    assert_true(stapled.len > 0);
    assert_ok(tlog_read_entry(house.config->log.dir, &vkey, a->index, &entry, path, &path_len, &note, &e), &e);
    assert_ok(tlog_entry_parse(&t, entry.p, entry.len, &e), &e);
    assert_true(bytes_eq(t.body, body.p, body.len));
    assert_ok(tlog_entry_extensions(&x, t.extensions, &e), &e);
    assert_true(bytes_eq(x.attestor, m->attestor.p, m->attestor.len));
    assert_true(bytes_eq(x.evidence, m->evidence.p, m->evidence.len));
    assert_true(bytes_eq(x.requester, m->requester.p, m->requester.len));
    assert_true(x.entry_revision == m->entry_revision);
    buf_free(&body);
    buf_free(&entry);
    buf_free(&note);
}

struct asker {
    pthread_t thread;
    struct key *key;
    struct ca_issue m;
    struct answer *answers;
    size_t n;
};

static void *asker_thread(void *arg)
{
    struct asker *k = arg;
    for (size_t i = 0; i < k->n; i++)
        ask(&k->answers[i], &k->m);
    return NULL;
}

static int by_index(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static struct asker askers[ASKERS];

static void load_begin(size_t each)
{
    static const enum key_type types[] = {KEY_P256, KEY_P384, KEY_RSA, KEY_ED25519, KEY_P256, KEY_P256};
    for (size_t i = 0; i < ASKERS; i++) {
        struct asker *k = &askers[i];
        k->key = test_key(types[i % 6]);
        k->m = test_request(k->key);
        k->m.lifetime = 60 + (uint32_t)i;
        k->n = each;
        k->answers = calloc(each, sizeof *k->answers);
        assert_non_null(k->answers);
        assert_int_equal(pthread_create(&k->thread, NULL, asker_thread, k), 0);
    }
}

/* Waits, verifies each, and that no index came twice. Returns the greatest index. */
static uint64_t load_end(void)
{
    uint64_t all[ASKERS * 64];
    size_t n = 0;
    for (size_t i = 0; i < ASKERS; i++) {
        struct asker *k = &askers[i];
        pthread_join(k->thread, NULL);
        for (size_t j = 0; j < k->n; j++) {
            if (!k->answers[j].len)
                print_message("refused: [%s] %s\n", k->answers[j].asked.e.rule, k->answers[j].asked.e.msg);
            assert_true(k->answers[j].len > 0);
            verify(&k->answers[j], &k->m);
            all[n++] = k->answers[j].index;
        }
    }
    qsort(all, n, sizeof *all, by_index);
    for (size_t i = 1; i < n; i++)
        assert_true(all[i] > all[i - 1]);
    return all[n - 1];
}

static void load_free(bool check_log)
{
    for (size_t i = 0; i < ASKERS; i++) {
        for (size_t j = 0; check_log && j < askers[i].n; j++)
            stands_in_log(&askers[i].answers[j], &askers[i].m);
        free(askers[i].answers);
        key_free(askers[i].key);
    }
}

static void log_verifies(uint64_t at_least)
{
    struct err e = {0};
    struct tlog_verify_report r;
    assert_ok(tlog_verify_dir(house.config->log.dir, &vkey, &r, NULL, NULL, &e), &e);
    assert_true(r.size >= at_least);
}

/* --- scenarios -------------------------------------------------------------------------------------------- */

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

static void clock_back(void **state)
{
    struct key *k = test_key(KEY_P256);
    struct ca_issue m = test_request(k);
    static struct answer a;
    ask(&a, &m);
    assert_true(a.len > 0);
    int64_t last = a.not_before;
    house_file(house.offset, "-100\n");
    ask(&a, &m);
    assert_int_equal(a.asked.e.code, ERR_UNAVAILABLE);
    assert_string_equal(a.asked.e.rule, "clock-back");
    assert_int_equal(house_stop(&house), 0);
    house_start(&house); /* it remembers from the log */
    ask(&a, &m);
    assert_string_equal(a.asked.e.rule, "clock-back");
    house_file(house.offset, "100\n");
    ask(&a, &m);
    assert_true(a.len > 0);
    assert_true(a.not_before >= last + 99);
    key_free(k);
}

/* A clock that was ahead, and is right again: the operator says so once, and it holds. */
static void clock_was_ahead(void **state)
{
    struct key *k = test_key(KEY_P256);
    struct ca_issue m = test_request(k);
    static struct answer a;
    house_file(house.offset, "90000\n");
    ask(&a, &m);
    assert_true(a.len > 0);
    int64_t ahead = a.not_before;
    house_file(house.offset, "200\n");
    assert_int_equal(house_stop(&house), 0);
    house_start(&house);
    ask(&a, &m);
    assert_string_equal(a.asked.e.rule, "clock-back");
    assert_non_null(strstr(a.asked.e.msg, "--accept-clock-back"));
    assert_int_equal(house_stop(&house), 0);
    house_tell(&house, 'C');
    ask(&a, &m);
    assert_true(a.len > 0);
    assert_true(a.not_before < ahead - 80000);
    assert_int_equal(house_stop(&house), 0);
    house_start(&house); /* without it: what was issued since says the time */
    ask(&a, &m);
    assert_true(a.len > 0);
    key_free(k);
}

/* Beyond the issuing certificate's end nothing is signed. */
static void issuer_ends(void **state)
{
    struct key *k = test_key(KEY_P256);
    struct ca_issue m = test_request(k);
    static struct answer a;
    char offset[32];
    snprintf(offset, sizeof offset, "%lld\n", (long long)CACERT_ISSUING_DAYS * 86400 - 150);
    house_file(house.offset, offset);
    ask(&a, &m);
    assert_string_equal(a.asked.e.rule, "issuer-lifetime");
    m.lifetime = 60;
    ask(&a, &m);
    assert_true(a.len > 0);
    verify(&a, &m);
    key_free(k);
}

static void strangers(void **state)
{
    struct err e = {0};
    struct buf b;
    buf_init(&b, 70000);
    static const uint8_t bad[][12] = {{1}, {2, CA_ISSUE}, {1, 99, 0, 0, 0, 0, 0, 0, 0, 1},
                                      {1, CA_INFO, 0, 0, 0, 0, 0, 0, 0, 1, 1}, {1, CA_ISSUED, 0, 0, 0, 0, 0, 0, 0, 1}};
    struct ipc_reader *reader = ipc_reader_new(&e);
    struct bytes out[IPC_BATCH];
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        int fd = ipc_connect(house.socket, &e);
        assert_true(fd >= 0);
        assert_true(send(fd, bad[i], sizeof bad[i] - 1, MSG_NOSIGNAL) > 0);
        assert_int_equal(ipc_recv(reader, fd, -1, out, &e), -2); /* hung up on */
        close(fd);
    }
    /* A malformed request of the right type is answered. */
    struct ipc_frame f;
    struct err why;
    int fd = ipc_connect(house.socket, &e);
    ipc_frame_begin(&b, CA_ISSUE, 5);
    buf_u32(&b, 7);
    assert_ok(ipc_send(fd, &b, &e), &e);
    assert_int_equal(ipc_recv(reader, fd, -1, out, &e), 1);
    assert_ok(ipc_frame_parse(&f, out[0].p, out[0].len, &e), &e);
    assert_int_equal(f.type, CA_REFUSED);
    assert_int_equal(f.id, 5);
    assert_ok(ca_refused_parse(&why, f.body, &e), &e);
    assert_string_equal(why.rule, "ca-msg");
    close(fd);
    ipc_reader_free(reader);
    buf_free(&b);
    load_begin(2); /* and the others are still served */
    load_end();
    load_free(false);
}

/* --- CRLs ------------------------------------------------------------------------------------------------ */

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

/* A caller that asks and never reads must not stop others, nor the draining. */
static void deaf_caller(void **state)
{
    struct err e = {0};
    struct buf b;
    struct key *k = test_key(KEY_P256);
    struct ca_issue m = test_request(k);
    static struct answer a;
    for (int round = 0; round < 2; round++) {
        ask(&a, &m); /* it is there */
        int fd = ipc_connect(house.socket, &e);
        assert_true(fd >= 0);
        buf_init(&b, IPC_FRAME_MAX);
        ca_issue_write(&b, 1, &m);
        int sent = 0;
        while (sent < 100000 && send(fd, b.p, b.len, MSG_NOSIGNAL) > 0)
            sent++;
        assert_true(sent < 100000); /* hung up on */
        if (round == 0) {
            ask(&a, &m);
            assert_true(a.len > 0);
        } else {
            assert_int_equal(house_stop(&house), 0);
        }
        close(fd);
        buf_free(&b);
    }
    key_free(k);
}

/* Killed at each numbered step, under load: every certificate that anyone received is in the log
 * and verifies, no serial is used twice, the log only grows. */
static void killed_at(const char *point, unsigned skip)
{
    char words[64];
    snprintf(words, sizeof words, "%s kill %u\n", point, skip);
    house_file(house.fault, words);
    load_begin(15);
    load_end();
    if (access(house.fault, F_OK) == 0)
        print_message("%s did not fire\n", point);
    assert_int_equal(access(house.fault, F_OK), -1);
}

static void kills(void **state)
{
    static const char *const points[] = {"issue-received", "issue-checked", "issue-logged", "issue-tbs",
                                         "issue-signed",   "issue-answered", "tlog-journal", "tlog-synced",
                                         "tlog-signed",    "tlog-head"};
    uint64_t size = 0;
    for (size_t i = 0; i < sizeof points / sizeof *points; i++) {
        struct err e = {0};
        struct tlog_verify_report r;
        killed_at(points[i], 3 + (unsigned)i);
        assert_int_equal(house_stop(&house), 0);
        assert_ok(tlog_verify_dir(house.config->log.dir, &vkey, &r, NULL, NULL, &e), &e);
        assert_true(r.size > size);
        size = r.size;
        load_free(true);
        house_start(&house);
    }
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(many), T(refusals), T(long_names), cmocka_unit_test_setup_teardown(rate, setup_rate, teardown),
        T(clock_back), T(clock_was_ahead), T(issuer_ends), T(strangers), T(deaf_caller), T(crls), T(kills),
    };
    if (need_softhsm())
        return 77;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
