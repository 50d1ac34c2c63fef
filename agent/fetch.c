/* One shot, as numbered steps: trust, evidence, order, verification, files, CRLs. Nothing is written
 * unless everything before it was good. */
#include "agent/output.h"
#include "agent/wire.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/secmem.h"
#include "base/svid.h"
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define CRLS_MS 10000

struct fetch { /* of one run */
    const struct agent_fetch *want;
    struct agent_trust trust;
    struct secret token;          /* 32 bytes; empty when x509pop */
    struct acme_identity present; /* x509pop: what out_dir holds */
    int64_t deadline;             /* clock_mono_ms */
};

/* --- evidence ------------------------------------------------------------------------------------ */

static int token_evidence(void *arg, const uint8_t digest[32], struct buf *out, struct err *e)
{
    struct fetch *f = arg;
    return attest_join_token_collect(out, f->token.p, digest, e);
}

static int svid_evidence(void *arg, const uint8_t digest[32], struct buf *out, struct err *e)
{
    struct fetch *f = arg;
    struct buf der;
    struct bytes chain[CHAIN_CERTS_MAX];
    size_t n;
    buf_init(&der, CHAIN_PEM_MAX);
    int rc = x509_chain_der(&f->present.chain_pem, &der, chain, &n, e);
    if (rc == 0)
        rc = attest_x509pop_collect(out, chain, n, f->present.key, digest, e);
    buf_free(&der);
    return rc;
}

/* --- step 1: whom to trust, what to prove with, where to put it ---------------------------------- */

static int start_with_token(struct fetch *f, struct err *e)
{
    uint8_t anchor[32];
    if (secret_new(&f->token, 32, e) < 0)
        return -1;
    f->token.len = 32;
    if (join_token_parse(f->want->token, strlen(f->want->token), f->token.p, anchor, e) < 0)
        return -1;
    if (f->want->trust_bundle && agent_trust_from_file(&f->trust, f->want->trust_bundle, e) < 0)
        return -1;
    return agent_trust_pin(&f->trust, anchor, e);
}

static int64_t chain_not_after(const struct buf *pem)
{
    STACK_OF(X509) * list;
    struct err ignored;
    if (x509_from_pem(&list, pem->p, pem->len, CHAIN_CERTS_MAX, &ignored) < 0)
        return -1;
    int64_t t = x509_time(X509_get0_notAfter(sk_X509_value(list, 0)));
    sk_X509_pop_free(list, X509_free);
    return t;
}

static int start_with_svid(struct fetch *f, struct err *e)
{
    char path[PATH_MAX], when[21];
    const char *dir = f->want->out_dir;
    if (agent_read_files(dir, &f->present, f->deadline, e) < 0)
        return e->code == ERR_UNAVAILABLE
                   ? -1
                   : err_wrap(e,
                              "no --token was given (the first time needs one: mayfly token "
                              "create), and %s holds no identity to prove itself with",
                              dir);
    int64_t until = chain_not_after(&f->present.chain_pem);
    if (until <= clock_wall()) {
        clock_rfc3339(when, until);
        return err_set(e, ERR_NOT_FOUND, "svid-expired",
                       "no --token was given, and the SVID in %s expired at %s: get a new join "
                       "token (mayfly token "
                       "create) and give it with --token-file",
                       dir, when);
    }
    if (f->want->trust_bundle)
        return agent_trust_from_file(&f->trust, f->want->trust_bundle, e);
    if (snprintf(path, sizeof path, "%s/bundle.pem", dir) >= (int)sizeof path)
        return err_set(e, ERR_CONFIG, "out-dir", "the folder's name is too long");
    return agent_trust_from_file(&f->trust, path, e);
}

static int start(struct fetch *f, struct err *e)
{
    if ((f->want->token ? start_with_token : start_with_svid)(f, e) < 0)
        return -1;
    return agent_try_folder(f->want->out_dir, f->deadline, e);
}

/* --- when the token is refused ------------------------------------------------------------------- */

