/* mayfly log verify: replays the published log, or what is new since a head that the auditor kept,
 * and says what stands in it and what does not fit. The rules are tlog/audit.h's. */
#include "base/clock.h"
#include "base/fileio.h"
#include "cmd/cli_log.h"
#include "tlog/audit.h"
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COMMAND "mayfly log verify"
#define KEPT 100 /* findings shown; all are counted */
#define LIFETIME_MAX (10L * 366 * 86400)
#define THREADS_MAX 256

static const char help[] =
    "usage: " COMMAND " [OPTION...]\n"
    "\n"
    "Replays the published log: the head's signature, every entry against its leaf hash, every\n"
    "tile, the root; and judges each entry by its form, its lifetime, the revision of its\n"
    "registration entry (for one entry it never falls) and its time (which never goes back).\n"
    "\n"
    "      --from FILE         only what is new since this head, a copy of the log's `checkpoint`\n"
    "                          that you kept; and prove that the log still begins with what that\n"
    "                          head signed\n"
    "      --max-lifetime DUR  the longest that a certificate may be valid, e.g. 10m (default 1h);\n"
    "                          10 s of backdate are allowed besides\n"
    "      --threads N         readers at a time (default: four for each processor, at least 8:\n"
    "                          while some wait for the disk, others hash)\n"
    "\n" CLI_LOG_HELP
    "\n"
    "A serial does not stand in the log: it is (log number << 48) | index. That a certificate has\n"
    "the serial of its entry is checked where the certificate is, by 'mayfly-agent' and by whoever\n"
    "verifies its stapled proof.\n"
    "\n"
    "Rules of findings (exit status 5):\n"
    "  entry-format, cert-format, record-format   an entry is not what it should be\n"
    "  entry-lifetime                             a certificate is valid for too long\n"
    "  entry-revision                             given under a replaced registration\n"
    "  entry-time                                 the clock went back, or it was backdated\n"
    "Damage, and two histories under one key, end the replay: log-missing, log-bitflip, log-root,\n"
    "log-fork, log-rollback, checkpoint-format, checkpoint-origin, checkpoint-signature.\n"
    "\n"
    "Example:\n"
    "  " COMMAND " --dir ./authority\n"
    "  cp mirror/checkpoint kept; ...; " COMMAND " --log mirror --vkey KEY --from kept\n";

struct verify {
    struct log_args a;
    const char *from;
    unsigned max_lifetime, threads;
    struct tlog_audit_report r;
    double seconds;
    size_t kept;
    struct {
        uint64_t index;
        struct err why;
    } found[KEPT];
};

/* --- what was asked ------------------------------------------------------------------------------- */

/* Of the processors that this process may use: less than the machine has under taskset or in a
 * container. More readers than processors, so that some hash while others wait for the disk. */
static unsigned readers(void)
{
    cpu_set_t set;
    unsigned n = sched_getaffinity(0, sizeof set, &set) == 0 ? 4 * (unsigned)CPU_COUNT(&set) : 0;
    return n < 8 ? 8 : n < THREADS_MAX ? n : THREADS_MAX;
}

static int option(struct verify *v, int o, struct err *e)
{
    enum { OPT_FROM = CLI_LOG_OPT_FIRST, OPT_LIFETIME, OPT_THREADS };
    long n = 0;
    int rc = 0;
    switch (o) {
    case OPT_FROM: v->from = optarg; return 0;
    case OPT_LIFETIME: return args_duration(optarg, LIFETIME_MAX, "--max-lifetime", &v->max_lifetime, e);
    case OPT_THREADS:
        rc = args_number(optarg, 1, THREADS_MAX, "--threads", &n, e);
        v->threads = (unsigned)n;
        return rc;
    default: return log_args_option(&v->a, o, help) ? 0 : 1;
    }
}

static int parse(struct verify *v, int argc, char **argv, struct err *e)
{
    static const struct option options[] = {
        {"from", required_argument, NULL, CLI_LOG_OPT_FIRST},
        {"max-lifetime", required_argument, NULL, CLI_LOG_OPT_FIRST + 1},
        {"threads", required_argument, NULL, CLI_LOG_OPT_FIRST + 2},
        CLI_LOG_OPTIONS};
    for (int o; (o = args_getopt(argc, argv, "d:h", options, COMMAND)) != -1;) {
        int rc = option(v, o, e);
        if (rc != 0)
            return rc;
    }
    return args_no_operands(argc, argv, COMMAND) < 0 ? 1 : 0;
}

