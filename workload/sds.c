#include "workload/sds.h"
#include "workload/encode.h"
#include "workload/pb.h"
#include "base/der.h"
#include "base/spiffe.h"
#include <string.h>

/* protobuf-c's names carry the whole package. */
typedef Envoy__Service__Secret__V3__Secret Secret;
typedef Envoy__Service__Secret__V3__TlsCertificate TlsCertificate;
typedef Envoy__Service__Secret__V3__CertificateValidationContext ValidationContext;
typedef Envoy__Service__Secret__V3__DataSource DataSource;
typedef Envoy__Service__Secret__V3__TypedExtensionConfig ExtensionConfig;
typedef Envoy__Service__Secret__V3__SPIFFECertValidatorConfig ValidatorConfig;
typedef Envoy__Service__Secret__V3__SPIFFECertValidatorConfig__TrustDomain TrustDomain;
typedef Envoy__Service__Secret__V3__DiscoveryResponse DiscoveryResponse;
typedef Google__Protobuf__Any Any;

static char type_secret[] = SDS_TYPE_SECRET;
static char type_validator[] = SDS_TYPE_TLS "SPIFFECertValidatorConfig";
static char validator_name[] = "envoy.tls.cert_validator.spiffe";

/* What a name stands for: exactly one of them. */
struct item {
    struct wl_svid *svid;
    const struct wl_bundle *bundle;
    bool all;
};

static bool find(const struct wl_state *st, const char *name, struct item *it)
{
    size_t bundles = st->bundles ? st->bundles->n : 0;
    *it = (struct item){0};
    if (strcmp(name, "default") == 0 && st->n)
        it->svid = st->svids[0];
    else if (strcmp(name, "ROOTCA") == 0 && bundles)
        it->bundle = &st->bundles->list[0];
    else if (strcmp(name, "ALL") == 0 && bundles)
        it->all = true;
    for (size_t i = 0; !it->svid && i < st->n; i++)
        if (strcmp(name, st->svids[i]->spiffe_id) == 0)
            it->svid = st->svids[i];
    for (size_t i = 0; !it->bundle && i < bundles; i++)
        if (strncmp(name, "spiffe://", 9) == 0 && strcmp(name + 9, st->bundles->list[i].trust_domain) == 0)
            it->bundle = &st->bundles->list[i];
    return it->svid || it->bundle || it->all;
}

const char *sds_unknown(const struct wl_state *st, const struct names *names)
{
    struct item it;
    for (const char *n = NULL; (n = names_next(names, n));)
        if (!find(st, n, &it))
            return n;
    return NULL;
}

/* Another list may come for its CRLs' sake, which no secret shows. */
static bool same_roots(const struct wl_bundles *a, const struct wl_bundles *b)
{
    bool same = a == b || (a && b && a->n == b->n);
    for (size_t i = 0; same && a != b && i < a->n; i++) {
        const struct wl_bundle *x = &a->list[i], *y = &b->list[i];
        same = strcmp(x->trust_domain, y->trust_domain) == 0 &&
               bytes_eq((struct bytes){x->x509.p, x->x509.len}, y->x509.p, y->x509.len);
    }
    return same;
}

bool sds_same(const struct names *names, const struct wl_state *a, const struct wl_state *b)
{
    if (a == b)
        return true;
    if (names->n == 0) {
        if (a->n != b->n || !same_roots(a->bundles, b->bundles))
            return false;
        for (size_t i = 0; i < a->n; i++)
            if (a->svids[i] != b->svids[i])
                return false;
        return true;
    }
    for (const char *n = NULL; (n = names_next(names, n));) {
        struct item x, y;
        if (!find(a, n, &x) || !find(b, n, &y) || x.svid != y.svid)
            return false;
        if (!x.svid && !same_roots(a->bundles, b->bundles))
            return false;
    }
    return true;
}

/* --- PEM, made where it lies ------------------------------------------------------------------------ */

