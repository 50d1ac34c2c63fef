/* Sessions: ACME accounts, each an ephemeral key of an agent. */
#include "base/clock.h"
#include "ra/store.h"
#include <stdlib.h>
#include <string.h>

struct session_op {
    struct op op;
    struct ra_session *s; /* a reference */
    ra_session_cb *cb;
    void *arg;
};

/* --- the object -------------------------------------------------------------------------------------------------- */

struct ra_session *session_make(struct ra *ra, struct key *key, const char thumbprint[44], struct err *e)
{
    struct ra_session *s = calloc(1, sizeof *s);
    if (!s) {
        no_memory(e);
        return NULL;
    }
    atomic_init(&s->refs, 1);
    atomic_init(&s->deactivated, false);
    s->ra = ra;
    memcpy(s->thumbprint, thumbprint, sizeof s->thumbprint);
    s->thumbprint[sizeof s->thumbprint - 1] = 0;
    s->created = clock_wall();
    atomic_init(&s->used, s->created);
    if (b64url_decode(s->thumbprint_raw, sizeof s->thumbprint_raw, s->thumbprint, strlen(s->thumbprint)) != 32) {
        err_set(e, ERR_INTERNAL, "session", "the account key's thumbprint is not one");
        free(s);
        return NULL;
    }
    s->key = key;
    return s;
}

struct ra_session *session_ref(struct ra_session *s)
{
    atomic_fetch_add(&s->refs, 1);
    return s;
}

void ra_session_release(struct ra_session *s)
{
    if (!s || atomic_fetch_sub(&s->refs, 1) != 1)
        return;
    /* The last reference: it left the maps before, and its authorizations went then. */
    key_free(s->key);
    free(s);
}

void session_add(struct ra *ra, struct ra_session *s)
{
    map_add(&ra->sessions, &s->by_id, s->id, RA_ID_LEN);
    map_add(&ra->thumbprints, &s->by_thumbprint, s->thumbprint, strlen(s->thumbprint));
}

void session_remove(struct ra *ra, struct ra_session *s)
{
    while (s->authz)
        authz_remove(ra, s->authz);
    map_remove(&ra->sessions, &s->by_id);
    map_remove(&ra->thumbprints, &s->by_thumbprint);
    ra_session_release(s);
}

const struct key *ra_session_key(const struct ra_session *s)
{
    return s->key;
}

const char *ra_session_id(const struct ra_session *s)
{
    return s->id;
}

const char *ra_session_thumbprint(const struct ra_session *s)
{
    return s->thumbprint;
}

bool ra_session_deactivated(const struct ra_session *s)
{
    return atomic_load(&s->deactivated);
}

bool ra_session_revoked(const struct ra_session *s)
{
    return atomic_load(&s->revoked);
}

bool ra_session_authorized(struct ra *ra, struct ra_session *s, const char *spiffe_id)
{
    pthread_mutex_lock(&ra->lock);
    bool has = authz_live(ra, s, spiffe_id, clock_wall()) != NULL;
    pthread_mutex_unlock(&ra->lock);
    return has;
}

int session_refuse(const struct ra_session *s, struct err *e)
{
    return atomic_load(&s->revoked)
               ? err_set(e, ERR_UNAUTHORIZED, "session-revoked",
                         "the session was revoked; start again with new evidence, as a join token made since")
               : err_set(e, ERR_UNAUTHORIZED, "account-deactivated", "the account was deactivated or has expired");
}

void ra_session_touch(struct ra_session *s)
{
    atomic_store(&s->used, clock_wall());
}

/* --- finding ------------------------------------------------------------------------------------------------------- */

static struct ra_session *found(struct ra_session *s)
{
    return s && !s->doomed ? session_ref(s) : NULL;
}

struct ra_session *ra_session_find(struct ra *ra, const char *id)
{
    pthread_mutex_lock(&ra->lock);
    struct map_node *n = map_find(&ra->sessions, id, strlen(id));
    struct ra_session *s = found(n ? MAP_OBJECT(n, struct ra_session, by_id) : NULL);
    pthread_mutex_unlock(&ra->lock);
    return s;
}

struct ra_session *ra_session_find_key(struct ra *ra, const char thumbprint[44])
{
    pthread_mutex_lock(&ra->lock);
    struct map_node *n = map_find(&ra->thumbprints, thumbprint, strnlen(thumbprint, 43));
    struct ra_session *s = found(n ? MAP_OBJECT(n, struct ra_session, by_thumbprint) : NULL);
    if (s)
        ra_session_touch(s);
    pthread_mutex_unlock(&ra->lock);
    return s;
}

