/* mayfly log: the published log as an auditor reads it, straight from its files. Trusts nothing but
 * the log's verifier key: from --vkey, or as bound in the issuing certificate. */
#include "base/clock.h"
#include "base/fileio.h"
#include "base/der.h"
#include "base/oid.h"
#include "cmd/cli.h"
#include "tlog/log.h"
#include "tlog/proof.h"
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char group_help[] =
    "usage: mayfly log checkpoint|verify|show [OPTION...]\n"
    "\n"
    "  checkpoint   the published head, verified\n"
    "  verify       replay the whole log: hashes, tiles, signature\n"
    "  show INDEX   one entry, with its inclusion proof verified\n";

static const char log_help[] =
    "usage: mayfly log checkpoint [OPTION...]\n"
    "       mayfly log verify [OPTION...]\n"
    "       mayfly log show INDEX [OPTION...]\n"
    "\n"
    "  -d, --dir DIR   the authority's folder (default: $MAYFLY_DIR, else here, else /etc/mayfly)\n"
    "      --log DIR   a log's folder, e.g. a mirror, instead of the authority's\n"
    "      --vkey KEY  the log's verifier key (name+id+key); default: as the issuing\n"
    "                  certificate of the authority binds it\n"
    "      --json      JSON for programs instead of words for people\n"
    "  -h, --help      this text\n"
    "\n"
    "Example:\n"
    "  mayfly log verify --dir ./authority\n"
    "  mayfly log show 3 --dir ./authority\n";

struct log_args {
    struct cli cli;
    const char *dir, *vkey_text;
    struct config *config;
    struct tlog_vkey vkey;
};

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
        rc = len > 0 ? tlog_binding_from_cert(k, der, (size_t)len, e)
                     : err_set(e, ERR_CORRUPT, "issuing", "%s holds no certificate", path);
    OPENSSL_free(der);
    X509_free(cert);
    BIO_free(bio);
    buf_free(&pem);
    return rc;
}

static int log_args_load(struct log_args *a, struct err *e)
{
    if (!a->dir || !a->vkey_text) {
        if (!(a->config = cli_config(&a->cli, e)))
            return -1;
        if (!a->dir)
            a->dir = a->config->log.dir;
    }
    if (a->vkey_text)
        return tlog_vkey_parse(&a->vkey, a->vkey_text, strlen(a->vkey_text), e);
    return vkey_from_issuing(&a->vkey, a->config->ca.dir, e);
}

/* Common options; leaves optind at the first operand. -1 when usage was wrong. */
static int log_args_parse(struct log_args *a, int argc, char **argv, const char *command)
{
    enum { OPT_LOG = 256, OPT_VKEY };
    static const struct option options[] = {{"log", required_argument, NULL, OPT_LOG},
                                            {"vkey", required_argument, NULL, OPT_VKEY},
                                            CLI_COMMON_OPTIONS};
    for (int o; (o = args_getopt(argc, argv, "d:h", options, command)) != -1;) {
        if (o == OPT_LOG)
            a->dir = optarg;
        else if (o == OPT_VKEY)
            a->vkey_text = optarg;
        else if (!cli_common(&a->cli, o, log_help))
            return -1;
    }
    return 0;
}

static void log_args_free(struct log_args *a)
{
    tlog_vkey_free(&a->vkey);
    config_free(a->config);
}

static void b64_root(char dst[64], const struct tlog_hash *h)
{
    struct buf b;
    buf_init(&b, 64);
    buf_b64(&b, h->b, sizeof h->b);
    snprintf(dst, 64, "%s", buf_cstr(&b) ? buf_cstr(&b) : "");
    buf_free(&b);
}

static int log_checkpoint(int argc, char **argv)
{
    struct log_args a = {0};
    struct err e = {0};
    struct buf note;
    struct tlog_checkpoint cp;
    if (log_args_parse(&a, argc, argv, "mayfly log checkpoint") < 0)
        return ARGS_USAGE;
    buf_init(&note, TLOG_NOTE_MAX);
    int rc = log_args_load(&a, &e);
    if (rc == 0) {
        char path[4096];
        snprintf(path, sizeof path, "%s/checkpoint", a.dir);
        rc = file_read(&note, path, TLOG_NOTE_MAX, &e);
    }
    if (rc == 0 && (rc = tlog_checkpoint_open(&cp, note.p, note.len, &a.vkey, &e)) < 0)
        e.code = ERR_CORRUPT;
    if (rc == 0 && a.cli.json) {
        char root[64];
        b64_root(root, &cp.root);
        json_t *doc = json_pack("{s:s,s:I,s:s,s:s%}", "origin", cp.origin, "size", (json_int_t)cp.size,
                                "root", root, "note", note.p, note.len);
        json_dumpf(doc, stdout, JSON_COMPACT);
        putchar('\n');
        json_decref(doc);
    } else if (rc == 0) {
        fwrite(note.p, 1, note.len, stdout);
        printf("\nsignature verified: the log %s has %llu entries\n", cp.origin, (unsigned long long)cp.size);
    }
    int code = rc < 0 ? cli_fail(&a.cli, "mayfly log checkpoint", &e) : ARGS_OK;
    buf_free(&note);
    log_args_free(&a);
    return code;
}

