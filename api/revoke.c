/* Revocation by operators. A serial is looked up in the published log, which says whose it is: ra/
 * never reads it. */
#include "api/admin_json.h"
#include "api/internal.h"
#include "audit/entry.h"
#include "tlog/reader.h"
#include <stdlib.h>
#include <string.h>

#define LIST_MAX 1000
#define LIST_BYTES (512u << 10)
#define INDEX_BITS 48

bool revoke_by_agent(const struct tlog_ext_info *x, char *agent, size_t cap)
{
    bool is = bytes_eq_str(x->attestor, "agent") && x->requester.len > 0 && x->requester.len < cap;
    if (is) {
        memcpy(agent, x->requester.p, x->requester.len);
        agent[x->requester.len] = 0;
    }
    return is;
}

/* --- a serial's entry ------------------------------------------------------------------------------ */

struct found {
    uint8_t session[32], key[32];
    bool has_session;
    char agent[2049], spiffe_id[2049]; /* where an agent's word got it; else "" */
};

static int entry_read(struct found *f, uint64_t index, struct bytes raw, struct err *e)
{
    struct audit_entry t;
    audit_entry_decode(&t, index, raw);
    if (t.kind != AUDIT_ISSUED || t.cert.ca)
        return err_set(e, ERR_NOT_FOUND, "serial",
                       "entry %llu of the log, which this serial names, is no workload's certificate",
                       (unsigned long long)index);
    memcpy(f->key, t.cert.spki_hash, sizeof f->key);
    f->has_session = t.ext.session.len == sizeof f->session;
    if (f->has_session)
        memcpy(f->session, t.ext.session.p, sizeof f->session);
    if (revoke_by_agent(&t.ext, f->agent, sizeof f->agent) && t.spiffe_id.len < sizeof f->spiffe_id && t.spiffe_id.len > 0)
        memcpy(f->spiffe_id, t.spiffe_id.p, t.spiffe_id.len);
    return 0;
}

static int entry_find(const struct request *r, struct found *f, uint64_t index, const char *vkey, struct err *e)
{
    struct tlog_vkey k;
    struct tlog_reader *reader;
    struct tlog_hash path[TLOG_LEVELS];
    struct bytes raw;
    size_t n;
    if (tlog_vkey_parse(&k, vkey, strlen(vkey), e) < 0)
        return -1;
    const struct config *c = r->server->config;
    int rc = tlog_reader_open_at(&reader, &(struct tlog_place){.dir = c->log.dir, .archive = c->log.archive}, &k, e);
    if (rc == 0) {
        rc = tlog_reader_entry(reader, index, &raw, path, &n, e);
        if (rc == 0)
            rc = entry_read(f, index, raw, e);
        else if (e->code == ERR_NOT_FOUND)
            err_set(e, ERR_NOT_FOUND, "log-behind",
                    "the serial names entry %llu, which the log does not have (yet: what was just issued is published "
                    "within a second)",
                    (unsigned long long)index);
        tlog_reader_close(reader);
    }
    tlog_vkey_free(&k);
    return rc;
}

/* serial = (log number << 48) | index */
static int serial_find(const struct request *r, struct found *f, const char *serial, struct err *e)
{
    struct ca_snapshot s;
    unsigned number = r->server->config->log.number;
    size_t digits = strlen(serial);
    bool hex = digits > 0 && strspn(serial, "0123456789abcdef") == digits;
    uint64_t v = hex && digits <= 16 ? strtoull(serial, NULL, 16) : 0;
    if (!hex)
        return err_set(e, ERR_MALFORMED, "revocation-value", "\"%.64s\" is no serial number in hex", serial);
    if (v >> INDEX_BITS != number)
        return err_set(e, ERR_NOT_FOUND, "serial",
                       "no certificate of this authority has the serial %.64s: its serials begin with %x (log.number)",
                       serial, number);
    ra_signer(r->server->ra, &s);
    if (!s.known)
        return err_set(e, ERR_UNAVAILABLE, "signer-away", "the signer has not shown its log's key yet; try again");
    return entry_find(r, f, v & ((UINT64_C(1) << INDEX_BITS) - 1), s.vkey, e);
}

/* --- revoking ---------------------------------------------------------------------------------------- */

static void revoked(void *arg, const struct ra_revocation *x, const struct err *e)
{
    struct request *r = arg;
    if (!request_claim(r))
        return;
    if (e) {
        request_fail(r, e);
    } else {
        admin_revocation_write(&r->out, x, true);
        request_json(r, 201);
    }
    request_settle(r);
}

static void revoke_post(struct request *r)
{
    struct admin_revocation a = {0};
    struct found f = {0};
    struct err e = {0};
    int rc = admin_revocation_parse(&a, r->body.p, r->body.len, &e);
    if (rc == 0 && a.want.by == TLOG_BY_SERIAL)
        rc = serial_find(r, &f, a.want.value, &e);
    if (rc == 0 && a.want.by == TLOG_BY_SERIAL) {
        a.want.key = f.key;
        a.want.session = f.has_session ? f.session : NULL;
        a.want.agent = f.agent;
        a.want.spiffe_id = f.spiffe_id;
    }
    if (rc < 0) {
        request_fail(r, &e);
    } else {
        a.want.actor = r->actor;
        request_ask(r);
        ra_revoke(r->server->ra, &a.want, revoked, r);
    }
    admin_revocation_free(&a);
}

/* --- the list ------------------------------------------------------------------------------------------- */

struct list {
    struct buf *out;
    size_t n;
    int64_t last;
};

static bool list_each(void *arg, const struct ra_revocation *x)
{
    struct list *l = arg;
    if (l->n++)
        buf_u8(l->out, ',');
    admin_revocation_write(l->out, x, false);
    l->last = x->id;
    return l->out->len < LIST_BYTES;
}

static int after_read(const struct request *r, int64_t *after, struct err *e)
{
    const char *text = MHD_lookup_connection_value(r->connection, MHD_GET_ARGUMENT_KIND, "after");
    size_t n = text ? strlen(text) : 0;
    *after = n ? strtoll(text, NULL, 10) : 0;
    return n <= 18 && (!n || strspn(text, "0123456789") == n)
               ? 0
               : err_set(e, ERR_MALFORMED, "after", "after is the id of a revocation: a number");
}

/* ?after=ID&limit=N: a page in order of id. "next": what the next page comes after; not there when
 * this is the last. */
static void revocations_list(struct request *r)
{
    struct list l = {.out = &r->out};
    struct err e = {0};
    unsigned long limit;
    int64_t after;
    bool more;
    buf_str(&r->out, "{\"revocations\":[");
    if (!admin_limit(r, LIST_MAX, &limit, &e) || after_read(r, &after, &e) < 0 ||
        ra_revocation_each(r->server->ra, after, limit, list_each, &l, &more, &e) < 0) {
        request_fail(r, &e);
        return;
    }
    buf_u8(&r->out, ']');
    if (more)
        buf_fmt(&r->out, ",\"next\":%lld", (long long)l.last);
    buf_u8(&r->out, '}');
    request_json(r, 200);
}

void admin_revocations(struct request *r)
{
    if (r->method == M_POST)
        revoke_post(r);
    else
        revocations_list(r);
}
