/* mayfly log archive: old tiles to another folder, beside a daemon that goes on. What may go and in
 * what order is tlog/archive.h's; here, that whoever serves the log will find it there. */
#include "audit/entry.h"
#include "base/clock.h"
#include "cmd/cli_log.h"
#include "tlog/archive.h"
#include "tlog/reader.h"
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define COMMAND "mayfly log archive"
#define BUNDLE 256
#define AGE_MAX (100L * 366 * 86400)

static const char help[] =
    "usage: " COMMAND " [-d DIR] --to DIR [--keep N | --older-than AGE] [--dry-run]\n"
    "\n"
    "Moves full entry bundles and hash tiles of the log's older part to another folder, which may be on\n"
    "another file system. The daemon goes on meanwhile, and serves them from there: every URL and proof\n"
    "stays as it was. Each file is verified under the signed head, copied, made durable, read back and\n"
    "compared before the original goes; a run that was cut short is gone on with by the same command.\n"
    "\n"
    "First make the folder, name it in mayfly.yaml, as log: {archive: [DIR]}, and restart the daemon,\n"
    "whose users must be able to read it. Run this as root, or as the user that the signer runs as.\n"
    "\n"
    "      --to DIR          the folder: empty, or this log's archive\n"
    "      --keep N          leave the newest N entries where they are\n"
    "      --older-than AGE  move only what is older, e.g. 30d\n"
    "      --dry-run         say what would be moved\n"
    "  -d, --dir DIR         the authority's folder (default: $MAYFLY_DIR, else here, else /etc/mayfly)\n"
    "      --json            JSON for programs instead of words for people\n"
    "  -h, --help            this text\n"
    "\n"
    "Always stay: head, journal, checkpoint, partial tiles, the tiles of level 1 and up (an eighth of a\n"
    "byte for each entry), and the entries that the journal still holds (its last 4 to 8 MB). Tiles of\n"
    "level 0 go 65,536 entries at a time. Without the archive the daemon starts and issues; what was\n"
    "moved is then answered 503. DIR behind any web server is a mirror of what was moved.\n"
    "\n"
    "Example:\n"
    "  " COMMAND " -d ./authority --to /mnt/archive/log1 --older-than 90d\n";

struct archive_args {
    struct log_args a;
    const char *to;
    char folder[PATH_MAX]; /* the same, absolute */
    long keep;             /* -1: not given */
    unsigned older;        /* 0: not given */
    bool dry_run;
    struct tlog_archive_report r;
    struct audit_entry entry;
};

/* --- what was asked ------------------------------------------------------------------------------- */

static int option(struct archive_args *x, int o, struct err *e)
{
    enum { OPT_TO = CLI_LOG_OPT_FIRST, OPT_KEEP, OPT_OLDER, OPT_DRY };
    switch (o) {
    case OPT_TO: x->to = optarg; return 0;
    case OPT_KEEP: return args_number(optarg, 0, LONG_MAX, "--keep", &x->keep, e);
    case OPT_OLDER: return args_duration(optarg, AGE_MAX, "--older-than", &x->older, e);
    case OPT_DRY: x->dry_run = true; return 0;
    default: return cli_common(&x->a.cli, o, help) ? 0 : 1;
    }
}

static int parse(struct archive_args *x, int argc, char **argv, struct err *e)
{
    static const struct option options[] = {{"to", required_argument, NULL, CLI_LOG_OPT_FIRST},
                                            {"keep", required_argument, NULL, CLI_LOG_OPT_FIRST + 1},
                                            {"older-than", required_argument, NULL, CLI_LOG_OPT_FIRST + 2},
                                            {"dry-run", no_argument, NULL, CLI_LOG_OPT_FIRST + 3},
                                            CLI_COMMON_OPTIONS};
    for (int o; (o = args_getopt(argc, argv, "d:h", options, COMMAND)) != -1;) {
        int rc = option(x, o, e);
        if (rc != 0)
            return rc;
    }
    if (args_no_operands(argc, argv, COMMAND) < 0)
        return 1;
    if (!x->to)
        return err_set(e, ERR_USAGE, "arguments", "--to is needed: the folder to move old tiles to");
    return x->keep >= 0 && x->older ? err_set(e, ERR_USAGE, "arguments", "--keep or --older-than, not both") : 0;
}

