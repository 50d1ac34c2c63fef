/* The judgement of an SVID of this authority that somebody shows: x509pop and agent evidence carry one, and
 * a TLS handshake proves the key of one.
 * Order of the checks: form, what the leaf says, chain to the one root; whoever shows it has its key proven by
 * a signature (here: the caller's part) or by TLS (attest_svid). All look at the
 * one X509 object made from chain[0], so the certificate that is checked is the one whose key
 * signed. The chain is short and every certificate bounded before OpenSSL sees it, and OpenSSL
 * verifies from the root downwards, so foreign certificates cost one signature at most. */
#include "attest/kinds.h"
#include "base/spiffe.h"
#include <openssl/err.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

#define CERT_MAX 12288
#define RESERVED "/mayfly"

void shown_free(struct shown *s)
{
    for (size_t i = 0; i < s->n; i++)
        X509_free(s->certs[i]);
    key_free(s->key);
    ERR_clear_error();
}

static X509 *cert_read(struct bytes der)
{
    const unsigned char *p = der.p;
    X509 *x = d2i_X509(NULL, &p, (long)der.len);
    if (x && p == der.p + der.len)
        return x;
    X509_free(x);
    return NULL;
}

/* --- form ---------------------------------------------------------------------------------------- */

static int read_cert(struct shown *p, const json_t *text, struct err *e)
{
    uint8_t der[CERT_MAX];
    long n = json_is_string(text) ? b64url_decode(der, sizeof der, json_string_value(text), json_string_length(text))
                                  : -1;
    X509 *x = n > 0 ? cert_read((struct bytes){der, (size_t)n}) : NULL;
    if (!x)
        return err_set(e, ERR_BAD_EVIDENCE, "evidence-format",
                       "element %zu of \"chain\" is not one DER certificate of at most %d bytes in base64url",
                       p->n, CERT_MAX);
    p->certs[p->n++] = x;
    return 0;
}

static int read_key(struct shown *p, struct err *e)
{
    struct err why = {0};
    EVP_PKEY *pkey = X509_get0_pubkey(p->certs[0]);
    p->key = pkey ? key_from_evp(pkey, &why) : NULL;
    if (!p->key)
        return err_set(e, ERR_BAD_EVIDENCE, "x509pop-key", "the certificate's key is none that an SVID here has");
    return 0;
}

int shown_read(struct shown *p, const json_t *obj, struct err *e)
{
    const json_t *chain = json_object_get(obj, "chain");
    size_t n = json_array_size(chain);
    if (!json_is_array(chain) || n == 0 || n > ATTEST_CHAIN_MAX)
        return err_set(e, ERR_BAD_EVIDENCE, "evidence-format",
                       "\"chain\" must be an array of 1 to %d certificates, the leaf first", ATTEST_CHAIN_MAX);
    for (size_t i = 0; i < n; i++)
        if (read_cert(p, json_array_get(chain, i), e) < 0)
            return -1;
    return read_key(p, e);
}

/* --- what the leaf says -------------------------------------------------------------------------- */

/* Exactly one URI SAN, as X509-SVID section 2 demands; other kinds of names beside it are ignored. */
static int read_spiffe_id(struct attest_result *r, X509 *leaf, struct err *e)
{
    int crit = 0;
    GENERAL_NAMES *names = X509_get_ext_d2i(leaf, NID_subject_alt_name, &crit, NULL);
    size_t uris = 0;
    for (int i = 0; names && i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *g = sk_GENERAL_NAME_value(names, i);
        if (g->type != GEN_URI)
            continue;
        const unsigned char *p = ASN1_STRING_get0_data(g->d.uniformResourceIdentifier);
        size_t len = (size_t)ASN1_STRING_length(g->d.uniformResourceIdentifier);
        uris++;
        if (len == 0 || len >= sizeof r->spiffe_id || memchr(p, 0, len)) {
            uris = 0;
            break;
        }
        memcpy(r->spiffe_id, p, len);
        r->spiffe_id[len] = 0;
    }
    GENERAL_NAMES_free(names);
    if (uris != 1)
        return err_set(e, ERR_BAD_EVIDENCE, "x509pop-id", "the certificate does not have exactly one URI name");
    return 0;
}

static int check_id(const struct attest_result *r, const char *trust_domain, struct err *e)
{
    struct spiffe_id id;
    struct err why = {0};
    size_t n = sizeof RESERVED - 1;
    if (spiffe_parse_workload(&id, r->spiffe_id, strlen(r->spiffe_id), trust_domain, &why) < 0)
        return err_set(e, ERR_BAD_EVIDENCE, "x509pop-id", "the certificate names no workload of ours: %s", why.msg);
    if (id.path.len >= n && memcmp(id.path.p, RESERVED, n) == 0 && (id.path.len == n || id.path.p[n] == '/'))
        return err_set(e, ERR_BAD_EVIDENCE, "x509pop-id",
                       "the authority's own identities (" RESERVED "/) attest nobody");
    return 0;
}

