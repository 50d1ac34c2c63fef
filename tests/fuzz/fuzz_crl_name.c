/* Names of CRLs, as anybody may ask for them at /crl/ and as certificates name them: what is taken is of the
 * one form that is written. */
#include "base/crl_name.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    char url[CRL_URL_MAX];
    struct crl_name n, again;
    if (crl_name_parse(&n, (const char *)data, len)) {
        size_t written = crl_url_write(url, "https://a", n);
        if (!crl_name_good(n) || written != len + strlen("https://a/crl/") || memcmp(url + written - len, data, len) != 0)
            abort();
        if (!crl_url_parse(&again, url, written) || again.shards != n.shards || again.shard != n.shard)
            abort();
    }
    if (crl_url_parse(&n, (const char *)data, len) && !crl_name_good(n))
        abort();
    return 0;
}
