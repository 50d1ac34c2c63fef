/* The agent's own identity: what it trusts, what it proves itself with, its keys, and its word on workloads.
 *
 * How it proves itself, first that works: its session's authorization, while that lives (an hour, whatever became of
 * the SVID); its SVID, while that lives; a join token. */
#include "agent/daemon.h"
#include "agent/self_keys.h"
#include "base/clock.h"
#include "base/fileio.h"
#include "base/log.h"
#include <limits.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define OBTAIN_MS 20000
#define SVID_FILE "svid.pem"
#define BUNDLE_FILE "bundle.pem"
#define BUNDLE_DOC_FILE "bundle.json"

static int state_path(const struct self *s, char dst[PATH_MAX], const char *name, struct err *e)
{
    int n = snprintf(dst, PATH_MAX, "%s/%s", s->config->state_dir, name);
    return n > 0 && n < PATH_MAX ? 0 : err_set(e, ERR_CONFIG, "state-dir", "state_dir is too long a path");
}

static int state_write(const struct self *s, const char *name, const void *p, size_t n, struct err *e)
{
    char path[PATH_MAX];
    /* Only with keys in a token does anything depend on it: that it is on the disk is worth waiting for then. */
    return state_path(s, path, name, e) < 0 || file_write_atomic(path, p, n, 0644, s->config->key.pkcs11, e) < 0
               ? err_wrap(e, "state_dir")
               : 0;
}

bool self_alive(const struct self *s)
{
    return s->chain_pem.len > 0 && s->key && clock_wall() < s->not_after;
}

/* --- join tokens -------------------------------------------------------------------------------------------------------- */

static int token_take(struct self *s, const char *text, size_t len, struct err *e)
{
    uint8_t anchor[32];
    secret_free(&s->token);
    if (secret_new(&s->token, 32, e) < 0)
        return -1;
    s->token.len = 32;
    SHA256((const uint8_t *)text, len, s->token_seen);
    if (join_token_parse(text, len, s->token.p, anchor, e) == 0 && agent_trust_pin(&s->trust, anchor, e) == 0)
        return 0;
    secret_free(&s->token);
    return err_wrap(e, "join token");
}

/* The file's token, unless it is the one that was seen before. 1: there is a new one. */
static int token_look(struct self *s, struct err *e)
{
    struct secret text;
    uint8_t hash[32];
    if (!s->config->join_token_file)
        return 0;
    if (secret_read_file(&text, s->config->join_token_file, 1024, e) < 0)
        return e->code == ERR_NOT_FOUND ? 0 : err_wrap(e, "join_token_file");
    while (text.len > 0 && (text.p[text.len - 1] == '\n' || text.p[text.len - 1] == ' ' || text.p[text.len - 1] == '\r'))
        text.len--;
    SHA256(text.p, text.len, hash);
    int rc = memcmp(hash, s->token_seen, 32) == 0 ? 0 : token_take(s, (const char *)text.p, text.len, e) < 0 ? -1 : 1;
    secret_free(&text);
    return rc;
}

/* --- evidence -------------------------------------------------------------------------------------------------------------- */

static int token_evidence(void *arg, const uint8_t digest[32], struct buf *out, struct err *e)
{
    struct self *s = arg;
    return attest_join_token_collect(out, s->token.p, digest, e);
}

static int svid_evidence(void *arg, const uint8_t digest[32], struct buf *out, struct err *e)
{
    struct self *s = arg;
    struct buf der;
    struct bytes chain[CHAIN_CERTS_MAX];
    size_t n;
    buf_init(&der, CHAIN_PEM_MAX);
    int rc = x509_chain_der(&s->chain_pem, &der, chain, &n, e);
    if (rc == 0)
        rc = attest_x509pop_collect(out, chain, n, s->key, digest, e);
    buf_free(&der);
    return rc;
}

static long svid_sign(void *arg, uint8_t *sig, size_t cap, const void *msg, size_t len, struct err *e)
{
    const struct self *s = arg;
    return key_sign(s->key, true, sig, cap, msg, len, e);
}

int self_vouch(void *arg, const uint8_t digest[32], struct buf *out, struct err *e)
{
    const struct self_vouch *v = arg;
    struct self *s = v->self;
    struct buf der;
    struct bytes chain[CHAIN_CERTS_MAX];
    size_t n;
    if (!self_alive(s))
        return err_set(e, ERR_UNAVAILABLE, "agent-svid", "the agent has no living SVID of its own to vouch with");
    buf_init(&der, CHAIN_PEM_MAX);
    int rc = x509_chain_der(&s->chain_pem, &der, chain, &n, e);
    if (rc == 0)
        rc = attest_agent_collect(out, chain, n, svid_sign, s, v->selectors, v->n, digest, e);
    buf_free(&der);
    return rc;
}

