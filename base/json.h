/* JSON in: a jansson tree, read by our own reader (json.c says why). Refuses (ERR_MALFORMED) input over
 * max bytes, nesting over JSON_DEPTH_MAX, duplicate keys, NUL in strings, trailing bytes.
 * JSON out: json_w writes straight into a buf, without building a tree; strings are escaped, and what is not
 * UTF-8 in them, or NUL, becomes U+FFFD: what is written can be read back.
 */
#ifndef BASE_JSON_H
#define BASE_JSON_H
#include "base/bytes.h"
#include "base/err.h"
#include <jansson.h>

#define JSON_DEPTH_MAX 16

/* The caller owns the result (json_decref). Rules: "json-size", "json-depth", "json-syntax". */
json_t *json_parse(const void *p, size_t len, size_t max, struct err *e);
/* Member as string; NULL with ERR_MALFORMED if missing or not a string. Borrowed from obj. */
const char *json_want_str(const json_t *obj, const char *key, struct err *e);
const char *json_maybe_str(const json_t *obj, const char *key); /* NULL if absent or not a string */

void jw_str(struct buf *b, const char *s);                     /* quoted and escaped */
void jw_strn(struct buf *b, const char *s, size_t n);
void jw_strings(struct buf *b, const char *name, char *const *v, size_t n); /* ,"name":[…] */

#endif
