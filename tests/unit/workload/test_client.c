/* The client against our server over a real socket, and against servers that lie. */
#include "unit/base/scratch.h"
#include "unit/workload/fake.h"
#include "workload/client.h"
#include <unistd.h>

static struct fake_ca ca;
static struct wl_bundles *bundles;
static struct wl_state *state_a, *state_b, *nobody;
static struct event_base *base;
static char path[100];

/* --- a server of ours with a provider that answers at once ------------------------------------------ */
static struct wl_server *server;
static struct wl_state *current;
static struct wl_call *watching[4];
static bool refuse_jwt;

static void *on_connect(void *arg, int fd)
{
    return &server;
}
static void on_disconnect(void *arg, void *caller)
{
}
static void on_watch(void *arg, void *caller, struct wl_call *c)
{
    for (int i = 0; i < 4; i++)
        if (!watching[i]) {
            watching[i] = c;
            break;
        }
    if (current)
        wl_call_state(c, current);
}
static void on_jwt(void *arg, void *caller, struct wl_call *c, const char *const *audience, size_t n,
                   const char *id)
{
    char name[] = "spiffe://test.example/web", token[64], hint[] = "";
    struct wl_jwt j = {name, token, hint};
    snprintf(token, sizeof token, "%s.%zu.%s", audience[0], n, id);
    if (refuse_jwt)
        wl_call_fail(c, WL_PERMISSION_DENIED, "none for you");
    else
        wl_call_jwt(c, &j, 1);
}
static void on_validate(void *arg, void *caller, struct wl_call *c, const char *audience, const char *svid)
{
}
static void on_cancel(void *arg, void *caller, struct wl_call *c)
{
    for (int i = 0; i < 4; i++)
        if (watching[i] == c)
            watching[i] = NULL;
}
static const struct wl_provider provider = {NULL, on_connect, on_disconnect, on_watch, on_jwt, on_validate,
                                            on_cancel};

static void serve(void)
{
    struct err e;
    int fd = wl_socket_listen(path, 0600, &e);
    if (fd < 0)
        fail_msg("%s", e.msg);
    server = wl_server_new(base, fd, &provider, NULL, &e);
    assert_non_null(server);
}
static void push(struct wl_state *s)
{
    current = s;
    for (int i = 0; i < 4; i++)
        if (watching[i])
            wl_call_state(watching[i], s);
}

/* --- what the client was told ----------------------------------------------------------------------- */
static struct wl_client *client;
static struct {
    unsigned states, troubles, answers;
    size_t svids;
    char chain_end, jwks[64], token[128], rule[32], answer_rule[32];
    enum wl_status status, answer;
    enum { KEEP, FREE_IN_STATE, FREE_IN_TROUBLE, FREE_IN_ANSWER, ASK_IN_STATE } then;
} told;

static void on_answer(void *arg, const struct wl_jwt *list, size_t n, enum wl_status status,
                      const struct err *e)
{
    told.answers++;
    told.answer = status;
    assert_true((status == WL_OK) == (n > 0));
    if (n)
        snprintf(told.token, sizeof told.token, "%s", list[0].svid);
    else
        snprintf(told.answer_rule, sizeof told.answer_rule, "%s", e->rule);
    if (told.then == FREE_IN_ANSWER) {
        wl_client_free(client);
        client = NULL;
    }
}
static int ask(const char *audience)
{
    struct err e;
    return wl_client_jwt(client, &audience, 1, "spiffe://test.example/web", on_answer, NULL, &e);
}
static void on_state(void *arg, struct wl_state *s)
{
    told.states++;
    told.svids = s->n;
    told.chain_end = (char)s->svids[0]->chain[s->svids[0]->chain_len - 1];
    snprintf(told.jwks, sizeof told.jwks, "%.*s", (int)s->bundles->list[0].jwks.len,
             (char *)s->bundles->list[0].jwks.p);
    if (told.then == FREE_IN_STATE) {
        wl_client_free(client);
        client = NULL;
    } else if (told.then == ASK_IN_STATE && told.states == 1) {
        assert_int_equal(ask("inside"), 0);
    }
}
static void on_trouble(void *arg, enum wl_status status, const struct err *e)
{
    told.troubles++;
    told.status = status;
    snprintf(told.rule, sizeof told.rule, "%s", e->rule);
    assert_true(e->code != ERR_NONE && e->msg[0]);
    if (told.then == FREE_IN_TROUBLE) {
        wl_client_free(client);
        client = NULL;
    }
}
static const struct wl_client_ops ops = {NULL, on_state, on_trouble};

