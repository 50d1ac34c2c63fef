/* mayfly status, mayfly bundle show. */
#include "base/clock.h"
#include "base/fileio.h"
#include "cmd/cli.h"
#include <stdio.h>
#include <string.h>

static const char status_help[] =
    "usage: mayfly status [OPTION...]\n"
    "\n"
    "Asks the daemon how it is, and which witnesses cosigned the published head of the log. Exit\n"
    "status 0: it can issue now; 1: it runs but cannot issue; 3: it does not run.\n"
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

static const char *text(const json_t *doc, const char *key)
{
    const char *s = json_string_value(json_object_get(doc, key));
    return s ? s : "-";
}

static void print_witness(const json_t *w)
{
    char when[64];
    const char *wrong = json_string_value(json_object_get(w, "wrong"));
    if (json_is_true(json_object_get(w, "cosigned"))) {
        cli_when(when, sizeof when, number(w, "time"));
        printf("  cosigned by   %s at %s\n", text(w, "name"), when);
    } else if (wrong) {
        printf("  WRONG by      %s: %s\n", text(w, "name"), wrong);
    } else {
        printf("  NOT by        %s (%s)\n", text(w, "name"), text(w, "url"));
    }
}

static void print_witnesses(const json_t *x)
{
    const json_t *all = json_object_get(x, "witnesses"), *list = json_object_get(all, "list"), *w;
    size_t i, cosigned = 0, n = json_array_size(list);
    if (n == 0) {
        puts("witnesses       none are configured");
        return;
    }
    json_array_foreach(list, i, w)
        cosigned += json_is_true(json_object_get(w, "cosigned"));
    printf("witnesses       %zu of %zu cosigned the published head", cosigned, n);
    if (json_is_integer(json_object_get(all, "size")))
        printf(" of size %lld", number(all, "size"));
    if (number(all, "quorum"))
        printf("; the quorum is %lld%s\n", number(all, "quorum"),
               json_is_true(json_object_get(x, "unwitnessed")) ? ", and NOT THERE: nothing is issued until it is" : "");
    else
        puts("; nothing waits for them");
    json_array_foreach(list, i, w)
        print_witness(w);
}

/* By its own word, and nothing holds it back. */
static bool can_issue(const json_t *x)
{
    return json_is_true(json_object_get(x, "ready")) && !json_is_true(json_object_get(x, "unwitnessed"));
}

static void print_status(const json_t *x, const struct config *config)
{
    bool ready = json_is_true(json_object_get(x, "ready"));
    const char *token = json_string_value(json_object_get(x, "token"));
    char since[64];
    cli_when(since, sizeof since, number(x, "started"));
    printf("%s\n\n", !ready           ? "NOT READY: the signer does not answer; see the daemon's log"
                     : !can_issue(x) ? "NOT READY: nothing is signed without the quorum of witnesses"
                                     : "well: attests, logs and signs");
    printf("trust domain    %s\nserves          %s\ntoken           %s\nsigner since    %s\nlog             %s, %lld entries\n",
           config->trust_domain, config->external_url, token ? token : "-", since, config->log.origin, number(x, "log_size"));
    printf("entries         %lld\njoin tokens     %lld\nsessions        %lld\nauthorizations  %lld\nissued          %lld\nJWT-SVIDs       %lld\nrefused         %lld\nsignatures      %lld\n",
           number(x, "entries"), number(x, "tokens"), number(x, "sessions"), number(x, "authorizations"),
           number(x, "issued"), number(x, "jwts"), number(x, "refused"), number(x, "signatures"));
    print_witnesses(x);
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
    if (rc == 0 && !can_issue(answer))
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
