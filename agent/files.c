/* The folder an identity is kept in: bundle.pem, svid.key (0600), svid.pem.
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
 * place of a file is replaced. The folder is locked meanwhile: two agents writing one folder take
 * turns.
 */
#include "agent/internal.h"
#include "base/fault.h"
#include "base/fileio.h"
#include "base/secmem.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEY_PEM_MAX 8192

struct file {
    const char *name, *temp;
    mode_t mode;
    struct bytes contents;
};

void buf_wipe(struct buf *b)
{
    if (b->p)
        secret_wipe(b->p, b->cap);
    buf_free(b);
}

static int folder_open(const char *dir, struct err *e)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, "out-dir", "cannot open the folder %s", dir);
    while (flock(fd, LOCK_EX) < 0)
        if (errno != EINTR) {
            err_errno(e, "out-dir", "cannot lock the folder %s", dir);
            close(fd);
            return -1;
        }
    return fd;
}

/* Written, closed and durable under its temporary name; permissions before the first byte. */
static int file_stage(int dir, const struct file *f, struct err *e)
{
    unlinkat(dir, f->temp, 0); /* of an agent that was killed */
    int fd = openat(dir, f->temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_errno(e, "out-write", "cannot create %s", f->temp);
    bool good = fchmod(fd, f->mode) == 0 &&
                file_write_all(fd, f->contents.p, f->contents.len) == 0 && fsync(fd) == 0;
    int why = errno;
    if (close(fd) < 0 && good) {
        good = false;
        why = errno;
    }
    errno = why;
    return good ? 0 : err_errno(e, "out-write", "cannot write %s", f->name);
}

static int set_write(int dir, const struct file *files, size_t n, struct err *e)
{
    int rc = 0;
    size_t placed = 0;
    for (size_t i = 0; i < n && rc == 0; i++)
        rc = file_stage(dir, &files[i], e);
    if (rc == 0 && FAULT("agent-staged"))
        rc = err_set(e, ERR_IO, "fault", "fault agent-staged");
    while (rc == 0 && placed < n) {
        if (renameat(dir, files[placed].temp, dir, files[placed].name) < 0)
            rc = err_errno(e, "out-write", "cannot put %s in place", files[placed].name);
        else if (placed++, FAULT("agent-renamed"))
            rc =
                err_set(e, ERR_IO, "fault", "fault agent-renamed after %s", files[placed - 1].name);
    }
    if (rc == 0 && fsync(dir) < 0)
        rc = err_errno(e, "out-write", "cannot sync the folder");
    /* Once its key is in place the certificate is kept: agent_read_files finishes the set. */
    if (rc < 0 && placed + 1 < n)
        for (size_t i = 0; i < n; i++)
            unlinkat(dir, files[i].temp, 0);
    return rc;
}

int agent_write_files(const char *dir, const struct acme_identity *i,
                      const struct agent_trust *trust, struct err *e)
{
    struct buf key;
    buf_init(&key, KEY_PEM_MAX);
    int rc = key_to_pkcs8_pem(i->key, &key, e), fd = -1;
    if (rc == 0)
        rc = file_mkdirs(dir, 0755, e);
    if (rc == 0)
        rc = fd = folder_open(dir, e);
    if (rc >= 0) {
        const struct file files[] = {
            {"bundle.pem", ".bundle.pem.new", 0644, {trust->roots_pem.p, trust->roots_pem.len}},
            {"svid.key", ".svid.key.new", 0600, {key.p, key.len}},
            {"svid.pem", ".svid.pem.new", 0644, {i->chain_pem.p, i->chain_pem.len}},
        };
        rc = set_write(fd, files, sizeof files / sizeof *files, e);
        if (rc < 0)
            err_wrap(e, "%s", dir);
    }
    if (fd >= 0)
        close(fd);
    buf_wipe(&key);
    return rc < 0 ? -1 : 0;
}

/* --- reading back
 * ------------------------------------------------------------------------------------- */

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

int agent_read_files(const char *dir, struct acme_identity *i, struct err *e)
{
    bool ours = false;
    struct err ignored;
    memset(i, 0, sizeof *i);
    buf_init(&i->chain_pem, CHAIN_PEM_MAX);
    int fd = folder_open(dir, e);
    if (fd < 0)
        return -1;
    i->key = key_read(dir, e);
    int rc = i->key ? chain_read(dir, "svid.pem", i->key, &i->chain_pem, &ours, e) : -1;
    bool missing =
        i->key && rc < 0 && e->code == ERR_NOT_FOUND; /* the first set of all was interrupted */
    if (missing || (rc == 0 && !ours)) {
        bool finished =
            chain_read(dir, ".svid.pem.new", i->key, &i->chain_pem, &ours, &ignored) == 0 && ours &&
            renameat(fd, ".svid.pem.new", fd, "svid.pem") == 0;
        if (finished)
            rc = 0;
        else if (!missing)
            rc = err_set(e, ERR_CORRUPT, "svid-key",
                         "%s: svid.key and svid.pem do not belong together: get a new join token",
                         dir);
    }
    close(fd);
    if (rc < 0)
        acme_identity_free(i);
    return rc;
}
