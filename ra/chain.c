/* Certificates as clients get them: PEM (RFC 7468). The issuing certificate is encoded once. */
#include "ra/internal.h"
#include <stdlib.h>
#include <string.h>

#define BEGIN "-----BEGIN CERTIFICATE-----\n"
#define END "-----END CERTIFICATE-----\n"
#define LINE 48 /* bytes, which make 64 characters */

static size_t pem_len(size_t der)
{
    return sizeof BEGIN - 1 + B64_LEN(der) + (der + LINE - 1) / LINE + sizeof END - 1;
}

/* Exactly pem_len(der.len) characters, and a NUL. */
static void pem_encode(char *dst, struct bytes der)
{
    memcpy(dst, BEGIN, sizeof BEGIN - 1);
    dst += sizeof BEGIN - 1;
    for (size_t at = 0; at < der.len; at += LINE) {
        dst += b64_encode(dst, der.p + at, der.len - at < LINE ? der.len - at : LINE);
        *dst++ = '\n';
    }
    memcpy(dst, END, sizeof END);
}

/* Under the lock. */
static int keep_issuing(struct ra *ra, const struct ca_snapshot *s, struct err *e)
{
    if (ra->issuing.der_len == s->issuing_len && memcmp(ra->issuing.der, s->issuing, s->issuing_len) == 0)
        return 0;
    size_t n = pem_len(s->issuing_len);
    if (n >= sizeof ra->issuing.pem)
        return err_set(e, ERR_INTERNAL, "chain", "the issuing certificate is too long");
    pem_encode(ra->issuing.pem, (struct bytes){s->issuing, s->issuing_len});
    ra->issuing.pem_len = n;
    memcpy(ra->issuing.der, s->issuing, s->issuing_len);
    ra->issuing.der_len = s->issuing_len;
    return 0;
}

char *chain_make(struct ra *ra, struct bytes leaf, size_t *len, struct err *e)
{
    struct ca_snapshot s;
    char *chain = NULL;
    size_t n = pem_len(leaf.len);
    ca_client_snapshot(ra->ca, &s);
    if (!s.known || s.issuing_len == 0) {
        err_set(e, ERR_UNAVAILABLE, "signer-away", "the signer has not shown its issuing certificate yet; try again");
        return NULL;
    }
    pthread_mutex_lock(&ra->lock);
    int rc = keep_issuing(ra, &s, e);
    if (rc == 0) {
        *len = n + ra->issuing.pem_len;
        chain = malloc(*len + 1);
        if (chain)
            memcpy(chain + n, ra->issuing.pem, ra->issuing.pem_len + 1);
    }
    pthread_mutex_unlock(&ra->lock);
    if (chain) {
        char first = chain[n]; /* where the leaf's NUL will stand */
        pem_encode(chain, leaf);
        chain[n] = first;
    } else if (rc == 0) {
        no_memory(e);
    }
    return chain;
}
