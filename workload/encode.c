#include "workload/encode.h"
#include "workload/pb.h"
#include <string.h>

char *encode_td_id(struct scratch *s, const char *trust_domain)
{
    size_t n = strlen(trust_domain);
    char *id = scratch_take(s, 9 + n + 1);
    if (id) {
        memcpy(id, "spiffe://", 9);
        memcpy(id + 9, trust_domain, n);
    }
    return id;
}

static ProtobufCBinaryData of_buf(const struct buf *b)
{
    return (ProtobufCBinaryData){.len = b->len, .data = b->p};
}

static ProtobufCBinaryData *crl_list(struct scratch *s, const struct wl_bundles *b)
{
    ProtobufCBinaryData *list = scratch_take(s, (b->crls_count + 1) * sizeof *list);
    for (size_t i = 0; list && i < b->crls_count; i++)
        list[i] = of_buf(&b->crls[i]);
    return list;
}

/* The three kinds of map entries have one shape, but are types of their own. */
#define BUNDLE_MAP(TYPE, INIT, s, b, first, member, out, count)                                    \
    do {                                                                                           \
        size_t most_ = (b)->n > (first) ? (b)->n - (first) : 0;                                    \
        (out) = scratch_take(s, (most_ + 1) * sizeof *(out));                                      \
        TYPE *all_ = scratch_take(s, (most_ + 1) * sizeof *all_);                                  \
        (count) = 0;                                                                               \
        for (size_t i_ = 0; (out) && all_ && i_ < most_; i_++) {                                   \
            const struct wl_bundle *from_ = &(b)->list[(first) + i_];                              \
            all_[i_] = (TYPE)INIT;                                                                 \
            all_[i_].key = encode_td_id(s, from_->trust_domain);                                   \
            all_[i_].value = of_buf(&from_->member);                                               \
            (out)[(count)++] = &all_[i_];                                                          \
        }                                                                                          \
    } while (0)

/* Clients take the first of those that share a hint, and pass over the others: so a hint that an SVID before this one
 * has is left out here, and this one is one without. hints: those of the n before. NULL and "": none. */
static bool hint_is_new(const char *hint, const char *const *hints, size_t n)
{
    bool found = !hint || !*hint;
    for (size_t i = 0; !found && i < n; i++)
        found = hints[i] && strcmp(hints[i], hint) == 0;
    return !found;
}

int encode_x509(struct scratch *s, const void *wl_state)
{
    const struct wl_state *st = wl_state;
    X509SVIDResponse m = X509_SVIDRESPONSE__INIT;
    m.svids = scratch_take(s, (st->n + 1) * sizeof *m.svids);
    X509SVID *all = scratch_take(s, (st->n + 1) * sizeof *all);
    const char **hints = scratch_take(s, (st->n + 1) * sizeof *hints);
    for (size_t i = 0; m.svids && all && hints && i < st->n; i++) {
        struct wl_svid *v = st->svids[i];
        all[i] = (X509SVID)X509_SVID__INIT;
        all[i].spiffe_id = v->spiffe_id;
        all[i].x509_svid = (ProtobufCBinaryData){.len = v->chain_len, .data = v->chain};
        all[i].x509_svid_key = (ProtobufCBinaryData){.len = v->key.len, .data = v->key.p};
        if (st->bundles && st->bundles->n)
            all[i].bundle = of_buf(&st->bundles->list[0].x509);
        hints[i] = v->hint;
        if (hint_is_new(v->hint, hints, i))
            all[i].hint = v->hint;
        m.svids[m.n_svids++] = &all[i];
    }
    if (st->bundles) {
        m.crl = crl_list(s, st->bundles);
        m.n_crl = st->bundles->crls_count;
        BUNDLE_MAP(X509SVIDResponse__FederatedBundlesEntry, X509_SVIDRESPONSE__FEDERATED_BUNDLES_ENTRY__INIT,
                   s,
                   st->bundles, 1, x509, m.federated_bundles, m.n_federated_bundles);
    }
    return scratch_pack(s, &m.base);
}

int encode_x509_bundles(struct scratch *s, const void *wl_bundles)
{
    const struct wl_bundles *b = wl_bundles;
    X509BundlesResponse m = X509_BUNDLES_RESPONSE__INIT;
    m.crl = crl_list(s, b);
    m.n_crl = b->crls_count;
    BUNDLE_MAP(X509BundlesResponse__BundlesEntry, X509_BUNDLES_RESPONSE__BUNDLES_ENTRY__INIT, s, b, 0, x509,
               m.bundles,
               m.n_bundles);
    return scratch_pack(s, &m.base);
}

int encode_jwt_bundles(struct scratch *s, const void *wl_bundles)
{
    const struct wl_bundles *b = wl_bundles;
    JWTBundlesResponse m = JWTBUNDLES_RESPONSE__INIT;
    BUNDLE_MAP(JWTBundlesResponse__BundlesEntry, JWTBUNDLES_RESPONSE__BUNDLES_ENTRY__INIT, s, b, 0, jwks,
               m.bundles,
               m.n_bundles);
    return scratch_pack(s, &m.base);
}

int encode_jwt(struct scratch *s, const void *encode_jwt_arg)
{
    const struct encode_jwt_arg *a = encode_jwt_arg;
    JWTSVIDResponse m = JWTSVIDRESPONSE__INIT;
    m.svids = scratch_take(s, (a->n + 1) * sizeof *m.svids);
    JWTSVID *all = scratch_take(s, (a->n + 1) * sizeof *all);
    const char **hints = scratch_take(s, (a->n + 1) * sizeof *hints);
    for (size_t i = 0; m.svids && all && hints && i < a->n; i++) {
        all[i] = (JWTSVID)JWTSVID__INIT;
        all[i].spiffe_id = a->list[i].spiffe_id;
        all[i].svid = a->list[i].svid;
        hints[i] = a->list[i].hint;
        if (hint_is_new(hints[i], hints, i))
            all[i].hint = a->list[i].hint;
        m.svids[m.n_svids++] = &all[i];
    }
    return scratch_pack(s, &m.base);
}
