/* JSON that parsers read, CSV that spreadsheets do not run. */
#include "unit/audit/house.h"
#include "audit/write.h"
#include "base/json.h"

static struct audit_entry t;
static struct buf out;

static void entry(enum audit_format format, const struct buf *raw)
{
    static const struct tlog_hash path[2] = {{{1}}, {{2}}};
    struct audit_writer w = {.out = &out, .format = format, .log_number = 1};
    buf_init(&out, 1 << 20);
    audit_entry_decode(&t, 5, view(raw));
    audit_write_entry(&w, &(struct audit_found){&t, path, 2});
    assert_non_null(buf_cstr(&out));
}

static json_t *parsed(void)
{
    struct err e;
    json_t *doc = json_parse(out.p, out.len, out.len, &e);
    if (!doc)
        fail_msg("%s: %s", e.msg, buf_cstr(&out));
    return doc;
}

static void csv_is(const struct buf *raw, const char *line)
{
    entry(AUDIT_CSV, raw);
    assert_string_equal(buf_cstr(&out), line);
    buf_free(&out);
}

static void certificate(void **state)
{
    struct buf raw;
    buf_init(&raw, 4096);
    cert_entry(&raw, &(struct cert_want){.id = "spiffe://example.org/a", .dns = "a.example.org", .agent = "spiffe://example.org/agent",
                                         .attestor = "join_token", .entry = "e1", .revision = 3, .from = START, .to = START + 60, .key = 0xab});
    entry(AUDIT_JSON, &raw);
    json_t *doc = parsed();
    assert_string_equal(json_maybe_str(doc, "outcome"), "issued");
    assert_string_equal(json_maybe_str(doc, "spiffe_id"), "spiffe://example.org/a");
    assert_string_equal(json_maybe_str(doc, "serial"), "1000000000005");
    assert_int_equal(json_integer_value(json_object_get(doc, "not_after")), START + 60);
    assert_int_equal(json_array_size(json_object_get(doc, "proof")), 2);
    assert_int_equal(json_array_size(json_object_get(doc, "names")), 2);
    uint8_t bytes[4096];
    const char *b64 = json_maybe_str(doc, "entry");
    assert_int_equal(b64_decode(bytes, sizeof bytes, b64, strlen(b64)), raw.len);
    assert_memory_equal(bytes, raw.p, raw.len);
    json_decref(doc);
    buf_free(&out);
    csv_is(&raw, "5,issued,2026-01-01T00:00:00Z,2026-01-01T00:01:00Z,\"spiffe://example.org/a\",\"a.example.org\","
                 "\"spiffe://example.org/agent\",\"join_token\",\"e1\",3,"
                 "\"abababababababababababababababababababababababababababababababab\",\"1000000000005\",,,,,\r\n");
    buf_free(&raw);
}

static void formulas_and_quotes(void **state)
{
    struct buf raw;
    buf_init(&raw, 4096);
    record_entry(&raw, &(struct tlog_record_info){.type = TLOG_ENTRY_REFUSAL, .time = START, .code = TLOG_AT_POLICY, .rule = TEXT("@SUM(A1)"),
                                                  .why = TEXT("he said \"no\", twice"), .spiffe_id = TEXT("=HYPERLINK(\"x\")"),
                                                  .attestor = TEXT("+1"), .requester = TEXT("-2"), .count = 4});
    csv_is(&raw, "5,refused,2026-01-01T00:00:00Z,,\"'=HYPERLINK(\"\"x\"\")\",,\"'-2\",\"'+1\",,,,,\"policy\",\"'@SUM(A1)\","
                 "\"he said \"\"no\"\", twice\",,4\r\n");
    entry(AUDIT_JSONL, &raw);
    assert_true(strchr(buf_cstr(&out), '\n') == buf_cstr(&out) + out.len - 1);
    json_t *doc = parsed();
    assert_string_equal(json_maybe_str(doc, "why"), "he said \"no\", twice");
    assert_string_equal(json_maybe_str(doc, "stage"), "policy");
    json_decref(doc);
    buf_free(&out);
    buf_free(&raw);
}

