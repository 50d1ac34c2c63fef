/* The log's writer: making, opening, appending. */
#include "base/fault.h"
#include "base/fileio.h"
#include "tlog/internal.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

int tlog_note_sign(const struct tlog_options *o, const struct tlog_checkpoint *c, struct buf *out,
                   struct err *e)
{
    uint8_t sig[64];
    buf_reset(out);
    tlog_checkpoint_body(c, out);
    if (out->failed)
        return err_set(e, ERR_INTERNAL, "log-memory", "out of memory for a checkpoint");
    if (o->sign(o->sign_arg, out->p, out->len, sig, e) < 0)
        return -1;
    buf_reset(out);
    tlog_checkpoint_note(c, o->vkey, sig, out);
    return out->failed ? err_set(e, ERR_INTERNAL, "log-memory", "out of memory for a checkpoint")
                       : 0;
}

/* One writer: the lock is on the folder itself, so it leaves no file behind and goes with the
 * process. */
static int folder_lock(const char *dir, int *fd, struct err *e)
{
    *fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*fd < 0 && errno == ENOENT)
        return err_set(e, ERR_CORRUPT, "log-missing",
                       "the log's folder %s does not exist: mount or restore it; a new log is made "
                       "only by \"mayfly init\"",
                       dir);
    if (*fd < 0)
        return tlog_io_err(e, "cannot open", dir);
    if (flock(*fd, LOCK_EX | LOCK_NB) == 0)
        return 0;
    int why = errno;
    close(*fd);
    *fd = -1;
    errno = why;
    if (why == EWOULDBLOCK)
        return err_set(e, ERR_EXISTS, "log-locked",
                       "the log in %s is in use by another process; a log has one writer", dir);
    return tlog_io_err(e, "cannot lock", dir);
}

static int refuse_existing(const char *dir, struct err *e)
{
    static const char *const names[] = {"head", "journal", "checkpoint", "tile"};
    char path[TLOG_PATH_CAP];
    struct stat st;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (snprintf(path, sizeof path, "%s/%s", dir, names[i]) >= TLOG_PATH_CAP)
            return err_set(e, ERR_CONFIG, "log-path", "the log folder's path is too long");
        if (lstat(path, &st) == 0)
            return err_set(e, ERR_EXISTS, "log-exists",
                           "%s exists: a log is never made over another. Open that one, or name an "
                           "empty folder",
                           path);
        if (errno != ENOENT)
            return tlog_io_err(e, "cannot look at", path);
    }
    return 0;
}

/* The head is written last: a folder without it was never opened. To tlog_open it looks like a log
 * that lost its head, and is refused; what was cut short here is emptied by hand and made anew. */
static int create_files(const struct tlog_options *o, struct tlog_journal *j,
                        struct tlog_publisher *p, struct buf *note, struct err *e)
{
    static const uint8_t null_entry[4] = {0, 0, 0, TLOG_ENTRY_NULL};
    struct tlog_record r = {.entry = {null_entry, sizeof null_entry}};
    struct tlog_checkpoint c = {.size = 1};
    bool rolled;
    merkle_leaf(&r.leaf, null_entry, sizeof null_entry);
    c.root = r.leaf;
    snprintf(c.origin, sizeof c.origin, "%s", o->vkey->name);
    if (tlog_note_sign(o, &c, note, e) < 0 || tlog_journal_create(j, o->dir, e) < 0 ||
        tlog_journal_write(j, &r.entry, &r.leaf, 1, true, &rolled, e) < 0 ||
        tlog_journal_sync(j, e) < 0 || tlog_publisher_feed(p, &r, e) < 0 ||
        tlog_publisher_catch_up(p, 0, 1, note->p, note->len, e) < 0)
        return -1;
    return tlog_head_create(o->dir, note->p, note->len, e);
}

static int dir_check(const char *dir, struct err *e)
{
    if (strlen(dir) >= TLOG_DIR_MAX)
        return err_set(e, ERR_CONFIG, "log-path", "the log folder's path is too long");
    return 0;
}

