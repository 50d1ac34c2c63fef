/* The agent's configuration: schema, rules and defaults (config.h). */
#include "agent/config.h"
#include "base/bytes.h"
#include "base/config_yaml.h"
#include "base/fileio.h"
#include "base/spiffe.h"
#include <arpa/inet.h>
#include <ctype.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/un.h>

struct raw_files {
    char *id, *dir, *owner, *group, *mode, *reload, *pid_file, *signal;
    bool *combined;
    char **audience;
    unsigned audience_count;
    uint32_t *reload_timeout;
};
struct raw { /* the file as it stands; absent values are NULL */
    char *server, *id, *trust_bundle, *join_token_file, *state_dir, *http;
    struct {
        char *store, *uri, *module, *pin_file, *softhsm_conf;
    } key;
    struct {
        char *path, *mode;
    } socket;
    struct raw_files *files;
    unsigned files_count;
    struct {
        char *level, *format;
    } logging;
};

/* --- the schema ---------------------------------------------------------------------------------------------- */

#define STR(key, member) CYAML_FIELD_STRING_PTR(key, CYAML_FLAG_OPTIONAL, struct raw, member, 0, CONFIG_STRING_MAX)
#define MUST(key, member) CYAML_FIELD_STRING_PTR(key, CYAML_FLAG_DEFAULT, struct raw, member, 0, CONFIG_STRING_MAX)
#define FSTR(key, member)                                                                                              \
    CYAML_FIELD_STRING_PTR(key, CYAML_FLAG_OPTIONAL, struct raw_files, member, 0, CONFIG_STRING_MAX)
#define MAP(name, fields_)                                                                                             \
    {                                                                                                                  \
        .key = name, .data_offset = 0, .value = {CYAML_VALUE_MAPPING(CYAML_FLAG_OPTIONAL, struct raw, fields_)},       \
    }

static const cyaml_schema_value_t text_entry = {CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char *, 0, CONFIG_STRING_MAX)};
static const cyaml_schema_field_t key_fields[] = {
    STR("store", key.store),       STR("uri", key.uri),
    STR("module", key.module),     STR("pin_file", key.pin_file),
    STR("softhsm_conf", key.softhsm_conf), CYAML_FIELD_END};
static const cyaml_schema_field_t socket_fields[] = {STR("path", socket.path), STR("mode", socket.mode),
                                                     CYAML_FIELD_END};
static const cyaml_schema_field_t files_fields[] = {
    CYAML_FIELD_STRING_PTR("id", CYAML_FLAG_DEFAULT, struct raw_files, id, 0, CONFIG_STRING_MAX),
    CYAML_FIELD_STRING_PTR("dir", CYAML_FLAG_DEFAULT, struct raw_files, dir, 0, CONFIG_STRING_MAX),
    FSTR("owner", owner),
    FSTR("group", group),
    FSTR("mode", mode),
    CYAML_FIELD_BOOL_PTR("combined", CYAML_FLAG_OPTIONAL, struct raw_files, combined),
    CYAML_FIELD_SEQUENCE("jwt_audience", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct raw_files, audience,
                         &text_entry, 0, AGENT_AUDIENCES_MAX),
    FSTR("reload", reload),
    FSTR("pid_file", pid_file),
    FSTR("signal", signal),
    CYAML_FIELD_UINT_PTR("reload_timeout", CYAML_FLAG_OPTIONAL, struct raw_files, reload_timeout),
    CYAML_FIELD_END};
static const cyaml_schema_value_t files_entry = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct raw_files, files_fields)};
static const cyaml_schema_field_t logging_fields[] = {STR("level", logging.level), STR("format", logging.format),
                                                      CYAML_FIELD_END};
static const cyaml_schema_field_t root_fields[] = {
    MUST("server", server),
    MUST("id", id),
    STR("trust_bundle", trust_bundle),
    STR("join_token_file", join_token_file),
    STR("state_dir", state_dir),
    MAP("key", key_fields),
    MAP("socket", socket_fields),
    STR("http", http),
    CYAML_FIELD_SEQUENCE("files", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct raw, files, &files_entry, 0,
                         AGENT_FILES_MAX),
    MAP("logging", logging_fields),
    CYAML_FIELD_END};
