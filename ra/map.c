#include "ra/map.h"
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define SIZE_MIN 256

/* Multiply and fold, eight bytes a time. */
static uint64_t mix(uint64_t a, uint64_t b)
{
    unsigned __int128 p = (unsigned __int128)a * b;
    return (uint64_t)p ^ (uint64_t)(p >> 64);
}

static uint64_t hash_of(const struct map *m, const void *key, size_t len)
{
    const uint8_t *p = key;
    uint64_t h = m->seed ^ len, w;
    for (; len >= 8; p += 8, len -= 8) {
        memcpy(&w, p, 8);
        h = mix(h ^ w, m->seed | 0x9e3779b97f4a7c15);
    }
    w = 0;
    memcpy(&w, p, len);
    return mix(h ^ w, 0xd6e8feb86659fd93 ^ m->seed);
}

int map_init(struct map *m)
{
    memset(m, 0, sizeof *m);
    if (getrandom(&m->seed, sizeof m->seed, 0) != sizeof m->seed)
        return -1;
    m->slots = calloc(SIZE_MIN, sizeof(struct map_node *));
    m->size = m->slots ? SIZE_MIN : 0;
    return m->slots ? 0 : -1;
}

void map_free(struct map *m)
{
    free(m->slots);
    memset(m, 0, sizeof *m);
}

struct map_node *map_find(const struct map *m, const void *key, size_t len)
{
    uint64_t h = hash_of(m, key, len);
    for (struct map_node *n = m->slots[h & (m->size - 1)]; n; n = n->next)
        if (n->hash == h && n->len == len && memcmp(n->key, key, len) == 0)
            return n;
    return NULL;
}

static void grow(struct map *m)
{
    size_t size = m->size * 2;
    struct map_node **slots = calloc(size, sizeof(struct map_node *));
    if (!slots)
        return;
    for (size_t i = 0; i < m->size; i++) {
        struct map_node *next;
        for (struct map_node *n = m->slots[i]; n; n = next) {
            next = n->next;
            n->next = slots[n->hash & (size - 1)];
            slots[n->hash & (size - 1)] = n;
        }
    }
    free(m->slots);
    m->slots = slots;
    m->size = size;
}

void map_add(struct map *m, struct map_node *n, const void *key, size_t len)
{
    if (m->count >= m->size)
        grow(m);
    n->key = key;
    n->len = len;
    n->hash = hash_of(m, key, len);
    struct map_node **slot = &m->slots[n->hash & (m->size - 1)];
    n->next = *slot;
    *slot = n;
    m->count++;
}

void map_remove(struct map *m, struct map_node *n)
{
    for (struct map_node **p = &m->slots[n->hash & (m->size - 1)]; *p; p = &(*p)->next)
        if (*p == n) {
            *p = n->next;
            m->count--;
            return;
        }
}

size_t map_walk(const struct map *m, size_t at, size_t slots, bool (*each)(void *arg, struct map_node *n),
                void *arg)
{
    for (; at < m->size && slots > 0; at++, slots--)
        for (struct map_node *n = m->slots[at]; n; n = n->next)
            if (!each(arg, n))
                return at;
    return at < m->size ? at : 0;
}

void map_drain(struct map *m, void (*each)(void *arg, struct map_node *n), void *arg)
{
    for (size_t i = 0; i < m->size; i++)
        while (m->slots[i]) {
            struct map_node *n = m->slots[i];
            m->slots[i] = n->next;
            m->count--;
            each(arg, n);
        }
}
