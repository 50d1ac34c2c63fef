/* mayfly init: an authority in a folder. Steps: folders, configuration (cli_init_config.c), PIN and
 * token, ceremony (ca/authority), owners (cli_init_owner.c). Never overwrites; a run that was cut
 * short is gone on with. */
#include "base/fileio.h"
#include "base/secmem.h"
#include "base/spiffe.h"
#include "ca/authority.h"
#include "ca/signer.h"
#include "cmd/cli_init.h"
#include "hsm/hsm.h"
#include <errno.h>
#include <fcntl.h>
#include <openssl/rand.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* Used when init runs as root and the users of a package are not there: in the range that is set
 * aside for services with no account of their own. */
#define SIGNER_IDS "61710:61710"
#define FRONTEND_IDS "61711:61711"
#define NOTARY_IDS "61712:61712"

static const char help[] =
    "usage: mayfly init --dir DIR --trust-domain NAME [OPTION...]\n"
    "\n"
    "Makes an authority in DIR: configuration, keys generated in the token (root P-384, issuing\n"
    "CA P-256, log Ed25519, JWT-SVIDs P-256), root and issuing certificates, the log's first\n"
    "entries, the bundle.\n"
    "Without --token-uri it also makes a SoftHSM2 token in DIR. Never overwrites anything.\n"
    "\n"
    "  -d, --dir DIR              where; made if missing. As root: not below a folder that the\n"
    "                             users below may not enter, such as /root\n"
    "  -t, --trust-domain NAME    e.g. example.org: identities are spiffe://NAME/...\n"
    "  -l, --listen ADDR:PORT     where mayflyd listens (default 127.0.0.1:8443)\n"
    "  -n, --name NAME            what clients call this server, DNS name or IP address;\n"
    "                             repeatable (default localhost and 127.0.0.1)\n"
    "      --token-uri URI        use this PKCS#11 token (RFC 7512), e.g. pkcs11:token=prod;\n"
    "                             for a SoftHSM2 token SOFTHSM2_CONF is written down too\n"
    "      --module FILE          its PKCS#11 module, if the URI does not name it\n"
    "      --pin-file FILE        its PIN: a file only its owner can read,\n"
    "      --pin-credential NAME  or a systemd credential,\n"
    "      --pin-fd N             or an inherited descriptor (a regular file or memfd)\n"
    "      --signer-user USER     whom the signer runs as when started as root\n"
    "      --frontend-user USER   whom the frontend runs as when started as root\n"
    "      --notary-user USER     whom the notary runs as, which asks witnesses, when started as root\n"
    "  -y, --yes                  do not ask before generating keys in a given token\n"
    "      --json                 JSON for programs instead of words for people\n"
    "  -h, --help                 this text\n"
    "\n"
    "Example:\n"
    "  mayfly init --dir ./authority --trust-domain example.org --name ca.example.org\n";

static void say(void *arg, const char *what)
{
    const struct init *in = arg;
    if (!in->cli.json)
        printf("  %s\n", what);
    fflush(stdout);
}

static bool confirm_keys(void *arg, const char *token, const char *missing)
{
    const struct init *in = arg;
    char question[512];
    if (in->yes)
        return true;
    int tty = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY); /* the node is there for all; a terminal is not */
    if (tty < 0) {
        fputs("mayfly init: nobody to ask here; --yes answers for you\n", stderr);
        return false;
    }
    close(tty);
    snprintf(question, sizeof question, "Generate %s in token %s?", missing, token);
    return cli_confirm(question);
}

static void path_in(const struct init *in, char dst[4096], const char *rest)
{
    snprintf(dst, 4096, "%s/%s", in->abs, rest);
}

/* --- folders ------------------------------------------------------------------------------------ */

static int make_folders(struct init *in, struct err *e)
{
    static const struct {
        const char *name;
        mode_t mode;
    } folders[] = {{"", 0755},      {"/secret", 0700}, {"/token", 0700}, {"/log", 0755},
                   {"/ca", 0755}, {"/store", 0700},  {"/run", 0755}};
    if (file_mkdirs(in->dir, 0755, e) < 0)
        return -1;
    char *abs = realpath(in->dir, NULL);
    if (!abs || strlen(abs) >= sizeof in->abs) {
        free(abs);
        return err_errno(e, "init-dir", "%s", in->dir);
    }
    strcpy(in->abs, abs);
    free(abs);
    for (size_t i = 1; i < sizeof folders / sizeof *folders; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s%s", in->abs, folders[i].name);
        if (in->token_uri && (strcmp(folders[i].name, "/token") == 0 || strcmp(folders[i].name, "/secret") == 0))
            continue;
        if (mkdir(path, folders[i].mode) < 0 && errno != EEXIST)
            return err_errno(e, "init-dir", "cannot make %s", path);
    }
    return 0;
}

