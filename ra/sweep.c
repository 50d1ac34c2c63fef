/* What no longer lives goes, from the store and from memory, in bounded steps on the store thread.
 * A session is first marked doomed, so that nobody finds it any more; then deleted in the store;
 * then freed. If the store refuses, the mark is taken back and the next round tries again. */
#include "base/clock.h"
#include "base/log.h"
#include "ra/store.h"
#include <stdlib.h>
#include <string.h>

#define SLOTS 512  /* of a map, a step: each may be a session with thousands of authorizations */
#define FOUND 256  /* of each kind, a step */

struct sweep {
    struct ra *ra;
    int64_t now;
    struct ra_session *sessions[FOUND]; /* doomed; each with a reference */
    char authz[FOUND][RA_ID_LEN + 1];
    uint8_t tokens[FOUND][32];
    int64_t revocations[FOUND];
    size_t sessions_n, authz_n, tokens_n, revocations_n;
};

/* --- finding: under the lock ------------------------------------------------------------------------------- */

static bool token_look(void *arg, struct map_node *n)
{
    struct sweep *w = arg;
    const struct token *t = MAP_OBJECT(n, struct token, node);
    if (t->expires + RA_TOKEN_GRACE > w->now)
        return true;
    if (w->tokens_n == FOUND)
        return false;
    memcpy(w->tokens[w->tokens_n++], t->hash, 32);
    return true;
}

/* Valid ones stand in the store, too; the others go at once. Answers false when there is no room. */
static bool authz_look(struct sweep *w, struct ra_session *s)
{
    struct authz *next;
    for (struct authz *a = s->authz; a; a = next) {
        next = a->next;
        if (a->expires > w->now || a->challenge == RA_PROCESSING)
            continue;
        if (a->status != RA_VALID) {
            authz_remove(w->ra, a);
            continue;
        }
        if (w->authz_n == FOUND)
            return false;
        memcpy(w->authz[w->authz_n++], a->id, sizeof a->id);
    }
    return true;
}

/* An account that never proved anything costs its maker nothing: it lives no longer than an order. */
static bool is_used(const struct sweep *w, struct ra_session *s)
{
    int64_t life = s->attested ? (int64_t)w->ra->config->session_lifetime : RA_ORDER_LIFETIME;
    return s->open_count > 0 || atomic_load(&s->used) + life > w->now;
}

static bool session_look(void *arg, struct map_node *n)
{
    struct sweep *w = arg;
    struct ra_session *s = MAP_OBJECT(n, struct ra_session, by_id);
    bool lives = is_used(w, s);
    if (!authz_look(w, s))
        return false;
    for (const struct authz *a = s->authz; a; a = a->next)
        lives = lives || a->expires > w->now || a->challenge == RA_PROCESSING;
    if (lives)
        return true;
    if (w->sessions_n == FOUND)
        return false;
    s->doomed = true;
    w->sessions[w->sessions_n++] = session_ref(s);
    return true;
}

/* They end in the order they were made in, but for keys: what is not found now is with the next step. */
static void revocations_look(struct sweep *w)
{
    const struct revocations *all = &w->ra->revocations;
    for (size_t i = 0; i < all->n && w->revocations_n < FOUND; i++)
        if (revocation_is_over(all->list[i], w->now))
            w->revocations[w->revocations_n++] = all->list[i]->id;
}

static void find(struct sweep *w)
{
    struct ra *ra = w->ra;
    pthread_mutex_lock(&ra->lock);
    revocations_look(w);
    orders_trim(ra, w->now);
    if (ra->writer.at_tokens != SIZE_MAX)
        ra->writer.at_tokens = map_walk(&ra->tokens, ra->writer.at_tokens, SLOTS, token_look, w);
    if (ra->writer.at_tokens == 0)
        ra->writer.at_tokens = SIZE_MAX; /* done for this round */
    if (ra->writer.at_sessions != SIZE_MAX)
        ra->writer.at_sessions = map_walk(&ra->sessions, ra->writer.at_sessions, SLOTS, session_look, w);
    if (ra->writer.at_sessions == 0)
        ra->writer.at_sessions = SIZE_MAX;
    pthread_mutex_unlock(&ra->lock);
}

/* --- deleting ------------------------------------------------------------------------------------------------- */

static int delete_stored(struct sweep *w, struct err *e)
{
    struct store *s = w->ra->store;
    if (store_begin(s, e) < 0)
        return -1;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < w->tokens_n; i++)
        rc = store_token_delete(s, w->tokens[i], e);
    for (size_t i = 0; rc == 0 && i < w->authz_n; i++)
        rc = store_authz_delete(s, w->authz[i], e);
    for (size_t i = 0; rc == 0 && i < w->sessions_n; i++)
        rc = store_session_delete(s, w->sessions[i]->id, e);
    for (size_t i = 0; rc == 0 && i < w->revocations_n; i++)
        rc = store_revocation_delete(s, w->revocations[i], e);
    if (rc == 0)
        rc = store_commit(s, e);
    if (rc < 0)
        store_rollback(s);
    return rc;
}

static void forget(struct sweep *w)
{
    struct ra *ra = w->ra;
    struct map_node *n;
    for (size_t i = 0; i < w->tokens_n; i++)
        if ((n = map_find(&ra->tokens, w->tokens[i], 32))) {
            map_remove(&ra->tokens, n);
            token_free(MAP_OBJECT(n, struct token, node));
        }
    for (size_t i = 0; i < w->authz_n; i++)
        if ((n = map_find(&ra->authz, w->authz[i], RA_ID_LEN)))
            authz_remove(ra, MAP_OBJECT(n, struct authz, node));
    for (size_t i = 0; i < w->sessions_n; i++)
        session_remove(ra, w->sessions[i]);
    for (size_t i = 0; i < w->revocations_n; i++)
        revocations_remove(&ra->revocations, revocations_by_id(&ra->revocations, w->revocations[i]));
}

bool sweep_step(struct ra *ra)
{
    struct sweep *w = calloc(1, sizeof *w);
    struct err e = {0};
    if (!w)
        return false;
    w->ra = ra;
    w->now = clock_wall();
    find(w);
    int rc = 0;
    bool found = w->tokens_n || w->authz_n || w->sessions_n || w->revocations_n;
    if (found) {
        rc = delete_stored(w, &e);
        if (rc < 0)
            log_err(LOG_ERROR, "what has expired can not be deleted from the registration store", &e);
        pthread_mutex_lock(&ra->lock);
        if (rc == 0)
            forget(w);
        for (size_t i = 0; rc < 0 && i < w->sessions_n; i++)
            w->sessions[i]->doomed = false;
        pthread_mutex_unlock(&ra->lock);
    }
    for (size_t i = 0; i < w->sessions_n; i++)
        ra_session_release(w->sessions[i]);
    free(w);
    bool more = rc == 0 && (ra->writer.at_tokens != SIZE_MAX || ra->writer.at_sessions != SIZE_MAX);
    if (!more) {
        store_shrink(ra->store);
        atomic_store(&ra->store_bytes, store_bytes(ra->store));
    }
    return more;
}