/* --- the replay ----------------------------------------------------------------------------------- */

static void finding(void *arg, uint64_t index, const struct err *why)
{
    struct verify *v = arg;
    if (v->kept == KEPT)
        return;
    v->found[v->kept].index = index;
    v->found[v->kept++].why = *why;
}

static void progress(void *arg, uint64_t done, uint64_t total)
{
    char what[] = "verifying";
    cli_progress(what, done, total);
}

static int run(struct verify *v, struct err *e)
{
    struct buf kept;
    buf_init(&kept, TLOG_NOTE_MAX);
    int rc = log_args_load(&v->a, e);
    if (rc == 0 && v->from)
        rc = file_read(&kept, v->from, TLOG_NOTE_MAX, e);
    if (rc == 0 && v->from && kept.len == 0)
        rc = err_set(e, ERR_CORRUPT, "checkpoint-format", "%s is empty: it is no checkpoint", v->from);
    if (rc == 0) {
        const struct tlog_audit_options o = {.at = &v->a.at,
                                             .vkey = &v->a.vkey,
                                             .from = {kept.p, kept.len},
                                             .max_lifetime = v->max_lifetime,
                                             .threads = v->threads,
                                             .finding = finding,
                                             .progress = progress,
                                             .arg = v};
        int64_t start = clock_mono_us();
        if ((rc = tlog_audit(&o, &v->r, e)) < 0)
            log_unverified(e);
        v->seconds = (double)(clock_mono_us() - start) / 1e6;
    }
    buf_free(&kept);
    return rc;
}

/* --- what was found -------------------------------------------------------------------------------- */

static double rate(const struct verify *v)
{
    return v->seconds > 0 ? (double)v->r.checked / v->seconds : 0;
}

static size_t ca_listed(const struct verify *v)
{
    uint64_t n = v->r.count[TLOG_AUDIT_CA];
    return n < TLOG_AUDIT_LISTED ? (size_t)n : TLOG_AUDIT_LISTED;
}

static json_t *counts_json(const struct verify *v)
{
    json_t *counts = json_object();
    for (unsigned k = 0; k < TLOG_AUDIT_KINDS; k++)
        json_object_set_new(counts, tlog_audit_kind_name(k), json_integer((json_int_t)v->r.count[k]));
    return counts;
}

static json_t *findings_json(const struct verify *v)
{
    json_t *list = json_array();
    for (size_t i = 0; i < v->kept; i++)
        json_array_append_new(list, json_pack("{s:I,s:s,s:s}", "index", (json_int_t)v->found[i].index,
                                              "rule", v->found[i].why.rule, "message",
                                              v->found[i].why.msg));
    return list;
}

