/* The configuration that `mayfly init` writes. */
#include "base/fileio.h"
#include "cmd/cli_init.h"
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void yaml_str(struct buf *b, const char *s) /* a JSON string is a YAML string */
{
    jw_str(b, s);
}

/* A given SoftHSM2 token is found through the environment here; the signer's has nothing of that, so
 * what it named is written down. */
static const char *softhsm_conf(const struct init *in)
{
    const char *conf = getenv("SOFTHSM2_CONF");
    const char *in_uri = strstr(in->token_uri, "module-path=");
    const char *module = in_uri ? in_uri : in->module ? in->module : INIT_SOFTHSM_MODULE;
    return conf && *conf && strstr(module, "softhsm") ? conf : NULL;
}

static void write_token_section(const struct init *in, struct buf *b)
{
    char abs[PATH_MAX];
    buf_str(b, "token:\n  uri: ");
    yaml_str(b, in->token_uri ? in->token_uri : "pkcs11:token=mayfly");
    if (in->module) {
        buf_str(b, "\n  module: ");
        yaml_str(b, in->module);
    }
    const char *conf = in->token_uri ? softhsm_conf(in) : "token/softhsm2.conf";
    if (conf) {
        buf_str(b, "\n  softhsm_conf: ");
        yaml_str(b, in->token_uri && realpath(conf, abs) ? abs : conf);
    }
    buf_str(b, "\n  pin: ");
    if (in->pin_credential) {
        buf_str(b, "{credential: ");
        yaml_str(b, in->pin_credential);
    } else if (in->pin_fd) {
        buf_fmt(b, "{fd: %s", in->pin_fd);
    } else {
        buf_str(b, "{file: ");
        yaml_str(b, !in->pin_file ? "secret/pin" : realpath(in->pin_file, abs) ? abs : in->pin_file);
    }
    buf_str(b, "}\n");
}

static void write_users(const struct init *in, struct buf *b)
{
    if (geteuid() != 0)
        return;
    buf_str(b, "  signer_user: ");
    yaml_str(b, in->signer_user);
    buf_str(b, "\n  frontend_user: ");
    yaml_str(b, in->frontend_user);
    buf_str(b, "\n  notary_user: ");
    yaml_str(b, in->notary_user);
    buf_str(b, "\n");
}

static void write_text(const struct init *in, struct buf *b)
{
    buf_str(b, "# An authority of Mayfly; mayfly.yaml(5) explains every key.\ntrust_domain: ");
    yaml_str(b, in->trust_domain);
    buf_str(b, "\nlisten: ");
    yaml_str(b, in->listen);
    buf_str(b, "\nnames: [");
    for (size_t i = 0; i < in->names_count; i++) {
        buf_str(b, i ? ", " : "");
        yaml_str(b, in->names[i]);
    }
    buf_str(b, "]\n");
    write_token_section(in, b);
    buf_str(b, "log:\n  dir: log\n  origin: ");
    char origin[512];
    snprintf(origin, sizeof origin, "%s/log1", in->trust_domain);
    yaml_str(b, origin);
    buf_str(b, "\n  number: 1\nca:\n  dir: ca\n  default_lifetime: 300\n  max_lifetime: 3600\n"
               "store: {path: store/mayfly.db}\nsession: {lifetime: 3600, token_lifetime: 3600}\n"
               "run:\n  dir: run\n");
    write_users(in, b);
}

/* --- one that is there already ------------------------------------------------------------------ */

static bool same(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool same_names(const struct config *a, const struct config *b)
{
    for (size_t i = 0; i < a->names_count && i < b->names_count; i++)
        if (strcmp(a->names[i], b->names[i]) != 0)
            return false;
    return a->names_count == b->names_count;
}

/* The first key that an option of init decides and that has another value; NULL: none. */
static const char *differing_key(const struct config *a, const struct config *b)
{
    const struct {
        const char *key;
        bool same;
    } keys[] = {
        {"trust_domain", same(a->trust_domain, b->trust_domain)},
        {"listen", same(a->listen_host, b->listen_host) && a->listen_port == b->listen_port},
        {"names", same_names(a, b)},
        {"token.uri", same(a->token.uri, b->token.uri)},
        {"token.module", same(a->token.module, b->token.module)},
        {"token.softhsm_conf", same(a->token.softhsm_conf, b->token.softhsm_conf)},
        {"token.pin", same(a->token.pin_file, b->token.pin_file) && a->token.pin_fd == b->token.pin_fd &&
                          same(a->token.pin_credential, b->token.pin_credential)},
        {"run.signer_user", same(a->signer_user, b->signer_user)},
        {"run.frontend_user", same(a->frontend_user, b->frontend_user)},
        {"run.notary_user", same(a->notary_user, b->notary_user)},
    };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (!keys[i].same)
            return keys[i].key;
    return NULL;
}

/* Of a ceremony that was cut short, by the same command. */
static int check_existing(const char *path, const struct config *want, struct err *e)
{
    struct config *have = config_load(path, e);
    if (!have)
        return -1;
    const char *key = differing_key(have, want);
    config_free(have);
    if (key)
        return err_set(e, ERR_EXISTS, "init-config",
                       "%s is there and says something else for %s than this command; nothing was changed. "
                       "Run init as before, or remove that file",
                       path, key);
    return 0;
}

int init_write_config(const struct init *in, struct err *e)
{
    char path[4096];
    struct buf b;
    snprintf(path, sizeof path, "%s/%s", in->abs, CONFIG_FILE);
    buf_init(&b, 65536);
    write_text(in, &b);
    if (b.failed) {
        buf_free(&b);
        return err_set(e, ERR_USAGE, "init-config", "the configuration would be too long");
    }
    struct config *want = config_parse((const char *)b.p, b.len, in->abs, e);
    int rc = !want                      ? -1
             : access(path, F_OK) == 0 ? check_existing(path, want, e)
                                       : file_write_atomic(path, b.p, b.len, 0644, true, e);
    config_free(want);
    buf_free(&b);
    return rc;
}
