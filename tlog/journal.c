/* The journal: what is durable first.
 *
 * journal/<first index, 20 digits>: segments, zero-filled to their full size before their name
 * exists, so that a batch overwrites blocks that are there: its fdatasync moves data only (a
 * quarter cheaper than appending), and a full disk is met at the next segment, not inside a batch.
 *   header  "mayflyj1" ‖ u64 first index ‖ u64 file size ‖ 8 bytes of SHA-256 of these
 *   record  u32 length ‖ u64 index ‖ entry ‖ first 8 bytes of the leaf hash
 * The leaf hash is the checksum: it is computed anyway. Zeros end the records.
 * A crash leaves a last batch that is whole, partly there or absent; and perhaps journal/new.
 */
#include "base/fileio.h"
#include "tlog/internal.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC "mayflyj1"
#define HEADER 32
#define RECORD_HEAD 12
#define CHECK 8
#define BATCH_BYTES_MAX (TLOG_BATCH_MAX * (RECORD_HEAD + TLOG_ENTRY_MAX + CHECK))
#define SEGMENT_BYTES_MAX (HEADER + BATCH_BYTES_MAX + TLOG_SEGMENT_SIZE)
#define NAME_DIGITS 20

static int segment_path(char dst[TLOG_PATH_CAP], const struct tlog_journal *j, uint64_t first,
                        struct err *e)
{
    int n = snprintf(dst, TLOG_PATH_CAP, "%s/%020llu", j->dir, (unsigned long long)first);
    if (n < 0 || n >= TLOG_PATH_CAP)
        return err_set(e, ERR_CONFIG, "log-path", "the log folder's path is too long");
    return 0;
}

void tlog_journal_init(struct tlog_journal *j)
{
    memset(j, 0, sizeof *j);
    j->fd = -1;
    buf_init(&j->batch, BATCH_BYTES_MAX);
    buf_init(&j->last, SEGMENT_BYTES_MAX + 1);
}

void tlog_journal_close(struct tlog_journal *j)
{
    if (j->fd >= 0)
        close(j->fd);
    j->fd = -1;
    buf_free(&j->batch);
    tlog_journal_forget(j);
}

static void header_make(uint8_t h[HEADER], uint64_t first, uint64_t size)
{
    uint8_t sum[TLOG_HASH];
    memcpy(h, MAGIC, 8);
    for (unsigned i = 0; i < 8; i++) {
        h[8 + i] = (uint8_t)(first >> (56 - 8 * i));
        h[16 + i] = (uint8_t)(size >> (56 - 8 * i));
    }
    tlog_sha256(sum, h, 24);
    memcpy(h + 24, sum, 8);
}

