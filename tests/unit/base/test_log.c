#include "base/log.h"
#include "unit/base/scratch.h"
#include <errno.h>
#include <pthread.h>

static char out[1 << 20];

/* Standard error goes to a file while lines are made. */
static int saved_stderr;

static void capture(void)
{
    fflush(stderr);
    saved_stderr = dup(2);
    int fd = open(scratch_path("log"), O_RDWR | O_CREAT | O_TRUNC | O_APPEND, 0600);
    assert_true(fd >= 0 && saved_stderr >= 0);
    dup2(fd, 2);
    close(fd);
}

static const char *captured(void)
{
    dup2(saved_stderr, 2);
    close(saved_stderr);
    int fd = open(scratch_path("log"), O_RDONLY);
    ssize_t n = read(fd, out, sizeof out - 1);
    close(fd);
    assert_true(n >= 0);
    out[n] = 0;
    return out;
}

static void test_text(void **state)
{
    log_setup("signer", LOG_INFO, LOG_TEXT);
    capture();
    log_debug("not shown", NULL);
    log_info("started", "port", "8443", "name", "two words", "empty", "", NULL);
    const char *s = captured();
    assert_int_equal(s[10], 'T');
    assert_string_equal(s + 20, " info  signer: started port=8443 name=\"two words\" empty=\"\"\n");
}

static void test_json(void **state)
{
    log_setup("frontend", LOG_DEBUG, LOG_JSON);
    capture();
    log_debug("a \"quote\"", "k\n", "v\\", NULL);
    const char *s = captured();
    assert_memory_equal(s, "{\"time\":\"", 9);
    assert_string_equal(s + 29, "\",\"level\":\"debug\",\"process\":\"frontend\",\"msg\":\"a "
                                "\\\"quote\\\"\",\"k\\n\":\"v\\\\\"}\n");
}

static void test_auto_is_json_in_a_file(void **state)
{
    capture();
    log_setup("x", LOG_INFO, LOG_AUTO);
    log_info("m", NULL);
    assert_int_equal(captured()[0], '{');
}

/* Nothing that a client sends can forge a line or steer a terminal. */
static void test_hostile_values(void **state)
{
    static const struct {
        const char *value, *shown;
    } cases[] = {
        {"a\nb", "a\\nb"},
        {"\x1b[2J", "\\u001b[2J"},
        {"\r", "\\u000d"},
        {"\x7f", "\\u007f"},
        {"\xc2\x9b", "\\u00c2\\u009b"},
        {"\xff", "\\u00ff"},
        {"\xc3\xa4", "\xc3\xa4"},
        {"\xe2\x82", "\\u00e2\\u0082"},
        {"\xc0\x80", "\\u00c0\\u0080"},
        {"\xed\xa0\x80", "\\u00ed\\u00a0\\u0080"},
        {"\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80"},
        {"\xf5\x80\x80\x80", "\\u00f5\\u0080\\u0080\\u0080"},
        {"\xe0\x80\xaf", "\\u00e0\\u0080\\u00af"},
    };
    for (int f = LOG_TEXT; f <= LOG_JSON; f++) {
        log_setup("x", LOG_INFO, (enum log_format)f);
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            char want[64];
            snprintf(want, sizeof want, f == LOG_JSON ? "\"v\":\"%s\"}\n" : "v=\"%s\"\n",
                     cases[i].shown);
            capture();
            log_info("m", "v", cases[i].value, NULL);
            const char *s = captured();
            assert_non_null(strstr(s, want));
            assert_ptr_equal(strchr(s, '\n'), s + strlen(s) - 1);
        }
    }
}

static void test_long_lines(void **state)
{
    static char big[20000];
    memset(big, '"', sizeof big - 1);
    for (int f = LOG_TEXT; f <= LOG_JSON; f++) {
        log_setup("x", LOG_INFO, (enum log_format)f);
        capture();
        log_info(big, "a", big, "b", big, "c", big, "d", big, "e", big, NULL);
        const char *s = captured();
        size_t n = strlen(s);
        assert_true(n > 1000 && n <= 4096);
        assert_int_equal(s[n - 1], '\n');
        assert_non_null(strstr(s, "..."));
        if (f == LOG_JSON)
            assert_memory_equal(s + n - 3, "\"}\n", 3);
        else
            assert_int_equal(s[n - 2], '"');
    }
}

/* Pairs that end at, before and behind each byte around the room, with more pairs after them. */
static void test_ends_at_the_room(void **state)
{
    static char filler[1001], value[1001];
    memset(filler, 'f', sizeof filler - 1);
    for (int f = LOG_TEXT; f <= LOG_JSON; f++) {
        log_setup("x", LOG_INFO, (enum log_format)f);
        for (size_t len = 800; len < 1000; len++) {
            memset(value, ' ', len);
            value[len] = 0;
            capture();
            log_info("m", "a", filler, "b", filler, "c", filler, "d", filler + 900, "e", value, "f",
                     filler, "g", filler, NULL);
            const char *s = captured();
            size_t n = strlen(s);
            assert_true(n > 3000 && n <= 4096);
            assert_int_equal(s[n - 1], '\n');
            if (f == LOG_JSON)
                assert_memory_equal(s + n - 3, "\"}\n", 3);
        }
    }
}

static void test_null_value_ends(void **state)
{
    log_setup("x", LOG_INFO, LOG_TEXT);
    capture();
    const char *absent = NULL;
    log_info("m", "k", absent, NULL);
    assert_non_null(strstr(captured(), "k=(null)\n"));
}

static void test_err_and_errno(void **state)
{
    struct err e = {0};
    err_set(&e, ERR_HSM, "hsm-pin", "wrong PIN");
    log_setup("x", LOG_WARN, LOG_TEXT);
    capture();
    errno = EXDEV;
    log_info("hidden", NULL);
    log_err(LOG_ERROR, "stops", &e);
    assert_int_equal(errno, EXDEV);
    const char *s = captured();
    assert_null(strstr(s, "hidden"));
    assert_non_null(strstr(s, " error x: stops error=\"wrong PIN\" code=hsm rule=hsm-pin\n"));
}

static void *speak(void *arg)
{
    for (int i = 0; i < 200; i++)
        log_info("m", "n", log_num(i), "v", "0123456789012345678901234567890123456789", NULL);
    return NULL;
}

static void test_threads(void **state)
{
    pthread_t t[4];
    log_setup("x", LOG_INFO, LOG_TEXT);
    capture();
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&t[i], NULL, speak, NULL), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    int lines = 0;
    for (char *save, *l = strtok_r((char *)(uintptr_t)captured(), "\n", &save); l;
         l = strtok_r(NULL, "\n", &save), lines++)
        assert_non_null(strstr(l + 20, " info  x: m n="));
    assert_int_equal(lines, 800);
}

static void test_num(void **state)
{
    const char *a = log_num(-1), *b = log_num(9223372036854775807);
    assert_string_equal(a, "-1");
    assert_string_equal(b, "9223372036854775807");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_auto_is_json_in_a_file),
        cmocka_unit_test(test_hostile_values),
        cmocka_unit_test(test_long_lines),
        cmocka_unit_test(test_ends_at_the_room),
        cmocka_unit_test(test_null_value_ends),
        cmocka_unit_test(test_err_and_errno),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_num),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
