/* Leaf, issuing certificate, root. The way from the issuing certificate to a root is the same for every renewal and
 * dear (P-384): a pair of issuing certificate and set of roots that was found good once is believed until one of them
 * expires or the roots change. The leaf is then verified against that very issuing certificate, no less strictly:
 * signature, times, CA and path length of the issuing certificate, its name constraints. */
#include "agent/internal.h"
#include <openssl/sha.h>
#include <pthread.h>
#include <string.h>

#define PAIRS 8

struct pair {
    uint8_t issuing[32], roots[32]; /* SHA-256 */
    int64_t from, until;            /* wall seconds, both included; until 0: an empty place */
};
static struct {
    pthread_mutex_t lock; /* guards the rest */
    struct pair list[PAIRS];
    unsigned next;
    unsigned long whole;
} good = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* False: it can not be told from others. */
static bool pair_of(struct pair *p, const struct agent_trust *trust, X509 *issuing)
{
    static const uint8_t none[32];
    *p = (struct pair){.from = INT64_MIN, .until = INT64_MAX};
    x509_sha256(p->issuing, issuing);
    SHA256(trust->roots_pem.p, trust->roots_pem.len, p->roots);
    return trust->roots_pem.len > 0 && memcmp(p->issuing, none, sizeof none) != 0;
}

static bool was_good(const struct pair *p, int64_t now)
{
    bool was = false;
    pthread_mutex_lock(&good.lock);
    for (unsigned i = 0; i < PAIRS && !was; i++) {
        const struct pair *x = &good.list[i];
        was = x->until > 0 && memcmp(x->issuing, p->issuing, 32) == 0 && memcmp(x->roots, p->roots, 32) == 0 &&
              now >= x->from && now <= x->until;
    }
    pthread_mutex_unlock(&good.lock);
    return was;
}

static void is_good(const struct pair *p)
{
    pthread_mutex_lock(&good.lock);
    good.list[good.next++ % PAIRS] = *p;
    pthread_mutex_unlock(&good.lock);
}

/* Constraints from above the issuing certificate would not be seen from there: such a way is gone whole each time. */
static bool constrains(X509 *x)
{
    return X509_get_ext_by_NID(x, NID_name_constraints, -1) >= 0 || X509_get_ext_by_NID(x, NID_policy_constraints, -1) >= 0;
}

static int not_that_chain(struct err *e)
{
    return err_set(e, ERR_CORRUPT, "chain", "the chain is not leaf, issuing certificate, root");
}

/* The log is named by the issuing certificate: it must be the one that really signed. */
static int check_whole(struct pair *p, const struct agent_trust *trust, X509 *leaf, X509 *issuing, int64_t now, struct err *e)
{
    STACK_OF(X509) *roots = NULL, *untrusted = sk_X509_new_null(), *chain = NULL;
    int rc = -1;
    if (!untrusted || !sk_X509_push(untrusted, issuing)) {
        err_set(e, ERR_INTERNAL, "memory", "out of memory");
    } else if (agent_trust_roots(trust, &roots, e) == 0) {
        struct x509_check q = {.leaf = leaf, .untrusted = untrusted, .roots = roots, .now = now};
        rc = x509_verify(&q, &chain, e);
    }
    if (rc == 0 && (sk_X509_num(chain) != 3 || X509_cmp(sk_X509_value(chain, 1), issuing) != 0))
        rc = not_that_chain(e);
    for (int i = 1; rc == 0 && i < 3; i++) {
        int64_t from = x509_time(X509_get0_notBefore(sk_X509_value(chain, i))),
                until = x509_time(X509_get0_notAfter(sk_X509_value(chain, i)));
        p->from = from > p->from ? from : p->from;
        p->until = until < p->until ? until : p->until;
    }
    if (rc == 0 && constrains(sk_X509_value(chain, 2)))
        p->until = 0;
    sk_X509_pop_free(chain, X509_free);
    sk_X509_pop_free(roots, X509_free);
    sk_X509_free(untrusted); /* issuing is the caller's */
    return rc;
}

static int check_leaf(X509 *leaf, X509 *issuing, int64_t now, struct err *e)
{
    STACK_OF(X509) *anchor = sk_X509_new_null(), *chain = NULL;
    int rc = -1;
    if (!anchor || !sk_X509_push(anchor, issuing)) {
        err_set(e, ERR_INTERNAL, "memory", "out of memory");
    } else {
        struct x509_check q = {.leaf = leaf, .roots = anchor, .partial = true, .now = now};
        rc = x509_verify(&q, &chain, e);
    }
    if (rc == 0 && (sk_X509_num(chain) != 2 || X509_cmp(sk_X509_value(chain, 1), issuing) != 0))
        rc = not_that_chain(e);
    sk_X509_pop_free(chain, X509_free);
    sk_X509_free(anchor);
    return rc;
}

int verify_chain(const struct agent_trust *trust, X509 *leaf, X509 *issuing, int64_t now, struct err *e)
{
    struct pair p;
    bool known = pair_of(&p, trust, issuing);
    if (known && was_good(&p, now))
        return check_leaf(leaf, issuing, now, e);
    pthread_mutex_lock(&good.lock);
    good.whole++;
    pthread_mutex_unlock(&good.lock);
    if (check_whole(&p, trust, leaf, issuing, now, e) < 0)
        return -1;
    if (known && p.until > 0)
        is_good(&p);
    return 0;
}

unsigned long verify_chain_whole(void)
{
    pthread_mutex_lock(&good.lock);
    unsigned long n = good.whole;
    pthread_mutex_unlock(&good.lock);
    return n;
}
