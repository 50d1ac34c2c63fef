/* What a handshake needs, made once for each message of the agent: an SSL_CTX for each SVID that a listener uses, and
 * the trust. Never changed afterwards: who began a handshake keeps the SVID that was there then, and is judged by the
 * trust of now. */
#include "base/clock.h"
#include "proxy/internal.h"
#include "proxy/trust_parts.h"
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>

/* No resumption: a resumed session would let a peer in whose certificate has run out, was revoked, or is not allowed
 * any more. Neither tickets nor a cache, in either role. */
static int ctx_settings(SSL_CTX *x)
{
    char groups[] = "X25519:P-256:P-384"; /* the macro drops const */
    SSL_CTX_set_options(x, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_mode(x, SSL_MODE_AUTO_RETRY | SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_NO_AUTO_CHAIN);
    SSL_CTX_set_session_cache_mode(x, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_max_cert_list(x, 65536);
    SSL_CTX_set_security_level(x, 2);
    SSL_CTX_set_verify(x, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    SSL_CTX_set_cert_verify_callback(x, handshake_verify, NULL);
    SSL_CTX_set_alpn_select_cb(x, handshake_alpn, NULL);
    return SSL_CTX_set_num_tickets(x, 0) == 1 && SSL_CTX_set_min_proto_version(x, TLS1_2_VERSION) == 1 &&
           SSL_CTX_set_ciphersuites(x, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256") == 1 &&
           SSL_CTX_set_cipher_list(x, "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"
                                      "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
                                      "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305") == 1 &&
           SSL_CTX_set1_groups_list(x, groups) == 1;
}

static int key_use(SSL_CTX *x, const struct secret *key)
{
    const unsigned char *at = key->p;
    EVP_PKEY *k = NULL;
    PKCS8_PRIV_KEY_INFO *p8 = d2i_PKCS8_PRIV_KEY_INFO(NULL, &at, (long)key->len);
    if (p8 && at == key->p + key->len)
        k = EVP_PKCS82PKEY(p8);
    PKCS8_PRIV_KEY_INFO_free(p8);
    int ok = k && SSL_CTX_use_PrivateKey(x, k) == 1 && SSL_CTX_check_private_key(x) == 1;
    EVP_PKEY_free(k);
    return ok;
}

/* Leaf first. Fills the times, from the leaf. */
static int chain_use(SSL_CTX *x, struct cred *c, const struct wl_svid *s)
{
    const unsigned char *at = s->chain, *end = at + s->chain_len;
    int ok = 1, n = 0;
    for (; ok && at < end; n++) {
        X509 *cert = n < TRUST_CHAIN_MAX ? d2i_X509(NULL, &at, end - at) : NULL;
        if (!cert)
            return 0;
        if (n == 0) {
            c->not_before = cert_time(X509_get0_notBefore(cert));
            c->not_after = cert_time(X509_get0_notAfter(cert));
            ok = c->not_after > 0 && SSL_CTX_use_certificate(x, cert) == 1;
        } else {
            ok = SSL_CTX_add1_chain_cert(x, cert) == 1;
        }
        X509_free(cert);
    }
    return ok && n > 0;
}

static int cred_make(struct cred *c, const struct wl_svid *s, struct err *e)
{
    c->id = strdup(s->spiffe_id);
    c->ctx = SSL_CTX_new(TLS_method());
    if (!c->id || !c->ctx || !ctx_settings(c->ctx)) {
        ERR_clear_error();
        return err_set(e, ERR_INTERNAL, "tls-setup", "cannot set TLS up; is memory exhausted?");
    }
    if (!chain_use(c->ctx, c, s) || !key_use(c->ctx, &s->key)) {
        ERR_clear_error();
        return err_set(e, ERR_CORRUPT, "identity", "the identity %.200s cannot be used: its chain or key is damaged, or they "
                       "do not belong together", c->id);
    }
    return 0;
}

/* A listener uses the i-th of the agent's: by its ID, of which the agent's first one counts, or because the listener
 * names none and it is the first of all. The agent gives whatever the user of this process has entries for, which may be
 * many more than serve here: nothing about the others is looked at. */
static bool used(const struct proxy_conf *conf, const struct wl_state *s, size_t i)
{
    const char *id = s->svids[i]->spiffe_id;
    for (size_t k = 0; k < i; k++)
        if (strcmp(s->svids[k]->spiffe_id, id) == 0)
            return false;
    for (size_t k = 0; k < conf->n; k++)
        if (conf->listeners[k].id ? strcmp(conf->listeners[k].id, id) == 0 : i == 0)
            return true;
    return false;
}

/* As many as there are listeners at most. */
static int creds_fill(struct creds *c, const struct wl_state *s, const struct proxy_conf *conf, int64_t now, struct err *e)
{
    bool living = false; /* one listener's may have run out while another's is new */
    if (s->n == 0)
        return err_set(e, ERR_NOT_READY, "no-identity", "the agent gives no identity");
    if (!(c->list = calloc(conf->n ? conf->n : 1, sizeof *c->list)))
        return err_set(e, ERR_INTERNAL, "memory", "out of memory");
    for (size_t i = 0; i < s->n && c->n < conf->n; i++) {
        if (!used(conf, s, i))
            continue;
        struct cred *own = &c->list[c->n++];
        if (cred_make(own, s->svids[i], e) < 0)
            return -1;
        living |= own->not_after >= now;
    }
    if (c->n > 0 && !living)
        return err_set(e, ERR_NOT_READY, "own-expired", "the certificate that came for %.200s has expired already", c->list[0].id);
    return (c->trust = trust_new(s->bundles, e)) ? 0 : -1;
}

struct creds *creds_new(const struct wl_state *s, const struct proxy_conf *conf, int64_t now, struct err *e)
{
    struct creds *c = calloc(1, sizeof *c);
    if (!c) {
        err_set(e, ERR_INTERNAL, "memory", "out of memory");
        return NULL;
    }
    atomic_init(&c->refs, 1);
    if (creds_fill(c, s, conf, now, e) == 0)
        return c;
    creds_unref(c);
    return NULL;
}

void creds_unref(struct creds *c)
{
    if (!c || atomic_fetch_sub(&c->refs, 1) != 1)
        return;
    for (size_t i = 0; i < c->n; i++) {
        SSL_CTX_free(c->list[i].ctx);
        free(c->list[i].id);
    }
    trust_free(c->trust);
    free(c->list);
    free(c);
}

const struct cred *creds_find(const struct creds *c, const char *id)
{
    for (size_t i = 0; i < c->n; i++)
        if (!id || strcmp(c->list[i].id, id) == 0)
            return &c->list[i];
    return NULL;
}
