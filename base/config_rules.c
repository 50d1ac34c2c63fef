/* The rules and defaults of config.h, section by section. */
#include "base/bytes.h"
#include "base/config_raw.h"
#include "base/crl_name.h"
#include "base/spiffe.h"
#include <arpa/inet.h>
#include <ctype.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#define SOFTHSM_MODULE "/usr/lib/softhsm/libsofthsm2.so"
#define THREADS_MAX 256
#define LIFETIME_MIN 10
#define CRL_LIFETIME_MIN 10
#define CRL_LIFETIME_MAX 5400 /* half of it well below CRL_KEPT_AFTER (api/crl_found.h) */
#define LIFETIME_MAX 3600 /* a mayfly lives a day; its certificates live less */

/* One load: what is filled, from what, and where to complain. */
struct load {
    struct config *c;
    const struct config_raw *raw;
    struct config_file *file;
    struct err *e;
};

static int refuse(struct load *l, const char *name, const char *rule, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
static int refuse(struct load *l, const char *name, const char *rule, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    config_refuse(l->file, name, rule, l->e, fmt, args);
    va_end(args);
    return -1;
}

static int no_memory(struct load *l)
{
    return err_set(l->e, ERR_INTERNAL, "memory", "out of memory for the configuration");
}

/* ---- the kinds of values ---- */

static int set_str(struct load *l, char **dst, const char *value)
{
    *dst = strdup(value);
    return *dst ? 0 : no_memory(l);
}

static int set_fmt(struct load *l, char **dst, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static int set_fmt(struct load *l, char **dst, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int n = vasprintf(dst, fmt, args);
    va_end(args);
    if (n >= 0)
        return 0;
    *dst = NULL;
    return no_memory(l);
}

static int set_num(struct load *l, unsigned *dst, const char *name, const uint32_t *value,
                   unsigned fallback, unsigned min, unsigned max)
{
    *dst = value ? *value : fallback;
    if (*dst < min || *dst > max)
        return refuse(l, name, "config-range", "%u is not between %u and %u", *dst, min, max);
    return 0;
}

static int set_path(struct load *l, char **dst, const char *name, const char *value, const char *fallback)
{
    if (!value)
        value = fallback;
    if (!value[0])
        return refuse(l, name, "config-path", "a path may not be empty");
    if (set_fmt(l, dst, "%s%s%s", value[0] == '/' ? "" : l->c->dir, value[0] == '/' ? "" : "/", value) < 0)
        return -1;
    if (strlen(*dst) >= PATH_MAX)
        return refuse(l, name, "config-path", "longer than %d bytes", PATH_MAX - 1);
    return 0;
}

/* 0: one thread for so many cores, and at least one. */
static int set_threads(struct load *l, unsigned *dst, const char *name, long cores_each, unsigned max,
                       const uint32_t *value)
{
    if (set_num(l, dst, name, value, 0, 0, max) < 0)
        return -1;
    long n = sysconf(_SC_NPROCESSORS_ONLN) / cores_each;
    if (*dst == 0)
        *dst = n < 1 ? 1 : n > (long)max ? max : (unsigned)n;
    return 0;
}

static int set_list(struct load *l, char ***dst, size_t *count, char *const *values, size_t n)
{
    *dst = calloc(n + 1, sizeof **dst);
    if (!*dst)
        return no_memory(l);
    for (; *count < n; (*count)++)
        if (set_str(l, &(*dst)[*count], values[*count]) < 0)
            return -1;
    return 0;
}

static bool is_ip(const char *s)
{
    struct in6_addr a;
    return inet_pton(AF_INET, s, &a) == 1 || inet_pton(AF_INET6, s, &a) == 1;
}

static bool is_ip6(const char *s)
{
    struct in6_addr a;
    return inet_pton(AF_INET6, s, &a) == 1;
}

/* ---- the sections ---- */

static int fill_trust_domain(struct load *l)
{
    const char *td = l->raw->trust_domain;
    if (spiffe_check_trust_domain(td, strlen(td), l->e) < 0) {
        char why[sizeof l->e->msg];
        memcpy(why, l->e->msg, sizeof why);
        return refuse(l, "trust_domain", "config-trust-domain", "%.250s", why);
    }
    return set_str(l, &l->c->trust_domain, td);
}

/* "127.0.0.1:8443" or "[::]:8443": an address, so that start-up waits for no resolver. */
static int fill_listen(struct load *l)
{
    const char *value = l->raw->listen ? l->raw->listen : "127.0.0.1:8443", *colon = strrchr(value, ':');
    char host[INET6_ADDRSTRLEN + 2];
    size_t n = colon ? (size_t)(colon - value) : 0;
    bool six = n > 2 && value[0] == '[' && value[n - 1] == ']';
    if (six) {
        value++;
        n -= 2;
    }
    struct in6_addr a;
    if (n == 0 || n >= sizeof host)
        return refuse(l, "listen", "config-listen", "use an address and a port, as 127.0.0.1:8443 or [::]:8443");
    memcpy(host, value, n);
    host[n] = 0;
    if (inet_pton(six ? AF_INET6 : AF_INET, host, &a) != 1)
        return refuse(l, "listen", "config-listen",
                      "not an IP address (IPv6 in brackets; 0.0.0.0 or [::] for all)");
    char *end;
    unsigned long port = isdigit((unsigned char)colon[1]) ? strtoul(colon + 1, &end, 10) : 0;
    if (port == 0 || port > 65535 || *end)
        return refuse(l, "listen", "config-listen", "port must be a number from 1 to 65535");
    l->c->listen_port = (uint16_t)port;
    return set_str(l, &l->c->listen_host, host);
}

static int fill_names(struct load *l)
{
    char host[] = "localhost", loopback[] = "127.0.0.1", *fallback[] = {host, loopback};
    char *const *values = l->raw->names;
    size_t n = l->raw->names_count;
    struct err why;
    if (config_file_line(l->file, "names") == 0) {
        values = fallback;
        n = 2;
    }
    if (n == 0)
        return refuse(l, "names", "config-names", "at least one name is needed, for the server's own certificate");
    if (n > CONFIG_NAMES_MAX)
        return refuse(l, "names", "config-names", "%zu names; the server's own certificate takes %d", n,
                      CONFIG_NAMES_MAX);
    for (size_t i = 0; i < n; i++)
        if (!is_ip(values[i]) &&
            (values[i][0] == '*' || dns_name_check(values[i], strlen(values[i]), &why) < 0))
            return refuse(l, "names", "config-names", "entry %zu is neither a DNS name in lower case nor an IP address",
                          i + 1);
    return set_list(l, &l->c->names, &l->c->names_count, values, n);
}

static int fill_external_url(struct load *l)
{
    static const char scheme[] = "https://";
    const char *url = l->raw->external_url, *name = l->c->names[0];
    if (!url) {
        bool six = is_ip6(name);
        return set_fmt(l, &l->c->external_url, "https://%s%s%s:%u", six ? "[" : "", name, six ? "]" : "",
                       l->c->listen_port);
    }
    size_t n = strlen(url);
    bool ok = strncmp(url, scheme, sizeof scheme - 1) == 0;
    for (size_t i = 0; i < n; i++)
        ok = ok && url[i] > ' ' && url[i] < 0x7f && !strchr("?#@\"<>\\^`{|}", url[i]);
    if (!ok || n == sizeof scheme - 1 || url[sizeof scheme - 1] == '/' || n > 1024)
        return refuse(l, "external_url", "config-url",
                      "must begin with https:// and a host, without user, query or fragment");
    while (url[n - 1] == '/')
        n--;
    return set_fmt(l, &l->c->external_url, "%.*s", (int)n, url);
}

/* Value of an attribute in the query part of a PKCS#11 URI (RFC 7512 §2.3), or NULL. */
static const char *uri_query(const char *uri, const char *attr, size_t *len)
{
    size_t n = strlen(attr);
    const char *p = strchr(uri, '?');
    while (p) {
        p++;
        *len = strcspn(p, "&");
        if (*len > n && strncmp(p, attr, n) == 0 && p[n] == '=') {
            *len -= n + 1;
            return p + n + 1;
        }
        p = strchr(p, '&');
    }
    return NULL;
}

static char *percent_decode(const char *s, size_t len)
{
    char *out = malloc(len + 1), *dst = out;
    for (size_t i = 0; out && i < len; i++) {
        if (s[i] == '%') {
            if (len - i < 3 || hex_decode(dst, 1, s + i + 1, 2) != 1 || *dst == 0) {
                free(out);
                return NULL;
            }
            i += 2;
            dst++;
        } else {
            *dst++ = s[i];
        }
    }
    if (out)
        *dst = 0;
    return out;
}

static int fill_module(struct load *l)
{
    const char *key = l->raw->token.module;
    size_t len;
    const char *in_uri = uri_query(l->c->token.uri, "module-path", &len);
    if (in_uri) {
        char *decoded = percent_decode(in_uri, len);
        if (!decoded || (key && strcmp(key, decoded) != 0)) {
            free(decoded);
            return refuse(l, "token.uri", "config-token",
                          "module-path is badly encoded, or another than token.module: keep one of them");
        }
        int rc = set_path(l, &l->c->token.module, "token.uri", decoded, NULL);
        free(decoded);
        return rc;
    }
    return set_path(l, &l->c->token.module, "token.module", key, SOFTHSM_MODULE);
}

static int fill_pin(struct load *l)
{
    const char *file = l->raw->token.pin.file, *credential = l->raw->token.pin.credential;
    const uint32_t *fd = l->raw->token.pin.fd;
    l->c->token.pin_fd = -1;
    if (!!file + !!credential + !!fd > 1)
        return refuse(l, "token.pin", "config-pin", "name one source of the PIN: file, credential or fd");
    if (fd && (*fd < 3 || *fd > 1023 || (*fd >= 100 && *fd <= 104))) /* those: FD_… in cmd/mayflyd.h */
        return refuse(l, "token.pin.fd", "config-pin",
                      "must be an inherited descriptor, from 3 to 1023 without 100 to 104, which mayflyd uses");
    if (fd)
        l->c->token.pin_fd = (int)*fd;
    if (file && set_path(l, &l->c->token.pin_file, "token.pin.file", file, NULL) < 0)
        return -1;
    if (credential && (!*credential || credential[0] == '.' || strchr(credential, '/')))
        return refuse(l, "token.pin.credential", "config-pin",
                      "must be the plain name of a systemd credential (LoadCredential=)");
    return credential ? set_str(l, &l->c->token.pin_credential, credential) : 0;
}

static int fill_token(struct load *l)
{
    struct config *c = l->c;
    const char *uri = l->raw->token.uri ? l->raw->token.uri : "pkcs11:token=mayfly";
    size_t len;
    if (strncmp(uri, "pkcs11:", 7) != 0)
        return refuse(l, "token.uri", "config-token", "must begin with pkcs11: (RFC 7512)");
    if (strstr(uri, "pin-value=") || strstr(uri, "pin-source=") || uri_query(uri, "pin-value", &len))
        return refuse(l, "token.uri", "config-pin", "a PIN is not named here: use token.pin");
    if (set_str(l, &c->token.uri, uri) < 0 || fill_module(l) < 0 || fill_pin(l) < 0 ||
        set_num(l, &c->token.call_timeout_ms, "token.call_timeout_ms", l->raw->token.call_timeout_ms, 10000,
                100, 600000) < 0 ||
        set_threads(l, &c->token.threads, "token.threads", 2, CONFIG_TOKEN_THREADS_MAX,
                    l->raw->token.threads) < 0)
        return -1;
    if (!l->raw->token.softhsm_conf)
        return 0;
    const char *base = strrchr(c->token.module, '/');
    if (!strstr(base ? base : c->token.module, "softhsm"))
        return refuse(l, "token.softhsm_conf", "config-token", "only for SoftHSM2, and the module is %.150s",
                      c->token.module);
    return set_path(l, &c->token.softhsm_conf, "token.softhsm_conf", l->raw->token.softhsm_conf, NULL);
}

/* Folders that another program fills, so none of them may be the log's own or below it. */
static int fill_archive(struct load *l)
{
    struct config *c = l->c;
    size_t n = strlen(c->log.dir);
    if (l->raw->log.archive_count > CONFIG_ARCHIVES_MAX)
        return refuse(l, "log.archive", "config-log", "at most %d folders", CONFIG_ARCHIVES_MAX);
    c->log.archive = calloc((size_t)l->raw->log.archive_count + 1, sizeof *c->log.archive);
    if (!c->log.archive)
        return no_memory(l);
    while (c->log.archive_count < l->raw->log.archive_count) {
        char **dst = &c->log.archive[c->log.archive_count];
        if (set_path(l, dst, "log.archive", l->raw->log.archive[c->log.archive_count], NULL) < 0)
            return -1;
        c->log.archive_count++;
        if (strncmp(*dst, c->log.dir, n) == 0 && ((*dst)[n] == 0 || (*dst)[n] == '/'))
            return refuse(l, "log.archive", "config-log", "%.200s is log.dir or below it: name a folder elsewhere", *dst);
    }
    return 0;
}

/* The origin stands alone on a checkpoint's first line and names the log's key in a note: no
 * space, no plus sign (C2SP tlog-checkpoint, signed-note). */
static int fill_log(struct load *l)
{
    struct config *c = l->c;
    unsigned number;
    if (set_path(l, &c->log.dir, "log.dir", l->raw->log.dir, "log") < 0 ||
        fill_archive(l) < 0 || set_num(l, &number, "log.number", l->raw->log.number, 1, 1, 65535) < 0)
        return -1;
    c->log.number = (uint16_t)number;
    const char *origin = l->raw->log.origin;
    if (!origin)
        return set_fmt(l, &c->log.origin, "%s/log%u", c->trust_domain, number);
    bool ok = *origin && strlen(origin) <= 255;
    for (const char *p = origin; *p; p++)
        ok = ok && *p > ' ' && *p < 0x7f && *p != '+';
    if (!ok)
        return refuse(l, "log.origin", "config-log",
                      "1 to 255 printable characters without space or plus sign, as example.org/log1");
    return set_str(l, &c->log.origin, origin);
}

static int fill_permitted_dns(struct load *l)
{
    char *const *values = l->raw->ca.permitted_dns;
    size_t n = l->raw->ca.permitted_dns_count;
    struct err why;
    if (config_file_line(l->file, "ca.permitted_dns") == 0) {
        /* Not every trust domain is a DNS name (it may hold '_'); such a one permits none. */
        values = &l->c->trust_domain;
        n = dns_name_check(*values, strlen(*values), &why) == 0;
    }
    for (size_t i = 0; i < n; i++)
        if (values[i][0] == '*' || dns_name_check(values[i], strlen(values[i]), &why) < 0)
            return refuse(l, "ca.permitted_dns", "config-dns",
                          "entry %zu is not a DNS name in lower case (what is below a name is permitted with it)",
                          i + 1);
    return set_list(l, &l->c->ca.permitted_dns, &l->c->ca.permitted_dns_count, values, n);
}

static int fill_ca(struct load *l)
{
    struct config *c = l->c;
    if (set_path(l, &c->ca.dir, "ca.dir", l->raw->ca.dir, "ca") < 0 ||
        set_num(l, &c->ca.max_lifetime, "ca.max_lifetime", l->raw->ca.max_lifetime, LIFETIME_MAX,
                LIFETIME_MIN, LIFETIME_MAX) < 0)
        return -1;
    unsigned usual = c->ca.max_lifetime < 300 ? c->ca.max_lifetime : 300;
    if (set_num(l, &c->ca.default_lifetime, "ca.default_lifetime", l->raw->ca.default_lifetime, usual,
                LIFETIME_MIN, c->ca.max_lifetime) < 0 ||
        set_num(l, &c->ca.rate, "ca.rate", l->raw->ca.rate, 0, 0, 1000000) < 0)
        return -1;
    return fill_permitted_dns(l);
}

/* A CRL is made again at half of its life, so that it never lapses on somebody's way to it; and before a
 * certificate that has ended leaves it (RFC 5280 section 3.3). */
static int fill_crl(struct load *l)
{
    struct config *c = l->c;
    if (set_num(l, &c->crl.short_limit, "crl.short_limit", l->raw->crl.short_limit, 600, 0, LIFETIME_MAX) < 0 ||
        set_num(l, &c->crl.lifetime, "crl.lifetime", l->raw->crl.lifetime, 3600, CRL_LIFETIME_MIN, CRL_LIFETIME_MAX) < 0 ||
        set_num(l, &c->crl.shards, "crl.shards", l->raw->crl.shards, 16, 1, CRL_SHARDS_MAX) < 0)
        return -1;
    if (!crl_name_good((struct crl_name){c->crl.shards, 0}))
        return refuse(l, "crl.shards", "config-range", "%u is no power of two", c->crl.shards);
    return 0;
}

static bool is_user_id(const char *digits)
{
    unsigned long long id = strtoull(digits, NULL, 10);
    return id > 0 && id < UINT32_MAX;
}

/* "" for none, a user's name, or "uid:gid" in digits. */
static int set_user(struct load *l, char **dst, const char *name, const char *value)
{
    if (!value)
        value = "";
    size_t n = strlen(value);
    size_t digits = strspn(value, "0123456789");
    bool ids = digits > 0 && value[digits] == ':' && value[digits + 1] &&
               value[digits + 1 + strspn(value + digits + 1, "0123456789")] == 0;
    bool user = digits == 0 && value[0] != '-' &&
                strspn(value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == n;
    if (n > 31 || (n > 0 && !ids && !user))
        return refuse(l, name, "config-user", "must be a user's name, or uid:gid in digits");
    if (ids && (!is_user_id(value) || !is_user_id(strchr(value, ':') + 1)))
        return refuse(l, name, "config-user", "ids go from 1, since 0 is root, to 4294967294");
    return set_str(l, dst, value);
}

static int fill_run(struct load *l)
{
    struct config *c = l->c;
    struct sockaddr_un a;
    if (set_user(l, &c->signer_user, "run.signer_user", l->raw->run.signer_user) < 0 ||
        set_user(l, &c->frontend_user, "run.frontend_user", l->raw->run.frontend_user) < 0 ||
        set_user(l, &c->notary_user, "run.notary_user", l->raw->run.notary_user) < 0 ||
        set_path(l, &c->run_dir, "run.dir", l->raw->run.dir, "run") < 0)
        return -1;
    if (c->signer_user[0] && strcmp(c->signer_user, c->frontend_user) == 0)
        return refuse(l, "run.frontend_user", "config-user",
                      "must differ from signer_user: a shared user could read the token's files");
    if (c->notary_user[0] && (strcmp(c->notary_user, c->signer_user) == 0 || strcmp(c->notary_user, c->frontend_user) == 0))
        return refuse(l, "run.notary_user", "config-user",
                      "must differ from signer_user and frontend_user: it speaks with hosts outside, and may do nothing else");
    if (strlen(c->run_dir) + sizeof "/" SIGNER_SOCKET > sizeof a.sun_path)
        return refuse(l, "run.dir", "config-path", "too long for a socket below it (%zu bytes at most)",
                      sizeof a.sun_path - sizeof "/" SIGNER_SOCKET);
    return 0;
}

static int fill_service(struct load *l)
{
    struct config *c = l->c;
    const struct config_raw *raw = l->raw;
    if (set_path(l, &c->store_path, "store.path", raw->store.path, "store/mayfly.db") < 0 ||
        set_num(l, &c->session_lifetime, "session.lifetime", raw->session.lifetime, 3600, 10, 86400) < 0 ||
        set_num(l, &c->token_lifetime, "session.token_lifetime", raw->session.token_lifetime, 3600, 10,
                604800) < 0 ||
        set_threads(l, &c->frontend_threads, "frontend.threads", 1, THREADS_MAX, raw->frontend.threads) < 0 ||
        set_num(l, &c->max_connections, "frontend.max_connections", raw->frontend.max_connections, 4096, 1,
                65536) < 0)
        return -1;
    return set_num(l, &c->issue_timeout_ms, "frontend.issue_timeout_ms", raw->frontend.issue_timeout_ms,
                   10000, 100, 600000);
}

/* The PIN and the token do not lie where the frontend may read. (What softhsm_conf names is looked at
 * where it is read, in the signer.) */
static int check_reach(struct load *l)
{
    const struct config *c = l->c;
    const char *const secrets[][2] = {{"token.pin.file", c->token.pin_file},
                                      {"token.softhsm_conf", c->token.softhsm_conf}};
    for (size_t i = 0; i < sizeof secrets / sizeof *secrets; i++) {
        const char *key = secrets[i][1] ? config_frontend_reads(c, secrets[i][1]) : NULL;
        if (key)
            return refuse(l, key, "config-reach",
                          "the frontend may read all of this folder, and %s lies in it (%.150s): keep them apart",
                          secrets[i][0], secrets[i][1]);
    }
    return 0;
}

static int set_word(struct load *l, unsigned *dst, const char *name, const char *value,
                    const char *const *words, unsigned fallback)
{
    *dst = fallback;
    if (!value)
        return 0;
    char list[80] = "";
    for (unsigned i = 0; words[i]; i++) {
        if (strcmp(words[i], value) == 0) {
            *dst = i;
            return 0;
        }
        size_t n = strlen(list);
        snprintf(list + n, sizeof list - n, "%s%s", i ? ", " : "", words[i]);
    }
    return refuse(l, name, "config-word", "must be one of: %s", list);
}

/* The index lies where the frontend may write, so beside the store unless told otherwise. */
static int fill_audit(struct load *l)
{
    static const char *const words[] = {
        [CONFIG_AUDIT_LOCAL] = "local", [CONFIG_AUDIT_MTLS] = "mtls", [CONFIG_AUDIT_PUBLIC] = "public", NULL};
    struct config *c = l->c;
    unsigned access;
    char beside[PATH_MAX];
    snprintf(beside, sizeof beside, "%.*s/audit.db", (int)(strrchr(c->store_path, '/') - c->store_path), c->store_path);
    if (set_word(l, &access, "audit.access", l->raw->audit.access, words, 0) < 0 ||
        set_path(l, &c->audit_index, "audit.index", l->raw->audit.index, beside) < 0)
        return -1;
    c->audit_access = (enum config_audit)access;
    if (strcmp(c->audit_index, c->store_path) == 0)
        return refuse(l, "audit.index", "config-path", "is the registration store; name a file of its own");
    return 0;
}

static int fill_logging(struct load *l)
{
    static const char *const levels[] = {
        [LOG_DEBUG] = "debug", [LOG_INFO] = "info", [LOG_WARN] = "warn", [LOG_ERROR] = "error", NULL};
    static const char *const formats[] = {
        [LOG_AUTO] = "auto", [LOG_TEXT] = "text", [LOG_JSON] = "json", NULL};
    unsigned level, format;
    if (set_word(l, &level, "logging.level", l->raw->logging.level, levels, LOG_INFO) < 0 ||
        set_word(l, &format, "logging.format", l->raw->logging.format, formats, LOG_AUTO) < 0)
        return -1;
    l->c->log_level = (enum log_level)level;
    l->c->log_format = (enum log_format)format;
    return 0;
}

int config_fill(struct config *c, const struct config_raw *raw, struct config_file *file,
                const char *dir, struct err *e)
{
    struct load load = {c, raw, file, e}, *l = &load;
    char real[PATH_MAX];
    if (dir[0] != '/' && !(dir = realpath(dir, real)))
        return err_errno(e, "config-path", "cannot find the configuration's folder");
    size_t n = strlen(dir);
    while (n > 1 && dir[n - 1] == '/')
        n--;
    if (set_fmt(l, &c->dir, "%.*s", (int)n, dir) < 0)
        return -1;
    /* In this order: external_url needs names and listen, log and ca need trust_domain. */
    if (fill_trust_domain(l) < 0 || fill_listen(l) < 0 || fill_names(l) < 0 || fill_external_url(l) < 0 ||
        fill_token(l) < 0 || fill_log(l) < 0 || fill_ca(l) < 0 || fill_crl(l) < 0 || fill_service(l) < 0 || fill_audit(l) < 0 || fill_run(l) < 0 ||
        config_fill_witnesses(c, raw, file, e) < 0 || check_reach(l) < 0)
        return -1;
    return fill_logging(l);
}
