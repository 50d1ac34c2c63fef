/* mayfly log export: every entry of the log in its order, each verified, straight from the files. No
 * index comes between, so nothing can be left out. */
#include "audit/write.h"
#include "cmd/cli_log.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COMMAND "mayfly log export"
#define OUT_MAX (64u << 20)
#define FLUSH_AT (1u << 20)
#define BUNDLE 256

static const char help[] =
    "usage: " COMMAND " --format jsonl|csv [--from TIME] [--to TIME] [OPTION...]\n"
    "\n"
    "Writes every entry of the log to standard output, oldest first, each verified to stand in the log\n"
    "under the signed head.\n"
    "\n"
    "      --format jsonl   a line with the head, then a line for each entry: its fields, its bytes and\n"
    "                       its inclusion proof\n"
    "      --format csv     a row for each entry, for spreadsheets\n"
    "      --from TIME, --to TIME\n"
    "                       only entries of that time: 2026-01-31T12:00:00Z, or Unix seconds\n"
    "\n" CLI_LOG_HELP
    "\n"
    "Example:\n"
    "  " COMMAND " -d ./authority --format jsonl >log.jsonl\n"
    "  " COMMAND " -d ./authority --format csv --from 2026-01-01T00:00:00Z >january.csv\n";

struct export {
    struct log_args a;
    struct audit_filter f;
    bool formatted;
    struct audit_writer w;
    struct buf out;
    struct audit_entry entry;
    struct tlog_hash path[TLOG_LEVELS];
};

static int option(struct export *x, int o, struct err *e)
{
    static const char *const names[] = {"format", "from", "to"};
    if (o < CLI_LOG_OPT_FIRST || o > CLI_LOG_OPT_FIRST + 2)
        return log_args_option(&x->a, o, help) ? 0 : 1;
    x->formatted = x->formatted || o == CLI_LOG_OPT_FIRST;
    return audit_filter_set(&x->f, names[o - CLI_LOG_OPT_FIRST], optarg, strlen(optarg), e);
}

static int parse(struct export *x, int argc, char **argv, struct err *e)
{
    static const struct option options[] = {
        {"format", required_argument, NULL, CLI_LOG_OPT_FIRST},
        {"from", required_argument, NULL, CLI_LOG_OPT_FIRST + 1},
        {"to", required_argument, NULL, CLI_LOG_OPT_FIRST + 2},
        CLI_LOG_OPTIONS};
    int rc = 0;
    audit_filter_init(&x->f);
    for (int o; rc == 0 && (o = args_getopt(argc, argv, "d:h", options, COMMAND)) != -1;)
        rc = option(x, o, e);
    if (rc == 0)
        rc = args_no_operands(argc, argv, COMMAND) < 0 ? 1 : audit_filter_check(&x->f, e);
    if (rc == 0 && (!x->formatted || x->f.format == AUDIT_JSON))
        rc = err_set(e, ERR_USAGE, "format", "say --format jsonl or --format csv");
    if (rc < 0)
        e->code = ERR_USAGE;
    return rc;
}

static int flush(struct export *x, struct err *e)
{
    if (x->out.failed)
        return err_set(e, ERR_INTERNAL, "memory", "out of memory for the export");
    fwrite(x->out.p, 1, x->out.len, stdout);
    buf_reset(&x->out);
    return ferror(stdout) || fflush(stdout) < 0 ? err_errno(e, "output", "cannot write") : 0;
}

static int entry_write(struct export *x, struct tlog_reader *r, uint64_t index, struct bytes raw, struct err *e)
{
    struct audit_found f = {&x->entry, x->path, 0};
    audit_entry_decode(&x->entry, index, raw);
    if (!audit_filter_matches(&x->f, &x->entry))
        return 0;
    if (tlog_reader_entry(r, index, &raw, x->path, &f.path_len, e) < 0)
        return log_unverified(e);
    audit_write_entry(&x->w, &f);
    return 0;
}

static int export_all(struct export *x, struct tlog_reader *r, struct err *e)
{
    char what[] = "exporting";
    uint64_t size = tlog_reader_head(r)->size;
    audit_write_begin(&x->w, r, size);
    for (uint64_t n = 0; n * BUNDLE < size; n++) {
        const struct bytes *entries;
        unsigned width;
        if (tlog_reader_bundle(r, n, &entries, &width, e) < 0)
            return log_unverified(e);
        for (unsigned i = 0; i < width; i++)
            if (entry_write(x, r, n * BUNDLE + i, entries[i], e) < 0)
                return -1;
        if (x->out.len > FLUSH_AT && flush(x, e) < 0)
            return -1;
        cli_progress(what, n * BUNDLE + width, size);
    }
    return flush(x, e);
}

static int run(struct export *x, struct err *e)
{
    struct tlog_reader *r;
    x->w = (struct audit_writer){.out = &x->out, .format = x->f.format};
    if (log_args_load(&x->a, e) < 0)
        return -1;
    if (x->a.config)
        x->w.log_number = x->a.config->log.number;
    if (tlog_reader_open_at(&r, &x->a.at, &x->a.vkey, e) < 0)
        return log_unverified(e);
    int rc = export_all(x, r, e);
    tlog_reader_close(r);
    return rc;
}

int cli_log_export(int argc, char **argv)
{
    struct export *x = calloc(1, sizeof *x);
    struct err e = {0};
    if (!x)
        return ARGS_FAILED;
    buf_init(&x->out, OUT_MAX);
    int rc = parse(x, argc, argv, &e);
    if (rc == 0)
        rc = run(x, &e);
    int code = rc > 0 ? ARGS_USAGE : rc < 0 ? cli_fail(&x->a.cli, COMMAND, &e) : ARGS_OK;
    log_args_free(&x->a);
    buf_free(&x->out);
    free(x);
    return code;
}
