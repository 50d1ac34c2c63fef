/* A revocation, from the asking to the last thing that ends by it.
 *
 * On the store thread, so that nothing comes between: the row, the outbox and what the store holds of
 * sessions, authorizations and tokens go in one transaction; already before its commit memory refuses
 * what the revocation names, so that what is vouched for behind it in the same transaction finds it.
 * After the commit the sessions end; of an agent's own, where one of its workloads alone is named, only
 * what it was authorized for by vouching. A certificate that the signer still makes for what ended is
 * thrown away where it comes back (issue.c). */
#include "base/clock.h"
#include "ra/store.h"
#include <stdlib.h>
#include <string.h>

struct revoke_op {
    struct op op;
    struct ra *ra;
    struct revocation *r;  /* owned until memory has it */
    bool listed;           /* memory has it */
    struct obtained of;
    struct buf record;     /* what the log is told; owned */
    struct deed deed;      /* its row of the outbox */
    ra_revoke_cb *cb;
    void *arg;
};

static struct bytes view(const char *s)
{
    return (struct bytes){(const uint8_t *)s, strlen(s)};
}

static struct ra_revocation snapshot(const struct revocation *r)
{
    return (struct ra_revocation){.id = r->id, .by = revocation_by(r), .value = revocation_value(r), .actor = r->actor,
                                  .comment = r->comment, .reason = r->reason, .time = r->time, .logged = r->logged,
                                  .index = r->index};
}

/* --- what may be named -------------------------------------------------------------------------------------------- */

static int check_hex(const char *value, size_t min, size_t max, const char *what, struct err *e)
{
    size_t n = strlen(value);
    if (strspn(value, "0123456789abcdef") == n && n >= min && n <= max && (min == max || *value != '0'))
        return 0;
    return err_set(e, ERR_MALFORMED, "revocation-value", "%s", what);
}

static int check_value(struct ra *ra, const struct ra_revoke *want, struct err *e)
{
    struct spiffe_id id;
    switch (want->by) {
    case TLOG_BY_SERIAL:
        return check_hex(want->value, 1, 40, "a serial number is written in lowercase hex without leading zeros", e);
    case TLOG_BY_KEY:
        return check_hex(want->value, 64, 64,
                         "a key is named by the SHA-256 of its SubjectPublicKeyInfo, in 64 lowercase hex digits", e);
    case TLOG_BY_ID:
    case TLOG_BY_PREFIX:
    case TLOG_BY_AGENT:
        if (want->by == TLOG_BY_AGENT && strcmp(want->value, ra->authority) == 0)
            return err_set(e, ERR_REJECTED_ID, "reserved", "the authority itself is no agent: all entries are its own");
        return spiffe_parse_workload(&id, want->value, strlen(want->value), ra->config->trust_domain, e);
    default:
        break;
    }
    if (want->by != TLOG_BY_ENTRY)
        return err_set(e, ERR_MALFORMED, "revocation-value", "nothing is revoked by %d", (int)want->by);
    pthread_mutex_lock(&ra->lock);
    bool there = map_find(&ra->entries.by_id, want->value, strlen(want->value)) != NULL;
    pthread_mutex_unlock(&ra->lock);
    return there ? 0
                 : err_set(e, ERR_NOT_FOUND, "entry",
                           "there is no entry with the id %.100s; see `mayfly entry list`. What was issued for a deleted "
                           "one is revoked by its SPIFFE ID",
                           want->value);
}

/* The record's writer judges texts; those that would be cut short before it sees them are judged here. */
static int check_rest(const struct ra_revoke *want, struct err *e)
{
    unsigned reason = want->reason;
    if (reason > 10 || reason == 7 || reason == 8)
        return err_set(e, ERR_MALFORMED, "revocation-reason",
                       "%u is no reason to revoke: RFC 5280 section 5.3.1 has 0 to 6, 9 and 10", reason);
    if (want->comment && strlen(want->comment) > TLOG_COMMENT_MAX)
        return err_set(e, ERR_MALFORMED, "revocation-comment", "a comment has at most %d bytes", TLOG_COMMENT_MAX);
    return 0;
}

static int make_record(struct revoke_op *o, struct err *e)
{
    const struct revocation *r = o->r;
    const struct tlog_record_info info = {.type = TLOG_ENTRY_REVOCATION, .time = clock_wall(),
                                          .code = (uint8_t)revocation_by(r), .value = view(revocation_value(r)),
                                          .reason = r->reason, .actor = view(r->actor), .comment = view(r->comment)};
    if (tlog_record_write(&info, &o->record, e) < 0)
        return -1;
    o->deed = (struct deed){.type = TLOG_ENTRY_REVOCATION, .body = {o->record.p, o->record.len}};
    return 0;
}

/* --- on the store thread ---------------------------------------------------------------------------------------------- */

