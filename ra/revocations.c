/* Revocations in memory: a list in order of id, and two maps: by what is named, and by the key that
 * no certificate is given for. Of alike ones the maps hold the one that ends last. */
#include "ra/internal.h"
#include <stdlib.h>
#include <string.h>

/* --- the object -------------------------------------------------------------------------------------------- */

static bool is_client(const char *actor)
{
    return strncmp(actor, "acme:", 5) == 0;
}

static int key_read(struct revocation *r, const struct ra_revoke *want, struct err *e)
{
    bool by_key = want->by == TLOG_BY_KEY;
    if (by_key && hex_decode(r->key, sizeof r->key, want->value, strlen(want->value)) != sizeof r->key)
        return err_set(e, ERR_MALFORMED, "revocation-value",
                       "a key is named by the SHA-256 of its SubjectPublicKeyInfo, in 64 hex digits");
    if (want->key)
        memcpy(r->key, want->key, sizeof r->key);
    if (want->session)
        memcpy(r->session, want->session, sizeof r->session);
    r->has_key = by_key || want->key;
    r->has_session = want->session != NULL;
    return 0;
}

struct revocation *revocation_new(const struct ra_revoke *want, struct err *e)
{
    size_t n = strlen(want->value) + 1;
    struct revocation *r = calloc(1, sizeof *r + 1 + n);
    if (!r) {
        no_memory(e);
        return NULL;
    }
    r->reason = want->reason;
    snprintf(r->actor, sizeof r->actor, "%s", want->actor ? want->actor : "local");
    snprintf(r->comment, sizeof r->comment, "%s", want->comment ? want->comment : "");
    r->client = is_client(r->actor);
    r->name[0] = (char)want->by;
    memcpy(r->name + 1, want->value, n);
    if (key_read(r, want, e) == 0)
        return r;
    free(r);
    return NULL;
}

bool revocation_is_over(const struct revocation *r, int64_t now)
{
    return revocation_by(r) != TLOG_BY_KEY && r->time + RA_REVOCATION_KEPT <= now;
}

/* --- all of them --------------------------------------------------------------------------------------------- */

int revocations_init(struct revocations *all)
{
    memset(all, 0, sizeof *all);
    return map_init(&all->by_name) < 0 || map_init(&all->by_key) < 0 ? -1 : 0;
}

void revocations_free(struct revocations *all)
{
    for (size_t i = 0; i < all->n; i++)
        free(all->list[i]);
    free(all->list);
    map_free(&all->by_name);
    map_free(&all->by_key);
    memset(all, 0, sizeof *all);
}

static struct revocation *find_name(const struct revocations *all, const char *name, size_t len)
{
    struct map_node *n = map_find(&all->by_name, name, len);
    return n ? MAP_OBJECT(n, struct revocation, node) : NULL;
}

static struct revocation *find_key(const struct revocations *all, const uint8_t key[32])
{
    struct map_node *n = map_find(&all->by_key, key, 32);
    return n ? MAP_OBJECT(n, struct revocation, by_key) : NULL;
}

/* In order of id, so what comes later stands longer; but for a key, which stands for ever. */
static void link_maps(struct revocations *all, struct revocation *r)
{
    size_t len = strlen(r->name);
    struct revocation *old = find_name(all, r->name, len);
    if (old)
        map_remove(&all->by_name, &old->node);
    map_add(&all->by_name, &r->node, r->name, len);
    old = r->has_key ? find_key(all, r->key) : r;
    if (old && (!r->has_key || revocation_by(old) == TLOG_BY_KEY))
        return;
    if (old)
        map_remove(&all->by_key, &old->by_key);
    map_add(&all->by_key, &r->by_key, r->key, sizeof r->key);
}

int revocations_add(struct revocations *all, struct revocation *r)
{
    if (all->n == all->cap) {
        size_t cap = all->cap ? all->cap * 2 : 64;
        struct revocation **list = realloc(all->list, cap * sizeof(struct revocation *));
        if (!list)
            return -1;
        all->list = list;
        all->cap = cap;
    }
    all->list[all->n++] = r;
    all->clients += r->client;
    link_maps(all, r);
    return 0;
}

