/* Which certificates a CRL names: each once, in order, until they are over; operators' first when there
 * is no room for all. */
#include "api/crl_found.h"
#include "base/config.h"
#include "ra/ra.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#define NOW 1000000

static void add(struct crl_found *f, uint64_t serial, int64_t time, struct crl_name n, bool client)
{
    struct err e = {0};
    const struct crl_cert c = {.serial = serial, .time = time, .not_after = NOW + 100, .name = n, .reason = 1, .client = client};
    assert_int_equal(crl_found_add(f, &c, &e), 0);
}

static size_t selected(struct crl_found *f, struct crl_name n, int64_t now, struct ca_crl_revoked *r, size_t *left_out)
{
    struct err e = {0};
    struct buf b;
    buf_init(&b, IPC_FRAME_MAX);
    long count = crl_found_select(f, n, now, &b, left_out, &e);
    assert_true(count >= 0);
    struct cur c = cur_of(b.p, b.len);
    size_t i = 0;
    while (ca_crl_next(&c, &r[i]))
        i++;
    assert_int_equal(i, count);
    buf_free(&b);
    return i;
}

static struct ca_crl_revoked r[CA_CRL_REVOKED_MAX + 1];
static const struct crl_name a = {16, 3}, b = {16, 4}, c = {32, 3};

static void select_some(void **state)
{
    struct crl_found f;
    size_t left;
    crl_found_init(&f);
    add(&f, 9, 50, a, false);
    add(&f, 5, 60, a, false);
    add(&f, 7, 60, b, false);
    add(&f, 9, 40, a, true); /* again: the first revocation counts */
    add(&f, 8, 60, c, false);
    assert_int_equal(selected(&f, a, NOW, r, &left), 2);
    assert_true(r[0].serial == 5 && r[1].serial == 9 && r[1].time == 40 && left == 0);
    assert_int_equal(selected(&f, b, NOW, r, &left), 1);
    assert_int_equal(selected(&f, c, NOW, r, &left), 1);
    assert_int_equal(selected(&f, (struct crl_name){1, 0}, NOW, r, &left), 0);
    assert_int_equal(selected(&f, a, NOW + 100 + CRL_KEPT_AFTER - 1, r, &left), 2);
    assert_int_equal(selected(&f, a, NOW + 100 + CRL_KEPT_AFTER, r, &left), 0);
    crl_found_free(&f);
}

/* A client that has a great many of its own certificates revoked crowds nobody out whom an operator named,
 * before or after; nor by having revoked that one, too. */
static void crowded(void **state)
{
    struct crl_found f;
    size_t left;
    crl_found_init(&f);
    add(&f, 1, 10, a, false);
    add(&f, 200000, NOW - 1, a, true);
    add(&f, 200000, NOW, a, false);
    for (uint64_t i = 0; i < CA_CRL_REVOKED_MAX + 50; i++)
        add(&f, 1000 + i, 20 + (int64_t)i, a, true);
    add(&f, 100000, NOW, a, false);
    assert_int_equal(selected(&f, a, NOW, r, &left), CA_CRL_REVOKED_MAX);
    assert_int_equal(left, 53);
    assert_true(r[0].serial == 1 && r[CA_CRL_REVOKED_MAX - 2].serial == 100000);
    assert_true(r[CA_CRL_REVOKED_MAX - 1].serial == 200000 && r[CA_CRL_REVOKED_MAX - 1].time == NOW - 1);
    for (size_t i = 1; i < CA_CRL_REVOKED_MAX; i++)
        assert_true(r[i].serial > r[i - 1].serial);
    crl_found_free(&f);
}

/* The same ones over and over take no more room. */
static void bounded(void **state)
{
    struct crl_found f;
    size_t left;
    crl_found_init(&f);
    for (int round = 0; round < 200; round++)
        for (uint64_t i = 1; i <= 1000; i++)
            add(&f, i, 10, a, false);
    assert_true(f.n <= 4096);
    assert_int_equal(selected(&f, a, NOW, r, &left), 1000);
    crl_found_free(&f);
}

/* RFC 5280 section 3.3: a certificate that has ended is still listed when its list is made next, at half of the
 * longest life, even if the signer is then away for a while. */
static void kept_for_the_next(void **state)
{
    char yaml[512];
    for (int life = 2 * (CRL_KEPT_AFTER - 900); life <= 2 * CRL_KEPT_AFTER; life += 1800) {
        struct err e = {0};
        int n = snprintf(yaml, sizeof yaml,
                         "trust_domain: test.example\nlisten: 127.0.0.1:1\nnames: [localhost]\n"
                         "token: {uri: \"pkcs11:token=x\", module: /nowhere, pin: {file: pin}}\n"
                         "log: {dir: log, origin: test.example/log1, number: 1}\ncrl: {lifetime: %d}\n",
                         life);
        struct config *config = config_parse(yaml, (size_t)n, "/srv/mayfly", &e);
        assert_string_equal(e.rule, life < 2 * CRL_KEPT_AFTER ? "" : "config-range");
        config_free(config);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(select_some), cmocka_unit_test(crowded), cmocka_unit_test(bounded),
                                       cmocka_unit_test(kept_for_the_next)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
