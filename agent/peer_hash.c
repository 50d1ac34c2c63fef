/* SHA-256 of executables, remembered.
 *
 * A digest is kept under (device, inode, size, mtime, ctime). Nobody can set ctime back, so a file that was
 * written over since is another one; but clocks tick coarsely, so a file whose ctime is younger than
 * SETTLED_S is hashed and not kept. That a file does not change while it runs is the kernel's word (ETXTBSY; Linux
 * 6.11 and 6.12 did not give it), hence ctime is looked at again after reading.
 * Not hashed: what lies on FUSE, where a user's program answers each reader as it likes.
 *
 * The lock guards the table and is never held while a file is read. A slot being filled is BUSY: its other
 * askers wait for it instead of reading the file too (a host that starts one program five hundred times).
 */
#include "agent/peer.h"
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#define SETTLED_S 2
#define CHUNK 65536
#define FUSE_MAGIC 0x65735546 /* linux/magic.h has it since 5.10 */

enum slot_state { SLOT_FREE, SLOT_BUSY, SLOT_KEPT };
struct file_key {
    dev_t dev;
    ino_t ino;
    off_t size;
    struct timespec mtime, ctime;
};
struct slot {
    enum slot_state state;
    struct file_key key;
    uint8_t digest[32];
    unsigned long used; /* for choosing the least recently used */
};

static struct {
    pthread_mutex_t lock;
    pthread_cond_t filled;
    struct slot slots[PEER_DIGESTS];
    unsigned long clock, reads;
} cache = {.lock = PTHREAD_MUTEX_INITIALIZER, .filled = PTHREAD_COND_INITIALIZER};

static struct file_key key_of(const struct stat *st)
{
    struct file_key k;
    memset(&k, 0, sizeof k);
    k.dev = st->st_dev;
    k.ino = st->st_ino;
    k.size = st->st_size;
    k.mtime = st->st_mtim;
    k.ctime = st->st_ctim;
    return k;
}

static bool same_time(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static bool same_file(const struct file_key *a, const struct file_key *b)
{
    return a->dev == b->dev && a->ino == b->ino && a->size == b->size && same_time(a->mtime, b->mtime) &&
           same_time(a->ctime, b->ctime);
}

/* --- reading -------------------------------------------------------------------------------------- */

/* At most the size it had: whoever appends meanwhile does not keep us. */
static int feed(EVP_MD_CTX *ctx, int fd, off_t size)
{
    uint8_t *chunk = malloc(CHUNK);
    off_t done = 0;
    int rc = chunk ? 0 : -1;
    while (rc == 0 && done < size) {
        ssize_t n = read(fd, chunk, size - done < CHUNK ? (size_t)(size - done) : CHUNK);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0 || EVP_DigestUpdate(ctx, chunk, (size_t)n) != 1)
            rc = -1;
        else
            done += n;
    }
    free(chunk);
    return rc;
}

static int digest(uint8_t dst[32], int fd, const struct file_key *key)
{
    struct stat after;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    int rc = ctx && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) == 1 && feed(ctx, fd, key->size) == 0 &&
                     EVP_DigestFinal_ex(ctx, dst, NULL) == 1
                 ? 0
                 : -1;
    EVP_MD_CTX_free(ctx);
    if (rc == 0 && fstat(fd, &after) == 0) {
        struct file_key again = key_of(&after);
        return same_file(&again, key) ? 0 : -1;
    }
    return -1;
}

/* --- the table ------------------------------------------------------------------------------------ */

/* The slot that is or will be the file's; NULL when every one is being filled for another. */
static struct slot *slot_for(const struct file_key *key)
{
    struct slot *oldest = NULL;
    for (size_t i = 0; i < PEER_DIGESTS; i++) {
        struct slot *s = &cache.slots[i];
        if (s->state != SLOT_FREE && same_file(&s->key, key))
            return s;
        if (s->state == SLOT_BUSY)
            continue;
        if (!oldest || (s->state == SLOT_FREE && oldest->state != SLOT_FREE) ||
            (s->state == oldest->state && s->used < oldest->used))
            oldest = s;
    }
    if (oldest)
        oldest->state = SLOT_FREE;
    return oldest;
}

static bool settled(const struct file_key *key)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return key->ctime.tv_sec + SETTLED_S < now.tv_sec;
}

static int fill(struct slot *s, int fd, const struct file_key *key, uint8_t dst[32])
{
    if (s) {
        s->state = SLOT_BUSY;
        s->key = *key;
    }
    cache.reads++;
    bool keep = settled(key); /* before it is read */
    pthread_mutex_unlock(&cache.lock);
    int rc = digest(dst, fd, key);
    pthread_mutex_lock(&cache.lock);
    if (s) {
        s->state = rc == 0 && keep ? SLOT_KEPT : SLOT_FREE;
        memcpy(s->digest, dst, 32);
        s->used = ++cache.clock;
        pthread_cond_broadcast(&cache.filled);
    }
    return rc;
}

static int lookup(uint8_t dst[32], int fd, const struct file_key *key)
{
    int rc = 0;
    pthread_mutex_lock(&cache.lock);
    struct slot *s = slot_for(key);
    while (s && s->state == SLOT_BUSY) {
        pthread_cond_wait(&cache.filled, &cache.lock);
        s = slot_for(key);
    }
    if (s && s->state == SLOT_KEPT) {
        memcpy(dst, s->digest, 32);
        s->used = ++cache.clock;
    } else {
        rc = fill(s, fd, key, dst);
    }
    pthread_mutex_unlock(&cache.lock);
    return rc;
}

/* --- which file ----------------------------------------------------------------------------------- */

static bool is_fuse(int fd)
{
    struct statfs fs;
    return fstatfs(fd, &fs) < 0 || fs.f_type == FUSE_MAGIC;
}

int peer_hash(uint8_t dst[32], int dir, const struct proc_exe *exe)
{
    struct stat st;
    int rc = -1, fd = openat(dir, "exe", O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return -1;
    bool same = fstat(fd, &st) == 0 && exe->known && st.st_ino == exe->ino &&
                major(st.st_dev) == exe->dev_major && minor(st.st_dev) == exe->dev_minor;
    if (same && S_ISREG(st.st_mode) && st.st_size <= PEER_EXE_MAX && !is_fuse(fd)) {
        struct file_key key = key_of(&st);
        rc = lookup(dst, fd, &key);
    }
    close(fd);
    return rc;
}

void peer_hash_forget(void)
{
    pthread_mutex_lock(&cache.lock);
    for (size_t i = 0; i < PEER_DIGESTS; i++)
        if (cache.slots[i].state == SLOT_KEPT)
            cache.slots[i].state = SLOT_FREE;
    pthread_mutex_unlock(&cache.lock);
}

unsigned long peer_hash_reads(void)
{
    pthread_mutex_lock(&cache.lock);
    unsigned long n = cache.reads;
    pthread_mutex_unlock(&cache.lock);
    return n;
}
