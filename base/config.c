#include "base/config.h"
#include "base/bytes.h"
#include "base/config_raw.h"
#include "base/fileio.h"
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct config *config_parse(const char *yaml, size_t len, const char *dir, struct err *e)
{
    if (len > CONFIG_MAX) {
        err_set(e, ERR_CONFIG, "config-size", "file of %zu bytes; at most %d are read", len, CONFIG_MAX);
        return NULL;
    }
    struct config_file *file = config_file_parse(yaml, len, "trust_domain", e);
    struct config_raw *raw = file ? config_raw_parse(yaml, len, file, e) : NULL;
    struct config *c = NULL;
    if (raw) {
        c = calloc(1, sizeof *c);
        if (!c)
            err_set(e, ERR_INTERNAL, "memory", "out of memory for the configuration");
        else if (config_fill(c, raw, file, dir, e) < 0) {
            config_free(c);
            c = NULL;
        }
    }
    config_raw_free(raw);
    config_file_free(file);
    return c;
}

/* The folder is the one the caller named, resolved; the file in it may be a link elsewhere (as in
 * a mounted ConfigMap) without moving the authority there. */
struct config *config_load(const char *path, struct err *e)
{
    char file[PATH_MAX], dir[PATH_MAX];
    struct stat st;
    struct buf text;
    struct config *c = NULL;
    bool folder = stat(path, &st) == 0 && S_ISDIR(st.st_mode);
    const char *slash = folder ? NULL : strrchr(path, '/'), *name = folder ? CONFIG_FILE : slash ? slash + 1 : path;
    if (folder)
        snprintf(file, sizeof file, "%s", path);
    else
        snprintf(file, sizeof file, "%.*s", slash ? (int)(slash - path) + 1 : 1, slash ? path : ".");
    if (!realpath(file, dir)) {
        err_set(e, ERR_NOT_FOUND, "config-path", "no configuration at %s: %s (mayfly init makes one)", path,
                strerror(errno));
        return NULL;
    }
    int n = snprintf(file, sizeof file, "%s/%s", dir, name);
    if (n < 0 || (size_t)n >= sizeof file) {
        err_set(e, ERR_CONFIG, "config-path", "path of the configuration is too long");
        return NULL;
    }
    buf_init(&text, CONFIG_MAX + 1);
    if (file_read(&text, file, CONFIG_MAX, e) == 0) {
        c = config_parse(text.p ? (const char *)text.p : "", text.len, dir, e);
        if (!c)
            err_wrap(e, "%s", name);
    } else if (e->code == ERR_NOT_FOUND) {
        err_wrap(e, "no configuration (mayfly init makes one)");
    }
    buf_free(&text);
    return c;
}

static void list_free(char **list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(list[i]);
    free(list);
}

void config_free(struct config *c)
{
    if (!c)
        return;
    char *const strings[] = {
        c->dir, c->trust_domain, c->listen_host, c->external_url, c->token.uri, c->token.module,
        c->token.softhsm_conf, c->token.pin_file, c->token.pin_credential, c->log.dir, c->log.origin,
        c->ca.dir, c->store_path, c->audit_index, c->signer_user, c->frontend_user, c->notary_user,
        c->run_dir,
    };
    for (size_t i = 0; i < sizeof strings / sizeof strings[0]; i++)
        free(strings[i]);
    list_free(c->names, c->names_count);
    list_free(c->log.archive, c->log.archive_count);
    list_free(c->ca.permitted_dns, c->ca.permitted_dns_count);
    for (size_t i = 0; i < c->witnesses.count; i++) {
        free(c->witnesses.list[i].url);
        free(c->witnesses.list[i].vkey);
    }
    free(c->witnesses.list);
    free(c);
}

void config_signer_socket(const struct config *c, char *dst, size_t cap)
{
    snprintf(dst, cap, "%s/" SIGNER_SOCKET, c->run_dir);
}

void config_notary_socket(const struct config *c, char *dst, size_t cap)
{
    snprintf(dst, cap, "%s/" NOTARY_SOCKET, c->run_dir);
}

void config_admin_socket(const struct config *c, char *dst, size_t cap)
{
    snprintf(dst, cap, "%s/" ADMIN_SOCKET, c->run_dir);
}
