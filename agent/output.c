/* From a set in memory to a set in place:
 *
 *   1 the folder is opened, found to be safe, locked; what a killed agent left is taken away
 *   2 a new ..set-<n>, closed to others, and in it each file: owner, mode, bytes, synced
 *   3 links for names that have none yet, beside their places
 *   4 one rename of ..data, then the links
 *
 * Whatever fails before 4 leaves the old set as it was and nothing of the new one. After the rename the new set
 * counts, whatever fails.
 * The key's PEM exists in locked memory and in the file; on a tmpfs the file is memory too, though not locked.
 */
#include "agent/output_set.h"
#include "agent/pem.h"
#include "agent/walk.h"
#include "base/clock.h"
#include "base/fault.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOCK_WAIT_MS 5000
#define PUBLIC_MODE 0644
#define PARTS_MAX (256 * 1024) /* bytes of chain and key in one file */

/* --- the folder ------------------------------------------------------------------------------------- */

static int folder_safe(int fd, const struct output_config *c, struct err *e)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return err_errno(e, "out-dir", "cannot examine the folder");
    if (st.st_uid != geteuid() && st.st_uid != 0 && st.st_uid != c->uid)
        return err_set(e, ERR_CONFIG, "out-dir",
                       "the folder belongs to user %u: it must be the agent's (%u), root's, or of the user that the "
                       "files are for",
                       (unsigned)st.st_uid, (unsigned)geteuid());
    if ((st.st_mode & S_IWOTH) && !(st.st_mode & S_ISVTX))
        return err_set(e, ERR_CONFIG, "out-dir", "anybody may write the folder (mode %04o): run chmod o-w",
                       (unsigned)st.st_mode & 07777);
    return 0;
}

/* A folder that we make is open to readers, whatever the umask; its files are closed by their own modes. Whoever owns
 * a folder on the way could have put a link there, so links are followed only where walk.h trusts them. */
static int folder_take(struct folder *d, const struct output_config *c, bool make, struct err *e)
{
    int fd = walk_open(c->dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, make);
    if (fd < 0 && errno == ELOOP)
        return err_set(e, ERR_CONFIG, "out-dir",
                       "%s is a symbolic link, or one on the way to it belongs to neither root nor the agent: name the "
                       "folder itself", c->dir);
    if (fd < 0)
        return err_errno(e, "out-dir", "cannot open the folder %s", c->dir);
    if (folder_lock(d, fd, c->dir, clock_mono_ms() + LOCK_WAIT_MS, e) < 0)
        return -1;
    if (folder_safe(d->fd, c, e) == 0)
        return 0;
    folder_close(d);
    return err_wrap(e, "%s", c->dir);
}

/* Opened, found to be safe, locked. */
static int output_folder(struct folder *d, const struct output_config *c, struct err *e)
{
    return folder_take(d, c, true, e);
}

int output_try(const struct output_config *c, struct err *e)
{
    const struct folder_file f = {"files", c->mode & 0777, c->uid, c->gid, {NULL, 0}};
    struct folder d;
    if (output_folder(&d, c, e) < 0)
        return -1;
    int rc = folder_try(d.fd, &f, e);
    folder_close(&d);
    return rc < 0 ? err_wrap(e, "%s", c->dir) : 0;
}

/* --- contents --------------------------------------------------------------------------------------- */

struct contents {
    struct secret key, combined; /* PEM */
};

static void contents_free(struct contents *x)
{
    secret_free(&x->key);
    secret_free(&x->combined);
}

static int combine(struct contents *x, struct bytes chain, struct err *e)
{
    if (secret_new(&x->combined, chain.len + x->key.len, e) < 0)
        return -1;
    memcpy(x->combined.p, chain.p, chain.len);
    memcpy(x->combined.p + chain.len, x->key.p, x->key.len);
    x->combined.len = x->combined.cap;
    return 0;
}

static int contents_make(struct contents *x, const struct output_config *c, const struct output_set *s, struct err *e)
{
    *x = (struct contents){0};
    if (s->key_der->len > PARTS_MAX / 2 || s->chain_pem.len > PARTS_MAX / 2)
        return err_set(e, ERR_TOO_LARGE, "out-write", "a chain or key that is too long");
    if (secret_new(&x->key, PEM_ROOM(s->key_der->len), e) < 0)
        return -1;
    x->key.len = pem_write((char *)x->key.p, "PRIVATE KEY", s->key_der->p, s->key_der->len);
    return c->combined ? combine(x, s->chain_pem, e) : 0;
}

