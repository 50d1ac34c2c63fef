/* mayfly-proxy: mTLS by default, in front of a server or beside a client. All of the work is in proxy/; here is the
 * command line. `mayfly-agent proxy` is the same program. */
#include "base/spiffe.h"
#include "cmd/args.h"
#include "proxy/proxy.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

static const char help[] =
    "usage: mayfly-proxy server --listen ADDR --to ADDR --allow RULE [OPTION...]\n"
    "       mayfly-proxy client --listen ADDR --to ADDR --allow RULE [OPTION...]\n"
    "       mayfly-proxy -c FILE [--check]\n"
    "       mayfly-proxy --help | --version\n"
    "\n"
    "  server   in front of a server: terminates mTLS, lets allowed peers through, forwards in plain\n"
    "  client   beside a client: takes plain connections, originates mTLS to an allowed server\n"
    "\n"
    "Identity comes from the agent (the SPIFFE Workload API) and is renewed without dropping a connection.\n"
    "\n"
    "      --listen ADDR         HOST:PORT, [IPV6]:PORT or unix:/path\n"
    "      --to ADDR             where it goes, in the same form; names are looked up again as time passes\n"
    "      --allow RULE          who may talk with us: an ID (spiffe://example.org/web), all beneath one\n"
    "                            (spiffe://example.org/web/*), a trust domain (spiffe://example.org); repeatable\n"
    "      --require-log-proof   refuse peers whose certificate is not proven logged\n"
    "      --id SPIFFE-ID        which of our identities to use (default: the agent's first)\n"
    "      --socket ADDR         the agent's Workload API (default: $SPIFFE_ENDPOINT_SOCKET, or\n"
    "                            unix:///run/mayfly/agent.sock)\n"
    "      --identity DIR        take the identity from DIR instead: svid.pem, svid.key, bundle.pem, crl.pem\n"
    "      --send-proxy          server: tell the upstream who the peer is (PROXY protocol v2 with TLVs)\n"
    "      --accept-proxy        connections begin with a PROXY protocol v2 header of a load balancer\n"
    "      --trusted-proxy NET   with --accept-proxy: only from this network; repeatable\n"
    "      --alpn LIST           protocols to offer or choose from, e.g. h2,http/1.1\n"
    "      --sni NAME            client: name to ask the server for (default: the host of --to)\n"
    "      --crl-optional        let peers in whose certificate names a CRL that the agent does not have\n"
    "      --close-revoked       close connections of peers that are revoked while connected\n"
    "      --max-connections N   at once (default 10000)\n"
    "      --max-handshakes N    unfinished at once (default 256)\n"
    "      --max-per-address N   connections of one address (default: no limit)\n"
    "      --max-age DURATION    close connections after this long (default: never)\n"
    "      --half-closed-timeout DURATION  give up after one side has ended and nothing moves (default 10m)\n"
    "      --socket-mode MODE    of a Unix socket that is listened on (default 0660)\n"
    "      --threads N           default: 1 on up to two processors, else half of them\n"
    "      --drain-timeout DURATION  after SIGTERM connections may finish for this long (default 30s)\n"
    "      --http ADDR           /live, /ready and /metrics here, e.g. 127.0.0.1:9901\n"
    "      --log-level LEVEL     debug, info (default), warn or error\n"
    "  -c, --config FILE         several listeners, as YAML; see mayfly-proxy(8)\n"
    "      --check               with --config: read it, say what is wrong, and end\n"
    "  -h, --help                this text\n"
    "  -V, --version\n"
    "\n"
    "Example:\n"
    "  mayfly-proxy server --listen 0.0.0.0:8443 --to 127.0.0.1:8080 --allow spiffe://example.org/web\n"
    "  mayfly-proxy client --listen 127.0.0.1:9000 --to db.example.org:8443 --allow spiffe://example.org/db\n"
    "\n"
    "Exit status: 0 ended as told, 1 failed, 2 usage or configuration.\n";

