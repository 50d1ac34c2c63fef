#include "base/config_yaml.h"
#include <stdbool.h>
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
static int check_nodes(yaml_document_t *doc, const char *first, struct err *e)
{
    for (yaml_node_t *n = doc->nodes.start; n < doc->nodes.top; n++)
        if (n->type == YAML_SCALAR_NODE && memchr(n->data.scalar.value, 0, n->data.scalar.length))
            return err_set(e, ERR_CONFIG, "config-syntax", "line %zu: NUL in a value", n->start_mark.line + 1);
    yaml_node_t *root = yaml_document_get_root_node(doc);
    if (!root || root->type != YAML_MAPPING_NODE)
        return err_set(e, ERR_CONFIG, "config-syntax",
                       "line 1: the file must be a mapping, beginning with %s:", first);
    return 0;
}

/* libyaml's time grows with the square of the depth: 65536 brackets take it seconds. So the depth is looked at as it
 * reads, before anything is built. What is no YAML is the loader's to say. */
static int check_depth(const char *yaml, size_t len, struct err *e)
{
    yaml_parser_t p;
    yaml_event_t event;
    bool more = true;
    int depth = 0, rc = 0;
    if (!yaml_parser_initialize(&p))
        return err_set(e, ERR_INTERNAL, "memory", "out of memory for the configuration");
    yaml_parser_set_input_string(&p, (const unsigned char *)yaml, len);
    while (rc == 0 && more && yaml_parser_parse(&p, &event)) {
        more = event.type != YAML_STREAM_END_EVENT;
        depth += (event.type == YAML_SEQUENCE_START_EVENT || event.type == YAML_MAPPING_START_EVENT) -
                 (event.type == YAML_SEQUENCE_END_EVENT || event.type == YAML_MAPPING_END_EVENT);
        if (depth > CONFIG_DEPTH_MAX)
            rc = err_set(e, ERR_CONFIG, "config-syntax", "line %zu: nested deeper than %d",
                         event.start_mark.line + 1, CONFIG_DEPTH_MAX);
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&p);
    return rc;
}

struct config_file *config_file_parse(const char *yaml, size_t len, const char *first, struct err *e)
{
    yaml_parser_t p;
    yaml_document_t next;
    if (check_depth(yaml, len, e) < 0)
        return NULL;
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
    if (check_nodes(&f->doc, first, e) < 0)
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

/* Its "Expecting MAPPING, got event: SCALAR". */
static const char *wanted(const char *what)
{
    static const char begin[] = "Expecting ";
    if (strncmp(what, begin, sizeof begin - 1) != 0)
        return what;
    what += sizeof begin - 1;
    return strncmp(what, "MAPPING", 7) == 0    ? "keys with values belong here, as {key: value}"
           : strncmp(what, "SEQUENCE", 8) == 0 ? "a list belongs here, as [one, two]"
                                               : "one value belongs here, no list and no keys";
}

/* For an unknown key libcyaml names the line of the mapping around it, for a second one the line of
 * the first; better ones are known here. */
static void refuse_schema(const struct words *w, cyaml_err_t rc, struct config_file *f, const char *manual,
                          struct err *e)
{
    static const char unknown[] = "Unexpected key: ", twice[] = "Mapping field already seen: ",
                      missing[] = "Missing required mapping field: ";
    const char *what = w->what[0] ? w->what : cyaml_strerror(rc);
    if (strncmp(what, unknown, sizeof unknown - 1) == 0) {
        const char *key = what + sizeof unknown - 1;
        size_t line = key_line(f, key, 1, w->line);
        if (line == 0) /* it named another line than the mapping's first */
            line = key_line(f, key, 1, 0);
        err_set(e, ERR_CONFIG, "config-schema", "line %zu: unknown key \"%s\"; %s lists all",
                line ? line : w->line, key, manual);
    } else if (strncmp(what, twice, sizeof twice - 1) == 0) {
        const char *key = what + sizeof twice - 1;
        size_t line = key_line(f, key, 2, 0);
        err_set(e, ERR_CONFIG, "config-schema", "line %zu: \"%s\" stands here a second time",
                line ? line : w->line, key);
    } else if (w->line && strncmp(what, missing, sizeof missing - 1) == 0) { /* "where" is the key that it saw last */
        err_set(e, ERR_CONFIG, "config-schema", "line %zu: %s is missing; %s says what it is", w->line,
                what + sizeof missing - 1, manual);
    } else if (w->line) {
        err_set(e, ERR_CONFIG, "config-schema", "line %zu: %s, %s", w->line, wanted(what), w->where);
    } else {
        err_set(e, ERR_CONFIG, "config-schema", "%s", what);
    }
}

void *config_yaml_load(const cyaml_schema_value_t *schema, const char *yaml, size_t len, struct config_file *f,
                       const char *manual, struct err *e)
{
    struct words w = {0};
    cyaml_config_t settings = cyaml_settings(&w);
    cyaml_data_t *raw = NULL;
    cyaml_err_t rc = cyaml_load_data((const uint8_t *)yaml, len, &settings, schema, &raw, NULL);
    if (rc == CYAML_OK && raw)
        return raw;
    refuse_schema(&w, rc, f, manual, e);
    return NULL;
}

void config_yaml_free(const cyaml_schema_value_t *schema, void *raw)
{
    cyaml_config_t settings = cyaml_settings(NULL);
    if (raw)
        cyaml_free(&settings, schema, raw, 0);
}

/* ---- refusals ---- */

int config_refuse(struct config_file *file, const char *name, const char *rule, struct err *e,
                  const char *fmt, va_list args)
{
    char why[300];
    vsnprintf(why, sizeof why, fmt, args);
    size_t line = config_file_line(file, name);
    if (line)
        return err_set(e, ERR_CONFIG, rule, "line %zu: %s: %s", line, name, why);
    return err_set(e, ERR_CONFIG, rule, "%s: %s", name, why);
}
