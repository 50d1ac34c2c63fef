/* The ACME session: one ephemeral account key held in memory, one connection, fresh nonces kept
 * from every answer, requests signed and retried (RFC 8555 §6, §7.2, §7.3). */
#include "agent/internal.h"
#include "agent/pem.h"
#include "base/clock.h"
#include "base/jose.h"
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>

#define BACKOFF_FIRST_MS 100
#define BACKOFF_MOST_MS 5000

static int over_http(void *arg, const struct http_request *q, struct http_answer *a, struct err *e)
{
    return http_send(arg, q, a, e);
}

static void sleep_ms(void *arg, unsigned ms)
{
    http_sleep(arg, ms); /* stopped: the next request says so */
}

struct acme_client *acme_client_over(const char *server_url, const struct acme_transport *t,
                                     struct err *e)
{
    struct acme_client *c = calloc(1, sizeof *c);
    if (!c) {
        err_set(e, ERR_INTERNAL, "memory", "out of memory");
        return NULL;
    }
    if (t)
        c->transport = *t;
    if (url_server(&c->server, server_url, e) < 0) {
        e->code = ERR_USAGE; /* the operator's own words */
        acme_client_free(c);
        return NULL;
    }
    if (!(c->key = key_generate(KEY_P256, e)) || jwk_thumbprint(c->thumbprint, c->key, e) < 0) {
        acme_client_free(c);
        return NULL;
    }
    return c;
}

struct acme_client *acme_client_new(const char *server_url, struct agent_trust *trust,
                                    struct err *e)
{
    struct acme_client *c = acme_client_over(server_url, NULL, e);
    if (!c)
        return NULL;
    c->http = http_new(&c->server, trust, e);
    if (!c->http) {
        acme_client_free(c);
        return NULL;
    }
    c->transport = (struct acme_transport){over_http, sleep_ms, c->http};
    return c;
}

void acme_client_stop(struct acme_client *c, unsigned ms)
{
    if (c->http)
        http_stop(c->http, clock_mono_ms() + ms);
}

void acme_client_free(struct acme_client *c)
{
    if (!c)
        return;
    http_free(c->http);
    key_free(c->key);
    id_set_clear(&c->authorized);
    free(c);
}

void acme_identity_free(struct acme_identity *i)
{
    key_free(i->key);
    buf_free(&i->chain_pem);
    memset(i, 0, sizeof *i);
}

/* --- waiting ------------------------------------------------------------------------------------- */

/* Half fixed, half random, so that a fleet that was refused together does not return together. */
static unsigned backoff_ms(unsigned attempt)
{
    unsigned ms = BACKOFF_FIRST_MS << (attempt < 6 ? attempt : 6);
    uint16_t dice = 0;
    if (ms > BACKOFF_MOST_MS)
        ms = BACKOFF_MOST_MS;
    RAND_bytes((unsigned char *)&dice, sizeof dice);
    return ms / 2 + dice % (ms / 2 + 1);
}

int acme_wait(struct acme_client *c, unsigned retry_after, unsigned attempt, struct err *e)
{
    int64_t ms = retry_after ? (int64_t)retry_after * 1000 : (int64_t)backoff_ms(attempt);
    if (clock_mono_ms() + ms >= c->deadline)
        return err_set(e, ERR_UNAVAILABLE, "deadline",
                       "the authority asks to wait %lld ms, which is longer than the time given: "
                       "try again later, or give "
                       "a longer --timeout",
                       (long long)ms);
    c->transport.wait(c->transport.arg, (unsigned)ms);
    return 0;
}

static bool worth_waiting(const struct http_answer *a)
{
    return a->status == 429 || a->status == 502 || a->status == 503 || a->status == 504;
}

/* --- nonces -------------------------------------------------------------------------------- */

static void keep_nonce(struct acme_client *c, const char *nonce)
{
    if (!*nonce)
        return;
    if (c->nonces_count == NONCES_KEPT) { /* the oldest is the likeliest to be stale */
        memmove(c->nonces[0], c->nonces[1], sizeof c->nonces[0] * (NONCES_KEPT - 1));
        c->nonces_count--;
    }
    strcpy(c->nonces[c->nonces_count++], nonce);
}

int acme_plain(struct acme_client *c, const char *method, const char *url, const char *if_none_match,
               struct http_answer *a, struct err *e)
{
    struct http_request q = {
        .method = method, .url = url, .deadline = c->deadline, .if_none_match = if_none_match};
    for (unsigned attempt = 0;; attempt++) {
        if (c->transport.send(c->transport.arg, &q, a, e) < 0)
            return -1;
        keep_nonce(c, a->nonce);
        if (a->status == 200 || a->status == 204 || a->status == 304)
            return 0;
        acme_problem(a, e);
        struct err late;
        if (!worth_waiting(a) || acme_wait(c, a->retry_after, attempt, &late) < 0)
            return -1;
    }
}

