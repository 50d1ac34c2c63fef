/* The key ceremony, step by step. Certificates are written last, root.pem at the very end: with it
 * the authority is whole, without it nothing ever trusted what is there. So a ceremony that was cut
 * short is gone on with: keys and log are used as they are, and its CA entries in the log stay
 * behind, harmless, as entries that no certificate stands for. Two moments are left to a person,
 * since they look like a loss: a log without its head (cut short while it was made), and a bundle or
 * an issuing certificate without root.pem. Both are refused, saying what to remove. */
#include "ca/authority.h"
#include "base/clock.h"
#include "base/fileio.h"
#include "ca/bundle.h"
#include "ca/cacert.h"
#include "hsm/hsm.h"
#include "tlog/log.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ALL_KEYS ((1u << HSM_AUTHORITY_KEYS) - 1)
/* A log with more entries than a few ceremonies leave has served. */
#define CEREMONY_ENTRIES_MAX 20

struct ceremony {
    const struct authority_options *o;
    const struct config *config;
    struct hsm *hsm;
    struct tlog *log;
    struct tlog_vkey vkey;
    struct buf vkey_text;
    struct cacert root, issuing;
};

static void step(const struct ceremony *c, const char *what)
{
    if (c->o->step)
        c->o->step(c->o->arg, what);
}

static int path_of(char dst[4096], const char *dir, const char *file, struct err *e)
{
    int n = snprintf(dst, 4096, "%s/%s", dir, file);
    return n > 0 && n < 4096 ? 0 : err_set(e, ERR_CONFIG, "path", "the path of %s is too long", file);
}

static const char *const files[] = {"bundle.json", "issuing.pem", "root.pem"};

static int refuse_existing(const struct ceremony *c, struct err *e)
{
    char path[4096];
    for (size_t i = sizeof files / sizeof *files; i > 0; i--) {
        if (path_of(path, c->config->ca.dir, files[i - 1], e) < 0)
            return -1;
        if (access(path, F_OK) < 0 && errno == ENOENT)
            continue;
        if (i == sizeof files / sizeof *files)
            return err_set(e, ERR_EXISTS, "authority-exists",
                           "%s is there: this authority is made already, and is never overwritten. "
                           "Start mayflyd, or choose another folder",
                           path);
        return err_set(e, ERR_EXISTS, "authority-exists",
                       "%s is there, root.pem is not. If root.pem was lost, restore it; if an "
                       "earlier init was cut short, remove %s and run init again",
                       path, path);
    }
    return 0;
}

/* --- keys ------------------------------------------------------------------------------------------ */

static int generate_missing(struct ceremony *c, struct err *e)
{
    char missing[128] = "";
    bool have[HSM_AUTHORITY_KEYS];
    for (int i = 0; i < HSM_AUTHORITY_KEYS; i++) {
        have[i] = hsm_has_key(c->hsm, (enum hsm_key_role)i);
        if (!have[i])
            snprintf(missing + strlen(missing), sizeof missing - strlen(missing), "%s%s",
                     *missing ? ", " : "", hsm_key_label[i]);
    }
    if (!*missing) {
        step(c, "keys: all are in the token already");
        return 0;
    }
    if (c->o->confirm && !c->o->confirm(c->o->arg, hsm_token_name(c->hsm), missing))
        return err_set(e, ERR_USAGE, "authority-declined",
                       "nothing was generated: token %s lacks %s, and the answer was no",
                       hsm_token_name(c->hsm), missing);
    for (int i = 0; i < HSM_AUTHORITY_KEYS; i++) {
        char what[128];
        if (have[i])
            continue;
        snprintf(what, sizeof what, "key %s: generating in the token", hsm_key_label[i]);
        step(c, what);
        if (hsm_generate(c->hsm, (enum hsm_key_role)i, e) < 0)
            return -1;
    }
    return 0;
}