/* The leaf of these files is an unexpired certificate of the ID asked for. */
static bool still_valid(const struct acme_identity *i, const char *spiffe_id, int64_t now)
{
    STACK_OF(X509) * list;
    struct err ignored;
    if (x509_from_pem(&list, i->chain_pem.p, i->chain_pem.len, CHAIN_CERTS_MAX, &ignored) < 0)
        return false;
    X509 *leaf = sk_X509_value(list, 0);
    char named[SPIFFE_ID_MAX + 1];
    struct spiffe_id id;
    bool same = svid_id(named, &id, leaf, &ignored) == 0 && strcmp(named, spiffe_id) == 0;
    bool alive = x509_time(X509_get0_notAfter(leaf)) > now;
    sk_X509_pop_free(list, X509_free);
    return same && alive;
}

/* A token is good once: who runs the same command again is told how to go on without one. */
static void suggest_svid(const struct fetch *f, struct err *e)
{
    struct acme_identity kept;
    struct err ignored;
    if ((e->code != ERR_BAD_EVIDENCE && e->code != ERR_UNAUTHORIZED) || !f->want->token)
        return;
    if (agent_read_files(f->want->out_dir, &kept, f->deadline, &ignored) < 0)
        return;
    if (still_valid(&kept, f->want->spiffe_id, clock_wall()))
        err_set(e, e->code, e->rule,
                "%.300s. %.100s holds a valid SVID of this ID: run again without --token", e->msg,
                f->want->out_dir);
    acme_identity_free(&kept);
}

/* Milliseconds until the deadline. */
static unsigned time_left(const struct fetch *f)
{
    int64_t left = f->deadline - clock_mono_ms();
    return left > 0 ? (unsigned)left : 0;
}

/* Step 5. Whoever judges others by these files needs CRLs where certificates live long enough to name them, which this one
 * shows; else they are not asked for, since the authority makes a list for who asks. What was obtained is not lost for
 * want of them, and an old list says more than none. */
static void fetch_crls(const struct fetch *f, struct acme_client *client, const struct acme_identity *got)
{
    STACK_OF(X509) *chain = NULL;
    struct buf pem;
    struct err e;
    unsigned ms = time_left(f) / 2; /* the rest is for the folder */
    buf_init(&pem, OUTPUT_CRLS_MAX);
    int rc = x509_from_pem(&chain, got->chain_pem.p, got->chain_pem.len, CHAIN_CERTS_MAX, &e);
    if (rc == 0 && X509_get_ext_by_NID(sk_X509_value(chain, 0), NID_crl_distribution_points, -1) >= 0)
        rc = crls_get(client, sk_X509_value(chain, 1), ms < CRLS_MS ? ms : CRLS_MS, &pem, &e);
    if (rc == 0)
        rc = agent_write_crls(f->want->out_dir, &pem, f->deadline, &e);
    if (rc < 0)
        log_err(LOG_WARN, "no new crl.pem", &e);
    sk_X509_pop_free(chain, X509_free);
    buf_free(&pem);
}

int agent_fetch(const struct agent_fetch *want, struct agent_verified *v, struct err *e)
{
    struct fetch f = {.want = want, .deadline = clock_mono_ms() + want->deadline_ms};
    struct acme_identity got = {0};
    struct acme_client *client = NULL;
    struct spiffe_id id;
    memset(v, 0, sizeof *v);
    int rc = spiffe_parse(&id, want->spiffe_id, strlen(want->spiffe_id), e);
    if (rc == 0) /* 1. */
        rc = start(&f, e);
    if (rc == 0 && !(client = acme_client_new(want->server, &f.trust, e)))
        rc = -1;
    if (rc == 0) { /* 2. */
        rc = acme_obtain(client, want->spiffe_id, want->dns, want->dns_count,
                         want->token ? token_evidence : svid_evidence, &f, time_left(&f), &got, e);
        if (rc < 0)
            suggest_svid(&f, e);
    }
    if (rc == 0) /* 3. */
        rc = agent_verify(v, &f.trust, &got, want->spiffe_id, clock_wall(), e);
    if (rc == 0) /* 4. */
        rc = agent_write_files(want->out_dir, &got, &f.trust, f.deadline, e);
    if (rc == 0) /* 5. */
        fetch_crls(&f, client, &got);
    acme_client_free(client);
    acme_identity_free(&got);
    acme_identity_free(&f.present);
    agent_trust_free(&f.trust);
    secret_free(&f.token);
    return rc;
}