int tlog_create(const struct tlog_options *o, struct err *e)
{
    struct tlog_journal j;
    struct buf note;
    int fd, ret = -1;
    if (dir_check(o->dir, e) < 0 || file_mkdirs(o->dir, 0755, e) < 0 ||
        folder_lock(o->dir, &fd, e) < 0)
        return -1;
    struct tlog_publisher *p = tlog_publisher_new(o, e);
    tlog_journal_init(&j);
    buf_init(&note, TLOG_NOTE_MAX);
    if (p && refuse_existing(o->dir, e) == 0)
        ret = create_files(o, &j, p, &note, e);
    buf_free(&note);
    tlog_journal_close(&j);
    tlog_publisher_free(p);
    close(fd);
    return ret;
}

/* Temporary files of an atomic write that was killed between its steps. */
static void sweep(int dir_fd)
{
    int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    if (!d) {
        if (fd >= 0)
            close(fd);
        return;
    }
    for (struct dirent *f; (f = readdir(d));)
        if (strncmp(f->d_name, ".checkpoint.tmp-", 16) == 0 || strncmp(f->d_name, ".policy.tmp-", 12) == 0)
            unlinkat(fd, f->d_name, 0);
    closedir(d);
}

static struct tlog *tlog_new(const struct tlog_options *o, struct err *e)
{
    struct tlog *t = calloc(1, sizeof *t);
    if (!t) {
        err_set(e, ERR_INTERNAL, "log-memory", "out of memory");
        return NULL;
    }
    t->o = *o;
    snprintf(t->dir, sizeof t->dir, "%s", o->dir);
    t->o.dir = t->dir;
    t->lock_fd = t->head.fd = -1;
    tlog_journal_init(&t->journal);
    buf_init(&t->note, TLOG_NOTE_MAX);
    pthread_mutex_init(&t->status_lock, NULL);
    t->batch = merkle_batch_new(TLOG_BATCH_MAX);
    t->publisher = tlog_publisher_new(&t->o, e);
    if (t->batch && t->publisher)
        return t;
    err_set(e, ERR_INTERNAL, "log-memory", "out of memory");
    tlog_close(t);
    return NULL;
}

int tlog_open(struct tlog **out, const struct tlog_options *o, struct err *e)
{
    *out = NULL;
    if (dir_check(o->dir, e) < 0)
        return -1;
    struct tlog *t = tlog_new(o, e);
    if (!t)
        return -1;
    if (folder_lock(t->dir, &t->lock_fd, e) < 0 || tlog_recover(t, e) < 0 ||
        tlog_publisher_start(t->publisher, &t->journal, e) < 0) {
        tlog_close(t);
        return -1;
    }
    sweep(t->lock_fd);
    t->status = t->head.at;
    *out = t;
    return 0;
}

void tlog_close(struct tlog *t)
{
    if (!t)
        return;
    if (t->publisher)
        tlog_publisher_stop(t->publisher);
    tlog_publisher_free(t->publisher);
    tlog_journal_close(&t->journal);
    tlog_head_close(&t->head);
    merkle_batch_free(t->batch);
    buf_free(&t->note);
    pthread_mutex_destroy(&t->status_lock);
    if (t->lock_fd >= 0)
        close(t->lock_fd); /* last: gives the folder free */
    free(t);
}

static int batch_check(const struct tlog *t, const struct bytes *entries, size_t n, struct err *e)
{
    if (t->dead)
        return err_set(e, ERR_UNAVAILABLE, "log-dead",
                       "an earlier append failed; the signer must start again, which recovers");
    if (n == 0 || n > TLOG_BATCH_MAX)
        return err_set(e, ERR_INTERNAL, "log-batch", "a batch of %zu entries (1 to %d)", n,
                       TLOG_BATCH_MAX);
    struct tlog_entry x;
    for (size_t i = 0; i < n; i++)
        if (tlog_entry_parse(&x, entries[i].p, entries[i].len, e) < 0)
            return err_wrap(e, "entry %zu of a batch", i);
    return 0;
}

static int fault(const char *name, int asked, struct err *e)
{
    return asked ? err_set(e, ERR_INTERNAL, "fault", "fault point %s", name) : 0;
}

