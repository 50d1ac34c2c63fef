#include "tests/unit/tlog/support.h"

#include "base/clock.h"
#include "ca/notices.h"
#include "tlog/record.h"

#define NOW INT64_C(1795456800)

static char td[] = "example.org", dns_a[] = "a.example.org", dns_b[] = "b.example.org", *zones[] = {dns_a, dns_b};
static char key_1[] = "w1.example.net+7e6f4aaa+BNdam", url[] = "https://w1.example.net";
static struct config_witness witnesses[] = {{url, key_1}};

static struct test_log t;
static struct config c;

static struct tlog *start(void)
{
    struct tlog *log;
    struct err e;
    assert_ok(tlog_open(&log, &t.o, &e), e);
    return log;
}

static struct notices_facts facts; /* of the next life: its JWT key */
static int64_t since;

/* One life of a signer: what it says, and how many entries that makes. */
static uint64_t life(int64_t ahead, int64_t now)
{
    struct notices n;
    struct err e;
    struct buf vkey;
    struct tlog_status before, after;
    struct tlog *log = start();
    buf_init(&vkey, 1024);
    tlog_vkey_write(&t.vkey, &vkey);
    tlog_status(log, &before);
    facts.config = &c;
    facts.log = log;
    facts.vkey = view(&vkey);
    facts.ahead = ahead;
    assert_ok(notices_init(&n, &facts, &e), e);
    assert_ok(notices_tell(&n, now, &e), e);
    tlog_status(log, &after);
    assert_ok(notices_tell(&n, now, &e), e); /* nothing is due any more */
    tlog_status(log, &before);
    assert_int_equal(before.size, after.size);
    since = n.jwt_since;
    notices_free(&n);
    buf_free(&vkey);
    tlog_close(log);
    return after.size;
}

static void entry_at(uint64_t index, struct buf *raw, struct tlog_record_info *r)
{
    struct buf note;
    struct err e;
    struct tlog_entry x;
    struct tlog_hash path[TLOG_LEVELS];
    size_t path_len;
    buf_init(raw, TLOG_ENTRY_MAX);
    buf_init(&note, TLOG_NOTE_MAX);
    assert_ok(tlog_read_entry(t.dir, &t.vkey, index, raw, path, &path_len, &note, &e), e);
    assert_ok(tlog_entry_parse(&x, raw->p, raw->len, &e), e);
    assert_int_equal(x.type, TLOG_ENTRY_AUTHORITY);
    assert_ok(tlog_record_parse(r, x.type, x.body, &e), e);
    buf_free(&note);
}

static int setup(void **state)
{
    struct err e;
    test_begin(&t);
    assert_ok(tlog_create(&t.o, &e), e);
    c = (struct config){.trust_domain = td, .ca = {.max_lifetime = 3600, .permitted_dns = zones, .permitted_dns_count = 2}};
    c.log.dir = t.dir;
    facts = (struct notices_facts){0};
    return 0;
}

static int teardown(void **state)
{
    test_end(&t);
    return 0;
}

/* Once, and again whenever something of it changes, and never for what is not of it. */
static void policy(void **state)
{
    struct buf raw;
    struct tlog_record_info r;
    uint8_t digest[32];
    static const char text[] = "trust_domain=example.org max_lifetime=3600 rate=0 permitted_dns=a.example.org permitted_dns=b.example.org";
    assert_int_equal(life(0, NOW), 2);
    entry_at(1, &raw, &r);
    assert_int_equal(r.code, TLOG_NEW_POLICY);
    assert_int_equal(r.time, NOW);
    assert_true(r.value.len >= sizeof text - 1);
    assert_memory_equal(r.value.p, text, sizeof text - 1);
    tlog_sha256(digest, r.value.p, r.value.len);
    assert_memory_equal(r.digest.p, digest, 32);
    buf_free(&raw);
    assert_int_equal(life(0, NOW + 1), 2);
    c.ca.default_lifetime = 60; /* the frontend's */
    assert_int_equal(life(0, NOW + 2), 2);
    c.ca.max_lifetime = 600;
    assert_int_equal(life(0, NOW + 3), 3);
    assert_int_equal(life(0, NOW + 4), 3);
    c.witnesses.list = witnesses;
    c.witnesses.count = 1;
    assert_int_equal(life(0, NOW + 5), 4);
    c.witnesses.quorum = 1;
    assert_int_equal(life(0, NOW + 6), 5);
    c.ca.permitted_dns_count = 1;
    assert_int_equal(life(0, NOW + 7), 6);
    c.ca.permitted_dns_count = 2; /* as it was before the one before: a change like any other */
    assert_int_equal(life(0, NOW + 8), 7);
}

/* The file is a cache: gone, garbled or wrong, the log is told once more, and nothing worse. */
static void state_lost(void **state)
{
    static const char *const contents[] = {"", "x\n", "0\n", "99999\n", "1", "1\nmore", "18446744073709551616\n", "-1\n"};
    uint64_t size = life(0, NOW);
    for (size_t i = 0; i < sizeof contents / sizeof *contents; i++) {
        shell("printf -- '%s' > '%s/policy'", contents[i], t.dir);
        assert_int_equal(life(0, NOW + 1), size + 1);
        size++;
        assert_int_equal(life(0, NOW + 1), size);
    }
    shell("rm '%s/policy'", t.dir);
    assert_int_equal(life(0, NOW + 1), size + 1);
}

