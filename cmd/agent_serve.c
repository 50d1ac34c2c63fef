/* mayfly-agent serve: the daemon; all of the work is in agent/. */
#include "agent/config.h"
#include "agent/daemon.h"
#include "base/secmem.h"
#include "cmd/agent_cmd.h"
#include "cmd/args.h"
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char help[] =
    "usage: mayfly-agent serve --config FILE [--token-file FILE]\n"
    "       mayfly-agent serve --server URL --id SPIFFE-ID [OPTION...]\n"
    "       mayfly-agent serve --check, with either\n"
    "\n"
    "Attests this host to the authority, keeps an SVID of its own, and keeps those of its workloads fresh:\n"
    "on the SPIFFE Workload API's socket (Envoy's SDS too), and in files. Workloads are known by the kernel's\n"
    "word. Runs in the foreground.\n"
    "\n"
    "  -c, --config FILE     the configuration, mayfly-agent.yaml(5)\n"
    "      --check           read it, say whether it is good, do nothing\n"
    "      --token-file FILE file (mode 0600) with a join token; - reads standard input. Needed at the first\n"
    "                        start, and when the agent was away for too long (or join_token_file in FILE)\n"
    "      --token TOKEN     the join token itself. Others may see a command line for a moment: prefer\n"
    "                        --token-file. - reads standard input\n"
    "  -h, --help            this text\n"
    "\n"
    "Without a configuration (what else there is has its default; files need one):\n"
    "      --server URL        the authority, e.g. https://mayfly.example.org:8443\n"
    "      --id SPIFFE-ID      the agent's own identity\n"
    "      --trust-bundle FILE the authority's roots (default: the root that the join token names)\n"
    "      --socket PATH       the Workload API (default: /run/mayfly/agent.sock; for others than root\n"
    "                          mayfly/agent.sock below $XDG_RUNTIME_DIR)\n"
    "      --state-dir DIR     chain and bundle, nothing secret (default: /var/lib/mayfly-agent; for others\n"
    "                          than root mayfly-agent below $XDG_STATE_HOME or ~/.local/state)\n"
    "      --http ADDRESS      /live, /ready, /metrics: 127.0.0.1:9876 (the default), unix:/path, or '' for none\n"
    "\n"
    "SIGHUP reads the configuration again, by executing this program anew; no token is needed for that.\n"
    "SIGTERM ends it.\n"
    "\n"
    "Example:\n"
    "  mayfly token create --id spiffe://example.org/host/web1 |\n"
    "    mayfly-agent serve --server https://localhost:8443 --id spiffe://example.org/host/web1 --token-file -\n"
    "\n" ARGS_EXIT_HELP;

enum { OPT_CHECK = 1000, OPT_TOKEN, OPT_TOKEN_FILE, OPT_PLAIN };

/* What may stand here in place of a configuration: its name here, and there. */
enum { SERVER, ID, BUNDLE, SOCKET, STATE, HTTP, PLAIN };
static const struct {
    const char *option, *there;
} plain[PLAIN] = {{"--server", "server"},       {"--id", "id"},
                  {"--trust-bundle", "trust_bundle"}, {"--socket", "socket.path"},
                  {"--state-dir", "state_dir"}, {"--http", "http"}};

static const struct option options[] = {{"config", required_argument, NULL, 'c'},
                                        {"check", no_argument, NULL, OPT_CHECK},
                                        {"token", required_argument, NULL, OPT_TOKEN},
                                        {"token-file", required_argument, NULL, OPT_TOKEN_FILE},
                                        {"server", required_argument, NULL, OPT_PLAIN + SERVER},
                                        {"id", required_argument, NULL, OPT_PLAIN + ID},
                                        {"trust-bundle", required_argument, NULL, OPT_PLAIN + BUNDLE},
                                        {"socket", required_argument, NULL, OPT_PLAIN + SOCKET},
                                        {"state-dir", required_argument, NULL, OPT_PLAIN + STATE},
                                        {"http", required_argument, NULL, OPT_PLAIN + HTTP},
                                        {"help", no_argument, NULL, 'h'},
                                        {NULL, 0, NULL, 0}};

