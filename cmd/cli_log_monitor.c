/* mayfly log monitor: follows a log, in a folder or over HTTPS, from the head that it verified last, and
 * alerts. Here what was asked for, and the following; a round is cli_log_round.c's. */
#include "base/fileio.h"
#include "cmd/cli_log_monitor.h"
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COMMAND MONITOR_COMMAND
#define ROOTS_MAX (16u << 20)
#define LIFETIME_MAX (10L * 366 * 86400)

static const char help[] =
    "usage: " COMMAND " --state FILE [-d DIR | --log DIR --vkey KEY | --url URL --vkey KEY] [RULE...] [OPTION...]\n"
    "\n"
    "Follows a log from the head that it verified last, and alerts. It trusts nothing but the log's key:\n"
    "each new head is proven to continue the kept one, each new entry to stand under it.\n"
    "\n"
    "Where the log is:\n"
    "      --url URL         over HTTPS, e.g. https://ca.example.org:8443/log\n"
    "      --cacert FILE     roots (PEM) for --url instead of the system's\n"
    CLI_LOG_HELP
    "\n"
    "Rules, beside those that always hold (below):\n"
    "      --allow PATTERN   a SPIFFE ID, or one with /* behind it for all below; repeat it. Certificates,\n"
    "                        JWT-SVIDs and registrations for any other alert. (The authority's own server is\n"
    "                        spiffe://TRUST-DOMAIN/mayfly/server)\n"
    "      --known-keys FILE a line a key: SHA-256 of the SubjectPublicKeyInfo in hex. Certificates for\n"
    "                        any other alert\n"
    "      --attestor LIST   kinds of evidence, as join_token,x509pop; others alert\n"
    "      --max-lifetime DUR  longer certificates alert, e.g. 10m\n"
    "      --refusals, --revocations, --changes (of registrations and of the authority)\n"
    "      --max-age DUR     alert when no new head came for so long\n"
    "      --policy FILE     alert when the head is not cosigned as this policy asks (mayfly-policy(5))\n"
    "\n"
    "      --state FILE      the head verified last; made at the first run. Forks are kept beside it\n"
    "      --from-start      without a state: check the whole log, not only what comes from now on\n"
    "      --webhook URL     POST alerts as JSON: {\"log\": …, \"alerts\": […]}. What was not delivered is\n"
    "                        delivered later: the kept head does not go on before\n"
    "      --webhook-tries N how often a request is tried in a row (default 5; 1, 2, 4 … s between)\n"
    "      --once            one round, then exit\n"
    "      --interval SECONDS  between rounds (default 10)\n"
    "\n"
    "Always alerts on: log-fork, log-rollback (both heads are kept, and it ends), other things that do not\n"
    "verify, entry-format, cert-format, record-format, entry-revision, entry-time, ca-certificate,\n"
    "jwt-key.\n"
    "An entry has no serial: serial = (log number << 48) | index, so none is there twice.\n"
    "\n"
    "Exit status with --once, or when it ends: 0 nothing to alert, 1 failed, or the head could not be kept,\n"
    "2 usage, 3 not reachable, or alerts were not delivered (it ends by itself when nobody reads them any\n"
    "more), 5 the log did not verify, 6 alerts, 7 a fork or rollback.\n"
    "\n"
    "Example:\n"
    "  " COMMAND " --url https://ca.example.org:8443/log --vkey KEY --state ./log.state \\\n"
    "    --allow 'spiffe://example.org/web/*' --refusals --webhook https://alerts.example.org/mayfly\n";


static volatile sig_atomic_t stopped;

static void on_signal(int n)
{
    stopped = 1;
}

/* --- what was asked ------------------------------------------------------------------------------- */

enum {
    OPT_URL = CLI_LOG_OPT_FIRST, OPT_CACERT, OPT_STATE, OPT_START, OPT_ALLOW, OPT_KEYS, OPT_REFUSALS, OPT_REVOCATIONS,
    OPT_CHANGES, OPT_LIFETIME, OPT_ATTESTOR, OPT_AGE, OPT_POLICY, OPT_WEBHOOK, OPT_TRIES, OPT_ONCE, OPT_INTERVAL
};

