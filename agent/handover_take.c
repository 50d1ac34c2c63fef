/* What was handed over, judged: of the same agent and authority, each SVID verified as one that comes from there is,
 * each time within its bounds. What does not serve any more is left out, and is obtained as if it had never been. */
#include "agent/handover.h"
#include "base/clock.h"
#include "base/log.h"
#include <stdlib.h>
#include <string.h>

static int chain_pem(const struct wl_svid *s, struct buf *pem, struct err *e)
{
    const uint8_t *p = s->chain, *end = s->chain + s->chain_len;
    int rc = 0;
    for (int n = 0; rc == 0 && p < end; n++) {
        X509 *x = n < CHAIN_CERTS_MAX ? d2i_X509(NULL, &p, end - p) : NULL;
        rc = x ? x509_to_pem(pem, x, e) : err_set(e, ERR_CORRUPT, "chain", "its chain is damaged");
        X509_free(x);
    }
    return rc;
}

static int verify(const struct agent *a, const struct wl_svid *s, struct agent_verified *v, struct err *e)
{
    struct acme_identity i = {.key = key_from_pkcs8_secret(&s->key, e)};
    buf_init(&i.chain_pem, CHAIN_PEM_MAX);
    int rc = i.key ? chain_pem(s, &i.chain_pem, e) : -1;
    if (rc == 0)
        rc = agent_verify(v, &a->self.trust, &i, s->spiffe_id, clock_wall(), e);
    acme_identity_free(&i);
    return rc;
}

/* Renewed, and asked about, when it would have been (after a revocation that is now); a plan that can not be is made
 * anew. */
static void resume(struct identity *i, const struct agent_verified *v)
{
    int64_t now = clock_mono_ms();
    i->svid->not_before = v->not_before;
    i->svid->not_after = v->not_after;
    strcpy(i->cert_id, v->cert_id);
    i->until_ms = v->not_after * 1000;
    if (i->from_ms >= i->until_ms || i->renew_wall_ms >= i->until_ms) {
        i->from_ms = v->not_before * 1000;
        i->renew_wall_ms = renew_at(i->from_ms, i->until_ms, dice_throw());
        i->renew_mono_ms = now + (i->renew_wall_ms - clock_wall_ms());
    }
    if (!*i->cert_id)
        i->ari_mono_ms = INT64_MAX;
    else if (i->ari_mono_ms > now + ari_poll_ms(i->from_ms, i->until_ms, 0, UINT32_MAX))
        i->ari_mono_ms = now + ari_poll_ms(i->from_ms, i->until_ms, 0, dice_throw());
    i->tried = true;
}

static size_t take_svids(struct agent *a, struct identities *s)
{
    size_t kept = 0;
    for (size_t k = 0; k < s->n; k++) {
        struct identity *i = s->list[k];
        struct agent_verified v;
        struct err e;
        if (!i->svid)
            continue;
        if (verify(a, i->svid, &v, &e) == 0) {
            resume(i, &v);
            kept++;
        } else {
            log_info("an SVID that was handed over serves no more", "id", i->spiffe_id, "why", e.msg, NULL);
            identity_drop_svid(i);
            i->from_ms = 0;
        }
    }
    return kept;
}

/* Only beside the roots that are trusted now, as what state_dir has (bundle.c, which makes of it what is served). */
static void take_bundle(struct agent *a, struct handed *h)
{
    struct self *s = &a->self;
    struct bundle_doc doc;
    struct err e;
    if (h->bundle.len == 0 || bundle_doc_parse(&doc, (struct bytes){h->bundle.p, h->bundle.len}, &e) < 0)
        return;
    bool whole = h->crls_count == (*doc.crl_base ? doc.crl_shards : 0);
    for (unsigned i = 0; i < h->crls_count; i++)
        whole = whole && (h->crls[i].der.len == 0 || crl_whole(&h->crls[i].der, NULL));
    if (bytes_eq((struct bytes){s->trust.roots_pem.p, s->trust.roots_pem.len}, doc.roots_pem.p, doc.roots_pem.len)) {
        buf_free(&s->bundle);
        s->bundle = h->bundle;
        buf_init(&h->bundle, 0);
        if (whole) {
            self_crls_free(s);
            s->crls = h->crls;
            s->crls_count = h->crls_count;
            h->crls = NULL;
            h->crls_count = 0;
        }
    }
    bundle_doc_free(&doc);
}

void handover_take(struct agent *a, struct handed *h)
{
    int64_t now = clock_mono_ms();
    if (!h->id)
        return;
    if (strcmp(h->id, a->config->id) != 0 || strcmp(h->server, a->config->server) != 0) {
        log_info("another agent or authority is configured: nothing of the one before is served", NULL);
        return;
    }
    take_bundle(a, h);
    size_t kept = take_svids(a, &h->identities);
    a->identities = h->identities;
    memset(&h->identities, 0, sizeof h->identities);
    strcpy(a->version, h->version);
    a->entries_revoked = h->entries_revoked;
    a->entries_at_ms = h->entries_at_ms < now ? h->entries_at_ms : now;
    a->entries_of_ms = h->entries_of_ms < now ? h->entries_of_ms : now;
    a->entries_known = true;
    log_info("what is valid is served on", "entries", log_num((long long)a->identities.n), "SVIDs",
             log_num((long long)kept), NULL);
}