/* --- the set ------------------------------------------------------------------------------------------ */

/* By place in output_names; a NULL name: not wanted. */
static unsigned list_files(struct folder_file list[OUTPUT_NAMES], const struct output_config *c,
                           const struct output_set *s, const struct contents *x)
{
    const mode_t secret = c->mode ? c->mode & 0777 : 0600, open = PUBLIC_MODE & (secret | 0444);
    const struct folder_file all[OUTPUT_NAMES] = {
        {output_names[0], open, c->uid, c->gid, s->bundle_pem},
        {output_names[1], secret, c->uid, c->gid, {x->key.p, x->key.len}},
        {output_names[2], open, c->uid, c->gid, s->chain_pem},
        {output_names[3], secret, c->uid, c->gid, {x->combined.p, x->combined.len}},
        {output_names[4], secret, c->uid, c->gid, s->jwt},
        {output_names[5], open, c->uid, c->gid, s->crl_pem},
    };
    const unsigned want = 7u | (c->combined ? 1u << 3 : 0) | (s->jwt.len ? 1u << 4 : 0) | (s->crl_pem.len ? 1u << 5 : 0);
    memcpy(list, all, sizeof all);
    return want;
}

static int set_fill(int fd, const struct folder_file *list, unsigned want, struct err *e)
{
    for (int i = 0; i < OUTPUT_NAMES; i++)
        if ((want & 1u << i) && folder_stage(fd, list[i].name, &list[i], e) < 0)
            return -1;
    if (fchmod(fd, 0755) < 0 || fsync(fd) < 0)
        return err_errno(e, "out-write", "cannot finish the set");
    return FAULT("output-staged") ? err_set(e, ERR_IO, "fault", "fault output-staged") : 0;
}

static int set_write(int dir, const struct folder_file *list, unsigned want, struct output_stamp *stamp, struct err *e)
{
    struct stat st;
    unsigned n, current = set_current(dir);
    set_sweep(dir, current);
    int fd = set_create(dir, current, &n, e);
    if (fd < 0)
        return -1;
    int rc = set_fill(fd, list, want, e);
    if (rc == 0 && fstat(fd, &st) < 0)
        rc = err_errno(e, "out-write", "cannot examine the set");
    close(fd);
    if (rc == 0 && stamp)
        *stamp = (struct output_stamp){.number = n, .names = want, .dev = st.st_dev, .ino = st.st_ino};
    if (rc == 0)
        rc = links_prepare(dir, want, e);
    if (rc == 0 && FAULT("output-linked"))
        rc = err_set(e, ERR_IO, "fault", "fault output-linked");
    if (rc == 0)
        rc = set_swap(dir, n, want, e);
    links_drop(dir);
    if (rc < 0 && set_current(dir) != n)
        set_remove(dir, n);
    return rc;
}

int output_write(const struct output_config *c, const struct output_set *s, struct err *e)
{
    struct folder_file list[OUTPUT_NAMES];
    struct contents x;
    struct folder d;
    int rc = contents_make(&x, c, s, e);
    if (rc == 0)
        rc = output_folder(&d, c, e);
    if (rc == 0) {
        unsigned want = list_files(list, c, s, &x);
        rc = set_write(d.fd, list, want, s->stamp, e);
        if (rc < 0)
            err_wrap(e, "%s", c->dir);
        folder_close(&d);
    }
    contents_free(&x);
    return rc;
}

int output_stands(const struct output_config *c, const struct output_stamp *was, struct err *e)
{
    int fd = walk_open(c->dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, false);
    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR || errno == ELOOP))
        return 0;
    if (fd < 0)
        return err_errno(e, "out-dir", "cannot open the folder %s", c->dir);
    int rc = set_stands(fd, was);
    if (rc < 0)
        err_errno(e, "out-dir", "cannot examine the folder %s", c->dir);
    close(fd);
    return rc;
}

int output_remove(const char *dir, struct err *e)
{
    const struct output_config c = {.dir = dir, .uid = (uid_t)-1, .gid = (gid_t)-1};
    struct stat st;
    struct folder d;
    if (lstat(dir, &st) < 0)
        return errno == ENOENT ? 0 : err_errno(e, "out-dir", "cannot examine %s", dir);
    if (folder_take(&d, &c, false, e) < 0)
        return -1;
    names_remove(d.fd);
    folder_close(&d);
    return 0;
}
