/* The store into memory, at start. A row that breaks a rule of ours is damage that SQLite can not
 * see: it is refused rather than repaired. */
#include "base/jose.h"
#include "ra/store.h"
#include <stdlib.h>
#include <string.h>

static int damaged(struct err *e, const char *table, const char *what)
{
    return err_set(e, ERR_CORRUPT, "store-row",
                   "the registration store has a row in %s whose %s can not be right. Restore a backup; or move the "
                   "store away with its -wal and -shm, and register the entries again",
                   table, what);
}

/* A column of elements that each end in a line feed. */
static int list_read(struct strings *to, const char *column, size_t max)
{
    memset(to, 0, sizeof *to);
    to->v = calloc(max, sizeof *to->v);
    while (to->v && *column) {
        const char *end = strchr(column, '\n');
        if (!end || end == column || to->n == max)
            break;
        to->v[to->n] = strndup(column, (size_t)(end - column));
        if (!to->v[to->n])
            break;
        to->n++;
        column = end + 1;
    }
    if (to->v && !*column)
        return 0;
    strings_free(to);
    return -1;
}

static int copy_id(char dst[RA_ID_LEN + 1], const char *id)
{
    if (strlen(id) != RA_ID_LEN)
        return -1;
    memcpy(dst, id, RA_ID_LEN + 1);
    return 0;
}

/* Text of a row, copied: the next column's value may move the former. */
static char *copy_text(const struct store_row *row, int column)
{
    return strdup(row_text(row, column));
}

static int load_entry(void *arg, const struct store_row *row, struct err *e)
{
    struct ra *ra = arg;
    struct ra_entry x = {0};
    struct strings selectors = {0}, dns = {0};
    struct spiffe_id id;
    struct err why = {0};
    int rc = -1;
    x.spiffe_id = copy_text(row, 1);
    x.parent = copy_text(row, 2);
    x.hint = copy_text(row, 11);
    if (!x.spiffe_id || !x.parent || !x.hint) {
        no_memory(e);
        goto out;
    }
    if (copy_id(x.id, row_text(row, 0)) < 0 ||
        spiffe_parse_workload(&id, x.spiffe_id, strlen(x.spiffe_id), ra->config->trust_domain, &why) < 0 ||
        spiffe_parse_workload(&id, x.parent, strlen(x.parent), ra->config->trust_domain, &why) < 0) {
        damaged(e, "entries", "id, SPIFFE ID or parent (was the trust domain changed?)");
        goto out;
    }
    if (list_read(&selectors, row_text(row, 3), RA_SELECTORS_MAX) < 0 || list_read(&dns, row_text(row, 4), CA_DNS_MAX) < 0 ||
        row_int(row, 5) < 0 || row_int(row, 5) > UINT32_MAX || row_int(row, 6) < 1 || row_int(row, 10) < 1 ||
        hint_check(x.hint, &why) < 0) {
        damaged(e, "entries", "selectors, DNS names, ttl, revision, number or hint");
        goto out;
    }
    x.selectors = selectors.v;
    x.selectors_count = selectors.n;
    x.dns = dns.v;
    x.dns_count = dns.n;
    x.ttl = (unsigned)row_int(row, 5);
    x.revision = (uint64_t)row_int(row, 6);
    x.created = row_int(row, 7);
    x.updated = row_int(row, 8);
    x.auditor = row_int(row, 9) != 0;
    x.number = (uint64_t)row_int(row, 10);
    struct entry *entry = entry_new(&x, e);
    if (entry && (rc = registry_put(&ra->entries, entry)) < 0)
        no_memory(e);
out:
    free(x.spiffe_id);
    free(x.parent);
    free(x.hint);
    strings_free(&selectors);
    strings_free(&dns);
    return rc;
}

