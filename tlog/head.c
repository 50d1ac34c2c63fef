/* The head: the newest signed checkpoint, in a file of its own, outside what backups of the tiles
 * or the journal bring back.
 *
 * Two slots of one page, written in turn, in place and with O_DSYNC: a torn write spoils the slot
 * that was the older one, and the other still holds the head before. Slot:
 *   "mayflyh1" ‖ u64 sequence ‖ u16 length ‖ signed note ‖ SHA-256 of all before ‖ zeros
 * Compare-and-swap: before a write the file must be the one that was opened, and both slots must
 * be what this process read or wrote last. Whoever else wrote (a second writer past the lock, a
 * restored copy under a running log) makes the swap fail, which is final.
 */
#include "base/fileio.h"
#include "tlog/internal.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC "mayflyh1"
#define NOTE_AT 18
#define NOTE_MAX (TLOG_HEAD_SLOT - NOTE_AT - TLOG_HASH)

static int slot_make(uint8_t slot[TLOG_HEAD_SLOT], uint64_t seq, const void *note, size_t len,
                     struct err *e)
{
    if (len > NOTE_MAX)
        return err_set(e, ERR_INTERNAL, "log-head", "a signed head of %zu bytes does not fit", len);
    memset(slot, 0, TLOG_HEAD_SLOT);
    memcpy(slot, MAGIC, 8);
    for (unsigned i = 0; i < 8; i++)
        slot[8 + i] = (uint8_t)(seq >> (56 - 8 * i));
    slot[16] = (uint8_t)(len >> 8);
    slot[17] = (uint8_t)len;
    memcpy(slot + NOTE_AT, note, len);
    tlog_sha256(slot + NOTE_AT + len, slot, NOTE_AT + len);
    return 0;
}

static bool slot_read(const uint8_t *slot, uint64_t *seq, struct bytes *note)
{
    uint8_t sum[TLOG_HASH];
    struct bytes magic, check;
    struct cur c = cur_of(slot, TLOG_HEAD_SLOT);
    if (cur_take(&c, 8, &magic) < 0 || !bytes_eq(magic, MAGIC, 8) || cur_u64(&c, seq) < 0 ||
        cur_vec16(&c, note) < 0 || cur_take(&c, TLOG_HASH, &check) < 0)
        return false;
    tlog_sha256(sum, slot, NOTE_AT + note->len);
    return bytes_eq(check, sum, TLOG_HASH);
}

static int path_set(char path[TLOG_PATH_CAP], const char *dir, struct err *e)
{
    if (snprintf(path, TLOG_PATH_CAP, "%s/head", dir) >= TLOG_PATH_CAP)
        return err_set(e, ERR_CONFIG, "log-path", "the log folder's path is too long");
    return 0;
}

int tlog_head_create(const char *dir, const void *note, size_t len, struct err *e)
{
    char path[TLOG_PATH_CAP];
    uint8_t file[2 * TLOG_HEAD_SLOT] = {0};
    if (path_set(path, dir, e) < 0 || slot_make(file, 1, note, len, e) < 0)
        return -1;
    if (file_write_atomic(path, file, sizeof file, 0640, true, e) < 0)
        return tlog_io_err(e, "cannot write", path);
    return 0;
}

static int disk_read(const struct tlog_head *h, uint8_t disk[2 * TLOG_HEAD_SLOT])
{
    size_t got = 0;
    while (got < 2 * TLOG_HEAD_SLOT) {
        ssize_t n = pread(h->fd, disk + got, 2 * TLOG_HEAD_SLOT - got, (off_t)got);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -1;
        got += (size_t)n;
    }
    return 0;
}

/* The newer of the readable slots. */
static int slots_choose(struct tlog_head *h, struct bytes *note, struct err *e)
{
    uint64_t seq[2] = {0, 0};
    struct bytes notes[2] = {{NULL, 0}, {NULL, 0}};
    bool ok[2];
    for (unsigned i = 0; i < 2; i++)
        ok[i] = slot_read(h->disk + i * TLOG_HEAD_SLOT, &seq[i], &notes[i]);
    if ((!ok[0] && !ok[1]) || (ok[0] && ok[1] && seq[0] == seq[1]))
        return err_set(
            e, ERR_CORRUPT, "log-head",
            "%s is damaged in both its slots; restore this file from the newest copy "
            "that is not older than the journal, and never delete it: without it nothing "
            "tells whether the log was rolled back",
            h->path);
    h->newest = ok[1] && (!ok[0] || seq[1] > seq[0]);
    h->seq = seq[h->newest];
    *note = notes[h->newest];
    return 0;
}

