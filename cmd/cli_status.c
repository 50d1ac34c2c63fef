/* mayfly status, mayfly bundle show. */
#include "base/clock.h"
#include "base/fileio.h"
#include "cmd/cli.h"
#include <stdio.h>
#include <string.h>

static const char status_help[] =
    "usage: mayfly status [OPTION...]\n"
    "\n"
    "Asks the daemon how it is. Exit status 0: it can issue now; 1: it runs but cannot issue;\n"
    "3: it does not run.\n"
    "\n" CLI_COMMON_HELP
    "\n"
    "Example:\n"
    "  mayfly status --dir ./authority\n";

static const char bundle_group_help[] =
    "usage: mayfly bundle show [OPTION...]\n"
    "\n"
    "  show   the trust bundle, for those who verify\n";

static const char bundle_help[] =
    "usage: mayfly bundle show [OPTION...]\n"
    "\n"
    "Prints the root certificate (PEM), or with --json the SPIFFE bundle document. Reads the\n"
    "authority's files; the daemon need not run.\n"
    "\n" CLI_COMMON_HELP
    "\n"
    "Example:\n"
    "  mayfly bundle show --dir ./authority > bundle.pem\n";

static long long number(const json_t *doc, const char *key)
{
    return (long long)json_integer_value(json_object_get(doc, key));
}

static void print_status(const json_t *x, const struct config *config)
{
    bool ready = json_is_true(json_object_get(x, "ready"));
    const char *token = json_string_value(json_object_get(x, "token"));
    char since[64];
    cli_when(since, sizeof since, number(x, "started"));
    printf("%s\n\n", ready ? "well: attests, logs and signs" : "NOT READY: the signer does not answer; see the daemon's log");
    printf("trust domain    %s\nserves          %s\ntoken           %s\nsigner since    %s\nlog             %s, %lld entries\n",
           config->trust_domain, config->external_url, token ? token : "-", since, config->log.origin, number(x, "log_size"));
    printf("entries         %lld\njoin tokens     %lld\nsessions        %lld\nauthorizations  %lld\nissued          %lld\nrefused         %lld\nsignatures      %lld\n",
           number(x, "entries"), number(x, "tokens"), number(x, "sessions"), number(x, "authorizations"),
           number(x, "issued"), number(x, "refused"), number(x, "signatures"));
}

int cli_status(int argc, char **argv)
{
    static const struct option options[] = {CLI_COMMON_OPTIONS};
    struct cli c = {0};
    for (int o; (o = args_getopt(argc, argv, "d:h", options, "mayfly status")) != -1;)
        if (!cli_common(&c, o, status_help))
            return ARGS_USAGE;
    if (args_no_operands(argc, argv, "mayfly status") < 0)
        return ARGS_USAGE;
    struct err e = {0};
    json_t *answer = NULL;
    struct config *config = cli_config(&c, &e);
    int rc = config ? cli_ask(config, "GET", "/admin/v1/status", NULL, &answer, &e) : -1;
    int code = rc < 0 ? cli_fail(&c, "mayfly status", &e) : ARGS_OK;
    if (rc == 0 && c.json) {
        json_dumpf(answer, stdout, JSON_COMPACT);
        putchar('\n');
    } else if (rc == 0) {
        print_status(answer, config);
    }
    if (rc == 0 && !json_is_true(json_object_get(answer, "ready")))
        code = ARGS_FAILED;
    json_decref(answer);
    config_free(config);
    return code;
}

static int bundle_show(int argc, char **argv)
{
    static const struct option options[] = {CLI_COMMON_OPTIONS};
    struct cli c = {0};
    for (int o; (o = args_getopt(argc, argv, "d:h", options, "mayfly bundle show")) != -1;)
        if (!cli_common(&c, o, bundle_help))
            return ARGS_USAGE;
    if (args_no_operands(argc, argv, "mayfly bundle show") < 0)
        return ARGS_USAGE;
    struct err e = {0};
    struct buf b;
    char path[4096];
    buf_init(&b, 1 << 20);
    struct config *config = cli_config(&c, &e);
    int rc = config ? 0 : -1;
    if (rc == 0) {
        snprintf(path, sizeof path, "%s/%s", config->ca.dir, c.json ? "bundle.json" : "root.pem");
        rc = file_read(&b, path, 1 << 20, &e);
    }
    if (rc == 0) {
        fwrite(b.p, 1, b.len, stdout);
        if (b.len && b.p[b.len - 1] != '\n')
            putchar('\n');
    }
    int code = rc < 0 ? cli_fail(&c, "mayfly bundle show", &e) : ARGS_OK;
    buf_free(&b);
    config_free(config);
    return code;
}

int cli_bundle(int argc, char **argv)
{
    static const struct cli_verb verbs[] = {{"show", bundle_show}};
    return cli_group("mayfly bundle", bundle_group_help, verbs, 1, argc, argv);
}
