/* The section `witnesses` of the configuration. */
#include "base/config_raw.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define URL_LEN_MAX 1024
#define VKEY_LEN_MAX 400
#define TIMEOUT_MS 2000
#define TIMEOUT_MIN_MS 100
#define TIMEOUT_MAX_MS 60000
#define TIMEOUT_QUORUM_MS 2000 /* thrice this is how long the corridor may stand; with the draining, less than a stopping daemon gives its processes */

static int refuse(struct config_file *file, struct err *e, const char *name, const char *rule,
                  const char *fmt, ...) __attribute__((format(printf, 5, 6)));
static int refuse(struct config_file *file, struct err *e, const char *name, const char *rule,
                  const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    config_refuse(file, name, rule, e, fmt, args);
    va_end(args);
    return -1;
}

/* What is asked for is public, and what is answered is signed: plain HTTP does no harm. */
static bool url_ok(const char *url)
{
    size_t n = strlen(url), scheme = strncmp(url, "https://", 8) == 0  ? 8
                                     : strncmp(url, "http://", 7) == 0 ? 7
                                                                       : 0;
    bool ok = scheme > 0 && n > scheme && n <= URL_LEN_MAX && url[scheme] != '/';
    for (size_t i = 0; i < n; i++)
        ok = ok && url[i] > ' ' && url[i] < 0x7f && !strchr("?#@\"<>\\^`{|}", url[i]);
    return ok;
}

static bool vkey_ok(const char *vkey)
{
    size_t n = strlen(vkey);
    bool ok = n > 0 && n <= VKEY_LEN_MAX;
    for (size_t i = 0; i < n; i++)
        ok = ok && vkey[i] > ' ' && vkey[i] < 0x7f;
    return ok;
}

static int entry_fill(struct config *c, const struct config_witness *raw, struct config_file *file,
                      struct err *e)
{
    size_t at = c->witnesses.count, n = strlen(raw->url);
    if (!url_ok(raw->url))
        return refuse(file, e, "witnesses.list", "config-url",
                      "url of entry %zu must begin with https:// or http:// and a host, without "
                      "user, query or fragment",
                      at + 1);
    if (!vkey_ok(raw->vkey))
        return refuse(file, e, "witnesses.list", "config-witness",
                      "vkey of entry %zu is no verifier key (name+8 hex digits+base64)", at + 1);
    for (size_t i = 0; i < at; i++)
        if (strcmp(c->witnesses.list[i].vkey, raw->vkey) == 0)
            return refuse(file, e, "witnesses.list", "config-witness",
                          "entries %zu and %zu have one vkey", i + 1, at + 1);
    while (raw->url[n - 1] == '/')
        n--;
    struct config_witness w = {.url = strndup(raw->url, n), .vkey = strdup(raw->vkey)};
    c->witnesses.list[c->witnesses.count++] = w;
    return w.url && w.vkey ? 0 : err_set(e, ERR_INTERNAL, "memory", "out of memory for the configuration");
}

int config_fill_witnesses(struct config *c, const struct config_raw *raw, struct config_file *file,
                          struct err *e)
{
    unsigned n = raw->witnesses.list_count;
    c->witnesses.quorum = raw->witnesses.quorum ? *raw->witnesses.quorum : 0;
    c->witnesses.timeout_ms = raw->witnesses.timeout_ms ? *raw->witnesses.timeout_ms : TIMEOUT_MS;
    if (c->witnesses.quorum > n)
        return refuse(file, e, "witnesses.quorum", "config-witness", "%u of the %u in witnesses.list can never be",
                      c->witnesses.quorum, n);
    if (c->witnesses.timeout_ms < TIMEOUT_MIN_MS || c->witnesses.timeout_ms > TIMEOUT_MAX_MS)
        return refuse(file, e, "witnesses.timeout_ms", "config-range", "%u is not between %d and %d",
                      c->witnesses.timeout_ms, TIMEOUT_MIN_MS, TIMEOUT_MAX_MS);
    if (c->witnesses.quorum > 0 &&
        (c->witnesses.timeout_ms > TIMEOUT_QUORUM_MS || c->witnesses.timeout_ms >= c->issue_timeout_ms))
        return refuse(file, e, "witnesses.timeout_ms", "config-range",
                      "with a quorum every order waits for it: %u is not at most %d and below frontend.issue_timeout_ms (%u)",
                      c->witnesses.timeout_ms, TIMEOUT_QUORUM_MS, c->issue_timeout_ms);
    if (n > CONFIG_WITNESSES_MAX)
        return refuse(file, e, "witnesses.list", "config-witness", "%u witnesses; at most %d", n,
                      CONFIG_WITNESSES_MAX);
    c->witnesses.list = calloc(n + 1, sizeof *c->witnesses.list);
    if (!c->witnesses.list)
        return err_set(e, ERR_INTERNAL, "memory", "out of memory for the configuration");
    for (unsigned i = 0; i < n; i++)
        if (entry_fill(c, &raw->witnesses.list[i], file, e) < 0)
            return -1;
    return 0;
}
