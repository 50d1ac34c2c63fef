#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "tests/unit/ra/fixture.h"

/* Who may search by the SVID shown in TLS. The signer of these tests makes certificates without a log, so
 * that none gets as far as the permission: tests/integration/test_access.sh goes that way. */

static struct fx x;

static void refused(const struct bytes *chain, size_t n, const char *rule, const char *words)
{
    struct err e = {0};
    assert_int_equal(ra_auditor(x.ra, chain, n, &e), -1);
    if (strcmp(e.rule, rule) != 0 || !strstr(e.msg, words))
        fail_msg("[%s] %s, not [%s] %s", e.rule, e.msg, rule, words);
    assert_int_equal(e.code, ERR_UNAUTHORIZED);
}

static void test_none(void **state)
{
    refused(NULL, 0, "audit-certificate", "--cert svid.pem");
}

static void leaf_for(struct buf *der, const struct pki *p, const char *id, int64_t from, int64_t to)
{
    struct err e = {0};
    char san[2200];
    struct key *k = key_generate(KEY_P256, &e);
    snprintf(san, sizeof san, "critical,URI:%s", id);
    struct pki_leaf l = pki_svid(san);
    l.not_before = clock_wall() + from;
    l.not_after = clock_wall() + to;
    pki_leaf_der(der, p, k, &l);
    key_free(k);
}

static void shown(const struct pki *p, const char *id, int64_t from, int64_t to, const char *words)
{
    struct buf leaf;
    leaf_for(&leaf, p, id, from, to);
    const struct bytes chain[] = {{leaf.p, leaf.len}, {p->issuing_der.p, p->issuing_der.len}};
    refused(chain, 2, "audit-certificate", words);
    buf_free(&leaf);
}

static void test_shown(void **state)
{
    struct pki other;
    pki_new(&other, "another root");
    shown(&other, WEB, -10, 300, "does not chain");
    shown(&x.pki, WEB, -600, -300, "expired");
    shown(&x.pki, WEB, 300, 600, "not valid yet");
    shown(&x.pki, "spiffe://example.org/mayfly/server", -10, 300, "authority's own");
    shown(&x.pki, "spiffe://other.org/web", -10, 300, "no workload of ours");
    pki_free(&other);
}

/* Signed by our key, and in no log: what a signer that was taken over would make. */
static void test_unlogged(void **state)
{
    make_entry(&x, WEB, NULL, NULL);
    shown(&x.pki, WEB, -5, 300, "no stapled log proof");
}

static void test_garbage(void **state)
{
    static const uint8_t bytes[] = "not a certificate";
    struct bytes chain[9];
    for (size_t i = 0; i < 9; i++)
        chain[i] = (struct bytes){bytes, sizeof bytes};
    refused(chain, 1, "audit-certificate", "certificate 0");
    refused(chain, 9, "audit-certificate", "9 certificates");
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
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_none), cmocka_unit_test(test_shown),
                                       cmocka_unit_test(test_unlogged), cmocka_unit_test(test_garbage)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