/* --- who must know the folder --------------------------------------------------------------------- */

static bool same_folder(const char *a, const char *b)
{
    struct stat x, y;
    if (strcmp(a, b) == 0)
        return true;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

static int folder_set(struct archive_args *x, struct err *e)
{
    char here[PATH_MAX];
    if (!getcwd(here, sizeof here))
        return err_errno(e, "archive", "cannot tell the current folder");
    bool absolute = *x->to == '/';
    if (snprintf(x->folder, sizeof x->folder, "%s%s%s", absolute ? "" : here, absolute ? "" : "/", x->to) >= PATH_MAX)
        return err_set(e, ERR_USAGE, "arguments", "--to: the path is too long");
    for (size_t n = strlen(x->folder); n > 1 && x->folder[n - 1] == '/'; n--)
        x->folder[n - 1] = 0;
    return 0;
}

static int config_knows(const struct archive_args *x, struct err *e)
{
    const struct config *c = x->a.config;
    for (size_t i = 0; i < c->log.archive_count; i++)
        if (same_folder(c->log.archive[i], x->folder))
            return 0;
    return err_set(e, ERR_CONFIG, "archive-config",
                   "%.150s/" CONFIG_FILE " does not name %.150s, so nobody would look there: make the folder, add it "
                   "under log: as archive: [DIR], restart the daemon, and give this command again",
                   c->dir, x->folder);
}

/* One that was started before the configuration named the folder, or before the folder was there, would not
 * find what was moved. */
static int daemon_knows(const struct archive_args *x, struct err *e)
{
    json_t *answer = NULL, *one;
    size_t i;
    if (cli_ask(x->a.config, "GET", "/admin/v1/status", NULL, &answer, e) < 0)
        return strcmp(e->rule, "daemon-away") == 0 ? 0 : -1; /* none runs: the next will read it */
    bool knows = false;
    json_array_foreach(json_object_get(answer, "archive"), i, one)
        knows = knows || (json_is_string(one) && same_folder(json_string_value(one), x->folder));
    json_decref(answer);
    return knows ? 0
                 : err_set(e, ERR_CONFIG, "archive-daemon",
                           "the running daemon cannot read %.200s: make the folder, let the daemon's users read it, restart "
                           "the daemon, and give this command again",
                           x->folder);
}

static int may_remove(const struct archive_args *x, struct err *e)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%.4000s/tile/entries", x->a.dir);
    if (access(path, W_OK | X_OK) == 0)
        return 0;
    return err_errno(e, "archive-user", "this user may not remove files from %s: run this as root, or as the signer's user",
                     path);
}

/* --- how far -------------------------------------------------------------------------------------- */

/* Of the first entry of the bundle that has a time; -1: none has. */
static int bundle_time(struct archive_args *x, struct tlog_reader *r, uint64_t n, int64_t *time, struct err *e)
{
    const struct bytes *entries;
    unsigned width;
    if (tlog_reader_bundle(r, n, &entries, &width, e) < 0)
        return log_unverified(e);
    *time = -1;
    for (unsigned i = 0; i < width && *time < 0; i++) {
        audit_entry_decode(&x->entry, n * BUNDLE + i, entries[i]);
        *time = x->entry.time;
    }
    return 0;
}

