/* What the agent's files share, and the seams its tests use. Nothing outside agent/ and its tests
 * includes this.
 *
 *   url.c     which addresses this agent may speak to
 *   x509.c    PEM and chains, through OpenSSL
 *   trust.c   what is believed of the server before the first byte is sent
 *   http.c    the one connection
 *   answer.c  what the authority says, parsed: directory, order, authorization, problem
 *   acme.c    session, nonces, signed requests
 *   id_set.c  what the session has shown evidence for
 *   order.c   from newOrder to the chain
 *   csr.c     PKCS#10 writer
 *   verify.c  what is believed of a certificate before it is written; verify_chain.c: its chain
 *   files.c   the folder the identity is kept in
 *   fetch.c   all of it, once
 */
#ifndef AGENT_INTERNAL_H
#define AGENT_INTERNAL_H
#include "agent/agent.h"
#include <openssl/x509v3.h>

/* --- limits: every size that an outsider can choose ------------------------------------------- */
#define URL_MAX 1024           /* characters of any URL */
#define ORIGIN_MAX 300         /* "https://" host ":" port */
#define NONCE_MAX 256          /* characters of a Replay-Nonce or challenge token */
#define ANSWER_MAX 65536       /* bytes of an answer's body */
#define ANSWER_BIG_MAX (1u << 20) /* of a list of entries, a bundle, a CRL */
#define ANSWER_HEADERS_MAX 32768
#define ETAG_MAX 127
#define CRL_BASE_MAX 1060       /* characters of the address that names of CRLs follow */
#define CHAIN_PEM_MAX 32768    /* bytes of a certificate chain in PEM */
#define CHAIN_CERTS_MAX 8      /* certificates in any chain shown to us */
#define ROOTS_MAX 32           /* certificates in a trust bundle */
#define BUNDLE_MAX (1u << 20)  /* bytes of a trust bundle file */
#define AUTHZ_MAX 32           /* authorizations of one order */
#define NONCES_KEPT 8
#define RETRY_NONCE 3          /* badNonce answers taken before giving up */

/* --- url.c ------------------------------------------------------------------------------------ */
/* "https://host:port", host in lower case. Refuses other schemes, user names, zone identifiers and
 * control characters: rule "url". */
int url_origin(char dst[ORIGIN_MAX], const char *url, struct err *e);
/* The server as an operator writes it: its origin, its host (IPv6 without brackets), and the
 * address of its directory (…/acme/directory unless it ends in /directory already). */
struct url_server {
    char origin[ORIGIN_MAX], host[256], directory[URL_MAX + 1];
};
int url_server(struct url_server *s, const char *server, struct err *e);
/* Refuses a URL of the server's that leads to another origin, or is none: ERR_CORRUPT, rule
 * "url-origin" or "url". It is the agent that refuses here, not the authority. */
int url_same_origin(const struct url_server *s, const char *url, const char *what, struct err *e);

/* --- x509.c ----------------------------------------------------------------------------------- */
/* All certificates of a PEM text, in order; at least one, at most max. Other blocks are skipped;
 * never asks for a passphrase. */
int x509_from_pem(STACK_OF(X509) **out, const void *pem, size_t len, int max, struct err *e);
int x509_to_pem(struct buf *out, X509 *x, struct err *e);
int x509_to_der(struct buf *out, X509 *x, struct err *e); /* appends */
/* A chain in PEM as DER, one after the other in der (an empty buf), and views of each. */
int x509_chain_der(const struct buf *pem, struct buf *der, struct bytes list[CHAIN_CERTS_MAX], size_t *n,
                   struct err *e);
void x509_sha256(uint8_t dst[32], X509 *x);
struct x509_check {
    X509 *leaf;
    STACK_OF(X509) *untrusted, *roots;
    const char *host; /* DNS name or IP address that a TLS server must have; NULL: no TLS server */
    bool partial;     /* the roots are certificates that were verified before, and need not sign themselves */
    int64_t now;      /* wall seconds */
};
/* X509_verify_cert with these roots and no other. On success *chain (may be NULL) is owned by the
 * caller; on failure the reason is in e: ERR_CORRUPT, rule "chain", "chain-time" or "chain-host". */
