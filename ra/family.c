/* Entries by their parent, so that an agent's question after its own costs what it has, and an answer that nothing
 * changed costs a look into a map. Each family has a version: the number of the registry's last change that
 * touched it, behind a random one of this run, since numbers begin anew with each. Beside it stands the last
 * revocation of something that the parent, an agent, may have for one of the family: the agent asks for advice then
 * (RFC 9773), which it does too slowly otherwise to find one of hundreds soon. */
#include "base/clock.h"
#include "ra/internal.h"
#include <stdlib.h>
#include <string.h>

struct family { /* the entries of one parent, in order of SPIFFE ID; at least one */
    struct map_node node;  /* by parent */
    struct entry **sorted; /* owned; the references are the registry's */
    size_t n, cap;
    uint64_t version;
    int64_t revoked;
    char parent[];
};

static struct family *family_find(const struct registry *r, const char *parent)
{
    struct map_node *n = map_find(&r->families, parent, strlen(parent));
    return n ? MAP_OBJECT(n, struct family, node) : NULL;
}

static void family_free(struct family *f)
{
    free(f->sorted);
    free(f);
}

static void drop_family(void *arg, struct map_node *n)
{
    (void)arg;
    family_free(MAP_OBJECT(n, struct family, node));
}

int families_init(struct registry *r)
{
    struct err ignored;
    return map_init(&r->families) < 0 || random_fill(&r->run, sizeof r->run, &ignored) < 0 ? -1 : 0;
}

void families_free(struct registry *r)
{
    map_drain(&r->families, drop_family, NULL);
    map_free(&r->families);
}

/* --- changing: under the lock ------------------------------------------------------------------------------- */

static bool is_at(const struct family *f, size_t at, const char *spiffe_id)
{
    return at < f->n && strcmp(f->sorted[at]->x.spiffe_id, spiffe_id) == 0;
}

static int make_room(struct family *f)
{
    if (f->n < f->cap)
        return 0;
    size_t cap = f->cap ? f->cap * 2 : 4;
    struct entry **sorted = realloc(f->sorted, cap * sizeof(struct entry *));
    if (!sorted)
        return -1;
    f->sorted = sorted;
    f->cap = cap;
    return 0;
}

static struct family *family_new(struct registry *r, const char *parent)
{
    size_t n = strlen(parent) + 1;
    struct family *f = calloc(1, sizeof *f + n);
    if (!f || make_room(f) < 0) {
        free(f);
        return NULL;
    }
    memcpy(f->parent, parent, n);
    map_add(&r->families, &f->node, f->parent, n - 1);
    return f;
}

int family_put(struct registry *r, struct entry *x)
{
    struct family *f = family_find(r, x->x.parent);
    if (!f && !(f = family_new(r, x->x.parent)))
        return -1;
    size_t at = entries_place(f->sorted, f->n, x->x.spiffe_id);
    if (!is_at(f, at, x->x.spiffe_id)) {
        if (make_room(f) < 0)
            return -1; /* not a new one: that has room */
        memmove(f->sorted + at + 1, f->sorted + at, (f->n - at) * sizeof(struct entry *));
        f->n++;
    }
    f->sorted[at] = x;
    f->version = ++r->changes;
    return 0;
}

void family_remove(struct registry *r, const struct entry *x)
{
    struct family *f = family_find(r, x->x.parent);
    size_t at = f ? entries_place(f->sorted, f->n, x->x.spiffe_id) : 0;
    if (!f || at == f->n || f->sorted[at] != x)
        return;
    memmove(f->sorted + at, f->sorted + at + 1, (f->n - at - 1) * sizeof(struct entry *));
    f->n--;
    f->version = ++r->changes;
    if (f->n > 0)
        return;
    map_remove(&r->families, &f->node);
    family_free(f);
}

void family_revoked(struct registry *r, const char *parent, int64_t revocation)
{
    struct family *f = family_find(r, parent);
    if (f && f->revoked < revocation)
        f->revoked = revocation;
}

/* --- an agent asks ---------------------------------------------------------------------------------------------- */

struct page {
    struct entry *list[RA_AGENT_PAGE]; /* references */
    size_t n;
};

/* Under the lock. */
static void page_take(const struct registry *r, struct ra_agent_entries *q, struct page *p)
{
    const struct family *f = family_find(r, q->agent);
    bool first = !q->after || !*q->after;
    snprintf(q->version, sizeof q->version, "%016llx.%llx", (unsigned long long)r->run,
             (unsigned long long)(f ? f->version : 0));
    q->revoked = f ? f->revoked : 0;
    q->unchanged = first && q->have && strcmp(q->have, q->version) == 0;
    if (!f || q->unchanged)
        return;
    size_t at = first ? 0 : entries_place(f->sorted, f->n, q->after);
    if (!first && is_at(f, at, q->after))
        at++;
    for (; at < f->n && p->n < RA_AGENT_PAGE; at++)
        p->list[p->n++] = entry_ref(f->sorted[at]);
    q->more = at < f->n;
}

int ra_agent_entries(struct ra *ra, struct ra_session *s, struct ra_agent_entries *q,
                     bool (*each)(void *arg, const struct ra_entry *x, unsigned ttl), void *arg, struct err *e)
{
    struct page *p = calloc(1, sizeof *p);
    if (!p)
        return no_memory(e);
    q->unchanged = q->more = false;
    pthread_mutex_lock(&ra->lock);
    bool may = authz_live(ra, s, q->agent, clock_wall()) != NULL;
    if (may)
        page_take(&ra->entries, q, p);
    pthread_mutex_unlock(&ra->lock);
    bool full = false;
    for (size_t i = 0; i < p->n; i++) {
        full = full || !each(arg, &p->list[i]->x, issue_lifetime(ra->config, p->list[i]->x.ttl));
        entry_unref(p->list[i]);
    }
    q->more = q->more || full;
    free(p);
    return may ? 0
               : err_set(e, ERR_UNAUTHORIZED, "agent-session",
                         "this session is not authorized for the agent %.300s (any more); attest again, by an order for it",
                         q->agent);
}