static void start(bool jwt)
{
    struct err e;
    char endpoint[120];
    memset(&told, 0, sizeof told);
    snprintf(endpoint, sizeof endpoint, "unix://%s", path);
    client = wl_client_new(base, endpoint, jwt, &ops, &e);
    assert_non_null(client);
    assert_int_equal(told.states + told.troubles, 0); /* never from within */
}
static void on_patience(evutil_socket_t fd, short what, void *arg)
{
    fail_msg("nothing came");
}
#define UNTIL(cond)                                                                                \
    do {                                                                                           \
        struct event *patience_ = evtimer_new(base, on_patience, NULL);                            \
        evtimer_add(patience_, &(struct timeval){.tv_sec = 30});                                   \
        while (!(cond))                                                                            \
            event_base_loop(base, EVLOOP_ONCE);                                                    \
        event_free(patience_);                                                                     \
    } while (0)

static int setup(void **state)
{
    ca = fake_ca_new("spiffe://test.example", 1);
    bundles = fake_bundles(&ca, "test.example", "{\"keys\":[7]}", NULL, NULL);
    struct wl_svid *a = fake_svid(&ca, "spiffe://test.example/web", "", 2);
    struct wl_svid *b = fake_svid(&ca, "spiffe://test.example/web", "", 3);
    state_a = fake_state(&a, 1, wl_bundles_ref(bundles));
    state_b = fake_state(&b, 1, wl_bundles_ref(bundles));
    nobody = fake_state(NULL, 0, wl_bundles_ref(bundles));
    base = event_base_new();
    if (scratch_make(state) < 0)
        return -1;
    snprintf(path, sizeof path, "%s/api/agent.sock", scratch);
    return 0;
}
static int teardown(void **state)
{
    wl_state_unref(state_a);
    wl_state_unref(state_b);
    wl_state_unref(nobody);
    wl_bundles_unref(bundles);
    fake_ca_free(&ca);
    event_base_free(base);
    return scratch_remove(state);
}
static int end(void **state)
{
    wl_client_free(client);
    client = NULL;
    wl_server_free(server);
    server = NULL;
    current = NULL;
    refuse_jwt = false;
    unlink(path);
    assert_int_equal(state_a->refs, 1);
    assert_int_equal(state_b->refs, 1);
    return 0;
}

static void test_states(void **state)
{
    serve();
    current = state_a;
    start(true);
    assert_int_equal(ask("early"), 0); /* before there is a connection */
    UNTIL(told.states >= 2 && told.jwks[0] && told.answers);
    assert_string_equal(told.jwks, "{\"keys\":[7]}");
    assert_string_equal(told.token, "early.1.spiffe://test.example/web");
    assert_int_equal(told.chain_end, (char)state_a->svids[0]->chain[state_a->svids[0]->chain_len - 1]);
    for (size_t i = 0; i < client->rx.cap; i++)
        assert_int_equal(client->rx.p[i], 0); /* the key that passed here is gone */
    unsigned before = told.states;
    push(state_b);
    UNTIL(told.states > before);
    assert_int_equal(told.chain_end, (char)state_b->svids[0]->chain[state_b->svids[0]->chain_len - 1]);
    refuse_jwt = true;
    assert_int_equal(ask("later"), 0);
    UNTIL(told.answers == 2);
    assert_int_equal(told.answer, WL_PERMISSION_DENIED);
    assert_string_equal(told.answer_rule, "workload-status");
    assert_int_equal(told.troubles, 0);
}

