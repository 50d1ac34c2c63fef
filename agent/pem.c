#include "agent/pem.h"
#include "base/der.h"
#include <stdio.h>

size_t pem_write(char *dst, const char *label, const void *der, size_t len)
{
    const uint8_t *p = der;
    size_t n = (size_t)sprintf(dst, "-----BEGIN %.32s-----\n", label);
    while (len > 0) {
        size_t line = len < PEM_LINE / 4 * 3 ? len : PEM_LINE / 4 * 3;
        n += b64_encode(dst + n, p, line);
        dst[n++] = '\n';
        p += line;
        len -= line;
    }
    return n + (size_t)sprintf(dst + n, "-----END %.32s-----\n", label);
}

static void append(struct buf *out, const char *label, struct bytes der)
{
    char line[PEM_LINE + 1];
    buf_fmt(out, "-----BEGIN %s-----\n", label);
    for (size_t at = 0; at < der.len; at += 48) {
        b64_encode(line, der.p + at, der.len - at < 48 ? der.len - at : 48);
        buf_str(out, line);
        buf_str(out, "\n");
    }
    buf_fmt(out, "-----END %s-----\n", label);
}

int pem_certificates(struct buf *out, const void *der, size_t len, struct err *e)
{
    struct cur c = cur_of(der, len);
    struct bytes contents, whole;
    uint8_t tag;
    while (cur_left(&c) > 0) {
        if (der_any(&c, &tag, &contents, &whole) < 0 || tag != DER_SEQUENCE)
            return err_set(e, ERR_MALFORMED, "pem-der", "not certificates in DER, one after the other");
        append(out, "CERTIFICATE", whole);
    }
    return out->failed ? err_set(e, ERR_TOO_LARGE, "pem-der", "more certificates than there is room for") : 0;
}

size_t pem_crls(struct buf *out, const struct buf *crls, size_t n)
{
    size_t left_out = 0;
    for (size_t i = 0; i < n; i++) {
        if (crls[i].len < out->max && PEM_ROOM(crls[i].len) <= out->max - out->len)
            append(out, "X509 CRL", (struct bytes){crls[i].p, crls[i].len});
        else
            left_out++;
    }
    return left_out;
}
