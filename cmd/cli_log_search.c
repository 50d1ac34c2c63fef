/* mayfly log search: finds entries by what they are about, and verifies each before it is shown. */
#include "audit/write.h"
#include "cmd/cli_log_index.h"
#include "base/clock.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COMMAND "mayfly log search"
#define OUT_MAX (64u << 20)
#define CELL 200

static const char help[] =
    "usage: " COMMAND " [FILTER...] [OPTION...]\n"
    "\n"
    "Finds entries of the log: certificates, refusals, revocations, changes of registrations and of\n"
    "the authority. Each is read from the log's files and its inclusion under the signed head is\n"
    "verified before it is shown. No server is needed: the authority's index is read when it is there,\n"
    "else one is made, in ~/.cache/mayfly or where --index says.\n"
    "\n"
    "      --id ID          of this SPIFFE ID\n"
    "      --prefix ID      of this SPIFFE ID and all below it: spiffe://example.org/web finds .../web\n"
    "                       and .../web/1, not .../webserver\n"
    "      --serial HEX     the certificate with this serial number, and what was revoked by it\n"
    "      --key HEX        of this key: SHA-256 of the SubjectPublicKeyInfo\n"
    "      --agent ID       asked for by this agent\n"
    "      --attestor KIND  on this kind of evidence, e.g. join_token\n"
    "      --entry ID       under this registration entry\n"
    "      --outcome WHAT   issued, jwt, refused, revoked, changed or authority\n"
    "      --rule RULE      refusals by this rule\n"
    "      --from TIME, --to TIME\n"
    "                       2026-01-31T12:00:00Z, or Unix seconds\n"
    "      --oldest         oldest first (default: newest first)\n"
    "      --limit N        at most so many (default 100, at most 1000)\n"
    "      --cursor TEXT    go on where --json said \"next\"\n"
    "      --all            as many as there are\n"
    "      --csv            CSV for spreadsheets\n"
    "      --index FILE     an index of your own; made when it is not there, may be deleted any time\n"
    "\n" CLI_LOG_HELP
    "\n"
    "Finding nothing proves nothing: an index can leave out. Who must be sure runs 'mayfly log verify',\n"
    "then searches with an --index of his own; 'mayfly log export' reads every entry, without an index.\n"
    "\n"
    "Example:\n"
    "  " COMMAND " -d ./authority --prefix spiffe://example.org/web --from 2026-01-31T00:00:00Z\n"
    "  " COMMAND " -d ./authority --outcome refused --limit 20\n"
    "  " COMMAND " --log mirror --vkey KEY --serial 1000000000007 --json\n";

enum {
    OPT_FILTER = CLI_LOG_OPT_FIRST, /* one for each of `filters` */
    OPT_OLDEST = OPT_FILTER + 32,
    OPT_ALL,
    OPT_CSV,
    OPT_INDEX
};
static const char *const filters[] = {"spiffe_id", "prefix", "serial", "key",  "agent", "attestor", "entry",
                                      "outcome",   "rule",   "from",   "to",   "limit", "cursor"};
static const struct option options[] = {
#define FILTER(name, i) {name, required_argument, NULL, OPT_FILTER + (i)}
    FILTER("id", 0),     FILTER("prefix", 1),   FILTER("serial", 2), FILTER("key", 3),   FILTER("agent", 4),
    FILTER("attestor", 5), FILTER("entry", 6),  FILTER("outcome", 7), FILTER("rule", 8), FILTER("from", 9),
    FILTER("to", 10),    FILTER("limit", 11),   FILTER("cursor", 12),
    {"oldest", no_argument, NULL, OPT_OLDEST},
    {"all", no_argument, NULL, OPT_ALL},
    {"csv", no_argument, NULL, OPT_CSV},
    {"index", required_argument, NULL, OPT_INDEX},
    CLI_LOG_OPTIONS};

struct search_args {
    struct log_args a;
    struct audit_filter f;
    const char *index;
    bool all, csv;
    struct audit_writer w;
    struct buf out;
    struct cli_table table;
    uint64_t shown;
    bool headed;
};

/* --- what was asked --------------------------------------------------------------------------------- */

