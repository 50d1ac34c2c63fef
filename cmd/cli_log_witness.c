/* mayfly log witness: a small witness for other people's logs, on another host than theirs: HTTP
 * around tlog/witness.h. Needs no authority's folder. */
#include "base/fileio.h"
#include "base/log.h"
#include "base/sandbox.h"
#include "base/secmem.h"
#include "cmd/cli_log_witness.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COMMAND "mayfly log witness"
#define KEY_MAX 4096

static const char witness_help[] =
    "usage: mayfly log witness --init --state DIR --key FILE [--name NAME]\n"
    "       mayfly log witness --listen ADDR:PORT --state DIR --key FILE --log VKEY... [OPTION...]\n"
    "\n"
    "Witnesses logs (C2SP tlog-witness): cosigns a log's head when it extends the last one, and never\n"
    "a head that goes back or contradicts it. Run it on another host than the log's.\n"
    "\n"
    "      --init            make the key and the folder, print the witness's verifier key, and exit\n"
    "      --state DIR       its folder: one head a log, and evidence of forks\n"
    "      --key FILE        its private key (Ed25519, PKCS#8 PEM)\n"
    "      --name NAME       with --init: the witness's name, as part of its key (default: the\n"
    "                        host's name)\n"
    "      --log VKEY        a log's verifier key; repeat it for several logs\n"
    "      --listen A:P      address and port, IPv6 in brackets; without TLS a loopback address\n"
    "      --tls-cert FILE   chain (PEM), and\n"
    "      --tls-key FILE    its private key: serve HTTPS\n"
    "      --json            with --init: the key as JSON\n"
    "  -h, --help            this text\n"
    "\n"
    "Example:\n"
    "  mayfly log witness --init --state ./witness --key ./witness.key --name witness.example.net\n"
    "  mayfly log witness --listen 127.0.0.1:8081 --state ./witness --key ./witness.key \\\n"
    "    --log example.org/log1+6f1a3c2e+AZ...\n";

struct witness_args {
    struct cli cli;
    bool init;
    const char *state, *key, *name, *listen, *tls_cert, *tls_key;
    const char *logs[TLOG_WITNESS_LOGS];
    size_t log_count;
};

/* What lives as long as the command. */
struct witness_run {
    struct key *key;
    struct tlog_vkey self, logs[TLOG_WITNESS_LOGS];
    struct tlog_witness *witness;
    char state[PATH_MAX]; /* absolute */
};

static int usage(struct err *e, const char *what)
{
    return err_set(e, ERR_USAGE, "arguments", "%s", what);
}

/* --- its key ------------------------------------------------------------------------------------- */

static int public_half(const struct key *k, uint8_t pub[32], struct err *e)
{
    size_t n = 32;
    if (key_kind(k) != KEY_ED25519 || EVP_PKEY_get_raw_public_key(key_evp(k), pub, &n) != 1 || n != 32)
        return err_set(e, ERR_BAD_KEY, "witness-key", "a witness's key is an Ed25519 key");
    return 0;
}

static int sign(void *arg, const uint8_t *msg, size_t len, uint8_t sig[64], struct err *e)
{
    uint8_t made[512];
    if (key_sign(arg, false, made, sizeof made, msg, len, e) != 64)
        return err_set(e, ERR_INTERNAL, "witness-key", "the signature has not 64 bytes");
    memcpy(sig, made, 64);
    return 0;
}

/* Made new, never over another: who loses a witness's key loses the witness. */
static int key_store(const struct key *k, const char *path, struct err *e)
{
    struct buf pem;
    buf_init(&pem, KEY_MAX);
    int rc = key_to_pkcs8_pem(k, &pem, e);
    int fd = rc == 0 ? open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600) : -1;
    if (rc == 0 && fd < 0)
        rc = errno == EEXIST ? err_set(e, ERR_EXISTS, "witness-key",
                                       "%s is there already; a key is never overwritten", path)
                             : err_errno(e, "witness-key", "cannot make %s", path);
    if (rc == 0 && (file_write_all(fd, pem.p, pem.len) < 0 || fsync(fd) < 0))
        rc = err_errno(e, "witness-key", "cannot write %s", path);
    if (fd >= 0)
        close(fd);
    if (pem.p)
        secret_wipe(pem.p, pem.cap);
    buf_free(&pem);
    return rc;
}