/* --- making -------------------------------------------------------------------------------------------------------- */

static int session_write(struct op *op, struct store *s, struct err *e)
{
    return store_session_add(s, ((struct session_op *)(void *)op)->s, e);
}

static void session_done(struct op *op, struct ra *ra, const struct err *e)
{
    struct session_op *o = (struct session_op *)(void *)op;
    struct ra_session *old = NULL;
    if (!e) {
        pthread_mutex_lock(&ra->lock);
        session_add(ra, session_ref(o->s));
        pthread_mutex_unlock(&ra->lock);
        o->cb(o->arg, o->s, true, NULL);
    } else if (strcmp(e->rule, "session-exists") == 0 && (old = ra_session_find_key(ra, o->s->thumbprint))) {
        /* The same key twice at once: the other one came first (RFC 8555 section 7.3.1). */
        o->cb(o->arg, old, false, NULL);
        ra_session_release(old);
    } else {
        o->cb(o->arg, NULL, false, e);
    }
    ra_session_release(o->s);
    free(o);
}

static bool is_full(struct ra *ra)
{
    pthread_mutex_lock(&ra->lock);
    bool full = ra->sessions.count >= RA_SESSIONS_MAX;
    pthread_mutex_unlock(&ra->lock);
    return full;
}

int ra_session_new(struct ra *ra, struct key *key, const char thumbprint[44], ra_session_cb *cb, void *arg,
                   struct err *e)
{
    struct ra_session *old = ra_session_find_key(ra, thumbprint);
    if (old) {
        key_free(key);
        cb(arg, old, false, NULL);
        ra_session_release(old);
        return 0;
    }
    if (is_full(ra))
        return err_set(e, ERR_RATE, "sessions", "%d accounts live already; try again later", RA_SESSIONS_MAX);
    struct session_op *o = calloc(1, sizeof *o);
    struct ra_session *s = o ? session_make(ra, key, thumbprint, e) : NULL;
    if (!s) {
        free(o);
        return o ? -1 : no_memory(e);
    }
    *o = (struct session_op){.op = {.write = session_write, .done = session_done}, .s = s, .cb = cb, .arg = arg};
    if (id_make(s->id, e) == 0 && writer_push(ra, &o->op, e) == 0)
        return 0;
    s->key = NULL; /* the caller's again */
    ra_session_release(s);
    free(o);
    return -1;
}

/* --- deactivating (RFC 8555 section 7.3.6) ------------------------------------------------------------------------ */

static int deactivate_write(struct op *op, struct store *s, struct err *e)
{
    return store_session_deactivate(s, ((struct session_op *)(void *)op)->s->id, e);
}

size_t session_end(struct ra *ra, struct ra_session *s, bool revoked)
{
    struct err why = {0};
    size_t gone = 0;
    atomic_store(&s->revoked, revoked);
    atomic_store(&s->deactivated, true);
    session_refuse(s, &why);
    for (; s->authz; authz_remove(ra, s->authz))
        gone += s->authz->status == RA_VALID;
    for (struct order *x = s->open, *next; x; x = next) {
        next = x->s_next;
        if (x->status != RA_PROCESSING)
            order_finish(ra, x, RA_INVALID, &why);
    }
    return gone;
}

static void deactivate_done(struct op *op, struct ra *ra, const struct err *e)
{
    struct session_op *o = (struct session_op *)(void *)op;
    if (!e) {
        pthread_mutex_lock(&ra->lock);
        if (!atomic_load(&o->s->deactivated)) /* not by a revocation meanwhile */
            session_end(ra, o->s, false);
        pthread_mutex_unlock(&ra->lock);
    }
    o->cb(o->arg, e ? NULL : o->s, false, e);
    ra_session_release(o->s);
    free(o);
}

int ra_session_deactivate(struct ra *ra, struct ra_session *s, ra_session_cb *cb, void *arg, struct err *e)
{
    struct session_op *o = calloc(1, sizeof *o);
    if (!o)
        return no_memory(e);
    *o = (struct session_op){
        .op = {.write = deactivate_write, .done = deactivate_done}, .s = session_ref(s), .cb = cb, .arg = arg};
    if (writer_push(ra, &o->op, e) == 0)
        return 0;
    ra_session_release(s);
    free(o);
    return -1;
}