static size_t pem_len(const char *label, size_t n)
{
    size_t text = B64_LEN(n);
    return 2 * strlen(label) + 32 + text + (text + 63) / 64;
}

static uint8_t *pem_write(uint8_t *at, const char *label, struct bytes der)
{
    char line[65]; /* holds key material: wiped below */
    size_t n;
    at = (uint8_t *)stpcpy(stpcpy(stpcpy((char *)at, "-----BEGIN "), label), "-----\n");
    for (size_t i = 0; i < der.len; i += n) {
        n = der.len - i < 48 ? der.len - i : 48;
        size_t text = b64_encode(line, der.p + i, n);
        memcpy(at, line, text);
        at[text] = '\n';
        at += text + 1;
    }
    secret_wipe(line, sizeof line);
    return (uint8_t *)stpcpy(stpcpy(stpcpy((char *)at, "-----END "), label), "-----\n");
}

/* DER elements one after the other, each as PEM. -1: they are no such thing, or the scratch is full. */
static int pem_source(struct scratch *s, const char *label, struct bytes der, DataSource **out)
{
    struct cur c = cur_of(der.p, der.len);
    struct bytes contents, whole;
    uint8_t tag;
    size_t total = 1; /* stpcpy's NUL */
    while (cur_left(&c) && der_any(&c, &tag, &contents, &whole) == 0)
        total += pem_len(label, whole.len);
    uint8_t *p = scratch_take(s, total), *at = p;
    DataSource *d = scratch_take(s, sizeof *d);
    if (!cur_done(&c) || !d)
        return -1;
    for (c = cur_of(der.p, der.len); cur_left(&c) && der_any(&c, &tag, &contents, &whole) == 0;)
        at = pem_write(at, label, whole);
    *d = (DataSource)ENVOY__SERVICE__SECRET__V3__DATA_SOURCE__INIT;
    d->inline_bytes = (ProtobufCBinaryData){.len = (size_t)(at - p), .data = p};
    *out = d;
    return 0;
}

static int bundle_source(struct scratch *s, const struct wl_bundle *b, DataSource **out)
{
    return pem_source(s, "CERTIFICATE", (struct bytes){b->x509.p, b->x509.len}, out);
}

/* --- secrets ---------------------------------------------------------------------------------------- */

/* Any holds packed bytes, so what goes into it is packed first, into the scratch as well. */
static Any *any_of(struct scratch *s, char *type_url, const ProtobufCMessage *m)
{
    Any *any = scratch_take(s, sizeof *any);
    size_t n = protobuf_c_message_get_packed_size(m);
    uint8_t *p = scratch_take(s, n + 1);
    if (!p)
        return NULL;
    protobuf_c_message_pack(m, p);
    *any = (Any)GOOGLE__PROTOBUF__ANY__INIT;
    any->type_url = type_url;
    any->value = (ProtobufCBinaryData){.len = n, .data = p};
    return any;
}

static Any *svid_secret(struct scratch *s, char *name, const struct wl_svid *v)
{
    Secret m = ENVOY__SERVICE__SECRET__V3__SECRET__INIT;
    TlsCertificate t = ENVOY__SERVICE__SECRET__V3__TLS_CERTIFICATE__INIT;
    if (pem_source(s, "CERTIFICATE", (struct bytes){v->chain, v->chain_len}, &t.certificate_chain) < 0 ||
        pem_source(s, "PRIVATE KEY", (struct bytes){v->key.p, v->key.len}, &t.private_key) < 0)
        return NULL;
    m.name = name;
    m.tls_certificate = &t;
    return any_of(s, type_secret, &m.base);
}

