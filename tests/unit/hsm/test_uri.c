/* RFC 7512 URIs. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "hsm/internal.h"

static void accepts(void **state)
{
    (void)state;
    struct err e = {0};
    struct hsm_uri u;
    assert_int_equal(hsm_uri_parse(&u, NULL, &e), 0);
    assert_int_equal(u.has, 0);
    assert_int_equal(hsm_uri_parse(&u, "pkcs11:", &e), 0);
    assert_int_equal(u.has, 0);
    assert_int_equal(hsm_uri_parse(&u,
                                   "PKCS11:token=My%20token%3b%C3%a9;serial=DECC0401648;manufacturer="
                                   "a&b;model=m(1);slot-id=327?module-path=/usr/lib/x.so",
                                   &e), 0);
    assert_string_equal(u.token, "My token;\xc3\xa9");
    assert_string_equal(u.serial, "DECC0401648");
    assert_string_equal(u.manufacturer, "a&b");
    assert_string_equal(u.model, "m(1)");
    assert_int_equal(u.slot_id, 327);
    assert_string_equal(u.module_path, "/usr/lib/x.so");
    assert_int_equal(hsm_uri_parse(&u, "pkcs11:?module-path=/a%20b.so", &e), 0);
    assert_string_equal(u.module_path, "/a b.so");
}

static void refuses(void **state)
{
    (void)state;
    static const struct {
        const char *uri, *word;
    } bad[] = {
        {"token=x", "pkcs11:"},
        {"http://x", "pkcs11:"},
        {"pkcs11:token", "'='"},
        {"pkcs11:;", "'='"},
        {"pkcs11:token=a;", "ends in ';'"},
        {"pkcs11:token=a;;serial=b", "'='"},
        {"pkcs11:token=a;token=b", "twice"},
        {"pkcs11:token=a b", "0x20"},
        {"pkcs11:token=a/b", "0x2f"},
        {"pkcs11:token=a#b", "0x23"},
        {"pkcs11:token=\xc3\xa9", "0xc3"},
        {"pkcs11:token=a%", "hex"},
        {"pkcs11:token=a%2", "hex"},
        {"pkcs11:token=a%zz", "hex"},
        {"pkcs11:token=a%00b", "control"},
        {"pkcs11:token=a%0ab", "control"},
        {"pkcs11:token=aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffffggggg", "longer"},
        {"pkcs11:slot-id=", "decimal"},
        {"pkcs11:slot-id=-1", "decimal"},
        {"pkcs11:slot-id=0x1", "decimal"},
        {"pkcs11:slot-id=99999999999999999999", "decimal"},
        {"pkcs11:module-path=/x", "0x2f"},
        {"pkcs11:module-path=x", "after the '?'"},
        {"pkcs11:?token=x", "before the '?'"},
        {"pkcs11:object=mayfly-root", "labels"},
        {"pkcs11:id=%01", "labels"},
        {"pkcs11:type=private", "labels"},
        {"pkcs11:colour=red", "colour"},
        {"pkcs11:token=a?module-name=softhsm", "module-path"},
        {"pkcs11:token=a?pin-source=/etc/pin", "PIN"},
        {"pkcs11:token=a?module-path=/x&", "ends in '&'"},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct err e = {0};
        struct hsm_uri u;
        if (hsm_uri_parse(&u, bad[i].uri, &e) == 0)
            fail_msg("accepted: %s", bad[i].uri);
        assert_int_equal(e.code, ERR_CONFIG);
        assert_string_equal(e.rule, "hsm-uri");
        if (bad[i].word[0] != '0' && !strstr(e.msg, bad[i].word))
            fail_msg("%s: message without %s: %s", bad[i].uri, bad[i].word, e.msg);
    }
}

static void pin_value_is_refused_and_not_repeated(void **state)
{
    (void)state;
    static const char *const bad[] = {"pkcs11:token=a?pin-value=s3cret", "pkcs11:pin-value=s3cret",
                                      "pkcs11:?pin-value=s3cret&module-path=/x",
                                      "pkcs11:token=s3cret s3cret?pin-value=s3cret"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct err e = {0};
        struct hsm_uri u;
        assert_int_equal(hsm_uri_parse(&u, bad[i], &e), -1);
        assert_string_equal(e.rule, "hsm-uri");
        assert_null(strstr(e.msg, "s3cret"));
    }
}

static void matches(void **state)
{
    (void)state;
    struct err e = {0};
    struct hsm_uri u;
    struct hsm_token_id t = {.label = "a b", .manufacturer = "M", .model = NULL, .serial = "1",
                             .slot_id = 7};
    static const struct {
        const char *uri;
        bool yes;
    } cases[] = {{"pkcs11:", true}, {"pkcs11:token=a%20b", true}, {"pkcs11:token=a", false},
                 {"pkcs11:token=a%20b%20", false}, {"pkcs11:token=a%20b;serial=1", true},
                 {"pkcs11:token=a%20b;serial=2", false}, {"pkcs11:slot-id=7", true},
                 {"pkcs11:slot-id=0", false}, {"pkcs11:model=", true}, {"pkcs11:model=x", false},
                 {"pkcs11:manufacturer=m", false}, {"pkcs11:manufacturer=M", true}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(hsm_uri_parse(&u, cases[i].uri, &e), 0);
        if (hsm_uri_match(&u, &t) != cases[i].yes)
            fail_msg("%s", cases[i].uri);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepts),
        cmocka_unit_test(refuses),
        cmocka_unit_test(pin_value_is_refused_and_not_repeated),
        cmocka_unit_test(matches),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