static int check_room(const struct revocations *all, const struct revocation *r, struct err *e)
{
    enum tlog_revoked_by by = revocation_by(r);
    if ((by == TLOG_BY_SERIAL || by == TLOG_BY_KEY) && revocations_find(all, by, revocation_value(r)))
        return err_set(e, ERR_EXISTS, "already-revoked", "the %s %s was revoked already",
                       by == TLOG_BY_KEY ? "key" : "certificate with the serial", revocation_value(r));
    if (all->n >= RA_REVOCATIONS_MAX || (r->client && all->clients >= RA_REVOCATIONS_CLIENTS))
        return err_set(e, ERR_RATE, "revocations",
                       "%zu revocations stand already; those but of keys go after %d seconds, so try again later", all->n,
                       RA_REVOCATION_KEPT);
    return 0;
}

static int list_it(struct ra *ra, struct revoke_op *o, struct err *e)
{
    pthread_mutex_lock(&ra->lock);
    o->listed = revocations_add(&ra->revocations, o->r) == 0;
    pthread_mutex_unlock(&ra->lock);
    return o->listed ? 0 : no_memory(e);
}

static int revoke_write(struct op *op, struct store *s, struct err *e)
{
    struct revoke_op *o = (struct revoke_op *)(void *)op;
    pthread_mutex_lock(&o->ra->lock);
    int rc = check_room(&o->ra->revocations, o->r, e);
    pthread_mutex_unlock(&o->ra->lock);
    if (rc < 0 || store_deed_add(s, &o->deed, e) < 0)
        return -1;
    o->r->id = o->deed.id;
    o->r->time = clock_wall();
    if (store_revocation_add(s, o->r, e) < 0 || store_revocation_apply(s, o->r, &o->of, e) < 0)
        return -1;
    return list_it(o->ra, o, e);
}

struct ending {
    struct ra *ra;
    const struct revocation *r;
    const struct obtained *of;
    uint64_t sessions, authorizations, tokens;
};

static void end_session(struct ending *w, struct ra_session *s)
{
    if (atomic_load(&s->deactivated))
        return;
    w->authorizations += session_end(w->ra, s, true);
    w->sessions++;
}

static void end_authz(struct ending *w, struct authz *a)
{
    authz_revoke(w->ra, a);
    w->authorizations++;
}

static bool session_look(void *arg, struct map_node *n)
{
    struct ending *w = arg;
    struct ra_session *s = MAP_OBJECT(n, struct ra_session, by_id);
    bool some = false, all = false;
    for (const struct authz *a = s->authz; a && !all; a = a->next)
        if (revocation_ends_authz(w->ra, w->r, a)) {
            some = true;
            all = !revocation_spares_session(w->ra, w->r, a);
        }
    if (all)
        end_session(w, s);
    for (struct authz *a = some ? s->authz : NULL, *next; a; a = next) {
        next = a->next;
        if (revocation_ends_authz(w->ra, w->r, a))
            end_authz(w, a);
    }
    return true;
}

/* The session that got the certificate; of an agent's, which got it for a workload, what concerns that one. */
static void end_by_serial(struct ending *w)
{
    char thumbprint[B64URL_LEN(32) + 1];
    b64url_encode(thumbprint, w->r->session, sizeof w->r->session);
    struct map_node *n = w->r->has_session ? map_find(&w->ra->thumbprints, thumbprint, strlen(thumbprint)) : NULL;
    struct ra_session *s = n ? MAP_OBJECT(n, struct ra_session, by_thumbprint) : NULL;
    if (!s)
        return;
    struct authz *a = authz_valid(w->ra, s, w->of->spiffe_id);
    if (!authz_own(w->ra, s, w->of->agent) || (a && !a->voucher))
        end_session(w, s);
    else if (a)
        end_authz(w, a);
}

static bool token_look(void *arg, struct map_node *n)
{
    struct ending *w = arg;
    struct token *t = MAP_OBJECT(n, struct token, node);
    if (revocation_ends_token(w->ra, w->r, t)) {
        t->spent = t->revoked = true;
        w->tokens++;
    }
    return true;
}

/* The agents that may hold what is named, whether or not an authorization is left to end: a certificate may outlive the
 * one that it was obtained by. (Of an agent that is revoked the session ends; whose a key is, nobody here knows.) */
static void tell_agents(const struct ending *w)
{
    struct registry *all = &w->ra->entries;
    const char *value = revocation_value(w->r);
    const size_t n = strlen(value);
    const struct entry *x;
    switch (revocation_by(w->r)) {
    case TLOG_BY_SERIAL:
        family_revoked(all, w->of->agent, w->r->id);
        return;
    case TLOG_BY_ENTRY:
        if ((x = registry_find(all, value)))
            family_revoked(all, x->x.parent, w->r->id);
        return;
    case TLOG_BY_ID:
    case TLOG_BY_PREFIX:
        for (size_t i = entries_place(all->sorted, all->n, value);
             i < all->n && strncmp(all->sorted[i]->x.spiffe_id, value, n) == 0; i++)
            if (revocation_names_id(w->ra, w->r, all->sorted[i]->x.spiffe_id))
                family_revoked(all, all->sorted[i]->x.parent, w->r->id);
        return;
    default:
        return;
    }
}