void revocations_remove(struct revocations *all, struct revocation *r)
{
    size_t len = strlen(r->name), at = 0;
    bool by_name = find_name(all, r->name, len) == r, by_key = r->has_key && find_key(all, r->key) == r;
    while (at < all->n && all->list[at] != r)
        at++;
    if (at == all->n)
        return;
    memmove(all->list + at, all->list + at + 1, (all->n - at - 1) * sizeof(struct revocation *));
    all->n--;
    all->clients -= r->client;
    if (by_name)
        map_remove(&all->by_name, &r->node);
    if (by_key)
        map_remove(&all->by_key, &r->by_key);
    /* One that could not be stored may have stood before an older one, which still stands. */
    for (size_t i = 0; (by_name || by_key) && i < all->n; i++) {
        struct revocation *x = all->list[i];
        if ((by_name && strcmp(x->name, r->name) == 0) ||
            (by_key && x->has_key && memcmp(x->key, r->key, sizeof r->key) == 0))
            link_maps(all, x);
    }
    free(r);
}

struct revocation *revocations_find(const struct revocations *all, enum tlog_revoked_by by, const char *value)
{
    char name[1 + SPIFFE_ID_MAX + 1];
    size_t n = strlen(value);
    if (all->n == 0 || n > SPIFFE_ID_MAX)
        return NULL;
    name[0] = (char)by;
    memcpy(name + 1, value, n);
    return find_name(all, name, n + 1);
}

struct revocation *revocations_from(const struct revocations *all, int64_t id)
{
    size_t lo = 0, hi = all->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (all->list[mid]->id < id)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < all->n ? all->list[lo] : NULL;
}

struct revocation *revocations_by_id(const struct revocations *all, int64_t id)
{
    struct revocation *r = revocations_from(all, id);
    return r && r->id == id ? r : NULL;
}

int revocations_key(const struct revocations *all, const uint8_t key[32], struct err *e)
{
    bool found = all->n > 0 && map_find(&all->by_key, key, 32);
    return found ? err_set(e, ERR_BAD_CSR, "csr-key-revoked",
                           "the key of the certificate request was revoked; make another")
                 : 0;
}

/* --- what they stand for ----------------------------------------------------------------------------------------- */

bool revocation_names_id(const struct ra *ra, const struct revocation *r, const char *spiffe_id)
{
    const char *value = revocation_value(r);
    size_t n = strlen(value);
    const struct entry *x;
    switch (revocation_by(r)) {
    case TLOG_BY_ID:
        return strcmp(spiffe_id, value) == 0;
    case TLOG_BY_PREFIX:
        return strncmp(spiffe_id, value, n) == 0 && (!spiffe_id[n] || spiffe_id[n] == '/');
    case TLOG_BY_AGENT:
        if (strcmp(spiffe_id, value) == 0)
            return true;
        x = registry_by_spiffe_id(&ra->entries, spiffe_id);
        return x && strcmp(x->x.parent, value) == 0;
    default:
        return false;
    }
}

/* What attest/ makes of an agent's SVID. */
static bool shows_agent(const struct strings *selectors, const char *agent)
{
    static const char prefix[] = "x509pop:spiffe_id:";
    for (size_t i = 0; i < selectors->n; i++)
        if (strncmp(selectors->v[i], prefix, sizeof prefix - 1) == 0 &&
            strcmp(selectors->v[i] + sizeof prefix - 1, agent) == 0)
            return true;
    return false;
}

bool revocation_ends_authz(const struct ra *ra, const struct revocation *r, const struct authz *a)
{
    if (a->status != RA_VALID)
        return false;
    if (revocation_by(r) == TLOG_BY_ENTRY)
        return strcmp(a->entry, revocation_value(r)) == 0;
    return revocation_names_id(ra, r, a->spiffe_id) ||
           (revocation_by(r) == TLOG_BY_AGENT &&
            ((a->voucher && strcmp(a->requester, revocation_value(r)) == 0) || shows_agent(&a->selectors, revocation_value(r))));
}

/* An agent's session is not its workloads': that the agent's word for one of them ends says nothing of the others, nor
 * of who holds the session's key. Anybody's who speaks for itself is; and an agent that is revoked ends with all. */
bool revocation_spares_session(const struct ra *ra, const struct revocation *r, const struct authz *a)
{
    return revocation_by(r) != TLOG_BY_AGENT && a->voucher && authz_own(ra, a->session, a->requester);
}

bool revocation_ends_token(const struct ra *ra, const struct revocation *r, const struct token *t)
{
    if (t->spent || !t->spiffe_id)
        return false;
    return revocation_by(r) == TLOG_BY_ENTRY ? strcmp(t->entry, revocation_value(r)) == 0
                                             : revocation_names_id(ra, r, t->spiffe_id);
}
