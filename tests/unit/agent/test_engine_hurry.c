/* What makes the engine renew before its time: revocations, the authority's advice, and how seldom that may be. */
#include "unit/agent/engine_fixture.h"

/* --- revocations ---------------------------------------------------------------------------------------- */

/* The agent's own SVID and one of a workload, by what it vouched for. */
static struct identity *with_svids(struct fixture *f)
{
    struct err e;
    struct identity *i = add(f, "web");
    assert_int_equal(identity_evidence(i, NULL, 0, &e), 0);
    id_set_clear(&f->a.self.client->authorized);
    f->a.own.until_ms = 0;
    engine_want(&f->a, i);
    engine_run(&f->a);
    TURN_UNTIL(f, f->a.own.until_ms > 0 && i->svid);
    assert_true(self_alive(&f->a.self));
    TURN_UNTIL(f, !f->a.own.busy && !f->a.bundle_busy && !f->a.entries_busy);
    return i;
}

/* The session of all was ended, and the agent's SVID stands: the renewal that finds out is none the worse. */
static void test_session_revoked(void **state)
{
    struct fixture *f = *state;
    struct identity *i = with_svids(f);
    struct wl_svid *first = wl_svid_ref(i->svid);
    uint64_t own = f->a.counters.renewals_ok;
    assert_int_equal(f->s.accounts, 1);
    f->revoked = 1;
    f->advices = 0;
    assert_int_equal(f->a.advice_hurry_ms, 0);
    i->retry_mono_ms = f->a.own.retry_mono_ms = 0;
    i->renew_wall_ms = clock_wall_ms() - 1;
    engine_run(&f->a);
    TURN_UNTIL(f, i->svid != first);
    wl_svid_unref(first);
    assert_int_equal(f->a.counters.renewals_failed, 0);
    assert_int_equal(f->s.accounts, 2);
    /* The new session shows what the agent is, and everything is looked at for what was revoked, in a hurry. */
    assert_true(f->a.advice_hurry_ms > 0);
    TURN_UNTIL(f, f->a.counters.renewals_ok >= own + 2);
    TURN_UNTIL(f, f->advices >= 1);
    assert_int_equal(f->a.own.failures, 0);
    assert_int_equal(f->s.accounts, 2);
}

/* The SVID that the agent vouches with was, and the session was not: another SVID comes of it, and no other session. */
static void test_svid_revoked(void **state)
{
    struct fixture *f = *state;
    struct identity *i = with_svids(f);
    struct wl_svid *first = wl_svid_ref(i->svid);
    uint64_t own = f->a.counters.renewals_ok;
    f->svid_revoked = true;
    id_set_remove(&f->a.self.client->authorized, i->spiffe_id);
    i->retry_mono_ms = f->a.own.retry_mono_ms = 0;
    i->renew_wall_ms = clock_wall_ms() - 1;
    engine_run(&f->a);
    TURN_UNTIL(f, f->a.counters.renewals_ok == own + 1);
    assert_ptr_equal(i->svid, first);
    assert_true(self_alive(&f->a.self));
    f->svid_revoked = false;
    TURN_UNTIL(f, i->svid != first);
    wl_svid_unref(first);
    assert_int_equal(f->s.accounts, 1);
}

/* Each order is refused so until another SVID of its own comes: one hurry of questions, not one for each. */
static void test_hurries_once(void **state)
{
    struct fixture *f = *state;
    struct job j = {.agent = &f->a, .kind = JOB_SVID};
    with_svids(f);
    assert_false(f->a.own.stale);
    assert_int_equal(f->a.advice_hurry_ms, 0);
    err_set(&j.err, ERR_UNAUTHORIZED, "svid-revoked", "as told");
    gate_reached(&f->a, &j);
    assert_true(f->a.own.stale);
    assert_true(f->a.advice_hurry_ms > 0);
    f->a.advice_hurry_ms = 0;
    gate_reached(&f->a, &j);
    assert_int_equal(f->a.advice_hurry_ms, 0);
}

