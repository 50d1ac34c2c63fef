/* What is written, statement by statement. Lists stand in one column, their elements ended by line
 * feeds (no selector and no DNS name has one). */
#include "ra/store_parts.h"
#include <string.h>

static const char *const text[SQL_COUNT] = {
    [SQL_ENTRY_ADD] = "INSERT INTO entries (id, spiffe_id, parent, selectors, dns, ttl, revision, created, updated,"
                      " auditor, hint, number) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
    [SQL_ENTRY_UPDATE] = "UPDATE entries SET parent = ?3, selectors = ?4, dns = ?5, ttl = ?6, revision = ?7,"
                         " updated = ?9, auditor = ?10, hint = ?11 WHERE id = ?1 AND spiffe_id = ?2 AND revision = ?7 - 1",
    [SQL_ENTRY_DELETE] = "DELETE FROM entries WHERE id = ?1",
    [SQL_TOKEN_ADD] = "INSERT INTO tokens (hash, spiffe_id, entry, selectors, created, expires, spent)"
                      " VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0)",
    [SQL_TOKEN_SPEND] = "UPDATE tokens SET spent = ?2 WHERE hash = ?1 AND spent = 0 AND expires > ?2",
    [SQL_TOKEN_DELETE] = "DELETE FROM tokens WHERE hash = ?1",
    [SQL_SESSION_ADD] = "INSERT INTO sessions (id, thumbprint, spki, created, deactivated) VALUES (?1, ?2, ?3, ?4, 0)",
    [SQL_SESSION_DEACTIVATE] = "UPDATE sessions SET deactivated = 1 WHERE id = ?1 AND deactivated = 0",
    [SQL_SESSION_AUTHZ_DELETE] = "DELETE FROM authorizations WHERE session = ?1",
    [SQL_SESSION_DELETE] = "DELETE FROM sessions WHERE id = ?1",
    [SQL_AUTHZ_PUT] = "INSERT OR REPLACE INTO authorizations (id, session, spiffe_id, entry, kind, proves, selectors,"
                      " salt, evidence, validated, expires, requester, agent_entry, agent_serial, agent_key)"
                      " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
    [SQL_AUTHZ_DELETE] = "DELETE FROM authorizations WHERE id = ?1",
    [SQL_DEED_ADD] = "INSERT INTO outbox (type, body) VALUES (?1, ?2)",
    [SQL_DEED_DELETE] = "DELETE FROM outbox WHERE id = ?1",
    [SQL_TOLD] = "UPDATE told SET log_index = max(log_index, ?1)",
};

int store_prepare(struct store *s, struct err *e)
{
    for (size_t i = 0; i < SQL_COUNT; i++)
        if (sqlite3_prepare_v3(s->db, text[i], -1, SQLITE_PREPARE_PERSISTENT, &s->sql[i], NULL) != SQLITE_OK)
            return store_error(s, "prepare", e);
    return 0;
}

/* --- binding: values live until the statement has run ----------------------------------------------------- */

static void put_int(sqlite3_stmt *q, int at, int64_t v)
{
    sqlite3_bind_int64(q, at, v);
}

static void put_text(sqlite3_stmt *q, int at, const char *v)
{
    if (v)
        sqlite3_bind_text(q, at, v, -1, SQLITE_STATIC);
    else
        sqlite3_bind_null(q, at);
}

static void put_blob(sqlite3_stmt *q, int at, const void *p, size_t n)
{
    sqlite3_bind_blob(q, at, p, (int)n, SQLITE_STATIC);
}

static int put_list(sqlite3_stmt *q, int at, char *const *v, size_t n)
{
    struct buf b;
    buf_init(&b, 65536);
    for (size_t i = 0; i < n; i++) {
        buf_str(&b, v[i]);
        buf_str(&b, "\n");
    }
    bool ok = !b.failed && sqlite3_bind_text(q, at, b.len ? (const char *)b.p : "", (int)b.len, SQLITE_TRANSIENT) == SQLITE_OK;
    buf_free(&b);
    return ok ? 0 : -1;
}

