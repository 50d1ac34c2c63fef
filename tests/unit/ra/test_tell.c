/* What the log is told: changes of entries in order and none lost, refusals counted. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <openssl/sha.h>

#include "tests/unit/ra/fixture.h"

static struct fx x;

static void pause_a_little(void)
{
    nanosleep(&(struct timespec){0, 5000000}, NULL);
}

/* Waits until the signer has taken n records, and reads the last of them. */
static void recorded(unsigned n, struct tlog_record_info *r, uint8_t body[CA_RECORD_MAX])
{
    struct fake_signer *f = &x.signer;
    struct err e = {0};
    for (;; pause_a_little()) {
        pthread_mutex_lock(&f->lock);
        bool there = f->recorded >= n;
        size_t i = (n - 1) % 16, len = f->records[i].len;
        uint16_t type = f->records[i].type;
        if (there)
            memcpy(body, f->records[i].body, len);
        pthread_mutex_unlock(&f->lock);
        if (!there)
            continue;
        assert_int_equal(tlog_record_parse(r, type, (struct bytes){body, len}, &e), 0);
        return;
    }
}

static void take_records(bool yes)
{
    pthread_mutex_lock(&x.signer.lock);
    x.signer.no_records = !yes;
    pthread_mutex_unlock(&x.signer.lock);
}

static void nothing_waits(void)
{
    while (teller_waiting(x.ra->teller) > 0)
        pause_a_little();
}

static bool says(struct bytes have, const char *want)
{
    return have.len == strlen(want) && memcmp(have.p, want, have.len) == 0;
}

static void create(const char *id, struct wait *w)
{
    char copy[128];
    snprintf(copy, sizeof copy, "%s", id);
    struct ra_entry e = entry_of(copy);
    e.actor = "uid:7";
    wait_init(w);
    ra_entry_create(x.ra, &e, on_entry, w);
    EXPECT(w, NULL);
}

static void remove_entry(const char *id)
{
    struct wait w;
    wait_init(&w);
    ra_entry_delete(x.ra, id, NULL, on_entry, &w);
    EXPECT(&w, NULL);
}

static void test_changes(void **state)
{
    struct wait w;
    struct tlog_record_info r, gone;
    uint8_t body[CA_RECORD_MAX], other[CA_RECORD_MAX];
    create(WEB, &w);
    recorded(1, &r, body);
    assert_int_equal(r.type, TLOG_ENTRY_CHANGE);
    assert_int_equal(r.code, TLOG_CREATED);
    assert_int_equal(r.revision, 1);
    assert_true(says(r.spiffe_id, WEB));
    assert_true(says(r.entry_id, w.entry_id));
    assert_true(says(r.actor, "uid:7"));
    remove_entry(WEB);
    recorded(2, &gone, other);
    assert_int_equal(gone.code, TLOG_DELETED);
    assert_true(says(gone.entry_id, w.entry_id));
    assert_true(says(gone.actor, "local"));
    assert_memory_equal(gone.digest.p, r.digest.p, 32); /* of the same entry */
    nothing_waits();
}

static void change_entry(const char *id, bool auditor)
{
    struct wait w;
    char copy[2049];
    wait_init(&w);
    snprintf(copy, sizeof copy, "%s", id);
    struct ra_entry e = entry_of(copy);
    e.auditor = auditor;
    ra_entry_update(x.ra, &e, on_entry, &w);
    EXPECT(&w, NULL);
}

/* Who may search is in the record, in its flags and its digest. */
static void test_auditor(void **state)
{
    struct wait w;
    struct tlog_record_info plain, may, no_more;
    uint8_t a[CA_RECORD_MAX], b[CA_RECORD_MAX], c[CA_RECORD_MAX];
    unsigned n = x.signer.recorded;
    create("spiffe://example.org/auditor", &w);
    recorded(n + 1, &plain, a);
    assert_int_equal(plain.flags, 0);
    change_entry("spiffe://example.org/auditor", true);
    recorded(n + 2, &may, b);
    assert_int_equal(may.flags, TLOG_FLAG_AUDITOR);
    assert_memory_not_equal(may.digest.p, plain.digest.p, 32);
    fx_reopen(&x);
    change_entry("spiffe://example.org/auditor", false);
    recorded(n + 3, &no_more, c);
    assert_int_equal(no_more.flags, 0);
    assert_memory_equal(no_more.digest.p, plain.digest.p, 32);
    remove_entry("spiffe://example.org/auditor");
    nothing_waits();
}