static int check_usage(X509 *leaf, struct err *e)
{
    /* The first call makes OpenSSL read the extensions; what it can not read makes EXFLAG_INVALID. */
    uint32_t flags = X509_get_extension_flags(leaf), ku = X509_get_key_usage(leaf);
    if (flags & (EXFLAG_INVALID | EXFLAG_CA | EXFLAG_SS))
        return err_set(e, ERR_BAD_EVIDENCE, "x509pop-usage",
                       "the certificate is an authority's, self-signed, or not readable; an SVID is needed");
    if (!(flags & EXFLAG_KUSAGE) || !(ku & KU_DIGITAL_SIGNATURE) || ku & (KU_KEY_CERT_SIGN | KU_CRL_SIGN))
        return err_set(e, ERR_BAD_EVIDENCE, "x509pop-usage",
                       "the certificate's keyUsage must have digitalSignature and neither keyCertSign nor cRLSign");
    if (!(flags & EXFLAG_XKUSAGE) || !(X509_get_extended_key_usage(leaf) & XKU_SSL_CLIENT))
        return err_set(e, ERR_BAD_EVIDENCE, "x509pop-usage",
                       "the certificate's extended key usage lacks clientAuth");
    return 0;
}

static int read_times(struct attest_result *r, const X509 *leaf, struct err *e)
{
    struct tm from, to;
    if (ASN1_TIME_to_tm(X509_get0_notBefore(leaf), &from) != 1 || ASN1_TIME_to_tm(X509_get0_notAfter(leaf), &to) != 1)
        return err_set(e, ERR_BAD_EVIDENCE, "x509pop-usage", "the certificate's times can not be read");
    r->not_before = timegm(&from);
    r->not_after = timegm(&to);
    return 0;
}

/* What a revocation may name it by (RFC 5280 section 4.1.2.2: at most 20 octets). */
static int read_names(struct attest_result *r, const struct shown *p, struct err *e)
{
    const ASN1_INTEGER *serial = X509_get0_serialNumber(p->certs[0]);
    const uint8_t *bytes = ASN1_STRING_get0_data(serial);
    size_t n = (size_t)ASN1_STRING_length(serial);
    struct bytes spki = key_spki(p->key);
    char text[HEX_LEN(20) + 1];
    if (n == 0 || n > 20 || ASN1_STRING_type(serial) != V_ASN1_INTEGER)
        return err_set(e, ERR_BAD_EVIDENCE, "x509pop-usage", "the certificate's serial number is not one");
    hex_encode(text, bytes, n);
    snprintf(r->serial, sizeof r->serial, "%s", text + strspn(text, "0"));
    return EVP_Digest(spki.p, spki.len, r->key_sha256, NULL, EVP_sha256(), NULL) == 1
               ? 0
               : err_set(e, ERR_INTERNAL, "crypto", "cannot hash");
}

/* --- chain ------------------------------------------------------------------------- */

static int refuse_chain(X509_STORE_CTX *ctx, struct err *e)
{
    int why = X509_STORE_CTX_get_error(ctx);
    if (why == X509_V_ERR_CERT_HAS_EXPIRED)
        return err_set(e, ERR_BAD_EVIDENCE, "x509pop-expired",
                       "the presented SVID or its issuer has expired; use a join token (mayfly token create)");
    if (why == X509_V_ERR_CERT_NOT_YET_VALID)
        return err_set(e, ERR_BAD_EVIDENCE, "x509pop-not-yet",
                       "the presented SVID is not valid yet; are the clocks right?");
    return err_set(e, ERR_BAD_EVIDENCE, "x509pop-chain",
                   "the presented SVID does not chain to this authority's root: %s",
                   X509_verify_cert_error_string(why));
}

