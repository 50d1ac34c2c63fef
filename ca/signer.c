/* The signer process, from the first line to the last: what it opens, in which order, and where it
 * confines itself. The corridor is in issue.c. */
#include "ca/signer.h"
#include "base/clock.h"
#include "base/jose.h"
#include "base/log.h"
#include "base/sandbox.h"
#include "ca/cacert.h"
#include "ca/issue.h"
#include "hsm/hsm.h"
#include "tlog/log.h"
#include "tlog/proof.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#define PIN_MAX 256
#define PROGRESS_MS 5000

_Static_assert(CONFIG_TOKEN_THREADS_MAX + 1 <= HSM_SESSIONS_MAX, "every configuration can be served");

struct signer {
    const struct signer_options *o;
    const struct config *config;
    struct secret pin;
    struct hsm *hsm;
    struct tlog *log;
    struct tlog_vkey vkey;
    struct buf vkey_text;
    char jwt_kid[44];        /* "": no JWT-SVIDs, */
    char jwt_off[480];       /* and why */
    struct cacert root, issuing;
    struct witnesses witnesses;
    struct quorum *quorum;
    int published_fd; /* the log's word to the quorum */
    int stop_fd;
    int64_t progress_at;
};

/* --- the PIN ------------------------------------------------------------------------------------------ */

static int read_credential(const char *name, struct secret *pin, struct err *e)
{
    char path[4096];
    const char *dir = getenv("CREDENTIALS_DIRECTORY");
    if (!dir || !*dir)
        return err_set(e, ERR_CONFIG, "pin-credential",
                       "token.pin names credential %s, but systemd gave none: add "
                       "LoadCredentialEncrypted=%s:… to the unit",
                       name, name);
    if (strchr(name, '/') || strcmp(name, "..") == 0 ||
        snprintf(path, sizeof path, "%s/%s", dir, name) >= (int)sizeof path)
        return err_set(e, ERR_CONFIG, "pin-credential", "\"%s\" is no credential's name", name);
    return secret_read_file(pin, path, PIN_MAX, e);
}

int signer_read_pin(const struct config *c, struct secret *pin, struct err *e)
{
    if (c->token.pin_file)
        return secret_read_file(pin, c->token.pin_file, PIN_MAX, e);
    if (c->token.pin_credential)
        return read_credential(c->token.pin_credential, pin, e);
    if (c->token.pin_fd >= 0)
        return secret_read_fd(pin, c->token.pin_fd, PIN_MAX, e);
    return err_set(e, ERR_CONFIG, "pin", "token.pin names no file, credential or descriptor");
}

/* A process that was started again finds the descriptor where the one before left it; and with what
 * cannot be read again no restart would do. The parent keeps its own for the next start, so here it
 * is closed behind the one reading. */
static int read_own_pin(struct signer *s, struct err *e)
{
    int fd = s->config->token.pin_fd;
    if (fd >= 0 && lseek(fd, 0, SEEK_SET) < 0)
        return err_set(e, ERR_CONFIG, "pin-fd",
                       "token.pin: descriptor %d cannot be read twice (%s), as a restart of the signer "
                       "must: pass a regular file or a memfd",
                       fd, strerror(errno));
    int r = signer_read_pin(s->config, &s->pin, e);
    if (fd >= 0)
        close(fd);
    return r;
}

/* --- confinement ---------------------------------------------------------------------------------------- */

/* The folder of SoftHSM2's objects: "directories.tokendir = PATH" in its configuration. */
static int softhsm_tokens(const char *conf, char dst[4096], struct err *e)
{
    char line[4096];
    FILE *f = fopen(conf, "re");
    if (!f)
        return err_errno(e, "hsm-conf", "cannot read %s", conf);
    *dst = 0;
    while (fgets(line, sizeof line, f)) {
        char value[4096];
        if (sscanf(line, " directories.tokendir = %4095[^\n]", value) == 1) {
            value[strcspn(value, "#")] = 0;
            for (size_t n = strlen(value); n > 0 && strchr(" \t\r/", value[n - 1]); n--)
                value[n - 1] = 0;
            snprintf(dst, 4096, "%s", value);
        }
    }
    fclose(f);
    if (!*dst)
        return err_set(e, ERR_CONFIG, "hsm-conf", "%s names no directories.tokendir", conf);
    return 0;
}

