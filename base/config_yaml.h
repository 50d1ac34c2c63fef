/* YAML through libcyaml, for every configuration file of ours: what is in it by a schema, where it stands, and
 * refusals that name the line. Unknown keys, wrong types, a second document, NUL, aliases and deep
 * nesting are refused.
 * Not done here: what the values mean, defaults.
 */
#ifndef BASE_CONFIG_YAML_H
#define BASE_CONFIG_YAML_H
#include "base/err.h"
#include <cyaml/cyaml.h>
#include <stdarg.h>
#include <stddef.h>

#define CONFIG_MAX 65536    /* bytes of a file */
#define CONFIG_DEPTH_MAX 16 /* lists and mappings within one another */
#define CONFIG_LIST_MAX 64  /* entries of a list */
#define CONFIG_STRING_MAX 4095

struct config_file; /* the file's structure, for line numbers */
/* first: the key that the file should begin with, for the error. Rule "config-syntax". */
struct config_file *config_file_parse(const char *yaml, size_t len, const char *first, struct err *e);
void config_file_free(struct config_file *f);
/* Line of a value named as "token.threads", counted from 1; 0 when it is not in the file. */
size_t config_file_line(struct config_file *f, const char *name);

/* What the schema (a pointer to a mapping) makes of the text. Rule "config-schema", with the line. manual: where all
 * keys are listed, "mayfly.yaml(5)". */
void *config_yaml_load(const cyaml_schema_value_t *schema, const char *yaml, size_t len, struct config_file *f,
                       const char *manual, struct err *e);
void config_yaml_free(const cyaml_schema_value_t *schema, void *raw);
/* "line N: name: why", ERR_CONFIG. */
int config_refuse(struct config_file *file, const char *name, const char *rule, struct err *e,
                  const char *fmt, va_list args) __attribute__((format(printf, 5, 0)));
#endif
