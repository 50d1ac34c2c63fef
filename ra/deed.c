/* Changes on their way to the log. */
#include "base/clock.h"
#include "ra/store.h"
#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>

/* --- changes of entries --------------------------------------------------------------------------------------- */

static void put_text(struct buf *b, const char *s)
{
    buf_vec16(b, s, strlen(s));
}

static void put_list(struct buf *b, char *const *v, size_t n)
{
    buf_u16(b, (uint16_t)n);
    for (size_t i = 0; i < n; i++)
        put_text(b, v[i]);
}

static uint8_t flags_of(const struct ra_entry *x)
{
    return x->auditor ? TLOG_FLAG_AUDITOR : 0;
}

/* tlog/FORMAT.md: the digest of an entry. */
static int entry_digest(uint8_t out[32], const struct ra_entry *x, struct err *e)
{
    struct buf b;
    buf_init(&b, 1u << 20);
    put_text(&b, x->spiffe_id);
    put_text(&b, x->parent);
    buf_u32(&b, x->ttl);
    put_list(&b, x->selectors, x->selectors_count);
    put_list(&b, x->dns, x->dns_count);
    if (flags_of(x))
        buf_u8(&b, flags_of(x));
    int rc = b.failed ? no_memory(e) : 0;
    if (rc == 0 && !SHA256(b.p, b.len, out))
        rc = err_set(e, ERR_INTERNAL, "digest", "SHA-256 failed");
    buf_free(&b);
    return rc;
}

static struct bytes view(const char *s)
{
    return (struct bytes){(const uint8_t *)s, strlen(s)};
}

int deed_entry(struct buf *body, const struct ra_entry *x, enum tlog_changed what, const char *actor, struct err *e)
{
    uint8_t digest[32];
    if (entry_digest(digest, x, e) < 0)
        return -1;
    const struct tlog_record_info r = {.type = TLOG_ENTRY_CHANGE,
                                       .time = clock_wall(),
                                       .code = (uint8_t)what,
                                       .entry_id = view(x->id),
                                       .revision = x->revision,
                                       .spiffe_id = view(x->spiffe_id),
                                       .parent = view(x->parent),
                                       .ttl = x->ttl,
                                       .digest = {digest, sizeof digest},
                                       .actor = view(actor ? actor : "local"),
                                       .flags = flags_of(x)};
    return tlog_record_write(&r, body, e);
}

/* --- taken out of the outbox ------------------------------------------------------------------------------------ */

struct forget_op {
    struct op op;
    int64_t id;
    uint64_t index;
};

static int forget_write(struct op *op, struct store *s, struct err *e)
{
    const struct forget_op *o = (struct forget_op *)(void *)op;
    return store_deed_delete(s, o->id, e) < 0 || store_told(s, o->index, e) < 0
               ? -1
               : store_revocation_told(s, o->id, o->index, e);
}

/* When it fails the log is told once more after the next start. */
static void forget_done(struct op *op, struct ra *ra, const struct err *e)
{
    (void)ra;
    (void)e;
    free(op);
}

void deed_told(void *arg, int64_t id, uint64_t index)
{
    struct err e = {0};
    struct forget_op *o = calloc(1, sizeof *o);
    struct ra *ra = arg;
    revocation_told(ra, id, index);
    atomic_fetch_add(&ra->told_since, 1);
    if (!o)
        return;
    *o = (struct forget_op){.op = {.write = forget_write, .done = forget_done}, .id = id, .index = index};
    if (writer_push(arg, &o->op, &e) < 0)
        free(o);
}

/* --- what the store knows to be in the log ------------------------------------------------------------------------ */

void ra_told(struct ra *ra, struct ra_told *t)
{
    *t = ra->told;
    t->waiting += atomic_load(&ra->told_since);
}

static int accept_write(struct op *op, struct store *s, struct err *e)
{
    return store_told(s, ((struct forget_op *)(void *)op)->index, e);
}

int ra_told_accept(struct ra *ra, uint64_t index, struct err *e)
{
    struct forget_op *o = calloc(1, sizeof *o);
    if (!o)
        return no_memory(e);
    *o = (struct forget_op){.op = {.write = accept_write, .done = forget_done}, .index = index};
    if (writer_push(ra, &o->op, e) == 0)
        return 0;
    free(o);
    return -1;
}