/* The newest nonce kept, else a fresh one (RFC 8555 §7.2). */
static int take_nonce(struct acme_client *c, char dst[NONCE_MAX + 1], struct err *e)
{
    if (c->nonces_count == 0) {
        struct http_answer a;
        http_answer_init(&a);
        int rc = acme_plain(c, "HEAD", c->directory.new_nonce, NULL, &a, e);
        http_answer_free(&a);
        if (rc < 0)
            return -1;
        if (c->nonces_count == 0)
            return err_set(
                e, ERR_INTERNAL, "acme-answer",
                "newNonce answered without a usable Replay-Nonce: is this an ACME server?");
    }
    strcpy(dst, c->nonces[--c->nonces_count]);
    return 0;
}

/* --- signed requests ----------------------------------------------------------------------------- */

static int post_once(struct acme_client *c, const char *url, acme_payload_cb *payload, void *arg,
                     struct http_answer *a, struct err *e)
{
    char nonce[NONCE_MAX + 1];
    struct buf text, jws;
    buf_init(&text, JWS_MAX);
    buf_init(&jws, JWS_MAX);
    int rc = take_nonce(c, nonce, e);
    if (rc == 0)
        rc = payload(arg, nonce, &text, e);
    if (rc == 0 && text.failed)
        rc = err_set(e, ERR_TOO_LARGE, "request-size", "the request does not fit in %d bytes",
                     JWS_MAX);
    if (rc == 0)
        rc = jws_sign(&jws, c->key, *c->kid ? c->kid : NULL, nonce, url,
                      text.len ? (const char *)text.p : NULL, text.len, e);
    if (rc == 0 && jws.failed)
        rc = err_set(e, ERR_TOO_LARGE, "request-size", "the request does not fit in %d bytes",
                     JWS_MAX);
    struct http_request q = {.method = "POST", .url = url, .body = {jws.p, jws.len}, .deadline = c->deadline};
    if (rc == 0)
        rc = c->transport.send(c->transport.arg, &q, a, e);
    buf_wipe(&text); /* may hold a join token */
    buf_wipe(&jws);
    return rc;
}

int acme_post(struct acme_client *c, const char *url, acme_payload_cb *payload, void *arg,
              struct http_answer *a, struct err *e)
{
    unsigned bad_nonces = 0, attempt = 0;
    if (url_same_origin(&c->server, url, "next step", e) < 0)
        return -1;
    for (;;) {
        if (post_once(c, url, payload, arg, a, e) < 0)
            return -1;
        bool refused = a->status >= 300;
        if (refused)
            acme_problem(a, e);
        bool stale = refused && e->code == ERR_BAD_NONCE;
        if (stale)
            c->nonces_count = 0; /* its brothers are of the same age */
        keep_nonce(c, a->nonce);
        if (!refused)
            return 0;
        struct err late; /* the server's own words are the better error */
        if (stale && bad_nonces++ < RETRY_NONCE)
            continue;
        if (stale || !worth_waiting(a) || acme_wait(c, a->retry_after, attempt++, &late) < 0)
            return -1;
    }
}

static int text_payload(void *arg, const char *nonce, struct buf *out, struct err *e)
{
    const char *const *text = arg;
    buf_str(out, *text);
    return 0;
}

int acme_post_text(struct acme_client *c, const char *url, const char *payload,
                   struct http_answer *a, struct err *e)
{
    return acme_post(c, url, text_payload, &payload, a, e);
}

/* --- session ------------------------------------------------------------------------------------- */

static int load_directory(struct acme_client *c, struct http_answer *a, struct err *e)
{
    if (acme_plain(c, "GET", c->server.directory, NULL, a, e) < 0)
        return -1;
    if (acme_directory_parse(&c->directory, (struct bytes){a->body.p, a->body.len}, e) < 0)
        return -1;
    if (url_same_origin(&c->server, c->directory.new_nonce, "directory", e) < 0 ||
        url_same_origin(&c->server, c->directory.new_account, "directory", e) < 0 ||
        url_same_origin(&c->server, c->directory.new_order, "directory", e) < 0)
        return -1;
    c->has_directory = true;
    return 0;
}