/* Killed between record and file, and the configuration is the former again: that is told, too, though
 * the former file would have said it stands already. */
static void killed_between(void **state)
{
#ifdef MAYFLY_FAULTS
    struct notices n;
    struct err e;
    struct buf vkey;
    char fault[160];
    uint64_t size = life(0, NOW);
    struct tlog *log = start();
    snprintf(fault, sizeof fault, "%s/fault", t.base);
    shell("echo 'notices-told fail' > '%s'", fault);
    buf_init(&vkey, 1024);
    tlog_vkey_write(&t.vkey, &vkey);
    c.ca.max_lifetime = 600;
    assert_ok(notices_init(&n, &(struct notices_facts){.config = &c, .log = log, .vkey = view(&vkey)}, &e), e);
    setenv("MAYFLY_FAULT_FILE", fault, 1);
    assert_int_equal(notices_tell(&n, NOW + 1, &e), -1);
    unsetenv("MAYFLY_FAULT_FILE");
    notices_free(&n);
    buf_free(&vkey);
    tlog_close(log);
    c.ca.max_lifetime = 3600;
    assert_int_equal(life(0, NOW + 2), size + 2);
#endif
}

/* A policy too long for a record: its beginning, in whole words; the digest tells it from others. */
static void long_policy(void **state)
{
    enum { N = 200 };
    static char names[N][32], *list[N];
    struct buf raw, text;
    struct tlog_record_info r;
    uint8_t digest[32];
    for (int i = 0; i < N; i++) {
        snprintf(names[i], sizeof names[i], "zone-%03d.example.org", i);
        list[i] = names[i];
    }
    c.ca.permitted_dns = list;
    c.ca.permitted_dns_count = N;
    assert_int_equal(life(0, NOW), 2);
    entry_at(1, &raw, &r);
    buf_init(&text, 65536);
    notices_policy(&c, &text);
    tlog_sha256(digest, text.p, text.len);
    assert_memory_equal(r.digest.p, digest, 32);
    assert_true(r.value.len <= TLOG_NAME_MAX && r.value.len > TLOG_NAME_MAX - 64);
    assert_memory_equal(r.value.p + r.value.len - 8, ".org …", 8);
    assert_memory_equal(r.value.p, text.p, r.value.len - 4);
    buf_free(&text);
    buf_free(&raw);
    names[N - 1][5] = 'x'; /* behind the cut */
    assert_int_equal(life(0, NOW), 3);
}

/* The clock before the policy, both at the time from which the log goes on. */
static void clock_back(void **state)
{
    struct buf raw, raw_2;
    struct tlog_record_info r;
    assert_int_equal(life(NOW + 7200, NOW), 3);
    entry_at(1, &raw, &r);
    assert_int_equal(r.code, TLOG_CLOCK_BACK);
    assert_int_equal(r.time, NOW);
    assert_true(bytes_eq(r.value, "1795464000", 10));
    entry_at(2, &raw_2, &r);
    assert_int_equal(r.code, TLOG_NEW_POLICY);
    buf_free(&raw);
    buf_free(&raw_2);
    assert_int_equal(life(NOW + 7200, NOW), 4); /* said again, told again */
    assert_int_equal(life(0, NOW), 4);
}

/* Each key once, before it is used; and since when, over a restart and whatever else changes. */
static void jwt_key(void **state)
{
    struct buf raw;
    struct tlog_record_info r;
    uint8_t digest[32];
    assert_int_equal(life(0, NOW), 2); /* a token without one */
    assert_int_equal(since, 0);
    facts.jwt_kid = "one";
    facts.jwt_key = (struct bytes){(const uint8_t *)"key 1", 5};
    assert_int_equal(life(0, NOW + 1), 3);
    assert_int_equal(since, NOW + 1);
    entry_at(2, &raw, &r);
    assert_int_equal(r.code, TLOG_NEW_JWT_KEY);
    assert_int_equal(r.time, NOW + 1);
    assert_true(bytes_eq_str(r.value, "one"));
    tlog_sha256(digest, "key 1", 5);
    assert_memory_equal(r.digest.p, digest, 32);
    buf_free(&raw);
    assert_int_equal(life(0, NOW + 2), 3);
    assert_int_equal(since, NOW + 1);
    c.ca.max_lifetime = 600; /* both at once are told apart afterwards */
    facts.jwt_kid = "two";
    facts.jwt_key = (struct bytes){(const uint8_t *)"key 2", 5};
    assert_int_equal(life(0, NOW + 3), 5);
    assert_int_equal(life(0, NOW + 4), 5);
    assert_int_equal(since, NOW + 3);
    shell("echo 3 > '%s/jwt-key'", t.dir); /* where the policy stands */
    assert_int_equal(life(0, NOW + 5), 6);
    assert_int_equal(since, NOW + 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(policy, setup, teardown),
        cmocka_unit_test_setup_teardown(state_lost, setup, teardown),
        cmocka_unit_test_setup_teardown(killed_between, setup, teardown),
        cmocka_unit_test_setup_teardown(long_policy, setup, teardown),
        cmocka_unit_test_setup_teardown(clock_back, setup, teardown),
        cmocka_unit_test_setup_teardown(jwt_key, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
