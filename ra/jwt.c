/* JWT-SVIDs: from a request to a token, in numbered steps, as issue.c has them for certificates. There is no
 * order to be kept: a token that was not received is asked for again. What a revocation of the ID, a prefix, the
 * entry, the agent or the session ends is the authorization, and with it this; a key's or a serial's name
 * certificates. Here a token gets its lifetime (step 4); the signer only refuses what is over the maximum. */
#include "base/clock.h"
#include "ra/internal.h"
#include <stdlib.h>
#include <string.h>

#define JWT_LIFETIME 300 /* a bearer's token: short, unless another is asked for */

struct jwt_ask { /* one on its way */
    struct ra *ra;
    struct ra_session *s; /* a reference */
    ca_jwt_cb *cb;
    void *arg;
    unsigned ttl;
    enum attest_kind kind;
    char entry_id[RA_ID_LEN + 1]; /* of the entry that it is given for; "": not decided yet */
    uint64_t line;                /* of the authorization */
    uint8_t audiences[TLOG_AUDIENCES_BYTES];
    size_t audiences_len;
    char spiffe_id[];
};

struct jwt_grant { /* what the decision rests on; copied under the lock */
    uint64_t revision;
    unsigned ttl;
    uint8_t evidence[32], session[32];
    char requester[SPIFFE_ID_MAX + 1];
};

static void ask_free(struct jwt_ask *a)
{
    ra_session_release(a->s);
    free(a);
}

/* Ends it. */
static void ask_refuse(struct jwt_ask *a, bool by_signer, const struct err *e)
{
    audit_refused(a->ra, a->spiffe_id, a->s, a->kind, by_signer, e);
    a->cb(a->arg, NULL, e);
    ask_free(a);
}

/* --- 1 the request --------------------------------------------------------------------------------- */

/* Printable UTF-8, so that the log can say it. */
static int audience_add(struct jwt_ask *a, const char *audience, struct err *e)
{
    char clean[TLOG_AUDIENCE_MAX + 1];
    size_t n = strlen(audience);
    if (n == 0 || n > TLOG_AUDIENCE_MAX || tlog_text_clean(clean, sizeof clean, audience, n) != n ||
        memcmp(clean, audience, n) != 0)
        return err_set(e, ERR_MALFORMED, "audience", "an audience has 1 to %d bytes, without control characters",
                       TLOG_AUDIENCE_MAX);
    if (a->audiences_len + 1 + n > sizeof a->audiences)
        return err_set(e, ERR_MALFORMED, "audience", "the audiences are over %d bytes together", TLOG_AUDIENCES_BYTES);
    a->audiences[a->audiences_len] = (uint8_t)n;
    memcpy(a->audiences + a->audiences_len + 1, audience, n);
    a->audiences_len += 1 + n;
    return 0;
}

static int check_request(struct jwt_ask *a, const struct ra_jwt_request *r, struct err *e)
{
    struct spiffe_id id;
    if (spiffe_parse_workload(&id, a->spiffe_id, strlen(a->spiffe_id), a->ra->config->trust_domain, e) < 0)
        return -1;
    if (r->audiences_count == 0 || r->audiences_count > TLOG_AUDIENCES_MAX)
        return err_set(e, ERR_MALFORMED, "audience",
                       "a JWT-SVID is for 1 to %d audiences: name in \"audience\" whom it is to be shown to",
                       TLOG_AUDIENCES_MAX);
    for (size_t i = 0; i < r->audiences_count; i++)
        if (audience_add(a, r->audiences[i], e) < 0)
            return -1;
    return 0;
}

/* Before evidence is spent on what the signer would refuse. */
static int check_signer(const struct ra *ra, struct err *e)
{
    struct ca_snapshot s;
    ca_client_snapshot(ra->ca, &s);
    if (!s.known || s.jwt_key_len > 0)
        return 0;
    return err_set(e, ERR_DENIED, "jwt-off", "JWT-SVIDs are off: the authority's token holds no key for them, and makes none");
}

static struct jwt_ask *ask_new(struct ra *ra, struct ra_session *s, const struct ra_jwt_request *r, ca_jwt_cb *cb, void *arg)
{
    size_t n = strlen(r->spiffe_id) + 1;
    struct jwt_ask *a = malloc(sizeof *a + n);
    if (!a)
        return NULL;
    *a = (struct jwt_ask){.ra = ra, .s = session_ref(s), .cb = cb, .arg = arg, .ttl = r->ttl};
    memcpy(a->spiffe_id, r->spiffe_id, n);
    return a;
}

/* --- 2 and 3 the authorization lives, and the entry still stands -------------------------------------- */

/* Under the lock. */
static int take_grant(struct jwt_ask *a, struct jwt_grant *g, struct err *e)
{
    const struct authz *z = authz_live(a->ra, a->s, a->spiffe_id, clock_wall()); /* decides again */
    const struct entry *x = registry_by_spiffe_id(&a->ra->entries, a->spiffe_id);
    if (a->s->doomed || atomic_load(&a->s->deactivated))
        return session_refuse(a->s, e);
    if (!z || !x)
        return err_set(e, ERR_UNAUTHORIZED, "authorization",
                       "this session is not authorized for that SPIFFE ID (any more); attest first, or send \"evidence\" along");
    memcpy(a->entry_id, x->x.id, sizeof a->entry_id);
    a->line = z->line;
    a->kind = z->kind;
    g->revision = x->x.revision;
    g->ttl = x->x.ttl;
    memcpy(g->evidence, z->evidence, sizeof g->evidence);
    memcpy(g->session, a->s->thumbprint_raw, sizeof g->session);
    snprintf(g->requester, sizeof g->requester, "%s", z->requester ? z->requester : "");
    return 0;
}