/* The folder that holds the PKCS#11 module. */
static void module_folder(const struct config *c, char dst[4096])
{
    snprintf(dst, 4096, "%s", c->token.module);
    char *slash = strrchr(dst, '/');
    if (slash && slash != dst)
        *slash = 0;
}

/* Everything is optional here: what is missing is told better by the room that opens it. */
static int confine(const struct config *c, struct err *e)
{
    char tokens[4096] = "/var/lib/softhsm", module[4096];
    const char *conf = c->token.softhsm_conf;
    if (conf && softhsm_tokens(conf, tokens, e) < 0)
        return -1;
    const char *open_by = conf ? config_frontend_reads(c, tokens) : NULL;
    if (open_by)
        return err_set(e, ERR_CONFIG, "config-reach",
                       "the token's folder %s (from %s) lies where the frontend may read, by %s: keep them apart",
                       tokens, conf, open_by);
    module_folder(c, module);
    struct sandbox_path paths[SANDBOX_PATHS_MAX] = {
        {c->log.dir, true, true},    {c->ca.dir, false, true},
        {tokens, true, true},        {conf ? conf : "/etc/softhsm", false, true},
        {module, false, true},       {"/usr", false, true},
        {"/lib", false, true},       {"/lib64", false, true},
        {"/opt", false, true},       {"/etc", false, true},
        {"/dev/urandom", false, true}, {"/dev/random", false, true},
        {"/dev/null", true, true},   {"/proc/self", false, true},
        {"/run/pcscd", true, true}, /* smart cards and USB tokens */
    };
    return sandbox_enter(SANDBOX_SIGNER, paths, sandbox_add(paths, c->log.archive), e);
}

/* Signals are blocked before the first thread is made, so that all inherit it; SIGTERM is read
 * from a descriptor beside the requests. There is nothing to reload: the parent starts us anew. */
static int take_signals(struct signer *s, struct err *e)
{
    sigset_t stop;
    sigemptyset(&stop);
    sigaddset(&stop, SIGTERM);
    sigaddset(&stop, SIGINT);
    signal(SIGHUP, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    if (sigprocmask(SIG_BLOCK, &stop, NULL) < 0)
        return err_errno(e, "signals", "cannot block signals");
    s->stop_fd = signalfd(-1, &stop, SFD_CLOEXEC);
    return s->stop_fd < 0 ? err_errno(e, "signals", "cannot make a signalfd") : 0;
}

static int become(const struct signer_options *o, struct err *e)
{
    if (o->uid == (uid_t)-1)
        return 0;
    pid_t parent = getppid();
    if (sandbox_drop(o->uid, o->gid, e) < 0)
        return -1;
    prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0); /* a change of user clears it */
    return getppid() == parent ? 0 : err_set(e, ERR_UNAVAILABLE, "parent-gone", "the parent died");
}

/* Best kept is a PIN that only the first user can read: then the second, who meets the requests,
 * cannot read it again. One that belongs to the second is read as the second. */
static bool pin_is_own(const struct signer_options *o)
{
    struct stat st;
    const char *file = o->config->token.pin_file;
    return file && o->uid != (uid_t)-1 && stat(file, &st) == 0 && st.st_uid == o->uid;
}

/* Reads the PIN, becomes the signer's user, and closes the door behind. */
static int enter(struct signer *s, struct err *e)
{
    bool own = pin_is_own(s->o);
    if (take_signals(s, e) < 0 || (own && become(s->o, e) < 0) ||
        read_own_pin(s, e) < 0 || (!own && become(s->o, e) < 0))
        return -1;
    /* Landlock holds for threads made from here on: before the module and the log make theirs. */
    return confine(s->config, e);
}

/* --- token, certificates, log ------------------------------------------------------------------------------ */

/* An authority that is older than JWT-SVIDs has no key for them in its token. It is made here and not by hand,
 * since nothing rests on it yet: nobody trusts it before the bundle and the log name it. A token that makes
 * none goes on without. One that holds a bad key is refused, as with the other keys. */
