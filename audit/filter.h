/* Filters: what an auditor asks for, from a query string (percent-encoded, as in a URL) or from
 * options of a command line, name by name. Bounded; each name once; unknown names are refused with
 * the list of those there are. Rules "audit-query" (form), "audit-filter" (names, values),
 * "audit-cursor"; all ERR_MALFORMED.
 *
 *   spiffe_id  exactly this ID        prefix   this ID and every ID below it, by path segments
 *   serial     hex; of a certificate  key      hex SHA-256 of the SubjectPublicKeyInfo
 *   agent      who asked              attestor kind of evidence
 *   entry      registration entry id  outcome  issued, refused, revoked, changed, authority
 *   rule       that a refusal names   from, to RFC 3339 or Unix seconds, both included
 *   order      newest (default), oldest
 *   limit      1 to 1000, default 100 cursor   from an earlier answer to the same question
 *   format     json (default), jsonl, csv
 */
#ifndef AUDIT_FILTER_H
#define AUDIT_FILTER_H
#include "audit/entry.h"

#define AUDIT_QUERY_MAX 16384 /* bytes of a query string */
#define AUDIT_LIMIT_MAX 1000
#define AUDIT_LIMIT 100
#define AUDIT_CURSOR_LEN 22

enum audit_format { AUDIT_JSON, AUDIT_JSONL, AUDIT_CSV };
struct audit_filter { /* texts "" when not asked for */
    char spiffe_id[TLOG_NAME_MAX + 1], prefix[TLOG_NAME_MAX + 1], agent[TLOG_NAME_MAX + 1];
    char attestor[65], entry[65], rule[TLOG_RULE_MAX + 1];
    char serial[17];         /* lowercase, no leading zeros */
    uint64_t serial_index;   /* its low 48 bits */
    bool by_key;
    uint8_t key[32];
    enum audit_kind outcome; /* AUDIT_OTHER: any */
    int64_t from, to;        /* INT64_MIN, INT64_MAX when not asked for */
    bool oldest;
    unsigned limit;
    enum audit_format format;
    bool resumed;            /* a cursor was given: */
    uint64_t after;          /* the entry shown last */
    uint8_t question[8];     /* of the cursor */
    unsigned seen;           /* names given, a bit each */
};
void audit_filter_init(struct audit_filter *f);
int audit_filter_set(struct audit_filter *f, const char *name, const char *value, size_t len, struct err *e);
/* All that belongs together is there: a cursor fits its question. After the last set. */
int audit_filter_check(const struct audit_filter *f, struct err *e);
/* "name=value&…"; init, every set, check. A plus sign stands for itself (RFC 3986). */
int audit_query_parse(struct audit_filter *f, const char *query, size_t len, struct err *e);
bool audit_filter_matches(const struct audit_filter *f, const struct audit_entry *t);
/* The cursor that goes on after entry `after`. */
void audit_cursor_write(char dst[AUDIT_CURSOR_LEN + 1], const struct audit_filter *f, uint64_t after);
#endif
