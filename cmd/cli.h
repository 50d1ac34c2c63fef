/* The `mayfly` command: what its subcommands share. */
#ifndef CMD_CLI_H
#define CMD_CLI_H
#include "base/bytes.h"
#include "base/config.h"
#include "base/json.h"
#include "cmd/args.h"
#include <stdbool.h>

#define CLI_COMMON_HELP                                                                             \
    "  -d, --dir DIR   the authority's folder (default: $MAYFLY_DIR, else here, else /etc/mayfly)\n"  \
    "      --json      JSON for programs instead of words for people\n"                             \
    "  -h, --help      this text\n"
enum { CLI_OPT_JSON = 1000 };
#define CLI_COMMON_OPTIONS                                                                          \
    {"dir", required_argument, NULL, 'd'}, {"json", no_argument, NULL, CLI_OPT_JSON},                 \
    {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}

struct cli {
    const char *dir; /* as given, or NULL */
    bool json;
};
/* Handles the options that every command has; true when o was one of them. 'h' prints help and
 * exits. */
bool cli_common(struct cli *c, int o, const char *help);
/* The configuration of the chosen folder. NULL with e. */
struct config *cli_config(const struct cli *c, struct err *e);
/* Prints "command: message" (or a JSON error object) to stderr and returns the exit code. */
int cli_fail(const struct cli *c, const char *command, const struct err *e);
/* The option's argument. ERR_USAGE where it is no UTF-8: JSON can not say it, and to ask without it is to ask for
 * something else. */
int cli_text(const char **out, const char *option, struct err *e);

/* Asks the daemon over its admin socket. body NULL: none. The answer (owned by the caller) is the
 * parsed JSON, NULL for 204; problem documents become e. */
int cli_ask(const struct config *config, const char *method, const char *path, const char *body,
            json_t **answer, struct err *e);

/* Tables: columns are as wide as their widest cell. */
struct cli_table {
    size_t columns, rows;
    char **cells; /* rows * columns, owned */
};
void cli_table_row(struct cli_table *t, ...); /* t->columns strings; NULL is "" */
void cli_table_print(struct cli_table *t);     /* first row is the header; frees the cells */

bool cli_confirm(const char *question); /* from the terminal; false when there is none */
void cli_progress(void *what, uint64_t done, uint64_t total); /* one line on a terminal */
/* Words for people about a point in time: "2026-01-31T12:00:00Z (in 4m 10s)". */
void cli_when(char *dst, size_t cap, int64_t t);

int cli_init(int argc, char **argv);
int cli_entry(int argc, char **argv);
int cli_token(int argc, char **argv);
int cli_revoke(int argc, char **argv);
int cli_bundle(int argc, char **argv);
int cli_log(int argc, char **argv);
int cli_hsm(int argc, char **argv);
int cli_status(int argc, char **argv);
/* Runs argv[1] of a group ("entry create"); prints the group's help where it is none of them. */
struct cli_verb {
    const char *name;
    int (*run)(int argc, char **argv);
};
int cli_group(const char *group, const char *help, const struct cli_verb *verbs, size_t n, int argc, char **argv);

#endif