int x509_verify(const struct x509_check *q, STACK_OF(X509) **chain, struct err *e);
#define CERT_ID_MAX 128 /* characters of RFC 9773's certificate identifier */
/* RFC 9773 section 4.1: base64url(key identifier of the issuer) "." base64url(serial). -1: it has none. */
int cert_id_write(char dst[CERT_ID_MAX + 1], X509 *leaf);
int64_t x509_time(const ASN1_TIME *t); /* unix seconds; -1 when it is none */

/* --- verify_chain.c ---------------------------------------------------------------------------- */
/* leaf was issued by issuing, and that by one of the roots. Any thread. */
int verify_chain(const struct agent_trust *trust, X509 *leaf, X509 *issuing, int64_t now, struct err *e);
unsigned long verify_chain_whole(void); /* how often the way to a root was gone: tests */

/* --- trust.c ---------------------------------------------------------------------------------- */
int agent_trust_parse(struct agent_trust *t, const void *p, size_t len, const char *name,
                      struct err *e);
int agent_trust_roots(const struct agent_trust *t, STACK_OF(X509) **out, struct err *e);
/* A token's anchor and a bundle must agree: the anchor is one of the bundle's certificates. */
int agent_trust_pin(struct agent_trust *t, const uint8_t anchor[32], struct err *e);
/* Is this the authority's server? With a pin and no roots yet, the root is taken from what the
 * server sent, if its hash is the pinned one, and kept in t->roots_pem. */
int agent_trust_server(struct agent_trust *t, X509 *leaf, STACK_OF(X509) *sent, const char *host,
                       int64_t now, struct err *e);

/* --- http.c ----------------------------------------------------------------------------------- */
struct http_request {
    const char *method, *url; /* GET, HEAD or POST */
    struct bytes body;        /* POST: application/jose+json */
    int64_t deadline;         /* clock_mono_ms */
    const char *if_none_match; /* NULL: none */
};
struct http_answer {
    unsigned status, retry_after;   /* seconds; 0: none given */
    char nonce[NONCE_MAX + 1];      /* Replay-Nonce; "" when absent or not base64url */
    char location[URL_MAX + 1];     /* "" when absent */
    char etag[ETAG_MAX + 1];        /* "" when absent or longer */
    struct buf body;
};
void http_answer_init(struct http_answer *a);
void http_answer_init_max(struct http_answer *a, size_t max); /* of the body */
void http_answer_free(struct http_answer *a);
/* How requests travel; tests put a server of their own here. */
struct acme_transport {
    int (*send)(void *arg, const struct http_request *q, struct http_answer *a, struct err *e);
    void (*wait)(void *arg, unsigned ms);
    void *arg;
};
struct http;
/* s and trust are not owned. */
struct http *http_new(const struct url_server *s, struct agent_trust *trust, struct err *e);
void http_free(struct http *h);
void http_stop(struct http *h, int64_t at_ms); /* from any thread: monotonic; what lasts longer fails then */
bool http_sleep(struct http *h, unsigned ms);  /* false: stopped */
int http_send(struct http *h, const struct http_request *q, struct http_answer *a, struct err *e);

/* --- answer.c --------------------------------------------------------------------------------- */
struct acme_directory {
    char new_nonce[URL_MAX + 1], new_account[URL_MAX + 1], new_order[URL_MAX + 1];
    char renewal_info[URL_MAX + 1], new_jwt[URL_MAX + 1], entries[URL_MAX + 1]; /* "" when absent */
};
int acme_directory_parse(struct acme_directory *d, struct bytes body, struct err *e);

enum acme_status { ACME_PENDING, ACME_READY, ACME_PROCESSING, ACME_VALID, ACME_INVALID };
struct acme_order { /* strings borrowed from doc */
    json_t *doc;    /* owned */
    enum acme_status status;
    const char *authz[AUTHZ_MAX];
    size_t authz_count;
    const char *finalize, *certificate, *chain; /* NULL when absent */
    struct err error;                           /* of an invalid order */
};
int acme_order_parse(struct acme_order *o, struct bytes body, struct err *e);
void acme_order_free(struct acme_order *o); /* safe on a zeroed object */

struct acme_authz { /* strings borrowed from doc */
    json_t *doc;    /* owned */
    enum acme_status status;
    const char *url, *token; /* of its remote-attest-01 challenge; NULL when it has none */
    struct err error;
};
int acme_authz_parse(struct acme_authz *a, struct bytes body, struct err *e);
void acme_authz_free(struct acme_authz *a);

/* An answer that is no success, as an error: what the authority says (control characters taken
 * out), its rule, and what to do next. Always fills e and returns -1. */
