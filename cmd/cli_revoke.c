/* mayfly revoke: through the daemon's admin socket, which decides. */
#include "cmd/cli.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define WAIT_MS 3000 /* for the log: publishing trails by a second, a record by less */
#define STEP_MS 50

static const char help[] =
    "usage: mayfly revoke (--serial HEX | --id SPIFFE-ID | --prefix SPIFFE-ID | --entry ID |\n"
    "                      --agent SPIFFE-ID | --key HEX) [OPTION...]\n"
    "       mayfly revoke --list [OPTION...]\n"
    "\n"
    "From the moment it returns nothing that is named is renewed. Its sessions end, its unspent join\n"
    "tokens are void, its SVIDs are no evidence any more; the log says so. Certificates that live\n"
    "still end within their lifetime.\n"
    "\n"
    "      --serial HEX        one certificate, with its key and the session that got it\n"
    "      --id SPIFFE-ID      an identity\n"
    "      --prefix SPIFFE-ID  an identity and all below it\n"
    "      --entry ID          what was given for a registration entry\n"
    "      --agent SPIFFE-ID   an agent: its own identity, and what it vouched for\n"
    "      --key HEX           a key, for ever: SHA-256 of its SubjectPublicKeyInfo\n"
    "      --reason WORD       why, as RFC 5280 calls it: unspecified (default), keyCompromise,\n"
    "                          superseded, cessationOfOperation, privilegeWithdrawn, ...\n"
    "      --comment TEXT      for the log, which is public\n"
    "      --list              the revocations that stand\n"
    "\n" CLI_COMMON_HELP
    "\n"
    "All but a key can be proven anew: a join token made later works. To end an identity for good,\n"
    "delete its entry, too (mayfly entry delete).\n"
    "\n"
    "Example:\n"
    "  mayfly revoke --id spiffe://example.org/web --reason keyCompromise\n";

struct revoke_args {
    struct cli cli;
    const char *by, *value, *reason, *comment;
    bool list;
};

static const char command[] = "mayfly revoke";

static int name(struct revoke_args *a, const char *by, struct err *e)
{
    if (a->by)
        return err_set(e, ERR_USAGE, "arguments", "name one thing: --serial, --id, --prefix, --entry, --agent or --key");
    a->by = by;
    return cli_text(&a->value, "what is revoked", e);
}

/* 0, or an exit code + 1. */
static int parse(struct revoke_args *a, int argc, char **argv)
{
    enum { OPT_SERIAL = 256, OPT_ID, OPT_PREFIX, OPT_ENTRY, OPT_AGENT, OPT_KEY, OPT_REASON, OPT_COMMENT, OPT_LIST };
    static const struct option options[] = {
        {"serial", required_argument, NULL, OPT_SERIAL}, {"id", required_argument, NULL, OPT_ID},
        {"prefix", required_argument, NULL, OPT_PREFIX}, {"entry", required_argument, NULL, OPT_ENTRY},
        {"agent", required_argument, NULL, OPT_AGENT},   {"key", required_argument, NULL, OPT_KEY},
        {"reason", required_argument, NULL, OPT_REASON}, {"comment", required_argument, NULL, OPT_COMMENT},
        {"list", no_argument, NULL, OPT_LIST},           CLI_COMMON_OPTIONS};
    struct err e = {0};
    for (int o, rc = 0; (o = args_getopt(argc, argv, "d:h", options, command)) != -1; rc = 0) {
        switch (o) {
        case OPT_SERIAL: rc = name(a, "serial", &e); break;
        case OPT_ID: rc = name(a, "spiffe_id", &e); break;
        case OPT_PREFIX: rc = name(a, "prefix", &e); break;
        case OPT_ENTRY: rc = name(a, "entry", &e); break;
        case OPT_AGENT: rc = name(a, "agent", &e); break;
        case OPT_KEY: rc = name(a, "key", &e); break;
        case OPT_REASON: rc = cli_text(&a->reason, "--reason", &e); break;
        case OPT_COMMENT: rc = cli_text(&a->comment, "--comment", &e); break;
        case OPT_LIST: a->list = true; break;
        default:
            if (!cli_common(&a->cli, o, help))
                return ARGS_USAGE + 1;
        }
        if (rc < 0)
            return cli_fail(&a->cli, command, &e) + 1;
    }
    if (args_no_operands(argc, argv, command) < 0)
        return ARGS_USAGE + 1;
    if (!a->by == !a->list) {
        err_set(&e, ERR_USAGE, "arguments",
                "what is revoked? Name one of --serial, --id, --prefix, --entry, --agent and --key, or ask for --list");
        return cli_fail(&a->cli, command, &e) + 1;
    }
    return 0;
}

static void print_json(const json_t *doc)
{
    json_dumpf(doc, stdout, JSON_COMPACT);
    putchar('\n');
}

static const char *text(const json_t *doc, const char *key)
{
    const char *s = json_string_value(json_object_get(doc, key));
    return s ? s : "";
}

static void pause_step(void)
{
    nanosleep(&(struct timespec){0, STEP_MS * 1000000L}, NULL);
}

/* --- revoking ---------------------------------------------------------------------------------------- */

