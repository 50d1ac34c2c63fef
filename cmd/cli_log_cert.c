/* mayfly log verify-cert: is this certificate proven logged? Offline: the certificate's own proof,
 * and whom to believe, from --policy, from --vkey, or as the authority's issuing certificate says. */
#include "base/clock.h"
#include "base/fileio.h"
#include "cmd/cli_log.h"
#include "tlog/policy.h"
#include <stdio.h>
#include <string.h>

#define COMMAND "mayfly log verify-cert"

static const char cert_help[] =
    "usage: mayfly log verify-cert FILE [--policy FILE | --vkey KEY] [OPTION...]\n"
    "\n"
    "Says whether the certificate in FILE (PEM or DER; of a chain, the first) is proven to stand in\n"
    "the log. Offline. Does not check its signature, chain, names, validity or revocation.\n"
    "\n"
    "      --policy FILE   trusted logs and witnesses, and the quorum; see mayfly-policy(5)\n"
    "      --vkey KEY      the one trusted log's verifier key (name+id+key), no witness needed\n"
    "                      default: as the issuing certificate of the authority binds it\n"
    "      --proof FILE    a proof fetched later (tlog-proof) instead of the certificate's own\n"
    "  -d, --dir DIR       the authority's folder (default: $MAYFLY_DIR, else here, else /etc/mayfly)\n"
    "      --json          JSON for programs instead of words for people\n"
    "  -h, --help          this text\n"
    "\n"
    "Example:\n"
    "  mayfly log verify-cert web/svid.pem --policy trust.policy\n";

struct cert_args {
    struct log_args log;
    const char *file, *policy, *proof;
    char whom[512]; /* whose word is taken, in words */
};

struct cert_proven {
    struct tlog_claim claim;
    struct tlog_accepted accepted;
    struct tlog_ext_info ext; /* views into claim */
};

/* --- whom to believe ----------------------------------------------------------------------------- */

static int trust_file(struct tlog_policy *p, const char *path, struct err *e)
{
    struct buf text;
    buf_init(&text, TLOG_POLICY_MAX);
    int rc = file_read(&text, path, TLOG_POLICY_MAX, e);
    if (rc == 0)
        rc = tlog_policy_parse(p, (const char *)text.p, text.len, e);
    buf_free(&text);
    return rc;
}

static int trust_load(struct cert_args *a, struct tlog_policy *p, struct err *e)
{
    if (a->policy) {
        snprintf(a->whom, sizeof a->whom, "the policy in %.400s", a->policy);
        return trust_file(p, a->policy, e);
    }
    a->log.dir = ""; /* no log's folder is read, only its key */
    if (log_args_load(&a->log, e) < 0)
        return -1;
    if (a->log.vkey_text)
        snprintf(a->whom, sizeof a->whom, "the log's key as given by --vkey; no witness was asked for");
    else
        snprintf(a->whom, sizeof a->whom,
                 "the log's key as the issuing certificate in %.400s binds it; no witness was asked "
                 "for",
                 a->log.config->ca.dir);
    return tlog_policy_add_log(p, &a->log.vkey, e);
}

/* --- the answer ---------------------------------------------------------------------------------- */

static void text_member(struct buf *b, const char *key, struct bytes value)
{
    buf_fmt(b, ",\"%s\":", key);
    jw_strn(b, (const char *)value.p, value.len);
}

static void answer_json(const struct cert_proven *c)
{
    struct buf b;
    buf_init(&b, 65536);
    buf_fmt(&b, "{\"proven\":true,\"index\":%llu,\"log_number\":%u,\"origin\":",
            (unsigned long long)c->claim.proof.index, c->claim.log_number);
    jw_str(&b, c->accepted.checkpoint.origin);
    buf_fmt(&b, ",\"tree_size\":%llu,\"witnesses\":%u,\"cosigned_time\":",
            (unsigned long long)c->accepted.checkpoint.size, c->accepted.witnesses);
    if (c->accepted.witnesses)
        buf_fmt(&b, "%lld", (long long)c->accepted.oldest);
    else
        buf_str(&b, "null");
    text_member(&b, "attestor", c->ext.attestor);
    text_member(&b, "entry_id", c->ext.entry_id);
    buf_fmt(&b, ",\"entry_revision\":%llu", (unsigned long long)c->ext.entry_revision);
    text_member(&b, "requester", c->ext.requester);
    buf_str(&b, ",\"not_checked\":[\"signature\",\"chain\",\"names\",\"validity\",\"revocation\"]}");
    puts(buf_cstr(&b) ? buf_cstr(&b) : "{\"proven\":true}");
    buf_free(&b);
}

static void text_line(const char *what, struct bytes value)
{
    if (value.len)
        printf("  %-12s %.*s\n", what, (int)value.len, (const char *)value.p);
}

