/* mayfly: makes and administers an authority. */
#include "cmd/cli.h"
#include <stdio.h>
#include <string.h>

static const char help[] =
    "usage: mayfly COMMAND [OPTION...]\n"
    "\n"
    "  init                       make an authority: token, keys, certificates, log\n"
    "  entry create|list|show|update|delete\n"
    "                             who may be called what\n"
    "  token create               a join token for an agent's first start\n"
    "  revoke                     deny renewal at once: by ID, prefix, serial, key, ...\n"
    "  bundle show                the trust bundle, for those who verify\n"
    "  log checkpoint|verify|show|search|export|monitor|reconcile|verify-cert|witness|archive\n"
    "                             the transparency log, and what it proves\n"
    "  hsm check                  what the token says of its keys\n"
    "  status                     is it well?\n"
    "\n"
    "  mayfly COMMAND --help      options and an example of each\n"
    "  mayfly --version           the version\n"
    "\n"
    "Example:\n"
    "  mayfly init --dir ./authority --trust-domain example.org\n"
    "  mayflyd --config ./authority &\n"
    "  mayfly entry create -d ./authority --id spiffe://example.org/web\n"
    "  mayfly token create -d ./authority --id spiffe://example.org/web\n"
    "\n" ARGS_EXIT_HELP;

int cli_group(const char *group, const char *group_help, const struct cli_verb *verbs, size_t n,
              int argc, char **argv)
{
    const char *word = argc > 1 ? argv[1] : NULL;
    if (word && (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)) {
        fputs(group_help, stdout);
        return ARGS_OK;
    }
    const char *names[16];
    for (size_t i = 0; i < n && i < 16; i++) {
        names[i] = verbs[i].name;
        if (word && strcmp(word, verbs[i].name) == 0)
            return verbs[i].run(argc - 1, argv + 1);
    }
    if (!word) {
        fputs(group_help, stderr);
        return ARGS_USAGE;
    }
    const char *near = args_nearest(word, names, n < 16 ? n : 16);
    fprintf(stderr, "%s: no command '%s'%s%s%s\nTry '%s --help'.\n", group, word,
            near ? "; did you mean '" : ".", near ? near : "", near ? "'?" : "", group);
    return ARGS_USAGE;
}

int main(int argc, char **argv)
{
    static const struct cli_verb verbs[] = {
        {"init", cli_init}, {"entry", cli_entry}, {"token", cli_token}, {"revoke", cli_revoke},   {"bundle", cli_bundle},
        {"log", cli_log},   {"hsm", cli_hsm},     {"status", cli_status},
    };
    if (argc > 1 && (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0)) {
        puts("mayfly " MAYFLY_VERSION);
        return ARGS_OK;
    }
    return cli_group("mayfly", help, verbs, sizeof verbs / sizeof *verbs, argc, argv);
}
