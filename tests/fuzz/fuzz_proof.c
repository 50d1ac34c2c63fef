/* A tlog-proof from outside. What parses is written again to the same bytes. */
#include "tests/fuzz/key.h"
#include "tlog/proof.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct tlog_vkey k;
    struct tlog_proof p;
    struct tlog_checkpoint c;
    struct tlog_hash leaf = {{0}};
    struct buf b;
    struct err e;
    if (!k.evp && tlog_vkey_make(&k, "fuzz.example.org", nobodys_key, &e) < 0)
        abort();
    if (tlog_proof_parse(&p, data, len, &e) < 0)
        return 0;
    if (tlog_proof_verify(&p, &leaf, &k, &c, &e) == 0)
        abort(); /* nobody has this key */
    buf_init(&b, 2 * TLOG_PROOF_MAX);
    tlog_proof_write(&b, (struct bytes){p.extra, p.extra_len}, p.index, p.path, p.path_len,
                     p.checkpoint.p, p.checkpoint.len);
    if (b.failed || b.len != len || memcmp(b.p, data, len) != 0)
        abort();
    buf_free(&b);
    return 0;
}
