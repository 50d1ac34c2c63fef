/* mayfly log reconcile: does the log account for every signature that the issuing key and the key of JWT-SVIDs
 * made? */
#include "base/clock.h"
#include "cmd/cli_log.h"
#include "tlog/reader.h"
#include "tlog/record.h"
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define COMMAND "mayfly log reconcile"
#define PUBLISH_MS 5000 /* how long the published log may take to come to the signer's size */
#define SETTLE_MS 3000  /* how long what is logged may take to be signed */

static const char help[] =
    "usage: " COMMAND " [--signatures N --since INDEX [--jwt-signatures N]] [OPTION...]\n"
    "\n"
    "Compares how often the issuing key has signed with what the log has grown by: each certificate and\n"
    "each CRL stands in the log before it is signed, so there can never be more signatures than entries.\n"
    "The same with the key of JWT-SVIDs and the tokens in the log.\n"
    "\n"
    "The count is the running signer's own, since it started, as of a second ago. A signer that was taken over may lie:\n"
    "where the token keeps a count of its own (its audit log), give that.\n"
    "\n"
    "      --signatures N  how often the issuing key signed, by the token's own count,\n"
    "      --since INDEX   since the log had this size\n"
    "      --jwt-signatures N  the same of the key of JWT-SVIDs (without: it is not looked at)\n"
    "\n" CLI_LOG_HELP
    "\n"
    "Exit status 0: every signature is accounted for; 5: there are more signatures than entries.\n"
    "\n"
    "Example:\n"
    "  " COMMAND " --dir ./authority\n"
    "  " COMMAND " --dir ./authority --signatures 48211 --since 1200000\n";

struct count {
    uint64_t since, until;        /* entries [since, until) */
    uint64_t signatures;
    uint64_t certificates, crls;  /* among them */
    uint64_t jwts, jwt_signatures, jwt_abandoned;
    bool jwt_given;               /* else the last two are not known */
    uint64_t abandoned;           /* certificates that the signer says it logged and never signs: no quorum */
    int64_t started;              /* of the signer; 0: the count was given */
};

static uint64_t accounted(const struct count *c)
{
    uint64_t logged = c->certificates + c->crls;
    return logged > c->abandoned ? logged - c->abandoned : 0;
}

static uint64_t jwts_accounted(const struct count *c)
{
    return c->jwts > c->jwt_abandoned ? c->jwts - c->jwt_abandoned : 0;
}

/* More signatures than entries. */
static bool is_bad(const struct count *c)
{
    return c->signatures > accounted(c) || (c->jwt_given && c->jwt_signatures > jwts_accounted(c));
}

/* All that is logged is signed. */
static bool is_settled(const struct count *c)
{
    return c->signatures >= accounted(c) && (!c->jwt_given || c->jwt_signatures >= jwts_accounted(c));
}

/* --- counting ----------------------------------------------------------------------------------------- */

static int count_entry(struct count *c, uint64_t index, struct bytes raw, struct err *e)
{
    struct tlog_entry t;
    struct tlog_record_info r;
    if (tlog_entry_parse(&t, raw.p, raw.len, e) < 0)
        return err_wrap(e, "entry %llu", (unsigned long long)index);
    if (t.type == TLOG_ENTRY_TBS_CERT)
        c->certificates++;
    else if (t.type == TLOG_ENTRY_JWT)
        c->jwts++;
    else if (t.type == TLOG_ENTRY_AUTHORITY && tlog_record_parse(&r, t.type, t.body, e) == 0 && r.code == TLOG_NEW_CRL)
        c->crls++;
    return 0;
}

/* Each with its proof: a file made up to hide a signature is found out. */
static int count_entries(struct count *c, struct tlog_reader *r, struct err *e)
{
    struct tlog_hash path[TLOG_LEVELS];
    struct bytes raw;
    size_t n;
    c->certificates = c->crls = c->jwts = 0;
    for (uint64_t index = c->since; index < c->until; index++)
        if (tlog_reader_entry(r, index, &raw, path, &n, e) < 0 || count_entry(c, index, raw, e) < 0)
            return -1;
    return 0;
}

