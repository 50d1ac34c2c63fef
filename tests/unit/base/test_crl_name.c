/* Names of CRLs: one form each, and every key in one list of each number of shards. */
#include "base/crl_name.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

static void keys(void **state)
{
    uint8_t hash[32] = {0xb5, 0xc0}; /* 1011 0101 11… */
    for (unsigned shards = 1, bits = 0; shards <= CRL_SHARDS_MAX; shards *= 2, bits++) {
        struct crl_name n = crl_name_of(shards, hash);
        assert_true(crl_name_good(n));
        assert_int_equal(n.shards, shards);
        assert_int_equal(n.shard, 0xb5c0u >> (16 - bits));
    }
    memset(hash, 0xff, sizeof hash);
    assert_int_equal(crl_name_of(CRL_SHARDS_MAX, hash).shard, CRL_SHARDS_MAX - 1);
}

static void round_trip(void **state)
{
    char url[CRL_URL_MAX], name[32];
    for (unsigned shards = 1; shards <= CRL_SHARDS_MAX; shards *= 2)
        for (unsigned shard = 0; shard < shards; shard++) {
            struct crl_name n;
            size_t len = crl_url_write(url, "https://ca.example.org/mayfly", (struct crl_name){shards, shard});
            assert_true(crl_url_parse(&n, url, len));
            assert_true(n.shards == shards && n.shard == shard);
            snprintf(name, sizeof name, "%u-%u.crl", shards, shard);
            assert_true(crl_name_parse(&n, name, strlen(name)));
            assert_true(n.shards == shards && n.shard == shard);
        }
}

static void refused(void **state)
{
    static const char *const names[] = {"",          "16",         "16-",        "16-3",        "16-3.cr",     "16-3.crlx",
                                        "16-16.crl", "3-0.crl",    "0-0.crl",    "016-3.crl",   "16-03.crl",   "16-+3.crl",
                                        " 16-3.crl", "16 -3.crl",  "16--3.crl",  "2048-0.crl",  "16-3.crl ",   "99999999-1.crl",
                                        "16-3.CRL",  "1024-1024.crl", "4294967312-3.crl"};
    static const char *const urls[] = {"", "/", "16-3.crl", "/16-3.crl", "crl/16-3.crl", "https://a/crls/16-3.crl", "https://a/crl/16-3.crl/"};
    struct crl_name n;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        assert_false(crl_name_parse(&n, names[i], strlen(names[i])));
    for (size_t i = 0; i < sizeof urls / sizeof *urls; i++)
        assert_false(crl_url_parse(&n, urls[i], strlen(urls[i])));
    assert_false(crl_name_parse(&n, "16-3.crl\0x", 10));
    char long_url[CRL_URL_MAX + 1], out[CRL_URL_MAX];
    memset(long_url, 'a', CRL_URL_MAX);
    long_url[CRL_URL_MAX] = 0;
    assert_int_equal(crl_url_write(out, long_url, (struct crl_name){1, 0}), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(keys), cmocka_unit_test(round_trip), cmocka_unit_test(refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
