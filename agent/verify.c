/* What is believed of a certificate before it is written. In this order:
 *   1. it is a leaf and its issuing certificate, and the leaf's key is ours;
 *   2. leaf, issuing, root: the chain verifies now, to a root that was trusted before (verify_chain.c);
 *   3. the leaf is an X509-SVID of exactly the SPIFFE ID asked for (X509-SVID §2 to §5);
 *   4. the log that the issuing certificate names proves that the leaf stands in it.
 * Every refusal is ERR_CORRUPT and keeps the rule that was broken.
 */
#include "agent/internal.h"
#include "base/svid.h"
#include <openssl/err.h>
#include <string.h>

static int refuse(struct err *e, const char *rule, const char *why)
{
    return err_set(e, ERR_CORRUPT, rule, "%s", why);
}

/* --- 1: shape and key ---------------------------------------------------------------------------- */

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

/* --- 3: X509-SVID -------------------------------------------------------------------------------- */

static int check_svid(struct agent_verified *v, X509 *leaf, X509 *issuing, const char *spiffe_id,
                      struct err *e)
{
    char named[SPIFFE_ID_MAX + 1];
    struct spiffe_id id;
    if (spiffe_parse(&id, spiffe_id, strlen(spiffe_id), e) < 0)
        return -1;
    if (id.path.len == 0 || strlen(spiffe_id) >= sizeof v->spiffe_id)
        return refuse(e, "spiffe-id", "the SPIFFE ID asked for names no workload");
    if (svid_id(named, &id, leaf, e) < 0)
        return -1;
    if (strcmp(named, spiffe_id) != 0)
        return refuse(e, "svid-id", "the certificate names another SPIFFE ID than the one asked for");
    if (svid_leaf(leaf, e) < 0 || svid_issuing(issuing, &id, e) < 0)
        return -1;
    strcpy(v->spiffe_id, spiffe_id);
    v->not_before = x509_time(X509_get0_notBefore(leaf));
    v->not_after = x509_time(X509_get0_notAfter(leaf));
    if (cert_id_write(v->cert_id, leaf) < 0)
        v->cert_id[0] = 0;
    return 0;
}

/* --- 4: log -------------------------------------------------------------------------------------- */

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
            rc = verify_chain(trust, leaf, issuing, now, e);
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