/* A reader of a published log that has at least `size` entries. */
static int open_published(const struct log_args *a, uint64_t size, struct tlog_reader **r, struct err *e)
{
    for (int64_t until = clock_mono_ms() + PUBLISH_MS;;) {
        if (tlog_reader_open_at(r, &a->at, &a->vkey, e) < 0)
            return log_unverified(e);
        if (tlog_reader_head(*r)->size >= size)
            return 0;
        tlog_reader_close(*r);
        *r = NULL;
        if (clock_mono_ms() > until)
            return err_set(e, ERR_UNAVAILABLE, "log-behind",
                           "the published log has not come to %llu entries; see the daemon's log", (unsigned long long)size);
        usleep(100000);
    }
}

static int take(const struct log_args *a, struct count *c, struct err *e)
{
    struct tlog_reader *r = NULL;
    int rc = open_published(a, c->until, &r, e);
    if (rc == 0 && c->until == 0)
        c->until = tlog_reader_head(r)->size;
    if (rc == 0 && c->since > c->until)
        rc = err_set(e, ERR_USAGE, "since", "the log has %llu entries only", (unsigned long long)c->until);
    if (rc == 0 && (rc = count_entries(c, r, e)) < 0)
        log_unverified(e);
    tlog_reader_close(r);
    return rc;
}

static uint64_t number(const json_t *doc, const char *key)
{
    return (uint64_t)json_integer_value(json_object_get(doc, key));
}

/* Until all that is logged is signed, or for SETTLE_MS: what is under way is no difference. */
static int take_running(const struct log_args *a, struct count *c, struct err *e)
{
    for (int64_t until = clock_mono_ms() + SETTLE_MS;;) {
        json_t *status = NULL;
        if (cli_ask(a->config, "GET", "/admin/v1/status", NULL, &status, e) < 0)
            return -1;
        bool ready = json_is_true(json_object_get(status, "ready"));
        *c = (struct count){.since = number(status, "first_index"), .until = number(status, "log_size"),
                            .signatures = number(status, "issuing_signatures"), .started = (int64_t)number(status, "started"),
                            .abandoned = number(status, "abandoned"),
                            .jwt_given = true, .jwt_signatures = number(status, "jwt_signatures"),
                            .jwt_abandoned = number(status, "jwt_abandoned")};
        json_decref(status);
        if (!ready)
            return err_set(e, ERR_UNAVAILABLE, "signer-away", "the signer does not answer; its count is not known now");
        if (take(a, c, e) < 0)
            return -1;
        if (is_settled(c) || clock_mono_ms() > until)
            return 0;
        usleep(300000);
    }
}

/* --- saying it ------------------------------------------------------------------------------------------- */

static void say_jwts(const struct count *c)
{
    if (!c->jwt_given || (c->jwts == 0 && c->jwt_signatures == 0))
        return;
    printf("\nJWT key       %llu signatures\nlog           %llu JWT-SVIDs\n", (unsigned long long)c->jwt_signatures,
           (unsigned long long)c->jwts);
    if (c->jwt_abandoned)
        printf("never signed  %llu of them: no quorum\n", (unsigned long long)c->jwt_abandoned);
    if (c->jwt_signatures > jwts_accounted(c))
        printf("\n%llu SIGNATURES ARE NOT IN THE LOG. A token was signed that nobody can see: take the JWT key out of use,\n"
               "keep the token's audit log, and read SECURITY.md.\n",
               (unsigned long long)(c->jwt_signatures - jwts_accounted(c)));
    else if (c->jwt_signatures < jwts_accounted(c))
        printf("\nEvery signature is in the log. %llu logged entries were not signed (yet).\n",
               (unsigned long long)(jwts_accounted(c) - c->jwt_signatures));
    else
        puts("\nEvery signature of it is in the log.");
}

static void say(const struct count *c)
{
    char since[64];
    printf("issuing key   %llu signatures", (unsigned long long)c->signatures);
    if (c->started) {
        cli_when(since, sizeof since, c->started);
        printf(" by the signer that started %s", since);
    }
    printf("\nlog           %llu certificates and %llu CRLs", (unsigned long long)c->certificates, (unsigned long long)c->crls);
    if (c->since < c->until)
        printf(" in entries %llu to %llu\n", (unsigned long long)c->since, (unsigned long long)c->until - 1);
    else
        printf("; it has not grown since entry %llu\n", (unsigned long long)c->since);
    if (c->abandoned)
        printf("never signed  %llu of them: no quorum of witnesses cosigned their head in time\n",
               (unsigned long long)c->abandoned);
    if (c->signatures > accounted(c))
        printf("\n%llu SIGNATURES ARE NOT IN THE LOG. Something was signed that nobody can see: take the issuing key\n"
               "out of use, keep the token's audit log, and read SECURITY.md.\n",
               (unsigned long long)(c->signatures - accounted(c)));
    else if (c->signatures < accounted(c))
        printf("\nEvery signature is in the log. %llu logged entries were not signed (yet): harmless, and never\n"
               "signed later than by the process that logged them.\n",
               (unsigned long long)(accounted(c) - c->signatures));
    else
        printf("\nEvery signature is in the log, and every %sentry was signed.\n", c->abandoned ? "other " : "");
    say_jwts(c);
}

