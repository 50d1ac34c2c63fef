/* PEM and chains, through OpenSSL. The one call of X509_verify_cert of the agent is here, so that
 * its rules (these roots only, no partial chains, 112 bits) hold for servers and SVIDs alike. */
#include "agent/internal.h"
#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <string.h>
#include <time.h>

static int no_passphrase(char *buf, int size, int writing, void *arg)
{
    return -1;
}

int x509_from_pem(STACK_OF(X509) * *out, const void *pem, size_t len, int max, struct err *e)
{
    int rc = -1;
    *out = NULL;
    if (len > BUNDLE_MAX)
        return err_set(e, ERR_TOO_LARGE, "pem-size", "PEM text of %zu bytes; at most %u", len,
                       BUNDLE_MAX);
    BIO *bio = BIO_new_mem_buf(len ? pem : "", (int)len);
    STACK_OF(X509) *list = sk_X509_new_null();
    X509 *x;
    ERR_clear_error();
    if (!bio || !list) {
        err_set(e, ERR_INTERNAL, "memory", "out of memory");
        goto done;
    }
    while ((x = PEM_read_bio_X509(bio, NULL, no_passphrase, NULL))) {
        if (sk_X509_num(list) == max || sk_X509_push(list, x) == 0) {
            X509_free(x);
            err_set(e, ERR_TOO_LARGE, "pem-count", "more than %d certificates", max);
            goto done;
        }
    }
    unsigned long why = ERR_peek_last_error();
    if (ERR_GET_LIB(why) != ERR_LIB_PEM || ERR_GET_REASON(why) != PEM_R_NO_START_LINE)
        err_set(e, ERR_MALFORMED, "pem-syntax", "a damaged certificate in PEM (number %d)",
                sk_X509_num(list) + 1);
    else if (sk_X509_num(list) == 0)
        err_set(e, ERR_MALFORMED, "pem-empty", "no certificate in PEM");
    else
        rc = 0;
done:
    ERR_clear_error();
    BIO_free(bio);
    if (rc == 0)
        *out = list;
    else
        sk_X509_pop_free(list, X509_free);
    return rc;
}

int x509_to_pem(struct buf *out, X509 *x, struct err *e)
{
    char *text = NULL;
    BIO *bio = BIO_new(BIO_s_mem());
    int rc = -1;
    if (bio && PEM_write_bio_X509(bio, x) == 1) {
        long n = BIO_get_mem_data(bio, &text);
        buf_put(out, text, (size_t)n);
        rc = out->failed ? -1 : 0;
    }
    BIO_free(bio);
    return rc == 0
               ? 0
               : err_set(e, ERR_INTERNAL, "pem-write", "a certificate could not be written as PEM");
}

int x509_to_der(struct buf *out, X509 *x, struct err *e)
{
    unsigned char *der = NULL;
    int n = i2d_X509(x, &der);
    if (n > 0)
        buf_put(out, der, (size_t)n);
    OPENSSL_free(der);
    return n > 0 && !out->failed
               ? 0
               : err_set(e, ERR_INTERNAL, "der-write", "a certificate could not be written as DER");
}

void x509_sha256(uint8_t dst[32], X509 *x)
{
    unsigned n = 0;
    if (X509_digest(x, EVP_sha256(), dst, &n) != 1 || n != 32)
        memset(dst, 0, 32); /* matches no pin: out of memory is refused */
}

int64_t x509_time(const ASN1_TIME *t)
{
    struct tm tm;
    if (!t || ASN1_TIME_to_tm(t, &tm) != 1)
        return -1;
    return (int64_t)timegm(&tm);
}

int x509_only_uri(const GENERAL_NAMES *names, struct bytes *uri)
{
    int found = 0;
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *g = sk_GENERAL_NAME_value(names, i);
        if (g->type != GEN_URI)
            continue;
        found++;
        uri->p = ASN1_STRING_get0_data(g->d.uniformResourceIdentifier);
        uri->len = (size_t)ASN1_STRING_length(g->d.uniformResourceIdentifier);
    }
    return found == 1 ? 0 : -1;
}

static int set_host(X509_VERIFY_PARAM *p, const char *host)
{
    uint8_t ip[16];
    if (inet_pton(AF_INET, host, ip) == 1 || inet_pton(AF_INET6, host, ip) == 1)
        return X509_VERIFY_PARAM_set1_ip_asc(p, host);
    X509_VERIFY_PARAM_set_hostflags(p, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT |
                                           X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return X509_VERIFY_PARAM_set1_host(p, host, 0);
}

static int check_setup(X509_STORE_CTX *ctx, const struct x509_check *q)
{
    X509_VERIFY_PARAM *p = X509_STORE_CTX_get0_param(ctx);
    X509_STORE_CTX_set0_trusted_stack(ctx, q->roots); /* no store, no default paths: these only */
    X509_VERIFY_PARAM_set_depth(p, 4);
    X509_VERIFY_PARAM_set_auth_level(p, 2);
    X509_VERIFY_PARAM_set_time(p, (time_t)q->now);
    if (!q->host)
        return 1;
    return X509_VERIFY_PARAM_set_purpose(p, X509_PURPOSE_SSL_SERVER) && set_host(p, q->host);
}

static int check_failed(X509_STORE_CTX *ctx, const struct x509_check *q, struct err *e)
{
    int why = X509_STORE_CTX_get_error(ctx);
    const char *text = X509_verify_cert_error_string(why);
    switch (why) {
    case X509_V_ERR_CERT_NOT_YET_VALID:
    case X509_V_ERR_CERT_HAS_EXPIRED:
        return err_set(e, ERR_CORRUPT, "chain-time",
                       "%s by this machine's clock: check the clock first", text);
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
        return err_set(
            e, ERR_CORRUPT, "chain-host",
            "its certificate does not name %s: use a name it has in --server, or add this one to "
            "'names' in the authority's mayfly.yaml",
            q->host);
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
        return err_set(e, ERR_CORRUPT, "chain",
                       "the chain does not end in a root this agent trusts (%s)", text);
    default:
        return err_set(e, ERR_CORRUPT, "chain",
                       "the chain does not verify: %s (certificate %d of it)", text,
                       X509_STORE_CTX_get_error_depth(ctx) + 1);
    }
}

int x509_verify(const struct x509_check *q, STACK_OF(X509) * *chain, struct err *e)
{
    int rc = -1;
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    if (chain)
        *chain = NULL;
    ERR_clear_error();
    if (!ctx || X509_STORE_CTX_init(ctx, NULL, q->leaf, q->untrusted) != 1 ||
        check_setup(ctx, q) != 1)
        err_set(e, ERR_INTERNAL, "chain",
                "the chain could not be checked (out of memory, or host name '%s')",
                q->host ? q->host : "");
    else if (X509_verify_cert(ctx) != 1)
        check_failed(ctx, q, e);
    else if (chain && !(*chain = X509_STORE_CTX_get1_chain(ctx)))
        err_set(e, ERR_INTERNAL, "memory", "out of memory");
    else
        rc = 0;
    X509_STORE_CTX_free(ctx);
    ERR_clear_error();
    return rc;
}
