/* What revocations mean to whoever comes later: a key that asks for a certificate, an SVID that is shown. */
#include "ra/internal.h"
#include <stdlib.h>
#include <string.h>

int revoked_key(struct ra *ra, const uint8_t key[32], struct err *e)
{
    pthread_mutex_lock(&ra->lock);
    int rc = revocations_key(&ra->revocations, key, e);
    pthread_mutex_unlock(&ra->lock);
    return rc;
}

/* Whether the certificate was logged before the revocation; while that has no index of its own, it was. */
static bool is_older(const struct revocation *r, uint64_t index)
{
    return r && (!r->logged || index < r->index);
}

/* Of (log number << 48) | index; of a serial that is none of ours 0, which is older than all. */
static uint64_t index_of(const char *serial)
{
    return strlen(serial) > 16 ? 0 : strtoull(serial, NULL, 16) & ((UINT64_C(1) << 48) - 1);
}

static bool older_prefix(const struct revocations *all, const char *spiffe_id, uint64_t index)
{
    char path[SPIFFE_ID_MAX + 1];
    snprintf(path, sizeof path, "%s", spiffe_id);
    char *first = strchr(path + sizeof "spiffe://" - 1, '/');
    for (char *end; first && (end = strrchr(path, '/')) >= first; *end = 0)
        if (is_older(revocations_find(all, TLOG_BY_PREFIX, path), index))
            return true;
    return false;
}

/* By the names that a certificate bears. */
static bool names_it(const struct revocations *all, const char *spiffe_id, const char *serial, const uint8_t key[32],
                     uint64_t index)
{
    return revocations_find(all, TLOG_BY_SERIAL, serial) || map_find(&all->by_key, key, 32) ||
           is_older(revocations_find(all, TLOG_BY_ID, spiffe_id), index) || older_prefix(all, spiffe_id, index) ||
           is_older(revocations_find(all, TLOG_BY_AGENT, spiffe_id), index);
}

bool svid_revoked(const struct ra *ra, const char *spiffe_id, const char *serial, const uint8_t key[32])
{
    const struct revocations *all = &ra->revocations;
    const struct entry *x = registry_by_spiffe_id(&ra->entries, spiffe_id);
    uint64_t index = index_of(serial);
    return names_it(all, spiffe_id, serial, key, index) ||
           (x && (is_older(revocations_find(all, TLOG_BY_ENTRY, x->x.id), index) ||
                  is_older(revocations_find(all, TLOG_BY_AGENT, x->x.parent), index)));
}

int revoked_svid(struct ra *ra, const struct svid *v, struct err *e)
{
    pthread_mutex_lock(&ra->lock);
    bool revoked = ra->revocations.n > 0 && svid_revoked(ra, v->spiffe_id, v->serial, v->key);
    pthread_mutex_unlock(&ra->lock);
    return revoked ? err_set(e, ERR_UNAUTHORIZED, "svid-revoked",
                             "the presented SVID of %.200s was revoked; only new evidence counts, as a join token made "
                             "since (mayfly token create)",
                             v->spiffe_id)
                   : 0;
}

/* As the log has it: its entry and its agent are those of when it was issued, and its entry's parent is today's, as
 * for all that a revocation by agent ends. */
static bool names_certificate(const struct ra *ra, const struct ra_certificate *c)
{
    const struct revocations *all = &ra->revocations;
    const struct entry *x = registry_by_spiffe_id(&ra->entries, c->spiffe_id);
    const uint64_t index = c->serial & ((UINT64_C(1) << 48) - 1);
    char serial[17];
    snprintf(serial, sizeof serial, "%llx", (unsigned long long)c->serial);
    return names_it(all, c->spiffe_id, serial, c->key, index) ||
           is_older(revocations_find(all, TLOG_BY_ENTRY, c->entry), index) ||
           is_older(revocations_find(all, TLOG_BY_AGENT, c->agent), index) ||
           (x && is_older(revocations_find(all, TLOG_BY_AGENT, x->x.parent), index));
}

bool certificate_revoked(struct ra *ra, const struct ra_certificate *c)
{
    pthread_mutex_lock(&ra->lock);
    bool revoked = ra->revocations.n > 0 && names_certificate(ra, c);
    pthread_mutex_unlock(&ra->lock);
    return revoked;
}
