#include "ra/ra.h"
#include "ca/bundle.h"
#include "base/clock.h"
#include "base/thread.h"
#include "ra/store.h"
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define BUNDLE_MAX 16384

/* --- small things ----------------------------------------------------------------------------------------- */

int no_memory(struct err *e)
{
    return err_set(e, ERR_INTERNAL, "memory", "out of memory");
}

int random_fill(void *p, size_t n, struct err *e)
{
    return getrandom(p, n, 0) == (ssize_t)n ? 0 : err_errno(e, "random", "the kernel gives no random bytes");
}

/* One system call for 32 ids. They name things that only their account may see, and are known to
 * it once given out; each is wiped from the pool then. */
int id_make(char id[RA_ID_LEN + 1], struct err *e)
{
    static _Thread_local uint8_t pool[32][16];
    static _Thread_local unsigned left;
    if (left == 0) {
        if (random_fill(pool, sizeof pool, e) < 0)
            return -1;
        left = sizeof pool / sizeof *pool;
    }
    left--;
    b64url_encode(id, pool[left], sizeof pool[left]);
    memset(pool[left], 0, sizeof pool[left]);
    return 0;
}

const char *ra_status_name(enum ra_status s)
{
    static const char *const names[] = {
        [RA_PENDING] = "pending", [RA_READY] = "ready",     [RA_PROCESSING] = "processing",   [RA_VALID] = "valid",
        [RA_INVALID] = "invalid", [RA_DEACTIVATED] = "deactivated", [RA_EXPIRED] = "expired",
    };
    return names[s];
}

/* --- opening and closing -------------------------------------------------------------------------------------- */

static int make_memory(struct ra *ra, struct err *e)
{
    struct map *maps[] = {&ra->tokens, &ra->sessions, &ra->thumbprints, &ra->authz, &ra->pairs, &ra->orders};
    int rc = registry_init(&ra->entries);
    if (rc == 0)
        rc = revocations_init(&ra->revocations);
    if (rc == 0)
        rc = told_init(ra);
    for (size_t i = 0; rc == 0 && i < sizeof maps / sizeof *maps; i++)
        rc = map_init(maps[i]);
    buf_init(&ra->bundle.text, BUNDLE_MAX);
    pthread_mutex_init(&ra->lock, NULL);
    pthread_mutex_init(&ra->writer.lock, NULL);
    pthread_mutex_init(&ra->audit.lock, NULL);
    cond_init_mono(&ra->writer.wake);
    cond_init_mono(&ra->writer.swept);
    return rc < 0 ? no_memory(e) : 0;
}

int ra_open(struct ra **out, const struct config *c, struct ca_client *ca, struct err *e)
{
    struct ra *ra = calloc(1, sizeof *ra);
    if (!ra)
        return no_memory(e);
    ra->config = c;
    ra->ca = ca;
    snprintf(ra->authority, sizeof ra->authority, "spiffe://%s/mayfly/server", c->trust_domain);
    if (make_memory(ra, e) < 0 || !(ra->teller = teller_new(ca, told_in_log, ra, e)) || key_setup(e) < 0 || store_open(&ra->store, c->store_path, e) < 0 ||
        store_load(ra->store, ra, e) < 0)
        goto refused;
    atomic_store(&ra->store_bytes, store_bytes(ra->store));
    if (writer_start(ra, e) < 0 || teller_start(ra->teller, e) < 0)
        goto refused;
    *out = ra;
    return 0;
refused:
    ra_close(ra);
    return -1;
}

void ra_stop(struct ra *ra)
{
    if (!ra)
        return;
    teller_stop(ra->teller); /* what it tells leaves the outbox by the writer */
    writer_stop(ra);
}

static void drop_orders(struct ra *ra, const struct order_list *l)
{
    while (l->head)
        order_drop(ra, l->head);
}

static void drop_token(void *arg, struct map_node *n)
{
    (void)arg;
    token_free(MAP_OBJECT(n, struct token, node));
}

static void drop_session(void *arg, struct map_node *n)
{
    session_remove(arg, MAP_OBJECT(n, struct ra_session, by_id));
}

void ra_close(struct ra *ra)
{
    if (!ra)
        return;
    ra_stop(ra);
    drop_orders(ra, &ra->open);
    drop_orders(ra, &ra->served);
    drop_orders(ra, &ra->failed);
    drop_orders(ra, &ra->at_once);
    map_drain(&ra->sessions, drop_session, ra);
    map_drain(&ra->tokens, drop_token, NULL);
    registry_free(&ra->entries);
    revocations_free(&ra->revocations);
    store_close(ra->store);
    teller_free(ra->teller);
    told_free(ra);
    map_free(&ra->tokens);
    map_free(&ra->sessions);
    map_free(&ra->thumbprints);
    map_free(&ra->authz);
    map_free(&ra->pairs);
    map_free(&ra->orders);
    buf_free(&ra->bundle.text);
    pthread_cond_destroy(&ra->writer.wake);
    pthread_cond_destroy(&ra->writer.swept);
    pthread_mutex_destroy(&ra->writer.lock);
    pthread_mutex_destroy(&ra->audit.lock);
    pthread_mutex_destroy(&ra->lock);
    free(ra);
}

/* --- the authority as a whole ------------------------------------------------------------------------------------ */