/* Under the lock. By serial one session is meant; else all are looked at, which an operator may ask for. */
static void end_all(struct ending *w)
{
    switch (revocation_by(w->r)) {
    case TLOG_BY_SERIAL:
        end_by_serial(w);
        return;
    case TLOG_BY_KEY:
        return;
    default:
        map_walk(&w->ra->sessions, 0, SIZE_MAX, session_look, w);
        map_walk(&w->ra->tokens, 0, SIZE_MAX, token_look, w);
    }
}

static void op_free(struct revoke_op *o)
{
    if (!o->listed)
        free(o->r);
    buf_free(&o->record);
    free(o);
}

/* What the callback reads stays until it is done: the sweep is of this thread, too. */
static void revoke_done(struct op *op, struct ra *ra, const struct err *e)
{
    struct revoke_op *o = (struct revoke_op *)(void *)op;
    struct ending w = {.ra = ra, .r = o->r, .of = &o->of};
    pthread_mutex_lock(&ra->lock);
    if (!e) {
        end_all(&w);
        tell_agents(&w);
    } else if (o->listed) {
        revocations_remove(&ra->revocations, o->r);
    }
    pthread_mutex_unlock(&ra->lock);
    if (e) {
        o->cb(o->arg, NULL, e);
        op_free(o);
        return;
    }
    struct ra_revocation v = snapshot(o->r);
    v.ended.sessions = w.sessions;
    v.ended.authorizations = w.authorizations;
    v.ended.tokens = w.tokens;
    teller_deed(ra->teller, &o->deed);
    log_info("revoked", "by", tlog_record_code(TLOG_ENTRY_REVOCATION, (uint8_t)v.by), "value", v.value, "actor", v.actor,
             "sessions", log_num((long long)w.sessions), "tokens", log_num((long long)w.tokens), NULL);
    o->cb(o->arg, &v, NULL);
    op_free(o);
}

void ra_revoke(struct ra *ra, const struct ra_revoke *want, ra_revoke_cb *cb, void *arg)
{
    struct err e = {0};
    struct revoke_op *o = calloc(1, sizeof *o);
    if (!o) {
        no_memory(&e);
        cb(arg, NULL, &e);
        return;
    }
    *o = (struct revoke_op){.op = {.write = revoke_write, .done = revoke_done}, .ra = ra, .cb = cb, .arg = arg};
    buf_init(&o->record, TLOG_RECORD_MAX);
    if (want->agent && want->spiffe_id) {
        snprintf(o->of.agent, sizeof o->of.agent, "%s", want->agent);
        snprintf(o->of.spiffe_id, sizeof o->of.spiffe_id, "%s", want->spiffe_id);
    }
    if (check_value(ra, want, &e) == 0 && check_rest(want, &e) == 0 && (o->r = revocation_new(want, &e)) &&
        make_record(o, &e) == 0 && writer_push(ra, &o->op, &e) == 0)
        return;
    op_free(o);
    cb(arg, NULL, &e);
}

void revocation_told(struct ra *ra, int64_t id, uint64_t index)
{
    pthread_mutex_lock(&ra->lock);
    struct revocation *r = revocations_by_id(&ra->revocations, id);
    if (r) {
        r->logged = true;
        r->index = index;
    }
    pthread_mutex_unlock(&ra->lock);
}

/* --- the list ---------------------------------------------------------------------------------------------------- */

/* One copied out of memory, so that it is called without the lock. False: none is left. */
static bool next_copy(struct ra *ra, int64_t after, struct revocation **copy, size_t *len, struct err *e)
{
    pthread_mutex_lock(&ra->lock);
    const struct revocation *found = after < INT64_MAX ? revocations_from(&ra->revocations, after + 1) : NULL;
    size_t need = found ? sizeof **copy + strlen(found->name) + 1 : 0;
    if (need > *len) {
        free(*copy);
        *copy = malloc(need);
        *len = *copy ? need : 0;
    }
    if (found && *copy)
        memcpy(*copy, found, need);
    pthread_mutex_unlock(&ra->lock);
    if (found && !*copy)
        no_memory(e);
    return found;
}

int ra_revocation_each(struct ra *ra, int64_t after, size_t limit,
                       bool (*each)(void *arg, const struct ra_revocation *r), void *arg, bool *more, struct err *e)
{
    struct revocation *copy = NULL;
    size_t len = 0;
    bool enough = false;
    *more = false;
    for (size_t i = 0; next_copy(ra, after, &copy, &len, e); i++) {
        if (!copy)
            return -1;
        *more = enough || i == limit;
        if (*more)
            break;
        after = copy->id;
        const struct ra_revocation v = snapshot(copy);
        enough = !each(arg, &v);
    }
    free(copy);
    return 0;
}
