/* DER: whatever the bytes, the reader stays inside them, and what it accepts can be written again
 * to the same bytes (there is one encoding only). */
#include "base/der.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void demand(bool ok)
{
    if (!ok)
        abort();
}

static void check_scalar(uint8_t tag, struct bytes whole)
{
    uint8_t out[128];
    struct derw w;
    struct cur c = cur_of(whole.p, whole.len);
    struct bytes v;
    bool flag;
    int64_t t;
    derw_init(&w, out, sizeof out);
    switch (tag) {
    case DER_INTEGER:
        if (whole.len > 100 || der_uint(&c, &v) < 0)
            return;
        derw_uint(&w, v.p, v.len);
        break;
    case DER_BOOLEAN:
        if (der_bool(&c, &flag) < 0)
            return;
        derw_bool(&w, flag);
        break;
    case DER_UTCTIME:
    case DER_GENTIME:
        if (der_time(&c, &t) < 0)
            return;
        derw_time(&w, t);
        /* Valid, but not the form that RFC 5280 wants for that year: another tag. The year 0 is
         * read and never written. */
        if (w.failed || derw_bytes(&w).p[0] != tag)
            return;
        break;
    case DER_BIT_STRING:
        if (der_bits(&c, &v) == 0)
            demand(v.len + 1 < whole.len);
        return;
    default:
        return;
    }
    demand(cur_done(&c) && bytes_eq(derw_bytes(&w), whole.p, whole.len));
}

static void walk(struct bytes in, int depth)
{
    struct cur c = cur_of(in.p, in.len);
    static uint8_t out[70000];
    while (cur_left(&c) > 0) {
        uint8_t tag;
        struct bytes v, whole;
        bool was = der_peek(&c, *c.p);
        if (der_any(&c, &tag, &v, &whole) < 0) {
            demand(!cur_done(&c) && cur_left(&c) == 0);
            return;
        }
        demand(was && whole.p >= in.p && whole.p + whole.len <= in.p + in.len);
        demand(v.p >= whole.p && v.p + v.len == whole.p + whole.len);
        struct derw w;
        derw_init(&w, out, sizeof out);
        derw_tlv(&w, tag, v.p, v.len);
        demand(!w.failed && bytes_eq(derw_bytes(&w), whole.p, whole.len));
        check_scalar(tag, whole);
        if (tag & 0x20 && depth < 32)
            walk(v, depth + 1);
    }
    demand(cur_done(&c));
}

static void check_ecdsa(const uint8_t *data, size_t len, size_t n)
{
    uint8_t rs[96], der[128];
    if (der_ecdsa_to_rs(rs, n, data, len) < 0)
        return;
    long back = der_ecdsa_from_rs(der, sizeof der, rs, n);
    demand(back == (long)len && memcmp(der, data, len) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    walk((struct bytes){data, len}, 0);
    check_ecdsa(data, len, 32);
    check_ecdsa(data, len, 48);
    return 0;
}
