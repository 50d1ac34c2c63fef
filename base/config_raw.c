#include "base/config_raw.h"
#include <cyaml/cyaml.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

/* ---- the file's structure ---- */

struct config_file {
    yaml_document_t doc;
};

static int syntax_error(const yaml_parser_t *p, struct err *e)
{
    return err_set(e, ERR_CONFIG, "config-syntax", "line %zu: not YAML: %s", p->problem_mark.line + 1,
                   p->problem ? p->problem : "unreadable");
}

/* Strings are read as C strings later; "\0" would hide what follows it. */
static int check_nodes(yaml_document_t *doc, struct err *e)
{
    for (yaml_node_t *n = doc->nodes.start; n < doc->nodes.top; n++)
        if (n->type == YAML_SCALAR_NODE && memchr(n->data.scalar.value, 0, n->data.scalar.length))
            return err_set(e, ERR_CONFIG, "config-syntax", "line %zu: NUL in a value", n->start_mark.line + 1);
    yaml_node_t *root = yaml_document_get_root_node(doc);
    if (!root || root->type != YAML_MAPPING_NODE)
        return err_set(e, ERR_CONFIG, "config-syntax",
                       "line 1: the file must be a mapping, beginning with trust_domain:");
    return 0;
}

struct config_file *config_file_parse(const char *yaml, size_t len, struct err *e)
{
    yaml_parser_t p;
    yaml_document_t next;
    struct config_file *f = calloc(1, sizeof *f);
    if (!f || !yaml_parser_initialize(&p)) {
        free(f);
        err_set(e, ERR_INTERNAL, "memory", "out of memory for the configuration");
        return NULL;
    }
    yaml_parser_set_input_string(&p, (const unsigned char *)yaml, len);
    if (!yaml_parser_load(&p, &f->doc)) {
        syntax_error(&p, e);
        goto refused;
    }
    if (check_nodes(&f->doc, e) < 0)
        goto refused_doc;
    if (!yaml_parser_load(&p, &next)) {
        syntax_error(&p, e);
        goto refused_doc;
    }
    yaml_node_t *second = yaml_document_get_root_node(&next);
    size_t line = next.start_mark.line + 1;
    yaml_document_delete(&next);
    if (second) {
        err_set(e, ERR_CONFIG, "config-syntax", "line %zu: a second document; only one is read", line);
        goto refused_doc;
    }
    yaml_parser_delete(&p);
    return f;
refused_doc:
    yaml_document_delete(&f->doc);
refused:
    yaml_parser_delete(&p);
    free(f);
    return NULL;
}

void config_file_free(struct config_file *f)
{
    if (f)
        yaml_document_delete(&f->doc);
    free(f);
}

static yaml_node_t *child(yaml_document_t *doc, yaml_node_t *map, const char *key, size_t len)
{
    if (!map || map->type != YAML_MAPPING_NODE)
        return NULL;
    for (yaml_node_pair_t *pair = map->data.mapping.pairs.start; pair < map->data.mapping.pairs.top; pair++) {
        yaml_node_t *k = yaml_document_get_node(doc, pair->key);
        if (k && k->type == YAML_SCALAR_NODE && k->data.scalar.length == len &&
            memcmp(k->data.scalar.value, key, len) == 0)
            return yaml_document_get_node(doc, pair->value);
    }
    return NULL;
}

size_t config_file_line(struct config_file *f, const char *name)
{
    yaml_node_t *n = yaml_document_get_root_node(&f->doc);
    while (n && *name) {
        size_t len = strcspn(name, ".");
        n = child(&f->doc, n, name, len);
        name += len + (name[len] == '.');
    }
    return n ? n->start_mark.line + 1 : 0;
}

/* Line where a key stands for the nth time in one mapping; 0 when nowhere. mapping_line 0: any. */
static size_t key_line(struct config_file *f, const char *key, unsigned nth, size_t mapping_line)
{
    for (yaml_node_t *n = f->doc.nodes.start; n < f->doc.nodes.top; n++) {
        if (n->type != YAML_MAPPING_NODE || (mapping_line && n->start_mark.line + 1 != mapping_line))
            continue;
        unsigned seen = 0;
        for (yaml_node_pair_t *p = n->data.mapping.pairs.start; p < n->data.mapping.pairs.top; p++) {
            yaml_node_t *k = yaml_document_get_node(&f->doc, p->key);
            if (k && k->type == YAML_SCALAR_NODE && strcmp((const char *)k->data.scalar.value, key) == 0 &&
                ++seen == nth)
                return k->start_mark.line + 1;
        }
    }
    return 0;
}

