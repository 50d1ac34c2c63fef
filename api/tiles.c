/* The published log as C2SP tlog-tiles asks: straight from its files, tiles cacheable for ever,
 * entry bundles compressed for who asks, and open to any web page (CORS), because an auditor may
 * be one. What is served is public, so compressing it beside nothing secret gives nothing away. */
#include "api/internal.h"
#include "tlog/log.h"
#include "tlog/place.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#define GZIP_LEVEL 3           /* a bundle of 100 kB in about a millisecond, to two fifths */
#define GZIP_MIN 1024          /* smaller ones are not worth it */
#define GZIP_MAX (2u << 20)    /* larger ones go as they are: nobody may make us compress 16 MB */
#define GZIP_WINDOW (15 + 16)  /* zlib.h: 16 added asks for gzip's header */

/* Only what the tlog-tiles grammar names, and only plain files: the signer writes them, but a link
 * put in its folder leads nowhere. */
static int file_open(const char *dir, const char *name, bool *immutable, struct err *e)
{
    char path[4096];
    if (tlog_path_resolve(path, sizeof path, dir, name, immutable, e) < 0)
        return err_set(e, ERR_NOT_FOUND, "log-path", "the log has no file %.200s", name);
    return open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
}

/* Full tiles that were moved (tlog/archive.h). Errno says why there is none, as of the log's folder. */
static int archive_open(struct request *r, struct err *e)
{
    const struct config *c = r->server->config;
    bool immutable;
    int why = errno;
    for (size_t i = 0; r->fd < 0 && i < c->log.archive_count; i++) {
        if ((r->fd = file_open(c->log.archive[i], r->arg, &immutable, e)) < 0 && !tlog_archive_claimed(c->log.archive[i]))
            return err_set(e, ERR_UNAVAILABLE, "log-archive",
                           "%.200s is not in the log's folder, and an archive that it may have been moved to is not "
                           "there now: ask whoever runs this authority to mount it (log.archive)",
                           r->arg);
    }
    errno = why;
    return 0;
}

static int log_open(struct request *r, bool *immutable, struct err *e)
{
    struct stat st;
    r->fd = file_open(r->server->config->log.dir, r->arg, immutable, e);
    if (r->fd < 0 && e->code == ERR_NOT_FOUND)
        return -1;
    if (r->fd < 0 && errno == ENOENT && *immutable && archive_open(r, e) < 0)
        return -1;
    if (r->fd < 0 && errno != ENOENT && errno != ENOTDIR && errno != ELOOP)
        return err_errno(e, "log-path", "cannot read the log's file %.200s", r->arg);
    if (r->fd < 0 || fstat(r->fd, &st) < 0 || !S_ISREG(st.st_mode))
        return err_set(e, ERR_NOT_FOUND, "log-path", "the log has no file %.200s (yet, or any more: a partial tile goes when it is full)", r->arg);
    r->fd_size = (uint64_t)st.st_size;
    return 0;
}

/* Whether Accept-Encoding (RFC 9110 §12.5.3) names gzip, and not with a weight of zero. */
bool tiles_accept_gzip(const char *accept)
{
    while (accept && *accept) {
        accept += strspn(accept, " \t,");
        size_t n = strcspn(accept, ",");
        size_t name = strcspn(accept, "; \t,");
        const char *q = memmem(accept, n, "q=", 2);
        if (name == 4 && strncasecmp(accept, "gzip", 4) == 0)
            return !q || strtod(q + 2, NULL) > 0;
        accept += n;
    }
    return false;
}

static int read_whole(int fd, uint8_t *p, size_t n)
{
    size_t have = 0;
    while (have < n) {
        ssize_t got = pread(fd, p + have, n - have, (off_t)have);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return -1;
        have += (size_t)got;
    }
    return 0;
}

static int deflate_into(struct buf *out, uint8_t *p, size_t n)
{
    z_stream z = {.next_in = p, .avail_in = (uInt)n};
    if (deflateInit2(&z, GZIP_LEVEL, Z_DEFLATED, GZIP_WINDOW, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        return -1;
    size_t room = deflateBound(&z, (uLong)n);
    uint8_t *to = malloc(room);
    z.next_out = to;
    z.avail_out = (uInt)room;
    int rc = to ? deflate(&z, Z_FINISH) : Z_MEM_ERROR;
    if (rc == Z_STREAM_END)
        buf_put(out, to, z.total_out);
    free(to);
    deflateEnd(&z);
    return rc == Z_STREAM_END && !out->failed ? 0 : -1;
}

/* The answer becomes the compressed bytes; when anything is amiss it stays the file. */
static void compress_entries(struct request *r)
{
    size_t n = (size_t)r->fd_size;
    uint8_t *p = malloc(n);
    if (p && read_whole(r->fd, p, n) == 0 && deflate_into(&r->out, p, n) == 0) {
        close(r->fd);
        r->fd = -1;
        r->encoding = "gzip";
    } else {
        buf_reset(&r->out);
    }
    free(p);
}

void public_log(struct request *r)
{
    struct err e = {0};
    bool immutable = false;
    r->cors = true;
    if (log_open(r, &immutable, &e) < 0) {
        if (r->fd >= 0)
            close(r->fd);
        r->fd = -1;
        request_fail(r, &e);
        return;
    }
    r->status = 200;
    r->content_type = strcmp(r->arg, "checkpoint") == 0 ? "text/plain; charset=utf-8" : "application/octet-stream";
    r->cache = immutable ? "public, max-age=31536000, immutable" : "public, max-age=1";
    if (strncmp(r->arg, "tile/entries/", strlen("tile/entries/")) != 0)
        return;
    r->vary = "Accept-Encoding";
    if (r->fd_size >= GZIP_MIN && r->fd_size <= GZIP_MAX &&
        tiles_accept_gzip(MHD_lookup_connection_value(r->connection, MHD_HEADER_KIND, "Accept-Encoding")))
        compress_entries(r);
}