static int open_jwt_key(struct signer *s, struct err *e)
{
    struct err why = {0};
    if (!hsm_has_key(s->hsm, HSM_KEY_JWT)) {
        if (hsm_generate(s->hsm, HSM_KEY_JWT, &why) < 0) {
            if (strcmp(why.rule, "hsm-lost") == 0) {
                *e = why;
                return -1;
            }
            snprintf(s->jwt_off, sizeof s->jwt_off, "%.400s", why.msg);
            log_err(LOG_WARN, "JWT-SVIDs are off: the token has no key for them, and makes none", &why);
            return 0;
        }
        log_warn("the token had no key for JWT-SVIDs: one was generated in it", "key", hsm_key_label[HSM_KEY_JWT], "token",
                 hsm_token_name(s->hsm), NULL);
    }
    if (hsm_load_keys(s->hsm, 1u << HSM_KEY_JWT, e) < 0)
        return -1;
    struct bytes spki = hsm_spki(s->hsm, HSM_KEY_JWT);
    struct key *k = key_from_spki(spki.p, spki.len, e);
    int r = k ? jwk_thumbprint(s->jwt_kid, k, e) : -1;
    key_free(k);
    return r;
}

static int open_token(struct signer *s, struct err *e)
{
    const struct config *c = s->config;
    const struct hsm_options h = {.uri = c->token.uri,
                                  .module = c->token.module,
                                  .pin = &s->pin,
                                  .sessions = c->token.threads + 1, /* and one for the log's head */
                                  .call_timeout_ms = c->token.call_timeout_ms};
    if (c->token.softhsm_conf && setenv("SOFTHSM2_CONF", c->token.softhsm_conf, 1) < 0)
        return err_errno(e, "hsm-conf", "cannot set SOFTHSM2_CONF");
    int r = hsm_open(&s->hsm, &h, e);
    secret_free(&s->pin);
    if (r < 0 || hsm_load_keys(s->hsm, 1u << HSM_KEY_ISSUING | 1u << HSM_KEY_LOG, e) < 0 ||
        open_jwt_key(s, e) < 0)
        return -1;
    struct bytes pub = hsm_public(s->hsm, HSM_KEY_LOG);
    if (pub.len != 32)
        return err_set(e, ERR_HSM, "hsm-key", "the log's public key has %zu bytes, not 32", pub.len);
    if (tlog_vkey_make(&s->vkey, c->log.origin, pub.p, e) < 0)
        return -1;
    tlog_vkey_write(&s->vkey, &s->vkey_text);
    return 0;
}

static int load_certs(struct signer *s, struct err *e)
{
    const char *dir = s->config->ca.dir;
    if (cacert_load(&s->root, dir, "root.pem", e) < 0 ||
        cacert_load(&s->issuing, dir, "issuing.pem", e) < 0 ||
        cacert_verify(&s->root, &s->root, "root", e) < 0 ||
        cacert_verify(&s->issuing, &s->root, "issuing", e) < 0)
        return -1;
    struct bytes spki = hsm_spki(s->hsm, HSM_KEY_ISSUING);
    if (!bytes_eq(s->issuing.spki, spki.p, spki.len))
        return err_set(e, ERR_CONFIG, "ca-key",
                       "issuing.pem in %s is not for the key %s in token %s: the wrong token, or the "
                       "wrong folder",
                       dir, hsm_key_label[HSM_KEY_ISSUING], hsm_token_name(s->hsm));
    struct tlog_vkey bound;
    if (tlog_binding_from_cert(&bound, s->issuing.der, s->issuing.len, e) < 0)
        return -1;
    bool same = strcmp(bound.name, s->vkey.name) == 0 && memcmp(bound.pub, s->vkey.pub, 32) == 0;
    tlog_vkey_free(&bound);
    if (!same)
        return err_set(e, ERR_CONFIG, "log-binding",
                       "issuing.pem binds this authority to another log than %s with the key %s in "
                       "the token: check log.origin and token.uri",
                       s->vkey.name, hsm_key_label[HSM_KEY_LOG]);
    /* Serial numbers would name entries of a log that is not this one. */
    if (s->issuing.serial >> 48 != s->config->log.number)
        return err_set(e, ERR_CONFIG, "log-number",
                       "log.number is %u, but issuing.pem was made with %u: it never changes after init",
                       s->config->log.number, (unsigned)(s->issuing.serial >> 48));
    return 0;
}