static int option(struct monitor *m, int o, struct err *e)
{
    switch (o) {
    case OPT_URL: m->url = optarg; return 0;
    case OPT_CACERT: m->cacert = optarg; return 0;
    case OPT_STATE: m->state = optarg; return 0;
    case OPT_START: m->from_start = true; return 0;
    case OPT_ALLOW: return audit_rules_allow(&m->rules, optarg, e);
    case OPT_KEYS: m->keys = optarg; return 0;
    case OPT_REFUSALS: m->rules.refusals = true; return 0;
    case OPT_REVOCATIONS: m->rules.revocations = true; return 0;
    case OPT_CHANGES: m->rules.changes = true; return 0;
    case OPT_LIFETIME: return args_duration(optarg, LIFETIME_MAX, "--max-lifetime", &m->max_lifetime, e);
    case OPT_ATTESTOR: return audit_rules_attestors(&m->rules, optarg, e);
    case OPT_AGE: return args_duration(optarg, LIFETIME_MAX, "--max-age", &m->max_age, e);
    case OPT_POLICY: m->policy_file = optarg; return 0;
    case OPT_WEBHOOK: m->webhook_url = optarg; return 0;
    case OPT_TRIES: return args_number(optarg, 1, 20, "--webhook-tries", &m->tries, e);
    case OPT_ONCE: m->once = true; return 0;
    case OPT_INTERVAL: return args_number(optarg, 1, 86400, "--interval", &m->interval, e);
    default: return log_args_option(&m->a, o, help) ? 0 : 1;
    }
}

static int args_check(const struct monitor *m, struct err *e)
{
    if (!m->state)
        return err_set(e, ERR_USAGE, "arguments", "--state is needed: a file for the head that was verified last");
    if (m->url && !m->a.vkey_text)
        return err_set(e, ERR_USAGE, "arguments", "--url needs --vkey: whose signature to believe");
    if (m->cacert && !m->url)
        return err_set(e, ERR_USAGE, "arguments", "--cacert is for --url: a folder is not asked over HTTPS");
    if (m->url && m->a.dir)
        return err_set(e, ERR_USAGE, "arguments", "--url or --log, not both");
    if (strlen(m->state) > PATH_MAX - 128)
        return err_set(e, ERR_USAGE, "arguments", "--state: the path is too long");
    return 0;
}

static int parse(struct monitor *m, int argc, char **argv, struct err *e)
{
    static const struct option options[] = {
        {"url", required_argument, NULL, OPT_URL},
        {"cacert", required_argument, NULL, OPT_CACERT},
        {"state", required_argument, NULL, OPT_STATE},
        {"from-start", no_argument, NULL, OPT_START},
        {"allow", required_argument, NULL, OPT_ALLOW},
        {"known-keys", required_argument, NULL, OPT_KEYS},
        {"refusals", no_argument, NULL, OPT_REFUSALS},
        {"revocations", no_argument, NULL, OPT_REVOCATIONS},
        {"changes", no_argument, NULL, OPT_CHANGES},
        {"max-lifetime", required_argument, NULL, OPT_LIFETIME},
        {"attestor", required_argument, NULL, OPT_ATTESTOR},
        {"max-age", required_argument, NULL, OPT_AGE},
        {"policy", required_argument, NULL, OPT_POLICY},
        {"webhook", required_argument, NULL, OPT_WEBHOOK},
        {"webhook-tries", required_argument, NULL, OPT_TRIES},
        {"once", no_argument, NULL, OPT_ONCE},
        {"interval", required_argument, NULL, OPT_INTERVAL},
        CLI_LOG_OPTIONS};
    for (int o; (o = args_getopt(argc, argv, "d:h", options, COMMAND)) != -1;) {
        int rc = option(m, o, e);
        if (rc != 0)
            return rc;
    }
    return args_no_operands(argc, argv, COMMAND) < 0 ? 1 : args_check(m, e);
}

/* --- what it works with --------------------------------------------------------------------------- */

static int keys_load(struct monitor *m, struct err *e)
{
    struct buf text;
    buf_init(&text, AUDIT_KEYS_BYTES);
    int rc = file_read(&text, m->keys, AUDIT_KEYS_BYTES - 1, e);
    if (rc == 0 && audit_rules_keys(&m->rules, (const char *)text.p, text.len, e) < 0)
        rc = err_wrap(e, "%.200s", m->keys);
    buf_free(&text);
    return rc;
}

static int policy_load(struct monitor *m, struct err *e)
{
    struct buf text;
    buf_init(&text, TLOG_POLICY_MAX);
    m->policy = tlog_policy_new();
    int rc = m->policy ? file_read(&text, m->policy_file, TLOG_POLICY_MAX, e)
                       : err_set(e, ERR_INTERNAL, "memory", "out of memory");
    if (rc == 0 && tlog_policy_parse(m->policy, (const char *)text.p, text.len, e) < 0)
        rc = err_wrap(e, "%.200s", m->policy_file);
    buf_free(&text);
    return rc;
}

static int state_load(struct monitor *m, struct err *e)
{
    if (file_read(&m->kept, m->state, TLOG_NOTE_MAX, e) < 0) {
        if (e->code != ERR_NOT_FOUND)
            return -1;
        err_clear(e);
        return 0;
    }
    if (tlog_checkpoint_open(&m->kept_at, m->kept.p, m->kept.len, &m->a.vkey, e) == 0)
        return 0;
    e->code = ERR_CORRUPT;
    return err_wrap(e, "%.120s holds no head of this log that can be believed; restore it, or move it away to begin anew",
                    m->state);
}

