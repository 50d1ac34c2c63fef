/* Revocations in the store. They are rare, so their statements are made when they are needed. What a
 * revocation stands for is said here once more, as revocations.c says it of memory: rows that were
 * written earlier in the same transaction are not in memory yet. */
#include "ra/store_parts.h"
#include <string.h>

struct value { /* bound to ?1, ?2, … */
    const char *text;   /* or */
    const uint8_t *blob; /* 32 bytes, or */
    int64_t number;
    enum { V_NUMBER, V_TEXT, V_BLOB } kind;
};
#define TEXT(s) ((struct value){.kind = V_TEXT, .text = (s)})
#define BLOB(b) ((struct value){.kind = V_BLOB, .blob = (b)}) /* NULL: nothing */
#define NUMBER(n) ((struct value){.kind = V_NUMBER, .number = (n)})

static int run(struct store *s, const char *sql, const struct value *v, int n, struct err *e)
{
    sqlite3_stmt *q = NULL;
    int rc = sqlite3_prepare_v2(s->db, sql, -1, &q, NULL);
    for (int i = 0; rc == SQLITE_OK && i < n; i++) {
        switch (v[i].kind) {
        case V_TEXT: rc = sqlite3_bind_text(q, i + 1, v[i].text, -1, SQLITE_STATIC); break;
        case V_BLOB: rc = sqlite3_bind_blob(q, i + 1, v[i].blob, 32, SQLITE_STATIC); break;
        default: rc = sqlite3_bind_int64(q, i + 1, v[i].number);
        }
    }
    if (rc == SQLITE_OK)
        rc = sqlite3_step(q);
    int r = rc == SQLITE_DONE ? 0 : store_error(s, "write a revocation", e);
    sqlite3_finalize(q);
    return r;
}

int store_revocation_add(struct store *s, const struct revocation *r, struct err *e)
{
    const struct value v[] = {NUMBER(r->id), NUMBER(r->time), NUMBER(revocation_by(r)), TEXT(revocation_value(r)),
                              NUMBER(r->reason), TEXT(r->actor), TEXT(r->comment),
                              BLOB(r->has_session ? r->session : NULL),
                              BLOB(r->has_key && revocation_by(r) != TLOG_BY_KEY ? r->key : NULL)};
    return run(s, "INSERT INTO revocations (id, time, by, value, reason, actor, comment, session, key)"
                  " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)", v, 9, e);
}

int store_revocation_told(struct store *s, int64_t id, uint64_t index, struct err *e)
{
    const struct value v[] = {NUMBER(id), NUMBER((int64_t)index)};
    return run(s, "UPDATE revocations SET log_index = ?2 WHERE id = ?1", v, 2, e);
}

int store_revocation_delete(struct store *s, int64_t id, struct err *e)
{
    return run(s, "DELETE FROM revocations WHERE id = ?1", &NUMBER(id), 1, e);
}

/* --- what ends ---------------------------------------------------------------------------------------------------- */

/* Rows with a column spiffe_id that ?1 names; by entry, agent: see below. */
#define BY_ID "spiffe_id = ?1"
#define BY_PREFIX "(spiffe_id = ?1 OR substr(spiffe_id, 1, length(?1) + 1) = ?1 || '/')"
#define BY_ENTRY "entry = ?1"
#define BY_AGENT "(spiffe_id = ?1 OR spiffe_id IN (SELECT spiffe_id FROM entries WHERE parent = ?1))"
#define SHOWN_BY_AGENT " OR (agent_entry <> '' AND requester = ?1)" \
    " OR instr(char(10) || selectors, char(10) || 'x509pop:spiffe_id:' || ?1 || char(10)) > 0"

/* Those of which all ends that ends of their session: revocation_spares_session. */
#define SPARED "(agent_entry <> '' AND EXISTS (SELECT 1 FROM authorizations AS own" \
    " WHERE own.session = authorizations.session AND own.spiffe_id = authorizations.requester AND own.agent_entry = ''))"

#define REVOKE_SESSIONS "UPDATE sessions SET deactivated = 2 WHERE deactivated = 0 AND "
#define SESSIONS(which) REVOKE_SESSIONS "id IN (SELECT session FROM authorizations WHERE " which ")"
#define SOME(which) SESSIONS("(" which ") AND NOT " SPARED), "DELETE FROM authorizations WHERE " which
#define TOKENS(which) "UPDATE tokens SET spent = -1 WHERE spent = 0 AND spiffe_id IS NOT NULL AND " which
_Static_assert(STORE_SESSION_REVOKED == 2 && STORE_TOKEN_REVOKED == -1, "as the statements say");

static const struct {
    const char *sessions, *authorizations /* of the others; NULL: there are none */, *tokens;
} ends[] = {
    [TLOG_BY_ID] = {SOME(BY_ID), TOKENS(BY_ID)},
    [TLOG_BY_PREFIX] = {SOME(BY_PREFIX), TOKENS(BY_PREFIX)},
    [TLOG_BY_ENTRY] = {SOME(BY_ENTRY), TOKENS(BY_ENTRY)},
    [TLOG_BY_AGENT] = {SESSIONS(BY_AGENT SHOWN_BY_AGENT), NULL, TOKENS(BY_AGENT)},
};

/* ?1: the thumbprint, ?2: the agent that obtained the certificate, ?3: its SPIFFE ID. */
#define OWN(id) "EXISTS (SELECT 1 FROM authorizations WHERE session = sessions.id" \
    " AND spiffe_id = " id " AND agent_entry = '')"
#define BY_SESSION REVOKE_SESSIONS "thumbprint = ?1 AND NOT (" OWN("?2") " AND NOT " OWN("?3") ")"
#define OF_SESSION "DELETE FROM authorizations WHERE ?2 <> '' AND spiffe_id = ?3" \
    " AND session IN (SELECT id FROM sessions WHERE thumbprint = ?1)"

static int end_named(struct store *s, const struct revocation *r, struct err *e)
{
    const struct value value = TEXT(revocation_value(r));
    const enum tlog_revoked_by by = revocation_by(r);
    return run(s, ends[by].sessions, &value, 1, e) < 0 ||
                   (ends[by].authorizations && run(s, ends[by].authorizations, &value, 1, e) < 0)
               ? -1
               : run(s, ends[by].tokens, &value, 1, e);
}

static int end_session(struct store *s, const struct revocation *r, const struct obtained *of, struct err *e)
{
    char thumbprint[B64URL_LEN(32) + 1];
    b64url_encode(thumbprint, r->session, sizeof r->session);
    const struct value v[] = {TEXT(thumbprint), TEXT(of->agent), TEXT(of->spiffe_id)};
    return run(s, BY_SESSION, v, 3, e) < 0 ? -1 : run(s, OF_SESSION, v, 3, e);
}

int store_revocation_apply(struct store *s, const struct revocation *r, const struct obtained *of, struct err *e)
{
    enum tlog_revoked_by by = revocation_by(r);
    if (by == TLOG_BY_KEY || (by == TLOG_BY_SERIAL && !r->has_session))
        return 0;
    if ((by == TLOG_BY_SERIAL ? end_session(s, r, of, e) : end_named(s, r, e)) < 0)
        return -1;
    return run(s, "DELETE FROM authorizations WHERE session IN (SELECT id FROM sessions WHERE deactivated = 2)", NULL, 0, e);
}
