/* Entries against the vectors of tlog/FORMAT.md, which another program wrote (tests/vectors). */
#include "tests/unit/tlog/support.h"
#include "tlog/record.h"
#include <jansson.h>
#include <stdio.h>

#define V(s) ((struct bytes){(const uint8_t *)(s), sizeof(s) - 1})

/* The entry's bytes in a block of their exact size, so that a read past the end is seen. */
static uint8_t *entry_of(const json_t *line, size_t *len)
{
    const char *hex = json_string_value(json_object_get(line, "entry"));
    *len = strlen(hex) / 2;
    uint8_t *p = malloc(*len);
    assert_int_equal(hex_decode(p, *len, hex, strlen(hex)), *len);
    return p;
}

static void same_text(const json_t *fields, const char *name, struct bytes have)
{
    const json_t *want = json_object_get(fields, name);
    if (!want)
        return;
    assert_int_equal(have.len, json_string_length(want));
    assert_memory_equal(have.p ? have.p : (const void *)"", json_string_value(want), have.len);
}

static void same_hex(const json_t *fields, const char *name, struct bytes have)
{
    char hex[HEX_LEN(32) + 1] = "";
    const json_t *want = json_object_get(fields, name);
    if (!want)
        return;
    assert_true(have.len <= 32);
    hex_encode(hex, have.p, have.len);
    assert_string_equal(hex, json_string_value(want));
}

static void same_number(const json_t *fields, const char *name, uint64_t have)
{
    const json_t *want = json_object_get(fields, name);
    if (want)
        assert_int_equal(have, json_integer_value(want));
}

static void same_audiences(const json_t *f, struct bytes have)
{
    const json_t *want = json_object_get(f, "audiences"), *v;
    struct cur c = cur_of(have.p, have.len);
    struct bytes one;
    size_t i;
    json_array_foreach(want, i, v)
    {
        assert_true(tlog_audience_next(&c, &one));
        assert_true(bytes_eq_str(one, json_string_value(v)));
    }
    assert_false(tlog_audience_next(&c, &one));
}

static void same_fields(const json_t *f, const struct tlog_record_info *r)
{
    assert_string_equal(tlog_record_kind(r->type), json_string_value(json_object_get(f, "kind")));
    assert_string_equal(tlog_record_code(r->type, r->code), json_string_value(json_object_get(f, "code")));
    same_number(f, "time", (uint64_t)r->time);
    same_number(f, "reason", r->reason);
    same_number(f, "count", r->count);
    same_number(f, "revision", r->revision);
    same_number(f, "ttl", r->ttl);
    same_text(f, "value", r->value);
    same_text(f, "actor", r->actor);
    same_text(f, "comment", r->comment);
    same_text(f, "rule", r->rule);
    same_text(f, "why", r->why);
    same_text(f, "spiffe_id", r->spiffe_id);
    same_text(f, "attestor", r->attestor);
    same_text(f, "requester", r->requester);
    same_text(f, "entry_id", r->entry_id);
    same_text(f, "parent", r->parent);
    same_hex(f, "session", r->session);
    same_hex(f, "digest", r->digest);
    same_number(f, "expires", (uint64_t)r->expires);
    same_audiences(f, r->audiences);
    same_text(f, "kid", r->kid);
    same_hex(f, "evidence", r->evidence);
    assert_int_equal(r->flags & TLOG_FLAG_AUDITOR, json_is_true(json_object_get(f, "auditor")));
}

static void written_again(const struct tlog_record_info *r, struct bytes body)
{
    struct buf out;
    struct err e;
    buf_init(&out, TLOG_RECORD_MAX);
    assert_int_equal(tlog_record_write(r, &out, &e), 0);
    assert_int_equal(out.len, body.len);
    assert_memory_equal(out.p, body.p, body.len);
    buf_free(&out);
}

/* Every shorter body is refused, too. */
/* With one exception: a change without its flags is another change, as good. */
static void cut_short(uint16_t type, struct bytes body, bool flags)
{
    struct tlog_record_info r;
    struct err e;
    for (size_t n = 0; n < body.len - flags; n++) {
        uint8_t *exact = malloc(n ? n : 1);
        memcpy(exact, body.p, n);
        assert_int_equal(tlog_record_parse(&r, type, (struct bytes){exact, n}, &e), -1);
        assert_rule(e, "record-format");
        free(exact);
    }
}

static int certificate_read(const struct tlog_entry *t, struct tlog_ext_info *x, struct tlog_cert_fields *f)
{
    struct err e;
    return tlog_entry_extensions(x, t->extensions, &e) == 0 && tlog_entry_cert_fields(f, t->body, &e) == 0 ? 0 : -1;
}

static void same_certificate(const json_t *f, const struct tlog_ext_info *x, const struct tlog_cert_fields *c)
{
    same_number(f, "not_before", (uint64_t)c->not_before);
    same_number(f, "not_after", (uint64_t)c->not_after);
    same_hex(f, "spki_hash", (struct bytes){c->spki_hash, 32});
    same_text(f, "attestor", x->attestor);
    same_hex(f, "evidence", x->evidence);
    same_text(f, "entry_id", x->entry_id);
    same_number(f, "revision", x->entry_revision);
    same_text(f, "requester", x->requester);
    same_hex(f, "session", x->session);
}

