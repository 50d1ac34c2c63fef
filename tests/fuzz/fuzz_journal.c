/* Recovery of a journal segment from hostile bytes: as they are, and with the checksums made good
 * (header and records), so that what stands behind them is reached. */
#include "tlog/internal.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

struct seen {
    uint64_t next;
    size_t bytes;
};

static int record(void *arg, const struct tlog_record *r, struct err *e)
{
    struct seen *s = arg;
    if (r->index != s->next++ || r->entry.len == 0 || r->entry.len > TLOG_ENTRY_MAX)
        abort();
    for (size_t i = 0; i < r->entry.len; i++)
        s->bytes += r->entry.p[i];
    return 0;
}

static void parse(const uint8_t *p, size_t len, uint64_t first)
{
    struct seen s = {first, 0};
    uint64_t next;
    size_t pos;
    enum tlog_tail tail;
    struct err e;
    if (tlog_segment_parse(p, len, first, record, &s, &next, &pos, &tail, &e) == 0 &&
        (next != s.next || pos > len))
        abort();
}

static void header_mend(uint8_t *p)
{
    uint8_t sum[TLOG_HASH];
    memcpy(p, "mayflyj1", 8);
    memset(p + 8, 0, 8);
    tlog_sha256(sum, p, 24);
    memcpy(p + 24, sum, 8);
}

static void records_mend(uint8_t *p, size_t len)
{
    uint64_t index = 0;
    for (size_t at = 32; len - at >= 12; index++) {
        size_t n = (size_t)p[at + 2] << 8 | p[at + 3];
        if (p[at] || p[at + 1] || n == 0 || len - at - 12 < n + 8)
            return;
        for (unsigned i = 0; i < 8; i++)
            p[at + 4 + i] = (uint8_t)(index >> (56 - 8 * i));
        struct tlog_hash leaf;
        merkle_leaf(&leaf, p + at + 12, n);
        memcpy(p + at + 12 + n, leaf.b, 8);
        at += 12 + n + 8;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    parse(data, len, 0);
    if (len < 32)
        return 0;
    uint8_t *p = malloc(len);
    if (!p)
        return 0;
    memcpy(p, data, len);
    header_mend(p);
    parse(p, len, 0);
    records_mend(p, len);
    parse(p, len, 0);
    free(p);
    return 0;
}
