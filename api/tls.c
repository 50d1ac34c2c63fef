#include "api/tls.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define CHAIN 3
#define RETRY_MIN_MS 100
#define RETRY_MAX_MS 5000
#define STOP_LOOK_MS 200 /* how often the start looks whether it should stop */

struct tls_generation {
    struct tls_generation *next; /* newer */
    unsigned holders;
    gnutls_privkey_t key;
    gnutls_pcert_st chain[CHAIN];
    unsigned chain_len;
    int64_t renew_at; /* monotonic ms */
};

struct api_tls {
    struct ra *ra;
    pthread_t thread;
    bool started;
    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t wake;  /* the renewing thread: stop */
    bool stop;
    struct tls_generation *oldest, *current;
};

/* For tls_certificate: handshakes read it without the lock, see tls_hold. */
static _Atomic(struct tls_generation *) serving;

/* --- generations --------------------------------------------------------------------------------- */

static void generation_free(struct tls_generation *g)
{
    if (!g)
        return;
    for (unsigned i = 0; i < g->chain_len; i++)
        gnutls_pcert_deinit(&g->chain[i]);
    if (g->key)
        gnutls_privkey_deinit(g->key);
    free(g);
}

/* Under the lock. A connection accepted under generation g may shake hands under g or any later
 * one, never an earlier one: so the oldest goes when nobody holds it, and only then the next. */
static void generations_trim(struct api_tls *t)
{
    while (t->oldest != t->current && t->oldest->holders == 0) {
        struct tls_generation *g = t->oldest;
        t->oldest = g->next;
        generation_free(g);
    }
}

struct tls_generation *tls_hold(struct api_tls *t)
{
    pthread_mutex_lock(&t->lock);
    struct tls_generation *g = t->current;
    g->holders++;
    pthread_mutex_unlock(&t->lock);
    return g;
}

void tls_release(struct api_tls *t, struct tls_generation *g)
{
    if (!g)
        return;
    pthread_mutex_lock(&t->lock);
    g->holders--;
    generations_trim(t);
    pthread_mutex_unlock(&t->lock);
}

static void generation_install(struct api_tls *t, struct tls_generation *g)
{
    pthread_mutex_lock(&t->lock);
    if (t->current)
        t->current->next = g;
    else
        t->oldest = g;
    t->current = g;
    atomic_store(&serving, g);
    generations_trim(t);
    pthread_mutex_unlock(&t->lock);
}

/* GnuTLS asks at each ClientHello. The names asked for (SNI) do not matter: there is one identity. */
int tls_certificate(gnutls_session_t session, const struct gnutls_cert_retr_st *info,
                    gnutls_pcert_st **certs, unsigned *certs_length, gnutls_ocsp_data_st **ocsp,
                    unsigned *ocsp_length, gnutls_privkey_t *privkey, unsigned *flags)
{
    struct tls_generation *g = atomic_load(&serving);
    if (!g)
        return -1;
    *certs = g->chain;
    *certs_length = g->chain_len;
    *ocsp = NULL;
    *ocsp_length = 0;
    *privkey = g->key;
    *flags = 0;
    return 0;
}

/* --- the client's certificate ---------------------------------------------------------------------------- */

void tls_ask_certificate(gnutls_session_t session)
{
    if (session)
        gnutls_certificate_server_set_request(session, GNUTLS_CERT_REQUEST);
}

size_t tls_peer(gnutls_session_t session, struct bytes *chain, size_t max)
{
    unsigned n = 0;
    const gnutls_datum_t *der = session ? gnutls_certificate_get_peers(session, &n) : NULL;
    if (!der)
        return 0;
    for (size_t i = 0; i < n && i < max; i++)
        chain[i] = (struct bytes){der[i].data, der[i].size};
    return n < max ? n : max;
}

/* --- asking for a certificate -------------------------------------------------------------------- */

/* Shared by the asking thread and the answering one; the last of both frees it, so that neither
 * has to outwait the other. */
struct asked {
    pthread_mutex_t lock;
    pthread_cond_t done;
    unsigned refs;
    bool answered;
    struct err e;
    uint8_t cert[CA_CERT_MAX];
    size_t cert_len;
    int64_t life_ms;
};

static void asked_unref(struct asked *a) /* holds the lock, gives it back */
{
    unsigned left = --a->refs;
    pthread_mutex_unlock(&a->lock);
    if (left > 0)
        return;
    pthread_cond_destroy(&a->done);
    pthread_mutex_destroy(&a->lock);
    free(a);
}