/* ---- the schema ---- */

#define STR(key, member)                                                                           \
    CYAML_FIELD_STRING_PTR(key, CYAML_FLAG_OPTIONAL, struct config_raw, member, 0, CONFIG_STRING_MAX)
#define NUM(key, member) CYAML_FIELD_UINT_PTR(key, CYAML_FLAG_OPTIONAL, struct config_raw, member)
#define LIST(key, member)                                                                          \
    CYAML_FIELD_SEQUENCE(key, CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct config_raw, member, \
                         &string_entry, 0, CONFIG_LIST_MAX)
/* Nested mappings are described with offsets into the whole, so that all is one structure. */
#define MAP(name, fields_)                                                                         \
    {                                                                                              \
        .key = name, .data_offset = 0, .value = {                                                  \
            CYAML_VALUE_MAPPING(CYAML_FLAG_OPTIONAL, struct config_raw, fields_),                  \
        }                                                                                          \
    }

static const cyaml_schema_value_t string_entry = {
    CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char *, 0, CONFIG_STRING_MAX),
};
static const cyaml_schema_field_t pin_fields[] = {
    STR("file", token.pin.file), STR("credential", token.pin.credential), NUM("fd", token.pin.fd),
    CYAML_FIELD_END};
static const cyaml_schema_field_t token_fields[] = {
    STR("uri", token.uri), STR("module", token.module), STR("softhsm_conf", token.softhsm_conf),
    MAP("pin", pin_fields), NUM("call_timeout_ms", token.call_timeout_ms),
    NUM("threads", token.threads), CYAML_FIELD_END};
static const cyaml_schema_field_t log_fields[] = {
    STR("dir", log.dir), STR("origin", log.origin), NUM("number", log.number),
    LIST("archive", log.archive), CYAML_FIELD_END};
static const cyaml_schema_field_t ca_fields[] = {
    STR("dir", ca.dir), NUM("default_lifetime", ca.default_lifetime),
    NUM("max_lifetime", ca.max_lifetime), NUM("rate", ca.rate),
    LIST("permitted_dns", ca.permitted_dns), CYAML_FIELD_END};
static const cyaml_schema_field_t crl_fields[] = {
    NUM("short_limit", crl.short_limit), NUM("shards", crl.shards), NUM("lifetime", crl.lifetime),
    CYAML_FIELD_END};
static const cyaml_schema_field_t store_fields[] = {STR("path", store.path), CYAML_FIELD_END};
static const cyaml_schema_field_t audit_fields[] = {
    STR("access", audit.access), STR("index", audit.index), CYAML_FIELD_END};
static const cyaml_schema_field_t session_fields[] = {
    NUM("lifetime", session.lifetime), NUM("token_lifetime", session.token_lifetime), CYAML_FIELD_END};
static const cyaml_schema_field_t run_fields[] = {
    STR("signer_user", run.signer_user), STR("frontend_user", run.frontend_user), STR("notary_user", run.notary_user),
    STR("dir", run.dir), CYAML_FIELD_END};
static const cyaml_schema_field_t frontend_fields[] = {
    NUM("threads", frontend.threads), NUM("max_connections", frontend.max_connections),
    NUM("issue_timeout_ms", frontend.issue_timeout_ms), CYAML_FIELD_END};
static const cyaml_schema_field_t witness_fields[] = {
    CYAML_FIELD_STRING_PTR("url", CYAML_FLAG_DEFAULT, struct config_witness, url, 0, CONFIG_STRING_MAX),
    CYAML_FIELD_STRING_PTR("vkey", CYAML_FLAG_DEFAULT, struct config_witness, vkey, 0, CONFIG_STRING_MAX),
    CYAML_FIELD_END};
static const cyaml_schema_value_t witness_entry = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct config_witness, witness_fields),
};
static const cyaml_schema_field_t witnesses_fields[] = {
    NUM("quorum", witnesses.quorum), NUM("timeout_ms", witnesses.timeout_ms),
    CYAML_FIELD_SEQUENCE("list", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct config_raw, witnesses.list,
                         &witness_entry, 0, CONFIG_LIST_MAX),
    CYAML_FIELD_END};
static const cyaml_schema_field_t logging_fields[] = {
    STR("level", logging.level), STR("format", logging.format), CYAML_FIELD_END};
