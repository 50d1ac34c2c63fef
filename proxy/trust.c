#include "proxy/trust.h"
#include "proxy/trust_parts.h"
#include <openssl/err.h>
#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

int trust_refuse(struct err *e, const char *rule, const char *why)
{
    return err_set(e, ERR_UNAUTHORIZED, rule, "%s", why);
}

int64_t cert_time(const ASN1_TIME *t)
{
    struct tm tm;
    if (!t || ASN1_TIME_to_tm(t, &tm) != 1)
        return -1;
    return (int64_t)timegm(&tm);
}

static int cert_hash(uint8_t dst[32], const X509 *x)
{
    unsigned n = 0;
    return X509_digest(x, EVP_sha256(), dst, &n) == 1 && n == 32 ? 0 : -1;
}

/* --- making one ------------------------------------------------------------------------------------------- */

static int domain_load(struct domain *d, const struct wl_bundle *b, struct err *e)
{
    const unsigned char *at = b->x509.p, *end = at ? at + b->x509.len : at;
    d->name = strdup(b->trust_domain);
    d->roots = sk_X509_new_null();
    if (!d->name || !d->roots)
        return err_set(e, ERR_INTERNAL, "memory", "out of memory");
    while (at < end) {
        X509 *x = sk_X509_num(d->roots) < TRUST_ROOTS_MAX ? d2i_X509(NULL, &at, end - at) : NULL;
        if (!x || !sk_X509_push(d->roots, x)) {
            X509_free(x);
            ERR_clear_error();
            return err_set(e, ERR_MALFORMED, "bundle", "the bundle of %.200s is no list of at most %d DER certificates",
                           b->trust_domain, TRUST_ROOTS_MAX);
        }
        X509_check_ca(x); /* reads its extensions now, so that threads find them */
    }
    return 0;
}

struct trust *trust_new(const struct wl_bundles *b, struct err *e)
{
    static atomic_uint_fast64_t generations;
    struct trust *t = calloc(1, sizeof *t);
    int rc = 0;
    if (!t || !(t->domains = calloc(b->n ? b->n : 1, sizeof *t->domains))) {
        free(t);
        err_set(e, ERR_INTERNAL, "memory", "out of memory");
        return NULL;
    }
    pthread_mutex_init(&t->lock, NULL);
    t->generation = atomic_fetch_add(&generations, 1) + 1;
    if (b->n == 0 || b->n > TRUST_DOMAINS_MAX)
        rc = err_set(e, ERR_MALFORMED, "bundle", "%zu bundles; 1 to %d are understood", b->n, TRUST_DOMAINS_MAX);
    for (size_t i = 0; rc == 0 && i < b->n; i++, t->domains_count++)
        rc = domain_load(&t->domains[i], &b->list[i], e);
    if (rc == 0)
        rc = crls_load(t, b, e);
    if (rc == 0)
        return t;
    trust_free(t);
    return NULL;
}

