/* The authority's own two certificates: building them (the ceremony) and reading back what the
 * corridor needs of them (every start). They are logged like any other, without a stapled proof:
 * their serial names their entry, and every handshake carries them.
 *
 *   root:    P-384, self-signed, 10 years, index 1 (later when a ceremony was gone on with), CA,
 *            keyCertSign and cRLSign
 *   issuing: P-256, signed by the root, 3 years, the next index, CA with path length 0, log binding
 *   both:    URI SAN spiffe://<trust domain>, O = trust domain (RFC 5280 bounds it at 64 bytes: a
 *            longer one is left out of the names), signed with ecdsa-with-SHA384
 */
#ifndef CA_CACERT_H
#define CA_CACERT_H
#include "base/spiffe.h"
#include "ca/tbs.h"

#define CACERT_MAX 4096
#define CACERT_ROOT_DAYS 3652   /* ten years */
#define CACERT_ISSUING_DAYS 1096 /* three */

struct cacert { /* views into der */
    uint8_t der[CACERT_MAX];
    size_t len;
    struct bytes tbs, signature; /* whole TBSCertificate; DER signature */
    struct bytes subject;        /* whole Name */
    struct bytes spki;           /* whole element */
    struct bytes key_id;         /* subjectKeyIdentifier */
    int64_t not_before, not_after;
    uint64_t serial; /* TBS_SERIAL */
};
/* rule "ca-cert", ERR_CORRUPT. `what` names it in errors. */
int cacert_parse(struct cacert *c, const uint8_t *der, size_t len, const char *what, struct err *e);
/* One PEM certificate in a file, nothing but white space after it. */
int cacert_load(struct cacert *c, const char *dir, const char *file, struct err *e);
/* Is c signed with issuer's key? rule "ca-chain". */
int cacert_verify(const struct cacert *c, const struct cacert *issuer, const char *what, struct err *e);
void cacert_pem(struct buf *out, struct bytes der);

struct cacert_want {
    const char *trust_domain;
    bool root;
    struct bytes spki;             /* of the key in the token */
    const struct cacert *issuer;   /* NULL for the root */
    struct bytes vkey;             /* log binding, issuing only */
    int64_t now;
};
struct cacert_draft { /* parts and the arrays that they lie in */
    struct tbs_parts parts;
    uint8_t subject[256], extensions[1024];
};
int cacert_draft(struct cacert_draft *d, const struct cacert_want *want, struct err *e);
#endif