int acme_session(struct acme_client *c, struct err *e)
{
    struct http_answer a;
    http_answer_init(&a);
    int rc = c->has_directory ? 0 : load_directory(c, &a, e);
    if (rc == 0 && !*c->kid) {
        rc = acme_post_text(c, c->directory.new_account, "{\"termsOfServiceAgreed\":true}", &a, e);
        if (rc == 0 && !*a.location)
            rc = err_set(e, ERR_INTERNAL, "acme-answer",
                         "newAccount answered without a Location: is this an ACME server?");
        if (rc == 0)
            rc = url_same_origin(&c->server, a.location, "account", e);
        if (rc == 0)
            strcpy(c->kid, a.location);
    }
    http_answer_free(&a);
    return rc;
}

static void forget_session(struct acme_client *c)
{
    c->kid[0] = 0;
    id_set_clear(&c->authorized);
}

int acme_with_session(struct acme_client *c, int (*step)(void *arg, struct err *e), void *arg, struct err *e)
{
    for (int again = 0;; again++) {
        int rc = acme_session(c, e);
        if (rc == 0)
            rc = step(arg, e);
        /* The authority forgot the session (it ended, or its store is new): open another, once. */
        if (rc == 0 || again || e->code != ERR_NO_ACCOUNT)
            return rc;
        forget_session(c);
    }
}

int acme_client_key(struct acme_client *c, struct key *key, struct err *e)
{
    char thumbprint[sizeof c->thumbprint];
    if (!key || jwk_thumbprint(thumbprint, key, e) < 0) {
        key_free(key);
        return -1;
    }
    forget_session(c);
    key_free(c->key);
    c->key = key;
    memcpy(c->thumbprint, thumbprint, sizeof thumbprint);
    return 0;
}

/* The chain as exactly its certificates, whatever else stood in the text: this is what is written
 * to disk later. */
static int normalize_chain(struct buf *out, const struct buf *pem, struct err *e)
{
    struct buf der;
    struct bytes list[CHAIN_CERTS_MAX];
    size_t n;
    buf_init(out, CHAIN_PEM_MAX);
    buf_init(&der, CHAIN_PEM_MAX);
    int rc = x509_chain_der(pem, &der, list, &n, e);
    if (rc == 0)
        rc = pem_certificates(out, der.p, der.len, e);
    buf_free(&der);
    if (rc == 0)
        return 0;
    if (e->code != ERR_INTERNAL)
        e->code = ERR_CORRUPT;
    return err_wrap(e, "the certificate chain the authority answered with");
}

struct obtain {
    struct acme_client *c;
    struct acme_want want;
    struct buf pem;
};

static int obtain_step(void *arg, struct err *e)
{
    struct obtain *o = arg;
    return acme_order_run(o->c, &o->want, &o->pem, e);
}

int acme_obtain_as(struct acme_client *c, const struct acme_ask *ask, struct acme_identity *out, struct err *e)
{
    struct buf csr;
    struct obtain o = {.c = c};
    memset(out, 0, sizeof *out);
    buf_init(&csr, JWS_MAX);
    buf_init(&o.pem, CHAIN_PEM_MAX);
    c->deadline = clock_mono_ms() + ask->deadline_ms;
    int rc = ask->key || (out->key = key_generate(KEY_P256, e)) ? 0 : -1;
    if (rc == 0)
        rc = csr_write(&csr, ask->key ? ask->key : out->key, ask->spiffe_id, ask->dns, ask->dns_count, e);
    o.want = (struct acme_want){.spiffe_id = ask->spiffe_id,
                                .dns = ask->dns,
                                .dns_count = ask->dns_count,
                                .csr = {csr.p, csr.len},
                                .replaces = ask->replaces,
                                .evidence = ask->evidence,
                                .arg = ask->arg};
    if (rc == 0)
        rc = acme_with_session(c, obtain_step, &o, e);
    if (rc == 0)
        rc = normalize_chain(&out->chain_pem, &o.pem, e);
    buf_free(&csr);
    buf_free(&o.pem);
    if (rc < 0)
        acme_identity_free(out);
    return rc;
}

int acme_obtain(struct acme_client *c, const char *spiffe_id, const char *const *dns,
                size_t dns_count, acme_evidence_cb *evidence, void *arg, unsigned deadline_ms,
                struct acme_identity *out, struct err *e)
{
    struct acme_ask ask = {.spiffe_id = spiffe_id,
                           .dns = dns,
                           .dns_count = dns_count,
                           .evidence = evidence,
                           .arg = arg,
                           .deadline_ms = deadline_ms};
    return acme_obtain_as(c, &ask, out, e);
}
