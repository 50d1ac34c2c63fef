/* Both directions of the admin documents. Parsing is strict: what is not known is refused, because
 * an operator who mistypes a member must hear of it. */
#ifndef API_ADMIN_JSON_H
#define API_ADMIN_JSON_H
#include "ra/ra.h"

struct admin_entry {         /* zeroed by the caller before, freed after */
    json_t *doc;             /* owned; strings below view it */
    struct ra_entry entry;   /* its arrays are owned here */
};
int admin_entry_parse(struct admin_entry *a, const void *json, size_t len, struct err *e);
void admin_entry_free(struct admin_entry *a);
void admin_entry_write(struct buf *out, const struct ra_entry *x);

struct admin_token {
    json_t *doc; /* owned */
    const char *selectors[ATTEST_SELECTORS_MAX];
    struct ra_token_request request; /* views doc and selectors */
};
int admin_token_parse(struct admin_token *a, const void *json, size_t len, struct err *e);
void admin_token_free(struct admin_token *a);

struct admin_revocation {
    json_t *doc;           /* owned */
    char *value;           /* owned */
    struct ra_revoke want; /* views both */
};
/* {"by": …, "value": …, "reason": a name of RFC 5280 §5.3.1 or its number, "comment": …}. Serial and key
 * as people copy them (colons, capitals, leading zeros) become those of tlog/record.h. */
int admin_revocation_parse(struct admin_revocation *a, const void *json, size_t len, struct err *e);
void admin_revocation_free(struct admin_revocation *a);
void admin_revocation_write(struct buf *out, const struct ra_revocation *x, bool ended);

#endif