static void answer_people(const struct cert_args *a, const struct cert_proven *c)
{
    const struct tlog_checkpoint *head = &c->accepted.checkpoint;
    char when[64];
    printf("proven logged: the certificate in %s is entry %llu of %s\n", a->file,
           (unsigned long long)c->claim.proof.index, head->origin);
    printf("  %-12s of %llu entries, signed by the log\n", "head", (unsigned long long)head->size);
    if (c->accepted.witnesses) {
        cli_when(when, sizeof when, c->accepted.oldest);
        printf("  %-12s %u cosigned it, the first at %s\n", "witnesses", c->accepted.witnesses, when);
    }
    if (c->ext.entry_id.len)
        printf("  %-12s %.*s, revision %llu\n", "allowed by", (int)c->ext.entry_id.len,
               (const char *)c->ext.entry_id.p, (unsigned long long)c->ext.entry_revision);
    text_line("attestor", c->ext.attestor);
    text_line("requester", c->ext.requester);
    printf("  %-12s %s\n", "believed", a->whom);
    puts("not checked: the certificate's signature and chain, its names, whether it is valid now, "
         "whether it was revoked");
}

/* --- the command --------------------------------------------------------------------------------- */

/* A certificate file's bytes, in `file` or decoded in `room`. */
static int cert_load(struct bytes *der, struct buf *file, struct buf *room, const char *path,
                     struct err *e)
{
    if (file_read(file, path, TLOG_CERT_FILE_MAX, e) < 0)
        return -1;
    return tlog_cert_from_file(der, room, file->p, file->len, e) < 0 ? err_wrap(e, "%s", path) : 0;
}

static int cert_prove(const struct cert_args *a, const struct tlog_policy *p,
                      struct cert_proven *c, struct err *e)
{
    struct buf file, room, proof;
    struct bytes der;
    buf_init(&file, TLOG_CERT_FILE_MAX);
    buf_init(&room, TLOG_CERT_FILE_MAX);
    buf_init(&proof, TLOG_PROOF_MAX);
    int rc = cert_load(&der, &file, &room, a->file, e);
    if (rc == 0 && a->proof && (rc = file_read(&proof, a->proof, TLOG_PROOF_MAX, e)) == 0 &&
        proof.len == 0)
        rc = err_set(e, ERR_CORRUPT, "proof-format", "%.300s is empty", a->proof);
    if (rc == 0 &&
        (tlog_cert_claim(&c->claim, der.p, der.len, (struct bytes){proof.p, proof.len}, e) < 0 ||
         tlog_policy_prove(p, clock_wall(), &c->claim, &c->accepted, e) < 0 ||
         tlog_entry_extensions(&c->ext,
                               (struct bytes){c->claim.proof.extra, c->claim.proof.extra_len},
                               e) < 0))
        rc = log_unverified(e);
    buf_free(&file);
    buf_free(&room);
    buf_free(&proof);
    return rc;
}

/* -1 when usage was wrong and has been told. */
static int cert_args_parse(struct cert_args *a, int argc, char **argv)
{
    enum { OPT_POLICY = CLI_LOG_OPT_FIRST, OPT_PROOF };
    static const struct option options[] = {{"policy", required_argument, NULL, OPT_POLICY},
                                            {"vkey", required_argument, NULL, CLI_OPT_VKEY},
                                            {"proof", required_argument, NULL, OPT_PROOF},
                                            CLI_COMMON_OPTIONS};
    for (int o; (o = args_getopt(argc, argv, "d:h", options, COMMAND)) != -1;) {
        if (o == OPT_POLICY)
            a->policy = optarg;
        else if (o == OPT_PROOF)
            a->proof = optarg;
        else if (!log_args_option(&a->log, o, cert_help))
            return -1;
    }
    return 0;
}

static int cert_args_check(struct cert_args *a, int argc, char **argv, struct err *e)
{
    if (optind + 1 != argc)
        return err_set(e, ERR_USAGE, "arguments",
                       "one FILE is needed, e.g. '" COMMAND " web/svid.pem'");
    if (a->policy && a->log.vkey_text)
        return err_set(e, ERR_USAGE, "arguments",
                       "--policy and --vkey exclude each other: a policy names its logs itself");
    a->file = argv[optind];
    return 0;
}

int cli_log_cert(int argc, char **argv)
{
    struct cert_args a = {0};
    struct cert_proven c;
    struct err e = {0};
    if (cert_args_parse(&a, argc, argv) < 0)
        return ARGS_USAGE;
    struct tlog_policy *p = tlog_policy_new();
    int rc = p ? cert_args_check(&a, argc, argv, &e)
               : err_set(&e, ERR_INTERNAL, "memory", "out of memory");
    if (rc == 0)
        rc = trust_load(&a, p, &e);
    if (rc == 0)
        rc = cert_prove(&a, p, &c, &e);
    if (rc == 0 && a.log.cli.json)
        answer_json(&c);
    else if (rc == 0)
        answer_people(&a, &c);
    int code = rc < 0 ? cli_fail(&a.log.cli, COMMAND, &e) : ARGS_OK;
    tlog_policy_free(p);
    log_args_free(&a.log);
    return code;
}