/* --- the PIN and the token of the embedded default ---------------------------------------------- */

static int make_pin(struct init *in, struct secret *pin, struct err *e)
{
    char path[4096];
    path_in(in, path, "secret/pin");
    if (access(path, F_OK) == 0)
        return secret_read_file(pin, path, 256, e);
    uint8_t raw[16];
    if (secret_new(pin, 64, e) < 0)
        return -1;
    if (RAND_priv_bytes(raw, sizeof raw) != 1)
        return err_set(e, ERR_INTERNAL, "random", "no randomness for the PIN");
    pin->len = hex_encode((char *)pin->p, raw, sizeof raw);
    secret_wipe(raw, sizeof raw);
    return file_write_atomic(path, pin->p, pin->len, 0400, true, e);
}

/* In a process of its own: a module is loaded once a process, and the ceremony loads it next. */
static int make_softhsm(struct init *in, struct err *e)
{
    char conf[4096], tokens[4096], pin_path[4096];
    path_in(in, pin_path, "secret/pin");
    path_in(in, conf, "token/softhsm2.conf");
    path_in(in, tokens, "token/tokens");
    if (access(conf, F_OK) == 0)
        return 0;
    int report[2];
    if (pipe2(report, O_CLOEXEC) < 0)
        return err_errno(e, "pipe", "pipe");
    pid_t pid = fork();
    if (pid == 0) {
        struct err why = {0};
        struct secret pin = {0}; /* read again: secret memory does not come along through fork */
        int rc = secret_read_file(&pin, pin_path, 256, &why);
        if (rc == 0)
            rc = hsm_softhsm_create(in->module, conf, tokens, "mayfly", &pin, &why);
        secret_free(&pin);
        if (rc < 0 && write(report[1], &why, sizeof why) < 0)
            _exit(2);
        _exit(rc < 0);
    }
    close(report[1]);
    int status = 0;
    struct err why = {0};
    ssize_t n = pid > 0 ? read(report[0], &why, sizeof why) : -1;
    close(report[0]);
    if (pid < 0 || waitpid(pid, &status, 0) < 0)
        return err_errno(e, "fork", "cannot start the token's maker");
    if (status == 0)
        return 0;
    if (n == (ssize_t)sizeof why)
        *e = why;
    else
        err_set(e, ERR_HSM, "hsm-softhsm", "making the SoftHSM2 token failed (status %d)", status);
    return -1;
}

/* -------------------------------------------------------------------------------------------------- */

static int say_made(const struct init *in, const struct config *config)
{
    if (in->cli.json) {
        json_t *doc = json_pack("{s:s,s:s,s:s}", "dir", in->abs, "trust_domain", config->trust_domain, "url",
                                config->external_url);
        json_dumpf(doc, stdout, JSON_COMPACT);
        putchar('\n');
        json_decref(doc);
    } else {
        printf("\nThe authority of %s stands in %s.\nNext:\n  mayflyd --config %s\n", config->trust_domain, in->abs, in->abs);
    }
    return 0;
}

/* With root.pem the ceremony is over. What an init that was cut short may have left undone is the
 * last step, as root. */
static int init_again(const struct init *in, struct err *e)
{
    char path[4096];
    path_in(in, path, CONFIG_FILE);
    struct config *config = geteuid() == 0 ? config_load(path, e) : NULL;
    int handed = config ? init_hand_over(in, config, e) : geteuid() == 0 ? -1 : 0;
    if (handed > 0)
        say_made(in, config);
    else if (handed == 0)
        handed = err_set(e, ERR_EXISTS, "authority-exists",
                         "%s already holds an authority (ca/root.pem is there); nothing was changed. Choose "
                         "another folder",
                         in->abs);
    config_free(config);
    return handed > 0 ? 0 : -1;
}

static bool find_authority(struct init *in)
{
    char path[4096];
    char *abs = realpath(in->dir, NULL);
    snprintf(in->abs, sizeof in->abs, "%s", abs ? abs : "");
    free(abs);
    path_in(in, path, "ca/root.pem");
    return *in->abs && access(path, F_OK) == 0;
}

static int init_run(struct init *in, struct err *e)
{
    char path[4096];
    struct secret pin = {0};
    struct config *config = NULL;
    int rc = -1;
    if (find_authority(in))
        return init_again(in, e);
    if (init_check_users(in, e) < 0 || make_folders(in, e) < 0 || init_write_config(in, e) < 0)
        return -1;
    if (!in->token_uri) {
        say(in, "token: SoftHSM2, in the folder");
        if (make_pin(in, &pin, e) < 0 || make_softhsm(in, e) < 0)
            goto out;
    }
    path_in(in, path, CONFIG_FILE);
    if (!(config = config_load(path, e)))
        goto out;
    if (in->token_uri && signer_read_pin(config, &pin, e) < 0)
        goto out;
    struct authority_options o = {.config = config, .pin = &pin, .step = say, .arg = in,
                                  .confirm = in->token_uri ? confirm_keys : NULL};
    if (authority_create(&o, e) < 0 || init_hand_over(in, config, e) < 0)
        goto out;
    rc = say_made(in, config);
out:
    secret_free(&pin);
    config_free(config);
    return rc;
}

