/* `mayfly-agent run`: the command line; the work is in agent/run.c. */
#include "agent/run.h"
#include "base/log.h"
#include "base/spiffe.h"
#include "cmd/agent_cmd.h"
#include "cmd/args.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SOCKET_DEFAULT "unix:///run/mayfly/agent.sock"
#define TIMEOUT_DEFAULT 30 /* seconds */
#define GRACE_DEFAULT 10

static const char help[] =
    "usage: mayfly-agent run [OPTION...] -- COMMAND [ARGUMENT...]\n"
    "\n"
    "Starts a program as soon as its identity (SVID) is there, and keeps that fresh while it runs.\n"
    "\n"
    "      --id SPIFFE-ID         which identity, where the agent gives several (default: its first)\n"
    "      --on-rotate WHAT       what the program gets when the files have changed:\n"
    "                             none (the default: it reads them again by itself), restart, or a\n"
    "                             signal's name as HUP\n"
    "      --restart-grace TIME   with restart, between SIGTERM and SIGKILL (default 10s)\n"
    "      --jwt AUDIENCE         also a JWT-SVID for this audience; repeatable, at most 16\n"
    "      --dir DIR              where the files go (default: a private folder in memory)\n"
    "      --timeout TIME         give up when there is no identity after this long (default 30s)\n"
    "      --socket SOCKET        the agent's socket (default: $SPIFFE_ENDPOINT_SOCKET, or\n"
    "                             unix:///run/mayfly/agent.sock)\n"
    "  -h, --help                 this text\n"
    "\n"
    "The program finds its files by $MAYFLY_SVID, $MAYFLY_KEY, $MAYFLY_BUNDLE, and $MAYFLY_JWT; all in\n"
    "$MAYFLY_SVID_DIR, which is removed when it ends. $SPIFFE_ENDPOINT_SOCKET is the agent's socket. Signals are\n"
    "passed on. While the agent is away the program goes on with what it has.\n"
    "\n"
    "Example:\n"
    "  mayfly-agent run --on-rotate HUP -- \\\n"
    "    sh -c 'exec stunnel -fd 0 <<END\n"
    "  foreground = yes\n"
    "  [web]\n"
    "  accept = 8443\n"
    "  connect = 8080\n"
    "  cert = $MAYFLY_SVID\n"
    "  key = $MAYFLY_KEY\n"
    "  CAfile = $MAYFLY_BUNDLE\n"
    "  verifyChain = yes\n"
    "  END'\n"
    "\n"
    "Exit status: the program's, or 128 and the number of the signal that ended it. Before it is started:\n"
    "2 usage, 3 no agent answers, 4 no identity for us, 126 the command can not be run, 127 there is none, 1 other.\n";

enum { OPT_ID = 1000, OPT_ROTATE, OPT_GRACE, OPT_JWT, OPT_DIR, OPT_TIMEOUT, OPT_SOCKET };

static const struct option options[] = {
    {"id", required_argument, NULL, OPT_ID},           {"on-rotate", required_argument, NULL, OPT_ROTATE},
    {"restart-grace", required_argument, NULL, OPT_GRACE}, {"jwt", required_argument, NULL, OPT_JWT},
    {"dir", required_argument, NULL, OPT_DIR},         {"timeout", required_argument, NULL, OPT_TIMEOUT},
    {"socket", required_argument, NULL, OPT_SOCKET},   {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0}};

/* Signals that a program may take as "read your files again"; not those that end it for certain. */
static const struct {
    const char *name;
    int number;
} signals[] = {{"HUP", SIGHUP},   {"USR1", SIGUSR1}, {"USR2", SIGUSR2},
               {"WINCH", SIGWINCH}, {"INT", SIGINT},   {"TERM", SIGTERM}, {"QUIT", SIGQUIT}};

static int take_rotate(struct run_config *c, const char *word, struct err *e)
{
    const char *name = strncmp(word, "SIG", 3) == 0 ? word + 3 : word;
    if (strcmp(word, "none") == 0)
        c->rotate = RUN_NOTHING;
    else if (strcmp(word, "restart") == 0)
        c->rotate = RUN_RESTART;
    else
        c->rotate = RUN_SIGNAL;
    if (c->rotate != RUN_SIGNAL)
        return 0;
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        if (strcmp(name, signals[i].name) == 0) {
            c->signal = signals[i].number;
            return 0;
        }
    return err_set(e, ERR_USAGE, "on-rotate",
                   "--on-rotate: '%s' is none of: none, restart, HUP, USR1, USR2, WINCH, INT, TERM, QUIT", word);
}

