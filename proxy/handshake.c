/* TLS: both roles, and the judgement over the peer within it. */
#include "base/clock.h"
#include "proxy/internal.h"
#include "proxy/trust_parts.h"
#include <errno.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>

static int ex_index = -1;

int handshake_setup(struct err *e)
{
    if (ex_index < 0)
        ex_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
    if (ex_index < 0)
        return err_set(e, ERR_INTERNAL, "memory", "out of memory");
    return scratch_bio_setup(e);
}

/* What the peer is told, as an alert. */
static int alert_for(const char *rule)
{
    if (strcmp(rule, "chain-time") == 0)
        return X509_V_ERR_CERT_HAS_EXPIRED;
    if (strcmp(rule, "revoked") == 0)
        return X509_V_ERR_CERT_REVOKED;
    if (strcmp(rule, "chain") == 0 || strcmp(rule, "trust-domain") == 0)
        return X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY;
    return X509_V_ERR_APPLICATION_VERIFICATION;
}

/* For the log: who says it is. */
static void claim(struct conn *c, X509 *leaf)
{
    char text[SPIFFE_ID_MAX + 1];
    struct spiffe_id id;
    struct err none;
    free(c->claimed);
    c->claimed = svid_id(text, &id, leaf, &none) == 0 ? strdup(text) : NULL;
}

int handshake_verify(X509_STORE_CTX *store, void *arg)
{
    SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct conn *c = SSL_get_ex_data(ssl, ex_index);
    const struct proxy_listener_conf *conf = c->l->conf;
    const struct question q = {.leaf = X509_STORE_CTX_get0_cert(store),
                               .chain = X509_STORE_CTX_get0_untrusted(store),
                               .server = conf->mode == PROXY_CLIENT,
                               .proof = conf->require_log_proof,
                               .crl_optional = conf->crl_optional,
                               .now = clock_wall()};
    /* By what counts now, not when the handshake began: who is revoked meanwhile does not slip in behind review. */
    struct creds *now = proxy_creds(c->w->p);
    err_clear(&c->why);
    peer_unref(c->peer);
    c->peer = trust_judge(now->trust, c->w->verdicts, &q, &c->why);
    creds_unref(now);
    if (c->peer && !proxy_rules_match(&conf->allow, c->peer->id))
        err_set(&c->why, ERR_UNAUTHORIZED, "denied", "no allow rule of this listener names the peer");
    if (c->why.code == ERR_NONE)
        return 1;
    claim(c, q.leaf);
    X509_STORE_CTX_set_error(store, alert_for(c->why.rule));
    return 0;
}

int handshake_alpn(SSL *ssl, const unsigned char **out, unsigned char *len, const unsigned char *in, unsigned in_len,
                   void *arg)
{
    const struct conn *c = SSL_get_ex_data(ssl, ex_index);
    const struct proxy_listener_conf *conf = c->l->conf;
    unsigned char *chosen = NULL;
    if (conf->alpn_len == 0)
        return SSL_TLSEXT_ERR_NOACK;
    if (SSL_select_next_proto(&chosen, len, conf->alpn, (unsigned)conf->alpn_len, in, in_len) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

int handshake_begin(struct conn *c, struct err *e)
{
    const struct proxy_listener_conf *conf = c->l->conf;
    const struct cred *cred = creds_find(c->creds, conf->id);
    if (!cred)
        return err_set(e, ERR_NOT_READY, "no-identity", "the agent gives no identity %.200s", conf->id ? conf->id : "");
    if (clock_wall() > cred->not_after)
        return err_set(e, ERR_NOT_READY, "own-expired",
                       "our own certificate for %.200s has expired and no new one came: is the agent there, and the authority?",
                       cred->id);
    c->ssl = SSL_new(cred->ctx);
    BIO *b = c->ssl ? scratch_bio_new(c) : NULL;
    if (!b || !SSL_set_ex_data(c->ssl, ex_index, c)) {
        BIO_free(b);
        return err_set(e, ERR_INTERNAL, "memory", "out of memory");
    }
    SSL_set_bio(c->ssl, b, b);
    if (conf->mode == PROXY_SERVER) {
        SSL_set_accept_state(c->ssl);
        return 0;
    }
    SSL_set_connect_state(c->ssl);
    if (c->l->sni[0])
        SSL_set_tlsext_host_name(c->ssl, c->l->sni);
    if (conf->alpn_len)
        SSL_set_alpn_protos(c->ssl, conf->alpn, (unsigned)conf->alpn_len);
    return 0;
}

static const struct {
    const char *rule;
    enum fail_reason reason;
} reasons[] = {
    {"denied", FAIL_DENIED},         {"chain-time", FAIL_EXPIRED},    {"revoked", FAIL_REVOKED},
    {"crl-missing", FAIL_CRL},       {"chain", FAIL_CHAIN},           {"chain-size", FAIL_CHAIN},
    {"trust-domain", FAIL_FOREIGN},  {"binding-missing", FAIL_UNLOGGED}, {"inclusion", FAIL_UNLOGGED},
};

static enum fail_reason reason_of(const char *rule)
{
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++)
        if (strcmp(rule, reasons[i].rule) == 0)
            return reasons[i].reason;
    if (strncmp(rule, "svid", 4) == 0)
        return FAIL_SVID;
    if (strncmp(rule, "proof", 5) == 0 || strncmp(rule, "checkpoint", 10) == 0 || strncmp(rule, "cert-format", 11) == 0 ||
        strncmp(rule, "vkey", 4) == 0)
        return FAIL_UNLOGGED;
    return FAIL_TLS;
}

static void tls_failed(struct conn *c, enum fail_reason *r, struct err *e)
{
    unsigned long why = ERR_peek_error();
    if (c->why.code != ERR_NONE) {
        *e = c->why;
        *r = reason_of(e->rule);
    } else if (ERR_GET_LIB(why) == ERR_LIB_SSL && ERR_GET_REASON(why) == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE) {
        *r = FAIL_NO_CERTIFICATE;
        err_set(&c->why, ERR_UNAUTHORIZED, "no-certificate", "the peer showed no certificate");
        *e = c->why;
    } else {
        const char *text = ERR_reason_error_string(why);
        *r = FAIL_TLS;
        err_set(e, ERR_MALFORMED, "tls", "TLS handshake failed: %s", text ? text : "the peer does not speak TLS as it should");
    }
    ERR_clear_error();
}

enum handshake_step handshake_step(struct conn *c, enum fail_reason *r, struct err *e)
{
    scratch_claim(c);
    long n = scratch_recv(c);
    c->heard |= n > 0;
    if (n < 0 && errno != EAGAIN) {
        *r = FAIL_CLOSED;
        err_set(e, ERR_IO, "closed", "the peer reset the connection in its handshake");
        return STEP_FAILED;
    }
    ERR_clear_error();
    int done = SSL_do_handshake(c->ssl), why = done == 1 ? SSL_ERROR_NONE : SSL_get_error(c->ssl, done);
    if (done != 1 && why != SSL_ERROR_WANT_READ)
        tls_failed(c, r, e);
    c->answered |= done != 1 && c->w->out_len > 0; /* no ClientHello, no answer to it */
    int sent = scratch_flush(c); /* an alert too */
    if (done != 1 && why != SSL_ERROR_WANT_READ)
        return STEP_FAILED;
    if (sent < 0 || (done != 1 && n == 0)) {
        *r = FAIL_CLOSED;
        err_set(e, ERR_IO, "closed", "the peer closed the connection in its handshake");
        return STEP_FAILED;
    }
    if (done != 1)
        return STEP_MORE;
    scratch_keep(c);
    return STEP_DONE;
}