static int load_token(void *arg, const struct store_row *row, struct err *e)
{
    struct ra *ra = arg;
    struct bytes hash = row_blob(row, 0);
    struct token *t = calloc(1, sizeof *t);
    if (!t)
        return no_memory(e);
    if (hash.len != sizeof t->hash || list_read(&t->selectors, row_text(row, 3), RA_SELECTORS_MAX) < 0) {
        token_free(t);
        return damaged(e, "tokens", "hash or selectors");
    }
    memcpy(t->hash, hash.p, sizeof t->hash);
    /* A SPIFFE ID and the entry it was made for, or neither. */
    if (*row_text(row, 1) ? copy_id(t->entry, row_text(row, 2)) < 0 : *row_text(row, 2) != 0) {
        token_free(t);
        return damaged(e, "tokens", "entry");
    }
    if (*row_text(row, 1) && !(t->spiffe_id = copy_text(row, 1))) {
        token_free(t);
        return no_memory(e);
    }
    t->created = row_int(row, 4);
    t->expires = row_int(row, 5);
    t->spent = row_int(row, 6) != 0;
    t->revoked = row_int(row, 6) == STORE_TOKEN_REVOKED;
    map_add(&ra->tokens, &t->node, t->hash, sizeof t->hash);
    return 0;
}

static int load_session(void *arg, const struct store_row *row, struct err *e)
{
    struct ra *ra = arg;
    struct bytes spki = row_blob(row, 2);
    struct err why = {0};
    char thumbprint[44] = "";
    struct key *key = key_from_spki(spki.p, spki.len, &why);
    if (!key || jwk_thumbprint(thumbprint, key, &why) < 0 || strcmp(thumbprint, row_text(row, 1)) != 0) {
        key_free(key);
        return damaged(e, "sessions", "key");
    }
    struct ra_session *s = session_make(ra, key, thumbprint, e);
    if (!s) {
        key_free(key);
        return -1;
    }
    if (copy_id(s->id, row_text(row, 0)) < 0) {
        ra_session_release(s);
        return damaged(e, "sessions", "id");
    }
    /* When it was last used is not stored: it lives on as if it was used just now. */
    s->created = row_int(row, 3);
    atomic_store(&s->deactivated, row_int(row, 4) != 0);
    atomic_store(&s->revoked, row_int(row, 4) == STORE_SESSION_REVOKED);
    session_add(ra, s);
    return 0;
}

/* Of what an agent vouched for, and of nothing else. */
static int load_voucher(struct authz *a, const struct store_row *row, struct err *e)
{
    char entry[RA_ID_LEN + 1] = "";
    struct bytes key = row_blob(row, 14);
    bool vouched = a->kind == ATTEST_AGENT;
    if (vouched != (*row_text(row, 12) != 0) || (vouched && (!a->requester || copy_id(entry, row_text(row, 12)) < 0)) ||
        key.len != (vouched ? 32 : 0) || strlen(row_text(row, 13)) >= sizeof a->voucher->serial)
        return damaged(e, "authorizations", "agent");
    if (vouched && !(a->voucher = voucher_new(entry, row_text(row, 13), key.p)))
        return no_memory(e);
    return 0;
}

static int load_authz(void *arg, const struct store_row *row, struct err *e)
{
    struct ra *ra = arg;
    const char *session = row_text(row, 1);
    struct map_node *n = map_find(&ra->sessions, session, strlen(session));
    struct bytes salt = row_blob(row, 7);
    if (!n)
        return damaged(e, "authorizations", "session");
    struct authz *a = authz_new(MAP_OBJECT(n, struct ra_session, by_id), row_text(row, 2), e);
    if (!a)
        return -1;
    bool good = copy_id(a->id, row_text(row, 0)) == 0 && copy_id(a->entry, row_text(row, 3)) == 0 &&
                row_int(row, 4) >= ATTEST_JOIN_TOKEN && row_int(row, 4) <= ATTEST_AGENT &&
                salt.len == sizeof a->salt && list_read(&a->selectors, row_text(row, 6), RA_SELECTORS_MAX) == 0;
    if (good)
        memcpy(a->salt, salt.p, sizeof a->salt);
    struct bytes evidence = row_blob(row, 8);
    if (!good || evidence.len != sizeof a->evidence) {
        authz_free(a);
        return damaged(e, "authorizations", "id, entry, kind, selectors or digest");
    }
    memcpy(a->evidence, evidence.p, sizeof a->evidence);
    a->kind = (enum attest_kind)row_int(row, 4);
    a->proves = row_int(row, 5) != 0;
    a->validated = row_int(row, 9);
    a->expires = row_int(row, 10);
    if (*row_text(row, 11) && !(a->requester = copy_text(row, 11))) {
        authz_free(a);
        return no_memory(e);
    }
    if (load_voucher(a, row, e) < 0) {
        authz_free(a);
        return -1;
    }
    a->status = a->challenge = RA_VALID;
    a->session->attested = true;
    authz_add(ra, a);
    return 0;
}

