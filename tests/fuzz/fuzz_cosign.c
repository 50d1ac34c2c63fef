/* A note from outside, looked through for a witness's cosignature; and a line of its own, as a
 * witness answers it: what is read is written again to the same bytes. */
#include "tests/fuzz/key.h"
#include "tlog/cosign.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void line_check(const struct tlog_vkey *w, const uint8_t *data, size_t len)
{
    struct tlog_cosignature s;
    struct buf b;
    struct err e;
    if (tlog_cosign_parse(&s, w, (struct bytes){data, len}, &e) < 0)
        return;
    if (tlog_cosign_verify(&s, w, (struct bytes){data, len}, &e) == 0)
        abort(); /* nobody has this key */
    buf_init(&b, 1024);
    tlog_cosign_line(w, &s, &b);
    if (b.failed || b.len != len + 1 || memcmp(b.p, data, len) != 0)
        abort();
    buf_free(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct tlog_vkey w;
    struct tlog_note n;
    uint64_t time;
    struct err e;
    if (!w.evp && tlog_vkey_make_witness(&w, "fuzz.example.org", nobodys_key, &e) < 0)
        abort();
    line_check(&w, data, len);
    if (tlog_note_parse(&n, data, len, &e) == 0 && tlog_cosign_find(&n, &w, &time, &e) > 0)
        abort();
    return 0;
}
