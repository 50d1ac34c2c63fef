#include "base/svid.h"
#include <string.h>

static int refuse(struct err *e, const char *rule, const char *why)
{
    return err_set(e, ERR_UNAUTHORIZED, rule, "%s", why);
}

static const ASN1_IA5STRING *only_uri(const GENERAL_NAMES *names)
{
    const ASN1_IA5STRING *uri = NULL;
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *g = sk_GENERAL_NAME_value(names, i);
        if (g->type != GEN_URI)
            continue;
        if (uri)
            return NULL;
        uri = g->d.uniformResourceIdentifier;
    }
    return uri;
}

/* One URI of at most SPIFFE_ID_MAX bytes, copied; -1: not exactly one. *critical as d2i has it. */
static int read_uri(char *dst, X509 *x, int *critical)
{
    int rc = -1;
    GENERAL_NAMES *names = X509_get_ext_d2i(x, NID_subject_alt_name, critical, NULL);
    const ASN1_IA5STRING *uri = names ? only_uri(names) : NULL;
    int n = uri ? ASN1_STRING_length(uri) : 0;
    if (n > 0 && n <= SPIFFE_ID_MAX && !memchr(ASN1_STRING_get0_data(uri), 0, (size_t)n)) {
        memcpy(dst, ASN1_STRING_get0_data(uri), (size_t)n);
        dst[n] = 0;
        rc = 0;
    }
    GENERAL_NAMES_free(names);
    return rc;
}

int svid_id(char *dst, struct spiffe_id *id, X509 *leaf, struct err *e)
{
    int critical = 0;
    struct err why = {0};
    if (read_uri(dst, leaf, &critical) < 0)
        return refuse(e, "svid-uri", "the certificate has not exactly one URI name (X509-SVID section 2)");
    if (X509_NAME_entry_count(X509_get_subject_name(leaf)) == 0 && !critical)
        return refuse(e, "svid-san",
                      "the certificate has an empty subject and its alternative name is not critical "
                            "(RFC 5280 section 4.2.1.6)");
    if (spiffe_parse(id, dst, strlen(dst), &why) < 0)
        return refuse(e, "svid-uri", why.msg);
    if (id->path.len == 0)
        return refuse(e, "svid-uri", "the certificate names a trust domain, no workload (X509-SVID section 4.1)");
    return 0;
}

int svid_leaf(X509 *leaf, struct err *e)
{
    uint32_t flags = X509_get_extension_flags(leaf), usage = X509_get_key_usage(leaf);
    int at = X509_get_ext_by_NID(leaf, NID_key_usage, -1);
    if (flags & EXFLAG_INVALID)
        return refuse(e, "svid-extensions", "the certificate has a damaged or repeated extension");
    if ((flags & EXFLAG_CA) || X509_check_ca(leaf) != 0)
        return refuse(e, "svid-ca", "the certificate is a CA certificate (X509-SVID section 4.1)");
    if (!(flags & EXFLAG_KUSAGE) || at < 0 || !X509_EXTENSION_get_critical(X509_get_ext(leaf, at)))
        return refuse(e, "svid-usage", "key usage is missing or not critical (X509-SVID section 4.3)");
    if (!(usage & KU_DIGITAL_SIGNATURE) || (usage & (KU_KEY_CERT_SIGN | KU_CRL_SIGN)))
        return refuse(e, "svid-usage",
                            "key usage must have digitalSignature, and neither keyCertSign nor cRLSign (X509-SVID "
                            "section 4.3)");
    uint32_t both = XKU_SSL_SERVER | XKU_SSL_CLIENT;
    if ((flags & EXFLAG_XKUSAGE) && (X509_get_extended_key_usage(leaf) & both) != both)
        return refuse(e, "svid-usage",
                            "extended key usage is there without serverAuth and clientAuth (X509-SVID section 4.4)");
    return 0;
}

int svid_issuing(X509 *issuing, const struct spiffe_id *leaf, struct err *e)
{
    static const char other[] = "the issuing certificate names another SPIFFE ID than the leaf's trust domain (X509-SVID "
                                "section 3.2)";
    char text[SPIFFE_ID_MAX + 1];
    struct spiffe_id id;
    struct err bad = {0};
    if (!(X509_get_extension_flags(issuing) & EXFLAG_KUSAGE) || !(X509_get_key_usage(issuing) & KU_KEY_CERT_SIGN))
        return refuse(e, "svid-issuing", "the issuing certificate may not sign certificates (X509-SVID section 4.3)");
    if (X509_get_ext_by_NID(issuing, NID_subject_alt_name, -1) < 0)
        return 0;
    if (read_uri(text, issuing, NULL) < 0 || spiffe_parse(&id, text, strlen(text), &bad) < 0 || id.path.len ||
        !bytes_eq(id.trust_domain, leaf->trust_domain.p, leaf->trust_domain.len))
        return refuse(e, "svid-issuing", other);
    return 0;
}