static int open_token(struct ceremony *c, struct err *e)
{
    const struct hsm_options h = {.uri = c->config->token.uri,
                                  .module = c->config->token.module,
                                  .pin = c->o->pin,
                                  .sessions = 2,
                                  .call_timeout_ms = c->config->token.call_timeout_ms};
    if (c->config->token.softhsm_conf &&
        setenv("SOFTHSM2_CONF", c->config->token.softhsm_conf, 1) < 0)
        return err_errno(e, "hsm-conf", "cannot set SOFTHSM2_CONF");
    if (hsm_open(&c->hsm, &h, e) < 0 || generate_missing(c, e) < 0 ||
        hsm_load_keys(c->hsm, ALL_KEYS, e) < 0)
        return -1;
    buf_init(&c->vkey_text, 1024);
    struct bytes pub = hsm_public(c->hsm, HSM_KEY_LOG);
    if (pub.len != 32)
        return err_set(e, ERR_HSM, "hsm-key", "the log's public key has %zu bytes, not 32", pub.len);
    if (tlog_vkey_make(&c->vkey, c->config->log.origin, pub.p, e) < 0)
        return -1;
    tlog_vkey_write(&c->vkey, &c->vkey_text);
    return 0;
}

/* --- log ------------------------------------------------------------------------------------------- */

static int sign_head(void *arg, const uint8_t *msg, size_t len, uint8_t sig[64], struct err *e)
{
    struct ceremony *c = arg;
    size_t n = 64;
    if (hsm_sign(c->hsm, HSM_KEY_LOG, msg, len, sig, &n, e) < 0)
        return -1;
    return n == 64 ? 0 : err_set(e, ERR_HSM, "hsm-signature", "the log signature has %zu bytes", n);
}

static int open_log(struct ceremony *c, struct err *e)
{
    char head[4096];
    const struct tlog_options o = {.dir = c->config->log.dir,
                                   .vkey = &c->vkey,
                                   .sign = sign_head,
                                   .sign_arg = c,
                                   .full_check = true};
    if (path_of(head, o.dir, "head", e) < 0)
        return -1;
    if (access(head, F_OK) < 0 && errno == ENOENT) {
        step(c, "log: its first entry and checkpoint");
        if (tlog_create(&o, e) < 0)
            return e->code == ERR_EXISTS
                       ? err_wrap(e, "this folder holds part of a log (%s has no head); if an "
                                     "earlier init was cut short, empty it and run init again",
                                  o.dir)
                       : -1;
    } else {
        step(c, "log: going on with the one of an earlier init");
    }
    if (tlog_open(&c->log, &o, e) < 0)
        return -1;
    struct tlog_status s;
    tlog_status(c->log, &s);
    if (s.size > CEREMONY_ENTRIES_MAX)
        return err_set(e, ERR_EXISTS, "authority-log",
                       "the log in %s has %llu entries: an authority served with it. Restore its "
                       "certificates to %s, or choose another folder",
                       o.dir, (unsigned long long)s.size, c->config->ca.dir);
    return 0;
}

/* --- certificates ---------------------------------------------------------------------------------- */

/* Logged, then signed. The entry has no extensions, so that the certificate alone rebuilds it. */
static int log_draft(struct ceremony *c, const struct cacert_draft *d, uint64_t *index, struct err *e)
{
    uint8_t array[CACERT_MAX];
    struct buf entry;
    const struct tlog_entry t = {.type = TLOG_ENTRY_TBS_CERT,
                                 .extensions = {NULL, 0},
                                 .body = tbs_log_body(array, sizeof array, &d->parts)};
    buf_init(&entry, TLOG_ENTRY_MAX);
    tlog_entry_write(&t, &entry);
    int r = -1;
    if (entry.failed || t.body.len == 0)
        err_set(e, ERR_INTERNAL, "ca-cert", "the log entry of a CA certificate does not fit");
    else
        r = tlog_append(c->log, &(struct bytes){entry.p, entry.len}, 1, index, e);
    buf_free(&entry);
    return r;
}

