/* What is believed of a certificate before it is written. In this order:
 *   1. it is a leaf and its issuing certificate, and the leaf's key is ours;
 *   2. leaf, issuing, root: the chain verifies now, to a root that was trusted before;
 *   3. the leaf is an X509-SVID of exactly the SPIFFE ID asked for (X509-SVID §2 to §5);
 *   4. the log that the issuing certificate names proves that the leaf stands in it.
 * Every refusal is ERR_CORRUPT and keeps the rule that was broken.
 */
#include "agent/internal.h"
#include "base/spiffe.h"
#include <openssl/err.h>
#include <string.h>

static int refuse(struct err *e, const char *rule, const char *why)
{
    return err_set(e, ERR_CORRUPT, rule, "%s", why);
}

/* --- 1: shape and key
 * -------------------------------------------------------------------------------- */

static int check_key(X509 *leaf, const struct key *k, struct err *e)
{
    unsigned char *der = NULL;
    struct bytes ours = key_spki(k);
    int n = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(leaf), &der);
    bool same = n > 0 && (size_t)n == ours.len && memcmp(der, ours.p, ours.len) == 0;
    OPENSSL_free(der);
    return same ? 0
                : refuse(e, "svid-key",
                         "the certificate is for another key than the one made for this request");
}

/* --- 2: chain
 * ------------------------------------------------------------------------------------------ */

static int check_chain(const struct agent_trust *trust, X509 *leaf, X509 *issuing, int64_t now,
                       struct err *e)
{
    STACK_OF(X509) *roots = NULL, *untrusted = sk_X509_new_null(), *chain = NULL;
    int rc = -1;
    if (!untrusted || !sk_X509_push(untrusted, issuing)) {
        err_set(e, ERR_INTERNAL, "memory", "out of memory");
    } else if (agent_trust_roots(trust, &roots, e) == 0) {
        struct x509_check q = {.leaf = leaf, .untrusted = untrusted, .roots = roots, .now = now};
        rc = x509_verify(&q, &chain, e);
    }
    /* The log is named by the issuing certificate: it must be the one that really signed. */
    if (rc == 0 && (sk_X509_num(chain) != 3 || X509_cmp(sk_X509_value(chain, 1), issuing) != 0))
        rc = refuse(e, "chain", "the chain is not leaf, issuing certificate, root");
    sk_X509_pop_free(chain, X509_free);
    sk_X509_pop_free(roots, X509_free);
    sk_X509_free(untrusted); /* issuing is the caller's */
    return rc;
}

/* --- 3: X509-SVID
 * ---------------------------------------------------------------------------------------- */

static int check_san(X509 *leaf, const char *spiffe_id, struct err *e)
{
    struct bytes uri = {NULL, 0};
    int critical = 0, rc = 0;
    GENERAL_NAMES *names = X509_get_ext_d2i(leaf, NID_subject_alt_name, &critical, NULL);
    if (!names)
        rc = refuse(e, "svid-uri",
                    "the certificate has no, a damaged, or more than one subject alternative name "
                    "extension");
    else if (x509_only_uri(names, &uri) < 0)
        rc = refuse(e, "svid-uri",
                    "the certificate has not exactly one URI name (X509-SVID section 2)");
    else if (!bytes_eq_str(uri, spiffe_id))
        rc = refuse(e, "svid-id", "the certificate names another SPIFFE ID than the one asked for");
    else if (X509_NAME_entry_count(X509_get_subject_name(leaf)) == 0 && !critical)
        rc = refuse(e, "svid-san",
                    "the subject is empty and its alternative name is not critical (RFC 5280 "
                    "section 4.2.1.6)");
    GENERAL_NAMES_free(names);
    return rc;
}

static int check_usage(X509 *leaf, struct err *e)
{
    uint32_t flags = X509_get_extension_flags(leaf), usage = X509_get_key_usage(leaf),
             extended = X509_get_extended_key_usage(leaf);
    int at = X509_get_ext_by_NID(leaf, NID_key_usage, -1);
    if (flags & EXFLAG_INVALID)
        return refuse(e, "svid-extensions", "the certificate has a damaged or repeated extension");
    if ((flags & EXFLAG_CA) || X509_check_ca(leaf) != 0)
        return refuse(e, "svid-ca", "the certificate is a CA certificate (X509-SVID section 4.1)");
    if (!(flags & EXFLAG_KUSAGE) || at < 0 || !X509_EXTENSION_get_critical(X509_get_ext(leaf, at)))
        return refuse(e, "svid-usage",
                      "key usage is missing or not critical (X509-SVID section 4.3)");
    if (!(usage & KU_DIGITAL_SIGNATURE) || (usage & (KU_KEY_CERT_SIGN | KU_CRL_SIGN)))
        return refuse(e, "svid-usage",
                      "key usage must have digitalSignature, and neither keyCertSign nor cRLSign "
                      "(X509-SVID section 4.3)");
    if ((flags & EXFLAG_XKUSAGE) &&
        (extended & (XKU_SSL_SERVER | XKU_SSL_CLIENT)) != (XKU_SSL_SERVER | XKU_SSL_CLIENT))
        return refuse(e, "svid-usage",
                      "extended key usage is there without serverAuth and clientAuth (X509-SVID "
                      "section 4.4)");
    return 0;
}