#define AGAIN_MAX (4 + 2 * (PLAIN + 1)) /* words of the command that SIGHUP executes */

struct serve_args {
    const char *config;
    const char *plain[PLAIN]; /* NULL: not given */
    const char *token_file;   /* NULL: not given, or read already */
    struct secret token;      /* NUL-terminated; empty: none */
    bool check;
    struct buf text; /* of a configuration, from plain; "" with a file */
    char cwd[PATH_MAX], exe[PATH_MAX], file[PATH_MAX], socket[PATH_MAX], state[PATH_MAX];
    const char *again[AGAIN_MAX];
};

static int take(struct serve_args *a, int o, struct err *e)
{
    switch (o) {
    case 'c':
        a->config = optarg;
        return 0;
    case OPT_CHECK:
        a->check = true;
        return 0;
    case OPT_TOKEN:
        return agent_token_take(&a->token, optarg, e);
    case OPT_TOKEN_FILE:
        if (strcmp(optarg, "-") == 0)
            return agent_token_read(&a->token, "-", e);
        a->token_file = optarg;
        return 0;
    default:
        a->plain[o - OPT_PLAIN] = optarg;
        return 0;
    }
}

static int check_args(const struct serve_args *a, struct err *e)
{
    for (int i = 0; a->config && i < PLAIN; i++)
        if (a->plain[i])
            return err_set(e, ERR_USAGE, "config", "%s is for a start without --config: with one it is that file's %s",
                           plain[i].option, plain[i].there);
    if (!a->config && (!a->plain[SERVER] || !a->plain[ID]))
        return err_set(e, ERR_USAGE, "missing", "%s; see 'mayfly-agent serve --help'",
                       a->plain[ID]       ? "--server URL is missing"
                       : a->plain[SERVER] ? "--id SPIFFE-ID is missing"
                                          : "either --config FILE or --server URL and --id SPIFFE-ID");
    if (a->token.p && a->token_file)
        return err_set(e, ERR_USAGE, "token", "one join token, please");
    return 0;
}

static int parse(struct serve_args *a, int argc, char **argv, struct err *e)
{
    int o;
    while ((o = args_getopt(argc, argv, "c:h", options, "mayfly-agent serve")) != -1) {
        if (o == '?')
            exit(ARGS_USAGE);
        if (o == 'h') {
            fputs(help, stdout);
            exit(ARGS_OK);
        }
        if (take(a, o, e) < 0)
            return -1;
    }
    if (args_no_operands(argc, argv, "mayfly-agent serve") < 0)
        exit(ARGS_USAGE);
    return check_args(a, e);
}

/* --- a configuration from the command line -------------------------------------------------------------------------- */

/* Where others than root may write; "" when nothing says where. */
static void default_places(struct serve_args *a)
{
    const char *run = getenv("XDG_RUNTIME_DIR"), *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    if (geteuid() == 0)
        return;
    if (run && *run == '/')
        snprintf(a->socket, sizeof a->socket, "%s/mayfly/agent.sock", run);
    if (state && *state == '/')
        snprintf(a->state, sizeof a->state, "%s/mayfly-agent", state);
    else if (home && *home == '/')
        snprintf(a->state, sizeof a->state, "%s/.local/state/mayfly-agent", home);
}

static void member(struct buf *b, const char *name, const char *value)
{
    if (!value || !*value)
        return;
    buf_fmt(b, ",\"%s\":", name);
    jw_str(b, value);
}

