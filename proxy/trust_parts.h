/* Private to the judgement: trust.c, crls.c, proof.c. */
#ifndef PROXY_TRUST_PARTS_H
#define PROXY_TRUST_PARTS_H
#include "base/svid.h"
#include "proxy/trust.h"

struct crl {
    X509_CRL *x;          /* owned */
    char *url;            /* owned: of its issuingDistributionPoint; NULL: it has none */
    int64_t from, until;
    X509 *verified_by;    /* owned reference: the issuing certificate that really signed it; under the lock */
};
struct domain {
    char *name;           /* owned */
    STACK_OF(X509) *roots; /* owned */
};
struct issuer { /* an issuing certificate whose path to a root was verified */
    X509 *x;              /* owned */
    uint8_t hash[32];
    const struct domain *domain; /* whose roots: it counts for peers of no other trust domain */
    bool server;          /* the purpose it was verified for */
    int64_t not_before, not_after; /* the narrowest of the path above the leaf */
};
struct trust {
    uint64_t generation;
    struct domain *domains; /* owned */
    size_t domains_count;
    struct crl *crls;       /* owned */
    size_t crls_count;
    pthread_mutex_t lock;   /* issuers, and of crls verified_by; OpenSSL sorts a CRL at its first search */
    struct issuer issuers[TRUST_ISSUERS_MAX];
    unsigned issuers_count;
};

int64_t cert_time(const ASN1_TIME *t); /* -1: unreadable */
int trust_refuse(struct err *e, const char *rule, const char *why); /* ERR_UNAUTHORIZED */

/* crls.c. */
int crls_load(struct trust *t, const struct wl_bundles *b, struct err *e);
void crls_free(struct trust *t);
char *crl_url_of(X509 *leaf); /* the CRL that the certificate names; NULL: none. The caller frees it. */
/* Looks p up in the CRL it names; narrows p's times to the CRL's. Rules "revoked", "crl-missing". */
int crls_check(struct trust *t, struct peer *p, bool optional, int64_t now, struct err *e);

/* proof.c: checkpoints that were verified a moment ago, so that leaves of one batch cost one signature. */
#define CHECKPOINTS_KEPT 64
struct checkpoints {
    struct {
        uint8_t digest[32];
        uint64_t size;
        struct tlog_hash root;
        bool used;
    } list[CHECKPOINTS_KEPT];
    unsigned next;
};
int proof_check(struct peer *p, struct checkpoints *kept, X509 *leaf, X509 *issuing, struct err *e);
#endif
