#include "workload/parse.h"
#include "workload/limits.h"
#include "workload/wire.h"
#include "base/json.h"
#include "base/spiffe.h"
#include <stdlib.h>
#include <string.h>

static int bad(struct err *e, const char *what)
{
    return err_set(e, ERR_MALFORMED, "workload-answer", "the Workload API's answer is refused: %s", what);
}

static int no_memory(struct err *e)
{
    return err_set(e, ERR_INTERNAL, "memory", "out of memory for the Workload API's answer");
}

static char *text_of(struct bytes b)
{
    char *s = malloc(b.len + 1);
    if (s) {
        if (b.len)
            memcpy(s, b.p, b.len);
        s[b.len] = 0;
    }
    return s;
}

static int set_text(char **dst, const struct wire_field *f, size_t max, struct err *e)
{
    if (*dst || !wire_is_text(f) || f->bytes.len > max)
        return bad(e, "a text is there twice, too long, or none");
    return (*dst = text_of(f->bytes)) ? 0 : no_memory(e);
}

static int set_buf(struct buf *b, struct bytes from, struct err *e)
{
    buf_init(b, from.len + 1);
    buf_put(b, from.p, from.len);
    return b->failed ? no_memory(e) : 0;
}

/* --- sets under construction: lists that grow by one ------------------------------------------------ */

static void *grow(void *list, size_t n, size_t size)
{
    if (n & (n - 1)) /* full only at powers of two */
        return list;
    return realloc(list, (n ? n * 2 : 1) * size);
}

static struct wl_bundle *bundle_of(struct wl_bundles *b, const char *td, size_t len)
{
    for (size_t i = 0; i < b->n; i++)
        if (strlen(b->list[i].trust_domain) == len && memcmp(b->list[i].trust_domain, td, len) == 0)
            return &b->list[i];
    return NULL;
}

static struct wl_bundle *add_bundle(struct wl_bundles *b, const char *td, size_t len, struct err *e)
{
    if (b->n == LIMIT_BUNDLES) {
        bad(e, "too many bundles");
        return NULL;
    }
    struct wl_bundle *list = grow(b->list, b->n, sizeof *list);
    if (list)
        b->list = list;
    char *name = list ? text_of((struct bytes){(const uint8_t *)td, len}) : NULL;
    if (!name) {
        no_memory(e);
        return NULL;
    }
    struct wl_bundle *at = &b->list[b->n++];
    *at = (struct wl_bundle){.trust_domain = name};
    return at;
}

static struct wl_bundles *new_bundles(struct err *e)
{
    struct wl_bundles *b = calloc(1, sizeof *b);
    if (b)
        b->refs = 1;
    else
        no_memory(e);
    return b;
}

static int add_crl(struct wl_bundles *b, struct bytes der, struct err *e)
{
    if (b->crls_count == LIMIT_CRLS)
        return bad(e, "too many CRLs");
    struct buf *list = grow(b->crls, b->crls_count, sizeof *list);
    if (!list)
        return no_memory(e);
    b->crls = list;
    return set_buf(&list[b->crls_count++], der, e);
}

/* --- map entries: {key=1, value=2} ------------------------------------------------------------------ */

static int read_entry(struct bytes entry, struct bytes *td, struct bytes *value, struct err *e)
{
    struct cur c = cur_of(entry.p, entry.len);
    struct wire_field f;
    struct spiffe_id id;
    struct bytes key = {0};
    *value = (struct bytes){0};
    while (wire_next(&c, &f))
        if (f.type == WIRE_BYTES && (f.number == 1 || f.number == 2))
            *(f.number == 1 ? &key : value) = f.bytes;
    if (!cur_done(&c))
        return bad(e, "a bundle's entry is no message");
    /* The standard has the trust domain's ID; its bare name is met too. */
    if (key.len && spiffe_parse(&id, (const char *)key.p, key.len, e) == 0 && id.path.len == 0)
        *td = id.trust_domain;
    else if (key.len && spiffe_check_trust_domain((const char *)key.p, key.len, e) == 0)
        *td = key;
    else
        return bad(e, "a bundle is of no trust domain");
    return 0;
}

static int add_federated(struct wl_bundles *b, struct bytes entry, struct err *e)
{
    struct bytes td, value;
    if (read_entry(entry, &td, &value, e) < 0 || parse_check_certs(value, LIMIT_ROOTS, e) < 0)
        return -1;
    if (bundle_of(b, (const char *)td.p, td.len))
        return bad(e, "a trust domain has two bundles");
    struct wl_bundle *at = add_bundle(b, (const char *)td.p, td.len, e);
    return at ? set_buf(&at->x509, value, e) : -1;
}

/* --- X.509 ------------------------------------------------------------------------------------------ */

