/* How the other rooms ask the signer. One thread receives; any thread asks.
 * While the signer is away, requests wait up to their deadline and are sent (again) when it is
 * back; a request sent twice may stand in the log twice, its answer comes once. After the deadline
 * the callback gets ERR_UNAVAILABLE, rule "signer-away". At most CA_CLIENT_PENDING_MAX wait; more
 * is ERR_UNAVAILABLE, rule "signer-queue", at once.
 * Callbacks run on the client's thread and must not block.
 */
#ifndef CA_CLIENT_H
#define CA_CLIENT_H
#include "ca/msg.h"

#define CA_CLIENT_PENDING_MAX 8192
struct ca_client;
/* Connects (and re-connects, with backoff) to the signer's socket; returns at once. */
struct ca_client *ca_client_new(const char *socket_path, unsigned deadline_ms, struct err *e);
void ca_client_free(struct ca_client *c); /* pending callbacks get ERR_UNAVAILABLE */

/* Exactly one of r and e is not NULL. r's views end with the call. */
typedef void ca_issue_cb(void *arg, const struct ca_issued *r, const struct err *e);
/* m is copied. 0: cb will be called exactly once; -1: it won't. */
int ca_client_issue(struct ca_client *c, const struct ca_issue *m, ca_issue_cb *cb, void *arg,
                    struct err *e);

/* Has a record written into the log (tlog/record.h says the bodies). As ca_client_issue; sent twice
 * it may stand there twice. */
typedef void ca_record_cb(void *arg, uint64_t index, const struct err *e); /* e NULL: it stands at index */
int ca_client_record(struct ca_client *c, const struct ca_record *m, ca_record_cb *cb, void *arg,
                     struct err *e);

/* Has a CRL signed; as ca_client_issue. Sent twice, there may be two of it, the second the one answered. */
typedef void ca_crl_cb(void *arg, const struct ca_crl_signed *r, const struct err *e);
int ca_client_crl(struct ca_client *c, const struct ca_crl *m, ca_crl_cb *cb, void *arg, struct err *e);

/* Has a JWT-SVID signed; as ca_client_issue. */
typedef void ca_jwt_cb(void *arg, const struct ca_jwt_signed *r, const struct err *e);
int ca_client_jwt(struct ca_client *c, const struct ca_jwt *m, ca_jwt_cb *cb, void *arg, struct err *e);

/* What the signer last said of itself; refreshed on connect and every second. */
struct ca_snapshot {
    bool ready;           /* connected and answering now */
    bool known;           /* the rest is filled: the signer answered at least once */
    uint8_t root[4096], issuing[4096];
    size_t root_len, issuing_len;
    char vkey[512], token[256];
    uint64_t log_size, issued, refused, signatures, first_index, issuing_signatures, abandoned;
    int64_t started;
    unsigned quorum, witnesses, cosigned;
    bool unwitnessed;     /* nothing is issued until the quorum of witnesses is there */
    uint8_t jwt_key[CA_JWT_KEY_MAX]; /* SubjectPublicKeyInfo; jwt_key_len 0: no JWT-SVIDs */
    size_t jwt_key_len;
    int64_t jwt_since;
    uint64_t jwt_signatures, jwt_abandoned;
};
void ca_client_snapshot(struct ca_client *c, struct ca_snapshot *s);

#endif
