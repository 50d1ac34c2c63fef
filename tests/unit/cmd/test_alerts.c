/* Alerts of a round: whatever a log holds, lines are whole, bounded, and none is lost without a word. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include "base/json.h"
#include "cmd/cli_log_alerts.h"
#include <stdio.h>
#include <string.h>

static struct alerts alerts;
static uint8_t name[60000];

static int setup(void **state)
{
    alerts_init(&alerts);
    strcpy(alerts.origin, "test.example/log1");
    return 0;
}

static int teardown(void **state)
{
    alerts_free(&alerts);
    return 0;
}

static void add(struct bytes v)
{
    struct audit_entry t = {.kind = AUDIT_ISSUED, .time = 1, .spiffe_id = v, .agent = v, .attestor = v, .entry_id = v, .rule = v};
    struct err why;
    err_set(&why, ERR_DENIED, "outside-pattern", "an alert");
    t.index = alerts.count + alerts.left_out;
    alerts_add(&alerts, &why, &t);
}

/* The next line, parsed. */
static json_t *line(size_t *at)
{
    struct err e;
    const uint8_t *p = alerts.lines.p + *at, *end = memchr(p, '\n', alerts.lines.len - *at);
    assert_non_null(end);
    json_t *doc = json_parse(p, (size_t)(end - p), 1 << 20, &e);
    if (!doc)
        fail_msg("%s", e.msg);
    *at += (size_t)(end - p) + 1;
    return doc;
}

static void names_of_any_length(void **state)
{
    const size_t all = 3000;
    size_t at = 0, lines = 0, left = 0;
    memset(name, 1, sizeof name); /* six bytes each, in JSON */
    for (size_t i = 0; i < all; i++)
        add((struct bytes){name, sizeof name});
    left = alerts.left_out;
    assert_true(left > 0 && alerts.count > 500 && alerts.count + left == all);
    alerts_end(&alerts);
    assert_false(alerts.failed);
    for (; at < alerts.lines.len; lines++) {
        json_t *doc = line(&at);
        if (lines < all - left)
            assert_int_equal(json_integer_value(json_object_get(doc, "index")), lines);
        else
            assert_string_equal(json_string_value(json_object_get(doc, "rule")), "more-alerts");
        json_decref(doc);
    }
    assert_int_equal(lines, all - left + 1);
    assert_int_equal(lines, alerts.count);
}

static void shown(struct bytes v, const char *want_end)
{
    size_t at = 0;
    alerts_reset(&alerts);
    add(v);
    json_t *doc = line(&at);
    const char *s = json_string_value(json_object_get(doc, "spiffe_id"));
    size_t n = strlen(want_end);
    assert_non_null(s);
    if (strlen(s) < n || strcmp(s + strlen(s) - n, want_end) != 0)
        fail_msg("ends with %s, not %s", strlen(s) > 60 ? s + strlen(s) - 60 : s, want_end);
    json_decref(doc);
}

static void a_cut_is_told(void **state)
{
    memset(name, 'a', sizeof name);
    shown((struct bytes){name, ALERTS_SHOWN}, "aaaa");
    shown((struct bytes){name, ALERTS_SHOWN + 1}, "aaa... (cut: 2049 bytes)");
    memcpy(name + ALERTS_SHOWN - 2, "\xe2\x82\xac", 3); /* a character over the edge */
    shown((struct bytes){name, sizeof name}, "aaa... (cut: 60000 bytes)");
    memset(name, 0x80, sizeof name); /* none at all */
    shown((struct bytes){name, sizeof name}, "... (cut: 60000 bytes)");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(names_of_any_length, setup, teardown),
        cmocka_unit_test_setup_teardown(a_cut_is_told, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
