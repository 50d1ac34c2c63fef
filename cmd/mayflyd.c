/* mayflyd: the authority's daemon. The parent by default; a role when the parent starts it. */
#include "base/log.h"
#include "ca/witnesses.h"
#include "cmd/mayflyd.h"
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void usage(FILE *f)
{
    fputs("usage: mayflyd [--config FILE|DIR] [--check] [--accept-clock-back]\n"
          "               [--accept-older-store]\n"
          "\n"
          "Runs the authority that `mayfly init` made: a parent that holds no secret, a signer\n"
          "(token and log, no network), a frontend (HTTP and the registration store) and, where the\n"
          "configuration names witnesses, a notary that asks them.\n"
          "\n"
          "  -c, --config PATH  mayfly.yaml or the folder that holds it\n"
          "                     (default: $MAYFLY_DIR, else the current folder)\n"
          "      --check        read the configuration, say what is wrong with it, and exit\n"
          "      --accept-clock-back\n"
          "                     this start only: issue from the present time on, though the log's\n"
          "                     newest entry is later (the clock was ahead, and is right now)\n"
          "      --accept-older-store\n"
          "                     serve from a registration store that was restored from an older\n"
          "                     copy: what was changed and revoked since is lost\n"
          "  -h, --help         this text\n"
          "  -V, --version      the version\n"
          "\n"
          "SIGTERM drains and stops; SIGHUP reads the configuration again and restarts the signer\n"
          "and, once it serves, the frontend, keeping the sockets open.\n"
          "\n"
          "Example:\n"
          "  mayfly init --dir ./authority --trust-domain example.org\n"
          "  mayflyd --config ./authority\n",
          f);
}

/* "uid:gid" as the parent writes it. */
static int parse_user(const char *s, struct user_ids *u)
{
    char *end;
    errno = 0;
    unsigned long uid = strtoul(s, &end, 10);
    if (errno || end == s || *end != ':' || uid > (uid_t)-1)
        return -1;
    const char *g = end + 1;
    unsigned long gid = strtoul(g, &end, 10);
    if (errno || end == g || *end || gid > (gid_t)-1)
        return -1;
    u->uid = (uid_t)uid;
    u->gid = (gid_t)gid;
    return 0;
}

struct command {
    const char *role; /* NULL: the parent */
    bool check;
    struct mayflyd_role_args args;
};

static int bad_use(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static int bad_use(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vfprintf(stderr, fmt, args);
    va_end(args);
    return EXIT_BAD_USE;
}

/* The exit code, or -1 to go on. */
static int parse(struct command *c, int argc, char **argv)
{
    enum { OPT_CHECK = 256, OPT_ROLE, OPT_SELF, OPT_PEER, OPT_NOTARY, OPT_FIRST, OPT_CLOCK, OPT_STORE };
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'},     {"check", no_argument, NULL, OPT_CHECK},
        {"help", no_argument, NULL, 'h'},             {"version", no_argument, NULL, 'V'},
        {"role", required_argument, NULL, OPT_ROLE},  {"self", required_argument, NULL, OPT_SELF},
        {"peer", required_argument, NULL, OPT_PEER},  {"first-start", no_argument, NULL, OPT_FIRST},
        {"notary", required_argument, NULL, OPT_NOTARY},
        {"accept-clock-back", no_argument, NULL, OPT_CLOCK},
        {"accept-older-store", no_argument, NULL, OPT_STORE},
        {NULL, 0, NULL, 0}};
    struct mayflyd_role_args *a = &c->args;
    const char *path = getenv("MAYFLY_DIR");
    for (int o; (o = getopt_long(argc, argv, "c:hV", options, NULL)) != -1;) {
        switch (o) {
        case 'c': path = optarg; break;
        case OPT_CHECK: c->check = true; break;
        case OPT_ROLE: c->role = optarg; break;
        case OPT_FIRST: a->first_start = true; break;
        case OPT_CLOCK: a->accept_clock_back = true; break;
        case OPT_STORE: a->accept_older_store = true; break;
        case OPT_SELF:
        case OPT_PEER:
        case OPT_NOTARY:
            if (parse_user(optarg, o == OPT_SELF ? &a->self : o == OPT_PEER ? &a->peer : &a->notary) < 0)
                return bad_use("mayflyd: %s is not uid:gid\n", optarg);
            break;
        case 'h': usage(stdout); return EXIT_OK;
        case 'V': puts("mayflyd " MAYFLY_VERSION); return EXIT_OK;
        default: return bad_use("Try 'mayflyd --help'.\n");
        }
    }
    a->config_path = path && *path ? path : ".";
    return optind < argc ? bad_use("mayflyd: unexpected '%s'. Try 'mayflyd --help'.\n", argv[optind]) : -1;
}

static int role_run(const char *role, const struct mayflyd_role_args *a)
{
    if (strcmp(role, "signer") == 0)
        return role_signer(a);
    if (strcmp(role, "frontend") == 0)
        return role_frontend(a);
    if (strcmp(role, "notary") == 0)
        return role_notary(a);
    return bad_use("mayflyd: no role '%s'\n", role);
}

/* Read, and the witnesses' keys in it; with check also whether its users are there. NULL: it was said why not. */
static struct config *load(const struct command *c)
{
    struct err e = {0};
    struct witnesses keys;
    struct config *config = config_load(c->args.config_path, &e);
    if (config) {
        int rc = witnesses_load(&keys, config, &e);
        witnesses_free(&keys);
        if (rc == 0 && c->check)
            rc = parent_check_users(config, &e);
        if (rc == 0)
            return config;
    }
    fprintf(stderr, "mayflyd: %s\n", e.msg);
    config_free(config);
    return NULL;
}

int main(int argc, char **argv)
{
    struct command c = {
        .args = {.self = {(uid_t)-1, (gid_t)-1}, .peer = {(uid_t)-1, (gid_t)-1}, .notary = {(uid_t)-1, (gid_t)-1}}};
    int code = parse(&c, argc, argv);
    if (code >= 0)
        return code;
    if (c.role)
        return role_run(c.role, &c.args);
    struct config *config = load(&c);
    if (!config)
        return EXIT_FATAL;
    if (!c.check)
        return parent_run(&c.args, config);
    printf("%s/%s: ok (trust domain %s, listening on %s:%u)\n", config->dir, CONFIG_FILE, config->trust_domain,
           config->listen_host, config->listen_port);
    config_free(config);
    return EXIT_OK;
}
