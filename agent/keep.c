/* The agent's own keys and chain across a re-execution, in a memfd: memory without a name, sealed, so that nobody
 * who holds the descriptor can change it. Its pages are locked by a mapping of the process that made or took it; in
 * the moment between two programs, and while systemd alone holds it, the kernel may swap them. */
#include "agent/daemon.h"
#include "base/fileio.h"
#include "base/spiffe.h"
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC "mayfly agent keep v1\n"
#define KEY_MAX 1024
#define KEEP_MAX (sizeof MAGIC + SPIFFE_ID_MAX + 2 * KEY_MAX + CHAIN_PEM_MAX + 16)
#define SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

void kept_free(struct kept *k)
{
    free(k->id);
    secret_free(&k->session);
    secret_free(&k->svid);
    buf_free(&k->chain_pem);
    memset(k, 0, sizeof *k);
}

static int write_part(int fd, const void *p, size_t n)
{
    const uint8_t head[4] = {(uint8_t)(n >> 24), (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n};
    return file_write_all(fd, head, sizeof head) < 0 || (n > 0 && file_write_all(fd, p, n) < 0) ? -1 : 0;
}

void keep_close(struct keep *m)
{
    if (m->map)
        munmap(m->map, m->len);
    if (m->fd >= 0)
        close(m->fd);
    *m = (struct keep){.fd = -1};
}

static int pin(struct keep *m, struct err *e)
{
    struct stat st;
    if (fstat(m->fd, &st) < 0 || st.st_size <= 0 || (size_t)st.st_size > KEEP_MAX)
        return err_set(e, ERR_CORRUPT, "keep", "what was kept is of a size it can not have");
    void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, m->fd, 0);
    if (p == MAP_FAILED)
        return err_errno(e, "keep", "cannot map the agent's kept keys");
    m->map = p;
    m->len = (size_t)st.st_size;
    madvise(p, m->len, MADV_DONTDUMP);
    if (mlock(p, m->len) < 0)
        return err_errno(e, "secret-memory",
                         "cannot lock the agent's kept keys; raise the memlock limit (LimitMEMLOCK= in the unit)");
    return 0;
}

int keep_write(struct keep *m, const struct kept *k, struct err *e)
{
    *m = (struct keep){.fd = memfd_create(FD_NAME_KEEP, MFD_CLOEXEC | MFD_ALLOW_SEALING)};
    if (m->fd < 0)
        return err_errno(e, "keep", "cannot make memory for the agent's kept keys");
    int rc = 0;
    if (file_write_all(m->fd, MAGIC, sizeof MAGIC) < 0 || write_part(m->fd, k->id, strlen(k->id)) < 0 ||
        write_part(m->fd, k->session.p, k->session.len) < 0 || write_part(m->fd, k->svid.p, k->svid.len) < 0 ||
        write_part(m->fd, k->chain_pem.p, k->chain_pem.len) < 0 || fcntl(m->fd, F_ADD_SEALS, SEALS) < 0)
        rc = err_errno(e, "keep", "cannot keep the agent's keys in memory");
    if (rc == 0)
        rc = pin(m, e);
    if (rc < 0)
        keep_close(m);
    return rc;
}

static bool take_secret(struct cur *c, struct secret *s, struct err *e)
{
    struct bytes b;
    uint32_t n;
    if (cur_u32(c, &n) < 0 || n == 0 || n > KEY_MAX || cur_take(c, n, &b) < 0 || secret_new(s, n, e) < 0)
        return false;
    memcpy(s->p, b.p, n);
    s->len = n;
    return true;
}

static bool take_rest(struct cur *c, struct kept *k)
{
    struct bytes b;
    uint32_t n;
    if (cur_u32(c, &n) < 0 || n == 0 || n > CHAIN_PEM_MAX || cur_take(c, n, &b) < 0)
        return false;
    buf_init(&k->chain_pem, CHAIN_PEM_MAX);
    buf_put(&k->chain_pem, b.p, n);
    return !k->chain_pem.failed && cur_done(c);
}

int keep_read(struct keep *m, struct kept *k, int fd, struct err *e)
{
    struct bytes magic, id;
    uint32_t n;
    memset(k, 0, sizeof *k);
    *m = (struct keep){.fd = fd};
    err_clear(e);
    int seals = fcntl(fd, F_GET_SEALS); /* vm.memfd_noexec adds one more */
    if (seals < 0 || (seals & SEALS) != SEALS) {
        keep_close(m);
        return err_set(e, ERR_CORRUPT, "keep", "what was kept is not as this agent leaves it (a sealed memfd)");
    }
    bool ok = pin(m, e) == 0;
    struct cur c = cur_of(ok ? m->map : "", ok ? m->len : 0);
    ok = ok && cur_take(&c, sizeof MAGIC, &magic) == 0 && bytes_eq(magic, MAGIC, sizeof MAGIC) && cur_u32(&c, &n) == 0 &&
         n > 0 && n <= SPIFFE_ID_MAX && cur_take(&c, n, &id) == 0 && take_secret(&c, &k->session, e) &&
         take_secret(&c, &k->svid, e) && take_rest(&c, k) && (k->id = strndup((const char *)id.p, id.len)) != NULL;
    if (ok)
        return 0;
    keep_close(m);
    kept_free(k);
    return e->code != ERR_NONE ? -1 : err_set(e, ERR_CORRUPT, "keep", "what was kept is damaged");
}