static void say_json(const struct count *c)
{
    printf("{\"ok\":%s,\"since\":%llu,\"until\":%llu,\"signatures\":%llu,\"certificates\":%llu,\"crls\":%llu,\"abandoned\":%llu,\"difference\":%lld,\"jwts\":%llu,",
           is_bad(c) ? "false" : "true", (unsigned long long)c->since, (unsigned long long)c->until,
           (unsigned long long)c->signatures, (unsigned long long)c->certificates, (unsigned long long)c->crls, (unsigned long long)c->abandoned,
           (long long)c->signatures - (long long)accounted(c), (unsigned long long)c->jwts);
    if (c->jwt_given)
        printf("\"jwt_signatures\":%llu,\"jwt_abandoned\":%llu,\"jwt_difference\":%lld}\n", (unsigned long long)c->jwt_signatures,
               (unsigned long long)c->jwt_abandoned, (long long)c->jwt_signatures - (long long)jwts_accounted(c));
    else
        puts("\"jwt_signatures\":null}");
}

int cli_log_reconcile(int argc, char **argv)
{
    enum { OPT_SIGNATURES = CLI_LOG_OPT_FIRST, OPT_SINCE, OPT_JWT };
    static const struct option options[] = {{"signatures", required_argument, NULL, OPT_SIGNATURES},
                                            {"since", required_argument, NULL, OPT_SINCE},
                                            {"jwt-signatures", required_argument, NULL, OPT_JWT},
                                            CLI_LOG_OPTIONS};
    struct log_args a = {0};
    struct count c = {0};
    struct err e = {0};
    long signatures = -1, since = -1, jwts = -1;
    int rc = 0;
    for (int o; rc == 0 && (o = args_getopt(argc, argv, "d:h", options, COMMAND)) != -1;) {
        if (o == OPT_SIGNATURES)
            rc = args_number(optarg, 0, LONG_MAX, "--signatures", &signatures, &e);
        else if (o == OPT_SINCE)
            rc = args_number(optarg, 0, (1L << 48) - 1, "--since", &since, &e);
        else if (o == OPT_JWT)
            rc = args_number(optarg, 0, LONG_MAX, "--jwt-signatures", &jwts, &e);
        else if (!log_args_option(&a, o, help))
            return ARGS_USAGE;
    }
    if (rc == 0 && args_no_operands(argc, argv, COMMAND) < 0)
        return ARGS_USAGE;
    if (rc == 0 && jwts >= 0 && since < 0)
        rc = err_set(&e, ERR_USAGE, "arguments", "--jwt-signatures goes with --signatures and --since");
    if (rc == 0 && (signatures < 0) != (since < 0))
        rc = err_set(&e, ERR_USAGE, "arguments", "--signatures and --since belong together");
    if (rc == 0 && signatures < 0 && a.dir)
        rc = err_set(&e, ERR_USAGE, "arguments", "of a mirror (--log) no signer can be asked: give --signatures and --since");
    if (rc == 0)
        rc = log_args_load(&a, &e);
    if (rc == 0 && signatures >= 0) {
        c = (struct count){.since = (uint64_t)since, .signatures = (uint64_t)signatures,
                           .jwt_given = jwts >= 0, .jwt_signatures = jwts >= 0 ? (uint64_t)jwts : 0};
        rc = take(&a, &c, &e);
    } else if (rc == 0) {
        rc = take_running(&a, &c, &e);
    }
    int code = ARGS_OK;
    if (rc < 0) {
        code = cli_fail(&a.cli, COMMAND, &e);
    } else {
        (a.cli.json ? say_json : say)(&c);
        if (is_bad(&c))
            code = ARGS_UNVERIFIED;
    }
    log_args_free(&a);
    return code;
}