static int take_id(struct run_config *c, const char *text, struct err *e)
{
    struct spiffe_id id;
    c->spiffe_id = text;
    if (spiffe_parse(&id, text, strlen(text), e) < 0)
        return -1;
    return id.path.len ? 0
                       : err_set(e, ERR_USAGE, "spiffe-id", "--id: '%s' names a whole trust domain, no workload", text);
}

static int take_jwt(struct run_config *c, const char *audience, struct err *e)
{
    if (!*audience || c->audience_count == RUN_AUDIENCES_MAX)
        return err_set(e, ERR_USAGE, "jwt", "--jwt: an audience that is not empty, at most %d times", RUN_AUDIENCES_MAX);
    c->audience[c->audience_count++] = audience;
    return 0;
}

static int take_time(unsigned *ms, const char *text, const char *option, struct err *e)
{
    unsigned seconds;
    if (args_duration(text, 86400, option, &seconds, e) < 0)
        return -1;
    *ms = seconds * 1000;
    return 0;
}

static int take_option(struct run_config *c, int o, struct err *e)
{
    switch (o) {
    case OPT_ID:
        return take_id(c, optarg, e);
    case OPT_ROTATE:
        return take_rotate(c, optarg, e);
    case OPT_GRACE:
        return take_time(&c->grace_ms, optarg, "--restart-grace", e);
    case OPT_JWT:
        return take_jwt(c, optarg, e);
    case OPT_DIR:
        c->dir = optarg;
        return 0;
    case OPT_TIMEOUT:
        return take_time(&c->timeout_ms, optarg, "--timeout", e);
    case OPT_SOCKET:
        c->endpoint = optarg;
        return 0;
    default:
        return err_set(e, ERR_USAGE, "option", "unknown option");
    }
}

static int find_dashes(int argc, char **argv)
{
    int i = 1;
    while (i < argc && strcmp(argv[i], "--") != 0)
        i++;
    return i;
}

/* Options of ours end at "--": what is behind it is the program's, and never read as ours. */
static int parse(struct run_config *c, int argc, char **argv, struct err *e)
{
    int o, ours = find_dashes(argc, argv);
    while ((o = args_getopt(ours, argv, "h", options, "mayfly-agent run")) != -1) {
        if (o == '?')
            exit(ARGS_USAGE);
        if (o == 'h') {
            fputs(help, stdout);
            exit(ARGS_OK);
        }
        if (take_option(c, o, e) < 0)
            return -1;
    }
    if (optind < ours)
        return err_set(e, ERR_USAGE, "argument", "write -- before the command: mayfly-agent run [OPTION...] -- %s ...",
                       argv[optind]);
    if (ours + 1 >= argc)
        return err_set(e, ERR_USAGE, "argument", "no command: mayfly-agent run [OPTION...] -- COMMAND [ARGUMENT...]");
    c->argv = argv + ours + 1;
    return 0;
}

int agent_run_main(int argc, char **argv)
{
    const char *socket = getenv("SPIFFE_ENDPOINT_SOCKET");
    struct run_config c = {.endpoint = socket && *socket ? socket : SOCKET_DEFAULT,
                           .timeout_ms = TIMEOUT_DEFAULT * 1000,
                           .grace_ms = GRACE_DEFAULT * 1000};
    struct err e = {0};
    int status = 0;
    log_setup("mayfly-agent run", LOG_INFO, LOG_AUTO);
    if (parse(&c, argc, argv, &e) < 0) {
        fprintf(stderr, "mayfly-agent run: %s\nTry 'mayfly-agent run --help'.\n", e.msg);
        return ARGS_USAGE;
    }
    if (run(&c, &status, &e) == 0)
        return status;
    fprintf(stderr, "mayfly-agent run: %s\n", e.msg);
    return status ? status : args_exit_code(&e);
}
