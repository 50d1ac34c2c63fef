/* What workload/ asks of the agent: calls come in, and wait in their caller until there is an answer. */
#include "agent/callers.h"
#include "agent/jwt_validate.h"
#include "base/clock.h"
#include "tlog/record.h"
#include <stdlib.h>
#include <string.h>

#define JWT_OPEN_MAX 16 /* of one connection */

static void *on_connect(void *arg, int fd)
{
    return caller_new(arg, fd);
}

static void on_disconnect(void *arg, void *caller)
{
    caller_gone(caller);
}

static struct call *call_new(struct caller *c, struct wl_call *wl, enum call_kind kind)
{
    struct call *k = calloc(1, sizeof *k);
    if (!k) {
        wl_call_fail(wl, WL_INTERNAL, "out of memory");
        return NULL;
    }
    k->wl = wl;
    k->kind = kind;
    k->since_ms = clock_mono_ms();
    k->round = c->round;
    k->next = c->calls;
    c->calls = k;
    wl_call_set_data(wl, k);
    return k;
}

static void on_watch(void *arg, void *caller, struct wl_call *wl)
{
    struct call *k = call_new(caller, wl, CALL_WATCH);
    if (k)
        caller_tell(caller, false); /* what others were told is as it was */
}

/* Each may become a request to the authority: one caller does not fill the queue for all. */
static size_t jwt_open(const struct caller *c)
{
    size_t n = 0;
    for (const struct call *k = c->calls; k; k = k->next)
        n += k->kind == CALL_JWT;
    return n;
}

/* What the authority would refuse, and its log tell of, is refused here: it is the asker's fault. */
static const char *audience_fault(const char *const *audience, size_t n)
{
    char clean[TLOG_AUDIENCE_MAX + 1];
    size_t bytes = 0;
    for (size_t i = 0; i < n; i++) {
        size_t len = strlen(audience[i]);
        if (len == 0 || len > TLOG_AUDIENCE_MAX || tlog_text_clean(clean, sizeof clean, audience[i], len) != len ||
            memcmp(clean, audience[i], len) != 0)
            return "an audience is empty, longer than 255 bytes, or has control characters";
        bytes += 1 + len;
    }
    return n == 0 ? "no audience" : n > TLOG_AUDIENCES_MAX || bytes > TLOG_AUDIENCES_BYTES ? "too many audiences" : NULL;
}

static void on_jwt(void *arg, void *caller, struct wl_call *wl, const char *const *audience, size_t n,
                   const char *spiffe_id)
{
    struct caller *c = caller;
    const char *fault = audience_fault(audience, n);
    if (fault) {
        wl_call_fail(wl, WL_INVALID_ARGUMENT, fault);
        return;
    }
    if (jwt_open(c) >= JWT_OPEN_MAX) {
        wl_call_fail(wl, WL_RESOURCE_EXHAUSTED, "too many JWT-SVIDs asked for at once");
        return;
    }
    struct call *k = call_new(c, wl, CALL_JWT);
    if (!k)
        return;
    k->spiffe_id = strdup(spiffe_id);
    k->audience = calloc(n + 1, sizeof *k->audience);
    for (size_t i = 0; k->audience && i < n && (k->audience[i] = strdup(audience[i])); i++)
        k->audience_count++;
    if (k->spiffe_id && k->audience_count == n)
        caller_tell(c, false);
    else
        wl_call_fail(wl, WL_INTERNAL, "out of memory");
}

static void on_validate(void *arg, void *caller, struct wl_call *wl, const char *audience, const char *svid)
{
    struct agent *a = arg;
    struct caller *c = caller;
    struct jwt_claims claims;
    struct err e;
    if (c->state == CALLER_LOST || !peer_alive(c->peer)) {
        wl_call_fail(wl, WL_PERMISSION_DENIED, "the process that connected is not the one any more");
    } else if (!a->bundles) {
        wl_call_fail(wl, WL_UNAVAILABLE, "the agent has no bundle yet");
    } else if (jwt_validate(&claims, svid, strlen(svid), &a->bundles->list[0], audience, clock_wall(), &e) < 0) {
        a->counters.jwt_refused++;
        if (strcmp(e.rule, "jwt-kid") == 0)
            bundle_hurry(a); /* perhaps a key that is newer than what is known here */
        wl_call_fail(wl, WL_INVALID_ARGUMENT, e.msg);
    } else {
        a->counters.jwt_validated++;
        wl_call_claims(wl, claims.spiffe_id, (const char *)claims.payload.p, claims.payload.len);
        buf_free(&claims.payload);
    }
}

static void on_cancel(void *arg, void *caller, struct wl_call *wl)
{
    struct caller *c = caller;
    struct call *k = wl_call_data(wl);
    for (struct call **at = &c->calls; k && *at; at = &(*at)->next)
        if (*at == k) {
            *at = k->next;
            waiting_free(k);
            return;
        }
}

const struct wl_provider provider_calls = {.connect = on_connect,
                                           .disconnect = on_disconnect,
                                           .watch = on_watch,
                                           .jwt = on_jwt,
                                           .validate = on_validate,
                                           .cancel = on_cancel};
