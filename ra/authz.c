/* Authorizations: one of a session for a SPIFFE ID, and its one challenge, remote-attest-01. */
#include "base/clock.h"
#include "ra/store.h"
#include <stdlib.h>
#include <string.h>

/* --- the object ---------------------------------------------------------------------------------------------------- */

struct authz *authz_new(struct ra_session *s, const char *spiffe_id, struct err *e)
{
    size_t n = strlen(spiffe_id) + 1;
    uint8_t token[32];
    struct authz *a = calloc(1, sizeof *a + RA_ID_LEN + n);
    if (!a) {
        no_memory(e);
        return NULL;
    }
    if (id_make(a->id, e) < 0 || random_fill(token, sizeof token, e) < 0) {
        free(a);
        return NULL;
    }
    b64url_encode(a->challenge_token, token, sizeof token);
    a->session = s;
    a->status = a->challenge = RA_PENDING;
    memcpy(a->name, s->id, RA_ID_LEN);
    memcpy(a->name + RA_ID_LEN, spiffe_id, n);
    a->spiffe_id = a->name + RA_ID_LEN;
    return a;
}

struct voucher *voucher_new(const char entry[RA_ID_LEN + 1], const char *serial, const uint8_t key[32])
{
    struct voucher *v = calloc(1, sizeof *v);
    if (!v)
        return NULL;
    memcpy(v->entry, entry, sizeof v->entry);
    snprintf(v->serial, sizeof v->serial, "%s", serial);
    memcpy(v->key, key, sizeof v->key);
    return v;
}

void authz_free(struct authz *a)
{
    if (!a)
        return;
    strings_free(&a->selectors);
    free(a->requester);
    free(a->voucher);
    free(a->error);
    free(a);
}

static struct authz *pair_find(const struct ra *ra, const struct ra_session *s, const char *spiffe_id)
{
    char name[RA_ID_LEN + SPIFFE_ID_MAX + 1];
    size_t n = strlen(spiffe_id);
    if (n > SPIFFE_ID_MAX)
        return NULL;
    memcpy(name, s->id, RA_ID_LEN);
    memcpy(name + RA_ID_LEN, spiffe_id, n);
    struct map_node *node = map_find(&ra->pairs, name, RA_ID_LEN + n);
    return node ? MAP_OBJECT(node, struct authz, pair) : NULL;
}

/* Alike ones are few: a valid one, and those that are not are bounded for the whole session. */
static void pair_add(struct ra *ra, struct authz *a)
{
    struct authz *first = pair_find(ra, a->session, a->spiffe_id);
    a->alike = first ? first->alike : NULL;
    if (first)
        first->alike = a;
    else
        map_add(&ra->pairs, &a->pair, a->name, RA_ID_LEN + strlen(a->spiffe_id));
}

static void pair_remove(struct ra *ra, struct authz *a)
{
    struct authz *x = pair_find(ra, a->session, a->spiffe_id);
    if (x == a) {
        map_remove(&ra->pairs, &a->pair);
        if (a->alike)
            map_add(&ra->pairs, &a->alike->pair, a->alike->name, RA_ID_LEN + strlen(a->spiffe_id));
        return;
    }
    while (x && x->alike != a)
        x = x->alike;
    if (x)
        x->alike = a->alike;
}

/* When it comes, and before it goes or is no longer valid. */
static void count_valid(struct ra *ra, const struct authz *a, bool comes)
{
    if (a->status != RA_VALID)
        return;
    if (comes) {
        ra->valid_authz++;
        a->session->authz_valid++;
    } else {
        ra->valid_authz--;
        a->session->authz_valid--;
    }
}

void authz_add(struct ra *ra, struct authz *a)
{
    struct ra_session *s = a->session;
    a->prev = NULL;
    a->next = s->authz;
    if (s->authz)
        s->authz->prev = a;
    s->authz = a;
    s->authz_count++;
    if (!a->line)
        a->line = ++ra->lines;
    map_add(&ra->authz, &a->node, a->id, RA_ID_LEN);
    pair_add(ra, a);
    count_valid(ra, a, true);
}

void authz_remove(struct ra *ra, struct authz *a)
{
    if (a->prev)
        a->prev->next = a->next;
    else
        a->session->authz = a->next;
    if (a->next)
        a->next->prev = a->prev;
    a->session->authz_count--;
    map_remove(&ra->authz, &a->node);
    pair_remove(ra, a);
    count_valid(ra, a, false);
    authz_free(a);
}