/* The agent itself: no session helps. What the workloads have is served on, nothing is asked for, until it is back. */
static void test_agent_revoked(void **state)
{
    struct fixture *f = *state;
    struct identity *i = with_svids(f);
    struct wl_svid *first = wl_svid_ref(i->svid);
    char why[400], path[80];
    f->revoked = 1;
    f->svid_revoked = true;
    i->retry_mono_ms = f->a.own.retry_mono_ms = 0;
    i->renew_wall_ms = clock_wall_ms() - 1;
    engine_run(&f->a);
    TURN_UNTIL(f, f->a.own.until_ms == 0);
    assert_string_equal(f->a.own.last.rule, "token-needed");
    assert_false(self_alive(&f->a.self));
    snprintf(path, sizeof path, "%s/svid.pem", f->state);
    assert_int_equal(access(path, F_OK), -1);
    assert_false(health_ready(&f->a, why, sizeof why));
    assert_non_null(strstr(why, "mayfly token create"));
    assert_ptr_equal(i->svid, first);
    unsigned orders = f->orders, sessions = f->s.accounts;
    assert_true(sessions <= 4);
    i->retry_mono_ms = 0;
    engine_run(&f->a);
    turn(f, 100);
    assert_int_equal(f->orders, orders);
    /* As if by a new token. */
    uint64_t new_ones = f->a.counters.new_ok;
    f->svid_revoked = false;
    f->advices = 0;
    TURN_UNTIL(f, f->a.own.until_ms > 0 && i->svid != first);
    assert_true(f->s.accounts <= sessions + 1);
    assert_true(self_alive(&f->a.self));
    assert_int_equal(f->a.counters.new_ok, new_ones + 1); /* that is no renewal: there was none any more */
    wl_svid_unref(first);
}

/* Something was revoked, the list of entries says: all ask for advice, in a hurry. Each time, and not when the authority
 * has begun to count anew. */
static void test_taken_back(void **state)
{
    struct fixture *f = *state;
    struct agent *a = &f->a;
    struct identity *i = with_svids(f);
    f->pulled = false;
    for (int k = 0; k < 4; k++) {
        f->taken_back = k == 0 ? 0 : k == 1 ? 7 : k == 2 ? 3 : 4;
        i->ari_mono_ms = a->own.ari_mono_ms = clock_mono_ms() + 3600000;
        a->advice_hurry_ms = 0;
        f->advices = 0;
        unsigned lists = f->lists;
        entries_poll(a);
        TURN_UNTIL(f, f->lists > lists && !a->entries_busy);
        assert_int_equal(a->advice_hurry_ms > 0, k % 2);
        if (k % 2)
            TURN_UNTIL(f, f->advices >= 2);
    }
}

/* --- questions ------------------------------------------------------------------------------------------ */

/* A key that is not known has the bundle asked for, now and then only: anybody can name one. */
static void test_unknown_keys(void **state)
{
    struct fixture *f = *state;
    int64_t began = clock_mono_ms();
    for (int i = 0; i < 20; i++) {
        bundle_hurry(&f->a);
        turn(f, 10);
    }
    if (clock_mono_ms() - began < 4000)
        assert_int_equal(f->bundles, 1);
}

/* Who finds nothing has the list asked for at once, but all of them together no more than once a second. */
static void test_hurry(void **state)
{
    struct fixture *f = *state;
    struct agent *a = &f->a;
    int64_t began = clock_mono_ms();
    assert_true(entries_hurry(a, began));
    TURN_UNTIL(f, f->lists == 1 && !a->entries_busy);
    assert_false(entries_hurry(a, began)); /* this one is new enough */
    for (int i = 0; i < 20; i++) {
        int64_t now = clock_mono_ms();
        if (now > a->entries_of_ms)
            assert_true(entries_hurry(a, now)); /* another is to come */
        turn(f, 10);
    }
    int64_t passed = clock_mono_ms() - began;
    assert_in_range(f->lists, 1, (uintmax_t)passed / 1000 + 1);
    TURN_UNTIL(f, f->lists >= 2); /* and it came */
    assert_true(clock_mono_ms() - began >= 1000);
    f->down = true; /* nothing to wait for */
    entries_hurry(a, clock_mono_ms());
    TURN_UNTIL(f, a->gate_failures > 0);
    assert_false(entries_hurry(a, clock_mono_ms()));
}

