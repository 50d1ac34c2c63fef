#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "ra/map.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct thing {
    struct map_node node;
    char key[24];
    unsigned seen;
};
#define N 5000
static struct thing things[N];

static bool see(void *arg, struct map_node *n)
{
    (void)arg;
    MAP_OBJECT(n, struct thing, node)->seen++;
    return true;
}

static bool see_some(void *arg, struct map_node *n)
{
    unsigned *left = arg;
    if (*left == 0)
        return false;
    --*left;
    return see(NULL, n);
}

static void gone(void *arg, struct map_node *n)
{
    ++*(unsigned *)arg;
    MAP_OBJECT(n, struct thing, node)->seen = 0;
}

static void test_map(void **state)
{
    struct map m;
    assert_int_equal(map_init(&m), 0);
    for (unsigned i = 0; i < N; i++) {
        snprintf(things[i].key, sizeof things[i].key, "key number %u", i);
        map_add(&m, &things[i].node, things[i].key, strlen(things[i].key));
    }
    assert_int_equal(m.count, N);
    for (unsigned i = 0; i < N; i++)
        assert_ptr_equal(map_find(&m, things[i].key, strlen(things[i].key)), &things[i].node);
    assert_null(map_find(&m, "key number", 10));
    assert_null(map_find(&m, "", 0));
    for (unsigned i = 0; i < N; i += 2) {
        map_remove(&m, &things[i].node);
        map_remove(&m, &things[i].node); /* harmless */
    }
    assert_int_equal(m.count, N / 2);
    for (unsigned i = 0; i < N; i++)
        assert_ptr_equal(map_find(&m, things[i].key, strlen(things[i].key)), i % 2 ? &things[i].node : NULL);
    /* A walk in steps sees each once. */
    size_t at = 0, steps = 0;
    do {
        at = map_walk(&m, at, 100, see, NULL);
        steps++;
    } while (at);
    assert_true(steps > 1);
    for (unsigned i = 0; i < N; i++)
        assert_int_equal(things[i].seen, i % 2);
    /* A walk that stops goes on at the same slot. */
    unsigned left = 10;
    at = map_walk(&m, 0, m.size, see_some, &left);
    assert_true(at > 0 && left == 0);
    unsigned dropped = 0;
    map_drain(&m, gone, &dropped);
    assert_int_equal(dropped, N / 2);
    assert_int_equal(m.count, 0);
    map_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_map)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
