/* Wire format, gRPC framing, and the requests made of them. */
#include "workload/grpc.h"
#include "workload/limits.h"
#include "workload/request.h"
#include "workload/wire.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define B(s) ((struct bytes){(const uint8_t *)(s), sizeof(s) - 1})

static void test_good_and_bad(void **state)
{
    static const struct {
        struct bytes b;
        bool good;
    } list[] = {
        {B(""), true},
        {B("\x08\x00"), true},
        {B("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), true},
        {B("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"), false}, /* beyond 64 bits */
        {B("\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00"), false},
        {B("\x08"), false},
        {B("\x08\x80"), false},
        {B("\x00\x00"), false}, /* field 0 */
        {B("\x0a\x02z"), false},
        {B("\x0a\x01z"), true},
        {B("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), false},
        {B("\x09\x01\x02\x03\x04\x05\x06\x07\x08"), true},
        {B("\x09\x01\x02\x03\x04\x05\x06\x07"), false},
        {B("\x0d\x01\x02\x03\x04"), true},
        {B("\x0d\x01\x02\x03"), false},
        {B("\x0b\x0c"), false}, /* a group */
        {B("\x0e"), false},
        {B("\x0f"), false},
        {B("\xf8\xff\xff\xff\x0f\x01"), true},  /* the greatest field number */
        {B("\x80\x80\x80\x80\x10\x01"), false}, /* one more */
        {B("\x88\x80\x80\x80\x00\x01"), true},  /* padded to five bytes, as some writers do */
        {B("\x88\x80\x80\x80\x80\x00\x01"), false},
        {B("\x0a\x81\x80\x80\x80\x00z"), true},
        {B("\x0a\x81\x80\x80\x80\x80\x00z"), false},
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        if (wire_good(list[i].b.p, list[i].b.len) != list[i].good)
            fail_msg("case %zu", i);
    struct cur c = cur_of("\x08\x96\x01\x11\x01\x00\x00\x00\x00\x00\x00\x80\x1d\x04\x03\x02\x01", 17);
    struct wire_field f;
    assert_true(wire_next(&c, &f) && f.number == 1 && f.value == 150);
    assert_true(wire_next(&c, &f) && f.number == 2 && f.value == 0x8000000000000001);
    assert_true(wire_next(&c, &f) && f.number == 3 && f.value == 0x01020304);
    assert_false(wire_next(&c, &f));
    assert_true(cur_done(&c));
}

static void test_text(void **state)
{
    static const struct {
        struct bytes b;
        bool good;
    } list[] = {
        {B("plain"), true},         {B(""), true},          {B("d\xc3\xa9j\xc3\xa0"), true}, {B("a\0b"),
                                                                                              false},
        {B("\xff"), false},         {B("\xc0\x80"), false}, {B("\xed\xa0\x80"),
                                                             false},      {B("\xf4\x90\x80\x80"), false},
        {B("\xe2\x82"), false},     {B("\xe2\x82\xac"), true}, {B("\xf0\x9f\x98\x80"),
                                                                true}, {B("\xf0\x8f\xbf\xbf"), false},
        {B("\xe0\x9f\xbf"), false}, {B("\x80"), false},     {B("\xf5\x80\x80\x80"), false},
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        if (wire_is_text(&(struct wire_field){.type = WIRE_BYTES, .bytes = list[i].b}) != list[i].good)
            fail_msg("case %zu", i);
    assert_false(wire_is_text(&(struct wire_field){.type = WIRE_VARINT}));
}

static void test_put(void **state)
{
    static const size_t sizes[] = {0, 1, 127, 128, 16383, 16384, 70000};
    static uint8_t data[70000];
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct buf b;
        struct wire_field f;
        buf_init(&b, 100000);
        wire_put(&b, 5, data, sizes[i]);
        struct cur c = cur_of(b.p, b.len);
        assert_true(wire_next(&c, &f) && f.number == 5 && f.bytes.len == sizes[i] && cur_done(&c));
        buf_free(&b);
    }
}

static void test_framing(void **state)
{
    static const uint8_t stream[] = {0, 0, 0, 0, 3, 'a', 'b', 'c', 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 'z', 1, 0, 0,
                                     0, 0};
    for (size_t piece = 1; piece <= sizeof stream; piece++) {
        struct grpc_in in;
        size_t messages = 0;
        enum grpc_fed fed = GRPC_MORE;
        grpc_in_init(&in, 3);
        for (size_t at = 0; at < sizeof stream && fed != GRPC_COMPRESSED; at += piece) {
            const uint8_t *p = stream + at;
            size_t n = sizeof stream - at < piece ? sizeof stream - at : piece;
            while (n > 0 && fed != GRPC_COMPRESSED) {
                fed = grpc_in_feed(&in, &p, &n);
                if (fed != GRPC_MESSAGE)
                    continue;
                static const char *const want[] = {"abc", "", "z"};
                assert_int_equal(in.msg.len, strlen(want[messages]));
                if (in.msg.len)
                    assert_memory_equal(in.msg.p, want[messages], in.msg.len);
                messages++;
                grpc_in_next(&in);
                assert_true(grpc_in_empty(&in));
            }
        }
        assert_int_equal(messages, 3);
        assert_int_equal(fed, GRPC_COMPRESSED);
        grpc_in_free(&in);
    }
    struct grpc_in in;
    const uint8_t large[] = {0, 0, 0, 0, 4}, *p = large;
    size_t n = sizeof large;
    grpc_in_init(&in, 3);
    assert_int_equal(grpc_in_feed(&in, &p, &n),
                     GRPC_TOO_LARGE); /* on the prefix's word, before a byte came */
    assert_int_equal(in.msg.cap, 0);
    grpc_in_free(&in);
}

static void test_timeouts(void **state)
{
    static const struct {
        const char *text;
        int64_t ms;
    } list[] = {{"1S", 1000}, {"5m", 5}, {"1500u", 1}, {"7n", 1}, {"2M", 120000}, {"1H", 3600000},
                {"99999999H", 359999996400000},
                {"0S", 1},    {"", -1},  {"S", -1},    {"5", -1}, {"5s", -1},     {"-5S",
                                                                                   -1},     {"123456789S",
                                                                                             -1},
                {"1.5S", -1}, {" 1S", -1}};
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        if (grpc_timeout_ms((const uint8_t *)list[i].text, strlen(list[i].text)) != list[i].ms)
            fail_msg("%s", list[i].text);
}

static void test_messages(void **state)
{
    struct buf b;
    char back[64], cut[8];
    static char longest[LIMIT_STATUS_MESSAGE + 100];
    buf_init(&b, 4096);
    grpc_escape(&b, "50% d\xc3\xa9\n~");
    assert_string_equal(buf_cstr(&b), "50%25 d%C3%A9%0A~");
    grpc_unescape(back, sizeof back, b.p, b.len);
    assert_string_equal(back, "50% d\xc3\xa9\n~");
    grpc_unescape(cut, sizeof cut, b.p, b.len);
    assert_string_equal(cut, "50% d\xc3\xa9");
    grpc_unescape(back, sizeof back, (const uint8_t *)"%zz%4%00%", 9);
    assert_string_equal(back, "%zz%4?%");
    memset(longest, 'x', sizeof longest - 1);
    buf_reset(&b);
    grpc_escape(&b, longest);
    assert_int_equal(b.len, LIMIT_STATUS_MESSAGE);
    buf_free(&b);
}

static void test_jwt_requests(void **state)
{
    struct request_jwt r;
    const char *why;
    assert_int_equal(request_jwt(&r, B("\x0a\x01" "a" "\x12\x0e" "spiffe://td/wl" "\x0a\x02" "bc" "\x20\x05"),
                                 &why), WL_OK);
    assert_int_equal(r.n, 2);
    assert_string_equal(r.audience[0], "a");
    assert_string_equal(r.audience[1], "bc");
    assert_string_equal(r.spiffe_id, "spiffe://td/wl");
    assert_string_equal(r.svid, "");
    request_jwt_free(&r);
    static const struct {
        struct bytes b;
        enum wl_status status;
    } list[] = {
        {B(""), WL_INVALID_ARGUMENT},
        {B("\x0a\x00"), WL_INVALID_ARGUMENT},
        {B("\x0a\x01" "a" "\x0a\x00"), WL_INVALID_ARGUMENT},
        {B("\x0a\x01" "a" "\x12\x01" "x"), WL_INVALID_ARGUMENT},
        {B("\x08\x01"), WL_INTERNAL},
        {B("\x0a\x05" "a"), WL_INTERNAL},
        {B("\x0a\x01\xff"), WL_INTERNAL},
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        if (request_jwt(&r, list[i].b, &why) != list[i].status)
            fail_msg("case %zu", i);
    char many[2 * (LIMIT_AUDIENCES + 1) + LIMIT_AUDIENCES + 2];
    for (size_t i = 0; i <= LIMIT_AUDIENCES; i++)
        memcpy(many + 3 * i, "\x0a\x01" "a", 3);
    assert_int_equal(request_jwt(&r, (struct bytes){(uint8_t *)many, 3 * LIMIT_AUDIENCES}, &why), WL_OK);
    request_jwt_free(&r);
    assert_int_equal(request_jwt(&r, (struct bytes){(uint8_t *)many, 3 * (LIMIT_AUDIENCES + 1)}, &why),
                     WL_INVALID_ARGUMENT);
    assert_int_equal(request_validate(&r, B("\x0a\x01" "a" "\x12\x03" "x.y"), &why), WL_OK);
    assert_string_equal(r.audience[0], "a");
    assert_string_equal(r.svid, "x.y");
    request_jwt_free(&r);
    assert_int_equal(request_validate(&r, B("\x0a\x01" "a"), &why), WL_INVALID_ARGUMENT);
    assert_int_equal(request_validate(&r, B("\x12\x01" "a"), &why), WL_INVALID_ARGUMENT);
}

static void test_sds_requests(void **state)
{
    struct request_sds r, q;
    const char *why;
    assert_int_equal(request_sds(&r,
                                 B("\x12\x02\x0a\x00\x1a\x01" "a" "\x1a\x02" "bc" "\x2a\x03" "n-1" "\x32\x05\x08\x03\x12\x01" "e"), &why), WL_OK);
    assert_int_equal(r.names->n, 2);
    const char *one = names_next(r.names, NULL), *two = names_next(r.names, one);
    assert_string_equal(one, "a");
    assert_string_equal(two, "bc");
    assert_null(names_next(r.names, two));
    assert_true(bytes_eq_str(r.nonce, "n-1"));
    assert_true(r.refused && bytes_eq_str(r.error, "e"));
    assert_int_equal(request_sds(&q, B("\x1a\x02" "bc" "\x1a\x01" "a"), &why), WL_OK);
    assert_false(names_equal(r.names, q.names));
    assert_true(names_equal(r.names, r.names));
    free(r.names);
    free(q.names);
    assert_int_equal(request_sds(&r, B(""), &why), WL_OK);
    assert_int_equal(r.names->n, 0);
    assert_null(names_next(r.names, NULL));
    free(r.names);
    assert_int_equal(request_sds(&r, B("\x1a\x00"), &why), WL_INVALID_ARGUMENT);
    assert_int_equal(request_sds(&r, B("\x22\x01x"), &why), WL_INVALID_ARGUMENT);
    assert_int_equal(request_sds(&r, B("\x32\x02\x0a\x05"), &why), WL_INTERNAL);
    assert_int_equal(request_sds(&r, B("\x30\x01"), &why), WL_INTERNAL);
    assert_int_equal(request_sds(&r, B("\x1a\x03" "a\0b"), &why), WL_INTERNAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_and_bad), cmocka_unit_test(test_text),     cmocka_unit_test(test_put),
        cmocka_unit_test(test_framing),      cmocka_unit_test(test_timeouts), cmocka_unit_test(test_messages),
        cmocka_unit_test(test_jwt_requests), cmocka_unit_test(test_sds_requests),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
