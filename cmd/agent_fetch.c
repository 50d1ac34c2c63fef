/* mayfly-agent fetch: one identity, once, into a folder; all of the work is in agent/. */
#include "agent/agent.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/secmem.h"
#include "base/spiffe.h"
#include "cmd/agent_cmd.h"
#include "cmd/args.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DNS_MAX 16
#define TIMEOUT_DEFAULT 30 /* seconds */

static const char fetch_help[] =
    "usage: mayfly-agent fetch --server URL --id SPIFFE-ID --out DIR [OPTION...]\n"
    "\n"
    "Obtains a certificate (SVID), verifies its chain and its log proof, and writes svid.pem,\n"
    "svid.key (0600) and bundle.pem to DIR. Whatever does not verify is not written.\n"
    "\n"
    "      --server URL        the authority, e.g. https://mayfly.example.org:8443\n"
    "      --id SPIFFE-ID      the identity asked for\n"
    "  -o, --out DIR           where the files go; made if missing\n"
    "      --token-file FILE   file (mode 0600) with the join token; - reads standard input\n"
    "      --token TOKEN       the join token itself. Others may see a command line for a moment:\n"
    "                          prefer --token-file. - reads standard input\n"
    "      --trust-bundle FILE the authority's roots (PEM or SPIFFE bundle); with a token both "
    "must\n"
    "                          agree (default: the root the token names; without token, "
    "bundle.pem)\n"
    "      --dns NAME          DNS name for the certificate; repeatable, at most 16\n"
    "      --timeout DURATION  give up after this long, e.g. 30s (the default) or 5m\n"
    "      --json              JSON for programs instead of words for people\n"
    "  -h, --help              this text\n"
    "\n"
    "Without a token, the SVID that DIR holds from last time proves who is asking.\n"
    "\n"
    "Example:\n"
    "  mayfly token create --id spiffe://example.org/web |\n"
    "    mayfly-agent fetch --server https://localhost:8443 --token-file - \\\n"
    "      --id spiffe://example.org/web --out /run/web\n"
    "\n" ARGS_EXIT_HELP "On 3, 4 and 5 nothing was written. 4: the authority said no. 5: the "
                        "server, the certificate or\n"
    "its log proof did not verify, or the server leads elsewhere.\n";

enum {
    OPT_SERVER = 1000,
    OPT_ID,
    OPT_TOKEN,
    OPT_TOKEN_FILE,
    OPT_BUNDLE,
    OPT_DNS,
    OPT_TIMEOUT,
    OPT_JSON
};

static const struct option fetch_options[] = {
    {"server", required_argument, NULL, OPT_SERVER},
    {"id", required_argument, NULL, OPT_ID},
    {"out", required_argument, NULL, 'o'},
    {"token", required_argument, NULL, OPT_TOKEN},
    {"token-file", required_argument, NULL, OPT_TOKEN_FILE},
    {"trust-bundle", required_argument, NULL, OPT_BUNDLE},
    {"dns", required_argument, NULL, OPT_DNS},
    {"timeout", required_argument, NULL, OPT_TIMEOUT},
    {"json", no_argument, NULL, OPT_JSON},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0}};

struct fetch_args {
    struct agent_fetch fetch;
    const char *dns[DNS_MAX];
    struct secret token; /* NUL-terminated; empty when none */
    bool json;
};

/* --- what was obtained ----------------------------------------------------------------------- */

static void print_words(const struct agent_fetch *f, const struct agent_verified *v)
{
    char until[21];
    clock_rfc3339(until, v->not_after);
    printf("obtained  %s\n", v->spiffe_id);
    printf("valid     until %s, %lld s from now\n", until, (long long)(v->not_after - clock_wall()));
    printf("logged    entry %llu of %s, proof verified\n", (unsigned long long)v->proven.index,
           v->log_origin);
    printf("files     %s/svid.pem, %s/svid.key, %s/bundle.pem\n", f->out_dir, f->out_dir,
           f->out_dir);
}

static void json_path(struct buf *b, const char *name, const char *dir, const char *file)
{
    char path[4200];
    snprintf(path, sizeof path, "%s/%s", dir, file);
    buf_fmt(b, ",\"%s\":", name);
    jw_str(b, path);
}

