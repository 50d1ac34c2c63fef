/* What this agent may hand out: one identity for each entry whose parent it is. Kept in the order of SPIFFE IDs, and
 * given out in that of the entries' age. */
#include "agent/daemon.h"
#include "base/clock.h"
#include <stdlib.h>
#include <string.h>

int strings_copy(char ***dst, size_t *n, char *const *src, size_t count)
{
    *n = 0;
    *dst = calloc(count + 1, sizeof **dst);
    if (!*dst)
        return -1;
    for (; *n < count; (*n)++)
        if (!((*dst)[*n] = strdup(src[*n])))
            return -1;
    return 0;
}

static bool same_strings(char *const *a, size_t an, char *const *b, size_t bn)
{
    bool same = an == bn;
    for (size_t i = 0; same && i < an; i++)
        same = strcmp(a[i], b[i]) == 0;
    return same;
}

/* --- finding ------------------------------------------------------------------------------------------------------------ */

static const char *spiffe_id_at(const void *list, size_t i)
{
    return ((struct identity *const *)list)[i]->spiffe_id;
}

static size_t place(const struct identities *s, const char *spiffe_id, bool *found)
{
    return names_place(s->list, s->n, spiffe_id_at, spiffe_id, found);
}

struct identity *identity_of(const struct identities *s, const char *spiffe_id)
{
    bool found;
    size_t at = place(s, spiffe_id, &found);
    return found ? s->list[at] : NULL;
}

struct identity *identity_find(const struct identities *s, const char *entry_id)
{
    for (size_t i = 0; i < s->n; i++)
        if (strcmp(s->list[i]->entry_id, entry_id) == 0)
            return s->list[i];
    return NULL;
}

static int by_age(const void *a, const void *b)
{
    const struct identity *x = *(struct identity *const *)a, *y = *(struct identity *const *)b;
    return x->number < y->number ? -1 : x->number > y->number ? 1 : strcmp(x->spiffe_id, y->spiffe_id);
}

void identities_order(struct identity **list, size_t n)
{
    if (n > 1)
        qsort(list, n, sizeof(struct identity *), by_age);
}

/* --- making, changing ----------------------------------------------------------------------------------------------------- */

static int no_memory(struct err *e)
{
    return err_set(e, ERR_INTERNAL, "memory", "out of memory for an identity");
}

static struct identity *identity_new(const struct entry *x)
{
    struct identity *i = calloc(1, sizeof *i);
    if (!i)
        return NULL;
    i->entry_id = strdup(x->id);
    i->spiffe_id = strdup(x->spiffe_id);
    i->hint = strdup(x->hint);
    i->revision = x->revision;
    i->number = x->number;
    i->renew_wall_ms = i->ari_mono_ms = INT64_MAX;
    if (!i->entry_id || !i->spiffe_id || !i->hint ||
        strings_copy(&i->selectors, &i->selectors_count, x->selectors, x->selectors_count) < 0 ||
        strings_copy(&i->dns, &i->dns_count, x->dns, x->dns_count) < 0) {
        identity_free(i);
        return NULL;
    }
    return i;
}

struct identity *identity_add(struct identities *s, const struct entry *x, struct err *e)
{
    bool found;
    size_t at = place(s, x->spiffe_id, &found);
    if (s->n == s->cap) {
        size_t cap = s->cap ? 2 * s->cap : 16;
        struct identity **list = realloc(s->list, cap * sizeof *list);
        if (!list) {
            no_memory(e);
            return NULL;
        }
        s->list = list;
        s->cap = cap;
    }
    struct identity *i = identity_new(x);
    if (!i) {
        no_memory(e);
        return NULL;
    }
    memmove(s->list + at + 1, s->list + at, (s->n - at) * sizeof *s->list);
    s->list[at] = i;
    s->n++;
    return i;
}

