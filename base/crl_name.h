/* Names of CRLs. A certificate belongs to one of `shards` lists, by its key, and says so for good:
 *
 *   <external_url>/crl/<shards>-<shard>.crl       e.g. https://ca.example.org/crl/16-3.crl
 *
 * Numbers of shards are powers of two, and the shard is that many leading bits of the SHA-256 of the
 * SubjectPublicKeyInfo. So the name says all there is to know of a list, nobody has to remember which
 * numbers of shards were configured once, and there are never more than 2 * CRL_SHARDS_MAX lists.
 */
#ifndef BASE_CRL_NAME_H
#define BASE_CRL_NAME_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CRL_SHARDS_MAX 1024
#define CRL_URL_MAX 1100 /* external_url has at most 1024 bytes */

struct crl_name {
    unsigned shards, shard;
};
bool crl_name_good(struct crl_name n); /* a power of two, and a shard below it */
struct crl_name crl_name_of(unsigned shards, const uint8_t spki_sha256[32]);
/* Bytes written, without the NUL; 0: it does not fit. */
size_t crl_url_write(char dst[CRL_URL_MAX], const char *external_url, struct crl_name n);
/* "16-3.crl", and the same behind the last "/crl/" of a URL. Strict: one form for each name. */
bool crl_name_parse(struct crl_name *n, const char *text, size_t len);
bool crl_url_parse(struct crl_name *n, const char *url, size_t len);
#endif
