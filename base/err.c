#include "base/err.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const names[ERR_CODES] = {
    [ERR_NONE] = "none",
    [ERR_MALFORMED] = "malformed",
    [ERR_TOO_LARGE] = "too-large",
    [ERR_BAD_NONCE] = "bad-nonce",
    [ERR_BAD_SIG_ALG] = "bad-signature-algorithm",
    [ERR_BAD_KEY] = "bad-public-key",
    [ERR_BAD_CSR] = "bad-csr",
    [ERR_BAD_EVIDENCE] = "bad-evidence",
    [ERR_UNAUTHORIZED] = "unauthorized",
    [ERR_NO_ACCOUNT] = "no-account",
    [ERR_REJECTED_ID] = "rejected-identifier",
    [ERR_UNSUPPORTED_ID] = "unsupported-identifier",
    [ERR_NOT_READY] = "not-ready",
    [ERR_NOT_FOUND] = "not-found",
    [ERR_EXISTS] = "exists",
    [ERR_RATE] = "rate-limited",
    [ERR_UNAVAILABLE] = "unavailable",
    [ERR_DENIED] = "denied",
    [ERR_CORRUPT] = "corrupt",
    [ERR_HSM] = "hsm",
    [ERR_IO] = "io",
    [ERR_CONFIG] = "config",
    [ERR_USAGE] = "usage",
    [ERR_INTERNAL] = "internal",
};

static void set_rule(struct err *e, const char *rule)
{
    snprintf(e->rule, sizeof e->rule, "%s", rule ? rule : "");
}

/* A message cut at the end of the array must not end inside a UTF-8 sequence: it goes into JSON. */
static void trim_utf8(char *s, size_t cap)
{
    size_t n = strlen(s);
    if (n + 1 < cap)
        return;
    size_t i = n;
    while (i > 0 && n - i < 4 && ((unsigned char)s[i - 1] & 0xc0) == 0x80)
        i--;
    if (i == 0 || (unsigned char)s[i - 1] < 0xc0)
        return; /* plain ASCII at the end */
    unsigned char lead = (unsigned char)s[i - 1];
    size_t want = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    if (n - i + 1 < want)
        s[i - 1] = 0;
}

int err_set(struct err *e, enum err_code code, const char *rule, const char *fmt, ...)
{
    /* Formatted aside: callers may pass e->msg itself as an argument. */
    char msg[sizeof e->msg];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    trim_utf8(msg, sizeof msg);
    e->code = code;
    if (rule != e->rule)
        set_rule(e, rule);
    memcpy(e->msg, msg, sizeof msg);
    return -1;
}

int err_errno(struct err *e, const char *rule, const char *fmt, ...)
{
    int saved = errno;
    char msg[sizeof e->msg], why[128];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    const char *text = strerror_r(saved, why, sizeof why);
    /* The cause matters more than a long context: it gets its room first. */
    size_t room = sizeof msg - strlen(text) - 3;
    e->code = ERR_IO;
    set_rule(e, rule);
    snprintf(e->msg, sizeof e->msg, "%.*s: %s", (int)room, msg, text);
    errno = saved;
    return -1;
}

int err_wrap(struct err *e, const char *fmt, ...)
{
    char context[sizeof e->msg], old[sizeof e->msg];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(context, sizeof context, fmt, ap);
    va_end(ap);
    memcpy(old, e->msg, sizeof old);
    old[sizeof old - 1] = 0;
    size_t n = strlen(context);
    if (n + 2 >= sizeof e->msg)
        n = sizeof e->msg - 3;
    memcpy(e->msg, context, n);
    memcpy(e->msg + n, ": ", 2);
    size_t rest = strlen(old), room = sizeof e->msg - n - 3;
    memcpy(e->msg + n + 2, old, rest < room ? rest : room);
    e->msg[n + 2 + (rest < room ? rest : room)] = 0;
    trim_utf8(e->msg, sizeof e->msg);
    return -1;
}

const char *err_code_name(enum err_code code)
{
    if ((unsigned)code >= ERR_CODES || !names[code])
        return "internal";
    return names[code];
}

void err_clear(struct err *e)
{
    e->code = ERR_NONE;
    e->rule[0] = 0;
    e->msg[0] = 0;
}