/* Rows changed, or -1. A constraint refuses the one op; all else is the store's failure. */
static int step(struct store *s, enum sql which, const char *what, struct err *e)
{
    sqlite3_stmt *q = s->sql[which];
    int rc = sqlite3_step(q), changes = -1;
    if (rc == SQLITE_DONE)
        changes = sqlite3_changes(s->db);
    else if ((sqlite3_extended_errcode(s->db) & 0xff) == SQLITE_CONSTRAINT)
        err_set(e, ERR_EXISTS, "store-constraint", "cannot %s: it conflicts with what is stored", what);
    else
        store_error(s, what, e);
    sqlite3_reset(q);
    sqlite3_clear_bindings(q);
    return changes;
}

static bool is_conflict(const struct err *e)
{
    return e->code == ERR_EXISTS && strcmp(e->rule, "store-constraint") == 0;
}

static int delete_by_id(struct store *s, enum sql which, const char *id, const char *what, struct err *e)
{
    put_text(s->sql[which], 1, id);
    return step(s, which, what, e) < 0 ? -1 : 0;
}

/* --- entries --------------------------------------------------------------------------------------------------- */

static int entry_bind(sqlite3_stmt *q, const struct ra_entry *x, struct err *e)
{
    put_text(q, 1, x->id);
    put_text(q, 2, x->spiffe_id);
    put_text(q, 3, x->parent);
    if (put_list(q, 4, x->selectors, x->selectors_count) < 0 || put_list(q, 5, x->dns, x->dns_count) < 0)
        return no_memory(e);
    put_int(q, 6, x->ttl);
    put_int(q, 7, (int64_t)x->revision);
    put_int(q, 8, x->created);
    put_int(q, 9, x->updated);
    put_int(q, 10, x->auditor);
    put_text(q, 11, x->hint ? x->hint : "");
    return 0;
}

int store_entry_add(struct store *s, const struct ra_entry *x, struct err *e)
{
    if (entry_bind(s->sql[SQL_ENTRY_ADD], x, e) < 0)
        return -1;
    put_int(s->sql[SQL_ENTRY_ADD], 12, (int64_t)x->number); /* an update keeps it */
    if (step(s, SQL_ENTRY_ADD, "write the entry", e) >= 0)
        return 0;
    if (is_conflict(e))
        err_set(e, ERR_EXISTS, "entry-exists",
                "an entry for %.300s is there already; change it with `mayfly entry update`", x->spiffe_id);
    return -1;
}

int store_entry_update(struct store *s, const struct ra_entry *x, struct err *e)
{
    sqlite3_stmt *q = s->sql[SQL_ENTRY_UPDATE];
    if (entry_bind(q, x, e) < 0)
        return -1;
    int changed = step(s, SQL_ENTRY_UPDATE, "write the entry", e);
    if (changed == 0)
        return err_set(e, ERR_EXISTS, "revision",
                       "the entry for %.300s was changed or deleted meanwhile; read it again", x->spiffe_id);
    return changed < 0 ? -1 : 0;
}

int store_entry_delete(struct store *s, const char *id, struct err *e)
{
    return delete_by_id(s, SQL_ENTRY_DELETE, id, "delete the entry", e);
}

/* --- tokens ----------------------------------------------------------------------------------------------------- */

int store_token_add(struct store *s, const struct token *t, struct err *e)
{
    sqlite3_stmt *q = s->sql[SQL_TOKEN_ADD];
    put_blob(q, 1, t->hash, sizeof t->hash);
    put_text(q, 2, t->spiffe_id);
    put_text(q, 3, t->entry);
    if (put_list(q, 4, t->selectors.v, t->selectors.n) < 0)
        return no_memory(e);
    put_int(q, 5, t->created);
    put_int(q, 6, t->expires);
    return step(s, SQL_TOKEN_ADD, "write the token", e) < 0 ? -1 : 0;
}

int store_token_spend(struct store *s, const uint8_t hash[32], int64_t now, struct err *e)
{
    sqlite3_stmt *q = s->sql[SQL_TOKEN_SPEND];
    put_blob(q, 1, hash, 32);
    put_int(q, 2, now);
    int changed = step(s, SQL_TOKEN_SPEND, "spend the token", e);
    if (changed == 0)
        return err_set(e, ERR_BAD_EVIDENCE, "token-spent",
                       "the join token was spent already, or has just expired; each proves its holder once. Make "
                       "another with `mayfly token create`; if you did not spend it, somebody else did");
    return changed < 0 ? -1 : 0;
}

