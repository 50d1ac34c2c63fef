/* The other side of an SSL is no socket but its worker's scratch: a recv takes all that came, and OpenSSL, which asks
 * for five bytes and then for a record, finds it there; what it writes is sent with one call when it is done. */
#include "proxy/internal.h"
#include <stdlib.h>
#include <string.h>

static BIO_METHOD *method;

static size_t take(struct conn *c, uint8_t *dst, size_t n)
{
    struct worker *w = c->w;
    if (c->early_len) {
        n = n < c->early_len ? n : c->early_len;
        memcpy(dst, c->early + c->early_off, n);
        c->early_off += n;
        c->early_len -= n;
        if (!c->early_len) { /* not to be carried along for as long as the connection lasts */
            free(c->early);
            c->early = NULL;
        }
        return n;
    }
    if (w->current != c)
        return 0;
    n = n < w->in_len ? n : w->in_len;
    memcpy(dst, w->in + w->in_off, n);
    w->in_off += n;
    w->in_len -= n;
    return n;
}

static int scratch_read(BIO *b, char *dst, size_t n, size_t *got)
{
    struct conn *c = BIO_get_data(b);
    BIO_clear_retry_flags(b);
    *got = take(c, (uint8_t *)dst, n);
    if (*got)
        return 1;
    BIO_set_retry_read(b);
    return -1;
}

static int scratch_write(BIO *b, const char *src, size_t n, size_t *done)
{
    struct conn *c = BIO_get_data(b);
    struct worker *w = c->w;
    BIO_clear_retry_flags(b);
    if (w->current != c || n > SCRATCH_OUT - w->out_len) { /* never, but for a peer who makes us answer for ever */
        w->out_full = true;
        return -1;
    }
    memcpy(w->out + w->out_len, src, n);
    w->out_len += n;
    *done = n;
    return 1;
}

static long scratch_ctrl(BIO *b, int cmd, long num, void *p)
{
    return cmd == BIO_CTRL_FLUSH || cmd == BIO_CTRL_DUP;
}

int scratch_bio_setup(struct err *e)
{
    if (method)
        return 0;
    method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "scratch");
    if (!method || !BIO_meth_set_read_ex(method, scratch_read) || !BIO_meth_set_write_ex(method, scratch_write) ||
        !BIO_meth_set_ctrl(method, scratch_ctrl))
        return err_set(e, ERR_INTERNAL, "memory", "out of memory");
    return 0;
}

BIO *scratch_bio_new(struct conn *c)
{
    BIO *b = BIO_new(method);
    if (b) {
        BIO_set_data(b, c);
        BIO_set_init(b, 1);
    }
    return b;
}