/* changed: what the certificate or who may have it depends on. A lifetime holds from the next renewal. */
int identity_update(struct identity *i, const struct entry *x, bool *changed, struct err *e)
{
    bool dns = !same_strings(i->dns, i->dns_count, x->dns, x->dns_count);
    *changed = dns || strcmp(i->hint, x->hint) != 0 ||
               !same_strings(i->selectors, i->selectors_count, x->selectors, x->selectors_count);
    i->revision = x->revision;
    i->number = x->number; /* another one only when the authority begins to tell it */
    if (!*changed)
        return 0;
    struct identity *fresh = identity_new(x);
    if (!fresh)
        return no_memory(e);
    texts_free(i->selectors, i->selectors_count);
    texts_free(i->dns, i->dns_count);
    free(i->hint);
    i->selectors = fresh->selectors;
    i->selectors_count = fresh->selectors_count;
    i->dns = fresh->dns;
    i->dns_count = fresh->dns_count;
    i->hint = fresh->hint;
    fresh->selectors = fresh->dns = NULL;
    fresh->selectors_count = fresh->dns_count = 0;
    fresh->hint = NULL;
    identity_free(fresh);
    i->stale = i->stale || (dns && i->svid) || (i->svid && strcmp(i->svid->hint, i->hint) != 0);
    return 0;
}

bool identity_as_asked(const struct identity *i, const struct job *j)
{
    return strcmp(i->hint, j->hint) == 0 && same_strings(i->dns, i->dns_count, j->dns, j->dns_count);
}

int identity_evidence(struct identity *i, char *const *selectors, size_t n, struct err *e)
{
    char *list[EVIDENCE_SELECTORS_MAX];
    size_t count = 0;
    for (size_t k = 0; k < i->selectors_count && count < EVIDENCE_SELECTORS_MAX; k++)
        list[count++] = i->selectors[k];
    for (size_t k = 0; k < n && count < EVIDENCE_SELECTORS_MAX; k++) {
        bool there = false;
        for (size_t m = 0; m < i->selectors_count && !there; m++)
            there = strcmp(i->selectors[m], selectors[k]) == 0;
        if (!there)
            list[count++] = selectors[k];
    }
    if (same_strings(i->evidence, i->evidence_count, list, count))
        return 0;
    char **copy;
    size_t copied;
    if (strings_copy(&copy, &copied, list, count) < 0) {
        texts_free(copy, copied);
        return no_memory(e);
    }
    texts_free(i->evidence, i->evidence_count);
    i->evidence = copy;
    i->evidence_count = copied;
    return 0;
}

struct wl_svid *identity_svid(const struct identity *i, int64_t now)
{
    return i->svid && now < i->svid->not_after ? i->svid : NULL;
}

void identity_drop_svid(struct identity *i)
{
    wl_svid_unref(i->svid);
    i->svid = NULL;
    i->cert_id[0] = 0;
    i->renew_wall_ms = i->ari_mono_ms = INT64_MAX;
    i->stale = false;
}

/* --- ending ------------------------------------------------------------------------------------------------------------------ */

void identity_free(struct identity *i)
{
    if (!i)
        return;
    identity_drop_svid(i);
    jwt_cache_free(i);
    texts_free(i->selectors, i->selectors_count);
    texts_free(i->dns, i->dns_count);
    texts_free(i->evidence, i->evidence_count);
    free(i->entry_id);
    free(i->spiffe_id);
    free(i->hint);
    free(i);
}

void identities_drop_gone(struct identities *s)
{
    size_t kept = 0;
    for (size_t i = 0; i < s->n; i++) {
        if (s->list[i]->gone)
            identity_free(s->list[i]);
        else
            s->list[kept++] = s->list[i];
    }
    s->n = kept;
}

void identities_free(struct identities *s)
{
    for (size_t i = 0; i < s->n; i++)
        identity_free(s->list[i]);
    free(s->list);
    memset(s, 0, sizeof *s);
}