static int make_cert(struct ceremony *c, struct cacert *out, const struct cacert_want *want,
                     struct err *e)
{
    const char *what = want->root ? "root" : "issuing";
    uint8_t tbs_array[CACERT_MAX], array[CACERT_MAX], hash[48], rs[96], der[112];
    struct cacert_draft d;
    uint64_t index;
    size_t rs_len = sizeof rs;
    if (cacert_draft(&d, want, e) < 0 || log_draft(c, &d, &index, e) < 0)
        return err_wrap(e, "%s certificate", what);
    struct bytes tbs = tbs_build(tbs_array, sizeof tbs_array, &d.parts,
                                 TBS_SERIAL(c->config->log.number, index), (struct bytes){NULL, 0});
    if (tbs.len == 0 || EVP_Q_digest(NULL, "SHA384", NULL, tbs.p, tbs.len, hash, NULL) != 1)
        return err_set(e, ERR_INTERNAL, "ca-cert", "the %s certificate cannot be built", what);
    if (hsm_sign(c->hsm, HSM_KEY_ROOT, hash, sizeof hash, rs, &rs_len, e) < 0)
        return err_wrap(e, "%s certificate", what);
    long n = rs_len == sizeof rs ? der_ecdsa_from_rs(der, sizeof der, rs, 48) : -1;
    if (n < 0)
        return err_set(e, ERR_HSM, "hsm-signature", "the root's signature has %zu bytes", rs_len);
    struct bytes cert = tbs_certificate(array, sizeof array, tbs, d.parts.signature_algorithm,
                                        (struct bytes){der, (size_t)n});
    if (cacert_parse(out, cert.p, cert.len, what, e) < 0)
        return -1;
    return cacert_verify(out, want->root ? out : want->issuer, what, e);
}

static int make_certs(struct ceremony *c, struct err *e)
{
    struct cacert_want want = {.trust_domain = c->config->trust_domain,
                               .root = true,
                               .spki = hsm_spki(c->hsm, HSM_KEY_ROOT),
                               .vkey = {c->vkey_text.p, c->vkey_text.len},
                               .now = clock_wall()};
    step(c, "root certificate: logged, then signed");
    if (make_cert(c, &c->root, &want, e) < 0)
        return -1;
    want.root = false;
    want.spki = hsm_spki(c->hsm, HSM_KEY_ISSUING);
    want.issuer = &c->root;
    step(c, "issuing certificate: logged, then signed");
    return make_cert(c, &c->issuing, &want, e);
}

static int write_file(struct ceremony *c, const char *file, const struct buf *b, struct err *e)
{
    char path[4096];
    if (b->failed)
        return err_set(e, ERR_INTERNAL, "memory", "out of memory for %s", file);
    if (path_of(path, c->config->ca.dir, file, e) < 0)
        return -1;
    return file_write_atomic(path, b->p, b->len, 0644, true, e);
}

static int write_files(struct ceremony *c, struct err *e)
{
    const struct bytes root = {c->root.der, c->root.len}, issuing = {c->issuing.der, c->issuing.len};
    struct buf b;
    step(c, "certificates and bundle: written");
    if (file_mkdirs(c->config->ca.dir, 0755, e) < 0)
        return -1;
    buf_init(&b, 65536);
    int r = bundle_write(&b, &(struct bundle){.root = root, .root_from = c->root.not_before,
                                              .vkey = {c->vkey_text.p, c->vkey_text.len},
                                              .jwt_key = hsm_spki(c->hsm, HSM_KEY_JWT)}, e);
    if (r == 0)
        r = write_file(c, files[0], &b, e);
    buf_reset(&b);
    cacert_pem(&b, issuing);
    if (r == 0)
        r = write_file(c, files[1], &b, e);
    buf_reset(&b);
    cacert_pem(&b, root);
    if (r == 0)
        r = write_file(c, files[2], &b, e);
    buf_free(&b);
    return r;
}

int authority_create(const struct authority_options *o, struct err *e)
{
    struct ceremony *c = calloc(1, sizeof *c);
    if (!c)
        return err_set(e, ERR_INTERNAL, "memory", "out of memory for the ceremony");
    c->o = o;
    c->config = o->config;
    int r = refuse_existing(c, e);
    if (r == 0 && (open_token(c, e) < 0 || open_log(c, e) < 0 || make_certs(c, e) < 0))
        r = -1;
    tlog_close(c->log); /* publishes: before the certificates that it must prove are there */
    if (r == 0)
        r = write_files(c, e);
    buf_free(&c->vkey_text);
    tlog_vkey_free(&c->vkey);
    hsm_close(c->hsm);
    free(c);
    return r;
}