static int key_load(struct witness_run *r, const char *path, struct err *e)
{
    struct secret pem = {0};
    if (secret_read_file(&pem, path, KEY_MAX, e) < 0)
        return -1;
    r->key = key_from_pkcs8_pem((const char *)pem.p, pem.len, e);
    secret_free(&pem);
    return r->key ? 0 : err_wrap(e, "%s", path);
}

static void vkey_print(const struct tlog_vkey *k, bool json)
{
    struct buf b;
    buf_init(&b, 1024);
    tlog_vkey_write(k, &b);
    printf(json ? "{\"vkey\":\"%s\"}\n" : "%s\n", buf_cstr(&b) ? buf_cstr(&b) : "");
    buf_free(&b);
}

/* The key first: a folder whose key was never written would be a witness that nobody can run. */
static int init(struct witness_args *a, struct witness_run *r, struct err *e)
{
    char host[HOST_NAME_MAX + 1] = "", vkey[PATH_MAX];
    uint8_t pub[32];
    if (!a->name && gethostname(host, sizeof host - 1) < 0)
        return err_errno(e, "witness-name", "cannot tell the host's name; give --name");
    if (snprintf(vkey, sizeof vkey, "%s/vkey", a->state) >= (int)sizeof vkey)
        return usage(e, "--state: the path is too long");
    if (access(vkey, F_OK) == 0)
        return err_set(e, ERR_EXISTS, "witness-state", "%.3000s is a witness's folder already", a->state);
    if (!(r->key = key_generate(KEY_ED25519, e)) || public_half(r->key, pub, e) < 0)
        return -1;
    if (tlog_vkey_make_witness(&r->self, a->name ? a->name : host, pub, e) < 0) {
        e->code = ERR_USAGE;
        return err_wrap(e, "--name");
    }
    if (key_store(r->key, a->key, e) < 0 || tlog_witness_create(a->state, &r->self, e) < 0)
        return -1;
    vkey_print(&r->self, a->cli.json);
    return 0;
}

/* --- its state ----------------------------------------------------------------------------------- */

static int logs_parse(const struct witness_args *a, struct witness_run *r, struct err *e)
{
    for (size_t i = 0; i < a->log_count; i++) {
        if (tlog_vkey_parse(&r->logs[i], a->logs[i], strlen(a->logs[i]), e) == 0)
            continue;
        e->code = ERR_USAGE;
        return err_wrap(e, "--log");
    }
    return 0;
}

static int state_open(const struct witness_args *a, struct witness_run *r, struct err *e)
{
    struct tlog_vkey kept;
    uint8_t pub[32];
    if (logs_parse(a, r, e) < 0 || key_load(r, a->key, e) < 0 || public_half(r->key, pub, e) < 0)
        return -1;
    if (tlog_witness_vkey(&kept, a->state, e) < 0)
        return -1;
    int rc = tlog_vkey_make_witness(&r->self, kept.name, pub, e);
    tlog_vkey_free(&kept);
    if (rc == 0 && !realpath(a->state, r->state))
        rc = err_errno(e, "witness-state", "cannot find %s", a->state);
    const struct tlog_witness_options o = {.dir = r->state,
                                           .self = &r->self,
                                           .logs = r->logs,
                                           .log_count = a->log_count,
                                           .sign = sign,
                                           .sign_arg = r->key};
    return rc == 0 ? tlog_witness_open(&r->witness, &o, e) : -1;
}

/* --- serving ------------------------------------------------------------------------------------- */

static int confine(const struct witness_run *r, struct err *e)
{
    const struct sandbox_path paths[] = {
        {r->state, true, false},          {"/usr", false, true}, {"/lib", false, true},
        {"/lib64", false, true},          {"/etc/gnutls", false, true},
        {"/etc/ld.so.cache", false, true},
    };
    return sandbox_enter(SANDBOX_WITNESS, paths, sizeof paths / sizeof *paths, e);
}

static void ready_say(const struct witness_args *a, const struct witness_run *r)
{
    struct buf b;
    buf_init(&b, 1024);
    tlog_vkey_write(&r->self, &b);
    log_info("witness ready", "listen", a->listen, "vkey", buf_cstr(&b) ? buf_cstr(&b) : "", "logs",
             log_num((long long)a->log_count), NULL);
    buf_free(&b);
}

