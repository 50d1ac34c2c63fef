/* What ACME requests say, once the JWS around them is open (RFC 8555 §7). Pure parsing: each
 * takes the decoded payload and knows nothing of HTTP. Unknown members are ignored (§7.3, §7.4).
 */
#ifndef API_PAYLOAD_H
#define API_PAYLOAD_H
#include "api/renewal.h"
#include "ra/ra.h"

#define PAYLOAD_CSR_MAX 8192

struct payload_account { /* newAccount, and updates of an account */
    bool only_return_existing, deactivate;
};
int payload_account_parse(struct payload_account *p, const void *json, size_t len, struct err *e);

struct payload_order { /* zeroed by the caller before, freed after */
    json_t *doc;       /* owned; evidence views it */
    struct ra_identifier *identifiers; /* owned; its memory is reused */
    size_t identifiers_count, identifiers_cap;
    struct buf csr;         /* DER; its memory is reused; empty: none */
    const json_t *evidence; /* CMW record, or NULL */
    bool replacing;         /* the certificate that is so called (RFC 9773 §5) */
    struct renewal_id replaces;
};
int payload_order_parse(struct payload_order *p, const void *json, size_t len, struct err *e);
int payload_finalize_parse(struct payload_order *p, const void *json, size_t len, struct err *e); /* csr only */
/* The answer to a remote-attest-01 challenge: the CMW record, as doc and evidence. */
int payload_evidence_parse(struct payload_order *p, const void *json, size_t len, struct err *e);
#define PAYLOAD_AUDIENCES_MAX 16
#define PAYLOAD_TTL_MAX 86400 /* the authority clips it anyway */
struct payload_jwt { /* newJwtSvid; views into the doc of the payload_order beside it, that has the evidence, too */
    const char *spiffe_id;
    const char *audiences[PAYLOAD_AUDIENCES_MAX];
    size_t audiences_count;
    unsigned ttl; /* 0: none was given */
};
int payload_jwt_parse(struct payload_order *p, struct payload_jwt *j, const void *json, size_t len, struct err *e);
/* An update of an authorization: only {"status":"deactivated"} (§7.5.2). */
int payload_authz_parse(const void *json, size_t len, struct err *e);
struct payload_agent { /* agentEntries: views into doc */
    json_t *doc; /* owned by who asked: freed by payload_agent_free, whatever came out */
    const char *agent, *have, *after; /* the last two "" when absent */
};
int payload_agent_parse(struct payload_agent *p, const void *json, size_t len, struct err *e);
void payload_agent_free(struct payload_agent *p);
#define PAYLOAD_CERT_MAX 12288
struct payload_revoke { /* revokeCert (§7.6) */
    uint8_t cert[PAYLOAD_CERT_MAX]; /* DER, not looked into yet */
    size_t cert_len;
    uint8_t reason;
};
int payload_revoke_parse(struct payload_revoke *p, const void *json, size_t len, struct err *e);
void payload_order_reset(struct payload_order *p); /* wipes the evidence; keeps memory */
void payload_order_free(struct payload_order *p);

#endif