enum {
    OPT_LISTEN = 1000, OPT_TO, OPT_ALLOW, OPT_PROOF, OPT_ID, OPT_SOCKET, OPT_IDENTITY, OPT_SEND, OPT_ACCEPT, OPT_TRUSTED,
    OPT_ALPN, OPT_SNI, OPT_CRL, OPT_CLOSE, OPT_CONNECTIONS, OPT_HANDSHAKES, OPT_ADDRESS, OPT_AGE, OPT_HALF, OPT_MODE, OPT_THREADS,
    OPT_DRAIN, OPT_HTTP, OPT_LEVEL, OPT_CHECK
};
static const struct option options[] = {
    {"listen", required_argument, NULL, OPT_LISTEN},
    {"to", required_argument, NULL, OPT_TO},
    {"allow", required_argument, NULL, OPT_ALLOW},
    {"require-log-proof", no_argument, NULL, OPT_PROOF},
    {"id", required_argument, NULL, OPT_ID},
    {"socket", required_argument, NULL, OPT_SOCKET},
    {"identity", required_argument, NULL, OPT_IDENTITY},
    {"send-proxy", no_argument, NULL, OPT_SEND},
    {"accept-proxy", no_argument, NULL, OPT_ACCEPT},
    {"trusted-proxy", required_argument, NULL, OPT_TRUSTED},
    {"alpn", required_argument, NULL, OPT_ALPN},
    {"sni", required_argument, NULL, OPT_SNI},
    {"crl-optional", no_argument, NULL, OPT_CRL},
    {"close-revoked", no_argument, NULL, OPT_CLOSE},
    {"max-connections", required_argument, NULL, OPT_CONNECTIONS},
    {"max-handshakes", required_argument, NULL, OPT_HANDSHAKES},
    {"max-per-address", required_argument, NULL, OPT_ADDRESS},
    {"max-age", required_argument, NULL, OPT_AGE},
    {"half-closed-timeout", required_argument, NULL, OPT_HALF},
    {"socket-mode", required_argument, NULL, OPT_MODE},
    {"threads", required_argument, NULL, OPT_THREADS},
    {"drain-timeout", required_argument, NULL, OPT_DRAIN},
    {"http", required_argument, NULL, OPT_HTTP},
    {"log-level", required_argument, NULL, OPT_LEVEL},
    {"config", required_argument, NULL, 'c'},
    {"check", no_argument, NULL, OPT_CHECK},
    {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, 'V'},
    {NULL, 0, NULL, 0}};

struct proxy_args {
    struct proxy_conf conf;
    struct proxy_listener_conf l;
    const char *file;
    bool check, others; /* others: options that a file has words for were given */
};

static int text(char **dst, struct err *e)
{
    free(*dst);
    *dst = strdup(optarg);
    return *dst ? 0 : err_set(e, ERR_INTERNAL, "memory", "out of memory");
}

static int number(unsigned *dst, long min, long max, const char *what, struct err *e)
{
    long v;
    if (args_number(optarg, min, max, what, &v, e) < 0)
        return -1;
    *dst = (unsigned)v;
    return 0;
}

static int trusted(struct proxy_listener_conf *l, struct err *e)
{
    if (l->trusted_count == PROXY_TRUSTED_MAX)
        return err_set(e, ERR_USAGE, "network", "at most %d of --trusted-proxy", PROXY_TRUSTED_MAX);
    return proxy_network_parse(&l->trusted[l->trusted_count++], optarg, e);
}

static int socket_mode(struct proxy_listener_conf *l, struct err *e)
{
    char *end;
    unsigned long v = strtoul(optarg, &end, 8);
    if (*optarg < '0' || *optarg > '7' || *end || v > 0777)
        return err_set(e, ERR_USAGE, "socket-mode", "--socket-mode: '%s' is no mode such as 0660", optarg);
    l->mode_bits = (mode_t)v;
    return 0;
}

static int level(struct proxy_conf *c, struct err *e)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};
    for (int i = 0; i < 4; i++)
        if (strcmp(optarg, names[i]) == 0) {
            c->level = (enum log_level)i;
            return 0;
        }
    return err_set(e, ERR_USAGE, "log-level", "--log-level: debug, info, warn or error");
}

static int take_listener(struct proxy_args *a, int o, struct err *e)
{
    struct proxy_listener_conf *l = &a->l;
    switch (o) {
    case OPT_LISTEN: return text(&l->listen, e);
    case OPT_TO: return text(&l->to, e);
    case OPT_ALLOW: return proxy_rules_add(&l->allow, optarg, e);
    case OPT_ID: return text(&l->id, e);
    case OPT_SNI: return text(&l->sni, e);
    case OPT_ALPN: return proxy_alpn_parse(l, optarg, e);
    case OPT_TRUSTED: return trusted(l, e);
    case OPT_MODE: return socket_mode(l, e);
    case OPT_CONNECTIONS: return number(&l->max_connections, 1, 10000000, "--max-connections", e);
    case OPT_HANDSHAKES: return number(&l->max_handshakes, 1, 1000000, "--max-handshakes", e);
    case OPT_ADDRESS: return number(&l->max_per_address, 1, 1000000, "--max-per-address", e);
    case OPT_AGE: return args_duration(optarg, 31536000, "--max-age", &l->max_connection_age, e);
    case OPT_HALF: return args_duration(optarg, 31536000, "--half-closed-timeout", &l->half_closed_timeout, e);
    case OPT_PROOF: l->require_log_proof = true; return 0;
    case OPT_SEND: l->send_proxy = true; return 0;
    case OPT_ACCEPT: l->accept_proxy = true; return 0;
    case OPT_CRL: l->crl_optional = true; return 0;
    case OPT_CLOSE: l->close_revoked = true; return 0;
    default: return err_set(e, ERR_USAGE, "option", "unknown option");
    }
}

