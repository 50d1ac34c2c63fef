/* What the `mayfly log` commands share: which log, and the key that it is verified by. */
#ifndef CMD_CLI_LOG_H
#define CMD_CLI_LOG_H
#include "cmd/cli.h"
#include "tlog/checkpoint.h"
#include "tlog/place.h"

#define CLI_LOG_HELP                                                                                \
    "  -d, --dir DIR   the authority's folder (default: $MAYFLY_DIR, else here, else /etc/mayfly)\n" \
    "      --log DIR   a log's folder, e.g. a mirror, instead of the authority's\n"                 \
    "      --archive DIR\n"                                                                         \
    "                  where 'mayfly log archive' moved old tiles of it (repeatable; default: as the\n"\
    "                  authority's log.archive)\n"                                                  \
    "      --vkey KEY  the log's verifier key (name+id+key); default: as the issuing\n"             \
    "                  certificate of the authority binds it\n"                                     \
    "      --json      JSON for programs instead of words for people\n"                             \
    "  -h, --help      this text\n"
enum { CLI_OPT_LOG = 1100, CLI_OPT_VKEY, CLI_OPT_ARCHIVE, CLI_LOG_OPT_FIRST }; /* after cli.h's */
#define CLI_LOG_OPTIONS                                                                             \
    {"log", required_argument, NULL, CLI_OPT_LOG}, {"vkey", required_argument, NULL, CLI_OPT_VKEY},  \
        {"archive", required_argument, NULL, CLI_OPT_ARCHIVE}, CLI_COMMON_OPTIONS

struct log_args {
    struct cli cli;
    const char *dir, *vkey_text;
    struct config *config; /* owned; NULL when dir and vkey_text say all */
    struct tlog_vkey vkey;
    char *archive[CONFIG_ARCHIVES_MAX + 1]; /* as given, NULL at the end; not owned */
    size_t archive_count;
    struct tlog_place at; /* after log_args_load */
};
/* Handles the options that every log command has; true when o was one of them. */
bool log_args_option(struct log_args *a, int o, const char *help);
/* The folder and the key, from the authority's folder where they were not given. */
int log_args_load(struct log_args *a, struct err *e);
void log_args_free(struct log_args *a);

/* What the log's files say wrongly is not the caller's mistake, nor the authority's no: it did not
 * verify, and the exit status says so. Returns -1. */
int log_unverified(struct err *e);
void log_root_text(char dst[64], const struct tlog_hash *root);

int cli_log_reconcile(int argc, char **argv);
int cli_log_show(int argc, char **argv);
int cli_log_verify(int argc, char **argv);
int cli_log_cert(int argc, char **argv);
int cli_log_search(int argc, char **argv);
int cli_log_export(int argc, char **argv);
int cli_log_checkpoint(int argc, char **argv);
int cli_log_witness(int argc, char **argv);
int cli_log_archive(int argc, char **argv);
int cli_log_monitor(int argc, char **argv);
#endif
