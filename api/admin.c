/* The operator's side, on a Unix socket: who may is decided by the kernel's word on the peer. */
#include "api/admin_json.h"
#include "api/internal.h"
#include "api/witnesses.h"
#include "base/ipc.h"
#include "base/log.h"
#include "base/spiffe.h"
#include "tlog/place.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LIST_MAX 1000
#define LIST_BYTES (512u << 10) /* a page ends with the entry that comes to so many */

/* --- who may --------------------------------------------------------------------------------------- */

static int peer_check(const struct request *r, struct api_conn *conn, struct err *e)
{
    const union MHD_ConnectionInfo *i = MHD_get_connection_info(r->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    uid_t uid;
    gid_t gid;
    pid_t pid;
    if (!i)
        return err_set(e, ERR_INTERNAL, "admin-peer", "the peer of an admin connection is unknown");
    if (ipc_peer(i->connect_fd, &uid, &gid, &pid, e) < 0)
        return -1;
    snprintf(conn->actor, sizeof conn->actor, "uid:%u", (unsigned)uid);
    if (uid == 0 || uid == r->server->admin_uid)
        return 0;
    log_warn("administration refused", "uid", log_num(uid), "pid", log_num(pid), NULL);
    return err_set(e, ERR_UNAUTHORIZED, "admin-peer",
                   "user %u may not administer this authority: be root, or user %u, who runs it", (unsigned)uid,
                   (unsigned)r->server->admin_uid);
}

int admin_authorize(struct request *r, struct api_conn *conn, struct err *e)
{
    if (!conn->admin_ok && peer_check(r, conn, e) < 0)
        return -1; /* checked again with the next request: nobody is kept out by a passing failure */
    conn->admin_ok = true;
    r->actor = conn->actor;
    return 0;
}

/* --- entries ---------------------------------------------------------------------------------------- */

static void entry_settle(struct request *r, const struct ra_entry *x, const struct err *e, unsigned status)
{
    if (!request_claim(r))
        return;
    if (e) {
        request_fail(r, e);
    } else {
        admin_entry_write(&r->out, x);
        request_json(r, status);
    }
    request_settle(r);
}

static void entry_done(void *arg, const struct ra_entry *x, const struct err *e)
{
    entry_settle(arg, x, e, 200);
}

static void entry_created(void *arg, const struct ra_entry *x, const struct err *e)
{
    entry_settle(arg, x, e, 201);
}

struct list {
    struct buf *out;
    size_t n;
    char last[SPIFFE_ID_MAX + 1];
};

static bool list_each(void *arg, const struct ra_entry *x)
{
    struct list *l = arg;
    if (l->n++)
        buf_u8(l->out, ',');
    admin_entry_write(l->out, x);
    snprintf(l->last, sizeof l->last, "%s", x->spiffe_id);
    return l->out->len < LIST_BYTES;
}

bool admin_limit(const struct request *r, unsigned long max, unsigned long *limit, struct err *e)
{
    const char *text = MHD_lookup_connection_value(r->connection, MHD_GET_ARGUMENT_KIND, "limit");
    *limit = max;
    if (text)
        *limit = strspn(text, "0123456789") == strlen(text) && *text ? strtoul(text, NULL, 10) : 0;
    if (*limit >= 1 && *limit <= max)
        return true;
    err_set(e, ERR_MALFORMED, "limit", "limit is a number from 1 to %lu", max);
    return false;
}

/* ?after=SPIFFE-ID&limit=N: a page in order of SPIFFE ID. "next": what the next page comes after; not
 * there when this is the last. */
static void entries_list(struct request *r)
{
    const char *after = MHD_lookup_connection_value(r->connection, MHD_GET_ARGUMENT_KIND, "after");
    unsigned long n;
    struct err e = {0};
    if (!admin_limit(r, LIST_MAX, &n, &e)) {
        request_fail(r, &e);
        return;
    }
    struct list l = {.out = &r->out};
    bool more;
    buf_str(&r->out, "{\"entries\":[");
    if (ra_entry_each(r->server->ra, after && *after ? after : NULL, n, list_each, &l, &more, &e) < 0) {
        request_fail(r, &e);
        return;
    }
    buf_u8(&r->out, ']');
    if (more) {
        buf_str(&r->out, ",\"next\":");
        jw_str(&r->out, l.last);
    }
    buf_u8(&r->out, '}');
    request_json(r, 200);
}

/* For create (id NULL) and update. ra/ copies what it keeps, before it returns. */
static void entry_put(struct request *r, const char *id)
{
    struct admin_entry a = {0};
    struct err e = {0};
    if (admin_entry_parse(&a, r->body.p, r->body.len, &e) < 0) {
        request_fail(r, &e);
    } else {
        a.entry.actor = r->actor;
        request_ask(r);
        if (id) {
            memcpy(a.entry.id, id, RA_ID_LEN + 1);
            ra_entry_update(r->server->ra, &a.entry, entry_done, r);
        } else {
            ra_entry_create(r->server->ra, &a.entry, entry_created, r);
        }
    }
    admin_entry_free(&a);
}

void admin_entries(struct request *r)
{
    if (r->method == M_POST)
        entry_put(r, NULL);
    else
        entries_list(r);
}

/* The argument is an entry id or, but for PUT, a SPIFFE ID (percent-encoded by the client). */
void admin_entry(struct request *r)
{
    struct err e = {0};
    if (r->method == M_PUT && !acme_id_ok(r->arg)) {
        err_set(&e, ERR_MALFORMED, "entry-id", "an update names the entry by its id, not \"%.100s\"", r->arg);
        request_fail(r, &e);
    } else if (r->method == M_PUT) {
        entry_put(r, r->arg);
    } else {
        request_ask(r);
        if (r->method == M_DELETE)
            ra_entry_delete(r->server->ra, r->arg, r->actor, entry_done, r);
        else
            ra_entry_get(r->server->ra, r->arg, entry_done, r);
    }
}

/* --- tokens, status ---------------------------------------------------------------------------------- */

static void token_done(void *arg, const struct ra_token_view *t, const struct err *e)
{
    struct request *r = arg;
    if (!request_claim(r))
        return;
    if (e) {
        request_fail(r, e);
    } else {
        r->secret = true;
        r->cache = "no-store";
        buf_fmt(&r->out, "{\"token\":\"%s\",\"expires\":%lld}", t->text, (long long)t->expires);
        request_json(r, 201);
    }
    request_settle(r);
}

void admin_tokens(struct request *r)
{
    struct admin_token a = {0};
    struct err e = {0};
    if (admin_token_parse(&a, r->body.p, r->body.len, &e) < 0) {
        request_fail(r, &e);
    } else {
        request_ask(r);
        ra_token_create(r->server->ra, &a.request, token_done, r);
    }
    admin_token_free(&a);
}

static void number_write(struct buf *b, const char *name, uint64_t v)
{
    buf_fmt(b, ",\"%s\":%llu", name, (unsigned long long)v);
}

/* Those that this daemon can read: `mayfly log archive` removes nothing that it would not find. */
static void archives_write(struct buf *b, char *const *archive)
{
    bool some = false;
    buf_str(b, ",\"archive\":[");
    for (; *archive; archive++) {
        if (!tlog_archive_here(*archive))
            continue;
        buf_str(b, some ? "," : "");
        jw_str(b, *archive);
        some = true;
    }
    buf_str(b, "]");
}

/* issued and refused count over what ra/ decided; those within "signer" are the signer's own. */
void admin_status(struct request *r)
{
    struct ca_snapshot s;
    struct ra_stats n;
    struct buf *b = &r->out;
    ra_signer(r->server->ra, &s);
    ra_stats(r->server->ra, &n);
    buf_fmt(b, "{\"ready\":%s,\"version\":\"%s\",\"trust_domain\":", s.ready ? "true" : "false", MAYFLY_VERSION);
    jw_str(b, r->server->config->trust_domain);
    buf_str(b, ",\"token\":");
    jw_str(b, s.known ? s.token : "");
    buf_str(b, ",\"vkey\":");
    jw_str(b, s.known ? s.vkey : "");
    number_write(b, "started", s.known && s.started > 0 ? (uint64_t)s.started : 0);
    number_write(b, "log_size", s.known ? s.log_size : 0);
    number_write(b, "signatures", s.known ? s.signatures : 0);
    number_write(b, "first_index", s.known ? s.first_index : 0);
    number_write(b, "issuing_signatures", s.known ? s.issuing_signatures : 0);
    number_write(b, "abandoned", s.known ? s.abandoned : 0);
    number_write(b, "jwt_signatures", s.known ? s.jwt_signatures : 0);
    number_write(b, "jwt_abandoned", s.known ? s.jwt_abandoned : 0);
    number_write(b, "entries", n.entries);
    number_write(b, "tokens", n.tokens);
    number_write(b, "sessions", n.sessions);
    number_write(b, "authorizations", n.authorizations);
    number_write(b, "orders", n.orders);
    number_write(b, "issued", n.issued);
    number_write(b, "jwts", n.jwts);
    number_write(b, "refused", n.refused);
    number_write(b, "store_bytes", n.store_bytes);
    archives_write(b, r->server->config->log.archive);
    buf_fmt(b, ",\"unwitnessed\":%s,\"witnesses\":", s.known && s.unwitnessed ? "true" : "false");
    admin_witnesses_write(b, r->server->config, s.known ? s.vkey : "");
    buf_fmt(b, ",\"signer\":{\"issued\":%llu,\"refused\":%llu}}", (unsigned long long)(s.known ? s.issued : 0),
            (unsigned long long)(s.known ? s.refused : 0));
    request_json(r, 200);
}
