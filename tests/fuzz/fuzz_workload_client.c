/* What a server sends: first byte even: bytes of a connection into the client's session; odd: one message, as
 * each of the answers that are parsed. What is taken keeps its promises.
 */
#include "workload/client.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void need(bool good)
{
    if (!good)
        abort();
}

static void check_state(const struct wl_state *s)
{
    need(s->n >= 1 && s->n <= LIMIT_SVIDS && s->bundles->n >= 1 && s->bundles->n <= LIMIT_BUNDLES);
    for (size_t i = 0; i < s->n; i++) {
        const struct wl_svid *v = s->svids[i];
        need(v->key.p && v->key.len && v->chain_len && v->hint && v->not_before <= v->not_after);
        need(strncmp(v->spiffe_id, "spiffe://", 9) == 0);
    }
    size_t n = strlen(s->bundles->list[0].trust_domain); /* ours is the first SVID's */
    need(strncmp(s->svids[0]->spiffe_id + 9, s->bundles->list[0].trust_domain, n) == 0 &&
         s->svids[0]->spiffe_id[9 + n] == '/');
    for (size_t i = 0; i < s->bundles->n; i++)
        need(s->bundles->list[i].trust_domain[0]);
}

static void as_message(struct bytes m)
{
    struct err e;
    struct wl_state *s = parse_x509(m, &e);
    if (s)
        check_state(s);
    struct wl_bundles *b = parse_jwt_bundles(m, &e);
    if (s && b) {
        struct wl_bundles *both = parse_join(s->bundles, b, &e);
        need(!both || both->n >= s->bundles->n);
        wl_bundles_unref(both);
    }
    wl_state_unref(s);
    wl_bundles_unref(b);
    struct jwt_list l;
    if (parse_jwt(&l, m, &e) == 0) {
        need(l.n >= 1 && l.list[0].svid && l.list[0].hint);
        jwt_list_free(&l);
    }
}

static unsigned answers;
static void on_state(void *arg, struct wl_state *s)
{
    check_state(s);
}
static void on_trouble(void *arg, enum wl_status status, const struct err *e)
{
    need(e->code != ERR_NONE && e->rule[0] && e->msg[0]);
}
static void on_answer(void *arg, const struct wl_jwt *list, size_t n, enum wl_status status,
                      const struct err *e)
{
    answers++;
    need((status == WL_OK) == (n > 0));
}

static struct event_base *base;

static void as_connection(const uint8_t *p, size_t len, size_t step)
{
    static const struct wl_client_ops ops = {NULL, on_state, on_trouble};
    static const char *const audience[] = {"a"};
    struct err e;
    struct wl_client *c = wl_client_new(base, "/nowhere", true, &ops, &e);
    need(c && client_session(c, &e) == 0);
    struct stream *x = stream_new(c, STREAM_X509), *j = stream_new(c, STREAM_JWKS);
    need(stream_submit(x, &e) == 0 && stream_submit(j, &e) == 0);
    answers = 0;
    c->busy = true; /* no loop is to be woken */
    need(wl_client_jwt(c, audience, 1, "", on_answer, NULL, &e) == 0);
    nghttp2_session_send(c->h2); /* requests 1, 3 and 5 are out */
    for (size_t at = 0, n; c->h2 && at < len; at += n) {
        n = len - at < step ? len - at : step;
        c->busy = true;
        client_feed(c, p + at, n);
        client_settle(c);
    }
    need(c->h2 || answers == 1); /* the end of a connection is told to who waits */
    c->busy = false; /* a client that is at work is freed later, and here no turn came */
    wl_client_free(c);
    need(answers <= 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (!base)
        base = event_base_new();
    if (len == 0)
        return 0;
    if (data[0] & 1)
        as_message((struct bytes){data + 1, len - 1});
    else
        as_connection(data + 1, len - 1, data[0] & 2 ? 1 + (size_t)(data[0] >> 2) : SIZE_MAX);
    return 0;
}