void authz_facts(const struct authz *a, struct facts *f)
{
    *f = (struct facts){.proven_id = a->proves ? a->spiffe_id : NULL, .agent = a->voucher ? a->requester : NULL,
                        .entry_id = a->entry, .selectors = a->selectors.v, .selectors_count = a->selectors.n};
}

/* --- looking ---------------------------------------------------------------------------------------------------------- */

bool authz_revoked(const struct ra *ra, const struct authz *a)
{
    return a->voucher && ra->revocations.n > 0 && svid_revoked(ra, a->requester, a->voucher->serial, a->voucher->key);
}

/* An agent's word counts as long as the agent does: its entry is the one that it vouched under, its SVID good.
 * (That this has not ended, a->expires says.) */
static bool voucher_stands(const struct ra *ra, const struct authz *a)
{
    const struct entry *x = registry_by_spiffe_id(&ra->entries, a->requester);
    return x && strcmp(x->x.id, a->voucher->entry) == 0 && !authz_revoked(ra, a);
}

static bool still_holds(const struct ra *ra, const struct authz *a)
{
    struct facts f;
    struct err ignored;
    const struct entry *x = registry_by_spiffe_id(&ra->entries, a->spiffe_id);
    authz_facts(a, &f);
    return decide(x ? &x->x : NULL, a->spiffe_id, ra->authority, &f, &ignored) == 0 &&
           (!a->voucher || voucher_stands(ra, a));
}

struct authz *authz_live(const struct ra *ra, const struct ra_session *s, const char *spiffe_id, int64_t now)
{
    for (struct authz *a = pair_find(ra, s, spiffe_id); a; a = a->alike)
        if (a->status == RA_VALID && a->expires > now && still_holds(ra, a))
            return a;
    return NULL;
}

struct authz *authz_valid(const struct ra *ra, const struct ra_session *s, const char *spiffe_id)
{
    struct authz *a = pair_find(ra, s, spiffe_id);
    while (a && a->status != RA_VALID)
        a = a->alike;
    return a;
}

bool authz_own(const struct ra *ra, const struct ra_session *s, const char *spiffe_id)
{
    const struct authz *a = authz_valid(ra, s, spiffe_id);
    return a && !a->voucher;
}

struct authz *authz_pending(const struct ra_session *s, const char *spiffe_id, int64_t now)
{
    for (struct authz *a = pair_find(s->ra, s, spiffe_id); a; a = a->alike)
        if (a->status == RA_PENDING && a->expires > now)
            return a;
    return NULL;
}

struct authz *authz_find(struct ra *ra, const struct ra_session *s, const char *id)
{
    struct map_node *n = map_find(&ra->authz, id, strlen(id));
    struct authz *a = n ? MAP_OBJECT(n, struct authz, node) : NULL;
    return a && a->session == s ? a : NULL;
}

static bool has_room(const struct ra_session *s)
{
    return s->authz_count < RA_AUTHZ_SESSION_MAX && s->authz_count - s->authz_valid < RA_AUTHZ_OPEN_MAX;
}

/* Room for one more in the session's list; makes it from what can not be used any more. */
int authz_room(struct ra *ra, struct ra_session *s, int64_t now, struct err *e)
{
    struct authz *next;
    if (has_room(s))
        return 0;
    for (struct authz *a = s->authz; a; a = next) {
        next = a->next;
        /* Valid ones stand in the store, and go with the sweep. */
        if (a->status != RA_VALID && a->challenge != RA_PROCESSING && (a->status != RA_PENDING || a->expires <= now))
            authz_remove(ra, a);
    }
    if (has_room(s))
        return 0;
    return err_set(e, ERR_RATE, "authorizations",
                   "this account has %zu authorizations, %zu of them valid; %d, and %d that are not valid, is the most. Use "
                   "another for more",
                   s->authz_count, s->authz_valid, RA_AUTHZ_SESSION_MAX, RA_AUTHZ_OPEN_MAX);
}

/* --- changing ------------------------------------------------------------------------------------------------------------ */

/* Open orders of the session that wait for authorization `from` wait for `to`. */
static void orders_move(struct ra_session *s, const char *from, const char *to)
{
    for (struct order *o = s->open; o; o = o->s_next)
        if (strcmp(o->authz, from) == 0)
            memcpy(o->authz, to, sizeof o->authz);
}

