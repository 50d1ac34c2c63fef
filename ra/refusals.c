#include "ra/refusals.h"
#include <stdlib.h>
#include <string.h>

struct kind {
    struct refusal r;  /* r.count: since the last record; 0: the slot only remembers */
    int64_t due;       /* of the record */
    bool used;
};

struct refusals {
    struct kind kinds[REFUSALS_KINDS];
    struct kind others;
    int64_t next; /* the earliest time of the next record */
};

struct refusals *refusals_new(void)
{
    return calloc(1, sizeof(struct refusals));
}

void refusals_free(struct refusals *t)
{
    free(t);
}

static bool alike(const struct refusal *a, const struct refusal *b)
{
    return a->stage == b->stage && strcmp(a->rule, b->rule) == 0 && strcmp(a->spiffe_id, b->spiffe_id) == 0 &&
           strcmp(a->attestor, b->attestor) == 0 && strcmp(a->requester, b->requester) == 0;
}

/* A slot is free again when it was told of and its while is over. */
static bool is_free(const struct kind *k, int64_t now)
{
    return !k->used || (k->r.count == 0 && k->due <= now);
}

static struct kind *kind_of(struct refusals *t, const struct refusal *r, int64_t now)
{
    struct kind *room = NULL;
    for (size_t i = 0; i < REFUSALS_KINDS; i++) {
        struct kind *k = &t->kinds[i];
        if (!is_free(k, now) && alike(&k->r, r))
            return k;
        if (!room && is_free(k, now))
            room = k;
    }
    if (!room)
        return NULL;
    *room = (struct kind){.r = *r, .due = now, .used = true};
    room->r.count = 0;
    return room;
}

static uint32_t sum(uint32_t have, uint32_t more)
{
    if (more == 0)
        more = 1;
    return have > UINT32_MAX - more ? UINT32_MAX : have + more;
}

static void count(struct kind *k, const struct refusal *r)
{
    if (k->r.count == 0) { /* the first since the last record: its words */
        memcpy(k->r.why, r->why, sizeof k->r.why);
        memcpy(k->r.session, r->session, sizeof k->r.session);
        k->r.has_session = r->has_session;
    } else if (k->r.has_session && (!r->has_session || memcmp(k->r.session, r->session, sizeof r->session) != 0)) {
        k->r.has_session = false;
    }
    k->r.count = sum(k->r.count, r->count);
}

static void count_other(struct refusals *t, const struct refusal *r, int64_t now)
{
    struct kind *o = &t->others;
    if (!o->used || (o->r.count == 0 && o->due <= now)) {
        *o = (struct kind){.due = now + REFUSALS_WINDOW_MS, .used = true};
        o->r.stage = TLOG_AT_POLICY;
        strcpy(o->r.rule, "many-refusals");
        strcpy(o->r.why, "refused beside these, of more kinds than are told apart at a time");
    }
    o->r.count = sum(o->r.count, r->count);
}

void refusals_add(struct refusals *t, const struct refusal *r, int64_t now)
{
    struct kind *k = kind_of(t, r, now);
    if (k)
        count(k, r);
    else
        count_other(t, r, now);
}

static struct kind *earliest(struct refusals *t)
{
    struct kind *best = t->others.r.count ? &t->others : NULL;
    for (size_t i = 0; i < REFUSALS_KINDS; i++) {
        struct kind *k = &t->kinds[i];
        if (k->used && k->r.count && (!best || k->due < best->due))
            best = k;
    }
    return best;
}

bool refusals_take(struct refusals *t, int64_t now, bool all, struct refusal *out)
{
    struct kind *k = earliest(t);
    if (!k || (!all && (k->due > now || t->next > now)))
        return false;
    *out = k->r;
    k->r.count = 0;
    k->due = now + REFUSALS_WINDOW_MS;
    t->next = (t->next > now ? t->next : now) + 1000 / REFUSALS_A_SECOND;
    return true;
}

int64_t refusals_due(const struct refusals *t, int64_t now)
{
    int64_t due = t->others.r.count ? t->others.due : INT64_MAX;
    for (size_t i = 0; i < REFUSALS_KINDS; i++) {
        const struct kind *k = &t->kinds[i];
        if (k->used && k->r.count && k->due < due)
            due = k->due;
    }
    if (due == INT64_MAX)
        return due;
    return due > t->next ? due : t->next > now ? t->next : now;
}
