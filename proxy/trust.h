/* Whom we believe, and why: the judgement over a peer's certificate.
 *
 * A `trust` is made from the bundles of one message of the Workload API and never changes: a change of the
 * bundles makes another, and what was judged under the old one is judged anew. Shared by threads; it lives as long
 * as the credentials that own it (creds.c). Each thread keeps verdicts in a `verdicts` of its own, of bounded size,
 * bound to one trust.
 *
 * Bundles of different trust domains are never mixed: the trust domain of the peer's ID says whose roots count.
 *
 * Checks, and who does them (trust.c, base/svid.c, crls.c, proof.c):
 *   signatures along the path               RFC 5280 §6.1.3 (a)(1)   X509_verify_cert
 *   times of every certificate of it        §6.1.3 (a)(2)            X509_verify_cert, and again at each use of a verdict
 *   names chain, AKI and SKI agree          §6.1.3 (a)(4), §4.2.1.1  X509_verify_cert
 *   CA bits, keyCertSign, path lengths      §6.1.4 (k)–(n)           X509_verify_cert
 *   name constraints, policies              §6.1.3 (b)–(f)           X509_verify_cert; a path with name constraints
 *                                                                    above its issuing certificate, or with policy
 *                                                                    constraints anywhere, is never shortened
 *   unknown critical extensions             §6.1.4 (o), §6.1.5 (f)   X509_verify_cert
 *   purpose, keys and digests of 112 bits   §4.2.1.12                X509_verify_cert (purpose, level 2)
 *   revocation                              §6.3                     crls.c
 *   one URI name, a workload's SPIFFE ID    X509-SVID §2, §4.1       base/svid.c
 *   no CA, key usage, extended key usage    X509-SVID §4.1–§4.4      base/svid.c
 *   the issuer's own ID is the domain's     X509-SVID §3.2           base/svid.c
 *   stands in the log that its issuer names C2SP tlog-proof          proof.c, when it is asked for
 *
 * What is saved: the path above an issuing certificate is verified once for each trust (its root signs with
 * P-384, which costs more than the rest of a handshake), after that a leaf is verified against the issuing
 * certificate as its anchor; a leaf that was judged is known again by its hash until the first of its
 * certificates or CRLs runs out.
 */
#ifndef PROXY_TRUST_H
#define PROXY_TRUST_H
#include "base/spiffe.h"
#include "tlog/proof.h"
#include "workload/workload.h"
#include <openssl/x509v3.h>
#include <pthread.h>

#define TRUST_DOMAINS_MAX 64
#define TRUST_ROOTS_MAX 32    /* of a trust domain */
#define TRUST_CRLS_MAX 256
#define TRUST_ISSUERS_MAX 32  /* verified ones that are remembered; further ones are verified each time */
#define TRUST_CHAIN_MAX 6     /* certificates that a peer may send */

struct trust;
/* Rule "bundle". Damaged CRLs are left out with a warning: who needs one is refused. */
struct trust *trust_new(const struct wl_bundles *b, struct err *e);
void trust_free(struct trust *t);

struct peer { /* who it is; made by a judgement, of one thread */
    unsigned refs;
    char *id;                  /* owned: the SPIFFE ID */
    int64_t not_before, not_after; /* when this judgement holds: the narrowest of the path's, and of its CRL */
    bool proven;               /* stands in its log */
    uint64_t log_index;        /* when proven */
    X509 *issuing;             /* owned reference */
    ASN1_INTEGER *serial;      /* owned */
    char *crl_url;             /* owned; NULL: it names no CRL */
};
void peer_unref(struct peer *p);

struct verdicts; /* what one thread knows already */
#define VERDICTS_SLOTS 512
struct verdicts *verdicts_new(void);
void verdicts_free(struct verdicts *v);

struct question {
    X509 *leaf;
    STACK_OF(X509) *chain;  /* what the peer sent, in any order, may hold the leaf; NULL: nothing */
    bool server;            /* the peer is a server: purpose serverAuth */
    bool proof;             /* it must be proven logged */
    bool crl_optional;
    int64_t now;
};
/* A reference, or NULL. Rules: "chain-size", "svid-…", "trust-domain", "chain", "chain-time", "revoked",
 * "crl-missing", "binding-missing", "proof-…", "inclusion", "checkpoint-…". e is left as it was on success. */
struct peer *trust_judge(struct trust *t, struct verdicts *v, const struct question *q, struct err *e);
/* Is it revoked under t (a newer one)? For established connections. */
bool trust_revoked(struct trust *t, const struct peer *p);
unsigned trust_remembered(struct trust *t); /* issuing certificates; for tests */
#endif
