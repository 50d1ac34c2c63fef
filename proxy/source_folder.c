/* Identity from a folder, as `mayfly-agent fetch` or the agent's `files` write it: svid.pem (leaf first), svid.key,
 * bundle.pem, and crl.pem if there is one. Looked at twice a second; read again when one of them was replaced. A set
 * that does not belong together (it is being replaced) is read again the next time. */
#include "base/clock.h"
#include "base/fileio.h"
#include "base/spiffe.h"
#include "proxy/internal.h"
#include "proxy/trust_parts.h"
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MAX (1 << 20)
#define CRL_FILE_MAX (4 << 20) /* as large as the agent writes it */
#define FILES 4
#define PATH_CAP 4096

static const char *const names[FILES] = {"svid.pem", "svid.key", "bundle.pem", "crl.pem"};
enum { SVID, KEY, BUNDLE, CRL };

struct stamp {
    ino_t ino;
    off_t size;
    struct timespec mtime;
};
struct source_folder {
    struct source base;
    struct source_ops ops;
    char *dir; /* owned */
    struct event tick;
    struct stamp seen[FILES];
    bool looked; /* once at least: an empty folder, too, is read, so that it is told of */
    struct err told; /* the trouble that there is, as it was told; code 0: none */
};

static void path_of(char dst[PATH_CAP], const struct source_folder *f, int which)
{
    snprintf(dst, PATH_CAP, "%s/%s", f->dir, names[which]);
}

static void look(const struct source_folder *f, struct stamp out[FILES])
{
    memset(out, 0, FILES * sizeof *out);
    for (int i = 0; i < FILES; i++) {
        char path[PATH_CAP];
        struct stat st;
        path_of(path, f, i);
        if (stat(path, &st) == 0) {
            out[i].ino = st.st_ino;
            out[i].size = st.st_size;
            out[i].mtime = st.st_mtim;
        }
    }
}

/* --- reading --------------------------------------------------------------------------------------------------- */

static int no_passphrase(char *buf, int size, int writing, void *arg)
{
    return -1;
}

/* DER of every block of PEM text, one after the other; cb for each. */
typedef int block_cb(void *arg, const uint8_t *der, size_t len);
static int blocks(const struct buf *pem, const char *label, block_cb *cb, void *arg)
{
    BIO *b = BIO_new_mem_buf(pem->p, (int)pem->len);
    int n = 0, rc = b ? 0 : -1;
    while (rc == 0) {
        char *name = NULL, *header = NULL;
        unsigned char *der = NULL;
        long len = 0;
        if (PEM_read_bio(b, &name, &header, &der, &len) != 1)
            break;
        if (strcmp(name, label) == 0) {
            rc = cb(arg, der, (size_t)len);
            n++;
        }
        OPENSSL_free(name);
        OPENSSL_free(header);
        OPENSSL_free(der);
    }
    BIO_free(b);
    ERR_clear_error();
    return rc < 0 ? -1 : n;
}

static int put_der(void *arg, const uint8_t *der, size_t len)
{
    buf_put(arg, der, len);
    return ((struct buf *)arg)->failed ? -1 : 0;
}

static int put_crl(void *arg, const uint8_t *der, size_t len)
{
    struct wl_bundles *b = arg;
    struct buf *list = realloc(b->crls, (b->crls_count + 1) * sizeof *list);
    if (!list)
        return -1;
    b->crls = list;
    buf_init(&list[b->crls_count], FILE_MAX);
    buf_put(&list[b->crls_count++], der, len);
    return 0;
}

static int read_one(struct buf *b, const struct source_folder *f, int which, struct err *e)
{
    char path[PATH_CAP];
    size_t max = which == CRL ? CRL_FILE_MAX : FILE_MAX;
    path_of(path, f, which);
    buf_init(b, max + 1);
    return file_read(b, path, max, e);
}

static int key_read(struct wl_svid *s, const struct source_folder *f, struct err *e)
{
    char path[PATH_CAP];
    struct secret pem;
    int rc = -1;
    path_of(path, f, KEY);
    if (secret_read_file(&pem, path, 65536, e) < 0)
        return -1;
    BIO *b = BIO_new_mem_buf(pem.p, (int)pem.len);
    EVP_PKEY *k = b ? PEM_read_bio_PrivateKey(b, NULL, no_passphrase, NULL) : NULL;
    PKCS8_PRIV_KEY_INFO *p8 = k ? EVP_PKEY2PKCS8(k) : NULL;
    int n = p8 ? i2d_PKCS8_PRIV_KEY_INFO(p8, NULL) : -1;
    if (n <= 0) {
        err_set(e, ERR_CORRUPT, "identity", "%s holds no private key", path);
    } else if (secret_new(&s->key, (size_t)n, e) == 0) {
        unsigned char *at = s->key.p;
        s->key.len = (size_t)i2d_PKCS8_PRIV_KEY_INFO(p8, &at);
        rc = 0;
    }
    PKCS8_PRIV_KEY_INFO_free(p8);
    EVP_PKEY_free(k);
    BIO_free(b);
    secret_free(&pem);
    ERR_clear_error();
    return rc;
}

