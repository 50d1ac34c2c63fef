/* A Workload API whose provider is made up: an authority in memory, two identities for whoever asks, a
 * federated trust domain. For workload_api.py. Usage: workload_fake SOCKET
 *
 *   SIGUSR1  new SVIDs for everybody (says "rotated N")
 *   SIGUSR2  the next mode: ok, nobody has an identity, starting, ok, … (says "mode WORD")
 *   SIGTERM  ends
 * Some audiences ask for more: "late" is answered a moment later, "never" not at all.
 */
#include "base/clock.h"
#include "base/jose.h"
#include "base/log.h"
#include "unit/workload/fake.h"
#include <event2/event.h>
#include <signal.h>

#define TD "test.example"

struct call {
    struct call *next;
    struct wl_call *c;
    struct event *late; /* a JWT that comes later */
    bool watching;
};
enum mode { OK, NOBODY, STARTING };
static struct {
    struct event_base *base;
    struct wl_server *server;
    struct fake_ca ca, other;
    struct key *jwt_key;
    char kid[44];
    struct wl_bundles *bundles;
    struct wl_state *state, *nobody;
    struct call *calls;
    enum mode mode;
    long serial;
    unsigned connected;
} f;

static void say(const char *what, long n)
{
    printf("%s %ld\n", what, n);
    fflush(stdout);
}

/* --- what is handed out ----------------------------------------------------------------------------- */

static void make_jwt_key(struct buf *jwks)
{
    struct err e;
    struct buf jwk;
    buf_init(&jwk, 4096);
    FAKE_CHECK((f.jwt_key = key_generate(KEY_P256, &e)) && jwk_thumbprint(f.kid, f.jwt_key, &e) == 0);
    FAKE_CHECK(jwk_write(&jwk, f.jwt_key, &e) == 0);
    buf_fmt(jwks, "{\"keys\":[{\"use\":\"jwt-svid\",\"kid\":\"%s\",%s]}", f.kid, buf_cstr(&jwk) + 1);
    buf_free(&jwk);
}

static void rotate(void)
{
    struct wl_svid *v[2] = {fake_svid(&f.ca, "spiffe://" TD "/web", "web", ++f.serial),
                            fake_svid(&f.ca, "spiffe://" TD "/db", "", f.serial)};
    wl_state_unref(f.state);
    f.state = fake_state(v, 2, wl_bundles_ref(f.bundles));
}

static void setup(void)
{
    struct buf jwks;
    buf_init(&jwks, 8192);
    make_jwt_key(&jwks);
    f.ca = fake_ca_new("spiffe://" TD, 1);
    f.other = fake_ca_new("spiffe://other.example", 2);
    f.bundles = fake_bundles(&f.ca, TD, buf_cstr(&jwks), &f.other, "other.example");
    f.nobody = fake_state(NULL, 0, wl_bundles_ref(f.bundles));
    buf_free(&jwks);
    rotate();
}

static void tell(struct call *k)
{
    if (f.mode == OK)
        wl_call_state(k->c, f.state);
    else if (f.mode == NOBODY)
        wl_call_state(k->c, f.nobody);
    else
        wl_call_fail(k->c, WL_UNAVAILABLE, "the agent is starting: 100% soon");
}

/* --- JWTs ------------------------------------------------------------------------------------------- */

static void make_jwt(struct buf *out, const char *id, const char *const *audience, size_t n)
{
    struct buf header, claims;
    struct err e;
    uint8_t sig[512];
    buf_init(&header, 1024);
    buf_init(&claims, 65536);
    buf_fmt(&header, "{\"alg\":\"ES256\",\"kid\":\"%s\",\"typ\":\"JWT\"}", f.kid);
    buf_fmt(&claims, "{\"sub\":\"%s\",\"exp\":%lld,\"deep\":{\"list\":[1,null,true,{\"x\":\"y\"}]},\"aud\":[",
            id,
            (long long)clock_wall() + 300);
    for (size_t i = 0; i < n; i++) {
        buf_str(&claims, i ? "," : "");
        jw_str(&claims, audience[i]);
    }
    buf_str(&claims, "]}");
    buf_b64url(out, header.p, header.len);
    buf_str(out, ".");
    buf_b64url(out, claims.p, claims.len);
    long len = key_sign(f.jwt_key, false, sig, sizeof sig, out->p, out->len, &e);
    FAKE_CHECK(len > 0);
    buf_str(out, ".");
    buf_b64url(out, sig, (size_t)len);
    buf_free(&header);
    buf_free(&claims);
}

static void answer_jwt(struct wl_call *c, const char *const *audience, size_t n, const char *want)
{
    struct wl_jwt list[2];
    struct buf text[2];
    size_t have = 0;
    for (size_t i = 0; i < f.state->n; i++) {
        struct wl_svid *v = f.state->svids[i];
        if (*want && strcmp(want, v->spiffe_id) != 0)
            continue;
        buf_init(&text[have], 65536);
        make_jwt(&text[have], v->spiffe_id, audience, n);
        union {
            const char *in;
            char *out;
        } u = {.in = buf_cstr(&text[have])};
        list[have++] = (struct wl_jwt){v->spiffe_id, u.out, v->hint};
    }
    if (have == 0)
        wl_call_fail(c, WL_PERMISSION_DENIED, "no identity of this name");
    else
        wl_call_jwt(c, list, have);
    while (have > 0)
        buf_free(&text[--have]);
}

