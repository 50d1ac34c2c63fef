/* Entries in memory: immutable objects with a count of references, so that a reader keeps what it
 * found without the lock, and an update swaps one object for another. */
#include "ra/internal.h"
#include <stdlib.h>
#include <string.h>

/* --- lists of strings ------------------------------------------------------------------------------------- */

int strings_copy(struct strings *to, char *const *v, size_t n)
{
    memset(to, 0, sizeof *to);
    if (n == 0)
        return 0;
    to->v = calloc(n, sizeof *to->v);
    if (!to->v)
        return -1;
    for (; to->n < n; to->n++) {
        to->v[to->n] = strdup(v[to->n]);
        if (!to->v[to->n]) {
            strings_free(to);
            return -1;
        }
    }
    return 0;
}

void strings_free(struct strings *s)
{
    for (size_t i = 0; i < s->n; i++)
        free(s->v[i]);
    free(s->v);
    memset(s, 0, sizeof *s);
}

/* --- one entry ----------------------------------------------------------------------------------------------- */

struct entry *entry_new(const struct ra_entry *like, struct err *e)
{
    struct entry *x = calloc(1, sizeof *x);
    struct strings selectors = {0}, dns = {0};
    if (!x) {
        no_memory(e);
        return NULL;
    }
    atomic_init(&x->refs, 1);
    x->x = *like;
    x->x.actor = NULL; /* of the asking, not of the entry */
    x->x.spiffe_id = strdup(like->spiffe_id);
    x->x.parent = strdup(like->parent);
    x->x.hint = strdup(like->hint ? like->hint : "");
    int rc = strings_copy(&selectors, like->selectors, like->selectors_count);
    if (rc == 0)
        rc = strings_copy(&dns, like->dns, like->dns_count);
    x->x.selectors = selectors.v;
    x->x.selectors_count = selectors.n;
    x->x.dns = dns.v;
    x->x.dns_count = dns.n;
    if (rc < 0 || !x->x.spiffe_id || !x->x.parent || !x->x.hint) {
        entry_unref(x);
        no_memory(e);
        return NULL;
    }
    return x;
}

struct entry *entry_ref(struct entry *x)
{
    atomic_fetch_add(&x->refs, 1);
    return x;
}

void entry_unref(struct entry *x)
{
    if (!x || atomic_fetch_sub(&x->refs, 1) != 1)
        return;
    strings_free(&(struct strings){x->x.selectors, x->x.selectors_count});
    strings_free(&(struct strings){x->x.dns, x->x.dns_count});
    free(x->x.spiffe_id);
    free(x->x.parent);
    free(x->x.hint);
    free(x);
}

/* --- all of them ------------------------------------------------------------------------------------------------ */

int registry_init(struct registry *r)
{
    memset(r, 0, sizeof *r);
    return map_init(&r->by_id) < 0 || families_init(r) < 0 ? -1 : 0;
}

void registry_free(struct registry *r)
{
    for (size_t i = 0; i < r->n; i++)
        entry_unref(r->sorted[i]);
    free(r->sorted);
    families_free(r);
    map_free(&r->by_id);
    memset(r, 0, sizeof *r);
}

size_t entries_place(struct entry *const *sorted, size_t n, const char *spiffe_id)
{
    size_t lo = 0, hi = n;
    if (hi > 0 && strcmp(sorted[hi - 1]->x.spiffe_id, spiffe_id) < 0)
        return hi; /* loading comes in order */
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (strcmp(sorted[mid]->x.spiffe_id, spiffe_id) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

struct entry *registry_by_spiffe_id(const struct registry *r, const char *spiffe_id)
{
    size_t at = entries_place(r->sorted, r->n, spiffe_id);
    return at < r->n && strcmp(r->sorted[at]->x.spiffe_id, spiffe_id) == 0 ? r->sorted[at] : NULL;
}

struct entry *registry_find(const struct registry *r, const char *id_or_spiffe_id)
{
    struct map_node *n = map_find(&r->by_id, id_or_spiffe_id, strlen(id_or_spiffe_id));
    return n ? MAP_OBJECT(n, struct entry, by_id) : registry_by_spiffe_id(r, id_or_spiffe_id);
}

static int make_room(struct registry *r)
{
    if (r->n < r->cap)
        return 0;
    size_t cap = r->cap ? r->cap * 2 : 64;
    struct entry **sorted = realloc(r->sorted, cap * sizeof(struct entry *));
    if (!sorted)
        return -1;
    r->sorted = sorted;
    r->cap = cap;
    return 0;
}

int registry_put(struct registry *r, struct entry *x)
{
    size_t at = entries_place(r->sorted, r->n, x->x.spiffe_id);
    struct entry *old = at < r->n && strcmp(r->sorted[at]->x.spiffe_id, x->x.spiffe_id) == 0 ? r->sorted[at] : NULL;
    if ((!old && make_room(r) < 0) || family_put(r, x) < 0) {
        entry_unref(x);
        return -1;
    }
    if (old) {
        if (strcmp(old->x.parent, x->x.parent) != 0)
            family_remove(r, old);
        map_remove(&r->by_id, &old->by_id);
        entry_unref(old);
    } else {
        memmove(r->sorted + at + 1, r->sorted + at, (r->n - at) * sizeof(struct entry *));
        r->n++;
    }
    r->sorted[at] = x;
    if (r->number < x->x.number)
        r->number = x->x.number;
    map_add(&r->by_id, &x->by_id, x->x.id, RA_ID_LEN);
    return 0;
}

void registry_remove(struct registry *r, struct entry *x)
{
    size_t at = entries_place(r->sorted, r->n, x->x.spiffe_id);
    if (at == r->n || r->sorted[at] != x)
        return;
    memmove(r->sorted + at, r->sorted + at + 1, (r->n - at - 1) * sizeof(struct entry *));
    r->n--;
    map_remove(&r->by_id, &x->by_id);
    family_remove(r, x);
    entry_unref(x);
}

/* References to a page of them, so that each is called without the lock. NULL: out of memory. */
static struct entry **page_take(struct ra *ra, const char *after, size_t limit, size_t *n, bool *more)
{
    pthread_mutex_lock(&ra->lock);
    const struct registry *r = &ra->entries;
    size_t at = after ? entries_place(r->sorted, r->n, after) : 0;
    if (after && at < r->n && strcmp(r->sorted[at]->x.spiffe_id, after) == 0)
        at++;
    size_t left = r->n - at;
    *n = limit < left ? limit : left;
    *more = *n < left;
    struct entry **page = calloc(*n ? *n : 1, sizeof(struct entry *));
    for (size_t i = 0; page && i < *n; i++)
        page[i] = entry_ref(r->sorted[at + i]);
    pthread_mutex_unlock(&ra->lock);
    return page;
}

int ra_entry_each(struct ra *ra, const char *after, size_t limit, bool (*each)(void *arg, const struct ra_entry *x),
                  void *arg, bool *more, struct err *e)
{
    size_t n;
    struct entry **page = page_take(ra, after, limit, &n, more);
    if (!page)
        return no_memory(e);
    bool enough = false;
    for (size_t i = 0; i < n; i++) {
        if (!enough)
            enough = !each(arg, &page[i]->x);
        else
            *more = true;
        entry_unref(page[i]);
    }
    free(page);
    return 0;
}
