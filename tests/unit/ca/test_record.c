/* Records through a real signer: what may be written, what stands in the log then, and that
 * certificates beside them are none the worse. */
#include "base/clock.h"
#include "ca/client.h"
#include "ca/record.h"
#include "unit/ca/asked.h"
#include "unit/ca/house.h"
#include <pthread.h>

#define DEADLINE_MS 120000
#define MANY 40

static struct house house;
static struct ca_client *client;
static struct tlog_vkey vkey;

static int setup(void **state)
{
    struct err e = {0};
    struct cacert issuing;
    char path[256];
    house_build(&house, "");
    assert_ok(house_child(&house, house_ceremony, &e), &e);
    snprintf(path, sizeof path, "%s/ca", house.dir);
    assert_ok(cacert_load(&issuing, path, "issuing.pem", &e), &e);
    assert_ok(tlog_binding_from_cert(&vkey, issuing.der, issuing.len, &e), &e);
    house_keeper(&house);
    house_start(&house);
    client = ca_client_new(house.socket, DEADLINE_MS, &e);
    assert_non_null(client);
    return 0;
}

static int teardown(void **state)
{
    ca_client_free(client);
    house_pull_down(&house);
    tlog_vkey_free(&vkey);
    return 0;
}

/* --- asking ------------------------------------------------------------------------------------- */

struct answer {
    struct asked asked;
    uint64_t index;
};

static void settle(struct answer *a, uint64_t index, const struct err *e)
{
    a->index = index;
    asked_settle(&a->asked, e);
}

static void recorded(void *arg, uint64_t index, const struct err *e)
{
    settle(arg, index, e);
}

static void issued(void *arg, const struct ca_issued *r, const struct err *e)
{
    settle(arg, r ? r->index : 0, e);
}

static void send_body(struct answer *a, uint16_t type, struct bytes body)
{
    struct err e = {0};
    const struct ca_record m = {type, body};
    asked_begin(&a->asked);
    assert_ok(ca_client_record(client, &m, recorded, a, &e), &e);
}

static void send_record(struct answer *a, const struct tlog_record_info *r)
{
    struct err e = {0};
    struct buf body;
    buf_init(&body, TLOG_RECORD_MAX);
    assert_ok(tlog_record_write(r, &body, &e), &e);
    send_body(a, r->type, (struct bytes){body.p, body.len});
    buf_free(&body);
}

static struct tlog_record_info refusal(void)
{
    return (struct tlog_record_info){.type = TLOG_ENTRY_REFUSAL,
                                     .time = 7, /* the signer knows better */
                                     .code = TLOG_AT_REGISTRATION,
                                     .rule = text("selectors"),
                                     .why = text("the entry asks for k8s:ns:prod"),
                                     .spiffe_id = text("spiffe://example.org/web/1"),
                                     .attestor = text("join_token"),
                                     .session = {test_digest, 32},
                                     .count = 3};
}

/* The entry as published, once it is. */
static void published(uint64_t index, struct buf *entry, struct buf *note)
{
    char dir[256];
    struct tlog_hash path[TLOG_LEVELS];
    size_t n;
    struct err e = {0};
    snprintf(dir, sizeof dir, "%s/log", house.dir);
    for (int tries = 0; tries < 600; tries++) {
        buf_reset(entry);
        buf_reset(note);
        memset(&e, 0, sizeof e);
        if (tlog_read_entry(dir, &vkey, index, entry, path, &n, note, &e) == 0)
            return;
        assert_int_equal(e.code, ERR_NOT_FOUND);
        usleep(50000);
    }
    fail_msg("entry %llu is not published: %s", (unsigned long long)index, e.msg);
}

/* --- tests ---------------------------------------------------------------------------------------- */

