/* What anyone may read: the bundle, the log's files, and how we are. */
#include "api/internal.h"
#include "tlog/log.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void public_bundle(struct request *r)
{
    struct err e = {0};
    if (ra_bundle(r->server->ra, &r->out, &e) < 0) {
        request_fail(r, &e);
        return;
    }
    request_json(r, 200);
    r->cache = "public, max-age=60";
}

/* Only what the tlog-tiles grammar names, and only plain files: the signer writes them, but a link
 * put in its folder leads nowhere. */
static int log_open(struct request *r, bool *immutable, struct err *e)
{
    char path[4096];
    struct stat st;
    if (tlog_path_resolve(path, sizeof path, r->server->config->log.dir, r->arg, immutable, e) < 0)
        return err_set(e, ERR_NOT_FOUND, "log-path", "the log has no file %.200s", r->arg);
    r->fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (r->fd < 0 && errno != ENOENT && errno != ENOTDIR && errno != ELOOP)
        return err_errno(e, "log-path", "cannot read the log's file %.200s", r->arg);
    if (r->fd < 0 || fstat(r->fd, &st) < 0 || !S_ISREG(st.st_mode))
        return err_set(e, ERR_NOT_FOUND, "log-path", "the log has no file %.200s (yet, or any more: a partial tile goes when it is full)", r->arg);
    r->fd_size = (uint64_t)st.st_size;
    return 0;
}

void public_log(struct request *r)
{
    struct err e = {0};
    bool immutable = false;
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
}

void public_health(struct request *r)
{
    buf_str(&r->out, "ok\n");
    r->status = 200;
    r->content_type = "text/plain";
    r->cache = "no-store";
}

void public_ready(struct request *r)
{
    struct ca_snapshot s;
    ra_signer(r->server->ra, &s);
    buf_str(&r->out, s.ready ? "ready\n" : "not ready: the signer does not answer\n");
    r->status = s.ready ? 200 : 503;
    r->retry_after = s.ready ? 0 : 1;
    r->content_type = "text/plain";
    r->cache = "no-store";
}