/* --- what it holds ------------------------------------------------------------------------------------------------------------ */

int self_cert_id(const struct self *s, char cert_id[CERT_ID_MAX + 1])
{
    STACK_OF(X509) *list;
    struct err ignored;
    cert_id[0] = 0;
    if (x509_from_pem(&list, s->chain_pem.p, s->chain_pem.len, CHAIN_CERTS_MAX, &ignored) < 0)
        return -1;
    int rc = cert_id_write(cert_id, sk_X509_value(list, 0));
    sk_X509_pop_free(list, X509_free);
    return rc;
}

/* Takes over what is in i, if it is an SVID of ours that lives. */
static int adopt(struct self *s, struct acme_identity *i, struct agent_verified *v, struct err *e)
{
    if (agent_verify(v, &s->trust, i, s->config->id, clock_wall(), e) < 0)
        return -1;
    buf_free(&s->chain_pem);
    s->chain_pem = i->chain_pem;
    memset(&i->chain_pem, 0, sizeof i->chain_pem);
    if (s->key != i->key)
        key_free(s->key);
    s->key = i->key;
    i->key = NULL;
    s->not_before = v->not_before;
    s->not_after = v->not_after;
    return 0;
}

/* A chain that was kept. One that does not serve any more is no error: it is as if there were none. */
static void resume(struct self *s, struct key *key, const struct buf *chain_pem)
{
    struct err e;
    struct agent_verified v;
    struct acme_identity i = {.key = key};
    buf_init(&i.chain_pem, CHAIN_PEM_MAX);
    buf_put(&i.chain_pem, chain_pem->p, chain_pem->len);
    bool borrowed = key == s->key;
    if (adopt(s, &i, &v, &e) == 0) {
        log_info("the agent's own SVID was kept", "id", s->config->id, "seconds_left",
                 log_num(s->not_after - clock_wall()), NULL);
    } else {
        log_info("the agent's own SVID that was kept serves no more", "why", e.msg, NULL);
        if (borrowed)
            i.key = NULL;
    }
    acme_identity_free(&i);
}

static void resume_from_state(struct self *s)
{
    char path[PATH_MAX];
    struct buf pem;
    struct err e;
    buf_init(&pem, CHAIN_PEM_MAX);
    if (state_path(s, path, SVID_FILE, &e) == 0 && file_read(&pem, path, CHAIN_PEM_MAX, &e) == 0)
        resume(s, s->key, &pem);
    buf_free(&pem);
}

/* --- beginning -------------------------------------------------------------------------------------------------------------------- */

static int open_trust(struct self *s, struct err *e)
{
    char path[PATH_MAX];
    if (s->config->trust_bundle)
        return agent_trust_from_file(&s->trust, s->config->trust_bundle, e);
    if (state_path(s, path, BUNDLE_FILE, e) < 0)
        return -1;
    if (agent_trust_from_file(&s->trust, path, e) == 0 || e->code == ERR_NOT_FOUND)
        return 0;
    return -1;
}

static int open_state(struct self *s, struct err *e)
{
    char path[PATH_MAX];
    struct err ignored;
    if (file_mkdirs(s->config->state_dir, 0755, e) < 0)
        return err_wrap(e, "state_dir");
    if (access(s->config->state_dir, W_OK) < 0)
        return err_errno(e, "state-dir", "state_dir %s can not be written", s->config->state_dir);
    if (state_path(s, path, BUNDLE_DOC_FILE, e) < 0)
        return -1;
    if (file_read(&s->bundle, path, ANSWER_BIG_MAX, &ignored) < 0)
        buf_reset(&s->bundle);
    return 0;
}

/* The session's key and the SVID's: from the token, from what was kept, or new. known: the session may be authorized. */
static int open_keys(struct self *s, struct kept *kept, bool *known, struct err *e)
{
    struct key *session = NULL;
    *known = false;
    if (s->config->key.pkcs11) {
        if (self_token_open(s, known, e) < 0 || !(session = self_token_key(s, HSM_KEY_AGENT_SESSION, e)) ||
            !(s->key = self_token_key(s, HSM_KEY_AGENT_SVID, e))) {
            key_free(session);
            return -1;
        }
        resume_from_state(s);
    } else if (kept->id && strcmp(kept->id, s->config->id) == 0) {
        struct key *svid = key_from_pkcs8_secret(&kept->svid, e);
        session = svid ? key_from_pkcs8_secret(&kept->session, e) : NULL;
        if (!session) {
            key_free(svid);
            return -1;
        }
        resume(s, svid, &kept->chain_pem);
        *known = true;
    }
    return session ? acme_client_key(s->client, session, e) : 0;
}

