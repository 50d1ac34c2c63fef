/* mayflyd: the authority's daemon. The parent by default; a role when the parent starts it. */
#include "base/log.h"
#include "ca/witnesses.h"
#include "cmd/mayflyd.h"
#include <errno.h>
#include <getopt.h>
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

int main(int argc, char **argv)
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
    const char *path = getenv("MAYFLY_DIR");
    const char *role = NULL;
    bool check = false;
    struct mayflyd_role_args args = {.self = {(uid_t)-1, (gid_t)-1}, .peer = {(uid_t)-1, (gid_t)-1},
                                    .notary = {(uid_t)-1, (gid_t)-1}};
    for (int o; (o = getopt_long(argc, argv, "c:hV", options, NULL)) != -1;) {
        switch (o) {
        case 'c': path = optarg; break;
        case OPT_CHECK: check = true; break;
        case OPT_ROLE: role = optarg; break;
        case OPT_FIRST: args.first_start = true; break;
        case OPT_CLOCK: args.accept_clock_back = true; break;
        case OPT_STORE: args.accept_older_store = true; break;
        case OPT_SELF:
        case OPT_PEER:
        case OPT_NOTARY:
            if (parse_user(optarg, o == OPT_SELF ? &args.self : o == OPT_PEER ? &args.peer : &args.notary) < 0) {
                fprintf(stderr, "mayflyd: %s is not uid:gid\n", optarg);
                return EXIT_BAD_USE;
            }
            break;
        case 'h': usage(stdout); return EXIT_OK;
        case 'V': puts("mayflyd " MAYFLY_VERSION); return EXIT_OK;
        default: fputs("Try 'mayflyd --help'.\n", stderr); return EXIT_BAD_USE;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "mayflyd: unexpected '%s'. Try 'mayflyd --help'.\n", argv[optind]);
        return EXIT_BAD_USE;
    }
    args.config_path = path && *path ? path : ".";
    if (role && strcmp(role, "signer") == 0)
        return role_signer(&args);
    if (role && strcmp(role, "frontend") == 0)
        return role_frontend(&args);
    if (role && strcmp(role, "notary") == 0)
        return role_notary(&args);
    if (role) {
        fprintf(stderr, "mayflyd: no role '%s'\n", role);
        return EXIT_BAD_USE;
    }
    struct err e = {0};
    struct config *config = config_load(args.config_path, &e);
    if (!config) {
        fprintf(stderr, "mayflyd: %s\n", e.msg);
        return EXIT_FATAL;
    }
    struct witnesses keys;
    if (witnesses_load(&keys, config, &e) < 0) {
        fprintf(stderr, "mayflyd: %s\n", e.msg);
        witnesses_free(&keys);
        config_free(config);
        return EXIT_FATAL;
    }
    witnesses_free(&keys);
    if (check && parent_check_users(config, &e) < 0) {
        fprintf(stderr, "mayflyd: %s\n", e.msg);
        config_free(config);
        return EXIT_FATAL;
    }
    if (check) {
        printf("%s/%s: ok (trust domain %s, listening on %s:%u)\n", config->dir, CONFIG_FILE,
               config->trust_domain, config->listen_host, config->listen_port);
        config_free(config);
        return EXIT_OK;
    }
    return parent_run(&args, config);
}
