#include "base/err.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void test_set(void **state)
{
    struct err e = {0};
    assert_int_equal(err_set(&e, ERR_BAD_CSR, "csr-san", "two names: %s, %d", "a", 7), -1);
    assert_int_equal(e.code, ERR_BAD_CSR);
    assert_string_equal(e.rule, "csr-san");
    assert_string_equal(e.msg, "two names: a, 7");
    /* the object's own text as an argument */
    err_set(&e, ERR_IO, e.rule, "<%s>", e.msg);
    assert_string_equal(e.msg, "<two names: a, 7>");
    assert_string_equal(e.rule, "csr-san");
    err_clear(&e);
    assert_int_equal(e.code, ERR_NONE);
    assert_string_equal(e.msg, "");
}

static void test_errno_kept_and_told(void **state)
{
    struct err e = {0};
    errno = ENOSPC;
    assert_int_equal(err_errno(&e, "store-write", "cannot write %s", "x"), -1);
    assert_int_equal(errno, ENOSPC);
    assert_int_equal(e.code, ERR_IO);
    assert_string_equal(e.msg, "cannot write x: No space left on device");
    /* a long context loses its end, never the cause */
    char path[1000];
    memset(path, 'p', sizeof path - 1);
    path[sizeof path - 1] = 0;
    errno = ENOSPC;
    err_errno(&e, "store-write", "cannot write %s", path);
    assert_non_null(strstr(e.msg, ": No space left on device"));
}

static void test_wrap(void **state)
{
    struct err e = {0};
    err_set(&e, ERR_HSM, "hsm-pin", "wrong PIN");
    assert_int_equal(err_wrap(&e, "token %s", "t1"), -1);
    assert_string_equal(e.msg, "token t1: wrong PIN");
    assert_int_equal(e.code, ERR_HSM);
    assert_string_equal(e.rule, "hsm-pin");
    for (int i = 0; i < 200; i++)
        err_wrap(&e, "again and again");
    assert_true(strlen(e.msg) < sizeof e.msg);
}

static void test_cut_between_characters(void **state)
{
    for (size_t pad = 470; pad < 482; pad++) {
        char text[600];
        struct err e = {0};
        memset(text, 'a', pad);
        strcpy(text + pad, "\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac"); /* euro signs */
        err_set(&e, ERR_IO, "x", "%s", text);
        size_t n = strlen(e.msg);
        assert_true(n < sizeof e.msg && n >= sizeof e.msg - 4);
        assert_true(n <= pad || (n - pad) % 3 == 0);
    }
    char rule[200];
    struct err e = {0};
    memset(rule, 'r', sizeof rule - 1);
    rule[sizeof rule - 1] = 0;
    err_set(&e, ERR_IO, rule, "x");
    assert_int_equal(strlen(e.rule), sizeof e.rule - 1);
}

static void test_names(void **state)
{
    for (int i = 0; i < ERR_CODES; i++) {
        assert_true(strlen(err_code_name((enum err_code)i)) > 0);
        for (int j = 0; j < i; j++)
            assert_string_not_equal(err_code_name((enum err_code)i),
                                    err_code_name((enum err_code)j));
    }
    assert_string_equal(err_code_name(ERR_MALFORMED), "malformed");
    assert_string_equal(err_code_name(ERR_UNAVAILABLE), "unavailable");
    assert_string_equal(err_code_name((enum err_code)999), "internal");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_set),   cmocka_unit_test(test_errno_kept_and_told),
        cmocka_unit_test(test_wrap),  cmocka_unit_test(test_cut_between_characters),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