static void one_line(const json_t *line, unsigned *good, unsigned *bad)
{
    size_t len;
    struct tlog_entry t;
    struct tlog_record_info r;
    struct err e;
    uint8_t *p = entry_of(line, &len);
    assert_int_equal(tlog_entry_parse(&t, p, len, &e), 0);
    assert_int_equal(t.type, json_integer_value(json_object_get(line, "type")));
    if (t.type == TLOG_ENTRY_TBS_CERT) {
        struct tlog_ext_info x;
        struct tlog_cert_fields f;
        bool refused = json_is_true(json_object_get(line, "wantErr"));
        if ((certificate_read(&t, &x, &f) < 0) != refused)
            fail_msg("%s: %s", refused ? "accepted" : "refused", json_string_value(json_object_get(line, "name")));
        if (!refused)
            same_certificate(json_object_get(line, "fields"), &x, &f);
    } else if (!tlog_record_is(t.type)) {
        assert_int_equal(tlog_record_parse(&r, t.type, t.body, &e), -1);
    } else if (json_is_true(json_object_get(line, "wantErr"))) {
        ++*bad;
        if (tlog_record_parse(&r, t.type, t.body, &e) == 0)
            fail_msg("accepted: %s", json_string_value(json_object_get(line, "name")));
        assert_rule(e, "record-format");
    } else {
        ++*good;
        assert_int_equal(tlog_record_parse(&r, t.type, t.body, &e), 0);
        same_fields(json_object_get(line, "fields"), &r);
        written_again(&r, t.body);
        cut_short(t.type, t.body, r.flags != 0);
    }
    free(p);
}

static void vectors(void **state)
{
    static char text[16384];
    unsigned good = 0, bad = 0;
    FILE *f = fopen("tests/vectors/entries.jsonl", "r");
    assert_non_null(f);
    while (fgets(text, sizeof text, f)) {
        json_t *line = json_loads(text, 0, NULL);
        assert_non_null(line);
        one_line(line, &good, &bad);
        json_decref(line);
    }
    fclose(f);
    assert_true(good >= 18 && bad >= 20);
}

/* What tlog_record_parse would refuse is not written either. */
static void refused_when_written(void **state)
{
    struct tlog_record_info r = {.type = TLOG_ENTRY_REFUSAL, .code = TLOG_AT_POLICY, .rule = V("r"), .why = V("w"), .count = 1},
                            x;
    struct buf out;
    struct err e;
    buf_init(&out, TLOG_RECORD_MAX);
    assert_int_equal(tlog_record_write(&r, &out, &e), 0);
    x = r, x.count = 0;
    assert_int_equal(tlog_record_write(&x, &out, &e), -1);
    x = r, x.why = V("a\x1b[2J");
    assert_int_equal(tlog_record_write(&x, &out, &e), -1);
    x = r, x.time = -1;
    assert_int_equal(tlog_record_write(&x, &out, &e), -1);
    x = r, x.code = 5;
    assert_int_equal(tlog_record_write(&x, &out, &e), -1);
    x = r, x.type = TLOG_ENTRY_TBS_CERT;
    assert_int_equal(tlog_record_write(&x, &out, &e), -1);
    assert_rule(e, "record-format");
    buf_free(&out);
}

static void cleaned(void **state)
{
    static const struct {
        const char *from, *to;
    } of[] = {{"plain", "plain"},
              {"a\nb\x1b[2J", "a?b?[2J"},
              {"Gr\xc3\xbc\xc3\x9f", "Gr\xc3\xbc\xc3\x9f"},
              {"half \xe4\xb8", "half ??"},
              {"\xc0\xaf\xff", "???"},
              {"\xc2\x9b", "??"},
              {"", ""}};
    char text[16];
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        assert_int_equal(tlog_text_clean(text, sizeof text, of[i].from, strlen(of[i].from)), strlen(of[i].to));
        assert_string_equal(text, of[i].to);
    }
    /* Cut between characters, never within one. */
    assert_int_equal(tlog_text_clean(text, 4, "ab\xe4\xb8\x96", 5), 2);
    assert_string_equal(text, "ab");
    assert_int_equal(tlog_text_clean(text, 6, "ab\xe4\xb8\x96", 5), 5);
    assert_int_equal(tlog_text_clean(text, 1, "ab", 2), 0);
}

static void words(void **state)
{
    assert_string_equal(tlog_record_code(TLOG_ENTRY_CHANGE, TLOG_DELETED), "deleted");
    assert_string_equal(tlog_record_code(TLOG_ENTRY_REVOCATION, TLOG_BY_KEY), "key");
    assert_null(tlog_record_code(TLOG_ENTRY_CHANGE, 0));
    assert_null(tlog_record_code(TLOG_ENTRY_CHANGE, 4));
    assert_null(tlog_record_code(TLOG_ENTRY_NULL, 1));
    assert_null(tlog_record_kind(TLOG_ENTRY_TBS_CERT));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors),
        cmocka_unit_test(refused_when_written),
        cmocka_unit_test(cleaned),
        cmocka_unit_test(words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
