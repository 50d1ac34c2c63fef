/* PKCS#10 from outside. What is accepted must hold what the signer relies on, and OpenSSL must agree
 * that it is a request with a good signature. */
#include "base/spiffe.h"
#include "ra/csr.h"
#include <openssl/err.h>
#include <openssl/x509.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct csr csr;
    struct spiffe_id id;
    struct err e = {0};
    if (csr_read(&csr, data, len, &e) < 0) {
        if (e.code != ERR_BAD_CSR || !e.rule[0] || !e.msg[0])
            abort();
        return 0;
    }
    if (spiffe_parse(&id, (const char *)csr.uri.p, csr.uri.len, &e) < 0 || csr.dns_count > CA_DNS_MAX)
        abort();
    for (size_t i = 0; i < csr.dns_count; i++)
        if (dns_name_check((const char *)csr.dns[i].p, csr.dns[i].len, &e) < 0)
            abort();
    const unsigned char *p = data;
    X509_REQ *req = d2i_X509_REQ(NULL, &p, (long)len);
    if (!req || p != data + len || X509_REQ_verify(req, X509_REQ_get0_pubkey(req)) != 1)
        abort();
    X509_REQ_free(req);
    ERR_clear_error();
    return 0;
}
