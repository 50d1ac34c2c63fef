/* mayfly log: the published log as an auditor reads it, straight from its files. Trusts nothing but
 * the log's verifier key: from --vkey, or as bound in the issuing certificate. */
#include "base/fileio.h"
#include "base/der.h"
#include "base/oid.h"
#include "cmd/cli_log.h"
#include "tlog/log.h"
#include "tlog/proof.h"
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char group_help[] =
    "usage: mayfly log checkpoint|verify|show|search|export|monitor|reconcile|verify-cert|witness|archive\n"
    "                  [OPTION...]\n"
    "\n"
    "  checkpoint   the published head, verified\n"
    "  verify       replay the log: hashes, tiles, signature, and every entry's rules\n"
    "  show INDEX   one entry, with its inclusion proof verified\n"
    "  search       entries by name, key, agent, time and the like, each verified\n"
    "  export       every entry as JSON lines or CSV, each verified\n"
    "  monitor      follow a log, here or over HTTPS, and alert on what should not be there\n"
    "  reconcile    does the log account for every signature of the issuing key?\n"
    "  verify-cert FILE\n"
    "               is this certificate proven to stand in the log? offline\n"
    "  witness      cosign other people's logs, and refuse their forks\n"
    "  archive      move old tiles to another folder, and go on serving them\n";

int log_unverified(struct err *e)
{
    switch (e->code) {
    case ERR_UNAUTHORIZED:
    case ERR_MALFORMED:
    case ERR_TOO_LARGE:
    case ERR_BAD_KEY: e->code = ERR_CORRUPT; break;
    default: break;
    }
    return -1;
}

static int vkey_from_issuing(struct tlog_vkey *k, const char *ca_dir, struct err *e)
{
    char path[4096];
    struct buf pem;
    buf_init(&pem, 65536);
    snprintf(path, sizeof path, "%s/issuing.pem", ca_dir);
    int rc = file_read(&pem, path, 65536, e);
    BIO *bio = rc == 0 ? BIO_new_mem_buf(pem.p, (int)pem.len) : NULL;
    X509 *cert = bio ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
    uint8_t *der = NULL;
    int len = cert ? i2d_X509(cert, &der) : -1;
    if (rc == 0)
        rc = len > 0 ? (tlog_binding_from_cert(k, der, (size_t)len, e) < 0 ? log_unverified(e) : 0)
                     : err_set(e, ERR_CORRUPT, "issuing", "%s holds no certificate", path);
    OPENSSL_free(der);
    X509_free(cert);
    BIO_free(bio);
    buf_free(&pem);
    return rc;
}

int log_args_load(struct log_args *a, struct err *e)
{
    if (!a->dir || !a->vkey_text) {
        if (!(a->config = cli_config(&a->cli, e)))
            return -1;
        if (!a->dir)
            a->dir = a->config->log.dir;
    }
    a->at.dir = a->dir;
    if (a->archive_count > 0)
        a->at.archive = a->archive;
    else if (a->config && strcmp(a->dir, a->config->log.dir) == 0)
        a->at.archive = a->config->log.archive;
    if (a->vkey_text) {
        if (tlog_vkey_parse(&a->vkey, a->vkey_text, strlen(a->vkey_text), e) == 0)
            return 0;
        e->code = ERR_USAGE;
        return err_wrap(e, "--vkey");
    }
    return vkey_from_issuing(&a->vkey, a->config->ca.dir, e);
}

static bool archive_add(struct log_args *a)
{
    if (a->archive_count == CONFIG_ARCHIVES_MAX) {
        fprintf(stderr, "mayfly log: --archive can be given at most %d times\n", CONFIG_ARCHIVES_MAX);
        return false;
    }
    a->archive[a->archive_count++] = optarg;
    return true;
}

bool log_args_option(struct log_args *a, int o, const char *help)
{
    if (o == CLI_OPT_LOG)
        a->dir = optarg;
    else if (o == CLI_OPT_VKEY)
        a->vkey_text = optarg;
    else if (o == CLI_OPT_ARCHIVE)
        return archive_add(a);
    else
        return cli_common(&a->cli, o, help);
    return true;
}

void log_args_free(struct log_args *a)
{
    tlog_vkey_free(&a->vkey);
    config_free(a->config);
}

void log_root_text(char dst[64], const struct tlog_hash *root)
{
    struct buf b;
    buf_init(&b, 64);
    buf_b64(&b, root->b, sizeof root->b);
    snprintf(dst, 64, "%s", buf_cstr(&b) ? buf_cstr(&b) : "");
    buf_free(&b);
}

int cli_log(int argc, char **argv)
{
    static const struct cli_verb verbs[] = {
        {"checkpoint", cli_log_checkpoint}, {"verify", cli_log_verify}, {"show", cli_log_show},
        {"search", cli_log_search}, {"export", cli_log_export}, {"verify-cert", cli_log_cert},
        {"reconcile", cli_log_reconcile}, {"witness", cli_log_witness},
        {"monitor", cli_log_monitor}, {"archive", cli_log_archive}};
    return cli_group("mayfly log", group_help, verbs, sizeof verbs / sizeof *verbs, argc, argv);
}