static Any *bundle_secret(struct scratch *s, char *name, const struct wl_bundle *b)
{
    Secret m = ENVOY__SERVICE__SECRET__V3__SECRET__INIT;
    ValidationContext v = ENVOY__SERVICE__SECRET__V3__CERTIFICATE_VALIDATION_CONTEXT__INIT;
    if (bundle_source(s, b, &v.trusted_ca) < 0)
        return NULL;
    m.name = name;
    m.validation_context = &v;
    return any_of(s, type_secret, &m.base);
}

static Any *all_secret(struct scratch *s, char *name, const struct wl_bundles *b)
{
    Secret m = ENVOY__SERVICE__SECRET__V3__SECRET__INIT;
    ValidationContext v = ENVOY__SERVICE__SECRET__V3__CERTIFICATE_VALIDATION_CONTEXT__INIT;
    ExtensionConfig x = ENVOY__SERVICE__SECRET__V3__TYPED_EXTENSION_CONFIG__INIT;
    ValidatorConfig config = ENVOY__SERVICE__SECRET__V3__SPIFFECERT_VALIDATOR_CONFIG__INIT;
    TrustDomain *all = scratch_take(s, (b->n + 1) * sizeof *all);
    config.trust_domains = scratch_take(s, (b->n + 1) * sizeof *config.trust_domains);
    if (!config.trust_domains)
        return NULL;
    for (size_t i = 0; i < b->n; i++) {
        all[i] = (TrustDomain)ENVOY__SERVICE__SECRET__V3__SPIFFECERT_VALIDATOR_CONFIG__TRUST_DOMAIN__INIT;
        all[i].name = b->list[i].trust_domain;
        if (bundle_source(s, &b->list[i], &all[i].trust_bundle) < 0)
            return NULL;
        config.trust_domains[config.n_trust_domains++] = &all[i];
    }
    x.name = validator_name;
    if (!(x.typed_config = any_of(s, type_validator, &config.base)))
        return NULL;
    v.custom_validator_config = &x;
    m.name = name;
    m.validation_context = &v;
    return any_of(s, type_secret, &m.base);
}

static Any *named_secret(struct scratch *s, const struct wl_state *st, const char *name)
{
    struct item it;
    size_t n = strlen(name) + 1;
    char *own = scratch_take(s, n);
    if (!own || !find(st, name, &it))
        return NULL;
    memcpy(own, name, n);
    return it.svid ? svid_secret(s, own, it.svid)
           : it.all ? all_secret(s, own, st->bundles)
                    : bundle_secret(s, own, it.bundle);
}

/* Everything, when nothing was named. */
static int every_secret(struct scratch *s, const struct wl_state *st, DiscoveryResponse *m)
{
    for (size_t i = 0; i < st->n; i++)
        if (!(m->resources[m->n_resources++] = svid_secret(s, st->svids[i]->spiffe_id, st->svids[i])))
            return -1;
    for (size_t i = 0; st->bundles && i < st->bundles->n; i++) {
        char *id = encode_td_id(s, st->bundles->list[i].trust_domain);
        if (!id || !(m->resources[m->n_resources++] = bundle_secret(s, id, &st->bundles->list[i])))
            return -1;
    }
    return 0;
}

int sds_encode(struct scratch *s, const void *sds_arg)
{
    const struct sds_arg *a = sds_arg;
    DiscoveryResponse m = ENVOY__SERVICE__SECRET__V3__DISCOVERY_RESPONSE__INIT;
    size_t most = a->names->n ? a->names->n : a->state->n + (a->state->bundles ? a->state->bundles->n : 0);
    m.version_info = a->version;
    m.nonce = a->nonce;
    m.type_url = type_secret;
    if (!(m.resources = scratch_take(s, (most + 1) * sizeof *m.resources)))
        return -1;
    if (a->names->n == 0 && every_secret(s, a->state, &m) < 0)
        return -1;
    for (const char *n = NULL; (n = names_next(a->names, n));)
        if (!(m.resources[m.n_resources++] = named_secret(s, a->state, n)))
            return -1;
    return scratch_pack(s, &m.base);
}