static void test_server_gone_and_back(void **state)
{
    start(false);
    assert_int_equal(ask("x"), 0);
    UNTIL(told.troubles >= 2 && told.answers == 1);
    assert_string_equal(told.rule, "workload-connect");
    assert_int_equal(told.answer, WL_UNAVAILABLE);
    serve();
    current = state_a;
    UNTIL(told.states == 1);
    unsigned before = told.troubles;
    wl_server_free(server);
    server = NULL;
    UNTIL(told.troubles > before);
    assert_int_equal(told.status, WL_UNAVAILABLE);
    serve();
    UNTIL(told.states == 2);
    assert_int_equal(told.svids, 1);
}

static void test_refused(void **state)
{
    serve();
    current = nobody;
    start(false);
    UNTIL(told.troubles >= 2);
    assert_int_equal(told.status, WL_PERMISSION_DENIED);
    push(state_a);
    UNTIL(told.states == 1);
}

#define CLOCKS_MS 100 /* libevent's conversion between two clocks */
/* How long it waits now. */
static int64_t wait_ms(void)
{
    struct timeval at, now;
    assert_true(event_pending(&client->retry, EV_TIMEOUT, &at));
    evutil_gettimeofday(&now, NULL);
    return (at.tv_sec - now.tv_sec) * 1000 + (at.tv_usec - now.tv_usec) / 1000;
}
/* Asked once more, as if it had failed so often before. */
static void after(unsigned failures, unsigned refusals)
{
    unsigned before = told.troubles;
    client->failures = failures;
    client->refusals = refusals;
    event_active(&client->retry, EV_TIMEOUT, 1);
    UNTIL(told.troubles > before);
}

/* However long the agent was away, it is asked again soon; who was refused has more patience, but not at first. */
static void test_pace(void **state)
{
    start(false); /* nobody there */
    UNTIL(told.troubles > 0);
    for (int i = 0; i < 50; i++) {
        after(16, 0);
        assert_true(wait_ms() <= CLIENT_BACKOFF_MAX_MS + CLOCKS_MS);
    }
    serve();
    current = nobody;
    after(16, 0);
    assert_int_equal(told.status, WL_PERMISSION_DENIED);
    assert_true(wait_ms() <= CLIENT_BACKOFF_MIN_MS + CLOCKS_MS);
    assert_int_equal(client->refusals, 1);
    after(0, 16);
    assert_true(wait_ms() > CLIENT_BACKOFF_MAX_MS && wait_ms() <= CLIENT_REFUSED_MAX_MS + CLOCKS_MS);
    wl_server_free(server);
    server = NULL;
    after(0, 16);
    assert_int_equal(told.status, WL_UNAVAILABLE);
    assert_true(wait_ms() <= CLIENT_BACKOFF_MIN_MS + CLOCKS_MS);
}

static void test_free_inside(void **state)
{
    serve();
    current = state_a;
    start(true);
    told.then = FREE_IN_STATE;
    UNTIL(!client);
    start(false);
    told.then = FREE_IN_ANSWER;
    ask("x");
    ask("y");
    UNTIL(!client);
    assert_int_equal(told.answers, 1);
    start(false);
    told.then = ASK_IN_STATE;
    UNTIL(told.answers == 1);
    assert_string_equal(told.token, "inside.1.spiffe://test.example/web");
    wl_client_free(client);
    wl_server_free(server);
    server = NULL;
    start(false);
    told.then = FREE_IN_TROUBLE;
    UNTIL(!client);
    start(false);
    wl_client_free(client); /* before anything */
    client = NULL;
}

static void test_limits(void **state)
{
    struct err e;
    static const char *const many[LIMIT_AUDIENCES + 1];
    start(false);
    assert_int_equal(wl_client_jwt(client, many, 0, "", on_answer, NULL, &e), -1);
    assert_int_equal(wl_client_jwt(client, many, LIMIT_AUDIENCES + 1, "", on_answer, NULL, &e), -1);
    for (int i = 0; i < LIMIT_JWTS; i++)
        assert_int_equal(ask("x"), 0);
    assert_int_equal(ask("x"), -1);
    UNTIL(told.answers == LIMIT_JWTS);
    assert_int_equal(ask("x"), 0);
    static const char *const bad[] = {"", "agent.sock", "unix:agent.sock", "unix://", "tcp://127.0.0.1:1"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_null(wl_client_new(base, bad[i], false, &ops, &e));
        assert_string_equal(e.rule, "endpoint");
    }
}

