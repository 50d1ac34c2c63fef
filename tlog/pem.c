/* Certificates as files hold them. */
#include "tlog/proof.h"
#include <openssl/err.h>
#include <openssl/pem.h>
#include <string.h>

#define BLOCKS_MAX 64 /* of a PEM file, before the certificate */

static int file_fail(struct err *e, enum err_code code, const char *why)
{
    return err_set(e, code, "cert-format", "not a certificate in PEM or DER: %s", why);
}

/* The contents of the first CERTIFICATE block. Others are passed over and wiped: a file that holds
 * key and certificate is common. */
static int pem_read(struct buf *room, BIO *in, struct err *e)
{
    for (int i = 0; i < BLOCKS_MAX; i++) {
        char *name = NULL, *header = NULL;
        unsigned char *data = NULL;
        long len = 0;
        if (PEM_read_bio(in, &name, &header, &data, &len) != 1)
            break;
        bool found = strcmp(name, "CERTIFICATE") == 0 && len > 0;
        if (found)
            buf_put(room, data, (size_t)len);
        OPENSSL_free(name);
        OPENSSL_free(header);
        OPENSSL_clear_free(data, (size_t)len);
        if (found)
            return room->failed ? file_fail(e, ERR_TOO_LARGE, "it is too large") : 0;
    }
    return file_fail(e, ERR_MALFORMED, "it has no whole CERTIFICATE block");
}

int tlog_cert_from_file(struct bytes *der, struct buf *room, const void *in, size_t len,
                        struct err *e)
{
    const uint8_t *p = in;
    if (len > TLOG_CERT_FILE_MAX)
        return file_fail(e, ERR_TOO_LARGE, "it has more than 256 KiB");
    /* A certificate's outer length takes more than one byte, which no text begins with. */
    if (len >= 2 && p[0] == 0x30 && p[1] >= 0x80) {
        *der = (struct bytes){p, len};
        return 0;
    }
    BIO *bio = BIO_new_mem_buf(len ? in : "", (int)len);
    if (!bio)
        return err_set(e, ERR_INTERNAL, "memory", "out of memory for a certificate");
    ERR_set_mark();
    buf_reset(room);
    int rc = pem_read(room, bio, e);
    ERR_pop_to_mark();
    BIO_free(bio);
    *der = (struct bytes){room->p, room->len};
    return rc;
}
