/* The identities that a session has shown evidence for: a sorted list, searched by halves. */
#include "agent/internal.h"
#include <stdlib.h>
#include <string.h>

size_t names_place(const void *list, size_t n, names_at_cb *at, const char *name, bool *found)
{
    size_t low = 0, high = n;
    *found = false;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        int order = strcmp(at(list, mid), name);
        if (order == 0) {
            *found = true;
            return mid;
        }
        if (order < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static const char *id_at(const void *list, size_t i)
{
    return ((char *const *)list)[i];
}

static size_t place(const struct id_set *s, const char *id, bool *found)
{
    return names_place(s->list, s->n, id_at, id, found);
}

bool id_set_has(const struct id_set *s, const char *id)
{
    bool found;
    place(s, id, &found);
    return found;
}

void id_set_add(struct id_set *s, const char *id)
{
    bool found;
    size_t at = place(s, id, &found);
    if (found)
        return;
    if (s->n == s->cap) {
        size_t cap = s->cap ? 2 * s->cap : 16;
        char **list = realloc(s->list, cap * sizeof *list);
        if (!list)
            return;
        s->list = list;
        s->cap = cap;
    }
    char *copy = strdup(id);
    if (!copy)
        return; /* only costs a renewal its evidence once more */
    memmove(s->list + at + 1, s->list + at, (s->n - at) * sizeof *s->list);
    s->list[at] = copy;
    s->n++;
}

void id_set_remove(struct id_set *s, const char *id)
{
    bool found;
    size_t at = place(s, id, &found);
    if (!found)
        return;
    free(s->list[at]);
    memmove(s->list + at, s->list + at + 1, (s->n - at - 1) * sizeof *s->list);
    s->n--;
}

void id_set_clear(struct id_set *s)
{
    for (size_t i = 0; i < s->n; i++)
        free(s->list[i]);
    free(s->list);
    *s = (struct id_set){0};
}