static int take_option(struct proxy_args *a, int o, struct err *e)
{
    a->others = a->others || (o != 'c' && o != OPT_CHECK);
    switch (o) {
    case 'c': a->file = optarg; return 0;
    case OPT_CHECK: a->check = true; return 0;
    case OPT_SOCKET: return text(&a->conf.socket, e);
    case OPT_IDENTITY: return text(&a->conf.identity, e);
    case OPT_HTTP: return text(&a->conf.http, e);
    case OPT_THREADS: return number(&a->conf.threads, 1, PROXY_THREADS_MAX, "--threads", e);
    case OPT_DRAIN: return args_duration(optarg, 86400, "--drain-timeout", &a->conf.drain_timeout, e);
    case OPT_LEVEL: return level(&a->conf, e);
    default: return take_listener(a, o, e);
    }
}

/* server, client, or nothing with a file. */
static int mode_word(struct proxy_args *a, const char *word, struct err *e)
{
    static const char *const words[] = {"server", "client"};
    if (word && strcmp(word, "server") == 0)
        a->l.mode = PROXY_SERVER;
    else if (word && strcmp(word, "client") == 0)
        a->l.mode = PROXY_CLIENT;
    else if (word) {
        const char *near = args_nearest(word, words, 2);
        return err_set(e, ERR_USAGE, "mode", "'%s' is no mode: server or client%s%s%s", word, near ? "; did you mean " : "",
                       near ? near : "", near ? "?" : "");
    }
    if (a->file && (word || a->others)) /* one of the two would be passed over without a word */
        return err_set(e, ERR_USAGE, "config", "--config: the file says all; leave out what stands beside it, but --check");
    if (!a->file && !word)
        return err_set(e, ERR_USAGE, "mode", "server, client or --config FILE; see 'mayfly-proxy --help'");
    if (a->check && !a->file)
        return err_set(e, ERR_USAGE, "check", "--check belongs to --config");
    return 0;
}

static int parse(struct proxy_args *a, int argc, char **argv, struct err *e)
{
    int o;
    proxy_conf_defaults(&a->conf);
    proxy_listener_defaults(&a->l);
    while ((o = args_getopt(argc, argv, "c:hV", options, "mayfly-proxy")) != -1) {
        if (o == '?')
            exit(ARGS_USAGE);
        if (o == 'h') {
            fputs(help, stdout);
            exit(ARGS_OK);
        }
        if (o == 'V') {
            puts("mayfly-proxy " MAYFLY_VERSION);
            exit(ARGS_OK);
        }
        if (take_option(a, o, e) < 0)
            return -1;
    }
    if (argc - optind > 1)
        return err_set(e, ERR_USAGE, "argument", "'%s' is one word too many", argv[optind + 1]);
    if (mode_word(a, optind < argc ? argv[optind] : NULL, e) < 0)
        return -1;
    if (a->file)
        return proxy_conf_load(&a->conf, a->file, e);
    int rc = proxy_conf_add(&a->conf, &a->l, e);
    a->l = (struct proxy_listener_conf){0}; /* the configuration's now */
    if (rc < 0)
        return -1;
    return proxy_conf_check(&a->conf, e);
}

int main(int argc, char **argv)
{
    struct proxy_args a = {0};
    struct err e = {0};
    prctl(PR_SET_DUMPABLE, 0); /* a private key passes through this process */
    proxy_memory_setup();
    int rc = parse(&a, argc, argv, &e);
    if (rc < 0)
        fprintf(stderr, "mayfly-proxy: %s\n", e.msg);
    else if (a.check)
        puts("good");
    if (rc < 0 || a.check) {
        proxy_listener_free(&a.l);
        proxy_conf_free(&a.conf);
        return rc == 0 ? ARGS_OK : e.code == ERR_CONFIG || e.code == ERR_MALFORMED || e.code == ERR_USAGE ? ARGS_USAGE : ARGS_FAILED;
    }
    log_setup("mayfly-proxy", a.conf.level, a.conf.format);
    rc = proxy_run(&a.conf, &e);
    if (rc < 0)
        log_err(LOG_ERROR, "cannot start", &e);
    proxy_conf_free(&a.conf);
    return rc < 0 ? ARGS_FAILED : ARGS_OK;
}