int acme_problem(const struct http_answer *a, struct err *e);

/* --- id_set.c --------------------------------------------------------------------------------- */
typedef const char *names_at_cb(const void *list, size_t i);
/* Where name stands in a list that is sorted by the n names that `at` gives, or would. */
size_t names_place(const void *list, size_t n, names_at_cb *at, const char *name, bool *found);
struct id_set { /* sorted strings, owned; bounded by what the registry gives one agent */
    char **list;
    size_t n, cap;
};
bool id_set_has(const struct id_set *s, const char *id);
void id_set_add(struct id_set *s, const char *id); /* out of memory: not added */
void id_set_remove(struct id_set *s, const char *id);
void id_set_clear(struct id_set *s);

/* --- acme.c ----------------------------------------------------------------------------------- */
struct acme_client {
    struct acme_transport transport;
    struct http *http;          /* owned; NULL in tests */
    struct url_server server;
    struct acme_directory directory;
    bool has_directory;
    struct key *key;            /* owned: the session key, never written */
    char thumbprint[44];
    char kid[URL_MAX + 1];      /* "" before newAccount */
    char nonces[NONCES_KEPT][NONCE_MAX + 1];
    size_t nonces_count;
    struct id_set authorized;   /* SPIFFE IDs this session has shown evidence for */
    int64_t deadline;           /* of the current acme_obtain, clock_mono_ms */
};
struct acme_client *acme_client_over(const char *server_url, const struct acme_transport *t,
                                     struct err *e);
/* Payload of a signed request; the nonce is given because in-band evidence covers it. The empty
 * payload is POST-as-GET. */
typedef int acme_payload_cb(void *arg, const char *nonce, struct buf *out, struct err *e);
/* Signs, sends, keeps the fresh nonce; retries badNonce, and 429, 502, 503 and 504 until the
 * deadline. Success is an answer below 300; everything else is e. */
int acme_post(struct acme_client *c, const char *url, acme_payload_cb *payload, void *arg,
              struct http_answer *a, struct err *e);
int acme_post_text(struct acme_client *c, const char *url, const char *payload,
                   struct http_answer *a, struct err *e);
/* A GET or HEAD without a signature, retried like the others. 304 is a success too. */
int acme_plain(struct acme_client *c, const char *method, const char *url, const char *if_none_match,
               struct http_answer *a, struct err *e);
int acme_session(struct acme_client *c, struct err *e); /* directory and account, once */
/* Runs step with a session; when the authority forgot it, once more with another. */
int acme_with_session(struct acme_client *c, int (*step)(void *arg, struct err *e), void *arg, struct err *e);
/* Sleeps retry_after seconds, or by exponential backoff when 0; refuses to go beyond the deadline. */
int acme_wait(struct acme_client *c, unsigned retry_after, unsigned attempt, struct err *e);

/* --- order.c ---------------------------------------------------------------------------------- */
struct acme_want {
    const char *spiffe_id;
    const char *const *dns;
    size_t dns_count;
    struct bytes csr;
    const char *replaces; /* NULL: nothing */
    acme_evidence_cb *evidence;
    void *arg;
};
/* Evidence for a freshness token, which is a nonce or a challenge's. */
int acme_evidence(struct acme_client *c, acme_evidence_cb *evidence, void *arg, const char *token, struct buf *out,
                  struct err *e);
int acme_order_run(struct acme_client *c, const struct acme_want *w, struct buf *chain_pem,
                   struct err *e);

/* --- csr.c ------------------------------------------------------------------------------------ */
/* PKCS#10 (RFC 2986): empty subject, exactly one URI SAN, DNS SANs; appended to out as DER. */
int csr_write(struct buf *out, const struct key *k, const char *spiffe_id, const char *const *dns,
              size_t dns_count, struct err *e);

/* --- files.c ---------------------------------------------------------------------------------- */
/* Makes the folder and tries out whether a set can be written to it; leaves only its lock file. */
int agent_try_folder(const char *dir, int64_t deadline, struct err *e);
/* crl.pem, by rename; pem "": taken away. */
int agent_write_crls(const char *dir, const struct buf *pem, int64_t deadline, struct err *e);
/* The identity kept in dir: key and chain. Finishes a set that a crash left half renamed. */
int agent_read_files(const char *dir, struct acme_identity *i, int64_t deadline, struct err *e);
void buf_wipe(struct buf *b); /* overwrites and frees */

#endif
