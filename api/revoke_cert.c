/* ACME revokeCert (RFC 8555 §7.6). All that is needed stands in the certificate: that this authority
 * signed it, its serial, its key, and, in the proof stapled into it, the session that got it. May:
 * that session, one that is authorized for the certificate's ID now, and who has the certificate's key.
 *
 * The session that got the certificate goes on when it asks itself; when the certificate's key asks,
 * it is taken for lost, as by an operator who names the serial; but for an agent's, which got it for a
 * workload: that one's key says nothing of the agent. The key is refused from now on when it is said to
 * be compromised. */
#include "api/internal.h"
#include "base/clock.h"
#include "tlog/entry.h"
#include "tlog/proof.h"
#include <openssl/err.h>
#include <openssl/sha.h>
#include <openssl/x509v3.h>
#include <string.h>

struct named { /* by the certificate */
    char serial[41], spiffe_id[2049];
    uint8_t key[32], session[32];
    bool has_session;
    char agent[2049]; /* whose word got it; "": nobody's */
};

/* --- the certificate ---------------------------------------------------------------------------------- */

static X509 *cert_read(const uint8_t *der, size_t len)
{
    const unsigned char *p = der;
    X509 *x = d2i_X509(NULL, &p, (long)len);
    if (x && p == der + len)
        return x;
    X509_free(x);
    return NULL;
}

static int check_issuer(const struct request *r, X509 *cert, struct err *e)
{
    struct ca_snapshot s;
    ra_signer(r->server->ra, &s);
    if (!s.known)
        return err_set(e, ERR_UNAVAILABLE, "signer-away", "the signer has not shown its certificate yet; try again");
    X509 *issuing = cert_read(s.issuing, s.issuing_len);
    bool ours = issuing && X509_verify(cert, X509_get0_pubkey(issuing)) == 1;
    X509_free(issuing);
    ERR_clear_error();
    return ours ? 0 : err_set(e, ERR_NOT_FOUND, "cert-foreign", "this authority did not issue the certificate");
}

/* Its one URI, or "". */
static void read_id(struct named *n, X509 *cert)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
    for (int i = 0; names && i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *g = sk_GENERAL_NAME_value(names, i);
        size_t len = g->type == GEN_URI ? (size_t)ASN1_STRING_length(g->d.uniformResourceIdentifier) : 0;
        const uint8_t *p = len ? ASN1_STRING_get0_data(g->d.uniformResourceIdentifier) : NULL;
        if (p && len < sizeof n->spiffe_id && !memchr(p, 0, len))
            memcpy(n->spiffe_id, p, len);
    }
    GENERAL_NAMES_free(names);
}

/* The session, from the extension list that travels in the stapled proof. */
static int read_session(struct named *n, struct bytes stapled, struct err *e)
{
    struct tlog_proof proof;
    struct tlog_ext_info x;
    if (stapled.len == 0)
        return 0;
    if (tlog_proof_parse(&proof, stapled.p, stapled.len, e) < 0 ||
        tlog_entry_extensions(&x, (struct bytes){proof.extra, proof.extra_len}, e) < 0)
        return -1;
    n->has_session = x.session.len == sizeof n->session;
    if (n->has_session)
        memcpy(n->session, x.session.p, sizeof n->session);
    revoke_by_agent(&x, n->agent, sizeof n->agent);
    return 0;
}

static int read_fields(struct named *n, const struct payload_revoke *p, struct err *e)
{
    struct buf body;
    struct tlog_cert_fields f;
    struct bytes stapled;
    char hex[HEX_LEN(20) + 1];
    buf_init(&body, TLOG_ENTRY_MAX);
    int rc = tlog_cert_body(&body, &f, &stapled, p->cert, p->cert_len, e);
    buf_free(&body);
    if (rc < 0)
        return -1;
    if (f.serial.len > 20)
        return err_set(e, ERR_MALFORMED, "cert-format", "the serial number is longer than 20 bytes (RFC 5280 §4.1.2.2)");
    hex_encode(hex, f.serial.p, f.serial.len);
    snprintf(n->serial, sizeof n->serial, "%s", hex + strspn(hex, "0"));
    memcpy(n->key, f.spki_hash, sizeof n->key);
    if (f.not_after <= clock_wall())
        return err_set(e, ERR_MALFORMED, "cert-expired", "the certificate has expired: there is nothing to revoke");
    return read_session(n, stapled, e);
}

static int read_cert(const struct request *r, struct named *n, const struct payload_revoke *p, struct err *e)
{
    X509 *cert = cert_read(p->cert, p->cert_len);
    int rc = cert ? check_issuer(r, cert, e)
                  : err_set(e, ERR_MALFORMED, "cert-format", "\"certificate\" is not one DER certificate, and nothing else");
    if (rc == 0) /* ours: so all that it says is what was signed */
        rc = read_fields(n, p, e);
    if (rc == 0)
        read_id(n, cert);
    X509_free(cert);
    return rc;
}

/* --- who may --------------------------------------------------------------------------------------------- */

static bool is_session(const struct named *n, const struct ra_session *s)
{
    char thumbprint[B64URL_LEN(32) + 1];
    b64url_encode(thumbprint, n->session, sizeof n->session);
    return n->has_session && strcmp(thumbprint, ra_session_thumbprint(s)) == 0;
}

static bool is_key(const struct named *n, const struct key *k)
{
    uint8_t hash[32];
    struct bytes spki = key_spki(k);
    return SHA256(spki.p, spki.len, hash) && memcmp(hash, n->key, sizeof hash) == 0;
}

static int check_asker(const struct request *r, const struct named *n, struct err *e)
{
    bool may = !r->session ? is_key(n, r->jws.jwk)
                           : is_session(n, r->session) || (*n->spiffe_id && ra_session_authorized(r->server->ra, r->session,
                                                                                                  n->spiffe_id));
    return may ? 0
               : err_set(e, ERR_UNAUTHORIZED, "revoke-asker",
                         "a certificate is revoked by the account that got it, by one authorized for its ID, or by its own "
                         "key (RFC 8555 §7.6)");
}

/* --- revokeCert -------------------------------------------------------------------------------------------- */

static void revoked(void *arg, const struct ra_revocation *x, const struct err *e)
{
    struct request *r = arg;
    (void)x;
    if (!request_claim(r))
        return;
    if (e)
        request_fail(r, e);
    else
        r->status = 200;
    request_settle(r);
}

void acme_revoke_cert(struct request *r)
{
    struct payload_revoke p;
    struct named n = {0};
    struct err e = {0};
    char actor[sizeof "acme:" + 43];
    if (payload_revoke_parse(&p, r->jws.payload.p, r->jws.payload.len, &e) < 0 || read_cert(r, &n, &p, &e) < 0 ||
        check_asker(r, &n, &e) < 0) {
        request_fail(r, &e);
        return;
    }
    snprintf(actor, sizeof actor, "acme:%s", r->session ? ra_session_thumbprint(r->session) : r->jws.thumbprint);
    const struct ra_revoke want = {.by = TLOG_BY_SERIAL, .value = n.serial, .reason = p.reason, .actor = actor,
                                   .session = n.has_session && !r->session ? n.session : NULL,
                                   .key = p.reason == 1 ? n.key : NULL, .agent = n.agent, .spiffe_id = n.spiffe_id};
    request_ask(r);
    ra_revoke(r->server->ra, &want, revoked, r);
}
