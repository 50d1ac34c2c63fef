/* What of a state is news to whoever asked for these names: not another list of the same roots. */
#include "workload/sds.h"
#include "unit/workload/fake.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static struct names *names_of(const char *text, size_t n, size_t len)
{
    struct names *names = calloc(1, sizeof *names + len);
    assert_non_null(names);
    names->n = n;
    names->len = len;
    memcpy(names->text, text, len);
    return names;
}
#define NAMES(n, text) names_of(text, n, sizeof text)

static void test_same(void **state)
{
    static char web[] = "spiffe://example.org/web";
    struct fake_ca ca = fake_ca_new("spiffe://example.org", 1), other = fake_ca_new("spiffe://example.org", 2);
    struct wl_bundles *b = fake_bundles(&ca, "example.org", "{}", NULL, NULL),
                      *again = fake_bundles(&ca, "example.org", "{\"another\":1}", NULL, NULL),
                      *rolled = fake_bundles(&other, "example.org", "{}", NULL, NULL),
                      *more = fake_bundles(&ca, "example.org", "{}", &other, "example.net");
    struct wl_svid *s = fake_svid(&ca, web, "", 3), *newer = fake_svid(&ca, web, "", 4);
    struct wl_svid *list[] = {s}, *renewed[] = {newer};
    struct wl_state *old = fake_state(list, 1, b), now = {.n = 1, .svids = list};
    struct names *root = NAMES(1, "ROOTCA"), *all = NAMES(1, "ALL"), *cert = NAMES(1, "default"), *none = NAMES(0, "");
    struct names *const lists[] = {root, all, cert, none};
    now.bundles = again; /* other JWT keys, other CRLs: no secret shows them */
    for (size_t i = 0; i < 4; i++)
        assert_true(sds_same(lists[i], old, &now));
    now.bundles = rolled;
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(sds_same(lists[i], old, &now), lists[i] == cert);
    now.bundles = more;
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(sds_same(lists[i], old, &now), lists[i] == cert);
    now.bundles = b;
    now.svids = renewed;
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(sds_same(lists[i], old, &now), lists[i] == root || lists[i] == all);
    for (size_t i = 0; i < 4; i++)
        free(lists[i]);
    wl_state_unref(old);
    wl_svid_unref(newer);
    wl_bundles_unref(again);
    wl_bundles_unref(rolled);
    wl_bundles_unref(more);
    fake_ca_free(&ca);
    fake_ca_free(&other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_same)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
