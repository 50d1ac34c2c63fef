/* States as an agent gives them, for tests of `run`. What a certificate says is of no matter to it. */
#ifndef UNIT_AGENT_RUN_STATE_H
#define UNIT_AGENT_RUN_STATE_H
#include "agent/run_parts.h"
#include "unit/base/scratch.h"

#define ID_WEB "spiffe://example.org/web"
#define ID_DB "spiffe://example.org/db"

static inline struct wl_svid *a_svid(const char *id, uint8_t n)
{
    struct err e;
    struct wl_svid *s = calloc(1, sizeof *s);
    const uint8_t chain[] = {0x30, 1, n, 0x30, 2, n, n};
    s->refs = 1;
    s->spiffe_id = strdup(id);
    s->hint = strdup("");
    s->chain = malloc(sizeof chain);
    memcpy(s->chain, chain, sizeof chain);
    s->chain_len = sizeof chain;
    s->not_after = 4000000000;
    assert_int_equal(secret_new(&s->key, 10, &e), 0);
    memset(s->key.p, n, 10);
    s->key.len = 10;
    return s;
}

static inline void a_bundle(struct wl_bundle *b, const char *td, uint8_t n)
{
    const uint8_t root[] = {0x30, 1, n};
    b->trust_domain = strdup(td);
    buf_init(&b->x509, 1000);
    buf_put(&b->x509, root, sizeof root);
    buf_init(&b->jwks, 1000);
}

/* One SVID for each ID (NULL: none), of version n; two trust domains, of which ours is the second. */
static inline struct wl_state *a_state(const char *one, const char *two, uint8_t n)
{
    struct wl_state *s = calloc(1, sizeof *s);
    s->refs = 1;
    s->svids = calloc(2, sizeof *s->svids);
    if (one)
        s->svids[s->n++] = a_svid(one, n);
    if (two)
        s->svids[s->n++] = a_svid(two, (uint8_t)(n + 100));
    s->bundles = calloc(1, sizeof *s->bundles);
    s->bundles->refs = 1;
    s->bundles->list = calloc(2, sizeof *s->bundles->list);
    s->bundles->n = 2;
    a_bundle(&s->bundles->list[0], "other.org", 99);
    a_bundle(&s->bundles->list[1], "example.org", 7);
    return s;
}

#endif