static int svid_read(struct wl_svid *s, const struct source_folder *f, struct err *e)
{
    struct buf pem, der;
    char id[SPIFFE_ID_MAX + 1];
    struct spiffe_id parsed;
    buf_init(&der, FILE_MAX);
    int rc = read_one(&pem, f, SVID, e);
    if (rc == 0 && blocks(&pem, "CERTIFICATE", put_der, &der) < 1)
        rc = err_set(e, ERR_CORRUPT, "identity", "%s/%s holds no certificate", f->dir, names[SVID]);
    if (rc == 0) {
        const unsigned char *at = der.p;
        X509 *leaf = d2i_X509(NULL, &at, (long)der.len);
        rc = leaf ? svid_id(id, &parsed, leaf, e) : err_set(e, ERR_CORRUPT, "identity", "%s/%s is damaged", f->dir, names[SVID]);
        if (rc == 0) {
            s->not_before = cert_time(X509_get0_notBefore(leaf));
            s->not_after = cert_time(X509_get0_notAfter(leaf));
            s->spiffe_id = strdup(id);
            s->hint = strdup("");
        }
        X509_free(leaf);
    }
    s->chain = der.p; /* owned from here on */
    s->chain_len = der.len;
    buf_free(&pem);
    if (rc == 0 && (!s->spiffe_id || !s->hint))
        rc = err_set(e, ERR_INTERNAL, "memory", "out of memory");
    return rc < 0 ? -1 : key_read(s, f, e);
}

/* The folder is about one trust domain: that of the identity. */
static int bundles_read(struct wl_bundles *b, const struct source_folder *f, const char *id, struct err *e)
{
    struct spiffe_id parsed;
    struct buf pem;
    struct err none;
    if (spiffe_parse(&parsed, id, strlen(id), e) < 0)
        return -1;
    b->list = calloc(1, sizeof *b->list);
    if (!b->list)
        return err_set(e, ERR_INTERNAL, "memory", "out of memory");
    b->n = 1;
    b->list[0].trust_domain = strndup((const char *)parsed.trust_domain.p, parsed.trust_domain.len);
    buf_init(&b->list[0].x509, FILE_MAX);
    int rc = b->list[0].trust_domain ? read_one(&pem, f, BUNDLE, e) : err_set(e, ERR_INTERNAL, "memory", "out of memory");
    if (rc < 0)
        return -1;
    if (blocks(&pem, "CERTIFICATE", put_der, &b->list[0].x509) < 1)
        rc = err_set(e, ERR_CORRUPT, "identity", "%s/%s holds no certificate", f->dir, names[BUNDLE]);
    buf_free(&pem);
    if (rc == 0 && read_one(&pem, f, CRL, &none) == 0)
        blocks(&pem, "X509 CRL", put_crl, b);
    if (rc == 0)
        buf_free(&pem);
    return rc;
}

static struct wl_state *state_read(const struct source_folder *f, struct err *e)
{
    struct wl_state *s = calloc(1, sizeof *s);
    struct wl_svid *v = calloc(1, sizeof *v);
    struct wl_bundles *b = calloc(1, sizeof *b);
    if (s && v && b && (s->svids = calloc(1, sizeof *s->svids))) {
        atomic_init(&s->refs, 1);
        atomic_init(&v->refs, 1);
        atomic_init(&b->refs, 1);
        s->svids[0] = v;
        s->n = 1;
        s->bundles = b;
        if (svid_read(v, f, e) == 0 && bundles_read(b, f, v->spiffe_id, e) == 0)
            return s;
        wl_state_unref(s);
        return NULL;
    }
    err_set(e, ERR_INTERNAL, "memory", "out of memory");
    free(s);
    free(v);
    free(b);
    return NULL;
}

/* --- watching --------------------------------------------------------------------------------------------------- */

/* Once, though it is tried twice a second; and the next one, where the first was mended. */
static void tell(struct source_folder *f, const struct err *e)
{
    if (f->told.code == e->code && strcmp(f->told.msg, e->msg) == 0)
        return;
    f->told = *e;
    f->ops.trouble(f->ops.arg, e);
}

static void on_tick(int fd, short what, void *arg)
{
    struct source_folder *f = arg;
    struct stamp before[FILES], after[FILES];
    struct err e = {0};
    look(f, before);
    if (f->looked && memcmp(before, f->seen, sizeof before) == 0)
        return;
    f->looked = true;
    struct wl_state *s = state_read(f, &e);
    look(f, after);
    if (memcmp(before, after, sizeof after) != 0) { /* replaced while it was read: the next time */
        wl_state_unref(s);
        return;
    }
    if (!s) {
        tell(f, &e);
        return;
    }
    err_clear(&f->told);
    memcpy(f->seen, after, sizeof after);
    f->ops.state(f->ops.arg, s);
    wl_state_unref(s);
}

static void look_now(struct source *s)
{
    struct source_folder *f = (struct source_folder *)s;
    f->looked = false;
    err_clear(&f->told);
    event_active(&f->tick, EV_TIMEOUT, 1);
}

static void stop(struct source *s)
{
    struct source_folder *f = (struct source_folder *)s;
    event_del(&f->tick);
    free(f->dir);
    free(f);
}

struct source *source_folder(struct event_base *base, const char *dir, const struct source_ops *ops, struct err *e)
{
    const struct timeval t = {0, 500000};
    /* Confinement opens the folder that is there now, and none that comes later. */
    if (access(dir, R_OK | X_OK) < 0) {
        err_errno(e, "identity", "cannot read the folder %s; it must be there when the proxy starts, its files may come later", dir);
        return NULL;
    }
    struct source_folder *f = calloc(1, sizeof *f);
    if (!f || !(f->dir = strdup(dir)) || event_assign(&f->tick, base, -1, EV_PERSIST, on_tick, f) < 0 ||
        event_add(&f->tick, &t) < 0) {
        if (f)
            free(f->dir);
        free(f);
        err_set(e, ERR_INTERNAL, "memory", "out of memory");
        return NULL;
    }
    f->base.stop = stop;
    f->base.look = look_now;
    f->ops = *ops;
    look_now(&f->base); /* as soon as the loop runs */
    return &f->base;
}
