#include "base/log.h"
#include "base/clock.h"
#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Changed by log_setup (again on reload), read by every thread. The process name is written before
 * threads exist. */
static _Atomic int min_level = LOG_INFO;
static _Atomic int chosen_format = LOG_AUTO;
static char process_name[32] = "mayfly";

/* A line stays within PIPE_BUF, so that a write to a pipe (the journal) is not interleaved. */
#define LINE_MAX_BYTES 4096
#define LINE_ROOM (LINE_MAX_BYTES - 16) /* the rest closes what is open */
#define VALUE_MAX_BYTES 1024

struct line {
    char b[LINE_MAX_BYTES];
    size_t n;
    bool full;
};

/* put_close may have gone past the room, into the reserve. */
static void put(struct line *l, const char *s, size_t n)
{
    if (l->full || l->n > LINE_ROOM || n > LINE_ROOM - l->n) {
        l->full = true;
        return;
    }
    memcpy(l->b + l->n, s, n);
    l->n += n;
}

static void put_str(struct line *l, const char *s)
{
    put(l, s, strlen(s));
}

/* Closing quotes and braces go into the reserve, which put never touches. */
static void put_close(struct line *l, char c)
{
    if (l->n < LINE_MAX_BYTES - 1)
        l->b[l->n++] = c;
}

/* Bytes of the well-formed, printable UTF-8 character at s, or 0. C1 controls (U+0080 to U+009F)
 * drive terminals as much as C0 does. */
static size_t utf8_char(const unsigned char *s)
{
    size_t n = s[0] >= 0xc2 && s[0] < 0xe0   ? 2
               : (s[0] & 0xf0) == 0xe0       ? 3
               : s[0] >= 0xf0 && s[0] < 0xf5 ? 4
                                             : 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    if ((s[0] == 0xc2 && s[1] < 0xa0) || (s[0] == 0xe0 && s[1] < 0xa0) ||
        (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf0 && s[1] < 0x90) ||
        (s[0] == 0xf4 && s[1] > 0x8f))
        return 0;
    return n;
}

static void put_escaped(struct line *l, const char *value)
{
    const unsigned char *s = (const unsigned char *)value;
    size_t start = l->n;
    while (*s && !l->full && l->n - start < VALUE_MAX_BYTES) {
        char esc[8];
        size_t n = *s < 0x80 ? 1 : utf8_char(s);
        if (*s == '"' || *s == '\\') {
            esc[0] = '\\';
            esc[1] = (char)*s;
            put(l, esc, 2);
        } else if (*s == '\n') {
            put(l, "\\n", 2);
        } else if (*s < 0x20 || *s == 0x7f || n == 0) {
            /* JSON has no byte escape: a stray byte is shown as the code point of its value. */
            put(l, esc, (size_t)snprintf(esc, sizeof esc, "\\u%04x", *s));
            n = 1;
        } else {
            put(l, (const char *)s, n);
        }
        s += n;
    }
    if (*s)
        put_str(l, "...");
}

static void put_quoted(struct line *l, const char *value)
{
    put_str(l, "\"");
    if (l->full)
        return;
    put_escaped(l, value);
    put_close(l, '"');
}

static bool is_plain(const char *s)
{
    for (const char *p = s; *p; p++)
        if (*p <= ' ' || *p >= 0x7f || *p == '"' || *p == '\\' || *p == '=')
            return false;
    return *s;
}

static void put_pair(struct line *l, bool json, const char *key, const char *value)
{
    size_t before = l->n;
    if (json) {
        put_str(l, ",");
        put_quoted(l, key);
        put_str(l, ":");
        if (!l->full)
            put_quoted(l, value);
    } else {
        put_str(l, " ");
        put_str(l, key);
        put_str(l, "=");
        if (!l->full && is_plain(value) && strlen(value) < VALUE_MAX_BYTES)
            put_str(l, value);
        else if (!l->full)
            put_quoted(l, value);
    }
    /* A pair that did not fit is left out whole: half of one would break the JSON. */
    if (l->full)
        l->n = before;
}

static const char *const level_names[] = {"debug", "info", "warn", "error"};

static void line_begin(struct line *l, bool json, enum log_level level, const char *msg)
{
    char now[21];
    clock_rfc3339(now, clock_wall());
    l->n = 0;
    l->full = false;
    if (json) {
        put_str(l, "{\"time\":\"");
        put_str(l, now);
        put_str(l, "\",\"level\":\"");
        put_str(l, level_names[level]);
        put_str(l, "\",\"process\":");
        put_quoted(l, process_name);
        put_str(l, ",\"msg\":");
        put_quoted(l, msg);
    } else {
        put_str(l, now);
        put_str(l, " ");
        put_str(l, level_names[level]);
        put_str(l, level == LOG_INFO || level == LOG_WARN ? "  " : " ");
        put_str(l, process_name);
        put_str(l, ": ");
        put_escaped(l, msg);
    }
}

static void line_end(struct line *l, bool json)
{
    if (json)
        put_close(l, '}');
    put_close(l, '\n');
    ssize_t r;
    do
        r = write(STDERR_FILENO, l->b, l->n);
    while (r < 0 && errno == EINTR); /* elsewhere there is nobody left to tell */
}

static bool want_json(void)
{
    int f = chosen_format;
    if (f == LOG_AUTO) {
        f = isatty(STDERR_FILENO) ? LOG_TEXT : LOG_JSON;
        chosen_format = f;
    }
    return f == LOG_JSON;
}

void log_setup(const char *process, enum log_level min, enum log_format format)
{
    int f = format;
    if (f == LOG_AUTO)
        f = isatty(STDERR_FILENO) ? LOG_TEXT : LOG_JSON;
    if (strcmp(process_name, process) != 0)
        snprintf(process_name, sizeof process_name, "%s", process);
    chosen_format = f;
    min_level = (int)min;
}

void log_event(enum log_level level, const char *msg, ...)
{
    if ((int)level < min_level)
        return;
    int saved = errno;
    bool json = want_json();
    struct line l;
    line_begin(&l, json, level, msg);
    va_list ap;
    va_start(ap, msg);
    for (const char *key; (key = va_arg(ap, const char *));) {
        const char *value = va_arg(ap, const char *);
        put_pair(&l, json, key, value ? value : "(null)");
        if (!value) /* the terminator came early: nothing after it may be read */
            break;
    }
    va_end(ap);
    line_end(&l, json);
    errno = saved;
}

void log_err(enum log_level level, const char *msg, const struct err *e)
{
    log_event(level, msg, "error", e->msg, "code", err_code_name(e->code), "rule", e->rule, NULL);
}

const char *log_num(long long v)
{
    static _Thread_local char ring[8][24];
    static _Thread_local unsigned next;
    char *s = ring[next++ % 8];
    snprintf(s, sizeof ring[0], "%lld", v);
    return s;
}