static int log_verify(int argc, char **argv)
{
    struct log_args a = {0};
    struct err e = {0};
    struct tlog_verify_report r = {0};
    if (log_args_parse(&a, argc, argv, "mayfly log verify") < 0)
        return ARGS_USAGE;
    int64_t start = clock_mono_ms();
    char what[] = "verifying";
    int rc = log_args_load(&a, &e);
    if (rc == 0)
        rc = tlog_verify_dir(a.dir, &a.vkey, &r, cli_progress, what, &e);
    double seconds = (double)(clock_mono_ms() - start) / 1000;
    char root[64];
    b64_root(root, &r.checkpoint.root);
    if (rc == 0 && a.cli.json)
        printf("{\"ok\":true,\"size\":%llu,\"entries_checked\":%llu,\"root\":\"%s\",\"seconds\":%.3f}\n",
               (unsigned long long)r.size, (unsigned long long)r.entries_checked, root, seconds);
    else if (rc == 0)
        printf("verified: %llu entries of %s, every hash, tile and the head's signature (%.2f s)\nroot %s\n",
               (unsigned long long)r.entries_checked, r.checkpoint.origin, seconds, root);
    int code = rc < 0 ? cli_fail(&a.cli, "mayfly log verify", &e) : ARGS_OK;
    log_args_free(&a);
    return code;
}

/* --- show ---------------------------------------------------------------------------------------- */

struct shown {
    uint64_t index;
    struct tlog_entry entry;
    struct tlog_ext_info ext;
    struct tlog_cert_fields cert;
    char names[4096]; /* subject alternative names, comma-separated */
};

/* The names in the entry's subjectAltName extension: the URI first. */
static void shown_names(struct shown *s)
{
    struct cur list = cur_of(s->cert.extensions.p, s->cert.extensions.len), ext, names;
    size_t used = 0;
    while (cur_left(&list) && der_enter(&list, DER_SEQUENCE, &ext) == 0) {
        struct bytes oid, value;
        bool critical;
        if (der_get(&ext, DER_OID, &oid) < 0)
            return;
        if (der_peek(&ext, DER_BOOLEAN))
            der_bool(&ext, &critical);
        if (der_get(&ext, DER_OCTET_STRING, &value) < 0)
            return;
        if (!bytes_eq(oid, OID_EXT_SAN, OID_LEN(OID_EXT_SAN)))
            continue;
        struct cur san = cur_of(value.p, value.len);
        if (der_enter(&san, DER_SEQUENCE, &names) < 0)
            return;
        uint8_t tag;
        struct bytes name;
        while (cur_left(&names) && der_any(&names, &tag, &name, NULL) == 0 && used + name.len + 3 < sizeof s->names) {
            if (tag != 0x86 && tag != 0x82)
                continue;
            used += (size_t)snprintf(s->names + used, sizeof s->names - used, "%s%.*s", used ? ", " : "",
                                      (int)name.len, (const char *)name.p);
        }
    }
}

