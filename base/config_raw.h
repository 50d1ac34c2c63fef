/* The configuration file as it stands, before rules and defaults: what libcyaml's schema yields,
 * and where in the file each value stood. Private to config*.c.
 * Absent values are NULL.
 */
#ifndef BASE_CONFIG_RAW_H
#define BASE_CONFIG_RAW_H
#include "base/config.h"
#include "base/config_yaml.h"
#include "base/err.h"
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct config_raw {
    char *trust_domain, *listen, *external_url;
    char **names;
    unsigned names_count;
    struct {
        char *uri, *module, *softhsm_conf;
        struct {
            char *file, *credential;
            uint32_t *fd;
        } pin;
        uint32_t *call_timeout_ms, *threads;
    } token;
    struct {
        char *dir, *origin;
        uint32_t *number;
        char **archive;
        unsigned archive_count;
    } log;
    struct {
        char *dir;
        uint32_t *default_lifetime, *max_lifetime, *rate;
        char **permitted_dns;
        unsigned permitted_dns_count;
    } ca;
    struct {
        uint32_t *short_limit, *shards, *lifetime;
    } crl;
    struct {
        char *path;
    } store;
    struct {
        char *access, *index;
    } audit;
    struct {
        uint32_t *lifetime, *token_lifetime;
    } session;
    struct {
        char *signer_user, *frontend_user, *notary_user, *dir;
    } run;
    struct {
        uint32_t *threads, *max_connections, *issue_timeout_ms;
    } frontend;
    struct {
        uint32_t *quorum, *timeout_ms;
        struct config_witness *list; /* config.h's, as it stands there */
        unsigned list_count;
    } witnesses;
    struct {
        char *level, *format;
    } logging;
};

/* Rule "config-schema": unknown keys, wrong types, missing values, with the line. */
struct config_raw *config_raw_parse(const char *yaml, size_t len, struct config_file *f, struct err *e);
void config_raw_free(struct config_raw *raw);

#define SIGNER_SOCKET "signer.sock"
#define NOTARY_SOCKET "notary.sock" /* as long */
#define ADMIN_SOCKET "admin.sock"
/* The section `witnesses` (config_witness.c). */
int config_fill_witnesses(struct config *c, const struct config_raw *raw, struct config_file *file,
                          struct err *e);
/* Checks every value, fills every default (config_rules.c). On failure c may be part filled. */
int config_fill(struct config *c, const struct config_raw *raw, struct config_file *file,
                const char *dir, struct err *e);
#endif