/* --- servers that lie ------------------------------------------------------------------------------- */
#define SETTINGS_ "\0\0\0\4\0\0\0\0\0"
#define HEADERS_ "\0\0\x20\1\4\0\0\0\1\x88\x10\x0c" "content-type" "\x10" "application/grpc"
#define LIE(s, rule) {s, sizeof(s) - 1, rule}
static const struct {
    const char *p;
    size_t n;
    const char *rule;
} lies[] = {
    LIE("HTTP/1.1 400 Bad Request\r\n\r\n", "workload-http"),
    LIE("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "workload-http"),
    LIE(SETTINGS_ "\0\0\1\1\5\0\0\0\1\x88",
        "workload-status"),                                      /* 200, and the end */
    LIE(SETTINGS_ "\0\0\1\1\4\0\0\0\1\x8d" "\0\0\1\0\1\0\0\0\1x", "workload-answer"),                /* 404 */
    LIE(SETTINGS_ "\0\0\1\1\4\0\0\0\1\x88" "\0\0\5\0\0\0\0\0\1\0\0\0\0\0",
        "workload-answer"),       /* no gRPC */
    LIE(SETTINGS_ HEADERS_ "\0\0\5\0\0\0\0\0\1\0\0\0\0\0",
        "workload-answer"),                       /* an empty message */
    LIE(SETTINGS_ HEADERS_ "\0\0\5\0\0\0\0\0\1\0\xff\xff\xff\xff",
        "workload-answer"),               /* a huge one */
    LIE(SETTINGS_ HEADERS_ "\0\0\6\0\0\0\0\0\1\1\0\0\0\1x",
        "workload-answer"),                      /* compressed */
    LIE(SETTINGS_ HEADERS_ "\0\0\7\0\0\0\0\0\1\0\0\0\0\2\x0a\0",
        "workload-answer"),                 /* an SVID of nothing */
    LIE(SETTINGS_ HEADERS_ "\0\0\7\0\0\0\0\0\1\0\0\0\0\2\xff\xff",
        "workload-answer"),               /* garbage */
    LIE(SETTINGS_ HEADERS_ "\0\0\3\0\1\0\0\0\1\0\0\0",
        "workload-status"),                           /* half a prefix, and the end */
    LIE(SETTINGS_ "\0\0\4\3\0\0\0\0\1\0\0\0\7",
        "workload-status"),                                  /* RST_STREAM */
    LIE(SETTINGS_ "\0\0\x08\7\0\0\0\0\0\0\0\0\0\0\0\0\0",
        "workload-status"),                        /* GOAWAY */
};
static int lie_fd = -1;
static size_t lie;
static unsigned lied;

static void on_liar(evutil_socket_t fd, short what, void *arg)
{
    int c = accept((int)fd, NULL, NULL);
    if (c < 0)
        return;
    lied++;
    assert_int_equal(send(c, lies[lie].p, lies[lie].n, MSG_NOSIGNAL), lies[lie].n);
    if (lie_fd >= 0)
        close(lie_fd);
    lie_fd = c; /* kept open: the client has to leave by itself */
}

static void test_liars(void **state)
{
    struct err e;
    int fd = wl_socket_listen(path, 0600, &e);
    struct event *ev = event_new(base, fd, EV_READ | EV_PERSIST, on_liar, NULL);
    event_add(ev, NULL);
    for (lie = 0; lie < sizeof lies / sizeof *lies; lie++) {
        lied = 0;
        start(false);
        UNTIL(told.troubles > 0);
        assert_true(lied > 0);
        assert_int_equal(told.states, 0);
        assert_string_equal(told.rule, lies[lie].rule);
        wl_client_free(client);
        client = NULL;
    }
    event_free(ev);
    close(fd);
    close(lie_fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_states, end),      cmocka_unit_test_teardown(test_server_gone_and_back,
                                                                                    end),
        cmocka_unit_test_teardown(test_refused, end),     cmocka_unit_test_teardown(test_free_inside, end),
        cmocka_unit_test_teardown(test_pace, end),
        cmocka_unit_test_teardown(test_limits, end),      cmocka_unit_test_teardown(test_liars, end),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
