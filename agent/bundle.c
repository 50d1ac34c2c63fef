/* Roots, JWT keys and CRLs: fetched when the bundle says, and with each renewal of the agent's own SVID. */
#include "agent/daemon.h"
#include "base/clock.h"
#include "base/log.h"
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

#define HINT_DEFAULT 300
#define HINT_LEAST 10
#define RETRY_S 5
#define KEPT_TRIES 6 /* until sets of files are written without CRLs, rather than not */
#define HURRY_MS 5000 /* between two that somebody's unknown key caused */

struct wl_bundles *bundle_make(const char *trust_domain, const struct bundle_doc *doc, struct buf *crls, size_t n,
                               struct err *e)
{
    struct wl_bundles *b = calloc(1, sizeof *b);
    struct wl_bundle *own = calloc(1, sizeof *own);
    char *name = strdup(trust_domain);
    if (!b || !own || !name) {
        for (size_t i = 0; i < n; i++)
            buf_free(&crls[i]);
        free(crls);
        free(b);
        free(own);
        free(name);
        err_set(e, ERR_INTERNAL, "memory", "out of memory for the bundle");
        return NULL;
    }
    atomic_init(&b->refs, 1);
    b->list = own;
    b->n = 1;
    b->crls = crls;
    b->crls_count = n;
    own->trust_domain = name;
    buf_init(&own->x509, BUNDLE_MAX);
    buf_init(&own->jwks, ANSWER_MAX);
    buf_put(&own->x509, doc->roots_der.p, doc->roots_der.len);
    buf_put(&own->jwks, doc->jwks.p, doc->jwks.len);
    if (!own->x509.failed && !own->jwks.failed)
        return b;
    wl_bundles_unref(b);
    err_set(e, ERR_INTERNAL, "memory", "out of memory for the bundle");
    return NULL;
}

static void bundle_adopt(struct agent *a, struct wl_bundles *b) /* takes over b */
{
    wl_bundles_unref(a->bundles);
    a->bundles = b;
    engine_changed(a, NULL);
}

static void again(struct agent *a, unsigned seconds)
{
    struct timeval t = {(time_t)seconds, (suseconds_t)(dice_throw() % 1000000)};
    evtimer_add(a->bundle_timer, &t);
}

static void on_bundle(struct task *t)
{
    struct job *j = (struct job *)t;
    struct agent *a = j->agent;
    a->bundle_busy = false;
    if (t->worked) {
        gate_reached(a, j);
        if (j->refresh_hint)
            a->refresh_hint = j->refresh_hint;
        unsigned hint = a->refresh_hint < HINT_LEAST ? HINT_LEAST
                        : a->refresh_hint > HINT_DEFAULT ? HINT_DEFAULT : a->refresh_hint;
        again(a, j->err.code == ERR_NONE ? hint : RETRY_S);
        a->bundles_kept = gate_outage(&j->err) && a->bundles_kept ? a->bundles_kept - 1 : 0;
        if (j->bundles) {
            struct wl_bundles *b = j->bundles;
            j->bundles = NULL;
            bundle_adopt(a, b);
        }
    }
    job_free(j);
}

void bundle_poll(struct agent *a)
{
    struct err e;
    if (a->bundle_busy || a->stopping)
        return;
    if (!gate_open(a)) {
        again(a, RETRY_S);
        return;
    }
    struct job *j = job_new(a, JOB_BUNDLE, a->bundles ? FIRST_BUNDLE : FIRST_NEW, &e);
    if (!j) {
        again(a, RETRY_S);
        return;
    }
    strcpy(j->have, a->bundles ? "1" : "");
    j->task.done = on_bundle;
    a->bundle_busy = true;
    a->bundle_put_ms = clock_mono_ms();
    gate_put(a, j);
}

void bundle_hurry(struct agent *a)
{
    if (a->bundle_put_ms == 0 || clock_mono_ms() - a->bundle_put_ms >= HURRY_MS)
        bundle_poll(a);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    bundle_poll(arg);
}

/* What was written down by the agent before this one is as good as it was: an outage then hurts nobody. */
static void from_state(struct agent *a)
{
    struct bundle_doc doc;
    struct err e;
    if (a->self.bundle.len == 0 ||
        bundle_doc_parse(&doc, (struct bytes){a->self.bundle.p, a->self.bundle.len}, &e) < 0)
        return;
    /* Only beside the roots that are trusted now: another trust_bundle may have been configured since. */
    if (bytes_eq((struct bytes){a->self.trust.roots_pem.p, a->self.trust.roots_pem.len}, doc.roots_pem.p,
                 doc.roots_pem.len)) {
        a->bundles = self_bundles(&a->self, &doc, &e);
        a->bundles_kept = a->bundles && a->self.crls_count != (*doc.crl_base ? doc.crl_shards : 0) ? KEPT_TRIES : 0;
    }
    bundle_doc_free(&doc);
}

int bundle_start(struct agent *a, struct err *e)
{
    a->refresh_hint = HINT_DEFAULT;
    a->bundle_timer = evtimer_new(a->base, on_timer, a);
    if (!a->bundle_timer)
        return err_set(e, ERR_INTERNAL, "memory", "out of memory for a timer");
    from_state(a);
    return 0;
}