/* JSON, which is YAML too: so the same schema and rules judge it as a file. */
static int write_config(struct serve_args *a, struct err *e)
{
    struct buf *b = &a->text;
    default_places(a);
    if (!getcwd(a->cwd, sizeof a->cwd))
        return err_errno(e, "config-path", "cannot tell the present folder");
    buf_str(b, "{\"server\":");
    jw_str(b, a->plain[SERVER]);
    member(b, "id", a->plain[ID]);
    member(b, "trust_bundle", a->plain[BUNDLE]);
    member(b, "join_token_file", a->token_file);
    member(b, "state_dir", a->plain[STATE] ? a->plain[STATE] : a->state);
    if (a->plain[HTTP]) {
        buf_str(b, ",\"http\":");
        jw_str(b, a->plain[HTTP]);
    }
    if (a->plain[SOCKET] || *a->socket) {
        buf_str(b, ",\"socket\":{\"path\":");
        jw_str(b, a->plain[SOCKET] ? a->plain[SOCKET] : a->socket);
        buf_str(b, "}");
    }
    buf_str(b, "}\n");
    return buf_cstr(b) ? 0 : err_set(e, ERR_USAGE, "config-size", "options that are too long");
}

/* "line 1: state_dir: …" is of no file that the user knows. */
static void as_option(struct err *e)
{
    for (int i = 0; i < PLAIN; i++) {
        char begin[64], rest[sizeof e->msg];
        int n = snprintf(begin, sizeof begin, "line 1: %s: ", plain[i].there);
        if (strncmp(e->msg, begin, (size_t)n) != 0)
            continue;
        snprintf(rest, sizeof rest, "%s", e->msg + n);
        err_set(e, ERR_USAGE, "option", "%s: %s", plain[i].option, rest);
        return;
    }
}

static struct agent_config *load(void *arg, struct err *e)
{
    struct serve_args *a = arg;
    if (a->config)
        return agent_config_load(a->file, e);
    struct agent_config *c = agent_config_parse((const char *)a->text.p, a->text.len, a->cwd, e);
    if (!c)
        as_option(e);
    return c;
}

/* --- doing it ---------------------------------------------------------------------------------------------------------- */

static int check(struct serve_args *a, struct err *e)
{
    struct agent_config *c = load(a, e);
    if (!c)
        return -1;
    printf("%s: good: %s of %s, %zu set%s of files\n", a->config ? a->config : "the command line", c->id, c->server,
           c->files_count, c->files_count == 1 ? "" : "s");
    agent_config_free(c);
    return 0;
}

/* What SIGHUP executes: the same without the token, which is spent. */
static void write_again(struct serve_args *a)
{
    size_t n = 0;
    a->again[n++] = a->exe;
    a->again[n++] = "serve";
    if (a->config) {
        a->again[n++] = "--config";
        a->again[n++] = a->file;
    } else {
        for (int i = 0; i < PLAIN; i++)
            if (a->plain[i]) {
                a->again[n++] = plain[i].option;
                a->again[n++] = a->plain[i];
            }
        if (a->token_file) {
            a->again[n++] = "--token-file";
            a->again[n++] = a->token_file;
        }
    }
    a->again[n] = NULL;
}

static int prepare(struct serve_args *a, struct err *e)
{
    ssize_t n = readlink("/proc/self/exe", a->exe, sizeof a->exe - 1);
    a->exe[n > 0 ? n : 0] = 0;
    if (a->config && !realpath(a->config, a->file)) /* of a re-execution too, wherever that stands */
        snprintf(a->file, sizeof a->file, "%s", a->config);
    if (a->config && a->token_file && !a->check)
        return agent_token_read(&a->token, a->token_file, e);
    return a->config ? 0 : write_config(a, e);
}

int agent_serve_main(int argc, char **argv)
{
    struct serve_args a = {0};
    struct err e = {0};
    buf_init(&a.text, 65536);
    int rc = parse(&a, argc, argv, &e);
    if (rc == 0)
        rc = prepare(&a, &e);
    if (rc == 0 && a.check) {
        rc = check(&a, &e);
    } else if (rc == 0) {
        write_again(&a);
        struct agent_serve o = {
            .load = load, .arg = &a, .again = a.again, .token = a.token.p ? (const char *)a.token.p : NULL};
        rc = agent_serve(&o, &e);
    }
    secret_free(&a.token);
    buf_free(&a.text);
    if (rc == 0)
        return ARGS_OK;
    fprintf(stderr, "mayfly-agent serve: %s\n", e.msg);
    return args_exit_code(&e);
}
