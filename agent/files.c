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
 * place of a file is replaced. Two agents writing one folder take turns: each locks LOCK_NAME in it,
 * a file of mode 0600 that stays (the folder itself can be locked by whoever may read it), and waits
 * for the other no longer than its deadline.
 */
#include "agent/internal.h"
#include "base/clock.h"
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
#include <time.h>
#include <unistd.h>

#define KEY_PEM_MAX 8192
#define LOCK_NAME ".mayfly.lock"
#define LOCK_RETRY_MS 20
#define TRY_NAME ".mayfly.new"

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

struct folder {
    int fd, lock;
};

static void folder_close(struct folder *d)
{
    if (d->lock >= 0)
        close(d->lock);
    if (d->fd >= 0)
        close(d->fd);
}

/* Tried at least once, however late it is. */
static int lock_wait(int lock, const char *dir, int64_t deadline, struct err *e)
{
    static const struct timespec pause = {0, LOCK_RETRY_MS * 1000000L};
    while (flock(lock, LOCK_EX | LOCK_NB) < 0) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return err_errno(e, "out-lock", "cannot lock %s/" LOCK_NAME, dir);
        if (clock_mono_ms() >= deadline)
            return err_set(e, ERR_UNAVAILABLE, "out-lock",
                           "another agent uses the folder %s: try again, or find out who holds "
                           "%.100s/" LOCK_NAME,
                           dir, dir);
        nanosleep(&pause, NULL);
    }
    return 0;
}

/* Opens and locks the folder; on failure nothing is left open. */
static int folder_open(struct folder *d, const char *dir, int64_t deadline, struct err *e)
{
    int rc = 0;
    *d = (struct folder){open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), -1};
    if (d->fd < 0)
        return err_errno(e, "out-dir", "cannot open the folder %s", dir);
    d->lock = openat(d->fd, LOCK_NAME, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (d->lock < 0)
        rc = err_errno(e, "out-lock", "cannot open %s/" LOCK_NAME, dir);
    else
        rc = lock_wait(d->lock, dir, deadline, e);
    if (rc < 0)
        folder_close(d);
    return rc;
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

/* As much as a set may need, under a name of its own: .svid.pem.new may be half of a set that
 * agent_read_files still has to finish. */
static int folder_try(int dir, struct err *e)
{
    static const uint8_t room[KEY_PEM_MAX + CHAIN_PEM_MAX];
    unlinkat(dir, TRY_NAME, 0); /* of an agent that was killed */
    int fd = openat(dir, TRY_NAME, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_errno(e, "out-write", "cannot create files");
    int rc = file_write_all(fd, room, sizeof room) == 0
                 ? 0
                 : err_errno(e, "out-write", "cannot write %zu bytes", sizeof room);
    close(fd);
    unlinkat(dir, TRY_NAME, 0);
    return rc;
}

int agent_try_folder(const char *dir, int64_t deadline, struct err *e)
{
    struct folder d;
    if (file_mkdirs(dir, 0755, e) < 0 || folder_open(&d, dir, deadline, e) < 0)
        return -1;
    int rc = folder_try(d.fd, e);
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
        rc = folder_open(&d, dir, deadline, e);
    if (rc == 0) {
        const struct file files[] = {
            {"bundle.pem", ".bundle.pem.new", 0644, {trust->roots_pem.p, trust->roots_pem.len}},
            {"svid.key", ".svid.key.new", 0600, {key.p, key.len}},
            {"svid.pem", ".svid.pem.new", 0644, {i->chain_pem.p, i->chain_pem.len}},
        };
        rc = set_write(d.fd, files, sizeof files / sizeof *files, e);
        if (rc < 0)
            err_wrap(e, "%s", dir);
        folder_close(&d);
    }
    buf_wipe(&key);
    return rc;
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

int agent_read_files(const char *dir, struct acme_identity *i, int64_t deadline, struct err *e)
{
    bool ours = false;
    struct err ignored;
    struct folder d;
    memset(i, 0, sizeof *i);
    buf_init(&i->chain_pem, CHAIN_PEM_MAX);
    if (folder_open(&d, dir, deadline, e) < 0)
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