static int set_bytes(struct wl_svid *s, const struct wire_field *f, struct bytes *bundle, struct err *e)
{
    if (f->type != WIRE_BYTES)
        return bad(e, "a field of an SVID is of another type");
    if (f->number == 4) {
        *bundle = f->bytes;
        return 0;
    }
    if (f->number == 2 && !s->chain) {
        if (!(s->chain = malloc(f->bytes.len + 1)))
            return no_memory(e);
        if (f->bytes.len)
            memcpy(s->chain, f->bytes.p, f->bytes.len);
        s->chain_len = f->bytes.len;
        return 0;
    }
    if (f->number != 3 || s->key.p || f->bytes.len == 0 || f->bytes.len > LIMIT_KEY)
        return bad(e, "an SVID has two chains, or not one key of a size that keys have");
    if (secret_new(&s->key, f->bytes.len, e) < 0)
        return -1;
    memcpy(s->key.p, f->bytes.p, f->bytes.len);
    s->key.len = f->bytes.len;
    return 0;
}

static int read_svid(struct wl_svid *s, struct bytes msg, struct bytes *bundle, struct err *e)
{
    struct cur c = cur_of(msg.p, msg.len);
    struct wire_field f;
    *bundle = (struct bytes){0};
    while (wire_next(&c, &f)) {
        int r = 0;
        if (f.number == 1)
            r = set_text(&s->spiffe_id, &f, SPIFFE_ID_MAX, e);
        else if (f.number == 5)
            r = set_text(&s->hint, &f, LIMIT_HINT, e);
        else if (f.number < 5)
            r = set_bytes(s, &f, bundle, e);
        if (r < 0)
            return -1;
    }
    if (!cur_done(&c) || !s->spiffe_id || !s->chain || !s->key.p)
        return bad(e, "an SVID is not whole");
    if (!s->hint && !(s->hint = strdup("")))
        return no_memory(e);
    return 0;
}

/* Its own trust domain's roots: the same for every SVID of that domain. */
static int own_bundle(struct wl_bundles *b, const struct wl_svid *s, struct bytes roots, struct err *e)
{
    struct spiffe_id id;
    if (spiffe_parse(&id, s->spiffe_id, strlen(s->spiffe_id), e) < 0)
        return -1;
    if (id.path.len == 0)
        return bad(e, "an SVID is of a trust domain, not of a workload");
    if (parse_check_certs(roots, LIMIT_ROOTS, e) < 0)
        return -1;
    const char *td = (const char *)id.trust_domain.p;
    struct wl_bundle *at = bundle_of(b, td, id.trust_domain.len);
    if (at)
        return bytes_eq(roots, at->x509.p, at->x509.len) ? 0 : bad(e, "a trust domain has two bundles");
    at = add_bundle(b, td, id.trust_domain.len, e);
    return at ? set_buf(&at->x509, roots, e) : -1;
}

static int add_svid(struct wl_state *st, struct bytes msg, struct err *e)
{
    if (st->n == LIMIT_SVIDS)
        return bad(e, "too many SVIDs");
    struct wl_svid **list = grow(st->svids, st->n, sizeof *list);
    if (list)
        st->svids = list;
    struct wl_svid *s = list ? calloc(1, sizeof *s) : NULL;
    if (!s)
        return no_memory(e);
    s->refs = 1;
    st->svids[st->n++] = s; /* owned from here on */
    struct bytes roots;
    if (read_svid(s, msg, &roots, e) < 0)
        return -1;
    return own_bundle(st->bundles, s, roots, e) < 0 ? -1 : parse_check_svid(s, e);
}

/* SVIDs first, whatever the order on the wire: bundles [0] is to be our own. */
static int read_x509(struct wl_state *st, struct bytes msg, struct err *e)
{
    for (unsigned pass = 1; pass <= 3; pass++) {
        struct cur c = cur_of(msg.p, msg.len);
        struct wire_field f;
        while (wire_next(&c, &f)) {
            if (f.number != pass)
                continue;
            if (f.type != WIRE_BYTES)
                return bad(e, "a field is of another type");
            int r = pass == 1   ? add_svid(st, f.bytes, e)
                    : pass == 2 ? add_crl(st->bundles, f.bytes, e)
                                : add_federated(st->bundles, f.bytes, e);
            if (r < 0)
                return -1;
        }
        if (!cur_done(&c))
            return bad(e, "it is no message");
    }
    return st->n ? 0 : bad(e, "there is no SVID in it");
}

struct wl_state *parse_x509(struct bytes msg, struct err *e)
{
    struct wl_state *st = calloc(1, sizeof *st);
    if (!st) {
        no_memory(e);
        return NULL;
    }
    st->refs = 1;
    if ((st->bundles = new_bundles(e)) && read_x509(st, msg, e) == 0)
        return st;
    wl_state_unref(st);
    return NULL;
}

/* --- JWT -------------------------------------------------------------------------------------------- */

