#include "base/crl_name.h"
#include <stdio.h>
#include <string.h>

#define PATH "/crl/"
#define NAME_MAX_LEN (sizeof "1024-1023.crl")

bool crl_name_good(struct crl_name n)
{
    return n.shards >= 1 && n.shards <= CRL_SHARDS_MAX && (n.shards & (n.shards - 1)) == 0 && n.shard < n.shards;
}

struct crl_name crl_name_of(unsigned shards, const uint8_t spki_sha256[32])
{
    unsigned bits = (unsigned)spki_sha256[0] << 8 | spki_sha256[1];
    return (struct crl_name){shards, bits * shards >> 16};
}

static int name_write(char *dst, size_t cap, struct crl_name n)
{
    return snprintf(dst, cap, "%u-%u.crl", n.shards, n.shard);
}

size_t crl_url_write(char dst[CRL_URL_MAX], const char *external_url, struct crl_name n)
{
    char name[32];
    name_write(name, sizeof name, n);
    int len = snprintf(dst, CRL_URL_MAX, "%s" PATH "%s", external_url, name);
    return len > 0 && len < CRL_URL_MAX ? (size_t)len : 0;
}

/* What is written again the same is of the one form there is. */
bool crl_name_parse(struct crl_name *n, const char *text, size_t len)
{
    char copy[NAME_MAX_LEN], again[32];
    if (len >= sizeof copy || memchr(text, 0, len))
        return false;
    memcpy(copy, text, len);
    copy[len] = 0;
    if (sscanf(copy, "%4u-%4u", &n->shards, &n->shard) != 2 || !crl_name_good(*n))
        return false;
    name_write(again, sizeof again, *n);
    return strcmp(copy, again) == 0;
}

bool crl_url_parse(struct crl_name *n, const char *url, size_t len)
{
    const char *slash = memrchr(url, '/', len);
    size_t before = slash ? (size_t)(slash - url) + 1 : 0;
    if (before < sizeof PATH - 1 || memcmp(url + before - (sizeof PATH - 1), PATH, sizeof PATH - 1) != 0)
        return false;
    return crl_name_parse(n, slash + 1, len - before);
}