static bool has_audience(const json_t *claims, const char *audience)
{
    const json_t *aud = json_object_get(claims, "aud");
    for (size_t i = 0; i < json_array_size(aud); i++)
        if (strcmp(json_string_value(json_array_get(aud, i)), audience) == 0)
            return true;
    return false;
}

static void validate(void *arg, void *caller, struct wl_call *c, const char *audience, const char *svid)
{
    uint8_t sig[64], claims[8192];
    struct err e;
    const char *one = strchr(svid, '.'), *two = one ? strchr(one + 1, '.') : NULL;
    long n = two ? b64url_decode(claims, sizeof claims, one + 1, (size_t)(two - one - 1)) : -1;
    if (n < 0 || b64url_decode(sig, sizeof sig, two + 1, strlen(two + 1)) != 64 ||
        key_verify(f.jwt_key, false, sig, 64, svid, (size_t)(two - svid), &e) < 0) {
        wl_call_fail(c, WL_INVALID_ARGUMENT, "the token's signature is not ours");
        return;
    }
    json_t *j = json_parse(claims, (size_t)n, sizeof claims, &e);
    FAKE_CHECK(j);
    if (has_audience(j, audience))
        wl_call_claims(c, json_string_value(json_object_get(j, "sub")), (const char *)claims, (size_t)n);
    else
        wl_call_fail(c, WL_INVALID_ARGUMENT, "the token is for another audience");
    json_decref(j);
}

/* --- provider --------------------------------------------------------------------------------------- */

static void *on_connect(void *arg, int fd)
{
    f.connected++;
    return &f;
}

static void on_disconnect(void *arg, void *caller)
{
    f.connected--;
}

static struct call *keep(struct wl_call *c)
{
    struct call *k = calloc(1, sizeof *k);
    k->c = c;
    k->next = f.calls;
    f.calls = k;
    wl_call_set_data(c, k);
    return k;
}

static void watch(void *arg, void *caller, struct wl_call *c)
{
    struct call *k = keep(c);
    k->watching = true;
    tell(k);
}

static void on_late(evutil_socket_t fd, short what, void *arg)
{
    struct call *k = arg;
    static const char *const audience[] = {"late"};
    answer_jwt(k->c, audience, 1, "");
}

static void jwt(void *arg, void *caller, struct wl_call *c, const char *const *audience, size_t n,
                const char *id)
{
    struct call *k = keep(c);
    struct timeval soon = {.tv_usec = 50000};
    if (strcmp(audience[0], "never") == 0)
        return;
    if (f.mode != OK) {
        wl_call_fail(c, f.mode == NOBODY ? WL_PERMISSION_DENIED : WL_UNAVAILABLE, "not now");
    } else if (strcmp(audience[0], "late") == 0) {
        k->late = evtimer_new(f.base, on_late, k);
        evtimer_add(k->late, &soon);
    } else {
        answer_jwt(c, audience, n, id);
    }
}

static void cancel(void *arg, void *caller, struct wl_call *c)
{
    struct call **at = &f.calls;
    while (*at && (*at)->c != c)
        at = &(*at)->next;
    if (!*at)
        return; /* validate keeps nothing */
    struct call *k = *at;
    FAKE_CHECK(wl_call_data(c) == k);
    *at = k->next;
    if (k->late)
        event_free(k->late);
    free(k);
}

static void on_signal(evutil_socket_t sig, short what, void *arg)
{
    if (sig == SIGTERM) {
        event_base_loopbreak(f.base);
        return;
    }
    if (sig == SIGUSR1)
        rotate();
    else
        f.mode = (f.mode + 1) % 3;
    for (struct call *k = f.calls; k; k = k->next)
        if (k->watching)
            tell(k);
    if (sig == SIGUSR1)
        say("rotated", f.serial);
    else
        say("mode", f.mode);
}

int main(int argc, char **argv)
{
    struct err e;
    static const int signals[] = {SIGUSR1, SIGUSR2, SIGTERM};
    struct event *ev[3];
    struct wl_provider p = {NULL, on_connect, on_disconnect, watch, jwt, validate, cancel};
    struct wl_limits l = {.connections_per_uid = 600};
    if (argc != 2)
        return 2;
    log_setup("workload_fake", LOG_INFO, LOG_TEXT);
    f.base = event_base_new();
    setup();
    int fd = wl_socket_listen(argv[1], 0666, &e);
    if (fd < 0 || !(f.server = wl_server_new(f.base, fd, &p, &l, &e))) {
        log_err(LOG_ERROR, "cannot serve", &e);
        return 1;
    }
    for (int i = 0; i < 3; i++) {
        ev[i] = evsignal_new(f.base, signals[i], on_signal, NULL);
        event_add(ev[i], NULL);
    }
    say("ready", f.serial);
    event_base_dispatch(f.base);
    wl_server_free(f.server);
    FAKE_CHECK(f.calls == NULL && f.connected == 0);
    for (int i = 0; i < 3; i++)
        event_free(ev[i]);
    wl_state_unref(f.state);
    wl_state_unref(f.nobody);
    wl_bundles_unref(f.bundles);
    fake_ca_free(&f.ca);
    fake_ca_free(&f.other);
    key_free(f.jwt_key);
    event_base_free(f.base);
    say("ended", 0);
    return 0;
}
