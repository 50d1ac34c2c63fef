/* A certificate from outside, on its way to its log entry. The body that comes out must be one
 * that reads back to the same fields. */
#include "tests/fuzz/key.h"
#include "tlog/proof.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void body_check(const uint8_t *data, size_t len)
{
    struct tlog_cert_fields f, g;
    struct bytes stapled;
    struct buf body;
    struct err e;
    buf_init(&body, TLOG_ENTRY_MAX);
    if (tlog_cert_body(&body, &f, &stapled, data, len, &e) == 0) {
        if (tlog_entry_cert_fields(&g, (struct bytes){body.p, body.len}, &e) < 0 ||
            f.not_before != g.not_before || f.not_after != g.not_after ||
            memcmp(f.spki_hash, g.spki_hash, 32) != 0 || f.subject.len != g.subject.len)
            abort();
    }
    buf_free(&body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct tlog_vkey k;
    struct tlog_vkey bound;
    struct tlog_proven proven;
    struct err e;
    if (!k.evp && tlog_vkey_make(&k, "fuzz.example.org", nobodys_key, &e) < 0)
        abort();
    body_check(data, len);
    if (tlog_cert_verify(data, len, &k, &proven, &e) == 0)
        abort();
    if (tlog_binding_from_cert(&bound, data, len, &e) == 0)
        tlog_vkey_free(&bound);
    return 0;
}