/* The steps of an append, in the order that makes a crash harmless (log.h). */
static int batch_commit(struct tlog *t, const struct bytes *entries, size_t n, struct err *e)
{
    bool rolled;
    for (size_t i = 0; i < n; i++)
        merkle_leaf(&t->leaves[i], entries[i].p, entries[i].len);
    bool may_roll = tlog_publisher_may_roll(t->publisher);
    if (tlog_journal_write(&t->journal, entries, t->leaves, n, may_roll, &rolled, e) < 0 ||
        (rolled && tlog_publisher_segment(t->publisher, t->frontier.size, e) < 0) ||
        fault("tlog-journal", FAULT("tlog-journal"), e) < 0 ||
        tlog_journal_sync(&t->journal, e) < 0 || fault("tlog-synced", FAULT("tlog-synced"), e) < 0)
        return -1;
    t->batch_first = t->frontier.size;
    t->batch_n = n;
    merkle_batch_append(t->batch, &t->frontier, t->leaves, n);
    struct tlog_checkpoint c = t->head.at;
    c.size = t->frontier.size;
    merkle_batch_root(t->batch, &c.root);
    if (tlog_note_sign(&t->o, &c, &t->note, e) < 0 ||
        fault("tlog-signed", FAULT("tlog-signed"), e) < 0 ||
        tlog_head_swap(&t->head, &c, t->note.p, t->note.len, e) < 0 ||
        fault("tlog-head", FAULT("tlog-head"), e) < 0)
        return -1;
    pthread_mutex_lock(&t->status_lock);
    t->status = c;
    pthread_mutex_unlock(&t->status_lock);
    return tlog_publisher_hand(t->publisher, entries, t->leaves, n, c.size, t->note.p, t->note.len,
                               e);
}

int tlog_append(struct tlog *t, const struct bytes *entries, size_t n, uint64_t *first,
                struct err *e)
{
    if (batch_check(t, entries, n, e) < 0)
        return -1;
    if (batch_commit(t, entries, n, e) < 0) {
        t->dead = true;
        return -1;
    }
    *first = t->batch_first;
    return 0;
}

void tlog_batch_proof(const struct tlog *t, size_t k, struct bytes extra, struct buf *out)
{
    struct tlog_hash path[TLOG_LEVELS];
    if (k >= t->batch_n || t->note.failed) { /* the caller's bug; no memory for a cosignature */
        out->failed = true;
        return;
    }
    size_t n = merkle_batch_proof(t->batch, k, path);
    tlog_proof_write(out, extra, t->batch_first + k, path, n, t->note.p, t->note.len);
}

void tlog_batch_cosigned(struct tlog *t, const struct tlog_vkey *witness, const struct tlog_cosignature *s)
{
    tlog_cosign_line(witness, s, &t->note);
}

void tlog_publish_now(struct tlog *t)
{
    tlog_publisher_now(t->publisher);
}

int tlog_cosign(struct tlog *t, const struct tlog_checkpoint *c, const struct tlog_vkey *witness,
                const struct tlog_cosignature *s, struct err *e)
{
    struct tlog_checkpoint own = *c;
    struct buf text;
    memcpy(own.origin, t->o.vkey->name, sizeof own.origin);
    buf_init(&text, TLOG_NOTE_MAX);
    tlog_checkpoint_body(&own, &text);
    int rc = text.failed ? err_set(e, ERR_INTERNAL, "log-memory", "out of memory for a cosignature")
                         : tlog_cosign_verify(s, witness, (struct bytes){text.p, text.len}, e);
    buf_free(&text);
    return rc < 0 ? -1 : tlog_publisher_cosign(t->publisher, c, witness, s, e);
}

void tlog_status(struct tlog *t, struct tlog_status *s)
{
    pthread_mutex_lock(&t->status_lock);
    s->size = t->status.size;
    s->root = t->status.root;
    pthread_mutex_unlock(&t->status_lock);
    s->published_size = tlog_publisher_size(t->publisher);
}

int64_t tlog_newest_time(const struct tlog *t, bool *record)
{
    *record = t->newest_is_record;
    return t->newest_time;
}
