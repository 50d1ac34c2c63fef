/* Who gets entry bundles compressed. What is served: test_server.c and integration/test_audit.sh. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "api/internal.h"

static void accept_encoding(void **state)
{
    static const char *const yes[] = {"gzip", "GZIP", "deflate, gzip;q=1.0, *;q=0.5", "br,gzip", " gzip ;q=0.1", "identity;q=0, gzip"};
    static const char *const no[] = {"", "deflate", "gzip;q=0", "gzip; q=0.0", "xgzip", "gzipx", ",,,", "br;q=1.0", "deflate;q=gzip"};
    for (size_t i = 0; i < sizeof yes / sizeof *yes; i++)
        if (!tiles_accept_gzip(yes[i]))
            fail_msg("not taken: \"%s\"", yes[i]);
    for (size_t i = 0; i < sizeof no / sizeof *no; i++)
        if (tiles_accept_gzip(no[i]))
            fail_msg("taken: \"%s\"", no[i]);
    assert_false(tiles_accept_gzip(NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(accept_encoding)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
