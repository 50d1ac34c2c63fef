/* JWT-SVIDs of an identity, one for each audience, kept until half of their life is over. */
#include "agent/daemon.h"
#include "base/clock.h"
#include "base/log.h"
#include <stdlib.h>
#include <string.h>

#define KEPT_MAX 64      /* audiences of one identity */
#define UNDER_WAY_MAX 16 /* of one identity: others of it wait, and those of other identities do not */
#define QUEUE_MAX 1024   /* tasks before the authority */

struct jwt_cached {
    struct jwt_cached *next;
    char **audience;
    size_t audience_count;
    char *svid; /* NULL: none yet */
    int64_t from, expires; /* wall s; from: when it was issued, or came, by a clock that is ahead */
    int64_t came_mono_ms;  /* a clock that was set back makes no token live longer */
    bool busy;
    int64_t failed_mono_ms;
    struct err why;
};

static void cached_free(struct jwt_cached *k)
{
    texts_free(k->audience, k->audience_count);
    free(k->svid);
    free(k);
}

void jwt_cache_free(struct identity *i)
{
    for (struct jwt_cached *k = i->jwts, *next; k; k = next) {
        next = k->next;
        cached_free(k);
    }
    i->jwts = NULL;
}

static struct jwt_cached *find(const struct identity *i, char *const *audience, size_t n)
{
    for (struct jwt_cached *k = i->jwts; k; k = k->next) {
        bool same = k->audience_count == n;
        for (size_t a = 0; same && a < n; a++)
            same = strcmp(k->audience[a], audience[a]) == 0;
        if (same)
            return k;
    }
    return NULL;
}

struct jwt_found jwt_find(const struct identity *i, char *const *audience, size_t n, int64_t now)
{
    struct jwt_found f = {0};
    const struct jwt_cached *k = find(i, audience, n);
    if (!k)
        return f;
    f.busy = k->busy;
    f.failed_mono_ms = k->failed_mono_ms;
    f.why = &k->why;
    int64_t life = k->expires - k->from, age = (clock_mono_ms() - k->came_mono_ms) / 1000;
    if (k->svid && now < k->expires && age < life) {
        f.svid = k->svid;
        f.from = k->from;
        f.half = k->from + life / 2;
        f.expires = k->expires;
        f.fresh = now < f.half && age < life / 2;
    }
    return f;
}

/* Room for one more: what is over goes, else what is over first. What is under way stays. */
static void make_room(struct identity *i)
{
    size_t n = 0;
    struct jwt_cached **worst = NULL;
    for (struct jwt_cached **at = &i->jwts; *at; at = &(*at)->next) {
        n++;
        if (!(*at)->busy && (!worst || (*at)->expires < (*worst)->expires))
            worst = at;
    }
    if (n < KEPT_MAX || !worst)
        return;
    struct jwt_cached *gone = *worst;
    *worst = gone->next;
    cached_free(gone);
}

static void on_jwt(struct task *t)
{
    struct job *j = (struct job *)t;
    struct agent *a = j->agent;
    struct identity *i = t->worked ? identity_find(&a->identities, j->entry_id) : NULL;
    struct jwt_cached *k = i ? find(i, j->audience, j->audience_count) : NULL;
    bool ok = j->err.code == ERR_NONE;
    if (t->worked) {
        *(ok ? &a->counters.jwt_ok : &a->counters.jwt_failed) += 1;
        gate_reached(a, j);
        if (j->bundle_old)
            bundle_hurry(a);
    }
    if (k) {
        k->busy = false;
        k->failed_mono_ms = ok ? 0 : clock_mono_ms();
        k->why = j->err;
        if (ok) {
            free(k->svid);
            k->svid = j->jwt.svid;
            k->from = j->jwt.issued > clock_wall() ? j->jwt.issued : clock_wall();
            k->expires = j->jwt.expires;
            k->came_mono_ms = clock_mono_ms();
            j->jwt.svid = NULL;
        } else {
            log_event(engine_seldom(&a->jwt_told_ms, LOG_WARN), "no JWT-SVID", "id", i->spiffe_id, "why", j->err.msg,
                      NULL);
        }
        callers_jwt(a, i);
        outputs_changed(a, i);
    }
    job_free(j);
}

static size_t under_way(const struct identity *i)
{
    size_t n = 0;
    for (const struct jwt_cached *k = i->jwts; k; k = k->next)
        n += k->busy;
    return n;
}

int jwt_fetch(struct agent *a, struct identity *i, char *const *audience, size_t n, struct err *e)
{
    struct jwt_cached *k = find(i, audience, n);
    if (a->own.until_ms <= clock_wall_ms())
        return err_set(e, ERR_UNAVAILABLE, "agent-svid", "the agent has no living SVID of its own to vouch with");
    if (!gate_open(a))
        return err_set(e, ERR_UNAVAILABLE, "server-unreachable", "the authority can not be reached now");
    if (under_way(i) >= UNDER_WAY_MAX)
        return err_set(e, ERR_RATE, "busy", "many JWT-SVIDs of this identity are under way");
    if (queue_waiting(a->authority) > QUEUE_MAX)
        return err_set(e, ERR_UNAVAILABLE, "busy", "too many requests wait for the authority; try again");
    if (!k) {
        make_room(i);
        k = calloc(1, sizeof *k);
        if (!k || strings_copy(&k->audience, &k->audience_count, audience, n) < 0) {
            if (k)
                cached_free(k);
            return err_set(e, ERR_INTERNAL, "memory", "out of memory for a JWT-SVID");
        }
        k->next = i->jwts;
        i->jwts = k;
    }
    struct job *j = job_new(a, JOB_JWT, FIRST_JWT, e);
    if (!j)
        return -1;
    j->task.done = on_jwt;
    j->entry_id = strdup(i->entry_id);
    j->spiffe_id = strdup(i->spiffe_id);
    if (!j->entry_id || !j->spiffe_id || strings_copy(&j->audience, &j->audience_count, audience, n) < 0 ||
        strings_copy(&j->selectors, &j->selectors_count, i->evidence, i->evidence_count) < 0) {
        job_free(j);
        return err_set(e, ERR_INTERNAL, "memory", "out of memory for a JWT-SVID");
    }
    k->busy = true;
    gate_put(a, j);
    return 0;
}
