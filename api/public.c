/* What anyone may read: the bundle, and how we are. The log: tiles.c. */
#include "api/internal.h"

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
    bool ready = s.ready && !s.unwitnessed;
    if (s.ready && s.unwitnessed)
        buf_fmt(&r->out, "not ready: %u of %u witnesses cosigned the log's head, and certificates need %u\n", s.cosigned,
                s.witnesses, s.quorum);
    else
        buf_str(&r->out, ready ? "ready\n" : "not ready: the signer does not answer\n");
    r->status = ready ? 200 : 503;
    r->retry_after = ready ? 0 : 1;
    r->content_type = "text/plain";
    r->cache = "no-store";
}