void ra_stats(struct ra *ra, struct ra_stats *s)
{
    pthread_mutex_lock(&ra->lock);
    *s = (struct ra_stats){.entries = ra->entries.n, .tokens = ra->tokens.count, .sessions = ra->sessions.count,
                           .authorizations = ra->valid_authz, .orders = ra->open.count};
    pthread_mutex_unlock(&ra->lock);
    s->issued = atomic_load(&ra->issued);
    s->jwts = atomic_load(&ra->jwts);
    s->refused = atomic_load(&ra->refused);
    s->store_bytes = atomic_load(&ra->store_bytes);
}

void ra_signer(struct ra *ra, struct ca_snapshot *s)
{
    ca_client_snapshot(ra->ca, s);
}

static int root_from(struct bytes root, int64_t *from, struct err *e)
{
    const unsigned char *p = root.p;
    struct tm tm;
    X509 *x = d2i_X509(NULL, &p, (long)root.len);
    bool ok = x && ASN1_TIME_to_tm(X509_get0_notBefore(x), &tm) == 1;
    X509_free(x);
    if (!ok)
        return err_set(e, ERR_INTERNAL, "bundle-root", "the root certificate can not be read");
    *from = (int64_t)timegm(&tm);
    return 0;
}

static int bundle_make(const struct ca_snapshot *s, struct buf *text, struct err *e)
{
    struct bundle b = {.root = {s->root, s->root_len},
                       .vkey = {(const uint8_t *)s->vkey, strlen(s->vkey)},
                       .jwt_key = {s->jwt_key, s->jwt_key_len},
                       .jwt_since = s->jwt_since};
    return root_from(b.root, &b.root_from, e) < 0 ? -1 : bundle_write(text, &b, e);
}

/* Under the lock. */
static bool bundle_is_of(const struct ra *ra, const struct ca_snapshot *s)
{
    return ra->bundle.root_len == s->root_len && memcmp(ra->bundle.root, s->root, s->root_len) == 0 &&
           strcmp(ra->bundle.vkey, s->vkey) == 0 && ra->bundle.jwt_since == s->jwt_since &&
           ra->bundle.jwt_key_len == s->jwt_key_len && memcmp(ra->bundle.jwt_key, s->jwt_key, s->jwt_key_len) == 0;
}

static void bundle_keep(struct ra *ra, const struct ca_snapshot *s, const struct buf *text)
{
    buf_reset(&ra->bundle.text);
    buf_put(&ra->bundle.text, text->p, text->len);
    memcpy(ra->bundle.root, s->root, s->root_len);
    ra->bundle.root_len = ra->bundle.text.failed ? 0 : s->root_len;
    memcpy(ra->bundle.vkey, s->vkey, sizeof ra->bundle.vkey);
    memcpy(ra->bundle.jwt_key, s->jwt_key, sizeof ra->bundle.jwt_key);
    ra->bundle.jwt_key_len = s->jwt_key_len;
    ra->bundle.jwt_since = s->jwt_since;
}

int ra_bundle(struct ra *ra, struct buf *out, struct err *e)
{
    struct ca_snapshot s;
    struct buf text;
    int rc = 0;
    ca_client_snapshot(ra->ca, &s);
    if (!s.known)
        return err_set(e, ERR_UNAVAILABLE, "signer-away",
                       "the signer has not shown its root certificate yet; try again in a moment");
    pthread_mutex_lock(&ra->lock);
    bool same = bundle_is_of(ra, &s);
    if (same)
        buf_put(out, ra->bundle.text.p, ra->bundle.text.len);
    pthread_mutex_unlock(&ra->lock);
    if (!same) {
        buf_init(&text, BUNDLE_MAX);
        rc = bundle_make(&s, &text, e);
        if (rc == 0 && ra->config->ca.max_lifetime > ra->config->crl.short_limit) /* such certificates name one (ca/tbs.h) */
            rc = bundle_add_crls(&text, ra->config->external_url, ra->config->crl.shards, e);
        if (rc == 0) {
            buf_put(out, text.p, text.len);
            pthread_mutex_lock(&ra->lock);
            bundle_keep(ra, &s, &text);
            pthread_mutex_unlock(&ra->lock);
        }
        buf_free(&text);
    }
    if (rc == 0 && out->failed)
        return err_set(e, ERR_TOO_LARGE, "bundle-size", "the bundle does not fit its buffer");
    return rc;
}

int ra_crl(struct ra *ra, const struct ca_crl *m, ca_crl_cb *cb, void *arg, struct err *e)
{
    return ca_client_crl(ra->ca, m, cb, arg, e);
}

int ra_server_cert(struct ra *ra, struct bytes spki, ca_issue_cb *cb, void *arg, struct err *e)
{
    static const char self[] = "self";
    const struct config *c = ra->config;
    struct ca_issue m = {.profile = CA_PROFILE_SERVER,
                         .lifetime = c->ca.max_lifetime,
                         .spiffe_id = {(const uint8_t *)ra->authority, strlen(ra->authority)},
                         .spki = spki,
                         .attestor = {(const uint8_t *)self, sizeof self - 1}};
    if (c->names_count > CA_DNS_MAX)
        return err_set(e, ERR_CONFIG, "names", "%zu names; the server's certificate holds at most %d", c->names_count,
                       CA_DNS_MAX);
    for (size_t i = 0; i < c->names_count; i++)
        m.dns[i] = (struct bytes){(const uint8_t *)c->names[i], strlen(c->names[i])};
    m.dns_count = (uint8_t)c->names_count;
    return ca_client_issue(ra->ca, &m, cb, arg, e);
}
