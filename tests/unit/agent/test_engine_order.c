/* In which order a workload is given its identities: the first is its default. */
#include "agent/callers.h"
#include "unit/agent/engine_fixture.h"

struct listed {
    const char *name;
    int64_t number;
};

/* The list of entries as the authority would send it: in the order of SPIFFE IDs. */
static void list_entries(struct fixture *f, const struct listed *want, size_t n)
{
    char ids[4][64], *selectors[] = {(char *)(uintptr_t) "unix:uid:1"};
    struct entry list[4] = {0};
    for (size_t i = 0; i < n; i++) {
        snprintf(ids[i], sizeof ids[i], "spiffe://example.org/%s", want[i].name);
        list[i] = (struct entry){.id = ids[i], .spiffe_id = ids[i], .hint = (char *)(uintptr_t) "", .selectors = selectors,
                                 .selectors_count = 1, .ttl = 300, .revision = 1, .number = want[i].number};
    }
    struct entry_list l = {.version = "v", .list = list, .n = n};
    entries_apply(&f->a, &l);
}

static void given(const struct caller *c, const char *want)
{
    char all[128] = "";
    for (size_t i = 0; i < c->matched_count; i++)
        strcat(strcat(all, strrchr(c->matched[i]->spiffe_id, '/')), " ");
    assert_string_equal(all, want);
}

static void test_oldest_first(void **state)
{
    static const struct listed untold[] = {{"api", 0}, {"web", 0}}, told[] = {{"api", 9}, {"web", 4}},
                               added[] = {{"aaa", 10}, {"api", 9}, {"web", 4}, {"zzz", 1}};
    struct fixture *f = *state;
    struct agent *a = &f->a;
    char *selector = (char *)(uintptr_t) "unix:uid:1";
    struct caller c = {.agent = a, .state = CALLER_KNOWN, .selectors = {.list = {selector}, .n = 1}};
    list_entries(f, untold, 2);
    assert_true(caller_match(&c));
    given(&c, "/api /web "); /* of an authority that does not tell their age */
    list_entries(f, told, 2);
    assert_true(caller_match(&c)); /* to be told, though they are the same */
    given(&c, "/web /api ");
    assert_false(caller_match(&c));
    list_entries(f, added, 4);
    assert_true(caller_match(&c));
    given(&c, "/zzz /web /api /aaa ");
    for (size_t i = 0; i < 4; i++) { /* they are still found by name */
        char id[64];
        snprintf(id, sizeof id, "spiffe://example.org/%s", added[i].name);
        assert_string_equal(a->identities.list[i]->spiffe_id, id);
        assert_ptr_equal(identity_of(&a->identities, id), a->identities.list[i]);
        assert_int_equal(a->identities.list[i]->wanted, 1);
    }
    free(c.matched);
}

int main(void)
{
    log_setup("test", LOG_ERROR, LOG_TEXT);
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(test_oldest_first, setup, teardown)};
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
