/* Hash map over nodes that stand inside the objects: no allocation per element. Keys are bytes that
 * the object owns; the seed is random, so that nobody outside can choose colliding keys. Not thread
 * safe: the registration authority's lock guards every map.
 */
#ifndef RA_MAP_H
#define RA_MAP_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct map_node {
    struct map_node *next;
    uint64_t hash;
    const void *key; /* not owned */
    size_t len;
};
struct map {
    struct map_node **slots; /* owned */
    size_t size;             /* power of two */
    size_t count;
    uint64_t seed;
};
int map_init(struct map *m); /* -1: out of memory */
void map_free(struct map *m); /* not the elements */
struct map_node *map_find(const struct map *m, const void *key, size_t len);
/* Never fails: a map that can not grow gets slower. The key must not be there already. */
void map_add(struct map *m, struct map_node *n, const void *key, size_t len);
void map_remove(struct map *m, struct map_node *n); /* harmless when it is not in there */
/* Visits at most `slots` slots from `at` on, and answers where to go on; 0: came to the end. each
 * answers false to stop before this element's slot is done: it will be visited again. each may not
 * change the map. */
size_t map_walk(const struct map *m, size_t at, size_t slots, bool (*each)(void *arg, struct map_node *n),
                void *arg);
/* Empties the map, handing each element to each. */
void map_drain(struct map *m, void (*each)(void *arg, struct map_node *n), void *arg);

#define MAP_OBJECT(node, type, member) ((type *)(void *)((char *)(node) - offsetof(type, member)))

#endif
