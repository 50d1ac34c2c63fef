/* PEM and chains, through OpenSSL. The one call of X509_verify_cert of the agent is here, so that its rules (these
 * roots only, 112 bits, no partial chains but where verify_chain.c went the rest before) hold for servers and SVIDs
 * alike. */
#include "agent/internal.h"
#include "base/der.h"
#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

static int no_passphrase(char *buf, int size, int writing, void *arg)
{
    return -1;
}

/* --- certificates of CAs, kept: the same few come with every chain, and OpenSSL takes 0.2 ms to read a key ------------- */

#define KEPT 8

static struct {
    pthread_mutex_t lock; /* guards the rest */
    X509 *list[KEPT];     /* owned */
    uint8_t sha256[KEPT][32];
    unsigned next;
} kept = {.lock = PTHREAD_MUTEX_INITIALIZER};

static X509 *kept_find(const uint8_t hash[32])
{
    X509 *x = NULL;
    pthread_mutex_lock(&kept.lock);
    for (unsigned i = 0; i < KEPT && !x; i++)
        if (kept.list[i] && memcmp(kept.sha256[i], hash, 32) == 0 && X509_up_ref(kept.list[i]))
            x = kept.list[i];
    pthread_mutex_unlock(&kept.lock);
    return x;
}

static void kept_add(X509 *x, const uint8_t hash[32])
{
    if (X509_check_ca(x) != 1 || !X509_up_ref(x))
        return;
    pthread_mutex_lock(&kept.lock);
    unsigned at = kept.next++ % KEPT;
    X509_free(kept.list[at]);
    kept.list[at] = x;
    memcpy(kept.sha256[at], hash, 32);
    pthread_mutex_unlock(&kept.lock);
}

/* One whole DER certificate; NULL when it is none. */
static X509 *read_der(const unsigned char *der, long len)
{
    uint8_t hash[32];
    const unsigned char *at = der;
    SHA256(der, (size_t)len, hash);
    X509 *x = kept_find(hash);
    if (x)
        return x;
    x = d2i_X509(NULL, &at, len);
    if (x && at != der + len) {
        X509_free(x);
        return NULL;
    }
    if (x)
        kept_add(x, hash);
    return x;
}

/* --- PEM ------------------------------------------------------------------------------------------------------------------ */

/* The next certificate's DER, which OPENSSL_free frees; other blocks are skipped. 0: there is none, as the error says. */
static int next_der(BIO *bio, unsigned char **der, long *len)
{
    return PEM_bytes_read_bio(der, len, NULL, PEM_STRING_X509, bio, no_passphrase, NULL);
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
    unsigned char *der;
    long der_len;
    bool damaged = false;
    ERR_clear_error();
    if (!bio || !list) {
        err_set(e, ERR_INTERNAL, "memory", "out of memory");
        goto done;
    }
    while (!damaged && next_der(bio, &der, &der_len)) {
        X509 *x = read_der(der, der_len);
        OPENSSL_free(der);
        if (!x) {
            damaged = true;
            break;
        }
        if (sk_X509_num(list) == max || sk_X509_push(list, x) == 0) {
            X509_free(x);
            err_set(e, ERR_TOO_LARGE, "pem-count", "more than %d certificates", max);
            goto done;
        }
    }
    unsigned long why = ERR_peek_last_error();
    if (damaged || ERR_GET_LIB(why) != ERR_LIB_PEM || ERR_GET_REASON(why) != PEM_R_NO_START_LINE)
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

/* Without reading what is in them: whoever looks at them later does. */
int x509_chain_der(const struct buf *pem, struct buf *der, struct bytes list[CHAIN_CERTS_MAX], size_t *n,
                   struct err *e)
{
    size_t ends[CHAIN_CERTS_MAX];
    unsigned char *one;
    long len;
    int rc = 0;
    *n = 0;
    BIO *bio = BIO_new_mem_buf(pem->len ? pem->p : (const uint8_t *)"", (int)pem->len);
    while (bio && rc == 0 && next_der(bio, &one, &len)) {
        struct cur c = cur_of(one, (size_t)len);
        struct bytes contents;
        if (*n == CHAIN_CERTS_MAX)
            rc = err_set(e, ERR_TOO_LARGE, "pem-count", "more than %d certificates", CHAIN_CERTS_MAX);
        else if (der_get(&c, DER_SEQUENCE, &contents) < 0 || !cur_done(&c))
            rc = err_set(e, ERR_MALFORMED, "pem-syntax", "a damaged certificate in PEM (number %zu)", *n + 1);
        else {
            buf_put(der, one, (size_t)len);
            ends[(*n)++] = der->len;
        }
        OPENSSL_free(one);
    }
    unsigned long why = ERR_peek_last_error();
    bool end = ERR_GET_LIB(why) == ERR_LIB_PEM && ERR_GET_REASON(why) == PEM_R_NO_START_LINE;
    BIO_free(bio);
    ERR_clear_error();
    if (rc == 0 && !end)
        rc = err_set(e, ERR_MALFORMED, "pem-syntax", "a damaged certificate in PEM (number %zu)", *n + 1);
    if (rc == 0 && *n == 0)
        rc = err_set(e, ERR_MALFORMED, "pem-empty", "no certificate in PEM");
    if (rc == 0 && der->failed)
        rc = err_set(e, ERR_TOO_LARGE, "pem-size", "a chain that does not fit");
    for (size_t i = 0; rc == 0 && i < *n; i++) {
        size_t start = i ? ends[i - 1] : 0;
        list[i] = (struct bytes){der->p + start, ends[i] - start};
    }
    return rc;
}

void x509_sha256(uint8_t dst[32], X509 *x)
{
    unsigned n = 0;
    if (X509_digest(x, EVP_sha256(), dst, &n) != 1 || n != 32)
        memset(dst, 0, 32); /* matches no pin: out of memory is refused */
}

int cert_id_write(char dst[CERT_ID_MAX + 1], X509 *leaf)
{
    const ASN1_OCTET_STRING *aki = X509_get0_authority_key_id(leaf);
    const ASN1_INTEGER *serial = X509_get0_serialNumber(leaf);
    unsigned char der[64], *p = der;
    if (!aki || ASN1_STRING_length(aki) < 1 || ASN1_STRING_length(aki) > 40 || i2d_ASN1_INTEGER(serial, NULL) > 40)
        return -1;
    int n = i2d_ASN1_INTEGER(serial, &p); /* tag, length of one byte, the value with its sign byte */
    if (n < 3)
        return -1;
    size_t at = b64url_encode(dst, ASN1_STRING_get0_data(aki), (size_t)ASN1_STRING_length(aki));
    dst[at++] = '.';
    b64url_encode(dst + at, der + 2, (size_t)n - 2);
    return 0;
}

int64_t x509_time(const ASN1_TIME *t)
{
    struct tm tm;
    if (!t || ASN1_TIME_to_tm(t, &tm) != 1)
        return -1;
    return (int64_t)timegm(&tm);
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
    if (q->partial)
        X509_VERIFY_PARAM_set_flags(p, X509_V_FLAG_PARTIAL_CHAIN);
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