static const cyaml_schema_value_t root_schema = {CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct raw, root_fields)};

/* --- kinds of values ------------------------------------------------------------------------------------------ */

struct load {
    struct agent_config *c;
    const struct raw *raw;
    struct config_file *file;
    const char *dir;
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

/* "" is as good as absent. */
static bool given(const char *value)
{
    return value && *value;
}

static int set_text(struct load *l, char **dst, const char *value)
{
    if (!given(value))
        return 0;
    *dst = strdup(value);
    return *dst ? 0 : no_memory(l);
}

static int set_path(struct load *l, char **dst, const char *name, const char *value)
{
    if (!given(value))
        return 0;
    bool whole = value[0] == '/';
    int n = asprintf(dst, "%s%s%s", whole ? "" : l->dir, whole ? "" : "/", value);
    if (n < 0) {
        *dst = NULL;
        return no_memory(l);
    }
    return n < PATH_MAX ? 0 : refuse(l, name, "config-path", "longer than %d bytes", PATH_MAX - 1);
}

static int set_mode(struct load *l, mode_t *dst, const char *name, const char *value, mode_t fallback)
{
    *dst = fallback;
    if (!given(value))
        return 0;
    char *end;
    unsigned long mode = strtoul(value, &end, 8);
    if (*end || mode > 0777 || strlen(value) > 4)
        return refuse(l, name, "config-mode", "'%s' is no mode in octal, as in \"0640\"", value);
    *dst = (mode_t)mode;
    return 0;
}

static int set_id(struct load *l, char **dst, const char *name, const char *value)
{
    struct spiffe_id id;
    if (spiffe_parse(&id, value, strlen(value), l->e) < 0) {
        char why[300];
        snprintf(why, sizeof why, "%.299s", l->e->msg);
        return refuse(l, name, "config-id", "%s", why);
    }
    if (id.path.len == 0)
        return refuse(l, name, "config-id", "'%s' names a whole trust domain, no workload", value);
    return set_text(l, dst, value);
}

/* --- sections -------------------------------------------------------------------------------------------------- */

static int fill_self(struct load *l)
{
    const struct raw *r = l->raw;
    struct agent_config *c = l->c;
    struct spiffe_id id;
    if (strncmp(r->server, "https://", 8) != 0)
        return refuse(l, "server", "config-url", "'%s' must begin with https://", r->server);
    if (set_text(l, &c->server, r->server) < 0 || set_id(l, &c->id, "id", r->id) < 0)
        return -1;
    spiffe_parse(&id, c->id, strlen(c->id), l->e);
    c->trust_domain = strndup((const char *)id.trust_domain.p, id.trust_domain.len);
    if (!c->trust_domain)
        return no_memory(l);
    return set_path(l, &c->trust_bundle, "trust_bundle", r->trust_bundle) < 0 ||
                   set_path(l, &c->join_token_file, "join_token_file", r->join_token_file) < 0 ||
                   set_path(l, &c->state_dir, "state_dir", given(r->state_dir) ? r->state_dir : AGENT_STATE_DIR) < 0
               ? -1
               : 0;
}

static int fill_key(struct load *l)
{
    const char *store = given(l->raw->key.store) ? l->raw->key.store : "memory";
    struct agent_config *c = l->c;
    bool any = given(l->raw->key.uri) || given(l->raw->key.module) || given(l->raw->key.pin_file) ||
               given(l->raw->key.softhsm_conf);
    c->key.pkcs11 = strcmp(store, "pkcs11") == 0;
    if (!c->key.pkcs11 && strcmp(store, "memory") != 0)
        return refuse(l, "key.store", "config-key", "'%s' is neither memory nor pkcs11", store);
    if (!c->key.pkcs11)
        return any ? refuse(l, "key", "config-key", "uri, module, pin_file and softhsm_conf belong to store: pkcs11")
                   : 0;
    if (!given(l->raw->key.uri) || strncmp(l->raw->key.uri, "pkcs11:", 7) != 0)
        return refuse(l, "key.uri", "config-key", "store: pkcs11 needs the token's URI, as in \"pkcs11:token=agent\"");
    if (!given(l->raw->key.pin_file))
        return refuse(l, "key.pin_file", "config-key", "store: pkcs11 needs the file that holds the PIN");
    return set_text(l, &c->key.uri, l->raw->key.uri) < 0 ||
                   set_path(l, &c->key.module, "key.module", l->raw->key.module) < 0 ||
                   set_path(l, &c->key.pin_file, "key.pin_file", l->raw->key.pin_file) < 0 ||
                   set_path(l, &c->key.softhsm_conf, "key.softhsm_conf", l->raw->key.softhsm_conf) < 0
               ? -1
               : 0;
}

static int fill_socket(struct load *l)
{
    const char *path = given(l->raw->socket.path) ? l->raw->socket.path : AGENT_SOCKET;
    if (set_path(l, &l->c->socket_path, "socket.path", path) < 0)
        return -1;
    if (strlen(l->c->socket_path) >= sizeof((struct sockaddr_un *)0)->sun_path)
        return refuse(l, "socket.path", "config-path", "longer than a socket's address takes (107 bytes)");
    return set_mode(l, &l->c->socket_mode, "socket.mode", l->raw->socket.mode, 0666);
}

/* An address that only this machine reaches: what is told there is for its own watchers. */
static int fill_http(struct load *l)
{
    const char *text = l->raw->http ? l->raw->http : "127.0.0.1:9876", *colon = strrchr(text, ':');
    struct agent_config *c = l->c;
    if (!*text)
        return 0;
    if (strncmp(text, "unix:", 5) == 0) {
        if (text[5] != '/' || strlen(text + 5) >= sizeof((struct sockaddr_un *)0)->sun_path)
            return refuse(l, "http", "config-listen", "after unix: comes an absolute path of at most 107 bytes");
        return set_text(l, &c->http_path, text + 5);
    }
    char *end = NULL;
    unsigned long port = colon ? strtoul(colon + 1, &end, 10) : 0;
    bool six = text[0] == '[';
    if (!colon || !isdigit((unsigned char)colon[1]) || *end || port > 65535 || (six && colon[-1] != ']'))
        return refuse(l, "http", "config-listen", "'%s' is neither ADDRESS:PORT nor unix:/path nor empty", text);
    if (asprintf(&c->http_host, "%.*s", (int)(colon - text) - (six ? 2 : 0), text + (six ? 1 : 0)) < 0) {
        c->http_host = NULL;
        return no_memory(l);
    }
    c->http_port = (unsigned short)port;
    struct in_addr a4;
    if (strcmp(c->http_host, "::1") != 0 &&
        (inet_pton(AF_INET, c->http_host, &a4) != 1 || (ntohl(a4.s_addr) >> 24) != 127))
        return refuse(l, "http", "config-listen", "only 127.0.0.0/8, [::1] or unix:/path: it is for this machine alone");
    return 0;
}

static int fill_logging(struct load *l)
{
    static const char *const levels[] = {"debug", "info", "warn", "error"}, *const formats[] = {"auto", "text", "json"};
    const char *level = given(l->raw->logging.level) ? l->raw->logging.level : "info";
    const char *format = given(l->raw->logging.format) ? l->raw->logging.format : "auto";
    size_t i = 0, k = 0;
    while (i < 4 && strcmp(levels[i], level) != 0)
        i++;
    while (k < 3 && strcmp(formats[k], format) != 0)
        k++;
    if (i == 4)
        return refuse(l, "logging.level", "config-logging", "'%s' is none of debug, info, warn, error", level);
    if (k == 3)
        return refuse(l, "logging.format", "config-logging", "'%s' is none of auto, text, json", format);
    l->c->log_level = (enum log_level)i;
    l->c->log_format = (enum log_format)k;
    return 0;
}

/* --- files ------------------------------------------------------------------------------------------------------- */

static bool all_digits(const char *s)
{
    return s[strspn(s, "0123456789")] == 0 && strlen(s) < 10;
}

static int find_owner(struct load *l, struct agent_files *f, const struct raw_files *r)
{
    f->uid = (uid_t)-1;
    f->gid = (gid_t)-1;
    if (given(r->owner)) {
        struct passwd *p = all_digits(r->owner) ? NULL : getpwnam(r->owner);
        if (!p && !all_digits(r->owner))
            return refuse(l, "files", "config-owner", "there is no user '%s'", r->owner);
        f->uid = p ? p->pw_uid : (uid_t)strtoul(r->owner, NULL, 10);
        if (p)
            f->gid = p->pw_gid;
    }
    if (given(r->group)) {
        struct group *g = all_digits(r->group) ? NULL : getgrnam(r->group);
        if (!g && !all_digits(r->group))
            return refuse(l, "files", "config-owner", "there is no group '%s'", r->group);
        f->gid = g ? g->gr_gid : (gid_t)strtoul(r->group, NULL, 10);
    }
    return set_text(l, &f->owner, r->owner) < 0 || set_text(l, &f->group, r->group) < 0 ? -1 : 0;
}

static int find_signal(struct load *l, struct agent_files *f, const char *name)
{
    static const struct {
        const char *name;
        int number;
    } known[] = {{"HUP", SIGHUP}, {"USR1", SIGUSR1}, {"USR2", SIGUSR2}, {"TERM", SIGTERM}, {"WINCH", SIGWINCH}};
    if (!given(name))
        return 0;
    if (strncasecmp(name, "SIG", 3) == 0)
        name += 3;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcasecmp(name, known[i].name) == 0) {
            f->signal = known[i].number;
            return 0;
        }
    return refuse(l, "files", "config-signal", "'%s' is none of HUP, USR1, USR2, TERM, WINCH", name);
}

