/* mayfly hsm check: opens the token as the signer would and says what it claims of its keys. */
#include "base/secmem.h"
#include "ca/signer.h"
#include "cmd/cli.h"
#include "hsm/hsm.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char group_help[] =
    "usage: mayfly hsm check [OPTION...]\n"
    "\n"
    "  check   log in to the token, find the keys, check their attributes, sign once with each\n";

static const char check_help[] =
    "usage: mayfly hsm check [OPTION...]\n"
    "\n"
    "Opens the configured token with the configured PIN (tried once), finds the keys, and\n"
    "shows every attribute that the signer demands. Each key signs once and is verified.\n"
    "What a token says of itself is a claim, not proof.\n"
    "\n" CLI_COMMON_HELP
    "\n"
    "Example:\n"
    "  mayfly hsm check --dir ./authority\n";

struct report {
    const struct cli *cli;
    struct cli_table table;
    json_t *rows;
    unsigned bad;
};

static void report_row(void *arg, const char *key, const char *attribute, const char *value, bool ok)
{
    struct report *r = arg;
    r->bad += !ok;
    if (r->cli->json)
        json_array_append_new(r->rows, json_pack("{s:s,s:s,s:s,s:b}", "key", key, "attribute", attribute,
                                                   "value", value, "ok", ok));
    else
        cli_table_row(&r->table, key, attribute, value, ok ? "ok" : "REFUSED");
}

/* All but a JWT key that is not there yet: the signer makes that one. */
static int load_present(struct hsm *h, struct err *e)
{
    unsigned need = (1u << HSM_AUTHORITY_KEYS) - 1;
    if (!hsm_has_key(h, HSM_KEY_JWT))
        need &= ~(1u << HSM_KEY_JWT);
    return hsm_load_keys(h, need, e);
}

static int check_token(const struct cli *c, const struct config *config, struct report *r, struct err *e)
{
    struct secret pin = {0};
    struct hsm *h = NULL;
    if (signer_read_pin(config, &pin, e) < 0)
        return -1;
    if (config->token.softhsm_conf)
        setenv("SOFTHSM2_CONF", config->token.softhsm_conf, 1);
    struct hsm_options o = {.uri = config->token.uri, .module = config->token.module, .pin = &pin,
                            .sessions = 1, .call_timeout_ms = config->token.call_timeout_ms};
    int rc = hsm_open(&h, &o, e);
    secret_free(&pin);
    if (rc < 0) {
        if (strcmp(e->rule, "hsm-token") == 0 || strcmp(e->rule, "hsm-lost") == 0)
            e->code = ERR_UNAVAILABLE; /* it is away, not wrong: exit status 3 */
        return -1;
    }
    if (!c->json)
        printf("token: %s\n", hsm_token_name(h));
    rc = hsm_report(h, report_row, r, e);
    if (rc == 0 && r->bad == 0)
        rc = load_present(h, e);
    else if (rc == 0)
        rc = err_set(e, ERR_HSM, "hsm-attribute", "%u attributes are not as the signer demands; it would refuse to start", r->bad);
    hsm_close(h);
    return rc;
}

static int cli_hsm_check(int argc, char **argv)
{
    static const struct option options[] = {CLI_COMMON_OPTIONS};
    struct cli c = {0};
    for (int o; (o = args_getopt(argc, argv, "d:h", options, "mayfly hsm check")) != -1;)
        if (!cli_common(&c, o, check_help))
            return ARGS_USAGE;
    if (args_no_operands(argc, argv, "mayfly hsm check") < 0)
        return ARGS_USAGE;
    struct err e = {0};
    struct report r = {.cli = &c, .table = {.columns = 4}, .rows = json_array()};
    if (!c.json)
        cli_table_row(&r.table, "KEY", "ATTRIBUTE", "VALUE", "");
    struct config *config = cli_config(&c, &e);
    int rc = config ? check_token(&c, config, &r, &e) : -1;
    config_free(config);
    if (c.json) {
        json_t *doc = json_pack("{s:o,s:b}", "attributes", r.rows, "ok", rc == 0);
        json_dumpf(doc, stdout, JSON_COMPACT);
        putchar('\n');
        json_decref(doc);
    } else {
        if (r.table.rows > 1)
            cli_table_print(&r.table);
        json_decref(r.rows);
    }
    if (rc == 0 && !c.json)
        puts("each key signed once and was verified: the signer would start");
    int code = rc < 0 ? cli_fail(&c, "mayfly hsm check", &e) : ARGS_OK;
    fflush(NULL);
    _exit(code); /* modules and OpenSSL disagree on who cleans up first */
}

int cli_hsm(int argc, char **argv)
{
    static const struct cli_verb verbs[] = {{"check", cli_hsm_check}};
    return cli_group("mayfly hsm", group_help, verbs, 1, argc, argv);
}