void authz_install(struct ra *ra, struct authz *fresh)
{
    struct authz *next;
    for (struct authz *a = pair_find(ra, fresh->session, fresh->spiffe_id); a; a = next) {
        next = a->alike;
        /* Another challenge of this pair that is being answered keeps its object for the answer. */
        if (a->challenge == RA_PROCESSING && strcmp(a->id, fresh->id) != 0)
            continue;
        if (a->status == RA_VALID)
            fresh->line = a->line;
        orders_move(fresh->session, a->id, fresh->id);
        authz_remove(ra, a);
    }
    authz_add(ra, fresh);
    fresh->session->attested = true;
}

void authz_fail(struct ra *ra, struct authz *a, enum ra_status status, const struct err *why)
{
    count_valid(ra, a, false);
    a->status = status;
    if (a->challenge != RA_VALID)
        a->challenge = RA_INVALID;
    if (!a->error && (a->error = malloc(sizeof *a->error)))
        *a->error = *why;
    for (struct order *o = a->session->open, *next; o; o = next) {
        next = o->s_next;
        if (strcmp(o->authz, a->id) == 0 && o->status != RA_PROCESSING)
            order_finish(ra, o, RA_INVALID, why);
    }
}

void authz_revoke(struct ra *ra, struct authz *a)
{
    struct err why = {0};
    err_set(&why, ERR_UNAUTHORIZED, "authorization-revoked",
            "the authorization for %.300s was revoked; make a new order, and attest again", a->spiffe_id);
    for (struct order *o = a->session->open, *next; o; o = next) {
        next = o->s_next;
        if (o->status == RA_PROCESSING)
            o->revoked = o->revoked || strcmp(o->uri, a->spiffe_id) == 0;
        else if (strcmp(o->authz, a->id) == 0)
            order_finish(ra, o, RA_INVALID, &why);
    }
    authz_remove(ra, a);
}

/* --- what others see -------------------------------------------------------------------------------------------------------- */

static void view(const struct authz *a, struct ra_authz_view *v, int64_t now)
{
    memset(v, 0, sizeof *v);
    memcpy(v->id, a->id, sizeof v->id);
    v->status = (a->status == RA_VALID || a->status == RA_PENDING) && a->expires <= now ? RA_EXPIRED : a->status;
    snprintf(v->identifier.type, sizeof v->identifier.type, "uri");
    snprintf(v->identifier.value, sizeof v->identifier.value, "%s", a->spiffe_id);
    memcpy(v->challenge_token, a->challenge_token, sizeof v->challenge_token);
    v->challenge_status = a->challenge;
    v->expires = a->expires;
    v->validated = a->validated;
    if (a->error)
        v->error = *a->error;
}
_Static_assert(sizeof((struct ra_authz_view *)0)->challenge_token == sizeof((struct authz *)0)->challenge_token,
               "a view holds a token whole");

static int refuse_unknown(struct err *e)
{
    return err_set(e, ERR_NOT_FOUND, "authorization",
                   "this account has no such authorization (or no longer); make a new order");
}

void ra_authz_get(struct ra *ra, struct ra_session *s, const char *id, ra_authz_cb *cb, void *arg)
{
    struct ra_authz_view v;
    struct err e = {0};
    pthread_mutex_lock(&ra->lock);
    const struct authz *a = authz_find(ra, s, id);
    if (a)
        view(a, &v, clock_wall());
    else
        refuse_unknown(&e);
    pthread_mutex_unlock(&ra->lock);
    cb(arg, a ? &v : NULL, a ? NULL : &e);
}

/* --- deactivation (RFC 8555 section 7.5.2) ------------------------------------------------------------------------------------- */

struct deactivate_op {
    struct op op;
    struct ra_session *s; /* a reference */
    char id[RA_ID_LEN + 1];
    ra_authz_cb *cb;
    void *arg;
};

/* A challenge that is being verified meanwhile is written after this, and finds the mark (vouch.c). */
static void mark_ending(const struct deactivate_op *o, bool ending)
{
    pthread_mutex_lock(&o->s->ra->lock);
    struct authz *a = authz_find(o->s->ra, o->s, o->id);
    if (a)
        a->ending = ending;
    pthread_mutex_unlock(&o->s->ra->lock);
}

static int deactivate_write(struct op *op, struct store *s, struct err *e)
{
    const struct deactivate_op *o = (struct deactivate_op *)(void *)op;
    if (store_authz_delete(s, o->id, e) < 0)
        return -1;
    mark_ending(o, true);
    return 0;
}

