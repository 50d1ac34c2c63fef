#include "api/crl_found.h"
#include "ra/ra.h"
#include <stdlib.h>
#include <string.h>

#define TIDY_MIN 1024

void crl_found_init(struct crl_found *f)
{
    *f = (struct crl_found){.tidy_at = TIDY_MIN};
}

void crl_found_free(struct crl_found *f)
{
    free(f->list);
    crl_found_init(f);
}

static int by_serial(const void *a, const void *b)
{
    const struct crl_cert *x = a, *y = b;
    if (x->serial != y->serial)
        return x->serial < y->serial ? -1 : 1;
    return x->time < y->time ? -1 : x->time > y->time;
}

/* Operators' first, then the older. */
static int by_weight(const void *a, const void *b)
{
    const struct crl_cert *x = a, *y = b;
    if (x->client != y->client)
        return x->client - y->client;
    return x->time != y->time ? (x->time < y->time ? -1 : 1) : by_serial(a, b);
}

/* The first of each serial; it is a client's when all of them are. */
static size_t unique(struct crl_cert *list, size_t n)
{
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        if (kept > 0 && list[kept - 1].serial == list[i].serial)
            list[kept - 1].client &= list[i].client;
        else
            list[kept++] = list[i];
    }
    return kept;
}

static bool is_over(const struct crl_cert *c, int64_t now)
{
    return c->not_after + CRL_KEPT_AFTER <= now;
}

/* What is over or there twice goes; next when there is twice as much. */
static void tidy(struct crl_found *f, int64_t now)
{
    size_t kept = 0;
    for (size_t i = 0; i < f->n; i++)
        if (!is_over(&f->list[i], now))
            f->list[kept++] = f->list[i];
    if (kept > 0)
        qsort(f->list, kept, sizeof *f->list, by_serial);
    f->n = unique(f->list, kept);
    f->tidy_at = f->n * 2 > TIDY_MIN ? f->n * 2 : TIDY_MIN;
}

int crl_found_add(struct crl_found *f, const struct crl_cert *c, struct err *e)
{
    if (f->n >= f->tidy_at || f->n >= CRL_FOUND_MAX)
        tidy(f, c->time);
    if (f->n >= CRL_FOUND_MAX)
        return err_set(e, ERR_RATE, "crl-found", "over %u revoked certificates are to be listed", CRL_FOUND_MAX);
    if (f->n == f->cap) {
        size_t cap = f->cap ? f->cap * 2 : 256;
        struct crl_cert *list = realloc(f->list, cap * sizeof *list);
        if (!list)
            return err_set(e, ERR_INTERNAL, "memory", "out of memory for revoked certificates");
        f->list = list;
        f->cap = cap;
    }
    f->list[f->n++] = *c;
    return 0;
}

static bool is_in(const struct crl_cert *c, struct crl_name n, int64_t now)
{
    return c->name.shards == n.shards && c->name.shard == n.shard && !is_over(c, now);
}

long crl_found_select(struct crl_found *f, struct crl_name n, int64_t now, struct buf *revoked, size_t *left_out,
                      struct err *e)
{
    size_t some = 0;
    *left_out = 0;
    for (size_t i = 0; i < f->n; i++)
        some += is_in(&f->list[i], n, now);
    struct crl_cert *list = calloc(some + 1, sizeof *list);
    if (!list)
        return err_set(e, ERR_INTERNAL, "memory", "out of memory for a CRL");
    some = 0;
    for (size_t i = 0; i < f->n; i++)
        if (is_in(&f->list[i], n, now))
            list[some++] = f->list[i];
    qsort(list, some, sizeof *list, by_serial);
    some = unique(list, some);
    if (some > CA_CRL_REVOKED_MAX) {
        *left_out = some - CA_CRL_REVOKED_MAX;
        qsort(list, some, sizeof *list, by_weight);
        some = CA_CRL_REVOKED_MAX;
        qsort(list, some, sizeof *list, by_serial);
    }
    for (size_t i = 0; i < some; i++)
        ca_crl_put(revoked, &(struct ca_crl_revoked){list[i].serial, list[i].time, list[i].reason});
    free(list);
    return revoked->failed ? err_set(e, ERR_INTERNAL, "memory", "out of memory for a CRL") : (long)some;
}