static int fill_audience(struct load *l, struct agent_files *f, const struct raw_files *r)
{
    f->audience = calloc(r->audience_count + 1, sizeof *f->audience);
    if (!f->audience)
        return no_memory(l);
    for (; f->audience_count < r->audience_count; f->audience_count++) {
        if (!given(r->audience[f->audience_count]))
            return refuse(l, "files", "config-audience", "an empty jwt_audience");
        if (set_text(l, &f->audience[f->audience_count], r->audience[f->audience_count]) < 0)
            return -1;
    }
    return 0;
}

static int fill_file(struct load *l, struct agent_files *f, const struct raw_files *r)
{
    struct spiffe_id id;
    const char *domain = l->c->trust_domain;
    if (set_id(l, &f->id, "files", r->id) < 0)
        return -1;
    if (spiffe_parse(&id, f->id, strlen(f->id), l->e) < 0 || !bytes_eq_str(id.trust_domain, domain))
        return refuse(l, "files", "config-id", "%s is not of the agent's trust domain, %s: its authority issues no other",
                      r->id, domain);
    if (r->dir[0] != '/')
        return refuse(l, "files", "config-path", "dir of %s must be an absolute path", r->id);
    if (set_path(l, &f->dir, "files", r->dir) < 0 || find_owner(l, f, r) < 0 ||
        set_mode(l, &f->mode, "files", r->mode, 0600) < 0 || fill_audience(l, f, r) < 0 ||
        set_text(l, &f->reload, r->reload) < 0 || set_path(l, &f->pid_file, "files", r->pid_file) < 0 ||
        find_signal(l, f, r->signal) < 0)
        return -1;
    if (f->mode & 0137)
        return refuse(l, "files", "config-mode", "mode %04o of %s: private keys are for owner and group only (at most 0640)",
                      (unsigned)f->mode, r->id);
    if ((f->pid_file != NULL) != (f->signal != 0))
        return refuse(l, "files", "config-signal", "pid_file and signal go together (%s)", r->id);
    f->combined = r->combined && *r->combined;
    f->reload_timeout = r->reload_timeout ? *r->reload_timeout : 10;
    if (f->reload_timeout < 1 || f->reload_timeout > 300)
        return refuse(l, "files", "config-range", "reload_timeout is between 1 and 300 seconds (%s)", r->id);
    return 0;
}