static void deactivate_done(struct op *op, struct ra *ra, const struct err *e)
{
    struct deactivate_op *o = (struct deactivate_op *)(void *)op;
    struct err why = {0};
    if (!e) {
        err_set(&why, ERR_UNAUTHORIZED, "authorization-deactivated", "the authorization was deactivated");
        pthread_mutex_lock(&ra->lock);
        struct authz *a = authz_find(ra, o->s, o->id);
        if (a)
            authz_fail(ra, a, RA_DEACTIVATED, &why);
        pthread_mutex_unlock(&ra->lock);
        ra_authz_get(ra, o->s, o->id, o->cb, o->arg);
    } else {
        mark_ending(o, false);
        o->cb(o->arg, NULL, e);
    }
    ra_session_release(o->s);
    free(o);
}

void ra_authz_deactivate(struct ra *ra, struct ra_session *s, const char *id, ra_authz_cb *cb, void *arg)
{
    struct err e = {0};
    pthread_mutex_lock(&ra->lock);
    bool known = authz_find(ra, s, id) != NULL;
    pthread_mutex_unlock(&ra->lock);
    struct deactivate_op *o = known ? calloc(1, sizeof *o) : NULL;
    if (!known) {
        refuse_unknown(&e);
    } else if (!o) {
        no_memory(&e);
    } else {
        *o = (struct deactivate_op){
            .op = {.write = deactivate_write, .done = deactivate_done}, .s = session_ref(s), .cb = cb, .arg = arg};
        memcpy(o->id, id, sizeof o->id);
        if (writer_push(ra, &o->op, &e) == 0)
            return;
        ra_session_release(s);
        free(o);
    }
    cb(arg, NULL, &e);
}

/* --- the challenge (RFC 8555 section 7.5.1) ----------------------------------------------------------------------------------------- */

struct answer {
    struct ra *ra;
    struct ra_session *s; /* a reference */
    char id[RA_ID_LEN + 1];
    ra_authz_cb *cb;
    void *arg;
};

/* Trouble of ours leaves the challenge open, to be answered again; evidence that is refused ends it. */
static bool is_ours(const struct err *e)
{
    return e->code == ERR_UNAVAILABLE || e->code == ERR_INTERNAL || e->code == ERR_CORRUPT || e->code == ERR_RATE;
}

static void answer_done(void *arg, const struct err *e)
{
    struct answer *w = arg;
    if (e) {
        pthread_mutex_lock(&w->ra->lock);
        struct authz *a = authz_find(w->ra, w->s, w->id);
        bool waits = a && a->status == RA_PENDING; /* not deactivated meanwhile */
        if (waits && is_ours(e))
            a->challenge = RA_PENDING;
        else if (waits)
            authz_fail(w->ra, a, RA_INVALID, e);
        pthread_mutex_unlock(&w->ra->lock);
    }
    if (e && is_ours(e))
        w->cb(w->arg, NULL, e);
    else
        ra_authz_get(w->ra, w->s, w->id, w->cb, w->arg);
    ra_session_release(w->s);
    free(w);
}

void ra_challenge_answer(struct ra *ra, struct ra_session *s, const char *authz_id, const json_t *evidence,
                         ra_authz_cb *cb, void *arg)
{
    struct err e = {0};
    char spiffe_id[SPIFFE_ID_MAX + 1], token[sizeof((struct authz *)0)->challenge_token];
    struct answer *w = calloc(1, sizeof *w);
    if (!w) {
        no_memory(&e);
        cb(arg, NULL, &e);
        return;
    }
    *w = (struct answer){.ra = ra, .s = session_ref(s), .cb = cb, .arg = arg};
    pthread_mutex_lock(&ra->lock);
    struct authz *a = authz_find(ra, s, authz_id);
    bool waits = a && a->status == RA_PENDING && a->challenge == RA_PENDING && a->expires > clock_wall();
    if (waits) {
        a->challenge = RA_PROCESSING; /* until answer_done: not answered twice, and only the account's end frees it */
        memcpy(w->id, a->id, sizeof w->id);
        memcpy(token, a->challenge_token, sizeof token);
        snprintf(spiffe_id, sizeof spiffe_id, "%s", a->spiffe_id);
    }
    pthread_mutex_unlock(&ra->lock);
    if (waits) {
        vouch(ra, s, spiffe_id, w->id, evidence, token, answer_done, w);
        return;
    }
    /* Answered already, or being answered: the answer is how it stands. */
    ra_authz_get(ra, s, authz_id, cb, arg);
    ra_session_release(w->s);
    free(w);
}