static int nothing_to_prove(const struct self *s, struct err *e)
{
    return err_set(e, ERR_UNAUTHORIZED, CUT_OFF_RULE,
                   "the agent has nothing to prove itself with: make a join token (mayfly token create --id %s) and put "
                   "it into %s, or give --token-file",
                   s->config->id, s->config->join_token_file ? s->config->join_token_file : "join_token_file's file");
}

int self_open(struct self *s, const struct agent_config *c, int keep_fd, const char *token, struct err *e)
{
    struct kept kept = {0};
    struct err why;
    bool known = false;
    memset(s, 0, sizeof *s);
    s->config = c;
    s->keep.fd = -1;
    buf_init(&s->bundle, ANSWER_BIG_MAX);
    if (keep_fd >= 0 && keep_read(&s->keep, &kept, keep_fd, &why) < 0)
        log_err(LOG_WARN, "the agent's kept keys are of no use", &why);
    int rc = open_state(s, e) < 0 || open_trust(s, e) < 0 ? -1 : 0;
    if (rc == 0)
        rc = token ? token_take(s, token, strlen(token), e) : token_look(s, e) < 0 ? -1 : 0;
    if (rc == 0 && s->trust.roots_pem.len == 0 && !s->trust.pinned)
        rc = s->config->trust_bundle ? -1 : nothing_to_prove(s, e);
    if (rc == 0 && !(s->client = acme_client_new(c->server, &s->trust, e)))
        rc = -1;
    if (rc == 0)
        rc = open_keys(s, &kept, &known, e);
    if (rc == 0 && known)
        id_set_add(&s->client->authorized, c->id); /* perhaps: if not, evidence follows at once */
    if (rc == 0 && !self_alive(s) && !known && s->token.len == 0)
        rc = nothing_to_prove(s, e);
    kept_free(&kept);
    return rc;
}

void self_close(struct self *s)
{
    acme_client_free(s->client);
    key_free(s->key);
    self_token_close(s);
    buf_free(&s->chain_pem);
    buf_free(&s->bundle);
    secret_free(&s->token);
    agent_trust_free(&s->trust);
    self_crls_free(s);
    keep_close(&s->keep);
}

/* --- renewing ------------------------------------------------------------------------------------------------------------------------ */

static int obtain(struct self *s, const char *replaces, struct acme_identity *got, struct err *e)
{
    struct acme_ask ask = {.spiffe_id = s->config->id,
                           .key = s->config->key.pkcs11 ? s->key : NULL,
                           .replaces = replaces && *replaces ? replaces : NULL,
                           .evidence = self_alive(s) ? svid_evidence : s->token.len ? token_evidence : NULL,
                           .arg = s,
                           .deadline_ms = OBTAIN_MS};
    return acme_obtain_as(s->client, &ask, got, e);
}

/* The session is over for good: revoked, as with the agent itself, or deactivated. */
bool self_session_over(const struct err *e)
{
    return strcmp(e->rule, "session-revoked") == 0 || strcmp(e->rule, "account-deactivated") == 0;
}

/* Another key is another account, and evidence decides anew. A session key in a token stays there, for nobody. */
int self_session_anew(struct self *s, const struct err *why, struct err *e)
{
    if (acme_client_key(s->client, key_generate(KEY_P256, e), e) < 0)
        return -1;
    log_warn("the authority takes the agent's session no more: another begins", "why", why->msg, NULL);
    return 0;
}

/* What it proved itself with was revoked: it proves nothing any more, nor does it after a restart. */
static void drop_svid(struct self *s)
{
    char path[PATH_MAX];
    struct err ignored;
    buf_reset(&s->chain_pem);
    s->not_after = 0;
    if (state_path(s, path, SVID_FILE, &ignored) == 0)
        unlink(path);
}

static bool refused(const struct err *e)
{
    return e->code == ERR_UNAUTHORIZED || e->code == ERR_BAD_EVIDENCE || e->code == ERR_REJECTED_ID;
}

/* Once, and when they change (self_trust). */
static int write_roots(struct self *s, struct err *e)
{
    if (s->roots_written)
        return 0;
    if (state_write(s, BUNDLE_FILE, s->trust.roots_pem.p, s->trust.roots_pem.len, e) < 0)
        return -1;
    s->roots_written = true;
    return 0;
}