static int fill_files(struct load *l)
{
    struct agent_config *c = l->c;
    c->files = calloc(l->raw->files_count + 1u, sizeof *c->files);
    if (!c->files)
        return no_memory(l);
    for (unsigned i = 0; i < l->raw->files_count; i++) {
        c->files_count++;
        if (fill_file(l, &c->files[i], &l->raw->files[i]) < 0)
            return -1;
        for (unsigned k = 0; k < i; k++)
            if (strcmp(c->files[k].dir, c->files[i].dir) == 0)
                return refuse(l, "files", "config-path", "%s stands twice: a folder holds one set", c->files[i].dir);
    }
    return 0;
}

/* --- all of it ------------------------------------------------------------------------------------------------------ */

struct agent_config *agent_config_parse(const char *yaml, size_t len, const char *dir, struct err *e)
{
    if (len > CONFIG_MAX) {
        err_set(e, ERR_CONFIG, "config-size", "file of %zu bytes; at most %d are read", len, CONFIG_MAX);
        return NULL;
    }
    struct config_file *file = config_file_parse(yaml, len, "server", e);
    struct raw *raw = file ? config_yaml_load(&root_schema, yaml, len, file, "mayfly-agent.yaml(5)", e) : NULL;
    struct agent_config *c = raw ? calloc(1, sizeof *c) : NULL;
    struct load l = {c, raw, file, dir, e};
    if (raw && !c)
        no_memory(&l);
    if (c && (fill_self(&l) < 0 || fill_key(&l) < 0 || fill_socket(&l) < 0 || fill_http(&l) < 0 ||
              fill_files(&l) < 0 || fill_logging(&l) < 0)) {
        agent_config_free(c);
        c = NULL;
    }
    config_yaml_free(&root_schema, raw);
    config_file_free(file);
    return c;
}