/* --- 4 the lifetime --------------------------------------------------------------------------------- */

/* What is asked for, or the default; never longer than a certificate of this entry would live. */
static unsigned lifetime(const struct config *c, const struct jwt_ask *a, const struct jwt_grant *g)
{
    unsigned ttl = a->ttl ? a->ttl : JWT_LIFETIME, entry = g->ttl ? g->ttl : c->ca.default_lifetime;
    if (ttl > entry)
        ttl = entry;
    return ttl < c->ca.max_lifetime ? ttl : c->ca.max_lifetime;
}

/* --- 5 one message to the signer, 6 its answer ----------------------------------------------------------- */

/* On the ca_client's thread. What was revoked while the signer was at work is given to nobody. */
static void answered(void *arg, const struct ca_jwt_signed *r, const struct err *e)
{
    struct jwt_ask *a = arg;
    struct ra *ra = a->ra;
    struct err why = {0};
    char entry_id[RA_ID_LEN + 1];
    struct jwt_grant again;
    if (e) {
        ask_refuse(a, true, e);
        return;
    }
    memcpy(entry_id, a->entry_id, sizeof entry_id);
    const uint64_t line = a->line;
    pthread_mutex_lock(&ra->lock);
    int rc = take_grant(a, &again, &why);
    if (rc == 0 && strcmp(entry_id, a->entry_id) != 0)
        rc = err_set(&why, ERR_UNAUTHORIZED, "authorization", "the entry was made anew meanwhile; ask again");
    if (rc == 0 && line != a->line)
        rc = err_set(&why, ERR_UNAUTHORIZED, "authorization",
                     "the authorization ended meanwhile, and began anew; ask again");
    pthread_mutex_unlock(&ra->lock);
    if (rc < 0) {
        ask_refuse(a, false, &why);
        return;
    }
    atomic_fetch_add(&ra->jwts, 1);
    log_debug("JWT-SVID issued", "spiffe_id", a->spiffe_id, "index", log_num((long long)r->index), "attestor",
              attest_kind_name(a->kind), "entry", a->entry_id, "session", a->s->id, NULL);
    a->cb(a->arg, r, NULL);
    ask_free(a);
}

static int ask_signer(struct jwt_ask *a, const struct jwt_grant *g, struct err *e)
{
    const char *kind = attest_kind_name(a->kind);
    const struct ca_jwt m = {.lifetime = lifetime(a->ra->config, a, g),
                             .spiffe_id = {(const uint8_t *)a->spiffe_id, strlen(a->spiffe_id)},
                             .audiences = {a->audiences, a->audiences_len},
                             .attestor = {(const uint8_t *)kind, strlen(kind)},
                             .evidence = {g->evidence, sizeof g->evidence},
                             .entry_id = {(const uint8_t *)a->entry_id, RA_ID_LEN},
                             .entry_revision = g->revision,
                             .requester = {(const uint8_t *)g->requester, strlen(g->requester)},
                             .session = {g->session, sizeof g->session}};
    return ca_client_jwt(a->ra->ca, &m, answered, a, e);
}

/* Everything is authorized, or it is refused. */
static void ask_at_once(struct jwt_ask *a)
{
    struct jwt_grant g;
    struct err e = {0};
    pthread_mutex_lock(&a->ra->lock);
    int rc = take_grant(a, &g, &e);
    pthread_mutex_unlock(&a->ra->lock);
    if (rc < 0 || ask_signer(a, &g, &e) < 0)
        ask_refuse(a, false, &e);
}

static void vouched(void *arg, const struct err *e)
{
    struct jwt_ask *a = arg;
    if (!e) {
        ask_at_once(a);
        return;
    }
    a->cb(a->arg, NULL, e); /* vouch has noted it */
    ask_free(a);
}

void ra_jwt_new(struct ra *ra, struct ra_session *s, const struct ra_jwt_request *r, ca_jwt_cb *cb, void *arg)
{
    struct err e = {0};
    struct jwt_ask *a = ask_new(ra, s, r, cb, arg);
    if (!a) {
        no_memory(&e);
        cb(arg, NULL, &e);
        return;
    }
    if (check_request(a, r, &e) < 0 || check_signer(ra, &e) < 0) {
        ask_refuse(a, false, &e);
        return;
    }
    pthread_mutex_lock(&ra->lock);
    bool live = authz_live(ra, s, a->spiffe_id, clock_wall());
    pthread_mutex_unlock(&ra->lock);
    if (live || !r->evidence)
        ask_at_once(a);
    else if (r->freshness && *r->freshness)
        vouch(ra, s, a->spiffe_id, NULL, r->evidence, r->freshness, vouched, a);
    else {
        err_set(&e, ERR_BAD_EVIDENCE, "evidence-freshness", "evidence is bound to the request's nonce");
        ask_refuse(a, false, &e);
    }
}