static void certificate_done(void *arg, const struct ca_issued *r, const struct err *e)
{
    struct asked *a = arg;
    pthread_mutex_lock(&a->lock);
    if (e)
        a->e = *e;
    else if (r->cert.len > sizeof a->cert)
        err_set(&a->e, ERR_INTERNAL, "tls-certificate", "certificate of %zu bytes", r->cert.len);
    else {
        memcpy(a->cert, r->cert.p, r->cert.len);
        a->cert_len = r->cert.len;
        /* Its life from now on, so that a wall clock that steps later moves nothing. */
        a->life_ms = (r->not_after - clock_wall()) * 1000;
    }
    a->answered = true;
    pthread_cond_signal(&a->done);
    asked_unref(a);
}

static bool should_stop(struct api_tls *t)
{
    sigset_t pending;
    pthread_mutex_lock(&t->lock);
    bool stop = t->stop;
    pthread_mutex_unlock(&t->lock);
    /* Before the first certificate nobody waits for the signals that the process has blocked. */
    return stop || (!t->started && sigpending(&pending) == 0 && sigismember(&pending, SIGTERM));
}

static int certificate_ask(struct api_tls *t, struct bytes spki, struct tls_generation *g, struct asked *a,
                           struct err *e)
{
    if (ra_server_cert(t->ra, spki, certificate_done, a, e) < 0) {
        pthread_mutex_lock(&a->lock);
        a->refs--;
        return -1;
    }
    pthread_mutex_lock(&a->lock);
    while (!a->answered) {
        cond_wait_until(&a->done, &a->lock, clock_mono_ms() + STOP_LOOK_MS);
        if (!a->answered && should_stop(t))
            return err_set(e, ERR_UNAVAILABLE, "stopping", "stopped while waiting for the signer");
    }
    if (a->e.code != ERR_NONE) {
        *e = a->e;
        return -1;
    }
    gnutls_datum_t der = {a->cert, (unsigned)a->cert_len};
    if (gnutls_pcert_import_x509_raw(&g->chain[0], &der, GNUTLS_X509_FMT_DER, 0) < 0)
        return err_set(e, ERR_INTERNAL, "tls-certificate", "GnuTLS cannot read the certificate issued to it");
    g->chain_len = 1;
    g->renew_at = clock_mono_ms() + (a->life_ms > 0 ? a->life_ms / 2 : 0);
    return 0;
}

static int leaf_obtain(struct api_tls *t, struct bytes spki, struct tls_generation *g, struct err *e)
{
    struct asked *a = calloc(1, sizeof *a);
    if (!a)
        return err_set(e, ERR_INTERNAL, "memory", "out of memory for a certificate");
    pthread_mutex_init(&a->lock, NULL);
    cond_init_mono(&a->done);
    a->refs = 2;
    int rc = certificate_ask(t, spki, g, a, e);
    asked_unref(a);
    return rc;
}

static int authorities_add(struct api_tls *t, struct tls_generation *g, struct err *e)
{
    struct ca_snapshot *s = malloc(sizeof *s);
    if (!s)
        return err_set(e, ERR_INTERNAL, "memory", "out of memory for the chain");
    ra_signer(t->ra, s);
    gnutls_datum_t der[2] = {{s->issuing, (unsigned)s->issuing_len}, {s->root, (unsigned)s->root_len}};
    int rc = s->known ? 0 : err_set(e, ERR_UNAVAILABLE, "signer-away", "the signer has not shown its certificates yet");
    for (int i = 0; i < 2 && rc == 0; i++) {
        if (gnutls_pcert_import_x509_raw(&g->chain[g->chain_len], &der[i], GNUTLS_X509_FMT_DER, 0) < 0)
            rc = err_set(e, ERR_INTERNAL, "tls-certificate", "GnuTLS cannot read the authority's certificates");
        else
            g->chain_len++;
    }
    free(s);
    return rc;
}

/* The key never leaves GnuTLS's memory; the process is not dumpable (base/sandbox). */
static int key_make(struct tls_generation *g, gnutls_datum_t *spki, struct err *e)
{
    gnutls_pubkey_t pub = NULL;
    int rc = gnutls_privkey_init(&g->key);
    if (rc == 0)
        rc = gnutls_privkey_generate(g->key, GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0);
    if (rc == 0)
        rc = gnutls_pubkey_init(&pub);
    if (rc == 0)
        rc = gnutls_pubkey_import_privkey(pub, g->key, GNUTLS_KEY_DIGITAL_SIGNATURE, 0);
    if (rc == 0)
        rc = gnutls_pubkey_export2(pub, GNUTLS_X509_FMT_DER, spki);
    if (pub)
        gnutls_pubkey_deinit(pub);
    return rc < 0 ? err_set(e, ERR_INTERNAL, "tls-key", "cannot make the server's key: %s", gnutls_strerror(rc)) : 0;
}

