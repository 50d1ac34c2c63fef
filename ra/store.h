/* The store: SQLite in one file, WAL, synchronous=FULL. Holds what must survive a restart: entries,
 * join tokens (hashed), sessions, valid authorizations, revocations. Of one thread at a time.
 *
 * Failures of the store itself are ERR_UNAVAILABLE, rules "store-disk" (full) and "store-io", or
 * ERR_CORRUPT, rule "store-corrupt"; after one of these the transaction is rolled back as a whole
 * (store_failed). Anything else refuses one op and leaves the others of its transaction alone.
 */
#ifndef RA_STORE_H
#define RA_STORE_H
#include "ra/internal.h"

#define STORE_VERSION 8 /* that of the last of store.c's steps */
#define STORE_TOKEN_REVOKED (-1)   /* in the place of when it was spent */
#define STORE_SESSION_REVOKED 2    /* deactivated is 0, 1 or this */

/* Creates what is missing. Refuses a damaged file (ERR_CORRUPT, "store-corrupt"), one of another
 * program (ERR_CONFIG, "store-foreign") and one of another version (ERR_CONFIG, "store-version"), but for
 * those from 2 on, which get what they lack. */
int store_open(struct store **out, const char *path, struct err *e);
void store_close(struct store *s);
int store_load(struct store *s, struct ra *ra, struct err *e); /* all of it, into memory */

int store_begin(struct store *s, struct err *e);
int store_commit(struct store *s, struct err *e);
void store_rollback(struct store *s);
bool store_failed(const struct store *s); /* since store_begin */
int store_mark(struct store *s, struct err *e);            /* savepoint of one op */
int store_release(struct store *s, bool keep, struct err *e);

int store_entry_add(struct store *s, const struct ra_entry *x, struct err *e);    /* ERR_EXISTS, "entry-exists" */
int store_entry_update(struct store *s, const struct ra_entry *x, struct err *e); /* from revision - 1: ERR_EXISTS, "revision" */
int store_entry_delete(struct store *s, const char *id, struct err *e);
int store_token_add(struct store *s, const struct token *t, struct err *e);
/* Unspent to spent, in one statement: of many, one gets 0. The others, and who comes when it has
 * expired and gone: "token-spent". */
int store_token_spend(struct store *s, const uint8_t hash[32], int64_t now, struct err *e);
int store_token_delete(struct store *s, const uint8_t hash[32], struct err *e);
int store_session_add(struct store *s, const struct ra_session *x, struct err *e); /* ERR_EXISTS, "session-exists" */
int store_session_deactivate(struct store *s, const char *id, struct err *e);      /* and its authorizations */
int store_session_delete(struct store *s, const char *id, struct err *e);
int store_authz_put(struct store *s, const struct authz *a, struct err *e);        /* replaces the pair's */
int store_authz_delete(struct store *s, const char *id, struct err *e);
/* The outbox (tell.h): d->id is set. */
int store_deed_add(struct store *s, struct deed *d, struct err *e);
int store_deed_delete(struct store *s, int64_t id, struct err *e);
/* The log has a change at index. */
int store_told(struct store *s, uint64_t index, struct err *e);
/* store_revoke.c. apply: ends in the store what the revocation stands for: sessions, authorizations, tokens. of: the
 * certificate of a serial, where an agent obtained it; else empty. */
int store_revocation_add(struct store *s, const struct revocation *r, struct err *e);
int store_revocation_apply(struct store *s, const struct revocation *r, const struct obtained *of, struct err *e);
int store_revocation_told(struct store *s, int64_t id, uint64_t index, struct err *e); /* harmless for what is none */
int store_revocation_delete(struct store *s, int64_t id, struct err *e);

void store_shrink(struct store *s);        /* gives free pages back, bounded */
uint64_t store_bytes(struct store *s);
void store_limit_pages(struct store *s, unsigned pages); /* for tests: a full disk; 0: no limit */

/* For store_load (load.c): rows of one table, columns by number. */
struct store_row;
int store_each(struct store *s, const char *sql, int (*each)(void *arg, const struct store_row *row, struct err *e),
               void *arg, struct err *e);
int64_t row_int(const struct store_row *r, int column);
const char *row_text(const struct store_row *r, int column); /* "" when NULL; valid during the call */
struct bytes row_blob(const struct store_row *r, int column);

#endif