void trust_free(struct trust *t)
{
    if (!t)
        return;
    for (size_t i = 0; i < t->domains_count; i++) {
        free(t->domains[i].name);
        sk_X509_pop_free(t->domains[i].roots, X509_free);
    }
    for (unsigned i = 0; i < t->issuers_count; i++)
        X509_free(t->issuers[i].x);
    crls_free(t);
    free(t->domains);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

unsigned trust_remembered(struct trust *t)
{
    pthread_mutex_lock(&t->lock);
    unsigned n = t->issuers_count;
    pthread_mutex_unlock(&t->lock);
    return n;
}

static struct domain *domain_find(struct trust *t, const struct spiffe_id *id)
{
    for (size_t i = 0; i < t->domains_count; i++)
        if (bytes_eq_str(id->trust_domain, t->domains[i].name))
            return &t->domains[i];
    return NULL;
}

/* --- peers and verdicts --------------------------------------------------------------------------------------- */

static struct peer *peer_ref(struct peer *p)
{
    p->refs++;
    return p;
}

void peer_unref(struct peer *p)
{
    if (!p || --p->refs)
        return;
    X509_free(p->issuing);
    ASN1_INTEGER_free(p->serial);
    free(p->id);
    free(p->crl_url);
    free(p);
}

/* Two places for each hash; the older of them makes room. */
struct verdicts {
    uint64_t generation;
    struct {
        uint8_t key[32];
        struct peer *peer; /* owned reference */
        bool server;
    } slots[VERDICTS_SLOTS];
    struct checkpoints checkpoints;
};

struct verdicts *verdicts_new(void)
{
    return calloc(1, sizeof(struct verdicts));
}

static void verdicts_clear(struct verdicts *v)
{
    for (unsigned i = 0; i < VERDICTS_SLOTS; i++) {
        peer_unref(v->slots[i].peer);
        v->slots[i].peer = NULL;
    }
}

void verdicts_free(struct verdicts *v)
{
    if (v)
        verdicts_clear(v);
    free(v);
}

static unsigned slot_of(const uint8_t key[32])
{
    return ((unsigned)key[0] << 8 | key[1]) % (VERDICTS_SLOTS / 2) * 2;
}

static struct peer *verdict_find(const struct verdicts *v, const uint8_t key[32], bool server)
{
    for (unsigned i = slot_of(key), end = i + 2; i < end; i++)
        if (v->slots[i].peer && v->slots[i].server == server && memcmp(v->slots[i].key, key, 32) == 0)
            return v->slots[i].peer;
    return NULL;
}

static void verdict_keep(struct verdicts *v, const uint8_t key[32], bool server, struct peer *p)
{
    unsigned i = slot_of(key);
    peer_unref(v->slots[i + 1].peer);
    v->slots[i + 1] = v->slots[i];
    memcpy(v->slots[i].key, key, 32);
    v->slots[i].server = server;
    v->slots[i].peer = peer_ref(p);
}

/* --- the path ------------------------------------------------------------------------------------------------ */

static int path_failed(X509_STORE_CTX *ctx, struct err *e)
{
    int why = X509_STORE_CTX_get_error(ctx), depth = X509_STORE_CTX_get_error_depth(ctx);
    const char *text = X509_verify_cert_error_string(why);
    bool time = why == X509_V_ERR_CERT_NOT_YET_VALID || why == X509_V_ERR_CERT_HAS_EXPIRED;
    return err_set(e, ERR_UNAUTHORIZED, time ? "chain-time" : "chain", "the peer's chain does not verify: %s (certificate %d of it)",
                   text, depth + 1);
}

/* *path: owned by the caller. With an anchor that is no root, the path ends there. */
static int path_verify(STACK_OF(X509) **path, const struct question *q, STACK_OF(X509) *untrusted, STACK_OF(X509) *anchors,
                       bool partial, struct err *e)
{
    int rc = -1;
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    *path = NULL;
    ERR_clear_error();
    if (!ctx || X509_STORE_CTX_init(ctx, NULL, q->leaf, untrusted) != 1) {
        err_set(e, ERR_INTERNAL, "memory", "out of memory");
        goto done;
    }
    X509_VERIFY_PARAM *p = X509_STORE_CTX_get0_param(ctx);
    X509_STORE_CTX_set0_trusted_stack(ctx, anchors);
    X509_VERIFY_PARAM_set_depth(p, TRUST_CHAIN_MAX);
    X509_VERIFY_PARAM_set_auth_level(p, 2);
    X509_VERIFY_PARAM_set_time(p, (time_t)q->now);
    X509_VERIFY_PARAM_set_purpose(p, q->server ? X509_PURPOSE_SSL_SERVER : X509_PURPOSE_SSL_CLIENT);
    X509_VERIFY_PARAM_set_flags(p, X509_V_FLAG_POLICY_CHECK | (partial ? X509_V_FLAG_PARTIAL_CHAIN : 0));
    if (X509_verify_cert(ctx) != 1)
        path_failed(ctx, e);
    else if (!(*path = X509_STORE_CTX_get1_chain(ctx)))
        err_set(e, ERR_INTERNAL, "memory", "out of memory");
    else
        rc = 0;
done:
    X509_STORE_CTX_free(ctx);
    ERR_clear_error();
    return rc;
}

/* Owned reference, or NULL: none that was sent and is remembered issued this leaf. */
static X509 *remembered(struct trust *t, const struct domain *d, const struct question *q, int64_t *from,
                        int64_t *until)
{
    X509 *found = NULL;
    uint8_t hash[32];
    for (int i = 0; i < sk_X509_num(q->chain) && !found; i++) {
        X509 *x = sk_X509_value(q->chain, i);
        if (X509_check_issued(x, q->leaf) != X509_V_OK || cert_hash(hash, x) < 0)
            continue;
        pthread_mutex_lock(&t->lock);
        for (unsigned k = 0; k < t->issuers_count && !found; k++) {
            struct issuer *s = &t->issuers[k];
            if (s->domain == d && s->server == q->server && memcmp(s->hash, hash, 32) == 0 &&
                q->now >= s->not_before && q->now <= s->not_after) {
                found = s->x;
                X509_up_ref(found);
                *from = s->not_before;
                *until = s->not_after;
            }
        }
        pthread_mutex_unlock(&t->lock);
    }
    return found;
}

static void remember(struct trust *t, const struct domain *d, X509 *issuing, bool server, int64_t from, int64_t until)
{
    struct issuer s = {.x = issuing, .domain = d, .server = server, .not_before = from, .not_after = until};
    if (cert_hash(s.hash, issuing) < 0)
        return;
    pthread_mutex_lock(&t->lock);
    bool there = t->issuers_count == TRUST_ISSUERS_MAX;
    for (unsigned i = 0; i < t->issuers_count && !there; i++)
        there = t->issuers[i].domain == d && t->issuers[i].server == server && memcmp(t->issuers[i].hash, s.hash, 32) == 0;
    if (!there && X509_up_ref(issuing))
        t->issuers[t->issuers_count++] = s;
    pthread_mutex_unlock(&t->lock);
}

static void narrow(int64_t *from, int64_t *until, const X509 *x)
{
    int64_t a = cert_time(X509_get0_notBefore(x)), b = cert_time(X509_get0_notAfter(x));
    *from = a > *from ? a : *from;
    *until = b < *until ? b : *until;
}

/* The whole way to a root of the peer's trust domain. */
static int path_whole(struct trust *t, struct domain *d, struct peer *p, const struct question *q, struct err *e)
{
    STACK_OF(X509) *path;
    int64_t from = INT64_MIN, until = INT64_MAX;
    bool constrained = false;
    if (path_verify(&path, q, q->chain, d->roots, false, e) < 0)
        return -1;
    int n = sk_X509_num(path);
    if (n < 2) { /* a root of the bundle as a leaf; svid_leaf refused it already */
        sk_X509_pop_free(path, X509_free);
        return trust_refuse(e, "chain", "the peer's certificate was issued by nobody");
    }
    for (int i = 1; i < n; i++) {
        X509 *x = sk_X509_value(path, i);
        narrow(&from, &until, x);
        /* Of an anchor OpenSSL heeds name constraints, but not what it says of policies. */
        constrained |= (i > 1 && X509_get_ext_by_NID(x, NID_name_constraints, -1) >= 0) ||
                       X509_get_ext_by_NID(x, NID_policy_constraints, -1) >= 0;
    }
    p->issuing = sk_X509_value(path, 1);
    X509_up_ref(p->issuing);
    p->not_before = from;
    p->not_after = until;
    if (n > 2 && !constrained)
        remember(t, d, p->issuing, q->server, from, until);
    sk_X509_pop_free(path, X509_free);
    return 0;
}

static int path_short(struct peer *p, const struct question *q, X509 *issuing, struct err *e)
{
    STACK_OF(X509) *path = NULL, *anchor = sk_X509_new_null();
    int rc = -1;
    if (!anchor || !sk_X509_push(anchor, issuing))
        err_set(e, ERR_INTERNAL, "memory", "out of memory");
    else
        rc = path_verify(&path, q, NULL, anchor, true, e);
    /* Nothing else may have been believed: leaf, issuing. */
    if (rc == 0 && (sk_X509_num(path) != 2 || X509_cmp(sk_X509_value(path, 1), issuing) != 0))
        rc = trust_refuse(e, "chain", "the peer's certificate was not issued by the certificate that it came with");
    if (rc == 0) {
        X509_up_ref(issuing);
        p->issuing = issuing;
    }
    sk_X509_pop_free(path, X509_free);
    sk_X509_free(anchor);
    return rc;
}

static int path_judge(struct trust *t, struct domain *d, struct peer *p, const struct question *q, struct err *e)
{
    X509 *issuing = remembered(t, d, q, &p->not_before, &p->not_after);
    int rc = issuing ? path_short(p, q, issuing, e) : path_whole(t, d, p, q, e);
    X509_free(issuing);
    narrow(&p->not_before, &p->not_after, q->leaf);
    return rc;
}

/* --- the judgement -------------------------------------------------------------------------------------------- */

static int judge(struct trust *t, struct peer *p, struct checkpoints *kept, const struct question *q, struct err *e)
{
    char text[SPIFFE_ID_MAX + 1];
    struct spiffe_id id;
    if (svid_id(text, &id, q->leaf, e) < 0 || svid_leaf(q->leaf, e) < 0)
        return -1;
    p->id = strdup(text);
    p->serial = ASN1_INTEGER_dup(X509_get0_serialNumber(q->leaf));
    p->crl_url = crl_url_of(q->leaf);
    if (!p->id || !p->serial)
        return err_set(e, ERR_INTERNAL, "memory", "out of memory");
    struct domain *d = domain_find(t, &id);
    if (!d)
        return err_set(e, ERR_UNAUTHORIZED, "trust-domain",
                       "no bundle of the trust domain %.*s: the peer is foreign, and its trust domain is not federated with "
                       "ours",
                       (int)id.trust_domain.len, (const char *)id.trust_domain.p);
    if (path_judge(t, d, p, q, e) < 0 || svid_issuing(p->issuing, &id, e) < 0 ||
        crls_check(t, p, q->crl_optional, q->now, e) < 0)
        return -1;
    return q->proof ? proof_check(p, kept, q->leaf, p->issuing, e) : 0;
}

static int sizes(const struct question *q, struct err *e)
{
    if (sk_X509_num(q->chain) > TRUST_CHAIN_MAX)
        return err_set(e, ERR_TOO_LARGE, "chain-size", "the peer sent %d certificates; at most %d are looked at",
                       sk_X509_num(q->chain), TRUST_CHAIN_MAX);
    return 0;
}

/* Its verdict, known already and still good for what is asked; NULL: it is to be judged. */
static struct peer *known(struct verdicts *v, const uint8_t key[32], const struct question *q)
{
    struct peer *p = verdict_find(v, key, q->server);
    struct err why;
    if (!p || q->now < p->not_before || q->now > p->not_after)
        return NULL;
    if (q->proof && !p->proven && proof_check(p, &v->checkpoints, q->leaf, p->issuing, &why) < 0)
        return NULL;
    return p;
}

struct peer *trust_judge(struct trust *t, struct verdicts *v, const struct question *q, struct err *e)
{
    uint8_t key[32];
    if (sizes(q, e) < 0)
        return NULL;
    if (cert_hash(key, q->leaf) < 0) {
        err_set(e, ERR_INTERNAL, "memory", "out of memory");
        return NULL;
    }
    if (v->generation != t->generation) {
        verdicts_clear(v);
        v->generation = t->generation;
    }
    struct peer *p = known(v, key, q);
    if (p)
        return peer_ref(p);
    p = calloc(1, sizeof *p);
    if (!p) {
        err_set(e, ERR_INTERNAL, "memory", "out of memory");
        return NULL;
    }
    p->refs = 1;
    if (judge(t, p, &v->checkpoints, q, e) < 0) {
        peer_unref(p);
        return NULL;
    }
    /* Who came in without the CRL it names was let in by one listener's option: not a verdict for all. */
    if (!q->crl_optional || !p->crl_url)
        verdict_keep(v, key, q->server, p);
    return p;
}
