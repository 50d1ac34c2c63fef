/* Revocation (RFC 5280 section 6.3): the CRL that a certificate names, by the URL of its distribution point, signed
 * by the very certificate that issued it. CRLs come with the bundles; nothing is fetched here. */
#include "base/log.h"
#include "proxy/trust_parts.h"
#include <stdlib.h>
#include <string.h>

/* The first URI of a full name; NULL: none. */
static char *point_url(const DIST_POINT_NAME *name)
{
    if (!name || name->type != 0)
        return NULL;
    for (int i = 0; i < sk_GENERAL_NAME_num(name->name.fullname); i++) {
        const GENERAL_NAME *g = sk_GENERAL_NAME_value(name->name.fullname, i);
        if (g->type != GEN_URI)
            continue;
        const ASN1_IA5STRING *s = g->d.uniformResourceIdentifier;
        int n = ASN1_STRING_length(s);
        if (n > 0 && n < 4096 && !memchr(ASN1_STRING_get0_data(s), 0, (size_t)n))
            return strndup((const char *)ASN1_STRING_get0_data(s), (size_t)n);
    }
    return NULL;
}

char *crl_url_of(X509 *leaf)
{
    char *url = NULL;
    CRL_DIST_POINTS *points = X509_get_ext_d2i(leaf, NID_crl_distribution_points, NULL, NULL);
    for (int i = 0; points && !url && i < sk_DIST_POINT_num(points); i++)
        url = point_url(sk_DIST_POINT_value(points, i)->distpoint);
    /* Named, but not in a way we can look up: an empty name finds no CRL. */
    if (!url && X509_get_ext_by_NID(leaf, NID_crl_distribution_points, -1) >= 0)
        url = strdup("");
    CRL_DIST_POINTS_free(points);
    return url;
}

/* Section 5.2: a critical extension that we do not process makes the CRL useless. Of the issuing distribution
 * point we process the name, and "user certificates only", which leaves are. */
static bool extensions_known(const X509_CRL *x, char **url)
{
    *url = NULL;
    for (int i = 0; i < X509_CRL_get_ext_count(x); i++) {
        X509_EXTENSION *ext = X509_CRL_get_ext(x, i);
        if (X509_EXTENSION_get_critical(ext) &&
            OBJ_obj2nid(X509_EXTENSION_get_object(ext)) != NID_issuing_distribution_point)
            return false;
    }
    int critical;
    ISSUING_DIST_POINT *p = X509_CRL_get_ext_d2i(x, NID_issuing_distribution_point, &critical, NULL);
    if (!p)
        return critical == -1; /* absent; anything else is damaged or there twice */
    bool ours = p->onlyCA <= 0 && p->indirectCRL <= 0 && p->onlyattr <= 0 && !p->onlysomereasons;
    if (ours)
        *url = point_url(p->distpoint);
    ours = ours && (*url || !p->distpoint);
    ISSUING_DIST_POINT_free(p);
    return ours;
}

static bool crl_read(struct crl *c, const struct buf *der)
{
    const unsigned char *at = der->p;
    *c = (struct crl){0};
    if (der->len == 0 || der->len > INT32_MAX)
        return false;
    c->x = d2i_X509_CRL(NULL, &at, (long)der->len);
    if (c->x && at == der->p + der->len && extensions_known(c->x, &c->url)) {
        c->from = cert_time(X509_CRL_get0_lastUpdate(c->x));
        c->until = cert_time(X509_CRL_get0_nextUpdate(c->x));
        if (c->from >= 0 && c->until >= 0)
            return true;
    }
    X509_CRL_free(c->x);
    free(c->url);
    *c = (struct crl){0};
    return false;
}

