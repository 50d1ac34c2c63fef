/* The folder an identity is kept in: bundle.pem, svid.key (0600), svid.pem; and crl.pem, about others, which comes and
 * goes by itself.
 *
 * All three are written and synced beside their places first, then renamed in the order bundle,
 * key, certificate: the time between the last two renames, in which a new key stands beside an old
 * certificate, is two system calls. What a crash leaves:
 *   before the first rename   the old set, and .NAME.new files that the next writer replaces
 *   after the key's rename    the new key with the old certificate, and .svid.pem.new, which
 *                             agent_read_files recognizes by its key and puts in place
 * A new certificate never stands beside an old key. (A reader that opens the two files at the very
 * moment may still see one of each and should read again.)
 * Names are opened relative to the folder, never followed when they are links, and a link in the
 * place of a file is replaced. Two agents writing one folder take turns (folder.h).
 */
#include "agent/folder.h"
#include "agent/internal.h"
#include "base/fault.h"
#include "base/fileio.h"
#include "base/secmem.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEY_PEM_MAX 8192

struct file {
    const char *temp;
    struct folder_file file;
};

void buf_wipe(struct buf *b)
{
    if (b->p)
        secret_wipe(b->p, b->cap);
    buf_free(b);
}

static int set_write(int dir, const struct file *files, size_t n, struct err *e)
{
    int rc = 0;
    size_t placed = 0;
    for (size_t i = 0; i < n && rc == 0; i++)
        rc = folder_stage(dir, files[i].temp, &files[i].file, e);
    if (rc == 0 && FAULT("agent-staged"))
        rc = err_set(e, ERR_IO, "fault", "fault agent-staged");
    while (rc == 0 && placed < n) {
        if (renameat(dir, files[placed].temp, dir, files[placed].file.name) < 0)
            rc = err_errno(e, "out-write", "cannot put %s in place", files[placed].file.name);
        else if (placed++, FAULT("agent-renamed"))
            rc =
                err_set(e, ERR_IO, "fault", "fault agent-renamed after %s", files[placed - 1].file.name);
    }
    if (rc == 0 && fsync(dir) < 0)
        rc = err_errno(e, "out-write", "cannot sync the folder");
    /* Once its key is in place the certificate is kept: agent_read_files finishes the set. */
    if (rc < 0 && placed + 1 < n)
        for (size_t i = 0; i < n; i++)
            unlinkat(dir, files[i].temp, 0);
    return rc;
}

int agent_try_folder(const char *dir, int64_t deadline, struct err *e)
{
    static const struct folder_file plain = {NULL, 0600, (uid_t)-1, (gid_t)-1, {NULL, 0}};
    struct folder d;
    if (file_mkdirs(dir, 0755, e) < 0 || folder_open(&d, dir, 0, deadline, e) < 0)
        return -1;
    int rc = folder_try(d.fd, &plain, e);
    folder_close(&d);
    return rc < 0 ? err_wrap(e, "%s", dir) : 0;
}

int agent_write_files(const char *dir, const struct acme_identity *i,
                      const struct agent_trust *trust, int64_t deadline, struct err *e)
{
    struct buf key;
    struct folder d;
    buf_init(&key, KEY_PEM_MAX);
    int rc = key_to_pkcs8_pem(i->key, &key, e);
    if (rc == 0)
        rc = file_mkdirs(dir, 0755, e);
    if (rc == 0)
        rc = folder_open(&d, dir, 0, deadline, e);
    if (rc == 0) {
        const uid_t us = (uid_t)-1;
        const gid_t ours = (gid_t)-1;
        const struct file files[] = {
            {".bundle.pem.new",
             {"bundle.pem", 0644, us, ours, {trust->roots_pem.p, trust->roots_pem.len}}},
            {".svid.key.new", {"svid.key", 0600, us, ours, {key.p, key.len}}},
            {".svid.pem.new", {"svid.pem", 0644, us, ours, {i->chain_pem.p, i->chain_pem.len}}},
        };
        rc = set_write(d.fd, files, sizeof files / sizeof *files, e);
        if (rc < 0)
            err_wrap(e, "%s", dir);
        folder_close(&d);
    }
    buf_wipe(&key);
    return rc;
}

