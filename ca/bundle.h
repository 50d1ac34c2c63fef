/* The SPIFFE bundle document (SPIFFE Trust Domain and Bundle §4): written by init and served by
 * api/. Lives in the ca_client library, so that ra/ may pass it on. */
#ifndef CA_BUNDLE_H
#define CA_BUNDLE_H
#include "base/bytes.h"
#include "base/err.h"

struct bundle { /* views */
    struct bytes root;    /* DER */
    int64_t root_from;    /* its not_before */
    struct bytes vkey;    /* text of the log's verifier key */
    struct bytes jwt_key; /* SubjectPublicKeyInfo of the key of JWT-SVIDs; empty: there is none */
    int64_t jwt_since;    /* when the log was told of that; 0: it was not yet */
};
/* spiffe_sequence rises when a root or a JWT key comes; spiffe_refresh_hint is 300 s. */
int bundle_write(struct buf *out, const struct bundle *b, struct err *e);
/* Adds where the CRLs are to a document that was written: "mayfly_crl":{"base":"https://…/crl/","shards":16}, for
 * who keeps copies of them; a list's name says which it is (base/crl_name.h). */
int bundle_add_crls(struct buf *out, const char *external_url, unsigned shards, struct err *e);
#endif