static int option(struct search_args *s, int o, struct err *e)
{
    switch (o) {
    case OPT_OLDEST: return audit_filter_set(&s->f, "order", "oldest", strlen("oldest"), e);
    case OPT_ALL: s->all = true; return 0;
    case OPT_CSV: s->csv = true; return 0;
    case OPT_INDEX: s->index = optarg; return 0;
    default: break;
    }
    if (o >= OPT_FILTER && o < OPT_OLDEST)
        return audit_filter_set(&s->f, filters[o - OPT_FILTER], optarg, strlen(optarg), e);
    return log_args_option(&s->a, o, help) ? 0 : 1;
}

static int parse(struct search_args *s, int argc, char **argv, struct err *e)
{
    int rc = 0;
    audit_filter_init(&s->f);
    for (int o; rc == 0 && (o = args_getopt(argc, argv, "d:h", options, COMMAND)) != -1;)
        rc = option(s, o, e);
    if (rc == 0)
        rc = args_no_operands(argc, argv, COMMAND) < 0 ? 1 : audit_filter_check(&s->f, e);
    if (rc < 0)
        e->code = ERR_USAGE;
    if (rc == 0 && s->all)
        s->f.limit = AUDIT_LIMIT_MAX;
    return rc;
}

/* --- for people --------------------------------------------------------------------------------------- */

/* What a terminal may show: names in certificates are checked by nobody but who issued them. */
static void clean(char dst[CELL], const char *prefix, struct bytes v)
{
    size_t n = (size_t)snprintf(dst, CELL, "%s", prefix);
    for (size_t i = 0; i < v.len && n + 1 < CELL; i++)
        dst[n++] = v.p[i] < 0x20 || v.p[i] > 0x7e ? '?' : (char)v.p[i];
    dst[n] = 0;
}

/* Until when, and the first of whom it may be shown to. */
static void jwt_detail(char dst[CELL], const struct audit_entry *t)
{
    struct cur c = cur_of(t->record.audiences.p, t->record.audiences.len);
    struct bytes first = {NULL, 0}, more;
    char words[CELL], at[21];
    tlog_audience_next(&c, &first);
    clock_rfc3339(at, t->not_after);
    snprintf(words, sizeof words, "until %s, for %s", at, tlog_audience_next(&c, &more) ? "several: " : "");
    clean(dst, words, first);
}

static void detail(char dst[CELL], const struct audit_entry *t)
{
    const struct tlog_record_info *r = &t->record;
    char words[CELL], at[21];
    *dst = 0;
    switch (t->kind) {
    case AUDIT_ISSUED:
        clock_rfc3339(at, t->not_after);
        snprintf(words, sizeof words, "until %s%s", at, t->agent.len > 0 ? ", asked for by " : "");
        clean(dst, words, t->agent);
        break;
    case AUDIT_REFUSED:
        snprintf(words, sizeof words, "%.*s: ", (int)r->rule.len, (const char *)r->rule.p);
        clean(dst, words, r->why);
        break;
    case AUDIT_REVOKED:
        snprintf(words, sizeof words, "by %s, reason %u: ", tlog_record_code(t->type, r->code), r->reason);
        clean(dst, words, r->comment.len > 0 ? r->comment : r->value);
        break;
    case AUDIT_CHANGED:
        snprintf(words, sizeof words, "registration %s, revision %llu, by ", tlog_record_code(t->type, r->code),
                 (unsigned long long)r->revision);
        clean(dst, words, r->actor);
        break;
    case AUDIT_AUTHORITY:
        snprintf(words, sizeof words, "%s ", tlog_record_code(t->type, r->code));
        clean(dst, words, r->value);
        break;
    case AUDIT_JWT:
        jwt_detail(dst, t);
        break;
    default: break;
    }
}

static void row(struct search_args *s, const struct audit_entry *t)
{
    char index[24], at[21] = "", id[CELL], about[CELL];
    snprintf(index, sizeof index, "%llu", (unsigned long long)t->index);
    if (t->time >= 0)
        clock_rfc3339(at, t->time);
    clean(id, "", t->spiffe_id);
    detail(about, t);
    if (!s->headed)
        cli_table_row(&s->table, "INDEX", "TIME", "OUTCOME", "SPIFFE ID", "DETAIL");
    s->headed = true;
    cli_table_row(&s->table, index, at, audit_kind_name(t->kind), id, about);
}

