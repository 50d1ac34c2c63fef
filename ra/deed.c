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
    bool hint = x->hint && *x->hint;
    if (flags_of(x) || hint)
        buf_u8(&b, flags_of(x));
    if (hint)
        put_text(&b, x->hint);
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
