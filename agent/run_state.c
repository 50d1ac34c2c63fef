#include "agent/pem.h"
#include "agent/run_parts.h"
#include "base/json.h"
#include "base/spiffe.h"
#include <string.h>

#define PEM_MAX (1u << 20)
#define JWT_PAYLOAD_MAX 16384
#define LISTED 300 /* characters of identities in an error */

struct wl_svid *run_pick(const struct wl_state *s, const char *spiffe_id, struct err *e)
{
    char list[LISTED] = "";
    size_t at = 0;
    if (s->n > 0 && !spiffe_id)
        return s->svids[0];
    for (size_t i = 0; i < s->n; i++) {
        if (strcmp(s->svids[i]->spiffe_id, spiffe_id) == 0)
            return s->svids[i];
        size_t n = strlen(s->svids[i]->spiffe_id);
        if (at + n + 2 < sizeof list) {
            list[at++] = ' ';
            memcpy(list + at, s->svids[i]->spiffe_id, n + 1);
            at += n;
        }
    }
    if (s->n == 0)
        err_set(e, ERR_UNAUTHORIZED, "run-identity", "the agent has no identity for this process");
    else
        err_set(e, ERR_UNAUTHORIZED, "run-identity", "the agent does not give this process %.100s; it gives:%s",
                spiffe_id, list);
    return NULL;
}

static const struct wl_bundle *bundle_of(const struct wl_state *s, const struct wl_svid *svid)
{
    struct spiffe_id id;
    struct err e;
    if (!s->bundles || spiffe_parse(&id, svid->spiffe_id, strlen(svid->spiffe_id), &e) < 0)
        return NULL;
    for (size_t i = 0; i < s->bundles->n; i++)
        if (bytes_eq_str(id.trust_domain, s->bundles->list[i].trust_domain))
            return &s->bundles->list[i];
    return NULL;
}

int run_set_make(struct run_set *x, const struct wl_state *s, const struct wl_svid *svid, struct bytes jwt,
                 struct err *e)
{
    const struct wl_bundle *b = bundle_of(s, svid);
    buf_init(&x->chain, PEM_MAX);
    buf_init(&x->bundle, PEM_MAX);
    if (!b)
        return err_set(e, ERR_MALFORMED, "run-identity", "the agent gave no bundle for %.200s", svid->spiffe_id);
    if (pem_certificates(&x->chain, svid->chain, svid->chain_len, e) < 0 ||
        pem_certificates(&x->bundle, b->x509.p, b->x509.len, e) < 0) {
        run_set_free(x);
        return err_wrap(e, "from the agent");
    }
    x->set = (struct output_set){.spiffe_id = svid->spiffe_id,
                                 .chain_pem = {x->chain.p, x->chain.len},
                                 .bundle_pem = {x->bundle.p, x->bundle.len},
                                 .key_der = &svid->key,
                                 .jwt = jwt};
    return 0;
}

void run_set_free(struct run_set *x)
{
    buf_free(&x->chain);
    buf_free(&x->bundle);
}

bool run_changed(const struct wl_state *old, const struct wl_state *now, const char *spiffe_id)
{
    struct err e;
    const struct wl_svid *a = old ? run_pick(old, spiffe_id, &e) : NULL, *b = run_pick(now, spiffe_id, &e);
    if (!a || !b || a->chain_len != b->chain_len || memcmp(a->chain, b->chain, a->chain_len) != 0 ||
        strcmp(a->spiffe_id, b->spiffe_id) != 0)
        return true;
    const struct wl_bundle *was = bundle_of(old, a), *is = bundle_of(now, b);
    return !was || !is || was->x509.len != is->x509.len || memcmp(was->x509.p, is->x509.p, is->x509.len) != 0;
}

static int64_t jwt_expiry(const char *jwt, size_t len)
{
    uint8_t text[JWT_PAYLOAD_MAX];
    struct err e;
    const char *one = memchr(jwt, '.', len), *end = jwt + len;
    const char *two = one ? memchr(one + 1, '.', (size_t)(end - one - 1)) : NULL;
    long n = two ? b64url_decode(text, sizeof text, one + 1, (size_t)(two - one - 1)) : -1;
    json_t *doc = n > 0 ? json_parse(text, (size_t)n, sizeof text, &e) : NULL;
    const json_t *exp = json_object_get(doc, "exp");
    int64_t v = json_is_integer(exp) ? json_integer_value(exp) : 0;
    json_decref(doc);
    return v;
}

unsigned run_jwt_half(const char *jwt, size_t len, int64_t now)
{
    int64_t expiry = jwt_expiry(jwt, len), half = expiry > now ? (expiry - now) / 2 : 0;
    return half < 1 ? 1000 : half > 3600 ? 3600 * 1000 : (unsigned)half * 1000;
}
