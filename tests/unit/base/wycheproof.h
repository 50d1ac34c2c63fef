/* Third-party vectors, read in place: $MAYFLY_VECTORS, else ../shared/vectors. Only for tests. */
#ifndef TESTS_WYCHEPROOF_H
#define TESTS_WYCHEPROOF_H
#include <jansson.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* NULL, with a printed word, when the vectors are not there. */
static inline json_t *wycheproof_load(const char *name)
{
    char path[4096];
    const char *root = getenv("MAYFLY_VECTORS");
    snprintf(path, sizeof path, "%s/wycheproof/%s", root && *root ? root : "../shared/vectors", name);
    json_t *v = json_load_file(path, 0, NULL);
    if (!v)
        printf("no vectors at %s: skipped\n", path);
    return v;
}

static inline const char *text_of(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

/* Hex member as bytes; the caller frees. */
static inline uint8_t *hex_of(const json_t *o, const char *key, size_t *len)
{
    const char *s = text_of(o, key);
    *len = strlen(s) / 2;
    uint8_t *p = malloc(*len + 1);
    for (size_t i = 0; i < *len; i++) {
        unsigned v = 0;
        sscanf(s + 2 * i, "%2x", &v);
        p[i] = (uint8_t)v;
    }
    return p;
}
#endif