static void last_words(const struct search_args *s, const struct tlog_reader *r, const char *next)
{
    const struct tlog_checkpoint *c = tlog_reader_head(r);
    if (s->shown == 0) {
        printf("nothing found among the %llu entries of %s\n", (unsigned long long)c->size, c->origin);
        return;
    }
    printf("\n%llu %s of %s, each verified to stand in the log under its head of size %llu\n", (unsigned long long)s->shown,
            s->shown == 1 ? "entry" : "entries", c->origin, (unsigned long long)c->size);
    if (*next)
        printf("there are more: --all shows them, --limit some\n");
}

/* --- the search ------------------------------------------------------------------------------------------ */

static bool for_people(const struct search_args *s)
{
    return !s->csv && !s->a.cli.json;
}

static int found(void *arg, const struct audit_found *f, struct err *e)
{
    struct search_args *s = arg;
    s->shown++;
    if (for_people(s))
        row(s, f->entry);
    else
        audit_write_entry(&s->w, f);
    return s->out.failed ? err_set(e, ERR_INTERNAL, "memory", "out of memory for what was found") : 0;
}

static int flush(struct search_args *s, struct err *e)
{
    fwrite(s->out.p, 1, s->out.len, stdout);
    buf_reset(&s->out);
    if (for_people(s) && s->table.rows > 0)
        cli_table_print(&s->table);
    return fflush(stdout) == 0 ? 0 : err_errno(e, "output", "cannot write");
}

/* Page by page, each shown before the next is read. */
static int pages(struct search_args *s, struct audit_index *x, struct tlog_reader *r, struct err *e)
{
    char next[AUDIT_CURSOR_LEN + 1];
    uint64_t size;
    if (audit_index_size(x, &size, e) < 0)
        return -1;
    if (!for_people(s))
        audit_write_begin(&s->w, r, size);
    do {
        if (audit_search(x, r, &s->f, 0, found, s, next, e) < 0)
            return e->code == ERR_UNAVAILABLE || e->code == ERR_INTERNAL ? -1 : log_unverified(e);
        if (flush(s, e) < 0)
            return -1;
        s->f.seen = 0; /* the cursor may be set again */
    } while (s->all && *next && audit_filter_set(&s->f, "cursor", next, strlen(next), e) == 0);
    if (for_people(s)) {
        last_words(s, r, next);
    } else {
        audit_write_end(&s->w, next);
        if (s->w.format == AUDIT_JSON)
            buf_u8(&s->out, '\n');
    }
    return flush(s, e);
}

static int run(struct search_args *s, struct err *e)
{
    struct audit_index *x = NULL;
    struct tlog_reader *r = NULL;
    s->w = (struct audit_writer){.out = &s->out, .format = s->csv ? AUDIT_CSV : AUDIT_JSON};
    s->table.columns = 5;
    if (log_args_load(&s->a, e) < 0)
        return -1;
    if (s->a.config)
        s->w.log_number = s->a.config->log.number;
    int rc = tlog_reader_open_at(&r, &s->a.at, &s->a.vkey, e) < 0 ? log_unverified(e) : 0;
    if (rc == 0)
        rc = log_index_open(&x, &s->a, s->index, r, e);
    if (rc == 0) {
        rc = pages(s, x, r, e);
        audit_index_close(x);
    }
    tlog_reader_close(r);
    return rc;
}

int cli_log_search(int argc, char **argv)
{
    struct search_args *s = calloc(1, sizeof *s);
    struct err e = {0};
    if (!s)
        return ARGS_FAILED;
    buf_init(&s->out, OUT_MAX);
    int rc = parse(s, argc, argv, &e);
    if (rc == 0)
        rc = run(s, &e);
    int code = rc > 0 ? ARGS_USAGE : rc < 0 ? cli_fail(&s->a.cli, COMMAND, &e) : ARGS_OK;
    log_args_free(&s->a);
    buf_free(&s->out);
    free(s);
    return code;
}