static void print_json(const struct verify *v)
{
    const struct tlog_audit_report *r = &v->r;
    char root[64], first[21], last[21];
    json_t *ca = json_array();
    log_root_text(root, &r->checkpoint.root);
    clock_rfc3339(first, r->first_time);
    clock_rfc3339(last, r->last_time);
    json_t *clocks = json_array();
    for (size_t i = 0; i < r->clocks && i < TLOG_AUDIT_LISTED; i++)
        json_array_append_new(clocks, json_integer((json_int_t)r->clock[i]));
    for (size_t i = 0; i < ca_listed(v); i++)
        json_array_append_new(ca, json_integer((json_int_t)r->ca[i]));
    bool timed = r->last_time != 0;
    json_t *doc = json_pack(
        "{s:b,s:s,s:I,s:I,s:I,s:s,s:o,s:o,s:I,s:s?,s:s?,s:o,s:I,s:o,s:f,s:f,s:i}", "ok", r->findings == 0, "origin",
        r->checkpoint.origin, "size", (json_int_t)r->checkpoint.size, "from", (json_int_t)r->from.size,
        "entries_checked", (json_int_t)r->checked, "root", root, "entries", counts_json(v), "ca_certificates", ca,
        "registrations", (json_int_t)r->registrations, "first_time", timed ? first : NULL, "last_time",
        timed ? last : NULL, "clock_accepted", clocks, "findings_total", (json_int_t)r->findings, "findings", findings_json(v), "seconds",
        v->seconds, "entries_per_second", (double)(int64_t)rate(v), "threads", (int)v->threads);
    json_dumpf(doc, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
    putchar('\n');
    json_decref(doc);
}

static void print_counts(const struct verify *v)
{
    static const struct {
        enum tlog_audit_kind kind;
        const char *words;
    } lines[] = {{TLOG_AUDIT_JWT, "JWT-SVIDs"},
                 {TLOG_AUDIT_REVOCATION, "revocations"},
                 {TLOG_AUDIT_REFUSAL, "records of refusals"},
                 {TLOG_AUDIT_CHANGE, "changes of registration entries"},
                 {TLOG_AUDIT_AUTHORITY, "changes of the authority"},
                 {TLOG_AUDIT_UNKNOWN, "of a kind that this version does not know"},
                 {TLOG_AUDIT_BAD, "malformed"}};
    const struct tlog_audit_report *r = &v->r;
    if (r->count[TLOG_AUDIT_CERT])
        printf("%12llu certificates, under %llu registration entries\n",
               (unsigned long long)r->count[TLOG_AUDIT_CERT], (unsigned long long)r->registrations);
    if (r->count[TLOG_AUDIT_CA]) {
        printf("%12llu certificates of the authority itself: entries", (unsigned long long)r->count[TLOG_AUDIT_CA]);
        for (size_t i = 0; i < ca_listed(v); i++)
            printf("%s%llu", i ? ", " : " ", (unsigned long long)r->ca[i]);
        puts(r->count[TLOG_AUDIT_CA] > TLOG_AUDIT_LISTED ? ", …" : "");
    }
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        if (r->count[lines[i].kind])
            printf("%12llu %s\n", (unsigned long long)r->count[lines[i].kind], lines[i].words);
    for (size_t i = 0; i < r->clocks && i < TLOG_AUDIT_LISTED; i++)
        printf("the signer's clock was set back at entry %llu, and its operator accepted it: see 'mayfly log show'\n",
               (unsigned long long)r->clock[i]);
}

static void print_findings(const struct verify *v)
{
    for (size_t i = 0; i < v->kept; i++)
        fprintf(stderr, COMMAND ": [%s] %s\n", v->found[i].why.rule, v->found[i].why.msg);
    if (v->r.findings > v->kept)
        fprintf(stderr, COMMAND ": and %llu more\n", (unsigned long long)(v->r.findings - v->kept));
}

static void print_people(const struct verify *v)
{
    const struct tlog_audit_report *r = &v->r;
    char root[64], first[21], last[21];
    log_root_text(root, &r->checkpoint.root);
    clock_rfc3339(first, r->first_time);
    clock_rfc3339(last, r->last_time);
    if (r->findings)
        printf("NOT verified: %llu findings in ", (unsigned long long)r->findings);
    else
        printf("verified: ");
    printf("%llu %sentries of %s, every hash, tile and the head's signature%s (%.2f s, %.0f entries/s)\n",
           (unsigned long long)r->checked, v->from ? "new " : "", r->checkpoint.origin, r->findings ? " are good" : "", v->seconds, rate(v));
    if (v->from)
        printf("consistent with the head of size %llu that was kept; the log has %llu entries now\n",
               (unsigned long long)r->from.size, (unsigned long long)r->checkpoint.size);
    print_counts(v);
    if (r->last_time)
        printf("from %s to %s\n", first, last);
    printf("root %s\n", root);
}

int cli_log_verify(int argc, char **argv)
{
    struct err e = {0};
    struct verify *v = calloc(1, sizeof *v);
    if (!v)
        abort();
    v->max_lifetime = TLOG_AUDIT_LIFETIME;
    v->threads = readers();
    int code, rc = parse(v, argc, argv, &e);
    if (rc > 0) {
        code = ARGS_USAGE;
    } else if (rc < 0 || run(v, &e) < 0) {
        print_findings(v);
        code = cli_fail(&v->a.cli, COMMAND, &e);
    } else {
        (v->a.cli.json ? print_json : print_people)(v);
        if (!v->a.cli.json)
            print_findings(v);
        code = v->r.findings ? ARGS_UNVERIFIED : ARGS_OK;
    }
    log_args_free(&v->a);
    free(v);
    return code;
}