static void stands_in_the_log(void **state)
{
    struct answer a;
    struct tlog_record_info r = refusal(), got;
    struct tlog_entry t;
    struct err e = {0};
    struct buf entry, note;
    buf_init(&entry, TLOG_ENTRY_MAX + 1);
    buf_init(&note, TLOG_NOTE_MAX);
    send_record(&a, &r);
    asked_wait(&a.asked);
    assert_ok(a.asked.e.code == ERR_NONE ? 0 : -1, &a.asked.e);
    published(a.index, &entry, &note);
    assert_ok(tlog_entry_parse(&t, entry.p, entry.len, &e), &e);
    assert_int_equal(t.type, TLOG_ENTRY_REFUSAL);
    assert_int_equal(t.extensions.len, 0);
    assert_ok(tlog_record_parse(&got, t.type, t.body, &e), &e);
    assert_int_equal(got.count, 3);
    assert_memory_equal(got.rule.p, "selectors", 9);
    assert_true(got.time > 1700000000); /* not 7 */
    buf_free(&entry);
    buf_free(&note);
}

static void beside_certificates(void **state)
{
    static struct answer a[MANY];
    struct err e = {0};
    struct key *k = test_key(KEY_P256);
    const struct ca_issue m = test_request(k);
    const struct tlog_record_info r = refusal();
    bool seen[8 * MANY] = {0};
    for (int i = 0; i < MANY; i++) {
        if (i % 2) {
            send_record(&a[i], &r);
        } else {
            asked_begin(&a[i].asked);
            assert_ok(ca_client_issue(client, &m, issued, &a[i], &e), &e);
        }
    }
    for (int i = 0; i < MANY; i++) {
        asked_wait(&a[i].asked);
        assert_ok(a[i].asked.e.code == ERR_NONE ? 0 : -1, &a[i].asked.e);
        assert_true(a[i].index < sizeof seen && !seen[a[i].index]);
        seen[a[i].index] = true;
    }
    key_free(k);
}

static void refused(struct answer *a, const char *rule)
{
    asked_wait(&a->asked);
    if (a->asked.e.code == ERR_NONE)
        fail_msg("recorded, and should have been refused by %s", rule);
    assert_string_equal(a->asked.e.rule, rule);
}

static void not_for_others(void **state)
{
    struct answer a;
    struct tlog_record_info r = {.type = TLOG_ENTRY_AUTHORITY, .code = TLOG_NEW_ROOT, .value = text("1"), .digest = {test_digest, 32}};
    send_record(&a, &r);
    refused(&a, "record-type");
    send_body(&a, TLOG_ENTRY_TBS_CERT, text("0\003\002\001\001"));
    refused(&a, "record-type");
    send_body(&a, TLOG_ENTRY_NULL, text("x"));
    refused(&a, "record-type");
    send_body(&a, TLOG_ENTRY_REFUSAL, text("garbage"));
    refused(&a, "record-format");
    r = refusal();
    send_record(&a, &r); /* and the signer is as well as before */
    asked_wait(&a.asked);
    assert_int_equal(a.asked.e.code, ERR_NONE);
}

/* However fast or slow the machine, each second lets through at most RECORDS_A_SECOND, and one
 * second's worth more in a burst; and nothing but the cap refuses. */
static void capped(void **state)
{
    enum { FLOOD = 4 * RECORDS_A_SECOND };
    struct answer *a = calloc(FLOOD, sizeof *a);
    const struct tlog_record_info r = refusal();
    int over = 0;
    int64_t start = clock_mono_ms();
    for (int i = 0; i < FLOOD; i++)
        send_record(&a[i], &r);
    for (int i = 0; i < FLOOD; i++) {
        asked_wait(&a[i].asked);
        if (a[i].asked.e.code == ERR_NONE)
            continue;
        assert_string_equal(a[i].asked.e.rule, "rate");
        over++;
    }
    int64_t seconds = (clock_mono_ms() - start) / 1000;
    if (FLOOD - over > (seconds + 2) * RECORDS_A_SECOND)
        fail_msg("%d records within %lld s", FLOOD - over, (long long)seconds + 1);
    free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stands_in_the_log),
        cmocka_unit_test(beside_certificates),
        cmocka_unit_test(not_for_others),
        cmocka_unit_test(capped),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
