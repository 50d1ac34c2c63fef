#include "agent/folder.h"
#include "base/clock.h"
#include "base/fileio.h"
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LOCK_RETRY_MS 20
#define TRY_NAME ".mayfly.new"
#define TRY_BYTES 40960

void folder_close(struct folder *d)
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
            return err_errno(e, "out-lock", "cannot lock %s/" FOLDER_LOCK, dir);
        if (clock_mono_ms() >= deadline)
            return err_set(e, ERR_UNAVAILABLE, "out-lock",
                           "another agent uses the folder %s: try again, or find out who holds "
                           "%.100s/" FOLDER_LOCK,
                           dir, dir);
        nanosleep(&pause, NULL);
    }
    return 0;
}

int folder_open(struct folder *d, const char *dir, int flags, int64_t deadline, struct err *e)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC | flags);
    if (fd < 0)
        return err_errno(e, "out-dir", "cannot open the folder %s", dir);
    return folder_lock(d, fd, dir, deadline, e);
}

int folder_lock(struct folder *d, int fd, const char *dir, int64_t deadline, struct err *e)
{
    int rc = 0;
    *d = (struct folder){fd, -1};
    d->lock = openat(d->fd, FOLDER_LOCK, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (d->lock < 0)
        rc = err_errno(e, "out-lock", "cannot open %s/" FOLDER_LOCK, dir);
    else
        rc = lock_wait(d->lock, dir, deadline, e);
    if (rc < 0)
        folder_close(d);
    return rc;
}

static int give(int fd, const struct folder_file *f, struct err *e)
{
    bool owner = f->uid != (uid_t)-1 || f->gid != (gid_t)-1;
    if (owner && fchown(fd, f->uid, f->gid) < 0)
        return err_errno(e, "out-owner", "cannot give %s to user %d, group %d (is the agent root?)", f->name,
                         (int)f->uid, (int)f->gid);
    if (fchmod(fd, f->mode) < 0)
        return err_errno(e, "out-write", "cannot set the mode of %s", f->name);
    return 0;
}

static int write_failed(const struct folder_file *f, struct err *e)
{
    if (errno == ENOSPC || errno == EDQUOT)
        return err_errno(e, "out-space", "no room for %s", f->name);
    return err_errno(e, "out-write", "cannot write %s", f->name);
}

static int fill(int fd, const struct folder_file *f, struct err *e)
{
    if (give(fd, f, e) < 0)
        return -1;
    if (file_write_all(fd, f->contents.p, f->contents.len) < 0 || fsync(fd) < 0)
        return write_failed(f, e);
    return 0;
}

int folder_stage(int dir, const char *as, const struct folder_file *f, struct err *e)
{
    unlinkat(dir, as, 0); /* of an agent that was killed */
    int fd = openat(dir, as, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return errno == ENOSPC || errno == EDQUOT ? write_failed(f, e)
                                                  : err_errno(e, "out-write", "cannot create %s", as);
    int rc = fill(fd, f, e);
    if (close(fd) < 0 && rc == 0)
        rc = write_failed(f, e);
    return rc;
}

/* Under a name of its own: another temporary file may be half of a set that agent_read_files still has to
 * finish. */
int folder_try(int dir, const struct folder_file *f, struct err *e)
{
    static const uint8_t room[TRY_BYTES];
    struct folder_file t = *f;
    t.name = "files";
    t.contents = (struct bytes){room, sizeof room};
    int rc = folder_stage(dir, TRY_NAME, &t, e);
    unlinkat(dir, TRY_NAME, 0);
    return rc;
}