static int check_arguments(struct init *in, struct err *e)
{
    if (!in->dir || !in->trust_domain)
        return err_set(e, ERR_USAGE, "init-arguments", "--dir and --trust-domain are needed; see 'mayfly init --help'");
    if (spiffe_check_trust_domain(in->trust_domain, strlen(in->trust_domain), e) < 0) {
        e->code = ERR_USAGE;
        return -1;
    }
    int pins = !!in->pin_file + !!in->pin_credential + !!in->pin_fd;
    if (in->token_uri && pins != 1)
        return err_set(e, ERR_USAGE, "init-pin", "--token-uri needs the PIN from one of --pin-file, --pin-credential, --pin-fd");
    if (!in->token_uri && (pins || in->module))
        return err_set(e, ERR_USAGE, "init-pin", "--pin-* and --module go with --token-uri; without it a token is made, with a PIN of its own");
    if (!in->token_uri)
        in->module = INIT_SOFTHSM_MODULE;
    if (!in->names_count) {
        in->names[in->names_count++] = "localhost";
        in->names[in->names_count++] = "127.0.0.1";
    }
    if (!in->signer_user)
        in->signer_user = getpwnam("mayfly-signer") ? "mayfly-signer" : SIGNER_IDS;
    if (!in->frontend_user)
        in->frontend_user = getpwnam("mayfly-frontend") ? "mayfly-frontend" : FRONTEND_IDS;
    if (!in->notary_user)
        in->notary_user = getpwnam("mayfly-notary") ? "mayfly-notary" : NOTARY_IDS;
    return 0;
}

int cli_init(int argc, char **argv)
{
    enum { OPT_URI = 256, OPT_MODULE, OPT_PIN_FILE, OPT_PIN_CRED, OPT_PIN_FD, OPT_SIGNER, OPT_FRONTEND, OPT_NOTARY };
    static const struct option options[] = {
        {"trust-domain", required_argument, NULL, 't'}, {"listen", required_argument, NULL, 'l'},
        {"name", required_argument, NULL, 'n'}, {"token-uri", required_argument, NULL, OPT_URI},
        {"module", required_argument, NULL, OPT_MODULE}, {"pin-file", required_argument, NULL, OPT_PIN_FILE},
        {"pin-credential", required_argument, NULL, OPT_PIN_CRED}, {"pin-fd", required_argument, NULL, OPT_PIN_FD},
        {"signer-user", required_argument, NULL, OPT_SIGNER}, {"frontend-user", required_argument, NULL, OPT_FRONTEND},
        {"notary-user", required_argument, NULL, OPT_NOTARY},
        {"yes", no_argument, NULL, 'y'}, CLI_COMMON_OPTIONS};
    struct init in = {.listen = "127.0.0.1:8443"};
    struct err e = {0};
    for (int o; (o = args_getopt(argc, argv, "d:t:l:n:yh", options, "mayfly init")) != -1;) {
        switch (o) {
        case 't': in.trust_domain = optarg; break;
        case 'l': in.listen = optarg; break;
        case 'n':
            if (in.names_count == INIT_NAMES_MAX) {
                err_set(&e, ERR_USAGE, "init-arguments", "at most %d names", INIT_NAMES_MAX);
                return cli_fail(&in.cli, "mayfly init", &e);
            }
            in.names[in.names_count++] = optarg;
            break;
        case OPT_URI: in.token_uri = optarg; break;
        case OPT_MODULE: in.module = optarg; break;
        case OPT_PIN_FILE: in.pin_file = optarg; break;
        case OPT_PIN_CRED: in.pin_credential = optarg; break;
        case OPT_PIN_FD: in.pin_fd = optarg; break;
        case OPT_SIGNER: in.signer_user = optarg; break;
        case OPT_FRONTEND: in.frontend_user = optarg; break;
        case OPT_NOTARY: in.notary_user = optarg; break;
        case 'y': in.yes = true; break;
        default:
            if (!cli_common(&in.cli, o, help))
                return ARGS_USAGE;
        }
    }
    in.dir = in.cli.dir;
    if (args_no_operands(argc, argv, "mayfly init") < 0)
        return ARGS_USAGE;
    umask(022);
    if (check_arguments(&in, &e) < 0 || init_run(&in, &e) < 0)
        return cli_fail(&in.cli, "mayfly init", &e);
    return ARGS_OK;
}