static int load_revocation(void *arg, const struct store_row *row, struct err *e)
{
    struct ra *ra = arg;
    char value[SPIFFE_ID_MAX + 1], actor[TLOG_ACTOR_MAX + 1];
    struct bytes session = row_blob(row, 7), key = row_blob(row, 8);
    uint8_t session_copy[32], key_copy[32];
    int64_t by = row_int(row, 2);
    bool good = by >= TLOG_BY_SERIAL && by <= TLOG_BY_KEY && (session.len == 0 || session.len == 32) &&
                (key.len == 0 || key.len == 32) && strlen(row_text(row, 3)) < sizeof value &&
                strlen(row_text(row, 5)) < sizeof actor;
    if (!good)
        return damaged(e, "revocations", "value, actor, session or key");
    snprintf(value, sizeof value, "%s", row_text(row, 3));
    snprintf(actor, sizeof actor, "%s", row_text(row, 5));
    if (session.len)
        memcpy(session_copy, session.p, sizeof session_copy);
    if (key.len)
        memcpy(key_copy, key.p, sizeof key_copy);
    const struct ra_revoke x = {.by = (enum tlog_revoked_by)by, .value = value, .reason = (uint8_t)row_int(row, 4),
                                .actor = actor, .comment = row_text(row, 6), .session = session.len ? session_copy : NULL,
                                .key = key.len ? key_copy : NULL};
    struct revocation *r = revocation_new(&x, e);
    if (!r)
        return e->code == ERR_MALFORMED ? damaged(e, "revocations", "key") : -1;
    r->id = row_int(row, 0);
    r->time = row_int(row, 1);
    r->logged = row_int(row, 9) > 0;
    r->index = r->logged ? (uint64_t)row_int(row, 9) : 0;
    if (revocations_add(&ra->revocations, r) == 0)
        return 0;
    free(r);
    return no_memory(e);
}

static int load_deed(void *arg, const struct store_row *row, struct err *e)
{
    struct ra *ra = arg;
    struct tlog_record_info ignored;
    const struct deed d = {.id = row_int(row, 0), .type = (uint16_t)row_int(row, 1), .body = row_blob(row, 2)};
    if (row_int(row, 1) != d.type || tlog_record_parse(&ignored, d.type, d.body, e) < 0)
        return damaged(e, "outbox", "body");
    teller_deed(ra->teller, &d);
    return told_waiting(ra, &d, e);
}

static int load_told(void *arg, const struct store_row *row, struct err *e)
{
    struct ra *ra = arg;
    (void)e;
    ra->told.index = row_int(row, 0);
    return 0;
}

int store_load(struct store *s, struct ra *ra, struct err *e)
{
    static const struct {
        const char *sql;
        int (*each)(void *arg, const struct store_row *row, struct err *e);
    } tables[] = {
        /* in the order of memory's sorted array, so that each is appended */
        {"SELECT id, spiffe_id, parent, selectors, dns, ttl, revision, created, updated, auditor, number, hint FROM entries"
         " ORDER BY spiffe_id",
         load_entry},
        {"SELECT hash, spiffe_id, entry, selectors, created, expires, spent FROM tokens", load_token},
        {"SELECT id, thumbprint, spki, created, deactivated FROM sessions", load_session},
        {"SELECT id, session, spiffe_id, entry, kind, proves, selectors, salt, evidence, validated, expires,"
         " requester, agent_entry, agent_serial, agent_key FROM authorizations", load_authz},
        {"SELECT id, time, by, value, reason, actor, comment, session, key, log_index FROM revocations ORDER BY id",
         load_revocation},
        {"SELECT id, type, body FROM outbox ORDER BY id", load_deed},
        {"SELECT log_index FROM told", load_told},
    };
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
        if (store_each(s, tables[i].sql, tables[i].each, ra, e) < 0)
            return -1;
    return 0;
}