/* What somebody can cause without end is one line a second. */
static void test_seldom(void **state)
{
    int64_t told = 0;
    assert_int_equal(engine_seldom(&told, LOG_WARN), LOG_WARN);
    int64_t first = told;
    while (engine_seldom(&told, LOG_WARN) == LOG_DEBUG) {
        assert_int_equal(told, first);
        usleep(5000);
    }
    assert_true(told - first >= 1000);
}

/* --- advice --------------------------------------------------------------------------------------------- */

/* Many ask for advice by turns, so many a second; when one is called before its time, all ask at once. */
static void test_advice(void **state)
{
    struct fixture *f = *state;
    struct agent *a = &f->a;
    struct identity *all[60];
    char name[16];
    for (int k = 0; k < 60; k++) {
        snprintf(name, sizeof name, "w%02d", k);
        all[k] = add(f, name);
        engine_want(a, all[k]);
    }
    engine_run(a);
    TURN_UNTIL(f, a->counters.new_ok == 60);
    int64_t began = clock_mono_ms();
    for (int k = 0; k < 60; k++)
        all[k]->ari_mono_ms = began;
    engine_run(a);
    TURN_UNTIL(f, f->advices >= 12);
    assert_true(f->advices <= 10 + (unsigned)(clock_mono_ms() - began) / 125);
    TURN_UNTIL(f, f->advices >= 16 && !all[0]->ari_busy && !all[59]->ari_busy); /* none is asked twice before the others */
    unsigned asked = 0;
    for (int k = 0; k < 60; k++)
        asked += all[k]->ari_mono_ms > began;
    assert_true(asked + 9 >= f->advices);
    assert_int_equal(f->orders, 60);
    /* One is revoked. */
    for (int k = 1; k < 60; k++)
        all[k]->ari_mono_ms = clock_mono_ms() + 3600000;
    all[0]->ari_mono_ms = 0;
    f->pulled = true;
    engine_run(a);
    TURN_UNTIL(f, a->counters.renewals_ok >= 60);
    f->pulled = false;
    assert_int_equal(all[59]->ari_mono_ms < clock_mono_ms() + 3000000, 1);
}

/* No advice yet is no outage: what was asked for meanwhile is asked for all the same. */
static void test_advice_too_early(void **state)
{
    struct fixture *f = *state;
    struct agent *a = &f->a;
    struct identity *i = add(f, "web"), *later = add(f, "later");
    engine_want(a, i);
    engine_run(a);
    TURN_UNTIL(f, i->svid);
    f->young = 1;
    i->ari_mono_ms = 0;
    engine_run(a);
    TURN_UNTIL(f, f->advices == 1);
    engine_want(a, later);
    engine_run(a);
    assert_int_equal(queue_waiting(a->authority), 1);
    f->young = 2;
    TURN_UNTIL(f, later->tried);
    assert_non_null(later->svid);
    assert_int_equal(a->counters.new_failed, 0);
    assert_int_equal(a->gate_failures, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_session_revoked, setup, teardown),
        cmocka_unit_test_setup_teardown(test_svid_revoked, setup, teardown),
        cmocka_unit_test_setup_teardown(test_hurries_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_agent_revoked, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unknown_keys, setup, teardown),
        cmocka_unit_test_setup_teardown(test_hurry, setup, teardown),
        cmocka_unit_test_setup_teardown(test_advice, setup, teardown),
        cmocka_unit_test_setup_teardown(test_taken_back, setup, teardown), cmocka_unit_test(test_seldom),
        cmocka_unit_test_setup_teardown(test_advice_too_early, setup, teardown),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
