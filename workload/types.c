/* What is handed out, and how long it lives. */
#include "workload/workload.h"
#include <stdlib.h>

struct wl_svid *wl_svid_ref(struct wl_svid *s)
{
    atomic_fetch_add(&s->refs, 1);
    return s;
}

void wl_svid_unref(struct wl_svid *s)
{
    if (!s || atomic_fetch_sub(&s->refs, 1) != 1)
        return;
    free(s->spiffe_id);
    free(s->hint);
    free(s->chain);
    secret_free(&s->key);
    free(s);
}

struct wl_bundles *wl_bundles_ref(struct wl_bundles *b)
{
    atomic_fetch_add(&b->refs, 1);
    return b;
}

void wl_bundles_unref(struct wl_bundles *b)
{
    if (!b || atomic_fetch_sub(&b->refs, 1) != 1)
        return;
    for (size_t i = 0; i < b->n; i++) {
        free(b->list[i].trust_domain);
        buf_free(&b->list[i].x509);
        buf_free(&b->list[i].jwks);
    }
    for (size_t i = 0; i < b->crls_count; i++)
        buf_free(&b->crls[i]);
    free(b->list);
    free(b->crls);
    free(b);
}

struct wl_state *wl_state_ref(struct wl_state *s)
{
    atomic_fetch_add(&s->refs, 1);
    return s;
}

void wl_state_unref(struct wl_state *s)
{
    if (!s || atomic_fetch_sub(&s->refs, 1) != 1)
        return;
    for (size_t i = 0; i < s->n; i++)
        wl_svid_unref(s->svids[i]);
    wl_bundles_unref(s->bundles);
    free(s->svids);
    free(s);
}