int agent_write_crls(const char *dir, const struct buf *pem, int64_t deadline, struct err *e)
{
    const struct file f = {".crl.pem.new", {"crl.pem", 0644, (uid_t)-1, (gid_t)-1, {pem->p, pem->len}}};
    struct folder d;
    int rc = 0;
    if (folder_open(&d, dir, 0, deadline, e) < 0)
        return -1;
    if (pem->len)
        rc = set_write(d.fd, &f, 1, e);
    else if (unlinkat(d.fd, f.file.name, 0) < 0 && errno != ENOENT)
        rc = err_errno(e, "out-write", "cannot take %s away", f.file.name);
    if (rc < 0) {
        err_wrap(e, "%s", dir);
        unlinkat(d.fd, f.temp, 0);
    }
    folder_close(&d);
    return rc;
}

/* --- reading back -------------------------------------------------------------------------------- */

static int path_in(char dst[PATH_MAX], const char *dir, const char *name, struct err *e)
{
    int n = snprintf(dst, PATH_MAX, "%s/%s", dir, name);
    return n > 0 && n < PATH_MAX
               ? 0
               : err_set(e, ERR_CONFIG, "out-dir", "the folder's name is too long");
}

static struct key *key_read(const char *dir, struct err *e)
{
    char path[PATH_MAX];
    struct secret s;
    if (path_in(path, dir, "svid.key", e) < 0 || secret_read_file(&s, path, KEY_PEM_MAX, e) < 0)
        return NULL;
    struct key *k = key_from_pkcs8_pem((const char *)s.p, s.len, e);
    secret_free(&s);
    if (!k)
        err_wrap(e, "%s", path);
    return k;
}

/* Reads a chain and says whether its leaf has this key. */
static int chain_read(const char *dir, const char *name, const struct key *k, struct buf *pem,
                      bool *ours, struct err *e)
{
    char path[PATH_MAX];
    STACK_OF(X509) * list;
    struct bytes want = key_spki(k);
    unsigned char *der = NULL;
    if (path_in(path, dir, name, e) < 0 || file_read(pem, path, CHAIN_PEM_MAX, e) < 0)
        return -1;
    if (x509_from_pem(&list, pem->p, pem->len, CHAIN_CERTS_MAX, e) < 0)
        return err_wrap(e, "%s", path);
    int n = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(sk_X509_value(list, 0)), &der);
    *ours = n > 0 && bytes_eq(want, der, (size_t)n);
    OPENSSL_free(der);
    sk_X509_pop_free(list, X509_free);
    return 0;
}

int agent_read_files(const char *dir, struct acme_identity *i, int64_t deadline, struct err *e)
{
    bool ours = false;
    struct err ignored;
    struct folder d;
    memset(i, 0, sizeof *i);
    buf_init(&i->chain_pem, CHAIN_PEM_MAX);
    if (folder_open(&d, dir, 0, deadline, e) < 0)
        return -1;
    i->key = key_read(dir, e);
    int rc = i->key ? chain_read(dir, "svid.pem", i->key, &i->chain_pem, &ours, e) : -1;
    bool missing =
        i->key && rc < 0 && e->code == ERR_NOT_FOUND; /* the first set of all was interrupted */
    if (missing || (rc == 0 && !ours)) {
        bool finished =
            chain_read(dir, ".svid.pem.new", i->key, &i->chain_pem, &ours, &ignored) == 0 && ours &&
            renameat(d.fd, ".svid.pem.new", d.fd, "svid.pem") == 0;
        if (finished)
            rc = 0;
        else if (!missing)
            rc = err_set(e, ERR_CORRUPT, "svid-key",
                         "%s: svid.key and svid.pem do not belong together: get a new join token",
                         dir);
    }
    folder_close(&d);
    if (rc < 0)
        acme_identity_free(i);
    return rc;
}