static int add_jwks(struct wl_bundles *b, const struct wire_field *f, struct err *e)
{
    struct bytes td, value;
    if (f->type != WIRE_BYTES)
        return bad(e, "a field is of another type");
    if (read_entry(f->bytes, &td, &value, e) < 0)
        return -1;
    json_t *j = json_parse(value.p, value.len, LIMIT_CLIENT_MESSAGE, e);
    bool good = json_is_object(j);
    json_decref(j);
    if (!good || bundle_of(b, (const char *)td.p, td.len))
        return bad(e, "a trust domain has two bundles, or one that is no JWKS");
    struct wl_bundle *at = add_bundle(b, (const char *)td.p, td.len, e);
    return at ? set_buf(&at->jwks, value, e) : -1;
}

struct wl_bundles *parse_jwt_bundles(struct bytes msg, struct err *e)
{
    struct wl_bundles *b = new_bundles(e);
    struct cur c = cur_of(msg.p, msg.len);
    struct wire_field f;
    while (b && wire_next(&c, &f)) {
        if (f.number == 1 && add_jwks(b, &f, e) < 0) {
            wl_bundles_unref(b);
            return NULL;
        }
    }
    if (b && !cur_done(&c)) {
        bad(e, "it is no message");
        wl_bundles_unref(b);
        return NULL;
    }
    return b;
}

static int join(struct wl_bundles *b, const struct wl_bundles *x509, const struct wl_bundles *jwt,
                struct err *e)
{
    for (size_t i = 0; i < x509->n; i++) {
        struct wl_bundle *at = add_bundle(b, x509->list[i].trust_domain, strlen(x509->list[i].trust_domain),
                                          e);
        if (!at || set_buf(&at->x509, (struct bytes){x509->list[i].x509.p, x509->list[i].x509.len}, e) < 0)
            return -1;
    }
    for (size_t i = 0; i < jwt->n; i++) {
        size_t n = strlen(jwt->list[i].trust_domain);
        struct wl_bundle *at = bundle_of(b, jwt->list[i].trust_domain, n);
        if (!at)
            at = add_bundle(b, jwt->list[i].trust_domain, n, e);
        if (!at || set_buf(&at->jwks, (struct bytes){jwt->list[i].jwks.p, jwt->list[i].jwks.len}, e) < 0)
            return -1;
    }
    for (size_t i = 0; i < x509->crls_count; i++)
        if (add_crl(b, (struct bytes){x509->crls[i].p, x509->crls[i].len}, e) < 0)
            return -1;
    return 0;
}

struct wl_bundles *parse_join(const struct wl_bundles *x509, const struct wl_bundles *jwt, struct err *e)
{
    struct wl_bundles *b = new_bundles(e);
    if (b && join(b, x509, jwt, e) < 0) {
        wl_bundles_unref(b);
        return NULL;
    }
    return b;
}

void jwt_list_free(struct jwt_list *l)
{
    for (size_t i = 0; i < l->n; i++) {
        if (l->list[i].svid)
            secret_wipe(l->list[i].svid, strlen(l->list[i].svid));
        free(l->list[i].spiffe_id);
        free(l->list[i].svid);
        free(l->list[i].hint);
    }
    free(l->list);
    *l = (struct jwt_list){0};
}

static int add_jwt(struct jwt_list *l, const struct wire_field *outer, struct err *e)
{
    struct cur c = cur_of(outer->bytes.p, outer->bytes.len);
    struct wire_field f;
    struct spiffe_id id;
    if (outer->type != WIRE_BYTES || l->n == LIMIT_SVIDS)
        return bad(e, "too many JWT-SVIDs, or a field of another type");
    struct wl_jwt *list = grow(l->list, l->n, sizeof *list);
    if (!list)
        return no_memory(e);
    l->list = list;
    struct wl_jwt *at = &list[l->n++];
    *at = (struct wl_jwt){0};
    while (wire_next(&c, &f)) {
        char **dst = f.number == 1   ? &at->spiffe_id
                     : f.number == 2 ? &at->svid
                     : f.number == 3 ? &at->hint
                                     : NULL;
        if (dst && set_text(dst, &f, f.number == 2 ? LIMIT_JWT : SPIFFE_ID_MAX, e) < 0)
            return -1;
    }
    if (!cur_done(&c) || !at->spiffe_id || !at->svid)
        return bad(e, "a JWT-SVID is not whole");
    if (!at->hint && !(at->hint = strdup("")))
        return no_memory(e);
    return spiffe_parse(&id, at->spiffe_id, strlen(at->spiffe_id), e);
}

int parse_jwt(struct jwt_list *out, struct bytes msg, struct err *e)
{
    struct cur c = cur_of(msg.p, msg.len);
    struct wire_field f;
    *out = (struct jwt_list){0};
    while (wire_next(&c, &f)) {
        if (f.number == 1 && add_jwt(out, &f, e) < 0) {
            jwt_list_free(out);
            return -1;
        }
    }
    if (cur_done(&c) && out->n)
        return 0;
    jwt_list_free(out);
    return bad(e, "there is no JWT-SVID in it");
}