static void jwt(void **state)
{
    static const uint8_t hash[32] = {0xab};
    struct buf raw;
    buf_init(&raw, 4096);
    record_entry(&raw, &(struct tlog_record_info){.type = TLOG_ENTRY_JWT, .time = START, .code = TLOG_JWT_SVID, .expires = START + 300,
                                                  .spiffe_id = TEXT("spiffe://example.org/web"), .audiences = TEXT("\003=\"b\004Gr\xc3\xbc"),
                                                  .kid = TEXT("key"), .attestor = TEXT("x509pop"), .evidence = {hash, 32},
                                                  .entry_id = TEXT("e1"), .revision = 7, .requester = TEXT("spiffe://example.org/a")});
    csv_is(&raw, "5,jwt,2026-01-01T00:00:00Z,2026-01-01T00:05:00Z,\"spiffe://example.org/web\",,\"spiffe://example.org/a\",\"x509pop\",\"e1\",7,"
                 ",,\"svid\",,\"'=\"\"b Gr\xc3\xbc\",,\r\n");
    entry(AUDIT_JSON, &raw);
    json_t *doc = parsed();
    assert_string_equal(json_maybe_str(doc, "outcome"), "jwt");
    assert_string_equal(json_maybe_str(doc, "jti"), "1-5");
    assert_string_equal(json_maybe_str(doc, "spiffe_id"), "spiffe://example.org/web");
    assert_string_equal(json_string_value(json_array_get(json_object_get(doc, "audiences"), 0)), "=\"b");
    assert_int_equal(json_array_size(json_object_get(doc, "audiences")), 2);
    assert_int_equal(json_integer_value(json_object_get(doc, "not_before")), START);
    assert_int_equal(json_integer_value(json_object_get(doc, "not_after")), START + 300);
    assert_string_equal(json_maybe_str(doc, "kid"), "key");
    assert_int_equal(json_integer_value(json_object_get(doc, "entry_revision")), 7);
    assert_int_equal(strncmp(json_maybe_str(doc, "evidence_sha256"), "ab00", 4), 0);
    json_decref(doc);
    buf_free(&out);
    buf_free(&raw);
}

/* A certificate whose names are no text: neither the document nor the terminal breaks. */
static void names_that_are_no_text(void **state)
{
    struct buf raw;
    buf_init(&raw, 4096);
    cert_entry(&raw, &(struct cert_want){.id = "spi\xff" "ffe\x1b[2J\"\r\n,", .dns = "=cmd", .from = START, .to = START + 1});
    csv_is(&raw, "5,issued,2026-01-01T00:00:00Z,2026-01-01T00:00:01Z,\"spi?ffe?[2J\"\"??,\",\"'=cmd\",,,,,"
                 "\"0000000000000000000000000000000000000000000000000000000000000000\",\"1000000000005\",,,,,\r\n");
    entry(AUDIT_JSON, &raw);
    json_decref(parsed());
    buf_free(&out);
    buf_free(&raw);
}

/* Each kind of record, and what is none. */
static void every_kind(void **state)
{
    struct buf raw;
    buf_init(&raw, 8192);
    for (unsigned i = 0; i < 2000; i++) {
        varied(&raw, i);
        for (size_t cut = raw.len; cut > 0 && cut + 3 > raw.len; cut--) { /* whole, and cut short */
            struct buf part = raw;
            part.len = cut;
            entry(AUDIT_JSON, &part);
            json_t *doc = parsed();
            assert_non_null(json_maybe_str(doc, "outcome"));
            json_decref(doc);
            buf_free(&out);
        }
        entry(AUDIT_CSV, &raw);
        unsigned commas = 0;
        bool quoted = false;
        for (const char *p = buf_cstr(&out); *p; p++) {
            quoted ^= *p == '"';
            commas += *p == ',' && !quoted;
        }
        assert_int_equal(commas, 16);
        buf_free(&out);
    }
    buf_free(&raw);
}

static void envelopes(void **state)
{
    struct house h;
    house_begin(&h);
    struct tlog_reader *r = reader_ok(&h);
    for (int format = AUDIT_JSON; format <= AUDIT_CSV; format++) {
        struct audit_writer w = {.out = &out, .format = (enum audit_format)format};
        buf_init(&out, 65536);
        audit_write_begin(&w, r, 1);
        audit_write_end(&w, "NEXT");
        assert_non_null(buf_cstr(&out));
        if (format == AUDIT_JSON) {
            json_t *doc = parsed();
            assert_string_equal(json_maybe_str(doc, "next"), "NEXT");
            assert_int_equal(strlen(json_maybe_str(doc, "checkpoint")), tlog_reader_note(r).len);
            assert_int_equal(json_integer_value(json_object_get(doc, "size")), 1);
            json_decref(doc);
        }
        if (format == AUDIT_JSONL)
            assert_non_null(strstr(buf_cstr(&out), "}\n{\"next\":\"NEXT\"}\n"));
        if (format == AUDIT_CSV)
            assert_null(strstr(buf_cstr(&out), "NEXT"));
        buf_free(&out);
    }
    tlog_reader_close(r);
    house_end(&h);
}

static void statistics(void **state)
{
    struct audit_stats s = {.indexed = 9};
    s.lifetimes[0].up_to = 60;
    buf_init(&out, 65536);
    audit_write_stats(&out, &s);
    json_t *doc = parsed();
    assert_int_equal(json_array_size(json_object_get(doc, "hours")), 48);
    assert_int_equal(json_array_size(json_object_get(doc, "days")), 90);
    assert_true(json_is_null(json_object_get(json_array_get(json_object_get(doc, "lifetimes"), 8), "up_to")));
    json_decref(doc);
    buf_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(certificate), cmocka_unit_test(formulas_and_quotes), cmocka_unit_test(names_that_are_no_text),
        cmocka_unit_test(jwt), cmocka_unit_test(every_kind), cmocka_unit_test(envelopes), cmocka_unit_test(statistics),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