struct agent_config *agent_config_load(const char *path, struct err *e)
{
    char whole[PATH_MAX];
    struct buf text;
    struct agent_config *c = NULL;
    if (!realpath(path, whole)) {
        err_errno(e, "config-path", "no configuration at %s", path);
        e->code = ERR_CONFIG;
        return NULL;
    }
    buf_init(&text, CONFIG_MAX + 1);
    if (file_read(&text, whole, CONFIG_MAX, e) == 0) {
        char *slash = strrchr(whole, '/');
        *slash = 0;
        c = agent_config_parse(text.p ? (const char *)text.p : "", text.len, whole, e);
        if (!c)
            err_wrap(e, "%s", path);
    }
    buf_free(&text);
    return c;
}

static void files_free(struct agent_files *f)
{
    free(f->id);
    free(f->dir);
    free(f->owner);
    free(f->group);
    free(f->reload);
    free(f->pid_file);
    for (size_t i = 0; i < f->audience_count; i++)
        free(f->audience[i]);
    free(f->audience);
}

void agent_config_free(struct agent_config *c)
{
    if (!c)
        return;
    char *const strings[] = {c->server,    c->id,         c->trust_domain, c->trust_bundle,     c->join_token_file,
                             c->state_dir, c->key.uri,    c->key.module,   c->key.pin_file,     c->key.softhsm_conf,
                             c->socket_path, c->http_host, c->http_path};
    for (size_t i = 0; i < sizeof strings / sizeof strings[0]; i++)
        free(strings[i]);
    for (size_t i = 0; i < c->files_count; i++)
        files_free(&c->files[i]);
    free(c->files);
    free(c);
}