static int pwrite_all(int fd, const uint8_t *p, size_t len, uint64_t at)
{
    while (len > 0) {
        ssize_t n = pwrite(fd, p, len, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        p += n;
        len -= (size_t)n;
        at += (size_t)n;
    }
    return 0;
}

static int zero_fill(int fd, uint64_t from, uint64_t to)
{
    static const uint8_t zeros[65536];
    for (uint64_t n; from < to; from += n) {
        n = to - from < sizeof zeros ? to - from : sizeof zeros;
        if (pwrite_all(fd, zeros, (size_t)n, from) < 0)
            return -1;
    }
    return 0;
}

/* A new last segment for records from j->next on, with room for at least `need` bytes. */
static int segment_begin(struct tlog_journal *j, size_t need, struct err *e)
{
    char path[TLOG_PATH_CAP], tmp[TLOG_PATH_CAP];
    uint8_t header[HEADER];
    uint64_t size = need + HEADER > TLOG_SEGMENT_SIZE ? need + HEADER : TLOG_SEGMENT_SIZE;
    if (segment_path(path, j, j->next, e) < 0)
        return -1;
    if (snprintf(tmp, sizeof tmp, "%s/new", j->dir) >= TLOG_PATH_CAP)
        return err_set(e, ERR_CONFIG, "log-path", "the log folder's path is too long");
    int fd = open(tmp, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0640);
    if (fd < 0)
        return tlog_io_err(e, "cannot make", tmp);
    header_make(header, j->next, size);
    if (pwrite_all(fd, header, HEADER, 0) < 0 || zero_fill(fd, HEADER, size) < 0 || fsync(fd) < 0 ||
        rename(tmp, path) < 0) {
        tlog_io_err(e, "cannot make", path);
        unlink(tmp); /* gives the room back */
        close(fd);
        return -1;
    }
    if (j->fd >= 0)
        close(j->fd);
    j->fd = fd;
    j->pos = HEADER;
    j->size = size;
    return file_sync_dir(j->dir, e);
}

static int dir_set(struct tlog_journal *j, const char *log_dir, struct err *e)
{
    if (snprintf(j->dir, sizeof j->dir, "%s/journal", log_dir) >= TLOG_PATH_CAP)
        return err_set(e, ERR_CONFIG, "log-path", "the log folder's path is too long");
    return 0;
}

int tlog_journal_create(struct tlog_journal *j, const char *log_dir, struct err *e)
{
    if (dir_set(j, log_dir, e) < 0)
        return -1;
    if (mkdir(j->dir, 0750) < 0)
        return tlog_io_err(e, "cannot make", j->dir);
    if (file_sync_dir(log_dir, e) < 0 || segment_begin(j, 0, e) < 0)
        return -1;
    return tlog_journal_note(j, 0, e);
}

int tlog_journal_note(struct tlog_journal *j, uint64_t first, struct err *e)
{
    if (j->segments > 0 && j->first[j->segments - 1] == first)
        return 0; /* an empty segment, replaced by a larger one */
    if (j->segments == TLOG_SEGMENTS_LISTED)
        return err_set(e, ERR_CORRUPT, "log-publish",
                       "%s has over %d segments, more than any run of this program leaves", j->dir,
                       TLOG_SEGMENTS_LISTED);
    j->first[j->segments++] = first;
    return 0;
}

bool tlog_segment_name(const char *s, uint64_t *first)
{
    *first = 0;
    if (strlen(s) != NAME_DIGITS)
        return false;
    for (; *s; s++) {
        if (*s < '0' || *s > '9' || *first > (UINT64_MAX - 9) / 10)
            return false;
        *first = *first * 10 + (uint64_t)(*s - '0');
    }
    return true;
}

static int by_value(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

int tlog_journal_list(struct tlog_journal *j, const char *log_dir, struct err *e)
{
    if (dir_set(j, log_dir, e) < 0)
        return -1;
    DIR *d = opendir(j->dir);
    if (!d && errno == ENOENT)
        return err_set(e, ERR_CORRUPT, "log-missing",
                       "%s is missing: restore it from the newest copy of the log; do not make a "
                       "new log over the old one",
                       j->dir);
    if (!d)
        return tlog_io_err(e, "cannot open", j->dir);
    int ret = 0;
    for (struct dirent *f; ret == 0 && (f = readdir(d));) {
        uint64_t first;
        if (strcmp(f->d_name, "new") == 0) /* a segment whose making a crash cut short */
            unlinkat(dirfd(d), f->d_name, 0);
        else if (tlog_segment_name(f->d_name, &first))
            ret = tlog_journal_note(j, first, e);
    }
    closedir(d);
    if (ret == 0 && j->segments == 0)
        return err_set(e, ERR_CORRUPT, "log-missing",
                       "%s has no segment: restore it from the newest copy of the log", j->dir);
    qsort(j->first, j->segments, sizeof j->first[0], by_value);
    return ret;
}

static bool all_zero(const uint8_t *p, size_t len)
{
    return len == 0 || (p[0] == 0 && memcmp(p, p + 1, len - 1) == 0);
}

static int record_next(struct cur *c, uint64_t index, struct tlog_record *r)
{
    uint32_t len;
    struct bytes check;
    if (cur_u32(c, &len) < 0 || len == 0 || len > TLOG_ENTRY_MAX || cur_u64(c, &r->index) < 0 ||
        r->index != index || cur_take(c, len, &r->entry) < 0 || cur_take(c, CHECK, &check) < 0)
        return -1;
    merkle_leaf(&r->leaf, r->entry.p, r->entry.len);
    return bytes_eq(check, r->leaf.b, CHECK) ? 0 : -1;
}

int tlog_segment_parse(const uint8_t *p, size_t len, uint64_t first, tlog_record_cb *cb, void *arg,
                       uint64_t *next, size_t *pos, enum tlog_tail *tail, struct err *e)
{
    uint8_t want[HEADER];
    uint64_t size = 0;
    *next = first;
    *pos = HEADER;
    if (len < HEADER)
        return err_set(
            e, ERR_CORRUPT, "log-truncated",
            "journal segment %llu is cut off inside its header: restore the journal from "
            "the newest copy of the log",
            (unsigned long long)first);
    for (unsigned i = 0; i < 8; i++)
        size = size << 8 | p[16 + i];
    header_make(want, first, size);
    if (memcmp(p, want, HEADER) != 0)
        return err_set(e, ERR_CORRUPT, "log-bitflip",
                       "journal segment %llu has a damaged header: restore the journal from the "
                       "newest copy of the log",
                       (unsigned long long)first);
    struct cur c = cur_of(p + HEADER, len - HEADER), ahead = c;
    for (struct tlog_record r; record_next(&ahead, *next, &r) == 0; c = ahead) {
        if (cb(arg, &r, e) < 0)
            return -1;
        (*next)++;
        *pos = (size_t)(ahead.p - p);
    }
    *tail = len < size                       ? TLOG_TAIL_SHORT
            : all_zero(p + *pos, len - *pos) ? TLOG_TAIL_CLEAN
                                             : TLOG_TAIL_TORN;
    return 0;
}

static int segment_replay(struct tlog_journal *j, size_t i, tlog_record_cb *cb, void *arg,
                          enum tlog_tail *tail, struct err *e)
{
    char path[TLOG_PATH_CAP];
    struct buf *b = &j->last;
    size_t pos;
    if (segment_path(path, j, j->first[i], e) < 0 || file_read(b, path, SEGMENT_BYTES_MAX, e) < 0 ||
        tlog_segment_parse(b->p, b->len, j->first[i], cb, arg, &j->next, &pos, tail, e) < 0)
        return -1;
    j->pos = pos;
    j->size = b->len;
    if (i + 1 == j->segments || j->next == j->first[i + 1])
        return 0;
    const char *rule = *tail == TLOG_TAIL_SHORT  ? "log-truncated"
                       : *tail == TLOG_TAIL_TORN ? "log-bitflip"
                                                 : "log-missing";
    return err_set(
        e, ERR_CORRUPT, rule,
        "%s has entries up to %llu, but the next segment begins at %llu: entries "
        "between are lost or damaged; restore the journal from the newest copy of the log",
        path, (unsigned long long)j->next, (unsigned long long)j->first[i + 1]);
}

int tlog_journal_replay(struct tlog_journal *j, tlog_record_cb *cb, void *arg, enum tlog_tail *tail,
                        struct err *e)
{
    int ret = 0;
    for (size_t i = 0; ret == 0 && i < j->segments; i++)
        ret = segment_replay(j, i, cb, arg, tail, e);
    return ret;
}

void tlog_journal_forget(struct tlog_journal *j)
{
    buf_free(&j->last);
}

/* What was replayed may have come from the page cache alone: after an fdatasync that failed, the
 * kernel holds the pages for clean, and a second one says yes without writing them. So they are
 * made dirty again by writing them. Segments before the last were synced before it was begun.
 *
 * What a torn batch left behind the last good record must not be met again: a later record of the
 * same length could make an old one behind it look like its successor. */
int tlog_journal_resume(struct tlog_journal *j, struct err *e)
{
    char path[TLOG_PATH_CAP];
    uint64_t last = j->first[j->segments - 1];
    if (segment_path(path, j, last, e) < 0)
        return -1;
    j->fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (j->fd < 0)
        return tlog_io_err(e, "cannot open", path);
    if (pwrite_all(j->fd, j->last.p, j->pos, 0) < 0)
        return tlog_io_err(e, "cannot write again", path);
    if (zero_fill(j->fd, j->pos, j->size) < 0)
        return tlog_io_err(e, "cannot clear the torn end of", path);
    return tlog_journal_sync(j, e);
}

int tlog_journal_sync(struct tlog_journal *j, struct err *e)
{
    if (fdatasync(j->fd) < 0)
        return tlog_io_err(e, "cannot sync the journal in", j->dir);
    return 0;
}

int tlog_journal_write(struct tlog_journal *j, const struct bytes *entries,
                       const struct tlog_hash *leaves, size_t n, bool may_roll, bool *rolled,
                       struct err *e)
{
    struct buf *b = &j->batch;
    buf_reset(b);
    for (size_t i = 0; i < n; i++) {
        buf_u32(b, (uint32_t)entries[i].len);
        buf_u64(b, j->next + i);
        buf_put(b, entries[i].p, entries[i].len);
        buf_put(b, leaves[i].b, CHECK);
    }
    if (b->failed)
        return err_set(e, ERR_INTERNAL, "log-memory", "out of memory for a batch of %zu entries",
                       n);
    *rolled = b->len > j->size - j->pos;
    if (*rolled && !may_roll)
        return err_set(e, ERR_UNAVAILABLE, "log-publish",
                       "publishing is %d journal segments behind: see earlier warnings",
                       TLOG_SEGMENTS_MAX);
    if (*rolled && segment_begin(j, b->len, e) < 0)
        return -1;
    if (pwrite_all(j->fd, b->p, b->len, j->pos) < 0)
        return tlog_io_err(e, "cannot write to the journal in", j->dir);
    j->pos += b->len;
    j->next += n;
    return 0;
}

int tlog_journal_unlink(const struct tlog_journal *j, uint64_t first, struct err *e)
{
    char path[TLOG_PATH_CAP];
    if (segment_path(path, j, first, e) < 0)
        return -1;
    return unlink(path) < 0 && errno != ENOENT ? tlog_io_err(e, "cannot remove", path) : 0;
}
