/* JOSE as ACME uses it (RFC 7515 flattened JSON, RFC 7517, RFC 7638, RFC 8555 §6.2).
 * Both directions: api/ parses and verifies, agent/ signs. Algorithms: ES256, ES384, RS256, EdDSA,
 * each only with its key type; `none`, HS* and all others are ERR_BAD_SIG_ALG. No crit, no
 * unprotected header, no `b64`. Duplicate members are refused by json.h.
 */
#ifndef BASE_JOSE_H
#define BASE_JOSE_H
#include "base/json.h"
#include "base/key.h"

#define JWS_MAX 65536 /* bytes of a whole request body */

struct jws {            /* parsed, not yet verified */
    char alg[8];
    char *kid;          /* owned; NULL when jwk */
    char *url, *nonce;  /* owned; nonce may be NULL */
    struct key *jwk;    /* owned; NULL when kid */
    char thumbprint[44];/* of jwk, when present */
    struct buf payload; /* decoded */
    bool payload_empty; /* the empty string: POST-as-GET */
    uint8_t sig[512];
    size_t sig_len;
    char *signing_input; /* owned: protected.payload */
    size_t signing_len;
};
/* Rules: "jws-syntax", "jws-alg", "jws-key" (both or neither of jwk and kid), "jws-header",
 * "jws-crit". */
int jws_parse(struct jws *j, const char *body, size_t len, struct err *e);
int jws_verify(const struct jws *j, const struct key *k, struct err *e); /* rules "jws-alg" when alg does not fit k, "signature" */
void jws_free(struct jws *j); /* safe on zeroed object */
/* Flattened JWS for POST. kid NULL: embeds the jwk. payload NULL: POST-as-GET. nonce may be NULL. */
int jws_sign(struct buf *out, const struct key *k, const char *kid, const char *nonce,
             const char *url, const char *payload, size_t payload_len, struct err *e);

const char *jws_alg(const struct key *k); /* the one algorithm of this key's type */

/* Rules: "jwk", "jwk-private", and those of key.h. */
struct key *jwk_parse(const json_t *jwk, struct err *e); /* public members only; private refused */
int jwk_write(struct buf *out, const struct key *k, struct err *e); /* RFC 7638 canonical form */
int jwk_thumbprint(char out[44], const struct key *k, struct err *e); /* base64url SHA-256 */

#endif