/* The cause first: an ID that is not registered is not mended by a token. Of a later attempt, with nothing to show, the
 * first refusal still is the cause. */
static int want_token(struct self *s, struct err *e)
{
    if (!*s->refusal || strcmp(e->rule, "evidence-none") != 0) {
        size_t len = strlen(e->msg), most = sizeof s->refusal - 1;
        snprintf(s->refusal, sizeof s->refusal, "%.*s%s", (int)(len > most ? most - 3 : len), e->msg, len > most ? "..." : "");
    }
    return err_set(e, ERR_UNAUTHORIZED, CUT_OFF_RULE,
                   "%s. The agent has nothing left to prove itself with: make a join token (mayfly token create "
                   "--id %.80s) and put it into join_token_file, which is read again when it changes",
                   s->refusal, s->config->id);
}

static int obtain_anew(struct self *s, const char *replaces, struct acme_identity *got, struct err *e)
{
    struct err ignored;
    int rc = obtain(s, replaces, got, e);
    if (rc < 0 && self_session_over(e) && self_session_anew(s, e, &ignored) == 0)
        rc = obtain(s, replaces, got, e);
    if (rc == 0 || strcmp(e->rule, "svid-revoked") != 0 || !self_alive(s))
        return rc;
    drop_svid(s);
    return token_look(s, &ignored) == 1 || s->token.len ? obtain(s, NULL, got, e) : -1;
}

int self_renew(struct self *s, const char *replaces, struct agent_verified *v, char cert_id[CERT_ID_MAX + 1],
               struct err *e)
{
    struct acme_identity got = {0};
    struct err ignored;
    if (!self_alive(s))
        token_look(s, &ignored);
    int rc = obtain_anew(s, replaces, &got, e);
    s->doubted = false;
    if (rc < 0) {
        if (refused(e) && !self_alive(s)) {
            secret_free(&s->token); /* spent, or of no use */
            want_token(s, e);
        }
        return -1;
    }
    struct key *in_token = s->config->key.pkcs11 ? s->key : NULL;
    if (in_token)
        got.key = in_token;
    rc = adopt(s, &got, v, e);
    if (rc < 0 && in_token)
        got.key = NULL;
    acme_identity_free(&got);
    if (rc < 0)
        return -1;
    secret_free(&s->token);
    *s->refusal = 0;
    self_cert_id(s, cert_id);
    if (state_write(s, SVID_FILE, s->chain_pem.p, s->chain_pem.len, &ignored) < 0 || write_roots(s, &ignored) < 0 ||
        self_keep(s, &ignored) < 0)
        log_err(LOG_WARN, "a restart may need a token", &ignored);
    return 0;
}

int self_keep(struct self *s, struct err *e)
{
    struct kept k = {0};
    struct keep fresh;
    if (s->config->key.pkcs11 || !s->key)
        return 0;
    k.id = s->config->id;
    k.chain_pem = s->chain_pem;
    int rc = key_to_pkcs8_secret(s->key, &k.svid, e);
    if (rc == 0)
        rc = key_to_pkcs8_secret(s->client->key, &k.session, e);
    if (rc == 0)
        rc = keep_write(&fresh, &k, e);
    if (rc == 0) {
        keep_close(&s->keep);
        s->keep = fresh;
        notify_keep(s->keep.fd);
    }
    secret_free(&k.svid);
    secret_free(&k.session);
    return rc;
}

int self_trust(struct self *s, const struct bundle_doc *doc, struct bytes text, struct err *e)
{
    if (bytes_eq((struct bytes){s->bundle.p, s->bundle.len}, text.p, text.len))
        return 0;
    bool roots = !bytes_eq((struct bytes){s->trust.roots_pem.p, s->trust.roots_pem.len}, doc->roots_pem.p,
                           doc->roots_pem.len);
    if (roots) {
        buf_reset(&s->trust.roots_pem);
        buf_put(&s->trust.roots_pem, doc->roots_pem.p, doc->roots_pem.len);
        log_info("the authority's roots changed; they came over a connection that was verified", NULL);
    }
    buf_reset(&s->bundle);
    buf_put(&s->bundle, text.p, text.len);
    if (s->trust.roots_pem.failed || s->bundle.failed)
        return err_set(e, ERR_INTERNAL, "memory", "out of memory for the bundle");
    if (roots && state_write(s, BUNDLE_FILE, s->trust.roots_pem.p, s->trust.roots_pem.len, e) < 0)
        return -1;
    return state_write(s, BUNDLE_DOC_FILE, text.p, text.len, e);
}
