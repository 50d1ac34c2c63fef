/* A PROXY header from outside: what is read, written again, reads the same; never past its end. */
#include "proxy/pp2.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void demand(bool ok)
{
    if (!ok)
        abort();
}

static bool same(struct bytes a, struct bytes b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.p, b.p, a.len) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct pp2 p, q;
    struct err e = {0};
    struct buf b;
    if (len < PP2_HEAD)
        return 0;
    long n = pp2_length(data, &e);
    demand(n < 0 || (n >= PP2_HEAD && n <= PP2_READ_MAX));
    if (pp2_read(&p, data, len, &e) < 0) {
        demand(strcmp(e.rule, "proxy-header") == 0);
        return 0;
    }
    demand((size_t)n == len);
    buf_init(&b, 1 << 20);
    pp2_write(&b, &p);
    demand(!b.failed);
    if (b.len <= PP2_READ_MAX) {
        demand(pp2_read(&q, b.p, b.len, &e) == 0);
        demand(p.local == q.local && p.src.sa.sa_family == q.src.sa.sa_family);
        demand(p.local || (same(p.spiffe_id, q.spiffe_id) && same(p.alpn, q.alpn) && same(p.authority, q.authority)));
    }
    buf_free(&b);
    return 0;
}