int tlog_head_open(struct tlog_head *h, const char *dir, const struct tlog_vkey *k, struct err *e)
{
    struct bytes note = {NULL, 0};
    struct stat st;
    memset(h, 0, sizeof *h);
    h->fd = -1;
    if (path_set(h->path, dir, e) < 0)
        return -1;
    h->fd = open(h->path, O_RDWR | O_DSYNC | O_CLOEXEC | O_NOFOLLOW);
    if (h->fd < 0 && errno == ENOENT)
        return err_set(e, ERR_CORRUPT, "log-missing",
                       "%s is missing: restore it from the newest copy of the log; do not make a "
                       "new log over the old one",
                       h->path);
    if (h->fd < 0 || fstat(h->fd, &st) < 0)
        return tlog_io_err(e, "cannot open", h->path);
    if (st.st_size != 2 * TLOG_HEAD_SLOT || disk_read(h, h->disk) < 0)
        return err_set(e, ERR_CORRUPT, "log-head",
                       "%s has %lld bytes instead of %d: restore this file from the newest copy of "
                       "the log, and never delete it",
                       h->path, (long long)st.st_size, 2 * TLOG_HEAD_SLOT);
    if (slots_choose(h, &note, e) < 0)
        return -1;
    if (tlog_checkpoint_open(&h->at, note.p, note.len, k, e) < 0) {
        struct err why = *e;
        return err_set(e, ERR_CORRUPT, "log-head",
                       "%s does not hold a head signed by this log's key (%s): is it another log's "
                       "folder, or was the key replaced? %.250s",
                       h->path, k->name, why.msg);
    }
    return 0;
}

struct bytes tlog_head_note(const struct tlog_head *h)
{
    uint64_t seq;
    struct bytes note = {NULL, 0};
    slot_read(h->disk + h->newest * TLOG_HEAD_SLOT, &seq, &note);
    return note;
}

static int slot_write(const struct tlog_head *h, unsigned slot, struct err *e)
{
    ssize_t n = pwrite(h->fd, h->disk + slot * TLOG_HEAD_SLOT, TLOG_HEAD_SLOT, slot * TLOG_HEAD_SLOT);
    if (n == TLOG_HEAD_SLOT)
        return 0;
    if (n >= 0)
        errno = EIO;
    return tlog_io_err(e, "cannot write", h->path);
}

int tlog_head_settle(const struct tlog_head *h, struct err *e)
{
    return slot_write(h, h->newest, e);
}

static int head_compare(const struct tlog_head *h, const struct tlog_checkpoint *c, struct err *e)
{
    uint8_t disk[2 * TLOG_HEAD_SLOT];
    struct stat named, opened;
    if (c->size < h->at.size)
        return err_set(e, ERR_INTERNAL, "log-head", "the head would go back from %llu to %llu",
                       (unsigned long long)h->at.size, (unsigned long long)c->size);
    if (stat(h->path, &named) < 0 || fstat(h->fd, &opened) < 0 || named.st_ino != opened.st_ino ||
        named.st_dev != opened.st_dev || disk_read(h, disk) < 0 ||
        memcmp(disk, h->disk, sizeof disk) != 0)
        return err_set(e, ERR_CORRUPT, "log-head",
                       "%s is not what this process wrote last: another writer has the log, or the "
                       "file was replaced under it; nothing was signed over it. Find out which "
                       "before starting again",
                       h->path);
    return 0;
}

int tlog_head_swap(struct tlog_head *h, const struct tlog_checkpoint *c, const void *note,
                   size_t len, struct err *e)
{
    unsigned slot = !h->newest;
    uint8_t *mem = h->disk + slot * TLOG_HEAD_SLOT;
    if (head_compare(h, c, e) < 0 || slot_make(mem, h->seq + 1, note, len, e) < 0)
        return -1;
    if (slot_write(h, slot, e) < 0)
        return -1;
    h->newest = slot;
    h->seq++;
    h->at = *c;
    return 0;
}

void tlog_head_close(struct tlog_head *h)
{
    if (h->fd >= 0)
        close(h->fd);
    h->fd = -1;
}