/* libcurl would open it at each request, and call the log not reachable. */
static int roots_look(const struct monitor *m, struct err *e)
{
    struct buf pem;
    buf_init(&pem, ROOTS_MAX + 1);
    int rc = file_read(&pem, m->cacert, ROOTS_MAX, e);
    if (rc == 0 && (!buf_cstr(&pem) || !strstr(buf_cstr(&pem), "-----BEGIN ")))
        rc = err_set(e, ERR_MALFORMED, "cacert", "%.300s holds no certificates in PEM", m->cacert);
    buf_free(&pem);
    return rc < 0 ? err_wrap(e, "--cacert") : 0;
}

/* So that it is not found out when there is something to keep. */
static int state_try(const struct monitor *m, struct err *e)
{
    char dir[PATH_MAX] = ".";
    const char *slash = strrchr(m->state, '/');
    if (slash)
        snprintf(dir, sizeof dir, "%.*s", slash == m->state ? 1 : (int)(slash - m->state), m->state);
    return access(dir, W_OK | X_OK) == 0 ? 0 : err_errno(e, "state", "--state: cannot write to the folder %.300s", dir);
}

static int source_open(struct monitor *m, struct err *e)
{
    if (!m->url)
        return 0;
    snprintf(m->tiles, sizeof m->tiles, "%.4000s.tiles", m->state);
    m->a.at = (struct tlog_place){.dir = m->tiles, .fetch = log_fetch_get};
    if ((m->cacert && roots_look(m, e) < 0) || file_mkdirs(m->tiles, 0700, e) < 0 ||
        log_fetch_open(&m->fetch, m->url, m->cacert, &stopped, e) < 0)
        return -1;
    m->a.at.arg = m->fetch;
    return 0;
}

static int open_all(struct monitor *m, struct err *e)
{
    if (m->url)
        m->a.dir = ""; /* no folder is asked for */
    if (log_args_load(&m->a, e) < 0 || source_open(m, e) < 0 || (m->keys && keys_load(m, e) < 0) ||
        (m->policy_file && policy_load(m, e) < 0) || state_load(m, e) < 0 ||
        state_try(m, e) < 0)
        return -1;
    snprintf(m->alerts.origin, sizeof m->alerts.origin, "%s", m->a.vkey.name);
    return m->webhook_url ? webhook_open(&m->webhook, m->webhook_url, (unsigned)m->tries, &stopped, e) : 0;
}

/* --- following --------------------------------------------------------------------------------------- */

static int follow(struct monitor *m)
{
    int code;
    signal(SIGPIPE, SIG_IGN);
    const struct sigaction a = {.sa_handler = on_signal}; /* no SA_RESTART: it ends what waits */
    sigaction(SIGTERM, &a, NULL);
    sigaction(SIGINT, &a, NULL);
    for (;;) {
        code = monitor_round(m);
        if (m->once || stopped || code == ARGS_FORK || m->output_gone)
            break;
        monitor_pause(m, m->interval * 1000);
        if (stopped)
            break;
    }
    if (code == ARGS_FORK)
        return code;
    if (m->pending || m->keep) /* alerts, or the head alone, are left */
        return m->pending ? ARGS_UNREACHABLE : ARGS_FAILED;
    return stopped && !m->once ? ARGS_OK : code;
}

static void say_begin(const struct monitor *m)
{
    if (m->a.cli.json || m->once)
        return;
    if (m->kept.len > 0)
        fprintf(stderr, COMMAND ": following %s from the kept head of %llu entries\n", m->a.vkey.name,
                (unsigned long long)m->kept_at.size);
    else
        fprintf(stderr, COMMAND ": following %s from %s\n", m->a.vkey.name, m->from_start ? "its start" : "its present head");
}

int cli_log_monitor(int argc, char **argv)
{
    struct err e = {0};
    struct monitor *m = calloc(1, sizeof *m);
    if (!m)
        return ARGS_FAILED;
    m->interval = 10;
    m->stop = &stopped;
    m->tries = 5;
    alerts_init(&m->alerts);
    buf_init(&m->kept, TLOG_NOTE_MAX + 1);
    buf_init(&m->head, TLOG_NOTE_MAX + 1);
    int code, rc = parse(m, argc, argv, &e);
    if (rc == 0 && curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        rc = err_set(&e, ERR_INTERNAL, "curl", "libcurl could not be set up");
    if (rc == 0)
        rc = open_all(m, &e);
    if (rc != 0) {
        code = rc > 0 ? ARGS_USAGE : cli_fail(&m->a.cli, COMMAND, &e);
    } else {
        say_begin(m);
        code = follow(m);
    }
    webhook_close(m->webhook);
    log_fetch_close(m->fetch);
    tlog_policy_free(m->policy);
    audit_rules_free(&m->rules);
    alerts_free(&m->alerts);
    buf_free(&m->kept);
    buf_free(&m->head);
    log_args_free(&m->a);
    free(m);
    return code;
}
