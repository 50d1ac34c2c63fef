/* Identities for real servers, written by the agent's own output, without an agent: a certificate authority that
 * lives in this process, and a new SVID for server and client at each word "rotate" on standard input, answered
 * by the server's new serial (hexadecimal), or "reload-failed: why". At the word "roots" the bundle gets one more root.
 *
 *   output_driver SERVER-DIR CLIENT-DIR [--owner UID:GID] [--combined] [--reload COMMAND] [--pid-file FILE]
 */
#include "agent/output.h"
#include "agent/pem.h"
#include "base/log.h"
#include "tests/integration/issuer.h"
#include <getopt.h>
#include <signal.h>

/* A key, a certificate, a set. */
static void write_set(const struct authority *a, const struct output_config *c, const char *id, char serial[64])
{
    struct err e;
    struct issued i;
    struct buf chain, bundle;
    issue(&i, a, id);
    buf_init(&chain, 65536);
    buf_init(&bundle, 65536);
    if (pem_certificates(&chain, i.chain.p, i.chain.len, &e) < 0 ||
        pem_certificates(&bundle, a->roots.p, a->roots.len, &e) < 0)
        die(e.msg);
    const struct output_set s = {.spiffe_id = id,
                                 .chain_pem = {chain.p, chain.len},
                                 .bundle_pem = {bundle.p, bundle.len},
                                 .key_der = &i.key};
    if (output_write(c, &s, &e) < 0)
        die(e.msg);
    memcpy(serial, i.serial, 64);
    secret_free(&i.key);
    buf_free(&i.chain);
    buf_free(&chain);
    buf_free(&bundle);
}

static void take(struct output_config *c, int argc, char **argv)
{
    static const struct option options[] = {{"owner", required_argument, NULL, 'o'},
                                            {"combined", no_argument, NULL, 'c'},
                                            {"reload", required_argument, NULL, 'r'},
                                            {"pid-file", required_argument, NULL, 'p'},
                                            {NULL, 0, NULL, 0}};
    unsigned uid, gid;
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (o == 'o' && sscanf(optarg, "%u:%u", &uid, &gid) == 2) {
            c->uid = uid;
            c->gid = gid;
        } else if (o == 'c') {
            c->combined = true;
        } else if (o == 'r') {
            c->reload = optarg;
        } else if (o == 'p') {
            c->pid_file = optarg;
            c->signal = SIGHUP;
        } else {
            die("unknown option");
        }
    }
    if (argc - optind != 2)
        die("usage: output_driver SERVER-DIR CLIENT-DIR [OPTION...]");
}

int main(int argc, char **argv)
{
    char word[64], serial[64], ignored[64];
    struct authority a;
    struct err e;
    struct output_config server = {
        .uid = (uid_t)-1, .gid = (gid_t)-1, .mode = 0600, .reload_timeout_ms = 30000};
    struct output_config client = server;
    bool first = true;
    log_setup("output_driver", LOG_WARN, LOG_TEXT);
    take(&server, argc, argv);
    server.dir = argv[optind];
    client.dir = argv[optind + 1];
    authority_make(&a);
    while (fgets(word, sizeof word, stdin)) {
        if (strcmp(word, "roots\n") == 0)
            authority_next_root(&a);
        write_set(&a, &client, "spiffe://example.org/client", ignored);
        write_set(&a, &server, "spiffe://example.org/server", serial);
        if (first || output_reload(&server, "spiffe://example.org/server", &e) == 0)
            printf("%s\n", serial);
        else
            printf("reload-failed: %s\n", e.msg);
        fflush(stdout);
        first = false; /* nobody to tell yet */
    }
    return 0;
}