/* Signals are blocked before the first thread is made, which inherits that; one is waited for. */
static int serve(const struct witness_args *a, struct witness_run *r, struct err *e)
{
    struct witness_http *http;
    sigset_t stop;
    int sig;
    sigemptyset(&stop);
    sigaddset(&stop, SIGTERM);
    sigaddset(&stop, SIGINT);
    sigprocmask(SIG_BLOCK, &stop, NULL);
    signal(SIGPIPE, SIG_IGN);
    log_setup("witness", LOG_INFO, LOG_AUTO);
    if (key_setup(e) < 0 || state_open(a, r, e) < 0)
        return -1;
    const struct witness_http_options o = {
        .witness = r->witness, .listen = a->listen, .tls_cert = a->tls_cert, .tls_key = a->tls_key};
    if (witness_http_open(&http, &o, e) < 0)
        return -1;
    int rc = confine(r, e) < 0 ? -1 : witness_http_start(http, e);
    if (rc == 0) {
        ready_say(a, r);
        while (sigwait(&stop, &sig) != 0)
            ;
        log_info("stopping", NULL);
    }
    witness_http_close(http);
    return rc;
}

/* --- the command --------------------------------------------------------------------------------- */

static int args_check(const struct witness_args *a, struct err *e)
{
    if (!a->state || !a->key)
        return usage(e, "--state and --key are needed");
    if (a->init)
        return a->listen || a->log_count ? usage(e, "--init makes key and folder, and serves nothing") : 0;
    if (a->name)
        return usage(e, "--name belongs to --init: a witness's name is part of its key");
    if (!a->listen || a->log_count == 0)
        return usage(e, "--listen and at least one --log are needed");
    if (!a->tls_cert != !a->tls_key)
        return usage(e, "--tls-cert and --tls-key belong together");
    return 0;
}

/* -1 when usage was wrong and has been told. */
static int args_parse(struct witness_args *a, int argc, char **argv, struct err *e)
{
    enum { OPT_INIT = 1200, OPT_STATE, OPT_KEY, OPT_NAME, OPT_LISTEN, OPT_LOG, OPT_CERT, OPT_TLS_KEY };
    static const struct option options[] = {
        {"init", no_argument, NULL, OPT_INIT},           {"state", required_argument, NULL, OPT_STATE},
        {"key", required_argument, NULL, OPT_KEY},       {"name", required_argument, NULL, OPT_NAME},
        {"listen", required_argument, NULL, OPT_LISTEN}, {"log", required_argument, NULL, OPT_LOG},
        {"tls-cert", required_argument, NULL, OPT_CERT}, {"tls-key", required_argument, NULL, OPT_TLS_KEY},
        {"json", no_argument, NULL, CLI_OPT_JSON},       {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0}};
    for (int o; (o = args_getopt(argc, argv, "h", options, COMMAND)) != -1;) {
        switch (o) {
        case OPT_INIT: a->init = true; break;
        case OPT_STATE: a->state = optarg; break;
        case OPT_KEY: a->key = optarg; break;
        case OPT_NAME: a->name = optarg; break;
        case OPT_LISTEN: a->listen = optarg; break;
        case OPT_CERT: a->tls_cert = optarg; break;
        case OPT_TLS_KEY: a->tls_key = optarg; break;
        case OPT_LOG:
            if (a->log_count == TLOG_WITNESS_LOGS)
                return usage(e, "--log: too many logs");
            a->logs[a->log_count++] = optarg;
            break;
        default:
            if (!cli_common(&a->cli, o, witness_help))
                return -1;
        }
    }
    return 0;
}

int cli_log_witness(int argc, char **argv)
{
    struct witness_args a = {0};
    static struct witness_run r;
    struct err e = {0};
    if ((args_parse(&a, argc, argv, &e) < 0 && e.code == ERR_NONE) ||
        args_no_operands(argc, argv, COMMAND) < 0)
        return ARGS_USAGE;
    int rc = e.code == ERR_NONE ? args_check(&a, &e) : -1;
    if (rc == 0)
        rc = a.init ? init(&a, &r, &e) : serve(&a, &r, &e);
    tlog_witness_close(r.witness);
    key_free(r.key);
    tlog_vkey_free(&r.self);
    for (size_t i = 0; i < a.log_count; i++)
        tlog_vkey_free(&r.logs[i]);
    return rc < 0 ? cli_fail(&a.cli, COMMAND, &e) : ARGS_OK;
}