static void print_json(const struct agent_fetch *f, const struct agent_verified *v)
{
    char from[21], until[21];
    struct buf b;
    buf_init(&b, 65536);
    clock_rfc3339(from, v->not_before);
    clock_rfc3339(until, v->not_after);
    buf_str(&b, "{\"spiffe_id\":");
    jw_str(&b, v->spiffe_id);
    buf_fmt(&b, ",\"not_before\":\"%s\",\"not_after\":\"%s\",\"log_origin\":", from, until);
    jw_str(&b, v->log_origin);
    buf_fmt(&b, ",\"log_number\":%u,\"log_index\":%llu,\"log_size\":%llu", v->proven.log_number,
            (unsigned long long)v->proven.index, (unsigned long long)v->proven.checkpoint.size);
    json_path(&b, "svid", f->out_dir, "svid.pem");
    json_path(&b, "key", f->out_dir, "svid.key");
    json_path(&b, "bundle", f->out_dir, "bundle.pem");
    buf_str(&b, "}");
    const char *text = buf_cstr(&b);
    printf("%s\n", text ? text : "{}");
    buf_free(&b);
}

/* --- the command line ---------------------------------------------------------------------------- */

static int take_option(struct fetch_args *a, int o, struct err *e)
{
    unsigned seconds;
    switch (o) {
    case OPT_SERVER:
        a->fetch.server = optarg;
        return 0;
    case OPT_ID:
        a->fetch.spiffe_id = optarg;
        return 0;
    case 'o':
        a->fetch.out_dir = optarg;
        return 0;
    case OPT_BUNDLE:
        a->fetch.trust_bundle = optarg;
        return 0;
    case OPT_JSON:
        a->json = true;
        return 0;
    case OPT_TOKEN:
    case OPT_TOKEN_FILE:
        return o == OPT_TOKEN ? agent_token_take(&a->token, optarg, e) : agent_token_read(&a->token, optarg, e);
    case OPT_DNS:
        if (a->fetch.dns_count == DNS_MAX)
            return err_set(e, ERR_USAGE, "dns", "at most %d DNS names", DNS_MAX);
        a->dns[a->fetch.dns_count++] = optarg;
        return dns_name_check(optarg, strlen(optarg), e);
    case OPT_TIMEOUT:
        if (args_duration(optarg, 3600, "--timeout", &seconds, e) < 0)
            return -1;
        a->fetch.deadline_ms = seconds * 1000;
        return 0;
    default:
        return err_set(e, ERR_USAGE, "option", "unknown option");
    }
}

/* What can be said without asking anybody is said before, as a usage error. */
static int check_args(const struct fetch_args *a, struct err *e)
{
    const struct agent_fetch *f = &a->fetch;
    struct spiffe_id id;
    if (!f->server || !f->spiffe_id || !f->out_dir)
        return err_set(e, ERR_USAGE, "missing", "%s is missing; see 'mayfly-agent fetch --help'",
                       !f->server      ? "--server URL"
                       : !f->spiffe_id ? "--id SPIFFE-ID"
                                       : "--out DIR");
    if (spiffe_parse(&id, f->spiffe_id, strlen(f->spiffe_id), e) < 0)
        return -1;
    if (id.path.len == 0)
        return err_set(e, ERR_USAGE, "spiffe-id",
                       "--id: '%s' names a whole trust domain, no workload", f->spiffe_id);
    if (a->token.p) {
        struct secret s;
        uint8_t anchor[32];
        if (secret_new(&s, 32, e) < 0)
            return -1;
        int rc = join_token_parse((const char *)a->token.p, a->token.len, s.p, anchor, e);
        secret_free(&s);
        return rc;
    }
    return 0;
}

static int parse_args(struct fetch_args *a, int argc, char **argv, struct err *e)
{
    int o;
    a->fetch.deadline_ms = TIMEOUT_DEFAULT * 1000;
    a->fetch.dns = a->dns;
    while ((o = args_getopt(argc, argv, "o:h", fetch_options, "mayfly-agent fetch")) != -1) {
        if (o == '?')
            exit(ARGS_USAGE);
        if (o == 'h') {
            fputs(fetch_help, stdout);
            exit(ARGS_OK);
        }
        if (take_option(a, o, e) < 0)
            return -1;
    }
    if (optind < argc)
        return err_set(e, ERR_USAGE, "argument",
                       "'%s' is not an option; see 'mayfly-agent fetch --help'", argv[optind]);
    return check_args(a, e);
}

int agent_fetch_main(int argc, char **argv)
{
    struct fetch_args a = {0};
    struct agent_verified v;
    struct err e = {0};
    int code = ARGS_OK;
    log_setup("mayfly-agent fetch", LOG_INFO, LOG_AUTO);
    if (parse_args(&a, argc, argv, &e) < 0) {
        if (e.code == ERR_MALFORMED)
            e.code = ERR_USAGE;
        code = args_fail("mayfly-agent fetch", a.json, &e);
    } else {
        a.fetch.token = a.token.p ? (const char *)a.token.p : NULL;
        if (agent_fetch(&a.fetch, &v, &e) < 0)
            code = args_fail("mayfly-agent fetch", a.json, &e);
        else
            (a.json ? print_json : print_words)(&a.fetch, &v);
    }
    secret_free(&a.token);
    return code;
}