/* A hint is in the digest, which is as tlog/FORMAT.md has it. */
static void test_hint(void **state)
{
    static const char id[] = "spiffe://example.org/hint", parent[] = "spiffe://example.org/mayfly/server";
    struct wait w;
    struct tlog_record_info plain, with;
    uint8_t a[CA_RECORD_MAX], b[CA_RECORD_MAX], digest[32];
    char copy[64], hint[] = "internal";
    unsigned n = x.signer.recorded;
    create(id, &w);
    recorded(n + 1, &plain, a);
    snprintf(copy, sizeof copy, "%s", id);
    struct ra_entry e = entry_of(copy);
    e.hint = hint;
    wait_init(&w);
    ra_entry_update(x.ra, &e, on_entry, &w);
    EXPECT(&w, NULL);
    recorded(n + 2, &with, b);
    struct buf doc;
    buf_init(&doc, 4096);
    buf_vec16(&doc, id, strlen(id));
    buf_vec16(&doc, parent, strlen(parent));
    buf_u32(&doc, 0);
    buf_u16(&doc, 0);
    buf_u16(&doc, 0);
    SHA256(doc.p, doc.len, digest);
    assert_memory_equal(plain.digest.p, digest, 32);
    buf_u8(&doc, 0);
    buf_vec16(&doc, hint, strlen(hint));
    SHA256(doc.p, doc.len, digest);
    assert_memory_equal(with.digest.p, digest, 32);
    buf_free(&doc);
    remove_entry(id);
    nothing_waits();
}

/* While the log takes nothing the changes wait, over restarts, and are told in their order. */
static void test_none_lost(void **state)
{
    struct wait w;
    struct tlog_record_info r;
    uint8_t body[CA_RECORD_MAX];
    unsigned before = x.signer.recorded;
    take_records(false);
    create("spiffe://example.org/a", &w);
    create("spiffe://example.org/b", &w);
    remove_entry("spiffe://example.org/a");
    fx_reopen(&x);
    assert_int_equal(teller_waiting(x.ra->teller), 3);
    take_records(true);
    nothing_waits();
    recorded(before + 1, &r, body);
    assert_true(says(r.spiffe_id, "spiffe://example.org/a") && r.code == TLOG_CREATED);
    recorded(before + 2, &r, body);
    assert_true(says(r.spiffe_id, "spiffe://example.org/b") && r.code == TLOG_CREATED);
    recorded(before + 3, &r, body);
    assert_true(says(r.spiffe_id, "spiffe://example.org/a") && r.code == TLOG_DELETED);
    assert_int_equal(x.signer.recorded, before + 3);
}

static void test_refusals(void **state)
{
    struct tlog_record_info r;
    uint8_t body[CA_RECORD_MAX];
    unsigned before = x.signer.recorded;
    struct err e = {0}, ours = {0};
    err_set(&e, ERR_REJECTED_ID, "entry", "no entry for it\nat all");
    err_set(&ours, ERR_UNAVAILABLE, "signer-away", "not now");
    audit_refused(x.ra, "spiffe://example.org/\x1b[2Jx", NULL, ATTEST_JOIN_TOKEN, false, &e);
    audit_refused(x.ra, "spiffe://example.org/other", NULL, 0, false, &ours); /* trouble of ours is none */
    recorded(before + 1, &r, body);
    assert_int_equal(r.type, TLOG_ENTRY_REFUSAL);
    assert_int_equal(r.code, TLOG_AT_REGISTRATION);
    assert_int_equal(r.count, 1);
    assert_true(says(r.rule, "entry"));
    assert_true(says(r.why, "no entry for it?at all"));
    assert_true(says(r.spiffe_id, "spiffe://example.org/?[2Jx"));
    assert_true(says(r.attestor, "join_token"));
    /* What is still counted at the end is told before it. */
    for (int i = 0; i < 1000; i++)
        audit_refused(x.ra, "spiffe://example.org/\x1b[2Jx", NULL, ATTEST_JOIN_TOKEN, false, &e);
    fx_reopen(&x);
    recorded(before + 2, &r, body);
    assert_int_equal(r.count, 1000);
}

static int setup(void **state)
{
    fx_new(&x, "");
    return 0;
}

static int teardown(void **state)
{
    fx_free(&x);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_changes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_auditor, setup, teardown),
        cmocka_unit_test_setup_teardown(test_hint, setup, teardown),
        cmocka_unit_test_setup_teardown(test_none_lost, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refusals, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
