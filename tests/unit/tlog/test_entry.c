/* Entries and their extensions. */
#include "tests/unit/tlog/support.h"

#define V(s) ((struct bytes){(const uint8_t *)(s), sizeof(s) - 1})
#define D32 "0123456789abcdef0123456789abcdef"

static int parse(const char *p, size_t len, struct err *e)
{
    struct tlog_entry t;
    uint8_t *exact = malloc(len ? len : 1); /* so that a read past the end is seen */
    memcpy(exact, p, len);
    int ret = tlog_entry_parse(&t, exact, len, e);
    free(exact);
    return ret;
}
#define PARSE(s) parse(s, sizeof(s) - 1, &e)

static void envelope(void **state)
{
    struct err e;
    assert_int_equal(PARSE("\0\0\0\0"), 0);           /* null entry */
    assert_int_equal(PARSE("\0\0\0\1x"), 0);          /* certificate, body not looked at here */
    assert_int_equal(PARSE("\0\0\xff\x80"), 0);       /* of another type */
    assert_int_equal(PARSE("\0\4\xff\1\0\0\0\0"), 0); /* an empty extension */
    assert_int_equal(PARSE("\0\x0a\xff\1\0\1a\xff\2\0\1b\0\0"), 0);
    assert_int_equal(PARSE(""), -1);
    assert_rule(e, "entry-format");
    assert_int_equal(PARSE("\0\0\0"), -1);
    assert_int_equal(PARSE("\0\1\0\0"), -1);
    assert_int_equal(PARSE("\0\0\0\0x"), -1);                      /* null with a body */
    assert_int_equal(PARSE("\0\0\0\1"), -1);                       /* certificate without */
    assert_int_equal(PARSE("\0\3\xff\1\0\0\0"), -1);               /* half an extension */
    assert_int_equal(PARSE("\0\4\xff\1\0\1\0\0"), -1);             /* data past the list */
    assert_int_equal(PARSE("\0\x08\xff\2\0\0\xff\1\0\0\0\0"), -1); /* descending */
    assert_int_equal(PARSE("\0\x08\xff\1\0\0\xff\1\0\0\0\0"), -1); /* twice */
    char *big = calloc(1, TLOG_ENTRY_MAX + 1);
    big[3] = 1;
    assert_int_equal(parse(big, TLOG_ENTRY_MAX, &e), 0);
    assert_int_equal(parse(big, TLOG_ENTRY_MAX + 1, &e), -1);
    assert_int_equal(e.code, ERR_TOO_LARGE);
    free(big);
}

static void extensions_round_trip(void **state)
{
    struct tlog_ext_info x = {.attestor = V("join_token"),
                              .evidence = V(D32),
                              .entry_id = V("e-42"),
                              .entry_revision = 0x0102030405060708,
                              .requester = V("spiffe://example.org/agent"),
                              .session = V(D32)},
                         y;
    struct buf list, entry;
    struct tlog_entry t = {.type = TLOG_ENTRY_TBS_CERT, .body = V("body")}, u;
    struct err e;
    buf_init(&list, 4096);
    buf_init(&entry, TLOG_ENTRY_MAX);
    tlog_ext_write(&x, &list);
    t.extensions = view(&list);
    tlog_entry_write(&t, &entry);
    assert_ok(tlog_entry_parse(&u, entry.p, entry.len, &e), e);
    assert_int_equal(u.type, 1);
    assert_true(bytes_eq_str(u.body, "body"));
    assert_ok(tlog_entry_extensions(&y, u.extensions, &e), e);
    assert_true(bytes_eq_str(y.attestor, "join_token"));
    assert_true(bytes_eq_str(y.evidence, D32));
    assert_true(bytes_eq_str(y.entry_id, "e-42"));
    assert_true(y.entry_revision == x.entry_revision);
    assert_true(bytes_eq_str(y.requester, "spiffe://example.org/agent"));
    assert_true(bytes_eq_str(y.session, D32));
    buf_reset(&list);
    memset(&x, 0, sizeof x);
    tlog_ext_write(&x, &list);
    assert_int_equal(list.len, 0);
    assert_ok(tlog_entry_extensions(&y, view(&list), &e), e);
    assert_int_equal(y.attestor.len, 0);
    buf_free(&list);
    buf_free(&entry);
}

static void extensions_refused(void **state)
{
    static const struct bytes bad[] = {
        V("\xff\1\0\0"),                   /* empty text */
        V("\xff\1\0\3a\nb"),               /* control character */
        V("\xff\2\0\1x"),                  /* short digest */
        V("\xff\3\0\7\0\0\0\0\0\0\0"),     /* short revision */
        V("\xff\3\0\x08\0\0\0\0\0\0\0\1"), /* revision without id */
        V("\xff\4\0\1\x7f"),               /* control character */
        V("\xff\5\0\0"),                   /* empty thumbprint */
        V("\xff\1\0\1a\xff\1\0\1a"),       /* twice */
        V("\xff\1\0"),                     /* cut */
    };
    struct tlog_ext_info x;
    struct err e;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(tlog_entry_extensions(&x, bad[i], &e), -1);
        assert_rule(e, "entry-format");
    }
    assert_ok(tlog_entry_extensions(&x, V("\xff\x70\0\1z"), &e), e); /* of a later version */
}

static void write_limits(void **state)
{
    struct buf list;
    struct tlog_ext_info x = {.attestor = V("a")};
    uint8_t *big = calloc(1, 70000);
    buf_init(&list, 1 << 20);
    x.entry_id = (struct bytes){big, 65530};
    tlog_ext_write(&x, &list);
    assert_true(list.failed);
    buf_free(&list);
    free(big);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(envelope),
        cmocka_unit_test(extensions_round_trip),
        cmocka_unit_test(extensions_refused),
        cmocka_unit_test(write_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