/* The first bundle that begins after the point in time: times ascend, but for a few seconds. */
static int before_time(struct archive_args *x, struct tlog_reader *r, int64_t point, uint64_t *before, struct err *e)
{
    uint64_t low = 0, high = tlog_reader_head(r)->size / BUNDLE;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        int64_t time = 0;
        if (bundle_time(x, r, middle, &time, e) < 0)
            return -1;
        if (time < point)
            low = middle + 1;
        else
            high = middle;
    }
    *before = low > 0 ? (low - 1) * BUNDLE : 0; /* the one before may end after it */
    return 0;
}

static int before_find(struct archive_args *x, uint64_t *before, struct err *e)
{
    struct tlog_reader *r;
    *before = UINT64_MAX;
    if (x->keep <= 0 && x->older == 0)
        return 0;
    if (tlog_reader_open_at(&r, &x->a.at, &x->a.vkey, e) < 0)
        return log_unverified(e);
    int rc = 0;
    uint64_t size = tlog_reader_head(r)->size;
    if (x->older > 0)
        rc = before_time(x, r, clock_wall() - (int64_t)x->older, before, e);
    else
        *before = size > (uint64_t)x->keep ? size - (uint64_t)x->keep : 0;
    tlog_reader_close(r);
    return rc;
}

/* --- the command ---------------------------------------------------------------------------------- */

static void progress(void *arg, uint64_t done, uint64_t total)
{
    static char what[] = "archiving";
    cli_progress(what, done, total);
}

static int run(struct archive_args *x, struct err *e)
{
    uint64_t before;
    if (log_args_load(&x->a, e) < 0 || folder_set(x, e) < 0 || config_knows(x, e) < 0 || daemon_knows(x, e) < 0 ||
        may_remove(x, e) < 0 || before_find(x, &before, e) < 0)
        return -1;
    umask(022); /* who serves the log is another user */
    const struct tlog_archive_options o = {.at = &x->a.at,
                                           .vkey = &x->a.vkey,
                                           .to = x->folder,
                                           .before = before,
                                           .dry_run = x->dry_run,
                                           .progress = progress};
    return tlog_archive(&o, &x->r, e) < 0 ? log_unverified(e) : 0;
}

static void say(const struct archive_args *x)
{
    const struct tlog_archive_report *r = &x->r;
    if (x->a.cli.json) {
        json_t *doc = json_pack("{s:s,s:b,s:I,s:I,s:I,s:I,s:I,s:I}", "archive", x->folder, "dry_run", x->dry_run, "size",
                                (json_int_t)r->size, "entries_below", (json_int_t)r->entries_below, "hashes_below",
                                (json_int_t)r->hashes_below, "bundles", (json_int_t)r->bundles, "tiles", (json_int_t)r->tiles,
                                "bytes", (json_int_t)r->bytes);
        json_dumpf(doc, stdout, JSON_COMPACT);
        putchar('\n');
        json_decref(doc);
        return;
    }
    printf("%s %llu entry bundles and %llu hash tiles, %.1f MB, to %s\n", x->dry_run ? "would move" : "moved",
           (unsigned long long)r->bundles, (unsigned long long)r->tiles, (double)r->bytes / 1e6, x->folder);
    /* An earlier run may have been asked for more, and nothing comes back. */
    const char *least = x->keep > 0 || x->older > 0 ? "at least " : "";
    printf("of %llu entries, %sthose below %llu %s there (their hashes below %llu)\n", (unsigned long long)r->size, least,
           (unsigned long long)r->entries_below, x->dry_run ? "would be" : "are", (unsigned long long)r->hashes_below);
}

int cli_log_archive(int argc, char **argv)
{
    struct archive_args *x = calloc(1, sizeof *x);
    struct err e = {0};
    if (!x)
        return ARGS_FAILED;
    x->keep = -1;
    int rc = parse(x, argc, argv, &e);
    if (rc == 0)
        rc = run(x, &e);
    int code = rc > 0 ? ARGS_USAGE : rc < 0 ? cli_fail(&x->a.cli, COMMAND, &e) : ARGS_OK;
    if (rc == 0)
        say(x);
    log_args_free(&x->a);
    free(x);
    return code;
}