static int sign_head(void *arg, const uint8_t *msg, size_t len, uint8_t sig[64], struct err *e)
{
    struct signer *s = arg;
    size_t n = 64;
    if (hsm_sign(s->hsm, HSM_KEY_LOG, msg, len, sig, &n, e) < 0)
        return -1;
    return n == 64 ? 0 : err_set(e, ERR_HSM, "hsm-signature", "the log signature has %zu bytes", n);
}

static void progress(void *arg, uint64_t done, uint64_t total)
{
    struct signer *s = arg;
    int64_t now = clock_mono_ms();
    if (now - s->progress_at < PROGRESS_MS)
        return;
    s->progress_at = now;
    log_info("checking the whole log", "done", log_num((long long)done), "of",
             log_num((long long)total), NULL);
}

static int open_log(struct signer *s, struct err *e)
{
    const struct tlog_options o = {.dir = s->config->log.dir,
                                   .archive = s->config->log.archive,
                                   .vkey = &s->vkey,
                                   .published_fd = s->published_fd,
                                   .sign = sign_head,
                                   .sign_arg = s,
                                   .full_check = s->o->first_start,
                                   .progress = progress,
                                   .progress_arg = s};
    s->progress_at = clock_mono_ms();
    return tlog_open(&s->log, &o, e);
}

static int open_quorum(struct signer *s, struct err *e)
{
    const struct quorum_options o = {.witnesses = &s->witnesses,
                                     .log = s->log,
                                     .needed = s->config->witnesses.quorum,
                                     .timeout_ms = s->config->witnesses.timeout_ms};
    if (!(s->quorum = quorum_new(&o, e)))
        return -1;
    return s->o->notary_fd > 0 ? quorum_listen(s->quorum, s->o->notary_fd, s->published_fd, s->o->notary_uid, e) : 0;
}

static void say_ready(const struct signer *s)
{
    char when[21];
    struct tlog_status status;
    tlog_status(s->log, &status);
    clock_rfc3339(when, s->issuing.not_after);
    log_info("signer ready", "token", hsm_token_name(s->hsm), "log", s->config->log.origin,
             "log_size", log_num((long long)status.size), "issuing_until", when, "threads",
             log_num(s->config->token.threads), NULL);
}

static int serve(struct signer *s, struct err *e)
{
    const struct issue_options o = {.config = s->config,
                                    .hsm = s->hsm,
                                    .log = s->log,
                                    .root = &s->root,
                                    .issuing = &s->issuing,
                                    .quorum = s->quorum,
                                    .vkey = {s->vkey_text.p, s->vkey_text.len},
                                    .jwt_kid = s->jwt_kid,
                                    .jwt_off = s->jwt_off,
                                    .listen_fd = s->o->listen_fd,
                                    .stop_fd = s->stop_fd,
                                    .peer_uid = s->o->peer_uid,
                                    .accept_clock_back = s->o->accept_clock_back};
    say_ready(s);
    if (s->o->ready_fd > 0)
        eventfd_write(s->o->ready_fd, 1);
    return issue_run(&o, e);
}

int signer_run(const struct signer_options *o, struct err *e)
{
    struct signer *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(e, ERR_INTERNAL, "memory", "out of memory for the signer");
    s->o = o;
    s->config = o->config;
    s->stop_fd = -1;
    buf_init(&s->vkey_text, 1024);
    s->published_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int r = s->published_fd < 0 ? err_errno(e, "signer-wake", "cannot make an eventfd") : 0;
    if (r == 0 && (witnesses_load(&s->witnesses, s->config, e) < 0 || enter(s, e) < 0))
        r = -1;
    if (r == 0 && (open_token(s, e) < 0 || load_certs(s, e) < 0 || open_log(s, e) < 0 || open_quorum(s, e) < 0))
        r = -1;
    bool served = r == 0;
    if (served)
        r = serve(s, e);
    secret_free(&s->pin);
    if (served && r < 0)
        return -1; /* token or log may be in any state: the process ends, and start-up recovers */
    quorum_free(s->quorum);
    tlog_close(s->log);
    hsm_close(s->hsm);
    witnesses_free(&s->witnesses);
    tlog_vkey_free(&s->vkey);
    buf_free(&s->vkey_text);
    if (s->stop_fd >= 0)
        close(s->stop_fd);
    if (s->published_fd >= 0)
        close(s->published_fd);
    free(s);
    return r;
}
