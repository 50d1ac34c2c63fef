#include "base/config_raw.h"

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

struct config_raw *config_raw_parse(const char *yaml, size_t len, struct config_file *f, struct err *e)
{
    return config_yaml_load(&root_schema, yaml, len, f, "mayfly.yaml(5)", e);
}

void config_raw_free(struct config_raw *raw)
{
    config_yaml_free(&root_schema, raw);
}