static int generation_obtain(struct api_tls *t, struct err *e)
{
    gnutls_datum_t spki = {0};
    struct tls_generation *g = calloc(1, sizeof *g);
    int rc = -1;
    if (!g)
        return err_set(e, ERR_INTERNAL, "memory", "out of memory for the server's key");
    if (key_make(g, &spki, e) == 0 && leaf_obtain(t, (struct bytes){spki.data, spki.size}, g, e) == 0)
        rc = authorities_add(t, g, e);
    gnutls_free(spki.data);
    if (rc < 0)
        generation_free(g);
    else
        generation_install(t, g);
    return rc;
}

/* --- renewal ------------------------------------------------------------------------------------ */

/* Waits, at most for ms; false: stop. */
static bool pause_ms(struct api_tls *t, int64_t ms)
{
    int64_t until = clock_mono_ms() + ms;
    while (!should_stop(t)) {
        int64_t left = until - clock_mono_ms();
        if (left <= 0)
            return true;
        if (!t->started && left > STOP_LOOK_MS)
            left = STOP_LOOK_MS;
        pthread_mutex_lock(&t->lock);
        if (!t->stop)
            cond_wait_until(&t->wake, &t->lock, clock_mono_ms() + left);
        pthread_mutex_unlock(&t->lock);
    }
    return false;
}

/* Until there is a new generation. Only what will not get better by waiting ends it. */
static int obtain_patiently(struct api_tls *t, struct err *e)
{
    int64_t ms = RETRY_MIN_MS;
    bool told = false;
    while (generation_obtain(t, e) < 0) {
        if (e->code == ERR_DENIED || e->code == ERR_CONFIG || strcmp(e->rule, "stopping") == 0)
            return err_wrap(e, "the server's own certificate");
        if (!told)
            log_err(LOG_WARN, "no certificate for the server itself yet; trying on", e);
        told = true;
        if (!pause_ms(t, ms))
            return err_set(e, ERR_UNAVAILABLE, "stopping", "stopped while waiting for the signer");
        ms = ms * 2 < RETRY_MAX_MS ? ms * 2 : RETRY_MAX_MS;
    }
    return 0;
}

static void *renew_run(void *arg)
{
    struct api_tls *t = arg;
    int64_t wait = t->current->renew_at - clock_mono_ms();
    while (pause_ms(t, wait)) {
        struct err e = {0};
        if (obtain_patiently(t, &e) < 0) {
            if (strcmp(e.rule, "stopping") == 0)
                break;
            log_err(LOG_ERROR, "the server's certificate cannot be renewed", &e);
            wait = RETRY_MAX_MS;
            continue;
        }
        log_info("renewed the server's certificate", NULL);
        /* Only this thread installs, so `current` stands still. A certificate that is already
         * old when it comes (a clock astray) must not make this a busy loop. */
        wait = t->current->renew_at - clock_mono_ms();
        wait = wait > RETRY_MAX_MS ? wait : RETRY_MAX_MS;
    }
    return NULL;
}

int tls_start(struct api_tls **out, struct ra *ra, struct err *e)
{
    struct api_tls *t = calloc(1, sizeof *t);
    if (!t)
        return err_set(e, ERR_INTERNAL, "memory", "out of memory for TLS");
    t->ra = ra;
    pthread_mutex_init(&t->lock, NULL);
    cond_init_mono(&t->wake);
    if (obtain_patiently(t, e) == 0) {
        t->started = true;
        if (thread_start(&t->thread, renew_run, t, "the thread that renews the server's certificate", e) == 0) {
            *out = t;
            return 0;
        }
        t->started = false;
    }
    tls_stop(t);
    return -1;
}

void tls_stop(struct api_tls *t)
{
    if (!t)
        return;
    pthread_mutex_lock(&t->lock);
    t->stop = true;
    pthread_cond_signal(&t->wake);
    pthread_mutex_unlock(&t->lock);
    if (t->started)
        pthread_join(t->thread, NULL);
    atomic_store(&serving, NULL);
    while (t->oldest) {
        struct tls_generation *g = t->oldest;
        t->oldest = g->next;
        generation_free(g);
    }
    pthread_cond_destroy(&t->wake);
    pthread_mutex_destroy(&t->lock);
    free(t);
}