int crls_load(struct trust *t, const struct wl_bundles *b, struct err *e)
{
    size_t n = b->crls_count < TRUST_CRLS_MAX ? b->crls_count : TRUST_CRLS_MAX;
    if (b->crls_count > n)
        log_warn("more CRLs than are kept: certificates that name the others are refused", "crls",
                 log_num((long long)b->crls_count), "kept", log_num(TRUST_CRLS_MAX), NULL);
    t->crls = n ? calloc(n, sizeof *t->crls) : NULL;
    if (n && !t->crls)
        return err_set(e, ERR_INTERNAL, "memory", "out of memory");
    for (size_t i = 0; i < n; i++) {
        if (crl_read(&t->crls[t->crls_count], &b->crls[i]))
            t->crls_count++;
        else
            log_warn("a CRL is damaged or of a kind that is not understood; certificates that name it are refused", NULL);
    }
    return 0;
}

void crls_free(struct trust *t)
{
    for (size_t i = 0; i < t->crls_count; i++) {
        X509_CRL_free(t->crls[i].x);
        X509_free(t->crls[i].verified_by);
        free(t->crls[i].url);
    }
    free(t->crls);
}

/* Under the lock. Signed by this issuing certificate, which may sign CRLs (section 6.3.3 (f), (g)). */
static bool signed_by(struct crl *c, X509 *issuing)
{
    if (c->verified_by && X509_cmp(c->verified_by, issuing) == 0)
        return true;
    if (X509_NAME_cmp(X509_CRL_get_issuer(c->x), X509_get_subject_name(issuing)) != 0)
        return false;
    if ((X509_get_extension_flags(issuing) & EXFLAG_KUSAGE) && !(X509_get_key_usage(issuing) & KU_CRL_SIGN))
        return false;
    EVP_PKEY *k = X509_get0_pubkey(issuing);
    if (!k || X509_CRL_verify(c->x, k) != 1)
        return false;
    X509_free(c->verified_by);
    X509_up_ref(issuing);
    c->verified_by = issuing;
    return true;
}

/* Under the lock. The newest that covers p now; a CRL without a distribution point covers all of its issuer's. */
static struct crl *find(struct trust *t, const struct peer *p, int64_t now)
{
    struct crl *found = NULL;
    for (size_t i = 0; i < t->crls_count; i++) {
        struct crl *c = &t->crls[i];
        if ((c->url && strcmp(c->url, p->crl_url) != 0) || now < c->from || now >= c->until ||
            (found && found->from >= c->from))
            continue;
        if (signed_by(c, p->issuing))
            found = c;
    }
    return found;
}

static bool on_list(struct crl *c, const struct peer *p)
{
    X509_REVOKED *r = NULL; /* 2: removeFromCRL, which only delta CRLs have */
    return X509_CRL_get0_by_serial(c->x, &r, p->serial) == 1;
}

int crls_check(struct trust *t, struct peer *p, bool optional, int64_t now, struct err *e)
{
    if (!p->crl_url)
        return 0;
    int rc = 0;
    pthread_mutex_lock(&t->lock);
    struct crl *c = find(t, p, now);
    if (c && on_list(c, p)) {
        rc = trust_refuse(e, "revoked", "the peer's certificate is revoked");
    } else if (c) {
        p->not_after = c->until - 1 < p->not_after ? c->until - 1 : p->not_after;
    } else if (!optional) {
        rc = err_set(e, ERR_UNAUTHORIZED, "crl-missing",
                     "the peer's certificate names the CRL %.200s, and no valid one came with the bundle: is the agent "
                     "connected to the authority? (crl_optional lets such peers in)",
                     p->crl_url);
    }
    pthread_mutex_unlock(&t->lock);
    return rc;
}

bool trust_revoked(struct trust *t, const struct peer *p)
{
    bool revoked = false;
    if (!p->crl_url)
        return false;
    pthread_mutex_lock(&t->lock);
    for (size_t i = 0; i < t->crls_count && !revoked; i++) {
        struct crl *c = &t->crls[i];
        if (!c->url || strcmp(c->url, p->crl_url) == 0)
            revoked = signed_by(c, p->issuing) && on_list(c, p);
    }
    pthread_mutex_unlock(&t->lock);
    return revoked;
}
