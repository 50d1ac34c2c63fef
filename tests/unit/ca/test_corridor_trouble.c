/* What befalls the corridor: clocks that jump, an issuer that ends, strangers and the deaf, death at each step. */
#include "unit/ca/corridor.h"
#include <sys/socket.h>
#include <time.h>

/* --- clocks --------------------------------------------------------------------------------------------- */

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

/* --- callers -------------------------------------------------------------------------------------------- */

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

/* --- death ---------------------------------------------------------------------------------------------- */

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(clock_back), T(clock_was_ahead), T(issuer_ends), T(strangers), T(deaf_caller), T(kills),
    };
    if (need_softhsm())
        return 77;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