static void show_json(const struct shown *s, const struct tlog_checkpoint *cp)
{
    char evidence[HEX_LEN(32) + 1] = "", session[HEX_LEN(32) + 1] = "", spki[HEX_LEN(32) + 1] = "";
    hex_encode(evidence, s->ext.evidence.p, s->ext.evidence.len > 32 ? 32 : s->ext.evidence.len);
    hex_encode(session, s->ext.session.p, s->ext.session.len > 32 ? 32 : s->ext.session.len);
    if (s->entry.type == TLOG_ENTRY_TBS_CERT)
        hex_encode(spki, s->cert.spki_hash, 32);
    json_t *doc = json_pack(
        "{s:I,s:I,s:s,s:s%,s:s,s:I,s:I,s:s%,s:s,s:s%,s:I,s:s%,s:s}", "index", (json_int_t)s->index, "type",
        (json_int_t)s->entry.type, "names", s->names, "attestor", s->ext.attestor.p ? (const char *)s->ext.attestor.p : "",
        s->ext.attestor.len, "evidence_sha256", evidence, "not_before", (json_int_t)s->cert.not_before, "not_after",
        (json_int_t)s->cert.not_after, "entry_id", s->ext.entry_id.p ? (const char *)s->ext.entry_id.p : "",
        s->ext.entry_id.len, "spki_sha256", spki, "requester", s->ext.requester.p ? (const char *)s->ext.requester.p : "",
        s->ext.requester.len, "entry_revision", (json_int_t)s->ext.entry_revision, "origin", cp->origin,
        strlen(cp->origin), "session_sha256", session);
    json_dumpf(doc, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(doc);
}

static void show_people(const struct shown *s, const struct tlog_checkpoint *cp)
{
    printf("entry %llu of %s, inclusion verified under the head of size %llu\n", (unsigned long long)s->index,
           cp->origin, (unsigned long long)cp->size);
    if (s->entry.type != TLOG_ENTRY_TBS_CERT) {
        printf("  type        %s\n", s->entry.type == TLOG_ENTRY_NULL ? "null entry (every log starts with it)" : "unknown");
        return;
    }
    char from[64], to[64], spki[HEX_LEN(32) + 1];
    cli_when(from, sizeof from, s->cert.not_before);
    cli_when(to, sizeof to, s->cert.not_after);
    hex_encode(spki, s->cert.spki_hash, 32);
    printf("  type        certificate\n  names       %s\n  valid from  %s\n  valid to    %s\n  key SHA-256 %s\n",
           s->names, from, to, spki);
    if (s->ext.attestor.len)
        printf("  attestor    %.*s\n", (int)s->ext.attestor.len, (const char *)s->ext.attestor.p);
    if (s->ext.entry_id.len)
        printf("  entry       %.*s, revision %llu\n", (int)s->ext.entry_id.len, (const char *)s->ext.entry_id.p,
               (unsigned long long)s->ext.entry_revision);
    if (s->ext.requester.len)
        printf("  requester   %.*s\n", (int)s->ext.requester.len, (const char *)s->ext.requester.p);
}

static int show_entry(struct log_args *a, uint64_t index, struct err *e)
{
    struct buf entry, note;
    struct tlog_hash path[TLOG_LEVELS], leaf;
    size_t path_len = 0;
    struct tlog_checkpoint cp;
    struct shown s = {.index = index};
    buf_init(&entry, TLOG_ENTRY_MAX + 1);
    buf_init(&note, TLOG_NOTE_MAX);
    int rc = tlog_read_entry(a->dir, &a->vkey, index, &entry, path, &path_len, &note, e);
    if (rc == 0)
        rc = tlog_checkpoint_open(&cp, note.p, note.len, &a->vkey, e);
    if (rc == 0) {
        merkle_leaf(&leaf, entry.p, entry.len);
        if ((rc = merkle_verify_inclusion(index, cp.size, &leaf, path, path_len, &cp.root, e)) < 0)
            e->code = ERR_CORRUPT;
    }
    if (rc == 0)
        rc = tlog_entry_parse(&s.entry, entry.p, entry.len, e);
    if (rc == 0)
        rc = tlog_entry_extensions(&s.ext, s.entry.extensions, e);
    if (rc == 0 && s.entry.type == TLOG_ENTRY_TBS_CERT && (rc = tlog_entry_cert_fields(&s.cert, s.entry.body, e)) == 0)
        shown_names(&s);
    if (rc == 0)
        (a->cli.json ? show_json : show_people)(&s, &cp);
    buf_free(&entry);
    buf_free(&note);
    return rc;
}

static int log_show(int argc, char **argv)
{
    struct log_args a = {0};
    struct err e = {0};
    long index = 0;
    if (log_args_parse(&a, argc, argv, "mayfly log show") < 0)
        return ARGS_USAGE;
    int rc = optind + 1 == argc ? args_number(argv[optind], 0, (1L << 48) - 1, "INDEX", &index, &e)
                                : err_set(&e, ERR_USAGE, "arguments", "one INDEX is needed, e.g. 'mayfly log show 3'");
    if (rc == 0)
        rc = log_args_load(&a, &e);
    if (rc == 0)
        rc = show_entry(&a, (uint64_t)index, &e);
    int code = rc < 0 ? cli_fail(&a.cli, "mayfly log show", &e) : ARGS_OK;
    log_args_free(&a);
    return code;
}

int cli_log(int argc, char **argv)
{
    static const struct cli_verb verbs[] = {
        {"checkpoint", log_checkpoint}, {"verify", log_verify}, {"show", log_show}};
    return cli_group("mayfly log", group_help, verbs, 3, argc, argv);
}