/* A signing certificate's own SPIFFE ID, if any, is a trust domain: the leaf's (X509-SVID §3.2). */
static int check_issuing(X509 *issuing, const struct spiffe_id *leaf, struct err *e)
{
    struct bytes uri = {NULL, 0};
    struct spiffe_id id;
    struct err bad;
    int rc = 0, at = X509_get_ext_by_NID(issuing, NID_subject_alt_name, -1);
    if (!(X509_get_extension_flags(issuing) & EXFLAG_KUSAGE) ||
        !(X509_get_key_usage(issuing) & KU_KEY_CERT_SIGN))
        return refuse(e, "svid-issuing",
                      "the issuing certificate may not sign certificates (X509-SVID section 4.3)");
    if (at < 0)
        return 0;
    GENERAL_NAMES *names = X509_get_ext_d2i(issuing, NID_subject_alt_name, NULL, NULL);
    if (!names || x509_only_uri(names, &uri) < 0 ||
        spiffe_parse(&id, (const char *)uri.p, uri.len, &bad) < 0 || id.path.len ||
        !bytes_eq(id.trust_domain, leaf->trust_domain.p, leaf->trust_domain.len))
        rc = refuse(e, "svid-issuing",
                    "the issuing certificate names another SPIFFE ID than the leaf's trust domain "
                    "(X509-SVID section 3.2)");
    GENERAL_NAMES_free(names);
    return rc;
}

static int check_svid(struct agent_verified *v, X509 *leaf, X509 *issuing, const char *spiffe_id,
                      struct err *e)
{
    struct spiffe_id id;
    if (spiffe_parse(&id, spiffe_id, strlen(spiffe_id), e) < 0)
        return -1;
    if (id.path.len == 0 || strlen(spiffe_id) >= sizeof v->spiffe_id)
        return refuse(e, "spiffe-id", "the SPIFFE ID asked for names no workload");
    if (check_san(leaf, spiffe_id, e) < 0 || check_usage(leaf, e) < 0 ||
        check_issuing(issuing, &id, e) < 0)
        return -1;
    strcpy(v->spiffe_id, spiffe_id);
    v->not_before = x509_time(X509_get0_notBefore(leaf));
    v->not_after = x509_time(X509_get0_notAfter(leaf));
    return 0;
}

/* --- 4: log
 * ------------------------------------------------------------------------------------------------
 */

static int check_log(struct agent_verified *v, X509 *leaf, X509 *issuing, struct err *e)
{
    struct buf der;
    struct tlog_vkey log = {0};
    buf_init(&der, CHAIN_PEM_MAX);
    int rc = x509_to_der(&der, issuing, e);
    if (rc == 0)
        rc = tlog_binding_from_cert(&log, der.p, der.len, e);
    buf_reset(&der);
    if (rc == 0)
        rc = x509_to_der(&der, leaf, e);
    if (rc == 0)
        rc = tlog_cert_verify(der.p, der.len, &log, &v->proven, e);
    if (rc == 0)
        memcpy(v->log_origin, log.name, sizeof v->log_origin);
    tlog_vkey_free(&log);
    buf_free(&der);
    return rc;
}

int agent_verify(struct agent_verified *v, const struct agent_trust *trust,
                 const struct acme_identity *i, const char *spiffe_id, int64_t now, struct err *e)
{
    STACK_OF(X509) *list = NULL;
    memset(v, 0, sizeof *v);
    int rc = x509_from_pem(&list, i->chain_pem.p, i->chain_pem.len, CHAIN_CERTS_MAX, e);
    if (rc == 0 && sk_X509_num(list) != 2)
        rc = refuse(e, "chain", "the answer is not two certificates, leaf and issuing");
    if (rc == 0) {
        X509 *leaf = sk_X509_value(list, 0), *issuing = sk_X509_value(list, 1);
        rc = check_key(leaf, i->key, e);
        if (rc == 0)
            rc = check_chain(trust, leaf, issuing, now, e);
        if (rc == 0)
            rc = check_svid(v, leaf, issuing, spiffe_id, e);
        if (rc == 0)
            rc = check_log(v, leaf, issuing, e);
    }
    sk_X509_pop_free(list, X509_free);
    ERR_clear_error();
    if (rc < 0) {
        memset(v, 0, sizeof *v);
        if (e->code != ERR_INTERNAL)
            e->code = ERR_CORRUPT;
        err_wrap(e, "the certificate for %.200s is refused and nothing was written", spiffe_id);
    }
    return rc;
}