/* Trusted is the root alone; everything else only helps to build the way there. */
static int verify_chain(const struct shown *p, X509 *root, X509 *issuing, int64_t now, struct err *e)
{
    int rc = -1;
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    STACK_OF(X509) *others = sk_X509_new_null();
    bool ok = store && ctx && others && X509_STORE_add_cert(store, root) == 1;
    for (size_t i = 1; ok && i < p->n; i++)
        ok = sk_X509_push(others, p->certs[i]) > 0;
    if (ok && issuing)
        ok = sk_X509_push(others, issuing) > 0;
    if (!ok || X509_STORE_CTX_init(ctx, store, p->certs[0], others) != 1) {
        err_set(e, ERR_INTERNAL, "memory", "out of memory for a certificate chain");
        goto out;
    }
    X509_VERIFY_PARAM *param = X509_STORE_CTX_get0_param(ctx);
    X509_VERIFY_PARAM_set_purpose(param, X509_PURPOSE_ANY);
    X509_VERIFY_PARAM_set_depth(param, ATTEST_CHAIN_MAX - 1);
    X509_VERIFY_PARAM_set_time(param, (time_t)now);
    if (X509_verify_cert(ctx) != 1) {
        refuse_chain(ctx, e);
        goto out;
    }
    STACK_OF(X509) *built = X509_STORE_CTX_get0_chain(ctx);
    int n = sk_X509_num(built);
    if (n < 2 || X509_cmp(sk_X509_value(built, 0), p->certs[0]) != 0 ||
        X509_cmp(sk_X509_value(built, n - 1), root) != 0)
        err_set(e, ERR_BAD_EVIDENCE, "x509pop-chain", "the presented SVID does not chain to this authority's root");
    else
        rc = 0;
out:
    sk_X509_free(others);
    X509_STORE_CTX_free(ctx);
    X509_STORE_free(store);
    return rc;
}

static int check_chain(const struct shown *p, const struct attest_anchor *anchor, int64_t now, struct err *e)
{
    if (!anchor || anchor->root.len == 0)
        return err_set(e, ERR_UNAVAILABLE, "anchor",
                       "the signer has not shown its root certificate yet; try again in a moment");
    X509 *root = cert_read(anchor->root);
    X509 *issuing = anchor->issuing.len ? cert_read(anchor->issuing) : NULL;
    int rc = root ? verify_chain(p, root, issuing, now, e)
                  : err_set(e, ERR_INTERNAL, "anchor", "the authority's own root can not be read");
    X509_free(root);
    X509_free(issuing);
    return rc;
}

/* All but the holder's key. */
int shown_judge(struct attest_result *r, const struct shown *p, const struct attest_anchor *anchor,
                const char *trust_domain, int64_t now, struct err *e)
{
    if (read_spiffe_id(r, p->certs[0], e) < 0 || check_id(r, trust_domain, e) < 0 || check_usage(p->certs[0], e) < 0 ||
        check_chain(p, anchor, now, e) < 0 || read_times(r, p->certs[0], e) < 0)
        return -1;
    return read_names(r, p, e);
}

int shown_take(struct shown *p, const struct bytes *chain, size_t n, struct err *e)
{
    if (n == 0 || n > ATTEST_CHAIN_MAX)
        return err_set(e, ERR_BAD_EVIDENCE, "evidence-format", "a chain of %zu certificates; 1 to %d can be shown", n,
                       ATTEST_CHAIN_MAX);
    for (size_t i = 0; i < n; i++) {
        X509 *x = chain[i].len <= CERT_MAX ? cert_read(chain[i]) : NULL;
        if (!x)
            return err_set(e, ERR_BAD_EVIDENCE, "evidence-format",
                           "certificate %zu of the chain is not one in DER of at most %d bytes", i, CERT_MAX);
        p->certs[p->n++] = x;
    }
    return read_key(p, e);
}

int attest_svid(struct attest_result *r, const struct bytes *chain, size_t n, const struct attest_anchor *anchor,
                const char *trust_domain, int64_t now, struct err *e)
{
    struct shown p = {.n = 0};
    memset(r, 0, sizeof *r);
    r->kind = ATTEST_X509POP;
    int rc = shown_take(&p, chain, n, e);
    if (rc == 0)
        rc = shown_judge(r, &p, anchor, trust_domain, now, e);
    if (rc < 0)
        attest_result_free(r);
    shown_free(&p);
    return rc;
}

/* --- collecting --------------------------------------------------------------------------------- */

int shown_write(struct buf *out, const struct bytes *chain, size_t n, struct err *e)
{
    if (n == 0 || n > ATTEST_CHAIN_MAX)
        return err_set(e, ERR_BAD_EVIDENCE, "evidence-format", "a chain of %zu certificates; 1 to %d can be shown", n,
                       ATTEST_CHAIN_MAX);
    buf_str(out, "\"chain\":[");
    for (size_t i = 0; i < n; i++) {
        buf_str(out, i ? ",\"" : "\"");
        buf_b64url(out, chain[i].p, chain[i].len);
        buf_str(out, "\"");
    }
    buf_str(out, "]");
    return 0;
}