int store_token_delete(struct store *s, const uint8_t hash[32], struct err *e)
{
    put_blob(s->sql[SQL_TOKEN_DELETE], 1, hash, 32);
    return step(s, SQL_TOKEN_DELETE, "delete a token", e) < 0 ? -1 : 0;
}

/* --- sessions and authorizations ---------------------------------------------------------------------------------- */

int store_session_add(struct store *s, const struct ra_session *x, struct err *e)
{
    sqlite3_stmt *q = s->sql[SQL_SESSION_ADD];
    struct bytes spki = key_spki(x->key);
    put_text(q, 1, x->id);
    put_text(q, 2, x->thumbprint);
    put_blob(q, 3, spki.p, spki.len);
    put_int(q, 4, x->created);
    if (step(s, SQL_SESSION_ADD, "write the account", e) >= 0)
        return 0;
    if (is_conflict(e))
        err_set(e, ERR_EXISTS, "session-exists", "an account with this key is there already");
    return -1;
}

int store_session_deactivate(struct store *s, const char *id, struct err *e)
{
    if (delete_by_id(s, SQL_SESSION_DEACTIVATE, id, "deactivate the account", e) < 0)
        return -1;
    return delete_by_id(s, SQL_SESSION_AUTHZ_DELETE, id, "deactivate the account", e);
}

int store_session_delete(struct store *s, const char *id, struct err *e)
{
    return delete_by_id(s, SQL_SESSION_DELETE, id, "delete an account", e);
}

int store_authz_put(struct store *s, const struct authz *a, struct err *e)
{
    sqlite3_stmt *q = s->sql[SQL_AUTHZ_PUT];
    put_text(q, 1, a->id);
    put_text(q, 2, a->session->id);
    put_text(q, 3, a->spiffe_id);
    put_text(q, 4, a->entry);
    put_int(q, 5, a->kind);
    put_int(q, 6, a->proves);
    if (put_list(q, 7, a->selectors.v, a->selectors.n) < 0)
        return no_memory(e);
    put_blob(q, 8, a->salt, sizeof a->salt);
    put_blob(q, 9, a->evidence, sizeof a->evidence);
    put_int(q, 10, a->validated);
    put_int(q, 11, a->expires);
    put_text(q, 12, a->requester ? a->requester : "");
    put_text(q, 13, a->voucher ? a->voucher->entry : "");
    put_text(q, 14, a->voucher ? a->voucher->serial : "");
    if (a->voucher)
        put_blob(q, 15, a->voucher->key, sizeof a->voucher->key);
    if (step(s, SQL_AUTHZ_PUT, "write the authorization", e) >= 0)
        return 0;
    if (is_conflict(e)) /* the only constraint that REPLACE leaves: the session is gone */
        err_set(e, ERR_NO_ACCOUNT, "session-gone", "the account was deleted meanwhile; make a new one");
    return -1;
}

int store_authz_delete(struct store *s, const char *id, struct err *e)
{
    return delete_by_id(s, SQL_AUTHZ_DELETE, id, "delete an authorization", e);
}

/* --- the outbox ----------------------------------------------------------------------------------------------------- */

int store_deed_add(struct store *s, struct deed *d, struct err *e)
{
    sqlite3_stmt *q = s->sql[SQL_DEED_ADD];
    put_int(q, 1, d->type);
    put_blob(q, 2, d->body.p, d->body.len);
    if (step(s, SQL_DEED_ADD, "note a change for the log", e) < 0)
        return -1;
    d->id = sqlite3_last_insert_rowid(s->db);
    return 0;
}

int store_deed_delete(struct store *s, int64_t id, struct err *e)
{
    put_int(s->sql[SQL_DEED_DELETE], 1, id);
    return step(s, SQL_DEED_DELETE, "forget a change that the log has", e) < 0 ? -1 : 0;
}

int store_told(struct store *s, uint64_t index, struct err *e)
{
    put_int(s->sql[SQL_TOLD], 1, (int64_t)index);
    return step(s, SQL_TOLD, "note what the log was told", e) < 0 ? -1 : 0;
}