static const cyaml_schema_field_t root_fields[] = {
    CYAML_FIELD_STRING_PTR("trust_domain", CYAML_FLAG_DEFAULT, struct config_raw, trust_domain, 0,
                           CONFIG_STRING_MAX),
    STR("listen", listen), LIST("names", names), STR("external_url", external_url),
    MAP("token", token_fields), MAP("log", log_fields), MAP("ca", ca_fields), MAP("crl", crl_fields),
    MAP("store", store_fields), MAP("audit", audit_fields),
    MAP("session", session_fields), MAP("run", run_fields),
    MAP("frontend", frontend_fields), MAP("witnesses", witnesses_fields),
    MAP("logging", logging_fields), CYAML_FIELD_END};
static const cyaml_schema_value_t root_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct config_raw, root_fields),
};

/* ---- libcyaml's words, kept for the error ---- */

struct words {
    char what[200];
    char where[80];
    size_t line;
};

static void keep_words(cyaml_log_t level, void *ctx, const char *fmt, va_list args)
    __attribute__((format(printf, 3, 0)));
/* It says first what is wrong ("Load: Unexpected key: x"), then where, from the inside out
 * ("  in mapping field 'token' (line: 4, column: 3)"). */
static void keep_words(cyaml_log_t level, void *ctx, const char *fmt, va_list args)
{
    struct words *w = ctx;
    char text[256];
    vsnprintf(text, sizeof text, fmt, args);
    text[strcspn(text, "\n")] = 0;
    const char *s = strncmp(text, "Load: ", 6) == 0 ? text + 6 : text;
    while (*s == ' ')
        s++;
    const char *line = strstr(s, " (line: ");
    if (line && strncmp(s, "in ", 3) == 0) {
        if (w->line == 0) {
            w->line = strtoul(line + 8, NULL, 10);
            snprintf(w->where, sizeof w->where, "%.*s", (int)(line - s), s);
        }
    } else if (!w->what[0] && strncmp(s, "Backtrace", 9) != 0) {
        snprintf(w->what, sizeof w->what, "%.*s", (int)sizeof w->what - 1, s);
    }
}

static cyaml_config_t cyaml_settings(struct words *w)
{
    /* No aliases: nothing here needs them, and they multiply. */
    return (cyaml_config_t){.log_fn = w ? keep_words : NULL,
                            .log_ctx = w,
                            .mem_fn = cyaml_mem,
                            .log_level = CYAML_LOG_WARNING,
                            .flags = CYAML_CFG_NO_ALIAS};
}

/* For an unknown key libcyaml names the line of the mapping around it, for a second one the line of
 * the first; better ones are known here. */
static void refuse_schema(const struct words *w, cyaml_err_t rc, struct config_file *f, struct err *e)
{
    static const char unknown[] = "Unexpected key: ", twice[] = "Mapping field already seen: ";
    const char *what = w->what[0] ? w->what : cyaml_strerror(rc);
    if (strncmp(what, unknown, sizeof unknown - 1) == 0) {
        const char *key = what + sizeof unknown - 1;
        size_t line = key_line(f, key, 1, w->line);
        err_set(e, ERR_CONFIG, "config-schema", "line %zu: unknown key \"%s\"; mayfly.yaml(5) lists all",
                line ? line : w->line, key);
    } else if (strncmp(what, twice, sizeof twice - 1) == 0) {
        const char *key = what + sizeof twice - 1;
        size_t line = key_line(f, key, 2, 0);
        err_set(e, ERR_CONFIG, "config-schema", "line %zu: \"%s\" stands here a second time",
                line ? line : w->line, key);
    } else if (w->line) {
        err_set(e, ERR_CONFIG, "config-schema", "line %zu: %s, %s", w->line, what, w->where);
    } else {
        err_set(e, ERR_CONFIG, "config-schema", "%s", what);
    }
}

struct config_raw *config_raw_parse(const char *yaml, size_t len, struct config_file *f, struct err *e)
{
    struct words w = {0};
    cyaml_config_t settings = cyaml_settings(&w);
    struct config_raw *raw = NULL;
    cyaml_err_t rc = cyaml_load_data((const uint8_t *)yaml, len, &settings, &root_schema,
                                     (cyaml_data_t **)&raw, NULL);
    if (rc == CYAML_OK && raw)
        return raw;
    refuse_schema(&w, rc, f, e);
    return NULL;
}

void config_raw_free(struct config_raw *raw)
{
    cyaml_config_t settings = cyaml_settings(NULL);
    if (raw)
        cyaml_free(&settings, &root_schema, raw, 0);
}
