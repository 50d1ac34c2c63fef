/* mayfly-agent: a workload's side of Mayfly. Dispatch only: fetch, serve and run are in files of their own, and proxy
 * is a program of its own, so that what stands in every connection's way stays small. */
#include "cmd/agent_cmd.h"
#include "cmd/args.h"
#include <errno.h>
#include <limits.h>
#include <openssl/crypto.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#define PROXY "mayfly-proxy"

static const char main_help[] =
    "usage: mayfly-agent fetch [OPTION...]\n"
    "       mayfly-agent serve --config FILE | --server URL --id SPIFFE-ID [OPTION...]\n"
    "       mayfly-agent run [OPTION...] -- COMMAND [ARGUMENT...]\n"
    "       mayfly-agent proxy [OPTION...]\n"
    "       mayfly-agent --help | --version\n"
    "\n"
    "  fetch   obtain one certificate (SVID), verify it and its log proof, write it to a folder\n"
    "  serve   stay: keep this host's identities fresh, hand them out by the SPIFFE Workload API, Envoy's\n"
    "          SDS and files\n"
    "  run     start a program with its identity ready, and tell it of each new one\n"
    "  proxy   mutual TLS in front of a server or beside a client\n"
    "\n"
    "'mayfly-agent COMMAND --help' shows its options and an example.\n";

/* Beside this program, else below libexec of the same place, else wherever PATH finds it. */
static int run_proxy(char **argv)
{
    static const char *const places[] = {PROXY, "../libexec/mayfly/" PROXY};
    char exe[PATH_MAX], path[PATH_MAX + 64];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    char name[] = PROXY;
    argv[0] = name;
    if (n > 0) {
        exe[n] = 0;
        char *slash = strrchr(exe, '/');
        for (size_t i = 0; slash && i < sizeof places / sizeof *places; i++) {
            snprintf(path, sizeof path, "%.*s/%s", (int)(slash - exe), exe, places[i]);
            execv(path, argv);
        }
    }
    execvp(PROXY, argv);
    fprintf(stderr, "mayfly-agent proxy: cannot start " PROXY ": %s. It belongs beside mayfly-agent or into PATH.\n",
            strerror(errno));
    return ARGS_FAILED;
}

static int no_command(const char *word)
{
    static const char *const commands[] = {"fetch", "serve", "run", "proxy", "--help", "--version"};
    const char *near = *word ? args_nearest(word, commands, sizeof commands / sizeof *commands) : NULL;
    if (near)
        fprintf(stderr, "mayfly-agent: no command '%s'; did you mean %s?\n", word, near);
    else if (*word)
        fprintf(stderr, "mayfly-agent: no command '%s'.\n", word);
    fprintf(stderr, "%s", main_help);
    return ARGS_USAGE;
}

int main(int argc, char **argv)
{
    const char *word = argc > 1 ? argv[1] : "";
    if (strcmp(word, "proxy") == 0)
        return run_proxy(argv + 1);
    /* Keys and tokens pass through this process: no core files, no debugger of the same user. */
    prctl(PR_SET_DUMPABLE, 0);
    signal(SIGPIPE, SIG_IGN); /* a server that hangs up is an error, not an end */
    /* Nothing of the system's OpenSSL configuration is needed, and reading it costs milliseconds. */
    OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, NULL);
    if (strcmp(word, "fetch") == 0)
        return agent_fetch_main(argc - 1, argv + 1);
    if (strcmp(word, "serve") == 0)
        return agent_serve_main(argc - 1, argv + 1);
    if (strcmp(word, "run") == 0)
        return agent_run_main(argc - 1, argv + 1);
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0) {
        printf("%s\n%s", main_help, ARGS_EXIT_HELP);
        return ARGS_OK;
    }
    if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0) {
        puts("mayfly-agent " MAYFLY_VERSION);
        return ARGS_OK;
    }
    return no_command(word);
}
