/* What the authority answers beyond RFC 8555, parsed: lists of entries, JWT-SVIDs, renewal advice (RFC 9773), the
 * SPIFFE bundle. Everything here comes from outside: bounded, whole or refused (ERR_INTERNAL, rule "acme-answer").
 *
 * And the requests that bring them, on the ACME client's connection.
 */
#ifndef AGENT_WIRE_H
#define AGENT_WIRE_H
#include "agent/internal.h"
#include "workload/workload.h"

#define ENTRIES_PAGE_MAX 256
#define ENTRIES_MAX 16384      /* of one agent */
#define ENTRY_SELECTORS_MAX 64
#define ENTRY_DNS_MAX 16
#define VERSION_TEXT_MAX 128
#define ENTRY_ID_MAX 256
#define HINT_MAX 1024
#define JWT_MAX 16384          /* characters of a compact JWS */

struct entry { /* strings owned */
    char *id, *spiffe_id, *hint; /* hint "" when none */
    char **selectors, **dns;
    size_t selectors_count, dns_count;
    unsigned ttl;
    int64_t revision;
    int64_t number; /* ascends in the order of creation; 0 of an authority that does not say */
};
struct entry_list {
    char version[VERSION_TEXT_MAX + 1];
    int64_t revoked;    /* higher than before: renewal advice has something to say now */
    bool unchanged, more;
    struct entry *list; /* owned */
    size_t n;
};
void texts_free(char **list, size_t n); /* each, and the list */
void entry_free(struct entry *x);
void entry_list_free(struct entry_list *l);
int entry_list_parse(struct entry_list *l, struct bytes body, struct err *e);

struct jwt_answer {
    char *svid; /* owned */
    int64_t issued, expires;
};
int jwt_answer_parse(struct jwt_answer *j, const char *spiffe_id, struct bytes body, struct err *e);

struct ari { /* wall seconds */
    int64_t start, end;
    unsigned retry_after;
};
int ari_parse(struct ari *a, struct bytes body, struct err *e);

struct bundle_doc {
    struct buf roots_der, roots_pem; /* one after the other */
    struct buf jwks;                 /* {"keys":[…]} of its JWT keys */
    unsigned refresh_hint;           /* seconds; 0: none given */
    char crl_base[CRL_BASE_MAX + 1]; /* "" when there are no CRLs; ends in "/crl/" */
    unsigned crl_shards;
};
int bundle_doc_parse(struct bundle_doc *b, struct bytes body, struct err *e);
void bundle_doc_free(struct bundle_doc *b);

/* Each sets the client's deadline. Entries: all pages; have is what is known already, "" when nothing. */
int acme_entries(struct acme_client *c, const char *agent, const char *have, unsigned deadline_ms,
                 struct entry_list *out, struct err *e);
struct jwt_want {
    const char *spiffe_id;
    const char *const *audience;
    size_t audience_count;
    acme_evidence_cb *evidence;
    void *arg;
    unsigned deadline_ms;
};
int acme_jwt(struct acme_client *c, const struct jwt_want *w, struct jwt_answer *out, struct err *e);
/* ERR_NOT_FOUND when the authority gives none of that certificate. */
int acme_renewal_info(struct acme_client *c, const char *cert_id, unsigned deadline_ms, struct ari *out, struct err *e);
/* The bundle's document, whole. */
int acme_bundle(struct acme_client *c, unsigned deadline_ms, struct buf *out, struct err *e);

/* --- crls.c ---------------------------------------------------------------------------------------------------------- */
#define CRL_BYTES_MAX ANSWER_BIG_MAX
struct crl_ask {
    unsigned shards, shard;
    const char *etag; /* NULL: none */
    X509 *issuing;    /* whose signature it must have; NULL: whoever uses it checks that */
};
/* DER of one CRL and nothing else; issuing as above. */
bool crl_whole(const struct buf *b, X509 *issuing);
/* By the client's deadline. 1: a->body is one whole CRL; 0: there is none, or the one of etag; -1. a is to be freed
 * whatever comes. */
int crl_get(struct acme_client *c, const struct crl_ask *q, struct http_answer *a, struct err *e);
/* All that there are, as PEM; "" when certificates name none. -1: not all can be had. */
int crls_get(struct acme_client *c, X509 *issuing, unsigned ms, struct buf *pem, struct err *e);

#endif