static char *request_body(const struct revoke_args *a)
{
    json_t *doc = json_pack("{s:s,s:s}", "by", a->by, "value", a->value);
    if (doc && a->reason)
        json_object_set_new(doc, "reason", json_string(a->reason));
    if (doc && a->comment)
        json_object_set_new(doc, "comment", json_string(a->comment));
    char *body = doc ? json_dumps(doc, JSON_COMPACT) : NULL;
    json_decref(doc);
    return body;
}

/* What was issued just now may not be published yet: the daemon looks a serial up where all do. */
static int ask(const struct config *config, const char *body, json_t **answer, struct err *e)
{
    for (int ms = 0;; ms += STEP_MS) {
        if (cli_ask(config, "POST", "/admin/v1/revocations", body, answer, e) == 0)
            return 0;
        if (strcmp(e->rule, "log-behind") != 0 || ms >= WAIT_MS)
            return -1;
        pause_step();
    }
}

/* It is done; the log's index comes a moment later, and late where the signer is away. */
static void wait_for_log(const struct config *config, json_t *done)
{
    char path[96];
    snprintf(path, sizeof path, "/admin/v1/revocations?limit=1&after=%lld",
             (long long)json_integer_value(json_object_get(done, "id")) - 1);
    for (int ms = 0; ms < WAIT_MS && json_is_null(json_object_get(done, "log_index")); ms += STEP_MS) {
        struct err ignored = {0};
        json_t *answer = NULL;
        if (cli_ask(config, "GET", path, NULL, &answer, &ignored) < 0)
            return;
        json_t *index = json_object_get(json_array_get(json_object_get(answer, "revocations"), 0), "log_index");
        if (json_is_integer(index))
            json_object_set(done, "log_index", index);
        else
            pause_step();
        json_decref(answer);
    }
}

static void print_done(const json_t *x)
{
    const json_t *ended = json_object_get(x, "ended"), *index = json_object_get(x, "log_index");
    printf("revoked    %s %s\nended      %lld sessions, %lld authorizations, %lld unspent join tokens\n", text(x, "by"),
           text(x, "value"), (long long)json_integer_value(json_object_get(ended, "sessions")),
           (long long)json_integer_value(json_object_get(ended, "authorizations")),
           (long long)json_integer_value(json_object_get(ended, "tokens")));
    if (json_is_integer(index))
        printf("log        entry %lld\n", (long long)json_integer_value(index));
    else
        printf("log        waiting for the signer; recorded as soon as it takes it\n");
}

static int revoke_one(const struct revoke_args *a)
{
    struct err e = {0};
    json_t *done = NULL;
    char *body = request_body(a);
    struct config *config = NULL;
    int rc = body ? 0 : err_set(&e, ERR_USAGE, "arguments", "what is named must be UTF-8");
    if (rc == 0)
        rc = (config = cli_config(&a->cli, &e)) ? ask(config, body, &done, &e) : -1;
    if (rc == 0) {
        wait_for_log(config, done);
        if (a->cli.json)
            print_json(done);
        else
            print_done(done);
    }
    json_decref(done);
    free(body);
    config_free(config);
    return rc < 0 ? cli_fail(&a->cli, command, &e) : ARGS_OK;
}

/* --- the list ------------------------------------------------------------------------------------------- */

static int list_all(const struct cli *c, json_t *all, struct err *e)
{
    struct config *config = cli_config(c, e);
    char path[96] = "/admin/v1/revocations?limit=1000";
    int rc = config ? 0 : -1;
    for (bool more = rc == 0; more;) {
        json_t *answer = NULL;
        if ((rc = cli_ask(config, "GET", path, NULL, &answer, e)) < 0)
            break;
        json_array_extend(all, json_object_get(answer, "revocations"));
        const json_t *next = json_object_get(answer, "next");
        more = json_is_integer(next);
        snprintf(path, sizeof path, "/admin/v1/revocations?limit=1000&after=%lld", (long long)json_integer_value(next));
        json_decref(answer);
    }
    config_free(config);
    return rc;
}

static void print_list(const json_t *all)
{
    struct cli_table t = {.columns = 6};
    size_t i;
    json_t *x;
    if (json_array_size(all) == 0) {
        puts("no revocation stands");
        return;
    }
    cli_table_row(&t, "WHEN", "BY", "VALUE", "REASON", "ACTOR", "LOG");
    json_array_foreach(all, i, x)
    {
        char when[64], index[32] = "waiting";
        const json_t *n = json_object_get(x, "log_index");
        cli_when(when, sizeof when, json_integer_value(json_object_get(x, "time")));
        if (json_is_integer(n))
            snprintf(index, sizeof index, "%lld", (long long)json_integer_value(n));
        cli_table_row(&t, when, text(x, "by"), text(x, "value"), text(x, "reason"), text(x, "actor"), index);
    }
    cli_table_print(&t);
}

static int revoke_list(const struct revoke_args *a)
{
    struct err e = {0};
    json_t *all = json_array();
    int rc = list_all(&a->cli, all, &e);
    if (rc == 0 && a->cli.json) {
        json_t *doc = json_pack("{s:O}", "revocations", all);
        print_json(doc);
        json_decref(doc);
    } else if (rc == 0) {
        print_list(all);
    }
    json_decref(all);
    return rc < 0 ? cli_fail(&a->cli, command, &e) : ARGS_OK;
}

int cli_revoke(int argc, char **argv)
{
    struct revoke_args a = {0};
    int usage = parse(&a, argc, argv);
    if (usage)
        return usage - 1;
    return a.list ? revoke_list(&a) : revoke_one(&a);
}
