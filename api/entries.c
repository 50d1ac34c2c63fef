/* What an agent may obtain for the workloads beside it: a signed request of ours, beside ACME's. An agent asks
 * every few seconds; mostly the answer is that nothing changed.
 *
 *   {"agent":"spiffe://…","have":"<version>","after":"<SPIFFE ID>"}
 *   {"version":"…","revoked":0,"unchanged":true}
 *   {"version":"…","revoked":0,"entries":[{"id","spiffe_id","selectors","dns","hint","ttl","revision","number"}],"more":false}
 *
 * number ascends in the order of the entries' creation: the agent gives the identities of a workload in that order.
 * revoked rises with a revocation of what the agent may have obtained: renewal advice says of what. */
#include "api/internal.h"
#include <string.h>

#define PAGE_BYTES 60000 /* a page ends before the entry that goes beyond: agents take answers of 64 kB */

struct list {
    struct buf *out;
    size_t n;
};

static bool entry_write(void *arg, const struct ra_entry *x, unsigned ttl)
{
    struct list *l = arg;
    struct buf *b = l->out;
    size_t before = b->len;
    buf_fmt(b, "%s{\"id\":\"%s\",\"spiffe_id\":", l->n ? "," : "", x->id);
    jw_str(b, x->spiffe_id);
    jw_strings(b, "selectors", x->selectors, x->selectors_count);
    jw_strings(b, "dns", x->dns, x->dns_count);
    buf_str(b, ",\"hint\":");
    jw_str(b, x->hint);
    buf_fmt(b, ",\"ttl\":%u,\"revision\":%llu,\"number\":%llu}", ttl, (unsigned long long)x->revision,
            (unsigned long long)x->number);
    if (l->n > 0 && b->len > PAGE_BYTES && !b->failed) {
        b->len = before;
        return false;
    }
    l->n++;
    return true;
}

void acme_agent_entries(struct request *r)
{
    struct payload_agent p = {0};
    struct err e = {0};
    int rc = payload_agent_parse(&p, r->jws.payload.p, r->jws.payload.len, &e);
    if (rc == 0) {
        struct ra_agent_entries q = {.agent = p.agent, .have = p.have, .after = p.after};
        struct list l = {.out = &r->out};
        buf_str(&r->out, "{\"entries\":[");
        rc = ra_agent_entries(r->server->ra, r->session, &q, entry_write, &l, &e);
        if (q.unchanged) {
            buf_reset(&r->out);
            buf_fmt(&r->out, "{\"version\":\"%s\",\"revoked\":%lld,\"unchanged\":true}", q.version, (long long)q.revoked);
        } else {
            buf_fmt(&r->out, "],\"version\":\"%s\",\"revoked\":%lld,\"more\":%s}", q.version, (long long)q.revoked,
                    q.more ? "true" : "false");
        }
    }
    payload_agent_free(&p);
    if (rc < 0) {
        buf_reset(&r->out);
        request_fail(r, &e);
        return;
    }
    request_json(r, 200);
}
